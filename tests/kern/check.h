/* check.h - what the kernel checks share: random inputs, buffers with guard bytes, verdicts as TAP. */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdint.h>
#include "kernels/mm_kern.h"

extern const char *level; /* being checked */
extern int bench;         /* --bench */

/* kind: 0 uniform in [-1, 1], 1 lognormal with signs, 2 large with alternating signs, 3 small and denormal */
void fill(float *x, size_t n, int kind);
float uniform(void); /* [-1, 1) */
uint64_t rnd(void);

/* n bytes at `off` bytes from 64-byte alignment, with guard bytes around them and an unreadable page within 64 bytes of the
 * end; guard_ok tells whether they are intact, guard_free frees. */
void *guarded(size_t n, size_t off);
int guard_ok(const void *p);
void guard_free(void *p);

/* One line of TAP for everything reported between begin() and end(). */
void begin(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void end(void);

/* Median time of f(arg) in nanoseconds; printed by report() as one JSON line. */
double timed(void (*f)(void *), void *arg);
void report(const char *op, const char *dtype, const char *shape, double ns, double bytes, double flop);

void case_vec(const mm_kern *k, const mm_kern *ref);
void case_gemm(const mm_kern *k, const mm_kern *ref);
void case_attn(const mm_kern *k, const mm_kern *ref);
void case_scan(const mm_kern *k, const mm_kern *ref);
void case_grad(const mm_kern *k, const mm_kern *ref);

#endif

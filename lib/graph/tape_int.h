/* tape_int.h - inside lib/graph: how an operation records itself. */
#ifndef MM_TAPE_INT_H
#define MM_TAPE_INT_H

#include "graph/mm_tape.h"

struct mm_var {
    float *d; /* NULL: nothing has flowed yet */
    size_t n;
    int kept; /* d is not the pool's: a parameter's grad */
    int makers; /* operations that gave it its value and have not been gone back through */
    int changed; /* in place, after it was made */
};

/* One recorded operation; an operation's own struct begins with it. */
typedef struct mm_node {
    void (*back)(mm_graph *g, struct mm_node *n); /* out's gradient is there; adds to those of the inputs */
    void (*again)(mm_graph *g, struct mm_node *n); /* computes out once more, from the inputs: a segment need not keep it; or NULL */
    struct mm_node *prev;
    mm_tensor out;
    struct mm_segment *segment; /* it is in, or NULL */
} mm_node;

/* Memory for a result: what the caller offered, if it fits and nothing is recorded, or new. */
static inline mm_tensor mm_op_result(mm_graph *g, const mm_tensor *into, size_t rows, size_t cols)
{
    if (into && into->p && into->rows == rows && into->cols == cols && !g->failed && !g->tape) return *into;
    return mm_op_new(g, rows, cols);
}

/* Is there anything to record? */
#define MM_WANTS(g, cond) ((g)->tape && (cond))
static inline int mm_param_wants(const mm_param *p) { return p && p->grad; }

/* Make out a recorded tensor (its var) and append a node of `size` bytes, zeroed but for its head; NULL: out of memory, g has failed. */
void *mm_tape_add(mm_graph *g, mm_tensor *out, size_t size, void (*back)(mm_graph *, mm_node *));
/* The same for an operation that changes its input: out keeps its var. */
void *mm_tape_add_inplace(mm_graph *g, mm_tensor out, size_t size, void (*back)(mm_graph *, mm_node *));
/* The gradient of x to be added to; *fresh: it is uninitialised, to be written. NULL: x wants none, or out of memory. */
float *mm_tape_into(mm_graph *g, mm_tensor x, int *fresh);
/* x's gradient += d; where it is the first and `own` is the var that d belongs to, the buffer is handed over instead of copied (d
 * must not be used afterwards). */
void mm_tape_give(mm_graph *g, mm_tensor x, const float *d, mm_var *own);
/* Scratch of the pool, of n floats; to be given back in any order. */
float *mm_tape_scratch(mm_graph *g, size_t n);
void mm_tape_unscratch(mm_graph *g, float *p);
/* A new tensor is noted, for its segment. */
void mm_tape_note(mm_graph *g, mm_tensor x);
/* Space that lives until the tape is reset. */
void *mm_tape_alloc(mm_graph *g, size_t n, size_t size);

/* The threads that work of so many float operations deserves. */
static inline int mm_threads_for(const mm_graph *g, double work) { return work < 65536 ? 1 : g->threads; }
/* What elementwise loops give to a thread at a time: it stays in the first cache, results and two inputs together. */
enum { MM_CHUNK = 2048 };
/* to[n] = w d, added to what is there where not `fresh`. */
void mm_put(const mm_graph *g, float *to, int fresh, float w, const float *d, size_t n);

/* Sums over rows are taken over blocks of so many rows, and then over the blocks: their order does not depend on the threads. */
enum { MM_BLOCK = 64 };
static inline size_t mm_blocks(size_t rows) { return (rows + MM_BLOCK - 1) / MM_BLOCK; }
/* sum[cols] += rows of x; one thread. */
static inline void mm_add_rows(float *restrict sum, const float *restrict x, size_t rows, size_t cols, size_t ld)
{
    for (; rows >= 4; rows -= 4, x += 4 * ld) {
        const float *a = x, *b = a + ld, *c = b + ld, *d = c + ld;
#pragma omp simd
        for (size_t i = 0; i < cols; i++) sum[i] += (a[i] + b[i]) + (c[i] + d[i]);
    }
    for (; rows; rows--, x += ld) {
#pragma omp simd
        for (size_t i = 0; i < cols; i++) sum[i] += x[i];
    }
}

#endif

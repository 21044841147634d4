/* scan_int.h - what one instruction set provides for scans: scores of a block of rows for some queries. */
#ifndef MM_SCAN_INT_H
#define MM_SCAN_INT_H

#include "kernels/mm_scan.h"

/* out[i * ldo + r] = score of query i and row r; n rows from `rows`. Queries are prepared by scan.c:
 * f32, f16: float32 [nq][dq], dq = d padded with zeros to a multiple of 16;
 * i8: int8 [nq][dq] in -127 .. 127, dq = d padded with zeros to a multiple of 64; out is the integer sum as float (the
 *     caller scales);
 * b1: [nq][dq] bytes, dq = row bytes; out is the number of differing bits as float. */
typedef void mmk_score_fn(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q,
                          size_t dq, size_t nq);

typedef struct mmk_scan_ops {
    mmk_score_fn *score[4]; /* by mmk_scan_type */
    /* indices i < n with s[i] >= least, in order, to idx; returns how many */
    size_t (*above)(uint32_t *idx, const float *s, size_t n, float least);
} mmk_scan_ops;

extern const mmk_scan_ops mmk_scan_ref, mmk_scan_avx2, mmk_scan_avx512, mmk_scan_vnni, mmk_scan_neon;

/* shared with the level above */
mmk_score_fn mmk_score_i8_avx2;
mmk_score_fn mmk_score_f32_avx512, mmk_score_f16_avx512, mmk_score_b1_avx512;
mmk_score_fn mmk_score_f32_neon, mmk_score_f16_neon, mmk_score_b1_neon;
size_t mmk_above_neon(uint32_t *idx, const float *s, size_t n, float least);
size_t mmk_above_avx512(uint32_t *idx, const float *s, size_t n, float least);

#endif

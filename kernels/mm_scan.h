/* mm_scan.h - exact search: the k best of n stored vectors for each query, by inner product.
 *
 *   mmk_scan_in in = { .type = MMK_SCAN_F32, .rows = x, .stride = 4 * d, .n = n, .d = d };
 *   mmk_scan(kern, &in, q, nq, k, threads, scores, ids, counts);
 *
 * Scores are float32. The score of a (row, query) pair has the same bits whatever n, nq, k, its place and the number of
 * threads; equal scores are ordered by row, lower first; a NaN score is never a hit. Error bound of a float32 score:
 * d * eps * sum |x q|; i8: exact integers times two scales, for d <= 65536 (int32 sums). */
#ifndef MM_SCAN_H
#define MM_SCAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mm_kern;

typedef enum mmk_scan_type {
    MMK_SCAN_F32, /* float32 [d] */
    MMK_SCAN_F16, /* binary16 [d] */
    MMK_SCAN_I8,  /* int8 [d], scaled by scales[row]; queries are rounded to int8 likewise */
    MMK_SCAN_B1   /* d bits (sign: 1 is >= 0), packed 8 a byte, low bit first; score = 1 - 2 * differing / d */
} mmk_scan_type;

typedef struct mmk_scan_in {
    mmk_scan_type type;
    const void *rows;      /* at any alignment */
    size_t stride;         /* bytes from row to row; at least mmk_scan_row_bytes() */
    size_t n, d;
    const float *scales;   /* [n], MMK_SCAN_I8 only */
    const uint64_t *skip;  /* bitmap of rows to leave out, or NULL; bit i of word i / 64 */
    uint64_t first;        /* added to row numbers in the result */
} mmk_scan_in;

/* Bytes of a row: 4d, 2d, d, ceil(d / 8). */
size_t mmk_scan_row_bytes(mmk_scan_type type, size_t d);

/* Results of one query: best first. Several scans (of segments) can be gathered into one: start with count 0. */
typedef struct mmk_hits {
    float *score;  /* [k] */
    uint64_t *id;  /* [k] */
    size_t count, k;
} mmk_hits;

/* Scan for nq queries q [nq, d] (float32), adding to hits[0..nq). Returns 0, or -1 without memory (hits are then undefined). */
int mmk_scan(const struct mm_kern *kern, const mmk_scan_in *in, const float *q, size_t nq, int threads, mmk_hits *hits);
/* Put hits in order (best first); call once after the last scan. */
void mmk_hits_sort(mmk_hits *h);
/* Offer one more hit, for callers that score by other means (rescoring). */
void mmk_hits_push(mmk_hits *h, float score, uint64_t id);

#ifdef __cplusplus
}
#endif
#endif

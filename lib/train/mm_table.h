/* mm_table.h - a table of tokens in closed form: the rows of which a text's bag is, by least squares, its target vector.
 *
 * Of all tables W [vocab, d] the one that makes
 *     sum over texts i of w_i | b_i W - y_i |^2  +  lambda |W|^2       smallest,
 * where b_i counts the tokens of text i and is divided by their number n_i (MM_TABLE_MEAN: b_i W is the mean of the rows) or by its
 * square root (MM_TABLE_SQRT: rows of long texts then weigh as much as those of short ones do, and the direction of b_i W is the same).
 * The normal equations are solved by conjugate gradients, each column of W for itself, from zero: so a table stopped early is the smoother
 * one, the leading columns are the same whether others are solved or not, and no gradient training is needed.
 *
 *   mm_table_in in = { ids, off, n, weight, which, target, vocab, d };
 *   mm_table_opts o = MM_TABLE_OPTS_INIT;
 *   mm_table_solve(table, &in, &o, &err);
 */
#ifndef MM_TABLE_H
#define MM_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "train/mm_progress.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_table_in { /* borrowed */
    const int32_t *ids;      /* tokens of text i: ids[off[i] .. off[i + 1]); a text without any is passed over */
    const size_t *off;       /* [n + 1] */
    size_t n;
    const float *weight;     /* [n], >= 0; NULL: 1 each. Their mean is brought to 1, which is what lambda is set against */
    const uint32_t *which;   /* [n]: text i's target is row which[i]; NULL: row i */
    const float *target;     /* [targets, d] */
    size_t targets, vocab, d;
} mm_table_in;

typedef enum mm_table_rows { MM_TABLE_SQRT, MM_TABLE_MEAN } mm_table_rows;

typedef struct mm_table_opts {
    mm_table_rows rows;
    float lambda;     /* > 0 */
    int iterations;   /* at most; a column that is solved to 1e-6 of its right side stops before */
    int threads;      /* 0: as many as OpenMP would use. The table has the same bits whatever their number */
    int precondition; /* 1: by the diagonal, so that rare tokens come as fast as frequent ones: half the iterations do */
    mm_train_progress *progress;
    void *arg;
    double *residual; /* out, may be NULL: |rest| / |right side| of the normal equations, all columns together */
} mm_table_opts;
#define MM_TABLE_OPTS_INIT { MM_TABLE_SQRT, 1, 25, 0, 1, NULL, NULL, NULL }

/* table [vocab, d]. A token of no text has a row of zeros. Returns 0, MM_ENOMEM, MM_ESHAPE (an id, target or size out of range), MM_EARG
 * (lambda, weights), or what progress returned. Memory: 4 vocab x 64 floats a thread, and 4 bytes a token. */
MM_API MM_MUST_CHECK int mm_table_solve(float *table, const mm_table_in *in, const mm_table_opts *opts, mm_err *err);

/* out [n, dim] = the bags' directions: sums of the first `dim` columns of the rows of each text's tokens, scaled to length 1. A text without
 * tokens has zeros. ids must be below vocab, dim at most d. */
MM_API void mm_table_bags(const float *table, size_t d, const int32_t *ids, const size_t *off, size_t n, size_t dim, float *out);

#ifdef __cplusplus
}
#endif
#endif

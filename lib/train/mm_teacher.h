/* mm_teacher.h - the vectors that a model is trained towards: those of another embedder, kept on disk, and the turn of the space that
 * makes their leading coordinates say most.
 *
 *   mm_teacher *t;
 *   mm_teacher_open(&t, model, "minilm.cache", &err);        model stays the caller's, and open as long as t
 *   mm_teacher_embed(t, texts, n, vec, NULL, NULL, &err);     vec [n, dim]
 *   mm_teacher_close(&t);
 *
 *   mm_pca p = {0};
 *   mm_pca_fit(&p, vec, n, dim, 0, &err);
 *   mm_pca_center(&p, labels, n_labels, &err);                vectors of label-like texts share a large part: it is taken off
 *   mm_pca_apply(&p, vec, n, out, dim);                       rotated, centred, length 1; out may be vec
 *   mm_pca_clear(&p);
 *
 * The cache is one file per model: a header with the model's fingerprint, then records of one size {two hashes of the text, the
 * vector as binary16, CRC-32C}, appended a batch at a time under a lock, so that several processes may fill one cache. Whatever kills a
 * writer leaves whole records and at most a torn one at the end, which the next one cuts off. A vector has passed through binary16
 * whether it comes from the file or was made just now: a run that finds everything in the cache has the same bits as the run that
 * filled it. */
#ifndef MM_TEACHER_H
#define MM_TEACHER_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "model/mm_model.h"
#include "train/mm_progress.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_teacher mm_teacher;

/* path NULL: no cache. A file that is not there is made. MM_EMODEL: the file holds another model's vectors; MM_EDATA: it is no such
 * file, and is left as it is. One thread at a time uses a teacher. */
MM_API MM_MUST_CHECK int mm_teacher_open(mm_teacher **out, mm_model *m, const char *path, mm_err *err);
MM_API void mm_teacher_close(mm_teacher **t);
MM_API size_t mm_teacher_dim(const mm_teacher *t);
MM_API size_t mm_teacher_cached(const mm_teacher *t); /* vectors in the cache */

/* vec [n, dim]: texts that are not in the cache are embedded and, in batches, added to it. A text without tokens has a zero
 * vector. On failure and when it was stopped, what was finished is in the cache. */
MM_API MM_MUST_CHECK int mm_teacher_embed(mm_teacher *t, const mm_text_in *in, size_t n, float *vec, mm_train_progress *progress, void *arg,
                                          mm_err *err);

/* ---- the space ---- */

typedef struct mm_pca {
    size_t dim;
    float *rot;  /* [dim, dim]: row k is the k-th axis, in the order of what it carries, largest first. owned */
    float *var;  /* [dim]: share of the sum of squares that each carries; they add up to 1. owned */
    float *mean; /* [dim], in rotated coordinates; zeros before mm_pca_center. owned */
} mm_pca;

/* Axes of the second moment (about zero) of rows x [n, dim], dim <= 4096, n > 0, in float64. The sign of an axis: its largest coordinate is
 * positive. The result does not depend on the number of threads (0: as many as OpenMP would use). */
MM_API MM_MUST_CHECK int mm_pca_fit(mm_pca *p, const float *x, size_t n, size_t dim, int threads, mm_err *err);
/* mean = the mean of the rotated rows x [n, dim], scaled to length 1 each; n 0: none is taken off. */
MM_API MM_MUST_CHECK int mm_pca_center(mm_pca *p, const float *x, size_t n, mm_err *err);
/* Rows x [n, dim] -> y [n, out], out <= dim: rotated, to length 1, mean taken off, to length 1 again, and then cut. A row of zeros
 * stays one. y may be x. */
MM_API MM_MUST_CHECK int mm_pca_apply(const mm_pca *p, const float *x, size_t n, float *y, size_t out, mm_err *err);
MM_API void mm_pca_clear(mm_pca *p);

/* Eigenvalues w [n] in rising order and eigenvectors as rows v [n, n] of the symmetric a [n, n] (its lower triangle is read; it is
 * destroyed). By Householder's tridiagonal form and implicit QL. MM_EDATA: no convergence, or a is not finite. v may be a. */
MM_API MM_MUST_CHECK int mm_eigen_symmetric(double *a, size_t n, double *w, double *v, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* mm_eval.h - measuring: how well vectors find each other, how well they agree with scores, and how sure one can be of it.
 *
 *   mm_eval_set q = { .vec = qv, .n = nq, .dim = d, .key = qk, .off = qo }, g = { .vec = gv, .n = ng, .dim = d, .key = gk, .off = go };
 *   mm_eval_metric m[] = { { MM_EVAL_RECALL, 1 }, { MM_EVAL_RECALL, 10 }, { MM_EVAL_MRR, 0 } };
 *   mm_eval_retrieve(&q, &g, m, 3, threads, value, chance, &err);          // value [3, nq]
 *   mm_eval_mean(value + nq, nq, &(mm_eval_boot){ 0 }, &r10, &err);        // r10.value, .low, .high, .n
 *
 * Relevance is by key: an item of the gallery is relevant to a query when they have a key in common. Scores are cosines. Equal
 * scores are no luck: every value is its expectation over all orders of the items that score the same, so that a model that gives
 * every input one vector measures as chance and not as whatever order the items came in.
 * Intervals cover 95 %. Nothing here has state; all functions may be called from several threads at once. */
#ifndef MM_EVAL_H
#define MM_EVAL_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- keys: strings as numbers 0, 1, 2, .. in the order they first came ---- */
typedef struct mm_eval_keys mm_eval_keys;
MM_API mm_eval_keys *mm_eval_keys_new(void); /* NULL when out of memory */
MM_API void mm_eval_keys_free(mm_eval_keys *k);
/* The number of these bytes, which become known if they are new. 0 or MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_eval_keys_add(mm_eval_keys *k, const char *p, size_t len, uint32_t *id);
/* 1 and *id, or 0: not known. */
MM_API int mm_eval_keys_find(const mm_eval_keys *k, const char *p, size_t len, uint32_t *id);
MM_API size_t mm_eval_keys_count(const mm_eval_keys *k);

/* ---- retrieval ---- */
typedef struct mm_eval_set {
    const float *vec;     /* [n, dim], finite, of any length; a zero vector has cosine 0 with everything */
    size_t n, dim;
    const uint32_t *key;  /* keys of item i: key[off[i]] .. key[off[i + 1] - 1]; none: a distractor */
    const size_t *off;    /* [n + 1] */
    const uint32_t *self; /* [n] or NULL; an item of the gallery with the query's number is left out (a set against itself) */
} mm_eval_set;

enum {
    MM_EVAL_RECALL, /* 1 when one of the k nearest is relevant: hit rate, "R@k" of cross-modal retrieval; top-k accuracy of labels */
    MM_EVAL_MRR,    /* 1 / rank of the first relevant item; 0 if that is beyond k (k = 0: no limit) */
    MM_EVAL_NDCG    /* sum over relevant items of 1 / log2(1 + rank), rank <= k (k = 0: all), over its greatest possible value */
};
typedef struct mm_eval_metric {
    int kind;
    size_t k;
} mm_eval_metric;

/* Each metric for each query: value [nm, q->n], in 0..1, NaN for a query to which nothing in the gallery is relevant. chance [nm] (may
 * be NULL): the mean of the values that random order gives. Memory: a copy of both sets and 64 scores per item of the gallery.
 * MM_ESHAPE: dimensions differ; MM_EEMPTY: no query has a relevant item; MM_EARG: a metric that there is not; MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_eval_retrieve(const mm_eval_set *q, const mm_eval_set *g, const mm_eval_metric *m, size_t nm, int threads,
                                          double *value, double *chance, mm_err *err);
/* out[i] = cosine of rows i of a and b [n, dim], in double; 0 where one is zero. */
MM_API void mm_eval_cosines(const float *a, const float *b, size_t n, size_t dim, double *out);

/* ---- intervals ---- */
typedef struct mm_eval_interval {
    double value, low, high;
    size_t n;      /* observations that counted */
    size_t groups; /* independent ones: n without groups */
} mm_eval_interval;

/* The bootstrap: observations are drawn anew with replacement, low and high are the 2.5 and 97.5 % points of what that gives. */
typedef struct mm_eval_boot {    /* {0}: the defaults */
    size_t resamples;            /* 0: 1000 */
    uint64_t seed;               /* same seed, same intervals, on every machine */
    const uint32_t *group;       /* [n] or NULL; observations of one group (captions of one picture) are drawn together */
} mm_eval_boot;

/* Wilson's interval of a proportion p of n observations (n > 0, not necessarily whole): holds at 0 and 1 and for few observations. */
MM_API void mm_eval_wilson(double p, double n, double *low, double *high);
/* Mean of x [n] (NaN: not an observation). 0, MM_EEMPTY (no observations), MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_eval_mean(const double *x, size_t n, const mm_eval_boot *b, mm_eval_interval *out, mm_err *err);
/* Mean of x - y, the same observations measured twice (NaN in either: not one). As mm_eval_mean(). */
MM_API MM_MUST_CHECK int mm_eval_mean_diff(const double *x, const double *y, size_t n, const mm_eval_boot *b, mm_eval_interval *out,
                                           mm_err *err);

/* ---- agreement ---- */
enum { MM_EVAL_PEARSON, MM_EVAL_SPEARMAN /* of ranks; equal values share the mean of theirs */ };

/* Correlation of x and y [n]. 0, MM_EEMPTY (fewer than two pairs, or all values equal: there is none), MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_eval_corr(int kind, const double *x, const double *y, size_t n, const mm_eval_boot *b, mm_eval_interval *out,
                                      mm_err *err);
/* corr(x, y) - corr(other, y) over the same pairs. As mm_eval_corr(). */
MM_API MM_MUST_CHECK int mm_eval_corr_diff(int kind, const double *x, const double *other, const double *y, size_t n, const mm_eval_boot *b,
                                           mm_eval_interval *out, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

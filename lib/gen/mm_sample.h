/* mm_sample.h - which token comes next: from a row of logits to an id, with the options people know.
 *
 *   mm_sampler s = {0};
 *   mm_sample_opts o = { .temperature = 0.8, .top_k = 40, .top_p = 0.95 };
 *   mm_rng rng = mm_rng_at(seed, 0, record, 0);
 *   mm_sample(&s, &o, logits, vocab, past, n_past, NULL, &rng, &id, &err);
 *   mm_sampler_clear(&s);
 *
 * The order of the steps: what the grammar forbids goes; penalties on what was said before; then the best K, of these the most likely whose
 * probabilities reach top_p, of these those of at least min_p times the best; temperature last. Probabilities are computed with the
 * four basic operations of IEEE doubles only, so that equal logits and seeds give equal ids on every machine. */
#ifndef MM_SAMPLE_H
#define MM_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_rng.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_sample_opts { /* {0}: greedy, no penalties */
    double temperature;       /* 0: the best token; ties: the smaller id */
    int top_k;                /* 0: all */
    double top_p;             /* 0 or 1: all */
    double min_p;             /* 0: all */
    double repeat_penalty;    /* 0 or 1: none; a logit above 0 is divided by it, one below multiplied */
    double frequency_penalty; /* subtracted once for each time a token was said */
    double presence_penalty;  /* subtracted once when it was said at all */
    int last_n;               /* how far back the penalties look; 0: 64, -1: all */
} mm_sample_opts;

typedef struct mm_candidate {
    float logit;
    int32_t id;
} mm_candidate;

typedef struct mm_sampler { /* scratch memory; {0} is valid */
    mm_candidate *c;
    double *w;
    float *row;     /* logits after mask and penalties */
    uint64_t *seen; /* ids that were said */
    size_t cap;
} mm_sampler;

/* logits [n]; past [n_past]: the tokens so far, prompt included; allow: bit i of n says whether id i may come, NULL: all. *id is the choice.
 * rng moves on only when there is something to draw. MM_EDATA when a logit is NaN or nothing is allowed, MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_sample(mm_sampler *s, const mm_sample_opts *o, const float *logits, size_t n, const int32_t *past, size_t n_past,
                                   const uint64_t *allow, mm_rng *rng, int32_t *id, mm_err *err);
/* The same without the draw: s->c[0..*m) are the ids that may be drawn, s->w their weights, which add up to *total. Without temperature: the best
 * alone. Valid until the sampler's next use. */
MM_API MM_MUST_CHECK int mm_sample_weigh(mm_sampler *s, const mm_sample_opts *o, const float *logits, size_t n, const int32_t *past, size_t n_past,
                                         const uint64_t *allow, size_t *m, double *total, mm_err *err);
/* One of m weights, drawn: its number. */
MM_API size_t mm_sample_draw(const double *w, size_t m, double total, mm_rng *rng);
MM_API void mm_sampler_clear(mm_sampler *s);

/* log(sum(exp(logits))): the log-probability of id is logits[id] - this. */
MM_API double mm_log_total(const float *logits, size_t n);
/* The k best of n logits, best first, ties by id: fills out[0..min(k, n)) and returns how many. */
MM_API size_t mm_top(const float *logits, size_t n, mm_candidate *out, size_t k);

#ifdef __cplusplus
}
#endif
#endif

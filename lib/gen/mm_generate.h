/* mm_generate.h - many prompts at once: sequences of any length share the steps of one decoder, and a place that falls free is given to the
 * next prompt at once.
 *
 *   mm_gen *g;
 *   mm_gen_new(&g, lm, NULL, &err);
 *   mm_gen_job job = { .ids = ids, .n_ids = n, .max_tokens = 100 };
 *   mm_gen_add(g, &job);
 *   while ((r = mm_gen_step(g, &err)) > 0) ;
 *   ... job.said.text, job.finish ...
 *   mm_gen_job_clear(&job);
 *   mm_gen_free(&g);
 *
 * The answer to a prompt does not depend on the others: what a decoder computes does not (mm_lm.h), and each job draws from a seed of its own.
 * The beginning that a prompt has in common with one whose keys and values are still there is copied instead of computed; of prompts that
 * begin alike and come together one goes first.
 *
 * With beams a job takes N places. Of all tokens that could follow N texts those stay that give the likeliest N texts; a text that ends is scored:
 * the sum of the model's log-probabilities, the end token's included, divided by the number of tokens to the power of length_penalty. The search
 * is over when N have ended and none that goes on has a better score than the worst of them, or where max_tokens or the context ends it.
 * sample and seed do not count. One text at a time is the likeliest token each time.
 *
 * With a draft, a smaller decoder of the same vocabulary guesses tokens, and the decoder judges several of them in one step. Where the likeliest
 * token is taken answers are the same as without, where tokens are drawn they have the same probabilities but are others: they
 * depend on job, seed and draft alone. Jobs with beams or pictures go without. One thread at a time uses a mm_gen. */
#ifndef MM_GENERATE_H
#define MM_GENERATE_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "gen/mm_grammar.h"
#include "gen/mm_said.h"
#include "gen/mm_sample.h"
#include "model/mm_lm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_gen mm_gen;

#define MM_GEN_GUESSES 32
typedef struct mm_gen_opts { /* {0}: the defaults */
    size_t slots;   /* sequences in one step; 0: 8. A job with beams takes as many */
    size_t context; /* most tokens of one of them, prompt and answer; 0: the decoder's */
    size_t chunk;   /* tokens of prompts in one step; 0: 512 */
    mm_lm *draft;   /* a smaller decoder that guesses tokens (see below); NULL: none */
    size_t guesses; /* most of them at a time, up to MM_GEN_GUESSES; 0: 8 */
} mm_gen_opts;

typedef enum { MM_FINISH_NONE, MM_FINISH_STOP, MM_FINISH_LENGTH, MM_FINISH_ERROR } mm_finish;
/* What to do when prompt and max_tokens are more than the context: fail with MM_ELONG; leave out the prompt's beginning (but for its first
 * token, if that is the bos token); begin all the same and end where the context does. */
typedef enum { MM_OVERFLOW_ERROR, MM_OVERFLOW_CUT_LEFT, MM_OVERFLOW_STOP } mm_overflow;

typedef struct mm_logprob { /* of one token of the answer */
    int32_t id;
    float logprob;
} mm_logprob;

typedef struct mm_gen_job {
    /* in; borrowed until it is done */
    const int32_t *ids; /* the prompt, at least one */
    size_t n_ids;
    const float *embd;  /* rows for those ids that are `mark`, in their order (mm_lm_part); NULL: none */
    int32_t mark;
    size_t max_tokens;  /* of the answer; 0: as many as fit the context */
    mm_sample_opts sample;
    uint64_t seed;
    const mm_slice *stops;
    size_t n_stops;
    mm_grammar *grammar; /* what the answer must be; NULL: anything */
    mm_overflow overflow;
    int logprobs;        /* 0: none; 1: of the tokens chosen; k > 1: and of the k - 1 best at each place */
    size_t beams;        /* 0: one token after the other; N: look for the likeliest text among N at a time (see below) */
    size_t answers;      /* with beams: this job and the answers - 1 behind it in memory get the best ones, best first; 0: 1 */
    double length_penalty;
    int ignore_end;      /* go on behind the end of a text */
    void (*on_text)(void *arg, const char *text, size_t len); /* called with what can be shown so far; may be NULL */
    void *arg;
    /* out */
    int done, code;      /* code: of its failure, with err */
    mm_err err;
    mm_finish finish;
    mm_said said;        /* the text, without stop string */
    size_t used, tokens; /* of the prompt after cutting; of the answer, without the token that ended it */
    double score;        /* with beams */
    size_t proposed, accepted; /* guesses of the draft */
    size_t reused;       /* tokens of the prompt that needed no computing */
    mm_logprob *lp;      /* [tokens] with logprobs */
    mm_logprob *top;     /* [tokens, logprobs - 1], best first */
    size_t n_lp, cap_lp;
    struct mm_gen_job *next; /* the queue's */
} mm_gen_job;

/* The decoders must outlive it. MM_EARG: the draft has another vocabulary, or takes fewer tokens than the context. */
MM_API MM_MUST_CHECK int mm_gen_new(mm_gen **out, mm_lm *lm, const mm_gen_opts *opts, mm_err *err);
MM_API void mm_gen_free(mm_gen **g);
MM_API size_t mm_gen_context(const mm_gen *g);
/* Put a job at the end of the queue; it stays the caller's and must stay where it is until it is done. */
MM_API void mm_gen_add(mm_gen *g, mm_gen_job *job);
/* Jobs that are not done yet. */
MM_API size_t mm_gen_busy(const mm_gen *g);
/* One step of the decoder: 1, or 0 when there is nothing to do. What ends all jobs is returned; what ends one is in its code. */
MM_API MM_MUST_CHECK int mm_gen_step(mm_gen *g, mm_err *err);
/* Frees what came out of a job. */
MM_API void mm_gen_job_clear(mm_gen_job *job);

/* The seed of a record's choice: 53 bits, so that JSON keeps it. */
MM_API uint64_t mm_gen_seed(uint64_t seed, uint64_t record, uint64_t choice);
MM_API const char *mm_finish_name(mm_finish f); /* "stop", "length", "error" */

#ifdef __cplusplus
}
#endif
#endif

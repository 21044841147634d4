/* gen_int.h - inside the scheduler: places and what they hold. begin.c gives places to jobs, generate.c has the steps, beam.c the search among
 * several texts at a time, draft.c the guesses of a smaller decoder. */
#ifndef GEN_INT_H
#define GEN_INT_H

#include "base/mm_mem.h"
#include "gen/mm_generate.h"

struct search;
typedef struct slot {
    mm_gen_job *job;       /* NULL: free; ids are what the cache still holds */
    struct search *search; /* that it is a place of; NULL: none */
    int32_t *ids;          /* [context]: prompt and answer */
    int32_t *keys;         /* [context]: what makes two tokens the same: the id, or a hash of a picture's row */
    size_t n, filled;      /* tokens known; tokens in the cache */
    size_t prompt;
    uint64_t order;        /* of beginning */
    mm_rng rng;
    mm_cursor *cursor;
} slot;

/* Tokens that may come next at a place, and how a smaller decoder came to them */
typedef struct guess {
    int32_t id[MM_GEN_GUESSES];
    double q[MM_GEN_GUESSES];           /* the probability of each */
    const float *rows[MM_GEN_GUESSES];  /* logits that it was drawn from */
    size_t n, want, length;             /* of this step; how many there should be; and would be if the answer were endless */
    size_t row;
    int going;                          /* one more comes */
    mm_cursor *cursor;
} guess;

struct draft;
struct mm_gen {
    mm_lm *lm;
    struct draft *draft; /* NULL: none */
    const mm_tok *tok;
    mm_lm_cache *cache;
    slot *slots;
    mm_lm_part *parts;
    float *logits; /* [slots * (1 + guesses), vocab] */
    int32_t *keys; /* [context] of the job that wants to begin */
    size_t n, context, chunk, vocab;
    size_t busy;   /* jobs that are not done */
    uint64_t begun;
    mm_gen_job *first, *last; /* the queue */
    uint64_t *known;          /* ids that have a text; NULL: all */
    uint64_t *mask;           /* scratch */
    mm_sampler sampler;
    mm_candidate *best;
    size_t cap_best;
    int32_t *ends; /* ids that end a text */
    size_t n_ends;
    mm_buf piece;
};

static inline int gen_no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* generate.c */
/* One answer is done; or the job is, and what ends it with an error ends all its answers. */
void gen_finish_one(mm_gen *g, mm_gen_job *job, mm_finish how);
void gen_finish(mm_gen *g, mm_gen_job *job, mm_finish how);
void gen_leave(slot *s); /* the place is free; what the cache holds stays */
/* How many tokens an answer of so many, which the prompt makes n, may still have. */
size_t gen_tokens_left(const mm_gen *g, const mm_gen_job *job, size_t n, size_t tokens);
/* What may come: NULL is everything. The bits live until the next call. cursor NULL: no grammar. */
int gen_allowed(mm_gen *g, mm_cursor *cursor, size_t left, const uint64_t **allow, mm_err *err);
int gen_room_for_best(mm_gen *g, size_t k); /* in g->best: 0 or MM_ENOMEM */

/* begin.c */
void gen_begin_all(mm_gen *g);
size_t gen_common(const slot *s, size_t n, const int32_t *keys, size_t n_keys);

/* beam.c */
struct search *search_new(mm_gen *g, mm_gen_job *job, slot *first); /* takes job->beams places, first and others that are free; NULL: no memory */
void search_free(struct search *s); /* its places are no longer its own; NULL is fine */
/* The logits behind the last token of one of its places. */
void search_row(slot *of, const float *row);
/* If the logits of all its places are there, one token more for each text. */
void search_step(mm_gen *g, struct search *s);

/* draft.c */
int draft_new(struct draft **out, mm_gen *g, mm_lm *lm, size_t most, mm_err *err);
void draft_free(struct draft **d);
void draft_begin(struct draft *d, size_t to, size_t from, size_t len); /* place `to` begins with the first len tokens of `from`, as far as they are there */
void draft_trim(struct draft *d, size_t at, size_t len);
int draft_step(mm_gen *g, mm_err *err); /* guesses of all places */
const guess *draft_of(const struct draft *d, size_t at);
/* Draws the token at guess k: the guess, or what takes its place. row: the decoder's logits */
int draft_judge(mm_gen *g, slot *s, const float *row, const uint64_t *allow, size_t k, int32_t *id, mm_err *err);
void draft_done(struct draft *d, size_t at, size_t right, size_t filled); /* so many were right; the cache holds so many tokens that stay */

#endif

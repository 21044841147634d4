#include "gen/mm_generate.h"
#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"
#include "base/mm_str.h"

#define SLOTS 8
#define CHUNK 512
#define WORTH 8 /* tokens in common that are worth a copy, or the wait for one */

typedef struct slot {
    mm_gen_job *job;  /* NULL: free; ids are what the cache still holds */
    int32_t *ids;     /* [context]: prompt and answer */
    int32_t *keys;    /* [context]: what makes two tokens the same: the id, or a hash of a picture's row */
    size_t n, filled; /* tokens known; tokens in the cache */
    size_t prompt;
    uint64_t order;   /* of beginning */
    mm_rng rng;
    mm_cursor *cursor;
} slot;

struct mm_gen {
    mm_lm *lm;
    const mm_tok *tok;
    mm_lm_cache *cache;
    slot *slots;
    mm_lm_part *parts;
    float *logits; /* [slots, vocab] */
    int32_t *keys; /* [context] of the job that wants to begin */
    size_t n, context, chunk, vocab, busy;
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

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* What the vocabulary says of ids: which end a text; and that rows of logits which no token has are never chosen. */
static int look_at_vocabulary(mm_gen *g, mm_err *err)
{
    size_t missing = 0;
    for (size_t i = 0; i < g->vocab; i++) g->n_ends += mm_lm_is_end(g->lm, (int32_t)i) != 0;
    if (!(g->ends = mm_realloc(NULL, g->n_ends + 1, sizeof *g->ends))) return no_memory(err);
    for (size_t i = 0, n = 0; i < g->vocab; i++)
        if (mm_lm_is_end(g->lm, (int32_t)i)) g->ends[n++] = (int32_t)i;
    for (size_t i = 0; i < g->vocab; i++) missing += mm_tok_text(g->tok, (int32_t)i) == NULL;
    if (!(g->mask = calloc(g->vocab / 64 + 1, sizeof *g->mask))) return no_memory(err);
    if (!missing) return 0;
    if (!(g->known = calloc(g->vocab / 64 + 1, sizeof *g->known))) return no_memory(err);
    for (size_t i = 0; i < g->vocab; i++)
        if (mm_tok_text(g->tok, (int32_t)i)) g->known[i / 64] |= UINT64_C(1) << i % 64;
    return 0;
}

int mm_gen_new(mm_gen **out, mm_lm *lm, const mm_gen_opts *opts, mm_err *err)
{
    mm_gen *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return no_memory(err);
    g->lm = lm;
    g->tok = mm_lm_tokenizer(lm);
    g->vocab = mm_lm_vocab(lm);
    g->n = opts && opts->slots ? opts->slots : SLOTS;
    g->chunk = opts && opts->chunk ? opts->chunk : CHUNK;
    g->context = opts && opts->context ? opts->context : mm_lm_context(lm);
    int r = mm_lm_cache_new(&g->cache, lm, g->n, g->context, err);
    if (!r) {
        g->slots = calloc(g->n, sizeof *g->slots);
        g->parts = calloc(g->n, sizeof *g->parts);
        g->logits = mm_aligned(g->n * g->vocab, sizeof *g->logits);
        if (!g->slots || !g->parts || !g->logits) r = no_memory(err);
    }
    for (size_t i = 0; i < g->n && !r; i++)
        if (!(g->slots[i].ids = mm_realloc(NULL, 2 * g->context, sizeof *g->slots[i].ids))) r = no_memory(err);
        else g->slots[i].keys = g->slots[i].ids + g->context;
    if (!r && !(g->keys = mm_realloc(NULL, g->context, sizeof *g->keys))) r = no_memory(err);
    if (!r) r = look_at_vocabulary(g, err);
    if (r) mm_gen_free(&g);
    *out = g;
    return r;
}

void mm_gen_free(mm_gen **gp)
{
    mm_gen *g = *gp;
    if (!g) return;
    for (size_t i = 0; g->slots && i < g->n; i++) {
        mm_cursor_free(&g->slots[i].cursor);
        free(g->slots[i].ids);
    }
    mm_lm_cache_free(&g->cache);
    free(g->slots);
    free(g->parts);
    free(g->logits);
    free(g->keys);
    free(g->known);
    free(g->mask);
    free(g->best);
    free(g->ends);
    mm_sampler_clear(&g->sampler);
    mm_buf_clear(&g->piece);
    free(g);
    *gp = NULL;
}

size_t mm_gen_context(const mm_gen *g) { return g->context; }
size_t mm_gen_busy(const mm_gen *g) { return g->busy; }
size_t mm_gen_room(const mm_gen *g) { return g->busy < g->n ? g->n - g->busy : 0; }

void mm_gen_add(mm_gen *g, mm_gen_job *job)
{
    job->next = NULL;
    if (g->last) g->last->next = job;
    else g->first = job;
    g->last = job;
    g->busy++;
}

/* ---- the end of a job ---- */

static void finish(mm_gen *g, mm_gen_job *job, mm_finish how)
{
    const char *text;
    if (mm_said_end(&job->said)) {
        job->code = no_memory(&job->err);
        how = MM_FINISH_ERROR;
    }
    const size_t n = mm_said_ready(&job->said, &text);
    if (n && job->on_text) job->on_text(job->arg, text, n);
    job->finish = how;
    job->done = 1;
    g->busy--;
}

/* The slot keeps what its cache holds, for prompts that begin the same way. */
static void leave(mm_gen *g, slot *s, mm_finish how)
{
    finish(g, s->job, how);
    mm_cursor_free(&s->cursor);
    s->job = NULL;
    s->n = s->filled;
}

/* ---- the beginning of a job ---- */

/* Pictures have one id for all their tokens: it is their rows that are compared. Below 0, as no id is. */
static void make_keys(mm_gen *g, const mm_gen_job *job, const int32_t *ids, size_t n)
{
    const size_t width = mm_lm_width(g->lm);
    const float *row = job->embd;
    for (size_t i = 0; i < n; i++) {
        g->keys[i] = ids[i];
        if (!row || ids[i] != job->mark) continue;
        g->keys[i] = (int32_t)(mm_hash64(row, width * sizeof *row, 0) >> 33) - INT32_MAX - 1;
        row += width;
    }
}

static size_t common(const slot *s, size_t n, const int32_t *keys, size_t n_keys)
{
    size_t i = 0;
    while (i < n && i < n_keys && s->keys[i] == keys[i]) i++;
    return i;
}

/* The prompt as it will be used: 0, or its failure. */
static int fit(mm_gen *g, mm_gen_job *job, size_t *skip, int *keep_first)
{
    const size_t most = job->max_tokens ? job->max_tokens : 1;
    *skip = 0;
    *keep_first = 0;
    job->used = job->n_ids;
    if (!job->n_ids) return mm_fail(&job->err, MM_EEMPTY, "the prompt has no tokens");
    for (size_t i = 0; i < job->n_ids; i++)
        if (job->ids[i] < 0 || (size_t)job->ids[i] >= g->vocab)
            return mm_fail(&job->err, MM_ESHAPE, "token %d of the prompt is not in the model's vocabulary",
                           job->ids[i]);
    const size_t room = job->n_ids < g->context && g->context - job->n_ids < most ? g->context - job->n_ids : most;
    if (job->grammar && mm_grammar_least(job->grammar) > (job->max_tokens ? room : g->context))
        return mm_fail(&job->err, MM_ELONG,
                       "the shortest answer of this form may take %zu tokens, there is room for %zu",
                       mm_grammar_least(job->grammar), room);
    if (job->n_ids + most <= g->context || (job->overflow == MM_OVERFLOW_STOP && job->n_ids < g->context)) return 0;
    if (job->overflow == MM_OVERFLOW_CUT_LEFT && most < g->context && !job->embd) {
        *keep_first = job->ids[0] == mm_lm_bos(g->lm) && g->context - most > 1;
        job->used = g->context - most;
        *skip = job->n_ids - job->used;
        return 0;
    }
    if (job->max_tokens)
        return mm_fail(&job->err, MM_ELONG,
                       "a prompt of %zu tokens and up to %zu new ones are more than the context of %zu", job->n_ids,
                       job->max_tokens, g->context);
    return mm_fail(&job->err, MM_ELONG, "a prompt of %zu tokens is more than the context of %zu", job->n_ids, g->context);
}

/* The slot whose cache begins as ids do for the longest; *len of them. */
static size_t best_prefix(const mm_gen *g, const int32_t *keys, size_t n, size_t *len)
{
    size_t best = 0;
    *len = 0;
    for (size_t i = 0; i < g->n; i++) {
        const size_t c = common(&g->slots[i], g->slots[i].filled, keys, n);
        if (c > *len) *len = c, best = i;
    }
    return best;
}

/* A prompt that is being read begins as this one does, further than any that was read: it is worth the wait. */
static int wait_for_another(const mm_gen *g, const int32_t *keys, size_t n, size_t have)
{
    for (size_t i = 0; i < g->n; i++) {
        const slot *s = &g->slots[i];
        if (!s->job || s->filled >= s->prompt) continue;
        if (common(s, s->prompt, keys, n) >= have + WORTH) return 1;
    }
    return 0;
}

/* A free slot: the one with the prefix if it is free, else the one whose content is oldest. prefix SIZE_MAX: there is none. */
static slot *free_slot(mm_gen *g, size_t prefix)
{
    slot *s = NULL;
    if (prefix < g->n && !g->slots[prefix].job) return &g->slots[prefix];
    for (size_t i = 0; i < g->n; i++)
        if (!g->slots[i].job && (!s || g->slots[i].order < s->order)) s = &g->slots[i];
    return s;
}

static int begin(mm_gen *g, mm_gen_job *job)
{
    size_t skip, len;
    int first, r = fit(g, job, &skip, &first);
    if (r) {
        job->code = r;
        finish(g, job, MM_FINISH_ERROR);
        return 1;
    }
    const int32_t *ids = job->ids + skip;
    const size_t n = job->used;
    make_keys(g, job, ids, n);
    const size_t from = first && skip ? 0 : best_prefix(g, g->keys, n - 1, &len);
    if (first && skip) len = 0; /* the beginning is put together: not looked for */
    else if (wait_for_another(g, g->keys, n - 1, len)) return 0;
    if (len < WORTH) len = 0;
    slot *s = free_slot(g, len ? from : SIZE_MAX);
    if (!s) return 0;
    const size_t to = (size_t)(s - g->slots);
    if (len && to != from) mm_lm_copy(g->cache, to, from, len);
    else if (mm_lm_len(g->cache, to) > len) mm_lm_trim(g->cache, to, len);
    memcpy(s->ids, ids, n * sizeof *ids);
    memcpy(s->keys, g->keys, n * sizeof *g->keys);
    if (first && skip) s->ids[0] = s->keys[0] = job->ids[0];
    if (job->grammar && !(s->cursor = mm_cursor_new(job->grammar))) {
        job->code = no_memory(&job->err);
        s->n = s->filled = 0;
        mm_lm_trim(g->cache, to, 0);
        finish(g, job, MM_FINISH_ERROR);
        return 1;
    }
    s->job = job;
    s->n = s->prompt = n;
    s->filled = job->reused = len;
    s->order = ++g->begun;
    s->rng = mm_rng_at(job->seed, UINT64_C(0x67656e), 0, 0);
    job->said.stops = job->stops;
    job->said.n_stops = job->n_stops;
    return 1;
}

static void begin_all(mm_gen *g)
{
    while (g->first) {
        mm_gen_job *job = g->first, *next = job->next;
        size_t room = 0;
        for (size_t i = 0; i < g->n && !room; i++) room = !g->slots[i].job;
        if (!room || !begin(g, job)) return;
        g->first = next;
        if (!next) g->last = NULL;
    }
}

/* ---- one more token ---- */

static int note(mm_gen *g, mm_gen_job *job, const float *row, int32_t id)
{
    const size_t k = (size_t)job->logprobs - 1;
    if (job->n_lp == job->cap_lp) {
        const size_t cap = job->cap_lp ? 2 * job->cap_lp : 64;
        mm_logprob *lp = mm_realloc(job->lp, cap, sizeof *lp);
        if (lp) job->lp = lp;
        mm_logprob *top = mm_realloc(job->top, cap * (k ? k : 1), sizeof *top);
        if (top) job->top = top;
        if (!lp || !top) return MM_ENOMEM;
        job->cap_lp = cap;
    }
    if (g->cap_best < k) {
        mm_candidate *best = mm_realloc(g->best, k, sizeof *best);
        if (!best) return MM_ENOMEM;
        g->best = best;
        g->cap_best = k;
    }
    const double total = mm_log_total(row, g->vocab);
    const size_t n = mm_top(row, g->vocab, g->best, k);
    job->lp[job->n_lp] = (mm_logprob){ id, (float)((double)row[id] - total) };
    for (size_t i = 0; i < k; i++)
        job->top[job->n_lp * k + i] = i < n ? (mm_logprob){ g->best[i].id, (float)((double)g->best[i].logit - total) } : (mm_logprob){ -1, 0 };
    job->n_lp++;
    return 0;
}

/* How many tokens the answer may still have. */
static size_t tokens_left(const mm_gen *g, const slot *s)
{
    const size_t context = g->context - s->n, most = s->job->max_tokens ? s->job->max_tokens - s->job->tokens : SIZE_MAX;
    return most < context ? most : context;
}

/* What may come: NULL is everything. */
static int allowed(mm_gen *g, slot *s, const uint64_t **allow)
{
    *allow = g->known;
    if (!s->cursor) return 0;
    const int end = mm_cursor_end(s->cursor);
    int r = mm_cursor_allow(s->cursor, tokens_left(g, s), allow, &s->job->err);
    if (r == MM_EDATA && (end & MM_END_MAY)) {
        memset(g->mask, 0, (g->vocab / 64 + 1) * sizeof *g->mask);
        *allow = g->mask;
        r = 0;
    }
    if (r || !(end & MM_END_MAY)) return r;
    if (*allow != g->mask) memcpy(g->mask, *allow, (g->vocab / 64 + 1) * sizeof *g->mask);
    for (size_t i = 0; i < g->n_ends; i++) g->mask[g->ends[i] / 64] |= UINT64_C(1) << g->ends[i] % 64;
    *allow = g->mask;
    return 0;
}

static void say(mm_gen *g, slot *s, int32_t id)
{
    mm_gen_job *job = s->job;
    const char *text;
    mm_buf_reset(&g->piece);
    int r = mm_tok_piece(g->tok, id, &g->piece, &job->err);
    if (!r) r = mm_said_add(&job->said, g->piece.p, g->piece.len);
    if (!r && s->cursor && (r = mm_cursor_accept(s->cursor, g->piece.p, g->piece.len))) mm_fail(&job->err, r, "the answer left its grammar");
    if (r) {
        job->code = r;
        leave(g, s, MM_FINISH_ERROR);
        return;
    }
    s->keys[s->n] = id;
    s->ids[s->n++] = id;
    job->tokens++;
    const size_t n = mm_said_ready(&job->said, &text);
    if (n && job->on_text) job->on_text(job->arg, text, n);
    if (job->said.stopped || (s->cursor && (mm_cursor_end(s->cursor) & MM_END_MUST))) leave(g, s, MM_FINISH_STOP);
    else if (!tokens_left(g, s)) leave(g, s, s->cursor && mm_cursor_end(s->cursor) ? MM_FINISH_STOP : MM_FINISH_LENGTH);
}

static void choose(mm_gen *g, slot *s, const float *row)
{
    mm_gen_job *job = s->job;
    const uint64_t *allow;
    int32_t id = -1;
    int r = allowed(g, s, &allow);
    if (!r) r = mm_sample(&g->sampler, &job->sample, row, g->vocab, s->ids, s->n, allow, &s->rng, &id, &job->err);
    const int end = !r && mm_lm_is_end(g->lm, id) && !job->ignore_end;
    if (!r && !end && job->logprobs && note(g, job, row, id)) r = no_memory(&job->err);
    if (r) {
        job->code = r;
        leave(g, s, MM_FINISH_ERROR);
    } else if (end) leave(g, s, MM_FINISH_STOP);
    else say(g, s, id);
}

/* ---- a step ---- */

static mm_lm_part part_of(const mm_gen *g, const slot *s, size_t n, int logits)
{
    mm_lm_part p = { .slot = (size_t)(s - g->slots), .ids = s->ids + s->filled, .n = n, .logits = logits, .mark = s->job->mark };
    if (!s->job->embd || s->filled >= s->prompt) return p;
    p.embd = s->job->embd;
    for (size_t i = 0; i < s->filled; i++)
        if (s->ids[i] == p.mark) p.embd += mm_lm_width(g->lm);
    return p;
}

/* Slots that have one token to read first: those are answers, which someone waits for. Then as much of the prompts as a step takes, the
 * oldest first. */
static size_t make_parts(mm_gen *g)
{
    size_t n = 0, left = g->chunk;
    for (size_t i = 0; i < g->n; i++) {
        const slot *s = &g->slots[i];
        if (s->job && s->n - s->filled == 1) g->parts[n++] = part_of(g, s, 1, 1);
    }
    for (uint64_t after = 0; left;) {
        const slot *s = NULL;
        for (size_t i = 0; i < g->n; i++) {
            const slot *t = &g->slots[i];
            if (t->job && t->n - t->filled > 1 && t->order > after && (!s || t->order < s->order)) s = t;
        }
        if (!s) break;
        const size_t want = s->n - s->filled, take = want < left ? want : left;
        g->parts[n++] = part_of(g, s, take, take == want);
        left -= take;
        after = s->order;
    }
    return n;
}

int mm_gen_step(mm_gen *g, mm_err *err)
{
    begin_all(g);
    const size_t n = make_parts(g);
    if (!n) return g->busy > 0;
    int r = mm_lm_step(g->cache, g->parts, n, g->logits, err);
    if (r) return r;
    const float *row = g->logits;
    for (size_t i = 0; i < n; i++) {
        slot *s = &g->slots[g->parts[i].slot];
        s->filled += g->parts[i].n;
        if (!g->parts[i].logits) continue;
        choose(g, s, row);
        row += g->vocab;
    }
    return 1;
}

void mm_gen_job_clear(mm_gen_job *job)
{
    mm_said_clear(&job->said);
    free(job->lp);
    free(job->top);
    job->lp = job->top = NULL;
    job->n_lp = job->cap_lp = 0;
}

uint64_t mm_gen_seed(uint64_t seed, uint64_t record, uint64_t choice)
{
    mm_rng r = mm_rng_at(seed, UINT64_C(0x73656564), record, choice);
    return mm_rng_next(&r) >> 11;
}

const char *mm_finish_name(mm_finish f)
{
    static const char *const names[] = { "", "stop", "length", "error" };
    return names[f];
}

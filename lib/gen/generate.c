#include <stdlib.h>
#include <string.h>
#include "gen/gen_int.h"

#define SLOTS 8
#define CHUNK 512
#define GUESSES 8

static int may_come(const mm_gen *g, int32_t id) { return mm_tok_text(g->tok, id) && mm_lm_is_word(g->lm, id); }

/* What the vocabulary says of ids: which end a text; and that rows of logits which no token has are never chosen. */
static int look_at_vocabulary(mm_gen *g, mm_err *err)
{
    size_t missing = 0;
    for (size_t i = 0; i < g->vocab; i++) g->n_ends += mm_lm_is_end(g->lm, (int32_t)i) != 0;
    if (!(g->ends = mm_realloc(NULL, g->n_ends + 1, sizeof *g->ends))) return gen_no_memory(err);
    for (size_t i = 0, n = 0; i < g->vocab; i++)
        if (mm_lm_is_end(g->lm, (int32_t)i)) g->ends[n++] = (int32_t)i;
    for (size_t i = 0; i < g->vocab; i++) missing += !may_come(g, (int32_t)i);
    if (!(g->mask = calloc(g->vocab / 64 + 1, sizeof *g->mask))) return gen_no_memory(err);
    if (!missing) return 0;
    if (!(g->known = calloc(g->vocab / 64 + 1, sizeof *g->known))) return gen_no_memory(err);
    for (size_t i = 0; i < g->vocab; i++)
        if (may_come(g, (int32_t)i)) g->known[i / 64] |= UINT64_C(1) << i % 64;
    return 0;
}

int mm_gen_new(mm_gen **out, mm_lm *lm, const mm_gen_opts *opts, mm_err *err)
{
    mm_gen *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return gen_no_memory(err);
    g->lm = lm;
    g->tok = mm_lm_tokenizer(lm);
    g->vocab = mm_lm_vocab(lm);
    g->n = opts && opts->slots ? opts->slots : SLOTS;
    g->chunk = opts && opts->chunk ? opts->chunk : CHUNK;
    g->context = opts && opts->context ? opts->context : mm_lm_context(lm);
    const size_t asked = opts && opts->guesses ? opts->guesses : GUESSES, guesses = asked < MM_GEN_GUESSES ? asked : MM_GEN_GUESSES;
    int r = mm_lm_cache_new(&g->cache, lm, g->n, g->context, err);
    if (!r && opts && opts->draft) r = draft_new(&g->draft, g, opts->draft, guesses, err);
    if (!r) {
        g->slots = calloc(g->n, sizeof *g->slots);
        g->parts = calloc(g->n, sizeof *g->parts);
        g->logits = mm_aligned(g->n * (g->draft ? 1 + guesses : 1) * g->vocab, sizeof *g->logits);
        if (!g->slots || !g->parts || !g->logits) r = gen_no_memory(err);
    }
    for (size_t i = 0; i < g->n && !r; i++)
        if (!(g->slots[i].ids = mm_realloc(NULL, 2 * g->context, sizeof *g->slots[i].ids))) r = gen_no_memory(err);
        else g->slots[i].keys = g->slots[i].ids + g->context;
    if (!r && !(g->keys = mm_realloc(NULL, g->context, sizeof *g->keys))) r = gen_no_memory(err);
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
        search_free(g->slots[i].search);
        mm_cursor_free(&g->slots[i].cursor);
        free(g->slots[i].ids);
    }
    draft_free(&g->draft);
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

void mm_gen_add(mm_gen *g, mm_gen_job *job)
{
    job->next = NULL;
    if (g->last) g->last->next = job;
    else g->first = job;
    g->last = job;
    g->busy++;
}

/* ---- the end of a job ---- */

void gen_finish_one(mm_gen *g, mm_gen_job *job, mm_finish how)
{
    const char *text;
    if (mm_said_end(&job->said)) {
        job->code = gen_no_memory(&job->err);
        how = MM_FINISH_ERROR;
    }
    const size_t n = mm_said_ready(&job->said, &text);
    if (n && job->on_text) job->on_text(job->arg, text, n);
    job->finish = how;
    job->done = 1;
    g->busy--;
}

void gen_finish(mm_gen *g, mm_gen_job *job, mm_finish how)
{
    gen_finish_one(g, job, how);
    for (size_t i = 1; job->finish == MM_FINISH_ERROR && job->beams && i < job->answers; i++) {
        job[i].code = job->code;
        job[i].err = job->err;
        job[i].finish = how;
        job[i].done = 1;
    }
}

/* The slot keeps what its cache holds, for prompts that begin the same way. */
void gen_leave(slot *s)
{
    mm_cursor_free(&s->cursor);
    s->job = NULL;
    s->n = s->filled;
}

static void leave(mm_gen *g, slot *s, mm_finish how)
{
    gen_finish(g, s->job, how);
    gen_leave(s);
}

/* ---- one more token ---- */

int gen_room_for_best(mm_gen *g, size_t k)
{
    if (g->cap_best >= k) return 0;
    mm_candidate *best = mm_realloc(g->best, k, sizeof *best);
    if (!best) return MM_ENOMEM;
    g->best = best;
    g->cap_best = k;
    return 0;
}

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
    if (gen_room_for_best(g, k)) return MM_ENOMEM;
    const double total = mm_log_total(row, g->vocab);
    const size_t n = mm_top(row, g->vocab, g->best, k);
    job->lp[job->n_lp] = (mm_logprob){ id, (float)((double)row[id] - total) };
    for (size_t i = 0; i < k; i++)
        job->top[job->n_lp * k + i] = i < n ? (mm_logprob){ g->best[i].id, (float)((double)g->best[i].logit - total) } : (mm_logprob){ -1, 0 };
    job->n_lp++;
    return 0;
}

size_t gen_tokens_left(const mm_gen *g, const mm_gen_job *job, size_t n, size_t tokens)
{
    const size_t context = g->context - n, most = job->max_tokens ? job->max_tokens - tokens : SIZE_MAX;
    return most < context ? most : context;
}

static size_t tokens_left(const mm_gen *g, const slot *s) { return gen_tokens_left(g, s->job, s->n, s->job->tokens); }

int gen_allowed(mm_gen *g, mm_cursor *cursor, size_t left, const uint64_t **allow, mm_err *err)
{
    *allow = g->known;
    if (!cursor) return 0;
    const int end = mm_cursor_end(cursor);
    int r = mm_cursor_allow(cursor, left, allow, err);
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

/* Chooses the next token of a place; k: the guess that is to be judged, SIZE_MAX: none. Returns the token, -1 on failure. */
static int32_t choose(mm_gen *g, slot *s, const float *row, size_t k)
{
    mm_gen_job *job = s->job;
    const uint64_t *allow;
    int32_t id = -1;
    int r = gen_allowed(g, s->cursor, tokens_left(g, s), &allow, &job->err);
    if (!r && k != SIZE_MAX && job->sample.temperature > 0) r = draft_judge(g, s, row, allow, k, &id, &job->err);
    else if (!r) r = mm_sample(&g->sampler, &job->sample, row, g->vocab, s->ids, s->n, allow, &s->rng, &id, &job->err);
    const int end = !r && mm_lm_is_end(g->lm, id) && !job->ignore_end;
    if (!r && !end && job->logprobs && note(g, job, row, id)) r = gen_no_memory(&job->err);
    if (r) {
        job->code = r;
        leave(g, s, MM_FINISH_ERROR);
        return -1;
    }
    if (end) leave(g, s, MM_FINISH_STOP);
    else say(g, s, id);
    return id;
}

/* Rows behind the last token and behind each guess: tokens are chosen for as long as guesses were right. */
static void judge(mm_gen *g, slot *s, const float *rows, const guess *q)
{
    mm_gen_job *job = s->job;
    const size_t at = (size_t)(s - g->slots), begin = s->n;
    size_t right = 0;
    for (int going = 1; going;) {
        s->filled = begin + right; /* what the cache holds of the text */
        const int32_t id = choose(g, s, rows + right * g->vocab, right < q->n ? right : SIZE_MAX);
        going = right < q->n && id == q->id[right];
        right += (size_t)going;
        going &= s->job != NULL;
    }
    job->proposed += q->n;
    job->accepted += right;
    if (mm_lm_len(g->cache, at) > s->filled) mm_lm_trim(g->cache, at, s->filled);
    draft_done(g->draft, at, right, s->filled);
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
        if (!s->job || s->n - s->filled != 1) continue;
        const size_t guesses = g->draft ? draft_of(g->draft, i)->n : 0; /* they stand behind the text */
        g->parts[n++] = part_of(g, s, 1 + guesses, guesses ? 2 : 1);
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
    gen_begin_all(g);
    int r = g->draft ? draft_step(g, err) : 0;
    if (r) return r;
    const size_t n = make_parts(g);
    if (!n) return g->busy > 0;
    r = mm_lm_step(g->cache, g->parts, n, g->logits, err);
    if (r) return r;
    const float *row = g->logits;
    for (size_t i = 0; i < n; i++) {
        const mm_lm_part *p = &g->parts[i];
        slot *s = &g->slots[p->slot];
        if (p->logits == 2) {
            judge(g, s, row, draft_of(g->draft, p->slot));
            row += p->n * g->vocab;
            continue;
        }
        s->filled += p->n;
        if (!p->logits) continue;
        if (s->search) search_row(s, row);
        else choose(g, s, row, SIZE_MAX);
        row += g->vocab;
    }
    for (size_t i = 0; i < g->n; i++)
        if (g->slots[i].search) search_step(g, g->slots[i].search);
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

/* Which job begins where: prompts that are too long, beginnings that are in the cache already. */
#include <string.h>
#include "base/mm_str.h"
#include "gen/gen_int.h"

#define WORTH 8 /* tokens in common that are worth a copy, or the wait for one */

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

size_t gen_common(const slot *s, size_t n, const int32_t *keys, size_t n_keys)
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
    if (job->beams > g->n)
        return mm_fail(&job->err, MM_EARG, "%zu texts at a time are asked for, there are %zu places", job->beams, g->n);
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
        const size_t c = gen_common(&g->slots[i], g->slots[i].filled, keys, n);
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
        if (gen_common(s, s->prompt, keys, n) >= have + WORTH) return 1;
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

/* As many as the job takes are free. */
static int enough(const mm_gen *g, const mm_gen_job *job)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) n += !g->slots[i].job;
    return n >= (job->beams ? job->beams : 1);
}

static void cannot_begin(mm_gen *g, mm_gen_job *job, int code)
{
    job->code = code;
    gen_finish(g, job, MM_FINISH_ERROR);
}

/* 1, or 0 when it has to wait. */
static int begin(mm_gen *g, mm_gen_job *job)
{
    size_t skip, len;
    int first, r = fit(g, job, &skip, &first);
    if (r) return cannot_begin(g, job, r), 1;
    if (!enough(g, job)) return 0;
    const int32_t *ids = job->ids + skip;
    const size_t n = job->used;
    make_keys(g, job, ids, n);
    const size_t from = first && skip ? 0 : best_prefix(g, g->keys, n - 1, &len);
    if (first && skip) len = 0; /* the beginning is put together: not looked for */
    else if (wait_for_another(g, g->keys, n - 1, len)) return 0;
    if (len < WORTH) len = 0;
    slot *s = free_slot(g, len ? from : SIZE_MAX);
    const size_t to = (size_t)(s - g->slots);
    if (len && to != from) mm_lm_copy(g->cache, to, from, 0, len);
    else if (mm_lm_len(g->cache, to) > len) mm_lm_trim(g->cache, to, len);
    if (g->draft) draft_begin(g->draft, to, len ? from : to, job->embd ? 0 : len);
    memcpy(s->ids, ids, n * sizeof *ids);
    memcpy(s->keys, g->keys, n * sizeof *g->keys);
    if (first && skip) s->ids[0] = s->keys[0] = job->ids[0];
    s->job = job;
    s->n = s->prompt = n;
    s->filled = job->reused = len;
    if ((job->grammar && !(s->cursor = mm_cursor_new(job->grammar))) || (job->beams && !(s->search = search_new(g, job, s)))) {
        gen_leave(s);
        return cannot_begin(g, job, gen_no_memory(&job->err)), 1;
    }
    s->order = ++g->begun;
    s->rng = mm_rng_at(job->seed, UINT64_C(0x67656e), 0, 0);
    job->said.stops = job->stops;
    job->said.n_stops = job->n_stops;
    return 1;
}

void gen_begin_all(mm_gen *g)
{
    while (g->first) {
        mm_gen_job *job = g->first, *next = job->next;
        if (!begin(g, job)) return;
        g->first = next;
        if (!next) g->last = NULL;
    }
}

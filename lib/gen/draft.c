/* A smaller decoder guesses the next tokens, the decoder itself judges all of them in one step. A guess is right when it is what would have been
 * chosen. Where tokens are drawn a guess stays with the probability min(1, p / q), where p is the decoder's and q the smaller one's, and
 * what takes its place is drawn from max(0, p - q): then tokens come with probability p (Leviathan, Kalman, Matias 2023, arXiv 2211.17192). */
#include <stdlib.h>
#include <string.h>
#include "gen/gen_int.h"

#define FIRST 4 /* tokens that are guessed at first */

struct draft {
    mm_lm *lm;
    mm_lm_cache *cache;
    size_t vocab, rows_of, most; /* ids that both have; numbers in a row of logits; guesses at a time */
    guess *of;                   /* [slots] */
    mm_lm_part *parts;           /* [slots] */
    float *rows;                 /* [most, slots, rows_of]: what guesses were drawn from */
    double *other;               /* [vocab], zero between uses */
    double *left;                /* [vocab] */
    mm_sampler sampler;
};

void draft_free(struct draft **dp)
{
    struct draft *d = *dp;
    if (!d) return;
    mm_lm_cache_free(&d->cache);
    mm_sampler_clear(&d->sampler);
    free(d->of);
    free(d->parts);
    free(d->rows);
    free(d->other);
    free(d->left);
    free(d);
    *dp = NULL;
}

/* Ids must mean the same to both. */
static int check(mm_lm *lm, mm_lm *small, size_t context, mm_err *err)
{
    const mm_tok *a = mm_lm_tokenizer(lm), *b = mm_lm_tokenizer(small);
    const size_t n = mm_tok_vocab(a);
    if (n != mm_tok_vocab(b))
        return mm_fail(err, MM_EARG, "it has another vocabulary than the model, of %zu tokens and not of %zu: its guesses would mean something else",
                       mm_tok_vocab(b), n);
    for (size_t i = 0; i < n; i++) {
        const char *x = mm_tok_text(a, (int32_t)i), *y = mm_tok_text(b, (int32_t)i);
        if ((x || y) && (!x || !y || strcmp(x, y)))
            return mm_fail(err, MM_EARG, "it has another vocabulary than the model (token %zu is '%s' and not '%s'): its guesses would mean something else", i,
                           y ? y : "", x ? x : "");
    }
    if (mm_lm_context(small) < context) return mm_fail(err, MM_EARG, "it takes %zu tokens, the context is %zu", mm_lm_context(small), context);
    return 0;
}

int draft_new(struct draft **out, mm_gen *g, mm_lm *lm, size_t most, mm_err *err)
{
    int r = check(g->lm, lm, g->context, err);
    *out = NULL;
    if (r) return r;
    struct draft *d = calloc(1, sizeof *d);
    if (!d) return gen_no_memory(err);
    d->lm = lm;
    d->most = most;
    d->rows_of = mm_lm_vocab(lm);
    d->vocab = d->rows_of < g->vocab ? d->rows_of : g->vocab;
    d->of = calloc(g->n, sizeof *d->of);
    d->parts = calloc(g->n, sizeof *d->parts);
    d->rows = mm_aligned(most * g->n * d->rows_of, sizeof *d->rows); /* touched as far as it is used */
    d->other = calloc(d->vocab, sizeof *d->other);
    d->left = calloc(g->vocab, sizeof *d->left);
    if (!d->of || !d->parts || !d->rows || !d->other || !d->left) r = gen_no_memory(err);
    if (!r) r = mm_lm_cache_new(&d->cache, lm, g->n, g->context, err);
    if (r) draft_free(&d);
    *out = d;
    return r;
}

/* ---- what is read before guessing ---- */

void draft_begin(struct draft *d, size_t to, size_t from, size_t len)
{
    const size_t have = mm_lm_len(d->cache, from);
    if (len > have) len = have;
    if (len && to != from) mm_lm_copy(d->cache, to, from, 0, len);
    else mm_lm_trim(d->cache, to, len);
    d->of[to] = (guess){ .length = FIRST < d->most ? FIRST : d->most };
}

void draft_trim(struct draft *d, size_t at, size_t len) { mm_lm_trim(d->cache, at, len); }

const guess *draft_of(const struct draft *d, size_t at) { return &d->of[at]; }

/* How many tokens are worth guessing: of answers that have begun, and of those behind which one can still come. */
static size_t wanted(const mm_gen *g, const slot *s, const guess *q)
{
    if (s->n - s->filled != 1 || s->n <= s->prompt) return 0;
    const size_t left = gen_tokens_left(g, s->job, s->n, s->job->tokens);
    return left <= q->length ? left - 1 : q->length;
}

/* Answers are read to their end, prompts as far as the decoder has read them. */
static size_t first_parts(mm_gen *g, struct draft *d)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        const slot *s = &g->slots[i];
        guess *q = &d->of[i];
        const size_t have = mm_lm_len(d->cache, i);
        q->n = q->row = 0;
        q->going = 0;
        if (!s->job || s->search || s->job->embd) continue;
        q->want = wanted(g, s, q);
        q->going = q->want > 0;
        const size_t end = q->want ? s->n : s->filled;
        if (end > have) d->parts[n++] = (mm_lm_part){ .slot = i, .ids = s->ids + have, .n = end - have, .logits = q->going };
    }
    return n;
}

/* ---- guesses ---- */

static int guess_one(mm_gen *g, struct draft *d, size_t at, const float *row)
{
    slot *s = &g->slots[at];
    guess *q = &d->of[at];
    mm_gen_job *job = s->job;
    const uint64_t *allow;
    size_t m;
    double total;
    const size_t n = s->n + q->n;
    int r = gen_allowed(g, q->cursor, gen_tokens_left(g, job, n, job->tokens + q->n), &allow, &job->err);
    if (!r) r = mm_sample_weigh(&d->sampler, &job->sample, row, d->vocab, s->ids, n, allow, &m, &total, &job->err);
    if (r) return r;
    const size_t k = m > 1 ? mm_sample_draw(d->sampler.w, m, total, &s->rng) : 0;
    const int32_t id = d->sampler.c[k].id;
    s->ids[n] = q->id[q->n] = id;
    q->q[q->n] = d->sampler.w[k] / total;
    q->rows[q->n++] = row;
    q->going = q->n < q->want && (job->ignore_end || !mm_lm_is_end(g->lm, id));
    if (!q->cursor || !q->going) return 0;
    mm_buf_reset(&g->piece);
    if (!(r = mm_tok_piece(g->tok, id, &g->piece, &job->err))) r = mm_cursor_accept(q->cursor, g->piece.p, g->piece.len);
    if (mm_cursor_end(q->cursor) & MM_END_MUST) q->going = 0;
    return r;
}

/* Guesses that cannot be made are none: what is wrong is found where the decoder chooses. */
static void guess_all(mm_gen *g, struct draft *d, const float *rows)
{
    for (size_t i = 0; i < g->n; i++) {
        guess *q = &d->of[i];
        if (!q->going) continue;
        if (!q->n && g->slots[i].cursor && !(q->cursor = mm_cursor_copy(g->slots[i].cursor))) q->going = 0;
        else if (guess_one(g, d, i, rows + q->row * d->rows_of)) q->going = 0;
        if (!q->going) mm_cursor_free(&q->cursor);
    }
}

int draft_step(mm_gen *g, mm_err *err)
{
    struct draft *d = g->draft;
    size_t n = first_parts(g, d);
    float *rows = d->rows;
    for (int r; n; rows += g->n * d->rows_of) {
        if ((r = mm_lm_step(d->cache, d->parts, n, rows, err))) return r;
        size_t row = 0;
        for (size_t i = 0; i < n; i++)
            if (d->parts[i].logits) d->of[d->parts[i].slot].row = row++;
        guess_all(g, d, rows);
        n = 0;
        for (size_t i = 0; i < g->n; i++) {
            const guess *q = &d->of[i];
            if (q->going) d->parts[n++] = (mm_lm_part){ .slot = i, .ids = &q->id[q->n - 1], .n = 1, .logits = 1 };
        }
    }
    return 0;
}

/* ---- judging ---- */

/* One of what is left of p when q is taken from it. p's candidates are in g->sampler. */
static int32_t draw_rest(mm_gen *g, struct draft *d, size_t m, double p_total, size_t m_q, double q_total, mm_rng *rng)
{
    const mm_sampler *p = &g->sampler, *q = &d->sampler;
    double sum = 0;
    for (size_t i = 0; i < m_q; i++) d->other[q->c[i].id] = q->w[i] / q_total;
    for (size_t i = 0; i < m; i++) {
        const double x = p->w[i] / p_total - ((size_t)p->c[i].id < d->vocab ? d->other[p->c[i].id] : 0);
        sum += d->left[i] = x > 0 ? x : 0;
    }
    for (size_t i = 0; i < m_q; i++) d->other[q->c[i].id] = 0;
    /* nothing is left where both are equal but for rounding */
    return p->c[sum > 0 ? mm_sample_draw(d->left, m, sum, rng) : mm_sample_draw(p->w, m, p_total, rng)].id;
}

int draft_judge(mm_gen *g, slot *s, const float *row, const uint64_t *allow, size_t k, int32_t *id, mm_err *err)
{
    struct draft *d = g->draft;
    const guess *q = &d->of[s - g->slots];
    const mm_sample_opts *o = &s->job->sample;
    size_t m, m_q;
    double total, q_total, p = 0;
    int r = mm_sample_weigh(&g->sampler, o, row, g->vocab, s->ids, s->n, allow, &m, &total, err);
    if (r) return r;
    for (size_t i = 0; i < m && p <= 0; i++)
        if (g->sampler.c[i].id == q->id[k]) p = g->sampler.w[i] / total;
    *id = q->id[k];
    if ((double)(mm_rng_next(&s->rng) >> 11) * 0x1p-53 < p / q->q[k]) return 0;
    if ((r = mm_sample_weigh(&d->sampler, o, q->rows[k], d->vocab, s->ids, s->n, allow, &m_q, &q_total, err))) return r;
    *id = draw_rest(g, d, m, total, m_q, q_total, &s->rng);
    return 0;
}

/* As long as guesses are right more are made: two at a time, and one less after each that was wrong. */
void draft_done(struct draft *d, size_t at, size_t right, size_t filled)
{
    guess *q = &d->of[at];
    if (right == q->n) q->length = q->length + 2 < d->most ? q->length + 2 : d->most;
    else if (q->length > 1) q->length--;
    if (mm_lm_len(d->cache, at) > filled) mm_lm_trim(d->cache, at, filled);
    q->n = 0;
}

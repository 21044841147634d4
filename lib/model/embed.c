/* Texts to vectors: tokenise, cut at the window, group into micro-batches, run the block, pool. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

/* Tokens of one micro-batch. Its activations (about 12 floats per token and channel) should stay in a core's L2
 * cache, while the weights, which stream past once per micro-batch, want many rows. Measured in scripts/bench. */
#define BATCH_TOKENS 256

/* Sequences order[from..to) of the call as one ragged batch. */
static int forward(const mm_model *m, const int32_t *ids, const size_t *off, const uint32_t *order, size_t n,
                   float *vec, mm_arena *arena, int threads)
{
    const mm_model_config *c = &m->cfg;
    size_t width = (size_t)c->width, rows = 0;
    mm_graph g = { m->kern, arena, threads, 0 };
    for (size_t i = 0; i < n; i++) rows += off[order[i] + 1] - off[order[i]];
    mm_arena_reset(arena);
    size_t *at = mm_arena_alloc(arena, n + 1, sizeof *at);
    int32_t *tok = mm_arena_alloc(arena, rows, sizeof *tok), *pos = mm_arena_alloc(arena, rows, sizeof *pos);
    if (!at || !tok || !pos) return MM_ENOMEM;
    at[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = off[order[i] + 1] - off[order[i]];
        memcpy(tok + at[i], ids + off[order[i]], len * sizeof *tok);
        for (size_t k = 0; k < len; k++) pos[at[i] + k] = (int32_t)(c->pos_offset + (int64_t)k);
        at[i + 1] = at[i] + len;
    }
    mm_ragged r = { at, n };
    mm_tensor x = mm_op_gather(&g, m->tok_embd, m->tok_embd_type, width, tok, rows);
    x = mm_op_add_rows(&g, x, m->pos_embd, pos);
    x = mm_op_layer_norm(&g, x, &m->embd_norm, c->eps, &x);
    for (int64_t l = 0; l < c->layers; l++) x = mm_block(&g, c, &m->layers[l], x, &r);
    mm_tensor y = mm_op_pool(&g, x, &r, c->pool);
    if (c->normalize) y = mm_op_normalize(&g, y);
    if (g.failed) return MM_ENOMEM;
    for (size_t i = 0; i < n; i++) memcpy(vec + order[i] * width, y.p + i * width, width * sizeof *vec);
    return 0;
}

typedef struct {
    size_t len;
    uint32_t i;
} by_len;

static int longer_first(const void *a, const void *b)
{
    const by_len *x = a, *y = b;
    if (x->len != y->len) return x->len < y->len ? 1 : -1;
    return x->i < y->i ? -1 : x->i > y->i;
}

/* Groups of sequences of similar length, the longest first so that threads end together. */
static size_t plan(by_len *s, size_t n, size_t budget, uint32_t *order, size_t *first)
{
    size_t groups = 0, tokens = 0;
    qsort(s, n, sizeof *s, longer_first);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || tokens + s[i].len > budget) {
            first[groups++] = i;
            tokens = 0;
        }
        tokens += s[i].len;
        order[i] = s[i].i;
    }
    first[groups] = n;
    return groups;
}

static int run(mm_model *m, const int32_t *ids, const size_t *off, size_t n, float *vec, mm_err *err)
{
    if (n == 0) return 0;
    int threads = m->opts.threads, failed = 0;
    by_len *s = mm_realloc(NULL, n, sizeof *s);
    uint32_t *order = mm_realloc(NULL, n, sizeof *order);
    size_t *first = mm_realloc(NULL, n + 1, sizeof *first);
    if (!s || !order || !first || n > UINT32_MAX) {
        failed = 1;
        goto end;
    }
    for (size_t i = 0; i < n; i++) s[i] = (by_len){ off[i + 1] - off[i], (uint32_t)i };
    /* enough groups to keep every thread busy, but none so small that its products run badly */
    size_t budget = off[n] / (size_t)threads;
    if (budget > BATCH_TOKENS) budget = BATCH_TOKENS;
    if (budget < 64) budget = 64;
    size_t groups = plan(s, n, budget, order, first);
    /* Threads work on groups of their own, which needs no barriers; few sequences share the threads inside each
     * product. Either way a row's operations are the same. */
    if (groups < (size_t)threads) {
        for (size_t i = 0; i < groups; i++)
            failed |=
                forward(m, ids, off, order + first[i], first[i + 1] - first[i], vec, &m->scratch[0], threads) != 0;
        goto end;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(| : failed) if (threads > 1)
    for (size_t i = 0; i < groups; i++)
        failed |= forward(m, ids, off, order + first[i], first[i + 1] - first[i], vec,
                          &m->scratch[omp_get_thread_num()], 1) != 0;
end:
    free(s);
    free(order);
    free(first);
    return failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

int mm_model_embed_ids(mm_model *m, const int32_t *ids, const size_t *off, size_t n, float *vec, mm_err *err)
{
    for (size_t s = 0; s < n; s++) {
        if (off[s + 1] < off[s] || off[s + 1] - off[s] > (size_t)m->cfg.window)
            return mm_fail(err, MM_ESHAPE, "sequence %zu is longer than the window of %lld tokens", s,
                           (long long)m->cfg.window);
        for (size_t i = off[s]; i < off[s + 1]; i++)
            if (ids[i] < 0 || ids[i] >= m->cfg.vocab)
                return mm_fail(err, MM_ESHAPE, "sequence %zu: token %d is outside the vocabulary of %lld", s, ids[i],
                               (long long)m->cfg.vocab);
    }
    return run(m, ids, off, n, vec, err);
}

/* ---- texts ---- */

/* Keep the beginning of a sequence and its closing special tokens: n ids become at most `window`. */
static size_t cut(const mm_tok_out *o, size_t window, size_t suffix, int32_t *ids, size_t *end)
{
    size_t n = o->n <= window ? o->n : window, body = n - suffix;
    memcpy(ids, o->ids, body * sizeof *ids);
    memcpy(ids + body, o->ids + o->n - suffix, suffix * sizeof *ids);
    *end = body;
    return n;
}

typedef struct {
    mm_tok_out out;
    int32_t *ids;
    size_t n, cap;
} piece;

/* Tokenise in[from..to) into p; lengths go to len. Text ends are needed only where something is cut, so spans are
 * asked for in a second pass, which few texts take. */
static int tokenize(const mm_model *m, const mm_text_in *in, size_t from, size_t to, piece *p, size_t *len,
                    mm_text_out *res, mm_err *err)
{
    size_t window = (size_t)m->cfg.window, prefix, suffix, end;
    mm_tok_prefix(m->tok, &prefix);
    mm_tok_suffix(m->tok, &suffix);
    for (size_t i = from; i < to; i++) {
        int r = mm_tok_encode(m->tok, in[i].p, in[i].len, MM_TOK_SPECIAL, &p->out, err);
        if (r) return mm_err_prefix(err, "text %zu: ", i), r;
        res[i] = (mm_text_out){ .tokens = (uint32_t)p->out.n, .used_len = in[i].len };
        len[i] = 0;
        if (p->out.n <= prefix + suffix) {
            res[i].code = MM_EEMPTY;
            continue;
        }
        if (p->n + window > p->cap) {
            size_t cap = 2 * p->cap + window;
            int32_t *q = mm_realloc(p->ids, cap, sizeof *q);
            if (!q) return mm_fail(err, MM_ENOMEM, "out of memory");
            p->ids = q;
            p->cap = cap;
        }
        len[i] = cut(&p->out, window, suffix, p->ids + p->n, &end);
        p->n += len[i];
        res[i].used = (uint32_t)len[i];
        if (len[i] < p->out.n) {
            if ((r = mm_tok_encode(m->tok, in[i].p, in[i].len, MM_TOK_SPECIAL | MM_TOK_SPANS, &p->out, err)))
                return r;
            res[i].used_len = end > prefix ? p->out.span[end - 1][1] : 0;
        }
    }
    return 0;
}

int mm_model_embed_text(mm_model *m, const mm_text_in *in, size_t n, float *vec, mm_text_out *res, mm_err *err)
{
    size_t width = (size_t)m->cfg.width, *len = mm_realloc(NULL, n + 1, sizeof *len),
           *off = mm_realloc(NULL, n + 1, sizeof *off);
    uint32_t *which = mm_realloc(NULL, n + 1, sizeof *which);
    int threads = n < 64 ? 1 : m->opts.threads,
        r = 0; /* a text takes some 2 us: waking a thread costs more than a few */
    piece *p = calloc((size_t)threads, sizeof *p);
    mm_err *errs = calloc((size_t)threads, sizeof *errs);
    int32_t *ids = NULL;
    if (!len || !off || !which || !p || !errs) {
        r = mm_fail(err, MM_ENOMEM, "out of memory");
        goto end;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (int t = 0; t < threads; t++)
        errs[t].code = tokenize(m, in, n * (size_t)t / (size_t)threads, n * ((size_t)t + 1) / (size_t)threads, &p[t],
                                len, res, &errs[t]);
    size_t total = 0, live = 0;
    for (int t = 0; t < threads && !r; t++) {
        if (errs[t].code) r = mm_fail(err, errs[t].code, "%s", errs[t].msg);
        total += p[t].n;
    }
    if (r) goto end;
    if (!(ids = mm_realloc(NULL, total, sizeof *ids))) {
        r = mm_fail(err, MM_ENOMEM, "out of memory");
        goto end;
    }
    total = 0;
    for (int t = 0; t < threads; t++) {
        if (p[t].n) memcpy(ids + total, p[t].ids, p[t].n * sizeof *ids);
        total += p[t].n;
    }
    off[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (!len[i]) continue;
        off[live + 1] = off[live] + len[i];
        which[live++] = (uint32_t)i;
    }
    /* vectors come densely and are spread over the empty texts' places from the end on */
    if ((r = run(m, ids, off, live, vec, err))) goto end;
    for (size_t i = n, k = live; i-- > 0;) {
        if (k && which[k - 1] == i) {
            if (--k != i) memmove(vec + i * width, vec + k * width, width * sizeof *vec);
        } else {
            memset(vec + i * width, 0, width * sizeof *vec);
        }
    }
end:
    for (int t = 0; p && t < threads; t++) {
        mm_tok_out_clear(&p[t].out);
        free(p[t].ids);
    }
    free(p);
    free(errs);
    free(ids);
    free(len);
    free(off);
    free(which);
    return r;
}

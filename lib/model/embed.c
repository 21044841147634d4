/* Inputs of all kinds to vectors: texts are tokenised and cut at the window; arrays go as they are. */
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

static int no_text(mm_err *err) { return mm_fail(err, MM_EUNSUP, "this model takes no text"); }

int mm_model_embed_ids(mm_model *m, const int32_t *ids, const size_t *off, size_t n, float *vec, mm_err *err)
{
    mm_tower *t = m->via[MM_TEXT];
    if (!t) return no_text(err);
    for (size_t s = 0; s < n; s++) {
        if (off[s + 1] <= off[s] || off[s + 1] - off[s] > (size_t)t->cfg.window)
            return mm_fail(err, MM_ESHAPE, "sequence %zu is empty or longer than the window of %lld tokens", s, (long long)t->cfg.window);
        for (size_t i = off[s]; i < off[s + 1]; i++)
            if (ids[i] < 0 || ids[i] >= t->cfg.vocab)
                return mm_fail(err, MM_ESHAPE, "sequence %zu: token %d is outside the vocabulary of %lld", s, ids[i],
                               (long long)t->cfg.vocab);
    }
    return mm_tower_run(m, &(mm_tower_job){ .t = t, .ids = ids, .off = off, .n = n }, vec, err);
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
static int tokenize(const mm_model *m, const mm_text_in *in, size_t from, size_t to, int keep_empty, piece *p, size_t *len,
                    mm_text_out *res, mm_err *err)
{
    const mm_tower_config *c = &m->via[MM_TEXT]->cfg;
    size_t window = (size_t)c->window, prefix, suffix, end;
    mm_tok_prefix(m->tok, &prefix);
    mm_tok_suffix(m->tok, &suffix);
    for (size_t i = from; i < to; i++) {
        int r = mm_tok_encode(m->tok, in[i].p, in[i].len, MM_TOK_SPECIAL, &p->out, err);
        if (r) return mm_err_prefix(err, "text %zu: ", i), r;
        res[i] = (mm_text_out){ .tokens = (uint32_t)p->out.n, .used_len = in[i].len };
        len[i] = 0;
        if (p->out.n <= prefix + suffix) res[i].code = MM_EEMPTY;
        if (res[i].code && !keep_empty) continue;
        if (p->n + window > p->cap) {
            size_t cap = 2 * p->cap + window;
            int32_t *q = mm_realloc(p->ids, cap, sizeof *q);
            if (!q) return mm_fail(err, MM_ENOMEM, "out of memory");
            p->ids = q;
            p->cap = cap;
        }
        len[i] = cut(&p->out, window, suffix, p->ids + p->n, &end);
        res[i].used = (uint32_t)len[i];
        while (len[i] < (size_t)c->pad_to) p->ids[p->n + len[i]++] = c->pad;
        p->n += len[i];
        if (res[i].used < p->out.n) {
            if ((r = mm_tok_encode(m->tok, in[i].p, in[i].len, MM_TOK_SPECIAL | MM_TOK_SPANS, &p->out, err)))
                return r;
            res[i].used_len = end > prefix ? p->out.span[end - 1][1] : 0;
        }
    }
    return 0;
}

int mm_model_embed_text(mm_model *m, const mm_text_in *in, size_t n, float *vec, mm_text_out *res, mm_err *err)
{
    if (!m->via[MM_TEXT]) return no_text(err);
    size_t width = mm_model_dim(m), *len = mm_realloc(NULL, n + 1, sizeof *len),
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
        errs[t].code = tokenize(m, in, n * (size_t)t / (size_t)threads, n * ((size_t)t + 1) / (size_t)threads, 0, &p[t],
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
    if ((r = mm_tower_run(m, &(mm_tower_job){ .t = m->via[MM_TEXT], .ids = ids, .off = off, .n = live }, vec, err))) goto end;
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

int mm_text_tokens(const mm_model *m, const mm_text_in *in, size_t n, int32_t **ids, size_t *off, mm_text_out *res, mm_err *err)
{
    piece p = { 0 };
    if (!m->via[MM_TEXT]) return no_text(err);
    int r = tokenize(m, in, 0, n, 0, &p, off + 1, res, err);
    off[0] = 0;
    for (size_t i = 0; i < n && !r; i++) off[i + 1] += off[i];
    mm_tok_out_clear(&p.out);
    *ids = p.ids;
    return r;
}

int mm_model_text_ids(mm_model *m, mm_text_in in, int32_t *ids, size_t *n, mm_text_out *res, mm_err *err)
{
    piece p = { 0 };
    if (!m->via[MM_TEXT]) return no_text(err);
    int r = tokenize(m, &in, 0, 1, 1, &p, n, res, err);
    if (!r && *n) memcpy(ids, p.ids, *n * sizeof *ids);
    mm_tok_out_clear(&p.out);
    free(p.ids);
    return r;
}

/* ---- arrays ---- */

int mm_model_embed_input(mm_model *m, const mm_part *in, size_t n, float *vec, mm_err *err)
{
    const mm_modality mod = n ? in->mod : MM_TEXT;
    mm_tower *t = mod == MM_TEXT ? NULL : m->via[mod];
    if (!n) return 0;
    if (!t) return mm_fail(err, MM_EUNSUP, "this model takes no %s", mm_modality_name(mod));
    const mm_input_spec *sp = &m->spec[mod];
    size_t dim = mm_model_dim(m), views = (size_t)sp->views, plane = (size_t)sp->channels * (size_t)sp->height * (size_t)sp->width;
    size_t have = (size_t)sp->frames, frames = (size_t)t->cfg.frames;
    const float **view = mm_realloc(NULL, n * views + 1, sizeof *view), **times = mm_realloc(NULL, n * views + 1, sizeof *times);
    float *own = views > 1 ? mm_aligned(n * views * dim, sizeof *own) : vec;
    /* a tower for clips sees a picture as one that stands still */
    float *still = have < frames ? mm_aligned(n * views * frames * plane, sizeof *still) : NULL;
    int r = !view || !times || !own || (have < frames && !still) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    for (size_t i = 0; i < n * views && !r; i++) {
        view[i] = in[i / views].x + i % views * have * plane;
        times[i] = in[i / views].times;
        if (!still) continue;
        for (size_t f = 0; f < frames; f++) memcpy(still + (i * frames + f) * plane, view[i] + f % have * plane, plane * sizeof *still);
        view[i] = still + i * frames * plane;
    }
    if (!r) r = mm_tower_run(m, &(mm_tower_job){ .t = t, .x = view, .times = times, .n = n * views }, own, err);
    for (size_t i = 0; !r && views > 1 && i < n; i++) m->kern->pool_mean(vec + i * dim, own + i * views * dim, views, dim, dim);
    if (!r && views > 1 && t->cfg.normalize) m->kern->l2_normalize(vec, n, dim);
    free(view);
    free(times);
    free(still);
    if (own != vec) free(own);
    return r;
}

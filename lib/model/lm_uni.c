/* The unified model's next-token head as a decoder: the step of lm_step.c through the trunk, words behind what they are about. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "model/lm_int.h"
#include "model/mm_say.h"
#include "model/mm_uni_heads.h"
#include "model/uni_int.h"

static const mm_tensor none;

/* Rows of the longest input that the model takes. */
static size_t most_rows(const mm_uni_config *c)
{
    size_t most = (size_t)c->window;
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) {
        const size_t side = (size_t)c->mod[m].size, frames = (size_t)c->mod[m].frames;
        const mm_uni_in in = { .mod = (mm_modality)m, .n = 1, .frames = &frames, .height = side, .width = side };
        const size_t rows = c->mod[m].width ? mm_uni_in_tokens(&in, 0) : 0;
        if (rows > most) most = rows;
    }
    return most;
}

int mm_lm_uni_open(mm_lm *lm, mm_err *err)
{
    const mm_uni_config *c = mm_uni_get_config(lm->m->uni);
    mm_tower_config *t = &lm->m->tower[MM_TEXT].cfg;
    if (t->vocab <= MM_SAY_MARK) return mm_fail(err, MM_EDATA, "a vocabulary of %lld has no words", (long long)t->vocab);
    t->positions = (int64_t)most_rows(c) + c->window;
    lm->bos = MM_UNI_BEGIN;
    lm->end[0] = MM_UNI_END;
    lm->n_end = 1;
    return 0;
}

size_t mm_lm_uni_marks(const mm_lm_part *p)
{
    size_t n = 0;
    while (p->embd && n < p->n && p->ids[n] == p->mark) n++;
    return n;
}

int mm_lm_uni_check(const mm_lm_cache *c, const mm_lm_part *p, mm_err *err)
{
    if (!p->ids) return mm_fail(err, MM_EARG, "a unified model has no embeddings in place of words");
    const size_t marks = mm_lm_uni_marks(p);
    if (marks && c->len[p->slot] > c->given[p->slot]) return mm_fail(err, MM_EARG, "what is seen comes before all words");
    for (size_t i = marks; p->embd && i < p->n; i++)
        if (p->ids[i] == p->mark) return mm_fail(err, MM_EARG, "what is seen comes before all words");
    return 0;
}

/* Rows of a piece that were seen; the rest are words. */
static size_t seen_of(const mm_lm_piece *p)
{
    const size_t marks = mm_lm_uni_marks(p->part);
    return marks <= p->from ? 0 : marks - p->from < p->rows ? marks - p->from : p->rows;
}

typedef struct {
    size_t n;            /* words */
    size_t *row;         /* [n] their rows among those of the batch */
    int32_t *ids;
    float *cos, *sin;    /* [n, half] */
} words;

/* The words of a batch, and where they stand: from the first one of their text on. */
static int words_of(mm_graph *g, const mm_uni *u, const mm_lm_batch *b, words *w)
{
    const size_t half = (size_t)(u->c.width / u->c.heads / 2);
    size_t row = 0;
    w->row = mm_arena_alloc(g->arena, b->rows, sizeof *w->row);
    w->ids = mm_arena_alloc(g->arena, b->rows, sizeof *w->ids);
    w->cos = mm_arena_alloc(g->arena, 2 * b->rows * half, sizeof *w->cos);
    if (!w->row || !w->ids || !w->cos) return g->failed = 1;
    w->sin = w->cos + b->rows * half;
    w->n = 0;
    for (size_t i = 0; i < b->n; row += b->pieces[i++].rows) {
        const mm_lm_piece *p = &b->pieces[i];
        const size_t slot = p->part->slot, first = b->c->len[slot] - b->c->given[slot] + p->from - mm_lm_uni_marks(p->part);
        for (size_t k = seen_of(p); k < p->rows; k++, w->n++) {
            const float at = (float)(first + k); /* wraps around where the part's marks are more than `from`, and comes back with k */
            w->row[w->n] = row + k;
            w->ids[w->n] = p->part->ids[p->from + k];
            mm_uni_place(w->cos + w->n * half, w->sin + w->n * half, half, (const float[]){ at, at, at });
        }
    }
    return 0;
}

/* Queries, keys and values of all rows: of words as they are, of what was seen as it was handed over. */
static mm_tensor with_seen(mm_graph *g, const mm_lm_batch *b, const words *w, size_t layer, size_t layers, mm_tensor qkv)
{
    if (w->n == b->rows) return qkv;
    mm_tensor all = mm_op_new(g, b->rows, qkv.cols);
    const size_t width = qkv.cols / 3;
    float *to = all.p;
    if (!to || (w->n && !qkv.p)) return none;
    for (size_t i = 0; i < b->n; to += b->pieces[i++].rows * all.cols) {
        const mm_lm_piece *p = &b->pieces[i];
        for (size_t k = 0, n = seen_of(p); k < n; k++) {
            memset(to + k * all.cols, 0, width * sizeof *to);
            memcpy(to + k * all.cols + width, p->part->embd + ((p->from + k) * layers + layer) * 2 * width, 2 * width * sizeof *to);
        }
    }
    for (size_t i = 0; i < w->n; i++) memcpy(all.p + w->row[i] * all.cols, qkv.p + i * qkv.cols, qkv.cols * sizeof *to);
    return all;
}

/* As mm_uni_block(), with keys and values kept. */
static mm_tensor block(mm_graph *g, const mm_uni *u, const mm_lm_batch *b, const words *w, size_t layer, const mm_kept *kept, mm_tensor x)
{
    const uni_layer *l = &u->layers[layer];
    const size_t heads = (size_t)u->c.heads, dim = (size_t)(u->c.width / u->c.heads);
    const mmk_kv_shape s = { b->c->lm->opts.kv_type, heads, heads, dim, 1 / sqrtf((float)dim), 0 };
    const mm_ragged all = { (const size_t[]){ 0, x.rows }, 1 };
    const mm_arena_mark mark = mm_graph_here(g);
    const int m = MM_UNI_NEXT;
    if (!w->n) { /* all of it was seen: it is kept, and nothing goes on */
        mm_op_attention_kept(g, with_seen(g, b, w, layer, (size_t)u->c.layers, (mm_tensor){ .cols = 3 * heads * dim }), &s, kept, b->n);
        mm_graph_back(g, mark);
        return x;
    }
    mm_tensor a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm[0][m], u->c.eps, NULL), &l->qkv[m], MMK_ACT_NONE, NULL, NULL);
    a = with_seen(g, b, w, layer, (size_t)u->c.layers, mm_op_rotary(g, a, w->cos, w->sin, 2 * heads, dim));
    a = mm_op_attention_kept(g, a, &s, kept, b->n);
    if (w->n < b->rows) a = mm_op_rows(g, a, w->row, w->n);
    x = mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->out[m], MMK_ACT_NONE, NULL, NULL), &l->scale[0][m], &all, &x);
    a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm[1][m], u->c.eps, NULL), &l->up[m], MMK_ACT_GELU_TANH, NULL, NULL);
    x = mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->down[m], MMK_ACT_NONE, NULL, NULL), &l->scale[1][m], &all, &x);
    mm_graph_back(g, mark);
    return x;
}

/* Which words want logits; zeros where what was seen is asked: nothing follows it but the beginning of a text. */
static void logits(mm_graph *g, const mm_uni *u, mm_lm_batch *b, const words *w, mm_tensor x)
{
    const uni_head *h = &u->head[MM_UNI_NEXT - MM_MODALITIES];
    const size_t vocab = (size_t)u->c.vocab;
    size_t *rows = mm_arena_alloc(g->arena, b->rows, sizeof *rows), *pick = mm_arena_alloc(g->arena, b->rows, sizeof *pick);
    size_t n = rows && pick ? mm_lm_wanted(b, rows) : 0, picked = 0;
    if (!rows || !pick) g->failed = 1;
    if (!n || g->failed) return;
    for (size_t i = 0, k = 0; i < n; i++) {
        while (k < w->n && w->row[k] < rows[i]) k++;
        if (k < w->n && w->row[k] == rows[i]) pick[picked++] = k;
    }
    memset(b->logits, 0, n * vocab * sizeof *b->logits);
    if (picked) {
        mm_tensor y = mm_op_layer_norm(g, mm_op_rows(g, x, pick, picked), &h->last, u->c.eps, NULL);
        y = mm_uni_logits(g, u, mm_op_linear(g, y, &h->out, MMK_ACT_NONE, NULL, NULL));
        for (size_t i = 0, k = 0; i < n && y.p && k < picked; i++)
            if (w->row[pick[k]] == rows[i]) memcpy(b->logits + i * vocab, y.p + k++ * vocab, vocab * sizeof *y.p);
    }
    b->logits += n * vocab;
}

void mm_lm_uni_forward(mm_graph *g, mm_lm_batch *b)
{
    const mm_uni *u = b->c->lm->m->uni;
    words w;
    mm_kept *kept = mm_arena_alloc(g->arena, b->n, sizeof *kept);
    if (!kept || words_of(g, u, b, &w)) {
        g->failed = 1;
        return;
    }
    mm_tensor x = none;
    if (w.n) x = mm_uni_words_in(g, u, w.ids, w.n);
    for (int64_t l = 0; l < u->c.layers && !g->failed; l++) {
        mm_lm_kept(b, (size_t)l, kept);
        x = block(g, u, b, &w, (size_t)l, kept, x);
    }
    if (!g->failed) logits(g, u, b, &w, x);
}

/* ---- what it is about ---- */

mm_model *mm_say_model(mm_lm *lm) { return lm->m->uni ? lm->m : NULL; }

int mm_say_see(mm_lm *lm, const mm_part *what, float **rows, size_t *n, mm_err *err)
{
    mm_model *m = lm->m;
    *rows = NULL;
    *n = 0;
    if (!m->uni) return mm_fail(err, MM_EUNSUP, "this model sees no %s", mm_modality_name(what->mod));
    const size_t layers = (size_t)m->uni->c.layers, width = (size_t)m->uni->c.width;
    mm_graph g = { .kern = m->kern, .arena = m->scratch, .threads = m->opts.threads };
    mm_uni_in in;
    mm_arena_reset(g.arena);
    const int r = mm_uni_part(m, what, &in, g.arena, err);
    if (r) return r;
    const mm_uni_given given = mm_uni_see(&g, m->uni, &in, NULL);
    float *to = g.failed ? NULL : mm_realloc(NULL, given.r.off[1] * layers * 2 * width, sizeof *to);
    if (!to) return mm_fail(err, MM_ENOMEM, "out of memory");
    *rows = to;
    *n = given.r.off[1];
    for (size_t i = 0; i < *n; i++)
        for (size_t l = 0; l < layers; l++, to += 2 * width) memcpy(to, given.qkv[l].p + i * 3 * width + width, 2 * width * sizeof *to);
    return 0;
}

/* Attention over ragged sequences, rotary positions, pooling by a query. */
#include <math.h>
#include <string.h>
#include "graph/tape_int.h"
#include "kernels/mm_grad.h"

static const mm_tensor none;

typedef struct {
    mm_node n;
    mm_tensor qkv, bias;
    mm_attention a;
    mm_ragged r;
} attention_node;

static void attention_back(mm_graph *g, mm_node *node)
{
    attention_node *t = (attention_node *)node;
    const mm_attention *a = &t->a;
    mm_tensor y = node->out, x = t->qkv;
    size_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim, ld = x.cols;
    int fresh = 0, fb = 0;
    float *dx = mm_tape_into(g, x, &fresh), *to = fresh ? dx : mm_tape_scratch(g, x.rows * ld);
    float *db = mm_tape_into(g, t->bias, &fb);
    if (g->failed) return;
    if (db && fb) memset(db, 0, a->heads * x.rows * sizeof *db);
    if (mmk_attention_grad(g->kern, to, ld, to + q, ld, to + q + kv, ld, y.var->d, q, y.p, q, x.p, ld, x.p + q, ld, x.p + q + kv, ld,
                           t->r.off, t->r.n, a->heads, a->kv_heads, a->head_dim, a->scale, a->causal, t->bias.p, db, g->threads))
        g->failed = 1;
    if (fresh) return;
    mm_tape_give(g, x, to, NULL);
    mm_tape_unscratch(g, to);
}

mm_tensor mm_op_attention(mm_graph *g, mm_tensor qkv, const mm_attention *a, const mm_ragged *r, const mm_tensor *key_bias)
{
    if (!qkv.p || (key_bias && !key_bias->p)) return none;
    size_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    mm_tensor y = mm_op_new(g, qkv.rows, q);
    if (!y.p) return none;
    if (mmk_attention(g->kern, y.p, q, qkv.p, qkv.cols, qkv.p + q, qkv.cols, qkv.p + q + kv, qkv.cols, r->off, r->n,
                      a->heads, a->kv_heads, a->head_dim, a->scale, a->causal, key_bias ? key_bias->p : NULL, g->threads)) {
        g->failed = 1;
        return none;
    }
    if (!MM_WANTS(g, qkv.var || (key_bias && key_bias->var))) return y;
    attention_node *t = mm_tape_add(g, &y, sizeof *t, attention_back);
    size_t *off = mm_tape_alloc(g, r->n + 1, sizeof *off);
    if (!t || !off) return none;
    memcpy(off, r->off, (r->n + 1) * sizeof *off);
    t->qkv = qkv;
    t->bias = key_bias ? *key_bias : none;
    t->a = *a;
    t->r = (mm_ragged){ off, r->n };
    return y;
}

/* ---- rotary ---- */

typedef struct {
    mm_node n;
    const float *cos, *sin;
    size_t heads, head_dim;
} rotary_node;

static void rotate(const mm_graph *g, float *x, size_t rows, size_t ld, const rotary_node *t, int back)
{
    size_t piece = 64, half = t->head_dim / 2;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * t->heads * t->head_dim) * 3)) schedule(static)
    for (size_t r = 0; r < rows; r += piece)
        g->kern->rotary(x + r * ld, t->cos + r * half, t->sin + r * half, rows - r < piece ? rows - r : piece, t->heads, t->head_dim, ld,
                        back);
}

static void rotary_back(mm_graph *g, mm_node *node)
{
    rotate(g, node->out.var->d, node->out.rows, node->out.cols, (rotary_node *)node, 1);
}

mm_tensor mm_op_rotary(mm_graph *g, mm_tensor x, const float *cos, const float *sin, size_t heads, size_t head_dim)
{
    if (!x.p) return none;
    const rotary_node how = { .cos = cos, .sin = sin, .heads = heads, .head_dim = head_dim };
    rotate(g, x.p, x.rows, x.cols, &how, 0);
    if (!MM_WANTS(g, x.var)) return x;
    rotary_node *t = mm_tape_add_inplace(g, x, sizeof *t, rotary_back);
    if (!t) return none;
    t->cos = cos;
    t->sin = sin;
    t->heads = heads;
    t->head_dim = head_dim;
    return x;
}

/* ---- queries ---- */

mm_tensor mm_op_query(mm_graph *g, const float *query, mm_tensor kv, const mm_attention *a, const mm_ragged *r)
{
    if (MM_WANTS(g, kv.var)) g->failed = 1;
    if (!kv.p || g->failed) return none;
    size_t d = a->head_dim, w = a->heads * d, longest = 0;
    mm_tensor y = mm_op_new(g, r->n, w);
    for (size_t s = 0; s < r->n; s++)
        if (r->off[s + 1] - r->off[s] > longest) longest = r->off[s + 1] - r->off[s];
    mm_tensor p = mm_op_new(g, 1, longest ? longest : 1);
    if (!y.p || !p.p) return none;
    memset(y.p, 0, r->n * w * sizeof *y.p);
    for (size_t s = 0; s < r->n; s++)
        for (size_t h = 0; h < a->heads; h++) {
            size_t n = r->off[s + 1] - r->off[s];
            const float *k = kv.p + r->off[s] * kv.cols + h * d, *v = k + w;
            float *out = y.p + s * w + h * d;
            if (!n) continue;
            for (size_t i = 0; i < n; i++) p.p[i] = a->scale * g->kern->dot_f32(query + h * d, k + i * kv.cols, d);
            g->kern->softmax(p.p, 1, n, n);
            for (size_t i = 0; i < n; i++)
                for (size_t c = 0; c < d; c++) out[c] += p.p[i] * v[i * kv.cols + c];
        }
    return y;
}

typedef struct {
    mm_node n;
    mm_tensor x, query;
    const float *p; /* [heads, rows] */
    size_t heads;
    mm_ragged r;
} attend_node;

static void attend_back(mm_graph *g, mm_node *node)
{
    attend_node *t = (attend_node *)node;
    mm_tensor x = t->x, y = node->out;
    size_t d = x.cols / t->heads, rows = x.rows, cols = x.cols;
    int fresh = 0, fresh_x = 0;
    float *ds = mm_tape_scratch(g, t->heads * rows), *dq = mm_tape_into(g, t->query, &fresh); /* ds: of the logits */
    if (dq && fresh) memset(dq, 0, cols * sizeof *dq);
    float *dx = mm_tape_into(g, x, &fresh_x);
    if (g->failed) return;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols) * 6)) schedule(dynamic, 1)
    for (size_t s = 0; s < t->r.n; s++) {
        size_t from = t->r.off[s], to = t->r.off[s + 1];
        if (dx && fresh_x) memset(dx + from * cols, 0, (to - from) * cols * sizeof *dx);
        for (size_t h = 0; h < t->heads; h++) {
            const float *dy = y.var->d + s * cols + h * d, *q = t->query.p + h * d, *p = t->p + h * rows;
            float *each = ds + h * rows, mean = 0;
            for (size_t i = from; i < to; i++) mean += p[i] * (each[i] = g->kern->dot_f32(dy, x.p + i * cols + h * d, d));
            for (size_t i = from; i < to; i++) {
                each[i] = p[i] * (each[i] - mean);
                if (!dx) continue;
                g->kern->axpy(dx + i * cols + h * d, p[i], dy, d);
                g->kern->axpy(dx + i * cols + h * d, each[i], q, d);
            }
        }
    }
    for (size_t h = 0; h < t->heads && dq; h++)
        for (size_t i = 0; i < rows; i++) g->kern->axpy(dq + h * d, ds[h * rows + i], x.p + i * cols + h * d, d);
    mm_tape_unscratch(g, ds);
}

mm_tensor mm_op_attend(mm_graph *g, mm_tensor x, mm_tensor query, size_t heads, const mm_ragged *r)
{
    if (!x.p || !query.p) return none;
    size_t d = x.cols / heads, rows = x.rows;
    mm_tensor y = mm_op_new(g, r->n, x.cols), p = mm_op_new(g, heads, rows);
    if (!y.p || !p.p) return none;
    memset(y.p, 0, r->n * x.cols * sizeof *y.p);
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * x.cols) * 4)) schedule(dynamic, 1)
    for (size_t s = 0; s < r->n; s++)
        for (size_t h = 0; h < heads; h++) {
            size_t from = r->off[s], to = r->off[s + 1];
            float *w = p.p + h * rows, *out = y.p + s * x.cols + h * d;
            if (from == to) continue;
            for (size_t i = from; i < to; i++) w[i] = g->kern->dot_f32(query.p + h * d, x.p + i * x.cols + h * d, d);
            g->kern->softmax(w + from, 1, to - from, to - from);
            for (size_t i = from; i < to; i++) g->kern->axpy(out, w[i], x.p + i * x.cols + h * d, d);
        }
    if (!MM_WANTS(g, x.var || query.var)) return y;
    attend_node *t = mm_tape_add(g, &y, sizeof *t, attend_back);
    size_t *off = mm_tape_alloc(g, r->n + 1, sizeof *off);
    if (!t || !off) return none;
    memcpy(off, r->off, (r->n + 1) * sizeof *off);
    t->x = x;
    t->query = query;
    t->p = p.p;
    t->heads = heads;
    t->r = (mm_ragged){ off, r->n };
    return y;
}

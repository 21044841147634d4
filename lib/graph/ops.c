#include <string.h>
#include "graph/mm_graph.h"

static const mm_tensor none;

mm_tensor mm_op_new(mm_graph *g, size_t rows, size_t cols)
{
    size_t n;
    float *p = g->failed || mm_mul(rows, cols, &n) ? NULL : mm_arena_alloc(g->arena, n, sizeof(float));
    if (!p) {
        g->failed = 1;
        return none;
    }
    return (mm_tensor){ p, rows, cols };
}

static mm_tensor result(mm_graph *g, const mm_tensor *into, size_t rows, size_t cols)
{
    if (into && into->p && into->rows == rows && into->cols == cols && !g->failed) return *into;
    return mm_op_new(g, rows, cols);
}

mm_tensor mm_op_linear(mm_graph *g, mm_tensor x, const mm_linear *l, mmk_act act, const mm_tensor *residual,
                       const mm_tensor *into)
{
    if (!x.p || (residual && !residual->p)) return none;
    size_t n = mmk_mat_n(l->w);
    mm_tensor y = result(g, into, x.rows, n);
    if (!y.p) return none;
    if (mmk_gemm(y.p, n, x.p, x.cols, x.rows, l->w, l->bias, residual ? residual->p : NULL, n, act, g->threads)) {
        g->failed = 1;
        return none;
    }
    return y;
}

mm_tensor mm_op_layer_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into)
{
    if (!x.p) return none;
    mm_tensor y = result(g, into, x.rows, x.cols);
    if (y.p) g->kern->layer_norm(y.p, x.p, NULL, w->gain, w->bias, x.rows, x.cols, eps);
    return y;
}

mm_tensor mm_op_attention(mm_graph *g, mm_tensor qkv, const mm_attention *a, const mm_ragged *r)
{
    if (!qkv.p) return none;
    size_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    mm_tensor y = mm_op_new(g, qkv.rows, q);
    if (!y.p) return none;
    if (mmk_attention(g->kern, y.p, q, qkv.p, qkv.cols, qkv.p + q, qkv.cols, qkv.p + q + kv, qkv.cols, r->off, r->n,
                      a->heads, a->kv_heads, a->head_dim, a->scale, a->causal, NULL, g->threads)) {
        g->failed = 1;
        return none;
    }
    return y;
}

mm_tensor mm_op_gather(mm_graph *g, const void *table, int dtype, size_t cols, const int32_t *ids, size_t n)
{
    size_t row;
    mm_tensor y = mm_op_new(g, n, cols);
    if (!y.p || mm_dtype_bytes(dtype, cols, &row)) {
        g->failed = 1;
        return none;
    }
    for (size_t i = 0; i < n; i++) mmk_row_to_f32(g->kern, y.p + i * cols, (const char *)table + (size_t)ids[i] * row, dtype, cols);
    return y;
}

mm_tensor mm_op_add_rows(mm_graph *g, mm_tensor x, const float *table, const int32_t *idx)
{
    (void)g;
    for (size_t i = 0; x.p && i < x.rows; i++) {
        float *row = x.p + i * x.cols;
        const float *t = table + (size_t)idx[i] * x.cols;
        for (size_t j = 0; j < x.cols; j++) row[j] += t[j];
    }
    return x;
}

mm_tensor mm_op_pool(mm_graph *g, mm_tensor x, const mm_ragged *r, mm_pool how)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_new(g, r->n, x.cols);
    for (size_t s = 0; y.p && s < r->n; s++) {
        size_t from = r->off[s], n = r->off[s + 1] - from;
        float *out = y.p + s * x.cols;
        const float *first = x.p + from * x.cols;
        if (!n) memset(out, 0, x.cols * sizeof *out);
        else if (how == MM_POOL_MEAN) g->kern->pool_mean(out, first, n, x.cols, x.cols);
        else if (how == MM_POOL_MAX) g->kern->pool_max(out, first, n, x.cols, x.cols);
        else memcpy(out, how == MM_POOL_CLS ? first : first + (n - 1) * x.cols, x.cols * sizeof *out);
    }
    return y;
}

mm_tensor mm_op_patches(mm_graph *g, const float *x, const mm_patch_shape *s)
{
    size_t gt = s->frames / s->t, gh = (s->height - s->h) / s->step_h + 1, gw = (s->width - s->w) / s->step_w + 1;
    size_t plane = s->height * s->width;
    mm_tensor y = mm_op_new(g, gt * gh * gw, s->channels * s->t * s->h * s->w);
    float *to = y.p;
    for (size_t it = 0; y.p && it < gt; it++)
        for (size_t iy = 0; iy < gh; iy++)
            for (size_t ix = 0; ix < gw; ix++)
                for (size_t c = 0; c < s->channels; c++)
                    for (size_t t = 0; t < s->t; t++) {
                        const float *from = x + ((it * s->t + t) * s->channels + c) * plane + iy * s->step_h * s->width + ix * s->step_w;
                        for (size_t r = 0; r < s->h; r++, to += s->w) memcpy(to, from + r * s->width, s->w * sizeof *to);
                    }
    return y;
}

mm_tensor mm_op_rows(mm_graph *g, mm_tensor x, const size_t *idx, size_t n)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_new(g, n, x.cols);
    for (size_t i = 0; y.p && i < n; i++) memcpy(y.p + i * x.cols, x.p + idx[i] * x.cols, x.cols * sizeof *y.p);
    return y;
}

mm_tensor mm_op_query(mm_graph *g, const float *query, mm_tensor kv, const mm_attention *a, const mm_ragged *r)
{
    if (!kv.p) return none;
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

mm_tensor mm_op_normalize(mm_graph *g, mm_tensor x)
{
    if (x.p) g->kern->l2_normalize(x.p, x.rows, x.cols);
    return x;
}

/* What decoders add: RMS norm, gated activation, attention over what is kept. None has a gradient yet: where one would be needed the graph
 * fails. */
#include "graph/tape_int.h"

static const mm_tensor none;

static mm_tensor refuse(mm_graph *g)
{
    g->failed = 1;
    return none;
}

mm_tensor mm_op_rms_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into)
{
    if (MM_WANTS(g, x.var || mm_param_wants(w->pgain))) return refuse(g);
    if (!x.p) return none;
    mm_tensor y = mm_op_result(g, into, x.rows, x.cols);
    size_t d = x.cols;
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * d) * 2)) schedule(static)
    for (size_t r = 0; r < x.rows; r += MM_BLOCK)
        g->kern->rms_norm(y.p + r * d, x.p + r * d, w->gain, x.rows - r < MM_BLOCK ? x.rows - r : MM_BLOCK, d, eps);
    return y;
}

mm_tensor mm_op_norm_heads(mm_graph *g, mm_tensor x, size_t at, size_t heads, size_t head_dim, const mm_norm *w, float eps)
{
    if (MM_WANTS(g, x.var || mm_param_wants(w->pgain))) return refuse(g);
    if (!x.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * heads * head_dim) * 2)) schedule(static)
    for (size_t r = 0; r < x.rows; r++) {
        float *p = x.p + r * x.cols + at;
        g->kern->rms_norm(p, p, w->gain, heads, head_dim, eps);
    }
    return x;
}

mm_tensor mm_op_gate(mm_graph *g, mm_tensor x, mmk_act act)
{
    if (MM_WANTS(g, x.var)) return refuse(g);
    size_t n = x.cols / 2;
    mm_tensor y = x.p ? mm_op_new(g, x.rows, n) : none;
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * n) * 4)) schedule(static)
    for (size_t r = 0; r < x.rows; r++) {
        float *restrict gate = x.p + r * x.cols, *restrict to = y.p + r * n;
        const float *restrict up = gate + n;
        g->kern->act(gate, n, act);
#pragma omp simd
        for (size_t i = 0; i < n; i++) to[i] = gate[i] * up[i];
    }
    return y;
}

mm_tensor mm_op_attention_kept(mm_graph *g, mm_tensor qkv, const mmk_kv_shape *s, const mm_kept *kept, size_t n)
{
    if (MM_WANTS(g, qkv.var)) return refuse(g);
    size_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim, row = 0;
    mm_tensor y = qkv.p ? mm_op_new(g, qkv.rows, q) : none;
    mmk_kv_part *parts = mm_arena_alloc(g->arena, n, sizeof *parts);
    if (!y.p || !parts) return refuse(g);
    for (size_t i = 0; i < n; row += kept[i++].rows) {
        const float *x = qkv.p + row * qkv.cols;
        parts[i] = (mmk_kv_part){ .out = y.p + row * q, .q = x, .k = x + q, .v = x + q + kv, .ldo = q, .ld = qkv.cols, .n = kept[i].rows,
                                  .first = kept[i].first, .keys = kept[i].keys, .values = kept[i].values, .tokens = kept[i].tokens };
    }
    return mmk_kv_attention(g->kern, parts, n, s, g->threads) == MMK_OK ? y : refuse(g);
}

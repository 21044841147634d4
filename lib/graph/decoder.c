/* What decoders add: RMS norm, gated activation, attention over what is kept. The last has no gradient: where one would be needed the graph
 * fails. */
#include <math.h>
#include <omp.h>
#include <string.h>
#include "graph/tape_int.h"

static const mm_tensor none;

static mm_tensor refuse(mm_graph *g)
{
    g->failed = 1;
    return none;
}

/* ---- RMS norm of `heads` parts of a row, from column `at` on; the rest of it is passed on ---- */

typedef struct {
    mm_node n;
    mm_tensor x;
    const mm_norm *w;
    size_t at, heads, head_dim;
    float eps;
} rms_node;

/* dx (+)= what the norm makes of dy, one part; sum (NULL: not wanted) += the gain's gradient. */
static void rms_part_back(const mm_graph *g, float *dx, int fresh, float *sum, const float *dy, const float *x, const rms_node *t)
{
    const size_t d = t->head_dim;
    const float *gain = t->w->gain, s = 1 / (float)sqrt(g->kern->sumsq(x, d) / (double)d + (double)t->eps);
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (size_t i = 0; i < d; i++) dot += dy[i] * gain[i] * x[i];
    const float back = dot * s * s * s / (float)d;
    for (size_t i = 0; i < d && sum; i++) sum[i] += dy[i] * x[i] * s;
    if (!dx) return;
    if (fresh) memset(dx, 0, d * sizeof *dx);
#pragma omp simd
    for (size_t i = 0; i < d; i++) dx[i] += s * gain[i] * dy[i] - back * x[i];
}

static void rms_back(mm_graph *g, mm_node *node)
{
    rms_node *t = (rms_node *)node;
    const size_t rows = t->x.rows, cols = t->x.cols, d = t->head_dim, end = t->at + t->heads * d, blocks = mm_blocks(rows);
    int fresh = 0;
    float *dx = mm_tape_into(g, t->x, &fresh), *sums = mm_param_wants(t->w->pgain) ? mm_tape_scratch(g, blocks * d) : NULL;
    if (g->failed) return;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols) * 6)) schedule(static)
    for (size_t b = 0; b < blocks; b++) {
        if (sums) memset(sums + b * d, 0, d * sizeof *sums);
        for (size_t r = b * MM_BLOCK; r < rows && r < (b + 1) * MM_BLOCK; r++) {
            const float *dy = node->out.var->d + r * cols, *x = t->x.p + r * cols;
            float *to = dx ? dx + r * cols : NULL;
            if (to && fresh) {
                memcpy(to, dy, t->at * sizeof *to);
                memcpy(to + end, dy + end, (cols - end) * sizeof *to);
            } else if (to) {
                g->kern->axpy(to, 1, dy, t->at);
                g->kern->axpy(to + end, 1, dy + end, cols - end);
            }
            for (size_t h = 0, c = t->at; h < t->heads; h++, c += d)
                rms_part_back(g, to ? to + c : NULL, to && fresh, sums ? sums + b * d : NULL, dy + c, x + c, t);
        }
    }
    if (sums) mm_add_rows(t->w->pgain->grad, sums, blocks, d, d);
    mm_tape_unscratch(g, sums);
}

static mm_tensor record_rms(mm_graph *g, mm_tensor y, const rms_node *how)
{
    if (!MM_WANTS(g, how->x.var || mm_param_wants(how->w->pgain))) return y;
    rms_node *t = mm_tape_add(g, &y, sizeof *t, rms_back);
    if (!t) return none;
    t->x = how->x;
    t->w = how->w;
    t->at = how->at;
    t->heads = how->heads;
    t->head_dim = how->head_dim;
    t->eps = how->eps;
    return y;
}

mm_tensor mm_op_rms_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_result(g, into, x.rows, x.cols);
    size_t d = x.cols;
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * d) * 2)) schedule(static)
    for (size_t r = 0; r < x.rows; r += MM_BLOCK)
        g->kern->rms_norm(y.p + r * d, x.p + r * d, w->gain, x.rows - r < MM_BLOCK ? x.rows - r : MM_BLOCK, d, eps);
    return record_rms(g, y, &(rms_node){ .x = x, .w = w, .heads = 1, .head_dim = d, .eps = eps });
}

mm_tensor mm_op_norm_heads(mm_graph *g, mm_tensor x, size_t at, size_t heads, size_t head_dim, const mm_norm *w, float eps)
{
    if (!x.p) return none;
    mm_tensor y = g->tape ? mm_op_new(g, x.rows, x.cols) : x;
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * heads * head_dim) * 2)) schedule(static)
    for (size_t r = 0; r < x.rows; r++) {
        float *p = y.p + r * x.cols;
        if (g->tape) memcpy(p, x.p + r * x.cols, x.cols * sizeof *p);
        g->kern->rms_norm(p + at, p + at, w->gain, heads, head_dim, eps);
    }
    return record_rms(g, y, &(rms_node){ .x = x, .w = w, .at = at, .heads = heads, .head_dim = head_dim, .eps = eps });
}

/* ---- gated activation ---- */

typedef struct {
    mm_node n;
    mm_tensor x;
    mmk_act act;
} gate_node;

static void gate_back(mm_graph *g, mm_node *node)
{
    gate_node *t = (gate_node *)node;
    const size_t n = node->out.cols, rows = t->x.rows;
    int fresh = 0;
    float *dx = mm_tape_into(g, t->x, &fresh), *own = mm_tape_scratch(g, 2 * n * (size_t)g->threads);
    if (g->failed) return;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * n) * 8)) schedule(static)
    for (size_t r = 0; r < rows; r++) {
        const float *restrict dy = node->out.var->d + r * n, *gate = t->x.p + r * 2 * n, *restrict up = gate + n;
        float *to = dx + r * 2 * n, *restrict a = own + 2 * n * (size_t)omp_get_thread_num(), *restrict b = a + n;
        memcpy(b, gate, n * sizeof *b);
        g->kern->act(b, n, t->act);
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            a[i] = dy[i] * up[i];
            b[i] = dy[i] * b[i];
        }
        g->kern->act_grad(a, a, gate, n, t->act);
        if (fresh) memcpy(to, a, 2 * n * sizeof *to);
        else g->kern->axpy(to, 1, a, 2 * n);
    }
    mm_tape_unscratch(g, own);
}

mm_tensor mm_op_gate(mm_graph *g, mm_tensor x, mmk_act act)
{
    size_t n = x.cols / 2;
    mm_tensor y = x.p ? mm_op_new(g, x.rows, n) : none;
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * n) * 4)) schedule(static)
    for (size_t r = 0; r < x.rows; r++) {
        float *gate = x.p + r * 2 * n, *restrict to = y.p + r * n;
        const float *restrict up = gate + n;
        if (g->tape) gate = memcpy(to, gate, n * sizeof *to);
        g->kern->act(gate, n, act);
#pragma omp simd
        for (size_t i = 0; i < n; i++) to[i] = gate[i] * up[i];
    }
    if (!MM_WANTS(g, x.var)) return y;
    gate_node *t = mm_tape_add(g, &y, sizeof *t, gate_back);
    if (!t) return none;
    t->x = x;
    t->act = act;
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

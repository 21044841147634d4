/* What weighs the parts of a record against each other. All of it is small: a few rows per record. */
#include <math.h>
#include <string.h>
#include "graph/tape_int.h"

static const mm_tensor none;

typedef struct {
    mm_node n;
    mm_tensor a, b;
    const mm_tensor *parts;
    size_t count;
    mm_ragged r;
} mix_node;

static const size_t *own_offsets(mm_graph *g, const mm_ragged *r)
{
    size_t *off = mm_tape_alloc(g, r->n + 1, sizeof *off);
    if (off) memcpy(off, r->off, (r->n + 1) * sizeof *off);
    return off;
}

static void beside_back(mm_graph *g, mm_node *node)
{
    mix_node *t = (mix_node *)node;
    const float *d = node->out.var->d;
    size_t at = 0, cols = node->out.cols;
    for (size_t k = 0; k < t->count; at += t->parts[k++].cols) {
        mm_tensor x = t->parts[k];
        int fresh = 0;
        float *dx = mm_tape_into(g, x, &fresh);
        for (size_t i = 0; dx && i < x.rows; i++)
            for (size_t c = 0; c < x.cols; c++) dx[i * x.cols + c] = d[i * cols + at + c] + (fresh ? 0 : dx[i * x.cols + c]);
    }
}

mm_tensor mm_op_beside(mm_graph *g, const mm_tensor *x, size_t n)
{
    size_t cols = 0, at = 0;
    int wants = 0;
    for (size_t k = 0; k < n; k++) {
        if (!x[k].p) return none;
        cols += x[k].cols;
        wants |= x[k].var != NULL;
    }
    mm_tensor y = mm_op_new(g, x[0].rows, cols);
    if (!y.p) return none;
    for (size_t k = 0; k < n; at += x[k++].cols)
        for (size_t i = 0; i < y.rows; i++) memcpy(y.p + i * cols + at, x[k].p + i * x[k].cols, x[k].cols * sizeof *y.p);
    if (!MM_WANTS(g, wants)) return y;
    mix_node *t = mm_tape_add(g, &y, sizeof *t, beside_back);
    mm_tensor *own = mm_tape_alloc(g, n, sizeof *own);
    if (!t || !own) return none;
    memcpy(own, x, n * sizeof *own);
    t->parts = own;
    t->count = n;
    return y;
}

static void outer_back(mm_graph *g, mm_node *node)
{
    mix_node *t = (mix_node *)node;
    const float *d = node->out.var->d;
    size_t n = node->out.rows, m = node->out.cols;
    int fa = 0, fb = 0;
    float *da = mm_tape_into(g, t->a, &fa), *db = mm_tape_into(g, t->b, &fb);
    if (g->failed) return;
    for (size_t i = 0; da && i < n; i++) da[i] = g->kern->dot_f32(d + i * m, t->b.p, m) + (fa ? 0 : da[i]);
    if (db && fb) memset(db, 0, m * sizeof *db);
    for (size_t i = 0; db && i < n; i++) g->kern->axpy(db, t->a.p[i], d + i * m, m);
}

mm_tensor mm_op_outer(mm_graph *g, mm_tensor a, mm_tensor b)
{
    if (!a.p || !b.p) return none;
    mm_tensor y = mm_op_new(g, a.rows, b.cols);
    for (size_t i = 0; y.p && i < y.rows; i++)
        for (size_t k = 0; k < y.cols; k++) y.p[i * y.cols + k] = a.p[i] * b.p[k];
    if (!y.p || !MM_WANTS(g, a.var || b.var)) return y;
    mix_node *t = mm_tape_add(g, &y, sizeof *t, outer_back);
    if (!t) return none;
    t->a = a;
    t->b = b;
    return y;
}

static void log_softmax_back(mm_graph *g, mm_node *node)
{
    mix_node *t = (mix_node *)node;
    const float *d = node->out.var->d, *y = node->out.p;
    int fresh = 0;
    float *dx = mm_tape_into(g, t->a, &fresh);
    for (size_t s = 0; dx && s < t->r.n; s++) {
        float sum = 0;
        for (size_t i = t->r.off[s]; i < t->r.off[s + 1]; i++) sum += d[i];
        for (size_t i = t->r.off[s]; i < t->r.off[s + 1]; i++) dx[i] = d[i] - expf(y[i]) * sum + (fresh ? 0 : dx[i]);
    }
}

mm_tensor mm_op_log_softmax_runs(mm_graph *g, mm_tensor x, const mm_ragged *r)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_new(g, x.rows, 1);
    for (size_t s = 0; y.p && s < r->n; s++) {
        float max = -INFINITY, sum = 0;
        for (size_t i = r->off[s]; i < r->off[s + 1]; i++) max = x.p[i] > max ? x.p[i] : max;
        for (size_t i = r->off[s]; i < r->off[s + 1]; i++) sum += expf(x.p[i] - max);
        for (size_t i = r->off[s]; i < r->off[s + 1]; i++) y.p[i] = x.p[i] - max - logf(sum);
    }
    if (!y.p || !MM_WANTS(g, x.var)) return y;
    mix_node *t = mm_tape_add(g, &y, sizeof *t, log_softmax_back);
    if (!t) return none;
    t->a = x;
    t->r = (mm_ragged){ own_offsets(g, r), r->n };
    return t->r.off ? y : none;
}

static void mix_back(mm_graph *g, mm_node *node)
{
    mix_node *t = (mix_node *)node;
    const float *d = node->out.var->d;
    size_t cols = node->out.cols;
    int fx = 0, fw = 0;
    float *dx = mm_tape_into(g, t->a, &fx), *dw = mm_tape_into(g, t->b, &fw);
    if (g->failed) return;
    if (dx && fx) memset(dx, 0, t->a.rows * cols * sizeof *dx);
    for (size_t s = 0; s < t->r.n; s++)
        for (size_t i = t->r.off[s]; i < t->r.off[s + 1]; i++) {
            float w = expf(t->b.p[i]);
            if (dx) g->kern->axpy(dx + i * cols, w, d + s * cols, cols);
            if (dw) dw[i] = w * g->kern->dot_f32(d + s * cols, t->a.p + i * cols, cols) + (fw ? 0 : dw[i]);
        }
}

mm_tensor mm_op_mix_runs(mm_graph *g, mm_tensor x, mm_tensor w, const mm_ragged *r)
{
    if (!x.p || !w.p) return none;
    mm_tensor y = mm_op_new(g, r->n, x.cols);
    if (!y.p) return none;
    memset(y.p, 0, r->n * x.cols * sizeof *y.p);
    for (size_t s = 0; s < r->n; s++)
        for (size_t i = r->off[s]; i < r->off[s + 1]; i++) g->kern->axpy(y.p + s * x.cols, expf(w.p[i]), x.p + i * x.cols, x.cols);
    if (!MM_WANTS(g, x.var || w.var)) return y;
    mix_node *t = mm_tape_add(g, &y, sizeof *t, mix_back);
    if (!t) return none;
    t->a = x;
    t->b = w;
    t->r = (mm_ragged){ own_offsets(g, r), r->n };
    return t->r.off ? y : none;
}

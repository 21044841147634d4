/* Linear layers. A packed weight goes through mmk_gemm(), a parameter through mmk_matmul(). */
#include <string.h>
#include "graph/tape_int.h"
#include "kernels/mm_grad.h"

static const mm_tensor none;

typedef struct {
    mm_node n;
    mm_tensor x, res; /* res.p NULL: none */
    const float *z;   /* before the activation; NULL: there is none */
    mmk_act act;
    const mm_linear *const *l;
    mm_ragged runs;
} linear_node;

static size_t width_of(const mm_linear *l) { return l->w ? mmk_mat_n(l->w) : l->pw->rows; }

static int forward(const mm_graph *g, float *y, mm_tensor x, const mm_linear *const *l, const mm_ragged *runs, size_t n, mmk_act act,
                   const float *res)
{
    int r = 0;
    for (size_t i = 0; i < runs->n && !r; i++) {
        size_t at = runs->off[i], rows = runs->off[i + 1] - at;
        const float *in = x.p + at * x.cols, *add = res ? res + at * n : NULL;
        if (l[i]->w)
            r = mmk_gemm(y + at * n, n, in, x.cols, rows, l[i]->w, l[i]->bias, add, n, act, g->threads);
        else
            r = mmk_matmul(g->kern, y + at * n, n, rows, n, x.cols, in, x.cols, 0, l[i]->pw->w, x.cols, 1, l[i]->bias, add, n, act,
                           g->threads);
    }
    return r;
}

/* y = act(z) + residual */
static void activate(const mm_graph *g, float *y, const float *z, size_t total, mmk_act act, const float *res)
{
#pragma omp parallel for num_threads(mm_threads_for(g, (double)total * 4)) schedule(static)
    for (size_t at = 0; at < total; at += MM_CHUNK) {
        size_t m = total - at < MM_CHUNK ? total - at : MM_CHUNK;
        float *restrict to = y + at;
        memcpy(to, z + at, m * sizeof *y);
        g->kern->act(to, m, act);
        if (!res) continue;
        const float *restrict add = res + at;
#pragma omp simd
        for (size_t i = 0; i < m; i++) to[i] += add[i];
    }
}

static void again(mm_graph *g, mm_node *node)
{
    linear_node *t = (linear_node *)node;
    activate(g, node->out.p, t->z, node->out.rows * node->out.cols, t->act, t->res.p);
}

/* Of rows that share a bias: dz = dy act'(z), and the bias's gradient, in one walk over them. part: scratch, [blocks, n]. */
static void before_product(const mm_graph *g, float *dz, const float *dy, const float *z, size_t rows, size_t n, mmk_act act, float *bias,
                           float *part)
{
    size_t blocks = mm_blocks(rows), step = MM_CHUNK / n ? MM_CHUNK / n : 1;
    if (step > 4) step -= step % 4;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * n) * 4)) schedule(static)
    for (size_t b = 0; b < blocks; b++) {
        size_t end = rows - b * MM_BLOCK < MM_BLOCK ? rows : (b + 1) * MM_BLOCK;
        if (bias) memset(part + b * n, 0, n * sizeof *part);
        for (size_t r = b * MM_BLOCK, m; r < end; r += m) {
            m = end - r < step ? end - r : step;
            if (z) g->kern->act_grad(dz + r * n, dy + r * n, z + r * n, m * n, act);
            if (bias) mm_add_rows(part + b * n, dz + r * n, m, n, n);
        }
    }
    if (bias) mm_add_rows(bias, part, blocks, n, n);
}

static void backward(mm_graph *g, mm_node *node)
{
    linear_node *t = (linear_node *)node;
    mm_tensor y = node->out, x = t->x;
    const float *dy = y.var->d;
    float *dz = y.var->d, *own = NULL, *part = NULL;
    size_t n = y.cols, k = x.cols;
    int fresh, failed = 0, biased = 0;
    for (size_t i = 0; i < t->runs.n; i++) biased |= mm_param_wants(t->l[i]->pb);
    if (t->z) mm_tape_give(g, t->res, dy, y.var);
    if (!y.var->d) dz = own = mm_tape_scratch(g, y.rows * n); /* it is the residual's now */
    if (biased) part = mm_tape_scratch(g, mm_blocks(y.rows) * n);
    if (g->failed) return;
    for (size_t i = 0; i < t->runs.n && (t->z || biased); i++) {
        size_t at = t->runs.off[i], rows = t->runs.off[i + 1] - at;
        mm_param *b = t->l[i]->pb;
        before_product(g, dz + at * n, dy + at * n, t->z ? t->z + at * n : NULL, rows, n, t->act, mm_param_wants(b) ? b->grad : NULL, part);
    }
    if (part) mm_tape_unscratch(g, part);
    float *dx = mm_tape_into(g, x, &fresh);
    for (size_t i = 0; i < t->runs.n && !g->failed; i++) {
        size_t at = t->runs.off[i], rows = t->runs.off[i + 1] - at;
        const mm_linear *l = t->l[i];
        const float *d = dz + at * n;
        if (!rows) continue;
        if (mm_param_wants(l->pw))
            failed |= mmk_matmul(g->kern, l->pw->grad, k, n, k, rows, d, n, 1, x.p + at * k, k, 0, NULL, l->pw->grad, k, MMK_ACT_NONE,
                                 g->threads);
        if (dx)
            failed |= mmk_matmul(g->kern, dx + at * k, k, rows, k, n, d, n, 0, l->pw->w, k, 0, NULL, fresh ? NULL : dx + at * k, k,
                                 MMK_ACT_NONE, g->threads);
    }
    if (own) mm_tape_unscratch(g, own);
    if (!t->z) mm_tape_give(g, t->res, dy, y.var); /* last, since x may be the residual too */
    if (failed) g->failed = 1;
}

mm_tensor mm_op_linear_runs(mm_graph *g, mm_tensor x, const mm_linear *const *l, const mm_ragged *runs, mmk_act act,
                            const mm_tensor *residual, const mm_tensor *into)
{
    if (!x.p || (residual && !residual->p)) return none;
    size_t n = width_of(l[0]);
    int wants = x.var || (residual && residual->var);
    for (size_t i = 0; g->tape && i < runs->n; i++) wants |= mm_param_wants(l[i]->pw) || mm_param_wants(l[i]->pb);
    int record = MM_WANTS(g, wants), kept = record && act != MMK_ACT_NONE;
    for (size_t i = 0; g->tape && x.var && i < runs->n; i++)
        if (l[i]->w) g->failed = 1; /* a packed matrix cannot be gone back through */
    if (g->failed) return none;
    mm_tensor y = mm_op_result(g, into, x.rows, n), z = kept ? mm_op_new(g, x.rows, n) : y;
    if (!y.p || !z.p) return none;
    if (forward(g, z.p, x, l, runs, n, kept ? MMK_ACT_NONE : act, residual && !kept ? residual->p : NULL)) {
        g->failed = 1;
        return none;
    }
    if (kept) activate(g, y.p, z.p, x.rows * n, act, residual ? residual->p : NULL);
    if (!record) return y;
    linear_node *t = mm_tape_add(g, &y, sizeof *t, backward);
    const mm_linear **own = mm_tape_alloc(g, runs->n, sizeof *own);
    size_t *off = mm_tape_alloc(g, runs->n + 1, sizeof *off);
    if (!t || !own || !off) return none;
    memcpy(own, l, runs->n * sizeof *own);
    memcpy(off, runs->off, (runs->n + 1) * sizeof *off);
    t->x = x;
    t->res = residual ? *residual : none;
    t->z = kept ? z.p : NULL;
    if (kept) t->n.again = again;
    t->act = act;
    t->l = own;
    t->runs = (mm_ragged){ off, runs->n };
    return y;
}

mm_tensor mm_op_linear(mm_graph *g, mm_tensor x, const mm_linear *l, mmk_act act, const mm_tensor *residual, const mm_tensor *into)
{
    const size_t off[2] = { 0, x.rows };
    return mm_op_linear_runs(g, x, &l, &(mm_ragged){ off, 1 }, act, residual, into);
}

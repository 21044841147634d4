/* Operations on single rows: norms, gates, sums. */
#include <math.h>
#include <omp.h>
#include <string.h>
#include "graph/tape_int.h"
#include "kernels/mm_grad.h"

static const mm_tensor none;

typedef struct {
    mm_node n;
    mm_tensor x;
    const mm_norm *const *w;
    mm_ragged runs;
    float eps;
} norm_node;

static void norm(const mm_graph *g, float *y, mm_tensor x, const mm_norm *const *w, const mm_ragged *runs, float eps)
{
    for (size_t i = 0; i < runs->n; i++) {
        size_t from = runs->off[i], to = runs->off[i + 1], d = x.cols;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)((to - from) * d) * 4)) schedule(static)
        for (size_t r = from; r < to; r += MM_BLOCK)
            g->kern->layer_norm(y + r * d, x.p + r * d, NULL, w[i]->gain, w[i]->bias, to - r < MM_BLOCK ? to - r : MM_BLOCK, d, eps);
    }
}

static void norm_again(mm_graph *g, mm_node *node)
{
    norm_node *t = (norm_node *)node;
    norm(g, node->out.p, t->x, t->w, &t->runs, t->eps);
}

static void norm_back(mm_graph *g, mm_node *node)
{
    norm_node *t = (norm_node *)node;
    mm_tensor y = node->out, x = t->x;
    float *dy = y.var->d, *dx = NULL;
    size_t d = x.cols, each = MM_BLOCK * d;
    int fresh;
    if (x.var && x.var->d) dx = mm_tape_into(g, x, &fresh); /* else x's gradient takes the place of y's */
    float *sums = mm_tape_scratch(g, mm_blocks(x.rows) * 2 * d), *own = dx ? mm_tape_scratch(g, (size_t)g->threads * each) : NULL;
    for (size_t i = 0; i < t->runs.n && !g->failed; i++) {
        size_t from = t->runs.off[i], rows = t->runs.off[i + 1] - from, n = mm_blocks(rows);
        const mm_norm *w = t->w[i];
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * d) * 8)) schedule(static)
        for (size_t b = 0; b < n; b++) {
            size_t at = (from + b * MM_BLOCK) * d, m = rows - b * MM_BLOCK < MM_BLOCK ? rows - b * MM_BLOCK : MM_BLOCK;
            float *sum = sums + b * 2 * d, *to = own ? own + (size_t)omp_get_thread_num() * each : dy + at;
            memset(sum, 0, 2 * d * sizeof *sum);
            g->kern->layer_norm_grad(to, sum, sum + d, dy + at, x.p + at, w->gain, m, d, t->eps);
            if (own) g->kern->axpy(dx + at, 1, to, m * d);
        }
        if (mm_param_wants(w->pgain)) mm_add_rows(w->pgain->grad, sums, n, d, 2 * d);
        if (mm_param_wants(w->pbias)) mm_add_rows(w->pbias->grad, sums + d, n, d, 2 * d);
    }
    mm_tape_unscratch(g, own);
    mm_tape_unscratch(g, sums);
    if (!dx) mm_tape_give(g, x, dy, y.var);
}

mm_tensor mm_op_norm_runs(mm_graph *g, mm_tensor x, const mm_norm *const *w, const mm_ragged *runs, float eps, const mm_tensor *into)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_result(g, into, x.rows, x.cols);
    int wants = x.var != NULL;
    if (!y.p) return none;
    norm(g, y.p, x, w, runs, eps);
    for (size_t i = 0; i < runs->n; i++) wants |= mm_param_wants(w[i]->pgain) || mm_param_wants(w[i]->pbias);
    if (!MM_WANTS(g, wants)) return y;
    norm_node *t = mm_tape_add(g, &y, sizeof *t, norm_back);
    const mm_norm **own = mm_tape_alloc(g, runs->n, sizeof *own);
    size_t *off = mm_tape_alloc(g, runs->n + 1, sizeof *off);
    if (!t || !own || !off) return none;
    memcpy(own, w, runs->n * sizeof *own);
    memcpy(off, runs->off, (runs->n + 1) * sizeof *off);
    t->x = x;
    t->w = own;
    t->runs = (mm_ragged){ off, runs->n };
    t->eps = eps;
    t->n.again = norm_again;
    return y;
}

mm_tensor mm_op_layer_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into)
{
    const size_t off[2] = { 0, x.rows };
    return mm_op_norm_runs(g, x, &w, &(mm_ragged){ off, 1 }, eps, into);
}

/* ---- x + gamma y ---- */

typedef struct {
    mm_node n;
    mm_tensor x, y;
    mm_param *const *gamma;
    mm_ragged runs;
} scaled_node;

static void scaled(const mm_graph *g, float *z, mm_tensor x, mm_tensor y, mm_param *const *gamma, const mm_ragged *runs)
{
    for (size_t i = 0; i < runs->n; i++) {
        const float *w = gamma[i]->w;
        size_t from = runs->off[i], to = runs->off[i + 1], cols = x.cols;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)((to - from) * cols))) schedule(static)
        for (size_t r = from; r < to; r++) {
            float *out = z + r * cols;
            const float *a = x.p + r * cols, *b = y.p + r * cols;
#pragma omp simd
            for (size_t c = 0; c < cols; c++) out[c] = a[c] + w[c] * b[c];
        }
    }
}

static void scaled_again(mm_graph *g, mm_node *node)
{
    scaled_node *t = (scaled_node *)node;
    scaled(g, node->out.p, t->x, t->y, t->gamma, &t->runs);
}

static void scaled_back(mm_graph *g, mm_node *node)
{
    scaled_node *t = (scaled_node *)node;
    const float *d = node->out.var->d;
    size_t cols = node->out.cols;
    int fresh = 0;
    float *dy = mm_tape_into(g, t->y, &fresh), *part = mm_tape_scratch(g, mm_blocks(node->out.rows) * cols);
    for (size_t i = 0; i < t->runs.n && !g->failed; i++) {
        const float *w = t->gamma[i]->w;
        float *grad = t->gamma[i]->grad;
        size_t from = t->runs.off[i], rows = t->runs.off[i + 1] - from, blocks = mm_blocks(rows);
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols) * 2)) schedule(static)
        for (size_t b = 0; b < blocks; b++) {
            size_t end = rows - b * MM_BLOCK < MM_BLOCK ? rows : (b + 1) * MM_BLOCK;
            float *restrict sum = part + b * cols;
            memset(sum, 0, cols * sizeof *sum);
            for (size_t r = from + b * MM_BLOCK; r < from + end; r++) {
                const float *restrict dz = d + r * cols, *restrict y = t->y.p + r * cols;
                float *restrict to = dy + r * cols;
                if (grad) {
#pragma omp simd
                    for (size_t c = 0; c < cols; c++) sum[c] += dz[c] * y[c];
                }
                if (dy && fresh) {
#pragma omp simd
                    for (size_t c = 0; c < cols; c++) to[c] = dz[c] * w[c];
                } else if (dy) {
#pragma omp simd
                    for (size_t c = 0; c < cols; c++) to[c] += dz[c] * w[c];
                }
            }
        }
        if (grad) mm_add_rows(grad, part, blocks, cols, cols);
    }
    mm_tape_unscratch(g, part);
    mm_tape_give(g, t->x, d, node->out.var);
}

mm_tensor mm_op_add_scaled_runs(mm_graph *g, mm_tensor x, mm_tensor y, mm_param *const *gamma, const mm_ragged *runs,
                                const mm_tensor *into)
{
    if (!x.p || !y.p) return none;
    mm_tensor z = mm_op_result(g, into, x.rows, x.cols);
    if (!z.p) return none;
    int wants = x.var || y.var;
    scaled(g, z.p, x, y, gamma, runs);
    for (size_t i = 0; i < runs->n; i++) wants |= mm_param_wants(gamma[i]);
    if (!MM_WANTS(g, wants)) return z;
    scaled_node *t = mm_tape_add(g, &z, sizeof *t, scaled_back);
    mm_param **own = mm_tape_alloc(g, runs->n, sizeof *own);
    size_t *off = mm_tape_alloc(g, runs->n + 1, sizeof *off);
    if (!t || !own || !off) return none;
    memcpy(own, gamma, runs->n * sizeof *own);
    memcpy(off, runs->off, (runs->n + 1) * sizeof *off);
    t->x = x;
    t->y = y;
    t->gamma = own;
    t->runs = (mm_ragged){ off, runs->n };
    t->n.again = scaled_again;
    return z;
}

/* ---- x a + b ---- */

typedef struct {
    mm_node n;
    mm_tensor x, a, b;
} affine_node;

static void affine_back(mm_graph *g, mm_node *node)
{
    affine_node *t = (affine_node *)node;
    const float *d = node->out.var->d;
    size_t cols = node->out.cols, rows = node->out.rows;
    size_t blocks = mm_blocks(rows);
    int fresh = 0;
    float *part = mm_tape_scratch(g, blocks * 2 * cols);
    if (!part) return;
    if (t->a.var || (t->b.p && t->b.var)) {
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols) * 3)) schedule(static)
        for (size_t k = 0; k < blocks; k++) {
            size_t end = rows - k * MM_BLOCK < MM_BLOCK ? rows : (k + 1) * MM_BLOCK;
            float *restrict sa = part + k * 2 * cols, *restrict sb = sa + cols;
            memset(sa, 0, 2 * cols * sizeof *sa);
            for (size_t r = k * MM_BLOCK; r < end; r++) {
                const float *restrict dr = d + r * cols, *restrict x = t->x.p + r * cols;
#pragma omp simd
                for (size_t c = 0; c < cols; c++) {
                    sa[c] += dr[c] * x[c];
                    sb[c] += dr[c];
                }
            }
        }
    }
    /* one after the other, since they may be one tensor */
    float *db = mm_tape_into(g, t->b, &fresh);
    if (db && fresh) memset(db, 0, cols * sizeof *db);
    if (db) mm_add_rows(db, part + cols, blocks, cols, 2 * cols);
    float *da = mm_tape_into(g, t->a, &fresh);
    if (da && fresh) memset(da, 0, cols * sizeof *da);
    if (da) mm_add_rows(da, part, blocks, cols, 2 * cols);
    mm_tape_unscratch(g, part);
    float *dx = mm_tape_into(g, t->x, &fresh);
    if (!dx) return;
    const float *a = t->a.p;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols) * 2)) schedule(static)
    for (size_t r = 0; r < rows; r++) {
        if (fresh) memset(dx + r * cols, 0, cols * sizeof *dx);
#pragma omp simd
        for (size_t c = 0; c < cols; c++) dx[r * cols + c] += d[r * cols + c] * a[c];
    }
}

mm_tensor mm_op_affine(mm_graph *g, mm_tensor x, mm_tensor a, const mm_tensor *b)
{
    if (!x.p || !a.p || (b && !b->p)) return none;
    mm_tensor y = mm_op_new(g, x.rows, x.cols);
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * x.cols) * 2)) schedule(static)
    for (size_t r = 0; r < x.rows; r++) {
        float *restrict out = y.p + r * x.cols;
        const float *restrict in = x.p + r * x.cols;
        if (b) memcpy(out, b->p, x.cols * sizeof *out);
        else memset(out, 0, x.cols * sizeof *out);
#pragma omp simd
        for (size_t c = 0; c < x.cols; c++) out[c] += in[c] * a.p[c];
    }
    if (!MM_WANTS(g, x.var || a.var || (b && b->var))) return y;
    affine_node *t = mm_tape_add(g, &y, sizeof *t, affine_back);
    if (!t) return none;
    t->x = x;
    t->a = a;
    t->b = b ? *b : none;
    return y;
}

/* ---- elementwise, and rows of length 1 ---- */

typedef struct {
    mm_node n;
    mm_tensor x;
    const float *norm;
} row_node;

static void sigmoid_back(mm_graph *g, mm_node *node)
{
    row_node *t = (row_node *)node;
    const float *d = node->out.var->d, *y = node->out.p;
    int fresh = 0;
    float *dx = mm_tape_into(g, t->x, &fresh);
    size_t n = dx ? t->x.var->n : 0;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)n)) schedule(static)
    for (size_t i = 0; i < n; i++) dx[i] = d[i] * y[i] * (1 - y[i]) + (fresh ? 0 : dx[i]);
}

mm_tensor mm_op_sigmoid(mm_graph *g, mm_tensor x)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_new(g, x.rows, x.cols);
    if (!y.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(x.rows * x.cols) * 16)) schedule(static)
    for (size_t i = 0; i < x.rows * x.cols; i++) y.p[i] = 1 / (1 + expf(-x.p[i]));
    if (!MM_WANTS(g, x.var)) return y;
    row_node *t = mm_tape_add(g, &y, sizeof *t, sigmoid_back);
    if (!t) return none;
    t->x = x;
    return y;
}

static void normalize_back(mm_graph *g, mm_node *node)
{
    row_node *t = (row_node *)node;
    int fresh = 0;
    mm_tensor y = node->out;
    float *dx = mm_tape_into(g, t->x, &fresh), *to = fresh ? dx : mm_tape_scratch(g, y.rows * y.cols);
    if (!dx || !to) return;
    g->kern->l2_normalize_grad(to, y.var->d, y.p, t->norm, y.rows, y.cols);
    if (fresh) return;
    mm_tape_give(g, t->x, to, NULL);
    mm_tape_unscratch(g, to);
}

mm_tensor mm_op_normalize(mm_graph *g, mm_tensor x)
{
    if (!x.p) return none;
    mm_tensor y = g->tape ? mm_op_new(g, x.rows, x.cols) : x;
    if (!y.p) return none;
    if (g->tape) memcpy(y.p, x.p, x.rows * x.cols * sizeof *y.p);
    g->kern->l2_normalize(y.p, y.rows, y.cols);
    if (!MM_WANTS(g, x.var)) return y;
    row_node *t = mm_tape_add(g, &y, sizeof *t, normalize_back);
    float *norm = mm_tape_alloc(g, x.rows, sizeof *norm);
    if (!t || !norm) return none;
    for (size_t r = 0; r < x.rows; r++) norm[r] = (float)sqrt(g->kern->sumsq(x.p + r * x.cols, x.cols));
    t->x = x;
    t->norm = norm;
    return y;
}

/* ---- sums of tensors ---- */

typedef struct {
    mm_node n;
    const mm_tensor *x;
    const float *w;
    size_t count;
} sum_node;

static void sum_back(mm_graph *g, mm_node *node)
{
    sum_node *t = (sum_node *)node;
    const float *d = node->out.var->d;
    for (size_t k = 0; k < t->count; k++) {
        int fresh = 0;
        float *dx = mm_tape_into(g, t->x[k], &fresh);
        if (dx) mm_put(g, dx, fresh, t->w[k], d, node->out.var->n);
    }
}

mm_tensor mm_op_sum(mm_graph *g, const mm_tensor *x, const float *w, size_t n)
{
    int wants = 0;
    for (size_t k = 0; k < n; k++) {
        if (!x[k].p) return none;
        wants |= x[k].var != NULL;
    }
    mm_tensor y = mm_op_new(g, x[0].rows, x[0].cols);
    if (!y.p) return none;
    for (size_t k = 0; k < n; k++) mm_put(g, y.p, k == 0, w[k], x[k].p, y.rows * y.cols);
    if (!MM_WANTS(g, wants)) return y;
    sum_node *t = mm_tape_add(g, &y, sizeof *t, sum_back);
    mm_tensor *xs = mm_tape_alloc(g, n, sizeof *xs);
    float *ws = mm_tape_alloc(g, n, sizeof *ws);
    if (!t || !xs || !ws) return none;
    memcpy(xs, x, n * sizeof *xs);
    memcpy(ws, w, n * sizeof *ws);
    t->x = xs;
    t->w = ws;
    t->count = n;
    return y;
}

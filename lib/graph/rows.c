/* Where rows come from and go to: tables, patches, selections, pools; nothing here multiplies matrices. */
#include <string.h>
#include "graph/tape_int.h"

static const mm_tensor none;

mm_tensor mm_op_new(mm_graph *g, size_t rows, size_t cols)
{
    size_t n;
    float *p = g->failed || mm_mul(rows, cols, &n) ? NULL : mm_arena_alloc(g->arena, n, sizeof(float));
    if (!p) {
        g->failed = 1;
        return none;
    }
    mm_tensor x = { p, rows, cols, NULL };
    if (g->tape) mm_tape_note(g, x);
    return x;
}

mm_tensor mm_op_param(mm_graph *g, mm_param *p)
{
    mm_tensor x = { p->w, p->rows, p->cols, NULL };
    if (!MM_WANTS(g, p->grad)) return x;
    mm_var *v = mm_tape_alloc(g, 1, sizeof *v);
    if (!v) return none;
    *v = (mm_var){ .d = p->grad, .n = p->rows * p->cols, .kept = 1 };
    x.var = v;
    return x;
}

mm_tensor mm_op_reshape(mm_graph *g, mm_tensor x, size_t rows, size_t cols)
{
    if (x.p && x.rows * x.cols != rows * cols) g->failed = 1;
    return g->failed ? none : (mm_tensor){ x.p, rows, cols, x.var };
}

/* ---- tables ---- */

typedef struct {
    mm_node n;
    mm_tensor x;
    mm_param *table;
    const int32_t *ids;
    const size_t *idx;
    mm_pool how;
    mm_ragged r;
    size_t count;
    const mm_tensor *parts;
} rows_node;

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

static void lookup_back(mm_graph *g, mm_node *node)
{
    rows_node *t = (rows_node *)node;
    size_t cols = node->out.cols, rows = node->out.rows, width = 64; /* columns of a thread: rows of the table may come several times */
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols))) schedule(static)
    for (size_t c = 0; c < cols; c += width)
        for (size_t i = 0; i < rows; i++)
            g->kern->axpy(t->table->grad + (size_t)t->ids[i] * cols + c, 1, node->out.var->d + i * cols + c,
                          cols - c < width ? cols - c : width);
}

mm_tensor mm_op_lookup(mm_graph *g, mm_param *table, const int32_t *ids, size_t n)
{
    mm_tensor y = mm_op_new(g, n, table->cols);
    for (size_t i = 0; y.p && i < n; i++) memcpy(y.p + i * table->cols, table->w + (size_t)ids[i] * table->cols, table->cols * sizeof *y.p);
    if (!y.p || !MM_WANTS(g, table->grad)) return y;
    rows_node *t = mm_tape_add(g, &y, sizeof *t, lookup_back);
    int32_t *own = mm_tape_alloc(g, n, sizeof *own);
    if (!t || !own) return none;
    memcpy(own, ids, n * sizeof *own);
    t->table = table;
    t->ids = own;
    return y;
}

mm_tensor mm_op_add_rows(mm_graph *g, mm_tensor x, const float *table, const int32_t *idx)
{
    (void)g;
    if (x.var) x.var->changed = 1;
    for (size_t i = 0; x.p && i < x.rows; i++) {
        float *row = x.p + i * x.cols;
        const float *t = table + (size_t)idx[i] * x.cols;
        for (size_t j = 0; j < x.cols; j++) row[j] += t[j];
    }
    return x;
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

/* ---- selections ---- */

static void rows_back(mm_graph *g, mm_node *node)
{
    rows_node *t = (rows_node *)node;
    size_t cols = node->out.cols;
    int fresh = 0;
    float *dx = mm_tape_into(g, t->x, &fresh);
    if (!dx) return;
    if (fresh) memset(dx, 0, t->x.rows * cols * sizeof *dx);
    for (size_t i = 0; i < node->out.rows; i++) g->kern->axpy(dx + t->idx[i] * cols, 1, node->out.var->d + i * cols, cols);
}

mm_tensor mm_op_rows(mm_graph *g, mm_tensor x, const size_t *idx, size_t n)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_new(g, n, x.cols);
    for (size_t i = 0; y.p && i < n; i++) memcpy(y.p + i * x.cols, x.p + idx[i] * x.cols, x.cols * sizeof *y.p);
    if (!y.p || !MM_WANTS(g, x.var)) return y;
    rows_node *t = mm_tape_add(g, &y, sizeof *t, rows_back);
    size_t *own = mm_tape_alloc(g, n, sizeof *own);
    if (!t || !own) return none;
    if (n) memcpy(own, idx, n * sizeof *own);
    t->x = x;
    t->idx = own;
    return y;
}

static void concat_back(mm_graph *g, mm_node *node)
{
    rows_node *t = (rows_node *)node;
    const float *d = node->out.var->d;
    for (size_t k = 0; k < t->count; d += t->parts[k].rows * node->out.cols, k++) mm_tape_give(g, t->parts[k], d, NULL);
}

mm_tensor mm_op_concat(mm_graph *g, const mm_tensor *x, size_t n)
{
    size_t rows = 0;
    int wants = 0;
    for (size_t k = 0; k < n; k++) {
        if (!x[k].p) return none;
        rows += x[k].rows;
        wants |= x[k].var != NULL;
    }
    mm_tensor y = mm_op_new(g, rows, x[0].cols);
    if (!y.p) return none;
    float *to = y.p;
    for (size_t k = 0; k < n; to += x[k].rows * y.cols, k++) memcpy(to, x[k].p, x[k].rows * y.cols * sizeof *to);
    if (!MM_WANTS(g, wants)) return y;
    rows_node *t = mm_tape_add(g, &y, sizeof *t, concat_back);
    mm_tensor *own = mm_tape_alloc(g, n, sizeof *own);
    if (!t || !own) return none;
    memcpy(own, x, n * sizeof *own);
    t->parts = own;
    t->count = n;
    return y;
}

/* ---- pooling ---- */

/* The first row from which the column's largest value comes. */
static size_t largest(const float *x, size_t n, size_t ld)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i * ld] > x[best * ld]) best = i;
    return best;
}

static void pool_back(mm_graph *g, mm_node *node)
{
    rows_node *t = (rows_node *)node;
    size_t cols = node->out.cols;
    int fresh = 0;
    float *dx = mm_tape_into(g, t->x, &fresh);
    if (!dx) return;
    if (fresh) memset(dx, 0, t->x.rows * cols * sizeof *dx);
    for (size_t s = 0; s < t->r.n; s++) {
        size_t from = t->r.off[s], n = t->r.off[s + 1] - from;
        const float *d = node->out.var->d + s * cols;
        if (!n) continue;
        if (t->how == MM_POOL_MEAN)
            for (size_t i = 0; i < n; i++) g->kern->axpy(dx + (from + i) * cols, 1 / (float)n, d, cols);
        else if (t->how == MM_POOL_MAX)
            for (size_t c = 0; c < cols; c++) dx[(from + largest(t->x.p + from * cols + c, n, cols)) * cols + c] += d[c];
        else
            g->kern->axpy(dx + (t->how == MM_POOL_CLS ? from : from + n - 1) * cols, 1, d, cols);
    }
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
    if (!y.p || !MM_WANTS(g, x.var)) return y;
    rows_node *t = mm_tape_add(g, &y, sizeof *t, pool_back);
    size_t *off = mm_tape_alloc(g, r->n + 1, sizeof *off);
    if (!t || !off) return none;
    memcpy(off, r->off, (r->n + 1) * sizeof *off);
    t->x = x;
    t->how = how;
    t->r = (mm_ragged){ off, r->n };
    return y;
}

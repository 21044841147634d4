/* Losses, and the similarities they are taken of. Sums over rows are in float64. */
#include <math.h>
#include <string.h>
#include "graph/tape_int.h"
#include "kernels/mm_grad.h"

static const mm_tensor none;

/* What every loss keeps: its gradient for a loss of weight 1. */
typedef struct {
    mm_node n;
    mm_tensor x;
    const float *d;
} loss_node;

static void loss_back(mm_graph *g, mm_node *node)
{
    loss_node *t = (loss_node *)node;
    int fresh = 0;
    float w = *node->out.var->d, *dx = mm_tape_into(g, t->x, &fresh);
    if (dx) mm_put(g, dx, fresh, w, t->d, t->x.var->n);
}

/* A loss of this value with gradient d [x.rows, x.cols] */
static mm_tensor made(mm_graph *g, mm_tensor x, double value, const float *d)
{
    mm_tensor y = mm_op_new(g, 1, 1);
    if (!y.p) return none;
    *y.p = (float)value;
    if (!MM_WANTS(g, x.var)) return y;
    loss_node *t = mm_tape_add(g, &y, sizeof *t, loss_back);
    if (!t) return none;
    t->x = x;
    t->d = d;
    return y;
}

mm_tensor mm_op_softmax_ce(mm_graph *g, mm_tensor logits, const float *target)
{
    if (!logits.p) return none;
    size_t rows = logits.rows, n = logits.cols;
    mm_tensor d = mm_op_new(g, rows, n), each = mm_op_new(g, rows, 1);
    if (!d.p || !each.p) return none;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * n) * 8)) schedule(static)
    for (size_t r = 0; r < rows; r++)
        g->kern->softmax_ce(d.p + r * n, each.p + r, logits.p + r * n, target + r * n, 1, n, 1 / (float)rows);
    double sum = 0;
    for (size_t r = 0; r < rows; r++) sum += each.p[r];
    return made(g, logits, rows ? sum / (double)rows : 0, d.p);
}

mm_tensor mm_op_class_ce(mm_graph *g, mm_tensor logits, const int32_t *cls)
{
    if (!logits.p) return none;
    size_t rows = logits.rows, n = logits.cols, count = 0;
    mm_tensor d = mm_op_new(g, rows, n), each = mm_op_new(g, rows, 1);
    if (!d.p || !each.p) return none;
    for (size_t r = 0; r < rows; r++) count += cls[r] >= 0;
    const float each_of = 1 / (float)count;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * n) * 8)) schedule(static)
    for (size_t r = 0; r < rows; r++) {
        float *p = d.p + r * n;
        const float *x = logits.p + r * n;
        size_t best = 0;
        each.p[r] = 0;
        memset(p, 0, n * sizeof *p);
        if (cls[r] < 0) continue;
        memcpy(p, x, n * sizeof *p);
        g->kern->softmax(p, 1, n, n);
        for (size_t c = 1; c < n; c++)
            if (x[c] > x[best]) best = c;
        each.p[r] = x[best] - x[cls[r]] - logf(p[best]); /* by way of the largest, which does not underflow */
        p[cls[r]] -= 1;
#pragma omp simd
        for (size_t c = 0; c < n; c++) p[c] *= each_of;
    }
    double sum = 0;
    for (size_t r = 0; r < rows; r++) sum += each.p[r];
    return made(g, logits, count ? sum / (double)count : 0, d.p);
}

mm_tensor mm_op_sigmoid_ce(mm_graph *g, mm_tensor logits, const float *target)
{
    if (!logits.p) return none;
    size_t n = logits.rows * logits.cols;
    mm_tensor d = mm_op_new(g, logits.rows, logits.cols);
    double sum = 0;
    for (size_t i = 0; d.p && i < n; i++) {
        float sign = target[i] > 0.5f ? 1 : -1, z = -sign * logits.p[i];
        sum += z > 0 ? z + log1pf(expf(-z)) : log1pf(expf(z));
        d.p[i] = -sign / (1 + expf(-z)) / (float)logits.rows;
    }
    return d.p ? made(g, logits, logits.rows ? sum / (double)logits.rows : 0, d.p) : none;
}

mm_tensor mm_op_cos_loss(mm_graph *g, mm_tensor x, const float *target, size_t ld, size_t cols)
{
    if (!x.p) return none;
    mm_tensor d = mm_op_new(g, x.rows, x.cols);
    double sum = 0;
    for (size_t r = 0; d.p && r < x.rows; r++) {
        const float *a = x.p + r * x.cols, *b = target + r * ld;
        float *to = d.p + r * x.cols;
        double na = g->kern->sumsq(a, cols), nb = g->kern->sumsq(b, cols), dot = g->kern->dot_f32(a, b, cols), s = sqrt(na * nb);
        double c = s > 0 ? dot / s : 0;
        memset(to, 0, x.cols * sizeof *to);
        for (size_t i = 0; i < cols && s > 0; i++) to[i] = (float)((c * a[i] / na - b[i] / s) / (double)x.rows);
        sum += 1 - c;
    }
    return d.p ? made(g, x, x.rows ? sum / (double)x.rows : 0, d.p) : none;
}

mm_tensor mm_op_mse(mm_graph *g, mm_tensor x, const float *target, const float *w)
{
    if (!x.p) return none;
    mm_tensor d = mm_op_new(g, x.rows, x.cols);
    double sum = 0, n = (double)(x.rows * x.cols);
    for (size_t r = 0; d.p && r < x.rows; r++)
        for (size_t c = 0; c < x.cols; c++) {
            size_t i = r * x.cols + c;
            double e = (double)x.p[i] - target[i], k = w ? w[r] : 1;
            sum += k * e * e;
            d.p[i] = (float)(2 * k * e / n);
        }
    return d.p ? made(g, x, n > 0 ? sum / n : 0, d.p) : none;
}

/* ---- similarities ---- */

typedef struct {
    mm_node n;
    mm_tensor a, b, scale, bias;
    float s;     /* the factor in use */
    int clamped;
} similarity_node;

static void similarity_back(mm_graph *g, mm_node *node)
{
    similarity_node *t = (similarity_node *)node;
    const float *d = node->out.var->d;
    size_t n = t->a.rows, m = t->b.rows, w = t->a.cols;
    int fa = 0, fb = 0, fs = 0, fc = 0, failed = 0;
    float *da = mm_tape_into(g, t->a, &fa), *db = mm_tape_into(g, t->b, &fb), *ds = mm_tape_into(g, t->scale, &fs);
    float *dc = t->bias.p ? mm_tape_into(g, t->bias, &fc) : NULL, *sd = mm_tape_scratch(g, n * m);
    if (g->failed) return;
    double sum = 0, dot = 0, c = t->bias.p ? *t->bias.p : 0;
    for (size_t r = 0; r < n; r++) { /* d (s a.b) / d log s is itself */
        const float *dr = d + r * m, *y = node->out.p + r * m;
        float *to = sd + r * m;
        double row = 0, row_dot = 0;
#pragma omp simd reduction(+ : row, row_dot)
        for (size_t i = 0; i < m; i++) {
            to[i] = t->s * dr[i];
            row += dr[i];
            row_dot += (double)dr[i] * (y[i] - c);
        }
        sum += row;
        dot += row_dot;
    }
    if (da) failed |= mmk_matmul(g->kern, da, w, n, w, m, sd, m, 0, t->b.p, w, 0, NULL, fa ? NULL : da, w, MMK_ACT_NONE, g->threads);
    if (db) failed |= mmk_matmul(g->kern, db, w, m, w, n, sd, m, 1, t->a.p, w, 0, NULL, fb ? NULL : db, w, MMK_ACT_NONE, g->threads);
    if (ds) *ds = (t->clamped ? 0 : (float)dot) + (fs ? 0 : *ds);
    if (dc) *dc = (float)sum + (fc ? 0 : *dc);
    if (failed) g->failed = 1;
    mm_tape_unscratch(g, sd);
}

mm_tensor mm_op_similarity(mm_graph *g, mm_tensor a, mm_tensor b, mm_tensor log_scale, const mm_tensor *bias)
{
    if (!a.p || !b.p || !log_scale.p || (bias && !bias->p)) return none;
    mm_tensor y = mm_op_new(g, a.rows, b.rows);
    if (!y.p) return none;
    float max = logf(100), s = expf(*log_scale.p < max ? *log_scale.p : max);
    if (mmk_matmul(g->kern, y.p, y.cols, a.rows, b.rows, a.cols, a.p, a.cols, 0, b.p, b.cols, 1, NULL, NULL, 0, MMK_ACT_NONE,
                   g->threads)) {
        g->failed = 1;
        return none;
    }
    const float shift = bias ? *bias->p : 0;
#pragma omp simd
    for (size_t i = 0; i < y.rows * y.cols; i++) y.p[i] = s * y.p[i] + shift;
    if (!MM_WANTS(g, a.var || b.var || log_scale.var || (bias && bias->var))) return y;
    similarity_node *t = mm_tape_add(g, &y, sizeof *t, similarity_back);
    if (!t) return none;
    t->a = a;
    t->b = b;
    t->scale = log_scale;
    t->bias = bias ? *bias : none;
    t->s = s;
    t->clamped = *log_scale.p >= max;
    return y;
}

static void transpose(float *to, const float *x, size_t rows, size_t cols, int add)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) to[c * rows + r] = x[r * cols + c] + (add ? to[c * rows + r] : 0);
}

static void transpose_back(mm_graph *g, mm_node *node)
{
    loss_node *t = (loss_node *)node;
    int fresh = 0;
    float *dx = mm_tape_into(g, t->x, &fresh);
    if (dx) transpose(dx, node->out.var->d, node->out.rows, node->out.cols, !fresh);
}

mm_tensor mm_op_transpose(mm_graph *g, mm_tensor x)
{
    if (!x.p) return none;
    mm_tensor y = mm_op_new(g, x.cols, x.rows);
    if (!y.p) return none;
    transpose(y.p, x.p, x.rows, x.cols, 0);
    if (!MM_WANTS(g, x.var)) return y;
    loss_node *t = mm_tape_add(g, &y, sizeof *t, transpose_back);
    if (!t) return none;
    t->x = x;
    return y;
}

/* Ridge regression of a token table: see mm_table.h. Columns are solved in blocks of a cache line's multiple, each block by one thread
 * from beginning to end: what a block computes does not depend on how many threads there are. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "kernels/mm_kern.h"
#include "train/mm_table.h"

#define C 64 /* columns of a block: its four arrays of 12,288 rows are 12 MiB */

typedef struct problem {
    const mm_table_in *in;
    const mm_table_opts *o;
    const float *scale;  /* [n]: of a text's row, w / n or w / n^2: what b' w b multiplies by */
    const float *right;  /* [n]: of its target: w / sqrt(n) or w / n */
    const float *diag;   /* [vocab]: of the normal matrix, lambda included */
} problem;

typedef struct block {
    float *w, *r, *p, *ap; /* [vocab, C] */
    double rs[C], first[C], left[C];
} block;

static void add_row(float *restrict a, const float *restrict b)
{
    for (int c = 0; c < C; c++) a[c] += b[c];
}

/* ap = (B' w B + lambda) p: a text at a time, its rows are gathered and the sum is scattered over them again. */
static void product(const problem *q, const float *p, float *ap)
{
    const mm_table_in *in = q->in;
    float lambda = q->o->lambda;
    for (size_t i = 0; i < in->vocab * C; i++) ap[i] = lambda * p[i];
    for (size_t t = 0; t < in->n; t++) {
        float s[C] = { 0 }, k = q->scale[t];
        if (k == 0) continue;
        for (size_t i = in->off[t]; i < in->off[t + 1]; i++) add_row(s, p + (size_t)in->ids[i] * C);
        for (int c = 0; c < C; c++) s[c] *= k;
        for (size_t i = in->off[t]; i < in->off[t + 1]; i++) add_row(ap + (size_t)in->ids[i] * C, s);
    }
}

static void right_side(const problem *q, size_t col, size_t cols, float *r)
{
    const mm_table_in *in = q->in;
    memset(r, 0, in->vocab * C * sizeof *r);
    for (size_t t = 0; t < in->n; t++) {
        float s[C] = { 0 }, k = q->right[t];
        if (k == 0) continue;
        const float *y = in->target + (in->which ? in->which[t] : t) * in->d + col;
        for (size_t c = 0; c < cols; c++) s[c] = k * y[c];
        for (size_t i = in->off[t]; i < in->off[t + 1]; i++) add_row(r + (size_t)in->ids[i] * C, s);
    }
}

/* sum[c] = over rows of a[.][c] b[.][c], over the row's diagonal where div: float within 64 rows, double over all */
static void dots(const float *a, const float *b, const float *div, size_t rows, double sum[C])
{
    for (int c = 0; c < C; c++) sum[c] = 0;
    for (size_t v = 0; v < rows; v += 64) {
        float s[C] = { 0 };
        size_t end = rows - v < 64 ? rows : v + 64;
        for (size_t u = v; u < end; u++) {
            float k = div ? 1 / div[u] : 1;
            for (int c = 0; c < C; c++) s[c] += k * a[u * C + c] * b[u * C + c];
        }
        for (int c = 0; c < C; c++) sum[c] += (double)s[c];
    }
}

/* p = r / diag + beta p */
static void direction(float *p, const float *r, const float *diag, size_t rows, const float beta[C])
{
    for (size_t v = 0; v < rows; v++) {
        float k = diag ? 1 / diag[v] : 1;
        for (int c = 0; c < C; c++) p[v * C + c] = k * r[v * C + c] + beta[c] * p[v * C + c];
    }
}

static void move(block *b, size_t rows, const float alpha[C])
{
    for (size_t v = 0; v < rows; v++)
        for (int c = 0; c < C; c++) {
            b->w[v * C + c] += alpha[c] * b->p[v * C + c];
            b->r[v * C + c] -= alpha[c] * b->ap[v * C + c];
        }
}

static void step(const problem *q, block *b)
{
    size_t rows = q->in->vocab;
    const float *diag = q->o->precondition ? q->diag : NULL;
    double den[C], rs[C];
    float alpha[C], beta[C];
    product(q, b->p, b->ap);
    dots(b->p, b->ap, NULL, rows, den);
    /* a column that is solved stands still */
    for (int c = 0; c < C; c++) alpha[c] = den[c] > 0 && b->left[c] > 1e-12 * b->first[c] ? (float)(b->rs[c] / den[c]) : 0;
    move(b, rows, alpha);
    dots(b->r, b->r, diag, rows, rs);
    for (int c = 0; c < C; c++) {
        beta[c] = b->rs[c] > 0 && alpha[c] != 0 ? (float)(rs[c] / b->rs[c]) : 0;
        b->rs[c] = rs[c];
    }
    if (diag) dots(b->r, b->r, NULL, rows, b->left);
    else memcpy(b->left, rs, sizeof rs);
    direction(b->p, b->r, diag, rows, beta);
}

static int begin(const problem *q, block *b, size_t col, size_t cols)
{
    size_t rows = q->in->vocab, n = rows * C;
    float zero[C] = { 0 };
    b->w = mm_aligned(4 * n, sizeof *b->w);
    if (!b->w) return MM_ENOMEM;
    b->r = b->w + n;
    b->p = b->r + n;
    b->ap = b->p + n;
    memset(b->w, 0, n * sizeof *b->w);
    memset(b->p, 0, n * sizeof *b->p);
    right_side(q, col, cols, b->r);
    dots(b->r, b->r, NULL, rows, b->first);
    memcpy(b->left, b->first, sizeof b->left);
    dots(b->r, b->r, q->o->precondition ? q->diag : NULL, rows, b->rs);
    direction(b->p, b->r, q->o->precondition ? q->diag : NULL, rows, zero);
    return 0;
}

/* ---- all blocks ---- */

typedef struct state { /* what the threads share */
    const problem *q;
    float *table;
    uint64_t done, total;
    int code;
} state;

/* One thread tells how far all are: the one that has number 0 */
static void tell(state *s)
{
    uint64_t done;
    const mm_table_opts *o = s->q->o;
#pragma omp atomic capture
    done = ++s->done;
    if (omp_get_thread_num() || !o->progress) return;
    int r = o->progress(o->arg, "table", done < s->total ? done : s->total, s->total);
    if (r) {
#pragma omp atomic write
        s->code = r;
    }
}

static int stopped(state *s)
{
    int code;
#pragma omp atomic read
    code = s->code;
    return code;
}

static void solve(state *s, size_t col, double sums[2])
{
    const mm_table_in *in = s->q->in;
    size_t cols = in->d - col < C ? in->d - col : C;
    block b;
    if (stopped(s)) return;
    int r = begin(s->q, &b, col, cols);
    if (r) {
#pragma omp atomic write
        s->code = r;
        return;
    }
    for (int i = 0; i < s->q->o->iterations && !stopped(s); i++) {
        step(s->q, &b);
        tell(s);
    }
    for (size_t v = 0; v < in->vocab; v++) memcpy(s->table + v * in->d + col, b.w + v * C, cols * sizeof *b.w);
    for (int c = 0; c < C; c++) {
        sums[0] += b.left[c];
        sums[1] += b.first[c];
    }
    free(b.w);
}

static int check(const mm_table_in *in, const mm_table_opts *o, mm_err *err)
{
    if (!(o->lambda > 0) || !isfinite(o->lambda) || o->iterations < 0)
        return mm_fail(err, MM_EARG, "lambda should be above 0 and iterations not below");
    if (!in->vocab || !in->d) return mm_fail(err, MM_ESHAPE, "a table of %zu rows and %zu columns", in->vocab, in->d);
    for (size_t t = 0; t < in->n; t++) {
        size_t y = in->which ? in->which[t] : t;
        if (y >= in->targets || in->off[t + 1] < in->off[t])
            return mm_fail(err, MM_ESHAPE, "text %zu has target %zu of %zu", t, y, in->targets);
        if (in->weight && !(in->weight[t] >= 0 && isfinite(in->weight[t]))) return mm_fail(err, MM_EARG, "text %zu has no weight", t);
    }
    for (size_t i = in->n ? in->off[0] : 0; in->n && i < in->off[in->n]; i++)
        if (in->ids[i] < 0 || (size_t)in->ids[i] >= in->vocab)
            return mm_fail(err, MM_ESHAPE, "token %d of a table of %zu rows", in->ids[i], in->vocab);
    return 0;
}

/* Factors of each text, and the diagonal of the normal matrix. */
static void prepare(const mm_table_in *in, const mm_table_opts *o, float *scale, float *right, float *diag, uint32_t *count)
{
    double sum = 0;
    for (size_t t = 0; t < in->n; t++) sum += in->weight ? (double)in->weight[t] : 1;
    for (size_t v = 0; v < in->vocab; v++) diag[v] = o->lambda, count[v] = 0;
    for (size_t t = 0; t < in->n; t++) {
        size_t from = in->off[t], to = in->off[t + 1];
        double len = (double)(to - from), w = sum > 0 ? (in->weight ? (double)in->weight[t] : 1) * (double)in->n / sum : 0;
        double b = from == to ? 0 : o->rows == MM_TABLE_MEAN ? 1 / len : 1 / sqrt(len);
        scale[t] = (float)(w * b * b);
        right[t] = (float)(w * b);
        for (size_t i = from; i < to; i++) count[in->ids[i]]++;
        for (size_t i = from; i < to; i++) {
            diag[in->ids[i]] += scale[t] * (float)count[in->ids[i]] * (float)count[in->ids[i]];
            count[in->ids[i]] = 0;
        }
    }
}

int mm_table_solve(float *table, const mm_table_in *in, const mm_table_opts *opts, mm_err *err)
{
    int r = check(in, opts, err), threads = opts->threads ? opts->threads : omp_get_max_threads();
    if (r) return r;
    size_t blocks = (in->d + C - 1) / C;
    float *scale = mm_realloc(NULL, in->n + 1, sizeof *scale), *right = mm_realloc(NULL, in->n + 1, sizeof *right);
    float *diag = mm_realloc(NULL, in->vocab, sizeof *diag);
    uint32_t *count = mm_realloc(NULL, in->vocab, sizeof *count);
    double (*sums)[2] = calloc(blocks, sizeof *sums);
    if (!scale || !right || !diag || !count || !sums) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        prepare(in, opts, scale, right, diag, count);
        problem q = { in, opts, scale, right, diag };
        state s = { .q = &q, .table = table, .total = blocks * (uint64_t)opts->iterations };
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
        for (size_t b = 0; b < blocks; b++) solve(&s, b * C, sums[b]);
        r = s.code == MM_ENOMEM ? mm_fail(err, MM_ENOMEM, "out of memory") : s.code;
        double rest = 0, all = 0;
        for (size_t b = 0; b < blocks; b++) {
            rest += sums[b][0];
            all += sums[b][1];
        }
        if (opts->residual) *opts->residual = all > 0 ? sqrt(rest / all) : 0;
    }
    free(scale);
    free(right);
    free(diag);
    free(count);
    free(sums);
    return r;
}

void mm_table_bags(const float *table, size_t d, const int32_t *ids, const size_t *off, size_t n, size_t dim, float *out)
{
    for (size_t t = 0; t < n; t++) {
        float *y = out + t * dim;
        memset(y, 0, dim * sizeof *y);
        for (size_t i = off[t]; i < off[t + 1]; i++)
            for (size_t c = 0; c < dim; c++) y[c] += table[(size_t)ids[i] * d + c];
    }
    mm_kern_get()->l2_normalize(out, n, dim);
}

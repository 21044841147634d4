/* What training needs: products of any orientation, gradients of attention, rows and elements, the optimizer's step. Bounds
 * as mm_grad.h and mm_kern.h state them. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "kernels/mm_grad.h"

/* ---- products ---- */

typedef struct product {
    size_t m, n, k, lda, ldb, ldc;
    int ta, tb;
    float *a, *b, *c, *bias, *res;
} product;

static product make(size_t m, size_t n, size_t k, int ta, int tb, int kind)
{
    product p = { m, n, k, (ta ? m : k) + 3, (tb ? k : n) + 1, n + 5, ta, tb, NULL, NULL, NULL, NULL, NULL };
    size_t rows_a = ta ? k : m, rows_b = tb ? n : k, cols_a = ta ? m : k, cols_b = tb ? k : n;
    size_t na = rows_a && cols_a ? (rows_a - 1) * p.lda + cols_a : 0, nb = rows_b && cols_b ? (rows_b - 1) * p.ldb + cols_b : 0;
    p.a = guarded(4 * na, 4), p.b = guarded(4 * nb, 8);
    p.c = guarded(4 * (m && n ? (m - 1) * p.ldc + n : 0), 4);
    p.bias = guarded(4 * n, 4), p.res = guarded(4 * m * n, 4);
    fill(p.a, na, kind), fill(p.b, nb, kind), fill(p.bias, n, 0), fill(p.res, m * n, 0);
    return p;
}

static void drop(product *p)
{
    guard_free(p->a), guard_free(p->b), guard_free(p->c), guard_free(p->bias), guard_free(p->res);
}

/* how: 0 plain, 1 bias and residual, 2 added to c, 3 bias, activation and residual, 4 the same added to c */
static int multiply(const mm_kern *k, const product *p, int how, int threads)
{
    int in_c = how == 2 || how == 4;
    if (in_c)
        for (size_t i = 0; i < p->m; i++)
            for (size_t j = 0; j < p->n; j++) p->c[i * p->ldc + j] = p->res[i * p->n + j];
    return mmk_matmul(k, p->c, p->ldc, p->m, p->n, p->k, p->a, p->lda, p->ta, p->b, p->ldb, p->tb, how % 2 || how == 4 ? p->bias : NULL,
                      in_c ? p->c : how ? p->res : NULL, in_c ? p->ldc : p->n, how > 2 ? MMK_ACT_RELU : MMK_ACT_NONE, threads);
}

static void one(const mm_kern *k, size_t m, size_t n, size_t kk, int ta, int tb, int kind, int how)
{
    product p = make(m, n, kk, ta, tb, kind);
    if (multiply(k, &p, how, 1)) wrong("no memory");
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double s = how % 2 || how == 4 ? p.bias[j] : 0, abs = fabs(s);
            for (size_t t = 0; t < kk; t++) {
                double x = (double)(ta ? p.a[t * p.lda + i] : p.a[i * p.lda + t]) * (tb ? p.b[j * p.ldb + t] : p.b[t * p.ldb + j]);
                s += x;
                abs += fabs(x);
            }
            if (how > 2 && s < 0) s = 0;
            if (how) s += p.res[i * n + j], abs += fabs((double)p.res[i * n + j]);
            double got = p.c[i * p.ldc + j], tol = (double)(kk + 8) * FLT_EPSILON * abs + 1e-36;
            if (!(fabs(got - s) <= tol))
                wrong("%c%c m %zu n %zu k %zu kind %d how %d at %zu,%zu: %g, not %g (tolerance %g)", ta ? 'T' : 'N',
                      tb ? 'T' : 'N', m, n, kk, kind, how, i, j, got, s, tol);
        }
    if (!guard_ok(p.c)) wrong("%c%c m %zu n %zu k %zu: writes beyond the end", ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, kk);
    drop(&p);
}

static void check_matmul(const mm_kern *k)
{
    static const size_t edge[] = { 0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 17, 31, 32, 33, 48, 65 };
    for (int o = 0; o < 4; o++) {
        int ta = o & 1, tb = o >> 1;
        begin("matmul %c%c, all sizes", ta ? 'T' : 'N', tb ? 'T' : 'N');
        for (size_t i = 0; i < sizeof edge / sizeof *edge; i++) {
            one(k, edge[i], 37, 33, ta, tb, 0, 0);
            one(k, 7, edge[i], 65, ta, tb, 1, 3);
            one(k, 9, 35, edge[i], ta, tb, 0, 1);
            one(k, edge[i], edge[i], edge[i], ta, tb, 0, 2);
        }
        for (int how = 0; how < 5; how++) { /* several blocks of K */
            one(k, 29, 50, 513, ta, tb, 0, how);
            one(k, 13, 33, 1700, ta, tb, how == 1 ? 1 : 0, how);
        }
        one(k, 5, 20, 64, ta, tb, 2, 0);
        one(k, 5, 20, 64, ta, tb, 3, 0);
        end();
        begin("matmul %c%c, bits independent of threads and neighbours; a NaN stays in its row", ta ? 'T' : 'N', tb ? 'T' : 'N');
        for (int how = 0; how < 5; how += 2) {
            product p = make(61, 75, 1100, ta, tb, 0);
            size_t n = 60 * p.ldc + p.n;
            float *c = malloc(4 * n), *some = malloc(4 * n);
            int r = multiply(k, &p, how, 1);
            memcpy(c, p.c, 4 * n);
            for (int threads = 2; threads < 5; threads++) {
                r |= multiply(k, &p, how, threads);
                if (memcmp(c, p.c, 4 * n)) wrong("%d threads give other bits", threads);
            }
            /* the piece from 20, 33 on, 31 x 40 */
            product q = p;
            q.m = 31, q.n = 40;
            r |= mmk_matmul(k, some, q.ldc, q.m, q.n, q.k, q.a + (ta ? 20 : 20 * q.lda), q.lda, ta, q.b + (tb ? 33 * q.ldb : 33),
                            q.ldb, tb, how == 4 ? q.bias + 33 : NULL, how ? q.res + 20 * p.n + 33 : NULL, p.n,
                            how == 4 ? MMK_ACT_RELU : MMK_ACT_NONE, 1);
            for (size_t i = 0; i < q.m; i++)
                if (memcmp(some + i * q.ldc, c + (20 + i) * q.ldc + 33, 4 * q.n)) wrong("a piece alone has other bits");
            p.a[ta ? 600 * p.lda + 7 : 7 * p.lda + 600] = NAN;
            r |= multiply(k, &p, 0, 1);
            for (size_t i = 0; i < p.m; i++)
                for (size_t j = 0; j < p.n; j++)
                    if ((p.c[i * p.ldc + j] != p.c[i * p.ldc + j]) != (i == 7)) wrong("a NaN in row 7 shows at %zu,%zu", i, j);
            if (r) wrong("no memory");
            free(c), free(some);
            drop(&p);
        }
        end();
    }
}

/* ---- attention ---- */

typedef struct {
    size_t heads, kv, d, ld, off[8], nseq, rows;
    int causal, bias;
    float *qkv, *dout, *out, *grad, *key_bias, *key_grad;
} attn;

static int forward(const mm_kern *k, attn *a)
{
    size_t kc = a->heads * a->d, vc = kc + a->kv * a->d;
    return mmk_attention(k, a->out, kc, a->qkv, a->ld, a->qkv + kc, a->ld, a->qkv + vc, a->ld, a->off, a->nseq, a->heads, a->kv, a->d,
                         1 / sqrtf((float)a->d), a->causal, a->bias ? a->key_bias : NULL, 1);
}

static attn make_attn(const mm_kern *k, size_t heads, size_t kv, size_t d, const size_t *len, size_t nseq, int causal, int bias)
{
    attn a = { .heads = heads, .kv = kv, .d = d, .ld = (heads + 2 * kv) * d + 3, .nseq = nseq, .causal = causal, .bias = bias };
    for (size_t s = 0; s < nseq; s++) a.off[s + 1] = a.off[s] + len[s];
    a.rows = a.off[nseq];
    size_t n = a.rows * a.ld, no = a.rows * heads * d;
    a.qkv = guarded(4 * n, 4), a.grad = guarded(4 * n, 4), a.dout = guarded(4 * no, 4), a.out = guarded(4 * no, 4);
    a.key_bias = guarded(4 * heads * a.rows, 4), a.key_grad = guarded(4 * heads * a.rows, 4);
    fill(a.qkv, n, 0), fill(a.dout, no, 0), fill(a.key_bias, heads * a.rows, 0);
    for (size_t i = 0; i < n; i++) a.qkv[i] *= 2;
    if (forward(k, &a)) wrong("no memory");
    return a;
}

static void drop_attn(attn *a)
{
    guard_free(a->qkv), guard_free(a->grad), guard_free(a->dout), guard_free(a->out), guard_free(a->key_bias), guard_free(a->key_grad);
}

static int run_attn(const mm_kern *k, attn *a, int threads)
{
    size_t kc = a->heads * a->d, vc = kc + a->kv * a->d;
    return mmk_attention_grad(k, a->grad, a->ld, a->grad + kc, a->ld, a->grad + vc, a->ld, a->dout, kc, a->out, kc, a->qkv, a->ld,
                              a->qkv + kc, a->ld, a->qkv + vc, a->ld, a->off, a->nseq, a->heads, a->kv, a->d,
                              1 / sqrtf((float)a->d), a->causal, a->bias ? a->key_bias : NULL, a->bias ? a->key_grad : NULL, threads);
}

static void compare_attn(const mm_kern *k, const mm_kern *ref, size_t heads, size_t kv, size_t d, const size_t *len, size_t nseq)
{
    for (int mode = 0; mode < 5; mode++) {
        attn a = make_attn(ref, heads, kv, d, len, nseq, mode & 1, mode > 1);
        size_t n = a.rows * a.ld, nb = heads * a.rows;
        if (mode == 4 && nb) a.key_bias[0] = -INFINITY; /* a hidden key */
        if (mode == 4 && forward(ref, &a)) wrong("no memory");
        float *want = malloc(4 * n + 4), *bias = malloc(4 * nb + 4);
        memset(a.grad, 0, 4 * n);
        fill(a.key_grad, nb, 0);
        memcpy(bias, a.key_grad, 4 * nb);
        int r = run_attn(ref, &a, 1);
        memcpy(want, a.grad, 4 * n);
        for (size_t i = 0; i < nb; i++) { /* each level adds to the same */
            float t = a.key_grad[i];
            a.key_grad[i] = bias[i];
            bias[i] = t;
        }
        memset(a.grad, 0, 4 * n);
        r |= run_attn(k, &a, 1);
        double tol = 4e-6 * (double)(a.off[nseq] + 20);
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double)a.grad[i] - (double)want[i]) <= tol))
                wrong("heads %zu/%zu d %zu mode %d at %zu: %g, not %g", heads, kv, d, mode, i, (double)a.grad[i], (double)want[i]);
        for (size_t i = 0; i < nb; i++)
            if (!(fabs((double)a.key_grad[i] - (double)bias[i]) <= tol))
                wrong("heads %zu/%zu d %zu mode %d, bias at %zu: %g, not %g", heads, kv, d, mode, i, (double)a.key_grad[i],
                      (double)bias[i]);
        memcpy(want, a.grad, 4 * n);
        r |= run_attn(k, &a, 3);
        if (memcmp(want, a.grad, 4 * n)) wrong("three threads give other bits");
        if (r) wrong("no memory");
        if (!guard_ok(a.grad) || !guard_ok(a.key_grad)) wrong("writes beyond the end");
        free(want), free(bias);
        drop_attn(&a);
    }
}

static void check_attn(const mm_kern *k, const mm_kern *ref)
{
    static const size_t lens[][3] = { { 1, 2, 3 }, { 0, 7, 16 }, { 17, 31, 33 }, { 64, 65, 1 }, { 100, 0, 9 }, { 96, 0, 110 } };
    static const size_t shapes[][3] = { { 1, 1, 1 },  { 2, 2, 7 },  { 4, 2, 16 }, { 3, 1, 20 },
                                        { 2, 2, 32 }, { 2, 1, 64 }, { 1, 1, 80 }, { 1, 1, 128 } };
    begin("attention_grad: lengths, head widths, shared keys, causal, bias, threads");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t l = 0; l < sizeof lens / sizeof *lens; l++)
            compare_attn(k, ref, shapes[s][0], shapes[s][1], shapes[s][2], lens[l], 3);
    end();
    begin("attention_grad: a query that sees no key has gradients of zero");
    static const size_t three = 3;
    attn a = make_attn(k, 1, 1, 8, &three, 1, 0, 1);
    for (int i = 0; i < 3; i++) a.key_bias[i] = -INFINITY;
    memset(a.out, 0, 4 * 24);
    memset(a.key_grad, 0, 12);
    memset(a.grad, 0, 4 * 3 * a.ld);
    if (run_attn(k, &a, 1)) wrong("no memory");
    for (size_t i = 0; i < 3 * a.ld; i++)
        if (a.grad[i] != 0) wrong("element %zu is %g", i, (double)a.grad[i]);
    drop_attn(&a);
    end();
}

/* ---- rows and elements ---- */

static const size_t sizes[] = { 1,  2,  3,  4,  5,  7,  8,  9,  13, 15,  16,  17,  23,  24,   25,
                                31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 192, 384, 1000, 1537 };
#define NSIZES (sizeof sizes / sizeof *sizes)

/* |got - want| within tol times the largest magnitude of the row, and of `least` */
static void near(const float *got, const float *want, size_t rows, size_t n, double tol, double least, const char *what)
{
    for (size_t r = 0; r < rows; r++) {
        double top = least;
        for (size_t i = 0; i < n; i++) top = fmax(top, fabs((double)want[r * n + i]));
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double)got[r * n + i] - (double)want[r * n + i]) <= tol * top)) {
                wrong("%s: row %zu of %zu, element %zu of %zu: %g, not %g", what, r, rows, i, n, (double)got[r * n + i],
                      (double)want[r * n + i]);
                return;
            }
    }
}

static void check_rows(const mm_kern *k, const mm_kern *ref)
{
    begin("layer_norm_grad, l2_normalize_grad");
    for (size_t s = 0; s < NSIZES; s++)
        for (int kind = 0; kind < 2; kind++) {
            size_t d = sizes[s], rows = 67, n = rows * d;
            float *x = guarded(4 * n, 4), *dy = guarded(4 * n, 8), *y = guarded(4 * n, 12), *z = guarded(4 * n, 0),
                  *g = guarded(4 * d, 4), *dg[2] = { guarded(4 * d, 4), guarded(4 * d, 0) },
                  *db[2] = { guarded(4 * d, 8), guarded(4 * d, 0) }, norm[67];
            fill(x, n, kind), fill(dy, n, kind), fill(g, d, 0), fill(dg[0], d, 0), fill(db[0], d, 0);
            memcpy(dg[1], dg[0], 4 * d), memcpy(db[1], db[0], 4 * d);
            k->layer_norm_grad(y, dg[0], db[0], dy, x, g, rows, d, 1e-3f);
            ref->layer_norm_grad(z, dg[1], db[1], dy, x, g, rows, d, 1e-3f);
            near(y, z, rows, d, 1e-4, d < 3 ? 1 : 1e-2, "layer_norm_grad"); /* of two elements nearly nothing is left */
            near(dg[0], dg[1], 1, d, 2e-5, 1, "layer_norm_grad: gain");
            near(db[0], db[1], 1, d, 2e-5, 1, "layer_norm_grad: bias");
            memcpy(z, y, 4 * n), memcpy(y, dy, 4 * n);
            k->layer_norm_grad(y, NULL, NULL, y, x, g, rows, d, 1e-3f);
            if (memcmp(y, z, 4 * n)) wrong("layer_norm_grad in place gives other bits");
            for (size_t r = 0; r < rows; r++) norm[r] = (float)sqrt(ref->sumsq(x + r * d, d));
            norm[1] = 0;
            ref->l2_normalize(x, rows, d);
            k->l2_normalize_grad(y, dy, x, norm, rows, d);
            ref->l2_normalize_grad(z, dy, x, norm, rows, d);
            near(y, z, rows, d, 2e-5, d < 3 ? 1 : 1e-2, "l2_normalize_grad");
            if (!guard_ok(y) || !guard_ok(dg[0]) || !guard_ok(db[0])) wrong("d %zu: writes beyond the end", d);
            guard_free(x), guard_free(dy), guard_free(y), guard_free(z), guard_free(g);
            for (int i = 0; i < 2; i++) guard_free(dg[i]), guard_free(db[i]);
        }
    end();
    begin("rotary, there and back");
    for (size_t half = 1; half < 41; half++) {
        size_t rows = 3, heads = 2, ld = heads * 2 * half + 3, n = (rows - 1) * ld + heads * 2 * half;
        float *x = guarded(4 * n, 4), *y = guarded(4 * n, 8), *c = guarded(4 * rows * half, 4), *s = guarded(4 * rows * half, 0);
        fill(x, n, 0);
        for (size_t i = 0; i < rows * half; i++) c[i] = cosf((float)i), s[i] = sinf((float)i);
        float *keep = malloc(4 * n);
        memcpy(keep, x, 4 * n), memcpy(y, x, 4 * n);
        for (int back = 0; back < 2; back++) {
            k->rotary(x, c, s, rows, heads, 2 * half, ld, back), ref->rotary(y, c, s, rows, heads, 2 * half, ld, back);
            near(x, y, 1, n, 1e-6, 1, "rotary");
        }
        near(x, keep, 1, n, 1e-6, 1, "rotary and back");
        if (!guard_ok(x)) wrong("writes beyond the end");
        free(keep);
        guard_free(x), guard_free(y), guard_free(c), guard_free(s);
    }
    end();
    begin("softmax_ce");
    for (size_t s = 0; s < NSIZES; s++)
        for (int mode = 0; mode < 3; mode++) { /* targets: soft; one; one, and a hidden logit */
            size_t d = sizes[s], rows = 3, n = rows * d;
            float *x = guarded(4 * n, 4), *t = guarded(4 * n, 8), *y = guarded(4 * n, 4), *z = guarded(4 * n, 0), l[2][3], only[3];
            fill(x, n, mode ? 1 : 0), fill(t, n, 0);
            for (size_t i = 0; i < n; i++) t[i] = mode ? (i % d == i / d % d ? 1.0f : 0) : fabsf(t[i]);
            if (mode == 2 && d > 3) x[3] = -INFINITY;
            k->softmax_ce(y, l[0], x, t, rows, d, 0.5f), ref->softmax_ce(z, l[1], x, t, rows, d, 0.5f);
            near(y, z, rows, d, 3e-6, 0.5, "softmax_ce");
            near(l[0], l[1], rows, 1, 1e-6, 1 + (double)d / 4, "softmax_ce: loss");
            k->softmax_ce(NULL, only, x, t, rows, d, 0.5f);
            if (memcmp(only, l[0], sizeof only)) wrong("n %zu: the loss alone has other bits", d);
            memcpy(z, x, 4 * n);
            k->softmax_ce(z, only, z, t, rows, d, 0.5f);
            if (memcmp(z, y, 4 * n) || memcmp(only, l[0], sizeof only)) wrong("n %zu: in place gives other bits", d);
            x[d] = NAN;
            k->softmax_ce(y, only, x, t, rows, d, 0.5f);
            if (only[1] == only[1] || y[d] == y[d] || only[0] != only[0] || only[2] != only[2]) wrong("a NaN is lost, or spreads");
            if (!guard_ok(y)) wrong("n %zu: writes beyond the end", d);
            guard_free(x), guard_free(t), guard_free(y), guard_free(z);
        }
    end();
}

static void check_elements(const mm_kern *k, const mm_kern *ref)
{
    static const char *const names[] = { "none", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu" };
    for (int a = 0; a <= MMK_ACT_RELU; a++) {
        begin("gradient of activation %s", names[a]);
        enum { N = 40003 };
        float *z = guarded(4 * N, 4), *dy = guarded(4 * N, 8), *x = guarded(4 * N, 4), *y = guarded(4 * N, 0);
        for (int i = 0; i < N; i++) z[i] = (float)(i - N / 2) * 1e-3f;
        z[0] = -3e38f, z[1] = 3e38f, z[2] = 0, z[3] = 1e-40f, z[4] = -100, z[5] = 100, z[6] = -15, z[7] = INFINITY, z[8] = -INFINITY;
        fill(dy, N, 1);
        k->act_grad(x, dy, z, N, (mmk_act)a), ref->act_grad(y, dy, z, N, (mmk_act)a);
        for (int i = 0; i < N; i++)
            if (!(fabs((double)x[i] - (double)y[i]) <= 1e-6 * fmin(2, fmax(1, fabs((double)z[i]))) * fabs((double)dy[i])))
                wrong("at %g: %g, not %g", (double)z[i], (double)(x[i] / dy[i]), (double)(y[i] / dy[i]));
        memcpy(y, dy, 4 * N);
        k->act_grad(y, y, z, N, (mmk_act)a);
        if (memcmp(x, y, 4 * N)) wrong("in place gives other bits");
        for (int i = 1; i < N; i += 997) {
            float t[5] = { 1, 1, 1, 1, z[i] }, u[5] = { 1, 1, 1, 1, dy[i] };
            k->act_grad(u, u, t, 5, (mmk_act)a);
            if (memcmp(&u[4], &x[i], 4)) wrong("at %g: other bits at another place", (double)z[i]);
        }
        z[0] = NAN;
        k->act_grad(x, dy, z, 1, (mmk_act)a);
        if (a && x[0] == x[0]) wrong("a NaN is lost");
        if (!guard_ok(x)) wrong("writes beyond the end");
        guard_free(z), guard_free(dy), guard_free(x), guard_free(y);
        end();
    }
    begin("adamw, axpy, sumsq");
    const mmk_adamw h = { 1e-2f, 0.9f, 0.999f, 1e-8f, 0.05f, 0.19f, 0.002f, 0.25f };
    for (size_t s = 0; s < NSIZES; s++)
        for (int kind = 0; kind < 2; kind++) {
            size_t n = sizes[s];
            float *p[2][4];
            for (int j = 0; j < 4; j++) {
                p[0][j] = guarded(4 * n, 4 * (size_t)j), p[1][j] = guarded(4 * n, 0);
                fill(p[0][j], n, kind);
                for (size_t i = 0; j == 3 && i < n; i++) p[0][j][i] *= p[0][j][i];
                memcpy(p[1][j], p[0][j], 4 * n);
            }
            double x = k->sumsq(p[0][0], n), y = ref->sumsq(p[1][0], n);
            if (!(fabs(x - y) <= 1e-13 * y)) wrong("n %zu: sumsq is %g, not %g", n, x, y);
            for (int step = 0; step < 3; step++) {
                k->adamw(p[0][0], p[0][1], p[0][2], p[0][3], n, &h), ref->adamw(p[1][0], p[1][1], p[1][2], p[1][3], n, &h);
                for (int j = 0; j < 4; j++)
                    for (size_t i = 0; i < n; i++)
                        if (!(fabs((double)p[0][j][i] - (double)p[1][j][i]) <= 2e-6 * fmax(0.05, fabs((double)p[1][j][i]))))
                            wrong("n %zu: adamw %d at %zu: %g, not %g", n, j, i, (double)p[0][j][i], (double)p[1][j][i]);
            }
            memcpy(p[1][0], p[0][0], 4 * n);
            k->axpy(p[0][0], -0.3f, p[1][1], n), ref->axpy(p[1][0], -0.3f, p[1][1], n);
            near(p[0][0], p[1][0], 1, n, 1e-6, 0, "axpy");
            for (int j = 0; j < 4; j++) {
                if (!guard_ok(p[0][j])) wrong("n %zu: writes beyond the end", n);
                guard_free(p[0][j]), guard_free(p[1][j]);
            }
        }
    end();
}

/* ---- timings ---- */

static const mm_kern *bk;
static void bench_matmul(void *arg)
{
    product *p = arg;
    if (mmk_matmul(bk, p->c, p->n, p->m, p->n, p->k, p->a, p->ta ? p->m : p->k, p->ta, p->b, p->tb ? p->k : p->n, p->tb, NULL, NULL, 0,
                   MMK_ACT_NONE, 1))
        exit(4);
}
static void bench_attn(void *arg)
{
    if (run_attn(bk, arg, 1)) exit(4);
}
static void bench_forward(void *arg)
{
    if (forward(bk, arg)) exit(4);
}

typedef struct {
    size_t rows, d;
    float *x, *y, *g, *b, *t;
    mmk_act act;
} rowarg;

static void bench_norm(void *p)
{
    rowarg *a = p;
    bk->layer_norm_grad(a->y, a->g, a->b, a->t, a->x, a->t, a->rows, a->d, 1e-5f);
}
static void bench_act(void *p)
{
    rowarg *a = p;
    bk->act_grad(a->y, a->t, a->x, a->rows * a->d, a->act);
}
static void bench_rotary(void *p)
{
    rowarg *a = p;
    bk->rotary(a->y, a->t, a->t, a->rows, a->d / 32, 32, a->d, 0);
}
static void bench_ce(void *p)
{
    rowarg *a = p;
    bk->softmax_ce(a->y, a->g, a->x, a->t, a->rows, a->d, 1);
}
static void bench_adamw(void *p)
{
    static const mmk_adamw h = { 1e-3f, 0.9f, 0.99f, 1e-8f, 0.01f, 0.5f, 0.5f, 1 };
    rowarg *a = p;
    bk->adamw(a->y, a->x, a->t, a->b, a->rows * a->d, &h);
}
static void bench_sumsq(void *p)
{
    rowarg *a = p;
    a->g[0] = (float)bk->sumsq(a->x, a->rows * a->d);
}

static void bench_grad(const mm_kern *k)
{
    static const struct {
        size_t m, n, k;
        int ta, tb;
    } mats[] = { { 4096, 1024, 256, 0, 1 }, { 4096, 256, 1024, 0, 1 }, { 1024, 256, 4096, 1, 0 }, { 2240, 192, 192, 0, 1 },
                 { 1024, 192, 768, 0, 0 },  { 192, 768, 2240, 1, 0 },  { 192, 192, 640, 1, 0 } };
    char shape[60];
    if (k->flags == 0) return; /* ref is for reading */
    bk = k;
    for (size_t i = 0; i < sizeof mats / sizeof *mats; i++) {
        product p = make(mats[i].m, mats[i].n, mats[i].k, mats[i].ta, mats[i].tb, 0);
        snprintf(shape, sizeof shape, "%c%c %zux%zux%zu", p.ta ? 'T' : 'N', p.tb ? 'T' : 'N', p.m, p.k, p.n);
        report("matmul", "f32", shape, timed(bench_matmul, &p), 0, 2.0 * (double)(p.m * p.n * p.k));
        drop(&p);
    }
    static const size_t lens[][4] = { { 10, 14, 20, 12 }, { 30, 37, 29, 33 }, { 80, 77, 70, 64 }, { 500, 0, 0, 0 } };
    for (size_t d = 32; d <= 64; d += 32)
        for (size_t i = 0; i < 4; i++) {
            double flop = 0;
            attn a = make_attn(k, 384 / d, 384 / d, d, lens[i], 4, 0, 0);
            for (int s = 0; s < 4; s++) flop += (double)(lens[i][s] * lens[i][s] * 384);
            snprintf(shape, sizeof shape, "%zux%zux%zu", a.heads, a.rows / (i < 3 ? 4 : 1), d);
            report("attention", "f32", shape, timed(bench_forward, &a), 0, 4 * flop);
            report("attention_grad", "f32", shape, timed(bench_attn, &a), 0, 10 * flop);
            drop_attn(&a);
        }
    rowarg a = { 256, 384, NULL, NULL, NULL, NULL, NULL, MMK_ACT_GELU_ERF };
    size_t n = a.rows * a.d;
    a.x = guarded(4 * n, 0), a.y = guarded(4 * n, 0), a.g = guarded(4 * n, 0), a.b = guarded(4 * n, 0), a.t = guarded(4 * n, 0);
    fill(a.x, n, 0), fill(a.t, n, 0), fill(a.y, n, 0), memset(a.g, 0, 4 * n), memset(a.b, 0, 4 * n);
    for (size_t i = 0; i < n; i++) a.t[i] = fabsf(a.t[i]);
    report("layer_norm_grad", "f32", "256x384", timed(bench_norm, &a), 12.0 * (double)n, 0);
    report("gelu_erf_grad", "f32", "256x384", timed(bench_act, &a), 12.0 * (double)n, 0);
    a.act = MMK_ACT_GELU_TANH;
    report("gelu_tanh_grad", "f32", "256x384", timed(bench_act, &a), 12.0 * (double)n, 0);
    report("rotary", "f32", "256x384", timed(bench_rotary, &a), 8.0 * (double)n, 0);
    report("softmax_ce", "f32", "256x384", timed(bench_ce, &a), 12.0 * (double)n, 0);
    report("adamw", "f32", "98304", timed(bench_adamw, &a), 28.0 * (double)n, 0);
    report("sumsq", "f32", "98304", timed(bench_sumsq, &a), 4.0 * (double)n, 0);
    guard_free(a.x), guard_free(a.y), guard_free(a.g), guard_free(a.b), guard_free(a.t);
}

void case_grad(const mm_kern *k, const mm_kern *ref)
{
    if (bench) {
        bench_grad(k);
        return;
    }
    check_matmul(k);
    check_attn(k, ref);
    check_rows(k, ref);
    check_elements(k, ref);
}

/* Rows and vectors. Conversions are exact; reductions within n eps of the sum of absolute terms; elementwise within a
 * few ulp. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"

static const size_t sizes[] = { 0,  1,  2,  3,  4,  5,  7,  8,  9,  13, 15,  16,  17,   23,  24,
                                25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 384, 1000, 1537 };
#define NSIZES (sizeof sizes / sizeof *sizes)

static void check_dot(const mm_kern *k, const mm_kern *ref)
{
    begin("dot_f32");
    for (size_t s = 0; s < NSIZES; s++)
        for (int kind = 0; kind < 4; kind++)
            for (size_t off = 0; off < 8; off += 4) {
                size_t n = sizes[s];
                float *a = guarded(4 * n, off), *b = guarded(4 * n, 4 - off);
                fill(a, n, kind);
                fill(b, n, kind);
                double sum = 0;
                for (size_t i = 0; i < n; i++) sum += fabs((double)a[i] * b[i]);
                float got = k->dot_f32(a, b, n), want = ref->dot_f32(a, b, n);
                if (!(fabsf(got - want) <= (double)(n + 1) * FLT_EPSILON * sum))
                    wrong("n %zu kind %d: %g, not %g", n, kind, (double)got, (double)want);
                guard_free(a);
                guard_free(b);
            }
    end();
}

static void check_formats(const mm_kern *k, const mm_kern *ref)
{
    static const char *const names[] = { "f32", "f16", "bf16", "q8_0" };
    for (int f = 0; f < MMK_NFMT; f++) {
        begin("conversion of %s, both ways", names[f]);
        for (size_t s = 0; s < NSIZES; s++)
            for (int kind = 0; kind < 4; kind++) {
                size_t n = f == MMK_FMT_Q8_0 ? sizes[s] / 32 * 32 : sizes[s], bytes = f == MMK_FMT_F32 ? 4 * n
                                                                                      : f == MMK_FMT_Q8_0
                                                                                          ? n / 32 * 34
                                                                                          : 2 * n;
                float *x = guarded(4 * n, 4), *y = guarded(4 * n, 8), *z = guarded(4 * n, 0);
                char *p = guarded(bytes, 2), *q = guarded(bytes, 6);
                fill(x, n, kind);
                if (n > 4 && f != MMK_FMT_Q8_0)
                    x[0] = INFINITY, x[1] = -0.0f, x[2] = 65520, x[3] = 3e-8f, x[4] = NAN;
                if (n && f == MMK_FMT_Q8_0 && kind == 0) /* halves, and next to them: 127 makes the scale 1 */
                    for (int i = 0; i < 32; i++)
                        x[i] = i == 0 ? 127 : nextafterf((float)(i - 16) + 0.5f, i % 3 ? (i % 3 == 1 ? -99.0f : 99.0f) : (float)(i - 16) + 0.5f);
                if (n && f == MMK_FMT_Q8_0 && kind == 1) /* no finite 1 / scale */
                    for (int i = 0; i < 32; i++) x[i] *= 1e-41f;
                if (n && f == MMK_FMT_Q8_0 && kind == 3) memset(x, 0, 32 * sizeof *x);
                ref->from_f32[f](q, x, n);
                k->from_f32[f](p, x, n);
                if (memcmp(p, q, bytes)) wrong("n %zu kind %d: from float32 differs", n, kind);
                ref->to_f32[f](z, q, n);
                k->to_f32[f](y, q, n);
                for (size_t i = 0; i < n; i++)
                    if (z[i] != z[i] ? y[i] == y[i] : memcmp(&y[i], &z[i], 4) != 0)
                        wrong("n %zu kind %d: to float32 differs", n, kind);
                if (!guard_ok(y) || !guard_ok(p)) wrong("n %zu: writes beyond the end", n);
                guard_free(x), guard_free(y), guard_free(z), guard_free(p), guard_free(q);
            }
        end();
    }
    for (int f = MMK_FMT_F16; f <= MMK_FMT_BF16; f++) {
        begin("conversion of %s, every pattern and every tie", names[f]);
        enum { N = 65536 };
        uint16_t *h = malloc(2 * N), *a = malloc(4 * N), *b = malloc(4 * N);
        float *x = malloc(4 * N), *y = malloc(8 * N);
        for (unsigned i = 0; i < N; i++) h[i] = (uint16_t)i;
        k->to_f32[f](x, h, N);
        ref->to_f32[f](y, h, N);
        for (unsigned i = 0; i < N; i++)
            if (y[i] != y[i] ? x[i] == x[i] : memcmp(&x[i], &y[i], 4) != 0)
                wrong("%04x is %g, not %g", i, (double)x[i], (double)y[i]);
        for (unsigned i = 0; i < N; i++) { /* half way to the next, and a little less */
            y[2 * i] = (float)(((double)x[i] + (double)x[(i + 1) % N]) / 2);
            y[2 * i + 1] = nextafterf(y[2 * i], 0);
        }
        k->from_f32[f](a, y, 2 * N);
        ref->from_f32[f](b, y, 2 * N);
        for (unsigned i = 0; i < 2 * N; i++)
            if (a[i] != b[i]) wrong("%.9g becomes %04x, not %04x", (double)y[i], a[i], b[i]);
        free(h), free(a), free(b), free(x), free(y);
        end();
    }
    begin("float32 to int8");
    for (size_t s = 0; s < NSIZES; s++)
        for (int kind = 0; kind < 4; kind++) {
            size_t n = sizes[s];
            float *x = guarded(4 * n, 4);
            int8_t *a = guarded(n, 1), *b = guarded(n, 3);
            fill(x, n, kind);
            if (kind == 3 && n > 20) memset(x, 0, 4 * n);
            float da = k->to_i8(a, x, n), db = ref->to_i8(b, x, n);
            if (da != db || memcmp(a, b, n)) wrong("n %zu kind %d differs", n, kind);
            if (!guard_ok(a)) wrong("n %zu: writes beyond the end", n);
            guard_free(x), guard_free(a), guard_free(b);
        }
    end();
}

/* |got - want| within tol times the largest magnitude in the row */
static void compare(const float *got, const float *want, size_t rows, size_t n, double tol, const char *what)
{
    for (size_t r = 0; r < rows; r++) {
        double top = 0;
        for (size_t i = 0; i < n; i++) top = fmax(top, fabs((double)want[r * n + i]));
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double)got[r * n + i] - (double)want[r * n + i]) <= tol * (top + 1e-30))) {
                wrong("%s: row %zu of %zu, element %zu of %zu: %g, not %g", what, r, rows, i, n,
                      (double)got[r * n + i], (double)want[r * n + i]);
                return;
            }
    }
}

static void check_rows(const mm_kern *k, const mm_kern *ref)
{
    begin("layer_norm, rms_norm, pooling, l2_normalize");
    for (size_t s = 1; s < NSIZES; s++)
        for (int kind = 0; kind < 2; kind++) {
            size_t d = sizes[s], rows = 3, n = rows * d;
            float *x = guarded(4 * n, 4), *res = guarded(4 * n, 8), *g = guarded(4 * d, 0), *b = guarded(4 * d, 4),
                  *y = guarded(4 * n, 12), *z = guarded(4 * n, 0);
            fill(x, n, kind), fill(res, n, kind), fill(g, d, 0), fill(b, d, 0);
            for (int with = 0; with < 2; with++) {
                k->layer_norm(y, x, with ? res : NULL, g, b, rows, d, 1e-5f);
                ref->layer_norm(z, x, with ? res : NULL, g, b, rows, d, 1e-5f);
                compare(y, z, rows, d, 4e-5, "layer_norm");
            }
            memcpy(y, x, 4 * n);
            k->layer_norm(y, y, NULL, g, b, rows, d, 1e-5f);
            ref->layer_norm(z, x, NULL, g, b, rows, d, 1e-5f);
            compare(y, z, rows, d, 4e-5, "layer_norm in place");
            k->rms_norm(y, x, g, rows, d, 1e-6f);
            ref->rms_norm(z, x, g, rows, d, 1e-6f);
            compare(y, z, rows, d, 1e-5, "rms_norm");
            k->pool_mean(y, x, rows, d, d);
            ref->pool_mean(z, x, rows, d, d);
            compare(y, z, 1, d, 1e-5, "pool_mean");
            k->pool_max(y, x, rows, d, d);
            ref->pool_max(z, x, rows, d, d);
            compare(y, z, 1, d, 0, "pool_max");
            float keep = x[d];
            x[d] = NAN;
            k->pool_max(y, x, rows, d, d);
            if (y[0] == y[0] || (d > 1 && y[1] != z[1])) wrong("d %zu: pool_max loses a NaN, or spreads it", d);
            x[d] = keep;
            memcpy(y, x, 4 * n), memcpy(z, x, 4 * n);
            memset(y, 0, 4 * d), memset(z, 0, 4 * d);
            if (k->l2_normalize(y, rows, d) != ref->l2_normalize(z, rows, d))
                wrong("l2_normalize counts zero rows otherwise");
            compare(y, z, rows, d, 1e-6, "l2_normalize");
            for (size_t i = 0; i < n; i++) y[i] = z[i] = x[i] * 1e-30f; /* squares would vanish in float32 */
            k->l2_normalize(y, rows, d), ref->l2_normalize(z, rows, d);
            compare(y, z, rows, d, 2e-6, "l2_normalize of tiny rows");
            if (!guard_ok(y)) wrong("d %zu: writes beyond the end", d);
            guard_free(x), guard_free(res), guard_free(g), guard_free(b), guard_free(y), guard_free(z);
        }
    end();
}

static void check_act(const mm_kern *k, const mm_kern *ref)
{
    static const char *const names[] = { "none", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu" };
    for (int a = 0; a <= MMK_ACT_RELU; a++) {
        begin("activation %s", names[a]);
        enum { N = 40000 };
        float *x = guarded(4 * N, 4), *y = guarded(4 * N, 4), *z = guarded(4 * N, 4);
        for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) * 1e-3f;
        x[0] = -3e38f, x[1] = 3e38f, x[2] = -0.0f, x[3] = 1e-40f, x[4] = -100, x[5] = 100;
        memcpy(y, x, 4 * N), memcpy(z, x, 4 * N);
        k->act(y, N, (mmk_act)a), ref->act(z, N, (mmk_act)a);
        for (int i = 0; i < N; i++)
            if (!(fabs((double)y[i] - (double)z[i]) <= 4e-7 * fmax(1, fabs((double)x[i]))))
                wrong("at %g: %g, not %g", (double)x[i], (double)y[i], (double)z[i]);
        y[0] = NAN;
        k->act(y, 1, (mmk_act)a);
        if (y[0] == y[0]) wrong("a NaN is lost");
        for (int i = 1; i < N; i += 997) { /* an element alone, and at the end of a few */
            float t[5] = { 0, 0, 0, 0, x[i] }, u = x[i];
            k->act(t, 5, (mmk_act)a), k->act(&u, 1, (mmk_act)a);
            if (memcmp(&u, &y[i], 4) || memcmp(&t[4], &y[i], 4)) wrong("at %g: other bits at another place", (double)x[i]);
        }
        if (!guard_ok(y)) wrong("writes beyond the end");
        guard_free(x), guard_free(y), guard_free(z);
        end();
    }
    begin("softmax");
    for (size_t s = 1; s < NSIZES; s++) {
        size_t n = sizes[s], ld = n + 3;
        float *y = guarded(4 * 2 * ld, 4), *z = guarded(4 * 2 * ld, 4);
        fill(y, 2 * ld, 1);
        if (n > 2) y[1] = -INFINITY;
        memcpy(z, y, 4 * 2 * ld);
        k->softmax(y, 2, n, ld), ref->softmax(z, 2, n, ld);
        compare(y, z, 1, 2 * ld, 3e-6, "softmax");
        /* a NaN and an infinity spoil their own row, and nothing else */
        y[0] = n % 2 ? NAN : INFINITY;
        memcpy(z, y + ld, 4 * n);
        k->softmax(y, 1, n, ld);
        for (size_t i = 0; i < n; i++)
            if (y[i] == y[i]) wrong("n %zu: a row with %s has numbers", n, n % 2 ? "NaN" : "infinity");
        if (memcmp(z, y + ld, 4 * n) || !guard_ok(y)) wrong("n %zu: writes beyond its row", n);
        guard_free(y), guard_free(z);
    }
    end();
}

typedef struct {
    const mm_kern *k;
    float *x, *y, *g, *b;
    size_t rows, d;
    mmk_act act;
} arg;

static void run_norm(void *p)
{
    arg *a = p;
    a->k->layer_norm(a->y, a->x, NULL, a->g, a->b, a->rows, a->d, 1e-5f);
}
static void run_act(void *p)
{
    arg *a = p;
    memcpy(a->y, a->x, a->rows * a->d * 4);
    a->k->act(a->y, a->rows * a->d, a->act);
}

static void bench_vec(const mm_kern *k)
{
    arg a = { k, NULL, NULL, NULL, NULL, 128, 384, MMK_ACT_GELU_ERF };
    size_t n = a.rows * a.d;
    a.x = guarded(4 * n, 0), a.y = guarded(4 * n, 0), a.g = guarded(4 * a.d, 0), a.b = guarded(4 * a.d, 0);
    fill(a.x, n, 0), fill(a.g, a.d, 0), fill(a.b, a.d, 0);
    report("layer_norm", "f32", "128x384", timed(run_norm, &a), 8.0 * (double)n, 0);
    report("gelu_erf", "f32", "128x384", timed(run_act, &a), 8.0 * (double)n, 0);
    guard_free(a.x), guard_free(a.y), guard_free(a.g), guard_free(a.b);
}

void case_vec(const mm_kern *k, const mm_kern *ref)
{
    if (bench) {
        bench_vec(k);
        return;
    }
    check_dot(k, ref);
    check_formats(k, ref);
    check_rows(k, ref);
    check_act(k, ref);
}

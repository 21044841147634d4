/* Packed products: the error of every element against double sums, within what the level states; and bits that do not
 * depend on the number of rows, on threads, or on packing matrices together. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "kernels/ref/num_ref.h"

enum { TYPES = 6 };
static const int types[TYPES] = { 0, 1, 30, 8, 2, 3 };
static const char *const names[TYPES] = { "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1" };

static size_t row_bytes(int t, size_t k) { return t == 0 ? 4 * k : t < 3 ? 2 * k : k / 32 * (t == 3 ? 34 : t == 4 ? 18 : 20); }

/* A row of 4-bit blocks with scales of the size of x, and what it stands for */
static void nibbles(const mm_kern *ref, int t, char *row, float *dense, const float *x, size_t kk)
{
    for (size_t b = 0; b < kk; b += 32, row += t == 4 ? 18 : 20) {
        const float at[2] = { x[b] / 8, x[b + 1] };
        ref->from_f32[MMK_FMT_F16](row, at, (size_t)(t == 4 ? 1 : 2));
        for (size_t i = 0; i < 16; i++) row[(t == 4 ? 2 : 4) + i] = (char)rnd();
        for (size_t i = 0; i < 32; i++) dense[b + i] = t == 4 ? num_load_q4_0(row, i) : num_load_q4_1(row, i);
    }
}

/* Error per term relative to |x| |w|: accumulation in float32 apart, what the level does to its operands (mm_gemm.h).
 */
static double unit(const mm_kern *k, int t)
{
    if (k->flags & MM_CPU_AMX) return t == 3 ? 1.0 / 128 : t > 3 ? 1.0 / 64 : 3.1e-5;
    if (k->flags == 0) return 1e-7;
    return t >= 3 ? 1.0 / 64 : 1e-7;
}

typedef struct {
    void *raw, *mem;
    const mmk_mat *w;
    float *dense; /* what the stored weights are */
} packed;

static packed pack(const mm_kern *k, const mm_kern *ref, int t, size_t n, size_t kk, int kind)
{
    packed p = { guarded(n * row_bytes(t, kk), 2), NULL, NULL, NULL };
    float *x = malloc(4 * kk + 4);
    p.dense = malloc(4 * n * kk + 4);
    for (size_t i = 0; i < n; i++) {
        char *row = (char *)p.raw + i * row_bytes(t, kk);
        fill(x, kk, kind);
        if (t >= MMK_NFMT) {
            nibbles(ref, t, row, p.dense + i * kk, x, kk);
            continue;
        }
        ref->from_f32[t](row, x, kk);
        for (size_t b = 0; t == MMK_FMT_Q8_0 && b < kk / 32; b++) row[b * 34 + 2 + rnd() % 32] = -128; /* which no quantiser makes, and a file may have */
        ref->to_f32[t](p.dense + i * kk, row, kk);
    }
    size_t bytes = mmk_pack_size(k, types[t], n, kk);
    p.mem = aligned_alloc(64, (bytes + 127) / 64 * 64);
    mmk_rows src = { p.raw, n };
    p.w = mmk_pack(k, p.mem, types[t], kk, &src, 1, 2);
    free(x);
    return p;
}

static void drop(packed *p)
{
    guard_free(p->raw);
    free(p->mem);
    free(p->dense);
}

static void one(const mm_kern *k, const mm_kern *ref, int t, size_t m, size_t n, size_t kk, int kind, int extras)
{
    size_t lda = kk + 3, ldc = n + 5;
    packed p = pack(k, ref, t, n, kk, kind);
    float *a = guarded(4 * (m ? (m - 1) * lda + kk : 0), 4), *c = guarded(4 * (m ? (m - 1) * ldc + n : 0), 4),
          *bias = guarded(4 * n, 4), *res = guarded(4 * m * n, 4);
    for (size_t i = 0; i < m; i++) fill(a + i * lda, kk, kind);
    fill(bias, n, 0), fill(res, m * n, 0);
    if (!p.w) {
        wrong("%zux%zu is not packed", n, kk);
    } else if (mmk_gemm(c, ldc, a, lda, m, p.w, extras ? bias : NULL, extras ? res : NULL, n,
                        extras ? MMK_ACT_RELU : MMK_ACT_NONE, 1)) {
        wrong("m %zu n %zu k %zu: no memory", m, n, kk);
    } else {
        double u = unit(k, t);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double s = extras ? bias[j] : 0, abs = fabs(s);
                for (size_t x = 0; x < kk; x++) {
                    double term = (double)a[i * lda + x] * p.dense[j * kk + x];
                    s += term;
                    abs += fabs(term);
                }
                if (extras) s = (s > 0 ? s : 0) + res[i * n + j], abs += fabs((double)res[i * n + j]);
                double got = c[i * ldc + j], tol = (u + (double)(kk + 8) * FLT_EPSILON) * abs + 1e-36;
                if (!(fabs(got - s) <= tol))
                    wrong("m %zu n %zu k %zu kind %d at %zu,%zu: %g, not %g (tolerance %g)", m, n, kk, kind, i, j,
                          got, s, tol);
            }
        if (!guard_ok(c)) wrong("m %zu n %zu k %zu: writes beyond the end", m, n, kk);
    }
    guard_free(a), guard_free(c), guard_free(bias), guard_free(res);
    drop(&p);
}

static void same_bits(const mm_kern *k, const mm_kern *ref, int t)
{
    enum { M = 77, N = 130, K = 96 };
    packed p = pack(k, ref, t, N, K, 0);
    float *a = malloc(4 * M * K), *all = malloc(4 * M * N), *some = malloc(4 * M * N);
    fill(a, M * K, 0);
    int r = mmk_gemm(all, N, a, K, M, p.w, NULL, NULL, 0, MMK_ACT_GELU_ERF, 1);
    static const size_t cuts[] = { 1, 2, 3, 5, 8, 15, 17, 33 };
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts && !r; c++)
        for (size_t at = 0; at < M && !r; at += cuts[c]) {
            size_t m = M - at < cuts[c] ? M - at : cuts[c];
            r = mmk_gemm(some, N, a + at * K, K, m, p.w, NULL, NULL, 0, MMK_ACT_GELU_ERF, 1);
            if (memcmp(some, all + at * N, 4 * m * N))
                wrong("rows %zu to %zu alone have other bits than among %d", at, at + m, M);
        }
    for (int threads = 2; threads < 5 && !r; threads++) {
        r = mmk_gemm(some, N, a, K, M, p.w, NULL, NULL, 0, MMK_ACT_GELU_ERF, threads);
        if (memcmp(some, all, 4 * M * N)) wrong("%d threads give other bits", threads);
    }
    /* three matrices stacked give what each gives alone */
    mmk_rows src[3] = { { p.raw, 50 },
                        { (char *)p.raw + 50 * row_bytes(t, K), 30 },
                        { (char *)p.raw + 80 * row_bytes(t, K), 50 } };
    void *mem = aligned_alloc(64, (mmk_pack_size(k, types[t], N, K) + 127) / 64 * 64);
    const mmk_mat *w = mmk_pack(k, mem, types[t], K, src, 3, 1);
    if (!r) r = mmk_gemm(some, N, a, K, M, w, NULL, NULL, 0, MMK_ACT_GELU_ERF, 1);
    if (r || memcmp(some, all, 4 * M * N)) wrong("stacked matrices give other bits");
    /* and so they do before they are packed */
    void *head = aligned_alloc(64, mmk_view_size());
    mmk_mat *v = mmk_view(k, head, types[t], K, src, 3);
    for (int threads = 1; threads < 4 && !r; threads++)
        for (size_t m = 1; m <= M && !r; m = 4 * m + m % 3) {
            r = mmk_gemm(some, N, a, K, m, v, NULL, NULL, 0, MMK_ACT_GELU_ERF, threads);
            if (memcmp(some, all, 4 * m * N)) wrong("%zu rows, %d threads: a matrix that is not packed gives other bits", m, threads);
        }
    memset(mem, 0xff, mmk_pack_size(k, types[t], N, K));
    for (size_t part = 0; part < 4; part++) mmk_settle(v, mem, part, 4, 2);
    memset(src, 0, sizeof src);
    if (!r) r = mmk_gemm(some, N, a, K, M, v, NULL, NULL, 0, MMK_ACT_GELU_ERF, 2);
    if (r || memcmp(some, all, 4 * M * N)) wrong("packed later it gives other bits");
    free(head), free(mem), free(a), free(all), free(some);
    drop(&p);
}

/* Products that threads share piece by piece, of rows and of panels: each element once (C is added to itself), the same bits. */
static void shared(const mm_kern *k, const mm_kern *ref, int t)
{
    static const size_t shape[][3] = { { 400, 200, 320 }, { 60, 1300, 320 }, { 3, 4800, 640 } };
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        const size_t m = shape[i][0], n = shape[i][1], kk = shape[i][2];
        packed p = pack(k, ref, t, n, kk, 0);
        float *a = malloc(4 * m * kk), *before = malloc(4 * m * n), *one = malloc(4 * m * n), *some = malloc(4 * m * n);
        if (!p.w || !a || !before || !one || !some) exit(99);
        fill(a, m * kk, 0), fill(before, m * n, 0);
        memcpy(one, before, 4 * m * n);
        int r = mmk_gemm(one, n, a, kk, m, p.w, NULL, one, n, MMK_ACT_NONE, 1);
        for (int threads = 2; threads < 4 && !r; threads++) {
            r = mmk_gemm(some, n, a, kk, 0, p.w, NULL, NULL, 0, MMK_ACT_NONE, threads); /* no rows: nothing */
            memcpy(some, before, 4 * m * n);
            r |= mmk_gemm(some, n, a, kk, m, p.w, NULL, some, n, MMK_ACT_NONE, threads);
            if (memcmp(some, one, 4 * m * n)) wrong("%zux%zux%zu: %d threads give other bits", m, n, kk, threads);
        }
        if (r) wrong("no memory");
        free(a), free(before), free(one), free(some);
        drop(&p);
    }
}

static void nan_stays_in_its_row(const mm_kern *k, const mm_kern *ref, int t)
{
    enum { M = 20, N = 40, K = 64 };
    packed p = pack(k, ref, t, N, K, 0);
    float a[M * K], c[M * N];
    fill(a, M * K, 0);
    a[7 * K + 3] = NAN;
    if (mmk_gemm(c, N, a, K, M, p.w, NULL, NULL, 0, MMK_ACT_NONE, 1)) wrong("no memory");
    for (int i = 0; i < M * N; i++)
        if ((c[i] != c[i]) != (i / N == 7)) wrong("a NaN in row 7 shows at %d,%d", i / N, i % N);
    drop(&p);
}

typedef struct {
    const mmk_mat *w;
    float *a, *c;
    size_t m, n, k;
} arg;

static void run(void *p)
{
    arg *a = p;
    if (mmk_gemm(a->c, a->n, a->a, a->k, a->m, a->w, NULL, NULL, 0, MMK_ACT_NONE, 1)) exit(4);
}

static void bench_gemm(const mm_kern *k, const mm_kern *ref)
{
    static const size_t shapes[][3] = { { 960, 1536, 384 }, { 960, 384, 1536 }, { 30, 1536, 384 }, { 1, 1536, 384 } };
    for (int t = 0; t < TYPES; t++)
        for (size_t s = 0; s < 4; s++) {
            arg a = { NULL, NULL, NULL, shapes[s][0], shapes[s][1], shapes[s][2] };
            if (k->flags == 0 && a.m > 100) continue; /* ref is for reading */
            if (!mmk_pack_size(k, types[t], a.n, a.k)) continue;
            packed p = pack(k, ref, t, a.n, a.k, 0);
            char shape[60];
            a.w = p.w;
            a.a = aligned_alloc(64, 4 * a.m * a.k), a.c = aligned_alloc(64, 4 * a.m * a.n);
            fill(a.a, a.m * a.k, 0);
            snprintf(shape, sizeof shape, "%zux%zux%zu", a.m, a.k, a.n);
            report("gemm", names[t], shape, timed(run, &a), (double)(a.n * row_bytes(t, a.k)),
                   2.0 * (double)(a.m * a.n * a.k));
            free(a.a), free(a.c);
            drop(&p);
        }
}

void case_gemm(const mm_kern *k, const mm_kern *ref)
{
    static const size_t edge[] = { 0, 1, 2, 3, 5, 6, 7, 13, 14, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100 };
    if (bench) {
        bench_gemm(k, ref);
        return;
    }
    for (int t = 0; t < TYPES; t++) {
        size_t unit_k = t >= 3 ? 32 : 1;
        if (!mmk_pack_size(k, types[t], 32, 32)) continue; /* this level has none */
        begin("gemm %s, all sizes", names[t]);
        for (size_t i = 0; i < sizeof edge / sizeof *edge; i++) {
            one(k, ref, t, edge[i], 37, 33 / unit_k * unit_k, 0, 0);
            one(k, ref, t, 7, edge[i], 65 / unit_k * unit_k, 1, 1);
            one(k, ref, t, 9, 35, edge[i] / unit_k * unit_k, 0, 1);
        }
        one(k, ref, t, 61, 131, 384, 0, 1);
        one(k, ref, t, 33, 70, 1536, 1, 0);
        one(k, ref, t, 5, 20, 64, 2, 0);
        one(k, ref, t, 5, 20, 64, 3, 0);
        end();
        begin("gemm %s, bits independent of rows, threads and stacking", names[t]);
        same_bits(k, ref, t);
        if (k->flags) shared(k, ref, t); /* with ref's it is the same code, and slow */
        end();
        begin("gemm %s, a NaN stays in its row", names[t]);
        nan_stays_in_its_row(k, ref, t);
        end();
    }
}

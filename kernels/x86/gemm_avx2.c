/* gemm_avx2.c - float32, float16 and bfloat16 weights by FMA on 256-bit registers. Flags: -mavx2 -mfma -mf16c.
 *
 * A panel is 16 columns (two registers), a block up to 6 rows: 12 accumulators + 2 of W + 1 broadcast of the 16 registers.
 * With few rows several panels run side by side, so that enough accumulators hide the latency of FMA. Each element is one
 * chain of FMA over k = 0, 1, ...: its bits do not depend on how many rows and panels run beside it. 16-bit weights stay 16
 * bits in the panel, [k][16], and are widened on load (exactly). q8_0: gemm_q8_avx2.c. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx2.h"
#include <string.h>

enum { NR = 16, MR = 6 };

static size_t a_step(int rows)
{
    return (size_t)rows * sizeof(float);
}

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 6, 3, 2, 1, 1, 1 };
    return by_rows[rows];
}

typedef void load_fn(const char *p, __m256 *w0, __m256 *w1);

static inline void load_f32(const char *p, __m256 *w0, __m256 *w1)
{
    *w0 = _mm256_load_ps((const float *)(const void *)p);
    *w1 = _mm256_load_ps((const float *)(const void *)p + 8);
}

static inline void load_f16(const char *p, __m256 *w0, __m256 *w1)
{
    *w0 = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p));
    *w1 = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p + 1));
}

static inline __m256 widen_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static inline void load_bf16(const char *p, __m256 *w0, __m256 *w1)
{
    *w0 = widen_bf16(_mm_load_si128((const __m128i *)(const void *)p));
    *w1 = widen_bf16(_mm_load_si128((const __m128i *)(const void *)p + 1));
}

/* The micro-kernel: sums of rows x np panels; rows, np and load are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void sums(__m256 *acc, const float *a, const char *b, size_t b_stride,
                                                       size_t steps, int rows, int np, load_fn *load, size_t b_step)
{
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++)
        acc[i] = _mm256_setzero_ps();
    for (size_t s = 0; s < steps; s++) {
#pragma GCC unroll 6
        for (int p = 0; p < np; p++) {
            __m256 w0, w1;
            const char *w = b + (size_t)p * b_stride;
            load(w, &w0, &w1);
            _mm_prefetch(w + 1024, _MM_HINT_T0);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m256 x = _mm256_broadcast_ss(a + r);
                acc[(p * rows + r) * 2] = _mm256_fmadd_ps(x, w0, acc[(p * rows + r) * 2]);
                acc[(p * rows + r) * 2 + 1] = _mm256_fmadd_ps(x, w1, acc[(p * rows + r) * 2 + 1]);
            }
        }
        a += rows;
        b += b_step;
    }
}

static inline __attribute__((always_inline)) void kernel(float *tile, const float *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np, load_fn *load,
                                                         size_t b_step)
{
    __m256 acc[MR * 2];
    sums(acc, a, b, b_stride, steps, rows, np, load, b_step);
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++)
        _mm256_store_ps(tile + i * 8, acc[i]);
}

static inline __attribute__((always_inline)) void kernel_to(float *c, size_t ldc, const float *a, const char *b, size_t steps,
                                                            int rows, const float *bias, const float *res, size_t ldr,
                                                            load_fn *load, size_t b_step)
{
    __m256 acc[MR * 2];
    fetch_avx2(c, ldc, rows);
    sums(acc, a, b, 0, steps, rows, 1, load, b_step);
    store_avx2(c, ldc, acc, rows, bias, res, ldr);
}

#define CASE(r, p, load, step) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, load, step); break;

#define TO(r, load, step) \
    case r: kernel_to(c, ldc, a, b, steps, r, bias, res, ldr, load, step); break;

#define MUL(dtype, step)                                                                                              \
    static void mul_##dtype(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows,       \
                            int np)                                                                   \
    {                                                                                                                 \
        switch (rows * 8 + np) {                                                                                      \
            CASE(1, 1, load_##dtype, step) CASE(2, 1, load_##dtype, step) CASE(3, 1, load_##dtype, step)              \
            CASE(4, 1, load_##dtype, step) CASE(5, 1, load_##dtype, step) CASE(6, 1, load_##dtype, step)              \
            CASE(1, 6, load_##dtype, step) CASE(2, 3, load_##dtype, step) CASE(3, 2, load_##dtype, step)              \
        default: break;                                                                                               \
        }                                                                                                             \
    }                                                                                                                 \
    static void mul_to_##dtype(float *c, size_t ldc, const void *a, const void *b, size_t steps, int rows,            \
                               const float *bias, const float *res, size_t ldr)                                       \
    {                                                                                                                 \
        switch (rows) {                                                                                               \
            TO(1, load_##dtype, step) TO(2, load_##dtype, step) TO(3, load_##dtype, step)                             \
            TO(4, load_##dtype, step) TO(5, load_##dtype, step) TO(6, load_##dtype, step)                             \
        default: break;                                                                                               \
        }                                                                                                             \
    }

MUL(f32, 64)
MUL(f16, 32)
MUL(bf16, 32)

/* Rows 0 .. n-1 of eight (the others zero), elements i .. i+7, transposed; cols <= 8 of them exist. n and cols == 8 are
 * constants where it matters. */
static inline __attribute__((always_inline)) void gather8(__m256 t[8], const char *const *rows, int n, size_t i, size_t cols)
{
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) {
        const float *x = r < n ? (const float *)(const void *)(rows[r] + 4 * i) : NULL;
        t[r] = r >= n ? _mm256_setzero_ps() : cols == 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, tail_avx2(cols));
    }
    transpose8(t);
}

static void pack_f32(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i += 8) {
        mmk_fetch_panel(rows, n, NR, 4 * k, 4 * i, 32);
        for (int h = 0; h < 2; h++) {
            __m256 t[8];
            size_t cols = k - i < 8 ? k - i : 8;
            const char *const *row = (const char *const *)rows + 8 * h;
            if (cols == 8 && n == NR) gather8(t, row, 8, i, 8);
            else gather8(t, row, n - 8 * h, i, cols);
            for (size_t j = 0; j < cols; j++)
                _mm256_store_ps(d + (i + j) * NR + 8 * h, t[j]);
        }
    }
}

static void pack_16(void *dst, const void *const *rows, int n, size_t k)
{
    uint16_t *d = dst;
    size_t i = 0;
    for (; i + 16 <= k; i += 16) {
        mmk_fetch_panel(rows, n, NR, 2 * k, 2 * i, 32);
        for (int h = 0; h < NR; h += 8) {
            __m256i t[8];
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                t[j] = h + j < n ? _mm256_loadu_si256((const __m256i *)(const void *)((const char *)rows[h + j] + 2 * i)) : _mm256_setzero_si256();
            transpose8_16(t);
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                __m128i *to = (__m128i *)(void *)(d + (i + (size_t)j) * NR + h);
                _mm_store_si128(to, _mm256_castsi256_si128(t[j]));
                _mm_store_si128(to + NR, _mm256_extracti128_si256(t[j], 1)); /* 8 rows of NR on */
            }
        }
    }
    for (; i < k; i++)
        for (int j = 0; j < NR; j++) {
            d[i * NR + (size_t)j] = 0;
            if (j < n) memcpy(d + i * NR + j, (const char *)rows[j] + 2 * i, 2);
        }
}

/* [k][rows]; rows is a constant where this is inlined. A store that is too wide is overwritten by the next; masked stores are
 * slow on Zen. */
static inline __attribute__((always_inline)) void pack_a_of(float *d, const float *a, size_t lda, int rows, size_t k)
{
    const char *row[MR];
    __m256 t[8];
    size_t i = 0;
    for (int r = 0; r < rows; r++)
        row[r] = (const char *)(a + (size_t)r * lda);
    for (; i + 8 <= k; i += 8) {
        gather8(t, row, rows, i, 8);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++, d += rows)
            _mm256_storeu_ps(d, t[j]);
    }
    if (i < k) {
        gather8(t, row, rows, i, k - i);
        for (size_t j = 0; j < k - i; j++, d += rows)
            _mm256_storeu_ps(d, t[j]);
    }
}

static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    switch (rows) {
    case 1: memcpy(dst, a, k * sizeof *a); break;
    case 2: pack_a_of(dst, a, lda, 2, k); break;
    case 3: pack_a_of(dst, a, lda, 3, k); break;
    case 4: pack_a_of(dst, a, lda, 4, k); break;
    case 5: pack_a_of(dst, a, lda, 5, k); break;
    default: pack_a_of(dst, a, lda, 6, k); break;
    }
}

/* Whole rows of K by full registers, of which the next row overwrites what is too much; the last one as it is. A narrow
 * matrix could end within such a load. */
static inline __attribute__((always_inline)) void strips_of(float *dst, size_t stride, const float *src, size_t ld, size_t width,
                                                            size_t count, size_t k)
{
    size_t whole = width == NR ? k : width < 4 || k == 0 ? 0 : k - 1, apart = stride / sizeof *dst;
    for (size_t t = 0; t < whole; t++) {
        float *d = dst + t * width;
        const float *s = src + t * ld;
#pragma GCC unroll 4
        for (size_t i = 0; i < count; i++) {
            _mm256_storeu_ps(d + i * apart, _mm256_loadu_ps(s + i * width));
            if (width == NR) _mm256_storeu_ps(d + i * apart + 8, _mm256_loadu_ps(s + i * width + 8));
        }
    }
    for (size_t t = whole; t < k; t++)
        for (size_t i = 0; i < count; i++)
            memcpy(dst + i * apart + t * width, src + t * ld + i * width, width * sizeof *dst);
}

static void strips(float *dst, size_t stride, const float *src, size_t ld, int width, size_t count, size_t k)
{
    switch (width) {
    case NR: strips_of(dst, stride, src, ld, NR, count, k); break;
    case 6: strips_of(dst, stride, src, ld, 6, count, k); break;
    case 5: strips_of(dst, stride, src, ld, 5, count, k); break;
    default: strips_of(dst, stride, src, ld, (size_t)width, count, k); break;
    }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx2(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define OPS(dtype, step, pack_fn)                                                                            \
    const mmk_gemm_ops mmk_gemm_##dtype##_avx2 = {                                                           \
        .name = #dtype "_avx2", .nr = NR, .mr = MR, .row_unit = 1, .kstep = 1, .b_step = step, .a_step = a_step, \
        .panels = panels, .pack_b = pack_fn, .pack_a = pack_a, .mul = mul_##dtype,                          \
        .mul_to = mul_to_##dtype, .epilogue = epilogue, .strips = strips,                                    \
    }

OPS(f32, 64, pack_f32);
OPS(f16, 32, pack_16);
OPS(bf16, 32, pack_16);

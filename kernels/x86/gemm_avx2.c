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

/* The micro-kernel; rows, np and load are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void kernel(float *tile, const float *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np, load_fn *load,
                                                         size_t b_step)
{
    __m256 acc[MR * 2];
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
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++)
        _mm256_store_ps(tile + i * 8, acc[i]);
}

#define CASE(r, p, load, step) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, load, step); break;

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
    }

MUL(f32, 64)
MUL(f16, 32)
MUL(bf16, 32)

/* Rows 0 .. n-1 of eight (the others zero), elements i .. i+7, transposed; cols <= 8 of them exist. */
static inline void gather8(__m256 t[8], const char *const *rows, int n, size_t i, size_t cols)
{
    for (int r = 0; r < 8; r++)
        t[r] = r < n ? _mm256_maskload_ps((const float *)(const void *)(rows[r] + 4 * i), tail_avx2(cols))
                     : _mm256_setzero_ps();
    transpose8(t);
}

static void pack_f32(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i += 8)
        for (int h = 0; h < 2; h++) {
            __m256 t[8];
            size_t cols = k - i < 8 ? k - i : 8;
            gather8(t, (const char *const *)rows + 8 * h, n - 8 * h, i, cols);
            for (size_t j = 0; j < cols; j++)
                _mm256_store_ps(d + (i + j) * NR + 8 * h, t[j]);
        }
}

static void pack_16(void *dst, const void *const *rows, int n, size_t k)
{
    uint16_t *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++, d++) {
            *d = 0;
            if (j < n)
                memcpy(d, (const char *)rows[j] + 2 * i, 2);
        }
}

/* [k][rows] */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    float *d = dst;
    if (rows == 1) {
        memcpy(d, a, k * sizeof *d);
        return;
    }
    const char *row[MR];
    for (int r = 0; r < rows; r++)
        row[r] = (const char *)(a + (size_t)r * lda);
    for (size_t i = 0; i < k; i += 8) {
        __m256 t[8];
        size_t cols = k - i < 8 ? k - i : 8;
        gather8(t, row, rows, i, cols);
        for (size_t j = 0; j < cols; j++, d += rows)
            _mm256_storeu_ps(d, t[j]); /* the next store overwrites what is too much; masked stores are slow on Zen */
    }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx2(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define OPS(dtype, step, pack_fn, mul_fn)                                                                    \
    const mmk_gemm_ops mmk_gemm_##dtype##_avx2 = {                                                           \
        .name = #dtype "_avx2", .nr = NR, .mr = MR, .row_unit = 1, .kstep = 1, .b_step = step, .a_step = a_step, \
        .panels = panels, .pack_b = pack_fn, .pack_a = pack_a, .mul = mul_fn, .epilogue = epilogue,          \
    }

OPS(f32, 64, pack_f32, mul_f32);
OPS(f16, 32, pack_16, mul_f16);
OPS(bf16, 32, pack_16, mul_bf16);

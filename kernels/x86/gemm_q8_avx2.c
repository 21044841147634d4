/* gemm_q8_avx2.c - q8_0 weights on AVX2: rows of x are rounded to 8 bits in blocks of 32 like the weights, products are exact
 * in int32 within a block and added up in float32, block after block, each times its two scales.
 *
 * VPMADDWD: both sides widened to 16 bits, two products to a lane, and an addition: two instructions make 16 products. (VPMADDUBSW, which wants one
 * unsigned side, takes four for 32, but three of these, with the signs, go to the two pipes of Zen that multiply: 1.12 times slower in the
 * first cache.) Weights stay 8 bits in the panel, which is 16 columns; per block of K: 16 float scales, then 16 pairs of elements of the 16 columns.
 * 6 rows: 12 integer accumulators, two registers of w, one of x and one of products; the float sums go to the stack in between, there are no
 * registers left. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx2.h"
#include <string.h>

enum { NR = 16, MR = 6, BLOCK = 32, PAIRS = BLOCK / 2, B_STEP = NR * (4 + BLOCK), ROW = 4 + 2 * BLOCK };

static size_t a_step(int rows)
{
    return (size_t)rows * ROW;
}

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 6, 3, 2, 1, 1, 1 };
    return by_rows[rows];
}

/* A pair of K: sums of w x, the first ones or added. */
static inline __attribute__((always_inline)) void add_pair(__m256i *sum, const int32_t *x, const char *b, size_t b_stride, int rows, int np,
                                                           int first)
{
#pragma GCC unroll 6
    for (int p = 0; p < np; p++) {
        const __m128i *w = (const __m128i *)(const void *)(b + (size_t)p * b_stride);
        __m256i w0 = _mm256_cvtepi8_epi16(_mm_load_si128(w)), w1 = _mm256_cvtepi8_epi16(_mm_load_si128(w + 1));
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m256i v = _mm256_set1_epi32(x[r]), s0 = _mm256_madd_epi16(w0, v), s1 = _mm256_madd_epi16(w1, v), *to = sum + (p * rows + r) * 2;
            if (first) {
                to[0] = s0;
                to[1] = s1;
            } else { /* left to gcc, the sums are copied to and fro */
                __asm__("vpaddd %1, %0, %0" : "+x"(to[0]) : "x"(s0));
                __asm__("vpaddd %1, %0, %0" : "+x"(to[1]) : "x"(s1));
            }
        }
    }
}

/* The micro-kernel: sums of rows x np panels; rows and np are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void sums(__m256 *acc, const char *a, const char *b, size_t b_stride, size_t steps, int rows, int np)
{
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++)
        acc[i] = _mm256_setzero_ps();
    for (size_t s = 0; s < steps; s++, a += rows * ROW, b += B_STEP) {
        const float *scale = (const float *)(const void *)a;
        const int32_t *x = (const int32_t *)(const void *)a + rows;
        __m256i sum[MR * 2];
        add_pair(sum, x, b + NR * 4, b_stride, rows, np, 1);
#pragma GCC unroll 3
        for (int g = 1; g < PAIRS; g++)
            add_pair(sum, x + g * rows, b + NR * 4 + g * NR * 2, b_stride, rows, np, 0);
#pragma GCC unroll 6
        for (int p = 0; p < np; p++) {
            const float *d = (const float *)(const void *)(b + (size_t)p * b_stride);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    int i = (p * rows + r) * 2 + h;
                    __m256 e = _mm256_mul_ps(_mm256_broadcast_ss(scale + r), _mm256_load_ps(d + 8 * h));
                    acc[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[i]), e, acc[i]);
                }
        }
    }
}

static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride, size_t steps, int rows, int np)
{
    __m256 acc[MR * 2];
    sums(acc, a, b, b_stride, steps, rows, np);
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++)
        _mm256_store_ps(tile + i * 8, acc[i]);
}

static inline __attribute__((always_inline)) void kernel_to(float *c, size_t ldc, const char *a, const char *b, size_t steps, int rows,
                                                            const float *bias, const float *res, size_t ldr)
{
    __m256 acc[MR * 2];
    fetch_avx2(c, ldc, rows);
    sums(acc, a, b, 0, steps, rows, 1);
    store_avx2(c, ldc, acc, rows, bias, res, ldr);
}

static void mul(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1) CASE(5, 1) CASE(6, 1)
        CASE(1, 6) CASE(2, 3) CASE(3, 2)
    default: break;
    }
}

static void mul_to(float *c, size_t ldc, const void *a, const void *b, size_t steps, int rows, const float *bias, const float *res, size_t ldr)
{
#define TO(r) \
    case r: kernel_to(c, ldc, a, b, steps, r, bias, res, ldr); break;
    switch (rows) {
        TO(1) TO(2) TO(3) TO(4) TO(5) TO(6)
    default: break;
    }
}

/* A block of eight columns, of which n exist: a constant where it matters. */
static inline __attribute__((always_inline)) void pack_half(char *d, char *pairs, const void *const *rows, int n, size_t at)
{
    __m256i t[8];
    uint16_t scales[8] = { 0 };
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const char *block = j < n ? (const char *)rows[j] + at : NULL;
        if (j < n) memcpy(&scales[j], block, 2);
        t[j] = j < n ? _mm256_loadu_si256((const __m256i *)(const void *)(block + 2)) : _mm256_setzero_si256();
    }
    transpose8_16(t);
    _mm256_store_ps((float *)(void *)d, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)scales)));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        _mm_store_si128((__m128i *)(void *)(pairs + g * NR * 2), _mm256_castsi256_si128(t[g]));
        _mm_store_si128((__m128i *)(void *)(pairs + (g + 8) * NR * 2), _mm256_extracti128_si256(t[g], 1));
    }
}

static void pack_b(void *dst, const void *const *rows, int n, size_t k)
{
    char *d = dst;
    for (size_t at = 0, all = k / BLOCK * 34; at < all; at += 34, d += B_STEP) {
        mmk_fetch_panel(rows, n, NR, all, at, 34);
        for (int h = 0; h < 2; h++) {
            if (n == NR) pack_half(d + 32 * h, d + NR * 4 + 16 * h, rows + 8 * h, 8, at);
            else pack_half(d + 32 * h, d + NR * 4 + 16 * h, rows + 8 * h, n - 8 * h, at);
        }
    }
}

/* A NaN or infinity in a block makes its scale, and so the row of the result, not finite. */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    char *d = dst;
    for (size_t b = 0; b < k; b += BLOCK, d += rows * ROW)
        for (int r = 0; r < rows; r++) {
            int32_t pair[PAIRS];
            __m256i q[4];
            float scale = quants_avx2(a + (size_t)r * lda + b, q);
            for (int h = 0; h < 2; h++) /* packs works within 128-bit halves */
                _mm256_storeu_si256((__m256i *)(void *)(pair + 8 * h), _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2 * h], q[2 * h + 1]), 0xd8));
            memcpy(d + 4 * r, &scale, sizeof scale);
            for (int g = 0; g < PAIRS; g++) memcpy(d + 4 * rows + (g * rows + r) * 4, &pair[g], 4);
        }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx2(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

const mmk_gemm_ops mmk_gemm_q8_0_avx2 = {
    .name = "q8_0_avx2", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP, .a_step = a_step,
    .panels = panels, .pack_b = pack_b, .pack_a = pack_a, .mul = mul, .mul_to = mul_to, .epilogue = epilogue,
};

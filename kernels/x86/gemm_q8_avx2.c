/* gemm_q8_avx2.c - q8_0 weights on AVX2: rows of x are rounded to 8 bits in blocks of 32 like the weights, products are exact
 * in int32 within a block and added up in float32, block after block, each times its two scales.
 *
 * VPMADDUBSW wants one unsigned side and adds pairs in 16 bits: |w| times x with the sign of w, at most 2 * 128 * 127, fits.
 * Four instructions make 32 products, three of them for two ports on Intel (measured: 1.1 times the FMA rate, and a
 * quarter of float32's memory traffic), for four pipes on Zen. A panel is 16 columns; per block
 * of K: 16 float scales, then 8 groups of 4 elements of the 16 columns. 4 rows: 8 integer accumulators; the float sums go to the
 * stack in between, there are no registers left. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx2.h"
#include <string.h>

enum { NR = 16, MR = 4, BLOCK = 32, B_STEP = NR * (4 + BLOCK), ROW = 4 + BLOCK };

static size_t a_step(int rows)
{
    return (size_t)rows * ROW;
}

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 4, 2, 1, 1 };
    return by_rows[rows];
}

/* sum + w x, four elements to a lane; size = |w| */
static inline __m256i dot4(__m256i sum, __m256i size, __m256i w, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* The micro-kernel; rows and np are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np)
{
    __m256 acc[MR * 2];
#pragma GCC unroll 8
    for (int i = 0; i < rows * np * 2; i++)
        acc[i] = _mm256_setzero_ps();
    for (size_t s = 0; s < steps; s++, a += rows * ROW, b += B_STEP) {
        const float *scale = (const float *)(const void *)a;
        const int32_t *x = (const int32_t *)(const void *)a + rows;
        __m256i sum[MR * 2];
#pragma GCC unroll 8
        for (int i = 0; i < rows * np * 2; i++)
            sum[i] = _mm256_setzero_si256();
        for (int g = 0; g < 8; g++, x += rows) {
#pragma GCC unroll 4
            for (int p = 0; p < np; p++) {
                const __m256i *w = (const __m256i *)(const void *)(b + (size_t)p * b_stride + NR * 4 + g * NR * 4);
                __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
                __m256i s0 = _mm256_abs_epi8(w0), s1 = _mm256_abs_epi8(w1);
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++) {
                    __m256i v = _mm256_set1_epi32(x[r]);
                    sum[(p * rows + r) * 2] = dot4(sum[(p * rows + r) * 2], s0, w0, v);
                    sum[(p * rows + r) * 2 + 1] = dot4(sum[(p * rows + r) * 2 + 1], s1, w1, v);
                    /* one row after the other, or gcc keeps products of all rows and spills the sums */
                    __asm__("" : "+x"(sum[(p * rows + r) * 2]), "+x"(sum[(p * rows + r) * 2 + 1]));
                }
            }
        }
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) {
            const float *d = (const float *)(const void *)(b + (size_t)p * b_stride);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    int i = (p * rows + r) * 2 + h;
                    __m256 e = _mm256_mul_ps(_mm256_broadcast_ss(scale + r), _mm256_load_ps(d + 8 * h));
                    acc[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[i]), e, acc[i]);
                }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows * np * 2; i++)
        _mm256_store_ps(tile + i * 8, acc[i]);
}

static void mul(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1)
        CASE(1, 4) CASE(2, 2)
    default: break;
    }
}

/* A block of eight columns, of which n exist: a constant where it matters. */
static inline __attribute__((always_inline)) void pack_half(char *d, char *groups, const void *const *rows, int n, size_t at)
{
    __m256 t[8];
    uint16_t scales[8] = { 0 };
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const char *block = j < n ? (const char *)rows[j] + at : NULL;
        if (j < n) memcpy(&scales[j], block, 2);
        t[j] = j < n ? _mm256_loadu_ps((const float *)(const void *)(block + 2)) : _mm256_setzero_ps(); /* 8 groups; only bits are moved */
    }
    transpose8(t);
    _mm256_store_ps((float *)(void *)d, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)scales)));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) _mm256_store_ps((float *)(void *)(groups + g * NR * 4), t[g]);
}

static void pack_b(void *dst, const void *const *rows, int n, size_t k)
{
    char *d = dst;
    for (size_t at = 0; at < k / BLOCK * 34; at += 34, d += B_STEP)
        for (int h = 0; h < 2; h++) {
            if (n == NR) pack_half(d + 32 * h, d + NR * 4 + 32 * h, rows + 8 * h, 8, at);
            else pack_half(d + 32 * h, d + NR * 4 + 32 * h, rows + 8 * h, n - 8 * h, at);
        }
}

/* A NaN or infinity in a block makes its scale, and so the row of the result, not finite. */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    char *d = dst;
    for (size_t b = 0; b < k; b += BLOCK, d += rows * ROW)
        for (int r = 0; r < rows; r++) {
            int32_t group[8], sum;
            float scale = quants_avx2(a + (size_t)r * lda + b, group, &sum);
            memcpy(d + 4 * r, &scale, sizeof scale);
            for (int g = 0; g < 8; g++)
                memcpy(d + 4 * rows + (g * rows + r) * 4, &group[g], 4);
        }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx2(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

const mmk_gemm_ops mmk_gemm_q8_0_avx2 = {
    .name = "q8_0_avx2", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP, .a_step = a_step,
    .panels = panels, .pack_b = pack_b, .pack_a = pack_a, .mul = mul, .epilogue = epilogue,
};

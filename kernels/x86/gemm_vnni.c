/* gemm_vnni.c - q8_0 weights by VPDPBUSD, four products of 8 bits to an int32 lane. Flags: those of AVX-512 and
 * -mavx512vnni.
 *
 * Rows of x are rounded to 8 bits in blocks of 32, like the weights: products are exact in int32 within a block (at most
 * 32 * 255 * 127), and added up in float32, block after block, each times its two scales. The instruction wants one unsigned
 * side: weights are stored as q + 128, and the sum of a block starts at -128 times the sum of the row's values.
 *
 * A panel is 32 columns; per block of K: 32 float scales, then 8 groups of 4 elements of the 32 columns. A block of rows: its
 * scales, its starting sums, then 8 groups of 4 elements of each row. 12 rows: 24 integer sums in registers; the
 * float sums are in the tile. Against float: 11 instructions for 512 products instead of 32. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx512.h"
#include <string.h>

enum { NR = 32, MR = 12, BLOCK = 32, B_STEP = NR * (4 + BLOCK), ROW = 4 + 4 + BLOCK };

static size_t a_step(int rows)
{
    return (size_t)rows * ROW;
}

static int panels(int rows)
{
    return rows == 1 ? 6 : rows == 2 ? 3 : rows == 3 ? 2 : 1;
}

/* The micro-kernel; rows and np are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np)
{
#pragma GCC unroll 24
    for (int i = 0; i < rows * np * 2; i++) _mm512_store_ps(tile + i * 16, _mm512_setzero_ps());
    for (size_t s = 0; s < steps; s++, a += rows * ROW, b += B_STEP) {
        const float *scale = (const float *)(const void *)a;
        const int32_t *start = (const int32_t *)(const void *)a + rows, *x = start + rows;
        __m512i sum[MR * 2];
#pragma GCC unroll 24
        for (int i = 0; i < rows * np * 2; i++) sum[i] = _mm512_set1_epi32(start[i / 2 % rows]);
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++)
#pragma GCC unroll 6
            for (int p = 0; p < np; p++) {
                const char *w = b + (size_t)p * b_stride + NR * 4 + g * NR * 4;
                __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64);
                if (rows > 2) {
                    _mm_prefetch(w + 2 * B_STEP, _MM_HINT_T0);
                    _mm_prefetch(w + 2 * B_STEP + 64, _MM_HINT_T0);
                    _mm_prefetch((const char *)x + rows * ROW + g * rows * 4, _MM_HINT_T0);
                }
#pragma GCC unroll 12
                for (int r = 0; r < rows; r++) {
                    __m512i v = _mm512_set1_epi32(x[g * rows + r]);
                    add_dot(&sum[(p * rows + r) * 2], w0, v);
                    add_dot(&sum[(p * rows + r) * 2 + 1], w1, v);
                }
            }
#pragma GCC unroll 6
        for (int p = 0; p < np; p++) {
            const float *d = (const float *)(const void *)(b + (size_t)p * b_stride);
            __m512 d0 = _mm512_load_ps(d), d1 = _mm512_load_ps(d + 16);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                int i = (p * rows + r) * 2;
                __m512 e = _mm512_set1_ps(scale[r]);
                float *to = tile + i * 16;
                _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[i]), d0), e, _mm512_load_ps(to)));
                _mm512_store_ps(to + 16, _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[i + 1]), d1), e, _mm512_load_ps(to + 16)));
            }
        }
        __asm__ volatile("" ::: "memory"); /* or gcc keeps the tile on the stack as well */
    }
}

static void mul(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1) CASE(5, 1) CASE(6, 1) CASE(7, 1) CASE(8, 1) CASE(9, 1) CASE(10, 1) CASE(11, 1) CASE(12, 1)
        CASE(1, 6) CASE(2, 3) CASE(3, 2)
    default: break;
    }
}

static void pack_b(void *dst, const void *const *rows, int n, size_t k)
{
    const char *row[NR];
    char *d = dst;
    panel_rows(row, rows, n, NR);
    for (size_t b = 0; b < k / BLOCK; b++, d += B_STEP) {
        mmk_fetch_panel(rows, n, NR, k / BLOCK * 34, b * 34, 34);
        for (int h = 0; h < NR; h += 16) {
            __m512i t[8];
            __m256i half = _mm512_cvtepi32_epi16(heads_avx512(row + h, b * 34));
            _mm512_store_ps(d + 4 * h, _mm512_cvtph_ps(half));
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                __m256i lo = _mm256_loadu_si256((const void *)(row[h + j] + b * 34 + 2)), hi = _mm256_loadu_si256((const void *)(row[h + 8 + j] + b * 34 + 2));
                t[j] = _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
            }
            transpose16_8(t);
#pragma GCC unroll 8
            for (int g = 0; g < 8; g++) /* q + 128 */
                _mm512_store_si512(d + NR * 4 * (1 + g) + 4 * h, _mm512_xor_si512(t[g], _mm512_set1_epi8((char)0x80)));
        }
    }
}

/* A NaN or infinity in a block makes its scale, and so the row of the result, not finite. */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    char *d = dst;
    __mmask16 all = (__mmask16)((1u << rows) - 1);
    for (size_t b = 0; b < k; b += BLOCK, d += rows * ROW) {
        __m512 scale;
        __m512i sum, group[8];
        quants_avx512(a + b, lda, rows, &scale, &sum, group);
        _mm512_mask_storeu_ps(d, all, scale);
        _mm512_mask_storeu_epi32(d + 4 * rows, all, _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), sum), 7));
        for (int g = 0; g < 8; g++) _mm512_mask_storeu_epi32(d + 4 * rows * (2 + g), all, group[g]);
    }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx512(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

const mmk_gemm_ops mmk_gemm_q8_0_vnni = {
    .name = "q8_0_vnni", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP, .a_step = a_step,
    .panels = panels, .pack_b = pack_b, .pack_a = pack_a, .mul = mul, .epilogue = epilogue,
};

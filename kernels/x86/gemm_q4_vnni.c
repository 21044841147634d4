/* gemm_q4_vnni.c - weights of 4 bits in blocks of 32 with scale and minimum (q4_1; q4_0's minimum is -8 scales and not stored) by VPDPBUSD:
 * w = d q + m, so that sum w x = d sum q x + m sum x, with x rounded to 8 bits in blocks of 32 as for q8_0. q is unsigned, as the instruction
 * wants one side. Flags: those of AVX-512 and -mavx512vnni.
 *
 * A panel is 32 columns; per block of K: their scales and minima in float16, then for 16 columns at a time 4 groups of 4 bytes each, whose low
 * nibbles are elements 4 g .. 4 g + 3 and whose high ones are 16 further: the bytes of the stored block as they are. A block of rows: scales, sums
 * of x, then 8 groups of 4 elements of each row. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx512.h"
#include <string.h>

enum { NR = 32, MR = 12, BLOCK = 32, ROW = 4 + 4 + BLOCK };
#define B_STEP(mins) (NR * (((mins) ? 4 : 2) + BLOCK / 2))

static size_t a_step(int rows) { return (size_t)rows * ROW; }

static int panels(int rows)
{
    return rows == 1 ? 6 : rows == 2 ? 3 : rows == 3 ? 2 : 1;
}

/* The micro-kernel; rows, np and mins (minima are stored) are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride, size_t steps, int rows,
                                                         int np, int mins)
{
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 24
    for (int i = 0; i < rows * np * 2; i++) _mm512_store_ps(tile + i * 16, _mm512_setzero_ps());
    for (size_t s = 0; s < steps; s++, a += rows * ROW, b += B_STEP(mins)) {
        const float *scale = (const float *)(const void *)a, *sum_x = scale + rows;
        const int32_t *x = (const int32_t *)(const void *)a + 2 * rows;
#pragma GCC unroll 6
        for (int p = 0; p < np; p++) {
            const char *panel = b + (size_t)p * b_stride;
            __m512i sum[MR * 2];
#pragma GCC unroll 24
            for (int i = 0; i < rows * 2; i++) sum[i] = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                const char *w = panel + NR * (mins ? 4 : 2) + g * 64;
                __m512i a0 = _mm512_loadu_si512(w), b0 = _mm512_loadu_si512(w + 256);
                __m512i a1 = _mm512_and_si512(_mm512_srli_epi16(a0, 4), low), b1 = _mm512_and_si512(_mm512_srli_epi16(b0, 4), low);
                a0 = _mm512_and_si512(a0, low);
                b0 = _mm512_and_si512(b0, low);
                if (rows > 2) {
                    _mm_prefetch(w + 2 * B_STEP(mins), _MM_HINT_T0);
                    _mm_prefetch(w + 2 * B_STEP(mins) + 256, _MM_HINT_T0);
                    _mm_prefetch((const char *)x + rows * ROW + g * rows * 8, _MM_HINT_T0);
                    _mm_prefetch((const char *)x + rows * ROW + g * rows * 8 + 64, _MM_HINT_T0);
                }
#pragma GCC unroll 12
                for (int r = 0; r < rows; r++) {
                    __m512i v0 = _mm512_set1_epi32(x[g * rows + r]), v1 = _mm512_set1_epi32(x[(g + 4) * rows + r]);
                    add_dot(&sum[r * 2], a0, v0);
                    add_dot(&sum[r * 2 + 1], b0, v0);
                    add_dot(&sum[r * 2], a1, v1);
                    add_dot(&sum[r * 2 + 1], b1, v1);
                }
            }
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(panel + 32 * h)));
                __m512 m = mins ? _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(panel + NR * 2 + 32 * h)))
                                : _mm512_mul_ps(d, _mm512_set1_ps(-8));
#pragma GCC unroll 12
                for (int r = 0; r < rows; r++) {
                    float *to = tile + ((p * rows + r) * 2 + h) * 16;
                    __m512 e = _mm512_mul_ps(d, _mm512_set1_ps(scale[r]));
                    __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r * 2 + h]), e, _mm512_load_ps(to));
                    _mm512_store_ps(to, _mm512_fmadd_ps(m, _mm512_set1_ps(sum_x[r]), y));
                }
            }
        }
        __asm__ volatile("" ::: "memory"); /* or gcc keeps the tile on the stack as well */
    }
}

static inline __attribute__((always_inline)) void product(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows,
                                                          int np, int mins)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, mins); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1) CASE(5, 1) CASE(6, 1) CASE(7, 1) CASE(8, 1) CASE(9, 1) CASE(10, 1) CASE(11, 1) CASE(12, 1)
        CASE(1, 6) CASE(2, 3) CASE(3, 2)
    default: break;
    }
}

static inline void pack(char *d, const void *const *rows, int n, size_t k, int mins)
{
    size_t first = mins ? 4 : 2, bytes = first + BLOCK / 2;
    const char *row[NR];
    panel_rows(row, rows, n, NR);
    for (size_t b = 0; b < k / BLOCK; b++, d += B_STEP(mins)) {
        const size_t at = b * bytes;
        mmk_fetch_panel(rows, n, NR, k / BLOCK * bytes, at, bytes);
        for (int h = 0; h < NR; h += 16) {
            const char *const *r = row + h;
            __m512i t[4], head = heads_avx512(r, at);
            _mm256_storeu_si256((void *)(d + 2 * h), _mm512_cvtepi32_epi16(head));
            if (mins) _mm256_storeu_si256((void *)(d + NR * 2 + 2 * h), _mm512_cvtepi32_epi16(_mm512_srli_epi32(head, 16)));
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const size_t nibbles = at + first;
                t[j] = load4_avx512(r[j] + nibbles, r[4 + j] + nibbles, r[8 + j] + nibbles, r[12 + j] + nibbles);
            }
            transpose4_avx512(t);
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) _mm512_storeu_si512(d + NR * first + 16 * h + g * 64, t[g]);
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
        _mm512_mask_storeu_ps(d + 4 * rows, all, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum)));
        for (int g = 0; g < 8; g++) _mm512_mask_storeu_epi32(d + 4 * rows * (2 + g), all, group[g]);
    }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res, size_t ldr, mmk_act act)
{
    epilogue_avx512(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define KIND(kind, mins)                                                                                                    \
    static void mul_##kind(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)       \
    {                                                                                                                       \
        product(tile, a, b, b_stride, steps, rows, np, mins);                                                               \
    }                                                                                                                       \
    static void pack_##kind(void *dst, const void *const *rows, int n, size_t k) { pack(dst, rows, n, k, mins); }            \
    const mmk_gemm_ops mmk_gemm_##kind##_vnni = {                                                                           \
        .name = #kind "_vnni", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP(mins), .a_step = a_step, \
        .panels = panels, .pack_b = pack_##kind, .pack_a = pack_a, .mul = mul_##kind, .epilogue = epilogue,                 \
    }

KIND(q4_0, 0);
KIND(q4_1, 1);

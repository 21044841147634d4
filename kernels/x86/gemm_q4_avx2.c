/* gemm_q4_avx2.c - weights of 4 bits in blocks of 32 with scale and minimum (q4_1; q4_0's minimum is -8 scales and not stored) on AVX2: w = d q + m, so that
 * sum w x = d sum q x + m sum x, with x rounded to 8 bits in blocks of 32 as for q8_0. sum q x is exact.
 *
 * q is unsigned: VPMADDUBSW takes it as it is, and eight pairs of products, at most 2 * 15 * 127 each, add up in 16 bits. A panel is 16 columns;
 * per block of K: their scales and minima in float16, then for 8 columns at a time 4 groups of 4 bytes each, whose low nibbles are elements 4 g
 * .. 4 g + 3 and whose high ones are 16 further: the bytes of the stored block as they are. A block of rows: scales, sums of x, then 8 groups of 4
 * elements of each row. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx2.h"
#include <string.h>

enum { NR = 16, MR = 4, BLOCK = 32, ROW = 4 + 4 + BLOCK };
#define B_STEP(mins) (NR * (((mins) ? 4 : 2) + BLOCK / 2))

static size_t a_step(int rows) { return (size_t)rows * ROW; }

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 4, 2, 1, 1 };
    return by_rows[rows];
}

/* The micro-kernel; rows, np and mins (minima are stored) are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride, size_t steps, int rows,
                                                         int np, int mins)
{
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    __m256 acc[MR * 2];
#pragma GCC unroll 8
    for (int i = 0; i < rows * np * 2; i++) acc[i] = _mm256_setzero_ps();
    for (size_t s = 0; s < steps; s++, a += rows * ROW, b += B_STEP(mins)) {
        const float *scale = (const float *)(const void *)a, *sum_x = scale + rows;
        const int32_t *x = (const int32_t *)(const void *)a + 2 * rows;
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) {
            const char *panel = b + (size_t)p * b_stride;
            __m256i sum[MR * 2];
#pragma GCC unroll 8
            for (int i = 0; i < rows * 2; i++) sum[i] = _mm256_setzero_si256();
            for (int g = 0; g < 4; g++) {
                const __m256i *w = (const __m256i *)(const void *)(panel + NR * (mins ? 4 : 2) + g * 32);
                __m256i a0 = _mm256_load_si256(w), b0 = _mm256_load_si256(w + 4);
                __m256i a1 = _mm256_and_si256(_mm256_srli_epi16(a0, 4), low), b1 = _mm256_and_si256(_mm256_srli_epi16(b0, 4), low);
                a0 = _mm256_and_si256(a0, low);
                b0 = _mm256_and_si256(b0, low);
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++) {
                    __m256i x0 = _mm256_set1_epi32(x[g * rows + r]), x1 = _mm256_set1_epi32(x[(g + 4) * rows + r]);
                    sum[r * 2] = _mm256_add_epi16(sum[r * 2], _mm256_maddubs_epi16(a0, x0));
                    sum[r * 2 + 1] = _mm256_add_epi16(sum[r * 2 + 1], _mm256_maddubs_epi16(b0, x0));
                    sum[r * 2] = _mm256_add_epi16(sum[r * 2], _mm256_maddubs_epi16(a1, x1));
                    sum[r * 2 + 1] = _mm256_add_epi16(sum[r * 2 + 1], _mm256_maddubs_epi16(b1, x1));
                    /* one row after the other, or gcc keeps products of all rows and spills the sums */
                    __asm__("" : "+x"(sum[r * 2]), "+x"(sum[r * 2 + 1]));
                }
            }
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                __m256 d = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)(panel + 16 * h)));
                __m256 m = mins ? _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)(panel + NR * 2 + 16 * h)))
                                : _mm256_mul_ps(d, _mm256_set1_ps(-8));
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++) {
                    int i = (p * rows + r) * 2 + h;
                    __m256 f = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[r * 2 + h], one));
                    f = _mm256_fmadd_ps(f, _mm256_mul_ps(d, _mm256_broadcast_ss(scale + r)), acc[i]);
                    acc[i] = _mm256_fmadd_ps(m, _mm256_broadcast_ss(sum_x + r), f);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows * np * 2; i++) _mm256_store_ps(tile + i * 8, acc[i]);
}

static inline __attribute__((always_inline)) void product(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows,
                                                          int np, int mins)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, mins); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1)
        CASE(1, 4) CASE(2, 2)
    default: break;
    }
}

static inline void pack(char *d, const void *const *rows, int n, size_t k, int mins)
{
    size_t first = mins ? 4 : 2, bytes = first + BLOCK / 2;
    for (size_t b = 0; b < k / BLOCK; b++, d += B_STEP(mins))
        for (int h = 0; h < 2; h++) {
            __m128i q[8];
            uint16_t scale[8] = { 0 }, min[8] = { 0 };
            for (int j = 0; j < 8; j++) {
                q[j] = _mm_setzero_si128();
                if (8 * h + j >= n) continue;
                const char *block = (const char *)rows[8 * h + j] + b * bytes;
                memcpy(&scale[j], block, 2);
                if (mins) memcpy(&min[j], block + 2, 2);
                q[j] = _mm_loadu_si128((const __m128i *)(const void *)(block + first));
            }
            memcpy(d + 16 * h, scale, 16);
            if (mins) memcpy(d + NR * 2 + 16 * h, min, 16);
            /* 4 groups of 8 columns out of 8 columns of 4 groups */
            for (int half = 0; half < 2; half++) {
                const __m128i *c = q + 4 * half;
                __m128i x = _mm_unpacklo_epi32(c[0], c[1]), y = _mm_unpacklo_epi32(c[2], c[3]);
                __m128i u = _mm_unpackhi_epi32(c[0], c[1]), v = _mm_unpackhi_epi32(c[2], c[3]);
                __m128i *to = (__m128i *)(void *)(d + NR * first + h * 128 + half * 16);
                _mm_store_si128(to, _mm_unpacklo_epi64(x, y));
                _mm_store_si128(to + 2, _mm_unpackhi_epi64(x, y));
                _mm_store_si128(to + 4, _mm_unpacklo_epi64(u, v));
                _mm_store_si128(to + 6, _mm_unpackhi_epi64(u, v));
            }
        }
}

/* Of 32 floats: 8 bits each, four to a group, and their sum. */
static float quants(const float *x, int32_t group[8], int32_t *sum)
{
    __m256i q[4];
    float scale = quants_avx2(x, q);
    __m256i all = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    *sum = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
    /* packs work within 128-bit halves: 4 elements of each register a half, put in order by the last step */
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)group, bytes);
    return scale;
}

/* A NaN or infinity in a block makes its scale, and so the row of the result, not finite. */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    char *d = dst;
    for (size_t b = 0; b < k; b += BLOCK, d += rows * ROW)
        for (int r = 0; r < rows; r++) {
            int32_t group[8], sum;
            float scale = quants(a + (size_t)r * lda + b, group, &sum), sum_x = scale * (float)sum;
            memcpy(d + 4 * r, &scale, sizeof scale);
            memcpy(d + 4 * (rows + r), &sum_x, sizeof sum_x);
            for (int g = 0; g < 8; g++) memcpy(d + 8 * rows + (g * rows + r) * 4, &group[g], 4);
        }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res, size_t ldr, mmk_act act)
{
    epilogue_avx2(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define KIND(kind, mins)                                                                                                                  \
    static void mul_##kind(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)                     \
    {                                                                                                                                     \
        product(tile, a, b, b_stride, steps, rows, np, mins);                                                                             \
    }                                                                                                                                     \
    static void pack_##kind(void *dst, const void *const *rows, int n, size_t k) { pack(dst, rows, n, k, mins); }                          \
    const mmk_gemm_ops mmk_gemm_##kind##_avx2 = {                                                                                         \
        .name = #kind "_avx2", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP(mins), .a_step = a_step,               \
        .panels = panels, .pack_b = pack_##kind, .pack_a = pack_a, .mul = mul_##kind, .epilogue = epilogue,                               \
    }

KIND(q4_0, 0);
KIND(q4_1, 1);

/* gemm_q4_dotprod.c - weights of 4 bits in blocks of 32 with scale and minimum (q4_1; q4_0's minimum is -8 scales and not stored) by SDOT:
 * w = d q + m, so that sum w x = d sum q x + m sum x, with x rounded to 8 bits in blocks of 32 as for q8_0.
 *
 * A panel is 8 columns; per block of K: their scales and minima in float16, then 4 groups of 4 bytes of each column, whose low nibbles are
 * elements 4 g .. 4 g + 3 and whose high ones are 16 further: the bytes of the stored block as they are. A block of rows: scales, sums of x, then
 * 8 groups of 4 elements of each row. */
#include "kernels/arm/vec_neon.h"
#include "kernels/gemm_int.h"

enum { NR = 8, MR = 6, BLOCK = 32, ROW = 4 + 4 + BLOCK };
#define B_STEP(mins) (NR * (((mins) ? 4 : 2) + BLOCK / 2))

static size_t a_step(int rows) { return (size_t)rows * ROW; }

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 4, 2, 2, 1, 1, 1 };
    return by_rows[rows];
}

static inline int8x16_t broadcast(const char *a)
{
    int32_t x;
    memcpy(&x, a, sizeof x);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
}

static inline float32x4_t halves(const char *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)p))); }

static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride, size_t steps, int rows,
                                                         int np, int mins)
{
    float32x4_t acc[MR * 2];
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++) acc[i] = vdupq_n_f32(0);
    for (size_t s = 0; s < steps; s++, a += rows * ROW, b += B_STEP(mins)) {
        const float *scale = (const float *)(const void *)a, *sum_x = scale + rows;
        const char *x = a + 8 * rows;
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) {
            const char *panel = b + (size_t)p * b_stride;
            int32x4_t sum[MR * 2];
#pragma GCC unroll 12
            for (int i = 0; i < rows * 2; i++) sum[i] = vdupq_n_s32(0);
            for (int g = 0; g < 4; g++)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    uint8x16_t w = vld1q_u8((const uint8_t *)panel + NR * (mins ? 4 : 2) + g * 32 + h * 16);
                    int8x16_t w0 = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15))), w1 = vreinterpretq_s8_u8(vshrq_n_u8(w, 4));
#pragma GCC unroll 6
                    for (int r = 0; r < rows; r++) {
                        sum[r * 2 + h] = vdotq_s32(sum[r * 2 + h], w0, broadcast(x + (g * rows + r) * 4));
                        sum[r * 2 + h] = vdotq_s32(sum[r * 2 + h], w1, broadcast(x + ((g + 4) * rows + r) * 4));
                    }
                }
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                float32x4_t d = halves(panel + 8 * h), m = mins ? halves(panel + NR * 2 + 8 * h) : vmulq_n_f32(d, -8);
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    int i = (p * rows + r) * 2 + h;
                    acc[i] = vfmaq_f32(acc[i], vcvtq_f32_s32(sum[r * 2 + h]), vmulq_n_f32(d, scale[r]));
                    acc[i] = vfmaq_n_f32(acc[i], m, sum_x[r]);
                }
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++) vst1q_f32(tile + i * 4, acc[i]);
}

static inline __attribute__((always_inline)) void product(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows,
                                                          int np, int mins)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, mins); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1) CASE(5, 1) CASE(6, 1)
        CASE(1, 4) CASE(2, 2) CASE(3, 2)
    default: break;
    }
}

static inline void pack(char *d, const void *const *rows, int n, size_t k, int mins)
{
    size_t first = mins ? 4 : 2, bytes = first + BLOCK / 2;
    memset(d, 0, k / BLOCK * B_STEP(mins));
    for (size_t b = 0; b < k / BLOCK; b++, d += B_STEP(mins))
        for (int j = 0; j < n; j++) {
            const char *block = (const char *)rows[j] + b * bytes;
            memcpy(d + 2 * j, block, 2);
            if (mins) memcpy(d + NR * 2 + 2 * j, block + 2, 2);
            for (int g = 0; g < 4; g++) memcpy(d + NR * first + (g * NR + j) * 4, block + first + 4 * g, 4);
        }
}

/* A NaN or infinity in a block makes its scale, and so the row of the result, not finite. */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    char *d = dst;
    for (size_t b = 0; b < k; b += BLOCK, d += rows * ROW)
        for (int r = 0; r < rows; r++) {
            const float *x = a + (size_t)r * lda + b;
            float32x4_t most = vdupq_n_f32(0);
            for (int i = 0; i < BLOCK; i += 4) most = vmaxq_f32(most, vabsq_f32(vld1q_f32(x + i)));
            float scale = vmaxvq_f32(most) / 127, inv = scale >= 0x1p-126f ? 1 / scale : 0, sum_x;
            int32x4_t sum = vdupq_n_s32(0);
            for (int g = 0; g < 8; g++) {
                int32x4_t q = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * g), inv));
                int16x4_t h = vqmovn_s32(q);
                int8x8_t bytes = vqmovn_s16(vcombine_s16(h, h));
                sum = vaddq_s32(sum, q);
                memcpy(d + rows * 8 + (g * rows + r) * 4, &bytes, 4);
            }
            sum_x = scale * (float)vaddvq_s32(sum);
            memcpy(d + 4 * r, &scale, sizeof scale);
            memcpy(d + 4 * (rows + r), &sum_x, sizeof sum_x);
        }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res, size_t ldr, mmk_act act)
{
    epilogue_neon(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define KIND(kind, mins)                                                                                                    \
    static void mul_##kind(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)       \
    {                                                                                                                       \
        product(tile, a, b, b_stride, steps, rows, np, mins);                                                               \
    }                                                                                                                       \
    static void pack_##kind(void *dst, const void *const *rows, int n, size_t k) { pack(dst, rows, n, k, mins); }            \
    const mmk_gemm_ops mmk_gemm_##kind##_dotprod = {                                                                        \
        .name = #kind "_dotprod", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP(mins), .a_step = a_step, \
        .panels = panels, .pack_b = pack_##kind, .pack_a = pack_a, .mul = mul_##kind, .epilogue = epilogue,                 \
    }

KIND(q4_0, 0);
KIND(q4_1, 1);

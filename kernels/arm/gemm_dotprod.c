/* gemm_dotprod.c - q8_0 weights by SDOT: rows of x are rounded to 8 bits in blocks of 32 like the weights, products are
 * summed in int32 within a block and in float32, block after block, with the product of the two scales.
 *
 * A panel is 8 columns; per block of K: 8 scales, then 8 groups of 4 elements of the 8 columns. A block of rows: its scales,
 * then 8 groups of 4 elements of each row. 6 rows: 12 integer and 12 float accumulators. */
#include "kernels/arm/vec_neon.h"
#include "kernels/gemm_int.h"

enum { NR = 8, MR = 6, BLOCK = 32, B_STEP = NR * (4 + BLOCK) };

static size_t a_step(int rows) { return (size_t)rows * (4 + BLOCK); }

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 4, 2, 2, 1, 1, 1 };
    return by_rows[rows];
}

static inline __attribute__((always_inline)) void kernel(float *tile, const char *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np)
{
    float32x4_t acc[MR * 2];
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++) acc[i] = vdupq_n_f32(0);
    for (size_t s = 0; s < steps; s++, a += (size_t)rows * (4 + BLOCK), b += B_STEP) {
        int32x4_t sum[MR * 2];
#pragma GCC unroll 12
        for (int i = 0; i < rows * np * 2; i++) sum[i] = vdupq_n_s32(0);
        for (int g = 0; g < 8; g++) {
#pragma GCC unroll 4
            for (int p = 0; p < np; p++) {
                const int8_t *w = (const int8_t *)b + (size_t)p * b_stride + NR * 4 + g * NR * 4;
                int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    int32_t x;
                    memcpy(&x, a + rows * 4 + (g * rows + r) * 4, sizeof x);
                    int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(x));
                    sum[(p * rows + r) * 2] = vdotq_s32(sum[(p * rows + r) * 2], w0, v);
                    sum[(p * rows + r) * 2 + 1] = vdotq_s32(sum[(p * rows + r) * 2 + 1], w1, v);
                }
            }
        }
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) {
            const float *d = (const float *)(const void *)(b + (size_t)p * b_stride), *e = (const float *)(const void *)a;
            float32x4_t d0 = vld1q_f32(d), d1 = vld1q_f32(d + 4);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                int i = (p * rows + r) * 2;
                acc[i] = vfmaq_f32(acc[i], vcvtq_f32_s32(sum[i]), vmulq_n_f32(d0, e[r]));
                acc[i + 1] = vfmaq_f32(acc[i + 1], vcvtq_f32_s32(sum[i + 1]), vmulq_n_f32(d1, e[r]));
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows * np * 2; i++) vst1q_f32(tile + i * 4, acc[i]);
}

static void mul(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)
{
#define CASE(r, p) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p); break;
    switch (rows * 8 + np) {
        CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1) CASE(5, 1) CASE(6, 1)
        CASE(1, 4) CASE(2, 2) CASE(3, 2)
    default: break;
    }
}

static void pack_b(void *dst, const void *const *rows, int n, size_t k)
{
    char *d = dst;
    memset(d, 0, k / BLOCK * B_STEP);
    for (size_t b = 0; b < k / BLOCK; b++, d += B_STEP)
        for (int j = 0; j < n; j++) {
            const char *block = (const char *)rows[j] + b * 34;
            uint16_t h;
            memcpy(&h, block, sizeof h);
            float scale = half_neon(h);
            memcpy(d + 4 * j, &scale, sizeof scale);
            for (int g = 0; g < 8; g++) memcpy(d + NR * 4 + (g * NR + j) * 4, block + 2 + 4 * g, 4);
        }
}

/* A NaN or infinity in a block makes its scale, and so the row of the result, not finite. */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    char *d = dst;
    for (size_t b = 0; b < k; b += BLOCK, d += a_step(rows))
        for (int r = 0; r < rows; r++) {
            const float *x = a + (size_t)r * lda + b;
            float32x4_t m = vdupq_n_f32(0);
            for (int i = 0; i < BLOCK; i += 4) m = vmaxq_f32(m, vabsq_f32(vld1q_f32(x + i)));
            float scale = vmaxvq_f32(m) / 127, inv = scale >= 0x1p-126f ? 1 / scale : 0;
            memcpy(d + 4 * r, &scale, sizeof scale);
            for (int g = 0; g < 8; g++) {
                int16x4_t h = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * g), inv)));
                int8x8_t q = vqmovn_s16(vcombine_s16(h, h));
                memcpy(d + rows * 4 + (g * rows + r) * 4, &q, 4);
            }
        }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_neon(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

const mmk_gemm_ops mmk_gemm_q8_0_dotprod = {
    .name = "q8_0_dotprod", .nr = NR, .mr = MR, .row_unit = 1, .kstep = BLOCK, .b_step = B_STEP,
    .a_step = a_step, .panels = panels, .pack_b = pack_b, .pack_a = pack_a, .mul = mul, .epilogue = epilogue,
};

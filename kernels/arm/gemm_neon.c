/* gemm_neon.c - float32, float16, bfloat16 and q8_0 weights by FMLA on 128-bit registers.
 *
 * A panel is 12 columns (three registers), a block up to 8 rows: 24 accumulators + 3 of W + 1 of the rows of the 32
 * registers. With few rows several panels run side by side. Each element is one chain of FMLA over k = 0, 1, ...: its bits
 * do not depend on what runs beside it. 16-bit weights stay 16 bits in the panel and are widened on load (exactly); q8_0
 * weights become float16 (off by 2^-12 at most, where q8_0 itself is off by up to 2^-8). */
#include "kernels/arm/vec_neon.h"
#include "kernels/gemm_int.h"

enum { NR = 12, MR = 8 };

static size_t a_step(int rows) { return (size_t)rows * sizeof(float); }

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 6, 4, 2, 2, 1, 1, 1, 1 };
    return by_rows[rows];
}

typedef void load_fn(const char *p, float32x4_t w[3]);

static inline void load_f32(const char *p, float32x4_t w[3])
{
    for (int i = 0; i < 3; i++) w[i] = vld1q_f32((const float *)(const void *)p + 4 * i);
}

static inline void load_f16(const char *p, float32x4_t w[3])
{
    for (int i = 0; i < 3; i++) w[i] = load_f16_neon(p + 8 * i);
}

static inline void load_bf16(const char *p, float32x4_t w[3])
{
    for (int i = 0; i < 3; i++) w[i] = load_bf16_neon(p + 8 * i);
}

/* The micro-kernel: sums of rows x np panels; rows, np and load are constants wherever it is inlined. */
static inline __attribute__((always_inline)) void sums(float32x4_t *acc, const float *a, const char *b, size_t b_stride,
                                                       size_t steps, int rows, int np, load_fn *load, size_t b_step)
{
#pragma GCC unroll 24
    for (int i = 0; i < rows * np * 3; i++) acc[i] = vdupq_n_f32(0);
    for (size_t s = 0; s < steps; s++, a += rows, b += b_step) {
#pragma GCC unroll 6
        for (int p = 0; p < np; p++) {
            float32x4_t w[3];
            load(b + (size_t)p * b_stride, w);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
                for (int i = 0; i < 3; i++) {
                    float32x4_t *x = &acc[(p * rows + r) * 3 + i];
                    *x = vfmaq_n_f32(*x, w[i], a[r]);
                }
            }
        }
    }
}

static inline __attribute__((always_inline)) void kernel(float *tile, const float *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np, load_fn *load,
                                                         size_t b_step)
{
    float32x4_t acc[MR * 3];
    sums(acc, a, b, b_stride, steps, rows, np, load, b_step);
#pragma GCC unroll 24
    for (int i = 0; i < rows * np * 3; i++) vst1q_f32(tile + i * 4, acc[i]);
}

static inline __attribute__((always_inline)) void kernel_to(float *c, size_t ldc, const float *a, const char *b, size_t steps,
                                                            int rows, const float *bias, const float *res, size_t ldr,
                                                            load_fn *load, size_t b_step)
{
    float32x4_t acc[MR * 3];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        __builtin_prefetch(c + (size_t)r * ldc, 1);
        __builtin_prefetch(c + (size_t)r * ldc + NR - 1, 1);
    }
    sums(acc, a, b, 0, steps, rows, 1, load, b_step);
#pragma GCC unroll 24
    for (int i = 0; i < rows * 3; i++) {
        size_t r = (size_t)(i / 3), col = (size_t)(i % 3) * 4;
        if (bias) acc[i] = vaddq_f32(acc[i], vld1q_f32(bias + col));
        if (res) acc[i] = vaddq_f32(acc[i], vld1q_f32(res + r * ldr + col));
        vst1q_f32(c + r * ldc + col, acc[i]);
    }
}

#define CASE(r, p, load, step) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, load, step); break;

#define TO(r, load, step) \
    case r: kernel_to(c, ldc, a, b, steps, r, bias, res, ldr, load, step); break;

#define MUL(dtype, step)                                                                                               \
    static void mul_##dtype(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np) \
    {                                                                                                                  \
        switch (rows * 8 + np) {                                                                                       \
            CASE(1, 1, load_##dtype, step) CASE(2, 1, load_##dtype, step) CASE(3, 1, load_##dtype, step)               \
            CASE(4, 1, load_##dtype, step) CASE(5, 1, load_##dtype, step) CASE(6, 1, load_##dtype, step)               \
            CASE(7, 1, load_##dtype, step) CASE(8, 1, load_##dtype, step)                                              \
            CASE(1, 6, load_##dtype, step) CASE(2, 4, load_##dtype, step) CASE(3, 2, load_##dtype, step)               \
            CASE(4, 2, load_##dtype, step)                                                                             \
        default: break;                                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    static void mul_to_##dtype(float *c, size_t ldc, const void *a, const void *b, size_t steps, int rows,             \
                               const float *bias, const float *res, size_t ldr)                                        \
    {                                                                                                                  \
        switch (rows) {                                                                                                \
            TO(1, load_##dtype, step) TO(2, load_##dtype, step) TO(3, load_##dtype, step) TO(4, load_##dtype, step)    \
            TO(5, load_##dtype, step) TO(6, load_##dtype, step) TO(7, load_##dtype, step) TO(8, load_##dtype, step)    \
        default: break;                                                                                                \
        }                                                                                                              \
    }

MUL(f32, 48)
MUL(f16, 24)
MUL(bf16, 24)

static void pack_f32(void *dst, const void *const *rows, int n, size_t k)
{
    char *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++, d += 4) {
            memset(d, 0, 4);
            if (j < n) memcpy(d, (const char *)rows[j] + 4 * i, 4);
        }
}

static void pack_16(void *dst, const void *const *rows, int n, size_t k)
{
    char *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++, d += 2) {
            memset(d, 0, 2);
            if (j < n) memcpy(d, (const char *)rows[j] + 2 * i, 2);
        }
}

static void pack_q8_0(void *dst, const void *const *rows, int n, size_t k)
{
    uint16_t *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++, d++) {
            *d = 0;
            if (j < n) {
                const char *block = (const char *)rows[j] + i / 32 * 34;
                uint16_t h;
                memcpy(&h, block, sizeof h);
                *d = to_half_neon(half_neon(h) * (float)(signed char)block[2 + i % 32]);
            }
        }
}

/* [k][rows] */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int r = 0; r < rows; r++) *d++ = a[(size_t)r * lda + i];
}

static void strips(float *dst, size_t stride, const float *src, size_t ld, int width, size_t count, size_t k)
{
    size_t n = (size_t)width, fours = n / 4 * 4;
    for (size_t t = 0; t < k; t++) {
        float *d = dst + t * n;
        const float *s = src + t * ld;
        for (size_t i = 0; i < count; i++, s += n, d += stride / sizeof *d) {
            for (size_t j = 0; j < fours; j += 4) vst1q_f32(d + j, vld1q_f32(s + j));
            for (size_t j = fours; j < n; j++) d[j] = s[j];
        }
    }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_neon(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define OPS(dtype, step, pack_fn, from)                                                                               \
    const mmk_gemm_ops mmk_gemm_##dtype##_neon = {                                                                    \
        .name = #dtype "_neon", .nr = NR, .mr = MR, .row_unit = 1, .kstep = 1, .b_step = step, .a_step = a_step, \
        .panels = panels, .pack_b = pack_fn, .pack_a = pack_a, .mul = mul_##from, .mul_to = mul_to_##from,            \
        .epilogue = epilogue, .strips = strips,                                                                       \
    }

OPS(f32, 48, pack_f32, f32);
OPS(f16, 24, pack_16, f16);
OPS(bf16, 24, pack_16, bf16);
OPS(q8_0, 24, pack_q8_0, f16);

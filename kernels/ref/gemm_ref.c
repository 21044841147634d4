/* gemm_ref.c - the readable truth: weights as float32, sums in double, libm for the activations.
 * Built with -ffp-contract=off -fno-tree-vectorize. */
#include "kernels/gemm_int.h"
#include "kernels/ref/num_ref.h"
#include <math.h>
#include <string.h>

enum { NR = 8, MR = 4 };

static size_t a_step(int rows)
{
    return (size_t)rows * sizeof(float);
}

static int panels(int rows)
{
    (void)rows;
    return 1;
}

/* [k][NR] */
static void pack_f32(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++)
            d[i * NR + j] = j < n ? num_load_f32(rows[j], i) : 0.0f;
}

static void pack_f16(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++)
            d[i * NR + j] = j < n ? num_load_f16(rows[j], i) : 0.0f;
}

static void pack_bf16(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++)
            d[i * NR + j] = j < n ? num_load_bf16(rows[j], i) : 0.0f;
}

static void pack_q8_0(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++)
            d[i * NR + j] = j < n ? num_load_q8_0(rows[j], i) : 0.0f;
}

static void pack_q4_0(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++)
            d[i * NR + j] = j < n ? num_load_q4_0(rows[j], i) : 0.0f;
}

static void pack_q4_1(void *dst, const void *const *rows, int n, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int j = 0; j < NR; j++)
            d[i * NR + j] = j < n ? num_load_q4_1(rows[j], i) : 0.0f;
}

/* [k][rows] */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    float *d = dst;
    for (size_t i = 0; i < k; i++)
        for (int r = 0; r < rows; r++)
            d[i * (size_t)rows + (size_t)r] = a[(size_t)r * lda + i];
}

static void strips(float *dst, size_t stride, const float *src, size_t ld, int width, size_t count, size_t k)
{
    for (size_t i = 0; i < count; i++)
        for (size_t t = 0; t < k; t++)
            for (size_t j = 0; j < (size_t)width; j++)
                dst[i * (stride / sizeof *dst) + t * (size_t)width + j] = src[t * ld + i * (size_t)width + j];
}

static void mul(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np)
{
    const float *x = a, *w = b;
    (void)b_stride;
    (void)np;
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < NR; j++) {
            double sum = 0;
            for (size_t i = 0; i < steps; i++)
                sum += (double)x[i * (size_t)rows + (size_t)r] * (double)w[i * NR + (size_t)j];
            tile[r * NR + j] = (float)sum;
        }
}

static double act_ref(double x, mmk_act act)
{
    switch (act) {
    case MMK_ACT_NONE: break;
    case MMK_ACT_GELU_ERF: return 0.5 * x * (1.0 + erf(x * 0.70710678118654752440));
    case MMK_ACT_GELU_TANH: return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case MMK_ACT_QUICK_GELU: return x / (1.0 + exp(-1.702 * x));
    case MMK_ACT_SILU: return x / (1.0 + exp(-x));
    case MMK_ACT_RELU: return x < 0.0 ? 0.0 : x;
    }
    return x;
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < cols; j++) {
            double x = act_ref((double)tile[r * NR + j] + (bias ? (double)bias[j] : 0.0), act);
            c[(size_t)r * ldc + (size_t)j] = (float)(x + (res ? (double)res[(size_t)r * ldr + (size_t)j] : 0.0));
        }
}

#define REF(dtype)                                                                                              \
    const mmk_gemm_ops mmk_gemm_##dtype##_ref = {                                                               \
        .name = #dtype "_ref", .nr = NR, .mr = MR, .row_unit = 1, .kstep = 1, .b_step = NR * sizeof(float),           \
        .a_step = a_step, .panels = panels, .pack_b = pack_##dtype, .pack_a = pack_a, .mul = mul,               \
        .epilogue = epilogue, .strips = strips,                                                                 \
    }

REF(f32);
REF(f16);
REF(bf16);
REF(q8_0);
REF(q4_0);
REF(q4_1);

/* Vectors and rows, the readable truth: double accumulators, one operation after the other. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "kernels/attn_int.h"
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/ref/num_ref.h"
#include "kernels/scan_int.h"

static float dot_f32(const float *a, const float *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)a[i] * b[i];
    return (float)s;
}

/* ---- storage formats ---- */

static void f32_to_f32(float *out, const void *row, size_t n) { memcpy(out, row, n * sizeof *out); }

static void f16_to_f32(float *out, const void *row, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = num_load_f16(row, i);
}

static void bf16_to_f32(float *out, const void *row, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = num_load_bf16(row, i);
}

static void q8_0_to_f32(float *out, const void *row, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = num_load_q8_0(row, i);
}

static void f32_from_f32(void *out, const float *x, size_t n) { memcpy(out, x, n * sizeof *x); }

static uint16_t to_f16(float f)
{
    uint32_t u, sign, a;
    memcpy(&u, &f, 4);
    sign = u >> 16 & 0x8000;
    a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x3FF));
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and more round to infinity */
    if (a < 0x38800000) { /* subnormal halves are multiples of 2^-24 */
        float m = rintf(fabsf(f) * 0x1p24f);
        return (uint16_t)(sign | (uint16_t)m);
    }
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

static void f16_from_f32(void *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h = to_f16(x[i]);
        memcpy((char *)out + 2 * i, &h, 2);
    }
}

static void bf16_from_f32(void *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        uint16_t h = (u & 0x7FFFFFFF) > 0x7F800000 ? (uint16_t)(u >> 16 | 0x40) : (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
        memcpy((char *)out + 2 * i, &h, 2);
    }
}

/* Block format as the GGUF specification's q8_0; the rounding is that of ggml's reference quantiser, so that files are
 * the same byte for byte. */
static void q8_0_from_f32(void *out, const float *x, size_t n)
{
    char *o = out;
    for (size_t b = 0; b + 32 <= n; b += 32, o += 34) {
        float amax = 0;
        for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[b + (size_t)i]));
        float d = amax / 127, inv = d >= FLT_MIN ? 1 / d : 0; /* 1/d must not overflow */
        uint16_t h = to_f16(d);
        memcpy(o, &h, 2);
        for (int i = 0; i < 32; i++) o[2 + i] = (char)(int8_t)roundf(x[b + (size_t)i] * inv);
    }
}

static float to_i8(int8_t *q, const float *x, size_t n)
{
    float amax = 0;
    for (size_t i = 0; i < n; i++) amax = fmaxf(amax, fabsf(x[i]));
    float d = amax / 127, inv = d >= FLT_MIN ? 1 / d : 0;
    for (size_t i = 0; i < n; i++) {
        float v = rintf(x[i] * inv);
        q[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
    }
    return d;
}

/* ---- rows ---- */

static void layer_norm(float *y, const float *x, const float *res, const float *gain, const float *bias, size_t rows,
                       size_t d, float eps)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d, res = res ? res + d : NULL) {
        double mean = 0, var = 0;
        for (size_t i = 0; i < d; i++) mean += (double)x[i] + (res ? res[i] : 0);
        mean /= (double)d;
        for (size_t i = 0; i < d; i++) {
            double c = (double)x[i] + (res ? res[i] : 0) - mean;
            var += c * c;
        }
        double inv = 1 / sqrt(var / (double)d + (double)eps);
        for (size_t i = 0; i < d; i++)
            y[i] = (float)(((double)x[i] + (res ? res[i] : 0) - mean) * inv * gain[i] + bias[i]);
    }
}

static void rms_norm(float *y, const float *x, const float *gain, size_t rows, size_t d, float eps)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d) {
        double s = 0;
        for (size_t i = 0; i < d; i++) s += (double)x[i] * x[i];
        double inv = 1 / sqrt(s / (double)d + (double)eps);
        for (size_t i = 0; i < d; i++) y[i] = (float)(x[i] * inv * gain[i]);
    }
}

static double act1(double x, mmk_act a)
{
    switch (a) {
    case MMK_ACT_GELU_ERF: return x / 2 * (1 + erf(x * M_SQRT1_2));
    case MMK_ACT_GELU_TANH: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case MMK_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case MMK_ACT_SILU: return x / (1 + exp(-x));
    case MMK_ACT_RELU: return x < 0 ? 0 : x;
    default: return x;
    }
}

static void act(float *x, size_t n, mmk_act a)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)act1(x[i], a);
}

static void softmax(float *x, size_t rows, size_t n, size_t ldx)
{
    for (size_t r = 0; r < rows; r++, x += ldx) {
        double max = -INFINITY, sum = 0;
        for (size_t i = 0; i < n; i++) max = x[i] > max || x[i] != x[i] ? x[i] : max;
        for (size_t i = 0; i < n; i++) sum += exp(x[i] - max);
        for (size_t i = 0; i < n; i++) x[i] = (float)(exp(x[i] - max) / sum);
    }
}

static void pool_mean(float *out, const float *x, size_t n, size_t d, size_t ldx)
{
    for (size_t j = 0; j < d; j++) {
        double s = 0;
        for (size_t i = 0; i < n; i++) s += x[i * ldx + j];
        out[j] = (float)(s / (double)n);
    }
}

static void pool_max(float *out, const float *x, size_t n, size_t d, size_t ldx)
{
    for (size_t j = 0; j < d; j++) {
        float m = x[j];
        for (size_t i = 1; i < n; i++)
            if (x[i * ldx + j] > m || x[i * ldx + j] != x[i * ldx + j]) m = x[i * ldx + j];
        out[j] = m;
    }
}

static size_t l2_normalize(float *x, size_t rows, size_t d)
{
    size_t zeros = 0;
    for (size_t r = 0; r < rows; r++, x += d) {
        double s = 0; /* squares of any float32 fit a double */
        for (size_t i = 0; i < d; i++) s += (double)x[i] * x[i];
        if (s == 0) {
            zeros++;
            continue;
        }
        double inv = 1 / sqrt(s);
        for (size_t i = 0; i < d; i++) x[i] = (float)(x[i] * inv);
    }
    return zeros;
}

void mmk_fill_ref(mm_kern *k)
{
    k->dot_f32 = dot_f32;
    k->to_f32[MMK_FMT_F32] = f32_to_f32;
    k->to_f32[MMK_FMT_F16] = f16_to_f32;
    k->to_f32[MMK_FMT_BF16] = bf16_to_f32;
    k->to_f32[MMK_FMT_Q8_0] = q8_0_to_f32;
    k->from_f32[MMK_FMT_F32] = f32_from_f32;
    k->from_f32[MMK_FMT_F16] = f16_from_f32;
    k->from_f32[MMK_FMT_BF16] = bf16_from_f32;
    k->from_f32[MMK_FMT_Q8_0] = q8_0_from_f32;
    k->to_i8 = to_i8;
    k->layer_norm = layer_norm;
    k->rms_norm = rms_norm;
    k->act = act;
    k->softmax = softmax;
    k->pool_mean = pool_mean;
    k->pool_max = pool_max;
    k->l2_normalize = l2_normalize;
    k->gemm[MMK_FMT_F32] = &mmk_gemm_f32_ref;
    k->matmul = &mmk_gemm_f32_ref;
    k->gemm[MMK_FMT_F16] = &mmk_gemm_f16_ref;
    k->gemm[MMK_FMT_BF16] = &mmk_gemm_bf16_ref;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_ref;
    k->gemm[MMK_FMT_Q4_0] = &mmk_gemm_q4_0_ref;
    k->gemm[MMK_FMT_Q4_1] = &mmk_gemm_q4_1_ref;
    k->attn = &mmk_attn_ref;
    k->scan = &mmk_scan_ref;
    mmk_fill_grad_ref(k);
}

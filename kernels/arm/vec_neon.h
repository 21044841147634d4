/* vec_neon.h - vector pieces that the NEON matrix, attention and row kernels share; the polynomials are those of
 * x86/vec_avx512.h. NEON is part of every arm64; so are conversions of float16 (not arithmetic in it). */
#ifndef VEC_NEON_H
#define VEC_NEON_H

#include "kernels/mm_gemm.h"
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

/* The first n <= 4 lanes, the others zero. */
static inline float32x4_t loadn_neon(const float *p, size_t n)
{
    if (n == 4) return vld1q_f32(p);
    float t[4] = { 0 };
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return vld1q_f32(t);
}

static inline void storen_neon(float *p, float32x4_t v, size_t n)
{
    float t[4];
    if (n == 4) {
        vst1q_f32(p, v);
        return;
    }
    vst1q_f32(t, v);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}

/* Lanes from n on become -Inf. */
static inline float32x4_t hide_neon(float32x4_t v, size_t n)
{
    static const uint32_t lane[4] = { 0, 1, 2, 3 };
    return vbslq_f32(vcltq_u32(vld1q_u32(lane), vdupq_n_u32((uint32_t)n)), v, vdupq_n_f32(-__builtin_inff()));
}

/* 4 stored float16 or bfloat16, at any alignment */
static inline float32x4_t load_f16_neon(const void *p)
{
    uint16x4_t h;
    memcpy(&h, p, sizeof h);
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

static inline float32x4_t load_bf16_neon(const void *p)
{
    uint16x4_t h;
    memcpy(&h, p, sizeof h);
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

static inline float half_neon(uint16_t h)
{
    __fp16 f;
    memcpy(&f, &h, sizeof f);
    return (float)f;
}

static inline uint16_t to_half_neon(float f)
{
    uint16_t u;
    __fp16 h = (__fp16)f;
    memcpy(&u, &h, sizeof u);
    return u;
}

/* e^x for x <= 0 (also -Inf: 0; NaN: NaN), error < 1 ulp; 0 below -87.3. */
static inline float32x4_t exp_neg_neon(float32x4_t x)
{
    uint32x4_t small = vcltq_f32(x, vdupq_n_f32(-87.33f));
    x = vmaxq_f32(x, vdupq_n_f32(-87.33f));
    float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)));
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693145752f));
    r = vfmsq_f32(r, n, vdupq_n_f32(1.4286068e-6f));
    float32x4_t p = vdupq_n_f32(1.3814456e-3f);
    p = vfmaq_f32(vdupq_n_f32(8.3687855e-3f), p, r);
    p = vfmaq_f32(vdupq_n_f32(4.1668396e-2f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.6666520e-1f), p, r);
    p = vfmaq_f32(vdupq_n_f32(0.49999994f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    int32x4_t e = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    p = vmulq_f32(p, vreinterpretq_f32_s32(e));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), small));
}

/* x / (1 + e^-u), without overflow for any u. */
static inline float32x4_t x_sigmoid_neon(float32x4_t x, float32x4_t u)
{
    float32x4_t e = exp_neg_neon(vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(u), vdupq_n_u32(0x80000000u))));
    float32x4_t r = vdivq_f32(vdupq_n_f32(1.0f), vaddq_f32(e, vdupq_n_f32(1.0f)));
    uint32x4_t negative = vcltzq_s32(vreinterpretq_s32_f32(u));
    return vmulq_f32(x, vbslq_f32(negative, vmulq_f32(r, e), r));
}

/* erf(x / sqrt 2), by erf(z) = z P(z^2) / Q(z^2) for |z| < 3.92, beyond it +-1; |error| < 3e-7. */
static inline float32x4_t erf_neon(float32x4_t x)
{
    float32x4_t z = vmulq_f32(x, vdupq_n_f32(0.707106781f));
    float32x4_t t = vminq_f32(vdupq_n_f32(15.3664f), vmulq_f32(z, z));
    float32x4_t p = vdupq_n_f32(2.050076e-6f), q = vdupq_n_f32(3.8091635e-5f);
    p = vfmaq_f32(vdupq_n_f32(2.8488346e-4f), p, t);
    q = vfmaq_f32(vdupq_n_f32(1.1625455e-3f), q, t);
    p = vfmaq_f32(vdupq_n_f32(3.7656608e-3f), p, t);
    q = vfmaq_f32(vdupq_n_f32(1.4969306e-2f), q, t);
    p = vfmaq_f32(vdupq_n_f32(5.2748851e-2f), p, t);
    q = vfmaq_f32(vdupq_n_f32(1.14109546e-1f), q, t);
    p = vfmaq_f32(vdupq_n_f32(1.9040751e-1f), p, t);
    q = vfmaq_f32(vdupq_n_f32(5.02077e-1f), q, t);
    p = vfmaq_f32(vdupq_n_f32(1.1283791f), p, t);
    q = vfmaq_f32(vdupq_n_f32(1.0f), q, t);
    float32x4_t erf = vdivq_f32(vmulq_f32(z, p), q);
    float32x4_t one = vbslq_f32(vdupq_n_u32(0x80000000u), z, vdupq_n_f32(1.0f)); /* with the sign of z */
    return vbslq_f32(vcageq_f32(z, vdupq_n_f32(3.92f)), one, erf);
}

static inline float32x4_t gelu_erf_neon(float32x4_t x)
{
    float32x4_t h = vmulq_f32(x, vdupq_n_f32(0.5f));
    return vfmaq_f32(h, h, erf_neon(x));
}

static inline float32x4_t act_neon(float32x4_t x, mmk_act act)
{
    switch (act) {
    case MMK_ACT_GELU_ERF: return gelu_erf_neon(x);
    case MMK_ACT_GELU_TANH: { /* (1 + tanh(y)) / 2 = sigmoid(2y) */
        float32x4_t u = vmulq_f32(x, vdupq_n_f32(1.59576912f));
        return x_sigmoid_neon(x, vfmaq_f32(u, vmulq_f32(u, vdupq_n_f32(0.044715f)), vmulq_f32(x, x)));
    }
    case MMK_ACT_QUICK_GELU: return x_sigmoid_neon(x, vmulq_f32(x, vdupq_n_f32(1.702f)));
    case MMK_ACT_SILU: return x_sigmoid_neon(x, x);
    case MMK_ACT_RELU: return vmaxq_f32(vdupq_n_f32(0), x);
    case MMK_ACT_NONE: break;
    }
    return x;
}

/* A tile of `rows` rows of nr floats becomes a piece of C (mmk_gemm_ops.epilogue). */
static inline void epilogue_neon(float *c, size_t ldc, const float *tile, size_t nr, int rows, int cols, const float *bias,
                                 const float *res, size_t ldr, mmk_act act)
{
    for (int r = 0; r < rows; r++, tile += nr, c += ldc, res = res ? res + ldr : NULL)
        for (int j = 0; j < cols; j += 4) {
            size_t n = (size_t)(cols - j < 4 ? cols - j : 4);
            float32x4_t x = vld1q_f32(tile + j);
            if (bias) x = vaddq_f32(x, loadn_neon(bias + j, n));
            x = act_neon(x, act);
            if (res) x = vaddq_f32(x, loadn_neon(res + j, n));
            storen_neon(c + j, x, n);
        }
}

#endif

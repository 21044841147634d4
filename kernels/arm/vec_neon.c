#include <float.h>
#include <math.h>
#include <string.h>
#include "kernels/arm/vec_neon.h"
#include "kernels/attn_int.h"
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/mm_grad.h"
#include "kernels/scan_int.h"

#define V float32x4_t
#define W 4
#define ZERO() vdupq_n_f32(0)
#define SET1(x) vdupq_n_f32(x)
#define FIRST(v) vgetq_lane_f32(v, 0)
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define LOADN(p, n) loadn_neon(p, n)
#define STOREN(p, v, n) storen_neon(p, v, n)
#define ADD(a, b) vaddq_f32(a, b)
#define SUB(a, b) vsubq_f32(a, b)
#define MUL(a, b) vmulq_f32(a, b)
#define MAX(a, b) vmaxq_f32(a, b)
#define MIN(a, b) vminq_f32(a, b)
#define NANMAX(a, b) vmaxq_f32(a, b)
#define ABS(a) vabsq_f32(a)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define HSUM(v) vaddvq_f32(v)
#define HMAX(v) vmaxvq_f32(v)
#define HIDE(v, n) hide_neon(v, n)
#define DIV(a, b) vdivq_f32(a, b)
#define SQRT(a) vsqrtq_f32(a)
#define NEGABS(a) vnegq_f32(vabsq_f32(a))
#define IFNEG(s, a, b) vbslq_f32(vcltzq_s32(vreinterpretq_s32_f32(s)), a, b)
#define IFNOT0(t, v) vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vceqzq_f32(t)))
#define STEP(v) vbslq_f32(vceqq_f32(v, v), vbslq_f32(vcgtzq_f32(v), vdupq_n_f32(1), vdupq_n_f32(0)), v)
#define ERF(v) erf_neon(v)
#define EXPNEG(v) exp_neg_neon(v)
#define ACT(v, a) act_neon(v, a)
#define ROUND(v) vrndaq_f32(v)
#define F16(p) load_f16_neon(p)
#define BF16(p) load_bf16_neon(p)
#define HALF(h) half_neon(h)
#define TO_HALF(f) to_half_neon(f)

static inline float32x4_t I8(const char *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    int16x8_t h = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(w)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(h)));
}

static inline void TO_I8(int8_t *p, float32x4_t v)
{
    int16x4_t h = vqmovn_s32(vcvtnq_s32_f32(v));
    int8x8_t b = vqmovn_s16(vcombine_s16(h, h));
    memcpy(p, &b, 4);
}

static inline void TO_F16(char *p, float32x4_t v)
{
    float16x4_t h = vcvt_f16_f32(v);
    memcpy(p, &h, sizeof h);
}

static inline void TO_BF16(char *p, float32x4_t v)
{
    uint32x4_t u = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t r = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7FFF)), odd);
    r = vbslq_u32(vceqq_f32(v, v), r, vorrq_u32(u, vdupq_n_u32(0x400000)));
    uint16x4_t h = vshrn_n_u32(r, 16);
    memcpy(p, &h, sizeof h);
}

static inline double SUMSQ(float32x4_t v)
{
    float64x2_t a = vcvt_f64_f32(vget_low_f32(v)), b = vcvt_high_f64_f32(v);
    return vaddvq_f64(vfmaq_f64(vmulq_f64(b, b), a, a));
}

#include "kernels/vec_tmpl.h"
#include "kernels/grad_tmpl.h"

void mmk_fill_neon(mm_kern *k)
{
    fill_vec(k);
    fill_grad(k);
    k->gemm[MMK_FMT_F32] = &mmk_gemm_f32_neon;
    k->matmul = &mmk_gemm_f32_neon;
    k->gemm[MMK_FMT_F16] = &mmk_gemm_f16_neon;
    k->gemm[MMK_FMT_BF16] = &mmk_gemm_bf16_neon;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_neon;
    k->gemm[MMK_FMT_Q4_0] = k->gemm[MMK_FMT_Q4_1] = NULL; /* as q8_0 where there is no SDOT */
    k->attn = &mmk_attn_neon;
    k->attn_grad = &mmk_attn_grad_neon;
    k->scan = &mmk_scan_neon;
}

#include <math.h>
#include <string.h>
#include "kernels/arm/vec_neon.h"
#include "kernels/attn_int.h"
#include "kernels/mm_kv.h"

#define MR 8 /* 16 accumulators */
#define V float32x4_t
#define W 4
#define ZERO() vdupq_n_f32(0)
#define SET1(x) vdupq_n_f32(x)
#define LOAD(p) vld1q_f32(p)
#define LOADA(p) vld1q_f32(p)
#define LOADH(p) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))) /* float16 */
#define STORE(p, v) vst1q_f32(p, v)
#define STOREA(p, v) vst1q_f32(p, v)
#define LOADN(p, n) loadn_neon(p, n)
#define STOREN(p, v, n) storen_neon(p, v, n)
#define ADD(a, b) vaddq_f32(a, b)
#define SUB(a, b) vsubq_f32(a, b)
#define MUL(a, b) vmulq_f32(a, b)
#define MAX(a, b) vmaxq_f32(a, b)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define HSUM(v) vaddvq_f32(v)
#define HMAX(v) vmaxvq_f32(v)
#define HIDE(v, n) ((n) >= W ? (v) : hide_neon(v, n))
#define EXPNEG(v) exp_neg_neon(v)

#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

static inline void TRANSPOSE(float32x4_t t[4])
{
    float32x4x2_t a = vtrnq_f32(t[0], t[1]), b = vtrnq_f32(t[2], t[3]);
    t[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    t[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    t[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    t[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

#include "kernels/attn_tmpl.h"
#include "kernels/kv_tmpl.h"

const mmk_attn_ops mmk_attn_neon = { scratch, head, kv_scratch, kv_head, MR };
const mmk_attn_grad_ops mmk_attn_grad_neon = { scratch_grad, head_grad };

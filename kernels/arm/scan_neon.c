#include <string.h>
#include "kernels/arm/vec_neon.h"
#include "kernels/scan_int.h"

#define V float32x4_t
#define W 4
#define RT 6 /* 24 accumulators, 6 queries, 1 row: 31 of 32 registers */
#define KEEP(v) ((void)(v))
#define ZERO() vdupq_n_f32(0)
#define LOADQ(p) vld1q_f32(p)
#define STORE4(p, v) vst1q_f32(p, v)
#define FMA(a, b, c) vfmaq_f32(c, a, b)

static inline V row_f32(const char *p) { return vld1q_f32((const float *)(const void *)p); }
static inline V rown_f32(const char *p, size_t n) { return loadn_neon((const float *)(const void *)p, n); }
static inline V row_f16(const char *p) { return load_f16_neon(p); }
static inline V rown_f16(const char *p, size_t n)
{
    uint16_t t[4] = { 0 };
    memcpy(t, p, 2 * n);
    return load_f16_neon(t);
}

static inline V reduce4(V a, V b, V c, V d) { return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)); }

#include "kernels/scan_tmpl.h"

/* two 8-bit products fit 16 bits: 2 * 128 * 127 < 2^15 */
static void score_i8(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < nq; i++) {
            const int8_t *x = (const int8_t *)rows + r * stride, *y = (const int8_t *)q + i * dq;
            int32x4_t s = vdupq_n_s32(0);
            size_t j = 0;
            for (; j + 16 <= d; j += 16) {
                int8x16_t a = vld1q_s8(x + j), b = vld1q_s8(y + j);
                int16x8_t p = vmull_s8(vget_low_s8(a), vget_low_s8(b));
                s = vpadalq_s16(s, vmlal_s8(p, vget_high_s8(a), vget_high_s8(b)));
            }
            int32_t sum = vaddvq_s32(s);
            for (; j < d; j++) sum += x[j] * y[j];
            out[i * ldo + r] = (float)sum;
        }
}

size_t mmk_above_neon(uint32_t *idx, const float *s, size_t n, float least)
{
    size_t m = 0, i = 0;
    float32x4_t t = vdupq_n_f32(least);
    for (; i + 8 <= n; i += 8) {
        uint32x4_t a = vcgeq_f32(vld1q_f32(s + i), t), b = vcgeq_f32(vld1q_f32(s + i + 4), t);
        if (vmaxvq_u32(vorrq_u32(a, b)) == 0) continue;
        for (size_t j = i; j < i + 8; j++)
            if (s[j] >= least) idx[m++] = (uint32_t)j;
    }
    for (; i < n; i++)
        if (s[i] >= least) idx[m++] = (uint32_t)i;
    return m;
}

/* names that the dotprod level can refer to */
void mmk_score_f32_neon(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q,
                        size_t dq, size_t nq)
{
    score_f32(out, ldo, rows, stride, n, d, q, dq, nq);
}

void mmk_score_f16_neon(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q,
                        size_t dq, size_t nq)
{
    score_f16(out, ldo, rows, stride, n, d, q, dq, nq);
}

void mmk_score_b1_neon(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q,
                       size_t dq, size_t nq)
{
    score_b1(out, ldo, rows, stride, n, d, q, dq, nq);
}

const mmk_scan_ops mmk_scan_neon = { { score_f32, score_f16, score_i8, score_b1 }, mmk_above_neon };

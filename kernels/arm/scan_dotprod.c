/* int8 scores by SDOT: 16 products in one instruction. */
#include <arm_neon.h>
#include <string.h>
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/scan_int.h"

enum { ROWS = 4 };

static inline int8x16_t load(const int8_t *p, size_t n)
{
    int8_t t[16] = { 0 };
    if (n >= 16) return vld1q_s8(p);
    memcpy(t, p, n);
    return vld1q_s8(t);
}

static void score_i8(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    for (size_t i = 0; i < nq; i++) {
        const int8_t *y = (const int8_t *)q + i * dq; /* zeros behind d */
        for (size_t r = 0; r < n; r += ROWS) {
            const int8_t *x[ROWS];
            int32x4_t a[ROWS];
            for (size_t k = 0; k < ROWS; k++) {
                x[k] = (const int8_t *)rows + (r + k < n ? r + k : n - 1) * stride;
                a[k] = vdupq_n_s32(0);
            }
            for (size_t j = 0; j < d; j += 16) {
                int8x16_t v = vld1q_s8(y + j);
#pragma GCC unroll 4
                for (int k = 0; k < ROWS; k++) a[k] = vdotq_s32(a[k], load(x[k] + j, d - j), v);
            }
            float t[ROWS];
            vst1q_f32(t, vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(a[0], a[1]), vpaddq_s32(a[2], a[3]))));
            for (size_t k = 0; k < ROWS && r + k < n; k++) out[i * ldo + r + k] = t[k];
        }
    }
}

static const mmk_scan_ops ops = {
    { mmk_score_f32_neon, mmk_score_f16_neon, score_i8, mmk_score_b1_neon }, mmk_above_neon
};

void mmk_fill_dotprod(mm_kern *k)
{
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_dotprod;
    k->gemm[MMK_FMT_Q4_0] = &mmk_gemm_q4_0_dotprod;
    k->gemm[MMK_FMT_Q4_1] = &mmk_gemm_q4_1_dotprod;
    k->scan = &ops;
}

/* Scores of stored vectors, the readable truth. */
#include "kernels/ref/num_ref.h"
#include "kernels/scan_int.h"

static void score_f32(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                      size_t nq)
{
    for (size_t i = 0; i < nq; i++)
        for (size_t r = 0; r < n; r++) {
            double s = 0;
            for (size_t j = 0; j < d; j++) s += (double)num_load_f32((const char *)rows + r * stride, j) * ((const float *)q)[i * dq + j];
            out[i * ldo + r] = (float)s;
        }
}

static void score_f16(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                      size_t nq)
{
    for (size_t i = 0; i < nq; i++)
        for (size_t r = 0; r < n; r++) {
            double s = 0;
            for (size_t j = 0; j < d; j++) s += (double)num_load_f16((const char *)rows + r * stride, j) * ((const float *)q)[i * dq + j];
            out[i * ldo + r] = (float)s;
        }
}

static void score_i8(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    for (size_t i = 0; i < nq; i++)
        for (size_t r = 0; r < n; r++) {
            const int8_t *x = (const int8_t *)rows + r * stride, *y = (const int8_t *)q + i * dq;
            int32_t s = 0;
            for (size_t j = 0; j < d; j++) s += x[j] * y[j];
            out[i * ldo + r] = (float)s;
        }
}

static void score_b1(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    (void)d;
    for (size_t i = 0; i < nq; i++)
        for (size_t r = 0; r < n; r++) {
            const uint8_t *x = (const uint8_t *)rows + r * stride, *y = (const uint8_t *)q + i * dq;
            int diff = 0;
            for (size_t j = 0; j < dq; j++) diff += __builtin_popcount((unsigned)(x[j] ^ y[j]));
            out[i * ldo + r] = (float)diff;
        }
}

static size_t above(uint32_t *idx, const float *s, size_t n, float least)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] >= least) idx[m++] = (uint32_t)i;
    return m;
}

const mmk_scan_ops mmk_scan_ref = { { score_f32, score_f16, score_i8, score_b1 }, above };

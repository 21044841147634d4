/* vec_avx2.h - vector pieces that the AVX2 matrix, attention and row kernels share; the polynomials are those of
 * vec_avx512.h. Include only from files built with -mavx2 -mfma -mf16c. */
#ifndef VEC_AVX2_H
#define VEC_AVX2_H

#include "kernels/mm_gemm.h"
#include <immintrin.h>
#include <stdint.h>

/* Mask of the first n <= 8 lanes. */
static inline __m256i tail_avx2(size_t n)
{
    static const int32_t m[16] = { -1, -1, -1, -1, -1, -1, -1, -1 };
    return _mm256_loadu_si256((const __m256i *)(const void *)(m + 8 - n));
}

/* t[i] lane j <-> t[j] lane i */
static inline void transpose8(__m256 t[8])
{
    __m256 u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        u[i] = _mm256_unpacklo_ps(t[i], t[i + 1]);
        u[i + 1] = _mm256_unpackhi_ps(t[i], t[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            t[i + 2 * h] = _mm256_shuffle_ps(u[i + h], u[i + 2 + h], 0x44);
            t[i + 2 * h + 1] = _mm256_shuffle_ps(u[i + h], u[i + 2 + h], 0xee);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        u[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        u[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) t[i] = u[i];
}

/* The same of 16-bit numbers, in either half. */
static inline void transpose8_16(__m256i t[8])
{
    __m256i u[8], v[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* lanes of rows i and i + 4 in turn, three times */
        u[2 * i] = _mm256_unpacklo_epi16(t[i], t[i + 4]);
        u[2 * i + 1] = _mm256_unpackhi_epi16(t[i], t[i + 4]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[2 * i] = _mm256_unpacklo_epi16(u[i], u[i + 4]);
        v[2 * i + 1] = _mm256_unpackhi_epi16(u[i], u[i + 4]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi16(v[i], v[i + 4]);
        t[2 * i + 1] = _mm256_unpackhi_epi16(v[i], v[i + 4]);
    }
}

/* e^x for x <= 0 (also -Inf: 0; NaN: NaN), error < 1 ulp; 0 below -87.3. */
static inline __m256 exp_neg_avx2(__m256 x)
{
    __m256 big = _mm256_cmp_ps(x, _mm256_set1_ps(-87.33f), _CMP_NLT_UQ); /* true for NaN */
    x = _mm256_max_ps(_mm256_set1_ps(-87.33f), x);                       /* this order keeps NaN */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693145752f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.4286068e-6f), r);
    __m256 p = _mm256_set1_ps(1.3814456e-3f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3687855e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1668396e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666520e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.49999994f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(big, _mm256_mul_ps(p, _mm256_castsi256_ps(e)));
}

/* x / (1 + e^-u), without overflow for any u. */
static inline __m256 x_sigmoid_avx2(__m256 x, __m256 u)
{
    __m256 e = exp_neg_avx2(_mm256_or_ps(u, _mm256_set1_ps(-0.0f)));
    __m256 r = _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_add_ps(e, _mm256_set1_ps(1.0f)));
    return _mm256_mul_ps(x, _mm256_blendv_ps(r, _mm256_mul_ps(r, e), u));
}

/* erf(x / sqrt 2), by erf(z) = z P(z^2) / Q(z^2) for |z| < 3.92, beyond it +-1; |error| < 3e-7. */
static inline __m256 erf_avx2(__m256 x)
{
    __m256 z = _mm256_mul_ps(x, _mm256_set1_ps(0.707106781f)), sign = _mm256_set1_ps(-0.0f);
    __m256 t = _mm256_min_ps(_mm256_set1_ps(15.3664f), _mm256_mul_ps(z, z)); /* keeps NaN */
    __m256 p = _mm256_set1_ps(2.050076e-6f), q = _mm256_set1_ps(3.8091635e-5f);
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(2.8488346e-4f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(1.1625455e-3f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(3.7656608e-3f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(1.4969306e-2f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(5.2748851e-2f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(1.14109546e-1f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(1.9040751e-1f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(5.02077e-1f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(1.1283791f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(1.0f));
    __m256 erf = _mm256_div_ps(_mm256_mul_ps(z, p), q);
    __m256 far = _mm256_cmp_ps(_mm256_andnot_ps(sign, z), _mm256_set1_ps(3.92f), _CMP_GE_OQ);
    return _mm256_blendv_ps(erf, _mm256_or_ps(_mm256_and_ps(z, sign), _mm256_set1_ps(1.0f)), far);
}

static inline __m256 gelu_erf_avx2(__m256 x)
{
    __m256 h = _mm256_mul_ps(x, _mm256_set1_ps(0.5f));
    return _mm256_fmadd_ps(h, erf_avx2(x), h);
}

static inline __m256 act_avx2(__m256 x, mmk_act act)
{
    switch (act) {
    case MMK_ACT_GELU_ERF: return gelu_erf_avx2(x);
    case MMK_ACT_GELU_TANH: { /* (1 + tanh(y)) / 2 = sigmoid(2y) */
        __m256 u = _mm256_mul_ps(x, _mm256_set1_ps(1.59576912f));
        return x_sigmoid_avx2(x, _mm256_fmadd_ps(_mm256_mul_ps(u, _mm256_set1_ps(0.044715f)), _mm256_mul_ps(x, x), u));
    }
    case MMK_ACT_QUICK_GELU: return x_sigmoid_avx2(x, _mm256_mul_ps(x, _mm256_set1_ps(1.702f)));
    case MMK_ACT_SILU: return x_sigmoid_avx2(x, x);
    case MMK_ACT_RELU: return _mm256_max_ps(_mm256_setzero_ps(), x); /* keeps NaN */
    case MMK_ACT_NONE: break;
    }
    return x;
}

/* 32 floats to 8 bits in 32: x = scale q, |q| <= 127. A NaN or infinity makes the scale not finite. */
static inline float quants_avx2(const float *x, __m256i q[4])
{
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 m = _mm256_setzero_ps(), nan = m;
    for (int i = 0; i < 4; i++) {
        __m256 v = _mm256_loadu_ps(x + 8 * i);
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        m = _mm256_max_ps(m, _mm256_and_ps(v, no_sign));
    }
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    float amax = _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
    float scale = _mm256_movemask_ps(nan) ? __builtin_nanf("") : amax / 127;
    __m256 inv = _mm256_set1_ps(scale >= 0x1p-126f ? 1 / scale : 0);
    for (int i = 0; i < 4; i++) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inv));
    return scale;
}

/* A tile of `rows` rows of nr floats becomes a piece of C (mmk_gemm_ops.epilogue). */
static inline void epilogue_avx2(float *c, size_t ldc, const float *tile, int nr, int rows, int cols, const float *bias,
                                 const float *res, size_t ldr, mmk_act act)
{
    for (int r = 0; r < rows; r++, tile += nr, c += ldc, res = res ? res + ldr : NULL) {
        int j = 0;
        for (; j + 8 <= cols; j += 8) { /* masked stores are slow on Zen */
            __m256 x = _mm256_load_ps(tile + j);
            if (bias)
                x = _mm256_add_ps(x, _mm256_loadu_ps(bias + j));
            x = act_avx2(x, act);
            if (res)
                x = _mm256_add_ps(x, _mm256_loadu_ps(res + j));
            _mm256_storeu_ps(c + j, x);
        }
        for (; j < cols; j += 8) {
            __m256i some = tail_avx2((size_t)(cols - j < 8 ? cols - j : 8));
            __m256 x = _mm256_load_ps(tile + j);
            if (bias)
                x = _mm256_add_ps(x, _mm256_maskload_ps(bias + j, some));
            x = act_avx2(x, act);
            if (res)
                x = _mm256_add_ps(x, _mm256_maskload_ps(res + j, some));
            _mm256_maskstore_ps(c + j, some, x);
        }
    }
}

/* C is fetched while a product runs, and takes it: acc are rows of 16; `rows` is a constant wherever these are inlined. */
static inline __attribute__((always_inline)) void fetch_avx2(const float *c, size_t ldc, int rows)
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm_prefetch(c + (size_t)r * ldc, _MM_HINT_T0);
        _mm_prefetch(c + (size_t)r * ldc + 15, _MM_HINT_T0);
    }
}

static inline __attribute__((always_inline)) void store_avx2(float *c, size_t ldc, __m256 *acc, int rows, const float *bias, const float *res,
                                                             size_t ldr)
{
    if (bias) {
        __m256 b0 = _mm256_loadu_ps(bias), b1 = _mm256_loadu_ps(bias + 8);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            acc[2 * r] = _mm256_add_ps(acc[2 * r], b0);
            acc[2 * r + 1] = _mm256_add_ps(acc[2 * r + 1], b1);
        }
    }
    if (res) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const float *x = res + (size_t)r * ldr;
            acc[2 * r] = _mm256_add_ps(acc[2 * r], _mm256_loadu_ps(x));
            acc[2 * r + 1] = _mm256_add_ps(acc[2 * r + 1], _mm256_loadu_ps(x + 8));
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        float *x = c + (size_t)r * ldc;
        _mm256_storeu_ps(x, acc[2 * r]);
        _mm256_storeu_ps(x + 8, acc[2 * r + 1]);
    }
}

#endif

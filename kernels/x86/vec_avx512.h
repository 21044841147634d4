/* vec_avx512.h - vector pieces that the AVX-512 matrix and attention kernels share. Include only from files built with
 * -mavx512f and friends. Coefficients are minimax fits of our own (iterated weighted least squares in double). */
#ifndef VEC_AVX512_H
#define VEC_AVX512_H

#include "kernels/mm_gemm.h"
#include <immintrin.h>

/* t[i] lane j <-> t[j] lane i, on 32-bit lanes. */
static inline void transpose16(__m512 t[16])
{
    __m512 u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        u[i] = _mm512_unpacklo_ps(t[i], t[i + 1]);
        u[i + 1] = _mm512_unpackhi_ps(t[i], t[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m512d a = _mm512_castps_pd(u[i + h]), b = _mm512_castps_pd(u[i + 2 + h]);
            t[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            t[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    /* now t[4g + c], 128-bit lane q = element 4q + c of rows 4g .. 4g+3 */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 p = _mm512_shuffle_f32x4(t[c], t[4 + c], 0x88), q = _mm512_shuffle_f32x4(t[c], t[4 + c], 0xdd);
        __m512 r = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0x88), s = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0xdd);
        u[c] = _mm512_shuffle_f32x4(p, r, 0x88);
        u[8 + c] = _mm512_shuffle_f32x4(p, r, 0xdd);
        u[4 + c] = _mm512_shuffle_f32x4(q, s, 0x88);
        u[12 + c] = _mm512_shuffle_f32x4(q, s, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        t[i] = u[i];
}

/* In each 128 bits, on 16-bit lanes: t[i] lane j <-> t[j] lane i. */
static inline void transpose8_16_avx512(__m512i t[8])
{
    for (int round = 0; round < 3; round++) { /* lanes of rows i and i + 4 in turn */
        __m512i u[8];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            u[2 * i] = _mm512_unpacklo_epi16(t[i], t[i + 4]);
            u[2 * i + 1] = _mm512_unpackhi_epi16(t[i], t[i + 4]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) t[i] = u[i];
    }
}

/* In each 128 bits, on 32-bit lanes: t[i] lane j <-> t[j] lane i. */
static inline void transpose4_avx512(__m512i t[4])
{
    __m512i a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
    __m512i c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);
    t[0] = _mm512_unpacklo_epi64(a, c);
    t[1] = _mm512_unpackhi_epi64(a, c);
    t[2] = _mm512_unpacklo_epi64(b, d);
    t[3] = _mm512_unpackhi_epi64(b, d);
}

/* 16 bytes each of four rows */
static inline __m512i load4_avx512(const char *p, const char *q, const char *r, const char *s)
{
    const __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)p)), _mm_loadu_si128((const void *)q), 1);
    const __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)r)), _mm_loadu_si128((const void *)s), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}

/* 4 bytes at `at` of each of 16 rows */
static inline __m512i heads_avx512(const char *const row[16], size_t at)
{
    const __m512i off = _mm512_set1_epi64((long long)at);
    const __m256i lo = _mm512_i64gather_epi32(_mm512_add_epi64(_mm512_loadu_si512(row), off), NULL, 1);
    const __m256i hi = _mm512_i64gather_epi32(_mm512_add_epi64(_mm512_loadu_si512(row + 8), off), NULL, 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}

/* A panel's rows; where there are less than its `nr`, the first one again: nobody looks at the columns that come of it. */
static inline void panel_rows(const char **row, const void *const *rows, int n, int nr)
{
    for (int i = 0; i < nr; i++) row[i] = rows[i < n ? i : 0];
}

/* e^x for x <= 0 (also -Inf: 0; NaN: NaN), error < 1 ulp; 0 below -87.3: results below 2^-126 would cost an assist of the
 * microcode, 100 cycles for each register with a hidden key in it. */
static inline __m512 exp_neg_avx512(__m512 x)
{
    __mmask16 big = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33f), _CMP_NLT_UQ); /* true for NaN */
    x = _mm512_max_ps(_mm512_set1_ps(-87.33f), x);                              /* this order keeps NaN */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.4286068e-6f), r);
    __m512 p = _mm512_set1_ps(1.3814456e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3687855e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1668396e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666520e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.49999994f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(big, p, n);
}

/* 1/x for x in [1, 2^60]: a 14-bit estimate and one Newton step, error < 1 ulp; a third of the cost of a division. */
static inline __m512 recip_avx512(__m512 x)
{
    __m512 y = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(x, y, _mm512_set1_ps(1.0f)), y, y);
}

/* x / (1 + e^-u), without overflow for any u. */
static inline __m512 x_sigmoid_avx512(__m512 x, __m512 u)
{
    __m512 e = exp_neg_avx512(_mm512_or_ps(u, _mm512_set1_ps(-0.0f)));
    __m512 r = recip_avx512(_mm512_add_ps(e, _mm512_set1_ps(1.0f)));
    __mmask16 neg = _mm512_movepi32_mask(_mm512_castps_si512(u));
    return _mm512_mul_ps(x, _mm512_mask_mul_ps(r, neg, r, e));
}

/* erf(x / sqrt 2), by erf(z) = z P(z^2) / Q(z^2) for |z| < 3.92, beyond it +-1; |error| < 3e-7. */
static inline __m512 erf_avx512(__m512 x)
{
    __m512 z = _mm512_mul_ps(x, _mm512_set1_ps(0.707106781f));
    __m512 t = _mm512_min_ps(_mm512_set1_ps(15.3664f), _mm512_mul_ps(z, z)); /* keeps NaN */
    __m512 p = _mm512_set1_ps(2.050076e-6f), q = _mm512_set1_ps(3.8091635e-5f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(2.8488346e-4f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(1.1625455e-3f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(3.7656608e-3f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(1.4969306e-2f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(5.2748851e-2f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(1.14109546e-1f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.9040751e-1f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(5.02077e-1f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.1283791f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(1.0f));
    __m512 erf = _mm512_mul_ps(_mm512_mul_ps(z, p), recip_avx512(q));
    __mmask16 far = _mm512_cmp_ps_mask(_mm512_abs_ps(z), _mm512_set1_ps(3.92f), _CMP_GE_OQ);
    return _mm512_mask_or_ps(erf, far, _mm512_and_ps(z, _mm512_set1_ps(-0.0f)), _mm512_set1_ps(1.0f));
}

static inline __m512 gelu_erf_avx512(__m512 x)
{
    __m512 h = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    return _mm512_fmadd_ps(h, erf_avx512(x), h);
}

static inline __m512 act_avx512(__m512 x, mmk_act act)
{
    switch (act) {
    case MMK_ACT_GELU_ERF: return gelu_erf_avx512(x);
    case MMK_ACT_GELU_TANH: { /* (1 + tanh(y)) / 2 = sigmoid(2y) */
        __m512 u = _mm512_mul_ps(x, _mm512_set1_ps(1.59576912f));
        return x_sigmoid_avx512(x, _mm512_fmadd_ps(_mm512_mul_ps(u, _mm512_set1_ps(0.044715f)), _mm512_mul_ps(x, x), u));
    }
    case MMK_ACT_QUICK_GELU: return x_sigmoid_avx512(x, _mm512_mul_ps(x, _mm512_set1_ps(1.702f)));
    case MMK_ACT_SILU: return x_sigmoid_avx512(x, x);
    case MMK_ACT_RELU: return _mm512_max_ps(_mm512_setzero_ps(), x); /* keeps NaN */
    case MMK_ACT_NONE: break;
    }
    return x;
}

/* One register of C. */
static inline __attribute__((always_inline)) void finish16(float *c, const float *tile, const float *bias,
                                                           const float *res, mmk_act act, __mmask16 some)
{
    __m512 x = _mm512_load_ps(tile);
    if (bias)
        x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(some, bias));
    x = act_avx512(x, act);
    if (res)
        x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(some, res));
    _mm512_mask_storeu_ps(c, some, x);
}

/* The epilogue with act a constant; nr a multiple of 32, cols <= nr. */
static inline __attribute__((always_inline)) void epilogue_act(float *c, size_t ldc, const float *tile, int nr, int rows,
                                                               int cols, const float *bias, const float *res, size_t ldr,
                                                               mmk_act act)
{
    for (int r = 0; r < rows; r++, tile += nr, c += ldc, res = res ? res + ldr : NULL) {
        int j = 0;
        for (; j + 32 <= cols; j += 32)
            for (int h = j; h < j + 32; h += 16)
                finish16(c + h, tile + h, bias ? bias + h : NULL, res ? res + h : NULL, act, 0xffff);
        for (; j < cols; j += 16)
            finish16(c + j, tile + j, bias ? bias + j : NULL, res ? res + j : NULL, act,
                     (__mmask16)(cols - j < 16 ? (1u << (cols - j)) - 1 : 0xffff));
    }
}

#ifdef __AVX512VNNI__
/* Four products of w (unsigned) and x (signed) to each sum. In C, gcc copies sums to and fro. */
static inline __attribute__((always_inline)) void add_dot(__m512i *sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(x));
}

/* Lane r: the greatest of the 16 lanes of m[r]. */
static inline __m512i max_rows(__m512i m[16])
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        m[i] = _mm512_max_epi32(_mm512_unpacklo_epi32(m[2 * i], m[2 * i + 1]), _mm512_unpackhi_epi32(m[2 * i], m[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        m[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(m[2 * i], m[2 * i + 1]), _mm512_unpackhi_epi64(m[2 * i], m[2 * i + 1]));
    /* now every 128 bits of m[i] are rows 4 i .. 4 i + 3 */
#define BOTH(a, b) _mm512_max_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd))
    __m512i x = BOTH(m[0], m[1]), y = BOTH(m[2], m[3]);
    return BOTH(x, y);
#undef BOTH
}

/* t[r]: 8 lanes of row r, and of row r + 8 -> t[g]: lane g of 16 rows. */
static inline void transpose16_8(__m512i t[8])
{
    const __m512i lo = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), hi = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    __m512i u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        u[i] = _mm512_unpacklo_epi32(t[i], t[i + 1]);
        u[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            t[i + 2 * h] = _mm512_unpacklo_epi64(u[i + h], u[i + 2 + h]);
            t[i + 2 * h + 1] = _mm512_unpackhi_epi64(u[i + h], u[i + 2 + h]);
        }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        u[c] = _mm512_permutex2var_epi64(t[c], lo, t[4 + c]);
        u[4 + c] = _mm512_permutex2var_epi64(t[c], hi, t[4 + c]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) t[i] = u[i];
}

/* A block of 32 of each of up to 16 rows to 8 bits, lane r for row r: x = scale q, |q| <= 127, q four to a lane, and the sum of each row's q. A NaN
 * or infinity makes the row's scale not finite. */
static inline void quants_avx512(const float *a, size_t lda, int rows, __m512 *scale, __m512i *sum, __m512i group[8])
{
    __m512i m[16];
    __m256i q[16];
    float inv[16];
    for (int r = 0; r < 16; r++) { /* as integers NaN is greater than infinity */
        const __m512i value = _mm512_set1_epi32(0x7fffffff);
        const float *x = a + (size_t)r * lda;
        m[r] = r < rows ? _mm512_max_epi32(_mm512_and_si512(value, _mm512_loadu_si512(x)), _mm512_and_si512(value, _mm512_loadu_si512(x + 16)))
                        : _mm512_setzero_si512();
    }
    *scale = _mm512_div_ps(_mm512_castsi512_ps(max_rows(m)), _mm512_set1_ps(127));
    __mmask16 some = _mm512_cmp_ps_mask(*scale, _mm512_set1_ps(0x1p-126f), _CMP_GE_OQ);
    _mm512_storeu_ps(inv, _mm512_maskz_div_ps(some, _mm512_set1_ps(1), *scale));
    for (int r = 0; r < 16; r++) {
        const float *x = a + (size_t)r * lda;
        q[r] = _mm256_setzero_si256();
        if (r >= rows) continue;
        __m128i q0 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inv[r]))));
        __m128i q1 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), _mm512_set1_ps(inv[r]))));
        q[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(q0), q1, 1);
    }
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) group[r] = _mm512_inserti64x4(_mm512_castsi256_si512(q[r]), q[r + 8], 1);
    transpose16_8(group);
    *sum = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) add_dot(sum, _mm512_set1_epi8(1), group[g]);
}
#endif

/* A tile of `rows` rows of nr floats becomes a piece of C (mmk_gemm_ops.epilogue). */
static inline void epilogue_avx512(float *c, size_t ldc, const float *tile, int nr, int rows, int cols, const float *bias,
                                   const float *res, size_t ldr, mmk_act act)
{
    switch (act) {
    case MMK_ACT_NONE: epilogue_act(c, ldc, tile, nr, rows, cols, bias, res, ldr, MMK_ACT_NONE); break;
    case MMK_ACT_GELU_ERF: epilogue_act(c, ldc, tile, nr, rows, cols, bias, res, ldr, MMK_ACT_GELU_ERF); break;
    case MMK_ACT_GELU_TANH: epilogue_act(c, ldc, tile, nr, rows, cols, bias, res, ldr, MMK_ACT_GELU_TANH); break;
    default: epilogue_act(c, ldc, tile, nr, rows, cols, bias, res, ldr, act); break;
    }
}

#endif

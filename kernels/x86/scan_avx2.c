#include <immintrin.h>
#include <string.h>
#include "kernels/scan_int.h"
#include "kernels/x86/vec_avx2.h"

#define V __m256
#define W 8
#define RT 2 /* 8 accumulators, 4 rows, 1 query: 13 of 16 registers */
#define ZERO() _mm256_setzero_ps()
#define STORE4(p, v) _mm_storeu_ps(p, v)
#define LOADQ(p) _mm256_load_ps(p)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)

static inline V row_f32(const char *p) { return _mm256_loadu_ps((const float *)(const void *)p); }
static inline V rown_f32(const char *p, size_t n) { return _mm256_maskload_ps((const float *)(const void *)p, tail_avx2(n)); }
static inline V row_f16(const char *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
static inline V rown_f16(const char *p, size_t n)
{
    uint16_t t[8] = { 0 };
    memcpy(t, p, 2 * n);
    return row_f16((const char *)t);
}

static inline __m128 reduce4(__m256 a, __m256 b, __m256 c, __m256 d)
{
    __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    __m256d lo = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    __m256d hi = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    __m256 s = _mm256_add_ps(_mm256_castpd_ps(lo), _mm256_castpd_ps(hi));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

#include "kernels/scan_tmpl.h"

static void score_i8(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < nq; i++) {
            const int8_t *x = (const int8_t *)rows + r * stride, *y = (const int8_t *)q + i * dq;
            __m256i s = _mm256_setzero_si256();
            size_t j = 0;
            for (; j + 16 <= d; j += 16)
                s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(x + j))),
                                                          _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(y + j)))));
            int32_t sum = 0;
            for (; j < d; j++) sum += x[j] * y[j];
            __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
            t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
            t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1));
            out[i * ldo + r] = (float)(sum + _mm_cvtsi128_si32(t));
        }
}

static size_t above(uint32_t *idx, const float *s, size_t n, float least)
{
    size_t m = 0, i = 0;
    __m256 t = _mm256_set1_ps(least);
    for (; i + 8 <= n; i += 8) {
        unsigned k = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(s + i), t, _CMP_GE_OQ));
        for (; k; k &= k - 1) idx[m++] = (uint32_t)i + (uint32_t)__builtin_ctz(k);
    }
    for (; i < n; i++)
        if (s[i] >= least) idx[m++] = (uint32_t)i;
    return m;
}

const mmk_scan_ops mmk_scan_avx2 = { { score_f32, score_f16, score_i8, score_b1 }, above };

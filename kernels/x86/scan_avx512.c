#include <immintrin.h>
#include <string.h>
#include "kernels/scan_int.h"

#define V __m512
#define W 16
#define RT 6 /* 24 accumulators, 6 queries, 1 row: 31 of 32 registers */
#define KEEP(v) ((void)(v))
#define TAIL(n) ((__mmask16)((1u << (n)) - 1))
#define ZERO() _mm512_setzero_ps()
#define STORE4(p, v) _mm_storeu_ps(p, v)
#define LOADQ(p) _mm512_load_ps(p)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)

static inline V row_f32(const char *p) { return _mm512_loadu_ps(p); }
static inline V rown_f32(const char *p, size_t n) { return _mm512_maskz_loadu_ps(TAIL(n), p); }
static inline V row_f16(const char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
static inline V rown_f16(const char *p, size_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(TAIL(n), p)); }

static inline __m128 reduce4(__m512 a, __m512 b, __m512 c, __m512 d)
{
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512 s = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

#include "kernels/scan_tmpl.h"

size_t mmk_above_avx512(uint32_t *idx, const float *s, size_t n, float least)
{
    size_t m = 0;
    __m512 t = _mm512_set1_ps(least);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 some = TAIL(n - i < 16 ? n - i : 16);
        unsigned k = _mm512_mask_cmp_ps_mask(some, _mm512_maskz_loadu_ps(some, s + i), t, _CMP_GE_OQ);
        for (; k; k &= k - 1) idx[m++] = (uint32_t)i + (uint32_t)__builtin_ctz(k);
    }
    return m;
}

/* names that the VNNI level can refer to */
void mmk_score_f32_avx512(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq, size_t nq)
{
    score_f32(out, ldo, rows, stride, n, d, q, dq, nq);
}

void mmk_score_f16_avx512(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq, size_t nq)
{
    score_f16(out, ldo, rows, stride, n, d, q, dq, nq);
}

void mmk_score_b1_avx512(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq, size_t nq)
{
    score_b1(out, ldo, rows, stride, n, d, q, dq, nq);
}

/* int8: levels with VNNI have something better than the AVX2 version, this one has not */
const mmk_scan_ops mmk_scan_avx512 = { { score_f32, score_f16, mmk_score_i8_avx2, score_b1 }, mmk_above_avx512 };

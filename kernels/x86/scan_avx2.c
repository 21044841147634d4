#include <immintrin.h>
#include <string.h>
#include "kernels/scan_int.h"
#include "kernels/x86/vec_avx2.h"

#define V __m256
#define W 8
#define RT 3 /* 12 accumulators, 3 queries, 1 row: all 16 registers */
#define KEEP(v) __asm__("" : "+x"(v))
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

/* int8: |row| times query with the row's sign, so that VPMADDUBSW can do it; two products fit 16 bits (128 * 127 * 2). */
static inline __m256i loadn_i8(const char *p, size_t n)
{
    char t[32] = { 0 };
    memcpy(t, p, n);
    return _mm256_loadu_si256((const __m256i *)(const void *)t);
}

#define STEP_I8(ROW)                                                                                                     \
    _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++)                                                               \
    {                                                                                                                    \
        __m256i v = ROW, u = _mm256_abs_epi8(v);                                                                         \
        _Pragma("GCC unroll 2") for (int i = 0; i < nq; i++) /* queries have zeros behind d */                           \
        {                                                                                                                \
            __m256i y = _mm256_load_si256((const __m256i *)(const void *)(q + (size_t)i * dq + j));                      \
            y = _mm256_maddubs_epi16(u, _mm256_sign_epi8(y, v));                                                         \
            a[i][r] = _mm256_add_epi32(a[i][r], _mm256_madd_epi16(y, one));                                              \
        }                                                                                                                \
    }

static inline __m128i reduce4_i32(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

/* out[i][r] for four rows and nq <= 2 queries, a constant where this is inlined */
static inline __attribute__((always_inline)) void tile_i8(float *out, size_t ldo, const char *const x[ROWS], size_t d,
                                                          const int8_t *q, size_t dq, int nq)
{
    __m256i a[2][ROWS], one = _mm256_set1_epi16(1);
#pragma GCC unroll 2
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) a[i][r] = _mm256_setzero_si256();
    size_t j = 0;
    for (; j + 32 <= d; j += 32) {
        if (nq == 1 && j % 64 == 0)
            for (int r = 0; r < ROWS; r++) __builtin_prefetch(x[r] + j + AHEAD);
        STEP_I8(_mm256_loadu_si256((const __m256i *)(const void *)(x[r] + j)));
    }
    if (j < d) STEP_I8(loadn_i8(x[r] + j, d - j));
#pragma GCC unroll 2
    for (int i = 0; i < nq; i++)
        _mm_storeu_ps(out + (size_t)i * ldo, _mm_cvtepi32_ps(reduce4_i32(a[i][0], a[i][1], a[i][2], a[i][3])));
}

void mmk_score_i8_avx2(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                       size_t nq)
{
    for (size_t r = 0; r < n; r += ROWS) {
        const char *x[ROWS];
        for (size_t k = 0; k < ROWS; k++) x[k] = (const char *)rows + (r + k < n ? r + k : n - 1) * stride;
        for (size_t i = 0, m; i < nq; i += m) {
            const int8_t *y = (const int8_t *)q + i * dq;
            float last[2 * ROWS], *o = n - r < ROWS ? last : out + i * ldo + r;
            size_t ld = n - r < ROWS ? ROWS : ldo;
            m = nq - i >= 2 ? 2 : 1;
            if (m == 2) tile_i8(o, ld, x, d, y, dq, 2);
            else tile_i8(o, ld, x, d, y, dq, 1);
            for (size_t k = 0; o == last && k < m; k++)
                for (size_t t = 0; t < n - r; t++) out[(i + k) * ldo + r + t] = last[k * ROWS + t];
        }
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

const mmk_scan_ops mmk_scan_avx2 = { { score_f32, score_f16, mmk_score_i8_avx2, score_b1 }, above };

/* int8 scores by VPDPBUSD: 64 products in one instruction. It wants one side unsigned: rows + 128, corrected by 128 sum(q);
 * sums wrap modulo 2^32, so only the result has to fit. Tiles as in scan_tmpl.h. */
#include <immintrin.h>
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/scan_int.h"

enum {
    ROWS = 4,
    RT = 4,      /* queries in a tile: 16 accumulators, 4 rows (gcc 12 spills with more) */
    STRIP = 32,  /* rows that stay in L1 while the queries pass */
    AHEAD = 4096 /* bytes; one query alone: int8 rows go by faster than the hardware fetches them */
};

static inline __m128i reduce4(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* 64 elements from j on; q has zeros behind d */
#define STEP(ROW)                                                                          \
    do {                                                                                   \
        _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++) v[r] = _mm512_xor_si512(ROW, flip); \
        _Pragma("GCC unroll 4") for (int i = 0; i < nq; i++)                               \
        {                                                                                  \
            __m512i y = _mm512_load_si512(q + (size_t)i * dq + j);                         \
            _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++)                         \
                a[i][r] = _mm512_dpbusd_epi32(a[i][r], v[r], y);                           \
        }                                                                                  \
    } while (0)

/* out[i][ROWS] for nq queries, a constant where this is inlined */
static inline __attribute__((always_inline)) void tile(float *out, size_t ldo, const char *const x[ROWS], size_t d,
                                                       const int8_t *q, size_t dq, const int32_t *less, int nq)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i a[RT][ROWS], v[ROWS];
#pragma GCC unroll 4
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) a[i][r] = _mm512_setzero_si512();
    size_t j = 0;
    for (; j + 64 <= d; j += 64) {
        if (nq == 1)
            for (int r = 0; r < ROWS; r++) _mm_prefetch(x[r] + j + AHEAD, _MM_HINT_T0);
        STEP(_mm512_loadu_si512(x[r] + j));
    }
    if (j < d) STEP(_mm512_maskz_loadu_epi8(((__mmask64)1 << (d - j)) - 1, x[r] + j));
#pragma GCC unroll 4
    for (int i = 0; i < nq; i++) {
        __m128i s = _mm_sub_epi32(reduce4(a[i][0], a[i][1], a[i][2], a[i][3]), _mm_set1_epi32(less[i]));
        _mm_storeu_ps(out + (size_t)i * ldo, _mm_cvtepi32_ps(s));
    }
}

static int32_t sum128(const int8_t *q, size_t dq)
{
    __m512i s = _mm512_setzero_si512();
    for (size_t j = 0; j < dq; j += 64)
        s = _mm512_dpbusd_epi32(s, _mm512_set1_epi8((char)0x80), _mm512_load_si512(q + j));
    return _mm512_reduce_add_epi32(s);
}

static void score_i8(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    const size_t strip = nq == 1 ? n : STRIP;
    for (size_t r0 = 0; r0 < n; r0 += strip)
        for (size_t i = 0, m; i < nq; i += m) {
            const int8_t *y = (const int8_t *)q + i * dq; /* 64-byte aligned, zeros behind d */
            int32_t less[RT];
            m = nq - i >= RT ? RT : 1;
            for (size_t k = 0; k < m; k++) less[k] = sum128(y + k * dq, dq);
            for (size_t r = r0; r < n && r < r0 + strip; r += ROWS) {
                const char *x[ROWS];
                float last[RT * ROWS], *o = n - r < ROWS ? last : out + i * ldo + r;
                size_t ld = n - r < ROWS ? ROWS : ldo;
                for (size_t k = 0; k < ROWS; k++) x[k] = (const char *)rows + (r + k < n ? r + k : n - 1) * stride;
                if (m == RT) tile(o, ld, x, d, y, dq, less, RT);
                else tile(o, ld, x, d, y, dq, less, 1);
                for (size_t k = 0; o == last && k < m; k++)
                    for (size_t t = 0; t < n - r; t++) out[(i + k) * ldo + r + t] = last[k * ROWS + t];
            }
        }
}

const mmk_scan_ops mmk_scan_vnni = { { mmk_score_f32_avx512, mmk_score_f16_avx512, score_i8, mmk_score_b1_avx512 },
                                     mmk_above_avx512 };

void mmk_fill_vnni(mm_kern *k)
{
    k->scan = &mmk_scan_vnni;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_vnni;
    k->gemm[MMK_FMT_Q4_0] = &mmk_gemm_q4_0_vnni;
    k->gemm[MMK_FMT_Q4_1] = &mmk_gemm_q4_1_vnni;
}

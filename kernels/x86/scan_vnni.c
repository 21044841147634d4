/* int8 scores by VPDPBUSD: 64 products in one instruction. It wants one side unsigned: rows + 128, corrected by 128 sum(q). */
#include <immintrin.h>
#include "kernels/kern_int.h"
#include "kernels/scan_int.h"

enum { ROWS = 4 };

static inline __m128i reduce4(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

static void score_i8(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    for (size_t i = 0; i < nq; i++) {
        const int8_t *y = (const int8_t *)q + i * dq; /* 64-byte aligned, zeros behind d */
        int32_t sum = 0;
        for (size_t j = 0; j < d; j++) sum += y[j];
        __m128i corr = _mm_set1_epi32(128 * sum);
        for (size_t r = 0; r < n; r += ROWS) {
            const char *x[ROWS];
            __m512i a[ROWS];
            for (size_t k = 0; k < ROWS; k++) {
                x[k] = (const char *)rows + (r + k < n ? r + k : n - 1) * stride;
                a[k] = _mm512_setzero_si512();
            }
            for (size_t j = 0; j < d; j += 64) {
                __mmask64 m = d - j < 64 ? ((__mmask64)1 << (d - j)) - 1 : ~(__mmask64)0;
                __m512i v = _mm512_load_si512(y + j);
                for (int k = 0; k < ROWS; k++) {
                    a[k] = _mm512_dpbusd_epi32(a[k], _mm512_xor_si512(_mm512_maskz_loadu_epi8(m, x[k] + j), flip), v);
                }
            }
            __m128 s = _mm_cvtepi32_ps(_mm_sub_epi32(reduce4(a[0], a[1], a[2], a[3]), corr));
            if (n - r >= ROWS) {
                _mm_storeu_ps(out + i * ldo + r, s);
            } else {
                float t[ROWS];
                _mm_storeu_ps(t, s);
                for (size_t k = 0; k < n - r; k++) out[i * ldo + r + k] = t[k];
            }
        }
    }
}

const mmk_scan_ops mmk_scan_vnni = { { mmk_score_f32_avx512, mmk_score_f16_avx512, score_i8, mmk_score_b1_avx512 }, mmk_above_avx512 };

void mmk_fill_vnni(mm_kern *k)
{
    k->scan = &mmk_scan_vnni;
}

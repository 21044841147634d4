#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels/attn_int.h"
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/scan_int.h"
#include "kernels/x86/vec_avx512.h"

#define V __m512
#define W 16
#define ZERO() _mm512_setzero_ps()
#define SET1(x) _mm512_set1_ps(x)
#define FIRST(v) _mm512_cvtss_f32(v)
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define TAIL(n) ((__mmask16)((1u << (n)) - 1)) /* n <= 16 */
#define LOADN(p, n) _mm512_maskz_loadu_ps(TAIL(n), p)
#define STOREN(p, v, n) _mm512_mask_storeu_ps(p, TAIL(n), v)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define MAX(a, b) _mm512_max_ps(a, b)
#define MIN(a, b) _mm512_min_ps(a, b)
#define ABS(a) _mm512_abs_ps(a)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define HSUM(v) _mm512_reduce_add_ps(v)
#define HMAX(v) _mm512_reduce_max_ps(v)
#define F16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define BF16(p) \
    _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))), 16))
#define I8(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define TO_F16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))
#define TO_I8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)))

static inline double SUMSQ(__m512 v)
{
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    return _mm512_reduce_add_pd(_mm512_fmadd_pd(a, a, _mm512_mul_pd(b, b)));
}

#include "kernels/x86/vec_tmpl.h"

static void act(float *x, size_t n, mmk_act a)
{
    for (size_t i = 0; i < n; i += W) STOREN(x + i, act_avx512(LOADN(x + i, left(n, i)), a), left(n, i));
}

static void softmax(float *x, size_t rows, size_t n, size_t ldx)
{
    for (size_t r = 0; r < rows; r++, x += ldx) {
        V m = SET1(-INFINITY), s = ZERO();
        __mmask16 nan = 0;
        for (size_t i = 0; i < n; i += W) {
            V v = _mm512_mask_loadu_ps(SET1(-INFINITY), TAIL(left(n, i)), x + i);
            nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
            m = MAX(m, v);
        }
        V top = SET1(nan ? NAN : HMAX(m));
        for (size_t i = 0; i < n; i += W) {
            V e = exp_neg_avx512(SUB(LOADN(x + i, left(n, i)), top));
            STOREN(x + i, e, left(n, i));
            s = ADD(s, _mm512_maskz_mov_ps(TAIL(left(n, i)), e));
        }
        V inv = SET1(1 / HSUM(s));
        for (size_t i = 0; i < n; i += W) STOREN(x + i, MUL(LOADN(x + i, left(n, i)), inv), left(n, i));
    }
}

void mmk_fill_avx512(mm_kern *k)
{
    fill_vec(k);
    k->act = act;
    k->softmax = softmax;
    k->gemm[MMK_FMT_F32] = &mmk_gemm_f32_avx512;
    k->gemm[MMK_FMT_F16] = &mmk_gemm_f16_avx512;
    k->gemm[MMK_FMT_BF16] = &mmk_gemm_bf16_avx512;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_avx512;
    k->attn = &mmk_attn_avx512;
    k->scan = &mmk_scan_avx512;
}

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels/attn_int.h"
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/mm_grad.h"
#include "kernels/scan_int.h"
#include "kernels/x86/vec_avx2.h"

#define V __m256
#define W 8
#define ZERO() _mm256_setzero_ps()
#define SET1(x) _mm256_set1_ps(x)
#define FIRST(v) _mm256_cvtss_f32(v)
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define LOADN(p, n) _mm256_maskload_ps(p, tail_avx2(n))
#define STOREN(p, v, n) _mm256_maskstore_ps(p, tail_avx2(n), v)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#define MIN(a, b) _mm256_min_ps(a, b)
#define ABS(a) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define F16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define BF16(p) \
    _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))), 16))
#define I8(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define HALF(h) _cvtsh_ss(h)
#define TO_HALF(f) _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)
#define NANMAX(a, b) _mm256_blendv_ps(_mm256_max_ps(b, a), b, _mm256_cmp_ps(b, b, _CMP_UNORD_Q))
#define DIV(a, b) _mm256_div_ps(a, b)
#define SQRT(a) _mm256_sqrt_ps(a)
#define NEGABS(a) _mm256_or_ps(_mm256_set1_ps(-0.0f), a)
#define IFNEG(s, a, b) _mm256_blendv_ps(b, a, s)
#define IFNOT0(t, v) _mm256_and_ps(_mm256_cmp_ps(t, _mm256_setzero_ps(), _CMP_NEQ_UQ), v)
#define STEP(v) _mm256_blendv_ps(_mm256_and_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ), _mm256_set1_ps(1)), v, \
                                 _mm256_cmp_ps(v, v, _CMP_UNORD_Q))
#define ERF(v) erf_avx2(v)
#define EXPNEG(v) exp_neg_avx2(v)
#define ACT(v, a) act_avx2(v, a)
#define HIDE(v, n) _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), v, _mm256_castsi256_ps(tail_avx2(n)))
#define TO_F16(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))

static inline float HSUM(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float HMAX(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline double SUMSQ(__m256 v)
{
    __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    a = _mm256_fmadd_pd(a, a, _mm256_mul_pd(b, b));
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

static inline void TO_I8(int8_t *p, __m256 v)
{
    __m256i i = _mm256_cvtps_epi32(v);
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(w, w));
}

/* the float below a half is added, so that 0.49999997 does not become 1 */
static inline __m256 ROUND(__m256 v)
{
    __m256 h = _mm256_or_ps(_mm256_set1_ps(0x1.fffffep-2f), _mm256_and_ps(_mm256_set1_ps(-0.0f), v));
    return _mm256_round_ps(_mm256_add_ps(v, h), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

static inline void TO_BF16(char *p, __m256 v)
{
    __m256i u = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd);
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    r = _mm256_srli_epi32(_mm256_blendv_epi8(r, quiet, nan), 16);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
}

#include "kernels/vec_tmpl.h"
#include "kernels/grad_tmpl.h"

void mmk_fill_avx2(mm_kern *k)
{
    fill_vec(k);
    fill_grad(k);
    k->gemm[MMK_FMT_F32] = &mmk_gemm_f32_avx2;
    k->matmul = &mmk_gemm_f32_avx2;
    k->gemm[MMK_FMT_F16] = &mmk_gemm_f16_avx2;
    k->gemm[MMK_FMT_BF16] = &mmk_gemm_bf16_avx2;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_avx2;
    k->gemm[MMK_FMT_Q4_0] = &mmk_gemm_q4_0_avx2;
    k->gemm[MMK_FMT_Q4_1] = &mmk_gemm_q4_1_avx2;
    k->attn = &mmk_attn_avx2;
    k->attn_grad = &mmk_attn_grad_avx2;
    k->scan = &mmk_scan_avx2;
}

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels/attn_int.h"
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/mm_grad.h"
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
#define HALF(h) _cvtsh_ss(h)
#define TO_HALF(f) _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)
#define NANMAX(a, b) _mm512_mask_mov_ps(_mm512_max_ps(b, a), _mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q), b)
#define DIV(a, b) _mm512_div_ps(a, b)
#define SQRT(a) _mm512_sqrt_ps(a)
#define NEGABS(a) _mm512_or_ps(_mm512_set1_ps(-0.0f), a)
#define IFNEG(s, a, b) _mm512_mask_mov_ps(b, _mm512_movepi32_mask(_mm512_castps_si512(s)), a)
#define IFNOT0(t, v) _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_NEQ_UQ), v)
#define STEP(v) _mm512_mask_mov_ps(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ), _mm512_set1_ps(1)), \
                                   _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v)
#define ERF(v) erf_avx512(v)
#define EXPNEG(v) exp_neg_avx512(v)
#define ACT(v, a) act_avx512(v, a)
#define HIDE(v, n) _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), TAIL(n), v)
#define TO_F16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))
#define TO_I8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)))

static inline double SUMSQ(__m512 v)
{
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    return _mm512_reduce_add_pd(_mm512_fmadd_pd(a, a, _mm512_mul_pd(b, b)));
}

/* the float below a half is added, so that 0.49999997 does not become 1 */
static inline __m512 ROUND(__m512 v)
{
    __m512 h = _mm512_or_ps(_mm512_set1_ps(0x1.fffffep-2f), _mm512_and_ps(_mm512_set1_ps(-0.0f), v));
    return _mm512_roundscale_ps(_mm512_add_ps(v, h), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

static inline void TO_BF16(char *p, __m512 v)
{
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), u, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

#include "kernels/vec_tmpl.h"
#include "kernels/grad_tmpl.h"

void mmk_fill_avx512(mm_kern *k)
{
    fill_vec(k);
    fill_grad(k);
    k->gemm[MMK_FMT_F32] = &mmk_gemm_f32_avx512;
    k->matmul = &mmk_gemm_f32_avx512;
    k->gemm[MMK_FMT_F16] = &mmk_gemm_f16_avx512;
    k->gemm[MMK_FMT_BF16] = &mmk_gemm_bf16_avx512;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_avx512;
    k->attn = &mmk_attn_avx512;
    k->attn_grad = &mmk_attn_grad_avx512;
    k->scan = &mmk_scan_avx512;
}

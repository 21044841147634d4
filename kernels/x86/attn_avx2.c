#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels/attn_int.h"
#include "kernels/mm_kv.h"
#include "kernels/x86/vec_avx2.h"

#define MR 6
#define V __m256
#define W 8
#define ZERO() _mm256_setzero_ps()
#define SET1(x) _mm256_set1_ps(x)
#define LOAD(p) _mm256_loadu_ps(p)
#define LOADA(p) _mm256_load_ps(p)
#define LOADH(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p))) /* float16 */
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define STOREA(p, v) _mm256_store_ps(p, v)
#define LOADN(p, n) _mm256_maskload_ps(p, tail_avx2(n))
#define STOREN(p, v, n) _mm256_maskstore_ps(p, tail_avx2(n), v)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define EXPNEG(v) exp_neg_avx2(v)
/* -Inf from lane n on */
#define HIDE(v, n) ((n) >= W ? (v) : _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), v, _mm256_castsi256_ps(tail_avx2(n))))

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

#define TRANSPOSE(t) transpose8(t)
#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)

#include "kernels/attn_tmpl.h"
#include "kernels/kv_tmpl.h"

const mmk_attn_ops mmk_attn_avx2 = { scratch, head, kv_scratch, kv_head, MR };
const mmk_attn_grad_ops mmk_attn_grad_avx2 = { scratch_grad, head_grad };

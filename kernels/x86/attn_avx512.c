#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels/attn_int.h"
#include "kernels/mm_kv.h"
#include "kernels/x86/vec_avx512.h"

#define MR 8
#define V __m512
#define W 16
#define TAIL(n) ((__mmask16)((1u << (n)) - 1)) /* n <= 16 */
#define ZERO() _mm512_setzero_ps()
#define SET1(x) _mm512_set1_ps(x)
#define LOAD(p) _mm512_loadu_ps(p)
#define LOADA(p) _mm512_load_ps(p)
#define LOADH(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p))) /* float16 */
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define STOREA(p, v) _mm512_store_ps(p, v)
#define LOADN(p, n) _mm512_maskz_loadu_ps(TAIL(n), p)
#define STOREN(p, v, n) _mm512_mask_storeu_ps(p, TAIL(n), v)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define MAX(a, b) _mm512_max_ps(a, b)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define HMAX(v) _mm512_reduce_max_ps(v)
#define HSUM(v) _mm512_reduce_add_ps(v)
#define EXPNEG(v) exp_neg_avx512(v)
/* -Inf from lane n on */
#define HIDE(v, n) ((n) >= W ? (v) : _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), TAIL(n), v))

#define TRANSPOSE(t) transpose16(t)
#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

#include "kernels/attn_tmpl.h"
#include "kernels/kv_tmpl.h"

const mmk_attn_ops mmk_attn_avx512 = { scratch, head, kv_scratch, kv_head, MR };
const mmk_attn_grad_ops mmk_attn_grad_avx512 = { scratch_grad, head_grad };

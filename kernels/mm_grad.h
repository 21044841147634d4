/* mm_grad.h - what training needs beside mm_gemm.h: products of two activations in any orientation, gradients of attention,
 * the optimizer's step. Gradients of rows and elements are in the table (mm_kern.h).
 *
 *   forward    y[m, n]   = act(x[m, k] W[n, k]^T + bias)
 *     mmk_matmul(kern, y, n, m, n, k, x, k, 0, w, k, 1, bias, NULL, 0, act, threads);
 *   backward   dx[m, k] += dz[m, n] W[n, k]
 *     mmk_matmul(kern, dx, k, m, k, n, dz, n, 0, w, k, 0, NULL, dx, k, MMK_ACT_NONE, threads);
 *   and        dW[n, k] += dz[m, n]^T x[m, k]
 *     mmk_matmul(kern, dw, k, n, k, m, dz, n, 1, x, k, 0, NULL, dw, k, MMK_ACT_NONE, threads);
 *
 * All matrices are row-major; a leading dimension (ldx) counts floats from one row to the next. Everything is float32,
 * accumulated in float32 (in double at level ref, between roundings to float32 that the contract below allows).
 * Determinism: the bits of a result depend on the level and on the sizes of the problem, never on `threads`.
 * Threads: every function may be called from several threads at once; `threads` is the most that OpenMP may use. */
#ifndef MM_GRAD_H
#define MM_GRAD_H

#include <stddef.h>
#include "kernels/mm_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c[m, n] = act(op(A) op(B) + bias) + residual.
 * ta = 0: a is [m, k] and op(A) = A; ta = 1: a is [k, m] and op(A) = A^T. tb = 0: b is [k, n]; tb = 1: b is [n, k] (a weight
 * as mmk_pack takes it), op(B) = B^T. bias [n] or NULL. residual [m, n] with leading dimension ldr, or NULL; it may be c
 * itself (with ldr == ldc), which accumulates; otherwise c overlaps no input. k = 0 gives act(bias) + residual.
 * Both operands are packed on the fly; nothing is kept. Sums over K are taken in blocks of fixed length, each one chain of
 * multiply-adds, the blocks added in order; the bits of an element do not depend on m, n or the other elements.
 * |error| <= (k + 2) 2^-24 sum |a| |b| before act. NaN and infinities as in mm_gemm.h; other rows and columns are not touched
 * by them.
 * Returns MMK_OK, or MMK_ENOMEM when the scratch cannot be had; c is then undefined. */
int mmk_matmul(const struct mm_kern *kern, float *c, size_t ldc, size_t m, size_t n, size_t k, const float *a, size_t lda,
               int ta, const float *b, size_t ldb, int tb, const float *bias, const float *residual, size_t ldr,
               mmk_act act, int threads);

/* Gradients of mmk_attention. dout: gradient of its result; out: the result itself; q, k, v, off, ... as they were given to
 * it. dq, dk, dv (shaped and strided as q, k, v; they may be parts of one matrix) are written, not added to; with fewer
 * key heads than heads dk and dv are sums over the heads of a group, in order. They overlap no input.
 * dkey_bias: NULL, or [n_heads, off[nseq]], to which the gradient of key_bias is added (it may be asked for with key_bias
 * NULL: that of a bias of zero). The logits are computed again; scratch grows with the length of the longest sequence, not with its
 * square. A query without a visible key has gradients of zero.
 * A sequence's gradients depend on its own rows alone. Returns MMK_OK or MMK_ENOMEM. */
int mmk_attention_grad(const struct mm_kern *kern, float *dq, size_t lddq, float *dk, size_t lddk, float *dv, size_t lddv,
                       const float *dout, size_t lddo, const float *out, size_t ldo, const float *q, size_t ldq,
                       const float *k, size_t ldk, const float *v, size_t ldv, const size_t *off, size_t nseq,
                       size_t n_heads, size_t n_kv_heads, size_t head_dim, float scale, int causal,
                       const float *key_bias, float *dkey_bias, int threads);

/* One step of Adam with decoupled decay (mm_kern.adamw), for each element, with t steps done including this one:
 *   g' = gscale g;  m = beta1 m + (1 - beta1) g';  v = beta2 v + (1 - beta2) g'^2
 *   w  = w - lr (m / correction1 / (sqrt(v / correction2) + eps) + wd w) */
typedef struct mmk_adamw {
    float lr, beta1, beta2, eps, wd;
    float correction1, correction2; /* 1 - beta1^t, 1 - beta2^t; 1: none */
    float gscale;                   /* what clipping and averaging make of a gradient; 1: nothing */
} mmk_adamw;

#ifdef __cplusplus
}
#endif
#endif

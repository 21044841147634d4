/* mm_gemm.h - matrix products with weights packed once, and ragged attention.
 *
 *   size_t bytes = mmk_pack_size(kern, dtype, n, k);          0: this dtype or shape is not supported
 *   void *mem = aligned_alloc(64, bytes);
 *   mmk_rows src = { weights, n };
 *   const mmk_mat *w = mmk_pack(kern, mem, dtype, k, &src, 1, threads);
 *   mmk_gemm(y, n, x, k, m, w, bias, NULL, 0, MMK_ACT_GELU_ERF, threads);   y[m, n] = gelu(x[m, k] W^T + bias)
 *
 * All matrices are row-major; a leading dimension (ldx) counts floats from one row to the next.
 * Determinism: a row of the result has the same bits whatever m, its place among the rows, the threads and whether the
 * matrix was packed alone or with others: K is never split between threads, and the order of additions over K depends
 * on the level and the dtype only. Bits differ between levels (ref, avx2, avx512, amx, neon).
 * Threads: every function but mmk_settle() may be called from several threads at once; a matrix is immutable otherwise. `threads` is the
 * most that OpenMP may use; small products use fewer (measured thresholds in gemm.c).
 * Precision (u = error bound relative to sum |x||w|, k = terms): float32, float16 and bfloat16 weights are exact in
 * float32 and accumulated in float32 (u ~ k 2^-24) except at level amx, where products of bfloat16 halves give u ~ 2^-16
 * (f32, f16), 2^-17 (bf16); see x86/gemm_amx.c, also for denormals and q8_0. q8_0 elsewhere, q4_0 and q4_1 round each
 * 32-block of x to 8 bits (cosine to the float32 product > 0.9999 on normal data). Infinities and NaN in a row of x or W
 * give a non-finite result where IEEE arithmetic gives one (amx, q8_0: NaN where IEEE might give an infinity); other
 * rows and columns are not touched by them. */
#ifndef MM_GEMM_H
#define MM_GEMM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mm_kern;
typedef struct mmk_mat mmk_mat; /* packed W [n, k] */

enum { MMK_OK = 0, MMK_ENOMEM = -1 };

typedef enum mmk_act {
    MMK_ACT_NONE,
    MMK_ACT_GELU_ERF,   /* x/2 (1 + erf(x / sqrt 2)) */
    MMK_ACT_GELU_TANH,  /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    MMK_ACT_QUICK_GELU, /* x sigmoid(1.702 x) */
    MMK_ACT_SILU,       /* x sigmoid(x) */
    MMK_ACT_RELU        /* NaN stays NaN */
} mmk_act;

/* n rows of k elements one after the other, in the dtype of the matrix, at any alignment (f32, f16, bf16: little-endian
 * elements; q8_0, q4_0, q4_1: GGUF blocks of 34, 18, 20 bytes, float16 scale (q4_1: and minimum) and 32 numbers of 8 or 4 bits). */
typedef struct mmk_rows {
    const void *data;
    size_t n;
} mmk_rows;

/* Bytes that mmk_pack will use for W [n, k]; dtype is a GGUF type number: 0 f32, 1 f16, 30 bf16, 8 q8_0,
 * 2 q4_0, 3 q4_1. 0 if the dtype is another or has no product at this level, if k is no multiple of 32 for a block type, or
 * if the size overflows. n and k may be 0. */
size_t mmk_pack_size(const struct mm_kern *kern, int dtype, size_t n, size_t k);

/* Packs nsrc blocks of rows, stacked in order (q, k and v as one matrix), into mem: mmk_pack_size(sum of n) bytes, 64-byte
 * aligned, owned by the caller and kept while the matrix is used. The sources are not needed afterwards.
 * Returns the matrix (which is mem), or NULL where mmk_pack_size would return 0. */
const mmk_mat *mmk_pack(const struct mm_kern *kern, void *mem, int dtype, size_t k, const mmk_rows *src, size_t nsrc,
                        int threads);

/* The same matrix without its panels yet: a product packs what it is about to use, in scratch of its threads, every time. That takes as long as a
 * product of some ten rows, but no memory fresh from the system, which takes longer: nobody waits for it who needs a model once, for a picture
 * or a sentence. mem: mmk_view_size() bytes, aligned and kept as above. The sources, and the array src, are needed until
 * mmk_settle(), which packs them into mem of mmk_pack_size() bytes, 64-byte aligned and kept; no product may be under way then. It does so in
 * `parts` calls, part 0, 1, ..: that many even parts of the rows, in order, which are not read again if no product comes between. Bits are the same
 * before and after. */
size_t mmk_view_size(void);
mmk_mat *mmk_view(const struct mm_kern *kern, void *mem, int dtype, size_t k, const mmk_rows *src, size_t nsrc);
void mmk_settle(mmk_mat *w, void *mem, size_t part, size_t parts, int threads);

size_t mmk_mat_n(const mmk_mat *w); /* rows of W = columns of the result */
size_t mmk_mat_k(const mmk_mat *w); /* columns of W = columns of x */

/* c[m, n] = act(a[m, k] W^T + bias) + residual. bias [n] or NULL; residual [m, n] with leading dimension ldr, or NULL;
 * it may be c itself (with ldr == ldc); otherwise c overlaps no input. Returns MMK_OK, or MMK_ENOMEM when the scratch (about
 * 1 MiB per thread, and panels: one of 32 columns in float32, of a view six as they are packed; kept for the next call and
 * freed when the thread ends) cannot be had; c is then undefined. */
int mmk_gemm(float *c, size_t ldc, const float *a, size_t lda, size_t m, const mmk_mat *w, const float *bias,
             const float *residual, size_t ldr, mmk_act act, int threads);

/* Self-attention over ragged sequences: sequence s is rows off[s] .. off[s+1]-1 of q, k, v and out (off[nseq] rows in
 * all, off ascending), and attends to itself only. q and out: rows of n_heads * head_dim floats; k and v: rows of
 * n_kv_heads * head_dim; n_heads is a multiple of n_kv_heads, head h uses key head h / (n_heads / n_kv_heads).
 * out = softmax(scale q k^T + key_bias) v. causal: row i sees rows <= i of its sequence.
 * key_bias: NULL or [n_heads, off[nseq]] added to the logits of a (head, key); -INFINITY hides a key; a query with no
 * visible key gives zeros. q, k, v may be parts of one matrix (fused projection); out may not overlap them.
 * Float32 throughout; a row's bits depend on its sequence alone. Returns MMK_OK or MMK_ENOMEM. */
int mmk_attention(const struct mm_kern *kern, float *out, size_t ldo, const float *q, size_t ldq, const float *k,
                  size_t ldk, const float *v, size_t ldv, const size_t *off, size_t nseq, size_t n_heads,
                  size_t n_kv_heads, size_t head_dim, float scale, int causal, const float *key_bias, int threads);

#ifdef __cplusplus
}
#endif
#endif

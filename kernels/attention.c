/* attention.c - cuts ragged attention into heads of sequences and gives them to threads. A head is computed by one thread
 * from its own sequence only, so that nothing else can change its bits. */
#include "kernels/attn_int.h"
#include "kernels/mm_grad.h"
#include "kernels/mm_kern.h"
#include "kernels/scratch_int.h"
#ifdef _OPENMP
#include <omp.h>
#endif

/* A thread more pays from this much work on, as for products (gemm.c). */
#define FLOP_PER_THREAD 2e6

int mmk_attention(const struct mm_kern *kern, float *out, size_t ldo, const float *q, size_t ldq, const float *k,
                  size_t ldk, const float *v, size_t ldv, const size_t *off, size_t nseq, size_t n_heads,
                  size_t n_kv_heads, size_t head_dim, float scale, int causal, const float *key_bias, int threads)
{
    const mmk_attn_ops *ops = kern->attn;
    size_t longest = 0, rows = nseq ? off[nseq] : 0, group = n_kv_heads ? n_heads / n_kv_heads : 1;
    double flop = 0;
    int status = MMK_OK;
    for (size_t s = 0; s < nseq; s++) {
        size_t n = off[s + 1] - off[s];
        if (n > longest) longest = n;
        flop += 4.0 * (double)n * (double)n * (double)(head_dim * n_heads);
    }
    if (threads > 1 && flop / FLOP_PER_THREAD < threads) threads = (int)(flop / FLOP_PER_THREAD);
    if (threads < 1) threads = 1;
    size_t tasks = nseq * n_heads, bytes = ops->scratch(longest, head_dim);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
    for (size_t t = 0; t < tasks; t++) {
        size_t s = t / n_heads, h = t % n_heads, first = off[s], kh = h / group;
        void *mem = mmk_scratch(bytes);
        if (!mem) {
#pragma omp atomic write
            status = MMK_ENOMEM;
            continue;
        }
        const mmk_head head = { out + first * ldo + h * head_dim, q + first * ldq + h * head_dim,
                                k + first * ldk + kh * head_dim, v + first * ldv + kh * head_dim, ldo, ldq, ldk, ldv,
                                off[s + 1] - first, head_dim, scale, causal, key_bias ? key_bias + h * rows + first : NULL };
        ops->head(&head, mem);
    }
    return status;
}

int mmk_attention_grad(const struct mm_kern *kern, float *dq, size_t lddq, float *dk, size_t lddk, float *dv, size_t lddv,
                       const float *dout, size_t lddo, const float *out, size_t ldo, const float *q, size_t ldq,
                       const float *k, size_t ldk, const float *v, size_t ldv, const size_t *off, size_t nseq,
                       size_t n_heads, size_t n_kv_heads, size_t head_dim, float scale, int causal,
                       const float *key_bias, float *dkey_bias, int threads)
{
    const mmk_attn_grad_ops *ops = kern->attn_grad;
    size_t longest = 0, rows = nseq ? off[nseq] : 0, group = n_kv_heads ? n_heads / n_kv_heads : 1;
    double flop = 0;
    int status = MMK_OK;
    for (size_t s = 0; s < nseq; s++) {
        size_t n = off[s + 1] - off[s];
        if (n > longest) longest = n;
        flop += 10.0 * (double)n * (double)n * (double)(head_dim * n_heads);
    }
    if (threads > 1 && flop / FLOP_PER_THREAD < threads) threads = (int)(flop / FLOP_PER_THREAD);
    if (threads < 1) threads = 1;
    /* a task is a key head: the heads that share it add up in order */
    size_t tasks = nseq * n_kv_heads, bytes = ops->scratch(longest, head_dim);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
    for (size_t t = 0; t < tasks; t++) {
        size_t s = t / n_kv_heads, kh = t % n_kv_heads, first = off[s], kc = kh * head_dim;
        void *mem = mmk_scratch(bytes);
        if (!mem) {
#pragma omp atomic write
            status = MMK_ENOMEM;
            continue;
        }
        for (size_t h = kh * group; h < (kh + 1) * group; h++) {
            size_t qc = h * head_dim;
            const mmk_head_grad head = {
                dq + first * lddq + qc, dk + first * lddk + kc, dv + first * lddv + kc, dout + first * lddo + qc,
                out + first * ldo + qc, q + first * ldq + qc, k + first * ldk + kc, v + first * ldv + kc,
                lddq, lddk, lddv, lddo, ldo, ldq, ldk, ldv, off[s + 1] - first, head_dim, scale, causal,
                h > kh * group, key_bias ? key_bias + h * rows + first : NULL,
                dkey_bias ? dkey_bias + h * rows + first : NULL };
            ops->head(&head, mem);
        }
    }
    return status;
}

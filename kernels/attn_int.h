/* attn_int.h - what one instruction set provides for attention, and what attention.c makes of it. */
#ifndef MM_ATTN_INT_H
#define MM_ATTN_INT_H

#include <stdint.h>
#include "kernels/mm_gemm.h"

typedef struct mmk_head { /* one head of one sequence */
    float *out;
    const float *q, *k, *v; /* rows of head_dim floats */
    size_t ldo, ldq, ldk, ldv;
    size_t n, d;       /* tokens, head_dim */
    float scale;
    int causal;
    const float *bias; /* [n] added to the logits, or NULL */
} mmk_head;

/* The heads that share one key head, over keys and values as mm_kv.h lays them out. Row r is token r / group, head r % group; a token i sees
 * the keys below first + i + 1. */
typedef struct mmk_kv_head {
    float *out;
    const float *q;
    size_t ldo, ldq; /* from token to token; a head's d floats lie side by side */
    size_t rows, group, first, window, d;
    float scale;
    const void *keys, *values;
    int half; /* they are float16; else float32 */
} mmk_kv_head;

typedef struct mmk_attn_ops {
    size_t (*scratch)(size_t n, size_t d); /* bytes, 64-byte aligned */
    void (*head)(const mmk_head *h, void *scratch);
    size_t (*kv_scratch)(size_t keys, size_t d);
    void (*kv_head)(const mmk_kv_head *h, void *scratch);
    size_t kv_rows; /* rows that share one pass over keys and values */
} mmk_attn_ops;

typedef struct mmk_head_grad { /* gradients of one head of one sequence */
    float *dq, *dk, *dv; /* written; dk and dv added to where `add` */
    const float *dout, *out, *q, *k, *v;
    size_t lddq, lddk, lddv, lddo, ldo, ldq, ldk, ldv;
    size_t n, d;
    float scale;
    int causal, add;
    const float *bias; /* [n] or NULL */
    float *dbias;      /* [n] added to, or NULL */
} mmk_head_grad;

typedef struct mmk_attn_grad_ops {
    size_t (*scratch)(size_t n, size_t d); /* bytes, 64-byte aligned */
    void (*head)(const mmk_head_grad *h, void *scratch);
} mmk_attn_grad_ops;

extern const mmk_attn_grad_ops mmk_attn_grad_ref, mmk_attn_grad_avx2, mmk_attn_grad_avx512, mmk_attn_grad_neon;
extern const mmk_attn_ops mmk_attn_ref, mmk_attn_avx2, mmk_attn_avx512, mmk_attn_neon;

#endif

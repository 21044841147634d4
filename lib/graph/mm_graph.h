/* mm_graph.h - tensors and operations on them. Define by run: an operation computes at once.
 *
 *   mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 2 };
 *   mm_tensor h = mm_op_linear(&g, x, &up, MMK_ACT_GELU_ERF, NULL, NULL);
 *   mm_tensor y = mm_op_linear(&g, h, &down, MMK_ACT_NONE, &x, NULL);
 *   if (g.failed) return MM_ENOMEM;
 *
 * Activations are float32 [rows, cols], rows contiguous, in the caller's arena; they live until the arena is reset or
 * rewound. An operation that fails (out of memory) gives a tensor whose p is NULL and sets g->failed for good; every
 * operation accepts such a tensor and hands the failure on, so that a chain is checked once, at its end.
 * `into` names a tensor that the caller does not need any more (it may be an input where that is said): the result takes
 * its memory, if the shape fits. NULL: fresh memory from the arena.
 * A graph belongs to one thread; several graphs may run at once. A row's result never depends on the other rows of the
 * batch, except through attention within its own sequence, nor on the number of threads. */
#ifndef MM_GRAPH_H
#define MM_GRAPH_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_dtype.h"
#include "base/mm_mem.h"
#include "kernels/mm_gemm.h"
#include "kernels/mm_kern.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_graph {
    const mm_kern *kern;
    mm_arena *arena;
    int threads; /* the most that one operation may use */
    int failed;
} mm_graph;

typedef struct mm_tensor {
    float *p;
    size_t rows, cols;
} mm_tensor;

/* A linear layer: w packed once [n, k], bias [n] or NULL. Owned by the model. */
typedef struct mm_linear {
    const mmk_mat *w;
    const float *bias;
} mm_linear;

/* Layer norm: gain and bias [cols]; y = (x - mean) / sqrt(var + eps) * gain + bias. */
typedef struct mm_norm {
    const float *gain, *bias;
} mm_norm;

/* Sequences laid end to end without padding: sequence s is rows off[s] .. off[s+1]-1. */
typedef struct mm_ragged {
    const size_t *off; /* [n + 1], off[0] = 0 */
    size_t n;
} mm_ragged;

typedef struct mm_attention {
    size_t heads, kv_heads, head_dim;
    float scale;  /* of the dot products, usually 1/sqrt(head_dim) */
    int causal;
} mm_attention;

/* EOS: the row of the end-of-text token; MAP: attention of a learned query. Both are the caller's, who knows the tokens and
 * the weights; mm_op_pool() takes the first four. */
typedef enum { MM_POOL_MEAN, MM_POOL_CLS, MM_POOL_LAST, MM_POOL_MAX, MM_POOL_EOS, MM_POOL_MAP } mm_pool;

/* How [frames, channels, height, width] is cut into patches. */
typedef struct mm_patch_shape {
    size_t frames, channels, height, width;
    size_t t, h, w;           /* a patch; frames is a multiple of t */
    size_t step_h, step_w;    /* from one patch to the next */
} mm_patch_shape;

/* Uninitialised [rows, cols]. */
MM_API mm_tensor mm_op_new(mm_graph *g, size_t rows, size_t cols);
/* act(x W^T + bias) + residual; residual may be NULL, else [x.rows, n]. into may be the residual, not x. */
MM_API mm_tensor mm_op_linear(mm_graph *g, mm_tensor x, const mm_linear *l, mmk_act act, const mm_tensor *residual,
                              const mm_tensor *into);
/* into may be x. */
MM_API mm_tensor mm_op_layer_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into);
/* qkv [rows, (heads + 2 kv_heads) * head_dim]: q, k and v side by side. Result [rows, heads * head_dim]. */
MM_API mm_tensor mm_op_attention(mm_graph *g, mm_tensor qkv, const mm_attention *a, const mm_ragged *r);
/* Rows ids[0..n) of a table [table_rows, cols] stored as f32, f16, bf16 or q8_0. Ids are below table_rows (checked by the
 * caller: they come from files). */
MM_API mm_tensor mm_op_gather(mm_graph *g, const void *table, int dtype, size_t cols, const int32_t *ids, size_t n);
/* x[i] += table[idx[i]], table float32 [table_rows, x.cols]; indices are in range. Changes x and returns it. */
MM_API mm_tensor mm_op_add_rows(mm_graph *g, mm_tensor x, const float *table, const int32_t *idx);
/* One row per patch of x, [channels, t, h, w] flattened as a convolution's weights are: groups of t frames, then rows, then columns
 * of patches. Pixels right of and below the last whole patch are not used. */
MM_API mm_tensor mm_op_patches(mm_graph *g, const float *x, const mm_patch_shape *s);
/* Rows idx[0..n) of x; indices are in range. */
MM_API mm_tensor mm_op_rows(mm_graph *g, mm_tensor x, const size_t *idx, size_t n);
/* For every sequence what a query [heads * head_dim] sees: softmax(scale q k^T) v. kv [rows, 2 heads * head_dim]: k and v side by side.
 * Result [r->n, heads * head_dim]; empty sequences give zeros. */
MM_API mm_tensor mm_op_query(mm_graph *g, const float *query, mm_tensor kv, const mm_attention *a, const mm_ragged *r);
/* One row per sequence. Empty sequences give zeros. */
MM_API mm_tensor mm_op_pool(mm_graph *g, mm_tensor x, const mm_ragged *r, mm_pool how);
/* Every row scaled to length 1; a zero row stays zero. Changes x and returns it. */
MM_API mm_tensor mm_op_normalize(mm_graph *g, mm_tensor x);

#ifdef __cplusplus
}
#endif
#endif

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
 * batch, except through attention within its own sequence, nor on the number of threads.
 *
 * With a tape (mm_tape.h) the same operations also record what their gradients need: weights are then mm_param instead of packed
 * matrices, `into` is not taken, nothing that was recorded is overwritten but by mm_op_rotary() and mm_op_add_rows(): what they change
 * must be what an operation gave that does not need its result again (mm_op_linear() without activation, mm_op_layer_norm()), and
 * weights must not have been applied to it yet. What has no gradient sets g->failed where one would be needed: mm_op_query(), a packed
 * matrix. Without a tape none of that costs anything. */
#ifndef MM_GRAPH_H
#define MM_GRAPH_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_dtype.h"
#include "base/mm_mem.h"
#include "kernels/mm_gemm.h"
#include "kernels/mm_kern.h"
#include "kernels/mm_kv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_tape mm_tape;
typedef struct mm_var mm_var; /* where a tensor's gradient is collected */

typedef struct mm_graph {
    const mm_kern *kern;
    mm_arena *arena;
    int threads; /* the most that one operation may use */
    int failed;
    mm_tape *tape; /* NULL: nothing is recorded */
} mm_graph;

typedef struct mm_tensor {
    float *p;
    size_t rows, cols;
    mm_var *var; /* NULL: no gradient flows through it */
} mm_tensor;

/* Numbers of the caller's as a tensor; operations that change their input must not get it. */
static inline mm_tensor mm_tensor_of(const float *p, size_t rows, size_t cols)
{
    return (mm_tensor){ (float *)(uintptr_t)p, rows, cols, NULL };
}

/* A weight that may be trained, in float32. grad: what is added up, NULL: frozen. */
typedef struct mm_param {
    float *w, *grad;    /* [rows, cols] */
    size_t rows, cols;  /* a vector has one row */
} mm_param;

/* A linear layer, [n, k]: packed once, or (w NULL) a parameter. Bias [n] or NULL; with pb, bias is pb->w. Owned by the model. */
typedef struct mm_linear {
    const mmk_mat *w;
    const float *bias;
    mm_param *pw, *pb;
} mm_linear;

/* Layer norm: gain and bias [cols]; y = (x - mean) / sqrt(var + eps) * gain + bias. The parameters as in mm_linear. */
typedef struct mm_norm {
    const float *gain, *bias;
    mm_param *pgain, *pbias;
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

/* Rows cut into runs, each with weights of its own: run r is rows runs->off[r] .. off[r+1]-1. */
MM_API mm_tensor mm_op_linear_runs(mm_graph *g, mm_tensor x, const mm_linear *const *l, const mm_ragged *runs, mmk_act act,
                                   const mm_tensor *residual, const mm_tensor *into);
MM_API mm_tensor mm_op_norm_runs(mm_graph *g, mm_tensor x, const mm_norm *const *w, const mm_ragged *runs, float eps,
                                 const mm_tensor *into);
/* x + gamma * y, gamma [cols] of the row's run. into may be x. */
MM_API mm_tensor mm_op_add_scaled_runs(mm_graph *g, mm_tensor x, mm_tensor y, mm_param *const *gamma, const mm_ragged *runs,
                                       const mm_tensor *into);

/* Uninitialised [rows, cols]. */
MM_API mm_tensor mm_op_new(mm_graph *g, size_t rows, size_t cols);
/* act(x W^T + bias) + residual; residual may be NULL, else [x.rows, n]. into may be the residual, not x. */
MM_API mm_tensor mm_op_linear(mm_graph *g, mm_tensor x, const mm_linear *l, mmk_act act, const mm_tensor *residual,
                              const mm_tensor *into);
/* into may be x. */
MM_API mm_tensor mm_op_layer_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into);
/* qkv [rows, (heads + 2 kv_heads) * head_dim]: q, k and v side by side. Result [rows, heads * head_dim]. key_bias [heads, rows]: added
 * to the logits of a (head, key), or NULL. */
MM_API mm_tensor mm_op_attention(mm_graph *g, mm_tensor qkv, const mm_attention *a, const mm_ragged *r, const mm_tensor *key_bias);
/* Rotates the pairs (i, i + head_dim/2) of each of the first `heads` heads of a row by the row's angles: cos, sin [rows, head_dim/2], the
 * caller's, kept while the tape is. Changes x and returns it. */
MM_API mm_tensor mm_op_rotary(mm_graph *g, mm_tensor x, const float *cos, const float *sin, size_t heads, size_t head_dim);
/* Rows ids[0..n) of a table [table_rows, cols] stored as f32, f16, bf16 or q8_0. Ids are below table_rows (checked by the
 * caller: they come from files). mm_op_lookup: of a parameter. */
MM_API mm_tensor mm_op_lookup(mm_graph *g, mm_param *table, const int32_t *ids, size_t n);
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
/* Attention pooling without projections: for every sequence and each of `heads` parts of the columns, softmax(x q) x over its rows; a
 * query of zeros gives the mean. query [1, cols]. */
MM_API mm_tensor mm_op_attend(mm_graph *g, mm_tensor x, mm_tensor query, size_t heads, const mm_ragged *r);
/* Every row scaled to length 1; a zero row stays zero. Changes x (not where there is a tape) and returns it. */
MM_API mm_tensor mm_op_normalize(mm_graph *g, mm_tensor x);
/* A parameter as a tensor. */
MM_API mm_tensor mm_op_param(mm_graph *g, mm_param *p);
/* The same numbers as [rows, cols]: a view, not a copy. */
MM_API mm_tensor mm_op_reshape(mm_graph *g, mm_tensor x, size_t rows, size_t cols);
/* x * a + b for every row, a and b [1, cols]; b may be NULL. */
MM_API mm_tensor mm_op_affine(mm_graph *g, mm_tensor x, mm_tensor a, const mm_tensor *b);
/* 1 / (1 + exp(-x)) */
MM_API mm_tensor mm_op_sigmoid(mm_graph *g, mm_tensor x);
/* The rows of several tensors of the same width, one below the other. */
MM_API mm_tensor mm_op_concat(mm_graph *g, const mm_tensor *x, size_t n);
/* The columns of several tensors of as many rows, side by side. */
MM_API mm_tensor mm_op_beside(mm_graph *g, const mm_tensor *x, size_t n);
/* a [n, 1] times b [1, m]. */
MM_API mm_tensor mm_op_outer(mm_graph *g, mm_tensor a, mm_tensor b);
/* x [rows, 1]: within every run x - log sum exp x. */
MM_API mm_tensor mm_op_log_softmax_runs(mm_graph *g, mm_tensor x, const mm_ragged *r);
/* For every run the sum of exp(w) x over its rows, w [rows, 1]; an empty run gives zeros. */
MM_API mm_tensor mm_op_mix_runs(mm_graph *g, mm_tensor x, mm_tensor w, const mm_ragged *r);
/* sum w[i] x[i], all of one shape. */
MM_API mm_tensor mm_op_sum(mm_graph *g, const mm_tensor *x, const float *w, size_t n);

/* ---- decoders ---- */
/* y = x / sqrt(mean x^2 + eps) * gain; into may be x. */
MM_API mm_tensor mm_op_rms_norm(mm_graph *g, mm_tensor x, const mm_norm *w, float eps, const mm_tensor *into);
/* The same for each of `heads` parts of head_dim columns, from column `at` on. Changes x (not where there is a tape) and returns it. */
MM_API mm_tensor mm_op_norm_heads(mm_graph *g, mm_tensor x, size_t at, size_t heads, size_t head_dim, const mm_norm *w, float eps);
/* act(x[:, :n]) * x[:, n:], n = x.cols / 2. Changes x (not where there is a tape). */
MM_API mm_tensor mm_op_gate(mm_graph *g, mm_tensor x, mmk_act act);
/* Some rows of a tensor that go on from `first` tokens of their sequence; its keys and values (mm_kv.h), with room for `tokens`. */
typedef struct mm_kept {
    size_t rows, first, tokens;
    char *keys, *values;
} mm_kept;
/* qkv as mm_op_attention() has it; the rows of kept[0], then those of kept[1] ...: k and v are stored, and every row sees what is kept of
 * its sequence up to itself. No gradient: the graph fails where one would be needed. */
MM_API mm_tensor mm_op_attention_kept(mm_graph *g, mm_tensor qkv, const mmk_kv_shape *s, const mm_kept *kept, size_t n);

/* A place in the graph's memory, and back to it: all tensors made since are forgotten. Nothing happens where a tape records. */
static inline mm_arena_mark mm_graph_here(const mm_graph *g) { return mm_arena_here(g->arena); }
static inline void mm_graph_back(mm_graph *g, mm_arena_mark m)
{
    if (!g->tape) mm_arena_back(g->arena, m);
}

#ifdef __cplusplus
}
#endif
#endif

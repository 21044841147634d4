/* mm_tape.h - reverse-mode gradients.
 *
 *   mm_tape *tape = mm_tape_new(MM_KEEP_F32);
 *   mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 2, .tape = tape };
 *   mm_tensor y = ...operations...;                 computed at once, and recorded
 *   mm_tape_seed(&g, mm_op_softmax_ce(&g, y, target), 1);
 *   mm_tape_backward(&g);                           gradients are added to the parameters' grad
 *   mm_tape_reset(tape);  mm_arena_reset(&arena);   before the next step
 *
 * Gradients are exact for the function as computed in float32 (tests/unit/test_grad64 checks every operation and a whole model in
 * float64 against finite differences). What a parameter's grad gets does not depend on the number of threads. A graph that failed
 * (out of memory) leaves the grads undefined: mm_tape_backward() returns MM_ENOMEM.
 *
 * Memory: tensors live in the graph's arena, gradients of tensors in a pool of the tape's, each given back as soon as it has been
 * used. A segment (usually a block) can be kept in 16 bits while it waits for its gradients, see mm_tape_segment(). */
#ifndef MM_TAPE_H
#define MM_TAPE_H

#include "graph/mm_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How tensors wait for the backward pass. Computation is in float32 in any case. */
typedef enum { MM_KEEP_F32, MM_KEEP_BF16, MM_KEEP_F16 } mm_keep;

MM_API mm_tape *mm_tape_new(mm_keep keep); /* NULL: out of memory */
MM_API void mm_tape_free(mm_tape **t);
/* Forget what is recorded; the pool of gradients is kept for the next step. */
MM_API void mm_tape_reset(mm_tape *t);
/* A root: x's gradient is w for every element. */
MM_API void mm_tape_seed(mm_graph *g, mm_tensor x, float w);
/* The same with a gradient for each element: d [x.rows, x.cols], copied. For a graph cut in two. */
MM_API void mm_tape_seed_grad(mm_graph *g, mm_tensor x, const float *d);
/* 0 or MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_tape_backward(mm_graph *g);
/* A tensor of the caller's data whose gradient is wanted: after mm_tape_backward() mm_tape_grad() gives it (NULL: none flowed), until
 * the tape is reset. */
MM_API mm_tensor mm_tape_input(mm_graph *g, float *p, size_t rows, size_t cols);
MM_API const float *mm_tape_grad(mm_tensor x);

/* A segment: everything recorded since `from` of which only y is used later. Tensors made since are rounded to 16 bits
 * (MM_KEEP_F32: nothing happens) and their float memory is used again; the backward pass widens them when it comes there. Returns y
 * in its new place. Other things that the caller took from the graph's arena since are lost. Without a tape: back to `from`, y kept. */
typedef struct mm_tape_mark {
    mm_arena_mark arena;
    void *node, *tensor;
} mm_tape_mark;
MM_API mm_tape_mark mm_tape_here(const mm_graph *g);
MM_API mm_tensor mm_tape_segment(mm_graph *g, mm_tape_mark from, mm_tensor y);
/* Largest number of bytes that tensors, kept halves and gradients have taken together since the tape was made. */
MM_API size_t mm_tape_peak(const mm_tape *t);

/* ---- losses: a [1, 1] tensor, the mean over rows (0 where there is none). Targets and weights are the caller's, kept while the tape is ---- */
/* -sum target log softmax(logits); target [rows, n]. */
MM_API mm_tensor mm_op_softmax_ce(mm_graph *g, mm_tensor logits, const float *target);
/* The same with one class per row; a negative class is no target. */
MM_API mm_tensor mm_op_class_ce(mm_graph *g, mm_tensor logits, const int32_t *cls);
/* Each element on its own: log(1 + exp(-sign logits)) summed over the columns, sign +1 where the target is > 0.5 else -1
 * (SigLIP, arXiv 2303.15343). */
MM_API mm_tensor mm_op_sigmoid_ce(mm_graph *g, mm_tensor logits, const float *target);
/* 1 - cos of the first `cols` columns of x and of target [rows, ld]. */
MM_API mm_tensor mm_op_cos_loss(mm_graph *g, mm_tensor x, const float *target, size_t ld, size_t cols);
/* Squared error, mean over the columns too; w [rows] or NULL. */
MM_API mm_tensor mm_op_mse(mm_graph *g, mm_tensor x, const float *target, const float *w);
/* exp(min(log_scale, log 100)) a b^T + bias; log_scale [1, 1], bias [1, 1] or NULL. a [n, d], b [m, d]. */
MM_API mm_tensor mm_op_similarity(mm_graph *g, mm_tensor a, mm_tensor b, mm_tensor log_scale, const mm_tensor *bias);
MM_API mm_tensor mm_op_transpose(mm_graph *g, mm_tensor x);

#ifdef __cplusplus
}
#endif
#endif

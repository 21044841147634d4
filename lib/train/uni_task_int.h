/* uni_task_int.h - what the files of the unified model's training step share: its state, and how losses come together. */
#ifndef MM_UNI_TASK_INT_H
#define MM_UNI_TASK_INT_H

#include "train/captions.h"
#include "train/mm_uni_task.h"

typedef struct {
    mm_captions c;
    float *vec; /* [c.n, out] the teacher's; NULL: there is none */
} bank;

struct mm_uni_task {
    mm_uni_task_opts o;
    size_t out;
    mm_batch_opts bo;
    mm_batches *batches;
    bank banks[MM_MODALITIES];
    mm_id_lists pair_ids, caption_ids[MM_MODALITIES];
    uint32_t *pair_target; /* row of `targets` */
    float *targets;        /* [n_targets, out] of the pairs */
    double *sum;           /* [n_pairs + 1] weights so far; those kept out weigh nothing */
    mm_param scale[MM_MODALITIES], bias[MM_MODALITIES];
    float scale_w[MM_MODALITIES], bias_w[MM_MODALITIES];
    char names[2 * MM_MODALITIES][32];
    mm_arena arena, batch;
    mm_tape *tape;
};

typedef struct {
    mm_tensor t[8];
    float w[8];
    size_t n;
} losses;

void task_also(losses *l, mm_tensor t, float w);
/* Sum, backward, and the arena is free again. */
int task_finish(mm_uni_task *t, mm_graph *g, const losses *l, float factor, float *value, mm_err *err);
mm_graph task_graph(mm_uni_task *t, mm_tape *tape);

/* Vectors [n, out] of examples' media as they are. */
int task_embed_examples(mm_uni_task *t, mm_modality m, const uint32_t *e, size_t n, float *vec, mm_err *err);

/* uni_fused.c: records of several parts, one of them often worse than it was. loss: NULL where others are the main thing, and a quarter of the batch
 * is enough. */
int task_step_fused(mm_uni_task *t, const mm_batch *b, float scale, float loss[MM_MODALITIES], mm_err *err);

#endif

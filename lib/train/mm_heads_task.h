/* mm_heads_task.h - what the heads of the unified model (mm_uni_heads.h) are trained to do in one step.
 *
 * next-token: pictures, sounds, clips are seen, and a caption of theirs is written; texts are seen, and their English is written. Cross entropy
 * for each token, <|end|> too.
 * flow: a caption is seen (one time in ten nothing, so that guidance has something to leave: arXiv 2207.12598), a picture with noise at a random
 * time t is cleaned; squared error of the velocity it means, times by a logistic-normal law (arXiv 2403.03206).
 * align: 1 - cosine of the caption's vector and that of the cleaned picture, both by the model's own encoders.
 * Everything about a step is a function of (seed, step). */
#ifndef MM_HEADS_TASK_H
#define MM_HEADS_TASK_H

#include "model/mm_uni_heads.h"
#include "train/mm_batch.h"
#include "train/mm_text_start.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MM_HEADS_NEXT, MM_HEADS_FLOW, MM_HEADS_ALIGN, MM_HEADS_LOSSES };

typedef struct mm_heads_task_opts { /* everything is borrowed, for the life of the task */
    mm_uni *model;
    const mm_tok *tok;
    const mm_dataset *data;     /* loaded */
    const mm_batch_opts *batch; /* counts, augmentation, sizes; want and arg are the task's */
    const mm_text_pair *pairs;  /* texts to be put into English; 0: none */
    size_t n_pairs;
    int texts;                  /* of them in one step */
    float weight[MM_HEADS_LOSSES];
    mm_keep keep;
    int threads;
    uint64_t seed;
} mm_heads_task_opts;

typedef struct mm_heads_task mm_heads_task;

/* MM_EEMPTY: nothing in the data for the losses that have a weight. */
MM_API MM_MUST_CHECK int mm_heads_task_open(mm_heads_task **out, const mm_heads_task_opts *o, mm_err *err);
MM_API void mm_heads_task_close(mm_heads_task **t);
/* Gradients of step `step` are added. loss: without their weights, NAN where there was nothing; samples: inputs that it saw. */
MM_API MM_MUST_CHECK int mm_heads_task_step(mm_heads_task *t, uint64_t step, float scale, float loss[MM_HEADS_LOSSES], size_t *samples, mm_err *err);
MM_API size_t mm_heads_task_peak(const mm_heads_task *t); /* bytes of tensors and gradients */
/* On split `val`, always the same examples, times and noise: 100 exp(-cross entropy of a token); share of the velocity that is explained, percent;
 * 100 cosine. NAN: no weight, or nothing there. */
MM_API MM_MUST_CHECK int mm_heads_task_validate(mm_heads_task *t, double score[MM_HEADS_LOSSES], mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* connector_task.h - inside lib/train: what a connector (model/mm_connector.h) is trained to do in one step.
 *
 * The unified model sees a picture, sound or clip, the connector makes rows of it, and the decoder behind them writes a caption: cross entropy of each
 * token, its end too. One time in eight the rows stand in a turn of the decoder's chat template that asks what is seen, else alone: that is how
 * mm-generate puts them. Both models rest. Everything about a step is a function of (seed, step). */
#ifndef MM_CONNECTOR_TASK_H
#define MM_CONNECTOR_TASK_H

#include "model/mm_connector.h"
#include "train/mm_batch.h"

typedef struct mm_connector_task_opts { /* everything is borrowed, for the life of the task */
    mm_connector *connector;
    const mm_model *uni;
    const mm_lm *lm;            /* opened as `plain` */
    const mm_dataset *data;     /* loaded */
    const mm_batch_opts *batch; /* counts, augmentation, sizes */
    mm_keep keep;
    int threads;
    uint64_t seed;
} mm_connector_task_opts;

typedef struct mm_connector_task mm_connector_task;

/* MM_EEMPTY: nothing in the data has a caption. */
int mm_connector_task_open(mm_connector_task **out, const mm_connector_task_opts *o, mm_err *err);
void mm_connector_task_close(mm_connector_task **t);
/* Inputs of a step, by modality. */
void mm_connector_task_counts(const mm_connector_task *t, size_t n[MM_MODALITIES]);
/* Gradients of step `step` are added; loss: the mean over the modalities. */
int mm_connector_task_step(mm_connector_task *t, uint64_t step, float scale, float *loss, size_t *samples, mm_err *err);
size_t mm_connector_task_peak(const mm_connector_task *t);
/* On split `val`, always the same examples: score[m] = 100 exp(-cross entropy of a token), NAN: there are none of this modality. */
int mm_connector_task_validate(mm_connector_task *t, double score[MM_MODALITIES], mm_err *err);

#endif

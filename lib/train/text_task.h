/* text_task.h - inside lib/train: what a text encoder is trained to do in one step.
 *
 * distil: the vector of a pair's text is drawn to the teacher's vector of its other side, and its likeness to the other targets of the batch
 * to theirs. infonce: both sides go through the model, and each is told from the other sides of the batch; equal ones are equally right.
 * A step is a function of (seed, step). */
#ifndef MM_TEXT_TASK_H
#define MM_TEXT_TASK_H

#include "model/mm_text_net.h"
#include "train/pairs.h"

enum { MM_TEXT_DISTIL, MM_TEXT_INFONCE, MM_TEXT_LOSSES };

typedef struct mm_text_task_opts { /* everything is borrowed, for the life of the task */
    mm_text_net *net;
    const mm_tok *tok;
    size_t window;            /* most tokens of a text */
    const mm_pairs *pairs;
    mm_teacher *teacher;      /* of `distil`, its vectors as wide as the net's */
    float weight[MM_TEXT_LOSSES]; /* 0: not at all */
    int texts;                /* pairs of one step */
    mm_keep keep;
    int threads;
    uint64_t seed;
    mm_train_progress *progress; /* of the teacher */
    void *arg;
} mm_text_task_opts;

typedef struct mm_text_task mm_text_task;
int mm_text_task_open(mm_text_task **out, const mm_text_task_opts *o, mm_err *err);
void mm_text_task_close(mm_text_task **t);
/* The logarithm of what cosines are multiplied by in `infonce`: a number that is trained, the task's own. */
mm_param *mm_text_task_scale(mm_text_task *t);
/* Gradients of step `step` are added; loss: NAN where there is none. scale: factor of all losses. */
int mm_text_task_step(mm_text_task *t, uint64_t step, float scale, float loss[MM_TEXT_LOSSES], mm_err *err);
/* With the weights as they are, over pairs that are kept out (1 in 100 by hash of the other side), in percent: mean cosine to the teacher;
 * how many of up to 1000 texts find their other side first. NAN: not of this task, or nothing is kept out. */
int mm_text_task_validate(mm_text_task *t, double score[MM_TEXT_LOSSES], mm_err *err);
size_t mm_text_task_peak(const mm_text_task *t); /* bytes of tensors and gradients */

#endif

/* mm_uni_task.h - what the unified model is trained to do in one step.
 *
 * Text: pairs (text, English text) are drawn by weight; the text's vector is drawn to the teacher's vector of the English side, whole and
 * in its leading parts (nested cuts), and the similarities within the batch to the teacher's.
 * Pictures, sounds, clips: their vector is compared with the vectors of all different captions of the training data (a bank); the target
 * is a softmax over the bank by the teacher's own likeness of captions, so that near synonyms share it, and the vector is drawn to its own
 * caption's. With a teacher the bank is the teacher's (locked text: nothing moves under the pictures' feet, and negatives cost
 * nothing); without one it is made of the model's own vectors as they are when the task is opened. Besides, captions can go through the
 * model's own text side and each other's captions be the negatives (infonce, or sigmoid: each pair on its own, arXiv 2303.15343).
 *
 * Everything about a step is a function of (seed, step): a run that is resumed is the run that was not stopped. */
#ifndef MM_UNI_TASK_H
#define MM_UNI_TASK_H

#include "model/mm_uni.h"
#include "train/mm_batch.h"
#include "train/mm_few.h"
#include "train/mm_text_start.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_uni_weights {
    float distil;  /* 1 - cos to the teacher's vector; texts also by nested cuts and likeness within the batch */
    float bank;    /* soft cross entropy over the teacher's bank */
    float infonce; /* softmax both ways against the captions of the batch, through the model's own text side */
    float sigmoid; /* the same pairs, each on its own */
    float fused;   /* pictures, sounds and clips together with a caption, as one record: 1 - cos to another caption's vector; parts are blurred,
                    * noisy, another's (mm_corrupt.h) or missing, and are measured as they are where the model is used */
} mm_uni_weights;

/* Sets of no more records of a modality are not validated with: to be among the ten nearest says nothing there. */
enum { MM_VALIDATE_LEAST = 10 };

typedef struct mm_uni_task_opts { /* everything is borrowed, for the life of the task */
    mm_uni *model;              /* its slots have w and grad when steps are taken */
    const mm_tok *tok;
    const mm_dataset *data;     /* loaded; NULL: texts only */
    const mm_batch_opts *batch; /* counts, augmentation, sizes; want, text_len and arg are the task's */
    const mm_text_pair *pairs;  /* texts to be trained on; without a teacher: to stay where they are. 0: none */
    size_t n_pairs;
    int texts;                  /* of them in one step */
    mm_teacher *teacher;        /* NULL: the model itself, whose weights must be there then */
    const mm_pca *pca;          /* turns its vectors; NULL with a teacher: as they are */
    mm_uni_weights weight;
    float part[MM_MODALITIES];  /* of each modality's loss in the sum */
    float soft;                 /* temperature of the bank's targets, 0.07; 0: the caption alone is right */
    mm_keep keep;
    int threads;
    uint64_t seed;
    mm_train_progress *progress; /* of the teacher */
    void *arg;
} mm_uni_task_opts;
#define MM_UNI_TASK_OPTS_INIT \
    { .texts = 64, .weight = { .distil = 1, .bank = 1 }, .part = { 1, 1, 1, 1 }, .soft = 0.07f, .threads = 1 }

typedef struct mm_uni_task mm_uni_task;

MM_API MM_MUST_CHECK int mm_uni_task_open(mm_uni_task **out, const mm_uni_task_opts *o, mm_err *err);
MM_API void mm_uni_task_close(mm_uni_task **t);
/* From the next step on. What needs captions as tokens or a teacher's bank must have been asked for at opening. */
MM_API void mm_uni_task_weigh(mm_uni_task *t, const mm_uni_weights *w);

/* Trained numbers that are the task's and not the model's: logit scales and biases, by name. Between open and the first step the caller
 * gives them grad (w has its starting value). */
MM_API size_t mm_uni_task_params(const mm_uni_task *t);
MM_API mm_param *mm_uni_task_param(mm_uni_task *t, size_t i, const char **name);

/* Gradients of step `step` are added. loss[m]: of each modality, NAN where it had nothing. scale: factor of all losses (loss scaling). */
MM_API MM_MUST_CHECK int mm_uni_task_step(mm_uni_task *t, uint64_t step, float scale, float loss[MM_MODALITIES], mm_err *err);
/* The inputs of one modality in a batch, as the model takes them, in memory of the arena and the batch. MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_uni_batch_in(const mm_uni *u, const mm_batch *b, mm_modality m, mm_arena *a, mm_uni_in *in);
/* Inputs that a step sees: of each modality. */
MM_API void mm_uni_task_counts(const mm_uni_task *t, size_t n[MM_MODALITIES]);
MM_API size_t mm_uni_task_peak(const mm_uni_task *t); /* bytes of tensors and gradients */

/* Prototypes of one modality's examples in split train, towards the vectors of their captions as they were at opening (the first caption of each).
 * f->n is 0 where there is none. f is the caller's (mm_few_clear). */
MM_API MM_MUST_CHECK int mm_uni_task_few(mm_uni_task *t, mm_modality m, double share, mm_few *f, mm_err *err);

/* A model like u with prototypes in place of any that it has; its weights are those of u and few, and live as long. */
MM_API MM_MUST_CHECK int mm_uni_with_few(mm_uni **out, mm_uni *u, const mm_few few[MM_MODALITIES], mm_err *err);

/* Scores on a split, with the weights as they are: of each modality R@10 of the English caption among all different captions of its set and
 * back, mean over the sets; texts: 100 mean cosine to the teacher over pairs that are kept out (1 in 100 by hash). score[m] in percent,
 * NAN: there is nothing to measure. The mean of what there is, is *all. */
MM_API MM_MUST_CHECK int mm_uni_task_validate(mm_uni_task *t, mm_split split, double score[MM_MODALITIES], double *all, mm_err *err);
/* The part of it that is about texts: that mean cosine, of the first `pairs`; NAN without any. */
MM_API MM_MUST_CHECK int mm_uni_task_text_cosine(mm_uni_task *t, size_t pairs, double *cosine, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

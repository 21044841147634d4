/* mm_optim.h - the weights that are trained, and the optimizer's step.
 *
 *   mm_pset ps = { 0 };
 *   mm_pset_add(&ps, "blk.0.attn_q.weight", &q, MM_PSET_DECAY, 1, &err);      each weight once
 *   mm_pset_freeze(&ps, "blk.*.ffn*,tok*", &err);
 *   mm_pset_build(&ps, &err);                           from here on q.w and q.grad are the set's
 *   for each step { mm_pset_zero(&ps);  ...gradients are added to q.grad...;
 *       mm_pset_step(&ps, &opts, lr, n_micro, threads, &info); }
 *   mm_pset_swap(&ps);  ...q.w are the averaged weights...  mm_pset_swap(&ps);
 *   mm_pset_clear(&ps);
 *
 * One block of memory each for weights, gradients, the two moments and the averaged weights; every weight is a piece of each, 64-byte
 * aligned and never moved. The bits that a step gives do not depend on the number of threads: all sums are over pieces that the shapes
 * alone decide, added in one order. A set belongs to one thread. */
#ifndef MM_OPTIM_H
#define MM_OPTIM_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "graph/mm_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MM_PSET_DECAY = 1,  /* weight decay makes sense; vectors (one row) never decay */
    MM_PSET_FROZEN = 2, /* never trained: no gradient, no moments */
    MM_PSET_LORA = 4    /* trained by an addition of low rank: set by mm_pset_lora() */
};

typedef struct mm_pset_item {
    char *name;
    mm_param *p;
    unsigned flags;
    float lr;       /* factor of the learning rate */
    int rest;       /* see mm_pset_rest() */
    size_t n, at;   /* elements; place in w, and in grad, m, v, ema where it has one */
    size_t a, b;    /* MM_PSET_LORA: the items "NAME.lora_a" [rank, cols] and "NAME.lora_b" [rows, rank] */
    mm_param low;   /* p of those two */
    uint64_t seed;  /* of the first's numbers */
} mm_pset_item;

typedef struct mm_pset_chunk {
    size_t item, at, n;
} mm_pset_chunk;

typedef struct mm_pset {
    mm_pset_item *item; /* [n], in the order of mm_pset_add(); those of additions behind them */
    size_t n, cap;
    /* Pieces lie in this order: trained, changed by additions, frozen. w has all of them, grad the first two, the others the first
     * kind alone; base has what additions are added to, its first element belongs to w[size]. */
    float *w, *grad, *m, *v, *ema, *base;
    size_t size;             /* floats of the trained pieces with their gaps, which are zeros */
    size_t size_lora, size_all;
    uint64_t count, trained; /* parameters of the model; numbers that are trained */
    uint64_t t;              /* steps taken; skipped ones do not count */
    float scale;             /* of the loss, see mm_pset_step(); 1 to begin with */
    uint32_t good;           /* steps since the scale changed */
    int swapped;             /* w holds the averaged weights */
    float lora_scale;
    mm_pset_chunk *chunk;    /* the trained pieces, cut for the threads */
    double *part;            /* [n_chunks] */
    size_t n_chunks;
} mm_pset;

/* name is copied and must be new (MM_EARG). p stays the caller's and is used until mm_pset_clear(); p->w may be NULL, which is zeros. lr:
 * factor of the learning rate for this weight, >= 0. */
MM_API MM_MUST_CHECK int mm_pset_add(mm_pset *ps, const char *name, mm_param *p, unsigned flags, float lr, mm_err *err);
/* Patterns are as a shell's for file names, several of them separated by commas. One that no name matches is MM_EARG. */
MM_API MM_MUST_CHECK int mm_pset_freeze(mm_pset *ps, const char *patterns, mm_err *err);
/* Before mm_pset_build(): matrices that match and are not frozen get W = W0 + scale B A in place of being trained, A [rank, cols] small
 * random numbers of `seed` and the name, B [rows, rank] zeros; what does not match and is not frozen is trained as it is. MM_EARG: no
 * matrix matches, or the rank is not below the smaller side of one. */
MM_API MM_MUST_CHECK int mm_pset_lora(mm_pset *ps, const char *patterns, int64_t rank, float scale, uint64_t seed, mm_err *err);
/* Lay the blocks out and copy the weights in; p->w and p->grad (NULL: frozen) are now the set's. What p->w was before stays its owner's.
 * MM_EARG: nothing is trained. MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_pset_build(mm_pset *ps, mm_err *err);
/* p->w and p->grad become NULL; ps is {0}. */
MM_API void mm_pset_clear(mm_pset *ps);
/* After weights were set through p->w: averaged weights, and what additions are added to, are made anew from them; additions, moments and
 * t are zeros again. */
MM_API void mm_pset_reset(mm_pset *ps);
/* After trained pieces of w were set (a checkpoint): what additions change follows them. MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_pset_merge(mm_pset *ps, int threads);

/* Weights that match rest: their gradients are not wanted (p->grad is NULL), they stay as they are, their averages too; with on = 0 those
 * that match are trained again. Resting is not kept in a checkpoint. MM_EARG as in mm_pset_freeze(). */
MM_API MM_MUST_CHECK int mm_pset_rest(mm_pset *ps, const char *patterns, int on, mm_err *err);

MM_API void mm_pset_zero(mm_pset *ps); /* gradients */

typedef struct mm_optim { /* of AdamW */
    float beta1, beta2, eps, wd;
    float clip;    /* largest norm of all gradients together; 0: any */
    float ema;     /* 0: averaged weights are the last ones. The average is a mean of few steps at first: min(ema, (1 + t) / (20 + t)) */
    int scaling;   /* loss scaling, for 16-bit activations */
} mm_optim;
#define MM_OPTIM_INIT { 0.9f, 0.98f, 1e-6f, 0.05f, 1, 0.995f, 0 }
#define MM_SCALE_START 1024.0f /* what ps->scale is set to where `scaling` is */

typedef struct mm_step_info {
    double norm;  /* of the mean gradient, before clipping; not finite where the step was skipped */
    float scale;  /* the loss scale that was used */
} mm_step_info;

/* One step with the gradients divided by n_micro (the number of batches that they are the sum of) and by ps->scale, by which the caller
 * has multiplied every loss. 0: done. 1: skipped, gradients are not finite: nothing has changed but that with `scaling` the
 * scale is halved; it doubles after 2000 steps without. MM_ENOMEM. info may be NULL. */
MM_API MM_MUST_CHECK int mm_pset_step(mm_pset *ps, const mm_optim *o, double lr, unsigned n_micro, int threads, mm_step_info *info);

/* Exchange weights and averaged weights; what additions change follows. Twice: as before, to the bit. No step is taken in between.
 * MM_ENOMEM: w of what additions change is undefined. */
MM_API MM_MUST_CHECK int mm_pset_swap(mm_pset *ps, int threads);

/* 1 if name matches one of the comma-separated patterns. */
MM_API int mm_name_match(const char *patterns, const char *name);

/* ---- schedules ---- */
typedef enum { MM_LR_COSINE, MM_LR_LINEAR, MM_LR_CONSTANT } mm_lr_kind;

typedef struct mm_schedule {
    mm_lr_kind kind;
    double lr;     /* the highest */
    double floor;  /* the last, as a part of it */
    double warmup; /* from nothing to the highest: of the whole length, 0..1 */
} mm_schedule;

/* "cosine", "linear", "constant". 0, or MM_EARG. */
MM_API MM_MUST_CHECK int mm_schedule_kind(mm_lr_kind *out, const char *name, mm_err *err);
/* At `done` of the length, 0 <= done < 1, where one step is `step` of it: the warm-up's first step is not zero. */
MM_API double mm_schedule_at(const mm_schedule *s, double done, double step);

#ifdef __cplusplus
}
#endif
#endif

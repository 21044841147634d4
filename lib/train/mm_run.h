/* mm_run.h - a whole training run from plain options: what mm-train calls.
 *
 *   mm_train_opts o = MM_TRAIN_OPTS_INIT;
 *   o.data = (const char *[]){ "mine.jsonl" };  o.n_data = 1;  o.output = "mine.gguf";
 *   r = mm_train_run(&o, &(mm_train_hooks){ 0 }, &plan, &result, &err);       0: mine.gguf is there; 1: stopped, goes on with MM_RUN_RESUME
 *
 * A family of models comes in through mm_trainable: weights, a task, and what the plan should say of it. */
#ifndef MM_RUN_H
#define MM_RUN_H

#include <jansson.h>
#include "base/mm_err.h"
#include "graph/mm_tape.h"
#include "model/mm_model.h"
#include "train/mm_progress.h"
#include "train/mm_trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MM_LOSS_INFONCE, MM_LOSS_SIGMOID, MM_LOSS_DISTIL, MM_LOSS_BANK, MM_LOSS_FUSED, MM_LOSS_GATES, MM_LOSS_NEXT_TOKEN, MM_LOSS_FLOW, MM_LOSS_ALIGN,
    MM_LOSS_JOINT, /* 0.6 next-token + 0.3 flow + 0.1 align */

    MM_LOSSES
};
enum { MM_STAGE_DEFAULT = -1, MM_STAGE_ALL = 0 }; /* and 1, 2, 3 */
enum { MM_TRAIN_STAGES = 3 };
/* From 1 to 16 labelled examples of each new class: prototypes in closed form (mm_few.h), which leave vectors of other modalities as they are, to the
 * bit; or 40 steps of all examples at once towards the vectors of their labels, on additions of low rank or on all weights that the examples'
 * modality uses, while words of the tokenizer are drawn to the vectors that they had. */
enum { MM_FEW_NONE, MM_FEW_PROTOTYPE, MM_FEW_LORA, MM_FEW_FULL };

typedef struct mm_train_hooks { /* each may be NULL */
    const volatile sig_atomic_t *stop;
    void (*progress)(void *arg, const mm_train_status *s);
    void (*say)(void *arg, int warning, const char *msg);
    mm_train_progress *work; /* of what comes before the first step: decoding, the teacher. Not 0: stop */
    void *arg;
} mm_train_hooks;

struct mm_trainable;
struct mm_train_opts;
/* 0, 1: stopped by hooks->work, MM_E*. */
typedef int mm_trainable_fn(struct mm_trainable *out, const struct mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err);

typedef struct mm_train_opts {
    /* what from, what to */
    const char *const *data; /* manifests (mm_dataset.h) */
    size_t n_data;
    const char *const *pairs; /* files of JSON lines {"text":..,"en":..,"weight":..,"kind":..}: texts to be learned beside those of `data`. The first says
                               * how the space of a teacher is turned */
    size_t n_pairs;
    const char *cache;       /* of decoded media; NULL: OUTPUT.cache. The teacher's vectors are beside it, in CACHE.teacher */
    const char *output;
    const char *from;        /* model to begin with; NULL with config NULL: the default one */
    const char *connector;   /* a decoder: train what stands between it and `from` (model/mm_connector.h), and nothing else; NULL: no */
    const char *start;       /* with `connector`: one to begin with; NULL: random weights */
    const char *config;      /* "tiny", "small", "base": from nothing; NULL: as in `from` */
    const char *plan;        /* what modalities share, with `config`; NULL: the configuration's */
    const char *positions;   /* "aligned", "unaligned", "absolute" (mm_uni_positions), with `config`; NULL: aligned */
    int64_t direct;          /* texts: so many numbers of a token past the trunk (mm_uni_config), in closed form where the model has none yet;
                              * with `distil`. 0: as the model has it */
    int type;                /* mm_dtype of matrices in the output: MM_F32, MM_F16, MM_Q8_0 */

    /* what is learned */
    int few;                 /* MM_FEW_* */
    int stage;               /* 1, 2, 3, MM_STAGE_ALL, MM_STAGE_DEFAULT: 2 with `from`, all with `config` */
    const char *freeze;      /* patterns, NULL: none */
    int64_t lora;            /* rank; 0: none */
    const char *distil;      /* teacher model; NULL: none */
    const char *loss;        /* "infonce=1,fused=0.5", NULL: the family's for the stage */
    const char *batch;       /* "image=64,text=64", or one number for all; NULL: the family's */
    double augment;          /* 0 none .. 1 full; below 0: 0.5 */
    uint64_t seed;

    /* how */
    uint64_t steps;          /* 0: by time, or the family's */
    double minutes;          /* with steps 0: the run's length; else the run stops after that long; 0: none */
    unsigned accumulate;     /* 0: 8, with few examples or a connector 1 */
    const char *lr, *schedule; /* one for all stages or one for each: "1e-3,3e-4". NULL: the family's; cosine */
    double warmup;           /* steps of each stage; below 1: share of it */
    double floor;            /* of the learning rate at the end, as a share */
    double wd, clip;
    double ema;              /* below 0: 0.995, with few examples 0 */
    double blend;            /* what is written is start + blend (end - start); below 0: the family's */
    int precision;           /* mm_keep */
    int threads;

    /* along the way */
    const char *validate;    /* "500" steps, "10m", "90s"; NULL: not */
    unsigned patience;
    const char *metrics, *plot;
    double checkpoint;       /* minutes between checkpoints */
    int keep;                /* checkpoints kept, also at the end; 0: one, which goes when the model is there */
    mm_run_how run;
    int dry_run;             /* the plan and no more */

    mm_trainable_fn *open;   /* NULL: the family that `from` or `config` names */
} mm_train_opts;
#define MM_TRAIN_OPTS_INIT { .type = MM_F16, .stage = MM_STAGE_DEFAULT, .augment = -1, .warmup = 0.01, .floor = 0.01, \
                             .wd = 0.05, .clip = 1, .ema = -1, .blend = -1, .threads = 1, .checkpoint = 10, .seed = 1 }

/* What a family makes of the options. Everything is zero when mm_trainable_fn is called; also after it has failed `close` is called if it
 * is set. */
typedef struct mm_trainable {
    void *arg;
    void (*close)(void *arg);
    const char *family;
    mm_pset ps;              /* built, with the starting weights; cleared by mm_train_run() */
    mm_task task;
    int (*solve)(void *arg, mm_err *err); /* in place of steps, before task.save; NULL: there are steps. ps is empty then, but for count and trained */
    double share[MM_TRAIN_STAGES];  /* of the run's length, with MM_STAGE_ALL; all 0: equal */
    double lr[MM_TRAIN_STAGES];     /* where the options have none */
    int stage;               /* that MM_STAGE_DEFAULT means */
    uint64_t steps;          /* where the options have neither steps nor minutes; 0: they must */
    json_t *config;          /* an object, added to the run's configuration as "model": data, teacher, architecture ... by content, not by
                              * path. Owned here */
    json_t *facts;           /* an object, added to the plan: "shared", "examples" ... Owned here */
    size_t activations;      /* bytes that a step takes beside the parameter set; a task that learns it in its steps says so then */
} mm_trainable;

/* For families: the lists of the options, checked. MM_EARG names the word. */
typedef struct mm_train_lists {
    double loss[MM_LOSSES];       /* weights; NAN: not named. */
    int has_loss;
    int64_t batch[MM_MODALITIES]; /* -1: not named */
    double validate_seconds;
    uint64_t validate_steps;
} mm_train_lists;
MM_API MM_MUST_CHECK int mm_train_lists_parse(mm_train_lists *l, const mm_train_opts *o, mm_err *err);
/* "infonce" ... NULL beyond the last. */
MM_API const char *mm_train_loss_name(int loss);

/* 0 done, or planned; 1 stopped (mm_trainer_run()); MM_EARG: an option is wrong, err says which; MM_EUNSUP: a family that is not trained
 * here. *plan: what was to be done, an object (json_decref), NULL when it did not come to that. */
MM_API MM_MUST_CHECK int mm_train_run(const mm_train_opts *o, const mm_train_hooks *hooks, json_t **plan, mm_train_result *result,
                                      mm_err *err);

/* The family behind options without `open`. */
MM_API mm_trainable_fn mm_trainable_open;

#ifdef __cplusplus
}
#endif
#endif

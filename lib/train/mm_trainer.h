/* mm_trainer.h - the loop: steps, schedules, validation, checkpoints, metrics. What is computed in a step is the task's.
 *
 *   mm_task task = { .arg = &mine, .losses = names, .n_losses = 2, .step = step, .validate = validate, .save = save };
 *   mm_trainer t = MM_TRAINER_INIT;
 *   t.ps = &ps;  t.task = &task;  t.stage = &(mm_stage){ "all", 7300, { MM_LR_COSINE, 1e-3, 0.01, 0.01 } };  t.n_stages = 1;
 *   t.output = "x.gguf";  t.checkpoint = "x.gguf.ckpt";  t.config = config;
 *   r = mm_trainer_run(&t, &result, &err);              0: done, x.gguf is there; 1: stopped, goes on with t.run = MM_RUN_RESUME
 *
 * A run whose length is in steps, and whose validations are, can be killed at any moment: resumed from its last checkpoint it ends with
 * the same bits as if nothing had happened, whatever the number of threads, provided that the task's step is a function of the weights,
 * its own state (mm_task.state) and the numbers in mm_micro. Where lengths are in seconds that cannot be: then it goes on where it was,
 * no more. */
#ifndef MM_TRAINER_H
#define MM_TRAINER_H

#include <jansson.h>
#include <signal.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "train/mm_optim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One batch of the `accumulate` that a step is the mean of. */
typedef struct mm_micro {
    uint64_t step;    /* from 0, over all stages */
    unsigned micro;   /* 0 .. n_micro - 1 */
    unsigned n_micro;
    unsigned stage;   /* mm_stage.id */
    double done;      /* share of the whole run that is done, 0 .. 1 */
    float scale;      /* to be multiplied into the gradient of every loss */
    int threads;
    double *loss;     /* out, [n_losses]: NAN to begin with; those left so do not count in the mean */
    double samples;   /* out: how many inputs it was, 0 to begin with */
} mm_micro;

/* Functions return 0 or MM_E* with err set. Those marked * may be NULL. */
typedef struct mm_task {
    void *arg;
    const char *const *losses; /* names, for metrics; the first is shown */
    size_t n_losses;
    /* Adds the gradients of one batch to the parameters' grad. */
    int (*step)(void *arg, mm_micro *m, mm_err *err);
    /* * With the averaged weights in place: *score, of which more is better, and further numbers for the metrics into `scores`, an
     * object. */
    int (*validate)(void *arg, uint64_t step, double *score, json_t *scores, mm_err *err);
    /* * A stage begins (begin 1), or a resumed run goes on in its midst (0, and nothing was told of the stages before): mm_pset_rest()
     * for all that rests in it. */
    int (*stage)(void *arg, unsigned stage, int begin, mm_err *err);
    /* * What else a resumed run needs to know, and taking it back. */
    json_t *(*state)(void *arg);
    int (*restore)(void *arg, const json_t *state, mm_err *err);
    /* Write the model: the weights in place are those to be kept. about: "config", "steps", "score" ...; nothing in it depends on time. */
    int (*save)(void *arg, const char *path, const json_t *about, mm_err *err);
} mm_task;

typedef struct mm_stage {
    const char *name;
    double length;   /* steps, or with by_time seconds */
    mm_schedule lr;  /* over this stage */
    unsigned id;     /* what the task is told */
} mm_stage;

typedef struct mm_train_status {
    uint64_t step, steps; /* done; of so many, 0: not known */
    double done;          /* share, 0 .. 1 */
    double seconds, left; /* so far, over all resumed parts; left: < 0 where not known yet */
    double loss, samples; /* of this step; samples per second of late */
    const char *stage;
} mm_train_status;

typedef enum {
    MM_RUN_NEW,    /* a checkpoint that is there already: MM_EARG */
    MM_RUN_FRESH,  /* is removed */
    MM_RUN_RESUME  /* is gone on from; without one the run begins, unless the output is there: MM_EARG */
} mm_run_how;

typedef struct mm_trainer {
    mm_pset *ps;        /* built, with the weights to begin with */
    const mm_task *task;
    mm_optim optim;
    const mm_stage *stage;
    size_t n_stages;
    int by_time;        /* lengths are seconds */
    unsigned accumulate;
    int threads;

    uint64_t validate_steps;   /* 0: not by steps */
    double validate_seconds;   /* 0: not by time. Either: also at the end; then the best weights are kept, else the last */
    unsigned patience;         /* validations in a row without a better score after which the run ends; 0: none */

    const char *output;        /* the model's path */
    const char *checkpoint;    /* NULL: none */
    double checkpoint_seconds; /* how often; 0: not by time */
    uint64_t checkpoint_steps; /* 0: not by steps */
    int keep;                  /* how many checkpoints */
    int keep_at_end;           /* also when the model is there; else they are removed then */
    mm_run_how run;
    double max_seconds;        /* after which the run stops as by a signal; 0: none */
    const json_t *config;      /* an object: how the model is made, what a resumed run must agree on */
    const char *metrics;       /* file of JSON lines, NULL: none. A new run replaces it, a resumed one cuts off what it does again */

    const volatile sig_atomic_t *stop; /* other than 0: finish the step, write a checkpoint, return 1. May be NULL */
    void (*progress)(void *arg, const mm_train_status *s); /* after every step; may be NULL */
    void (*say)(void *arg, int warning, const char *msg);  /* may be NULL */
    void *arg;
} mm_trainer;
#define MM_TRAINER_INIT { .optim = MM_OPTIM_INIT, .accumulate = 1, .threads = 1, .checkpoint_seconds = 600, .keep = 1 }

typedef struct mm_train_result {
    uint64_t step;      /* done in all */
    uint64_t resumed;   /* of them before this call */
    uint64_t saved;     /* the step whose weights were kept */
    uint64_t skipped;   /* steps whose gradients were not finite */
    int early;          /* ended for want of a better score */
    int has_score;
    double score;       /* of the weights that were kept, or the best so far */
    double seconds;     /* over all parts */
} mm_train_result;

/* 0: finished. 1: stopped and checkpointed. MM_EARG, MM_EIO, ..., as said at the fields; MM_EDATA: the gradients of 50 steps in a row
 * were not finite. A checkpoint that cannot be written is a warning, and the run goes on. When it fails later, the last checkpoint stays.
 * */
MM_API MM_MUST_CHECK int mm_trainer_run(const mm_trainer *t, mm_train_result *result, mm_err *err);

/* A picture of a metrics file by gnuplot, which must be installed (MM_EIO; mm_plot_check() looks for it beforehand): losses, scores
 * and learning rate over the steps. path ends in .png or .svg. */
MM_API MM_MUST_CHECK int mm_plot_check(const char *path, mm_err *err);
MM_API MM_MUST_CHECK int mm_plot(const char *path, const char *metrics, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

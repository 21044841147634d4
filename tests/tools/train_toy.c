/* train_toy OUT [KEY=NUMBER | KEY=TEXT]... - trains a small network on invented data by mm_trainer_run(), so that tests can stop, kill
 * and resume it. steps accumulate threads validate patience checkpoint (in steps) keep seed lr ema; lora (a rank), freeze (patterns),
 * stages (2: w1 rests in the first); run: new, fresh, resume; seconds (the run's length is time); max (seconds); sleep (ms a batch); stop
 * (at the end of a step, as a signal would); nan (a step); metrics (a file); scaling; verbose. OUT is a safetensors file of the weights;
 * checkpoints are OUT.ckpt. Prints the result as JSON; exit status 0, 7 when stopped, 3 when failed. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mm_base.h"
#include "graph/mm_tape.h"
#include "store/mm_store.h"
#include "base/mm_rng.h"
#include "train/mm_trainer.h"

enum { IN = 12, HIDDEN = 96, OUT = 5, ROWS = 24 };

typedef struct {
    mm_param w1, b1, w2, b2, goal;
    mm_linear up, down;
    mm_pset ps;
    mm_arena arena;
    mm_tape *tape;
    uint64_t seed, seen; /* seen: batches so far, which the data depends on */
    long sleep_ms, nan_at, stop_at;
    int stages;
} toy;

static volatile sig_atomic_t stop;
static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

/* x, and what a fixed network makes of it */
static void invent(const toy *t, uint64_t stream, uint64_t a, float *x, float *y)
{
    mm_rng r = mm_rng_at(t->seed, stream, a, 0);
    for (int i = 0; i < ROWS * IN; i++) x[i] = mm_rng_range(&r, -1, 1);
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < OUT; k++) {
            double s = 0;
            for (int j = 0; j < IN; j++) s += (double)(t->goal.w[k * IN + j] * x[i * IN + j]);
            y[i * OUT + k] = (float)(s * s / IN);
        }
}

static mm_tensor forward(mm_graph *g, toy *t, float *x)
{
    mm_tensor h = mm_op_linear(g, (mm_tensor){ .p = x, .rows = ROWS, .cols = IN }, &t->up, MMK_ACT_GELU_TANH, NULL, NULL);
    return mm_op_linear(g, h, &t->down, MMK_ACT_NONE, NULL, NULL);
}

static int step(void *arg, mm_micro *m, mm_err *err)
{
    toy *t = arg;
    float x[ROWS * IN], y[ROWS * OUT];
    mm_graph g = { .kern = mm_kern_get(), .arena = &t->arena, .threads = m->threads, .tape = t->tape };
    invent(t, 1, t->seen++, x, y);
    if (t->nan_at && m->step + 1 >= (uint64_t)t->nan_at) y[0] = NAN;
    mm_tensor out = forward(&g, t, x), mse = mm_op_mse(&g, out, y, NULL);
    if (!mse.p) return mm_fail(err, MM_ENOMEM, "out of memory");
    m->loss[0] = (double)mse.p[0];
    m->samples = ROWS;
    mm_tape_seed(&g, mse, m->scale);
    if (m->micro % 2) { /* a second loss, in every other batch */
        mm_tensor cosine = mm_op_cos_loss(&g, out, y, OUT, OUT);
        if (!cosine.p) return mm_fail(err, MM_ENOMEM, "out of memory");
        m->loss[1] = (double)cosine.p[0];
        mm_tape_seed(&g, cosine, 0.1f * m->scale);
    }
    int r = mm_tape_backward(&g);
    mm_tape_reset(t->tape);
    mm_arena_reset(&t->arena);
    if (t->stop_at && m->step + 1 == (uint64_t)t->stop_at) stop = 1;
    if (t->sleep_ms) nanosleep(&(struct timespec){ t->sleep_ms / 1000, t->sleep_ms % 1000 * 1000000 }, NULL);
    return r ? mm_fail(err, r, "out of memory") : 0;
}

static int validate(void *arg, uint64_t at, double *score, json_t *scores, mm_err *err)
{
    toy *t = arg;
    float x[ROWS * IN], y[ROWS * OUT];
    double sum = 0;
    (void)at;
    for (uint64_t b = 0; b < 4; b++) {
        mm_graph g = { .kern = mm_kern_get(), .arena = &t->arena, .threads = 1 };
        invent(t, 2, b, x, y);
        mm_tensor out = forward(&g, t, x);
        if (!out.p) return mm_fail(err, MM_ENOMEM, "out of memory");
        for (int i = 0; i < ROWS * OUT; i++) sum += pow((double)(out.p[i] - y[i]), 2);
        mm_arena_reset(&t->arena);
    }
    *score = -sum;
    return json_object_set_new(scores, "error", json_real(sum)) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

static int stage(void *arg, unsigned n, int begin, mm_err *err)
{
    toy *t = arg;
    (void)begin;
    return t->stages > 1 ? mm_pset_rest(&t->ps, "w1", n == 1, err) : 0;
}

static json_t *state(void *arg) { return json_pack("{s:I}", "seen", (json_int_t)((toy *)arg)->seen); }
static int restore(void *arg, const json_t *j, mm_err *err)
{
    int64_t n;
    int r = mm_json_get_int(j, "seen", 0, INT64_MAX, 0, &n, err);
    if (!r) ((toy *)arg)->seen = (uint64_t)n;
    return r;
}

static int save(void *arg, const char *path, const json_t *about, mm_err *err)
{
    toy *t = arg;
    const mm_param *const p[] = { &t->w1, &t->b1, &t->w2, &t->b2 };
    static const char *const names[] = { "w1", "b1", "w2", "b2" };
    char *s = json_dumps(about, JSON_SORT_KEYS);
    json_t *meta = json_pack("{s:s}", "about", s ? s : "");
    mm_st_writer *w;
    int r = mm_st_create(&w, path, meta, err);
    json_decref(meta);
    free(s);
    if (r) return r;
    for (int i = 0; i < 4; i++) mm_st_tensor(w, names[i], MM_F32, 2, (const int64_t[2]){ (int64_t)p[i]->rows, (int64_t)p[i]->cols });
    r = mm_st_begin(w, err);
    for (int i = 0; i < 4 && !r; i++) r = mm_st_data(w, p[i]->w, p[i]->rows * p[i]->cols * sizeof(float), err);
    if (!r) return mm_st_commit(&w, err);
    mm_st_abort(&w);
    return r;
}

static void say(void *arg, int warning, const char *msg)
{
    if (warning || arg) fprintf(stderr, "%s%s\n", warning ? "warning: " : "", msg);
}

static const char *option(int argc, char **argv, const char *key, const char *dflt)
{
    size_t n = strlen(key);
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], key, n) && argv[i][n] == '=') return argv[i] + n + 1;
    return dflt;
}
static double number(int argc, char **argv, const char *key, double dflt)
{
    const char *s = option(argc, argv, key, NULL);
    return s ? strtod(s, NULL) : dflt;
}
#define NUM(key, dflt) number(argc, argv, key, dflt)
#define TEXT(key, dflt) option(argc, argv, key, dflt)

static int make(toy *t, int argc, char **argv, mm_err *err)
{
    mm_param *const all[] = { &t->w1, &t->b1, &t->w2, &t->b2 };
    static const char *const names[] = { "w1", "b1", "w2", "b2" };
    const char *freeze = TEXT("freeze", NULL);
    int lora = (int)NUM("lora", 0), r = 0;
    t->w1 = (mm_param){ .rows = HIDDEN, .cols = IN };
    t->b1 = (mm_param){ .rows = 1, .cols = HIDDEN };
    t->w2 = (mm_param){ .rows = OUT, .cols = HIDDEN };
    t->b2 = (mm_param){ .rows = 1, .cols = OUT };
    for (int i = 0; i < 4 && !r; i++) r = mm_pset_add(&t->ps, names[i], all[i], MM_PSET_DECAY, i & 1 ? 2 : 1, err);
    if (!r && freeze) r = mm_pset_freeze(&t->ps, freeze, err);
    if (!r && lora) r = mm_pset_lora(&t->ps, "w1", lora, 1, 4, err);
    if (!r) r = mm_pset_build(&t->ps, err);
    if (r) return r;
    mm_rng rng = mm_rng_at(t->seed, 9, 0, 0);
    for (int i = 0; i < 4; i += 2)
        for (size_t k = 0; k < all[i]->rows * all[i]->cols; k++) all[i]->w[k] = mm_rng_range(&rng, -1, 1) / sqrtf((float)all[i]->cols);
    mm_pset_reset(&t->ps);
    t->up = (mm_linear){ .pw = &t->w1, .pb = &t->b1, .bias = t->b1.w };
    t->down = (mm_linear){ .pw = &t->w2, .pb = &t->b2, .bias = t->b2.w };
    static float goal[OUT * IN];
    for (int i = 0; i < OUT * IN; i++) goal[i] = mm_rng_range(&rng, -1.7f, 1.7f);
    t->goal.w = goal;
    t->tape = mm_tape_new(MM_KEEP_F32);
    return t->tape ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

int main(int argc, char **argv)
{
    static const char *const losses[] = { "mse", "cosine" };
    mm_err err = { 0 };
    char ckpt[4096];
    if (argc < 2) return 2;
    toy t = { .seed = (uint64_t)NUM("seed", 1), .sleep_ms = (long)NUM("sleep", 0), .nan_at = (long)NUM("nan", 0),
              .stop_at = (long)NUM("stop", 0), .stages = (int)NUM("stages", 1) };
    const double steps = NUM("steps", 60), seconds = NUM("seconds", 0), lr = NUM("lr", 0.02);
    const mm_stage stages[2] = { { "first", seconds > 0 ? seconds : steps, { MM_LR_COSINE, lr, 0.01, 0.1 }, 1 },
                                 { "second", steps, { MM_LR_LINEAR, lr / 2, 0, 0 }, 2 } };
    const mm_task task = { .arg = &t, .losses = losses, .n_losses = 2, .step = step, .validate = validate, .stage = stage, .state = state,
                           .restore = restore, .save = save };
    const char *how = TEXT("run", "new");
    mm_trainer run = MM_TRAINER_INIT;
    mm_train_result res = { 0 };
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGXFSZ, SIG_IGN);
    snprintf(ckpt, sizeof ckpt, "%s.ckpt", argv[1]);
    run.ps = &t.ps;
    run.task = &task;
    run.stage = stages;
    run.n_stages = (size_t)t.stages;
    run.by_time = seconds > 0;
    run.accumulate = (unsigned)NUM("accumulate", 2);
    run.threads = (int)NUM("threads", 1);
    run.validate_steps = (uint64_t)NUM("validate", 0);
    run.patience = (unsigned)NUM("patience", 0);
    run.output = argv[1];
    run.checkpoint = ckpt;
    run.checkpoint_steps = (uint64_t)NUM("checkpoint", 5);
    run.keep = (int)NUM("keep", 1);
    run.keep_at_end = run.keep > 1;
    run.run = !strcmp(how, "resume") ? MM_RUN_RESUME : !strcmp(how, "fresh") ? MM_RUN_FRESH : MM_RUN_NEW;
    run.max_seconds = NUM("max", 0);
    run.metrics = TEXT("metrics", NULL);
    run.optim.ema = (float)NUM("ema", 0.9);
    run.optim.scaling = (int)NUM("scaling", 0);
    run.stop = &stop;
    run.say = say;
    run.arg = NUM("verbose", 0) > 0 ? &run : NULL;
    json_t *config = json_pack("{s:f,s:f,s:I,s:i}", "steps", steps, "lr", lr, "seed", (json_int_t)t.seed,
                               "accumulate", (int)run.accumulate);
    run.config = config;
    int r = make(&t, argc, argv, &err);
    if (!r) r = mm_trainer_run(&run, &res, &err);
    if (r < 0) fprintf(stderr, "%s: %s\n", mm_err_name(r), err.msg);
    else
        printf("{\"step\":%llu,\"resumed\":%llu,\"saved\":%llu,\"skipped\":%llu,\"early\":%d,\"score\":%.9g,\"stopped\":%d}\n",
               (unsigned long long)res.step, (unsigned long long)res.resumed, (unsigned long long)res.saved,
                   (unsigned long long)res.skipped, res.early, res.score, r);
    json_decref(config);
    mm_pset_clear(&t.ps);
    mm_tape_free(&t.tape);
    mm_arena_clear(&t.arena);
    return r < 0 ? 3 : r ? 7 : 0;
}

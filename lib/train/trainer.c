/* The loop. At its head a run is in a state that a checkpoint holds whole: everything up to step `s` is done, and it is known whether the
 * weights of step s have been validated. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/mm_mem.h"
#include "train/mm_ckpt.h"
#include "train/mm_trainer.h"
#include "train/train_int.h"

#define MAX_SKIPPED 50  /* steps in a row */
#define RETRY_SECONDS 60.0 /* after a checkpoint that could not be written */

typedef struct run {
    const mm_trainer *t;
    const mm_task *task;
    mm_pset *ps;
    uint64_t s;           /* steps done */
    unsigned stage;
    int begun;            /* the stage's hook was called */
    double length;        /* of all stages */
    double before, start; /* seconds of earlier parts; the clock when this one began */
    uint64_t first;       /* s then */

    /* validation */
    float *best;          /* like ps->ema, NULL: not validated */
    int has_best, early;
    double best_score;
    uint64_t best_step, validated; /* the step that was validated last; 0: none */
    unsigned since;       /* validations without a better one */
    double validated_at;  /* seconds */

    /* checkpoints and metrics */
    uint64_t saved;       /* the step of the last one, UINT64_MAX: none */
    double saved_at;      /* seconds; moved for a retry */
    int metrics, metrics_failed;
    double *loss, *mean;  /* [n_losses] of a batch, of a step */
    unsigned *heard;      /* [n_losses] batches that gave a value */
    uint64_t skipped;
    unsigned in_row;
    double step_seconds;  /* of a step, of late */
    double sample_rate;
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double elapsed(const run *r) { return r->before + now() - r->start; }

static void say(const run *r, int warning, const char *fmt, ...) MM_PRINTF(3, 4);
static void say(const run *r, int warning, const char *fmt, ...)
{
    char msg[MM_ERR_MSG];
    va_list ap;
    if (!r->t->say) return;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    r->t->say(r->t->arg, warning, msg);
}

/* ---- where in the run we are ---- */

/* In the unit of the lengths. */
static double position(const run *r) { return r->t->by_time ? elapsed(r) : (double)r->s; }

static unsigned stage_at(const run *r, double at, double *begin)
{
    unsigned i = 0;
    *begin = 0;
    while (i + 1 < r->t->n_stages && at >= *begin + r->t->stage[i].length) *begin += r->t->stage[i++].length;
    return i;
}

static uint64_t total_steps(const run *r) { return r->t->by_time ? 0 : (uint64_t)r->length; }

/* ---- metrics ---- */

static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static void record(run *r, json_t *j)
{
    mm_err err;
    if (r->metrics < 0) {
        json_decref(j);
    } else if (mm_metrics_write(r->metrics, j, &err) && !r->metrics_failed) {
        r->metrics_failed = 1;
        say(r, 1, "'%s': %s", r->t->metrics, err.msg);
    }
}

static double seconds_left(const run *r)
{
    if (r->t->by_time) return fmax(0, r->length - elapsed(r));
    return r->s > r->first ? (r->length - (double)r->s) * (now() - r->start) / (double)(r->s - r->first) : -1;
}

static void after_step(run *r, double lr, const mm_step_info *info, double samples, int skipped)
{
    const mm_stage *stage = &r->t->stage[r->stage];
    if (r->metrics >= 0) {
        json_t *losses = json_object(), *j = json_object();
        for (size_t i = 0; i < r->task->n_losses; i++)
            if (r->heard[i]) json_object_set_new(losses, r->task->losses[i], real(r->mean[i]));
        json_object_set_new(j, "step", json_integer((json_int_t)r->s));
        json_object_set_new(j, "time", real(elapsed(r)));
        if (r->t->n_stages > 1) json_object_set_new(j, "stage", json_string(stage->name));
        json_object_set_new(j, "lr", real(lr));
        json_object_set_new(j, "loss", losses);
        json_object_set_new(j, "grad_norm", real(info->norm));
        if (r->t->optim.scaling) json_object_set_new(j, "scale", real((double)info->scale));
        if (skipped) json_object_set_new(j, "skipped", json_true());
        json_object_set_new(j, "samples", real(samples));
        json_object_set_new(j, "seconds_left", real(fmax(0, seconds_left(r))));
        record(r, j);
    }
    if (!r->t->progress) return;
    const mm_train_status st = { .step = r->s, .steps = total_steps(r), .done = fmin(1, position(r) / r->length), .seconds = elapsed(r),
                                 .left = seconds_left(r), .loss = r->task->n_losses && r->heard[0] ? r->mean[0] : (double)NAN,
                                 .samples = r->sample_rate, .stage = stage->name };
    r->t->progress(r->t->arg, &st);
}

/* ---- checkpoints ---- */

static json_t *state_of(const run *r)
{
    json_t *task = r->task->state ? r->task->state(r->task->arg) : json_null();
    json_t *best = r->has_best ? json_pack("{s:f,s:I}", "score", r->best_score, "step", (json_int_t)r->best_step) : json_null();
    return json_pack("{s:I,s:b,s:f,s:I,s:f,s:I,s:b,s:o,s:I,s:I,s:o}", "stage", (json_int_t)r->stage, "begun", r->begun,
                     "seconds", elapsed(r), "validated", (json_int_t)r->validated, "validated_at", r->validated_at,
                     "since", (json_int_t)r->since, "early", r->early, "best", best, "skipped", (json_int_t)r->skipped,
                     "in_row", (json_int_t)r->in_row, "task", task);
}

static int checkpoint(run *r, mm_err *err)
{
    mm_ckpt c = { r->s, state_of(r), (json_t *)r->t->config, 0 };
    if (!c.state) return mm_fail(err, MM_ENOMEM, "out of memory");
    int e = mm_ckpt_write(r->t->checkpoint, r->ps, r->has_best ? r->best : NULL, &c, r->t->keep, err);
    json_decref(c.state);
    if (!e) {
        r->saved = r->s;
        r->saved_at = elapsed(r);
        say(r, 0, "checkpoint at step %llu", (unsigned long long)r->s);
    }
    return e;
}

/* One that is due; the run goes on without it. */
static void checkpoint_or_warn(run *r)
{
    const mm_trainer *t = r->t;
    mm_err err;
    if (!checkpoint(r, &err)) return;
    say(r, 1, "no checkpoint at step %llu: %s; the one before stays", (unsigned long long)r->s, err.msg);
    r->saved_at = elapsed(r) - t->checkpoint_seconds + fmin(t->checkpoint_seconds, RETRY_SECONDS);
}

static int checkpoint_due(const run *r)
{
    const mm_trainer *t = r->t;
    if (!t->checkpoint || r->s == r->saved || r->s == r->first) return 0;
    return (t->checkpoint_steps && r->s % t->checkpoint_steps == 0) ||
           (t->checkpoint_seconds > 0 && elapsed(r) - r->saved_at >= t->checkpoint_seconds);
}

static int take_state(run *r, const mm_ckpt *c, mm_err *err)
{
    json_int_t stage, validated, since, skipped, in_row, best_step = 0;
    const json_t *best, *task;
    if (json_unpack(c->state, "{s:I,s:b,s:F,s:I,s:F,s:I,s:b,s:o,s:I,s:I,s:o}", "stage", &stage, "begun", &r->begun,
                    "seconds", &r->before, "validated", &validated, "validated_at", &r->validated_at,
                    "since", &since, "early", &r->early, "best", &best, "skipped", &skipped,
                    "in_row", &in_row, "task", &task) ||
        stage < 0 || (uint64_t)stage >= r->t->n_stages || c->has_best != json_is_object(best) ||
        (c->has_best && json_unpack((json_t *)best, "{s:F,s:I}", "score", &r->best_score, "step", &best_step)))
        return mm_fail(err, MM_EDATA, "'%s' is not of this trainer", r->t->checkpoint);
    r->s = c->step;
    r->stage = (unsigned)stage;
    r->validated = (uint64_t)validated;
    r->since = (unsigned)since;
    r->skipped = (uint64_t)skipped;
    r->in_row = (unsigned)in_row;
    r->has_best = c->has_best;
    r->best_step = (uint64_t)best_step;
    return r->task->restore ? r->task->restore(r->task->arg, task, err) : 0;
}

static int validates(const mm_trainer *t) { return t->task->validate && (t->validate_steps || t->validate_seconds > 0); }

/* Begin, or go on. */
static int open_run(run *r, mm_err *err)
{
    const mm_trainer *t = r->t;
    int e = 0, resume = 0;
    if (t->checkpoint && !access(t->checkpoint, F_OK)) {
        if (t->run == MM_RUN_NEW)
            return mm_fail(err, MM_EARG, "a run that was stopped is in '%s': --resume goes on with it, --fresh begins anew", t->checkpoint);
        if (t->run == MM_RUN_FRESH) mm_ckpt_remove(t->checkpoint, 1);
        resume = t->run == MM_RUN_RESUME;
    } else if (t->run == MM_RUN_RESUME && t->output && !access(t->output, F_OK)) {
        return mm_fail(err, MM_EARG, "'%s' is there and no checkpoint to go on from: was it finished? --fresh trains it anew", t->output);
    }
    if (resume) {
        mm_ckpt c;
        if ((e = mm_ckpt_read(t->checkpoint, r->ps, r->best, t->config, &c, err))) return e;
        if (c.has_best && !r->best) e = mm_fail(err, MM_EARG, "'%s' is of a run with validation", t->checkpoint);
        else e = take_state(r, &c, err);
        mm_ckpt_clear(&c);
        if (e) return e;
        r->saved = r->first = r->s;
        if (r->begun && r->task->stage && (e = r->task->stage(r->task->arg, t->stage[r->stage].id, 0, err))) return e;
        say(r, 0, "going on at step %llu", (unsigned long long)r->s);
    }
    if (t->metrics) e = mm_metrics_open(t->metrics, resume, r->s, &r->metrics, err);
    r->start = now();
    r->saved_at = r->before;
    return e;
}

/* ---- validation ---- */

static int validation_due(const run *r, int last)
{
    const mm_trainer *t = r->t;
    if (!validates(t) || !r->s || r->validated == r->s) return 0;
    return last || (t->validate_steps && r->s % t->validate_steps == 0) ||
           (t->validate_seconds > 0 && elapsed(r) - r->validated_at >= t->validate_seconds);
}

static int validate(run *r, mm_err *err)
{
    const mm_trainer *t = r->t;
    double score = NAN;
    json_t *scores = json_object();
    int e = scores ? mm_pset_swap(r->ps, t->threads) : MM_ENOMEM;
    if (e) mm_fail(err, MM_ENOMEM, "out of memory");
    else e = r->task->validate(r->task->arg, r->s, &score, scores, err);
    if (r->ps->swapped && mm_pset_swap(r->ps, t->threads) && !e) e = mm_fail(err, MM_ENOMEM, "out of memory");
    if (e) {
        json_decref(scores);
        return e;
    }
    r->validated = r->s;
    r->validated_at = elapsed(r);
    const int better = isfinite(score) && (!r->has_best || score > r->best_score);
    if (better) {
        memcpy(r->best, r->ps->ema, r->ps->size * sizeof *r->best);
        r->has_best = 1;
        r->best_score = score;
        r->best_step = r->s;
        r->since = 0;
    } else {
        r->since++;
    }
    if (!isfinite(score)) say(r, 1, "validation at step %llu gave no number", (unsigned long long)r->s);
    r->early = t->patience && r->since >= t->patience;
    say(r, 0, "validation at step %llu: %.5g%s", (unsigned long long)r->s, score, better ? ", the best so far" : "");
    json_t *j = json_object();
    json_object_set_new(j, "step", json_integer((json_int_t)r->s));
    json_object_set_new(j, "time", real(elapsed(r)));
    json_object_set_new(j, "score", real(score));
    json_object_set_new(j, "best", json_boolean(better));
    json_object_set_new(j, "validation", scores);
    record(r, j);
    return 0;
}

/* ---- a step ---- */

static int enter_stage(run *r, double at, double *begin, mm_err *err)
{
    const unsigned stage = stage_at(r, at, begin);
    if (r->begun && stage == r->stage) return 0;
    r->stage = stage;
    r->begun = 1;
    return r->task->stage ? r->task->stage(r->task->arg, r->t->stage[stage].id, 1, err) : 0;
}

static int one_step(run *r, mm_err *err)
{
    const mm_trainer *t = r->t;
    const mm_task *task = r->task;
    const double begun = now(), at = position(r);
    double begin, samples = 0;
    int e = enter_stage(r, at, &begin, err);
    if (e) return e;
    const mm_stage *stage = &t->stage[r->stage];
    const double one = !t->by_time || r->step_seconds <= 0 ? 1 : r->step_seconds;
    const double lr = mm_schedule_at(&stage->lr, (at - begin) / stage->length, one / stage->length);
    mm_pset_zero(r->ps);
    for (size_t i = 0; i < task->n_losses; i++) r->mean[i] = r->heard[i] = 0;
    for (unsigned k = 0; k < t->accumulate; k++) {
        mm_micro m = { .step = r->s, .micro = k, .n_micro = t->accumulate, .stage = stage->id, .done = fmin(1, at / r->length),
                       .scale = r->ps->scale, .threads = t->threads, .loss = r->loss };
        for (size_t i = 0; i < task->n_losses; i++) r->loss[i] = NAN;
        if ((e = task->step(task->arg, &m, err))) return e;
        for (size_t i = 0; i < task->n_losses; i++)
            if (!isnan(r->loss[i])) {
                r->mean[i] += r->loss[i];
                r->heard[i]++;
            }
        samples += m.samples;
    }
    for (size_t i = 0; i < task->n_losses; i++)
        if (r->heard[i]) r->mean[i] /= r->heard[i];
    mm_step_info info;
    const int skipped = mm_pset_step(r->ps, &t->optim, lr, t->accumulate, t->threads, &info);
    if (skipped < 0) return mm_fail(err, skipped, "out of memory");
    r->s++;
    r->in_row = skipped ? r->in_row + 1 : 0;
    r->skipped += (uint64_t)skipped;
    if (skipped && (t->optim.scaling ? r->in_row == 20 : r->in_row < 3))
        say(r, 1, "step %llu: the gradients are not finite, the step is skipped", (unsigned long long)r->s);
    const double took = now() - begun;
    r->step_seconds = r->step_seconds > 0 ? 0.9 * r->step_seconds + 0.1 * took : took;
    if (took > 0) r->sample_rate = r->sample_rate > 0 ? 0.9 * r->sample_rate + 0.1 * samples / took : samples / took;
    after_step(r, lr, &info, samples, skipped);
    if (r->in_row < MAX_SKIPPED) return 0;
    return mm_fail(err, MM_EDATA, "the gradients of %d steps in a row, up to step %llu, are not finite: a lower learning rate may help",
                   MAX_SKIPPED, (unsigned long long)r->s);
}

/* ---- the model ---- */

static int save(run *r, mm_err *err)
{
    mm_pset *ps = r->ps;
    float *ema = ps->ema;
    if (!r->t->output) return 0;
    json_t *about = json_pack("{s:I,s:O}", "steps", (json_int_t)(r->has_best ? r->best_step : r->s), "config", r->t->config);
    if (!about || (r->has_best && json_object_set_new(about, "score", json_real(r->best_score)))) {
        json_decref(about);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    if (r->has_best) ps->ema = r->best; /* for as long as it takes */
    int e = mm_pset_swap(ps, r->t->threads) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    if (!e) e = r->task->save(r->task->arg, r->t->output, about, err);
    if (ps->swapped && mm_pset_swap(ps, r->t->threads) && !e) e = mm_fail(err, MM_ENOMEM, "out of memory");
    ps->ema = ema;
    json_decref(about);
    return e;
}

static int finished(const run *r) { return r->early || position(r) >= r->length; }

/* 0 done, 1 asked to stop. */
static int loop(run *r, mm_err *err)
{
    const mm_trainer *t = r->t;
    for (;;) {
        int e, last = finished(r);
        const int stop = (t->stop && *t->stop) || (t->max_seconds > 0 && now() - r->start >= t->max_seconds);
        if (stop && !last) return 1; /* what is due is done when the run goes on */
        if (validation_due(r, last) && (e = validate(r, err))) return e;
        if (last || finished(r)) return 0;
        if (checkpoint_due(r)) checkpoint_or_warn(r);
        if ((e = one_step(r, err))) return e;
    }
}

static int check(const mm_trainer *t, mm_err *err)
{
    if (!t->n_stages || !t->accumulate || t->threads < 1 || !t->ps->w)
        return mm_fail(err, MM_EARG, "a run without stages, batches or weights");
    for (size_t i = 0; i < t->n_stages; i++)
        if (!(t->stage[i].length > 0) || (!t->by_time && t->stage[i].length != floor(t->stage[i].length)))
            return mm_fail(err, MM_EARG, "stage '%s' has a length of %g", t->stage[i].name, t->stage[i].length);
    if ((t->checkpoint || t->output) && !json_is_object(t->config)) return mm_fail(err, MM_EARG, "a run without a configuration");
    if (t->patience && !validates(t)) return mm_fail(err, MM_EARG, "patience without validation");
    return 0;
}

static int prepare(run *r, mm_err *err)
{
    const size_t n = r->task->n_losses;
    r->loss = mm_realloc(NULL, n, sizeof *r->loss);
    r->mean = mm_realloc(NULL, n, sizeof *r->mean);
    r->heard = mm_realloc(NULL, n, sizeof *r->heard);
    if (validates(r->t)) r->best = mm_aligned(r->ps->size, sizeof *r->best);
    if (!r->loss || !r->mean || !r->heard || (validates(r->t) && !r->best)) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (r->best) memset(r->best, 0, r->ps->size * sizeof *r->best);
    if (r->t->optim.scaling) r->ps->scale = MM_SCALE_START;
    return 0;
}

int mm_trainer_run(const mm_trainer *t, mm_train_result *result, mm_err *err)
{
    run r = { .t = t, .task = t->task, .ps = t->ps, .saved = UINT64_MAX, .metrics = -1, .start = now() };
    int lock = -1, e = check(t, err);
    for (size_t i = 0; i < t->n_stages; i++) r.length += t->stage[i].length;
    if (!e && t->checkpoint) e = mm_ckpt_lock(t->checkpoint, &lock, err);
    if (lock >= 0 && t->output) mm_ckpt_sweep(t->output, 0);
    if (!e) e = prepare(&r, err);
    if (!e) e = open_run(&r, err);
    const int open = !e;
    if (open) {
        mm_err other;
        e = loop(&r, err);
        if (!e) e = save(&r, err);
        if (!e && t->checkpoint && !t->keep_at_end) mm_ckpt_remove(t->checkpoint, 1);
        /* A run that ends before its time leaves as much as it can. Averaged weights in place, or a step that was skipped to no end, are
         * nothing to go on from. */
        if (e && t->checkpoint && r.s && r.s != r.saved && !r.ps->swapped && r.in_row < MAX_SKIPPED) {
            int w = checkpoint(&r, &other);
            if (w && e == 1) e = mm_fail(err, w, "stopped at step %llu without a checkpoint: %s", (unsigned long long)r.s, other.msg);
            else if (w) say(&r, 1, "no checkpoint at step %llu: %s", (unsigned long long)r.s, other.msg);
        }
    }
    *result = (mm_train_result){ .step = r.s, .resumed = r.first, .saved = r.has_best ? r.best_step : r.s, .skipped = r.skipped,
                                 .early = r.early, .has_score = r.has_best, .score = r.best_score, .seconds = open ? elapsed(&r) : 0 };
    if (r.metrics >= 0) close(r.metrics);
    if (lock >= 0) mm_ckpt_unlock(t->checkpoint, lock);
    free(r.loss);
    free(r.mean);
    free(r.heard);
    free(r.best);
    return e;
}

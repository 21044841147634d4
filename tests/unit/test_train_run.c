/* From options to a run: lists, stages, plan, configuration, with a family of eight numbers that want to be others. */
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "tap.h"
#include "train/mm_run.h"

static char dir[] = "/tmp/mm-run-XXXXXX", model[64], metrics[64], plot[64];

typedef struct {
    mm_param w;
    mm_train_lists lists;
    json_t *about;       /* of the last save */
    float saved[8];
    unsigned stages[64]; /* that the steps were told */
    int steps, closed, stop_at;
} eight;

static eight e;
static volatile sig_atomic_t stop;

static int step(void *arg, mm_micro *m, mm_err *err)
{
    (void)err;
    eight *x = arg;
    double sum = 0;
    for (int i = 0; i < 8; i++) {
        float d = x->w.w[i] - (float)i;
        x->w.grad[i] += 2 * d * m->scale;
        sum += (double)d * d;
    }
    m->loss[0] = sum;
    m->samples = 3;
    if (!m->micro && x->steps < 64) x->stages[x->steps++] = m->stage;
    if (x->stop_at && m->step + 1 == (uint64_t)x->stop_at) stop = 1;
    return 0;
}

static int validate(void *arg, uint64_t s, double *score, json_t *scores, mm_err *err)
{
    (void)err;
    *score = (double)((eight *)arg)->w.w[7];
    return json_object_set_new(scores, "step", json_integer((json_int_t)s));
}

static int save(void *arg, const char *path, const json_t *about, mm_err *err)
{
    eight *x = arg;
    mm_outfile f;
    json_decref(x->about);
    x->about = json_deep_copy(about);
    memcpy(x->saved, x->w.w, sizeof x->saved);
    int r = mm_outfile_open(&f, path, err);
    return r ? r : mm_outfile_commit(&f, err);
}

static void closing(void *arg) { ((eight *)arg)->closed++; }

static int open_eight(mm_trainable *out, const mm_train_opts *o, const mm_train_hooks *h, mm_err *err)
{
    if (h->work && h->work(h->arg, "numbers", 3, 8)) return 1;
    static const char *const names[] = { "distance" };
    out->arg = &e;
    out->close = closing;
    out->family = "eight";
    out->task = (mm_task){ .arg = &e, .losses = names, .n_losses = 1, .step = step, .validate = validate, .save = save };
    out->lr[0] = out->lr[1] = out->lr[2] = 0.1;
    out->activations = 1000;
    out->config = json_pack("{s:i}", "numbers", 8);
    out->facts = json_pack("{s:f}", "shared", 0.67);
    e.w = (mm_param){ .rows = 1, .cols = 8 };
    int r = mm_train_lists_parse(&e.lists, o, err);
    if (!r) r = mm_pset_add(&out->ps, "w", &e.w, 0, 1, err);
    if (!r && o->freeze) r = mm_pset_freeze(&out->ps, o->freeze, err);
    return r ? r : mm_pset_build(&out->ps, err);
}

static mm_train_opts base(void)
{
    static const char *const data[] = { "a.jsonl", "b.jsonl" };
    mm_train_opts o = MM_TRAIN_OPTS_INIT;
    o.data = data;
    o.n_data = 2;
    o.output = model;
    o.steps = 10;
    o.open = open_eight;
    return o;
}

static char said[MM_ERR_MSG];
static void say(void *arg, int warning, const char *msg)
{
    (void)arg;
    if (warning) snprintf(said, sizeof said, "%s", msg);
}

static int wait_no_more;
static int work(void *arg, const char *what, uint64_t done, uint64_t total)
{
    (void)arg;
    return wait_no_more && !strcmp(what, "numbers") && done == 3 && total == 8;
}

static int go(const mm_train_opts *o, json_t **plan, mm_train_result *res, mm_err *err)
{
    const mm_train_hooks h = { &stop, NULL, say, work, NULL };
    e.steps = 0;
    stop = 0;
    return mm_train_run(o, &h, plan, res, err);
}

static json_t *at(json_t *j, const char *path) /* "a.0.b" */
{
    char key[32];
    for (; j && *path; path += *path == '.') {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        j = json_is_array(j) ? json_array_get(j, strtoul(key, NULL, 10)) : json_object_get(j, key);
        path += n;
    }
    return j;
}

static void plans(void)
{
    mm_train_opts o = base();
    mm_train_result res;
    mm_err err = { 0 };
    json_t *p;
    o.dry_run = 1;
    o.lr = "0.1,0.2,0.3";
    o.schedule = "linear";
    o.warmup = 2;
    is_int(go(&o, &p, &res, &err), 0, "planned");
    ok(json_integer_value(at(p, "parameters")) == 8 && json_integer_value(at(p, "trained")) == 8, "parameters");
    ok(json_real_value(at(p, "stages.0.steps")) == 3 && json_real_value(at(p, "stages.1.steps")) == 4 &&
           json_real_value(at(p, "stages.2.steps")) == 3 && json_real_value(at(p, "steps")) == 10, "three stages share the steps");
    ok(json_real_value(at(p, "stages.1.lr")) == 0.2 && json_real_value(at(p, "stages.2.lr")) == 0.3, "a rate for each");
    is_str(json_string_value(at(p, "stages.2.schedule")), "linear", "one schedule for all");
    ok(json_real_value(at(p, "stages.1.warmup")) == 0.5, "warm-up in steps");
    ok(json_real_value(at(p, "shared")) == 0.67 && json_integer_value(at(p, "config.model.numbers")) == 8, "what the family adds");
    ok(json_integer_value(at(p, "memory.total")) == 5 * 64 + 1000, "memory: weights, gradients, moments, averages, activations");
    ok(access(model, F_OK) && e.closed == 1, "nothing is written, the family closed");
    json_decref(p);
    o.steps = 0;
    o.minutes = 2;
    o.warmup = 0.1;
    o.stage = 3;
    o.lr = "0.5";
    ok(!go(&o, &p, &res, &err) && json_real_value(at(p, "seconds")) == 120 && json_array_size(at(p, "stages")) == 1 &&
           json_real_value(at(p, "stages.0.lr")) == 0.5, "one stage, by time");
    json_decref(p);
}

static void refused(void)
{
    static const struct {
        const char *loss, *batch, *lr, *schedule, *validate, *freeze, *word;
    } t[] = {
        { .loss = "infonce,nce", .word = "nce" },          { .loss = "bank=x", .word = "bank=x" },
        { .loss = "bank,bank", .word = "twice" },            { .loss = "bank=-1", .word = "bank=-1" },
        { .loss = "", .word = "--loss" },                  { .batch = "image", .word = "image=NUMBER" },
        { .batch = "smell=3", .word = "smell" },           { .batch = "image=1.5", .word = "whole" },
        { .lr = "1,2", .word = "each stage" },             { .lr = "0", .word = "above 0" },
        { .lr = "0.1,x,0.1", .word = "--lr" },             { .schedule = "sine", .word = "sine" },
        { .schedule = "linear,cosine", .word = "each" },   { .validate = "10h", .word = "10h" },
        { .validate = "-5", .word = "-5" },                { .validate = "1.5", .word = "1.5" },
        { .freeze = "v*", .word = "v*" },
    };
    mm_train_result res;
    mm_err err = { 0 };
    json_t *p;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        mm_train_opts o = base();
        if (t[i].loss) o.loss = t[i].loss;
        if (t[i].batch) o.batch = t[i].batch;
        if (t[i].lr) o.lr = t[i].lr;
        if (t[i].schedule) o.schedule = t[i].schedule;
        if (t[i].validate) o.validate = t[i].validate;
        if (t[i].freeze) o.freeze = t[i].freeze;
        int r = go(&o, &p, &res, &err);
        ok(r == MM_EARG && strstr(err.msg, t[i].word) && !p, "refused: %s", err.msg);
    }
    mm_train_opts o = base();
    o.steps = 2;
    ok(go(&o, &p, &res, &err) == MM_EARG && strstr(err.msg, "not enough"), "too few steps for three stages: %s", err.msg);
    o.steps = 0;
    ok(go(&o, &p, &res, &err) == MM_EARG && strstr(err.msg, "--minutes"), "no length: %s", err.msg);
    o = base();
    o.warmup = 4;
    ok(go(&o, &p, &res, &err) == MM_EARG && strstr(err.msg, "--warmup"), "a warm-up longer than a stage: %s", err.msg);
    o = base();
    o.plan = "x";
    ok(go(&o, &p, &res, &err) == MM_EARG && strstr(err.msg, "--config"), "a plan without an architecture: %s", err.msg);
    o = base();
    o.patience = 3;
    ok(go(&o, &p, &res, &err) == MM_EARG && strstr(err.msg, "--validate"), "patience without validation: %s", err.msg);
    ok(access(model, F_OK), "nothing is written");
}

static void runs(void)
{
    mm_train_opts o = base();
    mm_train_result res;
    mm_err err = { 0 };
    json_t *p;
    o.steps = 60;
    o.loss = "infonce,bank=0.25";
    o.batch = "image=64,text=128";
    o.lr = "1";
    o.ema = 0;
    o.metrics = metrics;
    o.accumulate = 2;
    is_int(go(&o, &p, &res, &err), 0, "trained");
    ok(res.step == 60 && res.saved == 60 && !access(model, F_OK), "sixty steps");
    ok(e.stages[0] == 1 && e.stages[19] == 1 && e.stages[20] == 2 && e.stages[40] == 3, "the steps are told their stage");
    ok(e.lists.loss[MM_LOSS_INFONCE] == 1 && e.lists.loss[MM_LOSS_BANK] == 0.25 && isnan(e.lists.loss[MM_LOSS_FLOW]) &&
           e.lists.batch[MM_TEXT] == 128 && e.lists.batch[MM_IMAGE] == 64 && e.lists.batch[MM_AUDIO] == -1, "losses and batches as named");
    ok(fabsf(e.saved[7] - 7) < 1 && fabsf(e.saved[1] - 1) < 0.5f, "towards what they want to be (%.3g, %.3g)", (double)e.saved[7],
       (double)e.saved[1]);
    ok(json_integer_value(at(e.about, "steps")) == 60 && json_integer_value(at(e.about, "config.accumulate")) == 2 &&
           json_integer_value(at(e.about, "config.model.numbers")) == 8 && !strcmp(json_string_value(at(e.about, "config.data.1")),
                                                                                   "b.jsonl"),
       "the model says how it was made");
    json_decref(p);

    o.batch = "32";
    o.validate = "7";
    o.patience = 50;
    o.wd = 3;
    o.plot = plot;
    const int gnuplot = !mm_plot_check(plot, NULL);
    if (!gnuplot) {
        ok(go(&o, &p, &res, &err) == MM_EIO && strstr(err.msg, "gnuplot"), "without gnuplot: said before training");
        o.plot = NULL;
    }
    ok(!go(&o, &p, &res, &err) && e.lists.batch[MM_VIDEO] == 32, "one number for all");
    ok(res.has_score && res.score == (double)e.saved[7] && res.saved % 7 == 0 && json_real_value(at(e.about, "score")) == res.score,
       "the best is kept");
    char head[8] = "";
    FILE *f = fopen(plot, "rb");
    if (f && fread(head, 1, 8, f) != 8) head[0] = 0;
    if (f) fclose(f);
    ok(!gnuplot || !memcmp(head, "\x89PNG\r\n\x1a\n", 8), "a picture%s", gnuplot ? "" : " # SKIP gnuplot is not installed");
    json_decref(p);

    e.stop_at = 30;
    ok(go(&o, &p, &res, &err) == 1 && res.step == 30, "stopped");
    json_decref(p);
    e.stop_at = 0;
    o.run = MM_RUN_RESUME;
    o.steps = 61;
    ok(go(&o, &p, &res, &err) == MM_EARG && strstr(err.msg, "stages"), "other options do not go on: %s", err.msg);
    json_decref(p);
    o.steps = 60;
    o.threads = 2;
    ok(!go(&o, &p, &res, &err) && res.resumed == 30 && e.steps == 30, "the same do, with another number of threads");
    json_decref(p);

    wait_no_more = 1;
    ok(go(&o, &p, &res, &err) == 1 && !p && !res.step, "stopped before the first step");
    wait_no_more = 0;
    o = base();
    o.output = "/nowhere/x";
    ok(go(&o, &p, &res, &err) == MM_EIO && !e.steps, "a folder that is not there is found out before training: %s", err.msg);
    json_decref(p);
    o = base();
    o.open = NULL;
    ok(go(&o, &p, &res, &err) < 0 && !p, "a family or a model that is not there: %s", err.msg);
    json_decref(e.about);
}

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    snprintf(model, sizeof model, "%s/m.gguf", dir);
    snprintf(metrics, sizeof metrics, "%s/m.jsonl", dir);
    snprintf(plot, sizeof plot, "%s/m.png", dir);
    plans();
    refused();
    runs();
    unlink(model);
    unlink(metrics);
    unlink(plot);
    is_int(rmdir(dir), 0, "nothing else is left");
    return done();
}

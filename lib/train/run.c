/* From options to a run: lists, stages, the configuration that a model and its checkpoints carry, the plan. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "train/mm_ckpt.h"
#include "train/mm_run.h"
#include "train/train_int.h"

static const char *const losses[MM_LOSSES + 1] = { "infonce", "sigmoid", "distil", "bank", "fused", "gates", "next-token", "flow", "align", "joint", NULL };
static const char *const fews[] = { [MM_FEW_NONE] = NULL, [MM_FEW_PROTOTYPE] = "prototype", [MM_FEW_LORA] = "lora", [MM_FEW_FULL] = "full" };
static const char *const precisions[] = { [MM_KEEP_F32] = "f32", [MM_KEEP_BF16] = "bf16", [MM_KEEP_F16] = "f16" };

const char *mm_train_loss_name(int loss) { return loss >= 0 && loss < MM_LOSSES ? losses[loss] : NULL; }

/* ---- lists ---- */

static int number(const char *s, size_t len, double *v) { return len && mm_parse_double(s, len, v) == len && isfinite(*v); }

/* Words of "a=1,b": into value[i] of names[i], `dflt` where there is no number. */
static int named_list(const char *option, const char *s, const char *const *names, double dflt, double min, double *value, mm_err *err)
{
    if (!*s) return mm_fail(err, MM_EARG, "option '--%s' is empty", option);
    while (*s) {
        const size_t n = strcspn(s, ","), name = strcspn(s, "=,");
        int i = 0;
        while (names[i] && (strlen(names[i]) != name || memcmp(names[i], s, name))) i++;
        if (!names[i]) {
            mm_buf b = { 0 };
            for (i = 0; names[i]; i++) mm_buf_addf(&b, "%s%s", i ? ", " : "", names[i]);
            int r = mm_fail(err, MM_EARG, "option '--%s': '%.*s' should be one of %s", option, (int)name, s, b.p ? b.p : "");
            mm_buf_clear(&b);
            return r;
        }
        if (!isnan(value[i])) return mm_fail(err, MM_EARG, "option '--%s' names '%s' twice", option, names[i]);
        value[i] = dflt;
        if (name < n && (!number(s + name + 1, n - name - 1, &value[i]) || value[i] < min))
            return mm_fail(err, MM_EARG, "option '--%s': '%.*s' should end in a number of at least %g", option, (int)n, s, min);
        if (isnan(value[i])) return mm_fail(err, MM_EARG, "option '--%s': '%s' should be '%s=NUMBER'", option, names[i], names[i]);
        s += n + (s[n] == ',');
    }
    return 0;
}

static int batch_list(mm_train_lists *l, const char *s, mm_err *err)
{
    const char *names[MM_MODALITIES + 1] = { 0 };
    double v[MM_MODALITIES], all;
    int r = 0;
    for (int m = 0; m < MM_MODALITIES; m++) {
        names[m] = mm_modality_name((mm_modality)m);
        v[m] = NAN;
    }
    if (number(s, strlen(s), &all))
        for (int m = 0; m < MM_MODALITIES; m++) v[m] = all;
    else r = named_list("batch", s, names, NAN, 0, v, err);
    for (int m = 0; m < MM_MODALITIES && !r; m++) {
        if (!isnan(v[m]) && (v[m] != floor(v[m]) || v[m] < 0 || v[m] > 1 << 20))
            r = mm_fail(err, MM_EARG, "option '--batch': '%s' should have whole numbers", s);
        l->batch[m] = isnan(v[m]) ? -1 : (int64_t)v[m];
    }
    return r;
}

/* "500", "10m", "90s" */
static int validate_list(mm_train_lists *l, const char *s, mm_err *err)
{
    const size_t n = strlen(s);
    const int unit = n && (s[n - 1] == 'm' || s[n - 1] == 's');
    double v;
    if (!number(s, n - (size_t)unit, &v) || !(v > 0) || (!unit && v != floor(v)))
        return mm_fail(err, MM_EARG, "option '--validate': '%s' should be a number of steps, or of minutes or seconds as in 10m and 90s",
                       s);
    if (unit) l->validate_seconds = s[n - 1] == 'm' ? 60 * v : v;
    else l->validate_steps = (uint64_t)v;
    return 0;
}

int mm_train_lists_parse(mm_train_lists *l, const mm_train_opts *o, mm_err *err)
{
    int r = 0;
    *l = (mm_train_lists){ .has_loss = o->loss != NULL };
    for (int i = 0; i < MM_LOSSES; i++) l->loss[i] = NAN;
    for (int m = 0; m < MM_MODALITIES; m++) l->batch[m] = -1;
    if (o->loss) r = named_list("loss", o->loss, losses, 1, 0, l->loss, err);
    double most = 0;
    for (int i = 0; i < MM_LOSSES; i++)
        if (l->loss[i] > most) most = l->loss[i];
    if (!r && o->loss && !(most > 0)) r = mm_fail(err, MM_EARG, "option '--loss': no loss has a weight in '%s'", o->loss);
    if (!r && o->batch) r = batch_list(l, o->batch, err);
    if (!r && o->validate) r = validate_list(l, o->validate, err);
    return r;
}

/* ---- stages ---- */

/* The i-th word of a list, or its only one; 0: the list has another number of words than 1 and n. */
static size_t word(const char *list, size_t i, size_t n, const char **at)
{
    size_t words = 1;
    for (const char *p = list; *p; p++) words += *p == ',';
    if (words != 1 && words != n) return 0;
    for (*at = list; words > 1 && i; i--) *at += strcspn(*at, ",") + 1;
    return strcspn(*at, ",");
}

static int schedule(mm_schedule *s, const mm_train_opts *o, const mm_trainable *t, size_t i, size_t n, int id, double length, mm_err *err)
{
    const char *p;
    char name[16];
    size_t len;
    *s = (mm_schedule){ MM_LR_COSINE, t->lr[id - 1], o->floor, o->warmup };
    if (o->lr && (!(len = word(o->lr, i, n, &p)) || !number(p, len, &s->lr) || !(s->lr > 0)))
        return mm_fail(err, MM_EARG, "option '--lr': '%s' should be one number above 0%s", o->lr, n > 1 ? ", or one for each stage" : "");
    if (o->schedule) {
        if (!(len = word(o->schedule, i, n, &p)) || len >= sizeof name)
            return mm_fail(err, MM_EARG, "option '--schedule': '%s' should be one name%s", o->schedule,
                           n > 1 ? ", or one for each stage" : "");
        memcpy(name, p, len);
        name[len] = 0;
        int r = mm_schedule_kind(&s->kind, name, err);
        if (r) return r;
    }
    if (!(s->lr > 0)) return mm_fail(err, MM_EARG, "option '--lr' is needed");
    if (o->warmup >= 1) s->warmup = o->warmup / length;
    return s->warmup <= 1 ? 0 : mm_fail(err, MM_EARG, "option '--warmup': stage %d has %g steps only", id, length);
}

typedef struct schedule_of_run {
    mm_stage stage[MM_TRAIN_STAGES];
    size_t n;
    int by_time;
    double length; /* steps or seconds */
} stages_of_run;

static int stages(stages_of_run *s, const mm_train_opts *o, const mm_trainable *t, mm_err *err)
{
    static const char *const names[] = { "1", "2", "3" };
    const int which = o->stage == MM_STAGE_DEFAULT ? t->stage : o->stage;
    double share[MM_TRAIN_STAGES] = { 0 }, sum = 0, at = 0, begin = 0;
    *s = (stages_of_run){ .by_time = !o->steps && o->minutes > 0 };
    s->length = s->by_time ? o->minutes * 60 : (double)(o->steps ? o->steps : t->steps);
    if (!(s->length > 0)) return mm_fail(err, MM_EARG, "option '--steps' or '--minutes' is needed");
    if (s->by_time && o->warmup >= 1) return mm_fail(err, MM_EARG, "option '--warmup': of a run by time it should be a share, below 1");
    for (int i = 0; i < MM_TRAIN_STAGES; i++) sum += t->share[i];
    for (int i = 0; i < MM_TRAIN_STAGES; i++) {
        share[i] = which ? which == i + 1 : sum > 0 ? t->share[i] / sum : 1.0 / MM_TRAIN_STAGES;
        s->n += share[i] > 0;
    }
    for (int i = 0, k = 0; i < MM_TRAIN_STAGES; i++) {
        if (!(share[i] > 0)) continue;
        const int last = (size_t)k + 1 == s->n;
        at += share[i] * s->length;
        const double end = last ? s->length : s->by_time ? at : round(at);
        mm_stage *st = &s->stage[k];
        *st = (mm_stage){ .name = names[i], .length = end - begin, .id = (unsigned)i + 1 };
        if (!(st->length > 0)) return mm_fail(err, MM_EARG, "option '--steps': %g steps are not enough for %zu stages", s->length, s->n);
        int r = schedule(&st->lr, o, t, (size_t)k, s->n, i + 1, st->length, err);
        if (r) return r;
        begin = end;
        k++;
    }
    return 0;
}

/* ---- the configuration ---- */

static int set(json_t *j, const char *key, json_t *v) { return json_object_set_new(j, key, v); }
static json_t *text(const char *s) { return s ? json_string(s) : json_null(); }

static json_t *stage_list(const stages_of_run *s)
{
    static const char *const kinds[] = { [MM_LR_COSINE] = "cosine", [MM_LR_LINEAR] = "linear", [MM_LR_CONSTANT] = "constant" };
    json_t *a = json_array();
    for (size_t i = 0; i < s->n; i++) {
        const mm_stage *st = &s->stage[i];
        json_array_append_new(a, json_pack("{s:s,s:f,s:f,s:s,s:f,s:f}", "stage", st->name, s->by_time ? "seconds" : "steps", st->length,
                                           "lr", st->lr.lr, "schedule", kinds[st->lr.kind], "warmup", st->lr.warmup, "floor",
                                               st->lr.floor));
    }
    return a;
}

/* What the result depends on. Not in it: threads, and what only watches. */
static json_t *configuration(const mm_train_opts *o, const mm_trainable *t, const stages_of_run *s)
{
    json_t *j = json_object(), *data = json_array();
    for (size_t i = 0; i < o->n_data; i++) json_array_append_new(data, json_string(o->data[i]));
    int bad = set(j, "family", text(t->family)) || set(j, "data", data) || set(j, "from", text(o->from)) || set(j, "config",
                                                                                                                text(o->config)) ||
              (o->few && set(j, "few_shot", text(fews[o->few]))) || set(j, "plan", text(o->plan)) ||
              set(j, "freeze", text(o->freeze)) || set(j, "lora", json_integer(o->lora)) ||
              set(j, "distil", text(o->distil)) || set(j, "loss", text(o->loss)) || set(j, "batch", text(o->batch)) ||
              set(j, "augment", json_real(o->augment)) || set(j, "seed", json_integer((json_int_t)o->seed)) ||
              set(j, "stages", stage_list(s)) || set(j, "accumulate", json_integer(o->accumulate)) || set(j, "wd", json_real(o->wd)) ||
              set(j, "clip", json_real(o->clip)) || set(j, "ema", json_real(o->ema)) || set(j, "blend", json_real(o->blend)) ||
              set(j, "precision", text(precisions[o->precision])) || set(j, "validate", text(o->validate)) || set(j, "patience", json_integer(o->patience)) ||
              (o->positions && set(j, "positions", text(o->positions))) || (o->connector && set(j, "connector", text(o->connector))) ||
              (o->start && set(j, "start", text(o->start))) || (o->direct && set(j, "direct", json_integer((json_int_t)o->direct))) ||
              (t->config && json_object_set(j, "model", t->config));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

static json_t *plan_of(const mm_train_opts *o, const mm_trainable *t, const stages_of_run *s, json_t *config)
{
    const mm_pset *ps = &t->ps;
    const size_t f = sizeof(float), weights = (ps->size_all + ps->size_lora) * f, grads = (ps->size + ps->size_lora) * f;
    const size_t rest = ps->size * f * (o->validate ? 4 : 3); /* two moments, the averages, the best */
    json_t *j = json_pack("{s:s,s:I,s:I,s:o,s:f,s:{s:I,s:I,s:I,s:o,s:I},s:O}", "family", t->family ? t->family : "", "parameters",
                          (json_int_t)ps->count, "trained", (json_int_t)ps->trained, "stages", stage_list(s),
                          s->by_time ? "seconds" : "steps", s->length, "memory", "weights", (json_int_t)weights, "gradients",
                              (json_int_t)grads,
                          "optimizer", (json_int_t)rest, "activations", o->dry_run ? json_null() : json_integer((json_int_t)t->activations), "total",
                          (json_int_t)(weights + grads + rest + t->activations), "config", config);
    if (j && t->facts) json_object_update_missing(j, t->facts);
    return j;
}

const char *mm_last_part(const char *path)
{
    for (const char *s = path; *s; s++)
        if (s[0] == '/' && s[1] && s[1] != '/') path = s + 1;
    return path;
}

json_t *mm_without_folders(const json_t *about)
{
    static const char *const keys[] = { "from", "distil", "config", "connector", "start" };
    json_t *j = json_deep_copy(about), *c = json_object_get(j, "config"), *v;
    size_t i;
    for (i = 0; i < sizeof keys / sizeof *keys; i++)
        if ((v = json_object_get(c, keys[i])) && json_is_string(v)) json_object_set_new(c, keys[i], json_string(mm_last_part(json_string_value(v))));
    json_t *data = json_object_get(c, "data");
    json_array_foreach(data, i, v) json_array_set_new(data, i, json_string(mm_last_part(json_string_value(v))));
    return j;
}

/* ---- the run ---- */

/* The family of the model that is begun with */
int mm_trainable_open(mm_trainable *out, const mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err)
{
    char *path;
    mm_store *st = NULL;
    const char *arch = "";
    if (o->connector) return mm_connector_trainable(out, o, hooks, err);
    if (o->config) return mm_uni_trainable(out, o, hooks, err);
    int r = mm_store_resolve(&path, o->from ? o->from : MM_STORE_DEFAULT, err);
    if (r) return r;
    r = mm_store_open(&st, path, err);
    if (!r && mm_store_is_gguf(st)) r = mm_store_kv_str(st, "general.architecture", "", &arch, err);
    const int text = !r && (mm_store_config(st) || !strcmp(arch, "bert"));
    mm_store_close(&st);
    free(path);
    if (text && o->few) return mm_fail(err, MM_EUNSUP, "option '--few-shot' is for unified models: a text encoder learns from '--pairs'");
    return r ? r : (text ? mm_text_trainable : mm_uni_trainable)(out, o, hooks, err);
}

static int check_few(const mm_train_opts *o, mm_err *err)
{
    const struct {
        const char *name;
        int given;
    } by_steps[] = { { "steps", o->steps > 0 }, { "minutes", o->minutes > 0 }, { "lr", o->lr != NULL }, { "schedule", o->schedule != NULL },
                     { "lora", o->lora > 0 }, { "freeze", o->freeze != NULL }, { "loss", o->loss != NULL }, { "batch", o->batch != NULL },
                     { "accumulate", o->accumulate > 0 }, { "augment", o->augment >= 0 }, { "ema", o->ema >= 0 },
                     { "stage", o->stage != MM_STAGE_DEFAULT }, { "validate", o->validate != NULL }, { "metrics", o->metrics != NULL } };
    if (o->few && o->config) return mm_fail(err, MM_EARG, "option '--few-shot' needs a model to begin with: not '--config'");
    if (o->few && (o->n_pairs || o->distil))
        return mm_fail(err, MM_EARG, "option '--few-shot' teaches no texts: options '--pairs' and '--distil' do not go with it");
    if (o->few == MM_FEW_FULL && o->lora) return mm_fail(err, MM_EARG, "option '--lora' goes with '--few-shot lora', not with 'full'");
    for (size_t i = 0; o->few == MM_FEW_PROTOTYPE && i < sizeof by_steps / sizeof *by_steps; i++)
        if (by_steps[i].given) return mm_fail(err, MM_EARG, "option '--%s' is about steps, and prototypes have none", by_steps[i].name);
    return 0;
}

/* What is to be read is there, what is to be written has a folder, and one is not the other. */
static int check_files(const mm_train_opts *o, mm_err *err)
{
    const char *slash = strrchr(o->output, '/');
    char *folder = slash ? strndup(o->output, (size_t)(slash - o->output) + 1) : NULL;
    const int nowhere = folder && access(folder, F_OK);
    free(folder);
    if (nowhere) return mm_fail_errno(err, "cannot write '%s'", o->output);
    for (size_t k = 0; k < o->n_data && !o->open; k++) /* another family's data may be anything */
        if (access(o->data[k], R_OK)) return mm_fail_errno(err, "cannot open '%s'", o->data[k]);
    const char *const out[] = { o->output, o->metrics, o->cache, o->plot }, *const names[] = { "output", "metrics", "cache", "plot" };
    for (size_t i = 0; i < 4; i++) {
        int same = out[i] && i != 2 && o->from && mm_same_file(out[i], o->from);
        for (size_t k = 0; k < o->n_data && out[i] && !same; k++) same = mm_same_file(out[i], o->data[k]);
        for (size_t k = 0; k < o->n_pairs && out[i] && !same; k++) same = mm_same_file(out[i], o->pairs[k]);
        if (same) return mm_fail(err, MM_EARG, "option '--%s': '%s' is what the run reads", names[i], out[i]);
    }
    return 0;
}

static int check(const mm_train_opts *o, mm_err *err)
{
    mm_train_lists l;
    if (!o->n_data && !o->n_pairs) return mm_fail(err, MM_EARG, "no data: option '--data' is needed");
    if (!o->output) return mm_fail(err, MM_EARG, "option '--output' is needed");
    if (o->from && o->config) return mm_fail(err, MM_EARG, "options '--from' and '--config' cannot be used together");
    if (o->start && !o->connector) return mm_fail(err, MM_EARG, "option '--start' goes with '--connector'");
    if (o->plan && !o->config) return mm_fail(err, MM_EARG,
                                              "option '--plan' goes with '--config': another model's weights have their plan");
    if (o->positions && !o->config) return mm_fail(err, MM_EARG,
                                                   "option '--positions' goes with '--config': another model's weights know their places");
    if (o->direct && !o->distil) return mm_fail(err, MM_EARG, "option '--direct' goes with '--distil': what goes past the trunk is solved for");
    if (o->patience && !o->validate) return mm_fail(err, MM_EARG, "option '--patience' goes with '--validate'");
    if (o->plot && !o->metrics) return mm_fail(err, MM_EARG, "option '--plot' goes with '--metrics'");
    if (o->precision < MM_KEEP_F32 || o->precision > MM_KEEP_F16 || o->threads < 1 || o->lora < 0 ||
        o->stage > MM_TRAIN_STAGES || o->few < MM_FEW_NONE || o->few > MM_FEW_FULL)
        return mm_fail(err, MM_EARG, "an option is out of range");
    int r = check_few(o, err);
    if (!r) r = check_files(o, err);
    if (!r && o->plot) r = mm_plot_check(o->plot, err);
    return r ? r : mm_train_lists_parse(&l, o, err);
}

/* What was left open, by what is to be done: with few examples a step sees all of them, and there are too few steps for averages. */
static mm_train_opts settled(const mm_train_opts *o)
{
    mm_train_opts s = *o;
    if (!s.accumulate) s.accumulate = s.few || s.connector ? 1 : 8;
    if (s.augment < 0) s.augment = 0.5;
    if (s.ema < 0) s.ema = s.few ? 0 : 0.995;
    if (s.few == MM_FEW_LORA && !s.lora) s.lora = 8;
    return s;
}

static int solve(const mm_train_opts *o, const mm_train_hooks *h, mm_trainable *t, const json_t *config, mm_train_result *result,
                 mm_err *err)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    int r = t->solve(t->task.arg, err);
    clock_gettime(CLOCK_MONOTONIC, &to);
    result->seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    if (r || (h->stop && *h->stop)) return r ? r : 1;
    json_t *about = json_pack("{s:O,s:i}", "config", (json_t *)config, "steps", 0);
    r = about ? t->task.save(t->task.arg, o->output, about, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    json_decref(about);
    return r;
}

static int train(const mm_train_opts *o, const mm_train_hooks *h, mm_trainable *t, const stages_of_run *s, const json_t *config,
                 mm_train_result *result, mm_err *err)
{
    mm_train_lists l;
    mm_trainer run = MM_TRAINER_INIT;
    mm_buf ckpt = { 0 };
    int r = mm_train_lists_parse(&l, o, err);
    if (!r && mm_buf_addf(&ckpt, "%s.ckpt", o->output)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) return r;
    run.ps = &t->ps;
    run.task = &t->task;
    run.optim.wd = (float)o->wd;
    run.optim.clip = (float)o->clip;
    run.optim.ema = (float)o->ema;
    run.optim.scaling = o->precision == MM_KEEP_F16;
    run.stage = s->stage;
    run.n_stages = s->n;
    run.by_time = s->by_time;
    run.accumulate = o->accumulate;
    run.threads = o->threads;
    run.validate_steps = l.validate_steps;
    run.validate_seconds = l.validate_seconds;
    run.patience = o->patience;
    run.output = o->output;
    run.checkpoint = ckpt.p;
    run.checkpoint_seconds = 60 * o->checkpoint;
    run.keep = o->keep ? o->keep : 1;
    run.keep_at_end = o->keep > 0;
    run.run = o->run;
    run.max_seconds = s->by_time ? 0 : 60 * o->minutes;
    run.config = config;
    run.metrics = o->metrics;
    run.stop = h->stop;
    run.progress = h->progress;
    run.say = h->say;
    run.arg = h->arg;
    r = mm_trainer_run(&run, result, err);
    mm_buf_clear(&ckpt);
    mm_err plot;
    if (r >= 0 && o->plot && mm_plot(o->plot, o->metrics, &plot) && h->say) h->say(h->arg, 1, plot.msg);
    return r;
}

int mm_train_run(const mm_train_opts *opts, const mm_train_hooks *hooks, json_t **plan, mm_train_result *result, mm_err *err)
{
    mm_trainable t = { .stage = MM_STAGE_ALL };
    stages_of_run s = { .n = 0 };
    json_t *config = NULL;
    *plan = NULL;
    *result = (mm_train_result){ 0 };
    int r = check(opts, err);
    const mm_train_opts own = settled(opts), *o = &own;
    if (!r) r = (o->open ? o->open : mm_trainable_open)(&t, o, hooks, err);
    if (!r && !t.solve) r = stages(&s, o, &t, err);
    if (!r && !(config = configuration(o, &t, &s))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && t.solve && !o->dry_run) r = solve(o, hooks, &t, config, result, err);
    if (r >= 0 && config && !(*plan = plan_of(o, &t, &s, config))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && !t.solve && !o->dry_run) {
        r = train(o, hooks, &t, &s, config, result, err);
        json_object_set_new(json_object_get(*plan, "memory"), "activations", json_integer((json_int_t)t.activations));
    }
    json_decref(config);
    mm_pset_clear(&t.ps);
    if (t.close) t.close(t.arg);
    json_decref(t.config);
    json_decref(t.facts);
    return r;
}

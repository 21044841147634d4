/* Connectors in mm-train: from options to two models, data and a task. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "train/connector_task.h"
#include "train/mm_uni_task.h"
#include "train/train_int.h"

static const int batches[MM_MODALITIES] = { [MM_IMAGE] = 32, [MM_AUDIO] = 16, [MM_VIDEO] = 4 };

typedef struct {
    const mm_train_opts *o;
    mm_trainable *told;
    mm_model *uni;
    mm_lm *lm;
    mm_connector *connector;
    mm_dataset *data;
    mm_batch_opts batch;
    mm_train_lists lists;
    mm_connector_task *task; /* NULL: a dry run */
} connector_run;

static const char *const loss_names[] = { "next-token" };

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static void close_run(void *arg)
{
    connector_run *x = arg;
    mm_connector_task_close(&x->task);
    mm_connector_close(&x->connector);
    mm_dataset_close(&x->data);
    mm_lm_close(&x->lm);
    mm_model_close(&x->uni);
    free(x);
}

/* ---- what the trainer calls ---- */

static int step(void *arg, mm_micro *m, mm_err *err)
{
    connector_run *x = arg;
    float loss;
    size_t seen;
    int r = mm_connector_task_step(x->task, m->step * m->n_micro + m->micro, m->scale, &loss, &seen, err);
    m->loss[0] = (double)loss;
    m->samples += (double)seen;
    x->told->activations = mm_connector_task_peak(x->task);
    return r;
}

static int validate(void *arg, uint64_t at, double *score, json_t *scores, mm_err *err)
{
    connector_run *x = arg;
    double each[MM_MODALITIES];
    int n = 0, r = mm_connector_task_validate(x->task, each, err);
    (void)at;
    *score = 0;
    for (int m = 0; m < MM_MODALITIES && !r; m++) {
        if (isnan(each[m])) continue;
        *score += each[m];
        n++;
        json_object_set_new(scores, mm_modality_name((mm_modality)m), json_real(each[m]));
    }
    if (!r && !n) return mm_fail(err, MM_EDATA, "nothing to validate with: no record has \"split\":\"val\"");
    *score /= n ? n : 1;
    return r;
}

static int save(void *arg, const char *path, const json_t *about, mm_err *err)
{
    connector_run *x = arg;
    json_t *told = mm_without_folders(about);
    char *text = told ? json_dumps(told, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    size_t n[MM_MODALITIES];
    unsigned mods = 0;
    mm_connector_task_counts(x->task, n);
    for (int m = 0; m < MM_MODALITIES; m++) mods |= n[m] ? 1u << m : 0;
    mm_connector_bind(x->connector); /* averaged weights may lie elsewhere */
    const int r = text ? mm_connector_write(x->connector, path, x->o->type, x->uni, x->lm, mods, text, err) : no_memory(err);
    free(text);
    json_decref(told);
    return r;
}

/* ---- opening ---- */

static int check(const connector_run *x, mm_err *err)
{
    const mm_train_opts *o = x->o;
    const struct {
        const char *name;
        int given;
    } others[] = { { "pairs", o->n_pairs > 0 }, { "distil", o->distil != NULL }, { "config", o->config != NULL }, { "direct", o->direct > 0 },
                   { "few-shot", o->few != MM_FEW_NONE }, { "stage", o->stage != MM_STAGE_DEFAULT }, { "loss", o->loss != NULL },
                   { "lora", o->lora > 0 }, { "blend", o->blend >= 0 } };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            return mm_fail(err, MM_EARG, "option '--%s' does not go with '--connector': all else than the connector stays as it is", others[i].name);
    if (!o->n_data) return mm_fail(err, MM_EARG, "option '--connector' learns from '--data'");
    return 0;
}

static int open_connector(connector_run *x, mm_err *err)
{
    const char *start = x->o->start;
    if (!start) return mm_connector_new(&x->connector, x->uni, x->lm, x->o->seed, err);
    int r = mm_connector_open(&x->connector, start, err);
    if (!r && (r = mm_connector_fits(x->connector, x->uni, x->lm, err))) mm_err_prefix(err, "'%s': ", start);
    return r ? mm_err_prefix(err, "option '--start': "), r : 0;
}

static int open_models(connector_run *x, mm_err *err)
{
    const mm_train_opts *o = x->o;
    mm_model_opts mo = MM_MODEL_OPTS_INIT;
    const mm_lm_opts lo = { .threads = o->threads, .kv_type = MM_F16, .plain = 1 };
    char *path = NULL, *lm = NULL;
    mo.threads = o->threads;
    int r = mm_store_resolve(&path, o->from ? o->from : MM_STORE_DEFAULT, err);
    if (!r) r = mm_store_resolve(&lm, o->connector, err);
    if (!r) r = mm_model_open(&x->uni, path, &mo, err);
    if (!r) r = mm_lm_open(&x->lm, lm, &lo, err);
    if (!r) r = open_connector(x, err);
    if (!r && !mm_lm_is_end(x->lm, mm_lm_eos(x->lm))) r = mm_fail(err, MM_EUNSUP, "'%s' says of no token that it ends a text", lm);
    free(path);
    free(lm);
    return r;
}

static int open_task(connector_run *x, const mm_train_hooks *hooks, mm_err *err)
{
    const mm_train_opts *o = x->o;
    const mm_uni_config *c = mm_uni_get_config(mm_model_uni(x->uni));
    int r = mm_uni_data_open(&x->data, c, o, hooks, err);
    if (r) return r;
    mm_batch_defaults(&x->batch);
    for (int m = 0; m < MM_MODALITIES; m++) {
        x->batch.count[m] = x->lists.batch[m] >= 0 ? (int)x->lists.batch[m] : batches[m];
        x->batch.augment[m].strength = (float)o->augment;
    }
    if (c->mod[MM_IMAGE].width) x->batch.px = (int)c->mod[MM_IMAGE].size;
    if (c->mod[MM_VIDEO].width) x->batch.video_px = (int)c->mod[MM_VIDEO].size;
    x->batch.max_frames = 240;
    const mm_connector_task_opts t = { .connector = x->connector, .uni = x->uni, .lm = x->lm, .data = x->data, .batch = &x->batch,
                                       .keep = (mm_keep)o->precision, .threads = o->threads, .seed = o->seed };
    return mm_connector_task_open(&x->task, &t, err);
}

static int make_set(connector_run *x, mm_pset *ps, mm_err *err)
{
    int r = 0;
    for (size_t i = 0; i < mm_connector_count(x->connector) && !r; i++) {
        mm_connector_slot *s = mm_connector_at(x->connector, i);
        r = mm_pset_add(ps, s->name, &s->p, s->matrix ? MM_PSET_DECAY : 0, 1, err);
    }
    if (!r && x->o->freeze) r = mm_pset_freeze(ps, x->o->freeze, err);
    if (!r) r = mm_pset_build(ps, err);
    if (!r) mm_connector_bind(x->connector);
    return r;
}

int mm_connector_trainable(mm_trainable *out, const mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err)
{
    connector_run *x = calloc(1, sizeof *x);
    if (!x) return no_memory(err);
    x->o = o;
    x->told = out;
    out->arg = out->task.arg = x;
    out->close = close_run;
    out->family = "connector";
    int r = mm_train_lists_parse(&x->lists, o, err);
    if (!r) r = check(x, err);
    if (!r) r = open_models(x, err);
    if (!r && !o->dry_run) r = open_task(x, hooks, err);
    if (!r) r = make_set(x, &out->ps, err);
    if (r) return r;
    size_t n[MM_MODALITIES] = { 0 };
    json_t *count = json_object();
    if (x->task) mm_connector_task_counts(x->task, n);
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) json_object_set_new(count, mm_modality_name((mm_modality)m), json_integer((json_int_t)n[m]));
    out->task.losses = loss_names;
    out->task.n_losses = 1;
    out->task.step = step;
    out->task.validate = validate;
    out->task.save = save;
    out->stage = 1;
    out->lr[0] = 2e-3;
    out->steps = 1000;
    out->facts = json_pack("{s:o}", "batch", count);
    out->config = json_pack("{s:s,s:s}", "sees", mm_model_fingerprint(x->uni), "decoder", mm_lm_fingerprint(x->lm));
    return out->facts && out->config ? 0 : no_memory(err);
}

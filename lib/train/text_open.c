/* Text encoders of the bert family in mm-train: from options to weights, pairs, a teacher and a task. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "train/mm_run.h"
#include "train/text_task.h"
#include "train/train_int.h"

enum { TEXTS = 64 };

typedef struct {
    const mm_train_opts *o;
    mm_trainable *told;
    mm_train_lists lists;
    mm_model *model, *teacher_model;
    mm_text_net *net;
    mm_pairs pairs;
    mm_teacher *teacher;
    float weight[MM_TEXT_LOSSES];
    size_t texts;
    float *first;      /* all numbers as they were; NULL: what is learned is written whole */
    size_t n_first;
    mm_text_task *task; /* NULL: a dry run */
} text_run;

static const char *const loss_names[] = { "distil", "infonce" };

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static void close_run(void *arg)
{
    text_run *x = arg;
    mm_text_task_close(&x->task);
    mm_teacher_close(&x->teacher);
    mm_text_net_free(&x->net);
    mm_model_close(&x->teacher_model);
    mm_model_close(&x->model);
    mm_pairs_clear(&x->pairs);
    free(x->first);
    free(x);
}

/* ---- options ---- */

static int check(text_run *x, mm_err *err)
{
    const mm_train_opts *o = x->o;
    const double *w = x->lists.loss;
    if (o->n_data) return mm_fail(err, MM_EARG, "option '--data' is the unified model's: a text encoder learns from '--pairs'");
    if (o->stage != MM_STAGE_DEFAULT) return mm_fail(err, MM_EARG, "option '--stage' is the unified model's: a text encoder has one");
    if (o->direct) return mm_fail(err, MM_EARG, "option '--direct' is the unified model's: a text encoder gives all its numbers itself");
    for (int i = 0; i < MM_LOSSES; i++)
        if (w[i] > 0 && i != MM_LOSS_DISTIL && i != MM_LOSS_INFONCE)
            return mm_fail(err, MM_EARG, "option '--loss': '%s' is the unified model's: a text encoder has distil and infonce", mm_train_loss_name(i));
    x->weight[MM_TEXT_DISTIL] = x->lists.has_loss ? isnan(w[MM_LOSS_DISTIL]) ? 0 : (float)w[MM_LOSS_DISTIL] : o->distil != NULL;
    x->weight[MM_TEXT_INFONCE] = x->lists.has_loss ? isnan(w[MM_LOSS_INFONCE]) ? 0 : (float)w[MM_LOSS_INFONCE] : !o->distil;
    if (x->weight[MM_TEXT_DISTIL] > 0 && !o->distil) return mm_fail(err, MM_EARG, "loss 'distil' needs option '--distil', the teacher");
    if (o->distil && !(x->weight[MM_TEXT_DISTIL] > 0)) return mm_fail(err, MM_EARG, "option '--distil' goes with loss 'distil'");
    x->texts = x->lists.batch[MM_TEXT] > 0 ? (size_t)x->lists.batch[MM_TEXT] : TEXTS;
    return 0;
}

/* ---- what the trainer calls ---- */

static int step(void *arg, mm_micro *m, mm_err *err)
{
    text_run *x = arg;
    float loss[MM_TEXT_LOSSES];
    int r = mm_text_task_step(x->task, m->step * m->n_micro + m->micro, m->scale, loss, err);
    for (int i = 0; i < MM_TEXT_LOSSES; i++) m->loss[i] = (double)loss[i];
    m->samples += (double)x->texts;
    x->told->activations = mm_text_task_peak(x->task);
    return r;
}

static int validate(void *arg, uint64_t at, double *score, json_t *scores, mm_err *err)
{
    text_run *x = arg;
    double each[MM_TEXT_LOSSES];
    int n = 0, r = mm_text_task_validate(x->task, each, err);
    (void)at;
    *score = 0;
    for (int i = 0; i < MM_TEXT_LOSSES && !r; i++) {
        if (isnan(each[i])) continue;
        *score += each[i];
        n++;
        json_object_set_new(scores, loss_names[i], json_real(each[i]));
    }
    if (!r && !n) return mm_fail(err, MM_EDATA, "nothing to validate with: of so few pairs none is kept out");
    *score /= n ? n : 1;
    return r;
}

/* Between the first weights and those of now; `own` takes what they were. */
static void put_between(text_run *x, float *own, float k)
{
    for (size_t i = 0, at = 0; i < mm_text_net_count(x->net); i++) {
        mm_param *p = &mm_text_net_at(x->net, i)->p;
        for (size_t e = 0; e < p->rows * p->cols; e++, at++) {
            own[at] = p->w[e];
            p->w[e] = x->first[at] + k * (p->w[e] - x->first[at]);
        }
    }
}

static void put_back(text_run *x, const float *own)
{
    for (size_t i = 0, n; i < mm_text_net_count(x->net); i++, own += n) {
        mm_param *p = &mm_text_net_at(x->net, i)->p;
        n = p->rows * p->cols;
        memcpy(p->w, own, n * sizeof *own);
    }
}

static int save(void *arg, const char *path, const json_t *about, mm_err *err)
{
    text_run *x = arg;
    json_t *told = mm_without_folders(about);
    char *text = told ? json_dumps(told, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    float *own = x->first ? mm_aligned(x->n_first, sizeof *own) : NULL;
    int r = text && (own || !x->first) ? 0 : no_memory(err);
    if (!r && own) put_between(x, own, (float)x->o->blend);
    if (!r) r = mm_text_net_write(x->net, path, x->o->type, text, err);
    if (own && text) put_back(x, own);
    free(own);
    free(text);
    json_decref(told);
    return r;
}

/* ---- opening ---- */

static int open_model(text_run *x, mm_err *err)
{
    mm_model_opts mo = MM_MODEL_OPTS_INIT;
    mm_store *st = NULL;
    char *path;
    mo.threads = x->o->threads;
    int r = mm_store_resolve(&path, x->o->from ? x->o->from : MM_STORE_DEFAULT, err);
    if (r) return r;
    r = mm_store_open(&st, path, err);
    if (!r && !mm_store_is_gguf(st))
        r = mm_fail(err, MM_EUNSUP, "'%s' is a folder: make one file of it first, with mm-quantize -t f32 -o FILE %s", path, path);
    mm_store_close(&st);
    if (!r) r = mm_model_open(&x->model, path, &mo, err);
    if (!r) r = mm_text_net_open(&x->net, x->model, err);
    free(path);
    return r;
}

static int keep_first(text_run *x, mm_err *err)
{
    for (size_t i = 0; i < mm_text_net_count(x->net); i++) {
        const mm_param *p = &mm_text_net_at(x->net, i)->p;
        x->n_first += p->rows * p->cols;
    }
    if (!(x->first = mm_aligned(x->n_first, sizeof *x->first))) return no_memory(err);
    float *to = x->first;
    for (size_t i = 0, n; i < mm_text_net_count(x->net); i++, to += n) {
        const mm_param *p = &mm_text_net_at(x->net, i)->p;
        n = p->rows * p->cols;
        memcpy(to, p->w, n * sizeof *to);
    }
    return 0;
}

static int open_task(text_run *x, const mm_train_hooks *h, mm_err *err)
{
    const mm_tower_config *c = mm_model_get_config(x->model, MM_TEXT);
    mm_text_task_opts t = { .net = x->net, .tok = mm_model_tokenizer(x->model), .window = (size_t)c->window, .pairs = &x->pairs, .teacher = x->teacher,
                            .texts = (int)x->texts, .keep = (mm_keep)x->o->precision, .threads = x->o->threads, .seed = x->o->seed,
                            .progress = h->work, .arg = h->arg };
    memcpy(t.weight, x->weight, sizeof t.weight);
    return mm_text_task_open(&x->task, &t, err);
}

static int make_set(text_run *x, mm_pset *ps, mm_err *err)
{
    int r = 0;
    for (size_t i = 0; i < mm_text_net_count(x->net) && !r; i++) {
        mm_text_slot *s = mm_text_net_at(x->net, i);
        r = mm_pset_add(ps, s->name, &s->p, s->matrix ? MM_PSET_DECAY : 0, 1, err);
    }
    if (!r && x->task && x->weight[MM_TEXT_INFONCE] > 0) r = mm_pset_add(ps, "logit_scale", mm_text_task_scale(x->task), 0, 1, err);
    if (!r && x->o->freeze) r = mm_pset_freeze(ps, x->o->freeze, err);
    if (!r && x->o->lora) {
        if (!x->o->freeze) r = mm_pset_freeze(ps, "*norm*,*_embd*,token_types*", err);
        if (!r) r = mm_pset_lora(ps, "*attn_qkv.weight,*attn_output.weight,*ffn_up.weight,*ffn_down.weight", x->o->lora, 2, x->o->seed, err);
    }
    if (!r) r = mm_pset_build(ps, err);
    if (!r) mm_text_net_bind(x->net);
    return r;
}

static json_t *config(const text_run *x)
{
    json_t *j = json_pack("{s:s,s:I}", "fingerprint", mm_model_fingerprint(x->model), "pairs", (json_int_t)x->pairs.n);
    if (j && x->teacher_model) json_object_set_new(j, "teacher", json_string(mm_model_fingerprint(x->teacher_model)));
    return j;
}

int mm_text_trainable(mm_trainable *out, const mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err)
{
    text_run *x = calloc(1, sizeof *x);
    if (!x) return no_memory(err);
    x->o = o;
    x->told = out;
    out->arg = out->task.arg = x;
    out->close = close_run;
    out->family = "bert";
    int r = mm_train_lists_parse(&x->lists, o, err);
    if (!r) r = check(x, err);
    if (!r) r = open_model(x, err);
    if (!r && !o->dry_run) r = mm_pairs_read_all(&x->pairs, o, err);
    if (!r && !o->dry_run && o->distil) r = mm_distil_open(&x->teacher_model, &x->teacher, o, err);
    if (!r && o->blend >= 0 && o->blend < 1) r = keep_first(x, err);
    if (!r && !o->dry_run) r = open_task(x, hooks, err);
    if (!r) r = make_set(x, &out->ps, err);
    if (r) return r;
    out->task.losses = loss_names;
    out->task.n_losses = MM_TEXT_LOSSES;
    out->task.step = step;
    out->task.validate = validate;
    out->task.save = save;
    out->stage = 1;
    out->lr[0] = o->distil ? 5e-4 : 5e-5; /* a pruned model has far to go, another one is to be kept */
    out->facts = json_pack("{s:{s:I}}", "batch", "text", (json_int_t)x->texts);
    out->config = config(x);
    return out->facts && out->config ? 0 : no_memory(err);
}

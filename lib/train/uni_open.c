/* The unified model in mm-train: from options to weights, data, a teacher and a task. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/mm_heads_task.h"
#include "train/mm_run.h"
#include "train/mm_uni_task.h"
#include "train/pairs.h"
#include "train/train_int.h"

/* The first stage is each modality towards the teacher alone, the second adds the model's own captions, the third whole records. */
static const double shares[MM_TRAIN_STAGES] = { 0.5, 0.3, 0.2 };
static const double rates[MM_TRAIN_STAGES] = { 1.2e-3, 1e-3, 6e-4 };
enum { FEW_BATCH = 128, FEW_WORDS = 2000 }; /* of few examples: all of them, up to so many; of words that stay where they are */
static const int batches[MM_MODALITIES] = { [MM_TEXT] = 64, [MM_IMAGE] = 64, [MM_AUDIO] = 32, [MM_VIDEO] = 4 };

typedef struct {
    const mm_train_opts *o;
    const mm_train_hooks *h;
    mm_trainable *told;    /* what the run knows of this */
    mm_store *source;      /* the model to begin with, or NULL */
    mm_uni *u;
    float *weights;        /* [n_weights] of all slots, before the set takes them: the first ones */
    size_t n_weights;
    mm_tok *tok;
    mm_buf tokenizer;
    mm_dataset *data;
    mm_batch_opts batch;
    mm_pairs pairs;
    mm_model *teacher_model;
    mm_teacher *teacher;
    mm_text_start start;
    mm_uni_task *task;    /* NULL: only heads are trained */
    mm_heads_task *heads; /* NULL: none is trained */
    float head_weight[MM_HEADS_LOSSES];
    mm_uni_weights weigh[MM_TRAIN_STAGES];
    mm_train_lists lists;
    mm_uni *bare;          /* the model without the prototypes that u has, or NULL */
    mm_few few[MM_MODALITIES];
} uni_run;

static const char *const loss_names[] = { "text", "image", "audio", "video", "next-token", "flow", "align" };
enum { LOSSES = sizeof loss_names / sizeof *loss_names };

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static void close_run(void *arg)
{
    uni_run *x = arg;
    mm_uni_task_close(&x->task);
    mm_heads_task_close(&x->heads);
    mm_text_start_clear(&x->start);
    mm_teacher_close(&x->teacher);
    mm_model_close(&x->teacher_model);
    mm_dataset_close(&x->data);
    mm_tok_free(&x->tok);
    mm_buf_clear(&x->tokenizer);
    mm_uni_free(&x->u);
    mm_uni_free(&x->bare);
    for (int m = 0; m < MM_MODALITIES; m++) mm_few_clear(&x->few[m]);
    mm_store_close(&x->source);
    mm_pairs_clear(&x->pairs);
    free(x->weights);
    free(x);
}

/* ---- the model ---- */

/* Whether the parts of records are to be weighed as they are alone. */
static int weighs(const uni_run *x) { return x->lists.loss[MM_LOSS_GATES] > 0; } /* NAN is not */

/* Records that others are validated with are no data of theirs. */
static int gates_alone(const uni_run *x, mm_err *err)
{
    int others = 0;
    for (int i = 0; i < MM_LOSSES; i++) others += i != MM_LOSS_GATES && x->lists.loss[i] > 0;
    return weighs(x) && others ? mm_fail(err, MM_EARG, "loss 'gates' goes alone: it learns from the records of split val") : 0;
}

/* Memory and starting values for all slots. */
static int give_memory(uni_run *x, mm_err *err)
{
    size_t all = 0, at = 0;
    for (size_t i = 0; i < mm_uni_count(x->u); i++) {
        const mm_param *p = &mm_uni_slot_at(x->u, i)->p;
        all += p->rows * p->cols;
    }
    x->n_weights = all;
    if (!(x->weights = mm_aligned(all, sizeof *x->weights))) return no_memory(err);
    for (size_t i = 0; i < mm_uni_count(x->u); i++) {
        mm_param *p = &mm_uni_slot_at(x->u, i)->p;
        p->w = x->weights + at;
        at += p->rows * p->cols;
    }
    mm_uni_bind(x->u);
    mm_uni_init(x->u, x->o->seed);
    return 0;
}

static int text_start(uni_run *x, int space_only, const mm_uni_config *c, mm_err *err)
{
    mm_text_start_opts so = MM_TEXT_START_OPTS_INIT;
    so.bpe.vocab = (size_t)c->vocab;
    so.dim = (size_t)(c->mod[MM_TEXT].width + c->mod[MM_TEXT].direct);
    so.space_only = space_only;
    so.tokenizer = x->tokenizer.len ? &x->tokenizer : NULL;
    so.space = x->pairs.first;
    so.threads = x->o->threads;
    so.progress = x->h->work;
    so.arg = x->h->arg;
    return mm_text_start_make(&x->start, x->teacher, x->pairs.p, x->pairs.n, &so, err);
}

/* Heads that are to be trained and that the model has not, all their parts their own where the plan says nothing. */
static void with_heads(uni_run *x, mm_uni_config *c)
{
    const double *w = x->lists.loss, joint = x->lists.has_loss && w[MM_LOSS_JOINT] > 0 ? w[MM_LOSS_JOINT] : 0;
    static const int losses[] = { MM_LOSS_NEXT_TOKEN, MM_LOSS_FLOW, MM_LOSS_ALIGN };
    static const double part[] = { 0.6, 0.3, 0.1 };
    for (int i = 0; i < MM_HEADS_LOSSES; i++)
        x->head_weight[i] = (float)((x->lists.has_loss && w[losses[i]] > 0 ? w[losses[i]] : 0) + part[i] * joint);
    if (x->head_weight[MM_HEADS_NEXT] > 0 && !c->next) {
        c->next = 1;
        if (!x->o->plan || !strstr(x->o->plan, "next.")) mm_uni_plan_head(c, MM_UNI_NEXT);
    }
    if ((x->head_weight[MM_HEADS_FLOW] > 0 || x->head_weight[MM_HEADS_ALIGN] > 0) && !c->patch) {
        c->patch = 16;
        if (!x->o->plan || !strstr(x->o->plan, "flow.")) mm_uni_plan_head(c, MM_UNI_FLOW);
    }
}

/* A table of tokens begins as columns of the solved one, from number `at` on. */
static void start_table(uni_run *x, const char *name, int64_t at, float scale)
{
    mm_uni_slot *s = mm_uni_slot_find(x->u, name);
    const size_t n = s->p.rows < x->start.vocab ? s->p.rows : x->start.vocab, cols = s->p.cols;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < cols; k++) s->p.w[i * cols + k] = scale * x->start.table[i * x->start.dim + (size_t)at + k];
}

/* Of a number of a token, what arrives at its place in the output by entry, gate and projection: the mean over these numbers. */
static float passes(const uni_run *x)
{
    const mm_param *proj = &mm_uni_slot_find(x->u, "proj.weight")->p, *entry = &mm_uni_slot_find(x->u, "text.entry.weight")->p;
    const mm_param *gate = &mm_uni_slot_find(x->u, "gate.weight")->p, *ident = &mm_uni_slot_find(x->u, "text.ident")->p;
    const float *bias = mm_uni_slot_find(x->u, "gate.bias")->p.w;
    double sum = 0;
    for (size_t c = 0; c < gate->rows; c++) {
        double open = bias[c], through = 0;
        for (size_t k = 0; k < gate->cols; k++) open += (double)gate->w[c * gate->cols + k] * (double)ident->w[k];
        for (size_t i = 0; i < entry->cols; i++) through += (double)proj->w[i * proj->cols + c] * (double)entry->w[c * entry->cols + i];
        sum += through / (1 + exp(-open));
    }
    return (float)(sum / (double)entry->cols);
}

static int from_file(uni_run *x, mm_err *err)
{
    mm_uni_config c;
    int fresh = 0; /* direct numbers that are to be solved for */
    const char *arch, *json;
    char *path;
    int r = mm_store_resolve(&path, x->o->from ? x->o->from : "default", err);
    if (r) return r;
    r = mm_store_open(&x->source, path, err);
    if (!r) r = mm_store_kv_str(x->source, "general.architecture", "", &arch, err);
    if (!r && strcmp(arch, "mm-uni")) r = mm_fail(err, MM_EUNSUP, "'%s' is no unified model: it is not trained here", path);
    if (!r) r = mm_uni_config_read(&c, x->source, err);
    for (int m = 0; m < MM_MODALITIES && !r; m++)
        if (c.mod[m].few)
            r = mm_fail(err, MM_EUNSUP, "'%s' has prototypes, which nothing is learned through: train the model that it was made from", path);
    if (!r && x->o->direct && x->o->direct != c.mod[MM_TEXT].direct) {
        if (!c.mod[MM_TEXT].width) r = mm_fail(err, MM_EARG, "option '--direct': '%s' takes no texts", path);
        else if (c.mod[MM_TEXT].direct)
            r = mm_fail(err, MM_EARG, "option '--direct': '%s' has %lld already", path, (long long)c.mod[MM_TEXT].direct);
        c.mod[MM_TEXT].direct = x->o->direct;
        fresh = 1;
    }
    if (!r) with_heads(x, &c);
    if (!r) r = mm_store_kv_str(x->source, "tokenizer.huggingface.json", "", &json, err);
    if (!r && mm_buf_adds(&x->tokenizer, json)) r = no_memory(err);
    if (!r && c.mod[MM_TEXT].width) r = mm_tok_from_json(&x->tok, x->tokenizer.p, x->tokenizer.len, err);
    if (!r && weighs(x)) c.apart = 1;
    if (!r) r = mm_uni_new(&x->u, &c, err);
    if (!r) r = give_memory(x, err);
    if (!r) r = mm_uni_read(x->u, x->source, err);
    if (!r && x->o->distil && !x->o->n_pairs)
        r = mm_fail(err, MM_EARG, "option '--distil' needs '--pairs', those that '%s' was made with: they say how the teacher's space was turned", path);
    if (!r && x->o->distil && !x->o->dry_run) r = text_start(x, !fresh, &c, err);
    if (!r && fresh && x->start.table) start_table(x, "token_direct.weight", c.mod[MM_TEXT].width, passes(x));
    free(path);
    return r;
}

/* From nothing: tokenizer and token table in closed form from the pairs and the teacher. */
static int from_config(uni_run *x, mm_err *err)
{
    mm_uni_config c;
    int r = mm_uni_config_named(&c, x->o->config, err);
    if (!r && x->o->plan) r = mm_uni_plan(&c, x->o->plan, err);
    if (!r && x->o->positions) r = mm_uni_positions_set(&c, x->o->positions, err);
    if (!r && x->o->direct) c.mod[MM_TEXT].direct = x->o->direct;
    if (!r) with_heads(x, &c);
    if (!r && !x->o->dry_run && !(x->o->n_pairs && x->o->distil))
        r = mm_fail(err, MM_EARG, "a model from nothing needs '--pairs' and '--distil': its text side begins with a teacher's vectors");
    if (!r && !x->o->dry_run) {
        r = text_start(x, 0, &c, err);
        if (!r && mm_buf_add(&x->tokenizer, x->start.tokenizer.p, x->start.tokenizer.len)) r = no_memory(err);
        if (!r) r = mm_tok_from_json(&x->tok, x->tokenizer.p, x->tokenizer.len, err);
        if (!r) c.vocab = (int64_t)mm_tok_vocab(x->tok);
    }
    if (!r && weighs(x)) c.apart = 1;
    if (!r) r = mm_uni_new(&x->u, &c, err);
    if (!r) r = give_memory(x, err);
    if (r || !x->start.table) return r;
    start_table(x, "token_embd.weight", 0, 1);
    if (c.mod[MM_TEXT].direct) start_table(x, "token_direct.weight", c.mod[MM_TEXT].width, passes(x));
    return 0;
}

/* ---- data ---- */

static float named_or(const uni_run *x, int loss, float dflt)
{
    if (!x->lists.has_loss) return dflt;
    return isnan(x->lists.loss[loss]) ? 0 : (float)x->lists.loss[loss];
}

/* A model goes on where it was: the scale of its cosines, and with a teacher the space that it was turned to. */
static int go_on(uni_run *x, mm_err *err)
{
    const char *scale, *name;
    double cosine = 1;
    int r = mm_store_kv_str(x->source, "mm-uni.logit_scale", "", &scale, err);
    double s = r ? 0 : strtod(scale, NULL);
    for (int m = 0; s > 0 && m < MM_MODALITIES; m++) *mm_uni_task_param(x->task, (size_t)m, &name)->w = (float)log(s);
    if (!r && x->teacher) r = mm_uni_task_text_cosine(x->task, x->pairs.first, &cosine, err);
    if (!r && isnan(cosine))
        r = mm_fail(err, MM_EDATA, "'%s' has too few pairs to compare the teacher's vectors with the model's: 1 in 100 is for that", x->o->pairs[0]);
    if (!r && !(cosine > 0.25))
        r = mm_fail(err, MM_EDATA, "the teacher's vectors have a cosine of %.2f with the model's: '%s' was made with other pairs, or another teacher", cosine,
                    x->o->from ? x->o->from : "default");
    return r;
}

static int trains_heads(const uni_run *x)
{
    return x->head_weight[MM_HEADS_NEXT] > 0 || x->head_weight[MM_HEADS_FLOW] > 0 || x->head_weight[MM_HEADS_ALIGN] > 0;
}

/* No loss is named but those of heads: then nothing else changes, and the model's vectors stay what they are. */
static int heads_alone(const uni_run *x)
{
    int others = 0;
    for (int i = 0; i < MM_LOSS_NEXT_TOKEN; i++) others |= x->lists.loss[i] > 0;
    return trains_heads(x) && !others;
}

/* Examples of a modality to learn from. */
static size_t labelled(const uni_run *x, mm_modality m)
{
    const mm_example *e;
    size_t n = 0;
    for (size_t i = 0; m != MM_TEXT && x->data && (e = mm_dataset_example(x->data, i)); i++) n += e->split == MM_TRAIN && e->item[m] >= 0;
    return n;
}

static int open_task(uni_run *x, mm_err *err)
{
    const mm_uni_config *c = mm_uni_get_config(x->u);
    mm_uni_task_opts t = MM_UNI_TASK_OPTS_INIT;
    int count[MM_MODALITIES];
    const int few = x->o->few != MM_FEW_NONE;
    for (int i = 0; i < MM_TRAIN_STAGES; i++)
        x->weigh[i] = (mm_uni_weights){ .distil = named_or(x, MM_LOSS_DISTIL, few ? 2 : 1), .bank = named_or(x, MM_LOSS_BANK, 1),
                                        .infonce = named_or(x, MM_LOSS_INFONCE, i && !few ? 0.3f : 0), .sigmoid = named_or(x, MM_LOSS_SIGMOID, 0),
                                        .fused = named_or(x, MM_LOSS_FUSED, i == 2 ? 0.5f : 0) + named_or(x, MM_LOSS_GATES, 0) };
    for (int m = 0; m < MM_MODALITIES; m++) {
        const size_t all = few && m != MM_TEXT ? labelled(x, (mm_modality)m) : (size_t)batches[m];
        count[m] = x->lists.batch[m] >= 0 ? (int)x->lists.batch[m] : all < FEW_BATCH ? (int)all : FEW_BATCH;
    }
    mm_batch_defaults(&x->batch);
    for (int m = 0; m < MM_MODALITIES; m++) {
        x->batch.count[m] = count[m];
        x->batch.augment[m].strength = (float)x->o->augment;
        if (few) x->batch.augment[m].flip = 0; /* a digit or a sign is not what it is in a mirror */
    }
    if (c->mod[MM_IMAGE].width) x->batch.px = (int)c->mod[MM_IMAGE].size;
    if (c->mod[MM_VIDEO].width) x->batch.video_px = (int)c->mod[MM_VIDEO].size;
    x->batch.max_frames = 240;
    /* what the trunk was trained on it knows better than anything that will come: a part's worth shows in what is kept back */
    if (weighs(x)) x->batch.split = MM_VAL;
    t.model = x->u;
    t.tok = x->tok;
    t.data = x->data;
    t.batch = &x->batch;
    t.pairs = x->pairs.p;
    t.n_pairs = x->pairs.n;
    t.texts = count[MM_TEXT];
    t.teacher = x->teacher;
    t.pca = x->teacher ? &x->start.pca : NULL;
    t.weight = x->weigh[MM_TRAIN_STAGES - 1]; /* what any stage needs */
    t.weight.infonce += x->weigh[1].infonce;
    if (few) t.soft = 0; /* new classes may have names that are much alike */
    t.keep = (mm_keep)x->o->precision;
    t.threads = x->o->threads;
    t.seed = x->o->seed;
    t.progress = x->h->work;
    t.arg = x->h->arg;
    if (trains_heads(x)) {
        mm_heads_task_opts h = { .model = x->u, .tok = x->tok, .data = x->data, .batch = &x->batch, .pairs = x->pairs.p, .n_pairs = x->pairs.n,
                                 .texts = count[MM_TEXT], .keep = t.keep, .threads = t.threads, .seed = t.seed };
        memcpy(h.weight, x->head_weight, sizeof h.weight);
        int r = mm_heads_task_open(&x->heads, &h, err);
        if (r || heads_alone(x)) return r;
    }
    int r = 0;
    if (x->pairs.n && !x->teacher) return mm_fail(err, MM_EARG, "pairs of texts are trained on with a teacher");
    if (few && x->o->few != MM_FEW_PROTOTYPE)
        r = mm_pairs_known(&x->pairs, x->data, x->tok, FEW_WORDS, err);
    t.pairs = x->pairs.p;
    t.n_pairs = x->pairs.n;
    if (!r) r = mm_uni_task_open(&x->task, &t, err);
    if (r == MM_EEMPTY && few) return mm_fail(err, MM_EDATA, "no example has a picture, sound or clip and an English label");
    if (r) return r;
    mm_uni_task_weigh(x->task, &x->weigh[0]);
    return x->source ? go_on(x, err) : 0;
}

/* ---- what the trainer calls ---- */

static int step_heads(uni_run *x, mm_micro *m, size_t *seen, mm_err *err)
{
    float loss[MM_HEADS_LOSSES];
    int r = mm_heads_task_step(x->heads, m->step * m->n_micro + m->micro, m->scale, loss, seen, err);
    for (int i = 0; i < MM_HEADS_LOSSES; i++) m->loss[MM_MODALITIES + i] = (double)loss[i];
    m->samples += (double)*seen;
    return r;
}

static int step(void *arg, mm_micro *m, mm_err *err)
{
    uni_run *x = arg;
    float loss[MM_MODALITIES];
    size_t n[MM_MODALITIES], seen;
    int r = x->heads ? step_heads(x, m, &seen, err) : 0;
    x->told->activations = x->heads ? mm_heads_task_peak(x->heads) : 0;
    if (r || !x->task) return r;
    r = mm_uni_task_step(x->task, m->step * m->n_micro + m->micro, m->scale, loss, err);
    if (x->told->activations < mm_uni_task_peak(x->task)) x->told->activations = mm_uni_task_peak(x->task);
    mm_uni_task_counts(x->task, n);
    for (int i = 0; i < MM_MODALITIES; i++) {
        m->loss[i] = (double)loss[i];
        if (!isnan(loss[i])) m->samples += (double)n[i];
    }
    return r;
}

static int validate(void *arg, uint64_t at, double *score, json_t *scores, mm_err *err)
{
    uni_run *x = arg;
    double each[LOSSES];
    int heads = 0, r = 0;
    (void)at;
    for (int i = 0; i < LOSSES; i++) each[i] = NAN;
    *score = 0;
    if (x->task) r = mm_uni_task_validate(x->task, MM_VAL, each, score, err);
    if (!r && x->heads) r = mm_heads_task_validate(x->heads, each + MM_MODALITIES, err);
    for (int i = MM_MODALITIES; i < LOSSES && !r && !x->task; i++)
        if (!isnan(each[i]) && x->head_weight[i - MM_MODALITIES] > 0) *score += each[i], heads++;
    if (!x->task) *score = heads ? *score / heads : NAN;
    for (int m = 0; m < LOSSES && !r; m++)
        if (!isnan(each[m])) json_object_set_new(scores, loss_names[m], json_real(each[m]));
    return !r && isnan(*score) ? mm_fail(err, MM_EDATA, "nothing to validate with: too few records of \"split\":\"val\" for what is trained") : r;
}

static int stage(void *arg, unsigned id, int begin, mm_err *err)
{
    uni_run *x = arg;
    (void)begin;
    (void)err;
    if (x->task) mm_uni_task_weigh(x->task, &x->weigh[id - 1]); /* 1 .. 3 */
    return 0;
}

/* Fine-tuning that goes half of its way forgets half as much of the rest and keeps two thirds of what it learned (arXiv 2109.01903 has 0.5 too). */
static double blend(const uni_run *x)
{
    return x->o->blend >= 0 ? x->o->blend : x->o->config ? 1 : x->o->few == MM_FEW_PROTOTYPE ? 0.6 : x->o->few ? 0.7 : 0.5;
}

/* Between the first weights and those of now; what they were goes to `own`, and comes back from there with put_back(). */
static void put_between(uni_run *x, float *own, float k)
{
    size_t at = 0;
    for (size_t i = 0; i < mm_uni_count(x->u); i++) {
        const mm_uni_slot *s = mm_uni_slot_at(x->u, i);
        const mm_param *p = &s->p;
        const float share = s->mods & MM_UNI_MODALITIES ? k : 1; /* a head begins with nothing to be forgotten */
        for (size_t e = 0; e < p->rows * p->cols; e++, at++) {
            own[at] = p->w[e];
            p->w[e] = x->weights[at] + share * (p->w[e] - x->weights[at]);
        }
    }
}

static void put_back(uni_run *x, const float *own)
{
    for (size_t i = 0, n; i < mm_uni_count(x->u); i++, own += n) {
        mm_param *p = &mm_uni_slot_at(x->u, i)->p;
        n = p->rows * p->cols;
        memcpy(p->w, own, n * sizeof *own);
    }
}

/* The model that is written has prototypes. */
static int solve(void *arg, mm_err *err)
{
    uni_run *x = arg;
    int r = 0;
    for (int m = 0; m < MM_MODALITIES && !r; m++) {
        r = mm_uni_task_few(x->task, (mm_modality)m, blend(x), &x->few[m], err);
        x->told->ps.trained += 2 * x->few[m].n * x->few[m].dim;
    }
    x->bare = x->u;
    x->u = NULL;
    return r ? r : mm_uni_with_few(&x->u, x->bare, x->few, err);
}

static int scale_of(const uni_run *x, char *to, size_t size, mm_err *err)
{
    const char *text;
    if (x->task) return snprintf(to, size, "%.6g", exp((double)*mm_uni_task_param(x->task, MM_IMAGE, &text)->w)), 0;
    int r = mm_store_kv_str(x->source, "mm-uni.logit_scale", "", &text, err);
    if (!r) snprintf(to, size, "%s", text);
    return r;
}

static int save(void *arg, const char *path, const json_t *about, mm_err *err)
{
    uni_run *x = arg;
    json_t *keys = json_object(), *told = mm_without_folders(about);
    char *text = json_dumps(told, JSON_COMPACT | JSON_SORT_KEYS), scale[32];
    const double k = x->bare ? 1 : blend(x);
    float *own = k < 1 ? mm_aligned(x->n_weights, sizeof *own) : NULL;
    int r = scale_of(x, scale, sizeof scale, err);
    if (!r && (!keys || !text || (!own && k < 1))) r = no_memory(err);
    if (!r) {
        if (own) put_between(x, own, (float)k);
        json_object_set_new(keys, "mm-uni.logit_scale", json_string(scale));
        json_object_set_new(keys, "mm-uni.training", json_string(text));
        r = mm_uni_write(x->u, path, x->o->type, NULL, x->tokenizer.p, x->tokenizer.len, keys, err);
        if (own) put_back(x, own);
    }
    free(own);
    json_decref(keys);
    json_decref(told);
    free(text);
    return r;
}

/* ---- opening ---- */

/* Factor of the learning rate. The text side begins in closed form, where the pictures' and sounds' trunk would pull it away: what is its own
 * moves slowly, and so does the projection that its vectors leave by. Rows of rare tokens would move far by few gradients. */
static float pace(const char *name)
{
    static const struct {
        const char *names;
        float pace;
    } slow[] = { { "token_*", 0.05f }, { "text.*_scale", 0.1f }, { "text.*,proj.weight", 0.3f } };
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++)
        if (mm_name_match(slow[i].names, name)) return slow[i].pace;
    return 1;
}

/* Encoders where heads alone are trained, and a head that no loss is of: it would only decay. */
static int rests(const uni_run *x, const mm_uni_slot *s)
{
    const float *w = x->head_weight;
    if (s->mods & MM_UNI_MODALITIES) return heads_alone(x);
    return s->mods >> MM_UNI_NEXT & 1 ? !(w[MM_HEADS_NEXT] > 0) : !(w[MM_HEADS_FLOW] > 0 || w[MM_HEADS_ALIGN] > 0);
}

/* With few examples: bits of the modalities that learn from them. 0: there is no such limit. */
static unsigned learners(const uni_run *x)
{
    unsigned mods = 0;
    if (!x->o->few || x->o->freeze) return 0;
    for (int m = 0; m < MM_MODALITIES; m++) mods |= labelled(x, (mm_modality)m) ? 1u << m : 0;
    return mods ? mods : 1u << MM_IMAGE; /* --dry-run has no data */
}

/* What is no part of theirs would only decay; so would the weights of records' parts. */
static int not_learned(const mm_uni_slot *s, unsigned mods) { return mods && (!(s->mods & mods) || mm_name_match("alloc*,*attn_alloc", s->name)); }

static int make_set(uni_run *x, mm_pset *ps, mm_err *err)
{
    const unsigned mods = learners(x);
    int r = 0;
    for (size_t i = 0; i < mm_uni_count(x->u) && !r; i++) {
        mm_uni_slot *s = mm_uni_slot_at(x->u, i);
        r = mm_pset_add(ps, s->name, &s->p, s->decay ? MM_PSET_DECAY : 0, pace(s->name), err);
    }
    for (size_t i = 0; x->task && i < mm_uni_task_params(x->task) && !r; i++) {
        const char *name;
        mm_param *p = mm_uni_task_param(x->task, i, &name);
        r = mm_pset_add(ps, name, p, 0, 1, err);
    }
    for (size_t i = 0; i < mm_uni_count(x->u) && !r; i++) {
        const mm_uni_slot *s = mm_uni_slot_at(x->u, i);
        if (rests(x, s) || not_learned(s, mods)) r = mm_pset_freeze(ps, s->name, err);
    }
    if (!r && x->o->freeze) r = mm_pset_freeze(ps, x->o->freeze, err);
    if (!r && x->o->lora) {
        if (!x->o->freeze) r = mm_pset_freeze(ps, "*norm*,token_*,*stem*,gate*,shift*,*ident,alloc*", err);
        if (!r) r = mm_pset_lora(ps, "*attn_qkv.weight,*attn_output.weight,*ffn_up.weight,*ffn_down.weight", x->o->lora, 2, x->o->seed, err);
    }
    if (!r) r = mm_pset_build(ps, err);
    if (!r) mm_uni_bind(x->u);
    return r;
}

static json_t *facts(const uni_run *x)
{
    json_t *j = json_object(), *shared = json_object(), *n = json_object();
    size_t count[MM_MODALITIES];
    for (int m = 0; m < MM_MODALITIES; m++) {
        size_t total, some;
        if (!mm_uni_get_config(x->u)->mod[m].width) continue;
        mm_uni_share(x->u, (mm_modality)m, &total, &some);
        json_object_set_new(shared, loss_names[m], json_real(round(10000.0 * (double)some / (double)total) / 100));
    }
    json_object_set_new(j, "shared", shared);
    if (x->task) {
        mm_uni_task_counts(x->task, count);
        for (int m = 0; m < MM_MODALITIES; m++) json_object_set_new(n, loss_names[m], json_integer((json_int_t)count[m]));
    }
    json_object_set_new(j, "batch", n);
    return j;
}

/* The model that this one begins with, and how that was made. */
static json_t *made_from(const uni_run *x)
{
    mm_err err = { 0 };
    const char *text;
    json_t *j = json_object(), *training = NULL;
    json_object_set_new(j, "name", json_string(x->o->from ? mm_last_part(x->o->from) : "default"));
    if (!mm_store_kv_str(x->source, "mm-uni.training", "", &text, &err) && text[0]) training = mm_json_load(text, strlen(text), "", &err);
    if (training) json_object_set_new(j, "training", training);
    return j;
}

static json_t *config(const uni_run *x)
{
    json_t *j = json_object(), *data = json_array();
    mm_dataset_facts f = { 0 };
    json_object_set_new(j, "uni", mm_uni_config_json(mm_uni_get_config(x->u)));
    if (x->source) json_object_set_new(j, "from", made_from(x));
    for (size_t i = 0; x->data && mm_dataset_set(x->data, i); i++) json_array_append_new(data, json_string(mm_dataset_set(x->data, i)));
    json_object_set_new(j, "sets", data);
    if (x->data) {
        mm_dataset_facts_get(x->data, &f);
        json_object_set_new(j, "examples", json_integer((json_int_t)f.examples));
    }
    json_object_set_new(j, "pairs", json_integer((json_int_t)x->pairs.n));
    if (x->teacher_model) {
        json_object_set_new(j, "teacher", json_string(mm_model_fingerprint(x->teacher_model)));
        json_object_set_new(j, "space", json_integer((json_int_t)x->pairs.first));
    }
    return j;
}

/* --validate needs something to find among more than ten others, or texts that were kept out; said before a run, not after it. */
static int check_validation(const uni_run *x, mm_err *err)
{
    if (!x->o->validate || x->o->dry_run || x->pairs.n || !x->data || heads_alone(x)) return 0;
    const mm_example *e;
    size_t most = 0;
    for (size_t s = 0; mm_dataset_set(x->data, s); s++)
        for (int m = MM_IMAGE; m < MM_MODALITIES; m++) {
            size_t n = 0;
            for (size_t i = 0; (e = mm_dataset_example(x->data, i)); i++) n += e->set == s && e->split == MM_VAL && e->item[m] >= 0;
            if (n > most) most = n;
        }
    if (most > MM_VALIDATE_LEAST) return 0;
    return mm_fail(err, MM_EDATA, "nothing to validate with: no data set has more than %d records of \"split\":\"val\" with a picture, sound "
                                  "or clip (%zu at most)", MM_VALIDATE_LEAST, most);
}

int mm_uni_trainable(mm_trainable *out, const mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err)
{
    uni_run *x = calloc(1, sizeof *x);
    if (!x) return no_memory(err);
    x->o = o;
    x->h = hooks;
    x->told = out;
    out->arg = out->task.arg = x;
    out->close = close_run;
    out->family = "uni";
    int r = mm_train_lists_parse(&x->lists, o, err);
    if (!r) r = gates_alone(x, err);
    if (!r && !o->dry_run) r = mm_pairs_read_all(&x->pairs, o, err);
    if (!r && o->distil && !o->dry_run) r = mm_distil_open(&x->teacher_model, &x->teacher, o, err);
    if (!r) r = o->config ? from_config(x, err) : from_file(x, err);
    if (!r && !o->dry_run && o->n_data) r = mm_uni_data_open(&x->data, mm_uni_get_config(x->u), o, hooks, err);
    if (!r) r = check_validation(x, err);
    if (!r && !o->dry_run) r = open_task(x, err);
    if (!r && o->few == MM_FEW_PROTOTYPE) {
        out->solve = solve;
        out->ps.count = x->n_weights;
    } else if (!r) r = make_set(x, &out->ps, err);
    if (r) return r;
    out->task.losses = loss_names;
    out->task.n_losses = LOSSES;
    out->task.step = step;
    out->task.validate = validate;
    out->task.stage = stage;
    out->task.save = save;
    for (int i = 0; i < MM_TRAIN_STAGES; i++) {
        out->share[i] = shares[i];
        out->lr[i] = o->config ? rates[i] : o->few == MM_FEW_LORA ? 3e-3 : o->few ? 5e-4 : rates[i] / 4; /* what is there already is to be kept */
    }
    out->stage = o->config ? MM_STAGE_ALL : 2;
    out->steps = o->config ? 20000 : o->few ? 40 : 100;
    out->facts = facts(x);
    out->config = config(x);
    return out->facts && out->config ? 0 : no_memory(err);
}

/* One training step of the unified model's heads, and their scores. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "train/captioned.h"
#include "train/mm_heads_task.h"
#include "train/mm_uni_task.h"

enum { STREAM_FLOW = 0x666c, STREAM_PAIR = 0x7072 };
enum { LONGEST = 48 };      /* tokens of a text that is written */
enum { VAL_BATCHES = 6 };
#define NO_PROMPT 0.1f
#define NEAREST 0.05f       /* the least 1 - t that an error is divided by */

struct mm_heads_task {
    mm_heads_task_opts o;
    mm_captioned train, val;
    mm_id_lists from, to; /* of the pairs */
    double *sum[2];       /* [n_pairs + 1] weights so far: of those that are trained on, of those kept out; NULL: none */
    mm_arena arena, batch;
    mm_tape *tape;
};

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static int open_part(mm_heads_task *t, mm_captioned *p, mm_split split, mm_err *err)
{
    const mm_uni_config *c = mm_uni_get_config(t->o.model);
    mm_captioned_opts o = { .data = t->o.data, .batch = t->o.batch, .seed = t->o.seed, .split = split, .tok = t->o.tok, .flags = MM_TOK_SPECIAL,
                            .longest = LONGEST };
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++)
        if (c->mod[m].width && (m == MM_IMAGE || t->o.weight[MM_HEADS_NEXT] > 0)) o.mods |= 1u << m;
    return mm_captioned_open(p, &o, err);
}

static int open_pairs(mm_heads_task *t, mm_err *err)
{
    size_t n = t->o.n_pairs;
    mm_slice *text = mm_realloc(NULL, n, sizeof *text);
    int r = text ? 0 : no_memory(err);
    for (int val = 0; val < 2 && !r; val++) {
        double *sum = t->sum[val] = mm_realloc(NULL, n + 1, sizeof *sum);
        if (!sum) return free(text), no_memory(err);
        sum[0] = 0;
        for (size_t i = 0; i < n; i++) sum[i + 1] = sum[i] + (mm_text_pair_kept_out(&t->o.pairs[i]) == val ? t->o.pairs[i].weight : 0);
        if (sum[n] > 0) continue;
        free(sum);
        t->sum[val] = NULL;
        if (!val) r = mm_fail(err, MM_EARG, "no pair of texts has a weight");
    }
    for (size_t i = 0; i < n && !r; i++) text[i] = (mm_slice){ t->o.pairs[i].text, t->o.pairs[i].len };
    if (!r) r = mm_tokenize(t->o.tok, MM_TOK_SPECIAL, (size_t)mm_uni_get_config(t->o.model)->window, text, n, &t->from, err);
    for (size_t i = 0; i < n && !r; i++) text[i] = (mm_slice){ t->o.pairs[i].en, t->o.pairs[i].en_len };
    if (!r) r = mm_tokenize(t->o.tok, MM_TOK_SPECIAL, LONGEST, text, n, &t->to, err);
    free(text);
    return r;
}

/* Tokens of lists, each list counting alike in the sum `share`. */
static void count_tokens(double *count, const mm_id_lists *k, const uint32_t *pick, size_t n, double share)
{
    double all = 0;
    for (size_t i = 0; i < n; i++) all += (double)(k->off[pick ? pick[i] + 1 : i + 1] - k->off[pick ? pick[i] : i] + 1);
    for (size_t i = 0; i < n; i++) {
        size_t j = pick ? pick[i] : i;
        for (size_t e = k->off[j]; e < k->off[j + 1]; e++) count[k->ids[e]] += share / all;
        count[MM_UNI_END] += share / all;
    }
}

/* A new head begins with words as frequent as they are (steps of a rate's size would take thousands to get there), and with rows in the directions that
 * the encoder's token table has. */
static int begin_words(mm_heads_task *t, mm_err *err)
{
    const mm_param *p = &mm_uni_slot_find(t->o.model, "next.logit_bias")->p, *rows = &mm_uni_slot_find(t->o.model, "next.rows.weight")->p;
    const mm_param *table = &mm_uni_slot_find(t->o.model, "token_embd.weight")->p;
    double *count = calloc(p->cols, sizeof *count);
    if (!count) return no_memory(err);
    for (size_t i = 0; i < p->cols; i++)
        if (p->w[i] != 0) return free(count), 0;
    if (t->sum[0]) count_tokens(count, &t->to, NULL, t->o.n_pairs, t->o.texts);
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) {
        const mm_captions *c = &t->train.captions[m];
        if (t->train.bo.count[m] && c->first) count_tokens(count, &t->train.ids[m], c->rows, c->n_rows, t->train.bo.count[m]);
    }
    double all = 0, least = 0;
    for (size_t i = 0; i < p->cols; i++) all += count[i];
    least = all * 1e-6;
    for (size_t i = 0; i < p->cols; i++) p->w[i] = (float)log((count[i] + least) / all);
    free(count);
    for (size_t i = 0; i < p->cols; i++) {
        const float *w = table->w + i * table->cols;
        float len = sqrtf(mm_kern_get()->dot_f32(w, w, table->cols)) + 0.1f;
        for (size_t e = 0; e < table->cols; e++) rows->w[i * rows->cols + e] += w[e] / len;
    }
    return 0;
}

int mm_heads_task_open(mm_heads_task **out, const mm_heads_task_opts *o, mm_err *err)
{
    const mm_uni_config *c = mm_uni_get_config(o->model);
    mm_heads_task *t = *out = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->o = *o;
    t->tape = mm_tape_new(o->keep);
    t->arena.block_size = t->batch.block_size = (size_t)16 << 20;
    int r = t->tape ? 0 : no_memory(err);
    if (!r && ((o->weight[MM_HEADS_NEXT] > 0 && !c->next) || ((o->weight[MM_HEADS_FLOW] > 0 || o->weight[MM_HEADS_ALIGN] > 0) && !c->patch)))
        r = mm_fail(err, MM_EUNSUP, "the model has not the head that a loss is of");
    if (!r && o->data) r = open_part(t, &t->train, MM_TRAIN, err);
    if (!r && o->data) r = open_part(t, &t->val, MM_VAL, err);
    if (!r && o->n_pairs && o->texts && o->weight[MM_HEADS_NEXT] > 0) r = open_pairs(t, err);
    if (!r && !t->train.batches && !t->sum[0]) r = mm_fail(err, MM_EEMPTY, "nothing with a caption to train the heads on");
    if (!r && o->weight[MM_HEADS_NEXT] > 0) r = begin_words(t, err);
    if (r) mm_heads_task_close(out);
    return r;
}

void mm_heads_task_close(mm_heads_task **tp)
{
    mm_heads_task *t = *tp;
    if (!t) return;
    mm_captioned_clear(&t->train);
    mm_captioned_clear(&t->val);
    mm_tape_free(&t->tape);
    mm_id_lists_clear(&t->from);
    mm_id_lists_clear(&t->to);
    free(t->sum[0]);
    free(t->sum[1]);
    mm_arena_clear(&t->arena);
    mm_arena_clear(&t->batch);
    free(t);
    *tp = NULL;
}

size_t mm_heads_task_peak(const mm_heads_task *t) { return mm_tape_peak(t->tape); }

/* ---- losses ---- */

static mm_graph graph(mm_heads_task *t, mm_tape *tape)
{
    return (mm_graph){ .kern = mm_kern_get(), .arena = &t->arena, .threads = t->o.threads, .tape = tape };
}

/* Texts pick[0..n) of k written by the head that sees `seen`: cross entropy. */
static mm_tensor written(mm_heads_task *t, mm_graph *g, const mm_uni_given *seen, const mm_id_lists *k, const uint32_t *pick, size_t n)
{
    static const mm_tensor none;
    size_t total = n, at = 0;
    for (size_t i = 0; i < n; i++) total += k->off[pick[i] + 1] - k->off[pick[i]];
    int32_t *ids = mm_arena_alloc(&t->batch, total, sizeof *ids), *after = mm_arena_alloc(&t->batch, total, sizeof *after);
    size_t *off = mm_arena_alloc(&t->batch, n + 1, sizeof *off);
    if (!ids || !after || !off) {
        g->failed = 1;
        return none;
    }
    for (size_t i = 0; i < n; i++) {
        size_t from = k->off[pick[i]], len = k->off[pick[i] + 1] - from;
        off[i] = at;
        ids[at] = MM_UNI_BEGIN;
        memcpy(ids + at + 1, k->ids + from, len * sizeof *ids);
        memcpy(after + at, k->ids + from, len * sizeof *ids);
        /* a text that was cut does not end there */
        after[at + len] = len < LONGEST ? MM_UNI_END : -1;
        at += len + 1;
    }
    off[n] = at;
    const mm_uni_words w = { .given = seen, .n = n, .ids = ids, .off = off };
    return mm_op_class_ce(g, mm_uni_logits(g, t->o.model, mm_uni_next(g, t->o.model, &w)), after);
}

typedef struct {
    mm_tensor x;     /* pictures as the head sees them */
    float *z, *clean, *t, *w;
    size_t n, rows, size;
    mm_tensor said;  /* vectors of the prompts */
} canvas;

/* Pictures of a batch with noise, and what the head makes of them. */
static int paint(mm_heads_task *t, mm_graph *g, const mm_batch *b, const mm_id_lists *k, const uint32_t *pick, int drop, canvas *c)
{
    const mm_uni_config *cfg = mm_uni_get_config(t->o.model);
    size_t n = c->n = (size_t)b->n[MM_IMAGE], patches = mm_uni_patches(cfg), side = (size_t)cfg->mod[MM_IMAGE].size, *off, *of;
    int32_t *ids;
    c->size = mm_uni_patch_size(cfg);
    c->rows = n * patches;
    c->z = mm_arena_alloc(&t->batch, c->rows * c->size, sizeof *c->z);
    c->clean = mm_arena_alloc(&t->batch, c->rows * c->size, sizeof *c->clean);
    c->t = mm_arena_alloc(&t->batch, n, sizeof *c->t);
    c->w = mm_arena_alloc(&t->batch, c->rows, sizeof *c->w);
    of = mm_arena_alloc(&t->batch, n, sizeof *of);
    if (!c->z || !c->clean || !c->t || !c->w || !of || mm_gather_ids(&t->batch, k, pick, n, &ids, &off)) return g->failed = 1;
    for (size_t i = 0; i < n; i++) {
        mm_rng r = mm_rng_at(t->o.seed, STREAM_FLOW, b->step, i);
        float *x = c->clean + i * patches * c->size, *z = c->z + i * patches * c->size;
        of[i] = drop && mm_rng_unit(&r) < NO_PROMPT ? SIZE_MAX : i;
        float time = 1 / (1 + expf(0.8f - 0.8f * mm_rng_normal(&r))), left = 1 - time > NEAREST ? 1 - time : NEAREST;
        c->t[i] = time;
        mm_uni_to_patches(cfg, b->image + i * 3 * side * side, x);
        for (size_t e = 0; e < patches * c->size; e++) z[e] = time * x[e] + (1 - time) * mm_rng_normal(&r);
        for (size_t e = 0; e < patches; e++) c->w[i * patches + e] = 1 / (left * left);
    }
    const mm_uni_in text = { .mod = MM_TEXT, .n = n, .ids = ids, .off = off };
    mm_uni_given *prompt = mm_arena_alloc(&t->batch, 1, sizeof *prompt);
    if (!prompt) return g->failed = 1;
    *prompt = mm_uni_see(g, t->o.model, &text, &c->said);
    c->x = mm_uni_flow(g, t->o.model, &(mm_uni_canvas){ prompt, of, n, c->z, c->t });
    return g->failed;
}

typedef struct {
    mm_tensor t[3];
    float w[3];
    int which[3];
    size_t n;
} losses;

static void also(losses *l, mm_tensor x, int which, float w)
{
    l->t[l->n] = x;
    l->which[l->n] = which;
    l->w[l->n++] = w;
}

/* Backward, the losses' values added up by kind, and the arena is free again. */
static int finish(mm_heads_task *t, mm_graph *g, const losses *l, float scale, double *sum, size_t *count, mm_err *err)
{
    mm_tensor all = mm_op_sum(g, l->t, l->w, l->n);
    int r = 0;
    for (size_t i = 0; i < l->n && !g->failed; i++) {
        sum[l->which[i]] += (double)*l->t[i].p;
        count[l->which[i]]++;
    }
    if (!g->failed && g->tape) {
        mm_tape_seed(g, all, scale);
        r = mm_tape_backward(g);
        mm_tape_reset(t->tape);
    }
    if (r || g->failed) r = no_memory(err);
    mm_arena_reset(&t->arena);
    return r;
}

static int media(mm_heads_task *t, const mm_captioned *p, mm_modality m, const mm_batch *b, losses *l, mm_graph *g)
{
    const float *w = t->o.weight;
    uint32_t *row = mm_arena_alloc(&t->batch, (size_t)b->n[m], sizeof *row);
    mm_uni_in in;
    if (!row || mm_uni_batch_in(t->o.model, b, m, &t->batch, &in)) return g->failed = 1;
    mm_captioned_draw(p, m, b, row);
    if (w[MM_HEADS_NEXT] > 0) {
        mm_uni_given *seen = mm_arena_alloc(&t->batch, 1, sizeof *seen);
        if (!seen) return g->failed = 1;
        *seen = mm_uni_see(g, t->o.model, &in, NULL);
        also(l, written(t, g, seen, &p->ids[m], row, (size_t)b->n[m]), MM_HEADS_NEXT, w[MM_HEADS_NEXT]);
    }
    if (m == MM_IMAGE && (w[MM_HEADS_FLOW] > 0 || w[MM_HEADS_ALIGN] > 0)) {
        canvas c;
        if (paint(t, g, b, &p->ids[m], row, g->tape != NULL, &c)) return 1;
        if (w[MM_HEADS_FLOW] > 0) also(l, mm_op_mse(g, c.x, c.clean, c.w), MM_HEADS_FLOW, w[MM_HEADS_FLOW]);
        if (w[MM_HEADS_ALIGN] > 0)
            also(l, mm_op_cos_loss(g, mm_uni_embed_patches(g, t->o.model, c.x), c.said.p, c.said.cols, c.said.cols), MM_HEADS_ALIGN, w[MM_HEADS_ALIGN]);
    }
    return g->failed;
}

/* One pair by its weight. */
static uint32_t draw_pair(const mm_heads_task *t, uint64_t step, uint64_t i, int val)
{
    mm_rng r = mm_rng_at(t->o.seed, STREAM_PAIR + (uint64_t)val, step, i);
    const double *sum = t->sum[val];
    return (uint32_t)mm_rng_weighted(&r, sum, t->o.n_pairs);
}

static int texts(mm_heads_task *t, uint64_t step, int val, losses *l, mm_graph *g)
{
    size_t n = (size_t)t->o.texts, *off;
    uint32_t *pick = mm_arena_alloc(&t->batch, n, sizeof *pick);
    mm_uni_given *seen = mm_arena_alloc(&t->batch, 1, sizeof *seen);
    int32_t *ids;
    if (!pick || !seen) return g->failed = 1;
    for (size_t i = 0; i < n; i++) pick[i] = draw_pair(t, step, i, val);
    if (mm_gather_ids(&t->batch, &t->from, pick, n, &ids, &off)) return g->failed = 1;
    *seen = mm_uni_see(g, t->o.model, &(mm_uni_in){ .mod = MM_TEXT, .n = n, .ids = ids, .off = off }, NULL);
    also(l, written(t, g, seen, &t->to, pick, n), MM_HEADS_NEXT, t->o.weight[MM_HEADS_NEXT]);
    return g->failed;
}

int mm_heads_task_step(mm_heads_task *t, uint64_t step, float scale, float loss[MM_HEADS_LOSSES], size_t *samples, mm_err *err)
{
    double sum[MM_HEADS_LOSSES] = { 0 };
    size_t count[MM_HEADS_LOSSES] = { 0 };
    int r = 0;
    mm_arena_reset(&t->batch);
    *samples = 0;
    if (t->sum[0]) {
        mm_graph g = graph(t, t->tape);
        losses l = { .n = 0 };
        *samples += (size_t)t->o.texts;
        if (texts(t, step, 0, &l, &g)) return no_memory(err);
        r = finish(t, &g, &l, scale, sum, count, err);
    }
    if (!r && t->train.batches) {
        const mm_batch *b;
        r = mm_captioned_at(&t->train, step, &b, err);
        for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
            mm_graph g = graph(t, t->tape);
            losses l = { .n = 0 };
            if (!b->n[m]) continue;
            *samples += (size_t)b->n[m];
            if (media(t, &t->train, (mm_modality)m, b, &l, &g)) return no_memory(err);
            r = finish(t, &g, &l, scale, sum, count, err);
        }
    }
    for (int i = 0; i < MM_HEADS_LOSSES; i++) loss[i] = count[i] ? (float)(sum[i] / (double)count[i]) : NAN;
    return r;
}

/* ---- scores ---- */

/* Share of the velocity that is explained, and cosine to the prompt, of one batch. */
static void measure(mm_heads_task *t, mm_graph *g, const canvas *c, double *sum, size_t *count)
{
    double wrong = 0, all = 0;
    for (size_t r = 0; r < c->rows; r++)
        for (size_t e = 0; e < c->size; e++) {
            size_t i = r * c->size + e, k = r / (c->rows / c->n);
            double left = 1 - (double)c->t[k], d = (double)c->x.p[i] - (double)c->clean[i], v = ((double)c->clean[i] - (double)c->z[i]) / left;
            wrong += d * d * (double)c->w[r];
            all += v * v;
        }
    mm_tensor y = mm_uni_embed_patches(g, t->o.model, c->x);
    if (g->failed) return;
    sum[MM_HEADS_FLOW] += 1 - wrong / all;
    count[MM_HEADS_FLOW]++;
    for (size_t i = 0; i < c->n; i++) sum[MM_HEADS_ALIGN] += (double)g->kern->dot_f32(y.p + i * y.cols, c->said.p + i * y.cols, y.cols) / (double)c->n;
    count[MM_HEADS_ALIGN]++;
}

int mm_heads_task_validate(mm_heads_task *t, double score[MM_HEADS_LOSSES], mm_err *err)
{
    double sum[MM_HEADS_LOSSES] = { 0 };
    size_t count[MM_HEADS_LOSSES] = { 0 };
    const float *w = t->o.weight;
    for (uint64_t step = 0; step < VAL_BATCHES; step++) {
        mm_batch b = { .n = { 0 } };
        mm_arena_reset(&t->batch);
        int r = t->val.batches ? mm_batches_make(t->val.batches, step, &t->batch, &b, err) : 0;
        if (r) return r;
        for (int m = t->sum[1] && w[MM_HEADS_NEXT] > 0 ? MM_TEXT : MM_IMAGE; m < MM_MODALITIES && w[MM_HEADS_NEXT] > 0; m++) {
            mm_graph g = graph(t, NULL);
            losses l = { .n = 0 };
            mm_uni_in in;
            uint32_t *row = mm_arena_alloc(&t->batch, (size_t)b.n[m] + 1, sizeof *row);
            if (m != MM_TEXT && !b.n[m]) continue;
            if (m == MM_TEXT) {
                if (texts(t, step, 1, &l, &g)) return no_memory(err);
            } else {
                if (!row || mm_uni_batch_in(t->o.model, &b, (mm_modality)m, &t->batch, &in)) return no_memory(err);
                mm_captioned_draw(&t->val, (mm_modality)m, &b, row);
                mm_uni_given seen = mm_uni_see(&g, t->o.model, &in, NULL);
                also(&l, written(t, &g, &seen, &t->val.ids[m], row, (size_t)b.n[m]), MM_HEADS_NEXT, 1);
            }
            if ((r = finish(t, &g, &l, 1, sum, count, err))) return r;
        }
        if ((w[MM_HEADS_FLOW] > 0 || w[MM_HEADS_ALIGN] > 0) && b.n[MM_IMAGE]) {
            mm_graph g = graph(t, NULL);
            canvas c;
            uint32_t *row = mm_arena_alloc(&t->batch, (size_t)b.n[MM_IMAGE], sizeof *row);
            if (!row) return no_memory(err);
            mm_captioned_draw(&t->val, MM_IMAGE, &b, row);
            if (!paint(t, &g, &b, &t->val.ids[MM_IMAGE], row, 0, &c)) measure(t, &g, &c, sum, count);
            if (g.failed) return no_memory(err);
            mm_arena_reset(&t->arena);
        }
    }
    for (int i = 0; i < MM_HEADS_LOSSES; i++) {
        double mean = count[i] ? sum[i] / (double)count[i] : NAN;
        score[i] = 100 * (i == MM_HEADS_NEXT ? exp(-mean) : mean);
    }
    return 0;
}

/* One training step of the unified model, and its scores. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/pairs.h"
#include "train/uni_task_int.h"

enum { STREAM_CAPTION = 0x6361 };

void mm_uni_task_weigh(mm_uni_task *t, const mm_uni_weights *w) { t->o.weight = *w; }

static size_t window_of(const mm_uni_task *t) { return (size_t)mm_uni_get_config(t->o.model)->window; }
static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static int embed_texts(mm_uni_task *t, const mm_id_lists *k, const uint32_t *pick, size_t n, float *vec, mm_err *err);

/* The model teaches itself: its own vectors of texts as they are now. */
static int remember(mm_uni_task *t, const mm_slice *text, size_t n, float **vec, mm_err *err)
{
    mm_id_lists k = { 0 };
    float *v = mm_aligned((n ? n : 1) * t->out, sizeof *v);
    uint32_t *all = mm_realloc(NULL, n + 1, sizeof *all);
    int r = v && all ? mm_tokenize(t->o.tok, MM_TOK_SPECIAL, window_of(t), text, n, &k, err) : no_memory(err);
    for (size_t i = 0; i < n && !r; i++) all[i] = (uint32_t)i;
    if (!r) r = embed_texts(t, &k, all, n, v, err);
    mm_id_lists_clear(&k);
    free(all);
    if (r) free(v);
    else *vec = v;
    return r;
}

/* The teacher's vectors of texts, turned and of length 1: [n, out] from malloc. */
static int teach(mm_uni_task *t, const mm_slice *text, size_t n, float **vec, mm_err *err)
{
    if (!t->o.teacher) return remember(t, text, n, vec, err);
    size_t dim = mm_teacher_dim(t->o.teacher), out = t->out;
    float *v = mm_aligned((n ? n : 1) * dim, sizeof *v), *w = mm_aligned((n ? n : 1) * out, sizeof *w);
    mm_text_in *in = mm_realloc(NULL, n + 1, sizeof *in);
    int r = v && w && in ? 0 : no_memory(err);
    if (!r && out > dim) r = mm_fail(err, MM_ESHAPE, "the teacher's vectors have %zu numbers, the model's %zu", dim, out);
    for (size_t i = 0; i < n && !r; i++) in[i] = (mm_text_in){ text[i].p, text[i].len };
    if (!r) r = mm_teacher_embed(t->o.teacher, in, n, v, t->o.progress, t->o.arg, err);
    if (!r && t->o.pca) r = mm_pca_apply(t->o.pca, v, n, w, out, err);
    else for (size_t i = 0; i < n && !r; i++) memcpy(w + i * out, v + i * dim, out * sizeof *w);
    if (!r) mm_kern_get()->l2_normalize(w, n, out);
    free(in);
    free(v);
    if (r) free(w);
    else *vec = w;
    return r;
}

static int make_bank(mm_uni_task *t, const mm_caption_finder *f, mm_modality m, mm_err *err)
{
    bank *b = &t->banks[m];
    int r = mm_captions_make(&b->c, f, m, (mm_split)t->bo.split, err);
    if (!r && b->c.n) r = teach(t, b->c.text, b->c.n, &b->vec, err);
    if (!r && (t->o.weight.infonce > 0 || t->o.weight.sigmoid > 0 || t->o.weight.fused > 0))
        r = mm_tokenize(t->o.tok, MM_TOK_SPECIAL, window_of(t), b->c.text, b->c.n, &t->caption_ids[m], err);
    return r;
}

static int want(void *arg, const mm_example *e, mm_modality m)
{
    const mm_uni_task *t = arg;
    return m != MM_TEXT && mm_captions_count(&t->banks[m].c, e - mm_dataset_example(t->o.data, 0)) > 0; /* examples are an array */
}

static int open_data(mm_uni_task *t, mm_err *err)
{
    mm_caption_finder f;
    int r = mm_caption_finder_make(&f, t->o.data, err);
    t->bo = *t->o.batch;
    t->bo.seed = t->o.seed;
    t->bo.langs = "en,eng,en_GB,en_US";
    t->bo.count[MM_TEXT] = 0;
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
        if (!mm_uni_get_config(t->o.model)->mod[m].width) t->bo.count[m] = 0;
        if (t->bo.count[m]) r = make_bank(t, &f, (mm_modality)m, err);
        if (!r && !t->banks[m].c.n) t->bo.count[m] = 0;
    }
    if (t->o.weight.fused > 0) t->bo.joint = (t->bo.count[MM_IMAGE] < t->bo.count[MM_AUDIO] ? t->bo.count[MM_IMAGE] : t->bo.count[MM_AUDIO]) / 2;
    t->bo.want = want;
    t->bo.arg = t;
    t->bo.bare = 1;
    if (!r) r = mm_batches_open(&t->batches, t->o.data, &t->bo, err);
    json_decref(f.by_concept);
    return r;
}

/* ---- pairs of texts ---- */

static int open_pairs(mm_uni_task *t, mm_err *err)
{
    size_t n = t->o.n_pairs;
    mm_text_set x = { .number = json_object() };
    mm_slice *text = mm_realloc(NULL, n + 1, sizeof *text);
    t->sum = mm_realloc(NULL, n + 1, sizeof *t->sum);
    int r = x.number && text && t->sum ? 0 : no_memory(err);
    if (!r) t->sum[0] = 0;
    for (size_t i = 0; i < n && !r; i++) {
        const mm_text_pair *p = &t->o.pairs[i];
        text[i] = (mm_slice){ p->text, p->len };
        mm_text_set_add(&x, p->en, p->en_len);
        t->sum[i + 1] = t->sum[i] + (mm_text_pair_kept_out(p) ? 0 : p->weight);
        if (x.failed) r = no_memory(err);
    }
    if (!r && !(t->sum[n] > 0)) r = mm_fail(err, MM_EARG, "no pair of texts has a weight");
    if (!r) r = teach(t, x.text, x.n, &t->targets, err);
    if (!r) r = mm_tokenize(t->o.tok, MM_TOK_SPECIAL, window_of(t), text, n, &t->pair_ids, err);
    if (!r) {
        t->pair_target = x.rows;
        x.rows = NULL;
    }
    free(text);
    mm_text_set_clear(&x);
    return r;
}

/* ---- life ---- */

int mm_uni_task_open(mm_uni_task **out, const mm_uni_task_opts *o, mm_err *err)
{
    mm_uni_task *t = *out = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->o = *o;
    t->out = (size_t)mm_uni_get_config(o->model)->out;
    t->tape = mm_tape_new(o->keep);
    t->arena.block_size = t->batch.block_size = (size_t)16 << 20;
    for (int m = 0; m < MM_MODALITIES; m++) {
        t->scale_w[m] = logf(20); /* a wide start; SigLIP's is log 10 with a bias of -10 */
        t->bias_w[m] = -10;
        t->scale[m] = (mm_param){ &t->scale_w[m], NULL, 1, 1 };
        t->bias[m] = (mm_param){ &t->bias_w[m], NULL, 1, 1 };
        snprintf(t->names[m], sizeof t->names[m], "%s.logit_scale", mm_modality_name((mm_modality)m));
        snprintf(t->names[MM_MODALITIES + m], sizeof t->names[m], "%s.logit_bias", mm_modality_name((mm_modality)m));
    }
    int r = t->tape ? 0 : no_memory(err);
    if (!r && o->n_pairs) r = open_pairs(t, err);
    if (!r && o->data) r = open_data(t, err);
    if (r) mm_uni_task_close(out);
    return r;
}

void mm_uni_task_close(mm_uni_task **tp)
{
    mm_uni_task *t = *tp;
    if (!t) return;
    mm_batches_close(&t->batches);
    mm_tape_free(&t->tape);
    for (int m = 0; m < MM_MODALITIES; m++) {
        bank *b = &t->banks[m];
        free(b->vec);
        mm_captions_clear(&b->c);
        mm_id_lists_clear(&t->caption_ids[m]);
    }
    mm_id_lists_clear(&t->pair_ids);
    free(t->pair_target);
    free(t->targets);
    free(t->sum);
    mm_arena_clear(&t->arena);
    mm_arena_clear(&t->batch);
    free(t);
    *tp = NULL;
}

size_t mm_uni_task_params(const mm_uni_task *t) { return t->o.data ? 2 * MM_MODALITIES : 0; }

mm_param *mm_uni_task_param(mm_uni_task *t, size_t i, const char **name)
{
    *name = t->names[i];
    return i < MM_MODALITIES ? &t->scale[i] : &t->bias[i - MM_MODALITIES];
}

void mm_uni_task_counts(const mm_uni_task *t, size_t n[MM_MODALITIES])
{
    for (int m = 0; m < MM_MODALITIES; m++) n[m] = t->batches ? (size_t)t->bo.count[m] : 0;
    n[MM_TEXT] = t->o.n_pairs ? (size_t)t->o.texts : 0;
}

size_t mm_uni_task_peak(const mm_uni_task *t) { return mm_tape_peak(t->tape); }

/* ---- a step ---- */

void task_also(losses *l, mm_tensor t, float w)
{
    if (w == 0) return;
    l->t[l->n] = t;
    l->w[l->n++] = w;
}

int task_finish(mm_uni_task *t, mm_graph *g, const losses *l, float factor, float *value, mm_err *err)
{
    int r = 0;
    if (l->n) {
        mm_tensor sum = mm_op_sum(g, l->t, l->w, l->n);
        if (sum.p) {
            *value = *sum.p;
            mm_tape_seed(g, sum, factor);
        }
        r = mm_tape_backward(g);
    }
    if (r || g->failed) r = no_memory(err);
    mm_tape_reset(t->tape);
    mm_arena_reset(&t->arena);
    return r;
}

mm_graph task_graph(mm_uni_task *t, mm_tape *tape)
{
    return (mm_graph){ .kern = mm_kern_get(), .arena = &t->arena, .threads = t->o.threads, .tape = tape };
}

static int step_text(mm_uni_task *t, uint64_t step, float scale, float *value, mm_err *err)
{
    static const float sharp = 2.9957322735539909f; /* log 20 */
    size_t n = (size_t)t->o.texts, out = t->out;
    uint32_t *pick = mm_arena_alloc(&t->batch, n, sizeof *pick);
    float *target = mm_arena_alloc(&t->batch, n * out, sizeof *target);
    int32_t *ids;
    size_t *off;
    if (!pick || !target || mm_pairs_draw(&t->batch, t->sum, t->o.n_pairs, t->pair_ids.off, t->o.seed, step, n, pick) ||
        mm_gather_ids(&t->batch, &t->pair_ids, pick, n, &ids, &off)) return no_memory(err);
    for (size_t i = 0; i < n; i++) memcpy(target + i * out, t->targets + (size_t)t->pair_target[pick[i]] * out, out * sizeof *target);
    mm_graph g = task_graph(t, t->tape);
    losses l = { .n = 0 };
    mm_tensor z = mm_uni_embed(&g, t->o.model, &(mm_uni_in){ .mod = MM_TEXT, .n = n, .ids = ids, .off = off });
    const float *like = mm_likeness(&g, target, n, target, n, out, 20);
    float w = t->o.weight.distil;
    task_also(&l, mm_op_cos_loss(&g, z, target, out, out), 2 * w);
    if (out > 128) task_also(&l, mm_op_cos_loss(&g, z, target, out, 128), 0.5f * w);
    if (out > 64) task_also(&l, mm_op_cos_loss(&g, z, target, out, 64), 0.5f * w);
    if (like) task_also(&l, mm_op_softmax_ce(&g, mm_op_similarity(&g, z, mm_tensor_of(target, n, out), mm_tensor_of(&sharp, 1, 1), NULL), like), 0.5f * w);
    return task_finish(t, &g, &l, scale * t->o.part[MM_TEXT], value, err);
}

/* The captions' rows of a batch: one each, by the step and the place. */
static void choose_captions(const mm_uni_task *t, mm_modality m, const mm_batch *b, uint32_t *row)
{
    const bank *k = &t->banks[m];
    for (int i = 0; i < b->n[m]; i++) {
        mm_rng r = mm_rng_at(t->o.seed, STREAM_CAPTION + (uint64_t)m, b->step, (uint64_t)i);
        row[i] = mm_captions_draw(&k->c, b->pick[m][i].example, &r);
    }
}

int mm_uni_batch_in(const mm_uni *u, const mm_batch *b, mm_modality m, mm_arena *a, mm_uni_in *in)
{
    const mm_uni_config *c = mm_uni_get_config(u);
    size_t n = (size_t)b->n[m], side = (size_t)c->mod[m].size, clip = m == MM_VIDEO ? (size_t)c->mod[m].frames : 1;
    const float **x = mm_arena_alloc(a, n, sizeof *x), **times = mm_arena_alloc(a, n, sizeof *times);
    size_t *frames = mm_arena_alloc(a, n, sizeof *frames);
    if (!x || !times || !frames) return MM_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        frames[i] = m == MM_AUDIO ? b->mel_at[i + 1] - b->mel_at[i] : clip;
        x[i] = m == MM_AUDIO ? b->mel + b->mel_at[i] * MM_UNI_MEL : (m == MM_IMAGE ? b->image : b->video) + i * clip * 3 * side * side;
        times[i] = m == MM_VIDEO ? b->times + i * clip : NULL;
    }
    *in = (mm_uni_in){ .mod = m, .n = n, .x = x, .frames = frames, .times = times, .height = side, .width = side };
    return 0;
}

static mm_tensor embed_media(mm_uni_task *t, mm_graph *g, mm_modality m, const mm_batch *b)
{
    mm_uni_in in;
    g->failed |= mm_uni_batch_in(t->o.model, b, m, &t->batch, &in);
    return g->failed ? (mm_tensor){ 0 } : mm_uni_embed(g, t->o.model, &in);
}

/* Against the captions of the batch, through the model's own text side; equal captions are equally right. */
static void contrast(mm_uni_task *t, mm_graph *g, mm_modality m, mm_tensor z, const uint32_t *row, losses *l)
{
    size_t n = z.rows;
    float *same = mm_arena_alloc(&t->batch, n * n, sizeof *same), *part = mm_arena_alloc(&t->batch, n * n, sizeof *part);
    int32_t *ids;
    size_t *off;
    if (!same || !part || mm_gather_ids(&t->batch, &t->caption_ids[m], row, n, &ids, &off)) {
        g->failed = 1;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float count = 0;
        for (size_t j = 0; j < n; j++) count += same[i * n + j] = row[i] == row[j];
        for (size_t j = 0; j < n; j++) part[i * n + j] = same[i * n + j] / count;
    }
    mm_tensor text = mm_uni_embed(g, t->o.model, &(mm_uni_in){ .mod = MM_TEXT, .n = n, .ids = ids, .off = off });
    mm_tensor scale = mm_op_param(g, &t->scale[m]), bias = mm_op_param(g, &t->bias[m]);
    if (t->o.weight.infonce > 0) {
        mm_tensor s = mm_op_similarity(g, z, text, scale, NULL);
        task_also(l, mm_op_softmax_ce(g, s, part), 0.5f * t->o.weight.infonce);
        task_also(l, mm_op_softmax_ce(g, mm_op_transpose(g, s), part), 0.5f * t->o.weight.infonce);
    }
    if (t->o.weight.sigmoid > 0)
        task_also(l, mm_op_sigmoid_ce(g, mm_op_similarity(g, z, text, scale, &bias), same), t->o.weight.sigmoid);
}

static int step_media(mm_uni_task *t, mm_modality m, const mm_batch *b, float scale, float *value, mm_err *err)
{
    const bank *k = &t->banks[m];
    size_t n = (size_t)b->n[m], out = t->out;
    uint32_t *row = mm_arena_alloc(&t->batch, n, sizeof *row);
    float *target = mm_arena_alloc(&t->batch, n * out, sizeof *target);
    if (!row || !target) return no_memory(err);
    choose_captions(t, m, b, row);
    mm_graph g = task_graph(t, t->tape);
    losses l = { .n = 0 };
    mm_tensor z = embed_media(t, &g, m, b);
    if (k->vec) {
        for (size_t i = 0; i < n; i++) memcpy(target + i * out, k->vec + (size_t)row[i] * out, out * sizeof *target);
        task_also(&l, mm_op_cos_loss(&g, z, target, out, out), 0.5f * t->o.weight.distil);
        if (t->o.weight.bank > 0) {
            mm_tensor s = mm_op_similarity(&g, z, mm_tensor_of(k->vec, k->c.n, out), mm_op_param(&g, &t->scale[m]), NULL);
            const float *soft = t->o.soft > 0 ? mm_likeness(&g, target, n, k->vec, k->c.n, out, 1 / t->o.soft) : NULL;
            int32_t *cls = mm_arena_alloc(&t->batch, n, sizeof *cls);
            if (!cls) return no_memory(err);
            for (size_t i = 0; i < n; i++) cls[i] = (int32_t)row[i];
            task_also(&l, soft ? mm_op_softmax_ce(&g, s, soft) : mm_op_class_ce(&g, s, cls), t->o.weight.bank);
        }
    }
    if (t->o.weight.infonce > 0 || t->o.weight.sigmoid > 0) contrast(t, &g, m, z, row, &l);
    return task_finish(t, &g, &l, scale * t->o.part[m], value, err);
}

static int media_losses(const mm_uni_weights *w) { return w->distil > 0 || w->bank > 0 || w->infonce > 0 || w->sigmoid > 0; }

int mm_uni_task_step(mm_uni_task *t, uint64_t step, float scale, float loss[MM_MODALITIES], mm_err *err)
{
    int r = 0;
    for (int m = 0; m < MM_MODALITIES; m++) loss[m] = NAN;
    mm_arena_reset(&t->batch);
    if (t->o.n_pairs && t->o.texts && t->o.weight.distil > 0) r = step_text(t, step, scale, &loss[MM_TEXT], err);
    if (r || !t->batches) return r;
    mm_batch_state s;
    const mm_batch *b;
    mm_batches_state(t->batches, &s);
    if (s.step != step) {
        s.step = step;
        if ((r = mm_batches_seek(t->batches, &s, err))) return r;
    }
    if ((r = mm_batches_next(t->batches, &b, err))) return r;
    mm_batch own = *b; /* the pictures and sounds of one thing are for records alone */
    own.n[MM_IMAGE] -= b->joint;
    own.n[MM_AUDIO] -= b->joint;
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++)
        if (own.n[m] > 0 && media_losses(&t->o.weight)) r = step_media(t, (mm_modality)m, &own, scale, &loss[m], err);
    return !r && t->o.weight.fused > 0 ? task_step_fused(t, b, scale, media_losses(&t->o.weight) ? NULL : loss, err) : r;
}

/* ---- scores ---- */

/* Vectors of texts by the model's own text side. */
static int embed_texts(mm_uni_task *t, const mm_id_lists *k, const uint32_t *pick, size_t n, float *vec, mm_err *err)
{
    for (size_t at = 0; at < n; at += 64) {
        size_t m = n - at < 64 ? n - at : 64;
        int32_t *ids;
        size_t *off;
        mm_arena_reset(&t->batch);
        if (mm_gather_ids(&t->batch, k, pick + at, m, &ids, &off)) return no_memory(err);
        mm_graph g = task_graph(t, NULL);
        mm_tensor z = mm_uni_embed(&g, t->o.model, &(mm_uni_in){ .mod = MM_TEXT, .n = m, .ids = ids, .off = off });
        if (g.failed) return no_memory(err);
        memcpy(vec + at * t->out, z.p, m * t->out * sizeof *vec);
        mm_arena_reset(&t->arena);
    }
    return 0;
}

/* Recall at 10 of query i's own candidates among all, percent. right[i * m + j] marks them. */
static double recall10(const float *q, size_t n, const float *c, size_t m, size_t d, const char *right, int transposed)
{
    size_t hits = 0;
    const mm_kern *k = mm_kern_get();
    for (size_t i = 0; i < n; i++) {
        float best = -2;
        size_t before = 0;
        for (size_t j = 0; j < m; j++) {
            if (!right[transposed ? j * n + i : i * m + j]) continue;
            float s = k->dot_f32(q + i * d, c + j * d, d);
            if (s > best) best = s;
        }
        for (size_t j = 0; j < m; j++)
            before += !right[transposed ? j * n + i : i * m + j] && k->dot_f32(q + i * d, c + j * d, d) >= best;
        hits += before < 10;
    }
    return n ? 100.0 * (double)hits / (double)n : NAN;
}

/* Media of these examples without augmentation. */
static int plain(mm_uni_task *t, mm_modality m, const uint32_t *e, size_t n, mm_batch *b, mm_err *err)
{
    const mm_augment none = { 0, 0 };
    const mm_rng rng = { 0 };
    const mm_dataset *d = t->o.data;
    size_t room = 0, at = 0, frames = 0, side = (size_t)(m == MM_IMAGE ? t->bo.px : t->bo.video_px);
    int r = 0;
    for (size_t i = 0; i < n; i++) {
        const mm_item *x = mm_dataset_item(d, (size_t)mm_dataset_example(d, e[i])->item[m]);
        frames += (size_t)x->n;
        room += m == MM_AUDIO ? mm_augment_mel_room((size_t)x->n, 0, &none) * (size_t)x->width : (size_t)x->n * 3 * side * side;
    }
    float *out = mm_arena_alloc(&t->batch, room, sizeof *out);
    b->mel_at = mm_arena_alloc(&t->batch, n + 1, sizeof *b->mel_at);
    b->times = m == MM_VIDEO ? mm_arena_alloc(&t->batch, frames, sizeof *b->times) : NULL;
    if (!out || !b->mel_at || (m == MM_VIDEO && !b->times)) return no_memory(err);
    b->image = b->video = b->mel = out;
    b->mel_at[0] = 0;
    b->n[m] = (int)n;
    for (size_t i = 0; i < n && !r; i++) {
        const mm_item *x = mm_dataset_item(d, (size_t)mm_dataset_example(d, e[i])->item[m]);
        if (m == MM_AUDIO) {
            b->mel_at[i + 1] = b->mel_at[i] + mm_augment_mel(out + at, x->mel, (size_t)x->n, x->width, 0, &none, rng);
            at = b->mel_at[i + 1] * (size_t)x->width;
            continue;
        }
        r = m == MM_IMAGE ? mm_augment_image(out + at, (int)side, x->px, x->width, &none, rng, err)
                          : mm_augment_video(out + at, (int)side, x->px, x->width, x->n, &none, rng, err);
        if (m == MM_VIDEO) memcpy(b->times + i * (size_t)x->n, x->times, (size_t)x->n * sizeof *b->times);
        at += (size_t)x->n * 3 * side * side;
    }
    return r;
}

int task_embed_examples(mm_uni_task *t, mm_modality m, const uint32_t *e, size_t n, float *vec, mm_err *err)
{
    int r = 0;
    for (size_t at = 0; at < n && !r; at += 32) {
        size_t k = n - at < 32 ? n - at : 32;
        mm_batch b = { .n = { 0 } };
        mm_arena_reset(&t->batch);
        r = plain(t, m, e + at, k, &b, err);
        mm_graph g = task_graph(t, NULL);
        mm_tensor z = r ? (mm_tensor){ 0 } : embed_media(t, &g, m, &b);
        if (!r && g.failed) r = no_memory(err);
        if (!r) memcpy(vec + at * t->out, z.p, k * t->out * sizeof *vec);
        mm_arena_reset(&t->arena);
    }
    return r;
}

typedef struct {
    uint32_t *e; /* examples of one set in a split */
    size_t n;
} group;

static int score_set(mm_uni_task *t, const mm_caption_finder *f, mm_modality m, const group *x, double *score, mm_err *err)
{
    mm_text_set all = { .number = json_object() };
    size_t *first = mm_realloc(NULL, x->n + 1, sizeof *first), d = t->out;
    mm_id_lists k = { 0 };
    float *q = mm_aligned(x->n * d, sizeof *q), *c = NULL;
    char *right = NULL;
    uint32_t *every = NULL;
    int r = all.number && first && q ? 0 : no_memory(err);
    for (size_t i = 0; i < x->n && !r; i++) {
        first[i] = all.n_rows;
        mm_captions_of(f, x->e[i], mm_text_set_add, &all);
    }
    if (!r) first[x->n] = all.n_rows;
    if (!r) r = mm_tokenize(t->o.tok, MM_TOK_SPECIAL, window_of(t), all.text, all.n, &k, err);
    every = mm_realloc(NULL, all.n + 1, sizeof *every);
    c = mm_aligned((all.n + 1) * d, sizeof *c);
    right = calloc(x->n * (all.n + 1), 1);
    if (!r && (!every || !c || !right)) r = no_memory(err);
    for (size_t i = 0; i < all.n && !r; i++) every[i] = (uint32_t)i;
    if (!r) r = embed_texts(t, &k, every, all.n, c, err);
    for (size_t i = 0; i < x->n && !r; i++)
        for (size_t p = first[i]; p < first[i + 1]; p++) right[i * all.n + all.rows[p]] = 1;
    if (!r) r = task_embed_examples(t, m, x->e, x->n, q, err);
    if (!r) *score = (recall10(q, x->n, c, all.n, d, right, 0) + recall10(c, all.n, q, x->n, d, right, 1)) / 2;
    mm_text_set_clear(&all);
    free(first);
    mm_id_lists_clear(&k);
    free(q);
    free(c);
    free(right);
    free(every);
    return r;
}

static int score_media(mm_uni_task *t, const mm_caption_finder *f, mm_modality m, mm_split split, double *score, mm_err *err)
{
    double sum = 0;
    size_t sets = 0;
    int r = 0;
    for (size_t s = 0; mm_dataset_set(f->d, s) && !r; s++) {
        group x = { NULL, 0 };
        for (size_t i = 0; mm_dataset_example(f->d, i) && !r; i++) {
            const mm_example *e = mm_dataset_example(f->d, i);
            if (e->set != s || e->split != split || e->item[m] < 0 || x.n == 600) continue;
            if (x.n % 256 == 0) {
                uint32_t *p = mm_realloc(x.e, x.n + 256, sizeof *p);
                if (!p) r = no_memory(err);
                else x.e = p;
            }
            if (!r) x.e[x.n++] = (uint32_t)i;
        }
        double one = NAN;
        if (!r && x.n > MM_VALIDATE_LEAST) r = score_set(t, f, m, &x, &one, err);
        if (!r && !isnan(one)) sum += one, sets++;
        free(x.e);
    }
    *score = sets ? sum / (double)sets : NAN;
    return r;
}

int mm_uni_task_text_cosine(mm_uni_task *t, size_t pairs, double *cosine, mm_err *err)
{
    size_t n = 0, d = t->out;
    uint32_t *pick = mm_realloc(NULL, 2000, sizeof *pick);
    float *vec = mm_aligned(2000 * d, sizeof *vec);
    int r = pick && vec ? 0 : no_memory(err);
    for (size_t i = 0; i < pairs && n < 2000 && !r; i++)
        if (t->o.pairs[i].weight > 0 && mm_text_pair_kept_out(&t->o.pairs[i])) pick[n++] = (uint32_t)i;
    if (!r) r = embed_texts(t, &t->pair_ids, pick, n, vec, err);
    double sum = 0;
    for (size_t i = 0; i < n && !r; i++) sum += mm_kern_get()->dot_f32(vec + i * d, t->targets + (size_t)t->pair_target[pick[i]] * d, d);
    *cosine = n ? sum / (double)n : NAN;
    free(pick);
    free(vec);
    return r;
}

int mm_uni_task_validate(mm_uni_task *t, mm_split split, double score[MM_MODALITIES], double *all, mm_err *err)
{
    mm_caption_finder f = { .d = t->o.data };
    int r = 0, n = 0;
    for (int m = 0; m < MM_MODALITIES; m++) score[m] = NAN;
    if (t->o.n_pairs) r = mm_uni_task_text_cosine(t, t->o.n_pairs, &score[MM_TEXT], err);
    score[MM_TEXT] *= 100;
    if (!r && f.d) r = mm_caption_finder_make(&f, f.d, err);
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r && f.d; m++)
        if (t->bo.count[m]) r = score_media(t, &f, (mm_modality)m, split, &score[m], err);
    json_decref(f.by_concept);
    *all = 0;
    for (int m = 0; m < MM_MODALITIES; m++)
        if (!isnan(score[m])) *all += score[m], n++;
    *all = n ? *all / n : NAN;
    return r;
}

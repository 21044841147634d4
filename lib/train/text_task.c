/* One training step of a text encoder, and its scores. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "train/text_task.h"

enum { VALIDATED = 2000, FOUND = 1000 };

struct mm_text_task {
    mm_text_task_opts o;
    size_t dim;
    mm_id_lists ids, other_ids;
    uint32_t *target; /* [pairs] number of the other side: a row of `targets` */
    float *targets;   /* [n, dim] of the teacher */
    double *sum;      /* [pairs + 1] weights so far; those kept out weigh nothing */
    mm_param scale;
    float log_scale;
    mm_arena arena, batch;
    mm_tape *tape;
};

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* ---- life ---- */

static int teach(mm_text_task *t, const mm_slice *text, size_t n, mm_err *err)
{
    mm_text_in *in = mm_realloc(NULL, n + 1, sizeof *in);
    t->targets = mm_aligned(n * t->dim, sizeof *t->targets);
    int r = in && t->targets ? 0 : no_memory(err);
    for (size_t i = 0; i < n && !r; i++) in[i] = (mm_text_in){ text[i].p, text[i].len };
    if (!r) r = mm_teacher_embed(t->o.teacher, in, n, t->targets, t->o.progress, t->o.arg, err);
    if (!r) mm_kern_get()->l2_normalize(t->targets, n, t->dim);
    free(in);
    return r;
}

/* A text that was cut ends as every text does. */
static int tokenize(const mm_text_task *t, const mm_slice *text, size_t n, mm_id_lists *k, mm_err *err)
{
    size_t suffix;
    const int32_t *end = mm_tok_suffix(t->o.tok, &suffix);
    int r = mm_tokenize(t->o.tok, MM_TOK_SPECIAL, t->o.window, text, n, k, err);
    for (size_t i = 0; i < n && !r && suffix && suffix < t->o.window; i++)
        if (k->off[i + 1] - k->off[i] == t->o.window) memcpy(k->ids + k->off[i + 1] - suffix, end, suffix * sizeof *end);
    return r;
}

static int read_sides(mm_text_task *t, mm_err *err)
{
    const mm_text_pair *p = t->o.pairs->p;
    const size_t n = t->o.pairs->n;
    mm_text_set other = { .number = json_object() };
    mm_slice *text = mm_realloc(NULL, 2 * n + 1, sizeof *text), *second = text + n;
    t->sum = mm_realloc(NULL, n + 1, sizeof *t->sum);
    int r = other.number && text && t->sum ? 0 : no_memory(err);
    if (!r) t->sum[0] = 0;
    for (size_t i = 0; i < n && !r; i++) {
        text[i] = (mm_slice){ p[i].text, p[i].len };
        second[i] = (mm_slice){ p[i].en, p[i].en_len };
        mm_text_set_add(&other, p[i].en, p[i].en_len);
        t->sum[i + 1] = t->sum[i] + (mm_text_pair_kept_out(&p[i]) ? 0 : (double)p[i].weight);
        if (other.failed) r = no_memory(err);
    }
    if (!r && !(t->sum[n] > 0)) r = mm_fail(err, MM_EARG, "no pair of texts has a weight");
    if (!r && t->o.weight[MM_TEXT_DISTIL] > 0) r = teach(t, other.text, other.n, err);
    if (!r) r = tokenize(t, text, n, &t->ids, err);
    if (!r && t->o.weight[MM_TEXT_INFONCE] > 0) r = tokenize(t, second, n, &t->other_ids, err);
    t->target = other.rows;
    other.rows = NULL;
    free(text);
    mm_text_set_clear(&other);
    return r;
}

int mm_text_task_open(mm_text_task **out, const mm_text_task_opts *o, mm_err *err)
{
    mm_text_task *t = *out = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->o = *o;
    t->dim = mm_text_net_at(o->net, 0)->p.cols;
    t->log_scale = logf(20);
    t->scale = (mm_param){ &t->log_scale, NULL, 1, 1 };
    t->tape = mm_tape_new(o->keep);
    t->arena.block_size = t->batch.block_size = (size_t)16 << 20;
    int r = t->tape ? 0 : no_memory(err);
    if (!r && o->weight[MM_TEXT_DISTIL] > 0 && mm_teacher_dim(o->teacher) != t->dim)
        r = mm_fail(err, MM_ESHAPE, "the teacher's vectors have %zu numbers, the model's %zu", mm_teacher_dim(o->teacher), t->dim);
    if (!r) r = read_sides(t, err);
    if (r) mm_text_task_close(out);
    return r;
}

void mm_text_task_close(mm_text_task **tp)
{
    mm_text_task *t = *tp;
    if (!t) return;
    mm_tape_free(&t->tape);
    mm_id_lists_clear(&t->ids);
    mm_id_lists_clear(&t->other_ids);
    free(t->target);
    free(t->targets);
    free(t->sum);
    mm_arena_clear(&t->arena);
    mm_arena_clear(&t->batch);
    free(t);
    *tp = NULL;
}

mm_param *mm_text_task_scale(mm_text_task *t) { return &t->scale; }
size_t mm_text_task_peak(const mm_text_task *t) { return mm_tape_peak(t->tape); }

/* ---- a step ---- */

static mm_tensor embed(mm_text_task *t, mm_graph *g, const mm_id_lists *k, const uint32_t *pick, size_t n)
{
    int32_t *ids;
    size_t *off;
    if (!mm_gather_ids(&t->batch, k, pick, n, &ids, &off)) return mm_text_net_embed(g, t->o.net, ids, off, n);
    g->failed = 1;
    return (mm_tensor){ 0 };
}

static mm_tensor distil(mm_text_task *t, mm_graph *g, mm_tensor z, const uint32_t *pick)
{
    static const float sharp = 2.9957322735539909f, w[2] = { 2, 0.5f }; /* log 20 */
    const size_t n = z.rows, d = t->dim;
    float *target = mm_arena_alloc(&t->batch, n * d, sizeof *target);
    for (size_t i = 0; target && i < n; i++) memcpy(target + i * d, t->targets + (size_t)t->target[pick[i]] * d, d * sizeof *target);
    const float *like = target ? mm_likeness(g, target, n, target, n, d, 20) : NULL;
    if (!like) {
        g->failed = 1;
        return (mm_tensor){ 0 };
    }
    mm_tensor s = mm_op_similarity(g, z, mm_tensor_of(target, n, d), mm_tensor_of(&sharp, 1, 1), NULL);
    const mm_tensor part[2] = { mm_op_cos_loss(g, z, target, d, d), mm_op_softmax_ce(g, s, like) };
    return mm_op_sum(g, part, w, 2);
}

static mm_tensor infonce(mm_text_task *t, mm_graph *g, mm_tensor z, const uint32_t *pick)
{
    static const float half[2] = { 0.5f, 0.5f };
    const size_t n = z.rows;
    float *right = mm_arena_alloc(&t->batch, n * n, sizeof *right);
    for (size_t i = 0; right && i < n; i++) {
        float count = 0;
        for (size_t j = 0; j < n; j++) count += right[i * n + j] = t->target[pick[i]] == t->target[pick[j]];
        for (size_t j = 0; j < n; j++) right[i * n + j] /= count;
    }
    if (!right) g->failed = 1;
    mm_tensor s = mm_op_similarity(g, z, embed(t, g, &t->other_ids, pick, n), mm_op_param(g, &t->scale), NULL);
    const mm_tensor part[2] = { mm_op_softmax_ce(g, s, right), mm_op_softmax_ce(g, mm_op_transpose(g, s), right) };
    return mm_op_sum(g, part, half, 2);
}

static mm_graph graph(mm_text_task *t, mm_tape *tape)
{
    return (mm_graph){ .kern = mm_kern_get(), .arena = &t->arena, .threads = t->o.threads, .tape = tape };
}

int mm_text_task_step(mm_text_task *t, uint64_t step, float scale, float loss[MM_TEXT_LOSSES], mm_err *err)
{
    const size_t n = (size_t)t->o.texts;
    mm_arena_reset(&t->batch);
    uint32_t *pick = mm_arena_alloc(&t->batch, n, sizeof *pick);
    for (int i = 0; i < MM_TEXT_LOSSES; i++) loss[i] = NAN;
    if (!pick || mm_pairs_draw(&t->batch, t->sum, t->o.pairs->n, t->ids.off, t->o.seed, step, n, pick)) return no_memory(err);
    mm_graph g = graph(t, t->tape);
    mm_tensor z = embed(t, &g, &t->ids, pick, n);
    for (int i = 0; i < MM_TEXT_LOSSES && !g.failed; i++) {
        if (!(t->o.weight[i] > 0)) continue;
        mm_tensor l = i == MM_TEXT_DISTIL ? distil(t, &g, z, pick) : infonce(t, &g, z, pick);
        if (!l.p) break;
        loss[i] = *l.p;
        mm_tape_seed(&g, l, scale * t->o.weight[i]);
    }
    int r = g.failed ? MM_ENOMEM : mm_tape_backward(&g);
    mm_tape_reset(t->tape);
    mm_arena_reset(&t->arena);
    return r ? no_memory(err) : 0;
}

/* ---- scores ---- */

static int embed_all(mm_text_task *t, const mm_id_lists *k, const uint32_t *pick, size_t n, float *vec, mm_err *err)
{
    for (size_t at = 0; at < n; at += 64) {
        const size_t m = n - at < 64 ? n - at : 64;
        mm_arena_reset(&t->batch);
        mm_graph g = graph(t, NULL);
        mm_tensor z = embed(t, &g, k, pick + at, m);
        if (g.failed) return no_memory(err);
        memcpy(vec + at * t->dim, z.p, m * t->dim * sizeof *vec);
        mm_arena_reset(&t->arena);
    }
    return 0;
}

/* Share of texts whose own other side is the nearest, those equal to it aside */
static double found_first(const mm_text_task *t, const float *a, const float *b, const uint32_t *pick, size_t n)
{
    const mm_kern *k = mm_kern_get();
    size_t hits = 0;
    for (size_t i = 0; i < n; i++) {
        const float own = k->dot_f32(a + i * t->dim, b + i * t->dim, t->dim);
        int first = 1;
        for (size_t j = 0; j < n && first; j++)
            first = t->target[pick[i]] == t->target[pick[j]] || k->dot_f32(a + i * t->dim, b + j * t->dim, t->dim) < own;
        hits += (size_t)first;
    }
    return (double)hits / (double)n;
}

int mm_text_task_validate(mm_text_task *t, double score[MM_TEXT_LOSSES], mm_err *err)
{
    const size_t d = t->dim;
    size_t n = 0;
    uint32_t *pick = mm_realloc(NULL, VALIDATED, sizeof *pick);
    float *vec = mm_aligned(VALIDATED * d, sizeof *vec), *other = mm_aligned(FOUND * d, sizeof *other);
    int r = pick && vec && other ? 0 : no_memory(err);
    for (int i = 0; i < MM_TEXT_LOSSES; i++) score[i] = NAN;
    for (size_t i = 0; i < t->o.pairs->n && n < VALIDATED && !r; i++)
        if (t->o.pairs->p[i].weight > 0 && mm_text_pair_kept_out(&t->o.pairs->p[i])) pick[n++] = (uint32_t)i;
    if (!r && n) r = embed_all(t, &t->ids, pick, n, vec, err);
    if (!r && n && t->o.weight[MM_TEXT_DISTIL] > 0) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)mm_kern_get()->dot_f32(vec + i * d, t->targets + (size_t)t->target[pick[i]] * d, d);
        score[MM_TEXT_DISTIL] = 100 * sum / (double)n;
    }
    if (!r && n && t->o.weight[MM_TEXT_INFONCE] > 0) {
        const size_t m = n < FOUND ? n : FOUND;
        r = embed_all(t, &t->other_ids, pick, m, other, err);
        if (!r) score[MM_TEXT_INFONCE] = 100 * found_first(t, vec, other, pick, m);
    }
    free(pick);
    free(vec);
    free(other);
    return r;
}

#include "gen/mm_paint.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"
#include "base/mm_rng.h"
#include "model/mm_uni_heads.h"

#define STEPS 30
#define TOGETHER 16 /* pictures in one step: their activations are some MB */

struct mm_paint {
    mm_model *m;
    const mm_uni *u;
    mm_paint_opts o;
    size_t patches, size; /* of a picture; numbers of a patch */
    mm_arena arena;
};

/* The pictures of one call on their way. Where there is a prompt and guidance, the model is asked a second time without it. */
typedef struct {
    mm_paint_job **job;
    size_t n, canvases;
    float *z;             /* [canvases, numbers]: the pictures', then copies of those that are asked about without their prompt */
    size_t *of, *twin;    /* [canvases] prompt, or SIZE_MAX; [n] the canvas without it, or SIZE_MAX */
    float *from;          /* [n] where a picture is taken up: t */
    mm_uni_given given;
} work;

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

int mm_paint_new(mm_paint **out, mm_model *m, const mm_paint_opts *opts, mm_err *err)
{
    const mm_uni *u = mm_model_uni(m);
    *out = NULL;
    if (!u || !mm_uni_get_config(u)->patch)
        return mm_fail(err, MM_EUNSUP, u ? "this unified model has no rectified-flow head (flow.*): it makes no pictures"
                                         : "a model of family %s makes no pictures: that is for models of family uni", mm_model_family(m));
    mm_paint *p = calloc(1, sizeof *p);
    if (!p) return no_memory(err);
    p->m = m;
    p->u = u;
    p->o = *opts;
    if (!p->o.steps) p->o.steps = STEPS;
    p->patches = mm_uni_patches(mm_uni_get_config(u));
    p->size = mm_uni_patch_size(mm_uni_get_config(u));
    *out = p;
    return 0;
}

void mm_paint_free(mm_paint **pp)
{
    mm_paint *p = *pp;
    if (!p) return;
    mm_arena_clear(&p->arena);
    free(p);
    *pp = NULL;
}

size_t mm_paint_floats(const mm_paint *p) { return p->patches * p->size; }

/* ---- prompts ---- */

/* The tokens of a job's prompt: ids of the model's window. */
static int read_prompt(mm_paint *p, mm_paint_job *j, int32_t *ids, size_t *n)
{
    mm_text_out res;
    *n = 0;
    if (!j->text.len) return 0;
    int r = mm_model_text_ids(p->m, j->text, ids, n, &res, &j->err);
    if (!r && res.code) r = mm_fail(&j->err, res.code, "the prompt has no tokens");
    if (!r && res.used < res.tokens) r = mm_fail(&j->err, MM_ELONG, "a prompt of %u tokens is more than the model sees, %u", res.tokens, res.used);
    return j->code = r;
}

/* What the trunk makes of all prompts. */
static int see(mm_paint *p, mm_graph *g, work *w, mm_err *err)
{
    const size_t window = (size_t)mm_model_get_config(p->m, MM_TEXT)->window;
    int32_t *ids = mm_arena_alloc(&p->arena, w->n * window, sizeof *ids);
    size_t *off = mm_arena_alloc(&p->arena, w->n + 1, sizeof *off), texts = 0, kept = 0;
    if (!ids || !off) return no_memory(err);
    off[0] = 0;
    for (size_t i = 0; i < w->n; i++) {
        size_t n;
        if (read_prompt(p, w->job[i], ids + off[texts], &n) == MM_ENOMEM) return no_memory(err);
        if (w->job[i]->code) continue;
        w->job[kept] = w->job[i];
        w->of[kept++] = n ? texts : SIZE_MAX;
        if (n) off[texts + 1] = off[texts] + n, texts++;
    }
    w->n = kept;
    if (texts) w->given = mm_uni_see(g, p->u, &(mm_uni_in){ .mod = MM_TEXT, .n = texts, .ids = ids, .off = off }, NULL);
    return g->failed ? no_memory(err) : 0;
}

/* ---- the way ---- */

static void begin(const mm_paint *p, work *w)
{
    const mm_uni_config *c = mm_uni_get_config(p->u);
    const size_t numbers = mm_paint_floats(p);
    w->canvases = w->n;
    for (size_t i = 0; i < w->n; i++) {
        const mm_paint_job *j = w->job[i];
        float *z = w->z + i * numbers;
        mm_rng r = mm_rng_at(j->seed, UINT64_C(0x7061696e74), 0, 0);
        w->from[i] = j->init ? 1 - j->strength : 0;
        w->twin[i] = SIZE_MAX;
        if (j->init) mm_uni_to_patches(c, j->init, z);
        for (size_t k = 0; k < numbers; k++) {
            const float noise = mm_rng_normal(&r);
            z[k] = j->init ? w->from[i] * z[k] + (1 - w->from[i]) * noise : noise;
        }
        if (w->of[i] == SIZE_MAX || (p->o.guidance >= 1 && p->o.guidance <= 1)) continue;
        w->of[w->canvases] = SIZE_MAX;
        w->twin[i] = w->canvases++;
    }
}

/* Steps that a picture has left when all have gone `done` of them: it may be taken up late. */
static size_t steps_of(const mm_paint *p, const work *w, size_t i) { return (size_t)lrintf((1 - w->from[i]) * (float)p->o.steps); }

static int step(mm_paint *p, mm_graph *g, work *w, size_t k)
{
    const size_t numbers = mm_paint_floats(p);
    const mm_arena_mark mark = mm_graph_here(g);
    float *t = mm_arena_alloc(g->arena, w->canvases, sizeof *t);
    if (!t) return MM_ENOMEM;
    for (size_t i = 0; i < w->n; i++) {
        const size_t steps = steps_of(p, w, i);
        t[i] = steps ? w->from[i] + (1 - w->from[i]) * (float)(k < steps ? k : 0) / (float)steps : 0;
        if (w->twin[i] == SIZE_MAX) continue;
        t[w->twin[i]] = t[i];
        memcpy(w->z + w->twin[i] * numbers, w->z + i * numbers, numbers * sizeof *w->z);
    }
    const mm_uni_canvas c = { w->given.qkv ? &w->given : NULL, w->of, w->canvases, w->z, t };
    mm_tensor x = mm_uni_flow(g, p->u, &c);
    for (size_t i = 0; i < w->n && x.p; i++) {
        const size_t steps = steps_of(p, w, i);
        const float *with = x.p + i * numbers, *without = w->twin[i] == SIZE_MAX ? with : x.p + w->twin[i] * numbers;
        float *z = w->z + i * numbers, share = k < steps ? 1 / (float)(steps - k) : 0; /* of the way to x: h / (1 - t) */
        for (size_t n = 0; k < steps && n < numbers; n++) {
            float to = without[n] + p->o.guidance * (with[n] - without[n]);
            to = to < -1 ? -1 : to > 1 ? 1 : to;
            z[n] += share * (to - z[n]);
        }
    }
    mm_graph_back(g, mark);
    return g->failed ? MM_ENOMEM : 0;
}

static int paint(mm_paint *p, mm_paint_job *jobs, size_t n, mm_err *err)
{
    const size_t numbers = mm_paint_floats(p);
    mm_graph g = { .kern = mm_kern_get(), .arena = &p->arena, .threads = mm_model_threads(p->m) };
    work w = { .n = n };
    size_t most = 0;
    mm_arena_reset(&p->arena);
    w.job = mm_arena_alloc(&p->arena, n, sizeof *w.job);
    w.of = mm_arena_alloc(&p->arena, 2 * n, sizeof *w.of);
    w.twin = mm_arena_alloc(&p->arena, n, sizeof *w.twin);
    w.from = mm_arena_alloc(&p->arena, n, sizeof *w.from);
    w.z = mm_arena_alloc(&p->arena, 2 * n * numbers, sizeof *w.z);
    if (!w.job || !w.of || !w.twin || !w.from || !w.z) return no_memory(err);
    for (size_t i = 0; i < n; i++) w.job[i] = &jobs[i];
    int r = see(p, &g, &w, err);
    if (r) return r;
    begin(p, &w);
    for (size_t i = 0; i < w.n; i++)
        if (steps_of(p, &w, i) > most) most = steps_of(p, &w, i);
    for (size_t k = 0; k < most; k++)
        if (step(p, &g, &w, k)) return no_memory(err);
    for (size_t i = 0; i < w.n; i++) mm_uni_from_patches(mm_uni_get_config(p->u), w.z + i * numbers, w.job[i]->out);
    return 0;
}

int mm_paint_run(mm_paint *p, mm_paint_job *jobs, size_t n, mm_err *err)
{
    int r = 0;
    for (size_t i = 0; i < n; i++) jobs[i].code = 0;
    for (size_t at = 0, some; at < n && !r; at += some) {
        some = n - at < TOGETHER ? n - at : TOGETHER;
        r = paint(p, jobs + at, some, err);
    }
    return r;
}

int mm_paint_image(const mm_paint *p, const float *picture, mm_image *out, mm_err *err)
{
    const mm_image_spec *s = &mm_model_input_spec(p->m, MM_IMAGE)->image;
    const size_t plane = (size_t)s->width * (size_t)s->height;
    *out = (mm_image){ mm_realloc(NULL, plane, 3), s->width, s->height };
    if (!out->px) return no_memory(err);
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) {
            const float v = (picture[c * plane + i] * s->std[c] + s->mean[c]) * 255;
            out->px[3 * i + c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : lrintf(v));
        }
    return 0;
}

/* Records of several parts in training: a medium and a text, or a picture, a sound and a text of one thing. Often one part is made worse, is
 * another record's or is missing; the target is a text of the thing that the record does not have, so that what is worth less costs. */
#include <math.h>
#include <string.h>
#include "train/mm_corrupt.h"
#include "train/uni_task_int.h"

enum { STREAM_FUSED = 0x6675 };

typedef struct {
    mm_rng rng;
    uint32_t target, said;      /* rows of the bank */
    const char *words;          /* in place of `said`; NULL: as it is */
    unsigned has;               /* bit m: has modality m */
    const float *x[MM_MODALITIES], *times[MM_MODALITIES];
    size_t frames[MM_MODALITIES];
} record;

/* Records of one step that share a bank. */
typedef struct {
    mm_uni_task *t;
    mm_modality m; /* whose captions they have */
    record *r;
    size_t n;
} batch;

static size_t side_of(const mm_uni_task *t, mm_modality m) { return (size_t)(m == MM_IMAGE ? t->bo.px : t->bo.video_px); }

static size_t clip_of(const mm_uni_task *t, mm_modality m) { return m == MM_VIDEO ? (size_t)mm_uni_get_config(t->o.model)->mod[m].frames : 1; }

/* Input i of a modality of the batch. */
static void take(const batch *b, const mm_batch *from, record *r, mm_modality m, size_t i)
{
    const size_t side = side_of(b->t, m), clip = clip_of(b->t, m);
    r->has |= 1u << m;
    r->frames[m] = m == MM_AUDIO ? from->mel_at[i + 1] - from->mel_at[i] : clip;
    r->x[m] = m == MM_AUDIO ? from->mel + from->mel_at[i] * MM_UNI_MEL : (m == MM_IMAGE ? from->image : from->video) + i * clip * 3 * side * side;
    r->times[m] = m == MM_VIDEO ? from->times + i * clip : NULL;
}

/* Two texts of an example, different ones where it has them. Returns how many it has. */
static uint32_t choose_texts(const batch *b, record *r, uint32_t example)
{
    const bank *k = &b->t->banks[b->m];
    const uint32_t *own = k->c.rows + k->c.first[example], many = mm_captions_count(&k->c, example);
    const uint32_t at = mm_rng_below(&r->rng, many);
    r->target = own[at];
    r->said = own[many > 1 ? (at + 1 + mm_rng_below(&r->rng, many - 1)) % many : at];
    r->has |= 1u << MM_TEXT;
    return many;
}

static const char *another_text(void *arg, mm_rng *rng, size_t *len)
{
    const bank *k = arg;
    const mm_slice *s = &k->c.text[mm_rng_below(rng, (uint32_t)k->c.n)];
    *len = s->len;
    return s->p;
}

static int spoil_text(batch *b, record *r, float level)
{
    bank *k = &b->t->banks[b->m];
    if (mm_rng_unit(&r->rng) < 0.2f) return r->said = mm_rng_below(&r->rng, (uint32_t)k->c.n), 0;
    r->words = mm_corrupt_words(k->c.text[r->said].p, k->c.text[r->said].len, level, another_text, k, &b->t->batch, r->rng);
    return r->words ? 0 : MM_ENOMEM;
}

static int spoil_medium(batch *b, size_t i, mm_modality m, float level)
{
    record *r = &b->r[i];
    const size_t side = side_of(b->t, m), each = m == MM_AUDIO ? MM_UNI_MEL : 3 * side * side;
    if (mm_rng_unit(&r->rng) < 0.2f && b->n > 1) {
        const record *o = &b->r[(i + 1 + mm_rng_below(&r->rng, (uint32_t)b->n - 1)) % b->n];
        if (o->has >> m & 1) r->x[m] = o->x[m], r->frames[m] = o->frames[m], r->times[m] = o->times[m];
        return 0;
    }
    const uint32_t how = mm_rng_below(&r->rng, m == MM_AUDIO ? MM_CORRUPT_SOUNDS : MM_CORRUPT_PICTURES);
    float *y = mm_arena_alloc(&b->t->batch, r->frames[m] * each + side, sizeof *y);
    if (!y) return MM_ENOMEM;
    if (m == MM_AUDIO) mm_corrupt_mel(y, r->x[m], r->frames[m], MM_UNI_MEL, (mm_corrupt_sound)how, level, r->rng);
    else mm_corrupt_pixels(y, r->x[m], r->frames[m], side, side, (mm_corrupt_picture)how, level, y + r->frames[m] * each, r->rng);
    r->x[m] = y;
    return 0;
}

static mm_modality any_part(record *r)
{
    unsigned n = 0, k;
    for (unsigned m = 0; m < MM_MODALITIES; m++) n += r->has >> m & 1;
    k = mm_rng_below(&r->rng, n);
    for (unsigned m = 0; m < MM_MODALITIES; m++)
        if (r->has >> m & 1 && !k--) return (mm_modality)m;
    return MM_TEXT;
}

/* One record in six is left as it is, one in twelve lacks a part, one in six has two that are made worse, which may be the same. Where a thing has
 * one text only, which is the target then, it is the text that is made worse: nothing can be learned from an answer that is given. */
static int spoil(batch *b, size_t i, int told)
{
    record *r = &b->r[i];
    const float u = mm_rng_unit(&r->rng);
    int r1 = 0;
    if (!told && u < 1 / 12.0f) r->has &= ~(1u << any_part(r));
    if (!told && u < 0.25f) return 0;
    for (int times = u > 5 / 6.0f ? 2 : 1; times-- && !r1; told = 0) {
        const mm_modality m = told ? MM_TEXT : any_part(r);
        const float level = 1 - mm_rng_unit(&r->rng);
        r1 = m == MM_TEXT ? spoil_text(b, r, level) : spoil_medium(b, i, m, level);
    }
    return r1;
}

static int tokens_of(batch *b, size_t parts, int32_t **ids, size_t **off, mm_err *err)
{
    mm_uni_task *t = b->t;
    const mm_id_lists *k = &t->caption_ids[b->m];
    const size_t window = (size_t)mm_uni_get_config(t->o.model)->window;
    mm_tok_out out = { 0 };
    size_t at = 0, i = 0;
    int r = 0;
    *off = mm_arena_alloc(&t->batch, parts + 1, sizeof **off);
    *ids = mm_arena_alloc(&t->batch, parts * window, sizeof **ids);
    if (!*off || !*ids) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t n = 0; n < b->n && !r; n++) {
        const record *x = &b->r[n];
        const int32_t *from = k->ids + k->off[x->said];
        size_t len = k->off[x->said + 1] - k->off[x->said];
        if (!(x->has >> MM_TEXT & 1)) continue;
        if (x->words) {
            r = mm_tok_encode(t->o.tok, x->words, strlen(x->words), MM_TOK_SPECIAL, &out, err);
            if (!r && out.n) from = out.ids, len = out.n < window ? out.n : window;
        }
        (*off)[i++] = at;
        memcpy(*ids + at, from, len * sizeof **ids);
        at += len;
    }
    (*off)[i] = at;
    mm_tok_out_clear(&out);
    return r;
}

/* The records' inputs, modality by modality. */
static int inputs(batch *b, mm_uni_in in[MM_MODALITIES], mm_uni_records *rec, mm_err *err)
{
    mm_uni_task *t = b->t;
    rec->n = b->n;
    for (int m = 0; m < MM_MODALITIES; m++) {
        const size_t side = side_of(t, (mm_modality)m);
        const float **x = mm_arena_alloc(&t->batch, b->n, sizeof *x), **times = mm_arena_alloc(&t->batch, b->n, sizeof *times);
        size_t *frames = mm_arena_alloc(&t->batch, b->n, sizeof *frames), *of = mm_arena_alloc(&t->batch, b->n, sizeof *of), n = 0;
        if (!x || !times || !frames || !of) return mm_fail(err, MM_ENOMEM, "out of memory");
        for (size_t i = 0; i < b->n; i++) {
            if (!(b->r[i].has >> m & 1)) continue;
            x[n] = b->r[i].x[m];
            times[n] = b->r[i].times[m];
            frames[n] = b->r[i].frames[m];
            of[n++] = i;
        }
        in[m] = (mm_uni_in){ .mod = (mm_modality)m, .n = n, .x = x, .frames = frames, .times = times, .height = side, .width = side };
        if (!n) continue;
        rec->in[m] = &in[m];
        rec->of[m] = of;
        if (m == MM_TEXT) {
            int32_t *ids;
            size_t *off;
            int r = tokens_of(b, n, &ids, &off, err);
            if (r) return r;
            in[m].ids = ids;
            in[m].off = off;
        }
    }
    return 0;
}

static int learn(batch *b, float scale, float *value, mm_err *err)
{
    mm_uni_task *t = b->t;
    const bank *k = &t->banks[b->m];
    const size_t out = t->out;
    mm_uni_in in[MM_MODALITIES];
    mm_uni_records rec = { .n = 0 };
    float *target = mm_arena_alloc(&t->batch, b->n * out, sizeof *target);
    int r = target ? inputs(b, in, &rec, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) return r;
    for (size_t i = 0; i < b->n; i++) memcpy(target + i * out, k->vec + (size_t)b->r[i].target * out, out * sizeof *target);
    mm_graph g = task_graph(t, t->tape);
    losses l = { .n = 0 };
    mm_uni_measure(&g, t->o.model, &rec);
    mm_tensor z = g.failed ? (mm_tensor){ 0 } : mm_uni_fuse(&g, t->o.model, &rec, NULL, NULL);
    task_also(&l, mm_op_cos_loss(&g, z, target, out, out), t->o.weight.fused);
    return task_finish(t, &g, &l, scale * t->o.part[b->m], value, err);
}

/* n records of medium m from `at` on, with text; `with` MM_AUDIO: and the sounds of the same things, the batch's last ones. */
static int step(mm_uni_task *t, const mm_batch *from, mm_modality m, size_t at, size_t n, int with, float scale, float *value, mm_err *err)
{
    const bank *k = &t->banks[m];
    batch b = { t, m, mm_arena_zalloc(&t->batch, n, sizeof *b.r), n };
    int r = 0;
    if (!n || !k->vec || !t->caption_ids[m].off) return 0;
    if (!b.r) return mm_fail(err, MM_ENOMEM, "out of memory");
    char *told = mm_arena_zalloc(&t->batch, n, 1);
    if (!told) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        b.r[i].rng = mm_rng_at(t->o.seed, STREAM_FUSED + (uint64_t)m + (with ? MM_MODALITIES : 0), from->step, i);
        take(&b, from, &b.r[i], m, at + i);
        if (with) take(&b, from, &b.r[i], MM_AUDIO, (size_t)(from->n[MM_AUDIO] - from->joint) + i);
        told[i] = choose_texts(&b, &b.r[i], from->pick[m][at + i].example) < 2;
        /* half of those that have both a picture and a sound do without the text */
        if (with && mm_rng_unit(&b.r[i].rng) < 0.5f) b.r[i].has &= ~(1u << MM_TEXT), told[i] = 0;
    }
    for (size_t i = 0; i < n && !r; i++) r = spoil(&b, i, told[i]) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    return r ? r : learn(&b, scale, value, err);
}

int task_step_fused(mm_uni_task *t, const mm_batch *from, float scale, float loss[MM_MODALITIES], mm_err *err)
{
    float value = NAN;
    int r = 0;
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
        const size_t n = (size_t)(from->n[m] - (m == MM_VIDEO ? 0 : from->joint));
        r = step(t, from, (mm_modality)m, 0, loss ? n : n / 4, 0, scale, &value, err);
        if (!r && loss) loss[m] = value;
    }
    if (!r) r = step(t, from, MM_IMAGE, (size_t)(from->n[MM_IMAGE] - from->joint), (size_t)from->joint, 1, scale, &value, err);
    return r;
}

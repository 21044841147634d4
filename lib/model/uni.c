/* The unified model's weights: their names, shapes, owners and starting values. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_rng.h"
#include "model/mm_uni_heads.h"
#include "model/uni_int.h"

enum { STREAM_INIT = 0x696e };

/* One slot by name: made at the first walk, found at later ones. */
static mm_uni_slot *slot(mm_uni *u, unsigned mods, int64_t rows, int64_t cols, const char *fmt, ...) MM_PRINTF(5, 6);
static mm_uni_slot *slot(mm_uni *u, unsigned mods, int64_t rows, int64_t cols, const char *fmt, ...)
{
    static mm_uni_slot nothing;
    char name[sizeof nothing.name];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    mm_uni_slot *s = mm_uni_slot_find(u, name);
    if (s) {
        s->mods |= mods;
        return s;
    }
    if (u->n == u->cap || u->failed) {
        u->failed = 1;
        return &nothing;
    }
    s = &u->slots[u->n++];
    memcpy(s->name, name, sizeof name);
    s->p.rows = (size_t)(rows ? rows : 1);
    s->p.cols = (size_t)cols;
    s->mods = mods;
    s->matrix = rows > 0;
    s->decay = rows > 0;
    return s;
}

static mm_linear linear(mm_uni *u, unsigned mods, int64_t n, int64_t k, int bias, const char *name)
{
    mm_uni_slot *w = slot(u, mods, n, k, "%s.weight", name), *b = bias ? slot(u, mods, 0, n, "%s.bias", name) : NULL;
    return (mm_linear){ w->packed, b ? b->p.w : NULL, &w->p, b ? &b->p : NULL };
}

static mm_norm norm(mm_uni *u, unsigned mods, int64_t n, const char *name)
{
    mm_uni_slot *a = slot(u, mods, 0, n, "%s.weight", name), *b = slot(u, mods, 0, n, "%s.bias", name);
    return (mm_norm){ a->p.w, b->p.w, &a->p, &b->p };
}

static const char *stream_name(int m)
{
    return m == MM_UNI_NEXT ? "next" : m == MM_UNI_FLOW ? "flow" : mm_modality_name((mm_modality)m);
}

/* "blk.3.ffn_up" or, where the part is its own, "image.blk.3.ffn_up" */
static const char *part(char buf[64], const mm_uni *u, int what, int m, int64_t l, const char *name)
{
    int own = u->c.own[what][m] >> l & 1;
    snprintf(buf, 64, "%s%sblk.%lld.%s", own ? stream_name(m) : "", own ? "." : "", (long long)l, name);
    return buf;
}

static void layer(mm_uni *u, int64_t l, int m)
{
    const mm_uni_config *c = &u->c;
    uni_layer *y = &u->layers[l];
    unsigned bit = 1u << m;
    int64_t d = c->width;
    char b[64];
    const char *mod = stream_name(m);
    y->norm[0][m] = norm(u, bit, d, part(b, u, MM_UNI_NORM, m, l, "attn_norm"));
    y->qkv[m] = linear(u, bit, 3 * d, d, 1, part(b, u, MM_UNI_ATTENTION, m, l, "attn_qkv"));
    y->out[m] = linear(u, bit, d, d, 1, part(b, u, MM_UNI_ATTENTION, m, l, "attn_output"));
    y->norm[1][m] = norm(u, bit, d, part(b, u, MM_UNI_NORM, m, l, "ffn_norm"));
    y->up[m] = linear(u, bit, c->ff_width, d, 1, part(b, u, MM_UNI_FFN, m, l, "ffn_up"));
    y->down[m] = linear(u, bit, d, c->ff_width, 1, part(b, u, MM_UNI_FFN, m, l, "ffn_down"));
    y->scale[0][m] = &slot(u, bit, 0, d, "%s.blk.%lld.attn_scale", mod, (long long)l)->p;
    y->scale[1][m] = &slot(u, bit, 0, d, "%s.blk.%lld.ffn_scale", mod, (long long)l)->p;
    if (m < MM_MODALITIES) y->alloc = &slot(u, bit, 0, c->heads, "blk.%lld.attn_alloc", (long long)l)->p;
}

static void stem(mm_uni *u, int m)
{
    const mm_uni_config *c = &u->c;
    int64_t a = c->mod[m].merge[0], b = c->mod[m].merge[1], first = m == MM_AUDIO ? 2 * 64 : m == MM_VIDEO ? 96 : 48;
    int64_t fold = m == MM_AUDIO ? 2 : 4, k[3] = { first, fold * a, fold * b }, n[3] = { a, b, c->mod[m].width };
    char name[64];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.stem.%d", mm_modality_name((mm_modality)m), i);
        u->entry[m].stem[i] = linear(u, 1u << m, n[i], k[i], 1, name);
    }
}

/* That of the token table, in whole blocks of q8_0. */
size_t mm_uni_word_width(const mm_uni_config *c) { return (size_t)(c->mod[MM_TEXT].width + 31) / 32 * 32; }

static void head(mm_uni *u, int m)
{
    const mm_uni_config *c = &u->c;
    uni_head *h = &u->head[m - MM_MODALITIES];
    unsigned bit = 1u << m;
    if (m == MM_UNI_NEXT) {
        int64_t n = (int64_t)mm_uni_word_width(c);
        mm_uni_slot *rows = slot(u, bit, c->vocab, n, "next.rows.weight");
        h->words.rows = &rows->p;
        h->in = linear(u, bit, c->width, n, 1, "next.entry");
        h->last = norm(u, bit, c->width, "next.last_norm");
        h->out = linear(u, bit, n, c->width, 1, "next.out");
        mm_param *bias = &slot(u, bit, 0, c->vocab, "next.logit_bias")->p;
        h->logits = (mm_linear){ rows->packed, bias->w, &rows->p, bias };
    } else {
        int64_t n = 3 * c->patch * c->patch;
        h->in = linear(u, bit, c->width, n, 1, "flow.entry");
        h->time[0] = linear(u, bit, c->width, MM_UNI_TIME, 1, "flow.time.0");
        h->time[1] = linear(u, bit, c->width, c->width, 1, "flow.time.1");
        h->last = norm(u, bit, c->width, "flow.last_norm");
        h->out = linear(u, bit, n, c->width, 1, "flow.out");
    }
    for (int64_t l = 0; l < c->layers; l++) layer(u, l, m);
}

void mm_uni_walk(mm_uni *u)
{
    const mm_uni_config *c = &u->c;
    for (int m = 0; m < MM_MODALITIES; m++) {
        uni_entry *e = &u->entry[m];
        unsigned bit = 1u << m;
        const char *mod = mm_modality_name((mm_modality)m);
        char b[64];
        if (!c->mod[m].width) continue;
        if (m == MM_TEXT) {
            u->tokens.rows = &slot(u, bit, c->vocab, c->mod[m].width, "token_embd.weight")->p;
            if (c->mod[m].direct) u->direct.rows = &slot(u, bit, c->vocab, c->mod[m].direct, "token_direct.weight")->p;
        } else {
            stem(u, m);
            snprintf(b, sizeof b, "%s.entry_norm", mod);
            e->norm = norm(u, bit, c->mod[m].width, b);
            snprintf(b, sizeof b, "%s.last_norm", mod);
            e->last = norm(u, bit, c->width, b);
        }
        snprintf(b, sizeof b, "%s.entry", mod);
        e->in = linear(u, bit, c->width, c->mod[m].width, 0, b);
        if (c->positions == MM_UNI_ABSOLUTE) {
            size_t n[3];
            mm_uni_axes(c, m, n);
            snprintf(b, sizeof b, "%s.position", mod);
            e->position = linear(u, bit, c->width, (int64_t)(n[0] + n[1] + n[2]), 0, b);
        }
        e->ident = &slot(u, bit, 0, c->ident, "%s.ident", mod)->p;
        e->query = &slot(u, bit, 0, c->width, "%s.pool_query", mod)->p;
        if (c->mod[m].few) {
            snprintf(b, sizeof b, "%s.few_key", mod);
            e->key = linear(u, bit, c->mod[m].few, c->out, 0, b);
            snprintf(b, sizeof b, "%s.few_value", mod);
            e->value = linear(u, bit, c->out, c->mod[m].few, 0, b);
        }
        u->gate = linear(u, bit, c->width, c->ident, 1, "gate");
        u->shift = linear(u, bit, c->width, c->ident, 0, "shift");
        for (int64_t l = 0; l < c->layers; l++) layer(u, l, m);
        u->alloc[0] = linear(u, bit, c->alloc, c->width + c->ident + MM_UNI_QUALITY, 1, "alloc.0");
        u->alloc[1] = linear(u, bit, 1, c->alloc, 0, "alloc.1");
        u->proj = linear(u, bit, c->out, c->width, 0, "proj");
    }
    if (c->next) head(u, MM_UNI_NEXT);
    if (c->patch) head(u, MM_UNI_FLOW);
}

int mm_uni_new(mm_uni **out, const mm_uni_config *c, mm_err *err)
{
    *out = NULL;
    if (c->positions == MM_UNI_ABSOLUTE && (c->next || c->patch)) return mm_fail(err, MM_EUNSUP, "heads have no absolute positions");
    if (c->mod[MM_TEXT].width + c->mod[MM_TEXT].direct > c->out && c->mod[MM_TEXT].direct)
        return mm_fail(err, MM_EARG, "%lld direct numbers behind %lld of text have no place in an output of %lld", (long long)c->mod[MM_TEXT].direct,
                       (long long)c->mod[MM_TEXT].width, (long long)c->out);
    mm_uni *u = *out = calloc(1, sizeof *u);
    if (!u) return mm_fail(err, MM_ENOMEM, "out of memory");
    u->c = *c;
    u->cap = (size_t)c->layers * (4 * MM_UNI_STREAMS * 4 + 1) + 32 * MM_UNI_STREAMS;
    u->slots = calloc(u->cap, sizeof *u->slots);
    u->layers = mm_arena_zalloc(&u->arena, (size_t)c->layers, sizeof *u->layers);
    if (u->slots && u->layers) mm_uni_walk(u);
    if (!u->slots || !u->layers || u->failed) {
        mm_uni_free(out);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    return 0;
}

void mm_uni_free(mm_uni **up)
{
    mm_uni *u = *up;
    if (!u) return;
    for (size_t i = 0; i < u->n_packs; i++) free(u->packs[i]);
    free(u->packs);
    free(u->slots);
    mm_arena_clear(&u->arena);
    free(u);
    *up = NULL;
}

const mm_uni_config *mm_uni_get_config(const mm_uni *u) { return &u->c; }
size_t mm_uni_count(const mm_uni *u) { return u->n; }
mm_uni_slot *mm_uni_slot_at(mm_uni *u, size_t i) { return i < u->n ? &u->slots[i] : NULL; }
void mm_uni_bind(mm_uni *u) { mm_uni_walk(u); }

mm_uni_slot *mm_uni_slot_find(mm_uni *u, const char *name)
{
    for (size_t i = 0; i < u->n; i++)
        if (!strcmp(u->slots[i].name, name)) return &u->slots[i];
    return NULL;
}

void mm_uni_share(const mm_uni *u, mm_modality mod, size_t *total, size_t *shared)
{
    *total = *shared = 0;
    for (size_t i = 0; i < u->n; i++) {
        const mm_uni_slot *s = &u->slots[i];
        if (!(s->mods >> mod & 1) || &s->p == u->tokens.rows || &s->p == u->direct.rows || strstr(s->name, ".few_")) continue;
        *total += s->p.rows * s->p.cols;
        unsigned mods = s->mods & MM_UNI_MODALITIES; /* what a head has in common with one modality is still that one's own */
        if (mods & (mods - 1)) *shared += s->p.rows * s->p.cols;
    }
}

/* ---- starting values ---- */

static int ends(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

static void diagonal(mm_param *p, float v)
{
    memset(p->w, 0, p->rows * p->cols * sizeof *p->w);
    for (size_t i = 0; i < p->rows && i < p->cols; i++) p->w[i * p->cols + i] = v;
}

static void fill(mm_param *p, float v)
{
    for (size_t i = 0; i < p->rows * p->cols; i++) p->w[i] = v;
}

/* Glorot's bound; of a fused q, k, v that of one of them */
static void glorot(mm_param *p, mm_rng r, size_t rows)
{
    float a = sqrtf(6.0f / (float)(rows + p->cols));
    for (size_t i = 0; i < p->rows * p->cols; i++) p->w[i] = mm_rng_range(&r, -a, a);
}

/* The gate of modality m: open (+4) on the first d_m channels, nearly closed (-4) on the rest, through an identifier that is 1 in place m. */
static void init_gate(mm_uni *u, mm_param *p)
{
    memset(p->w, 0, p->rows * p->cols * sizeof *p->w);
    for (int m = 0; m < MM_MODALITIES && m < u->c.ident; m++)
        for (size_t c = 0; c < p->rows; c++) p->w[c * p->cols + (size_t)m] = (int64_t)c < u->c.mod[m].width ? 4 : -4;
}

static int named(const char *n, const char *const *list)
{
    while (*list && strcmp(*list, n) != 0) list++;
    return *list != NULL;
}

void mm_uni_init(mm_uni *u, uint64_t seed)
{
    static const char *const diagonals[] = { "text.entry.weight", "next.entry.weight", "proj.weight", NULL };
    static const char *const zero[] = { "token_direct.weight", "shift.weight", "alloc.1.weight", "flow.out.weight", NULL };
    for (size_t i = 0; i < u->n; i++) {
        mm_uni_slot *s = &u->slots[i];
        mm_rng r = mm_rng_at(seed, STREAM_INIT, i, 0);
        const char *n = s->name;
        int text = !strncmp(n, "text.", 5);
        const int place = ends(n, ".position.weight");
        s->decay = s->matrix && !place && strcmp(n, "gate.weight") != 0 && strncmp(n, "token_", 6) != 0 && strcmp(n, "next.rows.weight") != 0;
        if (ends(n, "norm.weight")) fill(&s->p, 1);
        else if (ends(n, "_scale")) fill(&s->p, text ? 0.001f : 0.5f);
        else if (!strcmp(n, "gate.weight")) init_gate(u, &s->p);
        else if (ends(n, ".ident")) {
            fill(&s->p, 0);
            for (int m = 0; m < MM_MODALITIES && m < u->c.ident; m++)
                if (!strncmp(n, mm_modality_name((mm_modality)m), strlen(n) - 6)) s->p.w[m] = 1;
        } else if (named(n, diagonals)) diagonal(&s->p, 1);
        else if (!strcmp(n, "token_embd.weight") || !strcmp(n, "next.rows.weight")) {
            for (size_t k = 0; k < s->p.rows * s->p.cols; k++) s->p.w[k] = mm_rng_range(&r, -0.1f, 0.1f);
        } else if (!s->matrix || place || named(n, zero)) fill(&s->p, 0);
        else glorot(&s->p, r, ends(n, "attn_qkv.weight") ? s->p.rows / 3 : s->p.rows);
    }
}

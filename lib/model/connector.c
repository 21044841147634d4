/* Between a unified model and a decoder: weights, the way through them, a file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_json.h"
#include "base/mm_rng.h"
#include "model/lm_int.h"
#include "model/mm_connector.h"
#include "model/model_int.h"

enum { SLOTS = 13 };
#define ARCH "mm-connector"
#define EPS 1e-5f

struct mm_connector {
    mm_connector_shape s;
    double size; /* of a number of the rows that are made, root of the mean square: what the decoder's first layer is used to */
    mm_connector_slot slot[SLOTS];
    size_t n;
    mm_norm norm, last;
    mm_linear in, vector, up, down;
    mm_param *query, *place; /* [rows, hidden] */
    unsigned mods;
    char *uni, *decoder; /* fingerprints */
    mm_arena arena;
};

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* ---- slots ---- */

static const struct {
    const char *name;
    enum { ONE, SEEN, VECTOR, HIDDEN, ROWS, ALL_HIDDEN, FF, OUT } rows, cols;
} parts[SLOTS] = { { "norm.weight", ONE, SEEN }, { "norm.bias", ONE, SEEN }, { "in.weight", HIDDEN, SEEN }, { "in.bias", ONE, HIDDEN },
                   { "query.weight", ROWS, HIDDEN }, { "place.weight", ROWS, HIDDEN }, { "vector.weight", ALL_HIDDEN, VECTOR }, { "up.weight", FF, HIDDEN },
                   { "up.bias", ONE, FF }, { "down.weight", OUT, FF }, { "down.bias", ONE, OUT }, { "last.weight", ONE, OUT }, { "last.bias", ONE, OUT } };

static size_t size_of(const mm_connector_shape *s, int i)
{
    const int64_t v[] = { [ONE] = 1, [SEEN] = s->seen, [VECTOR] = s->vector, [HIDDEN] = s->hidden, [ROWS] = s->rows, [FF] = s->ff, [OUT] = s->out,
                          [ALL_HIDDEN] = s->rows * s->hidden };
    return (size_t)v[i];
}

static int check_shape(const mm_connector_shape *s, mm_err *err)
{
    const int64_t v[] = { s->seen, s->vector, s->hidden, s->heads, s->rows, s->ff, s->out };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        if (v[i] < 1 || v[i] > MM_MAX_WIDTH) return mm_fail(err, MM_EDATA, "a connector cannot have a size of %lld", (long long)v[i]);
    if (s->rows > 1024) return mm_fail(err, MM_EDATA, "a connector that makes %lld rows is not supported", (long long)s->rows);
    return s->hidden % s->heads ? mm_fail(err, MM_EDATA, "a connector's width of %lld cannot have %lld heads", (long long)s->hidden, (long long)s->heads) : 0;
}

/* Memory for all weights. */
static int make(mm_connector **out, const mm_connector_shape *s, mm_err *err)
{
    *out = NULL;
    int r = check_shape(s, err);
    if (r) return r;
    mm_connector *c = *out = calloc(1, sizeof *c);
    if (!c) return no_memory(err);
    c->s = *s;
    for (size_t i = 0; i < SLOTS && !r; i++) {
        mm_connector_slot *x = &c->slot[c->n++];
        const size_t rows = size_of(s, parts[i].rows), cols = size_of(s, parts[i].cols);
        snprintf(x->name, sizeof x->name, "%s", parts[i].name);
        x->matrix = parts[i].rows != ONE;
        x->p = (mm_param){ mm_arena_zalloc(&c->arena, rows * cols, sizeof(float)), NULL, rows, cols };
        if (!x->p.w) r = no_memory(err);
    }
    if (r) mm_connector_close(out);
    else mm_connector_bind(c);
    return r;
}

void mm_connector_close(mm_connector **cp)
{
    mm_connector *c = *cp;
    if (!c) return;
    mm_arena_clear(&c->arena);
    free(c->uni);
    free(c->decoder);
    free(c);
    *cp = NULL;
}

void mm_connector_bind(mm_connector *c)
{
    mm_param *p[SLOTS];
    for (size_t i = 0; i < SLOTS; i++) p[i] = &c->slot[i].p;
    c->norm = (mm_norm){ p[0]->w, p[1]->w, p[0], p[1] };
    c->in = (mm_linear){ .pw = p[2], .pb = p[3], .bias = p[3]->w };
    c->query = p[4];
    c->place = p[5];
    c->vector = (mm_linear){ .pw = p[6] };
    c->up = (mm_linear){ .pw = p[7], .pb = p[8], .bias = p[8]->w };
    c->down = (mm_linear){ .pw = p[9], .pb = p[10], .bias = p[10]->w };
    c->last = (mm_norm){ p[11]->w, p[12]->w, p[11], p[12] };
}

size_t mm_connector_rows(const mm_connector *c) { return (size_t)c->s.rows; }
unsigned mm_connector_mods(const mm_connector *c) { return c->mods; }
const char *mm_connector_decoder(const mm_connector *c) { return c->decoder; }
size_t mm_connector_count(const mm_connector *c) { return c->n; }
mm_connector_slot *mm_connector_at(mm_connector *c, size_t i) { return &c->slot[i]; }

/* ---- a new one ---- */

/* That of the decoder's token rows. */
static int usual_size(const mm_lm *lm, double *size, mm_err *err)
{
    enum { SOME = 256 };
    const size_t vocab = mm_lm_vocab(lm), n = vocab < SOME ? vocab : SOME, width = mm_lm_width(lm);
    int32_t ids[SOME];
    float *rows = mm_aligned(n * width, sizeof *rows);
    if (!rows) return no_memory(err);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(i * vocab / n);
    const int r = mm_lm_embed(lm, ids, n, rows, err);
    *size = r ? 0 : sqrt(mm_kern_get()->sumsq(rows, n * width) / (double)(n * width));
    free(rows);
    return r;
}

static void begin(mm_connector *c, size_t i, uint64_t seed)
{
    mm_param *p = &c->slot[i].p;
    mm_rng rng = mm_rng_at(seed, 0x636f, i, 0);
    /* queries of zeros are the mean; a little, and places, so that rows differ */
    const float std = p == c->query ? 0.05f : p == c->place ? 0.3f : c->slot[i].matrix ? 1 / sqrtf((float)p->cols) : 0;
    const int gain = p == c->norm.pgain || p == c->last.pgain;
    for (size_t k = 0; k < p->rows * p->cols; k++) p->w[k] = std > 0 ? std * mm_rng_normal(&rng) : gain ? 1 : 0;
}

int mm_connector_new(mm_connector **out, const mm_model *uni, const mm_lm *lm, uint64_t seed, mm_err *err)
{
    *out = NULL;
    if (!mm_model_uni(uni)) return mm_fail(err, MM_EUNSUP, "a connector begins at a unified model");
    if (lm->m->uni) return mm_fail(err, MM_EUNSUP, "a connector ends at a decoder of another family");
    const mm_uni_config *u = mm_uni_get_config(uni->uni);
    const mm_connector_shape s = { .seen = u->width, .vector = u->out, .hidden = 512, .heads = 8, .rows = 4, .ff = 1024, .out = (int64_t)mm_lm_width(lm) };
    int r = make(out, &s, err);
    if (!r) r = usual_size(lm, &(*out)->size, err);
    for (size_t i = 0; i < SLOTS && !r; i++) begin(*out, i, seed);
    if (r) mm_connector_close(out);
    return r;
}

int mm_connector_fits(const mm_connector *c, const mm_model *uni, const mm_lm *lm, mm_err *err)
{
    const char *have = mm_model_fingerprint(uni);
    if (!mm_model_uni(uni) || !c->uni || strcmp(c->uni, have))
        return mm_fail(err, MM_ESHAPE, "it was made for what '%s' sees, and this is '%s'", c->uni ? c->uni : "?", have);
    const mm_uni_config *u = mm_uni_get_config(uni->uni);
    if (c->s.seen != u->width || c->s.vector != u->out)
        return mm_fail(err, MM_ESHAPE, "it takes rows of %lld numbers and vectors of %lld, and '%s' has %lld and %lld", (long long)c->s.seen,
                       (long long)c->s.vector, have, (long long)u->width, (long long)u->out);
    if (lm->m->uni || (size_t)c->s.out != mm_lm_width(lm))
        return mm_fail(err, MM_ESHAPE, "it was made for '%s', whose rows have %lld numbers, and this decoder's have %zu", c->decoder ? c->decoder : "?",
                       (long long)c->s.out, mm_lm_width(lm));
    return 0;
}

/* ---- the way through ---- */

mm_tensor mm_connector_make(mm_graph *g, const mm_connector *c, mm_tensor seen, const mm_ragged *r, mm_tensor vectors)
{
    const size_t rows = (size_t)c->s.rows, hidden = (size_t)c->s.hidden;
    mm_tensor *part = mm_arena_alloc(g->arena, rows, sizeof *part);
    size_t *which = mm_arena_alloc(g->arena, r->n * rows, sizeof *which);
    if (!part || !which) {
        g->failed = 1;
        return (mm_tensor){ 0 };
    }
    mm_tensor x = mm_op_linear(g, mm_op_layer_norm(g, seen, &c->norm, EPS, NULL), &c->in, MMK_ACT_NONE, NULL, NULL), query = mm_op_param(g, c->query);
    for (size_t k = 0; k < rows; k++) part[k] = mm_op_attend(g, x, mm_op_rows(g, query, &k, 1), (size_t)c->s.heads, r);
    for (size_t i = 0; i < r->n * rows; i++) which[i] = i % rows;
    const mm_tensor all[3] = { mm_op_reshape(g, mm_op_beside(g, part, rows), r->n * rows, hidden),
                               mm_op_rows(g, mm_op_param(g, c->place), which, r->n * rows),
                               mm_op_reshape(g, mm_op_linear(g, vectors, &c->vector, MMK_ACT_NONE, NULL, NULL), r->n * rows, hidden) };
    const float weight[3] = { 1, 1, sqrtf((float)c->s.vector) }; /* a vector has the length 1, other rows' numbers have it each */
    x = mm_op_linear(g, mm_op_sum(g, all, weight, 3), &c->up, MMK_ACT_GELU_TANH, NULL, NULL);
    x = mm_op_layer_norm(g, mm_op_linear(g, x, &c->down, MMK_ACT_NONE, NULL, NULL), &c->last, EPS, NULL);
    return mm_op_sum(g, &x, &(float){ (float)c->size }, 1);
}

int mm_connector_see(const mm_connector *c, mm_model *uni, const mm_part *what, float *rows, mm_err *err)
{
    mm_graph g = { .kern = uni->kern, .arena = uni->scratch, .threads = uni->opts.threads };
    mm_uni_in in;
    mm_arena_reset(g.arena);
    if (!(c->mods >> what->mod & 1)) return mm_fail(err, MM_EUNSUP, "the connector was not trained on %s", mm_modality_name(what->mod));
    const int r = mm_uni_part(uni, what, &in, g.arena, err);
    if (r) return r;
    const mm_uni_tokens t = mm_uni_stem(&g, uni->uni, &in);
    const mm_tensor trunk = mm_uni_trunk(&g, uni->uni, &t), y = mm_connector_make(&g, c, trunk, &t.r, mm_uni_pool(&g, uni->uni, &t, trunk));
    if (g.failed) return no_memory(err);
    memcpy(rows, y.p, y.rows * y.cols * sizeof *rows);
    return 0;
}

/* ---- files ---- */

static int read_config(mm_connector **out, const mm_store *st, mm_err *err)
{
    const char *text, *arch, *uni, *decoder;
    mm_connector_shape s;
    json_int_t v[8];
    double size;
    int r = mm_store_kv_str(st, "general.architecture", "", &arch, err);
    if (!r && strcmp(arch, ARCH)) r = mm_fail(err, MM_EUNSUP, "it is a file of architecture '%s', and no connector", arch);
    if (!r) r = mm_store_kv_str(st, ARCH ".config", "", &text, err);
    if (!r) r = mm_store_kv_str(st, ARCH ".sees", "", &uni, err);
    if (!r) r = mm_store_kv_str(st, ARCH ".decoder", "", &decoder, err);
    if (r) return r;
    json_t *j = mm_json_load(text, strlen(text), ARCH ".config", err);
    if (!j) return MM_EDATA;
    if (json_unpack(j, "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:F}", "seen", &v[0], "vector", &v[1], "hidden", &v[2], "heads", &v[3], "rows", &v[4], "ff", &v[5],
                    "out", &v[6], "modalities", &v[7], "size", &size))
        r = mm_fail(err, MM_EDATA, ARCH ".config lacks a number");
    json_decref(j);
    if (!r && (v[7] < 1 || v[7] >= 1 << MM_MODALITIES)) r = mm_fail(err, MM_EDATA, ARCH ".config: modalities of %lld", (long long)v[7]);
    if (!r && !(size > 0 && size < 1e6)) r = mm_fail(err, MM_EDATA, ARCH ".config: rows of size %g", size);
    s = (mm_connector_shape){ v[0], v[1], v[2], v[3], v[4], v[5], v[6] };
    if (!r) r = make(out, &s, err);
    if (r) return r;
    (*out)->mods = (unsigned)v[7];
    (*out)->size = size;
    (*out)->uni = strdup(uni);
    (*out)->decoder = strdup(decoder);
    return (*out)->uni && (*out)->decoder ? 0 : no_memory(err);
}

static int read_slot(mm_connector_slot *s, const mm_store *st, mm_err *err)
{
    const mm_store_tensor *t = mm_store_find(st, s->name);
    if (!t) return mm_fail(err, MM_EDATA, "tensor '%s' is missing", s->name);
    const int dims = s->matrix ? 2 : 1;
    if (t->ndim != dims || t->shape[dims - 1] != (int64_t)s->p.cols || (s->matrix && t->shape[0] != (int64_t)s->p.rows))
        return mm_fail(err, MM_ESHAPE, "tensor '%s' should be [%zu, %zu]", s->name, s->p.rows, s->p.cols);
    if (mmk_fmt(t->type) < 0 || s->p.cols % mm_dtype_get(t->type)->block)
        return mm_fail(err, MM_EUNSUP, "tensor '%s' has a type that is not supported", s->name);
    for (size_t i = 0; i < s->p.rows; i++)
        mmk_row_to_f32(mm_kern_get(), s->p.w + i * s->p.cols, (const char *)t->data + i * (t->bytes / s->p.rows), t->type, s->p.cols);
    return 0;
}

int mm_connector_open(mm_connector **out, const char *path, mm_err *err)
{
    mm_store *st;
    *out = NULL;
    int r = mm_store_open(&st, path, err);
    if (r) return r;
    r = mm_store_is_gguf(st) ? read_config(out, st, err) : mm_fail(err, MM_EUNSUP, "it is a folder, and no connector");
    for (size_t i = 0; i < SLOTS && !r; i++) r = read_slot(&(*out)->slot[i], st, err);
    mm_store_close(&st);
    if (r) {
        mm_connector_close(out);
        mm_err_prefix(err, "'%s': ", path);
    }
    return r;
}

static int type_of(const mm_connector_slot *s, int type)
{
    if (!s->matrix) return MM_F32;
    return s->p.cols % mm_dtype_get(type)->block ? MM_F16 : type;
}

int mm_connector_write(const mm_connector *c, const char *path, int type, const mm_model *uni, const mm_lm *lm, unsigned mods, const char *training,
                       mm_err *err)
{
    mm_gguf_writer *w;
    int r = mm_gguf_create(&w, path, err);
    if (r) return r;
    json_t *j = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "seen", (json_int_t)c->s.seen, "vector", (json_int_t)c->s.vector, "hidden",
                          (json_int_t)c->s.hidden, "heads", (json_int_t)c->s.heads, "rows", (json_int_t)c->s.rows, "ff", (json_int_t)c->s.ff, "out",
                          (json_int_t)c->s.out, "modalities", (json_int_t)mods, "size", c->size);
    char *config = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    mm_gguf_kv_str(w, "general.architecture", ARCH);
    if (config) mm_gguf_kv_str(w, ARCH ".config", config);
    mm_gguf_kv_str(w, ARCH ".sees", mm_model_fingerprint(uni));
    mm_gguf_kv_str(w, ARCH ".decoder", mm_lm_fingerprint(lm));
    if (training) mm_gguf_kv_str(w, ARCH ".training", training);
    for (size_t i = 0; i < SLOTS; i++) {
        const mm_connector_slot *s = &c->slot[i];
        const int64_t shape[2] = { (int64_t)(s->matrix ? s->p.rows : s->p.cols), (int64_t)s->p.cols };
        mm_gguf_tensor(w, s->name, type_of(s, type), s->matrix ? 2 : 1, shape);
    }
    r = config ? mm_gguf_begin(w, err) : no_memory(err);
    for (size_t i = 0; i < SLOTS && !r; i++) r = mm_rows_write(w, c->slot[i].p.w, c->slot[i].p.rows, c->slot[i].p.cols, type_of(&c->slot[i], type), err);
    free(config);
    if (!r) return mm_gguf_commit(&w, err);
    mm_gguf_abort(&w);
    return r;
}

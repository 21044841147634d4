/* A bert's weights as parameters, the way through them in operations of the graph, and back into a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/mm_text_net.h"
#include "model/model_int.h"

enum { ENDS = 5, PER_LAYER = 12 };

struct mm_text_net {
    mm_model *m;
    const mm_tower_config *c;
    mm_text_slot *slot; /* the ends, then layer after layer */
    size_t n;
    mm_norm norm;
    mm_layer *layers;
    mm_arena arena;
};

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* ---- which parameter is which tensor ---- */

/* A tensor of the file is rows at.. of a slot. */
typedef struct {
    mm_text_slot *slot;
    size_t at, rows; /* of a vector: columns */
} place;

static mm_text_slot *find(mm_text_net *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->slot[i].name, name)) return &t->slot[i];
    return NULL;
}

/* 0: the tensor is none of the net's. */
static int place_of(mm_text_net *t, const char *name, place *p)
{
    static const char *const third[] = { ".attn_q.", ".attn_k.", ".attn_v." };
    mm_text_slot *s = find(t, name);
    char joint[128];
    int k = 0;
    const char *at = NULL;
    for (; !s && k < 3 && !(at = strstr(name, third[k])); k++) {}
    if (at) {
        snprintf(joint, sizeof joint, "%.*s.attn_qkv.%s", (int)(at - name), name, at + 8);
        s = find(t, joint);
    }
    if (!s) return 0;
    const size_t n = s->p.rows > 1 ? s->p.rows : s->p.cols;
    *p = (place){ s, at ? n / 3 * (size_t)k : 0, at ? n / 3 : n };
    return 1;
}

static float *start(const place *p) { return p->slot->p.w + p->at * (p->slot->p.rows > 1 ? p->slot->p.cols : 1); }

static int take(mm_text_net *t, const mm_store_tensor *x, const place *p, mm_err *err)
{
    const mm_param *q = &p->slot->p;
    const size_t cols = q->rows > 1 ? q->cols : p->rows, rows = q->rows > 1 ? p->rows : 1;
    const size_t have = mm_dtype_get(x->type)->bytes ? x->bytes / mm_dtype_get(x->type)->bytes * mm_dtype_get(x->type)->block : 0;
    if (have != rows * cols) return mm_fail(err, MM_ESHAPE, "tensor '%s' should have %zu numbers", x->name, rows * cols);
    if (mmk_fmt(x->type) < 0 && !mm_block_known(x->type))
        return mm_fail(err, MM_EUNSUP, "tensor '%s' has type %s, which is not supported", x->name, mm_dtype_get(x->type)->name);
    for (size_t i = 0; i < rows; i++) mm_row_to_f32(t->m->kern, start(p) + i * cols, (const char *)x->data + i * (x->bytes / rows), x->type, cols);
    mm_store_release(t->m->store, x);
    return 0;
}

/* ---- life ---- */

static int add(mm_text_net *t, const char *name, int64_t rows, int64_t cols, int matrix)
{
    mm_text_slot *s = &t->slot[t->n++];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->p = (mm_param){ mm_arena_zalloc(&t->arena, (size_t)(rows * cols), sizeof(float)), NULL, (size_t)rows, (size_t)cols };
    s->matrix = matrix;
    return s->p.w ? 0 : MM_ENOMEM;
}

static int add_layer(mm_text_net *t, int64_t l)
{
    const mm_tower_config *c = t->c;
    const int64_t w = c->width, q = c->heads * c->head_dim;
    const struct {
        const char *name;
        int64_t rows, cols;
    } part[] = { { "attn_qkv", 3 * q, w }, { "attn_output", w, q }, { "attn_output_norm", 0, w }, { "ffn_up", c->ff_width, w }, { "ffn_down", w, c->ff_width },
                 { "layer_output_norm", 0, w } };
    char name[48];
    int failed = 0;
    for (size_t i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)l, part[i].name);
        failed |= add(t, name, part[i].rows ? part[i].rows : 1, part[i].cols, part[i].rows > 0);
        snprintf(name, sizeof name, "blk.%lld.%s.bias", (long long)l, part[i].name);
        failed |= add(t, name, 1, part[i].rows ? part[i].rows : w, 0);
    }
    return failed;
}

int mm_text_net_open(mm_text_net **out, mm_model *m, mm_err *err)
{
    *out = NULL;
    if (strcmp(m->family, "bert")) return mm_fail(err, MM_EUNSUP, "'%s' is no family of text encoders that are trained here", m->family);
    mm_text_net *t = *out = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    const mm_tower_config *c = t->c = &m->tower[MM_TEXT].cfg;
    t->m = m;
    t->slot = calloc((size_t)(ENDS + PER_LAYER * c->layers), sizeof *t->slot);
    t->layers = calloc((size_t)c->layers, sizeof *t->layers);
    int r = t->slot && t->layers ? 0 : MM_ENOMEM;
    if (!r) r = add(t, "token_embd.weight", c->vocab, c->width, 0) | add(t, "position_embd.weight", c->positions, c->width, 0);
    if (!r && c->token_types) r = add(t, "token_types.weight", c->token_types, c->width, 0);
    if (!r) r = add(t, "token_embd_norm.weight", 1, c->width, 0) | add(t, "token_embd_norm.bias", 1, c->width, 0);
    for (int64_t l = 0; l < c->layers && !r; l++) r = add_layer(t, l);
    if (r) r = no_memory(err);
    size_t found = 0, want = 0;
    for (size_t i = 0; i < mm_store_count(m->store) && !r; i++) {
        const mm_store_tensor *x = mm_store_at(m->store, i);
        place p;
        if (!place_of(t, x->name, &p)) continue;
        found += p.rows;
        r = take(t, x, &p, err);
    }
    for (size_t i = 0; i < t->n && !r; i++) want += t->slot[i].p.rows > 1 ? t->slot[i].p.rows : t->slot[i].p.cols;
    if (!r && found != want) r = mm_fail(err, MM_EDATA, "tensors of the encoder are missing"); /* loading the model has named one */
    if (r) mm_text_net_free(out);
    else mm_text_net_bind(t);
    return r;
}

void mm_text_net_free(mm_text_net **tp)
{
    mm_text_net *t = *tp;
    if (!t) return;
    mm_arena_clear(&t->arena);
    free(t->slot);
    free(t->layers);
    free(t);
    *tp = NULL;
}

size_t mm_text_net_count(const mm_text_net *t) { return t->n; }
mm_text_slot *mm_text_net_at(mm_text_net *t, size_t i) { return &t->slot[i]; }

/* The next two slots: weight and bias */
static void linear(mm_linear *l, mm_text_slot **s)
{
    *l = (mm_linear){ .pw = &(*s)[0].p, .pb = &(*s)[1].p, .bias = (*s)[1].p.w };
    *s += 2;
}

static void norm(mm_norm *n, mm_text_slot **s)
{
    *n = (mm_norm){ .pgain = &(*s)[0].p, .gain = (*s)[0].p.w, .pbias = &(*s)[1].p, .bias = (*s)[1].p.w };
    *s += 2;
}

void mm_text_net_bind(mm_text_net *t)
{
    mm_text_slot *s = find(t, "token_embd_norm.weight");
    norm(&t->norm, &s);
    for (int64_t l = 0; l < t->c->layers; l++) {
        mm_layer *y = &t->layers[l];
        linear(&y->qkv, &s);
        linear(&y->out, &s);
        norm(&y->attn_norm, &s);
        linear(&y->up, &s);
        linear(&y->down, &s);
        norm(&y->ff_norm, &s);
    }
}

/* ---- forward ---- */

mm_tensor mm_text_net_embed(mm_graph *g, const mm_text_net *t, const int32_t *ids, const size_t *off, size_t n)
{
    const mm_tower_config *c = t->c;
    const size_t rows = off[n];
    const float one[3] = { 1, 1, 1 };
    int32_t *pos = mm_arena_alloc(g->arena, 2 * rows, sizeof *pos), *type = pos + rows;
    if (!pos) {
        g->failed = 1;
        return (mm_tensor){ 0 };
    }
    for (size_t s = 0; s < n; s++)
        for (size_t i = off[s]; i < off[s + 1]; i++) pos[i] = (int32_t)(c->pos_offset + (int64_t)(i - off[s])), type[i] = 0;
    mm_tensor part[3] = { mm_op_lookup(g, &t->slot[0].p, ids, rows), mm_op_lookup(g, &t->slot[1].p, pos, rows) };
    if (c->token_types) part[2] = mm_op_lookup(g, &t->slot[2].p, type, rows);
    mm_tensor x = mm_op_layer_norm(g, mm_op_sum(g, part, one, c->token_types ? 3 : 2), &t->norm, c->eps, NULL);
    const mm_ragged r = { off, n };
    for (int64_t l = 0; l < c->layers; l++) {
        mm_tape_mark mark = mm_tape_here(g);
        x = mm_block(g, c, &t->layers[l], x, &r, NULL);
        if (g->tape) x = mm_tape_segment(g, mark, x);
    }
    return mm_op_normalize(g, mm_op_pool(g, x, &r, c->pool));
}

/* ---- writing ---- */

static int skip_key(const char *key)
{
    static const char *const anew[] = { "general.file_type", "general.quantization_version", "general.alignment", "general.name", "mm.fingerprint",
                                        "mm.training" };
    for (size_t i = 0; i < sizeof anew / sizeof *anew; i++)
        if (!strcmp(key, anew[i])) return 1;
    return !strncmp(key, "split.", 6);
}

static int type_of(const place *p, const mm_store_tensor *x, int type)
{
    if (p->slot->p.rows == 1 || (!p->slot->matrix && strcmp(x->name, "token_embd.weight"))) return MM_F32;
    return p->slot->p.cols % mm_dtype_get(type)->block ? MM_F16 : type;
}

static int write_tensor(mm_gguf_writer *w, const place *p, int type, mm_err *err)
{
    const int vector = p->slot->p.rows == 1;
    return mm_rows_write(w, start(p), vector ? 1 : p->rows, vector ? p->rows : p->slot->p.cols, type, err);
}

int mm_text_net_write(mm_text_net *t, const char *path, int type, const char *training, mm_err *err)
{
    const mm_store *st = t->m->store;
    mm_gguf_writer *w;
    place p;
    if (!mm_store_is_gguf(st)) return mm_fail(err, MM_EUNSUP, "only a model that was read from a GGUF is written");
    int r = mm_gguf_create(&w, path, err);
    if (r) return r;
    mm_gguf_kv_copy(w, st, skip_key);
    mm_gguf_kv_u32(w, "general.file_type", type == MM_F16 ? 1 : type == MM_Q8_0 ? 7 : 0);
    mm_gguf_kv_u32(w, "general.quantization_version", 2);
    if (training) mm_gguf_kv_str(w, "mm.training", training);
    for (size_t i = 0; i < mm_store_count(st); i++) {
        const mm_store_tensor *x = mm_store_at(st, i);
        mm_gguf_tensor(w, x->name, place_of(t, x->name, &p) ? type_of(&p, x, type) : x->type, x->ndim, x->shape);
    }
    r = mm_gguf_begin(w, err);
    for (size_t i = 0; i < mm_store_count(st) && !r; i++) {
        const mm_store_tensor *x = mm_store_at(st, i);
        r = place_of(t, x->name, &p) ? write_tensor(w, &p, type_of(&p, x, type), err) : mm_gguf_data(w, x->data, x->bytes, err);
    }
    if (!r) return mm_gguf_commit(&w, err);
    mm_gguf_abort(&w);
    return r;
}

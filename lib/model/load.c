/* Weights: found by canonical name, checked against the configuration, packed once for the kernels of this machine.
 * The pages of a file are let go as soon as a tensor is packed, so that memory holds each weight once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

static int find(const mm_model *m, const char *name, int64_t rows, int64_t cols, const mm_store_tensor **out,
                mm_err *err)
{
    const mm_store_tensor *t = mm_store_find(m->store, name);
    if (!t) return mm_fail(err, MM_EDATA, "tensor '%s' is missing", name);
    int ok = rows ? t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols : t->ndim == 1 && t->shape[0] == cols;
    if (!ok)
        return mm_fail(err, MM_ESHAPE, "tensor '%s' should be [%lld%s%lld]", name, (long long)(rows ? rows : cols),
                       rows ? ", " : "", (long long)(rows ? cols : 0));
    *out = t;
    return 0;
}

static int supported(int type) { return type == MM_F32 || type == MM_F16 || type == MM_BF16 || type == MM_Q8_0; }

static int to_f32(const mm_model *m, const mm_store_tensor *t, float *out, mm_err *err)
{
    size_t cols = (size_t)t->shape[t->ndim - 1], rows = t->ndim == 2 ? (size_t)t->shape[0] : 1;
    if (!supported(t->type)) {
        const mm_dtype_info *d = mm_dtype_get(t->type);
        return mm_fail(err, MM_EUNSUP, "tensor '%s' has type %s, which is not supported", t->name, d ? d->name : "?");
    }
    for (size_t i = 0; i < rows; i++)
        mmk_row_to_f32(m->kern, out + i * cols, (const char *)t->data + i * (t->bytes / rows), t->type, cols);
    return 0;
}

/* [n] vectors, one after the other, as one float32 array in the model's arena */
static int vectors(mm_model *m, const char *const *names, const int64_t *n, int count, const float **out, mm_err *err)
{
    int64_t total = 0, at = 0;
    for (int i = 0; i < count; i++) total += n[i];
    float *v = mm_arena_alloc(&m->arena, (size_t)total, sizeof *v);
    if (!v) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < count; at += n[i++]) {
        const mm_store_tensor *t;
        int r = find(m, names[i], 0, n[i], &t, err);
        if (r || (r = to_f32(m, t, v + at, err))) return r;
    }
    *out = v;
    return 0;
}

#define MAX_SRC 3

/* One linear layer from up to three weight tensors stacked by rows ("blk.0.attn_q" ... without ".weight"). */
static int linear(mm_model *m, mm_linear *l, const char *const *base, const int64_t *n, int count, int64_t k,
                  mm_err *err)
{
    char wname[MAX_SRC][80], bname[MAX_SRC][80];
    const char *bnames[MAX_SRC];
    const mm_store_tensor *t[MAX_SRC];
    mmk_rows src[MAX_SRC];
    float *copy = NULL;
    int64_t total = 0;
    int r = 0, type = 0, nsrc = count;
    for (int i = 0; i < count; i++) {
        snprintf(wname[i], sizeof wname[i], "%s.weight", base[i]);
        snprintf(bname[i], sizeof bname[i], "%s.bias", base[i]);
        bnames[i] = bname[i];
        if ((r = find(m, wname[i], n[i], k, &t[i], err))) return r;
        type = i == 0 || t[i]->type == type ? t[i]->type : MM_F64; /* F64: mixed types, see below */
        src[i] = (mmk_rows){ t[i]->data, (size_t)n[i] };
        total += n[i];
    }
    if (!mmk_pack_size(m->kern, type, (size_t)total, (size_t)k)) {
        /* mixed types in one product: they meet as float32 */
        if (!(copy = mm_aligned((size_t)total * (size_t)k, sizeof *copy)))
            return mm_fail(err, MM_ENOMEM, "out of memory");
        int64_t at = 0;
        for (int i = 0; i < count && !r; at += n[i++]) r = to_f32(m, t[i], copy + at * k, err);
        src[0] = (mmk_rows){ copy, (size_t)total };
        nsrc = 1;
        type = MM_F32;
    }
    void *mem = r ? NULL : mm_aligned(mmk_pack_size(m->kern, type, (size_t)total, (size_t)k), 1);
    if (!r && !mem) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        m->packed[m->n_packed++] = mem;
        l->w = mmk_pack(m->kern, mem, type, (size_t)k, src, (size_t)nsrc, m->opts.threads);
        for (int i = 0; i < count; i++) mm_store_release(m->store, t[i]);
        r = vectors(m, bnames, n, count, &l->bias, err);
    }
    free(copy);
    return r;
}

static int norm(mm_model *m, mm_norm *w, const char *base, mm_err *err)
{
    char g[80], b[80];
    const char *gain = g, *bias = b;
    snprintf(g, sizeof g, "%s.weight", base);
    snprintf(b, sizeof b, "%s.bias", base);
    int r = vectors(m, &gain, &m->cfg.width, 1, &w->gain, err);
    return r ? r : vectors(m, &bias, &m->cfg.width, 1, &w->bias, err);
}

static int layer(mm_model *m, mm_layer *l, int i, mm_err *err)
{
    const mm_model_config *c = &m->cfg;
    char name[8][64];
    static const char *const parts[8] = { "attn_q", "attn_k",   "attn_v",           "attn_output",
                                          "ffn_up", "ffn_down", "attn_output_norm", "layer_output_norm" };
    const char *p[8];
    for (int k = 0; k < 8; k++) {
        snprintf(name[k], sizeof name[k], "blk.%d.%s", i, parts[k]);
        p[k] = name[k];
    }
    int64_t kv = c->kv_heads * c->head_dim, qkv[3] = { c->heads * c->head_dim, kv, kv };
    int r;
    if ((r = linear(m, &l->qkv, p, qkv, 3, c->width, err)) ||
        (r = linear(m, &l->out, p + 3, &c->width, 1, qkv[0], err)) ||
        (r = linear(m, &l->up, p + 4, &c->ff_width, 1, c->width, err)) ||
        (r = linear(m, &l->down, p + 5, &c->width, 1, c->ff_width, err)) || (r = norm(m, &l->attn_norm, p[6], err)) ||
        (r = norm(m, &l->ff_norm, p[7], err)))
        return r;
    return 0;
}

static int tables(mm_model *m, mm_err *err)
{
    const mm_model_config *c = &m->cfg;
    const mm_store_tensor *tok, *pos, *types;
    int r;
    if ((r = find(m, "token_embd.weight", c->vocab, c->width, &tok, err)) ||
        (r = find(m, "position_embd.weight", c->positions, c->width, &pos, err)))
        return r;
    if (!supported(tok->type))
        return mm_fail(err, MM_EUNSUP, "tensor '%s' has a type that is not supported", tok->name);
    m->tok_embd = tok->data;
    m->tok_embd_type = tok->type;
    float *table = mm_arena_alloc(&m->arena, (size_t)(c->positions * c->width), sizeof *table);
    if (!table) return mm_fail(err, MM_ENOMEM, "out of memory");
    if ((r = to_f32(m, pos, table, err))) return r;
    mm_store_release(m->store, pos);
    m->pos_embd = table;
    if (!c->token_types) return 0;
    /* Embedding a single text uses token type 0 throughout. */
    types = mm_store_find(m->store, "token_types.weight");
    if (!types || types->shape[types->ndim - 1] != c->width)
        return mm_fail(err, MM_ESHAPE, "tensor 'token_types.weight' is missing or has another width");
    float *row = mm_arena_alloc(&m->arena, (size_t)c->width, sizeof *row);
    if (!row) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (!supported(types->type))
        return mm_fail(err, MM_EUNSUP, "tensor '%s' has a type that is not supported", types->name);
    mmk_row_to_f32(m->kern, row, types->data, types->type, (size_t)c->width);
    for (int64_t i = 0; i < c->positions; i++)
        for (int64_t k = 0; k < c->width; k++) table[i * c->width + k] += row[k];
    return 0;
}

int mm_weights_load(mm_model *m, mm_err *err)
{
    const mm_model_config *c = &m->cfg;
    m->layers = mm_arena_zalloc(&m->arena, (size_t)c->layers, sizeof *m->layers);
    m->packed = mm_arena_zalloc(&m->arena, (size_t)c->layers * 4, sizeof *m->packed);
    if (!m->layers || !m->packed) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = tables(m, err);
    if (!r) r = norm(m, &m->embd_norm, "token_embd_norm", err);
    for (int i = 0; !r && i < c->layers; i++) r = layer(m, &m->layers[i], i, err);
    return r;
}

/* Weights: found by canonical name, checked against the configuration, packed once for the kernels of this machine, but not
 * before they are used again: the first time they are multiplied as they lie in the file. The pages of a file are let go as
 * soon as a tensor is packed, so that memory holds each weight once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

typedef struct {
    mm_model *m;
    mm_tower *t;
    const mm_tower_config *c;
    mm_err *err;
} loader;

static int no_memory(const loader *l) { return mm_fail(l->err, MM_ENOMEM, "out of memory"); }

static const mm_store_tensor *lookup(const loader *l, const char *base, const char *part)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s%s", l->c->prefix, base, part);
    return mm_store_find(l->m->store, name);
}

/* A matrix [rows, cols], whatever dimensions of 1 stand in front and however its columns are folded (a convolution's weights); rows 0: a
 * vector of cols. */
static int find(const loader *l, const char *base, const char *part, int64_t rows, int64_t cols, const mm_store_tensor **out)
{
    const mm_store_tensor *t = lookup(l, base, part);
    if (!t) return mm_fail(l->err, MM_EDATA, "tensor '%s%s%s' is missing", l->c->prefix, base, part);
    int first = 0;
    while (first < t->ndim && t->shape[first] == 1 && t->ndim - first > (rows ? 2 : 1)) first++;
    int64_t lead = rows ? t->ndim > first ? t->shape[first] : 0 : 1, rest = 1;
    for (int i = first + (rows ? 1 : 0); i < t->ndim; i++) {
        if (t->shape[i] && rest > INT64_MAX / t->shape[i]) return mm_fail(l->err, MM_ESHAPE, "tensor '%s' is too large", t->name);
        rest *= t->shape[i];
    }
    if (lead != (rows ? rows : 1) || rest != cols)
        return mm_fail(l->err, MM_ESHAPE, "tensor '%s' should be [%lld%s%lld]", t->name, (long long)(rows ? rows : cols), rows ? ", " : "",
                       (long long)(rows ? cols : 0));
    *out = t;
    return 0;
}

static int supported(int type) { return mmk_fmt(type) >= 0 || mm_block_known(type); }

static int type_error(const loader *l, const mm_store_tensor *t)
{
    const mm_dtype_info *d = mm_dtype_get(t->type);
    return mm_fail(l->err, MM_EUNSUP, "tensor '%s' has type %s, which is not supported", t->name, d ? d->name : "?");
}

static int to_f32(const loader *l, const mm_store_tensor *t, float *out, size_t rows, size_t cols)
{
    if (!supported(t->type) || cols % mm_dtype_get(t->type)->block) return type_error(l, t);
    for (size_t i = 0; i < rows; i++) mm_row_to_f32(l->m->kern, out + i * cols, (const char *)t->data + i * (t->bytes / rows), t->type, cols);
    mm_store_release(l->m->store, t);
    return 0;
}

void mm_row_to_f32(const mm_kern *kern, float *out, const void *row, int type, size_t n)
{
    if (mmk_fmt(type) >= 0) mmk_row_to_f32(kern, out, row, type, n);
    else mm_block_to_f32(type, out, row, n);
}

/* A table as float32 in the model's arena. */
static int table(const loader *l, const char *base, const char *part, int64_t rows, int64_t cols, const float **out)
{
    const mm_store_tensor *t;
    int r = find(l, base, part, rows, cols, &t);
    if (r) return r;
    size_t n = (size_t)(rows ? rows : 1);
    float *v = mm_arena_alloc(&l->m->arena, n * (size_t)cols, sizeof *v);
    if (!v) return no_memory(l);
    *out = v;
    return to_f32(l, t, v, n, (size_t)cols);
}

#define PACK_BLOCK ((size_t)16 << 20)
#define RELEASE ((size_t)8 << 20) /* of a large matrix that is being packed */

static void *pack_memory(mm_model *m, size_t bytes)
{
    bytes = (bytes + 63) / 64 * 64;
    const size_t block = bytes > PACK_BLOCK ? bytes : PACK_BLOCK;
    if (bytes > m->pack_left) {
        void *p = mm_realloc(m->packed, m->n_packed + 1, sizeof *m->packed);
        if (!p) return NULL;
        m->packed = p;
        if (!(p = mm_aligned(block + 64, 1))) return NULL;
        m->packed[m->n_packed++] = m->pack_at = p;
        m->pack_left = block;
    }
    void *p = m->pack_at;
    m->pack_at += bytes;
    m->pack_left -= bytes;
    return p;
}

/* As a parameter of float32. */
static int keep_plain(const loader *l, mm_linear *w, int64_t k, const mmk_rows *src, size_t nsrc)
{
    size_t total = 0, each = (size_t)k * sizeof(float);
    for (size_t i = 0; i < nsrc; i++) total += src[i].n;
    mm_param *p = mm_arena_zalloc(&l->m->arena, 1, sizeof *p);
    char *to = pack_memory(l->m, total * each);
    if (!p || !to) return no_memory(l);
    *p = (mm_param){ (float *)(void *)to, NULL, total, (size_t)k };
    for (size_t i = 0; i < nsrc; to += src[i++].n * each) memcpy(to, src[i].data, src[i].n * each);
    w->pw = p;
    return 0;
}

static int keep_packed(const loader *l, mm_linear *w, int type, int64_t k, const mmk_rows *src, size_t nsrc)
{
    mm_model *m = l->m;
    size_t total = 0;
    for (size_t i = 0; i < nsrc; i++) total += src[i].n;
    void *mem = pack_memory(m, mmk_pack_size(m->kern, type, total, (size_t)k));
    if (!mem) return no_memory(l);
    w->w = mmk_pack(m->kern, mem, type, (size_t)k, src, nsrc, m->opts.threads);
    return 0;
}

/* Rows of the file, to be packed by mm_tower_settle(). */
static int keep_view(const loader *l, mm_linear *w, int type, int64_t k, const mmk_rows *src, size_t nsrc, const mm_store_tensor *const *t, int parts)
{
    mm_arena *a = &l->m->arena;
    mm_view *v = mm_arena_zalloc(a, 1, sizeof *v);
    mmk_rows *rows = mm_arena_alloc(a, nsrc, sizeof *rows);
    void *mem = mm_arena_alloc(a, mmk_view_size(), 1);
    if (!v || !rows || !mem) return no_memory(l);
    memcpy(rows, src, nsrc * sizeof *rows);
    memcpy(v->part, t, (size_t)parts * sizeof *t);
    v->w = mmk_view(l->m->kern, mem, type, (size_t)k, rows, nsrc);
    v->type = type;
    v->next = l->t->views;
    w->w = v->w;
    l->t->views = v;
    return 0;
}

/* The first of the tower's views is packed. 0: for want of memory it stays as it is. */
static int settle_first(mm_model *m, mm_tower *t, int threads)
{
    const mm_view *v = t->views;
    void *mem = pack_memory(m, mmk_pack_size(m->kern, v->type, mmk_mat_n(v->w), mmk_mat_k(v->w)));
    if (!mem) return 0;
    const size_t parts = v->part[1] ? 1 : v->part[0]->bytes / RELEASE + 1;
    for (size_t p = 0; p < parts; p++) {
        mmk_settle(v->w, mem, p, parts, threads);
        for (size_t i = 0; i < MAX_SRC && v->part[i]; i++) {
            mm_store_tensor piece = *v->part[i];
            piece.bytes = piece.bytes * (p + 1) / parts;
            mm_store_release(m->store, &piece);
        }
    }
    t->views = v->next;
    return 1;
}

void mm_tower_settle(mm_model *m, mm_tower *t, size_t passes)
{
    t->passes += passes;
    if (t->passes < 2 || !t->views) return;
    while (t->views && settle_first(m, t, m->opts.threads)) continue;
    if (t->cfg.rms) mm_store_release(m->store, NULL); /* neighbours that came along with what was read */
}

int mm_tower_settle_ahead(mm_model *m, mm_tower *t)
{
    return t->views && t->views->next && settle_first(m, t, 1);
}

/* W + factor B A, where the checkpoint keeps a low-rank addition beside W. copy [n, k] holds W. */
static int add_lora(const loader *l, const char *base, float *copy, int64_t n, int64_t k)
{
    const mm_store_tensor *a = lookup(l, base, ".lora_a.weight");
    const float *down, *up;
    if (!a) return 0;
    if (!(l->c->lora > 0)) return mm_fail(l->err, MM_EDATA, "tensor '%s' is an addition that config.json says nothing about (lora_r)", a->name);
    int64_t rank = a->ndim == 2 ? a->shape[0] : 0;
    if (rank < 1 || rank > k) return mm_fail(l->err, MM_ESHAPE, "tensor '%s' should be [rank, %lld]", a->name, (long long)k);
    mm_arena_mark mark = mm_arena_here(&l->m->arena);
    int r = table(l, base, ".lora_a.weight", rank, k, &down);
    if (!r && !(r = table(l, base, ".lora_b.weight", n, rank, &up)))
        for (int64_t i = 0; i < n; i++)
            for (int64_t q = 0; q < rank; q++)
                for (int64_t c = 0; c < k; c++) copy[i * k + c] += l->c->lora * up[i * rank + q] * down[q * k + c];
    mm_arena_back(&l->m->arena, mark);
    return r;
}

/* What a product takes up to three tensors as: their own type where they share one that it knows; float32 where something is added to them or
 * one of them is no block type; else q8_0, which keeps products in integers. */
static int common_type(const loader *l, const mm_store_tensor *const *t, int count, int lora, size_t rows, size_t k)
{
    int same = 1, blocks = 1;
    for (int i = 0; i < count; i++) {
        same &= t[i]->type == t[0]->type;
        blocks &= t[i]->type == MM_Q8_0 || mm_block_known(t[i]->type);
    }
    if (l->m->opts.plain) return MM_F32;
    if (same && !lora && mmk_pack_size(l->m->kern, t[0]->type, rows, k)) return t[0]->type;
    return blocks && !lora && mmk_pack_size(l->m->kern, MM_Q8_0, rows, k) ? MM_Q8_0 : MM_F32;
}

/* t [n, k] as float32 or q8_0 */
static int convert(const loader *l, const mm_store_tensor *t, int type, char *out, size_t n, size_t k)
{
    const mm_kern *kern = l->m->kern;
    size_t from = t->bytes / n, to = type == MM_F32 ? 4 * k : k / 32 * 34;
    if (type == MM_F32) return to_f32(l, t, (float *)(void *)out, n, k);
    if (k % mm_dtype_get(t->type)->block) return type_error(l, t);
    int failed = 0;
#pragma omp parallel num_threads(l->m->opts.threads) reduction(| : failed)
    {
        float *row = mm_aligned(k, sizeof *row);
        failed |= !row;
#pragma omp for schedule(static)
        for (size_t i = 0; i < n; i++) {
            const char *p = (const char *)t->data + i * from;
            if (t->type == MM_Q8_0) memcpy(out + i * to, p, to);
            if (t->type == MM_Q8_0 || mm_block_to_q8_0(t->type, out + i * to, p, k) || !row) continue;
            mm_block_to_f32(t->type, row, p, k);
            kern->from_f32[MMK_FMT_Q8_0](out + i * to, row, k);
        }
        free(row);
    }
    mm_store_release(l->m->store, t);
    return failed ? no_memory(l) : 0;
}

/* Row i of a head's matrix in the order that kernels rotate: channel i and i + half are a pair. */
static size_t unpaired(size_t row, size_t head_dim)
{
    size_t half = head_dim / 2, in = row % head_dim;
    return row - in + (in < half ? 2 * in : 2 * (in - half) + 1);
}

/* One linear layer from up to three weight tensors stacked by rows ("blk.0.attn_q" ... without ".weight"). The first `paired` of them have the
 * channels of rotated pairs side by side. */
static int linear(const loader *l, mm_linear *w, const char *const *base, const int64_t *n, int count, int64_t k, int bias, int paired)
{
    mm_model *m = l->m;
    const mm_store_tensor *t[MAX_SRC];
    size_t total = 0, at = 0, nsrc = 0, head_dim = (size_t)l->c->head_dim;
    int r = 0, lora = 0;
    for (int i = 0; i < count; i++) {
        if ((r = find(l, base[i], ".weight", n[i], k, &t[i]))) return r;
        lora |= lookup(l, base[i], ".lora_a.weight") != NULL;
        total += (size_t)n[i];
    }
    int type = common_type(l, t, count, lora, total, (size_t)k);
    size_t row = (size_t)k / mm_dtype_get(type)->block * mm_dtype_get(type)->bytes;
    mmk_rows *src = mm_realloc(NULL, paired ? total : MAX_SRC, sizeof *src);
    char *copy = NULL;
    if (!src) return no_memory(l);
    for (int i = 0; i < count; i++)
        if ((t[i]->type != type || lora) && !copy && !(copy = mm_aligned(total, row))) r = no_memory(l);
    for (int i = 0; i < count && !r; at += (size_t)n[i++]) {
        const char *rows = t[i]->data;
        if (copy) {
            rows = copy + at * row;
            r = convert(l, t[i], type, copy + at * row, (size_t)n[i], (size_t)k);
            if (!r && lora) r = add_lora(l, base[i], (float *)(void *)(copy + at * row), n[i], k);
        }
        if (i >= paired) src[nsrc++] = (mmk_rows){ rows, (size_t)n[i] };
        else
            for (size_t j = 0; j < (size_t)n[i]; j++) src[nsrc++] = (mmk_rows){ rows + unpaired(j, head_dim) * row, 1 };
    }
    if (!r && m->opts.plain) r = keep_plain(l, w, k, src, nsrc);
    else if (!r) r = copy ? keep_packed(l, w, type, k, src, nsrc) : keep_view(l, w, type, k, src, nsrc, t, count);
    free(copy);
    free(src);
    if (r) return r;
    for (int i = 0; i < count; i++) mm_store_release(m->store, t[i]);
    if (!bias) return 0;
    float *b = mm_arena_alloc(&m->arena, total + (paired ? total : 0), sizeof *b), *raw = b + total;
    if (!b) return no_memory(l);
    w->bias = b;
    for (int i = 0; i < count && !r; b += n[i++]) {
        if ((r = find(l, base[i], ".bias", 0, n[i], &t[i])) || (r = to_f32(l, t[i], i < paired ? raw : b, 1, (size_t)n[i]))) break;
        for (size_t j = 0; i < paired && j < (size_t)n[i]; j++) b[j] = raw[unpaired(j, head_dim)];
    }
    return r;
}

static int one(const loader *l, mm_linear *w, const char *base, int64_t n, int64_t k, int bias)
{
    return linear(l, w, &base, &n, 1, k, l->c->rms ? lookup(l, base, ".bias") != NULL : bias, 0);
}

static int norm(const loader *l, mm_norm *w, const char *base)
{
    int r = table(l, base, ".weight", 0, l->c->width, &w->gain);
    return r ? r : table(l, base, ".bias", 0, l->c->width, &w->bias);
}

/* Without a bias, of any width */
static int rms_norm(const loader *l, mm_norm *w, const char *base, int64_t n)
{
    int r = table(l, base, ".weight", 0, n, &w->gain);
    for (int64_t i = 0; !r && l->c->gain_plus_one && i < n; i++) ((float *)(uintptr_t)w->gain)[i] += 1;
    return r;
}

/* q, k and v as one product, from one tensor or three. */
static int qkv(const loader *l, mm_linear *w, const char *stem)
{
    const mm_tower_config *c = l->c;
    char name[4][64];
    for (int i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s%s", stem, (const char *const[]){ "_q", "_k", "_v", "_qkv" }[i]);
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    if (lookup(l, name[3], ".weight")) return one(l, w, name[3], q + 2 * kv, c->width, 1);
    int bias = !c->rms || lookup(l, name[0], ".bias");
    return linear(l, w, (const char *const[]){ name[0], name[1], name[2] }, (const int64_t[]){ q, kv, kv }, 3, c->width, bias, c->pairs ? 2 : 0);
}

static int layer(const loader *l, mm_layer *y, int64_t i)
{
    const mm_tower_config *c = l->c;
    char n[12][64];
    static const char *const parts[12] = { "attn",      "attn_output", "ffn_up",           "ffn_down",         "attn_norm", "ffn_norm",
                                           "time_attn", "time_output", "attn_output_norm", "layer_output_norm", "time_norm", "time_embd" };
    for (int k = 0; k < 12; k++) snprintf(n[k], sizeof n[k], "blk.%lld.%s", (long long)i, parts[k]);
    int64_t q = c->heads * c->head_dim;
    int r;
    if ((r = qkv(l, &y->qkv, n[0])) || (r = one(l, &y->out, n[1], c->width, q, 1)) || (r = one(l, &y->up, n[2], c->ff_width, c->width, 1)) ||
        (r = one(l, &y->down, n[3], c->width, c->ff_width, 1)) || (r = norm(l, &y->attn_norm, n[c->pre_norm ? 4 : 8])) ||
        (r = norm(l, &y->ff_norm, n[c->pre_norm ? 5 : 9])))
        return r;
    if (c->bias_kv && ((r = table(l, n[0], "_bias_k", 0, c->width, &y->bias_k)) || (r = table(l, n[0], "_bias_v", 0, c->width, &y->bias_v))))
        return r;
    if (!c->time_attention) return 0;
    if ((r = qkv(l, &y->time_qkv, n[6])) || (r = one(l, &y->time_out, n[7], c->width, q, 1)) || (r = norm(l, &y->time_norm, n[10]))) return r;
    return table(l, n[11], ".weight", c->frames, c->width, &y->time_embd);
}

/* dst[i] += src[i % n] */
static void add_to_rows(float *dst, const float *src, size_t rows, size_t n)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < n; k++) dst[i * n + k] += src[k];
}

static int text_stem(const loader *l, mm_tower *t)
{
    const mm_tower_config *c = l->c;
    const mm_store_tensor *tok;
    const float *types;
    int r = find(l, "token_embd", ".weight", c->vocab, c->width, &tok);
    if (r) return r;
    if (!(c->rms ? supported(tok->type) : mmk_fmt(tok->type) >= 0)) return type_error(l, tok);
    t->tok_embd = tok->data;
    t->tok_embd_type = tok->type;
    if (c->rms) return 0;
    if ((r = table(l, "position_embd", ".weight", c->positions, c->width, &t->pos_embd)) || !c->token_types) return r;
    /* Embedding a single text uses token type 0 throughout. */
    if ((r = table(l, "token_types", ".weight", c->token_types > 1 ? c->token_types : 0, c->width, &types))) return r;
    add_to_rows((float *)(uintptr_t)t->pos_embd, types, (size_t)c->positions, (size_t)c->width);
    return 0;
}

static int patch_stem(const loader *l, mm_tower *t)
{
    const mm_tower_config *c = l->c;
    const float *cls;
    int r = one(l, &t->patch, "patch_embd", c->width, c->channels * c->patch_t * c->patch_h * c->patch_w, c->patch_bias);
    if (!r) r = table(l, "position_embd", ".weight", c->positions, c->width, &t->pos_embd);
    if (!r && c->patch_norm) r = norm(l, &t->patch_norm, "patch_norm");
    if (r || !c->class_token) return r;
    if ((r = table(l, "class_embd", "", 0, c->width, &cls))) return r;
    t->class_embd = cls;
    add_to_rows((float *)(uintptr_t)cls, t->pos_embd, 1, (size_t)c->width);
    return 0;
}

/* The learned query of pooling by attention goes through its projection here, once, and takes the scale along. */
static int map_head(const loader *l, mm_map_head *h)
{
    const mm_tower_config *c = l->c;
    size_t w = (size_t)c->width;
    const float *probe, *in, *bias;
    float *q = mm_arena_alloc(&l->m->arena, 3 * w, sizeof *q);
    if (!q) return no_memory(l);
    mm_arena_mark mark = mm_arena_here(&l->m->arena);
    int r;
    if ((r = table(l, "head.probe", "", 0, c->width, &probe)) || (r = table(l, "head.attn_qkv", ".weight", 3 * c->width, c->width, &in)) ||
        (r = table(l, "head.attn_qkv", ".bias", 0, 3 * c->width, &bias)))
        return r;
    for (size_t i = 0; i < w; i++) q[i] = (l->m->kern->dot_f32(in + i * w, probe, w) + bias[i]) / sqrtf((float)c->head_dim);
    memcpy(q + w, bias + w, 2 * w * sizeof *q);
    h->query = q;
    h->kv.bias = q + w;
    r = keep_packed(l, &h->kv, MM_F32, c->width, &(mmk_rows){ in + w * w, 2 * w }, 1);
    mm_arena_back(&l->m->arena, mark);
    if (r || (r = one(l, &h->out, "head.attn_output", c->width, c->width, 1)) || (r = one(l, &h->up, "head.ffn_up", c->ff_width, c->width, 1)) ||
        (r = one(l, &h->down, "head.ffn_down", c->width, c->ff_width, 1)))
        return r;
    return norm(l, &h->norm, "head.norm");
}

/* Some checkpoints keep the projection as [width, out], to be multiplied from the left. */
static int projection(const loader *l, mm_linear *w)
{
    const mm_tower_config *c = l->c;
    const float *p;
    const int64_t from = c->shuffle ? c->width * c->shuffle * c->shuffle : c->width;
    if (!lookup(l, "proj_t", ".weight")) return one(l, w, "proj", c->proj, from, lookup(l, "proj", ".bias") != NULL);
    int r = table(l, "proj_t", ".weight", c->width, c->proj, &p);
    if (r) return r;
    float *t = mm_aligned((size_t)(c->width * c->proj), sizeof *t);
    if (!t) return no_memory(l);
    for (int64_t i = 0; i < c->proj; i++)
        for (int64_t k = 0; k < c->width; k++) t[i * c->width + k] = p[k * c->proj + i];
    r = keep_packed(l, w, MM_F32, c->width, &(mmk_rows){ t, (size_t)c->proj }, 1);
    free(t);
    return r;
}

/* ---- decoders ---- */

static int decoder_layer(const loader *l, mm_layer *y, int64_t i)
{
    const mm_tower_config *c = l->c;
    static const char *const parts[10] = { "attn",      "attn_output", "ffn_gate",    "ffn_up",      "ffn_down",
                                           "attn_norm", "ffn_norm",    "attn_q_norm", "attn_k_norm", "post_attention_norm" };
    char n[11][64];
    for (int k = 0; k < 10; k++) snprintf(n[k], sizeof n[k], "blk.%lld.%s", (long long)i, parts[k]);
    snprintf(n[10], sizeof n[10], "blk.%lld.post_ffw_norm", (long long)i);
    int bias = lookup(l, n[2], ".bias") != NULL, r;
    if ((r = qkv(l, &y->qkv, n[0])) || (r = one(l, &y->out, n[1], c->width, c->heads * c->head_dim, 0)) ||
        (r = linear(l, &y->up, (const char *const[]){ n[2], n[3] }, (const int64_t[]){ c->ff_width, c->ff_width }, 2, c->width, bias, 0)) ||
        (r = one(l, &y->down, n[4], c->width, c->ff_width, 0)) || (r = rms_norm(l, &y->attn_norm, n[5], c->width)) ||
        (r = rms_norm(l, &y->ff_norm, n[6], c->width)))
        return r;
    if (c->head_norms && ((r = rms_norm(l, &y->q_norm, n[7], c->head_dim)) || (r = rms_norm(l, &y->k_norm, n[8], c->head_dim)))) return r;
    if (!c->sum_norms) return 0;
    return (r = rms_norm(l, &y->attn_sum_norm, n[9], c->width)) ? r : rms_norm(l, &y->ff_sum_norm, n[10], c->width);
}

/* The angle that each pair of channels turns by from one position to the next. */
static int angles(const loader *l, const mm_rope *r, const double **out)
{
    size_t n = (size_t)l->c->head_dim / 2;
    double *a = mm_arena_alloc(&l->m->arena, n, sizeof *a), dims = (double)(2 * n), two_pi = 6.283185307179586;
    if (!a) return no_memory(l);
    /* yarn: between the pair that turns `high` times in the original context and the one that turns `low` times */
    double from = floor(dims * log(r->original / (r->high * two_pi)) / (2 * log(r->base)));
    double to = ceil(dims * log(r->original / (r->low * two_pi)) / (2 * log(r->base)));
    from = from < 0 ? 0 : from;
    to = to > dims - 1 ? dims - 1 : to;
    for (size_t i = 0; i < n; i++) {
        double x = pow(r->base, -(double)(2 * i) / dims), turns = r->original * x / two_pi, keep = 1;
        if (r->scaling == MM_ROPE_LINEAR) keep = 0;
        if (r->scaling == MM_ROPE_LLAMA3) keep = (turns - r->low) / (r->high - r->low);
        if (r->scaling == MM_ROPE_YARN) keep = 1 - ((double)i - from) / (to > from ? to - from : 0.001);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        a[i] = x * keep + x / r->factor * (1 - keep);
    }
    *out = a;
    return 0;
}

/* GGUF of Llama 3 has its scaling as a divisor for each pair. */
static int divide_angles(const loader *l, mm_tower *t)
{
    const float *by;
    if (!lookup(l, "rope_freqs", ".weight")) return 0;
    int r = table(l, "rope_freqs", ".weight", 0, l->c->head_dim / 2, &by);
    for (int64_t i = 0; !r && i < l->c->head_dim / 2; i++) ((double *)(uintptr_t)t->turn)[i] /= (double)by[i];
    return r;
}

static int decoder_ends(const loader *l, mm_tower *t)
{
    const mm_tower_config *c = l->c;
    int r = rms_norm(l, &t->post_norm, "output_norm", c->width), own = lookup(l, "output", ".weight") != NULL;
    if (!r) r = angles(l, &c->rope, &t->turn);
    if (!r) r = angles(l, &c->rope_local, &t->turn_local);
    if (!r) r = divide_angles(l, t);
    if (!r) r = one(l, &t->head, c->tied == 1 || (c->tied && !own) ? "token_embd" : "output", c->vocab, c->width, 0);
    return r;
}

static int tower(const loader *l, mm_tower *t)
{
    const mm_tower_config *c = l->c;
    if (!(t->layers = mm_arena_zalloc(&l->m->arena, (size_t)c->layers, sizeof *t->layers))) return no_memory(l);
    int r = c->vocab ? text_stem(l, t) : patch_stem(l, t);
    if (!r && c->embd_norm) r = norm(l, &t->embd_norm, "token_embd_norm");
    if (!r && c->rms) r = decoder_ends(l, t); /* before the layers: mm_tower_settle_ahead() takes what was read last first, and leaves the head */
    for (int64_t i = 0; !r && i < c->layers; i++) r = (c->rms ? decoder_layer : layer)(l, &t->layers[i], i);
    if (r || c->rms) return r;
    if (!r && c->post_norm) r = norm(l, &t->post_norm, "post_norm");
    if (!r && c->pool == MM_POOL_MAP) r = map_head(l, &t->map);
    if (!r && c->proj) r = projection(l, &t->proj);
    return r;
}

/* A positive number from a tensor of one element: exp of it where the checkpoint keeps the logarithm. */
static int scalar(const loader *l, const char *name, float *out)
{
    const mm_store_tensor *t = mm_store_find(l->m->store, name);
    if (!t) return 0;
    if (!supported(t->type) || t->bytes != mm_dtype_get(t->type)->bytes || mm_dtype_get(t->type)->block != 1)
        return mm_fail(l->err, MM_ESHAPE, "tensor '%s' should be one number", t->name);
    mmk_row_to_f32(l->m->kern, out, t->data, t->type, 1);
    return 0;
}

int mm_tower_load(mm_model *m, mm_tower *t, mm_err *err)
{
    int r = t->loaded ? 0 : tower(&(loader){ m, t, &t->cfg, err }, t);
    t->loaded = !r;
    if (r) t->views = NULL;
    return r;
}

int mm_weights_load(mm_model *m, mm_err *err)
{
    if (m->uni) return mm_uni_load(m->uni, m->store, m->opts.heads | (m->decoder ? 1u << MM_UNI_NEXT : 0), err);
    float log_scale = NAN;
    int r = 0, towers = 0;
    for (int i = 0; i < MM_MODALITIES; i++) towers += m->tower[i].cfg.layers > 0;
    /* of several towers a run may need one only: they are read when they are; a decoder always is */
    for (int i = 0; i < MM_MODALITIES && !r; i++)
        if (m->tower[i].cfg.layers && (towers == 1 || (m->decoder && i == MM_TEXT))) r = mm_tower_load(m, &m->tower[i], err);
    loader l = { m, NULL, NULL, err };
    if (!r) r = scalar(&l, "logit_scale", &log_scale);
    if (!r) r = scalar(&l, "logit_bias", &m->logits.bias);
    if (!r && !isnan(log_scale)) m->logits.scale = expf(log_scale);
    return r;
}

int mm_model_load(mm_model *m, mm_err *err)
{
    int r = 0;
    for (int i = 0; i < MM_MODALITIES && !r && !m->uni; i++)
        if (m->tower[i].cfg.layers) r = mm_tower_load(m, &m->tower[i], err);
    return r;
}

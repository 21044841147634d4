/* Whose vectors are these? A hash that is cheap at start (no walk over all weights) and still differs for every retrained,
 * merged or re-cut model: shape, vocabulary, and three rows of every weight matrix rounded to bfloat16, so that float32 and
 * bfloat16 copies of one checkpoint agree whatever the container. Coarser types do not keep the rounded values: a file
 * made by mm-quantize carries the hash of its source instead (key mm.fingerprint). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_json.h"
#include "base/mm_str.h"
#include "model/model_int.h"

static uint64_t rows_hash(const mm_model *m, const mm_store_tensor *t, size_t cols, float *row, uint64_t h)
{
    size_t n = (size_t)t->shape[0], at[3] = { 0, n / 2, n - 1 };
    for (int i = 0; i < 3; i++) {
        mm_row_to_f32(m->kern, row, (const char *)t->data + at[i] * (t->bytes / n), t->type, cols);
        for (size_t k = 0; k < cols; k++) {
            uint16_t b = mm_f32_to_bf16(row[k]);
            memcpy((char *)row + 2 * k, &b, 2); /* never ahead of the value being read */
        }
        h = mm_hash64(row, 2 * cols, h);
    }
    return h;
}

/* A matrix by name, if it is there: a checkpoint has either q, k and v or the three in one. */
static uint64_t tensor_hash(const mm_model *m, const mm_tower_config *c, const char *name, float *row, size_t most, uint64_t h)
{
    char full[96];
    snprintf(full, sizeof full, "%s%s", c->prefix, name);
    const mm_store_tensor *t = mm_store_find(m->store, full);
    if (!t || t->ndim < 2 || t->shape[0] < 1 || (mmk_fmt(t->type) < 0 && !mm_block_known(t->type))) return h;
    size_t cols = 1;
    for (int i = 1; i < t->ndim; i++) cols *= (size_t)t->shape[i];
    return cols <= most ? rows_hash(m, t, cols, row, h) : h;
}

/* The configuration without heads: they make no vectors. */
static int encoders_of(mm_buf *b, const char *config, mm_err *err)
{
    json_t *j = mm_json_load(config, strlen(config), "mm-uni.config", err);
    if (!j) return MM_EDATA;
    int heads = !json_object_del(j, "next");
    heads |= !json_object_del(j, "flow");
    char *text = heads ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    int r = (heads && !text) || mm_buf_adds(b, text ? text : config) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    free(text);
    return r;
}

/* Of the unified model: its configuration, tokenizer, and rows of every matrix that vectors depend on. */
static int uni_hash(mm_model *m, uint64_t h, uint64_t *out, mm_err *err)
{
    const char *config;
    int r = mm_store_kv_str(m->store, "mm-uni.config", "", &config, err);
    if (r) return r;
    mm_buf b = { 0 };
    if ((r = encoders_of(&b, config, err))) return r;
    h = mm_hash64(b.p, b.len, h);
    mm_buf_clear(&b);
    if (m->tok) h ^= mm_tok_hash(m->tok);
    for (size_t i = 0; i < mm_store_count(m->store); i++) {
        const mm_store_tensor *t = mm_store_at(m->store, i);
        if (t->ndim != 2 || t->shape[0] < 1 || mmk_fmt(t->type) < 0 || !strncmp(t->name, "next.", 5) || !strncmp(t->name, "flow.", 5)) continue;
        float *row = mm_arena_alloc(&m->arena, (size_t)t->shape[1], sizeof *row);
        if (!row) return mm_fail(err, MM_ENOMEM, "out of memory");
        h = rows_hash(m, t, (size_t)t->shape[1], row, h);
    }
    *out = h;
    return 0;
}

static int source_hash(mm_model *m, uint64_t *out, mm_err *err)
{
    static const char *const parts[] = { "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_up", "ffn_down" };
    uint64_t h = mm_hash64(m->family, strlen(m->family), 0);
    if (m->uni) return uni_hash(m, h, out, err);
    for (int i = 0; i < MM_MODALITIES; i++) {
        const mm_tower_config *c = &m->tower[i].cfg;
        if (!c->layers) continue;
        const int64_t shape[] = { c->layers, c->width, c->ff_width, c->heads, c->kv_heads, c->vocab, c->positions, c->act };
        h = mm_hash64(shape, sizeof shape, h);
        size_t widest = (size_t)(c->ff_width > c->width ? c->ff_width : c->width);
        if (!c->vocab && widest < (size_t)(c->channels * c->patch_t * c->patch_h * c->patch_w))
            widest = (size_t)(c->channels * c->patch_t * c->patch_h * c->patch_w);
        if (c->shuffle) widest = (size_t)(c->width * c->shuffle * c->shuffle) > widest ? (size_t)(c->width * c->shuffle * c->shuffle) : widest;
        float *row = mm_arena_alloc(&m->arena, widest, sizeof *row);
        if (!row) return mm_fail(err, MM_ENOMEM, "out of memory");
        if (c->vocab) h = mm_tok_hash(m->tok) ^ h;
        h = tensor_hash(m, c, c->vocab ? "token_embd.weight" : "patch_embd.weight", row, widest, h);
        for (int64_t l = 0; l < c->layers; l++)
            for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
                char name[80];
                snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)l, parts[p]);
                h = tensor_hash(m, c, name, row, widest, h);
            }
        h = tensor_hash(m, c, "proj.weight", row, widest, h);
        h = tensor_hash(m, c, "proj_t.weight", row, widest, h);
    }
    *out = h;
    return 0;
}

int mm_fingerprint_make(mm_model *m, const char *path, mm_err *err)
{
    const char *stored = "", *name = "";
    unsigned long long h = 0;
    int r;
    if ((r = mm_store_kv_str(m->store, "mm.fingerprint", "", &stored, err)) ||
        (r = mm_store_kv_str(m->store, "general.name", "", &name, err)))
        return r;
    if (stored[0]) {
        int end = 0;
        if (sscanf(stored, "%16llx%n", &h, &end) != 1 || stored[end])
            return mm_fail(err, MM_EDATA, "key mm.fingerprint should be 16 hexadecimal digits");
    } else {
        uint64_t u = 0;
        if ((r = source_hash(m, &u, err))) return r;
        h = u;
    }
    m->source_hash = h;
    for (int i = 0; i < MM_MODALITIES; i++) {
        const int how[] = { (int)m->tower[i].cfg.pool, m->tower[i].cfg.normalize };
        if (m->tower[i].cfg.layers) h = mm_hash64(how, sizeof how, h);
    }
    /* pictures that are prepared in another way make other vectors; rotation and alpha are the user's choice */
    const mm_input_spec *p = &m->spec[MM_IMAGE];
    if (m->via[MM_IMAGE]) {
        const float numbers[] = { p->image.mean[0], p->image.mean[1], p->image.mean[2], p->image.std[0], p->image.std[1], p->image.std[2] };
        const int how[] = { (int)p->image.fit, p->image.resize, p->image.height, p->image.width, (int)p->image.filter, p->image.round_crop };
        h = mm_hash64(how, sizeof how, mm_hash64(numbers, sizeof numbers, h));
    }
    /* a folder is called by its own name; "." and the like have none */
    size_t len = strlen(path), n;
    if (!name[0]) {
        while (len > 1 && path[len - 1] == '/') len--;
        for (n = len; n > 0 && path[n - 1] != '/'; n--) {}
        name = path + n;
        len -= n;
        if (len > 5 && !memcmp(name + len - 5, ".gguf", 5)) len -= 5;
    } else {
        len = strlen(name);
    }
    if (len > 80) len = 80;
    mm_buf b = { 0 };
    mm_buf_add(&b, name, mm_utf8_valid(name, len));
    mm_buf_addf(&b, "@%016llx", h);
    m->fingerprint = b.failed ? NULL : mm_arena_strndup(&m->arena, b.p, b.len);
    mm_buf_clear(&b);
    return m->fingerprint ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

uint64_t mm_model_source_hash(const mm_model *m) { return m->source_hash; }

/* The unified model on disk: GGUF, architecture "mm-uni", the configuration as JSON in key "mm-uni.config". */
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"
#include "model/uni_int.h"

static int expect(const mm_uni_slot *s, const mm_store_tensor *t, mm_err *err)
{
    if (!t) return mm_fail(err, MM_EDATA, "tensor '%s' is missing", s->name);
    int64_t rows = t->ndim == 2 ? t->shape[0] : 1, cols = t->ndim ? t->shape[t->ndim - 1] : 0;
    if (t->ndim != (s->matrix ? 2 : 1) || rows != (int64_t)s->p.rows || cols != (int64_t)s->p.cols)
        return mm_fail(err, MM_ESHAPE, "tensor '%s' should be [%zu, %zu]", s->name, s->p.rows, s->p.cols);
    if (mmk_fmt(t->type) < 0) {
        const mm_dtype_info *d = mm_dtype_get(t->type);
        return mm_fail(err, MM_EUNSUP, "tensor '%s' has type %s, which is not supported", s->name, d ? d->name : "?");
    }
    return 0;
}

static int pack(mm_uni *u, mm_uni_slot *s, const mm_store_tensor *t, mm_err *err)
{
    const mm_kern *k = mm_kern_get();
    size_t bytes = mmk_pack_size(k, t->type, s->p.rows, s->p.cols);
    void *p = mm_realloc(u->packs, u->n_packs + 1, sizeof *u->packs), *mem = NULL;
    if (p) u->packs = p;
    if (!p || !bytes || !(mem = mm_aligned(bytes, 1))) return mm_fail(err, MM_ENOMEM, "tensor '%s' cannot be packed", s->name);
    u->packs[u->n_packs++] = mem;
    const mmk_rows src = { t->data, s->p.rows };
    s->packed = mmk_pack(k, mem, t->type, s->p.cols, &src, 1, 1);
    return 0;
}

/* wanted: bits of streams. pack_too: matrices are packed for inference (tables of tokens stay as they are stored); else everything is float32, into
 * the w that a slot has or into the arena. */
static int read_all(mm_uni *u, mm_store *st, int pack_too, unsigned wanted, mm_err *err)
{
    const mm_kern *k = mm_kern_get();
    uni_head *next = &u->head[MM_UNI_NEXT - MM_MODALITIES];
    mm_uni_config have;
    int r = mm_uni_config_read(&have, st, err);
    if (r) return r;
    if (!have.next) wanted &= ~(1u << MM_UNI_NEXT);
    if (!have.patch) wanted &= ~(1u << MM_UNI_FLOW);
    for (size_t i = 0; i < u->n && !r; i++) {
        mm_uni_slot *s = &u->slots[i];
        if (!(s->mods & wanted) || (&s->p == u->direct.rows && !have.mod[MM_TEXT].direct)) continue;
        const mm_store_tensor *t = mm_store_find(st, s->name);
        if ((r = expect(s, t, err))) break;
        uni_table *table = &s->p == u->tokens.rows ? &u->tokens : &s->p == u->direct.rows ? &u->direct : &s->p == next->words.rows ? &next->words : NULL;
        if (pack_too && table) {
            table->stored = t->data;
            table->stored_type = t->type;
            if (table != &next->words) continue;
        }
        if (pack_too && s->matrix) {
            r = pack(u, s, t, err);
            continue;
        }
        if (!s->p.w) s->p.w = mm_arena_alloc(&u->arena, s->p.rows * s->p.cols, sizeof *s->p.w);
        if (!s->p.w) return mm_fail(err, MM_ENOMEM, "out of memory");
        for (size_t row = 0; row < s->p.rows; row++)
            mmk_row_to_f32(k, s->p.w + row * s->p.cols, (const char *)t->data + row * (t->bytes / s->p.rows), t->type, s->p.cols);
    }
    if (!r) mm_uni_walk(u);
    return r;
}

int mm_uni_read(mm_uni *u, mm_store *st, mm_err *err) { return read_all(u, st, 0, ~0u, err); }
int mm_uni_load(mm_uni *u, mm_store *st, unsigned heads, mm_err *err) { return read_all(u, st, 1, MM_UNI_MODALITIES | heads, err); }

int mm_uni_config_read(mm_uni_config *c, mm_store *st, mm_err *err)
{
    const char *text;
    int r = mm_store_kv_str(st, "mm-uni.config", "", &text, err);
    if (r) return r;
    json_t *j = mm_json_load(text, strlen(text), "mm-uni.config", err);
    if (!j) return MM_EDATA;
    r = mm_uni_config_parse(c, j, err);
    json_decref(j);
    return r;
}

/* Vectors and small tables stay float32: they cost nothing and are what rounding would hurt most. Rows that are no whole blocks: float16. */
static int type_of(const mm_uni_slot *s, int type)
{
    if (!s->matrix || s->p.rows < 4 || s->p.rows * s->p.cols < 8192) return MM_F32;
    const int eighth = s->p.cols % 32 == 0 && !strstr(s->name, ".few_"); /* of examples the differences count */
    return type == MM_Q8_0 && !eighth ? MM_F16 : type;
}

int mm_rows_write(mm_gguf_writer *w, const float *x, size_t rows, size_t cols, int type, mm_err *err)
{
    const mm_kern *k = mm_kern_get();
    size_t bytes;
    int r = mm_dtype_bytes(type, cols, &bytes);
    char *row = r ? NULL : mm_realloc(NULL, bytes, 1);
    if (!row) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < rows && !r; i++) {
        k->from_f32[mmk_fmt(type)](row, x + i * cols, cols);
        r = mm_gguf_data(w, row, bytes, err);
    }
    free(row);
    return r;
}

int mm_uni_write(mm_uni *u, const char *path, int type, const float *const *from, const char *tokenizer, size_t len, const json_t *extra,
                 mm_err *err)
{
    mm_gguf_writer *w;
    int r = mm_gguf_create(&w, path, err);
    if (r) return r;
    json_t *j = mm_uni_config_json(&u->c);
    char *config = j ? json_dumps(j, JSON_COMPACT) : NULL, *tok = tokenizer ? strndup(tokenizer, len) : NULL;
    mm_gguf_kv_str(w, "general.architecture", "mm-uni");
    if (config) mm_gguf_kv_str(w, "mm-uni.config", config);
    mm_gguf_kv_u32(w, "mm-uni.block_count", (uint32_t)u->c.layers);
    mm_gguf_kv_u32(w, "mm-uni.embedding_length", (uint32_t)u->c.width);
    if (tok) mm_gguf_kv_str(w, "tokenizer.huggingface.json", tok);
    const char *key;
    const json_t *v;
    json_object_foreach ((json_t *)extra, key, v)
        if (json_is_string(v)) mm_gguf_kv_str(w, key, json_string_value(v));
    for (size_t i = 0; i < u->n; i++) {
        const mm_uni_slot *s = &u->slots[i];
        const int64_t shape[2] = { s->matrix ? (int64_t)s->p.rows : (int64_t)s->p.cols, (int64_t)s->p.cols };
        mm_gguf_tensor(w, s->name, type_of(s, type), s->matrix ? 2 : 1, shape);
    }
    r = config && (tok || !tokenizer) ? mm_gguf_begin(w, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < u->n && !r; i++)
        r = mm_rows_write(w, from ? from[i] : u->slots[i].p.w, u->slots[i].p.rows, u->slots[i].p.cols, type_of(&u->slots[i], type), err);
    json_decref(j);
    free(config);
    free(tok);
    if (r) {
        mm_gguf_abort(&w);
        return r;
    }
    return mm_gguf_commit(&w, err);
}

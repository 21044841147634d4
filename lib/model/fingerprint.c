/* Whose vectors are these? A hash that is cheap at start (no walk over all weights) and still differs for every retrained,
 * merged or re-cut model: shape, vocabulary, and three rows of every weight matrix rounded to bfloat16, so that float32 and
 * bfloat16 copies of one checkpoint agree whatever the container. Coarser types do not keep the rounded values: a file
 * made by mm-quantize carries the hash of its source instead (key mm.fingerprint). */
#include <stdio.h>
#include <string.h>
#include "base/mm_str.h"
#include "model/model_int.h"

static uint64_t rows_hash(const mm_model *m, const mm_store_tensor *t, float *row, uint64_t h)
{
    size_t n = (size_t)t->shape[0], cols = (size_t)t->shape[1], at[3] = { 0, n / 2, n - 1 };
    for (int i = 0; i < 3; i++) {
        mmk_row_to_f32(m->kern, row, (const char *)t->data + at[i] * (t->bytes / n), t->type, cols);
        for (size_t k = 0; k < cols; k++) {
            uint16_t b = mm_f32_to_bf16(row[k]);
            memcpy((char *)row + 2 * k, &b, 2); /* never ahead of the value being read */
        }
        h = mm_hash64(row, 2 * cols, h);
    }
    return h;
}

static int source_hash(mm_model *m, uint64_t *out, mm_err *err)
{
    static const char *const parts[] = { "attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down" };
    const mm_model_config *c = &m->cfg;
    const int64_t shape[] = { c->layers, c->width, c->ff_width, c->heads, c->kv_heads, c->vocab, c->positions, c->act };
    uint64_t h = mm_hash64(c->family, strlen(c->family), 0);
    h = mm_hash64(shape, sizeof shape, h);
    h = mm_tok_hash(m->tok) ^ h;
    size_t widest = (size_t)(c->ff_width > c->width ? c->ff_width : c->width);
    float *row = mm_arena_alloc(&m->arena, widest, sizeof *row);
    if (!row) return mm_fail(err, MM_ENOMEM, "out of memory");
    h = rows_hash(m, mm_store_find(m->store, "token_embd.weight"), row, h);
    for (int64_t l = 0; l < c->layers; l++)
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            char name[80];
            snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)l, parts[p]);
            h = rows_hash(m, mm_store_find(m->store, name), row, h);
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
    const int how[] = { (int)m->cfg.pool, m->cfg.normalize };
    h = mm_hash64(how, sizeof how, h);
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

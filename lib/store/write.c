/* Writers of GGUF and safetensors: a header built in memory, then the tensors' data as it comes, to a
 * temporary file that gets its name when all is there. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "store/store_int.h"

#define GGUF_ALIGN 32
#define GGUF_NDIM 4
#define GGUF_NAME 64 /* the specification's limit of a tensor's name, in bytes */

typedef struct core {
    mm_outfile f;
    mm_buf kv, info; /* encoded pairs and descriptions of tensors */
    uint64_t n_kv;
    size_t *bytes; /* of each tensor */
    size_t n, cap;
    uint64_t at;       /* offset of the next tensor described */
    size_t align;      /* of each tensor's data */
    size_t next, done; /* tensor being written, bytes of it that are */
    mm_err err;        /* the first failure before begin */
} core;

struct mm_gguf_writer {
    core c;
};
struct mm_st_writer {
    core c;
};

static core *create(const char *path, size_t align, mm_err *err)
{
    core *c = calloc(1, sizeof *c);
    if (!c) return mm_fail(err, MM_ENOMEM, "out of memory"), NULL;
    c->align = align;
    if (!mm_outfile_open(&c->f, path, err)) return c;
    free(c);
    return NULL;
}

static void destroy(core *c)
{
    mm_outfile_abort(&c->f);
    mm_buf_clear(&c->kv);
    mm_buf_clear(&c->info);
    free(c->bytes);
    free(c);
}

/* What both formats ask of a tensor; 0 when it is refused. *off is its place in the data. */
static int describe(core *c, const char *name, int type, int ndim, const int64_t *shape, int max_dim,
                    uint64_t *off, size_t *bytes)
{
    size_t count = 1;
    if (c->err.code) return 0;
    if (!name[0] || mm_utf8_valid(name, strlen(name)) != strlen(name))
        return mm_fail(&c->err, MM_EARG, "tensor %zu has a bad name", c->n), 0;
    if (ndim < 0 || ndim > max_dim)
        return mm_fail(&c->err, MM_EUNSUP, "tensor '%s' has %d dimensions, the format holds %d", name, ndim,
                       max_dim),
               0;
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || mm_mul(count, (size_t)shape[i], &count))
            return mm_fail(&c->err, MM_ESHAPE, "tensor '%s' has a bad shape", name), 0;
    const mm_dtype_info *t = mm_dtype_get(type);
    if (!t || (ndim ? shape[ndim - 1] % t->block : t->block > 1) || mm_dtype_bytes(type, count, bytes))
        return mm_fail(&c->err, MM_ESHAPE, "tensor '%s': rows are no multiple of the type's block", name), 0;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64, *p = mm_realloc(c->bytes, cap, sizeof *p);
        if (!p) return mm_fail(&c->err, MM_ENOMEM, "out of memory"), 0;
        c->bytes = p;
        c->cap = cap;
    }
    c->bytes[c->n++] = *bytes;
    *off = c->at;
    c->at += (*bytes + c->align - 1) / c->align * c->align;
    return 1;
}

static int failed(core *c, mm_err *err)
{
    if (!c->err.code && (c->kv.failed || c->info.failed)) mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (c->err.code && err) *err = c->err;
    return c->err.code;
}

/* Tensors that are complete, empty ones among them, are padded and passed. */
static int pass(core *c, mm_err *err)
{
    while (c->next < c->n && c->done == c->bytes[c->next]) {
        int r = mm_outfile_pad(&c->f, c->align, err);
        if (r) return r;
        c->next++;
        c->done = 0;
    }
    return 0;
}

static int data(core *c, const void *p, size_t len, mm_err *err)
{
    if (c->next == c->n || len > c->bytes[c->next] - c->done)
        return mm_fail(err, MM_EARG, "more data than tensor %zu takes", c->next);
    int r = mm_outfile_write(&c->f, p, len, err);
    if (r) return r;
    c->done += len;
    return pass(c, err);
}

static int commit(core *c, mm_err *err)
{
    int r = c->next < c->n ? mm_fail(err, MM_EARG, "the data of tensor %zu is missing", c->next)
                           : mm_outfile_commit(&c->f, err);
    destroy(c);
    return r;
}

/* ---- GGUF ---- */

static void put32(mm_buf *b, uint32_t v) { mm_buf_add(b, &v, 4); }
static void put64(mm_buf *b, uint64_t v) { mm_buf_add(b, &v, 8); }
static void put_str(mm_buf *b, const char *s, size_t len)
{
    put64(b, len);
    mm_buf_add(b, s, len);
}

int mm_gguf_create(mm_gguf_writer **w, const char *path, mm_err *err)
{
    *w = (mm_gguf_writer *)create(path, GGUF_ALIGN, err);
    return *w ? 0 : err ? err->code : MM_EIO;
}

static mm_buf *key(mm_gguf_writer *w, const char *name, int type)
{
    put_str(&w->c.kv, name, strlen(name));
    put32(&w->c.kv, (uint32_t)type);
    w->c.n_kv++;
    return &w->c.kv;
}

static mm_buf *array_key(mm_gguf_writer *w, const char *name, int elem, size_t n)
{
    mm_buf *b = key(w, name, KV_ARR);
    put32(b, (uint32_t)elem);
    put64(b, n);
    return b;
}

void mm_gguf_kv_str(mm_gguf_writer *w, const char *name, const char *val)
{
    put_str(key(w, name, KV_STR), val, strlen(val));
}
void mm_gguf_kv_u32(mm_gguf_writer *w, const char *name, uint32_t val) { put32(key(w, name, KV_U32), val); }
void mm_gguf_kv_f32(mm_gguf_writer *w, const char *name, float val)
{
    mm_buf_add(key(w, name, KV_F32), &val, 4);
}
void mm_gguf_kv_bool(mm_gguf_writer *w, const char *name, int val)
{
    mm_buf_addc(key(w, name, KV_BOOL), val != 0);
}

void mm_gguf_kv_strs(mm_gguf_writer *w, const char *name, const mm_slice *v, size_t n)
{
    mm_buf *b = array_key(w, name, KV_STR, n);
    for (size_t i = 0; i < n; i++) put_str(b, v[i].p, v[i].len);
}

void mm_gguf_kv_ints(mm_gguf_writer *w, const char *name, const int32_t *v, size_t n)
{
    mm_buf_add(array_key(w, name, KV_I32, n), v, 4 * n);
}

void mm_gguf_kv_nums(mm_gguf_writer *w, const char *name, const float *v, size_t n)
{
    mm_buf_add(array_key(w, name, KV_F32, n), v, 4 * n);
}

void mm_gguf_kv_copy(mm_gguf_writer *w, const mm_store *from, int (*skip)(const char *key))
{
    for (size_t i = 0; i < from->n_kv; i++) {
        const kv *v = &from->kv[i];
        if (skip && skip(v->key)) continue;
        mm_buf *b = v->type == KV_ARR ? array_key(w, v->key, v->elem, (size_t)v->n) : key(w, v->key, v->type);
        if (v->type == KV_STR) put64(b, v->len);
        mm_buf_add(b, v->p, v->len);
    }
}

void mm_gguf_tensor(mm_gguf_writer *w, const char *name, int type, int ndim, const int64_t *shape)
{
    core *c = &w->c;
    uint64_t off;
    size_t bytes;
    if (!c->err.code && type >= 1000)
        mm_fail(&c->err, MM_EUNSUP, "tensor '%s' has type %s, which GGUF does not have", name,
                mm_dtype_get(type) ? mm_dtype_get(type)->name : "?");
    if (!c->err.code && strlen(name) > GGUF_NAME)
        mm_fail(&c->err, MM_EUNSUP, "tensor '%s' has a name of more than %d bytes, which GGUF does not allow",
                name, GGUF_NAME);
    if (!describe(c, name, type, ndim, shape, GGUF_NDIM, &off, &bytes)) return;
    put_str(&c->info, name, strlen(name));
    put32(&c->info, (uint32_t)ndim);
    for (int i = ndim - 1; i >= 0; i--) put64(&c->info, (uint64_t)shape[i]);
    put32(&c->info, (uint32_t)type);
    put64(&c->info, off);
}

int mm_gguf_begin(mm_gguf_writer *w, mm_err *err)
{
    core *c = &w->c;
    mm_buf h = { 0 };
    if (failed(c, err)) return c->err.code;
    mm_buf_adds(&h, "GGUF");
    put32(&h, 3);
    put64(&h, c->n);
    put64(&h, c->n_kv);
    int r = h.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : mm_outfile_write(&c->f, h.p, h.len, err);
    if (!r && c->kv.len) r = mm_outfile_write(&c->f, c->kv.p, c->kv.len, err);
    if (!r && c->info.len) r = mm_outfile_write(&c->f, c->info.p, c->info.len, err);
    if (!r) r = mm_outfile_pad(&c->f, c->align, err);
    mm_buf_clear(&h);
    return r ? r : pass(c, err);
}

int mm_gguf_data(mm_gguf_writer *w, const void *p, size_t len, mm_err *err)
{
    return data(&w->c, p, len, err);
}

int mm_gguf_commit(mm_gguf_writer **w, mm_err *err)
{
    int r = commit(&(*w)->c, err);
    *w = NULL;
    return r;
}

void mm_gguf_abort(mm_gguf_writer **w)
{
    if (*w) destroy(&(*w)->c);
    *w = NULL;
}

/* ---- safetensors ---- */

int mm_st_create(mm_st_writer **w, const char *path, const json_t *metadata, mm_err *err)
{
    const char *k;
    json_t *v;
    core *c = create(path, 1, err);
    *w = (mm_st_writer *)c;
    if (!c) return err ? err->code : MM_EIO;
    if (metadata) {
        mm_buf_adds(&c->info, "\"__metadata__\":{");
        size_t n = 0;
        json_object_foreach((json_t *)metadata, k, v) {
            if (!json_is_string(v)) mm_fail(&c->err, MM_EARG, "metadata '%s' should be a string", k);
            if (n++) mm_buf_addc(&c->info, ',');
            mm_json_quote(&c->info, k, strlen(k));
            mm_buf_addc(&c->info, ':');
            mm_json_quote(&c->info, json_string_value(v), json_string_length(v));
        }
        mm_buf_addc(&c->info, '}');
    }
    return 0;
}

void mm_st_tensor(mm_st_writer *w, const char *name, int type, int ndim, const int64_t *shape)
{
    core *c = &w->c;
    uint64_t off;
    size_t bytes;
    const mm_dtype_info *t = mm_dtype_get(type);
    if (!c->err.code && (!t || !t->st_name))
        mm_fail(&c->err, MM_EUNSUP, "tensor '%s' has type %s, which safetensors does not have", name,
                t ? t->name : "?");
    if (!describe(c, name, type, ndim, shape, MM_STORE_NDIM, &off, &bytes)) return;
    if (c->info.len) mm_buf_addc(&c->info, ',');
    mm_json_quote(&c->info, name, strlen(name));
    mm_buf_addf(&c->info, ":{\"dtype\":\"%s\",\"shape\":[", t->st_name);
    for (int i = 0; i < ndim; i++) mm_buf_addf(&c->info, "%s%lld", i ? "," : "", (long long)shape[i]);
    mm_buf_addf(&c->info, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)off,
                (unsigned long long)(off + bytes));
}

int mm_st_begin(mm_st_writer *w, mm_err *err)
{
    core *c = &w->c;
    mm_buf h = { 0 };
    if (failed(c, err)) return c->err.code;
    /* spaces after the object, so that the data begins at a multiple of 64 */
    uint64_t len = (8 + c->info.len + 2 + 63) / 64 * 64 - 8;
    put64(&h, len);
    mm_buf_addc(&h, '{');
    if (c->info.len) mm_buf_add(&h, c->info.p, c->info.len);
    mm_buf_addc(&h, '}');
    while (!h.failed && h.len < 8 + len) mm_buf_addc(&h, ' ');
    int r = h.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : mm_outfile_write(&c->f, h.p, h.len, err);
    mm_buf_clear(&h);
    return r ? r : pass(c, err);
}

int mm_st_data(mm_st_writer *w, const void *p, size_t len, mm_err *err) { return data(&w->c, p, len, err); }

int mm_st_commit(mm_st_writer **w, mm_err *err)
{
    int r = commit(&(*w)->c, err);
    *w = NULL;
    return r;
}

void mm_st_abort(mm_st_writer **w)
{
    if (*w) destroy(&(*w)->c);
    *w = NULL;
}

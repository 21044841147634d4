/* Reader of one GGUF image: magic, version, counts, key-value pairs, tensor descriptions, aligned data. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "store/store_int.h"

typedef struct {
    const uint8_t *base, *p, *end;
    const char *what; /* being read, for messages */
    mm_err *err;
} cur;

static size_t left(const cur *c) { return (size_t)(c->end - c->p); }

static int cut(cur *c)
{
    return mm_fail(c->err, MM_ETRUNC, "cut, or a count is too large: byte %zu, in %s",
                   (size_t)(c->p - c->base), c->what);
}

static int u32(cur *c, uint32_t *v)
{
    *v = 0;
    if (left(c) < 4) return cut(c);
    *v = le32(c->p);
    c->p += 4;
    return 0;
}

static int u64(cur *c, uint64_t *v)
{
    *v = 0;
    if (left(c) < 8) return cut(c);
    *v = le64(c->p);
    c->p += 8;
    return 0;
}

static int string(cur *c, mm_slice *s)
{
    uint64_t n;
    int r = u64(c, &n);
    if (r) return r;
    if (n > left(c)) return cut(c);
    *s = (mm_slice){ (const char *)c->p, (size_t)n };
    c->p += n;
    return 0;
}

/* names and keys: at most 64 KiB by the specification's own limit, no NUL, valid UTF-8 */
static int name(cur *c, mm_arena *a, const char **out)
{
    mm_slice s;
    int r = string(c, &s);
    if (r) return r;
    if (s.len > 65535 || !s.len || memchr(s.p, 0, s.len) || mm_utf8_valid(s.p, s.len) != s.len)
        return mm_fail(c->err, MM_EDATA, "bad name at byte %zu, in %s",
                       (size_t)((const uint8_t *)s.p - c->base), c->what);
    *out = mm_arena_strndup(a, s.p, s.len);
    return *out ? 0 : mm_fail(c->err, MM_ENOMEM, "out of memory");
}

static const uint8_t value_size[KV_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

static int value(cur *c, mm_arena *a, kv *v)
{
    uint32_t t;
    mm_slice s;
    int r = u32(c, &t);
    if (r) return r;
    if (t >= KV_TYPES) return mm_fail(c->err, MM_EDATA, "key '%s' has unknown type %u", v->key, t);
    v->type = (int)t;
    v->p = c->p;
    if (t == KV_STR) {
        if ((r = string(c, &s))) return r;
        v->p = (const uint8_t *)s.p;
        v->len = s.len;
        if (!memchr(s.p, 0, s.len) && !(v->str = mm_arena_strndup(a, s.p, s.len)))
            return mm_fail(c->err, MM_ENOMEM, "out of memory");
        return 0;
    }
    if (t != KV_ARR) {
        if (left(c) < value_size[t]) return cut(c);
        v->len = value_size[t];
        c->p += v->len;
        if (t == KV_BOOL && *v->p > 1)
            return mm_fail(c->err, MM_EDATA, "key '%s' is neither true nor false", v->key);
        return 0;
    }
    uint32_t e;
    if ((r = u32(c, &e)) || (r = u64(c, &v->n))) return r;
    if (e == KV_ARR)
        return mm_fail(c->err, MM_EUNSUP, "key '%s' is an array of arrays, which is not supported", v->key);
    if (e >= KV_TYPES) return mm_fail(c->err, MM_EUNSUP, "key '%s' is an array of type %u", v->key, e);
    v->elem = (int)e;
    v->p = c->p;
    size_t least = e == KV_STR ? 8 : value_size[e]; /* so many bytes each at least: bounds n by the file */
    if (v->n > left(c) / least) return cut(c);
    if (e == KV_STR)
        for (uint64_t i = 0; i < v->n; i++) {
            if ((r = string(c, &s))) return r;
        }
    else c->p += v->n * least;
    v->len = (size_t)(c->p - v->p);
    return 0;
}

static int by_key(const void *a, const void *b) { return strcmp(((const kv *)a)->key, ((const kv *)b)->key); }

const kv *mm_gguf_find(const mm_store *st, const char *key)
{
    kv want = { .key = key };
    return st->n_kv ? bsearch(&want, st->kv, st->n_kv, sizeof *st->kv, by_key) : NULL;
}

static int tensor_info(cur *c, mm_store *st, uint64_t *off, mm_store_tensor *t, const char **tname)
{
    uint32_t nd, type;
    uint64_t d;
    size_t count = 1, span = 1; /* span: without zeros, so that no later product over the shape overflows */
    int r = name(c, &st->arena, tname);
    if (r) return r;
    c->what = *tname;
    if ((r = u32(c, &nd))) return r;
    if (nd > 4) return mm_fail(c->err, MM_EDATA, "tensor '%s' has %u dimensions", *tname, nd);
    t->ndim = (int)nd;
    for (uint32_t i = 0; i < nd; i++) { /* GGUF lists the innermost dimension first */
        if ((r = u64(c, &d))) return r;
        if (d > INT64_MAX || (d && mm_mul(span, (size_t)d, &span)))
            return mm_fail(c->err, MM_EDATA, "tensor '%s' is larger than memory can be", *tname);
        count *= (size_t)d; /* not above span */
        t->shape[nd - 1 - i] = (int64_t)d;
    }
    if ((r = u32(c, &type)) || (r = u64(c, off))) return r;
    const mm_dtype_info *info = type < 1000 ? mm_dtype_get((int)type) : NULL;
    if (!info)
        return mm_fail(c->err, MM_EUNSUP, "tensor '%s' has type %u, which this version does not know", *tname,
                       type);
    t->type = (int)type;
    if (nd && t->shape[nd - 1] % info->block)
        return mm_fail(c->err, MM_EDATA, "tensor '%s': rows of %lld are no multiple of the %u of a block",
                       *tname, (long long)t->shape[nd - 1], info->block);
    if (mm_dtype_bytes((int)type, count, &t->bytes))
        return mm_fail(c->err, MM_EDATA, "tensor '%s' has a bad size", *tname);
    return 0;
}

static int parse(mm_store *st, cur *c, uint32_t part)
{
    uint32_t version;
    uint64_t nt, nkv;
    int r;
    c->what = "the header";
    c->p += 4; /* magic, seen by the caller */
    if ((r = u32(c, &version))) return r;
    if (version && !(version & 0xFFFF))
        return mm_fail(c->err, MM_EUNSUP, "is big-endian GGUF, which is not read");
    if (version != 2 && version != 3)
        return mm_fail(c->err, MM_EUNSUP, "GGUF version %u (2 and 3 are known)", version);
    if ((r = u64(c, &nt)) || (r = u64(c, &nkv))) return r;
    /* a pair takes 13 bytes at least, a tensor 24 */
    if (nkv > left(c) / 13 || nt > left(c) / 24) return cut(c);
    size_t first_kv = st->n_kv, first = st->n;
    kv *all = mm_realloc(st->kv, st->n_kv + (size_t)nkv, sizeof *all);
    if (!all) return mm_fail(c->err, MM_ENOMEM, "out of memory");
    st->kv = all;
    for (uint64_t i = 0; i < nkv; i++) {
        kv *v = &st->kv[st->n_kv];
        *v = (kv){ 0 };
        c->what = "a key";
        if ((r = name(c, &st->arena, &v->key))) return r;
        c->what = v->key;
        if ((r = value(c, &st->arena, v))) return r;
        st->n_kv++;
    }
    if (first_kv) { /* a further part of a split model: its keys are not wanted */
        st->n_kv = first_kv;
    } else {
        qsort(st->kv, st->n_kv, sizeof *st->kv, by_key);
        for (size_t i = 1; i < st->n_kv; i++)
            if (!strcmp(st->kv[i - 1].key, st->kv[i].key))
                return mm_fail(c->err, MM_EDATA, "key '%s' occurs twice", st->kv[i].key);
    }
    int64_t align;
    if ((r = mm_store_kv_int(st, "general.alignment", 1, 1 << 20, 32, &align, c->err))) return r;
    if (align & (align - 1))
        return mm_fail(c->err, MM_EDATA, "alignment %lld is no power of two", (long long)align);
    uint64_t *off = malloc((size_t)(nt + 1) * sizeof *off);
    if (!off) return mm_fail(c->err, MM_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < nt && !r; i++) {
        mm_store_tensor t = { .part = part };
        const char *tname;
        c->what = "a tensor's description";
        if (!(r = tensor_info(c, st, &off[i], &t, &tname)))
            r = mm_store_add(st, &t, tname, strlen(tname), c->err);
    }
    size_t start = ((size_t)(c->p - c->base) + (size_t)align - 1) & ~((size_t)align - 1),
           size = (size_t)(c->end - c->base);
    size_t data_len = start < size ? size - start : 0;
    uint64_t end = 0;
    for (size_t i = first; i < st->n && !r; i++) {
        mm_store_tensor *t = &st->t[i];
        uint64_t o = off[i - first];
        if (o % (uint64_t)align) r = mm_fail(c->err, MM_EDATA, "tensor '%s' is not aligned", t->name);
        else if (o > data_len || t->bytes > data_len - o)
            r = mm_fail(c->err, MM_ETRUNC, "cut: data of tensor '%s' ends after the file", t->name);
        else if (o < end) r = mm_fail(c->err, MM_EDATA, "tensor '%s' overlaps the one before it", t->name);
        else t->data = c->base + start + o;
        end = o + t->bytes;
    }
    free(off);
    return r;
}

int mm_gguf_parse(mm_store *st, const char *fname, const uint8_t *p, size_t len, uint32_t part, mm_err *err)
{
    cur c = { p, p, p + len, "", err };
    st->gguf = 1;
    int r = parse(st, &c, part);
    if (!r) r = mm_store_index(st, err);
    return r ? mm_err_prefix(err, "'%s': ", fname), r : 0;
}

/* ---- getters ---- */

static int wrong(const char *key, const char *should, mm_err *err)
{
    return mm_fail(err, MM_EDATA, "key '%s' should be %s", key, should);
}

static int as_int(const kv *v, int64_t *out)
{
    switch (v->type) {
    case KV_U8:
    case KV_BOOL: *out = v->p[0]; return 0;
    case KV_I8: *out = (int8_t)v->p[0]; return 0;
    case KV_U16: *out = v->p[0] | v->p[1] << 8; return 0;
    case KV_I16: *out = (int16_t)(v->p[0] | v->p[1] << 8); return 0;
    case KV_U32: *out = le32(v->p); return 0;
    case KV_I32: *out = (int32_t)le32(v->p); return 0;
    case KV_I64: *out = (int64_t)le64(v->p); return 0;
    case KV_U64:
        if (le64(v->p) > INT64_MAX) return -1;
        *out = (int64_t)le64(v->p);
        return 0;
    default: return -1;
    }
}

static int as_num(const kv *v, double *out)
{
    int64_t i;
    if (v->type == KV_F32) {
        float f;
        memcpy(&f, v->p, 4);
        return *out = (double)f, 0;
    }
    if (v->type == KV_F64) return memcpy(out, v->p, 8), 0;
    if (v->type == KV_BOOL || as_int(v, &i)) return -1;
    return *out = (double)i, 0;
}

int mm_store_kv_int(const mm_store *st, const char *key, int64_t min, int64_t max, int64_t dflt, int64_t *out,
                    mm_err *err)
{
    const kv *v = mm_gguf_find(st, key);
    int64_t i;
    if (!v) return *out = dflt, 0;
    if (v->type == KV_BOOL || as_int(v, &i)) return wrong(key, "a whole number", err);
    if (i < min || i > max)
        return mm_fail(err, MM_EDATA, "key '%s' is %lld, should be %lld to %lld", key, (long long)i,
                       (long long)min, (long long)max);
    *out = i;
    return 0;
}

int mm_store_kv_num(const mm_store *st, const char *key, double dflt, double *out, mm_err *err)
{
    const kv *v = mm_gguf_find(st, key);
    double d;
    if (!v) return *out = dflt, 0;
    if (as_num(v, &d) || d - d != 0) return wrong(key, "a finite number", err);
    *out = d;
    return 0;
}

int mm_store_kv_bool(const mm_store *st, const char *key, int dflt, int *out, mm_err *err)
{
    const kv *v = mm_gguf_find(st, key);
    if (!v) return *out = dflt, 0;
    if (v->type != KV_BOOL) return wrong(key, "true or false", err);
    *out = v->p[0];
    return 0;
}

int mm_store_kv_str(const mm_store *st, const char *key, const char *dflt, const char **out, mm_err *err)
{
    const kv *v = mm_gguf_find(st, key);
    if (!v) return *out = dflt, 0;
    if (v->type != KV_STR || !v->str) return wrong(key, "a string", err);
    *out = v->str;
    return 0;
}

/* Arrays are decoded into the arena at the first request, so that one thread asks for them. */
static const kv *array(const mm_store *st, const char *key, size_t *n)
{
    const kv *v = mm_gguf_find(st, key);
    *n = v ? (size_t)v->n : 0;
    return v;
}

int mm_store_kv_strs(const mm_store *st, const char *key, const mm_slice **out, size_t *n, mm_err *err)
{
    const kv *v = array(st, key, n);
    *out = NULL;
    if (!v) return 0;
    if (v->type != KV_ARR || v->elem != KV_STR) return wrong(key, "an array of strings", err);
    if (!v->array) {
        mm_slice *s = mm_arena_alloc((mm_arena *)&st->arena, *n, sizeof *s);
        if (!s) return mm_fail(err, MM_ENOMEM, "out of memory");
        const uint8_t *p = v->p;
        for (size_t i = 0; i < *n; i++) { /* lengths were checked by value() */
            s[i] = (mm_slice){ (const char *)p + 8, (size_t)le64(p) };
            p += 8 + s[i].len;
        }
        ((kv *)v)->array = s;
    }
    *out = v->array;
    return 0;
}

int mm_store_kv_ints(const mm_store *st, const char *key, const int32_t **out, size_t *n, mm_err *err)
{
    const kv *v = array(st, key, n);
    *out = NULL;
    if (!v) return 0;
    if (v->type != KV_ARR || (v->elem != KV_I32 && v->elem != KV_U32))
        return wrong(key, "an array of 32-bit integers", err);
    if (!v->array) {
        int32_t *a = mm_arena_alloc((mm_arena *)&st->arena, *n, sizeof *a);
        if (!a) return mm_fail(err, MM_ENOMEM, "out of memory");
        memcpy(a, v->p, *n * 4);
        ((kv *)v)->array = a;
    }
    *out = v->array;
    return 0;
}

int mm_store_kv_nums(const mm_store *st, const char *key, const float **out, size_t *n, mm_err *err)
{
    const kv *v = array(st, key, n);
    *out = NULL;
    if (!v) return 0;
    if (v->type != KV_ARR || v->elem != KV_F32) return wrong(key, "an array of float32", err);
    if (!v->array) {
        float *a = mm_arena_alloc((mm_arena *)&st->arena, *n, sizeof *a);
        if (!a) return mm_fail(err, MM_ENOMEM, "out of memory");
        memcpy(a, v->p, *n * 4);
        ((kv *)v)->array = a;
    }
    *out = v->array;
    return 0;
}

static const char *const kv_types[KV_TYPES] = { "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                "bool", "string", "array", "u64", "i64", "f64" };
#define LISTED 8 /* elements of an array that are shown, not only counted */

static void element(mm_buf *out, int type, const uint8_t *p, size_t len)
{
    kv v = { .type = type, .p = p };
    int64_t n;
    double d;
    if (type == KV_STR) mm_json_quote(out, (const char *)p, len);
    else if (type == KV_BOOL) mm_buf_adds(out, *p ? "true" : "false");
    else if (!as_int(&v, &n)) mm_buf_addf(out, "%lld", (long long)n);
    else if (type == KV_U64) mm_buf_addf(out, "%llu", (unsigned long long)le64(p));
    else if (as_num(&v, &d) || d - d != 0) mm_buf_adds(out, "null"); /* JSON has no NaN */
    else mm_buf_addf(out, "%.*g", type == KV_F32 ? 9 : 17, d);
}

const char *mm_store_kv_at(const mm_store *st, size_t i, const char **type, mm_buf *out)
{
    if (!st->gguf) {
        const char *k;
        json_t *s;
        json_object_foreach(st->meta, k, s) {
            if (i--) continue;
            *type = "string";
            mm_json_quote(out, json_string_value(s), json_string_length(s));
            return k;
        }
        return NULL;
    }
    if (i >= st->n_kv) return NULL;
    const kv *v = &st->kv[i];
    *type = kv_types[v->type];
    if (v->type != KV_ARR) {
        element(out, v->type, v->p, v->len);
    } else if (v->n > LISTED) {
        mm_buf_addf(out, "{\"array\":\"%s\",\"count\":%llu}", kv_types[v->elem], (unsigned long long)v->n);
    } else {
        const uint8_t *p = v->p;
        mm_buf_addc(out, '[');
        for (uint64_t k = 0; k < v->n; k++) {
            size_t len = v->elem == KV_STR ? (size_t)le64(p) : value_size[v->elem];
            if (v->elem == KV_STR) p += 8;
            if (k) mm_buf_addc(out, ',');
            element(out, v->elem, p, len);
            p += len;
        }
        mm_buf_addc(out, ']');
    }
    return v->key;
}

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "stream/stream_int.h"

typedef struct member {
    mm_slice key;  /* decoded */
    mm_slice name; /* as it is written: escaped, without quotes */
    mm_slice raw;  /* empty: the typed vector */
} member;

enum { VEC_RAW, VEC_TYPED, VEC_CHECKED }; /* not yet decoded; set, maybe with NaN; fit for use */

struct mm_rec {
    mm_arena a; /* everything but the vector */
    member *m;
    size_t n, cap;
    int vec; /* state of "embedding", if there is such a member */
    int dtype;
    size_t dim, max_dim;
    void *data; /* [dim] of dtype, once decoded */
    size_t data_cap;
    float *wide; /* the same as float32, where dtype is another */
    size_t wide_cap;
    int wide_ok;
    int code, before;
    const char *msg;
    const char *file;
    uint64_t line;
    char *blob; /* a medium that came with the record itself */
    size_t blob_len;
};

static const char VEC[] = "embedding";

/* ---- life ---- */

mm_rec *mm_rec_new(void)
{
    mm_rec *r = calloc(1, sizeof *r);
    if (r) mm_rec_reset(r);
    return r;
}

void mm_rec_reset(mm_rec *r)
{
    mm_arena_reset(&r->a);
    r->n = 0;
    r->vec = VEC_RAW;
    r->wide_ok = r->code = r->before = 0;
    r->max_dim = MM_MAX_DIM;
    r->msg = "";
    r->file = NULL;
    free(r->blob);
    r->blob = NULL;
    r->blob_len = 0;
}

void mm_rec_free(mm_rec *r)
{
    if (!r) return;
    mm_arena_clear(&r->a);
    free(r->m);
    free(r->data);
    free(r->wide);
    free(r->blob);
    free(r);
}

void rec_place(mm_rec *r, const char *file, uint64_t line, size_t max_dim)
{
    r->file = file;
    r->line = line;
    r->max_dim = max_dim;
}

const char *mm_rec_place(mm_rec *r)
{
    if (!r->file) return "";
    size_t n = strlen(r->file);
    char *p = mm_arena_alloc(&r->a, n + 24, 1);
    if (!p) return r->file;
    snprintf(p, n + 24, "%s:%llu", r->file, (unsigned long long)r->line);
    return p;
}

/* ---- members ---- */

static member *find(const mm_rec *r, const char *key, size_t len)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->m[i].key.len == len && !memcmp(r->m[i].key.p, key, len)) return &r->m[i];
    return NULL;
}

static member *find_vec(const mm_rec *r) { return find(r, VEC, sizeof VEC - 1); }

static member *append(mm_rec *r)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 16;
        member *m = mm_realloc(r->m, cap, sizeof *m);
        if (!m) return NULL;
        r->m = m;
        r->cap = cap;
    }
    r->m[r->n] = (member){ 0 };
    return &r->m[r->n++];
}

static int by_key(const void *x, const void *y)
{
    const member *a = *(const member *const *)x, *b = *(const member *const *)y;
    if (a->key.len != b->key.len) return a->key.len < b->key.len ? -1 : 1;
    int c = memcmp(a->key.p, b->key.p, a->key.len);
    return c ? c : a < b ? -1 : 1;
}

/* The first member whose key stands earlier already, NULL if none. Objects are small, as a rule; the sort keeps a line with a
 * million keys from taking hours. */
static const member *duplicate(mm_rec *r, int *nomem)
{
    const member *dup = NULL;
    *nomem = 0;
    if (r->n <= 16) {
        for (size_t i = 1; i < r->n; i++)
            if (find(r, r->m[i].key.p, r->m[i].key.len) < &r->m[i]) return &r->m[i];
        return NULL;
    }
    const member **s = mm_realloc(NULL, r->n, sizeof *s);
    if (!s) return *nomem = 1, NULL;
    for (size_t i = 0; i < r->n; i++) s[i] = &r->m[i];
    qsort(s, r->n, sizeof *s, by_key);
    for (size_t i = 1; i < r->n; i++)
        if (s[i]->key.len == s[i - 1]->key.len && !memcmp(s[i]->key.p, s[i - 1]->key.p, s[i]->key.len) &&
            (!dup || s[i] < dup))
            dup = s[i];
    free(s);
    return dup;
}

/* A raw string value, decoded: in place where nothing is escaped. */
static int decode(mm_rec *r, mm_slice raw, mm_slice *out, mm_err *err)
{
    if (!memchr(raw.p, '\\', raw.len)) {
        *out = (mm_slice){ raw.p + 1, raw.len - 2 };
        return 0;
    }
    mm_buf b = { 0 };
    int code = mm_json_unescape(&b, raw, err);
    if (!code) {
        out->p = mm_arena_strndup(&r->a, b.p, b.len);
        out->len = b.len;
        if (!out->p) code = mm_fail(err, MM_ENOMEM, "out of memory");
    }
    mm_buf_clear(&b);
    return code;
}

static int code_of(mm_slice name)
{
    for (int code = MM_ENOMEM; code >= MM_ELOCK; code--) {
        const char *s = mm_err_name(code);
        if (strlen(s) == name.len && !memcmp(s, name.p, name.len)) return code;
    }
    return MM_EDATA;
}

/* A record that comes in with an error: from us ({"code","message"}) or in a form of somebody else's. */
static void take_error(mm_rec *r, mm_slice raw)
{
    mm_json_iter it;
    mm_slice key, val, s;
    r->code = MM_EDATA;
    r->before = 1;
    if (raw.p[0] != '{' || mm_json_begin(&it, raw.p, raw.len, NULL)) return;
    while (mm_json_next(&it, &key, &val, NULL) > 0) {
        if (val.p[0] != '"' || decode(r, val, &s, NULL)) continue;
        if (key.len == 4 && !memcmp(key.p, "code", 4)) r->code = code_of(s);
        if (key.len == 7 && !memcmp(key.p, "message", 7) && s.len < MM_ERR_MSG) {
            const char *p = mm_arena_strndup(&r->a, s.p, s.len);
            if (p) r->msg = p;
        }
    }
}

int mm_rec_parse(mm_rec *r, const char *json, size_t len, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    mm_rec_reset(r);
    char *copy = mm_arena_strndup(&r->a, json, len);
    if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
    /* an object inside a frame may have line breaks between its tokens; on a line of its own it must not */
    for (char *p = copy; (p = memchr(p, '\n', len - (size_t)(p - copy))); p++) *p = ' ';
    int code = mm_json_begin(&it, copy, len, err);
    if (!code && it.array) code = mm_fail(err, MM_EDATA, "invalid JSON: an array, an object is wanted");
    while (!code && (code = mm_json_next(&it, &key, &val, err)) > 0) {
        member *m = append(r);
        if (!m) return mm_fail(err, MM_ENOMEM, "out of memory");
        code = decode(r, (mm_slice){ key.p - 1, key.len + 2 }, &m->key, err);
        m->name = key;
        m->raw = val;
        if (code) r->n--;
    }
    int nomem;
    const member *dup = duplicate(r, &nomem);
    if (nomem) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (dup) {
        r->n = (size_t)(dup - r->m);
        return mm_fail(err, MM_EDATA, "duplicate key '%.*s'", (int)(dup->key.len < 64 ? dup->key.len : 64), dup->key.p);
    }
    if (code) return code;
    const member *e = find(r, "error", 5);
    if (e && !(e->raw.len == 4 && e->raw.p[0] == 'n')) take_error(r, e->raw); /* "error":null is none */
    return 0;
}

size_t mm_rec_count(const mm_rec *r) { return r->n; }

void mm_rec_member(const mm_rec *r, size_t i, mm_slice *key, mm_slice *raw)
{
    *key = r->m[i].key;
    *raw = r->m[i].raw;
}

int mm_rec_get(const mm_rec *r, const char *key, mm_slice *raw)
{
    const member *m = find(r, key, strlen(key));
    if (m) *raw = m->raw;
    return m != NULL;
}

int mm_rec_str(mm_rec *r, const char *key, mm_slice *out, mm_err *err)
{
    const member *m = find(r, key, strlen(key));
    if (!m) return 0;
    if (!m->raw.len || m->raw.p[0] != '"') return mm_fail(err, MM_EDATA, "'%s' is not a string", key);
    int code = decode(r, m->raw, out, err);
    if (code) return mm_err_prefix(err, "'%s': ", key), code;
    return 1;
}

int mm_rec_id(mm_rec *r, mm_slice *out, mm_err *err)
{
    if (!mm_rec_get(r, "id", out) || mm_slice_is(*out, "null")) return 0;
    if (out->len && (out->p[0] == '-' || (out->p[0] >= '0' && out->p[0] <= '9'))) return 1;
    if (!out->len || out->p[0] != '"') return mm_fail(err, MM_EDATA, "'id' is neither a string nor a number");
    return mm_rec_str(r, "id", out, err);
}

mm_slice mm_rec_name(mm_rec *r)
{
    mm_slice s;
    if (mm_rec_id(r, &s, NULL) > 0) return s;
    const char *place = mm_rec_place(r);
    return (mm_slice){ place, strlen(place) };
}

/* The member to be overwritten, or a new one. */
static member *place_for(mm_rec *r, const char *key)
{
    size_t len = strlen(key);
    member *m = find(r, key, len);
    if (m) return m;
    mm_buf b = { 0 };
    mm_json_quote(&b, key, len);
    const char *k = mm_arena_strndup(&r->a, key, len);
    const char *name = b.failed ? NULL : mm_arena_strndup(&r->a, b.p + 1, b.len - 2);
    if (k && name && (m = append(r))) {
        m->key = (mm_slice){ k, len };
        m->name = (mm_slice){ name, b.len - 2 };
    }
    mm_buf_clear(&b);
    return m;
}

int mm_rec_set(mm_rec *r, const char *key, const char *raw, size_t len)
{
    const char *p = mm_arena_strndup(&r->a, raw, len);
    member *m = p ? place_for(r, key) : NULL;
    if (!m) return MM_ENOMEM;
    m->raw = (mm_slice){ p, len };
    if (m == find_vec(r)) r->vec = VEC_RAW;
    return 0;
}

int mm_rec_set_str(mm_rec *r, const char *key, const char *s, size_t len)
{
    mm_buf b = { 0 };
    int code = mm_json_quote(&b, s, len);
    if (!code) code = mm_rec_set(r, key, b.p, b.len);
    mm_buf_clear(&b);
    return code;
}

int mm_rec_set_int(mm_rec *r, const char *key, int64_t v)
{
    char s[24];
    return mm_rec_set(r, key, s, (size_t)snprintf(s, sizeof s, "%lld", (long long)v));
}

/* Shortest of %.15g to %.17g that reads back to the same double. */
static int format_double(char out[32], double v)
{
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(out, 32, "%.*g", digits, v);
        double back;
        if (mm_parse_double(out, (size_t)n, &back) == (size_t)n && back == v) break;
    }
    return n;
}

int mm_rec_set_num(mm_rec *r, const char *key, double v)
{
    char s[32];
    if (!isfinite(v)) return mm_rec_set(r, key, "null", 4);
    return mm_rec_set(r, key, s, (size_t)format_double(s, v));
}

int mm_rec_set_float(mm_rec *r, const char *key, float v)
{
    char s[16];
    if (!isfinite(v)) return mm_rec_set(r, key, "null", 4);
    return mm_rec_set(r, key, s, mm_format_float(v, s));
}

int mm_rec_set_bool(mm_rec *r, const char *key, int v)
{
    return mm_rec_set(r, key, v ? "true" : "false", v ? 4 : 5);
}

void mm_rec_del(mm_rec *r, const char *key)
{
    member *m = find(r, key, strlen(key));
    if (!m) return;
    memmove(m, m + 1, (size_t)(r->m + r->n - m - 1) * sizeof *m);
    r->n--;
}

void rec_drop_vec(mm_rec *r) { mm_rec_del(r, VEC); }

/* ---- paths ---- */

int rec_set_path(mm_rec *r, const char *path, size_t len)
{
    if (mm_utf8_valid(path, len) == len)
        return mm_rec_set_str(r, "id", path, len) || mm_rec_set_str(r, "path", path, len) ? MM_ENOMEM : 0;
    /* JSON cannot hold the bytes. The id must tell names apart that look the same once repaired. */
    mm_buf b = { 0 };
    mm_buf_adds(&b, "b64:");
    mm_base64_encode(&b, path, len);
    int bad = b.failed || mm_rec_set_str(r, "id", b.p, b.len) || mm_rec_set_str(r, "path", path, len) ||
              mm_rec_set_str(r, "path_b64", b.p + 4, b.len - 4);
    mm_buf_clear(&b);
    return bad ? MM_ENOMEM : 0;
}

int rec_set_blob(mm_rec *r, const void *p, size_t len)
{
    free(r->blob);
    r->blob_len = 0;
    if (!(r->blob = malloc(len ? len : 1))) return MM_ENOMEM;
    memcpy(r->blob, p, len);
    r->blob_len = len;
    return 0;
}

int mm_rec_blob(const mm_rec *r, mm_slice *out)
{
    if (!r->blob) return 0;
    *out = (mm_slice){ r->blob, r->blob_len };
    return 1;
}

const char *mm_rec_path(mm_rec *r)
{
    mm_slice s;
    if (mm_rec_str(r, "path_b64", &s, NULL) > 0) {
        mm_buf b = { 0 };
        const char *p = NULL;
        if (!mm_base64_decode(&b, s.p, s.len) && b.len && !memchr(b.p, 0, b.len)) p = mm_arena_strndup(&r->a, b.p, b.len);
        mm_buf_clear(&b);
        return p;
    }
    if (mm_rec_str(r, "path", &s, NULL) <= 0 || !s.len || memchr(s.p, 0, s.len)) return NULL;
    return mm_arena_strndup(&r->a, s.p, s.len);
}

/* ---- the vector ---- */

static int room(void **p, size_t *cap, size_t bytes)
{
    if (bytes <= *cap) return 0;
    if (bytes < 2 * *cap) bytes = 2 * *cap;
    void *q = mm_aligned(bytes, 1);
    if (!q) return MM_ENOMEM;
    if (*cap) memcpy(q, *p, *cap);
    free(*p);
    *p = q;
    *cap = bytes;
    return 0;
}

static size_t size_of(int dtype)
{
    switch (dtype) {
    case MM_F32: return 4;
    case MM_F16: case MM_BF16: return 2;
    case MM_F64: return 8;
    case MM_I8: case MM_U8: return 1;
    default: return 0;
    }
}

static int too_wide(const mm_rec *r, mm_err *err)
{
    return mm_fail(err, MM_ESHAPE, "'embedding' has more than %zu elements", r->max_dim);
}

/* The raw value was validated when the record was parsed: only what a JSON value may not be here is looked for. */
static int decode_numbers(mm_rec *r, mm_slice raw, mm_err *err)
{
    const char *p = raw.p + 1, *end = raw.p + raw.len;
    size_t n = 0;
    for (;; p++) {
        while (*p == ' ' || *p == '\t' || *p == '\r') p++;
        if (n == 0 && *p == ']') return mm_fail(err, MM_EDATA, "'embedding' is empty");
        double v;
        size_t k = mm_parse_double(p, (size_t)(end - p), &v);
        if (!k)
            return *p == '[' ? mm_fail(err, MM_ESHAPE, "'embedding' is nested: one vector per record") :
                               mm_fail(err, MM_EDATA, "'embedding': element %zu is not a number", n);
        if (n == r->max_dim) return too_wide(r, err);
        if (4 * n + 4 > r->data_cap && room(&r->data, &r->data_cap, n ? 8 * n : 4096))
            return mm_fail(err, MM_ENOMEM, "out of memory");
        float f = (float)v;
        if (!isfinite(f))
            return mm_fail(err, MM_EDATA, "'embedding': element %zu (%.*s) is beyond float32", n, (int)(k < 40 ? k : 40), p);
        ((float *)r->data)[n++] = f;
        for (p += k; *p == ' ' || *p == '\t' || *p == '\r';) p++;
        if (*p == ']') break;
    }
    r->dtype = MM_F32;
    r->dim = n;
    r->vec = VEC_CHECKED;
    return 0;
}

static int all_finite(const mm_rec *r)
{
    /* an exponent of all ones is an infinity or NaN; no branch, so that the loop is vectorised */
    unsigned bad = 0;
    if (r->dtype == MM_F32) {
        const uint32_t *p = r->data;
        for (size_t i = 0; i < r->dim; i++) bad |= (p[i] & 0x7F800000u) == 0x7F800000u;
    } else if (r->dtype == MM_F16 || r->dtype == MM_BF16) {
        const uint16_t *p = r->data;
        unsigned m = r->dtype == MM_F16 ? 0x7C00 : 0x7F80;
        for (size_t i = 0; i < r->dim; i++) bad |= (p[i] & m) == m;
    } else if (r->dtype == MM_F64) {
        const double *p = r->data;
        for (size_t i = 0; i < r->dim; i++) bad |= !(fabs(p[i]) <= FLT_MAX);
    }
    return !bad;
}

static int decode_b64(mm_rec *r, mm_slice raw, int dtype, uint64_t dim, mm_err *err)
{
    mm_slice s;
    mm_buf b = { 0 };
    int code = decode(r, raw, &s, err);
    if (!code && s.len / 4 * 3 > r->max_dim * 8) return too_wide(r, err);
    if (!code) code = mm_base64_decode(&b, s.p, s.len);
    if (code == MM_EDATA) mm_fail(err, code, "'embedding' is not valid base64");
    size_t size = size_of(dtype);
    if (!code && dim && b.len != dim * size)
        code = mm_fail(err, MM_ESHAPE, "'embedding' has %zu bytes, its shape wants %llu", b.len,
                       (unsigned long long)(dim * size));
    if (!code && b.len == 0) code = mm_fail(err, MM_EDATA, "'embedding' is empty");
    if (!code && b.len % size)
        code = mm_fail(err, MM_ESHAPE, "'embedding': %zu bytes of base64 are no whole float32 values", b.len);
    if (!code && b.len / size > r->max_dim) code = too_wide(r, err);
    if (!code && room(&r->data, &r->data_cap, b.len)) code = MM_ENOMEM;
    if (!code) {
        memcpy(r->data, b.p, b.len);
        r->dtype = dtype;
        r->dim = b.len / size;
        r->vec = VEC_TYPED;
    }
    mm_buf_clear(&b);
    return code == MM_ENOMEM ? mm_fail(err, MM_ENOMEM, "out of memory") : code;
}

static int key_is(mm_slice k, const char *s) { return k.len == strlen(s) && !memcmp(k.p, s, k.len); }

/* {"dtype":"F16","shape":[d],"b64":"..."} */
static int decode_tensor(mm_rec *r, mm_slice raw, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val, type = { 0 }, shape = { 0 }, b64 = { 0 };
    int code = mm_json_begin(&it, raw.p, raw.len, err);
    while (!code && (code = mm_json_next(&it, &key, &val, err)) > 0) {
        mm_slice *to = key_is(key, "dtype") ? &type : key_is(key, "shape") ? &shape : key_is(key, "b64") ? &b64 : NULL;
        if (!to || to->p)
            return mm_fail(err, MM_EDATA, "'embedding': %s key '%.*s'", to ? "duplicate" : "unexpected",
                           (int)(key.len < 40 ? key.len : 40), key.p);
        *to = val;
        code = 0;
    }
    if (code < 0) return code;
    if (!type.p || !shape.p || !b64.p || type.p[0] != '"' || shape.p[0] != '[' || b64.p[0] != '"')
        return mm_fail(err, MM_EDATA, "'embedding': an object has \"dtype\", \"shape\" and \"b64\"");
    const mm_dtype_info *d = mm_dtype_find(type.p + 1, type.len - 2);
    if (!d || !size_of(d->type))
        return mm_fail(err, MM_EUNSUP, "'embedding': dtype %.*s is not supported", (int)(type.len < 40 ? type.len : 40), type.p);
    uint64_t dim = 0;
    const char *p = shape.p + 1;
    while (*p == ' ') p++;
    for (; *p >= '0' && *p <= '9' && dim <= r->max_dim; p++) dim = 10 * dim + (uint64_t)(*p - '0');
    while (*p == ' ') p++;
    if (dim > r->max_dim) return too_wide(r, err);
    if (*p != ']' || !dim) return mm_fail(err, MM_ESHAPE, "'embedding': the shape is not [dim]");
    return decode_b64(r, b64, d->type, dim, err);
}

static int decode_vec(mm_rec *r, mm_slice raw, mm_err *err)
{
    switch (raw.p[0]) {
    case '[': return decode_numbers(r, raw, err);
    case '"': return decode_b64(r, raw, MM_F32, 0, err);
    case '{': return decode_tensor(r, raw, err);
    case 'n': return mm_fail(err, MM_EDATA, "'embedding' is null");
    default: return mm_fail(err, MM_EDATA, "'embedding' is not a vector");
    }
}

int mm_rec_tensor(mm_rec *r, int *dtype, const void **data, size_t *dim, mm_err *err)
{
    const member *m = find_vec(r);
    if (!m) return 0;
    int code;
    if (r->vec == VEC_RAW) {
        r->wide_ok = 0;
        if ((code = decode_vec(r, m->raw, err))) return code;
    }
    if (r->vec == VEC_TYPED) {
        if (!all_finite(r)) return mm_fail(err, MM_EDATA, "'embedding' holds NaN, an infinity, or a value beyond float32");
        r->vec = VEC_CHECKED;
    }
    *dtype = r->dtype;
    *data = r->data;
    *dim = r->dim;
    return 1;
}

int mm_rec_vec(mm_rec *r, const float **v, size_t *dim, mm_err *err)
{
    int dtype, code;
    const void *data;
    if ((code = mm_rec_tensor(r, &dtype, &data, dim, err)) <= 0) return code;
    if (dtype == MM_F32) return *v = data, 1;
    if (!r->wide_ok) {
        void *w = r->wide;
        if (room(&w, &r->wide_cap, r->dim * sizeof(float))) return mm_fail(err, MM_ENOMEM, "out of memory");
        float *f = r->wide = w;
        for (size_t i = 0; i < r->dim; i++)
            switch (dtype) {
            case MM_F16: f[i] = mm_f16_to_f32(((const uint16_t *)data)[i]); break;
            case MM_BF16: f[i] = mm_bf16_to_f32(((const uint16_t *)data)[i]); break;
            case MM_F64: f[i] = (float)((const double *)data)[i]; break;
            case MM_I8: f[i] = ((const int8_t *)data)[i]; break;
            default: f[i] = ((const uint8_t *)data)[i]; break;
            }
        r->wide_ok = 1;
    }
    *v = r->wide;
    return 1;
}

int mm_rec_set_vec(mm_rec *r, int dtype, const void *data, size_t dim)
{
    size_t bytes = size_of(dtype) * dim;
    member *m;
    if (room(&r->data, &r->data_cap, bytes) || !(m = place_for(r, VEC))) return MM_ENOMEM;
    m->raw = (mm_slice){ 0 };
    memcpy(r->data, data, bytes);
    r->dtype = dtype;
    r->dim = dim;
    r->vec = VEC_TYPED;
    r->wide_ok = 0;
    return 0;
}

int rec_row(const mm_rec *r, uint64_t *row)
{
    const member *m = find_vec(r);
    uint64_t v = 0;
    if (!m || !m->raw.len || m->raw.len > 18) return 0;
    for (size_t i = 0; i < m->raw.len; i++) {
        if (m->raw.p[i] < '0' || m->raw.p[i] > '9') return 0;
        v = 10 * v + (uint64_t)(m->raw.p[i] - '0');
    }
    *row = v;
    return 1;
}

/* ---- errors ---- */

int mm_rec_failed(const mm_rec *r) { return r->code; }
int mm_rec_failed_before(const mm_rec *r) { return r->before; }
const char *mm_rec_message(const mm_rec *r) { return r->msg; }

int mm_rec_fail(mm_rec *r, int code, const char *fmt, ...)
{
    mm_err e = { .code = code };
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e.msg, sizeof e.msg, fmt, ap);
    va_end(ap);
    rec_drop_vec(r);
    if (r->code) return code;
    r->code = code;
    if (n < 0) e.msg[0] = 0;
    const char *msg = mm_arena_strndup(&r->a, e.msg, strlen(e.msg));
    if (msg) r->msg = msg;
    mm_slice id;
    mm_buf b = { 0 };
    if (r->file && (!mm_rec_get(r, "id", &id) || !id.len || id.p[0] != '"')) mm_err_prefix(&e, "%s: ", mm_rec_place(r));
    mm_buf_addf(&b, "{\"code\":\"%s\",\"message\":", mm_err_name(code));
    mm_json_quote(&b, e.msg, strlen(e.msg));
    mm_buf_addc(&b, '}');
    /* out of memory here: the record still counts as failed, and its output would fail as well */
    if (!b.failed) mm_rec_set(r, "error", b.p, b.len);
    mm_buf_clear(&b);
    return code;
}

/* ---- writing ---- */

static void add_numbers(mm_rec *r, mm_buf *out)
{
    char s[32];
    const float *v;
    size_t dim;
    /* 24: the longest double; checked once instead of per number */
    if (mm_rec_vec(r, &v, &dim, NULL) <= 0 || mm_buf_reserve(out, dim * (r->dtype == MM_F64 ? 26 : 17) + 2)) {
        out->failed = 1;
        return;
    }
    char *p = out->p + out->len;
    *p++ = '[';
    for (size_t i = 0; i < dim; i++) {
        if (i) *p++ = ',';
        if (r->dtype == MM_F64) {
            int n = format_double(s, ((const double *)r->data)[i]);
            memcpy(p, s, (size_t)n);
            p += n;
        } else {
            p += mm_format_float(v[i], p);
        }
    }
    *p++ = ']';
    *p = 0;
    out->len = (size_t)(p - out->p);
}

static void add_b64(mm_rec *r, mm_buf *out)
{
    if (r->dtype != MM_F32)
        mm_buf_addf(out, "{\"dtype\":\"%s\",\"shape\":[%zu],\"b64\":", mm_dtype_get(r->dtype)->st_name, r->dim);
    mm_buf_addc(out, '"');
    mm_base64_encode(out, r->data, r->dim * size_of(r->dtype));
    mm_buf_addc(out, '"');
    if (r->dtype != MM_F32) mm_buf_addc(out, '}');
}

enum { ENC_ROW = 100 };

static int rec_json(mm_rec *r, int encoding, size_t row, mm_buf *out, mm_err *err)
{
    size_t start = out->len;
    const member *vec = find_vec(r);
    if (vec && encoding != MM_ENC_NONE && encoding != ENC_ROW && !(r->before && vec->raw.len)) {
        int dtype, code;
        const void *data;
        size_t dim;
        if ((code = mm_rec_tensor(r, &dtype, &data, &dim, err)) < 0) return code;
    }
    char sep = '{';
    for (const member *m = r->m; m < r->m + r->n; m++) {
        if (m == vec && encoding == MM_ENC_NONE) continue;
        mm_buf_reserve(out, m->name.len + m->raw.len + 8);
        mm_buf_addc(out, sep);
        sep = ',';
        mm_buf_addc(out, '"');
        mm_buf_add(out, m->name.p, m->name.len);
        mm_buf_add(out, "\":", 2);
        if (m != vec) mm_buf_add(out, m->raw.p, m->raw.len);
        else if (encoding == ENC_ROW) mm_buf_addf(out, "%zu", row);
        else if (m->raw.len && (r->before || (m->raw.p[0] == '[') == (encoding == MM_ENC_NUMBERS)))
            mm_buf_add(out, m->raw.p, m->raw.len); /* as it was written */
        else if (encoding == MM_ENC_NUMBERS) add_numbers(r, out);
        else add_b64(r, out);
    }
    if (sep == '{') mm_buf_addc(out, '{');
    mm_buf_addc(out, '}');
    if (out->failed) {
        out->len = start;
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    return 0;
}

int mm_rec_json(mm_rec *r, int encoding, mm_buf *out, mm_err *err) { return rec_json(r, encoding, 0, out, err); }
int rec_json_row(mm_rec *r, size_t row, mm_buf *out, mm_err *err) { return rec_json(r, ENC_ROW, row, out, err); }

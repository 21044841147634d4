/* Reader of one safetensors image: u64 length, JSON header, data. The rules are those of the published
 * format, enforced as the reference reader does: offsets cover the data without hole, overlap or rest, and
 * equal shape times element size. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "store/store_int.h"

/* What people have under this name by mistake deserves to be called by its own. */
static const char *not_safetensors(const uint8_t *p, size_t len)
{
    static const struct {
        const char *magic;
        size_t len;
        const char *what;
    } known[] = {
        { "version https://git-lfs", 23,
          "a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'" },
        { "PK\x03\x04", 4, "a zip archive (a PyTorch checkpoint?), not safetensors" },
        { "\x80\x02", 2, "a Python pickle, not safetensors" },
        { "\x80\x03", 2, "a Python pickle, not safetensors" },
        { "\x80\x04", 2, "a Python pickle, not safetensors" },
        { "\x80\x05", 2, "a Python pickle, not safetensors" },
        { "<!DOCTYPE", 9, "an HTML page, not safetensors" },
        { "<html", 5, "an HTML page, not safetensors" },
    };
    if (len > 8 && p[8] == '{' && le64(p) <= len - 8)
        return NULL; /* a header of 640 bytes begins as a pickle does */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (len >= known[i].len && !memcmp(p, known[i].magic, known[i].len)) return known[i].what;
    return NULL;
}

static int shape(mm_store_tensor *t, mm_slice v, size_t *count, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    int r;
    size_t span = 1; /* the product without zeros: no later sum over the shape may overflow either */
    *count = 1;
    if (v.p[0] != '[' || mm_json_begin(&it, v.p, v.len, err))
        return mm_fail(err, MM_EDATA, "shape should be a list");
    while ((r = mm_json_next(&it, &key, &val, err)) > 0) {
        uint64_t d = 0;
        if (t->ndim == MM_STORE_NDIM) return mm_fail(err, MM_EDATA, "more than %d dimensions", MM_STORE_NDIM);
        for (size_t i = 0; i < val.len; i++) {
            if (val.p[i] < '0' || val.p[i] > '9' || d > (uint64_t)INT64_MAX / 10 - 1)
                return mm_fail(err, MM_EDATA, "dimension '%.*s' should be a whole number",
                               (int)(val.len < 30 ? val.len : 30), val.p);
            d = d * 10 + (uint64_t)(val.p[i] - '0');
        }
        t->shape[t->ndim++] = (int64_t)d;
        *count *= (size_t)d; /* not above span */
        if (d && mm_mul(span, (size_t)d, &span))
            return mm_fail(err, MM_EDATA, "shape is larger than memory can be");
    }
    return r;
}

static int offset(mm_slice v, uint64_t out[2], mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    int r, n = 0;
    if (v.p[0] != '[' || mm_json_begin(&it, v.p, v.len, err))
        return mm_fail(err, MM_EDATA, "data_offsets should be a list");
    while ((r = mm_json_next(&it, &key, &val, err)) > 0) {
        uint64_t d = 0;
        if (n == 2) return mm_fail(err, MM_EDATA, "data_offsets should be two numbers");
        for (size_t i = 0; i < val.len; i++) {
            if (val.p[i] < '0' || val.p[i] > '9' || d > UINT64_MAX / 10 - 1)
                return mm_fail(err, MM_EDATA, "data_offsets should be two whole numbers");
            d = d * 10 + (uint64_t)(val.p[i] - '0');
        }
        out[n++] = d;
    }
    if (!r && n != 2) r = mm_fail(err, MM_EDATA, "data_offsets should be two numbers");
    return r;
}

static int tensor(mm_store_tensor *t, mm_slice v, const uint8_t *data, size_t data_len, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    int r, seen = 0;
    size_t count = 0;
    uint64_t off[2] = { 0, 0 };
    if (v.p[0] != '{' || mm_json_begin(&it, v.p, v.len, err))
        return mm_fail(err, MM_EDATA, "should be an object");
    while ((r = mm_json_next(&it, &key, &val, err)) > 0) {
        int bit;
        if (key.len == 5 && !memcmp(key.p, "dtype", 5)) {
            bit = 1;
            const mm_dtype_info *d =
                val.p[0] == '"' && val.len > 2 ? mm_dtype_find(val.p + 1, val.len - 2) : NULL;
            if (!d || !d->st_name || d->st_name[0] != val.p[1])
                return mm_fail(err, MM_EDATA, "unknown dtype %.*s", (int)(val.len < 30 ? val.len : 30),
                               val.p);
            t->type = (int)d->type;
        } else if (key.len == 5 && !memcmp(key.p, "shape", 5)) {
            bit = 2;
            if ((r = shape(t, val, &count, err))) return r;
        } else if (key.len == 12 && !memcmp(key.p, "data_offsets", 12)) {
            bit = 4;
            if ((r = offset(val, off, err))) return r;
        } else {
            continue;
        }
        if (seen & bit) return mm_fail(err, MM_EDATA, "'%.*s' is given twice", (int)key.len, key.p);
        seen |= bit;
    }
    if (r) return r;
    if (seen != 7) return mm_fail(err, MM_EDATA, "dtype, shape or data_offsets is missing");
    if (off[0] > off[1] || off[1] > data_len)
        return mm_fail(err, MM_EDATA, "data_offsets %llu to %llu do not lie in the %zu bytes of data",
                       (unsigned long long)off[0], (unsigned long long)off[1], data_len);
    if (mm_dtype_bytes(t->type, count, &t->bytes))
        return mm_fail(err, MM_EDATA, "shape is larger than memory can be");
    if (t->bytes != off[1] - off[0])
        return mm_fail(err, MM_EDATA, "shape needs %zu bytes, data_offsets give %llu", t->bytes,
                       (unsigned long long)(off[1] - off[0]));
    t->data = data + off[0];
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const mm_store_tensor *x = *(const mm_store_tensor *const *)a, *y = *(const mm_store_tensor *const *)b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int coverage(const mm_store *st, size_t first, const uint8_t *data, size_t data_len, mm_err *err)
{
    size_t n = st->n - first, at = 0;
    const mm_store_tensor **v = malloc((n + 1) * sizeof *v);
    if (!v) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) v[i] = &st->t[first + i];
    qsort(v, n, sizeof *v, by_data);
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        size_t off = (size_t)((const uint8_t *)v[i]->data - data);
        if (off != at)
            r = mm_fail(err, MM_EDATA, "tensor '%s' %s", v[i]->name,
                        off > at ? "leaves a hole in front of its data" : "overlaps another tensor's data");
        at = off + v[i]->bytes;
    }
    free(v);
    if (!r && at != data_len) r = mm_fail(err, MM_EDATA, "%zu bytes follow the last tensor", data_len - at);
    return r;
}

int mm_st_parse(mm_store *st, const char *name, const uint8_t *p, size_t len, uint32_t part, mm_err *err)
{
    const char *what = not_safetensors(p, len);
    if (what) return mm_fail(err, MM_EDATA, "'%s' is %s", name, what);
    if (len < 8)
        return mm_fail(err, MM_EDATA,
                       "'%s' is neither a safetensors nor a GGUF file: %zu bytes, the header's length alone takes 8", name,
                       len);
    uint64_t h = le64(p);
    if (h > MM_STORE_HEADER)
        return mm_fail(err, MM_EDATA, "'%s' is neither a safetensors nor a GGUF file: header of %llu bytes (limit %zu)", name,
                       (unsigned long long)h, MM_STORE_HEADER);
    if (h > len - 8)
        return mm_fail(err, MM_ETRUNC, "'%s' is cut: header of %llu bytes, the file has %zu", name,
                       (unsigned long long)h, len);
    const char *json = (const char *)p + 8;
    if (h == 0 || json[0] != '{')
        return mm_fail(err, MM_EDATA, "'%s' is neither a safetensors nor a GGUF file: header is no JSON object", name);
    const uint8_t *data = p + 8 + h;
    size_t data_len = len - 8 - (size_t)h, first = st->n;
    mm_json_iter it;
    mm_slice key, val;
    mm_buf b = { 0 };
    int r = mm_json_begin(&it, json, (size_t)h, err), more = 0, metadata = 0;
    while (!r && (more = mm_json_next(&it, &key, &val, err)) > 0) {
        mm_buf_reset(&b);
        if ((r = mm_json_unescape(&b, (mm_slice){ key.p - 1, key.len + 2 }, err))) break;
        if (!strcmp(b.p, "__metadata__") && b.len == 12) {
            if (metadata++) {
                r = mm_fail(err, MM_EDATA, "'__metadata__' is given twice");
                break;
            }
            json_t *m = mm_json_load(val.p, val.len, "__metadata__", err);
            const char *k;
            json_t *v;
            if (!m) r = MM_EDATA;
            json_object_foreach(m, k, v)
                if (!json_is_string(v)) r = mm_fail(err, MM_EDATA, "__metadata__ '%s' should be a string", k);
            if (!r && !json_is_object(m)) r = mm_fail(err, MM_EDATA, "__metadata__ should be an object");
            if (!r && !st->meta) st->meta = json_incref(m);
            json_decref(m);
            continue;
        }
        mm_store_tensor t = { .part = part };
        if (strlen(b.p) != b.len) r = mm_fail(err, MM_EDATA, "a tensor's name contains a NUL");
        else if ((r = tensor(&t, val, data, data_len, err))) mm_err_prefix(err, "tensor '%.200s': ", b.p);
        else r = mm_store_add(st, &t, b.p, b.len, err);
    }
    if (!r) r = more;
    if (!r) r = mm_store_index(st, err); /* duplicates first: they would show as an overlap otherwise */
    if (!r) r = coverage(st, first, data, data_len, err);
    mm_buf_clear(&b);
    if (r) mm_err_prefix(err, "'%s': ", name);
    return r;
}

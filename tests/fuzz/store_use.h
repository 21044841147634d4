/* store_use.h - what the fuzz targets of model files do with a store that opened: read every byte and ask every question. */
#ifndef STORE_USE_H
#define STORE_USE_H
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "store/mm_store.h"

static const char *shorten(const char *name, char buf[128], void *arg)
{
    (void)arg;
    size_t n = strlen(name);
    if (n < 2) return NULL;
    if (n > 127) n = 127;
    memcpy(buf, name, n - 1);
    buf[n - 1] = 0;
    return buf;
}

static void use(mm_store *st)
{
    const char *key, *type, *s;
    const mm_slice *ss;
    const int32_t *ii;
    const float *ff;
    mm_buf b = { 0 };
    mm_err err;
    size_t n;
    int64_t i64;
    double d;
    int bit;
    volatile unsigned sum = 0; /* what is read must be read */
    for (size_t i = 0; i < mm_store_count(st); i++) {
        const mm_store_tensor *t = mm_store_at(st, i);
        size_t count = 1, bytes;
        if (mm_store_find(st, t->name) != t || t->ndim > MM_STORE_NDIM) abort();
        for (int k = 0; k < t->ndim; k++)
            if (t->shape[k] < 0 || mm_mul(count, (size_t)t->shape[k], &count)) abort();
        if (mm_dtype_bytes(t->type, count, &bytes) || bytes != t->bytes) abort();
        for (size_t k = 0; k < t->bytes; k++) sum += ((const uint8_t *)t->data)[k];
    }
    for (size_t i = 0; (key = mm_store_kv_at(st, i, &type, &b)); i++) {
        mm_slice val;
        if (mm_json_value(b.p, b.len, &val, &err) != (long)b.len) abort(); /* valid JSON, whatever the file says */
        mm_buf_reset(&b);
        if (!mm_store_kv_int(st, key, INT64_MIN, INT64_MAX, 0, &i64, &err)) sum += (unsigned)i64;
        if (!mm_store_kv_num(st, key, 0, &d, &err)) sum += d > 0;
        if (!mm_store_kv_bool(st, key, 0, &bit, &err)) sum += (unsigned)bit;
        if (!mm_store_kv_str(st, key, "", &s, &err)) sum += (unsigned)strlen(s);
        if (!mm_store_kv_strs(st, key, &ss, &n, &err))
            for (size_t k = 0; k < n; k++) sum += ss[k].len ? (unsigned)ss[k].p[ss[k].len - 1] : 0;
        if (!mm_store_kv_ints(st, key, &ii, &n, &err))
            for (size_t k = 0; k < n; k++) sum += (unsigned)ii[k];
        if (!mm_store_kv_nums(st, key, &ff, &n, &err))
            for (size_t k = 0; k < n; k++) sum += ff[k] > 0;
    }
    (void)sum;
    mm_buf_clear(&b);
    if (!mm_store_rename(st, shorten, NULL, &err) && mm_store_count(st) && !mm_store_find(st, mm_store_at(st, 0)->name)) abort();
}
#endif

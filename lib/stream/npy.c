/* Reading .npy arrays, also several back to back and from pipes (format: NEP 1, numpy/lib/format.py). */
#include <stdio.h>
#include <string.h>
#include "stream/stream_int.h"

static const struct { const char *descr; int dtype; } types[] = {
    { "<f4", MM_F32 }, { "<f2", MM_F16 }, { "<f8", MM_F64 }, { "|i1", MM_I8 }, { "|u1", MM_U8 },
};

static const char *skip(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == ',')) p++;
    return p;
}

/* A quoted Python string without escapes; NULL if there is none. */
static const char *quoted(const char *p, const char *end, mm_slice *s)
{
    if (p == end || (*p != '\'' && *p != '"')) return NULL;
    const char *q = memchr(p + 1, *p, (size_t)(end - p - 1));
    if (!q) return NULL;
    *s = (mm_slice){ p + 1, (size_t)(q - p - 1) };
    return q + 1;
}

/* The header is a Python dictionary literal with the keys descr, fortran_order and shape. */
static int parse_dict(npy *y, const char *p, size_t len, uint64_t shape[MM_MAX_NDIM], int *ndim, mm_err *err)
{
    const char *end = p + len;
    int have = 0, fortran = 0;
    p = skip(p, end);
    if (p == end || *p++ != '{') return mm_fail(err, MM_EDATA, "bad npy header");
    for (;;) {
        mm_slice key, val;
        p = skip(p, end);
        if (p < end && *p == '}') break;
        if (!(p = quoted(p, end, &key))) return mm_fail(err, MM_EDATA, "bad npy header");
        p = skip(p, end);
        if (p == end || *p++ != ':') return mm_fail(err, MM_EDATA, "bad npy header");
        p = skip(p, end);
        int bit = mm_slice_is(key, "descr") ? 1 : mm_slice_is(key, "fortran_order") ? 2 : mm_slice_is(key, "shape") ? 4 : 0;
        if (!bit || have & bit) return mm_fail(err, MM_EDATA, "npy header: unexpected key");
        have |= bit;
        if (bit == 1) {
            if (p < end && *p == '[') return mm_fail(err, MM_EUNSUP, "npy: structured arrays are not supported");
            if (!(p = quoted(p, end, &val))) return mm_fail(err, MM_EDATA, "bad npy header");
            y->dtype = -1;
            for (size_t i = 0; i < sizeof types / sizeof *types; i++)
                if (mm_slice_is(val, types[i].descr)) y->dtype = types[i].dtype;
            if (y->dtype < 0)
                return mm_fail(err, MM_EUNSUP, "npy: element type '%.*s' is not one of <f4 <f2 <f8 |i1 |u1",
                               (int)(val.len < 20 ? val.len : 20), val.p);
        } else if (bit == 2) {
            fortran = end - p >= 4 && !memcmp(p, "True", 4);
            if (!fortran && !(end - p >= 5 && !memcmp(p, "False", 5))) return mm_fail(err, MM_EDATA, "bad npy header");
            p += fortran ? 4 : 5;
        } else {
            if (p == end || *p++ != '(') return mm_fail(err, MM_EDATA, "npy header: bad shape");
            for (*ndim = 0; (p = skip(p, end)) < end && *p != ')'; ++*ndim) {
                uint64_t v = 0;
                const char *q = p;
                if (*ndim == MM_MAX_NDIM) return mm_fail(err, MM_ESHAPE, "npy: more than %d dimensions", MM_MAX_NDIM);
                while (p < end && *p >= '0' && *p <= '9' && p - q < 18) v = 10 * v + (uint64_t)(*p++ - '0');
                if (p == q || p - q == 18) return mm_fail(err, MM_EDATA, "npy header: bad shape");
                if (p < end && *p == 'L') p++; /* as Python 2 wrote long integers */
                shape[*ndim] = v;
            }
            if (p == end) return mm_fail(err, MM_EDATA, "npy header: bad shape");
            p++;
        }
    }
    if (have != 7) return mm_fail(err, MM_EDATA, "npy header: descr, fortran_order or shape missing");
    if (fortran && *ndim > 1) return mm_fail(err, MM_EUNSUP, "npy: Fortran order is not supported (numpy.ascontiguousarray)");
    return 0;
}

static int use_header(mm_reader *r, const char *p, size_t len, mm_err *err)
{
    npy *y = &r->y;
    uint64_t shape[MM_MAX_NDIM];
    int ndim = 0, code = parse_dict(y, p, len, shape, &ndim, err);
    if (code) return code;
    if (ndim != 1 && ndim != 2) return mm_fail(err, MM_ESHAPE, "npy: the array is not [n, dim] or [dim]");
    uint64_t n = ndim == 2 ? shape[0] : 1, d = shape[ndim - 1];
    if (n && !d) return mm_fail(err, MM_ESHAPE, "npy: vectors of dimension 0");
    if (d > r->o.max_dim) return mm_fail(err, MM_ESHAPE, "npy: vectors of more than %zu elements", r->o.max_dim);
    y->dim = (size_t)d;
    y->row_bytes = y->dim * mm_dtype_get(y->dtype)->bytes;
    y->rows = n;
    y->row = 0;
    y->in = y->any = 1;
    return 0;
}

static int begin_array(mm_reader *r, int nowait, mm_err *err)
{
    int s = reader_want(r, 12, nowait, err);
    size_t have = r->end - r->start, len;
    if (s == S_END && have == 0 && r->y.any) return S_END;
    if (s == S_END && have < 6) return mm_fail(err, MM_ETRUNC, "%s: cut off in an npy header", r->name);
    if (s < 0 || s == S_BLOCK) return s;
    const unsigned char *p = (const unsigned char *)r->buf + r->start;
    if (memcmp(p, "\x93NUMPY", 6))
        return mm_fail(err, MM_EDATA, "%s: no npy array%s", r->name, r->line ? " where the one before ends" : "");
    if (s == S_END) return mm_fail(err, MM_ETRUNC, "%s: cut off in an npy header", r->name);
    if (p[6] < 1 || p[6] > 3) return mm_fail(err, MM_EUNSUP, "%s: npy version %d.%d", r->name, p[6], p[7]);
    size_t at = p[6] == 1 ? 10 : 12;
    len = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1) len |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (len > r->o.max_header)
        return mm_fail(err, MM_EDATA, "%s: npy header of %zu bytes (limit %zu)", r->name, len, r->o.max_header);
    s = reader_want(r, at + len, nowait, err);
    if (s == S_END) return mm_fail(err, MM_ETRUNC, "%s: cut off in an npy header", r->name);
    if (s != S_READY) return s;
    int code = use_header(r, r->buf + r->start + at, len, err);
    if (code) return mm_err_prefix(err, "%s: ", r->name), code;
    r->start += at + len;
    return S_READY;
}

int npy_prepare(mm_reader *r, int nowait, mm_err *err)
{
    npy *y = &r->y;
    for (;;) {
        int s;
        if (!y->in) {
            if ((s = begin_array(r, nowait, err)) != S_READY) return s;
        } else if (y->row == y->rows) {
            y->in = 0;
        } else {
            s = reader_want(r, y->row_bytes, nowait, err);
            if (s == S_END)
                return mm_fail(err, MM_ETRUNC, "%s: cut off after row %llu of %llu", r->name, (unsigned long long)y->row,
                               (unsigned long long)y->rows);
            return s;
        }
    }
}

int npy_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    r->line++;
    rec_place(rec, r->name, r->line, r->o.max_dim);
    int code = mm_rec_set_vec(rec, r->y.dtype, r->buf + r->start, r->y.dim);
    r->start += r->y.row_bytes;
    r->scan = r->start;
    r->y.row++;
    return code ? mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name) : 0;
}

/* Reading one npy array (NumPy's format description, versions 1 to 3): C order, [n, d] or [d]. */
#include <stdio.h>
#include <string.h>
#include "stream/stream_int.h"

static int bad(mm_reader *r, int code, const char *what, mm_err *err) { return mm_fail(err, code, "%s: npy: %s", r->name, what); }

/* The value of a key in the header, a Python dictionary literal: what follows "'key':" without blanks. */
static const char *value(const char *h, const char *end, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = h; p + n + 2 < end; p++) {
        if (p[0] != '\'' || strncmp(p + 1, key, n) || p[n + 1] != '\'') continue;
        for (p += n + 2; p < end && (*p == ' ' || *p == ':'); p++) {}
        return p < end ? p : NULL;
    }
    return NULL;
}

static int header(mm_reader *r, const char *h, size_t len, mm_err *err)
{
    static const struct { const char *descr; int type, bytes; } types[] = { { "'<f4'", MM_F32, 4 }, { "'<f2'", MM_F16, 2 },
        { "'<f8'", MM_F64, 8 }, { "'|i1'", MM_I8, 1 }, { "'|u1'", MM_U8, 1 } };
    const char *end = h + len, *descr = value(h, end, "descr"), *order = value(h, end, "fortran_order"), *shape = value(h, end, "shape");
    if (!descr || !order || !shape || *shape != '(') return bad(r, MM_EDATA, "the header lacks descr, fortran_order or shape", err);
    size_t t = 0, n = sizeof types / sizeof *types;
    while (t < n && (end - descr < 5 || memcmp(descr, types[t].descr, 5))) t++;
    if (t == n) return bad(r, MM_EUNSUP, "only little-endian float and 8-bit arrays are taken", err);
    if (end - order < 5 || memcmp(order, "False", 5)) return bad(r, MM_EUNSUP, "Fortran order is not taken", err);
    uint64_t dims[2] = { 0, 0 };
    int nd = 0;
    const char *p = shape + 1;
    for (;;) {
        while (p < end && (*p == ' ' || *p == ',')) p++;
        if (p == end) return bad(r, MM_EDATA, "the shape has no end", err);
        if (*p == ')') break;
        if (nd == 2) return bad(r, MM_ESHAPE, "more than two dimensions", err);
        uint64_t d = 0;
        const char *first = p;
        for (; p < end && *p >= '0' && *p <= '9' && d < (uint64_t)1 << 56; p++) d = d * 10 + (uint64_t)(*p - '0');
        if (p == first) return bad(r, MM_EDATA, "the shape is no list of numbers", err);
        dims[nd++] = d;
    }
    if (nd == 0) return bad(r, MM_ESHAPE, "a single number is no vector", err);
    npy *y = &r->y;
    y->rows = nd == 2 ? dims[0] : 1;
    y->dim = (size_t)(nd == 2 ? dims[1] : dims[0]);
    if ((!y->dim && y->rows) || y->dim > r->o.max_dim) return bad(r, MM_ESHAPE, "dimensions are 0 or over the limit", err);
    y->dtype = types[t].type;
    y->row_bytes = y->dim * (size_t)types[t].bytes;
    y->row = 0;
    y->in = 1;
    return 0;
}

static int begin(mm_reader *r, int nowait, mm_err *err)
{
    int s = reader_want(r, 12, nowait, err);
    if (s == S_END) return r->end == r->start ? S_END : bad(r, MM_ETRUNC, "the header is cut", err);
    if (s != S_READY) return s;
    const unsigned char *p = (const unsigned char *)r->buf + r->start;
    int wide = p[6] >= 2;
    uint32_t n = p[8] | (uint32_t)p[9] << 8 | (wide ? (uint32_t)p[10] << 16 | (uint32_t)p[11] << 24 : 0);
    if (memcmp(p, "\x93NUMPY", 6) || p[6] < 1 || p[6] > 3) return bad(r, MM_EUNSUP, "the version is not 1, 2 or 3", err);
    if (n > r->o.max_header) return bad(r, MM_EDATA, "the header is larger than the limit", err);
    size_t pre = wide ? 12 : 10;
    if ((s = reader_want(r, pre + n, nowait, err)) == S_END) return bad(r, MM_ETRUNC, "the header is cut", err);
    if (s != S_READY) return s;
    s = header(r, r->buf + r->start + pre, n, err);
    r->start += pre + n;
    r->scan = r->start;
    return s ? s : S_READY;
}

int npy_prepare(mm_reader *r, int nowait, mm_err *err)
{
    npy *y = &r->y;
    int s;
    for (;;) {
        if (!y->in && (s = begin(r, nowait, err)) != S_READY) return s;
        if (y->row == y->rows) { /* another array may follow, as numpy.load reads them from a file */
            y->in = 0;
            continue;
        }
        s = reader_want(r, y->row_bytes, nowait, err);
        return s == S_END ? bad(r, MM_ETRUNC, "the data is cut", err) : s;
    }
}

int npy_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    npy *y = &r->y;
    rec_place(rec, r->name, ++r->line, r->o.max_dim);
    if (mm_rec_set_vec(rec, y->dtype, r->buf + r->start, y->dim)) return mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name);
    r->start += y->row_bytes;
    r->scan = r->start;
    y->row++;
    return 0;
}

/* Reading frames: safetensors blobs behind each other, the records in __metadata__, a last one without tensors that counts them.
 * Nothing of a frame is held but its header: rows are taken from the stream in the order of the records. */
#include <stdio.h>
#include <string.h>
#include "stream/stream_int.h"

static int bad(mm_reader *r, int code, const char *what, mm_err *err)
{
    return mm_fail(err, code, "%s: frame %llu: %s", r->name, (unsigned long long)r->f.since + 1, what);
}

static int is(mm_slice k, const char *s) { return k.len == strlen(s) && !memcmp(k.p, s, k.len); }

static int whole(mm_slice v, uint64_t *out)
{
    uint64_t n = 0;
    if (!v.len || v.len > 18) return -1;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') return -1;
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    *out = n;
    return 0;
}

/* "__metadata__": what this stream uses of it. eos: the count of an end marker, UINT64_MAX for none. */
static int metadata(mm_reader *r, mm_slice v, uint64_t *eos, int *ours, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    int s;
    if (v.p[0] != '{' || mm_json_begin(&it, v.p, v.len, NULL)) return bad(r, MM_EDATA, "__metadata__ is no object", err);
    while ((s = mm_json_next(&it, &key, &val, NULL)) > 0) {
        if (val.p[0] != '"') return bad(r, MM_EDATA, "__metadata__ holds something that is no string", err);
        mm_slice inside = { val.p + 1, val.len - 2 };
        if (is(key, "mm.stream")) {
            if (!is(inside, "1")) return bad(r, MM_EUNSUP, "stream format is not 1", err);
            *ours = 1;
        } else if (is(key, "mm.eos")) {
            if (whole(inside, eos)) return bad(r, MM_EDATA, "mm.eos is no number", err);
            *ours = 1;
        } else if (is(key, "mm.records")) {
            mm_buf_reset(&r->f.recs);
            if (mm_json_unescape(&r->f.recs, val, err)) return bad(r, MM_EDATA, "mm.records is no text", err);
            r->f.has_recs = 1;
        } else if (is(key, "mm.prog") && !r->f.prog.len) {
            if (mm_json_unescape(&r->f.prog, val, err)) return bad(r, MM_EDATA, "mm.prog is no text", err);
        }
    }
    return s < 0 ? bad(r, MM_EDATA, "__metadata__ is damaged", err) : 0;
}

/* A list of at most two whole numbers; how many, or -1. */
static int numbers(mm_slice v, uint64_t out[2])
{
    mm_json_iter it;
    mm_slice key, val;
    int n = 0, s;
    if (v.p[0] != '[' || mm_json_begin(&it, v.p, v.len, NULL)) return -1;
    while ((s = mm_json_next(&it, &key, &val, NULL)) > 0)
        if (n == 2 || whole(val, &out[n++])) return -1;
    return s < 0 ? -1 : n;
}

/* The one tensor of a frame: [n, d] or [d]. */
static int tensor(mm_reader *r, mm_slice v, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    uint64_t shape[2] = { 0, 0 }, off[2] = { 1, 0 };
    const mm_dtype_info *t = NULL;
    int s, nd = -1;
    if (v.p[0] != '{' || mm_json_begin(&it, v.p, v.len, NULL)) return bad(r, MM_EDATA, "a tensor is no object", err);
    while ((s = mm_json_next(&it, &key, &val, NULL)) > 0) {
        if (is(key, "dtype")) t = val.p[0] == '"' ? mm_dtype_find(val.p + 1, val.len - 2) : NULL;
        else if (is(key, "shape")) nd = numbers(val, shape);
        else if (is(key, "data_offsets") && numbers(val, off) != 2) return bad(r, MM_EDATA, "data_offsets of the tensor", err);
    }
    if (s < 0 || nd < 1) return bad(r, nd < 1 ? MM_ESHAPE : MM_EDATA, "the tensor should be [rows, dimensions]", err);
    if (!t || !t->st_name) return bad(r, MM_EUNSUP, "type of the tensor", err);
    switch (t->type) {
    case MM_F32: case MM_F16: case MM_BF16: case MM_F64: case MM_I8: case MM_U8: break;
    default: return bad(r, MM_EUNSUP, "type of the tensor", err);
    }
    uint64_t rows = nd == 2 ? shape[0] : 1, dim = nd == 2 ? shape[1] : shape[0];
    if ((!dim && rows) || dim > r->o.max_dim) return bad(r, MM_ESHAPE, "dimensions of the tensor are 0 or over the limit", err);
    size_t row = (size_t)dim * t->bytes, all;
    if (mm_mul(row, (size_t)rows, &all) || off[0] != 0 || off[1] != all) return bad(r, MM_EDATA, "data_offsets do not fit the tensor's shape", err);
    r->f.dtype = (int)t->type;
    r->f.dim = (size_t)dim;
    r->f.rows = rows;
    r->f.row_bytes = row;
    return 0;
}

static int header(mm_reader *r, const char *p, size_t len, mm_err *err)
{
    frames *f = &r->f;
    mm_json_iter it;
    mm_slice key, val;
    uint64_t eos = UINT64_MAX;
    int s, n = 0, ours = 0;
    f->has_recs = f->has_elem = 0;
    f->rows = f->row = 0;
    if (mm_json_begin(&it, p, len, NULL) || it.array) return bad(r, MM_EDATA, "the header is no object", err);
    while ((s = mm_json_next(&it, &key, &val, NULL)) > 0) {
        int e;
        if (is(key, "__metadata__")) e = metadata(r, val, &eos, &ours, err);
        else if (n++) e = bad(r, MM_EUNSUP, "more than one tensor: these are no records", err);
        else e = tensor(r, val, err);
        if (e) return e;
    }
    if (s < 0) return bad(r, MM_EDATA, "the header is damaged", err);
    if (ours) f->need_marker = 1;
    if (eos != UINT64_MAX) {
        if (n) return bad(r, MM_EDATA, "an end marker with a tensor", err);
        if (eos != f->since) return bad(r, MM_ETRUNC, "the end marker counts other frames than have come", err);
        f->since = 0;
        f->need_marker = 0;
        return 0;
    }
    f->since++;
    f->in = 1;
    if (f->has_recs && (mm_json_begin(&f->it, f->recs.p, f->recs.len, NULL) || !f->it.array)) return bad(r, MM_EDATA, "mm.records is no list", err);
    return 0;
}

static int begin_frame(mm_reader *r, int nowait, mm_err *err)
{
    uint64_t len;
    int s = reader_want(r, 8, nowait, err);
    if (s == S_END) {
        if (r->end > r->start) return bad(r, MM_ETRUNC, "the stream is cut in a frame's length", err);
        return r->f.need_marker ? mm_fail(err, MM_ETRUNC, "%s: the stream ends without its end marker: it is cut", r->name) : S_END;
    }
    if (s != S_READY) return s;
    memcpy(&len, r->buf + r->start, 8);
    if (len > r->o.max_header) return bad(r, MM_EDATA, "its header is larger than the limit", err);
    s = reader_want(r, 8 + (size_t)len, nowait, err);
    if (s == S_END) return bad(r, MM_ETRUNC, "the stream is cut in a header", err);
    if (s != S_READY) return s;
    s = header(r, r->buf + r->start + 8, (size_t)len, err);
    r->start += 8 + (size_t)len;
    r->scan = r->start;
    return s ? s : S_READY;
}

int frames_prepare(mm_reader *r, int nowait, mm_err *err)
{
    frames *f = &r->f;
    for (;;) {
        int s;
        if (!f->in) {
            if ((s = begin_frame(r, nowait, err)) != S_READY) return s;
            continue;
        }
        if (f->has_recs && !f->has_elem) {
            mm_slice key;
            s = mm_json_next(&f->it, &key, &f->elem, NULL);
            if (s < 0) return bad(r, MM_EDATA, "mm.records is damaged", err);
            f->has_elem = s;
        }
        if (f->has_recs ? !f->has_elem : f->row == f->rows) {
            if (f->row < f->rows) return bad(r, MM_EDATA, "more rows than records", err);
            f->in = 0;
            continue;
        }
        /* the row that may belong to the record is in the frame in any case */
        if (f->row < f->rows) {
            s = reader_want(r, f->row_bytes, nowait, err);
            if (s == S_END) return bad(r, MM_ETRUNC, "the stream is cut in a tensor", err);
            if (s != S_READY) return s;
        }
        return S_READY;
    }
}

int frames_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    frames *f = &r->f;
    uint64_t row = f->row;
    mm_err e = { 0 };
    int has_row = 1;
    r->line++;
    if (f->has_recs) {
        if (mm_rec_parse(rec, f->elem.p, f->elem.len, &e)) return bad(r, MM_EDATA, "a record in mm.records is damaged", err);
        f->has_elem = 0;
        has_row = rec_row(rec, &row);
    }
    rec_place(rec, r->name, r->line, r->o.max_dim);
    if (!has_row) return 0;
    if (row != f->row || f->row == f->rows) return bad(r, MM_EDATA, "a record names a row that is not the next", err);
    if (mm_rec_set_vec(rec, f->dtype, r->buf + r->start, f->dim)) return mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name);
    r->start += f->row_bytes;
    r->scan = r->start;
    f->row++;
    return 0;
}

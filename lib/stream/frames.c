/* Reading tensor frames: safetensors blobs back to back (github.com/huggingface/safetensors, README "Format"), see
 * mm-stream(5). Rows are handed out as they come: a frame may be larger than memory. */
#include <string.h>
#include "base/mm_str.h"
#include "stream/stream_int.h"

enum { MAX_TENSORS = 2 };

typedef struct tensor {
    mm_slice name;
    int dtype, ndim;
    uint64_t shape[MM_MAX_NDIM], begin, end;
} tensor;

typedef struct header {
    mm_slice stream, records, prog, eos; /* raw JSON strings; p is NULL when absent */
    tensor t[MAX_TENSORS];
    size_t n;    /* of tensors, also those that found no room in t */
    int has_meta;
} header;

/* A non-negative integer as JSON; 0 when it is something else or beyond 2^63. */
static int number(mm_slice s, uint64_t *v)
{
    if (s.len == 0 || s.len > 18) return 0;
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return 0;
        n = 10 * n + (uint64_t)(s.p[i] - '0');
    }
    *v = n;
    return 1;
}

static int numbers(mm_slice array, uint64_t *v, int max, int *n)
{
    mm_json_iter it;
    mm_slice key, val;
    int code;
    *n = 0;
    if (array.p[0] != '[' || mm_json_begin(&it, array.p, array.len, NULL)) return 0;
    while ((code = mm_json_next(&it, &key, &val, NULL)) > 0)
        if (*n == max || !number(val, &v[(*n)++])) return 0;
    return code == 0;
}

static int parse_tensor(tensor *t, mm_slice raw, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    const mm_dtype_info *d = NULL;
    uint64_t off[2];
    int code, n = 0, have = 0;
    int len = (int)(t->name.len < 60 ? t->name.len : 60);
    if (raw.p[0] != '{' || mm_json_begin(&it, raw.p, raw.len, NULL))
        return mm_fail(err, MM_EDATA, "tensor '%.*s': not an object", len, t->name.p);
    while ((code = mm_json_next(&it, &key, &val, err)) > 0) {
        int bit = mm_slice_is(key, "dtype") ? 1 : mm_slice_is(key, "shape") ? 2 : mm_slice_is(key, "data_offsets") ? 4 : 0;
        if (!bit || have & bit)
            return mm_fail(err, MM_EDATA, "tensor '%.*s': unexpected key '%.*s'", len, t->name.p,
                           (int)(key.len < 40 ? key.len : 40), key.p);
        have |= bit;
        if (bit == 1 && (val.p[0] != '"' || !(d = mm_dtype_find(val.p + 1, val.len - 2)) || !d->st_name))
            return mm_fail(err, MM_EUNSUP, "tensor '%.*s': dtype %.*s is not known", len, t->name.p,
                           (int)(val.len < 40 ? val.len : 40), val.p);
        if (bit == 2 && !numbers(val, t->shape, MM_MAX_NDIM, &t->ndim))
            return mm_fail(err, MM_EDATA, "tensor '%.*s': bad shape", len, t->name.p);
        if (bit == 4 && (!numbers(val, off, 2, &n) || n != 2 || off[0] > off[1]))
            return mm_fail(err, MM_EDATA, "tensor '%.*s': bad data_offsets", len, t->name.p);
    }
    if (code) return code;
    if (have != 7) return mm_fail(err, MM_EDATA, "tensor '%.*s': dtype, shape or data_offsets missing", len, t->name.p);
    uint64_t bytes = d->bytes;
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(bytes, t->shape[i], &bytes))
            return mm_fail(err, MM_EDATA, "tensor '%.*s': the shape overflows", len, t->name.p);
    if (bytes != off[1] - off[0])
        return mm_fail(err, MM_EDATA, "tensor '%.*s': data_offsets do not fit dtype and shape", len, t->name.p);
    t->dtype = d->type;
    t->begin = off[0];
    t->end = off[1];
    return 0;
}

static int parse_meta(header *h, mm_slice raw, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    int code;
    if (h->has_meta++ || raw.p[0] != '{') return mm_fail(err, MM_EDATA, "bad or duplicate __metadata__");
    if ((code = mm_json_begin(&it, raw.p, raw.len, err))) return code;
    while ((code = mm_json_next(&it, &key, &val, err)) > 0) {
        if (val.p[0] != '"')
            return mm_fail(err, MM_EDATA, "__metadata__: '%.*s' is not a string", (int)(key.len < 40 ? key.len : 40), key.p);
        mm_slice *to = mm_slice_is(key, "mm.stream") ? &h->stream : mm_slice_is(key, "mm.records") ? &h->records :
                       mm_slice_is(key, "mm.prog") ? &h->prog : mm_slice_is(key, "mm.eos") ? &h->eos : NULL;
        if (to && to->p) return mm_fail(err, MM_EDATA, "__metadata__: duplicate key '%.*s'", (int)key.len, key.p);
        if (to) *to = val;
    }
    return code;
}

/* Slices of h point into the caller's bytes. */
static int parse_header(header *h, const char *p, size_t len, mm_err *err)
{
    mm_json_iter it;
    mm_slice key, val;
    int code;
    memset(h, 0, sizeof *h);
    if (p[0] != '{') return mm_fail(err, MM_EDATA, "the header does not start with '{'");
    if ((code = mm_json_begin(&it, p, len, err))) return code;
    while ((code = mm_json_next(&it, &key, &val, err)) > 0) {
        if (mm_slice_is(key, "__metadata__")) {
            if ((code = parse_meta(h, val, err))) return code;
            continue;
        }
        tensor t = { .name = key };
        if ((code = parse_tensor(&t, val, err))) return code;
        for (size_t i = 0; i < h->n && i < MAX_TENSORS; i++)
            if (h->t[i].name.len == key.len && !memcmp(h->t[i].name.p, key.p, key.len))
                return mm_fail(err, MM_EDATA, "two tensors '%.*s'", (int)(key.len < 60 ? key.len : 60), key.p);
        if (h->n < MAX_TENSORS) h->t[h->n] = t;
        h->n++;
    }
    return code;
}

/* Check that the tensors are ours and follow each other without gaps; make room for their use. */
static int layout(const header *h, const tensor **text, const tensor **vec, mm_err *err)
{
    *text = *vec = NULL;
    for (size_t i = 0; i < h->n && i < MAX_TENSORS; i++) {
        const tensor *t = &h->t[i];
        if (mm_slice_is(t->name, "embedding")) *vec = t;
        else if (mm_slice_is(t->name, "mm.records") && h->stream.p) *text = t;
        else if (!h->stream.p && h->n == 1) *vec = t; /* somebody else's file with one tensor: there is no doubt */
        else
            return mm_fail(err, MM_EUNSUP, "tensor '%.*s' has no meaning in a stream of records (only 'embedding' has)",
                           (int)(t->name.len < 60 ? t->name.len : 60), t->name.p);
    }
    if (h->n > MAX_TENSORS) return mm_fail(err, MM_EUNSUP, "%zu tensors, only 'embedding' has a meaning here", h->n);
    if (*text && ((*text)->dtype != MM_U8 || (*text)->ndim != 1 || (*text)->begin != 0 || h->records.p))
        return mm_fail(err, MM_EDATA, "'mm.records' must be U8, one-dimensional, first, and not in __metadata__ too");
    if (*vec && (*vec)->begin != (*text ? (*text)->end : 0)) return mm_fail(err, MM_EDATA, "gaps between tensors");
    return 0;
}

static int begin_rows(mm_reader *r, const tensor *t, mm_err *err)
{
    frames *f = &r->f;
    f->rows = f->row = 0;
    if (!t) return 0;
    size_t size = mm_dtype_get(t->dtype)->bytes;
    switch (t->dtype) {
    case MM_F32: case MM_F16: case MM_BF16: case MM_F64: case MM_I8: case MM_U8: break;
    default: return mm_fail(err, MM_EUNSUP, "vectors of dtype %s are not supported", mm_dtype_get(t->dtype)->st_name);
    }
    if (t->ndim != 1 && t->ndim != 2) return mm_fail(err, MM_ESHAPE, "'embedding' is not [n, dim]");
    uint64_t n = t->ndim == 2 ? t->shape[0] : 1, d = t->shape[t->ndim - 1];
    if (n && !d) return mm_fail(err, MM_ESHAPE, "'embedding' has vectors of dimension 0");
    if (d > r->o.max_dim) return mm_fail(err, MM_ESHAPE, "'embedding' has more than %zu elements", r->o.max_dim);
    f->dtype = t->dtype;
    f->dim = (size_t)d;
    f->row_bytes = (size_t)d * size;
    f->rows = n;
    return 0;
}

static int cut(mm_reader *r, mm_err *err, const char *where)
{
    return mm_fail(err, MM_ETRUNC, "%s: cut off %s after record %llu", r->name, where, (unsigned long long)r->line);
}

static int end_marker(frames *f, const header *h, mm_err *err)
{
    uint64_t n;
    if (h->n || h->records.p) return mm_fail(err, MM_EDATA, "an end marker with content");
    if (!number((mm_slice){ h->eos.p + 1, h->eos.len - 2 }, &n)) return mm_fail(err, MM_EDATA, "bad end marker");
    if (n != f->since)
        return mm_fail(err, MM_ETRUNC, "the end marker counts %llu frames, %llu came", (unsigned long long)n,
                       (unsigned long long)f->since);
    f->since = 0;
    f->need_marker = 0;
    return 0;
}

static int use_header(mm_reader *r, const char *p, size_t len, size_t *text_len, mm_err *err)
{
    frames *f = &r->f;
    header h;
    const tensor *text, *vec;
    *text_len = 0;
    int code = parse_header(&h, p, len, err);
    if (code) return code;
    if (h.stream.p && !mm_slice_is(h.stream, "\"1\""))
        return mm_fail(err, MM_EUNSUP, "stream version %.*s, this program reads \"1\"",
                       (int)(h.stream.len < 20 ? h.stream.len : 20), h.stream.p);
    if (h.prog.p && !f->prog_seen++) {
        mm_buf_reset(&f->prog);
        if ((code = mm_json_unescape(&f->prog, h.prog, err))) return code;
    }
    if (h.eos.p) return end_marker(f, &h, err);
    if ((code = layout(&h, &text, &vec, err)) || (code = begin_rows(r, vec, err))) return code;
    mm_buf_reset(&f->recs);
    f->has_recs = h.records.p || text;
    if (h.records.p && (code = mm_json_unescape(&f->recs, h.records, err))) return code;
    if (text) {
        if (text->end > r->o.max_line + r->o.max_header) return mm_fail(err, MM_EDATA, "'mm.records' is larger than the limit");
        *text_len = (size_t)text->end;
    }
    f->since++;
    if (h.stream.p) f->need_marker = 1;
    f->in = 1;
    return 0;
}

/* The next frame's header, and its records where they are a tensor. */
static int begin_frame(mm_reader *r, int nowait, mm_err *err)
{
    frames *f = &r->f;
    uint64_t n;
    size_t text_len = 0;
    int s = reader_want(r, 8, nowait, err);
    if (s == S_END && r->start == r->end) {
        if (f->need_marker || !f->any) return cut(r, err, f->any ? "(no end marker)" : "(empty)");
        return S_END;
    }
    if (s == S_END) return cut(r, err, "in the header of a frame");
    if (s != S_READY) return s;
    memcpy(&n, r->buf + r->start, 8);
    if (n < 2 || n > r->o.max_header)
        return mm_fail(err, MM_EDATA, "%s: frame header of %llu bytes (limit %zu) after record %llu", r->name,
                       (unsigned long long)n, r->o.max_header, (unsigned long long)r->line);
    s = reader_want(r, 8 + (size_t)n, nowait, err);
    if (s == S_END) return cut(r, err, "in the header of a frame");
    if (s != S_READY) return s;
    /* header and text are taken together: the header would have to be kept otherwise */
    int code = use_header(r, r->buf + r->start + 8, (size_t)n, &text_len, err);
    if (!code && text_len) {
        s = reader_want(r, 8 + (size_t)n + text_len, nowait, err);
        if (s != S_READY) {
            f->in = 0;
            f->since--;
            return s == S_END ? cut(r, err, "in the records of a frame") : s;
        }
        if (mm_buf_add(&f->recs, r->buf + r->start + 8 + n, text_len)) code = mm_fail(err, MM_ENOMEM, "out of memory");
    }
    if (!code && f->in && f->has_recs) {
        code = mm_json_begin(&f->it, f->recs.p, f->recs.len, err);
        if (!code && !f->it.array) code = mm_fail(err, MM_EDATA, "mm.records is not an array");
    }
    if (code) return mm_err_prefix(err, "%s: frame after record %llu: ", r->name, (unsigned long long)r->line), code;
    r->start += 8 + (size_t)n + text_len;
    f->any = 1;
    f->has_elem = 0;
    return S_READY;
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
            s = mm_json_next(&f->it, &key, &f->elem, err);
            if (s < 0) {
                mm_err_prefix(err, "%s: mm.records: ", r->name);
                return s;
            }
            f->has_elem = s;
        }
        if (f->has_recs ? !f->has_elem : f->row == f->rows) {
            if (f->row < f->rows)
                return mm_fail(err, MM_EDATA, "%s: row %llu of 'embedding' belongs to no record", r->name,
                               (unsigned long long)f->row);
            f->in = 0;
            continue;
        }
        /* a record that may name a row waits for it; at worst one that only quotes the word waits a little longer */
        if (f->row < f->rows && (!f->has_recs || memmem(f->elem.p, f->elem.len, "\"embedding\"", 11))) {
            s = reader_want(r, f->row_bytes, nowait, err);
            if (s != S_READY) return s == S_END ? cut(r, err, "in the vectors of a frame") : s;
        }
        return S_READY;
    }
}

int frames_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    frames *f = &r->f;
    int code = 0, has_row = !f->has_recs;
    mm_err e = { 0 };
    uint64_t row;
    r->line++;
    if (f->has_recs) {
        f->has_elem = 0;
        code = f->elem.len > r->o.max_line ? mm_fail(&e, MM_ELONG, "longer than the limit of %zu bytes", r->o.max_line) :
                                             mm_rec_parse(rec, f->elem.p, f->elem.len, &e);
        has_row = rec_row(rec, &row);
        if (code && f->row < f->rows) /* whose row comes next cannot be known any more */
            return mm_fail(err, MM_EDATA, "%s: record %llu: %s", r->name, (unsigned long long)r->line, e.msg);
        if (has_row && (row != f->row || row >= f->rows))
            return mm_fail(err, MM_EDATA, "%s: record %llu names row %llu of 'embedding', row %llu of %llu is next", r->name,
                           (unsigned long long)r->line, (unsigned long long)row, (unsigned long long)f->row,
                           (unsigned long long)f->rows);
    }
    rec_place(rec, r->name, r->line, r->o.max_dim);
    if (code == MM_ENOMEM) return mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name);
    if (code) return mm_rec_fail(rec, code, "%s", e.msg), 0;
    if (!has_row) return 0;
    code = mm_rec_set_vec(rec, f->dtype, r->buf + r->start, f->dim);
    r->start += f->row_bytes;
    r->scan = r->start;
    f->row++;
    return code ? mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name) : 0;
}

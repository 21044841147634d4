/* Writing records: JSON lines, frames, npy; to descriptor 1 or to a file that appears when all is written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "base/mm_str.h"
#include "stream/stream_int.h"

#define OUT_AT ((size_t)1 << 16)  /* bytes collected before they are written */
#define FRAME_ROWS 256
#define FRAME_BYTES ((size_t)1 << 20)
#define META_BYTES ((size_t)4 << 20) /* records larger than this travel as a tensor: a header has to stay under its limit */
#define NPY_HEAD 128

struct mm_writer {
    mm_writer_opts o;
    mm_outfile file;
    int to_file;
    mm_buf out;
    /* the frame being collected */
    mm_buf recs, vecs, prog;
    size_t n_recs, rows, dim;
    int dtype;
    uint64_t frames;
    /* npy */
    uint64_t npy_rows;
    size_t npy_dim;
    int npy_dtype;
};

static const char *where(const mm_writer *w) { return w->to_file ? w->o.path : "<stdout>"; }

static int send(mm_writer *w, mm_err *err)
{
    if (w->out.failed) return mm_fail(err, MM_ENOMEM, "%s: out of memory", where(w));
    if (!w->out.len) return 0;
    int r = w->to_file ? mm_outfile_write(&w->file, w->out.p, w->out.len, err) : mm_write_all(1, w->out.p, w->out.len, err);
    if (r && !w->to_file) mm_err_prefix(err, "<stdout>: ");
    mm_buf_reset(&w->out);
    return r;
}

int mm_writer_open(mm_writer **out, const mm_writer_opts *opts, mm_err *err)
{
    mm_writer *w = *out = calloc(1, sizeof *w);
    if (!w) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (opts) w->o = *opts;
    int r = 0;
    if (w->o.format == MM_OUT_NPY && !w->o.path) r = mm_fail(err, MM_EARG, "npy is written to a file only: give its name");
    if (!r && w->o.path && !(r = mm_outfile_open(&w->file, w->o.path, err))) w->to_file = 1;
    if (!r && w->o.format == MM_OUT_NPY) { /* its place; the real one is known at the end */
        char zero[NPY_HEAD] = { 0 };
        mm_buf_add(&w->out, zero, sizeof zero);
        r = send(w, err);
    }
    if (r) mm_writer_close(out);
    return r;
}

int mm_writer_prog(mm_writer *w, const char *prog)
{
    mm_buf_reset(&w->prog);
    return mm_buf_adds(&w->prog, prog);
}

/* ---- frames ---- */

/* u64 length of the header, the header padded with blanks to 64 bytes in all */
static void frame_head(mm_writer *w, mm_buf *h)
{
    while ((h->len + 8) % 64 && !h->failed) mm_buf_addc(h, ' ');
    uint64_t len = h->len;
    mm_buf_add(&w->out, &len, 8);
    mm_buf_add(&w->out, h->p, h->len);
    w->out.failed |= h->failed;
}

static int end_frame(mm_writer *w, mm_err *err)
{
    mm_buf h = { 0 };
    if (!w->n_recs) return 0;
    mm_buf_addc(&w->recs, ']');
    mm_buf_adds(&h, "{\"__metadata__\":{\"mm.stream\":\"1\"");
    if (!w->frames && w->prog.len) {
        mm_buf_adds(&h, ",\"mm.prog\":");
        mm_json_quote(&h, w->prog.p, w->prog.len);
    }
    size_t text = 0;
    if (w->recs.len <= META_BYTES) {
        mm_buf_adds(&h, ",\"mm.records\":");
        mm_json_quote(&h, w->recs.p, w->recs.len);
        mm_buf_addc(&h, '}');
    } else {
        while (w->recs.len % 64 && !w->recs.failed) mm_buf_addc(&w->recs, ' ');
        text = w->recs.len;
        mm_buf_addf(&h, "},\"mm.records\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}", text, text);
    }
    if (w->rows)
        mm_buf_addf(&h, ",\"embedding\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]}",
                    mm_dtype_get(w->dtype)->st_name, w->rows, w->dim, text, text + w->vecs.len);
    mm_buf_addc(&h, '}');
    w->out.failed |= w->recs.failed | w->vecs.failed;
    frame_head(w, &h);
    mm_buf_add(&w->out, w->recs.p, text);
    mm_buf_add(&w->out, w->vecs.p, w->vecs.len);
    mm_buf_clear(&h);
    mm_buf_reset(&w->recs);
    mm_buf_reset(&w->vecs);
    w->n_recs = w->rows = 0;
    w->frames++;
    return send(w, err);
}

static int put_frame(mm_writer *w, mm_rec *rec, mm_err *err)
{
    int dtype = 0, r;
    size_t dim = 0;
    const void *data = NULL;
    mm_err e = { 0 };
    int has = mm_rec_tensor(rec, &dtype, &data, &dim, &e);
    if (has < 0) {
        if (mm_rec_failed(rec)) rec_drop_vec(rec);
        else mm_rec_fail(rec, has, "%s", e.msg);
        has = 0;
    }
    size_t bytes = has ? dim * mm_dtype_get(dtype)->bytes : 0;
    int other = has && w->rows && (dtype != w->dtype || dim != w->dim);
    int full = w->n_recs == FRAME_ROWS || w->recs.len + w->vecs.len + bytes > FRAME_BYTES;
    if ((other || full) && (r = end_frame(w, err))) return r;
    mm_buf_addc(&w->recs, w->n_recs ? ',' : '[');
    if (rec_json_row(rec, w->rows, &w->recs, &e)) return mm_fail(err, MM_ENOMEM, "%s: out of memory", where(w));
    w->n_recs++;
    if (has) {
        w->dtype = dtype;
        w->dim = dim;
        w->rows++;
        mm_buf_add(&w->vecs, data, bytes);
    }
    return w->o.unbuffered ? end_frame(w, err) : 0;
}

/* ---- npy ---- */

static int put_npy(mm_writer *w, mm_rec *rec, mm_err *err)
{
    int dtype;
    size_t dim;
    const void *data;
    mm_err e = { 0 };
    int has = mm_rec_failed(rec) ? 0 : mm_rec_tensor(rec, &dtype, &data, &dim, &e);
    if (has <= 0)
        return mm_fail(err, has ? has : MM_EDATA, "%s: %s (npy holds vectors only)", mm_rec_place(rec),
                       has ? e.msg : "a record without a vector");
    if (dtype == MM_BF16) { /* npy has no bfloat16; float32 holds it exactly */
        const float *wide;
        if (mm_rec_vec(rec, &wide, &dim, err) < 0) return MM_ENOMEM;
        data = wide;
        dtype = MM_F32;
    }
    if (!w->npy_rows) w->npy_dim = dim, w->npy_dtype = dtype;
    if (dim != w->npy_dim || dtype != w->npy_dtype)
        return mm_fail(err, MM_ESHAPE, "%s: a vector of %zu dimensions among others of %zu, or of another type",
                       mm_rec_place(rec), dim, w->npy_dim);
    w->npy_rows++;
    mm_buf_add(&w->out, data, dim * mm_dtype_get(dtype)->bytes);
    return w->out.len >= OUT_AT ? send(w, err) : 0;
}

static int npy_head(mm_writer *w, mm_err *err)
{
    char h[NPY_HEAD + 1];
    const char *descr = w->npy_dtype == MM_F16 ? "<f2" : w->npy_dtype == MM_F64 ? "<f8" :
                        w->npy_dtype == MM_I8 ? "|i1" : w->npy_dtype == MM_U8 ? "|u1" : "<f4";
    memset(h, ' ', NPY_HEAD);
    memcpy(h, "\x93NUMPY\1\0", 8);
    h[8] = (char)(NPY_HEAD - 10);
    h[9] = 0;
    int n = snprintf(h + 10, NPY_HEAD - 10, "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %zu), }", descr,
                     (unsigned long long)w->npy_rows, w->npy_dim);
    h[10 + n] = ' ';
    h[NPY_HEAD - 1] = '\n';
    if (w->file.pos == w->file.fill) memcpy(w->file.buf, h, NPY_HEAD); /* nothing has left the buffer yet */
    else if (pwrite(w->file.fd, h, NPY_HEAD, 0) != NPY_HEAD) return mm_fail_errno(err, "cannot write '%s'", w->o.path);
    return 0;
}

/* ---- all ---- */

static int put_json(mm_writer *w, mm_rec *rec, mm_err *err)
{
    mm_err e = { 0 };
    int r = mm_rec_json(rec, w->o.encoding, &w->out, &e);
    if (r && r != MM_ENOMEM) {
        mm_rec_fail(rec, r, "%s", e.msg);
        r = mm_rec_json(rec, w->o.encoding, &w->out, &e);
    }
    if (r) return mm_fail(err, MM_ENOMEM, "%s: out of memory", where(w));
    mm_buf_addc(&w->out, '\n');
    return w->o.unbuffered || w->out.len >= OUT_AT ? send(w, err) : 0;
}

int mm_writer_put(mm_writer *w, mm_rec *rec, mm_err *err)
{
    switch (w->o.format) {
    case MM_OUT_FRAMES: return put_frame(w, rec, err);
    case MM_OUT_NPY: return put_npy(w, rec, err);
    default: return put_json(w, rec, err);
    }
}

int mm_writer_flush(mm_writer *w, mm_err *err)
{
    int r = w->o.format == MM_OUT_FRAMES ? end_frame(w, err) : 0;
    return r ? r : send(w, err);
}

int mm_writer_finish(mm_writer *w, mm_err *err)
{
    int r = mm_writer_flush(w, err);
    if (!r && w->o.format == MM_OUT_FRAMES) {
        mm_buf h = { 0 };
        mm_buf_addf(&h, "{\"__metadata__\":{\"mm.stream\":\"1\",\"mm.eos\":\"%llu\"}}", (unsigned long long)w->frames);
        frame_head(w, &h);
        mm_buf_clear(&h);
        r = send(w, err);
    }
    if (!r && w->o.format == MM_OUT_NPY) r = npy_head(w, err);
    if (!r && w->to_file) r = mm_outfile_commit(&w->file, err);
    return r;
}

void mm_writer_close(mm_writer **wp)
{
    mm_writer *w = *wp;
    if (!w) return;
    if (w->to_file) mm_outfile_abort(&w->file);
    mm_buf_clear(&w->out);
    mm_buf_clear(&w->recs);
    mm_buf_clear(&w->vecs);
    mm_buf_clear(&w->prog);
    free(w);
    *wp = NULL;
}

/* Segments: header, then sections, each aligned to 64 bytes with a CRC-32C of its own. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "index/index_int.h"
#include "kernels/mm_kern.h"
#include "kernels/mm_scan.h"

#define MAGIC "MMSEG01\n"
#define CHUNK ((size_t)1 << 20)

static size_t stride(uint32_t type, size_t dim) { return mmk_scan_row_bytes((mmk_scan_type)type, dim); }

/* ---- writing ---- */

typedef struct {
    int fd;
    const char *name;
    const row_source *src;
    mm_buf buf;
    uint64_t pos;
    uint32_t crc;
    mm_err *err;
    int r;
} out;

static void flush(out *o)
{
    if (!o->r && o->buf.failed) o->r = mm_fail(o->err, MM_ENOMEM, "out of memory");
    if (!o->r && o->buf.len) o->r = ix_write(o->fd, o->buf.p, o->buf.len, o->name, o->err);
    mm_buf_reset(&o->buf);
    if (o->pos / CHUNK % 32 == 0) o->src->rest(o->src->arg);
}

static void put(out *o, const void *p, size_t len)
{
    o->crc = mm_crc32c(o->crc, p, len);
    mm_buf_add(&o->buf, p, len);
    o->pos += len;
    if (o->buf.len >= CHUNK) flush(o);
}

static void begin(out *o, seg_head *h, int sec)
{
    static const char zero[64];
    put(o, zero, (64 - o->pos % 64) % 64);
    h->sec[sec].off = o->pos;
    o->crc = 0;
}

static void end(out *o, seg_head *h, int sec)
{
    h->sec[sec].len = o->pos - h->sec[sec].off;
    h->sec[sec].crc = o->crc;
}

static void put_row(out *o, const mm_kern *k, mm_index_type type, const float *v, size_t dim, uint8_t *tmp)
{
    switch (type) {
    case MM_INDEX_F32: put(o, v, dim * 4); return;
    case MM_INDEX_F16: k->from_f32[MMK_FMT_F16](tmp, v, dim); break;
    case MM_INDEX_I8: k->to_i8((int8_t *)tmp, v, dim); break;
    case MM_INDEX_B1:
        memset(tmp, 0, (dim + 7) / 8);
        for (size_t i = 0; i < dim; i++) tmp[i / 8] = (uint8_t)(tmp[i / 8] | (v[i] >= 0) << i % 8);
    }
    put(o, tmp, stride(type, dim));
}

typedef struct {
    float *v;
    uint8_t *tmp, *class;
    uint32_t *slot;
    class_table names;
    double *sum[IX_CLASSES]; /* [dim], NULL: no rows */
    uint64_t count[IX_CLASSES];
} work;

static int work_new(work *w, const seg_head *h)
{
    *w = (work){ .v = mm_aligned(h->dim, sizeof *w->v),
                 .tmp = mm_aligned(h->dim, 4),
                 .class = mm_aligned(h->rows, 1),
                 .slot = mm_aligned(h->slots, sizeof *w->slot) };
    w->names.n = 1;
    w->sum[0] = calloc(h->dim, sizeof *w->sum[0]);
    return w->v && w->tmp && w->class && w->slot && w->sum[0] ? 0 : MM_ENOMEM;
}

static void work_free(work *w)
{
    free(w->v);
    free(w->tmp);
    free(w->class);
    free(w->slot);
    for (size_t c = 0; c < IX_CLASSES; c++) free(w->sum[c]);
}

/* The class of a row, and the sums over its class. */
static int classify(work *w, uint64_t row, mm_slice doc, size_t dim)
{
    char name[IX_CLASS_NAME];
    mm_index_modality(doc.p, doc.len, name);
    size_t c = class_number(&w->names, name, strlen(name));
    if (!w->sum[c] && !(w->sum[c] = calloc(dim, sizeof *w->sum[c]))) return MM_ENOMEM;
    for (size_t i = 0; i < dim; i++) w->sum[c][i] += w->v[i];
    w->count[c]++;
    w->class[row] = (uint8_t)c;
    return 0;
}

static void vector_sections(out *o, seg_head *h, const row_source *src, work *w)
{
    const mm_kern *k = mm_kern_get();
    size_t dim = h->dim;
    mm_slice id, doc;
    begin(o, h, SEC_VEC);
    for (uint64_t i = 0; i < h->rows; i++) {
        src->get(src->arg, i, &id, &doc, w->v);
        put_row(o, k, (mm_index_type)h->type, w->v, dim, w->tmp);
        if (!o->r && classify(w, i, doc, dim)) o->r = mm_fail(o->err, MM_ENOMEM, "out of memory");
    }
    end(o, h, SEC_VEC);
    begin(o, h, SEC_SCALE);
    for (uint64_t i = 0; h->type == MM_INDEX_I8 && i < h->rows; i++) {
        src->get(src->arg, i, &id, &doc, w->v);
        float scale = k->to_i8((int8_t *)w->tmp, w->v, dim);
        put(o, &scale, 4);
    }
    end(o, h, SEC_SCALE);
    begin(o, h, SEC_FULL);
    for (uint64_t i = 0; h->type >= MM_INDEX_I8 && i < h->rows; i++) {
        src->get(src->arg, i, &id, &doc, w->v);
        put(o, w->v, dim * 4);
    }
    end(o, h, SEC_FULL);
}

/* Ids, or payloads: offsets first, then the bytes. */
static void text_sections(out *o, seg_head *h, const row_source *src, int off)
{
    uint64_t at = 0;
    mm_slice t[2];
    begin(o, h, off);
    put(o, &at, 8);
    for (uint64_t i = 0; i < h->rows; i++) {
        src->get(src->arg, i, &t[0], &t[1], NULL);
        at += t[off == SEC_DOCOFF].len;
        put(o, &at, 8);
    }
    end(o, h, off);
    begin(o, h, off + 1);
    for (uint64_t i = 0; i < h->rows; i++) {
        src->get(src->arg, i, &t[0], &t[1], NULL);
        put(o, t[off == SEC_DOCOFF].p, t[off == SEC_DOCOFF].len);
    }
    end(o, h, off + 1);
}

static void hash_section(out *o, seg_head *h, const row_source *src, uint32_t *slot)
{
    mm_slice id, doc;
    memset(slot, 0, h->slots * sizeof *slot);
    for (uint64_t i = 0; i < h->rows; i++) {
        src->get(src->arg, i, &id, &doc, NULL);
        uint64_t s = mm_hash64(id.p, id.len, 0) & (h->slots - 1);
        while (slot[s]) s = (s + 1) & (h->slots - 1);
        slot[s] = (uint32_t)i + 1;
    }
    begin(o, h, SEC_HASH);
    put(o, slot, h->slots * sizeof *slot);
    end(o, h, SEC_HASH);
}

static void class_sections(out *o, seg_head *h, const work *w)
{
    begin(o, h, SEC_CLASS);
    put(o, w->class, h->rows);
    end(o, h, SEC_CLASS);
    begin(o, h, SEC_SUM);
    for (size_t c = 0; c < w->names.n; c++) {
        class_head head = { .rows = w->count[c] };
        memcpy(head.name, w->names.name[c], sizeof head.name);
        put(o, &head, sizeof head);
        if (w->sum[c]) put(o, w->sum[c], h->dim * sizeof *w->sum[c]); /* else memory ran out, and this file with it */
    }
    end(o, h, SEC_SUM);
}

int seg_write(const char *dir, const char *name, mm_index_type type, size_t dim, const row_source *src, mm_err *err)
{
    seg_head h = { .type = type, .dim = (uint32_t)dim, .rows = src->rows, .slots = 16 };
    work w;
    memcpy(h.magic, MAGIC, 8);
    while (h.slots < 2 * h.rows) h.slots *= 2;
    if (h.rows >= UINT32_MAX)
        return mm_fail(err, MM_EUNSUP, "a segment of %llu rows is too large", (unsigned long long)h.rows);
    out o = { .fd = ix_open(dir, name, O_WRONLY | O_CREAT | O_TRUNC, err), .name = name, .src = src, .err = err };
    if (o.fd < 0) return o.fd;
    if (work_new(&w, &h)) {
        o.r = mm_fail(err, MM_ENOMEM, "out of memory");
    } else {
        put(&o, &h, sizeof h); /* its place; the real one is written last */
        vector_sections(&o, &h, src, &w);
        text_sections(&o, &h, src, SEC_IDOFF);
        text_sections(&o, &h, src, SEC_DOCOFF);
        hash_section(&o, &h, src, w.slot);
        class_sections(&o, &h, &w);
        flush(&o);
        h.crc = mm_crc32c(0, &h, offsetof(seg_head, crc));
        if (!o.r && lseek(o.fd, 0, SEEK_SET)) o.r = mm_fail_errno(err, "cannot seek in '%s'", name);
        if (!o.r) o.r = ix_write(o.fd, &h, sizeof h, name, err);
        if (!o.r) o.r = ix_fsync(o.fd, dir, name, err);
    }
    if (close(o.fd) && !o.r) o.r = mm_fail_errno(err, "cannot close '%s'", name);
    work_free(&w);
    mm_buf_clear(&o.buf);
    return o.r;
}

/* ---- reading ---- */

static int expected(const seg_head *h, int sec, uint64_t *len)
{
    uint64_t rows = h->rows, d = h->dim;
    switch (sec) {
    case SEC_VEC: *len = rows * stride(h->type, d); return 1;
    case SEC_SCALE: *len = h->type == MM_INDEX_I8 ? rows * 4 : 0; return 1;
    case SEC_FULL: *len = h->type >= MM_INDEX_I8 ? rows * d * 4 : 0; return 1;
    case SEC_IDOFF:
    case SEC_DOCOFF: *len = (rows + 1) * 8; return 1;
    case SEC_HASH: *len = h->slots * 4; return 1;
    case SEC_CLASS: *len = rows; return 1;
    default: return 0; /* as long as it is */
    }
}

static int bad(const segment *s, const char *what, mm_err *err)
{
    return mm_fail(err, MM_EDATA, "segment '%s' is damaged: %s", s->name, what);
}

int seg_open(segment *s, const char *dir, mm_err *err)
{
    char *path = mm_path_join(dir, s->name);
    int r = path ? mm_map_open(&s->map, path, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    free(path);
    if (r) return r;
    seg_head *h = &s->h;
    if (s->map.len < sizeof *h) return bad(s, "it is shorter than its header", err);
    memcpy(h, s->map.p, sizeof *h);
    if (memcmp(h->magic, MAGIC, 8)) return bad(s, "it does not begin as a segment does", err);
    if (h->crc != mm_crc32c(0, h, offsetof(seg_head, crc))) return bad(s, "checksum of the header", err);
    /* the checksum keeps accidents out; what follows keeps out headers that were made with intent */
    if (h->type > MM_INDEX_B1 || !h->dim || h->dim > MM_INDEX_DIM_MAX || h->rows >= UINT32_MAX ||
        h->slots < h->rows + 1 || h->slots > (uint64_t)1 << 33 || h->slots & (h->slots - 1))
        return bad(s, "values of the header", err);
    for (int i = 0; i < SECTIONS; i++) {
        uint64_t want, len = h->sec[i].len, off = h->sec[i].off;
        if (off % 64 || off > s->map.len || len > s->map.len - off || (expected(h, i, &want) && len != want))
            return bad(s, "a section does not fit", err);
    }
    uint64_t sums = h->sec[SEC_SUM].len, each = sizeof(class_head) + (uint64_t)h->dim * 8;
    if (!sums || sums % each || sums / each > IX_CLASSES) return bad(s, "a section does not fit", err);
    s->dead = calloc(h->rows / 64 + 1, 8);
    return s->dead ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

void seg_close(segment *s)
{
    mm_map_close(&s->map);
    free(s->dead);
    s->dead = NULL;
}

mm_slice seg_text(const segment *s, int off_sec, uint64_t row)
{
    uint64_t o[2], len = s->h.sec[off_sec + 1].len; /* the text's section follows its offsets' */
    memcpy(o, seg_sec(s, off_sec) + row * 8, 16);
    if (o[0] > o[1] || o[1] > len) return (mm_slice){ "", 0 }; /* damaged: --verify tells */
    return (mm_slice){ (const char *)seg_sec(s, off_sec + 1) + o[0], (size_t)(o[1] - o[0]) };
}

int seg_find(const segment *s, const char *id, size_t len, uint64_t *row)
{
    uint64_t mask = s->h.slots - 1, i = mm_hash64(id, len, 0) & mask;
    for (uint64_t probes = 0; probes <= mask; probes++, i = (i + 1) & mask) {
        uint32_t v;
        memcpy(&v, seg_sec(s, SEC_HASH) + i * 4, 4);
        if (!v || v > s->h.rows) return 0;
        mm_slice t = seg_text(s, SEC_IDOFF, v - 1);
        if (t.len == len && !memcmp(t.p, id, len)) return *row = v - 1, 1;
    }
    return 0;
}

void seg_vector(const segment *s, uint64_t row, float *vec)
{
    size_t d = s->h.dim;
    if (s->h.type == MM_INDEX_F16) mm_kern_get()->to_f32[MMK_FMT_F16](vec, seg_sec(s, SEC_VEC) + row * d * 2, d);
    else memcpy(vec, seg_sec(s, s->h.type == MM_INDEX_F32 ? SEC_VEC : SEC_FULL) + row * d * 4, d * 4);
}

size_t seg_classes(const segment *s) { return s->h.sec[SEC_SUM].len / (sizeof(class_head) + (size_t)s->h.dim * 8); }

const double *seg_class(const segment *s, size_t c, class_head *h)
{
    const uint8_t *p = seg_sec(s, SEC_SUM) + c * (sizeof *h + (size_t)s->h.dim * 8);
    memcpy(h, p, sizeof *h);
    h->name[IX_CLASS_NAME - 1] = 0;
    return (const double *)(const void *)(p + sizeof *h);
}

int seg_check(const segment *s, char *what, size_t size)
{
    static const char *const names[SECTIONS] = { "vectors",           "scales",       "float32 vectors",
                                                 "offsets of ids",    "ids",          "offsets of payloads",
                                                 "payloads",          "table of ids", "modalities",
                                                 "sums of modalities" };
    for (int i = 0; i < SECTIONS; i++)
        if (mm_crc32c(0, seg_sec(s, i), s->h.sec[i].len) != s->h.sec[i].crc)
            return snprintf(what, size, "segment '%s': checksum of the %s", s->name, names[i]), 1;
    for (uint64_t r = 0; r < s->h.rows; r++) {
        mm_slice id = seg_text(s, SEC_IDOFF, r);
        uint64_t at;
        if (!seg_find(s, id.p, id.len, &at))
            return snprintf(what, size, "segment '%s': row %llu is not in its table of ids", s->name,
                            (unsigned long long)r),
                   1;
    }
    return 0;
}

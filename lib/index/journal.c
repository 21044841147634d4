/* The journal: records appended behind each other, each with its length and checksum, so that a torn end is
 * recognised and left out. Record: u32 length of the body, u32 CRC-32C of the body, body (struct head, id, payload,
 * vector). What it holds is mirrored in memory, which is what searches see. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "index/index_int.h"
#include "kernels/mm_kern.h"

enum { OP_ADD = 1, OP_DEL = 2, OP_MARK = 3 }; /* the "id" of a mark: u64, bytes that were synced */

typedef struct head { /* of a body; the id, the payload and the float32 vector follow */
    uint32_t op, id_len, doc_len, dim;
} head;

static int put(mm_index *ix, head h, const char *id, const char *doc, const float *vec)
{
    uint32_t len = (uint32_t)(sizeof h + h.id_len + h.doc_len + h.dim * 4), pre[2] = { len, 0 };
    size_t at = ix->pending.len;
    mm_buf *b = &ix->pending;
    mm_buf_add(b, pre, sizeof pre);
    mm_buf_add(b, &h, sizeof h);
    mm_buf_add(b, id, h.id_len);
    mm_buf_add(b, doc, h.doc_len);
    mm_buf_add(b, vec, h.dim * 4);
    if (b->failed) {
        b->len = at;
        b->failed = 0;
        return MM_ENOMEM;
    }
    pre[1] = mm_crc32c(0, b->p + at + sizeof pre, len);
    memcpy(b->p + at, pre, sizeof pre);
    return 0;
}

int log_put_add(mm_index *ix, const char *id, size_t id_len, const char *doc, size_t doc_len, const float *vec)
{
    ix->unsynced = 1;
    return put(ix, (head){ OP_ADD, (uint32_t)id_len, (uint32_t)doc_len, (uint32_t)ix->dim }, id, doc, vec);
}

int log_put_del(mm_index *ix, const char *id, size_t id_len)
{
    ix->unsynced = 1;
    return put(ix, (head){ OP_DEL, (uint32_t)id_len, 0, 0 }, id, "", NULL);
}

int log_put_mark(mm_index *ix)
{
    return put(ix, (head){ OP_MARK, sizeof ix->log_safe, 0, 0 }, (const char *)&ix->log_safe, "", NULL);
}

int log_flush(mm_index *ix, mm_err *err)
{
    if (!ix->pending.len) return 0;
    int r = ix_write(ix->log, ix->pending.p, ix->pending.len, ix->log_name, err);
    ix->log_bytes += ix->pending.len;
    mm_buf_reset(&ix->pending);
    return r;
}

/* ---- memory ---- */

static size_t probe(const mm_index *ix, const char *id, size_t len)
{
    size_t i = mm_hash64(id, len, 0) & (ix->slots - 1);
    for (; ix->slot[i]; i = (i + 1) & (ix->slots - 1)) {
        const jrow *r = &ix->row[ix->slot[i] - 1];
        if (r->id_len == len && !memcmp(ix->text.p + r->id, id, len)) break;
    }
    return i;
}

int mem_find(const mm_index *ix, const char *id, size_t len, size_t *row)
{
    if (!ix->slots) return 0;
    size_t i = probe(ix, id, len);
    if (!ix->slot[i] || !ix->row[ix->slot[i] - 1].live) return 0;
    *row = ix->slot[i] - 1;
    return 1;
}

static int grow(mm_index *ix)
{
    if (ix->n_row < ix->cap_row) return 0;
    size_t cap = ix->cap_row ? 2 * ix->cap_row : 64, slots = 2 * cap, bytes;
    if (cap > UINT32_MAX / 4 || mm_mul(ix->dim, 4, &bytes)) return MM_ENOMEM;
    jrow *row = mm_realloc(ix->row, cap, sizeof *row);
    if (row) ix->row = row;
    float *vec = mm_realloc(ix->vec, cap, bytes);
    if (vec) ix->vec = vec;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!row || !vec || !slot) {
        free(slot);
        return MM_ENOMEM;
    }
    free(ix->slot);
    ix->slot = slot;
    ix->slots = slots;
    ix->cap_row = cap;
    /* the latest row of an id is the one the table points to */
    for (size_t i = 0; i < ix->n_row; i++) slot[probe(ix, ix->text.p + row[i].id, row[i].id_len)] = (uint32_t)i + 1;
    return 0;
}

int mem_del(mm_index *ix, const char *id, size_t len)
{
    size_t j;
    uint64_t r;
    if (mem_find(ix, id, len, &j)) {
        ix->row[j].live = 0;
        ix->live--;
        return 1;
    }
    for (size_t s = ix->n_seg; s-- > 0;) {
        segment *g = &ix->seg[s];
        if (!seg_find(g, id, len, &r) || g->dead[r / 64] >> r % 64 & 1) continue;
        g->dead[r / 64] |= (uint64_t)1 << r % 64;
        g->n_dead++;
        g->dirty = 1;
        ix->live--;
        return 1;
    }
    return 0;
}

int mem_add(mm_index *ix, const char *id, size_t id_len, const char *doc, size_t doc_len, const float *vec)
{
    size_t at = ix->text.len;
    if (grow(ix)) return MM_ENOMEM;
    mm_buf_add(&ix->text, id, id_len);
    mm_buf_add(&ix->text, doc, doc_len);
    if (ix->text.failed) {
        ix->text.len = at;
        ix->text.failed = 0;
        return MM_ENOMEM;
    }
    mem_del(ix, id, id_len);
    ix->row[ix->n_row] = (jrow){ at, at + id_len, (uint32_t)id_len, (uint32_t)doc_len, 1 };
    float *v = ix->vec + ix->n_row * ix->dim;
    if (ix->type == MM_INDEX_F16) { /* as it will be in a segment, so that no score changes when it gets there */
        const mm_kern *k = mm_kern_get();
        uint16_t half[64];
        for (size_t d = 0, n; d < ix->dim; d += n) {
            n = ix->dim - d < 64 ? ix->dim - d : 64;
            k->from_f32[MMK_FMT_F16](half, vec + d, n);
            k->to_f32[MMK_FMT_F16](v + d, half, n);
        }
    } else {
        memcpy(v, vec, ix->dim * sizeof *vec);
    }
    ix->slot[probe(ix, id, id_len)] = (uint32_t)++ix->n_row;
    ix->live++;
    return 0;
}

void mem_reset(mm_index *ix)
{
    ix->n_row = 0;
    mm_buf_reset(&ix->text);
    if (ix->slot) memset(ix->slot, 0, ix->slots * sizeof *ix->slot);
}

/* ---- at opening ---- */

/* The body of the whole, sound record at `at`; its length, or 0. */
static size_t body_at(const char *p, size_t len, size_t at, head *h)
{
    uint32_t pre[2];
    if (len - at < sizeof pre) return 0;
    memcpy(pre, p + at, sizeof pre);
    if (pre[0] < sizeof *h || pre[0] > len - at - sizeof pre || mm_crc32c(0, p + at + sizeof pre, pre[0]) != pre[1])
        return 0;
    memcpy(h, p + at + sizeof pre, sizeof *h);
    return pre[0];
}

/* Is there, behind an unsound record at `bad`, a mark that says it was synced? */
static int was_synced(const char *p, size_t len, size_t bad)
{
    head h;
    uint64_t safe;
    size_t body = sizeof h + sizeof safe;
    for (size_t at = bad + 1; at + 8 + body <= len; at++) {
        const char *c = memchr(p + at, (int)body, len - at); /* the low byte of a mark's length */
        if (!c) return 0;
        at = (size_t)(c - p);
        if (body_at(p, len, at, &h) != body || h.op != OP_MARK) continue;
        memcpy(&safe, p + at + 8 + sizeof h, sizeof safe);
        if (safe > bad && safe <= at) return 1;
    }
    return 0;
}

static int apply(mm_index *ix, const head *h, size_t body, const char *id)
{
    const char *doc = id + h->id_len;
    if (sizeof *h + (uint64_t)h->id_len + h->doc_len + (uint64_t)h->dim * 4 != body) return MM_EDATA;
    if (h->op != OP_ADD && (h->dim || h->doc_len)) return MM_EDATA;
    switch (h->op) {
    case OP_MARK: return 0;
    case OP_DEL: mem_del(ix, id, h->id_len); return 0;
    case OP_ADD: break;
    default: return MM_EDATA;
    }
    if (!ix->dim || h->dim != ix->dim) return MM_EDATA;
    float *v = mm_aligned(ix->dim, sizeof *v); /* the file's bytes may be unaligned */
    if (v) memcpy(v, doc + h->doc_len, ix->dim * sizeof *v);
    int r = v ? mem_add(ix, id, h->id_len, doc, h->doc_len, v) : MM_ENOMEM;
    free(v);
    return r;
}

int log_parse(mm_index *ix, const char *p, size_t len, mm_err *err)
{
    size_t at = 0, body;
    head h;
    for (; at < len; at += 8 + body) {
        if (!(body = body_at(p, len, at, &h))) {
            if (!was_synced(p, len, at)) break;
            return mm_fail(err, MM_EDATA, "journal '%s' is damaged at byte %zu", ix->log_name, at);
        }
        int r = apply(ix, &h, body, p + at + 8 + sizeof h);
        if (r == MM_ENOMEM) return mm_fail(err, r, "out of memory");
        if (r) return mm_fail(err, r, "journal '%s' is damaged at byte %zu", ix->log_name, at);
    }
    ix->log_bytes = ix->log_safe = at;
    return 0;
}

/* Read, not mapped: a writer that opens after a crash cuts the torn end off, and a mapped page that is gone would
 * kill us. */
int log_replay(mm_index *ix, mm_err *err)
{
    char *path = mm_path_join(ix->dir, ix->log_name);
    mm_buf b = { 0 };
    int r = path ? mm_file_read(&b, path, SIZE_MAX / 4, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) r = log_parse(ix, b.p, b.len, err);
    free(path);
    mm_buf_clear(&b);
    return r;
}

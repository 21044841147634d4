#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "index/index_int.h"
#include "kernels/mm_kern.h"

/* A journal is turned into a segment when it reaches this size, and at close when it is over the smaller one. Opening
 * reads the journal: at 1 MiB that takes a millisecond. */
#define LOG_MAX ((uint64_t)64 << 20)
#define LOG_KEEP ((uint64_t)1 << 20)
#define PENDING_MAX ((size_t)4 << 20)

uint64_t ix_base(const mm_index *ix)
{
    return ix->n_seg ? ix->seg[ix->n_seg - 1].base + ix->seg[ix->n_seg - 1].h.rows : 0;
}

static void drop_segments(mm_index *ix)
{
    for (size_t i = 0; i < ix->n_seg; i++) seg_close(&ix->seg[i]);
    free(ix->seg);
    ix->seg = NULL;
    ix->n_seg = 0;
}

static void release(mm_index *ix)
{
    drop_segments(ix);
    if (ix->log >= 0) close(ix->log);
    if (ix->lock >= 0) close(ix->lock);
    mm_buf_clear(&ix->pending);
    mm_buf_clear(&ix->text);
    free(ix->row);
    free(ix->vec);
    free(ix->slot);
    free(ix->model);
    free(ix->dir);
    free(ix);
}

static int open_segments(mm_index *ix, mm_err *err)
{
    uint64_t base = 0;
    for (size_t i = 0; i < ix->n_seg; i++) {
        segment *s = &ix->seg[i];
        int r = seg_open(s, ix->dir, err);
        if (r || (r = dead_read(ix, s, err))) return r;
        if (s->h.type != (uint32_t)ix->type || s->h.dim != ix->dim)
            return mm_fail(err, MM_EDATA, "segment '%s' does not belong to this index", s->name);
        s->base = base;
        base += s->h.rows;
        ix->live += s->h.rows - s->n_dead;
    }
    return 0;
}

/* What a reader does; a writer may replace everything between two of its steps, so a missing file means: look again.
 */
static int load(mm_index *ix, mm_err *err)
{
    for (int tries = 0;; tries++) {
        int r = man_read(ix, err);
        if (!r) r = open_segments(ix, err);
        if (!r) r = log_replay(ix, err);
        if (r != MM_EIO || errno != ENOENT || ix->mode == MM_INDEX_WRITE || tries == 100) return r;
        drop_segments(ix);
        mem_reset(ix);
        ix->live = 0;
        usleep(1000);
    }
}

static void new_name(const mm_index *ix, char *name, size_t size, const char *kind)
{
    snprintf(name, size, "%s-%llu", kind, (unsigned long long)ix->gen);
}

/* A new empty journal under the name of this generation; the manifest names it with the next man_write(). */
static int new_log(mm_index *ix, mm_err *err)
{
    new_name(ix, ix->log_name, sizeof ix->log_name, "log");
    int fd = ix_open(ix->dir, ix->log_name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, err);
    if (fd < 0) return fd;
    int r = ix_fsync(fd, ix->log_name, err);
    if (r) {
        close(fd);
        return r;
    }
    if (ix->log >= 0) close(ix->log);
    ix->log = fd;
    ix->log_bytes = 0;
    return 0;
}

static int begin_write(mm_index *ix, int wait, mm_err *err)
{
    if (mkdir(ix->dir, 0777) && errno != EEXIST) return mm_fail_errno(err, "cannot create index '%s'", ix->dir);
    ix->lock = ix_open(ix->dir, "lock", O_RDWR | O_CREAT, err);
    if (ix->lock < 0) return ix->lock;
    if (flock(ix->lock, wait ? LOCK_EX : LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? mm_fail(err, MM_ELOCK, "another process is writing to index '%s'", ix->dir)
                                    : mm_fail_errno(err, "cannot lock index '%s'", ix->dir);
    return 0;
}

static int open_log(mm_index *ix, mm_err *err)
{
    man_sweep(ix);
    ix->log = ix_open(ix->dir, ix->log_name, O_WRONLY | O_APPEND, err);
    if (ix->log < 0) return ix->log;
    /* the torn record at the end, if there is one, must not be followed by good ones */
    return ftruncate(ix->log, (off_t)ix->log_bytes) ? mm_fail_errno(err, "cannot cut journal '%s'", ix->log_name) : 0;
}

int mm_index_open(mm_index **out, const char *dir, int mode, const mm_index_opts *opts, mm_err *err)
{
    *out = NULL;
    mm_index *ix = calloc(1, sizeof *ix);
    if (!ix) return mm_fail(err, MM_ENOMEM, "out of memory");
    ix->log = ix->lock = -1;
    ix->mode = mode;
    ix->dir = strdup(dir);
    int r = ix->dir ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && mode == MM_INDEX_WRITE) r = begin_write(ix, opts && opts->wait, err);
    if (!r) r = load(ix, err);
    if (r == 1 && mode == MM_INDEX_READ) {
        struct stat st;
        if (stat(dir, &st)) r = mm_fail_errno(err, "cannot open index '%s'", dir);
        else r = mm_fail(err, MM_EDATA, "'%s' is no index: there is no manifest", dir);
    } else if (r == 1 && man_foreign(ix)) {
        r = mm_fail(err, MM_EARG, "'%s' is no index, and not empty", dir);
    } else if (r == 1) {
        ix->type = opts ? opts->type : MM_INDEX_F32;
        ix->gen = 1;
        ix->model = strdup("");
        r = ix->model ? new_log(ix, err) : mm_fail(err, MM_ENOMEM, "out of memory");
        if (!r) r = man_write(ix, err);
    } else if (r < 0) {
        mm_err_prefix(err, "index '%s': ", dir);
    } else if (mode == MM_INDEX_WRITE) {
        r = open_log(ix, err);
    }
    if (r) release(ix);
    else *out = ix;
    return r;
}

/* ---- rows of the whole index ---- */

typedef struct place {
    const segment *seg; /* NULL: the journal */
    uint64_t row;
} place;

static place find_row(const mm_index *ix, uint64_t row)
{
    size_t lo = 0, hi = ix->n_seg;
    if (row >= ix_base(ix)) return (place){ NULL, row - ix_base(ix) };
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (ix->seg[mid].base <= row) lo = mid;
        else hi = mid;
    }
    return (place){ &ix->seg[lo], row - ix->seg[lo].base };
}

int mm_index_live(const mm_index *ix, uint64_t row)
{
    place p = find_row(ix, row);
    if (!p.seg) return p.row < ix->n_row && ix->row[p.row].live;
    return !(p.seg->dead[p.row / 64] >> p.row % 64 & 1);
}

void mm_index_record(const mm_index *ix, uint64_t row, mm_slice *id, mm_slice *doc)
{
    place p = find_row(ix, row);
    if (p.seg) {
        *id = seg_text(p.seg, SEC_IDOFF, p.row);
        *doc = seg_text(p.seg, SEC_DOCOFF, p.row);
    } else {
        const jrow *j = &ix->row[p.row];
        *id = (mm_slice){ ix->text.p + j->id, j->id_len };
        *doc = (mm_slice){ ix->text.p + j->doc, j->doc_len };
    }
}

void mm_index_vector(const mm_index *ix, uint64_t row, float *vec)
{
    place p = find_row(ix, row);
    if (p.seg) seg_vector(p.seg, p.row, vec);
    else memcpy(vec, ix->vec + p.row * ix->dim, ix->dim * sizeof *vec);
}

int mm_index_find(const mm_index *ix, const char *id, size_t len, uint64_t *row)
{
    size_t j;
    uint64_t r;
    if (mem_find(ix, id, len, &j)) return *row = ix_base(ix) + j, 1;
    for (size_t s = ix->n_seg; s-- > 0;)
        if (seg_find(&ix->seg[s], id, len, &r) && !(ix->seg[s].dead[r / 64] >> r % 64 & 1))
            return *row = ix->seg[s].base + r, 1;
    return 0;
}

void mm_index_get_info(const mm_index *ix, mm_index_info *info)
{
    *info =
        (mm_index_info){ ix->type, ix->dim, ix->live, ix_base(ix) + ix->n_row, ix->n_row, ix->n_seg, ix->log_bytes };
    for (size_t i = 0; i < ix->n_seg; i++) info->bytes += ix->seg[i].map.len;
}

const char *mm_index_model(const mm_index *ix) { return ix->model; }

/* ---- turning rows into a segment ---- */

typedef struct {
    const mm_index *ix;
    const uint64_t *rows;
} chosen;

static void get_row(void *arg, uint64_t i, mm_slice *id, mm_slice *doc, float *vec)
{
    const chosen *c = arg;
    mm_index_record(c->ix, c->rows[i], id, doc);
    if (vec) mm_index_vector(c->ix, c->rows[i], vec);
}

/* Replace segments from `first` on and the journal by one segment of their live rows. The steps: segment, bitmaps and
 * an empty journal are written and synced under new names; the manifest is replaced; what it does not name any more
 * is removed. */
static int merge(mm_index *ix, size_t first, mm_err *err)
{
    uint64_t from = first < ix->n_seg ? ix->seg[first].base : ix_base(ix), to = ix_base(ix) + ix->n_row, n = 0;
    uint64_t *rows = mm_realloc(NULL, (size_t)(to - from) + 1, sizeof *rows);
    segment *seg = calloc(first + 2, sizeof *seg), fresh = { .base = from };
    int r = rows && seg ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (uint64_t i = from; !r && i < to; i++)
        if (mm_index_live(ix, i)) rows[n++] = i;
    ix->gen++;
    if (!r && n) {
        chosen c = { ix, rows };
        new_name(ix, fresh.name, sizeof fresh.name, "seg");
        r = seg_write(ix->dir, fresh.name, ix->type, ix->dim, &(row_source){ n, &c, get_row }, err);
        if (!r) r = seg_open(&fresh, ix->dir, err);
    }
    for (size_t i = 0; i < first && !r; i++)
        if (ix->seg[i].dirty && !(r = dead_write(ix, &ix->seg[i], err))) ix->seg[i].dirty = 0;
    if (!r) r = new_log(ix, err);
    if (!r) {
        for (size_t i = first; i < ix->n_seg; i++) seg_close(&ix->seg[i]);
        memcpy(seg, ix->seg, first * sizeof *seg);
        free(ix->seg);
        ix->seg = seg;
        ix->n_seg = first;
        seg = NULL;
        if (n) ix->seg[ix->n_seg++] = fresh;
        mem_reset(ix);
        r = man_write(ix, err);
        if (!r) man_sweep(ix);
    } else if (fresh.map.p) {
        seg_close(&fresh);
    }
    if (r) ix->broken = 1;
    free(rows);
    free(seg);
    return r;
}

/* Segments that are small beside what comes are merged with it, so that their number stays logarithmic and each row
 * is rewritten a few times in its life. */
static size_t merge_from(const mm_index *ix)
{
    size_t first = ix->n_seg;
    uint64_t rows = ix->n_row;
    while (first > 0 && ix->seg[first - 1].h.rows <= 2 * rows) rows += ix->seg[--first].h.rows;
    return first;
}

static int writable(const mm_index *ix, mm_err *err)
{
    if (ix->mode != MM_INDEX_WRITE) return mm_fail(err, MM_EARG, "the index is open for reading");
    return ix->broken ? mm_fail(err, MM_EIO, "an earlier write to index '%s' failed", ix->dir) : 0;
}

int mm_index_sync(mm_index *ix, mm_err *err)
{
    int r = writable(ix, err);
    if (r || !ix->unsynced) return r;
    r = log_flush(ix, err);
    if (!r) r = ix_fsync(ix->log, ix->log_name, err);
    if (r) ix->broken = 1;
    else ix->unsynced = 0;
    if (!r && ix->log_bytes >= LOG_MAX) r = merge(ix, merge_from(ix), err);
    return r;
}

static int spill(mm_index *ix, mm_err *err)
{
    if (ix->pending.len < PENDING_MAX) return 0;
    int r = log_flush(ix, err);
    if (r) ix->broken = 1;
    return !r && ix->log_bytes >= LOG_MAX ? mm_index_sync(ix, err) : r;
}

int mm_index_add(mm_index *ix, const char *id, size_t id_len, const float *vec, size_t dim, const char *doc,
                 size_t doc_len, mm_err *err)
{
    int r = writable(ix, err);
    if (r) return r;
    if (id_len > MM_INDEX_ID_MAX)
        return mm_fail(err, MM_EDATA, "an id of %zu bytes is too long (limit %d)", id_len, MM_INDEX_ID_MAX);
    if (doc_len > MM_INDEX_DOC_MAX) return mm_fail(err, MM_EDATA, "a record of %zu bytes is too large", doc_len);
    if (!dim || dim > MM_INDEX_DIM_MAX || (ix->dim && dim != ix->dim))
        return mm_fail(err, MM_ESHAPE, "the vector has %zu dimensions, the index %zu", dim, ix->dim);
    float *v = mm_aligned(dim, sizeof *v);
    if (!v) return mm_fail(err, MM_ENOMEM, "out of memory");
    memcpy(v, vec, dim * sizeof *v);
    for (size_t i = 0; i < dim && !r; i++)
        if (!isfinite(v[i])) r = mm_fail(err, MM_EDATA, "the vector holds a value that is not finite");
    if (!r && mm_kern_get()->l2_normalize(v, 1, dim))
        r = mm_fail(err, MM_EEMPTY, "the vector is zero: it has no direction");
    if (!r && !ix->dim) { /* the first vector decides */
        ix->dim = dim;
        if ((r = man_write(ix, err))) ix->broken = 1;
    }
    if (!r && (log_put_add(ix, id, id_len, doc, doc_len, v) || mem_add(ix, id, id_len, doc, doc_len, v))) {
        ix->broken = 1; /* memory and journal may differ now */
        r = mm_fail(err, MM_ENOMEM, "out of memory");
    }
    free(v);
    return r ? r : spill(ix, err);
}

int mm_index_delete(mm_index *ix, const char *id, size_t id_len, mm_err *err)
{
    int r = writable(ix, err);
    if (r || !mem_del(ix, id, id_len)) return r;
    if (log_put_del(ix, id, id_len)) {
        ix->broken = 1;
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    return (r = spill(ix, err)) ? r : 1;
}

int mm_index_set_model(mm_index *ix, const char *model, mm_err *err)
{
    int r = writable(ix, err);
    if (r) return r;
    if (ix->model[0]) return mm_fail(err, MM_EARG, "the index has a model already: '%s'", ix->model);
    char *copy = strdup(model);
    if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
    free(ix->model);
    ix->model = copy;
    if ((r = man_write(ix, err))) ix->broken = 1;
    return r;
}

int mm_index_compact(mm_index *ix, mm_err *err)
{
    int r = mm_index_sync(ix, err);
    return r ? r : merge(ix, 0, err);
}

int mm_index_close(mm_index **ixp, mm_err *err)
{
    mm_index *ix = *ixp;
    int r = 0;
    if (!ix) return 0;
    if (ix->mode == MM_INDEX_WRITE && !ix->broken) {
        r = mm_index_sync(ix, err);
        if (!r && ix->log_bytes > LOG_KEEP) r = merge(ix, merge_from(ix), err);
    }
    release(ix);
    *ixp = NULL;
    return r;
}

int mm_index_verify(mm_index *ix, void (*report)(void *, const char *), void *arg, mm_err *err)
{
    int bad = 0;
    char what[200];
    (void)err;
    for (size_t i = 0; i < ix->n_seg; i++)
        if (seg_check(&ix->seg[i], what, sizeof what)) {
            bad++;
            if (report) report(arg, what);
        }
    return bad;
}

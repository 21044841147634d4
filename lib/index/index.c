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

uint64_t ix_log_max = (uint64_t)64 << 20, ix_log_keep = (uint64_t)1 << 20;
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

/* A reader reads the manifest and then the files it names, which a writer may replace and remove in between; or the
 * journal, whose torn end a writer may cut off and write anew. Then it looks again. */
static int load(mm_index *ix, mm_err *err)
{
    for (int tries = 0;; tries++) {
        int r = man_read(ix, err);
        if (!r) r = open_segments(ix, err);
        if (!r) r = log_replay(ix, err);
        int most = ix->mode == MM_INDEX_WRITE ? 0 : r == MM_EIO ? 100 : r == MM_EDATA ? 1 : 0;
        if (tries >= most) return r;
        drop_segments(ix);
        mem_reset(ix);
        ix->live = 0;
        if (r == MM_EIO) usleep(1000);
    }
}

static int begin_write(mm_index *ix, int wait, mm_err *err)
{
    if (man_state(ix->dir) == 2) return mm_fail(err, MM_EARG, "'%s' is no index, and not empty", ix->dir);
    int r = ix_mkdir(ix->dir, err);
    if (r) return r;
    ix->lock = ix_open(ix->dir, "lock", O_RDWR | O_CREAT, err);
    if (ix->lock < 0) return ix->lock;
    if (flock(ix->lock, wait ? LOCK_EX : LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? mm_fail(err, MM_ELOCK, "another process is writing to index '%s'", ix->dir)
                                    : mm_fail_errno(err, "cannot lock index '%s'", ix->dir);
    return 0;
}

/* What a killed writer left may be in memory only: it is made safe before anything is built on it. */
static int open_log(mm_index *ix, mm_err *err)
{
    int r = ix_sync_dir(ix->dir, err);
    if (r) return r;
    man_sweep(ix);
    ix->log = ix_open(ix->dir, ix->log_name, O_WRONLY | O_APPEND, err);
    if (ix->log < 0) return ix->log;
    /* the torn record at the end, if there is one, must not be followed by good ones */
    if (lseek(ix->log, 0, SEEK_END) != (off_t)ix->log_bytes) r = ix_cut(ix->log, ix->log_bytes, ix->log_name, err);
    return r ? r : ix_fsync(ix->log, ix->dir, ix->log_name, err);
}

static int create(mm_index *ix, const mm_index_opts *opts, mm_err *err)
{
    ix->type = opts ? opts->type : MM_INDEX_F32;
    ix->gen = 1;
    ix->model = strdup("");
    int r = ix->model ? ix_new_log(ix, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    return r ? r : man_write(ix, err);
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
    if (!r) {
        r = load(ix, err);
        if (r < 0) mm_err_prefix(err, "index '%s': ", dir);
        else if (r == 0 && mode == MM_INDEX_WRITE) r = open_log(ix, err);
        else if (r == 1 && mode == MM_INDEX_WRITE) r = create(ix, opts, err);
        else if (r == 1 && access(dir, F_OK)) r = mm_fail_errno(err, "cannot open index '%s'", dir);
        else if (r == 1) r = mm_fail(err, MM_EDATA, "'%s' is no index: there is no manifest", dir);
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

/* Is there anything that a new record would have to agree with? A dim or model without records is what a crash left.
 */
static int bound(const mm_index *ix) { return ix->n_seg || ix->log_bytes || ix->pending.len; }

void mm_index_get_info(const mm_index *ix, mm_index_info *info)
{
    *info = (mm_index_info){ .type = ix->type,
                             .dim = bound(ix) ? ix->dim : 0,
                             .records = ix->live,
                             .rows = ix_base(ix) + ix->n_row,
                             .added = ix->added + ix->n_row,
                             .journal = ix->n_row,
                             .segments = ix->n_seg,
                             .bytes = ix->log_bytes };
    for (size_t i = 0; i < ix->n_seg; i++) info->bytes += ix->seg[i].map.len;
}

const char *mm_index_model(const mm_index *ix) { return bound(ix) ? ix->model : ""; }

/* ---- writing ---- */

static int writable(const mm_index *ix, mm_err *err)
{
    if (ix->mode != MM_INDEX_WRITE) return mm_fail(err, MM_EARG, "the index is open for reading");
    return ix->broken ? mm_fail(err, MM_EIO, "an earlier write to index '%s' failed", ix->dir) : 0;
}

/* The journal's end that was not synced is taken back: nobody was told of it, and the space may be wanted. */
static int give_up(mm_index *ix, int r)
{
    ix->broken = 1;
    if (ix_cut(ix->log, ix->log_safe, ix->log_name, NULL)) return r; /* the checksums tell as well */
    return r;
}

int mm_index_sync(mm_index *ix, mm_err *err)
{
    int r = writable(ix, err);
    if (r || !ix->unsynced) return r;
    r = log_flush(ix, err);
    if (!r) r = ix_fsync(ix->log, ix->dir, ix->log_name, err);
    if (r) return give_up(ix, r);
    ix->unsynced = 0;
    ix->log_safe = ix->log_bytes;
    if (ix->log_bytes >= ix_log_max) return ix_merge(ix, ix_merge_from(ix), err);
    return log_put_mark(ix) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

static int spill(mm_index *ix, mm_err *err)
{
    if (ix->pending.len < PENDING_MAX) return 0;
    int r = log_flush(ix, err);
    if (r) return give_up(ix, r);
    return ix->log_bytes >= ix_log_max ? mm_index_sync(ix, err) : 0;
}

int mm_index_add(mm_index *ix, const char *id, size_t id_len, const float *vec, size_t dim, const char *doc,
                 size_t doc_len, mm_err *err)
{
    int r = writable(ix, err);
    if (r) return r;
    if (id_len > MM_INDEX_ID_MAX)
        return mm_fail(err, MM_EDATA, "an id of %zu bytes is too long (limit %d)", id_len, MM_INDEX_ID_MAX);
    if (doc_len > MM_INDEX_DOC_MAX) return mm_fail(err, MM_EDATA, "a record of %zu bytes is too large", doc_len);
    if (!dim || dim > MM_INDEX_DIM_MAX || (bound(ix) && dim != ix->dim))
        return mm_fail(err, MM_ESHAPE, "the vector has %zu dimensions, the index %zu", dim, ix->dim);
    float *v = mm_aligned(dim, sizeof *v);
    if (!v) return mm_fail(err, MM_ENOMEM, "out of memory");
    memcpy(v, vec, dim * sizeof *v);
    for (size_t i = 0; i < dim && !r; i++)
        if (!isfinite(v[i])) r = mm_fail(err, MM_EDATA, "the vector holds a value that is not finite");
    if (!r && mm_kern_get()->l2_normalize(v, 1, dim))
        r = mm_fail(err, MM_EEMPTY, "the vector is zero: it has no direction");
    if (!r && !bound(ix) && (dim != ix->dim || ix->model[0])) { /* the first vector decides */
        ix->dim = dim;
        ix->model[0] = 0;
        ix->cap_row = 0; /* there are no rows yet; what was allocated was for another dim */
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
    if (mm_index_model(ix)[0]) return mm_fail(err, MM_EARG, "the index has a model already: '%s'", ix->model);
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
    return r ? r : ix_merge(ix, 0, err);
}

int mm_index_close(mm_index **ixp, mm_err *err)
{
    mm_index *ix = *ixp;
    int r = 0;
    if (!ix) return 0;
    if (ix->mode == MM_INDEX_WRITE && !ix->broken) {
        r = mm_index_sync(ix, err);
        if (!r && ix->log_bytes > ix_log_keep) r = ix_merge(ix, ix_merge_from(ix), err);
        else if (!r && log_flush(ix, NULL))
            r = 0; /* the last mark: it serves to find damage, nothing depends on it */
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

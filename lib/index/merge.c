/* Journal and segments into one new segment. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "index/index_int.h"

static void new_name(const mm_index *ix, char *name, size_t size, const char *kind)
{
    snprintf(name, size, "%s-%llu", kind, (unsigned long long)ix->gen);
}

int ix_new_log(mm_index *ix, mm_err *err)
{
    new_name(ix, ix->log_name, sizeof ix->log_name, "log");
    int fd = ix_open(ix->dir, ix->log_name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, err);
    if (fd < 0) return fd;
    int r = ix_fsync(fd, ix->dir, ix->log_name, err);
    if (r) {
        close(fd);
        return r;
    }
    if (ix->log >= 0) close(ix->log);
    ix->log = fd;
    ix->log_bytes = ix->log_safe = 0;
    mm_buf_reset(&ix->pending); /* a mark, if anything */
    return 0;
}

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

/* Mapped pages that were read count as ours until they are given back. */
static void rest(void *arg)
{
    const chosen *c = arg;
    for (size_t i = 0; i < c->ix->n_seg; i++) {
        const mm_map *m = &c->ix->seg[i].map;
        mm_map_release(m, m->p, m->len);
    }
}

/* The live rows of segments from `first` on and of the journal, as a new segment; *fresh has no name if there are
 * none. */
static int write_rows(mm_index *ix, size_t first, segment *fresh, mm_err *err)
{
    uint64_t from = first < ix->n_seg ? ix->seg[first].base : ix_base(ix), to = ix_base(ix) + ix->n_row, n = 0;
    uint64_t *rows = mm_realloc(NULL, (size_t)(to - from) + 1, sizeof *rows);
    int r = rows ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (uint64_t i = from; !r && i < to; i++)
        if (mm_index_live(ix, i)) rows[n++] = i;
    *fresh = (segment){ .base = from };
    if (!r && n) {
        chosen c = { ix, rows };
        new_name(ix, fresh->name, sizeof fresh->name, "seg");
        r = seg_write(ix->dir, fresh->name, ix->type, ix->dim, &(row_source){ n, &c, get_row, rest }, err);
        if (!r) r = seg_open(fresh, ix->dir, err);
    }
    free(rows);
    return r;
}

/* A merge failed before the manifest was replaced: its files only take up space, of which there may be none. */
static void undo(mm_index *ix)
{
    mm_index old = { .dir = ix->dir };
    if (!man_read(&old, NULL)) man_sweep(&old);
    free(old.seg);
    free(old.model);
}

int ix_merge(mm_index *ix, size_t first, mm_err *err)
{
    segment fresh = { 0 }, *seg = calloc(first + 2, sizeof *seg);
    int r = seg ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    ix->gen++;
    if (!r) r = write_rows(ix, first, &fresh, err);
    for (size_t i = 0; i < first && !r; i++)
        if (ix->seg[i].dirty && !(r = dead_write(ix, &ix->seg[i], err))) ix->seg[i].dirty = 0;
    if (!r) r = ix_new_log(ix, err);
    if (r) {
        ix->broken = 1;
        seg_close(&fresh);
        free(seg);
        undo(ix);
        return r;
    }
    for (size_t i = first; i < ix->n_seg; i++) seg_close(&ix->seg[i]);
    if (first) memcpy(seg, ix->seg, first * sizeof *seg);
    free(ix->seg);
    ix->seg = seg;
    ix->n_seg = first;
    if (fresh.name[0]) seg[ix->n_seg++] = fresh;
    ix->added += ix->n_row;
    mem_reset(ix);
    r = man_write(ix, err);
    if (r) ix->broken = 1;
    else man_sweep(ix);
    return r;
}

static uint64_t live(const segment *s) { return s->h.rows - s->n_dead; }

size_t ix_merge_from(const mm_index *ix)
{
    size_t first = ix->n_seg;
    for (uint64_t rows = ix->n_row;;) {
        size_t at = first;
        uint64_t more = 0;
        while (at > 0 && live(&ix->seg[at - 1]) <= 2 * rows) more += live(&ix->seg[--at]);
        if (first - at < 3) return first;
        first = at;
        rows += more;
    }
}

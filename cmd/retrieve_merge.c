/* Hits of searches in several indexes, put together. */
#include <stdlib.h>
#include "base/mm_base.h"
#include "cmd/retrieve.h"

/* The same queries, searched in several indexes: record by record the hits are put together. Everything else is the
 * first file's. */
static int merge_one(mm_retrieve *s, mm_rec **rec, char **names, size_t n, mm_slice *lists)
{
    static const char *const asked[] = { "id", "text", "image", "audio", "video", "path" };
    mm_err err = { 0 };
    mm_slice a, b;
    mm_buf out = { 0 };
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        for (size_t k = 0; k < sizeof asked / sizeof *asked; k++) {
            const int has = mm_rec_get(rec[0], asked[k], &a), with = mm_rec_get(rec[i], asked[k], &b);
            if (has != with || (has && (a.len != b.len || memcmp(a.p, b.p, a.len))))
                return mm_fail(&s->c->err, MM_EDATA, "%s and %s are not the same query: their '%s' differs",
                               mm_rec_place(rec[0]), mm_rec_place(rec[i]), asked[k]);
        }
        if (mm_rec_failed(rec[i])) r = mm_rec_fail(rec[0], mm_rec_failed(rec[i]), "%s failed", mm_rec_place(rec[i]));
        else if (!mm_rec_get(rec[i], "hits", &lists[i]))
            r = mm_rec_fail(rec[0], MM_EDATA, "no key \"hits\" in '%s'", names[i]);
    }
    if (!r && (r = mm_hits_merge(&out, lists, n, (size_t)s->o->k, &err))) mm_rec_fail(rec[0], r, "%s", err.msg);
    r = !r && mm_rec_set(rec[0], "hits", out.p, out.len) ? mm_retrieve_no_memory(s) : 0;
    mm_buf_clear(&out);
    return r ? r : mm_io_put(&s->o->io, rec[0]);
}

int mm_retrieve_merge(mm_retrieve *s, int argc, char **argv)
{
    size_t n = (size_t)argc;
    mm_reader **rd = calloc(n, sizeof *rd);
    mm_rec **rec = calloc(n, sizeof *rec);
    mm_slice *lists = calloc(n, sizeof *lists);
    int r = mm_io_open(&s->o->io, s->c, 1, argv), more = 1;
    if (r) goto end;
    if (!rd || !rec || !lists) r = mm_retrieve_no_memory(s);
    for (size_t i = 0; i < n && !r; i++) {
        if (!(rec[i] = mm_rec_new())) r = mm_retrieve_no_memory(s);
        else if (i) r = mm_reader_open(&rd[i], NULL, argv + i, 1, &s->c->err);
    }
    while (!r && more) {
        if ((more = mm_io_next(&s->o->io, rec[0])) < 0) r = more;
        for (size_t i = 1; i < n && !r; i++) {
            int got = mm_reader_next(rd[i], rec[i], &s->c->err);
            if (got < 0) r = got;
            else if (got != more)
                r = mm_fail(&s->c->err, MM_ETRUNC, "'%s' has %s records than '%s'", argv[i], got ? "more" : "fewer",
                            argv[0]);
        }
        if (!r && more) r = merge_one(s, rec, argv, n, lists);
    }
    r = mm_io_close(&s->o->io, r);
end:
    for (size_t i = 0; rd && rec && i < n; i++) {
        mm_reader_close(&rd[i]);
        mm_rec_free(rec[i]);
    }
    free(rd);
    free(rec);
    free(lists);
    return r;
}

/* mm-cat - read record streams in any encoding, write them in another. Conversion is a filter of its own because it needs
 * neither a model nor an index: it starts in a millisecond and is the tool to look at, check and cut any stream of the
 * others. */
#include "cmd/io.h"

static struct {
    int count, check;
    int64_t head;
    mm_io io;
} o = { .head = -1 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("What to do (default: copy)"),
    MM_OPT_INT('n', "head", &o.head, "N", 0, 9e18, "stop after N records"),
    MM_OPT_BOOL('c', "count", &o.count, "print how many records there are and how many failed, as one JSON line"),
    MM_OPT_BOOL(0, "check", &o.check, "write nothing: the exit status tells"),
    MM_OPT_BOOL(0, "npy", &o.io.npy, "write the vectors as one npy array (with --output; ids and texts are not kept)"),
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

/* What says how to write means nothing where nothing is written: better told than passed over. */
static int exclusive(mm_ctx *c)
{
    static const char *const how[] = { "binary", "json", "npy", "encoding", "output", "unbuffered" };
    int r = mm_opt_exclusive(c, "count", "check", NULL);
    for (size_t i = 0; !r && i < sizeof how / sizeof *how; i++)
        if (!(r = mm_opt_exclusive(c, "count", how[i], NULL))) r = mm_opt_exclusive(c, "check", how[i], NULL);
    return r;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    int r = exclusive(c), more = 0, quiet = o.count || o.check;
    mm_rec *rec = mm_rec_new();
    mm_progress bar;
    if (!r && !rec) r = mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (!r) r = quiet ? mm_io_open_in(&o.io, c, argc, argv) : mm_io_open(&o.io, c, argc, argv);
    if (r) {
        mm_rec_free(rec);
        return r;
    }
    mm_progress_start(&bar, c, "records", 0);
    while (!r && (o.head < 0 || o.io.seen < (uint64_t)o.head) && (more = mm_io_next(&o.io, rec)) > 0) {
        const float *v;
        size_t dim;
        mm_err e = { 0 };
        int code;
        /* a check looks into the vectors too */
        if (quiet && !mm_rec_failed(rec) && (code = mm_rec_vec(rec, &v, &dim, &e)) < 0)
            mm_rec_fail(rec, code, "%s", e.msg);
        r = quiet ? mm_io_count(&o.io, rec) : mm_io_put(&o.io, rec);
        mm_progress_tick(&bar, o.io.seen);
    }
    mm_progress_end(&bar);
    uint64_t seen = o.io.seen, failed = o.io.failed;
    r = mm_io_close(&o.io, r ? r : more < 0 ? more : 0);
    if (o.count && r >= 0)
        printf("{\"records\":%llu,\"failed\":%llu}\n", (unsigned long long)seen, (unsigned long long)failed);
    mm_rec_free(rec);
    return r;
}

static const char *const usage[] = { "[-bnc] [option ...] [file ...]", NULL };
static const mm_cmd cmd = { "mm-cat", "convert, check and count record streams", usage, opts, run };

int main(int argc, char **argv)
{
    return mm_cmd_main(&cmd, argc, argv);
}

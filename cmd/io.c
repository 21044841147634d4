#include "cmd/io.h"
#include <string.h>
#include "base/mm_file.h"
#include "base/mm_mem.h"

#ifndef MM_VERSION
#define MM_VERSION "0.0"
#endif
#define TOLD 10 /* failed records named on stderr without -v */

int mm_io_spare(mm_ctx *c, const char *option, const char *out, int argc, char **argv)
{
    for (int i = 0; out && i < argc; i++)
        if (mm_same_file(out, argv[i])) return mm_fail(&c->err, MM_EARG, "option '--%s': '%s' is among the input", option, out);
    return 0;
}

static int check(mm_io *io, mm_ctx *c, int argc, char **argv)
{
    int r = mm_opt_exclusive(c, "binary", "json", "npy", NULL);
    if (!r) r = mm_opt_exclusive(c, "binary", "encoding", NULL);
    if (!r) r = mm_opt_exclusive(c, "npy", "encoding", NULL);
    if (!r) r = mm_opt_exclusive(c, "text", "from", NULL);
    if (!r && io->each_operand) r = mm_io_spare(c, "output", io->out, argc, argv);
    if (!r && io->out && !*io->out) r = mm_fail(&c->err, MM_EARG, "option '--output' is empty");
    if (!r && io->npy && !io->out) r = mm_fail(&c->err, MM_EARG, "option '--npy' needs '--output FILE'");
    return r;
}

int mm_io_open_in(mm_io *io, mm_ctx *c, int argc, char **argv)
{
    io->c = c;
    int r = check(io, c, argc, argv);
    if (r) return r;
    mm_reader_opts ro = { io->text ? MM_IN_TEXT : io->from, io->nul, (size_t)io->max_line, (size_t)io->max_header,
                          (size_t)io->max_dim, 0, io->each_operand };
    return mm_reader_open(&io->rd, &ro, argv, (size_t)argc, &c->err);
}

int mm_io_open(mm_io *io, mm_ctx *c, int argc, char **argv)
{
    int r = mm_io_open_in(io, c, argc, argv);
    if (r) return r;
    if (io->binary && !io->out && (r = mm_refuse_tty(c, io->force))) return r;
    mm_writer_opts wo = { io->npy ? MM_OUT_NPY : io->binary ? MM_OUT_FRAMES : MM_OUT_JSON, io->encoding,
                          io->out && strcmp(io->out, "-") ? io->out : NULL, io->unbuffered };
    r = mm_writer_open(&io->wr, &wo, &c->err);
    if (r) mm_reader_close(&io->rd);
    return r;
}

int mm_io_pending(mm_io *io) { return mm_reader_pending(io->rd); }

int mm_io_next(mm_io *io, mm_rec *rec)
{
    if (io->wr && !mm_reader_pending(io->rd)) {
        int r = mm_writer_flush(io->wr, &io->c->err);
        if (r) return r;
    }
    int r = mm_reader_next(io->rd, rec, &io->c->err);
    io->seen += r > 0;
    return r;
}

int mm_io_count(mm_io *io, mm_rec *rec)
{
    int code = mm_rec_failed(rec);
    if (!code) return 0;
    const char *place = mm_rec_place(rec), *msg = mm_rec_message(rec);
    if (!msg[0]) msg = "failed before it came here";
    if (io->strict) return mm_fail(&io->c->err, code == MM_EARG ? MM_EDATA : code, "%s%s%s", place, place[0] ? ": " : "", msg);
    io->failed++;
    if (io->failed <= TOLD || io->c->verbose > 0) mm_error(io->c, "%s%s%s", place, place[0] ? ": " : "", msg);
    else if (io->failed == TOLD + 1 && io->wr) mm_error(io->c, "more records failed; the output has them all (-v names them here too)");
    else if (io->failed == TOLD + 1) mm_error(io->c, "more records failed (-v names them here)");
    return 0;
}

/* Frames say which programs they went through: what the input said, and us. */
static int send_prog(mm_io *io)
{
    mm_buf b = { 0 };
    const char *before = mm_reader_prog(io->rd);
    io->prog_sent = 1;
    mm_buf_addf(&b, "%s%s%s %s", before, before[0] ? "\n" : "", io->c->cmd->name, MM_VERSION);
    int r = b.failed || mm_writer_prog(io->wr, b.p) ? mm_fail(&io->c->err, MM_ENOMEM, "out of memory") : 0;
    mm_buf_clear(&b);
    return r;
}

int mm_io_put(mm_io *io, mm_rec *rec)
{
    int r, dtype;
    const void *data;
    size_t dim;
    mm_err e = { 0 };
    /* a vector that cannot be written is found out now, so that --strict stops in front of it */
    if (!mm_rec_failed(rec) && (r = mm_rec_tensor(rec, &dtype, &data, &dim, &e)) < 0) mm_rec_fail(rec, r, "%s", e.msg);
    if ((r = mm_io_count(io, rec))) return r;
    if (io->binary && !io->prog_sent && (r = send_prog(io))) return r;
    return mm_writer_put(io->wr, rec, &io->c->err);
}

int mm_io_close(mm_io *io, int r)
{
    if (io->wr) {
        mm_err e = { 0 };
        int w = r ? mm_writer_flush(io->wr, &e) : mm_writer_finish(io->wr, &e);
        if (!r && w) {
            r = w;
            io->c->err = e;
        }
    }
    mm_writer_close(&io->wr);
    mm_reader_close(&io->rd);
    return r ? r : io->failed > 0;
}

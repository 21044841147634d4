/* io.h - records in and out with the options that mean the same in every filter.
 *
 *   static struct { mm_io io; } o;
 *   static const mm_opt opts[] = { ..., MM_OPTS_IN(o.io), MM_OPTS_OUT(o.io), MM_OPT_END };
 *   static int run(mm_ctx *c, int argc, char **argv)
 *   {
 *       int r = mm_io_open(&o.io, c, argc, argv);
 *       while (!r && (r = mm_io_next(&o.io, rec)) > 0) { ...; r = mm_io_put(&o.io, rec); }
 *       return mm_io_close(&o.io, r);       // 0, 1 when records failed, or the error; in every case frees
 *   }
 * A filter that works in batches reads while (n < batch && (n == 0 || mm_io_pending(&o.io))). */
#ifndef MM_CMD_IO_H
#define MM_CMD_IO_H

#include "cmd/cmd.h"
#include "stream/mm_stream.h"

typedef struct mm_io {
    /* options */
    int nul, text, from, binary, json, npy, encoding, strict, unbuffered, force;
    int64_t max_line, max_header, max_dim;
    const char *out;
    int each_operand; /* set by the filter: see mm_reader_opts */
    /* state */
    mm_ctx *c;
    mm_reader *rd;
    mm_writer *wr; /* NULL: nothing is written (mm_io_open_in) */
    uint64_t seen, failed;
    int prog_sent;
} mm_io;

#define MM_OPTS_IN(io) \
    MM_OPT_GROUP("Input"), \
    MM_OPT_BOOL('t', "text", &(io).text, "every input line is a text: {\"text\":...}"), \
    MM_OPT_BOOL('0', "null", &(io).nul, "entries of lists (paths, texts) end with NUL instead of a line feed"), \
    MM_OPT_ENUM(0, "from", &(io).from, "auto|json|frames|npy|paths|text", "input encoding (default: looked at)"), \
    MM_OPT_BOOL(0, "strict", &(io).strict, "stop at the first record that fails"), \
    MM_OPT_INT(0, "max-line", &(io).max_line, "BYTES", 1, 1LL << 40, "longest line accepted (default 64M)"), \
    MM_OPT_INT(0, "max-header", &(io).max_header, "BYTES", 1, 1LL << 40, "largest frame header accepted (default 16M)"), \
    MM_OPT_INT(0, "max-dim", &(io).max_dim, "N", 1, 1LL << 30, "longest vector accepted (default 1M)")

#define MM_OPTS_OUT(io) \
    MM_OPT_GROUP("Output"), \
    MM_OPT_BOOL('b', "binary", &(io).binary, "write tensor frames"), \
    MM_OPT_BOOL(0, "json", &(io).json, "write JSON lines (default)"), \
    MM_OPT_ENUM(0, "encoding", &(io).encoding, "numbers|base64", "vectors in JSON lines (default: numbers)"), \
    MM_OPT_STR('o', "output", &(io).out, "FILE", "write FILE, which appears when all is written"), \
    MM_OPT_BOOL(0, "unbuffered", &(io).unbuffered, "write every record at once"), \
    MM_OPT_BOOL(0, "force", &(io).force, "write binary data to a terminal too")

/* Check the options, open input and output. 0 or MM_E* with c->err set (as all here). */
MM_MUST_CHECK int mm_io_open(mm_io *io, mm_ctx *c, int argc, char **argv);
/* Input only, for filters that answer with something else than records. */
MM_MUST_CHECK int mm_io_open_in(mm_io *io, mm_ctx *c, int argc, char **argv);
/* MM_EARG: what the option would write over (NULL: nothing) is one of the operands, as where a name was forgotten: -o *.jpg */
MM_MUST_CHECK int mm_io_spare(mm_ctx *c, const char *option, const char *out, int argc, char **argv);
/* As mm_reader_next(). Flushes the output first when that would block. */
MM_MUST_CHECK int mm_io_next(mm_io *io, mm_rec *rec);
int mm_io_pending(mm_io *io);
/* Write one record. A failed one is counted and told on stderr (the first ten; all with -v); under --strict its code is
 * returned instead and it is not written. */
MM_MUST_CHECK int mm_io_put(mm_io *io, mm_rec *rec);
/* The counting and telling of mm_io_put(), for filters that do not write the record. 0, or under --strict its code. */
MM_MUST_CHECK int mm_io_count(mm_io *io, mm_rec *rec);
/* r: 0, or the error that ended the loop. Finishes the output if r is 0; otherwise passes on what was written so far, without
 * end marker or rename. Frees reader and writer. Returns r, a new error, or 1 when records failed. */
MM_MUST_CHECK int mm_io_close(mm_io *io, int r);

#endif

/* paint.h - mm-generate --image: a picture of each record's text. */
#ifndef MM_CMD_PAINT_H
#define MM_CMD_PAINT_H

#include "cmd/io.h"
#include "cmd/resume.h"

typedef struct mm_paint_cli {
    int on;
    int64_t steps, size;
    double guidance, strength;
    const char *init, *dir;
} mm_paint_cli;
#define MM_PAINT_CLI_INIT { 0, 30, 256, 3, 0.6, NULL, NULL }

#define MM_OPTS_PAINT(p) \
    MM_OPT_GROUP("Pictures"), \
    MM_OPT_BOOL(0, "image", &(p).on, "make a picture of each text (unified model; default: the built-in one)"), \
    MM_OPT_STR(0, "out-dir", &(p).dir, "DIR", "write the pictures to DIR, by number and id (default: into the records, or one to --output)"), \
    MM_OPT_INT(0, "steps", &(p).steps, "N", 1, 1000, "steps from noise to picture (default 30)"), \
    MM_OPT_NUM(0, "guidance", &(p).guidance, "X", 0, 100, "how much the text counts; 1: as the model says (default 3)"), \
    MM_OPT_INT(0, "size", &(p).size, "N", 8, 4096, "pixels a side: what the model makes is scaled to it (default 256)"), \
    MM_OPT_STR(0, "init", &(p).init, "PICTURE", "begin from this picture, where a record has none of its own, in place of noise"), \
    MM_OPT_NUM(0, "strength", &(p).strength, "X", 0, 1, "how much of such a picture becomes noise first (default 0.6)")

typedef struct mm_paint_args {
    mm_ctx *c;
    mm_io *io;
    const mm_paint_cli *how;
    mm_resume *resume;
    const char *model, *prompt; /* names as given, or NULL */
    uint64_t seed;
    size_t n, best, batch;      /* choices of a record; those wanted, 0: all; records together */
    int score;
} mm_paint_args;

/* Everything from opening the model on. 0, 1 when records failed, or the error. */
MM_MUST_CHECK int mm_paint_records(const mm_paint_args *a, int argc, char **argv);

#endif

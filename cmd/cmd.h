/* cmd.h - the skeleton every mm-* filter stands on: options as data, messages, exit status, progress.
 *
 *   static struct { const char *model; int64_t batch; } o = { .batch = 64 };
 *   static const mm_opt opts[] = {
 *       MM_OPT_GROUP("Embedding"),
 *       MM_OPT_STR('m', "model", &o.model, "NAME", "model name, folder or file"),
 *       MM_OPT_INT('B', "batch", &o.batch, "N", 1, 4096, "records per forward pass"),
 *       MM_OPT_END };
 *   static int run(mm_ctx *c, int argc, char **argv) { ... return 0; }
 *   static const char *const usage[] = { "[-m NAME] [FILE...]", NULL };
 *   static const mm_cmd cmd = { "mm-embed", "turn text into vectors", usage, opts, run };
 *   int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }
 *
 * From the one table come parsing, --help, the short usage, --mm-options (what scripts/completions and the manual page
 * check read). run() gets the operands; it returns 0, 1 (some records failed, or the answer is no), or a negative MM_E*
 * code with the message in c->err, which mm_cmd_main prints and maps to the exit status:
 *   0 ok   1 some records failed / no   2 usage (MM_EARG)   3 bad data   4 system (MM_EIO, MM_ENOMEM, MM_EDEVICE, MM_ELOCK) */
#ifndef MM_CMD_H
#define MM_CMD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/mm_err.h"

typedef enum {
    MM_OPT_T_END, MM_OPT_T_GROUP, MM_OPT_T_BOOL, MM_OPT_T_INT, MM_OPT_T_NUM, MM_OPT_T_STR, MM_OPT_T_ENUM, MM_OPT_T_LIST
} mm_opt_type;

typedef struct mm_strv { /* a repeatable option's values, in order */
    const char **v;
    size_t n;
} mm_strv;

typedef struct mm_opt {
    mm_opt_type type;
    int ch;             /* short form or 0 */
    const char *name;   /* long form; the heading of a group */
    void *target;       /* int (bool, enum index), int64_t, double, const char *, mm_strv */
    const char *arg;    /* argument hint; for an enum its choices "a|b|c" */
    double min, max;    /* inclusive range of numbers; 0, 0: no limit */
    const char *help;   /* one line, lower case, no full stop */
    int hidden;         /* not in --help */
} mm_opt;

#define MM_OPT_GROUP(t) { MM_OPT_T_GROUP, 0, t, NULL, NULL, 0, 0, NULL, 0 }
/* --name sets the int to 1, --no-name to 0 */
#define MM_OPT_BOOL(c, n, p, h) { MM_OPT_T_BOOL, c, n, (1 ? (p) : (int *)0), NULL, 0, 0, h, 0 }
#define MM_OPT_INT(c, n, p, a, lo, hi, h) { MM_OPT_T_INT, c, n, (1 ? (p) : (int64_t *)0), a, lo, hi, h, 0 }
#define MM_OPT_NUM(c, n, p, a, lo, hi, h) { MM_OPT_T_NUM, c, n, (1 ? (p) : (double *)0), a, lo, hi, h, 0 }
#define MM_OPT_STR(c, n, p, a, h) { MM_OPT_T_STR, c, n, (1 ? (p) : (const char **)0), a, 0, 0, h, 0 }
/* the int is set to the index of the choice in a ("cut|split|error") */
#define MM_OPT_ENUM(c, n, p, a, h) { MM_OPT_T_ENUM, c, n, (1 ? (p) : (int *)0), a, 0, 0, h, 0 }
#define MM_OPT_LIST(c, n, p, a, h) { MM_OPT_T_LIST, c, n, (1 ? (p) : (mm_strv *)0), a, 0, 0, h, 0 }
#define MM_OPT_END { MM_OPT_T_END, 0, NULL, NULL, NULL, 0, 0, NULL, 0 }

typedef struct mm_ctx {
    const struct mm_cmd *cmd;
    mm_err err;
    int64_t threads;   /* -j; at least 1 */
    int verbose;       /* -1 quiet (errors only), 0, 1 */
    int progress;      /* 1, 0, or -1: when stderr is a terminal */
    int tty[3];        /* fd 0..2 is a terminal (or said to be by --fake-tty) */
    int warned;
} mm_ctx;

typedef struct mm_cmd {
    const char *name;            /* "mm-embed" */
    const char *summary;         /* one line */
    const char *const *usage;    /* lines after the name, NULL-terminated */
    const mm_opt *opts;          /* the command's own; the common ones are added by the skeleton */
    int (*run)(mm_ctx *c, int argc, char **argv); /* operands only */
} mm_cmd;

int mm_cmd_main(const mm_cmd *cmd, int argc, char **argv);
/* For filters that compute with several threads, first thing in main(): OpenMP's threads give up waiting for each other sooner. gcc's runtime
 * lets them spin for milliseconds, in which a thread that has no processor cannot get on: with one of two processors busy a single
 * picture took some twenty times as long, now three. The runtime reads its setting before main(), hence one exec of ourselves. */
void mm_cmd_calm_threads(char **argv);

/* 1 if the option was given on the command line (by long name, --no- forms included). */
int mm_opt_given(const mm_ctx *c, const char *name);
/* MM_EARG and a message naming the first two options of the NULL-terminated list that were both given; else 0. */
int mm_opt_exclusive(mm_ctx *c, ...) __attribute__((sentinel));

/* Messages on stderr, one write each: "mm-embed: warning: ...". Control characters become '?'. */
void mm_error(mm_ctx *c, const char *fmt, ...) MM_PRINTF(2, 3);
void mm_warn(mm_ctx *c, const char *fmt, ...) MM_PRINTF(2, 3);
void mm_info(mm_ctx *c, const char *fmt, ...) MM_PRINTF(2, 3); /* only with -v */

/* MM_EARG when stdout is a terminal and force is 0: binary data does not go there. */
int mm_refuse_tty(mm_ctx *c, int force);

/* Progress on stderr: shown after a second, ten times a second at most, only on a terminal in the foreground. */
typedef struct mm_progress {
    mm_ctx *c;
    uint64_t total; /* 0: unknown */
    const char *unit;
    double start, last;
    int on, shown;
} mm_progress;
void mm_progress_start(mm_progress *p, mm_ctx *c, const char *unit, uint64_t total);
void mm_progress_tick(mm_progress *p, uint64_t done);
/* The same in two steps, for a text of the caller's: 1 when it is time for one. */
int mm_progress_due(mm_progress *p);
void mm_progress_text(mm_progress *p, const char *text);
void mm_progress_end(mm_progress *p); /* erases the line */

#endif

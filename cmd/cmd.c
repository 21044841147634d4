#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "base/mm_str.h"
#include "cmd/cmd.h"
#include "kernels/mm_kern.h"

#ifndef MM_VERSION
#define MM_VERSION "0.0"
#endif

enum { EXIT_USAGE = 2, EXIT_DATA = 3, EXIT_SYSTEM = 4 };

/* ---- messages ---- */

static void message(mm_ctx *c, const char *level, const char *fmt, va_list ap)
{
    char line[2 * MM_ERR_MSG];
    const char *name = c->cmd->name;
    int n = snprintf(line, sizeof line, "%s: %s", name, level);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    size_t len = (size_t)n + (m < 0 ? 0 : (size_t)m);
    if (len > sizeof line - 2) len = sizeof line - 2;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F) line[i] = '?';
    line[len] = '\n';
    fflush(stdout);
    /* nothing to be done when stderr itself is broken; the exit status still tells */
    if (write(2, line, len + 1) < 0) c->warned |= 2;
}

void mm_error(mm_ctx *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message(c, "", fmt, ap);
    va_end(ap);
}

void mm_warn(mm_ctx *c, const char *fmt, ...)
{
    if (c->verbose < 0) return;
    va_list ap;
    va_start(ap, fmt);
    message(c, "warning: ", fmt, ap);
    va_end(ap);
}

void mm_info(mm_ctx *c, const char *fmt, ...)
{
    if (c->verbose < 1) return;
    va_list ap;
    va_start(ap, fmt);
    message(c, "", fmt, ap);
    va_end(ap);
}

int mm_refuse_tty(mm_ctx *c, int force)
{
    if (!c->tty[1] || force) return 0;
    return mm_fail(&c->err, MM_EARG, "binary output is not written to a terminal (use -o FILE, a pipe, or --force)");
}

/* ---- options ---- */

static struct {
    int help, version, dump, quiet, verbose, progress;
    int64_t threads;
    const char *cpu, *fake_tty;
} common = { .progress = -1 };

static const mm_opt common_opts[] = {
    MM_OPT_GROUP("Common"),
    MM_OPT_INT('j', "threads", &common.threads, "N", 1, 1024, "threads (default: the processors available)"),
    MM_OPT_STR(0, "cpu", &common.cpu, "LEVEL", "highest kernel level to use: ref, avx2, avx512, ... (see mm(7))"),
    MM_OPT_BOOL('q', "quiet", &common.quiet, "errors only"),
    MM_OPT_BOOL('v', "verbose", &common.verbose, "say more"),
    MM_OPT_BOOL(0, "progress", &common.progress, "show progress on stderr (default: when it is a terminal)"),
    MM_OPT_BOOL('h', "help", &common.help, "print this help and exit"),
    MM_OPT_BOOL('V', "version", &common.version, "print version and kernels in use and exit"),
    { MM_OPT_T_BOOL, 0, "mm-options", &common.dump, NULL, 0, 0, "print the option table", 1 },
    { MM_OPT_T_STR, 0, "fake-tty", &common.fake_tty, "FDS", 0, 0, "treat these descriptors as terminals", 1 },
    MM_OPT_END
};

#define MAX_OPTS 128
static const mm_opt *table[MAX_OPTS]; /* the command's own, then the common ones */
static int given[MAX_OPTS];
static int n_opts;

static void build_table(const mm_opt *own)
{
    n_opts = 0;
    for (int pass = 0; pass < 2; pass++)
        for (const mm_opt *o = pass ? common_opts : own; o->type != MM_OPT_T_END; o++) {
            if (n_opts == MAX_OPTS) abort(); /* BUG: raise MAX_OPTS */
            table[n_opts++] = o;
        }
}

static int takes_arg(const mm_opt *o) { return o->type != MM_OPT_T_BOOL; }

int mm_opt_given(const mm_ctx *c, const char *name)
{
    (void)c;
    for (int i = 0; i < n_opts; i++)
        if (table[i]->type != MM_OPT_T_GROUP && !strcmp(table[i]->name, name)) return given[i];
    return 0;
}

int mm_opt_exclusive(mm_ctx *c, ...)
{
    const char *name, *first = NULL;
    int r = 0;
    va_list ap;
    va_start(ap, c);
    while (!r && (name = va_arg(ap, const char *))) {
        if (!mm_opt_given(c, name)) continue;
        if (first) r = mm_fail(&c->err, MM_EARG, "options '--%s' and '--%s' cannot be used together", first, name);
        first = name;
    }
    va_end(ap);
    return r;
}

static int bad_value(mm_ctx *c, const mm_opt *o, const char *val, const char *should)
{
    return mm_fail(&c->err, MM_EARG, "option '--%s': '%s' should be %s", o->name, val, should);
}

static int set_option(mm_ctx *c, const mm_opt *o, const char *val, int negated)
{
    char should[160];
    switch (o->type) {
    case MM_OPT_T_BOOL:
        *(int *)o->target = !negated;
        return 0;
    case MM_OPT_T_INT: {
        int64_t lo = o->min == 0 && o->max == 0 ? INT64_MIN : (int64_t)o->min;
        int64_t hi = o->min == 0 && o->max == 0 ? INT64_MAX : o->max >= 0x1p63 ? INT64_MAX : (int64_t)o->max;
        if (!mm_parse_int(val, lo, hi, o->target)) return 0;
        if (hi == INT64_MAX) snprintf(should, sizeof should, "an integer of at least %lld", (long long)lo);
        else snprintf(should, sizeof should, "an integer from %lld to %lld", (long long)lo, (long long)hi);
        return bad_value(c, o, val, should);
    }
    case MM_OPT_T_NUM: {
        double v;
        size_t len = strlen(val);
        int limited = o->min != 0 || o->max != 0;
        if (len && mm_parse_double(val, len, &v) == len && isfinite(v) && (!limited || (v >= o->min && v <= o->max)))
            return *(double *)o->target = v, 0;
        if (limited) snprintf(should, sizeof should, "a number from %g to %g", o->min, o->max);
        else snprintf(should, sizeof should, "a number");
        return bad_value(c, o, val, should);
    }
    case MM_OPT_T_STR:
        *(const char **)o->target = val;
        return 0;
    case MM_OPT_T_ENUM: {
        size_t len = strlen(val);
        int i = 0;
        for (const char *p = o->arg; *p; i++) {
            size_t n = strcspn(p, "|");
            if (n == len && !memcmp(p, val, n)) return *(int *)o->target = i, 0;
            p += n + (p[n] == '|');
        }
        snprintf(should, sizeof should, "one of %s", o->arg);
        return bad_value(c, o, val, should);
    }
    case MM_OPT_T_LIST: {
        mm_strv *l = o->target;
        const char **v = realloc(l->v, (l->n + 1) * sizeof *v);
        if (!v) return mm_fail(&c->err, MM_ENOMEM, "out of memory");
        l->v = v;
        l->v[l->n++] = val;
        return 0;
    }
    default: return 0;
    }
}

static int parse_options(mm_ctx *c, int argc, char **argv)
{
    static char shorts[2 * MAX_OPTS + 2], no_names[MAX_OPTS][40];
    static struct option longs[2 * MAX_OPTS + 1];
    char *s = shorts;
    int n = 0;
    *s++ = ':'; /* a missing argument is told apart from an unknown option */
    for (int i = 0; i < n_opts; i++) {
        const mm_opt *o = table[i];
        if (o->type == MM_OPT_T_GROUP) continue;
        if (o->ch) {
            *s++ = (char)o->ch;
            if (takes_arg(o)) *s++ = ':';
        }
        longs[n++] = (struct option){ o->name, takes_arg(o), NULL, 256 + i };
        if (o->type == MM_OPT_T_BOOL && !o->hidden) {
            snprintf(no_names[i], sizeof no_names[i], "no-%s", o->name);
            longs[n++] = (struct option){ no_names[i], 0, NULL, 256 + MAX_OPTS + i };
        }
    }
    longs[n] = (struct option){ 0 };
    *s = 0;
    opterr = 0;
    optind = 1;
    for (;;) {
        int at = optind, ch = getopt_long(argc, argv, shorts, longs, NULL);
        if (ch == -1) return 0;
        if (ch == '?' || ch == ':') {
            char what[80];
            /* optopt is a plain character for short options only */
            if (optopt > 0 && optopt < 256 && isprint(optopt)) snprintf(what, sizeof what, "-%c", optopt);
            else snprintf(what, sizeof what, "%s", argv[at < argc && argv[at][0] == '-' ? at : optind - 1]);
            what[strcspn(what, "=")] = 0;
            int like = 0;
            for (int k = 0; !strncmp(what, "--", 2) && k < n; k++) like += !strncmp(longs[k].name, what + 2, strlen(what + 2));
            if (like > 1 && ch == '?' && !optopt) return mm_fail(&c->err, MM_EARG, "option '%s' could be one of %d", what, like);
            return mm_fail(&c->err, MM_EARG, ch == ':' ? "option '%s' needs an argument" :
                           optopt >= 256 ? "option '%s' takes no argument" : "unknown option '%s'", what);
        }
        int i, negated = 0;
        if (ch >= 256) {
            i = ch - 256;
            negated = i >= MAX_OPTS;
            i %= MAX_OPTS;
        } else {
            for (i = 0; table[i]->type == MM_OPT_T_GROUP || table[i]->ch != ch; i++) {}
        }
        given[i] = 1;
        int r = set_option(c, table[i], optarg, negated);
        if (r) return r;
    }
}

static void print_help(const mm_cmd *cmd, FILE *f)
{
    fprintf(f, "%s - %s\n\n", cmd->name, cmd->summary);
    for (int i = 0; cmd->usage[i]; i++) fprintf(f, "%s %s %s\n", i ? "      " : "usage:", cmd->name, cmd->usage[i]);
    for (int i = 0; i < n_opts; i++) {
        const mm_opt *o = table[i];
        if (o->hidden) continue;
        if (o->type == MM_OPT_T_GROUP) {
            fprintf(f, "\n%s:\n", o->name);
            continue;
        }
        char left[120];
        int n = o->ch ? snprintf(left, sizeof left, "  -%c, --%s", o->ch, o->name) :
                        snprintf(left, sizeof left, "      --%s", o->name);
        if (takes_arg(o)) n += snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
        if (n > 30) fprintf(f, "%s\n%32s%s\n", left, "", o->help);
        else fprintf(f, "%-31s %s\n", left, o->help);
    }
    fprintf(f, "\nExit status: 0 ok, 1 some records failed or the answer is no, 2 usage, 3 bad data, 4 system.\n"
               "Manual: man %s\n", cmd->name);
}

/* One line per option: short, long, type, argument, help; tab-separated. Read by scripts/completions and the tests. */
static void dump_options(void)
{
    static const char *const names[] = { "", "", "bool", "int", "num", "str", "enum", "list" };
    for (int i = 0; i < n_opts; i++) {
        const mm_opt *o = table[i];
        if (o->type == MM_OPT_T_GROUP || o->hidden) continue;
        char ch[2] = { (char)o->ch, 0 };
        printf("%s\t%s\t%s\t%s\t%s\n", o->ch ? ch : "-", o->name, names[o->type], o->arg ? o->arg : "-", o->help);
    }
}

static void print_version(const mm_cmd *cmd)
{
    printf("%s %s\nkernels: %s\nthreads: %d\n", cmd->name, MM_VERSION, mm_kern_level_name(mm_kern_get()),
           omp_get_max_threads());
}

/* ---- main ---- */

/* A closed descriptor would be taken by the next open(), and data would land in the wrong file. It is filled with
 * /dev/null opened the wrong way round, so that using it fails as it should. */
static int fill_fds(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return -1;
    return 0;
}

static int exit_status(int code)
{
    if (code >= 0) return code;
    switch (code) {
    case MM_EARG: return EXIT_USAGE;
    case MM_EIO: case MM_ENOMEM: case MM_EDEVICE: case MM_ELOCK: return EXIT_SYSTEM;
    default: return EXIT_DATA;
    }
}

static int close_stdout(mm_ctx *c)
{
    /* errno of a buffered write that failed earlier is gone; ferror still knows that it did */
    int failed = ferror(stdout);
    errno = 0;
    if (fflush(stdout) || failed) {
        mm_error(c, "write failed on <stdout>%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
        return EXIT_SYSTEM;
    }
    if (close(1) && errno != EBADF) {
        mm_error(c, "cannot close <stdout>: %s", strerror(errno));
        return EXIT_SYSTEM;
    }
    return 0;
}

static int dispatch(mm_ctx *c, int argc, char **argv)
{
    int r = parse_options(c, argc, argv);
    if (r) return r;
    if (common.cpu && setenv("MM_CPU", common.cpu, 1)) return mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (common.help) return print_help(c->cmd, stdout), 0;
    if (common.dump) return dump_options(), 0;
    for (int fd = 0; fd < 3; fd++)
        c->tty[fd] = isatty(fd) || (common.fake_tty && strchr(common.fake_tty, '0' + fd));
    c->verbose = common.quiet ? -1 : common.verbose;
    c->progress = common.progress;
    const char *level = getenv("MM_CPU");
    if (level && !mm_cpu_level_known(level))
        return mm_fail(&c->err, MM_EARG, "%s '%s' should be one of %s", common.cpu ? "option '--cpu':" : "MM_CPU:",
                       level, mm_cpu_level_list());
    if (common.threads) omp_set_num_threads((int)common.threads);
    c->threads = common.threads ? common.threads : omp_get_max_threads();
    if (common.version) return print_version(c->cmd), 0;
    return c->cmd->run(c, argc - optind, argv + optind);
}

static void on_signal(int sig)
{
    mm_outfile_unlink_all();
    raise(sig); /* the default action, as SA_RESETHAND has put it back */
}

/* A signal that ends us leaves no temporary file behind. One that our parent ignores stays ignored, except SIGPIPE: a reader
 * that leaves ends us. A file size limit is a failed write, cleaned up after like a full disk. */
static void catch_signals(void)
{
    static const int sigs[] = { SIGHUP, SIGINT, SIGTERM, SIGPIPE };
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER) }, old;
    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
        if (sigs[i] == SIGPIPE || (!sigaction(sigs[i], NULL, &old) && old.sa_handler != SIG_IGN)) sigaction(sigs[i], &sa, NULL);
    signal(SIGXFSZ, SIG_IGN);
    atexit(mm_outfile_unlink_all); /* should a library end us */
}

void mm_cmd_calm_threads(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "10000", 0)) return;
    execv("/proc/self/exe", argv); /* where that is not possible we go on as we are */
}

int mm_cmd_main(const mm_cmd *cmd, int argc, char **argv)
{
    static mm_ctx ctx;
    mm_ctx *c = &ctx;
    c->cmd = cmd;
    if (fill_fds()) return EXIT_SYSTEM;
    catch_signals();
    build_table(cmd->opts);
    int r = dispatch(c, argc, argv);
    int status = exit_status(r);
    if (r < 0) {
        mm_error(c, "%s", c->err.msg[0] ? c->err.msg : mm_err_name(r));
        if (r == MM_EARG) {
            char hint[200];
            int n = snprintf(hint, sizeof hint, "try '%s --help'\n", cmd->name);
            if (write(2, hint, (size_t)n) < 0) status = EXIT_USAGE;
        }
    }
    int s = close_stdout(c);
    return s ? s : status;
}

/* ---- progress ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void mm_progress_start(mm_progress *p, mm_ctx *c, const char *unit, uint64_t total)
{
    int on = c->progress >= 0 ? c->progress : c->tty[2] && c->verbose >= 0;
    *p = (mm_progress){ .c = c, .total = total, .unit = unit, .on = on };
    if (on) p->start = p->last = now();
}

int mm_progress_due(mm_progress *p)
{
    if (!p->on) return 0;
    double t = now();
    if (t - p->start < 1 || t - p->last < 0.1) return 0;
    /* a job in the background must not draw over the user's prompt */
    if (p->c->progress < 0 && isatty(2) && tcgetpgrp(2) != getpgrp()) return 0;
    p->last = t;
    return 1;
}

void mm_progress_text(mm_progress *p, const char *text)
{
    char line[200];
    int n = snprintf(line, sizeof line, "\r%s: %.160s\033[K", p->c->cmd->name, text);
    if (write(2, line, (size_t)n) == n) p->shown = 1;
}

void mm_progress_tick(mm_progress *p, uint64_t done)
{
    if (!mm_progress_due(p)) return;
    char line[160];
    double t = p->last, rate = (double)done / (t - p->start);
    int n = p->total ? snprintf(line, sizeof line, "\r%s: %llu of %llu %s, %.0f/s, %.0f s left\033[K", p->c->cmd->name,
                                (unsigned long long)done, (unsigned long long)p->total, p->unit, rate,
                                rate > 0 && done < p->total ? (double)(p->total - done) / rate : 0.0) :
                       snprintf(line, sizeof line, "\r%s: %llu %s, %.0f/s\033[K", p->c->cmd->name,
                                (unsigned long long)done, p->unit, rate);
    if (write(2, line, (size_t)n) == n) p->shown = 1;
}

void mm_progress_end(mm_progress *p)
{
    if (p->shown && write(2, "\r\033[K", 4) == 4) p->shown = 0;
}

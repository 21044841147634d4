/* Metrics as a picture, by gnuplot. It reads its commands, with the numbers among them, from a file without a name, and writes to ours. */
#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "base/mm_json.h"
#include "train/mm_trainer.h"

#define METRICS_MAX ((size_t)1 << 32)
#define MAX_CURVES 64
#define SMOOTH 0.98 /* of the thick line */

extern char **environ;

typedef struct curve {
    char *name;
    mm_buf data;
    double mean, weight;
} curve;

typedef struct curves {
    curve c[MAX_CURVES];
    size_t n;
} curves;

static int has_end(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

int mm_plot_check(const char *path, mm_err *err)
{
    if (!has_end(path, ".png") && !has_end(path, ".svg"))
        return mm_fail(err, MM_EARG, "a plot's name ends in .png or .svg, '%s' does not", path);
    const char *dirs = getenv("PATH");
    for (size_t n; dirs && *dirs; dirs += n + (dirs[n] == ':')) {
        char one[4096];
        n = strcspn(dirs, ":");
        if (snprintf(one, sizeof one, "%.*s/gnuplot", (int)n, dirs) < (int)sizeof one && !access(one, X_OK)) return 0;
    }
    return mm_fail(err, MM_EIO, "plots are made by gnuplot, which is not installed (Debian: gnuplot-nox)");
}

/* NULL: one name too many, or no memory; data.failed tells of the latter. */
static curve *find(curves *all, const char *name)
{
    for (size_t i = 0; i < all->n; i++)
        if (!strcmp(all->c[i].name, name)) return &all->c[i];
    if (all->n == MAX_CURVES) return NULL;
    curve *c = &all->c[all->n];
    *c = (curve){ .name = strdup(name) };
    return c->name ? all->n++, c : NULL;
}

static void point(curves *all, const char *name, json_int_t step, const json_t *value)
{
    curve *c = json_is_number(value) ? find(all, name) : NULL;
    if (!c) return;
    double y = json_number_value(value);
    c->mean = SMOOTH * c->mean + (1 - SMOOTH) * y;
    c->weight = SMOOTH * c->weight + (1 - SMOOTH);
    mm_buf_addf(&c->data, "%lld %.7g %.7g\n", (long long)step, y, c->mean / c->weight);
}

/* Lines that are no JSON, as a killed run may leave one, are passed over. */
static void read_lines(const char *p, size_t len, curves *loss, curves *score, curves *rate)
{
    const char *key;
    json_t *v;
    for (size_t at = 0; at < len;) {
        const char *nl = memchr(p + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - p) - at : len - at;
        json_t *j = json_loadb(p + at, n, 0, NULL), *step = json_object_get(j, "step");
        at += n + 1;
        if (json_is_integer(step)) {
            json_int_t s = json_integer_value(step);
            json_object_foreach(json_object_get(j, "loss"), key, v) point(loss, key, s, v);
            json_object_foreach(json_object_get(j, "validation"), key, v) point(score, key, s, v);
            point(score, "score", s, json_object_get(j, "score"));
            point(rate, "learning rate", s, json_object_get(j, "lr"));
        }
        json_decref(j);
    }
}

static void quoted(mm_buf *b, const char *s)
{
    mm_buf_addc(b, '\'');
    for (; *s; s++) {
        if (*s == '\'') mm_buf_addc(b, '\'');
        mm_buf_addc(b, (unsigned char)*s < 32 ? ' ' : *s);
    }
    mm_buf_addc(b, '\'');
}

/* Numbers of the curves as $A0, $A1 ... */
static void define(mm_buf *b, char letter, const curves *all)
{
    for (size_t i = 0; i < all->n; i++) mm_buf_addf(b, "$%c%zu << EOD\n%sEOD\n", letter, i, all->c[i].data.p ? all->c[i].data.p : "");
}

static void script(mm_buf *b, const char *path, const char *title, const curves *loss, const curves *score, const curves *rate)
{
    define(b, 'L', loss);
    define(b, 'S', score);
    define(b, 'R', rate);
    mm_buf_addf(b, "set terminal %s size 1000,800 noenhanced\n", has_end(path, ".svg") ? "svg" : "pngcairo");
    mm_buf_adds(b, "set multiplot layout 2,1 title ");
    quoted(b, title);
    mm_buf_adds(b, "\nset key outside right\nset grid\nset xlabel 'step'\nset ylabel 'loss'\n");
    for (size_t i = 0; i < loss->n; i++) {
        mm_buf_addf(b, "%s$L%zu using 1:2 with lines linewidth 1 linecolor rgb '#cccccc' notitle", i ? ", " : "plot ", i);
    }
    for (size_t i = 0; i < loss->n; i++) {
        mm_buf_addf(b, ", $L%zu using 1:3 with lines linewidth 2 linecolor %zu title ", i, i + 1);
        quoted(b, loss->c[i].name);
    }
    if (score->n) mm_buf_adds(b, "\nset ylabel 'score'\nset y2label 'learning rate'\nset y2tics\nset ytics nomirror\n");
    else mm_buf_adds(b, "\nset ylabel 'learning rate'\n");
    for (size_t i = 0; i < score->n; i++) {
        mm_buf_addf(b, "%s$S%zu using 1:2 with linespoints linewidth 2 linecolor %zu title ", i ? ", " : "plot ", i, i + 1);
        quoted(b, score->c[i].name);
    }
    if (rate->n)
        mm_buf_addf(b, "%s$R0 using 1:2 axes %s with lines linecolor rgb '#888888' title 'learning rate'", score->n ? ", " : "plot ",
                    score->n ? "x1y2" : "x1y1");
    mm_buf_adds(b, "\nunset multiplot\n");
}

/* What gnuplot said, on one line. */
static int failed(int said, mm_err *err)
{
    char text[200];
    ssize_t n = pread(said, text, sizeof text - 1, 0);
    if (n < 0) n = 0;
    for (ssize_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 32) text[i] = ' ';
    text[n] = 0;
    return mm_fail(err, MM_EDATA, "gnuplot made no picture: %s", text + strspn(text, " "));
}

static int run_gnuplot(int in, int out, int said, mm_err *err)
{
    posix_spawn_file_actions_t a;
    char *const argv[] = { (char[]){ "gnuplot" }, NULL };
    pid_t pid;
    int status = 0, e = ENOMEM;
    if (posix_spawn_file_actions_init(&a)) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (!posix_spawn_file_actions_adddup2(&a, in, 0) && !posix_spawn_file_actions_adddup2(&a, out, 1) &&
        !posix_spawn_file_actions_adddup2(&a, said, 2))
        e = posix_spawnp(&pid, "gnuplot", &a, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&a);
    if (e) {
        errno = e;
        return mm_fail_errno(err, "cannot start gnuplot");
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return mm_fail_errno(err, "cannot wait for gnuplot");
    return !status && lseek(out, 0, SEEK_CUR) > 0 ? 0 : failed(said, err);
}

static int draw(const char *path, const mm_buf *commands, mm_err *err)
{
    mm_outfile f;
    int fd = memfd_create("mm-plot", MFD_CLOEXEC), said = memfd_create("mm-plot-said", MFD_CLOEXEC);
    int r = fd < 0 || said < 0 ? mm_fail_errno(err, "cannot plot") : 0;
    if (!r) r = mm_write_all(fd, commands->p, commands->len, err);
    if (!r && lseek(fd, 0, SEEK_SET)) r = mm_fail_errno(err, "cannot plot");
    if (!r && !(r = mm_outfile_open(&f, path, err))) {
        r = run_gnuplot(fd, f.fd, said, err);
        if (!r) r = mm_outfile_commit(&f, err);
        else mm_outfile_abort(&f);
    }
    if (fd >= 0) close(fd);
    if (said >= 0) close(said);
    return r;
}

int mm_plot(const char *path, const char *metrics, mm_err *err)
{
    mm_buf text = { 0 }, commands = { 0 };
    curves *all = calloc(3, sizeof *all);
    int r = mm_plot_check(path, err);
    if (!r && !all) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) r = mm_file_read(&text, metrics, METRICS_MAX, err);
    if (!r) {
        read_lines(text.p ? text.p : "", text.len, &all[0], &all[1], &all[2]);
        if (!all[0].n) r = mm_fail(err, MM_EDATA, "'%s' has no losses to plot", metrics);
    }
    if (!r) {
        script(&commands, path, metrics, &all[0], &all[1], &all[2]);
        for (size_t i = 0; i < 3 * MAX_CURVES; i++) commands.failed |= all[i / MAX_CURVES].c[i % MAX_CURVES].data.failed;
        r = commands.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : draw(path, &commands, err);
    }
    for (size_t i = 0; all && i < 3 * MAX_CURVES; i++) {
        free(all[i / MAX_CURVES].c[i % MAX_CURVES].name);
        mm_buf_clear(&all[i / MAX_CURVES].c[i % MAX_CURVES].data);
    }
    free(all);
    mm_buf_clear(&text);
    mm_buf_clear(&commands);
    return r;
}

/* Checkpoints: what is written comes back, to the bit; what does not belong here is refused by name; what was there survives. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "tap.h"
#include "train/mm_ckpt.h"

static char dir[] = "/tmp/mm-ckpt-XXXXXX", path[64];

typedef struct {
    mm_pset ps;
    mm_param a, b, f;
} set;

enum { PLAIN, WIDER, MORE, LORA };

static void make(set *s, int kind, float frozen)
{
    mm_err err = { 0 };
    float w[6] = { frozen, 1, 2, 3, 4, 5 };
    *s = (set){ .a = { .rows = 40, .cols = kind == WIDER ? 31 : 30 },
                .b = { .rows = 1, .cols = 7 },
                .f = { .w = w, .rows = 2, .cols = 3 } };
    int r = mm_pset_add(&s->ps, "blk.a", &s->a, 0, 1, &err) || mm_pset_add(&s->ps, kind == MORE ? "blk.c" : "blk.b", &s->b, 0, 1, &err) ||
            mm_pset_add(&s->ps, "tok", &s->f, MM_PSET_FROZEN, 1, &err) || (kind == LORA && mm_pset_lora(&s->ps, "blk.a", 2, 1, 3, &err)) ||
            mm_pset_build(&s->ps, &err);
    if (r) ok(0, "set: %s", err.msg);
}

static void steps(set *s, int n)
{
    const mm_optim o = MM_OPTIM_INIT;
    for (; n; n--) {
        for (size_t i = 0; i < s->a.rows * s->a.cols; i++) s->a.grad[i] = (float)((i * 7 + (size_t)s->ps.t * 13) % 11) - 5;
        for (size_t i = 0; i < 7; i++) s->b.grad[i] = (float)i;
        if (mm_pset_step(&s->ps, &o, 0.01, 1, 1, NULL)) ok(0, "step");
    }
}

static int same(const set *a, const set *b)
{
    const size_t n = a->ps.size * sizeof(float);
    return !memcmp(a->ps.w, b->ps.w, a->ps.size_all * sizeof(float)) && !memcmp(a->ps.m, b->ps.m, n) && !memcmp(a->ps.v, b->ps.v, n) &&
           !memcmp(a->ps.ema, b->ps.ema, n) && a->ps.t == b->ps.t && a->ps.scale == b->ps.scale && a->ps.good == b->ps.good;
}

static int files(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static int write_to(const set *s, const float *best, uint64_t step, const char *config, int keep, mm_err *err)
{
    mm_ckpt c = { step, json_pack("{s:i,s:f}", "stage", 2, "score", 0.1), json_loads(config, 0, NULL), 0 };
    int r = mm_ckpt_write(path, &s->ps, best, &c, keep, err);
    mm_ckpt_clear(&c);
    return r;
}

static int read_from(const char *file, set *s, float *best, const char *config, mm_ckpt *c, mm_err *err)
{
    json_t *j = json_loads(config, 0, NULL);
    int r = mm_ckpt_read(file, &s->ps, best, j, c, err);
    json_decref(j);
    return r;
}

static const char config[] = "{\"lr\":0.001,\"batch\":{\"text\":64,\"image\":32},\"data\":[\"a\",\"b\"]}";

static void round_trip(int kind)
{
    set s, t;
    mm_ckpt c;
    mm_err err = { 0 };
    make(&s, kind, 0);
    make(&t, kind, 0);
    steps(&s, 5);
    s.ps.scale = 0.5f;
    s.ps.good = 17;
    float *best = malloc(s.ps.size * sizeof *best), *back = calloc(s.ps.size, sizeof *back);
    for (size_t i = 0; i < s.ps.size; i++) best[i] = s.ps.ema[i] != 0 ? s.ps.ema[i] + 1 : 0;
    is_int(write_to(&s, best, UINT64_C(1) << 40, config, 1, &err), 0, "written");
    is_int(read_from(path, &t, back, config, &c, &err), 0, "read");
    ok(same(&s, &t) && !memcmp(best, back, s.ps.size * sizeof *best) && c.has_best, "all is as it was, what additions change too");
    ok(c.step == UINT64_C(1) << 40 && json_integer_value(json_object_get(c.state, "stage")) == 2 &&
           json_real_value(json_object_get(c.state, "score")) == 0.1, "the step and the trainer's state");
    mm_ckpt_clear(&c);
    steps(&s, 3);
    steps(&t, 3);
    ok(same(&s, &t), "and goes on to the same bits");
    ok(!write_to(&s, NULL, 3, config, 1, &err) && !read_from(path, &t, back, config, &c, &err) && !c.has_best, "without a best");
    mm_ckpt_clear(&c);
    is_int(files(), 1, "one file");
    free(best);
    free(back);
    mm_pset_clear(&s.ps);
    mm_pset_clear(&t.ps);
}

static void refused(void)
{
    set s, t, before;
    mm_ckpt c;
    mm_err err = { 0 };
    make(&s, PLAIN, 0);
    make(&t, PLAIN, 0);
    make(&before, PLAIN, 0);
    steps(&s, 2);
    if (write_to(&s, NULL, 9, config, 1, &err)) ok(0, "%s", err.msg);
    is_int(read_from(path, &t, NULL, "{\"lr\":0.002,\"batch\":{\"text\":64},\"data\":[\"a\",\"b\"],\"new\":1}", &c, &err), MM_EARG,
           "another configuration is refused");
    ok(strstr(err.msg, "lr: 0.001, now 0.002") && strstr(err.msg, "batch.image: 32, now not given") &&
           strstr(err.msg, "new: not given, now 1"),
       "with what differs: %s", err.msg);

    char text[300], now[300];
    snprintf(text, sizeof text, "{\"data\":\"%0150d a\"}", 0);
    snprintf(now, sizeof now, "{\"data\":\"%0150d b\"}", 0);
    json_t *const was = json_loads(text, 0, NULL), *const is = json_loads(now, 0, NULL);
    mm_buf diff = { 0 };
    is_int(mm_config_diff(&diff, was, is), 0, "compared");
    ok(diff.p && strstr(diff.p, "00 a\", now ...0") && strstr(diff.p, "00 b\"") && diff.len < 100,
       "of long values what differs: %s", diff.p ? diff.p : "");
    mm_buf_clear(&diff);
    json_decref(was);
    json_decref(is);
    ok(same(&t, &before), "nothing is changed by a refused one");
    set o;
    make(&o, WIDER, 0);
    ok(read_from(path, &o, NULL, config, &c, &err) == MM_ESHAPE && strstr(err.msg, "blk.a"), "another shape: %s", err.msg);
    mm_pset_clear(&o.ps);
    make(&o, MORE, 0);
    ok(read_from(path, &o, NULL, config, &c, &err) == MM_ESHAPE && strstr(err.msg, "blk.c"), "another weight: %s", err.msg);
    mm_pset_clear(&o.ps);
    make(&o, LORA, 0);
    ok(read_from(path, &o, NULL, config, &c, &err) == MM_ESHAPE && strstr(err.msg, "lora_a"), "one that is trained by an addition: %s",
       err.msg);
    mm_pset_clear(&o.ps);
    make(&o, PLAIN, 0.5f);
    is_int(read_from(path, &o, NULL, config, &c, &err), MM_EMODEL, "other frozen weights");
    mm_pset_clear(&o.ps);
    ok(!mm_ckpt_peek(path, &c, &err) && c.step == 9 && json_object_size(c.config) == 3, "looked at without a set");
    mm_ckpt_clear(&c);

    mm_buf file = { 0 };
    int bad = 0, n = 0;
    if (mm_file_read(&file, path, 1 << 20, &err)) ok(0, "%s", err.msg);
    char other[80];
    snprintf(other, sizeof other, "%s/other", dir);
    for (size_t at = 0; at < file.len; at += at < 2048 ? 97 : 997) { /* a flipped bit anywhere */
        mm_outfile f;
        file.p[at] = (char)(file.p[at] ^ 4);
        if (mm_outfile_open(&f, other, &err) || mm_outfile_write(&f, file.p, file.len, &err) || mm_outfile_commit(&f, &err))
            ok(0, "%s", err.msg);
        file.p[at] = (char)(file.p[at] ^ 4);
        if (!read_from(other, &t, NULL, config, &c, &err)) {
            printf("# byte %zu\n", at);
            bad++;
        }
        n++;
    }
    ok(!bad && n > 20, "%d files with one wrong bit are refused", n);
    for (size_t len = 0; len < file.len; len += 1500) {
        if (truncate(other, (off_t)(file.len - len - 1)) || !read_from(other, &t, NULL, config, &c, &err)) bad++;
    }
    is_int(bad, 0, "cut files are refused");
    is_int(read_from("/nowhere/x", &t, NULL, config, &c, &err), MM_EIO, "a missing one");
    unlink(other);
    mm_buf_clear(&file);
    s.ps.swapped = 1;
    is_int(write_to(&s, NULL, 9, config, 1, &err), MM_EARG, "averaged weights are no checkpoint");
    mm_pset_clear(&s.ps);
    mm_pset_clear(&t.ps);
    mm_pset_clear(&before.ps);
}

static void no_space(void)
{
    set s;
    mm_ckpt c;
    mm_err err = { 0 };
    make(&s, PLAIN, 0);
    if (write_to(&s, NULL, 1, config, 1, &err)) ok(0, "%s", err.msg);
    for (int keep = 1; keep <= 3; keep += 2) {
        pid_t pid = fork(); /* the limit can only be lowered */
        if (!pid) {
            struct rlimit l = { 9000, 9000 };
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &l);
            _exit(write_to(&s, NULL, 2, config, keep, &err) == MM_EIO ? 0 : 1);
        }
        int status = 1;
        waitpid(pid, &status, 0);
        is_int(status, 0, "no space: MM_EIO");
        ok(files() == 1 && !mm_ckpt_peek(path, &c, &err) && c.step == 1, "the one before is there, and nothing else");
        mm_ckpt_clear(&c);
    }
    mm_pset_clear(&s.ps);
}

static uint64_t step_of(int i)
{
    char p[80];
    mm_ckpt c;
    snprintf(p, sizeof p, i ? "%s.%d" : "%s", path, i);
    if (mm_ckpt_peek(p, &c, NULL)) return 0;
    uint64_t step = c.step;
    mm_ckpt_clear(&c);
    return step;
}

static void touch(const char *tail)
{
    char p[90];
    snprintf(p, sizeof p, "%s%s", path, tail);
    int fd = open(p, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
}

static void many(void)
{
    set s;
    mm_err err = { 0 };
    make(&s, PLAIN, 0);
    int bad = 0;
    for (uint64_t i = 2; i <= 6; i++) bad += write_to(&s, NULL, i, config, 3, &err) != 0;
    ok(!bad && step_of(0) == 6 && step_of(1) == 5 && step_of(2) == 4 && !step_of(3), "the last three are kept");
    is_int(files(), 3, "and nothing else");

    int fd, fd2;
    touch(".new");
    touch(".tmp-4711-0");
    touch(".new.tmp-4711-3");
    touch("x.tmp-1-1"); /* another one's */
    is_int(mm_ckpt_lock(path, &fd, &err), 0, "locked");
    is_int(files(), 3 + 2, "what killed runs left is gone, what is another's stays");
    is_int(mm_ckpt_lock(path, &fd2, &err), MM_ELOCK, "a second run is told so");
    mm_ckpt_unlock(path, fd);
    ok(!mm_ckpt_lock(path, &fd, &err) && (mm_ckpt_unlock(path, fd), 1), "afterwards it may");
    mm_ckpt_remove(path, 1);
    is_int(files(), 1, "removed with the older ones");
    mm_pset_clear(&s.ps);
}

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/m.ckpt", dir);
    round_trip(PLAIN);
    round_trip(LORA);
    refused();
    no_space();
    many();
    char p[80];
    snprintf(p, sizeof p, "%sx.tmp-1-1", path);
    unlink(p);
    rmdir(dir);
    return done();
}

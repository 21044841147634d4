/* A bert as parameters: the vectors of the model, gradients that are the slope, steps that do not depend on threads, a file that is read again. */
#include <math.h>
#include <unistd.h>
#include "quant/mm_quant.h"
#include "tap.h"
#include "tinybert.h"
#include "train/mm_optim.h"
#include "train/text_task.h"

static const char *const things[] = { "the cat sat on the mat", "hello world", "many dogs at once", "search by meaning", "un", "running" };
enum { TEXTS = 6 };

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i], bb += (double)b[i] * (double)b[i];
    return ab / sqrt(aa * bb);
}

typedef struct {
    mm_text_net *net;
    mm_pset ps;
    mm_arena arena;
    const int32_t *ids;
    const size_t *off;
} run;

static int run_open(run *r, mm_model *m)
{
    *r = (run){ 0 };
    if (mm_text_net_open(&r->net, m, &err)) return -1;
    for (size_t i = 0; i < mm_text_net_count(r->net); i++)
        if (mm_pset_add(&r->ps, mm_text_net_at(r->net, i)->name, &mm_text_net_at(r->net, i)->p, MM_PSET_DECAY, 1, &err)) return -1;
    if (mm_pset_build(&r->ps, &err)) return -1;
    mm_text_net_bind(r->net);
    return 0;
}

static void run_close(run *r)
{
    mm_pset_clear(&r->ps);
    mm_text_net_free(&r->net);
    mm_arena_clear(&r->arena);
}

/* sum of cot * z in float64; with a tape its gradients are added */
static double value(run *r, const float *cot, mm_tape *tape)
{
    mm_graph g = { .kern = mm_kern_get(), .arena = &r->arena, .threads = 1, .tape = tape };
    mm_arena_reset(&r->arena);
    mm_tensor z = mm_text_net_embed(&g, r->net, r->ids, r->off, TEXTS);
    double s = 0;
    for (size_t i = 0; z.p && i < z.rows * z.cols; i++) s += (double)cot[i] * (double)z.p[i];
    if (tape) mm_tape_seed_grad(&g, z, cot);
    if (tape && mm_tape_backward(&g)) return NAN;
    return g.failed ? NAN : s;
}

/* Along its own gradient a function rises by the gradient's square, for every parameter by itself. */
static void gradients(run *r, const float *cot, mm_keep keep, double bound)
{
    mm_tape *tape = mm_tape_new(keep);
    mm_pset_zero(&r->ps);
    value(r, cot, tape);
    mm_tape_free(&tape);
    double worst = 0;
    const char *name = "";
    int some = 1;
    for (size_t i = 0; i < mm_text_net_count(r->net); i++) {
        mm_param *p = &mm_text_net_at(r->net, i)->p;
        const size_t n = p->rows * p->cols;
        double square = 0;
        for (size_t k = 0; k < n; k++) square += (double)p->grad[k] * (double)p->grad[k];
        some &= square > 0;
        const double step = 3e-3 / sqrt(square);
        float *was = malloc(n * sizeof *was);
        memcpy(was, p->w, n * sizeof *was);
        for (size_t k = 0; k < n; k++) p->w[k] = was[k] + (float)(step * (double)p->grad[k]);
        double up = value(r, cot, NULL);
        for (size_t k = 0; k < n; k++) p->w[k] = was[k] - (float)(step * (double)p->grad[k]);
        up -= value(r, cot, NULL);
        memcpy(p->w, was, n * sizeof *was);
        free(was);
        double off = fabs(up / (2 * step * square) - 1);
        if (off > worst) worst = off, name = mm_text_net_at(r->net, i)->name;
    }
    ok(some && worst < bound, "gradients are the slope (kept as %d): off by %.4f at most, %s", (int)keep, worst, name);
}

static void steps(mm_model *m, mm_teacher *teacher, const mm_pairs *pairs, int threads, float *w, float *first, float *last)
{
    const mm_optim o = MM_OPTIM_INIT;
    float loss[MM_TEXT_LOSSES] = { 0 };
    run r;
    mm_text_task *t = NULL;
    mm_text_task_opts opts = { .tok = mm_model_tokenizer(m), .window = 8, .pairs = pairs, .teacher = teacher, .weight = { 1, 0.5f }, .texts = 4,
                               .threads = threads, .seed = 3 };
    int bad = run_open(&r, m);
    opts.net = r.net;
    if (!bad) bad = mm_text_task_open(&t, &opts, &err);
    for (uint64_t s = 0; s < 40 && !bad; s++) {
        mm_pset_zero(&r.ps);
        bad = mm_text_task_step(t, s, 1, loss, &err) || mm_pset_step(&r.ps, &o, 3e-3, 1, threads, NULL) < 0;
        if (!s) *first = loss[0] + loss[1];
    }
    *last = bad ? NAN : loss[0] + loss[1];
    memcpy(w, r.ps.w, r.ps.size * sizeof *w);
    mm_text_task_close(&t);
    run_close(&r);
}

int main(void)
{
    char dir[64], path[3][96];
    snprintf(dir, sizeof dir, "/tmp/test-text-net-%ld", (long)getpid());
    tinybert(dir, 32, 64, 0);
    for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s/%d.gguf", dir, i);
    mm_model *m = NULL, *small = NULL, *again = NULL;
    int r = mm_quant_convert(dir, path[0], &(mm_quant_opts){ .type = MM_F32 }, NULL, &err);
    if (!r) r = mm_quant_convert(dir, path[1], &(mm_quant_opts){ .type = MM_F32, .prune = "layers=1,heads=2,ffn=24" }, NULL, &err);
    if (!r) r = mm_model_open(&m, path[0], NULL, &err);
    if (!r) r = mm_model_open(&small, path[1], NULL, &err);
    if (!ok(!r, "models: %s", err.msg)) return done();

    int32_t ids[TEXTS * 48];
    size_t off[TEXTS + 1] = { 0 };
    mm_text_out res;
    for (size_t i = 0; i < TEXTS; i++) {
        size_t n;
        check(mm_model_text_ids(m, (mm_text_in){ things[i], strlen(things[i]) }, ids + off[i], &n, &res, &err));
        off[i + 1] = off[i] + n;
    }
    float want[TEXTS * 32], cot[TEXTS * 32];
    for (int k = 0; k < 2; k++) {
        mm_model *which = k ? small : m;
        run a;
        if (!ok(!run_open(&a, which), "parameters: %s", err.msg)) return done();
        a.ids = ids;
        a.off = off;
        check(mm_model_embed_ids(which, ids, off, TEXTS, want, &err));
        mm_graph g = { .kern = mm_kern_get(), .arena = &a.arena, .threads = 1 };
        mm_tensor z = mm_text_net_embed(&g, a.net, ids, off, TEXTS);
        double worst = 1;
        for (size_t i = 0; i < TEXTS; i++) worst = fmin(worst, cosine(want + i * 32, z.p + i * 32, 32));
        ok(worst > 0.999999, "the model's vectors: cosine %.9f", worst);
        for (size_t i = 0; i < TEXTS * 32; i++) cot[i] = rnd();
        gradients(&a, cot, MM_KEEP_F32, 0.02);
        if (k) gradients(&a, cot, MM_KEEP_BF16, 0.1);
        mm_err no = { 0 };
        ok(!mm_text_net_write(a.net, path[2], MM_F32, "{\"a\":1}", &no) && !mm_model_open(&again, path[2], NULL, &no), "written and read: %s", no.msg);
        float got[TEXTS * 32];
        check(mm_model_embed_ids(again, ids, off, TEXTS, got, &err));
        ok(!memcmp(got, want, sizeof got), "what is written is what was read");
        mm_model_close(&again);
        run_close(&a);
    }

    mm_teacher *teacher;
    mm_text_pair p[TEXTS];
    for (size_t i = 0; i < TEXTS; i++) {
        const char *other = things[TEXTS - 1 - i];
        p[i] = (mm_text_pair){ things[i], strlen(things[i]), other, strlen(other), 1, MM_TEXT_SENTENCE };
    }
    const mm_pairs pairs = { .p = p, .n = TEXTS };
    check(mm_teacher_open(&teacher, m, NULL, &err));
    float *one = calloc(1 << 16, sizeof *one), *two = calloc(1 << 16, sizeof *two), first = NAN, last = NAN;
    steps(small, teacher, &pairs, 1, one, &first, &last);
    ok(last < 0.8f * first, "the losses fall: %.3f to %.3f", (double)first, (double)last);
    steps(small, teacher, &pairs, 2, two, &first, &last);
    ok(!memcmp(one, two, (1 << 16) * sizeof *one), "the same bits with two threads");
    free(one);
    free(two);
    mm_teacher_close(&teacher);
    mm_model_close(&m);
    mm_model_close(&small);
    char rm[96];
    snprintf(rm, sizeof rm, "rm -rf '%s'", dir);
    ok(system(rm) == 0, "tidied up");
    return done();
}

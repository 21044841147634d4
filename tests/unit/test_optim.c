/* The parameter set and the optimizer's step, against the same step written in double; additions of low rank; schedules. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include "tap.h"
#include "train/mm_optim.h"

static uint64_t seed = 1;
static float unit(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) * 0x1p-23f - 1;
}
static void fill(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = unit();
}

enum { ROWS = 37, COLS = 1001 }; /* the matrix is cut into three pieces, the last an odd one */

typedef struct {
    mm_pset ps;
    mm_param a, bias, frozen;
    float *w0;
} set;

static void make(set *s, unsigned flags)
{
    *s = (set){ .a = { .rows = ROWS, .cols = COLS }, .bias = { .rows = 1, .cols = 19 }, .frozen = { .rows = 5, .cols = 3 } };
    mm_err err;
    seed = 7;
    s->w0 = malloc(ROWS * COLS * sizeof(float));
    fill(s->w0, ROWS * COLS);
    s->a.w = s->w0;
    int r = mm_pset_add(&s->ps, "blk.0.a", &s->a, MM_PSET_DECAY | flags, 1, &err) ||
            mm_pset_add(&s->ps, "blk.0.bias", &s->bias, MM_PSET_DECAY, 0.5f, &err) ||
            mm_pset_add(&s->ps, "tok", &s->frozen, 0, 1, &err) || mm_pset_freeze(&s->ps, "tok*", &err);
    if (r) ok(0, "set: %s", err.msg);
}
static void clear(set *s)
{
    mm_pset_clear(&s->ps);
    free(s->w0);
}

static void layout(void)
{
    set s;
    mm_err err = { 0 };
    make(&s, 0);
    is_int(mm_pset_add(&s.ps, "tok", &s.bias, 0, 1, &err), MM_EARG, "a name is used once");
    is_int(mm_pset_freeze(&s.ps, "blk.*,nothing.*", &err), MM_EARG, "a pattern that matches nothing is refused");
    ok(strstr(err.msg, "nothing.*") != NULL, "... and named: %s", err.msg);
    is_int(mm_pset_freeze(&s.ps, "", &err), MM_EARG, "and an empty list");
    is_int(mm_pset_build(&s.ps, &err), 0, "built");
    ok(s.a.w != s.w0 && !memcmp(s.a.w, s.w0, ROWS * COLS * sizeof(float)), "weights are copied in");
    ok(!((uintptr_t)s.a.w % 64) && !((uintptr_t)s.bias.w % 64) && !((uintptr_t)s.bias.grad % 64), "pieces are aligned");
    ok(!s.frozen.grad && s.frozen.w && s.frozen.w[14] == 0, "a frozen weight has no gradient; one without values is zeros");
    ok(s.ps.count == ROWS * COLS + 19 + 15 && s.ps.trained == ROWS * COLS + 19, "parameters are counted");
    ok(s.ps.size_all - s.ps.size == 16, "moments are kept for what is trained alone");
    clear(&s);
    ok(!s.a.w && !s.a.grad, "afterwards the parameters have no memory");
    make(&s, 0);
    ok(!mm_pset_freeze(&s.ps, "*", &err) && mm_pset_build(&s.ps, &err) == MM_EARG, "all frozen: nothing to train");
    clear(&s);
}

/* The same in double. */
typedef struct {
    double *w, *m, *v, *ema;
} mirror;

static void mirror_step(mirror *k, const float *g, size_t n, const mm_optim *o, double lr, double wd, double gscale, int t, double keep)
{
    for (size_t i = 0; i < n; i++) {
        double x = g[i] * gscale;
        k->m[i] = (double)o->beta1 * k->m[i] + (1 - (double)o->beta1) * x;
        k->v[i] = (double)o->beta2 * k->v[i] + (1 - (double)o->beta2) * x * x;
        double a = k->m[i] / (1 - pow((double)o->beta1, t)), b = k->v[i] / (1 - pow((double)o->beta2, t));
        k->w[i] -= lr * (a / (sqrt(b) + (double)o->eps) + wd * k->w[i]);
        k->ema[i] = keep * k->ema[i] + (1 - keep) * k->w[i];
    }
}

static double worst(const float *a, const double *b, size_t n)
{
    double x = 0;
    for (size_t i = 0; i < n; i++) x = fmax(x, fabs(a[i] - b[i]));
    return x;
}

static void steps(void)
{
    set s;
    mm_err err;
    const size_t na = ROWS * COLS, nb = 19;
    mirror a = { calloc(na, 8), calloc(na, 8), calloc(na, 8), calloc(na, 8) };
    mirror b = { calloc(nb, 8), calloc(nb, 8), calloc(nb, 8), calloc(nb, 8) };
    const mm_optim o = { 0.9f, 0.98f, 1e-6f, 0.1f, 3, 0.8f, 0 };
    make(&s, 0);
    if (mm_pset_build(&s.ps, &err)) { ok(0, "%s", err.msg); return; }
    for (size_t i = 0; i < na; i++) a.w[i] = a.ema[i] = (double)s.a.w[i];
    int bad = 0, clipped = 0;
    double norms = 0;
    for (int t = 1; t <= 12; t++) {
        mm_pset_zero(&s.ps);
        double scale = t % 3 ? 1 : 1e-3, norm = 0;
        for (size_t i = 0; i < na; i++) norm += pow(s.a.grad[i] = (float)(scale * (double)unit()), 2);
        for (size_t i = 0; i < nb; i++) norm += pow(s.bias.grad[i] = (float)(scale * (double)unit()), 2);
        norm = sqrt(norm) / 4;
        mm_step_info info;
        bad += mm_pset_step(&s.ps, &o, 0.01 * t, 4, 2, &info) != 0;
        norms = fmax(norms, fabs(info.norm / norm - 1));
        double clip = norm > 3 ? 3 / norm : 1, keep = fmin((double)0.8f, (1.0 + t) / (20.0 + t));
        clipped += clip < 1;
        mirror_step(&a, s.a.grad, na, &o, 0.01 * t, (double)o.wd, clip / 4, t, keep);
        mirror_step(&b, s.bias.grad, nb, &o, 0.005 * t, 0, clip / 4, t, keep);
    }
    is_int(bad, 0, "twelve steps");
    is_int(clipped, 8, "some of them clipped");
    ok(norms < 1e-6, "norms of gradients (%.2g)", norms);
    double x = worst(s.a.w, a.w, na), y = worst(s.bias.w, b.w, nb);
    ok(x < 1e-5 && y < 1e-5, "weights are those of the step in double: decay on the matrix, half the rate on the bias (%.2g, %.2g)", x, y);
    x = worst(s.ps.m + s.ps.item[0].at, a.m, na);
    y = worst(s.ps.ema + s.ps.item[0].at, a.ema, na);
    ok(x < 1e-6 && y < 1e-5, "moments and averages (%.2g, %.2g)", x, y);
    ok(s.frozen.w[0] == 0 && s.ps.t == 12, "the frozen weight is as it was");
    int gaps = 0;
    for (size_t i = s.ps.item[1].at + nb; i < s.ps.size; i++) gaps += s.ps.w[i] != 0 || s.ps.v[i] != 0;
    is_int(gaps, 0, "nothing is written between the pieces");

    float last = s.a.w[5], mean = s.ps.ema[s.ps.item[0].at + 5];
    ok(!mm_pset_swap(&s.ps, 2) && s.a.w[5] == mean && s.ps.swapped, "swapped: the averages are the weights");
    ok(!mm_pset_swap(&s.ps, 2) && s.a.w[5] == last && !s.ps.swapped, "and back");
    clear(&s);
    for (int i = 0; i < 4; i++) {
        free((&a.w)[i]);
        free((&b.w)[i]);
    }
}

/* Everything that a run leaves, as one hash of bits. */
static uint64_t trace(int threads, int lora)
{
    set s;
    mm_err err;
    make(&s, 0);
    if (lora && mm_pset_lora(&s.ps, "blk.0.a", 3, 2, 5, &err)) ok(0, "%s", err.msg);
    if (mm_pset_build(&s.ps, &err)) ok(0, "%s", err.msg);
    const mm_optim o = MM_OPTIM_INIT;
    for (int t = 0; t < 5; t++) {
        mm_pset_zero(&s.ps);
        fill(s.a.grad, ROWS * COLS);
        fill(s.bias.grad, 19);
        if (mm_pset_step(&s.ps, &o, 0.01, 1, threads, NULL)) ok(0, "step");
    }
    uint64_t h = 0;
    const float *block[] = { s.ps.w, s.ps.m, s.ps.v, s.ps.ema };
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < (k ? s.ps.size : s.ps.size_all); i++) {
            uint32_t u;
            memcpy(&u, &block[k][i], 4);
            h = (h ^ u) * UINT64_C(0x100000001b3);
        }
    clear(&s);
    return h;
}

static void threads(void)
{
    uint64_t one = trace(1, 0), low = trace(1, 1);
    ok(one == trace(2, 0) && one == trace(5, 0), "the same bits with 1, 2 and 5 threads");
    ok(low == trace(2, 1) && low == trace(5, 1), "with additions of low rank too");
}

static void scaling(void)
{
    set s;
    mm_err err;
    mm_optim o = MM_OPTIM_INIT;
    mm_step_info info;
    o.scaling = 1;
    make(&s, 0);
    if (mm_pset_build(&s.ps, &err)) ok(0, "%s", err.msg);
    s.ps.scale = MM_SCALE_START;
    s.a.grad[4] = INFINITY;
    is_int(mm_pset_step(&s.ps, &o, 0.1, 1, 1, &info), 1, "an infinite gradient: the step is skipped");
    ok(s.ps.scale == 512 && info.scale == 1024 && s.ps.t == 0, "the scale is halved, the step not counted");
    s.a.grad[4] = NAN;
    is_int(mm_pset_step(&s.ps, &o, 0.1, 1, 1, NULL), 1, "NaN likewise");
    ok(!memcmp(s.a.w, s.w0, ROWS * COLS * sizeof(float)) && s.ps.m[4] == 0, "weights and moments are untouched");
    mm_pset_zero(&s.ps);
    s.bias.grad[0] = 256 * 2;
    ok(!mm_pset_step(&s.ps, &o, 0.1, 1, 1, &info) && fabs(info.norm - 2) < 1e-6, "the scale is taken out of the gradient");
    int bad = 0;
    for (int i = 1; i < 2000; i++) bad += s.ps.scale != 256 || mm_pset_step(&s.ps, &o, 0, 1, 1, NULL);
    ok(!bad && s.ps.scale == 512, "doubled after 2000 good steps");
    o.scaling = 0;
    s.a.grad[4] = NAN;
    ok(mm_pset_step(&s.ps, &o, 0.1, 1, 1, NULL) == 1 && s.ps.scale == 512, "without scaling a step is skipped all the same");
    clear(&s);
}

static void rest(void)
{
    set s;
    mm_err err;
    const mm_optim o = MM_OPTIM_INIT;
    mm_step_info info;
    make(&s, 0);
    if (mm_pset_build(&s.ps, &err)) ok(0, "%s", err.msg);
    s.a.grad[0] = 3;
    s.bias.grad[0] = 4;
    ok(!mm_pset_rest(&s.ps, "*.bias", 1, &err) && !s.bias.grad && s.a.grad, "a weight at rest takes no gradient");
    float before = s.bias.w[0];
    ok(!mm_pset_step(&s.ps, &o, 0.1, 1, 1, &info) && s.bias.w[0] == before && s.a.w[0] != s.w0[0], "and stays");
    ok(fabs(info.norm - 3) < 1e-6, "and is not in the norm");
    ok(!mm_pset_rest(&s.ps, "*", 0, &err) && s.bias.grad && !s.frozen.grad, "wakes again; a frozen one does not");
    ok(!mm_pset_step(&s.ps, &o, 0.1, 1, 1, &info) && s.bias.w[0] != before, "and moves");
    clear(&s);
}

static void lora(void)
{
    set s;
    mm_err err = { 0 };
    mm_optim o = MM_OPTIM_INIT;
    make(&s, 0);
    is_int(mm_pset_lora(&s.ps, "*.bias,tok", 2, 1, 1, &err), MM_EARG, "vectors and frozen weights get no addition");
    is_int(mm_pset_lora(&s.ps, "blk.0.a", ROWS, 1, 1, &err), MM_EARG, "one of full rank is refused");
    is_int(mm_pset_lora(&s.ps, "blk.0.*", 2, 3, 1, &err), 0, "an addition of rank 2");
    is_int(mm_pset_build(&s.ps, &err), 0, "built");
    ok(s.ps.n == 5 && s.ps.count == ROWS * COLS + 19 + 15 && s.ps.trained == 2 * (ROWS + COLS) + 19, "fewer numbers are trained");
    ok(!memcmp(s.a.w, s.w0, ROWS * COLS * sizeof(float)), "it begins as nothing");
    const mm_param *a = s.ps.item[3].p, *b = s.ps.item[4].p;
    is_str(s.ps.item[3].name, "blk.0.a.lora_a", "named after its matrix");
    double var = 0;
    for (size_t i = 0; i < 2 * COLS; i++) var += (double)a->w[i] * a->w[i] / (2 * COLS);
    ok(fabs(var * COLS - 1) < 0.1, "its rows keep lengths (variance %.3g / cols)", var * COLS);

    fill(b->w, 2 * ROWS); /* so that both have gradients */
    if (mm_pset_merge(&s.ps, 2)) ok(0, "merge");
    double off = 0, da = 0, db = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t k = 0; k < COLS; k++) {
            double low = (double)b->w[2 * i] * a->w[k] + (double)b->w[2 * i + 1] * a->w[COLS + k];
            off = fmax(off, fabs((double)s.w0[i * COLS + k] + 3 * low - (double)s.a.w[i * COLS + k]));
        }
    ok(off < 1e-5, "w = w0 + scale b a (%.2g)", off);
    mm_pset_zero(&s.ps);
    fill(s.a.grad, ROWS * COLS);
    float *dw = malloc(ROWS * COLS * sizeof *dw);
    memcpy(dw, s.a.grad, ROWS * COLS * sizeof *dw);
    float wa = s.a.w[0];
    /* a step of rate 0 leaves everything in place but the projected gradients, which can be looked at */
    ok(!mm_pset_step(&s.ps, &o, 0, 1, 2, NULL) && s.a.w[0] == wa, "a step of rate 0");
    for (size_t r = 0; r < 2; r++) {
        for (size_t k = 0; k < COLS; k++) {
            double want = 0;
            for (size_t i = 0; i < ROWS; i++) want += 3 * (double)b->w[2 * i + r] * dw[i * COLS + k];
            da = fmax(da, fabs(want - (double)a->grad[r * COLS + k]));
        }
        for (size_t i = 0; i < ROWS; i++) {
            double want = 0;
            for (size_t k = 0; k < COLS; k++) want += 3 * (double)a->w[r * COLS + k] * dw[i * COLS + k];
            db = fmax(db, fabs(want - (double)b->grad[2 * i + r]));
        }
    }
    ok(da < 1e-4 && db < 1e-4, "gradients of a and b (%.2g, %.2g)", da, db);
    free(dw);

    /* towards a target that is one addition away */
    float *goal = malloc(ROWS * COLS * sizeof *goal), u[ROWS], v[COLS];
    fill(u, ROWS);
    fill(v, COLS);
    for (size_t i = 0; i < ROWS * COLS; i++) goal[i] = s.w0[i] + u[i / COLS] * v[i % COLS];
    double first = 0, last = 0;
    o.wd = o.clip = 0;
    for (int t = 0; t < 400; t++) {
        mm_pset_zero(&s.ps);
        last = 0;
        for (size_t i = 0; i < ROWS * COLS; i++) {
            s.a.grad[i] = s.a.w[i] - goal[i];
            last += (double)s.a.grad[i] * s.a.grad[i];
        }
        if (!t) first = last;
        if (mm_pset_step(&s.ps, &o, 0.05 * (1 - t / 400.0), 1, 1, NULL)) ok(0, "step");
    }
    ok(last < 1e-3 * first, "finds a change of low rank (%.3g of %.3g left)", last, first);
    float x = s.a.w[77], y = x;
    ok(!mm_pset_swap(&s.ps, 1) && (y = s.a.w[77]) != x, "averages of an addition are an addition's average");
    ok(!mm_pset_swap(&s.ps, 2) && s.a.w[77] == x, "and back, to the bit");
    ok(fabsf(x - y) < 0.1f, "not far from each other");
    memcpy(s.a.w, s.w0, ROWS * COLS * sizeof(float));
    mm_pset_reset(&s.ps);
    ok(b->w[0] == 0 && !mm_pset_merge(&s.ps, 1) && !memcmp(s.a.w, s.w0, ROWS * COLS * sizeof(float)),
       "weights set anew are what it begins at");
    free(goal);
    clear(&s);
}

static void schedule(void)
{
    mm_schedule s = { MM_LR_COSINE, 2, 0.1, 0.1 };
    mm_err err = { 0 };
    ok(fabs(mm_schedule_at(&s, 0, 0.01) - 0.2) < 1e-12, "the first step of ten of warm-up: a tenth");
    ok(fabs(mm_schedule_at(&s, 0.09, 0.01) - 2) < 1e-12, "the last of them: all");
    ok(fabs(mm_schedule_at(&s, 0.1, 0.01) - 2) < 1e-12 && fabs(mm_schedule_at(&s, 0.55, 0.01) - 1.1) < 1e-12,
       "cosine: half way, half of it above the floor");
    ok(mm_schedule_at(&s, 0.999999, 1e-6) < 0.2001 && mm_schedule_at(&s, 5, 0.1) == 0.2, "the floor at the end and beyond");
    s.kind = MM_LR_LINEAR;
    ok(fabs(mm_schedule_at(&s, 0.325, 0.01) - (0.2 + 1.8 * 0.75)) < 1e-12, "linear");
    s.kind = MM_LR_CONSTANT;
    ok(mm_schedule_at(&s, 0.9, 0.1) == 2, "constant");
    s.warmup = 0;
    ok(mm_schedule_at(&s, 0, 0.01) == 2, "without warm-up");
    ok(!mm_schedule_kind(&s.kind, "linear", &err) && s.kind == MM_LR_LINEAR && mm_schedule_kind(&s.kind, "sine", &err) == MM_EARG,
       "by name");
    ok(mm_name_match("a,blk.*.ffn*", "blk.3.ffn_up") && !mm_name_match("a,blk.*.ffn*", "ab") && !mm_name_match("", ""), "patterns");
}

int main(void)
{
    layout();
    steps();
    threads();
    scaling();
    rest();
    lora();
    schedule();
    return done();
}

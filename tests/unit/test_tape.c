/* The tape in float32: threads, segments in 16 bits, memory, accumulation, failures. That gradients are right at all is
 * tests/f64/test_grad64. */
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include "graph/mm_tape.h"
#include "tap.h"

/* ---- allocations that fail when they are told to ---- */

static long fail_at = -1; /* the number of the allocation from now; -1: none fails */

static int fails(void)
{
    long n = __atomic_load_n(&fail_at, __ATOMIC_RELAXED);
    return n >= 0 && __atomic_fetch_sub(&fail_at, 1, __ATOMIC_RELAXED) == 0;
}

/* clang's address sanitizer is part of the program and cannot be asked for the next one */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NO_FAILURES
#endif
#endif

#ifndef NO_FAILURES
int posix_memalign(void **p, size_t align, size_t n)
{
    static int (*next)(void **, size_t, size_t);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "posix_memalign");
    return fails() ? 12 : next(p, align, n);
}

void *realloc(void *p, size_t n)
{
    static void *(*next)(void *, size_t);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    return fails() ? NULL : next(p, n);
}
#endif

/* ---- a stack of layers as a trunk has them ---- */

enum { MOST_LAYERS = 6, MOST_ROWS = 1200, HEADS = 4, PER_LAYER = 14 };

typedef struct {
    mm_linear qkv, out, up, down;
    mm_norm norm[2];
    mm_param *gamma[2];
} layer;

static mm_param param[MOST_LAYERS * PER_LAYER + 2];
static int n_param;
static layer layers[MOST_LAYERS];
static mm_param *query, *table;
static size_t width, n_layers;
static float turn[2][MOST_ROWS * 16], target[200 * 64];
static int32_t ids[MOST_ROWS];
static unsigned long long seed = 88172645463325252u;

static float rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (float)((double)(seed >> 11) / 9007199254740992.0 * 2 - 1);
}

static mm_param *add(size_t rows, size_t cols, float size, float shift)
{
    mm_param *p = &param[n_param++];
    *p = (mm_param){ malloc(rows * cols * sizeof(float)), calloc(rows * cols, sizeof(float)), rows, cols };
    for (size_t i = 0; i < rows * cols; i++) p->w[i] = rnd() * size + shift;
    return p;
}

static mm_linear a_linear(size_t n, size_t k)
{
    mm_param *w = add(n, k, 1.7f / sqrtf((float)k), 0), *b = add(1, n, 0.1f, 0);
    return (mm_linear){ NULL, b->w, w, b };
}

static mm_norm a_norm(void)
{
    mm_param *gain = add(1, width, 0.2f, 1), *bias = add(1, width, 0.2f, 0);
    return (mm_norm){ gain->w, bias->w, gain, bias };
}

static void drop(void)
{
    for (int i = 0; i < n_param; i++) free(param[i].w), free(param[i].grad);
    n_param = 0;
}

static void make(size_t n, size_t d)
{
    drop();
    width = d;
    n_layers = n;
    for (size_t i = 0; i < n; i++) {
        layers[i] = (layer){ .qkv = a_linear(3 * d, d), .out = a_linear(d, d), .up = a_linear(4 * d, d), .down = a_linear(d, 4 * d) };
        for (int k = 0; k < 2; k++) layers[i].norm[k] = a_norm(), layers[i].gamma[k] = add(1, d, 0.3f, 0.5f);
    }
    query = add(1, d, 0.5f, 0);
    table = add(50, d, 1, 0);
    for (size_t i = 0; i < MOST_ROWS; i++) ids[i] = (int32_t)((rnd() + 1) * 24.9f);
    for (size_t i = 0; i < MOST_ROWS * 16; i++) turn[0][i] = cosf((float)i), turn[1][i] = sinf((float)i);
    for (size_t i = 0; i < 200 * 64; i++) target[i] = rnd();
}

static mm_tensor block(mm_graph *g, mm_tensor x, const layer *l, const mm_ragged *r)
{
    const size_t off[2] = { 0, x.rows };
    const mm_ragged one = { off, 1 };
    size_t hd = width / HEADS;
    mm_tensor a = mm_op_layer_norm(g, x, &l->norm[0], 1e-5f, NULL);
    a = mm_op_rotary(g, mm_op_linear(g, a, &l->qkv, MMK_ACT_NONE, NULL, NULL), turn[0], turn[1], 2 * HEADS, hd);
    a = mm_op_attention(g, a, &(mm_attention){ HEADS, HEADS, hd, 1 / sqrtf((float)hd), 0 }, r, NULL);
    x = mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->out, MMK_ACT_NONE, NULL, NULL), &l->gamma[0], &one, NULL);
    a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm[1], 1e-5f, NULL), &l->up, MMK_ACT_GELU_ERF, NULL, NULL);
    return mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->down, MMK_ACT_NONE, NULL, NULL), &l->gamma[1], &one, NULL);
}

/* One vector for each sequence of ids, the first of which is at `from` */
static mm_tensor trunk(mm_graph *g, const mm_ragged *r, const int32_t *from, int nested)
{
    mm_tensor x = mm_op_lookup(g, table, from, r->off[r->n]);
    mm_tape_mark outer = mm_tape_here(g);
    for (size_t i = 0; i < n_layers; i++) {
        mm_tape_mark m = mm_tape_here(g);
        x = mm_tape_segment(g, m, block(g, x, &layers[i], r));
        if (nested && i % 2) {
            const size_t off[2] = { 0, x.rows };
            /* something of the outer segment beside the inner ones */
            x = mm_op_add_scaled_runs(g, x, mm_op_sigmoid(g, x), &layers[i].gamma[0], &(mm_ragged){ off, 1 }, NULL);
            x = mm_tape_segment(g, outer, x);
            outer = mm_tape_here(g);
        }
    }
    return mm_op_normalize(g, mm_op_attend(g, x, mm_op_param(g, query), 2, r));
}

typedef struct {
    mm_keep keep;
    int threads, nested;
    float loss;
    size_t peak;
} how;

/* Loss and gradients of one batch, added to those that are there */
static int step(mm_tape *tape, mm_arena *arena, const mm_ragged *r, const int32_t *from, const float *to, float weight, how *h)
{
    mm_graph g = { .kern = mm_kern_get(), .arena = arena, .threads = h->threads, .tape = tape };
    mm_tensor v = trunk(&g, r, from, h->nested), loss = mm_op_cos_loss(&g, v, to, width, width);
    if (loss.p) h->loss = *loss.p;
    mm_tape_seed(&g, loss, weight);
    int rc = mm_tape_backward(&g);
    mm_tape_reset(tape);
    mm_arena_reset(arena);
    return rc;
}

static void zero(void)
{
    for (int i = 0; i < n_param; i++) memset(param[i].grad, 0, param[i].rows * param[i].cols * sizeof(float));
}

static int whole(const mm_ragged *r, how *h)
{
    mm_tape *tape = mm_tape_new(h->keep);
    mm_arena arena = { 0 };
    zero();
    int rc = tape ? step(tape, &arena, r, ids, target, 1, h) : MM_ENOMEM;
    h->peak = tape ? mm_tape_peak(tape) : 0;
    mm_arena_clear(&arena);
    mm_tape_free(&tape);
    return rc;
}

static size_t count(void)
{
    size_t n = 0;
    for (int i = 0; i < n_param; i++) n += param[i].rows * param[i].cols;
    return n;
}

static float *grads(void) /* a copy of all of them */
{
    float *all = malloc(count() * sizeof *all), *to = all;
    for (int i = 0; i < n_param; i++) {
        size_t n = param[i].rows * param[i].cols;
        memcpy(to, param[i].grad, n * sizeof *to);
        to += n;
    }
    return all;
}

/* |a - b| / |b| of the worst parameter */
static double apart(const float *a, const float *b)
{
    double worst = 0;
    for (int i = 0; i < n_param; i++) {
        size_t n = param[i].rows * param[i].cols;
        double diff = 0, size = 0;
        for (size_t k = 0; k < n; k++, a++, b++) {
            diff += ((double)*a - *b) * ((double)*a - *b);
            size += (double)*b * *b;
        }
        double e = size > 0 ? sqrt(diff / size) : diff > 0 ? 1 : 0;
        if (!(e <= worst)) worst = e;
    }
    return worst;
}

static void near(double e, double bound, const char *what)
{
    if (!ok(e <= bound, "%s", what)) printf("# off by %g of %g\n", e, bound);
}

static const size_t some[] = { 0, 40, 41, 41, 90, 150 };
static const mm_ragged seqs = { some, 5 };

static void threads(void)
{
    make(2, 32);
    how h = { .keep = MM_KEEP_F32, .threads = 1 }, two = { .keep = MM_KEEP_F32, .threads = 2 };
    is_int(whole(&seqs, &h), 0, "a step");
    float *a = grads();
    is_int(whole(&seqs, &two), 0, "a step on two threads");
    float *b = grads();
    ok(h.loss == two.loss && !memcmp(a, b, count() * sizeof *a), "gradients are the same bits on one thread and on two");
    double sum = 0;
    for (size_t i = 0; i < count(); i++) sum += fabs((double)a[i]);
    ok(sum > 1, "gradients are not all zero");
    free(a), free(b);
}

static void segments(void)
{
    static const struct { mm_keep keep; double bound; const char *name; } halves[] = { { MM_KEEP_F16, 2e-3, "f16" }, { MM_KEEP_BF16, 1.5e-2, "bf16" } };
    char what[120];
    make(6, 48);
    how full = { .keep = MM_KEEP_F32, .threads = 2 };
    is_int(whole(&seqs, &full), 0, "six layers in float32");
    float *want = grads();
    for (int i = 0; i < 2; i++) {
        how h = { .keep = halves[i].keep, .threads = 2 }, one = { .keep = halves[i].keep, .threads = 1 };
        is_int(whole(&seqs, &h), 0, "a segment for each layer");
        float *got = grads();
        snprintf(what, sizeof what, "%s: the result is computed in float32", halves[i].name);
        ok(h.loss == full.loss, "%s", what);
        snprintf(what, sizeof what, "%s: gradients but for the rounding", halves[i].name);
        near(apart(got, want), halves[i].bound, what);
        snprintf(what, sizeof what, "%s: memory is 40 %% less: %zu of %zu KiB", halves[i].name, h.peak >> 10, full.peak >> 10);
        ok((double)h.peak <= 0.6 * (double)full.peak, "%s", what);
        is_int(whole(&seqs, &one), 0, "the same on one thread");
        float *again = grads();
        ok(!memcmp(got, again, count() * sizeof *got), "%s: the same bits on one thread", halves[i].name);
        free(got), free(again);
    }
    how n32 = { .keep = MM_KEEP_F32, .threads = 1, .nested = 1 }, n16 = { .keep = MM_KEEP_F16, .threads = 1, .nested = 1 };
    free(want);
    is_int(whole(&seqs, &n32), 0, "segments in segments, float32");
    want = grads();
    is_int(whole(&seqs, &n16), 0, "segments in segments, f16");
    float *got = grads();
    ok(n16.loss == n32.loss, "segments in segments: the result");
    near(apart(got, want), 2e-3, "segments in segments: gradients");
    free(want), free(got);
}

/* What is changed in place after it was made is kept, not made again; what no segment has recorded is given up; views and tensors of no
 * elements do not confuse. */
static void odd_segments(void)
{
    float *all[2];
    make(1, 32);
    for (int i = 0; i < 2; i++) {
        mm_tape *tape = mm_tape_new(i ? MM_KEEP_F16 : MM_KEEP_F32);
        mm_arena arena = { 0 };
        mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 1, .tape = tape };
        const layer *l = &layers[0];
        zero();
        mm_tensor x = mm_op_lookup(&g, table, ids, 20);
        mm_tape_mark m = mm_tape_here(&g);
        mm_op_rows(&g, x, NULL, 0); /* empty, at the place of the next */
        mm_op_layer_norm(&g, mm_op_rows(&g, x, NULL, 0), &l->norm[0], 1e-5f, NULL);
        mm_tensor a = mm_op_layer_norm(&g, x, &l->norm[0], 1e-5f, NULL);
        a = mm_op_rotary(&g, a, turn[0], turn[1], 4, 8);
        mm_tensor b = mm_op_layer_norm(&g, mm_op_reshape(&g, x, 20, 32), &l->norm[1], 1e-5f, NULL);
        b = mm_op_add_rows(&g, b, target, ids);
        const size_t off[2] = { 0, 20 };
        a = mm_op_add_scaled_runs(&g, a, b, &l->gamma[0], &(mm_ragged){ off, 1 }, NULL);
        a = mm_op_linear(&g, a, &l->up, MMK_ACT_SILU, NULL, NULL);
        x = mm_tape_segment(&g, m, mm_op_linear(&g, a, &l->down, MMK_ACT_NONE, &x, NULL));
        m = mm_tape_here(&g);
        x = mm_tape_segment(&g, m, x); /* nothing in it */
        m = mm_tape_here(&g);
        mm_param frozen = { table->w, NULL, table->rows, table->cols };
        mm_tensor y = mm_op_lookup(&g, &frozen, ids, 20);
        y = mm_tape_segment(&g, m, mm_op_sigmoid(&g, y)); /* nothing recorded */
        ok(y.p && fabsf(y.p[5] - 1 / (1 + expf(-table->w[(size_t)ids[0] * 32 + 5]))) < 1e-6f, "a segment of frozen things");
        mm_tensor loss = mm_op_mse(&g, mm_op_sum(&g, (const mm_tensor[]){ x, y }, (const float[]){ 1, 1 }, 2), target, NULL);
        mm_tape_seed(&g, loss, 1);
        is_int(mm_tape_backward(&g), 0, i ? "an odd segment" : "the same in float32");
        all[i] = grads();
        mm_arena_clear(&arena);
        mm_tape_free(&tape);
    }
    near(apart(all[1], all[0]), 3e-3, "an odd segment: gradients");
    free(all[0]), free(all[1]);
}

static void accumulate(void)
{
    enum { N = 64 };
    size_t off[N + 1];
    make(2, 32);
    for (size_t i = 0; i <= N; i++) off[i] = i ? off[i - 1] + 1 + i % 11 : 0;
    how h = { .keep = MM_KEEP_F32, .threads = 2 };
    is_int(whole(&(mm_ragged){ off, N }, &h), 0, "a big batch");
    float *want = grads();
    mm_tape *tape = mm_tape_new(MM_KEEP_F32);
    mm_arena arena = { 0 };
    int rc = 0;
    zero();
    for (size_t i = 0; i < 8; i++) {
        size_t part[N / 8 + 1], first = off[i * 8];
        for (size_t k = 0; k <= N / 8; k++) part[k] = off[i * 8 + k] - first;
        /* the angles differ from those in the big batch by as much for every row of a sequence, which attention does not see */
        rc |= step(tape, &arena, &(mm_ragged){ part, N / 8 }, ids + first, target + i * 8 * width, 1.0f / 8, &h);
    }
    is_int(rc, 0, "eight small ones");
    float *got = grads();
    near(apart(got, want), 3e-6, "eight small batches add up to the big one");
    mm_tape_free(&tape);
    mm_arena_clear(&arena);
    free(got), free(want);
}

static void ragged_steps(void)
{
    size_t off[31], most = 0, after = 0;
    int rc = 0;
    make(2, 32);
    for (int keep = MM_KEEP_F32; keep <= MM_KEEP_BF16; keep++) {
        how h = { .keep = (mm_keep)keep, .threads = 1 };
        mm_tape *tape = mm_tape_new(h.keep);
        mm_arena arena = { 0 };
        for (size_t i = 0; i <= 30; i++) off[i] = i * 20;
        rc |= step(tape, &arena, &(mm_ragged){ off, 30 }, ids, target, 1, &h);
        most = mm_tape_peak(tape);
        for (int s = 0; s < 100; s++) {
            size_t n = 1 + (size_t)((rnd() + 1) * 14.5f);
            for (size_t i = 1; i <= n; i++) off[i] = off[i - 1] + (size_t)((rnd() + 1) * 10);
            rc |= step(tape, &arena, &(mm_ragged){ off, n }, ids, target, 1, &h);
        }
        after = mm_tape_peak(tape);
        if (!ok(after <= most + most / 8, "100 steps of other sizes take no more memory than the largest"))
            printf("# %zu bytes, then %zu\n", most, after);
        mm_tape_free(&tape);
        mm_arena_clear(&arena);
        tape = mm_tape_new(h.keep); /* the largest comes last: it grows to what that needs, not to a sum of all */
        for (size_t n = 1; n <= 30; n++) {
            for (size_t i = 0; i <= n; i++) off[i] = i * 20;
            rc |= step(tape, &arena, &(mm_ragged){ off, n }, ids, target, 1, &h);
        }
        after = mm_tape_peak(tape);
        if (!ok(after <= most + most / 8, "nor when they grow")) printf("# %zu bytes, then %zu\n", most, after);
        mm_tape_free(&tape);
        mm_arena_clear(&arena);
    }
    is_int(rc, 0, "ragged steps");
}

static void failures(void)
{
    long n, refused = 0;
    int wrong = 0;
    make(2, 32);
#ifdef NO_FAILURES
    n = 0;
    (void)wrong, (void)refused;
    ok(1, "out of memory # SKIP allocations cannot be made to fail under this sanitizer");
#else
    for (int keep = MM_KEEP_F32; keep <= MM_KEEP_BF16; keep++)
        for (n = 0; n < 4000; n++) {
            how h = { .keep = (mm_keep)keep, .threads = 1 };
            mm_tape *tape = mm_tape_new(h.keep);
            mm_arena arena = { .block_size = 4096 };
            zero();
            fail_at = n;
            int rc = step(tape, &arena, &seqs, ids, target, 1, &h);
            int reached = fail_at < 0;
            fail_at = -1;
            refused += rc == MM_ENOMEM;
            wrong += rc != (reached ? MM_ENOMEM : 0);
            mm_tape_free(&tape);
            mm_arena_clear(&arena);
            if (!reached) break;
        }
    if (!ok(refused > 20 && !wrong, "every allocation that fails is reported")) printf("# %ld refused, %d wrong\n", refused, wrong);
#endif
    mm_arena arena = { 0 };
    mm_tape *tape = mm_tape_new(MM_KEEP_F32);
    mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 1, .tape = tape };
    mm_tensor x = mm_op_lookup(&g, table, ids, 10), none = mm_op_new(&g, SIZE_MAX / 2, 16);
    ok(!none.p && g.failed, "a tensor that no memory has");
    mm_tape_seed(&g, mm_op_mse(&g, mm_op_add_scaled_runs(&g, x, none, NULL, NULL, NULL), target, NULL), 1);
    is_int(mm_tape_backward(&g), MM_ENOMEM, "and what follows from it");
    mm_tape_reset(tape);

    g.failed = 0;
    x = mm_op_lookup(&g, table, ids, 10);
    size_t bytes = mmk_pack_size(g.kern, MM_F32, 5, 32);
    void *mem = mm_aligned(bytes, 1);
    mm_linear packed = { .w = mmk_pack(g.kern, mem, MM_F32, 32, &(mmk_rows){ table->w, 5 }, 1, 1) };
    ok(!mm_op_linear(&g, x, &packed, MMK_ACT_NONE, NULL, NULL).p && g.failed, "no gradient goes back through a packed matrix");
    g.failed = 0;
    mm_param frozen = { table->w, NULL, table->rows, table->cols };
    ok(mm_op_linear(&g, mm_op_lookup(&g, &frozen, ids, 10), &packed, MMK_ACT_SILU, NULL, NULL).p != NULL, "what has none goes forward through it");
    free(mem);
    mm_tape_reset(tape);

    mm_tensor f = mm_op_param(&g, &frozen), unit = mm_op_normalize(&g, f);
    ok(unit.p && unit.p != f.p && !unit.var, "where there is a tape, a frozen tensor is not normalised in place");
    float logits[6] = { 0, 300, -20, 1, 2, 3 };
    mm_tensor l = mm_tape_input(&g, logits, 2, 3), lost = mm_tape_input(&g, logits, 2, 3);
    mm_tensor ce = mm_op_class_ce(&g, l, (const int32_t[]){ 2, -1 });
    ok(ce.p && *ce.p == 320, "the loss of a class of no probability");
    mm_tape_seed(&g, ce, 1);
    is_int(mm_tape_backward(&g), 0, "its gradient");
    const float *d = mm_tape_grad(l);
    ok(d && d[1] == 1 && d[2] == -1 && d[3] == 0 && d[4] == 0, "its gradient, and none for a row without a class");
    ok(!mm_tape_grad(lost), "a tensor that nothing depends on has no gradient");
    mm_arena_clear(&arena);
    mm_tape_free(&tape);
}

int main(void)
{
    threads();
    segments();
    odd_segments();
    accumulate();
    ragged_steps();
    failures();
    drop();
    return done();
}

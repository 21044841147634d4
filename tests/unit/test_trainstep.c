/* A whole training step against torch in float64: loss, every gradient, and the weights after three steps of the optimizer. The problem and its
 * answers are tests/golden/train-step.safetensors, written by scripts/parity/train-step, where the model is described. */
#include <math.h>
#include <stdlib.h>
#include "graph/mm_tape.h"
#include "store/mm_store.h"
#include "tap.h"
#include "train/mm_optim.h"

enum { LAYERS = 2, HEADS = 2, PARAMS = 64 };

static mm_store *store;
static mm_param param[PARAMS];
static mm_pset set;
static int n_param, missing;

typedef struct {
    mm_linear qkv, out, up, down;
    mm_norm norm1, norm2;
    mm_param *gamma1, *gamma2;
} layer;

static struct {
    layer l[LAYERS];
    mm_param *table, *query, *log_scale;
    mm_param bank;
    const int32_t *ids;
    const float *cos, *sin, *target, *teacher;
    size_t off[8], n, d;
} m;

/* Mapped; the file was written so that numbers lie on multiples of four. */
static const void *get(const char *name, size_t *rows, size_t *cols)
{
    const mm_store_tensor *t = mm_store_find(store, name);
    if (!t) {
        printf("# %s is missing\n", name);
        missing++;
        return NULL;
    }
    if (rows) *rows = (size_t)t->shape[0];
    if (cols) *cols = t->ndim > 1 ? (size_t)t->shape[1] : 1;
    return t->data;
}

static mm_param *weight(const char *name)
{
    mm_param *p = &param[n_param++];
    p->w = (float *)(uintptr_t)get(name, &p->rows, &p->cols); /* copied into the set */
    if (p->w && mm_pset_add(&set, name, p, MM_PSET_DECAY, 1, NULL)) missing++;
    return p;
}

static mm_param *of_layer(int l, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%d.%s", l, name);
    return weight(full);
}

static mm_linear linear(int l, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    mm_linear y = { .pw = of_layer(l, full) };
    snprintf(full, sizeof full, "%s.bias", name);
    y.pb = of_layer(l, full);
    return y;
}

static mm_norm norm(int l, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s.gain", name);
    mm_norm y = { .pgain = of_layer(l, full) };
    snprintf(full, sizeof full, "%s.bias", name);
    y.pbias = of_layer(l, full);
    return y;
}

static int load(void)
{
    m.table = weight("table");
    for (int l = 0; l < LAYERS; l++)
        m.l[l] = (layer){ .qkv = linear(l, "qkv"), .out = linear(l, "out"), .up = linear(l, "up"), .down = linear(l, "down"),
                          .norm1 = norm(l, "norm1"), .norm2 = norm(l, "norm2"),
                          .gamma1 = of_layer(l, "gamma1"), .gamma2 = of_layer(l, "gamma2") };
    m.query = weight("query");
    m.log_scale = weight("log_scale");
    m.bank.w = (float *)(uintptr_t)get("bank", &m.bank.rows, &m.bank.cols); /* frozen: read alone */
    m.ids = get("ids", NULL, NULL);
    m.cos = get("cos", NULL, NULL);
    m.sin = get("sin", NULL, NULL);
    m.target = get("target", NULL, NULL);
    m.teacher = get("teacher", NULL, NULL);
    const int32_t *lengths = get("lengths", &m.n, NULL);
    m.d = m.table->cols;
    for (size_t s = 0; lengths && s < m.n; s++) m.off[s + 1] = m.off[s] + (size_t)lengths[s];
    if (missing || mm_pset_build(&set, NULL)) return 1;
    for (int l = 0; l < LAYERS; l++) { /* weights have moved into the set */
        mm_linear *lin[4] = { &m.l[l].qkv, &m.l[l].out, &m.l[l].up, &m.l[l].down };
        for (int i = 0; i < 4; i++) lin[i]->bias = lin[i]->pb->w;
        m.l[l].norm1.gain = m.l[l].norm1.pgain->w, m.l[l].norm1.bias = m.l[l].norm1.pbias->w;
        m.l[l].norm2.gain = m.l[l].norm2.pgain->w, m.l[l].norm2.bias = m.l[l].norm2.pbias->w;
    }
    return 0;
}

static mm_tensor loss_of(mm_graph *g)
{
    const mm_ragged seqs = { m.off, m.n };
    const size_t all[2] = { 0, m.off[m.n] }, hd = m.d / HEADS;
    const mm_ragged one = { all, 1 };
    const mm_attention at = { HEADS, HEADS, hd, 1 / sqrtf((float)hd), 0 };
    mm_tensor x = mm_op_lookup(g, m.table, m.ids, all[1]);
    for (int i = 0; i < LAYERS; i++) {
        const layer *l = &m.l[i];
        mm_tape_mark from = mm_tape_here(g);
        mm_tensor a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm1, 1e-5f, NULL), &l->qkv, MMK_ACT_NONE, NULL, NULL);
        a = mm_op_attention(g, mm_op_rotary(g, a, m.cos, m.sin, 2 * HEADS, hd), &at, &seqs, NULL);
        x = mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->out, MMK_ACT_NONE, NULL, NULL), &l->gamma1, &one, NULL);
        a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm2, 1e-5f, NULL), &l->up, MMK_ACT_GELU_ERF, NULL, NULL);
        x = mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->down, MMK_ACT_NONE, NULL, NULL), &l->gamma2, &one, NULL);
        x = mm_tape_segment(g, from, x);
    }
    mm_tensor v = mm_op_normalize(g, mm_op_attend(g, x, mm_op_param(g, m.query), HEADS, &seqs));
    mm_tensor logits = mm_op_similarity(g, v, mm_op_param(g, &m.bank), mm_op_param(g, m.log_scale), NULL);
    const mm_tensor both[2] = { mm_op_softmax_ce(g, logits, m.target), mm_op_cos_loss(g, v, m.teacher, m.d, m.d) };
    return mm_op_sum(g, both, (const float[]){ 1, 0.5f }, 2);
}

/* Against the tensors NAME + tail: each within `bound` of its own largest number, or of `least` */
static void compare(const char *tail, int gradients, double bound, double least, const char *what)
{
    double worst = 0;
    char full[96], where[96] = "";
    for (size_t i = 0; i < set.n; i++) {
        snprintf(full, sizeof full, "%s%s", set.item[i].name, tail);
        const float *want = get(full, NULL, NULL), *got = gradients ? set.item[i].p->grad : set.item[i].p->w;
        double top = least, off = 0;
        for (size_t k = 0; want && k < set.item[i].n; k++) {
            double e = fabs((double)got[k] - want[k]);
            if (!(e <= off)) off = e;
            if (fabs((double)want[k]) > top) top = fabs((double)want[k]);
        }
        if (!(off / top <= worst)) {
            worst = off / top;
            snprintf(where, sizeof where, "%s", full);
        }
    }
    ok(!missing && worst <= bound, "%s: off by %.1e of the largest at most (%s)", what, worst, where);
}

static void train(mm_keep keep, int threads, double bound)
{
    const float *set_to = get("settings", NULL, NULL), *want = get("loss", NULL, NULL);
    if (!ok(set_to && want && !missing, "the problem is there")) return;
    mm_optim o = { .beta1 = set_to[1], .beta2 = set_to[2], .eps = set_to[3], .wd = set_to[4], .clip = set_to[5] };
    int steps = (int)set_to[6], rc = 0;
    double worst = 0;
    mm_tape *tape = mm_tape_new(keep);
    mm_arena arena = { 0 };
    char what[80];
    for (size_t i = 0; i < set.n; i++) memcpy(set.item[i].p->w, mm_store_find(store, set.item[i].name)->data, set.item[i].n * sizeof(float));
    mm_pset_reset(&set);
    for (int s = 0; s <= steps; s++) {
        mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = threads, .tape = tape };
        mm_pset_zero(&set);
        mm_tensor loss = loss_of(&g);
        double e = loss.p ? fabs((double)*loss.p - want[s]) / fabs((double)want[s]) : NAN;
        if (!(e <= worst)) worst = e;
        mm_tape_seed(&g, loss, 1);
        rc |= mm_tape_backward(&g);
        mm_tape_reset(tape);
        mm_arena_reset(&arena);
        snprintf(what, sizeof what, "%s, gradients of the first step", keep == MM_KEEP_F32 ? "float32" : "kept in f16");
        if (s == 0) compare(".grad", 1, bound, 1e-3, what);
        if (s < steps) rc |= mm_pset_step(&set, &o, (double)set_to[0], 1, threads, NULL);
    }
    is_int(rc, 0, "steps");
    /* of a weight, so much more than the gradients' error may come from where a gradient is nearly none: Adam divides by its size */
    snprintf(what, sizeof what, "%s, weights after %d steps", keep == MM_KEEP_F32 ? "float32" : "kept in f16", steps);
    compare(".end", 0, bound / 2, 0.1, what);
    ok(worst <= 1e-5 + bound / 50, "losses of all steps: off by %.1e at most", worst);
    mm_tape_free(&tape);
    mm_arena_clear(&arena);
}

int main(void)
{
    char path[1024];
    mm_err err = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/train-step.safetensors", getenv("MM_ROOT") ? getenv("MM_ROOT") : ".");
    if (!ok(!mm_store_open(&store, path, &err), "open") || !ok(!load(), "load")) {
        printf("# %s\n", err.msg);
        return done();
    }
    train(MM_KEEP_F32, 1, 1e-4);
    train(MM_KEEP_F32, 2, 1e-4);
    train(MM_KEEP_F16, 1, 2e-2);
    mm_pset_clear(&set);
    mm_store_close(&store);
    return done();
}

/* The gradient of every operation of lib/graph, of lib/model's block and of a small model against finite differences, float compiled as
 * double. Every case runs in three ways: its inputs are parameters themselves (their grad is added to), tensors that nothing else uses
 * (a gradient written where there was none), and tensors that are used once more afterwards (one that is there already). TAP. */
#include "check64.h"
#include "graph/mm_tape.h"
#include "model/model_int.h"

enum { DIRECT, FRESH, SHARED, WAYS };
enum { LEAVES = 64, MOST = 5000 };

static int way, threads = 1;
static mm_param leaf[LEAVES];
static int n_leaf;
static float cot[MOST], again[MOST];

/* of one run: the leaves that were taken as tensors, and those used once more */
static mm_tensor taken[LEAVES], used[LEAVES];
static int n_used;

static void begin(void)
{
    for (int i = 0; i < n_leaf; i++) free(leaf[i].w), free(leaf[i].grad);
    n_leaf = 0;
}

static mm_param *more(size_t rows, size_t cols, double size, double shift)
{
    mm_param *p = &leaf[n_leaf++];
    size_t n = rows * cols;
    *p = (mm_param){ malloc(n * sizeof(float)), malloc(n * sizeof(float)), rows, cols };
    for (size_t i = 0; i < n; i++) p->w[i] = (float)(size * uniform() + shift);
    return p;
}

static void freeze(mm_param *p)
{
    free(p->grad);
    p->grad = NULL;
}

/* The leaf as a tensor, in this run's way */
static mm_tensor as(mm_graph *g, mm_param *p)
{
    const float one = 1;
    if (way == DIRECT || !p->grad) return mm_op_param(g, p);
    mm_tensor x = mm_op_new(g, p->rows, p->cols);
    if (!x.p) return x;
    memcpy(x.p, p->w, p->rows * p->cols * sizeof *x.p);
    x = taken[p - leaf] = mm_tape_input(g, x.p, x.rows, x.cols);
    /* an operation's result, where the way matters: its gradient is given back, not kept */
    if (n_used % 2) x = mm_op_sum(g, &x, &one, 1);
    used[n_used++] = x;
    return x;
}

typedef mm_tensor build(mm_graph *g);

/* sum of cot * y over the result, and over what else used the leaves; with gradients where `grads` */
static double run(build *b, mm_tape *tape, mm_arena *arena, int grads)
{
    mm_graph g = { .kern = mm_kern_get(), .arena = arena, .threads = threads, .tape = tape };
    memset(taken, 0, sizeof taken);
    n_used = 0;
    mm_tape_reset(tape);
    mm_arena_reset(arena);
    mm_tensor y = b(&g);
    double s = 0;
    for (size_t i = 0; y.p && i < y.rows * y.cols; i++) s += (double)cot[i] * y.p[i];
    if (grads) mm_tape_seed_grad(&g, y, cot);
    for (int u = 0; way == SHARED && u < n_used; u++) {
        const float w = (float)(0.3 + u);
        mm_tensor z = mm_op_sum(&g, &used[u], &w, 1);
        for (size_t i = 0; z.p && i < z.rows * z.cols; i++) s += (double)again[i] * z.p[i];
        if (grads) mm_tape_seed_grad(&g, z, again);
    }
    if (grads && mm_tape_backward(&g)) return NAN;
    return g.failed ? NAN : s;
}

static void check1(const char *name, build *b, double bound)
{
    static const char *const ways[] = { "", ", fresh", ", shared" };
    static float grad[LEAVES][MOST];
    mm_tape *tape = mm_tape_new(MM_KEEP_F32);
    mm_arena arena = { 0 };
    double worst = 0, top = 1e-3;
    for (int l = 0; l < n_leaf; l++)
        for (size_t i = 0; leaf[l].grad && i < leaf[l].rows * leaf[l].cols; i++) leaf[l].grad[i] = (float)(0.5 + (double)i);
    if (!tape || isnan(run(b, tape, &arena, 1))) worst = NAN;
    for (int l = 0; l < n_leaf; l++) {
        size_t n = leaf[l].rows * leaf[l].cols;
        const float *d = taken[l].p ? mm_tape_grad(taken[l]) : NULL;
        for (size_t i = 0; leaf[l].grad && i < n; i++)
            grad[l][i] = taken[l].p ? (d ? d[i] : 0) : (float)(leaf[l].grad[i] - 0.5 - (double)i);
    }
    for (int l = 0; l < n_leaf; l++)
        for (size_t i = 0; leaf[l].grad && i < leaf[l].rows * leaf[l].cols; i++) {
            static const double at[4] = { -2, -1, 1, 2 };
            const double h = 2e-4;
            double keep = (double)leaf[l].w[i], f[4];
            for (int j = 0; j < 4; j++) {
                leaf[l].w[i] = (float)(keep + at[j] * h);
                f[j] = run(b, tape, &arena, 0);
            }
            leaf[l].w[i] = (float)keep;
            double slope = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h), e = fabs(slope - (double)grad[l][i]); /* error h^4 */
            if (e > worst || e != e) worst = e;
            if (fabs(slope) > top) top = fabs(slope);
        }
    char full[120];
    snprintf(full, sizeof full, "%s%s", name, ways[way]);
    verdict(full, worst / top, bound);
    mm_arena_clear(&arena);
    mm_tape_free(&tape);
}

static void check(const char *name, build *b)
{
    for (way = 0; way < WAYS; way++) check1(name, b, 1e-6);
    way = DIRECT;
}

/* ---- operations ---- */

static const size_t off[] = { 0, 4, 4, 9 }; /* one sequence is empty */
static const mm_ragged seqs = { off, 3 };
enum { ROWS = 9 };
static mmk_act act;
static int with_residual;
static mm_linear lin[3];
static mm_norm norms[3];
static mm_param *gammas[3];

static mm_linear linear_of(mm_param *w, mm_param *b) { return (mm_linear){ NULL, b ? b->w : NULL, w, b }; }
static mm_norm norm_of(mm_param *gain, mm_param *bias) { return (mm_norm){ gain->w, bias->w, gain, bias }; }

static mm_linear a_linear(size_t n, size_t k)
{
    mm_param *w = more(n, k, 1, 0);
    return linear_of(w, more(1, n, 1, 0));
}

static mm_norm a_norm(size_t n)
{
    mm_param *gain = more(1, n, 1, 1);
    return norm_of(gain, more(1, n, 1, 0));
}

static mm_tensor build_linear(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]), res = with_residual ? as(g, &leaf[1]) : x;
    return mm_op_linear(g, x, &lin[0], act, with_residual ? &res : NULL, NULL);
}

static mm_tensor build_linear_self(mm_graph *g) /* x + W x: the residual is the input */
{
    mm_tensor x = as(g, &leaf[0]);
    return mm_op_linear(g, x, &lin[0], act, &x, NULL);
}

static mm_tensor build_linear_twice(mm_graph *g) /* the same weight, and the same tensor, in several places */
{
    mm_tensor x = as(g, &leaf[0]), y = mm_op_linear(g, x, &lin[0], MMK_ACT_SILU, &x, NULL);
    mm_tensor z = mm_op_linear(g, y, &lin[0], MMK_ACT_NONE, &x, NULL);
    return mm_op_linear(g, z, &lin[0], MMK_ACT_GELU_ERF, &y, NULL);
}

static mm_tensor build_linear_runs(mm_graph *g)
{
    const mm_linear *l[3] = { &lin[0], &lin[1], &lin[2] };
    mm_tensor x = as(g, &leaf[0]), res = as(g, &leaf[1]);
    return mm_op_linear_runs(g, x, l, &seqs, act, with_residual ? &res : NULL, NULL);
}

static mm_tensor build_norm(mm_graph *g) { return mm_op_layer_norm(g, as(g, &leaf[0]), &norms[0], (float)1e-5, NULL); }

static mm_tensor build_norm_runs(mm_graph *g)
{
    const mm_norm *w[3] = { &norms[0], &norms[1], &norms[2] };
    return mm_op_norm_runs(g, as(g, &leaf[0]), w, &seqs, (float)1e-5, NULL);
}

static mm_tensor build_rms_norm(mm_graph *g) { return mm_op_rms_norm(g, as(g, &leaf[0]), &norms[0], (float)1e-5, NULL); }
/* two parts of a row, one column before them and one behind */
static mm_tensor build_norm_heads(mm_graph *g) { return mm_op_norm_heads(g, as(g, &leaf[0]), 1, 2, 3, &norms[0], (float)1e-5); }
static mm_tensor build_gate(mm_graph *g) { return mm_op_gate(g, as(g, &leaf[0]), act); }

static mm_tensor build_scaled(mm_graph *g) { return mm_op_add_scaled_runs(g, as(g, &leaf[0]), as(g, &leaf[1]), gammas, &seqs, NULL); }

static mm_tensor build_scaled_self(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]);
    return mm_op_add_scaled_runs(g, x, x, gammas, &seqs, NULL);
}

static mm_tensor build_affine(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]), a = as(g, &leaf[1]), b = as(g, &leaf[2]);
    return mm_op_affine(g, x, a, with_residual ? &b : NULL);
}

static mm_tensor build_affine_self(mm_graph *g) /* x^2 + x */
{
    mm_tensor x = as(g, &leaf[0]);
    return mm_op_affine(g, x, x, &x);
}

static mm_tensor build_sigmoid(mm_graph *g) { return mm_op_sigmoid(g, as(g, &leaf[0])); }
static mm_tensor build_normalize(mm_graph *g) { return mm_op_normalize(g, as(g, &leaf[0])); }

static mm_tensor build_sum(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]), y = as(g, &leaf[1]), all[3] = { x, y, x };
    return mm_op_sum(g, all, (const float[]){ (float)0.7, (float)-1.3, (float)0.4 }, 3);
}

static mm_tensor build_concat(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]), y = as(g, &leaf[1]), all[3] = { x, y, x };
    return mm_op_concat(g, all, 3);
}

static mm_tensor build_rows(mm_graph *g)
{
    return mm_op_rows(g, as(g, &leaf[0]), (const size_t[]){ 3, 0, 3, 8, 7 }, 5);
}

static mm_tensor build_lookup(mm_graph *g) { return mm_op_lookup(g, &leaf[0], (const int32_t[]){ 3, 0, 3, 8, 7, 3 }, 6); }

static mm_tensor build_add_rows(mm_graph *g)
{
    static const float table[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    mm_tensor x = as(g, &leaf[0]);
    x = mm_op_linear(g, x, &lin[0], MMK_ACT_NONE, NULL, NULL);
    x = mm_op_add_rows(g, x, table, (const int32_t[]){ 0, 1, 0, 1, 1, 0, 0, 0, 1 });
    return mm_op_linear(g, x, &lin[1], MMK_ACT_NONE, &x, NULL);
}

static mm_pool pool;
static mm_tensor build_pool(mm_graph *g) { return mm_op_pool(g, as(g, &leaf[0]), &seqs, pool); }

static mm_tensor build_reshape(mm_graph *g) /* the view and the whole are both used */
{
    mm_tensor x = as(g, &leaf[0]), v = mm_op_reshape(g, x, x.rows / 3, x.cols * 3);
    v = mm_op_sigmoid(g, v);
    mm_tensor both[2] = { mm_op_reshape(g, v, x.rows, x.cols), x };
    return mm_op_concat(g, both, 2);
}

static mm_attention heads;
static int with_bias;

static mm_tensor build_attention(mm_graph *g)
{
    mm_tensor qkv = as(g, &leaf[0]), bias = with_bias ? as(g, &leaf[1]) : qkv;
    return mm_op_attention(g, qkv, &heads, &seqs, with_bias ? &bias : NULL);
}

static float turn_cos[ROWS * 2], turn_sin[ROWS * 2];

static mm_tensor build_rotary(mm_graph *g) /* in place, and what used x before has used it unturned */
{
    mm_tensor x = mm_op_linear(g, as(g, &leaf[0]), &lin[0], MMK_ACT_NONE, NULL, NULL);
    mm_tensor before = mm_op_pool(g, x, &seqs, MM_POOL_MEAN);
    x = mm_op_rotary(g, x, turn_cos, turn_sin, 2, 4);
    x = mm_op_rotary(g, x, turn_sin, turn_cos, 1, 4);
    mm_tensor both[2] = { mm_op_sigmoid(g, x), before };
    return mm_op_concat(g, both, 2);
}

static mm_tensor build_rotary_input(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]);
    if (way == DIRECT) x = mm_op_sum(g, &x, (const float[]){ 1 }, 1); /* not the parameter itself */
    return mm_op_rotary(g, x, turn_cos, turn_sin, 2, 4);
}

static mm_tensor build_attend(mm_graph *g)
{
    mm_tensor x = as(g, &leaf[0]), q = as(g, &leaf[1]);
    return mm_op_attend(g, x, q, 3, &seqs);
}

static mm_tensor build_similarity(mm_graph *g)
{
    mm_tensor a = as(g, &leaf[0]), b = as(g, &leaf[1]), s = as(g, &leaf[2]), c = as(g, &leaf[3]);
    return mm_op_similarity(g, a, b, s, with_bias ? &c : NULL);
}

static mm_tensor build_similarity_self(mm_graph *g)
{
    mm_tensor a = as(g, &leaf[0]), s = as(g, &leaf[1]);
    return mm_op_similarity(g, a, a, s, &s);
}

static mm_tensor build_transpose(mm_graph *g) { return mm_op_transpose(g, as(g, &leaf[0])); }

static mm_tensor build_beside(mm_graph *g)
{
    mm_tensor a = as(g, &leaf[0]);
    const mm_tensor x[3] = { a, as(g, &leaf[1]), a };
    return mm_op_beside(g, x, 3);
}
static mm_tensor build_outer(mm_graph *g) { return mm_op_outer(g, as(g, &leaf[0]), as(g, &leaf[1])); }
static mm_tensor build_log_softmax(mm_graph *g) { return mm_op_log_softmax_runs(g, as(g, &leaf[0]), &seqs); }
static mm_tensor build_mix(mm_graph *g)
{
    mm_tensor w = as(g, &leaf[1]);
    return mm_op_mix_runs(g, as(g, &leaf[0]), mm_op_log_softmax_runs(g, w, &seqs), &seqs);
}

static void op_mix(void)
{
    begin(), more(4, 3, 1, 0), more(4, 2, 1, 0);
    check("beside", build_beside);
    begin(), more(5, 1, 1, 0), more(1, 6, 1, 0);
    check("outer", build_outer);
    begin(), more(9, 1, 1, 0);
    check("log softmax of runs", build_log_softmax);
    begin(), more(9, 4, 1, 0), more(9, 1, 1, 0);
    check("mix of runs", build_mix);
}

static const float *target;
static mm_tensor build_softmax_ce(mm_graph *g) { return mm_op_softmax_ce(g, as(g, &leaf[0]), target); }
static mm_tensor build_sigmoid_ce(mm_graph *g) { return mm_op_sigmoid_ce(g, as(g, &leaf[0]), target); }
static mm_tensor build_cos_loss(mm_graph *g) { return mm_op_cos_loss(g, as(g, &leaf[0]), target, 7, 5); }
static mm_tensor build_mse(mm_graph *g) { return mm_op_mse(g, as(g, &leaf[0]), target, with_bias ? target + 50 : NULL); }
static mm_tensor build_class_ce(mm_graph *g)
{
    return mm_op_class_ce(g, as(g, &leaf[0]), (const int32_t[]){ 0, 5, -1, 2, 2, -1, 3, 1, 4 });
}

static void op_linear(void)
{
    static const char *const acts[] = { "no activation", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu" };
    char name[80];
    for (int a = 0; a <= MMK_ACT_RELU; a++)
        for (with_residual = 0; with_residual < 2; with_residual++) {
            act = (mmk_act)a;
            begin();
            more(ROWS, 5, 1, 0), more(ROWS, 7, 1, 0);
            lin[0] = a_linear(7, 5);
            snprintf(name, sizeof name, "linear, %s%s", acts[a], with_residual ? ", residual" : "");
            check(name, build_linear);
        }
    act = MMK_ACT_GELU_ERF, with_residual = 1;
    lin[0] = linear_of(&leaf[2], NULL);
    check("linear without bias", build_linear);
    freeze(&leaf[2]);
    lin[0] = linear_of(&leaf[2], &leaf[3]);
    check("linear, weight frozen", build_linear);
    freeze(&leaf[3]);
    check("linear, weight and bias frozen", build_linear);
    freeze(&leaf[1]);
    check("linear, residual frozen too", build_linear);
    begin();
    more(ROWS, 5, 1, 0), more(ROWS, 7, 1, 0);
    lin[0] = a_linear(7, 5);
    freeze(&leaf[0]);
    check("linear, input frozen", build_linear);
    freeze(&leaf[1]);
    act = MMK_ACT_NONE;
    check("linear, input and residual frozen, no activation", build_linear);
    begin();
    more(ROWS, 5, 1, 0);
    lin[0] = a_linear(5, 5);
    for (int a = 0; a < 2; a++) {
        act = a ? MMK_ACT_SILU : MMK_ACT_NONE;
        check(a ? "linear, residual is the input, silu" : "linear, residual is the input", build_linear_self);
    }
    check("a weight and a tensor used several times", build_linear_twice);
    begin();
    more(2, 70, 1, 0); /* wider than what a product finishes at once */
    lin[0] = a_linear(70, 70);
    act = MMK_ACT_NONE;
    way = FRESH;
    check1("wide linear, residual is the input", build_linear_self, 1e-6);
    for (int a = 0; a < 2; a++) {
        begin();
        more(ROWS, 5, 1, 0), more(ROWS, 4, 1, 0);
        for (int i = 0; i < 3; i++) lin[i] = a_linear(4, 5);
        act = a ? MMK_ACT_GELU_TANH : MMK_ACT_NONE;
        with_residual = a;
        check(a ? "linear in runs, gelu_tanh, residual" : "linear in runs", build_linear_runs);
        lin[0] = lin[2];
        freeze(lin[1].pw);
        check("linear in runs, two of them of one weight", build_linear_runs);
        freeze(lin[2].pw);
        check("linear in runs, all weights frozen", build_linear_runs);
    }
}

static void op_rows(void)
{
    begin();
    more(ROWS, 6, 1, 0);
    for (int i = 0; i < 3; i++) norms[i] = a_norm(6);
    check("layer norm", build_norm);
    check("layer norm in runs", build_norm_runs);
    freeze(&leaf[3]);
    check("layer norm in runs, a gain frozen", build_norm_runs);
    freeze(&leaf[0]);
    check("layer norm in runs, input frozen", build_norm_runs);
    begin();
    more(150, 4, 1, 0); /* more rows than are summed up in one piece */
    norms[0] = a_norm(4);
    check("layer norm of many rows", build_norm);

    begin();
    more(ROWS, 6, 1, 0), more(ROWS, 6, 1, 0);
    for (int i = 0; i < 3; i++) gammas[i] = more(1, 6, 1, 0);
    check("add_scaled", build_scaled);
    check("add_scaled to itself", build_scaled_self);
    gammas[0] = gammas[2];
    freeze(gammas[1]);
    check("add_scaled, one gamma for two runs", build_scaled);
    freeze(gammas[2]);
    check("add_scaled, gammas frozen", build_scaled);
    freeze(&leaf[1]);
    check("add_scaled, only the sum wants", build_scaled);

    for (with_residual = 0; with_residual < 2; with_residual++) {
        begin();
        more(ROWS, 6, 1, 0), more(1, 6, 1, 0), more(1, 6, 1, 0);
        check(with_residual ? "affine" : "affine without b", build_affine);
    }
    freeze(&leaf[0]);
    check("affine, input frozen", build_affine);
    begin();
    more(1, 6, 1, 0);
    check("affine of one tensor", build_affine_self);
    begin();
    more(ROWS, 6, 3, 0);
    check("sigmoid", build_sigmoid);
    check("normalize", build_normalize);
    check("transpose", build_transpose);
    check("reshape", build_reshape);
    check("rows", build_rows);
    for (int i = 0; i <= MM_POOL_MAX; i++) {
        static const char *const names[] = { "pool, mean", "pool, cls", "pool, last", "pool, max" };
        pool = (mm_pool)i;
        check(names[i], build_pool);
    }
    more(2, 6, 1, 0);
    check("concat", build_concat);
    begin();
    more(ROWS, 6, 1, 0), more(ROWS, 6, 1, 0);
    check("sum", build_sum);
    freeze(&leaf[1]);
    check("sum, one frozen", build_sum);
    check("concat, one frozen", build_concat);
    begin();
    more(ROWS, 6, 1, 0);
    check("lookup", build_lookup);
    begin();
    more(ROWS, 5, 1, 0);
    lin[0] = a_linear(4, 5);
    lin[1] = a_linear(4, 4);
    check("add_rows", build_add_rows);
}

static void op_decoder(void)
{
    static const mmk_act acts[] = { MMK_ACT_SILU, MMK_ACT_GELU_TANH };
    for (int many = 0; many < 2; many++) {
        begin();
        more(many ? 150 : ROWS, 6, 1, 0);
        norms[0] = a_norm(6);
        freeze(norms[0].pbias); /* it has none */
        check(many ? "RMS norm of many rows" : "RMS norm", build_rms_norm);
    }
    freeze(norms[0].pgain);
    check("RMS norm, gain frozen", build_rms_norm);
    begin();
    more(ROWS, 8, 1, 0);
    norms[0] = a_norm(3);
    freeze(norms[0].pbias);
    check("norm of heads", build_norm_heads);
    freeze(&leaf[0]);
    check("norm of heads, input frozen", build_norm_heads);
    for (int i = 0; i < 2; i++) {
        begin();
        more(ROWS, 8, 2, 0);
        act = acts[i];
        check(i ? "gate, gelu_tanh" : "gate, silu", build_gate);
    }
}

static void op_attention(void)
{
    char name[80];
    for (int kv = 2; kv <= 4; kv += 2)
        for (int causal = 0; causal < 2; causal++)
            for (with_bias = 0; with_bias < 2; with_bias++) {
                heads = (mm_attention){ 4, (size_t)kv, 3, (float)0.7, causal };
                begin();
                more(ROWS, (4 + 2 * (size_t)kv) * 3, 1, 0), more(4, ROWS, 1, 0);
                snprintf(name, sizeof name, "%sattention, 4 heads of %d%s", causal ? "causal " : "", kv, with_bias ? ", key bias" : "");
                check(name, build_attention);
            }
    freeze(&leaf[0]);
    with_bias = 1;
    check("attention, only the key bias wants", build_attention);
    begin();
    more(ROWS, 36, 1, 0), more(4, ROWS, 1, 0);
    freeze(&leaf[1]);
    check("attention, key bias frozen", build_attention);

    for (int i = 0; i < ROWS * 2; i++) turn_cos[i] = (float)cos(i), turn_sin[i] = (float)sin(i);
    begin();
    more(ROWS, 5, 1, 0);
    lin[0] = a_linear(8, 5);
    check("rotary", build_rotary);
    begin();
    more(ROWS, 8, 1, 0);
    check("rotary of an input", build_rotary_input);

    begin();
    more(ROWS, 6, 1, 0), more(1, 6, 1, 0);
    check("attend", build_attend);
    freeze(&leaf[0]);
    check("attend, input frozen", build_attend);
    begin();
    more(ROWS, 6, 1, 0), more(1, 6, 0, 0);
    freeze(&leaf[1]);
    check("attend, query frozen at zero", build_attend);

    for (with_bias = 0; with_bias < 2; with_bias++) {
        begin();
        more(4, 6, 1, 0), more(5, 6, 1, 0), more(1, 1, 0.1, 1), more(1, 1, 1, 0);
        check(with_bias ? "similarity, bias" : "similarity", build_similarity);
    }
    leaf[2].w[0] = 5;
    check("similarity, scale at its end", build_similarity);
    leaf[2].w[0] = 1;
    freeze(&leaf[2]), freeze(&leaf[1]);
    check("similarity, scale and one side frozen", build_similarity);
    begin();
    more(4, 6, 1, 0), more(1, 1, 0.1, 1);
    check("similarity of a tensor with itself", build_similarity_self);
}

static void op_losses(void)
{
    static float t[ROWS * 7];
    target = t;
    for (int i = 0; i < ROWS * 7; i++) t[i] = i % 3 ? (float)fabs(uniform()) : 0;
    begin();
    more(ROWS, 6, 2, 0);
    check("softmax_ce", build_softmax_ce);
    check("class_ce", build_class_ce);
    check("sigmoid_ce", build_sigmoid_ce);
    check("cos_loss of the first columns", build_cos_loss);
    for (with_bias = 0; with_bias < 2; with_bias++) check(with_bias ? "mse, weights" : "mse", build_mse);
}

/* ---- the block, and a model ---- */

static mm_tower_config cfg;
static mm_layer layer[2];

static void make_layer(mm_layer *l)
{
    size_t d = (size_t)cfg.width, f = (size_t)cfg.ff_width;
    size_t q = (size_t)(cfg.heads * cfg.head_dim), kv = (size_t)(cfg.kv_heads * cfg.head_dim);
    mm_param *w[] = { more(q + 2 * kv, d, 0.5, 0), more(1, q + 2 * kv, 0.5, 0), more(d, q, 0.5, 0), more(1, d, 0.5, 0),
                      more(f, d, 0.5, 0), more(1, f, 0.5, 0), more(d, f, 0.5, 0), more(1, d, 0.5, 0),
                      more(1, d, 0.5, 1), more(1, d, 0.5, 0), more(1, d, 0.5, 1), more(1, d, 0.5, 0) };
    *l = (mm_layer){ .qkv = linear_of(w[0], w[1]), .out = linear_of(w[2], w[3]), .up = linear_of(w[4], w[5]), .down = linear_of(w[6], w[7]),
                     .attn_norm = norm_of(w[8], w[9]), .ff_norm = norm_of(w[10], w[11]) };
}

static mm_tensor build_block(mm_graph *g) { return mm_block(g, &cfg, &layer[0], as(g, &leaf[0]), &seqs, NULL); }

static void the_block(void)
{
    for (int pre = 0; pre < 2; pre++) {
        cfg = (mm_tower_config){ .width = 6, .ff_width = 10, .heads = 2, .kv_heads = pre ? 1 : 2, .head_dim = 3, .eps = (float)1e-5,
                                 .act = pre ? MMK_ACT_GELU_TANH : MMK_ACT_GELU_ERF, .pre_norm = pre, .causal = pre };
        begin();
        more(ROWS, 6, 1, 0);
        make_layer(&layer[0]);
        check(pre ? "block, pre-norm, causal, shared key heads" : "block, post-norm", build_block);
    }
}

/* A decoder's: RMS norms, also of heads and sums, rotary positions, key heads shared, gated. */
static mm_tensor build_decoder(mm_graph *g)
{
    const mm_going_on on = { .cos = turn_cos, .sin = turn_sin };
    return mm_block(g, &cfg, &layer[0], as(g, &leaf[0]), &seqs, &on);
}

static void decoder_block(void)
{
    const int q = 8, kv = 4, f = 5;
    for (int more_norms = 0; more_norms < 2; more_norms++) {
        cfg = (mm_tower_config){ .width = 6, .ff_width = f, .heads = 2, .kv_heads = 1, .head_dim = 4, .eps = (float)1e-5, .act = MMK_ACT_SILU, .pre_norm = 1,
                                 .causal = 1, .rms = 1, .gated = 1, .head_norms = more_norms, .sum_norms = more_norms };
        begin();
        more(ROWS, 6, 1, 0);
        mm_param *w[] = { more((size_t)(q + 2 * kv), 6, 0.5, 0), more(6, (size_t)q, 0.5, 0), more(2 * (size_t)f, 6, 0.5, 0), more(6, (size_t)f, 0.5, 0) };
        mm_norm *to[] = { &layer[0].attn_norm, &layer[0].ff_norm, &layer[0].q_norm, &layer[0].k_norm, &layer[0].attn_sum_norm, &layer[0].ff_sum_norm };
        layer[0] = (mm_layer){ .qkv = { .pw = w[0] }, .out = { .pw = w[1] }, .up = { .pw = w[2] }, .down = { .pw = w[3] } };
        for (int i = 0; i < (more_norms ? 6 : 2); i++) {
            mm_param *gain = more(1, i == 2 || i == 3 ? 4 : 6, 0.5, 1);
            *to[i] = (mm_norm){ .gain = gain->w, .pgain = gain };
        }
        check(more_norms ? "decoder block, norms of heads and sums" : "decoder block", build_decoder);
        for (int i = 1; i < n_leaf; i++) freeze(&leaf[i]);
        check("... all weights frozen", build_decoder);
    }
}

/* Two towers' worth of one trunk: tokens and patches, blocks with LayerScale, rotary and a key bias, pooling, one contrastive loss and
 * what hangs on it. Leaf 0: token table, 1: patches, 2: query, 3: log scale, 4: bias, 5: gates' logits, 6-: see the_model() */
enum { TOK = 10 };
static const size_t all_off[] = { 0, 3, 7, 10, 13, 16, 19 }, run_off[] = { 0, TOK, 19 };
static mm_param *scale[2][2];

static mm_tensor build_model(mm_graph *g)
{
    static const int32_t ids[TOK] = { 1, 2, 0, 4, 4, 3, 2, 1, 1, 0 };
    static const float same[9] = { 1, 0, 0, 0, 1, 0, 0, 0, 1 };
    static float turn[2][19 * 2];
    const mm_ragged all = { all_off, 6 }, runs = { run_off, 2 };
    mm_tensor patches = as(g, &leaf[1]), bias = as(g, &leaf[5]);
    for (int i = 0; i < 19 * 2; i++) turn[0][i] = (float)cos(0.2 * i), turn[1][i] = (float)sin(0.2 * i);
    mm_tensor part[2] = { mm_op_lookup(g, &leaf[0], ids, TOK), mm_op_linear(g, patches, &lin[0], MMK_ACT_SILU, NULL, NULL) };
    mm_tensor x = mm_op_concat(g, part, 2);
    for (int k = 0; k < 2; k++) {
        mm_tape_mark m = mm_tape_here(g);
        const mm_layer *l = &layer[k];
        const mm_norm *n[2] = { &layer[0].attn_norm, &layer[1].attn_norm };
        const mm_linear *up[2] = { &layer[0].up, &layer[1].up };
        const mm_attention at = { 2, 1, 4, (float)0.5, 0 };
        mm_tensor a = mm_op_norm_runs(g, x, n, &runs, (float)1e-5, NULL);
        a = mm_op_rotary(g, mm_op_linear(g, a, &l->qkv, MMK_ACT_NONE, NULL, NULL), turn[0], turn[1], 3, 4);
        a = mm_op_linear(g, mm_op_attention(g, a, &at, &all, &bias), &l->out, MMK_ACT_NONE, NULL, NULL);
        x = mm_op_add_scaled_runs(g, x, a, scale[k], &runs, NULL);
        a = mm_op_linear_runs(g, mm_op_layer_norm(g, x, &l->ff_norm, (float)1e-5, NULL), up, &runs, MMK_ACT_GELU_ERF, NULL, NULL);
        x = mm_op_add_scaled_runs(g, x, mm_op_linear(g, a, &l->down, MMK_ACT_NONE, NULL, NULL), scale[k], &runs, NULL);
        x = mm_tape_segment(g, m, x);
    }
    mm_tensor v = mm_op_normalize(g, mm_op_attend(g, x, as(g, &leaf[2]), 2, &all)), ls = as(g, &leaf[3]), lb = as(g, &leaf[4]);
    mm_tensor text = mm_op_rows(g, v, (const size_t[]){ 0, 1, 2 }, 3), pic = mm_op_rows(g, v, (const size_t[]){ 3, 4, 5 }, 3);
    mm_tensor s = mm_op_similarity(g, text, pic, ls, NULL), z = mm_op_similarity(g, text, pic, ls, &lb);
    mm_tensor loss[5] = { mm_op_softmax_ce(g, s, same), mm_op_softmax_ce(g, mm_op_transpose(g, s), same), mm_op_sigmoid_ce(g, z, same),
                          mm_op_cos_loss(g, pic, target, 8, 5), mm_op_mse(g, text, target, NULL) };
    return mm_op_sum(g, loss, (const float[]){ (float)0.5, (float)0.5, (float)0.2, (float)0.7, (float)0.3 }, 5);
}

static void the_model(void)
{
    static float t[ROWS * 8];
    target = t;
    fill(t, ROWS * 8);
    cfg = (mm_tower_config){ .width = 8, .ff_width = 12, .heads = 2, .kv_heads = 1, .head_dim = 4 };
    begin();
    more(5, 8, 1, 0), more(ROWS, 5, 1, 0), more(1, 8, 1, 0), more(1, 1, 0.1, 1), more(1, 1, 1, 0), more(2, 19, 1, 0);
    lin[0] = a_linear(8, 5);
    make_layer(&layer[0]), make_layer(&layer[1]);
    for (int k = 0; k < 2; k++)
        for (int m = 0; m < 2; m++) scale[k][m] = more(1, 8, 0.5, 0.5);
    check("a model", build_model);
    for (int i = 0; i < n_leaf; i += 3) freeze(&leaf[i]);
    check("a model, a third of it frozen", build_model);
}

int main(void)
{
    fill(cot, MOST), fill(again, MOST);
    op_linear();
    op_rows();
    op_decoder();
    op_attention();
    op_mix();
    op_losses();
    the_block();
    decoder_block();
    the_model();
    begin();
    printf("1..%d\n", tests);
    return bad > 0;
}

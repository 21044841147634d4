/* bench_train THREADS [BATCH [KEEP]] - one training step, as scripts/bench-train compares it with torch: a causal transformer of width 256, 6 layers, 4
 * heads, feed-forward 4, over BATCH (64) sequences of 64 tokens of a vocabulary of 512; forward, backward, AdamW, in float32. KEEP f16 or bf16:
 * layers wait in 16 bits. For every line on standard input one step, and a line of JSON; at first one that is not timed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "graph/mm_tape.h"
#include "train/mm_optim.h"

enum { D = 256, LAYERS = 6, HEADS = 4, T = 64, V = 512, PARAMS = 12 * LAYERS + 4 };

typedef struct {
    mm_linear qkv, out, up, down;
    mm_norm norm1, norm2;
} layer;

static mm_param param[PARAMS];
static int n_param;
static mm_pset set;
static layer layers[LAYERS];
static mm_norm last;
static mm_linear head;
static mm_param *tokens, *places;
static unsigned long long seed = 88172645463325252u;

static float rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (float)((double)(seed >> 11) / 9007199254740992.0 * 2 - 1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static mm_param *weight(size_t rows, size_t cols)
{
    char name[16];
    mm_param *p = &param[n_param];
    snprintf(name, sizeof name, "%d", n_param++);
    *p = (mm_param){ NULL, NULL, rows, cols };
    return mm_pset_add(&set, name, p, MM_PSET_DECAY, 1, NULL) ? NULL : p;
}

static mm_linear linear(size_t n, size_t k)
{
    mm_param *w = weight(n, k);
    return (mm_linear){ NULL, NULL, w, weight(1, n) };
}

static mm_norm norm(void)
{
    mm_param *gain = weight(1, D);
    return (mm_norm){ NULL, NULL, gain, weight(1, D) };
}

static void settle(mm_norm *n)
{
    n->gain = n->pgain->w;
    n->bias = n->pbias->w;
    for (size_t i = 0; i < D; i++) n->pgain->w[i] = 1;
}

static int make(void)
{
    tokens = weight(V, D);
    places = weight(T, D);
    for (int i = 0; i < LAYERS; i++)
        layers[i] = (layer){ linear(3 * D, D), linear(D, D), linear(4 * D, D), linear(D, 4 * D), norm(), norm() };
    last = norm();
    if (mm_pset_build(&set, NULL)) return 1;
    for (int i = 0; i < n_param; i++)
        for (size_t k = 0; param[i].rows > 1 && k < param[i].rows * param[i].cols; k++) param[i].w[k] = rnd() / sqrtf((float)param[i].cols);
    for (int i = 0; i < LAYERS; i++) {
        mm_linear *lin[4] = { &layers[i].qkv, &layers[i].out, &layers[i].up, &layers[i].down };
        for (int k = 0; k < 4; k++) lin[k]->bias = lin[k]->pb->w;
        settle(&layers[i].norm1), settle(&layers[i].norm2);
    }
    settle(&last);
    head = (mm_linear){ NULL, NULL, tokens, NULL }; /* tied */
    mm_pset_reset(&set);
    return 0;
}

static mm_tensor forward(mm_graph *g, const int32_t *ids, const int32_t *at, const mm_ragged *r)
{
    const mm_attention how = { HEADS, HEADS, D / HEADS, 1 / sqrtf((float)D / HEADS), 1 };
    const mm_tensor in[2] = { mm_op_lookup(g, tokens, ids, r->off[r->n]), mm_op_lookup(g, places, at, r->off[r->n]) };
    mm_tensor x = mm_op_sum(g, in, (const float[]){ 1, 1 }, 2);
    for (int i = 0; i < LAYERS; i++) {
        const layer *l = &layers[i];
        mm_tape_mark from = mm_tape_here(g);
        mm_tensor a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm1, 1e-5f, NULL), &l->qkv, MMK_ACT_NONE, NULL, NULL);
        x = mm_op_linear(g, mm_op_attention(g, a, &how, r, NULL), &l->out, MMK_ACT_NONE, &x, NULL);
        a = mm_op_linear(g, mm_op_layer_norm(g, x, &l->norm2, 1e-5f, NULL), &l->up, MMK_ACT_GELU_TANH, NULL, NULL);
        x = mm_tape_segment(g, from, mm_op_linear(g, a, &l->down, MMK_ACT_NONE, &x, NULL));
    }
    return mm_op_linear(g, mm_op_layer_norm(g, x, &last, 1e-5f, NULL), &head, MMK_ACT_NONE, NULL, NULL);
}

int main(int argc, char **argv)
{
    const mm_optim o = { .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .wd = 0.01f };
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2;
    size_t batch = argc > 2 ? strtoul(argv[2], NULL, 10) : 64, rows = batch * T;
    mm_keep keep = argc > 3 && !strcmp(argv[3], "f16") ? MM_KEEP_F16 : argc > 3 && !strcmp(argv[3], "bf16") ? MM_KEEP_BF16 : MM_KEEP_F32;
    mm_tape *tape = mm_tape_new(keep);
    mm_arena arena = { 0 };
    int32_t *ids = malloc(3 * (rows + 1) * sizeof *ids), *next = ids + rows + 1, *at = next + rows;
    size_t *off = malloc((batch + 1) * sizeof *off);
    if (threads < 1 || !batch || !tape || !ids || !off || make()) {
        fprintf(stderr, "usage: bench_train THREADS [BATCH [f32|f16|bf16]]\n");
        return 2;
    }
    for (size_t i = 0; i < rows; i++) {
        ids[i] = (int32_t)((rnd() + 1) * (V / 2 - 1));
        next[i] = (int32_t)((rnd() + 1) * (V / 2 - 1));
        at[i] = (int32_t)(i % T);
    }
    for (size_t i = 0; i <= batch; i++) off[i] = i * T;
    const double flop = 6.0 * (double)rows * (12.0 * LAYERS * D * D + D * V) + 12.0 * (double)batch * LAYERS * T * T * D;
    char line[16];
    do {
        mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = threads, .tape = tape };
        double t[4] = { now() };
        mm_pset_zero(&set);
        mm_tensor loss = mm_op_class_ce(&g, forward(&g, ids, at, &(mm_ragged){ off, batch }), next);
        t[1] = now();
        float value = loss.p ? *loss.p : NAN;
        mm_tape_seed(&g, loss, 1);
        if (mm_tape_backward(&g)) return 4;
        t[2] = now();
        if (mm_pset_step(&set, &o, 3e-4, 1, threads, NULL)) return 4;
        t[3] = now();
        mm_tape_reset(tape);
        mm_arena_reset(&arena);
        struct rusage u;
        getrusage(RUSAGE_SELF, &u);
        double all = now() - t[0];
        printf("{\"per_s\":%.2f,\"ms\":%.1f,\"forward\":%.1f,\"backward\":%.1f,\"adamw\":%.1f,\"gflops\":%.1f,\"loss\":%.4f,\"peak_mb\":%.0f,"
               "\"rss_mb\":%.0f}\n", (double)batch / all, all * 1e3, (t[1] - t[0]) * 1e3, (t[2] - t[1]) * 1e3, (t[3] - t[2]) * 1e3,
               flop / all * 1e-9, (double)value, (double)mm_tape_peak(tape) / (1 << 20), (double)u.ru_maxrss / 1024);
        fflush(stdout);
    } while (fgets(line, sizeof line, stdin));
    mm_pset_clear(&set);
    mm_tape_free(&tape);
    mm_arena_clear(&arena);
    free(ids);
    free(off);
    return 0;
}

/* Ragged attention against ref, and bits that depend on a row's own sequence only. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"

typedef struct {
    size_t heads, kv, d, ld;
    size_t off[8], nseq;
    float *qkv, *bias;
} input;

static void make(input *in, size_t heads, size_t kv, size_t d, const size_t *len, size_t nseq)
{
    *in = (input){ .heads = heads, .kv = kv, .d = d, .ld = (heads + 2 * kv) * d + 3, .nseq = nseq };
    for (size_t s = 0; s < nseq; s++) in->off[s + 1] = in->off[s] + len[s];
    size_t rows = in->off[nseq];
    in->qkv = malloc(4 * (rows * in->ld + 1));
    in->bias = malloc(4 * (heads * rows + 1));
    fill(in->qkv, rows * in->ld, 0);
    for (size_t i = 0; i < rows * in->ld; i++) in->qkv[i] *= 2;
    fill(in->bias, heads * rows, 0);
}

static int run(const mm_kern *k, const input *in, float *out, int causal, int bias, int threads)
{
    size_t q = in->heads * in->d, kv = in->kv * in->d;
    return mmk_attention(k, out, q, in->qkv, in->ld, in->qkv + q, in->ld, in->qkv + q + kv, in->ld, in->off, in->nseq,
                         in->heads, in->kv, in->d, 1 / sqrtf((float)in->d), causal, bias ? in->bias : NULL, threads);
}

static void compare(const mm_kern *k, const mm_kern *ref, size_t heads, size_t kv, size_t d, const size_t *len,
                    size_t nseq)
{
    input in;
    make(&in, heads, kv, d, len, nseq);
    size_t n = in.off[nseq] * heads * d;
    float *a = guarded(4 * n, 4), *b = guarded(4 * n, 4);
    for (int mode = 0; mode < 4; mode++) {
        if (mode == 3 && n) in.bias[0] = -INFINITY; /* a hidden key */
        if (run(k, &in, a, mode & 1, mode >> 1, 1) || run(ref, &in, b, mode & 1, mode >> 1, 1)) wrong("no memory");
        for (size_t i = 0; i < n; i++)
            if (!(fabsf(a[i] - b[i]) <= 2e-5f))
                wrong("heads %zu/%zu d %zu mode %d at %zu: %g, not %g", heads, kv, d, mode, i, (double)a[i],
                      (double)b[i]);
        if (run(k, &in, b, mode & 1, mode >> 1, 3) || memcmp(a, b, 4 * n)) wrong("three threads give other bits");
    }
    if (!guard_ok(a)) wrong("writes beyond the end");
    guard_free(a), guard_free(b);
    free(in.qkv), free(in.bias);
}

static void alone(const mm_kern *k)
{
    static const size_t len[] = { 5, 40, 17 };
    input in;
    make(&in, 3, 3, 32, len, 3);
    size_t q = in.heads * in.d, n = in.off[3] * q;
    float *all = malloc(4 * n), *one = malloc(4 * n);
    int r = run(k, &in, all, 0, 0, 1);
    for (size_t s = 0; s < 3; s++) {
        input sub = in;
        sub.qkv = in.qkv + in.off[s] * in.ld;
        sub.off[0] = 0, sub.off[1] = len[s], sub.nseq = 1;
        r |= run(k, &sub, one, 0, 0, 1);
        if (r || memcmp(one, all + in.off[s] * q, 4 * len[s] * q)) wrong("sequence %zu alone has other bits", s);
    }
    free(all), free(one), free(in.qkv), free(in.bias);
}

static const mm_kern *bk;
static float *bout;
static void run_bench(void *p)
{
    if (run(bk, p, bout, 0, 0, 1)) exit(4);
}

void case_attn(const mm_kern *k, const mm_kern *ref)
{
    static const size_t lens[][3] = { { 1, 2, 3 }, { 0, 7, 16 }, { 17, 31, 33 }, { 64, 65, 1 }, { 100, 0, 9 } };
    static const size_t shapes[][3] = { { 1, 1, 1 },  { 2, 2, 7 },  { 4, 2, 16 }, { 3, 1, 20 },
                                        { 2, 2, 32 }, { 2, 1, 64 }, { 1, 1, 80 }, { 1, 1, 128 } };
    if (bench) {
        static const size_t tokens[] = { 32, 256 };
        for (int i = 0; i < 2; i++) {
            input in;
            char shape[40];
            make(&in, 12, 12, 32, &tokens[i], 1);
            bk = k;
            bout = malloc(4 * tokens[i] * 384);
            snprintf(shape, sizeof shape, "12x%zux32", tokens[i]);
            report("attention", "f32", shape, timed(run_bench, &in), 0, 4.0 * (double)(tokens[i] * tokens[i] * 384));
            free(bout), free(in.qkv), free(in.bias);
        }
        return;
    }
    begin("attention: lengths, head widths, shared keys, causal, bias, threads");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t l = 0; l < sizeof lens / sizeof *lens; l++)
            compare(k, ref, shapes[s][0], shapes[s][1], shapes[s][2], lens[l], 3);
    end();
    begin("attention: a sequence alone has the same bits");
    alone(k);
    end();
    begin("attention: a query that sees no key gives zeros");
    static const size_t three = 3;
    input in;
    float out[3 * 8];
    make(&in, 1, 1, 8, &three, 1);
    for (int i = 0; i < 3; i++) in.bias[i] = -INFINITY;
    if (run(k, &in, out, 0, 1, 1)) wrong("no memory");
    for (int i = 0; i < 24; i++)
        if (out[i] != 0) wrong("element %d is %g", i, (double)out[i]);
    free(in.qkv), free(in.bias);
    end();
}

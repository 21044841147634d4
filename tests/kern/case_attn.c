/* Ragged attention against ref, and bits that depend on a row's own sequence only. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "kernels/mm_kv.h"

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

/* ---- keys and values that are kept ---- */

typedef struct {
    size_t heads, kv, d, window;
    int type;
} kept_shape;

/* One sequence of n tokens, given in steps of at most `each`, with two threads or one; out [n, heads * d] */
static int kept(const mm_kern *k, const kept_shape *s, const float *qkv, size_t n, size_t each, int threads, float *out)
{
    size_t q = s->heads * s->d, kv = s->kv * s->d, ld = q + 2 * kv, room = (n + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK;
    size_t bytes = s->kv * mmk_kv_bytes(s->type, room, s->d);
    const mmk_kv_shape shape = { s->type, s->heads, s->kv, s->d, 1 / sqrtf((float)s->d), s->window };
    char *keys = guarded(bytes, 0), *values = guarded(bytes, 0);
    memset(keys, 0x7f, bytes), memset(values, 0x7f, bytes); /* NaN where nothing was stored */
    int r = 0;
    for (size_t at = 0; at < n && !r; at += each) {
        const float *x = qkv + at * ld;
        const mmk_kv_part p = { out + at * q, x, x + q, x + q + kv, q, ld, n - at < each ? n - at : each, at, keys, values, room };
        r = mmk_kv_attention(k, &p, 1, &shape, threads);
    }
    if (!guard_ok(keys) || !guard_ok(values)) wrong("writes beyond the end");
    guard_free(keys), guard_free(values);
    return r;
}

static void kept_case(const mm_kern *k, const mm_kern *ref, const kept_shape *s, size_t n)
{
    static const size_t cuts[] = { 1, 2, 5, 17, 64 };
    size_t q = s->heads * s->d, ld = q + 2 * s->kv * s->d;
    float *qkv = malloc(4 * n * ld), *a = guarded(4 * n * q, 4), *b = malloc(4 * n * q);
    fill(qkv, n * ld, 0);
    for (size_t i = 0; i < n * ld; i++) qkv[i] *= 2;
    if (kept(k, s, qkv, n, n, 1, a) || kept(ref, s, qkv, n, n, 1, b)) wrong("no memory");
    for (size_t i = 0; i < n * q; i++)
        if (!(fabsf(a[i] - b[i]) <= 2e-5f))
            wrong("heads %zu/%zu d %zu type %d window %zu at %zu: %g, not %g", s->heads, s->kv, s->d, s->type, s->window, i, (double)a[i],
                  (double)b[i]);
    if (!guard_ok(a)) wrong("writes beyond the end");
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++)
        if (kept(k, s, qkv, n, cuts[c], 1 + (int)(c % 3), b) || memcmp(a, b, 4 * n * q)) wrong("in steps of %zu: other bits", cuts[c]);
    free(qkv), guard_free(a), free(b);
}

static void kept_all(const mm_kern *k, const mm_kern *ref)
{
    static const kept_shape shapes[] = { { 1, 1, 2, 0, 0 },   { 4, 2, 16, 0, 0 },  { 3, 1, 20, 5, 0 },   { 9, 3, 64, 0, 1 },  { 8, 1, 32, 0, 1 },
                                         { 2, 2, 40, 33, 1 }, { 6, 2, 96, 16, 1 }, { 14, 2, 64, 100, 1 }, { 4, 4, 128, 0, 1 }, { 9, 3, 64, 0, 8 },
                                         { 4, 1, 96, 21, 8 } };
    static const size_t lengths[] = { 1, 15, 16, 40, 141 };
    begin("attention over kept keys: types, shared keys, windows, steps");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) kept_case(k, ref, &shapes[i], lengths[l]);
    end();
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
    kept_all(k, ref);
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

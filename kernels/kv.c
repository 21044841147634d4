/* kv.c - stores keys and values, and cuts attention over them into pieces for threads: some tokens of one sequence, and the heads that share
 * one key head. */
#include "kernels/attn_int.h"
#include "kernels/mm_kern.h"
#include "kernels/mm_kv.h"
#include "kernels/scratch_int.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

/* A thread more pays from this many multiply-adds on. */
#define WORK_PER_THREAD 1e5

enum { TOKENS = 64, GROUP = 32 }; /* tokens of a piece; channels that share a scale */

size_t mmk_kv_bytes(int type, size_t tokens, size_t d)
{
    switch (type) {
    case 0: return tokens * d * sizeof(float);
    case 1: return tokens * d * 2;
    case 8: return d % GROUP ? 0 : tokens * (d + d / GROUP * 2);
    default: return 0;
    }
}

/* int8 come first, the scales of all tokens after them: [block][head_dim / GROUP][MMK_KV_BLOCK] of keys, [token][head_dim / GROUP] of values */
static uint16_t *scales(const char *mem, size_t tokens, size_t d) { return (uint16_t *)(void *)(uintptr_t)(mem + tokens * d); }

static void store_q8(const mm_kern *kern, char *keys, char *values, size_t tokens, size_t at, const float *k, const float *v, size_t d)
{
    size_t groups = d / GROUP, base = at / MMK_KV_BLOCK * MMK_KV_BLOCK * d + at % MMK_KV_BLOCK;
    uint16_t *ks = scales(keys, tokens, d) + at / MMK_KV_BLOCK * MMK_KV_BLOCK * groups + at % MMK_KV_BLOCK, *vs = scales(values, tokens, d);
    for (size_t g = 0; g < groups; g++) {
        char block[34];
        kern->from_f32[MMK_FMT_Q8_0](block, k + g * GROUP, GROUP);
        memcpy(ks + g * MMK_KV_BLOCK, block, 2);
        for (size_t t = 0; t < GROUP; t++) keys[base + (g * GROUP + t) * MMK_KV_BLOCK] = block[2 + t];
        kern->from_f32[MMK_FMT_Q8_0](block, v + g * GROUP, GROUP);
        memcpy(vs + at * groups + g, block, 2);
        memcpy(values + at * d + g * GROUP, block + 2, GROUP);
    }
}

static void store(const mm_kern *kern, int type, char *keys, char *values, size_t tokens, size_t at, const float *k, const float *v, size_t d)
{
    size_t base = at / MMK_KV_BLOCK * MMK_KV_BLOCK * d + at % MMK_KV_BLOCK;
    if (type == 8) {
        store_q8(kern, keys, values, tokens, at, k, v, d);
    } else if (type == 0) {
        float *to = (float *)(void *)keys + base;
        for (size_t t = 0; t < d; t++) to[t * MMK_KV_BLOCK] = k[t];
        memcpy((float *)(void *)values + at * d, v, d * sizeof *v);
    } else {
        uint16_t *to = (uint16_t *)(void *)keys + base, half[64];
        kern->from_f32[MMK_FMT_F16]((uint16_t *)(void *)values + at * d, v, d);
        for (size_t t = 0; t < d; t += 64) {
            size_t n = d - t < 64 ? d - t : 64;
            kern->from_f32[MMK_FMT_F16](half, k + t, n);
            for (size_t i = 0; i < n; i++) to[(t + i) * MMK_KV_BLOCK] = half[i];
        }
    }
}

/* The first `keys` tokens (rounded up to blocks) as float32 */
static void widen(const mm_kern *kern, int type, const char *k, const char *v, size_t tokens, size_t from, size_t keys, size_t d, float *kf, float *vf)
{
    size_t end = (keys + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK, groups = d / GROUP;
    if (type == 1) {
        kern->to_f32[MMK_FMT_F16](kf + from * d, (const uint16_t *)(const void *)k + from * d, (end - from) * d);
        kern->to_f32[MMK_FMT_F16](vf + from * d, (const uint16_t *)(const void *)v + from * d, (keys - from) * d);
        return;
    }
    const uint16_t *ks = scales(k, tokens, d), *vs = scales(v, tokens, d);
    for (size_t b = from; b < end; b += MMK_KV_BLOCK)
        for (size_t g = 0; g < groups; g++) {
            float scale[MMK_KV_BLOCK];
            kern->to_f32[MMK_FMT_F16](scale, ks + b * groups + g * MMK_KV_BLOCK, MMK_KV_BLOCK);
            for (size_t t = g * GROUP; t < (g + 1) * GROUP; t++) {
                const int8_t *q = (const int8_t *)k + b * d + t * MMK_KV_BLOCK;
                float *to = kf + b * d + t * MMK_KV_BLOCK;
                for (size_t i = 0; i < MMK_KV_BLOCK; i++) to[i] = scale[i] * (float)q[i];
            }
        }
    for (size_t j = from; j < keys; j++)
        for (size_t g = 0; g < groups; g++) {
            float scale;
            const int8_t *q = (const int8_t *)v + j * d + g * GROUP;
            float *to = vf + j * d + g * GROUP;
            kern->to_f32[MMK_FMT_F16](&scale, vs + j * groups + g, 1);
            for (size_t i = 0; i < GROUP; i++) to[i] = scale * (float)q[i];
        }
}

static int piece(const mm_kern *kern, const mmk_kv_part *p, const mmk_kv_shape *s, size_t kh, size_t t0, size_t n)
{
    const mmk_attn_ops *ops = kern->attn;
    size_t d = s->head_dim, group = s->heads / s->kv_heads, bytes = mmk_kv_bytes(s->type, p->tokens, d), keys = p->first + t0 + n;
    size_t end = (keys + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK, scratch = (ops->kv_scratch(keys, d) + 63) / 64 * 64, from = 0;
    const char *k = p->keys + kh * bytes, *v = p->values + kh * bytes;
    /* float16 is widened on the way where a pass or two read it, and once and for all where more do */
    int wide = s->type == 8 || (s->type == 1 && n * group > 2 * ops->kv_rows);
    char *mem = mmk_scratch(scratch + (wide ? 2 * end * d * sizeof(float) : 0));
    if (!mem) return MMK_ENOMEM;
    if (wide) {
        float *kf = (float *)(void *)(mem + scratch), *vf = kf + end * d;
        if (s->window && p->first + t0 + 1 > s->window) from = (p->first + t0 + 1 - s->window) / MMK_KV_BLOCK * MMK_KV_BLOCK;
        widen(kern, s->type, k, v, p->tokens, from, keys, d, kf, vf);
        k = (const char *)kf;
        v = (const char *)vf;
    }
    const mmk_kv_head h = { p->out + t0 * p->ldo + kh * group * d, p->q + t0 * p->ld + kh * group * d, p->ldo, p->ld, n * group, group,
                            p->first + t0, s->window, d, s->scale, k, v, s->type == 1 && !wide };
    ops->kv_head(&h, mem);
    return MMK_OK;
}

/* Piece x of the parts, of which those of later tokens, which see more, come first: its part, key head, first token and tokens. */
static const mmk_kv_part *find_piece(const mmk_kv_part *parts, size_t kv_heads, size_t x, size_t *kh, size_t *t0, size_t *n)
{
    for (size_t all; x >= (all = (parts->n + TOKENS - 1) / TOKENS * kv_heads); parts++) x -= all;
    size_t last = (parts->n - 1) / TOKENS;
    *kh = x % kv_heads;
    *t0 = (last - x / kv_heads) * TOKENS;
    *n = parts->n - *t0 < TOKENS ? parts->n - *t0 : TOKENS;
    return parts;
}

int mmk_kv_attention(const mm_kern *kern, const mmk_kv_part *parts, size_t nparts, const mmk_kv_shape *s, int threads)
{
    size_t pieces = 0;
    double work = 0;
    int status = MMK_OK;
    for (size_t i = 0; i < nparts; i++) {
        const mmk_kv_part *p = &parts[i];
        pieces += (p->n + TOKENS - 1) / TOKENS * s->kv_heads;
        work += (double)p->n * (double)(p->first + p->n) * (double)(2 * s->heads * s->head_dim);
    }
    if (threads > 1 && work / WORK_PER_THREAD < threads) threads = (int)(work / WORK_PER_THREAD);
    if (threads < 1) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (size_t x = 0; x < pieces; x++) {
            size_t kh, t0, n;
            const mmk_kv_part *p = find_piece(parts, s->kv_heads, x, &kh, &t0, &n);
            size_t bytes = mmk_kv_bytes(s->type, p->tokens, s->head_dim);
            for (size_t t = t0; t < t0 + n; t++)
                store(kern, s->type, p->keys + kh * bytes, p->values + kh * bytes, p->tokens, p->first + t, p->k + t * p->ld + kh * s->head_dim,
                      p->v + t * p->ld + kh * s->head_dim, s->head_dim);
        }
#pragma omp for schedule(dynamic, 1)
        for (size_t x = 0; x < pieces; x++) {
            size_t kh, t0, n;
            const mmk_kv_part *p = find_piece(parts, s->kv_heads, x, &kh, &t0, &n);
            if (piece(kern, p, s, kh, t0, n) != MMK_OK) {
#pragma omp atomic write
                status = MMK_ENOMEM;
            }
        }
    }
    return status;
}

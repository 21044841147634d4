/* scan.c - blocks of rows, queries in groups, the best k per query. Threads take chunks of rows as they get to them and have
 * heaps of their own, which are merged at the end: the order of hits is total (score, then row), so the result does not
 * depend on who took what. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/mm_kern.h"
#include "kernels/mm_scan.h"
#include "kernels/scan_int.h"
#ifdef _OPENMP
#include <omp.h>
#define THREAD() omp_get_thread_num()
#else
#define THREAD() 0
#endif

/* Rows per block: scores of a block stay in L1 for one query, rows in L2 for many. */
#define BLOCK 256
#define MANY_QUERIES 64 /* scored together: 64 x 256 scores are 64 KiB */
#define CHUNKS 16 /* of rows per thread */

size_t mmk_scan_row_bytes(mmk_scan_type type, size_t d)
{
    return type == MMK_SCAN_F32 ? 4 * d : type == MMK_SCAN_F16 ? 2 * d : type == MMK_SCAN_I8 ? d : (d + 7) / 8;
}

/* ---- heap: the worst hit on top ---- */

static int worse(float s, uint64_t i, float t, uint64_t j) { return s < t || (s == t && i > j); }

static void sift(mmk_hits *h, size_t i, size_t n)
{
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) return;
        if (c + 1 < n && worse(h->score[c + 1], h->id[c + 1], h->score[c], h->id[c])) c++;
        if (!worse(h->score[c], h->id[c], h->score[i], h->id[i])) return;
        float s = h->score[i];
        uint64_t d = h->id[i];
        h->score[i] = h->score[c];
        h->id[i] = h->id[c];
        h->score[c] = s;
        h->id[c] = d;
        i = c;
    }
}

void mmk_hits_push(mmk_hits *h, float s, uint64_t id)
{
    if (s != s || h->k == 0) return;
    if (h->count < h->k) {
        size_t i = h->count++;
        for (; i > 0 && worse(s, id, h->score[(i - 1) / 2], h->id[(i - 1) / 2]); i = (i - 1) / 2) {
            h->score[i] = h->score[(i - 1) / 2];
            h->id[i] = h->id[(i - 1) / 2];
        }
        h->score[i] = s;
        h->id[i] = id;
    } else if (worse(h->score[0], h->id[0], s, id)) {
        h->score[0] = s;
        h->id[0] = id;
        sift(h, 0, h->count);
    }
}

void mmk_hits_sort(mmk_hits *h)
{
    for (size_t n = h->count; n > 1; n--) { /* the worst goes to the end */
        float s = h->score[0];
        uint64_t d = h->id[0];
        h->score[0] = h->score[n - 1];
        h->id[0] = h->id[n - 1];
        h->score[n - 1] = s;
        h->id[n - 1] = d;
        sift(h, 0, n - 1);
    }
}

static float least(const mmk_hits *h) { return h->count < h->k ? -INFINITY : h->score[0]; }

/* ---- queries in the form the kernels want ---- */

typedef struct {
    void *q;
    float *scale; /* i8 */
    size_t dq, bytes; /* elements padded, bytes of a query */
} prepared;

static int prepare(const mm_kern *k, const mmk_scan_in *in, const float *q, size_t nq, prepared *p)
{
    size_t d = in->d, pad = in->type == MMK_SCAN_I8 ? 64 : 16;
    p->dq = in->type == MMK_SCAN_B1 ? (d + 7) / 8 : (d + pad - 1) / pad * pad;
    p->bytes = in->type <= MMK_SCAN_F16 ? 4 * p->dq : p->dq;
    size_t total = (nq * p->bytes + 63) / 64 * 64 + 64;
    p->q = aligned_alloc(64, total);
    p->scale = malloc((nq + 1) * sizeof *p->scale);
    if (!p->q || !p->scale) return -1;
    memset(p->q, 0, total);
    for (size_t i = 0; i < nq; i++) {
        char *to = (char *)p->q + i * p->bytes;
        const float *x = q + i * d;
        if (in->type <= MMK_SCAN_F16) memcpy(to, x, d * sizeof *x);
        else if (in->type == MMK_SCAN_I8) p->scale[i] = k->to_i8((int8_t *)to, x, d);
        else
            for (size_t j = 0; j < d; j++) to[j / 8] = (char)(to[j / 8] | (x[j] >= 0) << j % 8);
    }
    return 0;
}

static void block(const mm_kern *k, const mmk_scan_in *in, const prepared *p, size_t q0, size_t nq, size_t row, size_t n,
                  float *s, mmk_hits *hits)
{
    const char *rows = (const char *)in->rows + row * in->stride;
    k->scan->score[in->type](s, BLOCK, rows, in->stride, n, in->d, (const char *)p->q + q0 * p->bytes, p->dq, nq);
    for (size_t i = 0; i < nq; i++) {
        float *si = s + i * BLOCK;
        uint32_t idx[BLOCK];
        if (in->type == MMK_SCAN_I8)
            for (size_t r = 0; r < n; r++) si[r] *= p->scale[q0 + i] * in->scales[row + r];
        else if (in->type == MMK_SCAN_B1)
            for (size_t r = 0; r < n; r++) si[r] = 1 - 2 * si[r] / (float)in->d;
        size_t m = k->scan->above(idx, si, n, least(&hits[i]));
        for (size_t j = 0; j < m; j++) {
            size_t at = row + idx[j];
            if (in->skip && in->skip[at / 64] >> at % 64 & 1) continue;
            mmk_hits_push(&hits[i], si[idx[j]], in->first + at);
        }
    }
}

static void range(const mm_kern *k, const mmk_scan_in *in, const prepared *p, size_t nq, size_t from, size_t to, float *s,
                  mmk_hits *hits)
{
    for (size_t row = from; row < to; row += BLOCK) {
        size_t n = to - row < BLOCK ? to - row : BLOCK;
        for (size_t q0 = 0; q0 < nq; q0 += MANY_QUERIES)
            block(k, in, p, q0, nq - q0 < MANY_QUERIES ? nq - q0 : MANY_QUERIES, row, n, s, hits + q0);
    }
}

int mmk_scan(const mm_kern *k, const mmk_scan_in *in, const float *q, size_t nq, int threads, mmk_hits *hits)
{
    prepared p = { 0 };
    int status = 0;
    size_t blocks = (in->n + BLOCK - 1) / BLOCK;
    if (nq == 0 || in->n == 0) return 0;
    /* waking a thread costs some microseconds: what a megabyte of rows takes to read */
    size_t work = in->n * mmk_scan_row_bytes(in->type, in->d);
    if (threads < 1 || work < ((size_t)2 << 20)) threads = 1;
    if ((size_t)threads > blocks) threads = (int)blocks;
    size_t most = 0;
    for (size_t i = 0; i < nq; i++)
        if (hits[i].k > most) most = hits[i].k;
    size_t per = (size_t)nq * most, group = nq < MANY_QUERIES ? nq : MANY_QUERIES;
    float *s = aligned_alloc(64, (size_t)threads * group * BLOCK * sizeof *s);
    mmk_hits *own = malloc((size_t)threads * nq * sizeof *own);
    float *score = malloc((size_t)threads * per * sizeof *score + 1);
    uint64_t *id = malloc((size_t)threads * per * sizeof *id + 1);
    if (prepare(k, in, q, nq, &p) || !s || !own || !score || !id) {
        status = -1;
    } else {
        for (size_t i = 0; i < (size_t)threads * nq; i++)
            own[i] = (mmk_hits){ score + i * most, id + i * most, 0, hits[i % nq].k };
        /* a part for each thread would wait for the slowest core */
        size_t rows = blocks / ((size_t)threads * CHUNKS) * BLOCK + BLOCK, chunks = (in->n + rows - 1) / rows;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
        for (size_t c = 0; c < chunks; c++) {
            size_t t = (size_t)THREAD(), from = c * rows, to = in->n - from < rows ? in->n : from + rows;
            range(k, in, &p, nq, from, to, s + t * group * BLOCK, own + t * nq);
        }
        for (size_t i = 0; i < (size_t)threads * nq; i++)
            for (size_t j = 0; j < own[i].count; j++) mmk_hits_push(&hits[i % nq], own[i].score[j], own[i].id[j]);
    }
    free(p.q);
    free(p.scale);
    free(s);
    free(own);
    free(score);
    free(id);
    return status;
}

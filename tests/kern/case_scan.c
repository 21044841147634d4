/* Search: the same hits in the same order as ref, scores within rounding, bits independent of queries, threads and
 * place. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "kernels/mm_scan.h"

static const char *const names[] = { "f32", "f16", "i8", "b1" };

typedef struct {
    mmk_scan_in in;
    float *q, *scales;
    char *rows;
} data;

static void make(data *s, const mm_kern *ref, int type, size_t n, size_t d, size_t nq, size_t stride_more)
{
    size_t bytes = mmk_scan_row_bytes((mmk_scan_type)type, d), stride = bytes + stride_more;
    float *x = malloc(4 * d + 4);
    *s = (data){ .q = malloc(4 * nq * d + 4),
                 .scales = malloc(4 * n + 4),
                 .rows = guarded(n * stride, type == 0   ? 4
                                             : type == 1 ? 2
                                                         : 1) };
    for (size_t i = 0; i < n; i++) {
        char *row = s->rows + i * stride;
        fill(x, d, 0);
        if (i % 7 == 3 && i > 7 && type == 0) memcpy(x, s->rows + (i - 7) * stride, 4 * d); /* equal rows: ties */
        if (type == 0) memcpy(row, x, 4 * d);
        else if (type == 1) ref->from_f32[MMK_FMT_F16](row, x, d);
        else if (type == 2) s->scales[i] = ref->to_i8((int8_t *)row, x, d);
        else {
            memset(row, 0, bytes);
            for (size_t j = 0; j < d; j++) row[j / 8] = (char)(row[j / 8] | (x[j] >= 0) << j % 8);
        }
    }
    fill(s->q, nq * d, 0);
    s->in = (mmk_scan_in){ (mmk_scan_type)type, s->rows, stride, n, d, s->scales, NULL, 1000 };
    free(x);
}

static void drop(data *s)
{
    free(s->q), free(s->scales);
    guard_free(s->rows);
}

static void scan(const mm_kern *k, const data *s, const float *q, size_t nq, size_t top, int threads, float *score,
                 uint64_t *id, size_t *count)
{
    mmk_hits *h = malloc((nq + 1) * sizeof *h);
    for (size_t i = 0; i < nq; i++) h[i] = (mmk_hits){ score + i * top, id + i * top, 0, top };
    if (mmk_scan(k, &s->in, q, nq, threads, h)) wrong("no memory");
    for (size_t i = 0; i < nq; i++) {
        mmk_hits_sort(&h[i]);
        count[i] = h[i].count;
    }
    free(h);
}

static void one(const mm_kern *k, const mm_kern *ref, int type, size_t n, size_t d, size_t nq, size_t top,
                size_t more)
{
    data s;
    make(&s, ref, type, n, d, nq, more);
    size_t m = nq * top;
    float *sa = malloc(4 * m + 4), *sb = malloc(4 * m + 4);
    uint64_t *ia = malloc(8 * m + 8), *ib = malloc(8 * m + 8);
    size_t ca[64], cb[64];
    scan(k, &s, s.q, nq, top, 1, sa, ia, ca);
    scan(ref, &s, s.q, nq, top, 1, sb, ib, cb);
    double tol = type < 2 ? (double)(d + 2) * FLT_EPSILON * (double)d : 1e-6 * (double)d;
    for (size_t i = 0; i < nq; i++) {
        if (ca[i] != cb[i] || ca[i] != (top < n ? top : n)) wrong("%zux%zu: %zu hits, not %zu", n, d, ca[i], cb[i]);
        for (size_t j = 0; j < ca[i] && j < cb[i]; j++) {
            size_t at = i * top + j;
            if (!(fabs((double)sa[at] - (double)sb[at]) <= tol))
                wrong("%zux%zu query %zu hit %zu: %g, not %g", n, d, i, j, (double)sa[at], (double)sb[at]);
            /* another row may stand here only where the scores are as good as equal */
            if (ia[at] != ib[at] && type >= 2)
                wrong("%zux%zu query %zu hit %zu: row %llu, not %llu", n, d, i, j, (unsigned long long)ia[at],
                      (unsigned long long)ib[at]);
            if (j && (sa[at] > sa[at - 1] || (sa[at] == sa[at - 1] && ia[at] < ia[at - 1])))
                wrong("%zux%zu: hits are not in order", n, d);
        }
        /* one query alone, and other numbers of threads */
        scan(k, &s, s.q + i * d, 1, top, 3, sb, ib, cb);
        if (cb[0] != ca[i] || memcmp(sb, sa + i * top, 4 * ca[i]) || memcmp(ib, ia + i * top, 8 * ca[i]))
            wrong("%zux%zu query %zu alone has other bits", n, d, i);
    }
    free(sa), free(sb), free(ia), free(ib);
    drop(&s);
}

static void skipped(const mm_kern *k, const mm_kern *ref)
{
    data s;
    uint64_t skip[10] = { 0 }, id[600];
    float score[600];
    size_t n;
    make(&s, ref, 0, 600, 24, 1, 0);
    for (int i = 0; i < 600; i += 3) skip[i / 64] |= (uint64_t)1 << i % 64;
    ((float *)(void *)s.rows)[5 * 24] = NAN;
    s.in.skip = skip;
    scan(k, &s, s.q, 1, 600, 1, score, id, &n);
    if (n != 399) wrong("%zu hits, not 399: a NaN counts or a skipped row does", n);
    for (size_t i = 0; i < n; i++)
        if ((id[i] - 1000) % 3 == 0 || id[i] == 1005) wrong("row %llu should be left out", (unsigned long long)id[i]);
    drop(&s);
}

/* the largest sums that int8 can make: rows may hold -128, queries become +-127 */
static void extremes(const mm_kern *k)
{
    static const size_t dims[] = { 31, 64, 1000, 16384 };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        size_t d = dims[i], count;
        int8_t *rows = guarded(9 * d, 1);
        float *q = malloc(4 * d), scale[9], score[9];
        uint64_t id[9];
        data s = { .in = { MMK_SCAN_I8, rows, d, 9, d, scale, NULL, 0 }, .q = q };
        for (size_t r = 0; r < 9; r++) scale[r] = 1;
        for (size_t j = 0; j < d; j++) {
            q[j] = j % 2 ? -127.0f : 127.0f;
            for (size_t r = 0; r < 9; r++) rows[r * d + j] = (int8_t)(r < 4 ? (j % 2 ? -128 : 127) : r < 8 ? (j % 2 ? 127 : -128) : -128);
        }
        scan(k, &s, q, 1, 9, 1, score, id, &count);
        for (size_t h = 0; h < count; h++) {
            double sum = 0;
            for (size_t j = 0; j < d; j++) sum += (double)rows[id[h] * d + j] * (double)q[j];
            if (score[h] != (float)sum) wrong("d %zu row %d: %.9g, not %.9g", d, (int)id[h], (double)score[h], sum);
        }
        if (count != 9) wrong("%zu hits, not 9", count);
        guard_free(rows), free(q);
    }
}

static const mm_kern *bk;
static float bscore[100 * 10];
static uint64_t bid[100 * 10];
static size_t bn[100], bq;
static void run_bench(void *p)
{
    const data *s = p;
    scan(bk, s, s->q, bq, 10, 1, bscore, bid, bn);
}

void case_scan(const mm_kern *k, const mm_kern *ref)
{
    static const size_t dims[] = { 1, 3, 7, 8, 15, 16, 17, 33, 63, 64, 65, 100, 384 };
    if (bench) {
        for (int t = 0; t < 4; t++)
            for (bq = 1; bq <= 100; bq += 99) {
                if (k->flags == 0 && bq > 1) continue;
                data s;
                char shape[40];
                make(&s, ref, t, 100000, 384, bq, 0);
                bk = k;
                snprintf(shape, sizeof shape, "100000x384,q%zu", bq);
                report("scan", names[t], shape, timed(run_bench, &s),
                       1e5 * (double)mmk_scan_row_bytes((mmk_scan_type)t, 384), 2.0 * 1e5 * 384 * (double)bq);
                drop(&s);
            }
        return;
    }
    for (int t = 0; t < 4; t++) {
        begin("scan %s", names[t]);
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            one(k, ref, t, 9, dims[i], 3, 4, 0);
            one(k, ref, t, 300, dims[i], 1, 10, t == 0 ? 4 : 2);
        }
        one(k, ref, t, 1, 40, 7, 3, 0);
        one(k, ref, t, 1031, 48, 13, 20, 0);
        one(k, ref, t, 700, 70, 64, 5, 0);
        one(k, ref, t, 30, 4099, 7, 50, 0);
        end();
    }
    begin("scan i8: largest sums");
    extremes(k);
    end();
    begin("scan: skipped rows and NaN are no hits");
    skipped(k, ref);
    end();
}

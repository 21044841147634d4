/* index_bench - how fast an index answers, as JSON lines: for scripts/bench-index.
 *
 *   index_bench INDEX QUERIES.npy SECONDS [THREADS [EXACT-INDEX]]
 * Prints the time to open, the first query's time, queries per second one at a time and a hundred at a time, bytes of vectors read
 * per second, and how fast this machine reads memory (anonymous, and the mapped index) with as many threads: medians of what fits
 * into SECONDS each. With EXACT-INDEX, the share of its ten best that INDEX finds too (recall at 10). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mm_base.h"
#include "index/index_int.h"
#include "stream/mm_stream.h"

enum { K = 10, MOST = 1000 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void need(int bad, const mm_err *err)
{
    if (!bad) return;
    fprintf(stderr, "index_bench: %s\n", err->msg);
    exit(4);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

typedef uint64_t wide __attribute__((vector_size(64), aligned(64)));

__attribute__((target_clones("avx512f", "avx2", "default"))) static uint64_t read_range(const uint8_t *p, size_t len)
{
    const wide *w = (const wide *)(const void *)p;
    wide a = { 0 }, b = a, c = a, d = a;
    for (size_t i = 0; i + 4 <= len / 64; i += 4) a += w[i], b += w[i + 1], c += w[i + 2], d += w[i + 3];
    a += b + c + d;
    return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

static uint64_t read_all(const uint8_t *p, size_t len, int threads)
{
    uint64_t sum = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : sum) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        size_t from = len / (size_t)threads * (size_t)t / 64 * 64, to = len / (size_t)threads * ((size_t)t + 1) / 64 * 64;
        sum += read_range(p + from, to - from);
    }
    return sum;
}

static volatile uint64_t keep; /* so that the reads are not left out */

static double read_speed(const uint8_t *p, size_t len, int threads, double seconds)
{
    double t[200], end = now() + seconds;
    size_t n = 0;
    keep = keep + read_all(p, len, threads);
    for (; n < 200 && (n < 3 || now() < end); n++) {
        double at = now();
        keep = keep + read_all(p, len, threads);
        t[n] = now() - at;
    }
    qsort(t, n, sizeof *t, by_value);
    return (double)len / t[n / 2];
}

static float *queries(const char *path, size_t *n, size_t *dim)
{
    mm_reader *rd;
    mm_err err;
    mm_rec *rec = mm_rec_new();
    float *q = NULL;
    char *names[] = { (char *)(uintptr_t)path };
    need(!rec || mm_reader_open(&rd, NULL, names, 1, &err), &err);
    for (*n = 0; *n < MOST; ++*n) {
        const float *v;
        int r = mm_reader_next(rd, rec, &err);
        need(r < 0, &err);
        if (!r) break;
        need(mm_rec_vec(rec, &v, dim, &err) != 1, &err);
        if (!q) q = malloc(MOST * *dim * sizeof *q);
        if (!q) exit(4);
        memcpy(q + *n * *dim, v, *dim * sizeof *v);
    }
    mm_reader_close(&rd);
    mm_rec_free(rec);
    return q;
}

static mm_index *ix;
static size_t dim, n_q;
static float *q;
static mm_index_hit *hits;
static size_t count[MOST];

/* Median seconds of a search for `batch` queries. */
static double search_time(size_t batch, int threads, double seconds)
{
    double t[2000], end = now() + seconds;
    size_t n = 0;
    mm_err err;
    mm_index_query how = { .k = K, .threads = threads };
    for (; n < 2000 && (n < 3 || now() < end); n++) {
        double at = now();
        need(mm_index_search(ix, q + n * batch % (n_q / batch * batch) * dim, batch, dim, &how, hits, count, &err) < 0, &err);
        t[n] = now() - at;
    }
    qsort(t, n, sizeof *t, by_value);
    return t[n / 2];
}

static double recall(const char *exact, int threads)
{
    mm_index *truth = NULL;
    mm_err err;
    mm_index_hit *want = malloc(MOST * K * sizeof *want);
    mm_index_query how = { .k = K, .threads = threads };
    size_t same = 0, all = 0, n[MOST];
    need(!want || mm_index_open(&truth, exact, MM_INDEX_READ, NULL, &err), &err);
    need(mm_index_search(truth, q, n_q, dim, &how, want, n, &err) || mm_index_search(ix, q, n_q, dim, &how, hits, count, &err), &err);
    for (size_t i = 0; i < n_q; i++) {
        all += n[i];
        for (size_t a = 0; a < n[i]; a++)
            for (size_t b = 0; b < count[i]; b++) same += want[i * K + a].row == hits[i * K + b].row;
    }
    free(want);
    need(mm_index_close(&truth, &err), &err);
    return (double)same / (double)all;
}

int main(int argc, char **argv)
{
    static const char *const types[] = { "f32", "f16", "i8", "b1" };
    mm_err err = { 0 };
    mm_index_info info;
    if (argc < 4) return fprintf(stderr, "usage: index_bench INDEX QUERIES.npy SECONDS [THREADS [EXACT-INDEX]]\n"), 2;
    double seconds = strtod(argv[3], NULL), open_time[20];
    int threads = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 1;
    q = queries(argv[2], &n_q, &dim);
    hits = malloc(MOST * K * sizeof *hits);
    if (!q || !hits || n_q < 100) return fprintf(stderr, "index_bench: a hundred queries are wanted\n"), 2;
    for (int i = 0; i < 20; i++) {
        double at = now();
        need(mm_index_open(&ix, argv[1], MM_INDEX_READ, NULL, &err), &err);
        open_time[i] = now() - at;
        if (i < 19) need(mm_index_close(&ix, &err), &err);
    }
    qsort(open_time, 20, sizeof *open_time, by_value);
    mm_index_get_info(ix, &info);
    double bytes = 0, at = now();
    for (size_t i = 0; i < ix->n_seg; i++) bytes += (double)ix->seg[i].h.sec[SEC_VEC].len;
    mm_index_query how = { .k = K, .threads = threads };
    need(mm_index_search(ix, q, 1, dim, &how, hits, count, &err) < 0, &err);
    double first = now() - at, one = search_time(1, threads, seconds), hundred = search_time(100, threads, seconds);
    const segment *s = &ix->seg[0];
    double mapped = ix->n_seg ? read_speed(seg_sec(s, SEC_VEC), s->h.sec[SEC_VEC].len, threads, seconds) : 0;
    size_t len = (size_t)1 << 30;
    uint8_t *mem = mm_aligned(len, 1);
    if (!mem) return 4;
    memset(mem, 1, len);
    double memory = read_speed(mem, len, threads, seconds);
    printf("{\"bench\":\"index\",\"type\":\"%s\",\"rows\":%llu,\"dim\":%zu,\"segments\":%zu,\"threads\":%d,\"open_ms\":%.3f,\"first_ms\":%.2f,"
           "\"qps_b1\":%.2f,\"qps_b100\":%.2f,\"gbps_b1\":%.2f,\"read_memory_gbps\":%.2f,\"read_mapped_gbps\":%.2f,\"b1_of_memory\":%.3f",
           types[info.type], (unsigned long long)info.rows, dim, info.segments, threads, open_time[10] * 1e3, first * 1e3, 1 / one, 100 / hundred,
           bytes / one * 1e-9, memory * 1e-9, mapped * 1e-9, bytes / one / memory);
    if (argc > 5) printf(",\"recall10\":%.5f", recall(argv[5], threads));
    printf("}\n");
    need(mm_index_close(&ix, &err), &err);
    free(mem);
    free(q);
    free(hits);
    return 0;
}

/* bench_embed MODEL FILE THREADS BATCH [ROUNDS] - sentences per second of the library alone, as scripts/bench compares it with others: the
 * lines of FILE in calls of BATCH, in order; BATCH 0: all in one call. One JSON line a round. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mm_file.h"
#include "model/mm_model.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    mm_err err = { 0 };
    mm_model *m = NULL;
    mm_map f = { 0 };
    mm_model_opts o = MM_MODEL_OPTS_INIT;
    if (argc < 5) {
        fprintf(stderr, "usage: bench_embed MODEL FILE THREADS BATCH [ROUNDS]\n");
        return 2;
    }
    o.threads = (int)strtol(argv[3], NULL, 10);
    size_t batch = strtoul(argv[4], NULL, 10), n = 0, rounds = argc > 5 ? strtoul(argv[5], NULL, 10) : 5;
    if (mm_model_open(&m, argv[1], &o, &err) || mm_map_open(&f, argv[2], &err)) {
        fprintf(stderr, "bench_embed: %s\n", err.msg);
        return 3;
    }
    mm_text_in *in = malloc((f.len + 1) * sizeof *in);
    for (const char *p = (const char *)f.p, *end = p + f.len; in && p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl) nl = end;
        if (nl > p) in[n++] = (mm_text_in){ p, (size_t)(nl - p) };
        p = nl + 1;
    }
    float *vec = mm_aligned(n * mm_model_dim(m), sizeof *vec);
    mm_text_out *res = malloc((n + 1) * sizeof *res);
    if (!in || !vec || !res) return 4;
    if (!batch) batch = n;
    for (size_t r = 0; r <= rounds; r++) { /* the first is not counted */
        double t = now();
        for (size_t i = 0; i < n; i += batch)
            if (mm_model_embed_text(m, in + i, n - i < batch ? n - i : batch, vec + i * mm_model_dim(m), res, &err)) return 3;
        if (r) printf("{\"threads\":%d,\"batch\":%zu,\"sentences\":%zu,\"per_s\":%.1f}\n", o.threads, batch, n, (double)n / (now() - t));
    }
    mm_model_close(&m);
    mm_map_close(&f);
    free(in);
    free(vec);
    free(res);
    return 0;
}

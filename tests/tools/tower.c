/* tower [-t THREADS] MODEL image|audio|video < floats > vectors - raw float32 inputs of the shape that the model takes, for comparisons with
 * reference implementations. tower [-t THREADS] -b BATCH MODEL MODALITY: instead, inputs per second in batches of that size, the best and the
 * median of seven runs, as one JSON line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "model/mm_model.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int bench(mm_model *m, mm_modality mod, size_t one, size_t batch)
{
    float *x = malloc(batch * one * sizeof *x), *v = malloc(batch * mm_model_dim(m) * sizeof *v);
    mm_part *each = malloc(batch * sizeof *each);
    double rate[7];
    mm_err err;
    if (!x || !v || !each) return 4;
    for (size_t i = 0; i < batch * one; i++) x[i] = (float)((i * 2654435761u >> 16 & 1023) - 512.0) / 256;
    for (size_t i = 0; i < batch; i++) each[i] = (mm_part){ .mod = mod, .x = x + i * one };
    if (mm_model_embed_input(m, each, batch, v, &err)) return 3;
    for (int k = 0; k < 7; k++) {
        double start = now(), end;
        size_t n = 0;
        do {
            if (mm_model_embed_input(m, each, batch, v, &err)) return 3;
            n += batch;
        } while ((end = now()) < start + 0.7);
        rate[k] = (double)n / (end - start);
    }
    qsort(rate, 7, sizeof *rate, by_value);
    printf("{\"batch\":%zu,\"per_second\":%.2f,\"best\":%.2f}\n", batch, rate[3], rate[6]);
    free(x);
    free(v);
    free(each);
    return 0;
}

int main(int argc, char **argv)
{
    size_t batch = 0;
    mm_model_opts o = MM_MODEL_OPTS_INIT;
    mm_model *m;
    mm_err err;
    int mod = 0;
    if (argc > 2 && !strcmp(argv[1], "-t")) o.threads = (int)strtol(argv[2], NULL, 10), argv += 2, argc -= 2;
    if (argc > 2 && !strcmp(argv[1], "-b")) batch = (size_t)strtol(argv[2], NULL, 10), argv += 2, argc -= 2;
    if (argc != 3) return 2;
    while (mod < MM_MODALITIES && strcmp(mm_modality_name((mm_modality)mod), argv[2])) mod++;
    if (mm_model_open(&m, argv[1], &o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 3;
    }
    const mm_input_spec *s = mod < MM_MODALITIES ? mm_model_input_spec(m, (mm_modality)mod) : NULL;
    if (!s) return 2;
    size_t one = (size_t)s->views * (size_t)s->frames * (size_t)s->channels * (size_t)s->height * (size_t)s->width, dim = mm_model_dim(m), n = 0, cap = 0;
    float *x = NULL;
    if (batch) return bench(m, (mm_modality)mod, one, batch);
    for (;;) {
        if (n == cap) {
            float *q = realloc(x, (cap = 2 * cap + 1) * one * sizeof *x);
            if (!q) return 4;
            x = q;
        }
        if (fread(x + n * one, sizeof *x, one, stdin) != one) break;
        n++;
    }
    float *v = malloc((n * dim + 1) * sizeof *v);
    mm_part *each = calloc(n + 1, sizeof *each);
    for (size_t i = 0; each && i < n; i++) each[i] = (mm_part){ .mod = (mm_modality)mod, .x = x + i * one };
    if (!v || !each || mm_model_embed_input(m, each, n, v, &err)) return 4;
    if (fwrite(v, sizeof *v, n * dim, stdout) != n * dim || fflush(stdout)) return 4;
    free(x);
    free(each);
    free(v);
    mm_model_close(&m);
    return 0;
}

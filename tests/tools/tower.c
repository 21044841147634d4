/* tower MODEL image|audio|video < floats > vectors - raw float32 inputs of the shape that the model takes, for comparisons with reference
 * implementations. With -t THREADS first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/mm_model.h"

int main(int argc, char **argv)
{
    mm_model_opts o = MM_MODEL_OPTS_INIT;
    mm_model *m;
    mm_err err;
    int mod = 0;
    if (argc > 2 && !strcmp(argv[1], "-t")) o.threads = (int)strtol(argv[2], NULL, 10), argv += 2, argc -= 2;
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
    const float **each = calloc(n + 1, sizeof *each);
    for (size_t i = 0; each && i < n; i++) each[i] = x + i * one;
    if (!v || !each || mm_model_embed_input(m, (mm_modality)mod, each, n, v, &err)) return 4;
    if (fwrite(v, sizeof *v, n * dim, stdout) != n * dim || fflush(stdout)) return 4;
    free(x);
    free(each);
    free(v);
    mm_model_close(&m);
    return 0;
}

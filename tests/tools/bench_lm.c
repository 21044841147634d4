/* bench_lm MODEL THREADS PROMPT GENERATE DEPTH REPEATS [SEQUENCES] - what a decoder takes: PROMPT tokens at once, or (PROMPT 0) GENERATE tokens one
 * after the other behind DEPTH tokens, of one sequence or of several together. One JSON line a repeat: tokens per second, of all sequences, by
 * the clock, and by the processor time of all threads. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "model/mm_lm.h"

static mm_err err;

static void check(int r)
{
    if (!r) return;
    fprintf(stderr, "bench_lm: %s\n", err.msg);
    exit(1);
}

static double seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static size_t number(const char *s) { return (size_t)strtoul(s, NULL, 10); }

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 8) {
        fprintf(stderr, "usage: bench_lm MODEL THREADS PROMPT GENERATE DEPTH REPEATS [SEQUENCES]\n");
        return 2;
    }
    const size_t sequences = argc == 8 ? number(argv[7]) : 1;
    size_t prompt = number(argv[3]), generate = number(argv[4]), depth = number(argv[5]), repeats = number(argv[6]);
    size_t longest = prompt > depth ? prompt : depth;
    mm_lm *lm;
    mm_lm_cache *c;
    mm_lm_opts o = MM_LM_OPTS_INIT;
    o.threads = (int)number(argv[2]);
    check(mm_lm_open(&lm, argv[1], &o, &err));
    check(mm_lm_cache_new(&c, lm, sequences, prompt + depth + generate + 1, &err));
    float *logits = malloc(sequences * mm_lm_vocab(lm) * sizeof *logits);
    int32_t *ids = malloc((longest + 1) * sizeof *ids);
    mm_lm_part *parts = calloc(sequences, sizeof *parts);
    if (!logits || !ids || !parts) return 1;
    for (size_t i = 0; i <= longest; i++) ids[i] = (int32_t)((i * 7919 + 13) % mm_lm_vocab(lm));
    for (size_t r = 0; r <= repeats + 1; r++) { /* the first two are to warm up: weights are packed by the second */
        for (size_t k = 0; k < sequences; k++) {
            mm_lm_trim(c, k, 0);
            parts[k] = (mm_lm_part){ .slot = k, .ids = ids, .n = depth, .logits = 1 };
        }
        if (!prompt && depth) check(mm_lm_step(c, parts, sequences, logits, &err));
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        for (size_t k = 0; k < sequences; k++) parts[k].n = prompt ? prompt : 1;
        for (size_t i = 0; i < (prompt ? 1 : generate); i++) check(mm_lm_step(c, parts, sequences, logits, &err));
        wall = seconds(CLOCK_MONOTONIC) - wall;
        cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        double n = (double)((prompt ? prompt : generate) * sequences);
        if (r > 1) printf("{\"tok_s\":%.2f,\"tok_cpu_s\":%.2f}\n", n / wall, n / cpu);
    }
    free(logits);
    free(ids);
    free(parts);
    mm_lm_cache_free(&c);
    mm_lm_close(&lm);
    return 0;
}

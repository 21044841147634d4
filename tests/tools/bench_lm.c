/* bench_lm MODEL THREADS PROMPT GENERATE DEPTH REPEATS - what a decoder takes: PROMPT tokens at once, or (PROMPT 0) GENERATE tokens one after the
 * other behind DEPTH tokens. One JSON line a repeat: tokens per second by the clock, and by the processor time of all threads. */
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
    if (argc != 7) {
        fprintf(stderr, "usage: bench_lm MODEL THREADS PROMPT GENERATE DEPTH REPEATS\n");
        return 2;
    }
    size_t prompt = number(argv[3]), generate = number(argv[4]), depth = number(argv[5]), repeats = number(argv[6]);
    size_t longest = prompt > depth ? prompt : depth;
    mm_lm *lm;
    mm_lm_cache *c;
    mm_lm_opts o = MM_LM_OPTS_INIT;
    o.threads = (int)number(argv[2]);
    check(mm_lm_open(&lm, argv[1], &o, &err));
    check(mm_lm_cache_new(&c, lm, 1, prompt + depth + generate + 1, &err));
    float *logits = malloc(mm_lm_vocab(lm) * sizeof *logits);
    int32_t *ids = malloc((longest + 1) * sizeof *ids);
    if (!logits || !ids) return 1;
    for (size_t i = 0; i <= longest; i++) ids[i] = (int32_t)((i * 7919 + 13) % mm_lm_vocab(lm));
    for (size_t r = 0; r <= repeats; r++) { /* the first one is to warm up */
        mm_lm_trim(c, 0, 0);
        mm_lm_part p = { .ids = ids, .n = depth, .logits = 1 };
        if (!prompt && depth) check(mm_lm_step(c, &p, 1, logits, &err));
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        p.n = prompt ? prompt : 1;
        for (size_t i = 0; i < (prompt ? 1 : generate); i++) check(mm_lm_step(c, &p, 1, logits, &err));
        wall = seconds(CLOCK_MONOTONIC) - wall;
        cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        double n = (double)(prompt ? prompt : generate);
        if (r) printf("{\"tok_s\":%.2f,\"tok_cpu_s\":%.2f}\n", n / wall, n / cpu);
    }
    free(logits);
    free(ids);
    mm_lm_cache_free(&c);
    mm_lm_close(&lm);
    return 0;
}

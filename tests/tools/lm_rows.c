/* lm_rows MODEL THREADS rows < LISTS - logits behind every token of lists of ids (a line each), as float32, all lists one after the other
 * lm_rows MODEL THREADS greedy N < LISTS - the N likeliest tokens behind each list, one after the other, as lines of ID:MARGIN, where
 * the margin is the distance of the two best logits. scripts/parity/llama compares both with llama.cpp's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/mm_lm.h"

#define MOST 4096
static mm_err err;

static void check(int r)
{
    if (!r) return;
    fprintf(stderr, "lm_rows: %s\n", err.msg);
    exit(1);
}

static void greedy(mm_lm *lm, mm_lm_cache *c, float *row, mm_lm_part p, size_t n)
{
    int32_t id;
    for (size_t k = 0; k < n; k++, p.ids = &id, p.n = 1) {
        check(mm_lm_step(c, &p, 1, row, &err));
        size_t best = 0, second = 1;
        for (size_t v = 1; v < mm_lm_vocab(lm); v++)
            if (row[v] > row[best]) second = best, best = v;
            else if (v == 1 || row[v] > row[second]) second = v;
        id = (int32_t)best;
        printf("%s%d:%.5f", k ? " " : "", id, (double)(row[best] - row[second]));
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    const size_t n = argc == 5 ? (size_t)strtoul(argv[4], NULL, 10) : 0;
    if (argc != (argc > 3 && !strcmp(argv[3], "greedy") ? 5 : 4)) {
        fprintf(stderr, "usage: lm_rows MODEL THREADS rows|greedy [N] < LISTS\n");
        return 2;
    }
    mm_lm *lm;
    mm_lm_cache *c;
    mm_lm_opts o = MM_LM_OPTS_INIT;
    o.threads = (int)strtoul(argv[2], NULL, 10);
    check(mm_lm_open(&lm, argv[1], &o, &err));
    check(mm_lm_cache_new(&c, lm, 1, MOST, &err));
    static int32_t ids[MOST];
    char *line = NULL;
    size_t cap = 0;
    float *rows = NULL;
    while (getline(&line, &cap, stdin) > 0) {
        mm_lm_part p = { .ids = ids, .logits = n ? 1 : 2 };
        for (char *s = line, *end; p.n + n < MOST && (ids[p.n] = (int32_t)strtol(s, &end, 10), end != s); s = end) p.n++;
        if (!p.n) continue;
        const size_t all = (n ? 1 : p.n) * mm_lm_vocab(lm);
        free(rows);
        if (!(rows = malloc(all * sizeof *rows))) return 4;
        mm_lm_trim(c, 0, 0);
        if (n) greedy(lm, c, rows, p, n);
        else {
            check(mm_lm_step(c, &p, 1, rows, &err));
            if (fwrite(rows, sizeof *rows, all, stdout) < all) return 4;
        }
    }
    free(line);
    free(rows);
    mm_lm_cache_free(&c);
    mm_lm_close(&lm);
    return fflush(stdout) ? 4 : 0;
}

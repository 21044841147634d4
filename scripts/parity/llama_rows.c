/* The same as tests/tools/lm_rows.c, by llama.cpp's library; scripts/parity/llama builds it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "llama.h"

#define MOST 4096

static void quiet(enum ggml_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

/* Reads n tokens from place `first` on; logits of all, or of the last. */
static void decode(struct llama_context *c, const llama_token *ids, int first, int n, int all)
{
    struct llama_batch b = llama_batch_init(n, 0, 1);
    b.n_tokens = n;
    for (int i = 0; i < n; i++) {
        b.token[i] = ids[i];
        b.pos[i] = first + i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = 0;
        b.logits[i] = (int8_t)(all || i + 1 == n);
    }
    if (llama_decode(c, b)) exit(1);
    llama_batch_free(b);
}

static void greedy(struct llama_context *c, int vocab, const llama_token *ids, int n_ids, int n)
{
    llama_token id;
    for (int k = 0, at = 0; k < n; k++, ids = &id, n_ids = 1) {
        decode(c, ids, at, n_ids, 0);
        at += n_ids;
        const float *row = llama_get_logits_ith(c, n_ids - 1);
        int best = 0, second = 1;
        for (int v = 1; v < vocab; v++)
            if (row[v] > row[best]) second = best, best = v;
            else if (v == 1 || row[v] > row[second]) second = v;
        id = best;
        printf("%s%d:%.5f", k ? " " : "", id, (double)(row[best] - row[second]));
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    const int threads = (int)strtol(argv[2], NULL, 10), n = argc == 5 ? (int)strtol(argv[4], NULL, 10) : 0;
    llama_log_set(quiet, NULL);
    struct llama_model *m = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!m) return 1;
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = MOST;
    p.n_threads = p.n_threads_batch = threads;
    struct llama_context *c = llama_init_from_model(m, p);
    if (!c) return 1;
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(m));
    static llama_token ids[MOST];
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        int n_ids = 0;
        for (char *s = line, *end; n_ids + n < MOST && (ids[n_ids] = (llama_token)strtol(s, &end, 10), end != s); s = end) n_ids++;
        if (!n_ids) continue;
        llama_memory_clear(llama_get_memory(c), 1);
        if (n) greedy(c, vocab, ids, n_ids, n);
        else {
            decode(c, ids, 0, n_ids, 1);
            for (int i = 0; i < n_ids; i++)
                if (fwrite(llama_get_logits_ith(c, i), sizeof(float), (size_t)vocab, stdout) < (size_t)vocab) return 4;
        }
    }
    free(line);
    llama_free(c);
    llama_model_free(m);
    return fflush(stdout) ? 4 : 0;
}

/* bpe_train VOCAB WORDS < texts > tokenizer.json: learn a tokenizer from lines, WORDS: 0 gpt2, 1 o200k, 2 bert (mm_bpe.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "train/mm_bpe.h"

int main(int argc, char **argv)
{
    mm_bpe_opts o = MM_BPE_OPTS_INIT;
    mm_err err = { 0 };
    mm_buf in = { 0 }, json = { 0 };
    mm_bpe_text *x = NULL;
    size_t n = 0, cap = 0, len;
    char part[65536];
    if (argc != 3) {
        fprintf(stderr, "usage: bpe_train VOCAB WORDS < texts > tokenizer.json\n");
        return 2;
    }
    o.vocab = strtoul(argv[1], NULL, 10);
    o.words = (mm_bpe_words)strtoul(argv[2], NULL, 10);
    while ((len = fread(part, 1, sizeof part, stdin)) > 0) mm_buf_add(&in, part, len);
    if (in.failed || ferror(stdin)) return 4;
    for (char *p = in.p, *nl; p && (nl = strchr(p, '\n')); p = nl + 1) {
        if (n == cap && !(x = mm_realloc(x, cap = 2 * cap + 4096, sizeof *x))) return 4;
        x[n++] = (mm_bpe_text){ p, (size_t)(nl - p), 1 };
    }
    int r = mm_bpe_train(&json, x, n, &o, &err);
    if (r) fprintf(stderr, "bpe_train: %s\n", err.msg);
    else if (fwrite(json.p, 1, json.len, stdout) != json.len || fflush(stdout)) r = 1;
    mm_buf_clear(&in);
    mm_buf_clear(&json);
    free(x);
    return r ? 3 : 0;
}

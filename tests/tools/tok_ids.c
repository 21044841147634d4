/* tok_ids TOKENIZER < texts: one line of ids per text, special tokens included. Texts end in NUL bytes. For comparisons with
 * other implementations (scripts/parity/tokens). TOKENIZER: a tokenizer.json or vocab.txt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "token/mm_token.h"

int main(int argc, char **argv)
{
    mm_err err = { 0 };
    mm_map m;
    mm_tok *tok;
    mm_tok_out o = { 0 };
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    if (argc != 2 || mm_map_open(&m, argv[1], &err)) {
        fprintf(stderr, "usage: tok_ids TOKENIZER < texts (%s)\n", err.msg);
        return 2;
    }
    size_t len = strlen(argv[1]);
    int r = len > 4 && !strcmp(argv[1] + len - 4, ".txt") ? mm_tok_from_vocab(&tok, (const char *)m.p, m.len, 1, &err) :
                                                            mm_tok_from_json(&tok, (const char *)m.p, m.len, &err);
    mm_map_close(&m);
    if (r) {
        fprintf(stderr, "tok_ids: %s\n", err.msg);
        return 3;
    }
    while (!r && (n = getdelim(&line, &cap, 0, stdin)) > 0) {
        if (line[n - 1] == 0) n--;
        if ((r = mm_tok_encode(tok, line, (size_t)n, MM_TOK_SPECIAL | MM_TOK_SPANS, &o, &err))) break;
        for (size_t i = 0; i < o.n; i++) printf("%s%d", i ? " " : "", o.ids[i]);
        putchar('\n');
    }
    if (r) fprintf(stderr, "tok_ids: %s\n", err.msg);
    free(line);
    mm_tok_out_clear(&o);
    mm_tok_free(&tok);
    return r ? 3 : 0;
}

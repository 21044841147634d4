/* tok_ids [-s] TOKENIZER < texts: one line of ids per text, special tokens included; -s: "id:start:end" with the
 * bytes of the text that each token covers. Each text comes as its length in bytes, decimal, a newline, then the
 * bytes. For comparisons with other implementations (scripts/parity/tokens). TOKENIZER: a tokenizer.json or
 * vocab.txt. */
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
    char *text = NULL;
    size_t len;
    int spans = argc > 2 && !strcmp(argv[1], "-s");
    const char *name = argv[argc - 1], *dot = strrchr(name, '.');
    if (argc != 2 + spans || mm_map_open(&m, name, &err)) {
        fprintf(stderr, "usage: tok_ids [-s] TOKENIZER < texts (%s)\n", err.msg);
        return 2;
    }
    int r = dot && !strcmp(dot, ".txt") ? mm_tok_from_vocab(&tok, (const char *)m.p, m.len, 1, &err)
                                        : mm_tok_from_json(&tok, (const char *)m.p, m.len, &err);
    mm_map_close(&m);
    if (r) {
        fprintf(stderr, "tok_ids: %s\n", err.msg);
        return 3;
    }
    while (!r && scanf("%zu", &len) == 1 && getchar() == '\n') {
        char *p = realloc(text, len + 1);
        if (!p || fread(p, 1, len, stdin) != len) {
            fprintf(stderr, "tok_ids: cannot read a text of %zu bytes\n", len);
            return 3;
        }
        text = p;
        if ((r = mm_tok_encode(tok, text, len, MM_TOK_SPECIAL | (spans ? MM_TOK_SPANS : 0), &o, &err))) break;
        for (size_t i = 0; i < o.n; i++) {
            printf("%s%d", i ? " " : "", o.ids[i]);
            if (spans) printf(":%u:%u", o.span[i][0], o.span[i][1]);
        }
        putchar('\n');
    }
    if (r) fprintf(stderr, "tok_ids: %s\n", err.msg);
    free(text);
    mm_tok_out_clear(&o);
    mm_tok_free(&tok);
    return r ? 3 : 0;
}

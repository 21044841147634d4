/* schema_walk - random texts that a JSON Schema allows, for a public validator (scripts/parity/schemas).
 *
 *   schema_walk TOKENIZER.JSON SEED N < SCHEMAS     a schema a line in, a line out: {"texts":[..N..]} or {"error":".."}
 *
 * A text is a walk over tokens, each drawn from all that the grammar allows; every third has only as many as its shortest text has bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "base/mm_rng.h"
#include "gen/mm_grammar.h"

static mm_err err;
static mm_tok *tok;

static int walk(mm_grammar *g, mm_rng *rng, size_t left, mm_buf *text)
{
    mm_cursor *c = mm_cursor_new(g);
    const uint64_t *mask;
    const size_t vocab = mm_tok_vocab(tok);
    int r = c ? 0 : MM_ENOMEM;
    mm_buf_reset(text);
    while (!r && left) {
        const int end = mm_cursor_end(c);
        if ((end & MM_END_MUST) || ((end & MM_END_MAY) && !mm_rng_below(rng, 3))) break;
        r = mm_cursor_allow(c, left--, &mask, &err);
        if (r == MM_EDATA && (end & MM_END_MAY)) {
            r = 0;
            break;
        }
        uint32_t n = 0;
        int32_t pick = 0;
        for (size_t i = 0; i < vocab && !r; i++)
            if (mask[i / 64] >> i % 64 & 1 && !mm_rng_below(rng, ++n)) pick = (int32_t)i;
        const size_t from = text->len;
        if (!r) r = mm_tok_piece(tok, pick, text, &err);
        if (!r) r = mm_cursor_accept(c, text->p + from, text->len - from);
    }
    mm_cursor_free(&c);
    return r;
}

static int texts(const char *line, size_t len, uint64_t seed, uint64_t number, int n, mm_buf *out)
{
    mm_grammar *g;
    mm_buf text = { 0 };
    int r = mm_grammar_from_schema(&g, line, len, &err);
    if (!r) r = mm_grammar_bind(g, tok, mm_tok_vocab(tok), &err);
    mm_buf_reset(out);
    mm_buf_adds(out, "{\"texts\":[");
    for (int i = 0; i < n && !r; i++) {
        mm_rng rng = mm_rng_at(seed, 0, number, (uint64_t)i);
        r = walk(g, &rng, mm_grammar_least(g) + (i % 3 ? mm_rng_below(&rng, 80) : 0), &text);
        if (i) mm_buf_addc(out, ',');
        mm_json_quote(out, text.p ? text.p : "", text.len);
    }
    mm_buf_adds(out, "]}");
    if (r) {
        mm_buf_reset(out);
        mm_buf_adds(out, "{\"error\":");
        mm_json_quote(out, err.msg, strlen(err.msg));
        mm_buf_addc(out, '}');
    }
    mm_grammar_close(&g);
    mm_buf_clear(&text);
    return out->failed;
}

int main(int argc, char **argv)
{
    mm_buf file = { 0 }, out = { 0 };
    char *line = NULL;
    size_t cap = 0;
    uint64_t number = 0;
    int64_t seed, n;
    if (argc != 4 || mm_parse_int(argv[2], 0, INT64_MAX, &seed) || mm_parse_int(argv[3], 1, 1000, &n))
        return fprintf(stderr, "usage: schema_walk TOKENIZER SEED N\n"), 2;
    if (mm_file_read(&file, argv[1], (size_t)1 << 28, &err) || mm_tok_from_json(&tok, file.p, file.len, &err))
        return fprintf(stderr, "%s\n", err.msg), 3;
    for (ssize_t len; (len = getline(&line, &cap, stdin)) > 0;) {
        if (texts(line, (size_t)len, (uint64_t)seed, number++, (int)n, &out)) return 4;
        puts(out.p);
    }
    free(line);
    mm_buf_clear(&file);
    mm_buf_clear(&out);
    mm_tok_free(&tok);
    return fflush(stdout) ? 4 : 0;
}

/* Tokenizers: an input that begins with { is a tokenizer.json, with a text for it after a NUL byte; any other is a
 * text, for a small tokenizer that has everything. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "token/mm_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VOCAB                                                                                           \
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n##e\ne\nhello\nworld\n##s\n,\nun\n##aff\n##able\n\xCE\xB1\n##" \
    "\xCE\xB1\n\xE4\xB8\xAD\n"

/* Whatever the text: ids that exist, spans that lie in it, the same ids with and without spans, and a way back. */
static void use(const mm_tok *t, const char *s, size_t len)
{
    static mm_tok_out a, b; /* reused, as a reader of many texts does */
    mm_err err;
    mm_buf text = { 0 };
    if (mm_tok_encode(t, s, len, MM_TOK_SPECIAL, &a, &err)) {
        if (err.code != MM_EDATA || mm_utf8_valid(s, len) == len) abort();
        return;
    }
    if (mm_tok_encode(t, s, len, MM_TOK_SPECIAL | MM_TOK_SPANS, &b, &err) || a.n != b.n) abort();
    for (size_t i = 0; i < a.n; i++)
        if (a.ids[i] != b.ids[i] || !mm_tok_text(t, a.ids[i]) || b.span[i][0] > b.span[i][1] || b.span[i][1] > len)
            abort();
    if (mm_tok_decode(t, a.ids, a.n, &text, &err) && err.code != MM_EUNSUP) abort(); /* a decoder that is not known */
    mm_buf_clear(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mm_tok *fixed;
    const char *s = (const char *)data, *nul = size && s[0] == '{' ? memchr(s, 0, size) : NULL;
    mm_tok *t = NULL;
    mm_err err = { 0 };
    if (!fixed && mm_tok_from_vocab(&fixed, VOCAB, strlen(VOCAB), 1, &err)) abort();
    if (!size || s[0] != '{') {
        use(fixed, s, size);
        return 0;
    }
    size_t len = nul ? (size_t)(nul - s) : size;
    if (mm_tok_from_json(&t, s, len, &err)) {
        if (t || !err.code || !err.msg[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < mm_tok_vocab(t); i++) {
        const char *x = mm_tok_text(t, (int32_t)i);
        if (x && strlen(x) < 64 && mm_tok_id(t, x, strlen(x)) >= (int32_t)mm_tok_vocab(t)) abort();
    }
    use(t, "hello  [MASK] un\xC3\xA9 \xE4\xB8\xAD x<s>1234's\n\n a", 33);
    if (nul) use(t, nul + 1, size - len - 1);
    mm_tok_free(&t);
    return 0;
}

/* token_int.h - inside lib/token. */
#ifndef TOKEN_INT_H
#define TOKEN_INT_H

#include "base/mm_mem.h"
#include "token/mm_token.h"

typedef struct added { /* a token found in the text before anything else happens to it */
    const char *text;
    size_t len;
    int32_t id;
    int single_word, lstrip, rstrip, normalized, special;
} added;

typedef struct slot {
    uint32_t hash;
    int32_t id; /* -1: free */
} slot;

struct mm_tok {
    mm_arena arena;
    const char **text; /* by id; NULL for gaps */
    uint32_t *len;
    size_t n;          /* largest id + 1 */
    /* Two tables over the same ids: words' beginnings as they are, continuations without their mark. */
    slot *start, *cont;
    size_t slots; /* of each; a power of two */
    size_t longest; /* bytes of the longest token */
    const char *cont_mark; /* "##" */
    size_t cont_len;
    size_t max_chars; /* a longer word is unknown */
    int clean, chinese, strip, lower;
    int32_t role[5];
    added *add;
    size_t n_add;
    uint8_t first[256]; /* does an added token begin with this byte? bit 0: raw, bit 1: normalised text */
    int32_t prefix[8], suffix[8];
    size_t n_prefix, n_suffix;
};

/* Incremental hash of a word's bytes: h = tok_step(h, byte) from TOK_SEED. */
#define TOK_SEED 0x811C9DC5u
static inline uint32_t tok_step(uint32_t h, unsigned char c) { return (h ^ c) * 0x01000193u; }

/* build.c */
int tok_begin(mm_tok **out, mm_err *err);
int tok_put(mm_tok *t, int32_t id, const char *s, size_t len, mm_err *err); /* text of an id, copied */
int tok_add(mm_tok *t, const added *a, mm_err *err);
int tok_finish(mm_tok *t, mm_err *err); /* tables; after all ids */

/* norm.c: BERT's normaliser over valid UTF-8. Appends to out->norm, and to out->at two entries a byte: the span in the text
 * (from `base` on) of the character it came from, when spans is 1. */
int tok_normalize(const mm_tok *t, const char *s, size_t len, uint32_t base, int spans, mm_tok_out *out);
/* 0 letter, 1 white space, 2 punctuation of the character at s (length in *n), as BertPreTokenizer sees it */
int tok_class(const char *s, size_t len, int *n);
int tok_is_word(uint32_t cp); /* \w of a regular expression */

#endif

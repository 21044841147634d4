/* token_int.h - inside lib/token. */
#ifndef TOKEN_INT_H
#define TOKEN_INT_H

#include "base/mm_mem.h"
#include "token/mm_token.h"

enum { IN_VOCAB = 1, ADDED = 2, SPECIAL = 4 };

typedef struct added { /* a token found in the text before anything else happens to it */
    const char *text; /* what is looked for: the content, or its normalised form */
    size_t len, order;
    int32_t id;
    int single_word, lstrip, rstrip, normalized, special;
} added;

typedef struct slot {
    uint32_t hash;
    int32_t id; /* -1: free */
} slot;

typedef struct map { /* token texts to ids: open addressing, a power of two of slots, at most half full */
    slot *tab;
    size_t slots, skip; /* bytes of each text that are left out at its beginning */
} map;

struct mm_tok {
    mm_arena arena;
    const char **text; /* by id; NULL for gaps */
    uint32_t *len;
    size_t n, cap;     /* n: largest id + 1 */
    uint8_t *kind;     /* by id: IN_VOCAB, ADDED, SPECIAL */
    /* the model's vocabulary (a word's beginning), the continuations in it without their mark, the added tokens */
    map vocab, cont, names;
    size_t longest; /* bytes of the longest token of the vocabulary */
    const char *cont_mark; /* "##" */
    size_t cont_len;
    size_t max_chars; /* a longer word is unknown */
    int clean, chinese, strip, lower;
    int32_t role[5];
    added *add; /* sorted: those looked for in the raw text, then those of normalised text; each by bytes */
    size_t n_add, cap_add;
    uint32_t first[2][257]; /* of each kind, where those that begin with a byte begin in add */
    int cleanup; /* the decoder closes up punctuation */
    int32_t prefix[8], suffix[8];
    size_t n_prefix, n_suffix;
};

#define MAX_WORD_TOKEN 512 /* bytes of the longest token that WordPiece tries */

/* Incremental hash of a word's bytes: h = tok_step(h, byte) from TOK_SEED. */
#define TOK_SEED 0x811C9DC5u
static inline uint32_t tok_step(uint32_t h, unsigned char c) { return (h ^ c) * 0x01000193u; }

/* build.c */
int tok_begin(mm_tok **out, mm_err *err);
int tok_put(mm_tok *t, int32_t id, const char *s, size_t len, int kind, mm_err *err); /* text of an id, copied */
int tok_index(mm_tok *t, mm_err *err); /* the tables of the vocabulary; once it is complete */
/* An added token, after tok_index(); a->text is its content, the normaliser's part is done here. */
int tok_add(mm_tok *t, const added *a, mm_err *err);
int tok_finish(mm_tok *t, mm_err *err); /* after all added tokens */
int32_t map_get(const mm_tok *t, const map *m, const char *s, size_t len); /* -1: not there */

/* added.c: the next added token in s[from..len) that may stand there, and its place: leftmost, of those the longest.
 * normalized: of those that are looked for in normalised text. NULL: none. */
const added *tok_find(const mm_tok *t, const char *s, size_t from, size_t len, int normalized, size_t *at);
size_t tok_spaces_before(const char *s, size_t at, size_t floor); /* where the white space that ends at `at` begins */
size_t tok_spaces_after(const char *s, size_t at, size_t len);

/* norm.c: BERT's normaliser over valid UTF-8. Appends to out->norm, and to out->at two entries a byte: the span in the text
 * (from `base` on) of the character it came from, when spans is 1. */
int tok_normalize(const mm_tok *t, const char *s, size_t len, uint32_t base, int spans, mm_tok_out *out);
/* 0 letter, 1 white space, 2 punctuation of the character at s (length in *n), as BertPreTokenizer sees it */
int tok_class(const char *s, size_t len, int *n);
int tok_category(uint32_t cp); /* utf8proc's category, as of Unicode 16.0 */
int tok_is_word(uint32_t cp);  /* \w of a regular expression */

#endif

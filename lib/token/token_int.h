/* token_int.h - inside lib/token. The stages of a tokenizer and the file of each: added.c (added tokens), norm.c and bert.c
 * (normalisers), split.c and regex.c (pre-tokenizers), wordpiece.c, bpe.c, unigram.c (models), encode.c (all together),
 * decode.c; build.c, ggml.c and json.c make one. */
#ifndef TOKEN_INT_H
#define TOKEN_INT_H

#include "base/mm_mem.h"
#include "token/mm_token.h"

/* ---- text on its way through the stages ---- */

typedef struct view { /* text to read; at: [start, end) in the original text of each byte's source, NULL: base + i */
    const char *s;
    size_t len;
    const uint32_t *at;
    uint32_t base;
} view;

typedef struct txt { /* text being written */
    mm_buf b;
    uint32_t *at; /* two entries a byte, when spans is set */
    size_t at_cap;
    int spans;
} txt;

static inline uint32_t src_from(const view *v, size_t i) { return v->at ? v->at[2 * i] : v->base + (uint32_t)i; }
static inline uint32_t src_to(const view *v, size_t i) { return v->at ? v->at[2 * i + 1] : v->base + (uint32_t)i + 1; }
int tok_text_put(txt *t, const char *s, size_t n, uint32_t from, uint32_t to);     /* all from one place */
int tok_text_copy(txt *t, const view *v, size_t from, size_t to);                 /* bytes as they are */

typedef struct extent { /* a piece of text */
    size_t from, to;
} extent;

typedef struct extents {
    extent *p;
    size_t n, cap;
} extents;
int tok_extent(extents *x, size_t from, size_t to); /* an empty one is left out */

struct mm_tok_scratch {
    txt t[3];     /* normalised text, and what pre-tokenizers make of it */
    extents x[2];  /* words */
    void *work;    /* of bpe.c or unigram.c */
    size_t work_cap;
    mm_tok_word_fn *word; /* words go here instead of to the model; NULL: to the model */
    void *arg;
};
struct mm_tok_scratch *tok_scratch(mm_tok_out *o); /* made at its first use; NULL: no memory */
void *tok_work(struct mm_tok_scratch *w, size_t n, size_t size); /* NULL: no memory; content is lost */

/* ---- the tokenizer ---- */

enum { IN_VOCAB = 1, ADDED = 2, SPECIAL = 4 };

typedef struct added { /* a token found in the text before anything else happens to it */
    const char *text;  /* what is looked for: the content, or its normalised form */
    size_t len, order;
    int32_t id;
    int single_word, lstrip, rstrip, normalized, special;
} added;

typedef struct slot {
    uint32_t hash;
    int32_t id; /* -1: free */
} slot;

typedef struct map { /* texts to ids: open addressing, a power of two of slots, at most half full */
    const char *const *text; /* by id: the whole text; `skip` bytes at its beginning are left out */
    const uint32_t *len;
    slot *tab;
    size_t slots, skip;
} map;

/* A regular expression that is known: its match at s[i], as a length; 0: none. What stands at s[end] is never looked at. */
typedef size_t match_fn(const char *s, size_t i, size_t end);

typedef enum {
    NORM_BERT, NORM_NFC, NORM_NFD, NORM_NFKC, NORM_NFKD, NORM_LOWER, NORM_ACCENTS, NORM_STRIP, NORM_REPLACE, NORM_PREPEND,
    NORM_CHARSMAP, NORM_WEB
} norm_op;

typedef struct norm {
    norm_op op;
    int clean, chinese, strip, lower; /* BERT */
    int left, right;                  /* strip */
    const char *from, *to;            /* replace (from or match), prepend (to); charsmap: replacements, NUL-separated */
    size_t from_len, to_len;
    match_fn *match;
    int by_set;           /* replace: a run of at most set_most of the ASCII characters in set */
    uint64_t set[2];
    size_t set_most;
    const uint32_t *unit; /* charsmap: double array */
    size_t units;
} norm;

typedef enum { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_CONTIGUOUS, SPLIT_PREVIOUS, SPLIT_NEXT } split_how;
typedef enum { PRE_BERT, PRE_PREFIX_SPACE, PRE_MATCH, PRE_METASPACE } pre_op;

typedef struct pre {
    pre_op op;
    match_fn *match; /* PRE_MATCH; NULL: the string `mark` */
    const char *pattern; /* as the file writes it */
    size_t pattern_len;
    split_how how;
    int invert;
    const char *mark; /* metaspace's replacement of a space */
    size_t mark_len;
    enum { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend;
    int split;
} pre;

typedef enum { MODEL_WORDPIECE, MODEL_BPE, MODEL_UNIGRAM } model_kind;
typedef enum { DECODE_NONE, DECODE_WORDPIECE, DECODE_BYTES, DECODE_METASPACE, DECODE_SUFFIX, DECODE_FALLBACK, DECODE_UNKNOWN } decode_kind;

typedef struct merge {
    uint32_t a, b; /* a == UINT32_MAX: free */
    uint32_t rank, id;
} merge;

#define MAX_STEPS 12

struct mm_tok {
    mm_arena arena;
    const char **text; /* by id; NULL for gaps */
    uint32_t *len;
    size_t n, cap;     /* n: largest id + 1 */
    uint8_t *kind;     /* by id: IN_VOCAB, ADDED, SPECIAL */
    /* byte-level models work on bytes: the bytes that a token's text stands for; NULL where it stands for none */
    const char **key;
    uint32_t *key_len;
    /* the model's vocabulary (WordPiece: a word's beginning), the continuations in it without their mark, the added tokens */
    map vocab, cont, names;
    size_t longest; /* bytes of the longest token of the vocabulary */

    norm norm[MAX_STEPS];
    size_t norms;
    pre pre[MAX_STEPS];
    size_t pres;
    int byte_level;
    int first_only; /* metaspace marks the beginning of the text only: places are needed to know it */

    model_kind model;
    const char *cont_mark; /* "##" */
    size_t cont_len;
    size_t max_chars; /* a longer word is unknown */
    const char *suffix; /* BPE: end_of_word_suffix */
    size_t suffix_len;
    int byte_fallback, fuse_unk, ignore_merges;
    int32_t byte_id[256];         /* byte-level: of one byte; byte_fallback: of <0x..> */
    int32_t byte_last[256];       /* byte-level with a suffix: of the last one */
    merge *merges;
    size_t merge_slots, n_merges, last_made;
    uint32_t *rank; /* BPE without merges: two that make a token are joined, in this order; UINT32_MAX: never. By id */
    double *score; /* Unigram, by id */
    size_t score_cap;
    double unk_score;
    uint8_t *reach; /* Unigram: longest token that begins with two bytes, by the two (255: or more) */

    int32_t role[5];
    added *add; /* sorted: those looked for in the raw text, then those of normalised text; each by bytes */
    size_t n_add, cap_add;
    uint32_t first[2][257]; /* of each kind, where those that begin with a byte begin in add */
    decode_kind decode;
    int cleanup; /* WordPiece's decoder closes up punctuation */
    const char *decode_mark; /* metaspace's, or BPE's suffix */
    size_t decode_len;
    int32_t before[8], after[8]; /* the template */
    size_t n_before, n_after;
};

#define MAX_WORD_TOKEN 512 /* bytes of the longest token that WordPiece and Unigram try */

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
int32_t tok_map_get(const map *m, const char *s, size_t len); /* -1: not there */
int32_t tok_map_get_hash(const map *m, const char *s, size_t len, uint32_t h); /* the same with a hash that is known */
/* The bytes that the characters of a byte-level token stand for; -1: it has another character. out: len bytes */
long tok_bytes_of(const char *s, size_t len, char *out);

/* added.c: the next added token in s[from..len) that may stand there, and its place: leftmost, of those the longest.
 * normalized: of those that are looked for in normalised text. NULL: none. */
const added *tok_find(const mm_tok *t, const char *s, size_t from, size_t len, int normalized, size_t *at);
size_t tok_spaces_before(const char *s, size_t at, size_t floor); /* where the white space that ends at `at` begins */
size_t tok_spaces_after(const char *s, size_t at, size_t len);

/* unicode.c */
int tok_uni_category(uint32_t cp); /* utf8proc's category, as of Unicode 16.0 */
int tok_uni_is_word(uint32_t cp);  /* \w of a regular expression */
int tok_uni_is_space(uint32_t cp); /* White_Space */
int tok_uni_is_number(uint32_t cp); /* N */
int tok_uni_is_punct(uint32_t cp); /* ASCII's symbols and P, as BertPreTokenizer sees it */
int tok_uni_is_mark(uint32_t cp);  /* non-spacing, as BertNormalizer sees it */
int tok_uni_is_combining(uint32_t cp); /* any mark, as StripAccents sees it */
int tok_uni_is_dropped(uint32_t cp); /* clean_text takes it out */
int tok_uni_is_chinese(uint32_t cp); /* set apart by BertNormalizer */
size_t tok_uni_lower(uint32_t cp, char out[8]); /* UTF-8 of the lower case */
int tok_uni_decompose(uint32_t cp, int compat, int32_t out[32]); /* count */
int tok_uni_class(uint32_t cp);    /* combining class */
uint32_t tok_uni_compose(uint32_t a, uint32_t b); /* 0: they do not compose */
int tok_class(const char *s, size_t len, int *n); /* 0 letter, 1 white space, 2 punctuation of the character at s (length in *n) */

/* norm.c: all steps, from in to w->t[0]; 0 or MM_ENOMEM */
int tok_normalize(const mm_tok *t, const view *in, struct mm_tok_scratch *w, int spans);
int tok_canonical(const norm *n, const view *in, txt *out, int compat, int compose, int bert); /* NFC, NFD ..., BERT's middle */
int tok_bert(const norm *n, const view *in, txt *out); /* bert.c */
int tok_charsmap(const norm *n, const view *in, txt *out); /* charsmap.c */
int tok_charsmap_open(norm *n, const char *p, size_t len, mm_err *err); /* p lives as long as n */

/* regex.c: NULL: not known */
int tok_web(const view *in, txt *out);
match_fn *tok_regex(const char *pattern, size_t len);
/* "[...]" or "[...]+" of ASCII characters, escaped signs and ranges: 1 and the set of them, *most 1 or SIZE_MAX; 0 for anything else. */
int tok_regex_set(const char *pattern, size_t len, uint64_t set[2], size_t *most);
match_fn tok_match_gpt2, tok_match_number, tok_match_numbers, tok_match_space, tok_match_punct, tok_match_word;

/* split.c: words of in[from..to) by all pre-tokenizers. *out, *words: text and pieces of it, in w. 0 or MM_ENOMEM. first: the
 * piece is at the text's beginning */
int tok_split(const mm_tok *t, const view *in, size_t from, size_t to, struct mm_tok_scratch *w, view *out, const extents **words);

/* models: the ids of one word, v->s[from..to) */
int tok_emit(mm_tok_out *o, int32_t id, const view *v, size_t from, size_t to);
int tok_wordpiece(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o);
int tok_bpe(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o);
int tok_unigram(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o);
int tok_bpe_index(mm_tok *t, mm_err *err); /* byte tables; after the vocabulary's */
int tok_bpe_room(mm_tok *t, size_t merges, mm_err *err); /* for so many, where the number is known */
int tok_bpe_merge(mm_tok *t, const char *a, size_t a_len, const char *b, size_t b_len, mm_err *err); /* in the order of ranks */
int tok_unigram_index(mm_tok *t, mm_err *err);

#endif

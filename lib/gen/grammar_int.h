/* grammar_int.h - inside grammars. Terms (grammar.c) are built by schema.c and rules.c, with sets of characters and regular expressions from
 * pattern.c; automaton.c walks them. */
#ifndef GRAMMAR_INT_H
#define GRAMMAR_INT_H

#include "base/mm_mem.h"
#include "gen/mm_grammar.h"

/* A term is what texts it stands for. Equal terms have equal numbers. */
typedef uint32_t term;
typedef enum { G_EMPTY, G_NONE, G_SET, G_SEQ, G_ALT, G_REP, G_REF } gkind;
#define EMPTY ((term)0) /* the empty text */
#define NONE ((term)1)  /* no text at all */
#define MANY UINT32_MAX
#define NEVER SIZE_MAX  /* of a length: there is no text */

typedef struct gterm {
    gkind kind;
    uint32_t a, b, c;  /* SET: number of the set; SEQ, ALT: two terms; REP: a term, at least, at most; REF: the term, and whether it is known */
    uint32_t chain;    /* of the hash table */
    size_t least;      /* bytes of the shortest text */
} gterm;
typedef struct gset {
    uint64_t bit[4];
} gset;

typedef struct gtable { /* open chains: heads by hash */
    uint32_t *head;
    size_t slots;
} gtable;

struct automaton;
struct mm_grammar {
    gterm *t;
    size_t n, cap;
    gset *set;
    size_t n_sets, cap_sets;
    gtable index;
    term root;
    int failed; /* a code; the first failure stays */
    mm_err err;
    struct automaton *auto_;
};

/* Building; a failure makes every later call return NONE, and is found in g->failed. */
mm_grammar *grammar_new(void);
term g_set(mm_grammar *g, const gset *s);
term g_byte(mm_grammar *g, unsigned char c);
term g_range(mm_grammar *g, unsigned char from, unsigned char to);
term g_seq(mm_grammar *g, term a, term b);
term g_alt(mm_grammar *g, term a, term b);
term g_rep(mm_grammar *g, term a, uint32_t min, uint32_t max);
static inline term g_opt(mm_grammar *g, term a) { return g_rep(g, a, 0, 1); }
term g_text(mm_grammar *g, const char *s, size_t len);
term g_ref(mm_grammar *g);                     /* a name for a term that comes later */
void g_define(mm_grammar *g, term ref, term to);
/* All texts of n bytes from low to high, whose bytes but the first go from first to last: numbers of one length, characters of one length */
term g_between(mm_grammar *g, const unsigned char *low, const unsigned char *high, size_t n, unsigned char first, unsigned char last);
term g_fail(mm_grammar *g, int code, const char *fmt, ...) MM_PRINTF(3, 4);
/* Lengths, and that no rule begins with itself; then the grammar is ready. */
int grammar_finish(mm_grammar *g, term root, mm_err *err);

/* Sets of characters: ranges of code points, sorted, apart from each other. */
typedef struct cset {
    uint32_t (*r)[2];
    size_t n, cap;
    int failed;
} cset;
void cset_add(cset *c, uint32_t from, uint32_t to);
void cset_invert(cset *c);
void cset_keep(cset *c, uint32_t from, uint32_t to); /* only what is in this range */
void cset_clear(cset *c);
term g_chars(mm_grammar *g, const cset *c);      /* in UTF-8 */
term g_json_chars(mm_grammar *g, const cset *c); /* as they stand in a JSON string */
/* A regular expression (ECMA-262's, in part) that is looked for in a JSON string: all strings, without quotes, in which it is found. */
term g_pattern(mm_grammar *g, const char *s, size_t len);

#endif

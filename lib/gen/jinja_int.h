/* jinja_int.h - inside the chat templates: jinja_lex.c cuts a source into tokens, jinja_parse.c and jinja_parse_expr.c make a tree, jinja_eval.c walks it,
 * jinja_value.c has what values are, jinja_filters.c and jinja_lib.c what may be called, jinja_text.c what those have
 * in common. */
#ifndef JINJA_INT_H
#define JINJA_INT_H

#include "gen/mm_chat.h"

/* ---- values: immutable, but for the attributes of a namespace; in an arena ---- */

typedef enum { J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STR, J_LIST, J_DICT, J_MACRO, J_FUNC, J_METHOD } jkind;

struct jlist;
struct jdict;
struct jmacro;
struct jmethod;
typedef struct jval {
    jkind kind;
    int tuple; /* of a list: it is written in round brackets; of a dict: a namespace */
    union {
        int64_t i; /* J_BOOL, J_INT */
        double f;
        mm_slice s; /* J_STR; of J_UNDEFINED: the name that was asked for; of J_FUNC: its name */
        const struct jlist *list;
        struct jdict *dict;
        const struct jmacro *macro;
        const struct jmethod *method;
    } u;
} jval;

typedef struct jlist {
    size_t n;
    jval *v;
} jlist;
typedef struct jdict { /* in the order of insertion */
    size_t n, cap;
    jval *key, *val;
} jdict;
typedef struct jmethod { /* "x.strip", on its way to being called */
    jval self;
    mm_slice name;
} jmethod;

/* ---- the tree ---- */

typedef enum {
    X_CONST, X_NAME, X_LIST, X_DICT, X_ATTR, X_ITEM, X_SLICE, X_CALL, X_FILTER, X_TEST, X_NOT, X_NEG, X_POS, X_AND, X_OR, X_IF, X_ADD, X_SUB, X_MUL,
    X_DIV, X_FLOOR, X_MOD, X_POW, X_CONCAT, X_EQ, X_NE, X_LT, X_LE, X_GT, X_GE, X_IN, X_NOTIN, X_COMPARE
} xkind;

typedef struct jexpr {
    xkind kind;
    int line, tuple, neg;
    jval value;           /* X_CONST */
    mm_slice name;        /* X_NAME, X_ATTR, X_FILTER, X_TEST */
    struct jexpr *a, *b, *c, *d;
    struct jarg *args;    /* of calls, filters, tests; items of lists; keys (a) and values (b) of dicts; X_COMPARE: a op b op c */
    size_t n_args;
} jexpr;
typedef struct jarg {
    mm_slice name; /* of a keyword argument, else empty */
    xkind op;      /* of a comparison */
    jexpr *x, *value;
    struct jarg *next;
} jarg;

typedef enum { N_TEXT, N_OUT, N_IF, N_FOR, N_SET, N_CAPTURE, N_MACRO, N_BREAK, N_CONTINUE, N_BODY } nkind;
typedef struct jnode {
    nkind kind;
    int line;
    mm_slice text;          /* N_TEXT; name of a macro */
    mm_slice names[4];      /* targets of for and set */
    mm_slice attr;          /* set ns.attr */
    size_t n_names;
    jexpr *x, *cond;
    jarg *params;           /* of a macro: names with defaults */
    size_t n_params;
    struct jnode *body, *other, *next;
} jnode;
typedef struct jmacro {
    const jnode *node;
} jmacro;

struct mm_chat {
    mm_arena arena;
    jnode *body;
};

/* ---- tokens ---- */

typedef enum { T_END, T_TEXT, T_BLOCK, T_BLOCK_END, T_VAR, T_VAR_END, T_NAME, T_INT, T_FLOAT, T_STR, T_OP } tkind;
typedef struct jtoken {
    tkind kind;
    int line;
    mm_slice s; /* the text; of a string: decoded; of an operator: itself */
    int64_t i;
    double f;
} jtoken;
/* All tokens of a source, which must live as long as they do. */
int jinja_lex(mm_arena *arena, const char *s, size_t len, jtoken **out, mm_err *err);
int jinja_parse(mm_chat *chat, const jtoken *tokens, mm_err *err);

/* ---- running ---- */

typedef struct jscope {
    struct jdict vars;
    struct jscope *up;
} jscope;
typedef struct jrun {
    mm_arena *arena;
    mm_buf *out;
    jscope *scope, *top;
    int64_t now;
    int line, depth, jump; /* jump: N_BREAK or N_CONTINUE is on its way */
    uint64_t steps;
    int failed;            /* a code; everything goes home */
    mm_err *err;
} jrun;

typedef struct jargs { /* of a call */
    jval *v;
    mm_slice *name; /* keywords; empty: by position. Those by position come first */
    size_t n;
} jargs;

/* Fails the run: the first message stays. Returns an undefined value. */
jval jinja_fail(jrun *r, int code, const char *fmt, ...) MM_PRINTF(3, 4);
int jinja_step(jrun *r, size_t n); /* counts; nonzero: the run has failed */
void jinja_body(jrun *r, const jnode *n);
jval jinja_expr(jrun *r, const jexpr *x);
jval jinja_call_macro(jrun *r, const jmacro *m, const jargs *args);

/* jinja_lib.c, jinja_filters.c. _known: whether there is such a filter, test ... */
int jinja_filter_known(mm_slice name);
int jinja_test_known(mm_slice name);
jval jinja_filter(jrun *r, mm_slice name, jval self, const jargs *args);
int jinja_test(jrun *r, mm_slice name, jval self, const jargs *args);
jval jinja_function(jrun *r, mm_slice name, const jargs *args);
int jinja_function_known(mm_slice name);
jval jinja_method(jrun *r, jval self, mm_slice name, const jargs *args);
int jinja_method_known(jkind of, mm_slice name);
int jinja_method_refused(jkind of, mm_slice name); /* Python has it, and it is not known here */

/* jinja_value.c */
static inline int jinja_is(mm_slice a, const char *b)
{
    size_t i = 0;
    while (i < a.len && b[i] && a.p[i] == b[i]) i++;
    return i == a.len && !b[i];
}
jval jinja_str(jrun *r, const char *s, size_t len); /* copies */
static inline jval jinja_slice(mm_slice s) { return (jval){ .kind = J_STR, .u.s = s }; }
static inline int jinja_is_int(jval v) { return v.kind == J_INT || v.kind == J_BOOL; }
static inline jval jinja_int(int64_t i) { return (jval){ .kind = J_INT, .u.i = i }; }
static inline jval jinja_bool(int b) { return (jval){ .kind = J_BOOL, .u.i = !!b }; }
static inline jval jinja_none(void) { return (jval){ .kind = J_NONE }; }
static inline jval jinja_undefined(mm_slice name) { return (jval){ .kind = J_UNDEFINED, .u.s = name }; }
jval jinja_list(jrun *r, size_t n, int tuple); /* n places to fill: u.list->v */
jval jinja_dict(jrun *r);
int jinja_put(jrun *r, jdict *d, jval key, jval val);
const jval *jinja_get(const jdict *d, mm_slice key); /* NULL: not there */
jval jinja_from_json(jrun *r, const json_t *j, int depth);
int jinja_truth(jval v);
int jinja_equal(jval a, jval b);
int jinja_order(jrun *r, jval a, jval b); /* -1, 0, 1; fails where there is none */
void jinja_write(jrun *r, mm_buf *out, jval v, int quoted); /* as str() writes it, or repr() */
void jinja_json(jrun *r, mm_buf *out, jval v, int indent, int level);
const char *jinja_type(jval v);
/* The things that a for loop goes over: characters, items, keys. Fails for what is no sequence. */
jval jinja_items(jrun *r, jval v);
/* A buffer's content as a value; the buffer is emptied. */
jval jinja_take(jrun *r, mm_buf *b);
size_t jinja_chars(mm_slice s);                          /* how many */
mm_slice jinja_sub(mm_slice s, size_t from, size_t to); /* by characters */


/* jinja_text.c. Arguments by position, or by name; NULL: not given. The texts of values; "" with a failure for an argument that is no string. */
const jval *jinja_arg(const jargs *a, size_t i, const char *name);
mm_slice jinja_text(jrun *r, jval v);
mm_slice jinja_text_arg(jrun *r, const jargs *a, size_t i, const char *name, const char *dflt);
jlist *jinja_item_list(jrun *r, jval v); /* never NULL */
jval jinja_pairs(jrun *r, const jdict *d); /* of keys and values */
jval jinja_strip(jrun *r, mm_slice s, const jargs *a, int left, int right);
enum { UPPER, LOWER, CAPITALIZE, TITLE };
jval jinja_letters(jrun *r, mm_slice s, int how);
jval jinja_replace(jrun *r, mm_slice s, const jargs *a);
jval jinja_split(jrun *r, mm_slice s, const jargs *a, int from_right);

#endif

/* jinja_parse.h - inside chat templates: what the parser of statements (jinja_parse.c) and that of expressions (jinja_parse_expr.c) share. */
#ifndef JINJA_PARSE_H
#define JINJA_PARSE_H

#include "gen/jinja_int.h"

#define DEEPEST 100 /* of nested expressions and statements */

typedef struct parser {
    mm_arena *arena;
    const jtoken *t;
    int depth, loops, macros;
    int failed;
    mm_err *err;
} parser;

/* The first failure stays; both return NULL. */
void *jparse_refuse(parser *p, int code, const char *fmt, const char *what, size_t len);
void *jparse_unexpected(parser *p);
void *jparse_get(parser *p, size_t n, size_t size); /* zeroed */
jexpr *jparse_node(parser *p, xkind kind, jexpr *a, jexpr *b);
jarg *jparse_add_arg(parser *p, jexpr *x, jarg **last);
jexpr *jparse_expression(parser *p);
jexpr *jparse_disjunction(parser *p);              /* one without if */
void jparse_arguments(parser *p, jexpr *x);        /* behind the bracket */
int jparse_need_op(parser *p, const char *op);
static inline int jparse_is_op(const parser *p, const char *op) { return p->t->kind == T_OP && jinja_is(p->t->s, op); }
static inline int jparse_is_word(const parser *p, const char *word) { return p->t->kind == T_NAME && jinja_is(p->t->s, word); }
static inline int jparse_take_op(parser *p, const char *op) { return jparse_is_op(p, op) ? p->t++, 1 : 0; }
static inline int jparse_take_word(parser *p, const char *word) { return jparse_is_word(p, word) ? p->t++, 1 : 0; }

#endif

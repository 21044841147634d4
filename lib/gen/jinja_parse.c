/* Tokens into a tree: statements by recursive descent, expressions by the levels of Jinja's precedence. What is not known is refused here. */
#include <string.h>
#include "gen/jinja_int.h"

#define DEEPEST 100 /* of nested expressions and statements */

typedef struct parser {
    mm_arena *arena;
    const jtoken *t;
    int depth, loops, macros;
    int failed;
    mm_err *err;
} parser;

static jexpr *expression(parser *p);
static jexpr *unary(parser *p, int filters);
static jnode *body(parser *p, const char *const *until);

static void *refuse(parser *p, int code, const char *fmt, const char *what, size_t len)
{
    char message[160];
    if (p->failed) return NULL;
    snprintf(message, sizeof message, fmt, (int)(len > 60 ? 60 : len), what);
    p->failed = mm_fail(p->err, code, "chat template: line %d: %s", p->t->line, message);
    return NULL;
}

static void *unexpected(parser *p)
{
    if (p->t->kind == T_END) return refuse(p, MM_EDATA, "the template ends too early%.*s", "", 0);
    return refuse(p, MM_EDATA, "'%.*s' is not expected here", p->t->s.p, p->t->s.len);
}

static void *get(parser *p, size_t n, size_t size)
{
    void *v = mm_arena_zalloc(p->arena, n, size);
    if (!v && !p->failed) p->failed = mm_fail(p->err, MM_ENOMEM, "out of memory");
    return v;
}

static int is_op(const parser *p, const char *op) { return p->t->kind == T_OP && jinja_is(p->t->s, op); }
static int is_word(const parser *p, const char *word) { return p->t->kind == T_NAME && jinja_is(p->t->s, word); }
static int take_op(parser *p, const char *op) { return is_op(p, op) ? p->t++, 1 : 0; }
static int take_word(parser *p, const char *word) { return is_word(p, word) ? p->t++, 1 : 0; }
static int need_op(parser *p, const char *op)
{
    if (take_op(p, op)) return 1;
    unexpected(p);
    return 0;
}

static jexpr *node(parser *p, xkind kind, jexpr *a, jexpr *b)
{
    jexpr *x = get(p, 1, sizeof *x);
    if (!x) return NULL;
    x->kind = kind;
    x->line = p->t->line;
    x->a = a;
    x->b = b;
    return p->failed ? NULL : x;
}

static jexpr *constant(parser *p, jval v)
{
    jexpr *x = node(p, X_CONST, NULL, NULL);
    if (x) x->value = v;
    return x;
}

static jarg *add_arg(parser *p, jexpr *x, jarg **last)
{
    jarg *a = get(p, 1, sizeof *a);
    if (!a) return NULL;
    if (*last) (*last)->next = a;
    else x->args = a;
    *last = a;
    x->n_args++;
    return a;
}

/* "(a, b, key=c)", behind the bracket; macro: names with defaults */
static void arguments(parser *p, jexpr *x)
{
    jarg *last = NULL;
    while (!p->failed && !take_op(p, ")")) {
        if (last && !need_op(p, ",")) return;
        if (last && take_op(p, ")")) return;
        if (is_op(p, "*") || is_op(p, "**")) {
            refuse(p, MM_EUNSUP, "arguments by '%.*s' are not supported", p->t->s.p, p->t->s.len);
            return;
        }
        const int named = p->t->kind == T_NAME && p->t[1].kind == T_OP && jinja_is(p->t[1].s, "=");
        if (!named && last && last->name.len) {
            unexpected(p);
            return;
        }
        jarg *a = add_arg(p, x, &last);
        if (a && named) a->name = p->t->s, p->t += 2;
        if (a) a->x = expression(p);
    }
}

static jexpr *list(parser *p, const char *close, int tuple)
{
    jexpr *x = node(p, X_LIST, NULL, NULL);
    jarg *last = NULL;
    if (x) x->tuple = tuple;
    while (!p->failed && !take_op(p, close)) {
        if (last && !need_op(p, ",")) return NULL;
        if (last && take_op(p, close)) break;
        jarg *a = add_arg(p, x, &last);
        if (a) a->x = expression(p);
    }
    return x;
}

static jexpr *dict(parser *p)
{
    jexpr *x = node(p, X_DICT, NULL, NULL);
    jarg *last = NULL;
    while (!p->failed && !take_op(p, "}")) {
        if (last && !need_op(p, ",")) return NULL;
        if (last && take_op(p, "}")) break;
        jarg *a = add_arg(p, x, &last);
        if (!a) return NULL;
        a->x = expression(p);
        if (p->failed || !need_op(p, ":")) return NULL;
        a->value = expression(p);
    }
    return x;
}

/* "(a)" or "(a, b)" or "()", behind the bracket */
static jexpr *brackets(parser *p)
{
    if (is_op(p, ")")) return list(p, ")", 1);
    jexpr *x = expression(p);
    if (p->failed || take_op(p, ")")) return x;
    jexpr *all = node(p, X_LIST, NULL, NULL);
    jarg *last = NULL, *a = all ? add_arg(p, all, &last) : NULL;
    if (!a) return NULL;
    all->tuple = 1;
    a->x = x;
    while (!p->failed && !take_op(p, ")")) {
        if (!need_op(p, ",")) return NULL;
        if (take_op(p, ")")) break;
        if ((a = add_arg(p, all, &last))) a->x = expression(p);
    }
    return all;
}

/* Strings side by side are one. */
static mm_slice neighbours(parser *p)
{
    mm_slice all = (p->t++)->s;
    for (; p->t->kind == T_STR && !p->failed; p->t++) {
        char *s = get(p, all.len + p->t->s.len + 1, 1);
        if (!s) break;
        memcpy(s, all.p, all.len);
        memcpy(s + all.len, p->t->s.p, p->t->s.len);
        all = (mm_slice){ s, all.len + p->t->s.len };
    }
    return all;
}

static jexpr *primary(parser *p)
{
    static const char *const reserved[] = { "if", "else", "in", "is", "and", "or", "not" };
    const jtoken *t = p->t;
    jexpr *x;
    switch (t->kind) {
    case T_INT: return p->t++, constant(p, jinja_int(t->i));
    case T_FLOAT: return p->t++, constant(p, (jval){ .kind = J_FLOAT, .u.f = t->f });
    case T_STR: return constant(p, jinja_slice(neighbours(p)));
    case T_NAME:
        if (jinja_is(t->s, "true") || jinja_is(t->s, "True")) return p->t++, constant(p, jinja_bool(1));
        if (jinja_is(t->s, "false") || jinja_is(t->s, "False")) return p->t++, constant(p, jinja_bool(0));
        if (jinja_is(t->s, "none") || jinja_is(t->s, "None")) return p->t++, constant(p, jinja_none());
        for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
            if (jinja_is(t->s, reserved[i])) return unexpected(p);
        p->t++;
        if ((x = node(p, X_NAME, NULL, NULL))) x->name = t->s;
        return x;
    default: break;
    }
    if (take_op(p, "(")) return brackets(p);
    if (take_op(p, "[")) return list(p, "]", 0);
    if (take_op(p, "{")) return dict(p);
    return unexpected(p);
}

/* "[i]" or "[from:to:step]", behind the bracket */
static jexpr *subscript(parser *p, jexpr *of)
{
    jexpr *part[3] = { NULL }, *x;
    int i = 0;
    while (!p->failed && !is_op(p, "]")) {
        if (take_op(p, ":")) {
            if (++i > 2) return unexpected(p);
        } else if (part[i]) return unexpected(p);
        else part[i] = expression(p);
    }
    if (p->failed || !need_op(p, "]")) return NULL;
    if (!i && !part[0]) return unexpected(p);
    if (!(x = node(p, i ? X_SLICE : X_ITEM, of, part[0]))) return NULL;
    x->c = part[1];
    x->d = part[2];
    return x;
}

static jexpr *postfix(parser *p, jexpr *x)
{
    while (x && !p->failed) {
        if (take_op(p, ".")) {
            const jtoken *t = p->t++;
            if (t->kind == T_INT) {
                x = node(p, X_ITEM, x, constant(p, jinja_int(t->i)));
                continue;
            }
            if (t->kind != T_NAME) return p->t--, unexpected(p);
            if ((x = node(p, X_ATTR, x, NULL))) x->name = t->s;
        } else if (take_op(p, "[")) {
            x = subscript(p, x);
        } else if (take_op(p, "(")) {
            if ((x = node(p, X_CALL, x, NULL))) arguments(p, x);
        } else break;
    }
    return p->failed ? NULL : x;
}

static jexpr *filter(parser *p, jexpr *x)
{
    const jtoken *t = p->t;
    if (t->kind != T_NAME) return unexpected(p);
    if (!jinja_filter_known(t->s)) return refuse(p, MM_EUNSUP, "filter '%.*s' is not supported", t->s.p, t->s.len);
    p->t++;
    if (!(x = node(p, X_FILTER, x, NULL))) return NULL;
    x->name = t->s;
    if (take_op(p, "(")) arguments(p, x);
    return p->failed ? NULL : x;
}

static jexpr *test(parser *p, jexpr *x)
{
    const int neg = take_word(p, "not");
    const jtoken *t = p->t;
    if (t->kind != T_NAME && !is_op(p, "==")) return unexpected(p);
    if (!jinja_test_known(t->s)) return refuse(p, MM_EUNSUP, "test '%.*s' is not supported", t->s.p, t->s.len);
    p->t++;
    if (!(x = node(p, X_TEST, x, NULL))) return NULL;
    x->name = t->s;
    x->neg = neg;
    if (take_op(p, "(")) {
        arguments(p, x);
    } else if (p->t->kind == T_INT || p->t->kind == T_FLOAT || p->t->kind == T_STR || is_op(p, "[") || is_op(p, "{") ||
               (p->t->kind == T_NAME && !is_word(p, "else") && !is_word(p, "or") && !is_word(p, "and") && !is_word(p, "is") && !is_word(p, "if") &&
                !is_word(p, "not") && !is_word(p, "in"))) {
        jarg *last = NULL, *a = add_arg(p, x, &last);
        if (a) a->x = postfix(p, primary(p));
    }
    return p->failed ? NULL : x;
}

static jexpr *filters(parser *p, jexpr *x)
{
    while (x && !p->failed) {
        if (take_op(p, "|")) x = filter(p, x);
        else if (take_word(p, "is")) x = test(p, x);
        else if (take_op(p, "(")) {
            if ((x = node(p, X_CALL, x, NULL))) arguments(p, x);
        } else break;
    }
    return p->failed ? NULL : x;
}

static jexpr *unary(parser *p, int with_filters)
{
    jexpr *x;
    if (p->failed) return NULL;
    if (p->depth++ > DEEPEST) return refuse(p, MM_EUNSUP, "an expression is nested too deep%.*s", "", 0);
    if (take_op(p, "-")) x = node(p, X_NEG, unary(p, 0), NULL);
    else if (take_op(p, "+")) x = node(p, X_POS, unary(p, 0), NULL);
    else x = primary(p);
    x = postfix(p, x);
    if (with_filters) x = filters(p, x);
    p->depth--;
    return x;
}

static jexpr *power(parser *p)
{
    jexpr *x = unary(p, 1);
    while (!p->failed && take_op(p, "**")) x = node(p, X_POW, x, unary(p, 1));
    return x;
}

static jexpr *product(parser *p)
{
    jexpr *x = power(p);
    while (!p->failed) {
        const xkind k = is_op(p, "*") ? X_MUL : is_op(p, "/") ? X_DIV : is_op(p, "//") ? X_FLOOR : is_op(p, "%") ? X_MOD : X_CONST;
        if (k == X_CONST) break;
        p->t++;
        x = node(p, k, x, power(p));
    }
    return x;
}

static jexpr *concat(parser *p)
{
    jexpr *x = product(p);
    while (!p->failed && take_op(p, "~")) x = node(p, X_CONCAT, x, product(p));
    return x;
}

static jexpr *sum(parser *p)
{
    jexpr *x = concat(p);
    while (!p->failed && (is_op(p, "+") || is_op(p, "-"))) {
        const xkind k = is_op(p, "+") ? X_ADD : X_SUB;
        p->t++;
        x = node(p, k, x, concat(p));
    }
    return x;
}

static xkind comparison(parser *p)
{
    static const struct { const char *s; xkind k; } ops[] = { { "==", X_EQ }, { "!=", X_NE }, { "<", X_LT }, { "<=", X_LE }, { ">", X_GT }, { ">=", X_GE } };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (take_op(p, ops[i].s)) return ops[i].k;
    if (take_word(p, "in")) return X_IN;
    if (is_word(p, "not") && p->t[1].kind == T_NAME && jinja_is(p->t[1].s, "in")) return p->t += 2, X_NOTIN;
    return X_CONST;
}

static jexpr *compare(parser *p)
{
    jexpr *x = sum(p), *all = NULL;
    jarg *last = NULL;
    for (xkind k; !p->failed && (k = comparison(p)) != X_CONST;) {
        if (!all) all = node(p, X_COMPARE, x, NULL);
        jarg *a = all ? add_arg(p, all, &last) : NULL;
        if (!a) return NULL;
        a->op = k;
        a->x = sum(p);
    }
    return p->failed ? NULL : all ? all : x;
}

static jexpr *negation(parser *p)
{
    if (!take_word(p, "not")) return compare(p);
    if (p->depth++ > DEEPEST) return refuse(p, MM_EUNSUP, "an expression is nested too deep%.*s", "", 0);
    jexpr *x = node(p, X_NOT, negation(p), NULL);
    p->depth--;
    return x;
}

static jexpr *conjunction(parser *p)
{
    jexpr *x = negation(p);
    while (!p->failed && take_word(p, "and")) x = node(p, X_AND, x, negation(p));
    return x;
}

static jexpr *disjunction(parser *p)
{
    jexpr *x = conjunction(p);
    while (!p->failed && take_word(p, "or")) x = node(p, X_OR, x, conjunction(p));
    return x;
}

static jexpr *expression(parser *p)
{
    if (p->depth++ > DEEPEST) return refuse(p, MM_EUNSUP, "an expression is nested too deep%.*s", "", 0);
    jexpr *x = disjunction(p);
    while (!p->failed && take_word(p, "if")) {
        jexpr *cond = disjunction(p);
        if ((x = node(p, X_IF, x, cond)) && take_word(p, "else")) x->c = expression(p);
    }
    p->depth--;
    return p->failed ? NULL : x;
}

/* ---- statements ---- */

static int block_end(parser *p)
{
    if (p->t->kind != T_BLOCK_END) return unexpected(p), 0;
    p->t++;
    return !p->failed;
}

static jnode *statement(parser *p, nkind kind)
{
    jnode *n = get(p, 1, sizeof *n);
    if (!n) return NULL;
    n->kind = kind;
    n->line = p->t->line;
    return n;
}

/* Behind a body: which of its ends it was. The caller knows the words. */
static int ended_by(parser *p, const char *word)
{
    if (p->failed || p->t->kind != T_BLOCK || p->t[1].kind != T_NAME || !jinja_is(p->t[1].s, word)) return 0;
    p->t += 2;
    return 1;
}

static jnode *if_statement(parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    jnode *n = statement(p, N_IF);
    if (!n) return NULL;
    n->x = expression(p);
    if (p->failed || !block_end(p)) return NULL;
    n->body = body(p, ends);
    if (ended_by(p, "elif")) {
        if (p->depth++ > 10 * DEEPEST) return refuse(p, MM_EUNSUP, "statements are nested too deep%.*s", "", 0);
        n->other = if_statement(p);
        p->depth--;
    } else if (ended_by(p, "else")) {
        if (block_end(p)) n->other = body(p, ends + 2);
        if (ended_by(p, "endif")) block_end(p);
        else unexpected(p);
    } else if (ended_by(p, "endif")) block_end(p);
    else unexpected(p);
    return n;
}

static int targets(parser *p, jnode *n)
{
    const int bracket = take_op(p, "(");
    do {
        if (p->t->kind != T_NAME || n->n_names == sizeof n->names / sizeof *n->names) return unexpected(p), 0;
        n->names[n->n_names++] = (p->t++)->s;
    } while (take_op(p, ","));
    return !bracket || need_op(p, ")");
}

static jnode *for_statement(parser *p)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    jnode *n = statement(p, N_FOR);
    if (!n || !targets(p, n)) return NULL;
    if (!take_word(p, "in")) return unexpected(p);
    n->x = disjunction(p); /* "if" belongs to the loop */
    if (take_word(p, "if")) n->cond = expression(p);
    if (is_word(p, "recursive")) return refuse(p, MM_EUNSUP, "'for ... %.*s' is not supported", p->t->s.p, p->t->s.len);
    if (p->failed || !block_end(p)) return NULL;
    p->loops++;
    n->body = body(p, ends);
    p->loops--;
    if (ended_by(p, "else")) {
        if (block_end(p)) n->other = body(p, ends + 1);
    }
    if (ended_by(p, "endfor")) block_end(p);
    else unexpected(p);
    return n;
}

static jnode *set_statement(parser *p)
{
    static const char *const ends[] = { "endset", NULL };
    jnode *n = statement(p, N_SET);
    if (!n || !targets(p, n)) return NULL;
    if (n->n_names == 1 && take_op(p, ".")) {
        if (p->t->kind != T_NAME) return unexpected(p);
        n->attr = (p->t++)->s;
    }
    if (p->t->kind == T_BLOCK_END && n->n_names == 1 && !n->attr.len) {
        n->kind = N_CAPTURE;
        p->t++;
        n->body = body(p, ends);
        if (ended_by(p, "endset")) block_end(p);
        else unexpected(p);
        return n;
    }
    if (is_op(p, "|")) return refuse(p, MM_EUNSUP, "'set' with a filter '%.*s' is not supported", p->t->s.p, p->t->s.len);
    if (!need_op(p, "=")) return NULL;
    n->x = expression(p);
    if (!p->failed && is_op(p, ",")) { /* set a, b = x, y */
        jexpr *all = node(p, X_LIST, NULL, NULL);
        jarg *last = NULL, *a = all ? add_arg(p, all, &last) : NULL;
        if (!a) return NULL;
        all->tuple = 1;
        a->x = n->x;
        while (!p->failed && take_op(p, ","))
            if ((a = add_arg(p, all, &last))) a->x = expression(p);
        n->x = all;
    }
    return block_end(p) ? n : NULL;
}

static jnode *macro_statement(parser *p)
{
    static const char *const ends[] = { "endmacro", NULL };
    jnode *n = statement(p, N_MACRO);
    jexpr params = { 0 };
    if (!n) return NULL;
    if (p->t->kind != T_NAME) return unexpected(p);
    n->text = (p->t++)->s;
    if (!need_op(p, "(")) return NULL;
    arguments(p, &params);
    for (jarg *a = params.args; a && !p->failed; a = a->next) {
        if (a->name.len) continue;
        if (a->x->kind != X_NAME) return unexpected(p);
        a->name = a->x->name;
        a->x = NULL; /* no default */
    }
    n->params = params.args;
    n->n_params = params.n_args;
    if (p->failed || !block_end(p)) return NULL;
    const int loops = p->loops;
    p->loops = 0;
    n->body = body(p, ends);
    p->loops = loops;
    if (!ended_by(p, "endmacro")) return unexpected(p);
    if (p->t->kind == T_NAME) p->t++;
    return block_end(p) ? n : NULL;
}

/* {% generation %} marks what is trained on: nothing to us */
static jnode *generation(parser *p)
{
    static const char *const ends[] = { "endgeneration", NULL };
    jnode *n = statement(p, N_BODY);
    if (!n || !block_end(p)) return NULL;
    n->body = body(p, ends);
    if (ended_by(p, "endgeneration")) block_end(p);
    else unexpected(p);
    return n;
}

static jnode *block(parser *p)
{
    const jtoken *t = p->t;
    if (t->kind != T_NAME) return unexpected(p);
    p->t++;
    if (jinja_is(t->s, "if")) return if_statement(p);
    if (jinja_is(t->s, "for")) return for_statement(p);
    if (jinja_is(t->s, "set")) return set_statement(p);
    if (jinja_is(t->s, "macro")) return macro_statement(p);
    if (jinja_is(t->s, "generation")) return generation(p);
    if (jinja_is(t->s, "break") || jinja_is(t->s, "continue")) {
        jnode *n = statement(p, jinja_is(t->s, "break") ? N_BREAK : N_CONTINUE);
        if (!p->loops) return p->t--, unexpected(p);
        return n && block_end(p) ? n : NULL;
    }
    p->t--;
    static const char *const ends[] = { "elif", "else", "endif", "endfor", "endset", "endmacro", "endgeneration", "endraw" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (jinja_is(t->s, ends[i])) return unexpected(p);
    return refuse(p, MM_EUNSUP, "statement '%.*s' is not supported", t->s.p, t->s.len);
}

/* Statements up to a block that begins with one of the words, which is left in place; NULL: to the end. */
static jnode *body(parser *p, const char *const *until)
{
    jnode *first = NULL, **at = &first;
    if (p->depth++ > DEEPEST) return refuse(p, MM_EUNSUP, "statements are nested too deep%.*s", "", 0);
    while (!p->failed && p->t->kind != T_END) {
        jnode *n = NULL;
        if (p->t->kind == T_TEXT) {
            if ((n = statement(p, N_TEXT))) n->text = (p->t++)->s;
        } else if (p->t->kind == T_VAR) {
            p->t++;
            if ((n = statement(p, N_OUT))) n->x = expression(p);
            if (!p->failed && p->t->kind != T_VAR_END) unexpected(p);
            else p->t++;
        } else {
            for (size_t i = 0; until && until[i]; i++)
                if (p->t[1].kind == T_NAME && jinja_is(p->t[1].s, until[i])) {
                    p->depth--;
                    return first;
                }
            p->t++;
            n = block(p);
        }
        *at = n;
        if (n) at = &n->next;
    }
    p->depth--;
    if (until) unexpected(p);
    return first;
}

int jinja_parse(mm_chat *chat, const jtoken *tokens, mm_err *err)
{
    parser p = { .arena = &chat->arena, .t = tokens, .err = err };
    chat->body = body(&p, NULL);
    return p.failed;
}

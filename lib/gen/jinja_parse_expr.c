/* Expressions, by the levels of Jinja's precedence. */
#include <string.h>
#include "gen/jinja_parse.h"

static jexpr *unary(parser *p, int filters);

void *jparse_refuse(parser *p, int code, const char *fmt, const char *what, size_t len)
{
    char message[160];
    if (p->failed) return NULL;
    snprintf(message, sizeof message, fmt, (int)(len > 60 ? 60 : len), what);
    p->failed = mm_fail(p->err, code, "chat template: line %d: %s", p->t->line, message);
    return NULL;
}

void *jparse_unexpected(parser *p)
{
    if (p->t->kind == T_END) return jparse_refuse(p, MM_EDATA, "the template ends too early%.*s", "", 0);
    return jparse_refuse(p, MM_EDATA, "'%.*s' is not expected here", p->t->s.p, p->t->s.len);
}

void *jparse_get(parser *p, size_t n, size_t size)
{
    void *v = mm_arena_zalloc(p->arena, n, size);
    if (!v && !p->failed) p->failed = mm_fail(p->err, MM_ENOMEM, "out of memory");
    return v;
}

int jparse_need_op(parser *p, const char *op)
{
    if (jparse_take_op(p, op)) return 1;
    jparse_unexpected(p);
    return 0;
}

jexpr *jparse_node(parser *p, xkind kind, jexpr *a, jexpr *b)
{
    jexpr *x = jparse_get(p, 1, sizeof *x);
    if (!x) return NULL;
    x->kind = kind;
    x->line = p->t->line;
    x->a = a;
    x->b = b;
    return p->failed ? NULL : x;
}

static jexpr *constant(parser *p, jval v)
{
    jexpr *x = jparse_node(p, X_CONST, NULL, NULL);
    if (x) x->value = v;
    return x;
}

jarg *jparse_add_arg(parser *p, jexpr *x, jarg **last)
{
    jarg *a = jparse_get(p, 1, sizeof *a);
    if (!a) return NULL;
    if (*last) (*last)->next = a;
    else x->args = a;
    *last = a;
    x->n_args++;
    return a;
}

/* "(a, b, key=c)", behind the bracket; macro: names with defaults */
void jparse_arguments(parser *p, jexpr *x)
{
    jarg *last = NULL;
    while (!p->failed && !jparse_take_op(p, ")")) {
        if (last && !jparse_need_op(p, ",")) return;
        if (last && jparse_take_op(p, ")")) return;
        if (jparse_is_op(p, "*") || jparse_is_op(p, "**")) {
            jparse_refuse(p, MM_EUNSUP, "arguments by '%.*s' are not supported", p->t->s.p, p->t->s.len);
            return;
        }
        const int named = p->t->kind == T_NAME && p->t[1].kind == T_OP && jinja_is(p->t[1].s, "=");
        if (!named && last && last->name.len) {
            jparse_unexpected(p);
            return;
        }
        jarg *a = jparse_add_arg(p, x, &last);
        if (a && named) a->name = p->t->s, p->t += 2;
        if (a) a->x = jparse_expression(p);
    }
}

static jexpr *list(parser *p, const char *close, int tuple)
{
    jexpr *x = jparse_node(p, X_LIST, NULL, NULL);
    jarg *last = NULL;
    if (x) x->tuple = tuple;
    while (!p->failed && !jparse_take_op(p, close)) {
        if (last && !jparse_need_op(p, ",")) return NULL;
        if (last && jparse_take_op(p, close)) break;
        jarg *a = jparse_add_arg(p, x, &last);
        if (a) a->x = jparse_expression(p);
    }
    return x;
}

static jexpr *dict(parser *p)
{
    jexpr *x = jparse_node(p, X_DICT, NULL, NULL);
    jarg *last = NULL;
    while (!p->failed && !jparse_take_op(p, "}")) {
        if (last && !jparse_need_op(p, ",")) return NULL;
        if (last && jparse_take_op(p, "}")) break;
        jarg *a = jparse_add_arg(p, x, &last);
        if (!a) return NULL;
        a->x = jparse_expression(p);
        if (p->failed || !jparse_need_op(p, ":")) return NULL;
        a->value = jparse_expression(p);
    }
    return x;
}

/* "(a)" or "(a, b)" or "()", behind the bracket */
static jexpr *brackets(parser *p)
{
    if (jparse_is_op(p, ")")) return list(p, ")", 1);
    jexpr *x = jparse_expression(p);
    if (p->failed || jparse_take_op(p, ")")) return x;
    jexpr *all = jparse_node(p, X_LIST, NULL, NULL);
    jarg *last = NULL, *a = all ? jparse_add_arg(p, all, &last) : NULL;
    if (!a) return NULL;
    all->tuple = 1;
    a->x = x;
    while (!p->failed && !jparse_take_op(p, ")")) {
        if (!jparse_need_op(p, ",")) return NULL;
        if (jparse_take_op(p, ")")) break;
        if ((a = jparse_add_arg(p, all, &last))) a->x = jparse_expression(p);
    }
    return all;
}

/* Strings side by side are one. */
static mm_slice neighbours(parser *p)
{
    mm_slice all = (p->t++)->s;
    for (; p->t->kind == T_STR && !p->failed; p->t++) {
        char *s = jparse_get(p, all.len + p->t->s.len + 1, 1);
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
            if (jinja_is(t->s, reserved[i])) return jparse_unexpected(p);
        p->t++;
        if ((x = jparse_node(p, X_NAME, NULL, NULL))) x->name = t->s;
        return x;
    default: break;
    }
    if (jparse_take_op(p, "(")) return brackets(p);
    if (jparse_take_op(p, "[")) return list(p, "]", 0);
    if (jparse_take_op(p, "{")) return dict(p);
    return jparse_unexpected(p);
}

/* "[i]" or "[from:to:step]", behind the bracket */
static jexpr *subscript(parser *p, jexpr *of)
{
    jexpr *part[3] = { NULL }, *x;
    int i = 0;
    while (!p->failed && !jparse_is_op(p, "]")) {
        if (jparse_take_op(p, ":")) {
            if (++i > 2) return jparse_unexpected(p);
        } else if (part[i]) return jparse_unexpected(p);
        else part[i] = jparse_expression(p);
    }
    if (p->failed || !jparse_need_op(p, "]")) return NULL;
    if (!i && !part[0]) return jparse_unexpected(p);
    if (!(x = jparse_node(p, i ? X_SLICE : X_ITEM, of, part[0]))) return NULL;
    x->c = part[1];
    x->d = part[2];
    return x;
}

static jexpr *postfix(parser *p, jexpr *x)
{
    while (x && !p->failed) {
        if (jparse_take_op(p, ".")) {
            const jtoken *t = p->t++;
            if (t->kind == T_INT) {
                x = jparse_node(p, X_ITEM, x, constant(p, jinja_int(t->i)));
                continue;
            }
            if (t->kind != T_NAME) return p->t--, jparse_unexpected(p);
            if ((x = jparse_node(p, X_ATTR, x, NULL))) x->name = t->s;
        } else if (jparse_take_op(p, "[")) {
            x = subscript(p, x);
        } else if (jparse_take_op(p, "(")) {
            if ((x = jparse_node(p, X_CALL, x, NULL))) jparse_arguments(p, x);
        } else break;
    }
    return p->failed ? NULL : x;
}

static jexpr *filter(parser *p, jexpr *x)
{
    const jtoken *t = p->t;
    if (t->kind != T_NAME) return jparse_unexpected(p);
    if (!jinja_filter_known(t->s)) return jparse_refuse(p, MM_EUNSUP, "filter '%.*s' is not supported", t->s.p, t->s.len);
    p->t++;
    if (!(x = jparse_node(p, X_FILTER, x, NULL))) return NULL;
    x->name = t->s;
    if (jparse_take_op(p, "(")) jparse_arguments(p, x);
    return p->failed ? NULL : x;
}

static jexpr *test(parser *p, jexpr *x)
{
    const int neg = jparse_take_word(p, "not");
    const jtoken *t = p->t;
    if (t->kind != T_NAME && !jparse_is_op(p, "==")) return jparse_unexpected(p);
    if (!jinja_test_known(t->s)) return jparse_refuse(p, MM_EUNSUP, "test '%.*s' is not supported", t->s.p, t->s.len);
    p->t++;
    if (!(x = jparse_node(p, X_TEST, x, NULL))) return NULL;
    x->name = t->s;
    x->neg = neg;
    if (jparse_take_op(p, "(")) {
        jparse_arguments(p, x);
    } else if (p->t->kind == T_INT || p->t->kind == T_FLOAT || p->t->kind == T_STR || jparse_is_op(p, "[") || jparse_is_op(p, "{") ||
               (p->t->kind == T_NAME && !jparse_is_word(p, "else") && !jparse_is_word(p, "or") && !jparse_is_word(p, "and") && !jparse_is_word(p, "is") &&
                !jparse_is_word(p, "if") &&
                !jparse_is_word(p, "not") && !jparse_is_word(p, "in"))) {
        jarg *last = NULL, *a = jparse_add_arg(p, x, &last);
        if (a) a->x = postfix(p, primary(p));
    }
    return p->failed ? NULL : x;
}

static jexpr *filters(parser *p, jexpr *x)
{
    while (x && !p->failed) {
        if (jparse_take_op(p, "|")) x = filter(p, x);
        else if (jparse_take_word(p, "is")) x = test(p, x);
        else if (jparse_take_op(p, "(")) {
            if ((x = jparse_node(p, X_CALL, x, NULL))) jparse_arguments(p, x);
        } else break;
    }
    return p->failed ? NULL : x;
}

static jexpr *unary(parser *p, int with_filters)
{
    jexpr *x;
    if (p->failed) return NULL;
    if (p->depth++ > DEEPEST) return jparse_refuse(p, MM_EUNSUP, "an expression is nested too deep%.*s", "", 0);
    if (jparse_take_op(p, "-")) x = jparse_node(p, X_NEG, unary(p, 0), NULL);
    else if (jparse_take_op(p, "+")) x = jparse_node(p, X_POS, unary(p, 0), NULL);
    else x = primary(p);
    x = postfix(p, x);
    if (with_filters) x = filters(p, x);
    p->depth--;
    return x;
}

static jexpr *power(parser *p)
{
    jexpr *x = unary(p, 1);
    while (!p->failed && jparse_take_op(p, "**")) x = jparse_node(p, X_POW, x, unary(p, 1));
    return x;
}

static jexpr *product(parser *p)
{
    jexpr *x = power(p);
    while (!p->failed) {
        const xkind k = jparse_is_op(p, "*") ? X_MUL : jparse_is_op(p, "/") ? X_DIV : jparse_is_op(p, "//") ? X_FLOOR : jparse_is_op(p, "%") ? X_MOD : X_CONST;
        if (k == X_CONST) break;
        p->t++;
        x = jparse_node(p, k, x, power(p));
    }
    return x;
}

static jexpr *concat(parser *p)
{
    jexpr *x = product(p);
    while (!p->failed && jparse_take_op(p, "~")) x = jparse_node(p, X_CONCAT, x, product(p));
    return x;
}

static jexpr *sum(parser *p)
{
    jexpr *x = concat(p);
    while (!p->failed && (jparse_is_op(p, "+") || jparse_is_op(p, "-"))) {
        const xkind k = jparse_is_op(p, "+") ? X_ADD : X_SUB;
        p->t++;
        x = jparse_node(p, k, x, concat(p));
    }
    return x;
}

static xkind comparison(parser *p)
{
    static const struct { const char *s; xkind k; } ops[] = { { "==", X_EQ }, { "!=", X_NE }, { "<", X_LT }, { "<=", X_LE }, { ">", X_GT }, { ">=", X_GE } };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (jparse_take_op(p, ops[i].s)) return ops[i].k;
    if (jparse_take_word(p, "in")) return X_IN;
    if (jparse_is_word(p, "not") && p->t[1].kind == T_NAME && jinja_is(p->t[1].s, "in")) return p->t += 2, X_NOTIN;
    return X_CONST;
}

static jexpr *compare(parser *p)
{
    jexpr *x = sum(p), *all = NULL;
    jarg *last = NULL;
    for (xkind k; !p->failed && (k = comparison(p)) != X_CONST;) {
        if (!all) all = jparse_node(p, X_COMPARE, x, NULL);
        jarg *a = all ? jparse_add_arg(p, all, &last) : NULL;
        if (!a) return NULL;
        a->op = k;
        a->x = sum(p);
    }
    return p->failed ? NULL : all ? all : x;
}

static jexpr *negation(parser *p)
{
    if (!jparse_take_word(p, "not")) return compare(p);
    if (p->depth++ > DEEPEST) return jparse_refuse(p, MM_EUNSUP, "an expression is nested too deep%.*s", "", 0);
    jexpr *x = jparse_node(p, X_NOT, negation(p), NULL);
    p->depth--;
    return x;
}

static jexpr *conjunction(parser *p)
{
    jexpr *x = negation(p);
    while (!p->failed && jparse_take_word(p, "and")) x = jparse_node(p, X_AND, x, negation(p));
    return x;
}

jexpr *jparse_disjunction(parser *p)
{
    jexpr *x = conjunction(p);
    while (!p->failed && jparse_take_word(p, "or")) x = jparse_node(p, X_OR, x, conjunction(p));
    return x;
}

jexpr *jparse_expression(parser *p)
{
    if (p->depth++ > DEEPEST) return jparse_refuse(p, MM_EUNSUP, "an expression is nested too deep%.*s", "", 0);
    jexpr *x = jparse_disjunction(p);
    while (!p->failed && jparse_take_word(p, "if")) {
        jexpr *cond = jparse_disjunction(p);
        if ((x = jparse_node(p, X_IF, x, cond)) && jparse_take_word(p, "else")) x->c = jparse_expression(p);
    }
    p->depth--;
    return p->failed ? NULL : x;
}

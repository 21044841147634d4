/* Conditions: a recursive-descent parser into a small tree, evaluated on the raw JSON of a payload. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/mm_str.h"
#include "index/mm_index.h"

#define MAX_DEPTH 64
#define MAX_NODES 10000 /* a chain of these is as deep as it is long */

enum { W_AND, W_OR, W_NOT, W_CMP, W_IN, W_LIKE, W_EXISTS };
enum { EQ, NE, LT, LE, GT, GE };
enum { V_STR, V_NUM, V_TRUE, V_FALSE, V_NULL };

typedef struct value {
    int kind;
    double num;
    char *str;
    size_t len;
} value;

struct mm_where {
    int op, cmp;
    mm_where *a, *b;
    char *key;
    value *v;
    size_t n;
};

typedef struct {
    const char *s, *p;
    mm_err *err;
    int depth, nodes;
} parser;

void mm_where_free(mm_where **wp)
{
    mm_where *w = *wp;
    if (!w) return;
    mm_where_free(&w->a);
    mm_where_free(&w->b);
    for (size_t i = 0; i < w->n; i++) free(w->v[i].str);
    free(w->v);
    free(w->key);
    free(w);
    *wp = NULL;
}

static void space(parser *x)
{
    while (*x->p == ' ' || *x->p == '\t' || *x->p == '\n') x->p++;
}

static int fail(parser *x, const char *what)
{
    return mm_fail(x->err, MM_EARG, "condition, column %zu: %s", (size_t)(x->p - x->s) + 1, what);
}

static int name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.' || (c & 0x80);
}

/* the keyword at the cursor, whole, in any case: AND is what SQL's users type */
static int word(parser *x, const char *w)
{
    size_t n = strlen(w);
    space(x);
    if (strncasecmp(x->p, w, n) || name_char(x->p[n])) return 0;
    x->p += n;
    return 1;
}

static int mark(parser *x, const char *m)
{
    space(x);
    if (strncmp(x->p, m, strlen(m))) return 0;
    x->p += strlen(m);
    return 1;
}

/* "text" with JSON's escapes */
static int quoted(parser *x, char **out, size_t *len)
{
    mm_slice raw;
    mm_buf b = { 0 };
    mm_err e = { 0 };
    long n = mm_json_value(x->p, strlen(x->p), &raw, &e);
    if (n <= 0 || mm_json_unescape(&b, raw, &e)) {
        mm_buf_clear(&b);
        return fail(x, "bad string");
    }
    x->p += n;
    *out = b.p;
    *len = b.len;
    return 0;
}

static int val(parser *x, value *v)
{
    space(x);
    *v = (value){ 0 };
    if (*x->p == '"') return v->kind = V_STR, quoted(x, &v->str, &v->len);
    if (word(x, "true")) return v->kind = V_TRUE, 0;
    if (word(x, "false")) return v->kind = V_FALSE, 0;
    if (word(x, "null")) return v->kind = V_NULL, 0;
    size_t n = mm_parse_double(x->p, strlen(x->p), &v->num);
    if (!n || name_char(x->p[n])) return fail(x, "a value is wanted: \"text\", a number, true, false or null");
    v->kind = V_NUM;
    x->p += n;
    return 0;
}

static int key(parser *x, char **out)
{
    size_t n = 0;
    space(x);
    if (*x->p == '"') return quoted(x, out, &n);
    while (name_char(x->p[n])) n++;
    if (!n) return fail(x, "the name of a key is wanted");
    if (!(*out = strndup(x->p, n))) return mm_fail(x->err, MM_ENOMEM, "out of memory");
    x->p += n;
    return 0;
}

static int add_value(parser *x, mm_where *w)
{
    value *v = mm_realloc(w->v, w->n + 1, sizeof *v);
    if (!v) return mm_fail(x->err, MM_ENOMEM, "out of memory");
    w->v = v;
    int r = val(x, &v[w->n]);
    if (!r) w->n++;
    return r;
}

static int comparison(parser *x, mm_where *w)
{
    static const struct {
        const char *s;
        int cmp;
    } ops[] = { { "!=", NE }, { "<=", LE }, { ">=", GE }, { "==", EQ }, { "=", EQ }, { "<", LT }, { ">", GT } };
    int r;
    if (word(x, "exists")) {
        w->op = W_EXISTS;
        if (!mark(x, "(")) return fail(x, "'(' is wanted");
        if ((r = key(x, &w->key))) return r;
        return mark(x, ")") ? 0 : fail(x, "')' is wanted");
    }
    if ((r = key(x, &w->key))) return r;
    if (word(x, "in")) {
        w->op = W_IN;
        if (!mark(x, "(")) return fail(x, "'(' is wanted");
        do {
            if ((r = add_value(x, w))) return r;
        } while (mark(x, ","));
        return mark(x, ")") ? 0 : fail(x, "',' or ')' is wanted");
    }
    if (word(x, "like")) {
        w->op = W_LIKE;
        if ((r = add_value(x, w))) return r;
        return w->v[0].kind == V_STR ? 0 : fail(x, "like wants a string");
    }
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (mark(x, ops[i].s)) {
            w->op = W_CMP;
            w->cmp = ops[i].cmp;
            return add_value(x, w);
        }
    return fail(x, "an operator is wanted: = != < <= > >= in like");
}

static int node(parser *x, mm_where **out)
{
    if (++x->nodes > MAX_NODES) return fail(x, "too long");
    return (*out = calloc(1, sizeof **out)) ? 0 : mm_fail(x->err, MM_ENOMEM, "out of memory");
}

static int expr(parser *x, mm_where **out, int level);

/* level 0: or, 1: and, 2: not and the rest */
static int expr(parser *x, mm_where **out, int level)
{
    int r;
    mm_where *w = NULL;
    *out = NULL;
    if (level < 2) {
        if ((r = expr(x, out, level + 1))) return r;
        while (word(x, level ? "and" : "or")) {
            if ((r = node(x, &w))) return r;
            w->op = level ? W_AND : W_OR;
            w->a = *out;
            *out = w;
            if ((r = expr(x, &w->b, level + 1))) return r;
        }
        return 0;
    }
    if (++x->depth > MAX_DEPTH) return fail(x, "nested too deeply");
    if (mark(x, "(")) {
        if ((r = expr(x, out, 0))) return r;
        r = mark(x, ")") ? 0 : fail(x, "')' is wanted");
    } else {
        if ((r = node(x, out))) return r;
        w = *out;
        if (word(x, "not")) w->op = W_NOT, r = expr(x, &w->a, 2);
        else r = comparison(x, w);
    }
    x->depth--;
    return r;
}

int mm_where_parse(mm_where **out, const char *text, mm_err *err)
{
    parser x = { .s = text, .p = text, .err = err };
    int r = expr(&x, out, 0);
    space(&x);
    if (!r && *x.p) r = fail(&x, "something follows the condition");
    if (r) mm_where_free(out);
    return r;
}

/* ---- evaluation ---- */

static int same_key(mm_slice raw, const char *k, size_t n, mm_buf *tmp)
{
    if (!memchr(raw.p, '\\', raw.len)) return raw.len == n && !memcmp(raw.p, k, n);
    mm_buf_reset(tmp);
    return !mm_json_unescape(tmp, (mm_slice){ raw.p - 1, raw.len + 2 }, NULL) && tmp->len == n &&
           !memcmp(tmp->p, k, n);
}

/* Value of a key; "a.b" looks for the key "a.b" first, then for b inside a. */
static int lookup(mm_slice doc, const char *k, mm_slice *out)
{
    mm_json_iter it;
    mm_slice name, v;
    mm_buf tmp = { 0 };
    size_t whole = strlen(k);
    int found = 0;
    for (size_t n = whole; n > 0 && !found; n--) {
        if (n < whole && k[n] != '.') continue;
        if (mm_json_begin(&it, doc.p, doc.len, NULL) || it.array) break;
        while (!found && mm_json_next(&it, &name, &v, NULL) > 0)
            if (same_key(name, k, n, &tmp))
                found = n == whole ? (*out = v, 1) : v.p[0] == '{' && lookup(v, k + n + 1, out);
    }
    mm_buf_clear(&tmp);
    return found;
}

/* -1, 0, 1, or 2 when the two are of different types */
static int compare(mm_slice raw, const value *v, mm_buf *tmp)
{
    double d;
    switch (raw.p[0]) {
    case '"':
        mm_buf_reset(tmp);
        if (v->kind != V_STR || mm_json_unescape(tmp, raw, NULL)) return 2;
        size_t n = tmp->len < v->len ? tmp->len : v->len;
        int c = n ? memcmp(tmp->p, v->str, n) : 0;
        return c ? (c < 0 ? -1 : 1) : tmp->len < v->len ? -1 : tmp->len > v->len;
    case 't': return v->kind == V_TRUE ? 0 : 2;
    case 'f': return v->kind == V_FALSE ? 0 : 2;
    case 'n': return v->kind == V_NULL ? 0 : 2;
    case '{':
    case '[': return 2;
    default:
        if (v->kind != V_NUM || !mm_parse_double(raw.p, raw.len, &d)) return 2;
        return d < v->num ? -1 : d > v->num;
    }
}

/* '%' stands for any bytes, everything else for itself */
static int like(const char *s, size_t n, const char *p, size_t m)
{
    size_t i = 0, j = 0, star = m, back = 0;
    while (i < n) {
        if (j < m && p[j] == '%') star = j++, back = i;
        else if (j < m && p[j] == s[i]) i++, j++;
        else if (star < m) j = star + 1, i = ++back;
        else return 0;
    }
    while (j < m && p[j] == '%') j++;
    return j == m;
}

static int leaf(const mm_where *w, mm_slice doc)
{
    mm_slice raw;
    mm_buf tmp = { 0 };
    int yes = 0, c;
    if (!lookup(doc, w->key, &raw)) return w->op == W_CMP && w->cmp == NE;
    if (w->op == W_EXISTS) return 1;
    if (w->op == W_LIKE) {
        yes = raw.p[0] == '"' && !mm_json_unescape(&tmp, raw, NULL) && like(tmp.p, tmp.len, w->v[0].str, w->v[0].len);
    } else if (w->op == W_IN) {
        for (size_t i = 0; i < w->n && !yes; i++) yes = compare(raw, &w->v[i], &tmp) == 0;
    } else {
        c = compare(raw, &w->v[0], &tmp);
        switch (w->cmp) {
        case EQ: yes = c == 0; break;
        case NE: yes = c != 0; break;
        case LT: yes = c == -1; break;
        case LE: yes = c == -1 || c == 0; break;
        case GT: yes = c == 1; break;
        case GE: yes = c == 1 || c == 0; break;
        }
    }
    mm_buf_clear(&tmp);
    return yes;
}

int mm_where_asks(const mm_where *w, const char *key)
{
    return (w->key && !strcmp(w->key, key)) || (w->a && mm_where_asks(w->a, key)) || (w->b && mm_where_asks(w->b, key));
}

int mm_where_match(const mm_where *w, const char *doc, size_t len)
{
    switch (w->op) {
    case W_AND: return mm_where_match(w->a, doc, len) && mm_where_match(w->b, doc, len);
    case W_OR: return mm_where_match(w->a, doc, len) || mm_where_match(w->b, doc, len);
    case W_NOT: return !mm_where_match(w->a, doc, len);
    default: return leaf(w, (mm_slice){ doc, len });
    }
}

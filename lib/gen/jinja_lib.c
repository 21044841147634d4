/* Tests, functions and methods, each in a table: a name that is in none of them is refused where it is read. */
#include <string.h>
#include <time.h>
#include "gen/jinja_int.h"

#define N(table) (sizeof(table) / sizeof *(table))

/* ---- tests ---- */

enum {
    IS_DEFINED, IS_UNDEFINED, IS_NONE, IS_STRING, IS_NUMBER, IS_INTEGER, IS_FLOAT, IS_BOOLEAN, IS_MAPPING, IS_SEQUENCE, IS_ITERABLE, IS_TRUE, IS_FALSE,
    IS_ODD, IS_EVEN, IS_DIVISIBLE, IS_EQ, IS_NE, IS_LT, IS_LE, IS_GT, IS_GE, IS_IN, IS_CALLABLE
};
static const struct { const char *name; int is; } test_table[] = {
    { "defined", IS_DEFINED }, { "undefined", IS_UNDEFINED }, { "none", IS_NONE }, { "string", IS_STRING }, { "number", IS_NUMBER },
    { "integer", IS_INTEGER }, { "float", IS_FLOAT }, { "boolean", IS_BOOLEAN }, { "mapping", IS_MAPPING }, { "sequence", IS_SEQUENCE },
    { "iterable", IS_ITERABLE }, { "true", IS_TRUE }, { "false", IS_FALSE }, { "odd", IS_ODD }, { "even", IS_EVEN }, { "divisibleby", IS_DIVISIBLE },
    { "equalto", IS_EQ }, { "eq", IS_EQ }, { "==", IS_EQ }, { "ne", IS_NE }, { "lt", IS_LT }, { "lessthan", IS_LT }, { "le", IS_LE }, { "gt", IS_GT },
    { "greaterthan", IS_GT }, { "ge", IS_GE }, { "in", IS_IN }, { "callable", IS_CALLABLE },
};

int jinja_test_known(mm_slice name)
{
    for (size_t i = 0; i < N(test_table); i++)
        if (jinja_is(name, test_table[i].name)) return 1;
    return 0;
}

static int is_in(jrun *r, jval v, jval in)
{
    if (in.kind == J_STR && v.kind == J_STR) return !v.u.s.len || (in.u.s.len && memmem(in.u.s.p, in.u.s.len, v.u.s.p, v.u.s.len));
    const jlist *l = jinja_item_list(r, in);
    for (size_t i = 0; i < l->n; i++)
        if (jinja_equal(l->v[i], v)) return 1;
    return 0;
}

int jinja_test(jrun *r, mm_slice name, jval v, const jargs *a)
{
    const jval *other = jinja_arg(a, 0, NULL);
    int is = -1;
    for (size_t i = 0; i < N(test_table) && is < 0; i++)
        if (jinja_is(name, test_table[i].name)) is = test_table[i].is;
    if (is >= IS_DIVISIBLE && is <= IS_IN && !other) return jinja_fail(r, MM_EDATA, "test '%.*s' wants a value", (int)name.len, name.p), 0;
    if ((is == IS_ODD || is == IS_EVEN || is == IS_DIVISIBLE) && !jinja_is_int(v))
        return jinja_fail(r, MM_EDATA, "test '%.*s' of a %s", (int)name.len, name.p, jinja_type(v)), 0;
    switch (is) {
    case IS_DEFINED: return v.kind != J_UNDEFINED;
    case IS_UNDEFINED: return v.kind == J_UNDEFINED;
    case IS_NONE: return v.kind == J_NONE;
    case IS_STRING: return v.kind == J_STR;
    case IS_NUMBER: return v.kind == J_INT || v.kind == J_FLOAT || v.kind == J_BOOL;
    case IS_INTEGER: return v.kind == J_INT;
    case IS_FLOAT: return v.kind == J_FLOAT;
    case IS_BOOLEAN: return v.kind == J_BOOL;
    case IS_MAPPING: return v.kind == J_DICT && !v.tuple;
    case IS_SEQUENCE: return v.kind == J_LIST || v.kind == J_STR || v.kind == J_UNDEFINED || (v.kind == J_DICT && !v.tuple);
    case IS_ITERABLE: return v.kind == J_LIST || v.kind == J_STR || v.kind == J_UNDEFINED || (v.kind == J_DICT && !v.tuple);
    case IS_TRUE: return v.kind == J_BOOL && v.u.i;
    case IS_FALSE: return v.kind == J_BOOL && !v.u.i;
    case IS_ODD: return v.u.i % 2 != 0;
    case IS_EVEN: return v.u.i % 2 == 0;
    case IS_DIVISIBLE:
        if (!jinja_is_int(*other) || !other->u.i) return jinja_fail(r, MM_EDATA, "divisibleby wants a number that is not 0"), 0;
        return other->u.i == -1 || v.u.i % other->u.i == 0;
    case IS_EQ: return jinja_equal(v, *other);
    case IS_NE: return !jinja_equal(v, *other);
    case IS_LT: return jinja_order(r, v, *other) < 0;
    case IS_LE: return jinja_order(r, v, *other) <= 0;
    case IS_GT: return jinja_order(r, v, *other) > 0;
    case IS_GE: return jinja_order(r, v, *other) >= 0;
    case IS_IN: return is_in(r, v, *other);
    default: return v.kind == J_MACRO || v.kind == J_FUNC || v.kind == J_METHOD;
    }
}

/* ---- functions ---- */

static const char *const function_table[] = { "range", "namespace", "dict", "raise_exception", "strftime_now" };

int jinja_function_known(mm_slice name)
{
    for (size_t i = 0; i < N(function_table); i++)
        if (jinja_is(name, function_table[i])) return 1;
    return 0;
}

static jval range(jrun *r, const jargs *a)
{
    int64_t b[3] = { 0, 0, 1 };
    if (a->n < 1 || a->n > 3) return jinja_fail(r, MM_EDATA, "range takes one to three numbers");
    for (size_t i = 0; i < a->n; i++) {
        if (!jinja_is_int(a->v[i]) || a->v[i].u.i > 1 << 30 || a->v[i].u.i < -(1 << 30))
            return jinja_fail(r, MM_EDATA, "range of something that is no integer, or too large");
        b[a->n == 1 ? 1 : i] = a->v[i].u.i;
    }
    if (!b[2]) return jinja_fail(r, MM_EDATA, "range by steps of 0");
    const int64_t span = b[2] > 0 ? b[1] - b[0] : b[0] - b[1], stride = b[2] > 0 ? b[2] : -b[2], n = span > 0 ? (span + stride - 1) / stride : 0;
    if (n > 1 << 20) return jinja_fail(r, MM_ELONG, "range is too long");
    jval l = jinja_list(r, (size_t)n, 0);
    for (int64_t i = 0; i < n && !r->failed; i++) l.u.list->v[i] = jinja_int(b[0] + i * b[2]);
    return l;
}

static jval dictionary(jrun *r, const jargs *a, int ns)
{
    jval v = jinja_dict(r);
    v.tuple = ns;
    for (size_t i = 0; i < a->n && !r->failed; i++) {
        if (a->name[i].len) jinja_put(r, v.u.dict, jinja_slice(a->name[i]), a->v[i]);
        else if (a->v[i].kind == J_DICT)
            for (size_t k = 0; k < a->v[i].u.dict->n; k++) jinja_put(r, v.u.dict, a->v[i].u.dict->key[k], a->v[i].u.dict->val[k]);
        else jinja_fail(r, MM_EUNSUP, "a mapping made from a %s is not supported", jinja_type(a->v[i]));
    }
    return v;
}

static jval strftime_now(jrun *r, const jargs *a)
{
    const mm_slice f = jinja_text_arg(r, a, 0, "format", NULL);
    char format[100], text[200];
    const time_t now = (time_t)r->now;
    struct tm tm;
    if (f.len >= sizeof format || !gmtime_r(&now, &tm)) return jinja_fail(r, MM_EDATA, "strftime_now with this format");
    memcpy(format, f.p, f.len);
    format[f.len] = 0;
    const size_t n = f.len ? strftime(text, sizeof text, format, &tm) : 0;
    return jinja_str(r, text, n);
}

jval jinja_function(jrun *r, mm_slice name, const jargs *a)
{
    if (jinja_is(name, "range")) return range(r, a);
    if (jinja_is(name, "namespace")) return dictionary(r, a, 1);
    if (jinja_is(name, "dict")) return dictionary(r, a, 0);
    if (jinja_is(name, "strftime_now")) return strftime_now(r, a);
    const mm_slice s = a->n ? jinja_text(r, a->v[0]) : (mm_slice){ "an exception", 12 };
    return jinja_fail(r, MM_EDATA, "the template says: %.*s", (int)(s.len > 300 ? 300 : s.len), s.p);
}

/* ---- methods ---- */

/* Names that are methods in Python and not known here: asking for one is refused. Other names are just not there. */
static const char *const python[] = {
    "casefold",     "center",  "count",   "encode",     "expandtabs",   "format",     "format_map", "index",
    "isalnum",      "isalpha", "isascii", "isdecimal",  "isidentifier", "islower",    "isnumeric",  "isprintable",
    "isspace",      "istitle", "isupper", "join",       "ljust",        "maketrans",  "partition",  "removeprefix",
    "removesuffix", "rfind",   "rindex",  "rjust",      "rpartition",   "splitlines", "swapcase",   "translate",
    "zfill",        "append",  "clear",   "copy",       "extend",       "insert",     "pop",        "remove",
    "reverse",      "sort",    "popitem", "setdefault", "update",       "fromkeys"
};
static const char *const of_strings[] = { "strip",      "lstrip",     "rstrip",  "upper",  "lower",
                                          "title",      "capitalize", "replace", "split",  "rsplit",
                                          "startswith", "endswith",   "find",    "isdigit" };
static const char *const of_dicts[] = { "items", "keys", "values", "get" };

static int listed(mm_slice name, const char *const *table, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (jinja_is(name, table[i])) return 1;
    return 0;
}

int jinja_method_known(jkind of, mm_slice name)
{
    if (of == J_STR) return listed(name, of_strings, N(of_strings));
    return of == J_DICT && listed(name, of_dicts, N(of_dicts));
}

int jinja_method_refused(jkind of, mm_slice name)
{
    return (of == J_STR || of == J_LIST) && (listed(name, python, N(python)) || listed(name, of_strings, N(of_strings)));
}

static int affix(jrun *r, mm_slice s, const jargs *a, int at_end)
{
    const jval *v = jinja_arg(a, 0, NULL);
    const jval one = v ? *v : jinja_none();
    const size_t n = one.kind == J_LIST ? one.u.list->n : 1;
    for (size_t i = 0; i < n; i++) {
        const jval x = one.kind == J_LIST ? one.u.list->v[i] : one;
        if (x.kind != J_STR) return jinja_fail(r, MM_EDATA, "startswith and endswith want a string"), 0;
        if (x.u.s.len <= s.len && !memcmp(at_end ? s.p + s.len - x.u.s.len : s.p, x.u.s.p, x.u.s.len)) return 1;
    }
    return 0;
}

static jval dict_method(jrun *r, const jdict *d, mm_slice name, const jargs *a)
{
    if (jinja_is(name, "items")) return jinja_pairs(r, d);
    if (jinja_is(name, "get")) {
        const jval *key = jinja_arg(a, 0, "key"), *dflt = jinja_arg(a, 1, "default");
        for (size_t i = 0; key && i < d->n; i++)
            if (jinja_equal(d->key[i], *key)) return d->val[i];
        return dflt ? *dflt : jinja_none();
    }
    jval l = jinja_list(r, d->n, 0);
    if (l.kind == J_LIST && d->n) memcpy(l.u.list->v, jinja_is(name, "keys") ? d->key : d->val, d->n * sizeof *d->key);
    return l;
}

jval jinja_method(jrun *r, jval self, mm_slice name, const jargs *a)
{
    if (self.kind == J_DICT) return dict_method(r, self.u.dict, name, a);
    const mm_slice s = self.u.s;
    if (jinja_is(name, "strip")) return jinja_strip(r, s, a, 1, 1);
    if (jinja_is(name, "lstrip")) return jinja_strip(r, s, a, 1, 0);
    if (jinja_is(name, "rstrip")) return jinja_strip(r, s, a, 0, 1);
    if (jinja_is(name, "upper")) return jinja_letters(r, s, UPPER);
    if (jinja_is(name, "lower")) return jinja_letters(r, s, LOWER);
    if (jinja_is(name, "title")) return jinja_letters(r, s, TITLE);
    if (jinja_is(name, "capitalize")) return jinja_letters(r, s, CAPITALIZE);
    if (jinja_is(name, "replace")) return jinja_replace(r, s, a);
    if (jinja_is(name, "split")) return jinja_split(r, s, a, 0);
    if (jinja_is(name, "rsplit")) return jinja_split(r, s, a, 1);
    if (jinja_is(name, "startswith")) return jinja_bool(affix(r, s, a, 0));
    if (jinja_is(name, "endswith")) return jinja_bool(affix(r, s, a, 1));
    if (jinja_is(name, "find")) {
        const mm_slice what = jinja_text_arg(r, a, 0, "sub", NULL);
        const char *p = what.len > s.len ? NULL : what.len ? memmem(s.p, s.len, what.p, what.len) : s.p;
        if (a->n > 1) return jinja_fail(r, MM_EUNSUP, "find with a place is not supported");
        return jinja_int(p ? (int64_t)jinja_chars((mm_slice){ s.p, (size_t)(p - s.p) }) : -1);
    }
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < '0' || s.p[i] > '9') return jinja_bool(0);
    return jinja_bool(s.len > 0);
}

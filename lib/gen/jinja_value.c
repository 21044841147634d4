/* Values of a template: what they are compared to, how they are written. As Python has it, for that is what templates were written against. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/jinja_int.h"

#define DEEPEST 64 /* of values in values */

static void *get(jrun *r, size_t n, size_t size)
{
    void *p = mm_arena_alloc(r->arena, n ? n : 1, size);
    if (!p) jinja_fail(r, MM_ENOMEM, "out of memory");
    return p;
}

jval jinja_str(jrun *r, const char *s, size_t len)
{
    if (jinja_step(r, len / 8)) return jinja_none();
    char *d = get(r, len + 1, 1);
    if (!d) return jinja_none();
    if (len) memcpy(d, s, len);
    d[len] = 0;
    return jinja_slice((mm_slice){ d, len });
}

jval jinja_take(jrun *r, mm_buf *b)
{
    jval v = b->failed ? jinja_fail(r, MM_ENOMEM, "out of memory") : jinja_str(r, b->p, b->len);
    mm_buf_clear(b);
    return v;
}

jval jinja_list(jrun *r, size_t n, int tuple)
{
    jlist *l = jinja_step(r, n / 8) ? NULL : get(r, 1, sizeof *l);
    if (!l || !(l->v = get(r, n, sizeof *l->v))) return jinja_none();
    l->n = n;
    return (jval){ .kind = J_LIST, .tuple = tuple, .u.list = l };
}

jval jinja_dict(jrun *r)
{
    jdict *d = get(r, 1, sizeof *d);
    if (!d) return jinja_none();
    *d = (jdict){ 0 };
    return (jval){ .kind = J_DICT, .u.dict = d };
}

int jinja_put(jrun *r, jdict *d, jval key, jval val)
{
    for (size_t i = 0; i < d->n; i++)
        if (jinja_equal(d->key[i], key)) return d->val[i] = val, 0;
    if (d->n == d->cap) {
        const size_t cap = d->cap ? 2 * d->cap : 8;
        jval *k = get(r, cap, sizeof *k), *v = get(r, cap, sizeof *v);
        if (!k || !v) return MM_ENOMEM;
        if (d->n) memcpy(k, d->key, d->n * sizeof *k);
        if (d->n) memcpy(v, d->val, d->n * sizeof *v);
        d->key = k;
        d->val = v;
        d->cap = cap;
    }
    d->key[d->n] = key;
    d->val[d->n++] = val;
    return jinja_step(r, d->n / 8);
}

const jval *jinja_get(const jdict *d, mm_slice key)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->key[i].kind == J_STR && d->key[i].u.s.len == key.len && !memcmp(d->key[i].u.s.p, key.p, key.len)) return &d->val[i];
    return NULL;
}

jval jinja_from_json(jrun *r, const json_t *j, int depth)
{
    if (depth > DEEPEST) return jinja_fail(r, MM_EDATA, "a value is nested too deep");
    switch (json_typeof(j)) {
    case JSON_STRING: return jinja_slice((mm_slice){ json_string_value(j), json_string_length(j) });
    case JSON_INTEGER: return jinja_int(json_integer_value(j));
    case JSON_REAL: return (jval){ .kind = J_FLOAT, .u.f = json_real_value(j) };
    case JSON_TRUE: return jinja_bool(1);
    case JSON_FALSE: return jinja_bool(0);
    case JSON_ARRAY: {
        jval v = jinja_list(r, json_array_size(j), 0);
        for (size_t i = 0; v.kind == J_LIST && i < v.u.list->n && !r->failed; i++) v.u.list->v[i] = jinja_from_json(r, json_array_get(j, i), depth + 1);
        return v;
    }
    case JSON_OBJECT: {
        jval v = jinja_dict(r);
        for (void *it = json_object_iter((json_t *)(uintptr_t)j); it && v.kind == J_DICT && !r->failed;
             it = json_object_iter_next((json_t *)(uintptr_t)j, it)) {
            const char *key = json_object_iter_key(it);
            jinja_put(r, v.u.dict, jinja_slice((mm_slice){ key, strlen(key) }), jinja_from_json(r, json_object_iter_value(it), depth + 1));
        }
        return v;
    }
    default: return jinja_none();
    }
}

const char *jinja_type(jval v)
{
    static const char *const names[] = { "undefined", "none", "boolean", "integer", "number", "string", "list", "mapping", "macro", "function", "method" };
    return names[v.kind];
}

int jinja_truth(jval v)
{
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE: return 0;
    case J_BOOL:
    case J_INT: return v.u.i != 0;
    case J_FLOAT: return v.u.f < 0 || v.u.f > 0 || isnan(v.u.f);
    case J_STR: return v.u.s.len > 0;
    case J_LIST: return v.u.list->n > 0;
    case J_DICT: return v.tuple || v.u.dict->n > 0;
    default: return 1;
    }
}

static int is_number(jval v) { return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT; }
static double number(jval v) { return v.kind == J_FLOAT ? v.u.f : (double)v.u.i; }
static int sign(double x) { return x < 0 ? -1 : x > 0; }

static int equal(jval a, jval b, int depth)
{
    if (is_number(a) && is_number(b)) return a.kind == J_FLOAT || b.kind == J_FLOAT ? sign(number(a) - number(b)) == 0 : a.u.i == b.u.i;
    if (a.kind != b.kind || depth > DEEPEST) return 0;
    switch (a.kind) {
    case J_STR: return a.u.s.len == b.u.s.len && !memcmp(a.u.s.p, b.u.s.p, a.u.s.len);
    case J_LIST:
        if (a.u.list->n != b.u.list->n || a.tuple != b.tuple) return 0;
        for (size_t i = 0; i < a.u.list->n; i++)
            if (!equal(a.u.list->v[i], b.u.list->v[i], depth + 1)) return 0;
        return 1;
    case J_DICT:
        if (a.u.dict->n != b.u.dict->n) return 0;
        for (size_t i = 0; i < a.u.dict->n; i++) {
            const jval *v = jinja_get(b.u.dict, a.u.dict->key[i].u.s);
            if (!v || !equal(a.u.dict->val[i], *v, depth + 1)) return 0;
        }
        return 1;
    case J_MACRO: return a.u.macro == b.u.macro;
    default: return a.kind == J_NONE || a.kind == J_UNDEFINED;
    }
}

int jinja_equal(jval a, jval b) { return equal(a, b, 0); }

int jinja_order(jrun *r, jval a, jval b)
{
    if (is_number(a) && is_number(b)) {
        if (a.kind != J_FLOAT && b.kind != J_FLOAT) return a.u.i < b.u.i ? -1 : a.u.i > b.u.i;
        return sign(number(a) - number(b));
    }
    if (a.kind == J_STR && b.kind == J_STR) {
        const size_t n = a.u.s.len < b.u.s.len ? a.u.s.len : b.u.s.len;
        const int c = memcmp(a.u.s.p, b.u.s.p, n);
        return c ? (c > 0) - (c < 0) : a.u.s.len < b.u.s.len ? -1 : a.u.s.len > b.u.s.len;
    }
    if (a.kind == J_LIST && b.kind == J_LIST && a.tuple == b.tuple) {
        for (size_t i = 0; i < a.u.list->n && i < b.u.list->n && !r->failed; i++)
            if (!jinja_equal(a.u.list->v[i], b.u.list->v[i])) return jinja_order(r, a.u.list->v[i], b.u.list->v[i]);
        return a.u.list->n < b.u.list->n ? -1 : a.u.list->n > b.u.list->n;
    }
    jinja_fail(r, MM_EDATA, "%s and %s have no order", jinja_type(a), jinja_type(b));
    return 0;
}

/* ---- writing ---- */

static void real(mm_buf *out, double x, int json)
{
    char s[40];
    if (!isfinite(x)) {
        mm_buf_adds(out, isnan(x) ? (json ? "NaN" : "nan") : x < 0 ? (json ? "-Infinity" : "-inf") : (json ? "Infinity" : "inf"));
        return;
    }
    int digits = 1;
    double back = 0;
    do { /* the fewest digits that read back */
        snprintf(s, sizeof s, "%.*e", digits - 1, x);
        mm_parse_double(s, strlen(s), &back);
    } while (sign(back - x) && ++digits <= 17);
    int e = 0;
    const char *exponent = strchr(s, 'e');
    for (const char *p = exponent + 2; *p; p++) e = e * 10 + *p - '0';
    if (exponent[1] == '-') e = -e;
    if (e < -4 || e >= 16) {
        mm_buf_add(out, s, (size_t)(exponent - s));
        mm_buf_addf(out, "e%c%02d", e < 0 ? '-' : '+', e < 0 ? -e : e);
    } else mm_buf_addf(out, "%.*f", digits - 1 - e > 1 ? digits - 1 - e : 1, x);
}

static void quote(mm_buf *out, mm_slice s)
{
    const char q = s.len && memchr(s.p, '\'', s.len) && !memchr(s.p, '"', s.len) ? '"' : '\'';
    mm_buf_addc(out, q);
    for (size_t i = 0; i < s.len; i++) {
        const char c = s.p[i];
        if (c == q || c == '\\') mm_buf_addf(out, "\\%c", c);
        else if (c == '\n') mm_buf_adds(out, "\\n");
        else if (c == '\r') mm_buf_adds(out, "\\r");
        else if (c == '\t') mm_buf_adds(out, "\\t");
        else if ((unsigned char)c < 0x20 || c == 0x7F) mm_buf_addf(out, "\\x%02x", (unsigned)(unsigned char)c);
        else mm_buf_addc(out, c);
    }
    mm_buf_addc(out, q);
}

static void write(jrun *r, mm_buf *out, jval v, int quoted, int depth)
{
    if (r->failed || jinja_step(r, 1)) return;
    if (depth > DEEPEST) {
        jinja_fail(r, MM_EDATA, "a value is nested too deep");
        return;
    }
    switch (v.kind) {
    case J_UNDEFINED: break;
    case J_NONE: mm_buf_adds(out, "None"); break;
    case J_BOOL: mm_buf_adds(out, v.u.i ? "True" : "False"); break;
    case J_INT: mm_buf_addf(out, "%lld", (long long)v.u.i); break;
    case J_FLOAT: real(out, v.u.f, 0); break;
    case J_STR:
        if (quoted) quote(out, v.u.s);
        else mm_buf_add(out, v.u.s.p, v.u.s.len);
        break;
    case J_LIST:
        mm_buf_addc(out, v.tuple ? '(' : '[');
        for (size_t i = 0; i < v.u.list->n; i++) {
            if (i) mm_buf_adds(out, ", ");
            write(r, out, v.u.list->v[i], 1, depth + 1);
        }
        mm_buf_adds(out, !v.tuple ? "]" : v.u.list->n == 1 ? ",)" : ")");
        break;
    case J_DICT:
        mm_buf_addc(out, '{');
        for (size_t i = 0; i < v.u.dict->n; i++) {
            if (i) mm_buf_adds(out, ", ");
            write(r, out, v.u.dict->key[i], 1, depth + 1);
            mm_buf_adds(out, ": ");
            write(r, out, v.u.dict->val[i], 1, depth + 1);
        }
        mm_buf_addc(out, '}');
        break;
    default: jinja_fail(r, MM_EDATA, "a %s has no text", jinja_type(v));
    }
}

void jinja_write(jrun *r, mm_buf *out, jval v, int quoted) { write(r, out, v, quoted, 0); }

static void line(mm_buf *out, int indent, int level)
{
    if (indent < 0) return;
    mm_buf_addc(out, '\n');
    for (int i = 0; i < indent * level; i++) mm_buf_addc(out, ' ');
}

/* json.dumps(v, ensure_ascii=False, indent=indent); indent -1: on one line */
void jinja_json(jrun *r, mm_buf *out, jval v, int indent, int level)
{
    if (r->failed || jinja_step(r, 1)) return;
    if (level > DEEPEST) {
        jinja_fail(r, MM_EDATA, "a value is nested too deep");
        return;
    }
    switch (v.kind) {
    case J_NONE: mm_buf_adds(out, "null"); break;
    case J_BOOL: mm_buf_adds(out, v.u.i ? "true" : "false"); break;
    case J_INT: mm_buf_addf(out, "%lld", (long long)v.u.i); break;
    case J_FLOAT: real(out, v.u.f, 1); break;
    case J_STR: mm_json_quote(out, v.u.s.p, v.u.s.len); break;
    case J_LIST:
        mm_buf_addc(out, '[');
        for (size_t i = 0; i < v.u.list->n; i++) {
            if (i) mm_buf_adds(out, indent < 0 ? ", " : ",");
            line(out, indent, level + 1);
            jinja_json(r, out, v.u.list->v[i], indent, level + 1);
        }
        if (v.u.list->n) line(out, indent, level);
        mm_buf_addc(out, ']');
        break;
    case J_DICT:
        mm_buf_addc(out, '{');
        for (size_t i = 0; i < v.u.dict->n; i++) {
            const jval key = v.u.dict->key[i];
            if (i) mm_buf_adds(out, indent < 0 ? ", " : ",");
            line(out, indent, level + 1);
            if (key.kind != J_STR) jinja_fail(r, MM_EUNSUP, "tojson of a mapping whose keys are no strings is not supported");
            else mm_json_quote(out, key.u.s.p, key.u.s.len);
            mm_buf_adds(out, ": ");
            jinja_json(r, out, v.u.dict->val[i], indent, level + 1);
        }
        if (v.u.dict->n) line(out, indent, level);
        mm_buf_addc(out, '}');
        break;
    default: jinja_fail(r, MM_EDATA, "tojson of something %s", jinja_type(v));
    }
}

/* ---- parts ---- */

static size_t after(mm_slice s, size_t i) /* the character behind the one at byte i */
{
    do i++;
    while (i < s.len && ((unsigned char)s.p[i] & 0xC0) == 0x80);
    return i;
}

size_t jinja_chars(mm_slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

mm_slice jinja_sub(mm_slice s, size_t from, size_t to)
{
    size_t a = 0, b;
    for (size_t i = 0; i < from && a < s.len; i++) a = after(s, a);
    b = a;
    for (size_t i = from; i < to && b < s.len; i++) b = after(s, b);
    return (mm_slice){ s.p + a, b - a };
}

jval jinja_items(jrun *r, jval v)
{
    if (v.kind == J_LIST) return v;
    if (v.kind == J_UNDEFINED) return jinja_list(r, 0, 0);
    if (v.kind == J_DICT && !v.tuple) {
        jval l = jinja_list(r, v.u.dict->n, 0);
        if (l.kind == J_LIST && l.u.list->n) memcpy(l.u.list->v, v.u.dict->key, l.u.list->n * sizeof *l.u.list->v);
        return l;
    }
    if (v.kind == J_STR) {
        jval l = jinja_list(r, jinja_chars(v.u.s), 0);
        size_t at = 0;
        for (size_t i = 0; l.kind == J_LIST && i < l.u.list->n; i++) {
            const size_t end = after(v.u.s, at);
            l.u.list->v[i] = jinja_slice((mm_slice){ v.u.s.p + at, end - at });
            at = end;
        }
        return l;
    }
    return jinja_fail(r, MM_EDATA, "%s is no sequence", jinja_type(v));
}

/* The filters, in a table: a name that is not in it is refused where it is read. */
#include <math.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/jinja_int.h"

typedef jval filter_fn(jrun *r, jval v, const jargs *a);

static jval f_trim(jrun *r, jval v, const jargs *a) { return jinja_strip(r, jinja_text(r, v), a, 1, 1); }
static jval f_upper(jrun *r, jval v, const jargs *a) { return (void)a, jinja_letters(r, jinja_text(r, v), UPPER); }
static jval f_lower(jrun *r, jval v, const jargs *a) { return (void)a, jinja_letters(r, jinja_text(r, v), LOWER); }
static jval f_title(jrun *r, jval v, const jargs *a) { return (void)a, jinja_letters(r, jinja_text(r, v), TITLE); }
static jval f_capitalize(jrun *r, jval v, const jargs *a) { return (void)a, jinja_letters(r, jinja_text(r, v), CAPITALIZE); }
static jval f_string(jrun *r, jval v, const jargs *a) { return (void)a, jinja_slice(jinja_text(r, v)); }
static jval f_replace(jrun *r, jval v, const jargs *a) { return jinja_replace(r, jinja_text(r, v), a); }
static jval f_safe(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v; }

static jval f_length(jrun *r, jval v, const jargs *a)
{
    (void)a;
    if (v.kind == J_STR) return jinja_int((int64_t)jinja_chars(v.u.s));
    if (v.kind == J_LIST) return jinja_int((int64_t)v.u.list->n);
    if (v.kind == J_DICT) return jinja_int((int64_t)v.u.dict->n);
    if (v.kind == J_UNDEFINED) return jinja_int(0);
    return jinja_fail(r, MM_EDATA, "length of a %s", jinja_type(v));
}

static jval f_default(jrun *r, jval v, const jargs *a)
{
    const jval *d = jinja_arg(a, 0, "default_value"), *b = jinja_arg(a, 1, "boolean");
    (void)r;
    if (v.kind != J_UNDEFINED && !(b && jinja_truth(*b) && !jinja_truth(v))) return v;
    return d ? *d : jinja_slice((mm_slice){ "", 0 });
}

static jval f_tojson(jrun *r, jval v, const jargs *a)
{
    mm_buf b = { 0 };
    const jval *indent = jinja_arg(a, 0, "indent");
    for (size_t i = 0; i < a->n; i++)
        if (a->name[i].len && !jinja_is(a->name[i], "indent") && !(jinja_is(a->name[i], "ensure_ascii") && !jinja_truth(a->v[i])))
            return jinja_fail(r, MM_EUNSUP, "tojson with '%.*s' is not supported", (int)a->name[i].len, a->name[i].p);
    int n = -1;
    if (indent && indent->kind != J_NONE) {
        if (!jinja_is_int(*indent) || indent->u.i < 0 || indent->u.i > 16) return jinja_fail(r, MM_EUNSUP, "tojson with this indent is not supported");
        n = (int)indent->u.i;
    }
    jinja_json(r, &b, v, n, 0);
    return jinja_take(r, &b);
}

static jval f_join(jrun *r, jval v, const jargs *a)
{
    const jlist *l = jinja_item_list(r, v);
    const mm_slice by = jinja_text_arg(r, a, 0, "d", "");
    mm_buf b = { 0 };
    if (jinja_arg(a, 1, "attribute")) return jinja_fail(r, MM_EUNSUP, "join with 'attribute' is not supported");
    for (size_t i = 0; i < l->n && !r->failed; i++) {
        if (i) mm_buf_add(&b, by.p, by.len);
        jinja_write(r, &b, l->v[i], 0);
    }
    return jinja_take(r, &b);
}

static jval f_first(jrun *r, jval v, const jargs *a)
{
    const jlist *l = jinja_item_list(r, v);
    (void)a;
    return l->n ? l->v[0] : jinja_undefined((mm_slice){ "first", 5 });
}

static jval f_last(jrun *r, jval v, const jargs *a)
{
    const jlist *l = jinja_item_list(r, v);
    (void)a;
    return l->n ? l->v[l->n - 1] : jinja_undefined((mm_slice){ "last", 4 });
}

static jval f_list(jrun *r, jval v, const jargs *a) { return (void)a, v = jinja_items(r, v), v.tuple = 0, v; }

static jval f_reverse(jrun *r, jval v, const jargs *a)
{
    const jlist *l = jinja_item_list(r, v);
    jval out = jinja_list(r, l->n, 0);
    (void)a;
    for (size_t i = 0; i < l->n && !r->failed; i++) out.u.list->v[i] = l->v[l->n - 1 - i];
    if (v.kind != J_STR || r->failed) return out;
    mm_buf b = { 0 };
    for (size_t i = 0; i < l->n; i++) jinja_write(r, &b, out.u.list->v[i], 0);
    return jinja_take(r, &b);
}

static jval f_int(jrun *r, jval v, const jargs *a)
{
    const jval *d = jinja_arg(a, 0, "default");
    double x;
    (void)r;
    if (jinja_is_int(v)) return jinja_int(v.u.i);
    if (v.kind == J_FLOAT && fabs(v.u.f) < 9e18) return jinja_int((int64_t)v.u.f);
    if (v.kind == J_STR) {
        const mm_slice s = jinja_strip(r, v.u.s, &(jargs){ 0 }, 1, 1).u.s;
        if (s.len && mm_parse_double(s.p, s.len, &x) == s.len && fabs(x) < 9e15) return jinja_int((int64_t)x);
    }
    return d ? *d : jinja_int(0);
}

static jval f_float(jrun *r, jval v, const jargs *a)
{
    const jval *d = jinja_arg(a, 0, "default");
    double x;
    if (jinja_is_int(v)) return (jval){ .kind = J_FLOAT, .u.f = (double)v.u.i };
    if (v.kind == J_FLOAT) return v;
    if (v.kind == J_STR) {
        const mm_slice s = jinja_strip(r, v.u.s, &(jargs){ 0 }, 1, 1).u.s;
        if (s.len && mm_parse_double(s.p, s.len, &x) == s.len) return (jval){ .kind = J_FLOAT, .u.f = x };
    }
    return d ? *d : (jval){ .kind = J_FLOAT };
}

static jval f_abs(jrun *r, jval v, const jargs *a)
{
    (void)a;
    if (v.kind == J_FLOAT) return (jval){ .kind = J_FLOAT, .u.f = fabs(v.u.f) };
    return jinja_is_int(v) && v.u.i > INT64_MIN ? jinja_int(v.u.i < 0 ? -v.u.i : v.u.i) : jinja_fail(r, MM_EDATA, "abs of a %s", jinja_type(v));
}

jval jinja_pairs(jrun *r, const jdict *d)
{
    jval l = jinja_list(r, d->n, 0);
    for (size_t i = 0; i < d->n && !r->failed; i++) {
        jval p = jinja_list(r, 2, 1);
        if (p.kind != J_LIST) return p;
        p.u.list->v[0] = d->key[i];
        p.u.list->v[1] = d->val[i];
        l.u.list->v[i] = p;
    }
    return l;
}

static jval f_items(jrun *r, jval v, const jargs *a)
{
    (void)a;
    if (v.kind == J_UNDEFINED) return jinja_list(r, 0, 0);
    return v.kind == J_DICT ? jinja_pairs(r, v.u.dict) : jinja_fail(r, MM_EDATA, "items of a %s", jinja_type(v));
}

/* Insertion sort: stable, and templates sort a handful. by: 0 the item itself, 1 its first part. */
static jval sorted(jrun *r, jval v, int by, int down)
{
    const jlist *l = jinja_item_list(r, v);
    jval out = jinja_list(r, l->n, 0);
    for (size_t i = 0; i < l->n && !r->failed; i++) {
        size_t k = i;
        for (; k > 0 && !r->failed; k--) {
            const jval x = out.u.list->v[k - 1], y = l->v[i];
            const int c = by ? jinja_order(r, x.u.list->v[0], y.u.list->v[0]) : jinja_order(r, x, y);
            if (jinja_step(r, 0) || (down ? c >= 0 : c <= 0)) break;
            out.u.list->v[k] = x;
        }
        out.u.list->v[k] = l->v[i];
    }
    return out;
}

static jval f_dictsort(jrun *r, jval v, const jargs *a)
{
    if (v.kind != J_DICT) return jinja_fail(r, MM_EDATA, "dictsort of a %s", jinja_type(v));
    for (size_t i = 0; i < a->n; i++) return jinja_fail(r, MM_EUNSUP, "dictsort with arguments is not supported");
    for (size_t i = 0; i < v.u.dict->n; i++)
        if (v.u.dict->key[i].kind == J_STR && jinja_letters(r, v.u.dict->key[i].u.s, LOWER).u.s.len &&
            !jinja_equal(jinja_letters(r, v.u.dict->key[i].u.s, LOWER), v.u.dict->key[i]))
            return jinja_fail(r, MM_EUNSUP, "dictsort of keys with capitals is not supported");
    return sorted(r, jinja_pairs(r, v.u.dict), 1, 0);
}

static jval f_sort(jrun *r, jval v, const jargs *a)
{
    const jval *down = jinja_arg(a, 0, "reverse");
    if (a->n > 1 || (a->n == 1 && !down)) return jinja_fail(r, MM_EUNSUP, "sort with these arguments is not supported");
    const jlist *l = jinja_item_list(r, v);
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].kind == J_STR && !jinja_equal(jinja_letters(r, l->v[i].u.s, LOWER), l->v[i]))
            return jinja_fail(r, MM_EUNSUP, "sort of texts with capitals is not supported");
    return sorted(r, v, 0, down && jinja_truth(*down));
}

static jval f_unique(jrun *r, jval v, const jargs *a)
{
    const jlist *l = jinja_item_list(r, v);
    jval out = jinja_list(r, l->n, 0);
    size_t n = 0;
    (void)a;
    for (size_t i = 0; i < l->n && !r->failed; i++) {
        size_t k = 0;
        while (k < n && !jinja_equal(out.u.list->v[k], l->v[i])) k++;
        if (k == n) out.u.list->v[n++] = l->v[i];
        if (jinja_step(r, n)) break;
    }
    if (out.kind == J_LIST) ((jlist *)(uintptr_t)out.u.list)->n = n;
    return out;
}

static jval f_indent(jrun *r, jval v, const jargs *a)
{
    const mm_slice s = jinja_text(r, v);
    const jval *w = jinja_arg(a, 0, "width"), *first = jinja_arg(a, 1, "first"), *all = jinja_arg(a, 2, "blank");
    mm_buf pad = { 0 }, b = { 0 };
    if (w && w->kind == J_STR) mm_buf_add(&pad, w->u.s.p, w->u.s.len);
    else
        for (int64_t i = 0; i < (w && jinja_is_int(*w) ? w->u.i : 4) && i < 1000; i++) mm_buf_addc(&pad, ' ');
    for (size_t i = 0, start = 0; i <= s.len; i++) {
        if (i < s.len && s.p[i] != '\n') continue;
        if ((start ? i > start || (all && jinja_truth(*all)) : first && jinja_truth(*first))) mm_buf_add(&b, pad.p, pad.len);
        mm_buf_add(&b, s.p + start, i - start + (i < s.len));
        start = i + 1;
    }
    mm_buf_clear(&pad);
    return jinja_take(r, &b);
}

/* An attribute of an item, "a.b" of nested ones. */
static jval part_of(jval v, mm_slice path)
{
    while (path.len) {
        const char *dot = memchr(path.p, '.', path.len);
        const size_t n = dot ? (size_t)(dot - path.p) : path.len;
        const jval *x = v.kind == J_DICT ? jinja_get(v.u.dict, (mm_slice){ path.p, n }) : NULL;
        if (!x) return jinja_undefined(path);
        v = *x;
        path = (mm_slice){ path.p + n + (dot != NULL), path.len - n - (dot != NULL) };
    }
    return v;
}

/* select, reject (by: 0) and selectattr, rejectattr (by: 1, the first argument is the attribute). */
static jval select_by(jrun *r, jval v, const jargs *a, int by, int want)
{
    const jlist *l = jinja_item_list(r, v);
    jval out = jinja_list(r, l->n, 0);
    const mm_slice attr = by ? jinja_text_arg(r, a, 0, "attribute", NULL) : (mm_slice){ 0 };
    const size_t at = (size_t)by;
    const mm_slice test = a->n > at ? jinja_text_arg(r, a, at, "test", NULL) : (mm_slice){ 0 };
    const jargs rest = { a->n > at + 1 ? a->v + at + 1 : NULL, a->n > at + 1 ? a->name + at + 1 : NULL, a->n > at + 1 ? a->n - at - 1 : 0 };
    size_t n = 0;
    if (test.len && !jinja_test_known(test)) return jinja_fail(r, MM_EUNSUP, "test '%.*s' is not supported", (int)test.len, test.p);
    for (size_t i = 0; i < l->n && !r->failed; i++) {
        const jval x = by ? part_of(l->v[i], attr) : l->v[i];
        if ((test.len ? jinja_test(r, test, x, &rest) : jinja_truth(x)) == want) out.u.list->v[n++] = l->v[i];
    }
    if (out.kind == J_LIST) ((jlist *)(uintptr_t)out.u.list)->n = n;
    return out;
}

static jval f_select(jrun *r, jval v, const jargs *a) { return select_by(r, v, a, 0, 1); }
static jval f_reject(jrun *r, jval v, const jargs *a) { return select_by(r, v, a, 0, 0); }
static jval f_selectattr(jrun *r, jval v, const jargs *a) { return select_by(r, v, a, 1, 1); }
static jval f_rejectattr(jrun *r, jval v, const jargs *a) { return select_by(r, v, a, 1, 0); }

static jval f_map(jrun *r, jval v, const jargs *a)
{
    const jlist *l = jinja_item_list(r, v);
    jval out = jinja_list(r, l->n, 0);
    const jval *attr = jinja_arg(a, SIZE_MAX, "attribute"), *dflt = jinja_arg(a, SIZE_MAX, "default");
    const mm_slice name = attr ? jinja_text_arg(r, a, SIZE_MAX, "attribute", NULL) : jinja_text_arg(r, a, 0, "filter", NULL);
    const jargs rest = { a->n > 1 ? a->v + 1 : NULL, a->n > 1 ? a->name + 1 : NULL, a->n > 1 ? a->n - 1 : 0 };
    if (!attr && !jinja_filter_known(name)) return jinja_fail(r, MM_EUNSUP, "filter '%.*s' is not supported", (int)name.len, name.p);
    for (size_t i = 0; i < l->n && !r->failed; i++) {
        jval x = attr ? part_of(l->v[i], name) : jinja_filter(r, name, l->v[i], &rest);
        out.u.list->v[i] = attr && dflt && x.kind == J_UNDEFINED ? *dflt : x;
    }
    return out;
}

static const struct { const char *name; filter_fn *fn; } filter_table[] = {
    { "abs", f_abs }, { "capitalize", f_capitalize }, { "count", f_length }, { "d", f_default }, { "default", f_default }, { "dictsort", f_dictsort },
    { "first", f_first }, { "float", f_float }, { "indent", f_indent }, { "int", f_int }, { "items", f_items }, { "join", f_join }, { "last", f_last },
    { "length", f_length }, { "list", f_list }, { "lower", f_lower }, { "map", f_map }, { "reject", f_reject }, { "rejectattr", f_rejectattr },
    { "replace", f_replace }, { "reverse", f_reverse }, { "safe", f_safe }, { "select", f_select }, { "selectattr", f_selectattr }, { "sort", f_sort },
    { "string", f_string }, { "title", f_title }, { "tojson", f_tojson }, { "trim", f_trim }, { "unique", f_unique }, { "upper", f_upper },
};
#define N(table) (sizeof(table) / sizeof *(table))

int jinja_filter_known(mm_slice name)
{
    for (size_t i = 0; i < N(filter_table); i++)
        if (jinja_is(name, filter_table[i].name)) return 1;
    return 0;
}

jval jinja_filter(jrun *r, mm_slice name, jval self, const jargs *a)
{
    for (size_t i = 0; i < N(filter_table); i++)
        if (jinja_is(name, filter_table[i].name)) return filter_table[i].fn(r, self, a);
    return jinja_none();
}

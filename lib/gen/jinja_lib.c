/* What templates may call, each in a table: filters, tests, methods, functions. A name that is in none of them is refused where it is read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>
#include "base/mm_str.h"
#include "gen/jinja_int.h"

static int is_int(jval v) { return v.kind == J_INT || v.kind == J_BOOL; }

/* How many bytes of white space s begins (or ends) with: 0 or one character. Python's idea of it. */
static size_t blank(mm_slice s, int at_end)
{
    static const char *const wide[] = { "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\xA8",
                                        "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80" };
    if (!s.len) return 0;
    const char c = at_end ? s.p[s.len - 1] : s.p[0];
    if ((unsigned char)c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        const size_t n = strlen(wide[i]);
        if (n <= s.len && !memcmp(at_end ? s.p + s.len - n : s.p, wide[i], n)) return n;
    }
    const char *p = at_end ? s.p + s.len - 3 : s.p; /* U+2000 to U+200A */
    return s.len >= 3 && !memcmp(p, "\xE2\x80", 2) && (unsigned char)p[2] <= 0x8A ? 3 : 0;
}

/* The i-th argument by position, or the one of this name; NULL: not given. */
static const jval *arg(const jargs *a, size_t i, const char *name)
{
    if (i < a->n && !a->name[i].len) return &a->v[i];
    for (size_t k = 0; k < a->n && name; k++)
        if (jinja_is(a->name[k], name)) return &a->v[k];
    return NULL;
}

static mm_slice str(jrun *r, jval v)
{
    if (v.kind == J_STR) return v.u.s;
    mm_buf b = { 0 };
    jinja_write(r, &b, v, 0);
    v = jinja_take(r, &b);
    return v.kind == J_STR ? v.u.s : (mm_slice){ "", 0 };
}

/* An argument that must be a string: "" with a failure if it is none. */
static mm_slice str_arg(jrun *r, const jargs *a, size_t i, const char *name, const char *dflt)
{
    const jval *v = arg(a, i, name);
    if (v && v->kind == J_STR) return v->u.s;
    if (v || !dflt) jinja_fail(r, MM_EDATA, "argument '%s' is no string", name);
    return (mm_slice){ dflt ? dflt : "", dflt ? strlen(dflt) : 0 };
}

static jlist *items(jrun *r, jval v)
{
    static jlist none;
    v = jinja_items(r, v);
    return v.kind == J_LIST ? (jlist *)(uintptr_t)v.u.list : &none;
}

/* ---- texts ---- */

static jval strip(jrun *r, mm_slice s, const jargs *a, int left, int right)
{
    const jval *v = arg(a, 0, "chars");
    mm_slice set = { 0 };
    if (v && v->kind != J_NONE) {
        set = str_arg(r, a, 0, "chars", NULL);
        for (size_t i = 0; i < set.len; i++)
            if ((unsigned char)set.p[i] >= 0x80) return jinja_fail(r, MM_EUNSUP, "strip of characters that are not ASCII is not supported");
    }
    for (size_t n; left && s.len && (n = set.p ? memchr(set.p, s.p[0], set.len) != NULL : blank(s, 0));) s.p += n, s.len -= n;
    for (size_t n; right && s.len && (n = set.p ? memchr(set.p, s.p[s.len - 1], set.len) != NULL : blank(s, 1));) s.len -= n;
    return jinja_slice(s);
}

enum { UPPER, LOWER, CAPITALIZE, TITLE };

/* One character in upper or lower case; -1: it becomes several, or that depends on its neighbours. */
static int32_t in_case(uint32_t cp, int up)
{
    const utf8proc_int32_t c = (utf8proc_int32_t)cp, other = up ? utf8proc_toupper(c) : utf8proc_tolower(c);
    const utf8proc_category_t k = utf8proc_category(c);
    if (cp < 0x80) return other;
    if (k == UTF8PROC_CATEGORY_LT || (up && cp == 0xDF) || (up && k == UTF8PROC_CATEGORY_LL && other == c) || (!up && (cp == 0x130 || cp == 0x3A3))) return -1;
    return other;
}

static jval letters(jrun *r, mm_slice s, int how)
{
    mm_buf b = { 0 };
    int word = 0;
    char utf8[4];
    uint32_t cp;
    for (size_t i = 0, n; i < s.len; i += n) {
        n = (size_t)mm_utf8_get(s.p + i, s.len - i, &cp);
        const int32_t c = in_case(cp, how == UPPER || (how == CAPITALIZE ? !i : how == TITLE && !word));
        if (c < 0) {
            mm_buf_clear(&b);
            return jinja_fail(r, MM_EUNSUP, "the case of this character is not supported: '%.*s'", (int)n, s.p + i);
        }
        mm_buf_add(&b, utf8, (size_t)mm_utf8_put((uint32_t)c, utf8));
        word = utf8proc_toupper((utf8proc_int32_t)cp) != utf8proc_tolower((utf8proc_int32_t)cp);
    }
    return jinja_take(r, &b);
}

static jval replace(jrun *r, mm_slice s, const jargs *a)
{
    const mm_slice from = str_arg(r, a, 0, "old", NULL), to = str_arg(r, a, 1, "new", NULL);
    const jval *most = arg(a, 2, "count");
    int64_t left = most && is_int(*most) && most->u.i >= 0 ? most->u.i : INT64_MAX;
    mm_buf b = { 0 };
    const char *p = s.p, *end = s.p + s.len, *q;
    if (!from.len) return jinja_fail(r, MM_EUNSUP, "replacing an empty string is not supported");
    while (left-- > 0 && p < end && (q = memmem(p, (size_t)(end - p), from.p, from.len))) {
        mm_buf_add(&b, p, (size_t)(q - p));
        mm_buf_add(&b, to.p, to.len);
        p = q + from.len;
        if (jinja_step(r, to.len / 64)) break;
    }
    mm_buf_add(&b, p, (size_t)(end - p));
    return jinja_take(r, &b);
}

static jval strings(jrun *r, const mm_slice *s, size_t n)
{
    jval l = jinja_list(r, n, 0);
    for (size_t i = 0; i < n && l.kind == J_LIST; i++) l.u.list->v[i] = jinja_slice(s[i]);
    return l;
}

/* Python's split(): by white space, or by a separator; most < 0: no limit. */
static jval split(jrun *r, mm_slice s, const jargs *a, int from_right)
{
    const jval *sep = arg(a, 0, "sep"), *max = arg(a, 1, "maxsplit");
    const int64_t most = max && is_int(*max) && max->u.i >= 0 ? max->u.i : INT64_MAX;
    const int by_space = !sep || sep->kind == J_NONE;
    const mm_slice by = by_space ? (mm_slice){ " ", 1 } : str_arg(r, a, 0, "sep", NULL);
    mm_slice *part = mm_arena_alloc(r->arena, s.len + 1, sizeof *part);
    size_t n = 0;
    if (!part) return jinja_fail(r, MM_ENOMEM, "out of memory");
    if (!by.len) return jinja_fail(r, MM_EDATA, "split by an empty string");
    if (from_right && by_space) return jinja_fail(r, MM_EUNSUP, "rsplit by white space is not supported");
    while (by_space && s.len) {
        size_t k = 0;
        for (size_t b; (b = blank(s, 0));) s.p += b, s.len -= b;
        while (k < s.len && ((int64_t)n >= most || !blank((mm_slice){ s.p + k, s.len - k }, 0))) k++;
        if (!k) break;
        part[n++] = (mm_slice){ s.p, k };
        s = (mm_slice){ s.p + k, s.len - k };
    }
    if (by_space) return strings(r, part, n);
    for (const char *q; !from_right && (int64_t)n < most && (q = memmem(s.p, s.len, by.p, by.len)); n++) {
        part[n] = (mm_slice){ s.p, (size_t)(q - s.p) };
        s = (mm_slice){ q + by.len, s.len - part[n].len - by.len };
    }
    for (size_t i = s.len; from_right && (int64_t)n < most && i >= by.len;) {
        if (memcmp(s.p + i - by.len, by.p, by.len)) {
            i--;
            continue;
        }
        part[n++] = (mm_slice){ s.p + i, s.len - i };
        s.len = i -= by.len;
    }
    part[n++] = s;
    for (size_t i = 0; from_right && i < n / 2; i++) {
        const mm_slice t = part[i];
        part[i] = part[n - 1 - i];
        part[n - 1 - i] = t;
    }
    return strings(r, part, n);
}

static int affix(jrun *r, mm_slice s, const jargs *a, int at_end)
{
    const jval *v = arg(a, 0, NULL);
    const jval one = v ? *v : jinja_none();
    const size_t n = one.kind == J_LIST ? one.u.list->n : 1;
    for (size_t i = 0; i < n; i++) {
        const jval x = one.kind == J_LIST ? one.u.list->v[i] : one;
        if (x.kind != J_STR) return jinja_fail(r, MM_EDATA, "startswith and endswith want a string"), 0;
        if (x.u.s.len <= s.len && !memcmp(at_end ? s.p + s.len - x.u.s.len : s.p, x.u.s.p, x.u.s.len)) return 1;
    }
    return 0;
}

/* ---- filters ---- */

typedef jval filter_fn(jrun *r, jval v, const jargs *a);

static jval f_trim(jrun *r, jval v, const jargs *a) { return strip(r, str(r, v), a, 1, 1); }
static jval f_upper(jrun *r, jval v, const jargs *a) { return (void)a, letters(r, str(r, v), UPPER); }
static jval f_lower(jrun *r, jval v, const jargs *a) { return (void)a, letters(r, str(r, v), LOWER); }
static jval f_title(jrun *r, jval v, const jargs *a) { return (void)a, letters(r, str(r, v), TITLE); }
static jval f_capitalize(jrun *r, jval v, const jargs *a) { return (void)a, letters(r, str(r, v), CAPITALIZE); }
static jval f_string(jrun *r, jval v, const jargs *a) { return (void)a, jinja_slice(str(r, v)); }
static jval f_replace(jrun *r, jval v, const jargs *a) { return replace(r, str(r, v), a); }
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
    const jval *d = arg(a, 0, "default_value"), *b = arg(a, 1, "boolean");
    (void)r;
    if (v.kind != J_UNDEFINED && !(b && jinja_truth(*b) && !jinja_truth(v))) return v;
    return d ? *d : jinja_slice((mm_slice){ "", 0 });
}

static jval f_tojson(jrun *r, jval v, const jargs *a)
{
    mm_buf b = { 0 };
    const jval *indent = arg(a, 0, "indent");
    for (size_t i = 0; i < a->n; i++)
        if (a->name[i].len && !jinja_is(a->name[i], "indent") && !(jinja_is(a->name[i], "ensure_ascii") && !jinja_truth(a->v[i])))
            return jinja_fail(r, MM_EUNSUP, "tojson with '%.*s' is not supported", (int)a->name[i].len, a->name[i].p);
    int n = -1;
    if (indent && indent->kind != J_NONE) {
        if (!is_int(*indent) || indent->u.i < 0 || indent->u.i > 16) return jinja_fail(r, MM_EUNSUP, "tojson with this indent is not supported");
        n = (int)indent->u.i;
    }
    jinja_json(r, &b, v, n, 0);
    return jinja_take(r, &b);
}

static jval f_join(jrun *r, jval v, const jargs *a)
{
    const jlist *l = items(r, v);
    const mm_slice by = str_arg(r, a, 0, "d", "");
    mm_buf b = { 0 };
    if (arg(a, 1, "attribute")) return jinja_fail(r, MM_EUNSUP, "join with 'attribute' is not supported");
    for (size_t i = 0; i < l->n && !r->failed; i++) {
        if (i) mm_buf_add(&b, by.p, by.len);
        jinja_write(r, &b, l->v[i], 0);
    }
    return jinja_take(r, &b);
}

static jval f_first(jrun *r, jval v, const jargs *a)
{
    const jlist *l = items(r, v);
    (void)a;
    return l->n ? l->v[0] : jinja_undefined((mm_slice){ "first", 5 });
}

static jval f_last(jrun *r, jval v, const jargs *a)
{
    const jlist *l = items(r, v);
    (void)a;
    return l->n ? l->v[l->n - 1] : jinja_undefined((mm_slice){ "last", 4 });
}

static jval f_list(jrun *r, jval v, const jargs *a) { return (void)a, v = jinja_items(r, v), v.tuple = 0, v; }

static jval f_reverse(jrun *r, jval v, const jargs *a)
{
    const jlist *l = items(r, v);
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
    const jval *d = arg(a, 0, "default");
    double x;
    (void)r;
    if (is_int(v)) return jinja_int(v.u.i);
    if (v.kind == J_FLOAT && fabs(v.u.f) < 9e18) return jinja_int((int64_t)v.u.f);
    if (v.kind == J_STR) {
        const mm_slice s = strip(r, v.u.s, &(jargs){ 0 }, 1, 1).u.s;
        if (s.len && mm_parse_double(s.p, s.len, &x) == s.len && fabs(x) < 9e15) return jinja_int((int64_t)x);
    }
    return d ? *d : jinja_int(0);
}

static jval f_float(jrun *r, jval v, const jargs *a)
{
    const jval *d = arg(a, 0, "default");
    double x;
    if (is_int(v)) return (jval){ .kind = J_FLOAT, .u.f = (double)v.u.i };
    if (v.kind == J_FLOAT) return v;
    if (v.kind == J_STR) {
        const mm_slice s = strip(r, v.u.s, &(jargs){ 0 }, 1, 1).u.s;
        if (s.len && mm_parse_double(s.p, s.len, &x) == s.len) return (jval){ .kind = J_FLOAT, .u.f = x };
    }
    return d ? *d : (jval){ .kind = J_FLOAT };
}

static jval f_abs(jrun *r, jval v, const jargs *a)
{
    (void)a;
    if (v.kind == J_FLOAT) return (jval){ .kind = J_FLOAT, .u.f = fabs(v.u.f) };
    return is_int(v) && v.u.i > INT64_MIN ? jinja_int(v.u.i < 0 ? -v.u.i : v.u.i) : jinja_fail(r, MM_EDATA, "abs of a %s", jinja_type(v));
}

static jval pairs(jrun *r, const jdict *d)
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
    return v.kind == J_DICT ? pairs(r, v.u.dict) : jinja_fail(r, MM_EDATA, "items of a %s", jinja_type(v));
}

/* Insertion sort: stable, and templates sort a handful. by: 0 the item itself, 1 its first part. */
static jval sorted(jrun *r, jval v, int by, int down)
{
    const jlist *l = items(r, v);
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
        if (v.u.dict->key[i].kind == J_STR && letters(r, v.u.dict->key[i].u.s, LOWER).u.s.len &&
            !jinja_equal(letters(r, v.u.dict->key[i].u.s, LOWER), v.u.dict->key[i]))
            return jinja_fail(r, MM_EUNSUP, "dictsort of keys with capitals is not supported");
    return sorted(r, pairs(r, v.u.dict), 1, 0);
}

static jval f_sort(jrun *r, jval v, const jargs *a)
{
    const jval *down = arg(a, 0, "reverse");
    if (a->n > 1 || (a->n == 1 && !down)) return jinja_fail(r, MM_EUNSUP, "sort with these arguments is not supported");
    const jlist *l = items(r, v);
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].kind == J_STR && !jinja_equal(letters(r, l->v[i].u.s, LOWER), l->v[i]))
            return jinja_fail(r, MM_EUNSUP, "sort of texts with capitals is not supported");
    return sorted(r, v, 0, down && jinja_truth(*down));
}

static jval f_unique(jrun *r, jval v, const jargs *a)
{
    const jlist *l = items(r, v);
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
    const mm_slice s = str(r, v);
    const jval *w = arg(a, 0, "width"), *first = arg(a, 1, "first"), *all = arg(a, 2, "blank");
    mm_buf pad = { 0 }, b = { 0 };
    if (w && w->kind == J_STR) mm_buf_add(&pad, w->u.s.p, w->u.s.len);
    else
        for (int64_t i = 0; i < (w && is_int(*w) ? w->u.i : 4) && i < 1000; i++) mm_buf_addc(&pad, ' ');
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
    const jlist *l = items(r, v);
    jval out = jinja_list(r, l->n, 0);
    const mm_slice attr = by ? str_arg(r, a, 0, "attribute", NULL) : (mm_slice){ 0 };
    const size_t at = (size_t)by;
    const mm_slice test = a->n > at ? str_arg(r, a, at, "test", NULL) : (mm_slice){ 0 };
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
    const jlist *l = items(r, v);
    jval out = jinja_list(r, l->n, 0);
    const jval *attr = arg(a, SIZE_MAX, "attribute"), *dflt = arg(a, SIZE_MAX, "default");
    const mm_slice name = attr ? str_arg(r, a, SIZE_MAX, "attribute", NULL) : str_arg(r, a, 0, "filter", NULL);
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
    const jlist *l = items(r, in);
    for (size_t i = 0; i < l->n; i++)
        if (jinja_equal(l->v[i], v)) return 1;
    return 0;
}

int jinja_test(jrun *r, mm_slice name, jval v, const jargs *a)
{
    const jval *other = arg(a, 0, NULL);
    int is = -1;
    for (size_t i = 0; i < N(test_table) && is < 0; i++)
        if (jinja_is(name, test_table[i].name)) is = test_table[i].is;
    if (is >= IS_DIVISIBLE && is <= IS_IN && !other) return jinja_fail(r, MM_EDATA, "test '%.*s' wants a value", (int)name.len, name.p), 0;
    if ((is == IS_ODD || is == IS_EVEN || is == IS_DIVISIBLE) && !is_int(v))
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
        if (!is_int(*other) || !other->u.i) return jinja_fail(r, MM_EDATA, "divisibleby wants a number that is not 0"), 0;
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
        if (!is_int(a->v[i]) || a->v[i].u.i > 1 << 30 || a->v[i].u.i < -(1 << 30))
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
    const mm_slice f = str_arg(r, a, 0, "format", NULL);
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
    const mm_slice s = a->n ? str(r, a->v[0]) : (mm_slice){ "an exception", 12 };
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

static jval dict_method(jrun *r, const jdict *d, mm_slice name, const jargs *a)
{
    if (jinja_is(name, "items")) return pairs(r, d);
    if (jinja_is(name, "get")) {
        const jval *key = arg(a, 0, "key"), *dflt = arg(a, 1, "default");
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
    if (jinja_is(name, "strip")) return strip(r, s, a, 1, 1);
    if (jinja_is(name, "lstrip")) return strip(r, s, a, 1, 0);
    if (jinja_is(name, "rstrip")) return strip(r, s, a, 0, 1);
    if (jinja_is(name, "upper")) return letters(r, s, UPPER);
    if (jinja_is(name, "lower")) return letters(r, s, LOWER);
    if (jinja_is(name, "title")) return letters(r, s, TITLE);
    if (jinja_is(name, "capitalize")) return letters(r, s, CAPITALIZE);
    if (jinja_is(name, "replace")) return replace(r, s, a);
    if (jinja_is(name, "split")) return split(r, s, a, 0);
    if (jinja_is(name, "rsplit")) return split(r, s, a, 1);
    if (jinja_is(name, "startswith")) return jinja_bool(affix(r, s, a, 0));
    if (jinja_is(name, "endswith")) return jinja_bool(affix(r, s, a, 1));
    if (jinja_is(name, "find")) {
        const mm_slice what = str_arg(r, a, 0, "sub", NULL);
        const char *p = what.len > s.len ? NULL : what.len ? memmem(s.p, s.len, what.p, what.len) : s.p;
        if (a->n > 1) return jinja_fail(r, MM_EUNSUP, "find with a place is not supported");
        return jinja_int(p ? (int64_t)jinja_chars((mm_slice){ s.p, (size_t)(p - s.p) }) : -1);
    }
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < '0' || s.p[i] > '9') return jinja_bool(0);
    return jinja_bool(s.len > 0);
}

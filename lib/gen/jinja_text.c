/* Texts, and the arguments of calls: what filters and methods have in common. */
#include <string.h>
#include <utf8proc.h>
#include "base/mm_str.h"
#include "gen/jinja_int.h"

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
    if (s.len < 3) return 0;
    const char *p = at_end ? s.p + s.len - 3 : s.p; /* U+2000 to U+200A */
    return !memcmp(p, "\xE2\x80", 2) && (unsigned char)p[2] <= 0x8A ? 3 : 0;
}

const jval *jinja_arg(const jargs *a, size_t i, const char *name)
{
    if (i < a->n && !a->name[i].len) return &a->v[i];
    for (size_t k = 0; k < a->n && name; k++)
        if (jinja_is(a->name[k], name)) return &a->v[k];
    return NULL;
}

mm_slice jinja_text(jrun *r, jval v)
{
    if (v.kind == J_STR) return v.u.s;
    mm_buf b = { 0 };
    jinja_write(r, &b, v, 0);
    v = jinja_take(r, &b);
    return v.kind == J_STR ? v.u.s : (mm_slice){ "", 0 };
}

mm_slice jinja_text_arg(jrun *r, const jargs *a, size_t i, const char *name, const char *dflt)
{
    const jval *v = jinja_arg(a, i, name);
    if (v && v->kind == J_STR) return v->u.s;
    if (v || !dflt) jinja_fail(r, MM_EDATA, "argument '%s' is no string", name);
    return (mm_slice){ dflt ? dflt : "", dflt ? strlen(dflt) : 0 };
}

jlist *jinja_item_list(jrun *r, jval v)
{
    static jlist none;
    v = jinja_items(r, v);
    return v.kind == J_LIST ? (jlist *)(uintptr_t)v.u.list : &none;
}

/* ---- texts ---- */

jval jinja_strip(jrun *r, mm_slice s, const jargs *a, int left, int right)
{
    const jval *v = jinja_arg(a, 0, "chars");
    mm_slice set = { 0 };
    if (v && v->kind != J_NONE) {
        set = jinja_text_arg(r, a, 0, "chars", NULL);
        for (size_t i = 0; i < set.len; i++)
            if ((unsigned char)set.p[i] >= 0x80) return jinja_fail(r, MM_EUNSUP, "strip of characters that are not ASCII is not supported");
    }
    for (size_t n; left && s.len && (n = set.p ? memchr(set.p, s.p[0], set.len) != NULL : blank(s, 0));) s.p += n, s.len -= n;
    for (size_t n; right && s.len && (n = set.p ? memchr(set.p, s.p[s.len - 1], set.len) != NULL : blank(s, 1));) s.len -= n;
    return jinja_slice(s);
}

/* One character in upper or lower case; -1: it becomes several, or that depends on its neighbours. */
static int32_t in_case(uint32_t cp, int up)
{
    const utf8proc_int32_t c = (utf8proc_int32_t)cp, other = up ? utf8proc_toupper(c) : utf8proc_tolower(c);
    const utf8proc_category_t k = utf8proc_category(c);
    if (cp < 0x80) return other;
    if (k == UTF8PROC_CATEGORY_LT || (up && cp == 0xDF) || (up && k == UTF8PROC_CATEGORY_LL && other == c) || (!up && (cp == 0x130 || cp == 0x3A3))) return -1;
    return other;
}

jval jinja_letters(jrun *r, mm_slice s, int how)
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

jval jinja_replace(jrun *r, mm_slice s, const jargs *a)
{
    const mm_slice from = jinja_text_arg(r, a, 0, "old", NULL), to = jinja_text_arg(r, a, 1, "new", NULL);
    const jval *most = jinja_arg(a, 2, "count");
    int64_t left = most && jinja_is_int(*most) && most->u.i >= 0 ? most->u.i : INT64_MAX;
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

/* Python's jinja_split(): by white space, or by a separator; most < 0: no limit. */
jval jinja_split(jrun *r, mm_slice s, const jargs *a, int from_right)
{
    const jval *sep = jinja_arg(a, 0, "sep"), *max = jinja_arg(a, 1, "maxsplit");
    const int64_t most = max && jinja_is_int(*max) && max->u.i >= 0 ? max->u.i : INT64_MAX;
    const int by_space = !sep || sep->kind == J_NONE;
    const mm_slice by = by_space ? (mm_slice){ " ", 1 } : jinja_text_arg(r, a, 0, "sep", NULL);
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

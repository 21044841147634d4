/* BERT's normaliser and word splitter. The order is the reference's: clean, set Chinese characters apart, decompose
 * and drop accents, lower-case. ASCII takes a table; everything else goes through utf8proc, corrected by
 * bert_unicode.h. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "base/mm_str.h"
#include "token/bert_unicode.h"
#include "token/token_int.h"
#include "token/unicode_late.h"

#define IN(table, cp) in(table, sizeof table / sizeof *table, cp)

static int in(const range *r, size_t count, uint32_t cp)
{
    size_t lo = 0, n = count;
    while (lo < n) {
        size_t mid = (lo + n) / 2;
        if (cp > r[mid].hi) lo = mid + 1;
        else n = mid;
    }
    return lo < count && cp >= r[lo].lo;
}

static utf8proc_category_t category(uint32_t cp) { return utf8proc_category((utf8proc_int32_t)cp); }

/* White_Space of Unicode, which is what Rust's char::is_whitespace tells */
static int is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static int is_dropped(uint32_t c)
{
    if (c == 0 || c == 0xFFFD) return 1;
    if (c == '\t' || c == '\n' || c == '\r') return 0;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CO: return 1;
    case UTF8PROC_CATEGORY_CF: return !IN(not_control, c);
    default: return 0;
    }
}

static int is_chinese(uint32_t c)
{
    /* the reference has 2B920 where the block begins at 2B820; ids follow the reference */
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static int is_punct(uint32_t c)
{
    if (c < 128)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    utf8proc_category_t k = category(c);
    if (k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO) return !IN(not_punct, c);
    return IN(more_punct, c);
}

static int is_mark(uint32_t c)
{
    if (c < 0x300) return 0;
    return category(c) == UTF8PROC_CATEGORY_MN ? !IN(not_mark, c) : IN(more_mark, c);
}

int tok_category(uint32_t c)
{
    utf8proc_category_t k = category(c);
    if (k != UTF8PROC_CATEGORY_CN) return (int)k;
    size_t lo = 0, n = sizeof unicode_late / sizeof *unicode_late;
    while (lo < n) {
        size_t mid = (lo + n) / 2;
        if (c > unicode_late[mid].hi) lo = mid + 1;
        else n = mid;
    }
    return lo < sizeof unicode_late / sizeof *unicode_late && c >= unicode_late[lo].lo ? unicode_late[lo].cat
                                                                                       : UTF8PROC_CATEGORY_CN;
}

int tok_is_word(uint32_t c)
{
    if (c == 0x200C || c == 0x200D) return 1;
    /* letters in circles and squares are symbols, but alphabetic (Unicode's Other_Alphabetic) */
    if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
        (c >= 0x1F170 && c <= 0x1F189))
        return 1;
    int k = tok_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ND) || k == UTF8PROC_CATEGORY_NL ||
           k == UTF8PROC_CATEGORY_PC;
}

int tok_class(const char *s, size_t len, int *n)
{
    uint32_t c;
    *n = mm_utf8_get(s, len, &c);
    return is_space(c) ? 1 : is_punct(c) ? 2 : 0;
}

/* ---- output ---- */

typedef struct {
    mm_tok_out *o;
    int spans;
} sink;

static int put(sink *k, const char *s, size_t n, uint32_t from, uint32_t to)
{
    mm_tok_out *o = k->o;
    if (k->spans) {
        if (2 * (o->norm.len + n) > o->at_cap) {
            size_t cap = 4 * (o->norm.len + n) + 256;
            uint32_t *p = mm_realloc(o->at, cap, sizeof *p);
            if (!p) return MM_ENOMEM;
            o->at = p;
            o->at_cap = cap;
        }
        for (size_t i = 0; i < n; i++) {
            o->at[2 * (o->norm.len + i)] = from;
            o->at[2 * (o->norm.len + i) + 1] = to;
        }
    }
    return mm_buf_add(&o->norm, s, n);
}

static int put_char(const mm_tok *t, sink *k, uint32_t c, uint32_t from, uint32_t to)
{
    char u[4];
    if (t->lower) {
        if (c == 0x130) { /* the only character whose lower case is two */
            int r = put(k, "i\xCC\x87", 3, from, to);
            return r;
        }
        uint32_t l = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        if (l == c)
            for (size_t i = 0; i < sizeof more_lower / sizeof *more_lower; i++)
                if (c >= more_lower[i].lo && c <= more_lower[i].hi &&
                    (c - more_lower[i].lo) % more_lower[i].step == 0)
                    l = (uint32_t)((int32_t)c + more_lower[i].delta);
        c = l;
    }
    return put(k, u, (size_t)mm_utf8_put(c, u), from, to);
}

/* A run of characters waiting for canonical ordering: marks may only be exchanged with their neighbours, so that a
 * run ends where a character of combining class 0 comes. */
typedef struct {
    uint32_t c, from, to;
    int ccc;
} pending;

typedef struct {
    pending *p;
    size_t n, cap;
    pending small[32];
} run;

static int flush(const mm_tok *t, sink *k, run *r)
{
    /* insertion sort: stable, and runs are a few characters long */
    for (size_t i = 1; i < r->n; i++) {
        pending x = r->p[i];
        size_t j = i;
        for (; j > 0 && x.ccc && r->p[j - 1].ccc > x.ccc; j--) r->p[j] = r->p[j - 1];
        r->p[j] = x;
    }
    int err = 0;
    for (size_t i = 0; i < r->n && !err; i++)
        if (!is_mark(r->p[i].c)) err = put_char(t, k, r->p[i].c, r->p[i].from, r->p[i].to);
    r->n = 0;
    return err;
}

static int push(const mm_tok *t, sink *k, run *r, uint32_t c, uint32_t from, uint32_t to)
{
    int ccc = (int)utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
    if (!ccc) {
        int e = flush(t, k, r);
        if (e) return e;
    }
    if (r->n == r->cap) {
        size_t cap = 2 * r->cap;
        pending *p = mm_realloc(r->p == r->small ? NULL : r->p, cap, sizeof *p);
        if (!p) return MM_ENOMEM;
        if (r->p == r->small) memcpy(p, r->small, sizeof r->small);
        r->p = p;
        r->cap = cap;
    }
    r->p[r->n++] = (pending){ c, from, to, ccc };
    return 0;
}

static int decompose(const mm_tok *t, sink *k, run *r, uint32_t c, uint32_t from, uint32_t to)
{
    utf8proc_int32_t d[32];
    int last = 0, e = 0;
    if (c < 0xC0) return push(t, k, r, c, from, to);
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, d, 32, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &last);
    if (n < 0 || n > 32) return push(t, k, r, c, from, to);
    for (utf8proc_ssize_t i = 0; i < n && !e; i++) e = push(t, k, r, (uint32_t)d[i], from, to);
    return e;
}

/* What becomes of an ASCII byte: itself, lower case, a space, or 0 (dropped). */
static char ascii(const mm_tok *t, unsigned char c)
{
    if (t->clean && c < 32) return c == '\t' || c == '\n' || c == '\r' ? ' ' : 0;
    if (t->clean && c == 127) return 0;
    return t->lower && c >= 'A' && c <= 'Z' ? (char)(c + 32) : (char)c;
}

int tok_normalize(const mm_tok *t, const char *s, size_t len, uint32_t base, int spans, mm_tok_out *out)
{
    sink k = { out, spans };
    run r = { .n = 0, .cap = 32 };
    r.p = r.small;
    int e = 0;
    for (size_t i = 0; i < len && !e;) {
        unsigned char b = (unsigned char)s[i];
        uint32_t from = base + (uint32_t)i, c;
        if (b < 128) {
            if (r.n && (e = flush(t, &k, &r))) break;
            size_t j = i;
            if (!spans) { /* a whole run of ASCII at once */
                while (j < len && (unsigned char)s[j] < 128) j++;
                if ((e = mm_buf_reserve(&out->norm, j - i))) break;
                char *o = out->norm.p + out->norm.len;
                for (; i < j; i++) {
                    char a = ascii(t, (unsigned char)s[i]);
                    *o = a;
                    o += a != 0 || !t->clean;
                }
                out->norm.len = (size_t)(o - out->norm.p);
                *o = 0;
            } else {
                char a = ascii(t, b);
                if (a || !t->clean) e = put(&k, &a, 1, from, from + 1);
                i++;
            }
            /* the last letter may get an accent, but accents are dropped or, without stripping, kept as they are:
             * ASCII never changes by what follows */
            continue;
        }
        int n = mm_utf8_get(s + i, len - i, &c);
        uint32_t to = from + (uint32_t)n;
        i += (size_t)n;
        if (t->clean) {
            if (is_dropped(c)) continue;
            if (is_space(c)) c = ' ';
        }
        int cjk = t->chinese && is_chinese(c);
        if (!t->strip) {
            if (cjk) e = put(&k, " ", 1, from, to);
            if (!e) e = put_char(t, &k, c, from, to);
            if (cjk && !e) e = put(&k, " ", 1, from, to);
            continue;
        }
        if (cjk) e = push(t, &k, &r, ' ', from, to);
        if (!e) e = decompose(t, &k, &r, c, from, to);
        if (cjk && !e) e = push(t, &k, &r, ' ', from, to);
    }
    if (!e) e = flush(t, &k, &r);
    if (r.p != r.small) free(r.p);
    return e;
}

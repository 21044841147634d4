/* What CLIP's own tokenizer does to a text before anything else: character references of HTML are resolved, and what editors and
 * encodings do to plain text is undone. The rules are those of ftfy 6 (fix_text) and Python's html.unescape; not among them is the search for
 * text that was decoded as the wrong encoding. See openai/CLIP, simple_tokenizer.py (basic_clean) and open_clip, tokenizer.py. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "base/mm_str.h"
#include "token/token_int.h"

/* Windows-1252 from 0x80 on, where it differs from Latin-1; 0: as it is */
static const uint16_t cp1252[32] = { 0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
                                     0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
                                     0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178 };

static const struct entity {
    const char *name;
    uint32_t c;
    int bare; /* read without a semicolon */
} entities[] = {
#include "token/web_entities.h"
};

static int by_name(const void *key, const void *e) { return strcmp(key, ((const struct entity *)e)->name); }

static const struct entity *entity_of(const char *s, size_t n)
{
    char name[16];
    if (n >= sizeof name) return NULL;
    memcpy(name, s, n);
    name[n] = 0;
    return bsearch(name, entities, sizeof entities / sizeof *entities, sizeof *entities, by_name);
}

static int alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* "&#8217;" and "&#x2019;": length, 0: none. *c 0: the reference stands for nothing. */
static size_t number(const char *s, size_t n, int strict, uint32_t *c)
{
    int hex = n > 2 && (s[2] == 'x' || s[2] == 'X');
    size_t i = hex ? 3 : 2, first = i;
    uint64_t v = 0;
    for (; i < n; i++) {
        int d = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : hex && ((s[i] | 32) >= 'a' && (s[i] | 32) <= 'f') ? (s[i] | 32) - 'a' + 10 : -1;
        if (d < 0) break;
        if (v < 0x110000) v = v * (hex ? 16 : 10) + (uint64_t)d;
    }
    if (i == first) return 0;
    int semicolon = i < n && s[i] == ';';
    if (strict && (!semicolon || i - 1 > 24)) return 0;
    *c = v == 0 || v > 0x10FFFF || (v >= 0xD800 && v < 0xE000) ? 0xFFFD : (uint32_t)v;
    if (v >= 0x80 && v < 0xA0) *c = cp1252[v - 0x80] ? cp1252[v - 0x80] : (uint32_t)v;
    else if ((v > 0 && v < 9) || v == 0xB || (v >= 0xE && v < 0x20) || (v >= 0x7F && v < 0xA0) || (v >= 0xFDD0 && v < 0xFDF0) ||
             ((v & 0xFFFE) == 0xFFFE && v <= 0x10FFFF))
        *c = 0;
    return i + (size_t)semicolon;
}

/* A reference at s: its length and character, 0: none. strict: with its semicolon only. */
static size_t reference(const char *s, size_t n, int strict, uint32_t *c)
{
    if (n < 3) return 0;
    if (s[1] == '#') return number(s, n, strict, c);
    size_t i = 1;
    while (i < n && i < 33 && alnum(s[i])) i++;
    const struct entity *e = i < n && s[i] == ';' ? entity_of(s + 1, i - 1) : NULL;
    if (e) return *c = e->c, i + 1;
    for (; !strict && i > 2; i--)
        if ((e = entity_of(s + 1, i - 1)) && e->bare) return *c = e->c, i;
    return 0;
}

static int put_char(txt *out, uint32_t c, uint32_t from, uint32_t to)
{
    utf8proc_uint8_t u[4];
    utf8proc_ssize_t n = c ? utf8proc_encode_char((utf8proc_int32_t)c, u) : 0;
    return n > 0 ? tok_text_put(out, (const char *)u, (size_t)n, from, to) : 0;
}

static int unescape(const view *in, txt *out, int strict)
{
    size_t start = 0;
    for (size_t i = 0; i < in->len;) {
        uint32_t c;
        size_t n = in->s[i] == '&' ? reference(in->s + i, in->len - i, strict, &c) : 0;
        if (!n) {
            i++;
            continue;
        }
        if (tok_text_copy(out, in, start, i) || put_char(out, c, src_from(in, i), src_to(in, i + n - 1))) return MM_ENOMEM;
        start = i += n;
    }
    return tok_text_copy(out, in, start, in->len);
}

/* ESC [ 3 6 ; 4 4 m */
static size_t terminal_escape(const char *s, size_t n)
{
    size_t i = 2;
    if (n < 3 || s[0] != 27 || s[1] != '[') return 0;
    while (i < n && ((s[i] >= '0' && s[i] <= '9') || s[i] == ';')) i++;
    return i < n && ((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') ? i + 1 : 0;
}

static const char *ligature(uint32_t c)
{
    static const char *const latin[] = { "D\xC5\xBD", "D\xC5\xBE", "d\xC5\xBE", "LJ", "Lj", "lj", "NJ", "Nj", "nj" }, /* U+01C4.. */
        *const f[] = { "ff", "fi", "fl", "ffi", "ffl", "\xC5\xBFt", "st" };                                            /* U+FB00.. */
    if (c == 0x132) return "IJ";
    if (c == 0x133) return "ij";
    if (c == 0x149) return "\xCA\xBCn";
    if (c >= 0x1F1 && c <= 0x1F3) return c == 0x1F1 ? "DZ" : c == 0x1F2 ? "Dz" : "dz";
    if (c >= 0x1C4 && c <= 0x1CC) return latin[c - 0x1C4];
    return c >= 0xFB00 && c <= 0xFB06 ? f[c - 0xFB00] : NULL;
}

static int dropped(uint32_t c)
{
    return c < 9 || c == 0xB || (c >= 0xE && c < 0x20) || c == 0x7F || (c >= 0x206A && c < 0x2070) || c == 0xFEFF || (c >= 0xFFF9 && c < 0xFFFD);
}

/* Python's lower() gives a sigma its final form where a letter with case stands before it and none behind it. */
static int cased(uint32_t c)
{
    int k = tok_uni_category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static int ignorable(uint32_t c)
{
    int k = tok_uni_category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM ||
           k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x2019 || c == 0x2024 || c == 0x2027;
}

static int final_sigma(const view *in, size_t i, size_t n)
{
    uint32_t c;
    size_t k = i, len;
    int before = 0;
    while (k > 0 && !before) {
        do k--;
        while (k > 0 && ((unsigned char)in->s[k] & 0xC0) == 0x80);
        mm_utf8_get(in->s + k, in->len - k, &c);
        if (cased(c)) before = 1;
        else if (!ignorable(c)) return 0;
    }
    for (k = i + n; before && k < in->len; k += len) {
        len = (size_t)mm_utf8_get(in->s + k, in->len - k, &c);
        if (cased(c)) return 0;
        if (!ignorable(c)) return 1;
    }
    return before;
}

static int plain(const view *in, txt *out)
{
    int e = 0;
    for (size_t i = 0, n; i < in->len && !e; i += n) {
        uint32_t c, from = src_from(in, i), to;
        n = (size_t)mm_utf8_get(in->s + i, in->len - i, &c);
        to = src_to(in, i + n - 1);
        if (c < 0x80) {
            size_t esc = c == 27 ? terminal_escape(in->s + i, in->len - i) : 0;
            if (esc) n = esc;
            else if (c == '\r' && i + 1 < in->len && in->s[i + 1] == '\n') continue;
            else if (c == '\r') e = tok_text_put(out, "\n", 1, from, to);
            else if (!dropped(c)) e = tok_text_put(out, in->s + i, 1, from, to);
            continue;
        }
        const char *s = ligature(c);
        char wide[16];
        if (c < 0xA0 && cp1252[c - 0x80]) c = cp1252[c - 0x80], s = NULL;
        if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) s = "'";
        else if (c >= 0x201C && c <= 0x201F) s = "\"";
        else if (c == 0x3000) s = " ";
        else if (c == 0x2028 || c == 0x2029) s = "\n";
        else if (c >= 0xFF01 && c < 0xFFF0) {
            /* the character of normal width */
            utf8proc_uint8_t u[5] = { 0 };
            utf8proc_uint8_t *to_free = NULL;
            utf8proc_ssize_t k = utf8proc_encode_char((utf8proc_int32_t)c, u);
            k = utf8proc_map(u, k, &to_free, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
            if (k > 0 && k < (utf8proc_ssize_t)sizeof wide) memcpy(wide, to_free, (size_t)k + 1), s = wide;
            free(to_free);
        }
        if (s) e = tok_text_put(out, s, strlen(s), from, to);
        else if (!dropped(c)) e = put_char(out, c, from, to);
    }
    return e;
}

static int sigmas(const view *in, txt *out)
{
    size_t start = 0;
    for (size_t i = 0; i + 1 < in->len; i++) {
        if (memcmp(in->s + i, "\xCE\xA3", 2) || !final_sigma(in, i, 2)) continue;
        if (tok_text_copy(out, in, start, i) || tok_text_put(out, "\xCF\x82", 2, src_from(in, i), src_to(in, i + 1))) return MM_ENOMEM;
        start = i + 2;
    }
    return tok_text_copy(out, in, start, in->len);
}

static view view_of(const txt *t) { return (view){ t->b.p ? t->b.p : "", t->b.len, t->spans ? t->at : NULL, 0 }; }

int tok_web(const view *in, txt *out)
{
    txt t[2] = { { .spans = out->spans }, { .spans = out->spans } };
    view v = *in;
    int e = 0, level = memchr(in->s, '<', in->len) ? 1 : 0; /* text with tags in it is not what ftfy resolves references in */
    for (; level < 3 && !e && memchr(v.s, '&', v.len); level++) {
        txt *to = &t[level & 1];
        mm_buf_reset(&to->b);
        if (!(e = unescape(&v, to, level == 0))) v = view_of(to);
    }
    int sigma = memmem(v.s, v.len, "\xCE\xA3", 2) != NULL;
    txt *to = sigma ? &t[level & 1] : out;
    if (sigma) mm_buf_reset(&to->b);
    if (!e) e = plain(&v, to);
    v = view_of(to);
    if (!e && sigma) e = sigmas(&v, out);
    for (int i = 0; i < 2; i++) {
        mm_buf_clear(&t[i].b);
        free(t[i].at);
    }
    return e;
}

int mm_tok_clean_web(mm_tok *t, mm_err *err)
{
    if (t->norms == MAX_STEPS) return mm_fail(err, MM_EUNSUP, "too many normalisers");
    memmove(t->norm + 1, t->norm, t->norms * sizeof *t->norm);
    t->norm[0] = (norm){ .op = NORM_WEB };
    t->norms++;
    return 0;
}

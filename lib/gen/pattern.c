/* Sets of characters and regular expressions, as terms over bytes. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/grammar_int.h"

#define LAST 0x10FFFFu
#define DEEPEST 100

/* ---- sets ---- */

void cset_add(cset *c, uint32_t from, uint32_t to)
{
    if (from > to || c->failed) return;
    if (c->n == c->cap) {
        const size_t cap = c->cap ? 2 * c->cap : 16;
        uint32_t(*r)[2] = mm_realloc(c->r, cap, sizeof *r);
        if (!r) {
            c->failed = 1;
            return;
        }
        c->r = r;
        c->cap = cap;
    }
    size_t i = c->n++;
    for (; i > 0 && c->r[i - 1][0] > from; i--) memcpy(c->r[i], c->r[i - 1], sizeof *c->r);
    c->r[i][0] = from;
    c->r[i][1] = to;
    size_t k = 0;
    for (i = 1; i < c->n; i++) /* what touches becomes one */
        if (c->r[i][0] <= c->r[k][1] + 1) {
            if (c->r[i][1] > c->r[k][1]) c->r[k][1] = c->r[i][1];
        } else memcpy(c->r[++k], c->r[i], sizeof *c->r);
    c->n = k + 1;
}

void cset_clear(cset *c)
{
    free(c->r);
    *c = (cset){ 0 };
}

void cset_invert(cset *c)
{
    cset out = { .failed = c->failed };
    uint32_t from = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->r[i][0] > from) cset_add(&out, from, c->r[i][0] - 1);
        from = c->r[i][1] + 1;
    }
    cset_add(&out, from, LAST);
    cset_clear(c);
    *c = out;
}

void cset_keep(cset *c, uint32_t from, uint32_t to)
{
    size_t k = 0;
    for (size_t i = 0; i < c->n; i++) {
        const uint32_t a = c->r[i][0] > from ? c->r[i][0] : from, b = c->r[i][1] < to ? c->r[i][1] : to;
        if (a > b) continue;
        c->r[k][0] = a;
        c->r[k++][1] = b;
    }
    c->n = k;
}

/* Characters from..to, which have UTF-8 of one length. */
static term same_length(mm_grammar *g, uint32_t from, uint32_t to)
{
    char low[4], high[4];
    const int n = mm_utf8_put(from, low);
    mm_utf8_put(to, high);
    return g_between(g, (const unsigned char *)low, (const unsigned char *)high, (size_t)n, 0x80, 0xBF);
}

term g_chars(mm_grammar *g, const cset *c)
{
    static const uint32_t part[][2] = { { 0, 0x7F }, { 0x80, 0x7FF }, { 0x800, 0xD7FF }, { 0xE000, 0xFFFF }, { 0x10000, LAST } };
    term t = NONE;
    if (c->failed) return g_fail(g, MM_ENOMEM, "out of memory");
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        for (size_t i = 0; i < c->n; i++) {
            const uint32_t from = c->r[i][0] > part[k][0] ? c->r[i][0] : part[k][0], to = c->r[i][1] < part[k][1] ? c->r[i][1] : part[k][1];
            if (from <= to) t = g_alt(g, t, same_length(g, from, to));
        }
    return t;
}

static int has(const cset *c, uint32_t cp)
{
    for (size_t i = 0; i < c->n; i++)
        if (cp >= c->r[i][0] && cp <= c->r[i][1]) return 1;
    return 0;
}

term g_json_chars(mm_grammar *g, const cset *c)
{
    static const struct {
        uint32_t cp;
        char c;
    } escape[] = { { '"', '"' },  { '\\', '\\' }, { '\b', 'b' }, { '\f', 'f' },
                   { '\n', 'n' }, { '\r', 'r' },  { '\t', 't' } };
    cset plain = { 0 };
    term t = NONE;
    for (size_t i = 0; i < c->n; i++) {
        const uint32_t from = c->r[i][0] < 0x20 ? 0x20 : c->r[i][0], to = c->r[i][1];
        if (from > to) continue;
        cset_add(&plain, from, to < '"' ? to : '"' - 1);
        cset_add(&plain, from > '"' ? from : '"' + 1, to < '\\' ? to : '\\' - 1);
        cset_add(&plain, from > '\\' ? from : '\\' + 1, to);
    }
    if (c->failed) plain.failed = 1;
    t = g_chars(g, &plain);
    cset_clear(&plain);
    for (size_t i = 0; i < sizeof escape / sizeof *escape; i++)
        if (has(c, escape[i].cp)) t = g_alt(g, t, g_seq(g, g_byte(g, '\\'), g_byte(g, (unsigned char)escape[i].c)));
    return t;
}

/* ---- regular expressions ---- */

typedef struct regex {
    mm_grammar *g;
    const char *s;
    size_t at, len;
    int depth;
} regex;

static term unknown(regex *x, const char *what)
{
    return g_fail(x->g, MM_EUNSUP, "pattern '%.*s': %s is not supported (byte %zu)", (int)(x->len > 80 ? 80 : x->len), x->s, what, x->at + 1);
}

static int peek(const regex *x) { return x->at < x->len ? (unsigned char)x->s[x->at] : -1; }
static int take(regex *x, char c) { return peek(x) == (unsigned char)c ? x->at++, 1 : 0; }

static term alternatives(regex *x, int top);

/* \d, \w, \s and their opposites. The opposites keep to ASCII where dialects differ about letters and digits of other scripts. */
static int class_escape(char c, cset *out)
{
    cset s = { 0 };
    switch (c | 32) {
    case 'd': cset_add(&s, '0', '9'); break;
    case 'w':
        cset_add(&s, '0', '9');
        cset_add(&s, 'A', 'Z');
        cset_add(&s, '_', '_');
        cset_add(&s, 'a', 'z');
        break;
    case 's':
        cset_add(&s, '\t', '\r');
        cset_add(&s, ' ', ' ');
        break;
    default: return 0;
    }
    if (c < 'a') {
        cset_invert(&s);
        cset_keep(&s, 0, 0x7E);
        if (c == 'S') cset_keep(&s, '!', 0x7E);
    }
    for (size_t i = 0; i < s.n; i++) cset_add(out, s.r[i][0], s.r[i][1]);
    out->failed |= s.failed;
    cset_clear(&s);
    return 1;
}

/* Behind a backslash: one character; -1: refused. */
static int64_t char_escape(regex *x)
{
    static const char from[] = "tnrfv0", to[] = "\t\n\r\f\v";
    const int c = peek(x);
    if (c < 0) return unknown(x, "a backslash at the end"), -1;
    x->at++;
    const char *at = memchr(from, c, sizeof from - 1);
    if (at) return *at == '0' ? 0 : to[at - from];
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    if (digits) {
        char hex[5] = { 0 }, *end;
        if (x->len - x->at < digits) return unknown(x, "a number that is cut"), -1;
        memcpy(hex, x->s + x->at, digits);
        const unsigned long cp = strtoul(hex, &end, 16);
        if (*end || hex[0] == '+' || hex[0] == '-' || (cp >= 0xD800 && cp < 0xE000)) return unknown(x, "this character's number"), -1;
        x->at += digits;
        return (int64_t)cp;
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80) return unknown(x, "this escape"), -1;
    return c;
}

/* One character or escape inside a class; *wide: it was a set, added already. -1: refused. */
static int64_t class_char(regex *x, cset *out, int *wide)
{
    uint32_t cp;
    *wide = 0;
    if (take(x, '\\')) {
        if (peek(x) >= 0 && class_escape((char)peek(x), out)) return x->at++, *wide = 1, 0;
        return take(x, 'b') ? '\b' : take(x, '-') ? '-' : char_escape(x);
    }
    x->at += (size_t)mm_utf8_get(x->s + x->at, x->len - x->at, &cp);
    return cp;
}

static term set_of(regex *x)
{
    cset c = { 0 };
    const int not = take(x, '^');
    int sets = 0, wide;
    while (peek(x) >= 0 && peek(x) != ']' && !x->g->failed) {
        const int64_t from = class_char(x, &c, &wide);
        int64_t to = from;
        sets |= wide;
        if (from < 0 || wide) continue;
        if (peek(x) == '-' && x->at + 1 < x->len && x->s[x->at + 1] != ']') {
            x->at++;
            to = class_char(x, &c, &wide);
            if (wide || to < from) unknown(x, "this range");
        }
        if (to >= from) cset_add(&c, (uint32_t)from, (uint32_t)to);
    }
    if (!take(x, ']') && !x->g->failed) unknown(x, "a class without end");
    if (not) cset_invert(&c);
    if (not && sets) cset_keep(&c, 0, 0x7E);
    const term t = g_json_chars(x->g, &c);
    cset_clear(&c);
    return t;
}

static term one(regex *x, uint32_t from, uint32_t to)
{
    cset c = { 0 };
    cset_add(&c, from, to);
    const term t = g_json_chars(x->g, &c);
    cset_clear(&c);
    return t;
}

static term dot(regex *x)
{
    cset c = { 0 };
    cset_add(&c, '\n', '\n');
    cset_add(&c, '\r', '\r');
    cset_add(&c, 0x85, 0x85);
    cset_add(&c, 0x2028, 0x2029);
    cset_invert(&c);
    const term t = g_json_chars(x->g, &c);
    cset_clear(&c);
    return t;
}

static term group(regex *x)
{
    if (take(x, '?') && !take(x, ':')) {
        const int name = take(x, '<') && peek(x) != '=' && peek(x) != '!';
        while (name && peek(x) >= 0 && peek(x) != '>') x->at++;
        if (!name || !take(x, '>')) return unknown(x, "looking ahead or behind");
    }
    const term t = alternatives(x, 0);
    return take(x, ')') || x->g->failed ? t : unknown(x, "a group without end");
}

static term atom(regex *x)
{
    uint32_t cp;
    cset c = { 0 };
    if (take(x, '(')) return group(x);
    if (take(x, '[')) return set_of(x);
    if (take(x, '.')) return dot(x);
    if (take(x, '\\')) {
        if (peek(x) >= 0 && class_escape((char)peek(x), &c)) {
            x->at++;
            const term t = g_json_chars(x->g, &c);
            cset_clear(&c);
            return t;
        }
        const int64_t e = char_escape(x);
        return e < 0 ? NONE : one(x, (uint32_t)e, (uint32_t)e);
    }
    if (strchr("^$*+?{", peek(x))) return unknown(x, peek(x) == '^' || peek(x) == '$' ? "an anchor in the middle" : "a repetition of nothing");
    x->at += (size_t)mm_utf8_get(x->s + x->at, x->len - x->at, &cp);
    return one(x, cp, cp);
}

/* "{2}", "{2,}", "{2,5}", behind the bracket: 1, or 0 when it is none */
static int counts(regex *x, uint32_t *min, uint32_t *max)
{
    size_t i = x->at;
    uint64_t n[2] = { 0, 0 };
    int k = 0, digits = 0;
    for (; i < x->len && x->s[i] != '}'; i++) {
        if (x->s[i] == ',' && !k && digits) k = 1, digits = 0;
        else if (x->s[i] >= '0' && x->s[i] <= '9' && n[k] < 1000000) n[k] = n[k] * 10 + (uint64_t)(x->s[i] - '0'), digits = 1;
        else return 0;
    }
    if (i >= x->len || (!k && !digits)) return 0;
    *min = (uint32_t)n[0];
    *max = !k ? *min : digits ? (uint32_t)n[1] : MANY;
    x->at = i + 1;
    return *min <= *max;
}

static term repeated(regex *x)
{
    const term t = atom(x);
    uint32_t min = 1, max = 1;
    if (take(x, '*')) min = 0, max = MANY;
    else if (take(x, '+')) max = MANY;
    else if (take(x, '?')) min = 0;
    else if (take(x, '{') && !counts(x, &min, &max)) return unknown(x, "this count");
    else return g_rep(x->g, t, min, max);
    take(x, '?'); /* as few as can be: the same texts */
    return g_rep(x->g, t, min, max);
}

/* top: what is not tied to an end may stand anywhere. */
static term alternatives(regex *x, int top)
{
    term all = NONE;
    if (x->depth++ > DEEPEST) return unknown(x, "this depth");
    do {
        cset any = { 0 };
        cset_add(&any, 0, LAST);
        const term rest = top ? g_rep(x->g, g_json_chars(x->g, &any), 0, MANY) : EMPTY;
        cset_clear(&any);
        term t = top && take(x, '^') ? EMPTY : rest;
        int end = 0;
        while (peek(x) >= 0 && peek(x) != '|' && peek(x) != ')' && !x->g->failed) {
            if (top && peek(x) == '$' && (x->at + 1 == x->len || x->s[x->at + 1] == '|')) {
                x->at++;
                end = 1;
                break;
            }
            t = g_seq(x->g, t, repeated(x));
        }
        all = g_alt(x->g, all, end ? t : g_seq(x->g, t, rest));
    } while (take(x, '|') && !x->g->failed);
    x->depth--;
    return all;
}

term g_pattern(mm_grammar *g, const char *s, size_t len)
{
    regex x = { .g = g, .s = s, .len = len };
    const term t = alternatives(&x, 1);
    return x.at < len && !g->failed ? unknown(&x, "a bracket without beginning") : t;
}

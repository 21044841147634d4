/* Grammars in llama.cpp's notation (GBNF): name ::= what, of "texts", [classes], names, ( groups ), |, * + ? {m,n}. A rule ends where the
 * next begins. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/grammar_int.h"

#define DEEPEST 100

typedef struct rule {
    mm_slice name;
    term t;
    int defined;
} rule;

typedef struct reader {
    mm_grammar *g;
    const char *s;
    size_t at, len, n, cap;
    rule *r;
    int depth;
} reader;

static term bad(reader *x, const char *what)
{
    int line = 1;
    for (size_t i = 0; i < x->at && i < x->len; i++) line += x->s[i] == '\n';
    return g_fail(x->g, MM_EDATA, "grammar: line %d: %s", line, what);
}

static int peek(const reader *x) { return x->at < x->len ? (unsigned char)x->s[x->at] : -1; }
static int take(reader *x, char c) { return peek(x) == (unsigned char)c ? x->at++, 1 : 0; }

static void blanks(reader *x)
{
    for (; peek(x) >= 0; x->at++) {
        if (peek(x) == '#')
            while (peek(x) >= 0 && peek(x) != '\n') x->at++;
        if (peek(x) < 0 || !strchr(" \t\r\n", peek(x))) return;
    }
}

static int in_name(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

static mm_slice name(reader *x)
{
    const size_t from = x->at;
    while (in_name(peek(x))) x->at++;
    return (mm_slice){ x->s + from, x->at - from };
}

static rule *rule_of(reader *x, mm_slice n)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->r[i].name.len == n.len && !memcmp(x->r[i].name.p, n.p, n.len)) return &x->r[i];
    if (x->n == x->cap) {
        const size_t cap = x->cap ? 2 * x->cap : 32;
        rule *r = mm_realloc(x->r, cap, sizeof *r);
        if (!r) return g_fail(x->g, MM_ENOMEM, "out of memory"), NULL;
        x->r = r;
        x->cap = cap;
    }
    x->r[x->n] = (rule){ n, g_ref(x->g), 0 };
    return &x->r[x->n++];
}

/* One character, with its escapes; -1: a failure. */
static int64_t character(reader *x)
{
    static const char from[] = "nrt\\\"[]-^.'", to[] = "\n\r\t\\\"[]-^.'";
    uint32_t cp;
    if (peek(x) < 0) return bad(x, "it ends in the middle of a text"), -1;
    if (!take(x, '\\')) {
        x->at += (size_t)mm_utf8_get(x->s + x->at, x->len - x->at, &cp);
        return cp;
    }
    const int c = peek(x);
    const char *at = c > 0 ? memchr(from, c, sizeof from - 1) : NULL;
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    char hex[9] = { 0 }, *end;
    if (at) return x->at++, to[at - from];
    if (!digits || x->len - x->at <= digits) return bad(x, "an escape that is not known"), -1;
    memcpy(hex, x->s + x->at + 1, digits);
    const unsigned long v = strtoul(hex, &end, 16);
    if (*end || hex[0] == '+' || hex[0] == '-' || v > 0x10FFFF) return bad(x, "a character's number that is none"), -1;
    x->at += 1 + digits;
    return (int64_t)v;
}

static term text(reader *x)
{
    term t = EMPTY;
    char utf8[4];
    mm_buf b = { 0 };
    while (peek(x) != '"' && !x->g->failed) {
        const int64_t c = character(x);
        if (c >= 0) mm_buf_add(&b, utf8, (size_t)mm_utf8_put((uint32_t)c, utf8));
    }
    take(x, '"');
    t = b.failed ? g_fail(x->g, MM_ENOMEM, "out of memory") : g_text(x->g, b.p, b.len);
    mm_buf_clear(&b);
    return t;
}

static term class(reader *x)
{
    cset c = { 0 };
    const int not = take(x, '^');
    while (peek(x) != ']' && !x->g->failed) {
        const int64_t from = character(x);
        int64_t to = from;
        if (peek(x) == '-' && x->at + 1 < x->len && x->s[x->at + 1] != ']') x->at++, to = character(x);
        if (from >= 0 && to < from) bad(x, "a range that runs backwards");
        if (from >= 0) cset_add(&c, (uint32_t)from, (uint32_t)to);
    }
    take(x, ']');
    if (not) cset_invert(&c);
    const term t = g_chars(x->g, &c);
    cset_clear(&c);
    return t;
}

static term alternatives(reader *x);

static term item(reader *x)
{
    if (take(x, '"')) return text(x);
    if (take(x, '[')) return class(x);
    if (take(x, '.')) {
        cset c = { 0 };
        cset_add(&c, 0, 0x10FFFF);
        const term t = g_chars(x->g, &c);
        cset_clear(&c);
        return t;
    }
    if (take(x, '(')) {
        const term t = alternatives(x);
        blanks(x);
        return take(x, ')') || x->g->failed ? t : bad(x, "a group without end");
    }
    const mm_slice n = name(x);
    if (!n.len) return bad(x, "something that is not understood");
    const rule *r = rule_of(x, n);
    return r ? r->t : NONE;
}

static uint32_t number(reader *x)
{
    uint32_t n = 0;
    if (peek(x) < '0' || peek(x) > '9') bad(x, "a count that is no number");
    for (; peek(x) >= '0' && peek(x) <= '9'; x->at++) {
        if (n < 100000000) n = n * 10 + (uint32_t)(peek(x) - '0');
    }
    return n;
}

static term repeated(reader *x)
{
    term t = item(x);
    for (;;) {
        blanks(x);
        if (take(x, '*')) t = g_rep(x->g, t, 0, MANY);
        else if (take(x, '+')) t = g_rep(x->g, t, 1, MANY);
        else if (take(x, '?')) t = g_rep(x->g, t, 0, 1);
        else if (take(x, '{')) {
            const uint32_t min = number(x), max = !take(x, ',') ? min : peek(x) == '}' ? MANY : number(x);
            if (!take(x, '}') || max < min) return bad(x, "a count that is none");
            t = g_rep(x->g, t, min, max);
        } else return t;
    }
}

/* At a name with ::= behind it: the next rule */
static int at_rule(reader *x)
{
    const size_t back = x->at;
    const int named = name(x).len > 0;
    while (named && (peek(x) == ' ' || peek(x) == '\t')) x->at++;
    const int yes = named && x->len - x->at >= 3 && !memcmp(x->s + x->at, "::=", 3);
    x->at = back;
    return yes;
}

static term alternatives(reader *x)
{
    term all = NONE;
    if (x->depth++ > DEEPEST) return bad(x, "groups are nested too deep");
    do {
        term t = EMPTY;
        for (blanks(x); peek(x) >= 0 && peek(x) != '|' && peek(x) != ')' && !x->g->failed && !at_rule(x); blanks(x)) t = g_seq(x->g, t, repeated(x));
        all = g_alt(x->g, all, t);
    } while (take(x, '|') && !x->g->failed);
    x->depth--;
    return all;
}

int mm_grammar_from_rules(mm_grammar **out, const char *s, size_t len, mm_err *err)
{
    reader x = { .g = grammar_new(), .s = s, .len = len };
    int r = MM_ENOMEM;
    *out = NULL;
    if (!x.g) return mm_fail(err, r, "out of memory");
    if (mm_utf8_valid(s, len) < len) bad(&x, "it is not valid UTF-8");
    for (blanks(&x); peek(&x) >= 0 && !x.g->failed; blanks(&x)) {
        if (!at_rule(&x)) {
            bad(&x, "a rule was expected: name ::= ...");
            break;
        }
        const mm_slice n = name(&x);
        rule *one = rule_of(&x, n);
        blanks(&x);
        x.at += 3;
        if (!one) break;
        if (one->defined) bad(&x, "a rule is there twice");
        one->defined = 1;
        const term ref = one->t; /* the table may move */
        g_define(x.g, ref, alternatives(&x));
        if (peek(&x) == ')') bad(&x, "a bracket without beginning");
    }
    term root = NONE;
    for (size_t i = 0; i < x.n && !x.g->failed; i++) {
        if (!x.r[i].defined) g_fail(x.g, MM_EDATA, "grammar: there is no rule '%.*s'", (int)x.r[i].name.len, x.r[i].name.p);
        if (x.r[i].name.len == 4 && !memcmp(x.r[i].name.p, "root", 4)) root = x.r[i].t;
    }
    if (root == NONE && !x.g->failed) g_fail(x.g, MM_EDATA, "grammar: there is no rule 'root'");
    r = grammar_finish(x.g, root, err);
    if (r) mm_grammar_close(&x.g);
    *out = x.g;
    free(x.r);
    return r;
}

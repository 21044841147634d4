/* A template into tokens. White space around tags goes as trim_blocks and lstrip_blocks say: the line feed behind a block or comment, the
 * blanks in front of one at the beginning of its line; "-" takes all white space on its side, "+" keeps it. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/jinja_int.h"

#define MAX_SOURCE ((size_t)1 << 20)

typedef struct lexer {
    mm_arena *arena;
    const char *s;
    size_t at, len, n, cap;
    int line, line_start;  /* line_start: the text in front of `at` ends with a line feed */
    jtoken *t;
    mm_err *err;
} lexer;

static int bad(lexer *l, const char *what) { return mm_fail(l->err, MM_EDATA, "chat template: line %d: %s", l->line, what); }

static int is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static int is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9'); }
static int is_digit(char c) { return c >= '0' && c <= '9'; }

static jtoken *put(lexer *l, tkind kind, const char *p, size_t len)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        jtoken *t = mm_arena_alloc(l->arena, cap, sizeof *t);
        if (!t) return NULL;
        if (l->n) memcpy(t, l->t, l->n * sizeof *t);
        l->t = t;
        l->cap = cap;
    }
    jtoken *t = &l->t[l->n++];
    *t = (jtoken){ .kind = kind, .line = l->line, .s = { p, len } };
    return t;
}

static void count_lines(lexer *l, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) l->line += l->s[i] == '\n';
}

static int no_memory(lexer *l) { return mm_fail(l->err, MM_ENOMEM, "out of memory"); }

static int string(lexer *l, char quote)
{
    const size_t start = l->at + 1;
    size_t end = start, n = 0;
    while (end < l->len && l->s[end] != quote) end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->len) return bad(l, "a string does not end");
    char *d = mm_arena_alloc(l->arena, end - start + 1, 1);
    if (!d) return no_memory(l);
    for (size_t i = start; i < end; i++) {
        if (l->s[i] != '\\') {
            d[n++] = l->s[i];
            continue;
        }
        const char c = l->s[++i];
        static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
        const char *at = memchr(from, c, sizeof from - 1);
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
        if (at) d[n++] = to[at - from];
        else if (digits && i + digits < end) {
            char hex[9] = { 0 }, *stop;
            memcpy(hex, l->s + i + 1, digits);
            const unsigned long cp = strtoul(hex, &stop, 16);
            if (*stop || !is_name(hex[0])) return bad(l, "a character's number is not hexadecimal");
            n += (size_t)mm_utf8_put((uint32_t)cp, d + n); /* never longer than what it stands for */
            i += digits;
        } else if (c == '\n') continue;
        else d[n++] = '\\', d[n++] = c; /* as Python has it */
    }
    if (!put(l, T_STR, d, n)) return no_memory(l);
    count_lines(l, l->at, end);
    l->at = end + 1;
    return 0;
}

static int number(lexer *l)
{
    size_t end = l->at;
    int real = 0;
    while (end < l->len && is_digit(l->s[end])) end++;
    if (end + 1 < l->len && l->s[end] == '.' && is_digit(l->s[end + 1])) {
        real = 1;
        for (end++; end < l->len && is_digit(l->s[end]);) end++;
    }
    if (end < l->len && (l->s[end] | 32) == 'e') {
        size_t e = end + 1;
        if (e < l->len && (l->s[e] == '+' || l->s[e] == '-')) e++;
        if (e < l->len && is_digit(l->s[e])) {
            real = 1;
            for (end = e; end < l->len && is_digit(l->s[end]);) end++;
        }
    }
    if ((end < l->len && is_name(l->s[end])) || end - l->at > 40) return bad(l, "a number is not understood");
    jtoken *t = put(l, real ? T_FLOAT : T_INT, l->s + l->at, end - l->at);
    if (!t) return no_memory(l);
    if (real) mm_parse_double(l->s + l->at, end - l->at, &t->f);
    for (size_t i = l->at; !real && i < end; i++)
        if (__builtin_mul_overflow(t->i, (int64_t)10, &t->i) ||
            __builtin_add_overflow(t->i, (int64_t)(l->s[i] - '0'), &t->i))
            return bad(l, "a number is too large");
    l->at = end;
    return 0;
}

/* Inside a tag, up to its end: close is "}}" or "%}". */
static int inside(lexer *l, const char *close, tkind end)
{
    static const char *const ops[] = { "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
                                       ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ",", ".", ":", "|" };
    int deep = 0;
    for (;;) {
        while (l->at < l->len && is_space(l->s[l->at])) l->line += l->s[l->at++] == '\n';
        const char *p = l->s + l->at;
        const size_t left = l->len - l->at;
        if (left < 2) return bad(l, "a tag does not end");
        const size_t sign = (*p == '-' || *p == '+') && left > 2 && !memcmp(p + 1, close, 2);
        if (sign || (!deep && !memcmp(p, close, 2))) {
            if (!put(l, end, p, sign + 2)) return no_memory(l);
            l->at += sign + 2;
            size_t from = l->at;
            if (*p == '-')
                while (l->at < l->len && is_space(l->s[l->at])) l->at++;
            else if (end == T_BLOCK_END && *p != '+' && l->at < l->len && l->s[l->at] == '\n') l->at++;
            count_lines(l, from, l->at);
            l->line_start = l->at > from && l->s[l->at - 1] == '\n';
            return 0;
        }
        int r = 0;
        size_t n = 0;
        if (*p == '\'' || *p == '"') r = string(l, *p);
        else if (is_digit(*p)) r = number(l);
        else if (is_name(*p)) {
            while (n < left && is_name(p[n])) n++;
            if (!put(l, T_NAME, p, n)) return no_memory(l);
            l->at += n;
        } else {
            for (size_t i = 0; i < sizeof ops / sizeof *ops && !n; i++)
                if (!strncmp(p, ops[i], strlen(ops[i]))) n = strlen(ops[i]);
            if (!n) return bad(l, "a character that belongs to no expression");
            if (!put(l, T_OP, p, n)) return no_memory(l);
            deep += (*p == '(' || *p == '[' || *p == '{') - (*p == ')' || *p == ']' || *p == '}');
            l->at += n;
        }
        if (r) return r;
    }
}

/* {% raw %}: up to {% endraw %} everything is text. 1: it was one. */
static int raw(lexer *l, mm_err *err)
{
    const char *p = l->s + l->at + 2, *end = l->s + l->len, *q;
    if (p < end && (*p == '-' || *p == '+')) p++;
    while (p < end && is_space(*p)) p++;
    if (end - p < 4 || memcmp(p, "raw", 3) || is_name(p[3])) return 0;
    for (p += 3; p < end && is_space(*p);) p++;
    const int trim = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (end - p < 2 || memcmp(p, "%}", 2)) return bad(l, "raw is not ended by %}");
    p += 2;
    if (trim)
        while (p < end && is_space(*p)) p++;
    else if (p < end && *p == '\n') p++;
    for (q = p; (q = memmem(q, (size_t)(end - q), "{%", 2)); q += 2) {
        const char *e = q + 2;
        const int back = e < end && *e == '-';
        if (e < end && (*e == '-' || *e == '+')) e++;
        while (e < end && is_space(*e)) e++;
        if (end - e < 6 || memcmp(e, "endraw", 6)) continue;
        for (e += 6; e < end && is_space(*e);) e++;
        const int forward = e < end && *e == '-';
        if (forward) e++;
        if (end - e < 2 || memcmp(e, "%}", 2)) continue;
        const char *stop = q;
        while (back && stop > p && is_space(stop[-1])) stop--;
        if (!put(l, T_TEXT, p, (size_t)(stop - p))) return mm_fail(err, MM_ENOMEM, "out of memory");
        size_t from = l->at;
        l->at = (size_t)(e + 2 - l->s);
        if (forward)
            while (l->at < l->len && is_space(l->s[l->at])) l->at++;
        else if (l->at < l->len && l->s[l->at] == '\n') l->at++;
        count_lines(l, from, l->at);
        l->line_start = l->s[l->at - 1] == '\n';
        return 1;
    }
    return bad(l, "raw has no endraw");
}

/* The text up to the next tag, and what of it stays. */
static int text(lexer *l)
{
    const size_t from = l->at;
    size_t end = from;
    while (end < l->len && !(l->s[end] == '{' && end + 1 < l->len && strchr("{%#", l->s[end + 1]))) end++;
    size_t keep = end;
    if (end < l->len) {
        const char kind = l->s[end + 1], sign = end + 2 < l->len ? l->s[end + 2] : 0;
        size_t start = end;
        while (start > from && l->s[start - 1] != '\n') start--;
        if (sign == '-')
            while (keep > from && is_space(l->s[keep - 1])) keep--;
        else if (kind != '{' && sign != '+' && (start > from || l->line_start)) {
            size_t i = start;
            while (i < end && is_space(l->s[i])) i++;
            if (i == end) keep = start;
        }
    }
    if (keep > from && !put(l, T_TEXT, l->s + from, keep - from)) return no_memory(l);
    count_lines(l, from, end);
    l->at = end;
    return 0;
}

int jinja_lex(mm_arena *arena, const char *s, size_t len, jtoken **out, mm_err *err)
{
    lexer l = { .arena = arena, .s = s, .len = len, .line = 1, .line_start = 1, .err = err };
    int r = 0;
    if (len > MAX_SOURCE) return bad(&l, "the template is longer than 1 MiB");
    if (mm_utf8_valid(s, len) < len || memchr(s, 0, len)) return bad(&l, "the template is not valid UTF-8");
    while (!r && l.at < l.len) {
        r = text(&l);
        if (r || l.at >= l.len) break;
        const char kind = l.s[l.at + 1];
        const size_t sign = l.at + 2 < l.len && (l.s[l.at + 2] == '-' || l.s[l.at + 2] == '+');
        if (kind == '#') {
            const char *e = memmem(l.s + l.at + 2, l.len - l.at - 2, "#}", 2);
            if (!e) return bad(&l, "a comment does not end");
            const size_t from = l.at;
            l.at = (size_t)(e - l.s) + 2;
            if (e[-1] == '-')
                while (l.at < l.len && is_space(l.s[l.at])) l.at++;
            else if (e[-1] != '+' && l.at < l.len && l.s[l.at] == '\n') l.at++;
            count_lines(&l, from, l.at);
            l.line_start = l.s[l.at - 1] == '\n';
            continue;
        }
        if (kind == '%' && (r = raw(&l, err))) {
            r = r < 0 ? r : 0;
            continue;
        }
        if (!put(&l, kind == '%' ? T_BLOCK : T_VAR, l.s + l.at, 2)) return no_memory(&l);
        l.at += 2 + sign;
        r = kind == '%' ? inside(&l, "%}", T_BLOCK_END) : inside(&l, "}}", T_VAR_END);
    }
    if (!r && !put(&l, T_END, "", 0)) r = no_memory(&l);
    *out = l.t;
    return r;
}

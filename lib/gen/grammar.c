/* The terms of a grammar. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/automaton.h"
#include "gen/grammar_int.h"

#define MAX_TERMS 4000000u

term g_fail(mm_grammar *g, int code, const char *fmt, ...)
{
    char message[MM_ERR_MSG];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (!g->failed) g->failed = mm_fail(&g->err, code, "%s", message);
    return NONE;
}

static size_t plus(size_t a, size_t b) { return a == NEVER || b == NEVER || a + b < a ? NEVER : a + b; }
static size_t times(size_t a, size_t n)
{
    size_t r;
    if (!n) return 0;
    return a == NEVER || mm_mul(a, n, &r) ? NEVER : r;
}

static size_t least_of(const mm_grammar *g, const gterm *t)
{
    switch (t->kind) {
    case G_EMPTY: return 0;
    case G_NONE: return NEVER;
    case G_SET: return 1;
    case G_SEQ: return plus(g->t[t->a].least, g->t[t->b].least);
    case G_ALT: return g->t[t->a].least < g->t[t->b].least ? g->t[t->a].least : g->t[t->b].least;
    case G_REP: return times(g->t[t->a].least, t->b);
    default: return t->c ? g->t[t->a].least : NEVER;
    }
}

static uint32_t hash(gkind kind, uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t key[4] = { (uint32_t)kind, a, b, c };
    return (uint32_t)mm_hash64(key, sizeof key, 0);
}

static int rehash(mm_grammar *g)
{
    const size_t slots = g->index.slots ? 2 * g->index.slots : 1024;
    uint32_t *head = malloc(slots * sizeof *head);
    if (!head) return MM_ENOMEM;
    memset(head, 0xFF, slots * sizeof *head);
    for (uint32_t i = 0; i < g->n; i++) {
        gterm *t = &g->t[i];
        uint32_t *at = &head[hash(t->kind, t->a, t->b, t->c) & (slots - 1)];
        if (t->kind == G_REF) continue; /* never looked up */
        t->chain = *at;
        *at = i;
    }
    free(g->index.head);
    g->index = (gtable){ head, slots };
    return 0;
}

static term add(mm_grammar *g, gkind kind, uint32_t a, uint32_t b, uint32_t c)
{
    if (g->n == g->cap) {
        const size_t cap = g->cap ? 2 * g->cap : 256;
        gterm *t = cap > MAX_TERMS ? NULL : mm_realloc(g->t, cap, sizeof *t);
        if (!t) return cap > MAX_TERMS ? g_fail(g, MM_EUNSUP, "the grammar is too large") : g_fail(g, MM_ENOMEM, "out of memory");
        g->t = t;
        g->cap = cap;
    }
    if (g->n >= g->index.slots && rehash(g)) return g_fail(g, MM_ENOMEM, "out of memory");
    gterm *t = &g->t[g->n];
    *t = (gterm){ kind, a, b, c, UINT32_MAX, 0 };
    t->least = least_of(g, t);
    if (kind != G_REF) {
        uint32_t *at = &g->index.head[hash(kind, a, b, c) & (g->index.slots - 1)];
        t->chain = *at;
        *at = (uint32_t)g->n;
    }
    return (term)g->n++;
}

static term intern(mm_grammar *g, gkind kind, uint32_t a, uint32_t b, uint32_t c)
{
    if (g->failed) return NONE;
    for (uint32_t i = g->index.slots ? g->index.head[hash(kind, a, b, c) & (g->index.slots - 1)] : UINT32_MAX; i != UINT32_MAX; i = g->t[i].chain)
        if (g->t[i].kind == kind && g->t[i].a == a && g->t[i].b == b && g->t[i].c == c) return i;
    return add(g, kind, a, b, c);
}

mm_grammar *grammar_new(void)
{
    mm_grammar *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    add(g, G_EMPTY, 0, 0, 0);
    add(g, G_NONE, 0, 0, 0);
    if (g->failed) mm_grammar_close(&g);
    return g;
}

void mm_grammar_close(mm_grammar **gp)
{
    mm_grammar *g = *gp;
    if (!g) return;
    automaton_free(g->auto_);
    free(g->t);
    free(g->set);
    free(g->index.head);
    free(g);
    *gp = NULL;
}

term g_set(mm_grammar *g, const gset *s)
{
    if (g->failed || !(s->bit[0] | s->bit[1] | s->bit[2] | s->bit[3])) return NONE;
    size_t i = 0;
    while (i < g->n_sets && memcmp(&g->set[i], s, sizeof *s)) i++;
    if (i == g->cap_sets) {
        const size_t cap = g->cap_sets ? 2 * g->cap_sets : 128;
        gset *p = mm_realloc(g->set, cap, sizeof *p);
        if (!p) return g_fail(g, MM_ENOMEM, "out of memory");
        g->set = p;
        g->cap_sets = cap;
    }
    if (i == g->n_sets) g->set[g->n_sets++] = *s;
    return intern(g, G_SET, (uint32_t)i, 0, 0);
}

term g_range(mm_grammar *g, unsigned char from, unsigned char to)
{
    gset s = { { 0 } };
    for (unsigned i = from; i <= to; i++) s.bit[i / 64] |= UINT64_C(1) << i % 64;
    return g_set(g, &s);
}

term g_byte(mm_grammar *g, unsigned char c) { return g_range(g, c, c); }

term g_seq(mm_grammar *g, term a, term b)
{
    if (a == NONE || b == NONE) return NONE;
    if (a == EMPTY) return b;
    if (b == EMPTY) return a;
    if (g->failed) return NONE;
    if (g->t[a].kind == G_SEQ) return g_seq(g, g->t[a].a, g_seq(g, g->t[a].b, b)); /* to the right, so that equal ends are one term */
    return intern(g, G_SEQ, a, b, 0);
}

term g_alt(mm_grammar *g, term a, term b)
{
    if (a == b || b == NONE) return a;
    if (a == NONE) return b;
    if (!g->failed && g->t[a].kind == G_SET && g->t[b].kind == G_SET) {
        gset s = g->set[g->t[a].a];
        for (int i = 0; i < 4; i++) s.bit[i] |= g->set[g->t[b].a].bit[i];
        return g_set(g, &s);
    }
    return intern(g, G_ALT, a, b, 0);
}

term g_rep(mm_grammar *g, term a, uint32_t min, uint32_t max)
{
    if (a == EMPTY || !max) return EMPTY;
    if (a == NONE) return min ? NONE : EMPTY;
    if (min == 1 && max == 1) return a;
    return min > max ? NONE : intern(g, G_REP, a, min, max);
}

term g_text(mm_grammar *g, const char *s, size_t len)
{
    term t = EMPTY;
    while (len) t = g_seq(g, g_byte(g, (unsigned char)s[--len]), t);
    return t;
}

term g_ref(mm_grammar *g) { return g->failed ? NONE : add(g, G_REF, 0, 0, 0); }

void g_define(mm_grammar *g, term ref, term to)
{
    if (g->failed) return;
    g->t[ref].a = to;
    g->t[ref].c = 1;
}

term g_between(mm_grammar *g, const unsigned char *low, const unsigned char *high, size_t n, unsigned char first, unsigned char last)
{
    unsigned char ends[2][24];
    const int c = n ? memcmp(low, high, n) : 0;
    if (!n) return EMPTY;
    if (c > 0 || n > sizeof ends[0]) return NONE;
    if (n == 1) return g_range(g, low[0], high[0]);
    if (low[0] == high[0]) return g_seq(g, g_byte(g, low[0]), g_between(g, low + 1, high + 1, n - 1, first, last));
    memset(ends[0], first, sizeof ends[0]);
    memset(ends[1], last, sizeof ends[1]);
    unsigned from = low[0], to = high[0];
    term t = NONE;
    if (memcmp(low + 1, ends[0], n - 1)) t = g_seq(g, g_byte(g, (unsigned char)from++), g_between(g, low + 1, ends[1], n - 1, first, last));
    if (memcmp(high + 1, ends[1], n - 1)) t = g_alt(g, t, g_seq(g, g_byte(g, (unsigned char)to--), g_between(g, ends[0], high + 1, n - 1, first, last)));
    if (from <= to) t = g_alt(g, t, g_seq(g, g_range(g, (unsigned char)from, (unsigned char)to), g_between(g, ends[0], ends[1], n - 1, first, last)));
    return t;
}

/* ---- all together ---- */

/* The shortest texts, to a fixed point: only references can make a second round needed. */
static void lengths(mm_grammar *g)
{
    for (int changed = 1; changed;) {
        changed = 0;
        for (size_t i = 0; i < g->n; i++) {
            const size_t least = least_of(g, &g->t[i]);
            changed |= least != g->t[i].least;
            g->t[i].least = least;
        }
    }
}

/* What a term may begin with: up to two terms. */
static size_t beginnings(const mm_grammar *g, const gterm *t, term out[2])
{
    switch (t->kind) {
    case G_SEQ: return out[0] = t->a, out[1] = t->b, g->t[t->a].least ? 1 : 2;
    case G_ALT: return out[0] = t->a, out[1] = t->b, 2;
    case G_REP:
    case G_REF: return out[0] = t->a, 1;
    default: return 0;
    }
}

/* A rule that begins with itself would be expanded for ever. Depth first, with a stack of our own; state: 0 new, 1 on the way, 2 done. */
static int left_recursion(mm_grammar *g)
{
    uint8_t *state = calloc(g->n, 1);
    term *stack = malloc((g->n + 1) * 3 * sizeof *stack), next[2];
    int found = 0;
    if (!state || !stack) {
        g_fail(g, MM_ENOMEM, "out of memory");
        found = -1;
    }
    for (term i = 0; i < g->n && !found; i++) {
        size_t n = 0;
        if (!state[i]) stack[n++] = i;
        while (n && !found) {
            const term t = stack[n - 1];
            if (state[t]) {
                state[t] = 2;
                n--;
                continue;
            }
            state[t] = 1;
            const size_t k = beginnings(g, &g->t[t], next);
            for (size_t b = 0; b < k && !found; b++) {
                found = state[next[b]] == 1;
                if (!state[next[b]]) stack[n++] = next[b];
            }
        }
    }
    free(state);
    free(stack);
    return found;
}

int grammar_finish(mm_grammar *g, term root, mm_err *err)
{
    g->root = root;
    if (!g->failed) lengths(g);
    if (!g->failed && g->t[root].least == NEVER) g_fail(g, MM_EDATA, "no text is allowed");
    if (!g->failed && left_recursion(g) > 0) g_fail(g, MM_EUNSUP, "a rule that begins with itself is not supported");
    if (!g->failed && !(g->auto_ = automaton_new(g))) g_fail(g, MM_ENOMEM, "out of memory");
    return g->failed ? mm_fail(err, g->failed, "%s", g->err.msg) : 0;
}

size_t mm_grammar_least(const mm_grammar *g) { return g->t[g->root].least; }

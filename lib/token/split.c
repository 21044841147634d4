/* Pre-tokenizers: text into words. Each step cuts the pieces of the step before; two of them rewrite the text as
 * well. */
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

int tok_extent(extents *x, size_t from, size_t to)
{
    if (from == to) return 0;
    if (x->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 64;
        extent *p = mm_realloc(x->p, cap, sizeof *p);
        if (!p) return MM_ENOMEM;
        x->p = p;
        x->cap = cap;
    }
    x->p[x->n++] = (extent){ from, to };
    return 0;
}

/* 0 part of a word, 1 white space, 2 punctuation: of the ASCII bytes */
static const char ascii_class[128] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 0 };

/* White space goes, punctuation stands alone. */
static int bert(const char *s, size_t from, size_t to, extents *out)
{
    int e = 0;
    for (size_t i = from, start = from; i <= to && !e;) {
        int n = 1, k = 1; /* the end closes a word like a space */
        if (i < to) k = (unsigned char)s[i] < 128 ? ascii_class[(unsigned char)s[i]] : tok_class(s + i, to - i, &n);
        if (k) {
            e = tok_extent(out, start, i);
            if (k == 2 && !e) e = tok_extent(out, i, i + (size_t)n);
            start = i + (size_t)n;
        }
        i += (size_t)n;
    }
    return e;
}

typedef struct { /* where the last part that was a match or none went */
    split_how how;
    int before;   /* was it a match? */
    size_t first; /* entries of `out` from here on belong to this piece */
} cut;

static int part(cut *c, size_t from, size_t to, int match, extents *out)
{
    int join = 0, before = c->before;
    if (from == to) return 0;
    c->before = match;
    if (c->how == SPLIT_REMOVED && match) return 0;
    if (c->how == SPLIT_CONTIGUOUS) join = match == before;
    if (c->how == SPLIT_PREVIOUS) join = match && !before;
    if (c->how == SPLIT_NEXT) join = !match && before;
    if (join && out->n > c->first) return out->p[out->n - 1].to = to, 0;
    return tok_extent(out, from, to);
}

static size_t match_mark(const pre *p, const char *s, size_t i, size_t to)
{
    return p->mark_len && p->mark_len <= to - i && !memcmp(s + i, p->mark, p->mark_len) ? p->mark_len : 0;
}

static int by_match(const pre *p, const char *s, size_t from, size_t to, extents *out)
{
    cut c = { p->how, 0, out->n };
    size_t start = from;
    int e = 0;
    for (size_t i = from; i < to && !e;) {
        size_t n = p->match ? p->match(s, i, to) : match_mark(p, s, i, to);
        if (!n) {
            i++;
            while (i < to && ((unsigned char)s[i] & 0xC0) == 0x80) i++;
            continue;
        }
        e = part(&c, start, i, p->invert, out);
        if (!e) e = part(&c, i, i + n, !p->invert, out);
        start = i += n;
    }
    return e ? e : part(&c, start, to, p->invert, out);
}

/* A space in front of a piece that has none (byte-level), or spaces replaced and a mark put in front (metaspace).
 * Pieces go to `out` one after the other. */
static int rewrite(const pre *p, const view *v, extent x, txt *out)
{
    if (p->op == PRE_PREFIX_SPACE) {
        if (v->s[x.from] != ' ' && tok_text_put(out, " ", 1, src_from(v, x.from), src_from(v, x.from)))
            return MM_ENOMEM;
        return tok_text_copy(out, v, x.from, x.to);
    }
    int begins = v->s[x.from] == ' ' || match_mark(p, v->s, x.from, x.to);
    int wanted = p->prepend == PREPEND_ALWAYS || (p->prepend == PREPEND_FIRST && src_from(v, x.from) == 0);
    if (wanted && !begins && tok_text_put(out, p->mark, p->mark_len, src_from(v, x.from), src_from(v, x.from)))
        return MM_ENOMEM;
    for (size_t i = x.from; i < x.to;) {
        size_t j = i;
        while (j < x.to && v->s[j] != ' ') j++;
        if (tok_text_copy(out, v, i, j)) return MM_ENOMEM;
        if (j < x.to && tok_text_put(out, p->mark, p->mark_len, src_from(v, j), src_to(v, j))) return MM_ENOMEM;
        i = j + (j < x.to);
    }
    return 0;
}

int tok_split(const mm_tok *t, const view *in, size_t from, size_t to, struct mm_tok_scratch *w, view *out,
              const extents **words)
{
    extents *now = &w->x[0], *next = &w->x[1], *swap;
    size_t turn = 1; /* w->t[0] is the text that is read: later pieces of it are still to come */
    int e;
    *out = *in;
    now->n = 0;
    if ((e = tok_extent(now, from, to))) return e;
    for (size_t i = 0; i < t->pres; i++) {
        const pre *p = &t->pre[i];
        txt *b = NULL;
        next->n = 0;
        if (p->op == PRE_PREFIX_SPACE || p->op == PRE_METASPACE) {
            b = &w->t[turn];
            turn = 3 - turn;
            mm_buf_reset(&b->b);
            b->spans = in->at != NULL;
        }
        for (size_t k = 0; k < now->n && !e; k++) {
            extent x = now->p[k];
            if (p->op == PRE_BERT) e = bert(out->s, x.from, x.to, next);
            if (p->op == PRE_MATCH) e = by_match(p, out->s, x.from, x.to, next);
            if (!b) continue;
            size_t start = b->b.len;
            e = rewrite(p, out, x, b);
            if (!e && p->op == PRE_METASPACE && p->split) { /* each mark begins a piece */
                pre marks = { .op = PRE_MATCH, .how = SPLIT_NEXT, .mark = p->mark, .mark_len = p->mark_len };
                e = by_match(&marks, b->b.p, start, b->b.len, next);
            } else if (!e) {
                e = tok_extent(next, start, b->b.len);
            }
        }
        if (e) return e;
        if (b) *out = (view){ b->b.p ? b->b.p : "", b->b.len, b->spans ? b->at : NULL, 0 };
        swap = now, now = next, next = swap;
    }
    *words = now;
    return 0;
}

/* Text to ids: added tokens are cut out of the raw text, the rest is normalised, normalised added tokens are cut out
 * of that, and what is left is split into words, each of which goes to the model. */
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

int tok_emit(mm_tok_out *o, int32_t id, const view *v, size_t from, size_t to)
{
    if (o->n == o->cap) {
        size_t cap = o->cap ? 2 * o->cap : 256;
        int32_t *ids = mm_realloc(o->ids, cap, sizeof *ids);
        if (ids) o->ids = ids;
        void *span = mm_realloc(o->span, cap, sizeof *o->span);
        if (span) o->span = span;
        if (!ids || !span) return MM_ENOMEM;
        o->cap = cap;
    }
    uint32_t a = from < to ? src_from(v, from) : 0, b = from < to ? src_to(v, to - 1) : 0;
    o->ids[o->n] = id;
    o->span[o->n][0] = a;
    o->span[o->n++][1] = a < b ? b : a; /* marks that changed places may come from before */
    return 0;
}

typedef struct {  /* how added tokens divide a text */
    size_t start; /* everything before is done */
    size_t next;  /* where the search goes on: tokens may begin in the white space that the one before took with it */
} cursor;

/* The next added token: text[c->start .. *left) goes before it. */
static const added *next_added(const mm_tok *t, const char *s, size_t len, int normalized, cursor *c, size_t *left,
                               size_t *from, size_t *to)
{
    size_t at;
    const added *a = tok_find(t, s, c->next, len, normalized, &at);
    *left = c->start;
    if (!a) return NULL;
    *from = at;
    c->next = *to = at + a->len;
    /* a token inside the white space that the one before took begins and ends with that */
    if (a->lstrip) *from = at > c->start ? tok_spaces_before(s, at, c->start) : c->start;
    if (a->rstrip) *to = *to > c->start ? tok_spaces_after(s, *to, len) : c->start;
    if (*from > *left) *left = *from;
    return a;
}

static int words(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o)
{
    view text;
    const extents *x;
    int e = tok_split(t, v, from, to, o->scratch, &text, &x);
    for (size_t i = 0; !e && i < x->n; i++) {
        extent w = x->p[i];
        if (o->scratch->word) e = o->scratch->word(o->scratch->arg, text.s + w.from, w.to - w.from);
        else if (t->model == MODEL_WORDPIECE) e = tok_wordpiece(t, &text, w.from, w.to, o);
        else if (t->model == MODEL_BPE) e = tok_bpe(t, &text, w.from, w.to, o);
        else e = tok_unigram(t, &text, w.from, w.to, o);
    }
    return e;
}

/* A piece of raw text without raw added tokens. */
static int piece(const mm_tok *t, const char *s, size_t from, size_t to, int spans, mm_tok_out *o)
{
    size_t left, x, y;
    const added *a;
    view in = { s + from, to - from, NULL, (uint32_t)from };
    int e = tok_normalize(t, &in, o->scratch, spans);
    const txt *n = &o->scratch->t[0];
    view v = { n->b.p, n->b.len, n->spans ? n->at : NULL, 0 };
    cursor c = { 0, 0 };
    if (e || !v.len) return e;
    while (!e && (a = next_added(t, v.s, v.len, 1, &c, &left, &x, &y))) {
        e = words(t, &v, c.start, left, o);
        if (!e) e = tok_emit(o, a->id, &v, x, y);
        c.start = y;
    }
    return e ? e : words(t, &v, c.start, v.len, o);
}

static int encode(const mm_tok *t, const char *s, size_t len, int flags, mm_tok_word_fn *fn, void *arg, mm_tok_out *o, mm_err *err)
{
    size_t ok = mm_utf8_valid(s, len), left, x, y;
    int spans = flags & MM_TOK_SPANS || t->first_only, e = 0;
    cursor c = { 0, 0 };
    view raw = { s, len, NULL, 0 };
    const added *a;
    o->n = 0;
    if (ok < len) return mm_fail(err, MM_EDATA, "text is not valid UTF-8 at byte %zu", ok + 1);
    if (len > INT32_MAX) return mm_fail(err, MM_EDATA, "a text of %zu bytes is too long", len);
    if (!tok_scratch(o)) return mm_fail(err, MM_ENOMEM, "out of memory");
    o->scratch->word = fn;
    o->scratch->arg = arg;
    for (size_t i = 0; i < t->n_before && flags & MM_TOK_SPECIAL && !e; i++)
        e = tok_emit(o, t->before[i], &raw, 0, 0);
    while (!e && (a = next_added(t, s, len, 0, &c, &left, &x, &y))) {
        if (left > c.start) e = piece(t, s, c.start, left, spans, o);
        if (!e) e = tok_emit(o, a->id, &raw, x, y);
        c.start = y;
    }
    if (!e && c.start < len) e = piece(t, s, c.start, len, spans, o);
    for (size_t i = 0; i < t->n_after && flags & MM_TOK_SPECIAL && !e; i++) e = tok_emit(o, t->after[i], &raw, 0, 0);
    return e == MM_ENOMEM ? mm_fail(err, MM_ENOMEM, "out of memory") : e;
}

int mm_tok_encode(const mm_tok *t, const char *s, size_t len, int flags, mm_tok_out *o, mm_err *err)
{
    return encode(t, s, len, flags, NULL, NULL, o, err);
}

int mm_tok_words(const mm_tok *t, const char *s, size_t len, mm_tok_word_fn *fn, void *arg, mm_tok_out *o, mm_err *err)
{
    return encode(t, s, len, 0, fn, arg, o, err);
}

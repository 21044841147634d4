/* Normalisers: the steps that a tokenizer.json names, one after the other. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

/* ---- text ---- */

static int room(txt *t, size_t n)
{
    size_t want = 2 * (t->b.len + n);
    if (!t->spans || want <= t->at_cap) return 0;
    uint32_t *p = mm_realloc(t->at, 2 * want + 256, sizeof *p);
    if (!p) return MM_ENOMEM;
    t->at = p;
    t->at_cap = 2 * want + 256;
    return 0;
}

int tok_text_put(txt *t, const char *s, size_t n, uint32_t from, uint32_t to)
{
    if (room(t, n)) return MM_ENOMEM;
    if (t->spans)
        for (size_t i = 0; i < n; i++) {
            t->at[2 * (t->b.len + i)] = from;
            t->at[2 * (t->b.len + i) + 1] = to;
        }
    return mm_buf_add(&t->b, s, n);
}

int tok_text_copy(txt *t, const view *v, size_t from, size_t to)
{
    size_t n = to - from;
    if (room(t, n)) return MM_ENOMEM;
    if (t->spans)
        for (size_t i = 0; i < n; i++) {
            t->at[2 * (t->b.len + i)] = src_from(v, from + i);
            t->at[2 * (t->b.len + i) + 1] = src_to(v, from + i);
        }
    return mm_buf_add(&t->b, v->s + from, n);
}

static view view_of(const txt *t) { return (view){ t->b.p ? t->b.p : "", t->b.len, t->spans ? t->at : NULL, 0 }; }

/* ---- Unicode's normal forms ---- */

/* Characters that wait for the canonical order: marks are exchanged with their neighbours only, so that a run ends
 * where a character of combining class 0 comes (and, composing, does not combine with the run). */
typedef struct {
    uint32_t c, from, to;
    int ccc;
} pending;

typedef struct {
    pending *p, small[32];
    size_t n, cap;
} run;

/* Only characters move: where in the text they came from stays in the text's order, as the reference has it. */
static int order(run *r)
{
    int sorted = 1;
    for (size_t i = 1; i < r->n && sorted; i++) sorted = r->p[i - 1].ccc <= r->p[i].ccc;
    if (sorted) return 0;
    /* by counting; only the first character can have class 0, and that is the smallest */
    size_t at[257] = { 0 };
    pending small[48], *p = r->n <= 48 ? small : mm_realloc(NULL, r->n, sizeof *p);
    if (!p) return MM_ENOMEM;
    memcpy(p, r->p, r->n * sizeof *p);
    for (size_t i = 0; i < r->n; i++) at[p[i].ccc + 1]++;
    for (size_t k = 1; k < 257; k++) at[k] += at[k - 1];
    for (size_t i = 0; i < r->n; i++) {
        pending *x = &r->p[at[p[i].ccc]++];
        x->c = p[i].c;
        x->ccc = p[i].ccc;
    }
    if (p != small) free(p);
    return 0;
}

/* The first character of a run takes in those that compose with it (Unicode Standard, section 3.11, D117). */
static void compose(run *r)
{
    if (r->n < 2 || r->p[0].ccc) return;
    size_t n = 1;
    for (size_t i = 1; i < r->n; i++) {
        pending x = r->p[i];
        uint32_t both = n == 1 || r->p[n - 1].ccc < x.ccc ? tok_uni_compose(r->p[0].c, x.c) : 0;
        if (both) {
            r->p[0].c = both;
            if (x.to > r->p[0].to) r->p[0].to = x.to;
        } else {
            r->p[n++] = x;
        }
    }
    r->n = n;
}

static int flush(const norm *n, run *r, txt *out, int bert)
{
    int e = 0;
    for (size_t i = 0; i < r->n && !e; i++) {
        char u[8];
        uint32_t c = r->p[i].c;
        if (bert && tok_uni_is_mark(c)) continue;
        size_t k = bert && n->lower ? tok_uni_lower(c, u) : (size_t)mm_utf8_put(c, u);
        e = tok_text_put(out, u, k, r->p[i].from, r->p[i].to);
    }
    r->n = 0;
    return e;
}

static int push(const norm *n, run *r, uint32_t c, uint32_t from, uint32_t to, txt *out, int join, int bert)
{
    pending x = { c, from, to, tok_uni_class(c) };
    if (!x.ccc && r->n) {
        if (order(r)) return MM_ENOMEM;
        if (join) compose(r);
        uint32_t both = join && r->n == 1 ? tok_uni_compose(r->p[0].c, c) : 0;
        if (both) {
            r->p[0].c = both;
            r->p[0].to = to;
            return 0;
        }
        if (flush(n, r, out, bert)) return MM_ENOMEM;
    }
    if (r->n == r->cap) {
        size_t cap = 2 * r->cap;
        pending *p = mm_realloc(r->p == r->small ? NULL : r->p, cap, sizeof *p);
        if (!p) return MM_ENOMEM;
        if (r->p == r->small) memcpy(p, r->small, sizeof r->small);
        r->p = p;
        r->cap = cap;
    }
    r->p[r->n++] = x;
    return 0;
}

int tok_canonical(const norm *n, const view *in, txt *out, int compat, int join, int bert)
{
    run r = { .n = 0, .cap = 32 };
    r.p = r.small;
    int e = 0;
    for (size_t i = 0; i < in->len && !e;) {
        uint32_t c;
        if (!bert && (unsigned char)in->s[i] < 128) { /* ASCII that nothing can combine with goes as it is */
            size_t j = i;
            while (j < in->len && (unsigned char)in->s[j] < 128) j++;
            size_t stop = j < in->len ? j - 1 : j;
            if (stop > i) {
                if (r.n) {
                    if ((e = order(&r))) break;
                    if (join) compose(&r);
                    if ((e = flush(n, &r, out, 0))) break;
                }
                if ((e = tok_text_copy(out, in, i, stop))) break;
                i = stop;
                continue;
            }
        }
        int k = mm_utf8_get(in->s + i, in->len - i, &c);
        uint32_t from = src_from(in, i), to = src_to(in, i + (size_t)k - 1);
        i += (size_t)k;
        if (bert && n->clean) {
            if (tok_uni_is_dropped(c)) continue;
            if (tok_uni_is_space(c)) c = ' ';
        }
        int cjk = bert && n->chinese && tok_uni_is_chinese(c);
        if (cjk) e = push(n, &r, ' ', from, to, out, join, bert);
        int32_t d[32];
        int count = tok_uni_decompose(c, compat, d);
        for (int q = 0; q < count && !e; q++) e = push(n, &r, (uint32_t)d[q], from, to, out, join, bert);
        if (cjk && !e) e = push(n, &r, ' ', from, to, out, join, bert);
    }
    if (!e && r.n && !(e = order(&r))) {
        if (join) compose(&r);
        e = flush(n, &r, out, bert);
    }
    if (r.p != r.small) free(r.p);
    return e;
}

/* ---- the small ones ---- */

static int each(const norm *n, const view *in, txt *out)
{
    int e = 0;
    for (size_t i = 0; i < in->len && !e;) {
        uint32_t c;
        char u[8];
        int k = mm_utf8_get(in->s + i, in->len - i, &c);
        if (n->op == NORM_LOWER)
            e = tok_text_put(out, u, tok_uni_lower(c, u), src_from(in, i), src_to(in, i + (size_t)k - 1));
        else if (!tok_uni_is_combining(c)) e = tok_text_copy(out, in, i, i + (size_t)k);
        i += (size_t)k;
    }
    return e;
}

static size_t match_set(const norm *n, const char *s, size_t len)
{
    size_t k = 0;
    while (k < len && k < n->set_most && (unsigned char)s[k] < 128 && n->set[s[k] / 64] >> s[k] % 64 & 1) k++;
    return k;
}

static int replace(const norm *n, const view *in, txt *out)
{
    size_t start = 0;
    for (size_t i = 0; i < in->len;) {
        size_t k;
        if (n->by_set) k = match_set(n, in->s + i, in->len - i);
        else if (n->match) k = n->match(in->s, i, in->len);
        else k = n->from_len <= in->len - i && !memcmp(in->s + i, n->from, n->from_len) ? n->from_len : 0;
        if (!k) {
            i++;
            while (i < in->len && ((unsigned char)in->s[i] & 0xC0) == 0x80) i++;
            continue;
        }
        if (tok_text_copy(out, in, start, i) ||
            tok_text_put(out, n->to, n->to_len, src_from(in, i), src_to(in, i + k - 1)))
            return MM_ENOMEM;
        start = i += k;
    }
    return tok_text_copy(out, in, start, in->len);
}

static int step(const norm *n, const view *in, txt *out)
{
    switch (n->op) {
    case NORM_BERT: return tok_bert(n, in, out);
    case NORM_NFC: return tok_canonical(n, in, out, 0, 1, 0);
    case NORM_NFD: return tok_canonical(n, in, out, 0, 0, 0);
    case NORM_NFKC: return tok_canonical(n, in, out, 1, 1, 0);
    case NORM_NFKD: return tok_canonical(n, in, out, 1, 0, 0);
    case NORM_LOWER:
    case NORM_ACCENTS: return each(n, in, out);
    case NORM_REPLACE: return replace(n, in, out);
    case NORM_CHARSMAP: return tok_charsmap(n, in, out);
    case NORM_WEB: return tok_web(in, out);
    case NORM_STRIP: {
        size_t a = n->left ? tok_spaces_after(in->s, 0, in->len) : 0;
        return tok_text_copy(out, in, a, n->right ? tok_spaces_before(in->s, in->len, a) : in->len);
    }
    case NORM_PREPEND:
        if (!in->len) return 0;
        if (tok_text_put(out, n->to, n->to_len, src_from(in, 0), src_from(in, 0))) return MM_ENOMEM;
        return tok_text_copy(out, in, 0, in->len);
    }
    return 0;
}

int tok_normalize(const mm_tok *t, const view *in, struct mm_tok_scratch *w, int spans)
{
    view v = *in;
    if (!t->norms) {
        mm_buf_reset(&w->t[0].b);
        w->t[0].spans = spans;
        return tok_text_copy(&w->t[0], &v, 0, v.len);
    }
    for (size_t i = 0; i < t->norms; i++) {
        txt *out = &w->t[(t->norms - 1 - i) & 1]; /* back and forth; the last one is w->t[0] */
        mm_buf_reset(&out->b);
        out->spans = spans;
        if (step(&t->norm[i], &v, out)) return MM_ENOMEM;
        v = view_of(out);
    }
    return 0;
}

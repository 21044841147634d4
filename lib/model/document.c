#include "model/mm_document.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"

#define BATCH 32      /* chunks embedded together */
#define LONG_TOKEN 8  /* bytes: a window is looked for in so many for each token, and in more where that is not enough */
#define CHUNKS_READ 3 /* for each key sentence, so many chunks are looked into */

/* ---- where texts are cut ---- */

static int blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static int is3(const char *s, const char *c) { return !memcmp(s, c, 3); }

/* Bytes of the closing quote or bracket that ends at s[i]; 0: there is none. */
static size_t closing(const char *s, size_t i)
{
    static const char *const wide[] = { "\u201D", "\u2019", "\u300D", "\u300F", "\uFF09" };
    if (i >= 1 && (s[i - 1] == '"' || s[i - 1] == '\'' || s[i - 1] == ')' || s[i - 1] == ']')) return 1;
    for (size_t k = 0; i >= 3 && k < sizeof wide / sizeof *wide; k++)
        if (is3(s + i - 3, wide[k])) return 3;
    return 0;
}

/* Does a sentence end in front of s[i], 0 < i <= len? Full stops of Chinese and Japanese need no blank behind them. */
static int sentence_ends(const char *s, size_t len, size_t i)
{
    size_t at = i, c;
    if (i == len || s[i] == '\n' || s[i - 1] == '\n') return 1;
    if ((s[i] & 0xC0) == 0x80) return 0;
    if (closing(s, i + 1) == 1 || (i + 3 <= len && closing(s, i + 3) == 3)) return 0; /* the quote belongs to it */
    while ((c = closing(s, at)) > 0) at -= c;
    if (at >= 3 && (is3(s + at - 3, "\u3002") || is3(s + at - 3, "\uFF01") || is3(s + at - 3, "\uFF1F"))) return 1;
    return at >= 1 && blank(s[i]) && (s[at - 1] == '.' || s[at - 1] == '!' || s[at - 1] == '?');
}

size_t mm_document_sentence(const char *text, size_t len, size_t start)
{
    size_t i = start < len ? start + 1 : len;
    while (i < len && !sentence_ends(text, len, i)) i++;
    return i;
}

/* The best place to cut in the second half of text[start..end). */
static size_t border(const char *text, size_t len, size_t start, size_t end)
{
    size_t half = start + (end - start) / 2;
    if (end == len) return len;
    for (size_t i = end; i > half; i--)
        if (sentence_ends(text, len, i)) return i;
    for (size_t i = end; i > half; i--)
        if (blank(text[i])) return i;
    for (size_t i = end; i > half; i--) /* tokens may be bytes */
        if ((text[i] & 0xC0) != 0x80) return i;
    while (end < len && (text[end] & 0xC0) == 0x80) end++;
    return end;
}

static int chunk(mm_model *m, mm_buf *b, int32_t *ids, const char *prefix, const char *text, size_t len, size_t *start, size_t *end, mm_text_out *res,
                 mm_err *err)
{
    const size_t before = strlen(prefix), window = (size_t)mm_model_get_config(m, MM_TEXT)->window;
    while (*start < len && blank(text[*start])) ++*start;
    if (*start == len) return 0;
    for (size_t room = window * LONG_TOKEN;; room *= 2) {
        size_t n, to = len - *start > room ? *start + room : len;
        while (to < len && (text[to] & 0xC0) == 0x80) to++;
        mm_buf_reset(b);
        mm_buf_adds(b, prefix);
        if (mm_buf_add(b, text + *start, to - *start)) return mm_fail(err, MM_ENOMEM, "out of memory");
        int r = mm_model_text_ids(m, (mm_text_in){ b->p, b->len }, ids, &n, res, err);
        if (r) return r;
        if (res->used < res->tokens) {
            *end = *start + (res->used_len > before ? res->used_len - before : 0);
            /* nothing but the prefix fits: the rest goes into one cut chunk rather than into none */
            *end = *end > *start ? border(text, len, *start, *end) : len;
            return 1;
        }
        *end = to;
        if (to == len) return 1;
    }
}

int mm_document_chunk(mm_model *m, const char *prefix, const char *text, size_t len, size_t *start, size_t *end, mm_err *err)
{
    const mm_tower_config *c = mm_model_get_config(m, MM_TEXT);
    mm_buf b = { 0 };
    mm_text_out res;
    if (!c) return mm_fail(err, MM_EUNSUP, "this model takes no text");
    int32_t *ids = mm_realloc(NULL, (size_t)c->window, sizeof *ids);
    int r = ids ? chunk(m, &b, ids, prefix, text, len, start, end, &res, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    free(ids);
    mm_buf_clear(&b);
    return r;
}

/* ---- one vector of all chunks ---- */

/* What is known of a text on the way. */
typedef struct {
    mm_model *m;
    const mm_kern *kern;
    const char *prefix, *text;
    size_t len, dim, n, cap;
    struct part {
        size_t start, end;
        float weight;
    } *part;
    float *vec; /* [cap, dim] of the parts */
} document;

static int grow(document *d, mm_err *err)
{
    if (d->n + BATCH <= d->cap) return 0;
    size_t cap = 2 * d->cap + BATCH;
    struct part *part = mm_realloc(d->part, cap, sizeof *part);
    if (part) d->part = part;
    float *vec = mm_realloc(d->vec, cap, d->dim * sizeof *vec);
    if (vec) d->vec = vec;
    if (!part || !vec) return mm_fail(err, MM_ENOMEM, "out of memory");
    d->cap = cap;
    return 0;
}

/* Vectors of n pieces of the text from part[] on; those without tokens get length 0. tokens (NULL: not wanted) [n]. */
static int embed(const document *d, const struct part *part, size_t n, float *vec, uint32_t *tokens, mm_err *err)
{
    mm_buf b = { 0 };
    mm_text_in in[BATCH];
    mm_text_out res[BATCH];
    size_t at[BATCH + 1] = { 0 };
    for (size_t i = 0; i < n; i++) {
        mm_buf_adds(&b, d->prefix);
        mm_buf_add(&b, d->text + part[i].start, part[i].end - part[i].start);
        at[i + 1] = b.len;
    }
    for (size_t i = 0; i < n; i++) in[i] = (mm_text_in){ b.p + at[i], at[i + 1] - at[i] };
    int r = b.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : mm_model_embed_text(d->m, in, n, vec, res, err);
    mm_buf_clear(&b);
    for (size_t i = 0; i < n && !r; i++)
        if (tokens) tokens[i] = res[i].code ? 0 : res[i].tokens;
    if (!r) d->kern->l2_normalize(vec, n, d->dim);
    return r;
}

static int read_chunks(document *d, mm_document_out *res, mm_err *err)
{
    int32_t *ids = mm_realloc(NULL, (size_t)mm_model_get_config(d->m, MM_TEXT)->window, sizeof *ids);
    mm_buf b = { 0 };
    mm_text_out out;
    uint32_t tokens[BATCH];
    int r = ids ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t start = 0, more = 1; !r && more;) {
        struct part *p;
        size_t k = 0, kept = 0;
        if ((r = grow(d, err))) break;
        for (p = d->part + d->n; k < BATCH; k++, start = p[k - 1].end) {
            p[k].start = start;
            r = chunk(d->m, &b, ids, d->prefix, d->text, d->len, &p[k].start, &p[k].end, &out, err);
            if (r <= 0) break;
        }
        more = r > 0 || k == BATCH;
        if (r < 0) break;
        r = k ? embed(d, p, k, d->vec + d->n * d->dim, tokens, err) : 0;
        for (size_t i = 0; i < k && !r; i++) { /* without those that have no token */
            if (!tokens[i]) continue;
            res->tokens += tokens[i];
            p[kept] = p[i];
            memmove(d->vec + (d->n + kept) * d->dim, d->vec + (d->n + i) * d->dim, d->dim * sizeof *d->vec);
            kept++;
        }
        d->n += kept;
    }
    free(ids);
    mm_buf_clear(&b);
    return r;
}

static float product(const float *a, const float *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)a[i] * b[i];
    return (float)s;
}

static void attend(document *d, float *vec)
{
    float most = -2;
    double sum = 0;
    memset(vec, 0, d->dim * sizeof *vec);
    for (size_t i = 0; i < d->n; i++)
        for (size_t k = 0; k < d->dim; k++) vec[k] += d->vec[i * d->dim + k];
    d->kern->l2_normalize(vec, 1, d->dim);
    for (size_t i = 0; i < d->n; i++) {
        d->part[i].weight = MM_DOCUMENT_FOCUS * product(vec, d->vec + i * d->dim, d->dim);
        if (d->part[i].weight > most) most = d->part[i].weight;
    }
    for (size_t i = 0; i < d->n; i++) sum += d->part[i].weight = expf(d->part[i].weight - most);
    memset(vec, 0, d->dim * sizeof *vec);
    for (size_t i = 0; i < d->n; i++) {
        d->part[i].weight /= (float)sum;
        for (size_t k = 0; k < d->dim; k++) vec[k] += d->part[i].weight * d->vec[i * d->dim + k];
    }
    d->kern->l2_normalize(vec, 1, d->dim);
}

/* ---- key sentences ---- */

static int heavier(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Into the list of the best, best first. */
static void offer(mm_span *key, size_t room, size_t *n, mm_span s)
{
    size_t i = *n < room ? (*n)++ : room;
    for (; i > 0 && key[i - 1].score < s.score; i--)
        if (i < room) key[i] = key[i - 1];
    if (i < room) key[i] = s;
}

static int sentences(document *d, const float *vec, mm_span *key, size_t *n, mm_err *err)
{
    struct part s[BATCH];
    float *own = mm_aligned(BATCH * d->dim, sizeof *own);
    const size_t room = *n, read = room < d->n / CHUNKS_READ ? CHUNKS_READ * room : d->n;
    size_t k = 0;
    int r = own ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    *n = 0;
    qsort(d->part, d->n, sizeof *d->part, heavier);
    for (size_t i = 0, at = d->n ? d->part[0].start : 0; i < read && !r;) {
        const struct part *p = &d->part[i];
        while (at < p->end && blank(d->text[at])) at++;
        if (at < p->end) {
            size_t end = mm_document_sentence(d->text, p->end, at);
            s[k++] = (struct part){ at, end, 0 };
            at = end;
        }
        const int over = at >= p->end;
        if (over && ++i < read) at = d->part[i].start;
        if (k < BATCH && (i < read || !k)) continue;
        uint32_t tokens[BATCH];
        r = embed(d, s, k, own, tokens, err);
        for (size_t q = 0; q < k && !r; q++)
            if (tokens[q]) offer(key, room, n, (mm_span){ s[q].start, s[q].end, product(vec, own + q * d->dim, d->dim) });
        k = 0;
    }
    free(own);
    return r;
}

int mm_document_embed(mm_model *m, const char *prefix, const char *text, size_t len, float *vec, mm_span *key, size_t *n, mm_document_out *res, mm_err *err)
{
    document d = { .m = m, .kern = mm_kern_get(), .prefix = prefix, .text = text, .len = len, .dim = mm_model_dim(m) };
    *res = (mm_document_out){ 0 };
    if (!mm_model_get_config(m, MM_TEXT)) return mm_fail(err, MM_EUNSUP, "this model takes no text");
    int r = read_chunks(&d, res, err);
    res->chunks = d.n;
    if (!d.n) res->code = MM_EEMPTY;
    if (!r && d.n) attend(&d, vec);
    if (!r && n && d.n) r = sentences(&d, vec, key, n, err);
    else if (n) *n = 0;
    free(d.part);
    free(d.vec);
    return r;
}

/* Text to ids: added tokens, normaliser, words, WordPiece. */
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

static int emit(mm_tok_out *o, int32_t id, uint32_t from, uint32_t to)
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
    o->ids[o->n] = id;
    o->span[o->n][0] = from;
    o->span[o->n++][1] = to;
    return 0;
}

/* One word (normalised bytes w[0..len)); at: its spans, or NULL. Greedy: always the longest token that fits. The
 * hashes of all beginnings come from one walk, so that a try costs one probe. */
static int wordpiece(const mm_tok *t, const char *w, size_t len, const uint32_t *at, mm_tok_out *o)
{
    size_t first = o->n, chars = 0;
    int e = 0;
    /* longer than max_chars characters: unknown as a whole */
    if (len > t->max_chars) {
        for (size_t i = 0; i < len; i++) chars += ((unsigned char)w[i] & 0xC0) != 0x80;
        if (chars > t->max_chars) return emit(o, t->role[MM_TOK_UNK], at ? at[0] : 0, at ? at[2 * len - 1] : 0);
    }
    uint32_t h[MAX_WORD_TOKEN]; /* max_chars characters of 4 bytes at most, and no token is tried beyond it */
    for (size_t pos = 0; pos < len && !e;) {
        const map *m = pos ? &t->cont : &t->vocab;
        const slot *tab = m->tab;
        size_t skip = m->skip, most = len - pos < t->longest ? len - pos : t->longest;
        uint32_t x = TOK_SEED;
        if (most > sizeof h / sizeof *h) most = sizeof h / sizeof *h;
        for (size_t i = 0; i < most; i++) h[i] = x = tok_step(x, (unsigned char)w[pos + i]);
        int32_t id = -1;
        size_t n = most;
        for (; n > 0 && id < 0; n--) {
            if (pos + n < len && ((unsigned char)w[pos + n] & 0xC0) == 0x80) continue; /* inside a character */
            for (size_t i = h[n - 1] & (m->slots - 1); tab[i].id >= 0; i = (i + 1) & (m->slots - 1))
                if (tab[i].hash == h[n - 1] && t->len[tab[i].id] == n + skip &&
                    !memcmp(t->text[tab[i].id] + skip, w + pos, n)) {
                    id = tab[i].id;
                    break;
                }
        }
        if (id < 0) {
            o->n = first;
            return emit(o, t->role[MM_TOK_UNK], at ? at[0] : 0, at ? at[2 * len - 1] : 0);
        }
        n++;
        e = emit(o, id, at ? at[2 * pos] : 0, at ? at[2 * (pos + n) - 1] : 0);
        pos += n;
    }
    return e;
}

/* 0 part of a word, 1 white space, 2 punctuation: of the ASCII bytes */
static const char ascii_class[128] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 0 };

/* Normalised bytes [from, to) of o->norm into words. */
static int words(const mm_tok *t, size_t from, size_t to, int spans, mm_tok_out *o)
{
    int e = 0;
    for (size_t i = from, start = from; i <= to && !e;) {
        int n = 1, k = 1; /* the end closes a word like a space */
        const char *s = o->norm.p;
        if (i < to) k = (unsigned char)s[i] < 128 ? ascii_class[(unsigned char)s[i]] : tok_class(s + i, to - i, &n);
        if (k) {
            if (i > start) e = wordpiece(t, s + start, i - start, spans ? o->at + 2 * start : NULL, o);
            if (k == 2 && !e) e = wordpiece(t, s + i, (size_t)n, spans ? o->at + 2 * i : NULL, o);
            start = i + (size_t)n;
        }
        i += (size_t)n;
    }
    return e;
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
    if (a->lstrip) {
        *from = tok_spaces_before(s, at, 0);
        if (*from < c->start) *from = c->start;
    }
    if (a->rstrip) *to = tok_spaces_after(s, *to, len);
    if (*from > *left) *left = *from;
    return a;
}

/* A piece of raw text without raw added tokens. */
static int piece(const mm_tok *t, const char *s, size_t from, size_t to, int spans, mm_tok_out *o)
{
    size_t left, x, y;
    const added *a;
    mm_buf_reset(&o->norm);
    int e = tok_normalize(t, s + from, to - from, (uint32_t)from, spans, o);
    size_t len = o->norm.len;
    cursor c = { 0, 0 };
    if (e || !len) return e;
    while (!e && (a = next_added(t, o->norm.p, len, 1, &c, &left, &x, &y))) {
        e = words(t, c.start, left, spans, o);
        if (!e) e = emit(o, a->id, spans ? o->at[2 * x] : 0, spans ? o->at[2 * y - 1] : 0);
        c.start = y;
    }
    return e ? e : words(t, c.start, len, spans, o);
}

int mm_tok_encode(const mm_tok *t, const char *s, size_t len, int flags, mm_tok_out *o, mm_err *err)
{
    size_t ok = mm_utf8_valid(s, len), left, x, y;
    int spans = flags & MM_TOK_SPANS, e = 0;
    cursor c = { 0, 0 };
    const added *a;
    o->n = 0;
    if (ok < len) return mm_fail(err, MM_EDATA, "text is not valid UTF-8 at byte %zu", ok + 1);
    if (len > INT32_MAX) return mm_fail(err, MM_EDATA, "a text of %zu bytes is too long", len);
    for (size_t i = 0; i < t->n_prefix && flags & MM_TOK_SPECIAL && !e; i++) e = emit(o, t->prefix[i], 0, 0);
    while (!e && (a = next_added(t, s, len, 0, &c, &left, &x, &y))) {
        if (left > c.start) e = piece(t, s, c.start, left, spans, o);
        if (!e) e = emit(o, a->id, (uint32_t)x, (uint32_t)y);
        c.start = y;
    }
    if (!e && c.start < len) e = piece(t, s, c.start, len, spans, o);
    for (size_t i = 0; i < t->n_suffix && flags & MM_TOK_SPECIAL && !e; i++) e = emit(o, t->suffix[i], 0, 0);
    return e ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

/* What the decoder of WordPiece puts no space before: the artifacts that the reference's cleanup knows */
static int closes_up(const char *s)
{
    static const char *const begins[] = { ".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re" };
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(s, begins[i], strlen(begins[i]))) return 1;
    return 0;
}

int mm_tok_decode(const mm_tok *t, const int32_t *ids, size_t n, mm_buf *out, mm_err *err)
{
    int first = 1;
    for (size_t i = 0; i < n; i++) {
        const char *s = mm_tok_text(t, ids[i]);
        size_t len = s ? t->len[ids[i]] : 0;
        if (!s) return mm_fail(err, MM_EDATA, "there is no token %d", ids[i]);
        if (t->kind[ids[i]] & SPECIAL) continue;
        if (t->kind[ids[i]] & ADDED) /* as it was looked for: in its normalised form */
            for (size_t k = 0; k < t->n_add; k++)
                if (t->add[k].id == ids[i]) s = t->add[k].text, len = t->add[k].len;
        size_t skip = !first && len >= t->cont_len && !memcmp(s, t->cont_mark, t->cont_len) ? t->cont_len : 0;
        if (!first && !skip && !(t->cleanup && closes_up(s))) mm_buf_addc(out, ' ');
        mm_buf_add(out, s + skip, len - skip);
        first = 0;
    }
    return out->failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

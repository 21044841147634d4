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
    uint32_t h[512]; /* max_chars characters of 4 bytes at most, and no token is tried beyond it */
    for (size_t pos = 0; pos < len && !e;) {
        const slot *tab = pos ? t->cont : t->start;
        size_t skip = pos ? t->cont_len : 0, most = len - pos < t->longest ? len - pos : t->longest;
        uint32_t x = TOK_SEED;
        if (most > sizeof h / sizeof *h) most = sizeof h / sizeof *h;
        for (size_t i = 0; i < most; i++) h[i] = x = tok_step(x, (unsigned char)w[pos + i]);
        int32_t id = -1;
        size_t n = most;
        for (; n > 0 && id < 0; n--) {
            if (pos + n < len && ((unsigned char)w[pos + n] & 0xC0) == 0x80) continue; /* inside a character */
            for (size_t i = h[n - 1] & (t->slots - 1); tab[i].id >= 0; i = (i + 1) & (t->slots - 1))
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

static int word_before(const char *s, size_t at)
{
    size_t i = at;
    uint32_t c;
    if (!at) return 0;
    do i--;
    while (i > 0 && ((unsigned char)s[i] & 0xC0) == 0x80);
    mm_utf8_get(s + i, at - i, &c);
    return tok_is_word(c);
}

static int word_after(const char *s, size_t at, size_t len)
{
    uint32_t c;
    if (at == len) return 0;
    mm_utf8_get(s + at, len - at, &c);
    return tok_is_word(c);
}

/* The next added token at or after `from` that may stand there: leftmost, of those the longest. bit: 1 in raw text, 2
 * in normalised text. NULL: none. */
static const added *find_added(const mm_tok *t, const char *s, size_t from, size_t len, int bit, size_t *at)
{
    for (size_t i = from; i < len; i++) {
        if (!(t->first[(unsigned char)s[i]] & bit)) continue;
        for (size_t k = 0; k < t->n_add; k++) {
            const added *a = &t->add[k];
            if ((a->normalized ? 2 : 1) != bit || !a->len || a->len > len - i || memcmp(s + i, a->text, a->len))
                continue;
            if (a->single_word && (word_before(s, i) || word_after(s, i + a->len, len))) {
                i += a->len - 1; /* the whole match is passed over, as the reference's matcher does */
                break;
            }
            *at = i;
            return a;
        }
    }
    return NULL;
}

static size_t spaces_before(const char *s, size_t at, size_t floor)
{
    while (at > floor) {
        size_t i = at;
        int n;
        do i--;
        while (i > floor && ((unsigned char)s[i] & 0xC0) == 0x80);
        if (tok_class(s + i, at - i, &n) != 1) break;
        at = i;
    }
    return at;
}

static size_t spaces_after(const char *s, size_t at, size_t len)
{
    int n;
    while (at < len && tok_class(s + at, len - at, &n) == 1) at += (size_t)n;
    return at;
}

/* A piece of raw text without raw added tokens. */
static int piece(const mm_tok *t, const char *s, size_t from, size_t to, int spans, mm_tok_out *o)
{
    size_t at = 0;
    const added *a;
    mm_buf_reset(&o->norm);
    int e = tok_normalize(t, s + from, to - from, (uint32_t)from, spans, o);
    size_t start = 0, len = o->norm.len;
    if (e || !len) return e;
    while (!e && (a = find_added(t, o->norm.p, start, len, 2, &at))) {
        size_t stop = at + a->len, left = a->lstrip ? spaces_before(o->norm.p, at, start) : at;
        if (a->rstrip) stop = spaces_after(o->norm.p, stop, len);
        e = words(t, start, left, spans, o);
        if (!e) e = emit(o, a->id, spans ? o->at[2 * at] : 0, spans ? o->at[2 * (at + a->len) - 1] : 0);
        start = stop;
    }
    return e ? e : words(t, start, len, spans, o);
}

int mm_tok_encode(const mm_tok *t, const char *s, size_t len, int flags, mm_tok_out *o, mm_err *err)
{
    size_t ok = mm_utf8_valid(s, len), start = 0, at = 0;
    int spans = flags & MM_TOK_SPANS, e = 0;
    const added *a;
    o->n = 0;
    if (ok < len) return mm_fail(err, MM_EDATA, "text is not valid UTF-8 at byte %zu", ok + 1);
    if (len > INT32_MAX) return mm_fail(err, MM_EDATA, "a text of %zu bytes is too long", len);
    for (size_t i = 0; i < t->n_prefix && flags & MM_TOK_SPECIAL && !e; i++) e = emit(o, t->prefix[i], 0, 0);
    while (!e && (a = find_added(t, s, start, len, 1, &at))) {
        size_t stop = at + a->len, left = a->lstrip ? spaces_before(s, at, start) : at;
        if (a->rstrip) stop = spaces_after(s, stop, len);
        if (left > start) e = piece(t, s, start, left, spans, o);
        if (!e) e = emit(o, a->id, (uint32_t)at, (uint32_t)(at + a->len));
        start = stop;
    }
    if (!e && start < len) e = piece(t, s, start, len, spans, o);
    for (size_t i = 0; i < t->n_suffix && flags & MM_TOK_SPECIAL && !e; i++) e = emit(o, t->suffix[i], 0, 0);
    return e ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

int mm_tok_decode(const mm_tok *t, const int32_t *ids, size_t n, mm_buf *out, mm_err *err)
{
    int first = 1;
    for (size_t i = 0; i < n; i++) {
        const char *s = mm_tok_text(t, ids[i]);
        int special = 0;
        if (!s) return mm_fail(err, MM_EDATA, "there is no token %d", ids[i]);
        for (size_t k = 0; k < t->n_add; k++) special |= t->add[k].id == ids[i] && t->add[k].special;
        if (special) continue;
        int cont = !first && t->len[ids[i]] > t->cont_len && !memcmp(s, t->cont_mark, t->cont_len);
        if (!first && !cont) mm_buf_addc(out, ' ');
        mm_buf_add(out, s + (cont ? t->cont_len : 0), t->len[ids[i]] - (cont ? t->cont_len : 0));
        first = 0;
    }
    return out->failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

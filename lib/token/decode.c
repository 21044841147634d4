/* Ids to text. */
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

/* What the decoder of WordPiece puts no space before: the artifacts that the reference's cleanup knows */
static int closes_up(const char *s)
{
    static const char *const begins[] = { ".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re" };
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(s, begins[i], strlen(begins[i]))) return 1;
    return 0;
}

/* Bytes as UTF-8. What is none becomes U+FFFD: lossy, one for each sequence that is cut short or cannot go on
 * (Unicode Standard, section 3.9, "maximal subpart"); else one for each byte of the whole. */
static void add_bytes(mm_buf *out, const char *s, size_t len, int lossy)
{
    static const char bad[] = "\xEF\xBF\xBD";
    if (!lossy) {
        if (mm_utf8_valid(s, len) == len) mm_buf_add(out, s, len);
        else
            for (size_t i = 0; i < len; i++) mm_buf_add(out, bad, 3);
        return;
    }
    for (size_t i = 0; i < len;) {
        size_t ok = mm_utf8_valid(s + i, len - i);
        mm_buf_add(out, s + i, ok);
        i += ok;
        if (i == len) break;
        unsigned char c = (unsigned char)s[i], d = i + 1 < len ? (unsigned char)s[i + 1] : 0;
        size_t need = c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 0, k = 0;
        if ((c == 0xE0 && d < 0xA0) || (c == 0xED && d > 0x9F) || (c == 0xF0 && d < 0x90) || (c == 0xF4 && d > 0x8F))
            need = 0;
        while (k < need && i + 1 + k < len && ((unsigned char)s[i + 1 + k] & 0xC0) == 0x80) k++;
        mm_buf_add(out, bad, 3);
        i += 1 + k;
    }
}

/* s with every `mark` replaced by `by` */
static void add_replaced(mm_buf *out, const char *s, size_t len, const char *mark, size_t mark_len, const char *by)
{
    const char *end = s + len, *p;
    while (mark_len && (p = memmem(s, (size_t)(end - s), mark, mark_len))) {
        mm_buf_add(out, s, (size_t)(p - s));
        mm_buf_adds(out, by);
        s = p + mark_len;
    }
    mm_buf_add(out, s, (size_t)(end - s));
}

static int is_byte(const char *s, size_t len, char *byte)
{
    unsigned v = 0;
    if (len != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9') v = v * 16 + (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') v = v * 16 + (unsigned)((c | 32) - 'a' + 10);
        else return 0;
    }
    return *byte = (char)v, 1;
}

typedef struct {
    mm_buf bytes; /* that wait for more of them */
    size_t count; /* tokens so far */
} state;

/* DECODE_FALLBACK: U+2581 is a space, <0x..> a byte, and the first space of all goes */
static void fallback(state *st, const char *s, size_t len, mm_buf *out)
{
    char b;
    if (is_byte(s, len, &b)) {
        mm_buf_addc(&st->bytes, b);
        return;
    }
    add_bytes(out, st->bytes.p, st->bytes.len, 0);
    mm_buf_reset(&st->bytes);
    add_replaced(out, s, len, "\xE2\x96\x81", 3, " ");
}

static void token(const mm_tok *t, state *st, const char *s, size_t len, int last, mm_buf *out)
{
    size_t skip = 0;
    switch (t->decode) {
    case DECODE_WORDPIECE:
        if (st->count && len >= t->cont_len && !memcmp(s, t->cont_mark, t->cont_len)) skip = t->cont_len;
        if (st->count && !skip && !(t->cleanup && closes_up(s))) mm_buf_addc(out, ' ');
        mm_buf_add(out, s + skip, len - skip);
        break;
    case DECODE_BYTES:
        if (!mm_buf_reserve(&st->bytes, len)) {
            long n = tok_bytes_of(s, len, st->bytes.p + st->bytes.len);
            if (n >= 0) st->bytes.len += (size_t)n;
            else mm_buf_add(&st->bytes, s, len);
        }
        break;
    case DECODE_METASPACE:
        add_replaced(out, s, len, t->decode_mark, t->decode_len, st->count ? " " : t->cleanup ? "" : " ");
        break;
    case DECODE_SUFFIX: add_replaced(out, s, len, t->decode_mark, t->decode_len, last ? "" : " "); break;
    case DECODE_FALLBACK: fallback(st, s, len, out); break;
    default:
        if (st->count) mm_buf_addc(out, ' ');
        mm_buf_add(out, s, len);
    }
    st->count++;
}

/* As it was looked for: in its normalised form */
static void added_text(const mm_tok *t, int32_t id, const char **s, size_t *len)
{
    for (size_t k = 0; k < t->n_add; k++)
        if (t->add[k].id == id) *s = t->add[k].text, *len = t->add[k].len;
}

int mm_tok_piece(const mm_tok *t, int32_t id, mm_buf *out, mm_err *err)
{
    state st = { .count = 1 };
    const char *s = mm_tok_text(t, id);
    if (t->decode == DECODE_UNKNOWN) return mm_fail(err, MM_EUNSUP, "the tokenizer's decoder is not supported");
    if (!s) return mm_fail(err, MM_EDATA, "there is no token %d", id);
    if (t->kind[id] & SPECIAL) return 0;
    size_t len = t->len[id];
    if (t->kind[id] & ADDED) {
        added_text(t, id, &s, &len);
        mm_buf_add(out, s, len);
    } else token(t, &st, s, len, 0, out);
    mm_buf_add(out, st.bytes.p, st.bytes.len);
    int failed = out->failed || st.bytes.failed;
    mm_buf_clear(&st.bytes);
    return failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

int mm_tok_decode(const mm_tok *t, const int32_t *ids, size_t n, mm_buf *out, mm_err *err)
{
    state st = { { 0 }, 0 };
    size_t end = n, start = out->len;
    if (t->decode == DECODE_UNKNOWN) return mm_fail(err, MM_EUNSUP, "the tokenizer's decoder is not supported");
    for (size_t i = 0; i < n; i++)
        if (!mm_tok_text(t, ids[i])) return mm_fail(err, MM_EDATA, "there is no token %d", ids[i]);
    while (end && t->kind[ids[end - 1]] & SPECIAL) end--;
    for (size_t i = 0; i < end; i++) {
        const char *s = t->text[ids[i]];
        size_t len = t->len[ids[i]];
        if (t->kind[ids[i]] & SPECIAL) continue;
        if (t->kind[ids[i]] & ADDED) added_text(t, ids[i], &s, &len);
        token(t, &st, s, len, i + 1 == end, out);
    }
    add_bytes(out, st.bytes.p, st.bytes.len, t->decode == DECODE_BYTES);
    if (t->decode == DECODE_FALLBACK && t->cleanup && !out->failed && out->len > start && out->p[start] == ' ') {
        memmove(out->p + start, out->p + start + 1, out->len - start);
        out->len--;
    }
    int failed = out->failed || st.bytes.failed;
    mm_buf_clear(&st.bytes);
    return failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

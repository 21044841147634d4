/* Added tokens: found in the text as they are written, with the rules about what stands around them. */
#include "base/mm_str.h"
#include "token/token_int.h"

static int word_before(const char *s, size_t at)
{
    size_t i = at;
    uint32_t c;
    if (!at) return 0;
    do i--;
    while (i > 0 && ((unsigned char)s[i] & 0xC0) == 0x80);
    mm_utf8_get(s + i, at - i, &c);
    return tok_uni_is_word(c);
}

static int word_after(const char *s, size_t at, size_t len)
{
    uint32_t c;
    if (at == len) return 0;
    mm_utf8_get(s + at, len - at, &c);
    return tok_uni_is_word(c);
}

/* The longest token of t->add[lo..hi) that begins at s: the sorted list is narrowed byte by byte. */
static const added *longest(const mm_tok *t, size_t lo, size_t hi, const char *s, size_t len)
{
    const added *best = NULL;
    for (size_t depth = 1; lo < hi; depth++) {
        if (t->add[lo].len == depth) best = &t->add[lo++]; /* the shortest comes first */
        if (lo == hi || depth == len) break;
        unsigned char c = (unsigned char)s[depth];
        for (size_t n = hi; lo < n;) { /* first one whose next byte is >= c */
            size_t mid = (lo + n) / 2;
            if ((unsigned char)t->add[mid].text[depth] < c) lo = mid + 1;
            else n = mid;
        }
        for (size_t a = lo; a < hi;) { /* first one whose next byte is > c */
            size_t mid = (a + hi) / 2;
            if ((unsigned char)t->add[mid].text[depth] <= c) a = mid + 1;
            else hi = mid;
        }
    }
    return best;
}

const added *tok_find(const mm_tok *t, const char *s, size_t from, size_t len, int normalized, size_t *at)
{
    const uint32_t *first = t->first[normalized];
    if (first[0] == first[256]) return NULL;
    for (size_t i = from; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (first[c] == first[c + 1]) continue;
        const added *a = longest(t, first[c], first[c + 1], s + i, len - i);
        if (!a) continue;
        if (a->single_word && (word_before(s, i) || word_after(s, i + a->len, len))) {
            i += a->len - 1; /* the whole match is passed over, as the reference's matcher does */
            continue;
        }
        *at = i;
        return a;
    }
    return NULL;
}

size_t tok_spaces_before(const char *s, size_t at, size_t floor)
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

size_t tok_spaces_after(const char *s, size_t at, size_t len)
{
    int n;
    while (at < len && tok_class(s + at, len - at, &n) == 1) at += (size_t)n;
    return at;
}

/* SentencePiece's precompiled character map: a double array of strings, and what each is replaced by. The layout
 * (darts-clone): a u32 of the array's size in bytes, the array, then replacements, each with a NUL at its end; a
 * value is the offset of one. */
#include <string.h>
#include <utf8proc.h>
#include "base/mm_str.h"
#include "token/token_int.h"

int tok_charsmap_open(norm *n, const char *p, size_t len, mm_err *err)
{
    uint32_t size;
    if (len < 4) return mm_fail(err, MM_EDATA, "precompiled_charsmap is cut");
    memcpy(&size, p, 4);
    if (size > len - 4 || size % 4 || size < 4)
        return mm_fail(err, MM_EDATA, "precompiled_charsmap: the size of its table is wrong");
    n->unit = (const uint32_t *)(const void *)(p + 4); /* p is aligned: an arena's */
    n->units = size / 4;
    n->to = p + 4 + size;
    n->to_len = len - 4 - size;
    return 0;
}

static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

/* The replacement of the shortest string of the map that s begins with; NULL: none. */
static const char *find(const norm *n, const char *s, size_t len, size_t *to_len)
{
    size_t at = offset(n->unit[0]);
    for (size_t i = 0; i < len && s[i]; i++) {
        unsigned char c = (unsigned char)s[i];
        at ^= c;
        if (at >= n->units) return NULL;
        uint32_t u = n->unit[at];
        if ((u & (1u << 31 | 0xFF)) != c) return NULL;
        at ^= offset(u);
        if (!(u >> 8 & 1)) continue;
        if (at >= n->units) return NULL;
        size_t value = n->unit[at] & 0x7FFFFFFF;
        if (value >= n->to_len) return NULL;
        const char *r = n->to + value, *nul = memchr(r, 0, n->to_len - value);
        *to_len = nul ? (size_t)(nul - r) : n->to_len - value;
        return r;
    }
    return NULL;
}

/* Graphemes of the reference are those of Unicode 17.0, utf8proc 2.8's those of 15.0 (observed over every code
 * point): what became a mark since is looked up as one that was there, and two others likewise. */
static utf8proc_int32_t as_of_15(uint32_t c)
{
    static const uint32_t marks[][2] = {
        { 0x897, 0x897 },     { 0x1ACF, 0x1ADD },   { 0x1AE0, 0x1AEB },   { 0x10D69, 0x10D6D }, { 0x10EFA, 0x10EFC },
        { 0x113B8, 0x113C0 }, { 0x113C2, 0x113C2 }, { 0x113C5, 0x113C5 }, { 0x113C7, 0x113CA }, { 0x113CC, 0x113D0 },
        { 0x113D2, 0x113D2 }, { 0x113E1, 0x113E2 }, { 0x11B60, 0x11B67 }, { 0x11F5A, 0x11F5A }, { 0x1611E, 0x1612F },
        { 0x1E5EE, 0x1E5EF }, { 0x1E6E3, 0x1E6E3 }, { 0x1E6E6, 0x1E6E6 }, { 0x1E6EE, 0x1E6EF }, { 0x1E6F5, 0x1E6F5 }
    };
    if (c == 0x113D1) return 0x600; /* a prepended mark */
    if (c == 0x11A3A) return 'a';   /* no longer one */
    for (size_t i = 0; c >= 0x897 && i < sizeof marks / sizeof *marks && c >= marks[i][0]; i++)
        if (c <= marks[i][1]) return 0x300;
    return (utf8proc_int32_t)c;
}

/* As the reference does it: a grapheme of less than 6 bytes is looked up as a whole, and replaced as a whole even
 * where only its beginning was found; else its characters one by one. */
int tok_charsmap(const norm *n, const view *in, txt *out)
{
    int e = 0;
    for (size_t i = 0, stop; i < in->len && !e; i = stop) {
        uint32_t c, d;
        utf8proc_int32_t state = 0;
        size_t k;
        stop = i + (size_t)mm_utf8_get(in->s + i, in->len - i, &c);
        for (; stop < in->len; stop += k, c = d) {
            k = (size_t)mm_utf8_get(in->s + stop, in->len - stop, &d);
            if (c < 0x300 && d < 0x300 && c != '\r') break; /* no grapheme goes on here, but for CR LF */
            if (utf8proc_grapheme_break_stateful(as_of_15(c), as_of_15(d), &state)) break;
        }
        const char *r = stop - i < 6 ? find(n, in->s + i, stop - i, &k) : NULL;
        if (r) {
            e = tok_text_put(out, r, k, src_from(in, i), src_to(in, stop - 1));
            continue;
        }
        for (size_t j = i, m; j < stop && !e; j += m) {
            m = (size_t)mm_utf8_get(in->s + j, stop - j, &c);
            r = find(n, in->s + j, m, &k);
            e = r ? tok_text_put(out, r, k, src_from(in, j), src_to(in, j + m - 1))
                  : tok_text_copy(out, in, j, j + m);
        }
    }
    return e;
}

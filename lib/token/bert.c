/* BERT's normaliser. The order is the reference's: clean, set Chinese characters apart, decompose and drop accents,
 * lower-case. ASCII takes a table. */
#include "base/mm_str.h"
#include "token/token_int.h"

/* What becomes of an ASCII byte: itself, lower case, a space, or 0 (dropped). */
static char ascii(const norm *n, unsigned char c)
{
    if (n->clean && c < 32) return c == '\t' || c == '\n' || c == '\r' ? ' ' : 0;
    if (n->clean && c == 127) return 0;
    return n->lower && c >= 'A' && c <= 'Z' ? (char)(c + 32) : (char)c;
}

/* A run of ASCII from i on; *i goes behind it. What follows never changes it: accents are dropped or kept as they
 * are. */
static int ascii_run(const norm *n, const view *in, size_t *i, txt *out)
{
    size_t j = *i;
    while (j < in->len && (unsigned char)in->s[j] < 128) j++;
    if (mm_buf_reserve(&out->b, j - *i)) return MM_ENOMEM;
    if (out->spans) {
        for (; *i < j; ++*i) {
            char a = ascii(n, (unsigned char)in->s[*i]);
            if ((a || !n->clean) && tok_text_put(out, &a, 1, src_from(in, *i), src_to(in, *i))) return MM_ENOMEM;
        }
        return 0;
    }
    char *o = out->b.p + out->b.len;
    for (; *i < j; ++*i) {
        char a = ascii(n, (unsigned char)in->s[*i]);
        *o = a;
        o += a != 0 || !n->clean;
    }
    out->b.len = (size_t)(o - out->b.p);
    *o = 0;
    return 0;
}

int tok_bert(const norm *n, const view *in, txt *out)
{
    int e = 0;
    for (size_t i = 0; i < in->len && !e;) {
        uint32_t c;
        if ((unsigned char)in->s[i] < 128) {
            e = ascii_run(n, in, &i, out);
            continue;
        }
        if (n->strip) { /* up to the next ASCII character, which no mark is exchanged with */
            size_t j = i;
            while (j < in->len && (unsigned char)in->s[j] >= 128) j++;
            view part = { in->s + i, j - i, in->at ? in->at + 2 * i : NULL, in->base + (uint32_t)i };
            e = tok_canonical(n, &part, out, 0, 0, 1);
            i = j;
            continue;
        }
        int k = mm_utf8_get(in->s + i, in->len - i, &c);
        uint32_t from = src_from(in, i), to = src_to(in, i + (size_t)k - 1);
        char u[8];
        i += (size_t)k;
        if (n->clean) {
            if (tok_uni_is_dropped(c)) continue;
            if (tok_uni_is_space(c)) c = ' ';
        }
        int cjk = n->chinese && tok_uni_is_chinese(c);
        if (cjk) e = tok_text_put(out, " ", 1, from, to);
        if (!e) e = tok_text_put(out, u, n->lower ? tok_uni_lower(c, u) : (size_t)mm_utf8_put(c, u), from, to);
        if (cjk && !e) e = tok_text_put(out, " ", 1, from, to);
    }
    return e;
}

/* What characters are: utf8proc's tables, corrected where the reference stands on another version of Unicode
 * (bert_unicode.h, unicode_late.h, unicode_old.h say where and how it was found out). A newer utf8proc gives the
 * same answers up to Unicode 16.0; the unit test has a sum over all of them. */
#include <utf8proc.h>
#include "base/mm_str.h"
#include "token/bert_unicode.h"
#include "token/token_int.h"
#include "token/unicode_late.h"
#include "token/unicode_old.h"

#define IN(table, cp) in(table, sizeof table / sizeof *table, cp)

static int in(const range *r, size_t count, uint32_t cp)
{
    size_t lo = 0, n = count;
    while (lo < n) {
        size_t mid = (lo + n) / 2;
        if (cp > r[mid].hi) lo = mid + 1;
        else n = mid;
    }
    return lo < count && cp >= r[lo].lo;
}

static utf8proc_category_t category(uint32_t cp) { return utf8proc_category((utf8proc_int32_t)cp); }

/* The category of a character that came after Unicode 15.0, -1: it did not. */
static int late(uint32_t c)
{
    size_t lo = 0, count = sizeof unicode_late / sizeof *unicode_late, n = count;
    while (lo < n) {
        size_t mid = (lo + n) / 2;
        if (c > unicode_late[mid].hi) lo = mid + 1;
        else n = mid;
    }
    return lo < count && c >= unicode_late[lo].lo ? unicode_late[lo].cat : -1;
}

int tok_uni_category(uint32_t c)
{
    utf8proc_category_t k = category(c);
    if (k != UTF8PROC_CATEGORY_CN) return (int)k;
    return late(c) < 0 ? UTF8PROC_CATEGORY_CN : late(c);
}

/* White_Space of Unicode, which is what Rust's char::is_whitespace tells */
int tok_uni_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

int tok_uni_is_number(uint32_t c)
{
    if (c < 128) return c >= '0' && c <= '9';
    int k = tok_uni_category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

int tok_uni_is_dropped(uint32_t c)
{
    if (c == 0 || c == 0xFFFD) return 1;
    if (c == '\t' || c == '\n' || c == '\r') return 0;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CO: return 1;
    case UTF8PROC_CATEGORY_CF: return !IN(not_control, c);
    default: return 0;
    }
}

int tok_uni_is_chinese(uint32_t c)
{
    /* the reference has 2B920 where the block begins at 2B820; ids follow the reference */
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

int tok_uni_is_punct(uint32_t c)
{
    if (c < 128)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    utf8proc_category_t k = category(c);
    if (k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO) return !IN(not_punct, c) && late(c) < 0;
    return IN(more_punct, c);
}

int tok_uni_is_mark(uint32_t c)
{
    if (c < 0x300) return 0;
    return category(c) == UTF8PROC_CATEGORY_MN ? !IN(not_mark, c) && late(c) < 0 : IN(more_mark, c);
}

int tok_uni_is_combining(uint32_t c)
{
    if (c < 0x300) return 0;
    utf8proc_category_t k = category(c);
    if (c == 0x1CF2 || c == 0x1CF3) return 1; /* a letter since 12.0 */
    return k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME && !IN(not_combining, c) && late(c) < 0;
}

int tok_uni_is_word(uint32_t c)
{
    if (c < 128) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
    if (c == 0x200C || c == 0x200D) return 1;
    /* letters in circles and squares are symbols, but alphabetic (Unicode's Other_Alphabetic) */
    if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
        (c >= 0x1F170 && c <= 0x1F189))
        return 1;
    int k = tok_uni_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ND) || k == UTF8PROC_CATEGORY_NL ||
           k == UTF8PROC_CATEGORY_PC;
}

size_t tok_uni_lower(uint32_t c, char out[8])
{
    if (c == 0x130) { /* the only character whose lower case is two */
        out[0] = 'i';
        return 1 + (size_t)mm_utf8_put(0x307, out + 1);
    }
    uint32_t l = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    if (l == c)
        for (size_t i = 0; i < sizeof more_lower / sizeof *more_lower; i++)
            if (c >= more_lower[i].lo && c <= more_lower[i].hi && (c - more_lower[i].lo) % more_lower[i].step == 0)
                l = (uint32_t)((int32_t)c + more_lower[i].delta);
    return (size_t)mm_utf8_put(l, out);
}

int tok_uni_decompose(uint32_t c, int compat, int32_t out[32])
{
    int last = 0;
    utf8proc_ssize_t n = -1;
    if (c >= 0xA0 && c != 0x11938 && !(compat && IN(not_compat, c)) && late(c) < 0)
        n = utf8proc_decompose_char((utf8proc_int32_t)c, out, 32,
                                    UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0), &last);
    if (n > 0 && n <= 32) return (int)n;
    out[0] = (int32_t)c;
    return 1;
}

int tok_uni_class(uint32_t c)
{
    int k = c < 0x300 ? 0 : utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
    return k && (IN(not_moved, c) || late(c) >= 0) ? 0 : k;
}

uint32_t tok_uni_compose(uint32_t a, uint32_t b)
{
    utf8proc_int32_t two[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };
    /* the second of a composition is never below U+0300, nor U+11A7, which stands for no final consonant
     * (utf8proc 2.8 takes it) */
    if (b < 0x300 || b == 0x11A7) return 0;
    if (utf8proc_normalize_utf32(two, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) != 1 || two[0] == 0x11938 ||
        late((uint32_t)two[0]) >= 0)
        return 0;
    return (uint32_t)two[0];
}

int tok_class(const char *s, size_t len, int *n)
{
    uint32_t c;
    *n = mm_utf8_get(s, len, &c);
    return tok_uni_is_space(c) ? 1 : tok_uni_is_punct(c) ? 2 : 0;
}

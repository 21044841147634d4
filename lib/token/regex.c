/* The regular expressions that tokenizers are known to use, written out as matchers: a tokenizer.json that has
 * another one is refused. They follow Oniguruma (which the reference uses) on Unicode 16.0: leftmost alternative
 * first, greedy, with the backtracking that can make a difference. */
#include <string.h>
#include <utf8proc.h>
#include "base/mm_str.h"
#include "token/token_int.h"

enum { OTHER, LETTER, NUMBER, SPACE, NEWLINE }; /* NEWLINE: \r and \n, which are white space too */

static int class_of(const char *s, size_t i, size_t end, size_t *n)
{
    unsigned char b = (unsigned char)s[i];
    uint32_t c;
    *n = 1;
    if (b < 128) {
        if ((b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z')) return LETTER;
        if (b >= '0' && b <= '9') return NUMBER;
        if (b == '\n' || b == '\r') return NEWLINE;
        return b == ' ' || (b >= 9 && b <= 13) ? SPACE : OTHER;
    }
    *n = (size_t)mm_utf8_get(s + i, end - i, &c);
    if (tok_uni_is_space(c)) return SPACE;
    int k = tok_uni_category(c);
    if (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) return LETTER;
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO ? NUMBER : OTHER;
}

/* End of the run of one class from i on, at most `most` characters. */
static size_t run(const char *s, size_t i, size_t end, int class, size_t most)
{
    size_t n;
    for (; i < end && most; i += n, most--)
        if (class_of(s, i, end, &n) != class) break;
    return i;
}

static size_t spaces(const char *s, size_t i, size_t end)
{
    size_t n;
    for (; i < end; i += n) {
        int c = class_of(s, i, end, &n);
        if (c != SPACE && c != NEWLINE) break;
    }
    return i;
}

/* 's|'t|'re|'ve|'m|'ll|'d; fold: in any case, where 's has a third form, long s */
static size_t contraction(const char *s, size_t i, size_t end, int fold)
{
    static const char *const tails[] = { "s", "t", "re", "ve", "m", "ll", "d" };
    if (s[i] != '\'') return 0;
    for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
        size_t n = strlen(tails[k]), q = 0;
        if (n > end - i - 1) continue;
        while (q < n && (s[i + 1 + q] == tails[k][q] || (fold && s[i + 1 + q] == tails[k][q] - 32))) q++;
        if (q == n) return n + 1;
    }
    return fold && end - i >= 3 && !memcmp(s + i + 1, "\xC5\xBF", 2) ? 3 : 0;
}

/* \s+(?!\S)|\s+ where a run of white space begins: its last character is left to the word that follows */
static size_t gap(const char *s, size_t i, size_t end)
{
    size_t stop = spaces(s, i, end), last = stop;
    if (stop == end) return stop - i;
    do last--;
    while (((unsigned char)s[last] & 0xC0) == 0x80);
    return (last > i ? last : stop) - i;
}

/* GPT-2's: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t tok_match_gpt2(const char *s, size_t i, size_t end)
{
    size_t n = contraction(s, i, end, 0), j = i + (s[i] == ' ');
    if (n) return n;
    if (j < end) {
        int c = class_of(s, j, end, &n);
        if (c != SPACE && c != NEWLINE) return run(s, j, end, c, SIZE_MAX) - i;
    }
    return gap(s, i, end);
}

/* cl100k's family: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 * \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t cl100k(const char *s, size_t i, size_t end, size_t digits)
{
    size_t n, m = contraction(s, i, end, 1);
    if (m) return m;
    int c = class_of(s, i, end, &n);
    if (c == LETTER) return run(s, i, end, LETTER, SIZE_MAX) - i;
    if (c == NUMBER) return run(s, i, end, NUMBER, digits) - i;
    if (c != NEWLINE && i + n < end && class_of(s, i + n, end, &m) == LETTER)
        return run(s, i + n, end, LETTER, SIZE_MAX) - i;
    size_t j = i + (s[i] == ' ');
    if (j < end && class_of(s, j, end, &m) == OTHER) {
        j = run(s, j, end, OTHER, SIZE_MAX);
        return run(s, j, end, NEWLINE, SIZE_MAX) - i;
    }
    size_t stop = spaces(s, i, end); /* white space up to its last line end, if it has one */
    for (j = stop; j > i; j--)
        if (s[j - 1] == '\n' || s[j - 1] == '\r') return j - i;
    return gap(s, i, end);
}

static size_t match_llama3(const char *s, size_t i, size_t end) { return cl100k(s, i, end, 3); }
static size_t match_qwen2(const char *s, size_t i, size_t end) { return cl100k(s, i, end, 1); }

/* CLIP's: 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+ */
static size_t match_clip(const char *s, size_t i, size_t end)
{
    size_t n = contraction(s, i, end, 0);
    if (n) return n;
    int c = class_of(s, i, end, &n);
    if (c == SPACE || c == NEWLINE) return 0;
    return run(s, i, end, c, c == NUMBER ? 1 : SIZE_MAX) - i;
}

/* o200k: letters in two kinds, U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and L = [\p{Ll}\p{Lm}\p{Lo}\p{M}] */
static int upper_lower(const char *s, size_t i, size_t end, size_t *n)
{
    uint32_t c;
    *n = (size_t)mm_utf8_get(s + i, end - i, &c);
    switch (tok_uni_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return 1;
    case UTF8PROC_CATEGORY_LL: return 2;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return 3;
    default: return 0;
    }
}

static size_t kind_run(const char *s, size_t i, size_t end, int kind)
{
    size_t n;
    while (i < end && upper_lower(s, i, end, &n) & kind) i += n;
    return i;
}

/* U*L+ (strict) or U+L* from j on; end of the match, 0: none */
static size_t word_of(const char *s, size_t j, size_t end, int strict)
{
    size_t n, u = kind_run(s, j, end, 1);
    if (!strict) return u > j ? kind_run(s, u, end, 2) : 0;
    if (u < end && upper_lower(s, u, end, &n) & 2) return kind_run(s, u, end, 2);
    while (u > j) { /* give back characters until one is in L too */
        do u--;
        while (((unsigned char)s[u] & 0xC0) == 0x80);
        if (upper_lower(s, u, end, &n) & 2) return kind_run(s, u, end, 2);
    }
    return 0;
}

static size_t match_o200k(const char *s, size_t i, size_t end)
{
    size_t n, m;
    int c = class_of(s, i, end, &n);
    for (int strict = 1; strict >= 0; strict--) {
        size_t stop = 0; /* [^\r\n\p{L}\p{N}]? is greedy: first with it, then without */
        if (c != NEWLINE && c != LETTER && c != NUMBER && i + n < end) stop = word_of(s, i + n, end, strict);
        if (!stop) stop = word_of(s, i, end, strict);
        if (stop) return stop - i + (stop < end ? contraction(s, stop, end, 1) : 0);
    }
    if (c == NUMBER) return run(s, i, end, NUMBER, 3) - i;
    size_t j = i + (s[i] == ' ');
    if (j < end && class_of(s, j, end, &m) == OTHER) {
        j = run(s, j, end, OTHER, SIZE_MAX);
        while (j < end && (s[j] == '\r' || s[j] == '\n' || s[j] == '/')) j++;
        return j - i;
    }
    size_t stop = spaces(s, i, end);
    for (j = stop; j > i; j--)
        if (s[j - 1] == '\n' || s[j - 1] == '\r') return j - i;
    return gap(s, i, end);
}

static size_t one(const char *s, size_t i, size_t end, int (*is)(uint32_t))
{
    uint32_t c;
    size_t n = (size_t)mm_utf8_get(s + i, end - i, &c);
    return is(c) ? n : 0;
}

static size_t many(const char *s, size_t i, size_t end, int (*is)(uint32_t))
{
    size_t n, j = i;
    while (j < end && (n = one(s, j, end, is))) j += n;
    return j - i;
}

/* Rust's char::is_numeric, which Digits asks: N of Unicode 17.0 */
static int is_numeric(uint32_t c)
{
    return tok_uni_is_number(c) || (c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6);
}

size_t tok_match_number(const char *s, size_t i, size_t end) { return one(s, i, end, is_numeric); }
size_t tok_match_numbers(const char *s, size_t i, size_t end) { return many(s, i, end, is_numeric); }
size_t tok_match_space(const char *s, size_t i, size_t end) { return one(s, i, end, tok_uni_is_space); }
size_t tok_match_punct(const char *s, size_t i, size_t end) { return one(s, i, end, tok_uni_is_punct); }

static int is_sign(uint32_t c) { return !tok_uni_is_word(c) && !tok_uni_is_space(c); }

/* \w+|[^\w\s]+ */
size_t tok_match_word(const char *s, size_t i, size_t end)
{
    size_t n = many(s, i, end, tok_uni_is_word);
    return n ? n : many(s, i, end, is_sign);
}

static size_t match_spaces(const char *s, size_t i, size_t end) { return many(s, i, end, tok_uni_is_space); }

static size_t match_two_blanks(const char *s, size_t i, size_t end)
{
    size_t j = i;
    while (j < end && s[j] == ' ') j++;
    return j - i >= 2 ? j - i : 0;
}

static size_t match_one_number(const char *s, size_t i, size_t end) { return run(s, i, end, NUMBER, 1) - i; }
static size_t match_three_numbers(const char *s, size_t i, size_t end) { return run(s, i, end, NUMBER, 3) - i; }

match_fn *tok_regex(const char *pattern, size_t len)
{
    static const struct {
        const char *pattern;
        match_fn *match;
    } known[] = {
        { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", tok_match_gpt2 },
        { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
          "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          match_llama3 },
        { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
          "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          match_qwen2 },
        { "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'"
          "ve|'m|'ll|'d)?|"
          "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'"
          "ve|'m|'ll|'d)?|"
          "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          match_o200k },
        { "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+", match_clip },
        { "\\s+", match_spaces },
        { "\\s", tok_match_space },
        { " {2,}", match_two_blanks },
        { "\\p{N}", match_one_number },
        { "\\p{N}{1,3}", match_three_numbers },
        { "\\w+|[^\\w\\s]+", tok_match_word },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].pattern) == len && !memcmp(known[i].pattern, pattern, len)) return known[i].match;
    return NULL;
}

/* One character of a bracket: 0 if it is not a plain ASCII one. */
static int set_char(const char **p, const char *end)
{
    int c = (unsigned char)*(*p)++;
    if (c != '\\') return c < 128 && c != '[' && c != ']' && c != '&' && c ? c : 0;
    if (*p == end) return 0;
    c = (unsigned char)*(*p)++;
    int letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return c < 128 && !letter ? c : 0;
}

int tok_regex_set(const char *pattern, size_t len, uint64_t set[2], size_t *most)
{
    const char *p = pattern + 1, *end = pattern + len;
    *most = 1;
    if (len > 3 && end[-1] == '+') end--, *most = SIZE_MAX;
    if (end - pattern < 3 || pattern[0] != '[' || end[-1] != ']' || *p == '^') return 0;
    end--;
    set[0] = set[1] = 0;
    while (p < end) {
        int a = set_char(&p, end), b = a;
        if (!a) return 0;
        if (end - p > 1 && *p == '-') {
            p++;
            if (!(b = set_char(&p, end)) || b < a) return 0;
        }
        for (; a <= b; a++) set[a / 64] |= (uint64_t)1 << a % 64;
    }
    return 1;
}

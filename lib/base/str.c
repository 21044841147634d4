#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"

/* ---- UTF-8 ---- */

/* Length 2..4 of the valid multi-byte character at s, 0 if it is not one. The ranges of the second byte keep out overlong
 * forms, surrogates and values over U+10FFFF (RFC 3629 section 4). */
static int multibyte(const unsigned char *s, size_t len)
{
    unsigned c = s[0];
    if (c < 0xC2 || c > 0xF4 || len < 2) return 0;
    unsigned lo = 0x80, hi = 0xBF;
    if (c == 0xE0) lo = 0xA0;
    else if (c == 0xED) hi = 0x9F;
    else if (c == 0xF0) lo = 0x90;
    else if (c == 0xF4) hi = 0x8F;
    if (s[1] < lo || s[1] > hi) return 0;
    int n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (len < (size_t)n) return 0;
    for (int i = 2; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return n;
}

size_t mm_utf8_valid(const char *str, size_t len)
{
    const unsigned char *s = (const unsigned char *)str;
    size_t i = 0;
    while (i < len) {
        uint64_t w;
        if (len - i >= 8 && (memcpy(&w, s + i, 8), !(w & 0x8080808080808080))) {
            i += 8;
        } else if (s[i] < 0x80) {
            i++;
        } else {
            int n = multibyte(s + i, len - i);
            if (!n) break;
            i += (size_t)n;
        }
    }
    return i;
}

int mm_utf8_get(const char *str, size_t len, uint32_t *cp)
{
    const unsigned char *s = (const unsigned char *)str;
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    int n = multibyte(s, len);
    switch (n) {
    case 2: *cp = (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu); return 2;
    case 3: *cp = (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu); return 3;
    case 4: *cp = (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu); return 4;
    }
    *cp = 0xFFFD;
    return 1;
}

int mm_utf8_put(uint32_t cp, char out[4])
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) cp = 0xFFFD;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    int n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3F));
        cp >>= 6;
    }
    out[0] = (char)((0xF00 >> n & 0xF0) | cp);
    return n;
}

/* ---- base64 ---- */

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int mm_base64_encode(mm_buf *out, const void *data, size_t len)
{
    const unsigned char *p = data;
    size_t need;
    if (mm_mul(len / 3 + 1, 4, &need) || mm_buf_reserve(out, need)) {
        out->failed = 1;
        return MM_ENOMEM;
    }
    char *o = out->p + out->len;
    for (; len >= 3; p += 3, len -= 3) {
        unsigned v = (unsigned)p[0] << 16 | (unsigned)p[1] << 8 | p[2];
        *o++ = b64[v >> 18];
        *o++ = b64[v >> 12 & 63];
        *o++ = b64[v >> 6 & 63];
        *o++ = b64[v & 63];
    }
    if (len) {
        unsigned v = (unsigned)p[0] << 16 | (len > 1 ? (unsigned)p[1] << 8 : 0);
        *o++ = b64[v >> 18];
        *o++ = b64[v >> 12 & 63];
        *o++ = len > 1 ? b64[v >> 6 & 63] : '=';
        *o++ = '=';
    }
    out->len = (size_t)(o - out->p);
    *o = 0;
    return 0;
}

/* 0..63, or 64 for a byte outside the alphabet */
static const unsigned char *decode_table(void)
{
    static const unsigned char t[256] = {
#define R16(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
        R16(64), R16(64),
        64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 62, 64, 64, 64, 63,
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 64, 64, 64, 64, 64, 64,
        64, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 64, 64, 64, 64, 64,
        64, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 64, 64, 64, 64, 64,
        R16(64), R16(64), R16(64), R16(64), R16(64), R16(64), R16(64), R16(64)
#undef R16
    };
    return t;
}

int mm_base64_decode(mm_buf *out, const char *str, size_t len)
{
    const unsigned char *s = (const unsigned char *)str, *t = decode_table();
    if (len % 4 == 0)
        for (int i = 0; i < 2 && len && s[len - 1] == '='; i++) len--;
    if (len % 4 == 1) return MM_EDATA;
    if (mm_buf_reserve(out, len / 4 * 3 + 3)) return MM_ENOMEM;
    unsigned char *o = (unsigned char *)out->p + out->len, *start = o;
    unsigned bad = 0;
    for (; len >= 4; s += 4, len -= 4) {
        unsigned a = t[s[0]], b = t[s[1]], c = t[s[2]], d = t[s[3]];
        bad |= a | b | c | d;
        unsigned v = a << 18 | b << 12 | c << 6 | d;
        *o++ = (unsigned char)(v >> 16);
        *o++ = (unsigned char)(v >> 8);
        *o++ = (unsigned char)v;
    }
    if (len) {
        unsigned a = t[s[0]], b = t[s[1]], c = len > 2 ? t[s[2]] : 0;
        bad |= a | b | c;
        unsigned v = a << 18 | b << 12 | c << 6;
        if (v & (len > 2 ? 0xFF : 0xFFFF)) bad |= 64; /* left-over bits must be zero: one text per byte string */
        *o++ = (unsigned char)(v >> 16);
        if (len > 2) *o++ = (unsigned char)(v >> 8);
    }
    if (bad & 64) {
        out->p[out->len] = 0;
        return MM_EDATA;
    }
    out->len += (size_t)(o - start);
    out->p[out->len] = 0;
    return 0;
}

/* ---- numbers ---- */

size_t mm_parse_double(const char *s, size_t len, double *v)
{
    static const double pow10[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    size_t i = 0;
    int neg = 0, digits = 0, exp10 = 0;
    uint64_t m = 0;
    if (i < len && s[i] == '-') {
        neg = 1;
        i++;
    }
    if (i == len || s[i] < '0' || s[i] > '9') return 0;
    if (s[i] == '0') {
        i++;
    } else {
        for (; i < len && s[i] >= '0' && s[i] <= '9'; i++) {
            if (digits < 19) m = m * 10 + (uint64_t)(s[i] - '0'), digits++;
            else exp10++, digits = 20; /* 20: more digits than fit, the fast path is off */
        }
    }
    if (i < len && s[i] == '.') {
        size_t dot = i++;
        for (; i < len && s[i] >= '0' && s[i] <= '9'; i++) {
            if (digits >= 19) {
                digits = 20;
            } else {
                m = m * 10 + (uint64_t)(s[i] - '0');
                if (m) digits++;
                exp10--;
            }
        }
        if (i == dot + 1) return 0;
    }
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        size_t j = i + 1;
        int eneg = 0, e = 0;
        if (j < len && (s[j] == '+' || s[j] == '-')) eneg = s[j++] == '-';
        if (j == len || s[j] < '0' || s[j] > '9') return 0;
        for (; j < len && s[j] >= '0' && s[j] <= '9'; j++)
            if (e < 100000) e = e * 10 + (s[j] - '0');
        exp10 += eneg ? -e : e;
        i = j;
    }
    double d;
    if (digits < 20 && m <= (uint64_t)1 << 53 && exp10 >= -22 && exp10 <= 22) {
        /* both operands exact, one correctly rounded operation (Clinger, "How to read floating point numbers accurately") */
        d = exp10 < 0 ? (double)m / pow10[-exp10] : (double)m * pow10[exp10];
    } else {
        /* strtod wants a NUL; the programs keep LC_NUMERIC at "C" */
        char small[128], *t = small;
        size_t n = i - (size_t)neg;
        if (n >= sizeof small && !(t = malloc(n + 1))) return 0;
        memcpy(t, s + neg, n);
        t[n] = 0;
        d = strtod(t, NULL);
        if (t != small) free(t);
    }
    *v = neg ? -d : d;
    return i;
}

size_t mm_format_float(float x, char out[16])
{
    static const double up[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    char *o = out;
    double a = fabs((double)x);
    if (signbit(x)) *o++ = '-';
    if (a == 0) {
        *o++ = '0';
        return (size_t)(o - out);
    }
    if (a < 1e-5 || a >= 1e9) {
        char tmp[32];
        int n = 0, k = 0;
        double back;
        for (int digits = 6; digits <= 9; digits++) {
            n = snprintf(tmp, sizeof tmp, "%.*g", digits, a);
            if (mm_parse_double(tmp, (size_t)n, &back) == (size_t)n && (float)back == (float)a) break;
        }
        /* "1.20000005e-07" is 14 bytes at most; no comma even in another LC_NUMERIC */
        for (int i = 0; i < n && k < 15; i++, k++) *o++ = tmp[i] == ',' ? '.' : tmp[i];
        return (size_t)(o - out);
    }
    /* Nine significant digits: a * 10^s lies in [1e8, 1e9). The product is off by at most 1 part in 2^53, far less than
     * the distance of neighbouring floats (1 in 2^24), so that the decimal reads back to the same float32. */
    int s = 0;
    if (a >= 1) {
        while (s < 9 && a >= up[s + 1]) s++;
        s = 8 - s;
    } else {
        s = 8;
        while (a * up[s] < 1e8) s++;
    }
    uint64_t m = (uint64_t)(a * up[s] + 0.5);
    /* a shorter text where it reads back to the same value: 0.1, not 0.100000001 */
    while (s > 0 && (float)((double)((m + 5) / 10) / up[s - 1]) == (float)a) m = (m + 5) / 10, s--;
    char dig[24];
    int n = 0;
    do dig[n++] = (char)('0' + m % 10), m /= 10;
    while (m);
    while (n <= s) dig[n++] = '0';
    while (n > s) *o++ = dig[--n];
    if (s) {
        *o++ = '.';
        while (n > 0) *o++ = dig[--n];
    }
    return (size_t)(o - out);
}

int mm_parse_int(const char *s, int64_t min, int64_t max, int64_t *v)
{
    char *end;
    if (!s[0] || strchr(" \t\n\v\f\r", s[0])) return MM_EARG;
    errno = 0;
    long long x = strtoll(s, &end, 10);
    if (errno || end == s) return MM_EARG;
    int shift = 0;
    if (*end == 'k' || *end == 'K') shift = 10, end++;
    else if (*end == 'M') shift = 20, end++;
    else if (*end == 'G') shift = 30, end++;
    int64_t y;
    if (*end || __builtin_mul_overflow((int64_t)x, (int64_t)1 << shift, &y) || y < min || y > max) return MM_EARG;
    *v = y;
    return 0;
}

/* ---- hashes ---- */

static uint64_t rd64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }

#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u
#define P4 0x85EBCA77C2B2AE63u
#define P5 0x27D4EB2F165667C5u

static uint64_t xround(uint64_t acc, uint64_t in) { return rotl(acc + in * P2, 31) * P1; }

uint64_t mm_hash64(const void *data, size_t len, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h;
    size_t left = len;
    if (left >= 32) {
        uint64_t v[4] = { seed + P1 + P2, seed + P2, seed, seed - P1 };
        for (; left >= 32; p += 32, left -= 32)
            for (int i = 0; i < 4; i++) v[i] = xround(v[i], rd64(p + 8 * i));
        h = rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18);
        for (int i = 0; i < 4; i++) h = (h ^ xround(0, v[i])) * P1 + P4;
    } else {
        h = seed + P5;
    }
    h += len;
    for (; left >= 8; p += 8, left -= 8) h = rotl(h ^ xround(0, rd64(p)), 27) * P1 + P4;
    if (left >= 4) {
        uint32_t w;
        memcpy(&w, p, 4);
        h = rotl(h ^ w * P1, 23) * P2 + P3;
        p += 4;
        left -= 4;
    }
    for (; left; p++, left--) h = rotl(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

/* Reflected polynomial 0x82F63B78, eight bytes a step by eight tables ("slicing-by-8"), built before main() so that no
 * thread sees them half done. */
static uint32_t crc_tab[8][256];

__attribute__((constructor)) static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
        crc_tab[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++)
            crc_tab[t][i] = crc_tab[t - 1][i] >> 8 ^ crc_tab[0][crc_tab[t - 1][i] & 255];
}

uint32_t mm_crc32c(uint32_t crc, const void *data, size_t len)
{
    const unsigned char *p = data;
    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w = rd64(p) ^ crc;
        crc = crc_tab[7][w & 255] ^ crc_tab[6][w >> 8 & 255] ^ crc_tab[5][w >> 16 & 255] ^
              crc_tab[4][w >> 24 & 255] ^ crc_tab[3][w >> 32 & 255] ^ crc_tab[2][w >> 40 & 255] ^
              crc_tab[1][w >> 48 & 255] ^ crc_tab[0][w >> 56];
    }
    for (; len; p++, len--) crc = crc >> 8 ^ crc_tab[0][(crc ^ *p) & 255];
    return ~crc;
}

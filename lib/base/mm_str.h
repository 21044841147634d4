/* mm_str.h - text helpers: UTF-8, base64, numbers that survive a round trip, hashing. Nothing here depends on the locale. */
#ifndef MM_STR_H
#define MM_STR_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Length of the longest valid UTF-8 prefix (RFC 3629: no overlong forms, no surrogates, <= U+10FFFF). == len: all valid. */
MM_API size_t mm_utf8_valid(const char *s, size_t len);
/* Decode one character of valid UTF-8 at s (len > 0 left); sets *cp and returns its length 1..4. On an invalid byte sets
 * *cp = 0xFFFD and returns 1. */
MM_API int mm_utf8_get(const char *s, size_t len, uint32_t *cp);
/* Encode cp (any value; out of range or a surrogate becomes U+FFFD) into out[4]; returns its length. */
MM_API int mm_utf8_put(uint32_t cp, char out[4]);

/* Base64, RFC 4648 section 4, padded. mm_base64_decode appends to out; whitespace is not accepted, missing padding is.
 * MM_EDATA on anything else (out unchanged). */
MM_API int mm_base64_encode(mm_buf *out, const void *p, size_t len);
MM_API MM_MUST_CHECK int mm_base64_decode(mm_buf *out, const char *s, size_t len);

/* Parse a JSON number (RFC 8259 grammar) at the start of s; returns bytes consumed, 0 if there is none. Correctly rounded
 * to double. A value beyond double's range gives +-HUGE_VAL. */
MM_API size_t mm_parse_double(const char *s, size_t len, double *v);
/* Shortest decimal: at most 9 significant digits, reads back to the same float32. x must be finite. Writes at most
 * 16 bytes, no NUL; returns the length. */
MM_API size_t mm_format_float(float x, char out[16]);

/* Integer with optional suffix k, M, G (powers of 1024) in decimal; 0 and *v, or MM_EARG. Whole string must match. */
MM_API MM_MUST_CHECK int mm_parse_int(const char *s, int64_t min, int64_t max, int64_t *v);

/* 64-bit non-cryptographic hash: XXH64 (public specification by Y. Collet, github.com/Cyan4973/xxHash, doc/
 * xxhash_spec.md); stable across machines. */
MM_API uint64_t mm_hash64(const void *p, size_t len, uint64_t seed);
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4); start with crc = 0, feed pieces in order. */
MM_API uint32_t mm_crc32c(uint32_t crc, const void *p, size_t len);

#ifdef __cplusplus
}
#endif
#endif

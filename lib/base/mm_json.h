/* mm_json.h - JSON two ways.
 *
 * 1. A strict, allocation-free scanner for records on a stream: it validates (RFC 8259, UTF-8, depth) and hands out byte
 *    slices of the input, so that members nobody understands pass through unchanged, digit for digit.
 * 2. Small helpers over jansson for configuration files, where a tree is handier: see mm_json_load().
 *
 *   mm_json_iter it;
 *   mm_json_begin(&it, line, len, &err);             // must be an object
 *   while ((r = mm_json_next(&it, &key, &val, &err)) > 0) ...
 *
 * Slices point into the caller's bytes and live as long as those. */
#ifndef MM_JSON_H
#define MM_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <string.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_JSON_DEPTH 64

typedef struct mm_slice {
    const char *p;
    size_t len;
} mm_slice;
static inline int mm_slice_is(mm_slice s, const char *text) { return s.len == strlen(text) && !memcmp(s.p, text, s.len); }

typedef struct mm_json_iter {
    const char *base, *p, *end;
    int array; /* iterating an array: keys are empty */
    int state, nested;
} mm_json_iter;

/* Start iterating the object (or array) in s[0..len), white space around it allowed. Returns 0 or MM_EDATA. Does not
 * validate beyond the first byte: mm_json_next() does as it goes, and checks at the end that nothing follows. */
MM_API MM_MUST_CHECK int mm_json_begin(mm_json_iter *it, const char *s, size_t len, mm_err *err);
/* Next member. 1: *key is the string's inside without quotes, still escaped (empty for arrays), *val the raw value with
 * quotes; both validated. 0: end of the container, nothing but white space follows. MM_EDATA: malformed; err names the byte. */
MM_API MM_MUST_CHECK int mm_json_next(mm_json_iter *it, mm_slice *key, mm_slice *val, mm_err *err);
/* The same in two steps, for large documents: mm_json_key() stops in front of the value; then either mm_json_skip() validates
 * it and sets *val, or mm_json_enter() starts iterating inside it (an object or array), and mm_json_leave() goes on behind
 * it once that iteration has returned 0. */
MM_API MM_MUST_CHECK int mm_json_key(mm_json_iter *it, mm_slice *key, mm_err *err);
MM_API MM_MUST_CHECK int mm_json_skip(mm_json_iter *it, mm_slice *val, mm_err *err);
MM_API MM_MUST_CHECK int mm_json_enter(mm_json_iter *it, mm_json_iter *inner, mm_err *err);
MM_API void mm_json_leave(mm_json_iter *it, const mm_json_iter *inner);
/* Validate one value at the start of s (leading white space skipped) and set *val to it. Returns bytes consumed or MM_EDATA. */
MM_API long mm_json_value(const char *s, size_t len, mm_slice *val, mm_err *err);

/* Append the decoded form of a raw JSON string value (with its quotes) to out. Lone surrogates: MM_EDATA. */
MM_API MM_MUST_CHECK int mm_json_unescape(mm_buf *out, mm_slice raw, mm_err *err);
/* Append s as a quoted JSON string; s must be valid UTF-8 (invalid bytes become U+FFFD). Control characters are escaped,
 * everything else is written as it is. */
MM_API int mm_json_quote(mm_buf *out, const char *s, size_t len);

/* Read a whole JSON document into a jansson tree (caller: json_decref). Duplicate keys, depth beyond jansson's limit and
 * trailing bytes are MM_EDATA; `name` is used in the message. NULL on failure. */
MM_API json_t *mm_json_load(const char *s, size_t len, const char *name, mm_err *err);
/* obj[key] as a bounded integer / number / string / bool, or dflt when absent or null. A present value of another type or
 * out of range is MM_EDATA with the key's name in err; *out is then unchanged. */
MM_API MM_MUST_CHECK int mm_json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t dflt,
                                         int64_t *out, mm_err *err);
MM_API MM_MUST_CHECK int mm_json_get_num(const json_t *obj, const char *key, double dflt, double *out, mm_err *err);
MM_API MM_MUST_CHECK int mm_json_get_str(const json_t *obj, const char *key, const char *dflt, const char **out,
                                         mm_err *err);
MM_API MM_MUST_CHECK int mm_json_get_bool(const json_t *obj, const char *key, int dflt, int *out, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

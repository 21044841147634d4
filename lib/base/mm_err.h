/* mm_err.h - status codes and error details of libmm.
 *
 *   mm_err err = {0};
 *   if (mm_store_open(&st, path, &err))
 *       fprintf(stderr, "%s\n", err.msg);
 *
 * Every libmm function that can fail returns 0 (or a documented count >= 0) or one of the negative codes below, and
 * takes a caller-owned mm_err as its last parameter (NULL: no details wanted). libmm never prints, exits or aborts.
 * Codes are stable: a value is never given another meaning. */
#ifndef MM_ERR_H
#define MM_ERR_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MM_API __attribute__((visibility("default")))
#define MM_MUST_CHECK __attribute__((warn_unused_result))
#define MM_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define MM_API
#define MM_MUST_CHECK
#define MM_PRINTF(f, a)
#endif

enum {
    MM_OK = 0,
    MM_ENOMEM = -1,  /* allocation failed, or a size is beyond a stated limit of memory */
    MM_EIO = -2,     /* open, read, write, rename ... failed: the message has strerror(errno) */
    MM_EDATA = -3,   /* malformed input: parse, checksum, encoding */
    MM_ESHAPE = -4,  /* shapes, dimensions or types do not fit together */
    MM_EUNSUP = -5,  /* well-formed, but not supported (an unknown architecture, a type without a kernel) */
    MM_EDEVICE = -6, /* accelerator missing or failing */
    MM_ETRUNC = -7,  /* a stream or file ends before its end marker or stated size */
    MM_EARG = -8,    /* the caller's argument or option is wrong */
    MM_EMODEL = -9,  /* vectors of another model than the index holds */
    MM_EEMPTY = -10, /* an input with nothing in it to embed (empty text, zero vector) */
    MM_ELONG = -11,  /* an input longer than the model's window, where cutting is not allowed */
    MM_ELOCK = -12   /* another writer holds the lock */
};

#define MM_ERR_MSG 512

typedef struct mm_err {
    int code;              /* the code returned, 0 when nothing failed yet */
    char msg[MM_ERR_MSG];  /* one line, no full stop, UTF-8, NUL-terminated; names the file, line, record or key */
} mm_err;

/* Fill *err (may be NULL) and return code, so that `return mm_fail(err, MM_EDATA, "...")` works. A message that does not
 * fit is cut at a character boundary. */
MM_API int mm_fail(mm_err *err, int code, const char *fmt, ...) MM_PRINTF(3, 4);

/* As mm_fail(MM_EIO), with ": <strerror(errno)>" added. errno is read first and kept. */
MM_API int mm_fail_errno(mm_err *err, const char *fmt, ...) MM_PRINTF(2, 3);

/* Put a place in front of a message that is already there: "file:line: " + msg. Returns err's code (0 if err is NULL). */
MM_API int mm_err_prefix(mm_err *err, const char *fmt, ...) MM_PRINTF(2, 3);

/* "MM_EDATA" for MM_EDATA ...; "MM_E?" for an unknown code. Static storage. */
MM_API const char *mm_err_name(int code);

#ifdef __cplusplus
}
#endif
#endif

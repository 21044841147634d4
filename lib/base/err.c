#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/mm_err.h"
#include "base/mm_str.h"

/* Cut an over-long message so that it does not end inside a character. */
static void tidy(char *msg)
{
    size_t len = strlen(msg);
    if (len == MM_ERR_MSG - 1) {
        size_t cut = len;
        while (cut > 0 && len - cut < 3 && ((unsigned char)msg[cut - 1] & 0xC0) == 0x80) cut--;
        if (cut > 0 && (unsigned char)msg[cut - 1] >= 0xC0 && mm_utf8_valid(msg + cut - 1, len - cut + 1) == 0)
            msg[cut - 1] = 0;
    }
}

int mm_fail(mm_err *err, int code, const char *fmt, ...)
{
    if (err) {
        /* formatted aside: an argument may point into err->msg itself */
        char msg[MM_ERR_MSG];
        va_list ap;
        va_start(ap, fmt);
        if (vsnprintf(msg, sizeof msg, fmt, ap) < 0) msg[0] = 0;
        va_end(ap);
        tidy(msg);
        memcpy(err->msg, msg, strlen(msg) + 1);
        err->code = code;
    }
    return code;
}

int mm_fail_errno(mm_err *err, const char *fmt, ...)
{
    int e = errno;
    if (err) {
        char msg[MM_ERR_MSG];
        va_list ap;
        va_start(ap, fmt);
        if (vsnprintf(msg, sizeof msg, fmt, ap) < 0) msg[0] = 0;
        va_end(ap);
        mm_fail(err, MM_EIO, "%s: %s", msg, strerror(e));
    }
    errno = e;
    return MM_EIO;
}

int mm_err_prefix(mm_err *err, const char *fmt, ...)
{
    if (!err) return 0;
    char msg[MM_ERR_MSG];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(msg, sizeof msg, fmt, ap) < 0) msg[0] = 0;
    va_end(ap);
    return mm_fail(err, err->code, "%s%s", msg, err->msg);
}

const char *mm_err_name(int code)
{
    switch (code) {
    case MM_OK: return "MM_OK";
    case MM_ENOMEM: return "MM_ENOMEM";
    case MM_EIO: return "MM_EIO";
    case MM_EDATA: return "MM_EDATA";
    case MM_ESHAPE: return "MM_ESHAPE";
    case MM_EUNSUP: return "MM_EUNSUP";
    case MM_EDEVICE: return "MM_EDEVICE";
    case MM_ETRUNC: return "MM_ETRUNC";
    case MM_EARG: return "MM_EARG";
    case MM_EMODEL: return "MM_EMODEL";
    case MM_EEMPTY: return "MM_EEMPTY";
    case MM_ELONG: return "MM_ELONG";
    case MM_ELOCK: return "MM_ELOCK";
    }
    return "MM_E?";
}

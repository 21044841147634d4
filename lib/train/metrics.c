/* The file of metrics: JSON lines, one write each. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "base/mm_json.h"
#include "train/train_int.h"

#define METRICS_MAX ((size_t)1 << 32)

/* Bytes of whole lines up to the first one of a later step. */
static size_t kept(const char *p, size_t len, uint64_t step)
{
    size_t at = 0;
    for (const char *nl; at < len && (nl = memchr(p + at, '\n', len - at));) {
        size_t n = (size_t)(nl - p) - at;
        json_t *j = json_loadb(p + at, n, 0, NULL);
        json_t *s = json_object_get(j, "step");
        int later = json_is_integer(s) && (json_integer_value(s) < 0 || (uint64_t)json_integer_value(s) > step);
        json_decref(j);
        if (later) break;
        at += n + 1;
    }
    return at;
}

int mm_metrics_open(const char *path, int resume, uint64_t step, int *fd, mm_err *err)
{
    struct stat st;
    mm_buf b = { 0 };
    int r = 0;
    *fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
    if (*fd < 0 && errno != ENOENT && errno != EISDIR) *fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY); /* a pipe */
    if (*fd < 0) return mm_fail_errno(err, "cannot open '%s'", path);
    if (!fstat(*fd, &st) && S_ISREG(st.st_mode)) {
        size_t keep = 0;
        if (resume && !(r = mm_file_read(&b, path, METRICS_MAX, err))) keep = b.p ? kept(b.p, b.len, step) : 0;
        if (!r && ftruncate(*fd, (off_t)keep)) r = mm_fail_errno(err, "cannot cut '%s'", path);
    }
    mm_buf_clear(&b);
    if (r) {
        close(*fd);
        *fd = -1;
    }
    return r;
}

int mm_metrics_write(int fd, json_t *json, mm_err *err)
{
    char *s = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    int r = 0;
    if (!s) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        size_t n = strlen(s);
        s[n] = '\n'; /* in place of the NUL: the line goes out whole */
        r = mm_write_all(fd, s, n + 1, err);
    }
    free(s);
    json_decref(json);
    return r;
}

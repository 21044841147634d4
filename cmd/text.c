#include "cmd/text.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "base/mm_str.h"

int mm_text_file(mm_rec *rec, const char *path, mm_buf *file, mm_slice *text)
{
    static const char bom[] = "\xEF\xBB\xBF";
    mm_err err = { 0 };
    mm_buf_reset(file);
    if (mm_file_read(file, path, MM_MAX_LINE, &err)) return mm_rec_fail(rec, err.code, "%s", err.msg);
    *text = (mm_slice){ file->p, file->len };
    if (text->len >= 3 && !memcmp(text->p, bom, 3)) *text = (mm_slice){ text->p + 3, text->len - 3 };
    if (text->len && memchr(text->p, 0, text->len)) return mm_rec_fail(rec, MM_EDATA, "'%s' is no text file: it contains NUL bytes", path);
    size_t ok = mm_utf8_valid(text->p, text->len);
    if (ok < text->len) return mm_rec_fail(rec, MM_EDATA, "'%s' is not valid UTF-8 at byte %zu", path, ok + 1);
    return 1;
}

/* Where the last whole group of lines ends, how many lines there are up to there, and where the last of them begins. */
static int whole_lines(int fd, uint64_t per, off_t *end, uint64_t *lines, off_t *last)
{
    char buf[65536];
    uint64_t n = 0;
    off_t at = 0, start = 0;
    *end = *last = 0;
    *lines = 0;
    for (ssize_t got; (got = pread(fd, buf, sizeof buf, at)); at += got) {
        if (got < 0) return -1;
        for (const char *p = buf, *lf; (lf = memchr(p, '\n', (size_t)(buf + got - p))); p = lf + 1) {
            const off_t next = at + (lf - buf) + 1;
            if (++n % per == 0) *end = next, *lines = n, *last = start;
            start = next;
        }
    }
    return 0;
}

int mm_append_open(mm_ctx *c, const char *path, uint64_t per, uint64_t *lines, mm_buf *last)
{
    off_t end, from;
    uint64_t n;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return mm_fail_errno(&c->err, "cannot open '%s'", path);
    int bad = whole_lines(fd, per, &end, &n, &from);
    if (!bad && last && end > from) {
        const size_t len = (size_t)(end - from - 1);
        if (mm_buf_reserve(last, len)) bad = -1;
        else if (!(bad = pread(fd, last->p, len, from) != (ssize_t)len)) last->p[last->len = len] = 0;
    }
    if (bad || ftruncate(fd, end) || lseek(fd, end, SEEK_SET) < 0 || dup2(fd, 1) < 0) {
        close(fd);
        return mm_fail_errno(&c->err, "cannot append to '%s'", path);
    }
    close(fd);
    if (lines) *lines = n;
    c->tty[1] = 0;
    return 0;
}

#include "cmd/text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Where the last whole record ends, how many there are up to there, and where the last line of them begins. MM_EDATA: a line is none. */
static int whole_records(FILE *f, uint64_t per, off_t *end, uint64_t *records, off_t *last)
{
    char *line = NULL;
    size_t room = 0;
    uint64_t part = 0;
    off_t at = 0;
    *end = *last = 0;
    *records = 0;
    for (ssize_t n; (n = getline(&line, &room, f)) > 0; at += n) {
        const int whole = line[n - 1] == '\n';
        ssize_t len = n;
        if (!whole && at) break; /* whatever a stop left of it */
        while (whole && len && strchr(" \t\r\n", line[len - 1])) len--;
        if (!len) continue;
        if (line[0] != '{' || (whole && line[len - 1] != '}')) {
            free(line);
            return MM_EDATA;
        }
        if (!whole) break;
        /* within a string it would be ,\"choice\": */
        part = per > 1 && memmem(line, (size_t)n, ",\"choice\":", 10) ? part + 1 : per;
        if (part < per) continue;
        part = 0;
        *end = at + n;
        *last = at;
        ++*records;
    }
    free(line);
    return ferror(f) ? -1 : 0;
}

int mm_append_open(mm_ctx *c, const char *path, uint64_t per, uint64_t *records, mm_buf *last)
{
    off_t end, from;
    uint64_t n;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!f) {
        const int e = errno;
        if (fd >= 0) close(fd);
        errno = e;
        return mm_fail_errno(&c->err, "cannot open '%s'", path);
    }
    int bad = whole_records(f, per, &end, &n, &from);
    if (bad == MM_EDATA) {
        fclose(f);
        return mm_fail(&c->err, MM_EDATA, "'%s' does not hold JSON lines as this filter writes them: it stays as it is", path);
    }
    if (!bad && last && end > from) {
        const size_t len = (size_t)(end - from - 1);
        if (mm_buf_reserve(last, len)) bad = -1;
        else if (!(bad = pread(fd, last->p, len, from) != (ssize_t)len)) last->p[last->len = len] = 0;
    }
    bad = bad || ftruncate(fd, end) || dup2(fd, 1) < 0;
    const int e = errno;
    fclose(f); /* may move the offset, which both share */
    if (bad) errno = e;
    if (bad || lseek(1, end, SEEK_SET) < 0) return mm_fail_errno(&c->err, "cannot append to '%s'", path);
    if (records) *records = n;
    c->tty[1] = 0;
    return 0;
}

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_file.h"

#define OUT_BUF ((size_t)1 << 18)

int mm_map_open(mm_map *m, const char *path, mm_err *err)
{
    *m = (mm_map){ 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return mm_fail_errno(err, "cannot open '%s'", path);
    struct stat st;
    int r = 0;
    if (fstat(fd, &st)) {
        r = mm_fail_errno(err, "cannot read '%s'", path);
    } else if (!S_ISREG(st.st_mode)) {
        r = mm_fail(err, MM_EIO, "cannot read '%s': %s", path,
                    S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            r = mm_fail_errno(err, "cannot map '%s'", path);
        } else {
            m->p = p;
            m->len = (size_t)st.st_size;
        }
    }
    close(fd);
    return r;
}

void mm_map_close(mm_map *m)
{
    if (m->p) munmap((void *)(uintptr_t)m->p, m->len);
    *m = (mm_map){ 0 };
}

void mm_map_release(const mm_map *m, const void *p, size_t len)
{
    if (!m->p || !len) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), lo = (uintptr_t)p, hi = lo + len;
    uintptr_t base = (uintptr_t)m->p, top = base + m->len;
    if (lo < base || hi > top) return;
    lo = (lo + page - 1) & ~(page - 1); /* pages shared with a neighbour stay */
    hi &= ~(page - 1);
    if (hi > lo) madvise((void *)lo, hi - lo, MADV_DONTNEED);
}

int mm_file_read(mm_buf *out, const char *path, size_t max, mm_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    if (fd < 0) return mm_fail_errno(err, "cannot open '%s'", path);
    size_t start = out->len;
    for (;;) {
        if (mm_buf_reserve(out, 1 << 16)) {
            r = mm_fail(err, MM_ENOMEM, "cannot read '%s': out of memory", path);
            break;
        }
        ssize_t n = read(fd, out->p + out->len, out->cap - out->len - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            r = mm_fail_errno(err, "cannot read '%s'", path);
            break;
        }
        if (n == 0) break;
        out->len += (size_t)n;
        if (out->len - start > max) {
            r = mm_fail(err, MM_EDATA, "'%s' is larger than the limit of %zu bytes", path, max);
            break;
        }
    }
    if (r) out->len = start;
    if (out->p) out->p[out->len] = 0;
    close(fd);
    return r;
}

int mm_write_all(int fd, const void *p, size_t len, mm_err *err)
{
    for (const char *s = p; len;) {
        ssize_t n = write(fd, s, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mm_fail_errno(err, "write failed");
        s += n;
        len -= (size_t)n;
    }
    return 0;
}

char *mm_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir), m = strlen(name);
    char *p = malloc(n + m + 2);
    if (!p) return NULL;
    memcpy(p, dir, n);
    if (n && dir[n - 1] != '/') p[n++] = '/';
    memcpy(p + n, name, m + 1);
    return p;
}

int mm_sync_dir(const char *dir, mm_err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return mm_fail_errno(err, "cannot open folder '%s'", dir);
    int r = fsync(fd);
    /* Some file systems cannot sync a folder and say so; there is nothing more to do there. */
    if (r && errno != EINVAL && errno != EROFS) r = mm_fail_errno(err, "cannot sync folder '%s'", dir);
    else r = 0;
    close(fd);
    return r;
}

/* Temporary files that exist now, for a signal handler; those beyond the table are not remembered. */
static _Atomic(const char *) live[16];

static void remember(const char *tmp)
{
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        const char *none = NULL;
        if (atomic_compare_exchange_strong(&live[i], &none, tmp)) return;
    }
}

static void forget(const char *tmp)
{
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        const char *t = tmp;
        if (atomic_compare_exchange_strong(&live[i], &t, NULL)) return;
    }
}

void mm_outfile_unlink_all(void)
{
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        const char *t = atomic_load(&live[i]);
        if (t) unlink(t);
    }
}

static void outfile_free(mm_outfile *f)
{
    if (f->tmp) forget(f->tmp);
    free(f->path);
    free(f->tmp);
    free(f->buf);
    *f = (mm_outfile){ .fd = -1 };
}

int mm_outfile_open(mm_outfile *f, const char *path, mm_err *err)
{
    static atomic_uint counter;
    *f = (mm_outfile){ .fd = -1 };
    /* what a link names is replaced, not the link: /dev/stdout is one */
    f->path = realpath(path, NULL);
    if (!f->path) f->path = strdup(path);
    size_t n = f->path ? strlen(f->path) : 0;
    f->tmp = malloc(n + 40);
    f->buf = malloc(OUT_BUF);
    if (!f->path || !f->tmp || !f->buf) {
        outfile_free(f);
        return mm_fail(err, MM_ENOMEM, "cannot create '%s': out of memory", path);
    }
    struct stat st;
    const int there = !stat(path, &st);
    if (there && S_ISDIR(st.st_mode)) {
        outfile_free(f);
        return mm_fail(err, MM_EIO, "cannot create '%s': is a directory", path);
    }
    if (there && !S_ISREG(st.st_mode)) { /* a device or a pipe is written to, never replaced */
        free(f->tmp);
        f->tmp = NULL;
        if ((f->fd = open(path, O_WRONLY | O_CLOEXEC)) >= 0) return 0;
        int r = mm_fail_errno(err, "cannot write '%s'", path);
        outfile_free(f);
        return r;
    }
    snprintf(f->tmp, n + 40, "%s.tmp-%ld-%u", f->path, (long)getpid(), atomic_fetch_add(&counter, 1));
    f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        const char *slash = strrchr(path, '/'); /* name what the user wrote, not the temporary file */
        int r = errno == ENOENT && slash
                    ? mm_fail(err, MM_EIO, "cannot create '%s': there is no folder '%.*s'", path, (int)(slash - path), path)
                    : mm_fail_errno(err, "cannot create '%s'", path);
        free(f->tmp);
        f->tmp = NULL;
        outfile_free(f);
        return r;
    }
    if (there && fchmod(f->fd, st.st_mode & 07777)) errno = 0; /* a file system without modes */
    remember(f->tmp);
    return 0;
}

int mm_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int outfile_flush(mm_outfile *f, mm_err *err)
{
    if (!f->fill) return 0;
    int r = mm_write_all(f->fd, f->buf, f->fill, err);
    if (r && err) mm_err_prefix(err, "'%s': ", f->path);
    f->fill = 0;
    return r;
}

int mm_outfile_write(mm_outfile *f, const void *p, size_t len, mm_err *err)
{
    const uint8_t *s = p;
    f->pos += len;
    while (len) {
        if (f->fill == OUT_BUF) {
            int r = outfile_flush(f, err);
            if (r) return r;
        }
        size_t n = OUT_BUF - f->fill < len ? OUT_BUF - f->fill : len;
        memcpy(f->buf + f->fill, s, n);
        f->fill += n;
        s += n;
        len -= n;
    }
    return 0;
}

int mm_outfile_pad(mm_outfile *f, size_t align, mm_err *err)
{
    static const uint8_t zero[256];
    size_t left = (align - f->pos % align) % align;
    while (left) {
        size_t n = left < sizeof zero ? left : sizeof zero;
        int r = mm_outfile_write(f, zero, n, err);
        if (r) return r;
        left -= n;
    }
    return 0;
}

int mm_outfile_commit(mm_outfile *f, mm_err *err)
{
    int r = outfile_flush(f, err);
    if (!r && f->tmp && fsync(f->fd)) r = mm_fail_errno(err, "cannot sync '%s'", f->path);
    if (close(f->fd) && !r) r = mm_fail_errno(err, "cannot close '%s'", f->path);
    f->fd = -1;
    if (!f->tmp) return outfile_free(f), r;
    if (!r && rename(f->tmp, f->path)) r = mm_fail_errno(err, "cannot rename to '%s'", f->path);
    if (r) {
        unlink(f->tmp);
    } else {
        char *slash = strrchr(f->path, '/');
        if (slash) slash[slash == f->path] = 0; /* "/x" -> "/" */
        r = mm_sync_dir(slash ? f->path : ".", err);
    }
    outfile_free(f);
    return r;
}

void mm_outfile_abort(mm_outfile *f)
{
    if (!f->path) return;
    if (f->fd >= 0) close(f->fd);
    if (f->tmp) unlink(f->tmp);
    outfile_free(f);
}

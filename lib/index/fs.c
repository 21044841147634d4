#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "index/index_int.h"

long ix_fault;

static int fault(void)
{
    if (ix_fault == 0) return 0;
    if (ix_fault > 1) return ix_fault--, 0;
    errno = ENOSPC;
    return 1; /* stays at 1: a machine that has stopped does nothing more */
}

int ix_open(const char *dir, const char *name, int flags, mm_err *err)
{
    char *path = mm_path_join(dir, name);
    if (!path) return mm_fail(err, MM_ENOMEM, "out of memory");
    int fd = (flags & O_CREAT) && fault() ? -1 : open(path, flags | O_CLOEXEC, 0666);
    if (fd < 0) fd = mm_fail_errno(err, "cannot open '%s'", path);
    free(path);
    return fd;
}

int ix_write(int fd, const void *p, size_t len, const char *name, mm_err *err)
{
    if (fault()) {
        /* the torn write of a crash: some of it arrives */
        if (len > 1 && write(fd, p, len / 2) < 0) errno = ENOSPC;
        errno = ENOSPC;
        return mm_fail_errno(err, "cannot write '%s'", name);
    }
    int r = mm_write_all(fd, p, len, err);
    return r ? mm_err_prefix(err, "'%s': ", name), r : 0;
}

int ix_fsync(int fd, const char *name, mm_err *err)
{
    return fault() || fdatasync(fd) ? mm_fail_errno(err, "cannot sync '%s'", name) : 0;
}

int ix_rename(const char *dir, const char *from, const char *to, mm_err *err)
{
    char *a = mm_path_join(dir, from), *b = mm_path_join(dir, to);
    int r = !a || !b                  ? mm_fail(err, MM_ENOMEM, "out of memory")
            : fault() || rename(a, b) ? mm_fail_errno(err, "cannot rename to '%s'", b)
                                      : 0;
    free(a);
    free(b);
    return r ? r : fault() ? mm_fail_errno(err, "cannot sync folder '%s'", dir) : mm_sync_dir(dir, err);
}

int ix_unlink(const char *dir, const char *name)
{
    char *path = mm_path_join(dir, name);
    int r = path && !fault() ? unlink(path) : -1;
    free(path);
    return r;
}

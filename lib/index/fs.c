/* Every change of the disk, one function for each kind, so that a test can stop the world at any of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "index/index_int.h"

long ix_fault;
void (*ix_hook)(ix_step step, const char *dir, const char *name, const char *to);

static int fault(void)
{
    if (ix_fault == 0) return 0;
    if (ix_fault > 1) return ix_fault--, 0;
    errno = ENOSPC;
    return 1; /* stays at 1: a machine that has stopped does nothing more */
}

static void tell(ix_step step, const char *dir, const char *name, const char *to)
{
    if (ix_hook) ix_hook(step, dir, name, to);
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

int ix_fsync(int fd, const char *dir, const char *name, mm_err *err)
{
    if (fault() || fdatasync(fd)) return mm_fail_errno(err, "cannot sync '%s'", name);
    tell(IX_SYNCED, dir, name, NULL);
    return 0;
}

int ix_cut(int fd, uint64_t len, const char *name, mm_err *err)
{
    return fault() || ftruncate(fd, (off_t)len) ? mm_fail_errno(err, "cannot cut '%s'", name) : 0;
}

int ix_sync_dir(const char *dir, mm_err *err)
{
    if (fault()) return mm_fail_errno(err, "cannot sync folder '%s'", dir);
    int r = mm_sync_dir(dir, err);
    if (!r) tell(IX_DIR_SYNCED, dir, NULL, NULL);
    return r;
}

int ix_rename(const char *dir, const char *from, const char *to, mm_err *err)
{
    char *a = mm_path_join(dir, from), *b = mm_path_join(dir, to);
    int r = !a || !b ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    if (!r && (fault() || rename(a, b))) r = mm_fail_errno(err, "cannot rename to '%s'", b);
    free(a);
    free(b);
    if (!r) tell(IX_RENAMED, dir, from, to);
    return r ? r : ix_sync_dir(dir, err);
}

int ix_unlink(const char *dir, const char *name)
{
    char *path = mm_path_join(dir, name);
    int r = path && !fault() ? unlink(path) : -1;
    free(path);
    if (!r) tell(IX_UNLINKED, dir, name, NULL);
    return r;
}

/* Create a folder that outlives a crash: its parent is synced. One that is there already is left alone. */
int ix_mkdir(const char *dir, mm_err *err)
{
    if (fault() || mkdir(dir, 0777)) return errno == EEXIST ? 0 : mm_fail_errno(err, "cannot create index '%s'", dir);
    char *parent = mm_path_join(dir, "..");
    int r = parent ? ix_sync_dir(parent, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    free(parent);
    return r;
}

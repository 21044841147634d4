/* mm_file.h - files: mapped for reading, replaced by rename for writing.
 *
 *   mm_map m;
 *   if (mm_map_open(&m, path, &err)) return err.code;
 *   ... m.p[0 .. m.len) ...
 *   mm_map_close(&m);
 *
 *   mm_outfile f;
 *   mm_outfile_open(&f, "out.gguf", &err);           // writes out.gguf.tmp-<pid>-<n>
 *   mm_outfile_write(&f, p, n, &err); ...
 *   mm_outfile_commit(&f, &err);                     // flush, fsync, rename, fsync of the folder
 *   mm_outfile_abort(&f);                            // harmless after commit; removes the temporary file otherwise
 */
#ifndef MM_FILE_H
#define MM_FILE_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_map {
    const uint8_t *p; /* read only; NULL for an empty file */
    size_t len;
} mm_map;

/* Map a regular file. Directories, pipes and missing files are MM_EIO with the name. */
MM_API MM_MUST_CHECK int mm_map_open(mm_map *m, const char *path, mm_err *err);
MM_API void mm_map_close(mm_map *m);
/* Tell the kernel that [off, off+len) was read and is not needed again soon: resident memory shrinks, data stays valid. */
MM_API void mm_map_release(const mm_map *m, const void *p, size_t len);

/* Whole file into a fresh buffer (NUL after the last byte), refused with MM_EDATA when larger than max. */
MM_API MM_MUST_CHECK int mm_file_read(mm_buf *out, const char *path, size_t max, mm_err *err);

/* Do both names exist, and name one regular file? */
MM_API int mm_same_file(const char *a, const char *b);

typedef struct mm_outfile {
    int fd;
    char *path, *tmp; /* final and temporary name; owned; tmp NULL: path is a device or a pipe, written to directly */
    uint8_t *buf;     /* write buffer; owned */
    size_t fill;
    uint64_t pos; /* bytes written so far, buffer included */
} mm_outfile;

/* Open a temporary file beside path, with the permissions of what is there. On failure nothing is left behind and abort need not be called. */
MM_API MM_MUST_CHECK int mm_outfile_open(mm_outfile *f, const char *path, mm_err *err);
MM_API MM_MUST_CHECK int mm_outfile_write(mm_outfile *f, const void *p, size_t len, mm_err *err);
/* Zero bytes up to the next multiple of align. */
MM_API MM_MUST_CHECK int mm_outfile_pad(mm_outfile *f, size_t align, mm_err *err);
/* On success path holds the whole content and f is closed. On failure path is untouched and the temporary is removed. */
MM_API MM_MUST_CHECK int mm_outfile_commit(mm_outfile *f, mm_err *err);
MM_API void mm_outfile_abort(mm_outfile *f);
/* Remove the temporary files of this process, for a signal handler that ends it: async-signal-safe. */
MM_API void mm_outfile_unlink_all(void);

/* write(2) all of it, retrying EINTR and short writes. 0 or MM_EIO. */
MM_API MM_MUST_CHECK int mm_write_all(int fd, const void *p, size_t len, mm_err *err);
/* fsync a folder so that renames in it survive a power cut. */
MM_API MM_MUST_CHECK int mm_sync_dir(const char *dir, mm_err *err);
/* dir + "/" + name, malloc'ed; NULL when out of memory. */
MM_API char *mm_path_join(const char *dir, const char *name);

#ifdef __cplusplus
}
#endif
#endif

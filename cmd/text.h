/* text.h - texts and files that more than one filter reads or goes on with. */
#ifndef MM_CMD_TEXT_H
#define MM_CMD_TEXT_H

#include "base/mm_mem.h"
#include "cmd/cmd.h"
#include "stream/mm_stream.h"

/* A text file, without its byte order mark: *text lives in file. 1, or the code with which rec has failed: no such file, not UTF-8, NUL bytes. */
int mm_text_file(mm_rec *rec, const char *path, mm_buf *file, mm_slice *text);

/* Standard output becomes FILE (made if there is none), behind its last whole record: a run that was stopped goes on. Of a record there are
 * `per` lines with a key "choice", or one without (it failed). *records, *last (either may be NULL): how many stay, and the last line of them. */
MM_MUST_CHECK int mm_append_open(mm_ctx *c, const char *path, uint64_t per, uint64_t *records, mm_buf *last);

#endif

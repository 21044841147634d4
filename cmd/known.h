/* known.h - inputs that were seen before: mm-embed --skip-known. A file is known when a record of its path exists, made by the same model,
 * whose "file" says the same size and time of change, or the same size and content. Error records count too: what failed and did not
 * change is not tried again. */
#ifndef MM_CMD_KNOWN_H
#define MM_CMD_KNOWN_H

#include "index/mm_index.h"
#include "stream/mm_stream.h"

typedef struct mm_known mm_known;

/* Each name is an index (a folder) or a file of records; what does not exist yet is empty. model: fingerprint. */
int mm_known_open(mm_known **out, const char *const *names, size_t n, const char *model, mm_err *err);
/* Is the file of this path record known? 1: it is; 0: it is not, and "file" is set in the record; or MM_ENOMEM. A file that cannot be looked
 * at is not known. */
int mm_known_check(mm_known *k, mm_rec *rec, const char *path);
void mm_known_close(mm_known **k);

#endif

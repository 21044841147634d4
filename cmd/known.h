/* known.h - inputs that were seen before: mm-embed --skip-known. A file is known when a record of its id (without one: of its name) exists, made by
 * the same model, whose "file" says the same size and time of change, or the same size and content; a record that names no path when its "known"
 * is the hash of what it says, and of size and time of the media that it names. Error records count too: what failed and did not change is not
 * tried again; an index has none. */
#ifndef MM_CMD_KNOWN_H
#define MM_CMD_KNOWN_H

#include "index/mm_index.h"
#include "stream/mm_stream.h"

typedef struct mm_known mm_known;

/* Each name is an index (a folder) or a file of records; what does not exist yet is empty. model: fingerprint. dim: numbers of a vector, which those
 * that are there must have (MM_ESHAPE); 0: any. */
int mm_known_open(mm_known **out, const char *const *names, size_t n, const char *model, size_t dim, mm_err *err);
/* 1: the record is known; 0: it is not, and "file" or "known" is set in it; or MM_ENOMEM. A file that cannot be looked at is not known. */
int mm_known_check(mm_known *k, mm_rec *rec);
/* Records so far that had neither id nor path, by which nothing can be known. */
uint64_t mm_known_nameless(const mm_known *k);
void mm_known_close(mm_known **k);

#endif

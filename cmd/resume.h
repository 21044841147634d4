/* resume.h - the sequel of a run that was stopped: output after its last whole record, and as many records of the input left out. */
#ifndef MM_CMD_RESUME_H
#define MM_CMD_RESUME_H

#include "cmd/text.h"

typedef struct mm_resume {
    const char *path; /* option; NULL: no */
    uint64_t skip;    /* records of the input that are done */
    mm_buf last;      /* the last of the output */
} mm_resume;

/* Standard output becomes the file, in which `per` lines answer one record of the input (mm_append_open()). */
MM_MUST_CHECK int mm_resume_open(mm_resume *r, mm_ctx *c, uint64_t per);
/* rec is number r->skip of the input: the last record of the file must be its: each member as it was read, but for those that an answer sets,
 * `set` (NULL-terminated, may be NULL) among them. MM_EDATA: it is not. */
MM_MUST_CHECK int mm_resume_check(const mm_resume *r, const mm_rec *rec, const char *const *set, mm_err *err);
/* At the end of an input of so many records: MM_EDATA where the file has more. */
MM_MUST_CHECK int mm_resume_end(const mm_resume *r, uint64_t records, mm_err *err);
void mm_resume_clear(mm_resume *r);

#endif

#include "cmd/resume.h"
#include <stdio.h>
#include <string.h>

int mm_resume_open(mm_resume *r, mm_ctx *c, uint64_t per)
{
    return r->path ? mm_append_open(c, r->path, per, &r->skip, &r->last) : 0;
}

static int is_among(const char *name, const char *const *set)
{
    for (; set && *set; set++)
        if (!strcmp(name, *set)) return 1;
    return 0;
}

int mm_resume_check(const mm_resume *r, const mm_rec *rec, const char *const *set, mm_err *err)
{
    static const char *const ours[] = { "model",  "generated", "value",     "finish", "tokens",   "truncated", "seed", "choice",
                                        "logprobs", "error",   "embedding", "score",  "beam_score", "modality", "draft", NULL };
    mm_rec *before = mm_rec_new();
    mm_slice key, raw, was;
    int same = before && !mm_rec_parse(before, r->last.p, r->last.len, err);
    for (size_t i = 0; same && i < mm_rec_count(rec); i++) {
        char name[128];
        mm_rec_member(rec, i, &key, &raw);
        snprintf(name, sizeof name, "%.*s", (int)key.len, key.p);
        if (is_among(name, ours) || is_among(name, set) || !raw.len) continue;
        same = mm_rec_get(before, name, &was) && was.len == raw.len && !memcmp(was.p, raw.p, raw.len);
    }
    mm_rec_free(before);
    return same ? 0
                : mm_fail(err, MM_EDATA, "'%s' is not the beginning of this run: its last record is not number %llu of the input", r->path,
                          (unsigned long long)r->skip);
}

int mm_resume_end(const mm_resume *r, uint64_t records, mm_err *err)
{
    if (records >= r->skip) return 0;
    return mm_fail(err, MM_EDATA, "'%s' is not the beginning of this run: it answers %llu records, the input has %llu", r->path,
                   (unsigned long long)r->skip, (unsigned long long)records);
}

void mm_resume_clear(mm_resume *r) { mm_buf_clear(&r->last); }

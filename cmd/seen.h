/* seen.h - what a record shows to a unified model that says something about it. */
#ifndef MM_CMD_SEEN_H
#define MM_CMD_SEEN_H

#include "cmd/media.h"
#include "model/mm_say.h"

typedef struct mm_seen {
    mm_lm *lm;
    mm_workers *pool;
    mm_media_ref ref;
    float *rows; /* [n, mm_lm_width()] of the last record; the caller may take them and leave NULL */
    size_t n;
    float *vec;  /* [mm_model_dim()] the model's vector of the same, where `embed` is set */
    int embed;
} mm_seen;
/* MM_EUNSUP: the decoder is no unified model. */
MM_MUST_CHECK int mm_seen_open(mm_seen *s, mm_lm *lm, mm_ctx *c);
void mm_seen_close(mm_seen *s);
/* The record's key "video", "image" or "audio", its "text" if it has none of them, or the file that it is or whose path it is; sets "modality". 0, or
 * the code with which rec has failed; MM_ENOMEM and MM_EIO with err end all. */
MM_MUST_CHECK int mm_seen_of(mm_seen *s, mm_rec *rec, mm_err *err);

#endif

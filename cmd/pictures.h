/* pictures.h - the pictures of a record, as a decoder that looks at them takes them; with a connector its sounds and clips too. */
#ifndef MM_CMD_PICTURES_H
#define MM_CMD_PICTURES_H

#include "cmd/connect.h"
#include "cmd/media.h"
#include "model/mm_vlm.h"

typedef struct mm_pictures {
    mm_lm *lm;
    mm_workers *pool;
    int64_t frames;       /* of a clip at most, option; 0: as many as the decoder wants */
    mm_connect connect;   /* option */
    mm_vlm_picture *pics; /* [n] of the last record */
    mm_buf text;          /* where they are the frames of a clip: what a prompt says of them, with marks; else empty */
    float *embd;          /* of all of them; the caller may take it and leave NULL */
    size_t n, rows;
} mm_pictures;

/* Nothing is opened for a decoder that looks at no pictures, without a connector: p->lm stays NULL. */
MM_MUST_CHECK int mm_pictures_open(mm_pictures *p, mm_lm *lm, mm_ctx *c);
void mm_pictures_close(mm_pictures *p);
/* Has the record a key that is looked at? */
int mm_pictures_named(const mm_pictures *p, mm_rec *rec);
/* Rows that n of them become. */
size_t mm_pictures_rows(const mm_pictures *p, const mm_vlm_picture *pics, size_t n);
/* The record's key "image" (one, or an array of them) or "video" (with a connector "audio" too), or, where it has no text, the picture or clip that it is
 * or whose path it is.
 * 0, or the code with which rec has failed; MM_ENOMEM and MM_EIO with err end all. */
MM_MUST_CHECK int mm_pictures_of(mm_pictures *p, mm_rec *rec, mm_err *err);

#endif

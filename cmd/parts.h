/* parts.h - records of several modalities: which parts a record has, which of them can be used, what is written of them.
 *
 *   mm_parts_take(&p, rec, model, mm_parts_named(rec), 0);   what the record's keys hold
 *   mm_parts_submit(&p, pool, &opts, &err);                  decoders begin
 *   mm_parts_settle(&p, pool);                               they are done; what is broken or empty is left out, with a reason
 *   ...                                                      the parts in state HELD become a vector
 *   mm_parts_check(&p, rec, require);                        fails the record where nothing is left, or a part that is required is not
 *   mm_parts_report(&p, rec, gates, quality);
 *   mm_parts_release(&p, pool); */
#ifndef MM_CMD_PARTS_H
#define MM_CMD_PARTS_H

#include "cmd/media.h"
#include "model/mm_model.h"

typedef struct mm_parts { /* {0}: none yet; used again for the next record */
    struct mm_parts_one {
        enum { MM_PART_NONE, MM_PART_HELD, MM_PART_LEFT_OUT } state;
        int code;         /* LEFT_OUT */
        char reason[MM_ERR_MSG];
        mm_media_ref ref;
        mm_job job;
        int sent;         /* job is with the workers, or done and not released */
    } of[MM_MODALITIES];
    mm_slice text;        /* lives as the record's slices do */
    int any, track;       /* of[MM_VIDEO] is a file of whatever kind; of[MM_AUDIO] is the sound track of of[MM_VIDEO] */
} mm_parts;

/* Bits (1 << mm_modality) of the keys text, image, audio, video that are there and not null. */
unsigned mm_parts_named(const mm_rec *rec);
/* named 0: the record is a file or bytes, of a kind that is looked at. track: a video's sound is a part of its own, unless the record names
 * another. Returns the number of inputs to decode. */
int mm_parts_take(mm_parts *p, mm_rec *rec, const mm_model *m, unsigned named, int track);
int mm_parts_submit(mm_parts *p, mm_workers *pool, const mm_input_opts *how, mm_err *err);
void mm_parts_settle(mm_parts *p, mm_workers *pool);
/* Leave a part out, or one that was held after all. */
void mm_parts_leave_out(mm_parts *p, mm_modality mod, int code, const char *reason);
/* require: bits. 0, or the code of the record's failure (mm_rec_fail() is done). */
int mm_parts_check(const mm_parts *p, mm_rec *rec, unsigned require);
/* modality, gates, dropped, media; of a record of one part what mm_media_report() writes. 0 or MM_ENOMEM. */
int mm_parts_report(const mm_parts *p, mm_rec *rec, const float gates[MM_MODALITIES], int quality);
void mm_parts_release(mm_parts *p, mm_workers *pool);
void mm_parts_clear(mm_parts *p);

/* "image,audio" in any number of options to bits. 0 or MM_EARG. */
int mm_parts_require(const mm_strv *list, unsigned *bits, mm_err *err);

#endif

/* captioned.h - inside lib/train: batches of media, and what is said of them: what words are learned from. */
#ifndef MM_CAPTIONED_H
#define MM_CAPTIONED_H

#include "train/captions.h"
#include "train/mm_batch.h"

typedef struct mm_captioned_opts { /* everything is borrowed */
    const mm_dataset *data;     /* loaded */
    const mm_batch_opts *batch; /* counts, augmentation, sizes */
    uint64_t seed;
    mm_split split;             /* MM_VAL: without augmentation */
    unsigned mods;              /* bits of the modalities that are wanted */
    const mm_tok *tok;
    unsigned flags;             /* of mm_tok_encode() */
    size_t longest;             /* tokens of a caption */
} mm_captioned_opts;

/* One split. It stays where it is while batches are open. */
typedef struct mm_captioned {
    mm_batches *batches; /* NULL: nothing there has a caption */
    mm_batch_opts bo;    /* bo.count[m] 0: none of this modality */
    mm_captions captions[MM_MODALITIES];
    mm_id_lists ids[MM_MODALITIES];
    const mm_example *first;
    uint64_t seed;
} mm_captioned;

int mm_captioned_open(mm_captioned *p, const mm_captioned_opts *o, mm_err *err);
void mm_captioned_clear(mm_captioned *p);
/* The batch of a step, which lives until the next call. */
int mm_captioned_at(mm_captioned *p, uint64_t step, const mm_batch **b, mm_err *err);
/* A caption for each of a batch's inputs of a modality: row [b->n[m]], numbers of p->ids[m]. A function of seed and step. */
void mm_captioned_draw(const mm_captioned *p, mm_modality m, const mm_batch *b, uint32_t *row);

#endif

/* choices.h - several answers to one record, a record each; the seed of an answer, and the one that a record brings. */
#ifndef MM_CMD_CHOICES_H
#define MM_CMD_CHOICES_H

#include "cmd/cmd.h"
#include "stream/mm_stream.h"

typedef struct mm_choices { /* {0}; used again for the next record */
    mm_rec *rec;  /* the choice */
    mm_buf whole, id;
    size_t base;
} mm_choices;

/* The record comes once for each answer; what it has is copied. 0 or MM_ENOMEM, as mm_choices_at(). */
MM_MUST_CHECK int mm_choices_of(mm_choices *k, mm_rec *rec);
/* k->rec becomes choice number i (from 1): the record as ID#i, with "choice". */
MM_MUST_CHECK int mm_choices_at(mm_choices *k, int64_t i);
void mm_choices_clear(mm_choices *k);

/* A record's own "seed" counts: what came out of a run can be had again from its records alone. 0: *seed is that, or as it was; else the code with
 * which rec has failed. */
MM_MUST_CHECK int mm_own_seed(mm_rec *rec, uint64_t *seed);

#endif

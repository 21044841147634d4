/* captions.h - inside lib/train: the English captions of a data set, numbered, and texts as tokens. */
#ifndef MM_CAPTIONS_H
#define MM_CAPTIONS_H

#include <jansson.h>
#include "base/mm_mem.h"
#include "base/mm_rng.h"
#include "base/mm_str.h"
#include "model/mm_model.h"
#include "token/mm_token.h"
#include "train/mm_dataset.h"
#include "train/mm_text_start.h"

typedef struct mm_caption_finder {
    const mm_dataset *d;
    json_t *by_concept; /* id of an example -> its number. json_decref() */
} mm_caption_finder;
int mm_caption_finder_make(mm_caption_finder *f, const mm_dataset *d, mm_err *err);
/* Calls add for every English caption of example e: its own, else those of its concept, else its label. Returns how many. */
size_t mm_captions_of(const mm_caption_finder *f, size_t e, void (*add)(void *, const char *, size_t), void *arg);

/* A set of different texts, numbered in the order of their coming. */
typedef struct mm_text_set {
    json_t *number;
    mm_slice *text;
    size_t n, cap;
    uint32_t *rows; /* what was added, in order */
    size_t n_rows, cap_rows;
    int failed;
} mm_text_set;
void mm_text_set_add(void *set, const char *p, size_t len);
void mm_text_set_clear(mm_text_set *t);

/* All different English captions of a modality's examples in one split. */
typedef struct mm_captions {
    mm_slice *text; /* [n] of the data set */
    size_t n;
    uint32_t *first, *rows; /* rows first[e] .. first[e + 1] of `rows` are those of example e */
    size_t n_rows;
} mm_captions;
int mm_captions_make(mm_captions *c, const mm_caption_finder *f, mm_modality m, mm_split split, mm_err *err);
void mm_captions_clear(mm_captions *c);
static inline uint32_t mm_captions_count(const mm_captions *c, ptrdiff_t e) { return c->first ? c->first[e + 1] - c->first[e] : 0; }
/* One of an example's, which has some: the first, a sentence or a name, more often than any other. */
uint32_t mm_captions_draw(const mm_captions *c, uint32_t e, mm_rng *r);

/* One pair in 100, by what it means, is for validation. */
static inline int mm_text_pair_kept_out(const mm_text_pair *p) { return mm_hash64(p->en, p->en_len, 0) % 100 == 0; }

/* Texts as tokens, one behind the other. */
typedef struct mm_id_lists {
    int32_t *ids;
    size_t *off; /* [n + 1] */
} mm_id_lists;
/* As mm_tok_encode() with these flags, cut at `window` tokens; a text without tokens has the first one. */
int mm_tokenize(const mm_tok *tok, unsigned flags, size_t window, const mm_slice *text, size_t n, mm_id_lists *k, mm_err *err);
/* Those of chosen texts, in memory of the arena. MM_ENOMEM. */
int mm_gather_ids(mm_arena *a, const mm_id_lists *k, const uint32_t *pick, size_t n, int32_t **ids, size_t **off);
void mm_id_lists_clear(mm_id_lists *k);

#endif

/* pairs.h - inside lib/train: pairs of texts, from a file and for the steps of a run, and the teacher that reads them. */
#ifndef MM_PAIRS_H
#define MM_PAIRS_H

#include "graph/mm_graph.h"
#include "train/captions.h"
#include "train/mm_run.h"
#include "train/mm_teacher.h"

/* A file of JSON lines {"text":..,"en":..,"weight":..,"kind":..}: "text2" says the same as "en", without either it is the text; weight 1. */
typedef struct mm_pairs {
    mm_text_pair *p;
    size_t n, first; /* of all files, of the first */
    mm_arena text;
} mm_pairs;
/* Those of o->pairs, one file after the other. MM_EDATA names file and line; also where a file has no pair. */
int mm_pairs_read_all(mm_pairs *out, const mm_train_opts *o, mm_err *err);
/* What a model is to go on knowing while it learns from media: first captions of the examples, of which they stay a view, and words of the tokenizer,
 * at most `most` of these, each with itself. */
int mm_pairs_known(mm_pairs *out, const mm_dataset *d, const mm_tok *tok, size_t most, mm_err *err);
void mm_pairs_clear(mm_pairs *p);

/* The model that o->distil names, and its vectors on disk. On failure what was opened is there to be closed. */
int mm_distil_open(mm_model **m, mm_teacher **t, const mm_train_opts *o, mm_err *err);

/* The pairs of a step, which are a function of seed and step: so many steps' draws, by weight, are sorted by length and dealt out again, in an
 * order of their own. sum [n_pairs + 1]: weights so far; off: of their tokens; pick [n]. MM_ENOMEM. */
int mm_pairs_draw(mm_arena *a, const double *sum, size_t n_pairs, const size_t *off, uint64_t seed, uint64_t step, size_t n, uint32_t *pick);

/* targets [n, m] = softmax(scale a b^T), in the graph's arena; NULL: it has failed. */
float *mm_likeness(mm_graph *g, const float *a, size_t n, const float *b, size_t m, size_t d, float scale);

#endif

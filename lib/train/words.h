/* words.h - inside lib/train: the different tokens of captions as rows of a decoder's table, and which of a caption's a row should be like.
 *
 * Seen through the decoder, a caption says little at each step of what stands before it; that the rows before it should be like its tokens' own rows
 * says it at once, for a hundredth of the work. Tokens of which there are many ("a", "photo", "of") are drawn seldom, as in word2vec
 * (arXiv 1310.4546, section 2.3). */
#ifndef MM_WORDS_H
#define MM_WORDS_H

#include "model/mm_lm.h"
#include "train/captioned.h"

typedef struct mm_words {
    int32_t *cls;   /* [vocabulary of the decoder]: the class of a token, -1: no caption has it */
    float *weight;  /* of a class when it is drawn, above 0 */
    mm_param table; /* [classes, width]: rows of the table times a number, so that a row of their usual length says its own class */
    mm_arena arena;
} mm_words;

/* Of all different captions of p, each once. MM_ENOMEM. */
int mm_words_open(mm_words *w, const mm_lm *lm, const mm_captioned *p, mm_err *err);
void mm_words_clear(mm_words *w);
/* The class of the token at share `at` (0 .. 1) of a caption's weight; -1: it is empty. */
int32_t mm_words_at(const mm_words *w, const int32_t *ids, size_t n, double at);

#endif

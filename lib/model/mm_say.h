/* mm_say.h - the unified model as a decoder: what it says of a picture, a sound, a clip or a text.
 *
 *   mm_lm_open(&lm, "default", NULL, &err);                        its next-token head continues texts like any decoder
 *   mm_part what = { .mod = MM_IMAGE, .x = x };                    as mm_model_input_spec(mm_say_model(lm), MM_IMAGE) wants it
 *   mm_say_see(lm, &what, &rows, &n, &err);                        what the trunk makes of it: n rows of mm_lm_width() numbers
 *   ids = n times MM_SAY_MARK, MM_UNI_BEGIN, the beginning of the text, if it is given
 *   mm_lm_part p = { .ids = ids, .n = n_ids, .embd = rows, .mark = MM_SAY_MARK, .logits = 1 };
 *
 * A row holds the keys and values of all layers. Rows come first in a sequence, before all words. The thread rule is the decoder's. */
#ifndef MM_SAY_H
#define MM_SAY_H

#include "model/mm_lm.h"
#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_SAY_MARK 7 /* <|unused|>: the id that stands for a row */

/* The same model, which gives vectors as well; NULL: this decoder is of another family. */
MM_API mm_model *mm_say_model(mm_lm *lm);
/* *rows [*n, mm_lm_width()], the caller's to free. MM_EUNSUP: the decoder sees nothing of this kind; MM_EEMPTY: a text without tokens; MM_ELONG: one
 * with more than fit the window; MM_EDATA: it is not valid UTF-8; MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_say_see(mm_lm *lm, const mm_part *what, float **rows, size_t *n, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

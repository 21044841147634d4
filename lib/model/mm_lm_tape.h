/* mm_lm_tape.h - a decoder in operations of a graph: gradients go through it to what stands among its words, and none to its weights.
 *
 *   mm_lm_open(&lm, path, &(mm_lm_opts){ .plain = 1, .kv_type = MM_F16 }, &err);
 *   mm_tensor x = mm_op_concat(&g, (mm_tensor[]){ soft, mm_lm_words(&g, lm, ids, n) }, 2);
 *   mm_tensor h = mm_lm_through(&g, lm, x, &sequences);
 *   mm_tensor logits = mm_lm_logits(&g, lm, h);                     or of some rows of h, mm_op_rows()
 *
 * The same numbers as mm_lm_step(), but for the rounding of weights and of kept keys and values. */
#ifndef MM_LM_TAPE_H
#define MM_LM_TAPE_H

#include "graph/mm_tape.h"
#include "model/mm_lm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The longest sequence that these functions take: within the context, and where layers see a window, within that. 0: the decoder is a unified
 * model, or was not opened as `plain`. */
MM_API size_t mm_lm_tape_most(const mm_lm *lm);
/* The table's rows, as mm_lm_embed(): ids are inside the vocabulary, the graph fails where one is not. */
MM_API mm_tensor mm_lm_words(mm_graph *g, const mm_lm *lm, const int32_t *ids, size_t n);
/* x [rows, width], sequences from their beginning -> [rows, width], the last norm included. */
MM_API mm_tensor mm_lm_through(mm_graph *g, const mm_lm *lm, mm_tensor x, const mm_ragged *r);
/* [rows, vocab] */
MM_API mm_tensor mm_lm_logits(mm_graph *g, const mm_lm *lm, mm_tensor h);

#ifdef __cplusplus
}
#endif
#endif

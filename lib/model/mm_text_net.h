/* mm_text_net.h - a text encoder of the bert family with its weights as parameters: what is trained.
 *
 *   mm_text_net *t;
 *   mm_text_net_open(&t, model, &err);                    model stays the caller's, and open as long as t
 *   for each slot: give p.w and p.grad their places;      mm_pset (train/mm_optim.h) does
 *   mm_text_net_bind(t);
 *   mm_tensor z = mm_text_net_embed(&g, t, ids, off, n);  [n, width], length 1
 *   mm_text_net_write(t, "x.gguf", MM_F16, "{...}", &err);
 *   mm_text_net_free(&t);
 *
 * Same operations as mm_model_embed_ids(), so the same vectors but for rounding. Query, key and value of a layer are one parameter. */
#ifndef MM_TEXT_NET_H
#define MM_TEXT_NET_H

#include "base/mm_err.h"
#include "graph/mm_tape.h"
#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_text_net mm_text_net;

typedef struct mm_text_slot {
    char name[48]; /* "blk.0.attn_qkv.weight" */
    mm_param p;    /* w: to begin with the checkpoint's numbers, in memory of the net */
    int matrix;    /* of a linear layer: weight decay makes sense */
} mm_text_slot;

/* MM_EUNSUP: the model is of another family, or a tensor of a type that is not read. */
MM_API MM_MUST_CHECK int mm_text_net_open(mm_text_net **out, mm_model *m, mm_err *err);
MM_API void mm_text_net_free(mm_text_net **t);
MM_API size_t mm_text_net_count(const mm_text_net *t);
MM_API mm_text_slot *mm_text_net_at(mm_text_net *t, size_t i);
/* After p.w of slots was moved. */
MM_API void mm_text_net_bind(mm_text_net *t);

/* Sequence s is ids[off[s]..off[s+1]), special tokens included; within window and vocabulary (checked by the caller), kept while the tape is. */
MM_API mm_tensor mm_text_net_embed(mm_graph *g, const mm_text_net *t, const int32_t *ids, const size_t *off, size_t n);

/* A GGUF with the keys and tensors of the one that the model was read from; fingerprint and name are left out, since the vectors are others.
 * Matrices in type (MM_F32, MM_F16, MM_Q8_0), small tables and vectors in float32. training: JSON text for the key mm.training, or NULL.
 * MM_EUNSUP: the model is a folder. */
MM_API MM_MUST_CHECK int mm_text_net_write(mm_text_net *t, const char *path, int type, const char *training, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

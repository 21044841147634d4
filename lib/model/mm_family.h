/* mm_family.h - families as data: how each names its tensors. Canonical names are those of llama.cpp's GGUF files
 * ("blk.0.attn_q.weight"), which GGUF checkpoints have already. */
#ifndef MM_FAMILY_H
#define MM_FAMILY_H

#include <stddef.h>
#include "base/mm_err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_family {
    const char *name;       /* config.json's model_type, and GGUF's general.architecture */
    const char *prefix;     /* that a checkpoint's names may or may not begin with: "bert." */
    /* published name, canonical name; '#' stands for a layer's number; ended by NULL */
    const char *const (*tensors)[2];
    /* names (or beginnings, ended by '*') of tensors that this use of the model does not need; ended by NULL */
    const char *const *unused;
} mm_family;

/* NULL for a family that is not known. */
MM_API const mm_family *mm_family_find(const char *name);
/* Canonical name of a published one, in buf or static: NULL if the family does not know it; "" if it is not needed. */
MM_API const char *mm_family_canonical(const mm_family *f, const char *published, char buf[128]);

#ifdef __cplusplus
}
#endif
#endif

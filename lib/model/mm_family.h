/* mm_family.h - families as data: how each names its tensors. Canonical names are those of llama.cpp's GGUF files
 * ("blk.0.attn_q.weight"), which GGUF checkpoints have already. */
#ifndef MM_FAMILY_H
#define MM_FAMILY_H

#include <stddef.h>
#include "base/mm_err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Tensors below one prefix: "vision_model." -> "v.", and the pairs that hold for the rest of the name. '#' stands for a layer's number;
 * ended by NULL. A name that several parts know belongs to the first. */
typedef struct mm_family_part {
    const char *from, *to;
    const char *const (*tensors)[2];
} mm_family_part;

typedef struct mm_family {
    const char *name; /* mm_model_family(), and GGUF's general.architecture */
    mm_family_part parts[8];
    /* beginnings ('*' at the end), ends ('*' at the beginning) or whole names of tensors that this use of the model does not need; ended
     * by NULL */
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

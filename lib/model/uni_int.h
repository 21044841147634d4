/* uni_int.h - inside the unified model: what its slots are to the layers. */
#ifndef MM_UNI_INT_H
#define MM_UNI_INT_H

#include "model/mm_uni.h"

typedef struct uni_layer { /* by modality; shared parts are the same slots for several */
    mm_norm norm[2][MM_MODALITIES]; /* before attention, before the feed-forward step */
    mm_linear qkv[MM_MODALITIES], out[MM_MODALITIES], up[MM_MODALITIES], down[MM_MODALITIES];
    mm_param *scale[2][MM_MODALITIES];
    mm_param *alloc; /* [1, heads] lambda */
} uni_layer;

typedef struct uni_entry {
    mm_linear stem[3]; /* text: none */
    mm_norm norm;      /* text: none */
    mm_linear in;
    mm_param *ident, *query;
    mm_norm last;      /* text: none */
} uni_entry;

struct mm_uni {
    mm_uni_config c;
    mm_uni_slot *slots;
    size_t n, cap;
    int failed;
    mm_arena arena; /* layers, and weights that were read */
    uni_entry entry[MM_MODALITIES];
    uni_layer *layers;
    mm_linear gate, shift, proj, alloc[2];
    mm_param *tokens;
    const void *stored; /* the token table as the file has it, or NULL */
    int stored_type;
    void **packs;
    size_t n_packs;
};

/* Asks for every slot in order and ties the layers to them; the first time it makes them. */
void mm_uni_walk(mm_uni *u);

#endif

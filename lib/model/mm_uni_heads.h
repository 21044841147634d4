/* mm_uni_heads.h - what the unified model makes: words, one after the other (next-token head), and pictures (rectified-flow head).
 *
 *   mm_uni_given seen = mm_uni_see(&g, u, &pictures, NULL);                  what the trunk makes of them, once
 *   mm_tensor h = mm_uni_next(&g, u, &(mm_uni_words){ .given = &seen, .n = n, .of = of, .ids = ids, .off = off });
 *   mm_tensor logits = mm_uni_logits(&g, u, h);                               [tokens, vocab] of what follows each
 *
 * A head is one more stream through the trunk, beside the modalities: its tokens have an entry, norms and gates of their own, and the plan
 * says which attention and feed-forward parts are its own and which the trunk's (MM_UNI_NEXT, MM_UNI_FLOW in mm_uni_config.own). In every
 * layer its tokens attend to the keys and values of what is given, as the encoder of its modality makes them, and to their own kind: words to
 * the words before them, patches to all patches. What is given never sees the head, so a head changes no vector of the model, and no gradient
 * goes from a head into an encoder but through parts that both use.
 * Words: <|text|> and the tokens of the text, by a table of the head's own (the encoder's rows are as long as a token weighs: <|end|> and "the" have
 * next to none); logits are inner products with the same rows, and a bias for each.
 * Pictures (rectified flow, arXiv 2209.03003): z = t x + (1 - t) noise for t in 0 .. 1; the head sees z, t and the prompt and says what x is
 * (clean pictures are easier to say than velocities where patches are large, arXiv 2511.13720). Noise becomes a picture by going along
 * v = (x - z) / (1 - t) from t = 0 to 1. A picture x is rows of patches, values (pixel / 255 - 0.5) / 0.5. */
#ifndef MM_UNI_HEADS_H
#define MM_UNI_HEADS_H

#include "model/mm_uni.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_UNI_END 0   /* tokens of the model's own tokenizer: end of a text, beginning of one */
#define MM_UNI_BEGIN 2

/* What heads attend to: for each layer [rows, 3 width] of queries (not used), keys and values. */
typedef struct mm_uni_given {
    mm_tensor *qkv; /* [layers]; NULL: nothing is given */
    mm_ragged r;    /* rows of each of the things given */
} mm_uni_given;

/* Through the encoder of its modality, without gradients. vec (NULL: not wanted): as mm_uni_embed(). In the graph's arena. */
MM_API mm_uni_given mm_uni_see(mm_graph *g, const mm_uni *u, const mm_uni_in *in, mm_tensor *vec);

typedef struct mm_uni_words {
    const mm_uni_given *given; /* or NULL */
    const size_t *of;          /* [n] which of the given things text i is about; SIZE_MAX: none. NULL: thing i */
    size_t n;
    const int32_t *ids;        /* text i is ids[off[i]..off[i+1]), with MM_UNI_BEGIN */
    const size_t *off;
} mm_uni_words;
/* Numbers of a word's row in the head's own table. */
MM_API size_t mm_uni_word_width(const mm_uni_config *c);
/* [tokens, mm_uni_word_width()] */
MM_API mm_tensor mm_uni_next(mm_graph *g, const mm_uni *u, const mm_uni_words *w);
MM_API mm_tensor mm_uni_logits(mm_graph *g, const mm_uni *u, mm_tensor h);

typedef struct mm_uni_canvas {
    const mm_uni_given *given; /* or NULL */
    const size_t *of;          /* as above */
    size_t n;
    const float *z;            /* [n * patches, numbers of a patch] */
    const float *t;            /* [n] */
} mm_uni_canvas;
/* What x is: [n * patches, numbers of a patch]. */
MM_API mm_tensor mm_uni_flow(mm_graph *g, const mm_uni *u, const mm_uni_canvas *c);
/* Patches of a picture, numbers of a patch (3 patch^2). */
MM_API size_t mm_uni_patches(const mm_uni_config *c);
MM_API size_t mm_uni_patch_size(const mm_uni_config *c);
/* A picture as mm_uni_in has it, [3, size, size], to patches and back. */
MM_API void mm_uni_to_patches(const mm_uni_config *c, const float *picture, float *patches);
MM_API void mm_uni_from_patches(const mm_uni_config *c, const float *patches, float *picture);
/* The model's own vector of pictures that are patches [n * patches, numbers of a patch]; gradients flow to them. */
MM_API mm_tensor mm_uni_embed_patches(mm_graph *g, const mm_uni *u, mm_tensor x);

#ifdef __cplusplus
}
#endif
#endif

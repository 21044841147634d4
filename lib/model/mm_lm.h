/* mm_lm.h - decoders: families of the llama kind that continue a text, with the keys and values of what they have read kept.
 *
 *   mm_lm *lm;
 *   mm_lm_open(&lm, "SmolLM2-135M-Instruct.Q4_1.gguf", NULL, &err);
 *   mm_lm_cache *c;
 *   mm_lm_cache_new(&c, lm, 1, 2048, &err);                      one sequence of up to 2048 tokens
 *   mm_lm_part p = { .slot = 0, .ids = ids, .n = n, .logits = 1 };
 *   mm_lm_step(c, &p, 1, logits, &err);                          logits [vocab] of what follows ids
 *   mm_lm_cache_free(&c);
 *   mm_lm_close(&lm);
 *
 * Checkpoints are GGUF files (architectures llama, qwen2, qwen3, gemma3) and Hugging Face folders (model_type llama, mistral, qwen2, qwen3,
 * gemma3_text; idefics3 and smolvlm, see mm_vlm.h), and unified models with a next-token head, see mm_say.h; see mm-model(5).
 *
 * A sequence's logits have the same bits whatever else is in a step, however its tokens were cut into steps, and whatever the number of
 * threads. One thread at a time uses a decoder and its caches. */
#ifndef MM_LM_H
#define MM_LM_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_dtype.h"
#include "base/mm_err.h"
#include "token/mm_token.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_lm mm_lm;

typedef struct mm_lm_opts {
    int threads;    /* 0: as many as OpenMP would use */
    size_t context; /* most tokens of one sequence; 0: the checkpoint's. More than the checkpoint's is MM_EARG */
    int kv_type;    /* how keys and values are kept: MM_F16, MM_F32, MM_Q8_0 */
    int plain;      /* matrices in float32, as mm_lm_tape.h wants them: more memory, and slower steps */
} mm_lm_opts;
#define MM_LM_OPTS_INIT { 0, 0, MM_F16, 0 }

/* Open the checkpoint at path (see mm_store_resolve for names). opts may be NULL. On failure *out is NULL. */
MM_API MM_MUST_CHECK int mm_lm_open(mm_lm **out, const char *path, const mm_lm_opts *opts, mm_err *err);
MM_API void mm_lm_close(mm_lm **lm);

MM_API const mm_tok *mm_lm_tokenizer(const mm_lm *lm);
MM_API size_t mm_lm_vocab(const mm_lm *lm);   /* logits of one row */
MM_API size_t mm_lm_context(const mm_lm *lm); /* most tokens of one sequence */
MM_API size_t mm_lm_width(const mm_lm *lm);   /* numbers of one embedding, or of one row that is seen (mm_say.h) */
MM_API int mm_lm_threads(const mm_lm *lm);
/* The checkpoint's chat template, Jinja; NULL: it has none. */
MM_API const char *mm_lm_chat_template(const mm_lm *lm);
MM_API int32_t mm_lm_bos(const mm_lm *lm); /* -1: none */
MM_API int32_t mm_lm_eos(const mm_lm *lm); /* the first of the ids that end a generation; -1: none is known */
/* Does a text begin with the bos token? */
MM_API int mm_lm_add_bos(const mm_lm *lm);
/* Does this token end a generation (end of text, of a turn ...)? */
MM_API int mm_lm_is_end(const mm_lm *lm, int32_t id);
/* May this token come in a text? Of a unified model's own ones (<|image|> ...) only those that end a text may. */
MM_API int mm_lm_is_word(const mm_lm *lm, int32_t id);
/* "name@16hex", as mm_model_fingerprint(); made when it is first asked for. "": out of memory. */
MM_API const char *mm_lm_fingerprint(const mm_lm *lm);
/* The table's rows of ids, scaled as the decoder scales them: embd [n, width]. MM_ESHAPE: an id outside the vocabulary; MM_EUNSUP: a unified model. */
MM_API MM_MUST_CHECK int mm_lm_embed(const mm_lm *lm, const int32_t *ids, size_t n, float *embd, mm_err *err);

/* ---- sequences ---- */
typedef struct mm_lm_cache mm_lm_cache;

/* Room for `slots` sequences of up to `context` tokens (0: mm_lm_context()) each; pages are touched as sequences grow. The decoder must
 * outlive it. */
MM_API MM_MUST_CHECK int mm_lm_cache_new(mm_lm_cache **out, mm_lm *lm, size_t slots, size_t context, mm_err *err);
MM_API void mm_lm_cache_free(mm_lm_cache **c);
MM_API size_t mm_lm_len(const mm_lm_cache *c, size_t slot); /* tokens that the sequence has */
/* Forget what comes after the first len tokens (len <= mm_lm_len()). */
MM_API void mm_lm_trim(mm_lm_cache *c, size_t slot, size_t len);
/* Sequence `to` becomes the first len tokens of sequence `from` (len <= its length): a common prefix is computed once. The first `same` of
 * them, which it has already, are not copied. */
MM_API void mm_lm_copy(mm_lm_cache *c, size_t to, size_t from, size_t same, size_t len);

typedef struct mm_lm_part {
    size_t slot;
    const int32_t *ids;
    const float *embd; /* without ids: [n, width]; with them: rows for those that are `mark`, in their order (mm_vlm.h, mm_say.h); or NULL */
    size_t n;          /* at least 1 */
    int logits;        /* 0: none are wanted, 1: those of the last token, 2: of all tokens */
    int32_t mark;
} mm_lm_part;

/* Append every part to its sequence, all in one batch: any mix of prompts and single tokens, each slot at most once. logits [rows, vocab]:
 * the rows that are wanted in order of parts; NULL if none is. MM_ELONG: a sequence would be longer than the cache's context; MM_ESHAPE: an id
 * outside the vocabulary; MM_EARG; MM_ENOMEM. Then no sequence has changed. */
MM_API MM_MUST_CHECK int mm_lm_step(mm_lm_cache *c, const mm_lm_part *parts, size_t n_parts, float *logits, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* mm_model.h - models that turn inputs into vectors: one transformer block driven by a configuration, families as data.
 *
 *   mm_model *m;
 *   if (mm_model_open(&m, "path/of/all-MiniLM-L6-v2", NULL, &err)) ...
 *   mm_text_in in[2] = { { "a cat", 5 }, { "two dogs", 8 } };
 *   mm_text_out res[2];
 *   float vec[2 * dim];
 *   mm_model_embed_text(m, in, 2, vec, res, &err);
 *   mm_model_close(&m);
 *
 * Pictures, sound and video enter as arrays of the shape that mm_model_input_spec() states; mm_input_make() of media/mm_input.h makes
 * them from files.
 * One thread at a time calls a model, which uses up to `threads` threads itself and keeps their scratch memory. The vector of an
 * input has the same bits whatever else is in the call and whatever the number of threads.
 *
 * Checkpoints are Hugging Face folders or GGUF files (mm_store.h); pooling, normalisation, window and prompts come from
 * the checkpoint's own files (modules.json, 1_Pooling/config.json, sentence_bert_config.json,
 * config_sentence_transformers.json, or GGUF keys) unless the options say otherwise. */
#ifndef MM_MODEL_H
#define MM_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "graph/mm_graph.h"
#include "media/mm_input.h"
#include "store/mm_store.h"
#include "token/mm_token.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_model mm_model;

typedef enum mm_modality { MM_TEXT, MM_IMAGE, MM_AUDIO, MM_VIDEO, MM_MODALITIES } mm_modality;

/* Rotary positions: channel pair i of a head turns by position * base^(-2i/head_dim), slowed down as `scaling` says. */
typedef enum mm_rope_scaling { MM_ROPE_PLAIN, MM_ROPE_LINEAR, MM_ROPE_LLAMA3, MM_ROPE_YARN } mm_rope_scaling;
typedef struct mm_rope {
    double base;
    mm_rope_scaling scaling;
    double factor;    /* of the context's length */
    double low, high; /* llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast */
    double original;  /* tokens that the model was first trained for */
    double attention; /* yarn: factor of cos and sin */
} mm_rope;

/* The shape of one encoder ("tower"): what a family's configuration reader fills in. A text tower begins with a table of tokens, the
 * others cut their input [frames, channels, height, width] into patches, each one a token. */
typedef struct mm_tower_config {
    const char *prefix;  /* of its tensors' canonical names: "", "t.", "v.", "a.", "m." */
    int64_t layers, width, ff_width, heads, kv_heads, head_dim;
    int heads_apart;     /* the checkpoint states head_dim: heads * head_dim need not be width */
    float eps;           /* of the norms */
    float stem_eps;      /* of the norm over patch tokens */
    mmk_act act;
    int pre_norm;        /* norm before attention and feed-forward instead of after the sums */
    int causal;
    int embd_norm;       /* norm over the sum of token (or patch) and position: bert, CLIP's pre_layrnorm */
    int post_norm;       /* norm after the last layer */
    int bias_kv;         /* every attention also sees one learned key and value (ImageBind's sound) */
    int time_attention;  /* every layer first attends over the frames of a place (LanguageBind's video) */
    mm_pool pool;
    int pool_stated;     /* 0: the checkpoint says nothing about pooling, mean is assumed */
    int64_t proj;        /* width of the projected vector; 0: no projection */
    int normalize;       /* vectors scaled to length 1 */
    int64_t positions;   /* rows of the position table */
    /* text */
    int64_t vocab, token_types; /* rows of the tables; token_types may be 0 */
    int64_t pos_offset;  /* row of the first token's position: 0, or 2 for models of the RoBERTa kind */
    int64_t window;      /* most tokens of one input, special ones included */
    int32_t eos;         /* MM_POOL_EOS: pooled is the first of these; -1: the first token of the highest id */
    int64_t pad_to;      /* the model sees every text filled up to so many tokens with `pad` (SigLIP); 0: it does not */
    int32_t pad;
    int clean;           /* texts are cleaned first, as CLIP's own tokenizer does */
    /* patches */
    int64_t channels, frames, height, width_in; /* of one input */
    int64_t patch_t, patch_h, patch_w, step_h, step_w;
    int class_token, patch_bias, patch_norm;
    int64_t shuffle;     /* so many by so many tokens become a row, which proj takes to a decoder's width: a picture is (grid / shuffle)^2 rows; 0: no */
    /* decoders (mm_lm.h): causal, rotary positions in place of a table, keys and values kept */
    int rms;             /* norms are x / sqrt(mean x^2 + eps) * gain; layers have a bias only where the checkpoint has one */
    int gain_plus_one;   /* the checkpoint keeps gain - 1 (Gemma) */
    int gated;           /* feed-forward: act(gate x) * (up x) */
    int head_norms;      /* q and k of each head are normed (Qwen3, Gemma 3) */
    int sum_norms;       /* what attention and feed-forward add is normed too (Gemma 3) */
    int pairs;           /* the checkpoint has the two channels of a rotated pair side by side (GGUF of Llama) */
    int tied;            /* the table of tokens is the head too; 2: where there is no other */
    float embd_scale;    /* of the table's rows */
    float attn_scale;    /* of q k; 0: 1 / sqrt(head_dim) */
    mm_rope rope, rope_local; /* rope_local: of the layers that see a window */
    int64_t near;        /* tokens that such a layer sees */
    const uint8_t *local; /* [layers] 1: it is one; NULL: none is */
    float lora;          /* factor of low-rank additions that the checkpoint keeps apart (LanguageBind): they are added when it is loaded */
} mm_tower_config;

typedef struct mm_model_opts {
    int threads;     /* 0: as many as OpenMP would use */
    int pool;        /* of text; -1: the checkpoint's; else mm_pool */
    int normalize;   /* -1: the checkpoint's; 0, 1 */
    int64_t window;  /* 0: the checkpoint's; else smaller or equal to its positions */
    int frames;      /* of a video that a model for pictures sees, 0: 8; or the unified model, then even, 0: its own */
    int no_clean;    /* texts go to CLIP's vocabulary as they are: what transformers' fast tokenizer does */
    unsigned heads;  /* of a unified model: bits (1 << MM_UNI_FLOW) of those that are wanted too, where it has them */
    int size;        /* pixels a side of what the unified model sees of pictures and frames, a multiple of 16; 0: its own. Others: MM_EUNSUP */
    int plain;       /* of a decoder: matrices are float32 parameters, so that gradients go through it (mm_lm_tape.h) */
} mm_model_opts;
#define MM_MODEL_OPTS_INIT { 0, -1, -1, 0, 0, 0, 0, 0, 0 }

/* Open the checkpoint at path (see mm_store_resolve for names). opts may be NULL. On failure *out is NULL. Where a model has several towers,
 * the weights of each are looked up when it is first used; mm_model_load() looks up all of them, and finds out what is missing or misshapen. The
 * file must stay as it is while the model is open: an encoder's weights are read from it until the second use, and the token table always. */
MM_API MM_MUST_CHECK int mm_model_open(mm_model **out, const char *path, const mm_model_opts *opts, mm_err *err);
MM_API MM_MUST_CHECK int mm_model_load(mm_model *m, mm_err *err);
MM_API void mm_model_close(mm_model **m);

/* "bert", "clip", "open_clip", "siglip", "imagebind", "languagebind". */
MM_API const char *mm_model_family(const mm_model *m);
MM_API const char *mm_modality_name(mm_modality mod); /* "text", "image" ... */
/* NULL: the model has no way in for this modality. Video goes through the pictures' tower where there is none of its own. */
MM_API const mm_tower_config *mm_model_get_config(const mm_model *m, mm_modality mod);
/* How a picture, a sound or a video becomes the model's input; NULL for text and what the model does not take. */
MM_API const mm_input_spec *mm_model_input_spec(const mm_model *m, mm_modality mod);
MM_API const mm_tok *mm_model_tokenizer(const mm_model *m);
MM_API int mm_model_threads(const mm_model *m);
/* Floats per vector, the same for all modalities. */
MM_API size_t mm_model_dim(const mm_model *m);
/* The fewest leading numbers of a vector that are a vector of their own once they are scaled to length 1 again (Matryoshka: the model was trained
 * so; arXiv 2205.13147); 0: only whole vectors are. */
MM_API size_t mm_model_nested(const mm_model *m);
/* "name@16hex": name of the checkpoint and a hash of its shape, tokenizer, pooling and samples of its weights. Two files
 * with the same fingerprint give vectors of one space; a GGUF made by mm-quantize keeps the fingerprint of its source. */
MM_API const char *mm_model_fingerprint(const mm_model *m);
/* What mm-quantize writes as key mm.fingerprint (16 hexadecimal digits): the hash before pooling and normalisation. */
MM_API uint64_t mm_model_source_hash(const mm_model *m);
/* The text that the checkpoint wants before an input of this kind ("query", "passage", ...), NULL if it names none.
 * name NULL: the checkpoint's default prompt. */
MM_API const char *mm_model_prompt(const mm_model *m, const char *name);
/* How the model turns a cosine between two modalities into a probability: scale * cosine + bias through a softmax over the candidates, or
 * through a sigmoid for each. A model that says nothing (bert) has scale 0. */
typedef struct mm_logits {
    float scale, bias;
    int sigmoid;
} mm_logits;
MM_API mm_logits mm_model_logits(const mm_model *m);
/* Those probabilities for one vector [dim] and n candidates [n, dim], all of them of length 1: scores [n], added up in float64. */
MM_API void mm_logits_scores(mm_logits how, const float *vec, const float *candidates, size_t n, size_t dim, double *scores);

typedef struct mm_text_in {
    const char *p; /* valid UTF-8 */
    size_t len;
} mm_text_in;

typedef struct mm_text_out {
    int code;         /* 0, or MM_EEMPTY (no token besides the special ones): its vector is zero */
    uint32_t tokens;  /* of the whole input, special ones included */
    uint32_t used;    /* tokens that fit the window */
    size_t used_len;  /* bytes of the text that the used tokens cover; len when nothing was cut */
} mm_text_out;

/* vec [n, dim]; res [n]. Too long inputs are cut at the window, keeping the closing special token: res says so.
 * Returns 0, MM_ENOMEM, or MM_EDATA when an input is not valid UTF-8 (err names its number). */
MM_API MM_MUST_CHECK int mm_model_embed_text(mm_model *m, const mm_text_in *in, size_t n, float *vec,
                                             mm_text_out *res, mm_err *err);

/* The tokens of one text as the model sees it: cut, filled up where the model wants that. ids [window] is the caller's; *n are set. A
 * text without tokens of its own (res->code MM_EEMPTY) has the special ones. Same returns. */
MM_API MM_MUST_CHECK int mm_model_text_ids(mm_model *m, mm_text_in in, int32_t *ids, size_t *n, mm_text_out *res, mm_err *err);

/* A part of a record: what one modality says. */
typedef struct mm_part {
    mm_modality mod;
    mm_text_in text;    /* of MM_TEXT */
    const float *x;     /* of the others: [views, frames, channels, height, width], as mm_input_make() gives it to mm_model_input_spec() */
    const float *times; /* of MM_VIDEO: when each of the frames is shown, seconds (mm_input_facts); NULL: one every half second. The unified model
                         * places them by it, others see frames in their order */
} mm_part;

/* Pictures, sound, video: n parts, all of the modality of the first; vec [n, dim], the mean over an input's views. 0, MM_ENOMEM, or MM_EUNSUP:
 * the model takes no such modality. */
MM_API MM_MUST_CHECK int mm_model_embed_input(mm_model *m, const mm_part *in, size_t n, float *vec, mm_err *err);

/* How parts become one vector. */
typedef enum mm_fuse {
    MM_FUSE_GATES, /* the unified model: parts attend to each other, and each has the weight that the model gives it */
    MM_FUSE_MEAN   /* any model: the mean of the parts' own vectors, scaled to length 1 */
} mm_fuse;
/* 1: the model can MM_FUSE_GATES. */
MM_API int mm_model_has_gates(const mm_model *m);
/* n records: record i is parts[first[i]..first[i+1]), ascending by modality, one of each at most. vec [n, dim]; gates [first[n]]: the parts'
 * weights, which sum to 1 in a record; res [first[n]]: of the texts, code 0 of the others. A text without tokens (MM_EEMPTY) counts as absent
 * and has weight 0; the vector of a record of nothing else is zero. A record of one part has that part's vector, but for rounding. Returns as
 * the functions above, MM_EUNSUP where the model has no gates, MM_EARG for parts out of order. */
MM_API MM_MUST_CHECK int mm_model_embed_records(mm_model *m, mm_fuse how, const mm_part *parts, const size_t *first, size_t n, float *vec,
                                                float *gates, mm_text_out *res, mm_err *err);

/* Texts from token ids (special ones included): sequence s is ids[off[s]..off[s+1]). Ids must be below the vocabulary
 * and sequences within the window: MM_ESHAPE otherwise. vec [n, dim]. */
MM_API MM_MUST_CHECK int mm_model_embed_ids(mm_model *m, const int32_t *ids, const size_t *off, size_t n,
                                            float *vec, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

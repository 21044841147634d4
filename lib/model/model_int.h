/* model_int.h - inside lib/model. */
#ifndef MM_MODEL_INT_H
#define MM_MODEL_INT_H

#include "model/mm_family.h"
#include "model/mm_model.h"
#include "model/mm_uni.h"

#define MM_MAX_WIDTH (1 << 16)
#define MM_MAX_LAYERS 1024

typedef struct mm_layer {
    mm_linear qkv, out, up, down; /* up: gate and up, one above the other, where the feed-forward step is gated */
    mm_norm attn_norm, ff_norm;
    mm_norm q_norm, k_norm, attn_sum_norm, ff_sum_norm;
    const float *bias_k, *bias_v; /* [width] or NULL */
    /* over the frames of a place, before the rest */
    mm_linear time_qkv, time_out;
    mm_norm time_norm;
    const float *time_embd; /* [frames, width] */
} mm_layer;

/* Pooling by attention (SigLIP's head): a learned query over all tokens, then a feed-forward step. */
typedef struct mm_map_head {
    const float *query; /* [width], through the query's projection already */
    mm_linear kv, out, up, down;
    mm_norm norm;
} mm_map_head;

/* A matrix that is multiplied as it lies in the file, and the tensors that it is made of there. */
enum { MAX_SRC = 3 };
typedef struct mm_view {
    struct mm_view *next;
    mmk_mat *w;
    int type;
    const mm_store_tensor *part[MAX_SRC];
} mm_view;

typedef struct mm_tower {
    mm_tower_config cfg;
    int loaded; /* the rest is there */
    mm_view *views; /* what is not packed yet */
    size_t passes;  /* how often that was multiplied */
    mm_layer *layers;
    mm_norm embd_norm, post_norm, patch_norm;
    const void *tok_embd; /* [vocab, width] as stored */
    int tok_embd_type;
    const float *pos_embd; /* [positions, width] float32; bert: the row of token type 0 added */
    const float *class_embd; /* [width], its position added, or NULL */
    mm_linear patch, proj;
    mm_map_head map;
    /* decoders */
    mm_linear head;              /* [vocab, width] */
    const double *turn, *turn_local; /* [head_dim / 2] angle of one position */
} mm_tower;

struct mm_model {
    char family[24];
    int decoder; /* one is asked for (mm_lm_open), and only one will do */
    mm_tower tower[MM_MODALITIES]; /* cfg.layers 0: there is none */
    mm_tower *via[MM_MODALITIES];  /* the tower that a modality goes through, or NULL */
    mm_input_spec spec[MM_MODALITIES];
    mm_uni *uni; /* the unified model; NULL: towers */
    mm_logits logits;
    int32_t mark; /* a decoder's token that stands for a piece of a picture */
    double fps;   /* frames of a clip that such a decoder sees: so many of a second */
    mm_model_opts opts;
    mm_store *store; /* the token table stays mapped, and what `views` names */
    mm_tok *tok;
    const mm_kern *kern;
    mm_arena arena; /* norms, biases, tables, names */
    mm_arena *scratch; /* [opts.threads], of the activations */
    void **packed;  /* memory of packed matrices, to be freed: blocks that many share, so that they lie in huge pages */
    size_t n_packed;
    char *pack_at;    /* the rest of the last block */
    size_t pack_left;
    char *fingerprint;
    uint64_t source_hash;
    struct {
        char *name, *text;
    } *prompts;
    size_t n_prompts;
    char *default_prompt; /* name, or NULL */
};

/* ---- configuration: fill towers, specs and prompts from the checkpoint's own files ---- */
int mm_config_read(mm_model *m, mm_err *err);
int mm_config_bert(mm_model *m, mm_err *err);         /* config_bert.c, folders and GGUF */
int mm_config_clip(mm_model *m, mm_err *err);         /* config_clip.c: clip, siglip, languagebind as transformers writes them */
int mm_config_open_clip(mm_model *m, mm_err *err);    /* config_open_clip.c */
int mm_config_imagebind(mm_model *m, mm_err *err);    /* config_imagebind.c */
int mm_config_llama(mm_model *m, mm_err *err);        /* config_llama.c: decoders, folders and GGUF */
int mm_config_vlm(mm_model *m, mm_err *err);          /* config_vlm.c: decoders that look at pictures */
int mm_config_uni(mm_model *m, mm_err *err);          /* uni_run.c */
int mm_config_picture(mm_model *m, mm_err *err);      /* config_picture.c: preprocessor_config.json into m->spec[MM_IMAGE] */
/* Video as `frames` pictures, their vectors averaged, where a model has no tower for it. */
void mm_config_video_by_frames(mm_model *m);
/* The decoder of m as j says (config.json, or its part text_config), type being its model_type. */
int mm_config_decoder(mm_model *m, const char *type, const json_t *j, mm_err *err);
/* What preprocessors of all families have in common: filter, mean and std of the samples; s has the defaults. */
int mm_config_samples(const json_t *j, mm_image_spec *s, mm_err *err);
/* One optional JSON file of the checkpoint; *out is NULL when it is not there. */
int mm_config_file(const mm_store *st, const char *name, json_t **out, mm_err *err);
/* An optional number within min..max. */
int mm_config_num(const json_t *j, const char *key, double min, double max, double dflt, double *out, mm_err *err);
int mm_act_by_name(const char *s, mmk_act *act, mm_err *err);
int mm_tower_check(const mm_tower_config *c, mm_err *err);
/* The id of tokenizer_config.json's pad_token; dflt where it names none. Needs m->tok. */
int mm_pad_id(const mm_model *m, int32_t dflt, int32_t *out, mm_err *err);

/* vocab.c: the tokenizer from whichever file the checkpoint has. */
int mm_tokenizer_load(mm_model *m, mm_err *err);
/* load.c: what is needed at once, and a tower at its first use */
int mm_weights_load(mm_model *m, mm_err *err);
int mm_tower_load(mm_model *m, mm_tower *t, mm_err *err);
/* Before the tower's weights are gone through `passes` times: packs them unless it is for the first time and once. Panels made in scratch take less
 * time than memory fresh from the system, but made twice they take more. Where memory is short the rest stays as it is. */
void mm_tower_settle(mm_model *m, mm_tower *t, size_t passes);
/* One matrix of a decoder, by the calling thread that has nothing else to do. 0: none is left but the one that was read first, the
 * head unless it was converted, or memory is short. */
int mm_tower_settle_ahead(mm_model *m, mm_tower *t);
/* uni_file.c: rows of float32 as the next tensor of a file, in `type` (MM_F32, MM_F16, MM_BF16, MM_Q8_0). */
int mm_rows_write(mm_gguf_writer *w, const float *x, size_t rows, size_t cols, int type, mm_err *err);
/* A row of any type of weights */
void mm_row_to_f32(const mm_kern *kern, float *out, const void *row, int type, size_t n);
/* model.c: mm_model_open(), or with `decoder` the decoder that it refuses */
int mm_model_open_as(mm_model **out, const char *path, const mm_model_opts *opts, int decoder, mm_err *err);
/* fingerprint.c */
int mm_fingerprint_make(mm_model *m, const char *path, mm_err *err);

/* Rows that go on from what is kept of their sequences, in one layer: cos and sin [rows, head_dim / 2]. kept NULL: whole sequences. */
typedef struct mm_going_on {
    const mm_kept *kept;
    size_t n;
    const float *cos, *sin;
    int kv_type, local;
} mm_going_on;

/* x [rows, width] -> [rows, width], over the memory of x. frames: of one input, where time_attention is on. With bias_kv the last row of
 * every sequence stands for the learned key and value. on: of a decoder, else NULL; r is not used where something is kept. */
mm_tensor mm_block(mm_graph *g, const mm_tower_config *c, const mm_layer *l, mm_tensor x, const mm_ragged *r, const mm_going_on *on);

/* tower.c. What goes through a tower: token ids, sequence s being ids[off[s]..off[s+1]); or n inputs
 * x[i] [frames, channels, h, w] (off is NULL), of clips with times[i] as in mm_part. vec [n, dim]. */
typedef struct mm_tower_job {
    mm_tower *t;
    const int32_t *ids;
    const size_t *off;
    const float *const *x, *const *times;
    size_t n;
    const struct mm_record_job *records; /* not NULL: n records of the unified model, and nothing of the above */
} mm_tower_job;
/* Records of several parts: record i has parts first[i]..first[i+1), ascending by modality; part p is input at[p] of of[mod[p]]. */
typedef struct mm_record_job {
    const size_t *first, *at;
    const mm_modality *mod;
    mm_tower_job of[MM_MODALITIES];
    float *gates; /* [parts] result: weights, 1 for all parts of a record together */
} mm_record_job;
int mm_tower_run(mm_model *m, const mm_tower_job *j, float *vec, mm_err *err);
/* embed.c: texts as tokens, cut at the window: text i is (*ids)[off[i]..off[i+1]), nothing where it has no token of its own. The caller frees. */
int mm_text_tokens(const mm_model *m, const mm_text_in *in, size_t n, int32_t **ids, size_t *off, mm_text_out *res, mm_err *err);
/* The unified model's part in it (uni_run.c): tokens of one input that is no text, or of a record; inputs order[0..n) of the job as one ragged
 * batch, MM_ENOMEM or 0: as the trunk takes them; through it. */
size_t mm_uni_tokens_of(const mm_model *m, const mm_tower_job *j, size_t i);
int mm_uni_gather(const mm_model *m, mm_uni_in *in, const mm_tower_job *j, const uint32_t *order, size_t n, mm_arena *arena);
/* One part as the trunk takes it, in memory of the arena. MM_EUNSUP: the model sees nothing of this kind; MM_EEMPTY: a text without tokens; MM_ELONG: one
 * with more than fit the window; MM_EDATA: it is not valid UTF-8; MM_ENOMEM. */
int mm_uni_part(const mm_model *m, const mm_part *what, mm_uni_in *in, mm_arena *arena, mm_err *err);
int mm_uni_forward(const mm_model *m, const mm_tower_job *j, const uint32_t *order, size_t n, float *vec, mm_arena *arena, int threads);
/* Tokens of one input of a patch tower, the class token included. */
size_t mm_tower_tokens(const mm_tower_config *c);
size_t mm_tower_grid(const mm_tower_config *c, size_t *gh, size_t *gw); /* patches of one frame (group of patch_t frames) */

#endif

/* model_int.h - inside lib/model. */
#ifndef MM_MODEL_INT_H
#define MM_MODEL_INT_H

#include "model/mm_family.h"
#include "model/mm_model.h"

typedef struct mm_layer {
    mm_linear qkv, out, up, down;
    mm_norm attn_norm, ff_norm;
} mm_layer;

struct mm_model {
    mm_model_config cfg;
    mm_model_opts opts;
    mm_store *store; /* the token table stays mapped */
    mm_tok *tok;
    const mm_kern *kern;
    mm_arena arena; /* norms, biases, tables, names */
    mm_arena *scratch; /* [opts.threads], of the activations */
    void **packed;  /* packed matrices, to be freed */
    size_t n_packed;
    mm_layer *layers;
    mm_norm embd_norm;
    const void *tok_embd; /* [vocab, width] as stored */
    int tok_embd_type;
    const float *pos_embd; /* [positions, width] float32, the row of token type 0 added */
    char *fingerprint;
    uint64_t source_hash;
    struct {
        char *name, *text;
    } *prompts;
    size_t n_prompts;
    char *default_prompt; /* name, or NULL */
};

/* config.c: fill m->cfg and the prompts from the checkpoint's own files. */
int mm_config_read(mm_model *m, mm_err *err);
/* vocab.c: the tokenizer from whichever file the checkpoint has. */
int mm_tokenizer_load(mm_model *m, mm_err *err);
/* load.c */
int mm_weights_load(mm_model *m, mm_err *err);
/* fingerprint.c */
int mm_fingerprint_make(mm_model *m, const char *path, mm_err *err);

/* x [rows, width] -> [rows, width], over the memory of x. */
mm_tensor mm_block(mm_graph *g, const mm_model_config *c, const mm_layer *l, mm_tensor x, const mm_ragged *r);

#endif

/* quant_int.h - inside lib/quant. */
#ifndef QUANT_INT_H
#define QUANT_INT_H

#include "kernels/mm_kern.h"
#include "model/mm_model.h"
#include "quant/mm_quant.h"

typedef struct job {
    mm_store *st;
    mm_gguf_writer *w;
    const mm_quant_opts *o;
    struct out { /* tensors to write, in order */
        const mm_store_tensor *t;
        const char *name;
        int to;
        const char *note;
        mm_store_tensor folded; /* t may point here: a convolution's weights as a matrix, without dimensions of 1 in front */
        int own;                /* t->data is memory of the arena's, not the store's */
    } *out;
    size_t n;
    mm_arena arena; /* names; what is left of tensors that were pruned */
    char arch[32];
    int family;     /* the tensors have a family's canonical names */
    const int32_t *tokens; /* [n_tokens] that are kept, ascending; NULL: all */
    size_t n_tokens;
} job;

/* Decide what is written for this source: fill out[].t and name, arch, and the writer's keys. */
int describe(job *j, const char *in, mm_err *err);

/* convert.c: values that can be had as float32 (the kernels' formats, and float64), and having them */
int readable(int type);
void read_row(const mm_kern *k, float *out, const void *row, int type, size_t n);

/* prune.c: what the model's configuration becomes by o->prune, and with it j->tokens. */
typedef struct prune prune;
int prune_plan(prune **out, job *j, const mm_model *m, mm_tower_config *c, mm_err *err);
/* The tensors in out[], which have canonical names, become what is left of them. Frees p. */
int prune_tensors(prune *p, job *j, mm_err *err);
void prune_free(prune *p);

#endif

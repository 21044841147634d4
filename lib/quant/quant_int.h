/* quant_int.h - inside lib/quant. */
#ifndef QUANT_INT_H
#define QUANT_INT_H

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
    } *out;
    size_t n;
    mm_arena arena; /* names */
    char arch[32];
    int family;     /* the tensors have a family's canonical names */
} job;

/* Decide what is written for this source: fill out[].t and name, arch, and the writer's keys. */
int describe(job *j, const char *in, mm_err *err);

#endif

/* lm_int.h - inside lib/model: a decoder and its sequences. */
#ifndef MM_LM_INT_H
#define MM_LM_INT_H

#include "model/mm_lm.h"
#include "model/model_int.h"

enum { MM_LM_ENDS = 16 };

struct mm_lm {
    mm_model *m;
    mm_lm_opts opts;
    int32_t bos, end[MM_LM_ENDS];
    size_t n_end;
    const char *chat_template;
    char *path;
    /* What the threads of recent steps got of the processors: see lm_step.c */
    struct {
        double wall, cpu;
        int use;               /* threads; 0: all */
        size_t steps, patience; /* with so few; before all are tried again */
    } pace;
};

static inline const mm_tower *mm_lm_tower(const mm_lm *lm) { return &lm->m->tower[MM_TEXT]; }

struct mm_lm_cache {
    mm_lm *lm;
    size_t slots, tokens; /* room of a slot, a multiple of MMK_KV_BLOCK */
    size_t context;
    size_t *len;   /* [slots] */
    size_t *given; /* [slots] how many of them are rows that were seen: of a unified model */
    size_t half;   /* bytes of the keys (or values) of one layer of one slot */
    char *mem;     /* [layer][slot][keys, values][kv_heads] */
    size_t bytes;
    mm_arena arena;
};

static inline char *mm_lm_keys(const mm_lm_cache *c, size_t layer, size_t slot) { return c->mem + (layer * c->slots + slot) * 2 * c->half; }

typedef struct mm_lm_piece { /* some rows of a step: at most one piece of a part */
    const mm_lm_part *part;
    size_t from, rows;
} mm_lm_piece;

typedef struct mm_lm_batch {
    mm_lm_cache *c;
    const mm_lm_piece *pieces;
    size_t n, rows;
    float *logits; /* of the next wanted row */
} mm_lm_batch;

/* What is kept, in this layer, of the sequences that the pieces belong to: kept [b->n]. */
void mm_lm_kept(const mm_lm_batch *b, size_t layer, mm_kept *kept);
/* Which rows of a batch want logits: how many, in rows [b->rows]. */
size_t mm_lm_wanted(const mm_lm_batch *b, size_t *rows);

/* cos and sin [half] of a position, each pair turning by its angle a step. */
void mm_lm_turn(float *cs, float *sn, size_t half, const double *angle, double factor, size_t at);

/* lm_uni.c: a unified model as a decoder. Its context, and what begins and ends a text; */
int mm_lm_uni_open(mm_lm *lm, mm_err *err);
/* MM_EARG: what is seen does not come first, or has no rows; */
int mm_lm_uni_check(const mm_lm_cache *c, const mm_lm_part *p, mm_err *err);
/* the rows that are seen of a part; a batch through all layers; g->failed where that fails. */
size_t mm_lm_uni_marks(const mm_lm_part *p);
void mm_lm_uni_forward(mm_graph *g, mm_lm_batch *b);

/* lm_meta.c: what a checkpoint says about beginning, end and turns of a text */
int mm_lm_meta(mm_lm *lm, mm_err *err);

#endif

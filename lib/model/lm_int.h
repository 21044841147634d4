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

/* lm_meta.c: what a checkpoint says about beginning, end and turns of a text */
int mm_lm_meta(mm_lm *lm, mm_err *err);

#endif

/* connect.h - a connector between the unified model and a decoder, from options (mm_connector.h). */
#ifndef MM_CMD_CONNECT_H
#define MM_CMD_CONNECT_H

#include "cmd/cmd.h"
#include "model/mm_connector.h"

typedef struct mm_connect {
    const char *file, *encoder; /* options; file NULL: there is none */
    mm_connector *c;            /* NULL until it is open */
    mm_model *uni;
    mm_modality saw;            /* what the last input was */
    int embed;                  /* `vec` is wanted */
    float *vec;                 /* [mm_model_dim(uni)] the unified model's own vector of what was seen last */
} mm_connect;

/* Nothing is opened without a file. */
MM_MUST_CHECK int mm_connect_open(mm_connect *k, const mm_lm *lm, mm_ctx *c);
void mm_connect_close(mm_connect *k);
/* Rows of one, mm_connector_rows() of them. */
MM_MUST_CHECK int mm_connect_see(mm_connect *k, const mm_part *what, float *rows, mm_err *err);

#endif

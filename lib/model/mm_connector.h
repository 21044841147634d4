/* mm_connector.h - what a unified model sees, as a few rows that stand among a decoder's words.
 *
 *   mm_connector_open(&c, "see.gguf", &err);
 *   mm_connector_fits(c, uni, lm, &err);                             both opened as always
 *   float rows[mm_connector_rows(c) * mm_lm_width(lm)];
 *   mm_connector_see(c, uni, &(mm_part){ .mod = MM_IMAGE, .x = x }, rows, &err);
 *   ids = mm_connector_rows(c) times a mark, and the words of the prompt
 *   mm_lm_part p = { .ids = ids, .n = n, .embd = rows, .mark = mark, .logits = 1 };
 *
 * Both models stay as they are; only what is between them is trained (mm-train --connector). The trunk's rows are normed and projected; learned
 * queries, one for each row that is made, pool them by attention, each part of the columns by itself (a small resampler, arXiv 2204.14198); what
 * the model's own vector says, learned beside texts, is added, for each row by weights of its own; each goes through two layers with GELU between
 * (arXiv 2310.03744) and is scaled to the length that the decoder's token rows have. */
#ifndef MM_CONNECTOR_H
#define MM_CONNECTOR_H

#include "graph/mm_tape.h"
#include "model/mm_lm.h"
#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_connector mm_connector;

typedef struct mm_connector_shape {
    int64_t seen;   /* width of the trunk */
    int64_t vector; /* length of the model's vectors */
    int64_t hidden; /* of what is pooled; a multiple of heads */
    int64_t heads;
    int64_t rows;   /* made of one input */
    int64_t ff;
    int64_t out;    /* width of the decoder */
} mm_connector_shape;

typedef struct mm_connector_slot {
    char name[32];
    mm_param p;  /* w: to begin with in memory of the connector */
    int matrix;  /* weight decay makes sense */
} mm_connector_slot;

/* From a file. */
MM_API MM_MUST_CHECK int mm_connector_open(mm_connector **out, const char *path, mm_err *err);
/* To be trained between these two: random weights, the same for a seed on every machine. MM_EUNSUP: uni is no unified model, or lm is one. */
MM_API MM_MUST_CHECK int mm_connector_new(mm_connector **out, const mm_model *uni, const mm_lm *lm, uint64_t seed, mm_err *err);
MM_API void mm_connector_close(mm_connector **c);
MM_API size_t mm_connector_rows(const mm_connector *c); /* of one input */
/* Bits (1 << MM_IMAGE) of the modalities that it was trained on. */
MM_API unsigned mm_connector_mods(const mm_connector *c);
/* "name@16hex" of the decoder that it was trained with; others of the same width are taken, such as the same one in other types. */
MM_API const char *mm_connector_decoder(const mm_connector *c);
/* MM_ESHAPE: it was made between others: uni is another model, or lm has another width. */
MM_API MM_MUST_CHECK int mm_connector_fits(const mm_connector *c, const mm_model *uni, const mm_lm *lm, mm_err *err);

MM_API size_t mm_connector_count(const mm_connector *c);
MM_API mm_connector_slot *mm_connector_at(mm_connector *c, size_t i);
/* After p.w of slots was moved. */
MM_API void mm_connector_bind(mm_connector *c);
/* Rows of a trunk (mm_uni_trunk()), input i being off[i].., and the vectors of the inputs (mm_uni_pool()) ->
 * [r->n * mm_connector_rows(), width of the decoder]. */
MM_API mm_tensor mm_connector_make(mm_graph *g, const mm_connector *c, mm_tensor seen, const mm_ragged *r, mm_tensor vectors);
/* One part as uni sees it: rows [mm_connector_rows(), width of the decoder]. MM_EUNSUP: a kind that it was not trained on; MM_EEMPTY, MM_ELONG, MM_EDATA
 * of texts as mm_say_see() has them; MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_connector_see(const mm_connector *c, mm_model *uni, const mm_part *what, float *rows, mm_err *err);

/* A GGUF, matrices in type (MM_F32, MM_F16, MM_Q8_0). uni, lm: what it was trained between; mods: on which modalities; training: JSON text, or NULL. */
MM_API MM_MUST_CHECK int mm_connector_write(const mm_connector *c, const char *path, int type, const mm_model *uni, const mm_lm *lm, unsigned mods,
                                            const char *training, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

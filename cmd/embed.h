/* embed.h - inside mm-embed: a record is taken into a window (embed_take.c), windows are computed (mm-embed.c), what became of a record is
 * written (embed_put.c). */
#ifndef MM_CMD_EMBED_H
#define MM_CMD_EMBED_H

#include "cmd/io.h"
#include "cmd/known.h"
#include "cmd/labels.h"
#include "cmd/media.h"
#include "cmd/parts.h"

enum { OVERFLOW_CUT, OVERFLOW_SPLIT, OVERFLOW_DOCUMENT, OVERFLOW_ERROR };
enum { EMIT_VECTORS, EMIT_INPUTS };
enum { FUSE_FIRST = MM_FUSE_MEAN + 1 }; /* the first part that is found stands for the record */

typedef struct mm_embed_opts {
    const char *model, *prompt, *prefix, *append, *errors_to, *labels;
    int pooling, normalize, overflow, modality, fuse, track, emit, inputs, clean;
    int64_t max_tokens, key, window, frames, size, top, dim;
    mm_strv known, templates, require;
    mm_media_cli media;
    mm_io io;
} mm_embed_opts;

/* One record of a window. */
typedef struct mm_embed_item {
    mm_rec *rec;
    enum { PASS, TEXT, LONG, MEDIA, GIVEN, RECORD } kind; /* PASS: it failed, and is only written; LONG: a document; RECORD: of several parts */
    size_t at, len, skip;            /* its text in the window's `texts`, prefix included; skip: bytes of prefix */
    mm_media_ref ref;
    mm_job job;
    mm_modality mod;
    float *given, *times; /* of a GIVEN; times lie behind the other */
    const float *vec; /* after computing */
    mm_text_out res;
    mm_parts *parts;  /* of a RECORD, or NULL so far */
    float gates[MM_MODALITIES];
} mm_embed_item;

typedef struct mm_embed_window {
    mm_embed_item *items;
    size_t n, media;
    mm_buf texts;
    float *vec;
} mm_embed_window;

typedef struct mm_embed {
    mm_ctx *c;
    mm_embed_opts *o;
    mm_model *m;
    mm_workers *pool;
    mm_job look; /* at the first operand, while the model is loaded */
    mm_known *known;
    mm_labels *labels;
    const char *prefix;
    size_t prefix_len, dim;
    int multi;      /* the model takes more than text: records say which modality was embedded */
    int fuse;       /* what becomes of records of several parts: MM_FUSE_*, or FUSE_FIRST */
    unsigned require;
    int errors;     /* descriptor of --errors-to, or -1 */
    mm_embed_window w[2];
    mm_text_in *in; /* scratch of one window */
    mm_part *part;
    size_t *first;
    float *gate;
    mm_text_out *res;
    int32_t *ids;
    float *cut;     /* [o->dim], or NULL */
    mm_buf file, out;
    mm_progress bar;
    uint64_t done, skipped;
} mm_embed;

/* What the record of an item holds: its kind is set, media are on their way to the decoders. 0, 1: it is known and left out, or the error; a record
 * that cannot be taken has failed, and that is none. */
MM_MUST_CHECK int mm_embed_take(mm_embed *s, mm_embed_window *w, mm_embed_item *it);
/* Writes what became of it. */
MM_MUST_CHECK int mm_embed_put(mm_embed *s, const mm_embed_window *w, mm_embed_item *it);

#endif

/* uni_int.h - inside the unified model: what its slots are to the layers. */
#ifndef MM_UNI_INT_H
#define MM_UNI_INT_H

#include "model/mm_uni.h"

typedef struct uni_layer { /* by stream; shared parts are the same slots for several */
    mm_norm norm[2][MM_UNI_STREAMS]; /* before attention, before the feed-forward step */
    mm_linear qkv[MM_UNI_STREAMS], out[MM_UNI_STREAMS], up[MM_UNI_STREAMS], down[MM_UNI_STREAMS];
    mm_param *scale[2][MM_UNI_STREAMS];
    mm_param *alloc; /* [1, heads] lambda */
} uni_layer;

typedef struct uni_entry {
    mm_linear stem[3]; /* text: none */
    mm_norm norm;      /* text: none */
    mm_linear in;
    mm_linear position; /* absolute: a column for each number of each axis, mm_uni_axes() */
    mm_param *ident, *query;
    mm_norm last;      /* text: none */
    mm_linear key, value; /* of few examples; most models have none */
} uni_entry;

typedef struct uni_table {
    mm_param *rows;     /* [vocab, ..], or NULL */
    const void *stored; /* as the file has them, or NULL */
    int stored_type;
} uni_table;

typedef struct uni_head {
    mm_linear in, out, time[2], logits;
    mm_norm last;
    uni_table words; /* what goes in, and what comes out is held against */
} uni_head;

struct mm_uni {
    mm_uni_config c;
    mm_uni_slot *slots;
    size_t n, cap;
    int failed;
    mm_arena arena; /* layers, and weights that were read */
    uni_entry entry[MM_MODALITIES];
    uni_head head[MM_UNI_STREAMS - MM_MODALITIES];
    uni_layer *layers;
    mm_linear gate, shift, proj, alloc[2];
    uni_table tokens, direct;
    void **packs;
    size_t n_packs;
};

enum { MM_UNI_TIME = 64 }; /* waves that tell the flow head its time */
enum { MM_UNI_LONGEST = 1 << 20 }; /* tokens of the widest window that may be asked for */

/* What a block runs over: tokens of one stream, or of several, sorted by stream. */
typedef struct uni_layout {
    size_t n;                   /* runs, each of one stream */
    int mod[MM_MODALITIES];
    size_t off[MM_MODALITIES + 1];
    mm_ragged r;                /* sequences */
    const size_t *seq, *row;    /* row of a sequence's token, and back; NULL: they are in order */
    const float *cos, *sin;
    const mm_tensor *log_gate;  /* [1, rows] in the order of the sequences, or NULL */
    int causal;
    mm_tensor *keep;            /* [layers] where queries, keys and values go to; NULL: they are not wanted */
    const mm_tensor *given;     /* [layers] those of others, whose rows come before the rows of here in `seq`; or NULL */
} uni_layout;
mm_tensor mm_uni_block(mm_graph *g, const mm_uni *u, size_t layer, const uni_layout *y, mm_tensor x);
/* mm_uni_trunk(), and queries, keys and values of every layer into keep[layers] (NULL: not). */
mm_tensor mm_uni_trunk_kept(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t, mm_tensor *keep);
/* Angles of a place (time, y, x): cos, sin [half]. */
void mm_uni_place(float *cos, float *sin, size_t half, const float at[3]);
/* Absolute positions: how many numbers of time, rows and columns of patches a modality's tokens have. */
void mm_uni_axes(const mm_uni_config *c, int m, size_t n[3]);
/* A picture, or a pair of frames, as rows of 4 x 4 pixels. Returns where the next row goes. */
float *mm_uni_squares(float *to, const float *x, size_t pair, size_t height, size_t width);

/* Rows of a table. */
mm_tensor mm_uni_lookup(mm_graph *g, const uni_table *t, const int32_t *ids, size_t n);
/* Words as the next-token head's stream takes them: [n, width]. */
mm_tensor mm_uni_words_in(mm_graph *g, const mm_uni *u, const int32_t *ids, size_t n);

/* Asks for every slot in order and ties the layers to them; the first time it makes them. */
void mm_uni_walk(mm_uni *u);

#endif

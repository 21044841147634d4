/* batch_int.h - draws (draw.c): which examples a step sees; batches (batch.c): the arrays made of them. */
#ifndef MM_BATCH_INT_H
#define MM_BATCH_INT_H

#include <pthread.h>
#include "train/mm_batch.h"

#define JOINT MM_MODALITIES /* the pool of sounds that have a picture */
#define POOLS (MM_MODALITIES + 1)

typedef struct part { /* of a pool: the examples of one set */
    uint32_t first, n;
    double upto; /* cumulated weight */
    uint16_t set;
} part;

typedef struct pool {
    uint32_t *example;
    uint32_t *partner; /* JOINT: the example that has the picture */
    size_t n;
    part *part;
    size_t parts;
    size_t count; /* draws of one step */
    int window;   /* steps whose draws are bucketed together */
} pool;

typedef struct draw {
    uint32_t example, partner;
    int32_t caption;
    uint32_t length; /* tokens of a text, frames of a sound */
    uint32_t number; /* within the window */
    mm_rng rng;      /* for its variation */
} draw;

struct mm_batches {
    const mm_dataset *d;
    mm_batch_opts opts;
    uint64_t fingerprint, step;
    pool pool[POOLS];
    uint8_t *lang_ok;
    uint32_t *length; /* of captions, in tokens; NULL: no texts are drawn */
    /* two batches: one is out, the other is being made */
    mm_arena arena[2];
    mm_batch batch[2];
    mm_err err[2];
    int code[2];
    int have; /* `wanted` is made or being made in [wanted % 2] */
    uint64_t wanted;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    int threaded, busy, quit;
};

int draw_open(mm_batches *b, mm_err *err); /* pools, as b->opts has them */
void draw_close(mm_batches *b);
/* The draws of a step from pool m: *n of them, in memory of the arena; NULL when that has none left. */
draw *draw_step(const mm_batches *b, int m, uint64_t step, mm_arena *a, size_t *n, int *dropped, mm_err *err);
/* The picture of a joint draw. */
draw draw_partner(const mm_batches *b, uint64_t step, const draw *d);

#endif

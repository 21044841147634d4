/* retrieve.h - inside mm-retrieve: records and ids change an index (retrieve_change.c), queries are answered (retrieve_search.c), answers of several
 * indexes are put together (retrieve_merge.c); mm-retrieve.c has the options and what only looks. */
#ifndef MM_CMD_RETRIEVE_H
#define MM_CMD_RETRIEVE_H

#include "cmd/io.h"
#include "index/mm_index.h"

typedef struct mm_retrieve_opts {
    int add, del, list, info, verify, compact, merge, any_model, ack, keep, wait, type, center;
    int64_t k, rescore, batch;
    double min_score;
    const char *get, *where;
    mm_io io;
} mm_retrieve_opts;

typedef struct mm_retrieve {
    mm_ctx *c;
    mm_retrieve_opts *o;
    mm_index *ix;
    const char *dir;
    mm_rec *rec;
    mm_buf doc;
    uint64_t *skip; /* rows that --where leaves out */
    uint64_t answers;
} mm_retrieve;

int mm_retrieve_no_memory(mm_retrieve *s); /* MM_ENOMEM, said */
/* A record's model against the index's. *model is it, or NULL; the caller's. 0, or the error that ends the run: vectors of two models cannot be
 * compared. */
int mm_retrieve_check_model(mm_retrieve *s, mm_rec *rec, char **model);
/* Deleting and compacting make nothing. */
int mm_retrieve_must_exist(mm_retrieve *s);
/* s->skip from --where. */
int mm_retrieve_where(mm_retrieve *s);
/* "id": its number or string, and the payload's members; no braces. A hit has a "score" of its own. */
void mm_retrieve_json(mm_buf *b, mm_slice id, mm_slice doc, int hit);

/* What mm-retrieve does: with --add and --delete, without any, with --merge. */
int mm_retrieve_change(mm_retrieve *s, int argc, char **argv);
int mm_retrieve_search(mm_retrieve *s, int argc, char **argv);
int mm_retrieve_merge(mm_retrieve *s, int argc, char **argv);

#endif

/* mm_index.h - a vector index in a folder: add, update, delete, search; killed at any moment it loses nothing acknowledged.
 *
 *   mm_index *ix;
 *   mm_index_open(&ix, "pkgs.idx", MM_INDEX_WRITE, NULL, &err);          creates it when it is not there
 *   mm_index_add(ix, "bash", 4, vec, 384, "{\"text\":\"..\"}", 13, &err);
 *   mm_index_sync(ix, &err);                                             now it is safe
 *   mm_index_close(&ix, &err);
 *
 * On disk (mm-index(5)): immutable segments, a journal of what came since, a manifest that names both and is replaced by
 * rename. One writer at a time (a lock); any number of readers, which see the index as it was when they opened it and never
 * wait. Vectors are scaled to length 1 when added: scores are cosines. Ids are unique byte strings, a later add of an id
 * replaces the earlier one. A record is its id, its vector and a payload, a JSON object that is kept byte for byte. */
#ifndef MM_INDEX_H
#define MM_INDEX_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_json.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_INDEX_ID_MAX 65535             /* bytes of an id */
#define MM_INDEX_DOC_MAX ((size_t)64 << 20) /* bytes of a payload */
#define MM_INDEX_DIM_MAX (1 << 20)

typedef struct mm_index mm_index;

/* How vectors are kept. i8 and b1 are scanned coarsely and their best candidates scored again from float32 rows beside them. */
typedef enum { MM_INDEX_F32, MM_INDEX_F16, MM_INDEX_I8, MM_INDEX_B1 } mm_index_type;

enum { MM_INDEX_READ, MM_INDEX_WRITE };

typedef struct mm_index_opts {
    mm_index_type type; /* of an index that is created */
    int wait;           /* wait for the lock of another writer instead of MM_ELOCK */
} mm_index_opts;

/* Opening maps the segments and reads the journal, nothing else. A write open waits for nobody, creates the folder (its parent
 * must exist), and removes files that a killed writer left. MM_EIO, MM_EDATA (damaged), MM_ELOCK. *out is NULL on failure. */
MM_API MM_MUST_CHECK int mm_index_open(mm_index **out, const char *dir, int mode, const mm_index_opts *opts, mm_err *err);
/* A writer's close syncs, and turns a large journal into a segment. The index is freed in any case. */
MM_API MM_MUST_CHECK int mm_index_close(mm_index **ix, mm_err *err);

/* Add or replace. vec [dim] is copied and normalised. MM_ESHAPE: another dim than the index has; MM_EEMPTY: zero vector;
 * MM_EDATA: NaN or infinity, too long an id or payload. After MM_EIO the writer is broken: further calls fail likewise, what was
 * synced is safe. */
MM_API MM_MUST_CHECK int mm_index_add(mm_index *ix, const char *id, size_t id_len, const float *vec, size_t dim,
                                      const char *doc, size_t doc_len, mm_err *err);
/* 1: deleted, 0: there is no such id, or an error. */
MM_API MM_MUST_CHECK int mm_index_delete(mm_index *ix, const char *id, size_t id_len, mm_err *err);
/* What was added and deleted so far survives a crash once this returns 0. */
MM_API MM_MUST_CHECK int mm_index_sync(mm_index *ix, mm_err *err);
/* Rewrite everything into one segment without what was deleted or replaced. */
MM_API MM_MUST_CHECK int mm_index_compact(mm_index *ix, mm_err *err);

/* The model whose vectors these are ("name@hash"), "" before it is set. Setting it is allowed while it is "". */
MM_API const char *mm_index_model(const mm_index *ix);
MM_API MM_MUST_CHECK int mm_index_set_model(mm_index *ix, const char *model, mm_err *err);

typedef struct mm_index_info {
    mm_index_type type;
    size_t dim;         /* 0: nothing was ever added */
    uint64_t records;   /* live */
    uint64_t rows;      /* with deleted ones */
    uint64_t added;     /* ever, replacements included */
    uint64_t journal;   /* rows still in the journal */
    size_t segments;
    uint64_t bytes;     /* of all files */
} mm_index_info;
MM_API void mm_index_get_info(const mm_index *ix, mm_index_info *info);

/* Rows are numbered 0 .. rows-1 in the order of insertion, as long as the index is open and not written to. */
MM_API int mm_index_live(const mm_index *ix, uint64_t row);
MM_API void mm_index_record(const mm_index *ix, uint64_t row, mm_slice *id, mm_slice *doc);
/* The normalised float32 vector [dim] of a row; f16 rows are widened. */
MM_API void mm_index_vector(const mm_index *ix, uint64_t row, float *vec);
/* 1 and the row, or 0. */
MM_API int mm_index_find(const mm_index *ix, const char *id, size_t id_len, uint64_t *row);

typedef struct mm_index_hit {
    float score;
    uint64_t row;
} mm_index_hit;

typedef struct mm_index_query {
    size_t k;              /* hits wanted per query */
    size_t rescore;        /* candidates per query that are scored again (i8, b1, center); 0: 10 k, 100 at least */
    const uint64_t *skip;  /* bitmap over rows of records that do not qualify, or NULL */
    int threads;           /* at least 1 */
    int center;            /* subtract from each vector the mean of its modality, see mm_index_modality() */
    const char *const *modality; /* center: of each query; NULL: unknown */
} mm_index_query;

/* The k nearest of each of nq queries q [nq, dim] (any length but zero: they are normalised). hits [nq, k], best first, ties in the
 * order of insertion; count[i] of them. MM_ESHAPE for another dim, MM_EEMPTY for a zero query (err says which). */
MM_API MM_MUST_CHECK int mm_index_search(mm_index *ix, const float *q, size_t nq, size_t dim, const mm_index_query *how,
                                         mm_index_hit *hits, size_t *count, mm_err *err);

/* The modality of a payload or any other record, "" if it names none: the value of its key "modality", or the names of those of text,
 * image, audio, video that it has as keys, joined by "+". At most MM_INDEX_MODALITY bytes with the NUL; longer ones are cut.
 *
 * Vectors of one modality lie closer together than they mean to: a text is nearer to any other text than to its picture. With
 * query.center a score is the cosine between q - m(q) and x - m(x), m being the mean of the modality's vectors in the index (0 if
 * there are none). The `rescore` records of each modality with the largest product with q - m(q) are scored so. */
#define MM_INDEX_MODALITY 24
MM_API void mm_index_modality(const char *json, size_t len, char out[MM_INDEX_MODALITY]);

/* Merge n JSON lists of hits (objects with "score", best first) into one of at most k (0: all), appended to out; equal scores keep
 * the order of the lists. Hits are copied byte for byte. MM_EDATA: not such a list, or not sorted. */
MM_API MM_MUST_CHECK int mm_hits_merge(mm_buf *out, const mm_slice *lists, size_t n, size_t k, mm_err *err);

/* Check every checksum and every structure; report is called for each damage found (may be NULL). Returns the number of damages,
 * or an error. */
MM_API MM_MUST_CHECK int mm_index_verify(mm_index *ix, void (*report)(void *arg, const char *what), void *arg, mm_err *err);

/* ---- conditions on payloads: lang = "de" and (year >= 2020 or not exists(year)) ----
 * or, and, not, ( ); = != < <= > >=; key in (v, ..); key like "prefix%"; exists(key). Keys: names, a.b for nested objects, "any
 * text" in double quotes before an operator is a key too. Values: "strings", numbers, true, false, null. A comparison with a key that
 * is absent or of another type is false (!= is true). MM_EARG names the column. */
typedef struct mm_where mm_where;
MM_API MM_MUST_CHECK int mm_where_parse(mm_where **out, const char *text, mm_err *err);
MM_API void mm_where_free(mm_where **w);
/* 1: it looks at this key. */
MM_API int mm_where_asks(const mm_where *w, const char *key);
/* 1 or 0; doc is a JSON object. */
MM_API int mm_where_match(const mm_where *w, const char *doc, size_t len);

#ifdef __cplusplus
}
#endif
#endif

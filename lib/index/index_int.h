/* index_int.h - inside lib/index. */
#ifndef INDEX_INT_H
#define INDEX_INT_H

#include "base/mm_file.h"
#include "index/mm_index.h"

/* ---- fs.c: every change of the disk goes through here, so that a test can stop the world at any of them ---- */
extern long ix_fault; /* > 0: the operation that counts it down to 0, and all after it, fail with ENOSPC. 0: off */
typedef enum { IX_SYNCED, IX_RENAMED, IX_UNLINKED, IX_DIR_SYNCED } ix_step;
extern void (*ix_hook)(ix_step step, const char *dir, const char *name, const char *to); /* NULL, or told what was done */
int ix_open(const char *dir, const char *name, int flags, mm_err *err); /* descriptor or MM_EIO */
int ix_write(int fd, const void *p, size_t len, const char *name, mm_err *err);
int ix_fsync(int fd, const char *dir, const char *name, mm_err *err);
int ix_cut(int fd, uint64_t len, const char *name, mm_err *err);
int ix_sync_dir(const char *dir, mm_err *err);
int ix_rename(const char *dir, const char *from, const char *to, mm_err *err); /* and sync the folder */
int ix_unlink(const char *dir, const char *name);
int ix_mkdir(const char *dir, mm_err *err);

/* ---- segment.c: one immutable file ---- */
#define IX_CLASSES 32    /* of rows in one segment; what comes after goes with class 0, "" */
#define IX_CLASS_NAME MM_INDEX_MODALITY
enum { SEC_VEC, SEC_SCALE, SEC_FULL, SEC_IDOFF, SEC_ID, SEC_DOCOFF, SEC_DOC, SEC_HASH, SEC_CLASS, SEC_SUM, SECTIONS };

typedef struct seg_head { /* at the start of the file, little-endian; checksum last */
    char magic[8];        /* "MMSEG01\n" */
    uint32_t type, dim;
    uint64_t rows, slots;
    struct {
        uint64_t off, len;
        uint32_t crc, zero;
    } sec[SECTIONS];
    uint32_t zero, crc;   /* crc of all before it */
} seg_head;

typedef struct segment {
    char name[32];
    mm_map map;
    seg_head h;
    uint64_t base;    /* number of its first row */
    uint64_t *dead;   /* bitmap */
    uint64_t n_dead;
    char dead_name[64]; /* file of the bitmap, "" if none */
    int dirty;        /* the bitmap changed */
} segment;

/* What section SEC_SUM holds for each class (modality) of rows; sum [dim] float64 follows. Deleted rows are in it. */
typedef struct class_head {
    char name[IX_CLASS_NAME]; /* padded with NUL */
    uint64_t rows;
} class_head;

typedef struct row_source { /* rows to be written into a segment, in order */
    uint64_t rows;
    void *arg;
    void (*get)(void *arg, uint64_t i, mm_slice *id, mm_slice *doc, float *vec); /* vec: NULL if not wanted */
    void (*rest)(void *arg); /* now and then: memory of rows that were read can go */
} row_source;

int seg_write(const char *dir, const char *name, mm_index_type type, size_t dim, const row_source *src, mm_err *err);
int seg_open(segment *s, const char *dir, mm_err *err); /* s->name set */
void seg_close(segment *s);
int seg_check(const segment *s, char *what, size_t size); /* 0, or 1 and what is wrong */
static inline const uint8_t *seg_sec(const segment *s, int sec) { return s->map.p + s->h.sec[sec].off; }
mm_slice seg_text(const segment *s, int off_sec, uint64_t row);
int seg_find(const segment *s, const char *id, size_t len, uint64_t *row); /* live or dead */
void seg_vector(const segment *s, uint64_t row, float *vec);
size_t seg_classes(const segment *s);
/* Head and sums of class c < seg_classes(); returned pointer: float64 [dim]. */
const double *seg_class(const segment *s, size_t c, class_head *h);

/* ---- center.c: classes of rows are modalities ---- */
typedef struct class_table {
    char name[IX_CLASSES][IX_CLASS_NAME]; /* name[0] is "" */
    size_t n;
} class_table;
size_t class_number(class_table *t, const char *name, size_t len); /* added if new; 0 when there is no room */

struct mmk_hits;
/* search.c, center.c: q [nq, dim] of length 1; hits are added to, not sorted. want: candidates to score again. */
struct mmk_hits *hits_new(size_t nq, size_t k);
void hits_free(struct mmk_hits *h);
int search_rows(mm_index *ix, const float *q, size_t nq, const mm_index_query *how, size_t want, struct mmk_hits *hits,
                mm_err *err);
int search_centered(mm_index *ix, float *q, size_t nq, const mm_index_query *how, size_t want, struct mmk_hits *hits,
                    mm_err *err); /* changes q */

/* ---- the journal, and the rows that are in it only ---- */
typedef struct jrow {
    size_t id, doc; /* offsets in jtext */
    uint32_t id_len;
    uint32_t doc_len;
    int live;
} jrow;

struct mm_index {
    char *dir;
    int mode, lock, broken;
    mm_index_type type;
    size_t dim;
    char *model;
    uint64_t gen;       /* of the manifest; numbers new files */
    segment *seg;
    size_t n_seg;
    char log_name[32];
    int log;            /* descriptor of a writer */
    uint64_t log_bytes; /* valid bytes of the journal */
    uint64_t log_safe;  /* of them, synced */
    uint64_t added;     /* records ever added */
    mm_buf pending;     /* journal records not yet written */
    int unsynced;
    jrow *row;
    size_t n_row, cap_row;
    mm_buf text;        /* ids and payloads of journal rows */
    float *vec;         /* [cap_row, dim] */
    uint32_t *slot;     /* hash of ids of journal rows: number + 1 */
    size_t slots;
    uint64_t live;
};

/* merge.c */
int ix_new_log(mm_index *ix, mm_err *err); /* an empty journal of this generation; the next man_write() names it */
/* Replace segments from `first` on and the journal by one segment of their live rows. The steps: segment, bitmaps and an empty
 * journal are written and synced under new names; the manifest is replaced; what it does not name any more is removed. */
int ix_merge(mm_index *ix, size_t first, mm_err *err);
/* Which segments to merge with the journal: three or more small ones beside it, and on from there. So their number stays
 * logarithmic, and a row is rewritten a few times in its life. */
size_t ix_merge_from(const mm_index *ix);

/* index.c */
/* A journal is turned into a segment when it reaches the one size, and at close when it is over the other. Opening reads the
 * journal: at 1 MiB that takes a millisecond. Variables, so that a test needs no millions of records. */
extern uint64_t ix_log_max, ix_log_keep;
uint64_t ix_base(const mm_index *ix); /* number of the first journal row */

/* journal.c */
int log_replay(mm_index *ix, mm_err *err);
int log_parse(mm_index *ix, const char *p, size_t len, mm_err *err);
int log_flush(mm_index *ix, mm_err *err); /* pending records to the file, no sync */
int log_put_add(mm_index *ix, const char *id, size_t id_len, const char *doc, size_t doc_len, const float *vec);
int log_put_del(mm_index *ix, const char *id, size_t id_len);
int log_put_mark(mm_index *ix); /* "everything up to log_safe was synced" */
/* apply to memory; add returns 0 or MM_ENOMEM, del 1 if there was one */
int mem_add(mm_index *ix, const char *id, size_t id_len, const char *doc, size_t doc_len, const float *vec);
int mem_del(mm_index *ix, const char *id, size_t id_len);
void mem_reset(mm_index *ix);
int mem_find(const mm_index *ix, const char *id, size_t len, size_t *row); /* the live journal row */

/* manifest.c */
int man_read(mm_index *ix, mm_err *err);  /* 0, 1: there is none, or an error */
int man_write(mm_index *ix, mm_err *err);
int man_parse(mm_index *ix, const char *text, size_t len, mm_err *err);
int man_state(const char *dir); /* 0: there is a manifest; 1: there is none, the folder is ours or new; 2: somebody else's */
void man_sweep(mm_index *ix); /* remove files that the manifest does not name */
int dead_read(mm_index *ix, segment *s, mm_err *err);
int dead_write(mm_index *ix, segment *s, mm_err *err);

#endif

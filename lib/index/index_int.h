/* index_int.h - inside lib/index. */
#ifndef INDEX_INT_H
#define INDEX_INT_H

#include "base/mm_file.h"
#include "index/mm_index.h"

/* ---- fs.c: every change of the disk goes through here, so that a test can stop the world at any of them ---- */
extern long ix_fault;  /* > 0: the operation that counts it down to 0, and all after it, fail with ENOSPC. 0: off */
int ix_open(const char *dir, const char *name, int flags, mm_err *err); /* descriptor or MM_EIO */
int ix_write(int fd, const void *p, size_t len, const char *name, mm_err *err);
int ix_fsync(int fd, const char *name, mm_err *err);
int ix_rename(const char *dir, const char *from, const char *to, mm_err *err); /* and sync the folder */
int ix_unlink(const char *dir, const char *name);

/* ---- segment.c: one immutable file ---- */
enum { SEC_VEC, SEC_SCALE, SEC_FULL, SEC_IDOFF, SEC_ID, SEC_DOCOFF, SEC_DOC, SEC_HASH, SECTIONS };

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
    char dead_name[48]; /* file of the bitmap, "" if none */
    int dirty;        /* the bitmap changed */
} segment;

typedef struct row_source { /* rows to be written into a segment, in order */
    uint64_t rows;
    void *arg;
    void (*get)(void *arg, uint64_t i, mm_slice *id, mm_slice *doc, float *vec);
} row_source;

int seg_write(const char *dir, const char *name, mm_index_type type, size_t dim, const row_source *src, mm_err *err);
int seg_open(segment *s, const char *dir, mm_err *err); /* s->name set */
void seg_close(segment *s);
int seg_check(const segment *s, char *what, size_t size); /* 0, or 1 and what is wrong */
static inline const uint8_t *seg_sec(const segment *s, int sec) { return s->map.p + s->h.sec[sec].off; }
mm_slice seg_text(const segment *s, int off_sec, uint64_t row);
int seg_find(const segment *s, const char *id, size_t len, uint64_t *row); /* live or dead */
void seg_vector(const segment *s, uint64_t row, float *vec);

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

/* index.c */
uint64_t ix_base(const mm_index *ix); /* number of the first journal row */

/* journal.c */
int log_replay(mm_index *ix, mm_err *err);
int log_flush(mm_index *ix, mm_err *err); /* pending records to the file, no sync */
int log_put_add(mm_index *ix, const char *id, size_t id_len, const char *doc, size_t doc_len, const float *vec);
int log_put_del(mm_index *ix, const char *id, size_t id_len);
/* apply to memory; add returns 0 or MM_ENOMEM, del 1 if there was one */
int mem_add(mm_index *ix, const char *id, size_t id_len, const char *doc, size_t doc_len, const float *vec);
int mem_del(mm_index *ix, const char *id, size_t id_len);
void mem_reset(mm_index *ix);
int mem_find(const mm_index *ix, const char *id, size_t len, size_t *row); /* the live journal row */

/* manifest.c */
int man_read(mm_index *ix, mm_err *err);  /* 0, 1: there is none, or an error */
int man_write(mm_index *ix, mm_err *err);
int man_parse(mm_index *ix, const char *text, size_t len, mm_err *err);
int man_foreign(const mm_index *ix); /* does the folder hold anything that is not ours? */
void man_sweep(mm_index *ix); /* remove files that the manifest does not name */
int dead_read(mm_index *ix, segment *s, mm_err *err);
int dead_write(mm_index *ix, segment *s, mm_err *err);

#endif

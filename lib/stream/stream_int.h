/* stream_int.h - what the files of lib/stream share. */
#ifndef MM_STREAM_INT_H
#define MM_STREAM_INT_H

#include "stream/mm_stream.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vectors in streams are little-endian; this machine is not"
#endif

/* ---- rec.c ---- */
/* Give a record its place; max_dim bounds the vectors decoded from it. name must outlive the record. */
void rec_place(mm_rec *r, const char *name, uint64_t line, size_t max_dim);
/* As mm_rec_json, with the number of its row in place of the vector. */
int rec_json_row(mm_rec *r, size_t row, mm_buf *out, mm_err *err);
/* The embedding as a row number (an integer in place of a vector, as frames have it): 1 and *row, or 0. */
int rec_row(const mm_rec *r, uint64_t *row);
/* The record of one entry of a list of paths: id, path and, where the name is not UTF-8, path_b64. */
int rec_set_path(mm_rec *r, const char *path, size_t len);
/* Give a record the bytes of a medium, copied. */
int rec_set_blob(mm_rec *r, const void *p, size_t len);
void rec_drop_vec(mm_rec *r);

/* ---- reader.c: what the formats read through ---- */
/* S_READY: the next record's bytes are in the buffer; S_END: this input is finished; S_BLOCK: more is needed and reading would
 * block (only with nowait); negative: MM_E* */
enum { S_END = 0, S_READY = 1, S_BLOCK = 2 };

typedef struct frames {
    int in, prog_seen, any;
    mm_buf recs, prog;     /* the JSON array of record objects; provenance */
    mm_json_iter it;       /* over recs */
    mm_slice elem;         /* the object to be handed out next */
    int has_recs, has_elem;
    int dtype;
    size_t dim, row_bytes;
    uint64_t rows, row;    /* of the tensor; the next one */
    uint64_t since;        /* frames since the last end marker */
    int need_marker;
} frames;

typedef struct npy {
    int in, any, dtype;
    size_t dim, row_bytes;
    uint64_t rows, row;
} npy;

struct mm_reader {
    mm_reader_opts o;
    char *const *names; /* operands left */
    size_t n_names;
    const char *file, *name; /* current input: operand, name for messages; NULL: none open */
    int fd;                  /* -1: none, or memory */
    int kind;                /* MM_IN_*, MM_IN_AUTO: not yet sniffed, K_MEDIA */
    int eof, piped;          /* piped: an operand that is no file, and can be read once */
    char *buf;
    size_t cap, start, end, scan; /* bytes [start, end) are unread; [start, scan) holds no delimiter */
    size_t item, gap;             /* the next entry's length and its delimiter's */
    uint64_t line;                /* records or lines handed out of this input */
    int skipping, too_long;       /* an entry over max_line */
    int ready, done;              /* done: status is final */
    int status;
    mm_err err;
    frames f;
    npy y;
};

/* At least n bytes in the buffer: S_READY; S_END: the input ends before; S_BLOCK; MM_E*. */
int reader_want(mm_reader *r, size_t n, int nowait, mm_err *err);

int frames_prepare(mm_reader *r, int nowait, mm_err *err);
int frames_take(mm_reader *r, mm_rec *rec, mm_err *err);
int npy_prepare(mm_reader *r, int nowait, mm_err *err);
int npy_take(mm_reader *r, mm_rec *rec, mm_err *err);

#endif

/* mm_stream.h - records in and out: JSON lines, tensor frames, npy, safetensors, lists of paths, plain text. See mm-stream(5).
 *
 *   mm_reader *in;  mm_writer *out;  mm_rec *rec = mm_rec_new();
 *   mm_reader_open(&in, NULL, argv, argc, &err);              // no operands: standard input
 *   mm_writer_open(&out, NULL, &err);                         // JSON lines to standard output
 *   while ((r = mm_reader_next(in, rec, &err)) > 0) {
 *       if (!mm_rec_failed(rec) && mm_rec_str(rec, "text", &text, &e) > 0) ...
 *       mm_rec_set_vec(rec, MM_F32, vec, dim);
 *       mm_writer_put(out, rec, &err);
 *       if (!mm_reader_pending(in)) mm_writer_flush(out, &err);
 *   }
 *   mm_writer_finish(out, &err);                              // end marker, rename; without it the output counts as cut
 *   mm_writer_close(&out); mm_reader_close(&in); mm_rec_free(rec);
 *
 * Filters use cmd/io.h, which does this with the common options. Objects are independent of each other (a record may be kept
 * after the next read, in a batch); none may be used from two threads at once. */
#ifndef MM_STREAM_H
#define MM_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_dtype.h"
#include "base/mm_err.h"
#include "base/mm_json.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- limits on what comes from outside; each can be changed in mm_reader_opts ---- */
#define MM_MAX_LINE ((size_t)64 << 20)   /* bytes of a line or list entry; of one record in a frame */
#define MM_MAX_HEADER ((size_t)16 << 20) /* bytes of a frame's or npy file's header */
#define MM_MAX_DIM ((size_t)1 << 20)     /* elements of one vector */
#define MM_MAX_MEDIA ((size_t)1 << 30)   /* bytes of a picture, sound or video read from a stream */
#define MM_MAX_NDIM 8                    /* dimensions of a tensor; JSON depth: MM_JSON_DEPTH (both fixed) */

/* ---- records ----
 * An ordered list of members: a key (decoded) and its value as raw JSON, so that what nobody understands is written as it
 * was read. Keys are unique. "embedding" may be raw JSON or a typed vector; it is decoded when asked for. Slices handed out
 * live until the record is reset, parsed into or freed. Setters return 0 or MM_ENOMEM. */
typedef struct mm_rec mm_rec;

MM_API mm_rec *mm_rec_new(void); /* NULL when out of memory */
MM_API void mm_rec_free(mm_rec *r);
MM_API void mm_rec_reset(mm_rec *r); /* no members, no error, no place; memory is kept for the next record */
/* Reset, then take a copy of one JSON object. On MM_EDATA the record holds the members in front of the damage and no error
 * yet: mm_rec_fail() makes an error record of it. */
MM_API MM_MUST_CHECK int mm_rec_parse(mm_rec *r, const char *json, size_t len, mm_err *err);

MM_API size_t mm_rec_count(const mm_rec *r);
/* The i-th member, i < count. A vector that was not read from JSON text has an empty *raw: see mm_rec_vec(). */
MM_API void mm_rec_member(const mm_rec *r, size_t i, mm_slice *key, mm_slice *raw);
/* 1 and *raw (not NULL), or 0 if there is no such key. */
MM_API int mm_rec_get(const mm_rec *r, const char *key, mm_slice *raw);
/* A string member, decoded (valid UTF-8, may hold NUL): 1, 0 if there is none, MM_EDATA "'KEY' is not a string". */
MM_API MM_MUST_CHECK int mm_rec_str(mm_rec *r, const char *key, mm_slice *out, mm_err *err);

/* The id: a string decoded, a number as it stands: 1, 0 if there is none (or null), MM_EDATA "'id' is neither a string nor a number". */
MM_API MM_MUST_CHECK int mm_rec_id(mm_rec *r, mm_slice *out, mm_err *err);
/* The same, and of a record without one its place. */
MM_API mm_slice mm_rec_name(mm_rec *r);

/* Replace in place, or append. mm_rec_set wants one valid JSON value without line breaks and copies it. */
MM_API int mm_rec_set(mm_rec *r, const char *key, const char *raw, size_t len);
MM_API int mm_rec_set_str(mm_rec *r, const char *key, const char *s, size_t len); /* invalid UTF-8: U+FFFD */
MM_API int mm_rec_set_int(mm_rec *r, const char *key, int64_t v);
MM_API int mm_rec_set_num(mm_rec *r, const char *key, double v);  /* reads back to the same double; not finite: null */
MM_API int mm_rec_set_float(mm_rec *r, const char *key, float v); /* shorter: the same float; not finite: null */
MM_API int mm_rec_set_bool(mm_rec *r, const char *key, int v);
MM_API void mm_rec_del(mm_rec *r, const char *key);

/* The member "embedding" as float32 [dim], 64-byte aligned: 1, 0 if there is none, or MM_EDATA / MM_ESHAPE with a message
 * that names the key: null, empty, nested, not a number, beyond float32 (1e999), NaN or infinity in binary data. Accepted:
 * an array of numbers, base64 of little-endian float32, {"dtype":..,"shape":[d],"b64":..}, a typed vector. Narrower types
 * are widened exactly; float64 is rounded. *v belongs to the record and lives as the slices do. */
MM_API MM_MUST_CHECK int mm_rec_vec(mm_rec *r, const float **v, size_t *dim, mm_err *err);
/* The same, in the type it has (MM_F32 for numbers and base64): *data is packed, little-endian, checked likewise. */
MM_API MM_MUST_CHECK int mm_rec_tensor(mm_rec *r, int *dtype, const void **data, size_t *dim, mm_err *err);
/* Set "embedding" (in place or appended): f32, f16, bf16, f64, i8, u8; dim > 0. Copies. */
MM_API int mm_rec_set_vec(mm_rec *r, int dtype, const void *data, size_t dim);

/* Turn the record into its error record: "error":{"code":..,"message":..} is appended, "embedding" dropped, everything else
 * kept. If it has no string "id", the message starts with the place. A first error stays. Returns code. */
MM_API int mm_rec_fail(mm_rec *r, int code, const char *fmt, ...) MM_PRINTF(3, 4);
/* 0, or the MM_E* code of an error record; records that came in with "error" count (unknown codes: MM_EDATA). */
MM_API int mm_rec_failed(const mm_rec *r);
/* 1: the error came in with the input (and passes through unchanged); 0: it happened here, or there is none. */
MM_API int mm_rec_failed_before(const mm_rec *r);
/* What mm_rec_fail() was told (without the place), "" if nothing. */
MM_API const char *mm_rec_message(const mm_rec *r);
/* Where it came from: "<stdin>:12", "x.jsonl:3", "x.npy:7" (line, list entry, record or row, counted from 1); "" for a record
 * made by hand. Lives as the slices do. */
MM_API const char *mm_rec_place(mm_rec *r);
/* Raw file name of a record that came from a list of paths, else NULL; NUL-terminated. Also rebuilt from "path_b64" or "path"
 * of a record that went through other filters. Lives as the slices do. */
MM_API const char *mm_rec_path(mm_rec *r);
/* The bytes of a picture, sound or video that was itself the input ("mm-embed - < photo.jpg"): 1, or 0 if there are none. They are not
 * written out. Live as the slices do. */
MM_API int mm_rec_blob(const mm_rec *r, mm_slice *out);

enum { MM_ENC_NUMBERS, MM_ENC_BASE64, MM_ENC_NONE };
/* Append the record as one JSON object, no line feed. MM_ENC_NUMBERS: a vector as numbers (raw JSON numbers as they stand),
 * MM_ENC_BASE64: float32 as a base64 string, other types as {"dtype","shape","b64"}; MM_ENC_NONE: without "embedding".
 * MM_EDATA / MM_ESHAPE when the embedding cannot be decoded (out is as before), MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_rec_json(mm_rec *r, int encoding, mm_buf *out, mm_err *err);

/* ---- reading ---- */
enum { MM_IN_AUTO, MM_IN_JSON, MM_IN_FRAMES, MM_IN_NPY, MM_IN_PATHS, MM_IN_TEXT };

typedef struct mm_reader_opts { /* {0}: the defaults */
    int format;        /* MM_IN_AUTO: each input is sniffed; frames, npy and JSON lines are told from their first bytes, a
                        * media file given as operand becomes a path record, one on a stream a record with its bytes (mm_rec_blob),
                        * anything else is a list of paths */
    int nul;           /* list entries (paths, text) end with NUL, not with a line feed */
    size_t max_line, max_header, max_dim, max_media; /* 0: MM_MAX_* */
    int each_operand;  /* an operand that cannot be opened, or is an archive or a model, is an error record, as an entry of a list would be, not the
                        * end; one that is text, but no list, for none of its first lines names a file, is a path record, and so is an empty one
                        * named as media are */
} mm_reader_opts;

typedef struct mm_reader mm_reader;

/* Read the n operands one after the other, "-" being standard input; n == 0: standard input. Each is opened when its turn
 * comes. names and opts: names must outlive the reader and its records, opts may be NULL and is copied. */
MM_API MM_MUST_CHECK int mm_reader_open(mm_reader **out, const mm_reader_opts *opts, char *const *names, size_t n, mm_err *err);
/* Read from memory (copied); name is used in places and must outlive the reader. */
MM_API MM_MUST_CHECK int mm_reader_open_mem(mm_reader **out, const mm_reader_opts *opts, const char *name, const void *p,
                                            size_t len, mm_err *err);
/* Next record into rec (reset first): 1, or 0 at the end. A bad record is still 1: an error record (see mm_rec_failed) in its
 * place. What makes the rest unreadable is returned once everything in front of it was handed out: MM_ETRUNC (cut frame, npy
 * or missing end marker), MM_EDATA / MM_ESHAPE (damage), MM_EUNSUP (a format or tensors we have no use for), MM_ELONG (a medium over max_media),
 * MM_EIO (open, read), MM_ENOMEM. After an error or the end the same is returned again. */
MM_API MM_MUST_CHECK int mm_reader_next(mm_reader *r, mm_rec *rec, mm_err *err);
/* 1: mm_reader_next() will not block. 0: it might: a filter flushes what it has (and runs a short batch) first. */
MM_API int mm_reader_pending(mm_reader *r);
/* Provenance of a frame stream ("mm.prog": one line per filter it went through), "" if there is none so far. */
MM_API const char *mm_reader_prog(const mm_reader *r);
MM_API void mm_reader_close(mm_reader **r);

/* ---- writing ---- */
enum { MM_OUT_JSON, MM_OUT_FRAMES, MM_OUT_NPY };

typedef struct mm_writer_opts { /* {0}: the defaults */
    int format;       /* MM_OUT_* */
    int encoding;     /* of vectors in JSON lines: MM_ENC_NUMBERS or MM_ENC_BASE64 */
    const char *path; /* NULL: file descriptor 1. A file appears under its name only in mm_writer_finish(). npy needs one */
    int unbuffered;   /* write every record at once */
} mm_writer_opts;

typedef struct mm_writer mm_writer;

MM_API MM_MUST_CHECK int mm_writer_open(mm_writer **out, const mm_writer_opts *opts, mm_err *err);
/* Provenance, written into the first frame: one line per program. Later calls have no effect. 0 or MM_ENOMEM. */
MM_API int mm_writer_prog(mm_writer *w, const char *prog);
/* Write a record. If its embedding cannot be decoded the record is turned into its error record and that is written: ask
 * mm_rec_failed() afterwards. npy keeps vectors only: a record without one is MM_EDATA, one of another dim MM_ESHAPE.
 * Else 0, MM_EIO (the message names the output) or MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_writer_put(mm_writer *w, mm_rec *rec, mm_err *err);
/* Hand everything so far to the operating system; a frame is ended. */
MM_API MM_MUST_CHECK int mm_writer_flush(mm_writer *w, mm_err *err);
/* Flush, end marker, rename. Nothing may be put afterwards. */
MM_API MM_MUST_CHECK int mm_writer_finish(mm_writer *w, mm_err *err);
/* Free. Without mm_writer_finish() a file is removed, and a reader of frames will see a cut stream. */
MM_API void mm_writer_close(mm_writer **w);

#ifdef __cplusplus
}
#endif
#endif

/* mm_store.h - model files: mapped, validated, never trusted.
 *
 *   mm_store *st;
 *   if (mm_store_open(&st, "all-MiniLM-L6-v2", &err)) ...
 *   const mm_store_tensor *t = mm_store_find(st, "blk.0.attn_q.weight");
 *   mm_store_close(&st);
 *
 * Three kinds of source look the same: a Hugging Face folder (config.json, model.safetensors or its index
 * of shards), a .safetensors file, a GGUF file (the first part of a split one opens all). Formats:
 * safetensors (github.com/huggingface/safetensors, README "Format"), GGUF versions 2 and 3, little-endian
 * (github.com/ggml-org/ggml, docs/gguf.md). Every length, offset, count and name is checked against the
 * file before use; a file that fails a check is refused whole. One thread at a time asks a store (it keeps
 * what it has mapped and decoded), and beside it others may look for tensors, release them and ask for single values of a GGUF file; what a
 * store has handed out may be read by any. */
#ifndef MM_STORE_H
#define MM_STORE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "base/mm_dtype.h"
#include "base/mm_err.h"
#include "base/mm_file.h"
#include "base/mm_json.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_STORE_NDIM 8
#define MM_STORE_HEADER ((size_t)100 << 20) /* largest safetensors header, as in the reference reader */

typedef struct mm_store mm_store;

typedef struct mm_store_tensor {
    const char *name;             /* as in the file, or the canonical name after mm_store_rename */
    int type;                     /* mm_dtype */
    int ndim;                     /* 0: a scalar */
    int64_t shape[MM_STORE_NDIM]; /* row-major, outermost first */
    const void *data;             /* mapped, read only; alignment is the file's */
    size_t bytes;
    uint32_t part; /* which mapped file */
} mm_store_tensor;

/* Open a folder, a file, or MM_STORE_DEFAULT: the built-in model. On failure *out is NULL and nothing is left open. */
MM_API MM_MUST_CHECK int mm_store_open(mm_store **out, const char *path, mm_err *err);
MM_API void mm_store_close(mm_store **st);

/* Find a model by name: an existing path as it is; otherwise NAME and NAME.gguf in each folder of
 * MM_MODEL_PATH (colon separated; default $XDG_DATA_HOME/mm/models or ~/.local/share/mm/models, then
 * /usr/local/share/mm/models and /usr/share/mm/models). The name MM_STORE_DEFAULT is searched in those folders
 * only (a folder ./default is a path with a slash) and is the built-in model when none has it. NULL stands for
 * mm_store_default_name(). *out is malloc'ed. MM_EIO: err lists what was tried. */
MM_API MM_MUST_CHECK int mm_store_resolve(char **out, const char *name, mm_err *err);

#define MM_STORE_DEFAULT "default"
/* The model to use where none is named: the value of MM_MODEL, or MM_STORE_DEFAULT. */
MM_API const char *mm_store_default_name(void);
/* The bytes of the model that is linked into the library, a GGUF; NULL if this build has none. */
MM_API const void *mm_store_builtin(size_t *len);

MM_API int mm_store_is_gguf(const mm_store *st);
#define MM_STORE_CHECKPOINT "mm.checkpoint" /* the key that what mm-train keeps of a run has (mm_ckpt.h) */
/* 0, or MM_EMODEL where the file has it and is no model. */
MM_API MM_MUST_CHECK int mm_store_no_checkpoint(const mm_store *st, mm_err *err);
MM_API size_t mm_store_count(const mm_store *st);
MM_API const mm_store_tensor *mm_store_at(const mm_store *st, size_t i);
/* NULL if there is none of that name. */
MM_API const mm_store_tensor *mm_store_find(const mm_store *st, const char *name);
/* Give tensors other names (a family's canonical ones): map returns the new name in buf, or NULL to keep
 * the old one. MM_EDATA when two tensors would get the same name. */
MM_API MM_MUST_CHECK int mm_store_rename(mm_store *st,
                                         const char *(*map)(const char *name, char buf[128], void *arg),
                                         void *arg, mm_err *err);
/* 1 if path is, by device and inode, one of the files that this store is mapped from. */
MM_API int mm_store_uses(const mm_store *st, const char *path);
/* The tensor's pages are not needed again soon: resident memory shrinks. NULL: those of all files, neighbours that the kernel mapped included. */
MM_API void mm_store_release(const mm_store *st, const mm_store_tensor *t);

/* ---- a folder's own files ---- */
/* Map a file of the folder ("tokenizer.json", "1_Pooling/config.json"); valid until close. A GGUF that was made from a folder carries
 * its small files as keys "mm.file.NAME". 0: *p, *len set; 1: there is no such file; MM_EIO: it cannot be read. */
MM_API MM_MUST_CHECK int mm_store_file(const mm_store *st, const char *name, const char **p, size_t *len,
                                       mm_err *err);
/* config.json, or NULL. Borrowed. */
MM_API const json_t *mm_store_config(const mm_store *st);

/* ---- GGUF metadata ----
 * Getters set *out to dflt when the key is absent (always so for folders); another type or a value out of
 * range is MM_EDATA. Integers of any width and sign are taken for mm_store_kv_int; any number for
 * mm_store_kv_num. */
MM_API MM_MUST_CHECK int mm_store_kv_int(const mm_store *st, const char *key, int64_t min, int64_t max,
                                         int64_t dflt, int64_t *out, mm_err *err);
MM_API MM_MUST_CHECK int mm_store_kv_num(const mm_store *st, const char *key, double dflt, double *out,
                                         mm_err *err);
MM_API MM_MUST_CHECK int mm_store_kv_bool(const mm_store *st, const char *key, int dflt, int *out,
                                          mm_err *err);
/* Strings with a NUL inside are MM_EDATA. Valid until close. */
MM_API MM_MUST_CHECK int mm_store_kv_str(const mm_store *st, const char *key, const char *dflt,
                                         const char **out, mm_err *err);
/* Arrays: *out NULL and *n 0 when absent. Valid until close. */
MM_API MM_MUST_CHECK int mm_store_kv_strs(const mm_store *st, const char *key, const mm_slice **out,
                                          size_t *n, mm_err *err);
MM_API MM_MUST_CHECK int mm_store_kv_ints(const mm_store *st, const char *key, const int32_t **out, size_t *n,
                                          mm_err *err);
MM_API MM_MUST_CHECK int mm_store_kv_nums(const mm_store *st, const char *key, const float **out, size_t *n,
                                          mm_err *err);

/* For listing: the i-th key (NULL past the end), its type ("u32", "array") and its value, appended to out
 * as JSON; an array of more than 8 elements as {"array":"string","count":30522}. For safetensors: the
 * __metadata__ map. */
MM_API const char *mm_store_kv_at(const mm_store *st, size_t i, const char **type, mm_buf *out);

/* ---- parsers over memory, for files already mapped and for fuzzing ---- */
/* Parse one safetensors or GGUF image; the bytes stay the caller's and must outlive the store. name is used
 * in messages. */
MM_API MM_MUST_CHECK int mm_store_parse(mm_store **out, const char *name, const void *p, size_t len,
                                        mm_err *err);

/* ---- writers ----
 *   mm_gguf_writer *w;
 *   mm_gguf_create(&w, "x.gguf", &err);
 *   mm_gguf_kv_str(w, "general.architecture", "bert"); ...         failures are kept and reported by begin
 *   mm_gguf_tensor(w, "token_embd.weight", MM_F32, 2, shape); ...  all tensors first
 *   mm_gguf_begin(w, &err);                                        writes the header
 *   mm_gguf_data(w, bytes, n, &err); ...                           their data in the same order, in any pieces
 *                                                                  that do not cross from one to the next
 *   mm_gguf_commit(&w, &err);                                      renames; w is NULL in any case
 *   mm_gguf_abort(&w);                                             gives up: nothing is left behind
 * Data is aligned to 32 bytes. A writer is used by one thread. */
typedef struct mm_gguf_writer mm_gguf_writer;
MM_API MM_MUST_CHECK int mm_gguf_create(mm_gguf_writer **w, const char *path, mm_err *err);
MM_API void mm_gguf_kv_str(mm_gguf_writer *w, const char *key, const char *val);
MM_API void mm_gguf_kv_u32(mm_gguf_writer *w, const char *key, uint32_t val);
MM_API void mm_gguf_kv_f32(mm_gguf_writer *w, const char *key, float val);
MM_API void mm_gguf_kv_bool(mm_gguf_writer *w, const char *key, int val);
MM_API void mm_gguf_kv_strs(mm_gguf_writer *w, const char *key, const mm_slice *v, size_t n);
MM_API void mm_gguf_kv_ints(mm_gguf_writer *w, const char *key, const int32_t *v, size_t n);
MM_API void mm_gguf_kv_nums(mm_gguf_writer *w, const char *key, const float *v, size_t n);
/* Copy every key of another GGUF except those for which skip returns 1. */
MM_API void mm_gguf_kv_copy(mm_gguf_writer *w, const mm_store *from, int (*skip)(const char *key));
/* shape row-major, outermost first, at most 4 dimensions; name at most 64 bytes (GGUF's limits). */
MM_API void mm_gguf_tensor(mm_gguf_writer *w, const char *name, int type, int ndim, const int64_t *shape);
MM_API MM_MUST_CHECK int mm_gguf_begin(mm_gguf_writer *w, mm_err *err);
MM_API MM_MUST_CHECK int mm_gguf_data(mm_gguf_writer *w, const void *p, size_t len, mm_err *err);
MM_API MM_MUST_CHECK int mm_gguf_commit(mm_gguf_writer **w, mm_err *err);
MM_API void mm_gguf_abort(mm_gguf_writer **w);

/* The same for safetensors: metadata is a JSON object of strings, or NULL. */
typedef struct mm_st_writer mm_st_writer;
MM_API MM_MUST_CHECK int mm_st_create(mm_st_writer **w, const char *path, const json_t *metadata,
                                      mm_err *err);
MM_API void mm_st_tensor(mm_st_writer *w, const char *name, int type, int ndim, const int64_t *shape);
MM_API MM_MUST_CHECK int mm_st_begin(mm_st_writer *w, mm_err *err);
MM_API MM_MUST_CHECK int mm_st_data(mm_st_writer *w, const void *p, size_t len, mm_err *err);
MM_API MM_MUST_CHECK int mm_st_commit(mm_st_writer **w, mm_err *err);
MM_API void mm_st_abort(mm_st_writer **w);

#ifdef __cplusplus
}
#endif
#endif

/* mm_quant.h - model files into one GGUF, with tensors stored as float32, float16, bfloat16 or q8_0.
 *
 *   mm_quant_opts o = { .type = MM_Q8_0 };
 *   mm_quant_sum sum;
 *   mm_quant_convert("all-MiniLM-L6-v2", "minilm-q8_0.gguf", &o, &sum, &err);
 *
 * The source is what mm_store_open() takes. A Hugging Face folder of a known family becomes a GGUF that
 * this library and llama.cpp load; a GGUF keeps its keys; a single .safetensors file becomes a plain
 * container of tensors (mm-model(5)). What is written is read back, value by value, and the difference
 * reported, so that the loss is known. */
#ifndef MM_QUANT_H
#define MM_QUANT_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "store/mm_store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_quant_stat { /* one tensor */
    const char *name;  /* in the output */
    int from, to;      /* mm_dtype */
    size_t count, bytes; /* elements; bytes written */
    double rel_rms;    /* sqrt(sum (written - read)^2 / sum read^2); 0 for a copy */
    double max_abs;    /* largest |written - read| */
    size_t nonfinite;  /* NaN and infinite values, in the source as in the output */
    const char *note;  /* why the type is not the one asked for, or NULL */
} mm_quant_stat;

typedef struct mm_quant_opts {
    int type; /* MM_F32, MM_F16, MM_BF16 or MM_Q8_0 */
    const char *prune; /* what is left of a model of family bert, see below; NULL: all of it */
    void (*report)(void *arg, const mm_quant_stat *stat); /* after each tensor; may be NULL */
    void *arg;
} mm_quant_opts;

typedef struct mm_quant_sum {
    char arch[32];
    size_t tensors;
    uint64_t params, bytes_in, bytes_out; /* elements; bytes of tensor data */
    double rel_rms; /* over all values of the tensors that lost something */
    double worst;   /* largest rel_rms of one tensor, and its name */
    char worst_name[128];
} mm_quant_sum;

/* Pruning: whole structures are left out, and what remains is an ordinary, smaller model. `prune` is a list "layers=2,ffn=768" of
 *   layers=N       layers kept, spread evenly from the first to the last; of one the last
 *   blocks=A+B..   these layers instead, by their numbers from 0 on, ascending
 *   ffn=N          feed-forward channels kept in every layer: those of the largest |row of up| |column of down|
 *   heads=N        attention heads kept in every layer: those of the largest |V| |O|; a head keeps its width
 *   positions=N    rows of the position table, from the first on, and so the longest window
 *   vocab=FILE:N   tokens kept, at most N: special tokens, single characters (ASCII, and those that FILE has; as a beginning and as a
 *                  continuation, so that longer words fall into smaller pieces), then those that occur most in FILE's lines
 * What is not named stays. Vectors are no longer those of the source (mm-train --distil brings them back towards it), so neither its
 * fingerprint nor its name is carried. MM_EARG: a word that is none of these, a number that the model has not; MM_EUNSUP: a family other than
 * bert, a tokenizer that GGUF's own keys cannot say. */

/* Convert `in` to the file `out`, which appears, whole, only on success. sum may be NULL. MM_EARG: out is a
 * file that the source is read from (by device and inode), or the type is not one of the four. MM_EUNSUP:
 * an unknown family, a tensor type that cannot be converted. MM_EDATA: a value that the type cannot hold
 * (NaN in q8_0, 70000 in f16); err names the tensor. */
MM_API MM_MUST_CHECK int mm_quant_convert(const char *in, const char *out, const mm_quant_opts *o,
                                          mm_quant_sum *sum, mm_err *err);

/* Count NaN and infinite values. 0, or MM_EUNSUP for a type that cannot be looked into (counts are then 0),
 * MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_quant_check(const mm_store_tensor *t, size_t *nan, size_t *inf, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

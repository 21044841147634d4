/* mm_dtype.h - element types of tensors. Numbers are GGUF's ggml_type values (GGUF specification, "Tensor info"), so that
 * one enum serves files, memory and kernels. Block types store `block` elements in `bytes` bytes. */
#ifndef MM_DTYPE_H
#define MM_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mm_dtype {
    MM_F32 = 0, MM_F16 = 1, MM_Q4_0 = 2, MM_Q4_1 = 3, MM_Q5_0 = 6, MM_Q5_1 = 7, MM_Q8_0 = 8, MM_Q8_1 = 9,
    MM_Q2_K = 10, MM_Q3_K = 11, MM_Q4_K = 12, MM_Q5_K = 13, MM_Q6_K = 14, MM_Q8_K = 15, MM_IQ4_NL = 20,
    MM_I8 = 24, MM_I16 = 25, MM_I32 = 26, MM_I64 = 27, MM_F64 = 28, MM_BF16 = 30,
    MM_U8 = 1000, MM_BOOL = 1001, MM_U16 = 1002, MM_U32 = 1003, MM_U64 = 1004, MM_F8_E4M3 = 1005,
    MM_F8_E5M2 = 1006 /* in safetensors only: no GGUF number */
} mm_dtype;

typedef struct mm_dtype_info {
    mm_dtype type;
    const char *name;    /* lower case: "f32", "q8_0" */
    const char *st_name; /* safetensors' name ("F32"), NULL for block types */
    uint16_t block;      /* elements per block, 1 for plain types */
    uint16_t bytes;      /* bytes per block */
} mm_dtype_info;

/* NULL for a number that is no type of ours. Static storage. */
MM_API const mm_dtype_info *mm_dtype_get(int type);
/* By lower-case name ("q8_0") or safetensors name ("BF16"); NULL if unknown. */
MM_API const mm_dtype_info *mm_dtype_find(const char *name, size_t len);
/* Bytes of n elements of a row: n must be a multiple of the block. Returns 0 and sets *bytes, or MM_ESHAPE / MM_ENOMEM
 * (overflow) / MM_EUNSUP (unknown type). */
MM_API MM_MUST_CHECK int mm_dtype_bytes(int type, size_t n, size_t *bytes);

/* Block types that weights come in, apart from q8_0: q4_0 q4_1 q5_0 q5_1 q2_K q3_K q4_K q5_K q6_K iq4_nl. */
MM_API int mm_block_known(int type);
/* A row of n elements, a multiple of the block, of such a type. Portable C. */
MM_API void mm_block_to_f32(int type, float *out, const void *row, size_t n);
/* The same numbers as q8_0, where that is possible (q4_0, q5_0, iq4_nl): 1; else 0 and nothing is written. */
MM_API int mm_block_to_q8_0(int type, void *out, const void *row, size_t n);

/* IEEE binary16 and bfloat16, round to nearest even; NaN stays NaN. Portable C, for files and single values; kernels have
 * their own. */
MM_API float mm_f16_to_f32(uint16_t h);
MM_API uint16_t mm_f32_to_f16(float f);
static inline float mm_bf16_to_f32(uint16_t h)
{
    union { uint32_t u; float f; } v = { (uint32_t)h << 16 };
    return v.f;
}
MM_API uint16_t mm_f32_to_bf16(float f);

#ifdef __cplusplus
}
#endif
#endif

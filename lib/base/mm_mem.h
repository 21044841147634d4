/* mm_mem.h - overflow-checked allocation, arenas, growable byte buffers.
 *
 *   mm_arena a = {0};
 *   float *x = mm_arena_alloc(&a, n, sizeof *x);     // NULL when out of memory
 *   mm_arena_reset(&a);                              // keeps the memory for the next batch
 *   mm_arena_clear(&a);
 *
 * Kinds of memory in libmm: arenas (short-lived, per batch), heap objects with a _new/_free or _open/_close pair, mapped
 * files (mm_file.h). No object here is safe to use from two threads at once. */
#ifndef MM_MEM_H
#define MM_MEM_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_ALIGN 64 /* of every arena block and aligned allocation: a cache line, a ZMM register */

/* *out = a * b (mm_mul) or a + b (mm_add); returns 1 and leaves *out alone on overflow of size_t. */
static inline int mm_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return 1;
    *out = r;
    return 0;
}
static inline int mm_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return 1;
    *out = r;
    return 0;
}

/* n * size bytes, 64-byte aligned, uninitialised; NULL on overflow or no memory. n * size == 0 gives a valid pointer.
 * Blocks of 2 MiB and more are aligned to huge pages and advised so. Free with free(). */
MM_API void *mm_aligned(size_t n, size_t size);

/* realloc to n * size bytes with overflow check; NULL leaves p as it was. */
MM_API void *mm_realloc(void *p, size_t n, size_t size);

/* ---- arena: chained blocks, freed together. {0} is a valid empty arena. ---- */
typedef struct mm_arena_block mm_arena_block;
typedef struct mm_arena {
    mm_arena_block *cur;   /* block being filled */
    mm_arena_block *first;
    size_t block_size;     /* of the next block; 0: 64 KiB */
} mm_arena;

/* n * size bytes, 64-byte aligned for requests of 64 bytes and more, else 16; uninitialised. NULL on overflow/no memory. */
MM_API void *mm_arena_alloc(mm_arena *a, size_t n, size_t size);
/* As mm_arena_alloc, zeroed. */
MM_API void *mm_arena_zalloc(mm_arena *a, size_t n, size_t size);
/* Copy of len bytes plus a NUL. */
MM_API char *mm_arena_strndup(mm_arena *a, const char *s, size_t len);
/* Forget everything, keep the blocks. Pointers handed out before are invalid. */
MM_API void mm_arena_reset(mm_arena *a);
/* A place in the arena, and back to it: everything allocated since is forgotten. Marks nest. */
typedef struct mm_arena_mark {
    mm_arena_block *block;
    size_t used;
} mm_arena_mark;
MM_API mm_arena_mark mm_arena_here(const mm_arena *a);
MM_API void mm_arena_back(mm_arena *a, mm_arena_mark m);
/* Give all memory back; the arena is {0} again. */
MM_API void mm_arena_clear(mm_arena *a);

/* ---- buf: growable bytes. {0} is a valid empty buffer; p[len] is always NUL once p is not NULL. ----
 * Appending functions return 0 or MM_ENOMEM; on failure the content is unchanged and b->failed is set and stays set, so a
 * run of appends may be checked once at the end. */
typedef struct mm_buf {
    char *p;
    size_t len, cap;
    int failed;
} mm_buf;

MM_API int mm_buf_reserve(mm_buf *b, size_t more);
MM_API int mm_buf_add(mm_buf *b, const void *p, size_t len);
MM_API int mm_buf_adds(mm_buf *b, const char *s);
MM_API int mm_buf_addc(mm_buf *b, char c);
MM_API int mm_buf_addf(mm_buf *b, const char *fmt, ...) MM_PRINTF(2, 3);
MM_API void mm_buf_reset(mm_buf *b); /* len = 0, failed = 0, memory kept */
MM_API void mm_buf_clear(mm_buf *b); /* memory freed, {0} again */

#ifdef __cplusplus
}
#endif
#endif

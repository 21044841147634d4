/* scratch_int.h - working memory of the calling thread. */
#ifndef MM_SCRATCH_INT_H
#define MM_SCRATCH_INT_H

#include <stddef.h>

/* At least `bytes` bytes, 64-byte aligned, contents undefined; valid until the thread's next call, freed when it ends. NULL
 * without memory. */
void *mmk_scratch(size_t bytes);

/* The same, another block: for what a thread shares with others while each of them uses mmk_scratch. */
void *mmk_scratch_shared(size_t bytes);

#endif

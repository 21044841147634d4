/* scratch.c - blocks of a thread that only grow: malloc gives blocks of this size back to the system, and faulting a
 * megabyte in again for every product costs more than many a product. */
#include "kernels/scratch_int.h"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct block {
    void *mem;
    size_t bytes;
} block;

enum { OWN, SHARED, NBLOCKS };

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int have_key;

static void destroy(void *p)
{
    block *b = p;
    for (int i = 0; i < NBLOCKS; i++) free(b[i].mem);
    free(b);
}

static void make_key(void)
{
    have_key = pthread_key_create(&key, destroy) == 0;
}

static void *grow(int which, size_t bytes)
{
    pthread_once(&once, make_key);
    block *b = have_key ? pthread_getspecific(key) : NULL;
    if (b && b[which].bytes >= bytes)
        return b[which].mem;
    if (bytes > SIZE_MAX / 2 || !have_key)
        return NULL;
    if (!b) {
        b = calloc(NBLOCKS, sizeof *b);
        if (!b)
            return NULL;
        if (pthread_setspecific(key, b) != 0) {
            free(b);
            return NULL;
        }
    }
    b += which;
    free(b->mem);
    b->bytes = (bytes + 4095) / 4096 * 4096;
    b->mem = aligned_alloc(64, b->bytes);
    if (!b->mem)
        b->bytes = 0;
    return b->mem;
}

void *mmk_scratch(size_t bytes)
{
    return grow(OWN, bytes);
}

void *mmk_scratch_shared(size_t bytes)
{
    return grow(SHARED, bytes);
}

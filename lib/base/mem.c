#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/mm_mem.h"

#define HUGE_PAGE ((size_t)2 << 20)

void *mm_aligned(size_t n, size_t size)
{
    size_t bytes;
    if (mm_mul(n, size, &bytes) || mm_add(bytes, HUGE_PAGE, &(size_t){ 0 })) return NULL;
    if (bytes == 0) bytes = 1;
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : MM_ALIGN;
    void *p;
    if (posix_memalign(&p, align, bytes)) return NULL;
    /* Weights and scan buffers are walked in full: without huge pages the page-table walks cost up to a third. Only the
     * whole huge pages inside are advised, so that the tail does not take 2 MiB of memory for a few bytes. */
    if (bytes >= HUGE_PAGE) madvise(p, bytes & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
    return p;
}

void *mm_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (mm_mul(n, size, &bytes)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

/* ---- arena ---- */

struct mm_arena_block {
    mm_arena_block *next;
    size_t size, used; /* of data */
    _Alignas(MM_ALIGN) uint8_t data[];
};

void *mm_arena_alloc(mm_arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (mm_mul(n, size, &bytes) || bytes > SIZE_MAX / 4) return NULL;
    size_t align = bytes >= MM_ALIGN ? MM_ALIGN : 16;
    for (mm_arena_block *b = a->cur; b; b = b->next) {
        size_t at = (b->used + align - 1) & ~(align - 1);
        if (at <= b->size && bytes <= b->size - at) {
            b->used = at + bytes;
            a->cur = b;
            return b->data + at;
        }
        /* After a reset the following blocks are empty: a too small one is skipped, not freed. */
        if (b->next) b->next->used = 0;
    }
    size_t want = a->block_size ? a->block_size : 64 << 10;
    if (want < bytes) want = bytes;
    mm_arena_block *b;
    if (posix_memalign((void **)&b, MM_ALIGN, sizeof *b + want)) return NULL;
    b->next = NULL;
    b->size = want;
    b->used = bytes;
    mm_arena_block **tail = a->cur ? &a->cur->next : &a->first;
    while (*tail) tail = &(*tail)->next;
    *tail = b;
    a->cur = b;
    a->block_size = want < SIZE_MAX / 8 && want < (64 << 20) ? want * 2 : want;
    return b->data;
}

void *mm_arena_zalloc(mm_arena *a, size_t n, size_t size)
{
    void *p = mm_arena_alloc(a, n, size);
    return p ? memset(p, 0, n * size) : NULL;
}

char *mm_arena_strndup(mm_arena *a, const char *s, size_t len)
{
    if (len == SIZE_MAX) return NULL;
    char *p = mm_arena_alloc(a, len + 1, 1);
    if (!p) return NULL;
    if (len) memcpy(p, s, len);
    p[len] = 0;
    return p;
}

void mm_arena_reset(mm_arena *a)
{
    a->cur = a->first;
    if (a->first) a->first->used = 0;
}

mm_arena_mark mm_arena_here(const mm_arena *a)
{
    return (mm_arena_mark){ a->cur, a->cur ? a->cur->used : 0 };
}

void mm_arena_back(mm_arena *a, mm_arena_mark m)
{
    if (!m.block) {
        mm_arena_reset(a);
        return;
    }
    /* blocks after it are emptied when the cursor comes to them, see mm_arena_alloc() */
    a->cur = m.block;
    m.block->used = m.used;
}

void mm_arena_clear(mm_arena *a)
{
    for (mm_arena_block *b = a->first, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (mm_arena){ 0 };
}

/* ---- buf ---- */

int mm_buf_reserve(mm_buf *b, size_t more)
{
    size_t need;
    if (mm_add(b->len, more, &need) || mm_add(need, 1, &need)) goto fail;
    if (need <= b->cap) return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) {
        if (cap > SIZE_MAX / 2) goto fail;
        cap *= 2;
    }
    char *p = realloc(b->p, cap);
    if (!p) goto fail;
    b->p = p;
    b->cap = cap;
    p[b->len] = 0;
    return 0;
fail:
    b->failed = 1;
    return MM_ENOMEM;
}

int mm_buf_add(mm_buf *b, const void *p, size_t len)
{
    if (mm_buf_reserve(b, len)) return MM_ENOMEM;
    if (len) memcpy(b->p + b->len, p, len);
    b->len += len;
    b->p[b->len] = 0;
    return 0;
}

int mm_buf_adds(mm_buf *b, const char *s) { return mm_buf_add(b, s, strlen(s)); }
int mm_buf_addc(mm_buf *b, char c) { return mm_buf_add(b, &c, 1); }

int mm_buf_addf(mm_buf *b, const char *fmt, ...)
{
    char small[256];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap), r = MM_ENOMEM;
    if (n >= 0 && (size_t)n < sizeof small) {
        r = mm_buf_add(b, small, (size_t)n);
    } else if (n >= 0 && !mm_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
        r = 0;
    } else {
        b->failed = 1;
    }
    va_end(again);
    va_end(ap);
    return r;
}

void mm_buf_reset(mm_buf *b)
{
    b->len = 0;
    b->failed = 0;
    if (b->p) b->p[0] = 0;
}

void mm_buf_clear(mm_buf *b)
{
    free(b->p);
    *b = (mm_buf){ 0 };
}

#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"
#include "base/mm_str.h"
#include "eval/mm_eval.h"

struct mm_eval_keys {
    uint32_t *slot; /* open addressing: number + 1, 0: empty; at most half full */
    size_t slots, n, cap;
    struct at {
        size_t at, len;
    } *at;
    mm_buf bytes;
};

mm_eval_keys *mm_eval_keys_new(void) { return calloc(1, sizeof(mm_eval_keys)); }

void mm_eval_keys_free(mm_eval_keys *k)
{
    if (!k) return;
    free(k->slot);
    free(k->at);
    mm_buf_clear(&k->bytes);
    free(k);
}

size_t mm_eval_keys_count(const mm_eval_keys *k) { return k->n; }

/* The slot where these bytes are, or where they would go. */
static size_t where(const mm_eval_keys *k, const char *p, size_t len)
{
    size_t i = mm_hash64(p, len, 0) & (k->slots - 1);
    for (; k->slot[i]; i = (i + 1) & (k->slots - 1)) {
        const struct at *a = &k->at[k->slot[i] - 1];
        if (a->len == len && (!len || !memcmp(k->bytes.p + a->at, p, len))) break;
    }
    return i;
}

static int grow(mm_eval_keys *k)
{
    size_t slots = k->slots ? 2 * k->slots : 64;
    struct at *at = mm_realloc(k->at, slots / 2, sizeof *at);
    if (!at) return MM_ENOMEM;
    k->at = at;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!slot) return MM_ENOMEM;
    free(k->slot);
    k->slot = slot;
    k->slots = slots;
    for (size_t i = 0; i < k->n; i++) k->slot[where(k, k->bytes.p + k->at[i].at, k->at[i].len)] = (uint32_t)i + 1;
    return 0;
}

int mm_eval_keys_find(const mm_eval_keys *k, const char *p, size_t len, uint32_t *id)
{
    if (!k->slots) return 0;
    size_t i = where(k, p, len);
    if (!k->slot[i]) return 0;
    *id = k->slot[i] - 1;
    return 1;
}

int mm_eval_keys_add(mm_eval_keys *k, const char *p, size_t len, uint32_t *id)
{
    if (mm_eval_keys_find(k, p, len, id)) return 0;
    if (2 * (k->n + 1) > k->slots && grow(k)) return MM_ENOMEM;
    if (k->n >= UINT32_MAX - 1) return MM_ENOMEM;
    size_t at = k->bytes.len;
    if (mm_buf_add(&k->bytes, p, len)) return MM_ENOMEM;
    k->at[k->n] = (struct at){ at, len };
    k->slot[where(k, p, len)] = (uint32_t)++k->n;
    *id = (uint32_t)k->n - 1;
    return 0;
}

/* Lists of hits from several indexes into one. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "index/mm_index.h"

typedef struct list {
    mm_json_iter it;
    mm_slice hit; /* the next one; empty: no more */
    double score;
} list;

static int score_of(mm_slice hit, double *score)
{
    mm_json_iter it;
    mm_slice key, val;
    if (mm_json_begin(&it, hit.p, hit.len, NULL) || it.array) return 1;
    while (mm_json_next(&it, &key, &val, NULL) > 0)
        if (key.len == 5 && !memcmp(key.p, "score", 5)) return mm_parse_double(val.p, val.len, score) != val.len;
    return 1;
}

static int advance(list *l, size_t number, mm_err *err)
{
    mm_slice key;
    double before = l->score;
    int more = l->hit.p != NULL, r = mm_json_next(&l->it, &key, &l->hit, err);
    if (r <= 0) {
        l->hit = (mm_slice){ NULL, 0 };
        return r;
    }
    if (score_of(l->hit, &l->score))
        return mm_fail(err, MM_EDATA, "list %zu of hits: a hit has no score", number + 1);
    if (more && l->score > before)
        return mm_fail(err, MM_EDATA, "list %zu of hits is not sorted by score", number + 1);
    return 0;
}

int mm_hits_merge(mm_buf *out, const mm_slice *lists, size_t n, size_t k, mm_err *err)
{
    list *l = calloc(n + 1, sizeof *l);
    size_t start = out->len, taken = 0;
    int r = l ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++) {
        if (!(r = mm_json_begin(&l[i].it, lists[i].p, lists[i].len, err)) && !l[i].it.array)
            r = mm_fail(err, MM_EDATA, "hits %zu are no list", i + 1);
        if (!r) r = advance(&l[i], i, err);
    }
    mm_buf_addc(out, '[');
    for (; !r && (k == 0 || taken < k); taken++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (l[i].hit.p && (best == n || l[i].score > l[best].score)) best = i;
        if (best == n) break;
        if (taken) mm_buf_addc(out, ',');
        mm_buf_add(out, l[best].hit.p, l[best].hit.len);
        r = advance(&l[best], best, err);
    }
    mm_buf_addc(out, ']');
    if (!r && out->failed) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) out->len = start;
    free(l);
    return r;
}

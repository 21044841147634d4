/* Retrieval measured exactly: every query against the whole gallery, 64 queries at a time. What equal scores are worth is computed, not left
 * to their order (McSherry and Najork 2008, "Computing information retrieval performance measures efficiently in the presence of tied scores"). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"
#include "eval/mm_eval.h"
#include "kernels/mm_kern.h"

#define BLOCK 64

/* ---- one query ---- */

/* `before` irrelevant items stand before a run of `other` irrelevant and `rel` > 0 relevant ones in random order; these are the first relevant
 * ones. Chance is the run of everything. */
static double recall(size_t before, size_t other, size_t rel, size_t k)
{
    if (before >= k) return 0;
    double miss = 1; /* none of the places before+1 .. k holds a relevant one */
    for (size_t i = 0; i < k - before; i++) {
        if (i >= other) return 1;
        miss *= (double)(other - i) / (double)(other + rel - i);
    }
    return 1 - miss;
}

static double reciprocal(size_t before, size_t other, size_t rel, size_t k)
{
    double sum = 0, still = 1; /* no relevant one yet */
    for (size_t i = 0; i <= other && still > 0; i++) {
        if (k && before + i >= k) break;
        double hit = still * (double)rel / (double)(other - i + rel);
        sum += hit / (double)(before + i + 1);
        still -= hit;
    }
    return sum;
}

/* [a, b) of places counted from 0, cut at k: sum of their discounts. */
static double gain(const double *discount, size_t a, size_t b, size_t k)
{
    if (k && b > k) b = k;
    return b > a ? discount[b] - discount[a] : 0;
}

typedef struct scored {
    float score;
    int rel;
} scored;

static int descending(const void *a, const void *b)
{
    float x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return x > y ? -1 : x < y;
}

static double ndcg(const scored *s, size_t n, size_t rel, size_t k, const double *discount)
{
    double sum = 0;
    for (size_t a = 0, b; a < n; a = b) {
        size_t hits = 0;
        for (b = a; b < n && s[b].score == s[a].score; b++) hits += (size_t)s[b].rel;
        sum += (double)hits / (double)(b - a) * gain(discount, a, b, k);
    }
    return sum / gain(discount, 0, rel, k);
}

typedef struct scratch { /* of one thread */
    uint8_t *rel, *out;  /* [gallery] */
    scored *sorted;      /* [gallery], where something asks for it */
} scratch;

typedef struct work {
    const mm_eval_set *q, *g;
    const mm_eval_metric *m;
    size_t nm;
    size_t *list, *item; /* items of the gallery with key k: item[list[k]] .. item[list[k + 1] - 1] */
    size_t *slist, *sitem; /* the same for `self` */
    size_t keys, selfs;
    double *discount;    /* [gallery + 1] sums of 1 / log2(i + 2), i < n */
    float *gv, *qv, *score;
    void *packed;
    scratch *own;
    int threads;
} work;

/* Mark items; how many were not marked yet. */
static size_t mark(uint8_t *at, const size_t *list, const size_t *item, size_t keys, uint32_t key, uint8_t value)
{
    size_t n = 0;
    if (key >= keys) return 0;
    for (size_t i = list[key]; i < list[key + 1]; i++) {
        n += at[item[i]] != value;
        at[item[i]] = value;
    }
    return n;
}

static void one(const work *w, size_t i, const float *score, scratch *s, double *value, double *chance)
{
    const mm_eval_set *q = w->q, *g = w->g;
    size_t rel = 0, left_out = 0, before = 0, same = 0, same_rel = 0;
    for (size_t k = 0; k < w->nm; k++) value[k] = chance[k] = NAN;
    for (size_t k = q->off[i]; k < q->off[i + 1]; k++) mark(s->rel, w->list, w->item, w->keys, q->key[k], 1);
    if (w->slist) left_out = mark(s->out, w->slist, w->sitem, w->selfs, q->self[i], 1);
    float best = -INFINITY;
    for (size_t j = 0; j < g->n; j++) {
        if (!s->rel[j] || s->out[j]) continue;
        rel++;
        if (score[j] > best) best = score[j];
    }
    if (rel) {
        for (size_t j = 0; j < g->n; j++) {
            if (s->out[j]) continue;
            before += score[j] > best;
            same += score[j] == best;
            same_rel += s->rel[j] && score[j] == best;
        }
        size_t all = g->n - left_out, n = 0;
        if (s->sorted) {
            for (size_t j = 0; j < g->n; j++)
                if (!s->out[j]) s->sorted[n++] = (scored){ score[j], s->rel[j] };
            qsort(s->sorted, n, sizeof *s->sorted, descending);
        }
        for (size_t k = 0; k < w->nm; k++) {
            const mm_eval_metric *m = &w->m[k];
            if (m->kind == MM_EVAL_RECALL) {
                value[k] = recall(before, same - same_rel, same_rel, m->k);
                chance[k] = recall(0, all - rel, rel, m->k);
            } else if (m->kind == MM_EVAL_MRR) {
                value[k] = reciprocal(before, same - same_rel, same_rel, m->k);
                chance[k] = reciprocal(0, all - rel, rel, m->k);
            } else {
                value[k] = ndcg(s->sorted, n, rel, m->k, w->discount);
                chance[k] = (double)rel / (double)all * gain(w->discount, 0, all, m->k) / gain(w->discount, 0, rel, m->k);
            }
        }
    }
    for (size_t k = q->off[i]; k < q->off[i + 1]; k++) mark(s->rel, w->list, w->item, w->keys, q->key[k], 0);
    if (w->slist) mark(s->out, w->slist, w->sitem, w->selfs, q->self[i], 0);
}

/* ---- all of them ---- */

/* Items by key. off NULL: item i has the one key key[i]. */
static int invert(const uint32_t *key, const size_t *off, size_t n, size_t **list, size_t **item, size_t *keys)
{
    size_t all = off ? off[n] : n, most = 0;
    for (size_t k = 0; k < all; k++) most = (size_t)key[k] + 1 > most ? (size_t)key[k] + 1 : most;
    *keys = most;
    *list = calloc(most + 2, sizeof **list);
    *item = mm_realloc(NULL, all, sizeof **item);
    if (!*list || !*item) return MM_ENOMEM;
    for (size_t k = 0; k < all; k++) (*list)[key[k] + 2]++;
    for (size_t k = 2; k < most + 2; k++) (*list)[k] += (*list)[k - 1];
    for (size_t i = 0; i < n; i++)
        for (size_t k = off ? off[i] : i; k < (off ? off[i + 1] : i + 1); k++) (*item)[(*list)[key[k] + 1]++] = i;
    return 0;
}

static void work_clear(work *w)
{
    for (int t = 0; w->own && t < w->threads; t++) {
        free(w->own[t].rel);
        free(w->own[t].out);
        free(w->own[t].sorted);
    }
    free(w->own);
    free(w->list);
    free(w->item);
    free(w->slist);
    free(w->sitem);
    free(w->discount);
    free(w->gv);
    free(w->qv);
    free(w->score);
    free(w->packed);
}

static int work_init(work *w)
{
    const mm_eval_set *q = w->q, *g = w->g;
    int sorts = 0, r = invert(g->key, g->off, g->n, &w->list, &w->item, &w->keys);
    if (!r && q->self && g->self) r = invert(g->self, NULL, g->n, &w->slist, &w->sitem, &w->selfs);
    for (size_t k = 0; k < w->nm; k++) sorts |= w->m[k].kind == MM_EVAL_NDCG;
    w->gv = mm_aligned(g->n, g->dim * sizeof *w->gv);
    w->qv = mm_aligned(BLOCK, q->dim * sizeof *w->qv);
    w->score = mm_aligned(BLOCK, g->n * sizeof *w->score);
    w->own = calloc((size_t)w->threads, sizeof *w->own);
    w->discount = mm_realloc(NULL, g->n + 1, sizeof *w->discount);
    if (r || !w->gv || !w->qv || !w->score || !w->own || !w->discount) return MM_ENOMEM;
    for (int t = 0; t < w->threads; t++) {
        scratch *s = &w->own[t];
        s->rel = calloc(g->n + 1, 1);
        s->out = calloc(g->n + 1, 1);
        if (sorts) s->sorted = mm_realloc(NULL, g->n, sizeof *s->sorted);
        if (!s->rel || !s->out || (sorts && !s->sorted)) return MM_ENOMEM;
    }
    w->discount[0] = 0;
    for (size_t i = 0; i < g->n; i++) w->discount[i + 1] = w->discount[i] + 1 / log2((double)i + 2);
    return 0;
}

static int check(const mm_eval_set *q, const mm_eval_set *g, const mm_eval_metric *m, size_t nm, mm_err *err)
{
    if (q->n && g->n && q->dim != g->dim) return mm_fail(err, MM_ESHAPE, "queries have %zu dimensions, the gallery has %zu", q->dim, g->dim);
    for (size_t i = 0; i < nm; i++)
        if (m[i].kind < MM_EVAL_RECALL || m[i].kind > MM_EVAL_NDCG || (m[i].kind == MM_EVAL_RECALL && !m[i].k))
            return mm_fail(err, MM_EARG, "there is no such metric");
    return 0;
}

int mm_eval_retrieve(const mm_eval_set *q, const mm_eval_set *g, const mm_eval_metric *m, size_t nm, int threads, double *value,
                     double *chance, mm_err *err)
{
    work w = { .q = q, .g = g, .m = m, .nm = nm, .threads = threads > 1 ? threads : 1 };
    const mm_kern *kern = mm_kern_get();
    int r = check(q, g, m, nm, err);
    if (r) return r;
    double *each = calloc(2 * BLOCK, nm * sizeof *each), *sum = calloc(nm, sizeof *sum);
    size_t bytes = mmk_pack_size(kern, 0, g->n, g->dim), answered = 0;
    const mmk_mat *mat = NULL;
    r = each && sum ? work_init(&w) : MM_ENOMEM;
    if (!r && bytes) w.packed = mm_aligned(bytes, 1);
    if (!r && g->n && !w.packed) r = MM_ENOMEM;
    if (!r && g->n) {
        memcpy(w.gv, g->vec, g->n * g->dim * sizeof *w.gv);
        kern->l2_normalize(w.gv, g->n, g->dim);
        mat = mmk_pack(kern, w.packed, 0, g->dim, &(mmk_rows){ w.gv, g->n }, 1, w.threads);
        free(w.gv);
        w.gv = NULL;
    }
    for (size_t i = 0; !r && mat && i < q->n; i += BLOCK) {
        size_t n = q->n - i < BLOCK ? q->n - i : BLOCK;
        memcpy(w.qv, q->vec + i * q->dim, n * q->dim * sizeof *w.qv);
        kern->l2_normalize(w.qv, n, q->dim);
        if (mmk_gemm(w.score, g->n, w.qv, q->dim, n, mat, NULL, NULL, 0, MMK_ACT_NONE, w.threads) != MMK_OK) r = MM_ENOMEM;
        if (r) break;
        /* a thread takes every threads-th query: which scratch is whose needs no asking */
#pragma omp parallel for num_threads(w.threads) schedule(static, 1)
        for (int t = 0; t < w.threads; t++)
            for (size_t j = (size_t)t; j < n; j += (size_t)w.threads)
                one(&w, i + j, w.score + j * g->n, &w.own[t], each + j * nm, each + (BLOCK + j) * nm);
        for (size_t j = 0; j < n; j++) {
            int has = nm && !isnan(each[j * nm]);
            answered += (size_t)has;
            for (size_t k = 0; k < nm; k++) {
                value[k * q->n + i + j] = each[j * nm + k];
                if (has) sum[k] += each[(BLOCK + j) * nm + k];
            }
        }
    }
    for (size_t k = 0; !r && chance && k < nm; k++) chance[k] = answered ? sum[k] / (double)answered : NAN;
    work_clear(&w);
    free(each);
    free(sum);
    if (r) return mm_fail(err, r, "out of memory");
    if (!answered) return mm_fail(err, MM_EEMPTY, "nothing to measure: no query has a relevant item in the gallery");
    return 0;
}

void mm_eval_cosines(const float *a, const float *b, size_t n, size_t dim, double *out)
{
    for (size_t i = 0; i < n; i++, a += dim, b += dim) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t k = 0; k < dim; k++) {
            ab += (double)a[k] * (double)b[k];
            aa += (double)a[k] * (double)a[k];
            bb += (double)b[k] * (double)b[k];
        }
        out[i] = aa > 0 && bb > 0 ? ab / sqrt(aa) / sqrt(bb) : 0;
    }
}

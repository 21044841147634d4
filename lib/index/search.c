/* Search: every segment is scanned in the type it is kept in, the journal in float32; i8 and b1 only choose
 * candidates, which are scored again from float32. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "index/index_int.h"
#include "kernels/mm_kern.h"
#include "kernels/mm_scan.h"

/* rows [base, base + n) of two bitmaps, shifted to start at bit 0 */
static void skip_bits(uint64_t *out, const uint64_t *dead, const uint64_t *all, uint64_t base, uint64_t n)
{
    for (uint64_t w = 0; w * 64 < n; w++) {
        uint64_t bits = dead ? dead[w] : 0;
        if (all) {
            uint64_t at = base + w * 64, sh = at % 64;
            bits |= all[at / 64] >> sh;
            if (sh && (w * 64 + 64 - sh < n)) bits |= all[at / 64 + 1] << (64 - sh);
        }
        out[w] = bits;
    }
}

static int scan_segments(mm_index *ix, const float *q, size_t nq, const mm_index_query *how, uint64_t *skip,
                         mmk_hits *hits)
{
    const mm_kern *k = mm_kern_get();
    for (size_t i = 0; i < ix->n_seg; i++) {
        const segment *s = &ix->seg[i];
        mmk_scan_type type = (mmk_scan_type)s->h.type;
        skip_bits(skip, s->dead, how->skip, s->base, s->h.rows);
        mmk_scan_in in = { type,
                           seg_sec(s, SEC_VEC),
                           mmk_scan_row_bytes(type, ix->dim),
                           s->h.rows,
                           ix->dim,
                           type == MMK_SCAN_I8 ? (const float *)(const void *)seg_sec(s, SEC_SCALE) : NULL,
                           skip,
                           s->base };
        if (mmk_scan(k, &in, q, nq, how->threads, hits)) return MM_ENOMEM;
    }
    return 0;
}

static int scan_journal(mm_index *ix, const float *q, size_t nq, const mm_index_query *how, uint64_t *skip,
                        mmk_hits *hits)
{
    uint64_t base = ix_base(ix);
    if (!ix->n_row) return 0;
    skip_bits(skip, NULL, how->skip, base, ix->n_row);
    for (size_t i = 0; i < ix->n_row; i++)
        if (!ix->row[i].live) skip[i / 64] |= (uint64_t)1 << i % 64;
    mmk_scan_in in = { MMK_SCAN_F32, ix->vec, ix->dim * 4, ix->n_row, ix->dim, NULL, skip, base };
    return mmk_scan(mm_kern_get(), &in, q, nq, how->threads, hits) ? MM_ENOMEM : 0;
}

/* The candidates' exact scores: their float32 rows are gathered and scanned like any others. */
static int rescore_one(mm_index *ix, const float *q, mmk_hits *cand, mmk_hits *hits, float *rows, mmk_hits *all)
{
    size_t dim = ix->dim;
    mmk_scan_in in = { MMK_SCAN_F32, rows, dim * 4, cand->count, dim, NULL, NULL, 0 };
    for (size_t c = 0; c < cand->count; c++) {
        const segment *s = ix->seg;
        while (cand->id[c] >= s->base + s->h.rows) s++;
        memcpy(rows + c * dim, seg_sec(s, SEC_FULL) + (cand->id[c] - s->base) * dim * 4, dim * 4);
    }
    all->count = 0;
    if (mmk_scan(mm_kern_get(), &in, q, 1, 1, all)) return MM_ENOMEM;
    for (size_t c = 0; c < all->count; c++) mmk_hits_push(hits, all->score[c], cand->id[all->id[c]]);
    return 0;
}

static int rescore(mm_index *ix, const float *q, size_t nq, mmk_hits *cand, mmk_hits *hits, int threads)
{
    int failed = 0;
    size_t bytes;
    if (mm_mul(cand[0].k, ix->dim, &bytes)) return MM_ENOMEM;
#pragma omp parallel num_threads(threads) reduction(| : failed) if (nq > 1 && threads > 1)
    {
        float *rows = mm_aligned(bytes, sizeof *rows);
        mmk_hits *all = hits_new(1, cand[0].k);
        failed |= !rows || !all;
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < nq; i++)
            if (!failed) failed |= rescore_one(ix, q + i * ix->dim, &cand[i], &hits[i], rows, all) != 0;
        free(rows);
        hits_free(all);
    }
    return failed ? MM_ENOMEM : 0;
}

mmk_hits *hits_new(size_t nq, size_t k)
{
    size_t n, bytes;
    if (mm_mul(nq, k, &n) || mm_mul(n, 12, &bytes)) return NULL;
    mmk_hits *h = malloc(nq * sizeof *h + 8);
    uint64_t *id = malloc(n * sizeof *id + 8);
    float *score = malloc(n * sizeof *score + 8);
    if (!h || !id || !score) {
        free(h);
        free(id);
        free(score);
        return NULL;
    }
    for (size_t i = 0; i < nq; i++) h[i] = (mmk_hits){ score + i * k, id + i * k, 0, k };
    return h;
}

void hits_free(mmk_hits *h)
{
    if (!h) return;
    free(h[0].score);
    free(h[0].id);
    free(h);
}

int search_rows(mm_index *ix, const float *q, size_t nq, const mm_index_query *how, size_t want, mmk_hits *hits,
                mm_err *err)
{
    int coarse = ix->type >= MM_INDEX_I8;
    uint64_t *skip = mm_realloc(NULL, (size_t)((ix_base(ix) + ix->n_row) / 64) + 2, sizeof *skip);
    mmk_hits *cand = coarse ? hits_new(nq, want) : NULL;
    int r = skip && (cand || !coarse) ? 0 : MM_ENOMEM;
    if (!r) r = scan_segments(ix, q, nq, how, skip, coarse ? cand : hits);
    if (!r && coarse) r = rescore(ix, q, nq, cand, hits, how->threads);
    if (!r) r = scan_journal(ix, q, nq, how, skip, hits);
    free(skip);
    hits_free(cand);
    return r ? mm_fail(err, r, "out of memory") : 0;
}

static int check_queries(float *q, size_t nq, size_t dim, mm_err *err)
{
    for (size_t i = 0; i < nq * dim; i++)
        if (!isfinite(q[i])) return mm_fail(err, MM_EDATA, "query %zu holds a value that is not finite", i / dim);
    for (size_t i = 0; i < nq; i++)
        if (mm_kern_get()->l2_normalize(q + i * dim, 1, dim))
            return mm_fail(err, MM_EEMPTY, "query %zu is a zero vector", i);
    return 0;
}

int mm_index_search(mm_index *ix, const float *q, size_t nq, size_t dim, const mm_index_query *how, mm_index_hit *out,
                    size_t *count, mm_err *err)
{
    uint64_t rows = ix_base(ix) + ix->n_row;
    for (size_t i = 0; i < nq; i++) count[i] = 0;
    if (nq == 0 || rows == 0) return 0;
    if (dim != ix->dim) return mm_fail(err, MM_ESHAPE, "the query has %zu dimensions, the index %zu", dim, ix->dim);
    size_t k = how->k < rows ? how->k : (size_t)rows;
    size_t want = how->rescore ? how->rescore : 10 * how->k > 100 ? 10 * how->k : 100;
    if (want < k) want = k;
    if (want > rows) want = (size_t)rows;
    float *norm = mm_aligned(nq * dim, sizeof *norm);
    mmk_hits *hits = hits_new(nq, k);
    int r = norm && hits ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        memcpy(norm, q, nq * dim * sizeof *norm);
        r = check_queries(norm, nq, dim, err);
    }
    if (!r)
        r = how->center ? search_centered(ix, norm, nq, how, want, hits, err)
                        : search_rows(ix, norm, nq, how, want, hits, err);
    for (size_t i = 0; i < nq && !r; i++) {
        mmk_hits_sort(&hits[i]);
        /* vectors of length 1 have no larger product: bytes that changed on the disk, which nobody reads for their checksum here */
        if (hits[i].count && !(hits[i].score[0] < 1.01f)) {
            r = mm_fail(err, MM_EDATA, "index '%s': a vector is damaged: it is longer than 1 (--verify looks at all)", ix->dir);
            break;
        }
        count[i] = hits[i].count;
        for (size_t j = 0; j < hits[i].count; j++)
            out[i * how->k + j] = (mm_index_hit){ hits[i].score[j], hits[i].id[j] };
    }
    free(norm);
    hits_free(hits);
    return r;
}

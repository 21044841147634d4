/* Queries in, each with its nearest records out. */
#include <stdlib.h>
#include "base/mm_base.h"
#include "cmd/retrieve.h"

/* Does a record match? A payload is without what the index has: an id that is a string, the model. */
static int matches(const mm_where *w, const char *model, mm_slice id, mm_slice doc)
{
    static const char numbered[] = "{\"id\":";
    mm_buf b = { 0 };
    const int with_id = mm_where_asks(w, "id") && (doc.len < sizeof numbered || memcmp(doc.p, numbered, sizeof numbered - 1));
    if (!with_id && !model) return mm_where_match(w, doc.p, doc.len);
    mm_buf_addc(&b, '{');
    if (with_id) {
        mm_buf_adds(&b, "\"id\":");
        mm_json_quote(&b, id.p, id.len);
    }
    if (model) {
        mm_buf_adds(&b, with_id ? ",\"model\":" : "\"model\":");
        mm_json_quote(&b, model, strlen(model));
    }
    if (doc.len > 2) mm_buf_addc(&b, ',');
    mm_buf_add(&b, doc.p + 1, doc.len - 1);
    const int yes = !b.failed && mm_where_match(w, b.p, b.len);
    mm_buf_clear(&b);
    return yes;
}

int mm_retrieve_where(mm_retrieve *s)
{
    mm_where *w;
    mm_index_info info;
    if (!s->o->where) return 0;
    int r = mm_where_parse(&w, s->o->where, &s->c->err);
    if (r) return r;
    mm_index_get_info(s->ix, &info);
    const char *model = mm_where_asks(w, "model") && mm_index_model(s->ix)[0] ? mm_index_model(s->ix) : NULL;
    uint64_t words = info.rows / 64 + 1;
    if (!(s->skip = calloc((size_t)words, sizeof *s->skip))) r = mm_retrieve_no_memory(s);
#pragma omp parallel for num_threads((int)s->c->threads) schedule(dynamic, 64) if (!r && words > 64)
    for (uint64_t i = 0; i < (r ? 0 : words); i++)
        for (uint64_t row = i * 64; row < i * 64 + 64 && row < info.rows; row++) {
            mm_slice id, doc;
            if (!mm_index_live(s->ix, row)) continue;
            mm_index_record(s->ix, row, &id, &doc);
            if (!matches(w, model, id, doc)) s->skip[i] |= (uint64_t)1 << row % 64;
        }
    mm_where_free(&w);
    return r;
}

/* The payload's members but "score", which a hit has of its own (the record has it still: --get). */
static void members(mm_buf *b, mm_slice doc)
{
    mm_json_iter it;
    mm_slice key, val;
    if (!memmem(doc.p, doc.len, "\"score\":", 8)) {
        mm_buf_add(b, doc.p + 1, doc.len - 2);
        return;
    }
    size_t start = b->len;
    if (mm_json_begin(&it, doc.p, doc.len, NULL)) return;
    while (mm_json_next(&it, &key, &val, NULL) > 0) {
        if (mm_slice_is(key, "score")) continue;
        if (b->len > start) mm_buf_addc(b, ',');
        mm_buf_addc(b, '"');
        mm_buf_add(b, key.p, key.len);
        mm_buf_adds(b, "\":");
        mm_buf_add(b, val.p, val.len);
    }
}

void mm_retrieve_json(mm_buf *b, mm_slice id, mm_slice doc, int hit)
{
    if (doc.len < 5 || memcmp(doc.p, "{\"id\"", 5)) { /* no number */
        mm_buf_adds(b, "\"id\":");
        mm_json_quote(b, id.p, id.len);
        if (doc.len > 2) mm_buf_addc(b, ',');
    }
    size_t start = b->len;
    if (hit) members(b, doc);
    else if (doc.len > 2) mm_buf_add(b, doc.p + 1, doc.len - 2);
    if (b->len == start && start && b->p[start - 1] == ',') b->len--; /* there was nothing but a score */
}

static void hit_json(mm_retrieve *s, mm_buf *b, const mm_index_hit *h)
{
    mm_slice id, doc;
    char num[16];
    mm_index_record(s->ix, h->row, &id, &doc);
    mm_buf_adds(b, "{\"score\":");
    mm_buf_add(b, num, mm_format_float(h->score, num));
    mm_buf_addc(b, ',');
    mm_retrieve_json(b, id, doc, 1);
    mm_buf_addc(b, '}');
}

typedef struct batch {
    mm_rec **rec;
    size_t *at;                          /* number of each record's query, or SIZE_MAX */
    char (*modality)[MM_INDEX_MODALITY]; /* of each query; --center only */
    const char **names;
    size_t n, queries, dim;
    float *q;
    size_t q_cap;
    mm_index_hit *hits;
    size_t *count;
} batch;

static int take_query(mm_retrieve *s, batch *b, mm_rec *rec)
{
    const float *v;
    size_t dim;
    mm_err err = { 0 };
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    b->at[b->n - 1] = SIZE_MAX;
    if (mm_rec_failed(rec)) return 0;
    char *model;
    int r = mm_retrieve_check_model(s, rec, &model);
    free(model);
    if (r || mm_rec_failed(rec)) return r;
    if ((r = mm_rec_vec(rec, &v, &dim, &err)) <= 0)
        return mm_rec_fail(rec, r ? r : MM_EDATA, "%s", r ? err.msg : "no key \"embedding\" (mm-embed makes it)"), 0;
    if (info.dim && dim != info.dim)
        return mm_rec_fail(rec, MM_ESHAPE, "the query has %zu dimensions, the index %zu", dim, info.dim), 0;
    int zero = 1;
    for (size_t i = 0; i < dim; i++) zero &= v[i] == 0;
    if (zero) return mm_rec_fail(rec, MM_EEMPTY, "the query is a zero vector: it has no direction"), 0;
    b->dim = info.dim ? info.dim : dim;
    if (!info.dim) { /* an index without records: no hits for anyone */
        b->at[b->n - 1] = SIZE_MAX - 1;
        return 0;
    }
    if ((b->queries + 1) * dim > b->q_cap) {
        size_t cap = 2 * b->q_cap + dim;
        float *q = mm_realloc(b->q, cap, sizeof *q);
        if (!q) return mm_retrieve_no_memory(s);
        b->q = q;
        b->q_cap = cap;
    }
    memcpy(b->q + b->queries * dim, v, dim * sizeof *v);
    if (s->o->center) {
        mm_buf_reset(&s->doc);
        if (mm_rec_json(rec, MM_ENC_NONE, &s->doc, &err)) return mm_retrieve_no_memory(s);
        mm_index_modality(s->doc.p, s->doc.len, b->modality[b->queries]);
        b->names[b->queries] = b->modality[b->queries];
    }
    b->at[b->n - 1] = b->queries++;
    return 0;
}

static int answer(mm_retrieve *s, batch *b)
{
    mm_index_query how = { (size_t)s->o->k, (size_t)s->o->rescore, s->skip, (int)s->c->threads, s->o->center, b->names };
    mm_buf out = { 0 };
    int r = b->queries ? mm_index_search(s->ix, b->q, b->queries, b->dim, &how, b->hits, b->count, &s->c->err) : 0;
    for (size_t i = 0; i < b->n && !r; i++) {
        size_t at = b->at[i], n = at < SIZE_MAX - 1 ? b->count[at] : 0, shown = 0;
        if (at != SIZE_MAX) {
            mm_buf_reset(&out);
            mm_buf_addc(&out, '[');
            for (size_t h = 0; h < n; h++) {
                const mm_index_hit *hit = &b->hits[at * (size_t)s->o->k + h];
                if (hit->score < s->o->min_score) break;
                if (shown++) mm_buf_addc(&out, ',');
                hit_json(s, &out, hit);
            }
            mm_buf_addc(&out, ']');
            s->answers += shown;
            if (!s->o->keep) mm_rec_del(b->rec[i], "embedding");
            if (out.failed || mm_rec_set(b->rec[i], "hits", out.p, out.len)) r = mm_retrieve_no_memory(s);
        }
        if (!r) r = mm_io_put(&s->o->io, b->rec[i]);
    }
    b->n = b->queries = 0;
    mm_buf_clear(&out);
    return r;
}

#define HITS_MAX ((size_t)4 << 20) /* of a batch; a large -k makes batches smaller */

static int batch_new(mm_retrieve *s, batch *b, size_t most)
{
    size_t n_hits;
    *b = (batch){ .rec = calloc(most, sizeof *b->rec),
                  .at = calloc(most, sizeof *b->at),
                  .count = calloc(most, sizeof *b->count),
                  .modality = calloc(most, sizeof *b->modality),
                  .names = calloc(most, sizeof *b->names) };
    if (mm_mul(most, (size_t)s->o->k, &n_hits) || !(b->hits = mm_realloc(NULL, n_hits, sizeof *b->hits)))
        return mm_retrieve_no_memory(s);
    return b->rec && b->at && b->count && b->modality && b->names ? 0 : mm_retrieve_no_memory(s);
}

static void batch_free(batch *b, size_t most)
{
    for (size_t i = 0; b->rec && i < most; i++) mm_rec_free(b->rec[i]);
    free(b->rec);
    free(b->at);
    free(b->count);
    free(b->modality);
    free(b->names);
    free(b->hits);
    free(b->q);
}

int mm_retrieve_search(mm_retrieve *s, int argc, char **argv)
{
    mm_index_info info;
    batch b = { 0 };
    size_t most = s->o->batch ? (size_t)s->o->batch : 256;
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (!r) r = mm_retrieve_where(s);
    if (r) return r;
    mm_index_get_info(s->ix, &info);
    if ((uint64_t)s->o->k > info.records) s->o->k = info.records ? (int64_t)info.records : 1;
    if (most > 1 + HITS_MAX / (size_t)s->o->k) most = 1 + HITS_MAX / (size_t)s->o->k;
    r = batch_new(s, &b, most);
    if (!r) r = mm_io_open(&s->o->io, s->c, argc, argv);
    int opened = !r;
    for (int more = 1; !r && more > 0;) {
        mm_rec **slot = &b.rec[b.n];
        if (!*slot && !(*slot = mm_rec_new())) {
            r = mm_retrieve_no_memory(s);
            break;
        }
        mm_err first = { 0 };
        if ((more = mm_io_next(&s->o->io, *slot)) > 0) {
            b.n++;
            if ((r = take_query(s, &b, *slot))) b.n--, first = s->c->err; /* what came before it is answered */
            else if (b.n < most && mm_io_pending(&s->o->io)) continue;
        } else {
            first = s->c->err;
        }
        int e = b.n ? answer(s, &b) : 0;
        if (e) r = e;
        else if (r || more < 0) r = r ? r : more, s->c->err = first;
    }
    batch_free(&b, most);
    return opened ? mm_io_close(&s->o->io, r) : r;
}

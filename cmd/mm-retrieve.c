/* mm-retrieve - keep vectors in an index and find the nearest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/io.h"
#include "index/mm_index.h"

static struct {
    int add, del, list, info, verify, compact, merge, any_model, ack, keep, wait, type, center;
    int64_t k, rescore, batch;
    double min_score;
    const char *get, *where;
    mm_io io;
} o = { .k = 10, .min_score = -1e9 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("What to do (default: search)"),
    MM_OPT_BOOL('a', "add", &o.add, "add the input's records to INDEX, which is created if it is not there"),
    MM_OPT_BOOL('d', "delete", &o.del, "delete the records whose ids come in, as records or as plain lines"),
    MM_OPT_STR('g', "get", &o.get, "ID", "print the record of this id"),
    MM_OPT_BOOL('l', "list", &o.list, "print all records"),
    MM_OPT_BOOL('i', "info", &o.info, "print what the index is, as one JSON line"),
    MM_OPT_BOOL(0, "verify", &o.verify, "check all checksums; exit status 1 and a line for each damage"),
    MM_OPT_BOOL(0, "compact", &o.compact, "rewrite the index without what was deleted or replaced"),
    MM_OPT_BOOL(0, "merge", &o.merge, "merge the hits of searches in several indexes, one file each; no INDEX"),
    MM_OPT_GROUP("Search"),
    MM_OPT_INT('k', "top", &o.k, "N", 1, 1000000, "hits per query (default 10)"),
    MM_OPT_STR('w', "where", &o.where, "CONDITION", "only records that match, as: lang = \"de\" and year >= 2020"),
    MM_OPT_NUM(0, "min-score", &o.min_score, "X", -1e9, 1e9, "only hits of at least this score"),
    MM_OPT_INT(0, "rescore", &o.rescore, "N", 1, 1000000,
               "candidates scored again in float32 (types i8, b1; default 10 N, at least 100)"),
    MM_OPT_BOOL(0, "center", &o.center, "subtract the mean of each modality, for lists of texts and pictures mixed"),
    MM_OPT_BOOL(0, "keep-embedding", &o.keep, "leave the query's vector in the output"),
    MM_OPT_INT(0, "batch", &o.batch, "N", 1, 65536, "queries searched together (default 256), or records made safe together (default 4096)"),
    MM_OPT_GROUP("Index"),
    MM_OPT_ENUM(0, "type", &o.type, "f32|f16|i8|b1", "how a new index keeps its vectors (default: f32)"),
    MM_OPT_BOOL(0, "any-model", &o.any_model, "take vectors of another model than the index was made with"),
    MM_OPT_BOOL(0, "ack", &o.ack, "print the number of records that are safely stored, after every batch"),
    MM_OPT_BOOL(0, "wait", &o.wait, "wait while another process is writing to the index"),
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

typedef struct state {
    mm_ctx *c;
    mm_index *ix;
    const char *dir;
    mm_rec *rec;
    mm_buf doc;
    uint64_t *skip; /* rows that --where leaves out */
    uint64_t answers;
} state;

static int no_memory(state *s) { return mm_fail(&s->c->err, MM_ENOMEM, "out of memory"); }

/* The part of "name@hash" that counts: two names of one model are the same model. */
static const char *hash_of(const char *model)
{
    const char *at = strrchr(model, '@');
    return at ? at + 1 : model;
}

/* A record's model against the index's. *model is it, or NULL. 0, or the error that ends the run: vectors of two
 * models cannot be compared. */
static int check_model(state *s, mm_rec *rec, char **model)
{
    mm_slice m;
    mm_err err = { 0 };
    *model = NULL;
    int r = mm_rec_str(rec, "model", &m, &err);
    if (r <= 0) return r < 0 ? mm_rec_fail(rec, r, "%s", err.msg), 0 : 0;
    if (!(*model = strndup(m.p, m.len))) return no_memory(s);
    const char *own = mm_index_model(s->ix);
    if (!own[0] || o.any_model || !strcmp(hash_of(own), hash_of(*model))) return 0;
    r = mm_fail(&s->c->err, MM_EMODEL,
                "index '%s' holds vectors of model '%s', %s has one of '%s' (--any-model takes it all the same)",
                s->dir, own, mm_rec_place(rec), *model);
    free(*model);
    *model = NULL;
    return r;
}

/* ---- add ---- */

static int is(mm_slice key, const char *name) { return key.len == strlen(name) && !memcmp(key.p, name, key.len); }

/* Everything of a record but its vector, and its id and model where the index has them: what hits will show. An id
 * that is a number comes first, to be shown as it was. */
static int payload(state *s, mm_rec *rec, const char *model)
{
    mm_slice key, raw;
    mm_buf *b = &s->doc;
    const char *own = mm_index_model(s->ix);
    mm_buf_reset(b);
    mm_buf_addc(b, '{');
    if (mm_rec_get(rec, "id", &raw) && raw.p[0] != '"') {
        mm_buf_adds(b, "\"id\":");
        mm_buf_add(b, raw.p, raw.len);
    }
    for (size_t i = 0; i < mm_rec_count(rec); i++) {
        mm_rec_member(rec, i, &key, &raw);
        if (is(key, "embedding") || is(key, "id") ||
            (is(key, "model") && (!own[0] || (model && !strcmp(own, model)))))
            continue;
        if (b->len > 1) mm_buf_addc(b, ',');
        mm_json_quote(b, key.p, key.len);
        mm_buf_addc(b, ':');
        mm_buf_add(b, raw.p, raw.len);
    }
    mm_buf_addc(b, '}');
    return b->failed ? no_memory(s) : 0;
}

/* A record's id as bytes: a string decoded, a number as it stands. Without one: "#" and its number among all ever
 * added. */
static int record_id(state *s, mm_rec *rec, mm_buf *id)
{
    mm_slice raw;
    mm_err err = { 0 };
    mm_buf_reset(id);
    if (!mm_rec_get(rec, "id", &raw)) {
        mm_index_info info;
        mm_index_get_info(s->ix, &info);
        uint64_t row, n = info.added + 1;
        do {
            mm_buf_reset(id);
            mm_buf_addf(id, "#%llu", (unsigned long long)n++);
        } while (!id->failed && mm_index_find(s->ix, id->p, id->len, &row));
    } else if (raw.p[0] == '"') {
        int r = mm_json_unescape(id, raw, &err);
        if (r) return mm_rec_fail(rec, r, "id: %s", err.msg);
    } else if (raw.p[0] == '-' || (raw.p[0] >= '0' && raw.p[0] <= '9')) {
        mm_buf_add(id, raw.p, raw.len);
    } else {
        return mm_rec_fail(rec, MM_EDATA, "id should be a string or a number");
    }
    return id->failed ? no_memory(s) : 0;
}

static int add_one(state *s, mm_buf *id)
{
    const float *v;
    size_t dim;
    char *model;
    mm_err err = { 0 };
    mm_index_info info;
    mm_rec *rec = s->rec;
    if (mm_rec_failed(rec)) return 0;
    int r = check_model(s, rec, &model);
    if (r || mm_rec_failed(rec)) return r;
    mm_index_get_info(s->ix, &info);
    if ((r = mm_rec_vec(rec, &v, &dim, &err)) <= 0) {
        mm_rec_fail(rec, r ? r : MM_EDATA, "%s", r ? err.msg : "no key \"embedding\"");
        r = 0;
    } else if (!(r = record_id(s, rec, id)) && !(r = payload(s, rec, model))) {
        r = mm_index_add(s->ix, id->p ? id->p : "", id->len, v, dim, s->doc.p, s->doc.len, &err);
        if (r == MM_ESHAPE || r == MM_EEMPTY || r == MM_EDATA) mm_rec_fail(rec, r, "%s", err.msg);
        else if (r) mm_fail(&s->c->err, r, "%s", err.msg);
        else if (!info.rows && model && !mm_index_model(s->ix)[0]) r = mm_index_set_model(s->ix, model, &s->c->err);
    }
    free(model);
    return mm_rec_failed(rec) ? 0 : r;
}

static int delete_one(state *s, mm_buf *id)
{
    mm_rec *rec = s->rec;
    mm_err err = { 0 };
    if (mm_rec_failed(rec)) return 0;
    mm_slice raw;
    const char *path = mm_rec_path(rec); /* a plain line is an id here */
    if (path) {
        mm_buf_reset(id);
        mm_buf_adds(id, path);
    } else if (!mm_rec_get(rec, "id", &raw)) {
        return mm_rec_fail(rec, MM_EDATA, "no key \"id\""), 0;
    } else {
        int r = record_id(s, rec, id);
        if (r) return mm_rec_failed(rec) ? 0 : r;
    }
    int r = mm_index_delete(s->ix, id->p ? id->p : "", id->len, &err);
    if (r == 0)
        mm_rec_fail(rec, MM_EDATA, "there is no record '%.*s'", (int)(id->len < 200 ? id->len : 200),
                    id->p ? id->p : "");
    return r < 0 ? mm_fail(&s->c->err, r, "%s", err.msg) : 0;
}

/* Deleting and compacting make nothing. */
static int must_exist(state *s)
{
    mm_index *ix;
    int r = mm_index_open(&ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    return r ? r : mm_index_close(&ix, &s->c->err);
}

static int acknowledge(state *s, uint64_t done)
{
    int r = mm_index_sync(s->ix, &s->c->err);
    if (r || !o.ack) return r;
    printf("%llu\n", (unsigned long long)done);
    return fflush(stdout) ? mm_fail_errno(&s->c->err, "write failed on <stdout>") : 0;
}

/* The type is chosen when the index is made. */
static int check_type(state *s)
{
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    if (!mm_opt_given(s->c, "type") || (int)info.type == o.type) return 0;
    return mm_fail(&s->c->err, MM_EARG, "index '%s' exists and is of another type (see --info)", s->dir);
}

/* --add and --delete: records in, nothing out. What came in is made safe whenever the input pauses and every few
 * thousand. */
static int change(state *s, int argc, char **argv)
{
    mm_index_opts io = { (mm_index_type)o.type, o.wait };
    mm_buf id = { 0 };
    mm_progress bar;
    uint64_t done = 0, unsafe = 0, batch = o.batch ? (uint64_t)o.batch : 4096;
    int r = o.del ? must_exist(s) : 0, more = 0;
    if (!r) r = mm_index_open(&s->ix, s->dir, MM_INDEX_WRITE, &io, &s->c->err);
    if (!r) r = check_type(s);
    if (!r) r = mm_io_open_in(&o.io, s->c, argc, argv);
    if (r) return r;
    mm_progress_start(&bar, s->c, "records", 0);
    while (!r && (more = mm_io_next(&o.io, s->rec)) > 0) {
        r = o.del ? delete_one(s, &id) : add_one(s, &id);
        if (!r) r = mm_io_count(&o.io, s->rec);
        done += !r && !mm_rec_failed(s->rec);
        mm_progress_tick(&bar, done);
        if (!r && (++unsafe >= batch || !mm_io_pending(&o.io))) {
            r = acknowledge(s, done);
            unsafe = 0;
        }
    }
    mm_progress_end(&bar);
    if (!r) r = more;
    mm_err first = s->c->err;
    int closed = unsafe ? acknowledge(s, done) : 0; /* what came before an error counts */
    if (!closed) closed = mm_index_close(&s->ix, &s->c->err);
    if (r) s->c->err = first;
    else r = closed;
    mm_buf_clear(&id);
    return mm_io_close(&o.io, r);
}

/* ---- search ---- */

static int prepare_where(state *s)
{
    mm_where *w;
    mm_index_info info;
    if (!o.where) return 0;
    int r = mm_where_parse(&w, o.where, &s->c->err);
    if (r) return r;
    mm_index_get_info(s->ix, &info);
    uint64_t words = info.rows / 64 + 1;
    if (!(s->skip = calloc((size_t)words, sizeof *s->skip))) r = no_memory(s);
#pragma omp parallel for num_threads((int)s->c->threads) schedule(dynamic, 64) if (!r && words > 64)
    for (uint64_t i = 0; i < (r ? 0 : words); i++)
        for (uint64_t row = i * 64; row < i * 64 + 64 && row < info.rows; row++) {
            mm_slice id, doc;
            if (!mm_index_live(s->ix, row)) continue;
            mm_index_record(s->ix, row, &id, &doc);
            if (!mm_where_match(w, doc.p, doc.len)) s->skip[i] |= (uint64_t)1 << row % 64;
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
        if (is(key, "score")) continue;
        if (b->len > start) mm_buf_addc(b, ',');
        mm_buf_addc(b, '"');
        mm_buf_add(b, key.p, key.len);
        mm_buf_adds(b, "\":");
        mm_buf_add(b, val.p, val.len);
    }
}

/* "id": its number or string, and the payload's members; no braces. */
static void record_json(mm_buf *b, mm_slice id, mm_slice doc, int hit)
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

static void hit_json(state *s, mm_buf *b, const mm_index_hit *h)
{
    mm_slice id, doc;
    char num[16];
    mm_index_record(s->ix, h->row, &id, &doc);
    mm_buf_adds(b, "{\"score\":");
    mm_buf_add(b, num, mm_format_float(h->score, num));
    mm_buf_addc(b, ',');
    record_json(b, id, doc, 1);
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

static int take_query(state *s, batch *b, mm_rec *rec)
{
    const float *v;
    size_t dim;
    mm_err err = { 0 };
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    b->at[b->n - 1] = SIZE_MAX;
    if (mm_rec_failed(rec)) return 0;
    char *model;
    int r = check_model(s, rec, &model);
    free(model);
    if (r || mm_rec_failed(rec)) return r;
    if ((r = mm_rec_vec(rec, &v, &dim, &err)) <= 0)
        return mm_rec_fail(rec, r ? r : MM_EDATA, "%s", r ? err.msg : "no key \"embedding\""), 0;
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
        if (!q) return no_memory(s);
        b->q = q;
        b->q_cap = cap;
    }
    memcpy(b->q + b->queries * dim, v, dim * sizeof *v);
    if (o.center) {
        mm_buf_reset(&s->doc);
        if (mm_rec_json(rec, MM_ENC_NONE, &s->doc, &err)) return no_memory(s);
        mm_index_modality(s->doc.p, s->doc.len, b->modality[b->queries]);
        b->names[b->queries] = b->modality[b->queries];
    }
    b->at[b->n - 1] = b->queries++;
    return 0;
}

static int answer(state *s, batch *b)
{
    mm_index_query how = { (size_t)o.k, (size_t)o.rescore, s->skip, (int)s->c->threads, o.center, b->names };
    mm_buf out = { 0 };
    int r = b->queries ? mm_index_search(s->ix, b->q, b->queries, b->dim, &how, b->hits, b->count, &s->c->err) : 0;
    for (size_t i = 0; i < b->n && !r; i++) {
        size_t at = b->at[i], n = at < SIZE_MAX - 1 ? b->count[at] : 0, shown = 0;
        if (at != SIZE_MAX) {
            mm_buf_reset(&out);
            mm_buf_addc(&out, '[');
            for (size_t h = 0; h < n; h++) {
                const mm_index_hit *hit = &b->hits[at * (size_t)o.k + h];
                if (hit->score < o.min_score) break;
                if (shown++) mm_buf_addc(&out, ',');
                hit_json(s, &out, hit);
            }
            mm_buf_addc(&out, ']');
            s->answers += shown;
            if (!o.keep) mm_rec_del(b->rec[i], "embedding");
            if (out.failed || mm_rec_set(b->rec[i], "hits", out.p, out.len)) r = no_memory(s);
        }
        if (!r) r = mm_io_put(&o.io, b->rec[i]);
    }
    b->n = b->queries = 0;
    mm_buf_clear(&out);
    return r;
}

#define HITS_MAX ((size_t)4 << 20) /* of a batch; a large -k makes batches smaller */

static int batch_new(state *s, batch *b, size_t most)
{
    size_t n_hits;
    *b = (batch){ .rec = calloc(most, sizeof *b->rec),
                  .at = calloc(most, sizeof *b->at),
                  .count = calloc(most, sizeof *b->count),
                  .modality = calloc(most, sizeof *b->modality),
                  .names = calloc(most, sizeof *b->names) };
    if (mm_mul(most, (size_t)o.k, &n_hits) || !(b->hits = mm_realloc(NULL, n_hits, sizeof *b->hits)))
        return no_memory(s);
    return b->rec && b->at && b->count && b->modality && b->names ? 0 : no_memory(s);
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

static int search(state *s, int argc, char **argv)
{
    mm_index_info info;
    batch b = { 0 };
    size_t most = o.batch ? (size_t)o.batch : 256;
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (!r) r = prepare_where(s);
    if (r) return r;
    mm_index_get_info(s->ix, &info);
    if ((uint64_t)o.k > info.records) o.k = info.records ? (int64_t)info.records : 1;
    if (most > 1 + HITS_MAX / (size_t)o.k) most = 1 + HITS_MAX / (size_t)o.k;
    r = batch_new(s, &b, most);
    if (!r) r = mm_io_open(&o.io, s->c, argc, argv);
    int opened = !r;
    for (int more = 1; !r && more > 0;) {
        mm_rec **slot = &b.rec[b.n];
        if (!*slot && !(*slot = mm_rec_new())) {
            r = no_memory(s);
            break;
        }
        mm_err first = { 0 };
        if ((more = mm_io_next(&o.io, *slot)) > 0) {
            b.n++;
            if ((r = take_query(s, &b, *slot))) b.n--, first = s->c->err; /* what came before it is answered */
            else if (b.n < most && mm_io_pending(&o.io)) continue;
        } else {
            first = s->c->err;
        }
        int e = b.n ? answer(s, &b) : 0;
        if (e) r = e;
        else if (r || more < 0) r = r ? r : more, s->c->err = first;
    }
    batch_free(&b, most);
    return opened ? mm_io_close(&o.io, r) : r;
}

/* ---- merging ---- */

/* The same queries, searched in several indexes: record by record the hits are put together. Everything else is the
 * first file's. */
static int merge_one(state *s, mm_rec **rec, char **names, size_t n, mm_slice *lists)
{
    mm_err err = { 0 };
    mm_slice a, b;
    mm_buf out = { 0 };
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        int has = mm_rec_get(rec[0], "id", &a), with = mm_rec_get(rec[i], "id", &b);
        if (has != with || (has && (a.len != b.len || memcmp(a.p, b.p, a.len))))
            return mm_fail(&s->c->err, MM_EDATA, "%s and %s are not the same query: their ids differ",
                           mm_rec_place(rec[0]), mm_rec_place(rec[i]));
        if (mm_rec_failed(rec[i])) r = mm_rec_fail(rec[0], mm_rec_failed(rec[i]), "%s failed", mm_rec_place(rec[i]));
        else if (!mm_rec_get(rec[i], "hits", &lists[i]))
            r = mm_rec_fail(rec[0], MM_EDATA, "no key \"hits\" in '%s'", names[i]);
    }
    if (!r && (r = mm_hits_merge(&out, lists, n, (size_t)o.k, &err))) mm_rec_fail(rec[0], r, "%s", err.msg);
    r = !r && mm_rec_set(rec[0], "hits", out.p, out.len) ? no_memory(s) : 0;
    mm_buf_clear(&out);
    return r ? r : mm_io_put(&o.io, rec[0]);
}

static int merge(state *s, int argc, char **argv)
{
    size_t n = (size_t)argc;
    mm_reader **rd = calloc(n, sizeof *rd);
    mm_rec **rec = calloc(n, sizeof *rec);
    mm_slice *lists = calloc(n, sizeof *lists);
    int r = mm_io_open(&o.io, s->c, 1, argv), more = 1;
    if (r) goto end;
    if (!rd || !rec || !lists) r = no_memory(s);
    for (size_t i = 0; i < n && !r; i++) {
        if (!(rec[i] = mm_rec_new())) r = no_memory(s);
        else if (i) r = mm_reader_open(&rd[i], NULL, argv + i, 1, &s->c->err);
    }
    while (!r && more) {
        if ((more = mm_io_next(&o.io, rec[0])) < 0) r = more;
        for (size_t i = 1; i < n && !r; i++) {
            int got = mm_reader_next(rd[i], rec[i], &s->c->err);
            if (got < 0) r = got;
            else if (got != more)
                r = mm_fail(&s->c->err, MM_ETRUNC, "'%s' has %s records than '%s'", argv[i], got ? "more" : "fewer",
                            argv[0]);
        }
        if (!r && more) r = merge_one(s, rec, argv, n, lists);
    }
    r = mm_io_close(&o.io, r);
end:
    for (size_t i = 0; rd && rec && i < n; i++) {
        mm_reader_close(&rd[i]);
        mm_rec_free(rec[i]);
    }
    free(rd);
    free(rec);
    free(lists);
    return r;
}

/* ---- the rest ---- */

static int print_record(state *s, uint64_t row)
{
    mm_slice id, doc;
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    mm_index_record(s->ix, row, &id, &doc);
    mm_rec *rec = s->rec;
    mm_err err = { 0 };
    mm_buf b = { 0 };
    mm_buf_addc(&b, '{');
    record_json(&b, id, doc, 0);
    mm_buf_addc(&b, '}');
    float *v = mm_aligned(info.dim, sizeof *v);
    int r = b.failed || !v                        ? no_memory(s)
            : mm_rec_parse(rec, b.p, b.len, &err) ? mm_fail(&s->c->err, MM_EDATA, "record '%.100s': %s", b.p, err.msg)
                                                  : 0;
    if (!r) mm_index_vector(s->ix, row, v);
    if (!r && mm_index_model(s->ix)[0] && !mm_rec_get(rec, "model", &id))
        r = mm_rec_set_str(rec, "model", mm_index_model(s->ix), strlen(mm_index_model(s->ix)));
    if (!r) r = mm_rec_set_vec(rec, MM_F32, v, info.dim);
    if (!r) r = mm_io_put(&o.io, rec);
    free(v);
    mm_buf_clear(&b);
    return r;
}

static int show(state *s)
{
    static char dev_null[] = "/dev/null", *none[] = { dev_null, NULL };
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (!r) r = prepare_where(s);
    if (r) return r;
    if ((r = mm_io_open(&o.io, s->c, 1, none))) return r;
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    uint64_t row;
    if (o.get) {
        if (mm_index_find(s->ix, o.get, strlen(o.get), &row)) r = print_record(s, row), s->answers = 1;
    } else {
        for (row = 0; row < info.rows && !r; row++)
            if (mm_index_live(s->ix, row) && !(s->skip && s->skip[row / 64] >> row % 64 & 1))
                r = print_record(s, row), s->answers++;
    }
    r = mm_io_close(&o.io, r);
    if (!r && o.get && !s->answers) {
        mm_error(s->c, "there is no record '%s'", o.get);
        return 1;
    }
    return r;
}

static int info(state *s)
{
    static const char *const types[] = { "f32", "f16", "i8", "b1" };
    mm_index_info i;
    mm_buf b = { 0 };
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (r) return r;
    mm_index_get_info(s->ix, &i);
    mm_json_quote(&b, mm_index_model(s->ix), strlen(mm_index_model(s->ix)));
    if (b.failed) r = no_memory(s);
    else
        printf("{\"type\":\"%s\",\"dim\":%zu,\"records\":%llu,\"rows\":%llu,\"added\":%llu,\"journal\":%llu,"
               "\"segments\":%zu,\"bytes\":%llu,\"model\":%s}\n",
               types[i.type], i.dim, (unsigned long long)i.records, (unsigned long long)i.rows,
               (unsigned long long)i.added, (unsigned long long)i.journal, i.segments, (unsigned long long)i.bytes,
               b.p);
    mm_buf_clear(&b);
    return r;
}

static void report(void *arg, const char *what) { mm_error(arg, "%s", what); }

static int verify(state *s)
{
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (!r) r = mm_index_verify(s->ix, report, s->c, &s->c->err);
    return r > 0 ? 1 : r;
}

static int compact(state *s)
{
    mm_index_opts io = { (mm_index_type)o.type, o.wait };
    int r = must_exist(s);
    if (!r) r = mm_index_open(&s->ix, s->dir, MM_INDEX_WRITE, &io, &s->c->err);
    return r ? r : mm_index_compact(s->ix, &s->c->err);
}

/* An option that means nothing in what is to be done is a mistake of whoever typed it. */
static int check_options(mm_ctx *c, const char *mode, char m)
{
    static const struct {
        const char *opt, *modes;
    } where[] = { { "top", "sm" },       { "where", "sl" },         { "min-score", "s" },     { "rescore", "s" },
                  { "center", "s" },     { "keep-embedding", "s" }, { "batch", "sad" },         { "type", "a" },
                  { "any-model", "as" }, { "ack", "ad" },           { "wait", "adc" },        { "output", "sglm" },
                  { "binary", "sglm" },  { "encoding", "sglm" },    { "unbuffered", "sglm" }, { "text", "ads" },
                  { "null", "ads" },     { "from", "adsm" },        { "strict", "adsm" } };
    for (size_t i = 0; i < sizeof where / sizeof *where; i++)
        if (mm_opt_given(c, where[i].opt) && !strchr(where[i].modes, m))
            return mm_fail(&c->err, MM_EARG, "option '--%s' means nothing %s%s", where[i].opt,
                           m == 's' ? "in a " : "with --", mode);
    return 0;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    state s = { .c = c, .rec = mm_rec_new() };
    static const char *const modes[] = { "add", "delete", "get", "list", "info", "verify", "compact", "merge" };
    const char *mode = "search";
    int r = mm_opt_exclusive(c, "add", "delete", "get", "list", "info", "verify", "compact", "merge", NULL);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (mm_opt_given(c, modes[i])) mode = modes[i];
    if (!r) r = check_options(c, mode, mode[0]);
    if (!r && argc < 1)
        r = mm_fail(&c->err, MM_EARG, o.merge ? "the files to merge are missing" : "the name of an index is missing");
    if (!r && argc > 1 && strchr("glivc", mode[0])) r = mm_fail(&c->err, MM_EARG, "unexpected operand '%s'", argv[1]);
    if (!r && !s.rec) r = no_memory(&s);
    if (!r) {
        s.dir = argv[0];
        if (o.merge) r = merge(&s, argc, argv);
        else if (o.add || o.del) r = change(&s, argc - 1, argv + 1);
        else if (o.get || o.list) r = show(&s);
        else if (o.info) r = info(&s);
        else if (o.verify) r = verify(&s);
        else if (o.compact) r = compact(&s);
        else r = search(&s, argc - 1, argv + 1);
    }
    int closed = mm_index_close(&s.ix, r ? NULL : &c->err);
    free(s.skip);
    mm_rec_free(s.rec);
    mm_buf_clear(&s.doc);
    return r ? r : closed;
}

static const char *const usage[] = { "[-k N] [-w CONDITION] [option ...] INDEX [file ...]",
                                     "--add [option ...] INDEX [file ...]",
                                     "--delete [option ...] INDEX [file ...]",
                                     "--get ID | --list | --info | --verify | --compact INDEX",
                                     "--merge [-k N] file ...",
                                     NULL };
static const mm_cmd cmd = { "mm-retrieve", "keep vectors in an index and find the nearest", usage, opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

/* mm-eval - measures vectors: do queries find what belongs to them, is the nearest label the right one, does the cosine agree with people. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/io.h"
#include "eval/mm_eval.h"

#define MAX_METRICS 16
enum { AUTO, WILSON, BOOTSTRAP };

static struct {
    const char *recall, *ndcg, *labels, *key, *gallery_key, *except, *group, *task, *per_query, *against, *out;
    int mrr, spearman, pearson, any_model, prometheus, interval;
    int64_t dim, resamples, seed;
    double at_least;
    mm_io io;
} o = { .resamples = 1000 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("What to measure"),
    MM_OPT_STR(0, "recall", &o.recall, "K,...", "share of the queries with a relevant item among the K nearest of GALLERY"),
    MM_OPT_BOOL(0, "mrr", &o.mrr, "mean of 1 / rank of the first relevant item"),
    MM_OPT_STR(0, "ndcg", &o.ndcg, "K,...", "discounted gain of all relevant items among the first K, over the best possible"),
    MM_OPT_STR(0, "labels", &o.labels, "FILE", "share of the records whose nearest label of FILE is theirs; with --recall among the K nearest"),
    MM_OPT_BOOL(0, "spearman", &o.spearman, "rank correlation of the cosine of pairs with the score of --key"),
    MM_OPT_BOOL(0, "pearson", &o.pearson, "linear correlation likewise"),
    MM_OPT_GROUP("What belongs together"),
    MM_OPT_STR('k', "key", &o.key, "KEY", "key of the queries that joins them to the gallery (a value or an array of them), or holds the score"),
    MM_OPT_STR(0, "gallery-key", &o.gallery_key, "KEY", "key of the gallery's records, where it has another name there"),
    MM_OPT_STR(0, "except", &o.except, "KEY", "leave out gallery items whose KEY is the query's: a stream against itself, by id"),
    MM_OPT_INT(0, "dim", &o.dim, "N", 1, 1 << 30, "use the first N numbers of each vector"),
    MM_OPT_BOOL(0, "any-model", &o.any_model, "compare vectors of different models"),
    MM_OPT_GROUP("How sure"),
    MM_OPT_ENUM(0, "interval", &o.interval, "auto|wilson|bootstrap", "how 95 % intervals are made (default: Wilson's for shares, else bootstrap)"),
    MM_OPT_STR(0, "group", &o.group, "KEY", "records with the same KEY are no independent observations: resample them together"),
    MM_OPT_INT(0, "resamples", &o.resamples, "N", 10, 10000000, "resamples of the bootstrap (default 1000)"),
    MM_OPT_INT(0, "seed", &o.seed, "N", 0, 9e18, "of the bootstrap (default 0)"),
    MM_OPT_GROUP("Comparing runs"),
    MM_OPT_STR(0, "per-query", &o.per_query, "FILE", "write what every query measured, for a later --against"),
    MM_OPT_STR(0, "against", &o.against, "FILE", "add the difference to that run, by query; exit status 1 where this one is worse for certain"),
    MM_OPT_NUM(0, "at-least", &o.at_least, "X", -1, 1, "exit status 1 when a value is below X"),
    MM_OPT_GROUP("Output"),
    MM_OPT_STR(0, "task", &o.task, "NAME", "name the measurement in what is written"),
    MM_OPT_BOOL(0, "prometheus", &o.prometheus, "write Prometheus text instead of JSON lines"),
    MM_OPT_STR('o', "output", &o.out, "FILE", "write FILE, which appears when all is written"),
    MM_OPTS_IN(o.io),
    MM_OPT_END
};

/* One of the two sides: queries (records, first of the pairs) or gallery (labels, second of the pairs). */
typedef struct side {
    const char *what, *key;
    float *vec;
    size_t n, cap, dim, key_cap, *off;
    uint32_t *key_of, *self, *group;
    double *gold;
    uint32_t *id;  /* number of the query's id */
    mm_buf ids;    /* ids of the queries as JSON, a line each: their own, or "#ROW" */
    char *failed;  /* pairs keep their places */
    uint64_t missing; /* records that failed */
} side;

typedef struct metric {
    char name[32];
    mm_eval_metric m;
    int corr; /* MM_EVAL_PEARSON, MM_EVAL_SPEARMAN, or -1 */
} metric;

typedef struct state {
    mm_ctx *c;
    mm_rec *rec;
    side q, g;
    mm_eval_keys *keys, *groups, *selfs, *ids;
    mm_buf text, model, out;
    metric metric[MAX_METRICS];
    size_t nm;
    int by_score;    /* pairs and scores, not queries and gallery */
    double *value;   /* [nm, q.n]; pairs: the cosine [q.n] */
    double *other;   /* the same of --against, NaN where it has none */
    double *chance;  /* [nm] */
    int no;          /* the answer is no */
} state;

static int no_memory(state *s) { return mm_fail(&s->c->err, MM_ENOMEM, "out of memory"); }

/* ---- options ---- */

static int add_metric(state *s, int kind, int corr, size_t k, const char *fmt)
{
    if (s->nm == MAX_METRICS) return mm_fail(&s->c->err, MM_EARG, "more than %d measures at once", MAX_METRICS);
    metric *m = &s->metric[s->nm++];
    *m = (metric){ .m = { kind, k }, .corr = corr };
    snprintf(m->name, sizeof m->name, "%s%.0zu", fmt, k);
    return 0;
}

static int add_list(state *s, int kind, const char *option, const char *list, const char *fmt)
{
    for (const char *p = list; ; p++) {
        char one[24];
        int64_t k;
        size_t n = strcspn(p, ",");
        snprintf(one, sizeof one, "%.*s", n < sizeof one ? (int)n : 0, p);
        if (mm_parse_int(one, 1, 1 << 30, &k))
            return mm_fail(&s->c->err, MM_EARG, "option '--%s': '%s' should be integers of at least 1, as 1,10", option, list);
        int r = add_metric(s, kind, -1, (size_t)k, fmt);
        if (r) return r;
        p += n;
        if (!*p) return 0;
    }
}

static int choose(state *s, int argc)
{
    mm_ctx *c = s->c;
    static const char *const of_gallery[] = { "recall", "mrr", "ndcg", "labels", "gallery-key", "except" };
    int r = 0;
    for (size_t i = 0; !r && i < sizeof of_gallery / sizeof *of_gallery; i++)
        if (!(r = mm_opt_exclusive(c, "spearman", of_gallery[i], NULL))) r = mm_opt_exclusive(c, "pearson", of_gallery[i], NULL);
    s->by_score = o.spearman || o.pearson;
    if (!r && o.recall) r = add_list(s, MM_EVAL_RECALL, "recall", o.recall, o.labels ? "top-" : "R@");
    else if (!r && o.labels) r = add_metric(s, MM_EVAL_RECALL, -1, 1, "top-");
    if (!r && o.mrr) r = add_metric(s, MM_EVAL_MRR, -1, 0, "MRR");
    if (!r && o.ndcg) r = add_list(s, MM_EVAL_NDCG, "ndcg", o.ndcg, "nDCG@");
    if (!r && o.spearman) r = add_metric(s, 0, MM_EVAL_SPEARMAN, 0, "Spearman");
    if (!r && o.pearson) r = add_metric(s, 0, MM_EVAL_PEARSON, 0, "Pearson");
    if (r) return r;
    if (!s->nm) return mm_fail(&c->err, MM_EARG, "nothing to measure: give one of --recall, --mrr, --ndcg, --labels, --spearman, --pearson");
    if (!o.key) return mm_fail(&c->err, MM_EARG, "option '--key' is needed: which key joins the two sides, or holds the score");
    if (!o.labels && !argc) return mm_fail(&c->err, MM_EARG, s->by_score ? "no operand: the stream of the second vectors" : "no GALLERY");
    for (size_t i = 0; o.interval == WILSON && i < s->nm; i++)
        if (s->metric[i].corr >= 0 || s->metric[i].m.kind != MM_EVAL_RECALL)
            return mm_fail(&c->err, MM_EARG, "Wilson's interval is for shares, and %s is none", s->metric[i].name);
    if (o.interval == WILSON && o.group) return mm_fail(&c->err, MM_EARG, "options '--interval wilson' and '--group' cannot be used together");
    return 0;
}

/* ---- reading ---- */

/* A value as bytes: strings decoded, numbers and true, false as they stand. 1, 0: null, or its failure. */
static int scalar(state *s, mm_rec *rec, const char *key, mm_slice raw, mm_slice *out)
{
    mm_err e = { 0 };
    if (raw.p[0] == 'n') return 0;
    if (raw.p[0] == '[' || raw.p[0] == '{') return mm_rec_fail(rec, MM_EDATA, "key \"%s\" should be a string or a number", key);
    *out = raw;
    if (raw.p[0] != '"') return 1;
    mm_buf_reset(&s->text);
    int r = mm_json_unescape(&s->text, raw, &e);
    if (r) return mm_rec_fail(rec, r, "key \"%s\": %s", key, e.msg);
    *out = (mm_slice){ s->text.p ? s->text.p : "", s->text.len };
    return 1;
}

static int add_key(state *s, side *d, mm_rec *rec, const char *key, mm_slice raw)
{
    mm_slice v;
    int r = scalar(s, rec, key, raw, &v);
    if (r <= 0) return r;
    if (d->off[d->n + 1] == d->key_cap) {
        size_t cap = d->key_cap ? 2 * d->key_cap : 256;
        uint32_t *k = mm_realloc(d->key_of, cap, sizeof *k);
        if (!k) return MM_ENOMEM;
        d->key_of = k;
        d->key_cap = cap;
    }
    r = mm_eval_keys_add(s->keys, v.p, v.len, &d->key_of[d->off[d->n + 1]]);
    d->off[d->n + 1] += !r;
    return r;
}

/* The keys that join. null and [] are none: such an item of the gallery belongs to no query. */
static int find_keys(state *s, side *d, mm_rec *rec)
{
    mm_slice raw, name, v;
    mm_json_iter it;
    mm_err e = { 0 };
    int r = 0;
    if (!mm_rec_get(rec, d->key, &raw)) return mm_rec_fail(rec, MM_EDATA, "no key \"%s\"", d->key);
    if (raw.p[0] != '[') r = add_key(s, d, rec, d->key, raw);
    else if (!(r = mm_json_begin(&it, raw.p, raw.len, &e)))
        while ((r = mm_json_next(&it, &name, &v, &e)) > 0)
            if ((r = add_key(s, d, rec, d->key, v)) < 0) break;
    return r < 0 ? r : 0;
}

/* A number for the value of another key. An item of the gallery may go without: it gets a number that no query has. */
static int number(state *s, mm_rec *rec, mm_eval_keys *keys, const char *key, int query, uint32_t *out)
{
    mm_slice raw, v;
    int r = mm_rec_get(rec, key, &raw) ? scalar(s, rec, key, raw, &v) : 0;
    if (r > 0) return mm_eval_keys_add(keys, v.p, v.len, out);
    if (!r && query) return mm_rec_fail(rec, MM_EDATA, "no key \"%s\"", key);
    return r ? r : mm_eval_keys_add(keys, "\0none", 5, out);
}

/* What --per-query and --against tell queries by: the id, or the place in the stream. */
static int number_id(state *s, side *d, mm_rec *rec, uint64_t row)
{
    mm_slice raw, v;
    char place[32];
    int r = mm_rec_get(rec, "id", &raw) ? scalar(s, rec, "id", raw, &v) : 0;
    if (r < 0) return r;
    if (!r) {
        raw = (mm_slice){ place, (size_t)snprintf(place, sizeof place, "\"#%llu\"", (unsigned long long)row) };
        v = (mm_slice){ place + 1, raw.len - 2 };
    }
    mm_buf_add(&d->ids, raw.p, raw.len);
    return mm_buf_addc(&d->ids, '\n') ? MM_ENOMEM : mm_eval_keys_add(s->ids, v.p, v.len, &d->id[d->n]);
}

static int find_score(side *d, mm_rec *rec)
{
    mm_slice raw;
    if (!mm_rec_get(rec, d->key, &raw)) return mm_rec_fail(rec, MM_EDATA, "no key \"%s\"", d->key);
    if (mm_parse_double(raw.p, raw.len, &d->gold[d->n]) != raw.len || !isfinite(d->gold[d->n]))
        return mm_rec_fail(rec, MM_EDATA, "key \"%s\" should be a number", d->key);
    return 0;
}

static const char *hash_of(const char *model)
{
    const char *at = strrchr(model, '@');
    return at ? at + 1 : model;
}

/* Cosines of vectors of two models mean nothing. 0, or the error that ends the run. */
static int check_model(state *s, mm_rec *rec)
{
    mm_slice m;
    mm_err e = { 0 };
    char now[256];
    if (o.any_model || mm_rec_str(rec, "model", &m, &e) <= 0) return 0;
    if (!s->model.len) return mm_buf_add(&s->model, m.p, m.len) ? no_memory(s) : 0;
    snprintf(now, sizeof now, "%.*s", m.len < sizeof now ? (int)m.len : (int)sizeof now - 1, m.p);
    if (!strcmp(hash_of(now), hash_of(s->model.p))) return 0;
    return mm_fail(&s->c->err, MM_EMODEL, "%s has a vector of model '%s', those before are of '%s' (--any-model compares them all the same)",
                   mm_rec_place(rec), now, s->model.p);
}

static int room(state *s, side *d)
{
    if (d->n + 1 < d->cap) return 0;
    size_t cap = d->cap ? 2 * d->cap : 256;
    float *vec = d->dim ? mm_realloc(d->vec, cap, d->dim * sizeof *vec) : NULL;
    if (vec) d->vec = vec;
    size_t *off = mm_realloc(d->off, cap + 1, sizeof *off);
    if (off) d->off = off;
    uint32_t *self = mm_realloc(d->self, cap, sizeof *self);
    if (self) d->self = self;
    uint32_t *group = mm_realloc(d->group, cap, sizeof *group);
    if (group) d->group = group;
    uint32_t *id = mm_realloc(d->id, cap, sizeof *id);
    if (id) d->id = id;
    double *gold = mm_realloc(d->gold, cap, sizeof *gold);
    if (gold) d->gold = gold;
    char *failed = mm_realloc(d->failed, cap, 1);
    if (failed) d->failed = failed;
    if ((d->dim && !vec) || !off || !self || !group || !id || !gold || !failed) return no_memory(s);
    if (!d->cap) d->off[0] = 0;
    d->cap = cap;
    return 0;
}

static int take_vec(state *s, side *d, mm_rec *rec)
{
    const float *v;
    size_t dim;
    mm_err e = { 0 };
    int r = mm_rec_vec(rec, &v, &dim, &e);
    if (r <= 0) return mm_rec_fail(rec, r ? r : MM_EDATA, "%s", r ? e.msg : "no key \"embedding\"");
    if (o.dim && dim < (size_t)o.dim) return mm_rec_fail(rec, MM_ESHAPE, "a vector of %zu numbers has no first %lld", dim, (long long)o.dim);
    if (o.dim) dim = (size_t)o.dim;
    if (!d->dim) {
        d->dim = dim;
        if (!(d->vec = mm_realloc(NULL, d->cap, dim * sizeof *d->vec))) return no_memory(s);
        memset(d->vec, 0, d->n * dim * sizeof *d->vec); /* pairs that failed before */
    } else if (dim != d->dim) {
        return mm_rec_fail(rec, MM_ESHAPE, "a vector of %zu numbers among such of %zu", dim, d->dim);
    }
    memcpy(d->vec + d->n * dim, v, dim * sizeof *v);
    return 0;
}

/* One record into its side. A failed one counts and is told; among pairs it keeps its place. */
static int take(state *s, side *d, mm_rec *rec, mm_io *io)
{
    int query = d == &s->q, r = room(s, d);
    if (r) return r;
    d->off[d->n + 1] = d->off[d->n];
    d->self[d->n] = d->group[d->n] = d->id[d->n] = 0;
    d->gold[d->n] = 0;
    if (!mm_rec_failed(rec) && (r = check_model(s, rec))) return r;
    if (!mm_rec_failed(rec)) r = take_vec(s, d, rec);
    if (!mm_rec_failed(rec) && !r && !s->by_score) r = find_keys(s, d, rec);
    if (!mm_rec_failed(rec) && !r && s->by_score && query) r = find_score(d, rec);
    if (!mm_rec_failed(rec) && !r && o.except) r = number(s, rec, s->selfs, o.except, query, &d->self[d->n]);
    if (!mm_rec_failed(rec) && !r && o.group && query) r = number(s, rec, s->groups, o.group, 1, &d->group[d->n]);
    if (!mm_rec_failed(rec) && !r && query) r = number_id(s, d, rec, io->seen);
    if (r && !mm_rec_failed(rec)) return no_memory(s);
    d->failed[d->n] = mm_rec_failed(rec) != 0;
    if (d->failed[d->n]) {
        d->missing++;
        if ((r = mm_io_count(io, rec))) return r;
        if (!s->by_score) return 0;
        if (d->dim) memset(d->vec + d->n * d->dim, 0, d->dim * sizeof *d->vec);
        if (mm_buf_addc(&d->ids, '\n')) return no_memory(s);
    }
    d->n++;
    return 0;
}

static int read_side(state *s, side *d, mm_io *io, int argc, char **argv)
{
    int more = 0, r = mm_io_open_in(io, s->c, argc, argv);
    if (r) return r;
    mm_progress bar;
    mm_progress_start(&bar, s->c, d->what, 0);
    while (!r && (more = mm_io_next(io, s->rec)) > 0) {
        r = take(s, d, s->rec, io);
        mm_progress_tick(&bar, io->seen);
    }
    mm_progress_end(&bar);
    if (r < 0 && !s->c->err.code) r = no_memory(s);
    r = mm_io_close(io, r ? r : more < 0 ? more : 0);
    if (r == 1) s->no = 1;
    return r < 0 ? r : 0;
}

/* ---- measuring ---- */

static int retrieve(state *s)
{
    mm_eval_set q = { s->q.vec, s->q.n, s->q.dim, s->q.key_of, s->q.off, o.except ? s->q.self : NULL };
    mm_eval_set g = { s->g.vec, s->g.n, s->g.dim, s->g.key_of, s->g.off, o.except ? s->g.self : NULL };
    mm_eval_metric m[MAX_METRICS];
    for (size_t i = 0; i < s->nm; i++) m[i] = s->metric[i].m;
    int r = mm_eval_retrieve(&q, &g, m, s->nm, (int)s->c->threads, s->value, s->chance, &s->c->err);
    size_t lost = 0;
    for (size_t i = 0; !r && i < s->q.n; i++) lost += isnan(s->value[i]);
    if (lost) {
        mm_error(s->c, "%zu of %zu %s have no relevant item in the gallery and are not counted", lost, s->q.n, s->q.what);
        s->q.missing += lost;
        s->no = 1;
    }
    return r;
}

static int correlate(state *s)
{
    if (s->q.n != s->g.n)
        return mm_fail(&s->c->err, MM_ESHAPE, "the streams are no pairs: %zu first and %zu second vectors", s->q.n, s->g.n);
    if (!s->q.dim || !s->g.dim) return mm_fail(&s->c->err, MM_EEMPTY, "nothing to measure: all %s failed", s->q.dim ? s->g.what : s->q.what);
    if (s->q.dim != s->g.dim) return mm_fail(&s->c->err, MM_ESHAPE, "first vectors have %zu dimensions, second %zu", s->q.dim, s->g.dim);
    mm_eval_cosines(s->q.vec, s->g.vec, s->q.n, s->q.dim, s->value);
    s->q.missing = 0;
    for (size_t i = 0; i < s->q.n; i++) {
        if (!s->q.failed[i] && !s->g.failed[i]) continue;
        s->value[i] = NAN;
        s->q.missing++;
    }
    return 0;
}

/* What an earlier run said of the same queries: records {"id":..,"R@1":..}, as write_each() writes them. */
static int match(state *s, const size_t *of, size_t *common)
{
    mm_slice raw, v;
    uint32_t id;
    if (mm_rec_failed(s->rec) || !mm_rec_get(s->rec, "id", &raw) || scalar(s, s->rec, "id", raw, &v) <= 0) return 0;
    if (!mm_eval_keys_find(s->ids, v.p, v.len, &id) || !of[id]) return 0;
    ++*common;
    for (size_t k = 0; k < (s->by_score ? 1 : s->nm); k++) {
        const char *name = s->by_score ? "cosine" : s->metric[k].name;
        double x;
        if (!mm_rec_get(s->rec, name, &raw))
            return mm_fail(&s->c->err, MM_EDATA, "%s has no \"%s\": it is of another measurement", mm_rec_place(s->rec), name);
        if (mm_parse_double(raw.p, raw.len, &x) == raw.len) s->other[k * s->q.n + of[id] - 1] = x;
    }
    return 0;
}

static int read_against(state *s)
{
    mm_reader *rd;
    size_t n = mm_eval_keys_count(s->ids), common = 0, columns = s->by_score ? 1 : s->nm, *of = calloc(n + 1, sizeof *of);
    s->other = mm_realloc(NULL, columns * s->q.n, sizeof *s->other);
    int more = 0, r = of && s->other ? mm_reader_open(&rd, NULL, (char *const *)&o.against, 1, &s->c->err) : no_memory(s);
    if (r) return free(of), r;
    for (size_t i = 0; i < columns * s->q.n; i++) s->other[i] = NAN;
    for (size_t i = 0; !r && i < s->q.n; i++) {
        size_t *at = &of[s->q.id[i]];
        if (s->q.failed[i]) continue;
        if (*at) r = mm_fail(&s->c->err, MM_EDATA, "two of the %s have the same id: --against cannot tell them apart", s->q.what);
        *at = i + 1;
    }
    while (!r && (more = mm_reader_next(rd, s->rec, &s->c->err)) > 0) r = match(s, of, &common);
    if (!r && more < 0) r = more;
    if (!r && !common) r = mm_fail(&s->c->err, MM_EDATA, "'%s' has none of these %s", o.against, s->q.what);
    if (!r && common < s->q.n) mm_warn(s->c, "'%s' has %zu of %zu %s: these are compared", o.against, common, s->q.n, s->q.what);
    free(of);
    mm_reader_close(&rd);
    return r;
}

static int write_each(state *s)
{
    mm_writer *wr;
    int r = mm_writer_open(&wr, &(mm_writer_opts){ .path = strcmp(o.per_query, "-") ? o.per_query : NULL }, &s->c->err);
    const char *p = s->q.ids.p;
    for (size_t i = 0; !r && i < s->q.n; i++) {
        mm_rec_reset(s->rec);
        size_t len = strcspn(p, "\n");
        if (len) r = mm_rec_set(s->rec, "id", p, len);
        p += len + 1;
        for (size_t k = 0; !r && k < (s->by_score ? 1 : s->nm); k++)
            r = mm_rec_set_num(s->rec, s->by_score ? "cosine" : s->metric[k].name, s->value[k * s->q.n + i]);
        if (!r && s->by_score) r = mm_rec_set_num(s->rec, o.key, s->q.gold[i]);
        if (r) r = no_memory(s);
        else r = mm_writer_put(wr, s->rec, &s->c->err);
    }
    if (!r) r = mm_writer_finish(wr, &s->c->err);
    mm_writer_close(&wr);
    return r;
}

/* ---- what is said ---- */

static int interval(state *s, size_t k, mm_eval_interval *iv)
{
    const metric *m = &s->metric[k];
    mm_eval_boot b = { (size_t)o.resamples, (uint64_t)o.seed, o.group ? s->q.group : NULL };
    if (m->corr >= 0) return mm_eval_corr(m->corr, s->value, s->q.gold, s->q.n, &b, iv, &s->c->err);
    int r = mm_eval_mean(s->value + k * s->q.n, s->q.n, &b, iv, &s->c->err);
    if (r || m->m.kind != MM_EVAL_RECALL || o.interval == BOOTSTRAP) return r;
    /* where all or none are right the bootstrap knows no doubt; then each group counts as one observation */
    if (!o.group || iv->value <= 0 || iv->value >= 1) mm_eval_wilson(iv->value, (double)iv->groups, &iv->low, &iv->high);
    return 0;
}

static int difference(state *s, size_t k, mm_eval_interval *iv)
{
    const metric *m = &s->metric[k];
    mm_eval_boot b = { (size_t)o.resamples, (uint64_t)o.seed, o.group ? s->q.group : NULL };
    if (m->corr >= 0) return mm_eval_corr_diff(m->corr, s->value, s->other, s->q.gold, s->q.n, &b, iv, &s->c->err);
    return mm_eval_mean_diff(s->value + k * s->q.n, s->other + k * s->q.n, s->q.n, &b, iv, &s->c->err);
}

static void say_json(state *s, const metric *m, const mm_eval_interval *iv, double chance, const mm_eval_interval *diff)
{
    mm_buf *b = &s->out;
    mm_buf_addc(b, '{');
    if (o.task) {
        mm_buf_adds(b, "\"task\":");
        mm_json_quote(b, o.task, strlen(o.task));
        mm_buf_addc(b, ',');
    }
    mm_buf_addf(b, "\"metric\":\"%s\",\"value\":%.6g,\"low\":%.6g,\"high\":%.6g,\"n\":%zu", m->name, iv->value, iv->low, iv->high, iv->n);
    if (o.group) mm_buf_addf(b, ",\"groups\":%zu", iv->groups);
    if (!s->by_score) mm_buf_addf(b, ",\"gallery\":%zu", s->g.n);
    mm_buf_addf(b, ",\"chance\":%.6g", chance);
    if (s->q.missing) mm_buf_addf(b, ",\"failed\":%llu", (unsigned long long)s->q.missing);
    if (o.dim) mm_buf_addf(b, ",\"dim\":%lld", (long long)o.dim);
    if (s->model.len) {
        mm_buf_adds(b, ",\"model\":");
        mm_json_quote(b, s->model.p, s->model.len);
    }
    if (diff) mm_buf_addf(b, ",\"against\":{\"difference\":%.6g,\"low\":%.6g,\"high\":%.6g,\"n\":%zu}", diff->value, diff->low, diff->high, diff->n);
    mm_buf_adds(b, "}\n");
}

/* One family of samples: name, what it is, its value for each metric. */
static void say_family(state *s, const char *name, const char *help, const double *v)
{
    mm_buf *b = &s->out;
    mm_buf_addf(b, "# HELP mm_eval_%s %s\n# TYPE mm_eval_%s gauge\n", name, help, name);
    for (size_t k = 0; k < s->nm; k++) {
        mm_buf_addf(b, "mm_eval_%s{metric=\"%s\"", name, s->metric[k].name);
        if (o.task) mm_buf_adds(b, ",task=\"");
        for (const char *p = o.task; p && *p; p++) {
            if (*p == '\\' || *p == '"') mm_buf_addc(b, '\\');
            if (*p == '\n') mm_buf_adds(b, "\\n");
            else mm_buf_addc(b, *p);
        }
        mm_buf_addf(b, "%s} %.6g\n", o.task ? "\"" : "", v[k]);
    }
}

static int say(state *s)
{
    double column[8][MAX_METRICS];
    int r = 0;
    for (size_t k = 0; !r && k < s->nm; k++) {
        mm_eval_interval iv, diff;
        r = interval(s, k, &iv);
        if (!r && o.against) r = difference(s, k, &diff);
        if (r) break;
        if (mm_opt_given(s->c, "at-least") && iv.value < o.at_least) s->no = 1;
        if (o.against && diff.high < 0) s->no = 1;
        double chance = s->by_score ? 0 : s->chance[k];
        const double all[] = { iv.value, iv.low, iv.high, chance, (double)iv.n, (double)s->q.missing, o.against ? diff.value : 0 };
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) column[i][k] = all[i];
        if (!o.prometheus) say_json(s, &s->metric[k], &iv, chance, o.against ? &diff : NULL);
    }
    if (r) return r;
    if (o.prometheus) {
        say_family(s, "value", "What was measured.", column[0]);
        say_family(s, "low", "Lower end of its 95 % interval.", column[1]);
        say_family(s, "high", "Upper end of its 95 % interval.", column[2]);
        say_family(s, "chance", "What random vectors would measure.", column[3]);
        say_family(s, "observations", "Queries or pairs that counted.", column[4]);
        say_family(s, "failed", "Queries or pairs that could not be measured.", column[5]);
        if (o.against) say_family(s, "difference", "Difference to an earlier run.", column[6]);
    }
    if (s->out.failed) return no_memory(s);
    if (!o.out || !strcmp(o.out, "-")) return fwrite(s->out.p, 1, s->out.len, stdout), 0; /* checked when it is closed */
    mm_outfile f;
    if ((r = mm_outfile_open(&f, o.out, &s->c->err))) return r;
    r = mm_outfile_write(&f, s->out.p, s->out.len, &s->c->err);
    if (!r) return mm_outfile_commit(&f, &s->c->err);
    mm_outfile_abort(&f);
    return r;
}

static void side_clear(side *d)
{
    free(d->vec);
    free(d->off);
    free(d->key_of);
    free(d->self);
    free(d->group);
    free(d->gold);
    free(d->id);
    free(d->failed);
    mm_buf_clear(&d->ids);
}

static int measure(state *s, int argc, char **argv)
{
    mm_io io = o.io;
    char *labels = (char *)o.labels; /* read as an operand would be */
    if (!(s->rec = mm_rec_new()) || !(s->keys = mm_eval_keys_new()) || !(s->groups = mm_eval_keys_new()) || !(s->selfs = mm_eval_keys_new()) ||
        !(s->ids = mm_eval_keys_new()))
        return no_memory(s);
    int r = read_side(s, &s->g, &io, 1, o.labels ? &labels : argv);
    if (!r) r = read_side(s, &s->q, &o.io, o.labels ? argc : argc - 1, o.labels ? argv : argv + 1);
    if (!r && !s->q.n) r = mm_fail(&s->c->err, MM_EEMPTY, "nothing to measure: no %s", s->q.what);
    if (!r && !s->g.n) r = mm_fail(&s->c->err, MM_EEMPTY, "nothing to measure: no %s", s->g.what);
    if (r) return r;
    s->value = mm_realloc(NULL, s->nm * s->q.n, sizeof *s->value);
    s->chance = mm_realloc(NULL, s->nm, sizeof *s->chance);
    if (!s->value || !s->chance) return no_memory(s);
    r = s->by_score ? correlate(s) : retrieve(s);
    if (!r && o.against) r = read_against(s);
    if (!r && o.per_query) r = write_each(s);
    return r ? r : say(s);
}

static int run(mm_ctx *c, int argc, char **argv)
{
    static state all;
    state *s = &all;
    s->c = c;
    int r = choose(s, argc);
    if (!r) r = mm_io_spare(c, "output", o.out, argc, argv);
    if (!r) r = mm_io_spare(c, "per-query", o.per_query, argc, argv);
    if (r) return r;
    s->q = (side){ .what = s->by_score ? "pairs" : o.labels ? "records" : "queries", .key = o.key };
    s->g = (side){ .what = s->by_score ? "second vectors" : o.labels ? "labels" : "items of the gallery", .key = o.gallery_key ? o.gallery_key : o.key };
    r = measure(s, argc, argv);
    side_clear(&s->q);
    side_clear(&s->g);
    mm_eval_keys_free(s->keys);
    mm_eval_keys_free(s->groups);
    mm_eval_keys_free(s->selfs);
    mm_eval_keys_free(s->ids);
    mm_rec_free(s->rec);
    mm_buf_clear(&s->text);
    mm_buf_clear(&s->model);
    mm_buf_clear(&s->out);
    free(s->value);
    free(s->other);
    free(s->chance);
    return r ? r : s->no;
}

static const char *const usage[] = { "--recall K,... --key KEY [option ...] GALLERY [queries ...]",
                                     "--labels FILE --key KEY [option ...] [records ...]",
                                     "--spearman --key KEY [option ...] SECOND [first ...]", NULL };
static const mm_cmd cmd = { "mm-eval", "measure vectors: retrieval, labels, agreement with scores", usage, opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

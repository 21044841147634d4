/* Adding and deleting records of an index. */
#include <stdlib.h>
#include "base/mm_base.h"
#include "cmd/retrieve.h"

int mm_retrieve_no_memory(mm_retrieve *s) { return mm_fail(&s->c->err, MM_ENOMEM, "out of memory"); }

/* The part of "name@hash" that counts: two names of one model are the same model. */
static const char *hash_of(const char *model)
{
    const char *at = strrchr(model, '@');
    return at ? at + 1 : model;
}

int mm_retrieve_check_model(mm_retrieve *s, mm_rec *rec, char **model)
{
    mm_slice m;
    mm_err err = { 0 };
    *model = NULL;
    int r = mm_rec_str(rec, "model", &m, &err);
    if (r <= 0) return r < 0 ? mm_rec_fail(rec, r, "%s", err.msg), 0 : 0;
    if (!(*model = strndup(m.p, m.len))) return mm_retrieve_no_memory(s);
    const char *own = mm_index_model(s->ix);
    if (!own[0] || s->o->any_model || !strcmp(hash_of(own), hash_of(*model))) return 0;
    r = mm_fail(&s->c->err, MM_EMODEL,
                "index '%s' holds vectors of model '%s', %s has one of '%s' (--any-model takes it all the same)",
                s->dir, own, mm_rec_place(rec), *model);
    free(*model);
    *model = NULL;
    return r;
}

/* Everything of a record but its vector, and its id and model where the index has them: what hits will show. An id
 * that is a number comes first, to be shown as it was. */
static int payload(mm_retrieve *s, mm_rec *rec, const char *model)
{
    mm_slice key, raw;
    mm_buf *b = &s->doc;
    const char *own = mm_index_model(s->ix);
    mm_buf_reset(b);
    mm_buf_addc(b, '{');
    if (mm_rec_get(rec, "id", &raw) && raw.p[0] != '"' && raw.p[0] != 'n') {
        mm_buf_adds(b, "\"id\":");
        mm_buf_add(b, raw.p, raw.len);
    }
    for (size_t i = 0; i < mm_rec_count(rec); i++) {
        mm_rec_member(rec, i, &key, &raw);
        if (mm_slice_is(key, "embedding") || mm_slice_is(key, "id") ||
            (mm_slice_is(key, "model") && (!own[0] || (model && !strcmp(own, model)))))
            continue;
        if (b->len > 1) mm_buf_addc(b, ',');
        mm_json_quote(b, key.p, key.len);
        mm_buf_addc(b, ':');
        mm_buf_add(b, raw.p, raw.len);
    }
    mm_buf_addc(b, '}');
    return b->failed ? mm_retrieve_no_memory(s) : 0;
}

/* A record's id as bytes: a string decoded, a number as it stands. Without one: "#" and its number among all ever
 * added. */
static int record_id(mm_retrieve *s, mm_rec *rec, mm_buf *id)
{
    mm_slice own;
    mm_err err = { 0 };
    const int r = mm_rec_id(rec, &own, &err);
    mm_buf_reset(id);
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
    if (r > 0) {
        mm_buf_add(id, own.p, own.len);
    } else {
        mm_index_info info;
        mm_index_get_info(s->ix, &info);
        uint64_t row, n = info.added + 1;
        do {
            mm_buf_reset(id);
            mm_buf_addf(id, "#%llu", (unsigned long long)n++);
        } while (!id->failed && mm_index_find(s->ix, id->p, id->len, &row));
    }
    return id->failed ? mm_retrieve_no_memory(s) : 0;
}

static int add_one(mm_retrieve *s, mm_buf *id)
{
    const float *v;
    size_t dim;
    char *model;
    mm_err err = { 0 };
    mm_index_info info;
    mm_rec *rec = s->rec;
    if (mm_rec_failed(rec)) return 0;
    int r = mm_retrieve_check_model(s, rec, &model);
    if (r || mm_rec_failed(rec)) return r;
    mm_index_get_info(s->ix, &info);
    if ((r = mm_rec_vec(rec, &v, &dim, &err)) <= 0) {
        mm_rec_fail(rec, r ? r : MM_EDATA, "%s", r ? err.msg : "no key \"embedding\" (mm-embed makes it)");
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

static int delete_one(mm_retrieve *s, mm_buf *id)
{
    mm_rec *rec = s->rec;
    mm_err err = { 0 };
    if (mm_rec_failed(rec)) return 0;
    mm_slice own;
    int r = mm_rec_id(rec, &own, &err); /* of a plain line: the line */
    if (r <= 0) return mm_rec_fail(rec, MM_EDATA, "%s", r ? err.msg : "no key \"id\""), 0;
    mm_buf_reset(id);
    if (mm_buf_add(id, own.p, own.len)) return mm_retrieve_no_memory(s);
    r = mm_index_delete(s->ix, id->p ? id->p : "", id->len, &err);
    if (r == 0)
        mm_rec_fail(rec, MM_EDATA, "there is no record '%.*s'", (int)(id->len < 200 ? id->len : 200),
                    id->p ? id->p : "");
    return r < 0 ? mm_fail(&s->c->err, r, "%s", err.msg) : 0;
}

int mm_retrieve_must_exist(mm_retrieve *s)
{
    mm_index *ix;
    int r = mm_index_open(&ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    return r ? r : mm_index_close(&ix, &s->c->err);
}

static int acknowledge(mm_retrieve *s, uint64_t done)
{
    int r = mm_index_sync(s->ix, &s->c->err);
    if (r || !s->o->ack) return r;
    printf("%llu\n", (unsigned long long)done);
    return fflush(stdout) ? mm_fail_errno(&s->c->err, "write failed on <stdout>") : 0;
}

/* The type is chosen when the index is made. */
static int check_type(mm_retrieve *s)
{
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    if (!mm_opt_given(s->c, "type") || (int)info.type == s->o->type) return 0;
    return mm_fail(&s->c->err, MM_EARG, "index '%s' exists and is of another type (see --info)", s->dir);
}

/* --add and --delete: records in, nothing out. What came in is made safe whenever the input pauses and every few
 * thousand. */
int mm_retrieve_change(mm_retrieve *s, int argc, char **argv)
{
    mm_index_opts io = { (mm_index_type)s->o->type, s->o->wait };
    mm_buf id = { 0 };
    mm_progress bar;
    uint64_t done = 0, unsafe = 0, batch = s->o->batch ? (uint64_t)s->o->batch : 4096;
    int r = s->o->del ? mm_retrieve_must_exist(s) : 0, more = 0;
    if (!r) r = mm_index_open(&s->ix, s->dir, MM_INDEX_WRITE, &io, &s->c->err);
    if (!r) r = check_type(s);
    if (!r) r = mm_io_open_in(&s->o->io, s->c, argc, argv);
    if (r) return r;
    mm_progress_start(&bar, s->c, "records", 0);
    while (!r && (more = mm_io_next(&s->o->io, s->rec)) > 0) {
        r = s->o->del ? delete_one(s, &id) : add_one(s, &id);
        if (!r) r = mm_io_count(&s->o->io, s->rec);
        done += !r && !mm_rec_failed(s->rec);
        mm_progress_tick(&bar, done);
        if (!r && (++unsafe >= batch || !mm_io_pending(&s->o->io))) {
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
    return mm_io_close(&s->o->io, r);
}

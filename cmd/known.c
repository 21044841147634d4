#include "cmd/known.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_base.h"
#include "base/mm_json.h"

/* What a record says of its file; of itself, where it has none: the hash alone. */
typedef struct stamp {
    uint64_t size, hash;
    char mtime[32];
} stamp;

typedef struct entry {
    char *id; /* NULL: free */
    stamp s;
} entry;

struct mm_known {
    mm_index **ix;
    size_t n_ix;
    entry *e; /* open addressing, cap a power of two */
    size_t n, cap, dim;
    const char *model;
    uint64_t nameless;
};

static int read_stamp(const char *json, size_t len, stamp *s)
{
    mm_json_iter it;
    mm_slice key, val;
    int got = 0;
    mm_err err;
    if (mm_json_begin(&it, json, len, &err)) return 0;
    while (mm_json_next(&it, &key, &val, &err) > 0) {
        char buf[40];
        if (val.len >= sizeof buf) continue;
        memcpy(buf, val.p, val.len);
        buf[val.len] = 0;
        if (key.len == 4 && !memcmp(key.p, "size", 4)) s->size = strtoull(buf, NULL, 10), got |= 1;
        if (key.len == 5 && !memcmp(key.p, "mtime", 5) && sscanf(buf, "\"%31[0-9.]\"", s->mtime) == 1) got |= 2;
        if (key.len == 4 && !memcmp(key.p, "hash", 4)) {
            unsigned long long h;
            if (sscanf(buf, "\"%16llx\"", &h) == 1) s->hash = h, got |= 4;
        }
    }
    return got == 7;
}

/* "file" or "known" of a record. */
static int stamp_of(mm_rec *rec, stamp *s)
{
    mm_slice v;
    unsigned long long h;
    char text[20] = "";
    if (mm_rec_get(rec, "file", &v)) return read_stamp(v.p, v.len, s);
    if (mm_rec_str(rec, "known", &v, NULL) <= 0 || v.len != 16) return 0;
    memcpy(text, v.p, 16);
    if (sscanf(text, "%16llx", &h) != 1) return 0;
    *s = (stamp){ .hash = h, .mtime = "-" };
    return 1;
}

/* What a record is known by: its id, else the name of its file. 0: nothing. */
static int name_of(mm_rec *rec, mm_slice *name)
{
    if (mm_rec_id(rec, name, NULL) > 0) return 1;
    const char *path = mm_rec_path(rec);
    *name = (mm_slice){ path, path ? strlen(path) : 0 };
    return path != NULL;
}

static entry *slot(const mm_known *k, const char *id)
{
    size_t i = (size_t)mm_hash64(id, strlen(id), 0) & (k->cap - 1);
    while (k->e[i].id && strcmp(k->e[i].id, id)) i = (i + 1) & (k->cap - 1);
    return &k->e[i];
}

static int put(mm_known *k, const char *id, const stamp *s)
{
    if (2 * k->n >= k->cap) {
        mm_known big = { .cap = k->cap ? 2 * k->cap : 1024 };
        if (!(big.e = calloc(big.cap, sizeof *big.e))) return MM_ENOMEM;
        for (size_t i = 0; i < k->cap; i++)
            if (k->e[i].id) *slot(&big, k->e[i].id) = k->e[i];
        free(k->e);
        k->e = big.e;
        k->cap = big.cap;
    }
    entry *e = slot(k, id);
    if (!e->id && !(e->id = strdup(id))) return MM_ENOMEM;
    k->n += e->s.mtime[0] == 0;
    e->s = *s;
    return 0;
}

/* The records of an earlier run. Its last line may be cut: it was killed. */
static int read_records(mm_known *k, const char *name, mm_err *err)
{
    mm_reader *rd;
    mm_rec *rec = mm_rec_new();
    char *names[] = { (char *)(uintptr_t)name };
    size_t want = k->dim;
    int r = rec ? mm_reader_open(&rd, NULL, names, 1, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) {
        mm_rec_free(rec);
        return r;
    }
    while ((r = mm_reader_next(rd, rec, err)) > 0) {
        mm_slice id, model;
        stamp s = { 0 };
        mm_err e;
        const float *v;
        size_t dim;
        if (mm_rec_failed(rec) && !mm_rec_failed_before(rec)) continue; /* a cut line */
        if (!mm_rec_failed(rec)) {
            if (mm_rec_str(rec, "model", &model, &e) <= 0 || !mm_slice_is(model, k->model)) continue;
            if (want && mm_rec_vec(rec, &v, &dim, &e) > 0) {
                if (dim != want) r = mm_fail(err, MM_ESHAPE, "'%s' has vectors of %zu numbers, this run makes %zu", name, dim, want);
                if (dim != want) break;
                want = 0; /* one will do */
            }
        }
        if (!stamp_of(rec, &s) || !name_of(rec, &id)) continue;
        char *copy = strndup(id.p, id.len);
        int bad = !copy || put(k, copy, &s);
        free(copy);
        if (bad) {
            r = mm_fail(err, MM_ENOMEM, "out of memory");
            break;
        }
    }
    if (r == MM_ETRUNC || r == MM_EDATA) r = 0; /* what came before the damage is known, the rest is done again */
    mm_reader_close(&rd);
    mm_rec_free(rec);
    return r < 0 ? r : 0;
}

int mm_known_open(mm_known **out, const char *const *names, size_t n, const char *model, size_t dim, mm_err *err)
{
    mm_known *k = calloc(1, sizeof *k);
    int r = k && (k->ix = calloc(n + 1, sizeof *k->ix)) ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++) {
        struct stat sb;
        k->model = model;
        k->dim = dim;
        if (stat(names[i], &sb)) {
            if (errno != ENOENT) r = mm_fail_errno(err, "cannot open '%s'", names[i]);
            continue;
        }
        if (!S_ISDIR(sb.st_mode)) {
            r = read_records(k, names[i], err);
            continue;
        }
        if ((r = mm_index_open(&k->ix[k->n_ix], names[i], MM_INDEX_READ, NULL, err))) continue;
        const char *theirs = mm_index_model(k->ix[k->n_ix++]);
        if (theirs[0] && strcmp(theirs, model))
            r = mm_fail(err, MM_EMODEL, "'%s' holds vectors of %s, this model is %s", names[i], theirs, model);
        mm_index_info info;
        mm_index_get_info(k->ix[k->n_ix - 1], &info);
        if (!r && dim && info.dim && info.dim != dim)
            r = mm_fail(err, MM_ESHAPE, "'%s' has vectors of %zu numbers, this run makes %zu", names[i], (size_t)info.dim, dim);
    }
    if (r) mm_known_close(&k);
    *out = k;
    return r;
}

static int in_index(const mm_known *k, const char *id, stamp *s)
{
    mm_rec *rec = k->n_ix ? mm_rec_new() : NULL;
    int found = 0;
    for (size_t i = 0; rec && i < k->n_ix && !found; i++) {
        uint64_t row;
        mm_slice rid, doc;
        if (!mm_index_find(k->ix[i], id, strlen(id), &row)) continue;
        mm_index_record(k->ix[i], row, &rid, &doc);
        found = !mm_rec_parse(rec, doc.p, doc.len, NULL) && stamp_of(rec, s);
    }
    mm_rec_free(rec);
    return found;
}

/* What the record says, and the files that it names. */
static uint64_t content(mm_rec *rec)
{
    static const char *const media[] = { "image", "audio", "video" };
    uint64_t h = 0;
    mm_slice key, raw;
    for (size_t i = 0; i < mm_rec_count(rec); i++) {
        mm_rec_member(rec, i, &key, &raw);
        if (mm_slice_is(key, "file") || mm_slice_is(key, "known")) continue;
        h = mm_hash64(raw.p, raw.len, mm_hash64(key.p, key.len, h));
    }
    for (int i = 0; i < 3; i++) {
        struct stat sb;
        char path[4096];
        if (mm_rec_str(rec, media[i], &raw, NULL) <= 0 || raw.len >= sizeof path) continue;
        memcpy(path, raw.p, raw.len);
        path[raw.len] = 0;
        if (stat(path, &sb)) continue;
        const int64_t of[] = { sb.st_size, sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec };
        h = mm_hash64(of, sizeof of, h);
    }
    return h;
}

/* 1: what was found says the same; 0, and *is is complete. */
static int same_file(const char *path, const struct stat *sb, int found, const stamp *was, stamp *is)
{
    mm_map m;
    is->size = (uint64_t)sb->st_size;
    snprintf(is->mtime, sizeof is->mtime, "%lld.%09ld", (long long)sb->st_mtim.tv_sec, sb->st_mtim.tv_nsec);
    if (found && was->size == is->size && !strcmp(was->mtime, is->mtime)) return 1;
    if (mm_map_open(&m, path, NULL)) return -1;
    is->hash = mm_hash64(m.p, m.len, 0);
    mm_map_close(&m);
    return found && was->size == is->size && was->hash == is->hash;
}

int mm_known_check(mm_known *k, mm_rec *rec)
{
    struct stat sb;
    mm_slice name;
    stamp was = { 0 }, is = { 0 };
    char text[128];
    const char *path = mm_rec_path(rec);
    const int file = path && !stat(path, &sb) && S_ISREG(sb.st_mode);
    if (path && !file) return 0;
    if (!name_of(rec, &name)) return k->nameless++, 0;
    char *id = strndup(name.p, name.len);
    if (!id) return MM_ENOMEM;
    const entry *e = k->cap ? slot(k, id) : NULL;
    const int found = e && e->id ? was = e->s, 1 : in_index(k, id, &was);
    free(id);
    if (!file) {
        is.hash = content(rec);
        if (found && !strcmp(was.mtime, "-") && was.hash == is.hash) return 1;
        snprintf(text, sizeof text, "%016llx", (unsigned long long)is.hash);
        return mm_rec_set_str(rec, "known", text, strlen(text)) ? MM_ENOMEM : 0;
    }
    const int same = same_file(path, &sb, found, &was, &is);
    if (same) return same > 0;
    int n = snprintf(text, sizeof text, "{\"size\":%llu,\"mtime\":\"%s\",\"hash\":\"%016llx\"}", (unsigned long long)is.size, is.mtime,
                     (unsigned long long)is.hash);
    return mm_rec_set(rec, "file", text, (size_t)n) ? MM_ENOMEM : 0;
}

uint64_t mm_known_nameless(const mm_known *k) { return k->nameless; }

void mm_known_close(mm_known **kp)
{
    mm_known *k = *kp;
    if (!k) return;
    mm_err err;
    for (size_t i = 0; i < k->n_ix; i++)
        if (mm_index_close(&k->ix[i], &err)) continue; /* a reader has nothing to lose */
    for (size_t i = 0; i < k->cap; i++) free(k->e[i].id);
    free(k->e);
    free(k->ix);
    free(k);
    *kp = NULL;
}

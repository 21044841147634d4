#include "cmd/known.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_base.h"

/* What a record says of its file. */
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
    size_t n, cap;
    const char *model;
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
    int r = rec ? mm_reader_open(&rd, NULL, names, 1, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) {
        mm_rec_free(rec);
        return r;
    }
    while ((r = mm_reader_next(rd, rec, err)) > 0) {
        mm_slice file, id, model;
        stamp s = { 0 };
        mm_err e;
        if (mm_rec_failed(rec) && !mm_rec_failed_before(rec)) continue; /* a cut line */
        if (!mm_rec_get(rec, "file", &file) || !read_stamp(file.p, file.len, &s) || mm_rec_str(rec, "id", &id, &e) <= 0) continue;
        if (!mm_rec_failed(rec) && (mm_rec_str(rec, "model", &model, &e) <= 0 || model.len != strlen(k->model) || memcmp(model.p, k->model, model.len)))
            continue;
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

int mm_known_open(mm_known **out, const char *const *names, size_t n, const char *model, mm_err *err)
{
    mm_known *k = calloc(1, sizeof *k);
    int r = k && (k->ix = calloc(n + 1, sizeof *k->ix)) ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++) {
        struct stat sb;
        k->model = model;
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
    }
    if (r) mm_known_close(&k);
    *out = k;
    return r;
}

static int in_index(const mm_known *k, const char *id, stamp *s)
{
    for (size_t i = 0; i < k->n_ix; i++) {
        uint64_t row;
        mm_slice rid, doc, key, val;
        mm_json_iter it;
        if (!mm_index_find(k->ix[i], id, strlen(id), &row)) continue;
        mm_index_record(k->ix[i], row, &rid, &doc);
        if (mm_json_begin(&it, doc.p, doc.len, NULL)) continue;
        while (mm_json_next(&it, &key, &val, NULL) > 0)
            if (key.len == 4 && !memcmp(key.p, "file", 4) && read_stamp(val.p, val.len, s)) return 1;
    }
    return 0;
}

int mm_known_check(mm_known *k, mm_rec *rec, const char *path)
{
    struct stat sb;
    mm_map m;
    mm_slice idv;
    stamp was = { 0 }, is = { 0 };
    if (stat(path, &sb) || !S_ISREG(sb.st_mode) || mm_rec_str(rec, "id", &idv, NULL) <= 0) return 0;
    is.size = (uint64_t)sb.st_size;
    snprintf(is.mtime, sizeof is.mtime, "%lld.%09ld", (long long)sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec);
    char *id = strndup(idv.p, idv.len);
    if (!id) return MM_ENOMEM;
    int found = 0;
    if (k->cap) {
        const entry *e = slot(k, id);
        if (e->id) was = e->s, found = 1;
    }
    if (!found) found = in_index(k, id, &was);
    free(id);
    if (found && was.size == is.size && !strcmp(was.mtime, is.mtime)) return 1;
    if (mm_map_open(&m, path, NULL)) return 0;
    is.hash = mm_hash64(m.p, m.len, 0);
    mm_map_close(&m);
    if (found && was.size == is.size && was.hash == is.hash) return 1;
    char text[128];
    int n = snprintf(text, sizeof text, "{\"size\":%llu,\"mtime\":\"%s\",\"hash\":\"%016llx\"}", (unsigned long long)is.size, is.mtime,
                     (unsigned long long)is.hash);
    return mm_rec_set(rec, "file", text, (size_t)n) ? MM_ENOMEM : 0;
}

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

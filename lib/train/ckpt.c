/* Checkpoints on disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "store/mm_store.h"
#include "train/mm_ckpt.h"

#define FORMAT "1"
#define MAX_DIFF 4 /* differences of a configuration that are told */
#define MAX_OLDER 999

static const char *const kinds[] = { "w", "m", "v", "ema", "best" };
enum { KINDS = 5, BEST = 4 };

static int is_trained(const mm_pset_item *it) { return !(it->flags & (MM_PSET_FROZEN | MM_PSET_LORA)); }

/* ---- hashes ---- */

/* Of what is said beside the tensors. */
static uint64_t hash_words(const json_t *meta)
{
    static const char *const keys[] = { "step", "optimizer", "state", "config" };
    uint64_t h = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *s = json_object_get(meta, keys[i]);
        if (json_is_string(s)) h = mm_hash64(json_string_value(s), json_string_length(s), h);
    }
    return h;
}

/* Of everything that is trained, in the order of the file, behind the words. */
static uint64_t hash_trained(uint64_t h, const mm_pset *ps, const float *const block[KINDS])
{
    for (int k = 0; k < KINDS; k++)
        for (size_t i = 0; block[k] && i < ps->n; i++)
            if (is_trained(&ps->item[i])) h = mm_hash64(block[k] + ps->item[i].at, ps->item[i].n * sizeof(float), h);
    return h;
}

/* Of everything that is not. */
static uint64_t hash_fixed(const mm_pset *ps)
{
    uint64_t h = 0;
    for (size_t i = 0; i < ps->n; i++) {
        const mm_pset_item *it = &ps->item[i];
        if (is_trained(it)) continue;
        h = mm_hash64(it->name, strlen(it->name), h);
        h = mm_hash64(it->flags & MM_PSET_LORA ? ps->base + (it->at - ps->size) : ps->w + it->at, it->n * sizeof(float), h);
    }
    return h;
}

static json_t *hex(uint64_t h)
{
    char s[17];
    snprintf(s, sizeof s, "%016llx", (unsigned long long)h);
    return json_string(s);
}

/* ---- writing ---- */

static json_t *dumped(const json_t *j)
{
    char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    json_t *t = s ? json_string(s) : NULL;
    free(s);
    return t;
}

static json_t *describe(const mm_pset *ps, const float *const block[KINDS], const mm_ckpt *c)
{
    json_t *optim = json_pack("{s:I,s:f,s:I}", "t", (json_int_t)ps->t, "scale", (double)ps->scale, "good", (json_int_t)ps->good);
    json_t *m = json_object();
    char step[24];
    snprintf(step, sizeof step, "%llu", (unsigned long long)c->step);
    int bad = !optim || json_object_set_new(m, MM_STORE_CHECKPOINT, json_string(FORMAT)) || json_object_set_new(m, "step", json_string(step)) ||
              json_object_set_new(m, "optimizer", dumped(optim)) || json_object_set_new(m, "state", dumped(c->state)) ||
              json_object_set_new(m, "config", dumped(c->config)) ||
              json_object_set_new(m, "hash", hex(hash_trained(hash_words(m), ps, block))) ||
              json_object_set_new(m, "frozen", hex(hash_fixed(ps)));
    json_decref(optim);
    if (!bad) return m;
    json_decref(m);
    return NULL;
}

static int write_file(const char *path, const mm_pset *ps, const float *const block[KINDS], const mm_ckpt *c, mm_err *err)
{
    mm_st_writer *w;
    mm_buf name = { 0 };
    json_t *meta = describe(ps, block, c);
    if (!meta) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = mm_st_create(&w, path, meta, err);
    json_decref(meta);
    if (r) return r;
    for (int k = 0; k < KINDS; k++)
        for (size_t i = 0; block[k] && i < ps->n; i++) {
            const mm_pset_item *it = &ps->item[i];
            if (!is_trained(it)) continue;
            mm_buf_reset(&name);
            if (!mm_buf_addf(&name, "%s.%s", kinds[k], it->name))
                mm_st_tensor(w, name.p, MM_F32, 2, (const int64_t[2]){ (int64_t)it->p->rows, (int64_t)it->p->cols });
            else if (!r) r = mm_fail(err, MM_ENOMEM, "out of memory");
        }
    mm_buf_clear(&name);
    if (!r) r = mm_st_begin(w, err);
    for (int k = 0; k < KINDS && !r; k++)
        for (size_t i = 0; block[k] && i < ps->n && !r; i++)
            if (is_trained(&ps->item[i])) r = mm_st_data(w, block[k] + ps->item[i].at, ps->item[i].n * sizeof(float), err);
    if (!r) return mm_st_commit(&w, err);
    mm_st_abort(&w);
    return r;
}

static char *with_tail(const char *path, const char *tail)
{
    size_t n = strlen(path), m = strlen(tail);
    char *p = malloc(n + m + 1);
    if (!p) return NULL;
    memcpy(p, path, n);
    memcpy(p + n, tail, m + 1);
    return p;
}

static char *older(const char *path, int i)
{
    char tail[16];
    snprintf(tail, sizeof tail, ".%d", i);
    return with_tail(path, tail);
}

/* PATH becomes PATH.1 as well, PATH.1 becomes PATH.2 ...; the last one falls off. PATH itself stays where it is. What does not work here
 * costs an old checkpoint, not this one. */
static void shift(const char *path, int keep)
{
    for (int i = keep - 1; i >= 1; i--) {
        char *to = older(path, i), *from = i > 1 ? older(path, i - 1) : NULL;
        if (to && i > 1 && from) rename(from, to);
        if (to && i == 1 && link(path, to) && errno == EEXIST && !unlink(to) && link(path, to)) errno = 0;
        free(to);
        free(from);
    }
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

int mm_ckpt_write(const char *path, const mm_pset *ps, const float *best, const mm_ckpt *c, int keep, mm_err *err)
{
    const float *const block[KINDS] = { ps->w, ps->m, ps->v, ps->ema, best };
    if (ps->swapped) return mm_fail(err, MM_EARG, "a checkpoint of averaged weights");
    if (keep <= 1) return write_file(path, ps, block, c, err);
    char *fresh = with_tail(path, ".new"), *dir = folder_of(path);
    int r = !fresh || !dir ? mm_fail(err, MM_ENOMEM, "out of memory") : write_file(fresh, ps, block, c, err);
    if (!r) {
        shift(path, keep);
        r = rename(fresh, path) ? mm_fail_errno(err, "cannot rename to '%s'", path) : mm_sync_dir(dir, err);
        if (r) unlink(fresh);
    }
    free(fresh);
    free(dir);
    return r;
}

/* ---- configurations ---- */

/* Long values from a little before the place where they part. */
static void add_value(mm_buf *out, const char *v, size_t parts)
{
    size_t from = parts > 40 ? parts - 20 : 0;
    while (from && ((unsigned char)v[from] & 0xC0) == 0x80) from--;
    mm_buf_addf(out, "%s%.60s", from ? "..." : "", v + from);
}

static void told(mm_buf *out, const char *path, const json_t *was, const json_t *now, int *n)
{
    if (++*n > MAX_DIFF) return;
    char *a = was ? json_dumps(was, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_REAL_PRECISION(6)) : NULL;
    char *b = now ? json_dumps(now, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_REAL_PRECISION(6)) : NULL;
    const char *x = a ? a : "not given", *y = b ? b : "not given";
    size_t parts = 0;
    while (x[parts] && x[parts] == y[parts]) parts++;
    mm_buf_addf(out, "%s%s: ", *n > 1 ? "; " : "", path);
    add_value(out, x, parts);
    mm_buf_adds(out, ", now ");
    add_value(out, y, parts);
    free(a);
    free(b);
}

static void compare(mm_buf *out, const char *path, const json_t *was, const json_t *now, int *n)
{
    if (was && now && json_equal((json_t *)was, (json_t *)now)) return;
    if (!json_is_object(was) || !json_is_object(now)) {
        told(out, path, was, now, n);
        return;
    }
    const char *key;
    json_t *v;
    char deeper[200];
    json_object_foreach((json_t *)was, key, v) {
        snprintf(deeper, sizeof deeper, "%s%s%s", path, path[0] ? "." : "", key);
        compare(out, deeper, v, json_object_get(now, key), n);
    }
    json_object_foreach((json_t *)now, key, v) {
        snprintf(deeper, sizeof deeper, "%s%s%s", path, path[0] ? "." : "", key);
        if (!json_object_get(was, key)) told(out, deeper, NULL, v, n);
    }
}

int mm_config_diff(mm_buf *out, const json_t *was, const json_t *now)
{
    int n = 0;
    compare(out, "", was, now, &n);
    if (n > MAX_DIFF) mm_buf_addf(out, "; and %d more", n - MAX_DIFF);
    return out->failed ? MM_ENOMEM : 0;
}

/* ---- reading ---- */

static json_t *metadata(const mm_store *st)
{
    json_t *m = json_object();
    const char *key, *type;
    for (size_t i = 0; m; i++) {
        mm_buf b = { 0 };
        json_t *v = NULL;
        if (!(key = mm_store_kv_at(st, i, &type, &b))) break;
        if (b.p) v = json_loadb(b.p, b.len, JSON_DECODE_ANY, NULL);
        mm_buf_clear(&b);
        if (!v || json_object_set_new(m, key, v)) {
            json_decref(m);
            m = NULL;
        }
    }
    return m;
}

static json_t *parsed(const json_t *meta, const char *key)
{
    const char *s = json_string_value(json_object_get(meta, key));
    return s ? json_loads(s, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static uint64_t number(const json_t *meta, const char *key, int base)
{
    const char *s = json_string_value(json_object_get(meta, key));
    return s ? strtoull(s, NULL, base) : 0;
}

static int open_file(const char *path, mm_store **st, json_t **meta, mm_ckpt *c, mm_err *err)
{
    *c = (mm_ckpt){ 0 };
    *meta = NULL;
    int r = mm_store_open(st, path, err);
    if (r) return r;
    *meta = metadata(*st);
    const char *format = json_string_value(json_object_get(*meta, MM_STORE_CHECKPOINT));
    c->step = number(*meta, "step", 10);
    c->state = parsed(*meta, "state");
    c->config = parsed(*meta, "config");
    if (!format || !c->state || !c->config) r = mm_fail(err, MM_EDATA, "'%s' is no checkpoint", path);
    else if (strcmp(format, FORMAT))
        r = mm_fail(err, MM_EUNSUP, "'%s' is a checkpoint of version %.20s, this program reads " FORMAT, path, format);
    return r;
}

void mm_ckpt_clear(mm_ckpt *c)
{
    json_decref(c->state);
    json_decref(c->config);
    *c = (mm_ckpt){ 0 };
}

int mm_ckpt_peek(const char *path, mm_ckpt *c, mm_err *err)
{
    mm_store *st;
    json_t *meta;
    int r = open_file(path, &st, &meta, c, err);
    json_decref(meta);
    mm_store_close(&st);
    if (r) mm_ckpt_clear(c);
    return r;
}

/* Are exactly the tensors there that the set needs? found [KINDS * n], in the order of the file's hash; NULL where there is none to be. */
static int find_all(const char *path, const mm_store *st, const mm_pset *ps, const mm_store_tensor **found, int *has_best, mm_err *err)
{
    size_t n = 0;
    mm_buf name = { 0 };
    int r = 0;
    *has_best = 0;
    for (size_t i = 0; i < mm_store_count(st); i++) *has_best |= !strncmp(mm_store_at(st, i)->name, "best.", 5);
    for (int k = 0; k < KINDS && !r; k++)
        for (size_t i = 0; i < ps->n && !r; i++) {
            const mm_pset_item *it = &ps->item[i];
            found[(size_t)k * ps->n + i] = NULL;
            if (!is_trained(it) || (k == BEST && !*has_best)) continue;
            mm_buf_reset(&name);
            if (mm_buf_addf(&name, "%s.%s", kinds[k], it->name)) {
                r = mm_fail(err, MM_ENOMEM, "out of memory");
                break;
            }
            const mm_store_tensor *t = found[(size_t)k * ps->n + i] = mm_store_find(st, name.p);
            if (!t) r = mm_fail(err, MM_ESHAPE, "'%s' has no '%s', which is trained here", path, name.p);
            else if (t->type != MM_F32 || t->ndim != 2 || t->shape[0] != (int64_t)it->p->rows || t->shape[1] != (int64_t)it->p->cols)
                r = mm_fail(err, MM_ESHAPE, "'%s': '%s' has another shape than here, [%zu, %zu]", path, name.p, it->p->rows, it->p->cols);
            n++;
        }
    mm_buf_clear(&name);
    if (!r && n != mm_store_count(st)) {
        for (size_t i = 0; i < mm_store_count(st) && !r; i++) {
            size_t k = 0;
            while (k < KINDS * ps->n && found[k] != mm_store_at(st, i)) k++;
            if (k == KINDS * ps->n)
                r = mm_fail(err, MM_ESHAPE, "'%s' holds '%s', which is not trained here", path, mm_store_at(st, i)->name);
        }
    }
    return r;
}

static int check_hash(const char *path, const json_t *meta, const mm_pset *ps, const mm_store_tensor *const *found, mm_err *err)
{
    uint64_t h = hash_words(meta);
    for (size_t i = 0; i < KINDS * ps->n; i++)
        if (found[i]) h = mm_hash64(found[i]->data, found[i]->bytes, h);
    if (h != number(meta, "hash", 16)) return mm_fail(err, MM_EDATA, "'%s' is damaged: its checksum is wrong", path);
    if (hash_fixed(ps) != number(meta, "frozen", 16))
        return mm_fail(err, MM_EMODEL, "'%s' goes with other frozen weights: the run began from another model", path);
    return 0;
}

int mm_ckpt_read(const char *path, mm_pset *ps, float *best, const json_t *config, mm_ckpt *c, mm_err *err)
{
    mm_store *st;
    json_t *meta, *optim = NULL;
    mm_buf diff = { 0 };
    const mm_store_tensor **found = mm_realloc(NULL, KINDS * ps->n, sizeof *found);
    int r = open_file(path, &st, &meta, c, err);
    if (!r && (!found || mm_config_diff(&diff, c->config, config))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && diff.len) r = mm_fail(err, MM_EARG, "'%s' was made with other settings (%s)", path, diff.p);
    if (!r) r = find_all(path, st, ps, found, &c->has_best, err);
    if (!r) r = check_hash(path, meta, ps, found, err);
    json_int_t t, good;
    double scale;
    if (!r && (!(optim = parsed(meta, "optimizer")) ||
               json_unpack(optim, "{s:I,s:F,s:I}", "t", &t, "scale", &scale, "good", &good) || t < 0 || good < 0 || !(scale > 0)))
        r = mm_fail(err, MM_EDATA, "'%s' is no checkpoint", path);
    if (!r) {
        float *const block[KINDS] = { ps->w, ps->m, ps->v, ps->ema, best };
        for (int k = 0; k < KINDS; k++)
            for (size_t i = 0; block[k] && i < ps->n; i++) {
                const mm_store_tensor *from = found[(size_t)k * ps->n + i];
                if (from) memcpy(block[k] + ps->item[i].at, from->data, from->bytes);
            }
        ps->t = (uint64_t)t;
        ps->scale = (float)scale;
        ps->good = (uint32_t)good;
        if (mm_pset_merge(ps, 1)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    }
    json_decref(optim);
    json_decref(meta);
    mm_buf_clear(&diff);
    mm_store_close(&st);
    free(found);
    if (r) mm_ckpt_clear(c);
    return r;
}

/* ---- files ---- */

void mm_ckpt_remove(const char *path, int all)
{
    unlink(path);
    for (int i = 1; all && i <= MAX_OLDER; i++) {
        char *p = older(path, i);
        int gone = !p || unlink(p);
        free(p);
        if (gone) break;
    }
}

/* "PID-N" */
static int is_numbers(const char *s)
{
    const size_t a = strspn(s, "0123456789"), b = s[a] == '-' ? strspn(s + a + 1, "0123456789") : 0;
    return a && b && !s[a + 1 + b];
}

void mm_ckpt_sweep(const char *path, int fresh)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *dir = folder_of(path);
    DIR *d = dir ? opendir(dir) : NULL;
    size_t n = strlen(base);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *tail = e->d_name + n;
        if (strncmp(e->d_name, base, n)) continue;
        if (fresh && !strncmp(tail, ".new", 4)) tail += 4;
        if (!(tail[0] == 0 && tail > e->d_name + n) && (strncmp(tail, ".tmp-", 5) || !is_numbers(tail + 5))) continue;
        char *full = mm_path_join(dir, e->d_name);
        if (full) unlink(full);
        free(full);
    }
    if (d) closedir(d);
    free(dir);
}

int mm_ckpt_lock(const char *path, int *fd, mm_err *err)
{
    char *name = with_tail(path, ".lock");
    int r = name ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    *fd = -1;
    while (!r && *fd < 0) {
        struct stat a, b;
        *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0) {
            r = mm_fail_errno(err, "cannot create '%s'", name);
        } else if (flock(*fd, LOCK_EX | LOCK_NB)) {
            r = errno == EWOULDBLOCK ? mm_fail(err, MM_ELOCK, "another run is training towards '%s'", path) :
                                       mm_fail_errno(err, "cannot lock '%s'", name);
            close(*fd);
            *fd = -1;
        } else if (stat(name, &a) || fstat(*fd, &b) || a.st_ino != b.st_ino) { /* the run that had it has just removed it */
            close(*fd);
            *fd = -1;
        }
    }
    free(name);
    if (!r) mm_ckpt_sweep(path, 1);
    return r;
}

void mm_ckpt_unlock(const char *path, int fd)
{
    char *name = with_tail(path, ".lock");
    if (name && fd >= 0) unlink(name);
    if (fd >= 0) close(fd);
    free(name);
}

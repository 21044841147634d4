/* Vectors of a teacher, each made once: a table in memory over a file that only grows. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "kernels/mm_kern.h"
#include "train/mm_teacher.h"

#define HEAD 128
#define BATCH 256 /* texts between two writes */

struct mm_teacher {
    mm_model *model;
    size_t dim, size; /* bytes of a record: two hashes, the vector, CRC */
    int fd;           /* -1: no file */
    char *path;
    mm_buf rec;      /* the records, as in the file */
    uint32_t *slot;  /* number of a record + 1 by its first hash; 0: free */
    size_t slots, n; /* n: records */
};

typedef struct key {
    uint64_t a, b;
} key;

static key key_of(const char *p, size_t len) { return (key){ mm_hash64(p, len, 0), mm_hash64(p, len, 0x9E3779B97F4A7C15u) }; }

/* ---- the table ---- */

static char *record(const mm_teacher *t, size_t i) { return t->rec.p + i * t->size; }

static size_t find(const mm_teacher *t, key k)
{
    size_t i = (size_t)k.a & (t->slots - 1);
    for (; t->slot[i]; i = (i + 1) & (t->slots - 1))
        if (!memcmp(record(t, t->slot[i] - 1), &k, sizeof k)) break;
    return i;
}

/* Room for `more` records in the table. */
static int make_room(mm_teacher *t, size_t more, mm_err *err)
{
    size_t slots = t->slots ? t->slots : 1024;
    while (slots < 2 * (t->n + more)) slots *= 2;
    if (slots == t->slots) return 0;
    uint32_t *p = calloc(slots, sizeof *p);
    if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
    free(t->slot);
    t->slot = p;
    t->slots = slots;
    for (size_t i = 0; i < t->n; i++) {
        key k;
        memcpy(&k, record(t, i), sizeof k);
        t->slot[find(t, k)] = (uint32_t)i + 1;
    }
    return 0;
}

/* ---- the file ---- */

/* What tells the model: the hash of a fingerprint, for the name before it is that of a folder. */
static const char *hash_of(const char *fingerprint)
{
    const char *at = strrchr(fingerprint, '@');
    return at ? at + 1 : fingerprint;
}

static void head_make(const mm_teacher *t, char head[HEAD])
{
    uint32_t v[2] = { 1, (uint32_t)t->dim }, crc;
    memset(head, 0, HEAD);
    memcpy(head, "mm-teach", 8);
    memcpy(head + 8, v, 8);
    const char *f = hash_of(mm_model_fingerprint(t->model));
    size_t len = strlen(f);
    memcpy(head + 16, f, len < HEAD - 21 ? len : HEAD - 21);
    crc = mm_crc32c(0, head, HEAD - 4);
    memcpy(head + HEAD - 4, &crc, 4);
}

static int whole(const mm_teacher *t, const char *r)
{
    uint32_t crc;
    memcpy(&crc, r + t->size - 4, 4);
    return crc == mm_crc32c(0, r, t->size - 4);
}

/* Read at most n bytes at an offset; the count, or MM_EIO */
static ssize_t read_at(const mm_teacher *t, void *p, size_t n, size_t from, mm_err *err)
{
    size_t got = 0;
    while (got < n) {
        ssize_t k = pread(t->fd, (char *)p + got, n - got, (off_t)(from + got));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return mm_fail_errno(err, "cannot read '%s'", t->path);
        if (!k) break;
        got += (size_t)k;
    }
    return (ssize_t)got;
}

/* The lock is held: take in what the file has beyond the records that are known, and cut off what is no whole record: its writer is dead. */
static int catch_up(mm_teacher *t, mm_err *err)
{
    struct stat st;
    size_t end = HEAD + t->rec.len;
    int r;
    if (fstat(t->fd, &st)) return mm_fail_errno(err, "cannot read '%s'", t->path);
    if ((size_t)st.st_size == end) return 0;
    if ((size_t)st.st_size < end) return mm_fail(err, MM_EDATA, "'%s' has become shorter", t->path);
    size_t more = (size_t)st.st_size - end, had = t->rec.len, n = 0, count = more / t->size;
    if ((r = make_room(t, count, err))) return r;
    if (count > UINT32_MAX / 2 - t->n || mm_buf_reserve(&t->rec, count * t->size + 1)) return mm_fail(err, MM_ENOMEM, "out of memory");
    ssize_t got = read_at(t, t->rec.p + had, count * t->size, end, err);
    if (got < 0) return (int)got;
    for (; (n + 1) * t->size <= (size_t)got && whole(t, t->rec.p + had + n * t->size); n++) {
        key k;
        memcpy(&k, t->rec.p + had + n * t->size, sizeof k);
        t->rec.len += t->size;
        t->slot[find(t, k)] = (uint32_t)++t->n;
    }
    t->rec.p[t->rec.len] = 0;
    return n * t->size < more && ftruncate(t->fd, (off_t)(end + n * t->size)) ? mm_fail_errno(err, "cannot cut '%s'", t->path) : 0;
}

static int locked(mm_teacher *t, int how, mm_err *err)
{
    while (flock(t->fd, how))
        if (errno != EINTR) return mm_fail_errno(err, "cannot lock '%s'", t->path);
    return 0;
}

/* The head, made where there is none; a first write that was cut short is none. The lock is held. */
static int load(mm_teacher *t, mm_err *err)
{
    char head[HEAD], old[HEAD + 1] = { 0 };
    head_make(t, head);
    ssize_t got = read_at(t, old, HEAD, 0, err);
    if (got < 0) return (int)got;
    if (got < HEAD && !memcmp(old, head, got < 12 ? (size_t)got : 12)) {
        if (ftruncate(t->fd, 0)) return mm_fail_errno(err, "cannot cut '%s'", t->path);
        return mm_write_all(t->fd, head, HEAD, err);
    }
    if (got < HEAD || memcmp(old, head, 12)) return mm_fail(err, MM_EDATA, "'%s' is no cache of a teacher's vectors", t->path);
    if (memcmp(old, head, HEAD))
        return mm_fail(err, MM_EMODEL, "'%s' has vectors of the model %.60s, not of %s", t->path, old + 16, hash_of(head + 16));
    return catch_up(t, err);
}

int mm_teacher_open(mm_teacher **out, mm_model *m, const char *path, mm_err *err)
{
    mm_teacher *t = calloc(1, sizeof *t);
    int r = 0;
    *out = NULL;
    if (!t) return mm_fail(err, MM_ENOMEM, "out of memory");
    t->model = m;
    t->dim = mm_model_dim(m);
    t->size = sizeof(key) + 2 * t->dim + 4;
    t->fd = -1;
    r = make_room(t, 0, err);
    if (path && !r) {
        if (!(t->path = strdup(path))) r = mm_fail(err, MM_ENOMEM, "out of memory");
        else if ((t->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) < 0)
            r = mm_fail_errno(err, "cannot open '%s'", path);
        else if (!(r = locked(t, LOCK_EX, err))) {
            r = load(t, err);
            if (flock(t->fd, LOCK_UN) && !r) r = mm_fail_errno(err, "cannot unlock '%s'", path);
        }
    }
    *out = t;
    if (r) mm_teacher_close(out);
    return r;
}

void mm_teacher_close(mm_teacher **t)
{
    if (!*t) return;
    if ((*t)->fd >= 0) close((*t)->fd);
    free((*t)->path);
    free((*t)->slot);
    mm_buf_clear(&(*t)->rec);
    free(*t);
    *t = NULL;
}

size_t mm_teacher_dim(const mm_teacher *t) { return t->dim; }
size_t mm_teacher_cached(const mm_teacher *t) { return t->n; }

/* ---- embedding ---- */

/* Put records behind those that are there, in file and table; texts that another process has put there since are left out. */
static int append(mm_teacher *t, const key *keys, size_t n, const float *vec, mm_err *err)
{
    int r = t->fd >= 0 ? catch_up(t, err) : 0;
    size_t start = t->rec.len, fresh = 0;
    if (!r) r = make_room(t, n, err);
    if (!r && mm_buf_reserve(&t->rec, n * t->size)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++) {
        uint16_t h;
        size_t from = t->rec.len;
        if (t->slot[find(t, keys[i])]) continue;
        mm_buf_add(&t->rec, &keys[i], sizeof keys[i]);
        for (size_t k = 0; k < t->dim; k++) {
            h = mm_f32_to_f16(vec[i * t->dim + k]);
            mm_buf_add(&t->rec, &h, sizeof h);
        }
        uint32_t crc = mm_crc32c(0, t->rec.p + from, t->size - 4);
        mm_buf_add(&t->rec, &crc, sizeof crc);
        fresh++;
    }
    if (!r && t->fd >= 0 && (r = mm_write_all(t->fd, t->rec.p + start, t->rec.len - start, err))) {
        t->rec.len = start; /* the file may have a torn end now: it goes at once, or when it is next opened */
        if (ftruncate(t->fd, (off_t)(HEAD + start))) mm_err_prefix(err, "and cannot be cut: ");
        return mm_err_prefix(err, "'%s': ", t->path), r;
    }
    for (size_t i = 0; i < fresh && !r; i++) {
        key k;
        memcpy(&k, record(t, t->n), sizeof k);
        t->slot[find(t, k)] = (uint32_t)++t->n;
    }
    return r;
}

static int add(mm_teacher *t, const mm_text_in *in, const key *keys, size_t n, float *vec, mm_text_out *res, mm_err *err)
{
    int r = mm_model_embed_text(t->model, in, n, vec, res, err);
    if (r || t->fd < 0) return r ? r : append(t, keys, n, vec, err);
    if ((r = locked(t, LOCK_EX, err))) return r;
    r = append(t, keys, n, vec, err);
    return flock(t->fd, LOCK_UN) && !r ? mm_fail_errno(err, "cannot unlock '%s'", t->path) : r;
}

int mm_teacher_embed(mm_teacher *t, const mm_text_in *in, size_t n, float *vec, mm_train_progress *progress, void *arg, mm_err *err)
{
    mm_text_in text[BATCH];
    key keys[BATCH];
    mm_text_out res[BATCH];
    float *own = mm_aligned(BATCH * t->dim, sizeof *own);
    uint32_t *todo = mm_realloc(NULL, n + 1, sizeof *todo);
    size_t missing = 0;
    int r = !own || !todo ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    if (!r && n > UINT32_MAX / 4 - t->n) r = mm_fail(err, MM_ENOMEM, "more texts than a cache holds");
    for (size_t i = 0; i < n && !r; i++)
        if (!t->slot[find(t, key_of(in[i].p, in[i].len))]) todo[missing++] = (uint32_t)i;
    for (size_t i = 0; i < missing && !r;) {
        size_t b = 0, first = i;
        for (; i < missing && b < BATCH; i++) {
            key k = key_of(in[todo[i]].p, in[todo[i]].len);
            int seen = t->slot[find(t, k)] != 0;
            for (size_t q = 0; q < b && !seen; q++) seen = !memcmp(&keys[q], &k, sizeof k);
            if (seen) continue;
            text[b] = in[todo[i]];
            keys[b++] = k;
        }
        if (b) r = add(t, text, keys, b, own, res, err);
        if (r == MM_EDATA) mm_err_prefix(err, "in the batch from text %u on: ", todo[first]);
        if (!r && progress) r = progress(arg, "teacher", i, missing);
    }
    for (size_t i = 0; i < n && !r; i++) {
        const char *h = record(t, t->slot[find(t, key_of(in[i].p, in[i].len))] - 1) + sizeof(key);
        mm_kern_get()->to_f32[MMK_FMT_F16](vec + i * t->dim, h, t->dim);
    }
    free(own);
    free(todo);
    return r;
}

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

static int index_all(mm_teacher *t, size_t more, mm_err *err)
{
    size_t slots = 1024;
    while (slots < 2 * (t->n + more)) slots *= 2;
    if (slots > t->slots) {
        uint32_t *p = mm_realloc(t->slot, slots, sizeof *p);
        if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
        t->slot = p;
        t->slots = slots;
    }
    memset(t->slot, 0, t->slots * sizeof *t->slot);
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

static int load(mm_teacher *t, mm_err *err)
{
    char head[HEAD], *old;
    mm_buf b = { 0 };
    head_make(t, head);
    int r = mm_file_read(&b, t->path, (size_t)1 << 40, err);
    if (r) return r;
    /* a file whose first write was cut short is a new one */
    if (b.len < HEAD && (!b.len || !memcmp(b.p, head, b.len < 16 ? b.len : 16))) {
        mm_buf_clear(&b);
        if (ftruncate(t->fd, 0)) return mm_fail_errno(err, "cannot cut '%s'", t->path);
        return mm_write_all(t->fd, head, HEAD, err);
    }
    old = b.p;
    if (b.len < HEAD || memcmp(old, head, 12)) r = mm_fail(err, MM_EDATA, "'%s' is no cache of a teacher's vectors", t->path);
    else if (memcmp(old, head, HEAD))
        r = mm_fail(err, MM_EMODEL, "'%s' has vectors of the model %.60s, not of %s", t->path, old + 16, hash_of(head + 16));
    size_t n = 0;
    if (!r)
        while (HEAD + (n + 1) * t->size <= b.len && n < UINT32_MAX - 1 && whole(t, old + HEAD + n * t->size)) n++;
    if (!r && mm_buf_add(&t->rec, old + HEAD, n * t->size)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && HEAD + n * t->size < b.len && ftruncate(t->fd, (off_t)(HEAD + n * t->size)))
        r = mm_fail_errno(err, "cannot cut '%s'", t->path);
    mm_buf_clear(&b);
    t->n = n;
    return r;
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
    if (path) {
        if (!(t->path = strdup(path))) r = mm_fail(err, MM_ENOMEM, "out of memory");
        else if ((t->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) < 0)
            r = mm_fail_errno(err, "cannot open '%s'", path);
        else if (flock(t->fd, LOCK_EX | LOCK_NB))
            r = errno == EWOULDBLOCK ? mm_fail(err, MM_ELOCK, "another process writes '%s'", path)
                                     : mm_fail_errno(err, "cannot lock '%s'", path);
        if (!r) r = load(t, err);
    }
    if (!r) r = index_all(t, 0, err);
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

/* Embed a batch of texts that are not in the table; their records are added to file and table. */
static int add(mm_teacher *t, const mm_text_in *in, const key *keys, size_t n, float *vec, mm_text_out *res, mm_err *err)
{
    int r = mm_model_embed_text(t->model, in, n, vec, res, err);
    size_t start = t->rec.len;
    if (!r && mm_buf_reserve(&t->rec, n * t->size)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) return r;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        size_t from = t->rec.len;
        mm_buf_add(&t->rec, &keys[i], sizeof keys[i]);
        for (size_t k = 0; k < t->dim; k++) {
            h = mm_f32_to_f16(vec[i * t->dim + k]);
            mm_buf_add(&t->rec, &h, sizeof h);
        }
        uint32_t crc = mm_crc32c(0, t->rec.p + from, t->size - 4);
        mm_buf_add(&t->rec, &crc, sizeof crc);
    }
    if (t->fd >= 0 && (r = mm_write_all(t->fd, t->rec.p + start, t->rec.len - start, err))) {
        t->rec.len = start; /* the file may have a torn end: it goes when it is opened again, or now */
        if (ftruncate(t->fd, (off_t)(HEAD + start))) mm_err_prefix(err, "and cannot be cut: ");
        return mm_err_prefix(err, "'%s': ", t->path), r;
    }
    for (size_t i = 0; i < n; i++) t->slot[find(t, keys[i])] = (uint32_t)++t->n;
    return 0;
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
    if (!r && 2 * (t->n + n) > t->slots) r = index_all(t, n, err);
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

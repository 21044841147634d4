/* The file of decoded media: see dataset_int.h for its two forms. A reader maps FILE and keeps that version; a writer
 * appends to FILE.part under a lock and puts a new FILE together at the end, so that a kill at any moment costs at
 * most the entry being written. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "train/dataset_int.h"

#define ALIGN 64
#define MAGIC "MMCACHE1"

typedef struct cache_head {
    char magic[8];
    uint32_t order, entry; /* 0x01020304 in the writer's byte order; sizeof(cache_entry) */
    uint64_t n, at;        /* of the entries */
    uint32_t crc, check;   /* of the entries; of this head so far */
    uint8_t pad[24];
} cache_head;

static uint64_t align_up(uint64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
static uint32_t entry_check(const cache_entry *e) { return mm_crc32c(0, e, offsetof(cache_entry, check)); }

/* ---- reading ---- */

static int read_file(cache *c, mm_err *err)
{
    cache_head h;
    c->e = NULL;
    c->n = 0;
    if (access(c->path, F_OK)) return 0;
    int r = mm_map_open(&c->map, c->path, err);
    if (r) return r;
    const uint64_t len = c->map.len;
    if (len && (len < sizeof MAGIC - 1 || memcmp(c->map.p, MAGIC, sizeof MAGIC - 1))) {
        mm_map_close(&c->map);
        return mm_fail(err, MM_EDATA, "'%s' is no cache of decoded media: it stays as it is", c->path);
    }
    if (len >= sizeof h) memcpy(&h, c->map.p, sizeof h);
    if (len < sizeof h || memcmp(h.magic, MAGIC, 8) || h.order != 0x01020304 || h.entry != sizeof(cache_entry) ||
        h.check != mm_crc32c(0, &h, offsetof(cache_head, check)) || h.at % ALIGN || h.at > len ||
        h.n > (len - h.at) / sizeof(cache_entry) || h.crc != mm_crc32c(0, c->map.p + h.at, h.n * sizeof(cache_entry)))
        goto damaged;
    const cache_entry *e = (const cache_entry *)(const void *)(c->map.p + h.at);
    for (size_t i = 0; i < h.n; i++)
        if (e[i].at % ALIGN || e[i].at > h.at || e[i].bytes > h.at - e[i].at) goto damaged;
    c->e = e;
    c->n = h.n;
    return 0;
damaged:
    mm_map_close(&c->map);
    if (err) mm_fail(err, MM_EDATA, "'%s' is damaged or no cache of this version: it is made anew", c->path);
    return 0;
}

/* The entries of FILE.part that are whole; part_len is where they end. */
static int read_part(cache *c, mm_err *err)
{
    cache_entry e;
    c->n_fresh = 0;
    c->part_len = 0;
    mm_map_close(&c->part);
    if (access(c->part_path, F_OK)) return 0;
    int r = mm_map_open(&c->part, c->part_path, err);
    if (r) return r;
    const uint64_t len = c->part.len, head = align_up(sizeof e);
    for (uint64_t at = 0; len - at >= head; at += head + align_up(e.bytes)) {
        memcpy(&e, c->part.p + at, sizeof e);
        if (e.check != entry_check(&e) || e.at != at + head || e.bytes > len - e.at ||
            align_up(e.bytes) > len - e.at || e.crc != mm_crc32c(0, c->part.p + e.at, e.bytes))
            break;
        if ((r = dataset_room(&c->fresh, &c->cap_fresh, c->n_fresh, sizeof *c->fresh, err))) return r;
        c->fresh[c->n_fresh++] = e;
        c->part_len = at + head + align_up(e.bytes);
    }
    return 0;
}

static const cache_entry *entry(const cache *c, size_t i) { return i < c->n ? &c->e[i] : &c->fresh[i - c->n]; }

static void index_one(cache *c, size_t i)
{
    const cache_entry *e = entry(c, i);
    size_t at = e->id[0] & (c->slots - 1);
    for (; c->table[at]; at = (at + 1) & (c->slots - 1)) {
        const cache_entry *o = entry(c, c->table[at] - 1);
        if (o->id[0] == e->id[0] && o->id[1] == e->id[1]) break; /* a later one stands for the file as it is now */
    }
    c->table[at] = (uint32_t)i + 1;
}

static int make_index(cache *c, mm_err *err)
{
    size_t all = c->n + c->n_fresh, slots = 64;
    if (all >= UINT32_MAX / 4) return mm_fail(err, MM_ENOMEM, "'%s' has too many entries", c->path);
    while (slots < 2 * (all + 1)) slots *= 2;
    free(c->table);
    c->slots = slots;
    if (!(c->table = calloc(slots, sizeof *c->table))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < all; i++) index_one(c, i);
    return 0;
}

int cache_open(cache *c, const char *path, mm_err *err)
{
    *c = (cache){ .fd = -1 };
    mm_buf part = { 0 };
    mm_buf_addf(&part, "%s.part", path);
    c->path = strdup(path);
    c->part_path = part.p;
    int r = !c->path || part.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : read_file(c, err);
    if (!r) r = read_part(c, err);
    if (!r) r = make_index(c, err);
    if (r) cache_close(c);
    return r;
}

void cache_give_up(cache *c)
{
    unlink(c->part_path); /* still locked */
    close(c->fd);
    c->fd = -1;
}

void cache_close(cache *c)
{
    mm_map_close(&c->map);
    mm_map_close(&c->part);
    if (c->fd >= 0) close(c->fd);
    free(c->path), free(c->part_path), free(c->fresh), free(c->table);
    *c = (cache){ .fd = -1 };
}

const cache_entry *cache_find(const cache *c, const uint64_t id[2], uint64_t size, int64_t mtime)
{
    for (size_t at = id[0] & (c->slots - 1); c->slots && c->table[at]; at = (at + 1) & (c->slots - 1)) {
        const cache_entry *e = entry(c, c->table[at] - 1);
        if (e->id[0] == id[0] && e->id[1] == id[1]) return e->size == size && e->mtime == mtime ? e : NULL;
    }
    return NULL;
}

/* ---- writing ---- */

int cache_begin(cache *c, mm_err *err)
{
    struct stat held, named;
    for (;;) {
        c->fd = open(c->part_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (c->fd < 0) return mm_fail_errno(err, "cannot write '%s'", c->part_path);
        if (flock(c->fd, LOCK_EX | LOCK_NB)) {
            int busy = errno == EWOULDBLOCK;
            close(c->fd);
            c->fd = -1;
            return busy ? mm_fail(err, MM_ELOCK, "'%s' is being filled by another process", c->path)
                        : mm_fail_errno(err, "cannot lock '%s'", c->part_path);
        }
        /* who held it before may have finished and removed the name */
        if (!fstat(c->fd, &held) && !stat(c->part_path, &named) && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev)
            break;
        close(c->fd);
    }
    mm_map_close(&c->map);
    mm_err damage = { 0 };
    int r = read_file(c, &damage);
    if (r) mm_fail(err, r, "%s", damage.msg);
    if (!r) r = read_part(c, err);
    if (!r) r = make_index(c, err);
    if (!r && ftruncate(c->fd, (off_t)c->part_len)) r = mm_fail_errno(err, "cannot write '%s'", c->part_path);
    return r;
}

static int put_at(int fd, const void *p, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        p = (const char *)p + n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int cache_put(cache *c, cache_entry *e, const void *data, mm_err *err)
{
    static const uint8_t zero[ALIGN];
    const uint64_t head = align_up(sizeof *e), all = head + align_up(e->bytes);
    uint8_t first[(sizeof *e + ALIGN - 1) / ALIGN * ALIGN] = { 0 };
    int r = dataset_room(&c->fresh, &c->cap_fresh, c->n_fresh, sizeof *c->fresh, err);
    if (r) return r;
    e->at = c->part_len + head;
    e->crc = mm_crc32c(0, data, e->bytes);
    e->check = entry_check(e);
    memcpy(first, e, sizeof *e);
    if (put_at(c->fd, first, head, c->part_len) || put_at(c->fd, data, e->bytes, e->at) ||
        put_at(c->fd, zero, all - head - e->bytes, e->at + e->bytes)) {
        r = mm_fail_errno(err, "cannot write '%s'", c->part_path);
        if (ftruncate(c->fd, (off_t)c->part_len)) {} /* the end is torn anyway */
        return r;
    }
    c->part_len += all;
    c->fresh[c->n_fresh++] = *e;
    if (2 * (c->n + c->n_fresh) >= c->slots) return make_index(c, err);
    index_one(c, c->n + c->n_fresh - 1);
    return 0;
}

static int copy_data(mm_outfile *f, const cache *c, const cache_entry *e, int fresh, mm_err *err)
{
    const uint8_t *p = (fresh ? c->part.p : c->map.p) + e->at;
    int r = mm_outfile_write(f, p, e->bytes, err);
    if (!r) r = mm_outfile_pad(f, ALIGN, err);
    mm_map_release(fresh ? &c->part : &c->map, p, e->bytes);
    return r;
}

int cache_commit(cache *c, mm_err *err)
{
    cache_head h = { .order = 0x01020304, .entry = sizeof(cache_entry), .at = sizeof h };
    const size_t all = c->n + c->n_fresh;
    cache_entry *live = calloc(all + 1, sizeof *live);
    mm_outfile f;
    int r = live ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    mm_map_close(&c->part);
    if (!r && c->n_fresh) r = mm_map_open(&c->part, c->part_path, err);
    if (!r && c->n_fresh && c->part.len < c->part_len)
        r = mm_fail(err, MM_EIO, "'%s' was cut by somebody else", c->part_path);
    if (r) {
        free(live);
        return r;
    }
    for (size_t i = 0; i < all; i++) {
        cache_entry e = *entry(c, i);
        if (cache_find(c, e.id, e.size, e.mtime) != entry(c, i)) continue;
        e.at = h.at;
        e.check = entry_check(&e);
        h.at += align_up(e.bytes);
        live[h.n++] = e;
    }
    memcpy(h.magic, MAGIC, 8);
    h.crc = mm_crc32c(0, live, h.n * sizeof *live);
    h.check = mm_crc32c(0, &h, offsetof(cache_head, check));
    if (!(r = mm_outfile_open(&f, c->path, err))) {
        r = mm_outfile_write(&f, &h, sizeof h, err);
        for (size_t i = 0; i < all && !r; i++) {
            const cache_entry *e = entry(c, i);
            if (cache_find(c, e->id, e->size, e->mtime) == e) r = copy_data(&f, c, e, i >= c->n, err);
        }
        if (!r) r = mm_outfile_write(&f, live, h.n * sizeof *live, err);
        if (!r) r = mm_outfile_commit(&f, err);
        else mm_outfile_abort(&f);
    }
    free(live);
    if (r) return r;
    unlink(c->part_path); /* still locked: nobody fills it between the two */
    close(c->fd);
    c->fd = -1;
    mm_map_close(&c->map);
    if ((r = read_file(c, err)) || (r = read_part(c, err))) return r;
    return make_index(c, err);
}

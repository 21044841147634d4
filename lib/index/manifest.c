/* The manifest: a JSON object on the first line, its CRC-32C in hexadecimal on the second. It names everything that
 * belongs to the index; a file of the folder that it does not name is what a killed writer left behind. Bitmaps of
 * deleted rows are files of their own, written anew under a new name whenever they change. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "index/index_int.h"

#define MANIFEST "manifest"
#define MAX_MANIFEST ((size_t)16 << 20)

static const char *const type_names[] = { "f32", "f16", "i8", "b1" };

/* Names in a manifest stay inside the folder: letters, digits, '-', '.' only. */
static int good_name(const char *s, size_t max)
{
    size_t n = strlen(s);
    return n > 0 && n < max && s[0] != '.' && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n;
}

int man_parse(mm_index *ix, const char *text, size_t len, mm_err *err)
{
    const char *nl = memchr(text, '\n', len), *type, *model, *name;
    unsigned crc;
    int end = 0, r;
    char sum[16] = { 0 };
    if (!nl) return mm_fail(err, MM_EDATA, "manifest is damaged: it has no second line");
    size_t body = (size_t)(nl - text), rest = len - body - 1;
    memcpy(sum, nl + 1, rest < 15 ? rest : 15);
    if (sscanf(sum, "%8x%n", &crc, &end) != 1 || crc != mm_crc32c(0, text, body))
        return mm_fail(err, MM_EDATA, "manifest is damaged: checksum");
    json_t *j = mm_json_load(text, body, "manifest", err), *segs, *item;
    if (!j) return MM_EDATA;
    int64_t version, dim, gen, added;
    if ((r = mm_json_get_int(j, "version", 1, INT32_MAX, 0, &version, err)) ||
        (r = mm_json_get_int(j, "dim", 0, MM_INDEX_DIM_MAX, 0, &dim, err)) ||
        (r = mm_json_get_int(j, "generation", 1, INT64_MAX / 2, 1, &gen, err)) ||
        (r = mm_json_get_int(j, "added", 0, INT64_MAX / 2, 0, &added, err)) ||
        (r = mm_json_get_str(j, "type", "", &type, err)) || (r = mm_json_get_str(j, "model", "", &model, err)) ||
        (r = mm_json_get_str(j, "journal", "", &name, err)))
        goto end;
    if (version != 1)
        r = mm_fail(err, MM_EUNSUP, "the index has format %lld, this version knows 1", (long long)version);
    int t = 0;
    while (t < 4 && strcmp(type, type_names[t])) t++;
    if (!r && (t == 4 || !good_name(name, sizeof ix->log_name)))
        r = mm_fail(err, MM_EDATA, "manifest is damaged: type or journal");
    if (r) goto end;
    ix->type = (mm_index_type)t;
    ix->dim = (size_t)dim;
    ix->gen = (uint64_t)gen;
    ix->added = (uint64_t)added;
    snprintf(ix->log_name, sizeof ix->log_name, "%s", name);
    free(ix->model);
    segs = json_object_get(j, "segments");
    size_t n = json_array_size(segs);
    ix->model = strdup(model);
    ix->seg = calloc(n + 1, sizeof *ix->seg);
    if (!ix->model || !ix->seg) r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++) {
        const char *dead;
        item = json_array_get(segs, i);
        if ((r = mm_json_get_str(item, "file", "", &name, err)) ||
            (r = mm_json_get_str(item, "deleted", "", &dead, err)))
            break;
        if (!good_name(name, sizeof ix->seg->name) || (dead[0] && !good_name(dead, sizeof ix->seg->dead_name))) {
            r = mm_fail(err, MM_EDATA, "manifest is damaged: name of a segment");
            break;
        }
        snprintf(ix->seg[i].name, sizeof ix->seg[i].name, "%s", name);
        snprintf(ix->seg[i].dead_name, sizeof ix->seg[i].dead_name, "%s", dead);
        ix->n_seg++;
    }
end:
    json_decref(j);
    return r;
}

int man_read(mm_index *ix, mm_err *err)
{
    char *path = mm_path_join(ix->dir, MANIFEST);
    mm_buf b = { 0 };
    if (!path) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = access(path, F_OK) ? 1 : mm_file_read(&b, path, MAX_MANIFEST, err);
    if (!r) r = man_parse(ix, b.p, b.len, err);
    free(path);
    mm_buf_clear(&b);
    return r;
}

int man_write(mm_index *ix, mm_err *err)
{
    mm_buf b = { 0 };
    mm_buf_addf(&b, "{\"version\":1,\"type\":\"%s\",\"dim\":%zu,\"generation\":%llu,\"added\":%llu,\"model\":",
                type_names[ix->type], ix->dim, (unsigned long long)ix->gen, (unsigned long long)ix->added);
    mm_json_quote(&b, ix->model, strlen(ix->model));
    mm_buf_addf(&b, ",\"journal\":\"%s\",\"segments\":[", ix->log_name);
    for (size_t i = 0; i < ix->n_seg; i++)
        mm_buf_addf(&b, "%s{\"file\":\"%s\",\"deleted\":\"%s\"}", i ? "," : "", ix->seg[i].name,
                    ix->seg[i].dead_name);
    mm_buf_adds(&b, "]}");
    uint32_t crc = mm_crc32c(0, b.p, b.failed ? 0 : b.len);
    mm_buf_addf(&b, "\n%08x\n", crc);
    int r = b.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    int fd = r ? -1 : ix_open(ix->dir, MANIFEST ".new", O_WRONLY | O_CREAT | O_TRUNC, err);
    if (!r && fd < 0) r = fd;
    if (!r) r = ix_write(fd, b.p, b.len, MANIFEST, err);
    if (!r) r = ix_fsync(fd, ix->dir, MANIFEST ".new", err);
    if (fd >= 0 && close(fd) && !r) r = mm_fail_errno(err, "cannot close the manifest");
    if (!r) r = ix_rename(ix->dir, MANIFEST ".new", MANIFEST, err);
    mm_buf_clear(&b);
    return r;
}

/* names of ours; anything else in the folder is the user's and is left alone */
static int ours(const char *n)
{
    return !strncmp(n, "seg-", 4) || !strncmp(n, "log-", 4) || !strcmp(n, MANIFEST ".new");
}

int man_state(const char *dir)
{
    DIR *d = opendir(dir);
    int state = 1;
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *n = e->d_name;
        if (!strcmp(n, MANIFEST)) state = 0;
        else if (state && strcmp(n, ".") && strcmp(n, "..") && strcmp(n, "lock") && !ours(n)) state = 2;
    }
    if (d) closedir(d);
    return state;
}

void man_sweep(mm_index *ix)
{
    DIR *d = opendir(ix->dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        const char *n = e->d_name;
        if (!ours(n)) continue;
        int keep = !strcmp(n, ix->log_name);
        for (size_t i = 0; i < ix->n_seg; i++)
            keep |= !strcmp(n, ix->seg[i].name) || !strcmp(n, ix->seg[i].dead_name);
        if (!keep) ix_unlink(ix->dir, n);
    }
    closedir(d);
}

/* ---- bitmaps: u32 CRC-32C of the rest, u32 zero, one u64 per 64 rows ---- */

int dead_read(mm_index *ix, segment *s, mm_err *err)
{
    size_t words = (size_t)(s->h.rows / 64 + 1);
    if (!s->dead_name[0]) return 0;
    char *path = mm_path_join(ix->dir, s->dead_name);
    mm_map m = { 0 };
    int r = path ? mm_map_open(&m, path, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    free(path);
    if (r) return r;
    uint32_t crc = 0;
    if (m.len >= 8) memcpy(&crc, m.p, 4);
    if (m.len != 8 + 8 * words || crc != mm_crc32c(0, m.p + 4, m.len - 4)) {
        r = mm_fail(err, MM_EDATA, "'%s' is damaged: checksum of the deleted rows", s->dead_name);
    } else {
        memcpy(s->dead, m.p + 8, 8 * words);
        for (size_t i = 0; i < words; i++) s->n_dead += (uint64_t)__builtin_popcountll(s->dead[i]);
        if (s->n_dead > s->h.rows)
            r = mm_fail(err, MM_EDATA, "'%s' is damaged: more deleted rows than rows", s->dead_name);
    }
    mm_map_close(&m);
    return r;
}

int dead_write(mm_index *ix, segment *s, mm_err *err)
{
    size_t words = (size_t)(s->h.rows / 64 + 1);
    char name[sizeof s->dead_name];
    uint32_t *buf = malloc(8 + 8 * words);
    if (!buf) return mm_fail(err, MM_ENOMEM, "out of memory");
    snprintf(name, sizeof name, "%.30s.%llu", s->name, (unsigned long long)ix->gen);
    buf[1] = 0;
    memcpy(buf + 2, s->dead, 8 * words);
    buf[0] = mm_crc32c(0, buf + 1, 4 + 8 * words);
    int fd = ix_open(ix->dir, name, O_WRONLY | O_CREAT | O_TRUNC, err),
        r = fd < 0 ? fd : ix_write(fd, buf, 8 + 8 * words, name, err);
    if (!r) r = ix_fsync(fd, ix->dir, name, err);
    if (fd >= 0 && close(fd) && !r) r = mm_fail_errno(err, "cannot close '%s'", name);
    free(buf);
    if (!r) memcpy(s->dead_name, name, sizeof name);
    return r;
}

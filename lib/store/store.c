#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_str.h"
#include "store/store_int.h"

#define CONFIG_MAX ((size_t)64 << 20)

int mm_store_add(mm_store *st, const mm_store_tensor *t, const char *name, size_t len, mm_err *err)
{
    if (st->n == st->cap) {
        size_t cap = st->cap ? 2 * st->cap : 64;
        void *p = mm_realloc(st->t, cap, sizeof *st->t);
        if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
        st->t = p;
        st->cap = cap;
    }
    char *copy = mm_arena_strndup(&st->arena, name, len);
    if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
    st->t[st->n] = *t;
    st->t[st->n++].name = copy;
    return 0;
}

int mm_store_index(mm_store *st, mm_err *err)
{
    size_t slots = 16;
    while (slots < 2 * st->n) slots *= 2;
    uint32_t *table = calloc(slots, sizeof *table);
    if (!table || st->n > UINT32_MAX / 4) {
        free(table);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < st->n; i++) {
        const char *name = st->t[i].name;
        size_t s = mm_hash64(name, strlen(name), 0) & (slots - 1);
        for (; table[s]; s = (s + 1) & (slots - 1))
            if (!strcmp(st->t[table[s] - 1].name, name)) {
                free(table);
                return mm_fail(err, MM_EDATA, "tensor '%s' occurs twice", name);
            }
        table[s] = (uint32_t)i + 1;
    }
    free(st->table);
    st->table = table;
    st->slots = slots;
    return 0;
}

const mm_store_tensor *mm_store_find(const mm_store *st, const char *name)
{
    size_t s = mm_hash64(name, strlen(name), 0) & (st->slots - 1);
    for (; st->table && st->table[s]; s = (s + 1) & (st->slots - 1))
        if (!strcmp(st->t[st->table[s] - 1].name, name)) return &st->t[st->table[s] - 1];
    return NULL;
}

int mm_store_rename(mm_store *st, const char *(*map)(const char *, char[128], void *), void *arg, mm_err *err)
{
    for (size_t i = 0; i < st->n; i++) {
        char buf[128];
        const char *name = map(st->t[i].name, buf, arg);
        if (!name) continue;
        if (!(name = mm_arena_strndup(&st->arena, name, strlen(name))))
            return mm_fail(err, MM_ENOMEM, "out of memory");
        st->t[i].name = name;
    }
    return mm_store_index(st, err);
}

int mm_store_is_gguf(const mm_store *st) { return st->gguf; }
size_t mm_store_count(const mm_store *st) { return st->n; }
const mm_store_tensor *mm_store_at(const mm_store *st, size_t i) { return i < st->n ? &st->t[i] : NULL; }
const json_t *mm_store_config(const mm_store *st) { return st->config; }

int mm_store_no_checkpoint(const mm_store *st, mm_err *err)
{
    return json_object_get(st->meta, MM_STORE_CHECKPOINT) ?
               mm_fail(err, MM_EMODEL, "this is a checkpoint of training, no model: mm-train --resume makes one of it") : 0;
}

int mm_store_uses(const mm_store *st, const char *path)
{
    struct stat sb;
    if (stat(path, &sb)) return 0;
    for (size_t i = 0; i < st->n_parts; i++)
        if (st->parts[i].owned && st->parts[i].dev == sb.st_dev && st->parts[i].ino == sb.st_ino) return 1;
    for (size_t i = 0; i < st->n_aux; i++)
        if (st->aux[i].dev == sb.st_dev && st->aux[i].ino == sb.st_ino) return 1;
    return 0;
}

void mm_store_release(const mm_store *st, const mm_store_tensor *t)
{
    for (size_t i = 0; !t && i < st->n_parts; i++)
        if (st->parts[i].owned) mm_map_release(&st->parts[i].map, st->parts[i].map.p, st->parts[i].map.len);
    if (t && t->part < st->n_parts) mm_map_release(&st->parts[t->part].map, t->data, t->bytes);
}

void mm_store_close(mm_store **sp)
{
    mm_store *st = *sp;
    if (!st) return;
    for (size_t i = 0; i < st->n_parts; i++)
        if (st->parts[i].owned) mm_map_close(&st->parts[i].map);
    for (size_t i = 0; i < st->n_aux; i++) {
        mm_map_close(&st->aux[i].map);
        free(st->aux[i].name);
    }
    json_decref(st->config);
    json_decref(st->meta);
    mm_arena_clear(&st->arena);
    free(st->parts);
    free(st->aux);
    free(st->t);
    free(st->table);
    free(st->kv);
    free(st->dir);
    free(st);
    *sp = NULL;
}

static int add_part(mm_store *st, mm_map map, int owned, mm_err *err)
{
    mm_part *p = mm_realloc(st->parts, st->n_parts + 1, sizeof *p);
    if (!p) {
        if (owned) mm_map_close(&map);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    st->parts = p;
    p[st->n_parts++] = (mm_part){ .map = map, .owned = owned };
    return 0;
}

static int is_gguf(const uint8_t *p, size_t len) { return len >= 4 && !memcmp(p, "GGUF", 4); }

static int parse(mm_store *st, const char *name, const uint8_t *p, size_t len, mm_err *err)
{
    uint32_t n = (uint32_t)(st->n_parts - 1);
    if (len == 0) return mm_fail(err, MM_EDATA, "'%s' is empty", name);
    return is_gguf(p, len) ? mm_gguf_parse(st, name, p, len, n, err) : mm_st_parse(st, name, p, len, n, err);
}

int mm_store_parse(mm_store **out, const char *name, const void *p, size_t len, mm_err *err)
{
    mm_store *st = *out = calloc(1, sizeof *st);
    if (!st) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = add_part(st, (mm_map){ p, len }, 0, err);
    if (!r) r = parse(st, name, p, len, err);
    if (r) mm_store_close(out);
    return r;
}

static int open_file(mm_store *st, const char *path, mm_err *err)
{
    mm_map m;
    int r = mm_map_open(&m, path, err);
    if (r || (r = add_part(st, m, 1, err))) return r;
    struct stat sb;
    if (!stat(path, &sb)) st->parts[st->n_parts - 1].dev = sb.st_dev, st->parts[st->n_parts - 1].ino = sb.st_ino;
    return parse(st, path, m.p, m.len, err);
}

/* The other parts of a split GGUF: NAME-00001-of-00003.gguf names them all (split.count tells how many there
 * must be). */
static int open_split(mm_store *st, const char *path, mm_err *err)
{
    int64_t count, no, total;
    int r;
    if ((r = mm_store_kv_int(st, "split.count", 0, 99999, 0, &count, err)) ||
        (r = mm_store_kv_int(st, "split.no", 0, 99999, 0, &no, err)) ||
        (r = mm_store_kv_int(st, "split.tensors.count", 0, INT32_MAX, 0, &total, err)) || count <= 1)
        return r;
    char tail[32];
    size_t len = strlen(path), n = (size_t)snprintf(tail, sizeof tail, "-00001-of-%05d.gguf", (int)count);
    if (no != 0 || len < n || strcmp(path + len - n, tail))
        return mm_fail(err, MM_EDATA, "'%s' is part %d of %d of a split model: open the part whose name ends in '%s'",
                       path, (int)no + 1, (int)count, tail);
    char *name = malloc(len + 1);
    if (!name) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 2; i <= count && !r; i++) {
        memcpy(name, path, len + 1);
        snprintf(name + len - n, n + 1, "-%05d-of-%05d.gguf", i, (int)count);
        r = open_file(st, name, err);
    }
    free(name);
    if (!r && total && (size_t)total != st->n)
        r = mm_fail(err, MM_EDATA, "'%s': the parts hold %zu tensors, %lld are announced", path, st->n,
                    (long long)total);
    return r;
}

/* ---- folders ---- */

/* A GGUF may carry the small files of the folder it was made from, as strings. */
static int gguf_file(const mm_store *st, const char *name, const char **p, size_t *len, mm_err *err)
{
    char key[160];
    snprintf(key, sizeof key, "mm.file.%s", name);
    int r = mm_store_kv_str(st, key, NULL, p, err);
    if (r || !*p) return r ? r : 1;
    *len = strlen(*p);
    return 0;
}

int mm_store_file(const mm_store *cst, const char *name, const char **p, size_t *len, mm_err *err)
{
    mm_store *st = (mm_store *)cst; /* a cache of mappings, filled while the model is opened */
    if (!st->dir) return gguf_file(st, name, p, len, err);
    for (size_t i = 0; i < st->n_aux; i++)
        if (!strcmp(st->aux[i].name, name)) {
            *p = st->aux[i].map.p ? (const char *)st->aux[i].map.p : "";
            *len = st->aux[i].map.len;
            return 0;
        }
    if (strstr(name, "..") || name[0] == '/')
        return mm_fail(err, MM_EDATA, "file name '%s' leads out of the model's folder", name);
    char *path = mm_path_join(st->dir, name), *copy = strdup(name);
    struct aux *a = mm_realloc(st->aux, st->n_aux + 1, sizeof *a);
    int r = 0;
    if (a) st->aux = a;
    struct stat sb;
    if (!path || !copy || !a) {
        r = mm_fail(err, MM_ENOMEM, "out of memory");
    } else if (stat(path, &sb) && (errno == ENOENT || errno == ENOTDIR)) {
        r = 1;
    } else if (!(r = mm_map_open(&a[st->n_aux].map, path, err))) {
        a[st->n_aux].name = copy;
        a[st->n_aux].dev = sb.st_dev;
        a[st->n_aux].ino = sb.st_ino;
        copy = NULL;
        *p = a[st->n_aux].map.p ? (const char *)a[st->n_aux].map.p : "";
        *len = a[st->n_aux].map.len;
        st->n_aux++;
    }
    free(path);
    free(copy);
    return r;
}

static int open_in(mm_store *st, const char *name, mm_err *err)
{
    if (strchr(name, '/') || !strcmp(name, ".."))
        return mm_fail(err, MM_EDATA, "shard name '%s' leads out of the folder", name);
    char *path = mm_path_join(st->dir, name);
    int r = path ? open_file(st, path, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    free(path);
    return r;
}

/* model.safetensors.index.json: {"weight_map": {tensor: file}} */
static int open_shards(mm_store *st, const char *p, size_t len, mm_err *err)
{
    json_t *j = mm_json_load(p, len, "model.safetensors.index.json", err), *files = json_object(), *v;
    const char *k;
    int r = !j ? MM_EDATA : !files ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    json_t *map = json_object_get(j, "weight_map");
    if (!r && !json_is_object(map)) r = mm_fail(err, MM_EDATA, "model.safetensors.index.json has no weight_map");
    if (!r) {
        json_object_foreach(map, k, v)
        {
            if (!json_is_string(v))
                r = mm_fail(err, MM_EDATA, "model.safetensors.index.json: file of '%s' should be a string", k);
            else if (!json_object_get(files, json_string_value(v))) {
                json_object_set_new(files, json_string_value(v), json_true());
                r = open_in(st, json_string_value(v), err);
            }
            if (r) break;
        }
    }
    if (!r) json_object_foreach(map, k, v) if (!mm_store_find(st, k))
        {
            r = mm_fail(err, MM_EDATA, "tensor '%s' of the index is in no shard", k);
            break;
        }
    json_decref(files);
    json_decref(j);
    return r;
}

static int read_config(mm_store *st, const char *path, const char *p, size_t len, mm_err *err)
{
    if (len > CONFIG_MAX || !(st->config = mm_json_load(p, len, "config.json", err)))
        return len > CONFIG_MAX ? mm_fail(err, MM_EDATA, "'%s': config.json is too large", path)
                                : (mm_err_prefix(err, "'%s': ", path), MM_EDATA);
    return 0;
}

static int open_folder(mm_store *st, const char *path, mm_err *err)
{
    static const char *const weights[] = { "model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors" };
    const char *p;
    size_t len;
    if (!(st->dir = strdup(path))) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = mm_store_file(st, "config.json", &p, &len, err);
    if (r == 0) r = read_config(st, path, p, len, err);
    else if (r == 1 && (r = mm_store_file(st, "open_clip_config.json", &p, &len, err)) == 1)
        return mm_fail(err, MM_EDATA, "'%s' is no model folder: there is no config.json", path);
    if (r < 0) return r;
    if ((r = mm_store_file(st, "model.safetensors.index.json", &p, &len, err)) < 0) return r;
    if (r == 0) return (r = open_shards(st, p, len, err)) ? mm_err_prefix(err, "'%s': ", path), r : 0;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        if ((r = mm_store_file(st, weights[i], &p, &len, err)) < 0) return r;
        if (r == 0) return open_in(st, weights[i], err);
    }
    static const char *const pickles[] = { "pytorch_model.bin", "open_clip_pytorch_model.bin", "imagebind_huge.pth" };
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++)
        if (mm_store_file(st, pickles[i], &p, &len, err) == 0)
            return mm_fail(err, MM_EUNSUP, "'%s' has its weights only as %s, a Python pickle, which is not read: convert it to model.safetensors",
                           path, pickles[i]);
    return mm_fail(err, MM_EDATA, "'%s' has no model.safetensors", path);
}

static int open_builtin(mm_store *st, mm_err *err)
{
    size_t len;
    const void *p = mm_store_builtin(&len);
    if (!p) return mm_fail(err, MM_EIO, "this build has no default model");
    int r = add_part(st, (mm_map){ p, len }, 0, err);
    return r ? r : parse(st, MM_STORE_DEFAULT, p, len, err);
}

int mm_store_open(mm_store **out, const char *path, mm_err *err)
{
    struct stat sb;
    int own = !strcmp(path, MM_STORE_DEFAULT);
    *out = NULL;
    if (!own && stat(path, &sb)) return mm_fail_errno(err, "cannot open '%s'", path);
    mm_store *st = calloc(1, sizeof *st);
    if (!st) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = own ? open_builtin(st, err) : S_ISDIR(sb.st_mode) ? open_folder(st, path, err) : open_file(st, path, err);
    if (!r && st->gguf) {
        const char *p;
        size_t len;
        r = open_split(st, path, err);
        if (!r && (r = mm_store_file(st, "config.json", &p, &len, err)) == 0) r = read_config(st, path, p, len, err);
        else if (r == 1) r = 0;
    }
    if (r) mm_store_close(&st);
    *out = st;
    return r;
}

/* ---- names ---- */

static int try(char **out, const char *dir, size_t len, const char *name, mm_buf *tried)
{
    static const char *const ends[] = { "", ".gguf" };
    for (int i = 0; i < 2; i++) {
        mm_buf b = { 0 };
        struct stat sb;
        mm_buf_add(&b, dir, len);
        mm_buf_addf(&b, "%s%s%s", len && dir[len - 1] != '/' ? "/" : "", name, ends[i]);
        if (!b.failed && !stat(b.p, &sb)) return *out = b.p, 1;
        mm_buf_clear(&b);
    }
    if (tried->len) mm_buf_adds(tried, ", ");
    mm_buf_add(tried, dir, len);
    return 0;
}

const char *mm_store_default_name(void)
{
    const char *name = getenv("MM_MODEL");
    return name && name[0] ? name : MM_STORE_DEFAULT;
}

int mm_store_resolve(char **out, const char *name, mm_err *err)
{
    struct stat sb;
    size_t len;
    *out = NULL;
    if (!name) name = mm_store_default_name();
    if (!name[0]) return mm_fail(err, MM_EARG, "the model's name is empty");
    int own = !strcmp(name, MM_STORE_DEFAULT);
    if (!own && !stat(name, &sb)) return (*out = strdup(name)) ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    if (strchr(name, '/')) return mm_fail_errno(err, "cannot open model '%s'", name);
    const char *path = getenv("MM_MODEL_PATH"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    mm_buf dirs = { 0 }, tried = { 0 };
    if (path && path[0]) mm_buf_adds(&dirs, path);
    else if (data && data[0])
        mm_buf_addf(&dirs, "%s/mm/models:/usr/local/share/mm/models:/usr/share/mm/models", data);
    else
        mm_buf_addf(&dirs, "%s/.local/share/mm/models:/usr/local/share/mm/models:/usr/share/mm/models",
                    home ? home : "");
    for (const char *p = dirs.p, *end; p && !*out; p = *end ? end + 1 : NULL) {
        end = p + strcspn(p, ":");
        if (end > p) try(out, p, (size_t)(end - p), name, &tried);
    }
    int r = 0;
    if (!*out && own && mm_store_builtin(&len)) *out = strdup(name), r = *out ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    else if (!*out && own)
        r = mm_fail(err, MM_EIO, "this build has no default model, and none of that name is in %s: name one with -m or MM_MODEL",
                    tried.p ? tried.p : "MM_MODEL_PATH");
    else if (!*out)
        r = mm_fail(err, MM_EIO, "there is no model '%s' (searched %s; MM_MODEL_PATH says where; scripts/get-model fetches known ones)", name,
                    tried.p ? tried.p : "nothing");
    mm_buf_clear(&dirs);
    mm_buf_clear(&tried);
    return r;
}

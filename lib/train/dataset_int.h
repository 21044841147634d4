/* dataset_int.h - the parts of a data set: manifests (manifest.c), the file of decoded media (cache.c), what decodes them (fill.c). */
#ifndef MM_DATASET_INT_H
#define MM_DATASET_INT_H

#include "base/mm_file.h"
#include "base/mm_mem.h"
#include "train/mm_dataset.h"

/* ---- the cache ----
 * FILE, never changed, only replaced:  head, then the data of the entries (each on a multiple of 64), then the entries.
 * FILE.part, while a run fills it:     entry, data, entry, data ... ; a torn or damaged end is cut off. */

enum { ENTRY_TRACK = 1, ENTRY_TRUNCATED = 2 }; /* flags: the video has sound */

typedef struct cache_entry {
    uint64_t id[2]; /* of path (or bytes), kind and preprocessing */
    uint64_t size;  /* of the file */
    int64_t mtime;  /* nanoseconds */
    uint64_t at, bytes;
    uint32_t crc; /* of the data */
    uint32_t kind, flags;
    int32_t n, width, height;
    float seconds, duplicates;
    mm_image_quality image;
    mm_sound_quality sound;
    uint32_t check; /* CRC-32C of all that is above */
} cache_entry;

typedef struct cache {
    char *path, *part_path;
    mm_map map, part; /* part: what was read of FILE.part */
    const cache_entry *e;
    size_t n;
    cache_entry *fresh; /* in FILE.part */
    size_t n_fresh, cap_fresh;
    uint64_t part_len;
    uint32_t *table; /* numbers + 1 of entries, those of FILE first; by id */
    size_t slots;
    int fd; /* FILE.part, locked; -1 */
} cache;

/* Reads what is there, of either file; a damaged FILE counts as empty: then r is 0 and err->code is not. */
int cache_open(cache *c, const char *path, mm_err *err);
/* After cache_begin(), where nothing came of it: what was found stays. */
void cache_give_up(cache *c);
void cache_close(cache *c);
/* NULL if there is none of this id, size and time. */
const cache_entry *cache_find(const cache *c, const uint64_t id[2], uint64_t size, int64_t mtime);
/* Lock FILE.part for writing and look at both files again: MM_ELOCK if another process has it. */
int cache_begin(cache *c, mm_err *err);
int cache_put(cache *c, cache_entry *e, const void *data, mm_err *err);
/* FILE anew, of all entries but those whose file has changed since; FILE.part goes away. Entries found before are invalid. */
int cache_commit(cache *c, mm_err *err);
static inline const uint8_t *cache_data(const cache *c, const cache_entry *e) { return c->map.p + e->at; }

/* ---- the data set ---- */

typedef struct request { /* a medium that examples name */
    uint64_t id[2], size;
    int64_t mtime;
    unsigned kind;
    const char *path; /* NULL: the bytes */
    void *data;       /* owned */
    size_t len;
    const char *manifest; /* where it is named first */
    uint32_t line;
    int listed;    /* to be decoded */
    int32_t track; /* request of the video's sound, -1 */
    const cache_entry *e;
} request;

typedef struct mm_set {
    char *name, *manifest;
} mm_set;

struct mm_dataset {
    mm_dataset_opts opts;
    mm_prep prep;
    uint64_t prep_id[MM_MODALITIES];
    char *cache_path;
    cache cache;
    int loaded;
    mm_arena names; /* strings */
    mm_set *set;
    mm_example *example;
    mm_caption *caption;
    const char **lang;
    request *request;
    mm_item *item; /* [n_request] once loaded */
    size_t n_set, cap_set, n_example, cap_example, n_caption, cap_caption, n_lang, cap_lang, n_request, cap_request;
    uint32_t *request_table;
    size_t request_slots;
    size_t bad, bad_media, decoded;
};

/* Room for one more of an array; 0 or MM_ENOMEM. */
int dataset_room(void *array, size_t *cap, size_t n, size_t size, mm_err *err);
/* Number of the request for this medium, made if it is new; r's strings are borrowed, its data is taken over (also on failure). */
int dataset_request(mm_dataset *d, request *r, uint32_t *number, mm_err *err);
/* To the caller's `bad`; with `strict` the code, else 0. */
int dataset_bad(const mm_dataset *d, int code, const char *message, mm_err *err);
/* Identity of a medium: its path (or bytes), what it is read as, and how. */
void dataset_id(uint64_t id[2], const mm_dataset *d, unsigned kind, const void *name, size_t len, int by_bytes);

int dataset_read_manifest(mm_dataset *d, const char *path, mm_err *err); /* manifest.c */
int dataset_fill(mm_dataset *d, mm_err *err);                           /* fill.c: as mm_dataset_load() */
uint64_t prep_id(const mm_prep *p, int modality);                       /* prep.c */

#endif

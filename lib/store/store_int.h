/* store_int.h - inside lib/store. */
#ifndef MM_STORE_INT_H
#define MM_STORE_INT_H

#include <sys/types.h>
#include "base/mm_mem.h"
#include "store/mm_store.h"

/* GGUF value types, by the specification's numbers */
enum { KV_U8, KV_I8, KV_U16, KV_I16, KV_U32, KV_I32, KV_F32, KV_BOOL, KV_STR, KV_ARR,
       KV_U64, KV_I64, KV_F64, KV_TYPES };

typedef struct kv {
    const char *key;   /* NUL-terminated, in the arena */
    int type;          /* KV_*; an array's element type is elem */
    int elem;
    uint64_t n;        /* elements of an array */
    const uint8_t *p;  /* the value's bytes in the file; of a string, its characters */
    size_t len;        /* of p */
    const char *str;   /* a string's copy with a NUL; NULL if it has a NUL inside */
    const void *array; /* decoded once, when first asked for: see gguf.c */
} kv;

typedef struct mm_part { /* a mapped file */
    mm_map map;
    int owned; /* unmap it */
    dev_t dev; /* which file this is, for mm_store_uses; 0, 0: memory */
    ino_t ino;
} mm_part;

struct mm_store {
    mm_arena arena;
    char *dir; /* of a folder */
    mm_part *parts;
    size_t n_parts;
    mm_store_tensor *t;
    size_t n, cap;
    uint32_t *table; /* hash of names -> index + 1; a power of two of slots */
    size_t slots;
    kv *kv; /* GGUF */
    size_t n_kv, cap_kv;
    int gguf;
    json_t *config;
    json_t *meta; /* safetensors' __metadata__ */
    struct aux {  /* files of the folder asked for */
        char *name;
        mm_map map;
        dev_t dev;
        ino_t ino;
    } *aux;
    size_t n_aux;
};

/* Add a tensor (name copied). MM_ENOMEM. */
int mm_store_add(mm_store *st, const mm_store_tensor *t, const char *name, size_t len, mm_err *err);
/* Build the name table; MM_EDATA on a name that occurs twice. */
int mm_store_index(mm_store *st, mm_err *err);
/* Parse one image into st. `part` is the number of its mapping. */
int mm_st_parse(mm_store *st, const char *name, const uint8_t *p, size_t len, uint32_t part, mm_err *err);
int mm_gguf_parse(mm_store *st, const char *name, const uint8_t *p, size_t len, uint32_t part, mm_err *err);
const kv *mm_gguf_find(const mm_store *st, const char *key);

/* little-endian loads; all machines this runs on are little-endian, files may be unaligned */
static inline uint64_t le64(const uint8_t *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}
static inline uint32_t le32(const uint8_t *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}

#endif

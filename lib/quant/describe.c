/* What goes in front of the tensors: keys, names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "quant/quant_int.h"

/* The last part of a path without an extension; "" for "." and the like. */
static void base_name(const char *path, char out[128])
{
    size_t len = strlen(path), n;
    while (len > 1 && path[len - 1] == '/') len--;
    for (n = len; n > 0 && path[n - 1] != '/'; n--) {}
    path += n;
    len -= n;
    if (len > 12 && !memcmp(path + len - 12, ".safetensors", 12)) len -= 12;
    if (len && path[0] == '.') len = 0;
    if (len > 80) len = 80;
    len = mm_utf8_valid(path, len);
    snprintf(out, 128, "%.*s", (int)len, path);
}

static int all_tensors(job *j)
{
    for (size_t i = 0; i < mm_store_count(j->st); i++) {
        j->out[j->n].t = mm_store_at(j->st, i);
        j->out[j->n].name = j->out[j->n].t->name;
        j->n++;
    }
    return 0;
}

/* keys of the container and of the types, which the writer sets anew */
static int skip_key(const char *key)
{
    return !strcmp(key, "general.file_type") || !strcmp(key, "general.quantization_version") || !strcmp(key, "general.alignment") ||
           !strncmp(key, "split.", 6);
}

static int from_gguf(job *j, mm_err *err)
{
    const char *arch;
    int r = mm_store_kv_str(j->st, "general.architecture", "", &arch, err);
    if (r) return r;
    snprintf(j->arch, sizeof j->arch, "%s", arch);
    mm_gguf_kv_copy(j->w, j->st, skip_key);
    j->family = 1;
    return all_tensors(j);
}

/* A single file says nothing about a model: its tensors keep their names. */
static int from_tensors(job *j, const char *in)
{
    char name[128];
    base_name(in, name);
    strcpy(j->arch, "mm-tensors");
    mm_gguf_kv_str(j->w, "general.architecture", j->arch);
    if (name[0]) mm_gguf_kv_str(j->w, "general.name", name);
    return all_tensors(j);
}

int describe(job *j, const char *in, mm_err *err)
{
    if (mm_store_is_gguf(j->st)) return from_gguf(j, err);
    if (!mm_store_config(j->st)) return from_tensors(j, in);
    return mm_fail(err, MM_EUNSUP, "folders not yet");
}

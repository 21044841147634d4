/* index_use.h - what the fuzz targets of an index do: put it into a folder in memory, open it, ask every question. */
#ifndef INDEX_USE_H
#define INDEX_USE_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "index/index_int.h"

static char dir[64];

static void fuzz_clean(void)
{
    static const char *const names[] = { "manifest", "log-1", "seg-2" };
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static const char *fuzz_dir(void)
{
    if (dir[0]) return dir;
    snprintf(dir, sizeof dir, "%s/mm-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir) || atexit(fuzz_clean)) abort();
    return dir;
}

static void fuzz_put(const char *name, const void *p, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_dir(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) abort();
}

/* A manifest with a good checksum. */
static void fuzz_manifest(const char *json, size_t n)
{
    mm_buf b = { 0 };
    mm_buf_add(&b, json, n);
    mm_buf_addf(&b, "\n%08x\n", mm_crc32c(0, json, n));
    fuzz_put("manifest", b.p, b.len);
    mm_buf_clear(&b);
}

static void fuzz_use(mm_index *ix)
{
    mm_index_info info;
    mm_index_hit hit[3];
    size_t count;
    uint64_t row;
    mm_slice id, doc;
    char what[MM_INDEX_MODALITY];
    mm_index_get_info(ix, &info);
    if (info.records > info.rows) abort();
    float *v = calloc(info.dim + 1, sizeof *v);
    if (!v) return;
    volatile unsigned sum = 0; /* what is read must be read */
    for (uint64_t r = 0; r < info.rows && r < 100; r++) {
        mm_index_record(ix, r, &id, &doc);
        for (size_t i = 0; i < id.len; i++) sum += (unsigned)id.p[i];
        for (size_t i = 0; i < doc.len; i++) sum += (unsigned)doc.p[i];
        mm_index_modality(doc.p, doc.len, what);
        if (mm_index_find(ix, id.p, id.len, &row)) sum += (unsigned)mm_index_live(ix, row);
        mm_index_vector(ix, r, v);
        sum += v[0] > 0;
    }
    (void)sum;
    memset(v, 0, (info.dim + 1) * sizeof *v);
    v[0] = 1;
    mm_index_query how = { .k = 3, .threads = 1 };
    for (; how.center < 2 && info.dim; how.center++)
        if (!mm_index_search(ix, v, 1, info.dim, &how, hit, &count, NULL) && count > 3) abort();
    free(v);
    mm_err err;
    if (mm_index_verify(ix, NULL, NULL, &err) < 0) abort();
}

static void fuzz_open(void)
{
    mm_index *ix;
    mm_err err = { 0 };
    if (!mm_index_open(&ix, fuzz_dir(), MM_INDEX_READ, NULL, &err)) fuzz_use(ix);
    else if (ix || !err.code || !err.msg[0]) abort();
    if (mm_index_close(&ix, NULL)) abort();
}
#endif

/* The index: what it answers, what it refuses, and what is left of it when the machine stops at any step or bytes go
 * bad. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "index/index_int.h"
#include "tap.h"

static char top[256], dir[300], disk[300]; /* scratch; the index; what of it is on the platter */

static const char *in(const char *d, const char *name)
{
    static char path[4][700];
    static int n;
    n = (n + 1) % 4;
    snprintf(path[n], sizeof path[n], "%s/%s", d, name);
    return path[n];
}

static void empty(const char *d)
{
    DIR *h = opendir(d);
    for (struct dirent *e; h && (e = readdir(h));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlink(in(d, e->d_name));
    if (h) closedir(h);
    rmdir(d);
}

static mm_buf read_all(const char *path)
{
    mm_buf b = { 0 };
    if (mm_file_read(&b, path, SIZE_MAX / 4, NULL)) b.len = 0;
    return b;
}

static void write_all(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) exit(99);
}

static void copy(const char *from, const char *to)
{
    mm_buf b = read_all(from);
    write_all(to, b.p ? b.p : "", b.len);
    mm_buf_clear(&b);
}

/* ---- a history: what is done to the index, and what must be in it after each part of it ---- */

enum { DIM = 5, IDS = 24, OPS = 120 };
typedef enum { ADD, DEL, SYNC, COMPACT, REOPEN } kind;
static struct {
    kind kind;
    int id;
} op[OPS];
static int state[OPS + 1][IDS]; /* after n operations: number of the operation that added the id, or -1 */

static uint64_t seed = 42;
static unsigned rnd(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static void make_history(void)
{
    for (int i = 0; i < IDS; i++) state[0][i] = -1;
    for (int i = 0; i < OPS; i++) {
        unsigned x = rnd(20);
        op[i].kind = x < 12 ? ADD : x < 15 ? DEL : x < 18 ? SYNC : x < 19 ? COMPACT : REOPEN;
        op[i].id = (int)rnd(IDS);
        memcpy(state[i + 1], state[i], sizeof *state);
        if (op[i].kind == ADD) state[i + 1][op[i].id] = i;
        if (op[i].kind == DEL) state[i + 1][op[i].id] = -1;
    }
}

static size_t content(int id, int n, char *name, char *doc, float *vec)
{
    for (int k = 0; k < DIM; k++) vec[k] = (float)((id * 31 + n * 7 + k * 13) % 17) - 8.5f;
    snprintf(name, 32, "id-%d", id);
    return (size_t)snprintf(doc, 32, "{\"n\":%d}", n);
}

/* Does the index hold what the history had made after n operations? */
static int holds(const mm_index *ix, int n)
{
    int live = 0;
    char name[32], doc[32];
    float want[DIM], got[DIM];
    for (int id = 0; id < IDS; id++) {
        int by = state[n][id];
        uint64_t row;
        mm_slice i, d;
        size_t len = content(id, by, name, doc, want);
        if (mm_index_find(ix, name, strlen(name), &row) != (by >= 0)) return 0;
        if (by < 0) continue;
        live++;
        mm_index_record(ix, row, &i, &d);
        mm_index_vector(ix, row, got);
        double dot = 0, norm = 0;
        for (int k = 0; k < DIM; k++) dot += got[k] * want[k], norm += want[k] * want[k];
        if (!mm_index_live(ix, row) || d.len != len || memcmp(d.p, doc, len) || fabs(dot / sqrt(norm) - 1) > 1e-6)
            return 0;
    }
    mm_index_info info;
    mm_index_get_info(ix, &info);
    return info.records == (uint64_t)live;
}

/* Run the history until something fails: *safe operations were acknowledged, *begun were begun. */
static void run_history(mm_index_type type, int *safe, int *begun)
{
    mm_index_opts o = { type, 0 };
    mm_index *ix;
    char name[32], doc[32];
    float vec[DIM];
    *safe = *begun = 0;
    if (mm_index_open(&ix, dir, MM_INDEX_WRITE, &o, NULL)) return;
    for (int i = 0, r = 0; i < OPS; i++) {
        size_t len = content(op[i].id, i, name, doc, vec);
        *begun = i + 1;
        switch (op[i].kind) {
        case ADD: r = mm_index_add(ix, name, strlen(name), vec, DIM, doc, len, NULL); break;
        case DEL: r = mm_index_delete(ix, name, strlen(name), NULL); break;
        case SYNC: r = mm_index_sync(ix, NULL); break;
        case COMPACT: r = mm_index_compact(ix, NULL); break;
        case REOPEN:
            if ((r = mm_index_close(&ix, NULL))) return;
            r = mm_index_open(&ix, dir, MM_INDEX_WRITE, &o, NULL);
        }
        if (r >= 0 && op[i].kind >= SYNC) *safe = i + 1;
        if (r < 0) break;
    }
    int all = *begun == OPS && ix;
    if (ix && !mm_index_close(&ix, NULL) && all) *safe = OPS;
}

/* ---- the disk after a power cut: contents as of the last sync of each file, names as of the last sync of the folder
 * ---- */

static void remember(ix_step step, const char *d, const char *name, const char *to)
{
    char shadow[80], was[80];
    if (strcmp(d, dir)) return; /* the parent */
    if (step != IX_DIR_SYNCED) snprintf(was, sizeof was, "+%s", name);
    switch (step) {
    case IX_SYNCED: copy(in(d, name), in(disk, access(in(disk, name), F_OK) ? was : name)); break;
    case IX_RENAMED:
        snprintf(shadow, sizeof shadow, "+%s", to);
        if (rename(in(disk, was), in(disk, shadow))) exit(98);
        break;
    case IX_UNLINKED: unlink(in(disk, name)); break;
    case IX_DIR_SYNCED: {
        struct dirent **list;
        int n = scandir(disk, &list, NULL, NULL);
        for (int i = 0; i < n; i++) {
            if (list[i]->d_name[0] == '+' && rename(in(disk, list[i]->d_name), in(disk, list[i]->d_name + 1)))
                exit(97);
            free(list[i]);
        }
        free(list);
    }
    }
}

/* Pages of a file reach the disk in any order: what was appended after the last sync is there, but for its first
 * bytes. */
static void scramble(void)
{
    struct dirent **list;
    int n = scandir(disk, &list, NULL, NULL);
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (!strncmp(name, "log-", 4)) {
            mm_buf now = read_all(in(dir, name)), then = read_all(in(disk, name));
            if (now.len > then.len) {
                size_t gap = now.len - then.len < 40 ? now.len - then.len : 40;
                memset(now.p + then.len, 0, gap);
                write_all(in(disk, name), now.p, now.len);
            }
            mm_buf_clear(&now);
            mm_buf_clear(&then);
        }
        free(list[i]);
    }
    free(list);
}

/* Names that never reached the platter. */
static void forget(void)
{
    DIR *h = opendir(disk);
    for (struct dirent *e; h && (e = readdir(h));)
        if (e->d_name[0] == '+') unlink(in(disk, e->d_name));
    if (h) closedir(h);
}

/* Opens for reading and for writing, holds some state the crash allows, has no damage, and goes on working. */
static int recovers(const char *d, int safe, int begun)
{
    mm_index *ix;
    mm_err err = { 0 };
    float vec[DIM] = { 1, 2, 3, 4, 5 };
    uint64_t row;
    int r = mm_index_open(&ix, d, MM_INDEX_READ, NULL, &err), found = -1;
    if (r && safe) return printf("# reading: %s\n", err.msg), 0;
    for (int n = safe; !r && n <= begun && found < 0; n++)
        if (holds(ix, n)) found = n;
    if (!r) r = mm_index_verify(ix, NULL, NULL, &err);
    if (r > 0 || mm_index_close(&ix, NULL)) return printf("# damage\n"), 0;
    if (!r && found < 0) return printf("# holds no state between %d and %d\n", safe, begun), 0;
    if (mm_index_open(&ix, d, MM_INDEX_WRITE, NULL, &err)) return printf("# writing: %s\n", err.msg), 0;
    if (found >= 0 && !holds(ix, found)) return printf("# a writer sees something else than a reader\n"), 0;
    if (mm_index_add(ix, "later", 5, vec, DIM, "{}", 2, &err) || mm_index_close(&ix, &err))
        return printf("# adding: %s\n", err.msg), 0;
    if (mm_index_open(&ix, d, MM_INDEX_WRITE, NULL, &err) || !mm_index_find(ix, "later", 5, &row))
        return printf("# not added\n"), 0;
    if (mm_index_compact(ix, &err) || mm_index_delete(ix, "later", 5, &err) != 1)
        return printf("# compacting: %s\n", err.msg), 0;
    int good = (found < 0 || holds(ix, found)) && mm_index_verify(ix, NULL, NULL, &err) == 0;
    return !mm_index_close(&ix, &err) && good;
}

/* mode 0: the process is killed (or the disk full) at step n; 1, 2: the power fails there */
static void crash_everywhere(mm_index_type type, int mode, const char *what)
{
    int good = 1, safe = 0, begun = 0;
    long n = 1;
    for (; good && n < 5000; n++) {
        empty(dir);
        empty(disk);
        mkdir(disk, 0777);
        ix_hook = mode ? remember : NULL;
        ix_fault = n;
        run_history(type, &safe, &begun);
        int through = ix_fault > 1;
        ix_fault = 0;
        ix_hook = NULL;
        if (mode == 2) scramble();
        if (mode) forget();
        if (!recovers(mode ? disk : dir, safe, begun)) good = 0, printf("# at step %ld\n", n);
        if (through) break;
    }
    ok(good && n > 100 && safe == OPS, "%s at any of %ld steps", what, n);
}

/* ---- damage: one bit in any byte of any file is reported, or does no harm ---- */

static void flip_everywhere(mm_index_type type)
{
    int safe, begun, good = 1, tried = 0, told = 0;
    empty(dir);
    run_history(type, &safe, &begun);
    struct dirent **list;
    int n = scandir(dir, &list, NULL, NULL);
    for (int i = 0; i < n; i++) {
        const char *path = in(dir, list[i]->d_name);
        mm_buf b = list[i]->d_name[0] == '.' ? (mm_buf){ 0 } : read_all(path);
        for (size_t at = 0; at < b.len; at++, tried++) {
            mm_index *ix;
            b.p[at] ^= (char)(1 << at % 8);
            write_all(in(dir, list[i]->d_name), b.p, b.len);
            int r = mm_index_open(&ix, dir, MM_INDEX_READ, NULL, NULL);
            if (!r && mm_index_verify(ix, NULL, NULL, NULL)) r = 1;
            if (!r && !holds(ix, OPS)) good = 0, printf("# %s, byte %zu: not told\n", list[i]->d_name, at);
            told += r != 0;
            if (ix && mm_index_close(&ix, NULL)) good = 0;
            b.p[at] ^= (char)(1 << at % 8);
        }
        if (b.len) write_all(in(dir, list[i]->d_name), b.p, b.len);
        mm_buf_clear(&b);
        free(list[i]);
    }
    free(list);
    ok(good && told > tried / 2, "a bit wrong in any of %d bytes: told in %d, harmless in the others", tried, told);
}

/* ---- what it answers and refuses ---- */

static void test_search(mm_index_type type)
{
    enum { N = 500, D = 33, K = 7 };
    static float base[N][D];
    static const char *const names[] = { "f32", "f16", "i8", "b1" };
    mm_index *ix;
    mm_index_opts o = { type, 0 };
    mm_index_hit hits[3 * K];
    size_t count[3];
    int good = 1, same = 0;
    empty(dir);
    if (!ok(!mm_index_open(&ix, dir, MM_INDEX_WRITE, &o, NULL), "%s: created", names[type])) return;
    for (int i = 0; i < N; i++) {
        char id[16];
        for (int d = 0; d < D; d++) base[i][d] = (float)rnd(2001) / 1000 - 1;
        if (i == 400) memcpy(base[i], base[3], sizeof base[i]); /* a tie */
        snprintf(id, sizeof id, "%d", i);
        good &= !mm_index_add(ix, id, strlen(id), base[i], D, "{}", 2, NULL);
        if (i == 150 || i == 300) good &= !mm_index_sync(ix, NULL) && !ix_merge(ix, ix->n_seg, NULL);
    }
    good &= !mm_index_sync(ix, NULL);
    mm_index_query how = { .k = K, .threads = 1 };
    mm_index_info info;
    mm_index_get_info(ix, &info);
    ok(good && info.segments == 2 && info.journal == 199 && info.records == N && info.added == N,
       "%s: two segments and a journal", names[type]);
    float q[3][D];
    memcpy(q[0], base[3], sizeof q[0]);
    memcpy(q[1], base[200], sizeof q[1]);
    memcpy(q[2], base[450], sizeof q[2]);
    for (int d = 0; d < D; d++) q[1][d] *= 1e-25f, q[2][d] *= 1e25f; /* length does not matter */
    ok(!mm_index_search(ix, q[0], 3, D, &how, hits, count, NULL) && count[0] == K && hits[0].row == 3 &&
           hits[1].row == 400 && hits[K].row == 200 && hits[2 * K].row == 450 && fabsf(hits[2 * K].score - 1) < 1e-3f,
       "%s: nearest, ties in order of insertion", names[type]);
    for (size_t k = 0; k < K; k++) { /* the k-th best by the definition */
        double best = -2;
        int at = -1;
        for (int i = 0; i < N; i++) {
            double dot = 0, a = 0, b = 0;
            for (int d = 0; d < D; d++)
                dot += base[i][d] * q[2][d], a += base[i][d] * base[i][d], b += (double)q[2][d] * q[2][d];
            int had = 0;
            for (size_t j = 0; j < k; j++) had |= hits[2 * K + j].row == (uint64_t)i;
            if (!had && dot / sqrt(a * b) > best) best = dot / sqrt(a * b), at = i;
        }
        same += hits[2 * K + k].row == (uint64_t)at;
    }
    ok(same == K, "%s: the best %d are the best", names[type], K);
    uint64_t skip[N / 64 + 1] = { 0 };
    for (int i = 0; i < N; i++)
        if (i % 2) skip[i / 64] |= (uint64_t)1 << i % 64;
    how.skip = skip;
    ok(!mm_index_search(ix, q[0], 3, D, &how, hits, count, NULL) && hits[0].row == 400 && hits[K].row == 200 &&
           hits[1].row % 2 == 0,
       "%s: rows left out", names[type]);
    how = (mm_index_query){ .k = 2 * N, .threads = 2, .rescore = 2 * N };
    mm_index_hit *all = calloc(2 * N, sizeof *all);
    ok(!mm_index_search(ix, q[0], 1, D, &how, all, count, NULL) && count[0] == N, "%s: more asked for than there is",
       names[type]);
    free(all);
    ok(!mm_index_close(&ix, NULL) && !ix, "%s: closed", names[type]);
}

static void test_refusals(void)
{
    mm_index *ix, *second;
    mm_index_hit hit[2];
    size_t count;
    float v[3] = { 1, 2, 3 }, zero[3] = { 0 }, nan[3] = { 1, NAN, 1 }, inf[3] = { 1, INFINITY, 1 },
          tiny[3] = { 1e-42f, 0, 0 };
    mm_index_query how = { .k = 2, .threads = 1 };
    mm_err err;
    empty(dir);
    ok(mm_index_open(&ix, dir, MM_INDEX_READ, NULL, &err) == MM_EIO && !ix, "reading what is not there");
    ok(!mm_index_open(&ix, dir, MM_INDEX_WRITE, NULL, NULL), "writing makes it");
    ok(mm_index_open(&second, dir, MM_INDEX_WRITE, NULL, NULL) == MM_ELOCK && !second, "a second writer is refused");
    ok(!mm_index_search(ix, v, 1, 3, &how, hit, &count, NULL) && count == 0, "an empty index has no hits");
    ok(mm_index_add(ix, "z", 1, zero, 3, "{}", 2, NULL) == MM_EEMPTY &&
           mm_index_add(ix, "n", 1, nan, 3, "{}", 2, NULL) == MM_EDATA &&
           mm_index_add(ix, "i", 1, inf, 3, "{}", 2, NULL) == MM_EDATA,
       "zero, NaN, infinity");
    ok(!mm_index_add(ix, "t", 1, tiny, 3, "{}", 2, NULL) && !mm_index_add(ix, "v", 1, v, 3, "{}", 2, NULL),
       "a denormal has a direction");
    ok(mm_index_add(ix, "w", 1, v, 2, "{}", 2, NULL) == MM_ESHAPE, "another dim");
    char *id = calloc(1, 70000);
    ok(mm_index_add(ix, id, 65536, v, 3, "{}", 2, NULL) == MM_EDATA &&
           !mm_index_add(ix, id, 65535, v, 3, "{}", 2, NULL),
       "an id too long");
    free(id);
    ok(mm_index_search(ix, zero, 1, 3, &how, hit, &count, NULL) == MM_EEMPTY &&
           mm_index_search(ix, nan, 1, 3, &how, hit, &count, NULL) == MM_EDATA &&
           mm_index_search(ix, v, 1, 2, &how, hit, &count, NULL) == MM_ESHAPE,
       "queries: zero, NaN, another dim");
    ok(mm_index_delete(ix, "nobody", 6, NULL) == 0 && mm_index_delete(ix, "v", 1, NULL) == 1 &&
           mm_index_delete(ix, "v", 1, NULL) == 0,
       "deleting");
    ok(!mm_index_set_model(ix, "m@1", NULL) && mm_index_set_model(ix, "m@2", NULL) == MM_EARG, "a model is set once");
    ok(!mm_index_close(&ix, NULL) && !mm_index_open(&ix, dir, MM_INDEX_READ, NULL, NULL), "reopened");
    is_str(mm_index_model(ix), "m@1", "the model is kept");
    mm_index_info info;
    mm_index_get_info(ix, &info);
    ok(info.added == 3 && info.rows == 3 && info.records == 2 && info.dim == 3, "and what was counted");
    ok(mm_index_add(ix, "a", 1, v, 3, "{}", 2, NULL) == MM_EARG && mm_index_sync(ix, NULL) == MM_EARG,
       "a reader does not write");
    ok(!mm_index_close(&ix, NULL), "closed");
    /* emptied and compacted, it is as new */
    ok(!mm_index_open(&ix, dir, MM_INDEX_WRITE, NULL, NULL) && mm_index_delete(ix, "t", 1, NULL) == 1, "open again");
    char *big = calloc(1, 65535);
    ok(mm_index_delete(ix, big, 65535, NULL) == 1 && !mm_index_compact(ix, NULL) &&
           !mm_index_add(ix, "w", 1, v, 2, "{}", 2, NULL) && !mm_index_set_model(ix, "other@1", NULL) &&
           !mm_index_close(&ix, NULL),
       "emptied, it takes another dim and model");
    free(big);
    empty(dir);
    mkdir(dir, 0777);
    write_all(in(dir, "letter.txt"), "dear", 4);
    ok(mm_index_open(&ix, dir, MM_INDEX_WRITE, NULL, NULL) == MM_EARG && access(in(dir, "lock"), F_OK),
       "somebody's folder is left alone");
    unlink(in(dir, "letter.txt"));
}

static void test_center(void)
{
    /* texts around (3, 0, .), pictures around (0, 3, .): without centring a text finds only texts */
    static const float x[6][3] = { { 3, 0, 1 },    { 3, 0, -1 }, { 3, .5f, 0 },
                                   { 0, 3, 1.1f }, { 0, 3, -1 }, { .5f, 3, 0 } };
    mm_index *ix;
    mm_index_hit hit[6];
    size_t count;
    const char *text = "text";
    int good = 1;
    empty(dir);
    if (!ok(!mm_index_open(&ix, dir, MM_INDEX_WRITE, NULL, NULL), "centring")) return;
    for (int i = 0; i < 6; i++) {
        char id[2] = { (char)('a' + i), 0 };
        const char *doc = i < 3 ? "{\"text\":\"x\"}" : "{\"image\":\"y\"}";
        good &= !mm_index_add(ix, id, 1, x[i], 3, doc, strlen(doc), NULL);
        if (i == 3) good &= !mm_index_compact(ix, NULL);
    }
    mm_index_query how = { .k = 6, .threads = 1 };
    ok(good && !mm_index_search(ix, x[0], 1, 3, &how, hit, &count, NULL) && hit[1].row < 3,
       "plainly, a text is nearer to texts");
    how.center = 1;
    how.modality = &text;
    ok(!mm_index_search(ix, x[0], 1, 3, &how, hit, &count, NULL) && count == 6 && hit[0].row == 0 &&
           fabsf(hit[0].score - 1) < 1e-5f && hit[1].row == 3,
       "centred, its picture comes next");
    good = mm_index_delete(ix, "b", 1, NULL) == 1 && mm_index_delete(ix, "e", 1, NULL) == 1;
    ok(good && !mm_index_search(ix, x[0], 1, 3, &how, hit, &count, NULL) && count == 4,
       "with deleted rows in a segment");
    float with = hit[0].score;
    ok(!mm_index_compact(ix, NULL) && !mm_index_search(ix, x[0], 1, 3, &how, hit, &count, NULL) &&
           fabsf(with - hit[0].score) < 1e-5f,
       "and the same when they are gone");
    ok(!mm_index_close(&ix, NULL), "closed");
    char m[MM_INDEX_MODALITY];
    static const char *const docs[][2] = { { "{\"text\":1}", "text" },
                                           { "{\"video\":1,\"text\":2}", "text+video" },
                                           { "{}", "" },
                                           { "[1]", "" },
                                           { "{\"text\":1,\"modality\":\"depth\"}", "depth" },
                                           { "{\"modality\":7,\"audio\":1}", "audio" },
                                           { "{\"modality\":\"a name that is much too long to keep\"}",
                                             "a name that is much too" } };
    for (size_t i = 0; i < sizeof docs / sizeof *docs; i++) {
        mm_index_modality(docs[i][0], strlen(docs[i][0]), m);
        is_str(m, docs[i][1], docs[i][0]);
    }
}

static void test_merge(void)
{
    static const char *const a = "[{\"score\":0.9,\"id\":\"a\"},{\"score\":0.5,\"id\":\"b\"}]",
                             *const b = "[{\"id\":\"c\",\"score\":0.9}, {\"score\":0.7}]",
                             *const bad = "[{\"score\":0.1},{\"score\":0.2}]", *const none = "[{\"id\":1}]";
    mm_slice l[3] = { { a, strlen(a) }, { b, strlen(b) }, { "[]", 2 } };
    mm_buf out = { 0 };
    ok(!mm_hits_merge(&out, l, 3, 3, NULL), "merge");
    is_str(out.p, "[{\"score\":0.9,\"id\":\"a\"},{\"id\":\"c\",\"score\":0.9},{\"score\":0.7}]",
           "best first, ties by list, k of them");
    l[2] = (mm_slice){ bad, strlen(bad) };
    ok(mm_hits_merge(&out, l, 3, 0, NULL) == MM_EDATA, "not sorted");
    l[2] = (mm_slice){ none, strlen(none) };
    ok(mm_hits_merge(&out, l, 3, 0, NULL) == MM_EDATA, "no score");
    l[2] = (mm_slice){ "{}", 2 };
    ok(mm_hits_merge(&out, l, 3, 0, NULL) == MM_EDATA, "no list");
    mm_buf_clear(&out);
}

int main(void)
{
    /* in memory where there is such a place: thousands of syncs */
    snprintf(top, sizeof top, "%s/mm-index-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(top)) return 1;
    snprintf(dir, sizeof dir, "%s/ix", top);
    snprintf(disk, sizeof disk, "%s/disk", top);
    for (int t = 0; t < 4; t++) test_search((mm_index_type)t);
    test_refusals();
    test_center();
    test_merge();
    ix_log_max = 700; /* a dozen records */
    ix_log_keep = 200;
    make_history();
    crash_everywhere(MM_INDEX_F32, 0, "killed");
    crash_everywhere(MM_INDEX_F32, 1, "power cut");
    crash_everywhere(MM_INDEX_I8, 2, "power cut, pages out of order");
    flip_everywhere(MM_INDEX_F32);
    ix_log_max = ix_log_keep = 1 << 20;
    flip_everywhere(MM_INDEX_I8); /* everything in the journal, but what was compacted */
    empty(dir);
    empty(disk);
    rmdir(top);
    return done();
}

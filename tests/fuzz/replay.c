/* replay - runs a fuzz target over stored inputs, without a fuzzing engine: the main() of tests/fuzz/fuzz_* in make check.
 *
 *   fuzz_gguf [-m N] [FILE|FOLDER...]
 * Default: $MM_ROOT/tests/fuzz/corpus/<name of the program>. -m N tries N mutations of each file too (bytes changed, cut,
 * repeated; always the same ones). Prints how many inputs ran; exit 1 when there was none. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long ran, mutations;
static uint64_t state = 88172645463325252u;

static uint64_t rnd(uint64_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return n ? state % n : 0;
}

/* a buffer of exactly this size, so that a sanitizer sees a read past the end */
static void one(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) exit(1);
    if (size) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    ran++;
}

static void mutate(const uint8_t *data, size_t size)
{
    static const uint8_t odd[] = { 0, 1, 0x7F, 0x80, 0xFF, '"', '{', '[', ',', '9', '-', '\\' };
    uint8_t *b = malloc(2 * size + 16);
    if (!b) exit(1);
    memcpy(b, data, size);
    for (uint64_t k = rnd(4) + 1; k && size; k--) {
        size_t at = (size_t)rnd(size), n = (size_t)rnd(size - at) + 1;
        switch (rnd(6)) {
        case 0: b[at] = odd[rnd(sizeof odd)]; break;
        case 1: b[at] ^= (uint8_t)(1u << rnd(8)); break;
        case 2: b[at] = (uint8_t)rnd(256); break;
        case 3: size = at; break; /* cut */
        case 4: /* take a piece out */
            memmove(b + at, b + at + n, size - at - n);
            size -= n;
            break;
        default: { /* eight bytes of a number */
            uint64_t v = rnd(2) ? rnd(64) : rnd(2) ? UINT64_MAX >> rnd(64) : (uint64_t)1 << rnd(64);
            memcpy(b + at, &v, size - at < 8 ? size - at : 8);
        }
        }
    }
    one(b, size);
    free(b);
}

static void file(const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st)) {
        perror(path);
        exit(1);
    }
    size_t size = (size_t)st.st_size;
    uint8_t *p = malloc(size + 1);
    if (!p || fread(p, 1, size, f) != size) {
        perror(path);
        exit(1);
    }
    fclose(f);
    one(p, size);
    for (unsigned long i = 0; i < mutations; i++) mutate(p, size);
    free(p);
}

static void path(const char *p)
{
    struct stat st;
    if (stat(p, &st) || !S_ISDIR(st.st_mode)) {
        file(p);
        return;
    }
    struct dirent **list;
    int n = scandir(p, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", p, list[i]->d_name);
        if (list[i]->d_name[0] != '.') path(name);
        free(list[i]);
    }
    if (n >= 0) free(list);
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/'), *root = getenv("MM_ROOT");
    char corpus[4096];
    int i = 1;
    if (argc > 2 && !strcmp(argv[1], "-m")) {
        mutations = strtoul(argv[2], NULL, 10);
        i = 3;
    }
    name = name ? name + 1 : argv[0];
    if (i == argc) {
        snprintf(corpus, sizeof corpus, "%s/tests/fuzz/corpus/%s", root ? root : ".", name);
        path(corpus);
    }
    for (; i < argc; i++) path(argv[i]);
    printf("%s: %lu inputs\n", name, ran);
    return ran == 0;
}

/* Loading FFmpeg's larger libraries by name, of the version that the headers are of. */
#define MEDIA_AV_TABLE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include "media/av.h"

struct media_av media_av;

#define ENTRY(f) { #f, offsetof(struct media_av, f) },
#define SONAME_(name, major) "lib" name ".so." #major
#define SONAME(name, major) SONAME_(name, major)

typedef struct {
    const char *name;
    size_t at;
} entry;

static const entry codecs[] = { MEDIA_AV_CODECS(ENTRY) }, formats[] = { MEDIA_AV_FORMATS(ENTRY) };

static struct {
    const char *soname;
    const entry *e;
    size_t n;
    int loaded;
} parts[] = {
    [MEDIA_AV_CODEC] = { SONAME("avcodec", LIBAVCODEC_VERSION_MAJOR), codecs, sizeof codecs / sizeof *codecs, 0 },
    [MEDIA_AV_FORMAT] = { SONAME("avformat", LIBAVFORMAT_VERSION_MAJOR), formats, sizeof formats / sizeof *formats, 0 },
};

static int load(media_av_part part, mm_err *err)
{
    void *lib = dlopen(parts[part].soname, RTLD_LAZY | RTLD_LOCAL), *p;
    if (!lib) return mm_fail(err, MM_EUNSUP, "cannot load %s, which decodes this kind of input: %s", parts[part].soname, dlerror());
    for (size_t i = 0; i < parts[part].n; i++) {
        p = dlsym(lib, parts[part].e[i].name);
        if (!p) return mm_fail(err, MM_EUNSUP, "%s is not the one that this was built with: %s", parts[part].soname, dlerror());
        memcpy((char *)&media_av + parts[part].e[i].at, &p, sizeof p);
    }
    parts[part].loaded = 1;
    return 0;
}

int media_av_load(media_av_part part, mm_err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    int r = 0;
    for (int i = MEDIA_AV_CODEC; i <= (int)part && !r; i++)
        if (!parts[i].loaded) r = load((media_av_part)i, err);
    pthread_mutex_unlock(&lock);
    return r;
}

/* The worker's side: requests are served until the socket is closed. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "media/worker_int.h"

static void limits(uint64_t memory)
{
    const struct rlimit no_core = { 0, 0 };
    setrlimit(RLIMIT_CORE, &no_core);
#ifndef __SANITIZE_ADDRESS__ /* whose shadow memory alone is larger than any sensible limit */
    const struct rlimit as = { memory + WORKER_SHARED, memory + WORKER_SHARED };
    if (memory) setrlimit(RLIMIT_AS, &as);
#else
    (void)memory;
#endif
}

static void choose_and_make(uint8_t *map, const worker_request *q, const mm_media_src *src, worker_reply *a, mm_err *err)
{
    const mm_media_info found = a->facts.info;
    for (a->chosen = 0; a->chosen < q->n; a->chosen++)
        if (found.has & q->spec[a->chosen].source) break;
    if (a->chosen == q->n) {
        a->chosen = -1;
        static const char *const what[] = { "nothing", "a picture", "sound", "sound", "video", "video", "video and sound", "video and sound" };
        const int held = (found.has & MM_MEDIA_IMAGE ? 1 : 0) + (found.has & MM_MEDIA_AUDIO ? 2 : 0) + (found.has & MM_MEDIA_VIDEO ? 4 : 0);
        a->code = mm_fail(err, MM_EUNSUP, "'%s' (%s) holds %s, which is not what is asked for", src->path ? src->path : "-", found.format, what[held]);
        return;
    }
    a->code = mm_input_make((float *)(void *)(map + q->at), &q->spec[a->chosen], src, &q->opts, &a->facts, err);
    a->facts.info.has |= found.has;
}

static int serve_one(int fd, uint8_t *map, const worker_request *q, worker_reply *a)
{
    char *path = NULL;
    void *data = NULL;
    size_t floats = 0;
    mm_err err = { 0 };
    int r = -1;
    if (q->n < 0 || q->n > MM_JOB_SPECS) return -1;
    for (int i = 0; i < q->n; i++)
        if (mm_input_floats(&q->spec[i]) > floats) floats = mm_input_floats(&q->spec[i]);
    if (q->path_len > 65536 || q->data_len > WORKER_MAX_BYTES || q->at % 64 || q->at > WORKER_SHARED) return -1;
    if (floats > (WORKER_SHARED - q->at) / sizeof(float)) return -1;
    if (q->path_len && (!(path = calloc(1, q->path_len + 1)) || worker_recv(fd, path, q->path_len))) goto end;
    if (q->data_len && (!(data = malloc(q->data_len)) || worker_recv(fd, data, q->data_len))) goto end;
    const mm_media_src src = { path, data, (size_t)q->data_len };
    a->code = mm_media_probe(&src, &a->facts.info, &err);
    if (!a->code && q->n) choose_and_make(map, q, &src, a, &err);
    snprintf(a->message, sizeof a->message, "%s", a->code ? err.msg : "");
    r = 0;
end:
    free(path);
    free(data);
    return r;
}

int mm_worker_serve(int fd, int mem)
{
    worker_request q;
    int limited = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uint8_t *map = mmap(NULL, WORKER_SHARED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem, 0);
    if (map == MAP_FAILED) return 4;
    while (!worker_recv(fd, &q, sizeof q)) {
        worker_reply a = { .magic = WORKER_MAGIC, .chosen = -1 };
        if (q.magic != WORKER_MAGIC) return 3;
        if (!limited++) limits(q.memory);
        if (serve_one(fd, map, &q, &a) || worker_send(fd, &a, sizeof a)) return 3;
    }
    return 0;
}

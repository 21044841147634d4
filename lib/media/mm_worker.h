/* mm_worker.h - decoding in processes of its own: a crash or a hang inside a third-party decoder costs one input, and decoding overlaps with
 * the model's work.
 *
 *   mm_pool *p;
 *   mm_pool_open(&p, &(mm_pool_opts){ .workers = 2 }, &err);
 *   mm_job job = { .spec = *mm_model_input_spec(m, MM_IMAGE), .src = { .path = "a.jpg" } };
 *   mm_pool_submit(p, &job, &err);              returns at once
 *   ...
 *   mm_pool_wait(p, &job);                      job.code, job.x, job.facts
 *   mm_pool_release(p, &job);                   its memory may be used again
 *   mm_pool_close(&p);
 *
 * Each worker is the program mm-media, started when the first job comes and again after it died; it has limits of memory and of time per
 * input. Results lie in memory shared with the workers. One thread submits, waits and releases. */
#ifndef MM_WORKER_H
#define MM_WORKER_H

#include "media/mm_input.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_pool mm_pool;

typedef struct mm_pool_opts { /* {0}: the defaults */
    int workers;         /* 0: 1 */
    const char *program; /* NULL: $MM_MEDIA, else mm-media beside the running program, else from PATH */
    double seconds;      /* for one input; 0: 60 */
    size_t memory;       /* bytes of address space of one worker; 0: 4 GiB */
} mm_pool_opts;

typedef struct mm_job {
    /* by the caller, kept until mm_pool_wait() returned; spec.source 0: probe only (facts->info) */
    mm_input_spec spec;
    mm_input_opts opts;
    mm_media_src src;
    /* by the pool */
    int code;            /* 0 or MM_E*: MM_EDATA also when the decoder crashed, MM_ELONG when it took too long */
    char message[512];
    float *x;            /* [mm_input_floats(spec)], valid until mm_pool_release() */
    mm_input_facts facts;
    /* inside */
    int state;
    size_t at, bytes;
    struct mm_job *next;
} mm_job;

MM_API MM_MUST_CHECK int mm_pool_open(mm_pool **out, const mm_pool_opts *opts, mm_err *err);
MM_API MM_MUST_CHECK int mm_pool_submit(mm_pool *p, mm_job *job, mm_err *err);
MM_API void mm_pool_wait(mm_pool *p, mm_job *job);
MM_API void mm_pool_release(mm_pool *p, mm_job *job);
MM_API void mm_pool_close(mm_pool **p); /* waits for nothing: running jobs are given up */

/* The other end: serve requests from socket `fd`, results into the memory of `mem`, until it is closed. Returns an exit status. */
MM_API int mm_worker_serve(int fd, int mem);

#ifdef __cplusplus
}
#endif
#endif

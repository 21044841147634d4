/* mm_worker.h - decoding in processes of its own: a crash or a hang inside a third-party decoder costs one input, and decoding overlaps with
 * the model's work.
 *
 *   mm_workers *p;
 *   mm_workers_open(&p, &(mm_workers_opts){ .workers = 2 }, &err);
 *   mm_job job = { .spec = { *mm_model_input_spec(m, MM_IMAGE) }, .n = 1, .src = { .path = "a.jpg" } };
 *   mm_workers_submit(p, &job, &err);              returns at once
 *   ...
 *   mm_workers_wait(p, &job);                      job.code, job.x, job.facts
 *   mm_workers_release(p, &job);                   its memory may be used again
 *   mm_workers_close(&p);
 *
 * Each worker is the program mm-media, started when the first job comes and again after it died; it has limits of memory and of time per
 * input. Results lie in memory shared with the workers. One thread submits, waits and releases. */
#ifndef MM_WORKER_H
#define MM_WORKER_H

#include "media/mm_input.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_workers mm_workers;

typedef struct mm_workers_opts { /* {0}: the defaults */
    int workers;         /* 0: 1 */
    const char *program; /* NULL: $MM_MEDIA, else mm-media beside the running program, else from PATH */
    double seconds;      /* for one input; 0: 60 */
    size_t memory;       /* bytes of address space of one worker; 0: 4 GiB */
} mm_workers_opts;

#define MM_JOB_SPECS 3

typedef struct mm_job {
    /* by the caller, kept until mm_workers_wait() returned. The first specification whose source is in the file is followed: order them by
     * preference. None (n 0): the file is probed only (facts.info) */
    mm_input_spec spec[MM_JOB_SPECS];
    int n;
    mm_input_opts opts;
    mm_media_src src;
    /* by the pool */
    int code;            /* 0 or MM_E*: MM_EDATA also when the decoder crashed, MM_ELONG when it took too long */
    char message[512];
    int chosen;          /* index of the specification that was followed, -1: none fits what facts.info.has names (code MM_EUNSUP) */
    float *x;            /* [mm_input_floats(spec[chosen])], valid until mm_workers_release() */
    mm_input_facts facts;
    /* inside */
    int state;
    size_t at, bytes;
    struct mm_job *next;
} mm_job;

MM_API MM_MUST_CHECK int mm_workers_open(mm_workers **out, const mm_workers_opts *opts, mm_err *err);
MM_API MM_MUST_CHECK int mm_workers_submit(mm_workers *p, mm_job *job, mm_err *err);
MM_API void mm_workers_wait(mm_workers *p, mm_job *job);
MM_API void mm_workers_release(mm_workers *p, mm_job *job);
MM_API void mm_workers_close(mm_workers **p); /* waits for nothing: running jobs are given up */

/* The other end: serve requests from socket `fd`, results into the memory of `mem`, until it is closed. Returns an exit status. */
MM_API int mm_worker_serve(int fd, int mem);

#ifdef __cplusplus
}
#endif
#endif

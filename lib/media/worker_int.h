/* worker_int.h - what the two ends of a worker's socket say to each other. */
#ifndef MM_WORKER_INT_H
#define MM_WORKER_INT_H

#include "media/mm_worker.h"

#define WORKER_SHARED ((size_t)16 << 30)     /* address space for results; only what is written takes memory */
#define WORKER_MAX_BYTES ((uint64_t)1 << 30) /* of an input that comes from memory */

typedef struct {
    uint32_t magic, path_len;
    uint64_t data_len, at, memory;
    mm_input_spec spec[MM_JOB_SPECS];
    mm_input_opts opts;
    int32_t n;
} worker_request;

typedef struct {
    uint32_t magic;
    int code, chosen;
    char message[512];
    mm_input_facts facts;
} worker_reply;

/* both ends are built from one source; the size tells when they are not */
#define WORKER_MAGIC ((uint32_t)(0x6d6d0000u ^ (sizeof(worker_request) << 8) ^ sizeof(worker_reply)))

/* 0, or -1 when the other end is gone. */
int worker_send(int fd, const void *p, size_t len);
int worker_recv(int fd, void *p, size_t len);

#endif

/* train_int.h - inside lib/train: the file of metrics. */
#ifndef MM_TRAIN_INT_H
#define MM_TRAIN_INT_H

#include <jansson.h>
#include <stdint.h>
#include "base/mm_err.h"

/* Open for appending; *fd. resume: lines of steps after `step`, and a last one that is cut, are taken away first (of a regular file),
 * otherwise all are. */
int mm_metrics_open(const char *path, int resume, uint64_t step, int *fd, mm_err *err);
/* One object, one line, one write. json is taken over. */
int mm_metrics_write(int fd, json_t *json, mm_err *err);

#endif

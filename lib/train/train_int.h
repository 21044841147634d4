/* train_int.h - inside lib/train: the file of metrics; families; what a model tells of how it was made. */
#ifndef MM_TRAIN_INT_H
#define MM_TRAIN_INT_H

#include <jansson.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "model/mm_uni.h"
#include "train/mm_dataset.h"
#include "train/mm_run.h"

/* Open for appending; *fd. resume: lines of steps after `step`, and a last one that is cut, are taken away first (of a regular file),
 * otherwise all are. */
int mm_metrics_open(const char *path, int resume, uint64_t step, int *fd, mm_err *err);
/* One object, one line, one write. json is taken over. */
int mm_metrics_write(int fd, json_t *json, mm_err *err);

/* What mm_trainable_open() chooses from: uni_open.c, text_open.c, connector_open.c. */
mm_trainable_fn mm_uni_trainable, mm_text_trainable, mm_connector_trainable;

/* The data that options name, prepared as a unified model sees it, and decoded. 1: stopped by the hooks. What is open in *out is the caller's to close,
 * also after a failure. */
int mm_uni_data_open(mm_dataset **out, const mm_uni_config *c, const mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err);

/* The name at a path's end. */
const char *mm_last_part(const char *path);
/* A model goes to others: what its run was (mm_task.save) with the names of files, not where they lay. A new object, or NULL. */
json_t *mm_without_folders(const json_t *about);

#endif

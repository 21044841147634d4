/* mm_ckpt.h - checkpoints: everything that a training run needs to go on, in one safetensors file.
 *
 *   mm_ckpt_write("x.gguf.ckpt", &ps, best, &c, keep, &err);        beside, synced, renamed: the one before survives whatever happens
 *   mm_ckpt_read("x.gguf.ckpt", &ps, best, config, &c, &err);       of the same set and configuration, or refused with what differs
 *
 * Tensors are "w.NAME", "m.NAME", "v.NAME", "ema.NAME" and, where there is a best, "best.NAME", for everything that is trained; of what is
 * frozen, and of what additions are added to, a hash is kept and compared. A file that is damaged is refused. */
#ifndef MM_CKPT_H
#define MM_CKPT_H

#include <jansson.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"
#include "train/mm_optim.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_ckpt {
    uint64_t step;   /* to be done next, from 0 */
    json_t *state;   /* the trainer's: stage, position in the data, best score ... */
    json_t *config;  /* how the model is made; numbers, texts, lists and objects of them */
    int has_best;
} mm_ckpt;

/* best: like ps->ema, or NULL. keep: how many are kept, 1 or more; the older ones are PATH.1, PATH.2 ... (on file systems with links).
 * MM_EIO (no space, say): what was there before is there still, nothing else is left. ps must not be swapped. */
MM_API MM_MUST_CHECK int mm_ckpt_write(const char *path, const mm_pset *ps, const float *best, const mm_ckpt *c, int keep, mm_err *err);

/* Into a set that was built with the same names, shapes and weights to start from; ps and best (like ps->ema; NULL: not wanted) are changed
 * only when all is well. c->state and c->config are the caller's (json_decref). MM_EIO; MM_EDATA damaged, or no checkpoint; MM_EARG:
 * config is not that of the file, err says in what; MM_ESHAPE: other weights, err names the first; MM_EMODEL: the frozen weights are
 * others. */
MM_API MM_MUST_CHECK int mm_ckpt_read(const char *path, mm_pset *ps, float *best, const json_t *config, mm_ckpt *c, mm_err *err);
/* What is in the file apart from weights. */
MM_API MM_MUST_CHECK int mm_ckpt_peek(const char *path, mm_ckpt *c, mm_err *err);
MM_API void mm_ckpt_clear(mm_ckpt *c);

/* Remove PATH and, with older, PATH.1 ... */
MM_API void mm_ckpt_remove(const char *path, int older);

/* One run at a time: takes PATH.lock, sets *fd, and removes what killed runs left half written. MM_ELOCK: another run is there. */
MM_API MM_MUST_CHECK int mm_ckpt_lock(const char *path, int *fd, mm_err *err);
MM_API void mm_ckpt_unlock(const char *path, int fd);
/* Remove what was to become PATH and had no time to get its name: PATH.tmp-PID-N, and with fresh PATH.new and PATH.new.tmp-PID-N. The lock is
 * held: whoever wrote it is dead. */
MM_API void mm_ckpt_sweep(const char *path, int fresh);

/* "lr: 0.1, now 0.2; batch.text: 64, now 32" for the first differences between two configurations; empty: none. */
MM_API int mm_config_diff(mm_buf *out, const json_t *was, const json_t *now);

#ifdef __cplusplus
}
#endif
#endif

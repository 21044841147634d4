/* mm_progress.h - how far a long call of this floor is. */
#ifndef MM_PROGRESS_H
#define MM_PROGRESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called now and then by the thread that made the long call: `what` ("teacher", "table") is done of total. Another value than 0 stops the
 * call, which returns that value. */
typedef int mm_train_progress(void *arg, const char *what, uint64_t done, uint64_t total);

#ifdef __cplusplus
}
#endif
#endif

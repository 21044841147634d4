/* mm_corrupt.h - inputs made worse, for the model to learn which part of a record to trust.
 *
 * level: above 0, little, to 1, when nothing of the input is left. Everything is drawn from the rng that comes in. */
#ifndef MM_CORRUPT_H
#define MM_CORRUPT_H

#include "base/mm_mem.h"
#include "base/mm_rng.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { MM_CORRUPT_BLUR, MM_CORRUPT_NOISE, MM_CORRUPT_DARK, MM_CORRUPT_PICTURES } mm_corrupt_picture;
typedef enum { MM_CORRUPT_HISS, MM_CORRUPT_HUSH, MM_CORRUPT_SOUNDS } mm_corrupt_sound;

/* out, x [frames, 3, height, width] as the unified model takes them, -2 .. 2: blurred both ways over level / 2 of the side, mixed with white noise of
 * its own in every frame, or darkened. tmp [max(height, width)]. out may be x. */
MM_API void mm_corrupt_pixels(float *out, const float *x, size_t frames, size_t height, size_t width, mm_corrupt_picture how, float level, float *tmp,
                              mm_rng rng);
/* out, x [n, bins] log-mel as the unified model takes them (ln power = 4 x - 4): under white noise from 25 dB below the loudest frame to 15 dB above
 * it, or quieter by up to 60 dB and down to no power at all. out may be x. */
MM_API void mm_corrupt_mel(float *out, const float *x, size_t n, size_t bins, mm_corrupt_sound how, float level, mm_rng rng);
/* Words of a text at new places, each of `level` of them replaced by a word of another text. other(arg, rng, &len) draws that text. The result
 * lies in memory of the arena, with a NUL; NULL: no memory. */
MM_API const char *mm_corrupt_words(const char *p, size_t len, float level, const char *(*other)(void *arg, mm_rng *rng, size_t *len), void *arg,
                                    mm_arena *arena, mm_rng rng);

#ifdef __cplusplus
}
#endif
#endif

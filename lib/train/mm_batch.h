/* mm_batch.h - batches of a data set: what a training step sees, as a function of the seed and the number of the step.
 *
 *   mm_batch_opts o;
 *   mm_batch_defaults(&o);
 *   mm_batches *b;
 *   mm_batches_open(&b, d, &o, &err);                 d is loaded and stays open
 *   mm_batches_seek(b, &state_of_a_checkpoint, &err); or not: from step 0
 *   const mm_batch *x;
 *   while (mm_batches_next(b, &x, &err) == 0) ...     a thread makes the next one meanwhile; x lives until the next call
 *   mm_batches_close(&b);
 *
 * Nothing depends on time, threads or what was made before: mm_batches_make() gives the batch of any step, bit for bit the same on one
 * machine.
 *
 * Which examples: of each modality those that have it, by set; a set of n examples has its share ~ n^power of the draws, evenly spaced.
 * Within a set draws go through a permutation, a new one for each pass: nothing comes twice before everything came once. Of the examples
 * of a set whose captions are the same (names of classes), one is drawn as a text.
 * Sounds and texts are bucketed: the draws of up to 12 steps are sorted by length and cut into as many batches, which are shuffled.
 * Which caption: by role with the weights of `caption` among the roles that the example has in the wanted languages, then any of that
 * role. None in these languages: its text as it is. */
#ifndef MM_BATCH_H
#define MM_BATCH_H

#include "base/mm_mem.h"
#include "train/mm_dataset.h"
#include "base/mm_rng.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- augmentation, one at a time ---- */

/* strength 0: none, 1: full. At 1/2, of pictures: area of the crop 0.75 to 1.075 of the picture, proportions x 0.94 to 1.06, turned by
 * +-5.7 degrees, saturation and contrast +-20, +-15 %, brightness -12 to +10 %, channels +-4 %, gray in 3.5 %; of sound: tempo x 0.93 to
 * 1.1, pitch x 0.95 to 1.06, level +-6 dB, tilt, noise, masks; of clips: as of pictures, and the moments of their frames x 0.5 to 20. */
typedef struct mm_augment {
    float strength;
    float flip; /* probability of a mirror image */
} mm_augment;

/* out [3, px, px], (x / 255 - 0.5) / 0.25, of a picture [size, size, 3]. Without strength and flip: the samples as they are if
 * size == px, else resized as mm_image_resize() does with bicubic interpolation. */
MM_API MM_MUST_CHECK int mm_augment_image(float *out, int px, const uint8_t *in, int size, const mm_augment *a, mm_rng rng, mm_err *err);
/* out [frames, 3, px, px]: the same crop, turn and colours for all frames. */
MM_API MM_MUST_CHECK int mm_augment_video(float *out, int px, const uint8_t *in, int size, int frames, const mm_augment *a, mm_rng rng,
                                          mm_err *err);
/* Most frames that mm_augment_mel() can make of n. */
MM_API size_t mm_augment_mel_room(size_t n, size_t max_frames, const mm_augment *a);
/* out [up to mm_augment_mel_room(), bins] of a log-mel spectrum [n, bins] in float16; returns the number of frames made. Stretched in time,
 * moved and stretched in frequency, up to max_frames (0: all) of it, quiet frames added at its ends, louder or softer, tilted, with noise,
 * and masked (SpecAugment: up to 2 bands of up to 8 bins, 2 times of up to 1/8 of the length, at full strength). strength 0: as it is, cut
 * to max_frames. 0 only for n 0 or bins not in 1 .. 1023. */
MM_API size_t mm_augment_mel(float *out, const uint16_t *in, size_t n, int bins, size_t max_frames, const mm_augment *a, mm_rng rng);

/* ---- batches ---- */

typedef struct mm_batch_opts {
    uint64_t seed;
    int split;                         /* MM_TRAIN */
    int count[MM_MODALITIES];          /* of one step: 64 texts, 64 pictures, 32 sounds, 8 videos */
    size_t budget[MM_MODALITIES];      /* texts: tokens, sounds: frames of one step, in place of count (0: count). Never exceeded: what
                                        * does not fit is left out (mm_batch.dropped). 0 */
    int joint;                         /* so many pictures and sounds more, pair by pair of one thing: a record that has both, or records of
                                        * one set and `concept`. Beside any budget. 0 */
    mm_augment augment[MM_MODALITIES]; /* strength 0.5; flip 0.5 for pictures, 0 for videos; never where mm_example.handed */
    int px, video_px;                  /* 64, 64 */
    size_t max_frames;                 /* of a sound; longer ones are cut at random. 0: all */
    float power;                       /* 0.7 */
    const float *set_weight;           /* [sets] factors, or NULL */
    float caption[5];                  /* by MM_CAPTION_*: 0.6, 0.3, 0.3, 0.1, and label 0: only where nothing else is */
    const char *langs;                 /* captions of media: "en,de": these (and what is not stated); NULL: all. Of texts: all */
    int bare;                          /* also media without any caption */
    int no_thread;                     /* mm_batches_next() makes the batch when it is asked for */
    /* NULL: all. 0 leaves the example out of this modality */
    int (*want)(void *arg, const mm_example *e, mm_modality m);
    /* tokens of a text, for buckets and budgets; NULL: bytes / 4 + 1 */
    size_t (*text_len)(void *arg, const char *p, size_t len);
    void *arg;
} mm_batch_opts;
MM_API void mm_batch_defaults(mm_batch_opts *o);

typedef struct mm_pick {
    uint32_t example;
    int32_t caption; /* number of the chosen one, -1: none */
} mm_pick;

typedef struct mm_batch {
    uint64_t step;
    int n[MM_MODALITIES];
    const mm_pick *pick[MM_MODALITIES]; /* [n] */
    int dropped[MM_MODALITIES];         /* draws that did not fit the budget */
    int joint;                          /* the last so many pictures and sounds are of the same things, in order */
    float *image;                       /* [n, 3, px, px] */
    float *mel;                         /* sounds one behind the other, [frames, bins] each */
    size_t *mel_at;                     /* [n + 1]: sound i is rows mel_at[i] .. mel_at[i + 1] - 1 */
    float *video;                       /* [n, frames, 3, video_px, video_px] */
    float *times;                       /* [n, frames] seconds */
    float *track;                       /* the sounds of the videos, as `mel`; no rows where there is none */
    size_t *track_at;
} mm_batch;

/* Where a run stands: to be kept in a checkpoint. */
typedef struct mm_batch_state {
    uint64_t seed, step, fingerprint; /* fingerprint: of the data and options that batches depend on */
} mm_batch_state;

typedef struct mm_batches mm_batches;

/* d and what opts points to are borrowed. A modality without examples (or count 0) stays empty; all of them: MM_EEMPTY. */
MM_API MM_MUST_CHECK int mm_batches_open(mm_batches **out, const mm_dataset *d, const mm_batch_opts *opts, mm_err *err);
MM_API void mm_batches_close(mm_batches **b);
/* Examples that there are to draw from. */
MM_API size_t mm_batches_examples(const mm_batches *b, mm_modality m);
/* Steps until everything was drawn about once: of the modality with the most. */
MM_API uint64_t mm_batches_epoch(const mm_batches *b);

/* The batch of a step, in memory of the arena. May be called from several threads (with an arena each). */
MM_API MM_MUST_CHECK int mm_batches_make(const mm_batches *b, uint64_t step, mm_arena *a, mm_batch *out, mm_err *err);

/* One step after the other. *out lives until the next call. 0, or MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_batches_next(mm_batches *b, const mm_batch **out, mm_err *err);
/* State before the step that mm_batches_next() would give next. */
MM_API void mm_batches_state(const mm_batches *b, mm_batch_state *s);
/* Go on from a state. MM_ESHAPE if data or options are not those it was taken with. */
MM_API MM_MUST_CHECK int mm_batches_seek(mm_batches *b, const mm_batch_state *s, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

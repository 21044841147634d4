/* mm_input.h - from a file to the array that a model sees: decode, resize or resample, normalise.
 *
 *   const mm_input_spec *spec = mm_model_input_spec(model, MM_IMAGE);
 *   float *x = mm_aligned(mm_input_floats(spec), sizeof *x);
 *   mm_media_src src = { .path = "photo.jpg" };
 *   mm_input_facts facts;
 *   if (mm_input_make(x, spec, &src, NULL, &facts, &err)) ...
 *
 * The array is [views, frames, channels, height, width], float32. Views are looks at one input whose vectors are averaged: frames of a
 * video for a model of pictures, clips of a long sound. A specification is plain data: it goes to a worker process as it is. */
#ifndef MM_INPUT_H
#define MM_INPUT_H

#include "media/mm_media.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_input_spec {
    unsigned source;         /* MM_MEDIA_IMAGE, MM_MEDIA_AUDIO or MM_MEDIA_VIDEO */
    int views, frames, channels, height, width;
    mm_image_spec image;     /* pictures and frames; of mel spectra only mean and std of `mel` count */
    int by_pytorch;          /* frames: short side by torch's bilinear interpolation in float, without antialias, as pytorchvideo scales */
    int crops;               /* frames: 1 the middle, 3 also both ends of the long side; views = clips * crops */
    mm_video_spec video;     /* its frames: views / crops * frames */
    mm_mel_spec mel;
    enum { MM_SOUND_WHOLE,   /* one view: the beginning, padded or cut to mel.n_frames */
           MM_SOUND_CLIPS,   /* views clips of clip_seconds each, their starts spread evenly (ImageBind) */
           MM_SOUND_THIRDS   /* channels 0..2: the first n_frames of each third of the spectrum; short sound is repeated (LanguageBind) */
    } sound;
    double clip_seconds;
    mm_alpha ground;         /* behind transparency, where mm_input_opts.alpha is MM_ALPHA_DROP */
    struct mm_tiles {        /* pictures and frames as decoders see them (Idefics3): height x width squares; longest 0: no */
        int longest;         /* the long side is scaled to it before all else */
        int split;           /* then both sides up to multiples of height; the squares that this makes come first, row by row, and the whole picture
                              * as one square after them: mm_input_facts.rows x cols + 1 views are used */
    } tiles;
} mm_input_spec;

#define MM_INPUT_TIMES 64

/* What was met on the way. */
typedef struct mm_input_facts {
    mm_media_info info;
    int has_quality;        /* `image` and `duplicates` are measured */
    int has_sound;          /* `sound` is: always where sound was decoded, and for the track of a video */
    mm_image_quality image; /* of the picture before it is resized; of a video its middle frame */
    mm_sound_quality sound;
    float duplicates;       /* of a video: mm_video_duplicates() of the frames used */
    int rows, cols;         /* of the squares that a picture was cut into; 0: it is seen as one */
    int mel_frames;         /* MM_SOUND_WHOLE: so many of mel.n_frames hold sound, the rest is padding */
    int n_times;            /* of a video: moments of the first MM_INPUT_TIMES frames used, in seconds */
    float times[MM_INPUT_TIMES];
} mm_input_facts;

typedef struct mm_input_opts { /* {0}: the defaults */
    int no_rotate;
    mm_alpha alpha;
    int64_t max_pixels;
    double max_seconds;
    int cut_seconds;        /* over max_seconds: use the beginning instead of an error */
    int quality;            /* measure */
} mm_input_opts;

/* Floats of one input; 0 if they are beyond 2^31. */
MM_API size_t mm_input_floats(const mm_input_spec *spec);
/* x [mm_input_floats(spec)]. opts and facts may be NULL. Errors: as mm_media.h. */
MM_API MM_MUST_CHECK int mm_input_make(float *x, const mm_input_spec *spec, const mm_media_src *src, const mm_input_opts *opts,
                                       mm_input_facts *facts, mm_err *err);
/* Why there is nothing in what mm_input_make() gave: "silence" (all of it below -60 dBFS), "black all over" (white, gray: no pixel of a picture
 * or clip differs from the others by more than coding does). NULL: there is something. */
MM_API const char *mm_input_nothing(const float *x, const mm_input_spec *spec, const mm_input_facts *facts);

#ifdef __cplusplus
}
#endif
#endif

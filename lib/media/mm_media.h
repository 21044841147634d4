/* mm_media.h - pictures, sound and video: from bytes to clean arrays, the same everywhere.
 *
 *   mm_media_src src = { .path = "photo.jpg" };
 *   mm_image im = { 0 };
 *   mm_media_info info;
 *   if (mm_image_read(&im, &src, NULL, &info, &err)) ...    upright, 8-bit RGB
 *   mm_image_fit(px, &im, &spec, &err);                     as a model's preprocessor wants it: spec.height x spec.width
 *   mm_image_clear(&im);
 *
 * Decoding is FFmpeg's (pictures, video, most sound) and libsndfile's (the sound files it knows); what they are asked, and every rule
 * about colour, time, rate and size, is here. Input is recognised by content, never by name. Nothing is allocated for a size
 * that the limits forbid. A decoder may crash on hostile input: filters call these functions in a worker process (mm_worker.h).
 *
 * Errors (all functions): MM_EIO cannot be read; MM_EDATA damaged or no such medium in it ("no picture in it", the format is named);
 * MM_ETRUNC the file ends early and nothing could be decoded; MM_EUNSUP a format or codec that the installed libraries cannot
 * decode, by name; MM_ELONG over a limit, which is named; MM_EEMPTY nothing in it (zero bytes, no samples); MM_ENOMEM. */
#ifndef MM_MEDIA_H
#define MM_MEDIA_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_MAX_PIXELS ((int64_t)1 << 27) /* of one picture or frame: 134 megapixels, 403 MB as RGB */
#define MM_MAX_SECONDS 3600.0            /* of sound or video that is read; longer input is an error, see `cut` */

typedef struct mm_media_src {
    const char *path; /* a file; NULL: the bytes below */
    const void *data; /* [len], borrowed */
    size_t len;
} mm_media_src;

enum { MM_MEDIA_IMAGE = 1, MM_MEDIA_AUDIO = 2, MM_MEDIA_VIDEO = 4 };

/* What was found. Fields that do not apply are 0. */
typedef struct mm_media_info {
    char format[24];     /* short name: "jpeg", "png", "webp", "wav", "mp4", "matroska" ... */
    unsigned has;        /* MM_MEDIA_* bits; an animated picture has IMAGE and VIDEO */
    int width, height;   /* upright */
    double seconds;      /* of sound: what was decoded; of video: from the first to the end of the last frame */
    int64_t frames;      /* video: frames that decoded (-1: not counted, see mm_video_read) */
    int rate, channels;  /* sound: as stored */
    int truncated;       /* the file ends early or is damaged; what came before was used */
    char note[96];       /* for -v: "embedded colour profile ignored", "alpha dropped" ...; "" if none */
} mm_media_info;

/* Look at the first bytes and, for containers, at the streams inside; decodes nothing. *info gets format and has (and the sizes and
 * times that headers state). MM_EDATA for what is no picture, sound or video, naming what it looks like ("text", "empty"). */
MM_API MM_MUST_CHECK int mm_media_probe(const mm_media_src *src, mm_media_info *info, mm_err *err);

/* ---- pictures ---- */

/* What becomes of transparency. DROP keeps the stored colours (what Pillow's convert("RGB") does, hence the default for parity with
 * published checkpoints); the others composite in 8 bits: round((c a + bg (255 - a)) / 255). */
typedef enum { MM_ALPHA_DROP, MM_ALPHA_WHITE, MM_ALPHA_BLACK } mm_alpha;

typedef struct mm_image_opts { /* {0}: the defaults */
    int no_rotate;      /* ignore EXIF orientation and display matrices */
    mm_alpha alpha;
    int64_t max_pixels; /* 0: MM_MAX_PIXELS */
} mm_image_opts;

typedef struct mm_image {
    uint8_t *px; /* [height, width, 3] RGB, owned */
    int width, height;
} mm_image;

/* The picture in src (of an animated one the first frame, composited). Orientation: EXIF IFD0 of JPEG, PNG (eXIf), WebP and TIFF, applied
 * once; values outside 1..8 and broken EXIF count as 1; HEIC and AVIF by irot/imir, never by EXIF. Gray, palette, 1..16 bit, CMYK and YCCK
 * become 8-bit RGB: 16-bit samples by their high byte (v >> 8), lower depths scaled to 0..255. JPEG's chroma is interpolated as libjpeg-turbo's
 * "fancy" upsampling does. Colour profiles are not applied (info->note). A cut picture is MM_ETRUNC unless opts say otherwise. opts may be NULL. */
MM_API MM_MUST_CHECK int mm_image_read(mm_image *out, const mm_media_src *src, const mm_image_opts *opts, mm_media_info *info, mm_err *err);
MM_API void mm_image_clear(mm_image *im); /* frees; {0} is fine */

/* Filters as Pillow's Image.resize defines them: support grows with the reduction (antialias), 8-bit rounding after each
 * direction, coefficients in fixed point of 22 bits: results are equal byte for byte to Pillow 13's, whose order of the directions depends on the
 * sizes (earlier versions always began with the horizontal one: pictures more than twice as high as wide differ by a level or two). */
typedef enum { MM_RESIZE_NEAREST, MM_RESIZE_BOX, MM_RESIZE_BILINEAR, MM_RESIZE_HAMMING, MM_RESIZE_BICUBIC, MM_RESIZE_LANCZOS } mm_resize_filter;
MM_API MM_MUST_CHECK int mm_image_resize(mm_image *out, const mm_image *in, int width, int height, mm_resize_filter filter, mm_err *err);

/* How a model wants its pictures. */
typedef struct mm_image_spec {
    enum { MM_FIT_CROP,     /* short side to `resize`, then the middle height x width (zeros where the picture is smaller) */
           MM_FIT_STRETCH,  /* to height x width whatever the proportions */
           MM_FIT_PAD       /* long side fits, the rest is filled with `fill`, picture in the middle */
    } fit;
    int resize;             /* CROP: length of the short side; the long one is (int)(resize * long / short) */
    int height, width;      /* of the result */
    mm_resize_filter filter;
    int round_crop;         /* CROP: offset round((a - b) / 2.0) to even, as torchvision; 0: (a - b) / 2 rounded down, as transformers */
    uint8_t fill[3];
    float mean[3], std[3];  /* of samples scaled to 0..1 */
} mm_image_spec;

/* px [spec->height, spec->width, 3]. Memory stays within a few rows even for thin pictures: a resize that would give
 * more than MM_MAX_PIXELS on its way is narrowed to the part that the crop keeps, with the same result. */
MM_API MM_MUST_CHECK int mm_image_fit(uint8_t *px, const mm_image *in, const mm_image_spec *spec, mm_err *err);
/* out [3, height, width] = (px / 255 - mean) / std, in float32: first times (float)(1/255), as the published processors. */
MM_API void mm_image_normalize(float *out, const uint8_t *px, const mm_image_spec *spec);

/* The picture as a JPEG file, appended to out: baseline, chroma as fine as luma. quality 1..100. MM_EEMPTY, MM_ELONG (a side over 65500),
 * MM_EARG, MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_image_jpeg(mm_buf *out, const mm_image *im, int quality, mm_err *err);
/* The same as a PNG file: 8-bit RGB, nothing is lost. MM_EEMPTY, MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_image_png(mm_buf *out, const mm_image *im, mm_err *err);

/* ---- video ---- */

typedef struct mm_video_opts {
    mm_image_opts image;
    double max_seconds; /* 0: MM_MAX_SECONDS */
} mm_video_opts;

/* Which moments of a clip of `seconds` a model sees. Times are those of the frames' timestamps, from the first frame on. */
typedef struct mm_video_spec {
    enum { MM_FRAMES_SPREAD, /* frames at (i + 1/2) / frames of the length */
           MM_FRAMES_ENDS,   /* frames from the first to the last one, both included, equally spaced in time */
           MM_FRAMES_CLIPS   /* `clips` clips of clip_seconds each, their starts spread over the length; in each, frames / clips frames from
                              * its first to its last, equally spaced */
    } how;
    int frames, clips;
    double clip_seconds;
} mm_video_spec;

/* frames[spec->frames] and times[spec->frames] (seconds): for every wanted moment the frame on show then, rotated by the display matrix and
 * converted as pictures are; a moment's frame may repeat. Animated pictures (GIF, WebP, APNG) are video here, composited by their
 * disposal rules. Files up to 4,096 packets are decoded whole, so that info->frames counts what decodes and damage is seen; in longer
 * ones the decoder jumps to the key frame before each moment. The caller clears the frames (also after failure). */
MM_API MM_MUST_CHECK int mm_video_read(mm_image *frames, double *times, const mm_video_spec *spec, const mm_media_src *src,
                                       const mm_video_opts *opts, mm_media_info *info, mm_err *err);

/* ---- sound ---- */

typedef struct mm_sound_opts { /* {0}: the defaults */
    double max_seconds; /* 0: MM_MAX_SECONDS */
    int cut;            /* longer sound: use its beginning (info->truncated) instead of MM_ELONG */
} mm_sound_opts;

typedef struct mm_sound {
    float *x; /* [n] mono, -1..1, owned */
    size_t n;
    int rate;
} mm_sound;

/* The sound of src (of a video its sound track) as mono at `rate`: channels are averaged (not ffmpeg's -ac 1, which keeps the power), then
 * resampled (libswresample, 32-tap Kaiser windowed sinc or better, group delay removed): n = round(frames * rate / stored rate), +-1.
 * WAV from a pipe with sizes 0, 0x7ffff... or 0xffffffff is read to its end. Of a cut or damaged file what decodes is used (info->truncated).
 * Float samples that are no numbers, or beyond +-32768, become 0 and are counted in info->note. Up to 256 channels, 100 Hz to 1536 kHz.
 * On success out->n > 0. rate: 1000 or more. A path may be a pipe, which is read to its end first. Prints nothing: FFmpeg's log is turned off. */
MM_API MM_MUST_CHECK int mm_sound_read(mm_sound *out, const mm_media_src *src, int rate, const mm_sound_opts *opts, mm_media_info *info, mm_err *err);
MM_API void mm_sound_clear(mm_sound *s);

/* Log-mel spectra. WHISPER: openai/whisper audio.py (Slaney scale and norm, reflected edges, n_fft frames every hop, log10 clamped to
 * max - 8, then (x + 4) / 4; sound padded with zeros or cut to n_frames * hop samples). KALDI: torchaudio.compliance.kaldi.fbank with htk_compat,
 * use_energy false, dither 0, snip_edges, pre-emphasis 0.97, DC removed per frame, FFT of the next power of two, Hanning window, mel from
 * 20 Hz to half the rate, natural log floored at 1.1920929e-07; frames padded with zeros AFTER the log, or cut, to n_frames; then (x - mean) / std. */
typedef struct mm_mel_spec {
    enum { MM_MEL_WHISPER, MM_MEL_KALDI } kind;
    int rate;          /* 16000 */
    int bins;          /* 80, 128 ... */
    int n_fft, hop;    /* WHISPER: 400, 160; KALDI: window 25 ms and shift 10 ms in samples (400, 160) */
    int n_frames;      /* of the result; WHISPER 3000 for 30 s */
    int center_wave;   /* KALDI: subtract the mean of the whole sound first (ImageBind) */
    float mean, std;   /* KALDI: of the result; std 0: leave as it is. AST: std is 2 x the published figure */
} mm_mel_spec;

/* out [bins, n_frames] row-major for either kind. n may be 0..: sound shorter than one window is padded with zeros to one window. */
MM_API MM_MUST_CHECK int mm_mel(float *out, const float *x, size_t n, const mm_mel_spec *spec, mm_err *err);

/* ---- quality of an input ---- */

typedef struct mm_image_quality {
    float blur;      /* 0 sharp .. 1 blurred: share of edges that a 9-wide mean does not weaken (Crete et al. 2007) */
    float exposure;  /* mean luma, 0..1 */
    float dark, bright; /* shares of pixels at or below 5, at or above 250 of 255 */
    float entropy;   /* of the luma histogram, bits, 0..8 */
} mm_image_quality;
MM_API void mm_image_measure(mm_image_quality *q, const mm_image *im);
/* Standard deviation of the luma's noise in grey levels, were it white (Immerkaer 1996; the median in place of the mean, which edges do not
 * move): drawings have about 0, photos a few, 49 is luma of noise alone. */
MM_API float mm_image_noise(const mm_image *im);
/* Share of frames that differ from the one before by less than one grey level on average. */
MM_API float mm_video_duplicates(const mm_image *frames, size_t n);

typedef struct mm_sound_quality {
    float level, peak; /* dB of full scale: RMS (-120 at least), largest sample */
    float clipping;    /* share of samples at +-0.999 or beyond, in runs of 2 or more */
    float silence;     /* share of 20 ms frames below -60 dBFS */
    float snr;         /* dB: loud frames (95th percentile of frame power) over quiet ones (10th), 0..100 */
    int has_speech;    /* 0: nothing voice-like: fewer than 5 frames of 30 ms that are above -50 dBFS and voiced (normalised autocorrelation
                        * over 0.5 at a lag of 70..400 Hz). Music and tones may pass: "no" is certain, "yes" is not */
} mm_sound_quality;
MM_API void mm_sound_measure(mm_sound_quality *q, const float *x, size_t n, int rate);

/* The same of a spectrum that a model sees, when samples are gone. */
typedef struct mm_mel_quality {
    float snr;      /* dB: as above, of the frames' power */
    float silence;  /* share of frames that are 50 dB below the loudest, or below what hearing starts with */
    float flatness; /* 0 a tone .. 1 white noise: geometric over arithmetic mean of the bins' power, mean over the frames that are not silent */
} mm_mel_quality;
/* x [n, bins]: natural logarithm of power is scale * x + shift. */
MM_API void mm_mel_measure(mm_mel_quality *q, const float *x, size_t n, size_t bins, float scale, float shift);

typedef struct mm_text_quality {
    int valid;          /* UTF-8 */
    size_t characters;  /* grapheme clusters (utf8proc), white space runs counted once: language-independent length */
    float repetition;   /* 0..1: share of character trigrams that occurred before in the text */
} mm_text_quality;
MM_API void mm_text_measure(mm_text_quality *q, const char *p, size_t len);

#ifdef __cplusplus
}
#endif
#endif

/* sound_int.h - between sound.c (bytes in, mono out, what libsndfile knows) and sound_av.c (what FFmpeg knows). Private. */
#ifndef SOUND_INT_H
#define SOUND_INT_H

#include "media/mm_media.h"

#define SOUND_CHANNELS 256 /* more is no sound that anybody recorded */
#define SOUND_RATE_MIN 100
#define SOUND_RATE_MAX 1536000
#define SOUND_BLOCK 4096 /* samples that are decoded at a time, all channels together */

struct SwrContext;

/* The bytes: of memory or of a file, with up to 4 of them replaced (a size in a header that is known better). */
typedef struct sound_in {
    const uint8_t *p; /* [len]; NULL: fd */
    int fd;
    int64_t len, pos;
    int64_t patch_at; /* -1: none */
    int patch_len;
    uint8_t patch[8];
    mm_buf held; /* what came through a pipe */
    int failed;  /* errno of a read that failed */
} sound_in;

/* At most n bytes from the position on; fewer at the end; -1 (and in->failed) when the file cannot be read. */
int64_t mm_sound_in_read(sound_in *in, void *buf, int64_t n);

/* The result as it grows. Decoders call _rate before the first block (and again when it changes), then _add with blocks of
 * interleaved float; _end completes it. All return 0, an error, or 1: the limit is reached and the rest is not wanted. */
typedef struct sound_out {
    float *x; /* [n] at `rate`, room for cap */
    size_t n, cap;
    int rate;
    double max_seconds;
    int cut;
    /* of the run at one stored rate */
    int from; /* its rate; 0: none begun */
    int64_t frames;
    size_t start, skip; /* where its result begins in x; how many samples in front are the filter's approach */
    struct SwrContext *swr;
    double seconds;   /* of the runs before */
    int64_t replaced; /* samples that were no numbers */
    int full;
    float mono[SOUND_BLOCK];
} sound_out;

int mm_sound_out_rate(sound_out *o, int64_t rate, mm_err *err);
int mm_sound_out_add(sound_out *o, const float *x, size_t frames, int channels, mm_err *err);
int mm_sound_out_end(sound_out *o, mm_err *err);
/* MM_ELONG when so many seconds are above the limit and may not be cut. */
int mm_sound_out_limit(const sound_out *o, double seconds, mm_err *err);
int mm_sound_channels(int64_t channels, mm_err *err); /* 0 or MM_EDATA */

/* 1: what libsndfile reads, by its header; info is filled. 0: anything else, or not to be judged by its header alone. */
int mm_sound_header(const uint8_t *p, size_t len, mm_media_info *info);
/* The first sound stream of any file that FFmpeg opens. */
int mm_sound_av(sound_out *o, sound_in *in, mm_media_info *info, mm_err *err);

#endif

/* media_int.h - what the files about pictures and video share. Not installed.
 *
 * The way of a picture: media_open (bytes) -> media_sniff (kind, by content) -> the kind's decoder (media_raw: RGB or RGBA as
 * stored, with the orientation that the file states) -> media_finish (transparency, orientation) -> mm_image. */
#ifndef MM_MEDIA_INT_H
#define MM_MEDIA_INT_H

#include "base/mm_file.h"
#include "media/mm_input.h"

struct AVFormatContext;
struct AVFrame;
struct AVStream;

/* ---- source.c: bytes, what they look like, FFmpeg's way to read them ---- */

typedef struct media_bytes {
    const uint8_t *p;
    size_t len;
    mm_map map; /* one of the two holds what p points to, or neither: the caller's memory */
    mm_buf buf;
} media_bytes;

/* All of src: files are mapped, pipes read. MM_EEMPTY for nothing. Close after success only. */
MM_MUST_CHECK int media_open(media_bytes *b, const mm_media_src *src, mm_err *err);
void media_close(media_bytes *b);
/* The file's name in front of a message, for sources that have one. Returns r. */
int media_name(const mm_media_src *src, int r, mm_err *err);

typedef enum {
    KIND_OTHER, /* none of those below: sound, video, or nothing that is known */
    KIND_JPEG, KIND_PNG, KIND_GIF, KIND_WEBP, KIND_HEIF, KIND_BMP, KIND_TIFF, KIND_PBM, KIND_PGM, KIND_PPM, KIND_PAM, KIND_QOI,
    KIND_JP2, KIND_J2K, KIND_JXL, KIND_PSD, KIND_ICO
} media_kind;

media_kind media_sniff(const uint8_t *p, size_t len, char format[24]);
const char *media_looks_like(const uint8_t *p, size_t len); /* "text", "a PDF document" ...; "unknown data" */

typedef struct media_input { /* FFmpeg's demuxer over memory */
    struct AVFormatContext *fmt;
    struct AVIOContext *io;
    const uint8_t *p;
    size_t len, at;
} media_input;

/* Streams are known afterwards. Formats that open other files or the network are not tried. Close after success only. in must not move. */
MM_MUST_CHECK int media_demux(media_input *in, const uint8_t *p, size_t len, mm_err *err);
void media_demux_close(media_input *in);

/* A library does not print: FFmpeg's messages are off, its errors come as codes. */
void media_quiet(void);
/* FFmpeg's error r while doing what ("read the PNG picture"), as ours. */
int media_av_fail(mm_err *err, int r, const char *what);

/* ---- pictures ---- */

typedef struct media_raw {
    uint8_t *px; /* [height, width, channels], owned */
    int width, height, channels; /* 3, or 4: RGBA, not premultiplied */
    int orientation;             /* 1..8, EXIF's meaning; 0 as 1 */
} media_raw;

typedef struct media_job {
    const uint8_t *p;
    size_t len;
    mm_image_opts opts; /* max_pixels is set */
    mm_media_info *info; /* never NULL */
    int header_only;    /* sizes and orientation only: raw->px stays NULL */
    mm_err *err;
} media_job;

/* MM_ELONG when width x height is over the limit, MM_EDATA when there is nothing in it. */
MM_MUST_CHECK int media_check_size(const media_job *j, int64_t width, int64_t height);
/* raw->px for its width, height and channels. */
MM_MUST_CHECK int media_alloc(const media_job *j, media_raw *raw);
void media_note(mm_media_info *info, const char *note); /* added to info->note if it fits */
MM_MUST_CHECK int media_orient(media_raw *raw, int orientation, mm_err *err);
/* raw -> out, upright RGB; raw is empty afterwards whatever happens. */
MM_MUST_CHECK int media_finish(mm_image *out, media_raw *raw, const mm_image_opts *opts, mm_media_info *info, mm_err *err);

/* The decoders; raw is {0} before, and empty after failure. */
MM_MUST_CHECK int media_jpeg(const media_job *j, media_raw *raw);
MM_MUST_CHECK int media_webp(const media_job *j, media_raw *raw);
MM_MUST_CHECK int media_heif(const media_job *j, media_raw *raw);
MM_MUST_CHECK int media_png(const media_job *j, media_raw *raw);
MM_MUST_CHECK int media_gif(const media_job *j, media_raw *raw);
MM_MUST_CHECK int media_still(const media_job *j, media_raw *raw, media_kind kind); /* the others, by FFmpeg's decoders */

/* One picture of FFmpeg's codec from one packet; all but p, len, codec and name (for messages) may be absent. *out is the caller's to free. */
typedef struct media_packet {
    int codec; /* AV_CODEC_ID_* */
    const char *name;
    const uint8_t *p, *extra;
    size_t len, extra_len;
    const char *option, *value; /* of the decoder */
    int marks; /* not 0: a pattern of this number is put into all rows beforehand, see media_unfilled */
} media_packet;
MM_MUST_CHECK int media_decode_one(const media_job *j, const media_packet *packet, struct AVFrame **out);
/* Rows that still have the pattern, or, by chance, pixels that look so: 0 none, 1 the last one (data that ended early), 2 others only. */
int media_unfilled(const struct AVFrame *f, int marks);
/* A decoded frame as RGB or RGBA: exactly for gray, palette and RGB formats of any depth. YUV of a still picture goes through media_yuv and
 * has full range unless it says otherwise, that of a video through swscale and has limited range unless it says otherwise. */
MM_MUST_CHECK int media_pixels(const media_job *j, media_raw *raw, const struct AVFrame *f, int still);
/* yuv.c: into raw, which has its size, channels and memory. 1, or 0 for a format that is not laid out in planes, or an error. */
MM_MUST_CHECK int media_yuv(const media_job *j, media_raw *raw, const struct AVFrame *f, int full);

/* A number (BYTE, SHORT or LONG) of the first IFD of TIFF data; 0 when it is not there or anything is broken. */
uint32_t media_tiff_tag(const uint8_t *p, size_t len, unsigned tag);
/* p is a copy of a TIFF file: its first IFD is left with the tags that say something about pixels, in order; FFmpeg's decoder, asked to be
 * strict about damage, is strict about tags too. */
void media_tiff_plain(uint8_t *p, size_t len);
/* Orientation 1..8 of EXIF data, with or without "Exif\0\0" in front. */
int media_exif_orientation(const uint8_t *p, size_t len);

/* What transparent pixels of a GIF's first frame look like when transparency is dropped, 0xRRGGBB; -1: nothing is transparent. */
int32_t media_gif_hidden(const uint8_t *p, size_t len);
/* Frames of an animated picture as its blocks say; 1 for others. */
int64_t media_gif_frames(const uint8_t *p, size_t len);

/* Of the picture `in` resized to full[0] x full[1], the w x h pixels from at[0], at[1] on: rows of out_stride bytes. */
MM_MUST_CHECK int media_resize_part(uint8_t *out, size_t out_stride, const mm_image *in, const int64_t full[2], const int64_t at[2], int w,
                                    int h, mm_resize_filter filter, mm_err *err);

/* webp.c: animated WebP, which FFmpeg does not read. Same contract as mm_video_read. */
MM_MUST_CHECK int media_webp_frames(mm_image *frames, double *times, const mm_video_spec *spec, const media_job *j, double max_seconds);

/* tiles.c: a picture as s->tiles says, into the views x of [3, s->height, s->width]; f gets rows and cols. */
MM_MUST_CHECK int media_tiles(float *x, const mm_image *im, const mm_input_spec *s, mm_input_facts *f, mm_err *err);

/* moments.c: the moments of spec in a clip that is `seconds` long and whose last frame begins at `last`. */
void media_moments(double *at, const mm_video_spec *spec, double seconds, double last);

/* What the demuxer says of the streams, into *info. */
void media_streams(const media_input *in, mm_media_info *info);
/* A stream's display matrix as one of EXIF's orientations. */
int media_stream_orientation(const struct AVStream *s);

static inline uint32_t be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static inline uint32_t be32(const uint8_t *p) { return be16(p) << 16 | be16(p + 2); }
static inline uint32_t le16(const uint8_t *p) { return (uint32_t)p[1] << 8 | p[0]; }
static inline uint32_t le32(const uint8_t *p) { return le16(p + 2) << 16 | le16(p); }

#endif

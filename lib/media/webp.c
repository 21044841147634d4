/* WebP by libwebp, whose chroma interpolation and conversion are those that published results were made with; FFmpeg has no reader of
 * animated ones. */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include "media/media_int.h"

/* The payload of the first chunk of this name. */
static const uint8_t *chunk(const uint8_t *p, size_t len, const char *name, size_t *n)
{
    for (size_t at = 12; at + 8 <= len;) {
        size_t size = le32(p + at + 4);
        if (size > len - at - 8) return NULL;
        if (!memcmp(p + at, name, 4)) {
            *n = size;
            return p + at + 8;
        }
        at += 8 + size + (size & 1);
    }
    return NULL;
}

static int status(const media_job *j, VP8StatusCode s)
{
    switch (s) {
    case VP8_STATUS_OK: return 0;
    case VP8_STATUS_OUT_OF_MEMORY: return mm_fail(j->err, MM_ENOMEM, "out of memory");
    case VP8_STATUS_UNSUPPORTED_FEATURE: return mm_fail(j->err, MM_EUNSUP, "WebP of a kind that is not supported");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA: return mm_fail(j->err, MM_ETRUNC, "the WebP file ends early");
    default: return mm_fail(j->err, MM_EDATA, "the WebP file is damaged");
    }
}

typedef struct anim {
    WebPAnimDecoder *dec;
    int n;
} anim;

static int anim_open(anim *a, const media_job *j)
{
    WebPData data = { j->p, j->len };
    WebPAnimDecoderOptions o;
    WebPAnimInfo info;
    a->dec = NULL;
    if (WebPAnimDecoderOptionsInit(&o)) {
        o.color_mode = MODE_RGBA;
        a->dec = WebPAnimDecoderNew(&data, &o);
    }
    if (!a->dec || !WebPAnimDecoderGetInfo(a->dec, &info)) return mm_fail(j->err, MM_EDATA, "the WebP file is damaged or ends early");
    a->n = (int)info.frame_count;
    return 0;
}

/* 1 a frame, 0 no more. *px [height, width, 4] stays the decoder's. */
static int anim_next(anim *a, const media_job *j, uint8_t **px, int *ends_at)
{
    if (!WebPAnimDecoderHasMoreFrames(a->dec)) return 0;
    if (WebPAnimDecoderGetNext(a->dec, px, ends_at)) return 1;
    return mm_fail(j->err, MM_ETRUNC, "the WebP file is damaged or ends early");
}

static int first_frame(const media_job *j, media_raw *raw)
{
    anim a;
    uint8_t *px;
    int ends;
    raw->channels = 4;
    int r = anim_open(&a, j);
    if (!r) r = media_alloc(j, raw);
    if (!r) {
        r = anim_next(&a, j, &px, &ends);
        if (r > 0) {
            memcpy(raw->px, px, (size_t)raw->width * (size_t)raw->height * 4);
            r = 0;
        } else if (!r) {
            r = mm_fail(j->err, MM_EDATA, "the WebP file has no frame");
        }
    }
    WebPAnimDecoderDelete(a.dec);
    return r;
}

static int header(const media_job *j, media_raw *raw, WebPBitstreamFeatures *f)
{
    size_t n;
    const uint8_t *p;
    int r = status(j, WebPGetFeatures(j->p, j->len, f));
    if (!r) r = media_check_size(j, f->width, f->height);
    if (r) return r;
    raw->width = f->width;
    raw->height = f->height;
    raw->channels = f->has_alpha ? 4 : 3;
    raw->orientation = (p = chunk(j->p, j->len, "EXIF", &n)) ? media_exif_orientation(p, n) : 1;
    if (chunk(j->p, j->len, "ICCP", &n)) media_note(j->info, "embedded colour profile ignored");
    if (f->has_animation) j->info->has |= MM_MEDIA_VIDEO;
    if (le32(j->p + 4) > j->len - 8) return mm_fail(j->err, MM_ETRUNC, "the WebP file ends early");
    return 0;
}

static int decode(const media_job *j, media_raw *raw)
{
    WebPDecoderConfig c;
    int r = media_alloc(j, raw);
    if (r) return r;
    if (!WebPInitDecoderConfig(&c)) return mm_fail(j->err, MM_EUNSUP, "WebP: the library's version is not the header's");
    c.output.colorspace = raw->channels == 4 ? MODE_RGBA : MODE_RGB;
    c.output.is_external_memory = 1;
    c.output.u.RGBA.rgba = raw->px;
    c.output.u.RGBA.stride = raw->width * raw->channels;
    c.output.u.RGBA.size = (size_t)raw->width * (size_t)raw->height * (size_t)raw->channels;
    r = status(j, WebPDecode(j->p, j->len, &c));
    WebPFreeDecBuffer(&c.output);
    return r;
}

int media_webp(const media_job *j, media_raw *raw)
{
    WebPBitstreamFeatures f;
    int r = header(j, raw, &f);
    if (!r && !j->header_only) r = f.has_animation ? first_frame(j, raw) : decode(j, raw);
    if (r) {
        free(raw->px);
        *raw = (media_raw){ 0 };
    }
    return r;
}

/* ---- as video ---- */

/* Begins of the frames and the end of the last, in milliseconds. */
static int timeline(const media_job *j, int **starts, int *n, double *seconds)
{
    WebPData data = { j->p, j->len };
    WebPIterator it;
    WebPDemuxer *d = WebPDemux(&data);
    if (!d) return mm_fail(j->err, MM_EDATA, "the WebP file is damaged or ends early");
    int64_t at = 0;
    *n = 0;
    *starts = mm_realloc(NULL, WebPDemuxGetI(d, WEBP_FF_FRAME_COUNT) + 1, sizeof **starts);
    if (*starts && WebPDemuxGetFrame(d, 1, &it)) {
        do {
            (*starts)[(*n)++] = (int)(at < INT32_MAX ? at : INT32_MAX);
            at += it.duration > 0 ? it.duration : 0;
        } while (WebPDemuxNextFrame(&it));
        WebPDemuxReleaseIterator(&it);
    }
    WebPDemuxDelete(d);
    *seconds = (double)at / 1000;
    if (!*starts) return mm_fail(j->err, MM_ENOMEM, "out of memory");
    return *n ? 0 : mm_fail(j->err, MM_EDATA, "the WebP file has no frame");
}

int media_webp_frames(mm_image *frames, double *times, const mm_video_spec *spec, const media_job *j, double max_seconds)
{
    WebPBitstreamFeatures f;
    media_raw raw = { 0 };
    anim a = { 0 };
    int *starts = NULL, n = 0, ends, r = header(j, &raw, &f), orientation = raw.orientation;
    double seconds = 0, *at = mm_realloc(NULL, (size_t)spec->frames, sizeof *at);
    uint8_t *px;
    if (!r && !at) r = mm_fail(j->err, MM_ENOMEM, "out of memory");
    if (!r) r = timeline(j, &starts, &n, &seconds);
    if (!r && seconds > max_seconds)
        r = mm_fail(j->err, MM_ELONG, "the animation is %.0f seconds long, the limit is %.0f", seconds, max_seconds);
    if (!r) r = anim_open(&a, j);
    if (!r) media_moments(at, spec, seconds, starts[n - 1] / 1000.0);
    for (int i = 0; i < n && !r; i++) {
        if ((r = anim_next(&a, j, &px, &ends)) <= 0) {
            if (i && r) j->info->truncated = 1; /* what came before is used */
            else if (!r) r = mm_fail(j->err, MM_EDATA, "the WebP file has no frame");
            break;
        }
        r = 0;
        j->info->frames++;
        double next = i + 1 < n ? starts[i + 1] / 1000.0 : 1e300;
        for (int k = 0; k < spec->frames && !r; k++) {
            if (at[k] + 1e-6 >= next || (i && at[k] + 1e-6 < starts[i] / 1000.0)) continue;
            raw = (media_raw){ .width = f.width, .height = f.height, .channels = 4, .orientation = orientation };
            if ((r = media_alloc(j, &raw))) break;
            memcpy(raw.px, px, (size_t)f.width * (size_t)f.height * 4);
            mm_image_clear(&frames[k]);
            r = media_finish(&frames[k], &raw, &j->opts, j->info, j->err);
            times[k] = starts[i] / 1000.0;
        }
    }
    j->info->seconds = seconds;
    WebPAnimDecoderDelete(a.dec);
    free(starts);
    free(at);
    return r;
}

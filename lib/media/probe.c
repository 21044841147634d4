/* What a file is, by its headers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "media/av.h"
#include "media/media_int.h"
#include "media/sound_int.h"

static int picture(const media_job *j, media_kind kind)
{
    media_raw raw = { 0 };
    int r;
    j->info->has = MM_MEDIA_IMAGE;
    switch (kind) {
    case KIND_JPEG: r = media_jpeg(j, &raw); break;
    case KIND_PNG: r = media_png(j, &raw); break;
    case KIND_GIF: r = media_gif(j, &raw); break;
    case KIND_WEBP: r = media_webp(j, &raw); break;
    case KIND_HEIF: r = media_heif(j, &raw); break;
    default: r = media_still(j, &raw, kind);
    }
    int turn = raw.orientation >= 5;
    j->info->width = turn ? raw.height : raw.width;
    j->info->height = turn ? raw.width : raw.height;
    return r;
}

int media_stream_orientation(const AVStream *s)
{
    size_t n;
    const uint8_t *data = av_stream_get_side_data(s, AV_PKT_DATA_DISPLAYMATRIX, &n);
    int32_t m[9];
    if (!data || n < sizeof m) return 1;
    memcpy(m, data, sizeof m);
    int64_t a = m[0], b = m[1], c = m[3], d = m[4];
    if (llabs(a) + llabs(d) >= llabs(b) + llabs(c)) return a >= 0 ? (d >= 0 ? 1 : 4) : d >= 0 ? 2 : 3;
    return b >= 0 ? (c >= 0 ? 5 : 6) : c >= 0 ? 8 : 7;
}

void media_streams(const media_input *in, mm_media_info *info)
{
    const char *name = in->fmt->iformat->name;
    if (!strncmp(name, "mov,", 4)) name = "mp4";
    snprintf(info->format, sizeof info->format, "%.*s", (int)strcspn(name, ","), name);
    for (unsigned i = 0; i < in->fmt->nb_streams; i++) {
        const AVStream *s = in->fmt->streams[i];
        const AVCodecParameters *p = s->codecpar;
        if (p->codec_type == AVMEDIA_TYPE_VIDEO && !(s->disposition & AV_DISPOSITION_ATTACHED_PIC) && !(info->has & MM_MEDIA_VIDEO)) {
            int turn = media_stream_orientation(s) >= 5;
            info->has |= MM_MEDIA_VIDEO;
            info->width = turn ? p->height : p->width;
            info->height = turn ? p->width : p->height;
            info->frames = s->nb_frames ? s->nb_frames : -1;
        } else if (p->codec_type == AVMEDIA_TYPE_AUDIO && !(info->has & MM_MEDIA_AUDIO)) {
            info->has |= MM_MEDIA_AUDIO;
            info->rate = p->sample_rate;
            info->channels = p->ch_layout.nb_channels;
        }
    }
    if (in->fmt->duration > 0) info->seconds = (double)in->fmt->duration / AV_TIME_BASE;
}

static int streams(const media_job *j)
{
    media_input in;
    int r = media_demux(&in, j->p, j->len, j->err);
    if (r) return r;
    media_streams(&in, j->info);
    media_demux_close(&in);
    return j->info->has ? 0 : mm_fail(j->err, MM_EDATA, "no picture, sound or video in it: %s", j->info->format);
}

int mm_media_probe(const mm_media_src *src, mm_media_info *info, mm_err *err)
{
    media_bytes b;
    *info = (mm_media_info){ 0 };
    int r = media_open(&b, src, err);
    if (r) return r;
    media_job j = { .p = b.p, .len = b.len, .info = info, .err = err, .header_only = 1 };
    j.opts.max_pixels = INT64_MAX; /* a size is stated, whatever it is */
    media_kind kind = media_sniff(b.p, b.len, info->format);
    r = media_name(src, kind ? picture(&j, kind) : mm_sound_header(b.p, b.len, info) ? 0 : streams(&j), err);
    media_close(&b);
    return r;
}

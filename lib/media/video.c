/* Frames of a video at given moments. The packets are looked at first, for the length; then the video is decoded from its beginning, and
 * each moment gets the frame that is on show then. What decodes may differ from what the packets said (cut or damaged files): then
 * the moments are placed anew and it is decoded once more. Long videos are not decoded whole: the demuxer jumps near each moment. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <omp.h>
#include "media/av.h"
#include "media/media_int.h"

#define WHOLE 4096     /* packets of a video that is decoded whole */
#define SLACK 1e-6     /* seconds: times are products of rationals */
#define NEAR 2.0       /* seconds ahead that are decoded rather than jumped over */

typedef struct clip {
    const media_job *j;
    const mm_video_spec *spec;
    mm_image *frames;
    double *times, *at; /* [spec->frames]: of the frame given, of the moment wanted */
    char *given;        /* [spec->frames] */
    double max_seconds;
    media_input in;
    AVStream *st;
    AVCodecContext *dec;
    AVPacket *packet;
    AVFrame *f, *shown; /* shown: the last frame that came, until it is known how long it stays */
    int orientation;
    double nominal;     /* seconds of a frame that does not say */
    double first, now, end; /* of the first frame on the file's clock; of `shown` and its end, from the first frame on */
    int64_t count;
    int jumped;
} clip;

static double seconds_of(const clip *c, int64_t ts) { return (double)ts * av_q2d(c->st->time_base); }

/* ---- frames to their moments ---- */

static int give(clip *c, int k)
{
    media_raw raw = { 0 };
    int r;
    mm_image_clear(&c->frames[k]);
    c->given[k] = 1;
    c->times[k] = c->now;
    for (int i = 0; i < c->spec->frames; i++) { /* the same frame again is a copy */
        const mm_image *have = &c->frames[i];
        if (i == k || !c->given[i] || !have->px || c->times[i] != c->now) continue;
        size_t n = (size_t)have->width * (size_t)have->height;
        c->frames[k] = (mm_image){ mm_realloc(NULL, n, 3), have->width, have->height };
        if (!c->frames[k].px) return mm_fail(c->j->err, MM_ENOMEM, "out of memory");
        memcpy(c->frames[k].px, have->px, n * 3);
        return 0;
    }
    if ((r = media_pixels(c->j, &raw, c->shown, 0))) return r;
    raw.orientation = c->orientation;
    return media_finish(&c->frames[k], &raw, &c->j->opts, c->j->info, c->j->err);
}

/* `shown` leaves at `until`: it is the one for all moments before that which have none. */
static int settle(clip *c, double until)
{
    int r = 0;
    for (int k = 0; k < c->spec->frames && !r; k++)
        if (!c->given[k] && c->at[k] + SLACK < until) r = give(c, k);
    return r;
}

static int on_frame(clip *c)
{
    const AVFrame *f = c->f;
    int64_t ts = f->best_effort_timestamp;
    double t = ts == AV_NOPTS_VALUE ? NAN : seconds_of(c, ts), lasts = f->pkt_duration > 0 ? seconds_of(c, f->pkt_duration) : c->nominal;
    int r = 0;
    if (f->flags & AV_FRAME_FLAG_CORRUPT || f->decode_error_flags) c->j->info->truncated = 1;
    if (!c->shown->data[0]) {
        if (!c->jumped) c->first = isnan(t) ? 0 : t;
        t = isnan(t) ? c->now : t - c->first;
    } else {
        t -= c->first;
        if (!(t > c->now)) t = c->now + c->nominal; /* no time, or one that goes back */
        r = settle(c, t);
    }
    c->now = t;
    c->end = t + lasts;
    c->count++;
    av_frame_unref(c->shown);
    av_frame_move_ref(c->shown, c->f);
    return r;
}

/* ---- decoding ---- */

static void stop(clip *c)
{
    avcodec_free_context(&c->dec);
    if (c->shown) av_frame_unref(c->shown);
    media_demux_close(&c->in);
}

static int start(clip *c)
{
    const media_job *j = c->j;
    int r = media_demux(&c->in, j->p, j->len, j->err), best;
    const AVCodec *codec = NULL;
    AVDictionary *options = NULL;
    char value[16];
    if (r) return r;
    if (!j->info->has) media_streams(&c->in, j->info);
    best = av_find_best_stream(c->in.fmt, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (best < 0 || c->in.fmt->streams[best]->disposition & AV_DISPOSITION_ATTACHED_PIC) {
        stop(c);
        return mm_fail(j->err, MM_EDATA, "no video in it: %s%s", j->info->format, j->info->has & MM_MEDIA_AUDIO ? " sound" : "");
    }
    c->st = c->in.fmt->streams[best];
    for (unsigned i = 0; i < c->in.fmt->nb_streams; i++) c->in.fmt->streams[i]->discard = i == (unsigned)best ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    const AVCodecParameters *p = c->st->codecpar;
    if (p->width > 0 && p->height > 0 && (r = media_check_size(j, p->width, p->height))) {
        stop(c);
        return r;
    }
    c->orientation = media_stream_orientation(c->st);
    AVRational rate = av_guess_frame_rate(c->in.fmt, c->st, NULL);
    c->nominal = rate.num > 0 && rate.den > 0 ? av_q2d(av_inv_q(rate)) : 0.04;
    if (p->codec_id == AV_CODEC_ID_AV1) codec = avcodec_find_decoder_by_name("libdav1d"); /* FFmpeg's own needs hardware */
    if (!codec) codec = avcodec_find_decoder(p->codec_id);
    if (!codec) {
        r = mm_fail(j->err, MM_EUNSUP, "cannot decode %s video: the installed FFmpeg has no decoder", avcodec_get_name(p->codec_id));
        stop(c);
        return r;
    }
    r = (c->dec = avcodec_alloc_context3(codec)) ? avcodec_parameters_to_context(c->dec, p) : AVERROR(ENOMEM);
    if (r >= 0) {
        int threads = omp_get_max_threads();
        c->dec->pkt_timebase = c->st->time_base;
        c->dec->max_pixels = j->opts.max_pixels;
        c->dec->thread_count = p->width * p->height < 320 * 240 ? 1 : threads < 4 ? threads : 4;
        if (p->codec_id == AV_CODEC_ID_GIF) {
            int32_t hidden = media_gif_hidden(j->p, j->len);
            snprintf(value, sizeof value, "%d", hidden < 0 ? 0xFFFFFF : (int)hidden);
            av_dict_set(&options, "trans_color", value, 0);
        }
        r = avcodec_open2(c->dec, codec, &options);
        av_dict_free(&options);
    }
    if (r < 0) {
        r = media_av_fail(j->err, r, "open the video");
        stop(c);
        return r;
    }
    c->now = c->end = c->first = 0;
    c->count = 0;
    c->jumped = 0;
    return 0;
}

/* 1: c->f has the next frame; 0: no more; < 0: an error that ends it. Damage on the way is passed over and noted. */
static int next(clip *c)
{
    int bad = 0;
    for (;;) {
        int r = avcodec_receive_frame(c->dec, c->f);
        if (!r) return 1;
        if (r == AVERROR_EOF) return 0;
        if (r == AVERROR(ENOMEM)) return media_av_fail(c->j->err, r, "decode the video");
        if (r != AVERROR(EAGAIN)) c->j->info->truncated = 1, bad++;
        if (bad > WHOLE) return 0;
        if ((r = av_read_frame(c->in.fmt, c->packet)) < 0) {
            if (r != AVERROR_EOF) c->j->info->truncated = 1;
            if ((r = avcodec_send_packet(c->dec, NULL)) < 0 && r != AVERROR_EOF) return 0;
            continue;
        }
        if (c->packet->stream_index == c->st->index) {
            if (c->packet->flags & AV_PKT_FLAG_CORRUPT) c->j->info->truncated = 1;
            r = avcodec_send_packet(c->dec, c->packet);
            if (r == AVERROR(ENOMEM)) {
                av_packet_unref(c->packet);
                return media_av_fail(c->j->err, r, "decode the video");
            }
            if (r < 0) c->j->info->truncated = 1;
        }
        av_packet_unref(c->packet);
    }
}

static int no_frames(const clip *c)
{
    return mm_fail(c->j->err, c->j->info->truncated ? MM_ETRUNC : MM_EDATA, "no frame of the %s video can be decoded",
                   avcodec_get_name(c->st->codecpar->codec_id));
}

static int too_long(const clip *c, double seconds)
{
    return mm_fail(c->j->err, MM_ELONG, "the video is %.0f seconds long, the limit is %.0f", seconds, c->max_seconds);
}

static int decode_all(clip *c)
{
    int r;
    memset(c->given, 0, (size_t)c->spec->frames);
    while ((r = next(c)) > 0)
        if ((r = on_frame(c))) return r;
    if (!r && !c->count) r = no_frames(c);
    return r ? r : settle(c, INFINITY);
}

/* What the packets say: how many, from when to when. */
typedef struct extent {
    int64_t packets, listed; /* listed: also those that an edit list leaves out */
    double first, last, end, any_end; /* any_end: of all streams */
} extent;

static int scan(clip *c, int64_t max, extent *e)
{
    int r = 0;
    *e = (extent){ .first = INFINITY, .last = -INFINITY, .end = -INFINITY, .any_end = -INFINITY };
    for (unsigned i = 0; i < c->in.fmt->nb_streams; i++) c->in.fmt->streams[i]->discard = AVDISCARD_DEFAULT;
    while (e->packets <= max && (r = av_read_frame(c->in.fmt, c->packet)) >= 0) {
        const AVPacket *k = c->packet;
        const AVStream *st = c->in.fmt->streams[k->stream_index];
        if (k->pts != AV_NOPTS_VALUE) e->any_end = fmax(e->any_end, (double)(k->pts + k->duration) * av_q2d(st->time_base));
        e->listed += k->stream_index == c->st->index;
        if (k->stream_index == c->st->index && !(k->flags & AV_PKT_FLAG_DISCARD)) {
            int64_t ts = k->pts != AV_NOPTS_VALUE ? k->pts : k->dts;
            double t = ts != AV_NOPTS_VALUE ? seconds_of(c, ts) : e->packets ? e->last + c->nominal : 0;
            double lasts = k->duration > 0 ? seconds_of(c, k->duration) : c->nominal;
            e->packets++;
            if (t < e->first) e->first = t;
            if (t > e->last) e->last = t;
            if (t + lasts > e->end) e->end = t + lasts;
        }
        av_packet_unref(c->packet);
    }
    if (r < 0 && r != AVERROR_EOF) c->j->info->truncated = 1;
    /* a header that states more than there is: the file is cut */
    if (r < 0 && c->in.fmt->duration > 0 && c->in.fmt->duration_estimation_method == AVFMT_DURATION_FROM_STREAM &&
        e->any_end + fmax(0.5, 2 * c->nominal) < (double)c->in.fmt->duration / AV_TIME_BASE)
        c->j->info->truncated = 1;
    if (!e->packets) return no_frames(c);
    return 0;
}

static int by_time(const void *a, const void *b)
{
    double x = **(double *const *)a, y = **(double *const *)b;
    return (x > y) - (x < y);
}

/* Moment by moment, earliest first; c has decoded nothing yet. */
static int decode_near(clip *c)
{
    int n = c->spec->frames, r;
    double **order = mm_realloc(NULL, (size_t)n, sizeof *order);
    if (!order) return mm_fail(c->j->err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) order[i] = &c->at[i];
    qsort(order, (size_t)n, sizeof *order, by_time);
    memset(c->given, 0, (size_t)n);
    if ((r = next(c)) > 0) r = on_frame(c);
    else if (!r) r = no_frames(c);
    int ended = 0;
    for (int i = 0; i < n && !r; i++) {
        double t = *order[i];
        if (c->given[order[i] - c->at]) continue;
        if (t > c->now + NEAR &&
            av_seek_frame(c->in.fmt, c->st->index, (int64_t)((t + c->first) / av_q2d(c->st->time_base)), AVSEEK_FLAG_BACKWARD) >= 0) {
            avcodec_flush_buffers(c->dec);
            av_frame_unref(c->shown);
            c->jumped = 1;
            c->now = t;
            ended = 0;
        }
        while (!r && !ended && !c->given[order[i] - c->at]) {
            if ((r = next(c)) > 0) r = on_frame(c);
            else if (!r) ended = 1;
        }
        if (!r && ended) r = c->shown->data[0] ? settle(c, t + 2 * SLACK) : no_frames(c);
    }
    free(order);
    return r;
}

static int read_whole(clip *c, const extent *e)
{
    mm_media_info *info = c->j->info;
    double seconds = e->end - e->first, last = e->last - e->first;
    int64_t claimed = c->st->nb_frames, indexed = strncmp(c->in.fmt->iformat->name, "mov,", 4) ? 0 : avformat_index_get_entries_count(c->st);
    if (indexed > 0 && indexed < claimed) claimed = indexed; /* the edit list of an MP4 file shows a part of it */
    for (int pass = 0; pass < 2; pass++) {
        media_moments(c->at, c->spec, seconds, last);
        int r = decode_all(c);
        if (r) return r;
        double known = fabs(c->now - last) + fabs(c->end - seconds);
        seconds = c->end;
        last = c->now;
        if (known < 2 * SLACK || pass) break;
        stop(c);
        if ((r = start(c))) return r;
    }
    if (claimed > e->listed) info->truncated = 1;
    info->frames = c->count;
    info->seconds = seconds;
    return 0;
}

static int read_video(clip *c)
{
    mm_media_info *info = c->j->info;
    extent e = { 0 };
    int r = start(c);
    if (r) return r;
    double stated = c->st->duration > 0 ? seconds_of(c, c->st->duration) : c->in.fmt->duration > 0 ? (double)c->in.fmt->duration / AV_TIME_BASE : 0;
    int estimated = c->in.fmt->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE;
    if (stated > c->max_seconds && !estimated) {
        r = too_long(c, stated);
    } else {
        r = scan(c, stated > 0 && !estimated ? WHOLE : INT64_MAX - 1, &e);
        if (!r && e.end - e.first > c->max_seconds) r = too_long(c, e.end - e.first);
    }
    stop(c);
    if (r || (r = start(c))) return r;
    if (e.packets <= WHOLE) {
        r = read_whole(c, &e);
    } else {
        if (stated < e.end - e.first) stated = e.end - e.first;
        media_moments(c->at, c->spec, stated, stated - c->nominal);
        r = decode_near(c);
        info->frames = -1;
        info->seconds = stated;
    }
    if (!r) {
        info->width = c->frames[0].width;
        info->height = c->frames[0].height;
    }
    stop(c);
    return r;
}

static int read_bytes(clip *c)
{
    const media_job *j = c->j;
    media_kind kind = media_sniff(j->p, j->len, j->info->format);
    if (kind == KIND_WEBP) {
        j->info->has = MM_MEDIA_IMAGE;
        return media_webp_frames(c->frames, c->times, c->spec, j, c->max_seconds);
    }
    if (kind == KIND_GIF || kind == KIND_PNG) {
        media_raw raw = { 0 };
        media_job head = *j;
        head.header_only = 1;
        int r = kind == KIND_GIF ? media_gif(&head, &raw) : media_png(&head, &raw);
        if (r) return r;
        j->info->has |= MM_MEDIA_IMAGE | (kind == KIND_GIF ? MM_MEDIA_VIDEO : 0);
    } else if (kind == KIND_HEIF) {
        media_raw raw = { 0 };
        media_job head = *j;
        head.header_only = 1;
        head.err = NULL;
        if (!media_heif(&head, &raw)) return mm_fail(j->err, MM_EDATA, "no video in it: %s picture", j->info->format);
    }
    if (kind && kind != KIND_HEIF && !(j->info->has & MM_MEDIA_VIDEO)) {
        j->info->has = MM_MEDIA_IMAGE;
        return mm_fail(j->err, MM_EDATA, "no video in it: %s picture", j->info->format);
    }
    char format[24];
    memcpy(format, j->info->format, sizeof format);
    int r = read_video(c);
    if (format[0] && kind != KIND_HEIF) memcpy(j->info->format, format, sizeof format);
    return r;
}

int mm_video_read(mm_image *frames, double *times, const mm_video_spec *spec, const mm_media_src *src, const mm_video_opts *opts,
                  mm_media_info *info, mm_err *err)
{
    mm_media_info unwanted;
    media_bytes b;
    if (!info) info = &unwanted;
    *info = (mm_media_info){ 0 };
    if (spec->frames < 1 || (spec->how == MM_FRAMES_CLIPS && (spec->clips < 1 || spec->frames % spec->clips || !(spec->clip_seconds > 0))))
        return mm_fail(err, MM_EARG, "%d frames of %d clips are wanted", spec->frames, spec->clips);
    for (int i = 0; i < spec->frames; i++) frames[i] = (mm_image){ 0 };
    int r = media_av_load(MEDIA_AV_FORMAT, err);
    if (!r) r = media_open(&b, src, err);
    if (r) return r;
    media_job j = { .p = b.p, .len = b.len, .info = info, .err = err };
    if (opts) j.opts = opts->image;
    if (j.opts.max_pixels <= 0) j.opts.max_pixels = MM_MAX_PIXELS;
    clip c = { .j = &j, .spec = spec, .frames = frames, .times = times, .max_seconds = opts && opts->max_seconds > 0 ? opts->max_seconds : MM_MAX_SECONDS };
    c.at = mm_realloc(NULL, (size_t)spec->frames, sizeof *c.at);
    c.given = mm_realloc(NULL, (size_t)spec->frames, 1);
    c.packet = av_packet_alloc();
    c.f = av_frame_alloc();
    c.shown = av_frame_alloc();
    r = c.at && c.given && c.packet && c.f && c.shown ? read_bytes(&c) : mm_fail(err, MM_ENOMEM, "out of memory");
    av_frame_free(&c.f);
    av_frame_free(&c.shown);
    av_packet_free(&c.packet);
    free(c.given);
    free(c.at);
    media_close(&b);
    return media_name(src, r, err);
}

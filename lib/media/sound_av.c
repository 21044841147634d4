/* Sound that FFmpeg decodes: the first sound stream of a container, streams of other kinds are not touched. A demuxer gets the bytes that it
 * was given and can open nothing else: no playlists, no second files, no network. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "media/av.h"
#include "media/sound_int.h"

#define IO_BUF 32768

/* Containers and raw formats that carry sound and are recognised by their content. */
static const char demuxers[] = "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,"
                               "mpeg,mpegts,nistsphere,nut,ogg,oma,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma";

static int io_read(void *u, uint8_t *buf, int n)
{
    int64_t got = mm_sound_in_read(u, buf, n);
    return got < 0 ? AVERROR(EIO) : got ? (int)got : AVERROR_EOF;
}

static int64_t io_seek(void *u, int64_t off, int whence)
{
    sound_in *in = u;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) return in->len;
    int64_t base = whence == SEEK_CUR ? in->pos : whence == SEEK_END ? in->len : 0, at;
    if (__builtin_add_overflow(base, off, &at) || at < 0) return AVERROR(EINVAL);
    return in->pos = at;
}

static int io_refuse(AVFormatContext *s, AVIOContext **pb, const char *url, int flags, AVDictionary **o)
{
    (void)s, (void)url, (void)flags, (void)o;
    *pb = NULL;
    return AVERROR(EPERM);
}

/* What a file is that FFmpeg does not open, as far as a few bytes tell: a carrier of sound is damaged, others have none. */
static int refused(sound_in *in, mm_media_info *info, mm_err *err)
{
    static const struct {
        const char *magic;
        unsigned char len, at, sound;
        char name[9];
    } known[] = {
        { "\x89PNG", 4, 0, 0, "png" },       { "\xFF\xD8\xFF", 3, 0, 0, "jpeg" }, { "GIF8", 4, 0, 0, "gif" },
        { "WEBP", 4, 8, 0, "webp" },         { "BM", 2, 0, 0, "bmp" },             { "II*\0", 4, 0, 0, "tiff" },
        { "MM\0*", 4, 0, 0, "tiff" },        { "%PDF", 4, 0, 0, "pdf" },           { "PK\x03\x04", 4, 0, 0, "zip" },
        { "\x1F\x8B", 2, 0, 0, "gzip" },     { "GGUF", 4, 0, 0, "gguf" },          { "ftypavif", 8, 4, 0, "avif" },
        { "ftypheic", 8, 4, 0, "heic" },     { "MThd", 4, 0, 0, "midi" },          { "\x7F" "ELF", 4, 0, 0, "elf" },
        { "OggS", 4, 0, 1, "ogg" },          { "fLaC", 4, 0, 1, "flac" },          { "AVI ", 4, 8, 1, "avi" },
        { "ID3", 3, 0, 1, "mp3" },           { "FORM", 4, 0, 1, "aiff" },          { ".snd", 4, 0, 1, "au" },
        { "caff", 4, 0, 1, "caf" },          { "ftyp", 4, 4, 1, "mp4" },           { "\x1A\x45\xDF\xA3", 4, 0, 1, "matroska" },
        { "WAVE", 4, 8, 1, "wav" },
    };
    uint8_t h[512];
    in->pos = 0;
    int64_t n = mm_sound_in_read(in, h, sizeof h);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].at + known[i].len && !memcmp(h + known[i].at, known[i].magic, known[i].len)) {
            if (!known[i].sound) return mm_fail(err, MM_EDATA, "no sound in it (%s)", known[i].name);
            snprintf(info->format, sizeof info->format, "%s", known[i].name);
            return info->truncated ? mm_fail(err, MM_ETRUNC, "the file ends before its first sample (%s)", known[i].name)
                                   : mm_fail(err, MM_EDATA, "damaged or cut short (%s)", known[i].name);
        }
    for (int64_t i = 0; i < n; i++)
        if (h[i] < 32 && h[i] != '\t' && h[i] != '\n' && h[i] != '\r' && h[i] != '\f')
            return mm_fail(err, MM_EDATA, "no sound in it (of no known format)");
    return mm_fail(err, MM_EDATA, "no sound in it (text)");
}

/* An MP4 that was cut in front of its index. */
static int no_index(sound_in *in)
{
    uint8_t h[16];
    int64_t at = 0;
    int data = 0;
    for (int atoms = 0; atoms < 10000 && at < in->len; atoms++) {
        in->pos = at;
        int64_t n = mm_sound_in_read(in, h, sizeof h);
        if (!at && (n < 8 || memcmp(h + 4, "ftyp", 4))) return 0;
        if (n < 8) return 1;
        if (!memcmp(h + 4, "moov", 4)) {
            int64_t size = (int64_t)h[0] << 24 | h[1] << 16 | h[2] << 8 | h[3];
            return size > in->len - at;
        }
        uint64_t size = (uint64_t)h[0] << 24 | (uint64_t)h[1] << 16 | (uint64_t)h[2] << 8 | h[3];
        if (size == 1 && n == 16) {
            size = 0;
            for (int i = 8; i < 16; i++) size = size << 8 | h[i];
        }
        if (size < 8 || size > (uint64_t)(in->len - at)) return 1;
        data |= !memcmp(h + 4, "mdat", 4);
        if (!memcmp(h + 4, "meta", 4)) return 0; /* a picture */
        at += (int64_t)size;
    }
    return data;
}

static float sample(const AVFrame *f, int planar, enum AVSampleFormat packed, int channels, int c, int i)
{
    const uint8_t *p = planar ? f->extended_data[c] : f->extended_data[0];
    const size_t k = planar ? (size_t)i : (size_t)i * (size_t)channels + (size_t)c;
    switch (packed) {
    case AV_SAMPLE_FMT_U8: return ((float)p[k] - 128.0f) / 128.0f;
    case AV_SAMPLE_FMT_S16: return (float)((const int16_t *)(const void *)p)[k] / 32768.0f;
    case AV_SAMPLE_FMT_S32: return (float)((const int32_t *)(const void *)p)[k] / 2147483648.0f;
    case AV_SAMPLE_FMT_S64: return (float)((const int64_t *)(const void *)p)[k] / 9223372036854775808.0f;
    case AV_SAMPLE_FMT_DBL: return (float)((const double *)(const void *)p)[k];
    default: return ((const float *)(const void *)p)[k];
    }
}

static int add_frame(sound_out *o, const AVFrame *f, float *buf, mm_media_info *info, mm_err *err)
{
    const enum AVSampleFormat format = f->format;
    const int channels = f->ch_layout.nb_channels, planar = av_sample_fmt_is_planar(format);
    const enum AVSampleFormat packed = av_get_packed_sample_fmt(format);
    int r = mm_sound_channels(channels, err);
    if (!r) r = mm_sound_out_rate(o, f->sample_rate, err);
    if (!info->rate) {
        info->rate = f->sample_rate;
        info->channels = channels;
    }
    const int block = SOUND_BLOCK / (channels > 0 ? channels : 1);
    for (int at = 0; at < f->nb_samples && !r; at += block) {
        int n = f->nb_samples - at < block ? f->nb_samples - at : block;
        for (int c = 0; c < channels; c++)
            for (int i = 0; i < n; i++) buf[i * channels + c] = sample(f, planar, packed, channels, c, at + i);
        r = mm_sound_out_add(o, buf, (size_t)n, channels, err);
    }
    return r;
}

typedef struct track {
    AVFormatContext *fmt;
    AVCodecContext *dec;
    AVPacket *pkt;
    AVFrame *frame;
    float buf[SOUND_BLOCK];
} track;

/* All packets of stream k. Damage is noted and what follows is tried. */
static int decode(track *t, int k, sound_out *o, mm_media_info *info, mm_err *err)
{
    int r = 0, end = 0;
    while (!end && r == 0) {
        int got = av_read_frame(t->fmt, t->pkt);
        if (got < 0) {
            if (got == AVERROR(ENOMEM)) return mm_fail(err, MM_ENOMEM, "out of memory");
            if (got != AVERROR_EOF) info->truncated = 1;
            end = 1;
        } else if (t->pkt->stream_index != k) {
            av_packet_unref(t->pkt);
            continue;
        } else if (t->pkt->flags & AV_PKT_FLAG_CORRUPT) {
            info->truncated = 1;
        }
        got = avcodec_send_packet(t->dec, end ? NULL : t->pkt);
        av_packet_unref(t->pkt);
        if (got == AVERROR(ENOMEM)) return mm_fail(err, MM_ENOMEM, "out of memory");
        if (got < 0 && got != AVERROR_EOF) info->truncated = 1;
        while (r == 0 && (got = avcodec_receive_frame(t->dec, t->frame)) >= 0) {
            r = add_frame(o, t->frame, t->buf, info, err);
            av_frame_unref(t->frame);
        }
        if (got == AVERROR(ENOMEM)) return mm_fail(err, MM_ENOMEM, "out of memory");
        if (r == 0 && got != AVERROR(EAGAIN) && got != AVERROR_EOF) info->truncated = 1;
    }
    return r;
}

static int stream(track *t, sound_in *in, sound_out *o, mm_media_info *info, mm_err *err)
{
    int k = -1, r;
    for (unsigned i = 0; i < t->fmt->nb_streams; i++)
        if (t->fmt->streams[i]->codecpar->codec_type != AVMEDIA_TYPE_AUDIO) t->fmt->streams[i]->discard = AVDISCARD_ALL;
    if (avformat_find_stream_info(t->fmt, NULL) < 0) info->truncated = 1;
    for (unsigned i = 0; i < t->fmt->nb_streams; i++) {
        AVStream *s = t->fmt->streams[i];
        if (s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && !(s->disposition & AV_DISPOSITION_ATTACHED_PIC)) info->has |= MM_MEDIA_VIDEO;
        if (k < 0 && s->codecpar->codec_type == AVMEDIA_TYPE_AUDIO) k = (int)i;
        else s->discard = AVDISCARD_ALL;
    }
    if (k < 0) return mm_fail(err, MM_EDATA, "no sound in it (%s)", info->format);
    info->has |= MM_MEDIA_AUDIO;
    AVStream *s = t->fmt->streams[k];
    const AVCodec *codec = avcodec_find_decoder(s->codecpar->codec_id);
    if (!codec) return mm_fail(err, MM_EUNSUP, "no decoder for sound of type '%s'", avcodec_get_name(s->codecpar->codec_id));
    if (s->codecpar->ch_layout.nb_channels && (r = mm_sound_channels(s->codecpar->ch_layout.nb_channels, err))) return r;
    double seconds = 0;
    if (s->duration > 0 && t->fmt->duration_estimation_method != AVFMT_DURATION_FROM_BITRATE)
        seconds = (double)s->duration * av_q2d(s->time_base);
    if ((r = mm_sound_out_limit(o, seconds - 1, err))) return r; /* priming and padding are not sound */
    t->dec = avcodec_alloc_context3(codec);
    t->pkt = av_packet_alloc();
    t->frame = av_frame_alloc();
    if (!t->dec || !t->pkt || !t->frame) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (avcodec_parameters_to_context(t->dec, s->codecpar) < 0) return mm_fail(err, MM_ENOMEM, "out of memory");
    t->dec->pkt_timebase = s->time_base;
    t->dec->thread_count = 1;
    if (avcodec_open2(t->dec, codec, NULL) < 0)
        return mm_fail(err, MM_EDATA, "damaged: the decoder for '%s' refuses its parameters", codec->name);
    r = decode(t, k, o, info, err);
    if (r) return r;
    double got = o->seconds + (o->from ? (double)o->frames / o->from : 0);
    if (got < seconds - 0.1 - seconds / 100) info->truncated = 1;
    if (got > 0) return 0;
    if (in->failed) return 0;
    return info->truncated ? mm_fail(err, MM_ETRUNC, "the file ends or is damaged before its first sample")
                           : mm_fail(err, MM_EEMPTY, "no samples");
}

int mm_sound_av(sound_out *o, sound_in *in, mm_media_info *info, mm_err *err)
{
    int r = media_av_load(MEDIA_AV_FORMAT, err);
    if (r) return r;
    av_log_set_level(AV_LOG_QUIET); /* a library does not print */
    track *t = calloc(1, sizeof *t);
    uint8_t *buf = av_malloc(IO_BUF);
    AVIOContext *io = buf ? avio_alloc_context(buf, IO_BUF, 0, in, io_read, NULL, io_seek) : NULL;
    if (t) t->fmt = avformat_alloc_context();
    if (!io || !t || !t->fmt) {
        if (!io) av_free(buf);
        r = mm_fail(err, MM_ENOMEM, "out of memory");
    }
    if (!r) {
        in->pos = 0;
        t->fmt->pb = io;
        t->fmt->flags |= AVFMT_FLAG_CUSTOM_IO;
        t->fmt->io_open = io_refuse;
        AVDictionary *opts = NULL;
        av_dict_set(&opts, "format_whitelist", demuxers, 0);
        int got = avformat_open_input(&t->fmt, "", NULL, &opts); /* frees fmt on failure */
        av_dict_free(&opts);
        if (got == AVERROR(ENOMEM)) r = mm_fail(err, MM_ENOMEM, "out of memory");
        else if (got < 0 && no_index(in)) r = mm_fail(err, MM_ETRUNC, "an MP4 file that ends before its index");
        else if (got < 0) r = refused(in, info, err);
    }
    if (!r) {
        const char *name = t->fmt->iformat->name;
        if (!strncmp(name, "mov,", 4)) name = "mp4";
        snprintf(info->format, sizeof info->format, "%.*s", (int)strcspn(name, ","), name);
        r = stream(t, in, o, info, err);
    }
    if (t) {
        avcodec_free_context(&t->dec);
        av_packet_free(&t->pkt);
        av_frame_free(&t->frame);
        avformat_close_input(&t->fmt);
    }
    if (io) {
        av_freep(&io->buffer);
        avio_context_free(&io);
    }
    free(t);
    return r;
}

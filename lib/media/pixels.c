/* From FFmpeg's pictures to RGB. Everything that is not YUV is converted here, sample by sample and exactly; swscale does YUV only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libavutil/dict.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include "media/av.h"
#include "media/media_int.h"

/* v of `depth` bits as 8: the high byte, or the whole range stretched */
static uint8_t eight(uint32_t v, int depth)
{
    if (depth >= 8) return (uint8_t)(v >> (depth - 8));
    uint32_t max = (1u << depth) - 1;
    return (uint8_t)((v * 255 + max / 2) / max);
}

static void from_palette(media_raw *raw, const AVFrame *f)
{
    for (int y = 0; y < raw->height; y++) {
        const uint8_t *in = f->data[0] + (ptrdiff_t)y * f->linesize[0];
        uint8_t *out = raw->px + (size_t)y * (size_t)raw->width * 4;
        for (int x = 0; x < raw->width; x++, out += 4) {
            uint32_t c;
            memcpy(&c, f->data[1] + 4 * (size_t)in[x], 4); /* 0xAARRGGBB in the machine's order */
            out[0] = (uint8_t)(c >> 16), out[1] = (uint8_t)(c >> 8), out[2] = (uint8_t)c, out[3] = (uint8_t)(c >> 24);
        }
    }
}

static int from_samples(const media_job *j, media_raw *raw, const AVFrame *f, const AVPixFmtDescriptor *d)
{
    size_t n = (size_t)raw->channels;
    int gray = d->nb_components <= 2, alpha = d->flags & AV_PIX_FMT_FLAG_ALPHA ? d->nb_components - 1 : -1;
    uint32_t *line = mm_realloc(NULL, (size_t)raw->width + 16, sizeof *line);
    if (!line) return mm_fail(j->err, MM_ENOMEM, "out of memory");
    for (int y = 0; y < raw->height; y++) {
        uint8_t *out = raw->px + (size_t)y * (size_t)raw->width * n;
        for (int c = 0; c < d->nb_components; c++) {
            int depth = d->comp[c].depth, flip = f->format == AV_PIX_FMT_MONOWHITE;
            av_read_image_line2(line, (const uint8_t **)(uintptr_t)f->data, f->linesize, d, 0, y, c, raw->width, 0, 4);
            size_t first = c == alpha ? 3 : (size_t)c, last = gray && c != alpha ? 2 : first;
            for (int x = 0; x < raw->width; x++) {
                uint8_t v = eight(flip ? 1 - line[x] : line[x], depth);
                for (size_t i = first; i <= last; i++) out[(size_t)x * n + i] = v;
            }
        }
    }
    free(line);
    return 0;
}

static int from_yuv(const media_job *j, media_raw *raw, const AVFrame *f, int still)
{
    int full_range = still;
    int matrix = SWS_CS_ITU601, flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT;
    switch (f->colorspace) {
    case AVCOL_SPC_BT709: matrix = SWS_CS_ITU709; break;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL: matrix = SWS_CS_BT2020; break;
    case AVCOL_SPC_FCC: matrix = SWS_CS_FCC; break;
    case AVCOL_SPC_SMPTE240M: matrix = SWS_CS_SMPTE240M; break;
    case AVCOL_SPC_UNSPECIFIED: matrix = f->height > 576 ? SWS_CS_ITU709 : SWS_CS_ITU601; break;
    default: break;
    }
    static const int old[][2] = { /* names that mean full range, and what else they mean */
        { AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUV420P }, { AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUV422P }, { AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P },
        { AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUV440P }, { AV_PIX_FMT_YUVJ411P, AV_PIX_FMT_YUV411P },
    };
    int stored = f->format;
    if (f->color_range != AVCOL_RANGE_UNSPECIFIED) full_range = f->color_range == AVCOL_RANGE_JPEG;
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        if (f->format == old[i][0]) stored = old[i][1], full_range = 1;
    if (f->color_trc == AVCOL_TRC_SMPTE2084 || f->color_trc == AVCOL_TRC_ARIB_STD_B67)
        media_note(j->info, "high dynamic range shown as it is stored");
    if (still) {
        int r = media_yuv(j, raw, f, full_range);
        if (r) return r < 0 ? r : 0;
    }
    int format = raw->channels == 4 ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24;
    struct SwsContext *sws = sws_getContext(f->width, f->height, stored, f->width, f->height, format, flags, NULL, NULL, NULL);
    if (!sws) {
        const char *name = av_get_pix_fmt_name(f->format);
        return mm_fail(j->err, MM_EUNSUP, "pixels of format %s are not supported", name ? name : "?");
    }
    const int *table = sws_getCoefficients(matrix);
    sws_setColorspaceDetails(sws, table, full_range, table, 1, 0, 1 << 16, 1 << 16);
    /* rows with room behind them: swscale's kernels may write a little further than a row is wide */
    int stride = (raw->width * raw->channels + 63) / 64 * 64 + 64, r = 0;
    uint8_t *tmp = mm_aligned((size_t)raw->height, (size_t)stride);
    if (!tmp) {
        r = mm_fail(j->err, MM_ENOMEM, "out of memory");
    } else if (sws_scale(sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, &tmp, &stride) < 0) {
        r = mm_fail(j->err, MM_EDATA, "cannot convert the picture's colours");
    } else {
        size_t n = (size_t)raw->width * (size_t)raw->channels;
        for (int y = 0; y < raw->height; y++) memcpy(raw->px + (size_t)y * n, tmp + (size_t)y * (size_t)stride, n);
    }
    free(tmp);
    sws_freeContext(sws);
    return r;
}

int media_pixels(const media_job *j, media_raw *raw, const AVFrame *f, int still)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    *raw = (media_raw){ .width = f->width, .height = f->height };
    if (!d || d->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BAYER))
        return mm_fail(j->err, MM_EUNSUP, "pixels of format %s are not supported", d ? d->name : "?");
    int palette = f->format == AV_PIX_FMT_PAL8, gray = d->nb_components <= 2 && !palette;
    raw->channels = palette || d->flags & AV_PIX_FMT_FLAG_ALPHA ? 4 : 3;
    int r = media_check_size(j, f->width, f->height);
    if (!r) r = media_alloc(j, raw);
    if (r) return r;
    if (palette) from_palette(raw, f);
    else if (d->flags & AV_PIX_FMT_FLAG_RGB || d->nb_components == 2 ||
             (gray && (still ? f->color_range != AVCOL_RANGE_MPEG : f->color_range == AVCOL_RANGE_JPEG)))
        r = from_samples(j, raw, f, d);
    else r = from_yuv(j, raw, f, still);
    if (r) {
        free(raw->px);
        *raw = (media_raw){ 0 };
    }
    return r;
}

static uint8_t mark(int marks, size_t i) { return (uint8_t)((i * 167 + 13) ^ (i >> 5) ^ (marks == 1 ? 0 : 0xFF)); }

/* Bytes of a row that the pattern takes: its beginning is enough to tell. */
static int marked_bytes(int format, int width)
{
    int n = av_image_get_linesize(format, width, 0);
    return n < 64 ? n : 64;
}

static int marked_buffer(AVCodecContext *c, AVFrame *f, int flags)
{
    int r = avcodec_default_get_buffer2(c, f, flags), n = r < 0 ? 0 : marked_bytes(f->format, c->width);
    for (int y = 0; y < c->height && n > 0 && f->height >= c->height; y++)
        for (int i = 0; i < n; i++) f->data[0][(ptrdiff_t)y * f->linesize[0] + i] = mark(*(int *)c->opaque, (size_t)i);
    return r;
}

int media_unfilled(const AVFrame *f, int marks)
{
    int n = marked_bytes(f->format, f->width);
    for (int y = f->height - 1; y >= 0 && n > 0; y--) {
        int i = 0;
        while (i < n && f->data[0][(ptrdiff_t)y * f->linesize[0] + i] == mark(marks, (size_t)i)) i++;
        if (i == n) return y == f->height - 1 ? 1 : 2;
    }
    return 0;
}

int media_decode_one(const media_job *j, const media_packet *k, AVFrame **out)
{
    const AVCodec *codec = NULL;
    int r = media_av_load(MEDIA_AV_CODEC, j->err);
    if (r) return r;
    if (k->codec == AV_CODEC_ID_AV1) codec = avcodec_find_decoder_by_name("libdav1d"); /* FFmpeg's own needs hardware */
    if (!codec) codec = avcodec_find_decoder(k->codec);
    if (!codec) return mm_fail(j->err, MM_EUNSUP, "cannot decode %s: the installed FFmpeg has no decoder", k->name);
    AVCodecContext *c = avcodec_alloc_context3(codec);
    AVPacket *packet = av_packet_alloc();
    AVFrame *f = av_frame_alloc();
    AVDictionary *options = NULL;
    char what[64];
    int marks = k->marks;
    media_quiet();
    r = k->len > INT32_MAX / 2 ? AVERROR_INVALIDDATA : c && packet && f ? 0 : AVERROR(ENOMEM);
    snprintf(what, sizeof what, "decode the %s picture", k->name);
    if (!r) r = av_new_packet(packet, (int)k->len);
    if (!r) {
        memcpy(packet->data, k->p, k->len);
        packet->flags |= AV_PKT_FLAG_KEY;
        packet->pts = packet->dts = 0;
        c->thread_count = 1;
        c->max_pixels = j->opts.max_pixels;
        c->err_recognition = AV_EF_EXPLODE;
        c->pkt_timebase = (AVRational){ 1, 1000 };
        if (k->extra_len && (c->extradata = av_mallocz(k->extra_len + AV_INPUT_BUFFER_PADDING_SIZE))) {
            memcpy(c->extradata, k->extra, k->extra_len);
            c->extradata_size = (int)k->extra_len;
        }
        if (marks) {
            c->opaque = &marks;
            c->get_buffer2 = marked_buffer;
        }
        if (k->option) av_dict_set(&options, k->option, k->value, 0);
        r = avcodec_open2(c, codec, &options);
    }
    if (!r) r = avcodec_send_packet(c, packet);
    if (!r) r = avcodec_send_packet(c, NULL);
    if (!r) r = avcodec_receive_frame(c, f);
    if (!r && (f->width < 1 || f->height < 1 || !f->data[0])) r = AVERROR_INVALIDDATA;
    if (r == AVERROR(EAGAIN)) r = AVERROR_EOF;
    av_dict_free(&options);
    av_packet_free(&packet);
    avcodec_free_context(&c);
    if (r) {
        av_frame_free(&f);
        return media_av_fail(j->err, r, what);
    }
    *out = f;
    return 0;
}

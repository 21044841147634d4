/* media_files.h - pictures and videos that tests need, made from nothing: test_picture, test_video and tests/tools/mk_media use it. Every
 * function appends a whole file to a buffer. The scene is the same everywhere: 3 x 2 blocks of the colours below. */
#ifndef MEDIA_FILES_H
#define MEDIA_FILES_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/display.h>
#include <libavutil/opt.h>
#include "base/mm_mem.h"

static const uint8_t mf_colours[6][3] = { { 200, 30, 30 }, { 30, 180, 40 }, { 30, 50, 200 }, { 220, 210, 40 }, { 200, 40, 190 }, { 40, 200, 210 } };

static inline const uint8_t *mf_scene(int x, int y, int w, int h) { return mf_colours[(y * 2 / h) * 3 + x * 3 / w]; }

/* where the stored pixel x, y of a w x h picture with this orientation lies in the upright one */
static inline const uint8_t *mf_stored(int x, int y, int w, int h, int orientation)
{
    int turned = orientation >= 5, uw = turned ? h : w, uh = turned ? w : h, ux = turned ? y : x, uy = turned ? x : y;
    if (orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7) ux = uw - 1 - ux;
    if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8) uy = uh - 1 - uy;
    return mf_scene(ux, uy, uw, uh);
}

static inline void mf_u32(mm_buf *b, uint32_t v, int big)
{
    uint8_t p[4];
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (big ? 24 - 8 * i : 8 * i));
    mm_buf_add(b, p, 4);
}
static inline void mf_u16(mm_buf *b, uint32_t v, int big)
{
    uint8_t p[2] = { (uint8_t)(big ? v >> 8 : v), (uint8_t)(big ? v : v >> 8) };
    mm_buf_add(b, p, 2);
}

/* ---- EXIF ---- */

enum { MF_EXIF_GOOD, MF_EXIF_IFD1 /* another value in the thumbnail's IFD */, MF_EXIF_OFFSET /* IFD past the end */, MF_EXIF_CUT /* in its entry */ };

static inline void mf_exif(mm_buf *b, int orientation, int big, int how)
{
    size_t start = b->len;
    mm_buf_add(b, big ? "MM" : "II", 2);
    mf_u16(b, 42, big);
    mf_u32(b, how == MF_EXIF_OFFSET ? 4000 : 8, big);
    for (int i = 0; i < 1 + (how == MF_EXIF_IFD1); i++) {
        mf_u16(b, 2, big);
        mf_u16(b, 0x10F, big), mf_u16(b, 2, big), mf_u32(b, 4, big), mm_buf_add(b, "abc", 4);
        mf_u16(b, 0x112, big), mf_u16(b, 3, big), mf_u32(b, 1, big), mf_u16(b, (uint32_t)(i ? orientation % 8 + 1 : orientation), big), mf_u16(b, 0, big);
        mf_u32(b, how == MF_EXIF_IFD1 && !i ? 8 + 30 : 0, big);
    }
    if (how == MF_EXIF_CUT) b->len = start + 8 + 2 + 12 + 6;
}

/* ---- PNG ---- */

static inline uint32_t mf_crc(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (0xEDB88320u & (0u - (c & 1)));
    }
    return ~c;
}

static inline void mf_chunk(mm_buf *b, const char *name, const void *p, size_t n)
{
    mf_u32(b, (uint32_t)n, 1);
    size_t at = b->len;
    mm_buf_add(b, name, 4);
    mm_buf_add(b, p, n);
    mf_u32(b, mf_crc((const uint8_t *)b->p + at, n + 4), 1);
}

/* zlib's format with stored blocks */
static inline void mf_deflate(mm_buf *b, const uint8_t *p, size_t n)
{
    uint32_t s1 = 1, s2 = 0;
    mm_buf_add(b, "\x78\x01", 2);
    for (size_t at = 0;;) {
        size_t m = n - at < 65535 ? n - at : 65535;
        mm_buf_addc(b, at + m == n);
        mf_u16(b, (uint32_t)m, 0);
        mf_u16(b, ~(uint32_t)m & 0xFFFF, 0);
        mm_buf_add(b, p + at, m);
        at += m;
        if (at == n) break;
    }
    for (size_t i = 0; i < n; i++) s1 = (s1 + p[i]) % 65521, s2 = (s2 + s1) % 65521;
    mf_u32(b, s2 << 16 | s1, 1);
}

typedef struct mf_png_spec {
    int w, h, depth, color; /* color 0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA; depth 8 and color 2 by default */
    int orientation, big, exif_how; /* orientation 0: no eXIf */
    const void *trns;
    size_t trns_len;
    int animated; /* so many frames, each one colour of the scene, 100 ms */
    int rows; /* that are there; 0: all */
    const uint8_t *samples; /* rows of packed samples without filter bytes; NULL: the scene */
} mf_png_spec;

static inline void mf_png_rows(mm_buf *raw, const mf_png_spec *s, size_t row, int frame)
{
    for (int y = 0; y < (s->rows ? s->rows : s->h); y++) {
        mm_buf_addc(raw, 0);
        if (s->samples) {
            mm_buf_add(raw, s->samples + (size_t)y * row, row);
            continue;
        }
        for (int x = 0; x < s->w; x++) {
            const uint8_t *c = frame >= 0 ? mf_colours[frame % 6] : mf_stored(x, y, s->w, s->h, s->orientation ? s->orientation : 1);
            int n = s->color == 0 ? 1 : s->color == 4 ? 2 : s->color == 6 ? 4 : 3;
            for (int i = 0; i < n; i++) {
                uint8_t v = (n == 4 && i == 3) || (n == 2 && i == 1) ? 128 : c[i];
                mm_buf_addc(raw, (char)v);
                if (s->depth == 16) mm_buf_addc(raw, (char)0x7F);
            }
        }
    }
}

static inline void mf_png(mm_buf *b, const mf_png_spec *spec)
{
    mf_png_spec s = *spec;
    if (!s.depth) s.depth = 8, s.color = s.color ? s.color : 2;
    static const int channels[] = { 1, 0, 3, 1, 2, 0, 4 };
    size_t row = ((size_t)s.w * (size_t)channels[s.color] * (size_t)s.depth + 7) / 8;
    mm_buf head = { 0 }, raw = { 0 }, data = { 0 };
    mm_buf_add(b, "\x89PNG\r\n\x1A\n", 8);
    mf_u32(&head, (uint32_t)s.w, 1), mf_u32(&head, (uint32_t)s.h, 1);
    mm_buf_addc(&head, (char)s.depth), mm_buf_addc(&head, (char)s.color), mm_buf_add(&head, "\0\0", 3);
    mf_chunk(b, "IHDR", head.p, head.len);
    if (s.color == 3) mf_chunk(b, "PLTE", mf_colours, sizeof mf_colours);
    if (s.trns) mf_chunk(b, "tRNS", s.trns, s.trns_len);
    if (s.orientation) {
        mf_exif(&data, s.orientation, s.big, s.exif_how);
        mf_chunk(b, "eXIf", data.p, data.len);
    }
    if (s.animated) mf_chunk(b, "acTL", (uint8_t[]){ 0, 0, 0, (uint8_t)s.animated, 0, 0, 0, 0 }, 8);
    for (int f = 0, sequence = 0; f < (s.animated ? s.animated : 1); f++) {
        mm_buf_reset(&raw), mm_buf_reset(&data);
        mf_png_rows(&raw, &s, row, s.animated ? f : -1);
        if (s.animated) {
            mm_buf_reset(&head);
            mf_u32(&head, (uint32_t)sequence++, 1), mf_u32(&head, (uint32_t)s.w, 1), mf_u32(&head, (uint32_t)s.h, 1), mf_u32(&head, 0, 1), mf_u32(&head, 0, 1);
            mf_u16(&head, 1, 1), mf_u16(&head, 10, 1), mm_buf_add(&head, "\0\0", 2);
            mf_chunk(b, "fcTL", head.p, head.len);
            if (f) mf_u32(&data, (uint32_t)sequence++, 1);
        }
        mf_deflate(&data, (const uint8_t *)raw.p, raw.len);
        mf_chunk(b, f ? "fdAT" : "IDAT", data.p, data.len);
    }
    mf_chunk(b, "IEND", "", 0);
    mm_buf_clear(&head), mm_buf_clear(&raw), mm_buf_clear(&data);
}

/* ---- BMP, PPM, TIFF, GIF ---- */

static inline void mf_bmp(mm_buf *b, int w, int h)
{
    uint32_t row = ((uint32_t)w * 3 + 3) / 4 * 4;
    mm_buf_add(b, "BM", 2), mf_u32(b, 54 + row * (uint32_t)h, 0), mf_u32(b, 0, 0), mf_u32(b, 54, 0), mf_u32(b, 40, 0), mf_u32(b, (uint32_t)w, 0);
    mf_u32(b, (uint32_t)h, 0), mf_u16(b, 1, 0), mf_u16(b, 24, 0);
    for (int i = 0; i < 6; i++) mf_u32(b, 0, 0);
    for (int y = h - 1; y >= 0; y--) {
        for (int x = 0; x < w; x++)
            for (int c = 2; c >= 0; c--) mm_buf_addc(b, (char)mf_scene(x, y, w, h)[c]);
        for (uint32_t i = (uint32_t)w * 3; i < row; i++) mm_buf_addc(b, 0);
    }
}

static inline void mf_ppm(mm_buf *b, int w, int h)
{
    mm_buf_addf(b, "P6\n%d %d\n255\n", w, h);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) mm_buf_add(b, mf_scene(x, y, w, h), 3);
}

static inline void mf_tiff(mm_buf *b, int w, int h, int orientation, int big)
{
    const uint32_t tags[][3] = { /* tag, type, value */
        { 256, 4, (uint32_t)w }, { 257, 4, (uint32_t)h }, { 258, 3, 0 /* three values, behind the IFD */ }, { 259, 3, 1 }, { 262, 3, 2 }, { 273, 4, 8 },
        { 274, 3, (uint32_t)orientation }, { 277, 3, 3 }, { 278, 4, (uint32_t)h }, { 279, 4, (uint32_t)(w * h * 3) } };
    size_t n = sizeof tags / sizeof *tags;
    mm_buf_add(b, big ? "MM" : "II", 2), mf_u16(b, 42, big), mf_u32(b, 8 + (uint32_t)(w * h * 3), big);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) mm_buf_add(b, mf_stored(x, y, w, h, orientation), 3);
    mf_u16(b, (uint32_t)n, big);
    for (size_t i = 0; i < n; i++) {
        mf_u16(b, tags[i][0], big), mf_u16(b, tags[i][1], big), mf_u32(b, tags[i][0] == 258 ? 3 : 1, big);
        if (tags[i][0] == 258) mf_u32(b, 8 + (uint32_t)(w * h * 3) + 2 + 12 * (uint32_t)n + 4, big);
        else if (tags[i][1] == 4) mf_u32(b, tags[i][2], big);
        else mf_u16(b, tags[i][2], big), mf_u16(b, 0, big);
    }
    mf_u32(b, 0, big);
    for (int i = 0; i < 3; i++) mf_u16(b, 8, big);
}

/* frames of w x h pixels, each one colour of the scene, 100 ms; key >= 0: a transparent colour, which the right half of each has */
static inline void mf_gif(mm_buf *b, int w, int h, int frames, int key)
{
    mm_buf_add(b, "GIF89a", 6), mf_u16(b, (uint32_t)w, 0), mf_u16(b, (uint32_t)h, 0), mm_buf_add(b, "\xF2\0", 3);
    mm_buf_add(b, mf_colours, sizeof mf_colours), mm_buf_add(b, "\0\0\0\0\0", 6);
    for (int f = 0; f < frames; f++) {
        mm_buf_add(b, "\x21\xF9\x04", 3), mm_buf_addc(b, (char)(4 | (key >= 0))), mf_u16(b, 10, 0),
            mm_buf_addc(b, (char)(key < 0 ? 0 : key)), mm_buf_addc(b, 0);
        mm_buf_addc(b, ','), mf_u32(b, 0, 0), mf_u16(b, (uint32_t)w, 0), mf_u16(b, (uint32_t)h, 0), mm_buf_addc(b, 0);
        /* LZW of codes that are as wide as they begin, 4 bits: a clear code before they would grow */
        mm_buf codes = { 0 };
        uint8_t half = 8;
        int n = 0, odd = 1;
        for (int i = 0; i < w * h; i++) {
            uint8_t v = (uint8_t)(key >= 0 && i % w >= w / 2 ? key : f % 6), put[2] = { v, 0 };
            int m = 1;
            if (++n == 6) n = 0, put[1] = 8, m = 2;
            for (int k = 0; k < m; k++) {
                if (odd) mm_buf_addc(&codes, (char)(half | put[k] << 4));
                else half = put[k];
                odd = !odd;
            }
        }
        if (odd) mm_buf_addc(&codes, (char)(half | 9 << 4));
        else mm_buf_addc(&codes, 9);
        mm_buf_addc(b, 3);
        for (size_t at = 0; at < codes.len; at += 255) {
            size_t m = codes.len - at < 255 ? codes.len - at : 255;
            mm_buf_addc(b, (char)m), mm_buf_add(b, codes.p + at, m);
        }
        mm_buf_addc(b, 0);
        mm_buf_clear(&codes);
    }
    mm_buf_addc(b, ';');
}

/* ---- JPEG ---- */

static inline void mf_jpeg(mm_buf *b, int w, int h, int orientation, int big, int exif_how, int progressive)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr e;
    unsigned char *out = NULL;
    unsigned long n = 0;
    c.err = jpeg_std_error(&e);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &n);
    c.image_width = (JDIMENSION)w, c.image_height = (JDIMENSION)h, c.input_components = 3, c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 95, TRUE);
    if (progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    if (orientation >= 0) {
        mm_buf x = { 0 };
        mm_buf_add(&x, "Exif\0", 6);
        mf_exif(&x, orientation, big, exif_how);
        jpeg_write_marker(&c, JPEG_APP0 + 1, (const JOCTET *)x.p, (unsigned)x.len);
        mm_buf_clear(&x);
    }
    uint8_t *line = malloc((size_t)w * 3);
    for (int y = 0; y < h && line; y++) {
        JSAMPROW row = line;
        for (int x = 0; x < w; x++) memcpy(line + 3 * x, mf_stored(x, y, w, h, orientation > 0 && orientation < 9 ? orientation : 1), 3);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    mm_buf_add(b, out, n);
    jpeg_destroy_compress(&c);
    free(line);
    free(out);
}

/* ---- video ---- */

typedef struct mf_video_spec {
    int w, h, frames, fps;
    const char *format; /* "mp4", "matroska", "mpegts" */
    int rotate;         /* degrees clockwise that a player is told to turn it by; stored turned back */
    int audio;          /* a tone of the same length */
    int silent;         /* ... of zeros */
    int vary;           /* frame i begins at i (i + 1) / 2 frame times */
    int motion;         /* a frame is one colour, the scene's i % 6; otherwise every frame is the scene */
} mf_video_spec;

static inline int mf_encode(AVFormatContext *f, AVCodecContext *c, AVFrame *in, int stream)
{
    AVPacket *p = av_packet_alloc();
    int r = p ? avcodec_send_frame(c, in) : AVERROR(ENOMEM);
    while (r >= 0 && (r = avcodec_receive_packet(c, p)) >= 0) {
        p->stream_index = stream;
        av_packet_rescale_ts(p, c->time_base, f->streams[stream]->time_base);
        r = av_interleaved_write_frame(f, p);
    }
    av_packet_free(&p);
    return r == AVERROR(EAGAIN) || r == AVERROR_EOF ? 0 : r;
}

/* JFIF's formulas in reverse, limited range */
static inline void mf_yuv(AVFrame *f, int orientation, int colour)
{
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            const uint8_t *c = colour >= 0 ? mf_colours[colour % 6] : mf_stored(x, y, f->width, f->height, orientation);
            f->data[0][y * f->linesize[0] + x] = (uint8_t)(16.5 + 0.257 * c[0] + 0.504 * c[1] + 0.098 * c[2]);
            if (x % 2 || y % 2) continue;
            f->data[1][y / 2 * f->linesize[1] + x / 2] = (uint8_t)(128.5 - 0.148 * c[0] - 0.291 * c[1] + 0.439 * c[2]);
            f->data[2][y / 2 * f->linesize[2] + x / 2] = (uint8_t)(128.5 + 0.439 * c[0] - 0.368 * c[1] - 0.071 * c[2]);
        }
}

static inline AVCodecContext *mf_stream(AVFormatContext *f, enum AVCodecID id, const mf_video_spec *s)
{
    const AVCodec *codec = avcodec_find_encoder(id);
    AVStream *st = codec ? avformat_new_stream(f, NULL) : NULL;
    AVCodecContext *c = st ? avcodec_alloc_context3(codec) : NULL;
    if (!c) return NULL;
    if (id == AV_CODEC_ID_MPEG4) {
        int turned = s->rotate % 180 != 0;
        c->width = turned ? s->h : s->w, c->height = turned ? s->w : s->h;
        c->pix_fmt = AV_PIX_FMT_YUV420P;
        c->time_base = (AVRational){ 1, s->fps };
        c->framerate = (AVRational){ s->fps, 1 };
        c->gop_size = 4;
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->global_quality = 2 * FF_QP2LAMBDA;
        st->avg_frame_rate = c->framerate;
    } else {
        c->sample_rate = 16000;
        c->sample_fmt = codec->sample_fmts[0];
        av_channel_layout_default(&c->ch_layout, 1);
        c->time_base = (AVRational){ 1, 16000 };
        c->bit_rate = 64000;
    }
    if (f->oformat->flags & AVFMT_GLOBALHEADER) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (avcodec_open2(c, codec, NULL) < 0 || avcodec_parameters_from_context(st->codecpar, c) < 0) avcodec_free_context(&c);
    else st->time_base = c->time_base;
    return c;
}

static inline int mf_sound(AVFormatContext *f, AVCodecContext *c, const mf_video_spec *s)
{
    int total = 16000 * s->frames / s->fps, n = c->frame_size ? c->frame_size : 1024, r = 0;
    for (int at = 0; at < total && !r; at += n) {
        AVFrame *a = av_frame_alloc();
        a->nb_samples = total - at < n ? total - at : n;
        a->format = c->sample_fmt;
        a->sample_rate = c->sample_rate;
        av_channel_layout_copy(&a->ch_layout, &c->ch_layout);
        r = av_frame_get_buffer(a, 0);
        for (int i = 0; i < a->nb_samples && !r; i++) {
            float v = s->silent ? 0 : (float)((at + i) % 40 - 20) / 40; /* 400 Hz */
            if (c->sample_fmt == AV_SAMPLE_FMT_FLTP || c->sample_fmt == AV_SAMPLE_FMT_FLT) ((float *)(void *)a->data[0])[i] = v;
            else ((int16_t *)(void *)a->data[0])[i] = (int16_t)(v * 32767);
        }
        a->pts = at;
        if (!r) r = mf_encode(f, c, a, 1);
        av_frame_free(&a);
    }
    return r ? r : mf_encode(f, c, NULL, 1);
}

/* 0, or -1 when this FFmpeg cannot */
static inline int mf_video(mm_buf *b, const mf_video_spec *s)
{
    AVFormatContext *f = NULL;
    AVCodecContext *v = NULL, *a = NULL;
    AVFrame *in = av_frame_alloc();
    uint8_t *out = NULL;
    int r = avformat_alloc_output_context2(&f, NULL, s->format, NULL), n, orientation = s->rotate == 90 ? 6 : s->rotate == 180 ? 3 : s->rotate == 270 ? 8 : 1;
    av_log_set_level(AV_LOG_QUIET);
    if (r >= 0) f->flags |= AVFMT_FLAG_BITEXACT;
    if (r >= 0 && !(v = mf_stream(f, AV_CODEC_ID_MPEG4, s))) r = -1;
    if (r >= 0 && s->audio && !(a = mf_stream(f, AV_CODEC_ID_AAC, s))) r = -1;
    if (r >= 0 && s->rotate) {
        int32_t *m = (int32_t *)(void *)av_stream_new_side_data(f->streams[0], AV_PKT_DATA_DISPLAYMATRIX, 36);
        if (m) av_display_rotation_set(m, s->rotate);
    }
    if (r >= 0) r = avio_open_dyn_buf(&f->pb);
    if (r >= 0) r = avformat_write_header(f, NULL);
    if (r >= 0) {
        in->width = v->width, in->height = v->height, in->format = v->pix_fmt;
        r = av_frame_get_buffer(in, 0);
    }
    for (int i = 0; i < s->frames && r >= 0; i++) {
        if ((r = av_frame_make_writable(in)) < 0) break;
        mf_yuv(in, orientation, s->motion ? i : -1);
        in->pts = s->vary ? i * (i + 1) / 2 : i;
        in->quality = v->global_quality;
        r = mf_encode(f, v, in, 0);
    }
    if (r >= 0) r = mf_encode(f, v, NULL, 0);
    if (r >= 0 && a) r = mf_sound(f, a, s);
    if (r >= 0) r = av_write_trailer(f);
    if (f && f->pb) {
        n = avio_close_dyn_buf(f->pb, &out);
        if (r >= 0) mm_buf_add(b, out, (size_t)n);
    }
    av_free(out);
    av_frame_free(&in);
    avcodec_free_context(&v);
    avcodec_free_context(&a);
    avformat_free_context(f);
    return r < 0 ? -1 : 0;
}

/* ---- AVIF, with an AV1 encoder if this FFmpeg has one ---- */

static inline int mf_av1(mm_buf *b, int w, int h, const uint8_t *colour /* NULL: the scene */)
{
    static const char *const names[] = { "libaom-av1", "librav1e" };
    AVCodecContext *c = NULL;
    AVFrame *f = av_frame_alloc();
    AVPacket *p = av_packet_alloc();
    int r = -1;
    av_log_set_level(AV_LOG_QUIET);
    for (size_t i = 0; i < sizeof names / sizeof *names && r < 0; i++) {
        const AVCodec *codec = avcodec_find_encoder_by_name(names[i]);
        AVDictionary *o = NULL;
        if (!codec || !(c = avcodec_alloc_context3(codec))) continue;
        c->width = w, c->height = h, c->pix_fmt = AV_PIX_FMT_YUV420P, c->time_base = (AVRational){ 1, 1 };
        c->color_range = AVCOL_RANGE_MPEG, c->colorspace = AVCOL_SPC_SMPTE170M, c->color_primaries = AVCOL_PRI_BT709, c->color_trc = AVCOL_TRC_BT709;
        av_dict_set(&o, "crf", "10", 0), av_dict_set(&o, "cpu-used", "8", 0), av_dict_set(&o, "still-picture", "1", 0);
        r = avcodec_open2(c, codec, &o);
        av_dict_free(&o);
        if (r < 0) avcodec_free_context(&c);
    }
    f->width = w, f->height = h, f->format = AV_PIX_FMT_YUV420P;
    if (r >= 0) r = av_frame_get_buffer(f, 0);
    if (r >= 0) {
        mf_yuv(f, 1, -1);
        if (colour)
            for (int y = 0; y < h; y++) {
                memset(f->data[0] + y * f->linesize[0], colour[0], (size_t)w);
                if (y % 2 == 0)
                    memset(f->data[1] + y / 2 * f->linesize[1], 128, ((size_t)w + 1) / 2),
                        memset(f->data[2] + y / 2 * f->linesize[2], 128, ((size_t)w + 1) / 2);
            }
        r = avcodec_send_frame(c, f);
    }
    if (r >= 0) r = avcodec_send_frame(c, NULL);
    if (r >= 0 && (r = avcodec_receive_packet(c, p)) >= 0) mm_buf_add(b, p->data, (size_t)p->size);
    avcodec_free_context(&c);
    av_frame_free(&f);
    av_packet_free(&p);
    return r < 0 ? -1 : 0;
}

static inline size_t mf_box(mm_buf *b, const char *type, int full)
{
    size_t at = b->len;
    mf_u32(b, 0, 1), mm_buf_add(b, type, 4);
    if (full >= 0) mf_u32(b, (uint32_t)full << 24, 1);
    return at;
}
static inline void mf_end(mm_buf *b, size_t at)
{
    uint32_t n = (uint32_t)(b->len - at);
    for (int i = 0; i < 4; i++) b->p[at + (size_t)i] = (char)(n >> (24 - 8 * i));
}

typedef struct mf_avif_spec {
    int w, h;
    int grid;  /* so many tiles of w x h side by side, each the scene */
    int irot;  /* 1..3, or 0 for none */
    int imir;  /* 1: top and bottom change places, 2: left and right */
    int alpha; /* an alpha picture of this value */
} mf_avif_spec;

static inline int mf_avif(mm_buf *b, const mf_avif_spec *s)
{
    mm_buf data[18] = { { 0 } };
    int tiles = s->grid ? s->grid : 1, n = 0, r = 0, first = 1;
    for (; n < tiles && !r; n++) r = mf_av1(&data[n], s->w, s->h, NULL);
    if (s->alpha && !r) r = mf_av1(&data[n++], s->w, s->h, (uint8_t[]){ (uint8_t)(16 + s->alpha * 219 / 255) });
    if (s->grid && !r) {
        mm_buf_add(&data[n], (uint8_t[]){ 0, 0, 0, (uint8_t)(s->grid - 1) }, 4), mf_u16(&data[n], (uint32_t)(s->w * s->grid), 1),
            mf_u16(&data[n], (uint32_t)s->h, 1);
        first = ++n; /* the grid is the last item and the primary one */
    }
    size_t top = mf_box(b, "ftyp", -1), meta, at, at2, places[18];
    mm_buf_add(b, "avif\0\0\0\0avifmif1miaf", 20);
    mf_end(b, top);
    meta = mf_box(b, "meta", 0);
    at = mf_box(b, "pitm", 0), mf_u16(b, (uint32_t)first, 1), mf_end(b, at);
    at = mf_box(b, "iinf", 0), mf_u16(b, (uint32_t)n, 1);
    for (int i = 1; i <= n; i++)
        at2 = mf_box(b, "infe", 2), mf_u16(b, (uint32_t)i, 1), mf_u16(b, 0, 1), mm_buf_add(b, s->grid && i == n ? "grid" : "av01", 4),
        mm_buf_addc(b, 0), mf_end(b, at2);
    mf_end(b, at);
    at = mf_box(b, "iloc", 0), mf_u16(b, 0x4400, 1), mf_u16(b, (uint32_t)n, 1);
    for (int i = 1; i <= n; i++)
        mf_u16(b, (uint32_t)i, 1), mf_u16(b, 0, 1), mf_u16(b, 1, 1), places[i - 1] = b->len, mf_u32(b, 0, 1),
                                                                                mf_u32(b, (uint32_t)data[i - 1].len, 1);
    mf_end(b, at);
    if (s->grid || s->alpha) {
        at = mf_box(b, "iref", 0);
        if (s->grid) {
            at2 = mf_box(b, "dimg", -1), mf_u16(b, (uint32_t)n, 1), mf_u16(b, (uint32_t)s->grid, 1);
            for (int i = 1; i <= s->grid; i++) mf_u16(b, (uint32_t)i, 1);
            mf_end(b, at2);
        }
        if (s->alpha) at2 = mf_box(b, "auxl", -1), mf_u16(b, (uint32_t)(tiles + 1), 1), mf_u16(b, 1, 1), mf_u16(b, (uint32_t)first, 1), mf_end(b, at2);
        mf_end(b, at);
    }
    at = mf_box(b, "iprp", -1), at2 = mf_box(b, "ipco", -1);
    size_t p = mf_box(b, "ispe", 0); /* 1: of a tile */
    mf_u32(b, (uint32_t)s->w, 1), mf_u32(b, (uint32_t)s->h, 1), mf_end(b, p);
    p = mf_box(b, "ispe", 0), mf_u32(b, (uint32_t)(s->w * tiles), 1), mf_u32(b, (uint32_t)s->h, 1), mf_end(b, p); /* 2: of the whole */
    p = mf_box(b, "irot", -1), mm_buf_addc(b, (char)s->irot), mf_end(b, p);                                     /* 3 */
    p = mf_box(b, "imir", -1), mm_buf_addc(b, (char)(s->imir == 2)), mf_end(b, p);                              /* 4 */
    p = mf_box(b, "auxC", 0), mm_buf_add(b, "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", 44), mf_end(b, p);   /* 5 */
    mf_end(b, at2);
    at2 = mf_box(b, "ipma", 0), mf_u32(b, (uint32_t)n, 1);
    for (int i = 1; i <= n; i++) {
        int whole = i == first, aux = s->alpha && i == tiles + 1;
        mf_u16(b, (uint32_t)i, 1), mm_buf_addc(b, (char)(1 + aux + (whole && s->irot) + (whole && s->imir))), mm_buf_addc(b, whole ? 2 : 1);
        if (aux) mm_buf_addc(b, 5);
        if (whole && s->irot) mm_buf_addc(b, 3);
        if (whole && s->imir) mm_buf_addc(b, 4);
    }
    mf_end(b, at2), mf_end(b, at), mf_end(b, meta);
    at = mf_box(b, "mdat", -1);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 4; k++) b->p[places[i] + (size_t)k] = (char)(b->len >> (24 - 8 * k));
        mm_buf_add(b, data[i].p, data[i].len);
        mm_buf_clear(&data[i]);
    }
    mf_end(b, at);
    return r;
}
#endif

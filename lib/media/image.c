/* A picture from bytes: limits, decoders, transparency, orientation. */
#include <stdlib.h>
#include <string.h>
#include "media/av.h"
#include "media/media_int.h"

/* ---- what every decoder needs ---- */

int media_check_size(const media_job *j, int64_t width, int64_t height)
{
    if (width < 1 || height < 1) return mm_fail(j->err, MM_EDATA, "the picture is %lld x %lld pixels", (long long)width, (long long)height);
    if (width > INT32_MAX / 8 || height > INT32_MAX / 8 || width * height > j->opts.max_pixels)
        return mm_fail(j->err, MM_ELONG, "the picture is %lld x %lld pixels, the limit is %lld pixels", (long long)width, (long long)height,
                       (long long)j->opts.max_pixels);
    return 0;
}

int media_alloc(const media_job *j, media_raw *raw)
{
    raw->px = mm_realloc(NULL, (size_t)raw->width * (size_t)raw->height, (size_t)raw->channels);
    return raw->px ? 0 : mm_fail(j->err, MM_ENOMEM, "out of memory for a picture of %d x %d pixels", raw->width, raw->height);
}

void media_note(mm_media_info *info, const char *note)
{
    size_t have = strlen(info->note), n = strlen(note);
    if (strstr(info->note, note) || have + n + 3 > sizeof info->note) return;
    if (have) memcpy(info->note + have, ", ", 2), have += 2;
    memcpy(info->note + have, note, n + 1);
}

/* ---- from stored to upright RGB ---- */

/* EXIF's eight ways: where the first stored pixel belongs, and where its neighbours to the right and below. */
int media_orient(media_raw *raw, int orientation, mm_err *err)
{
    if (orientation < 2 || orientation > 8) return 0;
    int turn = orientation >= 5, w = turn ? raw->height : raw->width, h = turn ? raw->width : raw->height;
    size_t n = (size_t)raw->channels;
    uint8_t *px = mm_realloc(NULL, (size_t)w * (size_t)h, n);
    if (!px) return mm_fail(err, MM_ENOMEM, "out of memory for a picture of %d x %d pixels", w, h);
    int right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7; /* stored origin is at the right */
    int low = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    ptrdiff_t sx = (ptrdiff_t)n * (right ? -1 : 1), sy = (ptrdiff_t)n * w * (low ? -1 : 1), x_step = turn ? sy : sx, y_step = turn ? sx : sy;
    uint8_t *origin = px + ((size_t)(low ? h - 1 : 0) * (size_t)w + (size_t)(right ? w - 1 : 0)) * n;
    const uint8_t *in = raw->px;
    for (int y = 0; y < raw->height; y++) {
        uint8_t *out = origin + y * y_step;
        for (int x = 0; x < raw->width; x++, in += n) memcpy(out + x * x_step, in, n);
    }
    free(raw->px);
    raw->px = px;
    raw->width = w;
    raw->height = h;
    return 0;
}

static void flatten(media_raw *raw, mm_alpha alpha, mm_media_info *info)
{
    size_t n = (size_t)raw->width * (size_t)raw->height;
    unsigned bg = alpha == MM_ALPHA_WHITE ? 255 : 0;
    uint8_t *out = raw->px;
    const uint8_t *in = raw->px;
    int seen = 0;
    for (size_t i = 0; i < n; i++, in += 4, out += 3) {
        unsigned a = in[3];
        seen |= a != 255;
        if (alpha == MM_ALPHA_DROP || a == 255) {
            memmove(out, in, 3);
            continue;
        }
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)((in[c] * a + bg * (255 - a) + 127) / 255);
    }
    raw->channels = 3;
    uint8_t *small = mm_realloc(raw->px, n, 3);
    if (small) raw->px = small;
    if (seen) media_note(info, alpha == MM_ALPHA_DROP ? "alpha dropped" : alpha == MM_ALPHA_WHITE ? "alpha on white" : "alpha on black");
}

int media_finish(mm_image *out, media_raw *raw, const mm_image_opts *opts, mm_media_info *info, mm_err *err)
{
    int r = 0;
    *out = (mm_image){ 0 };
    if (raw->channels == 4) flatten(raw, opts->alpha, info);
    if (!opts->no_rotate) r = media_orient(raw, raw->orientation, err);
    if (r) free(raw->px);
    else *out = (mm_image){ raw->px, raw->width, raw->height };
    *raw = (media_raw){ 0 };
    return r;
}

/* ---- kinds that FFmpeg decodes from the bytes as they are ---- */

static int largest_icon(const media_job *j, media_packet *k)
{
    size_t best = 0, area = 0, n = j->len >= 6 ? le16(j->p + 4) : 0;
    for (size_t i = 0; i < n && 22 + 16 * i <= j->len; i++) {
        const uint8_t *e = j->p + 6 + 16 * i;
        size_t a = (size_t)(e[0] ? e[0] : 256) * (size_t)(e[1] ? e[1] : 256) * 64 + le16(e + 6);
        if (a > area && le32(e + 12) < j->len) area = a, best = i + 1;
    }
    if (!best) return mm_fail(j->err, MM_EDATA, "the icon file has no picture");
    const uint8_t *e = j->p + 6 + 16 * (best - 1);
    k->p = j->p + le32(e + 12);
    k->len = le32(e + 8) < j->len - le32(e + 12) ? le32(e + 8) : j->len - le32(e + 12);
    if (k->len > 8 && !memcmp(k->p, "\x89PNG", 4)) return 0;
    return mm_fail(j->err, MM_EUNSUP, "an icon that is not stored as PNG is not supported");
}

/* Width and height of a PNM header: numbers between white space and comments, or by name. */
static void pnm_size(const media_job *j, media_kind kind, int64_t size[2])
{
    size_t n = j->len < 1024 ? j->len : 1024;
    const uint8_t *p = j->p;
    if (kind == KIND_PAM) {
        static const char *const names[] = { "\nWIDTH ", "\nHEIGHT " };
        for (int i = 0; i < 2; i++) {
            const uint8_t *at = memmem(p, n, names[i], strlen(names[i]));
            for (at = at ? at + strlen(names[i]) : p + n; at < p + n && *at >= '0' && *at <= '9' && size[i] < INT32_MAX; at++)
                size[i] = size[i] * 10 + *at - '0';
        }
        return;
    }
    for (size_t at = 2, i = 0; at < n && i < 2; i++) {
        for (; at < n && (p[at] < '0' || p[at] > '9'); at++)
            if (p[at] == '#')
                while (at + 1 < n && p[at] != '\n') at++;
        for (; at < n && p[at] >= '0' && p[at] <= '9' && size[i] < INT32_MAX; at++) size[i] = size[i] * 10 + p[at] - '0';
    }
}

static void inks_to_rgb(AVFrame *f)
{
    for (int y = 0; y < f->height; y++) {
        uint8_t *p = f->data[0] + (ptrdiff_t)y * f->linesize[0];
        for (int x = 0; x < f->width; x++, p += 8) {
            for (int c = 0; c < 6; c += 2) {
                uint32_t v = (65535 - le16(p + c)) * (65535 - le16(p + 6)) / 65535;
                p[c] = (uint8_t)v;
                p[c + 1] = (uint8_t)(v >> 8);
            }
            p[6] = p[7] = 255;
        }
    }
}

/* Colours that were multiplied by their alpha, as they were before. */
static void straight(media_raw *raw)
{
    uint8_t *p = raw->px;
    for (size_t n = (size_t)raw->width * (size_t)raw->height; n; n--, p += 4)
        for (int c = 0; c < 3 && p[3]; c++) p[c] = (uint8_t)(255u * p[c] / p[3] < 255 ? 255u * p[c] / p[3] : 255);
}

int media_still(const media_job *j, media_raw *raw, media_kind kind)
{
    static const struct {
        media_kind kind;
        int codec;
        const char *name;
    } codecs[] = {
        { KIND_BMP, AV_CODEC_ID_BMP, "BMP" },         { KIND_TIFF, AV_CODEC_ID_TIFF, "TIFF" }, { KIND_PBM, AV_CODEC_ID_PBM, "PBM" },
        { KIND_PGM, AV_CODEC_ID_PGM, "PGM" },         { KIND_PPM, AV_CODEC_ID_PPM, "PPM" },    { KIND_PAM, AV_CODEC_ID_PAM, "PAM" },
        { KIND_QOI, AV_CODEC_ID_QOI, "QOI" },         { KIND_JP2, AV_CODEC_ID_JPEG2000, "JPEG 2000" }, { KIND_J2K, AV_CODEC_ID_JPEG2000, "JPEG 2000" },
        { KIND_JXL, AV_CODEC_ID_JPEGXL, "JPEG XL" },  { KIND_PSD, AV_CODEC_ID_PSD, "PSD" },
    };
    media_packet k = { .p = j->p, .len = j->len };
    AVFrame *f = NULL;
    int64_t w = 0, h = 0, size[2] = { 0, 0 };
    int orientation = 1, r;
    if (kind == KIND_ICO) {
        media_job one = *j;
        if ((r = largest_icon(j, &k))) return r;
        one.p = k.p;
        one.len = k.len;
        return media_png(&one, raw);
    }
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
        if (codecs[i].kind == kind) k.codec = codecs[i].codec, k.name = codecs[i].name;
    /* sizes that are easy to find are looked at before the decoder is */
    if (kind == KIND_TIFF) {
        if (j->len < 14 || (j->p[0] == 'M' ? be32(j->p + 4) : le32(j->p + 4)) > j->len - 14)
            return mm_fail(j->err, MM_ETRUNC, "the TIFF file ends early: its directory is not there");
        static const unsigned packings[] = { 0, 1, 2, 3, 4, 5, 8, 32773, 32946, 34925 };
        unsigned packing = media_tiff_tag(j->p, j->len, 0x103), known = 0;
        for (size_t i = 0; i < sizeof packings / sizeof *packings; i++) known |= packing == packings[i];
        if (!known) return mm_fail(j->err, MM_EUNSUP, "TIFF with compression %u%s is not supported", packing, packing == 7 || packing == 6 ? " (JPEG)" : "");
        if (media_tiff_tag(j->p, j->len, 0x153) == 3) return mm_fail(j->err, MM_EUNSUP, "TIFF of floating-point samples is not supported");
        if (media_tiff_tag(j->p, j->len, 0x106) == 6) return mm_fail(j->err, MM_EUNSUP, "TIFF of YCbCr colours is not supported");
        if (media_tiff_tag(j->p, j->len, 0x102) > 16)
            return mm_fail(j->err, MM_EUNSUP, "TIFF of %u bits a sample is not supported", media_tiff_tag(j->p, j->len, 0x102));
        if (media_tiff_tag(j->p, j->len, 0x142)) return mm_fail(j->err, MM_EUNSUP, "TIFF in tiles is not supported");
        w = media_tiff_tag(j->p, j->len, 0x100);
        h = media_tiff_tag(j->p, j->len, 0x101);
        orientation = media_exif_orientation(j->p, j->len);
    } else if (kind == KIND_BMP) {
        int old = le32(j->p + 14) == 12;
        w = old ? (int32_t)le16(j->p + 18) : (int32_t)le32(j->p + 18);
        h = old ? (int32_t)le16(j->p + 20) : (int32_t)le32(j->p + 22);
        if (h < 0) h = -h;
    } else if (kind == KIND_JP2 && memmem(j->p, j->len < 4096 ? j->len : 4096, "colr\1\0\0\0\0\0\x0C", 11)) {
        return mm_fail(j->err, MM_EUNSUP, "JPEG 2000 of CMYK colours is not supported");
    } else if (kind == KIND_QOI && j->len >= 14) {
        w = be32(j->p + 4);
        h = be32(j->p + 8);
    } else if (kind >= KIND_PBM && kind <= KIND_PAM) {
        pnm_size(j, kind, size);
        w = size[0];
        h = size[1];
    } else if (kind == KIND_PSD && j->len >= 26) {
        h = be32(j->p + 14);
        w = be32(j->p + 18);
    }
    if (((w && h) || kind == KIND_TIFF) && (r = media_check_size(j, w, h))) return r;
    *raw = (media_raw){ .width = (int)w, .height = (int)h, .orientation = orientation };
    if (j->header_only) return 0;
    *raw = (media_raw){ 0 };
    uint8_t *copy = NULL;
    if (kind == KIND_TIFF) {
        if (!(copy = malloc(j->len))) return mm_fail(j->err, MM_ENOMEM, "out of memory");
        memcpy(copy, j->p, j->len);
        media_tiff_plain(copy, j->len);
        k.p = copy;
    }
    r = media_decode_one(j, &k, &f);
    free(copy);
    if (r) return r;
    /* 16-bit inks in the order of little-endian machines are what FFmpeg hands out as if they were RGBA */
    if (kind == KIND_TIFF && f->format == AV_PIX_FMT_RGBA64LE && media_tiff_tag(j->p, j->len, 0x106) == 5) inks_to_rgb(f);
    r = media_pixels(j, raw, f, 1);
    av_frame_free(&f);
    raw->orientation = orientation;
    if (!r && raw->channels == 4 && kind == KIND_TIFF && media_tiff_tag(j->p, j->len, 0x152) == 1) straight(raw);
    return r;
}

static int decode(const media_job *j, media_kind kind, media_raw *raw)
{
    switch (kind) {
    case KIND_JPEG: return media_jpeg(j, raw);
    case KIND_PNG: return media_png(j, raw);
    case KIND_GIF: return media_gif(j, raw);
    case KIND_WEBP: return media_webp(j, raw);
    case KIND_HEIF: return media_heif(j, raw);
    default: return media_still(j, raw, kind);
    }
}

/* Bytes that are no picture: what are they then? */
static int no_picture(const media_job *j)
{
    mm_media_info found = { 0 };
    mm_media_src src = { .data = j->p, .len = j->len };
    if (mm_media_probe(&src, &found, NULL))
        return mm_fail(j->err, MM_EDATA, "not a picture: %s", media_looks_like(j->p, j->len));
    *j->info = found;
    return mm_fail(j->err, MM_EDATA, "no picture in it: %s %s", found.format, found.has & MM_MEDIA_VIDEO ? "video" : "sound");
}

static int read_bytes(mm_image *out, const media_job *j)
{
    media_raw raw = { 0 };
    media_kind kind = media_sniff(j->p, j->len, j->info->format);
    if (!kind) return no_picture(j);
    j->info->has = MM_MEDIA_IMAGE;
    int r = decode(j, kind, &raw);
    if (!r) r = media_finish(out, &raw, &j->opts, j->info, j->err);
    j->info->width = out->width;
    j->info->height = out->height;
    return r;
}

int mm_image_read(mm_image *out, const mm_media_src *src, const mm_image_opts *opts, mm_media_info *info, mm_err *err)
{
    mm_media_info unwanted;
    media_bytes b;
    if (!info) info = &unwanted;
    *info = (mm_media_info){ 0 };
    *out = (mm_image){ 0 };
    int r = media_open(&b, src, err);
    if (r) return r;
    media_job j = { .p = b.p, .len = b.len, .info = info, .err = err };
    if (opts) j.opts = *opts;
    if (j.opts.max_pixels <= 0) j.opts.max_pixels = MM_MAX_PIXELS;
    r = media_name(src, read_bytes(out, &j), err);
    media_close(&b);
    return r;
}

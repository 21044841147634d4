/* Where media comes from: bytes in memory, what they look like, and FFmpeg's demuxers over them. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_str.h"
#include "media/av.h"
#include "media/media_int.h"

#define MAX_PIPE ((size_t)1 << 30) /* of what comes from a pipe: it has to be kept */

int media_open(media_bytes *b, const mm_media_src *src, mm_err *err)
{
    struct stat st;
    int r = 0;
    *b = (media_bytes){ .p = src->data, .len = src->len };
    if (src->path) {
        *b = (media_bytes){ 0 };
        if (!stat(src->path, &st) && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode) || S_ISSOCK(st.st_mode))) {
            r = mm_file_read(&b->buf, src->path, MAX_PIPE, err);
            b->p = (const uint8_t *)b->buf.p;
            b->len = b->buf.len;
        } else {
            r = mm_map_open(&b->map, src->path, err);
            b->p = b->map.p;
            b->len = b->map.len;
        }
    }
    if (!r && !b->len) r = media_name(src, mm_fail(err, MM_EEMPTY, "empty file"), err);
    if (r) media_close(b);
    return r;
}

void media_close(media_bytes *b)
{
    mm_map_close(&b->map);
    mm_buf_clear(&b->buf);
    *b = (media_bytes){ 0 };
}

int media_name(const mm_media_src *src, int r, mm_err *err)
{
    if (r && src->path) mm_err_prefix(err, "'%s': ", src->path);
    return r;
}

/* ---- what it looks like ---- */

/* Brands of HEIF's still pictures; sequences (msf1, hevc, avis) are tried as video when they have no still one. */
static int heif(const uint8_t *p, size_t len, const char **name)
{
    static const char brands[][5] = { "heic", "heix", "heim", "heis", "mif1", "avif", "avis", "mif2" };
    if (len < 16 || memcmp(p + 4, "ftyp", 4)) return 0;
    size_t end = be32(p) < len ? be32(p) : len;
    int found = 0, av1 = 0;
    for (size_t at = 8; at + 4 <= end && at < 256; at += at == 8 ? 8 : 4) {
        for (size_t i = 0; i < sizeof brands / sizeof *brands; i++)
            if (!memcmp(p + at, brands[i], 4)) {
                found |= at == 8 || i < 4 || i == 5;
                av1 |= !memcmp(brands[i], "avi", 3);
            }
    }
    if (found) *name = av1 ? "avif" : "heic";
    return found;
}

media_kind media_sniff(const uint8_t *p, size_t len, char format[24])
{
    static const struct {
        const char *magic;
        size_t len;
        media_kind kind;
        const char *name;
    } known[] = {
        { "\xFF\xD8\xFF", 3, KIND_JPEG, "jpeg" },
        { "\x89PNG\r\n\x1A\n", 8, KIND_PNG, "png" },
        { "GIF87a", 6, KIND_GIF, "gif" },
        { "GIF89a", 6, KIND_GIF, "gif" },
        { "II*\0", 4, KIND_TIFF, "tiff" },
        { "MM\0*", 4, KIND_TIFF, "tiff" },
        { "qoif", 4, KIND_QOI, "qoi" },
        { "\0\0\0\x0CjP  \r\n\x87\n", 12, KIND_JP2, "jp2" },
        { "\xFF\x4F\xFF\x51", 4, KIND_J2K, "j2k" },
        { "\0\0\0\x0CJXL \r\n\x87\n", 12, KIND_JXL, "jxl" },
        { "\xFF\x0A", 2, KIND_JXL, "jxl" },
        { "8BPS\0\1", 6, KIND_PSD, "psd" },
        { "\0\0\1\0", 4, KIND_ICO, "ico" },
    };
    const char *name = "";
    media_kind kind = KIND_OTHER;
    for (size_t i = 0; i < sizeof known / sizeof *known && !kind; i++)
        if (len >= known[i].len && !memcmp(p, known[i].magic, known[i].len)) {
            kind = known[i].kind;
            name = known[i].name;
        }
    if (!kind && len >= 12 && !memcmp(p, "RIFF", 4) && !memcmp(p + 8, "WEBP", 4)) kind = KIND_WEBP, name = "webp";
    if (!kind && len >= 26 && !memcmp(p, "BM", 2) && le32(p + 14) >= 12 && le32(p + 14) <= 124) kind = KIND_BMP, name = "bmp";
    if (!kind && len >= 7 && p[0] == 'P' && p[1] >= '1' && p[1] <= '7' && (p[2] == '\n' || p[2] == ' ' || p[2] == '\r' || p[2] == '\t')) {
        static const media_kind kinds[] = { KIND_PBM, KIND_PGM, KIND_PPM, KIND_PBM, KIND_PGM, KIND_PPM, KIND_PAM };
        kind = kinds[p[1] - '1'];
        name = "pnm";
    }
    if (!kind && heif(p, len, &name)) kind = KIND_HEIF;
    snprintf(format, 24, "%s", name);
    return kind;
}

const char *media_looks_like(const uint8_t *p, size_t len)
{
    static const struct {
        const char *magic;
        size_t len;
        const char *what;
    } known[] = {
        { "%PDF-", 5, "a PDF document" },
        { "PK\3\4", 4, "a zip archive or an office document" },
        { "\x1F\x8B", 2, "gzip data" },
        { "\x7F" "ELF", 4, "a program" },
        { "GGUF", 4, "a GGUF model" },
        { "II+\0", 4, "BigTIFF, which is not supported" },
        { "MM\0+", 4, "BigTIFF, which is not supported" },
        { "8BPS\0\2", 6, "a large Photoshop document (PSB), which is not supported" },
        { "DDS ", 4, "a DDS texture, which is not supported" },
        { "icns", 4, "an Apple icon (ICNS), which is not supported" },
        { "\x76\x2F\x31\x01", 4, "OpenEXR, which is not supported" },
        { "#?RADIANCE", 10, "Radiance HDR, which is not supported" },
        { "AT&TFORM", 8, "DjVu, which is not supported" },
        { "FUJIFILMCCD-RAW", 15, "a camera's raw file, which is not supported" },
        { "IIRO", 4, "a camera's raw file, which is not supported" },
        { "IIU\0", 4, "a camera's raw file, which is not supported" },
        { "\x93NUMPY", 6, "a NumPy array" },
        { "7z\xBC\xAF", 4, "a 7z archive" },
        { "Rar!", 4, "a RAR archive" },
        { "version https://git-lfs", 23, "a Git LFS pointer, not the file itself" },
        { "<!DOCTYPE html", 14, "an HTML page" },
        { "<html", 5, "an HTML page" },
        { "<svg", 4, "an SVG drawing" },
        { "<?xml", 5, "XML text" },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (len >= known[i].len && !memcmp(p, known[i].magic, known[i].len)) return known[i].what;
    size_t n = len < 4096 ? len : 4096, good = mm_utf8_valid((const char *)p, n), zeros = 0;
    for (size_t i = 0; i < n; i++) {
        if (!p[i]) zeros++;
        if (p[i] < 32 && p[i] && p[i] != '\n' && p[i] != '\r' && p[i] != '\t' && p[i] != '\f') good = 0;
    }
    if (zeros == n) return "nothing but zeros";
    return !zeros && (good == n || (n < len && good + 4 > n)) ? "text" : "unknown data";
}

/* ---- FFmpeg ---- */

static void quiet(void) { av_log_set_level(AV_LOG_QUIET); }

void media_quiet(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, quiet);
}

static int read_packet(void *opaque, uint8_t *buf, int n)
{
    media_input *in = opaque;
    size_t left = in->len - in->at;
    if (!left) return AVERROR_EOF;
    if ((size_t)n > left) n = (int)left;
    memcpy(buf, in->p + in->at, (size_t)n);
    in->at += (size_t)n;
    return n;
}

static int64_t seek(void *opaque, int64_t offset, int whence)
{
    media_input *in = opaque;
    switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE: return (int64_t)in->len;
    case SEEK_SET: break;
    case SEEK_CUR: offset += (int64_t)in->at; break;
    case SEEK_END: offset += (int64_t)in->len; break;
    default: return AVERROR(EINVAL);
    }
    if (offset < 0) return AVERROR(EINVAL);
    in->at = offset > (int64_t)in->len ? in->len : (size_t)offset; /* past the end there is nothing to read */
    return offset;
}

/* Playlists and the like name other files: no input of ours opens a second one. */
static int no_other(AVFormatContext *s, AVIOContext **pb, const char *url, int flags, AVDictionary **opts)
{
    (void)s, (void)url, (void)flags, (void)opts;
    *pb = NULL;
    return AVERROR(EPERM);
}

static const char formats[] =
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,ivf,obu,av1,rm,mxf,nut,dv,yuv4mpegpipe,mjpeg,gif,apng,vc1,h263,h261,"
    "wav,w64,aiff,au,caf,flac,mp3,aac,ac3,eac3,amr,amrnb,amrwb,ape,wv,tta,voc,mpc,mpc8,dts,truehd,tak,ircam,sox,smjpeg,roq,wtv,ico";

/* A container that is there, but cannot be read. */
static int unreadable(const uint8_t *p, size_t len, mm_err *err)
{
    static const struct {
        size_t at, len;
        const char *magic, *what;
    } known[] = {
        { 0, 4, "\x1A\x45\xDF\xA3", "Matroska" }, { 8, 4, "AVI ", "AVI" }, { 8, 4, "WAVE", "WAV" }, { 0, 4, "OggS", "Ogg" },
        { 0, 4, "fLaC", "FLAC" }, { 0, 3, "FLV", "FLV" }, { 0, 4, "\x30\x26\xB2\x75", "ASF" }, { 0, 3, "ID3", "MP3" }, { 4, 4, "ftyp", "MP4" },
    };
    if (len >= 12 && !memcmp(p + 4, "ftyp", 4)) {
        size_t at = 0, n = 1;
        for (; n && at + 8 <= len && memcmp(p + at + 4, "moov", 4); at += n) {
            n = be32(p + at);
            if (n == 1 && at + 16 <= len) n = (size_t)be32(p + at + 8) << 32 | be32(p + at + 12);
            if (n < 8 || n > len - at) break;
        }
        if (at + 8 > len || memcmp(p + at + 4, "moov", 4) || be32(p + at) > len - at)
            return mm_fail(err, MM_ETRUNC, "the MP4 file ends early: its index (moov) is not there");
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (len >= known[i].at + known[i].len && !memcmp(p + known[i].at, known[i].magic, known[i].len))
            return mm_fail(err, MM_EDATA, "the %s file is damaged or ends early", known[i].what);
    return mm_fail(err, MM_EDATA, "not a picture, sound or video: %s", media_looks_like(p, len));
}

int media_demux(media_input *in, const uint8_t *p, size_t len, mm_err *err)
{
    int r = media_av_load(MEDIA_AV_FORMAT, err);
    *in = (media_input){ .p = p, .len = len };
    if (r) return r;
    media_quiet();
    unsigned char *buf = av_malloc(1 << 16);
    in->fmt = avformat_alloc_context();
    in->io = buf ? avio_alloc_context(buf, 1 << 16, 0, in, read_packet, NULL, seek) : NULL;
    if (!in->fmt || !in->io || !(in->fmt->format_whitelist = av_strdup(formats))) {
        if (!in->io) av_free(buf);
        media_demux_close(in);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    in->fmt->pb = in->io;
    in->fmt->io_open = no_other;
    in->fmt->max_streams = 64;
    r = avformat_open_input(&in->fmt, NULL, NULL, NULL); /* frees fmt when it fails */
    if (r >= 0) r = avformat_find_stream_info(in->fmt, NULL);
    if (r < 0) {
        media_demux_close(in);
        if (r == AVERROR(EINVAL) || r == AVERROR(ENOENT) || r == AVERROR(EPERM)) r = AVERROR_INVALIDDATA;
        return r == AVERROR_INVALIDDATA || r == AVERROR_EOF ? unreadable(p, len, err) : media_av_fail(err, r, "read the file");
    }
    return 0;
}

void media_demux_close(media_input *in)
{
    avformat_close_input(&in->fmt);
    if (in->io) av_freep(&in->io->buffer);
    avio_context_free(&in->io);
}

int media_av_fail(mm_err *err, int r, const char *what)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    if (r == AVERROR(ENOMEM)) return mm_fail(err, MM_ENOMEM, "out of memory");
    av_strerror(r, text, sizeof text);
    if (r == AVERROR_DECODER_NOT_FOUND || r == AVERROR_PATCHWELCOME || r == AVERROR(ENOSYS))
        return mm_fail(err, MM_EUNSUP, "cannot %s: not supported by the installed FFmpeg", what);
    if (r == AVERROR_EOF) return mm_fail(err, MM_ETRUNC, "cannot %s: it ends early", what);
    if (r == AVERROR_INVALIDDATA) return mm_fail(err, MM_EDATA, "cannot %s: it is damaged", what);
    return mm_fail(err, MM_EDATA, "cannot %s: %s", what, text);
}

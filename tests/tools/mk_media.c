/* mk_media - makes the pictures, videos and sounds that shell tests and fuzz corpora use, always the same scene: 3 x 2 blocks of colours.
 *
 *   mk_media png|jpeg|bmp|ppm|tiff|gif|avif|mp4|mkv|ts|wav FILE [KEY=NUMBER...]
 *   mk_media corpus FOLDER      the inputs of tests/fuzz/fuzz_image, all of them small
 * Keys: w h (size as stored; mp4 and its kin: as shown), orientation (EXIF; JPEG and PNG have none without), big (endian), exif (0 good, 1 other value
 * in IFD1, 2 broken offset, 3 cut), depth color (PNG), alpha (AVIF: its value; GIF: the transparent colour + 1), progressive, frames (GIF, PNG, videos),
 * fps, rotate (90 180 270), audio silent vary motion (videos), irot imir grid (AVIF), rate channels bits ms (wav: a tone of 400 Hz), cut (bytes
 * off the end). */
#include <math.h>
#include <sys/stat.h>
#include "base/mm_file.h"
#include "../unit/media_files.h"

static struct {
    const char *name;
    int value;
} keys[] = { { "w", 0 },     { "h", 0 },        { "orientation", -1 }, { "big", 0 },    { "exif", 0 },  { "depth", 8 },
             { "color", 2 }, { "alpha", 0 },    { "progressive", 0 },  { "frames", 0 }, { "fps", 5 },   { "rotate", 0 },
             { "audio", 0 }, { "silent", 0 },   { "vary", 0 },         { "motion", 0 }, { "irot", 0 },  { "imir", 0 },
             { "grid", 0 },  { "rate", 16000 }, { "channels", 1 },     { "bits", 16 },  { "ms", 1000 }, { "cut", 0 } };

static int *key(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i].name) == n && !strncmp(keys[i].name, name, n)) return &keys[i].value;
    fprintf(stderr, "mk_media: no such key: %s\n", name);
    exit(2);
}
static int get(const char *name) { return *key(name, strlen(name)); }

static void put(const char *path, mm_buf *b)
{
    mm_outfile f;
    mm_err err;
    size_t n = b->len > (size_t)get("cut") ? b->len - (size_t)get("cut") : 0;
    if (mm_outfile_open(&f, path, &err) || mm_outfile_write(&f, b->p, n, &err) || mm_outfile_commit(&f, &err)) {
        fprintf(stderr, "mk_media: %s\n", err.msg);
        exit(1);
    }
    mm_buf_reset(b);
}

static void wav(mm_buf *b)
{
    int rate = get("rate"), channels = get("channels"), bytes = get("bits") / 8, n = (int)((int64_t)rate * get("ms") / 1000);
    mm_buf_add(b, "RIFF", 4), mf_u32(b, (uint32_t)(36 + n * channels * bytes), 0), mm_buf_add(b, "WAVEfmt ", 8), mf_u32(b, 16, 0), mf_u16(b, 1, 0);
    mf_u16(b, (uint32_t)channels, 0), mf_u32(b, (uint32_t)rate, 0), mf_u32(b, (uint32_t)(rate * channels * bytes), 0),
        mf_u16(b, (uint32_t)(channels * bytes), 0);
    mf_u16(b, (uint32_t)bytes * 8, 0), mm_buf_add(b, "data", 4), mf_u32(b, (uint32_t)(n * channels * bytes), 0);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < channels; c++) {
            double v = get("silent") ? 0 : 0.5 * sin(6.283185307179586 * 400 * i / rate);
            int32_t s = (int32_t)(v * 2147483647.0);
            uint8_t p[4] = { (uint8_t)s, (uint8_t)(s >> 8), (uint8_t)(s >> 16), (uint8_t)(s >> 24) };
            if (bytes == 1) p[3] ^= 0x80;
            mm_buf_add(b, p + 4 - bytes, (size_t)bytes);
        }
}

static int make(mm_buf *b, const char *kind)
{
    static const char *const videos[][2] = { { "mp4", "mp4" }, { "mkv", "matroska" }, { "ts", "mpegts" } };
    int w = get("w") ? get("w") : 48, h = get("h") ? get("h") : 32, o = get("orientation");
    if (!strcmp(kind, "png"))
        mf_png(b, &(mf_png_spec){ .w = w,
                                  .h = h,
                                  .depth = get("depth"),
                                  .color = get("color"),
                                  .orientation = o > 0 ? o : 0,
                                  .big = get("big"),
                                  .exif_how = get("exif"),
                                  .animated = get("frames") });
    else if (!strcmp(kind, "jpeg")) mf_jpeg(b, w, h, o, get("big"), get("exif"), get("progressive"));
    else if (!strcmp(kind, "bmp")) mf_bmp(b, w, h);
    else if (!strcmp(kind, "ppm")) mf_ppm(b, w, h);
    else if (!strcmp(kind, "tiff")) mf_tiff(b, w, h, o > 0 ? o : 1, get("big"));
    else if (!strcmp(kind, "gif")) mf_gif(b, w, h, get("frames") ? get("frames") : 1, get("alpha") - 1);
    else if (!strcmp(kind, "avif"))
        return mf_avif(
            b, &(mf_avif_spec){ .w = w, .h = h, .grid = get("grid"), .irot = get("irot"), .imir = get("imir"), .alpha = get("alpha") });
    else if (!strcmp(kind, "wav")) wav(b);
    for (size_t i = 0; i < sizeof videos / sizeof *videos; i++)
        if (!strcmp(kind, videos[i][0]))
            return mf_video(b, &(mf_video_spec){ .w = w,
                                                 .h = h,
                                                 .frames = get("frames") ? get("frames") : 5,
                                                 .fps = get("fps"),
                                                 .format = videos[i][1],
                                                 .rotate = get("rotate"),
                                                 .audio = get("audio") || get("silent"),
                                                 .silent = get("silent"),
                                                 .vary = get("vary"),
                                                 .motion = get("motion") });
    return b->len ? 0 : -2;
}

static void corpus(const char *dir)
{
    static const char *const kinds[][4] = { { "png", "png", "" },
                                            { "png16", "png", "depth=16" },
                                            { "png-alpha", "png", "color=6", "orientation=6" },
                                            { "apng", "png", "frames=3" },
                                            { "jpeg", "jpeg", "" },
                                            { "jpeg-exif", "jpeg", "orientation=6" },
                                            { "jpeg-progressive", "jpeg", "progressive=1" },
                                            { "bmp", "bmp", "" },
                                            { "ppm", "ppm", "" },
                                            { "tiff", "tiff", "big=1" },
                                            { "gif", "gif", "frames=3", "alpha=4" },
                                            { "avif", "avif", "alpha=128" },
                                            { "avif-grid", "avif", "grid=2", "irot=1" },
                                            { "mp4", "mp4", "frames=3", "rotate=90" },
                                            { "mkv", "mkv", "frames=3" },
                                            { "ts", "ts", "frames=3" },
                                            { "wav", "wav", "ms=10" } };
    mm_buf b = { 0 };
    char path[4096];
    mkdir(dir, 0777);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        *key("w", 1) = 12, *key("h", 1) = 10;
        *key("orientation", 11) = -1, *key("depth", 5) = 8, *key("color", 5) = 2;
        *key("frames", 6) = *key("alpha", 5) = *key("progressive", 11) = *key("big", 3) = *key("grid", 4) = *key("irot", 4) = *key("rotate", 6) = 0;
        if (!strcmp(kinds[i][1], "avif") || kinds[i][0][0] == 'm' || !strcmp(kinds[i][0], "ts")) *key("w", 1) = 32, *key("h", 1) = 16;
        for (int k = 2; k < 4; k++)
            if (kinds[i][k] && kinds[i][k][0]) *key(kinds[i][k], strcspn(kinds[i][k], "=")) = (int)strtol(strchr(kinds[i][k], '=') + 1, NULL, 10);
        snprintf(path, sizeof path, "%s/%s", dir, kinds[i][0]);
        if (make(&b, kinds[i][1])) fprintf(stderr, "mk_media: cannot make %s here\n", path);
        else put(path, &b);
    }
    mm_buf_clear(&b);
}

int main(int argc, char **argv)
{
    mm_buf b = { 0 };
    int r = 0;
    if (argc < 3) r = -2;
    else if (!strcmp(argv[1], "corpus")) corpus(argv[2]);
    else {
        for (int i = 3; i < argc && !r; i++) {
            char *eq = strchr(argv[i], '=');
            if (eq) *key(argv[i], (size_t)(eq - argv[i])) = (int)strtol(eq + 1, NULL, 10);
            else r = -2;
        }
        if (!r && !(r = make(&b, argv[1]))) put(argv[2], &b);
    }
    mm_buf_clear(&b);
    if (r == -2) fprintf(stderr, "usage: see the head of tests/tools/mk_media.c\n");
    if (r == -1) fprintf(stderr, "mk_media: this FFmpeg cannot make it\n");
    return r ? 2 : 0;
}

/* Pictures: every kind is read, upright and with the colours that Pillow gives it (tests/golden, by tests/tools/mk_media_fixtures.py),
 * bad ones are refused by name, resizing is Pillow's. */
#include <math.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "media/mm_input.h"
#include "media_files.h"
#include "tap.h"

static mm_err err;
static mm_media_info info;
static mm_buf b;

static int read_opts(mm_image *im, const mm_image_opts *o)
{
    const mm_media_src src = { .data = b.p, .len = b.len };
    return mm_image_read(im, &src, o, &info, &err);
}

static int probe(void)
{
    const mm_media_src src = { .data = b.p, .len = b.len };
    return mm_media_probe(&src, &info, &err);
}

/* b is a picture of the scene, w x h upright */
static void is_scene(int w, int h, int tolerance, const char *what)
{
    mm_image im;
    if (!ok(!read_opts(&im, NULL), "%s is read", what)) {
        printf("# %s\n", err.msg);
        return;
    }
    int worst = 0;
    if (im.width == w && im.height == h)
        for (int i = 0; i < 6; i++) {
            const uint8_t *p = im.px + 3 * ((size_t)(h * (2 * (i / 3) + 1) / 4) * (size_t)w + (size_t)(w * (2 * (i % 3) + 1) / 6));
            for (int c = 0; c < 3; c++) worst = abs(p[c] - mf_colours[i][c]) > worst ? abs(p[c] - mf_colours[i][c]) : worst;
        }
    ok(im.width == w && im.height == h && worst <= tolerance, "%s: %d x %d, differs by %d", what, im.width, im.height, worst);
    mm_image_clear(&im);
    ok(!probe() && info.width == w && info.height == h && info.has & MM_MEDIA_IMAGE, "%s: probed as %s, %d x %d", what, info.format, info.width, info.height);
}

static void refused(int code, const char *word, const char *what)
{
    mm_image im;
    int r = read_opts(&im, NULL);
    ok(r == code && !im.px && strstr(err.msg, word), "%s is refused: %s: %s", what, mm_err_name(r), r ? err.msg : "no");
    mm_image_clear(&im);
}

static void orientation(void)
{
    char what[80];
    for (int o = 1; o <= 8; o++)
        for (int big = 0; big < 2; big++) {
            int turned = o >= 5, w = turned ? 32 : 48, h = turned ? 48 : 32;
            mm_buf_reset(&b);
            mf_jpeg(&b, w, h, o, big, MF_EXIF_GOOD, 0);
            snprintf(what, sizeof what, "JPEG, orientation %d, %s endian", o, big ? "big" : "little");
            is_scene(48, 32, 3, what);
            mm_buf_reset(&b);
            mf_png(&b, &(mf_png_spec){ .w = w, .h = h, .orientation = o, .big = big });
            is_scene(48, 32, 0, "PNG with it");
            mm_buf_reset(&b);
            mf_tiff(&b, w, h, o, big);
            is_scene(48, 32, 0, "TIFF with it");
            mm_buf_reset(&b);
            mf_jpeg(&b, w, h, o, big, MF_EXIF_IFD1, 0);
            is_scene(48, 32, 3, "JPEG, another orientation in the thumbnail's IFD");
        }
    static const int bad[] = { 0, 9, 255 };
    for (int i = 0; i < 3; i++) {
        mm_buf_reset(&b);
        mf_jpeg(&b, 48, 32, bad[i], i & 1, MF_EXIF_GOOD, 0);
        is_scene(48, 32, 3, "JPEG, invalid orientation");
    }
    for (int how = MF_EXIF_OFFSET; how <= MF_EXIF_CUT; how++) {
        mm_buf_reset(&b);
        mf_jpeg(&b, 48, 32, 1, 1, how, 0);
        is_scene(48, 32, 3, "JPEG, broken EXIF");
    }
    mm_image im;
    mm_buf_reset(&b);
    mf_jpeg(&b, 32, 48, 6, 0, MF_EXIF_GOOD, 0);
    ok(!read_opts(&im, &(mm_image_opts){ .no_rotate = 1 }) && im.width == 32, "no_rotate");
    mm_image_clear(&im);
}

static void kinds(void)
{
    mm_image im;
    mm_buf_reset(&b), mf_bmp(&b, 47, 31), is_scene(47, 31, 0, "BMP of odd width");
    mm_buf_reset(&b), mf_ppm(&b, 48, 32), is_scene(48, 32, 0, "PPM");
    mm_buf_reset(&b), mf_jpeg(&b, 48, 32, -1, 0, 0, 1), is_scene(48, 32, 3, "progressive JPEG");
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 1, .h = 1 });
    ok(!read_opts(&im, NULL) && im.width == 1 && im.height == 1 && im.px[0] == 200, "PNG of one pixel");
    mm_image_clear(&im);
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 48, .h = 32, .depth = 16, .color = 2 }), is_scene(48, 32, 0, "PNG of 16 bits");
    mm_buf_reset(&b), mf_gif(&b, 8, 4, 3, -1);
    ok(!read_opts(&im, NULL) && im.width == 8 && !memcmp(im.px, mf_colours[0], 3) && !memcmp(im.px + 21, mf_colours[0], 3), "GIF: the first frame");
    ok(info.has == (MM_MEDIA_IMAGE | MM_MEDIA_VIDEO), "GIF: is a video too");
    mm_image_clear(&im);
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 8, .h = 4, .animated = 3 });
    ok(!read_opts(&im, NULL) && !memcmp(im.px, mf_colours[0], 3) && info.has == (MM_MEDIA_IMAGE | MM_MEDIA_VIDEO), "APNG: the first frame");
    mm_image_clear(&im);
}

/* gray, palette and keyed PNGs of every depth: samples 0, 1, 2 ... across */
static void depths(void)
{
    for (int depth = 1; depth <= 16; depth *= 2) {
        uint8_t row[32] = { 0 };
        int n = depth < 4 ? 1 << depth : 16, wrong = 0, max = (1 << (depth < 8 ? depth : 8)) - 1;
        mm_image im;
        for (int i = 0; i < n; i++) {
            if (depth == 16) row[2 * i] = (uint8_t)i, row[2 * i + 1] = 0xFF;
            else row[i * depth / 8] |= (uint8_t)(i << (8 - depth - i * depth % 8));
        }
        mm_buf_reset(&b);
        mf_png(&b, &(mf_png_spec){ .w = n, .h = 1, .depth = depth, .color = 0, .samples = row });
        if (!ok(!read_opts(&im, NULL), "gray PNG of %d bits is read", depth)) continue;
        for (int i = 0; i < n; i++) wrong += im.px[3 * i] != (depth >= 8 ? i : i * 255 / max) || im.px[3 * i + 2] != im.px[3 * i];
        is_int(wrong, 0, "... with its values");
        mm_image_clear(&im);
        uint8_t key[2] = { 0, 1 };
        if (depth == 16) key[0] = 1, key[1] = 0xFF;
        mm_buf_reset(&b);
        mf_png(&b, &(mf_png_spec){ .w = n, .h = 1, .depth = depth, .color = 0, .samples = row, .trns = key, .trns_len = 2 });
        ok(!read_opts(&im, &(mm_image_opts){ .alpha = MM_ALPHA_WHITE }) && im.px[0] == 0 && im.px[3] == 255, "... and a transparent value: %s", err.msg);
        mm_image_clear(&im);
        if (depth == 16) continue;
        for (int i = 0; i < 32; i++) row[i] = depth == 1 ? 0x55 : depth == 2 ? 0x1B : row[i];
        mm_buf_reset(&b);
        mf_png(&b, &(mf_png_spec){ .w = 2, .h = 1, .depth = depth, .color = 3, .samples = row, .trns = "\xFF\x80", .trns_len = 2 });
        ok(!read_opts(&im, NULL) && !memcmp(im.px, mf_colours[0], 3) && !memcmp(im.px + 3, mf_colours[1], 3), "palette of %d bits", depth);
        mm_image_clear(&im);
        ok(!read_opts(&im, &(mm_image_opts){ .alpha = MM_ALPHA_BLACK }) && im.px[3] == 15 && im.px[4] == 90 && im.px[5] == 20, "... half of it on black");
        mm_image_clear(&im);
    }
}

static void alpha(void)
{
    static const uint8_t rgba[] = { 1, 2, 3, 0, 10, 220, 10, 128, 7, 8, 9, 255, 200, 100, 50, 127 };
    static const struct {
        mm_alpha how;
        uint8_t px[12];
    } want[] = {
        { MM_ALPHA_DROP, { 1, 2, 3, 10, 220, 10, 7, 8, 9, 200, 100, 50 } },
        { MM_ALPHA_WHITE, { 255, 255, 255, 132, 237, 132, 7, 8, 9, 228, 178, 153 } },
        { MM_ALPHA_BLACK, { 0, 0, 0, 5, 110, 5, 7, 8, 9, 100, 50, 25 } },
    };
    mm_image im;
    for (size_t i = 0; i < 3; i++) {
        mm_buf_reset(&b);
        mf_png(&b, &(mf_png_spec){ .w = 4, .h = 1, .depth = 8, .color = 6, .samples = rgba });
        ok(!read_opts(&im, &(mm_image_opts){ .alpha = want[i].how }) && !memcmp(im.px, want[i].px, 12), "RGBA, way %zu", i);
        mm_image_clear(&im);
        ok(strstr(info.note, "alpha") != NULL, "... is noted: %s", info.note);
    }
    mm_buf_reset(&b);
    mf_png(&b, &(mf_png_spec){ .w = 2, .h = 1, .depth = 8, .color = 4, .samples = (uint8_t[]){ 80, 255, 90, 0 } });
    ok(!read_opts(&im, &(mm_image_opts){ .alpha = MM_ALPHA_WHITE }) && im.px[0] == 80 && im.px[5] == 255, "gray and alpha");
    mm_image_clear(&im);
    mm_buf_reset(&b);
    mf_png(&b, &(mf_png_spec){ .w = 2, .h = 1, .depth = 8, .color = 2, .samples = (uint8_t[]){ 1, 2, 3, 1, 2, 4 }, .trns = "\0\1\0\2\0\3", .trns_len = 6 });
    ok(!read_opts(&im, &(mm_image_opts){ .alpha = MM_ALPHA_WHITE }) && im.px[0] == 255 && im.px[3] == 1 && im.px[5] == 4, "colour key");
    mm_image_clear(&im);
    ok(!read_opts(&im, NULL) && im.px[0] == 1, "... dropped");
    mm_image_clear(&im);
    mm_buf_reset(&b), mf_gif(&b, 8, 2, 1, 3);
    ok(!read_opts(&im, NULL) && !memcmp(im.px + 21, mf_colours[3], 3), "GIF: the colour under transparency");
    mm_image_clear(&im);
    ok(!read_opts(&im, &(mm_image_opts){ .alpha = MM_ALPHA_WHITE }) && im.px[21] == 255 && im.px[0] == 200, "... on white");
    mm_image_clear(&im);
}

static void avif(void)
{
    mm_image im;
    mm_buf_reset(&b);
    if (mf_avif(&b, &(mf_avif_spec){ .w = 96, .h = 64 })) {
        ok(1, "AVIF # SKIP no AV1 encoder here");
        return;
    }
    is_scene(96, 64, 6, "AVIF");
    mm_buf_reset(&b), (void)!mf_avif(&b, &(mf_avif_spec){ .w = 96, .h = 64, .irot = 1 });
    ok(!read_opts(&im, NULL) && im.width == 64 && im.height == 96 && abs(im.px[0] - 30) < 7 && abs(im.px[2] - 200) < 7, "irot: a quarter anticlockwise");
    mm_image_clear(&im);
    ok(!probe() && info.width == 64 && info.height == 96, "... probed");
    mm_buf_reset(&b), (void)!mf_avif(&b, &(mf_avif_spec){ .w = 96, .h = 64, .irot = 2, .imir = 1 });
    ok(!read_opts(&im, NULL) && im.width == 96 && abs(im.px[0] - 30) < 7 && abs(im.px[2] - 200) < 7, "irot, then imir");
    mm_image_clear(&im);
    mm_buf_reset(&b), (void)!mf_avif(&b, &(mf_avif_spec){ .w = 96, .h = 64, .imir = 2 });
    ok(!read_opts(&im, NULL) && abs(im.px[0] - 30) < 7 && abs(im.px[2] - 200) < 7, "imir: left and right");
    mm_image_clear(&im);
    mm_buf_reset(&b), (void)!mf_avif(&b, &(mf_avif_spec){ .w = 96, .h = 64, .grid = 3 });
    ok(!read_opts(&im, NULL) && im.width == 288 && im.height == 64 && abs(im.px[3 * 210] - 200) < 7 && abs(im.px[3 * 250] - 30) < 7, "a grid of three");
    mm_image_clear(&im);
    mm_buf_reset(&b), (void)!mf_avif(&b, &(mf_avif_spec){ .w = 96, .h = 64, .alpha = 128 });
    ok(!read_opts(&im, &(mm_image_opts){ .alpha = MM_ALPHA_BLACK }) && abs(im.px[0] - 100) < 7, "alpha on black: %d", im.px ? im.px[0] : -1);
    mm_image_clear(&im);
    ok(!read_opts(&im, NULL) && abs(im.px[0] - 200) < 7 && strstr(info.note, "alpha dropped"), "alpha dropped");
    mm_image_clear(&im);
    b.len -= 50;
    refused(MM_ETRUNC, "ends early", "a cut AVIF");
    b.len = 60;
    refused(MM_ETRUNC, "ends early", "an AVIF cut in its tables");
}

static void bad(void)
{
    mm_image im;
    mm_buf_reset(&b);
    refused(MM_EEMPTY, "empty file", "nothing");
    mm_buf_adds(&b, "This is no picture.\n");
    refused(MM_EDATA, "not a picture: text", "text");
    mm_buf_reset(&b), mm_buf_adds(&b, "%PDF-1.4\n");
    refused(MM_EDATA, "PDF", "a PDF");
    mm_buf_reset(&b);
    for (int i = 0; i < 500; i++) mm_buf_addc(&b, (char)(i * 37 ^ i >> 3 ^ 0x85));
    refused(MM_EDATA, "not a picture", "noise");
    static const char *const names[] = { "JPEG", "progressive JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF" };
    for (int k = 0; k < 7; k++) {
        mm_buf_reset(&b);
        switch (k) {
        case 0: mf_jpeg(&b, 96, 64, 1, 0, 0, 0); break;
        case 1: mf_jpeg(&b, 96, 64, 1, 0, 0, 1); break;
        case 2: mf_png(&b, &(mf_png_spec){ .w = 96, .h = 64 }); break;
        case 3: mf_gif(&b, 96, 64, 1, -1); break;
        case 4: mf_bmp(&b, 96, 64); break;
        case 5: mf_ppm(&b, 96, 64); break;
        case 6: mf_tiff(&b, 96, 64, 1, 0); break;
        }
        size_t n = b.len;
        int bad_codes = 0;
        for (size_t part = 1; part < 20; part++) {
            b.len = n * part / 20;
            int r = read_opts(&im, NULL);
            if ((r != MM_ETRUNC && r != MM_EDATA) || im.px) {
                bad_codes++;
                printf("# %s cut to %zu of %zu: %s\n", names[k], b.len, n, r ? err.msg : "was read");
            }
            mm_image_clear(&im);
        }
        is_int(bad_codes, 0, "cut files are refused");
    }
    mm_buf_reset(&b), mf_jpeg(&b, 96, 64, 1, 0, 0, 0);
    b.len -= 30;
    refused(MM_ETRUNC, "the JPEG file ends early", "a cut JPEG");
    mm_buf_reset(&b), mf_jpeg(&b, 96, 64, 1, 0, 0, 0);
    b.len -= 2;
    ok(!read_opts(&im, NULL) && !info.truncated, "a JPEG without its end marker has everything");
    mm_image_clear(&im);
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 20, .h = 20 });
    b.p[b.len - 40] ^= 1;
    refused(MM_EDATA, "CRC", "a PNG with a bad checksum");
    /* sizes are looked at before anything is allocated */
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 4, .h = 4 });
    memcpy(b.p + 16, "\0\0\xFD\xE8\0\0\xFD\xE8", 8);
    uint32_t crc = mf_crc((const uint8_t *)b.p + 12, 17);
    for (int i = 0; i < 4; i++) b.p[29 + i] = (char)(crc >> (24 - 8 * i));
    refused(MM_ELONG, "65000 x 65000 pixels, the limit is 134217728", "a PNG of 65000 x 65000");
    ok(!probe() && info.width == 65000, "... is probed");
    mm_buf_reset(&b), mf_jpeg(&b, 8, 8, -1, 0, 0, 0);
    for (size_t i = 0; i + 9 < b.len; i++)
        if ((uint8_t)b.p[i] == 0xFF && (uint8_t)b.p[i + 1] == 0xC0) memcpy(b.p + i + 5, "\xFD\xE8\xFD\xE8", 4);
    refused(MM_ELONG, "65000 x 65000", "a JPEG of 65000 x 65000");
    mm_buf_reset(&b), mf_gif(&b, 8, 8, 1, -1);
    memcpy(b.p + 6, "\xE8\xFD\xE8\xFD", 4);
    refused(MM_ELONG, "65000 x 65000", "a GIF of 65000 x 65000");
    mm_buf_reset(&b), mm_buf_adds(&b, "P6\n65000 65000\n255\n");
    refused(MM_ELONG, "65000 x 65000", "a PPM of 65000 x 65000");
    mm_buf_reset(&b), mm_buf_adds(&b, "P7\nWIDTH 65000\nHEIGHT 64999\nDEPTH 3\nMAXVAL 255\nENDHDR\n");
    refused(MM_ELONG, "65000 x 64999", "a PAM of that size");
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 64, .h = 64, .rows = 40 });
    refused(MM_ETRUNC, "PNG", "a PNG that is whole, but has too few rows");
    mm_buf_reset(&b), mf_ppm(&b, 40, 30);
    int r = read_opts(&im, &(mm_image_opts){ .max_pixels = 1000 });
    ok(r && !im.px, "max_pixels: %s", err.msg);
    mm_buf_reset(&b);
    mf_bmp(&b, 40, 30);
    r = read_opts(&im, &(mm_image_opts){ .max_pixels = 1000 });
    ok(r == MM_ELONG && !im.px && strstr(err.msg, "40 x 30"), "max_pixels: %s", err.msg);
    const mm_media_src folder = { .path = "/" }, none = { .path = "/no/such/file" };
    ok(mm_image_read(&im, &folder, NULL, NULL, &err) == MM_EIO && strstr(err.msg, "is a directory"), "a folder: %s", err.msg);
    ok(mm_image_read(&im, &none, NULL, NULL, &err) == MM_EIO && strstr(err.msg, "No such file"), "no file: %s", err.msg);
}

static mm_buf golden(const char *name)
{
    const char *root = getenv("MM_ROOT");
    char path[4096];
    mm_buf text = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/%s", root ? root : ".", name);
    if (mm_file_read(&text, path, 1 << 20, &err)) ok(0, "%s", err.msg);
    return text;
}

static void resize(void)
{
    mm_buf text = golden("resize.txt");
    int n = 0, wrong = 0, w, h, W, H, filter;
    unsigned want;
    char *save = NULL;
    for (char *line = text.p ? strtok_r(text.p, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "%d %d %d %d %d %x", &w, &h, &W, &H, &filter, &want) != 6) continue;
        mm_image in = { malloc((size_t)w * (size_t)h * 3), w, h }, out;
        uint32_t x = 1;
        for (size_t i = 0; in.px && i < (size_t)w * (size_t)h * 3; i++) in.px[i] = (uint8_t)((x = x * 1103515245u + 12345u) >> 24);
        n++;
        if (mm_image_resize(&out, &in, W, H, (mm_resize_filter)filter, &err) || mf_crc(out.px, (size_t)W * (size_t)H * 3) != want) {
            wrong++;
            printf("# %s\n", line);
        }
        mm_image_clear(&in);
        mm_image_clear(&out);
    }
    mm_buf_clear(&text);
    ok(n > 200 && !wrong, "%d of %d results of resizing equal Pillow's", n - wrong, n);
    mm_image one = { (uint8_t[]){ 1, 2, 3 }, 1, 1 }, out;
    ok(mm_image_resize(&out, &one, 0, 1, MM_RESIZE_BOX, &err) == MM_EARG && !out.px, "to nothing");
    ok(mm_image_resize(&out, &one, 1 << 20, 1 << 10, MM_RESIZE_BOX, &err) == MM_ELONG && !out.px, "to too much");
}

static void pixels(void)
{
    mm_buf text = golden("pixels.txt");
    char name[40], *save = NULL;
    int w, h, at;
    unsigned want;
    for (char *line = text.p ? strtok_r(text.p, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "%39s %d %d %x %n", name, &w, &h, &want, &at) != 4) continue;
        mm_image im;
        mm_buf_reset(&b);
        for (const char *p = line + at; p[0] && p[1]; p += 2) mm_buf_addc(&b, (char)strtol((char[]){ p[0], p[1], 0 }, NULL, 16));
        int r = read_opts(&im, NULL);
        ok(!r && im.width == w && im.height == h && mf_crc(im.px, (size_t)w * (size_t)h * 3) == want, "%s equals Pillow's%s%s", name,
           r ? ": " : "", r ? err.msg : "");
        mm_image_clear(&im);
        for (size_t part = 1, n = b.len; part < 12 && strcmp(name, "webp-animated"); part++) { /* and cut, it is nothing */
            b.len = n * part / 12;
            if ((r = read_opts(&im, NULL)) != MM_ETRUNC && r != MM_EDATA) ok(0, "%s cut to %zu of %zu: %d", name, b.len, n, r);
            mm_image_clear(&im);
        }
    }
    mm_buf_clear(&text);
}

/* fit equals resize followed by a crop, however thin the picture */
static void fit(void)
{
    static const int sizes[][2] = { { 64, 48 }, { 48, 64 }, { 512, 3 }, { 3, 512 }, { 1, 1 }, { 30, 30 }, { 31, 90 } };
    mm_image_spec s = { .fit = MM_FIT_CROP, .resize = 30, .height = 30, .width = 30, .filter = MM_RESIZE_BICUBIC };
    uint8_t px[3 * 60 * 60];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int w = sizes[i][0], h = sizes[i][1];
        mm_image in = { malloc((size_t)w * (size_t)h * 3), w, h }, big;
        for (int k = 0; k < w * h * 3; k++) in.px[k] = (uint8_t)(k * 7 % 251);
        int W = w <= h ? 30 : 30 * w / h, H = h <= w ? 30 : 30 * h / w, same = 1;
        for (s.round_crop = 0; s.round_crop < 2; s.round_crop++) {
            ok(!mm_image_fit(px, &in, &s, &err) && !mm_image_resize(&big, &in, W, H, MM_RESIZE_BICUBIC, &err), "fit %d x %d", w, h);
            int dx = W - 30, dy = H - 30, x = dx / 2, y = dy / 2;
            if (s.round_crop && dx % 2) x += x % 2;
            if (s.round_crop && dy % 2) y += y % 2;
            for (int r = 0; r < 30; r++) same &= !memcmp(px + 90 * r, big.px + 3 * ((size_t)(y + r) * (size_t)W + (size_t)x), 90);
            ok(same, "... is the middle of the resized picture");
            mm_image_clear(&big);
        }
        s.round_crop = 0;
        mm_image_clear(&in);
    }
    /* a crop that is larger than the picture has zeros around it */
    mm_image in = { malloc(4 * 4 * 3), 4, 4 };
    memset(in.px, 9, 48);
    s = (mm_image_spec){ .fit = MM_FIT_CROP, .resize = 4, .height = 7, .width = 6, .filter = MM_RESIZE_BICUBIC };
    ok(!mm_image_fit(px, &in, &s, &err) && !px[0] && !px[3 * (6 * 1 + 1)] && px[3 * (6 * 2 + 1)] == 9 && px[3 * (6 * 5 + 4)] == 9 &&
           !px[3 * (6 * 6 + 4)] && !px[3 * (6 * 2 + 5)],
       "zeros around");
    s = (mm_image_spec){ .fit = MM_FIT_PAD, .height = 8, .width = 4, .filter = MM_RESIZE_BILINEAR, .fill = { 1, 2, 3 } };
    ok(!mm_image_fit(px, &in, &s, &err) && px[0] == 1 && px[3 * 4 * 1 + 2] == 3 && px[3 * 4 * 2] == 9 && px[3 * 4 * 5] == 9 &&
           px[3 * 4 * 6 + 1] == 2,
       "padded");
    s = (mm_image_spec){ .fit = MM_FIT_STRETCH, .height = 2, .width = 5, .filter = MM_RESIZE_LANCZOS, .mean = { 0.5f, 0.25f, 0 }, .std = { 0.5f, 1, 2 } };
    float out[30];
    ok(!mm_image_fit(px, &in, &s, &err) && px[0] == 9 && px[29] == 9, "stretched");
    px[0] = 255;
    mm_image_normalize(out, px, &s);
    ok(fabsf(out[0] - 1) < 1e-6f && fabsf(out[1] - (9 / 255.0f - 0.5f) / 0.5f) < 1e-6f && fabsf(out[10] - (9 / 255.0f - 0.25f)) < 1e-6f &&
           fabsf(out[29] - 9 / 510.0f) < 1e-6f,
       "normalised");
    s.width = 0;
    is_int(mm_image_fit(px, &in, &s, &err), MM_EARG, "to nothing");
    mm_image_clear(&in);
    /* so thin that the whole would be 300,000,000 pixels */
    in = (mm_image){ calloc(3, 20000 * 3), 20000, 3 };
    s = (mm_image_spec){ .fit = MM_FIT_CROP, .resize = 60, .height = 60, .width = 60, .filter = MM_RESIZE_BICUBIC };
    ok(!mm_image_fit(px, &in, &s, &err) && !px[0], "20000 x 3");
    mm_image_clear(&in);
}

static void quality(void)
{
    mm_image im = { malloc(64 * 64 * 3), 64, 64 };
    mm_image_quality sharp, soft, flat;
    for (int i = 0; i < 64 * 64; i++) memset(im.px + 3 * i, (i / 8 + i / 512) % 2 ? 255 : 0, 3);
    mm_image_measure(&sharp, &im);
    mm_image small = { 0 }, back = { 0 };
    ok(!mm_image_resize(&small, &im, 9, 9, MM_RESIZE_BILINEAR, &err) && !mm_image_resize(&back, &small, 64, 64, MM_RESIZE_BICUBIC, &err), "a blurred copy");
    mm_image_measure(&soft, &back);
    ok(sharp.blur < 0.4f && soft.blur > sharp.blur + 0.1f, "blur: %g sharp, %g blurred", (double)sharp.blur, (double)soft.blur);
    ok(fabsf(sharp.exposure - 0.5f) < 0.01f && fabsf(sharp.dark - 0.5f) < 0.01f && fabsf(sharp.bright - 0.5f) < 0.01f &&
           fabsf(sharp.entropy - 1) < 0.01f,
       "exposure and entropy");
    memset(im.px, 100, 64 * 64 * 3);
    mm_image_measure(&flat, &im);
    ok(flat.blur == 1 && flat.entropy == 0 && flat.dark == 0 && flat.bright == 0 && fabsf(flat.exposure - 100 / 255.0f) < 1e-4f, "one colour");
    mm_image frames[3] = { im, im, back };
    ok(fabsf(mm_video_duplicates(frames, 3) - 0.5f) < 1e-6f && mm_video_duplicates(frames, 1) == 0 && mm_video_duplicates(NULL, 0) == 0, "duplicates");
    mm_image_clear(&im), mm_image_clear(&small), mm_image_clear(&back);
    mm_image_measure(&flat, &im);
    ok(flat.blur == 0 && flat.exposure == 0, "no picture");
}

/* Written and read again: the size, the colours to JPEG's precision, and what is refused. */
static void written(void)
{
    mm_image im = { malloc(37 * 23 * 3), 37, 23 }, back = { 0 };
    mm_buf out = { 0 };
    for (int y = 0; y < 23; y++)
        for (int x = 0; x < 37; x++)
            for (int c = 0; c < 3; c++) im.px[(y * 37 + x) * 3 + c] = (uint8_t)(c == 0 ? x * 6 : c == 1 ? y * 10 : 255 - x * 3 - y * 4);
    mm_buf_adds(&out, "in front");
    ok(!mm_image_jpeg(&out, &im, 90, &err) && !memcmp(out.p, "in front\xFF\xD8\xFF", 11), "a picture becomes a JPEG, appended");
    const mm_media_src src = { .data = out.p + 8, .len = out.len - 8 };
    ok(!mm_image_read(&back, &src, NULL, &info, &err) && back.width == 37 && back.height == 23 && !strcmp(info.format, "jpeg"), "... that can be read");
    int worst = 0;
    for (int i = 0; back.px && i < 37 * 23 * 3; i++) worst = abs(back.px[i] - im.px[i]) > worst ? abs(back.px[i] - im.px[i]) : worst;
    ok(back.px && worst < 20, "... its colours at most %d off", worst);
    size_t large = out.len;
    mm_buf_reset(&out);
    ok(!mm_image_jpeg(&out, &im, 20, &err) && out.len + 8 < large, "less quality, fewer bytes");
    mm_buf_reset(&out);
    mm_image none = { im.px, 0, 4 }, huge = { im.px, 70000, 1 };
    ok(mm_image_jpeg(&out, &none, 90, &err) == MM_EEMPTY && !out.len, "an empty picture is refused");
    ok(mm_image_jpeg(&out, &huge, 90, &err) == MM_ELONG && !out.len, "so is one too wide: %s", err.msg);
    ok(mm_image_jpeg(&out, &im, 0, &err) == MM_EARG && mm_image_jpeg(&out, &im, 101, NULL) == MM_EARG, "and a quality that is none");
    mm_buf_clear(&out);
    mm_image_clear(&im), mm_image_clear(&back);
}

/* What one shade all over is called, with the noise that coding leaves; a colour is something. */
static void nothing(void)
{
    static const struct {
        float r, g, b, noise;
        const char *want;
    } cases[] = { { 0, 0, 0, 0.02f, "black all over" }, { 1, 1, 1, -0.02f, "white all over" }, { 0.5f, 0.5f, 0.5f, 0, "gray all over" },
                  { 0.8f, 0.1f, 0.1f, 0, NULL },        { 0, 0, 0, 0.1f, NULL } };
    mm_input_spec s = { .source = MM_MEDIA_VIDEO, .views = 1, .frames = 2, .channels = 3, .height = 2, .width = 2,
                        .image = { .mean = { 0.5f, 0.4f, 0.3f }, .std = { 0.25f, 0.3f, 0.2f } } };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        float x[24];
        for (size_t i = 0; i < 24; i++) {
            size_t c = i / 4 % 3;
            const float rgb[3] = { cases[k].r, cases[k].g, cases[k].b };
            x[i] = (rgb[c] + (i == 23 ? cases[k].noise : 0) - s.image.mean[c]) / s.image.std[c];
        }
        const char *got = mm_input_nothing(x, &s, &(mm_input_facts){ 0 });
        ok(got == cases[k].want || (got && cases[k].want && !strcmp(got, cases[k].want)), "clip %zu: %s", k, got ? got : "something");
    }
    s.source = MM_MEDIA_AUDIO;
    mm_input_facts f = { .has_sound = 1, .sound.silence = 1 };
    ok(mm_input_nothing(NULL, &s, &f) && (f.sound.silence = 0.99f, !mm_input_nothing(NULL, &s, &f)), "silence");
}

int main(void)
{
    nothing();
    orientation();
    kinds();
    depths();
    alpha();
    avif();
    bad();
    resize();
    pixels();
    fit();
    quality();
    written();
    mm_buf_clear(&b);
    return done();
}

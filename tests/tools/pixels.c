/* pixels - what lib/media makes of pictures and videos, for scripts and shell tests to compare.
 *
 *   pixels info FILE...            format, size, kinds, note
 *   pixels rgb FILE                the upright picture as raw RGB; its size on stderr
 *   pixels alpha drop|white|black FILE
 *   pixels clip FILE               short side 224 bicubic, middle 224 x 224
 *   pixels resize WIDTH HEIGHT FILTER FILE
 *   pixels video FRAMES FILE       size and time of each frame, colours at the centres of 3 x 2 blocks
 *   pixels batch < NAMES           each line: a picture's path; out: 224 x 224 x 3 bytes each, zeros for what fails (message on stderr)
 * Exit 1 when something could not be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "media/mm_media.h"

static mm_err err;

static int failed(void)
{
    fprintf(stderr, "%s: %s\n", mm_err_name(err.code), err.msg);
    return 1;
}

static int clip(uint8_t *px, const char *path)
{
    static const mm_image_spec spec = { .fit = MM_FIT_CROP, .resize = 224, .height = 224, .width = 224, .filter = MM_RESIZE_BICUBIC };
    mm_image im;
    const mm_media_src src = { .path = path };
    if (mm_image_read(&im, &src, NULL, NULL, &err)) return failed();
    int r = mm_image_fit(px, &im, &spec, &err);
    mm_image_clear(&im);
    return r ? failed() : 0;
}

static int rgb(const char *path, mm_alpha alpha)
{
    mm_image im;
    const mm_media_src src = { .path = path };
    const mm_image_opts opts = { .alpha = alpha };
    mm_media_info info;
    if (mm_image_read(&im, &src, &opts, &info, &err)) return failed();
    fprintf(stderr, "%d %d %s%s\n", im.width, im.height, info.note, info.truncated ? " (damaged)" : "");
    fwrite(im.px, 3, (size_t)im.width * (size_t)im.height, stdout);
    mm_image_clear(&im);
    return 0;
}

static int resized(const char *w, const char *h, const char *filter, const char *path)
{
    mm_image in, out;
    const mm_media_src src = { .path = path };
    if (mm_image_read(&in, &src, NULL, NULL, &err)) return failed();
    int r = mm_image_resize(&out, &in, (int)strtol(w, NULL, 10), (int)strtol(h, NULL, 10), (mm_resize_filter)strtol(filter, NULL, 10), &err);
    if (r) failed();
    else fwrite(out.px, 3, (size_t)out.width * (size_t)out.height, stdout);
    mm_image_clear(&in);
    mm_image_clear(&out);
    return r != 0;
}

static int info(const char *path)
{
    mm_media_info i;
    const mm_media_src src = { .path = path };
    if (mm_media_probe(&src, &i, &err)) return failed();
    printf("%s %dx%d%s%s%s frames %lld, %.3f s, %d Hz x %d %s\n", i.format, i.width, i.height, i.has & MM_MEDIA_IMAGE ? " image" : "",
           i.has & MM_MEDIA_AUDIO ? " audio" : "", i.has & MM_MEDIA_VIDEO ? " video" : "", (long long)i.frames, i.seconds, i.rate, i.channels, i.note);
    return 0;
}

static int video(int n, const char *path)
{
    mm_image *f = calloc((size_t)n, sizeof *f);
    double *t = calloc((size_t)n, sizeof *t);
    const mm_video_spec spec = { .how = MM_FRAMES_SPREAD, .frames = n };
    const mm_media_src src = { .path = path };
    mm_media_info i;
    if (!f || !t) return 1;
    int r = mm_video_read(f, t, &spec, &src, NULL, &i, &err);
    if (r) failed();
    else printf("%s %dx%d frames %lld, %.3f s%s %s\n", i.format, i.width, i.height, (long long)i.frames, i.seconds, i.truncated ? " truncated" : "", i.note);
    for (int k = 0; k < n; k++) {
        if (!r) {
            printf("%.4f %dx%d", t[k], f[k].width, f[k].height);
            for (int b = 0; b < 6; b++) {
                int x = f[k].width * (2 * (b % 3) + 1) / 6, y = f[k].height * (2 * (b / 3) + 1) / 4;
                const uint8_t *p = f[k].px + 3 * ((size_t)y * (size_t)f[k].width + (size_t)x);
                printf(" %d,%d,%d", p[0], p[1], p[2]);
            }
            putchar('\n');
        }
        mm_image_clear(&f[k]);
    }
    free(f);
    free(t);
    return r != 0;
}

static int batch(void)
{
    static uint8_t px[224 * 224 * 3];
    char name[4096];
    int bad = 0;
    while (fgets(name, sizeof name, stdin)) {
        name[strcspn(name, "\n")] = 0;
        if (clip(px, name)) {
            bad = 1;
            memset(px, 0, sizeof px);
        }
        fwrite(px, 1, sizeof px, stdout);
    }
    return bad;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    static uint8_t px[224 * 224 * 3];
    int r = 2;
    if (!strcmp(what, "info") && argc > 2)
        for (int i = 2; i < argc; i++) r = (i == 2 ? 0 : r) | info(argv[i]);
    else if (!strcmp(what, "rgb") && argc == 3) r = rgb(argv[2], MM_ALPHA_DROP);
    else if (!strcmp(what, "alpha") && argc == 4) r = rgb(argv[3], argv[2][0] == 'w' ? MM_ALPHA_WHITE : argv[2][0] == 'b' ? MM_ALPHA_BLACK : MM_ALPHA_DROP);
    else if (!strcmp(what, "resize") && argc == 6) r = resized(argv[2], argv[3], argv[4], argv[5]);
    else if (!strcmp(what, "video") && argc == 4) r = video((int)strtol(argv[2], NULL, 10), argv[3]);
    else if (!strcmp(what, "batch")) r = batch();
    else if (!strcmp(what, "clip") && argc == 3 && !(r = clip(px, argv[2]))) fwrite(px, 1, sizeof px, stdout);
    if (r == 2) fprintf(stderr, "usage: see the head of tests/tools/pixels.c\n");
    return r;
}

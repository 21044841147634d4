/* Pictures and videos: whatever the bytes, a probe, a picture within limits and two frames; or an error with a message. FFmpeg's decoders
 * have fuzzers of their own: what this looks for is ours. */
#include <stdlib.h>
#include <string.h>
#include "media/mm_media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void picture(const mm_image *im)
{
    static const mm_image_spec spec = { .fit = MM_FIT_CROP, .resize = 8, .height = 8, .width = 8, .filter = MM_RESIZE_BICUBIC, .std = { 1, 1, 1 } };
    mm_image_quality q;
    uint8_t px[8 * 8 * 3];
    mm_err err;
    if (!im->px || im->width < 1 || im->height < 1 || (int64_t)im->width * im->height > 1 << 20) abort();
    if (mm_image_fit(px, im, &spec, &err) && err.code != MM_ELONG) abort();
    mm_image_measure(&q, im);
    if (!(q.blur >= 0 && q.blur <= 1 && q.entropy >= 0 && q.entropy <= 8)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mm_video_spec spec = { .how = MM_FRAMES_SPREAD, .frames = 2 };
    const mm_media_src src = { .data = data, .len = size };
    const mm_video_opts opts = { .image = { .max_pixels = 1 << 20, .alpha = size & 1 ? MM_ALPHA_WHITE : MM_ALPHA_DROP }, .max_seconds = 600 };
    mm_media_info info;
    mm_image im, frames[2] = { { 0 } };
    double times[2];
    mm_err err = { 0 };
    if (mm_media_probe(&src, &info, &err) && !err.msg[0]) abort();
    if (!mm_image_read(&im, &src, &opts.image, &info, &err)) {
        picture(&im);
        if (info.width != im.width || info.height != im.height) abort();
    } else if (im.px || !err.code || !err.msg[0]) {
        abort();
    }
    mm_image_clear(&im);
    if (!mm_video_read(frames, times, &spec, &src, &opts, &info, &err)) {
        for (int i = 0; i < 2; i++) picture(&frames[i]);
        (void)mm_video_duplicates(frames, 2);
        if (!(times[0] >= 0 && times[1] >= times[0])) abort();
    } else if (!err.msg[0]) {
        abort();
    }
    for (int i = 0; i < 2; i++) mm_image_clear(&frames[i]);
    return 0;
}

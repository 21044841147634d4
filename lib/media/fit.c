/* What models want of a picture: resized, cropped, stretched or padded, then normalised. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "media/media_int.h"

int mm_image_resize(mm_image *out, const mm_image *in, int width, int height, mm_resize_filter filter, mm_err *err)
{
    const int64_t full[2] = { width, height }, at[2] = { 0, 0 };
    *out = (mm_image){ 0 };
    if (width < 1 || height < 1) return mm_fail(err, MM_EARG, "cannot resize to %d x %d", width, height);
    if (in->width < 1 || in->height < 1) return mm_fail(err, MM_EEMPTY, "the picture is empty");
    if ((int64_t)width * height > MM_MAX_PIXELS)
        return mm_fail(err, MM_ELONG, "cannot resize to %d x %d: the limit is %lld pixels", width, height, (long long)MM_MAX_PIXELS);
    size_t n = (size_t)width * (size_t)height;
    uint8_t *px = mm_realloc(NULL, n, 3);
    if (!px) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = media_resize_part(px, (size_t)width * 3, in, full, at, width, height, filter, err);
    if (r) free(px);
    else *out = (mm_image){ px, width, height };
    return r;
}

/* Where the `want` samples of the result begin in `have` of them; negative where the picture is smaller. */
static int64_t crop_at(int64_t have, int want, int torchvision)
{
    int64_t d = have - want;
    if (!torchvision) return d >= 0 ? d / 2 : -((1 - d) / 2); /* down */
    if (d < 0) return -(-d / 2);
    int64_t half = d / 2;
    return d % 2 ? half + half % 2 : half; /* half to even */
}

static int crop(uint8_t *px, const mm_image *in, const mm_image_spec *s, mm_err *err)
{
    int64_t w = in->width, h = in->height, full[2], from[2], at[2];
    const int want[2] = { s->width, s->height };
    int n[2], skip[2];
    /* as the published processors: the product in integers, the quotient in double, cut */
    full[0] = w <= h ? s->resize : (int64_t)((double)(s->resize * w) / (double)h);
    full[1] = h <= w ? s->resize : (int64_t)((double)(s->resize * h) / (double)w);
    for (int i = 0; i < 2; i++) {
        from[i] = crop_at(full[i], want[i], s->round_crop);
        at[i] = from[i] > 0 ? from[i] : 0;
        skip[i] = from[i] < 0 ? (int)-from[i] : 0;
        n[i] = (int)(full[i] - at[i] < want[i] - skip[i] ? full[i] - at[i] : want[i] - skip[i]);
    }
    if (n[0] < want[0] || n[1] < want[1]) memset(px, 0, (size_t)want[0] * (size_t)want[1] * 3);
    size_t stride = (size_t)want[0] * 3;
    return media_resize_part(px + (size_t)skip[1] * stride + (size_t)skip[0] * 3, stride, in, full, at, n[0], n[1], s->filter, err);
}

/* Pillow's ImageOps.pad: the side that does not fit is rounded half to even, so is the place in the middle. */
static int pad(uint8_t *px, const mm_image *in, const mm_image_spec *s, mm_err *err)
{
    const int64_t zero[2] = { 0, 0 };
    double ratio = (double)in->width / in->height, want = (double)s->width / s->height;
    int64_t full[2] = { s->width, s->height };
    if (ratio > want) full[1] = (int64_t)nearbyint((double)in->height / in->width * s->width);
    else if (ratio < want) full[0] = (int64_t)nearbyint((double)in->width / in->height * s->height);
    for (int i = 0; i < 2; i++)
        if (full[i] < 1) full[i] = 1;
    size_t n = (size_t)s->width * (size_t)s->height, stride = (size_t)s->width * 3;
    for (size_t i = 0; i < n; i++) memcpy(px + i * 3, s->fill, 3);
    size_t x = (size_t)nearbyint((double)(s->width - full[0]) * 0.5), y = (size_t)nearbyint((double)(s->height - full[1]) * 0.5);
    return media_resize_part(px + y * stride + x * 3, stride, in, full, zero, (int)full[0], (int)full[1], s->filter, err);
}

int mm_image_fit(uint8_t *px, const mm_image *in, const mm_image_spec *spec, mm_err *err)
{
    const int64_t full[2] = { spec->width, spec->height }, zero[2] = { 0, 0 };
    if (spec->width < 1 || spec->height < 1 || spec->width > 1 << 14 || spec->height > 1 << 14 ||
        (spec->fit == MM_FIT_CROP && (spec->resize < 1 || spec->resize > 1 << 14)))
        return mm_fail(err, MM_EARG, "cannot fit a picture to %d x %d by way of %d", spec->width, spec->height, spec->resize);
    if (in->width < 1 || in->height < 1) return mm_fail(err, MM_EEMPTY, "the picture is empty");
    switch (spec->fit) {
    case MM_FIT_CROP: return crop(px, in, spec, err);
    case MM_FIT_PAD: return pad(px, in, spec, err);
    case MM_FIT_STRETCH: break;
    }
    return media_resize_part(px, (size_t)spec->width * 3, in, full, zero, spec->width, spec->height, spec->filter, err);
}

void mm_image_normalize(float *out, const uint8_t *px, const mm_image_spec *spec)
{
    float value[3][256];
    size_t n = (size_t)spec->width * (size_t)spec->height;
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) value[c][v] = ((float)v * (float)(1.0 / 255) - spec->mean[c]) / spec->std[c];
    for (int c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++) out[(size_t)c * n + i] = value[c][px[i * 3 + (size_t)c]];
}

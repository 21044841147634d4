/* Pictures for decoders: scaled, cut into squares, and the whole as one more square. The sizes are those of the published processors (Idefics3,
 * SmolVLM), whose quotients are doubles cut to integers; every scaling rounds to 8 bits. */
#include <stdlib.h>
#include <string.h>
#include "media/media_int.h"

#define MAX_SIDE 4096 /* whatever `longest` says */

typedef struct size {
    int w, h;
} size;

static int even(int n) { return n + (n & 1); }
static int at_least_one(int n) { return n > 1 ? n : 1; }

static size to_longest(int w, int h, int longest)
{
    double ratio = (double)w / (double)h;
    size s = w >= h ? (size){ longest, at_least_one(even((int)(longest / ratio))) } : (size){ at_least_one(even((int)(longest * ratio))), longest };
    if (s.w <= MAX_SIDE && s.h <= MAX_SIDE) return s;
    ratio = (double)s.w / (double)s.h;
    return s.w >= s.h ? (size){ MAX_SIDE, at_least_one((int)(MAX_SIDE / ratio)) } : (size){ at_least_one((int)(MAX_SIDE * ratio)), MAX_SIDE };
}

static int up(int n, int side) { return (n + side - 1) / side * side; }

static size to_squares(size in, int side)
{
    const double ratio = (double)in.w / (double)in.h;
    if (in.w >= in.h) return (size){ up(in.w, side), up((int)(up(in.w, side) / ratio), side) };
    return (size){ up((int)(up(in.h, side) * ratio), side), up(in.h, side) };
}

/* In place; what has the size already is left alone. */
static int resize(mm_image *im, size to, mm_resize_filter filter, mm_err *err)
{
    mm_image out;
    if (im->width == to.w && im->height == to.h) return 0;
    int r = mm_image_resize(&out, im, to.w, to.h, filter, err);
    if (r) return r;
    mm_image_clear(im);
    *im = out;
    return 0;
}

static void cut(float *x, const mm_image *im, int left, int top, const mm_image_spec *s, uint8_t *px)
{
    const size_t row = (size_t)s->width * 3;
    for (int y = 0; y < s->height; y++)
        memcpy(px + (size_t)y * row, im->px + ((size_t)(top + y) * (size_t)im->width + (size_t)left) * 3, row);
    mm_image_normalize(x, px, s);
}

int media_tiles(float *x, const mm_image *in, const mm_input_spec *spec, mm_input_facts *f, mm_err *err)
{
    const mm_image_spec *s = &spec->image;
    const int side = s->height;
    const size_t plane = (size_t)side * (size_t)side;
    mm_image im = { 0 };
    uint8_t *px = mm_realloc(NULL, plane, 3);
    size to = to_longest(in->width, in->height, spec->tiles.longest);
    int r = px ? mm_image_resize(&im, in, to.w, to.h, s->filter, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    f->rows = f->cols = 0;
    if (!r && spec->tiles.split) {
        to = to_squares(to, side);
        r = resize(&im, to, s->filter, err);
        if (to.w > side || to.h > side) f->rows = to.h / side, f->cols = to.w / side;
        if (f->rows * f->cols + 1 > spec->views) r = mm_fail(err, MM_EARG, "%d x %d squares are more than %d views", f->rows, f->cols, spec->views);
    }
    for (int i = 0; i < f->rows * f->cols && !r; i++, x += 3 * plane) cut(x, &im, i % f->cols * side, i / f->cols * side, s, px);
    if (!r) r = resize(&im, (size){ side, side }, s->filter, err);
    if (!r) cut(x, &im, 0, 0, s, px);
    mm_image_clear(&im);
    free(px);
    return r;
}

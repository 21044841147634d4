/* YUV to RGB for still pictures: chroma lies in the middle of its pixels, as in JPEG, and is interpolated by a triangle (3/4 and 1/4), which
 * is what readers of AVIF and HEIC do; swscale's filters, made for video, give other colours at every edge. */
#include <stdlib.h>
#include <string.h>
#include <libavutil/frame.h>
#include <libavutil/pixdesc.h>
#include "media/media_int.h"

/* weights of red and blue in luma */
static void weights(const AVFrame *f, float *red, float *blue)
{
    switch (f->colorspace) {
    case AVCOL_SPC_BT709: *red = 0.2126f, *blue = 0.0722f; break;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL: *red = 0.2627f, *blue = 0.0593f; break;
    case AVCOL_SPC_SMPTE240M: *red = 0.212f, *blue = 0.087f; break;
    case AVCOL_SPC_FCC: *red = 0.30f, *blue = 0.11f; break;
    default: *red = 0.299f, *blue = 0.114f;
    }
}

static void load(int *out, const AVFrame *f, int plane, int y, int n, int wide)
{
    const uint8_t *p = f->data[plane] + (ptrdiff_t)y * f->linesize[plane];
    for (int x = 0; x < n; x++) {
        uint16_t v;
        if (wide) memcpy(&v, p + 2 * x, 2);
        else v = p[x];
        out[x] = v;
    }
}

/* row y of a chroma plane at full width, times 16 */
static void chroma(int *out, int *rows[2], const AVFrame *f, const AVPixFmtDescriptor *d, int plane, int y, int wide)
{
    int sw = d->log2_chroma_w, sh = d->log2_chroma_h, w = (f->width + sw) >> sw, h = (f->height + sh) >> sh, row = y >> sh;
    int other = !sh ? row : y & 1 ? row + 1 : row - 1;
    load(rows[0], f, plane, row, w, wide);
    load(rows[1], f, plane, other < 0 ? 0 : other >= h ? h - 1 : other, w, wide);
    for (int x = 0; x < w; x++) rows[0][x] = 3 * rows[0][x] + rows[1][x];
    for (int x = 0; x < f->width; x++) {
        int at = x >> sw, next = !sw ? at : x & 1 ? at + 1 : at - 1;
        out[x] = 3 * rows[0][at] + rows[0][next < 0 ? 0 : next >= w ? w - 1 : next];
    }
}

static uint8_t clamp(float v) { return v <= 0 ? 0 : v >= 1 ? 255 : (uint8_t)(v * 255 + 0.5f); }

int media_yuv(const media_job *j, media_raw *raw, const AVFrame *f, int full)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    int depth = d->comp[0].depth, wide = depth > 8, colour = d->nb_components >= 3, width = raw->width;
    for (int i = 0; i < (colour ? 3 : 1); i++) /* planes of whole bytes in the machine's order, at most halved: what decoders give */
        if (d->comp[i].plane != i || d->comp[i].step != 1 + wide || d->comp[i].shift || d->comp[i].depth != depth || depth < 8 || d->log2_chroma_w > 1 ||
            d->log2_chroma_h > 1 || (wide && d->flags & AV_PIX_FMT_FLAG_BE))
            return 0;
    int *line = mm_realloc(NULL, (size_t)width * 5, sizeof *line);
    if (!line) return mm_fail(j->err, MM_ENOMEM, "out of memory");
    int *u = line + width, *v = u + width, *rows[2] = { v + width, v + 2 * width };
    float red, blue, unit = (float)(1 << (depth - 8)), max = (float)((1 << depth) - 1), mid = (float)(1 << (depth - 1));
    float y0 = full ? 0 : 16 * unit, y_scale = 1 / (full ? max : 219 * unit), c_scale = 1 / (full ? max : 224 * unit);
    weights(f, &red, &blue);
    float green = 1 - red - blue;
    for (int y = 0; y < raw->height; y++) {
        uint8_t *out = raw->px + (size_t)y * (size_t)width * (size_t)raw->channels;
        load(line, f, 0, y, width, wide);
        if (colour) {
            chroma(u, rows, f, d, 1, y, wide);
            chroma(v, rows, f, d, 2, y, wide);
        }
        for (int x = 0; x < width; x++, out += raw->channels) {
            float l = ((float)line[x] - y0) * y_scale, cb = 0, cr = 0;
            if (colour) {
                cb = ((float)u[x] / 16 - mid) * c_scale * 2 * (1 - blue);
                cr = ((float)v[x] / 16 - mid) * c_scale * 2 * (1 - red);
            }
            out[0] = clamp(l + cr);
            out[1] = clamp(l - (red * cr + blue * cb) / green);
            out[2] = clamp(l + cb);
            if (raw->channels == 4) out[3] = 255;
        }
    }
    free(line);
    return 1;
}

/* Variations of pictures, clips and log-mel spectra. Everything is drawn from the rng that comes in; pixels are four
 * floats each, so that the compiler keeps one in a register. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_dtype.h"
#include "train/mm_batch.h"

typedef float pixel __attribute__((vector_size(16)));

/* one after the other: two instructions without a jump */
static inline float clamp(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* ---- pictures ---- */

typedef struct look {    /* one variation */
    float a[2][2], t[2]; /* place in the picture, both from -1 to 1: a (x, y) + t */
    float gray;          /* 1: keeps no colour; saturation otherwise */
    float saturation, contrast, brightness;
    pixel channel;
    int change_colours;
} look;

static void draw_look(look *l, const mm_augment *g, mm_rng *r)
{
    const float k = g->strength;
    const float scale = sqrtf(mm_rng_range(r, 1 - 0.5f * k, 1 + 0.15f * k)),
                ratio = expf(0.5f * mm_rng_range(r, -0.25f * k, 0.25f * k));
    const float turn = mm_rng_range(r, -0.2f * k, 0.2f * k), c = cosf(turn), s = sinf(turn);
    const float flip = mm_rng_unit(r) < g->flip ? -1.0f : 1.0f, sx = scale * ratio, sy = scale / ratio;
    const float room[2] = { fmaxf(0, 1 - sx), fmaxf(0, 1 - sy) };
    *l = (look){ .a = { { sx * c * flip, -sy * s }, { sx * s * flip, sy * c } }, .change_colours = k > 0 };
    for (int i = 0; i < 2; i++) l->t[i] = mm_rng_range(r, -1, 1) * room[i] + mm_rng_range(r, -0.16f, 0.16f) * k;
    l->gray = mm_rng_unit(r) < 0.07f * k;
    l->saturation = l->gray > 0 ? 0 : mm_rng_range(r, 1 - 0.4f * k, 1 + 0.4f * k);
    l->contrast = mm_rng_range(r, 1 - 0.3f * k, 1 + 0.3f * k);
    l->brightness = mm_rng_range(r, 1 - 0.25f * k, 1 + 0.2f * k);
    for (int i = 0; i < 3; i++) l->channel[i] = mm_rng_range(r, 1 - 0.08f * k, 1 + 0.08f * k);
}

/* [e, 1 - 2e, e] along one direction: what bilinear interpolation lacks when it makes a picture smaller by `shrink`.
 * A triangle as wide as the reduction has variance shrink^2 / 6, interpolation 1 / 6, one such pass 2e. */
static void blur(pixel *p, int size, int step, int line, float shrink)
{
    if (shrink <= 1.02f) return;
    const float want = (shrink * shrink - 1) / 12;
    const int passes = (int)ceilf(want / 0.25f);
    const float e = want / (float)passes, m = 1 - 2 * e;
    for (int k = 0; k < passes; k++)
        for (int i = 0; i < size; i++) {
            pixel *q = p + (size_t)i * (size_t)line, before = q[0], here = q[0];
            for (int j = 0; j < size; j++) {
                const pixel after = j + 1 < size ? q[(size_t)(j + 1) * (size_t)step] : here;
                q[(size_t)j * (size_t)step] = m * here + e * (before + after);
                before = here;
                here = after;
            }
        }
}

/* to [px * px] from [size * size], edges repeated */
static void sample(pixel *to, int px, const pixel *from, int size, const look *l)
{
    const float half = 0.5f * (float)size, step = 2.0f / (float)px, top = (float)(size - 1);
    for (int y = 0; y < px; y++) {
        const float v = ((float)y + 0.5f) * step - 1, ax = l->a[0][0] * half * step, ay = l->a[1][0] * half * step;
        const float bx = (l->a[0][1] * v + l->t[0] + 1 + l->a[0][0] * (0.5f * step - 1)) * half - 0.5f;
        const float by = (l->a[1][1] * v + l->t[1] + 1 + l->a[1][0] * (0.5f * step - 1)) * half - 0.5f;
        for (int x = 0; x < px; x++) {
            const float fx = clamp(bx + ax * (float)x, 0, top), fy = clamp(by + ay * (float)x, 0, top);
            const int x0 = (int)fx, y0 = (int)fy, right = x0 < size - 1, down = y0 < size - 1 ? size : 0;
            const float wx = fx - (float)x0, wy = fy - (float)y0;
            const pixel *p = from + (size_t)y0 * (size_t)size + (size_t)x0, *q = p + down;
            const pixel a = p[0] + wx * (p[right] - p[0]), b = q[0] + wx * (q[right] - q[0]);
            *to++ = a + wy * (b - a);
        }
    }
}

static void colours(pixel *p, size_t n, const look *l)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float g = (p[i][0] + p[i][1] + p[i][2]) * (1.0f / 3);
        p[i] = g + (p[i] - g) * l->saturation;
        sum += g;
    }
    const float mean = sum / (float)n;
    const pixel scale = l->contrast * l->channel, shift = mean * (l->brightness - l->contrast) * l->channel;
    for (size_t i = 0; i < n; i++) p[i] = p[i] * scale + shift;
}

/* out [3, n] = (p - 0.5) / 0.25, p 0 to 1 */
static void planes(float *out, const pixel *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const pixel v = (p[i] - 0.5f) * 4;
        for (size_t c = 0; c < 3; c++) out[c * n + i] = clamp(v[c], -2, 2);
    }
}

static void spread(pixel *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (pixel){ (float)from[3 * i], (float)from[3 * i + 1], (float)from[3 * i + 2], 0 } * (1.0f / 255);
}

static int plain(float *out, int px, const uint8_t *in, int size, mm_err *err)
{
    const mm_image_spec s = {
        .height = px, .width = px, .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.25f, 0.25f, 0.25f }
    };
    union {
        const uint8_t *in;
        uint8_t *px;
    } u = { in }; /* not written to */
    mm_image small = { 0 };
    const mm_image whole = { u.px, size, size };
    if (px == size) {
        mm_image_normalize(out, in, &s);
        return 0;
    }
    int r = mm_image_resize(&small, &whole, px, px, MM_RESIZE_BICUBIC, err);
    if (!r) mm_image_normalize(out, small.px, &s);
    mm_image_clear(&small);
    return r;
}

int mm_augment_video(float *out, int px, const uint8_t *in, int size, int frames, const mm_augment *a, mm_rng rng,
                     mm_err *err)
{
    const size_t n = (size_t)px * (size_t)px, all = (size_t)size * (size_t)size;
    look l;
    if (px < 1 || size < 1 || px > 1 << 14 || size > 1 << 14)
        return mm_fail(err, MM_EARG, "cannot make pictures of %d pixels from %d", px, size);
    if (a->strength <= 0 && a->flip <= 0) {
        int r = 0;
        for (int f = 0; f < frames && !r; f++)
            r = plain(out + (size_t)f * 3 * n, px, in + (size_t)f * 3 * all, size, err);
        return r;
    }
    pixel *from = mm_aligned(all + n, sizeof *from), *to = from ? from + all : NULL;
    if (!from) return mm_fail(err, MM_ENOMEM, "out of memory");
    draw_look(&l, a, &rng);
    for (int f = 0; f < frames; f++) {
        const float shrink = (float)size / (float)px;
        spread(from, in + (size_t)f * 3 * all, all);
        blur(from, size, 1, size, shrink * hypotf(l.a[0][0], l.a[1][0]));
        blur(from, size, size, 1, shrink * hypotf(l.a[0][1], l.a[1][1]));
        sample(to, px, from, size, &l);
        if (l.change_colours) colours(to, n, &l);
        planes(out + (size_t)f * 3 * n, to, n);
    }
    free(from);
    return 0;
}

int mm_augment_image(float *out, int px, const uint8_t *in, int size, const mm_augment *a, mm_rng rng, mm_err *err)
{
    return mm_augment_video(out, px, in, size, 1, a, rng, err);
}

/* ---- sound ---- */

#define PAD_BEFORE 16
#define PAD_AFTER 10

static size_t stretched(size_t n, float tempo)
{
    const size_t m = (size_t)((float)n / tempo);
    return m ? m : 1;
}

static float fastest(float k) { return 1 - 0.15f * k; }

size_t mm_augment_mel_room(size_t n, size_t max_frames, const mm_augment *a)
{
    size_t m = a->strength > 0 ? stretched(n, fastest(a->strength)) + PAD_BEFORE + PAD_AFTER : n;
    const size_t most = max_frames ? max_frames + (a->strength > 0 ? PAD_BEFORE + PAD_AFTER : 0) : m;
    return m < most ? m : most;
}

static void widen(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = mm_f16_to_f32(from[i]);
}

/* A row between two: pitch moves along the bins, w is the share of the second row. */
static void row_between(float *to, const uint16_t *a, const uint16_t *b, float w, const int *bin, const float *share,
                        int bins, float *tmp)
{
    for (int i = 0; i < bins; i++) {
        const float x = mm_f16_to_f32(a[i]);
        tmp[i] = x + w * (mm_f16_to_f32(b[i]) - x);
    }
    tmp[bins] = tmp[bins - 1];
    for (int i = 0; i < bins; i++) to[i] = tmp[bin[i]] + share[i] * (tmp[bin[i] + 1] - tmp[bin[i]]);
}

/* About normal: four uniform numbers of 16 bits added up, exact in sum, cheap. */
static float rough_normal(uint64_t u)
{
    const float s = (float)((u & 0xFFFF) + (u >> 16 & 0xFFFF) + (u >> 32 & 0xFFFF) + (u >> 48));
    return (s - 131070.0f) * (1.7320508f / 65536);
}

/* Quiet frames: what every bin has at its quietest. */
static void quiet_rows(float *rows, size_t n, const float *quiet, int bins)
{
    for (size_t t = 0; t < n; t++) memcpy(rows + t * (size_t)bins, quiet, (size_t)bins * sizeof *rows);
}

static void mask(float *x, size_t n, int bins, float k, mm_rng *r)
{
    for (int i = 0; i < 2; i++) {
        const uint32_t most_bins = (uint32_t)(8 * k * (float)bins / 64), most_rows = (uint32_t)(k * (float)n / 8);
        const uint32_t wide = mm_rng_below(r, most_bins + 1), at = mm_rng_below(r, (uint32_t)bins - wide + 1);
        const uint32_t lasts = mm_rng_below(r, most_rows + 1), from = mm_rng_below(r, (uint32_t)n - lasts + 1);
        for (size_t t = 0; t < n; t++)
            for (uint32_t b = at; b < at + wide; b++) x[t * (size_t)bins + b] = 0;
        memset(x + (size_t)from * (size_t)bins, 0, (size_t)lasts * (size_t)bins * sizeof *x);
    }
}

/* Louder or softer, tilted, a floor of noise, noise. One unit is 4 in natural logarithm of power, about 17 dB. */
static void levels(float *x, size_t n, int bins, float k, mm_rng *r)
{
    const float gain = k * 0.7f * mm_rng_normal(r), tilt = k * 0.2f * mm_rng_normal(r),
                noise = mm_rng_range(r, 0, 0.15f * k);
    const int hiss = mm_rng_unit(r) < 0.5f * k;
    const float loudness = mm_rng_range(r, -4.6f, -2.6f); /* 80 to 45 dB below the loudest place */
    float add[1024], top = x[0];
    for (size_t i = 0; i < n * (size_t)bins; i++) top = x[i] > top ? x[i] : top;
    const float floor_at = hiss ? top + loudness : -1e30f;
    for (int b = 0; b < bins; b++) add[b] = gain + tilt * (2 * (float)b / (float)(bins > 1 ? bins - 1 : 1) - 1);
    for (size_t t = 0; t < n; t++)
        for (int b = 0; b < bins; b++) {
            float *v = &x[t * (size_t)bins + (size_t)b];
            *v = (*v > floor_at ? *v : floor_at) + add[b] + noise * rough_normal(mm_rng_next(r));
        }
}

size_t mm_augment_mel(float *out, const uint16_t *in, size_t n, int bins, size_t max_frames, const mm_augment *a,
                      mm_rng rng)
{
    const float k = a->strength;
    if (bins < 1 || bins > 1023) return 0;
    if (k <= 0) {
        if (max_frames && n > max_frames) n = max_frames;
        widen(out, in, n * (size_t)bins);
        return n;
    }
    const float tempo = mm_rng_range(&rng, fastest(k), 1 + 0.2f * k),
                pitch = mm_rng_range(&rng, 1 - 0.1f * k, 1 + 0.12f * k);
    const float moved = mm_rng_range(&rng, -2 * k, 2 * k) * (float)bins / 64;
    size_t m = stretched(n, tempo), from = 0;
    const size_t before = mm_rng_below(&rng, PAD_BEFORE), after = mm_rng_below(&rng, PAD_AFTER);
    const uint32_t where = (uint32_t)(mm_rng_next(&rng) >> 32);
    if (max_frames && m > max_frames) {
        from = (size_t)((uint64_t)where * (m - max_frames + 1) >> 32);
        m = max_frames;
    }
    int bin[1024];
    float share[1024], tmp[1024], quiet[1024];
    for (int b = 0; b < bins; b++) {
        const float f = clamp((float)b * pitch + moved, 0, (float)(bins - 1));
        bin[b] = (int)f;
        share[b] = f - (float)bin[b];
        quiet[b] = INFINITY;
    }
    float *rows = out + before * (size_t)bins;
    for (size_t t = 0; t < m; t++) {
        float place = ((float)(from + t) + 0.5f) * tempo - 0.5f;
        place = clamp(place, 0, (float)(n - 1));
        const size_t t0 = (size_t)place, t1 = t0 + 1 < n ? t0 + 1 : t0;
        float *row = rows + t * (size_t)bins;
        row_between(row, in + t0 * (size_t)bins, in + t1 * (size_t)bins, place - (float)t0, bin, share, bins, tmp);
        for (int b = 0; b < bins; b++) quiet[b] = row[b] < quiet[b] ? row[b] : quiet[b];
    }
    quiet_rows(out, before, quiet, bins);
    quiet_rows(rows + m * (size_t)bins, after, quiet, bins);
    m += before + after;
    levels(out, m, bins, k, &rng);
    mask(out, m, bins, k, &rng);
    return m;
}

/* Figures about a picture that tell whether it is worth looking at. */
#include <math.h>
#include <stdlib.h>
#include "media/mm_media.h"

/* BT.601 luma in integers, 0..255 */
static int luma(const uint8_t *p) { return (299 * p[0] + 587 * p[1] + 114 * p[2] + 500) / 1000; }

/* Crete, Dolmiere, Ladret, Nicolas 2007: blur the picture along one direction by a mean of 9; neighbours in a sharp picture lose much
 * of their difference, those in a blurred one little. Sums over lines of n samples; sample i of line l is y[l * line + i * step]. */
static double blur(const uint8_t *y, int lines, int n, size_t line, size_t step)
{
    double all = 0, kept = 0;
    for (int l = 0; l < lines; l++) {
        const uint8_t *p = y + (size_t)l * line;
        int sum = 0, before = 0;
        for (int i = -4; i <= 4; i++) sum += p[(size_t)(i < 0 ? 0 : i < n ? i : n - 1) * step];
        for (int i = 0; i < n; i++) {
            if (i > 0) {
                int a = i + 4 < n ? i + 4 : n - 1, b = i - 5 > 0 ? i - 5 : 0;
                sum += p[(size_t)a * step] - p[(size_t)b * step];
                int d = abs(p[(size_t)i * step] - p[(size_t)(i - 1) * step]);
                double lost = d - abs(sum - before) / 9.0;
                all += d;
                if (lost > 0) kept += lost;
            }
            before = sum;
        }
    }
    return all > 0 ? (all - kept) / all : -1;
}

void mm_image_measure(mm_image_quality *q, const mm_image *im)
{
    *q = (mm_image_quality){ 0 };
    size_t n = (size_t)im->width * (size_t)im->height, histogram[256] = { 0 };
    uint8_t *y = n ? malloc(n) : NULL;
    double sum = 0, bits = 0;
    if (!n) return;
    for (size_t i = 0; i < n; i++) {
        int v = luma(im->px + i * 3);
        histogram[v]++;
        if (y) y[i] = (uint8_t)v;
    }
    for (int v = 0; v < 256; v++) {
        double p = (double)histogram[v] / (double)n;
        sum += v * p;
        if (p > 0) bits -= p * log2(p);
        if (v <= 5) q->dark += (float)p;
        if (v >= 250) q->bright += (float)p;
    }
    q->exposure = (float)(sum / 255);
    q->entropy = (float)bits;
    if (!y) return;
    double across = blur(y, im->height, im->width, (size_t)im->width, 1), down = blur(y, im->width, im->height, 1, (size_t)im->width);
    /* one colour all over has no edge that could be sharp */
    q->blur = across < 0 && down < 0 ? 1.0f : (float)(across > down ? across : down);
    free(y);
}

float mm_image_noise(const mm_image *im)
{
    enum { MOST = 8 * 255 };
    const size_t w = im->width > 0 ? (size_t)im->width : 0, h = im->height > 0 ? (size_t)im->height : 0;
    size_t seen[MOST + 1] = { 0 }, n = 0, below = 0;
    uint8_t *y = w > 2 && h > 2 ? malloc(w * h) : NULL;
    if (!y) return 0;
    for (size_t i = 0; i < w * h; i++) y[i] = (uint8_t)luma(im->px + i * 3);
    for (size_t r = 1; r + 1 < h; r++)
        for (size_t c = 1; c + 1 < w; c++, n++) {
            const uint8_t *p = y + r * w + c;
            int around = p[-1] + p[1] + *(p - w) + p[w], corners = *(p - w - 1) + *(p - w + 1) + p[w - 1] + p[w + 1];
            seen[abs(4 * p[0] - 2 * around + corners)]++;
        }
    free(y);
    int median = 0;
    while (median < MOST && (below += seen[median]) * 2 <= n) median++;
    /* the mask's response to white noise is 6 times as wide, and half of a normal distribution lies within 0.6745 of it */
    return (float)median / (6 * 0.6745f);
}

float mm_video_duplicates(const mm_image *frames, size_t n)
{
    size_t same = 0;
    for (size_t f = 1; f < n; f++) {
        const mm_image *a = &frames[f - 1], *b = &frames[f];
        size_t px = (size_t)a->width * (size_t)a->height;
        uint64_t sum = 0;
        if (a->width != b->width || a->height != b->height || !px) continue;
        for (size_t i = 0; i < px; i++) sum += (uint64_t)abs(luma(a->px + i * 3) - luma(b->px + i * 3));
        same += sum < px;
    }
    return n > 1 ? (float)same / (float)(n - 1) : 0.0f;
}

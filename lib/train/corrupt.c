/* Inputs made worse. */
#include <math.h>
#include <string.h>
#include "train/mm_corrupt.h"

#define FLOOR (-2.98f) /* Kaldi's floor of power, 1.19e-7, as the model takes it */

/* ---- pictures ---- */

/* Mean over `wide` places of a line of n, edges repeated. */
static void blur_line(float *x, size_t n, size_t step, size_t wide, float *tmp)
{
    const size_t before = wide / 2;
    double sum = 0;
    for (size_t i = 0; i < n; i++) tmp[i] = x[i * step];
    for (size_t k = 0; k < wide; k++) sum += tmp[k < before ? 0 : k - before < n ? k - before : n - 1];
    for (size_t i = 0; i < n; i++) {
        const size_t in = i + wide - before, out = i < before ? 0 : i - before;
        x[i * step] = (float)(sum / (double)wide);
        sum += (double)tmp[in < n ? in : n - 1] - tmp[out];
    }
}

static void blur(float *plane, size_t height, size_t width, float level, float *tmp)
{
    const size_t side = height > width ? height : width, wide = 2 + (size_t)(level * (float)side / 2);
    for (size_t r = 0; r < height; r++) blur_line(plane + r * width, width, 1, wide, tmp);
    for (size_t c = 0; c < width; c++) blur_line(plane + c, height, width, wide, tmp);
}

void mm_corrupt_pixels(float *out, const float *x, size_t frames, size_t height, size_t width, mm_corrupt_picture how, float level, float *tmp, mm_rng rng)
{
    const size_t plane = height * width, all = frames * 3 * plane;
    if (out != x) memcpy(out, x, all * sizeof *out);
    if (how == MM_CORRUPT_BLUR)
        for (size_t p = 0; p < 3 * frames; p++) blur(out + p * plane, height, width, level, tmp);
    else
        for (size_t i = 0; i < all; i++) out[i] += level * ((how == MM_CORRUPT_NOISE ? mm_rng_range(&rng, -2, 2) : -2) - out[i]);
}

/* ---- sounds ---- */

/* Power of white noise in a bin of a frame is about exponential; mel bands grow wider upwards, and so does their share: a few dB that make no
 * difference to what is learned. */
void mm_corrupt_mel(float *out, const float *x, size_t n, size_t bins, mm_corrupt_sound how, float level, mm_rng rng)
{
    float top = FLOOR;
    for (size_t i = 0; i < n * bins; i++) top = x[i] > top ? x[i] : top;
    const float noise = 4 * top - 4 + (40 * level - 25) * 0.2302585f, lower = 60 * level * 0.2302585f / 4;
    for (size_t i = 0; i < n * bins; i++) {
        const float u = mm_rng_unit(&rng);
        if (how == MM_CORRUPT_HISS) out[i] = (logf(expf(4 * x[i] - 4) + expf(noise) * -logf(1 - u)) + 4) / 4;
        else out[i] = level < 1 && x[i] - lower > FLOOR ? x[i] - lower : FLOOR;
    }
}

/* ---- texts ---- */

typedef struct {
    const char *p;
    size_t len;
} word;

static size_t words_of(const char *p, size_t len, word *w)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        size_t from = i;
        while (i < len && p[i] != ' ') i++;
        if (i > from) w[n++] = (word){ p + from, i - from };
        i += i < len;
    }
    return n;
}

const char *mm_corrupt_words(const char *p, size_t len, float level, const char *(*other)(void *arg, mm_rng *rng, size_t *len), void *arg, mm_arena *arena,
                             mm_rng rng)
{
    word *w = mm_arena_alloc(arena, len / 2 + 1, sizeof *w);
    if (!w) return NULL;
    const size_t n = words_of(p, len, w);
    size_t room = n + 1, at = 0;
    for (size_t i = n; i-- > 1;) { /* Fisher and Yates */
        const size_t k = mm_rng_below(&rng, (uint32_t)i + 1);
        const word x = w[i];
        w[i] = w[k];
        w[k] = x;
    }
    for (size_t i = 0; i < n; i++) {
        if (mm_rng_unit(&rng) < level) {
            size_t much, k;
            const char *text = other(arg, &rng, &much);
            word *v = mm_arena_alloc(arena, much / 2 + 1, sizeof *v);
            if (!v) return NULL;
            k = words_of(text, much, v);
            if (k) w[i] = v[mm_rng_below(&rng, (uint32_t)k)];
        }
        room += w[i].len;
    }
    char *out = mm_arena_alloc(arena, room, 1);
    for (size_t i = 0; out && i < n; i++) {
        if (i) out[at++] = ' ';
        memcpy(out + at, w[i].p, w[i].len);
        at += w[i].len;
    }
    if (out) out[at] = 0;
    return out;
}

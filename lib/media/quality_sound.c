/* What can be said of a sound without a model. Everything is finite, on silence and on nothing at all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "media/mm_media.h"

#define FULL 0.999f
#define GATE 1e-5      /* -50 dBFS, as power */
#define SILENT 1e-6    /* -60 dBFS */
#define VOICED 5       /* frames that make a voice */
#define VOICE_RATE 8000 /* the search for a pitch needs no more */

static float decibel(double power) { return power > 1e-12 ? (float)(10 * log10(power)) : -120; }

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* sum of a[i] b[i]; four sums at a time, since one would wait for itself */
static float product(const float *a, const float *b, int n)
{
    float s[4] = { 0 };
    int i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) s[k] += a[i + k] * b[i + k];
    for (; i < n; i++) s[0] += a[i] * b[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* Whether the frame repeats itself at a lag of 70..400 Hz. What overlaps is compared, each side by its own energy. */
static int voiced(const float *x, int n, int rate)
{
    const int from = rate / 400, to = rate / 70 < n * 2 / 3 ? rate / 70 : n * 2 / 3;
    float front = product(x, x, n), back = front;
    for (int lag = 1; lag <= to; lag++) {
        front -= x[n - lag] * x[n - lag];
        back -= x[lag - 1] * x[lag - 1];
        if (lag < from) continue;
        const float p = product(x, x + lag, n - lag);
        if (p > 0 && p * p > 0.25f * fmaxf(front, 0) * fmaxf(back, 0) && p > 1e-7f) return 1;
    }
    return 0;
}

static int speech(const float *x, size_t n, int rate)
{
    const int every = rate > VOICE_RATE ? rate / VOICE_RATE : 1, low = rate / every, len = low * 30 / 1000, hop = low / 100;
    int found = 0;
    if (len < 8 || hop < 1) return 0;
    float *f = malloc(sizeof *f * (size_t)len);
    if (!f) return 1; /* "no" must be certain */
    for (size_t at = 0; found < VOICED && at + (size_t)len * (size_t)every <= n; at += (size_t)hop * (size_t)every) {
        double mean = 0, power = 0;
        const float *p = x + at;
        for (int i = 0; i < len; i++) {
            double s = 0;
            for (int k = 0; k < every; k++) s += *p++;
            f[i] = (float)(s / every);
            mean += f[i];
        }
        mean /= len;
        for (int i = 0; i < len; i++) {
            f[i] -= (float)mean;
            power += (double)f[i] * f[i];
        }
        if (power / len > GATE) found += voiced(f, len, low);
    }
    free(f);
    return found >= VOICED;
}

void mm_sound_measure(mm_sound_quality *q, const float *x, size_t n, int rate)
{
    const size_t len = rate >= 50 ? (size_t)rate / 50 : 1, frames = (n + len - 1) / len;
    double sum = 0;
    float peak = 0;
    size_t clipped = 0, run = 0, silent = 0;
    *q = (mm_sound_quality){ .level = -120, .peak = -120 };
    if (!n) {
        q->silence = 1;
        return;
    }
    float *power = malloc(sizeof *power * frames);
    for (size_t f = 0; f < frames; f++) {
        const size_t end = (f + 1) * len < n ? (f + 1) * len : n;
        double s = 0;
        for (size_t i = f * len; i < end; i++) {
            const float a = fabsf(x[i]);
            s += (double)a * a;
            if (a > peak) peak = a;
            if (a >= FULL) {
                run++;
                clipped += run == 2 ? 2 : run > 2;
            } else {
                run = 0;
            }
        }
        sum += s;
        s /= (double)(end - f * len);
        silent += s < SILENT;
        if (power) power[f] = (float)fmin(s, 1e30);
    }
    q->level = decibel(sum / (double)n);
    q->peak = decibel((double)peak * peak);
    q->clipping = (float)((double)clipped / (double)n);
    q->silence = (float)((double)silent / (double)frames);
    if (power) {
        qsort(power, frames, sizeof *power, ascending);
        const float loud = decibel(power[(frames - 1) * 95 / 100]), quiet = decibel(power[(frames - 1) / 10]);
        q->snr = fminf(fmaxf(loud - quiet, 0), 100);
        free(power);
    }
    q->has_speech = speech(x, n, rate);
}

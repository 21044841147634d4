/* What can be said of a sound whose samples are gone, from its spectrum. */
#include <math.h>
#include <stdlib.h>
#include "media/mm_media.h"

#define BELOW_TOP 11.5f /* 50 dB, in natural logarithm of power */
#define NOTHING (-12.0f) /* of a bin's power, samples being within -1 .. 1: near Kaldi's floor of -15.9 */

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Logarithm of a frame's mean power, and how flat it is. */
static float frame(const float *x, size_t bins, float scale, float shift, float *flat)
{
    double power = 0, logs = 0;
    for (size_t b = 0; b < bins; b++) {
        const float l = scale * x[b] + shift;
        power += exp(l);
        logs += l;
    }
    const double mean = log(power / (double)bins);
    *flat = (float)exp(logs / (double)bins - mean);
    return (float)mean;
}

void mm_mel_measure(mm_mel_quality *q, const float *x, size_t n, size_t bins, float scale, float shift)
{
    float *level = n && bins ? malloc(2 * n * sizeof *level) : NULL, top = NOTHING, *flat = level ? level + n : NULL;
    double sum = 0;
    size_t loud = 0;
    *q = (mm_mel_quality){ .silence = 1 };
    if (!level) return;
    for (size_t i = 0; i < n; i++) {
        level[i] = frame(x + i * bins, bins, scale, shift, &flat[i]);
        if (level[i] > top) top = level[i];
    }
    for (size_t i = 0; i < n; i++)
        if (level[i] > NOTHING && level[i] > top - BELOW_TOP) sum += flat[i], loud++;
    qsort(level, n, sizeof *level, ascending);
    q->snr = (level[(n - 1) * 95 / 100] - level[(n - 1) / 10]) * 4.3429448f;
    q->silence = (float)(1 - (double)loud / (double)n);
    q->flatness = loud ? (float)(sum / (double)loud) : 0;
    free(level);
}

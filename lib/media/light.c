/* What needs no decoder, apart from what does: filters that only ask for a size, look at what the workers made or hold a picture of their own start
 * without loading any. */
#include <stdlib.h>
#include "media/mm_input.h"

void mm_image_clear(mm_image *im)
{
    free(im->px);
    *im = (mm_image){ 0 };
}

size_t mm_input_floats(const mm_input_spec *s)
{
    size_t n;
    if (mm_mul((size_t)s->views * (size_t)s->frames, (size_t)s->channels * (size_t)s->height, &n) || mm_mul(n, (size_t)s->width, &n)) return 0;
    return n > (size_t)1 << 31 ? 0 : n;
}

#define FLAT (6.0f / 255) /* what coding leaves of one shade */

const char *mm_input_nothing(const float *x, const mm_input_spec *s, const mm_input_facts *f)
{
    if (s->source == MM_MEDIA_AUDIO) return f->has_sound && f->sound.silence >= 1 ? "silence" : NULL;
    const size_t n = (size_t)s->height * (size_t)s->width, planes = (size_t)s->views * (size_t)s->frames * (size_t)s->channels;
    float low = 2, high = -1;
    for (size_t p = 0; p < planes && high - low <= FLAT; p++) {
        const float mean = s->image.mean[p % 3], std = s->image.std[p % 3];
        for (size_t i = 0; i < n; i++) {
            const float v = x[p * n + i] * std + mean;
            if (v < low) low = v;
            if (v > high) high = v;
        }
    }
    if (high - low > FLAT) return NULL;
    return high < 0.1f ? "black all over" : low > 0.9f ? "white all over" : "gray all over";
}

/* Apart from input.c, so that who only asks for a size does not load the decoders. */
#include "media/mm_input.h"

size_t mm_input_floats(const mm_input_spec *s)
{
    size_t n;
    if (mm_mul((size_t)s->views * (size_t)s->frames, (size_t)s->channels * (size_t)s->height, &n) || mm_mul(n, (size_t)s->width, &n)) return 0;
    return n > (size_t)1 << 31 ? 0 : n;
}

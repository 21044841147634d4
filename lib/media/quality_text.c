/* What can be said of a text without a model: whether it is UTF-8, how long it is for a reader, how much of it repeats itself. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "media/mm_media.h"

static int is_space(utf8proc_int32_t c)
{
    const utf8proc_category_t k = utf8proc_category(c);
    return (c >= 9 && c <= 13) || c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

/* Trigrams that were met, as hashes; 0 is an empty place. */
typedef struct met {
    uint64_t *v;
    size_t mask, n;
} met;

/* 1: it was there before. Without memory nothing was. */
static int meet(met *s, uint64_t h)
{
    h += !h;
    if (!s->v || s->n * 2 > s->mask) {
        const size_t size = s->v ? 2 * (s->mask + 1) : 256;
        uint64_t *v = calloc(size, sizeof *v);
        if (!v) {
            if (!s->v || s->n >= s->mask) return 0;
        } else {
            for (size_t i = 0; s->v && i <= s->mask; i++)
                if (s->v[i]) {
                    size_t k = s->v[i] & (size - 1);
                    while (v[k]) k = (k + 1) & (size - 1);
                    v[k] = s->v[i];
                }
            free(s->v);
            s->v = v;
            s->mask = size - 1;
        }
    }
    size_t k = h & s->mask;
    for (; s->v[k]; k = (k + 1) & s->mask)
        if (s->v[k] == h) return 1;
    s->v[k] = h;
    s->n++;
    return 0;
}

typedef struct count {
    size_t characters, trigrams, again;
    uint64_t last[2]; /* the two characters before */
    met met;
} count;

static void character(count *c, uint64_t h)
{
    if (++c->characters >= 3) {
        c->trigrams++;
        c->again += (size_t)meet(&c->met, mix(mix(mix(0, c->last[0]), c->last[1]), h));
    }
    c->last[0] = c->last[1];
    c->last[1] = h;
}

void mm_text_measure(mm_text_quality *q, const char *p, size_t len)
{
    count c = { 0 };
    utf8proc_int32_t before = -1, state = 0, cp;
    uint64_t h = 0; /* of the character that is being read; 0: none */
    int space = 0;
    *q = (mm_text_quality){ .valid = 1 };
    while (len) {
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)p, len > 16 ? 16 : (utf8proc_ssize_t)len, &cp);
        if (k <= 0) {
            q->valid = 0;
            k = 1;
            cp = 0xFFFD;
        }
        p += k;
        len -= (size_t)k;
        if (is_space(cp)) {
            if (h && !space) character(&c, h);
            h = ' ';
            space = 1;
            before = -1;
            continue;
        }
        if (space || before < 0 || utf8proc_grapheme_break_stateful(before, cp, &state)) {
            if (h) character(&c, h);
            h = 0;
            if (space || before < 0) state = 0;
        }
        space = 0;
        h = mix(h, (uint64_t)cp + 1);
        h += !h;
        before = cp;
    }
    if (h) character(&c, h);
    q->characters = c.characters;
    q->repetition = c.trigrams ? (float)((double)c.again / (double)c.trigrams) : 0;
    free(c.met.v);
}

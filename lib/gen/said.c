#include "gen/mm_said.h"
#include <string.h>
#include "base/mm_str.h"

/* How many bytes the character that begins with c has; 0: none begins so. */
static size_t length_of(unsigned char c) { return c < 0x80 ? 1 : c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0; }

/* Whether part[0..n) can become a character: the rest of it as small and as large as can be. */
static int can_become(const char *part, size_t n)
{
    char low[4], high[4];
    const size_t len = length_of((unsigned char)part[0]);
    if (n >= len) return 0;
    memset(low, 0x80, 4);
    memset(high, 0xBF, 4);
    memcpy(low, part, n);
    memcpy(high, part, n);
    return mm_utf8_valid(low, len) == len || mm_utf8_valid(high, len) == len;
}

static void lost(mm_said *s, size_t n)
{
    for (size_t i = 0; i < n; i++) mm_buf_add(&s->text, "\xEF\xBF\xBD", 3);
}

static void byte(mm_said *s, char c)
{
    s->part[s->n_part++] = c;
    while (s->n_part) {
        const size_t len = length_of((unsigned char)s->part[0]);
        if (s->n_part == len && mm_utf8_valid(s->part, len) == len) {
            mm_buf_add(&s->text, s->part, len);
            s->n_part = 0;
            return;
        }
        if (can_become(s->part, s->n_part)) return;
        lost(s, 1);
        memmove(s->part, s->part + 1, --s->n_part);
    }
}

/* The first stop string in what came after `from`; of two at one place the first named. */
static void look_for_stops(mm_said *s, size_t from)
{
    size_t at = s->text.len;
    for (size_t i = 0; i < s->n_stops; i++) {
        const mm_slice *stop = &s->stops[i];
        const size_t start = from > stop->len ? from - stop->len : 0;
        const char *p = s->text.len > start ? memmem(s->text.p + start, s->text.len - start, stop->p, stop->len) : NULL;
        if (!p || (size_t)(p - s->text.p) >= at) continue;
        at = (size_t)(p - s->text.p);
        s->stopped = (int)i + 1;
    }
    if (s->stopped) s->text.p[s->text.len = at] = 0;
}

int mm_said_add(mm_said *s, const char *bytes, size_t len)
{
    const size_t from = s->text.len;
    if (s->stopped) return 0;
    for (size_t i = 0; i < len; i++) byte(s, bytes[i]);
    if (!s->text.failed) look_for_stops(s, from);
    return s->text.failed ? MM_ENOMEM : 0;
}

int mm_said_end(mm_said *s)
{
    const size_t from = s->text.len;
    if (!s->stopped && s->n_part) {
        lost(s, s->n_part);
        if (!s->text.failed) look_for_stops(s, from);
    }
    s->n_part = 0;
    s->ended = 1;
    return s->text.failed ? MM_ENOMEM : 0;
}

/* How much of the end of the text is the beginning of a stop string. */
static size_t held_back(const mm_said *s)
{
    size_t most = 0;
    for (size_t i = 0; i < s->n_stops && !s->stopped && !s->ended; i++)
        for (size_t n = s->stops[i].len - 1 < s->text.len ? s->stops[i].len - 1 : s->text.len; n > most; n--)
            if (!memcmp(s->text.p + s->text.len - n, s->stops[i].p, n)) most = n;
    return most;
}

size_t mm_said_ready(mm_said *s, const char **text)
{
    const size_t end = s->text.len - held_back(s), n = end > s->shown ? end - s->shown : 0;
    *text = s->text.p ? s->text.p + s->shown : "";
    s->shown += n;
    return n;
}

void mm_said_reset(mm_said *s)
{
    mm_buf_reset(&s->text);
    s->n_part = s->shown = 0;
    s->stopped = s->ended = 0;
}

void mm_said_clear(mm_said *s)
{
    mm_buf_clear(&s->text);
    *s = (mm_said){ 0 };
}

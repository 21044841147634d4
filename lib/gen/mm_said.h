/* mm_said.h - the text of a run of tokens while it comes: never half a character, never a piece of a stop string.
 *
 *   mm_said s = { .stops = stops, .n_stops = 2 };
 *   mm_said_add(&s, piece, len);            the bytes of one token
 *   n = mm_said_ready(&s, &text);           what is new and can be shown: whole characters, UTF-8
 *   if (s.stopped) ...                      a stop string came: the text ends in front of it
 *   mm_said_end(&s);                        nothing more comes: what was held back is ready now
 *   mm_said_clear(&s);
 *
 * Bytes that are no UTF-8 become U+FFFD, one for each. s.text.p[0..s.text.len) is all of the text, s.shown how much of it was handed out. */
#ifndef MM_SAID_H
#define MM_SAID_H

#include "base/mm_json.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_said {
    const mm_slice *stops; /* none of them empty; borrowed */
    size_t n_stops;
    mm_buf text;           /* valid UTF-8 */
    char part[4];          /* the beginning of a character */
    size_t n_part, shown;
    int stopped;           /* 1 + the number of the stop string that came */
    int ended;
} mm_said;

/* 0 or MM_ENOMEM. Nothing is added once a stop string has come. */
MM_API MM_MUST_CHECK int mm_said_add(mm_said *s, const char *bytes, size_t len);
MM_API MM_MUST_CHECK int mm_said_end(mm_said *s);
/* The text that was not handed out yet and cannot be part of a stop string; it is counted as shown. */
MM_API size_t mm_said_ready(mm_said *s, const char **text);
MM_API void mm_said_reset(mm_said *s); /* for the next text; stops and memory are kept */
MM_API void mm_said_clear(mm_said *s);

#ifdef __cplusplus
}
#endif
#endif

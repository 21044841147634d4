/* WordPiece (Wu et al. 2016; BERT): from the left, always the longest token that fits. */
#include <string.h>
#include "token/token_int.h"

/* The hashes of all beginnings come from one walk, so that a try costs one probe. */
int tok_wordpiece(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o)
{
    const char *w = v->s + from;
    size_t first = o->n, chars = 0, len = to - from;
    int e = 0;
    /* longer than max_chars characters: unknown as a whole */
    if (len > t->max_chars) {
        for (size_t i = 0; i < len; i++) chars += ((unsigned char)w[i] & 0xC0) != 0x80;
        if (chars > t->max_chars) return tok_emit(o, t->role[MM_TOK_UNK], v, from, to);
    }
    uint32_t h[MAX_WORD_TOKEN];
    for (size_t pos = 0; pos < len && !e;) {
        const map *m = pos ? &t->cont : &t->vocab;
        size_t most = len - pos < t->longest ? len - pos : t->longest, n = most;
        uint32_t x = TOK_SEED;
        for (size_t i = 0; i < most; i++) h[i] = x = tok_step(x, (unsigned char)w[pos + i]);
        int32_t id = -1;
        for (; n > 0; n--) {
            if (pos + n < len && ((unsigned char)w[pos + n] & 0xC0) == 0x80) continue; /* inside a character */
            if ((id = tok_map_get_hash(m, w + pos, n, h[n - 1])) >= 0) break;
        }
        if (id < 0) {
            o->n = first;
            return tok_emit(o, t->role[MM_TOK_UNK], v, from, to);
        }
        e = tok_emit(o, id, v, from + pos, from + pos + n);
        pos += n;
    }
    return e;
}

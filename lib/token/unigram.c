/* Unigram (Kudo 2018; SentencePiece): the division of a word into tokens whose scores have the largest sum. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

#define UNK_PENALTY 10.0 /* SentencePiece's: so much below the least score */

typedef struct {
    double score;   /* of the best way to here */
    uint32_t start; /* where its last token begins; UINT32_MAX: no way yet */
    int32_t id;
} node;

int tok_unigram_index(mm_tok *t, mm_err *err)
{
    double least = INFINITY;
    if (!(t->reach = calloc(1, 65536))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        if (!(t->kind[i] & IN_VOCAB)) continue;
        if (t->score[i] < least) least = t->score[i];
        if (t->len[i] < 2) continue;
        uint8_t *r = &t->reach[(unsigned char)t->text[i][0] << 8 | (unsigned char)t->text[i][1]];
        if (t->len[i] > *r) *r = t->len[i] < 255 ? (uint8_t)t->len[i] : 255;
    }
    t->unk_score = least - UNK_PENALTY;
    for (int i = 0; i < 256; i++) {
        char s[8];
        t->byte_id[i] = tok_map_get(&t->vocab, s, (size_t)snprintf(s, sizeof s, "<0x%02X>", (unsigned)i));
    }
    return 0;
}

static void offer(node *n, double score, size_t start, int32_t id)
{
    if (n->start != UINT32_MAX && score <= n->score) return; /* of equals the one found first */
    *n = (node){ score, (uint32_t)start, id };
}

/* Unknown characters next to each other are one piece; it may be spelt like a token, or be spelt out in bytes. */
static int unknown(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o)
{
    int32_t id = tok_map_get(&t->vocab, v->s + from, to - from);
    if (id >= 0) return tok_emit(o, id, v, from, to);
    size_t i = from;
    while (t->byte_fallback && i < to && t->byte_id[(unsigned char)v->s[i]] >= 0) i++;
    if (i < to || !t->byte_fallback) return tok_emit(o, t->role[MM_TOK_UNK], v, from, to);
    int e = 0;
    for (i = from; i < to && !e; i++) e = tok_emit(o, t->byte_id[(unsigned char)v->s[i]], v, from, to);
    return e;
}

int tok_unigram(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o)
{
    const char *s = v->s + from;
    size_t len = to - from;
    int32_t unk = t->role[MM_TOK_UNK];
    node *best = tok_work(o->scratch, len + 1, sizeof *best);
    if (!best) return MM_ENOMEM;
    for (size_t i = 0; i <= len; i++) best[i] = (node){ 0, UINT32_MAX, -1 };
    for (size_t i = 0, n; i < len; i += n) {
        double here = best[i].score;
        uint32_t c, h = TOK_SEED;
        int single = 0;
        size_t most = i + 1 < len ? t->reach[(unsigned char)s[i] << 8 | (unsigned char)s[i + 1]] : 1;
        n = (size_t)mm_utf8_get(s + i, len - i, &c);
        if (most == 255) most = t->longest;
        if (most > len - i) most = len - i;
        if (!most) most = 1;
        for (size_t k = 1; k <= most; k++) {
            h = tok_step(h, (unsigned char)s[i + k - 1]);
            if (i + k < len && ((unsigned char)s[i + k] & 0xC0) == 0x80) continue; /* inside a character */
            int32_t id = tok_map_get_hash(&t->vocab, s + i, k, h);
            if (id < 0) continue;
            offer(&best[i + k], here + t->score[id], i, id);
            single |= k == n;
        }
        if (!single) offer(&best[i + n], here + t->unk_score, i, unk);
    }
    /* the way back; each token's beginning is told where it ends, in place of the score that is needed no more */
    for (size_t end = len; end > 0; end = best[end].start) best[best[end].start].score = (double)end;
    int e = 0;
    for (size_t i = 0; i < len && !e;) {
        size_t stop = (size_t)best[i].score;
        int32_t id = best[stop].id;
        if (id != unk) {
            e = tok_emit(o, id, v, from + i, from + stop);
        } else {
            while (stop < len && best[(size_t)best[stop].score].id == unk) stop = (size_t)best[stop].score;
            e = unknown(t, v, from + i, from + stop, o);
        }
        i = stop;
    }
    return e;
}

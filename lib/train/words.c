/* Tokens of captions as classes. */
#include "train/words.h"
#include <math.h>
#include "kernels/mm_kern.h"

#define OFTEN 1e-3 /* of this share of all tokens and above, a token's weight falls */
#define SHARP 20   /* logit of a row with itself */

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static int fill_table(mm_words *w, const mm_lm *lm, const int32_t *ids, mm_err *err)
{
    const size_t n = w->table.rows * w->table.cols;
    int r = mm_lm_embed(lm, ids, w->table.rows, w->table.w, err);
    const float square = r || !n ? 1 : mm_kern_get()->sumsq(w->table.w, n) / (float)w->table.rows;
    for (size_t i = 0; i < n && square > 0; i++) w->table.w[i] *= SHARP / square;
    return r;
}

int mm_words_open(mm_words *w, const mm_lm *lm, const mm_captioned *p, mm_err *err)
{
    const size_t vocab = mm_lm_vocab(lm);
    size_t classes = 0, all = 0;
    *w = (mm_words){ .cls = NULL };
    w->cls = mm_arena_alloc(&w->arena, vocab, sizeof *w->cls);
    size_t *count = mm_arena_zalloc(&w->arena, vocab, sizeof *count);
    int32_t *ids = mm_arena_alloc(&w->arena, vocab, sizeof *ids);
    if (!w->cls || !count || !ids) return no_memory(err);
    for (int m = 0; m < MM_MODALITIES; m++)
        for (size_t i = 0, len = p->captions[m].n ? p->ids[m].off[p->captions[m].n] : 0; i < len; i++) count[p->ids[m].ids[i]]++, all++;
    for (size_t v = 0; v < vocab; v++) {
        w->cls[v] = count[v] ? (int32_t)classes : -1;
        if (count[v]) ids[classes++] = (int32_t)v;
    }
    w->weight = mm_arena_alloc(&w->arena, classes + 1, sizeof *w->weight);
    w->table = (mm_param){ mm_arena_alloc(&w->arena, (classes + 1) * mm_lm_width(lm), sizeof(float)), NULL, classes, mm_lm_width(lm) };
    if (!w->weight || !w->table.w) return no_memory(err);
    for (size_t c = 0; c < classes; c++) w->weight[c] = (float)fmin(1, sqrt(OFTEN * (double)all / (double)count[ids[c]]));
    return fill_table(w, lm, ids, err);
}

void mm_words_clear(mm_words *w) { mm_arena_clear(&w->arena); }

int32_t mm_words_at(const mm_words *w, const int32_t *ids, size_t n, double at)
{
    double sum = 0, to = 0;
    for (size_t i = 0; i < n; i++) sum += (double)w->weight[w->cls[ids[i]]];
    for (size_t i = 0; i < n; i++)
        if ((to += (double)w->weight[w->cls[ids[i]]]) > at * sum) return w->cls[ids[i]];
    return n ? w->cls[ids[n - 1]] : -1;
}

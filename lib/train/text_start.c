/* Tokenizer, space and table from pairs: the parts are in bpe.c, teacher.c, pca.c and table.c. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "kernels/mm_kern.h"
#include "token/mm_token.h"
#include "train/mm_text_start.h"

typedef struct work {
    const mm_text_pair *pairs;
    size_t n;
    const mm_text_start_opts *o;
    uint32_t *which;   /* [n]: target of a pair */
    mm_text_in *en;    /* [targets] */
    uint8_t *named;    /* [targets]: of the space, a name or a word */
    size_t targets, space; /* of these the first `space` say how it is turned */
    float *vec;        /* [targets, teacher's dim], then cut */
    float *weight;     /* [n] */
    int32_t *ids;
    size_t *off, n_ids, cap_ids;
} work;

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* Different English texts, in the order in which they come. */
static int unite(work *w, mm_err *err)
{
    size_t slots = 1024;
    while (slots < 2 * w->n) slots *= 2;
    uint32_t *slot = calloc(slots, sizeof *slot);
    w->which = mm_realloc(NULL, w->n, sizeof *w->which);
    w->weight = mm_realloc(NULL, w->n, sizeof *w->weight);
    w->en = mm_realloc(NULL, w->n, sizeof *w->en);
    w->named = calloc(w->n, 1);
    if (!slot || !w->which || !w->weight || !w->en || !w->named) {
        free(slot);
        return no_memory(err);
    }
    for (size_t i = 0; i < w->n; i++) {
        const mm_text_pair *p = &w->pairs[i];
        size_t k = (size_t)mm_hash64(p->en, p->en_len, 0) & (slots - 1);
        for (; slot[k]; k = (k + 1) & (slots - 1)) {
            const mm_text_in *e = &w->en[slot[k] - 1];
            if (e->len == p->en_len && !memcmp(e->p, p->en, e->len)) break;
        }
        if (!slot[k]) {
            w->en[w->targets] = (mm_text_in){ p->en, p->en_len };
            slot[k] = (uint32_t)++w->targets;
        }
        w->which[i] = slot[k] - 1;
        w->weight[i] = p->weight;
        if (i >= w->o->space && w->o->space) continue;
        w->space = w->targets;
        if (p->kind != MM_TEXT_SENTENCE) w->named[w->which[i]] = 1;
    }
    free(slot);
    return 0;
}

/* The teacher's vectors become targets [targets, dim]. */
static int space(work *w, mm_text_start *s, mm_teacher *t, mm_err *err)
{
    size_t d = mm_teacher_dim(t), m = 0;
    if (!(w->vec = mm_aligned(w->targets * d, sizeof *w->vec))) return no_memory(err);
    int r = mm_teacher_embed(t, w->en, w->targets, w->vec, w->o->progress, w->o->arg, err);
    if (!r) r = mm_pca_fit(&s->pca, w->vec, w->space, d, w->o->threads, err);
    if (r) return r;
    float *names = mm_aligned(w->space * d, sizeof *names);
    if (!names) return no_memory(err);
    for (size_t i = 0; i < w->space; i++)
        if (w->named[i]) memcpy(names + m++ * d, w->vec + i * d, d * sizeof *names);
    r = mm_pca_center(&s->pca, names, m, err);
    free(names);
    return r ? r : mm_pca_apply(&s->pca, w->vec, w->targets, w->vec, s->dim, err);
}

static int learn_tokens(const work *w, mm_text_start *s, mm_err *err)
{
    if (w->o->tokenizer) return mm_buf_add(&s->tokenizer, w->o->tokenizer->p, w->o->tokenizer->len) ? no_memory(err) : 0;
    mm_bpe_text *x = mm_realloc(NULL, w->n, sizeof *x);
    mm_bpe_opts o = w->o->bpe;
    double sum = 0;
    if (!x) return no_memory(err);
    /* by weight, of which the mean is 1 */
    for (size_t i = 0; i < w->n; i++) sum += (double)w->pairs[i].weight;
    for (size_t i = 0; i < w->n; i++) {
        double v = sum > 0 ? (double)w->pairs[i].weight * (double)w->n / sum : 1;
        x[i] = (mm_bpe_text){ w->pairs[i].text, w->pairs[i].len, (float)(v < 1e6 ? v : 1e6) };
    }
    o.progress = w->o->progress;
    o.arg = w->o->arg;
    int r = mm_bpe_train(&s->tokenizer, x, w->n, &o, err);
    free(x);
    return r;
}

static int tokenize(work *w, mm_text_start *s, mm_err *err)
{
    mm_tok *tok;
    mm_tok_out o = { 0 };
    int r = mm_tok_from_json(&tok, s->tokenizer.p, s->tokenizer.len, err);
    if (r) return r;
    s->vocab = mm_tok_vocab(tok);
    if (!(w->off = mm_realloc(NULL, w->n + 1, sizeof *w->off))) r = no_memory(err);
    for (size_t i = 0; i < w->n && !r; i++) {
        w->off[i] = w->n_ids;
        if ((r = mm_tok_encode(tok, w->pairs[i].text, w->pairs[i].len, 0, &o, err))) {
            mm_err_prefix(err, "pair %zu: ", i);
            break;
        }
        size_t n = w->o->window && o.n > w->o->window ? w->o->window : o.n;
        if (w->n_ids + n > w->cap_ids) {
            size_t cap = 2 * w->cap_ids + n + 65536;
            int32_t *p = mm_realloc(w->ids, cap, sizeof *p);
            if (!p) {
                r = no_memory(err);
                break;
            }
            w->ids = p;
            w->cap_ids = cap;
        }
        if (n) memcpy(w->ids + w->n_ids, o.ids, n * sizeof *o.ids);
        w->n_ids += n;
    }
    if (!r) w->off[w->n] = w->n_ids;
    mm_tok_out_clear(&o);
    mm_tok_free(&tok);
    return r;
}

/* Mean cosine between bags and targets, in pieces that fit a cache */
static int measure(const work *w, mm_text_start *s, mm_err *err)
{
    enum { STEP = 256 };
    size_t d = s->dim;
    float *bag = mm_aligned(STEP * d, sizeof *bag), *want = mm_aligned(d, sizeof *want);
    double sum = 0, all = 0;
    if (!bag || !want) {
        free(bag);
        free(want);
        return no_memory(err);
    }
    for (size_t i = 0; i < w->n; i += STEP) {
        size_t m = w->n - i < STEP ? w->n - i : STEP;
        mm_table_bags(s->table, d, w->ids, w->off + i, m, d, bag);
        for (size_t k = 0; k < m; k++) {
            memcpy(want, w->vec + w->which[i + k] * d, d * sizeof *want);
            mm_kern_get()->l2_normalize(want, 1, d);
            sum += (double)w->weight[i + k] * (double)mm_kern_get()->dot_f32(bag + k * d, want, d);
            all += (double)w->weight[i + k];
        }
    }
    s->cosine = all > 0 ? sum / all : 0;
    free(bag);
    free(want);
    return 0;
}

static int solve(work *w, mm_text_start *s, mm_err *err)
{
    mm_table_in in = { w->ids, w->off, w->n, w->weight, w->which, w->vec, w->targets, s->vocab, s->dim };
    mm_table_opts o = w->o->table;
    o.threads = w->o->threads;
    o.progress = w->o->progress;
    o.arg = w->o->arg;
    o.residual = &s->residual;
    if (!(s->table = mm_aligned(s->vocab * s->dim, sizeof *s->table))) return no_memory(err);
    int r = mm_table_solve(s->table, &in, &o, err);
    return r ? r : measure(w, s, err);
}

int mm_text_start_make(mm_text_start *out, mm_teacher *teacher, const mm_text_pair *pairs, size_t n,
                       const mm_text_start_opts *opts, mm_err *err)
{
    work w = { .pairs = pairs, .n = n, .o = opts };
    memset(out, 0, sizeof *out);
    out->dim = opts->dim ? opts->dim : mm_teacher_dim(teacher);
    if (!n || n > UINT32_MAX / 4) return mm_fail(err, MM_EARG, "a start is made from 1 to %u pairs, not from %zu", UINT32_MAX / 4, n);
    int r = unite(&w, err);
    if (!r) r = space(&w, out, teacher, err);
    if (!r && !opts->space_only) r = learn_tokens(&w, out, err);
    if (!r && !opts->space_only) r = tokenize(&w, out, err);
    if (!r && !opts->space_only) r = solve(&w, out, err);
    out->texts = n;
    out->tokens = w.n_ids;
    out->targets = w.targets;
    free(w.which);
    free(w.weight);
    free(w.en);
    free(w.named);
    free(w.vec);
    free(w.ids);
    free(w.off);
    if (r) mm_text_start_clear(out);
    return r;
}

void mm_text_start_clear(mm_text_start *s)
{
    mm_buf_clear(&s->tokenizer);
    mm_pca_clear(&s->pca);
    free(s->table);
    memset(s, 0, sizeof *s);
}

/* Sequences of a decoder and the step that makes them longer: one ragged batch through all layers, cut by rows where it is large. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include "model/lm_int.h"

/* Rows that go through all layers together: their activations are a few MB, and the weights pass once for so many. */
#define STEP_ROWS 512

void mm_lm_cache_free(mm_lm_cache **cp)
{
    mm_lm_cache *c = *cp;
    if (!c) return;
    if (c->mem) munmap(c->mem, c->bytes);
    mm_arena_clear(&c->arena);
    free(c->len);
    free(c->given);
    free(c);
    *cp = NULL;
}

int mm_lm_cache_new(mm_lm_cache **out, mm_lm *lm, size_t slots, size_t context, mm_err *err)
{
    const mm_tower_config *t = &mm_lm_tower(lm)->cfg;
    *out = NULL;
    if (!context) context = lm->opts.context;
    if (!slots || context > lm->opts.context)
        return mm_fail(err, MM_EARG, "a cache of %zu sequences of %zu tokens is asked for, this model takes %zu", slots, context, lm->opts.context);
    mm_lm_cache *c = calloc(1, sizeof *c);
    if (!c) return mm_fail(err, MM_ENOMEM, "out of memory");
    c->lm = lm;
    c->slots = slots;
    c->context = context;
    c->tokens = (context + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK;
    c->half = (size_t)t->kv_heads * mmk_kv_bytes(lm->opts.kv_type, c->tokens, (size_t)t->head_dim);
    c->len = calloc(slots, sizeof *c->len);
    c->given = calloc(slots, sizeof *c->given);
    void *mem = MAP_FAILED; /* mapped, so that only what is used takes memory */
    if (c->len && c->given && !mm_mul(2 * c->half, slots, &c->bytes) && !mm_mul(c->bytes, (size_t)t->layers, &c->bytes))
        mem = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED) {
        mm_lm_cache_free(&c);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    c->mem = mem;
    *out = c;
    return 0;
}

size_t mm_lm_len(const mm_lm_cache *c, size_t slot) { return c->len[slot]; }

void mm_lm_trim(mm_lm_cache *c, size_t slot, size_t len)
{
    if (len < c->len[slot]) c->len[slot] = len;
    if (len < c->given[slot]) c->given[slot] = len;
}

void mm_lm_copy(mm_lm_cache *c, size_t to, size_t from, size_t same, size_t len)
{
    const mm_tower_config *t = &mm_lm_tower(c->lm)->cfg;
    size_t d = (size_t)t->head_dim, head = mmk_kv_bytes(c->lm->opts.kv_type, c->tokens, d);
    if (len > c->len[from]) len = c->len[from];
    if (to == from) {
        mm_lm_trim(c, to, len);
        return;
    }
    const size_t first = same / MMK_KV_BLOCK * MMK_KV_BLOCK, n = first < len ? (len - first + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK : 0;
    for (size_t l = 0; l < (size_t)t->layers; l++)
        for (size_t h = 0; h < 2 * (size_t)t->kv_heads; h++) { /* of keys, then of values */
            char *x = mm_lm_keys(c, l, to) + h * head;
            const char *y = mm_lm_keys(c, l, from) + h * head;
            if (c->lm->opts.kv_type == MM_Q8_0) {
                const size_t scales = c->tokens * d + first * (d / 32) * 2;
                memcpy(x + first * d, y + first * d, n * d);
                memcpy(x + scales, y + scales, n * (d / 32) * 2);
            } else {
                const size_t at = mmk_kv_bytes(c->lm->opts.kv_type, first, d);
                memcpy(x + at, y + at, mmk_kv_bytes(c->lm->opts.kv_type, n, d));
            }
        }
    c->len[to] = len;
    c->given[to] = c->given[from] < len ? c->given[from] : len;
}

/* ---- a step ---- */

static int check(const mm_lm_cache *c, const mm_lm_part *parts, size_t n, mm_err *err)
{
    const mm_tower_config *t = &mm_lm_tower(c->lm)->cfg;
    for (size_t i = 0; i < n; i++) {
        const mm_lm_part *p = &parts[i];
        if (p->slot >= c->slots || !p->n || (!p->ids && !p->embd)) return mm_fail(err, MM_EARG, "part %zu of a step has no slot or no tokens", i);
        if (p->n > c->context - c->len[p->slot])
            return mm_fail(err, MM_ELONG, "a sequence of %zu tokens is longer than the context of %zu", c->len[p->slot] + p->n, c->context);
        for (size_t k = 0; k < i; k++)
            if (parts[k].slot == p->slot) return mm_fail(err, MM_EARG, "sequence %zu is twice in one step", p->slot);
        for (size_t k = 0; p->ids && k < p->n; k++)
            if (p->ids[k] < 0 || p->ids[k] >= t->vocab)
                return mm_fail(err, MM_ESHAPE, "token %d is outside the vocabulary of %lld", p->ids[k], (long long)t->vocab);
        const int r = c->lm->m->uni ? mm_lm_uni_check(c, p, err) : 0;
        if (r) return r;
    }
    return 0;
}

/* Rows of the part's own where its ids say so */
static void put_marked(const mm_lm_piece *p, float *to, size_t width)
{
    const mm_lm_part *part = p->part;
    size_t used = 0;
    for (size_t i = 0; i < p->from; i++) used += part->ids[i] == part->mark;
    for (size_t i = 0; i < p->rows; i++)
        if (part->ids[p->from + i] == part->mark) memcpy(to + i * width, part->embd + used++ * width, width * sizeof *to);
}

static int embed(mm_graph *g, const mm_lm_batch *b, mm_tensor x)
{
    float *to = x.p;
    for (size_t i = 0; i < b->n; to += b->pieces[i++].rows * x.cols) {
        const mm_lm_piece *p = &b->pieces[i];
        if (!p->part->ids) memcpy(to, p->part->embd + p->from * x.cols, p->rows * x.cols * sizeof *to);
        else if (mm_lm_embed(b->c->lm, p->part->ids + p->from, p->rows, to, NULL)) g->failed = 1;
        else if (p->part->embd) put_marked(p, to, x.cols);
    }
    return g->failed;
}

void mm_lm_turn(float *cs, float *sn, size_t half, const double *angle, double factor, size_t at)
{
    for (size_t h = 0; h < half; h++) {
        const double a = (double)at * angle[h];
        cs[h] = (float)(cos(a) * factor);
        sn[h] = (float)(sin(a) * factor);
    }
}

/* cos and sin [rows, head_dim / 2] of the rows' positions */
static float *turns(mm_graph *g, const mm_lm_batch *b, const double *angle, double factor)
{
    size_t half = (size_t)mm_lm_tower(b->c->lm)->cfg.head_dim / 2, row = 0;
    float *cs = mm_arena_alloc(g->arena, 2 * b->rows * half, sizeof *cs), *sn = cs + b->rows * half;
    for (size_t i = 0; cs && i < b->n; row += b->pieces[i++].rows) {
        const mm_lm_piece *p = &b->pieces[i];
        size_t first = b->c->len[p->part->slot] + p->from;
#pragma omp parallel for num_threads(p->rows > 16 ? g->threads : 1) schedule(static)
        for (size_t k = 0; k < p->rows; k++) mm_lm_turn(cs + (row + k) * half, sn + (row + k) * half, half, angle, factor, first + k);
    }
    return cs;
}

size_t mm_lm_wanted(const mm_lm_batch *b, size_t *rows)
{
    size_t n = 0, row = 0;
    for (size_t i = 0; i < b->n; row += b->pieces[i++].rows) {
        const mm_lm_piece *p = &b->pieces[i];
        for (size_t k = 0; k < p->rows; k++)
            if (p->part->logits == 2 || (p->part->logits && p->from + k + 1 == p->part->n)) rows[n++] = row + k;
    }
    return n;
}

void mm_lm_kept(const mm_lm_batch *b, size_t layer, mm_kept *kept)
{
    const mm_lm_cache *c = b->c;
    for (size_t i = 0; i < b->n; i++) {
        const mm_lm_piece *p = &b->pieces[i];
        char *keys = mm_lm_keys(c, layer, p->part->slot);
        kept[i] = (mm_kept){ p->rows, c->len[p->part->slot] + p->from, c->tokens, keys, keys + c->half };
    }
}

static void head(mm_graph *g, mm_lm_batch *b, mm_tensor x)
{
    const mm_tower *t = mm_lm_tower(b->c->lm);
    size_t *rows = mm_arena_alloc(g->arena, b->rows, sizeof *rows), n = rows ? mm_lm_wanted(b, rows) : 0;
    if (!rows) g->failed = 1;
    if (!n || g->failed) return;
    mm_tensor y = mm_op_rows(g, x, rows, n);
    y = mm_op_rms_norm(g, y, &t->post_norm, t->cfg.eps, &y);
    size_t vocab = (size_t)t->cfg.vocab;
    mm_tensor into = mm_tensor_of(b->logits, n, vocab);
    mm_op_linear(g, y, &t->head, MMK_ACT_NONE, NULL, &into);
    b->logits += n * vocab;
}

/* ---- threads ----
 *
 * A step is some hundred small pieces of work that all threads wait for. Where another program holds a processor, threads that wait for it by
 * spinning take longer than one alone would. So what the threads got is compared with the clock, over PACE_WINDOW seconds; if it was not nearly
 * all, fewer are used for a while, twice as long each time it turns out so again. No bits depend on it. */
#define PACE_WINDOW 0.03

static double seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int pace_threads(mm_lm *lm)
{
    if (lm->pace.use && ++lm->pace.steps > lm->pace.patience) {
        lm->pace.use = 0;
        lm->pace.wall = lm->pace.cpu = 0;
    }
    return lm->pace.use ? lm->pace.use : lm->opts.threads;
}

static void pace_note(mm_lm *lm, double wall, double cpu)
{
    if (lm->pace.use || lm->opts.threads == 1) return;
    lm->pace.wall += wall;
    lm->pace.cpu += cpu;
    if (lm->pace.wall < PACE_WINDOW) return;
    double got = lm->pace.cpu / lm->pace.wall;
    lm->pace.wall = lm->pace.cpu = 0;
    if (got > 0.75 * lm->opts.threads) {
        lm->pace.patience = 0;
        return;
    }
    lm->pace.use = got < 1.5 ? 1 : (int)got;
    lm->pace.patience = lm->pace.patience ? 2 * lm->pace.patience : 128;
    if (lm->pace.patience > 4096) lm->pace.patience = 4096;
    lm->pace.steps = 0;
}

static void through_blocks(mm_graph *g, mm_lm_batch *b)
{
    mm_lm *lm = b->c->lm;
    const mm_tower *t = mm_lm_tower(lm);
    size_t half = (size_t)t->cfg.head_dim / 2;
    mm_tensor x = mm_op_new(g, b->rows, (size_t)t->cfg.width);
    mm_kept *kept = mm_arena_alloc(g->arena, b->n, sizeof *kept);
    const float *far = turns(g, b, t->turn, t->cfg.rope.attention);
    const float *near = t->cfg.local ? turns(g, b, t->turn_local, t->cfg.rope_local.attention) : far;
    if (!x.p || !kept || !far || !near || embed(g, b, x)) {
        g->failed = 1;
        return;
    }
    for (int64_t l = 0; l < t->cfg.layers; l++) {
        mm_lm_kept(b, (size_t)l, kept);
        int local = t->cfg.local && t->cfg.local[l];
        const float *cs = local ? near : far;
        const mm_going_on on = { kept, b->n, cs, cs + b->rows * half, lm->opts.kv_type, local };
        x = mm_block(g, &t->cfg, &t->layers[l], x, NULL, &on);
    }
    if (!g->failed) head(g, b, x);
}

static int forward(mm_lm_batch *b)
{
    mm_lm_cache *c = b->c;
    mm_lm *lm = c->lm;
    mm_graph g = { .kern = lm->m->kern, .arena = &c->arena, .threads = pace_threads(lm) };
    if (!lm->m->uni) mm_tower_settle(lm->m, &lm->m->tower[MM_TEXT], 1);
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    mm_arena_reset(&c->arena);
    (lm->m->uni ? mm_lm_uni_forward : through_blocks)(&g, b);
    pace_note(lm, seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return g.failed ? MM_ENOMEM : 0;
}

int mm_lm_step(mm_lm_cache *c, const mm_lm_part *parts, size_t n, float *logits, mm_err *err)
{
    int r = check(c, parts, n, err);
    mm_lm_piece *pieces = r ? NULL : mm_realloc(NULL, n + 1, sizeof *pieces);
    if (!r && !pieces) r = mm_fail(err, MM_ENOMEM, "out of memory");
    mm_lm_batch b = { .c = c, .pieces = pieces, .logits = logits };
    for (size_t i = 0, from = 0; i < n && !r;) {
        size_t rows = parts[i].n - from, room = STEP_ROWS - b.rows;
        if (rows > room) rows = room;
        pieces[b.n++] = (mm_lm_piece){ &parts[i], from, rows };
        b.rows += rows;
        from += rows;
        if (from == parts[i].n) i++, from = 0;
        if (b.rows < STEP_ROWS && i < n) continue;
        if (forward(&b)) r = mm_fail(err, MM_ENOMEM, "out of memory");
        b.n = b.rows = 0;
    }
    for (size_t i = 0; i < n && !r; i++) {
        c->len[parts[i].slot] += parts[i].n;
        if (c->lm->m->uni) c->given[parts[i].slot] += mm_lm_uni_marks(&parts[i]);
    }
    free(pieces);
    return r;
}

/* The tape: nodes in the order of their recording, gradients from a pool, segments in 16 bits. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "graph/tape_int.h"

typedef struct piece { /* of the pool, in the order of addresses within a chunk */
    float *p;
    size_t n; /* floats */
    int used, first; /* first of its chunk */
} piece;

typedef struct noted { /* a tensor, newest first */
    struct noted *prev;
    float *p;
    size_t n;
    mm_node *again; /* computes it from others, so that it need not be kept; NULL: it is kept */
} noted;

typedef struct mm_segment {
    noted *last, *end; /* last .. before end */
    uint16_t *half;    /* of those that are kept, newest first */
    mm_node **again;   /* of the others, oldest first */
    size_t n_again;
} mm_segment;

struct mm_tape {
    mm_keep keep;
    mm_arena own; /* nodes, vars, halves: until reset */
    mm_node *last;
    noted *tensors;
    piece *pool;
    size_t n_pool, cap_pool, n_chunks;
    size_t used, used_most; /* floats of the pool in use, since the tape was made */
    size_t floats, floats_most, halves, grads, peak; /* bytes */
};

mm_tape *mm_tape_new(mm_keep keep)
{
    mm_tape *t = calloc(1, sizeof *t);
    if (t) {
        t->keep = keep;
        t->own.block_size = (size_t)1 << 20;
    }
    return t;
}

static void pool_free(mm_tape *t)
{
    for (size_t i = 0; i < t->n_pool; i++)
        if (t->pool[i].first) free(t->pool[i].p);
    t->n_pool = t->n_chunks = t->used = t->grads = 0;
}

void mm_tape_free(mm_tape **t)
{
    if (!*t) return;
    pool_free(*t);
    free((*t)->pool);
    mm_arena_clear(&(*t)->own);
    free(*t);
    *t = NULL;
}

void mm_tape_reset(mm_tape *t)
{
    mm_arena_reset(&t->own);
    t->last = NULL;
    t->tensors = NULL;
    t->floats = t->halves = 0;
    if (t->n_chunks > 1) { /* one chunk for all next time: what is free can then always be joined */
        pool_free(t);
        return;
    }
    if (t->n_pool) { /* all of the chunk in one piece */
        t->pool[0] = (piece){ t->pool[0].p, t->grads / sizeof(float), 0, 1 };
        t->n_pool = 1;
    }
    t->used = 0;
}

size_t mm_tape_peak(const mm_tape *t) { return t->peak; }

/* The arena keeps what tensors have needed at most, also while they wait as halves. */
static void count_peak(mm_tape *t)
{
    if (t->floats > t->floats_most) t->floats_most = t->floats;
    size_t now = t->floats_most + t->halves + t->grads;
    if (now > t->peak) t->peak = now;
}

void *mm_tape_alloc(mm_graph *g, size_t n, size_t size)
{
    void *p = mm_arena_zalloc(&g->tape->own, n, size);
    if (!p) g->failed = 1;
    return p;
}

void mm_tape_note(mm_graph *g, mm_tensor x)
{
    noted *n = mm_tape_alloc(g, 1, sizeof *n);
    if (!n) return;
    *n = (noted){ g->tape->tensors, x.p, x.rows * x.cols, NULL };
    g->tape->tensors = n;
    g->tape->floats += n->n * sizeof(float);
    count_peak(g->tape);
}

/* ---- the pool: chunks cut into pieces; the smallest free one that fits is taken, neighbours that are free are joined ---- */

static piece *pool_insert(mm_tape *t, size_t at, piece x)
{
    if (t->n_pool == t->cap_pool) {
        piece *p = mm_realloc(t->pool, t->cap_pool + 64, sizeof *p);
        if (!p) return NULL;
        t->pool = p;
        t->cap_pool += 64;
    }
    memmove(t->pool + at + 1, t->pool + at, (t->n_pool - at) * sizeof x);
    t->pool[at] = x;
    t->n_pool++;
    return t->pool + at;
}

static void pool_remove(mm_tape *t, size_t at)
{
    t->n_pool--;
    memmove(t->pool + at, t->pool + at + 1, (t->n_pool - at) * sizeof *t->pool);
}

/* The first chunk is as large as the tape has needed before, and a little more; without a before, and where that is not enough, one is
 * added for the request alone. */
static piece *pool_grow(mm_tape *t, size_t n)
{
    size_t room = t->n_chunks ? 0 : t->used_most + t->used_most / 8;
    if (room < n) room = n;
    room = (room + 15) & ~(size_t)15;
    float *p = mm_aligned(room, sizeof *p);
    piece *at = p ? pool_insert(t, t->n_pool, (piece){ p, room, 0, 1 }) : NULL;
    if (!at) {
        free(p);
        return NULL;
    }
    t->n_chunks++;
    t->grads += room * sizeof *p;
    count_peak(t);
    return at;
}

float *mm_tape_scratch(mm_graph *g, size_t n)
{
    mm_tape *t = g->tape;
    piece *best = NULL;
    n = n ? (n + 15) & ~(size_t)15 : 16; /* cache lines */
    for (piece *s = t->pool; s < t->pool + t->n_pool; s++)
        if (!s->used && s->n >= n && (!best || s->n < best->n)) best = s;
    if (!best) best = pool_grow(t, n);
    if (best && best->n > n) {
        size_t at = (size_t)(best - t->pool);
        best = pool_insert(t, at + 1, (piece){ best->p + n, best->n - n, 0, 0 }) ? t->pool + at : NULL;
        if (best) best->n = n;
    }
    if (!best) {
        g->failed = 1;
        return NULL;
    }
    best->used = 1;
    t->used += n;
    if (t->used > t->used_most) t->used_most = t->used;
    return best->p;
}

void mm_tape_unscratch(mm_graph *g, float *p)
{
    mm_tape *t = g->tape;
    size_t i = 0;
    while (i < t->n_pool && t->pool[i].p != p) i++;
    if (!p || i == t->n_pool) return;
    t->pool[i].used = 0;
    t->used -= t->pool[i].n;
    if (i + 1 < t->n_pool && !t->pool[i + 1].used && !t->pool[i + 1].first) {
        t->pool[i].n += t->pool[i + 1].n;
        pool_remove(t, i + 1);
    }
    if (!t->pool[i].first && !t->pool[i - 1].used) {
        t->pool[i - 1].n += t->pool[i].n;
        pool_remove(t, i);
    }
}

/* ---- recording ---- */

void *mm_tape_add_inplace(mm_graph *g, mm_tensor out, size_t size, void (*back)(mm_graph *, mm_node *))
{
    mm_node *n = mm_tape_alloc(g, 1, size);
    if (!n) return NULL;
    n->back = back;
    n->prev = g->tape->last;
    n->out = out;
    if (out.var->makers++) out.var->changed = 1;
    g->tape->last = n;
    return n;
}

void *mm_tape_add(mm_graph *g, mm_tensor *out, size_t size, void (*back)(mm_graph *, mm_node *))
{
    mm_var *v = mm_tape_alloc(g, 1, sizeof *v);
    if (!v) return NULL;
    v->n = out->rows * out->cols;
    out->var = v;
    return mm_tape_add_inplace(g, *out, size, back);
}

float *mm_tape_into(mm_graph *g, mm_tensor x, int *fresh)
{
    if (!x.var) return NULL;
    *fresh = !x.var->d;
    if (*fresh) x.var->d = mm_tape_scratch(g, x.var->n);
    return x.var->d;
}

void mm_tape_give(mm_graph *g, mm_tensor x, const float *d, mm_var *own)
{
    int fresh;
    if (!x.var) return;
    if (own && !x.var->d && !own->kept) {
        x.var->d = own->d;
        own->d = NULL;
        return;
    }
    float *to = mm_tape_into(g, x, &fresh);
    if (to) mm_put(g, to, fresh, 1, d, x.var->n);
}

void mm_put(const mm_graph *g, float *to, int fresh, float w, const float *d, size_t n)
{
#pragma omp parallel for num_threads(mm_threads_for(g, (double)n)) schedule(static)
    for (size_t at = 0; at < n; at += MM_CHUNK) {
        size_t m = n - at < MM_CHUNK ? n - at : MM_CHUNK;
        float *restrict t = to + at;
        const float *restrict f = d + at;
        if (!fresh) {
#pragma omp simd
            for (size_t i = 0; i < m; i++) t[i] += w * f[i];
        } else if (w == 1) {
            memcpy(t, f, m * sizeof *t);
        } else {
#pragma omp simd
            for (size_t i = 0; i < m; i++) t[i] = w * f[i];
        }
    }
}

mm_tensor mm_tape_input(mm_graph *g, float *p, size_t rows, size_t cols)
{
    mm_tensor x = { p, rows, cols, NULL };
    mm_var *v = mm_tape_alloc(g, 1, sizeof *v);
    if (!v) return (mm_tensor){ 0 };
    *v = (mm_var){ .n = rows * cols, .makers = 1 }; /* the caller made it: its gradient stays */
    x.var = v;
    return x;
}

const float *mm_tape_grad(mm_tensor x) { return x.var ? x.var->d : NULL; }

void mm_tape_seed(mm_graph *g, mm_tensor x, float w)
{
    int fresh;
    float *d = x.p ? mm_tape_into(g, x, &fresh) : NULL;
    for (size_t i = 0; d && i < x.var->n; i++) d[i] = fresh ? w : d[i] + w;
}

void mm_tape_seed_grad(mm_graph *g, mm_tensor x, const float *d)
{
    if (x.p) mm_tape_give(g, x, d, NULL);
}

/* ---- segments ---- */

mm_tape_mark mm_tape_here(const mm_graph *g)
{
    return (mm_tape_mark){ mm_arena_here(g->arena), g->tape ? g->tape->last : NULL, g->tape ? g->tape->tensors : NULL };
}

static void convert(const mm_graph *g, const mm_segment *s, int back)
{
    int fmt = g->tape->keep == MM_KEEP_BF16 ? MMK_FMT_BF16 : MMK_FMT_F16;
    uint16_t *h = s->half;
    for (noted *n = s->last; n != s->end; n = n->prev) {
        if (n->again) continue;
        size_t chunk = 65536, chunks = (n->n + chunk - 1) / chunk;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)n->n)) schedule(static) if (chunks > 1)
        for (size_t c = 0; c < chunks; c++) {
            size_t at = c * chunk, m = n->n - at < chunk ? n->n - at : chunk;
            if (back) g->kern->to_f32[fmt](n->p + at, h + at, m);
            else g->kern->from_f32[fmt](h + at, n->p + at, m);
        }
        h += n->n;
    }
}

static void open_segment(mm_graph *g, const mm_segment *s)
{
    convert(g, s, 1);
    for (size_t i = 0; i < s->n_again; i++) s->again[i]->again(g, s->again[i]);
}

/* What the nodes since `from` can compute again is marked; the others are kept as halves. */
static mm_segment *close_segment(mm_graph *g, const mm_tape_mark *from)
{
    mm_tape *t = g->tape;
    mm_segment *s = mm_tape_alloc(g, 1, sizeof *s);
    size_t all = 0, kept = 0, count = 0;
    if (!s) return NULL;
    s->last = t->tensors;
    s->end = from->tensor;
    for (mm_node *n = t->last; n != from->node; n = n->prev) {
        if (!n->segment) n->segment = s;
        size_t size = n->out.rows * n->out.cols;
        if (!n->again || !size || n->out.var->changed || n->segment != s) continue;
        for (noted *x = s->last; x != s->end; x = x->prev)
            if (x->p == n->out.p && x->n == size) {
                x->again = n;
                s->n_again++;
            }
    }
    for (noted *x = s->last; x != s->end; x = x->prev) {
        all += x->n;
        if (!x->again) kept += x->n;
    }
    s->half = mm_arena_alloc(&t->own, kept, sizeof *s->half);
    s->again = mm_tape_alloc(g, s->n_again, sizeof *s->again);
    if (!s->half || !s->again) {
        g->failed = 1;
        return NULL;
    }
    for (noted *x = s->last; x != s->end; x = x->prev)
        if (x->again) s->again[s->n_again - ++count] = x->again;
    t->halves += kept * sizeof *s->half;
    count_peak(t);
    convert(g, s, 0);
    t->floats -= all * sizeof(float);
    t->tensors = s->end; /* a segment around this one has nothing more to do with them */
    return s;
}

mm_tensor mm_tape_segment(mm_graph *g, mm_tape_mark from, mm_tensor y)
{
    mm_tape *t = g->tape;
    if (!y.p || (t && t->keep == MM_KEEP_F32)) return y;
    if (t && t->last != from.node && !close_segment(g, &from)) return (mm_tensor){ 0 };
    if (t && t->last == from.node) { /* nothing was recorded: nothing waits */
        for (noted *x = t->tensors; x != from.tensor; x = x->prev) t->floats -= x->n * sizeof(float);
        t->tensors = from.tensor;
    }
    /* y moves to where the segment began. The backward pass writes over it there only when all that reads it is done. */
    mm_arena_back(g->arena, from.arena);
    mm_tensor z = mm_op_new(g, y.rows, y.cols);
    if (!z.p) return z;
    memmove(z.p, y.p, y.rows * y.cols * sizeof *y.p);
    z.var = y.var;
    return z;
}

int mm_tape_backward(mm_graph *g)
{
    mm_tape *t = g->tape;
    const mm_segment *open = NULL;
    for (mm_node *n = t->last; n && !g->failed; n = n->prev) {
        mm_var *v = n->out.var;
        v->makers--;
        if (!v->d) continue; /* nothing depends on it */
        if (n->segment && n->segment != open) open_segment(g, open = n->segment);
        n->back(g, n);
        if (!v->makers && v->d && !v->kept) {
            mm_tape_unscratch(g, v->d);
            v->d = NULL;
        }
    }
    return g->failed ? MM_ENOMEM : 0;
}

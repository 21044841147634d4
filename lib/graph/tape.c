/* The tape: nodes in the order of their recording, gradients from a pool, segments in 16 bits. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "graph/tape_int.h"

typedef struct {
    float *p;
    size_t n; /* floats */
    int used;
} slot;

typedef struct noted { /* a tensor, newest first */
    struct noted *prev;
    float *p;
    size_t n;
} noted;

typedef struct mm_segment {
    noted *last, *end; /* last .. before end */
    uint16_t *half;    /* of all of them, newest first */
} mm_segment;

struct mm_tape {
    mm_keep keep;
    mm_arena own; /* nodes, vars, halves: until reset */
    mm_node *last;
    noted *tensors;
    slot *pool;
    size_t n_pool, cap_pool;
    size_t floats, halves, grads, peak; /* bytes */
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

void mm_tape_free(mm_tape **t)
{
    if (!*t) return;
    for (size_t i = 0; i < (*t)->n_pool; i++) free((*t)->pool[i].p);
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
    for (size_t i = 0; i < t->n_pool; i++) t->pool[i].used = 0;
}

size_t mm_tape_peak(const mm_tape *t) { return t->peak; }

static void count_peak(mm_tape *t)
{
    size_t now = t->floats + t->halves + t->grads;
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
    *n = (noted){ g->tape->tensors, x.p, x.rows * x.cols };
    g->tape->tensors = n;
    g->tape->floats += n->n * sizeof(float);
    count_peak(g->tape);
}

/* ---- the pool ---- */

/* A free buffer of at least n floats that wastes little, or a new one. */
float *mm_tape_scratch(mm_graph *g, size_t n)
{
    mm_tape *t = g->tape;
    slot *best = NULL;
    if (n < 16) n = 16;
    for (size_t i = 0; i < t->n_pool; i++) {
        slot *s = &t->pool[i];
        if (!s->used && s->n >= n && s->n / 2 <= n && (!best || s->n < best->n)) best = s;
    }
    if (!best) {
        if (t->n_pool == t->cap_pool) {
            slot *p = mm_realloc(t->pool, t->cap_pool + 64, sizeof *p);
            if (!p) goto fail;
            t->pool = p;
            t->cap_pool += 64;
        }
        size_t room = n + n / 8; /* the next batch is a little longer */
        float *p = mm_aligned(room, sizeof *p);
        if (!p) goto fail;
        best = &t->pool[t->n_pool++];
        *best = (slot){ p, room, 0 };
        t->grads += room * sizeof *p;
        count_peak(t);
    }
    best->used = 1;
    return best->p;
fail:
    g->failed = 1;
    return NULL;
}

void mm_tape_unscratch(mm_graph *g, float *p)
{
    mm_tape *t = g->tape;
    for (size_t i = 0; i < t->n_pool; i++)
        if (t->pool[i].p == p) t->pool[i].used = 0;
}

/* ---- recording ---- */

void *mm_tape_add_inplace(mm_graph *g, mm_tensor out, size_t size, void (*back)(mm_graph *, mm_node *))
{
    mm_node *n = mm_tape_alloc(g, 1, size);
    if (!n) return NULL;
    n->back = back;
    n->prev = g->tape->last;
    n->out = out;
    out.var->makers++;
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
    if (!to) return;
    size_t n = x.var->n, chunk = 65536, chunks = (n + chunk - 1) / chunk;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)n)) schedule(static) if (chunks > 1)
    for (size_t c = 0; c < chunks; c++) {
        size_t at = c * chunk, m = n - at < chunk ? n - at : chunk;
        if (fresh) memcpy(to + at, d + at, m * sizeof *to);
        else g->kern->axpy(to + at, 1, d + at, m);
    }
}

mm_tensor mm_tape_input(mm_graph *g, float *p, size_t rows, size_t cols)
{
    mm_tensor x = { p, rows, cols, NULL };
    mm_var *v = mm_tape_alloc(g, 1, sizeof *v);
    if (!v) return (mm_tensor){ 0 };
    *v = (mm_var){ NULL, rows * cols, 0, 1 }; /* the caller made it: its gradient stays */
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
    for (noted *n = s->last; n != s->end; h += n->n, n = n->prev) {
        size_t chunk = 65536, chunks = (n->n + chunk - 1) / chunk;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)n->n)) schedule(static) if (chunks > 1)
        for (size_t c = 0; c < chunks; c++) {
            size_t at = c * chunk, m = n->n - at < chunk ? n->n - at : chunk;
            if (back) g->kern->to_f32[fmt](n->p + at, h + at, m);
            else g->kern->from_f32[fmt](h + at, n->p + at, m);
        }
    }
}

mm_tensor mm_tape_segment(mm_graph *g, mm_tape_mark from, mm_tensor y)
{
    mm_tape *t = g->tape;
    if (!y.p || (t && t->keep == MM_KEEP_F32)) return y;
    if (t) {
        mm_segment *s = mm_tape_alloc(g, 1, sizeof *s);
        size_t total = 0;
        if (!s) return (mm_tensor){ 0 };
        s->last = t->tensors;
        s->end = from.tensor;
        for (noted *n = s->last; n != s->end; n = n->prev) total += n->n;
        s->half = mm_arena_alloc(&t->own, total, sizeof *s->half);
        if (!s->half) {
            g->failed = 1;
            return (mm_tensor){ 0 };
        }
        t->halves += total * sizeof *s->half;
        count_peak(t);
        convert(g, s, 0);
        t->floats -= total * sizeof(float);
        for (mm_node *n = t->last; n != from.node; n = n->prev)
            if (!n->segment) n->segment = s;
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
        if (n->segment && n->segment != open) convert(g, open = n->segment, 1);
        n->back(g, n);
        if (!v->makers && v->d && !v->kept) {
            mm_tape_unscratch(g, v->d);
            v->d = NULL;
        }
    }
    return g->failed ? MM_ENOMEM : 0;
}

void mm_sum_rows(const mm_graph *g, float *out, const float *x, size_t rows, size_t cols, size_t ld)
{
    size_t chunk = 64, chunks = (cols + chunk - 1) / chunk;
#pragma omp parallel for num_threads(mm_threads_for(g, (double)(rows * cols))) schedule(static)
    for (size_t c = 0; c < chunks; c++) {
        size_t at = c * chunk, n = cols - at < chunk ? cols - at : chunk;
        for (size_t r = 0; r < rows; r++) g->kern->axpy(out + at, 1, x + r * ld + at, n);
    }
}

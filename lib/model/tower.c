/* From token ids or arrays to vectors: stem, blocks, pooling, projection, in micro-batches over the threads. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

/* Tokens of one micro-batch. Its activations (about 12 floats per token and channel) should stay in a core's L2
 * cache, while the weights, which stream past once per micro-batch, want many rows. Measured in scripts/bench. */
#define BATCH_TOKENS 256

size_t mm_tower_grid(const mm_tower_config *c, size_t *gh, size_t *gw)
{
    *gh = (size_t)((c->height - c->patch_h) / c->step_h + 1);
    *gw = (size_t)((c->width_in - c->patch_w) / c->step_w + 1);
    return *gh * *gw;
}

/* of one sequence: a group of patch_t frames */
static size_t sequence_rows(const mm_tower_config *c)
{
    size_t gh, gw;
    return mm_tower_grid(c, &gh, &gw) + (c->class_token ? 1 : 0) + (c->bias_kv ? 1 : 0);
}

static size_t groups_of(const mm_tower_config *c) { return (size_t)(c->frames / c->patch_t); }

size_t mm_tower_tokens(const mm_tower_config *c) { return groups_of(c) * sequence_rows(c); }

/* What a stem hands on. */
typedef struct {
    mm_tensor x;
    mm_ragged r;
    size_t *pick; /* [r.n] row that CLS, LAST or EOS pooling takes */
} seqs;

static size_t eos_at(const int32_t *ids, size_t n, int32_t eos)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (eos >= 0 && ids[i] == eos) return i;
        if (eos < 0 && ids[i] > ids[best]) best = i;
    }
    return eos < 0 ? best : n - 1;
}

static int stem_text(mm_graph *g, const mm_tower_job *j, const uint32_t *order, size_t n, seqs *s)
{
    const mm_tower *t = j->t;
    const mm_tower_config *c = &t->cfg;
    size_t rows = 0, extra = c->bias_kv ? 1 : 0;
    for (size_t i = 0; i < n; i++) rows += j->off[order[i] + 1] - j->off[order[i]] + extra;
    size_t *at = mm_arena_alloc(g->arena, n + 1, sizeof *at);
    int32_t *tok = mm_arena_zalloc(g->arena, rows, sizeof *tok), *pos = mm_arena_zalloc(g->arena, rows, sizeof *pos);
    s->pick = mm_arena_alloc(g->arena, n, sizeof *s->pick);
    if (!at || !tok || !pos || !s->pick) return MM_ENOMEM;
    at[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t *ids = j->ids + j->off[order[i]];
        size_t len = j->off[order[i] + 1] - j->off[order[i]];
        memcpy(tok + at[i], ids, len * sizeof *tok);
        for (size_t k = 0; k < len; k++) pos[at[i] + k] = (int32_t)(c->pos_offset + (int64_t)k);
        s->pick[i] = at[i] + (c->pool == MM_POOL_CLS ? 0 : c->pool == MM_POOL_EOS ? eos_at(ids, len, c->eos) : len - 1);
        at[i + 1] = at[i] + len + extra;
    }
    s->r = (mm_ragged){ at, n };
    s->x = mm_op_gather(g, t->tok_embd, t->tok_embd_type, (size_t)c->width, tok, rows);
    s->x = mm_op_add_rows(g, s->x, t->pos_embd, pos);
    return 0;
}

static int stem_patches(mm_graph *g, const mm_tower_job *j, const uint32_t *order, size_t n, seqs *s)
{
    const mm_tower *t = j->t;
    const mm_tower_config *c = &t->cfg;
    const mm_patch_shape shape = { (size_t)c->frames,  (size_t)c->channels, (size_t)c->height, (size_t)c->width_in, (size_t)c->patch_t,
                                   (size_t)c->patch_h, (size_t)c->patch_w,  (size_t)c->step_h, (size_t)c->step_w };
    size_t gh, gw, grid = mm_tower_grid(c, &gh, &gw), groups = groups_of(c), each = sequence_rows(c), w = (size_t)c->width;
    size_t cls = c->class_token ? 1 : 0;
    size_t *at = mm_arena_alloc(g->arena, n * groups + 1, sizeof *at);
    s->pick = mm_arena_alloc(g->arena, n * groups, sizeof *s->pick);
    s->x = mm_op_new(g, n * groups * each, w);
    if (!at || !s->pick || !s->x.p) return MM_ENOMEM;
    for (size_t i = 0; i <= n * groups; i++) at[i] = i * each;
    for (size_t i = 0; i < n * groups; i++) s->pick[i] = at[i];
    s->r = (mm_ragged){ at, n * groups };
    for (size_t i = 0; i < n; i++) {
        mm_arena_mark mark = mm_graph_here(g);
        mm_tensor p = mm_op_linear(g, mm_op_patches(g, j->x[order[i]], &shape), &t->patch, MMK_ACT_NONE, NULL, NULL);
        if (c->patch_norm) p = mm_op_layer_norm(g, p, &t->patch_norm, c->stem_eps, &p);
        if (!p.p) return MM_ENOMEM;
        for (size_t q = 0; q < groups; q++) {
            float *row = s->x.p + (i * groups + q) * each * w;
            if (cls) memcpy(row, t->class_embd, w * sizeof *row), row += w;
            for (size_t k = 0; k < grid; k++, row += w) {
                const float *a = p.p + (q * grid + k) * w, *b = t->pos_embd + (cls + k) * w;
                for (size_t d = 0; d < w; d++) row[d] = a[d] + b[d];
            }
            if (c->bias_kv) memset(row, 0, w * sizeof *row);
        }
        mm_graph_back(g, mark);
    }
    return 0;
}

static mm_tensor map_pool(mm_graph *g, const mm_tower *t, mm_tensor x, const mm_ragged *r)
{
    const mm_tower_config *c = &t->cfg;
    const mm_attention at = { (size_t)c->heads, (size_t)c->heads, (size_t)c->head_dim, 1.0f, 0 }; /* the query is scaled already */
    mm_tensor a = mm_op_query(g, t->map.query, mm_op_linear(g, x, &t->map.kv, MMK_ACT_NONE, NULL, NULL), &at, r);
    a = mm_op_linear(g, a, &t->map.out, MMK_ACT_NONE, NULL, NULL);
    mm_tensor h = mm_op_linear(g, mm_op_layer_norm(g, a, &t->map.norm, c->eps, NULL), &t->map.up, c->act, NULL, NULL);
    return mm_op_linear(g, h, &t->map.down, MMK_ACT_NONE, &a, NULL);
}

/* Squares of shuffle x shuffle tokens as one row each, its channels those of the tokens one after the other. */
static mm_tensor shuffle(mm_graph *g, const mm_tower_config *c, mm_tensor x)
{
    size_t gh, gw, grid = mm_tower_grid(c, &gh, &gw), side = (size_t)c->shuffle, w = x.cols;
    mm_tensor y = mm_op_new(g, x.rows / (side * side), w * side * side);
    if (!x.p || !y.p) return y;
    float *to = y.p;
    for (size_t first = 0; first < x.rows; first += grid)
        for (size_t r = 0; r < gh; r += side)
            for (size_t q = 0; q < gw; q += side)
                for (size_t k = 0; k < side; k++, to += side * w) memcpy(to, x.p + (first + (r + k) * gw + q) * w, side * w * sizeof *to);
    return y;
}

static mm_tensor pool(mm_graph *g, const mm_tower *t, const seqs *s)
{
    const mm_tower_config *c = &t->cfg;
    int one_row = !c->shuffle && (c->pool == MM_POOL_CLS || c->pool == MM_POOL_LAST || c->pool == MM_POOL_EOS);
    /* the norm of a row is its own: where one row is taken, only that one is normed */
    mm_tensor y = one_row ? mm_op_rows(g, s->x, s->pick, s->r.n) : s->x;
    if (c->post_norm) y = mm_op_layer_norm(g, y, &t->post_norm, c->eps, &y);
    if (c->shuffle) return shuffle(g, c, y);
    if (c->pool == MM_POOL_MAP) return map_pool(g, t, y, &s->r);
    return one_row ? y : mm_op_pool(g, y, &s->r, c->pool);
}

/* Inputs order[0..n) of the job as one ragged batch. */
static int forward(const mm_model *m, const mm_tower_job *j, const uint32_t *order, size_t n, float *vec, mm_arena *arena, int threads)
{
    if (m->uni) return mm_uni_forward(m, j, order, n, vec, arena, threads);
    const mm_tower *t = j->t;
    const mm_tower_config *c = &t->cfg;
    mm_graph g = { .kern = m->kern, .arena = arena, .threads = threads };
    seqs s;
    mm_arena_reset(arena);
    if ((j->off ? stem_text : stem_patches)(&g, j, order, n, &s)) return MM_ENOMEM;
    if (c->embd_norm) s.x = mm_op_layer_norm(&g, s.x, &t->embd_norm, c->eps, &s.x);
    for (int64_t l = 0; l < c->layers; l++) s.x = mm_block(&g, c, &t->layers[l], s.x, &s.r, NULL);
    mm_tensor y = pool(&g, t, &s);
    if (y.rows > n && !c->shuffle) { /* one row for every frame */
        size_t *at = mm_arena_alloc(arena, n + 1, sizeof *at);
        if (!at) return MM_ENOMEM;
        for (size_t i = 0; i <= n; i++) at[i] = i * (y.rows / n);
        y = mm_op_pool(&g, y, &(mm_ragged){ at, n }, MM_POOL_MEAN);
    }
    if (c->proj) y = mm_op_linear(&g, y, &t->proj, MMK_ACT_NONE, NULL, NULL);
    if (c->normalize) y = mm_op_normalize(&g, y);
    if (g.failed) return MM_ENOMEM;
    const size_t each = y.rows / n * y.cols;
    for (size_t i = 0; i < n; i++) memcpy(vec + order[i] * each, y.p + i * each, each * sizeof *vec);
    return 0;
}

typedef struct {
    size_t len;
    uint32_t i;
} by_len;

static int longer_first(const void *a, const void *b)
{
    const by_len *x = a, *y = b;
    if (x->len != y->len) return x->len < y->len ? 1 : -1;
    return x->i < y->i ? -1 : x->i > y->i;
}

/* Groups of sequences of similar length, the longest first so that threads end together. */
static size_t plan(by_len *s, size_t n, size_t budget, uint32_t *order, size_t *first)
{
    size_t groups = 0, tokens = 0;
    qsort(s, n, sizeof *s, longer_first);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || tokens + s[i].len > budget) {
            first[groups++] = i;
            tokens = 0;
        }
        tokens += s[i].len;
        order[i] = s[i].i;
    }
    first[groups] = n;
    return groups;
}

int mm_tower_run(mm_model *m, const mm_tower_job *j, float *vec, mm_err *err)
{
    size_t n = j->n, total = 0, each = j->off || m->uni ? 0 : mm_tower_tokens(&j->t->cfg);
    if (n == 0) return 0;
    int r = m->uni ? 0 : mm_tower_load(m, j->t, err);
    if (r) return r;
    int threads = m->opts.threads, failed = 0;
    by_len *s = mm_realloc(NULL, n, sizeof *s);
    uint32_t *order = mm_realloc(NULL, n, sizeof *order);
    size_t *first = mm_realloc(NULL, n + 1, sizeof *first);
    if (!s || !order || !first || n > UINT32_MAX) {
        failed = 1;
        goto end;
    }
    for (size_t i = 0; i < n; i++) {
        s[i] = (by_len){ j->off ? j->off[i + 1] - j->off[i] : m->uni ? mm_uni_tokens_of(m, j, i) : each, (uint32_t)i };
        total += s[i].len;
    }
    /* enough groups to keep every thread busy, but none so small that its products run badly */
    size_t budget = total / (size_t)threads;
    if (budget > BATCH_TOKENS) budget = BATCH_TOKENS;
    if (budget < 64) budget = 64;
    size_t groups = plan(s, n, budget, order, first);
    if (!m->uni) mm_tower_settle(m, j->t, j->off ? groups : n); /* patches are made input by input */
    /* Threads work on groups of their own, which needs no barriers; few sequences share the threads inside each
     * product. Either way a row's operations are the same. */
    if (groups < (size_t)threads) {
        for (size_t i = 0; i < groups; i++)
            failed |= forward(m, j, order + first[i], first[i + 1] - first[i], vec, &m->scratch[0], threads) != 0;
        goto end;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(| : failed) if (threads > 1)
    for (size_t i = 0; i < groups; i++)
        failed |= forward(m, j, order + first[i], first[i + 1] - first[i], vec, &m->scratch[omp_get_thread_num()], 1) != 0;
end:
    free(s);
    free(order);
    free(first);
    return failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

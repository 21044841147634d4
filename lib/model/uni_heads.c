/* Heads: streams of the trunk whose tokens see what is given and each other. */
#include <math.h>
#include <string.h>
#include "model/mm_uni_heads.h"
#include "model/uni_int.h"

static const mm_tensor none;

mm_uni_given mm_uni_see(mm_graph *g, const mm_uni *u, const mm_uni_in *in, mm_tensor *vec)
{
    mm_graph plain = *g;
    size_t layers = (size_t)u->c.layers;
    plain.tape = NULL;
    mm_uni_given s = { mm_arena_zalloc(g->arena, layers, sizeof *s.qkv), { 0 } };
    if (!s.qkv) plain.failed = 1;
    mm_uni_tokens t = mm_uni_stem(&plain, u, in);
    s.r = t.r;
    for (size_t l = 0; l < layers && !plain.failed; l++) s.qkv[l] = mm_op_new(&plain, t.x.rows, 3 * t.x.cols);
    mm_tensor x = plain.failed ? none : mm_uni_trunk_kept(&plain, u, &t, s.qkv);
    if (vec && x.p) *vec = mm_uni_pool(&plain, u, &t, x);
    g->failed |= plain.failed;
    return s;
}

/* Sequences of `own` tokens, each behind those that it is about; own [n + 1] offsets. */
static int lay_out(mm_graph *g, uni_layout *y, const mm_uni_given *given, const size_t *of, size_t n, const size_t *own)
{
    size_t before = given && given->qkv ? given->r.off[given->r.n] : 0, rows = own[n], total = rows, at = 0;
    size_t *off = mm_arena_alloc(g->arena, n + 1, sizeof *off), *row = mm_arena_alloc(g->arena, rows, sizeof *row);
    for (size_t i = 0; i < n && before; i++) {
        size_t k = of ? of[i] : i;
        if (k != SIZE_MAX) total += given->r.off[k + 1] - given->r.off[k];
    }
    size_t *seq = mm_arena_alloc(g->arena, total, sizeof *seq);
    if (!off || !row || !seq) return g->failed = 1;
    for (size_t i = 0; i < n; i++) {
        size_t k = of ? of[i] : i;
        off[i] = at;
        if (before && k != SIZE_MAX)
            for (size_t r = given->r.off[k]; r < given->r.off[k + 1]; r++) seq[at++] = r;
        for (size_t r = own[i]; r < own[i + 1]; r++) {
            row[r] = at;
            seq[at++] = before + r;
        }
    }
    off[n] = at;
    y->n = 1;
    y->off[1] = rows;
    y->r = (mm_ragged){ off, n };
    y->seq = seq;
    y->row = row;
    y->given = before ? given->qkv : NULL;
    return 0;
}

static mm_tensor through(mm_graph *g, const mm_uni *u, const uni_layout *y, mm_tensor x)
{
    const uni_head *h = &u->head[y->mod[0] - MM_MODALITIES];
    for (int64_t l = 0; l < u->c.layers && x.p; l++) x = mm_uni_block(g, u, (size_t)l, y, x);
    return mm_op_linear(g, mm_op_layer_norm(g, x, &h->last, u->c.eps, NULL), &h->out, MMK_ACT_NONE, NULL, NULL);
}

static float *angles(mm_graph *g, const mm_uni *u, size_t rows, uni_layout *y)
{
    size_t half = (size_t)(u->c.width / u->c.heads / 2);
    float *cos = mm_arena_alloc(g->arena, 2 * rows * half, sizeof *cos);
    if (!cos) g->failed = 1;
    y->cos = cos;
    y->sin = cos ? cos + rows * half : NULL;
    return cos;
}

mm_tensor mm_uni_words_in(mm_graph *g, const mm_uni *u, const int32_t *ids, size_t n)
{
    const uni_head *h = &u->head[MM_UNI_NEXT - MM_MODALITIES];
    mm_tensor x = mm_uni_lookup(g, &h->words, ids, n);
    return mm_op_linear(g, x, &h->in, MMK_ACT_NONE, NULL, NULL);
}

mm_tensor mm_uni_next(mm_graph *g, const mm_uni *u, const mm_uni_words *w)
{
    uni_layout y = { .mod = { MM_UNI_NEXT }, .causal = 1 };
    size_t rows = w->off[w->n], half = (size_t)(u->c.width / u->c.heads / 2);
    float *cos = angles(g, u, rows, &y);
    if (!cos || lay_out(g, &y, w->given, w->of, w->n, w->off)) return none;
    for (size_t i = 0; i < w->n; i++)
        for (size_t r = w->off[i]; r < w->off[i + 1]; r++) {
            float n = (float)(r - w->off[i]);
            mm_uni_place(cos + r * half, cos + (rows + r) * half, half, (const float[]){ n, n, n });
        }
    return through(g, u, &y, mm_uni_words_in(g, u, w->ids, rows));
}

mm_tensor mm_uni_logits(mm_graph *g, const mm_uni *u, mm_tensor h)
{
    return mm_op_linear(g, h, &u->head[MM_UNI_NEXT - MM_MODALITIES].logits, MMK_ACT_NONE, NULL, NULL);
}

/* ---- pictures ---- */

size_t mm_uni_patches(const mm_uni_config *c)
{
    size_t side = c->patch ? (size_t)(c->mod[MM_IMAGE].size / c->patch) : 0;
    return side * side;
}

size_t mm_uni_patch_size(const mm_uni_config *c) { return (size_t)(3 * c->patch * c->patch); }

/* The squares of 4 x 4 pixels that belong to a patch follow each other, so that patches are runs of them and the stem takes them as they are. */
void mm_uni_to_patches(const mm_uni_config *c, const float *picture, float *patches)
{
    size_t side = (size_t)c->mod[MM_IMAGE].size;
    mm_uni_squares(patches, picture, 1, side, side);
    for (size_t i = 0; i < 3 * side * side; i++) patches[i] *= 0.5f;
}

/* Where square number k of a picture lies. */
static void square_at(size_t k, size_t side, size_t *y, size_t *x)
{
    size_t cell = k / 16, z = k % 16, across = side / 16;
    *y = cell / across * 16 + (z >> 3 & 1) * 8 + (z >> 1 & 1) * 4;
    *x = cell % across * 16 + (z >> 2 & 1) * 8 + (z & 1) * 4;
}

void mm_uni_from_patches(const mm_uni_config *c, const float *patches, float *picture)
{
    size_t side = (size_t)c->mod[MM_IMAGE].size, plane = side * side;
    for (size_t k = 0; k < plane / 16; k++) {
        size_t y, x;
        square_at(k, side, &y, &x);
        for (size_t ch = 0; ch < 3; ch++)
            for (size_t r = 0; r < 4; r++)
                for (size_t q = 0; q < 4; q++) picture[ch * plane + (y + r) * side + x + q] = 2 * *patches++;
    }
}

/* Waves of the time: slow ones and fast ones. */
static mm_tensor waves(mm_graph *g, const mm_uni_canvas *c)
{
    mm_tensor x = mm_op_new(g, c->n, MM_UNI_TIME);
    for (size_t i = 0; x.p && i < c->n; i++)
        for (size_t k = 0; k < MM_UNI_TIME / 2; k++) {
            float a = c->t[i] * 3.14159265f * powf(64, (float)k / (MM_UNI_TIME / 2 - 1));
            x.p[i * MM_UNI_TIME + 2 * k] = cosf(a);
            x.p[i * MM_UNI_TIME + 2 * k + 1] = sinf(a);
        }
    return x;
}

mm_tensor mm_uni_flow(mm_graph *g, const mm_uni *u, const mm_uni_canvas *c)
{
    uni_layout y = { .mod = { MM_UNI_FLOW } };
    const uni_head *h = &u->head[MM_UNI_FLOW - MM_MODALITIES];
    size_t patches = mm_uni_patches(&u->c), rows = c->n * patches, half = (size_t)(u->c.width / u->c.heads / 2), side = (size_t)u->c.mod[MM_IMAGE].size;
    size_t *own = mm_arena_alloc(g->arena, c->n + 1, sizeof *own), *pick = mm_arena_alloc(g->arena, rows, sizeof *pick);
    float *cos = angles(g, u, rows, &y), middle = 6 / (float)side;
    if (!own || !pick || !cos) {
        g->failed = 1;
        return none;
    }
    for (size_t i = 0; i <= c->n; i++) own[i] = i * patches;
    if (lay_out(g, &y, c->given, c->of, c->n, own)) return none;
    for (size_t r = 0; r < rows; r++) {
        size_t at[2], squares = (size_t)(u->c.patch * u->c.patch / 16);
        square_at(r % patches * squares, side, &at[0], &at[1]);
        float where[3] = { 0, middle * ((float)at[0] + 0.5f * (float)u->c.patch), middle * ((float)at[1] + 0.5f * (float)u->c.patch) };
        if (u->c.positions == MM_UNI_UNALIGNED) /* in patches of the encoder */
            for (int k = 0; k < 2; k++) where[1 + k] = ((float)at[k] + 0.5f * (float)u->c.patch) / 16 - 0.5f;
        mm_uni_place(cos + r * half, cos + (rows + r) * half, half, where);
        pick[r] = r / patches;
    }
    mm_tensor t = mm_op_linear(g, mm_op_linear(g, waves(g, c), &h->time[0], MMK_ACT_GELU_TANH, NULL, NULL), &h->time[1], MMK_ACT_NONE, NULL, NULL);
    t = mm_op_rows(g, t, pick, rows);
    mm_tensor x = mm_op_linear(g, mm_tensor_of(c->z, rows, mm_uni_patch_size(&u->c)), &h->in, MMK_ACT_NONE, &t, NULL);
    return through(g, u, &y, x);
}

mm_tensor mm_uni_embed_patches(mm_graph *g, const mm_uni *u, mm_tensor x)
{
    size_t side = (size_t)u->c.mod[MM_IMAGE].size, squares = side * side / 16;
    const float twice = 2;
    mm_tensor rows = mm_op_reshape(g, mm_op_sum(g, &x, &twice, 1), x.rows * x.cols / 48, 48);
    const mm_uni_in in = { .mod = MM_IMAGE, .n = rows.rows / squares, .height = side, .width = side, .squares = &rows };
    return mm_uni_embed(g, u, &in);
}

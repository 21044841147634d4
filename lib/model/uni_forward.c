/* The unified model's way from inputs to vectors, in operations of the graph: recorded or not. */
#include <math.h>
#include <string.h>
#include "model/uni_int.h"

#define SILENCE (-1.0f) /* of a normalised log-mel value; what sounds are filled up with */
#define MEL 64
#define TOKEN_FRAMES 8 /* 80 ms */
#define PATCH 16

/* ---- stems ---- */

/* One picture, or a pair of frames, as rows of 4 x 4 pixels; rows that will be merged follow each other (z-order inside a patch, patches by
 * rows). x [frames, 3, height, width]; of `pair` frames each. Returns where the next row goes. */
static float *squares(float *to, const float *x, size_t pair, size_t height, size_t width)
{
    size_t plane = height * width;
    for (size_t py = 0; py < height; py += PATCH)
        for (size_t px = 0; px < width; px += PATCH)
            for (size_t z = 0; z < 16; z++) {
                size_t y0 = py + (z >> 3 & 1) * 8 + (z >> 1 & 1) * 4, x0 = px + (z >> 2 & 1) * 8 + (z & 1) * 4;
                for (size_t c = 0; c < 3 * pair; c++)
                    for (size_t y = 0; y < 4; y++, to += 4) memcpy(to, x + c * plane + (y0 + y) * width + x0, 4 * sizeof *to);
            }
    return to;
}

static size_t tokens_of(const mm_uni_in *in, size_t i)
{
    size_t grid = in->height / PATCH * (in->width / PATCH);
    switch (in->mod) {
    case MM_TEXT: return in->off[i + 1] - in->off[i];
    case MM_AUDIO: return (in->frames[i] + TOKEN_FRAMES - 1) / TOKEN_FRAMES;
    case MM_VIDEO: return in->frames[i] / 2 * grid;
    default: return grid;
    }
}

static mm_tensor merge(mm_graph *g, const uni_entry *e, mm_tensor x, size_t fold)
{
    for (int i = 0; i < 3; i++) {
        if (i) x = mm_op_reshape(g, x, x.rows / fold, x.cols * fold);
        x = mm_op_linear(g, x, &e->stem[i], i < 2 ? MMK_ACT_GELU_TANH : MMK_ACT_NONE, NULL, NULL);
    }
    return x;
}

static mm_tensor stem_pixels(mm_graph *g, const uni_entry *e, const mm_uni_in *in, size_t rows)
{
    size_t pair = in->mod == MM_VIDEO ? 2 : 1, one = 3 * in->height * in->width;
    mm_tensor x = mm_op_new(g, rows * 16, 48 * pair);
    float *to = x.p;
    for (size_t i = 0; to && i < in->n; i++)
        for (size_t f = 0, n = pair == 1 ? 1 : in->frames[i]; f < n; f += pair) to = squares(to, in->x[i] + f * one, pair, in->height, in->width);
    return merge(g, e, x, 4);
}

static mm_tensor stem_sound(mm_graph *g, const uni_entry *e, const mm_uni_in *in, size_t rows)
{
    mm_tensor x = mm_op_new(g, rows * TOKEN_FRAMES / 2, 2 * MEL);
    float *to = x.p;
    for (size_t i = 0; to && i < in->n; i++) {
        size_t have = in->frames[i] * MEL, all = tokens_of(in, i) * TOKEN_FRAMES * MEL;
        memcpy(to, in->x[i], have * sizeof *to);
        for (size_t k = have; k < all; k++) to[k] = SILENCE;
        to += all;
    }
    return merge(g, e, x, 2);
}

/* ---- positions ---- */

static void place(float *cos, float *sin, size_t half, const float at[3])
{
    size_t each = (half + 2) / 3;
    for (size_t i = 0; i < half; i++) {
        float angle = at[i % 3] * powf(100.0f, -(float)(i / 3) / (float)each);
        cos[i] = cosf(angle);
        sin[i] = sinf(angle);
    }
}

static void places(const mm_uni *u, const mm_uni_in *in, mm_uni_tokens *t)
{
    size_t half = (size_t)(u->c.width / u->c.heads / 2), gw = in->width / PATCH, grid = in->height / PATCH * gw;
    for (size_t i = 0; i < in->n; i++)
        for (size_t k = 0, row = t->r.off[i]; row < t->r.off[i + 1]; k++, row++) {
            float n = (float)k, at[3] = { n, n, n };
            if (in->mod == MM_AUDIO) at[1] = at[2] = 0;
            if (in->mod == MM_IMAGE || in->mod == MM_VIDEO) {
                size_t f = k / grid * 2, cell = k % grid;
                float seconds = in->times && in->mod == MM_VIDEO ? in->times[i][f] : 0.5f * (float)f;
                at[0] = in->mod == MM_VIDEO ? seconds / 0.08f : 0;
                at[1] = 6 * ((float)(cell / gw) + 0.5f) / (float)(in->height / PATCH);
                at[2] = 6 * ((float)(cell % gw) + 0.5f) / (float)gw;
            }
            place(t->cos + row * half, t->sin + row * half, half, at);
        }
}

mm_uni_tokens mm_uni_stem(mm_graph *g, const mm_uni *u, const mm_uni_in *in)
{
    const uni_entry *e = &u->entry[in->mod];
    size_t half = (size_t)(u->c.width / u->c.heads / 2);
    size_t *off = mm_arena_alloc(g->arena, in->n + 1, sizeof *off);
    mm_uni_tokens t = { .mod = in->mod, .causal = in->causal };
    if (!off) {
        g->failed = 1;
        return t;
    }
    off[0] = 0;
    for (size_t i = 0; i < in->n; i++) off[i + 1] = off[i] + tokens_of(in, i);
    size_t rows = off[in->n];
    t.r = (mm_ragged){ off, in->n };
    t.cos = mm_arena_alloc(g->arena, rows * half, sizeof *t.cos);
    t.sin = mm_arena_alloc(g->arena, rows * half, sizeof *t.sin);
    if (!t.cos || !t.sin) {
        g->failed = 1;
        return t;
    }
    places(u, in, &t);
    mm_tensor x;
    if (in->mod == MM_TEXT) {
        x = u->stored ? mm_op_gather(g, u->stored, u->stored_type, u->tokens->cols, in->ids, rows) : mm_op_lookup(g, u->tokens, in->ids, rows);
    } else {
        x = in->mod == MM_AUDIO ? stem_sound(g, e, in, rows) : stem_pixels(g, e, in, rows);
        x = mm_op_layer_norm(g, x, &e->norm, u->c.eps, &x);
    }
    x = mm_op_linear(g, x, &e->in, MMK_ACT_NONE, NULL, NULL);
    mm_tensor id = mm_op_param(g, e->ident);
    mm_tensor gate = mm_op_sigmoid(g, mm_op_linear(g, id, &u->gate, MMK_ACT_NONE, NULL, NULL));
    mm_tensor shift = mm_op_linear(g, id, &u->shift, MMK_ACT_NONE, NULL, NULL);
    t.x = mm_op_affine(g, x, gate, &shift);
    return t;
}

/* ---- trunk ---- */

static mm_tensor block(mm_graph *g, const mm_uni *u, const uni_layer *l, const mm_uni_tokens *t, mm_tensor x)
{
    size_t heads = (size_t)u->c.heads, dim = (size_t)(u->c.width / u->c.heads);
    const mm_attention at = { heads, heads, dim, 1 / sqrtf((float)dim), t->causal };
    const size_t runs[2] = { 0, x.rows };
    const mm_ragged all = { runs, 1 };
    int m = (int)t->mod;
    mm_tape_mark mark = mm_tape_here(g);
    mm_tensor a = mm_op_layer_norm(g, x, &l->norm[0][m], u->c.eps, NULL);
    a = mm_op_rotary(g, mm_op_linear(g, a, &l->qkv[m], MMK_ACT_NONE, NULL, NULL), t->cos, t->sin, 2 * heads, dim);
    a = mm_op_linear(g, mm_op_attention(g, a, &at, &t->r, NULL), &l->out[m], MMK_ACT_NONE, NULL, NULL);
    x = mm_op_add_scaled_runs(g, x, a, &l->scale[0][m], &all, &x);
    a = mm_op_layer_norm(g, x, &l->norm[1][m], u->c.eps, NULL);
    a = mm_op_linear(g, a, &l->up[m], MMK_ACT_GELU_TANH, NULL, NULL);
    a = mm_op_linear(g, a, &l->down[m], MMK_ACT_NONE, NULL, NULL);
    x = mm_op_add_scaled_runs(g, x, a, &l->scale[1][m], &all, &x);
    if (g->tape) return mm_tape_segment(g, mark, x);
    mm_arena_back(g->arena, mark.arena); /* x is where it was */
    return x;
}

mm_tensor mm_uni_trunk(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t)
{
    mm_tensor x = t->x;
    for (int64_t l = 0; l < u->c.layers; l++) x = block(g, u, &u->layers[l], t, x);
    if (t->mod != MM_TEXT) x = mm_op_layer_norm(g, x, &u->entry[t->mod].last, u->c.eps, &x);
    return x;
}

mm_tensor mm_uni_pool(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t, mm_tensor x)
{
    x = mm_op_attend(g, x, mm_op_param(g, u->entry[t->mod].query), (size_t)u->c.heads, &t->r);
    return mm_op_normalize(g, mm_op_linear(g, x, &u->proj, MMK_ACT_NONE, NULL, NULL));
}

mm_tensor mm_uni_embed(mm_graph *g, const mm_uni *u, const mm_uni_in *in)
{
    mm_uni_tokens t = mm_uni_stem(g, u, in);
    return mm_uni_pool(g, u, &t, mm_uni_trunk(g, u, &t));
}

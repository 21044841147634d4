/* The transformer block, once, for every family: what differs between them is in mm_tower_config. */
#include <math.h>
#include <string.h>
#include "model/model_int.h"

static mm_attention shape(const mm_tower_config *c)
{
    return (mm_attention){ (size_t)c->heads, (size_t)c->kv_heads, (size_t)c->head_dim, 1.0f / sqrtf((float)c->head_dim), c->causal };
}

/* Rows of every input from (frame, place) to (place, frame) order, or back; to may not be from. */
static void swap_frames(float *to, const float *from, size_t inputs, size_t frames, size_t places, size_t width, int back)
{
    for (size_t i = 0; i < inputs; i++)
        for (size_t f = 0; f < frames; f++)
            for (size_t p = 0; p < places; p++) {
                size_t a = (i * frames + f) * places + p, b = (i * places + p) * frames + f;
                memcpy(to + (back ? a : b) * width, from + (back ? b : a) * width, width * sizeof *to);
            }
}

/* Attention over the frames of each place. The sequences of r are frames, all of the same length. */
static mm_tensor over_time(mm_graph *g, const mm_tower_config *c, const mm_layer *l, mm_tensor x, const mm_ragged *r)
{
    size_t frames = (size_t)c->frames, inputs = r->n / frames, places = r->off[1], width = x.cols, seqs = inputs * places;
    const mm_attention at = shape(c);
    mm_tensor y = mm_op_new(g, x.rows, width);
    size_t *off = mm_arena_alloc(g->arena, seqs + 1, sizeof *off);
    if (!y.p || !off) {
        g->failed = 1;
        return y;
    }
    for (size_t i = 0; i <= seqs; i++) off[i] = i * frames;
    swap_frames(y.p, x.p, inputs, frames, places, width, 0);
    for (size_t i = 0; i < y.rows && frames > 1; i++)
        for (size_t k = 0; k < width; k++) y.p[i * width + k] += l->time_embd[i % frames * width + k];
    mm_tensor a = mm_op_layer_norm(g, y, &l->time_norm, c->eps, NULL);
    a = mm_op_attention(g, mm_op_linear(g, a, &l->time_qkv, MMK_ACT_NONE, NULL, NULL), &at, &(mm_ragged){ off, seqs }, NULL);
    y = mm_op_linear(g, a, &l->time_out, MMK_ACT_NONE, &y, &y);
    if (y.p) swap_frames(x.p, y.p, inputs, frames, places, width, 1);
    return y.p ? x : y;
}

static mm_tensor norm(mm_graph *g, const mm_tower_config *c, mm_tensor x, const mm_norm *w, const mm_tensor *into)
{
    return c->rms ? mm_op_rms_norm(g, x, w, c->eps, into) : mm_op_layer_norm(g, x, w, c->eps, into);
}

/* Of a decoder: positions by rotation, and all that is kept of a sequence is seen, or where nothing is kept what comes before in it. */
static mm_tensor going_on(mm_graph *g, const mm_tower_config *c, const mm_layer *l, mm_tensor qkv, const mm_ragged *r, const mm_going_on *on)
{
    size_t heads = (size_t)c->heads, kv = (size_t)c->kv_heads, d = (size_t)c->head_dim;
    const mmk_kv_shape s = { on->kv_type, heads, kv, d, c->attn_scale > 0 ? c->attn_scale : 1.0f / sqrtf((float)d),
                             on->local ? (size_t)c->near : 0 };
    if (c->head_norms) {
        qkv = mm_op_norm_heads(g, qkv, 0, heads, d, &l->q_norm, c->eps);
        qkv = mm_op_norm_heads(g, qkv, heads * d, kv, d, &l->k_norm, c->eps);
    }
    qkv = mm_op_rotary(g, qkv, on->cos, on->sin, heads + kv, d);
    if (!on->kept) return mm_op_attention(g, qkv, &(mm_attention){ heads, kv, d, s.scale, 1 }, r, NULL);
    return mm_op_attention_kept(g, qkv, &s, on->kept, on->n);
}

/* y = x + (normed) W a, in place of x where that can be */
static mm_tensor add(mm_graph *g, const mm_tower_config *c, mm_tensor a, const mm_linear *w, const mm_norm *sum_norm, mm_tensor x,
                     const mm_tensor *into)
{
    if (!c->sum_norms) return mm_op_linear(g, a, w, MMK_ACT_NONE, &x, into);
    mm_tensor y = mm_op_linear(g, a, w, MMK_ACT_NONE, NULL, NULL);
    y = norm(g, c, y, sum_norm, &y);
    const mm_tensor both[2] = { x, y };
    const float one[2] = { 1, 1 };
    y = mm_op_sum(g, both, one, 2);
    if (!into || !y.p || g->tape) return y;
    memcpy(into->p, y.p, y.rows * y.cols * sizeof *y.p);
    return *into;
}

mm_tensor mm_block(mm_graph *g, const mm_tower_config *c, const mm_layer *l, mm_tensor x, const mm_ragged *r, const mm_going_on *on)
{
    const mm_attention at = shape(c);
    mm_arena_mark mark = mm_graph_here(g);
    if (c->time_attention) {
        x = over_time(g, c, l, x, r);
        mm_graph_back(g, mark);
    }
    mm_tensor a = x, y, up;
    if (c->pre_norm) a = norm(g, c, x, &l->attn_norm, NULL);
    a = mm_op_linear(g, a, &l->qkv, MMK_ACT_NONE, NULL, NULL);
    if (c->bias_kv && a.p) {
        size_t w = x.cols;
        for (size_t s = 0; s < r->n; s++) {
            float *row = a.p + (r->off[s + 1] - 1) * a.cols;
            memcpy(row + w, l->bias_k, w * sizeof *row);
            memcpy(row + 2 * w, l->bias_v, w * sizeof *row);
        }
    }
    a = on ? going_on(g, c, l, a, r, on) : mm_op_attention(g, a, &at, r, NULL);
    y = add(g, c, a, &l->out, &l->attn_sum_norm, x, NULL);
    /* x is not needed from here on: the block's result goes where its input was */
    if (c->pre_norm) {
        up = mm_op_linear(g, norm(g, c, y, &l->ff_norm, NULL), &l->up, c->gated ? MMK_ACT_NONE : c->act, NULL, NULL);
        if (c->gated) up = mm_op_gate(g, up, c->act);
        y = add(g, c, up, &l->down, &l->ff_sum_norm, y, &x);
    } else {
        y = mm_op_layer_norm(g, y, &l->attn_norm, c->eps, &y);
        up = mm_op_linear(g, y, &l->up, c->act, NULL, NULL);
        y = mm_op_linear(g, up, &l->down, MMK_ACT_NONE, &y, &x);
        y = mm_op_layer_norm(g, y, &l->ff_norm, c->eps, &y);
    }
    mm_graph_back(g, mark);
    return y;
}

/* The transformer block, once, for every family: what differs between them is in mm_model_config. */
#include <math.h>
#include "model/model_int.h"

mm_tensor mm_block(mm_graph *g, const mm_model_config *c, const mm_layer *l, mm_tensor x, const mm_ragged *r)
{
    const mm_attention at = { (size_t)c->heads, (size_t)c->kv_heads, (size_t)c->head_dim,
                              1.0f / sqrtf((float)c->head_dim), c->causal };
    mm_arena_mark mark = mm_arena_here(g->arena);
    mm_tensor a = x, y, up;
    if (c->pre_norm) a = mm_op_layer_norm(g, x, &l->attn_norm, c->eps, NULL);
    a = mm_op_attention(g, mm_op_linear(g, a, &l->qkv, MMK_ACT_NONE, NULL, NULL), &at, r);
    y = mm_op_linear(g, a, &l->out, MMK_ACT_NONE, &x, NULL);
    /* x is not needed from here on: the block's result goes where its input was */
    if (c->pre_norm) {
        up = mm_op_linear(g, mm_op_layer_norm(g, y, &l->ff_norm, c->eps, NULL), &l->up, c->act, NULL, NULL);
        y = mm_op_linear(g, up, &l->down, MMK_ACT_NONE, &y, &x);
    } else {
        y = mm_op_layer_norm(g, y, &l->attn_norm, c->eps, &y);
        up = mm_op_linear(g, y, &l->up, c->act, NULL, NULL);
        y = mm_op_linear(g, up, &l->down, MMK_ACT_NONE, &y, &x);
        y = mm_op_layer_norm(g, y, &l->ff_norm, c->eps, &y);
    }
    mm_arena_back(g->arena, mark);
    return y;
}

/* A decoder's way through whole sequences, recorded or not. */
#include "model/lm_int.h"
#include "model/mm_lm_tape.h"

size_t mm_lm_tape_most(const mm_lm *lm)
{
    const mm_tower_config *c = &mm_lm_tower(lm)->cfg;
    if (lm->m->uni || !lm->opts.plain) return 0;
    return c->local && c->near && (size_t)c->near < lm->opts.context ? (size_t)c->near : lm->opts.context;
}

mm_tensor mm_lm_words(mm_graph *g, const mm_lm *lm, const int32_t *ids, size_t n)
{
    mm_tensor x = mm_op_new(g, n, (size_t)mm_lm_tower(lm)->cfg.width);
    if (x.p && mm_lm_embed(lm, ids, n, x.p, NULL)) g->failed = 1;
    return x;
}

/* cos, then sin, [rows, head_dim / 2] */
static float *turns(mm_graph *g, const mm_ragged *r, size_t half, const double *angle, double factor)
{
    const size_t rows = r->off[r->n];
    float *cs = mm_arena_alloc(g->arena, 2 * rows * half, sizeof *cs);
    for (size_t s = 0; cs && s < r->n; s++)
        for (size_t i = r->off[s]; i < r->off[s + 1]; i++) mm_lm_turn(cs + i * half, cs + (rows + i) * half, half, angle, factor, i - r->off[s]);
    return cs;
}

mm_tensor mm_lm_through(mm_graph *g, const mm_lm *lm, mm_tensor x, const mm_ragged *r)
{
    const mm_tower *t = mm_lm_tower(lm);
    const size_t half = (size_t)t->cfg.head_dim / 2;
    const float *far = turns(g, r, half, t->turn, t->cfg.rope.attention);
    const float *near = t->cfg.local ? turns(g, r, half, t->turn_local, t->cfg.rope_local.attention) : far;
    if (!far || !near) g->failed = 1;
    for (int64_t l = 0; l < t->cfg.layers && !g->failed; l++) {
        const float *cs = t->cfg.local && t->cfg.local[l] ? near : far;
        const mm_going_on on = { .cos = cs, .sin = cs + r->off[r->n] * half };
        const mm_tape_mark mark = mm_tape_here(g);
        x = mm_block(g, &t->cfg, &t->layers[l], x, r, &on);
        if (g->tape) x = mm_tape_segment(g, mark, x);
    }
    return mm_op_rms_norm(g, x, &t->post_norm, t->cfg.eps, NULL);
}

mm_tensor mm_lm_logits(mm_graph *g, const mm_lm *lm, mm_tensor h) { return mm_op_linear(g, h, &mm_lm_tower(lm)->head, MMK_ACT_NONE, NULL, NULL); }

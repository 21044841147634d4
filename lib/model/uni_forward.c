/* The unified model's way from inputs to vectors, in operations of the graph: recorded or not. */
#include <math.h>
#include <string.h>
#include "model/uni_int.h"

#define SILENCE (-1.0f) /* of a normalised log-mel value; what sounds are filled up with */
#define MEL MM_UNI_MEL
#define TOKEN_FRAMES 8 /* 80 ms */
#define PATCH 16

/* ---- stems ---- */

/* One picture, or a pair of frames, as rows of 4 x 4 pixels; rows that will be merged follow each other (z-order inside a patch, patches by
 * rows). x [frames, 3, height, width]; of `pair` frames each. Returns where the next row goes. */
float *mm_uni_squares(float *to, const float *x, size_t pair, size_t height, size_t width)
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

size_t mm_uni_in_tokens(const mm_uni_in *in, size_t i)
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
    if (in->squares) return merge(g, e, *in->squares, 4);
    mm_tensor x = mm_op_new(g, rows * 16, 48 * pair);
    float *to = x.p;
    for (size_t i = 0; to && i < in->n; i++)
        for (size_t f = 0, n = pair == 1 ? 1 : in->frames[i]; f < n; f += pair) to = mm_uni_squares(to, in->x[i] + f * one, pair, in->height, in->width);
    return merge(g, e, x, 4);
}

static mm_tensor stem_sound(mm_graph *g, const uni_entry *e, const mm_uni_in *in, size_t rows)
{
    mm_tensor x = mm_op_new(g, rows * TOKEN_FRAMES / 2, 2 * MEL);
    float *to = x.p;
    for (size_t i = 0; to && i < in->n; i++) {
        size_t have = in->frames[i] * MEL, all = mm_uni_in_tokens(in, i) * TOKEN_FRAMES * MEL;
        memcpy(to, in->x[i], have * sizeof *to);
        for (size_t k = have; k < all; k++) to[k] = SILENCE;
        to += all;
    }
    return merge(g, e, x, 2);
}

/* ---- positions ---- */

void mm_uni_place(float *cos, float *sin, size_t half, const float at[3])
{
    size_t each = (half + 2) / 3;
    for (size_t i = 0; i < half; i++) {
        float angle = at[i % 3] * powf(100.0f, -(float)(i / 3) / (float)each);
        cos[i] = cosf(angle);
        sin[i] = sinf(angle);
    }
}

/* Where token k of input i is. */
static void place(const mm_uni_config *c, const mm_uni_in *in, size_t i, size_t k, float at[3])
{
    const size_t gh = in->height / PATCH, gw = in->width / PATCH, grid = gh * gw;
    at[0] = at[1] = at[2] = (float)k;
    if (in->mod == MM_AUDIO) at[1] = at[2] = 0;
    if (in->mod != MM_IMAGE && in->mod != MM_VIDEO) return;
    const size_t pair = k / grid, cell = k % grid;
    at[0] = (float)pair;
    at[1] = (float)(cell / gw);
    at[2] = (float)(cell % gw);
    if (c->positions != MM_UNI_ALIGNED) return;
    at[0] = (in->times && in->times[i] ? in->times[i][2 * pair] : (float)pair) / 0.08f;
    at[1] = 6 * (at[1] + 0.5f) / (float)gh;
    at[2] = 6 * (at[2] + 0.5f) / (float)gw;
}

static void places(const mm_uni *u, const mm_uni_in *in, mm_uni_tokens *t)
{
    size_t half = (size_t)(u->c.width / u->c.heads / 2);
    for (size_t i = 0; i < in->n; i++)
        for (size_t k = 0, row = t->r.off[i]; row < t->r.off[i + 1]; k++, row++) {
            float at[3] = { 0 };
            if (u->c.positions != MM_UNI_ABSOLUTE) place(&u->c, in, i, k, at);
            mm_uni_place(t->cos + row * half, t->sin + row * half, half, at);
        }
}

void mm_uni_axes(const mm_uni_config *c, int m, size_t n[3])
{
    const size_t frames = (size_t)c->mod[m].frames;
    n[0] = m == MM_TEXT ? (size_t)c->window : m == MM_AUDIO ? (frames + TOKEN_FRAMES - 1) / TOKEN_FRAMES : m == MM_VIDEO ? frames / 2 : 0;
    n[1] = n[2] = m == MM_IMAGE || m == MM_VIDEO ? (size_t)c->mod[m].size / PATCH : 0;
}

/* Shares of an axis' n vectors for a place on it. */
static void shares(float *to, size_t n, float at)
{
    const float last = (float)(n - 1);
    const size_t low = at <= 0 ? 0 : at >= last ? n - 1 : (size_t)at;
    const float rest = at <= 0 || at >= last ? 0 : at - (float)low;
    to[low] += 1 - rest;
    if (rest > 0) to[low + 1] += rest;
}

/* Absolute positions, added to x. Grids of another size are laid over the configuration's, and longer inputs drawn together to its length. */
static mm_tensor with_positions(mm_graph *g, const mm_uni *u, const mm_uni_in *in, const mm_ragged *r, mm_tensor x)
{
    const size_t grid[2] = { in->height / PATCH, in->width / PATCH };
    size_t n[3];
    mm_uni_axes(&u->c, in->mod, n);
    mm_tensor f = mm_op_new(g, x.rows, n[0] + n[1] + n[2]);
    if (!f.p || !x.p) return x;
    memset(f.p, 0, f.rows * f.cols * sizeof *f.p);
    for (size_t i = 0; i < in->n; i++) {
        const size_t rows = r->off[i + 1] - r->off[i], times = in->mod == MM_VIDEO ? rows / (grid[0] * grid[1]) : rows;
        for (size_t k = 0; k < rows; k++) {
            float at[3], *to = f.p + (r->off[i] + k) * f.cols;
            place(&u->c, in, i, k, at);
            if (n[0]) shares(to, n[0], times > n[0] ? at[0] * (float)(n[0] - 1) / (float)(times - 1) : at[0]);
            to += n[0];
            for (int a = 0; a < 2; to += n[1], a++)
                if (n[1]) shares(to, n[1], (at[1 + a] + 0.5f) * (float)n[1] / (float)grid[a] - 0.5f);
        }
    }
    return mm_op_linear(g, f, &u->entry[in->mod].position, MMK_ACT_NONE, &x, NULL);
}

mm_tensor mm_uni_lookup(mm_graph *g, const uni_table *t, const int32_t *ids, size_t n)
{
    return t->stored ? mm_op_gather(g, t->stored, t->stored_type, t->rows->cols, ids, n) : mm_op_lookup(g, t->rows, ids, n);
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
    for (size_t i = 0; i < in->n; i++) off[i + 1] = off[i] + mm_uni_in_tokens(in, i);
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
        x = mm_uni_lookup(g, &u->tokens, in->ids, rows);
        if (u->direct.rows) t.direct = mm_uni_lookup(g, &u->direct, in->ids, rows);
    } else {
        x = in->mod == MM_AUDIO ? stem_sound(g, e, in, rows) : stem_pixels(g, e, in, rows);
        x = mm_op_layer_norm(g, x, &e->norm, u->c.eps, &x);
    }
    x = mm_op_linear(g, x, &e->in, MMK_ACT_NONE, NULL, NULL);
    mm_tensor id = mm_op_param(g, e->ident);
    mm_tensor gate = mm_op_sigmoid(g, mm_op_linear(g, id, &u->gate, MMK_ACT_NONE, NULL, NULL));
    mm_tensor shift = mm_op_linear(g, id, &u->shift, MMK_ACT_NONE, NULL, NULL);
    t.x = mm_op_affine(g, x, gate, &shift);
    if (u->c.positions == MM_UNI_ABSOLUTE) t.x = with_positions(g, u, in, &t.r, t.x);
    return t;
}

/* ---- trunk ---- */

#define OF_RUNS(type, member) \
    const type *member##_of[MM_MODALITIES]; \
    for (size_t i = 0; i < y->n; i++) member##_of[i] = &l->member[y->mod[i]]

mm_tensor mm_uni_block(mm_graph *g, const mm_uni *u, size_t layer, const uni_layout *y, mm_tensor x)
{
    const uni_layer *l = &u->layers[layer];
    size_t heads = (size_t)u->c.heads, dim = (size_t)(u->c.width / u->c.heads);
    const mm_attention at = { heads, heads, dim, 1 / sqrtf((float)dim), y->causal };
    const mm_ragged runs = { y->off, y->n };
    mm_tape_mark mark = mm_tape_here(g);
    const mm_norm *norm_of[2][MM_MODALITIES];
    mm_param *scale_of[2][MM_MODALITIES];
    OF_RUNS(mm_linear, qkv);
    OF_RUNS(mm_linear, out);
    OF_RUNS(mm_linear, up);
    OF_RUNS(mm_linear, down);
    for (size_t i = 0; i < y->n; i++)
        for (int k = 0; k < 2; k++) norm_of[k][i] = &l->norm[k][y->mod[i]], scale_of[k][i] = l->scale[k][y->mod[i]];
    mm_tensor a = mm_op_norm_runs(g, x, norm_of[0], &runs, u->c.eps, NULL), bias;
    a = mm_op_rotary(g, mm_op_linear_runs(g, a, qkv_of, &runs, MMK_ACT_NONE, NULL, NULL), y->cos, y->sin, 2 * heads, dim);
    if (y->log_gate) bias = mm_op_outer(g, mm_op_reshape(g, mm_op_param(g, l->alloc), heads, 1), *y->log_gate);
    if (y->keep && a.p) memcpy(y->keep[layer].p, a.p, a.rows * a.cols * sizeof *a.p);
    if (y->given) a = mm_op_concat(g, (const mm_tensor[]){ y->given[layer], a }, 2);
    if (y->seq) a = mm_op_rows(g, a, y->seq, y->r.off[y->r.n]);
    a = mm_op_attention(g, a, &at, &y->r, y->log_gate ? &bias : NULL);
    if (y->seq) a = mm_op_rows(g, a, y->row, x.rows);
    a = mm_op_linear_runs(g, a, out_of, &runs, MMK_ACT_NONE, NULL, NULL);
    x = mm_op_add_scaled_runs(g, x, a, scale_of[0], &runs, &x);
    a = mm_op_norm_runs(g, x, norm_of[1], &runs, u->c.eps, NULL);
    a = mm_op_linear_runs(g, a, up_of, &runs, MMK_ACT_GELU_TANH, NULL, NULL);
    a = mm_op_linear_runs(g, a, down_of, &runs, MMK_ACT_NONE, NULL, NULL);
    x = mm_op_add_scaled_runs(g, x, a, scale_of[1], &runs, &x);
    if (g->tape) return mm_tape_segment(g, mark, x);
    mm_arena_back(g->arena, mark.arena); /* x is where it was */
    return x;
}

mm_tensor mm_uni_trunk_kept(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t, mm_tensor *keep)
{
    const uni_layout y = { .n = 1, .mod = { (int)t->mod }, .off = { 0, t->x.rows }, .r = t->r, .cos = t->cos, .sin = t->sin, .causal = t->causal,
                           .keep = keep };
    mm_tensor x = t->x;
    for (int64_t l = 0; l < u->c.layers && x.p; l++) x = mm_uni_block(g, u, (size_t)l, &y, x);
    if (t->mod != MM_TEXT) x = mm_op_layer_norm(g, x, &u->entry[t->mod].last, u->c.eps, &x);
    return x;
}

mm_tensor mm_uni_trunk(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t) { return mm_uni_trunk_kept(g, u, t, NULL); }

/* Vectors moved by the examples that are near. */
static mm_tensor corrected(mm_graph *g, const mm_uni *u, mm_modality m, mm_tensor z)
{
    const float sharp = (float)(1 / u->c.mod[m].few_width);
    mm_tensor near = mm_op_linear(g, z, &u->entry[m].key, MMK_ACT_NONE, NULL, NULL);
    for (size_t i = 0; near.p && i < near.rows * near.cols; i++) near.p[i] = exp2f(sharp * (near.p[i] - 1));
    return mm_op_normalize(g, mm_op_linear(g, near, &u->entry[m].value, MMK_ACT_NONE, &z, NULL));
}

/* What of texts goes past the trunk, where it is in the output: [n, out]. */
static mm_tensor past_trunk(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t)
{
    const size_t before = (size_t)u->c.mod[MM_TEXT].width, after = (size_t)u->c.out - before - t->direct.cols;
    mm_tensor part[3] = { mm_op_new(g, t->r.n, before), mm_op_pool(g, t->direct, &t->r, MM_POOL_MEAN), mm_op_new(g, t->r.n, after) };
    for (int i = 0; i < 3; i += 2)
        if (part[i].p) memset(part[i].p, 0, part[i].rows * part[i].cols * sizeof *part[i].p);
    return mm_op_beside(g, part, after ? 3 : 2);
}

mm_tensor mm_uni_pool(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t, mm_tensor x)
{
    mm_tensor past = { 0 };
    if (t->direct.p) past = past_trunk(g, u, t);
    x = mm_op_attend(g, x, mm_op_param(g, u->entry[t->mod].query), (size_t)u->c.heads, &t->r);
    x = mm_op_normalize(g, mm_op_linear(g, x, &u->proj, MMK_ACT_NONE, past.p ? &past : NULL, NULL));
    return u->c.mod[t->mod].few ? corrected(g, u, t->mod, x) : x;
}

mm_tensor mm_uni_embed(mm_graph *g, const mm_uni *u, const mm_uni_in *in)
{
    mm_uni_tokens t = mm_uni_stem(g, u, in);
    return mm_uni_pool(g, u, &t, mm_uni_trunk(g, u, &t));
}

/* ---- records of several modalities ---- */

/* What the allocation net thinks of each input of a modality: [n, 1]. */
static mm_tensor opinion(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t, const float *quality)
{
    size_t n = t->r.n, *first = mm_arena_alloc(g->arena, n, sizeof *first);
    float *good = mm_arena_alloc(g->arena, n * MM_UNI_QUALITY, sizeof *good);
    if (!first || !good) {
        g->failed = 1;
        return (mm_tensor){ 0 };
    }
    memset(first, 0, n * sizeof *first);
    for (size_t i = 0; i < n * MM_UNI_QUALITY; i++) good[i] = quality ? quality[i] : 1;
    mm_tensor part[3] = { mm_op_pool(g, t->x, &t->r, MM_POOL_MEAN), mm_op_rows(g, mm_op_param(g, u->entry[t->mod].ident), first, n),
                          mm_tensor_of(good, n, MM_UNI_QUALITY) };
    mm_tensor h = mm_op_linear(g, mm_op_beside(g, part, 3), &u->alloc[0], MMK_ACT_GELU_TANH, NULL, NULL);
    return mm_op_linear(g, h, &u->alloc[1], MMK_ACT_NONE, NULL, NULL);
}

/* Where everything is: parts (record, modality) in order, tokens sorted by modality, and the order of the sequences. */
typedef struct {
    size_t parts, rows;
    size_t *part_off;  /* [n + 1] parts of a record */
    size_t *input;     /* [parts] number of the part among all inputs, modality after modality */
    size_t *token_off; /* [n + 1] tokens of a record */
    size_t *seq, *row; /* [rows] */
    size_t *part_of;   /* [rows] part of a sequence's token */
} plan;

static int make_plan(mm_graph *g, const mm_uni_records *rec, const mm_uni_tokens *t, plan *p)
{
    size_t at[MM_MODALITIES] = { 0 }, first_input[MM_MODALITIES], first_row[MM_MODALITIES], inputs = 0;
    *p = (plan){ 0 };
    for (int m = 0; m < MM_MODALITIES; m++) {
        first_input[m] = inputs;
        first_row[m] = p->rows;
        if (!rec->in[m]) continue;
        inputs += rec->in[m]->n;
        p->rows += t[m].x.rows;
    }
    p->part_off = mm_arena_alloc(g->arena, rec->n + 1, sizeof *p->part_off);
    p->token_off = mm_arena_alloc(g->arena, rec->n + 1, sizeof *p->token_off);
    p->input = mm_arena_alloc(g->arena, inputs, sizeof *p->input);
    p->seq = mm_arena_alloc(g->arena, p->rows, sizeof *p->seq);
    p->row = mm_arena_alloc(g->arena, p->rows, sizeof *p->row);
    p->part_of = mm_arena_alloc(g->arena, p->rows, sizeof *p->part_of);
    if (!p->part_off || !p->token_off || !p->input || !p->seq || !p->row || !p->part_of) return g->failed = 1;
    size_t tokens = 0;
    for (size_t i = 0; i < rec->n; i++) {
        p->part_off[i] = p->parts;
        p->token_off[i] = tokens;
        for (int m = 0; m < MM_MODALITIES; m++) {
            size_t k = at[m];
            if (!rec->in[m] || k == rec->in[m]->n || rec->of[m][k] != i) continue;
            at[m]++;
            for (size_t r = t[m].r.off[k]; r < t[m].r.off[k + 1]; r++, tokens++) {
                p->seq[tokens] = first_row[m] + r;
                p->row[first_row[m] + r] = tokens;
                p->part_of[tokens] = p->parts;
            }
            p->input[p->parts++] = first_input[m] + k;
        }
    }
    p->part_off[rec->n] = p->parts;
    p->token_off[rec->n] = tokens;
    return 0;
}

static mm_tensor alone(mm_graph *g, const mm_uni *u, const mm_uni_records *rec, const mm_uni_tokens *t)
{
    if (rec->alone[t->mod]) return mm_tensor_of(rec->alone[t->mod], t->r.n, (size_t)u->c.out);
    return mm_uni_pool(g, u, t, mm_uni_trunk(g, u, t));
}

mm_tensor mm_uni_fuse(mm_graph *g, const mm_uni *u, const mm_uni_records *rec, mm_tensor *log_gates, mm_ragged *parts)
{
    mm_uni_tokens t[MM_MODALITIES] = { { .mod = MM_TEXT } };
    mm_tensor x[MM_MODALITIES], score[MM_MODALITIES], z[MM_MODALITIES], none = { 0 };
    size_t half = (size_t)(u->c.width / u->c.heads / 2);
    uni_layout y = { .n = 0 };
    plan p;
    for (int m = 0; m < MM_MODALITIES; m++) {
        if (!rec->in[m] || !rec->in[m]->n) continue;
        t[m] = mm_uni_stem(g, u, rec->in[m]);
        if (!t[m].x.p) return none;
        x[y.n] = t[m].x;
        score[y.n] = opinion(g, u, &t[m], rec->quality[m]);
        y.mod[y.n] = m;
        y.off[y.n + 1] = y.off[y.n] + t[m].x.rows;
        y.n++;
    }
    if (!y.n || make_plan(g, rec, t, &p)) return none;
    float *cos = mm_arena_alloc(g->arena, p.rows * half, sizeof *cos), *sin = mm_arena_alloc(g->arena, p.rows * half, sizeof *sin);
    if (!cos || !sin) {
        g->failed = 1;
        return none;
    }
    for (size_t i = 0; i < y.n; i++) {
        const mm_uni_tokens *s = &t[y.mod[i]];
        memcpy(cos + y.off[i] * half, s->cos, s->x.rows * half * sizeof *cos);
        memcpy(sin + y.off[i] * half, s->sin, s->x.rows * half * sizeof *sin);
    }
    y.cos = cos;
    y.sin = sin;
    y.r = (mm_ragged){ p.token_off, rec->n };
    y.seq = p.seq;
    y.row = p.row;
    const mm_ragged of_record = { p.part_off, rec->n };
    mm_tensor gates = mm_op_log_softmax_runs(g, mm_op_rows(g, mm_op_concat(g, score, y.n), p.input, p.parts), &of_record);
    mm_tensor key = mm_op_reshape(g, mm_op_rows(g, gates, p.part_of, p.rows), 1, p.rows);
    y.log_gate = &key;
    mm_tensor h = u->c.apart ? none : mm_op_concat(g, x, y.n);
    for (int64_t l = 0; l < u->c.layers && h.p; l++) h = mm_uni_block(g, u, (size_t)l, &y, h);
    for (size_t i = 0; i < y.n; i++) {
        if (u->c.apart) {
            z[i] = alone(g, u, rec, &t[y.mod[i]]);
            continue;
        }
        size_t rows = y.off[i + 1] - y.off[i], *pick = mm_arena_alloc(g->arena, rows, sizeof *pick);
        if (!pick) {
            g->failed = 1;
            return none;
        }
        for (size_t k = 0; k < rows; k++) pick[k] = y.off[i] + k;
        mm_tensor own = mm_op_rows(g, h, pick, rows);
        if (y.mod[i] != MM_TEXT) own = mm_op_layer_norm(g, own, &u->entry[y.mod[i]].last, u->c.eps, NULL);
        z[i] = mm_uni_pool(g, u, &t[y.mod[i]], own);
    }
    if (log_gates) {
        *log_gates = gates;
        *parts = of_record;
    }
    return mm_op_normalize(g, mm_op_mix_runs(g, mm_op_rows(g, mm_op_concat(g, z, y.n), p.input, p.parts), gates, &of_record));
}

/* Heads of the unified model: what they see and what not, that they leave its vectors alone, files, gradients. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "model/mm_uni_heads.h"
#include "uni_made.h"

static mm_err err;
enum { SIDE = 32, PIXELS = 3 * SIDE * SIDE, N = 3, VOCAB = 300, TEXT = 24 };
static float pictures[N][PIXELS];

static mm_uni_config little(int heads)
{
    mm_uni_config c;
    if (mm_uni_config_named(&c, "tiny", &err)) exit(4);
    c.layers = 2, c.width = 32, c.heads = 2, c.ff_width = 64, c.out = 32, c.vocab = VOCAB, c.mod[MM_TEXT].width = TEXT;
    for (int m = 1; m < MM_MODALITIES; m++) c.mod[m].width = 32, c.mod[m].merge[0] = c.mod[m].merge[1] = 16;
    c.mod[MM_IMAGE].size = c.mod[MM_VIDEO].size = SIDE;
    c.mod[MM_VIDEO].frames = 4;
    c.mod[MM_AUDIO].frames = 50;
    if (mm_uni_plan(&c, "*.norm=all image.attn=0 text.ffn=1", &err)) exit(4);
    if (!heads) return c;
    c.next = 1;
    c.patch = 8;
    if (mm_uni_plan(&c, "*.norm=all image.attn=0 text.ffn=1 next.norm=all next.ffn=1 flow.norm=all flow.attn=0-1", &err)) exit(4);
    return c;
}

static mm_uni_in seen(size_t from, size_t n)
{
    static const float *x[N];
    for (size_t i = 0; i < n; i++) x[i] = pictures[from + i];
    return (mm_uni_in){ .mod = MM_IMAGE, .n = n, .x = x, .height = SIDE, .width = SIDE };
}

/* hidden rows of `n` texts about pictures from..from + n - 1 */
static float *words(const mm_uni *u, size_t from, size_t n, const int32_t *ids, const size_t *off, int given, size_t *count)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    mm_uni_in in = seen(from, n);
    mm_uni_given s = mm_uni_see(&g, u, &in, NULL);
    mm_tensor h = mm_uni_logits(&g, u, mm_uni_next(&g, u, &(mm_uni_words){ .given = given ? &s : NULL, .n = n, .ids = ids, .off = off }));
    *count = h.rows * h.cols;
    float *out = g.failed ? NULL : malloc(*count * sizeof *out);
    if (out) memcpy(out, h.p, *count * sizeof *out);
    mm_arena_clear(&a);
    return out;
}

static double worst(const float *a, const float *b, size_t n)
{
    double w = 0;
    for (size_t i = 0; i < n; i++) w = fmax(w, fabs((double)a[i] - (double)b[i]));
    return w;
}

static const int32_t ids[] = { 2, 17, 40, 9, 2, 55, 2, 8, 7, 6, 5 };
static const size_t off[] = { 0, 4, 6, 11 };

static void next(const mm_uni *u)
{
    size_t n, m;
    float *all = words(u, 0, 3, ids, off, 1, &n);
    for (size_t i = 0; i < 3; i++) {
        const size_t one[] = { 0, off[i + 1] - off[i] };
        float *x = words(u, i, 1, ids + off[i], one, 1, &m);
        ok(!memcmp(x, all + off[i] * VOCAB, m * sizeof *x), "text %zu has the same logits alone", i);
        free(x);
    }
    int32_t other[11];
    memcpy(other, ids, sizeof ids);
    other[2] = 41;
    float *x = words(u, 0, 3, other, off, 1, &m);
    ok(!memcmp(x, all, 2 * VOCAB * sizeof *x) && worst(x + 2 * VOCAB, all + 2 * VOCAB, 2 * VOCAB) > 1e-4, "a token counts from itself on");
    free(x);
    x = words(u, 0, 3, ids, off, 0, &m);
    ok(worst(x, all, 4 * VOCAB) > 1e-4, "what is given counts");
    free(x);
    free(all);
}

static void flow(const mm_uni *u, const mm_uni_config *c)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    size_t patches = mm_uni_patches(c), size = mm_uni_patch_size(c), one = patches * size;
    float z[N * PIXELS], back[PIXELS];
    const float t[N] = { 0.1f, 0.5f, 0.9f };
    ok(patches == 16 && size == 192, "patches");
    for (size_t i = 0; i < N; i++) mm_uni_to_patches(c, pictures[i], z + i * one);
    mm_uni_from_patches(c, z, back);
    ok(worst(back, pictures[0], PIXELS) < 1e-6, "a picture is its patches");
    mm_uni_in in = seen(0, N);
    mm_tensor v = mm_uni_embed(&g, u, &in), w = mm_uni_embed_patches(&g, u, mm_tensor_of(z, N * patches, size));
    ok(worst(v.p, w.p, N * v.cols) < 1e-5, "and has its vector");
    const mm_uni_in text = { .mod = MM_TEXT, .n = N, .ids = ids, .off = off };
    mm_uni_given s = mm_uni_see(&g, u, &text, &v);
    w = mm_uni_embed(&g, u, &text);
    ok(!memcmp(v.p, w.p, N * v.cols * sizeof *v.p), "what is seen has its vector");
    mm_tensor x = mm_uni_flow(&g, u, &(mm_uni_canvas){ &s, NULL, N, z, t });
    static const size_t of[] = { 2, SIZE_MAX, 0 };
    for (size_t i = 0; i < N; i++) {
        mm_tensor y = mm_uni_flow(&g, u, &(mm_uni_canvas){ &s, &i, 1, z + i * one, t + i });
        ok(!memcmp(y.p, x.p + i * one, one * sizeof *y.p), "picture %zu is the same alone", i);
        y = mm_uni_flow(&g, u, &(mm_uni_canvas){ &s, of + i, 1, z + i * one, t + i });
        ok(worst(y.p, x.p + i * one, one) > 1e-4, "another prompt, or none, is another picture");
        y = mm_uni_flow(&g, u, &(mm_uni_canvas){ &s, &i, 1, z + i * one, t + (i + 1) % N });
        ok(worst(y.p, x.p + i * one, one) > 1e-4, "the time counts");
    }
    ok(!g.failed, "no failure");
    mm_arena_clear(&a);
}

/* Loss of everything that a head may be trained on, and its gradients where tape is set. */
static double loss(mm_uni *u, const mm_uni_config *c, mm_tape *tape)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 2, .tape = tape };
    static float z[N * PIXELS], clean[N * PIXELS];
    static const float t[N] = { 0.1f, 0.5f, 0.9f };
    static const int32_t after[] = { 17, 40, 9, 0, 55, 0, 8, 7, 6, 5, 0 };
    for (size_t i = 0; i < N; i++) mm_uni_to_patches(c, pictures[i], clean + i * PIXELS);
    for (size_t i = 0; i < N * PIXELS; i++) z[i] = clean[i] * 0.5f + 0.3f * sinf((float)i);
    mm_tensor said, l[3];
    mm_uni_in in = seen(0, N);
    const mm_uni_in text = { .mod = MM_TEXT, .n = N, .ids = ids, .off = off };
    mm_uni_given shown = mm_uni_see(&g, u, &in, NULL), prompt = mm_uni_see(&g, u, &text, &said);
    mm_tensor x = mm_uni_flow(&g, u, &(mm_uni_canvas){ &prompt, NULL, N, z, t });
    l[0] = mm_op_class_ce(&g, mm_uni_logits(&g, u, mm_uni_next(&g, u, &(mm_uni_words){ .given = &shown, .n = N, .ids = ids, .off = off })), after);
    l[1] = mm_op_mse(&g, x, clean, NULL);
    l[2] = mm_op_cos_loss(&g, mm_uni_embed_patches(&g, u, x), said.p, said.cols, said.cols);
    mm_tensor sum = mm_op_sum(&g, l, (const float[]){ 0.6f, 0.3f, 0.1f }, 3);
    double v = g.failed ? NAN : (double)*sum.p;
    if (tape) {
        mm_tape_seed(&g, sum, 1);
        if (mm_tape_backward(&g)) v = NAN;
        mm_tape_reset(tape);
    }
    mm_arena_clear(&a);
    return v;
}

struct trained {
    mm_uni *u;
    const mm_uni_config *c;
};

static double untaped(void *arg)
{
    const struct trained *t = arg;
    return loss(t->u, t->c, NULL);
}

static void gradients(const mm_uni_config *c)
{
    struct trained t = { made(c), c };
    mm_tape *tape = mm_tape_new(MM_KEEP_F32);
    ok(isfinite(loss(t.u, c, tape)), "a joint loss");
    for (size_t i = 0; i < mm_uni_count(t.u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(t.u, i);
        if (!strncmp(s->name, "next.", 5) || !strncmp(s->name, "flow.", 5)) slope(s, untaped, &t);
    }
    mm_tape_free(&tape);
    freed(t.u);
}

static void files(mm_uni *u, const mm_uni_config *c)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/test-heads-%ld.gguf", (long)getpid());
    mm_store *st = NULL;
    mm_uni *v = NULL;
    mm_uni_config d;
    size_t n, m;
    int r = mm_uni_write(u, path, MM_F32, NULL, NULL, 0, NULL, &err);
    if (!r) r = mm_store_open(&st, path, &err);
    if (!r) r = mm_uni_config_read(&d, st, &err);
    ok(!r && d.next == 1 && d.patch == 8 && !memcmp(d.own, c->own, sizeof d.own), "a configuration with heads is written and read");
    if (!r) r = mm_uni_new(&v, &d, &err);
    if (!r) r = mm_uni_load(v, st, 1u << MM_UNI_NEXT, &err);
    ok(!r && mm_uni_slot_find(v, "next.out.weight")->packed && !mm_uni_slot_find(v, "flow.out.weight")->packed, "the heads that are wanted are loaded");
    float *a = words(u, 0, 3, ids, off, 1, &n), *b = r ? NULL : words(v, 0, 3, ids, off, 1, &m);
    ok(b && worst(a, b, n) < 1e-4, "and say the same");
    free(a);
    free(b);
    mm_uni_free(&v);
    mm_store_close(&st);
    /* a model without heads gets them: what it has is read, they stay as they are */
    mm_uni_config bare = little(0);
    mm_uni *w = made(&bare), *x = made(c);
    r = mm_uni_write(w, path, MM_F32, NULL, NULL, 0, NULL, &err);
    if (!r) r = mm_store_open(&st, path, &err);
    float *before = malloc(sizeof *before * 32 * 32);
    memcpy(before, mm_uni_slot_find(x, "next.out.weight")->p.w, sizeof *before * 32 * 32);
    if (!r) r = mm_uni_read(x, st, &err);
    ok(!r && !memcmp(before, mm_uni_slot_find(x, "next.out.weight")->p.w, sizeof *before * 32 * 32), "heads are added to a model that has none");
    mm_arena arena = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 1 };
    mm_uni_in in = seen(0, N);
    mm_tensor p = mm_uni_embed(&g, w, &in), q = mm_uni_embed(&g, x, &in);
    ok(!g.failed && !memcmp(p.p, q.p, p.rows * p.cols * sizeof *p.p), "its vectors are what they were");
    size_t total[2], shared[2];
    mm_uni_share(w, MM_TEXT, &total[0], &shared[0]);
    mm_uni_share(x, MM_TEXT, &total[1], &shared[1]);
    ok(total[0] == total[1] && shared[0] == shared[1], "and so is what its encoders share");
    mm_arena_clear(&arena);
    mm_store_close(&st);
    free(before);
    freed(w);
    freed(x);
    remove(path);
}

int main(void)
{
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < PIXELS; k++) pictures[i][k] = sinf((float)(k * (i + 1)) * 0.37f);
    mm_uni_config c = little(1);
    mm_uni *u = made(&c);
    next(u);
    flow(u, &c);
    files(u, &c);
    gradients(&c);
    freed(u);
    return done();
}

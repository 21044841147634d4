/* Positions of the unified model: three kinds through files, what each knows of order and of other sizes, gradients of learned ones. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "uni_made.h"

enum { N = 3, OUT = 32, MOST = 64 };
static mm_err err;
static const char *const kinds[] = { "aligned", "unaligned", "absolute" };
static float pixels[N][8 * 3 * MOST * MOST], mel[N][100 * 64];

static mm_uni_config little(const char *kind)
{
    mm_uni_config c;
    if (mm_uni_config_named(&c, "tiny", &err)) exit(4);
    c.layers = 2, c.width = 32, c.heads = 2, c.ff_width = 64, c.out = OUT, c.vocab = 300, c.window = 16, c.mod[MM_TEXT].width = 24, c.mod[MM_TEXT].direct = 5;
    for (int m = 1; m < MM_MODALITIES; m++) c.mod[m].width = 32, c.mod[m].merge[0] = c.mod[m].merge[1] = 16;
    c.mod[MM_IMAGE].size = c.mod[MM_VIDEO].size = 32;
    c.mod[MM_VIDEO].frames = 4;
    c.mod[MM_AUDIO].frames = 50;
    if (mm_uni_plan(&c, "*.norm=all", &err) || mm_uni_positions_set(&c, kind, &err)) exit(4);
    return c;
}

/* N inputs: texts of 7 tokens, pictures and clips of `side` pixels, clips and sounds of `frames` frames. */
static mm_uni_in input(mm_modality m, size_t side, size_t frames, int backwards)
{
    static int32_t ids[N * 7];
    static size_t off[N + 1], all[N];
    static const float *x[N];
    for (size_t i = 0; i < N; i++) {
        off[i + 1] = 7 * (i + 1);
        for (size_t t = 0; t < 7; t++) ids[7 * i + t] = (int32_t)((i * 31 + (backwards ? 6 - t : t) * 17) % 300);
        x[i] = m == MM_AUDIO ? mel[i] : pixels[i];
        all[i] = frames;
    }
    return (mm_uni_in){ .mod = m, .n = N, .ids = ids, .off = off, .x = x, .frames = all, .height = side, .width = side };
}

static double cosine(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < OUT; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return ab / sqrt(aa * bb);
}

static void embed(const mm_uni *u, const mm_uni_in *in, float v[N][OUT])
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    mm_tensor z = mm_uni_embed(&g, u, in);
    if (!z.p) exit(4);
    memcpy(v, z.p, N * OUT * sizeof **v);
    mm_arena_clear(&a);
}

/* The lowest cosine of two of the same inputs' vectors. */
static double likeness(float a[N][OUT], float b[N][OUT])
{
    double worst = 1;
    for (size_t i = 0; i < N; i++) worst = fmin(worst, cosine(a[i], b[i]));
    return worst;
}

static void configurations(void)
{
    for (int k = 0; k < 3; k++) {
        mm_uni_config c = little(kinds[k]), d;
        json_t *j = mm_uni_config_json(&c);
        ok(!strcmp(mm_uni_positions_name(&c), kinds[k]) && !mm_uni_config_parse(&d, j, &err) && !memcmp(&c, &d, sizeof c), "%s through JSON", kinds[k]);
        ok(!json_object_get(j, "positions") == !k, "and named there unless it is what files without the key have");
        json_object_set_new(j, "positions", k ? json_string("somewhere") : json_integer(1));
        ok(mm_uni_config_parse(&d, j, &err) == MM_EDATA, "no positions: %s", err.msg);
        json_decref(j);
    }
    mm_uni_config c = little("absolute");
    mm_uni *u = NULL;
    ok(mm_uni_positions_set(&c, "near", &err) == MM_EARG && c.positions == MM_UNI_ABSOLUTE, "refused: %s", err.msg);
    c.next = 1;
    ok(mm_uni_new(&u, &c, &err) == MM_EUNSUP && !u, "refused: %s", err.msg);
    mm_uni_free(&u);
}

static void files(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/test-positions-%ld.gguf", (long)getpid());
    for (int k = 0; k < 3; k++) {
        mm_uni_config c = little(kinds[k]), d;
        mm_uni *u = made(&c), *v = NULL;
        mm_store *st = NULL;
        float a[N][OUT], b[N][OUT];
        int r = mm_uni_write(u, path, MM_Q8_0, NULL, NULL, 0, NULL, &err);
        if (!r) r = mm_store_open(&st, path, &err);
        if (!r) r = mm_uni_config_read(&d, st, &err);
        if (!r) r = mm_uni_new(&v, &d, &err);
        if (!r) r = mm_uni_load(v, st, 0, &err);
        ok(!r && d.positions == k, "%s: written and read: %s", kinds[k], r ? err.msg : "");
        for (int m = 0; m < MM_MODALITIES && !r; m++) {
            const mm_uni_in in = input((mm_modality)m, 32, m == MM_AUDIO ? 40 : 4, 0);
            embed(u, &in, a);
            embed(v, &in, b);
            ok(likeness(a, b) > 0.999, "%s, %s: cosine %.6f", kinds[k], mm_modality_name((mm_modality)m), likeness(a, b));
        }
        mm_uni_free(&v);
        mm_store_close(&st);
        freed(u);
    }
    unlink(path);
}

/* Does the order of words count? Of learned positions that are all zero it does not. */
static void order(void)
{
    for (int k = 0; k < 3; k++) {
        mm_uni_config c = little(kinds[k]);
        mm_uni *u = made(&c);
        float a[N][OUT], b[N][OUT];
        const mm_uni_in to = input(MM_TEXT, 0, 0, 0);
        embed(u, &to, a);
        const mm_uni_in back = input(MM_TEXT, 0, 0, 1);
        embed(u, &back, b);
        ok(likeness(a, b) < 0.99999, "%s: words backwards, cosine %.6f", kinds[k], likeness(a, b));
        if (k == MM_UNI_ABSOLUTE) {
            mm_uni_slot *s = mm_uni_slot_find(u, "text.position.weight");
            memset(s->p.w, 0, s->p.rows * s->p.cols * sizeof *s->p.w);
            embed(u, &back, b);
            const mm_uni_in again = input(MM_TEXT, 0, 0, 0);
            embed(u, &again, a);
            ok(likeness(a, b) > 0.9999999, "and without any: %.9f", likeness(a, b));
        }
        freed(u);
    }
}

/* The mean of a picture's (axis 1: rows, 2: columns) or of a clip's (0: time) rotations, out of the channels that turn by the place itself. */
static double mean_place(const mm_uni *u, mm_modality m, size_t side, size_t frames, size_t axis)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    const mm_uni_in in = input(m, side, frames, 0);
    const mm_uni_tokens t = mm_uni_stem(&g, u, &in);
    const size_t half = 8, n = t.r.off[1];
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double angle = atan2((double)t.sin[i * half + axis], (double)t.cos[i * half + axis]);
        sum += angle < -1e-6 ? angle + 2 * acos(-1) : angle;
    }
    mm_arena_clear(&a);
    return sum / (double)n;
}

static void sizes(void)
{
    static const double at32[] = { 3, 0.5, 0 }, at64[] = { 3, 1.5, 0 }, clip[] = { (75 - 18 * 3.14159265358979) / 4, 1.5, 0 };
    for (int k = 0; k < 3; k++) {
        mm_uni_config c = little(kinds[k]);
        mm_uni *u = made(&c);
        for (size_t axis = 1; axis < 3; axis++) {
            const double a = mean_place(u, MM_IMAGE, 32, 0, axis), b = mean_place(u, MM_IMAGE, 64, 0, axis);
            ok(fabs(a - at32[k]) < 1e-4 && fabs(b - at64[k]) < 1e-4, "%s: the middle of a picture is %.3f at its own size, %.3f at twice that", kinds[k], a, b);
        }
        const double t = mean_place(u, MM_VIDEO, 32, 8, 0);
        ok(fabs(t - clip[k]) < 1e-3, "%s: the middle of a clip of four pairs is %.3f", kinds[k], t);
        freed(u);
    }
}

/* Learned positions of one axis that grow by 1: what lies between and beyond them. */
static void between(void)
{
    mm_uni_config c = little("absolute");
    mm_uni *u = made(&c);
    float a[N][OUT], b[N][OUT];
    mm_uni_slot *s = mm_uni_slot_find(u, "audio.position.weight"); /* of 7 tokens */
    for (size_t i = 0; i < s->p.rows * s->p.cols; i++) s->p.w[i] = 0.5f;
    const mm_uni_in sound = input(MM_AUDIO, 0, 100, 0);
    embed(u, &sound, a);
    s->p.w[s->p.cols - 1] = 9; /* the last one's */
    embed(u, &sound, b);
    ok(s->p.cols == 7 && likeness(a, b) < 0.99999, "absolute: a sound of 13 tokens reaches the last of 7 places: cosine %.6f", likeness(a, b));
    const mm_uni_in brief = input(MM_AUDIO, 0, 40, 0);
    embed(u, &brief, a);
    s->p.w[s->p.cols - 1] = 0.5f;
    embed(u, &brief, b);
    ok(!memcmp(a, b, sizeof a), "one of 5 does not");
    s = mm_uni_slot_find(u, "image.position.weight");
    for (int side = 32; side <= 64; side += 16) { /* shares of a place sum to 1 at any size */
        for (size_t i = 0; i < s->p.rows * s->p.cols; i++) s->p.w[i] = 0;
        mm_param *shift = &mm_uni_slot_find(u, "shift.weight")->p;
        const float was = shift->w[MM_IMAGE];
        const mm_uni_in in = input(MM_IMAGE, (size_t)side, 0, 0);
        shift->w[MM_IMAGE] += 0.5f / mm_uni_slot_find(u, "image.ident")->p.w[MM_IMAGE];
        embed(u, &in, a);
        shift->w[MM_IMAGE] = was;
        for (size_t i = 0; i < 2; i++) s->p.w[i] = 0.5f; /* rows of the first channel */
        embed(u, &in, b);
        ok(likeness(a, b) > 0.9999999, "places of one row are one shift, %d pixels: cosine %.9f", side, likeness(a, b));
    }
    freed(u);
}

/* Seconds are the same for clips and sounds. */
static void moments(void)
{
    static const float half[] = { 0, 0.5f, 1, 1.5f }, odd[] = { 0, 0.1f, 0.64f, 0.7f };
    const float *of_half[N] = { half, NULL, half }, *of_odd[N] = { odd, odd, odd };
    mm_uni_config c = little("aligned");
    mm_uni *u = made(&c);
    float a[N][OUT], b[N][OUT];
    mm_uni_in clip = input(MM_VIDEO, 32, 4, 0);
    embed(u, &clip, a);
    clip.times = of_half;
    embed(u, &clip, b);
    ok(!memcmp(a, b, sizeof a), "frames without times come every half second");
    clip.times = of_odd;
    embed(u, &clip, b);
    ok(likeness(a, b) < 0.99999, "when a frame is shown counts: cosine %.6f", likeness(a, b));
    mm_arena arena = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 1 };
    const mm_uni_tokens seen = mm_uni_stem(&g, u, &clip);
    const mm_uni_in sound = input(MM_AUDIO, 0, 100, 0);
    const mm_uni_tokens heard = mm_uni_stem(&g, u, &sound);
    const size_t half_dim = (size_t)(c.width / c.heads / 2), grid = 4;
    size_t same = 0, axes = 0;
    for (size_t i = 0; i < half_dim; i += 3, axes++) /* time's share of the channels */
        same += hypotf(seen.cos[grid * half_dim + i] - heard.cos[8 * half_dim + i], seen.sin[grid * half_dim + i] - heard.sin[8 * half_dim + i]) < 1e-4f;
    ok(axes && same == axes, "the frame of 0.64 s stands where the sound of 0.64 s does");
    mm_arena_clear(&arena);
    freed(u);
}

/* Distance of the vectors from fixed ones, and its gradients where tape is set. Pictures and clips of another size than the model's own. */
static double loss(mm_uni *u, mm_modality m, mm_tape *tape)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1, .tape = tape };
    const mm_uni_in in = input(m, 48, m == MM_AUDIO ? 40 : 4, 0);
    float target[N * OUT];
    for (int i = 0; i < N * OUT; i++) target[i] = sinf((float)(i * i));
    mm_tensor l = mm_op_cos_loss(&g, mm_uni_embed(&g, u, &in), target, OUT, OUT);
    double v = g.failed ? NAN : (double)*l.p;
    if (tape) {
        mm_tape_seed(&g, l, 1);
        if (mm_tape_backward(&g)) v = NAN;
        mm_tape_reset(tape);
    }
    mm_arena_clear(&a);
    return v;
}

struct trained {
    mm_uni *u;
    mm_modality m;
};

static double untaped(void *arg)
{
    const struct trained *t = arg;
    return loss(t->u, t->m, NULL);
}

static void gradients(void)
{
    mm_uni_config c = little("absolute");
    struct trained t = { made(&c), MM_TEXT };
    mm_tape *tape = mm_tape_new(MM_KEEP_F32);
    for (int m = 0; m < MM_MODALITIES; m++) {
        char name[40];
        t.m = (mm_modality)m;
        snprintf(name, sizeof name, "%s.position.weight", mm_modality_name(t.m));
        mm_uni_slot *s = mm_uni_slot_find(t.u, name);
        ok(s && !s->decay && isfinite(loss(t.u, t.m, tape)), "%s", name);
        if (s) slope(s, untaped, &t);
        if (m == MM_TEXT) slope(mm_uni_slot_find(t.u, "token_direct.weight"), untaped, &t);
    }
    mm_tape_free(&tape);
    freed(t.u);
}

int main(void)
{
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < sizeof pixels[0] / sizeof **pixels; k++) pixels[i][k] = sinf((float)(k * (i + 1)) * 0.37f);
        for (size_t k = 0; k < sizeof mel[0] / sizeof **mel; k++) mel[i][k] = cosf((float)(k * (i + 2)) * 0.11f);
    }
    configurations();
    files();
    order();
    sizes();
    between();
    moments();
    gradients();
    return done();
}

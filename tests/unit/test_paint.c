/* Pictures out of noise: a step is what the model says, whatever the company; what is given comes through; PNG files are what was written. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "gen/mm_paint.h"
#include "model/mm_uni_heads.h"
#include "tap.h"
#include "tinyuni.h"

enum { N = 5 };
static char path[128];
static mm_model *model;
static size_t floats;

static mm_paint *paint_of(size_t steps, float guidance)
{
    mm_paint *p;
    check(mm_paint_new(&p, model, &(mm_paint_opts){ steps, guidance }, &err));
    floats = mm_paint_floats(p);
    return p;
}

static mm_paint_job job(const char *text, uint64_t seed, float *out) { return (mm_paint_job){ .text = { text, strlen(text) }, .seed = seed, .out = out }; }

static double worst(const float *a, const float *b, size_t n)
{
    double w = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= w)) w = d;
    }
    return w;
}

/* One step from noise is what the model takes the picture to be; guidance goes beyond it. */
static void one_step(void)
{
    const mm_uni *u = mm_model_uni(model);
    const mm_uni_config *c = mm_uni_get_config(u);
    mm_paint *p = paint_of(1, 1), *q = paint_of(1, 3);
    float *out = malloc(5 * floats * sizeof *out), *far = out + floats, *patches = far + floats, *bare = patches + floats, *z = bare + floats;
    mm_paint_job a = job("a kite", 11, out), b = job("a kite", 11, far);
    mm_arena arena = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 1 };
    int32_t ids[6];
    const size_t off[] = { 0, 6 }, nothing = SIZE_MAX;
    const float t = 0;
    mm_rng r = mm_rng_at(11, UINT64_C(0x7061696e74), 0, 0);
    for (size_t i = 0; i < floats; i++) z[i] = mm_rng_normal(&r);
    for (size_t i = 0; i < 6; i++) ids[i] = 8 + "a kite"[i];
    const mm_uni_given s = mm_uni_see(&g, u, &(mm_uni_in){ .mod = MM_TEXT, .n = 1, .ids = ids, .off = off }, NULL);
    const mm_tensor with = mm_uni_flow(&g, u, &(mm_uni_canvas){ &s, NULL, 1, z, &t }), without = mm_uni_flow(&g, u, &(mm_uni_canvas){ &s, &nothing, 1, z, &t });
    check(mm_paint_run(p, &a, 1, &err));
    check(mm_paint_run(q, &b, 1, &err));
    for (int guided = 0; guided < 2; guided++) {
        for (size_t i = 0; i < floats; i++) {
            const float x = guided ? without.p[i] + 3 * (with.p[i] - without.p[i]) : with.p[i];
            patches[i] = fminf(1, fmaxf(-1, x));
        }
        mm_uni_from_patches(c, patches, bare);
        ok(worst(guided ? far : out, bare, floats) < 1e-5, "one step, guidance %d", guided ? 3 : 1);
    }
    ok(worst(out, far, floats) > 1e-3, "guidance counts");
    free(out);
    mm_arena_clear(&arena);
    mm_paint_free(&p);
    mm_paint_free(&q);
}

static void company(void)
{
    static const char *const texts[N] = { "a kite", "a red kite", "", "a kite", "a kite" };
    static const uint64_t seeds[N] = { 1, 2, 3, 4, 1 };
    mm_paint *p = paint_of(4, 3);
    float *all = malloc((N + 2) * floats * sizeof *all), *one = all + N * floats, *init = one + floats;
    mm_paint_job jobs[N];
    mm_rng r = mm_rng_at(5, 0, 0, 0);
    for (size_t i = 0; i < floats; i++) init[i] = mm_rng_range(&r, -2, 2);
    for (size_t i = 0; i < N; i++) jobs[i] = job(texts[i], seeds[i], all + i * floats);
    jobs[4].init = init;
    jobs[4].strength = 0.5f;
    check(mm_paint_run(p, jobs, N, &err));
    for (size_t i = 0; i < N; i++) {
        mm_paint_job alone = jobs[i];
        alone.out = one;
        check(mm_paint_run(p, &alone, 1, &err));
        ok(!memcmp(one, all + i * floats, floats * sizeof *one), "picture %zu is the same alone", i);
    }
    ok(worst(all, all + 3 * floats, floats) > 1e-3, "another seed is another picture");
    const double half = worst(all + 4 * floats, init, floats);
    mm_paint_job kept = jobs[4];
    kept.out = one;
    kept.strength = 0;
    check(mm_paint_run(p, &kept, 1, &err));
    ok(worst(one, init, floats) < 1e-6 && half > 1e-2, "strength 0 leaves a picture as it is, 0.5 does not");
    kept.strength = 1;
    check(mm_paint_run(p, &kept, 1, &err));
    ok(!memcmp(one, all, floats * sizeof *one), "strength 1 leaves nothing of it");
    static char lot[2001];
    memset(lot, 'x', 2000);
    mm_paint_job bad[] = { job("a kite", 1, all + floats), job(lot, 1, init), job("\xff", 1, init), job("a kite", 1, one) };
    check(mm_paint_run(p, bad, 4, &err));
    ok(!bad[0].code && bad[1].code == MM_ELONG && bad[2].code == MM_EDATA && !bad[3].code, "prompts that fail cost themselves");
    ok(!memcmp(one, all, floats * sizeof *one) && !memcmp(one, all + floats, floats * sizeof *one), "and nothing else");
    free(all);
    mm_paint_free(&p);
}

static void png(void)
{
    static const int sizes[][2] = { { 1, 1 }, { 7, 5 }, { 300, 2 }, { 3, 200 } };
    for (size_t i = 0; i < 4; i++) {
        const int w = sizes[i][0], h = sizes[i][1];
        mm_image im = { malloc((size_t)(w * h * 3)), w, h }, back = { 0 };
        mm_buf b = { 0 };
        mm_rng r = mm_rng_at(i, 1, 0, 0);
        for (int k = 0; k < w * h * 3; k++) im.px[k] = (uint8_t)(i & 1 ? mm_rng_below(&r, 256) : (uint32_t)(k / 3 + k % 3 * 40));
        check(mm_image_png(&b, &im, &err));
        const int code = mm_image_read(&back, &(mm_media_src){ .data = b.p, .len = b.len }, NULL, NULL, &err);
        ok(!code && back.width == w && back.height == h && !memcmp(back.px, im.px, (size_t)(w * h * 3)), "a PNG of %d x %d: %zu bytes", w, h, b.len);
        mm_buf_clear(&b);
        mm_image_clear(&im);
        mm_image_clear(&back);
    }
    mm_buf b = { 0 };
    is_int(mm_image_png(&b, &(mm_image){ 0 }, &err), MM_EEMPTY, "an empty picture is none");
}

int main(void)
{
    mm_model_opts how = MM_MODEL_OPTS_INIT;
    mm_paint *p;
    how.threads = 2;
    snprintf(path, sizeof path, "/tmp/test-paint-%ld.gguf", (long)getpid());
    tiny_uni(path, 0);
    check(mm_model_open(&model, path, &how, &err));
    ok(mm_paint_new(&p, model, &(mm_paint_opts){ 1, 1 }, &err) == MM_EUNSUP && strstr(err.msg, "rectified-flow"), "a model without the head: %s", err.msg);
    mm_model_close(&model);
    tiny_uni(path, 1);
    how.heads = 1u << MM_UNI_FLOW;
    check(mm_model_open(&model, path, &how, &err));
    one_step();
    company();
    png();
    mm_model_close(&model);
    unlink(path);
    return done();
}

/* The unified model: shares, plans, files, and that a model that is read embeds as the one that was written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "model/mm_uni.h"
#include "tap.h"

static mm_err err;

static mm_uni *made(const mm_uni_config *c)
{
    mm_uni *u = NULL;
    if (mm_uni_new(&u, c, &err)) return NULL;
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(u, i);
        s->p.w = mm_aligned(s->p.rows * s->p.cols, sizeof *s->p.w);
    }
    mm_uni_bind(u);
    mm_uni_init(u, 7);
    return u;
}

static void freed(mm_uni *u)
{
    for (size_t i = 0; u && i < mm_uni_count(u); i++) free(mm_uni_slot_at(u, i)->p.w);
    mm_uni_free(&u);
}

static mm_uni_config little(void)
{
    mm_uni_config c;
    if (mm_uni_config_named(&c, "tiny", &err)) exit(4);
    c.layers = 2;
    c.width = 32;
    c.heads = 2;
    c.ff_width = 64;
    c.out = 32;
    c.vocab = 300;
    c.mod[MM_TEXT].width = 24;
    c.mod[MM_TEXT].direct = 6;
    for (int m = 1; m < MM_MODALITIES; m++) c.mod[m].width = 32, c.mod[m].merge[0] = c.mod[m].merge[1] = 16;
    c.mod[MM_IMAGE].size = c.mod[MM_VIDEO].size = 32;
    c.mod[MM_VIDEO].frames = 4;
    c.mod[MM_AUDIO].frames = 50;
    if (mm_uni_plan(&c, "*.norm=all image.attn=0 text.ffn=1", &err)) exit(4);
    return c;
}

static void no_place(void)
{
    mm_uni_config c = little(), d;
    mm_uni *u = NULL;
    json_t *j = mm_uni_config_json(&c);
    ok(!mm_uni_config_parse(&d, j, &err) && d.mod[MM_TEXT].direct == 6, "numbers past the trunk are in the configuration");
    json_object_set_new(json_object_get(j, "text"), "direct", json_integer(9));
    ok(mm_uni_config_parse(&d, j, &err) == MM_EDATA, "9 behind 24 are too many for 32: %s", err.msg);
    json_decref(j);
    c.mod[MM_TEXT].direct = 9;
    ok(mm_uni_new(&u, &c, &err) == MM_EARG && !u, "refused: %s", err.msg);
}

static void shares(void)
{
    static const char *const names[] = { "tiny", "small", "base" };
    for (int i = 0; i < 3; i++) {
        mm_uni_config c;
        mm_uni *u = NULL;
        int good = !mm_uni_config_named(&c, names[i], &err) && !mm_uni_new(&u, &c, &err);
        for (int m = 0; m < MM_MODALITIES && good; m++) {
            size_t total, shared;
            mm_uni_share(u, (mm_modality)m, &total, &shared);
            double share = 100.0 * (double)shared / (double)total;
            ok(fabs(share - 67) <= 1, "%s: %.2f %% of the %s encoder are shared", names[i], share, mm_modality_name((mm_modality)m));
        }
        ok(good, "%s", names[i]);
        mm_uni_free(&u);
    }
    mm_uni_config base;
    ok(!mm_uni_config_named(&base, "base", &err) && base.mod[MM_TEXT].width == 768 && base.mod[MM_IMAGE].width == 1024,
       "base has the published widths");
}

static void plans(void)
{
    mm_uni_config c = little();
    ok(!mm_uni_plan(&c, "text.attn=0-1 *.norm=all image.ffn=1", &err) && c.own[MM_UNI_ATTENTION][MM_TEXT] == 3 &&
           c.own[MM_UNI_NORM][MM_VIDEO] == 3 && c.own[MM_UNI_FFN][MM_IMAGE] == 2 && !c.own[MM_UNI_FFN][MM_TEXT], "a plan");
    static const char *const wrong[] = { "text.attn=2", "text.att=0", "smell.attn=0", "text.attn", "text.attn=1-0", "text.attn=0-" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) ok(mm_uni_plan(&c, wrong[i], &err) == MM_EARG, "refused: %s (%s)", wrong[i], err.msg);
    json_t *j = mm_uni_config_json(&c);
    mm_uni_config d;
    ok(!mm_uni_config_parse(&d, j, &err) && !memcmp(&c, &d, sizeof c), "a configuration through JSON");
    ok(!json_object_get(j, "apart") && !json_object_set_new(j, "apart", json_integer(1)) && !mm_uni_config_parse(&d, j, &err) && d.apart == 1,
       "parts that do not attend to each other");
    json_object_set_new(j, "heads", json_integer(3));
    ok(mm_uni_config_parse(&d, j, &err) == MM_EDATA, "heads that do not fit: %s", err.msg);
    json_decref(j);
}

enum { N = 5 };
static float pixels[N][4 * 3 * 32 * 32], mel[N][50 * 64];

/* n inputs from the `from`-th on */
static void input(mm_uni_in *in, mm_modality m, size_t from, size_t n)
{
    static int32_t ids[N * 8];
    static size_t off[N + 1], frames[N];
    static const float *x[N];
    *in = (mm_uni_in){ .mod = m, .n = n, .ids = ids, .off = off, .x = x, .frames = frames, .height = 32, .width = 32 };
    off[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = from + i;
        off[i + 1] = off[i] + 1 + k % 4;
        for (size_t t = off[i]; t < off[i + 1]; t++) ids[t] = (int32_t)((k * 31 + (t - off[i]) * 7) % 300);
        x[i] = m == MM_AUDIO ? mel[k] : pixels[k];
        frames[i] = m == MM_AUDIO ? 11 + 9 * k : 4;
    }
}

static float *embedded(const mm_uni *u, mm_modality m, size_t from, size_t n, int threads)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = threads };
    mm_uni_in in;
    input(&in, m, from, n);
    mm_tensor z = mm_uni_embed(&g, u, &in);
    float *v = malloc(n * z.cols * sizeof *v);
    if (v && z.p) memcpy(v, z.p, n * z.cols * sizeof *v);
    mm_arena_clear(&a);
    return v;
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return ab / sqrt(aa * bb);
}

static void files(void)
{
    mm_uni_config c = little();
    mm_uni *u = made(&c), *v = NULL;
    char path[64];
    snprintf(path, sizeof path, "/tmp/test-uni-%ld.gguf", (long)getpid());
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < sizeof pixels[0] / sizeof **pixels; k++) pixels[i][k] = sinf((float)(k * (i + 1)) * 0.37f);
        for (size_t k = 0; k < sizeof mel[0] / sizeof **mel; k++) mel[i][k] = cosf((float)(k * (i + 2)) * 0.11f);
    }
    static const int types[] = { MM_F32, MM_F16, MM_Q8_0 };
    static const double least[] = { 0.9999999, 0.99999, 0.999 };
    for (int t = 0; t < 3; t++) {
        mm_store *st = NULL;
        mm_uni_config d;
        int r = mm_uni_write(u, path, types[t], NULL, NULL, 0, NULL, &err);
        if (!r) r = mm_store_open(&st, path, &err);
        if (!r) r = mm_uni_config_read(&d, st, &err);
        if (!r) r = mm_uni_new(&v, &d, &err);
        if (!r) r = mm_uni_load(v, st, 0, &err);
        ok(!r && !memcmp(&c, &d, sizeof c), "type %d is written and read: %s", types[t], r ? err.msg : "");
        for (int m = 0; m < MM_MODALITIES && !r; m++) {
            float *a = embedded(u, (mm_modality)m, 0, N, 1), *b = embedded(v, (mm_modality)m, 0, N, 1), *two = embedded(v, (mm_modality)m, 0, N, 2);
            float *one = embedded(v, (mm_modality)m, N - 1, 1, 1);
            double worst = 1;
            for (size_t i = 0; i < N; i++) worst = fmin(worst, cosine(a + i * 32, b + i * 32, 32));
            ok(worst >= least[t], "type %d, %s: cosine %.8f to the weights it was written from", types[t], mm_modality_name((mm_modality)m), worst);
            ok(!memcmp(b, two, N * 32 * sizeof *b), "the same bits with two threads");
            ok(!memcmp(b + (N - 1) * 32, one, 32 * sizeof *b), "and alone");
            free(a), free(b), free(two), free(one);
        }
        mm_uni_free(&v);
        mm_store_close(&st);
    }
    mm_store *st = NULL;
    mm_uni_config other = c;
    other.ff_width = 96;
    ok(!mm_store_open(&st, path, &err) && !mm_uni_new(&v, &other, &err) && mm_uni_load(v, st, 0, &err) == MM_ESHAPE, "another shape is refused: %s", err.msg);
    mm_uni_free(&v);
    mm_store_close(&st);
    unlink(path);
    freed(u);
}

/* A text model that has not been trained gives the mean of its tokens' rows, but for the small steps of the blocks. */
static void bag(void)
{
    mm_uni_config c = little();
    mm_uni *u = made(&c);
    mm_uni_slot *tab = mm_uni_slot_find(u, "token_embd.weight"), *direct = mm_uni_slot_find(u, "token_direct.weight");
    for (size_t k = 0; k < 300 * 6; k++) direct->p.w[k] = 0.1f * sinf((float)(k * k));
    float *v = embedded(u, MM_TEXT, 0, N, 1), mean[32];
    mm_uni_in in;
    input(&in, MM_TEXT, 0, N);
    double worst = 1;
    for (size_t i = 0; i < N; i++) {
        memset(mean, 0, sizeof mean);
        for (size_t t = in.off[i]; t < in.off[i + 1]; t++)
            for (size_t k = 0; k < 30; k++) mean[k] += k < 24 ? tab->p.w[(size_t)in.ids[t] * 24 + k] : direct->p.w[(size_t)in.ids[t] * 6 + k - 24];
        worst = fmin(worst, cosine(mean, v + i * 32, 32));
    }
    ok(worst > 0.99, "an untrained text side is the bag of its tokens: cosine %.4f", worst);
    free(v);
    freed(u);
}

int main(void)
{
    shares();
    no_place();
    plans();
    files();
    bag();
    return done();
}

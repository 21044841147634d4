/* Prototypes of few examples: against elimination without any cleverness, and in a model, where only what is near moves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "model/mm_uni.h"
#include "tap.h"
#include "train/mm_uni_task.h"

enum { N = 9, D = 32 };
static mm_err err;

/* Directions of N pictures in two heaps, and of their labels. */
static void draw(float *x, float *to)
{
    for (size_t i = 0; i < N; i++) {
        double xx = 0, tt = 0;
        for (size_t k = 0; k < D; k++) {
            x[i * D + k] = (float)(sin((double)(k * (i % 2 + 1)) * 1.7) + 0.3 * cos((double)(k * 7 + i * 13)));
            to[i * D + k] = (float)cos((double)(k * (i % 3 + 2)) * 0.9);
            xx += (double)x[i * D + k] * x[i * D + k], tt += (double)to[i * D + k] * to[i * D + k];
        }
        for (size_t k = 0; k < D; k++) x[i * D + k] = (float)(x[i * D + k] / sqrt(xx)), to[i * D + k] = (float)(to[i * D + k] / sqrt(tt));
    }
}

static double dot(const float *a, const float *b)
{
    double s = 0;
    for (size_t k = 0; k < D; k++) s += (double)a[k] * b[k];
    return s;
}

/* z', as the header has it. */
static void moved(const mm_few *f, const float *z, double *out)
{
    double len = 0;
    for (size_t k = 0; k < D; k++) {
        out[k] = z[k];
        for (size_t i = 0; i < f->n; i++) out[k] += (double)f->value[k * f->n + i] * exp2((dot(z, f->key + i * D) - 1) / f->width);
        len += out[k] * out[k];
    }
    for (size_t k = 0; k < D; k++) out[k] /= sqrt(len);
}

/* (K + 0.1) v = share (to - x) by Gauss and Jordan, with pivots. */
static double distance_to_plain(const mm_few *f, const float *x, const float *to, double share)
{
    static double a[N][N + D];
    double worst = 0;
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < N; j++) a[i][j] = exp2((dot(x + i * D, x + j * D) - 1) / f->width) + (i == j ? 0.1 : 0);
        for (size_t k = 0; k < D; k++) a[i][N + k] = share * ((double)to[i * D + k] - x[i * D + k]);
    }
    for (size_t p = 0; p < N; p++) {
        size_t best = p;
        for (size_t i = p; i < N; i++) best = fabs(a[i][p]) > fabs(a[best][p]) ? i : best;
        for (size_t j = 0; j < N + D; j++) {
            double t = a[p][j];
            a[p][j] = a[best][j], a[best][j] = t;
        }
        for (size_t i = 0; i < N; i++) {
            double q = a[i][p] / a[p][p];
            for (size_t j = 0; j < N + D && i != p; j++) a[i][j] -= q * a[p][j];
        }
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < D; k++) worst = fmax(worst, fabs(a[i][N + k] / a[i][i] - (double)f->value[k * N + i]));
    return worst;
}

static double median_of_nearest(const float *x)
{
    double d[N];
    for (size_t i = 0; i < N; i++) {
        d[i] = 9;
        for (size_t j = 0; j < N; j++)
            if (j != i) d[i] = fmin(d[i], 1 - dot(x + i * D, x + j * D));
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = i + 1; j < N; j++)
            if (d[j] < d[i]) {
                double t = d[i];
                d[i] = d[j], d[j] = t;
            }
    return d[N / 2];
}

static void closed_form(void)
{
    float x[N * D], to[N * D], far[D];
    double z[D], before = 0, after = 0;
    mm_few f, g;
    draw(x, to);
    ok(!mm_few_fit(&f, x, to, N, D, 0.6, &err) && f.n == N && f.dim == D && !memcmp(f.key, x, sizeof x), "the examples are kept");
    ok(fabs(f.width - median_of_nearest(x)) < 1e-5, "width %.4f: the median distance to the nearest", f.width);
    double worst = distance_to_plain(&f, x, to, 0.6);
    ok(worst < 1e-5, "values as by elimination: within %.1e", worst);
    for (size_t i = 0; i < N; i++) {
        moved(&f, x + i * D, z);
        before += dot(x + i * D, to + i * D) / N;
        for (size_t k = 0; k < D; k++) after += z[k] * (double)to[i * D + k] / N;
    }
    ok(after > before + 0.4, "examples come near their labels: cosine %.2f, was %.2f", after, before);
    for (size_t k = 0; k < D; k++) far[k] = -x[k];
    moved(&f, far, z);
    double same = 0;
    for (size_t k = 0; k < D; k++) same += z[k] * (double)far[k];
    ok(same > 0.999, "what is far stays: cosine %.5f", same);
    ok(!mm_few_fit(&g, x, to, N, D, 0, &err), "no share of the way");
    for (size_t i = 0; i < N * D; i++) same = g.value[i] != 0 ? 0 : same;
    ok(same > 0, "changes nothing");
    mm_few_clear(&g);
    mm_few_clear(&f);
}

static void edges(void)
{
    static float x[3 * D], to[3 * D];
    mm_few f;
    float a[N * D], b[N * D];
    draw(a, b);
    int r = mm_few_fit(&f, a, b, 1, D, 1, &err);
    ok(!r && f.width > 0.1, "one example: width %.2f", f.width);
    mm_few_clear(&f);
    for (int i = 0; i < 3; i++) memcpy(x + i * D, a, D * sizeof *x), memcpy(to + i * D, b + i % 2 * D, D * sizeof *to);
    r = mm_few_fit(&f, x, to, 3, D, 1, &err);
    ok(!r && f.width > 0 && isfinite(f.value[0]), "the same picture three times, with two labels: width %.3f", f.width);
    mm_few_clear(&f);
    x[5] = NAN;
    r = mm_few_fit(&f, x, to, 3, D, 1, &err);
    ok(r == MM_EDATA && !f.key, "what is no number: %s", err.msg);
    r = mm_few_fit(&f, a, b, MM_FEW_MOST + 1, D, 1, &err);
    ok(r == MM_EARG && !f.key, "too many: %s", err.msg);
}

/* ---- in a model ---- */

static mm_uni_config little(void)
{
    mm_uni_config c;
    if (mm_uni_config_named(&c, "tiny", &err)) exit(4);
    c.layers = 2, c.width = 32, c.heads = 2, c.ff_width = 64, c.out = D, c.vocab = 300, c.mod[MM_TEXT].width = 24;
    for (int m = 1; m < MM_MODALITIES; m++) c.mod[m].width = 32, c.mod[m].merge[0] = c.mod[m].merge[1] = 16;
    c.mod[MM_IMAGE].size = c.mod[MM_VIDEO].size = 32;
    if (mm_uni_plan(&c, "*.norm=all image.attn=0 text.ffn=1", &err)) exit(4);
    return c;
}

static mm_uni *made(const mm_uni_config *c)
{
    mm_uni *u = NULL;
    if (mm_uni_new(&u, c, &err)) exit(4);
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(u, i);
        if (!(s->p.w = mm_aligned(s->p.rows * s->p.cols, sizeof *s->p.w))) exit(4);
    }
    mm_uni_bind(u);
    return u;
}

static void freed(mm_uni *u)
{
    for (size_t i = 0; u && i < mm_uni_count(u); i++) free(mm_uni_slot_at(u, i)->p.w);
    mm_uni_free(&u);
}

static void embed(const mm_uni *u, mm_modality m, float *v)
{
    static float px[N][3 * 32 * 32];
    static const float *x[N];
    static int32_t ids[N];
    static size_t off[N + 1];
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < sizeof *px / sizeof **px; k++) px[i][k] = sinf((float)(k * (i + 1)) * 0.37f);
        x[i] = px[i], ids[i] = (int32_t)i * 31, off[i + 1] = i + 1;
    }
    mm_tensor z = mm_uni_embed(&g, u, &(mm_uni_in){ .mod = m, .n = N, .x = x, .ids = ids, .off = off, .height = 32, .width = 32 });
    if (!z.p) exit(4);
    memcpy(v, z.p, N * D * sizeof *v);
    mm_arena_clear(&a);
}

static double worst_cosine(const mm_few *f, const float *z, const float *got)
{
    double want[D], worst = 1;
    for (size_t i = 0; i < N; i++) {
        double c = 0;
        moved(f, z + i * D, want);
        for (size_t k = 0; k < D; k++) c += want[k] * (double)got[i * D + k];
        worst = fmin(worst, c);
    }
    return worst;
}

static void in_a_model(void)
{
    float z[N * D], text[N * D], to[N * D], unused[N * D], got[N * D];
    char path[64];
    mm_few f;
    mm_uni_config c = little(), d;
    mm_uni *u = made(&c), *v = NULL;
    mm_uni_init(u, 7);
    embed(u, MM_IMAGE, z);
    embed(u, MM_TEXT, text);
    draw(unused, to);
    if (mm_few_fit(&f, z, to, 5, D, 0.6, &err)) exit(4);
    const mm_few few[MM_MODALITIES] = { [MM_IMAGE] = f };
    if (mm_uni_with_few(&v, u, few, &err)) exit(4);
    c = *mm_uni_get_config(v);
    is_int(c.mod[MM_IMAGE].few, 5, "a model with five of them");
    embed(v, MM_IMAGE, got);
    double cosine = worst_cosine(&f, z, got);
    ok(cosine > 0.999999 && memcmp(z, got, sizeof z) != 0, "pictures move as the formula says: cosine %.7f", cosine);
    embed(v, MM_TEXT, got);
    ok(!memcmp(text, got, sizeof text), "texts keep their bits");
    snprintf(path, sizeof path, "/tmp/test-few-%ld.gguf", (long)getpid());
    static const int types[] = { MM_F32, MM_F16, MM_Q8_0 };
    for (int t = 0; t < 3; t++) {
        mm_store *st = NULL;
        mm_uni *w = NULL;
        int r = mm_uni_write(v, path, types[t], NULL, NULL, 0, NULL, &err);
        if (!r) r = mm_store_open(&st, path, &err);
        if (!r) r = mm_uni_config_read(&d, st, &err);
        if (!r) r = mm_uni_new(&w, &d, &err);
        if (!r) r = mm_uni_load(w, st, 0, &err);
        if (!r) embed(w, MM_IMAGE, got);
        cosine = r ? 0 : worst_cosine(&f, z, got);
        ok(!r && !memcmp(&c, &d, sizeof c) && cosine > (t == 2 ? 0.99 : 0.9999), "type %d, written and read: cosine %.6f %s", types[t], cosine,
           r ? err.msg : "");
        mm_uni_free(&w);
        mm_store_close(&st);
    }
    unlink(path);
    json_t *j = mm_uni_config_json(&c);
    json_object_set_new(json_object_get(j, "image"), "few_width", json_integer(0));
    int r = mm_uni_config_parse(&d, j, &err);
    ok(r == MM_EDATA, "no width: %s", err.msg);
    json_object_set_new(json_object_get(j, "image"), "few", json_integer(-1));
    r = mm_uni_config_parse(&d, j, &err);
    ok(r == MM_EDATA, "fewer than none: %s", err.msg);
    json_decref(j);
    mm_few_clear(&f);
    mm_uni_free(&v);
    freed(u);
}

int main(void)
{
    closed_form();
    edges();
    in_a_model();
    return done();
}

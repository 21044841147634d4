/* Records of several parts in training: what makes parts worse, how that is measured, and that the weights of parts learn from it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data_files.h"
#include "tinybert.h"
#include "tap.h"
#include "train/mm_corrupt.h"
#include "train/mm_optim.h"
#include "train/mm_uni_task.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, FRAMES = 40, BINS = MM_UNI_MEL };

static float pixels[3 * PLANE], mel[FRAMES * BINS];

/* A drawing of two colours, and a tone that stops. */
static void clean(void)
{
    for (int i = 0; i < 3 * PLANE; i++) pixels[i] = (i / SIDE % SIDE / 8 + i % SIDE / 8) % 2 ? 1.2f : -0.6f;
    for (int i = 0; i < FRAMES * BINS; i++) mel[i] = i / BINS < FRAMES / 2 && i % BINS / 4 == 5 ? 1.5f : -2.4f;
}

/* Quality of a picture or a sound, alone in its record but for a text. */
static void quality(const mm_uni *u, mm_modality m, const float *x, float q[MM_UNI_QUALITY])
{
    static const int32_t ids[] = { 3, 4 };
    const size_t off[] = { 0, 2 }, of[] = { 0 }, frames[] = { m == MM_AUDIO ? FRAMES : 1 };
    const mm_uni_in in = { .mod = m, .n = 1, .x = &x, .frames = frames, .height = SIDE, .width = SIDE };
    const mm_uni_in text = { .mod = MM_TEXT, .n = 1, .ids = ids, .off = off };
    mm_uni_records rec = { .n = 1, .in = { [MM_TEXT] = &text }, .of = { [MM_TEXT] = of } };
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    rec.in[m] = &in;
    rec.of[m] = of;
    mm_uni_measure(&g, u, &rec);
    memset(q, 0, MM_UNI_QUALITY * sizeof *q);
    if (ok(!g.failed && rec.quality[m] && rec.quality[MM_TEXT], "measured")) memcpy(q, rec.quality[m], MM_UNI_QUALITY * sizeof *q);
    int good = 1;
    for (int i = 0; i < MM_UNI_QUALITY; i++) good &= q[i] >= 0 && q[i] <= 1;
    ok(good && rec.quality[MM_TEXT][1] == 1 && rec.quality[MM_TEXT][3] == q[3], "within 0 .. 1: %.3f %.3f %.3f %.3f", (double)q[0], (double)q[1],
       (double)q[2], (double)q[3]);
    mm_arena_clear(&a);
}

static void pictures(const mm_uni *u)
{
    static const char *const names[] = { "blurred", "noisy", "dark" };
    float y[3 * PLANE], again[3 * PLANE], tmp[SIDE], q[MM_UNI_QUALITY], less[MM_UNI_QUALITY];
    const mm_rng rng = mm_rng_at(1, 2, 3, 4);
    quality(u, MM_IMAGE, pixels, q);
    for (int how = 0; how < MM_CORRUPT_PICTURES; how++) {
        double far[2] = { 0, 0 };
        for (int k = 0; k < 2; k++) {
            mm_corrupt_pixels(y, pixels, 1, SIDE, SIDE, (mm_corrupt_picture)how, k ? 0.9f : 0.2f, tmp, rng);
            for (int i = 0; i < 3 * PLANE; i++) far[k] += fabs((double)y[i] - pixels[i]);
        }
        memcpy(again, pixels, sizeof again);
        mm_corrupt_pixels(again, again, 1, SIDE, SIDE, (mm_corrupt_picture)how, 0.9f, tmp, rng);
        ok(far[0] > 0 && far[1] > far[0] && !memcmp(y, again, sizeof y), "%s: more the higher the level, the same in place", names[how]);
        quality(u, MM_IMAGE, y, less);
        if (how < MM_CORRUPT_DARK) ok(less[how] < q[how] - 0.1f, "... and measured: %.3f, clean %.3f", (double)less[how], (double)q[how]);
        mm_corrupt_pixels(y, pixels, 1, SIDE, SIDE, (mm_corrupt_picture)how, 0.9f, tmp, mm_rng_at(1, 2, 3, 5));
        ok((how == MM_CORRUPT_NOISE) == (memcmp(y, again, sizeof y) != 0), "... by other numbers");
    }
    /* a mean of 9 in the middle of nothing but one point */
    memset(y, 0, sizeof y);
    y[16 * SIDE + 16] = 81;
    mm_corrupt_pixels(y, y, 1, SIDE, SIDE, MM_CORRUPT_BLUR, 7.5f / 16, tmp, rng);
    ok(fabsf(y[16 * SIDE + 16] - 1) < 1e-5f && fabsf(y[12 * SIDE + 12] - 1) < 1e-5f && y[11 * SIDE + 16] == 0 && y[21 * SIDE + 16] == 0 &&
           y[20 * SIDE + 16] > 0, "a blur is a mean over a square");
}

static void sounds(const mm_uni *u)
{
    float y[FRAMES * BINS], again[FRAMES * BINS], q[MM_UNI_QUALITY], less[MM_UNI_QUALITY];
    quality(u, MM_AUDIO, mel, q);
    ok(q[0] > 0.5f && fabsf(q[1] - 0.5f) < 0.01f && q[2] > 0.8f, "a tone, half of it silence");
    for (int k = 0; k < 2; k++) mm_corrupt_mel(k ? again : y, mel, FRAMES, BINS, MM_CORRUPT_HISS, 0.9f, mm_rng_at(5, 6, 7, 8));
    quality(u, MM_AUDIO, y, less);
    ok(less[0] < q[0] && less[2] < q[2] - 0.3f && !memcmp(y, again, sizeof y), "under white noise");
    mm_corrupt_mel(y, mel, FRAMES, BINS, MM_CORRUPT_HUSH, 1, mm_rng_at(5, 6, 7, 8));
    int same = 1;
    for (int i = 0; i < FRAMES * BINS; i++) same &= y[i] == y[0];
    quality(u, MM_AUDIO, y, less);
    ok(same && less[1] == 0, "without any power");
}

static char other[] = "other"; /* of the text that words are taken from */

static const char *word_of_another(void *arg, mm_rng *rng, size_t *len)
{
    (void)rng;
    *len = strlen(arg);
    return arg;
}

static void texts(void)
{
    static const char text[] = "one two three four five six seven eight";
    mm_arena a = { 0 };
    const char *x[4];
    for (int i = 0; i < 4; i++) x[i] = mm_corrupt_words(text, sizeof text - 1, i == 2 ? 1 : 0, word_of_another, other, &a, mm_rng_at(1, 0, 0, i == 3 ? 9 : 0));
    ok(x[0] && x[1] && x[2] && x[3] && !strcmp(x[0], x[1]) && strcmp(x[0], x[3]) != 0 && strcmp(x[0], text) != 0 && strlen(x[0]) == sizeof text - 1,
       "words at new places: %s", x[0]);
    ok(!strcmp(x[2], "other other other other other other other other"), "words of another text: %s", x[2]);
    ok(!strcmp(mm_corrupt_words("", 0, 1, word_of_another, other, &a, mm_rng_at(1, 0, 0, 0)), ""), "of nothing nothing");
    mm_arena_clear(&a);
}

/* Parts that do not attend to each other: the record's vector is the sum of theirs, whether they are given or made on the way. */
static void apart(const mm_uni *u)
{
    static const int32_t ids[] = { 3, 4, 5 };
    const size_t off[] = { 0, 3 }, of[] = { 0 }, frames[] = { FRAMES };
    const float *px = pixels, *sound = mel;
    const mm_uni_in in[] = { { .mod = MM_TEXT, .n = 1, .ids = ids, .off = off },
                             { .mod = MM_IMAGE, .n = 1, .x = &px, .height = SIDE, .width = SIDE },
                             { .mod = MM_AUDIO, .n = 1, .x = &sound, .frames = frames } };
    mm_uni_records rec = { .n = 1 };
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    mm_tensor gates;
    mm_ragged parts;
    float sum[32] = { 0 };
    for (int m = 0; m < 3; m++) rec.in[m] = &in[m], rec.of[m] = of;
    mm_uni_measure(&g, u, &rec);
    mm_tensor y = mm_uni_fuse(&g, u, &rec, &gates, &parts);
    if (!ok(!g.failed && parts.n == 1 && gates.rows == 3, "three parts")) return;
    for (int m = 0; m < 3; m++)
        for (int d = 0; d < 32; d++) sum[d] += expf(gates.p[m]) * rec.alone[m][d];
    g.kern->l2_normalize(sum, 1, 32);
    double worst = 0;
    for (int d = 0; d < 32; d++) worst = fmax(worst, fabs((double)sum[d] - y.p[d]));
    ok(worst < 1e-6, "their vectors, weighed: off by %.1g", worst);
    for (int m = 0; m < 3; m++) rec.alone[m] = NULL;
    mm_tensor z = mm_uni_fuse(&g, u, &rec, NULL, NULL);
    ok(z.p && !memcmp(z.p, y.p, 32 * sizeof *z.p), "made on the way: the same bits");
    mm_arena_clear(&a);
}

/* ---- training ---- */

typedef struct {
    mm_uni *u;
    mm_uni_task *t;
    mm_pset ps;
} run;

static mm_dataset *data(void)
{
    mm_dataset *d = NULL;
    mm_buf b = { 0 };
    mm_prep p;
    char name[40];
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "p%d.png", i);
        df_png(name, 40, 40, 3 * i);
        snprintf(name, sizeof name, "s%d.wav", i);
        df_wav(name, 6000, 200 + 150 * i);
        mm_buf_addf(&b, "{\"id\":\"%d\",\"image\":\"p%d.png\",\"audio\":\"s%d.wav\",\"text\":\"a %s thing\",\"texts\":{\"en\":[\"%s\",\"very %s\"]}}\n",
                    i, i, i, i % 2 ? "red" : "blue", i % 3 ? "old" : "new", i % 2 ? "red" : "blue");
    }
    df_write("fused.jsonl", b.p, b.len);
    mm_buf_clear(&b);
    mm_prep_init(&p, SIDE);
    mm_uni_spec(&p.image, MM_IMAGE, SIDE, 1);
    mm_uni_spec(&p.audio, MM_AUDIO, 0, 100);
    p.max_seconds = 1;
    int r = mm_dataset_open(&d, &(mm_dataset_opts){ .prep = &p, .cache = df_path("f.mmc"), .bad = df_bad }, &err);
    if (!r) r = mm_dataset_add(d, df_path("fused.jsonl"), &err);
    if (!r) r = mm_dataset_load(d, &err);
    if (!ok(!r && !df_bad_count, "the data set is loaded")) printf("# %s %s\n", err.msg, df_last);
    return d;
}

static int configured(mm_uni **u, const mm_tok *tok, int apart)
{
    mm_uni_config c;
    if (mm_uni_config_named(&c, "tiny", &err)) return -1;
    c.layers = 2;
    c.width = 32;
    c.heads = 2;
    c.ff_width = 64;
    c.out = 32;
    c.vocab = (int64_t)mm_tok_vocab(tok);
    c.apart = apart;
    for (int m = 0; m < MM_MODALITIES; m++) c.mod[m].width = m == MM_VIDEO ? 0 : 24, c.mod[m].merge[0] = c.mod[m].merge[1] = m == MM_TEXT ? 0 : 16;
    c.mod[MM_IMAGE].size = SIDE;
    c.mod[MM_AUDIO].frames = 100;
    return mm_uni_plan(&c, "*.norm=all", &err) || mm_uni_new(u, &c, &err);
}

static int run_open(run *r, const mm_tok *tok, const mm_dataset *d, int sounds_too, int apart, int threads)
{
    mm_batch_opts b;
    *r = (run){ 0 };
    if (configured(&r->u, tok, apart)) return -1;
    for (size_t i = 0; i < mm_uni_count(r->u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(r->u, i);
        if (!(s->p.w = mm_aligned(s->p.rows * s->p.cols, sizeof *s->p.w))) return -1;
    }
    mm_uni_bind(r->u);
    mm_uni_init(r->u, 3);
    mm_uni_slot *head = mm_uni_slot_find(r->u, "alloc.1.weight"); /* which begins with zeros, and would leave the layer before it without a gradient */
    for (size_t i = 0; i < head->p.cols; i++) head->p.w[i] = 0.3f * sinf((float)i);
    for (int l = 0; l < 2; l++)
        for (int h = 0; h < 2; h++) mm_uni_slot_find(r->u, l ? "blk.1.attn_alloc" : "blk.0.attn_alloc")->p.w[h] = 0.5f + 0.2f * (float)(l + h);
    mm_batch_defaults(&b);
    b.count[MM_IMAGE] = 6;
    b.count[MM_AUDIO] = sounds_too ? 4 : 0;
    b.count[MM_VIDEO] = 0;
    b.px = SIDE;
    b.no_thread = 1;
    mm_uni_task_opts o = MM_UNI_TASK_OPTS_INIT;
    o.model = r->u;
    o.tok = tok;
    o.data = d;
    o.batch = &b;
    o.texts = 0;
    o.threads = threads;
    o.weight = (mm_uni_weights){ .fused = 1 };
    if (mm_uni_task_open(&r->t, &o, &err)) return -1;
    for (size_t i = 0; i < mm_uni_count(r->u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(r->u, i);
        if (mm_pset_add(&r->ps, s->name, &s->p, 0, 1, &err)) return -1;
    }
    if (mm_pset_freeze(&r->ps, "[!ab]*,audio.*,blk.*.attn_[!a]*,blk.*.ffn*", &err)) return -1;
    float *kept[200] = { NULL };
    for (size_t i = 0; i < mm_uni_count(r->u); i++) kept[i] = mm_uni_slot_at(r->u, i)->p.w;
    if (mm_pset_build(&r->ps, &err)) return -1;
    mm_uni_bind(r->u);
    for (size_t i = 0; i < mm_uni_count(r->u); i++) free(kept[i]); /* the set has copied them */
    return 0;
}

static void run_close(run *r)
{
    mm_uni_task_close(&r->t);
    mm_pset_clear(&r->ps);
    mm_uni_free(&r->u);
}

static double loss_at(run *r, uint64_t step)
{
    float loss[MM_MODALITIES];
    mm_pset_zero(&r->ps);
    return mm_uni_task_step(r->t, step, 1, loss, &err) ? NAN : (double)loss[MM_IMAGE];
}

/* Every gradient of the net, or some of many, against differences of the loss. */
static void gradients(const mm_tok *tok, const mm_dataset *d, int apart)
{
    static const char *const names[] = { "alloc.0.weight", "alloc.0.bias", "alloc.1.weight", "blk.0.attn_alloc", "blk.1.attn_alloc" };
    const size_t some = apart ? 3 : 5; /* attention has no part in it */
    run r;
    if (!ok(!run_open(&r, tok, d, 0, apart, 1), "a task: %s", err.msg)) return;
    for (size_t k = 0; k < some; k++) {
        mm_param *p = &mm_uni_slot_find(r.u, names[k])->p;
        const size_t n = p->rows * p->cols, every = n / 24 + 1;
        double worst = 0, most = 0;
        for (size_t i = 0; i < n; i += every) {
            loss_at(&r, 4);
            const double grad = (double)p->grad[i];
            const float was = p->w[i];
            p->w[i] = was + 0.02f;
            const double up = loss_at(&r, 4);
            p->w[i] = was - 0.02f;
            const double down = loss_at(&r, 4), slope = (up - down) / 0.04;
            p->w[i] = was;
            worst = fmax(worst, fabs(slope - grad));
            most = fmax(most, fabs(grad));
        }
        ok(most > 1e-5 && worst < 0.02 * most + 1e-5, "%s: gradients up to %.2g, none is off by more than %.2g", names[k], most, worst);
    }
    ok(!mm_uni_slot_find(r.u, "blk.0.ffn_up.weight")->p.grad, "what is frozen has none");
    run_close(&r);
}

static void training(const mm_tok *tok, const mm_dataset *d)
{
    const mm_optim o = MM_OPTIM_INIT;
    float loss[MM_MODALITIES], first = 0, last = 0;
    run a, b;
    if (!ok(!run_open(&a, tok, d, 1, 0, 1) && !run_open(&b, tok, d, 1, 0, 2), "tasks: %s", err.msg)) return;
    float *was = malloc(a.ps.size * sizeof *was);
    memcpy(was, a.ps.w, a.ps.size * sizeof *was);
    for (uint64_t s = 0; s < 60; s++)
        for (int k = 0; k < 2; k++) {
            run *r = k ? &b : &a;
            mm_pset_zero(&r->ps);
            if (mm_uni_task_step(r->t, s, 1, loss, &err) || mm_pset_step(&r->ps, &o, 1e-2, 1, 1 + k, NULL) < 0) ok(0, "%s", err.msg);
            if (s < 10) first += loss[MM_IMAGE] + loss[MM_AUDIO];
            if (s >= 50) last += loss[MM_IMAGE] + loss[MM_AUDIO];
        }
    ok(last < first, "the loss falls: %.3f to %.3f", (double)first / 40, (double)last / 40);
    ok(!memcmp(a.ps.w, b.ps.w, a.ps.size * sizeof(float)), "the same bits with two threads");
    int same = 1;
    for (size_t i = 0; i < mm_uni_count(a.u); i++) {
        const mm_uni_slot *s = mm_uni_slot_at(a.u, i);
        if (strncmp(s->name, "alloc", 5) && !strstr(s->name, "attn_alloc")) same &= !s->p.grad;
    }
    ok(same && memcmp(was, a.ps.w, a.ps.size * sizeof *was), "nothing but the net has moved");
    loss_at(&a, 200);
    memcpy(was, a.ps.grad, a.ps.size * sizeof *was);
    loss_at(&a, 5);
    loss_at(&a, 200);
    ok(!memcmp(was, a.ps.grad, a.ps.size * sizeof *was), "a step is a function of its number");
    free(was);
    run_close(&a);
    run_close(&b);
}

int main(int argc, char **argv)
{
    (void)argc;
    mm_model *m = NULL;
    mm_uni *u = NULL;
    if (df_start(argv[0])) return 99;
    clean();
    tinybert(df_path("text"), 32, 64, 0);
    if (mm_model_open(&m, df_path("text"), NULL, &err) || configured(&u, mm_model_tokenizer(m), 1)) {
        ok(0, "a model: %s", err.msg);
        return done();
    }
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(u, i);
        s->p.w = mm_aligned(s->p.rows * s->p.cols, sizeof *s->p.w);
    }
    mm_uni_bind(u);
    mm_uni_init(u, 7);
    pictures(u);
    sounds(u);
    texts();
    apart(u);
    for (size_t i = 0; i < mm_uni_count(u); i++) free(mm_uni_slot_at(u, i)->p.w);
    mm_uni_free(&u);
    mm_dataset *d = data();
    for (int k = 0; k < 2; k++) gradients(mm_model_tokenizer(m), d, k);
    training(mm_model_tokenizer(m), d);
    mm_dataset_close(&d);
    mm_model_close(&m);
    df_end();
    return done();
}

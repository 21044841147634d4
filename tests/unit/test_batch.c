/* Batches: the same bits however they are made; which examples and captions are drawn how often; budgets; what augmentation may do. */
#include <pthread.h>
#include "data_files.h"
#include "tap.h"
#include "train/mm_batch.h"

enum { PICTURES = 30, SOUNDS = 24, MORE = 12 };

static mm_err err;
static mm_dataset *d;

static void media(void)
{
    mm_buf b = { 0 };
    char name[40];
    for (int i = 0; i < PICTURES; i++) {
        snprintf(name, sizeof name, "p%d.png", i);
        df_png(name, 30 + i, 50, i);
        mm_buf_addf(&b,
                    "{\"id\":\"p%d\",\"image\":\"p%d.png\",\"text\":\"picture %d\",\"lang\":\"en\",\"texts\":{\"en\":[\"drawing "
                    "%d\"],\"de\":[\"Bild %d\"]},"
                    "\"keywords\":[\"k%d\"],\"label\":\"L%d\",\"concept\":\"c%d\"}\n",
                    i, i, i, i, i, i, i, i);
    }
    for (int i = 0; i < SOUNDS; i++) {
        snprintf(name, sizeof name, "s%d.wav", i);
        df_wav(name, 3000 + i * 900, 200 + 50 * i);
        mm_buf_addf(&b, "{\"id\":\"s%d\",\"audio\":\"s%d.wav\",\"text\":\"Ton %d\",\"lang\":\"de\",\"concept\":\"c%d\"}\n", i, i, i,
                    i * 2);
    }
    df_video("v0.mp4", 1), df_video("v1.mp4", 0);
    mm_buf_adds(&b,
                "{\"id\":\"v0\",\"video\":\"v0.mp4\",\"text\":\"blocks\"}\n{\"id\":\"v1\",\"video\":\"v1.mp4\",\"text\":\"moves left\"}\n"
                "{\"id\":\"both\",\"image\":\"p0.png\",\"audio\":\"s0.wav\",\"text\":\"both\"}\n"
                "{\"id\":\"bare\",\"image\":\"p1.png\"}\n{\"id\":\"only label\",\"image\":\"p2.png\",\"label\":\"thing\"}\n"
                "{\"id\":\"val\",\"image\":\"p3.png\",\"text\":\"for later\",\"split\":\"val\"}\n");
    df_write("one.jsonl", b.p, b.len);
    mm_buf_reset(&b);
    for (int i = 0; i < MORE; i++)
        mm_buf_addf(&b, "{\"id\":\"m%d\",\"image\":\"p%d.png\",\"text\":\"more of %s\"}\n", i, i, i < 8 ? "the same" : "another");
    df_write("two.jsonl", b.p, b.len);
    mm_buf_clear(&b);
    mm_prep p;
    mm_prep_init(&p, 40);
    int r = mm_dataset_open(&d, &(mm_dataset_opts){ .prep = &p, .cache = df_path("b.mmc"), .bad = df_bad }, &err);
    if (!r) r = mm_dataset_add(d, df_path("one.jsonl"), &err);
    if (!r) r = mm_dataset_add(d, df_path("two.jsonl"), &err);
    if (!r) r = mm_dataset_load(d, &err);
    if (!ok(!r && !df_bad_count, "the data set is loaded")) printf("# %s %s\n", err.msg, df_last);
}

static mm_batch_opts defaults(void)
{
    mm_batch_opts o;
    mm_batch_defaults(&o);
    o.count[MM_TEXT] = 8, o.count[MM_IMAGE] = 6, o.count[MM_AUDIO] = 4, o.count[MM_VIDEO] = 1;
    o.joint = 2;
    o.px = 32, o.video_px = 24;
    o.seed = 42;
    o.no_thread = 1;
    return o;
}

static mm_batches *open_with(const mm_batch_opts *o)
{
    mm_batches *b = NULL;
    if (mm_batches_open(&b, d, o, &err)) ok(0, "mm_batches_open: %s", err.msg);
    return b;
}

static uint64_t hash(const mm_batch *x)
{
    uint64_t h = mm_hash64(&x->step, sizeof x->step, 0);
    for (int m = 0; m < MM_MODALITIES; m++)
        if (x->n[m]) h = mm_hash64(x->pick[m], (size_t)x->n[m] * sizeof(mm_pick), h + (uint64_t)x->dropped[m]);
    h = mm_hash64(x->image, (size_t)x->n[MM_IMAGE] * 3 * 32 * 32 * sizeof(float), h);
    h = mm_hash64(x->mel_at, (size_t)(x->n[MM_AUDIO] + 1) * sizeof(size_t), h);
    h = mm_hash64(x->mel, x->mel_at[x->n[MM_AUDIO]] * 64 * sizeof(float), h);
    h = mm_hash64(x->video, (size_t)x->n[MM_VIDEO] * 8 * 3 * 24 * 24 * sizeof(float), h);
    h = mm_hash64(x->times, (size_t)x->n[MM_VIDEO] * 8 * sizeof(float), h);
    return mm_hash64(x->track, x->track_at[x->n[MM_VIDEO]] * 64 * sizeof(float), h);
}

/* ---- the same bits ---- */

#define STEPS 24
static uint64_t want[STEPS];

typedef struct worker {
    const mm_batches *b;
    int first, wrong;
} worker;

static void *make_some(void *arg)
{
    worker *w = arg;
    mm_arena a = { 0 };
    mm_batch x;
    for (int i = 0; i < STEPS; i++) {
        const int s = (w->first + i * 7) % STEPS;
        mm_arena_reset(&a);
        w->wrong += mm_batches_make(w->b, (uint64_t)s, &a, &x, NULL) || hash(&x) != want[s];
    }
    mm_arena_clear(&a);
    return NULL;
}

static void determinism(void)
{
    mm_batch_opts o = defaults();
    mm_batches *b = open_with(&o), *t;
    const mm_batch *x;
    mm_batch_state state = { 0 }, other;
    int wrong = 0, equal = 0;
    for (int s = 0; s < STEPS; s++) {
        if (s == 9) mm_batches_state(b, &state);
        wrong += mm_batches_next(b, &x, &err) || x->step != (uint64_t)s;
        want[s] = hash(x);
        for (int k = 0; k < s; k++) equal += want[k] == want[s];
    }
    ok(!wrong && !equal, "steps in order, each a batch of its own");
    pthread_t thread[4];
    worker w[4];
    for (int i = 0; i < 4; i++) w[i] = (worker){ b, i * 5, 0 }, wrong += pthread_create(&thread[i], NULL, make_some, &w[i]);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL), wrong += w[i].wrong;
    is_int(wrong, 0, "four threads, steps in any order: the same bits");
    o.no_thread = 0;
    t = open_with(&o);
    for (int s = 0; s < STEPS; s++) {
        wrong += mm_batches_next(t, &x, &err) || hash(x) != want[s];
        if (s % 5 == 0) usleep(3000);
    }
    is_int(wrong, 0, "a thread ahead: the same bits");
    ok(state.step == 9 && !mm_batches_seek(t, &state, &err), "back to step 9");
    for (int s = 9; s < STEPS; s++) wrong += mm_batches_next(t, &x, &err) || hash(x) != want[s];
    is_int(wrong, 0, "... the same bits again");
    mm_batches_close(&t);
    o.seed = 7;
    t = open_with(&o);
    ok(!mm_batches_next(t, &x, &err) && hash(x) != want[0], "another seed, another batch");
    ok(!mm_batches_seek(t, &state, &err) && !mm_batches_next(t, &x, &err) && hash(x) == want[9], "a state brings its seed along");
    mm_batches_close(&t);
    for (int i = 0; i < 6; i++) {
        o = defaults();
        if (i == 0) o.px = 33;
        if (i == 1) o.augment[MM_IMAGE].strength = 0.25f;
        if (i == 2) o.count[MM_TEXT]++;
        if (i == 3) o.split = MM_VAL;
        if (i == 4) o.langs = "de";
        if (i == 5) o.joint = 0;
        t = open_with(&o);
        ok(mm_batches_seek(t, &state, &err) == MM_ESHAPE, "a state of other options is refused (%d)", i);
        mm_batches_close(&t);
    }
    o = defaults();
    t = open_with(&o);
    mm_batches_state(t, &other);
    ok(other.fingerprint == state.fingerprint && other.step == 0, "the fingerprint is that of data and options alone");
    mm_batches_close(&t);
    mm_batches_close(&b);
}

/* ---- which ---- */

static int set_of(const mm_pick *p) { return mm_dataset_example(d, p->example)->set; }

static void draws(void)
{
    mm_batch_opts o = defaults();
    const mm_batch *x;
    int seen[256] = { 0 }, twice = 0, sets[2] = { 0 }, wrong = 0;
    o.joint = 0;
    o.set_weight = (const float[]){ 1, 0 };
    o.count[MM_IMAGE] = 8;
    mm_batches *b = open_with(&o);
    is_int((long long)mm_batches_examples(b, MM_IMAGE), PICTURES + 2 + MORE, "pictures with a caption are drawn from");
    for (int s = 0; s < 4; s++) { /* 32 draws are one pass of the first set */
        wrong += mm_batches_next(b, &x, &err);
        for (int i = 0; i < 8; i++) twice += seen[x->pick[MM_IMAGE][i].example]++, wrong += set_of(&x->pick[MM_IMAGE][i]) != 0;
    }
    ok(!wrong && !twice, "nothing comes twice before everything came once");
    mm_batches_close(&b);

    o.set_weight = NULL;
    b = open_with(&o);
    memset(seen, 0, sizeof seen);
    for (int s = 0; s < 600; s++) {
        wrong += mm_batches_next(b, &x, &err);
        for (int i = 0; i < 8; i++) seen[x->pick[MM_IMAGE][i].example]++, sets[set_of(&x->pick[MM_IMAGE][i])]++;
    }
    const double share = pow(32, 0.7) / (pow(32, 0.7) + pow(12, 0.7));
    ok(!wrong && fabs(sets[0] / 4800.0 - share) < 0.001, "sets by n^0.7: %.3f of %.3f", sets[0] / 4800.0, share);
    int low[2] = { 1 << 30, 1 << 30 }, high[2] = { 0, 0 };
    for (uint32_t i = 0; i < 256; i++) {
        const mm_example *e = mm_dataset_example(d, i);
        if (!e || e->item[MM_IMAGE] < 0 || e->split || !e->n_captions) continue;
        if (seen[i] < low[e->set]) low[e->set] = seen[i];
        if (seen[i] > high[e->set]) high[e->set] = seen[i];
    }
    ok(high[0] - low[0] <= 1 && high[1] - low[1] <= 1, "each example as often: %d to %d, %d to %d", low[0], high[0], low[1], high[1]);
    mm_batches_close(&b);

    o.bare = 1;
    b = open_with(&o);
    is_int((long long)mm_batches_examples(b, MM_IMAGE), PICTURES + 3 + MORE, "bare: also the picture without a caption");
    mm_batches_close(&b);
    o = defaults();
    b = open_with(&o);
    is_int((long long)mm_batches_examples(b, MM_TEXT), PICTURES + SOUNDS + 4 + 2, "texts that a set repeats count once");
    ok(mm_batches_epoch(b) == (PICTURES + SOUNDS + 6 + 7) / 8, "steps of an epoch: %llu", (unsigned long long)mm_batches_epoch(b));
    mm_batches_close(&b);
    o.split = MM_TEST;
    ok(mm_batches_open(&b, d, &o, &err) == MM_EEMPTY && !b, "nothing in this split: %s", err.msg);
    o.split = MM_VAL;
    b = open_with(&o);
    ok(!mm_batches_next(b, &x, &err) && x->n[MM_IMAGE] == 6 && !strcmp(mm_dataset_example(d, x->pick[MM_IMAGE][5].example)->id, "val") &&
           !x->n[MM_AUDIO],
       "one example fills a batch, none leaves it empty");
    mm_batches_close(&b);
}

static int no_even(void *arg, const mm_example *e, mm_modality m)
{
    (void)arg;
    return m != MM_IMAGE || (e->id[0] == 'p' && (e->id[strlen(e->id) - 1] & 1));
}

static void joint(void)
{
    mm_batch_opts o = defaults();
    const mm_batch *x;
    int wrong = 0, both = 0;
    o.joint = 3;
    mm_batches *b = open_with(&o);
    for (int s = 0; s < 20; s++) {
        if (mm_batches_next(b, &x, &err) || x->joint != 3 || x->n[MM_IMAGE] != 9 || x->n[MM_AUDIO] != 7) {
            wrong++;
            break;
        }
        for (int i = 0; i < 3; i++) {
            const mm_example *p = mm_dataset_example(d, x->pick[MM_IMAGE][6 + i].example),
                             *q = mm_dataset_example(d, x->pick[MM_AUDIO][4 + i].example);
            both += p == q;
            wrong += p->item[MM_IMAGE] < 0 || q->item[MM_AUDIO] < 0 || (p != q && (strcmp(p->concept, q->concept) || !p->concept[0]));
        }
        for (int i = 0; i < 9; i++)
            for (int k = 0; k < 3 * 32 * 32; k++) wrong += !(x->image[i * 3 * 32 * 32 + k] >= -2 && x->image[i * 3 * 32 * 32 + k] <= 2);
    }
    ok(!wrong && both, "pictures and sounds of the same things, by record and by concept");
    mm_batches_close(&b);
    o.want = no_even;
    o.count[MM_IMAGE] = 0;
    b = open_with(&o);
    ok(!mm_batches_next(b, &x, &err) && !x->joint, "want: no picture that is wanted has a sound");
    is_int((long long)mm_batches_examples(b, MM_IMAGE), PICTURES / 2, "want: the pictures that are left");
    mm_batches_close(&b);
}

static void captions(void)
{
    mm_batch_opts o = defaults();
    const mm_batch *x;
    int role[5] = { 0 }, all = 0, german = 0, label = 0, foreign = 0, n_foreign = 0;
    o.joint = 0;
    o.langs = "en";
    o.set_weight = (const float[]){ 1, 0 };
    mm_batches *b = open_with(&o);
    for (int s = 0; s < 1000 && !mm_batches_next(b, &x, &err); s++) {
        for (int i = 0; i < 6; i++) {
            const mm_example *e = mm_dataset_example(d, x->pick[MM_IMAGE][i].example);
            const mm_caption *c = mm_dataset_caption(d, (size_t)x->pick[MM_IMAGE][i].caption);
            if (!strcmp(e->id, "only label")) label += c->role == MM_CAPTION_LABEL && !strcmp(c->p, "thing");
            if (e->id[0] != 'p') continue;
            role[c->role]++, all++;
            german += !strcmp(mm_dataset_lang(d, c->lang), "de");
        }
        for (int i = 0; i < 4; i++)
            n_foreign++, foreign += x->pick[MM_AUDIO][i].caption == (int32_t)mm_dataset_example(d, x->pick[MM_AUDIO][i].example)->caption;
    }
    ok(fabs(role[0] / (double)all - 0.6) < 0.03 && fabs(role[1] / (double)all - 0.3) < 0.03 && fabs(role[3] / (double)all - 0.1) < 0.02 &&
           !role[4],
       "roles of captions: %.2f %.2f %.2f", role[0] / (double)all, role[1] / (double)all, role[3] / (double)all);
    ok(!german && label > 50 && foreign == n_foreign,
       "only wanted languages; a label where nothing else is; a text of another language where nothing else is");
    mm_batches_close(&b);
    o.langs = "de,fr";
    b = open_with(&o);
    for (int s = 0; s < 50 && !mm_batches_next(b, &x, &err); s++)
        for (int i = 0; i < 6; i++)
            if (mm_dataset_example(d, x->pick[MM_IMAGE][i].example)->id[0] == 'p')
                german += !strncmp(mm_dataset_caption(d, (size_t)x->pick[MM_IMAGE][i].caption)->p, "Bild", 4), all = s;
    ok(all == 49 && german > 200, "another language");
    mm_batches_close(&b);
}

static size_t by_bytes(void *arg, const char *p, size_t len)
{
    (void)arg, (void)p;
    return len;
}

static void budgets(void)
{
    mm_batch_opts o = defaults();
    const mm_batch *x;
    size_t most = 0, mean = 0, dropped = 0, texts = 0, text_sum = 0, most_text = 0, spread = 0;
    o.joint = 0;
    o.budget[MM_AUDIO] = 1000;
    o.budget[MM_TEXT] = 100;
    o.text_len = by_bytes;
    mm_batches *b = open_with(&o);
    for (int s = 0; s < 200 && !mm_batches_next(b, &x, &err); s++) {
        const size_t rows = x->mel_at[x->n[MM_AUDIO]];
        size_t sum = 0, low = SIZE_MAX, high = 0;
        most = rows > most ? rows : most;
        mean += rows;
        dropped += (size_t)(x->dropped[MM_AUDIO] + x->dropped[MM_TEXT]);
        texts += (size_t)(x->n[MM_TEXT] + x->n[MM_AUDIO]);
        for (int i = 0; i < x->n[MM_TEXT]; i++) sum += mm_dataset_caption(d, (size_t)x->pick[MM_TEXT][i].caption)->len;
        most_text = sum > most_text ? sum : most_text;
        text_sum += sum;
        for (int i = 0; i < x->n[MM_AUDIO]; i++) {
            const mm_example *e = mm_dataset_example(d, x->pick[MM_AUDIO][i].example);
            const size_t n = (size_t)mm_dataset_item(d, (size_t)e->item[MM_AUDIO])->n;
            low = n < low ? n : low, high = n > high ? n : high;
        }
        spread += high - low;
    }
    ok(most <= 1000 && mean / 200 > 700, "sounds within the budget: %zu at most, %zu on average", most, mean / 200);
    ok(most_text <= 100 && text_sum / 200 > 80, "texts within the budget: %zu at most, %zu on average", most_text, text_sum / 200);
    ok(dropped * 10 < texts, "little is left out: %zu of %zu", dropped, texts + dropped);
    ok(spread / 200 < 75, "sounds of about one length are together: %zu apart, of 130", spread / 200);
    mm_batches_close(&b);
}

/* ---- augmentation ---- */

static float at(const float *x, int px, int c, int row, int column) { return x[(c * px + row) * px + column]; }

/* A black bar of w x h in the middle of a white picture; its area and the angle of its long side, in degrees, after augmentation */
static void bar(const mm_augment *g, int seed, int size, int px, int w, int h, double *area, double *angle)
{
    uint8_t *in = malloc((size_t)size * (size_t)size * 3);
    float *out = malloc((size_t)px * (size_t)px * 3 * sizeof *out);
    double m00 = 0, mx = 0, my = 0, xx = 0, yy = 0, xy = 0, low = 1e9, high = -1e9;
    for (int i = 0; i < size * size; i++)
        memset(in + 3 * i, abs(2 * (i % size) - size + 1) < w && abs(2 * (i / size) - size + 1) < h ? 60 : 160,
               3); /* colours stay off the ends of the scale */
    if (mm_augment_image(out, px, in, size, g, mm_rng_at(5, 5, (uint64_t)seed, 0), &err)) ok(0, "%s", err.msg);
    for (int i = 0; i < px * px; i++) low = out[i] < low ? out[i] : low, high = out[i] > high ? out[i] : high;
    for (int y = 0; y < px; y++)
        for (int x = 0; x < px; x++) {
            const double v = (high - at(out, px, 0, y, x)) / (high - low);
            m00 += v, mx += v * x, my += v * y, xx += v * x * x, yy += v * y * y, xy += v * x * y;
        }
    mx /= m00, my /= m00;
    *area = m00;
    *angle = 0.5 * atan2(2 * (xy / m00 - mx * my), xx / m00 - mx * mx - yy / m00 + my * my) * 57.29578;
    free(in), free(out);
}

static void pictures(void)
{
    uint8_t in[40 * 40 * 3];
    float *out = malloc(3 * 40 * 40 * sizeof *out), *other = malloc(8 * 3 * 40 * 40 * sizeof *other);
    mm_augment g = { 0, 0 };
    const mm_image_spec spec = { .width = 40, .height = 40, .mean = { .5f, .5f, .5f }, .std = { .25f, .25f, .25f } };
    mm_image small, whole = { in, 40, 40 };
    double worst = 0, area, angle, low = 1e9, high = 0, turned = 0;
    int wrong = 0, flips = 0;
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(mm_rng_mix(i / 90) & 255);
    mm_image_normalize(other, in, &spec);
    ok(!mm_augment_image(out, 40, in, 40, &g, mm_rng_at(1, 1, 1, 1), &err) && !memcmp(out, other, 3 * 1600 * sizeof *out),
       "strength 0: the samples as they are");
    ok(!mm_image_resize(&small, &whole, 32, 32, MM_RESIZE_BICUBIC, &err) &&
           !mm_augment_image(out, 32, in, 40, &g, mm_rng_at(1, 1, 1, 1), &err),
       "smaller");
    for (int i = 0; i < 1024; i++)
        for (int c = 0; c < 3; c++) worst = fmax(worst, fabs(out[c * 1024 + i] - (small.px[3 * i + c] / 255.0 - .5) * 4));
    ok(worst < 1e-5, "... as mm_image_resize() makes it");
    mm_image_clear(&small);
    g.flip = 1;
    worst = 0;
    ok(!mm_augment_image(out, 40, in, 40, &g, mm_rng_at(1, 1, 1, 1), &err), "a mirror image");
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 40; y++)
            for (int x = 0; x < 40; x++) worst = fmax(worst, fabs(at(out, 40, c, y, x) - at(other, 40, c, y, 39 - x)));
    ok(worst < 1e-4, "... is one, to %g", worst);
    g = (mm_augment){ 0.5f, 0.5f };
    for (int i = 0; i < 200; i++) {
        mm_rng r = mm_rng_at(3, 3, (uint64_t)i, 3);
        wrong += mm_augment_image(out, 32, in, 40, &g, r, &err) != 0;
        for (int k = 0; k < 3 * 1024; k++) wrong += !(out[k] >= -2 && out[k] <= 2);
        wrong += mm_augment_video(other, 32, in, 40, 1, &g, r, &err) || memcmp(out, other, 3 * 1024 * sizeof *out);
    }
    is_int(wrong, 0, "samples stay within the scale; the same numbers, the same picture");
    for (int i = 0; i < 300; i++) {
        bar(&g, i, 80, 64, 30, 10, &area, &angle);
        area /= 300 * 0.64; /* in place of what it was: 1 / scale^2 */
        low = fmin(low, area), high = fmax(high, area), turned = fmax(turned, fabs(angle));
    }
    ok(low > 0.90 && low < 1.0 && high < 1.36 && high > 1.25, "crops of 0.75 to 1.075 of the area: things are %.3f to %.3f of their size",
       low, high);
    ok(turned > 4.5 && turned < 6.5, "turned by up to %.2f degrees", turned);
    /* one picture twice is a clip whose frames are equal */
    uint8_t *clip = malloc(2 * sizeof in);
    memcpy(clip, in, sizeof in), memcpy(clip + sizeof in, in, sizeof in);
    ok(!mm_augment_video(other, 32, clip, 40, 2, &g, mm_rng_at(9, 9, 9, 9), &err) &&
           !memcmp(other, other + 3 * 1024, 3 * 1024 * sizeof *other),
       "frames of a clip change alike");
    /* making a picture much smaller does not alias: stripes become gray */
    for (int i = 0; i < 1600; i++) memset(in + 3 * i, i % 2 ? 255 : 0, 3);
    g = (mm_augment){ 1e-6f, 0 };
    ok(!mm_augment_image(out, 10, in, 40, &g, mm_rng_at(1, 1, 1, 1), &err), "stripes, four times smaller");
    worst = 0;
    for (int y = 2; y < 8; y++)
        for (int x = 2; x < 8; x++) worst = fmax(worst, fabs(at(out, 10, 0, y, x)));
    ok(worst < 0.25, "... are gray within %.3f", worst);
    /* in a batch: nothing is mirrored whose words would be wrong */
    (void)flips;
    ok(mm_augment_image(out, 0, in, 40, &g, mm_rng_at(1, 1, 1, 1), &err) == MM_EARG, "no pixels");
    free(out), free(other), free(clip);
}

static void handed(void)
{
    mm_batch_opts o = defaults();
    const mm_batch *x;
    int same = 0, mirrored = 0, n = 0;
    o.joint = 0;
    o.px = o.video_px = 40;
    for (int m = 0; m < MM_MODALITIES; m++) o.augment[m].strength = 0;
    o.augment[MM_VIDEO].flip = 1;
    o.count[MM_VIDEO] = 2;
    mm_batches *b = open_with(&o);
    for (int s = 0; s < 5 && !mm_batches_next(b, &x, &err); s++)
        for (int i = 0; i < 2; i++, n++) {
            const mm_example *e = mm_dataset_example(d, x->pick[MM_VIDEO][i].example);
            const mm_item *it = mm_dataset_item(d, (size_t)e->item[MM_VIDEO]);
            const float *p = x->video + (size_t)i * 8 * 3 * 1600, v = ((float)it->px[0] / 255 - .5f) * 4;
            if (e->handed) same += fabsf(p[0] - v) < 1e-5f;
            else mirrored++;
            same += x->times[i * 8] == it->times[0] && x->times[i * 8 + 7] == it->times[7];
            same += (it->track >= 0) == (x->track_at[i + 1] > x->track_at[i]);
        }
    ok(n == 10 && mirrored == 5 && same == 25, "clips: times, sound tracks; \"left\" is not mirrored");
    mm_batches_close(&b);
}

static void spectra(void)
{
    enum { N = 200, BINS = 64 };
    uint16_t *in = malloc(N * BINS * sizeof *in);
    mm_augment g = { 0, 0 };
    float *out = malloc((size_t)2 * N * BINS * sizeof *out), *plain = malloc(N * BINS * sizeof *plain);
    int wrong = 0;
    size_t low = SIZE_MAX, high = 0, n;
    double mean_low = 1e9, mean_high = -1e9, masked = 0, all = 0;
    for (int t = 0; t < N; t++)
        for (int b = 0; b < BINS; b++) in[t * BINS + b] = mm_f32_to_f16(plain[t * BINS + b] = (float)(t % 20) / 16 - (float)b / 64);
    n = mm_augment_mel(out, in, N, BINS, 0, &g, mm_rng_at(1, 1, 1, 1));
    for (int i = 0; i < N * BINS; i++) wrong += fabsf(out[i] - plain[i]) > 1e-3f;
    ok(n == N && !wrong && mm_augment_mel_room(N, 0, &g) == N, "strength 0: the spectrum as it is");
    ok(mm_augment_mel(out, in, N, BINS, 50, &g, mm_rng_at(1, 1, 1, 1)) == 50 && mm_augment_mel_room(N, 50, &g) == 50,
       "... cut to max_frames");
    for (int k = 1; k <= 2; k++)
        for (int i = 0; i < 200; i++) {
            g.strength = 0.5f * (float)k;
            const size_t most = i & 1 ? 0 : 90, room = mm_augment_mel_room(N, most, &g);
            for (size_t j = 0; j < BINS; j++) out[room * BINS + j] = 12345;
            n = mm_augment_mel(out, in, N, BINS, most, &g, mm_rng_at(2, 2, (uint64_t)i, (uint64_t)k));
            wrong += n < 1 || n > room || (most && n > 90 + 26);
            for (size_t j = 0; j < BINS; j++) wrong += out[room * BINS + j] != 12345;
            double sum = 0;
            for (size_t j = 0; j < n * BINS; j++) {
                wrong += !(fabsf(out[j]) < 12);
                sum += out[j];
                if (k == 1 && !most) masked += out[j] == 0, all++;
            }
            if (k == 1 && !most) low = n < low ? n : low, high = n > high ? n : high;
            if (k == 1) mean_low = fmin(mean_low, sum / (double)(n * BINS)), mean_high = fmax(mean_high, sum / (double)(n * BINS));
        }
    is_int(wrong, 0, "every variation is within its room, and finite");
    ok(low >= 200 / 1.1 && low < 195 && high > 205 && high <= 200 / 0.925 + 25, "stretched and padded: %zu to %zu frames of 200", low,
       high);
    ok(mean_high - mean_low > 0.5 && mean_high - mean_low < 4, "louder and softer: means from %.2f to %.2f", mean_low, mean_high);
    ok(masked / all > 0.02 && masked / all < 0.25, "masked: %.1f %%", 100 * masked / all);
    for (size_t i = 1; i < 6; i++) wrong += mm_augment_mel(out, in, i, BINS, 0, &g, mm_rng_at(1, i, 1, 1)) < 1;
    is_int(wrong, 0, "spectra of a few frames");
    ok(!mm_augment_mel(out, in, 1, 5000, 0, &g, mm_rng_at(1, 1, 1, 1)), "too many bins");
    free(in), free(out), free(plain);
}

static void numbers(void)
{
    uint8_t seen[1000];
    int wrong = 0;
    double sum = 0, square = 0;
    for (uint64_t n = 1; n <= 1000; n = n * 3 + 1) {
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t p = mm_rng_permute(i, n, 99 + n);
            wrong += p >= n || seen[p]++;
        }
    }
    is_int(wrong, 0, "permutations hit every number once");
    mm_rng r = mm_rng_at(1, 2, 3, 4), q = mm_rng_at(1, 2, 4, 3);
    ok(mm_rng_next(&r) != mm_rng_next(&q), "streams differ");
    for (int i = 0; i < 100000; i++) {
        const double v = mm_rng_normal(&r);
        sum += v, square += v * v;
        const float u = mm_rng_unit(&r);
        wrong += !(u >= 0 && u < 1) || mm_rng_below(&r, 7) > 6;
    }
    ok(!wrong && fabs(sum / 1e5) < 0.015 && fabs(square / 1e5 - 1) < 0.02, "normal numbers have mean 0 and variance 1");
}

int main(int argc, char **argv)
{
    (void)argc;
    if (df_start(argv[0])) return 99;
    numbers();
    media();
    determinism();
    draws();
    joint();
    captions();
    budgets();
    pictures();
    handed();
    spectra();
    mm_dataset_close(&d);
    df_end();
    return done();
}

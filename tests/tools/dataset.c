/* dataset - builds and inspects a cache of training data, and shows what a batch looks like.
 *
 *   dataset [KEY=VALUE...] CACHE MANIFEST...
 * Keys: stored (pixels of the pictures that are kept, 80), fit (crop, stretch, pad), workers, split (train val test),
 * seed, step, px, strength (of augmentation, 0 to 1), budget (frames of the sounds of a step), sheet (a PNG of the
 * step's pictures, clips and spectra is written there), captions (1: print those of the step), bench (so many steps
 * are made and timed), stats (1: mean and deviation of the spectra), raw (1: with stats, spectra before they are
 * normalised), quiet. */
#include <math.h>
#include <time.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "train/mm_batch.h"
#include "../unit/media_files.h"

static const char *keys[][2] = { { "stored", "80" }, { "fit", "stretch" }, { "workers", "2" }, { "split", "train" },
                                 { "seed", "1" },    { "step", "0" },      { "px", "64" },     { "strength", "0.5" },
                                 { "budget", "0" },  { "videos", "8" },    { "sheet", "" },    { "captions", "0" },
                                 { "bench", "0" },   { "stats", "0" },     { "raw", "0" },     { "quiet", "0" } };
static const char *get(const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i][0], name)) return keys[i][1];
    exit(2);
}
static double number(const char *name) { return strtod(get(name), NULL); }

static int set(char *arg)
{
    char *eq = strchr(arg, '=');
    if (!eq) return 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i][0]) == (size_t)(eq - arg) && !strncmp(keys[i][0], arg, (size_t)(eq - arg))) {
            keys[i][1] = eq + 1;
            return 1;
        }
    return 0;
}

static double clock_of(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void bad(void *arg, int code, const char *message)
{
    (void)arg;
    fprintf(stderr, "%s: %s\n", mm_err_name(code), message);
}

static int progress(void *arg, size_t n, size_t of)
{
    (void)arg;
    if (strcmp(get("quiet"), "1") && (n % 500 == 0 || n == of)) fprintf(stderr, "decoded %zu of %zu\n", n, of);
    return 0;
}

/* ---- the sheet ---- */

typedef struct sheet {
    uint8_t *px;
    int width, height;
} sheet;

static void tile(sheet *s, int x0, int y0, const float *p, int px)
{
    const size_t n = (size_t)px * (size_t)px;
    for (int y = 0; y < px && y0 + y < s->height; y++)
        for (int x = 0; x < px && x0 + x < s->width; x++)
            for (size_t c = 0; c < 3; c++) {
                const float v = (p[c * n + (size_t)y * (size_t)px + (size_t)x] * 0.25f + 0.5f) * 255;
                s->px[((size_t)(y0 + y) * (size_t)s->width + (size_t)(x0 + x)) * 3 + c] =
                    (uint8_t)(v < 0     ? 0
                              : v > 255 ? 255
                                        : lrintf(v));
            }
}

static void spectrum(sheet *s, int x0, int y0, const float *p, size_t n, int bins)
{
    for (size_t t = 0; t < n && (size_t)x0 + t < (size_t)s->width; t++)
        for (int b = 0; b < bins; b++) {
            float v = (p[t * (size_t)bins + (size_t)b] + 2.5f) * 50;
            uint8_t g = (uint8_t)(v < 0     ? 0
                                  : v > 255 ? 255
                                            : v),
                    *q = &s->px[((size_t)(y0 + bins - 1 - b) * (size_t)s->width + (size_t)x0 + t) * 3];
            q[0] = q[1] = q[2] = g;
        }
}

static int draw_sheet(const mm_batch *x, const mm_dataset *d, const char *path, mm_err *err)
{
    const int px = (int)number("px"), step = px + 2, bins = mm_dataset_prep(d)->audio.mel.bins,
              frames = mm_dataset_prep(d)->video.frames;
    const int rows = (x->n[MM_IMAGE] + 15) / 16,
              down = rows * step + x->n[MM_VIDEO] * step + (x->n[MM_AUDIO] + 3) / 4 * (bins + 2);
    sheet s = { calloc((size_t)(16 * step) * (size_t)down, 3), 16 * step, down };
    mm_buf b = { 0 };
    mm_outfile f;
    for (int i = 0; i < x->n[MM_IMAGE]; i++)
        tile(&s, i % 16 * step, i / 16 * step, x->image + (size_t)i * 3 * (size_t)px * (size_t)px, px);
    for (int i = 0; i < x->n[MM_VIDEO]; i++)
        for (int k = 0; k < frames; k++)
            tile(&s, k * step, (rows + i) * step, x->video + (size_t)(i * frames + k) * 3 * (size_t)px * (size_t)px,
                 px);
    for (int i = 0; i < x->n[MM_AUDIO]; i++)
        spectrum(&s, i % 4 * (4 * step), (rows + x->n[MM_VIDEO]) * step + i / 4 * (bins + 2),
                 x->mel + x->mel_at[i] * (size_t)bins,
                 x->mel_at[i + 1] - x->mel_at[i] < (size_t)(4 * step - 2) ? x->mel_at[i + 1] - x->mel_at[i]
                                                                          : (size_t)(4 * step - 2),
                 bins);
    mf_png(&b, &(mf_png_spec){ .w = s.width, .h = s.height, .samples = s.px });
    free(s.px);
    int r = mm_outfile_open(&f, path, err);
    if (!r) r = mm_outfile_write(&f, b.p, b.len, err);
    if (!r) r = mm_outfile_commit(&f, err);
    mm_buf_clear(&b);
    return r;
}

/* ---- facts ---- */

static void tell(const mm_dataset *d)
{
    mm_dataset_facts f;
    size_t n[64][3][MM_MODALITIES] = { { { 0 } } };
    mm_dataset_facts_get(d, &f);
    const mm_example *e;
    for (size_t i = 0; (e = mm_dataset_example(d, i)); i++)
        for (int m = 0; m < MM_MODALITIES && e->set < 64; m++)
            n[e->set][e->split][m] += m == MM_TEXT ? e->n_captions > 0 : e->item[m] >= 0;
    printf("%zu sets, %zu examples, %zu captions, %zu media (%llu bytes), %zu decoded now, %zu bad records, %zu bad "
           "media\n",
           f.sets, f.examples, f.captions, f.items, (unsigned long long)f.cache_bytes, f.decoded, f.bad, f.bad_media);
    for (size_t s = 0; s < f.sets && s < 64; s++)
        for (int k = 0; k < 3; k++)
            if (n[s][k][0] + n[s][k][1] + n[s][k][2] + n[s][k][3])
                printf("  %-14s %-5s text %6zu image %6zu audio %6zu video %6zu\n", mm_dataset_set(d, s),
                       (const char *[]){ "train", "val", "test" }[k], n[s][k][MM_TEXT], n[s][k][MM_IMAGE],
                       n[s][k][MM_AUDIO], n[s][k][MM_VIDEO]);
}

static void stats(const mm_dataset *d)
{
    const mm_example *e;
    double sum[64] = { 0 }, square[64] = { 0 }, all = 0, all2 = 0, count[64] = { 0 }, total = 0, seconds = 0;
    for (size_t i = 0; (e = mm_dataset_example(d, i)); i++) {
        const mm_item *it =
            e->item[MM_AUDIO] >= 0 && e->split == MM_TRAIN ? mm_dataset_item(d, (size_t)e->item[MM_AUDIO]) : NULL;
        if (!it || e->set >= 64) continue;
        for (size_t k = 0; k < (size_t)it->n * (size_t)it->width; k++) {
            const double v = mm_f16_to_f32(it->mel[k]);
            sum[e->set] += v, square[e->set] += v * v;
        }
        count[e->set] += (double)it->n * it->width;
        seconds += it->n * 0.01;
    }
    for (size_t s = 0; s < 64; s++) {
        if (count[s] > 0)
            printf("  %-14s mean %.3f deviation %.3f, %.0f s\n", mm_dataset_set(d, s), sum[s] / count[s],
                   sqrt(square[s] / count[s] - pow(sum[s] / count[s], 2)), count[s] / 6400);
        all += sum[s], all2 += square[s], total += count[s];
    }
    if (total > 0)
        printf("  all            mean %.3f deviation %.3f, %.0f s\n", all / total,
               sqrt(all2 / total - pow(all / total, 2)), seconds);
}

static int batch(const mm_dataset *d, mm_err *err)
{
    mm_batch_opts o;
    mm_batches *b;
    const mm_batch *x;
    mm_batch_defaults(&o);
    o.seed = (uint64_t)number("seed");
    o.split = !strcmp(get("split"), "val") ? MM_VAL : !strcmp(get("split"), "test") ? MM_TEST : MM_TRAIN;
    o.px = o.video_px = (int)number("px");
    o.budget[MM_AUDIO] = (size_t)number("budget");
    o.count[MM_VIDEO] = (int)number("videos");
    o.no_thread = 1;
    o.langs = "en";
    for (int m = 0; m < MM_MODALITIES; m++) {
        o.augment[m].strength = (float)number("strength");
        if (o.augment[m].strength <= 0) o.augment[m].flip = 0;
    }
    int r = mm_batches_open(&b, d, &o, err);
    if (r) return r;
    mm_batch_state st;
    mm_batches_state(b, &st);
    st.step = (uint64_t)number("step");
    r = mm_batches_seek(b, &st, err);
    if (!r) r = mm_batches_next(b, &x, err);
    if (!r && get("sheet")[0]) r = draw_sheet(x, d, get("sheet"), err);
    if (!r && number("captions") > 0)
        for (int m = 0; m < MM_MODALITIES; m++)
            for (int i = 0; i < x->n[m]; i++) {
                const mm_example *e = mm_dataset_example(d, x->pick[m][i].example);
                printf("%s %d: %s | %s\n", (const char *[]){ "text", "image", "audio", "video" }[m], i, e->id,
                       x->pick[m][i].caption >= 0 ? mm_dataset_caption(d, (size_t)x->pick[m][i].caption)->p : "-");
            }
    if (!r)
        printf("step %llu: %d texts, %d pictures, %d sounds of %zu frames (%d dropped), %d videos; an epoch is %llu "
               "steps\n",
               (unsigned long long)x->step, x->n[MM_TEXT], x->n[MM_IMAGE], x->n[MM_AUDIO],
               x->n[MM_AUDIO] ? x->mel_at[x->n[MM_AUDIO]] : 0, x->dropped[MM_AUDIO], x->n[MM_VIDEO],
               (unsigned long long)mm_batches_epoch(b));
    const int n = (int)number("bench");
    double start = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < n && !r; i++) r = mm_batches_next(b, &x, err);
    if (n && !r)
        printf("%.2f ms a step, %.2f ms of CPU time\n", (clock_of(CLOCK_MONOTONIC) - start) * 1000 / n,
               (clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1000 / n);
    mm_batches_close(&b);
    return r;
}

int main(int argc, char **argv)
{
    mm_err err = { 0 };
    mm_dataset *d;
    mm_prep prep;
    int at = 1;
    while (at < argc && set(argv[at])) at++;
    if (argc - at < 2) {
        fprintf(stderr, "usage: see the head of tests/tools/dataset.c\n");
        return 2;
    }
    mm_prep_init(&prep, (int)number("stored"));
    if (number("raw") > 0) prep.audio.mel.std = 0;
    prep.image.image.fit = prep.video.image.fit = !strcmp(get("fit"), "pad")    ? MM_FIT_PAD
                                                  : !strcmp(get("fit"), "crop") ? MM_FIT_CROP
                                                                                : MM_FIT_STRETCH;
    double start = clock_of(CLOCK_MONOTONIC);
    int r = mm_dataset_open(
        &d,
        &(mm_dataset_opts){
            .prep = &prep, .cache = argv[at], .workers = (int)number("workers"), .bad = bad, .progress = progress },
        &err);
    for (int i = at + 1; i < argc && !r; i++) r = mm_dataset_add(d, argv[i], &err);
    if (!r) printf("manifests: %.2f s\n", clock_of(CLOCK_MONOTONIC) - start);
    if (!r) r = mm_dataset_load(d, &err);
    if (!r) printf("loaded: %.2f s\n", clock_of(CLOCK_MONOTONIC) - start);
    if (!r) tell(d);
    if (!r && number("stats") > 0) stats(d);
    if (!r && (get("sheet")[0] || number("bench") > 0 || number("captions") > 0)) r = batch(d, &err);
    if (r < 0) fprintf(stderr, "dataset: %s\n", err.msg);
    mm_dataset_close(&d);
    return r < 0 ? 1 : 0;
}

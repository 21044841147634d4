/* Which examples a step sees, and the arrays made of them. A batch is a function of (seed, step): pools and weights
 * are fixed when the batches are opened, every choice comes from mm_rng_at() or mm_rng_permute(). */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "train/mm_batch.h"

#define BUCKETS 12

enum {
    STREAM_SET = 1,
    STREAM_PASS,
    STREAM_CAPTION,
    STREAM_AUGMENT,
    STREAM_ORDER,
    STREAM_TRACK
}; /* of the rng; 16 apart by modality */

typedef struct part { /* of a pool: the examples of one set */
    uint32_t first, n;
    double upto; /* cumulated weight */
    uint16_t set;
} part;

typedef struct pool {
    uint32_t *example;
    size_t n;
    part *part;
    size_t parts;
    int window;      /* steps whose draws are bucketed together */
    size_t draws;    /* of one window */
    size_t expected; /* items of one step */
} pool;

typedef struct draw {
    uint32_t example, number; /* number within the window: names its random numbers */
    int32_t caption;
    uint32_t length;
} draw;

struct mm_batches {
    const mm_dataset *d;
    mm_batch_opts opts;
    uint64_t fingerprint, step;
    pool pool[MM_MODALITIES];
    uint8_t *lang_ok;
    uint32_t *length; /* of captions, in tokens; NULL: no texts are drawn */
    /* two batches: one is out, the other is being made */
    mm_arena arena[2];
    mm_batch batch[2];
    mm_err err[2];
    int code[2];
    int have; /* 1: `wanted` is made or being made in [wanted % 2] */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    int threaded, busy, quit;
    uint64_t wanted;
};

static uint64_t stream(int kind, int modality) { return (uint64_t)(kind + 16 * modality); }

/* ---- pools ---- */

static int in_langs(const char *list, const char *lang)
{
    const size_t n = strlen(lang);
    if (!list || !n) return 1;
    for (const char *p = list; *p;) {
        const size_t w = strcspn(p, ", ");
        if (w && w <= n && !strncmp(p, lang, w) && (w == n || strchr("-_@", lang[w]))) return 1;
        p += w + (p[w] != 0);
    }
    return 0;
}

static int member(const mm_batches *b, const mm_example *e, int m)
{
    const mm_batch_opts *o = &b->opts;
    if (e->split != o->split || (m == MM_TEXT ? !e->n_captions : e->item[m] < 0)) return 0;
    if (m != MM_TEXT && !e->n_captions && !o->bare) return 0;
    return !o->want || o->want(o->arg, e, (mm_modality)m);
}

static int make_pool(mm_batches *b, int m, size_t sets, mm_err *err)
{
    pool *p = &b->pool[m];
    const mm_example *e;
    double sum = 0;
    size_t all = 0;
    while (mm_dataset_example(b->d, all)) all++;
    p->example = mm_realloc(NULL, all + 1, sizeof *p->example);
    p->part = calloc(sets + 1, sizeof *p->part);
    if (!p->example || !p->part) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < all; i++) { /* examples of a set lie together */
        e = mm_dataset_example(b->d, i);
        if (!member(b, e, m)) continue;
        if (!p->parts || p->part[p->parts - 1].set != e->set)
            p->part[p->parts++] = (part){ .first = (uint32_t)p->n, .set = e->set };
        p->part[p->parts - 1].n++;
        p->example[p->n++] = (uint32_t)i;
    }
    for (size_t i = 0; i < p->parts; i++) {
        const float w = b->opts.set_weight ? b->opts.set_weight[p->part[i].set] : 1;
        sum += w > 0 ? w * pow(p->part[i].n, b->opts.power) : 0;
        p->part[i].upto = sum;
    }
    if (!(sum > 0)) p->n = p->parts = 0;
    for (size_t i = 0; i < p->parts; i++) p->part[i].upto /= sum;
    return 0;
}

/* ---- draws ---- */

static int allowed(const mm_batches *b, const mm_caption *c, int m) { return m == MM_TEXT || b->lang_ok[c->lang]; }

/* The caption of an example: see mm_batch.h. */
static int32_t choose(const mm_batches *b, const mm_example *e, int m, mm_rng r)
{
    uint32_t n[5] = { 0 }, k;
    const float *weight = b->opts.caption;
    double sum = 0;
    int role = -1;
    for (uint32_t i = 0; i < e->n_captions; i++) {
        const mm_caption *c = mm_dataset_caption(b->d, e->caption + i);
        n[c->role] += (uint32_t)allowed(b, c, m);
    }
    for (int i = 0; i < 5; i++) sum += n[i] && weight[i] > 0 ? weight[i] : 0;
    double u = mm_rng_unit(&r) * sum;
    for (int i = 0; i < 5 && u >= 0; i++) {
        if (!n[i] || (sum > 0 && !(weight[i] > 0))) continue;
        role = i;
        u -= sum > 0 ? weight[i] : 1; /* without any weight: the first role that there is */
    }
    if (role < 0) return e->n_captions ? (int32_t)e->caption : -1;
    k = mm_rng_below(&r, n[role]);
    for (uint32_t i = 0; i < e->n_captions; i++) {
        const mm_caption *c = mm_dataset_caption(b->d, e->caption + i);
        if (c->role == role && allowed(b, c, m) && !k--) return (int32_t)(e->caption + i);
    }
    return -1;
}

static int by_length(const void *x, const void *y)
{
    const draw *a = x, *b = y;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* All draws of a window, sorted by length where there are buckets. */
static void draw_window(const mm_batches *b, int m, uint64_t window, draw *out)
{
    const pool *p = &b->pool[m];
    const uint64_t seed = b->opts.seed;
    mm_rng r = mm_rng_at(seed, stream(STREAM_SET, m), window, 0);
    const double offset = mm_rng_unit(&r);
    size_t at = 0, inside = 0;
    for (size_t i = 0; i < p->draws; i++) {
        const double u = ((double)i + offset) / (double)p->draws;
        while (at + 1 < p->parts && u >= p->part[at].upto) at++, inside = 0;
        const part *s = &p->part[at];
        const double weight = s->upto - (at ? s[-1].upto : 0);
        const uint64_t k = (uint64_t)(weight * (double)p->draws * (double)window) + inside++;
        const uint64_t key = mm_rng_at(seed, stream(STREAM_PASS, m), s->set, k / s->n).s;
        const uint32_t e = p->example[s->first + mm_rng_permute(k % s->n, s->n, key)];
        const mm_example *ex = mm_dataset_example(b->d, e);
        draw *d = &out[i];
        *d = (draw){ .example = e, .number = (uint32_t)i };
        d->caption = choose(b, ex, m, mm_rng_at(seed, stream(STREAM_CAPTION, m), window, i));
        if (m == MM_TEXT) d->length = b->length[d->caption];
        if (m == MM_AUDIO) {
            const size_t n = (size_t)mm_dataset_item(b->d, (size_t)ex->item[m])->n;
            d->length = (uint32_t)(b->opts.max_frames && n > b->opts.max_frames ? b->opts.max_frames : n);
        }
    }
    if (m == MM_TEXT || m == MM_AUDIO) qsort(out, p->draws, sizeof *out, by_length);
}

/* What one draw counts of the budget. */
static size_t cost(const mm_batches *b, int m, const draw *d)
{
    return m == MM_AUDIO ? mm_augment_mel_room(d->length, b->opts.max_frames, &b->opts.augment[m]) : d->length;
}

/* Cut the sorted draws into the window's batches and find that of the step: by number, or by equal shares of the sum
 * of lengths. */
static void cut(const mm_batches *b, int m, const draw *d, uint64_t which, size_t *first, size_t *last)
{
    const pool *p = &b->pool[m];
    size_t total = 0, sum = 0, i = 0;
    if (!b->opts.budget[m]) {
        *first = p->draws * which / (size_t)p->window;
        *last = p->draws * (which + 1) / (size_t)p->window;
        return;
    }
    for (size_t k = 0; k < p->draws; k++) total += cost(b, m, &d[k]);
    for (; i < p->draws && sum < total / (size_t)p->window * which; i++) sum += cost(b, m, &d[i]);
    *first = i;
    const size_t end = which + 1 == (uint64_t)p->window ? total : total / (size_t)p->window * (which + 1);
    for (; i < p->draws && sum < end; i++) sum += cost(b, m, &d[i]);
    *last = i;
}

/* The draws of a step, and the number that names their random numbers: window and d->number. */
static const draw *draws_of(const mm_batches *b, int m, uint64_t step, mm_arena *a, mm_batch *out, mm_err *err)
{
    const pool *p = &b->pool[m];
    size_t first, last, sum = 0, n = 0;
    draw *d = mm_arena_alloc(a, p->draws + 1, sizeof *d);
    if (!d) {
        mm_fail(err, MM_ENOMEM, "out of memory");
        return NULL;
    }
    const uint64_t window = step / (uint64_t)p->window;
    draw_window(b, m, window, d);
    cut(b, m, d,
        mm_rng_permute(step % (uint64_t)p->window, (uint64_t)p->window,
                       mm_rng_at(b->opts.seed, stream(STREAM_ORDER, m), window, 0).s),
        &first, &last);
    for (n = 0; first + n < last; n++) {
        const size_t c = cost(b, m, &d[first + n]);
        if (b->opts.budget[m] && sum + c > b->opts.budget[m]) break;
        sum += c;
    }
    out->n[m] = (int)n;
    out->dropped[m] = (int)(last - first - n);
    mm_pick *pick = mm_arena_alloc(a, n + 1, sizeof *pick);
    if (!pick) {
        mm_fail(err, MM_ENOMEM, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < n; i++) pick[i] = (mm_pick){ d[first + i].example, d[first + i].caption };
    out->pick[m] = pick;
    return d + first;
}

/* ---- arrays ---- */

static mm_rng rng_of(const mm_batches *b, int kind, int m, uint64_t step, const draw *d)
{
    return mm_rng_at(b->opts.seed, stream(kind, m), step / (uint64_t)b->pool[m].window, d->number);
}

static mm_augment augment_of(const mm_batches *b, int m, const mm_example *e)
{
    mm_augment g = b->opts.augment[m];
    if (e->handed) g.flip = 0;
    return g;
}

static int images(const mm_batches *b, const draw *d, mm_arena *a, mm_batch *out, mm_err *err)
{
    const int px = b->opts.px;
    const size_t each = 3 * (size_t)px * (size_t)px;
    int r = 0;
    out->image = mm_arena_alloc(a, (size_t)out->n[MM_IMAGE] + 1, each * sizeof(float));
    if (!out->image) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < out->n[MM_IMAGE] && !r; i++) {
        const mm_example *e = mm_dataset_example(b->d, d[i].example);
        const mm_item *it = mm_dataset_item(b->d, (size_t)e->item[MM_IMAGE]);
        const mm_augment g = augment_of(b, MM_IMAGE, e);
        r = mm_augment_image(out->image + (size_t)i * each, px, it->px, it->width, &g,
                             rng_of(b, STREAM_AUGMENT, MM_IMAGE, out->step, &d[i]), err);
    }
    return r;
}

/* Sounds behind each other: items[i] may be NULL. */
static int sounds(const mm_batches *b, const mm_item *const *items, const mm_rng *rng, int n, const mm_augment *g,
                  float **mel, size_t **at, mm_arena *a, mm_err *err)
{
    size_t rows = 0, top = 0;
    const int bins = mm_dataset_prep(b->d)->audio.mel.bins;
    for (int i = 0; i < n; i++)
        rows += items[i] ? mm_augment_mel_room((size_t)items[i]->n, b->opts.max_frames, g) : 0;
    *at = mm_arena_alloc(a, (size_t)n + 1, sizeof **at);
    *mel = mm_arena_alloc(a, rows + 1, (size_t)bins * sizeof **mel);
    if (!*at || !*mel) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        (*at)[i] = top;
        if (items[i])
            top += mm_augment_mel(*mel + top * (size_t)bins, items[i]->mel, (size_t)items[i]->n, bins,
                                  b->opts.max_frames, g, rng[i]);
    }
    (*at)[n] = top;
    return 0;
}

static int audio(const mm_batches *b, const draw *d, mm_arena *a, mm_batch *out, mm_err *err)
{
    const int n = out->n[MM_AUDIO];
    const mm_item **items = mm_arena_alloc(a, (size_t)n + 1, sizeof *items);
    mm_rng *rng = mm_arena_alloc(a, (size_t)n + 1, sizeof *rng);
    if (!items || !rng) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        items[i] = mm_dataset_item(b->d, (size_t)mm_dataset_example(b->d, d[i].example)->item[MM_AUDIO]);
        rng[i] = rng_of(b, STREAM_AUGMENT, MM_AUDIO, out->step, &d[i]);
    }
    return sounds(b, items, rng, n, &b->opts.augment[MM_AUDIO], &out->mel, &out->mel_at, a, err);
}

static int videos(const mm_batches *b, const draw *d, mm_arena *a, mm_batch *out, mm_err *err)
{
    const int n = out->n[MM_VIDEO], px = b->opts.video_px, frames = mm_dataset_prep(b->d)->video.frames;
    const size_t each = (size_t)frames * 3 * (size_t)px * (size_t)px;
    int r = 0;
    const mm_item **tracks = mm_arena_zalloc(a, (size_t)n + 1, sizeof *tracks);
    mm_rng *rng = mm_arena_alloc(a, (size_t)n + 1, sizeof *rng);
    out->video = mm_arena_alloc(a, (size_t)n + 1, each * sizeof(float));
    out->times = mm_arena_alloc(a, (size_t)n + 1, (size_t)frames * sizeof(float));
    if (!tracks || !rng || !out->video || !out->times) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < n && !r; i++) {
        const mm_example *e = mm_dataset_example(b->d, d[i].example);
        const mm_item *it = mm_dataset_item(b->d, (size_t)e->item[MM_VIDEO]);
        const mm_augment g = augment_of(b, MM_VIDEO, e);
        memcpy(out->times + (size_t)i * (size_t)frames, it->times, (size_t)frames * sizeof(float));
        r = mm_augment_video(out->video + (size_t)i * each, px, it->px, it->width, frames, &g,
                             rng_of(b, STREAM_AUGMENT, MM_VIDEO, out->step, &d[i]), err);
        tracks[i] = it->track >= 0 ? mm_dataset_item(b->d, (size_t)it->track) : NULL;
        rng[i] = rng_of(b, STREAM_TRACK, MM_VIDEO, out->step, &d[i]);
    }
    return r ? r : sounds(b, tracks, rng, n, &b->opts.augment[MM_AUDIO], &out->track, &out->track_at, a, err);
}

int mm_batches_make(const mm_batches *b, uint64_t step, mm_arena *a, mm_batch *out, mm_err *err)
{
    *out = (mm_batch){ .step = step };
    for (int m = 0; m < MM_MODALITIES; m++) {
        int r = 0;
        if (!b->pool[m].draws) continue;
        const draw *d = draws_of(b, m, step, a, out, err);
        if (!d) return MM_ENOMEM;
        if (m == MM_IMAGE) r = images(b, d, a, out, err);
        else if (m == MM_AUDIO) r = audio(b, d, a, out, err);
        else if (m == MM_VIDEO) r = videos(b, d, a, out, err);
        if (r) return r;
    }
    return 0;
}

/* ---- opening ---- */

void mm_batch_defaults(mm_batch_opts *o)
{
    *o = (mm_batch_opts){
        .split = MM_TRAIN, .px = 64, .video_px = 64, .power = 0.7f, .caption = { 0.6f, 0.3f, 0.3f, 0.1f, 0 }
    };
    const int count[] = { [MM_TEXT] = 64, [MM_IMAGE] = 64, [MM_AUDIO] = 32, [MM_VIDEO] = 8 };
    for (int m = 0; m < MM_MODALITIES; m++) {
        o->count[m] = count[m];
        o->augment[m] = (mm_augment){ 0.5f, m == MM_IMAGE ? 0.5f : 0 };
    }
}

/* What batches depend on, data and options. */
static uint64_t fingerprint(const mm_batches *b)
{
    const mm_batch_opts *o = &b->opts;
    mm_buf t = { 0 };
    uint64_t h = 0;
    mm_buf_addf(&t, "%d %d %d %zu %a %s %d", o->split, o->px, o->video_px, o->max_frames, (double)o->power,
                o->langs ? o->langs : "*", o->bare);
    for (int i = 0; i < 5; i++) mm_buf_addf(&t, " %a", (double)o->caption[i]);
    for (int m = 0; m < MM_MODALITIES; m++) {
        const pool *p = &b->pool[m];
        mm_buf_addf(&t, " %d %zu %a %a %zu %d", o->count[m], o->budget[m], (double)o->augment[m].strength,
                    (double)o->augment[m].flip, p->draws, p->window);
        for (size_t i = 0; i < p->parts; i++) mm_buf_addf(&t, " %u %a", p->part[i].n, p->part[i].upto);
        for (size_t i = 0; i < p->n; i++) {
            const mm_example *e = mm_dataset_example(b->d, p->example[i]);
            const mm_item *it = m == MM_TEXT ? NULL : mm_dataset_item(b->d, (size_t)e->item[m]);
            h = mm_hash64(e->id, strlen(e->id), h);
            for (uint32_t k = 0; k < e->n_captions; k++)
                h = mm_hash64(mm_dataset_caption(b->d, e->caption + k)->p,
                              mm_dataset_caption(b->d, e->caption + k)->len, h);
            if (it) h = mm_hash64(&it->n, sizeof it->n, h);
            if (it) h = mm_hash64(&it->checksum, sizeof it->checksum, h);
        }
    }
    h = mm_hash64(t.p ? t.p : "", t.len, h);
    mm_buf_clear(&t);
    return h;
}

/* Windows and draws of a pool. A budget is met by as many draws as have about its length in sum. */
static void plan(mm_batches *b, int m)
{
    pool *p = &b->pool[m];
    const mm_batch_opts *o = &b->opts;
    size_t count = o->count[m] > 0 ? (size_t)o->count[m] : 0;
    if (!p->n) return;
    if (o->budget[m]) {
        double mean = 0;
        for (size_t i = 0; i < p->parts; i++) { /* as the parts are drawn */
            double sum = 0;
            for (size_t k = 0; k < p->part[i].n; k++) {
                const mm_example *e = mm_dataset_example(b->d, p->example[p->part[i].first + k]);
                draw d = { 0 };
                if (m == MM_TEXT) d.length = b->length[choose(b, e, m, mm_rng_at(0, 0, e->caption, 0))];
                else d.length = (uint32_t)mm_dataset_item(b->d, (size_t)e->item[m])->n;
                if (m == MM_AUDIO && o->max_frames && d.length > o->max_frames) d.length = (uint32_t)o->max_frames;
                sum += (double)cost(b, m, &d);
            }
            mean += (p->part[i].upto - (i ? p->part[i - 1].upto : 0)) * sum / p->part[i].n;
        }
        count = (size_t)((double)o->budget[m] / (mean > 1 ? mean : 1));
        if (!count) count = 1;
    }
    p->window = 1;
    if (count && (m == MM_TEXT || m == MM_AUDIO))
        p->window = p->n / count > BUCKETS ? BUCKETS : p->n / count ? (int)(p->n / count) : 1;
    p->draws = count * (size_t)p->window;
    p->expected = count;
}

static int text_lengths(mm_batches *b, mm_err *err)
{
    const mm_caption *c;
    size_t n = 0;
    if (!b->pool[MM_TEXT].n || (b->opts.count[MM_TEXT] <= 0 && !b->opts.budget[MM_TEXT])) return 0;
    while (mm_dataset_caption(b->d, n)) n++;
    if (!(b->length = calloc(n + 1, sizeof *b->length))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < b->pool[MM_TEXT].n; i++) { /* only what may be drawn */
        const mm_example *e = mm_dataset_example(b->d, b->pool[MM_TEXT].example[i]);
        for (uint32_t k = e->caption; k < e->caption + e->n_captions; k++) {
            c = mm_dataset_caption(b->d, k);
            b->length[k] =
                (uint32_t)(b->opts.text_len ? b->opts.text_len(b->opts.arg, c->p, c->len) : c->len / 4 + 1);
        }
    }
    return 0;
}

static void *serve(void *arg)
{
    mm_batches *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->busy && !b->quit) pthread_cond_wait(&b->wake, &b->lock);
        if (b->quit) break;
        const int i = (int)(b->wanted % 2);
        pthread_mutex_unlock(&b->lock);
        mm_arena_reset(&b->arena[i]);
        b->code[i] = mm_batches_make(b, b->wanted, &b->arena[i], &b->batch[i], &b->err[i]);
        pthread_mutex_lock(&b->lock);
        b->busy = 0;
        pthread_cond_signal(&b->done);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

int mm_batches_open(mm_batches **out, const mm_dataset *d, const mm_batch_opts *opts, mm_err *err)
{
    size_t langs = 0, sets = 0, any = 0;
    int r = 0;
    *out = NULL;
    if (opts->px < 1 || opts->video_px < 1)
        return mm_fail(err, MM_EARG, "pictures of %d and %d pixels", opts->px, opts->video_px);
    mm_batches *b = calloc(1, sizeof *b);
    if (!b) return mm_fail(err, MM_ENOMEM, "out of memory");
    b->d = d;
    b->opts = *opts;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    pthread_cond_init(&b->done, NULL);
    while (mm_dataset_lang(d, langs)) langs++;
    while (mm_dataset_set(d, sets)) sets++;
    if (!(b->lang_ok = calloc(langs + 1, 1))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < langs && !r; i++) b->lang_ok[i] = (uint8_t)in_langs(opts->langs, mm_dataset_lang(d, i));
    for (int m = 0; m < MM_MODALITIES && !r; m++) r = make_pool(b, m, sets, err);
    if (!r) r = text_lengths(b, err);
    for (int m = 0; m < MM_MODALITIES && !r; m++) {
        plan(b, m);
        any += b->pool[m].draws;
    }
    if (!r && !any) r = mm_fail(err, MM_EEMPTY, "there is nothing to draw from");
    if (!r) b->fingerprint = fingerprint(b);
    if (!r && !opts->no_thread) {
        if (pthread_create(&b->thread, NULL, serve, b)) r = mm_fail(err, MM_ENOMEM, "cannot start a thread");
        else b->threaded = 1;
    }
    if (r) mm_batches_close(&b);
    *out = b;
    return r;
}

void mm_batches_close(mm_batches **p)
{
    mm_batches *b = *p;
    *p = NULL;
    if (!b) return;
    if (b->threaded) {
        pthread_mutex_lock(&b->lock);
        b->quit = 1;
        pthread_cond_signal(&b->wake);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->thread, NULL);
    }
    for (int m = 0; m < MM_MODALITIES; m++) free(b->pool[m].example), free(b->pool[m].part);
    for (int i = 0; i < 2; i++) mm_arena_clear(&b->arena[i]);
    pthread_cond_destroy(&b->wake), pthread_cond_destroy(&b->done), pthread_mutex_destroy(&b->lock);
    free(b->lang_ok), free(b->length);
    free(b);
}

size_t mm_batches_examples(const mm_batches *b, mm_modality m) { return b->pool[m].n; }

uint64_t mm_batches_epoch(const mm_batches *b)
{
    uint64_t most = 1;
    for (int m = 0; m < MM_MODALITIES; m++)
        if (b->pool[m].draws && (b->pool[m].n + b->pool[m].expected - 1) / b->pool[m].expected > most)
            most = (b->pool[m].n + b->pool[m].expected - 1) / b->pool[m].expected;
    return most;
}

/* ---- one after the other ---- */

static void order(mm_batches *b, uint64_t step)
{
    b->wanted = step;
    b->busy = 1;
    b->have = 1;
    pthread_cond_signal(&b->wake);
}

int mm_batches_next(mm_batches *b, const mm_batch **out, mm_err *err)
{
    const int i = (int)(b->step % 2);
    *out = NULL;
    if (b->threaded) {
        pthread_mutex_lock(&b->lock);
        while (b->busy) pthread_cond_wait(&b->done, &b->lock);
        if (!b->have || b->wanted != b->step) {
            order(b, b->step);
            while (b->busy) pthread_cond_wait(&b->done, &b->lock);
        }
        if (!b->code[i]) order(b, b->step + 1); /* into the other arena, whose batch is no longer in use */
        else b->have = 0;
        pthread_mutex_unlock(&b->lock);
    } else {
        mm_arena_reset(&b->arena[i]);
        b->code[i] = mm_batches_make(b, b->step, &b->arena[i], &b->batch[i], &b->err[i]);
    }
    if (b->code[i]) return mm_fail(err, b->code[i], "%s", b->err[i].msg);
    b->step++;
    *out = &b->batch[i];
    return 0;
}

void mm_batches_state(const mm_batches *b, mm_batch_state *s)
{
    *s = (mm_batch_state){ b->opts.seed, b->step, b->fingerprint };
}

int mm_batches_seek(mm_batches *b, const mm_batch_state *s, mm_err *err)
{
    if (s->fingerprint != b->fingerprint)
        return mm_fail(err, MM_ESHAPE,
                       "the data or the way they are drawn are not those of the run that is to go on");
    if (b->threaded) {
        pthread_mutex_lock(&b->lock);
        while (b->busy) pthread_cond_wait(&b->done, &b->lock);
        b->have = 0;
        b->opts.seed = s->seed;
        pthread_mutex_unlock(&b->lock);
    }
    b->opts.seed = s->seed;
    b->step = s->step;
    return 0;
}

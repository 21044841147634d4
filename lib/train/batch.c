/* Batches: the arrays that a step's draws become, and the thread that is one step ahead. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "train/batch_int.h"

/* ---- arrays ---- */

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static const mm_item *item_of(const mm_batches *b, const draw *d, int m)
{
    return mm_dataset_item(b->d, (size_t)mm_dataset_example(b->d, d->example)->item[m]);
}

static mm_augment augment_of(const mm_batches *b, int m, const draw *d)
{
    mm_augment g = b->opts.augment[m];
    if (mm_dataset_example(b->d, d->example)->handed) g.flip = 0;
    return g;
}

/* What was drawn, for the caller: n draws of one kind and `more` of another. */
static int picks(mm_batch *out, int m, const draw *d, size_t n, const draw *more, size_t n_more, mm_arena *a, mm_err *err)
{
    mm_pick *pick = mm_arena_alloc(a, n + n_more + 1, sizeof *pick);
    if (!pick) return no_memory(err);
    for (size_t i = 0; i < n + n_more; i++) {
        const draw *from = i < n ? &d[i] : &more[i - n];
        pick[i] = (mm_pick){ from->example, from->caption };
    }
    out->n[m] = (int)(n + n_more);
    out->pick[m] = pick;
    return 0;
}

static int images(const mm_batches *b, float *x, const draw *d, size_t n, mm_err *err)
{
    const int px = b->opts.px;
    for (size_t i = 0; i < n; i++) {
        const mm_item *it = item_of(b, &d[i], MM_IMAGE);
        const mm_augment g = augment_of(b, MM_IMAGE, &d[i]);
        int r = mm_augment_image(x + i * 3 * (size_t)px * (size_t)px, px, it->px, it->width, &g, d[i].rng, err);
        if (r) return r;
    }
    return 0;
}

/* Sounds one behind the other; items[i] may be NULL. */
static int sounds(const mm_batches *b, const mm_item *const *items, const mm_rng *rng, size_t n, float **mel, size_t **at, mm_arena *a,
                  mm_err *err)
{
    const mm_augment *g = &b->opts.augment[MM_AUDIO];
    const int bins = mm_dataset_prep(b->d)->audio.mel.bins;
    size_t rows = 0, top = 0;
    for (size_t i = 0; i < n; i++) rows += items[i] ? mm_augment_mel_room((size_t)items[i]->n, b->opts.max_frames, g) : 0;
    *at = mm_arena_alloc(a, n + 1, sizeof **at);
    *mel = mm_arena_alloc(a, rows + 1, (size_t)bins * sizeof **mel);
    if (!*at || !*mel) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        (*at)[i] = top;
        if (!items[i]) continue;
        top += mm_augment_mel(*mel + top * (size_t)bins, items[i]->mel, (size_t)items[i]->n, bins, b->opts.max_frames, g, rng[i]);
    }
    (*at)[n] = top;
    return 0;
}

static int audio(const mm_batches *b, const draw *d, size_t n, const draw *joint, size_t n_joint, mm_arena *a, mm_batch *out, mm_err *err)
{
    const mm_item **items = mm_arena_alloc(a, n + n_joint + 1, sizeof *items);
    mm_rng *rng = mm_arena_alloc(a, n + n_joint + 1, sizeof *rng);
    if (!items || !rng) return no_memory(err);
    for (size_t i = 0; i < n + n_joint; i++) {
        const draw *from = i < n ? &d[i] : &joint[i - n];
        items[i] = item_of(b, from, MM_AUDIO);
        rng[i] = from->rng;
    }
    return sounds(b, items, rng, n + n_joint, &out->mel, &out->mel_at, a, err);
}

static int videos(const mm_batches *b, const draw *d, size_t n, mm_arena *a, mm_batch *out, mm_err *err)
{
    const int px = b->opts.video_px, frames = mm_dataset_prep(b->d)->video.frames;
    const size_t each = (size_t)frames * 3 * (size_t)px * (size_t)px;
    const mm_item **tracks = mm_arena_zalloc(a, n + 1, sizeof *tracks);
    mm_rng *rng = mm_arena_alloc(a, n + 1, sizeof *rng);
    out->video = mm_arena_alloc(a, n + 1, each * sizeof(float));
    out->times = mm_arena_alloc(a, n + 1, (size_t)frames * sizeof(float));
    if (!tracks || !rng || !out->video || !out->times) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const mm_item *it = item_of(b, &d[i], MM_VIDEO);
        const mm_augment g = augment_of(b, MM_VIDEO, &d[i]);
        mm_rng pace = mm_rng_at(d[i].rng.s, 0, 0, 1);
        const float slower = expf(g.strength * mm_rng_range(&pace, -1.4f, 6));
        for (int f = 0; f < frames; f++) out->times[i * (size_t)frames + (size_t)f] = slower * it->times[f];
        int r = mm_augment_video(out->video + i * each, px, it->px, it->width, frames, &g, d[i].rng, err);
        if (r) return r;
        tracks[i] = it->track >= 0 ? mm_dataset_item(b->d, (size_t)it->track) : NULL;
        rng[i] = mm_rng_at(d[i].rng.s, 0, 0, 0);
    }
    return sounds(b, tracks, rng, n, &out->track, &out->track_at, a, err);
}

int mm_batches_make(const mm_batches *b, uint64_t step, mm_arena *a, mm_batch *out, mm_err *err)
{
    const size_t each = 3 * (size_t)b->opts.px * (size_t)b->opts.px;
    draw *d[POOLS] = { NULL }, *pictures = NULL;
    size_t n[POOLS] = { 0 };
    int dropped[POOLS] = { 0 }, r = 0;
    *out = (mm_batch){ .step = step };
    for (int m = 0; m < POOLS; m++)
        if (b->pool[m].count && !(d[m] = draw_step(b, m, step, a, &n[m], &dropped[m], err))) return MM_ENOMEM;
    const size_t joint = n[JOINT];
    if (!(pictures = mm_arena_alloc(a, joint + 1, sizeof *pictures))) return no_memory(err);
    for (size_t i = 0; i < joint; i++) pictures[i] = draw_partner(b, step, &d[JOINT][i]);
    out->joint = (int)joint;
    for (int m = 0; m < MM_MODALITIES && !r; m++) {
        const int two = m == MM_IMAGE || m == MM_AUDIO;
        out->dropped[m] = dropped[m];
        r = picks(out, m, d[m], n[m], m == MM_IMAGE ? pictures : d[JOINT], two ? joint : 0, a, err);
    }
    if (!r && out->n[MM_IMAGE]) {
        if (!(out->image = mm_arena_alloc(a, n[MM_IMAGE] + joint, each * sizeof(float)))) return no_memory(err);
        r = images(b, out->image, d[MM_IMAGE], n[MM_IMAGE], err);
        if (!r) r = images(b, out->image + n[MM_IMAGE] * each, pictures, joint, err);
    }
    if (!r && out->n[MM_AUDIO]) r = audio(b, d[MM_AUDIO], n[MM_AUDIO], d[JOINT], joint, a, out, err);
    if (!r && out->n[MM_VIDEO]) r = videos(b, d[MM_VIDEO], n[MM_VIDEO], a, out, err);
    return r;
}

/* ---- opening ---- */

void mm_batch_defaults(mm_batch_opts *o)
{
    *o = (mm_batch_opts){ .split = MM_TRAIN, .px = 64, .video_px = 64, .power = 0.7f, .caption = { 0.6f, 0.3f, 0.3f, 0.1f, 0 } };
    const int count[] = { [MM_TEXT] = 64, [MM_IMAGE] = 64, [MM_AUDIO] = 32, [MM_VIDEO] = 8 };
    for (int m = 0; m < MM_MODALITIES; m++) {
        o->count[m] = count[m];
        o->augment[m] = (mm_augment){ 0.5f, m == MM_IMAGE ? 0.5f : 0 };
    }
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
    *out = NULL;
    if (opts->px < 1 || opts->video_px < 1 || opts->px > 1 << 12 || opts->video_px > 1 << 12)
        return mm_fail(err, MM_EARG, "pictures of %d and %d pixels", opts->px, opts->video_px);
    mm_batches *b = calloc(1, sizeof *b);
    if (!b) return no_memory(err);
    b->d = d;
    b->opts = *opts;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    pthread_cond_init(&b->done, NULL);
    int r = draw_open(b, err);
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
    for (int i = 0; i < 2; i++) mm_arena_clear(&b->arena[i]);
    pthread_cond_destroy(&b->wake), pthread_cond_destroy(&b->done), pthread_mutex_destroy(&b->lock);
    draw_close(b);
    free(b);
}

size_t mm_batches_examples(const mm_batches *b, mm_modality m) { return b->pool[m].n; }

uint64_t mm_batches_epoch(const mm_batches *b)
{
    uint64_t most = 1;
    for (int m = 0; m < MM_MODALITIES; m++) {
        const pool *p = &b->pool[m];
        const uint64_t steps = p->count ? (p->n + p->count - 1) / p->count : 0;
        if (steps > most) most = steps;
    }
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

void mm_batches_state(const mm_batches *b, mm_batch_state *s) { *s = (mm_batch_state){ b->opts.seed, b->step, b->fingerprint }; }

int mm_batches_seek(mm_batches *b, const mm_batch_state *s, mm_err *err)
{
    if (s->fingerprint != b->fingerprint)
        return mm_fail(err, MM_ESHAPE, "the data, or the way they are drawn, are not those of the run that is to go on");
    pthread_mutex_lock(&b->lock);
    while (b->busy) pthread_cond_wait(&b->done, &b->lock);
    b->have = 0;
    b->opts.seed = s->seed;
    b->step = s->step;
    pthread_mutex_unlock(&b->lock);
    return 0;
}

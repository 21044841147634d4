/* Decoding of what the cache lacks: jobs go to worker processes, results come back in order, each is written down at
 * once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "media/mm_worker.h"
#include "train/dataset_int.h"

#define AHEAD 48 /* jobs under way */

typedef struct filling {
    mm_dataset *d;
    mm_workers *pool;
    mm_job job[AHEAD];
    uint32_t of[AHEAD]; /* which request */
    uint32_t *todo;     /* requests to decode; grows by sound tracks as videos are met */
    size_t n, cap, sent, done;
    uint8_t *out; /* the stored form of one medium */
    size_t cap_out;
} filling;

static const mm_input_spec *spec_of(const mm_dataset *d, unsigned kind)
{
    return kind == MM_MEDIA_IMAGE ? &d->prep.image : kind == MM_MEDIA_AUDIO ? &d->prep.audio : &d->prep.video;
}

static void look_up(mm_dataset *d)
{
    for (size_t i = 0; i < d->n_request; i++) {
        request *q = &d->request[i];
        q->e = cache_find(&d->cache, q->id, q->size, q->mtime);
        q->listed = 0;
    }
}

static int enlist(filling *f, uint32_t number, mm_err *err)
{
    request *q = &f->d->request[number];
    if (q->e || q->listed) return 0;
    int r = dataset_room(&f->todo, &f->cap, f->n, sizeof *f->todo, err);
    if (r) return r;
    q->listed = 1;
    f->todo[f->n++] = number;
    return 0;
}

/* The request for the sound of a video. */
static int want_track(mm_dataset *d, uint32_t video, mm_err *err)
{
    request q = d->request[video];
    uint32_t number;
    if (q.track >= 0) return 0;
    q.kind = MM_MEDIA_AUDIO;
    q.listed = 0;
    if (q.path) {
        dataset_id(q.id, d, q.kind, q.path, strlen(q.path), 0);
    } else {
        dataset_id(q.id, d, q.kind, q.data, q.len, 1);
        void *copy = malloc(q.len);
        if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
        q.data = memcpy(copy, q.data, q.len);
    }
    q.e = cache_find(&d->cache, q.id, q.size, q.mtime);
    int r = dataset_request(d, &q, &number, err);
    if (!r) d->request[video].track = (int32_t)number;
    return r;
}

/* ---- stored forms ---- */

static int room(filling *f, size_t bytes, mm_err *err)
{
    if (bytes <= f->cap_out) return 0;
    uint8_t *p = mm_realloc(f->out, bytes, 1);
    if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
    f->out = p;
    f->cap_out = bytes;
    return 0;
}

static void bytes_of(uint8_t *to, const float *x, size_t plane)
{
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) to[3 * i + c] = (uint8_t)lrintf(x[c * plane + i] * 255);
}

static int store(filling *f, const request *q, const mm_job *j, mm_err *err)
{
    const mm_input_spec *s = spec_of(f->d, q->kind);
    const mm_input_facts *a = &j->facts;
    cache_entry e = { .id = { q->id[0], q->id[1] },
                      .size = q->size,
                      .mtime = q->mtime,
                      .kind = q->kind,
                      .seconds = (float)a->info.seconds,
                      .duplicates = a->duplicates,
                      .image = a->image,
                      .sound = a->sound,
                      .n = 1,
                      .width = s->width,
                      .height = s->height };
    const size_t plane = (size_t)s->width * (size_t)s->height;
    int r;
    if (a->info.truncated) e.flags |= ENTRY_TRUNCATED;
    if (q->kind == MM_MEDIA_AUDIO) {
        const size_t bins = (size_t)s->mel.bins, n = (size_t)a->mel_frames;
        e.n = a->mel_frames;
        e.width = s->mel.bins;
        e.height = 1;
        e.bytes = n * bins * 2;
        if ((r = room(f, e.bytes, err))) return r;
        for (size_t b = 0; b < bins; b++)
            for (size_t t = 0; t < n; t++)
                ((uint16_t *)(void *)f->out)[t * bins + b] = mm_f32_to_f16(j->x[b * (size_t)s->mel.n_frames + t]);
    } else {
        const size_t n = q->kind == MM_MEDIA_VIDEO ? (size_t)s->frames : 1,
                     head = q->kind == MM_MEDIA_VIDEO ? (n * sizeof(float) + 63) / 64 * 64 : 0;
        if (q->kind == MM_MEDIA_VIDEO && a->info.has & MM_MEDIA_AUDIO) e.flags |= ENTRY_TRACK;
        e.n = (int32_t)n;
        e.bytes = head + n * plane * 3;
        if ((r = room(f, e.bytes, err))) return r;
        memset(f->out, 0, head);
        if (head) memcpy(f->out, a->times, n * sizeof(float));
        for (size_t i = 0; i < n; i++) bytes_of(f->out + head + i * plane * 3, j->x + i * plane * 3, plane);
    }
    return cache_put(&f->d->cache, &e, f->out, err);
}

/* ---- jobs ---- */

static int submit(filling *f, mm_err *err)
{
    const size_t at = f->sent % AHEAD;
    mm_job *j = &f->job[at];
    const request *q = &f->d->request[f->of[at] = f->todo[f->sent]];
    const int sound = q->kind == MM_MEDIA_AUDIO;
    *j = (mm_job){ .n = 1,
                   .spec = { *spec_of(f->d, q->kind) },
                   .src = { q->path, q->data, q->path ? 0 : q->len },
                   .opts = { .alpha = f->d->prep.alpha,
                             .quality = 1,
                             .max_seconds = sound ? f->d->prep.max_seconds : 0,
                             .cut_seconds = 1 } };
    if (!sound)
        for (int c = 0; c < 3; c++)
            j->spec[0].image.mean[c] = 0, j->spec[0].image.std[c] = 1; /* the samples themselves */
    f->sent++;
    return mm_workers_submit(f->pool, j, err);
}

static int finish_one(filling *f, mm_err *err)
{
    const size_t at = f->done % AHEAD;
    mm_dataset *d = f->d;
    mm_job *j = &f->job[at];
    static const char *const keys[] = {
        [MM_MEDIA_IMAGE] = "image", [MM_MEDIA_AUDIO] = "audio", [MM_MEDIA_VIDEO] = "video"
    };
    int r = 0;
    mm_workers_wait(f->pool, j);
    const request *q = &d->request[f->of[at]];
    if (j->code == MM_ENOMEM) {
        r = mm_fail(err, MM_ENOMEM, "%s", j->message);
    } else if (j->code) {
        mm_err e = { 0 };
        mm_fail(&e, j->code, "%s:%u: '%s': %s", q->manifest, q->line, keys[q->kind], j->message);
        d->bad_media++;
        r = dataset_bad(d, e.code, e.msg, err);
    } else {
        r = store(f, q, j, err);
        d->decoded += !r;
        if (!r && q->kind == MM_MEDIA_VIDEO && j->facts.info.has & MM_MEDIA_AUDIO &&
            !(r = want_track(d, f->of[at], err)))
            r = enlist(f, (uint32_t)d->request[f->of[at]].track, err);
    }
    mm_workers_release(f->pool, j);
    f->done++;
    if (!r && d->opts.progress && d->opts.progress(d->opts.arg, f->done, f->n)) r = 1;
    return r;
}

/* What is to be decoded: media without an entry, and the sound of videos that have one. Requests may be added on the
 * way. */
static int list(filling *f, mm_err *err)
{
    mm_dataset *d = f->d;
    int r = 0;
    f->n = 0;
    for (size_t i = 0; i < d->n_request && !r; i++) {
        const request *q = &d->request[i];
        if (q->e && q->kind == MM_MEDIA_VIDEO && q->e->flags & ENTRY_TRACK) r = want_track(d, (uint32_t)i, err);
        if (!r) r = enlist(f, (uint32_t)i, err);
    }
    return r;
}

static int decode(filling *f, mm_err *err)
{
    mm_dataset *d = f->d;
    int r = mm_workers_open(&f->pool, &(mm_workers_opts){ .workers = d->opts.workers ? d->opts.workers : 2 }, err);
    while (!r && f->done < f->n) {
        while (!r && f->sent < f->n && f->sent - f->done < AHEAD) r = submit(f, err);
        if (!r) r = finish_one(f, err);
    }
    mm_workers_close(&f->pool);
    return r;
}

int dataset_fill(mm_dataset *d, mm_err *err)
{
    mm_err note = { 0 };
    filling *f = calloc(1, sizeof *f);
    if (!f) return mm_fail(err, MM_ENOMEM, "out of memory");
    f->d = d;
    cache_close(&d->cache);
    int r = cache_open(&d->cache, d->cache_path, &note);
    if (r) mm_fail(err, r, "%s", note.msg);
    else if (note.code && d->opts.bad) d->opts.bad(d->opts.arg, note.code, note.msg);
    if (!r) look_up(d);
    if (!r) r = list(f, err);
    if (!r && (f->n || d->cache.n_fresh)) {
        int stopped = 0;
        if (!(r = cache_begin(&d->cache, err))) {
            look_up(d); /* anew: another process may have been at it */
            r = list(f, err);
        }
        if (!r && f->n) r = decode(f, err);
        if (r == 1) stopped = 1, r = 0;
        if (!r && d->cache.n_fresh) r = cache_commit(&d->cache, err);
        else if (!r) cache_give_up(&d->cache);
        if (!r) look_up(d);
        if (!r && stopped) r = 1;
    }
    if (d->cache.fd >= 0) cache_close(&d->cache);
    free(f->todo), free(f->out), free(f);
    return r;
}

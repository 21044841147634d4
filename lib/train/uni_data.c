/* Manifests as a unified model sees them, decoded. */
#include <stdio.h>
#include "train/captions.h"
#include "train/mm_dataset.h"
#include "train/mm_uni_task.h"
#include "train/train_int.h"

typedef struct {
    const mm_train_hooks *h;
    size_t bad;
} watch;

static void bad(void *arg, int code, const char *message)
{
    watch *w = arg;
    (void)code;
    if (w->bad++ < 20 && w->h->say) w->h->say(w->h->arg, 1, message);
}

static int decoding(void *arg, size_t done, size_t total)
{
    const mm_train_hooks *h = ((watch *)arg)->h;
    return h->work ? h->work(h->arg, "decoding", done, total) : 0;
}

static void count(void *arg, const char *p, size_t len)
{
    (void)arg, (void)p, (void)len;
}

/* What there is to learn from, and how much is left out for want of a caption: a wrong key is not noticed otherwise. */
static int tell(const mm_dataset *d, const mm_train_hooks *h, mm_err *err)
{
    mm_caption_finder f = { 0 };
    const mm_example *e;
    char line[200];
    size_t n[MM_MODALITIES] = { 0 }, all = 0, untold = 0, val = 0;
    if (!h->say) return 0;
    const int r = mm_caption_finder_make(&f, d, err);
    for (size_t i = 0; !r && (e = mm_dataset_example(d, i)); i++) {
        if (e->item[MM_IMAGE] < 0 && e->item[MM_AUDIO] < 0 && e->item[MM_VIDEO] < 0) continue;
        val += e->split == MM_VAL;
        if (e->split != MM_TRAIN) continue;
        const int told = mm_captions_of(&f, i, count, NULL) > 0;
        all++;
        untold += !told;
        for (int m = MM_IMAGE; m < MM_MODALITIES; m++) n[m] += told && e->item[m] >= 0;
    }
    json_decref(f.by_concept);
    if (r) return r;
    snprintf(line, sizeof line, "%zu pictures, %zu sounds, %zu clips to learn from; %zu records of split val", n[MM_IMAGE], n[MM_AUDIO], n[MM_VIDEO], val);
    h->say(h->arg, 0, line);
    snprintf(line, sizeof line, "%zu of %zu records for training have no caption in English (text, texts, label), and are left out", untold, all);
    if (untold) h->say(h->arg, 1, line);
    return 0;
}

int mm_uni_data_open(mm_dataset **out, const mm_uni_config *c, const mm_train_opts *o, const mm_train_hooks *hooks, mm_err *err)
{
    watch w = { .h = hooks };
    mm_prep prep;
    mm_buf cache = { 0 };
    mm_prep_init(&prep, 80);
    /* as the model sees them, with room for crops */
    const int room = o->few == MM_FEW_PROTOTYPE ? 0 : 16;
    if (c->mod[MM_IMAGE].width) mm_uni_spec(&prep.image, MM_IMAGE, (int)c->mod[MM_IMAGE].size + room, 1);
    if (c->mod[MM_VIDEO].width) mm_uni_spec(&prep.video, MM_VIDEO, (int)c->mod[MM_VIDEO].size + room, (int)c->mod[MM_VIDEO].frames);
    if (c->mod[MM_AUDIO].width) {
        mm_uni_spec(&prep.audio, MM_AUDIO, 0, (int)c->mod[MM_AUDIO].frames);
        prep.max_seconds = (double)c->mod[MM_AUDIO].frames / 100;
    }
    int r = mm_buf_addf(&cache, "%s%s", o->cache ? o->cache : o->output, o->cache ? "" : ".cache") ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    const mm_dataset_opts d = { .prep = &prep, .cache = cache.p, .bad = bad, .progress = decoding, .arg = &w };
    if (!r) r = mm_dataset_open(out, &d, err);
    for (size_t i = 0; i < o->n_data && !r; i++) r = mm_dataset_add(*out, o->data[i], err);
    if (!r) r = mm_dataset_load(*out, err);
    if (!r) r = tell(*out, hooks, err);
    mm_buf_clear(&cache);
    return r; /* 1: stopped, and what is decoded is kept */
}

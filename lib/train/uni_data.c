/* Manifests as a unified model sees them, decoded. */
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
    mm_buf_clear(&cache);
    return r; /* 1: stopped, and what is decoded is kept */
}

/* Batches of media whose captions are learned. */
#include "train/captioned.h"

enum { STREAM_SAID = 0x7361 };

static int want(void *arg, const mm_example *e, mm_modality m)
{
    const mm_captioned *p = arg;
    return m != MM_TEXT && mm_captions_count(&p->captions[m], e - p->first) > 0;
}

int mm_captioned_open(mm_captioned *p, const mm_captioned_opts *o, mm_err *err)
{
    mm_caption_finder f;
    int some = 0, r = mm_caption_finder_make(&f, o->data, err);
    p->bo = *o->batch;
    p->bo.seed = p->seed = o->seed;
    p->bo.split = o->split;
    p->bo.langs = "en,eng,en_GB,en_US";
    p->bo.count[MM_TEXT] = 0;
    p->bo.want = want;
    p->bo.arg = p;
    p->bo.bare = 1;
    p->first = mm_dataset_example(o->data, 0);
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
        if (o->split == MM_VAL) p->bo.augment[m] = (mm_augment){ 0, 0 };
        if (!(o->mods >> m & 1)) p->bo.count[m] = 0;
        if (!p->bo.count[m]) continue;
        r = mm_captions_make(&p->captions[m], &f, (mm_modality)m, o->split, err);
        if (!r) r = mm_tokenize(o->tok, o->flags, o->longest, p->captions[m].text, p->captions[m].n, &p->ids[m], err);
        if (!r && !p->captions[m].n) p->bo.count[m] = 0;
        some |= p->bo.count[m];
    }
    json_decref(f.by_concept);
    return r || !some ? r : mm_batches_open(&p->batches, o->data, &p->bo, err);
}

void mm_captioned_clear(mm_captioned *p)
{
    mm_batches_close(&p->batches);
    for (int m = 0; m < MM_MODALITIES; m++) {
        mm_captions_clear(&p->captions[m]);
        mm_id_lists_clear(&p->ids[m]);
    }
}

int mm_captioned_at(mm_captioned *p, uint64_t step, const mm_batch **b, mm_err *err)
{
    mm_batch_state s;
    int r = 0;
    mm_batches_state(p->batches, &s);
    if (s.step != step) {
        s.step = step;
        r = mm_batches_seek(p->batches, &s, err);
    }
    return r ? r : mm_batches_next(p->batches, b, err);
}

void mm_captioned_draw(const mm_captioned *p, mm_modality m, const mm_batch *b, uint32_t *row)
{
    for (int i = 0; i < b->n[m]; i++) {
        mm_rng r = mm_rng_at(p->seed, STREAM_SAID + (uint64_t)m, b->step, (uint64_t)i);
        row[i] = mm_captions_draw(&p->captions[m], b->pick[m][i].example, &r);
    }
}

/* How media are prepared, as specifications that training and use share. */
#include <string.h>
#include "base/mm_str.h"
#include "model/mm_uni.h"
#include "train/dataset_int.h"

void mm_prep_init(mm_prep *p, int px)
{
    *p = (mm_prep){ .alpha = MM_ALPHA_WHITE, .max_seconds = 10 };
    mm_uni_spec(&p->image, MM_IMAGE, px, 1);
    mm_uni_spec(&p->video, MM_VIDEO, px, 8);
    mm_uni_spec(&p->audio, MM_AUDIO, 0, 1000);
}

/* What the stored form depends on; structs have holes, so it is written out. Raise the number when decoding changes
 * its results. */
uint64_t prep_id(const mm_prep *p, int modality)
{
    mm_buf b = { 0 };
    const mm_input_spec *s = modality == MM_AUDIO ? &p->audio : modality == MM_VIDEO ? &p->video : &p->image;
    if (modality == MM_AUDIO) {
        const mm_mel_spec *m = &s->mel;
        mm_buf_addf(&b, "mel 1 %d %d %d %d %d %d %d %a %a %d %a", (int)m->kind, m->rate, m->bins, m->n_fft, m->hop,
                    m->n_frames, m->center_wave, (double)m->mean, (double)m->std, (int)s->sound, p->max_seconds);
    } else {
        const mm_image_spec *i = &s->image;
        mm_buf_addf(&b, "picture 1 %d %d %d %d %d %d %d %d %d %d", (int)i->fit, i->resize, i->height, i->width,
                    (int)i->filter, i->round_crop, i->fill[0], i->fill[1], i->fill[2], (int)p->alpha);
        if (modality == MM_VIDEO)
            mm_buf_addf(&b, " video %d %d %d %a", s->frames, (int)s->video.how, s->video.clips,
                        s->video.clip_seconds);
    }
    const uint64_t h = mm_hash64(b.p ? b.p : "", b.len, 0);
    mm_buf_clear(&b);
    return h;
}

/* How media are prepared, as specifications that training and use share. */
#include <string.h>
#include "base/mm_str.h"
#include "train/dataset_int.h"

static void picture(mm_image_spec *s, int px)
{
    *s = (mm_image_spec){ .fit = MM_FIT_STRETCH,
                          .resize = px,
                          .height = px,
                          .width = px,
                          .filter = MM_RESIZE_BICUBIC,
                          .fill = { 255, 255, 255 } };
    for (int c = 0; c < 3; c++) s->mean[c] = 0.5f, s->std[c] = 0.25f;
}

void mm_prep_init(mm_prep *p, int px)
{
    memset(p, 0, sizeof *p);
    p->alpha = MM_ALPHA_WHITE;
    p->max_seconds = 10;
    p->image = (mm_input_spec){
        .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = px, .width = px, .crops = 1
    };
    picture(&p->image.image, px);
    p->video = p->image;
    p->video.source = MM_MEDIA_VIDEO;
    p->video.frames = 8;
    p->video.video = (mm_video_spec){ .how = MM_FRAMES_SPREAD, .frames = 8 };
    p->audio = (mm_input_spec){ .source = MM_MEDIA_AUDIO,
                                .views = 1,
                                .frames = 1,
                                .channels = 1,
                                .height = 64,
                                .width = 1000,
                                .sound = MM_SOUND_WHOLE };
    p->audio.mel = (mm_mel_spec){ .kind = MM_MEL_KALDI,
                                  .rate = 16000,
                                  .bins = 64,
                                  .n_fft = 400,
                                  .hop = 160,
                                  .n_frames = 1000,
                                  .mean = MM_PREP_MEL_MEAN,
                                  .std = MM_PREP_MEL_STD };
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

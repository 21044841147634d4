/* From a file to the array that a model sees. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "media/media_int.h"

static size_t plane(const mm_input_spec *s) { return (size_t)s->height * (size_t)s->width; }

/* ---- pictures ---- */

static int picture(float *x, const mm_image *im, const mm_input_spec *s, mm_input_facts *f, mm_err *err)
{
    if (s->tiles.longest) return media_tiles(x, im, s, f, err);
    uint8_t *px = mm_realloc(NULL, plane(s) * 3, 1);
    if (!px) return mm_fail(err, MM_ENOMEM, "out of memory");
    int r = mm_image_fit(px, im, &s->image, err);
    if (!r) mm_image_normalize(x, px, &s->image);
    free(px);
    return r;
}

/* torch.nn.functional.interpolate(mode="bilinear", align_corners=False) to short side s->height, then a square from (top, left). x has
 * planes `step` apart. */
static void scale_pytorch(float *x, size_t step, const mm_image *im, const mm_input_spec *s, int w, int h, int top, int left)
{
    float sy = (float)im->height / (float)h, sx = (float)im->width / (float)w;
    for (int y = 0; y < s->height; y++) {
        float fy = ((float)(y + top) + 0.5f) * sy - 0.5f;
        if (fy < 0) fy = 0;
        int y0 = (int)fy, y1 = y0 + (y0 < im->height - 1);
        float ly = fy - (float)y0;
        for (int q = 0; q < s->width; q++) {
            float fx = ((float)(q + left) + 0.5f) * sx - 0.5f;
            if (fx < 0) fx = 0;
            int x0 = (int)fx, x1 = x0 + (x0 < im->width - 1);
            float lx = fx - (float)x0;
            const uint8_t *a = im->px + 3 * (size_t)y0 * (size_t)im->width, *b = im->px + 3 * (size_t)y1 * (size_t)im->width;
            for (int c = 0; c < 3; c++) {
                float v = (1 - ly) * ((1 - lx) * (float)a[3 * x0 + c] + lx * (float)a[3 * x1 + c]) +
                          ly * ((1 - lx) * (float)b[3 * x0 + c] + lx * (float)b[3 * x1 + c]);
                x[(size_t)c * step + (size_t)y * (size_t)s->width + (size_t)q] = (v / 255.0f - s->image.mean[c]) / s->image.std[c];
            }
        }
    }
}

/* One frame as pytorchvideo prepares it: the crop-th of s->crops squares (0 first, 1 middle, 2 last along the long side). */
static void frame_pytorch(float *x, const mm_image *im, const mm_input_spec *s, int crop)
{
    int size = s->height, w = size, h = size;
    if (im->width < im->height) h = (int)floor((double)im->height / im->width * size);
    else w = (int)floor((double)im->width / im->height * size);
    int top, left;
    if (s->crops == 1) {
        top = (int)nearbyint((h - size) / 2.0);
        left = (int)nearbyint((w - size) / 2.0);
    } else {
        top = (int)ceil((h - size) / 2.0);
        left = (int)ceil((w - size) / 2.0);
        if (crop != 1) *(h > w ? &top : &left) = crop == 0 ? 0 : h > w ? h - size : w - size;
    }
    scale_pytorch(x, plane(s), im, s, w, h, top, left);
}

/* ---- video ---- */

static int video(float *x, const mm_input_spec *s, const mm_media_src *src, const mm_input_opts *o, mm_input_facts *f, mm_err *err)
{
    int n = s->video.frames, r;
    mm_image *im = calloc((size_t)n, sizeof *im);
    double *times = calloc((size_t)n, sizeof *times);
    const mm_video_opts vo = { { o->no_rotate, o->alpha ? o->alpha : s->ground, o->max_pixels }, o->max_seconds };
    size_t frame = plane(s) * 3;
    r = im && times ? mm_video_read(im, times, &s->video, src, &vo, &f->info, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < n && !r && f->n_times < MM_INPUT_TIMES; i++) f->times[f->n_times++] = (float)times[i];
    if (!r && o->quality) {
        f->has_quality = 1;
        mm_image_measure(&f->image, &im[n / 2]);
        f->duplicates = mm_video_duplicates(im, (size_t)n);
    }
    /* views in the order of clips, then crops; frames within */
    for (int v = 0; v < s->views && !r; v++)
        for (int i = 0; i < s->frames && !r; i++) {
            float *to = x + ((size_t)v * (size_t)s->frames + (size_t)i) * frame;
            const mm_image *from = &im[v / s->crops * s->frames + i];
            if (s->by_pytorch) frame_pytorch(to, from, s, v % s->crops);
            else r = picture(to, from, s, f, err);
        }
    for (int i = 0; im && i < n; i++) mm_image_clear(&im[i]);
    free(im);
    free(times);
    return r;
}

/* ---- sound ---- */

/* The same spectrum over all of n_frames: repeated from its beginning, as often as it takes. */
static int thirds(float *x, const mm_sound *snd, const mm_input_spec *s, mm_err *err)
{
    mm_mel_spec m = s->mel;
    size_t window = (size_t)m.n_fft, hop = (size_t)m.hop, want = (size_t)m.n_frames, bins = (size_t)m.bins;
    size_t have = snd->n < window ? 1 : (snd->n - window) / hop + 1;
    m.n_frames = (int)have;
    float *mel = mm_aligned(bins * have, sizeof *mel);
    int r = mel ? mm_mel(mel, snd->x, snd->n, &m, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    /* numpy.array_split of the possible starts into three: the first `extra` parts are one longer */
    size_t starts = have > want ? have - want + 1 : 1, each = starts / 3, extra = starts % 3, at[3] = { 0, 0, 0 };
    if (have > want) {
        at[1] = each + (extra > 0);
        at[2] = 2 * each + extra;
        if (starts < 2) at[1] = 0;
        if (starts < 3) at[2] = 0;
    }
    for (size_t c = 0; c < 3 && !r; c++)
        for (size_t b = 0; b < bins; b++)
            for (size_t i = 0; i < want; i++) x[(c * bins + b) * want + i] = mel[b * have + (have > want ? at[c] + i : i % have)];
    free(mel);
    return r;
}

static int clips(float *x, const mm_sound *snd, const mm_input_spec *s, mm_err *err)
{
    double seconds = (double)snd->n / snd->rate, last = seconds - s->clip_seconds > 0 ? seconds - s->clip_seconds : 0;
    int r = 0;
    for (int v = 0; v < s->views && !r; v++) {
        double start = s->views > 1 ? last / (s->views - 1) * v : 0;
        size_t from = (size_t)(start * snd->rate), to = (size_t)((start + s->clip_seconds) * snd->rate);
        if (to > snd->n) to = snd->n;
        if (from > to) from = to;
        r = mm_mel(x + (size_t)v * plane(s), snd->x + from, to - from, &s->mel, err);
    }
    return r;
}

/* Frames of the spectrum that begin inside the sound (WHISPER's frames stand around their place, KALDI's begin there and are whole). */
static int filled(const mm_mel_spec *m, size_t n)
{
    const size_t window = (size_t)m->n_fft, hop = (size_t)m->hop;
    const size_t have = m->kind == MM_MEL_WHISPER ? (n + hop - 1) / hop : n > window ? 1 + (n - window) / hop : 1;
    return have < (size_t)m->n_frames ? (int)have : m->n_frames;
}

static int sound(float *x, const mm_input_spec *s, const mm_media_src *src, const mm_input_opts *o, mm_input_facts *f, mm_err *err)
{
    mm_sound snd = { 0 };
    const mm_sound_opts so = { o->max_seconds, o->cut_seconds };
    int r = mm_sound_read(&snd, src, s->mel.rate, &so, &f->info, err);
    if (!r) {
        f->has_sound = 1; /* cheap beside decoding, and silence is worth being told */
        mm_sound_measure(&f->sound, snd.x, snd.n, snd.rate);
        if (s->sound == MM_SOUND_WHOLE) f->mel_frames = filled(&s->mel, snd.n);
        r = s->sound == MM_SOUND_WHOLE ? mm_mel(x, snd.x, snd.n, &s->mel, err) : s->sound == MM_SOUND_CLIPS ? clips(x, &snd, s, err) : thirds(x, &snd, s, err);
    }
    mm_sound_clear(&snd);
    return r;
}

/* Is anybody speaking in the video? No sound track, or a broken one, is no error. */
static void track(const mm_media_src *src, const mm_input_opts *o, mm_input_facts *f)
{
    mm_sound snd = { 0 };
    mm_media_info info = { 0 };
    const mm_sound_opts so = { o->max_seconds, 1 };
    if (!(f->info.has & MM_MEDIA_AUDIO)) return;
    if (!mm_sound_read(&snd, src, 16000, &so, &info, NULL)) {
        f->has_sound = 1;
        mm_sound_measure(&f->sound, snd.x, snd.n, snd.rate);
    }
    mm_sound_clear(&snd);
}

int mm_input_make(float *x, const mm_input_spec *s, const mm_media_src *src, const mm_input_opts *opts, mm_input_facts *facts, mm_err *err)
{
    static const mm_input_opts none;
    mm_input_facts own;
    mm_image im = { 0 };
    const mm_input_opts *o = opts ? opts : &none;
    if (!facts) facts = &own;
    *facts = (mm_input_facts){ 0 };
    if (!mm_input_floats(s)) return mm_fail(err, MM_ENOMEM, "an input of this model is too large");
    if (s->source == MM_MEDIA_AUDIO) return sound(x, s, src, o, facts, err);
    if (s->source == MM_MEDIA_VIDEO) {
        int r = video(x, s, src, o, facts, err);
        if (!r) track(src, o, facts);
        return r;
    }
    const mm_image_opts io = { o->no_rotate, o->alpha ? o->alpha : s->ground, o->max_pixels };
    int r = mm_image_read(&im, src, &io, &facts->info, err);
    if (!r && o->quality) {
        facts->has_quality = 1;
        mm_image_measure(&facts->image, &im);
    }
    if (!r) r = picture(x, &im, s, facts, err);
    mm_image_clear(&im);
    return r;
}

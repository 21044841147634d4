/* The unified model as an mm_model: what its file says becomes the interface of all families, and jobs go through its trunk. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"
#include "model/uni_int.h"

#define BATCH_TOKENS 512
#define PADDING 1.0f /* zeros behind a spectrum's last frame, after (x + 4) / 4 */

void mm_uni_specs(const mm_uni_config *c, mm_input_spec spec[MM_MODALITIES])
{
    const int px = (int)c->mod[MM_IMAGE].size, vpx = (int)c->mod[MM_VIDEO].size, n = (int)c->mod[MM_AUDIO].frames;
    mm_input_spec s = { .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = px, .width = px, .crops = 1,
                        .ground = MM_ALPHA_WHITE };
    s.image = (mm_image_spec){ .fit = MM_FIT_STRETCH, .resize = px, .height = px, .width = px, .filter = MM_RESIZE_BICUBIC, .fill = { 255, 255, 255 },
                               .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.25f, 0.25f, 0.25f } };
    spec[MM_IMAGE] = s;
    s.source = MM_MEDIA_VIDEO;
    s.frames = (int)c->mod[MM_VIDEO].frames;
    s.height = s.width = s.image.resize = s.image.height = s.image.width = vpx;
    s.video = (mm_video_spec){ .how = MM_FRAMES_SPREAD, .frames = s.frames };
    spec[MM_VIDEO] = s;
    spec[MM_AUDIO] = (mm_input_spec){ .source = MM_MEDIA_AUDIO, .views = 1, .frames = 1, .channels = 1, .height = 64, .width = n, .sound = MM_SOUND_WHOLE };
    spec[MM_AUDIO].mel = (mm_mel_spec){ .kind = MM_MEL_KALDI, .rate = 16000, .bins = 64, .n_fft = 400, .hop = 160, .n_frames = n, .mean = -4, .std = 4 };
}

int mm_config_uni(mm_model *m, mm_err *err)
{
    mm_uni_config c;
    int r = mm_uni_config_read(&c, m->store, err);
    if (!r) r = mm_uni_new(&m->uni, &c, err);
    if (r) return r;
    mm_uni_specs(&c, m->spec);
    for (int i = 0; i < MM_MODALITIES; i++) {
        mm_tower_config *t = &m->tower[i].cfg;
        if (!c.mod[i].width) continue;
        *t = (mm_tower_config){ .prefix = "", .layers = c.layers, .width = c.width, .ff_width = c.ff_width, .heads = c.heads, .kv_heads = c.heads,
                                .head_dim = c.width / c.heads, .eps = c.eps, .act = MMK_ACT_GELU_TANH, .pre_norm = 1, .pool = MM_POOL_MAP,
                                .pool_stated = 1, .proj = c.out, .normalize = 1, .channels = 3, .frames = c.mod[i].frames };
        t->height = t->width_in = c.mod[i].size;
        if (i == MM_TEXT) t->vocab = c.vocab, t->positions = t->window = c.window;
        m->via[i] = &m->tower[i];
    }
    const char *scale;
    if ((r = mm_store_kv_str(m->store, "mm-uni.logit_scale", "", &scale, err))) return r;
    m->logits.scale = scale[0] ? strtof(scale, NULL) : 0;
    return 0;
}

/* Length of a sound's spectrum without what it was filled up with; at least one frame. */
static size_t filled(const float *x, size_t bins, size_t frames)
{
    size_t n = frames;
    while (n > 1) {
        size_t b = 0;
        while (b < bins && x[b * frames + n - 1] == PADDING) b++;
        if (b < bins) break;
        n--;
    }
    return n;
}

typedef struct {
    mm_model *m;
    const mm_tower_job *j;
    mm_modality mod;
    float *const *sound; /* [n] as [frames, 64] */
    const size_t *frames;
} work;

static int group(const work *w, size_t from, size_t to, float *vec, mm_arena *arena, int threads)
{
    const mm_uni_config *c = mm_uni_get_config(w->m->uni);
    size_t n = to - from, dim = (size_t)c->out, base = 0;
    mm_graph g = { .kern = w->m->kern, .arena = arena, .threads = threads };
    mm_arena_reset(arena);
    size_t *off = mm_arena_alloc(arena, n + 1, sizeof *off);
    if (!off) return MM_ENOMEM;
    mm_uni_in in = { .mod = w->mod, .n = n, .height = (size_t)c->mod[w->mod].size, .width = (size_t)c->mod[w->mod].size };
    if (w->mod == MM_TEXT) {
        base = w->j->off[from];
        for (size_t i = 0; i <= n; i++) off[i] = w->j->off[from + i] - base;
        in.ids = w->j->ids + base;
        in.off = off;
    } else {
        in.x = w->mod == MM_AUDIO ? (const float *const *)w->sound + from : w->j->x + from;
        in.frames = w->frames + from;
    }
    mm_tensor y = mm_uni_embed(&g, w->m->uni, &in);
    if (g.failed) return MM_ENOMEM;
    memcpy(vec + from * dim, y.p, n * dim * sizeof *vec);
    return 0;
}

static size_t tokens(const work *w, size_t i)
{
    const mm_uni_config *c = mm_uni_get_config(w->m->uni);
    size_t grid = (size_t)(c->mod[w->mod].size / 16 * (c->mod[w->mod].size / 16));
    switch (w->mod) {
    case MM_TEXT: return w->j->off[i + 1] - w->j->off[i];
    case MM_AUDIO: return (w->frames[i] + 7) / 8;
    case MM_VIDEO: return w->frames[i] / 2 * grid;
    default: return grid;
    }
}

int mm_uni_run(mm_model *m, const mm_tower_job *j, float *vec, mm_err *err)
{
    work w = { .m = m, .j = j, .mod = (mm_modality)(j->t - m->tower) };
    const mm_uni_config *c = mm_uni_get_config(m->uni);
    size_t n = j->n, have = (size_t)c->mod[w.mod].frames, *frames = NULL, *first = mm_realloc(NULL, n + 1, sizeof *first), groups = 0, sum = 0, total = 0;
    float **sound = NULL, *mem = NULL;
    int failed = !first, threads = m->opts.threads;
    if (w.mod != MM_TEXT && !failed) {
        frames = mm_realloc(NULL, n, sizeof *frames);
        failed = !frames;
        for (size_t i = 0; i < n && !failed; i++) frames[i] = w.mod == MM_AUDIO ? filled(j->x[i], 64, have) : have;
    }
    if (w.mod == MM_AUDIO && !failed) {
        size_t all = 0, at = 0;
        for (size_t i = 0; i < n; i++) all += frames[i] * 64;
        sound = mm_realloc(NULL, n, sizeof *sound);
        mem = mm_aligned(all, sizeof *mem);
        failed = !sound || !mem;
        for (size_t i = 0; i < n && !failed; at += frames[i++] * 64) {
            sound[i] = mem + at;
            for (size_t f = 0; f < frames[i]; f++)
                for (size_t b = 0; b < 64; b++) sound[i][f * 64 + b] = j->x[i][b * have + f];
        }
    }
    w.sound = sound;
    w.frames = frames;
    for (size_t i = 0; i < n && !failed; i++) total += tokens(&w, i);
    size_t budget = total / (size_t)threads < BATCH_TOKENS ? total / (size_t)threads + 1 : BATCH_TOKENS;
    for (size_t i = 0; i < n && !failed; i++) {
        size_t t = tokens(&w, i);
        if (i == 0 || sum + t > budget) {
            first[groups++] = i;
            sum = 0;
        }
        sum += t;
    }
    if (!failed) first[groups] = n;
    /* few inputs share the threads inside each product; a row's operations are the same either way */
    if (groups < (size_t)threads) {
        for (size_t i = 0; i < groups && !failed; i++) failed = group(&w, first[i], first[i + 1], vec, &m->scratch[0], threads) != 0;
    } else {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(| : failed)
        for (size_t i = 0; i < groups; i++) failed |= group(&w, first[i], first[i + 1], vec, &m->scratch[omp_get_thread_num()], 1) != 0;
    }
    free(first);
    free(frames);
    free(sound);
    free(mem);
    return failed ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

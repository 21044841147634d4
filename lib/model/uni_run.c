/* The unified model as an mm_model: what its file says becomes the interface of all families, and jobs go through its trunk. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"
#include "model/uni_int.h"

#define MEL MM_UNI_MEL
#define PADDING 1.0f /* zeros behind a spectrum's last frame, after (x + 4) / 4 */

void mm_uni_spec(mm_input_spec *s, mm_modality mod, int size, int frames)
{
    if (mod == MM_AUDIO) {
        *s = (mm_input_spec){ .source = MM_MEDIA_AUDIO, .views = 1, .frames = 1, .channels = 1, .height = MEL, .width = frames, .sound = MM_SOUND_WHOLE };
        s->mel = (mm_mel_spec){ .kind = MM_MEL_KALDI, .rate = 16000, .bins = MEL, .n_fft = 400, .hop = 160, .n_frames = frames, .mean = -4, .std = 4 };
        return;
    }
    *s = (mm_input_spec){ .source = mod == MM_VIDEO ? MM_MEDIA_VIDEO : MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = size,
                          .width = size, .crops = 1, .ground = MM_ALPHA_WHITE };
    s->image = (mm_image_spec){ .fit = MM_FIT_STRETCH, .resize = size, .height = size, .width = size, .filter = MM_RESIZE_BICUBIC,
                                .fill = { 255, 255, 255 }, .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.25f, 0.25f, 0.25f } };
    if (mod != MM_VIDEO) return;
    s->frames = frames;
    s->video = (mm_video_spec){ .how = MM_FRAMES_SPREAD, .frames = frames };
}

/* Positions are made for what comes: another grid of patches, another number of frames. */
static int sizes(const mm_model *m, mm_uni_config *c, mm_err *err)
{
    const int size = m->opts.size, frames = m->opts.frames;
    if (size < 0 || size > 4096 || size % 16) return mm_fail(err, MM_EARG, "a size of %d pixels is not one of 16, 32 .. 4096", size);
    if (frames < 0 || frames % 2) return mm_fail(err, MM_EARG, "%d frames are not an even number", frames);
    if (size) c->mod[MM_IMAGE].size = c->mod[MM_VIDEO].size = size;
    if (frames) c->mod[MM_VIDEO].frames = frames;
    if (c->mod[MM_VIDEO].frames > MM_INPUT_TIMES)
        return mm_fail(err, MM_EARG, "%lld frames of a clip: at most %d are taken", (long long)c->mod[MM_VIDEO].frames, MM_INPUT_TIMES);
    return 0;
}

int mm_config_uni(mm_model *m, mm_err *err)
{
    mm_uni_config c;
    int r = mm_uni_config_read(&c, m->store, err);
    if (!r) r = mm_uni_new(&m->uni, &c, err);
    if (!r) r = sizes(m, &c, err);
    if (r) return r;
    for (int i = 0; i < MM_MODALITIES; i++) {
        mm_tower_config *t = &m->tower[i].cfg;
        if (!c.mod[i].width) continue;
        *t = (mm_tower_config){ .prefix = "", .layers = c.layers, .width = c.width, .ff_width = c.ff_width, .heads = c.heads, .kv_heads = c.heads,
                                .head_dim = c.width / c.heads, .eps = c.eps, .act = MMK_ACT_GELU_TANH, .pre_norm = 1, .pool = MM_POOL_MAP,
                                .pool_stated = 1, .proj = c.out, .normalize = 1, .channels = 3, .frames = i == MM_VIDEO ? c.mod[i].frames : 1 };
        t->height = t->width_in = c.mod[i].size;
        if (i == MM_TEXT) t->vocab = c.vocab, t->positions = t->window = c.window;
        m->via[i] = &m->tower[i];
        if (i != MM_TEXT) mm_uni_spec(&m->spec[i], (mm_modality)i, (int)c.mod[i].size, (int)c.mod[i].frames);
    }
    const char *scale;
    if ((r = mm_store_kv_str(m->store, "mm-uni.logit_scale", "", &scale, err))) return r;
    m->logits.scale = scale[0] ? strtof(scale, NULL) : 0;
    return 0;
}

/* Frames that an input has room for. */
static size_t room(const mm_model *m, mm_modality mod)
{
    const mm_input_spec *s = &m->spec[mod];
    return (size_t)(mod == MM_AUDIO ? s->width : s->frames);
}

/* Frames of an input: of a clip all; of a sound its spectrum [64, all] without what it was filled up with, at least one. */
static size_t frames_of(const mm_model *m, const mm_tower_job *j, mm_modality mod, size_t i)
{
    size_t all = room(m, mod), n = all;
    while (mod == MM_AUDIO && n > 1) {
        size_t b = 0;
        while (b < MEL && j->x[i][b * all + n - 1] == PADDING) b++;
        if (b < MEL) break;
        n--;
    }
    return n;
}

static mm_modality modality_of(const mm_model *m, const mm_tower_job *j) { return (mm_modality)(j->t - m->tower); }

static size_t tokens_of_record(const mm_model *m, const mm_record_job *j, size_t i)
{
    size_t n = 0;
    for (size_t p = j->first[i]; p < j->first[i + 1]; p++) {
        const mm_tower_job *of = &j->of[j->mod[p]];
        n += of->off ? of->off[j->at[p] + 1] - of->off[j->at[p]] : mm_uni_tokens_of(m, of, j->at[p]);
    }
    return n;
}

size_t mm_uni_tokens_of(const mm_model *m, const mm_tower_job *j, size_t i)
{
    if (j->records) return tokens_of_record(m, j->records, i);
    mm_modality mod = modality_of(m, j);
    size_t side = (size_t)m->spec[mod].height, frames = frames_of(m, j, mod, i);
    const mm_uni_in in = { .mod = mod, .n = 1, .frames = &frames, .height = side, .width = side };
    return mm_uni_in_tokens(&in, 0);
}

static int gather_text(mm_uni_in *in, const mm_tower_job *j, const uint32_t *order, mm_arena *arena)
{
    size_t *off = mm_arena_alloc(arena, in->n + 1, sizeof *off), total = 0;
    if (!off) return MM_ENOMEM;
    for (size_t i = 0; i < in->n; total += j->off[order[i] + 1] - j->off[order[i]], i++) off[i] = total;
    off[in->n] = total;
    int32_t *ids = mm_arena_alloc(arena, total, sizeof *ids);
    if (!ids) return MM_ENOMEM;
    for (size_t i = 0; i < in->n; i++) memcpy(ids + off[i], j->ids + j->off[order[i]], (off[i + 1] - off[i]) * sizeof *ids);
    in->ids = ids;
    in->off = off;
    return 0;
}

static int gather_media(const mm_model *m, mm_uni_in *in, const mm_tower_job *j, const uint32_t *order, mm_arena *arena)
{
    size_t all = room(m, in->mod);
    size_t *frames = mm_arena_alloc(arena, in->n, sizeof *frames);
    const float **x = mm_arena_alloc(arena, in->n, sizeof *x), **times = mm_arena_alloc(arena, in->n, sizeof *times);
    if (!frames || !x || !times) return MM_ENOMEM;
    for (size_t i = 0; i < in->n; i++) {
        x[i] = j->x[order[i]];
        times[i] = j->times[order[i]];
        frames[i] = frames_of(m, j, in->mod, order[i]);
        if (in->mod != MM_AUDIO) continue;
        float *to = mm_arena_alloc(arena, frames[i] * MEL, sizeof *to); /* [frames, 64] of [64, all] */
        if (!to) return MM_ENOMEM;
        for (size_t f = 0; f < frames[i]; f++)
            for (size_t b = 0; b < MEL; b++) to[f * MEL + b] = x[i][b * all + f];
        x[i] = to;
    }
    in->x = x;
    in->times = times;
    in->frames = frames;
    return 0;
}

int mm_uni_gather(const mm_model *m, mm_uni_in *in, const mm_tower_job *j, const uint32_t *order, size_t n, mm_arena *arena)
{
    mm_modality mod = modality_of(m, j);
    size_t side = (size_t)m->spec[mod].height;
    *in = (mm_uni_in){ .mod = mod, .n = n, .height = side, .width = side };
    return mod == MM_TEXT ? gather_text(in, j, order, arena) : gather_media(m, in, j, order, arena);
}

int mm_uni_part(const mm_model *m, const mm_part *what, mm_uni_in *in, mm_arena *arena, mm_err *err)
{
    mm_tower *t = m->via[what->mod];
    const uint32_t first = 0;
    int32_t *ids = NULL;
    size_t off[2] = { 0 };
    mm_text_out cut;
    if (!m->uni || !t) return mm_fail(err, MM_EUNSUP, "this model sees no %s", mm_modality_name(what->mod));
    mm_tower_job job = { .t = t, .x = &what->x, .times = &what->times, .n = 1 };
    int r = 0;
    if (what->mod == MM_TEXT) {
        r = mm_text_tokens(m, &what->text, 1, &ids, off, &cut, err);
        if (!r && cut.code) r = mm_fail(err, MM_EEMPTY, "the text has no tokens");
        if (!r && cut.used < cut.tokens)
            r = mm_fail(err, MM_ELONG, "a text of %u tokens is more than the model sees, %lld", cut.tokens, (long long)t->cfg.window);
        job = (mm_tower_job){ .t = t, .ids = ids, .off = off, .n = 1 };
    }
    if (!r && mm_uni_gather(m, in, &job, &first, 1, arena)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    free(ids);
    return r;
}

static mm_tensor fused(mm_graph *g, const mm_model *m, const mm_record_job *j, const uint32_t *order, size_t n)
{
    mm_uni_in in[MM_MODALITIES];
    mm_uni_records rec = { .n = n };
    mm_tensor log_gates = { 0 };
    mm_ragged parts = { 0 };
    for (int mod = 0; mod < MM_MODALITIES; mod++) {
        uint32_t *which = mm_arena_alloc(g->arena, n, sizeof *which);
        size_t *of = mm_arena_alloc(g->arena, n, sizeof *of), k = 0;
        for (size_t i = 0; which && of && i < n; i++)
            for (size_t p = j->first[order[i]]; p < j->first[order[i] + 1]; p++) {
                if ((int)j->mod[p] != mod) continue;
                which[k] = (uint32_t)j->at[p];
                of[k++] = i;
            }
        g->failed |= !which || !of || (k && mm_uni_gather(m, &in[mod], &j->of[mod], which, k, g->arena));
        if (g->failed) return log_gates;
        if (k) rec.in[mod] = &in[mod], rec.of[mod] = of;
    }
    mm_uni_measure(g, m->uni, &rec);
    if (g->failed) return log_gates;
    mm_tensor y = mm_uni_fuse(g, m->uni, &rec, &log_gates, &parts);
    for (size_t i = 0; !g->failed && i < n; i++)
        for (size_t p = parts.off[i]; p < parts.off[i + 1]; p++) j->gates[j->first[order[i]] + p - parts.off[i]] = expf(log_gates.p[p]);
    return y;
}

int mm_uni_forward(const mm_model *m, const mm_tower_job *j, const uint32_t *order, size_t n, float *vec, mm_arena *arena, int threads)
{
    mm_graph g = { .kern = m->kern, .arena = arena, .threads = threads };
    mm_uni_in in;
    mm_tensor y = { 0 };
    mm_arena_reset(arena);
    if (j->records) y = fused(&g, m, j->records, order, n);
    else if (mm_uni_gather(m, &in, j, order, n, arena)) return MM_ENOMEM;
    else y = mm_uni_embed(&g, m->uni, &in);
    if (g.failed) return MM_ENOMEM;
    for (size_t i = 0; i < n; i++) memcpy(vec + order[i] * y.cols, y.p + i * y.cols, y.cols * sizeof *vec);
    return 0;
}

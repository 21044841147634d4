/* ImageBind: config.json holds the arguments of its constructor (as PyTorchModelHubMixin writes them); everything else is fixed in
 * facebookresearch/ImageBind, imagebind/models/imagebind_model.py and imagebind/data.py. Towers for pictures (and clips of two
 * frames), text and sound; depth, thermal and motion are left aside. */
#include <stdio.h>
#include <string.h>
#include "model/model_int.h"

static int common(mm_tower_config *c, const json_t *j, const char *which, int64_t width, int64_t layers, int64_t heads, int64_t proj, mm_err *err)
{
    char key[3][48];
    static const char *const names[3] = { "embed_dim", "num_blocks", "num_heads" };
    int r;
    for (int i = 0; i < 3; i++) snprintf(key[i], sizeof key[i], "%s_%s", which, names[i]);
    if ((r = mm_json_get_int(j, key[0], 1, MM_MAX_WIDTH, width, &c->width, err)) ||
        (r = mm_json_get_int(j, key[1], 1, MM_MAX_LAYERS, layers, &c->layers, err)) ||
        (r = mm_json_get_int(j, key[2], 1, c->width, heads, &c->heads, err)))
        return r;
    c->ff_width = 4 * c->width;
    c->kv_heads = c->heads;
    c->head_dim = c->width / c->heads;
    c->act = MMK_ACT_GELU_ERF;
    c->eps = 1e-6f;
    c->pre_norm = c->post_norm = c->normalize = c->pool_stated = 1;
    c->pool = MM_POOL_CLS;
    c->frames = c->patch_t = 1;
    c->proj = proj;
    return 0;
}

static int text(mm_model *m, const json_t *j, int64_t proj, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    int r = common(c, j, "text", 1024, 24, 16, proj, err);
    if (r) return r;
    c->prefix = "t.";
    c->vocab = 49408;
    c->positions = c->window = 77;
    c->causal = 1;
    c->pool = MM_POOL_EOS;
    c->eos = -1;
    c->clean = 1;
    m->via[MM_TEXT] = &m->tower[MM_TEXT];
    return mm_tower_check(c, err);
}

static int picture(mm_model *m, const json_t *j, int64_t proj, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_IMAGE].cfg;
    int64_t kernel[3] = { 2, 14, 14 };
    size_t gh, gw;
    const json_t *k = json_object_get(j, "kernel_size");
    int r = common(c, j, "vision", 1280, 32, 16, proj, err);
    if (!r) r = mm_json_get_int(j, "video_frames", 1, 64, 2, &c->frames, err);
    if (r) return r;
    for (size_t i = 0; k && i < 3; i++) {
        kernel[i] = (int64_t)json_integer_value(json_array_get(k, i));
        if (kernel[i] < 1 || kernel[i] > 224) return mm_fail(err, MM_EDATA, "'kernel_size' should be three numbers of 1 to 224");
    }
    c->prefix = "v.";
    c->channels = 3;
    c->height = c->width_in = 224;
    c->patch_t = kernel[0];
    c->patch_h = c->step_h = kernel[1];
    c->patch_w = c->step_w = kernel[2];
    if (c->frames != c->patch_t) return mm_fail(err, MM_EUNSUP, "clips of another length than the patches' are not supported");
    c->class_token = c->embd_norm = 1;
    c->positions = (int64_t)mm_tower_grid(c, &gh, &gw) + 1;
    m->via[MM_IMAGE] = m->via[MM_VIDEO] = &m->tower[MM_IMAGE];
    m->spec[MM_IMAGE] = (mm_input_spec){ .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = 224, .width = 224, .crops = 1 };
    if ((r = mm_config_picture(m, err))) return r;
    m->spec[MM_IMAGE].image.round_crop = 1;
    /* five clips of two seconds, three squares of each */
    mm_input_spec *v = &m->spec[MM_VIDEO];
    *v = m->spec[MM_IMAGE];
    v->source = MM_MEDIA_VIDEO;
    v->frames = (int)c->frames;
    v->crops = 3;
    v->views = 15;
    v->by_pytorch = 1;
    v->video = (mm_video_spec){ .how = MM_FRAMES_CLIPS, .frames = 5 * v->frames, .clips = 5, .clip_seconds = 2 };
    return mm_tower_check(c, err);
}

static int sound(mm_model *m, const json_t *j, int64_t proj, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_AUDIO].cfg;
    size_t gh, gw;
    int r = common(c, j, "audio", 768, 12, 12, proj, err);
    if (!r) r = mm_json_get_int(j, "audio_kernel_size", 1, 128, 16, &c->patch_h, err);
    if (!r) r = mm_json_get_int(j, "audio_stride", 1, 128, 10, &c->step_h, err);
    if (!r) r = mm_json_get_int(j, "audio_num_mel_bins", 16, 1024, 128, &c->height, err);
    if (!r) r = mm_json_get_int(j, "audio_target_len", 16, 1 << 16, 204, &c->width_in, err);
    if (r) return r;
    c->prefix = "a.";
    c->channels = 1;
    c->patch_w = c->patch_h;
    c->step_w = c->step_h;
    if (c->patch_h > c->height || c->patch_w > c->width_in) return mm_fail(err, MM_EDATA, "'audio_kernel_size' is larger than the spectrum");
    c->class_token = c->patch_norm = c->bias_kv = 1;
    c->stem_eps = 1e-5f;
    c->positions = (int64_t)mm_tower_grid(c, &gh, &gw) + 1;
    m->via[MM_AUDIO] = &m->tower[MM_AUDIO];
    mm_input_spec *sp = &m->spec[MM_AUDIO];
    *sp = (mm_input_spec){ .source = MM_MEDIA_AUDIO, .views = 3, .frames = 1, .channels = 1, .height = (int)c->height, .width = (int)c->width_in,
                           .sound = MM_SOUND_CLIPS, .clip_seconds = 2 };
    sp->mel = (mm_mel_spec){ .kind = MM_MEL_KALDI, .rate = 16000, .bins = sp->height, .n_fft = 400, .hop = 160, .n_frames = sp->width,
                             .center_wave = 1, .mean = -4.268f, .std = 9.138f };
    return mm_tower_check(c, err);
}

int mm_config_imagebind(mm_model *m, mm_err *err)
{
    const json_t *j = mm_store_config(m->store);
    int64_t proj;
    int r = mm_json_get_int(j, "out_embed_dim", 1, MM_MAX_WIDTH, 1024, &proj, err);
    if (!r) r = text(m, j, proj, err);
    if (!r) r = picture(m, j, proj, err);
    if (!r) r = sound(m, j, proj, err);
    return r ? mm_err_prefix(err, "config.json: "), r : 0;
}

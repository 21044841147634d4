/* Two towers as the transformers library writes them: clip, siglip (1, and 2 at fixed resolution) and LanguageBind's variants of clip, whose
 * second tower takes pictures, frames of a video or a spectrum of sound. Defaults are those of the library's configuration classes. */
#include <stdio.h>
#include <string.h>
#include "model/model_int.h"

static int common(mm_tower_config *c, const json_t *j, int siglip, int vision, mm_err *err)
{
    const char *act;
    double eps;
    int64_t width = vision || siglip ? 768 : 512, heads = vision || siglip ? 12 : 8;
    int r;
    if ((r = mm_json_get_int(j, "num_hidden_layers", 1, MM_MAX_LAYERS, 12, &c->layers, err)) ||
        (r = mm_json_get_int(j, "hidden_size", 1, MM_MAX_WIDTH, width, &c->width, err)) ||
        (r = mm_json_get_int(j, "intermediate_size", 1, 4 * MM_MAX_WIDTH, vision || siglip ? 3072 : 2048, &c->ff_width, err)) ||
        (r = mm_json_get_int(j, "num_attention_heads", 1, c->width, heads, &c->heads, err)) ||
        (r = mm_json_get_str(j, "hidden_act", siglip ? "gelu_pytorch_tanh" : "quick_gelu", &act, err)) ||
        (r = mm_act_by_name(act, &c->act, err)) || (r = mm_config_num(j, "layer_norm_eps", 0, 1, siglip ? 1e-6 : 1e-5, &eps, err)))
        return r;
    c->eps = (float)eps;
    c->kv_heads = c->heads;
    c->head_dim = c->width / c->heads;
    c->pre_norm = c->post_norm = c->normalize = c->pool_stated = 1;
    c->frames = c->patch_t = 1;
    return 0;
}

static int text(mm_model *m, const json_t *j, int siglip, int64_t proj, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    int64_t eos;
    int r = common(c, j, siglip, 0, err);
    if (!r) r = mm_json_get_int(j, "vocab_size", 1, INT32_MAX, siglip ? 32000 : 49408, &c->vocab, err);
    if (!r) r = mm_json_get_int(j, "max_position_embeddings", 3, 1 << 20, siglip ? 64 : 77, &c->positions, err);
    if (!r) r = mm_json_get_int(j, "eos_token_id", 0, INT32_MAX, siglip ? 0 : 49407, &eos, err);
    if (!r && siglip) r = mm_json_get_int(j, "projection_size", 1, MM_MAX_WIDTH, c->width, &proj, err);
    if (r) return r;
    c->prefix = "t.";
    c->window = c->positions;
    c->proj = proj;
    c->causal = !siglip;
    c->clean = !siglip;
    c->pool = siglip ? MM_POOL_LAST : MM_POOL_EOS;
    /* checkpoints written before the library knew the token's id say 2: they pool at the highest id, which is it */
    c->eos = eos == 2 ? -1 : (int32_t)eos;
    if (siglip) c->pad_to = c->window;
    m->via[MM_TEXT] = &m->tower[MM_TEXT];
    return mm_tower_check(c, err);
}

/* LanguageBind's tower for sound: a spectrum of num_mel_bins x target_length, three looks at it as the channels. */
static int sound(mm_model *m, const json_t *j, mm_tower_config *c, mm_err *err)
{
    mm_input_spec *sp = &m->spec[MM_AUDIO];
    int64_t rate;
    double mean, std;
    int r = mm_json_get_int(j, "num_mel_bins", 1, 4096, 112, &c->height, err);
    if (!r) r = mm_json_get_int(j, "target_length", 1, 1 << 20, 1036, &c->width_in, err);
    if (!r) r = mm_json_get_int(j, "audio_sample_rate", 1000, 1000000, 16000, &rate, err);
    if (!r) r = mm_config_num(j, "audio_mean", -1e6, 1e6, -4.2677393, &mean, err);
    if (!r) r = mm_config_num(j, "audio_std", 1e-6, 1e6, 4.5689974, &std, err);
    if (r) return r;
    if (c->channels != 3) return mm_fail(err, MM_EUNSUP, "a tower for sound with %lld channels is not supported", (long long)c->channels);
    *sp = (mm_input_spec){ .source = MM_MEDIA_AUDIO, .views = 1, .frames = 1, .channels = 3, .height = (int)c->height, .width = (int)c->width_in,
                           .sound = MM_SOUND_THIRDS };
    sp->mel = (mm_mel_spec){ .kind = MM_MEL_KALDI, .rate = (int)rate, .bins = sp->height, .n_fft = (int)(rate / 40), .hop = (int)(rate / 100),
                             .n_frames = sp->width, .center_wave = 1, .mean = (float)mean, .std = 2 * (float)std };
    return 0;
}

static int picture(mm_model *m, mm_modality mod, const json_t *j, int siglip, int64_t proj, mm_err *err)
{
    mm_tower_config *c = &m->tower[mod].cfg;
    int64_t patch, frames, lora;
    double alpha;
    int r = common(c, j, siglip, 1, err);
    if (!r) r = mm_json_get_int(j, "num_channels", 1, 64, 3, &c->channels, err);
    if (!r) r = mm_json_get_int(j, "image_size", 1, 1 << 14, 224, &c->height, err);
    if (!r) r = mm_json_get_int(j, "patch_size", 1, 1 << 12, siglip ? 16 : 32, &patch, err);
    if (!r) r = mm_json_get_int(j, "num_frames", 1, 256, 1, &frames, err);
    if (!r) r = mm_json_get_bool(j, "add_time_attn", 0, &c->time_attention, err);
    if (!r) r = mm_json_get_int(j, "lora_r", 0, 1 << 16, 0, &lora, err);
    if (!r) r = mm_config_num(j, "lora_alpha", 0, 1e6, 16, &alpha, err);
    if (r) return r;
    if (lora) c->lora = (float)(alpha / (double)lora);
    c->prefix = mod == MM_IMAGE ? "v." : mod == MM_AUDIO ? "a." : "m.";
    c->width_in = c->height;
    c->patch_h = c->patch_w = c->step_h = c->step_w = patch;
    if (mod == MM_AUDIO && (r = sound(m, j, c, err))) return r;
    if (mod == MM_VIDEO) c->frames = frames;
    if (c->frames > 1 && !c->time_attention) return mm_fail(err, MM_EUNSUP, "frames that do not attend to each other (add_time_attn false) are not supported");
    size_t gh, gw;
    if (patch > c->height || patch > c->width_in) return mm_fail(err, MM_EDATA, "patch_size %lld is larger than the picture", (long long)patch);
    c->class_token = c->embd_norm = !siglip;
    c->patch_bias = siglip;
    c->pool = siglip ? MM_POOL_MAP : MM_POOL_CLS;
    c->proj = siglip ? 0 : proj;
    c->positions = (int64_t)mm_tower_grid(c, &gh, &gw) + c->class_token;
    m->via[mod] = &m->tower[mod];
    if (siglip) {
        int head;
        if ((r = mm_json_get_bool(j, "vision_use_head", 1, &head, err))) return r;
        if (!head) return mm_fail(err, MM_EUNSUP, "a picture tower without its pooling head (vision_use_head false) is not supported");
    }
    return mm_tower_check(c, err);
}

/* LanguageBind's video: frames from the first to the last, scaled by pytorchvideo, the middle cut out. */
static void video_spec(mm_model *m)
{
    const mm_tower_config *c = &m->tower[MM_VIDEO].cfg;
    mm_input_spec *sp = &m->spec[MM_VIDEO];
    *sp = m->spec[MM_IMAGE];
    sp->source = MM_MEDIA_VIDEO;
    sp->frames = (int)c->frames;
    sp->views = sp->crops = 1;
    sp->by_pytorch = 1;
    sp->image.round_crop = 1;
    sp->video = (mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = sp->frames, .clips = 1 };
}

int mm_config_clip(mm_model *m, mm_err *err)
{
    const json_t *j = mm_store_config(m->store), *tj, *vj;
    int64_t proj;
    int siglip = !strcmp(m->family, "siglip"), r = mm_json_get_int(j, "projection_dim", 1, MM_MAX_WIDTH, 512, &proj, err);
    if (r) return r;
    mm_modality mod = !strcmp(m->family, "languagebind_audio") ? MM_AUDIO : !strcmp(m->family, "languagebind_video") ? MM_VIDEO : MM_IMAGE;
    if (!(tj = json_object_get(j, "text_config")) || !(vj = json_object_get(j, "vision_config")))
        return mm_fail(err, MM_EDATA, "config.json: text_config or vision_config is missing");
    if ((r = text(m, tj, siglip, proj, err))) return mm_err_prefix(err, "config.json: text_config: "), r;
    if ((r = picture(m, mod, vj, siglip, proj, err))) return mm_err_prefix(err, "config.json: vision_config: "), r;
    m->logits = (mm_logits){ .sigmoid = siglip };
    if (mod == MM_AUDIO) return 0;
    const mm_tower_config *c = &m->tower[mod].cfg;
    m->spec[MM_IMAGE] = (mm_input_spec){ .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = (int)c->height,
                                         .width = (int)c->height, .crops = 1 };
    if (c->channels != 3) return mm_fail(err, MM_EUNSUP, "pictures of %lld channels are not supported", (long long)c->channels);
    if ((r = mm_config_picture(m, err))) return r;
    if (mod == MM_VIDEO) video_spec(m);
    else mm_config_video_by_frames(m);
    return 0;
}

/* open_clip's own layout: open_clip_config.json beside open_clip_model.safetensors. Defaults are those of its CLIPVisionCfg and CLIPTextCfg. */
#include <string.h>
#include "model/model_int.h"

/* Fields that change the network and that this version does not have: anything but the value they have in plain CLIP is refused. */
static int plain(const json_t *j, mm_err *err)
{
    static const char *const keys[] = { "timm_model_name", "hf_model_name", "attentional_pool", "attn_pooler_heads", "no_ln_pre", "ls_init_value",
                                        "input_patchnorm", "global_average_pool", "embed_cls", "no_causal_mask", "proj_bias", "final_ln_after_pool",
                                        "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn", "pos_embed_type" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *v = json_object_get(j, keys[i]);
        const char *s = json_is_string(v) ? json_string_value(v) : "";
        if (v && !json_is_null(v) && !json_is_false(v) && strcmp(s, "learnable") && strcmp(keys[i], "attn_pooler_heads"))
            return mm_fail(err, MM_EUNSUP, "'%s' is not supported", keys[i]);
    }
    return 0;
}

static int common(mm_tower_config *c, const json_t *j, int64_t width, int quick, mm_err *err)
{
    double ratio;
    int r = plain(j, err);
    if (!r) r = mm_json_get_int(j, "layers", 1, MM_MAX_LAYERS, 12, &c->layers, err);
    if (!r) r = mm_json_get_int(j, "width", 1, MM_MAX_WIDTH, width, &c->width, err);
    if (!r) r = mm_config_num(j, "mlp_ratio", 0.01, 16, 4, &ratio, err);
    if (r) return r;
    c->ff_width = (int64_t)((double)c->width * ratio);
    c->act = quick ? MMK_ACT_QUICK_GELU : MMK_ACT_GELU_ERF;
    c->eps = 1e-5f;
    c->pre_norm = c->post_norm = c->normalize = c->pool_stated = 1;
    c->frames = c->patch_t = 1;
    return 0;
}

static int text(mm_model *m, const json_t *j, int64_t proj, int quick, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    int r = common(c, j, 512, quick, err);
    const char *pool;
    if (!r) r = mm_json_get_int(j, "heads", 1, c->width, 8, &c->heads, err);
    if (!r) r = mm_json_get_int(j, "vocab_size", 1, INT32_MAX, 49408, &c->vocab, err);
    if (!r) r = mm_json_get_int(j, "context_length", 3, 1 << 20, 77, &c->positions, err);
    if (!r) r = mm_json_get_str(j, "pool_type", "argmax", &pool, err);
    if (r) return r;
    if (strcmp(pool, "argmax")) return mm_fail(err, MM_EUNSUP, "pool_type '%s' is not supported", pool);
    c->prefix = "t.";
    c->kv_heads = c->heads;
    c->head_dim = c->width / c->heads;
    c->window = c->positions;
    c->causal = 1;
    c->pool = MM_POOL_EOS;
    c->eos = -1;
    c->clean = 1;
    c->proj = proj;
    m->via[MM_TEXT] = &m->tower[MM_TEXT];
    return mm_tower_check(c, err);
}

static int picture(mm_model *m, const json_t *j, int64_t proj, int quick, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_IMAGE].cfg;
    int64_t head, patch;
    const char *pool;
    size_t gh, gw;
    int r = common(c, j, 768, quick, err);
    if (!r && json_is_array(json_object_get(j, "layers"))) r = mm_fail(err, MM_EUNSUP, "a residual network (layers as a list) is not supported");
    if (!r) r = mm_json_get_int(j, "head_width", 1, c->width, 64, &head, err);
    if (!r) r = mm_json_get_int(j, "image_size", 1, 1 << 14, 224, &c->height, err);
    if (!r) r = mm_json_get_int(j, "patch_size", 1, c->height, 16, &patch, err);
    if (!r) r = mm_json_get_str(j, "pool_type", "tok", &pool, err);
    if (r) return r;
    if (strcmp(pool, "tok")) return mm_fail(err, MM_EUNSUP, "pool_type '%s' is not supported", pool);
    c->prefix = "v.";
    c->heads = c->kv_heads = c->width / head > 0 ? c->width / head : 1;
    c->head_dim = c->width / c->heads;
    c->channels = 3;
    c->width_in = c->height;
    c->patch_h = c->patch_w = c->step_h = c->step_w = patch;
    c->class_token = c->embd_norm = 1;
    c->pool = MM_POOL_CLS;
    c->proj = proj;
    c->positions = (int64_t)mm_tower_grid(c, &gh, &gw) + 1;
    m->via[MM_IMAGE] = &m->tower[MM_IMAGE];
    return mm_tower_check(c, err);
}

static int preprocess(mm_image_spec *s, const json_t *j, mm_err *err)
{
    const char *mode, *filter;
    int r = mm_json_get_str(j, "interpolation", "bicubic", &filter, err);
    if (!r) r = mm_json_get_str(j, "resize_mode", "shortest", &mode, err);
    if (r) return r;
    if (!strcmp(filter, "bicubic")) s->filter = MM_RESIZE_BICUBIC;
    else if (!strcmp(filter, "bilinear")) s->filter = MM_RESIZE_BILINEAR;
    else return mm_fail(err, MM_EUNSUP, "interpolation '%s' is not supported", filter);
    if (!strcmp(mode, "shortest")) s->fit = MM_FIT_CROP;
    else if (!strcmp(mode, "squash")) s->fit = MM_FIT_STRETCH;
    else if (!strcmp(mode, "longest")) s->fit = MM_FIT_PAD;
    else return mm_fail(err, MM_EUNSUP, "resize_mode '%s' is not supported", mode);
    for (size_t i = 0; i < 3; i++) {
        const json_t *mean = json_array_get(json_object_get(j, "mean"), i), *std = json_array_get(json_object_get(j, "std"), i);
        if (mean && json_is_number(mean)) s->mean[i] = (float)json_number_value(mean);
        if (std && json_number_value(std) > 0) s->std[i] = (float)json_number_value(std);
    }
    return 0;
}

int mm_config_open_clip(mm_model *m, mm_err *err)
{
    json_t *j;
    int64_t proj;
    int quick, r = mm_config_file(m->store, "open_clip_config.json", &j, err);
    if (r) return r;
    const json_t *mj = json_object_get(j, "model_cfg"), *pj = json_object_get(j, "preprocess_cfg");
    if (!mj) r = mm_fail(err, MM_EDATA, "model_cfg is missing");
    if (!r) r = plain(mj, err);
    if (!r) r = mm_json_get_int(mj, "embed_dim", 1, MM_MAX_WIDTH, 512, &proj, err);
    if (!r) r = mm_json_get_bool(mj, "quick_gelu", 0, &quick, err);
    if (!r) r = text(m, json_object_get(mj, "text_cfg"), proj, quick, err);
    if (!r) r = picture(m, json_object_get(mj, "vision_cfg"), proj, quick, err);
    if (!r) {
        const mm_tower_config *c = &m->tower[MM_IMAGE].cfg;
        m->spec[MM_IMAGE] = (mm_input_spec){ .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = (int)c->height,
                                             .width = (int)c->height, .crops = 1 };
        r = mm_config_picture(m, err); /* the published values; open_clip writes no such file */
    }
    m->spec[MM_IMAGE].image.round_crop = 1; /* torchvision's CenterCrop */
    if (!r && pj) r = preprocess(&m->spec[MM_IMAGE].image, pj, err);
    if (!r) mm_config_video_by_frames(m);
    json_decref(j);
    return r ? mm_err_prefix(err, "open_clip_config.json: "), r : 0;
}

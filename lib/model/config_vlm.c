/* Decoders that look at pictures, as the transformers library writes them: Idefics3 and SmolVLM. Defaults are those of its configuration and
 * preprocessor classes. */
#include <string.h>
#include "model/model_int.h"

/* Numbers of patches to a side where the reference, which computes a patch's place as a fraction in float32, finds every patch in a place of its
 * own (14, 16, 24, 26, 27, 32 of the published models are); elsewhere its rounding puts some of them into their neighbours' places. */
static int plain_grid(int64_t side)
{
    static const uint8_t uneven[] = { 19, 25, 29, 31, 38, 40, 41, 43, 47, 49, 50, 54, 55, 58, 59, 61, 62 };
    return side <= 64 && !memchr(uneven, (int)side, sizeof uneven);
}

static int picture(mm_model *m, const json_t *j, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_IMAGE].cfg;
    const char *act;
    double eps;
    int64_t patch;
    int r;
    if ((r = mm_json_get_int(j, "num_hidden_layers", 1, MM_MAX_LAYERS, 12, &c->layers, err)) ||
        (r = mm_json_get_int(j, "hidden_size", 1, MM_MAX_WIDTH, 1152, &c->width, err)) ||
        (r = mm_json_get_int(j, "intermediate_size", 1, 4 * MM_MAX_WIDTH, 3072, &c->ff_width, err)) ||
        (r = mm_json_get_int(j, "num_attention_heads", 1, c->width, 16, &c->heads, err)) ||
        (r = mm_json_get_int(j, "num_channels", 3, 3, 3, &c->channels, err)) ||
        (r = mm_json_get_int(j, "image_size", 1, 1 << 14, 224, &c->height, err)) ||
        (r = mm_json_get_int(j, "patch_size", 1, c->height, 32, &patch, err)) ||
        (r = mm_json_get_str(j, "hidden_act", "gelu_pytorch_tanh", &act, err)) || (r = mm_act_by_name(act, &c->act, err)) ||
        (r = mm_config_num(j, "layer_norm_eps", 0, 1, 1e-6, &eps, err)))
        return r;
    c->prefix = "v.";
    c->eps = (float)eps;
    c->kv_heads = c->heads;
    c->head_dim = c->width / c->heads;
    c->pre_norm = c->post_norm = c->patch_bias = c->pool_stated = 1;
    c->frames = c->patch_t = 1;
    c->width_in = c->height;
    c->patch_h = c->patch_w = c->step_h = c->step_w = patch;
    const int64_t side = c->height / patch;
    c->positions = side * side;
    if (!plain_grid(side)) return mm_fail(err, MM_EUNSUP, "pictures of %lld x %lld patches are not supported", (long long)side, (long long)side);
    m->via[MM_IMAGE] = &m->tower[MM_IMAGE];
    return mm_tower_check(c, err);
}

/* {"longest_edge": 512} */
static int longest(const json_t *j, const char *key, int64_t dflt, int64_t *out, mm_err *err)
{
    const json_t *s = json_object_get(j, key);
    *out = dflt;
    if (!s || json_is_null(s)) return 0;
    int r = mm_json_get_int(s, "longest_edge", 1, 1 << 14, 0, out, err);
    return r || *out ? r : mm_fail(err, MM_EUNSUP, "'%s' has no longest_edge", key);
}

/* preprocessor_config.json; newer versions of the library keep it inside processor_config.json. */
static int prepare(mm_model *m, const json_t *j, mm_err *err)
{
    mm_input_spec *sp = &m->spec[MM_IMAGE];
    const int side = (int)m->tower[MM_IMAGE].cfg.height;
    int64_t size, square;
    int resize, r;
    *sp = (mm_input_spec){ .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = side, .width = side, .crops = 1 };
    sp->image = (mm_image_spec){ .fit = MM_FIT_STRETCH, .resize = side, .height = side, .width = side, .filter = MM_RESIZE_LANCZOS,
                                 .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.5f, 0.5f, 0.5f } };
    if ((r = mm_config_samples(j, &sp->image, err)) || (r = longest(j, "size", 4 * 364, &size, err)) ||
        (r = longest(j, "max_image_size", 364, &square, err)) || (r = mm_json_get_bool(j, "do_resize", 1, &resize, err)) ||
        (r = mm_json_get_bool(j, "do_image_splitting", 1, &sp->tiles.split, err)))
        return r;
    if (!resize) return mm_fail(err, MM_EUNSUP, "pictures that are not resized are not supported");
    if (square != side) return mm_fail(err, MM_EUNSUP, "'max_image_size' is %lld, the model takes %d", (long long)square, side);
    sp->tiles.longest = (int)size;
    const int most = size > 4096 ? 4096 : (int)size + (int)(size & 1), each = (most + side - 1) / side;
    if (sp->tiles.split) sp->views = each * each + 1;
    return 0;
}

/* Frames of clips: as pictures that are not cut, spread from the first to the last one (SmolVLM's video processor, whose defaults for what
 * video_sampling does not say are those of the published models). */
static int clips(mm_model *m, const json_t *j, mm_err *err)
{
    const json_t *v = json_object_get(j, "video_sampling");
    mm_input_spec *sp = &m->spec[MM_VIDEO];
    int64_t most, size;
    *sp = m->spec[MM_IMAGE];
    int r = mm_json_get_int(v, "max_frames", 1, 1 << 20, MM_INPUT_TIMES, &most, err);
    if (!r) r = mm_config_num(v, "fps", 1e-6, 1e6, 1, &m->fps, err);
    if (!r) r = longest(v, "video_size", sp->height, &size, err);
    if (r) return mm_err_prefix(err, "video_sampling: "), r;
    sp->source = MM_MEDIA_VIDEO;
    sp->views = most > MM_INPUT_TIMES ? MM_INPUT_TIMES : (int)most;
    sp->tiles.split = 0;
    sp->tiles.longest = (int)size;
    sp->video = (mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = sp->views, .clips = 1 };
    return 0;
}

static int read_preparation(mm_model *m, mm_err *err)
{
    const char *name = "preprocessor_config.json";
    json_t *j, *whole = NULL;
    int r = mm_config_file(m->store, name, &j, err);
    if (!r && !j) {
        r = mm_config_file(m->store, name = "processor_config.json", &whole, err);
        j = json_object_get(whole, "image_processor");
        json_incref(j);
    }
    if (!r && ((r = prepare(m, j, err)) || (r = clips(m, j, err)))) mm_err_prefix(err, "%s: ", name);
    json_decref(j);
    json_decref(whole);
    return r;
}

int mm_config_vlm(mm_model *m, mm_err *err)
{
    const json_t *j = mm_store_config(m->store), *tj = json_object_get(j, "text_config"), *vj = json_object_get(j, "vision_config");
    mm_tower_config *t = &m->tower[MM_TEXT].cfg, *v = &m->tower[MM_IMAGE].cfg;
    const char *type;
    int64_t mark;
    int r;
    if (!json_is_object(tj) || !json_is_object(vj)) return mm_fail(err, MM_EDATA, "config.json: text_config or vision_config is missing");
    if ((r = mm_json_get_str(tj, "model_type", "llama", &type, err)) || (r = mm_config_decoder(m, type, tj, err)))
        return mm_err_prefix(err, "config.json: text_config: "), r;
    if ((r = picture(m, vj, err))) return mm_err_prefix(err, "config.json: vision_config: "), r;
    if ((r = mm_json_get_bool(j, "tie_word_embeddings", 0, &t->tied, err)) || (r = mm_json_get_int(j, "scale_factor", 1, 64, 2, &v->shuffle, err)) ||
        (r = mm_json_get_int(j, "image_token_id", 0, t->vocab - 1, 128257, &mark, err)))
        return mm_err_prefix(err, "config.json: "), r;
    m->mark = (int32_t)mark;
    v->proj = t->width;
    if (v->height / v->patch_h % v->shuffle)
        return mm_fail(err, MM_EDATA, "config.json: scale_factor %lld does not divide %lld patches", (long long)v->shuffle,
                       (long long)(v->height / v->patch_h));
    return read_preparation(m, err);
}

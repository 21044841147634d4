/* From a checkpoint's own files to the shapes of its towers: which family it is, and what all families share. Keys of config.json are
 * those of the transformers library. A value this block cannot do is an error, never a near miss. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"
#include "model/uni_int.h"

int mm_act_by_name(const char *s, mmk_act *act, mm_err *err)
{
    static const struct {
        const char *name;
        mmk_act act;
    } acts[] = {
        { "gelu", MMK_ACT_GELU_ERF },       { "gelu_python", MMK_ACT_GELU_ERF },
        { "gelu_new", MMK_ACT_GELU_TANH },  { "gelu_pytorch_tanh", MMK_ACT_GELU_TANH },
        { "gelu_fast", MMK_ACT_GELU_TANH }, { "quick_gelu", MMK_ACT_QUICK_GELU },
        { "relu", MMK_ACT_RELU },           { "silu", MMK_ACT_SILU },
        { "swish", MMK_ACT_SILU },
    };
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(acts[i].name, s)) return *act = acts[i].act, 0;
    return mm_fail(err, MM_EUNSUP, "activation '%s' is not supported", s);
}

int mm_config_file(const mm_store *st, const char *name, json_t **out, mm_err *err)
{
    const char *p;
    size_t len;
    *out = NULL;
    int r = mm_store_file(st, name, &p, &len, err);
    if (r) return r < 0 ? r : 0;
    *out = mm_json_load(p, len, name, err);
    return *out ? 0 : MM_EDATA;
}

int mm_config_num(const json_t *j, const char *key, double min, double max, double dflt, double *out, mm_err *err)
{
    int r = mm_json_get_num(j, key, dflt, out, err);
    if (!r && !(*out >= min && *out <= max)) r = mm_fail(err, MM_EDATA, "'%s' is %g, not within %g..%g", key, *out, min, max);
    return r;
}

int mm_tower_check(const mm_tower_config *c, mm_err *err)
{
    size_t gh = 0, gw = 0;
    if (c->head_dim * c->heads != c->width && !c->heads_apart)
        return mm_fail(err, MM_EDATA, "width %lld is not a multiple of the %lld attention heads", (long long)c->width, (long long)c->heads);
    if (c->vocab && (c->window > c->positions - c->pos_offset || c->window < 3))
        return mm_fail(err, MM_EDATA, "a window of %lld tokens does not fit a position table of %lld rows", (long long)c->window,
                       (long long)c->positions);
    if (!c->vocab && (c->patch_h > c->height || c->patch_w > c->width_in || c->frames % c->patch_t ||
                      (int64_t)mm_tower_grid(c, &gh, &gw) + c->class_token != c->positions))
        return mm_fail(err, MM_EDATA, "an input of %lld x %lld in patches of %lld x %lld does not fit a position table of %lld rows",
                       (long long)c->height, (long long)c->width_in, (long long)c->patch_h, (long long)c->patch_w, (long long)c->positions);
    return 0;
}

const char *mm_modality_name(mm_modality mod)
{
    static const char *const names[] = { "text", "image", "audio", "video" };
    return mod < MM_MODALITIES ? names[mod] : "?";
}

void mm_config_video_by_frames(mm_model *m)
{
    m->via[MM_VIDEO] = m->via[MM_IMAGE];
    m->spec[MM_VIDEO] = m->spec[MM_IMAGE];
    m->spec[MM_VIDEO].source = MM_MEDIA_VIDEO;
    m->spec[MM_VIDEO].views = m->opts.frames ? m->opts.frames : 8;
    m->spec[MM_VIDEO].crops = 1;
    m->spec[MM_VIDEO].video = (mm_video_spec){ .how = MM_FRAMES_SPREAD, .frames = m->spec[MM_VIDEO].views, .clips = 1 };
}

/* Families by config.json's model_type. */
static const struct {
    const char *type, *family;
    int (*read)(mm_model *m, mm_err *err);
    int decoder;
} readers[] = { { "llama", "llama", mm_config_llama, 1 },
                { "mistral", "mistral", mm_config_llama, 1 },
                { "qwen2", "qwen2", mm_config_llama, 1 },
                { "qwen3", "qwen3", mm_config_llama, 1 },
                { "gemma3", "gemma3", mm_config_llama, 1 }, /* GGUF's name */
                { "gemma3_text", "gemma3", mm_config_llama, 1 },
                { "idefics3", "idefics3", mm_config_vlm, 1 },
                { "smolvlm", "smolvlm", mm_config_vlm, 1 },
                { "bert", "bert", mm_config_bert, 0 },
                { "clip", "clip", mm_config_clip, 0 },
                { "siglip", "siglip", mm_config_clip, 0 },
                { "LanguageBindImage", "languagebind_image", mm_config_clip, 0 },
                { "LanguageBindVideo", "languagebind_video", mm_config_clip, 0 },
                { "LanguageBindAudio", "languagebind_audio", mm_config_clip, 0 },
                { "imagebind", "imagebind", mm_config_imagebind, 0 } };

#define KNOWN "this version knows: bert, clip, open_clip, siglip, imagebind, languagebind; decoders: llama, mistral, qwen2, qwen3, gemma3, idefics3, smolvlm"

static int read_by(mm_model *m, const char *type, mm_err *err)
{
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (strcmp(readers[i].type, type)) continue;
        if (readers[i].decoder != m->decoder)
            return mm_fail(err, MM_EUNSUP, m->decoder ? "a model of family %s gives vectors, it continues no text"
                                                      : "a model of family %s continues texts, it gives no vectors", readers[i].family);
        snprintf(m->family, sizeof m->family, "%s", readers[i].family);
        return readers[i].read(m, err);
    }
    return mm_fail(err, MM_EUNSUP, "model_type '%s' is not supported (" KNOWN ")", type);
}

/* A GGUF of a public family: bert has the keys that llama.cpp knows; the others carry the files of the folder they were made from. */
static int read_any(mm_model *m, mm_err *err)
{
    const mm_store *st = m->store;
    const char *type = "", *p;
    size_t len;
    int r;
    if (mm_store_is_gguf(st)) {
        if ((r = mm_store_kv_str(st, "general.architecture", "", &type, err))) return r;
        for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
            if (!strcmp(type, readers[i].type) && (readers[i].decoder || !strcmp(type, "bert"))) return read_by(m, type, err);
        if (!strcmp(type, "mm-uni")) {
            snprintf(m->family, sizeof m->family, "uni");
            if ((r = mm_config_uni(m, err))) return r;
            if (m->decoder && !mm_uni_get_config(m->uni)->next)
                return mm_fail(err, MM_EUNSUP, "this unified model has no next-token head (next.*): it gives vectors, and writes no texts");
            return 0;
        }
        if (!mm_store_config(st) && strcmp(type, "open_clip"))
            return mm_fail(err, MM_EUNSUP, "architecture '%s' is not supported (" KNOWN ")", type);
    }
    r = mm_store_file(st, "open_clip_config.json", &p, &len, err);
    if (r < 0) return r;
    const json_t *j = mm_store_config(st);
    if (r == 0 && !m->decoder && (!j || !json_object_get(j, "model_type"))) {
        snprintf(m->family, sizeof m->family, "open_clip");
        return mm_config_open_clip(m, err);
    }
    if ((r = mm_store_no_checkpoint(st, err))) return r;
    if (!j) return mm_fail(err, MM_EDATA, "no config.json");
    /* ImageBind is published without a model_type */
    const char *dflt = json_object_get(j, "vision_embed_dim") && json_object_get(j, "out_embed_dim") ? "imagebind" : "";
    if ((r = mm_json_get_str(j, "model_type", dflt, &type, err))) return r;
    return type[0] ? read_by(m, type, err) : mm_fail(err, MM_EDATA, "config.json names no model_type");
}

int mm_config_read(mm_model *m, mm_err *err)
{
    int r = read_any(m, err);
    if (r) return r;
    for (int i = 0; i < MM_MODALITIES; i++)
        if (m->opts.normalize >= 0) m->tower[i].cfg.normalize = m->opts.normalize;
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    if (!c->layers) return 0;
    if (m->opts.pool >= 0) {
        if (c->proj) return mm_fail(err, MM_EARG, "the pooling of a model with a projection cannot be chosen");
        c->pool = (mm_pool)m->opts.pool, c->pool_stated = 1;
    }
    if (m->opts.window) {
        /* rotary positions have no table that ends */
        int64_t rows = m->uni && mm_uni_get_config(m->uni)->positions != MM_UNI_ABSOLUTE ? MM_UNI_LONGEST : c->positions - c->pos_offset;
        if (c->pad_to) return mm_fail(err, MM_EARG, "this model always sees %lld tokens", (long long)c->pad_to);
        if (m->opts.window < 3 || m->opts.window > rows)
            return mm_fail(err, MM_EARG, "a window of %lld tokens is asked for, this model takes 3 to %lld",
                           (long long)m->opts.window, (long long)rows);
        c->window = m->opts.window;
    }
    return 0;
}

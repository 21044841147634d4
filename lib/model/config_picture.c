/* How pictures are prepared: preprocessor_config.json of the transformers library. Without the file the family's published values hold. */
#include <string.h>
#include "model/model_int.h"

static void published(const mm_model *m, mm_image_spec *s)
{
    static const float clip_mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f }, clip_std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    int siglip = !strcmp(m->family, "siglip");
    s->fit = siglip ? MM_FIT_STRETCH : MM_FIT_CROP;
    s->filter = MM_RESIZE_BICUBIC;
    for (int i = 0; i < 3; i++) {
        s->mean[i] = siglip ? 0.5f : clip_mean[i];
        s->std[i] = siglip ? 0.5f : clip_std[i];
    }
}

/* "size": 224, {"shortest_edge":224} or {"height":..,"width":..}. *edge 0: not given as one number. */
static int get_size(const json_t *j, const char *key, int64_t *edge, int64_t *h, int64_t *w, mm_err *err)
{
    const json_t *s = json_object_get(j, key);
    int r = 0;
    *edge = *h = *w = 0;
    if (!s || json_is_null(s)) return 0;
    if (!json_is_object(s)) return mm_json_get_int(j, key, 1, 1 << 14, 0, edge, err);
    if (!(r = mm_json_get_int(s, "shortest_edge", 1, 1 << 14, 0, edge, err)) && !(r = mm_json_get_int(s, "height", 1, 1 << 14, 0, h, err)))
        r = mm_json_get_int(s, "width", 1, 1 << 14, 0, w, err);
    if (!r && !*edge && (!*h || !*w)) r = mm_fail(err, MM_EUNSUP, "'%s' has neither shortest_edge nor height and width", key);
    return r;
}

static int three(const json_t *j, const char *key, float out[3], mm_err *err)
{
    const json_t *a = json_object_get(j, key);
    if (!a || json_is_null(a)) return 0;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(a, json_array_size(a) == 1 ? 0 : i);
        if (!json_is_number(v)) return mm_fail(err, MM_EDATA, "'%s' should be three numbers", key);
        out[i] = (float)json_number_value(v);
    }
    return 0;
}

int mm_config_samples(const json_t *j, mm_image_spec *s, mm_err *err)
{
    /* numbers of Pillow's filters, which "resample" names */
    static const int filters[] = { MM_RESIZE_NEAREST, MM_RESIZE_LANCZOS, MM_RESIZE_BILINEAR, MM_RESIZE_BICUBIC, MM_RESIZE_BOX, MM_RESIZE_HAMMING };
    static const int numbers[] = { [MM_RESIZE_NEAREST] = 0, [MM_RESIZE_LANCZOS] = 1, [MM_RESIZE_BILINEAR] = 2, [MM_RESIZE_BICUBIC] = 3,
                                   [MM_RESIZE_BOX] = 4, [MM_RESIZE_HAMMING] = 5 };
    int64_t filter;
    double scale;
    int rescale, normalize, r;
    if ((r = mm_json_get_bool(j, "do_rescale", 1, &rescale, err)) || (r = mm_json_get_bool(j, "do_normalize", 1, &normalize, err)) ||
        (r = mm_config_num(j, "rescale_factor", 1e-9, 1, 1.0 / 255, &scale, err)) ||
        (r = mm_json_get_int(j, "resample", 0, 5, numbers[s->filter], &filter, err)) || (r = three(j, "image_mean", s->mean, err)) ||
        (r = three(j, "image_std", s->std, err)))
        return r;
    if (!rescale || scale < 0.99 / 255 || scale > 1.01 / 255)
        return mm_fail(err, MM_EUNSUP, "pictures that are not scaled to 0..1 are not supported");
    s->filter = (mm_resize_filter)filters[filter];
    for (int i = 0; i < 3; i++) {
        if (!normalize) s->mean[i] = 0, s->std[i] = 1;
        if (!(s->std[i] > 0)) return mm_fail(err, MM_EDATA, "'image_std' should be above 0");
    }
    return 0;
}

static int read(const json_t *j, mm_image_spec *s, mm_err *err)
{
    int64_t edge, h, w, cedge, ch, cw;
    int resize, crop, r;
    if ((r = mm_config_samples(j, s, err)) || (r = mm_json_get_bool(j, "do_resize", 1, &resize, err)) ||
        (r = mm_json_get_bool(j, "do_center_crop", s->fit == MM_FIT_CROP, &crop, err)) || (r = get_size(j, "size", &edge, &h, &w, err)) ||
        (r = get_size(j, "crop_size", &cedge, &ch, &cw, err)))
        return r;
    if (!resize) return mm_fail(err, MM_EUNSUP, "pictures that are not resized are not supported");
    if (cedge) ch = cw = cedge;
    if (crop) {
        s->fit = MM_FIT_CROP;
        if (h && h == w) edge = h; /* both sides to one length, then cropped to it: only squares come out the same */
        if (h && h != w) return mm_fail(err, MM_EUNSUP, "'size' of %lld x %lld before a crop is not supported", (long long)h, (long long)w);
        if (h) s->fit = MM_FIT_STRETCH;
        if (edge) s->resize = (int)edge;
        if (ch && (ch != s->height || cw != s->width))
            return mm_fail(err, MM_ESHAPE, "'crop_size' is %lld x %lld, the model takes %d x %d", (long long)ch, (long long)cw, s->height, s->width);
    } else {
        s->fit = MM_FIT_STRETCH;
        if (edge) h = w = edge;
        if (h && (h != s->height || w != s->width))
            return mm_fail(err, MM_ESHAPE, "'size' is %lld x %lld, the model takes %d x %d", (long long)h, (long long)w, s->height, s->width);
    }
    return 0;
}

int mm_config_picture(mm_model *m, mm_err *err)
{
    mm_input_spec *sp = &m->spec[MM_IMAGE];
    mm_image_spec *s = &sp->image;
    json_t *j;
    s->height = s->resize = sp->height;
    s->width = sp->width;
    published(m, s);
    int r = mm_config_file(m->store, "preprocessor_config.json", &j, err);
    if (r || !j) return r;
    if ((r = read(j, s, err))) mm_err_prefix(err, "preprocessor_config.json: ");
    json_decref(j);
    return r;
}

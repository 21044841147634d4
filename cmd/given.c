#include "cmd/given.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "base/mm_json.h"
#include "media/mm_input.h"

static int modality_of(mm_rec *rec, const mm_model *m, mm_modality *mod)
{
    mm_slice s;
    mm_err err = { 0 };
    int r = mm_rec_str(rec, "modality", &s, &err);
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
    for (int i = MM_IMAGE; r > 0 && i < MM_MODALITIES; i++) {
        const char *name = mm_modality_name((mm_modality)i);
        if (strlen(name) != s.len || memcmp(name, s.p, s.len)) continue;
        *mod = (mm_modality)i;
        return mm_model_input_spec(m, *mod) ? 0 : mm_rec_fail(rec, MM_EUNSUP, "this model takes no %s", name);
    }
    return mm_rec_fail(rec, MM_EDATA, "an input needs a \"modality\": image, audio or video");
}

/* Is it [views, frames, channels, height, width] without what there is one of? */
static int right_shape(const json_t *shape, const mm_input_spec *s)
{
    const int want[] = { s->views, s->frames, s->channels, s->height, s->width };
    const size_t first = s->views > 1 ? 0 : s->frames > 1 ? 1 : 2;
    if (json_array_size(shape) != 5 - first) return 0;
    for (size_t i = first; i < 5; i++)
        if (json_integer_value(json_array_get(shape, i - first)) != want[i]) return 0;
    return 1;
}

static int numbers(mm_rec *rec, const json_t *j, const mm_input_spec *s, float **x)
{
    const json_t *b64 = json_object_get(j, "b64");
    const char *dtype = json_string_value(json_object_get(j, "dtype"));
    const size_t n = mm_input_floats(s);
    mm_buf b = { 0 };
    if (!dtype || strcmp(dtype, "F32") || !json_is_string(b64)) return mm_rec_fail(rec, MM_EDATA, "an input is {\"dtype\":\"F32\",\"shape\":[..],\"b64\":..}");
    if (!right_shape(json_object_get(j, "shape"), s)) return mm_rec_fail(rec, MM_ESHAPE, "the input has another shape than the model takes");
    int r = mm_base64_decode(&b, json_string_value(b64), json_string_length(b64)) ? mm_rec_fail(rec, MM_EDATA, "'input': \"b64\" is no base64") : 0;
    if (!r && b.len != n * sizeof **x) r = mm_rec_fail(rec, MM_ESHAPE, "the input has %zu bytes, its shape %zu", b.len, n * sizeof **x);
    if (!r && !(*x = mm_aligned(n + (size_t)s->frames, sizeof **x))) r = mm_rec_fail(rec, MM_ENOMEM, "out of memory");
    if (!r) memcpy(*x, b.p, b.len);
    mm_buf_clear(&b);
    for (size_t i = 0; i < n && !r; i++)
        if (!isfinite((*x)[i])) r = mm_rec_fail(rec, MM_EDATA, "the input has numbers that are not finite");
    if (r) free(*x), *x = NULL;
    return r;
}

/* When each frame is shown, if the record says so. */
static int moments(mm_rec *rec, size_t frames, float *to, float **times)
{
    mm_slice raw;
    mm_err err = { 0 };
    if (!mm_rec_get(rec, "times", &raw) || mm_slice_is(raw, "null")) return 0;
    json_t *j = mm_json_load(raw.p, raw.len, "times", &err);
    int r = j ? 0 : mm_rec_fail(rec, MM_EDATA, "%s", err.msg);
    if (!r && json_array_size(j) != frames) r = mm_rec_fail(rec, MM_ESHAPE, "'times' is not a list of %zu numbers, one for each frame of the input", frames);
    for (size_t i = 0; i < frames && !r; i++) {
        const json_t *t = json_array_get(j, i);
        to[i] = (float)json_number_value(t);
        if (!json_is_number(t) || !isfinite(to[i])) r = mm_rec_fail(rec, MM_EDATA, "'times', number %zu: not seconds", i);
    }
    json_decref(j);
    if (!r) *times = to;
    return r;
}

int mm_given_take(mm_rec *rec, const mm_model *m, mm_modality *mod, float **x, float **times)
{
    mm_slice raw;
    mm_err err = { 0 };
    *x = *times = NULL;
    if (!mm_rec_get(rec, "input", &raw) || !raw.len || raw.p[0] != '{') return 0;
    int r = modality_of(rec, m, mod);
    json_t *j = r ? NULL : mm_json_load(raw.p, raw.len, "input", &err);
    if (!r && !j) r = mm_rec_fail(rec, MM_EDATA, "%s", err.msg);
    const mm_input_spec *s = r ? NULL : mm_model_input_spec(m, *mod);
    if (!r) r = numbers(rec, j, s, x);
    if (!r && *mod == MM_VIDEO && mm_model_has_gates(m) && (r = moments(rec, (size_t)s->frames, *x + mm_input_floats(s), times))) free(*x), *x = NULL;
    json_decref(j);
    mm_rec_del(rec, "input");
    return r ? r : 1;
}

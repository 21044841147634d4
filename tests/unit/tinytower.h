/* tinytower.h - folders of small models with towers for several modalities, from tests/golden/tower-*.json: the weights are computed by a
 * formula, the same as in scripts/parity/towers. For mk_models and unit tests. */
#ifndef TINYTOWER_H
#define TINYTOWER_H
#include "tinybert.h"

__attribute__((unused)) static void tower_fill(float *out, const char *name, size_t n, double scale, double shift)
{
    uint32_t h = 2166136261u;
    for (const char *c = name; *c; c++) h = (h ^ (uint8_t)*c) * 16777619u;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = ((uint32_t)(i + 1) * 2654435761u ^ h) * 2246822519u;
        v = (v ^ v >> 15) * 3266489917u;
        out[i] = (float)(shift + scale * ((double)(v >> 16) / 65536 - 0.5));
    }
}

static void tensor_values(float *out, const char *name, size_t n)
{
    static const char *const norms[] = { "norm", "ln_", "layrnorm", "heads.vision.0", "heads.audio.0", "heads.text.proj.0", "trunk.0",
                                         "transformer_layer.0" };
    size_t len = strlen(name);
    int gain = 0;
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) gain |= strstr(name, norms[i]) != NULL;
    gain = gain && len > 6 && !strcmp(name + len - 6, "weight");
    if (strstr(name, "logit")) tower_fill(out, name, n, 0, 2.5);
    else if (gain) tower_fill(out, name, n, 0.4, 1);
    else tower_fill(out, name, n, 0.5, 0);
}

static size_t shape_of(const json_t *a, int64_t shape[8])
{
    size_t n = 1;
    for (size_t i = 0; i < json_array_size(a); i++) n *= (size_t)(shape[i] = json_integer_value(json_array_get(a, i)));
    return n;
}

__attribute__((unused)) static void tower_folder(const char *dir, const json_t *g)
{
    mm_st_writer *w;
    char path[1024];
    const json_t *tensors = json_object_get(g, "tensors"), *config = json_object_get(g, "config"), *t;
    char *text = json_dumps(config, JSON_COMPACT);
    size_t i;
    make_dir(dir);
    puts_to(dir, json_object_get(config, "model_cfg") ? "open_clip_config.json" : "config.json", text);
    free(text);
    /* letters, alone and at the end of a word; what the texts of this test are is given as ids */
    mm_buf v = { 0 };
    mm_buf_adds(&v, "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"merges\":[],\"vocab\":{");
    for (int k = 0; k < 26; k++) mm_buf_addf(&v, "%s\"%c\":%d,\"%c</w>\":%d", k ? "," : "", 'a' + k, 2 * k + 2, 'a' + k, 2 * k + 3);
    mm_buf_adds(&v, "}},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}}");
    put(dir, "tokenizer.json", v.p, v.len);
    mm_buf_clear(&v);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    check(mm_st_create(&w, path, NULL, &err));
    json_array_foreach(tensors, i, t)
    {
        int64_t shape[8];
        shape_of(json_array_get(t, 1), shape);
        mm_st_tensor(w, json_string_value(json_array_get(t, 0)), MM_F32, (int)json_array_size(json_array_get(t, 1)), shape);
    }
    check(mm_st_begin(w, &err));
    json_array_foreach(tensors, i, t)
    {
        int64_t shape[8];
        size_t n = shape_of(json_array_get(t, 1), shape);
        float *x = malloc(n * sizeof *x);
        if (!x) exit(1);
        tensor_values(x, json_string_value(json_array_get(t, 0)), n);
        check(mm_st_data(w, x, n * sizeof *x, &err));
        free(x);
    }
    check(mm_st_commit(&w, &err));
}

__attribute__((unused)) static json_t *golden(const char *kind, const char *name)
{
    const char *root = getenv("MM_ROOT");
    char path[512];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/%s-%s.json", root ? root : ".", kind, name);
    check(mm_file_read(&b, path, 1 << 20, &err));
    json_t *g = mm_json_load(b.p, b.len, name, &err);
    if (!g) check(MM_EDATA);
    mm_buf_clear(&b);
    return g;
}

/* The fixture NAME of this tree. */
__attribute__((unused)) static json_t *tower_fixture(const char *name) { return golden("tower", name); }

__attribute__((unused)) static void json_to(const char *dir, const char *name, const json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);
    puts_to(dir, name, text);
    free(text);
}

/* A decoder that looks at pictures, from tests/golden/vlm-*.json */
__attribute__((unused)) static void vlm_folder(const char *dir, const json_t *g)
{
    tower_folder(dir, g);
    json_to(dir, "tokenizer.json", json_object_get(g, "tokenizer"));
    json_to(dir, "preprocessor_config.json", json_object_get(g, "preprocessor"));
}

#endif

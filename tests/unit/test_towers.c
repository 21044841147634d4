/* Every family of towers at a small shape, against vectors of the reference implementations (tests/golden/tower-*.json, written by
 * scripts/parity/towers fixtures): weights and inputs are computed by one formula here and there. The same again through a GGUF. */
#include "model/mm_model.h"
#include "quant/mm_quant.h"
#include "tap.h"
#include "tinytower.h"

/* 1 - cosine, the larger of two rows */
static double apart(const float *got, const json_t *want, size_t dim)
{
    double worst = 0;
    for (size_t r = 0; r < json_array_size(want); r++) {
        double xy = 0, xx = 0, yy = 0;
        for (size_t i = 0; i < dim; i++) {
            double x = (double)got[r * dim + i], y = json_number_value(json_array_get(json_array_get(want, r), i));
            xy += x * y, xx += x * x, yy += y * y;
        }
        double d = 1 - xy / sqrt(xx * yy);
        if (!(d <= worst)) worst = d;
    }
    return worst;
}

static void compare(const char *name, const char *path, const json_t *g, float *keep, int again)
{
    mm_model *m;
    const json_t *vectors = json_object_get(g, "vectors"), *ids = json_object_get(g, "ids");
    if (!ok(!mm_model_open(&m, path, NULL, &err), "%s opens", path)) {
        printf("# %s\n", err.msg);
        return;
    }
    size_t dim = mm_model_dim(m), at = 0;
    float got[2 * 64];
    for (int mod = MM_TEXT; mod < MM_MODALITIES; mod++) {
        const json_t *want = json_object_get(vectors, mm_modality_name((mm_modality)mod));
        if (!want) continue;
        int r;
        if (mod == MM_TEXT) {
            int32_t id[200];
            size_t off[3] = { 0 }, n = 0;
            for (size_t s = 0; s < 2; s++) {
                for (size_t i = 0; i < json_array_size(json_array_get(ids, s)); i++)
                    id[n++] = (int32_t)json_integer_value(json_array_get(json_array_get(ids, s), i));
                off[s + 1] = n;
            }
            r = mm_model_embed_ids(m, id, off, 2, got, &err);
        } else {
            const mm_input_spec *s = mm_model_input_spec(m, (mm_modality)mod);
            size_t n = mm_input_floats(s);
            float *x = malloc(2 * n * sizeof *x);
            char input[32];
            if (!x) exit(1);
            snprintf(input, sizeof input, "input.%s", mm_modality_name((mm_modality)mod));
            tower_fill(x, input, 2 * n, 4, 0);
            r = mm_model_embed_input(m, (const mm_part[]){ { .mod = (mm_modality)mod, .x = x }, { .mod = (mm_modality)mod, .x = x + n } }, 2, got, &err);
            free(x);
        }
        double d = r ? 1 : apart(got, want, dim);
        ok(!r && d < 1e-5, "%s: %s: cosine 1 - %.2g%s%s", name, mm_modality_name((mm_modality)mod), d, r ? ": " : "", r ? err.msg : "");
        if (again) ok(!memcmp(keep + at, got, 2 * dim * sizeof *got), "... the same bits from a GGUF");
        memcpy(keep + at, got, 2 * dim * sizeof *got);
        at += 2 * dim;
    }
    mm_model_close(&m);
}

int main(void)
{
    static const char *const names[] = { "clip-vit-b32", "siglip", "ViT-B-16-quickgelu", "imagebind", "languagebind-audio", "languagebind-video" };
    char dir[] = "/tmp/mm-towers-XXXXXX", path[512], to[1024];
    if (!mkdtemp(dir)) return 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        float keep[4 * 2 * 64];
        json_t *g = tower_fixture(names[i]);
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        tower_folder(path, g);
        compare(names[i], path, g, keep, 0);
        snprintf(to, sizeof to, "%s.gguf", path);
        if (ok(!mm_quant_convert(path, to, &(mm_quant_opts){ .type = MM_F32 }, NULL, &err), "%s becomes a GGUF", names[i])) compare(names[i], to, g, keep, 1);
        else printf("# %s\n", err.msg);
        json_decref(g);
    }
    char rm[64];
    snprintf(rm, sizeof rm, "rm -rf %s", dir);
    if (system(rm)) return 1;
    return done();
}

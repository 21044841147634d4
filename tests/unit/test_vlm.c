/* Decoders that look at pictures, against the reference (tests/golden/vlm-*.json, written by scripts/parity/pictures-in-text fixtures): the squares
 * of pictures of odd sizes byte for byte, ids of prompts, logits; and what holds whatever the model. */
#include <unistd.h>
#include "media/mm_input.h"
#include "model/mm_vlm.h"
#include "tap.h"
#include "tinytower.h"

enum { VOCAB = 160, WIDTH = 32 };

static long long integer(const json_t *a, size_t i) { return json_integer_value(json_array_get(a, i)); }

/* The picture of the parity script, as a PPM file */
static void ppm(mm_buf *b, int w, int h)
{
    mm_buf_reset(b);
    mm_buf_addf(b, "P6\n%d %d\n255\n", w, h);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++) mm_buf_addc(b, (char)((x * (5 + 2 * c) + y * 3 + x * y / 7 + (x * 31 ^ y * 17) % 64) & 255));
}

static float *prepare(const mm_input_spec *s, int w, int h, mm_vlm_picture *out)
{
    mm_buf b = { 0 };
    mm_input_facts facts;
    float *x = mm_aligned(mm_input_floats(s), sizeof *x);
    if (!x) exit(1);
    ppm(&b, w, h);
    check(mm_input_make(x, s, &(mm_media_src){ .data = b.p, .len = b.len }, NULL, &facts, &err));
    *out = (mm_vlm_picture){ facts.rows, facts.cols };
    mm_buf_clear(&b);
    return x;
}

static void squares(const char *name, const json_t *g, const mm_lm *lm)
{
    const mm_input_spec *s = mm_vlm_spec(lm);
    const json_t *cases = json_object_get(g, "pictures"), *c;
    size_t i;
    json_array_foreach(cases, i, c)
    {
        mm_vlm_picture p;
        float *x = prepare(s, (int)integer(c, 0), (int)integer(c, 1), &p);
        const size_t n = mm_vlm_squares(&p) * 3 * (size_t)s->height * (size_t)s->width;
        uint32_t h = 2166136261u;
        for (size_t k = 0; k < n; k++) h = (h ^ (uint8_t)lrintf((x[k] * 0.5f + 0.5f) * 255)) * 16777619u;
        ok(p.rows == integer(c, 2) && p.cols == integer(c, 3), "%s: %lld x %lld: %d x %d squares", name, integer(c, 0), integer(c, 1), p.rows, p.cols);
        ok(h == (uint32_t)integer(c, 4), "... with the reference's bytes");
        free(x);
    }
}

/* The prompt's ids, and the rows of its pictures */
static float *read_prompt(const json_t *g, const json_t *p, mm_lm *lm, mm_tok_out *ids, size_t *rows)
{
    const json_t *which = json_object_get(p, "pictures"), *sizes = json_object_get(g, "pictures");
    const char *text = json_string_value(json_object_get(p, "text"));
    mm_vlm_picture pics[4];
    mm_buf out = { 0 };
    float *embd = NULL;
    *rows = 0;
    for (size_t i = 0; i < json_array_size(which); i++) {
        const json_t *size = json_array_get(sizes, (size_t)integer(which, i));
        float *x = prepare(mm_vlm_spec(lm), (int)integer(size, 0), (int)integer(size, 1), &pics[i]);
        const size_t n = mm_vlm_squares(&pics[i]);
        embd = realloc(embd, (*rows + n * mm_vlm_tokens(lm)) * WIDTH * sizeof *embd);
        if (!embd) exit(1);
        check(mm_vlm_embed(lm, x, n, embd + *rows * WIDTH, &err));
        *rows += n * mm_vlm_tokens(lm);
        free(x);
    }
    check(mm_vlm_prompt(lm, text, strlen(text), pics, json_array_size(which), &out, &err));
    check(mm_tok_encode(mm_lm_tokenizer(lm), out.p, out.len, 0, ids, &err));
    mm_buf_clear(&out);
    return embd;
}

static double relative(const float *got, const json_t *want)
{
    double most = 0, top = 0;
    for (size_t i = 0; i < json_array_size(want); i++) {
        double w = json_number_value(json_array_get(want, i)), d = fabs((double)got[i] - w);
        if (!(d <= most)) most = d;
        if (fabs(w) > top) top = fabs(w);
    }
    return most / top;
}

/* The same bits however the prompt is cut into steps */
static void in_pieces(mm_lm *lm, const mm_tok_out *ids, const float *embd, const float *whole)
{
    mm_lm_cache *c;
    float *got = calloc(VOCAB, sizeof *got);
    size_t used = 0;
    if (!got) exit(1);
    check(mm_lm_cache_new(&c, lm, 1, 0, &err));
    for (size_t at = 0, n; at < ids->n; at += n) {
        n = ids->n - at < 7 ? ids->n - at : 7;
        const mm_lm_part p = { .ids = ids->ids + at, .n = n, .embd = embd + used * WIDTH, .mark = mm_vlm_mark(lm), .logits = at + n == ids->n };
        check(mm_lm_step(c, &p, 1, got, &err));
        for (size_t i = 0; i < n; i++) used += ids->ids[at + i] == mm_vlm_mark(lm);
    }
    ok(!memcmp(got, whole + (ids->n - 1) * VOCAB, VOCAB * sizeof *got), "... the same bits seven tokens at a time");
    mm_lm_cache_free(&c);
    free(got);
}

static void prompts(const char *name, const json_t *g, mm_lm *lm)
{
    const json_t *asked = json_object_get(g, "prompts"), *p;
    size_t i;
    json_array_foreach(asked, i, p)
    {
        const json_t *want = json_object_get(p, "ids"), *rows = json_object_get(p, "rows");
        mm_tok_out ids = { 0 };
        size_t n_embd;
        float *embd = read_prompt(g, p, lm, &ids, &n_embd);
        int same = ids.n == json_array_size(want);
        size_t marks = 0;
        for (size_t k = 0; k < ids.n && same; k++) same = ids.ids[k] == integer(want, k), marks += ids.ids[k] == mm_vlm_mark(lm);
        ok(same && marks == n_embd, "%s: prompt %zu: %zu ids, %zu of them of pictures", name, i, ids.n, marks);
        float *all = calloc(ids.n, VOCAB * sizeof *all);
        if (!all || !same) exit(1);
        mm_lm_cache *c;
        check(mm_lm_cache_new(&c, lm, 1, 0, &err));
        const mm_lm_part part = { .ids = ids.ids, .n = ids.n, .embd = embd, .mark = mm_vlm_mark(lm), .logits = 2 };
        check(mm_lm_step(c, &part, 1, all, &err));
        double worst = 0;
        for (size_t k = 0; k < json_array_size(rows); k++) {
            double d = relative(all + integer(rows, k) * VOCAB, json_array_get(json_object_get(p, "logits"), k));
            if (!(d <= worst)) worst = d;
        }
        ok(worst < 1e-4, "... logits: relative error %.2g", worst);
        if (embd) in_pieces(lm, &ids, embd, all);
        mm_lm_cache_free(&c);
        mm_tok_out_clear(&ids);
        free(all);
        free(embd);
    }
}

static void refusals(mm_lm *lm)
{
    const mm_vlm_picture one = { 0, 0 };
    mm_buf out = { 0 };
    mm_buf_adds(&out, "x");
    is_int(mm_vlm_prompt(lm, "no picture", 10, &one, 1, &out, &err), MM_EDATA, "a picture that the prompt has no place for is refused");
    is_int(mm_vlm_prompt(lm, "<image><image>", 14, &one, 1, &out, &err), MM_EDATA, "... and a place without a picture");
    ok(out.len == 1, "... and nothing is appended then");
    mm_buf_clear(&out);
}

static void changed(const json_t *g, const char *dir, const char *in, const char *key, json_t *value, int code, const char *what)
{
    json_t *other = json_deep_copy(g);
    json_t *object = json_object_get(other, in);
    mm_lm *lm;
    if (strchr(key, '/')) object = json_object_get(object, "vision_config"), key = strchr(key, '/') + 1;
    json_object_set_new(object, key, value);
    json_to(dir, "config.json", json_object_get(other, "config"));
    json_to(dir, "preprocessor_config.json", json_object_get(other, "preprocessor"));
    int r = mm_lm_open(&lm, dir, NULL, &err);
    ok(r == code, "%s is refused: %s", what, r ? err.msg : "it is not");
    mm_lm_close(&lm);
    json_decref(other);
}

/* The texts are those of SmolVLM's processor for the same moments. */
static void clips(const mm_lm *lm)
{
    static const float times[] = { 0, 11.8f, 61.2f };
    const char *want = "You are provided the following series of three frames from a 1:02:05 [H:MM:SS] video.\n"
                       "\nFrame from 00:00:<image>\nFrame from 00:11:<image>\nFrame from 01:01:<image>\n\n";
    mm_buf out = { 0 };
    mm_input_spec s;
    check(mm_vlm_clip_text(3725.9, times, 3, &out));
    ok(out.len == strlen(want) && !memcmp(out.p, want, out.len), "what a prompt says of a clip");
    mm_buf_reset(&out);
    check(mm_vlm_clip_text(1, (float[64]){ 0 }, 64, &out));
    ok(out.p && strstr(out.p, " sixty-four frames from a 0:00:01 "), "numbers in words");
    const double seconds[] = { 0, 0.4, 7.6, 100, 1e9 };
    const int frames[] = { 1, 1, 8, 64, 64 };
    int good = 1;
    for (int i = 0; i < 5; i++) {
        check(mm_vlm_clip_spec(lm, seconds[i], 0, &s, &err));
        good &= s.views == frames[i] && s.video.frames == frames[i] && s.source == MM_MEDIA_VIDEO && !s.tiles.split;
    }
    ok(good, "one frame each second, 64 at most");
    check(mm_vlm_clip_spec(lm, 30, 5, &s, &err));
    is_int(s.views, 5, "... and no more than asked for");
    mm_buf_clear(&out);
}

static void family(const char *name)
{
    json_t *g = golden("vlm", name);
    const char *tmp = getenv("TMPDIR");
    char dir[256], cmd[300];
    mm_lm *lm;
    mm_lm_opts o = { .threads = 1, .kv_type = MM_F32 };
    snprintf(dir, sizeof dir, "%s/mm-vlm-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    vlm_folder(dir, g);
    check(mm_lm_open(&lm, dir, &o, &err));
    squares(name, g, lm);
    prompts(name, g, lm);
    refusals(lm);
    clips(lm);
    mm_lm_close(&lm);
    changed(g, dir, "config", "vision_config/image_size", json_integer(200), MM_EUNSUP, "a grid whose places the reference's rounding moves");
    changed(g, dir, "config", "scale_factor", json_integer(5), MM_EDATA, "a factor that does not divide the grid");
    changed(g, dir, "config", "image_token_id", json_integer(VOCAB), MM_EDATA, "a mark outside the vocabulary");
    changed(g, dir, "preprocessor", "max_image_size", json_pack("{s:i}", "longest_edge", 48), MM_EUNSUP, "a square that is not the tower's");
    changed(g, dir, "preprocessor", "size", json_pack("{s:i,s:i}", "height", 48, "width", 48), MM_EUNSUP, "a size without a longest edge");
    snprintf(cmd, sizeof cmd, "rm -r '%s'", dir);
    if (system(cmd)) exit(1);
    json_decref(g);
}

int main(void)
{
    family("idefics3");
    family("smolvlm");
    return done();
}

/* Configurations of the unified model: by name, as JSON, and the plan of sharing as text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/mm_uni.h"

/* The plans give each encoder 67 % shared parameters (tests/unit/test_uni computes it from the tensors). `base` has the published widths:
 * text 768, pictures 1024. */
static const struct {
    const char *name, *plan;
    int64_t layers, width, heads, ff, out, vocab, window, alloc;
    int64_t mod[MM_MODALITIES][5]; /* width, merge, merge, size, frames */
} named[] = {
    { "tiny", "*.norm=all text.attn=0-1 text.ffn=0-1 image.attn=0 image.ffn=0-1 audio.attn=0 audio.ffn=0-1 video.attn=0 video.ffn=0-1",
      6, 160, 5, 640, 256, 12288, 512, 32,
      { { 120, 0, 0, 0, 0 }, { 160, 80, 160, 64, 0 }, { 144, 128, 192, 0, 1000 }, { 160, 80, 128, 64, 8 } } },
    { "small", "*.norm=all text.attn=0-3 text.ffn=0-2 image.attn=0-2 image.ffn=0-2 audio.attn=0-2 audio.ffn=0-2 video.attn=0-2 video.ffn=0-2",
      10, 384, 6, 1536, 384, 32768, 512, 64,
      { { 288, 0, 0, 0, 0 }, { 384, 96, 256, 128, 0 }, { 320, 256, 512, 0, 1000 }, { 384, 96, 256, 96, 16 } } },
    { "base", "*.norm=all text.attn=0-3 text.ffn=0-3 image.attn=0-2 image.ffn=0-3 audio.attn=0-3 audio.ffn=0-3 video.attn=0-2 video.ffn=0-3",
      12, 1024, 16, 4096, 1024, 65536, 2048, 128,
      { { 768, 0, 0, 0, 0 }, { 1024, 256, 640, 224, 0 }, { 768, 192, 384, 0, 3000 }, { 1024, 256, 640, 224, 16 } } },
};

static const char *const parts[MM_UNI_PARTS] = { "norm", "attn", "ffn" };
static const char *const head_names[] = { "next", "flow" };
static const char *const positions[] = { [MM_UNI_ALIGNED] = "aligned", [MM_UNI_UNALIGNED] = "unaligned", [MM_UNI_ABSOLUTE] = "absolute" };

/* "0-2,5" or "all" */
static int layers_of(const char *s, size_t len, int64_t layers, uint64_t *bits)
{
    uint64_t all = layers == 64 ? ~(uint64_t)0 : ((uint64_t)1 << layers) - 1;
    *bits = 0;
    if (len == 3 && !memcmp(s, "all", 3)) return *bits = all, 0;
    for (const char *end = s + len; s < end;) {
        char *after;
        unsigned long a = strtoul(s, &after, 10), b = a;
        if (after == s) return -1;
        if (after < end && *after == '-') {
            const char *from = after + 1;
            b = strtoul(from, &after, 10);
            if (after == from) return -1;
        }
        if (a > b || b >= (unsigned long)layers) return -1;
        for (; a <= b; a++) *bits |= (uint64_t)1 << a;
        if (after < end && *after != ',') return -1;
        s = after + 1;
    }
    return 0;
}

int mm_uni_plan(mm_uni_config *c, const char *plan, mm_err *err)
{
    uint64_t own[MM_UNI_PARTS][MM_UNI_STREAMS];
    int fresh = 0;
    for (int p = 0; p < MM_UNI_PARTS; p++)
        for (int m = 0; m < MM_UNI_STREAMS; m++) own[p][m] = m < MM_MODALITIES ? 0 : c->own[p][m];
    for (const char *w = plan; *(w += strspn(w, " ")); w += strcspn(w, " ")) {
        size_t len = strcspn(w, " "), dot = strcspn(w, ". "), eq = strcspn(w, "= ");
        uint64_t bits;
        int what = -1, some = 0;
        for (int p = 0; p < MM_UNI_PARTS && dot < eq && eq < len; p++)
            if (strlen(parts[p]) == eq - dot - 1 && !memcmp(w + dot + 1, parts[p], eq - dot - 1)) what = p;
        if (what >= 0 && !layers_of(w + eq + 1, len - eq - 1, c->layers, &bits))
            for (int m = 0; m < MM_UNI_STREAMS; m++) {
                const char *name = m < MM_MODALITIES ? mm_modality_name((mm_modality)m) : head_names[m - MM_MODALITIES];
                if (!(dot == 1 && *w == '*' && m < MM_MODALITIES) && !(strlen(name) == dot && !memcmp(w, name, dot))) continue;
                for (int p = 0; p < MM_UNI_PARTS && m >= MM_MODALITIES && !(fresh >> m & 1); p++) own[p][m] = 0;
                fresh |= 1 << m;
                own[what][m] |= bits;
                some = 1;
            }
        if (!some)
            return mm_fail(err, MM_EARG, "plan: '%.*s' is not MODALITY.PART=LAYERS (text, image, audio, video or *, next, flow; norm, attn or ffn; "
                           "0-%lld or all)", (int)len, w, (long long)c->layers - 1);
    }
    memcpy(c->own, own, sizeof own);
    return 0;
}

void mm_uni_plan_head(mm_uni_config *c, int head)
{
    for (int p = 0; p < MM_UNI_PARTS; p++) layers_of("all", 3, c->layers, &c->own[p][head]);
}

int mm_uni_positions_set(mm_uni_config *c, const char *name, mm_err *err)
{
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++)
        if (!strcmp(positions[i], name)) return c->positions = (int64_t)i, 0;
    return mm_fail(err, MM_EARG, "positions '%s' should be aligned, unaligned or absolute", name);
}

const char *mm_uni_positions_name(const mm_uni_config *c) { return positions[c->positions]; }

int mm_uni_config_named(mm_uni_config *c, const char *name, mm_err *err)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(named[i].name, name)) continue;
        *c = (mm_uni_config){ .layers = named[i].layers, .width = named[i].width, .heads = named[i].heads, .ff_width = named[i].ff,
                              .out = named[i].out, .ident = 16, .vocab = named[i].vocab, .window = named[i].window,
                              .alloc = named[i].alloc, .eps = 1e-5f };
        for (int m = 0; m < MM_MODALITIES; m++) {
            const int64_t *v = named[i].mod[m];
            c->mod[m].width = v[0];
            c->mod[m].merge[0] = v[1];
            c->mod[m].merge[1] = v[2];
            c->mod[m].size = v[3];
            c->mod[m].frames = v[4];
        }
        return mm_uni_plan(c, named[i].plan, err);
    }
    return mm_fail(err, MM_EARG, "no configuration '%s' (tiny, small, base)", name);
}

/* The plan of one modality's part as "0-1,3". */
static json_t *layers_json(uint64_t bits)
{
    mm_buf b = { 0 };
    for (int l = 0; l < 64; l++) {
        int last = l;
        if (!(bits >> l & 1)) continue;
        while (last < 63 && bits >> (last + 1) & 1) last++;
        mm_buf_addf(&b, "%s%d", b.len ? "," : "", l);
        if (last > l) mm_buf_addf(&b, "-%d", last);
        l = last;
    }
    json_t *j = json_string(b.p ? b.p : "");
    mm_buf_clear(&b);
    return j;
}

static void plan_json(json_t *o, const mm_uni_config *c, int m)
{
    for (int p = 0; p < MM_UNI_PARTS; p++) json_object_set_new(o, parts[p], layers_json(c->own[p][m]));
}

json_t *mm_uni_config_json(const mm_uni_config *c)
{
    json_t *j = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "layers", (json_int_t)c->layers, "width", (json_int_t)c->width, "heads",
                          (json_int_t)c->heads, "ff_width", (json_int_t)c->ff_width, "out", (json_int_t)c->out, "ident", (json_int_t)c->ident,
                          "vocab", (json_int_t)c->vocab, "window", (json_int_t)c->window, "alloc", (json_int_t)c->alloc, "eps", (double)c->eps);
    if (c->apart) json_object_set_new(j, "apart", json_integer(c->apart));
    if (c->positions) json_object_set_new(j, "positions", json_string(positions[c->positions]));
    for (int m = 0; m < MM_MODALITIES; m++) {
        if (!c->mod[m].width) continue;
        json_t *o = json_pack("{s:I,s:[I,I],s:I,s:I}", "width", (json_int_t)c->mod[m].width, "merge", (json_int_t)c->mod[m].merge[0],
                              (json_int_t)c->mod[m].merge[1], "size", (json_int_t)c->mod[m].size, "frames", (json_int_t)c->mod[m].frames);
        if (c->mod[m].direct) json_object_set_new(o, "direct", json_integer((json_int_t)c->mod[m].direct));
        if (c->mod[m].few) {
            json_object_set_new(o, "few", json_integer((json_int_t)c->mod[m].few));
            json_object_set_new(o, "few_width", json_real(c->mod[m].few_width));
        }
        plan_json(o, c, m);
        json_object_set_new(j, mm_modality_name((mm_modality)m), o);
    }
    for (int m = MM_UNI_NEXT; m < MM_UNI_STREAMS; m++) {
        int64_t on = m == MM_UNI_NEXT ? c->next : c->patch;
        if (!on) continue;
        json_t *o = json_object();
        if (m == MM_UNI_FLOW) json_object_set_new(o, "patch", json_integer((json_int_t)c->patch));
        plan_json(o, c, m);
        json_object_set_new(j, head_names[m - MM_MODALITIES], o);
    }
    return j;
}

static int number(const json_t *j, const char *key, int64_t min, int64_t max, int64_t *out, mm_err *err)
{
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return mm_fail(err, MM_EDATA, "configuration: '%s' should be a whole number within %lld..%lld", key, (long long)min, (long long)max);
    *out = json_integer_value(v);
    return 0;
}

static int parse_plan(mm_uni_config *c, int m, const json_t *o, mm_err *err)
{
    for (int p = 0; p < MM_UNI_PARTS; p++) {
        const char *s = json_string_value(json_object_get(o, parts[p]));
        if (!s || layers_of(s, strlen(s), c->layers, &c->own[p][m]))
            return mm_fail(err, MM_EDATA, "configuration: '%s' should name layers, as in \"0-2,4\"", parts[p]);
    }
    return 0;
}

static int parse_modality(mm_uni_config *c, int m, const json_t *o, mm_err *err)
{
    const char *name = mm_modality_name((mm_modality)m);
    const json_t *merge = json_object_get(o, "merge");
    int r = number(o, "width", 1, c->width, &c->mod[m].width, err);
    if (!r) r = number(o, "size", 0, 4096, &c->mod[m].size, err);
    if (!r) r = number(o, "frames", 0, 100000, &c->mod[m].frames, err);
    for (size_t i = 0; i < 2 && !r; i++) {
        json_int_t v = json_integer_value(json_array_get(merge, i));
        c->mod[m].merge[i] = v;
        if (m != MM_TEXT && (v < 1 || v > 65536)) r = mm_fail(err, MM_EDATA, "configuration: 'merge' should be two numbers within 1..65536");
    }
    if (!r && (m == MM_IMAGE || m == MM_VIDEO) && (c->mod[m].size < 16 || c->mod[m].size % 16))
        r = mm_fail(err, MM_EDATA, "configuration: 'size' should be a multiple of 16");
    if (!r && m == MM_VIDEO && (c->mod[m].frames < 2 || c->mod[m].frames % 2)) r = mm_fail(err, MM_EDATA, "configuration: 'frames' should be even");
    if (!r && m == MM_AUDIO && c->mod[m].frames < 8) r = mm_fail(err, MM_EDATA, "configuration: 'frames' should be at least 8");
    if (!r && m == MM_TEXT && json_object_get(o, "direct")) r = number(o, "direct", 1, c->out - c->mod[m].width, &c->mod[m].direct, err);
    if (!r && json_object_get(o, "few")) r = number(o, "few", 1, 65536, &c->mod[m].few, err);
    c->mod[m].few_width = json_number_value(json_object_get(o, "few_width"));
    if (!r && c->mod[m].few && !(c->mod[m].few_width >= 1e-4 && c->mod[m].few_width <= 1e4))
        r = mm_fail(err, MM_EDATA, "configuration: 'few_width' should be a positive number");
    if (!r) r = parse_plan(c, m, o, err);
    return r ? mm_err_prefix(err, "%s: ", name), r : 0;
}

static int parse_head(mm_uni_config *c, int m, const json_t *o, mm_err *err)
{
    int r = 0;
    if (m == MM_UNI_NEXT) c->next = 1;
    else r = number(o, "patch", 4, 16, &c->patch, err);
    if (!r && m == MM_UNI_NEXT && c->vocab < 3) r = mm_fail(err, MM_EDATA, "configuration: a next-token head needs a vocabulary");
    if (!r && m == MM_UNI_FLOW && ((c->patch & (c->patch - 1)) || !c->mod[MM_IMAGE].width || c->mod[MM_IMAGE].size % 16))
        r = mm_fail(err, MM_EDATA, "configuration: a flow head needs pictures, and a 'patch' of 4, 8 or 16 pixels");
    if (!r) r = parse_plan(c, m, o, err);
    return r ? mm_err_prefix(err, "%s: ", head_names[m - MM_MODALITIES]), r : 0;
}

int mm_uni_config_parse(mm_uni_config *c, const json_t *j, mm_err *err)
{
    int r;
    *c = (mm_uni_config){ .eps = (float)json_number_value(json_object_get(j, "eps")) };
    if (!(c->eps > 0 && c->eps < 1)) return mm_fail(err, MM_EDATA, "configuration: 'eps' should be a small positive number");
    if ((r = number(j, "layers", 1, 64, &c->layers, err)) || (r = number(j, "width", 8, 16384, &c->width, err)) ||
        (r = number(j, "heads", 1, 1024, &c->heads, err)) || (r = number(j, "ff_width", 8, 65536, &c->ff_width, err)) ||
        (r = number(j, "out", 1, 16384, &c->out, err)) || (r = number(j, "ident", 4, 1024, &c->ident, err)) ||
        (r = number(j, "vocab", 0, 1 << 20, &c->vocab, err)) || (r = number(j, "window", 3, 1 << 20, &c->window, err)) ||
        (r = number(j, "alloc", 1, 4096, &c->alloc, err)) || (json_object_get(j, "apart") && (r = number(j, "apart", 0, 1, &c->apart, err))))
        return r;
    if (c->width % c->heads || c->width / c->heads % 2)
        return mm_fail(err, MM_EDATA, "configuration: a width of %lld is not an even number of channels for each of %lld heads", (long long)c->width,
                       (long long)c->heads);
    const json_t *how = json_object_get(j, "positions"); /* files made before there were others say nothing */
    if (how && mm_uni_positions_set(c, json_is_string(how) ? json_string_value(how) : "", err)) return mm_err_prefix(err, "configuration: "), MM_EDATA;
    int some = 0;
    for (int m = 0; m < MM_MODALITIES; m++) {
        const json_t *o = json_object_get(j, mm_modality_name((mm_modality)m));
        if (!o) continue;
        if ((r = parse_modality(c, m, o, err))) return r;
        some = 1;
    }
    if (!some) return mm_fail(err, MM_EDATA, "configuration: no modality");
    for (int m = MM_UNI_NEXT; m < MM_UNI_STREAMS; m++) {
        const json_t *o = json_object_get(j, head_names[m - MM_MODALITIES]);
        if (o && !json_is_false(o) && (r = parse_head(c, m, o, err))) return r; /* files made before heads were say false */
    }
    return c->mod[MM_TEXT].width && !c->vocab ? mm_fail(err, MM_EDATA, "configuration: text needs a vocabulary") : 0;
}

/* Decoders of the llama kind, from config.json as transformers writes it or from GGUF keys as llama.cpp has them. What a family leaves unsaid
 * is in the table below. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "model/model_int.h"

typedef struct {
    const char *name, *arch; /* model_type, GGUF architecture */
    double eps, base;
    int64_t kv_heads, head_dim, near; /* 0: heads, width / heads, no window */
    int64_t period;                   /* every so many layers one sees all, the others a window; 0: all layers are alike */
    int tied, head_norms, gemma;
} family;

static const family families[] = {
    { "llama", "llama", 1e-6, 1e4, 0, 0, 0, 0, 0, 0, 0 },
    { "mistral", NULL, 1e-6, 1e4, 8, 0, 4096, 0, 0, 0, 0 },
    { "qwen2", "qwen2", 1e-6, 1e4, 0, 0, 4096, 0, 0, 0, 0 },
    { "qwen3", "qwen3", 1e-6, 1e4, 0, 128, 4096, 0, 0, 1, 0 },
    { "gemma3", "gemma3", 1e-6, 1e6, 0, 256, 4096, 6, 1, 1, 1 },
};

static const family *family_of(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    return NULL;
}

static uint8_t *new_layers(mm_model *m, mm_err *err)
{
    uint8_t *local = mm_arena_zalloc(&m->arena, (size_t)m->tower[MM_TEXT].cfg.layers, 1);
    if (!local) mm_fail(err, MM_ENOMEM, "out of memory");
    else m->tower[MM_TEXT].cfg.local = local;
    return local;
}

static int check(const mm_tower_config *c, mm_err *err)
{
    if (!c->layers || !c->width || !c->ff_width || !c->heads || !c->vocab)
        return mm_fail(err, MM_EDATA, "the number of layers, width, heads or tokens is missing");
    if (c->heads % c->kv_heads)
        return mm_fail(err, MM_EDATA, "%lld heads cannot share %lld key heads", (long long)c->heads, (long long)c->kv_heads);
    if (c->head_dim % 2) return mm_fail(err, MM_EUNSUP, "a head of %lld channels cannot be rotated", (long long)c->head_dim);
    if (c->heads * c->head_dim > MM_MAX_WIDTH) return mm_fail(err, MM_EDATA, "heads are %lld channels wide", (long long)(c->heads * c->head_dim));
    return 0;
}

/* ---- config.json ---- */

static int rope_kind(const char *s, mm_rope *r, mm_err *err)
{
    static const char *const names[] = { "default", "linear", "llama3", "yarn" };
    for (int i = 0; i < 4; i++)
        if (!strcmp(s, names[i])) return r->scaling = (mm_rope_scaling)i, 0;
    return mm_fail(err, MM_EUNSUP, "rotary positions of type '%s' are not supported", s);
}

/* rope_scaling, or what newer versions call rope_parameters, which has the base too */
static int read_rope(const json_t *j, mm_rope *r, int64_t positions, mm_err *err)
{
    const char *kind, *old;
    double attention, scale, all;
    int e;
    if (!json_is_object(j)) return 0;
    if ((e = mm_json_get_str(j, "type", "default", &old, err)) || (e = mm_json_get_str(j, "rope_type", old, &kind, err)) ||
        (e = rope_kind(kind, r, err)) || (e = mm_config_num(j, "rope_theta", 1, 1e12, r->base, &r->base, err)) ||
        (e = mm_config_num(j, "factor", 1, 1e6, 1, &r->factor, err)) || (e = mm_config_num(j, "attention_factor", 0, 100, 0, &attention, err)) ||
        (e = mm_config_num(j, "mscale", 0, 100, 0, &scale, err)) || (e = mm_config_num(j, "mscale_all_dim", 0, 100, 0, &all, err)) ||
        (e = mm_config_num(j, "original_max_position_embeddings", 1, 1e9, (double)positions, &r->original, err)))
        return e;
    int yarn = r->scaling == MM_ROPE_YARN;
    if ((e = mm_config_num(j, yarn ? "beta_slow" : "low_freq_factor", 0.001, 1e6, 1, &r->low, err)) ||
        (e = mm_config_num(j, yarn ? "beta_fast" : "high_freq_factor", 0.001, 1e6, yarn ? 32 : 4, &r->high, err)))
        return e;
    r->attention = attention > 0 ? attention : 1;
    if (yarn && attention <= 0) {
        double log_factor = 0.1 * log(r->factor);
        r->attention = scale > 0 && all > 0 ? (scale * log_factor + 1) / (all * log_factor + 1) : log_factor + 1;
    }
    return 0;
}

/* Which layers see a window: by name, else by the family's rule. */
static int read_windows(mm_model *m, const json_t *j, const family *f, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    const json_t *types = json_object_get(j, "layer_types"), *near = json_object_get(j, "sliding_window");
    int use = 1, r;
    int64_t period, full;
    if ((r = mm_json_get_bool(j, "use_sliding_window", strncmp(f->name, "qwen", 4) != 0, &use, err)) ||
        (r = mm_json_get_int(j, "sliding_window", 1, INT32_MAX, f->near, &c->near, err)) ||
        (r = mm_json_get_int(j, "sliding_window_pattern", 1, MM_MAX_LAYERS, f->period, &period, err)) ||
        (r = mm_json_get_int(j, "max_window_layers", 0, INT32_MAX, 28, &full, err)))
        return r;
    if (json_is_null(near) || !use) c->near = 0;
    if (!c->near) return 0;
    uint8_t *local = new_layers(m, err);
    if (!local) return MM_ENOMEM;
    for (int64_t i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (type && strcmp(type, "sliding_attention") && strcmp(type, "full_attention"))
            return mm_fail(err, MM_EUNSUP, "layers of type '%s' are not supported", type);
        local[i] = type ? type[0] == 's' : period ? (i + 1) % period != 0 : !strncmp(f->name, "qwen", 4) ? i >= full : 1;
    }
    return 0;
}

/* What this block cannot do, where a checkpoint asks for it */
static int refuse(const json_t *j, mm_err *err)
{
    static const char *const caps[] = { "attn_logit_softcapping", "final_logit_softcapping" };
    double v;
    int r = mm_config_num(j, "partial_rotary_factor", 0, 1, 1, &v, err);
    if (!r && v < 1) r = mm_fail(err, MM_EUNSUP, "'partial_rotary_factor' is not supported");
    for (int i = 0; i < 2 && !r; i++)
        if (!(r = mm_json_get_num(j, caps[i], 0, &v, err)) && v != 0) r = mm_fail(err, MM_EUNSUP, "'%s' is not supported", caps[i]);
    return r;
}

static int read_json(mm_model *m, const json_t *j, const family *f, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    const char *act;
    double eps, scalar;
    int r;
    if ((r = refuse(j, err)) || (r = mm_json_get_int(j, "num_hidden_layers", 1, MM_MAX_LAYERS, 0, &c->layers, err)) ||
        (r = mm_json_get_int(j, "hidden_size", 1, MM_MAX_WIDTH, 0, &c->width, err)) ||
        (r = mm_json_get_int(j, "intermediate_size", 1, 4 * MM_MAX_WIDTH, 0, &c->ff_width, err)) ||
        (r = mm_json_get_int(j, "num_attention_heads", 1, MM_MAX_WIDTH, 0, &c->heads, err)) ||
        (r = mm_json_get_int(j, "num_key_value_heads", 1, MM_MAX_WIDTH, f->kv_heads ? f->kv_heads : c->heads, &c->kv_heads, err)) ||
        (r = mm_json_get_int(j, "head_dim", 1, 1024, f->head_dim ? f->head_dim : c->heads ? c->width / c->heads : 1, &c->head_dim, err)) ||
        (r = mm_json_get_int(j, "vocab_size", 1, INT32_MAX, 0, &c->vocab, err)) ||
        (r = mm_json_get_int(j, "max_position_embeddings", 1, 1 << 30, f->gemma ? 131072 : 2048, &c->positions, err)) ||
        (r = mm_json_get_bool(j, "tie_word_embeddings", f->tied, &c->tied, err)) ||
        (r = mm_config_num(j, "rms_norm_eps", 0, 1, f->eps, &eps, err)) ||
        (r = mm_config_num(j, "rope_theta", 1, 1e12, f->base, &c->rope.base, err)) ||
        (r = mm_json_get_str(j, f->gemma ? "hidden_activation" : "hidden_act", f->gemma ? "gelu_pytorch_tanh" : "silu", &act, err)) ||
        (r = mm_act_by_name(act, &c->act, err)) || (r = check(c, err)) || (r = read_windows(m, j, f, err)))
        return r;
    c->eps = (float)eps;
    c->rope_local = c->rope;
    const json_t *rope = json_object_get(j, "rope_parameters"), *full = json_object_get(rope, "full_attention");
    if (f->gemma && (r = mm_config_num(j, "rope_local_base_freq", 1, 1e12, 1e4, &c->rope_local.base, err))) return r;
    if ((r = read_rope(json_object_get(j, "rope_scaling"), &c->rope, c->positions, err)) ||
        (r = read_rope(full ? full : rope, &c->rope, c->positions, err)) ||
        (r = read_rope(json_object_get(rope, "sliding_attention"), &c->rope_local, c->positions, err)))
        return r;
    if (!f->gemma) c->rope_local = c->rope;
    if (f->gemma && (r = mm_config_num(j, "query_pre_attn_scalar", 1, 1e6, 256, &scalar, err))) return r;
    if (f->gemma) c->attn_scale = (float)(1 / sqrt(scalar));
    c->gain_plus_one = f->gemma;
    return 0;
}

/* ---- GGUF ---- */

static int key_int(const mm_store *st, const char *arch, const char *key, int64_t max, int64_t dflt, int64_t *out, mm_err *err)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return mm_store_kv_int(st, name, 0, max, dflt, out, err);
}

static int key_num(const mm_store *st, const char *arch, const char *key, double dflt, double *out, mm_err *err)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return mm_store_kv_num(st, name, dflt, out, err);
}

static int gguf_rope(const mm_store *st, const char *arch, mm_rope *r, int64_t positions, mm_err *err)
{
    char name[128];
    const char *kind;
    double attention;
    int e;
    snprintf(name, sizeof name, "%s.rope.scaling.type", arch);
    if ((e = mm_store_kv_str(st, name, "none", &kind, err)) || (e = rope_kind(!strcmp(kind, "none") ? "default" : kind, r, err)) ||
        (e = key_num(st, arch, "rope.scaling.factor", 1, &r->factor, err)) ||
        (e = key_num(st, arch, "rope.scaling.original_context_length", (double)positions, &r->original, err)) ||
        (e = key_num(st, arch, "rope.scaling.attn_factor", 1, &attention, err)) ||
        (e = key_num(st, arch, "rope.scaling.yarn_beta_slow", 1, &r->low, err)) ||
        (e = key_num(st, arch, "rope.scaling.yarn_beta_fast", 32, &r->high, err)))
        return e;
    if (!(r->factor >= 1 && r->factor <= 1e6 && r->original >= 1 && r->low > 0 && r->high > 0))
        return mm_fail(err, MM_EDATA, "the keys %s.rope.scaling.* make no sense", arch);
    r->attention = r->scaling == MM_ROPE_YARN ? attention * (1 + 0.1 * log(r->factor)) : attention;
    return 0;
}

static int read_gguf(mm_model *m, const family *f, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    const mm_store *st = m->store;
    const char *arch = f->arch;
    double eps;
    int64_t rotated, values;
    int r;
    const mm_store_tensor *tok = mm_store_find(st, "token_embd.weight");
    if (!tok || tok->ndim != 2) return mm_fail(err, MM_EDATA, "tensor token_embd.weight is missing");
    c->vocab = tok->shape[0];
    if ((r = key_int(st, arch, "block_count", MM_MAX_LAYERS, 0, &c->layers, err)) ||
        (r = key_int(st, arch, "embedding_length", MM_MAX_WIDTH, 0, &c->width, err)) ||
        (r = key_int(st, arch, "feed_forward_length", 4 * MM_MAX_WIDTH, 0, &c->ff_width, err)) ||
        (r = key_int(st, arch, "attention.head_count", MM_MAX_WIDTH, 0, &c->heads, err)) ||
        (r = key_int(st, arch, "attention.head_count_kv", MM_MAX_WIDTH, c->heads, &c->kv_heads, err)) ||
        (r = key_int(st, arch, "attention.key_length", 1024, c->heads ? c->width / c->heads : 0, &c->head_dim, err)) ||
        (r = key_int(st, arch, "attention.value_length", 1024, c->head_dim, &values, err)) ||
        (r = key_int(st, arch, "rope.dimension_count", 1024, c->head_dim, &rotated, err)) ||
        (r = key_int(st, arch, "context_length", 1 << 30, 0, &c->positions, err)) ||
        (r = key_int(st, arch, "attention.sliding_window", INT32_MAX, 0, &c->near, err)) ||
        (r = key_num(st, arch, "attention.layer_norm_rms_epsilon", f->eps, &eps, err)) ||
        (r = key_num(st, arch, "rope.freq_base", f->base, &c->rope.base, err)))
        return r;
    if (!c->kv_heads || !c->head_dim || !c->positions || !(c->rope.base >= 1 && c->rope.base <= 1e12) || !(eps >= 0 && eps <= 1))
        return mm_fail(err, MM_EDATA, "keys %s.* are missing or make no sense", arch);
    if (rotated != c->head_dim || values != c->head_dim)
        return mm_fail(err, MM_EUNSUP, "heads that are rotated in part, or have values of another width, are not supported");
    if ((r = check(c, err))) return r;
    c->rope_local = c->rope;
    if ((r = gguf_rope(st, arch, &c->rope, c->positions, err))) return r;
    if (f->gemma) c->rope_local.base = 1e4;
    else c->rope_local = c->rope;
    c->eps = (float)eps;
    c->tied = 2;
    c->act = f->gemma ? MMK_ACT_GELU_TANH : MMK_ACT_SILU;
    c->pairs = !strcmp(arch, "llama");
    if (!c->near) return 0;
    uint8_t *local = new_layers(m, err);
    for (int64_t i = 0; local && i < c->layers; i++) local[i] = f->period ? (i + 1) % f->period != 0 : 1;
    return local ? 0 : MM_ENOMEM;
}

/* j NULL: as GGUF keys say */
static int read_decoder(mm_model *m, const family *f, const json_t *j, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    c->prefix = "";
    m->via[MM_TEXT] = &m->tower[MM_TEXT];
    c->eos = -1;
    c->pre_norm = c->causal = c->rms = c->gated = 1;
    c->head_norms = f->head_norms;
    c->sum_norms = f->gemma;
    c->rope.attention = c->rope.factor = c->rope_local.attention = c->rope_local.factor = 1;
    int r = j ? read_json(m, j, f, err) : read_gguf(m, f, err);
    if (r) return r;
    c->window = c->positions;
    if (f->gemma) c->embd_scale = sqrtf((float)c->width);
    return 0;
}

int mm_config_decoder(mm_model *m, const char *type, const json_t *j, mm_err *err)
{
    const family *f = family_of(type);
    return f ? read_decoder(m, f, j, err) : mm_fail(err, MM_EUNSUP, "a decoder of model_type '%s' is not supported", type);
}

int mm_config_llama(mm_model *m, mm_err *err)
{
    const int gguf = mm_store_is_gguf(m->store);
    const json_t *j = gguf ? NULL : mm_store_config(m->store);
    if (json_object_get(j, "text_config")) return mm_fail(err, MM_EUNSUP, "config.json: a model with a part for pictures is not supported");
    int r = mm_config_decoder(m, m->family, j, err);
    return r && !gguf ? mm_err_prefix(err, "config.json: "), r : r;
}

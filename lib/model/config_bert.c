/* The bert family, from a Hugging Face folder or a GGUF. The pooling files are those of sentence-transformers; GGUF keys those of the GGUF
 * specification and llama.cpp, plus mm.* (mm-model(5)). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

static int pool_by_name(const char *s, mm_pool *pool, mm_err *err)
{
    static const char *const names[][2] = {
        { "mean", "mean" }, { "cls", "cls" }, { "lasttoken", "last" }, { "max", "max" }
    };
    for (int i = 0; i < 4; i++)
        if (!strcmp(s, names[i][0]) || !strcmp(s, names[i][1])) return *pool = (mm_pool)i, 0;
    return mm_fail(err, MM_EUNSUP, "pooling '%s' is not supported", s);
}

static int add_prompt(mm_model *m, const char *name, const char *text, mm_err *err)
{
    void *p = mm_realloc(m->prompts, m->n_prompts + 1, sizeof *m->prompts);
    if (p) m->prompts = p;
    char *n = mm_arena_strndup(&m->arena, name, strlen(name)), *t = mm_arena_strndup(&m->arena, text, strlen(text));
    if (!p || !n || !t) return mm_fail(err, MM_ENOMEM, "out of memory");
    m->prompts[m->n_prompts].name = n;
    m->prompts[m->n_prompts++].text = t;
    return 0;
}

/* ---- Hugging Face folder ---- */

static int read_pooling(mm_model *m, const char *dir, mm_err *err)
{
    static const char *const flags[][2] = { { "pooling_mode_cls_token", "cls" },
                                            { "pooling_mode_mean_tokens", "mean" },
                                            { "pooling_mode_max_tokens", "max" },
                                            { "pooling_mode_lasttoken", "lasttoken" },
                                            { "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len" },
                                            { "pooling_mode_weightedmean_tokens", "weightedmean" } };
    char name[256];
    json_t *j;
    snprintf(name, sizeof name, "%s%sconfig.json", dir, dir[0] ? "/" : "");
    int r = mm_config_file(m->store, name, &j, err);
    if (r) return r;
    if (!j) return mm_fail(err, MM_EDATA, "modules.json names a pooling step, but there is no '%s'", name);
    const char *mode = NULL;
    int n = 0;
    if ((r = mm_json_get_str(j, "pooling_mode", NULL, &mode, err))) goto end;
    if (mode) n = 1;
    for (size_t i = 0; !mode && i < sizeof flags / sizeof *flags; i++) {
        int on;
        if ((r = mm_json_get_bool(j, flags[i][0], 0, &on, err))) goto end;
        if (!on) continue;
        if (n++) {
            r = mm_fail(err, MM_EUNSUP, "'%s' joins several kinds of pooling, which is not supported", name);
            goto end;
        }
        mode = flags[i][1];
    }
    if (!mode) r = mm_fail(err, MM_EDATA, "'%s' names no kind of pooling", name);
    else r = pool_by_name(mode, &m->tower[MM_TEXT].cfg.pool, err);
    m->tower[MM_TEXT].cfg.pool_stated = !r;
end:
    json_decref(j);
    return r;
}

static int read_modules(mm_model *m, mm_err *err)
{
    json_t *j, *item;
    size_t i;
    int r = mm_config_file(m->store, "modules.json", &j, err);
    if (r || !j) return r;
    m->tower[MM_TEXT].cfg.normalize = 0;
    json_array_foreach(j, i, item)
    {
        const char *type, *path, *dot;
        if ((r = mm_json_get_str(item, "type", "", &type, err)) ||
            (r = mm_json_get_str(item, "path", "", &path, err)))
            break;
        dot = strrchr(type, '.');
        dot = dot ? dot + 1 : type;
        if (!strcmp(dot, "Pooling")) r = read_pooling(m, path, err);
        else if (!strcmp(dot, "Normalize")) m->tower[MM_TEXT].cfg.normalize = 1;
        else if (strcmp(dot, "Transformer")) r = mm_fail(err, MM_EUNSUP, "module '%s' is not supported", type);
        if (r) break;
    }
    json_decref(j);
    return r ? mm_err_prefix(err, "modules.json: "), r : 0;
}

static int read_prompts(mm_model *m, mm_err *err)
{
    json_t *j, *text;
    const char *name;
    int r = mm_config_file(m->store, "config_sentence_transformers.json", &j, err);
    if (r || !j) return r;
    json_object_foreach(json_object_get(j, "prompts"), name, text)
    {
        if (json_is_string(text)) r = add_prompt(m, name, json_string_value(text), err);
        if (r) break;
    }
    const char *dflt = NULL;
    if (!r) r = mm_json_get_str(j, "default_prompt_name", NULL, &dflt, err);
    if (!r && dflt && !(m->default_prompt = mm_arena_strndup(&m->arena, dflt, strlen(dflt))))
        r = mm_fail(err, MM_ENOMEM, "out of memory");
    json_decref(j);
    return r;
}

static int read_window(mm_model *m, mm_err *err)
{
    json_t *j;
    int r = mm_config_file(m->store, "sentence_bert_config.json", &j, err);
    if (r) return r;
    int64_t rows = m->tower[MM_TEXT].cfg.positions - m->tower[MM_TEXT].cfg.pos_offset;
    m->tower[MM_TEXT].cfg.window = rows;
    if (!j) return 0;
    r = mm_json_get_int(j, "max_seq_length", 3, rows, rows, &m->tower[MM_TEXT].cfg.window, err);
    json_decref(j);
    return r ? mm_err_prefix(err, "sentence_bert_config.json: "), r : 0;
}

static int read_bert_json(mm_model *m, const json_t *j, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    const char *act, *pos;
    double eps;
    int r;
    if ((r = mm_json_get_int(j, "num_hidden_layers", 1, MM_MAX_LAYERS, 12, &c->layers, err)) ||
        (r = mm_json_get_int(j, "hidden_size", 1, MM_MAX_WIDTH, 768, &c->width, err)) ||
        (r = mm_json_get_int(j, "intermediate_size", 1, 4 * MM_MAX_WIDTH, 3072, &c->ff_width, err)) ||
        (r = mm_json_get_int(j, "num_attention_heads", 1, c->width, 12, &c->heads, err)) ||
        (r = mm_json_get_int(j, "vocab_size", 1, INT32_MAX, 30522, &c->vocab, err)) ||
        (r = mm_json_get_int(j, "type_vocab_size", 0, 1 << 16, 2, &c->token_types, err)) ||
        (r = mm_json_get_int(j, "max_position_embeddings", 3, 1 << 24, 512, &c->positions, err)) ||
        (r = mm_json_get_num(j, "layer_norm_eps", 1e-12, &eps, err)) ||
        (r = mm_json_get_str(j, "hidden_act", "gelu", &act, err)) || (r = mm_act_by_name(act, &c->act, err)) ||
        (r = mm_json_get_str(j, "position_embedding_type", "absolute", &pos, err)))
        return r;
    if (strcmp(pos, "absolute")) return mm_fail(err, MM_EUNSUP, "position_embedding_type '%s' is not supported", pos);
    c->eps = (float)eps;
    c->kv_heads = c->heads;
    return 0;
}

static int read_folder(mm_model *m, mm_err *err)
{
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    const json_t *j = mm_store_config(m->store);
    int r = read_bert_json(m, j, err);
    if (r) return mm_err_prefix(err, "config.json: "), r;
    c->normalize = 1; /* without modules.json; it may say otherwise */
    if ((r = read_modules(m, err)) || (r = read_window(m, err)) || (r = read_prompts(m, err))) return r;
    c->head_dim = c->width / c->heads;
    return mm_tower_check(c, err);
}

/* ---- GGUF ---- */

static int kv_int(const mm_store *st, const char *arch, const char *key, int64_t min, int64_t max, int64_t dflt,
                  int64_t *out, mm_err *err)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s%s", arch, arch[0] ? "." : "", key);
    return mm_store_kv_int(st, name, min, max, dflt, out, err);
}

static int read_gguf(mm_model *m, mm_err *err)
{
    /* llama.cpp's numbers of pooling: 1 mean, 2 first token, 3 last */
    static const mm_pool pools[] = { MM_POOL_MEAN, MM_POOL_MEAN, MM_POOL_CLS, MM_POOL_LAST };
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    const mm_store *st = m->store;
    const char *const arch = "bert", *act, *mode;
    double eps;
    int64_t pool, n;
    int r, normalize;
    const mm_store_tensor *tok = mm_store_find(st, "token_embd.weight"),
                          *pos = mm_store_find(st, "position_embd.weight"),
                          *types = mm_store_find(st, "token_types.weight");
    if (!tok || tok->ndim != 2 || !pos || pos->ndim != 2)
        return mm_fail(err, MM_EDATA, "tensor token_embd.weight or position_embd.weight is missing");
    c->vocab = tok->shape[0];
    c->positions = pos->shape[0];
    c->token_types = types && types->ndim == 2 ? types->shape[0] : types ? 1 : 0;
    if ((r = kv_int(st, arch, "block_count", 1, MM_MAX_LAYERS, 0, &c->layers, err)) ||
        (r = kv_int(st, arch, "embedding_length", 1, MM_MAX_WIDTH, 0, &c->width, err)) ||
        (r = kv_int(st, arch, "feed_forward_length", 1, 4 * MM_MAX_WIDTH, 0, &c->ff_width, err)) ||
        (r = kv_int(st, arch, "attention.head_count", 1, MM_MAX_WIDTH, 0, &c->heads, err)) ||
        (r = kv_int(st, arch, "attention.key_length", 1, MM_MAX_WIDTH, 0, &c->head_dim, err)) ||
        (r = kv_int(st, arch, "context_length", 3, c->positions, c->positions, &c->window, err)) ||
        (r = kv_int(st, arch, "pooling_type", 0, 4, 0, &pool, err)) ||
        (r = mm_store_kv_num(st, "bert.attention.layer_norm_epsilon", 1e-12, &eps, err)) ||
        (r = mm_store_kv_str(st, "mm.activation", "gelu", &act, err)) || (r = mm_act_by_name(act, &c->act, err)) ||
        (r = mm_store_kv_str(st, "mm.pooling", "", &mode, err)) ||
        (r = mm_store_kv_bool(st, "mm.normalize", 1, &normalize, err)) ||
        (r = mm_store_kv_int(st, "mm.window", 3, c->window, c->window, &c->window, err)))
        return r;
    if (!c->layers || !c->width || !c->ff_width || !c->heads)
        return mm_fail(err, MM_EDATA,
                       "one of the keys %s.block_count, embedding_length, feed_forward_length, "
                       "attention.head_count is missing",
                       arch);
    if (mode[0]) r = pool_by_name(mode, &c->pool, err);
    else if (pool > 3) r = mm_fail(err, MM_EUNSUP, "%s.pooling_type %lld is not supported", arch, (long long)pool);
    else c->pool = pools[pool];
    if (r) return r;
    c->pool_stated = mode[0] || pool > 0;
    c->eps = (float)eps;
    c->kv_heads = c->heads;
    c->heads_apart = c->head_dim > 0;
    if (!c->heads_apart) c->head_dim = c->width / c->heads;
    if (c->heads * c->head_dim > MM_MAX_WIDTH)
        return mm_fail(err, MM_EDATA, "heads are %lld channels wide", (long long)(c->heads * c->head_dim));
    c->normalize = normalize;
    const mm_slice *names, *texts;
    size_t nn = 0, nt = 0;
    if ((r = mm_store_kv_strs(st, "mm.prompt.names", &names, &nn, err)) < 0 ||
        (r = mm_store_kv_strs(st, "mm.prompt.texts", &texts, &nt, err)) < 0)
        return r;
    for (n = 0; n < (int64_t)nn && n < (int64_t)nt; n++) {
        char *a = mm_arena_strndup(&m->arena, names[n].p, names[n].len),
             *b = mm_arena_strndup(&m->arena, texts[n].p, texts[n].len);
        if (!a || !b) return mm_fail(err, MM_ENOMEM, "out of memory");
        if ((r = add_prompt(m, a, b, err))) return r;
    }
    if ((r = mm_store_kv_str(st, "mm.prompt.default", "", &mode, err))) return r;
    if (mode[0] && !(m->default_prompt = mm_arena_strndup(&m->arena, mode, strlen(mode))))
        return mm_fail(err, MM_ENOMEM, "out of memory");
    return mm_tower_check(c, err);
}

int mm_config_bert(mm_model *m, mm_err *err)
{
    m->tower[MM_TEXT].cfg.prefix = "";
    m->tower[MM_TEXT].cfg.embd_norm = 1;
    m->via[MM_TEXT] = &m->tower[MM_TEXT];
    return mm_store_is_gguf(m->store) ? read_gguf(m, err) : read_folder(m, err);
}

const char *mm_model_prompt(const mm_model *m, const char *name)
{
    if (!name) name = m->default_prompt;
    for (size_t i = 0; name && i < m->n_prompts; i++)
        if (!strcmp(m->prompts[i].name, name)) return m->prompts[i].text;
    return NULL;
}

/* What goes in front of the tensors: keys, names. Keys of a model are those of the GGUF specification
 * (docs/gguf.md in github.com/ggml-org/ggml) and of llama.cpp's loader, which is also where the spelling
 * "seperator" comes from; what they cannot say has keys of our own, "mm.*" (mm-model(5)). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "model/mm_family.h"
#include "model/mm_model.h"
#include "quant/quant_int.h"

/* The last part of a path without an extension; "" for "." and the like. */
static void base_name(const char *path, char out[128])
{
    size_t len = strlen(path), n;
    while (len > 1 && path[len - 1] == '/') len--;
    for (n = len; n > 0 && path[n - 1] != '/'; n--) {}
    path += n;
    len -= n;
    if (len > 12 && !memcmp(path + len - 12, ".safetensors", 12)) len -= 12;
    if (len && path[0] == '.') len = 0;
    if (len > 80) len = 80;
    len = mm_utf8_valid(path, len);
    snprintf(out, 128, "%.*s", (int)len, path);
}

static int all_tensors(job *j)
{
    for (size_t i = 0; i < mm_store_count(j->st); i++) {
        j->out[j->n].t = mm_store_at(j->st, i);
        j->out[j->n].name = j->out[j->n].t->name;
        j->n++;
    }
    return 0;
}

/* keys of the container and of the types, which the writer sets anew */
static int skip_key(const char *key)
{
    return !strcmp(key, "general.file_type") || !strcmp(key, "general.quantization_version") ||
           !strcmp(key, "general.alignment") || !strncmp(key, "split.", 6);
}

/* The source's fingerprint, since coarser types do not keep what it is made from; and its name, which it is
 * part of. */
static void identity(job *j, const mm_model *m, int with_name)
{
    char hash[24], name[128];
    const char *f = mm_model_fingerprint(m), *at = strrchr(f, '@');
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)mm_model_source_hash(m));
    snprintf(name, sizeof name, "%.*s", (int)(at - f), f);
    mm_gguf_kv_str(j->w, "mm.fingerprint", hash);
    if (with_name && name[0]) mm_gguf_kv_str(j->w, "general.name", name);
}

static int pruned_gguf(job *j, const char *in, mm_err *err);

static int from_gguf(job *j, const char *in, mm_err *err)
{
    const char *arch, *name, *hash;
    mm_model *m;
    int r;
    if (j->o->prune) return pruned_gguf(j, in, err);
    if ((r = mm_store_kv_str(j->st, "general.architecture", "", &arch, err)) ||
        (r = mm_store_kv_str(j->st, "general.name", "", &name, err)) ||
        (r = mm_store_kv_str(j->st, "mm.fingerprint", "", &hash, err)))
        return r;
    snprintf(j->arch, sizeof j->arch, "%s", arch);
    mm_gguf_kv_copy(j->w, j->st, skip_key);
    j->family = 1;
    /* A file that this library cannot use as a model may still be converted for others. */
    if (!hash[0] && (mm_family_find(arch) || !strcmp(arch, "mm-uni")) && !mm_model_open(&m, in, NULL, NULL)) {
        identity(j, m, !name[0]);
        mm_model_close(&m);
    }
    return all_tensors(j);
}

/* A single file says nothing about a model: its tensors keep their names. */
static int from_tensors(job *j, const char *in)
{
    char name[128];
    base_name(in, name);
    snprintf(j->arch, sizeof j->arch, "mm-tensors");
    mm_gguf_kv_str(j->w, "general.architecture", j->arch);
    if (name[0]) mm_gguf_kv_str(j->w, "general.name", name);
    return all_tensors(j);
}

/* ---- Hugging Face folders ---- */

static void arch_u32(job *j, const char *key, int64_t v)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", j->arch, key);
    mm_gguf_kv_u32(j->w, name, (uint32_t)v);
}

static void shape_keys(job *j, const mm_tower_config *c)
{
    static const char *const acts[] = { [MMK_ACT_GELU_ERF] = "gelu",
                                        [MMK_ACT_GELU_TANH] = "gelu_new",
                                        [MMK_ACT_QUICK_GELU] = "quick_gelu",
                                        [MMK_ACT_SILU] = "silu",
                                        [MMK_ACT_RELU] = "relu" };
    static const struct {
        const char *name;
        int llama; /* llama.cpp's number of it; 0: none */
    } pools[] = { [MM_POOL_MEAN] = { "mean", 1 },
                  [MM_POOL_CLS] = { "cls", 2 },
                  [MM_POOL_LAST] = { "last", 3 },
                  [MM_POOL_MAX] = { "max", 0 } };
    char name[96];
    arch_u32(j, "block_count", c->layers);
    arch_u32(j, "context_length", c->positions - c->pos_offset);
    arch_u32(j, "embedding_length", c->width);
    arch_u32(j, "feed_forward_length", c->ff_width);
    arch_u32(j, "attention.head_count", c->heads);
    if (c->heads * c->head_dim != c->width) {
        arch_u32(j, "attention.key_length", c->head_dim);
        arch_u32(j, "attention.value_length", c->head_dim);
    }
    snprintf(name, sizeof name, "%s.attention.layer_norm_epsilon", j->arch);
    mm_gguf_kv_f32(j->w, name, c->eps);
    snprintf(name, sizeof name, "%s.attention.causal", j->arch);
    mm_gguf_kv_bool(j->w, name, c->causal);
    if (c->pool_stated) {
        arch_u32(j, "pooling_type", pools[c->pool].llama);
        mm_gguf_kv_str(j->w, "mm.pooling", pools[c->pool].name);
    }
    if (acts[c->act]) mm_gguf_kv_str(j->w, "mm.activation", acts[c->act]);
    mm_gguf_kv_bool(j->w, "mm.normalize", c->normalize);
    mm_gguf_kv_u32(j->w, "mm.window", (uint32_t)c->window);
}

typedef struct {
    mm_tok_role role;
    const char *key[3];
} token_role;
static const token_role roles[] = { { MM_TOK_CLS, { "bos", "cls", NULL } },
                                    { MM_TOK_SEP, { "eos", "seperator", NULL } },
                                    { MM_TOK_UNK, { "unknown", NULL } },
                                    { MM_TOK_PAD, { "padding", NULL } },
                                    { MM_TOK_MASK, { "mask", NULL } } };
enum { ROLES = sizeof roles / sizeof *roles };

/* Token i in the form of llama.cpp: words begin with U+2581, continuations have no mark, special tokens are as they are. */
static int token_text(job *j, const mm_tok *tok, size_t i, mm_slice *to, int32_t *type, mm_err *err)
{
    enum { NORMAL = 1, CONTROL = 3, UNUSED = 5 };
    const char *s = mm_tok_text(tok, (int32_t)i);
    mm_buf b = { 0 };
    *type = NORMAL;
    if (!s) {
        *type = UNUSED;
        mm_buf_addf(&b, "[PAD%zu]", i);
    } else {
        for (size_t k = 0; k < ROLES; k++)
            if (mm_tok_role_id(tok, roles[k].role) == (int32_t)i) *type = CONTROL;
        if (*type == NORMAL && strncmp(s, "##", 2)) mm_buf_adds(&b, "\xE2\x96\x81");
        mm_buf_adds(&b, *type == NORMAL && !strncmp(s, "##", 2) ? s + 2 : s);
    }
    *to = (mm_slice){ b.failed ? NULL : mm_arena_strndup(&j->arena, b.p, b.len), b.len };
    mm_buf_clear(&b);
    return to->p ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

/* The id that a token has in what is written; -1: none. */
static int32_t new_id(const job *j, int32_t id)
{
    if (!j->tokens) return id;
    for (size_t i = 0; i < j->n_tokens; i++)
        if (j->tokens[i] == id) return (int32_t)i;
    return -1;
}

/* n: rows of the table; one without a token still counts. */
static int tokenizer_keys(job *j, const mm_tok *tok, size_t n, const mm_tower_config *c, mm_err *err)
{
    mm_slice *v = mm_arena_alloc(&j->arena, n, sizeof *v);
    int32_t *type = mm_arena_alloc(&j->arena, n, sizeof *type);
    int r = v && type ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++) r = token_text(j, tok, i, &v[i], &type[i], err);
    if (r) return r;

    /* Does what is written make the same tokenizer? If not (added tokens, gaps), the original file comes
     * along. */
    int flags = mm_tok_bert_flags(tok);
    mm_tok_spec s = { .tokens = v,
                      .n = mm_tok_vocab(tok),
                      .word_marks = 1,
                      .lowercase = flags & 1,
                      .strip_accents = (flags & 2) != 0,
                      .chinese = (flags & 4) != 0,
                      .cls = mm_tok_role_id(tok, MM_TOK_CLS),
                      .sep = mm_tok_role_id(tok, MM_TOK_SEP),
                      .unk = mm_tok_role_id(tok, MM_TOK_UNK),
                      .pad = mm_tok_role_id(tok, MM_TOK_PAD),
                      .mask = mm_tok_role_id(tok, MM_TOK_MASK) };
    mm_tok *again;
    r = mm_tok_from_spec(&again, &s, err);
    const int same = !r && mm_tok_hash(again) == mm_tok_hash(tok);
    mm_tok_free(&again);
    if (r == MM_ENOMEM) return r;
    if (!same && j->tokens) return mm_fail(err, MM_EUNSUP, "the vocabulary of this tokenizer cannot be cut: it has added tokens or gaps");
    for (size_t i = 0; i < j->n_tokens; i++) { /* ascending, so that nothing is overwritten that is still wanted */
        v[i] = v[j->tokens[i]];
        type[i] = type[j->tokens[i]];
    }
    if (j->tokens) n = j->n_tokens;
    mm_gguf_kv_u32(j->w, "tokenizer.ggml.token_type_count", (uint32_t)c->token_types);
    mm_gguf_kv_str(j->w, "tokenizer.ggml.model", "bert");
    mm_gguf_kv_str(j->w, "tokenizer.ggml.pre", "default");
    mm_gguf_kv_strs(j->w, "tokenizer.ggml.tokens", v, n);
    mm_gguf_kv_ints(j->w, "tokenizer.ggml.token_type", type, n);
    for (size_t k = 0; k < ROLES; k++)
        for (size_t i = 0; roles[k].key[i]; i++) {
            int32_t id = new_id(j, mm_tok_role_id(tok, roles[k].role));
            char name[64];
            snprintf(name, sizeof name, "tokenizer.ggml.%s_token_id", roles[k].key[i]);
            if (id >= 0) mm_gguf_kv_u32(j->w, name, (uint32_t)id);
        }
    mm_gguf_kv_bool(j->w, "tokenizer.ggml.normalizer.lowercase", flags & 1);
    mm_gguf_kv_bool(j->w, "tokenizer.ggml.normalizer.strip_accents", flags & 2);
    mm_gguf_kv_bool(j->w, "mm.tokenizer.chinese", flags & 4);
    if (same) return 0;
    const char *p;
    size_t len;
    r = mm_store_file(j->st, "tokenizer.json", &p, &len, err);
    if (r) return r < 0 ? r : mm_fail(err, MM_EUNSUP, "this tokenizer cannot be written to GGUF");
    char *copy = mm_arena_strndup(&j->arena, p, len);
    if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
    mm_gguf_kv_str(j->w, "tokenizer.huggingface.json", copy);
    return 0;
}

/* sentence-transformers' prompts: texts put in front of an input, by name */
static int prompt_keys(job *j, mm_err *err)
{
    const char *p, *name, *dflt;
    size_t len, n = 0;
    int r = mm_store_file(j->st, "config_sentence_transformers.json", &p, &len, err);
    if (r) return r < 0 ? r : 0;
    json_t *c = mm_json_load(p, len, "config_sentence_transformers.json", err),
           *prompts = json_object_get(c, "prompts"), *text;
    if (!c) return MM_EDATA;
    mm_slice *v = mm_arena_alloc(&j->arena, 2 * json_object_size(prompts) + 1, sizeof *v),
             *t = v + json_object_size(prompts);
    if (!v) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r)
        json_object_foreach(prompts, name, text) {
            if (!json_is_string(text)) continue;
            v[n] = (mm_slice){ name, strlen(name) };
            t[n++] = (mm_slice){ json_string_value(text), json_string_length(text) };
        }
    if (n) {
        mm_gguf_kv_strs(j->w, "mm.prompt.names", v, n);
        mm_gguf_kv_strs(j->w, "mm.prompt.texts", t, n);
    }
    if (!r) r = mm_json_get_str(c, "default_prompt_name", "", &dflt, err);
    if (!r && dflt[0]) mm_gguf_kv_str(j->w, "mm.prompt.default", dflt);
    json_decref(c);
    return r;
}

/* Rows and columns, as the products see them: GGUF has four dimensions at most, and blocks run along the last. */
static const mm_store_tensor *fold(mm_store_tensor *to, const mm_store_tensor *t)
{
    int first = 0;
    while (t->ndim - first > 1 && t->shape[first] == 1) first++;
    *to = *t;
    to->ndim = t->ndim - first > 2 ? 2 : t->ndim - first;
    for (int i = 0; i < to->ndim; i++) to->shape[i] = t->shape[first + i];
    for (int i = first + 2; i < t->ndim; i++) to->shape[1] *= t->shape[i];
    return to;
}

static int folder_tensors(job *j, const mm_family *f, mm_err *err)
{
    for (size_t i = 0; i < mm_store_count(j->st); i++) {
        const mm_store_tensor *t = mm_store_at(j->st, i);
        char buf[128];
        const char *name = mm_family_canonical(f, t->name, buf);
        if (!name)
            return mm_fail(err, MM_EUNSUP, "tensor '%s' is not known for model_type '%s'", t->name, f->name);
        if (!name[0]) continue;
        j->out[j->n].t = fold(&j->out[j->n].folded, t);
        if (!(j->out[j->n].name = mm_arena_strndup(&j->arena, name, strlen(name))))
            return mm_fail(err, MM_ENOMEM, "out of memory");
        j->n++;
    }
    return 0;
}

/* What the keys of a GGUF cannot say comes along as it is: a folder's configuration files, each as one string. */
static int file_keys(job *j, mm_err *err)
{
    static const char *const names[] = { "config.json",           "open_clip_config.json", "preprocessor_config.json",
                                         "tokenizer_config.json", "tokenizer.json",        "vocab.json",
                                         "merges.txt" };
    int has_tokenizer = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *p;
        size_t len;
        char key[64];
        int r = has_tokenizer && i > 4 ? 1 : mm_store_file(j->st, names[i], &p, &len, err);
        if (r < 0) return r;
        if (r) continue;
        if (i == 4) has_tokenizer = 1;
        char *copy = mm_arena_strndup(&j->arena, p, len);
        if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
        snprintf(key, sizeof key, "mm.file.%s", names[i]);
        mm_gguf_kv_str(j->w, i == 4 ? "tokenizer.huggingface.json" : key, copy);
    }
    return 0;
}

static int not_pruned(const char *family, mm_err *err)
{
    return mm_fail(err, MM_EUNSUP, "only models of family bert are pruned, not '%s'", family);
}

static int from_folder(job *j, const char *in, mm_err *err)
{
    mm_model *m;
    int r = mm_model_open(&m, in, NULL, err);
    if (r) return r;
    if ((r = mm_model_load(m, err))) { /* checks all shapes */
        mm_model_close(&m);
        return r;
    }
    const mm_family *f = mm_family_find(mm_model_family(m));
    snprintf(j->arch, sizeof j->arch, "%s", f->name);
    j->family = 1;
    mm_gguf_kv_str(j->w, "general.architecture", j->arch);
    mm_gguf_kv_str(j->w, "general.type", "model");
    if (!j->o->prune) identity(j, m, 1);
    prune *p = NULL;
    if (!strcmp(f->name, "bert")) {
        mm_tower_config c = *mm_model_get_config(m, MM_TEXT);
        const size_t rows = (size_t)c.vocab;
        if (j->o->prune) r = prune_plan(&p, j, m, &c, err);
        if (!r) shape_keys(j, &c);
        if (!r) r = tokenizer_keys(j, mm_model_tokenizer(m), rows, &c, err);
        if (!r) r = prompt_keys(j, err);
    } else {
        r = j->o->prune ? not_pruned(f->name, err) : file_keys(j, err);
    }
    if (!r) r = folder_tensors(j, f, err);
    if (!r && p) r = prune_tensors(p, j, err);
    prune_free(p);
    mm_model_close(&m);
    return r;
}

/* keys that say what pruning changes */
static int skip_changed(const char *key)
{
    static const char *const changed[] = { "bert.block_count", "bert.context_length", "bert.embedding_length", "bert.feed_forward_length",
                                           "bert.attention.head_count", "bert.attention.head_count_kv", "bert.attention.key_length",
                                           "bert.attention.value_length", "bert.attention.layer_norm_epsilon", "bert.attention.causal",
                                           "bert.pooling_type", "mm.pooling", "mm.activation", "mm.normalize", "mm.window", "mm.fingerprint",
                                           "general.name", "general.size_label" };
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++)
        if (!strcmp(key, changed[i])) return 1;
    return skip_key(key);
}

static int skip_changed_and_tokenizer(const char *key)
{
    return skip_changed(key) || !strncmp(key, "tokenizer.", 10) || !strncmp(key, "mm.tokenizer.", 13);
}

static int pruned_gguf(job *j, const char *in, mm_err *err)
{
    mm_model *m;
    prune *p = NULL;
    int r = mm_model_open(&m, in, NULL, err); /* checks all shapes, of a bert */
    if (r) return r;
    snprintf(j->arch, sizeof j->arch, "%s", mm_model_family(m));
    j->family = 1;
    if (strcmp(j->arch, "bert")) r = not_pruned(j->arch, err);
    if (!r) {
        mm_tower_config c = *mm_model_get_config(m, MM_TEXT);
        const size_t rows = (size_t)c.vocab;
        r = prune_plan(&p, j, m, &c, err);
        mm_gguf_kv_copy(j->w, j->st, j->tokens ? skip_changed_and_tokenizer : skip_changed);
        if (!r) shape_keys(j, &c);
        if (!r && j->tokens) r = tokenizer_keys(j, mm_model_tokenizer(m), rows, &c, err);
    }
    if (!r) r = all_tensors(j);
    if (!r) r = prune_tensors(p, j, err);
    prune_free(p);
    mm_model_close(&m);
    return r;
}

int describe(job *j, const char *in, mm_err *err)
{
    const char *p;
    size_t len;
    if (mm_store_is_gguf(j->st)) return from_gguf(j, in, err);
    if (mm_store_config(j->st)) return from_folder(j, in, err);
    int r = mm_store_file(j->st, "open_clip_config.json", &p, &len, err);
    if (r > 0 && j->o->prune) return not_pruned("none", err);
    return r < 0 ? r : r ? from_tensors(j, in) : from_folder(j, in, err);
}

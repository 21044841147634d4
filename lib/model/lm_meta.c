/* What a checkpoint says about the beginning and the end of a text, and about turns: GGUF keys, or config.json, generation_config.json and
 * tokenizer_config.json. */
#include <string.h>
#include "model/lm_int.h"

static void add_end(mm_lm *lm, int64_t id)
{
    if (id < 0 || id >= mm_lm_tower(lm)->cfg.vocab || lm->n_end == MM_LM_ENDS || mm_lm_is_end(lm, (int32_t)id)) return;
    lm->end[lm->n_end++] = (int32_t)id;
}

/* Turns end in these whatever the files say: checkpoints whose eos is the end of a text only are common. */
static void ends_by_name(mm_lm *lm)
{
    static const char *const names[] = { "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<end_of_utterance>",
                                         "<|endoftext|>", "<|end_of_text|>", "<EOT>", "<eos>", "</s>" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) add_end(lm, mm_tok_id(lm->m->tok, names[i], strlen(names[i])));
}

static int gguf(mm_lm *lm, mm_err *err)
{
    static const char *const ends[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
    const mm_store *st = lm->m->store;
    int64_t id, bos;
    int r = mm_store_kv_int(st, "tokenizer.ggml.bos_token_id", -1, INT32_MAX, -1, &bos, err);
    for (size_t i = 0; i < 3 && !r; i++)
        if (!(r = mm_store_kv_int(st, ends[i], -1, INT32_MAX, -1, &id, err))) add_end(lm, id);
    lm->bos = (int32_t)bos;
    if (!r) r = mm_store_kv_str(st, "tokenizer.chat_template", NULL, &lm->chat_template, err);
    return r;
}

/* A number or a list of them */
static void ids_of(mm_lm *lm, const json_t *j)
{
    size_t i;
    const json_t *item;
    if (json_is_integer(j)) add_end(lm, json_integer_value(j));
    json_array_foreach(j, i, item) if (json_is_integer(item)) add_end(lm, json_integer_value(item));
}

/* "bos_token": "<s>" or {"content": "<s>", ...} */
static int32_t token_of(const mm_lm *lm, const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    const char *s = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
    return s ? mm_tok_id(lm->m->tok, s, strlen(s)) : -1;
}

static int keep_template(mm_lm *lm, const char *s, size_t len, mm_err *err)
{
    lm->chat_template = mm_arena_strndup(&lm->m->arena, s, len);
    return lm->chat_template ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

/* "chat_template": a text, or a list of named ones of which "default" is taken */
static int read_template(mm_lm *lm, const json_t *j, mm_err *err)
{
    const json_t *v = json_object_get(j, "chat_template"), *item;
    size_t i, len;
    const char *p;
    int r = mm_store_file(lm->m->store, "chat_template.jinja", &p, &len, err);
    if (r <= 0) return r ? r : keep_template(lm, p, len, err);
    json_t *own; /* of a processor: before the tokenizer's */
    if ((r = mm_config_file(lm->m->store, "chat_template.json", &own, err))) return r;
    const char *processors = json_string_value(json_object_get(own, "chat_template"));
    r = processors ? keep_template(lm, processors, strlen(processors), err) : 0;
    json_decref(own);
    if (r || lm->chat_template) return r;
    if (json_is_string(v)) return keep_template(lm, json_string_value(v), json_string_length(v), err);
    json_array_foreach(v, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name")), *text = json_string_value(json_object_get(item, "template"));
        if (name && text && !strcmp(name, "default")) return keep_template(lm, text, strlen(text), err);
    }
    return 0;
}

static int folder(mm_lm *lm, mm_err *err)
{
    const json_t *config = mm_store_config(lm->m->store), *bos = json_object_get(config, "bos_token_id");
    json_t *generation = NULL, *tok = NULL;
    int r = mm_config_file(lm->m->store, "generation_config.json", &generation, err);
    if (!r) r = mm_config_file(lm->m->store, "tokenizer_config.json", &tok, err);
    if (!r) {
        ids_of(lm, json_object_get(generation, "eos_token_id"));
        ids_of(lm, json_object_get(config, "eos_token_id"));
        add_end(lm, token_of(lm, tok, "eos_token"));
        lm->bos = token_of(lm, tok, "bos_token");
        if (lm->bos < 0 && json_is_integer(bos) && json_integer_value(bos) < mm_lm_tower(lm)->cfg.vocab) lm->bos = (int32_t)json_integer_value(bos);
        r = read_template(lm, tok, err);
    }
    json_decref(generation);
    json_decref(tok);
    return r;
}

int mm_lm_meta(mm_lm *lm, mm_err *err)
{
    lm->bos = -1;
    int r = mm_store_is_gguf(lm->m->store) ? gguf(lm, err) : folder(lm, err);
    if (!r) ends_by_name(lm);
    return r;
}

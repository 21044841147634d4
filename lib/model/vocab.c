/* The tokenizer, from whichever file the checkpoint has: tokenizer.json, else vocab.txt, else GGUF arrays. */
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

static int from_vocab_txt(mm_model *m, const char *p, size_t len, mm_err *err)
{
    const char *conf;
    size_t n;
    int lower = 1, r = mm_store_file(m->store, "tokenizer_config.json", &conf, &n, err);
    if (r < 0) return r;
    if (r == 0) {
        json_t *j = mm_json_load(conf, n, "tokenizer_config.json", err);
        r = j ? mm_json_get_bool(j, "do_lower_case", 1, &lower, err) : MM_EDATA;
        json_decref(j);
        if (r) return r;
    }
    return mm_tok_from_vocab(&m->tok, p, len, lower, err);
}

/* vocab.json and merges.txt, as CLIP's first checkpoints have them: the same as a tokenizer.json with CLIP's pipeline around the two. */
static const char clip_pipeline[] =
    "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"},{\"type\":\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
    "\"pattern\":{\"Regex\":\"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"},"
    "\"behavior\":\"Removed\",\"invert\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true}]},\"post_processor\":{\"type\":\"RobertaProcessing\","
    "\"sep\":[\"<|endoftext|>\",49407],\"cls\":[\"<|startoftext|>\",49406],\"trim_offsets\":false,"
    "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
    "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
    "\"unk_token\":\"<|endoftext|>\",\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"</w>\","
    "\"fuse_unk\":false}}";

static int from_merges(mm_model *m, const char *vocab, size_t vocab_len, mm_err *err)
{
    static const char *const special[] = { "<|startoftext|>", "<|endoftext|>" };
    const char *p;
    size_t len;
    int r = mm_store_file(m->store, "merges.txt", &p, &len, err);
    if (r) return r < 0 ? r : mm_fail(err, MM_EDATA, "there is vocab.json, but no merges.txt");
    json_t *v = mm_json_load(vocab, vocab_len, "vocab.json", err), *merges = json_array(), *added = json_array(), *j = NULL;
    char *text = NULL;
    if (!v) {
        r = MM_EDATA;
        goto end;
    }
    for (const char *end = p + len, *q; p < end; p = q + 1) {
        q = memchr(p, '\n', (size_t)(end - p));
        if (!q) q = end;
        size_t n = (size_t)(q - p);
        if (n && p[n - 1] == '\r') n--;
        if (n && !(p[0] == '#' && n > 8 && !memcmp(p, "#version", 8))) json_array_append_new(merges, json_stringn(p, n));
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *id = json_object_get(v, special[i]);
        if (!json_is_integer(id) || json_integer_value(id) != (json_int_t)(49406 + i)) {
            r = mm_fail(err, MM_EUNSUP, "vocab.json is not CLIP's: '%s' is not token %d", special[i], (int)(49406 + i));
            goto end;
        }
        json_array_append_new(added, json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", json_integer_value(id), "content", special[i], "single_word",
                                               0, "lstrip", 0, "rstrip", 0, "normalized", 1, "special", 1));
    }
    j = json_loads(clip_pipeline, 0, NULL);
    json_object_set(json_object_get(j, "model"), "vocab", v);
    json_object_set(json_object_get(j, "model"), "merges", merges);
    json_object_set(j, "added_tokens", added);
    text = json_dumps(j, JSON_COMPACT);
    r = text ? mm_tok_from_json(&m->tok, text, strlen(text), err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) mm_err_prefix(err, "vocab.json and merges.txt: ");
end:
    free(text);
    json_decref(v);
    json_decref(merges);
    json_decref(added);
    json_decref(j);
    return r;
}

/* Texts of some models are filled up to a length with the tokenizer's pad token. */
int mm_pad_id(const mm_model *m, int32_t dflt, int32_t *out, mm_err *err)
{
    json_t *j;
    *out = dflt;
    int r = mm_config_file(m->store, "tokenizer_config.json", &j, err);
    if (r || !j) return r;
    const json_t *pad = json_object_get(j, "pad_token");
    const char *text = json_string_value(json_is_object(pad) ? json_object_get(pad, "content") : pad);
    if (text && (*out = mm_tok_id(m->tok, text, strlen(text))) < 0)
        r = mm_fail(err, MM_EDATA, "tokenizer_config.json: pad_token '%s' is not in the vocabulary", text);
    json_decref(j);
    return r;
}

/* llama.cpp adds a bos where SentencePiece's kind says nothing, and none elsewhere. */
static int from_ggml(mm_model *m, const char *model, mm_err *err)
{
    const mm_store *st = m->store;
    mm_tok_ggml s = { .model = model };
    size_t scores, types;
    int64_t id[4];
    static const char *const keys[4] = { "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id",
                                         "tokenizer.ggml.padding_token_id" };
    int pieces = !strcmp(model, "llama"), r;
    if ((r = mm_store_kv_str(st, "tokenizer.ggml.pre", "default", &s.pre, err)) ||
        (r = mm_store_kv_strs(st, "tokenizer.ggml.tokens", &s.tokens, &s.n, err)) ||
        (r = mm_store_kv_strs(st, "tokenizer.ggml.merges", &s.merges, &s.n_merges, err)) ||
        (r = mm_store_kv_nums(st, "tokenizer.ggml.scores", &s.scores, &scores, err)) ||
        (r = mm_store_kv_ints(st, "tokenizer.ggml.token_type", &s.types, &types, err)) ||
        (r = mm_store_kv_bool(st, "tokenizer.ggml.add_bos_token", pieces, &s.add_bos, err)) ||
        (r = mm_store_kv_bool(st, "tokenizer.ggml.add_eos_token", 0, &s.add_eos, err)) ||
        (r = mm_store_kv_bool(st, "tokenizer.ggml.add_space_prefix", pieces, &s.space_prefix, err)))
        return r;
    if ((s.scores && scores != s.n) || (s.types && types != s.n))
        return mm_fail(err, MM_EDATA, "the arrays tokenizer.ggml.* are of different lengths");
    for (int i = 0; i < 4; i++)
        if ((r = mm_store_kv_int(st, keys[i], -1, INT32_MAX, -1, &id[i], err))) return r;
    s.bos = (int32_t)id[0];
    s.eos = (int32_t)id[1];
    s.unk = (int32_t)id[2];
    s.pad = (int32_t)id[3];
    return mm_tok_from_ggml(&m->tok, &s, err);
}

static int from_gguf(mm_model *m, mm_err *err)
{
    const mm_store *st = m->store;
    mm_tok_spec s = { .word_marks = 1, .chinese = 1 };
    const char *model, *json; /* the original file, where the arrays cannot say all of it */
    int64_t cls, bos, sep, unk, pad, mask;
    int r;
    if ((r = mm_store_kv_str(st, "tokenizer.huggingface.json", "", &json, err))) return r;
    if (json[0])
        return (r = mm_tok_from_json(&m->tok, json, strlen(json), err))
               ? mm_err_prefix(err, "tokenizer.huggingface.json: "),
               r : 0;
    if ((r = mm_store_kv_str(st, "tokenizer.ggml.model", "", &model, err))) return r;
    if (strcmp(model, "bert")) return from_ggml(m, model, err);
    if ((r = mm_store_kv_strs(st, "tokenizer.ggml.tokens", &s.tokens, &s.n, err)) ||
        (r = mm_store_kv_int(st, "tokenizer.ggml.bos_token_id", -1, INT32_MAX, -1, &bos, err)) ||
        (r = mm_store_kv_int(st, "tokenizer.ggml.cls_token_id", -1, INT32_MAX, bos, &cls, err)) ||
        (r = mm_store_kv_int(st, "tokenizer.ggml.seperator_token_id", -1, INT32_MAX, -1, &sep,
                             err)) || /* so spelt in the format */
        (r = mm_store_kv_int(st, "tokenizer.ggml.unknown_token_id", -1, INT32_MAX, -1, &unk, err)) ||
        (r = mm_store_kv_int(st, "tokenizer.ggml.padding_token_id", -1, INT32_MAX, -1, &pad, err)) ||
        (r = mm_store_kv_int(st, "tokenizer.ggml.mask_token_id", -1, INT32_MAX, -1, &mask, err)) ||
        (r = mm_store_kv_bool(st, "tokenizer.ggml.normalizer.lowercase", 1, &s.lowercase, err)) ||
        (r = mm_store_kv_bool(st, "tokenizer.ggml.normalizer.strip_accents", s.lowercase, &s.strip_accents, err)) ||
        (r = mm_store_kv_bool(st, "mm.tokenizer.chinese", 1, &s.chinese, err)))
        return r;
    s.cls = (int32_t)cls;
    s.sep = (int32_t)sep;
    s.unk = (int32_t)unk;
    s.pad = (int32_t)pad;
    s.mask = (int32_t)mask;
    return mm_tok_from_spec(&m->tok, &s, err);
}

int mm_tokenizer_load(mm_model *m, mm_err *err)
{
    const char *p;
    size_t len;
    int r;
    if (mm_store_is_gguf(m->store) && mm_store_file(m->store, "vocab.json", &p, &len, err)) {
        r = from_gguf(m, err);
    } else if ((r = mm_store_file(m->store, "tokenizer.json", &p, &len, err)) == 0) {
        if ((r = mm_tok_from_json(&m->tok, p, len, err))) mm_err_prefix(err, "tokenizer.json: ");
    } else if (r > 0 && (r = mm_store_file(m->store, "vocab.txt", &p, &len, err)) == 0) {
        if ((r = from_vocab_txt(m, p, len, err))) mm_err_prefix(err, "vocab.txt: ");
    } else if (r > 0 && (r = mm_store_file(m->store, "vocab.json", &p, &len, err)) == 0) {
        r = from_merges(m, p, len, err);
    } else if (r > 0) {
        r = mm_fail(err, MM_EDATA, "there is neither tokenizer.json nor vocab.txt nor vocab.json with merges.txt");
    }
    mm_tower_config *c = &m->tower[MM_TEXT].cfg;
    if (!r && c->clean && !m->opts.no_clean) r = mm_tok_clean_web(m->tok, err);
    if (!r && c->pad_to) r = mm_pad_id(m, 1, &c->pad, err);
    if (!r && mm_tok_vocab(m->tok) > (size_t)m->tower[MM_TEXT].cfg.vocab)
        r = mm_fail(err, MM_ESHAPE, "the tokenizer has %zu tokens, the table of embeddings %lld rows",
                    mm_tok_vocab(m->tok), (long long)m->tower[MM_TEXT].cfg.vocab);
    return r;
}

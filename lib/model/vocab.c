/* The tokenizer, from whichever file the checkpoint has: tokenizer.json, else vocab.txt, else GGUF arrays. */
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
    if (strcmp(model, "bert"))
        return mm_fail(err, MM_EUNSUP, "tokenizer of type '%s' is not supported", model[0] ? model : "(none)");
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
    if (mm_store_is_gguf(m->store)) {
        r = from_gguf(m, err);
    } else if ((r = mm_store_file(m->store, "tokenizer.json", &p, &len, err)) == 0) {
        if ((r = mm_tok_from_json(&m->tok, p, len, err))) mm_err_prefix(err, "tokenizer.json: ");
    } else if (r > 0 && (r = mm_store_file(m->store, "vocab.txt", &p, &len, err)) == 0) {
        if ((r = from_vocab_txt(m, p, len, err))) mm_err_prefix(err, "vocab.txt: ");
    } else if (r > 0) {
        r = mm_fail(err, MM_EDATA, "there is neither tokenizer.json nor vocab.txt");
    }
    if (!r && mm_tok_vocab(m->tok) > (size_t)m->cfg.vocab)
        r = mm_fail(err, MM_ESHAPE, "the tokenizer has %zu tokens, the table of embeddings %lld rows",
                    mm_tok_vocab(m->tok), (long long)m->cfg.vocab);
    return r;
}

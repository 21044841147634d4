/* tokenizer.json (Hugging Face tokenizers). The vocabulary is read in one streaming pass; the small parts become
 * trees. */
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

/* A component's "type"; "" when the component is null or absent. */
static int type_of(const json_t *j, const char *part, const char **type, mm_err *err)
{
    *type = "";
    if (!j || json_is_null(j)) return 0;
    int r = mm_json_get_str(j, "type", "", type, err);
    return r ? mm_err_prefix(err, "%s: ", part), r : 0;
}

static int unsupported(const char *part, const char *type, mm_err *err)
{
    return mm_fail(err, MM_EUNSUP, "%s of type '%s' is not supported", part, type[0] ? type : "(none)");
}

static int normalizer(mm_tok *t, const json_t *j, mm_err *err)
{
    const char *type;
    int r = type_of(j, "normalizer", &type, err);
    if (r) return r;
    t->clean = t->chinese = t->strip = t->lower = 0;
    if (!type[0]) return 0;
    if (strcmp(type, "BertNormalizer")) return unsupported("normalizer", type, err);
    if ((r = mm_json_get_bool(j, "clean_text", 1, &t->clean, err)) ||
        (r = mm_json_get_bool(j, "handle_chinese_chars", 1, &t->chinese, err)) ||
        (r = mm_json_get_bool(j, "lowercase", 1, &t->lower, err)))
        return r;
    /* null: accents go when the case goes */
    return mm_json_get_bool(j, "strip_accents", t->lower, &t->strip, err);
}

static int around(mm_tok *t, int after, int32_t id, mm_err *err)
{
    size_t *n = after ? &t->n_suffix : &t->n_prefix;
    if (*n == 8) return mm_fail(err, MM_EUNSUP, "post_processor adds more than 8 tokens");
    (after ? t->suffix : t->prefix)[(*n)++] = id;
    return 0;
}

static int template(mm_tok *t, const json_t *j, mm_err *err)
{
    const json_t *single = json_object_get(j, "single"), *special = json_object_get(j, "special_tokens"), *item;
    int after = 0, r = 0;
    size_t i, k;
    if (!json_is_array(single)) return mm_fail(err, MM_EDATA, "post_processor has no list 'single'");
    json_array_foreach(single, i, item)
    {
        const json_t *seq = json_object_get(item, "Sequence"), *tok = json_object_get(item, "SpecialToken");
        if (seq && after) return mm_fail(err, MM_EUNSUP, "post_processor repeats the text");
        if (seq) {
            after = 1;
            continue;
        }
        const char *name = json_string_value(json_object_get(tok, "id"));
        const json_t *ids = name ? json_object_get(json_object_get(special, name), "ids") : NULL, *id;
        if (!json_is_array(ids))
            return mm_fail(err, MM_EDATA, "post_processor: special token '%s' has no ids", name ? name : "?");
        json_array_foreach(ids, k, id)
        {
            if (!json_is_integer(id) || !mm_tok_text(t, (int32_t)json_integer_value(id)) ||
                json_integer_value(id) > INT32_MAX)
                return mm_fail(err, MM_EDATA, "post_processor: special token '%s' has an id outside the vocabulary",
                               name);
            if ((r = around(t, after, (int32_t)json_integer_value(id), err))) return r;
        }
    }
    return after ? 0 : mm_fail(err, MM_EDATA, "post_processor leaves out the text");
}

/* ["[CLS]", 101] */
static int pair(mm_tok *t, const json_t *j, const char *key, mm_tok_role role, mm_err *err)
{
    const json_t *v = json_object_get(j, key), *id = json_array_get(v, 1);
    if (!json_is_string(json_array_get(v, 0)) || !json_is_integer(id) || json_integer_value(id) > INT32_MAX ||
        !mm_tok_text(t, (int32_t)json_integer_value(id)))
        return mm_fail(err, MM_EDATA, "post_processor: '%s' should be a token and its id", key);
    t->role[role] = (int32_t)json_integer_value(id);
    return around(t, role == MM_TOK_SEP, t->role[role], err);
}

static int post_processor(mm_tok *t, const json_t *j, mm_err *err)
{
    const char *type;
    int r = type_of(j, "post_processor", &type, err);
    if (r || !type[0]) return r;
    if (!strcmp(type, "TemplateProcessing")) return template(t, j, err);
    if (strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return unsupported("post_processor", type, err);
    if ((r = pair(t, j, "cls", MM_TOK_CLS, err))) return r;
    return pair(t, j, "sep", MM_TOK_SEP, err);
}

/* A decoder is needed for output only: one that is not known takes nothing away from reading text. */
static int decoder(mm_tok *t, const json_t *j, mm_err *err)
{
    const char *type;
    int r = type_of(j, "decoder", &type, err);
    if (r || strcmp(type, "WordPiece")) return r;
    return mm_json_get_bool(j, "cleanup", 1, &t->cleanup, err);
}

static int added_tokens(mm_tok *t, const json_t *j, mm_err *err)
{
    size_t i;
    const json_t *item;
    if (j && !json_is_array(j)) return json_is_null(j) ? 0 : mm_fail(err, MM_EDATA, "added_tokens should be a list");
    json_array_foreach(j, i, item)
    {
        added a = { 0 };
        int64_t id;
        int r;
        if ((r = mm_json_get_int(item, "id", 0, INT32_MAX, -1, &id, err)) ||
            (r = mm_json_get_str(item, "content", NULL, &a.text, err)) ||
            (r = mm_json_get_bool(item, "single_word", 0, &a.single_word, err)) ||
            (r = mm_json_get_bool(item, "lstrip", 0, &a.lstrip, err)) ||
            (r = mm_json_get_bool(item, "rstrip", 0, &a.rstrip, err)) ||
            (r = mm_json_get_bool(item, "special", 0, &a.special, err)) ||
            (r = mm_json_get_bool(item, "normalized", !a.special, &a.normalized, err)))
            return mm_err_prefix(err, "added_tokens, number %zu: ", i), r;
        if (id < 0 || !a.text) return mm_fail(err, MM_EDATA, "added_tokens, number %zu has no id or content", i);
        a.id = (int32_t)id;
        a.len = strlen(a.text);
        if ((r = tok_add(t, &a, err))) return r;
    }
    return 0;
}

/* "vocab": {"[PAD]": 0, ...}, entered at it */
static int vocab(mm_tok *t, mm_json_iter *it, mm_err *err)
{
    mm_json_iter v;
    mm_slice key, val;
    mm_buf b = { 0 };
    int r = mm_json_enter(it, &v, err), more = 0;
    while (!r && (more = mm_json_next(&v, &key, &val, err)) > 0) {
        int64_t id = 0;
        size_t i = 0;
        for (; i < val.len && i < 10 && val.p[i] >= '0' && val.p[i] <= '9'; i++) id = id * 10 + (val.p[i] - '0');
        if (i < val.len || id > INT32_MAX) {
            r = mm_fail(err, MM_EDATA, "vocab: id of '%.*s' should be a whole number",
                        (int)(key.len < 80 ? key.len : 80), key.p);
            break;
        }
        if (memchr(key.p, '\\', key.len)) {
            mm_buf_reset(&b);
            r = mm_json_unescape(&b, (mm_slice){ key.p - 1, key.len + 2 }, err);
            if (!r) r = tok_put(t, (int32_t)id, b.p, b.len, IN_VOCAB, err);
        } else {
            r = tok_put(t, (int32_t)id, key.p, key.len, IN_VOCAB, err);
        }
    }
    mm_buf_clear(&b);
    if (!r) r = more;
    if (!r) mm_json_leave(it, &v);
    return r;
}

static int is(mm_slice key, const char *name) { return key.len == strlen(name) && !memcmp(key.p, name, key.len); }

static int string(mm_slice val, mm_buf *b, const char *what, mm_err *err)
{
    mm_buf_reset(b);
    if (val.p[0] != '"') return mm_fail(err, MM_EDATA, "model: '%s' should be a string", what);
    return mm_json_unescape(b, val, err);
}

static int model(mm_tok *t, mm_json_iter *it, mm_buf *unk, mm_err *err)
{
    mm_json_iter m;
    mm_slice key, val;
    mm_buf b = { 0 };
    int r = mm_json_enter(it, &m, err), more = 0, seen = 0;
    while (!r && (more = mm_json_key(&m, &key, err)) > 0) {
        /* a model of another type would be read in vain: its vocabulary is a list */
        if (is(key, "vocab") && m.p < m.end && *m.p == '{') {
            seen = 1;
            r = vocab(t, &m, err);
            continue;
        }
        if ((r = mm_json_skip(&m, &val, err))) break;
        if (is(key, "type")) {
            if (!(r = string(val, &b, "type", err)) && strcmp(b.p, "WordPiece"))
                r = unsupported("tokenizer model", b.p, err);
        } else if (is(key, "unk_token")) {
            r = string(val, unk, "unk_token", err);
        } else if (is(key, "continuing_subword_prefix")) {
            if (!(r = string(val, &b, "continuing_subword_prefix", err))) {
                t->cont_len = b.len;
                if (!(t->cont_mark = mm_arena_strndup(&t->arena, b.p, b.len)))
                    r = mm_fail(err, MM_ENOMEM, "out of memory");
            }
        } else if (is(key, "max_input_chars_per_word")) {
            double d = 0;
            if (mm_parse_double(val.p, val.len, &d) != val.len || d < 1 || d > 1e6)
                r = mm_fail(err, MM_EDATA, "model: max_input_chars_per_word should be a whole number");
            else t->max_chars = (size_t)d;
        }
    }
    mm_buf_clear(&b);
    if (!r) r = more;
    if (!r && !seen)
        r = mm_fail(err, MM_EUNSUP, "the tokenizer model is no WordPiece: it has no vocab of words to ids");
    if (!r) mm_json_leave(it, &m);
    return r;
}

static int build(mm_tok *t, const char *json, size_t len, mm_buf *unk, mm_err *err)
{
    enum { NORM, PRE, POST, MORE, DECODE, N };
    static const char *const parts[N] = { "normalizer", "pre_tokenizer", "post_processor", "added_tokens",
                                          "decoder" };
    json_t *part[N] = { 0 };
    mm_json_iter it;
    mm_slice key, val;
    const char *type;
    int r = mm_json_begin(&it, json, len, err), more = 0, have_model = 0;
    while (!r && (more = mm_json_key(&it, &key, err)) > 0) {
        if (is(key, "model") && !have_model) {
            have_model = 1;
            r = model(t, &it, unk, err);
            continue;
        }
        if ((r = mm_json_skip(&it, &val, err))) break;
        for (int i = 0; i < N; i++)
            if (is(key, parts[i]) && !part[i] && !(part[i] = mm_json_load(val.p, val.len, parts[i], err)))
                r = MM_EDATA;
    }
    if (!r) r = more;
    if (!r && !have_model) r = mm_fail(err, MM_EDATA, "there is no model");
    if (!r) r = normalizer(t, part[NORM], err);
    if (!r) r = type_of(part[PRE], parts[PRE], &type, err);
    if (!r && strcmp(type, "BertPreTokenizer")) r = unsupported(parts[PRE], type, err);
    if (!r) r = tok_index(t, err);
    if (!r) r = added_tokens(t, part[MORE], err);
    if (!r) t->role[MM_TOK_UNK] = map_get(t, &t->vocab, unk->p, unk->len);
    if (!r) r = tok_finish(t, err);
    if (!r) r = post_processor(t, part[POST], err);
    if (!r) r = decoder(t, part[DECODE], err);
    for (int i = 0; i < N; i++) json_decref(part[i]);
    if (r) return r;
    /* what the file does not say in so many words: by name, BERT's first */
    static const struct {
        mm_tok_role role;
        const char *name;
    } names[] = { { MM_TOK_CLS, "[CLS]" },   { MM_TOK_CLS, "<s>" },    { MM_TOK_SEP, "[SEP]" },
                  { MM_TOK_SEP, "</s>" },    { MM_TOK_PAD, "[PAD]" },  { MM_TOK_PAD, "<pad>" },
                  { MM_TOK_MASK, "[MASK]" }, { MM_TOK_MASK, "<mask>" } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (t->role[names[i].role] < 0) t->role[names[i].role] = mm_tok_id(t, names[i].name, strlen(names[i].name));
    return 0;
}

int mm_tok_from_json(mm_tok **out, const char *json, size_t len, mm_err *err)
{
    mm_buf unk = { 0 };
    int r = tok_begin(out, err);
    if (r) return r;
    if (mm_buf_adds(&unk, "[UNK]")) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) r = build(*out, json, len, &unk, err);
    mm_buf_clear(&unk);
    if (r) mm_tok_free(out);
    return r;
}

/* tokenizer.json (Hugging Face tokenizers). The vocabulary is read in one streaming pass; the small parts become
 * trees. */
#include <math.h>
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

static int keep(mm_tok *t, const char *s, size_t len, const char **out, size_t *out_len, mm_err *err)
{
    if (!(*out = mm_arena_strndup(&t->arena, s, len))) return mm_fail(err, MM_ENOMEM, "out of memory");
    *out_len = len;
    return 0;
}

/* obj[key] as a string, copied; "" when absent or null */
static int text_of(mm_tok *t, const json_t *obj, const char *key, const char **out, size_t *len, mm_err *err)
{
    const char *s;
    int r = mm_json_get_str(obj, key, "", &s, err);
    return r ? r : keep(t, s, strlen(s), out, len, err);
}

/* "pattern": {"String": ".."} or {"Regex": ".."} */
static int pattern(mm_tok *t, const json_t *j, const char *part, const char **s, size_t *len, match_fn **match,
                   mm_err *err)
{
    const json_t *v = json_object_get(j, "pattern"), *re = json_object_get(v, "Regex"),
                 *lit = json_object_get(v, "String");
    *match = NULL;
    if (!json_is_string(re) && !json_is_string(lit)) return mm_fail(err, MM_EDATA, "%s has no pattern", part);
    if (!re) return keep(t, json_string_value(lit), json_string_length(lit), s, len, err);
    if (!(*match = tok_regex(json_string_value(re), json_string_length(re))))
        return mm_fail(err, MM_EUNSUP, "%s: the regular expression '%.300s' is not supported", part,
                       json_string_value(re));
    return keep(t, json_string_value(re), json_string_length(re), s, len, err);
}

static int charsmap(mm_tok *t, const json_t *j, norm *n, mm_err *err)
{
    const char *s;
    mm_buf b = { 0 };
    int r = mm_json_get_str(j, "precompiled_charsmap", "", &s, err);
    if (r) return r;
    if ((r = mm_base64_decode(&b, s, strlen(s)))) r = mm_fail(err, r, "precompiled_charsmap is no base64");
    char *copy = r ? NULL : mm_arena_alloc(&t->arena, b.len + 64, 1); /* 64: aligned */
    if (!r && !copy) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && b.len) memcpy(copy, b.p, b.len);
    if (!r) r = tok_charsmap_open(n, copy, b.len, err);
    mm_buf_clear(&b);
    return r;
}

static int normalizer(mm_tok *t, const json_t *j, mm_err *err)
{
    static const struct {
        const char *name;
        norm_op op;
    } plain[] = { { "NFC", NORM_NFC },   { "NFD", NORM_NFD },         { "NFKC", NORM_NFKC },
                  { "NFKD", NORM_NFKD }, { "Lowercase", NORM_LOWER }, { "StripAccents", NORM_ACCENTS } };
    const char *type;
    size_t i;
    const json_t *item;
    norm n = { 0 };
    int r = type_of(j, "normalizer", &type, err);
    if (r || !type[0]) return r;
    if (!strcmp(type, "Sequence")) {
        json_array_foreach(json_object_get(j, "normalizers"), i, item)
            if ((r = normalizer(t, item, err))) return r;
        return 0;
    }
    if (t->norms == MAX_STEPS) return mm_fail(err, MM_EUNSUP, "normalizer has more than %d steps", MAX_STEPS);
    for (i = 0; i < sizeof plain / sizeof *plain && strcmp(type, plain[i].name); i++) {}
    if (i < sizeof plain / sizeof *plain) {
        n.op = plain[i].op;
    } else if (!strcmp(type, "BertNormalizer")) {
        n.op = NORM_BERT;
        if ((r = mm_json_get_bool(j, "clean_text", 1, &n.clean, err)) ||
            (r = mm_json_get_bool(j, "handle_chinese_chars", 1, &n.chinese, err)) ||
            (r = mm_json_get_bool(j, "lowercase", 1, &n.lower, err)))
            return r;
        r = mm_json_get_bool(j, "strip_accents", n.lower, &n.strip, err); /* null: accents go when the case goes */
    } else if (!strcmp(type, "Strip")) {
        n.op = NORM_STRIP;
        if ((r = mm_json_get_bool(j, "strip_left", 1, &n.left, err))) return r;
        r = mm_json_get_bool(j, "strip_right", 1, &n.right, err);
    } else if (!strcmp(type, "Replace")) {
        n.op = NORM_REPLACE;
        const json_t *re = json_object_get(json_object_get(j, "pattern"), "Regex");
        n.by_set = json_is_string(re) && tok_regex_set(json_string_value(re), json_string_length(re), n.set, &n.set_most);
        r = n.by_set ? keep(t, json_string_value(re), json_string_length(re), &n.from, &n.from_len, err)
                     : pattern(t, j, "normalizer", &n.from, &n.from_len, &n.match, err);
        if (r) return r;
        r = text_of(t, j, "content", &n.to, &n.to_len, err);
        if (!n.match && !n.from_len) r = mm_fail(err, MM_EUNSUP, "normalizer replaces an empty string");
    } else if (!strcmp(type, "Prepend")) {
        n.op = NORM_PREPEND;
        r = text_of(t, j, "prepend", &n.to, &n.to_len, err);
    } else if (!strcmp(type, "Precompiled")) {
        n.op = NORM_CHARSMAP;
        r = charsmap(t, j, &n, err);
    } else {
        return unsupported("normalizer", type, err);
    }
    if (!r) t->norm[t->norms++] = n;
    return r;
}

static int behavior(const json_t *j, split_how dflt, split_how *how, mm_err *err)
{
    static const char *const names[] = { [SPLIT_ISOLATED] = "Isolated",
                                         [SPLIT_REMOVED] = "Removed",
                                         [SPLIT_CONTIGUOUS] = "Contiguous",
                                         [SPLIT_PREVIOUS] = "MergedWithPrevious",
                                         [SPLIT_NEXT] = "MergedWithNext" };
    const char *s;
    int r = mm_json_get_str(j, "behavior", names[dflt], &s, err);
    if (r) return r;
    for (int i = 0; i < 5; i++)
        if (!strcmp(s, names[i])) return *how = (split_how)i, 0;
    return unsupported("pre_tokenizer: behavior", s, err);
}

static int metaspace(mm_tok *t, const json_t *j, pre *p, mm_err *err)
{
    const char *scheme;
    int prefix, r;
    p->op = PRE_METASPACE;
    if ((r = mm_json_get_bool(j, "add_prefix_space", 1, &prefix, err)) ||
        (r = mm_json_get_str(j, "prepend_scheme", prefix ? "always" : "never", &scheme, err)) ||
        (r = mm_json_get_bool(j, "split", 1, &p->split, err)) ||
        (r = text_of(t, j, "replacement", &p->mark, &p->mark_len, err)))
        return r;
    if (!p->mark_len) return mm_fail(err, MM_EDATA, "pre_tokenizer: metaspace has no replacement");
    if (!strcmp(scheme, "always")) p->prepend = PREPEND_ALWAYS;
    else if (!strcmp(scheme, "first")) p->prepend = PREPEND_FIRST;
    else if (!strcmp(scheme, "never")) p->prepend = PREPEND_NEVER;
    else return unsupported("pre_tokenizer: prepend_scheme", scheme, err);
    if (!prefix) p->prepend = PREPEND_NEVER;
    t->first_only |= p->prepend == PREPEND_FIRST;
    return 0;
}

static int pre_tokenizer(mm_tok *t, const json_t *j, mm_err *err)
{
    const char *type;
    size_t i;
    const json_t *item;
    pre p = { .op = PRE_MATCH };
    int flag, regex, r = type_of(j, "pre_tokenizer", &type, err);
    if (r || !type[0]) return r;
    if (!strcmp(type, "Sequence")) {
        json_array_foreach(json_object_get(j, "pretokenizers"), i, item)
            if ((r = pre_tokenizer(t, item, err))) return r;
        return 0;
    }
    if (t->pres + 2 > MAX_STEPS)
        return mm_fail(err, MM_EUNSUP, "pre_tokenizer has more than %d steps", MAX_STEPS - 1);
    if (t->byte_level) return mm_fail(err, MM_EUNSUP, "pre_tokenizer: '%s' after ByteLevel is not supported", type);
    if (!strcmp(type, "BertPreTokenizer")) {
        p.op = PRE_BERT;
    } else if (!strcmp(type, "ByteLevel")) {
        if ((r = mm_json_get_bool(j, "add_prefix_space", 1, &flag, err)) ||
            (r = mm_json_get_bool(j, "use_regex", 1, &regex, err)))
            return r;
        t->byte_level = 1;
        if (flag) t->pre[t->pres++] = (pre){ .op = PRE_PREFIX_SPACE };
        if (!regex) return 0;
        p.match = tok_match_gpt2;
    } else if (!strcmp(type, "Split")) {
        if ((r = pattern(t, j, "pre_tokenizer", &p.pattern, &p.pattern_len, &p.match, err)) ||
            (r = mm_json_get_bool(j, "invert", 0, &p.invert, err)))
            return r;
        p.mark = p.pattern;
        p.mark_len = p.pattern_len;
        r = behavior(j, SPLIT_ISOLATED, &p.how, err);
    } else if (!strcmp(type, "Metaspace")) {
        r = metaspace(t, j, &p, err);
    } else if (!strcmp(type, "Whitespace") || !strcmp(type, "WhitespaceSplit")) {
        p.invert = !type[10];
        p.match = p.invert ? tok_match_word : tok_match_space;
        p.how = SPLIT_REMOVED;
    } else if (!strcmp(type, "Digits")) {
        r = mm_json_get_bool(j, "individual_digits", 0, &flag, err);
        p.match = flag ? tok_match_number : tok_match_numbers;
    } else if (!strcmp(type, "Punctuation")) {
        p.match = tok_match_punct;
        r = behavior(j, SPLIT_ISOLATED, &p.how, err);
    } else {
        return unsupported("pre_tokenizer", type, err);
    }
    if (!p.pattern) {
        p.pattern = "";
        if (!r && strcmp(type, "Metaspace")) r = keep(t, type, strlen(type), &p.pattern, &p.pattern_len, err);
    }
    if (!r) t->pre[t->pres++] = p;
    return r;
}

static int around(mm_tok *t, int after, int32_t id, mm_err *err)
{
    size_t *n = after ? &t->n_after : &t->n_before;
    if (*n == 8) return mm_fail(err, MM_EUNSUP, "post_processor adds more than 8 tokens");
    (after ? t->after : t->before)[(*n)++] = id;
    return 0;
}

static int is_id(const mm_tok *t, const json_t *j)
{
    json_int_t id = json_is_integer(j) ? json_integer_value(j) : -1;
    return id >= 0 && id <= INT32_MAX && mm_tok_text(t, (int32_t)id);
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
            if (!is_id(t, id))
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
    if (!json_is_string(json_array_get(v, 0)) || !is_id(t, id))
        return mm_fail(err, MM_EDATA, "post_processor: '%s' should be a token and its id", key);
    t->role[role] = (int32_t)json_integer_value(id);
    return around(t, role == MM_TOK_SEP, t->role[role], err);
}

static int post_processor(mm_tok *t, const json_t *j, mm_err *err)
{
    const char *type;
    size_t i;
    const json_t *item;
    int r = type_of(j, "post_processor", &type, err);
    if (r || !type[0] || !strcmp(type, "ByteLevel")) return r; /* ByteLevel: it moves spans only */
    if (!strcmp(type, "Sequence")) {
        json_array_foreach(json_object_get(j, "processors"), i, item)
            if ((r = post_processor(t, item, err))) return r;
        return 0;
    }
    if (t->n_before || t->n_after) return mm_fail(err, MM_EUNSUP, "post_processor adds special tokens twice");
    if (!strcmp(type, "TemplateProcessing")) return template(t, j, err);
    if (strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return unsupported("post_processor", type, err);
    if ((r = pair(t, j, "cls", MM_TOK_CLS, err))) return r;
    return pair(t, j, "sep", MM_TOK_SEP, err);
}

/* A decoder is needed for output only: one that is not known takes nothing away from reading text. */
static int decoder(mm_tok *t, const json_t *j, mm_err *err)
{
    const char *type, *s, *of[4] = { "", "", "", "" };
    size_t i;
    const json_t *item, *list = json_object_get(j, "decoders");
    int r = type_of(j, "decoder", &type, err), k;
    if (r) return r;
    t->decode = DECODE_UNKNOWN;
    if (!type[0]) {
        t->decode = DECODE_NONE;
    } else if (!strcmp(type, "WordPiece")) {
        t->decode = DECODE_WORDPIECE;
        return mm_json_get_bool(j, "cleanup", 1, &t->cleanup, err);
    } else if (!strcmp(type, "ByteLevel")) {
        t->decode = DECODE_BYTES;
    } else if (!strcmp(type, "BPEDecoder")) {
        t->decode = DECODE_SUFFIX;
        return text_of(t, j, "suffix", &t->decode_mark, &t->decode_len, err);
    } else if (!strcmp(type, "Metaspace")) {
        if ((r = mm_json_get_bool(j, "add_prefix_space", 1, &k, err)) ||
            (r = mm_json_get_str(j, "prepend_scheme", k ? "always" : "never", &s, err)))
            return r;
        t->decode = DECODE_METASPACE;
        t->cleanup = strcmp(s, "never") != 0; /* the first token's mark goes */
        return text_of(t, j, "replacement", &t->decode_mark, &t->decode_len, err);
    } else if (!strcmp(type, "Sequence") &&
               json_array_size(list) <= 4) { /* SentencePiece's BPE: marks, bytes, one space less */
        json_array_foreach(list, i, item)
            if ((r = type_of(item, "decoder", &of[i], err))) return r;
        s = json_string_value(json_object_get(json_object_get(json_array_get(list, 0), "pattern"), "String"));
        if (!strcmp(of[0], "Replace") && s && !strcmp(s, "\xE2\x96\x81") && !strcmp(of[1], "ByteFallback") &&
            !strcmp(of[2], "Fuse") && (!of[3][0] || !strcmp(of[3], "Strip"))) {
            t->decode = DECODE_FALLBACK;
            t->cleanup = of[3][0] != 0;
        }
    }
    return 0;
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

/* A score as the reference reads it (serde_json without its float_roundtrip): up to 19 digits as an integer, then one
 * multiplication or division by a power of ten, so that the last bit may be wrong. Where two ways through a word are
 * equally good but for it, that bit decides. val is a valid number. */
static double score_of(mm_slice val)
{
    uint64_t digits = 0;
    int exponent = 0, full = 0, point = 0;
    size_t i = val.p[0] == '-';
    for (; i < val.len && (val.p[i] == '.' || (val.p[i] >= '0' && val.p[i] <= '9')); i++) {
        unsigned d = (unsigned)(val.p[i] - '0');
        if (val.p[i] == '.') {
            point = 1;
        } else if (full || digits > UINT64_MAX / 10 || (digits == UINT64_MAX / 10 && d > 5)) {
            full = 1;
            exponent += !point;
        } else {
            digits = digits * 10 + d;
            exponent -= point;
        }
    }
    if (i < val.len) { /* e, a sign, digits */
        int minus = val.p[i + 1] == '-', e = 0;
        for (i += 1 + (minus || val.p[i + 1] == '+'); i < val.len && e < 100000; i++) e = e * 10 + (val.p[i] - '0');
        exponent += minus ? -e : e;
    }
    double f = (double)digits;
    for (; exponent < -308 && f != 0; exponent += 308) f /= 1e308;
    if (exponent >= 0) f *= exponent > 308 ? INFINITY : pow(10, exponent);
    else if (f != 0) f /= pow(10, -exponent);
    return val.p[0] == '-' ? -f : f;
}

/* "vocab": [["<unk>", 0.0], ...], entered at it */
static int scored(mm_tok *t, mm_json_iter *it, mm_err *err)
{
    mm_json_iter v, pair;
    mm_slice key, val, name = { "", 0 };
    mm_buf b = { 0 };
    int r = mm_json_enter(it, &v, err), more = 0;
    for (int32_t id = 0; !r && (more = mm_json_next(&v, &key, &val, err)) > 0; id++) {
        double score = 0;
        int k = 0;
        if ((r = mm_json_begin(&pair, val.p, val.len, err))) break;
        for (; (more = mm_json_next(&pair, &key, &val, err)) > 0; k++) {
            if (k == 0) name = val;
            if (k == 1 && val.p[0] != '-' && (val.p[0] < '0' || val.p[0] > '9')) k = 9;
            if (k == 1 && !isfinite(score = score_of(val))) k = 9;
        }
        mm_buf_reset(&b);
        if (more < 0) r = more;
        else if (k != 2 || name.p[0] != '"')
            r = mm_fail(err, MM_EDATA, "vocab: token %d should be a pair of text and score", id);
        else r = mm_json_unescape(&b, name, err);
        if (!r) r = tok_put(t, id, b.p, b.len, IN_VOCAB, err);
        if (!r && t->n > t->score_cap) {
            double *p = mm_realloc(t->score, t->cap, sizeof *p);
            if (!p) r = mm_fail(err, MM_ENOMEM, "out of memory");
            else t->score = p, t->score_cap = t->cap;
        }
        if (!r) t->score[id] = score;
    }
    mm_buf_clear(&b);
    if (!r) r = more;
    if (!r) mm_json_leave(it, &v);
    return r;
}

/* A string value; null: as it was */
static int string(mm_slice val, mm_buf *b, const char *what, mm_err *err)
{
    if (mm_slice_is(val, "null")) return 0;
    mm_buf_reset(b);
    if (val.p[0] != '"') return mm_fail(err, MM_EDATA, "model: '%s' should be a string", what);
    return mm_json_unescape(b, val, err);
}

static int flag(mm_slice val, int *f, const char *what, mm_err *err)
{
    if (mm_slice_is(val, "true") || mm_slice_is(val, "false")) return *f = val.len == 4, 0;
    return mm_slice_is(val, "null") ? 0 : mm_fail(err, MM_EDATA, "model: '%s' should be true or false", what);
}

typedef struct { /* what the model says before its vocabulary is known */
    mm_buf type, unk, cont, suffix;
    mm_slice merges;
    int64_t unk_id;
    int listed, seen; /* a vocabulary of pairs, any */
} said;

static int whole(mm_slice val, int64_t max, int64_t *v, const char *what, mm_err *err)
{
    double d = 0;
    if (mm_parse_double(val.p, val.len, &d) != val.len || !(d >= 0 && d <= (double)max) || d != (double)(int64_t)d)
        return mm_fail(err, MM_EDATA, "model: '%s' should be a whole number up to %lld", what, (long long)max);
    *v = (int64_t)d;
    return 0;
}

static int model(mm_tok *t, mm_json_iter *it, said *m, mm_err *err)
{
    mm_json_iter in;
    mm_slice key, val;
    int64_t n = 0;
    int r = mm_json_enter(it, &in, err), more = 0;
    while (!r && (more = mm_json_key(&in, &key, err)) > 0) {
        if (mm_slice_is(key, "vocab") && in.p < in.end && (*in.p == '{' || *in.p == '[')) {
            if (m->seen++) return mm_fail(err, MM_EDATA, "model: two vocabularies");
            m->listed = *in.p == '[';
            r = m->listed ? scored(t, &in, err) : vocab(t, &in, err);
            continue;
        }
        if ((r = mm_json_skip(&in, &val, err))) break;
        if (mm_slice_is(key, "type")) r = string(val, &m->type, "type", err);
        else if (mm_slice_is(key, "unk_token")) r = string(val, &m->unk, "unk_token", err);
        else if (mm_slice_is(key, "continuing_subword_prefix")) r = string(val, &m->cont, "continuing_subword_prefix", err);
        else if (mm_slice_is(key, "end_of_word_suffix")) r = string(val, &m->suffix, "end_of_word_suffix", err);
        else if (mm_slice_is(key, "fuse_unk")) r = flag(val, &t->fuse_unk, "fuse_unk", err);
        else if (mm_slice_is(key, "byte_fallback")) r = flag(val, &t->byte_fallback, "byte_fallback", err);
        else if (mm_slice_is(key, "ignore_merges")) r = flag(val, &t->ignore_merges, "ignore_merges", err);
        else if (mm_slice_is(key, "merges")) m->merges = val;
        else if (mm_slice_is(key, "unk_id") && !mm_slice_is(val, "null")) r = whole(val, INT32_MAX, &m->unk_id, "unk_id", err);
        else if (mm_slice_is(key, "dropout") && !mm_slice_is(val, "null") && !mm_slice_is(val, "0.0") && !mm_slice_is(val, "0"))
            r = mm_fail(err, MM_EUNSUP, "model: dropout is not supported");
        else if (mm_slice_is(key, "max_input_chars_per_word") &&
                 !(r = whole(val, 1000000, &n, "max_input_chars_per_word", err)))
            t->max_chars = (size_t)n;
    }
    if (!r) r = more;
    if (!r) mm_json_leave(it, &in);
    return r;
}

/* ["a b", ...] or [["a", "b"], ...] */
static int merges(mm_tok *t, mm_slice list, mm_err *err)
{
    mm_json_iter it, two;
    mm_slice key, val, part;
    mm_buf a = { 0 }, b = { 0 };
    int r = mm_json_begin(&it, list.p, list.len, err), more = 0;
    while (!r && (more = mm_json_next(&it, &key, &val, err)) > 0) {
        mm_buf_reset(&a);
        mm_buf_reset(&b);
        if (val.p[0] == '[') {
            int k = 0;
            if ((r = mm_json_begin(&two, val.p, val.len, err))) break;
            while (!r && (more = mm_json_next(&two, &key, &part, err)) > 0)
                r = k < 2 && part.p[0] == '"' ? mm_json_unescape(k ? &b : &a, part, err) : 1, k++;
            if (!r) r = more < 0 ? more : k != 2;
        } else if (val.p[0] == '"') {
            r = mm_json_unescape(&b, val, err);
            char *blank = r || !b.len ? NULL : memchr(b.p, ' ', b.len);
            size_t n = blank ? (size_t)(blank - b.p) : 0;
            if (!r && (!blank || memchr(blank + 1, ' ', b.len - n - 1))) r = 1;
            if (!r) {
                mm_buf_add(&a, b.p, n);
                memmove(b.p, blank + 1, b.len - n); /* with its NUL */
                b.len -= n + 1;
                if (a.failed) r = mm_fail(err, MM_ENOMEM, "out of memory");
            }
        } else {
            r = 1;
        }
        if (r > 0) r = mm_fail(err, MM_EDATA, "merge %zu is no pair of texts", t->n_merges);
        if (!r) r = tok_bpe_merge(t, a.p ? a.p : "", a.len, b.p ? b.p : "", b.len, err);
    }
    mm_buf_clear(&a);
    mm_buf_clear(&b);
    return r ? r : more;
}

/* The vocabulary is complete: tables, merges, the unknown token. */
static int finish_model(mm_tok *t, const said *m, mm_err *err)
{
    const char *type = m->type.len     ? m->type.p
                       : m->merges.len ? "BPE"
                       : m->listed     ? "Unigram"
                                       : "WordPiece",
               *unk = m->unk.p;
    int r = 0;
    if (!m->seen) return mm_fail(err, MM_EDATA, "model: there is no vocabulary");
    if (!strcmp(type, "WordPiece")) t->model = MODEL_WORDPIECE;
    else if (!strcmp(type, "BPE")) t->model = MODEL_BPE;
    else if (!strcmp(type, "Unigram")) t->model = MODEL_UNIGRAM;
    else return unsupported("tokenizer model", type, err);
    if (m->listed != (t->model == MODEL_UNIGRAM))
        return mm_fail(err, MM_EDATA, "model: the vocabulary is not that of a %s", type);
    if (t->byte_level && t->model != MODEL_BPE)
        return mm_fail(err, MM_EUNSUP, "a %s model over bytes is not supported", type);
    if (m->cont.p || t->model != MODEL_WORDPIECE)
        r = keep(t, m->cont.p ? m->cont.p : "", m->cont.len, &t->cont_mark, &t->cont_len, err);
    if (!r && m->suffix.len) r = keep(t, m->suffix.p, m->suffix.len, &t->suffix, &t->suffix_len, err);
    if (!r) r = tok_index(t, err);
    if (t->model == MODEL_WORDPIECE && !unk) unk = "[UNK]";
    if (!r && t->model == MODEL_UNIGRAM) {
        if (m->unk_id < 0 || (size_t)m->unk_id >= t->n)
            return mm_fail(err, MM_EDATA, "model: unk_id is not in the vocabulary");
        t->role[MM_TOK_UNK] = (int32_t)m->unk_id;
    } else if (!r && unk) {
        if ((t->role[MM_TOK_UNK] = mm_tok_id(t, unk, strlen(unk))) < 0)
            return mm_fail(err, MM_EDATA, "the token for unknown words '%s' is not in the vocabulary", unk);
    }
    return r || t->model != MODEL_BPE || !m->merges.len ? r : merges(t, m->merges, err);
}

static int build(mm_tok *t, const char *json, size_t len, said *m, mm_err *err)
{
    enum { NORM, PRE, POST, MORE, DECODE, N };
    static const char *const parts[N] = { "normalizer", "pre_tokenizer", "post_processor", "added_tokens",
                                          "decoder" };
    json_t *part[N] = { 0 };
    mm_json_iter it;
    mm_slice key, val;
    int r = mm_json_begin(&it, json, len, err), more = 0, have_model = 0;
    while (!r && (more = mm_json_key(&it, &key, err)) > 0) {
        if (mm_slice_is(key, "model") && !have_model) {
            have_model = 1;
            r = model(t, &it, m, err);
            continue;
        }
        if ((r = mm_json_skip(&it, &val, err))) break;
        for (int i = 0; i < N; i++)
            if (mm_slice_is(key, parts[i]) && !part[i] && !(part[i] = mm_json_load(val.p, val.len, parts[i], err)))
                r = MM_EDATA;
    }
    if (!r) r = more;
    if (!r && !have_model) r = mm_fail(err, MM_EDATA, "there is no model");
    if (!r) r = normalizer(t, part[NORM], err);
    if (!r) r = pre_tokenizer(t, part[PRE], err);
    if (!r) r = finish_model(t, m, err);
    if (!r) r = added_tokens(t, part[MORE], err);
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
    said m = { .unk_id = -1 };
    int r = tok_begin(out, err);
    if (r) return r;
    r = build(*out, json, len, &m, err);
    mm_buf_clear(&m.type);
    mm_buf_clear(&m.unk);
    mm_buf_clear(&m.cont);
    mm_buf_clear(&m.suffix);
    if (r) mm_tok_free(out);
    return r;
}

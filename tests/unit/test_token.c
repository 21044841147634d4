/* Tokenizers: golden ids by the reference (tests/golden, written by scripts/parity/golden-tokens), the three sources
 * agree, spans, special tokens, what must be refused. */
#include <pthread.h>
#include <stdlib.h>
#include "base/mm_base.h"
#include "tap.h"
#include "token/mm_token.h"
#include "token/token_int.h"

static mm_err err;

static mm_buf golden(const char *name)
{
    const char *root = getenv("MM_ROOT");
    char path[1024];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/%s", root ? root : ".", name);
    if (mm_file_read(&b, path, 1 << 24, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return b;
}

static mm_tok *from_json(const char *s, size_t len)
{
    mm_tok *t = NULL;
    if (mm_tok_from_json(&t, s, len, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return t;
}

/* json with the first `from` in it replaced */
static mm_buf change(const mm_buf *json, const char *from, const char *to)
{
    mm_buf b = { 0 };
    const char *p = strstr(json->p, from);
    if (p) {
        mm_buf_add(&b, json->p, (size_t)(p - json->p));
        mm_buf_adds(&b, to);
        mm_buf_adds(&b, p + strlen(from));
    }
    return b;
}

static int same_ids(const mm_tok *t, const char *s, size_t len, const json_t *ids, int flags)
{
    mm_tok_out o = { 0 };
    int same = !mm_tok_encode(t, s, len, MM_TOK_SPECIAL | flags, &o, &err) && o.n == json_array_size(ids);
    for (size_t i = 0; i < o.n && same; i++) {
        same = o.ids[i] == json_integer_value(json_array_get(ids, i));
        if (flags & MM_TOK_SPANS) same &= o.span[i][0] <= o.span[i][1] && o.span[i][1] <= len;
    }
    if (!same) {
        printf("# '%.*s':", (int)len, s);
        for (size_t i = 0; i < o.n; i++) printf(" %d", o.ids[i]);
        char *want = json_dumps(ids, 0);
        printf(", want %s\n", want);
        free(want);
    }
    mm_tok_out_clear(&o);
    return same;
}

/* One kind: the tokenizer as it is under "ids", and each of its changed forms, whose answers stand there where they
 * differ. */
static void against_reference(const char *kind)
{
    char name[64];
    snprintf(name, sizeof name, "tok-%s.json", kind);
    mm_buf file = golden(name);
    snprintf(name, sizeof name, "tok-%s.jsonl", kind);
    mm_buf lines = golden(name);
    mm_tok *base = from_json(file.p, file.len);
    json_t *head = NULL;
    int texts = 0, bad = 0, bad_spans = 0, bad_text = 0, bad_changed = 0;
    for (char *p = lines.p, *nl; (nl = strchr(p, '\n')); p = nl + 1) {
        json_t *j = mm_json_load(p, (size_t)(nl - p), name, &err);
        const char *key, *s = json_string_value(json_object_get(j, "text"));
        json_t *v;
        if (!head) {
            head = j;
            continue;
        }
        size_t len = json_string_length(json_object_get(j, "text"));
        const json_t *ids = json_object_get(j, "ids"), *decoded = json_object_get(j, "decoded");
        texts++;
        bad += !same_ids(base, s, len, ids, 0);
        bad_spans += !same_ids(base, s, len, ids, MM_TOK_SPANS);
        json_object_foreach(json_object_get(head, "changes"), key, v)
        {
            mm_buf b =
                change(&file, json_string_value(json_array_get(v, 0)), json_string_value(json_array_get(v, 1)));
            mm_tok *t = from_json(b.p, b.len);
            const json_t *other = json_object_get(j, key);
            bad_changed += !same_ids(t, s, len, other ? other : ids, 0);
            mm_tok_free(&t);
            mm_buf_clear(&b);
        }
        mm_buf out = { 0 };
        int32_t list[1024];
        size_t n = json_array_size(ids);
        for (size_t i = 0; i < n && i < 1024; i++) list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        if (mm_tok_decode(base, list, n, &out, &err) || out.len != json_string_length(decoded) ||
            (out.len && memcmp(out.p, json_string_value(decoded), out.len))) {
            printf("# decoded '%s', want '%s'\n", out.p ? out.p : "", json_string_value(decoded));
            bad_text++;
        }
        mm_buf_clear(&out);
        json_decref(j);
    }
    ok(texts > 200 && !bad, "%s: ids of %d texts as the reference has them", kind, texts);
    ok(!bad_spans, "%s: the same with spans, which lie in the text", kind);
    ok(!bad_changed, "%s: with other settings", kind);
    ok(!bad_text, "%s: ids to text as the reference does it", kind);
    json_decref(head);
    mm_tok_free(&base);
    mm_buf_clear(&file);
    mm_buf_clear(&lines);
}

#define VOCAB                                                                 \
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\n,\nun\n##aff\n##" \
    "able\ncaf\xC3\xA9\ncafe\n\xE4\xB8\xAD\nworlds\n"

static mm_tok *small(void)
{
    mm_tok *t;
    if (mm_tok_from_vocab(&t, VOCAB, strlen(VOCAB), 1, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return t;
}

static void list(const mm_tok *t, const char *s, int flags, char *buf, size_t size)
{
    mm_tok_out o = { 0 };
    size_t n = 0;
    buf[0] = 0;
    if (mm_tok_encode(t, s, strlen(s), flags, &o, &err)) snprintf(buf, size, "%s", mm_err_name(err.code));
    for (size_t i = 0; i < o.n && n < size; i++) {
        n += (size_t)snprintf(buf + n, size - n, "%s%d", i ? " " : "", o.ids[i]);
        if (flags & MM_TOK_SPANS && n < size)
            n += (size_t)snprintf(buf + n, size - n, ":%u-%u", o.span[i][0], o.span[i][1]);
    }
    mm_tok_out_clear(&o);
}

static void by_hand(void)
{
    char b[512];
    mm_tok *t = small();
    size_t n;
    list(t, "Hello, WORLDS unaffable worldss x", 0, b, sizeof b);
    is_str(b, "5 8 15 9 10 11 15 7 1", "the longest token first, ## inside a word, unknown words as a whole");
    list(t, "Hello", MM_TOK_SPECIAL, b, sizeof b);
    is_str(b, "2 5 3", "special tokens around");
    list(t, "", MM_TOK_SPECIAL, b, sizeof b);
    is_str(b, "2 3", "no text: special tokens only");
    list(t,
         " Hello [MASK]\xE4\xB8\xAD"
         "caf\xC3\xA9s",
         MM_TOK_SPANS, b, sizeof b);
    is_str(b, "5:1-6 4:7-13 14:13-16 13:16-21 7:21-22", "spans: bytes of the text as it was");
    list(t, "bad \xFF", 0, b, sizeof b);
    is_str(b, "MM_EDATA", "invalid UTF-8 is refused");
    ok(strstr(err.msg, "byte 5") != NULL, "and the byte is named");
    is_int(mm_tok_id(t, "##able", 6), 11, "id of a token");
    is_int(mm_tok_id(t, "nowhere", 7), -1, "no id of what is no token");
    is_str(mm_tok_text(t, 9), "un", "text of an id");
    ok(!mm_tok_text(t, -1) && !mm_tok_text(t, 16), "no text of an id that does not exist");
    is_int((long long)mm_tok_vocab(t), 16, "size");
    ok(*mm_tok_prefix(t, &n) == 2 && n == 1 && *mm_tok_suffix(t, &n) == 3 && n == 1, "what goes around a text");
    ok(mm_tok_role_id(t, MM_TOK_UNK) == 1 && mm_tok_role_id(t, MM_TOK_MASK) == 4, "roles");
    int32_t none[1] = { 99 };
    mm_buf out = { 0 };
    is_int(mm_tok_decode(t, none, 1, &out, &err), MM_EDATA, "an id that does not exist cannot be decoded");
    mm_buf_clear(&out);
    mm_tok_free(&t);
    ok(!t, "freed and forgotten");
    mm_tok_free(&t);
}

/* vocab.txt, GGUF's arrays in both forms and tokenizer.json: one tokenizer */
static void sources(void)
{
    mm_tok *a = small(), *b = NULL, *c = NULL;
    mm_slice plain[16], marked[16];
    char text[16][32];
    size_t n = 0;
    mm_buf json = { 0 };
    mm_buf_adds(&json, "{\"added_tokens\":[");
    for (int i = 0; i < 5; i++)
        mm_buf_addf(&json,
                    "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                    "\"normalized\":false,\"special\":true}",
                    i ? "," : "", i, mm_tok_text(a, i));
    mm_buf_adds(&json,
                "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
                "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},"
                "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
                "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
                "\"max_input_chars_per_word\":100,\"vocab\":{");
    for (; n < mm_tok_vocab(a); n++) {
        const char *s = mm_tok_text(a, (int32_t)n);
        plain[n] = (mm_slice){ s, strlen(s) };
        snprintf(text[n], sizeof text[n], "%s%s", n < 5 || s[0] == '#' ? "" : "\xE2\x96\x81",
                 s + (s[0] == '#' ? 2 : 0));
        marked[n] = (mm_slice){ text[n], strlen(text[n]) };
        mm_buf_addf(&json, "%s\"%s\":%zu", n ? "," : "", s, n);
    }
    mm_buf_adds(&json, "}}}");
    mm_tok_spec s = { .tokens = plain,
                      .n = n,
                      .lowercase = 1,
                      .strip_accents = 1,
                      .chinese = 1,
                      .cls = 2,
                      .sep = 3,
                      .unk = 1,
                      .pad = 0,
                      .mask = 4 };
    ok(!mm_tok_from_spec(&b, &s, &err) && mm_tok_hash(b) == mm_tok_hash(a), "arrays with ##");
    mm_tok_free(&b);
    s.tokens = marked;
    s.word_marks = 1;
    ok(!mm_tok_from_spec(&b, &s, &err) && mm_tok_hash(b) == mm_tok_hash(a), "arrays with U+2581");
    ok(!mm_tok_from_json(&c, json.p, json.len, &err) && mm_tok_hash(c) == mm_tok_hash(a), "tokenizer.json");
    mm_tok_free(&b);
    s.lowercase = 0;
    ok(!mm_tok_from_spec(&b, &s, &err) && mm_tok_hash(b) != mm_tok_hash(a), "another setting, another hash");
    mm_tok_free(&b);
    s.unk = -1;
    is_int(mm_tok_from_spec(&b, &s, &err), MM_EDATA, "without an unknown token: refused");
    ok(!b, "and nothing is made");
    s.unk = 16;
    is_int(mm_tok_from_spec(&b, &s, &err), MM_EDATA, "a special id out of range: refused");
    mm_tok_free(&a);
    mm_tok_free(&c);

    static const struct {
        const char *what, *from, *to;
        int code;
    } wrong[] = {
        { "an unknown model", "\"WordPiece\",\"unk", "\"Nonsense\",\"unk", MM_EUNSUP },
        { "an unknown normaliser", "BertNormalizer", "OtherNormalizer", MM_EUNSUP },
        { "an unknown pre-tokenizer", "BertPreTokenizer", "OtherPreTokenizer", MM_EUNSUP },
        { "an unknown post-processor", "BertProcessing", "OtherProcessing", MM_EUNSUP },
        { "an id that is no number", ":15}", ":\"x\"}", MM_EDATA },
        { "an id that is negative", ":15}", ":-1}", MM_EDATA },
        { "an id that is huge", ":15}", ":99999999999}", MM_EDATA },
        { "an id used twice", ":15}", ":14}", MM_EDATA },
        { "an added token with another id than in the vocabulary", "{\"id\":4,", "{\"id\":5,", MM_EDATA },
        { "an added token without content", "\"content\":\"[MASK]\"", "\"x\":1", MM_EDATA },
        { "a post-processor with an id that does not exist", "[\"[SEP]\",3]", "[\"[SEP]\",333]", MM_EDATA },
        { "no unknown token", "\"unk_token\":\"[UNK]\"", "\"unk_token\":\"[NONE]\"", MM_EDATA },
        { "a flag that is no flag", "\"lowercase\":true", "\"lowercase\":3", MM_EDATA },
        { "a file that is cut", ":15}}}", ":15}", MM_EDATA },
        { "something after the end", ":15}}}", ":15}}}x", MM_EDATA },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mm_buf bad = change(&json, wrong[i].from, wrong[i].to);
        err = (mm_err){ 0 };
        int r = bad.p ? mm_tok_from_json(&b, bad.p, bad.len, &err) : 1;
        ok(r == wrong[i].code && !b && err.msg[0], "refused: %s (%s)", wrong[i].what, err.msg);
        mm_tok_free(&b);
        mm_buf_clear(&bad);
    }
    mm_buf_clear(&json);
}

/* Words and texts of unusual length */
static void lengths(void)
{
    mm_tok *t = small();
    mm_buf b = { 0 };
    mm_tok_out o = { 0 };
    for (int i = 0; i < 200000; i++) mm_buf_adds(&b, "\xCC\x81");
    ok(!mm_tok_encode(t, b.p, b.len, 0, &o, &err) && o.n == 0, "200,000 accents and nothing else");
    mm_buf_reset(&b);
    for (int i = 0; i < 200000; i++) mm_buf_adds(&b, "hello");
    ok(!mm_tok_encode(t, b.p, b.len, MM_TOK_SPANS, &o, &err) && o.n == 1 && o.ids[0] == 1 && o.span[0][1] == 1000000,
       "a word of a million letters is unknown");
    mm_buf_reset(&b);
    for (int i = 0; i < 100000; i++) mm_buf_adds(&b, "hello ");
    ok(!mm_tok_encode(t, b.p, b.len, MM_TOK_SPECIAL, &o, &err) && o.n == 100002, "100,000 words");
    mm_buf_clear(&b);
    mm_tok_out_clear(&o);
    mm_tok_free(&t);
}

/* Nothing takes time or memory out of proportion, whatever is repeated. */
static void repeated(const char *kind)
{
    static const char *const what[] = { "a",         " ",     "\n",   "\xCC\x81",        "\xCC\xA3\xCC\x81",
                                        "A\xCC\x81", "'",     "0",    "\xE4\xB8\xAD",    "<",
                                        "[MASK]",    " <b> ", "<r> ", "\xF0\x9F\x98\x80" };
    char name[64];
    int good = 1;
    snprintf(name, sizeof name, "tok-%s.json", kind);
    mm_buf file = golden(name), b = { 0 };
    mm_tok *t = from_json(file.p, file.len);
    mm_tok_out o = { 0 };
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        mm_buf_reset(&b);
        while (b.len < 200000) mm_buf_adds(&b, what[i]);
        good &= !mm_tok_encode(t, b.p, b.len, MM_TOK_SPECIAL | MM_TOK_SPANS, &o, &err);
    }
    ok(good, "%s: one thing again and again", kind);
    mm_buf_clear(&file);
    mm_buf_clear(&b);
    mm_tok_out_clear(&o);
    mm_tok_free(&t);
}

/* What every character is, as one number: it was right for these answers, so another one means that a library of
 * another Unicode version (or a change here) gives others. */
static void unicode(void)
{
    uint64_t h = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        int32_t d[2][32];
        char lower[8];
        if (c >= 0xD800 && c < 0xE000) continue;
        const int is[] = { tok_uni_category(c),   tok_uni_is_word(c), tok_uni_is_space(c),     tok_uni_is_number(c),
                           tok_uni_is_punct(c),   tok_uni_is_mark(c), tok_uni_is_combining(c), tok_uni_is_dropped(c),
                           tok_uni_is_chinese(c), tok_uni_class(c) };
        h = mm_hash64(is, sizeof is, h);
        h = mm_hash64(lower, tok_uni_lower(c, lower), h);
        for (int k = 0; k < 2; k++) h = mm_hash64(d[k], (size_t)tok_uni_decompose(c, k, d[k]) * sizeof **d, h);
    }
    if (!ok(h == 0xf67cdc7d396b818du, "characters are what they were when ids were compared"))
        printf("# sum %#llx\n", (unsigned long long)h);
    ok(tok_uni_compose('e', 0x301) == 0xE9 && tok_uni_compose(0x1112, 0x1161) == 0xD558 &&
           !tok_uni_compose(0xD558, 0x11A7) && !tok_uni_compose('q', 0x301) && !tok_uni_compose(0x11935, 0x11930),
       "composition");
}

static void *worker(void *arg)
{
    char b[512];
    for (int i = 0; i < 2000; i++) {
        list(arg, "Hello, [MASK] WORLDS unaffable caf\xC3\xA9", MM_TOK_SPANS, b, sizeof b);
        if (strcmp(b, "5:0-5 8:5-6 4:7-13 15:14-20 9:21-23 10:23-26 11:26-30 13:31-36")) return arg;
    }
    return NULL;
}

static void threads(void)
{
    mm_tok *t = small();
    pthread_t id[4];
    void *r, *bad = NULL;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&id[i], NULL, worker, t)) exit(1);
    for (int i = 0; i < 4; i++) pthread_join(id[i], &r), bad = r ? r : bad;
    ok(!bad, "four threads share one tokenizer");
    mm_tok_free(&t);
}

int main(void)
{
    static const char *const kinds[] = { "wordpiece", "bytes", "clip", "pieces", "unigram" };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        against_reference(kinds[i]);
        repeated(kinds[i]);
    }
    unicode();
    by_hand();
    sources();
    lengths();
    threads();
    return done();
}

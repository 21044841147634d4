/* mk_models - makes the model files that tests use, always the same bytes.
 *
 *   mk_models tinybert DIR     a Hugging Face folder: BERT of width 32, 2 layers, 4 heads, 64 positions, 135 tokens
 *   mk_models oddbert DIR      the same with width 40 and inner width 72, no multiples of a quantised block
 *   mk_models shards DIR       tinybert in two shards with an index
 *   mk_models safetensors DIR  good-*.safetensors, and bad-*.safetensors, one for every way to be refused
 *   mk_models gguf DIR         the same for GGUF
 *   mk_models block FILE       one float32 tensor [64, 256] with a zero row 3 and a spike, as .safetensors */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_base.h"
#include "store/mm_store.h"

static mm_err err;

static void check(int r)
{
    if (!r) return;
    fprintf(stderr, "mk_models: %s\n", err.msg);
    exit(1);
}

static const char *in_dir(const char *dir, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0777) && errno != EEXIST) check(mm_fail_errno(&err, "cannot create '%s'", path));
}

static void put(const char *dir, const char *name, const void *p, size_t len)
{
    mm_outfile f;
    check(mm_outfile_open(&f, in_dir(dir, name), &err));
    check(mm_outfile_write(&f, p, len, &err));
    check(mm_outfile_commit(&f, &err));
}

static void puts_to(const char *dir, const char *name, const char *s) { put(dir, name, s, strlen(s)); }

static uint64_t state;

/* uniform in [-1, 1), from a 64-bit linear congruential generator (Knuth's MMIX constants) */
static float rnd(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) / 8388608.0f - 1;
}

/* ---- a small BERT ---- */

static void vocabulary(mm_buf *txt, mm_buf *json, int *count)
{
    static const char *const words[] = {
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a_", "cat", "dog", "sat", "on", "mat", "run", "##ning", "##s",
        "##ed", "photo", "shrink", "many", "at", "once", "search", "by", "meaning", "hello", "world", "un", "##want", "cafe",
        "\xE4\xB8\xAD", "\xE6\x96\x87", "!", "?", ".", ",", "'", "-", ":", "\"", "#", "@" };
    char t[8];
    int n = 0;
    size_t nw = sizeof words / sizeof *words;
    for (size_t i = 0; i < nw + 94; i++) {
        const char *s = t;
        if (i < nw) s = words[i];
        else if (i < nw + 26) snprintf(t, sizeof t, "%c", 'a' + (int)(i - nw));
        else if (i < nw + 52) snprintf(t, sizeof t, "##%c", 'a' + (int)(i - nw - 26));
        else if (i < nw + 62) snprintf(t, sizeof t, "%c", '0' + (int)(i - nw - 52));
        else if (i < nw + 72) snprintf(t, sizeof t, "##%c", '0' + (int)(i - nw - 62));
        else snprintf(t, sizeof t, "%c%c", 'b' + (int)(i - nw - 72), 'e');
        mm_buf_addf(txt, "%s\n", s);
        if (n) mm_buf_addc(json, ',');
        mm_json_quote(json, s, strlen(s));
        mm_buf_addf(json, ":%d", n++);
    }
    *count = n;
}

typedef struct {
    char name[96];
    int type, ndim;
    int64_t shape[2];
    float scale, shift;
} desc;

static desc list[64];
static int n_list;

static void add(const char *name, int layer, int64_t rows, int64_t cols, float scale, float shift)
{
    desc *d = &list[n_list++];
    *d = (desc){ .type = MM_F32, .ndim = rows ? 2 : 1, .shape = { rows ? rows : cols, cols }, .scale = scale, .shift = shift };
    if (layer < 0) snprintf(d->name, sizeof d->name, "bert.%s", name);
    else snprintf(d->name, sizeof d->name, "bert.encoder.layer.%d.%s", layer, name);
}

static void weights(const char *path, int from, int to)
{
    mm_st_writer *w;
    json_t *meta = json_pack("{s:s}", "format", "pt");
    check(mm_st_create(&w, path, meta, &err));
    json_decref(meta);
    for (int i = from; i < to; i++) mm_st_tensor(w, list[i].name, list[i].type, list[i].ndim, list[i].shape);
    check(mm_st_begin(w, &err));
    for (int i = from; i < to; i++) {
        const desc *d = &list[i];
        int64_t n = d->shape[0] * (d->ndim == 2 ? d->shape[1] : 1);
        for (int64_t k = 0; k < n; k++) {
            float x = d->shift + d->scale * rnd();
            check(d->type == MM_I64 ? mm_st_data(w, &k, 8, &err) : mm_st_data(w, &x, 4, &err));
        }
    }
    check(mm_st_commit(&w, &err));
}

static void bert(const char *dir, int64_t width, int64_t ff, int shards)
{
    enum { LAYERS = 2, POSITIONS = 64 };
    int vocab;
    mm_buf txt = { 0 }, json = { 0 }, b = { 0 };
    make_dir(dir);
    vocabulary(&txt, &json, &vocab);
    mm_buf_addf(&b, "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"hidden_size\":%d,"
                "\"intermediate_size\":%d,\"layer_norm_eps\":1e-12,\"max_position_embeddings\":%d,\"num_attention_heads\":4,"
                "\"num_hidden_layers\":%d,\"pad_token_id\":0,\"type_vocab_size\":2,\"vocab_size\":%d}\n",
                (int)width, (int)ff, POSITIONS, LAYERS, vocab);
    put(dir, "config.json", b.p, b.len);
    put(dir, "vocab.txt", txt.p, txt.len);
    mm_buf_reset(&b);
    mm_buf_adds(&b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    static const char *const special[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };
    for (int i = 0; i < 5; i++)
        mm_buf_addf(&b, "%s{\"id\":%d,\"special\":true,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                    "\"normalized\":false}", i ? "," : "", i, special[i]);
    mm_buf_adds(&b, "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,"
                "\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"TemplateProcessing\","
                "\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{"
                "\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
                "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{");
    mm_buf_add(&b, json.p, json.len);
    mm_buf_adds(&b, "}}}\n");
    put(dir, "tokenizer.json", b.p, b.len);
    puts_to(dir, "tokenizer_config.json", "{\"do_lower_case\":true,\"tokenizer_class\":\"BertTokenizer\"}\n");
    puts_to(dir, "sentence_bert_config.json", "{\"max_seq_length\":48,\"do_lower_case\":false}\n");
    puts_to(dir, "config_sentence_transformers.json", "{\"prompts\":{\"query\":\"query: \",\"passage\":\"passage: \"}}\n");
    puts_to(dir, "modules.json", "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
            "{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},"
            "{\"idx\":2,\"name\":\"2\",\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}]\n");
    make_dir(in_dir(dir, "1_Pooling"));
    puts_to(dir, "1_Pooling/config.json", "{\"word_embedding_dimension\":32,\"pooling_mode_cls_token\":false,\"pooling_mode_mean_tokens\":true}\n");

    state = 1;
    n_list = 0;
    add("embeddings.word_embeddings.weight", -1, vocab, width, 0.8f, 0);
    add("embeddings.position_embeddings.weight", -1, POSITIONS, width, 0.2f, 0);
    add("embeddings.token_type_embeddings.weight", -1, 2, width, 0.2f, 0);
    add("embeddings.LayerNorm.weight", -1, 0, width, 0.1f, 1);
    add("embeddings.LayerNorm.bias", -1, 0, width, 0.1f, 0);
    for (int l = 0; l < LAYERS; l++) {
        static const char *const square[] = { "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense" };
        char name[64];
        float s = 2 / sqrtf((float)width);
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "%s.weight", square[i]);
            add(name, l, width, width, s, 0);
            snprintf(name, sizeof name, "%s.bias", square[i]);
            add(name, l, 0, width, 0.1f, 0);
        }
        add("attention.output.LayerNorm.weight", l, 0, width, 0.1f, 1);
        add("attention.output.LayerNorm.bias", l, 0, width, 0.1f, 0);
        add("intermediate.dense.weight", l, ff, width, s, 0);
        add("intermediate.dense.bias", l, 0, ff, 0.1f, 0);
        add("output.dense.weight", l, width, ff, s, 0);
        add("output.dense.bias", l, 0, width, 0.1f, 0);
        add("output.LayerNorm.weight", l, 0, width, 0.1f, 1);
        add("output.LayerNorm.bias", l, 0, width, 0.1f, 0);
    }
    add("pooler.dense.weight", -1, width, width, 0.1f, 0); /* not needed, as in real checkpoints */
    add("embeddings.position_ids", -1, 1, POSITIONS, 0, 0);
    list[n_list - 1].type = MM_I64;
    if (!shards) {
        weights(in_dir(dir, "model.safetensors"), 0, n_list);
    } else {
        static const char *const file[] = { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" };
        int half = n_list / 2;
        mm_buf_reset(&b);
        mm_buf_adds(&b, "{\"metadata\":{\"total_size\":0},\"weight_map\":{");
        for (int i = 0; i < n_list; i++) mm_buf_addf(&b, "%s\"%s\":\"%s\"", i ? "," : "", list[i].name, file[i >= half]);
        mm_buf_adds(&b, "}}\n");
        put(dir, "model.safetensors.index.json", b.p, b.len);
        weights(in_dir(dir, file[0]), 0, half);
        weights(in_dir(dir, file[1]), half, n_list);
    }
    mm_buf_clear(&txt);
    mm_buf_clear(&json);
    mm_buf_clear(&b);
}

/* ---- safetensors, good and bad ---- */

static void st_raw(const char *dir, const char *name, uint64_t len, const char *head, size_t head_len, const void *data, size_t n)
{
    mm_buf b = { 0 };
    char file[128];
    snprintf(file, sizeof file, "%s.safetensors", name);
    mm_buf_add(&b, &len, 8);
    mm_buf_add(&b, head, head_len);
    mm_buf_add(&b, data, n);
    put(dir, file, b.p, b.len);
    mm_buf_clear(&b);
}

static const uint8_t zeros[64];

static void st(const char *dir, const char *name, const char *head, size_t n)
{
    st_raw(dir, name, strlen(head), head, strlen(head), zeros, n);
}

#define T(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void safetensors(const char *dir)
{
    static const float nan_data[2] = { 1.0f, NAN };
    static const char one[] = "{" T("x", "F32", "[2]", 0, 8) "}";
    size_t n = strlen(one);
    char *pad = malloc(640), *deep = malloc(60000);
    if (!pad || !deep) exit(1);
    make_dir(dir);
    st(dir, "good-all", "{\"__metadata__\":{\"format\":\"pt\"}," T("a.f32", "F32", "[2,1]", 0, 8) "," T("b.f16", "F16", "[2]", 8, 12) ","
       T("c.bf16", "BF16", "[1]", 12, 14) "," T("d.i8", "I8", "[3]", 14, 17) "," T("e.empty", "F32", "[0,4]", 17, 17) ","
       T("f.scalar", "F32", "[]", 17, 21) "," T("g.bool", "BOOL", "[1]", 21, 22) "," T("h.u64", "U64", "[1]", 22, 30) "}", 30);
    st(dir, "good-none", "{}", 0);
    /* a header of 640 bytes: the file begins as a pickle would */
    memset(pad, ' ', 640);
    memcpy(pad, one, n);
    st_raw(dir, "good-640", 640, pad, 640, zeros, 8);
    st_raw(dir, "good-nan", n, one, n, nan_data, 8);

    put(dir, "bad-zero.safetensors", "", 0);
    put(dir, "bad-seven-bytes.safetensors", "1234567", 7);
    st_raw(dir, "bad-header-huge", (uint64_t)1 << 63, one, n, zeros, 8);
    st_raw(dir, "bad-header-large", (uint64_t)200 << 20, one, n, zeros, 8);
    st_raw(dir, "bad-header-cut", n + 100, one, n, zeros, 8);
    st_raw(dir, "bad-header-empty", 0, "", 0, zeros, 0);
    st_raw(dir, "bad-data-cut", n, one, n, zeros, 7);
    st(dir, "bad-trailing", one, 9);
    st(dir, "bad-not-json", "[1]", 0);
    st(dir, "bad-json-rest", "{} {}", 0);
    st(dir, "bad-unclosed", "{" T("x", "F32", "[2]", 0, 8), 8);
    st(dir, "bad-duplicate", "{" T("x", "F32", "[1]", 0, 4) "," T("x", "F32", "[1]", 4, 8) "}", 8);
    st(dir, "bad-duplicate-escaped", "{" T("x", "F32", "[1]", 0, 4) "," T("\\u0078", "F32", "[1]", 4, 8) "}", 8);
    st(dir, "bad-hole", "{" T("x", "F32", "[1]", 0, 4) "," T("y", "F32", "[1]", 8, 12) "}", 12);
    st(dir, "bad-overlap", "{" T("x", "F32", "[2]", 0, 8) "," T("y", "F32", "[2]", 4, 12) "}", 12);
    st(dir, "bad-reversed", "{" T("x", "F32", "[2]", 8, 0) "}", 8);
    st(dir, "bad-past-end", "{" T("x", "F32", "[2]", 0, 8) "," T("y", "F32", "[2]", 8, 16) "}", 8);
    st(dir, "bad-size", "{" T("x", "F32", "[3]", 0, 8) "}", 8);
    st(dir, "bad-negative", "{" T("x", "F32", "[-2]", 0, 8) "}", 8);
    st(dir, "bad-fraction", "{" T("x", "F32", "[2.0]", 0, 8) "}", 8);
    st(dir, "bad-overflow", "{" T("x", "F32", "[4294967296,4294967296,2]", 0, 8) "}", 8);
    st(dir, "bad-overflow-zero", "{" T("x", "F32", "[4294967296,4294967296,2,0]", 0, 0) "}", 0);
    st(dir, "bad-overflow-bytes", "{" T("x", "F64", "[4611686018427387905]", 0, 8) "}", 8);
    st(dir, "bad-ndim", "{" T("x", "F32", "[1,1,1,1,1,1,1,1,2]", 0, 8) "}", 8);
    st(dir, "bad-dtype", "{" T("x", "F33", "[2]", 0, 8) "}", 8);
    st(dir, "bad-dtype-block", "{" T("x", "q8_0", "[32]", 0, 34) "}", 34);
    st(dir, "bad-offsets-three", "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]}}", 8);
    st(dir, "bad-offsets-none", "{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8);
    st(dir, "bad-member-twice", "{\"x\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    st(dir, "bad-metadata", "{\"__metadata__\":{\"n\":1}," T("x", "F32", "[2]", 0, 8) "}", 8);
    st(dir, "bad-metadata-twice", "{\"__metadata__\":{},\"__metadata__\":{}," T("x", "F32", "[2]", 0, 8) "}", 8);
    st(dir, "bad-name-nul", "{" T("x\\u0000", "F32", "[2]", 0, 8) "}", 8);
    st(dir, "bad-utf8", "{" T("x\xFF", "F32", "[2]", 0, 8) "}", 8);
    memset(deep, '[', 60000);
    memcpy(deep, "{\"x\":", 5);
    st_raw(dir, "bad-deep", 60000, deep, 60000, zeros, 0);
    puts_to(dir, "bad-lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:"
            "0000000000000000000000000000000000000000000000000000000000000000\nsize 90868376\n");
    put(dir, "bad-pickle.safetensors", "\x80\x02}q\x00(X\x01\x00\x00\x00xq\x01K\x01u.aaaaaaaaaaaaaaaaaaaaaaaaa", 44);
    put(dir, "bad-zip.safetensors", "PK\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 16);
    puts_to(dir, "bad-html.safetensors", "<!DOCTYPE html><html><body>404</body></html>");
    free(pad);
    free(deep);
}

/* ---- GGUF ---- */

static mm_buf g;

static void u32(uint32_t v) { mm_buf_add(&g, &v, 4); }
static void u64(uint64_t v) { mm_buf_add(&g, &v, 8); }
static void bytes(const char *s, size_t n)
{
    u64(n);
    mm_buf_add(&g, s, n);
}
static void str(const char *s) { bytes(s, strlen(s)); }
static void head(uint32_t version, uint64_t tensors, uint64_t kvs)
{
    mm_buf_reset(&g);
    mm_buf_adds(&g, "GGUF");
    u32(version);
    u64(tensors);
    u64(kvs);
}
static void info(const char *name, uint32_t nd, uint64_t ne, uint32_t type, uint64_t off)
{
    str(name);
    u32(nd);
    for (uint32_t i = 0; i < nd; i++) u64(i ? 1 : ne);
    u32(type);
    u64(off);
}
static void finish(const char *dir, const char *name, size_t data)
{
    char file[128];
    snprintf(file, sizeof file, "%s.gguf", name);
    while (data && g.len % 32) mm_buf_addc(&g, 0);
    for (size_t i = 0; i < data; i++) mm_buf_addc(&g, (char)i);
    put(dir, file, g.p, g.len);
}
/* one key "k" of the given type with these bytes, no tensors */
static void one_key(const char *dir, const char *name, uint32_t type, const void *p, size_t n)
{
    head(3, 0, 1);
    str("k");
    u32(type);
    mm_buf_add(&g, p, n);
    finish(dir, name, 0);
}
/* one tensor, 32 float32 unless said otherwise */
static void one_tensor(const char *dir, const char *name, uint32_t nd, uint64_t ne, uint32_t type, uint64_t off, size_t data)
{
    head(3, 1, 0);
    info("x", nd, ne, type, off);
    finish(dir, name, data);
}

static void gguf(const char *dir)
{
    make_dir(dir);
    for (uint32_t version = 2; version <= 3; version++) { /* every type of value */
        head(version, 2, 17);
        static const uint8_t size[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
        static const uint8_t val[8] = { 1, 0, 0, 0, 0, 0, 0, 0 };
        char key[16];
        for (uint32_t t = 0; t < 13; t++) {
            snprintf(key, sizeof key, "k%u", t);
            str(key);
            u32(t);
            if (t == 8) str("text \xC3\xA9 \"quoted\"\n");
            else if (t == 9) u32(5), u64(3), u32(1), u32(2), u32(3);
            else mm_buf_add(&g, val, size[t]);
        }
        str("strings"), u32(9), u32(8), u64(2), str("a"), str("");
        str("empty"), u32(9), u32(4), u64(0);
        str("many"), u32(9), u32(0), u64(9), mm_buf_adds(&g, "123456789");
        str("nul"), u32(8), bytes("a\0b", 3);
        info("a", 1, 32, 0, 0);
        info("b", 2, 32, 8, 128);
        finish(dir, version == 2 ? "good-v2" : "good-v3", 128 + 34);
    }
    head(3, 0, 0), finish(dir, "good-none", 0);

    head(1, 0, 0), finish(dir, "bad-version-1", 0);
    head(4, 0, 0), finish(dir, "bad-version-4", 0);
    head(0x03000000, 0, 0), finish(dir, "bad-big-endian", 0);
    head(3, 0, UINT64_MAX), finish(dir, "bad-keys-huge", 64);
    head(3, UINT64_MAX, 0), finish(dir, "bad-tensors-huge", 64);
    head(3, 3, 0), finish(dir, "bad-tensors-missing", 80);
    mm_buf_reset(&g), mm_buf_add(&g, "GGUF\3\0\0\0\1", 9), finish(dir, "bad-header-cut", 0);
    one_key(dir, "bad-type", 13, zeros, 16);
    one_key(dir, "bad-value-cut", 10, zeros, 7);
    one_key(dir, "bad-bool", 7, "\2", 1);
    one_key(dir, "bad-string-huge", 8, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8);
    one_key(dir, "bad-array-huge", 9, "\4\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 12);
    one_key(dir, "bad-array-strings", 9, "\10\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a\xFF\0\0\0\0\0\0\0", 29);
    one_key(dir, "bad-array-nested", 9, "\11\0\0\0\1\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0", 24);
    one_key(dir, "bad-array-type", 9, "\77\0\0\0\0\0\0\0\0\0\0\0", 12);
    head(3, 0, 1), u64(70000), u64(0), finish(dir, "bad-key-long", 70000);
    head(3, 0, 1), bytes("", 0), u32(0), finish(dir, "bad-key-empty", 64);
    head(3, 0, 1), bytes("a\0b", 3), u32(0), mm_buf_addc(&g, 1), finish(dir, "bad-key-nul", 64);
    head(3, 0, 1), str("\xFF"), u32(0), mm_buf_addc(&g, 1), finish(dir, "bad-key-utf8", 64);
    head(3, 0, 2), str("k"), u32(4), u32(1), str("k"), u32(4), u32(2), finish(dir, "bad-key-twice", 0);
    for (int i = 0; i < 3; i++) {
        static const char *const name[] = { "bad-alignment-0", "bad-alignment-3", "bad-alignment-huge" };
        head(3, 0, 1), str("general.alignment"), u32(4), u32(i == 0 ? 0 : i == 1 ? 3 : 1u << 31), finish(dir, name[i], 0);
    }
    head(3, 0, 1), str("general.alignment"), u32(8), str("32"), finish(dir, "bad-alignment-text", 0);
    one_tensor(dir, "bad-ndim", 5, 32, 0, 0, 128);
    one_tensor(dir, "bad-dimension", 1, UINT64_MAX, 0, 0, 128);
    one_tensor(dir, "bad-bytes-overflow", 1, (uint64_t)1 << 62, 0, 0, 128);
    head(3, 1, 0), str("x"), u32(4);
    for (int i = 0; i < 4; i++) u64((uint64_t)1 << 20);
    u32(0), u64(0), finish(dir, "bad-overflow", 128);
    one_tensor(dir, "bad-tensor-type", 1, 32, 99, 0, 128);
    one_tensor(dir, "bad-tensor-own-type", 1, 32, 1000, 0, 128);
    one_tensor(dir, "bad-block", 1, 33, 8, 0, 128);
    one_tensor(dir, "bad-unaligned", 1, 8, 0, 4, 128);
    one_tensor(dir, "bad-offset", 1, 32, 0, (uint64_t)1 << 60, 128);
    one_tensor(dir, "bad-data-cut", 1, 32, 0, 0, 127);
    one_tensor(dir, "bad-data-none", 1, 32, 0, 0, 0);
    head(3, 2, 0), info("x", 1, 8, 0, 0), info("x", 1, 8, 0, 32), finish(dir, "bad-tensor-twice", 64);
    head(3, 2, 0), info("x", 1, 8, 0, 0), info("y", 1, 8, 0, 0), finish(dir, "bad-overlap", 64);
    head(3, 1, 2), str("split.count"), u32(4), u32(2), str("split.no"), u32(4), u32(1), info("x", 1, 8, 0, 0), finish(dir, "bad-split", 64);
    mm_buf_clear(&g);
}

static void block(const char *path)
{
    int64_t shape[2] = { 64, 256 };
    mm_st_writer *w;
    check(mm_st_create(&w, path, NULL, &err));
    mm_st_tensor(w, "w", MM_F32, 2, shape);
    check(mm_st_begin(w, &err));
    state = 7;
    for (int r = 0; r < 64; r++)
        for (int i = 0; i < 256; i++) {
            float x = r == 3 ? 0 : r == 5 && i == 100 ? 50 : rnd() * 0.1f;
            check(mm_st_data(w, &x, 4, &err));
        }
    check(mm_st_commit(&w, &err));
}

int main(int argc, char **argv)
{
    const char *what = argc == 3 ? argv[1] : "";
    if (!strcmp(what, "tinybert")) bert(argv[2], 32, 64, 0);
    else if (!strcmp(what, "oddbert")) bert(argv[2], 40, 72, 0);
    else if (!strcmp(what, "shards")) bert(argv[2], 32, 64, 1);
    else if (!strcmp(what, "safetensors")) safetensors(argv[2]);
    else if (!strcmp(what, "gguf")) gguf(argv[2]);
    else if (!strcmp(what, "block")) block(argv[2]);
    else return fprintf(stderr, "usage: mk_models tinybert|oddbert|shards|safetensors|gguf|block PATH\n"), 2;
    return 0;
}

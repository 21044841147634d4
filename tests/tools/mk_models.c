/* mk_models - makes the model files that tests use, always the same bytes.
 *
 *   mk_models tinybert DIR     a Hugging Face folder: BERT of width 32, 2 layers, 4 heads, 64 positions, 135 tokens
 *   mk_models oddbert DIR      the same with width 40 and inner width 72, no multiples of a quantised block
 *   mk_models shards DIR       tinybert in two shards with an index
 *   mk_models tower-NAME DIR   clip-vit-b32, siglip, imagebind ... with small towers: see tests/golden/tower-*.json
 *   mk_models tinyvlm DIR      a decoder that looks at pictures, 2 layers, squares of 32, and a chat template: see tests/golden/vlm-smolvlm.json
 *   mk_models safetensors DIR  good-*.safetensors, and bad-*.safetensors, one for every way to be refused
 *   mk_models gguf DIR         the same for GGUF
 *   mk_models uni FILE         a unified model of width 32, 2 layers, random, for all four modalities; a token a byte; its name is "default"
 *   mk_models heads FILE       the same with eight special tokens, a next-token head and a rectified-flow head
 *   mk_models tinylm DIR       a decoder of width 32, 3 layers, 512 positions, with the tokens of tests/golden/tok-bytes.json and a chat template
 *   mk_models block FILE       one float32 tensor [64, 256] with a zero row 3 and a spike, as .safetensors */
#include "../unit/tinytower.h"
#include "../unit/tinyuni.h"

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

/* A file of this tree's tests/golden. */
static mm_buf golden_file(const char *name)
{
    const char *root = getenv("MM_ROOT");
    char path[512];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/%s", root ? root : ".", name);
    check(mm_file_read(&b, path, 1 << 24, &err));
    return b;
}

static void tinyvlm(const char *dir)
{
    static const char template[] =
        "{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
        "{% for line in m['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}"
        "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";
    json_t *fixture = golden("vlm", "smolvlm"), *t = json_pack("{s:s}", "chat_template", template);
    vlm_folder(dir, fixture);
    json_to(dir, "chat_template.json", t);
    json_decref(fixture);
    json_decref(t);
}

static void tinylm(const char *dir)
{
    static const char template[] = "{% for m in messages %}{{ '<l>' + m.role + '\\n' + m.content + '<r>\\n' }}{% "
                                   "endfor %}{% if add_generation_prompt %}{{ '<l>assistant\\n' }}{% endif %}";
    mm_buf fixture = golden_file("lm-llama.json"), tok = golden_file("tok-bytes.json"), b = { 0 };
    json_t *j = mm_json_load(fixture.p, fixture.len, "lm-llama", &err), *config = json_object_get(j, "config");
    if (!j) check(MM_EDATA);
    json_object_set_new(config, "vocab_size", json_integer(704));
    json_object_set_new(config, "max_position_embeddings", json_integer(512));
    json_object_set_new(config, "bos_token_id", json_integer(0));
    json_object_set_new(config, "eos_token_id", json_integer(1));
    json_array_set_new(json_array_get(json_array_get(json_object_get(j, "tensors"), 0), 1), 0, json_integer(704));
    tower_folder(dir, j);
    put(dir, "tokenizer.json", tok.p, tok.len);
    mm_buf_addf(&b, "{\"bos_token\":\"<|begin|>\",\"eos_token\":\"<|endoftext|>\",\"chat_template\":\"%s\"}", template);
    put(dir, "tokenizer_config.json", b.p, b.len);
    json_decref(j);
    mm_buf_clear(&fixture);
    mm_buf_clear(&tok);
    mm_buf_clear(&b);
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
    if (!strcmp(what, "tinybert")) tinybert(argv[2], 32, 64, 0);
    else if (!strcmp(what, "oddbert")) tinybert(argv[2], 40, 72, 0);
    else if (!strcmp(what, "shards")) tinybert(argv[2], 32, 64, 1);
    else if (!strcmp(what, "safetensors")) safetensors(argv[2]);
    else if (!strcmp(what, "gguf")) gguf(argv[2]);
    else if (!strcmp(what, "uni") || !strcmp(what, "heads")) tiny_uni(argv[2], *what == 'h');
    else if (!strcmp(what, "tinylm")) tinylm(argv[2]);
    else if (!strcmp(what, "tinyvlm")) tinyvlm(argv[2]);
    else if (!strcmp(what, "block")) block(argv[2]);
    else if (!strncmp(what, "tower-", 6)) {
        json_t *fixture = tower_fixture(what + 6);
        tower_folder(argv[2], fixture);
        json_decref(fixture);
    }
    else return fprintf(stderr, "usage: mk_models tinybert|oddbert|shards|tower-NAME|safetensors|gguf|uni|heads|tinylm|tinyvlm|block PATH\n"), 2;
    return 0;
}

/* Model files: what is written comes back, every kind of source opens the same, names resolve. Files that
 * must be refused are in tests/t0300-model-files.sh. */
#include <unistd.h>
#include "tap.h"
#include "tinybert.h"

static char dir[] = "/tmp/mm-test-store-XXXXXX";

static char *at(const char *name)
{
    static char path[8][256];
    static int i;
    i = (i + 1) % 8;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static int exists(const char *path)
{
    struct stat st;
    return !stat(path, &st);
}

static int skip_b(const char *key) { return !strcmp(key, "b"); }

static void gguf(void)
{
    static const int64_t two[2] = { 2, 32 }, none[2] = { 0, 4 }, three[1] = { 3 };
    static const mm_slice strs[] = { { "a", 1 }, { "", 0 }, { "\xC3\xA9", 2 } };
    static const int32_t ints[] = { -1, 0, INT32_MAX };
    static const float nums[] = { 0.5f, -0.0f };
    float m[64], v[3] = { 1, 2, 3 };
    mm_gguf_writer *w;
    mm_store *st;
    for (int i = 0; i < 64; i++) m[i] = (float)i;
    check(mm_gguf_create(&w, at("a.gguf"), &err));
    mm_gguf_kv_str(w, "general.architecture", "test");
    mm_gguf_kv_u32(w, "u", UINT32_MAX);
    mm_gguf_kv_f32(w, "f", 0.1f);
    mm_gguf_kv_bool(w, "b", 7);
    mm_gguf_kv_strs(w, "strs", strs, 3);
    mm_gguf_kv_ints(w, "ints", ints, 3);
    mm_gguf_kv_nums(w, "nums", nums, 2);
    mm_gguf_kv_strs(w, "nothing", NULL, 0);
    mm_gguf_tensor(w, "v", MM_F32, 1, three);
    mm_gguf_tensor(w, "empty", MM_F32, 2, none);
    mm_gguf_tensor(w, "m", MM_F32, 2, two);
    mm_gguf_tensor(w, "scalar", MM_F32, 0, NULL);
    check(mm_gguf_begin(w, &err));
    check(mm_gguf_data(w, v, 4, &err));
    check(mm_gguf_data(w, v + 1, 8, &err));
    check(mm_gguf_data(w, m, sizeof m, &err));
    check(mm_gguf_data(w, v, 4, &err));
    is_int(mm_gguf_data(w, v, 1, &err), MM_EARG, "gguf: more data than announced");
    ok(!exists(at("a.gguf")), "gguf: no file before commit");
    check(mm_gguf_commit(&w, &err));
    ok(!w, "gguf: commit ends the writer");

    check(mm_store_open(&st, at("a.gguf"), &err));
    ok(mm_store_is_gguf(st) && mm_store_count(st) == 4, "gguf: four tensors");
    const mm_store_tensor *t = mm_store_find(st, "m");
    ok(t && t->ndim == 2 && t->shape[0] == 2 && t->shape[1] == 32 && t->bytes == 256 &&
           !memcmp(t->data, m, 256),
       "gguf: matrix");
    ok(t && (size_t)((const char *)t->data - (const char *)mm_store_at(st, 0)->data) % 32 == 0,
       "gguf: data aligned to 32");
    mm_store_release(st, t);
    ok(!memcmp(t->data, m, 256), "data stays valid after release");
    t = mm_store_find(st, "empty");
    ok(t && t->bytes == 0 && t->shape[0] == 0 && t->shape[1] == 4, "gguf: empty tensor");
    t = mm_store_find(st, "scalar");
    ok(t && t->ndim == 0 && t->bytes == 4, "gguf: scalar");
    ok(!mm_store_find(st, "x") && !mm_store_find(st, ""), "a tensor that is not there");

    int64_t i = 0;
    double d = 0;
    int b = 0;
    const char *s;
    const mm_slice *ss;
    const int32_t *ii;
    const float *ff;
    size_t n;
    ok(!mm_store_kv_int(st, "u", 0, INT64_MAX, 0, &i, &err) && i == UINT32_MAX, "kv: unsigned");
    is_int(mm_store_kv_int(st, "u", 0, 100, 0, &i, &err), MM_EDATA, "kv: out of range");
    is_str(err.msg, "key 'u' is 4294967295, should be 0 to 100", "kv: the message says so");
    is_int(mm_store_kv_int(st, "f", 0, 100, 0, &i, &err), MM_EDATA, "kv: a float is no integer");
    is_int(mm_store_kv_int(st, "b", 0, 100, 0, &i, &err), MM_EDATA, "kv: a bool is no integer");
    ok(!mm_store_kv_int(st, "absent", 0, 100, 42, &i, &err) && i == 42, "kv: default");
    ok(!mm_store_kv_num(st, "f", 0, &d, &err) && d == (double)0.1f, "kv: float");
    ok(!mm_store_kv_num(st, "u", 0, &d, &err) && d == 4294967295.0, "kv: an integer is a number");
    ok(!mm_store_kv_bool(st, "b", 0, &b, &err) && b == 1, "kv: bool");
    is_int(mm_store_kv_bool(st, "u", 0, &b, &err), MM_EDATA, "kv: an integer is no bool");
    ok(!mm_store_kv_str(st, "general.architecture", "", &s, &err) && !strcmp(s, "test"), "kv: string");
    is_int(mm_store_kv_str(st, "strs", "", &s, &err), MM_EDATA, "kv: an array is no string");
    ok(!mm_store_kv_strs(st, "strs", &ss, &n, &err) && n == 3 && ss[1].len == 0 && ss[2].len == 2,
       "kv: strings");
    ok(!mm_store_kv_ints(st, "ints", &ii, &n, &err) && n == 3 && ii[0] == -1 && ii[2] == INT32_MAX,
       "kv: integers");
    ok(!mm_store_kv_nums(st, "nums", &ff, &n, &err) && n == 2 && ff[0] == 0.5f, "kv: floats");
    is_int(mm_store_kv_nums(st, "ints", &ff, &n, &err), MM_EDATA, "kv: integers are no floats");
    ok(!mm_store_kv_strs(st, "nothing", &ss, &n, &err) && n == 0, "kv: empty array");
    ok(!mm_store_kv_strs(st, "absent", &ss, &n, &err) && n == 0 && !ss, "kv: absent array");
    ok(mm_store_uses(st, at("a.gguf")) && !mm_store_uses(st, at("no")) && !mm_store_uses(st, dir),
       "mm_store_uses");

    check(mm_gguf_create(&w, at("b.gguf"), &err));
    mm_gguf_kv_copy(w, st, skip_b);
    check(mm_gguf_begin(w, &err));
    check(mm_gguf_commit(&w, &err));
    mm_store_close(&st);
    check(mm_store_open(&st, at("b.gguf"), &err));
    ok(!mm_store_kv_strs(st, "strs", &ss, &n, &err) && n == 3 && !mm_store_kv_bool(st, "b", 0, &b, &err) &&
           !b,
       "kv: copied but one");
    mm_store_close(&st);
}

/* one tensor that the writer must refuse at begin */
static void refuse(const char *what, const char *name, int type, int ndim, const int64_t *shape)
{
    mm_gguf_writer *w;
    check(mm_gguf_create(&w, at("r.gguf"), &err));
    mm_gguf_tensor(w, name, type, ndim, shape);
    ok(mm_gguf_begin(w, &err) < 0, "gguf writer refuses %s: %s", what, err.msg);
    mm_gguf_abort(&w);
    ok(!w && !exists(at("r.gguf")), "... and leaves no file");
}

static void writers(void)
{
    static const int64_t five[5] = { 1, 1, 1, 1, 1 }, odd[2] = { 2, 33 }, big[2] = { INT64_MAX, 3 },
                         neg[1] = { -1 };
    char name[70];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    refuse("five dimensions", "x", MM_F32, 5, five);
    refuse("a type it does not have", "x", MM_U8, 1, five);
    refuse("a long name", name, MM_F32, 1, five);
    refuse("an empty name", "", MM_F32, 1, five);
    refuse("rows that are no multiple of the block", "x", MM_Q8_0, 2, odd);
    refuse("an overflow", "x", MM_F32, 2, big);
    refuse("a negative dimension", "x", MM_F32, 1, neg);

    mm_gguf_writer *w;
    check(mm_gguf_create(&w, at("r.gguf"), &err));
    mm_gguf_tensor(w, "x", MM_F32, 1, five);
    check(mm_gguf_begin(w, &err));
    is_int(mm_gguf_commit(&w, &err), MM_EARG, "gguf: commit without the data");
    ok(!w && !exists(at("r.gguf")), "... leaves no file");
    ok(mm_gguf_create(&w, at("no/such/x.gguf"), &err) < 0 && !w && strstr(err.msg, "there is no folder"),
       "a missing folder: %s", err.msg);

    mm_st_writer *s;
    mm_store *st;
    const char *type, *key;
    const mm_store_tensor *t;
    mm_buf b = { 0 };
    static const int64_t five2[5] = { 1, 1, 2, 1, 1 };
    static const uint8_t bytes[3] = { 1, 2, 3 };
    static const int64_t n3[1] = { 3 };
    double pi[2] = { 3.14159, 2 };
    json_t *meta = json_pack("{s:s, s:s}", "format", "pt", "quote\"d", "line\nbreak");
    check(mm_st_create(&s, at("a.safetensors"), meta, &err));
    json_decref(meta);
    mm_st_tensor(s, "odd \"name\" \xC3\xA9", MM_U8, 1, n3);
    mm_st_tensor(s, "pi", MM_F64, 5, five2);
    mm_st_tensor(s, "scalar", MM_BOOL, 0, NULL);
    check(mm_st_begin(s, &err));
    check(mm_st_data(s, bytes, 3, &err));
    check(mm_st_data(s, pi, 16, &err));
    check(mm_st_data(s, bytes, 1, &err));
    check(mm_st_commit(&s, &err));
    check(mm_store_open(&st, at("a.safetensors"), &err));
    t = mm_store_find(st, "odd \"name\" \xC3\xA9");
    ok(t && t->type == MM_U8 && !memcmp(t->data, bytes, 3), "safetensors: a name with quotes");
    ok(t && (uintptr_t)t->data % 64 == 0, "safetensors: data begins at a multiple of 64");
    t = mm_store_find(st, "pi");
    ok(t && t->ndim == 5 && t->shape[2] == 2 && !memcmp(t->data, pi, 16), "safetensors: five dimensions");
    int found = 0;
    for (size_t i = 0; (key = mm_store_kv_at(st, i, &type, &b)); i++) {
        found += !strcmp(key, "quote\"d") && !strcmp(b.p, "\"line\\nbreak\"") && !strcmp(type, "string");
        mm_buf_reset(&b);
    }
    mm_buf_clear(&b);
    is_int(found, 1, "safetensors: metadata");
    mm_store_close(&st);
    check(mm_st_create(&s, at("r.safetensors"), NULL, &err));
    mm_st_tensor(s, "x", MM_Q8_0, 1, five);
    ok(mm_st_begin(s, &err) < 0, "safetensors writer refuses q8_0: %s", err.msg);
    mm_st_abort(&s);
    check(mm_st_create(&s, at("none.safetensors"), NULL, &err));
    check(mm_st_begin(s, &err));
    check(mm_st_commit(&s, &err));
    check(mm_store_open(&st, at("none.safetensors"), &err));
    is_int((long long)mm_store_count(st), 0, "safetensors: no tensors at all");
    mm_store_close(&st);
}

static void part(const char *name, unsigned no, unsigned count, unsigned total, const char *tensor)
{
    static const int64_t one[1] = { 1 };
    float x = (float)no;
    mm_gguf_writer *w;
    check(mm_gguf_create(&w, at(name), &err));
    mm_gguf_kv_u32(w, "split.no", no);
    mm_gguf_kv_u32(w, "split.count", count);
    mm_gguf_kv_u32(w, "split.tensors.count", total);
    mm_gguf_tensor(w, tensor, MM_F32, 1, one);
    check(mm_gguf_begin(w, &err));
    check(mm_gguf_data(w, &x, 4, &err));
    check(mm_gguf_commit(&w, &err));
}

static void refuse_open(const char *what, const char *path, const char *msg)
{
    mm_store *st;
    int r = mm_store_open(&st, path, &err);
    ok(r < 0 && !st && strstr(err.msg, msg), "refused: %s: %s", what, r ? err.msg : "(opened)");
    if (st) mm_store_close(&st);
}

static void split(void)
{
    mm_store *st;
    part("s-00001-of-00003.gguf", 0, 3, 3, "a");
    part("s-00002-of-00003.gguf", 1, 3, 3, "b");
    refuse_open("a part is missing", at("s-00001-of-00003.gguf"), "s-00003-of-00003.gguf");
    part("s-00003-of-00003.gguf", 2, 3, 3, "c");
    check(mm_store_open(&st, at("s-00001-of-00003.gguf"), &err));
    const mm_store_tensor *t = mm_store_find(st, "c");
    ok(mm_store_count(st) == 3 && t && *(const float *)t->data == 2, "a split model opens by its first part");
    ok(mm_store_uses(st, at("s-00002-of-00003.gguf")), "... and uses all of them");
    mm_store_close(&st);
    refuse_open("not the first part", at("s-00002-of-00003.gguf"), "00001-of-00003");
    part("s-00003-of-00003.gguf", 2, 3, 3, "a");
    refuse_open("a tensor in two parts", at("s-00001-of-00003.gguf"), "occurs twice");
    part("s-00001-of-00003.gguf", 0, 3, 4, "a");
    part("s-00003-of-00003.gguf", 2, 3, 4, "c");
    refuse_open("another number of tensors", at("s-00001-of-00003.gguf"), "announced");
    part("odd.gguf", 0, 3, 3, "a");
    refuse_open("a first part by another name", at("odd.gguf"), "00001-of-00003");
}

static const char *all_the_same(const char *name, char buf[128], void *arg)
{
    snprintf(buf, 128, "%s", (const char *)arg);
    return strstr(name, "LayerNorm") ? buf : NULL;
}

static void folders(void)
{
    mm_store *one, *two;
    const char *p, *q;
    size_t n, m;
    tinybert(at("tiny"), 32, 64, 0);
    tinybert(at("shards"), 32, 64, 1);
    check(mm_store_open(&one, at("tiny"), &err));
    check(mm_store_open(&two, at("shards"), &err));
    int same = mm_store_count(one) == mm_store_count(two) && mm_store_count(one) == 39;
    for (size_t i = 0; i < mm_store_count(one); i++) {
        const mm_store_tensor *a = mm_store_at(one, i), *b = mm_store_find(two, a->name);
        same &= b && a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes);
    }
    ok(same, "shards hold what the single file holds");
    ok(!mm_store_is_gguf(one) && json_object_get(mm_store_config(one), "hidden_size"), "config.json");
    ok(!mm_store_file(one, "1_Pooling/config.json", &p, &n, &err) && n > 10 && p[0] == '{',
       "a file in a subfolder");
    ok(!mm_store_file(one, "1_Pooling/config.json", &q, &m, &err) && p == q && m == n, "... is mapped once");
    is_int(mm_store_file(one, "nothing.json", &p, &n, &err), 1, "a file that is not there");
    is_int(mm_store_file(one, "vocab.txt/x", &p, &n, &err), 1, "a file below a file");
    is_int(mm_store_file(one, "1_Pooling", &p, &n, &err), MM_EIO, "a folder is no file");
    is_int(mm_store_file(one, "../x", &p, &n, &err), MM_EDATA, "a path out of the folder");
    is_int(mm_store_file(one, "/etc/passwd", &p, &n, &err), MM_EDATA, "an absolute path");
    char norm[] = "norm";
    ok(mm_store_rename(one, all_the_same, norm, &err) == MM_EDATA && strstr(err.msg, "twice"),
       "two tensors renamed to one: %s", err.msg);
    mm_store_close(&one);
    mm_store_close(&two);
    ok(!one, "close sets NULL");

    unlink(at("shards/model-00002-of-00002.safetensors"));
    refuse_open("a shard is missing", at("shards"), "model-00002");
    puts_to(at("shards"), "model.safetensors.index.json",
            "{\"weight_map\":{\"a\":\"../tiny/model.safetensors\"}}");
    refuse_open("a shard outside", at("shards"), "leads out of the folder");
    puts_to(at("shards"), "model.safetensors.index.json",
            "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}");
    refuse_open("a tensor in no shard", at("shards"), "'a' of the index is in no shard");
    puts_to(at("shards"), "model.safetensors.index.json", "{}");
    refuse_open("an index without a map", at("shards"), "weight_map");
    unlink(at("shards/model.safetensors.index.json"));
    refuse_open("no weights", at("shards"), "no model.safetensors");
    puts_to(at("shards"), "pytorch_model.bin", "x");
    refuse_open("a pickle only", at("shards"), "Python pickle");
    puts_to(at("shards"), "config.json", "{\"a\":1,\"a\":2}");
    refuse_open("a broken config.json", at("shards"), "config.json");
    unlink(at("shards/config.json"));
    refuse_open("no config.json", at("shards"), "no config.json");
    refuse_open("nothing", at("nothing"), "cannot open");
    refuse_open("a device", "/dev/null", "not a regular file");
}

static void names(void)
{
    char *path, env[600];
    snprintf(env, sizeof env, "%s::%s", at("no"), dir);
    setenv("MM_MODEL_PATH", env, 1);
    ok(!mm_store_resolve(&path, "tiny", &err) && !strcmp(path, at("tiny")), "a folder by name");
    free(path);
    ok(!mm_store_resolve(&path, "a", &err) && !strcmp(path, at("a.gguf")), "a file by name without .gguf");
    free(path);
    ok(!mm_store_resolve(&path, at("tiny"), &err) && !strcmp(path, at("tiny")), "a path as it is");
    free(path);
    ok(mm_store_resolve(&path, "absent", &err) == MM_EIO && !path && strstr(err.msg, dir) &&
           strstr(err.msg, at("no")) && strstr(err.msg, "get-model"),
       "an unknown name: %s", err.msg);
    ok(mm_store_resolve(&path, "./absent", &err) == MM_EIO && !path, "an unknown path: %s", err.msg);
    is_int(mm_store_resolve(&path, "", &err), MM_EARG, "an empty name");
    /* unit tests are linked without a default */
    size_t len = 1;
    mm_store *st;
    ok(!mm_store_builtin(&len) && len == 0, "no built-in model");
    unsetenv("MM_MODEL");
    ok(!strcmp(mm_store_default_name(), MM_STORE_DEFAULT), "the default's name");
    ok(mm_store_resolve(&path, NULL, &err) == MM_EIO && !path && strstr(err.msg, "no default model") && strstr(err.msg, dir), "no default: %s", err.msg);
    is_int(mm_store_resolve(&path, MM_STORE_DEFAULT, NULL), MM_EIO, "... without a message");
    ok(mm_store_open(&st, MM_STORE_DEFAULT, &err) == MM_EIO && !st && strstr(err.msg, "no default model"), "... nor opened");
    setenv("MM_MODEL", "tiny", 1);
    ok(!mm_store_resolve(&path, NULL, &err) && !strcmp(path, at("tiny")), "MM_MODEL is the default");
    free(path);
    setenv("MM_MODEL", "", 1);
    ok(!strcmp(mm_store_default_name(), MM_STORE_DEFAULT), "an empty one is none");
    unsetenv("MM_MODEL");
    unsetenv("MM_MODEL_PATH");
    setenv("XDG_DATA_HOME", "/nowhere", 1);
    ok(mm_store_resolve(&path, "absent", &err) == MM_EIO && strstr(err.msg, "/nowhere/mm/models") &&
           strstr(err.msg, "/usr/share/mm/models"),
       "default folders: %s", err.msg);
}

static void memory(void)
{
    /* a header of 640 bytes begins with the two bytes of a pickle */
    uint8_t buf[8 + 640 + 8] = { 0x80, 0x02 };
    mm_store *st;
    memset(buf + 8, ' ', 640);
    memcpy(buf + 8, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 54);
    ok(!mm_store_parse(&st, "mem", buf, sizeof buf, &err) && mm_store_find(st, "x"),
       "a header of 640 bytes is no pickle: %s", err.msg);
    mm_store_close(&st);
    buf[8] = '[';
    ok(mm_store_parse(&st, "mem", buf, sizeof buf, &err) && strstr(err.msg, "pickle"),
       "but without an object it is one");
    int bad = 0;
    buf[8] = '{';
    for (size_t n = 0; n < sizeof buf; n++) bad += !mm_store_parse(&st, "mem", buf, n, &err);
    is_int(bad, 0, "no cut of it opens");
}

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    gguf();
    writers();
    split();
    folders();
    names();
    memory();
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (system(cmd)) return 1;
    return done();
}

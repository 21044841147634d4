/* Conversion: a GGUF made from a folder is the same model; types and errors are as stated; what cannot be
 * said is refused. */
#include <unistd.h>
#include "model/mm_family.h"
#include "model/mm_model.h"
#include "quant/mm_quant.h"
#include "tap.h"
#include "tinybert.h"

static char dir[] = "/tmp/mm-test-quant-XXXXXX";

static char *at(const char *name)
{
    static char path[8][256];
    static int i;
    i = (i + 1) % 8;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static const mm_text_in texts[] = { { "shrink many photos at once", 26 },
                                    { "The cat sat on the mat, running.", 32 },
                                    { "caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87!", 13 },
                                    { "[MASK] unwanted", 15 } };
#define NTEXT (sizeof texts / sizeof *texts)

static float *embed(const char *path, char fingerprint[128])
{
    mm_model *m;
    mm_text_out res[NTEXT];
    check(mm_model_open(&m, path, NULL, &err));
    float *v = malloc(NTEXT * mm_model_dim(m) * sizeof *v);
    if (!v) exit(1);
    check(mm_model_embed_text(m, texts, NTEXT, v, res, &err));
    snprintf(fingerprint, 128, "%s", mm_model_fingerprint(m));
    const char *q = mm_model_prompt(m, "query");
    ok(q && !strcmp(q, "query: "), "%s: prompt", path);
    is_int(mm_model_get_config(m, MM_TEXT)->window, 48, "... window");
    mm_model_close(&m);
    return v;
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++)
        ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i],
            bb += (double)b[i] * (double)b[i];
    return ab / sqrt(aa * bb);
}

static size_t seen, at_f16, at_q8, at_f32, bad_stats;
static double worst;

static void report(void *arg, const mm_quant_stat *q)
{
    int type = *(int *)arg;
    seen++;
    at_f32 += q->to == MM_F32;
    at_f16 += q->to == MM_F16;
    at_q8 += q->to == MM_Q8_0;
    if (q->rel_rms > worst) worst = q->rel_rms;
    bad_stats += (q->rel_rms > 0) != (q->from != q->to) || !q->count || q->nonfinite ||
                 (q->to != type && q->to != MM_F32 && !q->note);
}

static void convert(const char *in, const char *out, int type)
{
    mm_quant_opts o = { .type = type, .report = report, .arg = &type };
    mm_quant_sum s;
    seen = at_f16 = at_q8 = at_f32 = bad_stats = 0;
    worst = 0;
    check(mm_quant_convert(in, out, &o, &s, &err));
    ok(s.tensors == seen && !bad_stats && s.worst == worst && s.rel_rms <= worst,
       "%s: sums and reports agree", out);
    is_str(s.arch, "bert", "... architecture");
}

static void families(void)
{
    static const struct {
        int type;
        const char *name;
        double least; /* cosine to the folder's vectors */
    } t[] = { { MM_F32, "f32.gguf", 1 },
              { MM_F16, "f16.gguf", 0.999999 },
              { MM_BF16, "bf16.gguf", 0.9998 },
              { MM_Q8_0, "q8_0.gguf", 0.999 } };
    char want[128], got[128];
    tinybert(at("tiny"), 32, 64, 0);
    float *ref = embed(at("tiny"), want);
    for (size_t i = 0; i < 4; i++) {
        convert(at("tiny"), at(t[i].name), t[i].type);
        is_int((long long)seen, 37, "... the pooler and the index buffer are left out");
        is_int((long long)(t[i].type == MM_F32 ? at_f32 : seen - at_f32), t[i].type == MM_F32 ? 37 : 13,
               "... types");
        float *v = embed(at(t[i].name), got);
        double c = 2;
        for (size_t k = 0; k < NTEXT; k++) c = fmin(c, cosine(v + 32 * k, ref + 32 * k, 32));
        ok(t[i].type == MM_F32 ? !memcmp(v, ref, NTEXT * 32 * sizeof *v) : c >= t[i].least,
           "%s: vectors as from the folder (%.7f)", t[i].name, c);
        is_str(got, want, "... and its fingerprint");
        free(v);
    }
    /* from one GGUF to another: as from the folder, keys and all */
    convert(at("f32.gguf"), at("again.gguf"), MM_Q8_0);
    float *a = embed(at("again.gguf"), got), *b = embed(at("q8_0.gguf"), want);
    ok(!memcmp(a, b, NTEXT * 32 * sizeof *a), "f32 GGUF to q8_0: the same vectors");
    is_str(got, want, "... the same fingerprint");
    free(a);
    free(b);
    free(ref);

    tinybert(at("odd"), 40, 72, 0);
    convert(at("odd"), at("odd.gguf"), MM_Q8_0);
    ok(at_f16 == 13 && at_q8 == 0, "rows that do not divide into blocks: f16, with a note");
    mm_model *m;
    ok(!mm_model_open(&m, at("odd.gguf"), NULL, &err), "... and it opens: %s", err.msg);
    mm_model_close(&m);
}

/* A tokenizer with a token that GGUF's arrays cannot express. */
static void added_token(void)
{
    mm_buf b = { 0 }, c = { 0 };
    char want[128], got[128];
    tinybert(at("added"), 32, 64, 0);
    check(mm_file_read(&b, at("added/tokenizer.json"), 1 << 20, &err));
    char *p = strstr(b.p, "],\"normalizer\"");
    mm_buf_add(&c, b.p, (size_t)(p - b.p));
    mm_buf_adds(&c, ",{\"id\":5,\"special\":false,\"content\":\"the\",\"single_word\":true,\"lstrip\":false,"
                    "\"rstrip\":true,\"normalized\":true}");
    mm_buf_adds(&c, p);
    put(at("added"), "tokenizer.json", c.p, c.len);
    float *x = embed(at("added"), want);
    convert(at("added"), at("added.gguf"), MM_F32);
    float *y = embed(at("added.gguf"), got);
    ok(!memcmp(x, y, NTEXT * 32 * sizeof *x), "an added token travels in tokenizer.huggingface.json");
    mm_store *st;
    const char *json;
    check(mm_store_open(&st, at("added.gguf"), &err));
    ok(!mm_store_kv_str(st, "tokenizer.huggingface.json", "", &json, &err) && !strcmp(json, c.p),
       "... whole");
    mm_store_close(&st);
    check(mm_store_open(&st, at("f32.gguf"), &err));
    ok(!mm_store_kv_str(st, "tokenizer.huggingface.json", "", &json, &err) && !json[0],
       "... which others do without");
    mm_store_close(&st);
    free(x);
    free(y);
    mm_buf_clear(&b);
    mm_buf_clear(&c);
}

static void tensor_file(const char *name, const char *tensor, int type, const void *data, size_t bytes,
                        int ndim, const int64_t *shape)
{
    mm_st_writer *w;
    check(mm_st_create(&w, at(name), NULL, &err));
    mm_st_tensor(w, tensor, type, ndim, shape);
    check(mm_st_begin(w, &err));
    check(mm_st_data(w, data, bytes, &err));
    check(mm_st_commit(&w, &err));
}

static void refuse(const char *what, const char *in, int type, int code, const char *msg)
{
    mm_quant_opts o = { .type = type };
    struct stat sb;
    int r = mm_quant_convert(in, at("refused.gguf"), &o, NULL, &err);
    ok(r == code && strstr(err.msg, msg), "refused: %s: %s", what, r ? err.msg : "(converted)");
    ok(stat(at("refused.gguf"), &sb), "... no file");
}

static void plain(void)
{
    static const int64_t shape[2] = { 2, 32 }, five[5] = { 1, 1, 1, 2, 32 };
    mm_quant_opts o = { .type = MM_Q8_0 };
    mm_quant_sum s;
    mm_store *st;
    float x[64];
    double d[64];
    size_t nan, inf;
    for (int i = 0; i < 64; i++) d[i] = (double)(x[i] = i < 32 ? 0 : (float)(i - 48) / 127);
    tensor_file("plain.safetensors", "w", MM_F32, x, sizeof x, 2, shape);
    check(mm_quant_convert(at("plain.safetensors"), at("plain.gguf"), &o, &s, &err));
    ok(!strcmp(s.arch, "mm-tensors") && s.params == 64 && s.bytes_out == 68,
       "a plain file becomes a container");
    check(mm_store_open(&st, at("plain.gguf"), &err));
    const mm_store_tensor *t = mm_store_find(st, "w");
    static const uint8_t zero[34];
    ok(t && t->type == MM_Q8_0 && !memcmp(t->data, zero, 34), "a zero row gives zeros");
    ok(t && ((const int8_t *)t->data)[36] == -127, "the largest value is -127 steps");
    mm_store_close(&st);
    tensor_file("f64.safetensors", "w", MM_F64, d, sizeof d, 2, shape);
    o.type = MM_F32;
    check(mm_quant_convert(at("f64.safetensors"), at("f64.gguf"), &o, &s, &err));
    check(mm_store_open(&st, at("f64.gguf"), &err));
    t = mm_store_find(st, "w");
    ok(t && !memcmp(t->data, x, sizeof x), "float64 to float32");
    ok(t && !mm_quant_check(t, &nan, &inf, &err) && !nan && !inf, "check: all finite");
    mm_store_close(&st);

    tensor_file("five.safetensors", "w", MM_F32, x, sizeof x, 5, five);
    refuse("five dimensions", at("five.safetensors"), MM_F32, MM_EUNSUP, "'w' has 5 dimensions");
    tensor_file("u8.safetensors", "w", MM_U8, x, 64, 2, shape);
    refuse("a type GGUF does not have", at("u8.safetensors"), MM_F32, MM_EUNSUP, "'w' has type u8");
    x[40] = 70000;
    tensor_file("big.safetensors", "w", MM_F32, x, sizeof x, 2, shape);
    refuse("70000 in f16", at("big.safetensors"), MM_F16, MM_EDATA, "'w' has the value 70000, which f16");
    x[40] = 1e9f;
    tensor_file("big.safetensors", "w", MM_F32, x, sizeof x, 2, shape);
    refuse("1e9 in q8_0", at("big.safetensors"), MM_Q8_0, MM_EDATA, "which q8_0 cannot hold");
    x[40] = NAN;
    x[41] = INFINITY;
    x[42] = -INFINITY;
    tensor_file("nan.safetensors", "w", MM_F32, x, sizeof x, 2, shape);
    refuse("NaN in q8_0", at("nan.safetensors"), MM_Q8_0, MM_EDATA,
           "'w' has values that are NaN or infinite");
    o.type = MM_BF16;
    ok(!mm_quant_convert(at("nan.safetensors"), at("nan.gguf"), &o, &s, &err), "NaN in bf16 is kept");
    check(mm_store_open(&st, at("nan.gguf"), &err));
    ok(!mm_quant_check(mm_store_find(st, "w"), &nan, &inf, &err) && nan == 1 && inf == 2,
       "check: 1 NaN, 2 infinite");
    mm_store_close(&st);

    o.type = MM_F32;
    link(at("plain.safetensors"), at("hard"));
    if (symlink(at("plain.safetensors"), at("soft"))) return;
    is_int(mm_quant_convert(at("plain.safetensors"), at("plain.safetensors"), &o, NULL, &err), MM_EARG,
           "output is the input");
    is_int(mm_quant_convert(at("plain.safetensors"), at("hard"), &o, NULL, &err), MM_EARG,
           "... through a hard link");
    is_int(mm_quant_convert(at("soft"), at("./hard"), &o, NULL, &err), MM_EARG,
           "... through links on both sides");
    is_int(mm_quant_convert(at("tiny"), at("tiny/model.safetensors"), &o, NULL, &err), MM_EARG,
           "... a folder's weights");
    is_int(mm_quant_convert(at("tiny"), at("tiny/config.json"), &o, NULL, &err), MM_EARG,
           "... a folder's configuration");
    mm_gguf_writer *w;
    check(mm_gguf_create(&w, at("q4.gguf"), &err));
    mm_gguf_tensor(w, "w", MM_Q4_0, 2, shape);
    check(mm_gguf_begin(w, &err));
    check(mm_gguf_data(w, x, 36, &err));
    check(mm_gguf_commit(&w, &err));
    refuse("a source without a way to float32", at("q4.gguf"), MM_F32, MM_EUNSUP, "has type q4_0");
    check(mm_store_open(&st, at("q4.gguf"), &err));
    is_int(mm_quant_check(mm_store_find(st, "w"), &nan, &inf, &err), MM_EUNSUP, "check: q4_0 cannot be looked into");
    mm_store_close(&st);
    o.type = MM_Q4_0;
    is_int(mm_quant_convert(at("plain.safetensors"), at("x.gguf"), &o, NULL, &err), MM_EARG,
           "a type that is not offered");
    puts_to(at("tiny"), "config.json", "{\"model_type\":\"unheard-of\"}");
    refuse("an unknown family", at("tiny"), MM_F32, MM_EUNSUP, "unheard-of");
}

static void tensor_names(void)
{
    static const char *const t[][2] = { { "embeddings.word_embeddings.weight", "token_embd.weight" },
                                        { "bert.embeddings.word_embeddings.weight", "token_embd.weight" },
                                        { "bert.encoder.layer.11.output.dense.bias", "blk.11.ffn_down.bias" },
                                        { "bert.embeddings.LayerNorm.gamma", "token_embd_norm.weight" },
                                        { "encoder.layer.0.attention.output.LayerNorm.beta",
                                          "blk.0.attn_output_norm.bias" },
                                        { "pooler.dense.weight", "" },
                                        { "bert.embeddings.position_ids", "" },
                                        { "cls.predictions.bias", "" },
                                        { "encoder.layer.x.output.dense.bias", NULL },
                                        { "encoder.layer..output.dense.bias", NULL },
                                        { "encoder.layer.123456.output.dense.bias", NULL },
                                        { "classifier.weight", NULL },
                                        { "embeddings.word_embeddings.weight2", NULL },
                                        { "", NULL },
                                        { "gamma", NULL },
                                        { ".gamma", NULL } };
    const mm_family *f = mm_family_find("bert");
    for (size_t i = 0; f && i < sizeof t / sizeof *t; i++) {
        char buf[128];
        const char *got = mm_family_canonical(f, t[i][0], buf);
        ok(t[i][1] ? got && !strcmp(got, t[i][1]) : !got, "'%s' is %s", t[i][0],
           t[i][1] ? t[i][1] : "not known");
    }
    ok(!mm_family_find("bert.") && !mm_family_find(""), "unknown families");
}

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    tensor_names();
    families();
    added_token();
    plain();
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (system(cmd)) return 1;
    return done();
}

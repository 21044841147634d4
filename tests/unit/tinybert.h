/* tinybert.h - a Hugging Face folder of a very small BERT, always the same bytes; for mk_models and unit tests.
 *
 *   tinybert("DIR", 32, 64, 0);     width 32, inner width 64, 2 layers, 4 heads, 64 positions, window 48, 135 tokens
 * Failures print a message and end the program. */
#ifndef TINYBERT_H
#define TINYBERT_H
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
    fprintf(stderr, "tinybert: %s\n", err.msg);
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

/* shards 1: in two files with an index */
__attribute__((unused)) static void tinybert(const char *dir, int64_t width, int64_t ff, int shards)
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
#endif

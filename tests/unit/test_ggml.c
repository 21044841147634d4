/* What GGUF files of decoders hold: block types as numbers (tests/golden/blocks.json, by gguf-py), tokenizers from arrays: pairs by score against
 * SentencePiece (tok-scores.json), pairs of bytes against the same tokenizer from tokenizer.json. */
#include <math.h>
#include <stdlib.h>
#include "base/mm_base.h"
#include "base/mm_dtype.h"
#include "tap.h"
#include "token/mm_token.h"

static mm_err err;

static json_t *golden(const char *name, mm_buf *text)
{
    const char *root = getenv("MM_ROOT");
    char path[1024];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/%s", root ? root : ".", name);
    json_t *j = mm_file_read(&b, path, 1 << 24, &err) ? NULL : text ? json_null() : mm_json_load(b.p, b.len, name, &err);
    if (!j) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    if (text) *text = b;
    else mm_buf_clear(&b);
    return j;
}

static void blocks(void)
{
    json_t *all = golden("blocks.json", NULL), *g;
    size_t i;
    json_array_foreach(all, i, g)
    {
        const char *hex = json_string_value(json_object_get(g, "hex")), *name = json_string_value(json_object_get(g, "name"));
        const json_t *want = json_object_get(g, "values");
        int type = (int)json_integer_value(json_object_get(g, "type"));
        size_t n = json_array_size(want), bytes = strlen(hex) / 2, bad = 0;
        unsigned char raw[512], q8[2 * 34];
        float got[256];
        for (size_t k = 0; k < bytes; k++) {
            unsigned v;
            if (sscanf(hex + 2 * k, "%2x", &v) != 1) exit(1);
            raw[k] = (unsigned char)v;
        }
        ok(mm_block_known(type) && bytes * mm_dtype_get(type)->block == n * mm_dtype_get(type)->bytes, "%s is known", name);
        mm_block_to_f32(type, got, raw, n);
        for (size_t k = 0; k < n; k++) {
            double w = json_number_value(json_array_get(want, k));
            bad += !(fabs((double)got[k] - w) <= 2e-7 * fabs(w) + 1e-7);
        }
        ok(!bad, "... and its numbers are right");
        if (mm_block_to_q8_0(type, q8, raw, n)) {
            for (size_t k = 0; k < n; k++) {
                const unsigned char *b = q8 + k / 32 * 34;
                float w = mm_f16_to_f32((uint16_t)(b[0] | b[1] << 8)) * (float)(int8_t)b[2 + k % 32];
                bad += w != got[k];
            }
            ok(!bad, "... and the same as q8_0");
        }
    }
    ok(!mm_block_known(MM_Q8_0) && !mm_block_known(MM_F32), "what has kernels of its own is none of them");
    json_decref(all);
}

static int same_ids(const mm_tok *t, const char *s, size_t len, const int32_t *ids, size_t n)
{
    mm_tok_out o = { 0 };
    int same = !mm_tok_encode(t, s, len, MM_TOK_SPECIAL, &o, &err) && o.n == n;
    for (size_t i = 0; i < n && same; i++) same = o.ids[i] == ids[i];
    if (!same) {
        printf("# '%.*s':", (int)len, s);
        for (size_t i = 0; i < o.n; i++) printf(" %d (%s)", o.ids[i], mm_tok_text(t, o.ids[i]));
        printf("\n");
    }
    mm_tok_out_clear(&o);
    return same;
}

static void by_score(void)
{
    json_t *g = golden("tok-scores.json", NULL), *pieces = json_object_get(g, "pieces"), *cases = json_object_get(g, "cases"), *x;
    size_t n = json_array_size(pieces), i, bad = 0;
    mm_slice *tokens = calloc(n, sizeof *tokens);
    float *scores = calloc(n, sizeof *scores);
    int32_t *types = calloc(n, sizeof *types), ids[512];
    mm_tok *t;
    if (!tokens || !scores || !types) exit(1);
    json_array_foreach(pieces, i, x)
    {
        const json_t *text = json_array_get(x, 0);
        tokens[i] = (mm_slice){ json_string_value(text), json_string_length(text) };
        scores[i] = (float)json_number_value(json_array_get(x, 1));
        types[i] = (int32_t)json_integer_value(json_array_get(x, 2));
    }
    mm_tok_ggml s = { .model = "llama", .pre = "default", .tokens = tokens, .n = n, .scores = scores, .types = types, .bos = 1, .eos = 2, .unk = 0,
                      .pad = -1, .space_prefix = 1 };
    if (!ok(!mm_tok_from_ggml(&t, &s, &err), "pairs by score open")) printf("Bail out! %s\n", err.msg), exit(1);
    json_array_foreach(cases, i, x)
    {
        const json_t *text = json_array_get(x, 0), *want = json_array_get(x, 1);
        size_t k = json_array_size(want);
        for (size_t q = 0; q < k; q++) ids[q] = (int32_t)json_integer_value(json_array_get(want, q));
        /* the reference writes a mark before what follows a token of its user's as part of the text, others begin anew */
        if (strstr(json_string_value(text), "<pic>")) continue;
        bad += !same_ids(t, json_string_value(text), json_string_length(text), ids, k);
        mm_buf b = { 0 };
        if (mm_tok_decode(t, ids, k, &b, &err) || b.len != json_string_length(text) || memcmp(b.p, json_string_value(text), b.len)) {
            printf("# decoded '%s'\n", b.p ? b.p : "");
            bad++;
        }
        mm_buf_clear(&b);
    }
    ok(!bad, "... ids of %zu texts as SentencePiece has them, and back", i);
    mm_tok_free(&t);
    s.add_bos = 1;
    s.scores = NULL;
    is_int(mm_tok_from_ggml(&t, &s, &err), MM_EDATA, "... without scores: refused");
    s.scores = scores;
    s.bos = (int32_t)n;
    is_int(mm_tok_from_ggml(&t, &s, &err), MM_EDATA, "... an id out of range: refused");
    s.bos = 1;
    s.model = "rwkv";
    is_int(mm_tok_from_ggml(&t, &s, &err), MM_EUNSUP, "... another kind: refused");
    free(tokens);
    free(scores);
    free(types);
    json_decref(g);
}

/* A tokenizer.json with Llama 3's words, as llama.cpp's arrays would have it */
static void bytes(void)
{
    mm_buf lines;
    json_t *g = golden("tok-bytes.json", NULL), *model = json_object_get(g, "model"), *v = json_object_get(model, "vocab"), *x;
    const char *key;
    size_t n = 0, i, texts = 0, bad = 0;
    golden("tok-bytes.jsonl", &lines);
    json_object_set_new(g, "normalizer", json_null());
    json_object_set_new(g, "post_processor", json_null());
    json_object_set_new(model, "ignore_merges", json_true());
    json_object_foreach(v, key, x) if ((size_t)json_integer_value(x) >= n) n = (size_t)json_integer_value(x) + 1;
    json_array_foreach(json_object_get(g, "added_tokens"), i, x)
        if ((size_t)json_integer_value(json_object_get(x, "id")) >= n) n = (size_t)json_integer_value(json_object_get(x, "id")) + 1;
    mm_slice *tokens = calloc(n, sizeof *tokens), *merges = calloc(json_array_size(json_object_get(model, "merges")), sizeof *merges);
    int32_t *types = calloc(n, sizeof *types);
    mm_buf made = { 0 };
    if (!tokens || !types || !merges || mm_buf_reserve(&made, 1 << 20)) exit(1);
    for (i = 0; i < n; i++) types[i] = 5, tokens[i] = (mm_slice){ "", 0 };
    json_object_foreach(v, key, x) tokens[json_integer_value(x)] = (mm_slice){ key, strlen(key) }, types[json_integer_value(x)] = 1;
    json_array_foreach(json_object_get(g, "added_tokens"), i, x)
    {
        const json_t *c = json_object_get(x, "content");
        json_int_t id = json_integer_value(json_object_get(x, "id"));
        json_object_set_new(x, "normalized", json_false());
        json_object_set_new(x, "lstrip", json_false());
        json_object_set_new(x, "rstrip", json_false());
        json_object_set_new(x, "single_word", json_false());
        tokens[id] = (mm_slice){ json_string_value(c), json_string_length(c) };
        types[id] = json_is_true(json_object_get(x, "special")) ? 3 : 4;
    }
    json_array_foreach(json_object_get(model, "merges"), i, x)
    {
        const char *start = made.p + made.len;
        if (json_is_string(x)) mm_buf_adds(&made, json_string_value(x));
        else mm_buf_addf(&made, "%s %s", json_string_value(json_array_get(x, 0)), json_string_value(json_array_get(x, 1)));
        merges[i] = (mm_slice){ start, (size_t)(made.p + made.len - start) };
    }
    mm_tok_ggml s = { .model = "gpt2", .pre = "llama-bpe", .tokens = tokens, .n = n, .merges = merges, .n_merges = i, .types = types, .bos = -1, .eos = -1,
                      .unk = -1, .pad = -1 };
    mm_tok *a = NULL, *b = NULL;
    char *json = json_dumps(g, JSON_COMPACT);
    if (!ok(json && !mm_tok_from_json(&a, json, strlen(json), &err) && !mm_tok_from_ggml(&b, &s, &err), "pairs of bytes open"))
        printf("Bail out! %s\n", err.msg), exit(1);
    for (char *p = lines.p, *nl; (nl = strchr(p, '\n')); p = nl + 1) {
        json_t *j = mm_json_load(p, (size_t)(nl - p), "line", &err), *text = json_object_get(j, "text");
        mm_tok_out o = { 0 };
        if (text) {
            if (mm_tok_encode(a, json_string_value(text), json_string_length(text), 0, &o, &err)) exit(1);
            bad += !same_ids(b, json_string_value(text), json_string_length(text), o.ids, o.n);
            texts++;
        }
        mm_tok_out_clear(&o);
        json_decref(j);
    }
    ok(texts > 200 && !bad, "... ids of %zu texts as from tokenizer.json", texts);
    mm_tok_free(&b);
    s.pre = "nobody";
    is_int(mm_tok_from_ggml(&b, &s, &err), MM_EUNSUP, "... words cut in a way that is not known: refused");
    mm_tok_free(&a);
    free(json);
    free(tokens);
    free(merges);
    free(types);
    mm_buf_clear(&made);
    mm_buf_clear(&lines);
    json_decref(g);
}

int main(void)
{
    blocks();
    by_score();
    bytes();
    return done();
}

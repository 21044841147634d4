/* Decoders: logits against the reference (tests/golden/lm-*.json, written by scripts/parity/decoders fixtures), and what holds whatever the
 * model: the same bits alone or in a batch, at once or token by token, after trimming and copying, from ids or from embeddings. */
#include <unistd.h>
#include "kernels/mm_kern.h"
#include "model/mm_lm_tape.h"
#include "tap.h"
#include "tinytower.h"

enum { VOCAB = 96, WIDTH = 32, N = 40 };

static json_t *fixture(const char *name)
{
    const char *root = getenv("MM_ROOT");
    char path[512];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/lm-%s.json", root ? root : ".", name);
    check(mm_file_read(&b, path, 1 << 20, &err));
    json_t *g = mm_json_load(b.p, b.len, name, &err);
    if (!g) check(MM_EDATA);
    mm_buf_clear(&b);
    return g;
}

static mm_lm *open_as(const char *dir, int type, int threads)
{
    mm_lm *lm;
    mm_lm_opts o = MM_LM_OPTS_INIT;
    o.kv_type = type;
    o.threads = threads;
    check(mm_lm_open(&lm, dir, &o, &err));
    return lm;
}

static mm_lm_cache *cache(mm_lm *lm, size_t slots)
{
    mm_lm_cache *c;
    check(mm_lm_cache_new(&c, lm, slots, 0, &err));
    return c;
}

static void step(mm_lm_cache *c, size_t slot, const int32_t *ids, size_t n, int which, float *logits)
{
    const mm_lm_part p = { .slot = slot, .ids = ids, .n = n, .logits = which };
    check(mm_lm_step(c, &p, 1, logits, &err));
}

/* the largest difference over the largest number */
static double relative(const float *got, const json_t *want)
{
    double most = 0, top = 0;
    for (size_t i = 0; i < json_array_size(want); i++) {
        double w = json_number_value(json_array_get(want, i)), d = fabs((double)got[i] - w);
        if (!(d <= most)) most = d;
        if (fabs(w) > top) top = fabs(w);
    }
    return most / top;
}

static double distance(const float *a, const float *b, size_t n)
{
    double d = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= d)) d = fabs((double)a[i] - (double)b[i]);
    return d;
}

static void parity(const char *name, const json_t *g, const char *dir, const int32_t *ids)
{
    static float all[N * VOCAB];
    const json_t *rows = json_object_get(g, "rows"), *want = json_object_get(g, "logits");
    static const struct {
        int type;
        const char *name;
        double most;
    } kinds[] = { { MM_F32, "float32", 1e-4 }, { MM_F16, "float16", 6e-3 } };
    for (int k = 0; k < 2; k++) {
        mm_lm *lm = open_as(dir, kinds[k].type, 1);
        mm_lm_cache *c = cache(lm, 1);
        double worst = 0;
        step(c, 0, ids, N, 2, all);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            double d = relative(all + json_integer_value(json_array_get(rows, i)) * VOCAB, json_array_get(want, i));
            if (!(d <= worst)) worst = d;
        }
        ok(worst < kinds[k].most, "%s: logits, keys and values in %s: relative error %.2g", name, kinds[k].name, worst);
        mm_lm_cache_free(&c);
        mm_lm_close(&lm);
    }
}

/* sum cot h over the last rows of two sequences, x standing in them; d (NULL: not wanted): its gradient */
static double summed(const mm_lm *lm, const float *x, const float *cot, mm_arena *a, mm_tape *tape, float *d)
{
    const size_t off[] = { 0, 12, N };
    const mm_ragged r = { off, 2 };
    mm_graph g = { .kern = mm_kern_get(), .arena = a, .threads = 1, .tape = tape };
    mm_arena_reset(a);
    float *copy = mm_arena_alloc(a, N * WIDTH, sizeof *copy);
    memcpy(copy, x, N * WIDTH * sizeof *copy);
    mm_tensor in = tape ? mm_tape_input(&g, copy, N, WIDTH) : mm_tensor_of(copy, N, WIDTH);
    mm_tensor y = mm_lm_logits(&g, lm, mm_op_rows(&g, mm_lm_through(&g, lm, in, &r), (const size_t[]){ 11, N - 1 }, 2));
    double s = 0;
    for (size_t i = 0; y.p && i < 2 * VOCAB; i++) s += (double)cot[i] * (double)y.p[i];
    if (tape) mm_tape_seed_grad(&g, y, cot);
    if (g.failed || (tape && mm_tape_backward(&g))) return NAN;
    if (d) memcpy(d, mm_tape_grad(in), N * WIDTH * sizeof *d);
    if (tape) mm_tape_reset(tape);
    return s;
}

/* Recorded: the reference's logits from whole sequences, and a gradient that is the slope. */
static void on_tape(const char *name, const json_t *g, const char *dir, const int32_t *ids)
{
    static float x[N * WIDTH], d[N * WIDTH], cot[2 * VOCAB], up[N * WIDTH], down[N * WIDTH];
    const json_t *rows = json_object_get(g, "rows"), *want = json_object_get(g, "logits");
    const size_t off[2] = { 0, N };
    const mm_ragged one = { off, 1 };
    mm_lm *lm;
    mm_arena a = { 0 };
    check(mm_lm_open(&lm, dir, &(mm_lm_opts){ .kv_type = MM_F16, .plain = 1 }, &err));
    if (mm_lm_tape_most(lm) < N) { /* a window that the sequence is longer than */
        ok(mm_lm_tape_most(lm) > 0, "%s: on a tape only up to its window", name);
        mm_lm_close(&lm);
        return;
    }
    mm_graph gr = { .kern = mm_kern_get(), .arena = &a, .threads = 2 };
    mm_tensor y = mm_lm_logits(&gr, lm, mm_lm_through(&gr, lm, mm_lm_words(&gr, lm, ids, N), &one));
    double worst = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        double e = relative(y.p + json_integer_value(json_array_get(rows, i)) * VOCAB, json_array_get(want, i));
        if (!(e <= worst)) worst = e;
    }
    ok(worst < 1e-4, "%s: logits of whole sequences: relative error %.2g", name, worst);
    check(mm_lm_embed(lm, ids, N, x, &err));
    for (size_t i = 0; i < 2 * VOCAB; i++) cot[i] = sinf((float)(i * i));
    for (int keep = MM_KEEP_F32; keep <= MM_KEEP_F16; keep++) {
        mm_tape *tape = mm_tape_new((mm_keep)keep);
        summed(lm, x, cot, &a, tape, d);
        double square = 0;
        for (size_t i = 0; i < N * WIDTH; i++) square += (double)d[i] * (double)d[i];
        const double step = 1e-2 / sqrt(square);
        for (size_t i = 0; i < N * WIDTH; i++) up[i] = x[i] + (float)(step * (double)d[i]), down[i] = x[i] - (float)(step * (double)d[i]);
        const double slope = (summed(lm, up, cot, &a, NULL, NULL) - summed(lm, down, cot, &a, NULL, NULL)) / (2 * step);
        const double wrong = fabs(slope / square - 1);
        ok(square > 0 && wrong < (keep ? 3e-2 : 1e-2), "... gradient (kept as %d) is the slope: off by %.4f", keep, wrong);
        mm_tape_free(&tape);
    }
    mm_arena_clear(&a);
    mm_lm_close(&lm);
}

/* How a sequence is computed makes no difference, bit for bit. */
static void same_bits(const char *name, mm_lm *lm, const int32_t *ids)
{
    static float whole[N * VOCAB], got[(N + 8) * VOCAB], embd[N * WIDTH];
    mm_lm_cache *c = cache(lm, 4);
    size_t row = VOCAB * sizeof(float);
    step(c, 0, ids, N, 2, whole);

    int same = 1;
    for (size_t i = 0; i < N; i++) {
        step(c, 1, ids + i, 1, 1, got);
        same &= !memcmp(got, whole + i * VOCAB, row);
    }
    ok(same, "%s: token by token: the same bits as at once", name);

    mm_lm_trim(c, 1, 17);
    is_int((long long)mm_lm_len(c, 1), 17, "... trimmed");
    step(c, 1, ids + 17, 3, 1, got);
    mm_lm_copy(c, 2, 1, 0, 20);
    mm_lm_trim(c, 3, 0);
    mm_lm_copy(c, 3, 2, 0, 5);
    mm_lm_copy(c, 2, 1, 18, 20); /* what is the same stays */
    /* three sequences at three places, ids and embeddings, in one step */
    check(mm_lm_embed(lm, ids, N, embd, &err));
    const mm_lm_part parts[3] = { { .slot = 2, .ids = ids + 20, .n = 1, .logits = 1 },
                                  { .slot = 3, .embd = embd + 5 * WIDTH, .n = N - 5, .logits = 2 },
                                  { .slot = 1, .ids = ids + 20, .n = 7, .logits = 1 } };
    check(mm_lm_step(c, parts, 3, got, &err));
    ok(!memcmp(got, whole + 20 * VOCAB, row), "... a copied prefix goes on with the same bits");
    ok(!memcmp(got + VOCAB, whole + 5 * VOCAB, (N - 5) * row), "... embeddings in place of ids too, in one step with others");
    ok(!memcmp(got + (size_t)(N - 4) * VOCAB, whole + 26 * VOCAB, row), "... and what was trimmed");
    is_int((long long)mm_lm_len(c, 3), N, "... lengths");

    const mm_lm_part twice[2] = { { .slot = 0, .ids = ids, .n = 1 }, { .slot = 0, .ids = ids, .n = 1 } };
    is_int(mm_lm_step(c, twice, 2, NULL, &err), MM_EARG, "... a sequence twice in a step is refused");
    const mm_lm_part lng = { .slot = 0, .ids = ids, .n = 30 };
    is_int(mm_lm_step(c, &lng, 1, NULL, &err), MM_ELONG, "... and one that grows beyond the context");
    const int32_t bad = VOCAB;
    const mm_lm_part outside = { .slot = 0, .ids = &bad, .n = 1 };
    is_int(mm_lm_step(c, &outside, 1, NULL, &err), MM_ESHAPE, "... and a token outside the vocabulary");
    is_int((long long)mm_lm_len(c, 0), N, "... which changes nothing");
    mm_lm_cache_free(&c);
}

static void threads(const char *name, const char *dir, const int32_t *ids)
{
    static float a[N * VOCAB], b[N * VOCAB];
    for (int k = 0; k < 2; k++) {
        mm_lm *lm = open_as(dir, MM_F16, 1 + 2 * k);
        mm_lm_cache *c = cache(lm, 1);
        step(c, 0, ids, N, 2, k ? b : a);
        mm_lm_cache_free(&c);
        mm_lm_close(&lm);
    }
    ok(!memcmp(a, b, sizeof a), "%s: three threads: the same bits", name);
    ok(distance(a, b, N * VOCAB) == 0 && a[0] != a[1], "... which are numbers");
}

static void family(const char *name)
{
    json_t *g = fixture(name);
    const char *tmp = getenv("TMPDIR");
    char dir[256];
    int32_t ids[N];
    snprintf(dir, sizeof dir, "%s/mm-lm-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    tower_folder(dir, g);
    for (size_t i = 0; i < N; i++) ids[i] = (int32_t)json_integer_value(json_array_get(json_object_get(g, "ids"), i));
    parity(name, g, dir, ids);
    on_tape(name, g, dir, ids);
    mm_lm *lm = open_as(dir, MM_F16, 1);
    same_bits(name, lm, ids);
    is_int(mm_lm_is_end(lm, 2), 1, "... the end is known");
    is_int(mm_lm_is_end(lm, 3), 0, "... and what is none");
    mm_lm_close(&lm);
    threads(name, dir, ids);
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -r '%s'", dir);
    if (system(cmd)) exit(1);
    json_decref(g);
}

/* ---- GGUF: every type that matrices may have ---- */

enum { G_WIDTH = 256, G_KV = 128, G_VOCAB = 64, G_N = 24 };

static const struct {
    const char *name;
    int64_t rows;
} matrices[] = { { "blk.0.attn_q.weight", G_WIDTH }, { "blk.0.attn_k.weight", G_KV },       { "blk.0.attn_v.weight", G_KV },
                 { "blk.0.attn_output.weight", G_WIDTH }, { "blk.0.ffn_gate.weight", G_WIDTH }, { "blk.0.ffn_up.weight", G_WIDTH },
                 { "blk.0.ffn_down.weight", G_WIDTH }, { "output.weight", G_VOCAB } };
enum { MATRICES = sizeof matrices / sizeof *matrices };

/* Random blocks of one row whose scales make numbers of a usual size */
static void random_row(int type, unsigned char *row, float *x)
{
    const mm_dtype_info *d = mm_dtype_get(type);
    size_t blocks = G_WIDTH / d->block;
    int big = d->block == 256, at = type == MM_Q2_K ? 80 : type == MM_Q3_K ? 108 : type == MM_Q6_K ? 208 : 0;
    int two = type == MM_Q4_1 || type == MM_Q5_1 || type == MM_Q2_K || type == MM_Q4_K || type == MM_Q5_K;
    for (size_t b = 0; b < blocks; b++) {
        unsigned char *p = row + b * d->bytes;
        for (size_t i = 0; i < d->bytes; i++) p[i] = (unsigned char)(rnd() * 128 + 128);
        for (int i = 0; i < 1 + two; i++) {
            uint16_t h = mm_f32_to_f16(rnd() * (big ? 2e-4f : type == MM_IQ4_NL || type == MM_Q8_0 ? 1e-3f : 1e-2f));
            memcpy(p + at + 2 * i, &h, 2);
        }
    }
    if (type == MM_Q8_0) mmk_row_to_f32(mm_kern_get(), x, row, type, G_WIDTH);
    else mm_block_to_f32(type, x, row, G_WIDTH);
}

/* A decoder of one layer; its matrices in a type (v in another, where that is given) or, `plain`, the same numbers in float32 */
static void gguf(const char *path, int type, int other, int plain)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";
    mm_gguf_writer *w;
    mm_slice tokens[G_VOCAB];
    static float ones[G_WIDTH], table[G_VOCAB * G_WIDTH];
    const int64_t vec[1] = { G_WIDTH };
    for (size_t i = 0; i < G_VOCAB; i++) tokens[i] = (mm_slice){ letters + i, 1 };
    for (size_t i = 0; i < G_WIDTH; i++) ones[i] = 1;
    state = 5;
    for (size_t i = 0; i < G_VOCAB * G_WIDTH; i++) table[i] = rnd();
    check(mm_gguf_create(&w, path, &err));
    mm_gguf_kv_str(w, "general.architecture", "llama");
    mm_gguf_kv_u32(w, "llama.block_count", 1);
    mm_gguf_kv_u32(w, "llama.embedding_length", G_WIDTH);
    mm_gguf_kv_u32(w, "llama.feed_forward_length", G_WIDTH);
    mm_gguf_kv_u32(w, "llama.attention.head_count", 4);
    mm_gguf_kv_u32(w, "llama.attention.head_count_kv", 2);
    mm_gguf_kv_u32(w, "llama.context_length", 64);
    mm_gguf_kv_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    mm_gguf_kv_str(w, "tokenizer.ggml.model", "gpt2");
    mm_gguf_kv_str(w, "tokenizer.ggml.pre", "smollm");
    mm_gguf_kv_strs(w, "tokenizer.ggml.tokens", tokens, G_VOCAB);
    mm_gguf_kv_u32(w, "tokenizer.ggml.eos_token_id", 7);
    mm_gguf_kv_str(w, "tokenizer.chat_template", "{{ messages }}");
    mm_gguf_tensor(w, "token_embd.weight", MM_F32, 2, (const int64_t[]){ G_VOCAB, G_WIDTH });
    mm_gguf_tensor(w, "blk.0.attn_norm.weight", MM_F32, 1, vec);
    mm_gguf_tensor(w, "blk.0.ffn_norm.weight", MM_F32, 1, vec);
    mm_gguf_tensor(w, "output_norm.weight", MM_F32, 1, vec);
    for (int m = 0; m < MATRICES; m++)
        mm_gguf_tensor(w, matrices[m].name, plain ? MM_F32 : m == 2 && other >= 0 ? other : type, 2, (const int64_t[]){ matrices[m].rows, G_WIDTH });
    check(mm_gguf_begin(w, &err));
    check(mm_gguf_data(w, table, sizeof table, &err));
    for (int i = 0; i < 3; i++) check(mm_gguf_data(w, ones, sizeof ones, &err));
    for (int m = 0; m < MATRICES; m++)
        for (int64_t i = 0; i < matrices[m].rows; i++) {
            unsigned char row[G_WIDTH * 2];
            float x[G_WIDTH];
            int t = m == 2 && other >= 0 ? other : type;
            random_row(t, row, x);
            if (plain) check(mm_gguf_data(w, x, sizeof x, &err));
            else check(mm_gguf_data(w, row, G_WIDTH / mm_dtype_get(t)->block * mm_dtype_get(t)->bytes, &err));
        }
    check(mm_gguf_commit(&w, &err));
}

static void logits_of(const char *path, int kv, float *to)
{
    int32_t ids[G_N];
    for (int i = 0; i < G_N; i++) ids[i] = (i * 29 + 3) % G_VOCAB;
    mm_lm *lm = open_as(path, kv, 2);
    mm_lm_cache *c = cache(lm, 1);
    step(c, 0, ids, G_N - 1, 0, NULL);
    step(c, 0, ids + G_N - 1, 1, 1, to);
    mm_lm_cache_free(&c);
    mm_lm_close(&lm);
}

static void types(void)
{
    static const int list_of[][2] = { { MM_Q4_0, -1 }, { MM_Q4_1, -1 }, { MM_Q5_0, -1 }, { MM_Q5_1, -1 }, { MM_Q8_0, -1 }, { MM_Q2_K, -1 }, { MM_Q3_K, -1 },
                                      { MM_Q4_K, -1 }, { MM_Q5_K, -1 }, { MM_Q6_K, -1 }, { MM_IQ4_NL, -1 }, { MM_Q4_1, MM_Q6_K } };
    const char *tmp = getenv("TMPDIR");
    char a[256], b[256];
    float got[G_VOCAB], want[G_VOCAB], kept[G_VOCAB];
    snprintf(a, sizeof a, "%s/mm-lm-%d-a.gguf", tmp ? tmp : "/tmp", (int)getpid());
    snprintf(b, sizeof b, "%s/mm-lm-%d-b.gguf", tmp ? tmp : "/tmp", (int)getpid());
    for (size_t i = 0; i < sizeof list_of / sizeof *list_of; i++) {
        double top = 0;
        gguf(a, list_of[i][0], list_of[i][1], 0);
        gguf(b, list_of[i][0], list_of[i][1], 1);
        logits_of(a, MM_F32, got);
        logits_of(b, MM_F32, want);
        for (int k = 0; k < G_VOCAB; k++) top = fabs((double)want[k]) > top ? fabs((double)want[k]) : top;
        double d = distance(got, want, G_VOCAB) / top;
        /* products round what they multiply with to 8 bits; types without a product of their own are rounded so themselves, and blocks of random
         * bits are the worst case for that */
        int own = list_of[i][0] == MM_Q4_0 || list_of[i][0] == MM_Q4_1 || list_of[i][0] == MM_Q8_0;
        ok(d < (own ? 0.02 : 0.08), "GGUF, matrices in %s%s: logits of the same numbers in float32 but for %.2g", mm_dtype_get(list_of[i][0])->name,
           list_of[i][1] >= 0 ? " and another" : "", d);
        if (i) continue;
        logits_of(b, MM_F16, kept);
        d = distance(kept, want, G_VOCAB) / top;
        ok(d < 2e-3, "... keys and values in float16: %.2g", d);
        logits_of(b, MM_Q8_0, kept);
        d = distance(kept, want, G_VOCAB) / top;
        ok(d < 2e-2, "... in q8_0: %.2g", d);
        mm_lm *lm = open_as(a, MM_F16, 1);
        is_str(mm_lm_chat_template(lm), "{{ messages }}", "... its chat template");
        ok(mm_lm_is_end(lm, 7) && !mm_lm_is_end(lm, 8) && mm_lm_bos(lm) == -1 && !mm_lm_add_bos(lm), "... its special tokens");
        ok(strlen(mm_lm_fingerprint(lm)) > 17, "... its fingerprint");
        mm_lm_close(&lm);
    }
    unlink(a);
    unlink(b);
}

int main(void)
{
    static const char *const names[] = { "llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) family(names[i]);
    types();
    return done();
}

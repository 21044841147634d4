/* Decoders: logits against the reference (tests/golden/lm-*.json, written by scripts/parity/decoders fixtures), and what holds whatever the
 * model: the same bits alone or in a batch, at once or token by token, after trimming and copying, from ids or from embeddings. */
#include <unistd.h>
#include "model/mm_lm.h"
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
    mm_lm_copy(c, 2, 1, 20);
    mm_lm_trim(c, 3, 0);
    mm_lm_copy(c, 3, 2, 5);
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

int main(void)
{
    static const char *const names[] = { "llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) family(names[i]);
    return done();
}

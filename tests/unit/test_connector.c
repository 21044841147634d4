/* What stands between a unified model and a decoder: gradients that are the slope, a file that is read again, and who it fits. */
#include <math.h>
#include <unistd.h>
#include "model/mm_connector.h"
#include "model/mm_lm_tape.h"
#include "tap.h"
#include "tinytower.h"
#include "tinyuni.h"

enum { INPUTS = 3, ROWS = 9, SEEN = 32, WORDS = 4, WIDTH = 32, SOFT = 4, VECTOR = 32 };

static mm_model *uni;
static mm_lm *lm;
static float seen[ROWS * SEEN], vectors[INPUTS * VECTOR];

/* Cross entropy of words behind what is seen of three inputs, one of them of a single row. */
static double loss(const mm_connector *c, mm_arena *a, mm_tape *tape, int threads)
{
    static const size_t off[INPUTS + 1] = { 0, 5, 6, ROWS };
    static const int32_t ids[INPUTS * WORDS] = { 5, 9, 30, 2, 7, 7, 60, 2, 11, 80, 5, 2 };
    size_t from[INPUTS * (SOFT + WORDS)], says[INPUTS * WORDS], seq[INPUTS + 1];
    mm_graph g = { .kern = mm_kern_get(), .arena = a, .threads = threads, .tape = tape };
    mm_arena_reset(a);
    for (size_t i = 0, row = 0; i < INPUTS; i++) {
        seq[i] = row;
        for (size_t s = 0; s < SOFT; s++) from[row++] = i * SOFT + s;
        for (size_t w = 0; w < WORDS; w++) says[i * WORDS + w] = row - 1, from[row++] = INPUTS * SOFT + i * WORDS + w;
    }
    seq[INPUTS] = INPUTS * (SOFT + WORDS);
    const mm_tensor part[2] = { mm_connector_make(&g, c, mm_tensor_of(seen, ROWS, SEEN), &(mm_ragged){ off, INPUTS }, mm_tensor_of(vectors, INPUTS, VECTOR)),
                                mm_lm_words(&g, lm, ids, INPUTS * WORDS) };
    mm_tensor y = mm_lm_through(&g, lm, mm_op_rows(&g, mm_op_concat(&g, part, 2), from, seq[INPUTS]), &(mm_ragged){ seq, INPUTS });
    y = mm_op_class_ce(&g, mm_lm_logits(&g, lm, mm_op_rows(&g, y, says, INPUTS * WORDS)), ids);
    const double value = g.failed ? NAN : (double)*y.p;
    if (tape) mm_tape_seed(&g, y, 1);
    if (tape && mm_tape_backward(&g)) return NAN;
    return value;
}

static void gradients(mm_connector *c, mm_arena *a)
{
    float *two[2][16] = { { NULL } };
    int same = 1;
    for (int threads = 1; threads <= 2; threads++) {
        mm_tape *tape = mm_tape_new(MM_KEEP_F32);
        for (size_t i = 0; i < mm_connector_count(c); i++) {
            mm_param *p = &mm_connector_at(c, i)->p;
            if (!(p->grad = two[threads - 1][i] = calloc(p->rows * p->cols, sizeof *p->grad))) exit(4);
        }
        loss(c, a, tape, threads);
        mm_tape_free(&tape);
    }
    for (size_t i = 0; i < mm_connector_count(c); i++) {
        mm_param *p = &mm_connector_at(c, i)->p;
        const size_t n = p->rows * p->cols;
        double square = 0, up, down;
        same &= !memcmp(two[0][i], two[1][i], n * sizeof *two[0][i]);
        for (size_t k = 0; k < n; k++) square += (double)p->grad[k] * (double)p->grad[k];
        float *was = malloc(n * sizeof *was);
        if (!was) exit(4);
        memcpy(was, p->w, n * sizeof *was);
        const double step = 0.005 / sqrt(square);
        for (size_t k = 0; k < n; k++) p->w[k] = was[k] + (float)(step * (double)p->grad[k]);
        up = loss(c, a, NULL, 1);
        for (size_t k = 0; k < n; k++) p->w[k] = was[k] - (float)(step * (double)p->grad[k]);
        down = loss(c, a, NULL, 1);
        memcpy(p->w, was, n * sizeof *was);
        const double len = sqrt(square), got = (up - down) / 0.01;
        ok(len > 0 && fabs(got - len) < 0.02 * len + 5e-4, "%s: slope %.6f, gradient %.6f", mm_connector_at(c, i)->name, got, len);
        free(was);
        p->grad = NULL;
    }
    ok(same, "two threads: the same bits");
    for (size_t i = 0; i < mm_connector_count(c); i++) free(two[0][i]), free(two[1][i]);
}

static void files(mm_connector *c, const char *dir)
{
    static float x[3 * 32 * 32], a[SOFT * WIDTH], b[SOFT * WIDTH];
    char path[128];
    mm_connector *again = NULL, *small = NULL;
    const mm_part picture = { .mod = MM_IMAGE, .x = x }, sound = { .mod = MM_AUDIO, .x = x };
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = sinf((float)i / 7);
    snprintf(path, sizeof path, "%s/c.gguf", dir);
    is_int(mm_connector_see(c, uni, &picture, a, &err), MM_EUNSUP, "one that has learned nothing sees nothing");
    check(mm_connector_write(c, path, MM_F32, uni, lm, 1u << MM_IMAGE, "{}", &err));
    check(mm_connector_open(&again, path, &err));
    int same = mm_connector_count(again) == mm_connector_count(c) && mm_connector_rows(again) == SOFT;
    for (size_t i = 0; same && i < mm_connector_count(c); i++) {
        const mm_param *p = &mm_connector_at(c, i)->p, *q = &mm_connector_at(again, i)->p;
        same &= p->rows == q->rows && p->cols == q->cols && !memcmp(p->w, q->w, p->rows * p->cols * sizeof *p->w);
    }
    ok(same, "written and read: the same weights");
    is_int(mm_connector_mods(again), 1 << MM_IMAGE, "... and what it was trained on");
    is_str(mm_connector_decoder(again), mm_lm_fingerprint(lm), "... and with");
    is_int(mm_connector_fits(again, uni, lm, &err), 0, "it fits the models that it was made for");
    check(mm_connector_see(again, uni, &picture, a, &err));
    check(mm_connector_see(again, uni, &picture, b, &err));
    ok(!memcmp(a, b, sizeof a) && a[0] != a[WIDTH] && isfinite(a[0]), "a picture as rows, twice the same");
    is_int(mm_connector_see(again, uni, &sound, b, &err), MM_EUNSUP, "what it was not trained on is refused");
    ok(strstr(err.msg, "audio") != NULL, "... by name: %s", err.msg);
    check(mm_connector_write(c, path, MM_Q8_0, uni, lm, 1u << MM_IMAGE, NULL, &err));
    check(mm_connector_open(&small, path, &err));
    check(mm_connector_see(small, uni, &picture, b, &err));
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < SOFT * WIDTH; i++) ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i], bb += (double)b[i] * (double)b[i];
    ok(ab / sqrt(aa * bb) > 0.999, "in 8 bits nearly the same: cosine %.5f", ab / sqrt(aa * bb));
    mm_connector_close(&again);
    mm_connector_close(&small);

    mm_buf file = { 0 };
    check(mm_file_read(&file, path, 1 << 24, &err));
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(file.p, 1, file.len / 2, f) != file.len / 2 || fclose(f)) exit(4);
    ok(mm_connector_open(&again, path, &err) != 0 && !again, "half a file: %s", err.msg);
    mm_buf_clear(&file);
}

static void company(mm_connector *c, const char *dir)
{
    char path[128];
    mm_model *other = NULL;
    mm_connector *none;
    mm_connector *again = NULL;
    snprintf(path, sizeof path, "%s/c.gguf", dir);
    check(mm_connector_write(c, path, MM_F16, uni, lm, 1u << MM_IMAGE, NULL, &err));
    check(mm_connector_open(&again, path, &err));
    snprintf(path, sizeof path, "%s/heads.gguf", dir);
    tiny_uni(path, 1);
    check(mm_model_open(&other, path, NULL, &err));
    ok(mm_connector_fits(again, other, lm, &err) == MM_ESHAPE, "another unified model: %s", err.msg);
    mm_connector_close(&again);
    mm_model_close(&other);
    mm_lm *says;
    check(mm_lm_open(&says, path, NULL, &err));
    ok(mm_connector_new(&none, uni, says, 1, &err) == MM_EUNSUP, "no connector in front of a unified model: %s", err.msg);
    mm_lm_close(&says);
    snprintf(path, sizeof path, "%s/u.gguf", dir);
    ok(mm_connector_open(&none, path, &err) == MM_EUNSUP, "a model is no connector: %s", err.msg);
}

int main(void)
{
    const char *root = getenv("MM_ROOT");
    char dir[64], path[512];
    mm_arena a = { 0 };
    mm_connector *c, *twin;
    mm_buf b = { 0 };
    snprintf(dir, sizeof dir, "/tmp/test-connector-%ld", (long)getpid());
    snprintf(path, sizeof path, "%s/tests/golden/lm-llama.json", root ? root : ".");
    check(mm_file_read(&b, path, 1 << 20, &err));
    json_t *fixture = mm_json_load(b.p, b.len, "llama", &err);
    if (!fixture) check(MM_EDATA);
    tower_folder(dir, fixture);
    check(mm_lm_open(&lm, dir, &(mm_lm_opts){ .kv_type = MM_F16, .plain = 1 }, &err));
    snprintf(path, sizeof path, "%s/u.gguf", dir);
    tiny_uni(path, 0);
    check(mm_model_open(&uni, path, NULL, &err));
    for (size_t i = 0; i < ROWS * SEEN; i++) seen[i] = sinf((float)(i * i));
    for (size_t i = 0; i < INPUTS * VECTOR; i++) vectors[i] = 0.25f * sinf((float)(i * i + 1));
    check(mm_connector_new(&c, uni, lm, 3, &err));
    check(mm_connector_new(&twin, uni, lm, 3, &err));
    ok(!memcmp(mm_connector_at(c, 2)->p.w, mm_connector_at(twin, 2)->p.w, 1024), "a seed gives the same weights");
    mm_connector_close(&twin);
    gradients(c, &a);
    files(c, dir);
    company(c, dir);
    mm_connector_close(&c);
    mm_model_close(&uni);
    mm_lm_close(&lm);
    mm_arena_clear(&a);
    json_decref(fixture);
    mm_buf_clear(&b);
    snprintf(path, sizeof path, "rm -r '%s'", dir);
    if (system(path)) exit(4);
    return done();
}

/* The unified model as a decoder: the logits of its next-token head as mm_uni_next() gives them for whole texts, step by step, in company, after
 * trimming and copying; what may be seen, and in which order. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "model/mm_lm.h"
#include "model/mm_say.h"
#include "model/mm_uni_heads.h"
#include "tap.h"
#include "tinyuni.h"

enum { VOCAB = 264, LONGEST = 12, N = 5 };

static char path[128];
static mm_store *store;
static mm_uni *plain; /* the same model, outside a decoder */
static float *media[MM_MODALITIES];

/* What five texts are about: a picture, a sound, a clip, a text, nothing; and the texts. */
static const int about[N] = { MM_IMAGE, MM_AUDIO, MM_VIDEO, MM_TEXT, -1 };
static const int32_t said[N][LONGEST] = { { 2, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50 },
                                          { 2, 90, 10 }, { 2, 200, 100, 99, 98 }, { 2, 77, 78, 79 }, { 2, 33, 9 } };
static const size_t length[N] = { 12, 3, 5, 4, 3 };
static const char text[] = "a red kite";

static mm_lm *open_as(int kv, int threads)
{
    mm_lm *lm;
    check(mm_lm_open(&lm, path, &(mm_lm_opts){ .threads = threads, .kv_type = kv }, &err));
    return lm;
}

static mm_part part_of(int i) { return (mm_part){ .mod = (mm_modality)about[i], .text = { text, strlen(text) }, .x = media[about[i]] }; }

/* What the model's own functions say: logits of text i, [length, VOCAB]. */
static float *expected(int i, size_t *rows)
{
    mm_arena a = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &a, .threads = 1 };
    const mm_uni_config *c = mm_uni_get_config(plain);
    int32_t ids[sizeof text];
    const size_t ids_off[] = { 0, strlen(text) }, off[] = { 0, length[i] };
    mm_uni_given given = { 0 };
    if (about[i] >= 0) {
        const float *x = media[about[i]];
        float *turned = NULL;
        const size_t side = (size_t)c->mod[about[i]].size, frames = about[i] == MM_AUDIO ? 60 : (size_t)c->mod[about[i]].frames;
        if (about[i] == MM_AUDIO) { /* [bins, all frames] of which the last are padding -> [frames, bins] */
            const size_t all = (size_t)c->mod[MM_AUDIO].frames;
            turned = mm_aligned(frames * MM_UNI_MEL, sizeof *turned);
            for (size_t f = 0; f < frames; f++)
                for (size_t b = 0; b < MM_UNI_MEL; b++) turned[f * MM_UNI_MEL + b] = x[b * all + f];
            x = turned;
        }
        for (size_t k = 0; k < strlen(text); k++) ids[k] = 8 + (unsigned char)text[k];
        const mm_uni_in in = { .mod = (mm_modality)about[i], .n = 1, .ids = ids, .off = ids_off, .x = &x, .frames = &frames, .height = side, .width = side };
        given = mm_uni_see(&g, plain, &in, NULL);
        free(turned);
    }
    const mm_uni_words w = { .given = about[i] < 0 ? NULL : &given, .n = 1, .ids = said[i], .off = off };
    mm_tensor y = mm_uni_logits(&g, plain, mm_uni_next(&g, plain, &w));
    float *out = g.failed ? NULL : malloc(y.rows * y.cols * sizeof *out);
    if (!out) exit(1);
    memcpy(out, y.p, y.rows * y.cols * sizeof *out);
    *rows = y.rows;
    mm_arena_clear(&a);
    return out;
}

typedef struct {
    int32_t *ids;
    float *rows;
    size_t seen, n;
} prompt;

static prompt prompt_of(mm_lm *lm, int i)
{
    prompt p = { 0 };
    const mm_part what = part_of(about[i] < 0 ? 0 : i);
    if (about[i] >= 0) check(mm_say_see(lm, &what, &p.rows, &p.seen, &err));
    p.n = p.seen + length[i];
    p.ids = malloc(p.n * sizeof *p.ids);
    for (size_t k = 0; k < p.seen; k++) p.ids[k] = MM_SAY_MARK;
    memcpy(p.ids + p.seen, said[i], length[i] * sizeof *p.ids);
    return p;
}

static void freed(prompt *p)
{
    free(p->ids);
    free(p->rows);
}

static mm_lm_part part(size_t slot, const prompt *p, size_t from, size_t n, int logits, size_t width)
{
    return (mm_lm_part){ .slot = slot, .ids = p->ids + from, .embd = p->rows && from < p->seen ? p->rows + from * width : NULL, .mark = MM_SAY_MARK,
                         .n = n, .logits = logits };
}

static double worst(const float *a, const float *b, size_t n)
{
    double w = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= w)) w = d;
    }
    return w;
}

static mm_lm_cache *cache(mm_lm *lm, size_t slots)
{
    mm_lm_cache *c;
    check(mm_lm_cache_new(&c, lm, slots, 0, &err));
    return c;
}

/* Every text alone, at once and in pieces of every size */
static void alone(int kv, double most)
{
    mm_lm *lm = open_as(kv, 1);
    static float got[200 * VOCAB];
    for (int i = 0; i < N; i++) {
        size_t rows;
        float *want = expected(i, &rows);
        prompt p = prompt_of(lm, i);
        mm_lm_cache *c = cache(lm, 1);
        const mm_lm_part whole = part(0, &p, 0, p.n, 2, mm_lm_width(lm));
        check(mm_lm_step(c, &whole, 1, got, &err));
        const double d = worst(got + p.seen * VOCAB, want, rows * VOCAB);
        ok(d < most, "text %d about %s: logits differ by %.2g", i, about[i] < 0 ? "nothing" : mm_modality_name((mm_modality)about[i]), d);
        for (size_t each = 1; each < p.n; each += 4) {
            static float row[VOCAB];
            int same = 1;
            mm_lm_trim(c, 0, 0);
            for (size_t at = 0, n; at < p.n; at += n) {
                n = p.n - at < each ? p.n - at : each;
                const mm_lm_part some = part(0, &p, at, n, 1, mm_lm_width(lm));
                check(mm_lm_step(c, &some, 1, row, &err));
                if (at + n > p.seen) same &= !memcmp(row, got + (at + n - 1) * VOCAB, sizeof row);
            }
            ok(same, "... the same bits %zu at a time", each);
        }
        mm_lm_cache_free(&c);
        freed(&p);
        free(want);
    }
    mm_lm_close(&lm);
}

/* All of them in one step, with two threads; then each goes on with a token of its own, from where a copy and a cut left it */
static void in_company(void)
{
    mm_lm *lm = open_as(MM_F32, 2);
    const size_t width = mm_lm_width(lm);
    prompt p[N];
    mm_lm_part parts[N];
    static float first[N * VOCAB], one[N * VOCAB], again[N * VOCAB];
    mm_lm_cache *c = cache(lm, N + 1);
    for (size_t i = 0; i < N; i++) {
        p[i] = prompt_of(lm, (int)i);
        parts[i] = part(i, &p[i], 0, p[i].n - 1, 1, width);
    }
    check(mm_lm_step(c, parts, N, first, &err));
    for (size_t i = 0; i < N; i++) parts[i] = part(i, &p[i], p[i].n - 1, 1, 1, width);
    check(mm_lm_step(c, parts, N, one, &err));
    for (size_t i = 0; i < N; i++) {
        size_t rows;
        float *want = expected((int)i, &rows);
        ok(worst(first + i * VOCAB, want + (rows - 2) * VOCAB, VOCAB) < 1e-5 && worst(one + i * VOCAB, want + (rows - 1) * VOCAB, VOCAB) < 1e-5,
           "text %zu in company", i);
        free(want);
    }
    for (size_t i = 0; i < N; i++) mm_lm_trim(c, i, p[i].n - 1);
    check(mm_lm_step(c, parts, N, again, &err));
    ok(!memcmp(one, again, sizeof one), "after trimming");
    for (size_t i = 0; i < N; i++) {
        mm_lm_copy(c, N, i, 0, p[i].n - 1);
        mm_lm_part to = parts[i];
        to.slot = N;
        check(mm_lm_step(c, &to, 1, again, &err));
        ok(!memcmp(one + i * VOCAB, again, VOCAB * sizeof *one), "after copying %zu", i);
    }
    mm_lm_copy(c, N, 0, 0, p[0].seen / 2); /* inside of what was seen: the other half follows */
    mm_lm_part rest = part(N, &p[0], p[0].seen / 2, p[0].n - p[0].seen / 2, 1, width);
    check(mm_lm_step(c, &rest, 1, again, &err));
    ok(!memcmp(one, again, VOCAB * sizeof *one), "after copying half of what was seen");
    for (size_t i = 0; i < N; i++) freed(&p[i]);
    mm_lm_cache_free(&c);
    mm_lm_close(&lm);
}

static void refused(void)
{
    mm_lm *lm = open_as(MM_F32, 1);
    mm_lm_cache *c = cache(lm, 1);
    prompt p = prompt_of(lm, 0);
    float row[VOCAB], *rows;
    size_t n;
    mm_lm_part x = part(0, &p, 0, p.n, 1, mm_lm_width(lm));
    const int32_t late[] = { MM_UNI_BEGIN, MM_SAY_MARK };
    const mm_lm_part wrong = { .ids = late, .n = 2, .embd = p.rows, .mark = MM_SAY_MARK, .logits = 1 };
    is_int(mm_lm_step(c, &wrong, 1, row, &err), MM_EARG, "words before what is seen");
    check(mm_lm_step(c, &x, 1, row, &err));
    is_int(mm_lm_step(c, &x, 1, row, &err), MM_EARG, "what is seen behind words");
    is_int((long long)mm_lm_len(c, 0), (long long)p.n, "and nothing has changed");
    x.ids = NULL;
    is_int(mm_lm_step(c, &x, 1, row, &err), MM_EARG, "rows without ids");
    is_int(mm_lm_embed(lm, late, 2, row, &err), MM_EUNSUP, "no embeddings in place of words");
    is_int(mm_say_see(lm, &(mm_part){ .mod = MM_TEXT, .text = { "", 0 } }, &rows, &n, &err), MM_EEMPTY, "an empty text");
    char *lot = malloc(2000);
    memset(lot, 'x', 2000);
    is_int(mm_say_see(lm, &(mm_part){ .mod = MM_TEXT, .text = { lot, 2000 } }, &rows, &n, &err), MM_ELONG, "a text that is longer than the window");
    ok(mm_lm_bos(lm) == MM_UNI_BEGIN && mm_lm_eos(lm) == MM_UNI_END && mm_lm_add_bos(lm), "what begins and ends a text");
    ok(mm_say_model(lm) && !mm_lm_chat_template(lm), "a model of its own, without turns");
    int words = 1;
    for (int32_t id = 1; id < 8; id++) words &= !mm_lm_is_word(lm, id);
    ok(words && mm_lm_is_word(lm, MM_UNI_END) && mm_lm_is_word(lm, 8), "which tokens are words");
    free(lot);
    freed(&p);
    mm_lm_cache_free(&c);
    mm_lm_close(&lm);
    tiny_uni(path, 0);
    ok(mm_lm_open(&lm, path, NULL, &err) == MM_EUNSUP && strstr(err.msg, "next-token head"), "a model without the head: %s", err.msg);
}

int main(void)
{
    mm_uni_config c;
    snprintf(path, sizeof path, "/tmp/test-say-%ld.gguf", (long)getpid());
    tiny_uni(path, 1);
    check(mm_store_open(&store, path, &err));
    check(mm_uni_config_read(&c, store, &err));
    check(mm_uni_new(&plain, &c, &err));
    check(mm_uni_load(plain, store, 1u << MM_UNI_NEXT, &err));
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) {
        const size_t side = (size_t)c.mod[m].size, frames = m == MM_IMAGE ? 1 : (size_t)c.mod[m].frames;
        const size_t n = frames * (m == MM_AUDIO ? MM_UNI_MEL : 3 * side * side);
        mm_rng r = mm_rng_at(9, (uint64_t)m, 0, 0);
        media[m] = mm_aligned(n, sizeof **media);
        for (size_t i = 0; i < n; i++) media[m][i] = mm_rng_range(&r, -1.5f, 0.9f);
        for (size_t b = 0; m == MM_AUDIO && b < MM_UNI_MEL; b++) /* sixty frames, then padding */
            for (size_t f = 60; f < (size_t)c.mod[m].frames; f++) media[m][b * (size_t)c.mod[m].frames + f] = 1;
    }
    alone(MM_F32, 1e-5);
    alone(MM_F16, 5e-3);
    in_company();
    refused();
    for (int m = 0; m < MM_MODALITIES; m++) free(media[m]);
    mm_uni_free(&plain);
    mm_store_close(&store);
    unlink(path);
    return done();
}

/* Sampling: what each option leaves, equal draws for equal seeds, frequencies as the probabilities say; texts that come token by token. */
#include <math.h>
#include <stdlib.h>
#include "base/mm_base.h"
#include "gen/mm_said.h"
#include "gen/mm_sample.h"
#include "tap.h"

static mm_err err;
static mm_sampler s;

static int32_t draw(const mm_sample_opts *o, const float *logits, size_t n, uint64_t seed, const int32_t *past, size_t n_past, const uint64_t *allow)
{
    mm_rng rng = mm_rng_at(seed, 0, 0, 0);
    int32_t id = -1;
    return mm_sample(&s, o, logits, n, past, n_past, allow, &rng, &id, &err) ? -1 : id;
}

/* Which of n ids come up in 4000 draws, and how often. */
static void counts(const mm_sample_opts *o, const float *logits, size_t n, int *count)
{
    memset(count, 0, n * sizeof *count);
    for (uint64_t i = 0; i < 4000; i++) count[draw(o, logits, n, i, NULL, 0, NULL)]++;
}

static void options(void)
{
    /* probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625 in another order */
    const float l[] = { logf(0.125f), logf(0.5f), logf(0.0625f), logf(0.25f), logf(0.0625f) };
    int c[5];
    mm_sample_opts o = { 0 };
    is_int(draw(&o, l, 5, 1, NULL, 0, NULL), 1, "greedy takes the best");
    o.temperature = 1;
    counts(&o, l, 5, c);
    ok(abs(c[1] - 2000) < 150 && abs(c[3] - 1000) < 130 && abs(c[0] - 500) < 100 && abs(c[2] - 250) < 70 &&
           abs(c[4] - 250) < 70,
       "draws are as often as the probabilities say");
    o.top_k = 2;
    counts(&o, l, 5, c);
    ok(c[1] + c[3] == 4000 && abs(c[1] - 2667) < 130, "top_k");
    o = (mm_sample_opts){ .temperature = 1, .top_p = 0.8 };
    counts(&o, l, 5, c);
    ok(c[2] + c[4] == 0 && c[0] > 400, "top_p keeps what reaches it");
    o = (mm_sample_opts){ .temperature = 1, .top_p = 0.75 };
    counts(&o, l, 5, c);
    ok(c[1] + c[3] == 4000, "top_p that is met exactly");
    o = (mm_sample_opts){ .temperature = 1, .top_k = 2, .top_p = 0.6 };
    counts(&o, l, 5, c);
    ok(c[1] == 4000, "top_p of the best K");
    o = (mm_sample_opts){ .temperature = 1, .min_p = 0.3 };
    counts(&o, l, 5, c);
    ok(c[1] + c[3] == 4000, "min_p");
    o = (mm_sample_opts){ .temperature = 100, .min_p = 0.3 };
    counts(&o, l, 5, c);
    ok(c[1] + c[3] == 4000 && abs(c[1] - c[3]) < 300, "temperature comes after min_p");
    o = (mm_sample_opts){ .temperature = 0.5 };
    counts(&o, l, 5, c);
    ok(abs(c[1] - 2909) < 150, "a low temperature sharpens");
    const uint64_t allow[] = { 1 << 2 | 1 << 0 };
    is_int(draw(&(mm_sample_opts){ 0 }, l, 5, 1, NULL, 0, allow), 0, "what is not allowed does not come");
    const uint64_t nothing[] = { 0 };
    is_int(draw(&(mm_sample_opts){ 0 }, l, 5, 1, NULL, 0, nothing), -1, "nothing allowed is an error");
    const float nan_row[] = { 0, NAN };
    ok(draw(&(mm_sample_opts){ 0 }, nan_row, 2, 1, NULL, 0, NULL) == -1 && err.code == MM_EDATA, "so is NaN");
    const float ties[] = { 1, 3, 3, 3 };
    is_int(draw(&(mm_sample_opts){ 0 }, ties, 4, 1, NULL, 0, NULL), 1, "of equals the first");
    const float inf[] = { 1, INFINITY, 3 };
    is_int(draw(&(mm_sample_opts){ .temperature = 1 }, inf, 3, 1, NULL, 0, NULL), 1, "an infinite logit wins");
}

static void penalties(void)
{
    const float l[] = { 2, 1.9f, -1, -1.2f };
    const int32_t past[] = { 0, 0, 2, 3, 0 };
    is_int(draw(&(mm_sample_opts){ .repeat_penalty = 1.2 }, l, 4, 1, past, 5, NULL), 1, "a repeated token is less likely");
    is_int(draw(&(mm_sample_opts){ .repeat_penalty = 1.2, .last_n = 2 }, l, 4, 1, (const int32_t[]){ 0, 2, 3 }, 3, NULL), 0, "but not when it is long ago");
    is_int(draw(&(mm_sample_opts){ .repeat_penalty = 1.2, .last_n = -1 }, l, 4, 1, (const int32_t[]){ 0, 2, 3 }, 3, NULL), 1, "unless all is looked at");
    const uint64_t allow[] = { 1 << 2 | 1 << 3 };
    is_int(draw(&(mm_sample_opts){ .repeat_penalty = 1.5 }, l, 4, 1, (const int32_t[]){ 2 }, 1, allow), 3, "a negative logit is multiplied");
    is_int(draw(&(mm_sample_opts){ .presence_penalty = 0.05 }, l, 4, 1, past, 5, NULL), 0, "presence counts once");
    is_int(draw(&(mm_sample_opts){ .frequency_penalty = 0.05 }, l, 4, 1, past, 5, NULL), 1, "frequency counts each time");
}

/* The same whatever the machine: a fixed draw over many logits. */
static void fixed(void)
{
    enum { N = 50000 };
    float *l = malloc(N * sizeof *l);
    mm_rng r = mm_rng_at(1, 2, 3, 4);
    uint64_t h[4] = { 0 };
    const mm_sample_opts o[] = { { .temperature = 0.8 },
                                 { .temperature = 0.8, .top_k = 40 },
                                 { .temperature = 1.3, .top_p = 0.95 },
                                 { .temperature = 1, .min_p = 0.02, .top_p = 0.999, .top_k = 500 } };
    for (int i = 0; i < N; i++) l[i] = mm_rng_range(&r, -12, 12);
    for (int k = 0; k < 4; k++)
        for (uint64_t i = 0; i < 50; i++) h[k] = h[k] * 31 + (uint64_t)draw(&o[k], l, N, i, NULL, 0, NULL);
    char text[100];
    snprintf(text, sizeof text, "%016llx %016llx %016llx %016llx", (unsigned long long)h[0], (unsigned long long)h[1],
             (unsigned long long)h[2], (unsigned long long)h[3]);
    is_str(text, "31f332daaeb8836f dae1e0fe933ba197 5caf2f32893fd9df 06bc8adcbf3b6874", "draws are the same on every machine");
    const double total = mm_log_total(l, N);
    double sum = 0;
    for (int i = 0; i < N; i++) sum += exp((double)l[i] - total);
    ok(fabs(sum - 1) < 1e-9, "log-probabilities sum to 1");
    mm_candidate top[5];
    ok(mm_top(l, N, top, 5) == 5 && top[0].logit >= top[1].logit && top[3].logit >= top[4].logit, "the best come first");
    ok(mm_top(l, 3, top, 5) == 3, "never more than there are");
    free(l);
}

static void add(mm_said *t, const char *bytes, const char *ready, const char *what)
{
    const char *text;
    int r = mm_said_add(t, bytes, strlen(bytes));
    size_t n = mm_said_ready(t, &text);
    if (!ok(!r && n == strlen(ready) && !memcmp(text, ready, n), "%s", what)) printf("# '%.*s'\n", (int)n, text);
}

static void texts(void)
{
    const mm_slice stops[] = { { "\n\n", 2 }, { "END", 3 }, { "\xE2\x82\xAC", 3 } };
    const char *text;
    mm_said t = { .stops = stops, .n_stops = 3 };
    add(&t, "a\xC3", "a", "half a character waits");
    add(&t, "\xA9", "\xC3\xA9", "for its other half");
    add(&t, "\xF0\x9F\x98", "", "three quarters wait");
    add(&t, "x", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx", "what cannot go on is lost, byte by byte");
    add(&t, "\xFF", "\xEF\xBF\xBD", "a byte that begins nothing");
    add(&t, "\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", "a surrogate");
    add(&t, "xE", "x", "the beginning of a stop string waits");
    add(&t, "N", "", "and goes on waiting");
    add(&t, "E", "EN", "until it is none, but for a new beginning");
    add(&t, "ND", "", "a stop string ends the text");
    ok(t.stopped == 2 && !strcmp(t.text.p + t.text.len - 3, "xEN"), "and is not in it");
    add(&t, "more", "", "nothing follows");
    mm_said_reset(&t);
    add(&t, "one\n", "one", "a line feed waits");
    add(&t, "two ENDx \n\n", "\ntwo ", "the stop string that comes first counts");
    ok(t.stopped == 2, "not the first of the list");
    mm_said_reset(&t);
    add(&t, "b\xE2\x82", "b", "half of a stop character");
    add(&t, "\xAC", "", "and all of it");
    ok(t.stopped == 3, "stops");
    mm_said_reset(&t);
    add(&t, "EN\xC3", "", "held back");
    ok(!mm_said_end(&t) && mm_said_ready(&t, &text) == 5 && !memcmp(text, "EN\xEF\xBF\xBD", 5), "the end lets go of all");
    mm_said_clear(&t);
}

int main(void)
{
    options();
    penalties();
    fixed();
    texts();
    mm_sampler_clear(&s);
    return done();
}

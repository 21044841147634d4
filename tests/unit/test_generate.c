/* The scheduler, on a decoder of our own whose logits are a hash of all tokens that a sequence holds: answers are the same alone and in any
 * company, prefixes are shared, contexts overflow as asked, structured answers are whole however few tokens they may have. */
#include <math.h>
#include <stdlib.h>
#include "base/mm_base.h"
#include "gen/mm_generate.h"
#include "tap.h"

static mm_err err;

/* ---- the decoder ---- */

#define CONTEXT 512
struct mm_lm {
    mm_tok *tok;
    size_t vocab;
    int32_t end;
    int nan;          /* logits are not numbers */
    float noise;      /* how far logits are from those of one without */
    size_t context;   /* 0: CONTEXT */
    size_t computed;  /* tokens, over all */
    size_t steps, most;
};
struct mm_lm_cache {
    mm_lm *lm;
    size_t slots, context;
    struct seq { int32_t ids[CONTEXT]; size_t n; } *s;
};
const mm_tok *mm_lm_tokenizer(const mm_lm *lm) { return lm->tok; }
size_t mm_lm_vocab(const mm_lm *lm) { return lm->vocab; }
size_t mm_lm_context(const mm_lm *lm) { return lm->context ? lm->context : CONTEXT; }
size_t mm_lm_width(const mm_lm *lm) { return (void)lm, 1; }
int32_t mm_lm_bos(const mm_lm *lm) { return (void)lm, 1; }
int mm_lm_is_word(const mm_lm *lm, int32_t id) { return (void)lm, (void)id, 1; }
int mm_lm_is_end(const mm_lm *lm, int32_t id) { return id == lm->end; }
int mm_lm_cache_new(mm_lm_cache **out, mm_lm *lm, size_t slots, size_t context, mm_err *e)
{
    (void)e;
    mm_lm_cache *c = calloc(1, sizeof *c);
    *c = (mm_lm_cache){ lm, slots, context, calloc(slots, sizeof *c->s) };
    *out = c;
    return 0;
}
void mm_lm_cache_free(mm_lm_cache **c)
{
    if (*c) free((*c)->s);
    free(*c);
    *c = NULL;
}
size_t mm_lm_len(const mm_lm_cache *c, size_t slot) { return c->s[slot].n; }
static int broken;
void mm_lm_trim(mm_lm_cache *c, size_t slot, size_t len)
{
    broken |= len > c->s[slot].n;
    c->s[slot].n = len;
}
void mm_lm_copy(mm_lm_cache *c, size_t to, size_t from, size_t same, size_t len)
{
    broken |= len > c->s[from].n || to == from || same > len || same > c->s[to].n;
    memcpy(c->s[to].ids + same, c->s[from].ids + same, (len - same) * sizeof(int32_t));
    c->s[to].n = len;
}
static void logits_of(const mm_lm *m, const int32_t *ids, size_t n, float *logits)
{
    mm_rng r = { mm_hash64(ids, n * sizeof *ids, 7) };
    for (size_t v = 0; v < m->vocab; v++) logits[v] = m->nan ? NAN : mm_rng_range(&r, -4, 4);
    for (size_t v = 0; m->noise > 0 && v < m->vocab; v++) logits[v] += mm_rng_range(&r, -m->noise, m->noise);
    logits[m->end] += 2;
}
int mm_lm_step(mm_lm_cache *c, const mm_lm_part *parts, size_t n, float *logits, mm_err *e)
{
    size_t tokens = 0;
    (void)e;
    for (size_t i = 0; i < n; i++) {
        struct seq *s = &c->s[parts[i].slot];
        broken |= !parts[i].n || s->n + parts[i].n > c->context;
        for (size_t k = 0; k < i; k++) broken |= parts[k].slot == parts[i].slot;
        memcpy(s->ids + s->n, parts[i].ids, parts[i].n * sizeof(int32_t));
        tokens += parts[i].n;
        for (size_t k = 0; k < parts[i].n; k++) {
            s->n++;
            if (parts[i].logits < 2 && (!parts[i].logits || k + 1 < parts[i].n)) continue;
            logits_of(c->lm, s->ids, s->n, logits);
            logits += c->lm->vocab;
        }
    }
    c->lm->computed += tokens;
    c->lm->steps++;
    if (tokens > c->lm->most) c->lm->most = tokens;
    return 0;
}

static mm_lm lm;

static void open_lm(void)
{
    const char *root = getenv("MM_ROOT");
    char path[1024];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/tok-bytes.json", root ? root : ".");
    if (mm_file_read(&b, path, 1 << 24, &err) || mm_tok_from_json(&lm.tok, b.p, b.len, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    mm_buf_clear(&b);
    lm.vocab = mm_tok_vocab(lm.tok) + 3; /* more rows than tokens, as checkpoints have */
    lm.end = mm_tok_id(lm.tok, "<|endoftext|>", 13);
}

/* ---- runs ---- */

#define JOBS 60
static int32_t prompt[JOBS][CONTEXT];
static mm_gen_job jobs[JOBS];

/* Prompts of many lengths, every third of which begins as the one before. */
static void make_jobs(void)
{
    memset(jobs, 0, sizeof jobs);
    for (size_t i = 0; i < JOBS; i++) {
        mm_rng r = mm_rng_at(5, i / 3, 0, 0);
        const size_t n = 1 + mm_rng_below(&r, 150) + i % 3;
        for (size_t k = 0; k < n; k++) prompt[i][k] = k == n - 1 ? (int32_t)(i % 90) : (int32_t)mm_rng_below(&r, 200);
        jobs[i] = (mm_gen_job){ .ids = prompt[i], .n_ids = n, .max_tokens = 5 + i * 7 % 60, .seed = mm_gen_seed(3, i, 0), .logprobs = i % 4 ? 0 : 3,
                                .sample = { .temperature = i % 2 ? 0.9 : 0, .top_k = i % 5 ? 0 : 20, .repeat_penalty = i % 7 ? 0 : 1.3 } };
    }
}

static int run(const mm_gen_opts *o, size_t from, size_t to)
{
    mm_gen *g;
    int r = mm_gen_new(&g, &lm, o, &err);
    for (size_t i = from; i < to && !r; i++) mm_gen_add(g, &jobs[i]);
    while (!r && (r = mm_gen_step(g, &err)) > 0) r = 0;
    mm_gen_free(&g);
    return r;
}

static int same(const mm_gen_job *a, const mm_gen_job *b)
{
    return a->done && b->done && a->finish == b->finish && a->tokens == b->tokens && a->said.text.len == b->said.text.len &&
           !memcmp(a->said.text.p ? a->said.text.p : "", b->said.text.p ? b->said.text.p : "", a->said.text.len) && a->n_lp == b->n_lp &&
           (!a->n_lp || (!memcmp(a->lp, b->lp, a->n_lp * sizeof *a->lp) && !memcmp(a->top, b->top, 2 * a->n_lp * sizeof *a->top)));
}

static void company(void)
{
    static mm_gen_job alone[JOBS];
    int differ = 0, lengths = 0, stops = 0;
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) run(&(mm_gen_opts){ .slots = 1 }, i, i + 1);
    memcpy(alone, jobs, sizeof jobs);
    for (size_t i = 0; i < JOBS; i++) lengths += alone[i].finish == MM_FINISH_LENGTH, stops += alone[i].finish == MM_FINISH_STOP;
    ok(lengths + stops == JOBS && lengths > 3 && stops > 3, "%d answers end by themselves, %d by their length", stops, lengths);
    static const mm_gen_opts with[] = { { .slots = 2 },
                                        { .slots = 7, .chunk = 13 },
                                        { .slots = 32 },
                                        { .slots = 64, .chunk = 1 },
                                        { .slots = 3, .context = 400 } };
    for (size_t k = 0; k < sizeof with / sizeof *with; k++) {
        make_jobs();
        differ = run(&with[k], 0, JOBS);
        for (size_t i = 0; i < JOBS; i++) {
            differ += !same(&alone[i], &jobs[i]);
            mm_gen_job_clear(&jobs[i]);
        }
        ok(!differ && !broken, "the same with %zu places and chunks of %zu", with[k].slots, with[k].chunk);
    }
    for (size_t i = 0; i < JOBS; i++) mm_gen_job_clear(&alone[i]);
}

static void prefixes(void)
{
    enum { N = 20, LONG = 200 };
    size_t reused = 0;
    make_jobs();
    for (size_t i = 0; i < N; i++) {
        for (int k = 0; k < LONG; k++) prompt[i][k] = k % 200;
        prompt[i][LONG] = (int32_t)i;
        jobs[i] = (mm_gen_job){ .ids = prompt[i], .n_ids = LONG + 1, .max_tokens = 4 };
    }
    lm.computed = 0;
    run(&(mm_gen_opts){ .slots = 8 }, 0, N);
    for (size_t i = 0; i < N; i++) {
        reused += jobs[i].reused;
        mm_gen_job_clear(&jobs[i]);
    }
    ok(reused >= (N - 1) * LONG && lm.computed < LONG + N * 6,
       "a common beginning is computed once: %zu tokens for %d prompts of %d", lm.computed, N, LONG + 1);
    lm.most = 0;
    make_jobs();
    run(&(mm_gen_opts){ .slots = 16, .chunk = 50 }, 0, JOBS);
    ok(lm.most <= 50 + 16, "a step is as large as the chunk says");
    for (size_t i = 0; i < JOBS; i++) mm_gen_job_clear(&jobs[i]);
}

static mm_gen_job one(mm_gen_job job, const mm_gen_opts *o)
{
    jobs[0] = job;
    run(o, 0, 1);
    return jobs[0];
}

static void contexts(void)
{
    const mm_gen_opts o = { .slots = 2, .context = 100 };
    make_jobs();
    for (int k = 0; k < 300; k++) prompt[0][k] = k ? k % 150 : 1;
    mm_gen_job j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 80, .max_tokens = 21, .ignore_end = 1 }, &o);
    ok(j.code == MM_ELONG && j.finish == MM_FINISH_ERROR && strstr(j.err.msg, "80 tokens"), "a prompt and an answer that do not fit");
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 80, .max_tokens = 20, .ignore_end = 1 }, &o);
    ok(!j.code && j.tokens == 20 && j.finish == MM_FINISH_LENGTH, "that just fit");
    mm_gen_job_clear(&j);
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 80, .max_tokens = 50, .overflow = MM_OVERFLOW_STOP, .ignore_end = 1 }, &o);
    ok(!j.code && j.tokens == 20 && j.finish == MM_FINISH_LENGTH, "an answer that ends with the context");
    mm_gen_job_clear(&j);
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 100, .max_tokens = 50, .overflow = MM_OVERFLOW_STOP }, &o);
    ok(j.code == MM_ELONG, "but not without a place to begin");
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 80, .ignore_end = 1 }, &o);
    ok(!j.code && j.tokens == 20, "as long as the context");
    mm_gen_job_clear(&j);
    /* the beginning is left out: as if the prompt were what stays */
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 300, .max_tokens = 50, .overflow = MM_OVERFLOW_CUT_LEFT, .ignore_end = 1 }, &o);
    int32_t cut[50];
    memcpy(cut, prompt[0] + 250, sizeof cut);
    cut[0] = 1;
    mm_gen_job k = one((mm_gen_job){ .ids = cut, .n_ids = 50, .max_tokens = 50, .ignore_end = 1 }, &o);
    ok(!j.code && j.used == 50 && same(&j, &k), "a prompt cut at its left, but for bos");
    mm_gen_job_clear(&j);
    mm_gen_job_clear(&k);
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 0, .max_tokens = 5 }, &o);
    ok(j.code == MM_EEMPTY, "an empty prompt");
    const int32_t bad[] = { 3, 1 << 20 };
    j = one((mm_gen_job){ .ids = bad, .n_ids = 2, .max_tokens = 5 }, &o);
    ok(j.code == MM_ESHAPE, "an id that does not exist");
    lm.nan = 1;
    j = one((mm_gen_job){ .ids = prompt[0], .n_ids = 2, .max_tokens = 5 }, &o);
    ok(j.code == MM_EDATA && j.finish == MM_FINISH_ERROR, "logits that are not numbers");
    mm_gen_job_clear(&j);
    lm.nan = 0;
}

static void collect(void *arg, const char *text, size_t len) { mm_buf_add(arg, text, len); }

static void stops(void)
{
    make_jobs();
    mm_buf shown = { 0 };
    mm_gen_job all = one((mm_gen_job){ .ids = prompt[1], .n_ids = 9, .max_tokens = 60, .ignore_end = 1, .on_text = collect, .arg = &shown }, NULL);
    ok(shown.len == all.said.text.len && !memcmp(shown.p, all.said.text.p, shown.len) &&
           mm_utf8_valid(shown.p, shown.len) == shown.len,
       "what is shown is the text");
    /* the first place of two bytes that are there */
    const mm_slice stop = { all.said.text.p + all.said.text.len / 2 - 1, 3 };
    const size_t at = (size_t)((char *)memmem(all.said.text.p, all.said.text.len, stop.p, stop.len) - all.said.text.p);
    mm_buf_reset(&shown);
    mm_gen_job j = one((mm_gen_job){ .ids = prompt[1],
                                     .n_ids = 9,
                                     .max_tokens = 60,
                                     .ignore_end = 1,
                                     .stops = &stop,
                                     .n_stops = 1,
                                     .on_text = collect,
                                     .arg = &shown },
                       NULL);
    ok(j.finish == MM_FINISH_STOP && j.said.text.len == at && shown.len == at && j.tokens < all.tokens, "a stop string ends it, and is never shown");
    mm_gen_job_clear(&j);
    mm_gen_job_clear(&all);
    mm_buf_clear(&shown);
}

static void structured(mm_lm *draft)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"tags\":{\"type\":\"array\",\"items\":{"
        "\"type\":\"string\"}},"
        "\"n\":{\"type\":\"integer\"}},\"required\":[\"name\",\"n\"],\"additionalProperties\":false}";
    mm_grammar *g = NULL;
    int r = mm_grammar_from_schema(&g, schema, sizeof schema - 1, &err);
    if (!r) r = mm_grammar_bind(g, lm.tok, lm.vocab, &err);
    if (!ok(!r, "a schema")) printf("# %s\n", err.msg);
    const size_t least = mm_grammar_least(g);
    is_int((long long)least, 17, "its shortest text"); /* {"name":"","n":0} */
    int bad = 0;
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) jobs[i].grammar = g, jobs[i].max_tokens = least + i % 40, jobs[i].sample.temperature = i % 2;
    r = run(&(mm_gen_opts){ .slots = 9, .draft = draft }, 0, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        json_t *v = jobs[i].said.text.p ? mm_json_load(jobs[i].said.text.p, jobs[i].said.text.len, "answer", &err) : NULL;
        const int good = jobs[i].finish == MM_FINISH_STOP && json_is_string(json_object_get(v, "name")) && json_is_integer(json_object_get(v, "n"));
        if (!good) printf("# %s: %.*s\n", jobs[i].err.msg, (int)jobs[i].said.text.len, jobs[i].said.text.p ? jobs[i].said.text.p : "");
        bad += !good;
        json_decref(v);
        mm_gen_job_clear(&jobs[i]);
    }
    ok(!r && !bad && !broken, "answers are whole, however few tokens they may have");
    make_jobs();
    jobs[0].grammar = g;
    jobs[0].max_tokens = least - 1;
    run(NULL, 0, 1);
    ok(jobs[0].code == MM_ELONG, "fewer than the shortest text takes are an error");
    mm_grammar_close(&g);
}

/* ---- several texts at a time ---- */

typedef struct path {
    int32_t ids[CONTEXT];
    size_t n; /* with the prompt */
    double sum, score;
} path;

static int by_sum(const void *a, const void *b)
{
    const path *x = a, *y = b;
    return x->sum > y->sum ? -1 : x->sum < y->sum;
}

/* What the header says, word by word: all steps of all texts in one list. The best score; its tokens in *best. */
static double slow_search(const int32_t *ids, size_t n, size_t beams, size_t most, double penalty, path *best)
{
    static path run[8], next[8 * 1024], done[64];
    size_t n_run = 1, n_done = 0;
    float *logits = malloc(lm.vocab * sizeof *logits);
    memcpy(run[0].ids, ids, n * sizeof *ids);
    run[0].n = n;
    run[0].sum = 0;
    for (size_t t = 1; t <= most && n_run; t++) {
        size_t m = 0, rank = 0;
        for (size_t i = 0; i < n_run; i++) {
            logits_of(&lm, run[i].ids, run[i].n, logits);
            const double total = mm_log_total(logits, lm.vocab);
            for (size_t v = 0; v < lm.vocab; v++) {
                if (!mm_tok_text(lm.tok, (int32_t)v)) continue;
                next[m] = run[i];
                next[m].sum += (double)logits[v] - total;
                next[m].ids[next[m].n++] = (int32_t)v;
                m++;
            }
        }
        qsort(next, m, sizeof *next, by_sum);
        for (n_run = 0; rank < m && n_run < beams; rank++) {
            const int end = next[rank].ids[next[rank].n - 1] == lm.end;
            if (!end) run[n_run++] = next[rank];
            if ((end && rank < beams) || (!end && t == most)) {
                done[n_done] = next[rank];
                done[n_done].n -= end;
                done[n_done++].score = next[rank].sum / pow((double)t, penalty);
            }
        }
        size_t better = 0; /* than what goes on */
        for (size_t i = 0; i < n_done; i++) better += done[i].score >= run[0].sum / pow((double)t, penalty);
        if (better >= beams) break;
    }
    *best = done[0];
    for (size_t i = 1; i < n_done; i++)
        if (done[i].score > best->score) *best = done[i];
    free(logits);
    return best->score;
}

static void beam_job(size_t i, size_t beams, double penalty)
{
    jobs[i].beams = beams;
    jobs[i].length_penalty = penalty;
    jobs[i].logprobs = 3;
    jobs[i].sample = (mm_sample_opts){ 0 };
}

static double sum_of(const mm_gen_job *j)
{
    double sum = 0;
    for (size_t i = 0; i < j->n_lp; i++) sum += (double)j->lp[i].logprob;
    return sum;
}

static void beams(void)
{
    static mm_gen_job greedy[JOBS], alone[JOBS];
    int differ = 0;
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) jobs[i].sample = (mm_sample_opts){ 0 }, jobs[i].logprobs = 3;
    run(NULL, 0, JOBS);
    memcpy(greedy, jobs, sizeof jobs);
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) beam_job(i, 1, i % 3);
    run(NULL, 0, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        differ += !same(&jobs[i], &greedy[i]);
        mm_gen_job_clear(&jobs[i]);
    }
    ok(!differ && !broken, "one text at a time is the likeliest token each time (%d of %d differ)", differ, JOBS);

    make_jobs();
    for (size_t i = 0; i < JOBS; i++) beam_job(i, 1 + i % 5, 0.5 * (double)(i % 4));
    for (size_t i = 0; i < JOBS; i++) differ += run(&(mm_gen_opts){ .slots = 5 }, i, i + 1);
    memcpy(alone, jobs, sizeof jobs);
    static const mm_gen_opts with[] = { { .slots = 5 }, { .slots = 7, .chunk = 13 }, { .slots = 32 } };
    for (size_t k = 0; k < sizeof with / sizeof *with; k++) {
        make_jobs();
        for (size_t i = 0; i < JOBS; i++) beam_job(i, 1 + i % 5, 0.5 * (double)(i % 4));
        differ = run(&with[k], 0, JOBS);
        for (size_t i = 0; i < JOBS; i++) {
            differ += !same(&alone[i], &jobs[i]);
            mm_gen_job_clear(&jobs[i]);
        }
        ok(!differ && !broken, "several texts at a time: the same in company, with %zu places", with[k].slots);
    }

    differ = 0;
    for (size_t i = 0; i < 20; i++) {
        path best;
        mm_buf text = { 0 };
        const double score = slow_search(prompt[i], jobs[i].n_ids, 1 + i % 5, jobs[i].max_tokens, 0.5 * (double)(i % 4), &best);
        for (size_t k = jobs[i].n_ids; k < best.n; k++) differ += mm_tok_piece(lm.tok, best.ids[k], &text, &err) != 0;
        mm_said said = { 0 };
        differ += mm_said_add(&said, text.p ? text.p : "", text.len) || mm_said_end(&said);
        differ += fabs(score - alone[i].score) > 1e-9 || best.n - jobs[i].n_ids != alone[i].tokens || said.text.len != alone[i].said.text.len ||
                  (said.text.len && memcmp(said.text.p, alone[i].said.text.p, said.text.len));
        mm_said_clear(&said);
        mm_buf_clear(&text);
    }
    ok(!differ, "... and what a list of all steps gives (%d differ)", differ);
    for (size_t i = 0; i < JOBS; i++) {
        mm_gen_job_clear(&alone[i]);
        mm_gen_job_clear(&greedy[i]);
    }
}

static void likelier(void)
{
    static mm_gen_job greedy[JOBS];
    int better = 0, worse = 0, order = 0;
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) jobs[i].sample = (mm_sample_opts){ 0 }, jobs[i].logprobs = 1, jobs[i].ignore_end = 1, jobs[i].max_tokens = 12;
    run(NULL, 0, JOBS);
    memcpy(greedy, jobs, sizeof jobs);
    make_jobs();
    for (size_t i = 0; i < JOBS; i += 2) {
        beam_job(i, 4, 0);
        jobs[i].ignore_end = 1, jobs[i].max_tokens = 12, jobs[i].answers = 2;
        jobs[i + 1].logprobs = jobs[i].logprobs;
    }
    mm_gen *g;
    int r = mm_gen_new(&g, &lm, &(mm_gen_opts){ .slots = 9 }, &err);
    for (size_t i = 0; i < JOBS && !r; i += 2) mm_gen_add(g, &jobs[i]);
    while (!r && (r = mm_gen_step(g, &err)) > 0) r = 0;
    ok(!r && !mm_gen_busy(g), "two answers of each search");
    mm_gen_free(&g);
    for (size_t i = 0; i < JOBS; i += 2) {
        const double d = sum_of(&jobs[i]) - sum_of(&greedy[i]);
        better += d > 1e-4, worse += d < -1e-4;
        order += jobs[i].done && jobs[i + 1].done && jobs[i].score >= jobs[i + 1].score && fabs(jobs[i + 1].score - sum_of(&jobs[i + 1])) < 1e-3 &&
                 jobs[i + 1].tokens == 12 && !same(&jobs[i], &jobs[i + 1]);
    }
    ok(better > 20 && worse < 3, "four texts at a time find likelier ones: %d of %d, and %d worse", better, JOBS / 2, worse);
    is_int(order, JOBS / 2, "the second is another text, and less likely");
    for (size_t i = 0; i < JOBS; i++) {
        mm_gen_job_clear(&greedy[i]);
        mm_gen_job_clear(&jobs[i]);
    }
}

/* Stop strings, grammars, failures: of searches. */
static void beam_ends(void)
{
    static const char rules[] = "root ::= \"a\" | \"bc\"";
    mm_grammar *g = NULL;
    make_jobs();
    int r = mm_grammar_from_rules(&g, rules, sizeof rules - 1, &err);
    if (!r) r = mm_grammar_bind(g, lm.tok, lm.vocab, &err);
    for (size_t i = 0; i < 4; i++) beam_job(i, 4, 1), jobs[i].grammar = g;
    jobs[0].answers = 4;
    run(NULL, 0, 1);
    int texts = 0, none = 0;
    for (size_t i = 0; i < 4; i++) {
        const mm_said *t = &jobs[i].said;
        texts += jobs[i].finish == MM_FINISH_STOP && ((t->text.len == 1 && t->text.p[0] == 'a') || (t->text.len == 2 && !memcmp(t->text.p, "bc", 2)));
        none += jobs[i].code == MM_EEMPTY;
    }
    ok(!r && texts >= 2 && texts + none == 4, "a grammar holds: %d answers of its forms, %d that there are not", texts, none);
    for (size_t i = 0; i < 4; i++) mm_gen_job_clear(&jobs[i]);
    mm_grammar_close(&g);

    make_jobs();
    beam_job(0, 3, 1);
    jobs[0].ignore_end = 1, jobs[0].max_tokens = 30;
    run(NULL, 0, 1);
    const mm_gen_job all = jobs[0];
    const mm_slice stop = { all.said.text.p + all.said.text.len / 2, 1 };
    make_jobs();
    beam_job(0, 3, 1);
    jobs[0].ignore_end = 1, jobs[0].max_tokens = 30, jobs[0].stops = &stop, jobs[0].n_stops = 1;
    run(NULL, 0, 1);
    ok(jobs[0].said.text.len == 0 || !memchr(jobs[0].said.text.p, stop.p[0], jobs[0].said.text.len), "a stop string is in no answer");
    mm_gen_job_clear(&jobs[0]);
    mm_gen_job one_of = all;
    mm_gen_job_clear(&one_of);

    make_jobs();
    beam_job(0, 9, 1);
    jobs[0].answers = 2;
    run(NULL, 0, 1);
    ok(jobs[0].code == MM_EARG && jobs[1].code == MM_EARG, "more texts than places");
    make_jobs();
    beam_job(0, 3, 1);
    jobs[0].answers = 2;
    lm.nan = 1;
    run(NULL, 0, 1);
    lm.nan = 0;
    ok(jobs[0].code == MM_EDATA && jobs[1].code == MM_EDATA && jobs[1].done, "logits that are not numbers");
    for (size_t i = 0; i < 2; i++) mm_gen_job_clear(&jobs[i]);
}

/* ---- a smaller decoder ---- */

static void drafts(void)
{
    static mm_gen_job plain[JOBS], alone[JOBS];
    mm_lm small = lm;
    size_t proposed = 0, accepted = 0;
    int differ = 0;
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) jobs[i].sample.temperature = 0;
    run(NULL, 0, JOBS);
    memcpy(plain, jobs, sizeof jobs);
    static const struct { float noise; mm_gen_opts o; } with[] = {
        { 0, { .slots = 4 } },
        { 0, { .slots = 1, .guesses = 1 } },
        { 1, { .slots = 8 } },
        { 1, { .slots = 1, .chunk = 7 } },
        { 8, { .slots = 32, .guesses = 32 } }
    };
    for (size_t k = 0; k < sizeof with / sizeof *with; k++) {
        mm_gen_opts o = with[k].o;
        small.noise = with[k].noise;
        o.draft = &small;
        make_jobs();
        for (size_t i = 0; i < JOBS; i++) jobs[i].sample.temperature = 0;
        lm.steps = proposed = accepted = 0;
        differ = run(&o, 0, JOBS);
        for (size_t i = 0; i < JOBS; i++) {
            differ += !same(&plain[i], &jobs[i]);
            proposed += jobs[i].proposed;
            accepted += jobs[i].accepted;
            mm_gen_job_clear(&jobs[i]);
        }
        const int share = with[k].noise > 0 ? accepted < proposed : accepted == proposed;
        ok(!differ && !broken && proposed && share, "guesses change nothing where the likeliest token is taken (%zu of %zu right, %zu steps)", accepted,
           proposed, lm.steps);
    }
    for (size_t i = 0; i < JOBS; i++) mm_gen_job_clear(&plain[i]);

    small.noise = 2;
    make_jobs();
    for (size_t i = 0; i < JOBS; i++) run(&(mm_gen_opts){ .slots = 1, .draft = &small }, i, i + 1);
    memcpy(alone, jobs, sizeof jobs);
    make_jobs();
    differ = run(&(mm_gen_opts){ .slots = 7, .chunk = 20, .draft = &small }, 0, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        differ += !same(&alone[i], &jobs[i]) || alone[i].proposed != jobs[i].proposed || alone[i].accepted != jobs[i].accepted;
        mm_gen_job_clear(&alone[i]);
        mm_gen_job_clear(&jobs[i]);
    }
    ok(!differ && !broken, "what is drawn with guesses is the same in company");
    small.noise = 0;
    make_jobs();
    run(&(mm_gen_opts){ .slots = 7, .draft = &small }, 0, JOBS);
    proposed = accepted = 0;
    for (size_t i = 0; i < JOBS; i++) {
        proposed += jobs[i].proposed;
        accepted += jobs[i].accepted;
        mm_gen_job_clear(&jobs[i]);
    }
    ok(proposed && proposed == accepted, "and what the same decoder guesses always stays");
}

/* The chance of each text of three tokens, and how often each comes. */
static void chances(float noise, const mm_sample_opts *o)
{
    enum { K = 4, RUNS = 10000, ALL = K * K * K };
    static mm_gen_job many[RUNS];
    static float logits[1024];
    uint64_t known[16] = { 0 }; /* rows of logits that are tokens */
    mm_lm small = lm;
    mm_sampler s = { 0 };
    int32_t ids[16] = { 5, 9, 77 }, first[K], second[K][K], third[K][K][K];
    double p[ALL] = { 0 }, seen[ALL] = { 0 }, p1[K], p2[K], total, chi = 0;
    size_t m, n1, n2, cells = 0, proposed = 0, accepted = 0;
    for (size_t v = 0; v < lm.vocab; v++)
        if (mm_tok_text(lm.tok, (int32_t)v)) known[v / 64] |= UINT64_C(1) << v % 64;
    small.noise = noise;
    logits_of(&lm, ids, 3, logits);
    if (mm_sample_weigh(&s, o, logits, lm.vocab, ids, 3, known, &n1, &total, &err)) return;
    for (size_t i = 0; i < n1; i++) first[i] = s.c[i].id, p1[i] = s.w[i] / total;
    for (size_t i = 0; i < n1; i++) {
        ids[3] = first[i];
        logits_of(&lm, ids, 4, logits);
        if (mm_sample_weigh(&s, o, logits, lm.vocab, ids, 4, known, &n2, &total, &err)) return;
        for (size_t k = 0; k < n2; k++) second[i][k] = s.c[k].id, p2[k] = s.w[k] / total;
        for (size_t k = 0; k < n2; k++) {
            ids[4] = second[i][k];
            logits_of(&lm, ids, 5, logits);
            if (mm_sample_weigh(&s, o, logits, lm.vocab, ids, 5, known, &m, &total, &err)) return;
            for (size_t t = 0; t < m; t++) third[i][k][t] = s.c[t].id, p[(i * K + k) * K + t] = p1[i] * p2[k] * s.w[t] / total;
        }
    }
    mm_gen *g;
    int r = mm_gen_new(&g, &lm, &(mm_gen_opts){ .slots = 8, .draft = &small }, &err);
    for (size_t i = 0; i < RUNS && !r; i++) {
        many[i] = (mm_gen_job){ .ids = ids, .n_ids = 3, .max_tokens = 3, .ignore_end = 1, .sample = *o, .seed = i, .logprobs = 1 };
        mm_gen_add(g, &many[i]);
    }
    while (!r && (r = mm_gen_step(g, &err)) > 0) r = 0;
    mm_gen_free(&g);
    for (size_t i = 0; i < RUNS; i++) {
        const mm_logprob *lp = many[i].lp;
        size_t a = 0, b = 0, c = 0;
        while (a < K && first[a] != lp[0].id) a++;
        while (a < K && b < K && second[a][b] != lp[1].id) b++;
        while (a < K && b < K && c < K && third[a][b][c] != lp[2].id) c++;
        if (a < K && b < K && c < K) seen[(a * K + b) * K + c]++;
        proposed += many[i].proposed;
        accepted += many[i].accepted;
        mm_gen_job_clear(&many[i]);
    }
    double all = 0;
    for (size_t i = 0; i < ALL; i++) {
        all += seen[i];
        if (p[i] * RUNS < 5) continue;
        chi += (seen[i] - p[i] * RUNS) * (seen[i] - p[i] * RUNS) / (p[i] * RUNS);
        cells++;
    }
    const double z = (chi - (double)cells) / sqrt(2 * (double)cells);
    ok(!r && all >= RUNS && cells > 8 && fabs(z) < 3.5, "drawn with guesses (%zu of %zu stay) texts come as often as they should: %.1f deviations, %zu texts",
       accepted, proposed, z, cells);
    mm_sampler_clear(&s);
}

static void draft_refused(void)
{
    const char *root = getenv("MM_ROOT");
    char file[1024];
    mm_buf b = { 0 };
    mm_lm other = lm;
    mm_gen *g;
    snprintf(file, sizeof file, "%s/tests/golden/tok-clip.json", root ? root : ".");
    if (mm_file_read(&b, file, 1 << 24, &err) || mm_tok_from_json(&other.tok, b.p, b.len, &err)) printf("Bail out! %s\n", err.msg), exit(1);
    int r = mm_gen_new(&g, &lm, &(mm_gen_opts){ .draft = &other }, &err);
    ok(r == MM_EARG && !g && strstr(err.msg, "vocabulary"), "a draft of another vocabulary is refused: %s", err.msg);
    mm_tok_free(&other.tok);
    mm_buf_clear(&b);
    other = lm;
    other.context = 100;
    r = mm_gen_new(&g, &lm, &(mm_gen_opts){ .draft = &other }, &err);
    ok(r == MM_EARG && !g && strstr(err.msg, "100"), "and one that takes fewer tokens");
}

int main(void)
{
    open_lm();
    company();
    prefixes();
    contexts();
    stops();
    mm_lm small = lm;
    small.noise = 1;
    structured(NULL);
    structured(&small);
    drafts();
    chances(1, &(mm_sample_opts){ .temperature = 1, .top_k = 4 });
    chances(4, &(mm_sample_opts){ .temperature = 0.7, .top_k = 4, .top_p = 0.95, .repeat_penalty = 1.5 });
    chances(0, &(mm_sample_opts){ .temperature = 2, .top_k = 4 });
    draft_refused();
    beams();
    likelier();
    beam_ends();
    ok(mm_gen_seed(0, 1, 0) != mm_gen_seed(0, 2, 0) && mm_gen_seed(0, 1, 0) != mm_gen_seed(0, 1, 1) && mm_gen_seed(9, 9, 9) < UINT64_C(1) << 53, "seeds");
    mm_tok_free(&lm.tok);
    return done();
}

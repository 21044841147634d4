/* Metrics against their definitions, taken literally: every order of what scores the same, one by one. Intervals: known values, and how often
 * they hold what they should. */
#include <math.h>
#include <stdlib.h>
#include "eval/mm_eval.h"
#include "kernels/mm_kern.h"
#include "tap.h"

static mm_err err;
static uint64_t rng = 1;

static double uniform(void) /* splitmix64 */
{
    uint64_t z = (rng += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static double normal(void) { return sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform()); }
static int near(double a, double b, double within) { return fabs(a - b) <= within; }

static void keys(void)
{
    mm_eval_keys *k = mm_eval_keys_new();
    char s[16];
    uint32_t id;
    int bad = 0;
    if (!k) exit(1);
    ok(!mm_eval_keys_find(k, "x", 1, &id), "nothing is known at first");
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < 5000; i++) {
            size_t n = (size_t)snprintf(s, sizeof s, "%u", i);
            bad += mm_eval_keys_add(k, s, n, &id) || id != i;
        }
    ok(!bad && mm_eval_keys_count(k) == 5000, "keys keep their numbers");
    ok(!mm_eval_keys_add(k, "", 0, &id) && id == 5000 && !mm_eval_keys_add(k, "1\0", 2, &id) && id == 5001 && !mm_eval_keys_add(k, "1", 1, &id) && id == 1,
       "empty ones and NUL bytes count");
    mm_eval_keys_free(k);
}

/* ---- retrieval by brute force ---- */
#define G 6
#define NM 6
static const mm_eval_metric metrics[NM] = { { MM_EVAL_RECALL, 1 }, { MM_EVAL_RECALL, 3 }, { MM_EVAL_MRR, 0 }, { MM_EVAL_MRR, 2 },
                                            { MM_EVAL_NDCG, 0 }, { MM_EVAL_NDCG, 3 } };

/* A metric of one order of items. */
static double plain(const mm_eval_metric *m, const int *rel, int n)
{
    double best = 0, sum = 0;
    int limit = m->k && (int)m->k < n ? (int)m->k : n, all = 0;
    for (int i = 0; i < n; i++) all += rel[i];
    for (int i = 0; i < all && i < limit; i++) best += 1 / log2(i + 2);
    for (int i = 0; i < limit; i++) {
        if (!rel[i]) continue;
        if (m->kind == MM_EVAL_RECALL) return 1;
        if (m->kind == MM_EVAL_MRR) return 1.0 / (i + 1);
        sum += 1 / log2(i + 2);
    }
    return m->kind == MM_EVAL_NDCG ? sum / best : 0;
}

/* Its mean over all orders that the scores allow (all orders, without scores). */
static void permute(const mm_eval_metric *m, const double *score, const int *rel, int n, int *order, int have, double *sum, double *count)
{
    if (have == n) {
        int r[G];
        for (int i = 0; i < n; i++) r[i] = rel[order[i]];
        *sum += plain(m, r, n);
        *count += 1;
        return;
    }
    for (int i = 0; i < n; i++) {
        int used = 0, first = 1;
        for (int j = 0; j < have; j++) used |= order[j] == i;
        for (int j = 0; score && j < n; j++) {
            int u = 0;
            for (int l = 0; l < have; l++) u |= order[l] == j;
            first = first && (u || score[j] <= score[i]);
        }
        if (used || !first) continue;
        order[have] = i;
        permute(m, score, rel, n, order, have + 1, sum, count);
    }
}

static double expected(const mm_eval_metric *m, const double *score, const int *rel, int n)
{
    double sum = 0, count = 0;
    int order[G];
    permute(m, score, rel, n, order, 0, &sum, &count);
    return sum / count;
}

/* Vectors of few directions, so that many scores are equal; up to two keys each out of four; some items left out. */
static void by_definition(void)
{
    enum { Q = 3 };
    double worst = 0, worst_chance = 0;
    int wrong_none = 0, answered_any = 0;
    for (int trial = 0; trial < 300; trial++) {
        float qv[Q * 2], gv[G * 2];
        uint32_t qk[Q * 2], gk[G * 2], qs[Q], gs[G];
        size_t qo[Q + 1] = { 0 }, go[G + 1] = { 0 };
        double value[NM * Q], chance[NM], mean[NM] = { 0 };
        int answered = 0;
        for (int i = 0; i < Q; i++) {
            qv[2 * i] = 1, qv[2 * i + 1] = (float)(int)(uniform() * 2);
            qo[i + 1] = qo[i];
            for (int k = 0; k < 2; k++)
                if (uniform() < .7) qk[qo[i + 1]++] = (uint32_t)(uniform() * 4);
            qs[i] = (uint32_t)(uniform() * 3);
        }
        for (int i = 0; i < G; i++) {
            gv[2 * i] = (float)(int)(uniform() * 3 - 1), gv[2 * i + 1] = (float)(int)(uniform() * 2);
            go[i + 1] = go[i];
            for (int k = 0; k < 2; k++)
                if (uniform() < .5) gk[go[i + 1]++] = (uint32_t)(uniform() * 4);
            gs[i] = (uint32_t)(uniform() * 5);
        }
        int selfs = trial % 2;
        mm_eval_set q = { qv, Q, 2, qk, qo, selfs ? qs : NULL }, g = { gv, G, 2, gk, go, selfs ? gs : NULL };
        int r = mm_eval_retrieve(&q, &g, metrics, NM, 1 + trial % 3, value, chance, &err);
        for (int i = 0; i < Q; i++) {
            double score[G];
            int rel[G], n = 0, any = 0;
            for (int j = 0; j < G; j++) {
                if (selfs && qs[i] == gs[j]) continue;
                double a = (double)gv[2 * j], b = (double)gv[2 * j + 1], l = sqrt(a * a + b * b);
                score[n] = l > 0 ? round((a + b * (double)qv[2 * i + 1]) / l * 1e5) : 0; /* signs of equality, not of rounding */
                rel[n] = 0;
                for (size_t x = qo[i]; x < qo[i + 1]; x++)
                    for (size_t y = go[j]; y < go[j + 1]; y++) rel[n] |= qk[x] == gk[y];
                any |= rel[n++];
            }
            answered += any;
            for (int k = 0; any && k < NM; k++) {
                double d = r ? 1 : fabs(value[k * Q + i] - expected(&metrics[k], score, rel, n));
                worst = d > worst || isnan(d) ? d : worst;
                mean[k] += expected(&metrics[k], NULL, rel, n);
            }
            for (int k = 0; !r && !any && k < NM; k++) wrong_none += !isnan(value[k * Q + i]);
        }
        wrong_none += (r == MM_EEMPTY) != !answered;
        answered_any += answered > 0;
        for (int k = 0; answered && k < NM; k++) worst_chance = fmax(worst_chance, fabs(mean[k] / answered - chance[k]));
    }
    ok(worst < 1e-6, "metrics are what their definitions give over all orders of equal scores (%g)", worst);
    ok(worst_chance < 1e-9, "chance is what they give over all orders (%g)", worst_chance);
    ok(!wrong_none && answered_any > 200, "queries without a relevant item have no value");
}

/* A gallery of copies: equal vectors score equally wherever they stand, so that a model without a clue measures as chance, exactly. */
static void copies(void)
{
    enum { N = 203, D = 37 };
    static float v[N * D], w[N * D];
    static uint32_t key[N];
    static size_t off[N + 1];
    static double value[NM * N], again[NM * N];
    double chance[NM], worst = 0;
    for (int i = 0; i < D; i++) v[i] = (float)normal();
    for (int i = 0; i < N * D; i++) w[i] = (float)normal();
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < D; k++) v[i * D + k] = v[k];
        key[i] = (uint32_t)i / 2;
        off[i + 1] = (size_t)i + 1;
    }
    mm_eval_set q = { w, N, D, key, off, NULL }, g = { v, N, D, key, off, NULL };
    int r = mm_eval_retrieve(&q, &g, metrics, NM, 2, value, chance, &err);
    for (int k = 0; k < NM; k++) {
        double sum = 0;
        for (int i = 0; i < N; i++) sum += value[k * N + i];
        worst = fmax(worst, fabs(sum / N - chance[k]));
    }
    ok(!r && worst < 1e-9, "one vector for everything measures as chance (%g)", worst);
    ok(near(chance[0], (1 + 202 * 2.0) / N / N, 1e-12), "which is the share of the relevant ones at 1");
    g.vec = w;
    r = mm_eval_retrieve(&q, &g, metrics, NM, 1, value, chance, &err);
    double sum = 0;
    for (int i = 0; i < N; i++) sum += value[i];
    ok(!r && sum >= N, "every vector finds itself");
    r = mm_eval_retrieve(&q, &g, metrics, NM, 7, again, NULL, &err);
    ok(!r && !memcmp(value, again, sizeof value), "threads change nothing");
    for (int i = 0; i < N * D; i++) v[i] = w[i] * (i / D % 5 + 1e-3F);
    g.vec = v;
    r = mm_eval_retrieve(&q, &g, metrics, NM, 1, again, NULL, &err);
    int found = 0;
    for (int i = 0; i < N; i++) found += again[i] >= 1;
    is_int(found, N, "nor do lengths");
    g.dim = D - 1;
    is_int(mm_eval_retrieve(&q, &g, metrics, NM, 1, value, NULL, &err), MM_ESHAPE, "dimensions must agree");
    g.dim = D;
    is_int(mm_eval_retrieve(&q, &g, &(mm_eval_metric){ MM_EVAL_RECALL, 0 }, 1, 1, value, NULL, &err), MM_EARG, "recall at 0 is none");
    g.n = 0;
    is_int(mm_eval_retrieve(&q, &g, metrics, NM, 1, value, NULL, &err), MM_EEMPTY, "an empty gallery answers nothing");
}

/* ---- intervals ---- */

static void proportions(void)
{
    double lo, hi;
    mm_eval_wilson(.5, 10, &lo, &hi);
    ok(near(lo, .236593, 1e-6) && near(hi, .763407, 1e-6), "Wilson: 5 of 10");
    mm_eval_wilson(0, 10, &lo, &hi);
    ok(lo == 0 && near(hi, .277533, 1e-6), "Wilson: none of 10");
    mm_eval_wilson(1, 10, &lo, &hi);
    ok(hi == 1 && near(lo, .722467, 1e-6), "Wilson: all of 10");
    mm_eval_wilson(.1, 1000, &lo, &hi);
    ok(near(lo, .0829094, 1e-6) && near(hi, .1201520, 1e-6), "Wilson: 100 of 1000");
}

static void bootstrap(void)
{
    enum { N = 60, RUNS = 300 };
    double x[N], y[N];
    int holds = 0, holds_diff = 0, holds_corr = 0;
    mm_eval_interval iv;
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < N; i++) {
            double common = normal();
            x[i] = 3 + common + .5 * normal();
            y[i] = 2 + common + .5 * normal();
        }
        mm_eval_boot b = { .resamples = 400, .seed = (uint64_t)run };
        holds += !mm_eval_mean(x, N, &b, &iv, &err) && iv.low <= 3 && iv.high >= 3;
        holds_diff += !mm_eval_mean_diff(x, y, N, &b, &iv, &err) && iv.low <= 1 && iv.high >= 1 && iv.high - iv.low < .45;
        holds_corr += !mm_eval_corr(MM_EVAL_PEARSON, x, y, N, &b, &iv, &err) && iv.low <= .8 && iv.high >= .8;
    }
    ok(holds >= .90 * RUNS && holds <= .985 * RUNS, "95 %% intervals of a mean hold it (%d of %d)", holds, RUNS);
    ok(holds_diff >= .90 * RUNS && holds_diff <= .985 * RUNS, "and those of a difference of pairs (%d), which are narrow", holds_diff);
    ok(holds_corr >= .88 * RUNS && holds_corr <= .985 * RUNS, "and those of a correlation (%d)", holds_corr);
}

static int same(const mm_eval_interval *a, const mm_eval_interval *b)
{
    return near(a->value, b->value, 1e-12) && near(a->low, b->low, 1e-9) && near(a->high, b->high, 1e-9) && a->groups == b->groups;
}

/* Everything twice, the copies grouped, is no more evidence than once. */
static void groups(void)
{
    enum { N = 40 };
    double x[N], y[N], xx[2 * N], yy[2 * N];
    uint32_t g[2 * N];
    mm_eval_interval one, two, alone;
    for (int i = 0; i < N; i++) {
        x[i] = xx[i] = xx[2 * N - 1 - i] = floor(5 * uniform());
        y[i] = yy[i] = yy[2 * N - 1 - i] = x[i] + floor(4 * uniform());
        g[i] = g[2 * N - 1 - i] = (uint32_t)i * 3;
    }
    mm_eval_boot b = { .seed = 5 }, bg = { .seed = 5, .group = g };
    ok(!mm_eval_mean(x, N, &b, &one, &err) && !mm_eval_mean(xx, 2 * N, &bg, &two, &err) && same(&one, &two) && two.n == 2 * N, "groups: means");
    ok(!mm_eval_mean(xx, 2 * N, &b, &alone, &err) && alone.high - alone.low < .85 * (one.high - one.low), "without them the interval is too narrow");
    ok(!mm_eval_corr(MM_EVAL_SPEARMAN, x, y, N, &b, &one, &err) && !mm_eval_corr(MM_EVAL_SPEARMAN, xx, yy, 2 * N, &bg, &two, &err) && same(&one, &two),
       "groups: ranks in resamples");
    ok(one.low < one.value && one.value < one.high, "the value is inside");
    ok(!mm_eval_mean(x, N, &(mm_eval_boot){ .seed = 5 }, &two, &err) && !mm_eval_mean(x, N, &b, &one, &err) && same(&one, &two), "same seed, same interval");
    ok(!mm_eval_mean(x, N, &(mm_eval_boot){ .seed = 6 }, &two, &err) && !same(&one, &two), "other seed, other interval");
    xx[0] = NAN;
    ok(!mm_eval_mean(xx, 2 * N, &b, &two, &err) && two.n == 2 * N - 1 && isfinite(two.low), "NaN is no observation");
    ok(!mm_eval_corr(MM_EVAL_PEARSON, xx, yy, 2 * N, &bg, &two, &err) && two.n == 2 * N - 1 && two.groups == N, "nor half of one");
}

static void agreement(void)
{
    const double a[] = { 1, 2, 3, 4, 5 }, b[] = { 5, 6, 7, 8, 7 }, rise[] = { 1, 10, 100, 1000, 10000 }, flat[] = { 2, 2, 2, 2, 2 };
    mm_eval_boot boot = { 0 };
    mm_eval_interval iv;
    ok(!mm_eval_corr(MM_EVAL_SPEARMAN, a, b, 5, &boot, &iv, &err) && near(iv.value, .820782681668123, 1e-12), "Spearman with ties");
    ok(!mm_eval_corr(MM_EVAL_PEARSON, a, b, 5, &boot, &iv, &err) && near(iv.value, .832050294337844, 1e-12), "Pearson");
    ok(!mm_eval_corr(MM_EVAL_SPEARMAN, a, rise, 5, &boot, &iv, &err) && near(iv.value, 1, 1e-12) && iv.high <= 1, "what rises together has rank correlation 1");
    ok(!mm_eval_corr_diff(MM_EVAL_SPEARMAN, rise, b, a, 5, &boot, &iv, &err) && near(iv.value, 1 - .820782681668123, 1e-12), "difference of two");
    is_int(mm_eval_corr(MM_EVAL_SPEARMAN, a, flat, 5, &boot, &iv, &err), MM_EEMPTY, "no correlation with what does not vary");
    is_int(mm_eval_corr(MM_EVAL_PEARSON, a, b, 1, &boot, &iv, &err), MM_EEMPTY, "nor of one pair");
    is_int(mm_eval_mean(a, 0, &boot, &iv, &err), MM_EEMPTY, "no mean of nothing");
    const float u[] = { 3, 4, 0, 0, 1, 0 }, v[] = { 4, 3, 1, 2, -2, 0 };
    double c[3];
    mm_eval_cosines(u, v, 3, 2, c);
    ok(near(c[0], .96, 1e-12) && c[1] == 0 && c[2] == -1, "cosines");
}

int main(void)
{
    keys();
    by_definition();
    copies();
    proportions();
    bootstrap();
    groups();
    agreement();
    return done();
}

/* Intervals. A resample is a weight for every observation: how often it was drawn. What is measured is then computed with weights, ranks
 * included, so that nothing is sorted or copied a thousand times. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"
#include "eval/mm_eval.h"

void mm_eval_wilson(double p, double n, double *low, double *high)
{
    const double z = 1.959963984540054, zz = z * z; /* 97.5 % point of the normal distribution */
    double mid = (p + zz / (2 * n)) / (1 + zz / n), half = z / (1 + zz / n) * sqrt(p * (1 - p) / n + zz / (4 * n * n));
    *low = p > 0 && mid > half ? mid - half : 0; /* exactly 0 and 1 at the ends, where rounding would leave a trace */
    *high = p < 1 && mid + half < 1 ? mid + half : 1;
}

/* ---- drawing ---- */

/* splitmix64 (Steele, Lea, Flood 2014): enough for drawing indexes, and the same everywhere. */
static uint64_t next(uint64_t *s)
{
    uint64_t z = (*s += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

typedef struct draw {
    size_t n, groups, resamples;
    uint32_t *of;    /* [n] group of an observation, 0 .. groups - 1; NULL: its own */
    uint32_t *count; /* [groups] */
    double *w;       /* [n] */
    double *stat;    /* [resamples] */
    size_t done;
    uint64_t rng;
} draw;

static void draw_clear(draw *d)
{
    free(d->of);
    free(d->count);
    free(d->w);
    free(d->stat);
}

/* n observations, obs[i] of the caller's numbering. */
static int draw_init(draw *d, const mm_eval_boot *b, const size_t *obs, size_t n)
{
    *d = (draw){ .n = n, .groups = n, .resamples = b->resamples ? b->resamples : 1000, .rng = b->seed };
    if (n >= UINT32_MAX) return MM_ENOMEM;
    if (b->group) {
        uint32_t most = 0;
        for (size_t i = 0; i < n; i++) most = b->group[obs[i]] > most ? b->group[obs[i]] : most;
        uint32_t *number = calloc((size_t)most + 1, sizeof *number);
        if (!number || !(d->of = mm_realloc(NULL, n, sizeof *d->of))) {
            free(number);
            return MM_ENOMEM;
        }
        d->groups = 0;
        for (size_t i = 0; i < n; i++) {
            uint32_t *g = &number[b->group[obs[i]]];
            if (!*g) *g = (uint32_t)++d->groups;
            d->of[i] = *g - 1;
        }
        free(number);
    }
    d->count = mm_realloc(NULL, d->groups, sizeof *d->count);
    d->w = mm_realloc(NULL, n, sizeof *d->w);
    d->stat = mm_realloc(NULL, d->resamples, sizeof *d->stat);
    return d->count && d->w && d->stat ? 0 : MM_ENOMEM;
}

static void draw_again(draw *d)
{
    memset(d->count, 0, d->groups * sizeof *d->count);
    for (size_t i = 0; i < d->groups; i++) d->count[((next(&d->rng) >> 32) * d->groups) >> 32]++;
    for (size_t i = 0; i < d->n; i++) d->w[i] = d->count[d->of ? d->of[i] : i];
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double point(const double *sorted, size_t n, double p)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* A resample in which the measure does not exist (all drawn values equal) says nothing. */
static void draw_note(draw *d, double stat)
{
    if (isfinite(stat)) d->stat[d->done++] = stat;
}

static void draw_end(draw *d, double value, mm_eval_interval *out)
{
    *out = (mm_eval_interval){ value, value, value, d->n, d->groups };
    if (!d->done) return;
    qsort(d->stat, d->done, sizeof *d->stat, ascending);
    out->low = point(d->stat, d->done, 0.025);
    out->high = point(d->stat, d->done, 0.975);
}

/* ---- means ---- */

static double mean(const double *x, const double *w, size_t n)
{
    double sum = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        sum += w ? w[i] * x[i] : x[i];
        all += w ? w[i] : 1;
    }
    return sum / all;
}

static int none(mm_err *err) { return mm_fail(err, MM_EEMPTY, "nothing to measure: there are no observations"); }
static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

int mm_eval_mean_diff(const double *x, const double *y, size_t n, const mm_eval_boot *b, mm_eval_interval *out, mm_err *err)
{
    draw d = { 0 };
    size_t m = 0, *obs = mm_realloc(NULL, n, sizeof *obs);
    double *v = mm_realloc(NULL, n, sizeof *v);
    int r = obs && v ? 0 : MM_ENOMEM;
    for (size_t i = 0; !r && i < n; i++) {
        double one = y ? x[i] - y[i] : x[i];
        if (!isfinite(one)) continue;
        obs[m] = i;
        v[m++] = one;
    }
    if (!r && !m) r = MM_EEMPTY;
    if (!r) r = draw_init(&d, b, obs, m);
    for (size_t i = 0; !r && i < d.resamples; i++) {
        draw_again(&d);
        draw_note(&d, mean(v, d.w, m));
    }
    if (!r) draw_end(&d, mean(v, NULL, m), out);
    draw_clear(&d);
    free(obs);
    free(v);
    return r == MM_EEMPTY ? none(err) : r ? no_memory(err) : 0;
}

int mm_eval_mean(const double *x, size_t n, const mm_eval_boot *b, mm_eval_interval *out, mm_err *err)
{
    return mm_eval_mean_diff(x, NULL, n, b, out, err);
}

/* ---- correlation ---- */

typedef struct ranked { /* values in ascending order, to rank them with any weights in one walk */
    double value;
    size_t i;
} ranked;

static int by_value(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

typedef struct variable {
    const double *v;
    ranked *order; /* Spearman only */
    double *rank;
} variable;

static void variable_clear(variable *x)
{
    free(x->order);
    free(x->rank);
}

static int variable_init(variable *x, int kind, const double *v, size_t n)
{
    *x = (variable){ .v = v };
    if (kind != MM_EVAL_SPEARMAN) return 0;
    x->order = mm_realloc(NULL, n, sizeof *x->order);
    x->rank = mm_realloc(NULL, n, sizeof *x->rank);
    if (!x->order || !x->rank) return MM_ENOMEM;
    for (size_t i = 0; i < n; i++) x->order[i] = (ranked){ v[i], i };
    qsort(x->order, n, sizeof *x->order, by_value);
    return 0;
}

/* What is correlated: the values, or their ranks where observation i counts w[i] times (once, without w). */
static const double *values(variable *x, const double *w, size_t n)
{
    double before = 0;
    if (!x->order) return x->v;
    for (size_t a = 0, b; a < n; a = b) {
        double here = 0;
        for (b = a; b < n && x->order[b].value == x->order[a].value; b++) here += w ? w[x->order[b].i] : 1;
        for (size_t k = a; k < b; k++) x->rank[x->order[k].i] = before + (here + 1) / 2;
        before += here;
    }
    return x->rank;
}

static double correlate(variable *xv, variable *yv, const double *w, size_t n)
{
    const double *x = values(xv, w, n), *y = values(yv, w, n);
    double mx = mean(x, w, n), my = mean(y, w, n), xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        double a = x[i] - mx, b = y[i] - my, wi = w ? w[i] : 1;
        xx += wi * a * a;
        yy += wi * b * b;
        xy += wi * a * b;
    }
    if (!(xx > 0) || !(yy > 0)) return NAN;
    double c = xy / sqrt(xx) / sqrt(yy);
    return c > 1 ? 1 : c < -1 ? -1 : c;
}

/* All that has values for all: rows with NaN in one are no observations. */
static size_t compact(const double *const in[3], double *const out[3], size_t n, size_t *obs)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        int whole = 1;
        for (int k = 0; k < 3; k++) whole = whole && (!in[k] || isfinite(in[k][i]));
        if (!whole) continue;
        for (int k = 0; k < 3; k++)
            if (in[k]) out[k][m] = in[k][i];
        obs[m++] = i;
    }
    return m;
}

int mm_eval_corr_diff(int kind, const double *x, const double *other, const double *y, size_t n, const mm_eval_boot *b, mm_eval_interval *out,
                      mm_err *err)
{
    draw d = { 0 };
    const double *in[3] = { x, y, other };
    double *copy[3] = { mm_realloc(NULL, n, sizeof(double)), mm_realloc(NULL, n, sizeof(double)), mm_realloc(NULL, n, sizeof(double)) };
    size_t m = 0, *obs = mm_realloc(NULL, n, sizeof *obs);
    variable v[3] = { { 0 } };
    double value = NAN;
    int r = obs && copy[0] && copy[1] && copy[2] ? 0 : MM_ENOMEM;
    if (!r) m = compact(in, copy, n, obs);
    if (!r && m < 2) r = MM_EEMPTY;
    for (int k = 0; !r && k < (other ? 3 : 2); k++) r = variable_init(&v[k], kind, copy[k], m);
    if (!r) r = draw_init(&d, b, obs, m);
    if (!r) {
        value = correlate(&v[0], &v[1], NULL, m) - (other ? correlate(&v[2], &v[1], NULL, m) : 0);
        if (isnan(value)) r = MM_EEMPTY;
    }
    for (size_t i = 0; !r && i < d.resamples; i++) {
        draw_again(&d);
        draw_note(&d, correlate(&v[0], &v[1], d.w, m) - (other ? correlate(&v[2], &v[1], d.w, m) : 0));
    }
    if (!r) draw_end(&d, value, out);
    draw_clear(&d);
    for (int k = 0; k < 3; k++) {
        variable_clear(&v[k]);
        free(copy[k]);
    }
    free(obs);
    if (r == MM_EEMPTY) return mm_fail(err, MM_EEMPTY, m < 2 ? "no correlation: fewer than two pairs" : "no correlation: all values are equal");
    return r ? no_memory(err) : 0;
}

int mm_eval_corr(int kind, const double *x, const double *y, size_t n, const mm_eval_boot *b, mm_eval_interval *out, mm_err *err)
{
    return mm_eval_corr_diff(kind, x, NULL, y, n, b, out, err);
}

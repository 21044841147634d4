#include "gen/mm_sample.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"

/* exp(x) for x <= 0 by the basic operations alone: the C library's differs from version to version in the last digit, and the last digit can
 * decide a draw. 2^k * e^r with |r| <= ln(2) / 2, error about 1e-15. */
static double exp_low(double x)
{
    static const double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    static const double over[] = { 1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                   1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1,           1 }; /* 1 / 13! ... */
    if (!(x > -700)) return 0;
    const double k = floor(x * 1.44269504088896338700 + 0.5), r = x - k * ln2_high - k * ln2_low;
    double sum = over[0], power;
    for (int i = 1; i < 14; i++) sum = sum * r + over[i];
    const uint64_t bits = (uint64_t)((int64_t)k + 1023) << 52;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

static int before(const mm_candidate *a, const mm_candidate *b) { return a->logit > b->logit || (a->logit == b->logit && a->id < b->id); }

static int by_rank(const void *a, const void *b) { return before(a, b) ? -1 : 1; }

/* A heap with the worst on top: what comes in pushes that one out. */
static void sift(mm_candidate *h, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&h[child], &h[child + 1])) child++;
        if (!before(&h[i], &h[child])) return;
        mm_candidate t = h[i];
        h[i] = h[child];
        h[child] = t;
    }
}

size_t mm_top(const float *logits, size_t n, mm_candidate *out, size_t k)
{
    if (k > n) k = n;
    if (!k) return 0;
    for (size_t i = 0; i < k; i++) out[i] = (mm_candidate){ logits[i], (int32_t)i };
    for (size_t i = k / 2; i-- > 0;) sift(out, k, i);
    for (size_t i = k; i < n; i++)
        if (logits[i] > out[0].logit) {
            out[0] = (mm_candidate){ logits[i], (int32_t)i };
            sift(out, k, 0);
        }
    qsort(out, k, sizeof *out, by_rank);
    return k;
}

double mm_log_total(const float *logits, size_t n)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)logits[i] > max) max = (double)logits[i];
    for (size_t i = 0; i < n; i++) sum += exp_low((double)logits[i] - max);
    return max + log(sum);
}

static int grow(mm_sampler *s, size_t n)
{
    if (s->cap >= n) return 0;
    mm_candidate *c = mm_realloc(s->c, n, sizeof *c);
    if (c) s->c = c;
    double *w = mm_realloc(s->w, n, sizeof *w);
    if (w) s->w = w;
    float *row = mm_realloc(s->row, n, sizeof *row);
    if (row) s->row = row;
    uint64_t *seen = mm_realloc(s->seen, n / 64 + 1, sizeof *seen);
    if (seen) s->seen = seen;
    if (!c || !w || !row || !seen) return MM_ENOMEM;
    s->cap = n;
    return 0;
}

/* What was said before counts once, but for the frequency. */
static void penalise(mm_sampler *s, const mm_sample_opts *o, size_t n, const int32_t *past, size_t n_past)
{
    const double repeat = o->repeat_penalty > 0 ? o->repeat_penalty : 1;
    if (repeat == 1 && o->frequency_penalty == 0 && o->presence_penalty == 0) return;
    size_t look = o->last_n < 0 ? n_past : o->last_n ? (size_t)o->last_n : 64;
    if (look < n_past) past += n_past - look, n_past = look;
    memset(s->seen, 0, (n / 64 + 1) * sizeof *s->seen);
    for (size_t i = 0; i < n_past; i++) {
        const int32_t id = past[i];
        if (id < 0 || (size_t)id >= n) continue;
        double v = (double)s->row[id] - o->frequency_penalty;
        if (!(s->seen[id / 64] >> id % 64 & 1)) {
            v = (double)s->row[id] > 0 ? (double)s->row[id] / repeat : (double)s->row[id] * repeat;
            v -= o->frequency_penalty + o->presence_penalty;
            s->seen[id / 64] |= UINT64_C(1) << id % 64;
        }
        s->row[id] = (float)v;
    }
}

/* The candidates of top_p, sorted, out of all n: those near the best first, more of them only while their probabilities do not reach it. */
static size_t likely(mm_sampler *s, size_t n, double max, double top_p)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) total += exp_low((double)s->row[i] - max);
    for (double reach = 8;; reach *= 2) {
        const int all = reach > 700;
        size_t m = 0;
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            if (s->row[i] > -INFINITY && (all || (double)s->row[i] >= max - reach)) s->c[m++] = (mm_candidate){ s->row[i], (int32_t)i };
        for (size_t i = 0; i < m; i++) sum += exp_low((double)s->c[i].logit - max);
        if (!all && sum < top_p * total) continue;
        qsort(s->c, m, sizeof *s->c, by_rank);
        return m;
    }
}

/* What is left of the candidates: s->c[0..m). Sorted where the order matters. */
static size_t choose_from(mm_sampler *s, const mm_sample_opts *o, size_t n, double max)
{
    const double top_p = o->top_p > 0 && o->top_p < 1 ? o->top_p : 1;
    const int few = o->top_k > 0 && (size_t)o->top_k < n;
    size_t m = 0, keep = 0;
    if (few) m = mm_top(s->row, n, s->c, (size_t)o->top_k);
    else if (top_p < 1) m = likely(s, n, max, top_p);
    else
        for (size_t i = 0; i < n; i++) s->c[m++] = (mm_candidate){ s->row[i], (int32_t)i };
    if (top_p < 1) {
        /* of all, or of the K best, which then are all there is */
        double total = 0, sum = 0;
        if (few)
            for (size_t i = 0; i < m; i++) total += exp_low((double)s->c[i].logit - max);
        else
            for (size_t i = 0; i < n; i++) total += exp_low((double)s->row[i] - max);
        while (keep < m && sum < top_p * total) sum += exp_low((double)s->c[keep++].logit - max);
        m = keep;
    }
    keep = 0;
    for (size_t i = 0; i < m; i++)
        if (s->c[i].logit > -INFINITY && exp_low((double)s->c[i].logit - max) >= o->min_p) s->c[keep++] = s->c[i];
    return keep;
}

int mm_sample_weigh(mm_sampler *s, const mm_sample_opts *o, const float *logits, size_t n, const int32_t *past, size_t n_past, const uint64_t *allow,
                    size_t *m, double *total, mm_err *err)
{
    size_t best = 0;
    if (grow(s, n)) return mm_fail(err, MM_ENOMEM, "out of memory");
    memcpy(s->row, logits, n * sizeof *logits);
    penalise(s, o, n, past, n_past);
    for (size_t i = 0; i < n; i++) {
        if (isnan(s->row[i])) return mm_fail(err, MM_EDATA, "the model's logits are not numbers: its weights are damaged, or too large for their type");
        if (allow && !(allow[i / 64] >> i % 64 & 1)) s->row[i] = -INFINITY;
        if (s->row[i] > s->row[best]) best = i;
    }
    const double max = n ? (double)s->row[best] : -INFINITY;
    if (!(max > -INFINITY)) return mm_fail(err, MM_EDATA, "no token may come next");
    *m = 1;
    *total = s->w[0] = 1;
    s->c[0] = (mm_candidate){ s->row[best], (int32_t)best };
    if (o->temperature <= 0 || !(max < INFINITY)) return 0;
    *m = choose_from(s, o, n, max);
    *total = 0;
    for (size_t i = 0; i < *m; i++) *total += s->w[i] = exp_low(((double)s->c[i].logit - max) / o->temperature);
    return 0;
}

size_t mm_sample_draw(const double *w, size_t m, double total, mm_rng *rng)
{
    double u = (double)(mm_rng_next(rng) >> 11) * 0x1p-53 * total;
    size_t i = 0;
    while (i + 1 < m && u >= w[i]) u -= w[i++];
    return i;
}

int mm_sample(mm_sampler *s, const mm_sample_opts *o, const float *logits, size_t n, const int32_t *past, size_t n_past, const uint64_t *allow,
              mm_rng *rng, int32_t *id, mm_err *err)
{
    size_t m;
    double total;
    const int r = mm_sample_weigh(s, o, logits, n, past, n_past, allow, &m, &total, err);
    if (r) return r;
    *id = s->c[o->temperature > 0 && s->c[0].logit < INFINITY ? mm_sample_draw(s->w, m, total, rng) : 0].id;
    return 0;
}

void mm_sampler_clear(mm_sampler *s)
{
    free(s->c);
    free(s->w);
    free(s->row);
    free(s->seen);
    *s = (mm_sampler){ 0 };
}

/* Log-mel spectra. Tables are made on every call: they cost less than two frames of sound, and nothing is shared between threads. All is
 * float64: a quiet bin beside a loud one keeps its digits, whose logarithm is wanted. LANES frames go through the transform together. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "media/mm_media.h"

#define LANES 2
#define MAX_FFT 65536
#define MAX_FACTORS 17
typedef double vec __attribute__((vector_size(LANES * sizeof(double)))); /* one number of each frame */

typedef struct cplx {
    vec re, im;
} cplx;

typedef struct root {
    double re, im;
} root;

/* A transform of n real numbers as one of m = n / 2 complex ones. */
typedef struct fft {
    int n, m, factors, f[MAX_FACTORS];
    root *w;       /* [n] exp(-2 pi i k / n) */
    cplx *a, *b, *tmp; /* [m], [m], [largest factor] */
} fft;

static cplx add(cplx x, cplx y) { return (cplx){ x.re + y.re, x.im + y.im }; }
static cplx sub(cplx x, cplx y) { return (cplx){ x.re - y.re, x.im - y.im }; }
static cplx mul(cplx x, root w) { return (cplx){ x.re * w.re - x.im * w.im, x.re * w.im + x.im * w.re }; }
static cplx turn(cplx x) { return (cplx){ x.im, -x.re }; } /* times -i */
static cplx scale(cplx x, double s) { return (cplx){ x.re * s, x.im * s }; }

/* The discrete Fourier transform of p numbers: y[k] = sum x[j] w^(j k). */
static void dft2(cplx *y, const cplx *x)
{
    y[0] = add(x[0], x[1]);
    y[1] = sub(x[0], x[1]);
}

static void dft3(cplx *y, const cplx *x)
{
    const cplx s = add(x[1], x[2]), d = scale(turn(sub(x[1], x[2])), 0.86602540378443864676);
    const cplx c = sub(x[0], scale(s, 0.5));
    y[0] = add(x[0], s);
    y[1] = add(c, d);
    y[2] = sub(c, d);
}

static void dft4(cplx *y, const cplx *x)
{
    const cplx a = add(x[0], x[2]), b = sub(x[0], x[2]), c = add(x[1], x[3]), d = turn(sub(x[1], x[3]));
    y[0] = add(a, c);
    y[1] = add(b, d);
    y[2] = sub(a, c);
    y[3] = sub(b, d);
}

static void dft5(cplx *y, const cplx *x)
{
    static const double c1 = 0.30901699437494742410, c2 = -0.80901699437494742410;
    static const double s1 = 0.95105651629515357212, s2 = 0.58778525229247312917;
    const cplx a = add(x[1], x[4]), b = sub(x[1], x[4]), c = add(x[2], x[3]), d = sub(x[2], x[3]);
    const cplx p = add(x[0], add(scale(a, c1), scale(c, c2))), q = add(x[0], add(scale(a, c2), scale(c, c1)));
    const cplx u = turn(add(scale(b, s1), scale(d, s2))), v = turn(sub(scale(b, s2), scale(d, s1)));
    y[0] = add(x[0], add(a, c));
    y[1] = add(p, u);
    y[2] = add(q, v);
    y[3] = sub(q, v);
    y[4] = sub(p, u);
}

static void dft_any(cplx *y, const cplx *x, int p, const fft *t)
{
    for (int k = 0; k < p; k++) {
        y[k] = x[0];
        for (int j = 1; j < p; j++) y[k] = add(y[k], mul(x[j], t->w[(size_t)((int64_t)j * k % p) * (size_t)(t->n / p)]));
    }
}

/* One pass of Stockham's transform (decimation in frequency): groups of p numbers that lie m / p apart, the results in order. */
static inline __attribute__((always_inline)) void pass(cplx *to, const cplx *from, int p, int len, int stride, const fft *t)
{
    const int part = len / p, step = t->n / len;
    cplx x[5], y[5];
    for (int i = 0; i < part; i++)
        for (int s = 0; s < stride; s++) {
            for (int j = 0; j < p; j++) x[j] = from[(i + j * part) * stride + s];
            if (p == 2) dft2(y, x);
            else if (p == 3) dft3(y, x);
            else if (p == 4) dft4(y, x);
            else dft5(y, x);
            cplx *o = to + (size_t)i * (size_t)p * (size_t)stride + s;
            o[0] = y[0];
            for (int j = 1; j < p; j++) o[j * stride] = mul(y[j], t->w[i * j * step]);
        }
}

static void pass_any(cplx *to, const cplx *from, int p, int len, int stride, const fft *t)
{
    const int part = len / p, step = t->n / len;
    for (int i = 0; i < part; i++)
        for (int s = 0; s < stride; s++) {
            cplx *x = t->tmp, *y = t->tmp + p;
            for (int j = 0; j < p; j++) x[j] = from[(i + j * part) * stride + s];
            dft_any(y, x, p, t);
            for (int j = 0; j < p; j++)
                to[((size_t)i * (size_t)p + (size_t)j) * (size_t)stride + (size_t)s] = mul(y[j], t->w[(int64_t)i * j * step % t->n]);
        }
}

/* power[0..m]: squared magnitudes of the transform of the real numbers x[0..n-1], which lie in t->a as pairs. */
static void power_spectrum(fft *t, vec *power)
{
    cplx *from = t->a, *to = t->b;
    for (int k = 0, len = t->m, stride = 1; k < t->factors; len /= t->f[k], stride *= t->f[k], k++) {
        switch (t->f[k]) {
        case 2: pass(to, from, 2, len, stride, t); break;
        case 3: pass(to, from, 3, len, stride, t); break;
        case 4: pass(to, from, 4, len, stride, t); break;
        case 5: pass(to, from, 5, len, stride, t); break;
        default: pass_any(to, from, t->f[k], len, stride, t);
        }
        cplx *swap = from;
        from = to;
        to = swap;
    }
    const cplx *z = from; /* the transforms of the even and the odd numbers, mixed */
    vec r = z[0].re + z[0].im, s = z[0].re - z[0].im;
    power[0] = r * r;
    power[t->m] = s * s;
    for (int k = 1; k <= t->m - k; k++) {
        const cplx a = z[k], b = { z[t->m - k].re, -z[t->m - k].im };
        const cplx even = scale(add(a, b), 0.5), odd = mul(scale(turn(sub(a, b)), 0.5), t->w[k]);
        const cplx u = add(even, odd), v = sub(even, odd);
        power[k] = u.re * u.re + u.im * u.im;
        power[t->m - k] = v.re * v.re + v.im * v.im;
    }
}

/* ---- the filters ---- */

typedef struct filter {
    int first, count;
    size_t at; /* of its weights */
} filter;

typedef struct mel {
    const mm_mel_spec *spec;
    int fft, window_len, shift; /* numbers of a transform; of them sound; between frames */
    fft t;
    double *window, *weight;
    filter *filter;
    vec *power, *frame;
} mel;

static double slaney(double hz) { return hz < 1000 ? hz * 3 / 200 : 15 + log(hz / 1000) * 27 / log(6.4); }
static double slaney_hz(double m) { return m < 15 ? m * 200 / 3 : 1000 * exp((m - 15) * log(6.4) / 27); }
static double htk(double hz) { return 1127 * log(1 + hz / 700); }

/* Triangles: WHISPER's stand on the frequencies and have equal areas, KALDI's stand on the mel scale and have equal heights. */
static void make_filters(mel *m)
{
    const mm_mel_spec *s = m->spec;
    const int bins = s->bins, half = m->fft / 2, whisper = s->kind == MM_MEL_WHISPER;
    const double top = s->rate / 2.0, low = whisper ? 0 : htk(20), high = whisper ? slaney(top) : htk(top), step = (high - low) / (bins + 1);
    size_t at = 0;
    for (int b = 0; b < bins; b++) {
        double left = low + b * step, mid = left + step, right = mid + step, norm = 1;
        if (whisper) {
            left = slaney_hz(left);
            mid = slaney_hz(mid);
            right = slaney_hz(right);
            norm = 2 / (right - left);
        }
        filter *f = &m->filter[b];
        *f = (filter){ .at = at };
        int k = 0; /* the first bin that may be inside, then one at a time */
        if (whisper) k = (int)(left * m->fft / s->rate) - 1;
        else k = (int)(700 * (exp(left / 1127) - 1) * m->fft / s->rate) - 1;
        for (k = k < 0 ? 0 : k; k < half + whisper; k++) {
            const double hz = (double)k * s->rate / m->fft, x = whisper ? hz : htk(hz);
            if (x >= right) break;
            const double w = norm * fmin((x - left) / (mid - left), (right - x) / (right - mid));
            if (w <= 0 && !f->count) continue;
            if (!f->count) f->first = k;
            m->weight[at++] = w > 0 ? w : 0;
            f->count++;
        }
    }
}

static void mel_clear(mel *m)
{
    free(m->t.w), free(m->t.a), free(m->t.b), free(m->t.tmp);
    free(m->window), free(m->weight), free(m->filter), free(m->power), free(m->frame);
}

static int mel_init(mel *m, const mm_mel_spec *s, mm_err *err)
{
    const int whisper = s->kind == MM_MEL_WHISPER;
    int n = s->n_fft, largest = 5;
    if (!whisper)
        for (n = 2; n < s->n_fft;) n *= 2;
    *m = (mel){ .spec = s, .fft = n, .window_len = s->n_fft, .shift = s->hop };
    m->t.n = n;
    m->t.m = n / 2;
    for (int rest = m->t.m, p = 4; rest > 1; p = p == 4 ? 2 : p == 2 ? 3 : p + 2)
        for (; rest % p == 0; rest /= p) {
            m->t.f[m->t.factors++] = p;
            if (p > largest) largest = p;
        }
    const size_t half = (size_t)n / 2 + 1;
    m->t.w = mm_aligned((size_t)n, sizeof *m->t.w);
    m->t.a = mm_aligned((size_t)m->t.m, sizeof *m->t.a);
    m->t.b = mm_aligned((size_t)m->t.m, sizeof *m->t.b);
    m->t.tmp = mm_aligned(2 * (size_t)largest, sizeof *m->t.tmp);
    m->window = mm_aligned((size_t)n, sizeof *m->window);
    m->filter = mm_aligned((size_t)s->bins, sizeof *m->filter);
    m->weight = mm_aligned(3 * half + (size_t)s->bins, sizeof *m->weight); /* a bin lies in two triangles at most */
    m->power = mm_aligned(half, sizeof *m->power);
    m->frame = mm_aligned((size_t)n, sizeof *m->frame);
    if (!m->t.w || !m->t.a || !m->t.b || !m->t.tmp || !m->window || !m->filter || !m->weight || !m->power || !m->frame) {
        mel_clear(m);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    for (int k = 0; k < n; k++) m->t.w[k] = (root){ cos(2 * M_PI * k / n), -sin(2 * M_PI * k / n) };
    const double period = whisper ? s->n_fft : s->n_fft - 1;
    for (int i = 0; i < n; i++) m->window[i] = i < s->n_fft ? 0.5 - 0.5 * cos(2 * M_PI * i / period) : 0;
    make_filters(m);
    return 0;
}

/* ---- frames ---- */

/* Sample i of the sound, padded with zeros or cut to `len` and mirrored at both ends. */
static double mirrored(const float *x, size_t n, int64_t len, int64_t i)
{
    if (i < 0) i = -i;
    if (i >= len) i = 2 * (len - 1) - i;
    return i < (int64_t)n ? x[i] : 0;
}

/* m->frame[..][lane] = frame t, ready for the transform; 0 when there is nothing but zeros in it. */
static int whisper_frame(mel *m, int lane, const float *x, size_t n, int64_t t)
{
    const int64_t len = (int64_t)m->spec->n_frames * m->shift, at = t * m->shift - m->fft / 2;
    double any = 0;
    if (at >= 0 && at + m->fft <= len && at + m->fft <= (int64_t)n) {
        for (int i = 0; i < m->fft; i++) {
            m->frame[i][lane] = m->window[i] * x[at + i];
            any += fabs((double)x[at + i]);
        }
        return any > 0;
    }
    if (at >= (int64_t)n && at + m->fft <= len) {
        for (int i = 0; i < m->fft; i++) m->frame[i][lane] = 0;
        return 0;
    }
    for (int i = 0; i < m->fft; i++) {
        const double v = mirrored(x, n, len, at + i);
        m->frame[i][lane] = m->window[i] * v;
        any += fabs(v);
    }
    return any > 0;
}

static int kaldi_frame(mel *m, int lane, const float *x, size_t n, int64_t t, double centre)
{
    const int len = m->window_len;
    const int64_t at = t * m->shift;
    double sum = 0, last;
    for (int i = 0; i < len; i++) {
        const double v = at + i < (int64_t)n ? x[at + i] - centre : 0;
        m->frame[i][lane] = v;
        sum += v;
    }
    const double mean = sum / len;
    last = m->frame[0][lane] - mean;
    for (int i = 0; i < len; i++) {
        const double v = m->frame[i][lane] - mean;
        m->frame[i][lane] = m->window[i] * (v - 0.97 * last);
        last = v;
    }
    for (int i = len; i < m->fft; i++) m->frame[i][lane] = 0;
    return 1;
}

/* The energies of the frames that lie in m->frame, by filter. */
static void energies(mel *m, vec *e)
{
    for (int i = 0; i < m->t.m; i++) m->t.a[i] = (cplx){ m->frame[2 * i], m->frame[2 * i + 1] };
    power_spectrum(&m->t, m->power);
    for (int b = 0; b < m->spec->bins; b++) {
        const filter *f = &m->filter[b];
        const double *w = m->weight + f->at;
        const vec *p = m->power + f->first;
        vec s = { 0 };
        for (int k = 0; k < f->count; k++) s += p[k] * w[k];
        e[b] = s;
    }
}

static float natural_log(double v) { return v < 1e38 ? logf((float)v) : (float)log(v); }

static void whisper(mel *m, float *out, const float *x, size_t n, vec *e)
{
    const mm_mel_spec *s = m->spec;
    const size_t frames = (size_t)s->n_frames, all = frames * (size_t)s->bins;
    float top = -10;
    for (int64_t t = 0; t < s->n_frames; t += LANES) {
        int any = 0, lanes = s->n_frames - t < LANES ? (int)(s->n_frames - t) : LANES;
        for (int l = 0; l < LANES; l++) any |= whisper_frame(m, l, x, n, t + (l < lanes ? l : 0));
        if (any) energies(m, e);
        for (int b = 0; b < s->bins; b++)
            for (int l = 0; l < lanes; l++) {
                const float v = any && e[b][l] > 1e-10 ? natural_log(e[b][l]) * 0.43429448190325183f : -10;
                out[(size_t)b * frames + (size_t)(t + l)] = v;
                if (v > top) top = v;
            }
    }
    for (size_t i = 0; i < all; i++) out[i] = (fmaxf(out[i], top - 8) + 4) / 4;
}

static void kaldi(mel *m, float *out, const float *x, size_t n, vec *e)
{
    const mm_mel_spec *s = m->spec;
    const float scaled = s->std != 0 ? 1 / s->std : 1, mean = s->std != 0 ? s->mean : 0, pad = (0 - mean) * scaled;
    const size_t len = n < (size_t)m->window_len ? (size_t)m->window_len : n;
    const int64_t have = 1 + (int64_t)((len - (size_t)m->window_len) / (size_t)m->shift);
    double centre = 0;
    if (s->center_wave && n) {
        for (size_t i = 0; i < n; i++) centre += x[i];
        centre /= (double)n;
    }
    for (int64_t t = 0; t < s->n_frames; t += LANES) {
        const int lanes = s->n_frames - t < LANES ? (int)(s->n_frames - t) : LANES;
        const int real = have - t < lanes ? have > t ? (int)(have - t) : 0 : lanes;
        for (int l = 0; l < LANES && real; l++) kaldi_frame(m, l, x, n, t + (l < real ? l : 0), centre);
        if (real) energies(m, e);
        for (int b = 0; b < s->bins; b++)
            for (int l = 0; l < lanes; l++) {
                float *o = &out[(size_t)b * (size_t)s->n_frames + (size_t)(t + l)];
                *o = l < real ? (natural_log(fmax(e[b][l], 1.1920928955078125e-07)) - mean) * scaled : pad;
            }
    }
}

int mm_mel(float *out, const float *x, size_t n, const mm_mel_spec *spec, mm_err *err)
{
    mel m;
    if (spec->kind != MM_MEL_WHISPER && spec->kind != MM_MEL_KALDI) return mm_fail(err, MM_EARG, "no such kind of mel spectrum: %d", (int)spec->kind);
    const int whisper_kind = spec->kind == MM_MEL_WHISPER;
    if (spec->rate < 1000 || spec->bins < 1 || spec->bins > 4096 || spec->n_fft < 4 || spec->n_fft > MAX_FFT || spec->hop < 1 || spec->n_frames < 1)
        return mm_fail(err, MM_EARG, "mel spectrum of rate %d, %d bins, window %d, hop %d, %d frames", spec->rate, spec->bins, spec->n_fft,
                       spec->hop, spec->n_frames);
    if (whisper_kind && (spec->n_fft % 2 || (int64_t)spec->n_frames * spec->hop <= spec->n_fft / 2))
        return mm_fail(err, MM_EARG, "mel spectrum: a window of %d samples should be even and fit into %d frames every %d samples twice",
                       spec->n_fft, spec->n_frames, spec->hop);
    int r = mel_init(&m, spec, err);
    if (r) return r;
    vec *e = mm_aligned((size_t)spec->bins, sizeof *e);
    if (!e) r = mm_fail(err, MM_ENOMEM, "out of memory");
    else if (whisper_kind) whisper(&m, out, x, n, e);
    else kaldi(&m, out, x, n, e);
    free(e);
    mel_clear(&m);
    return r;
}

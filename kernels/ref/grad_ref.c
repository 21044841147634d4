/* Gradients of rows and elements and the optimizer's step, the readable truth: double accumulators, one operation after the
 * other. Nothing here knows how many bits a float has: compiled with float as double these are the gradients that finite
 * differences are held against. */
#include <math.h>
#include "kernels/attn_int.h"
#include "kernels/kern_int.h"
#include "kernels/mm_grad.h"

/* Sums over rows are taken in double over BLOCK rows, then added to the result. */
enum { BLOCK = 64 };

static void layer_norm_grad(float *dx, float *dgain, float *dbias, const float *dy, const float *x, const float *gain,
                            size_t rows, size_t d, float eps)
{
    for (size_t first = 0; first < rows; first += BLOCK) {
        size_t n = rows - first < BLOCK ? rows - first : BLOCK;
        double mean[BLOCK], inv[BLOCK], mean_g[BLOCK], mean_gx[BLOCK];
        for (size_t r = 0; r < n; r++) {
            const float *xr = x + (first + r) * d, *gr = dy + (first + r) * d;
            double sum = 0, var = 0, g = 0, gx = 0;
            for (size_t i = 0; i < d; i++) sum += (double)xr[i];
            mean[r] = sum / (double)d;
            for (size_t i = 0; i < d; i++) var += (xr[i] - mean[r]) * (xr[i] - mean[r]);
            inv[r] = 1 / sqrt(var / (double)d + (double)eps);
            for (size_t i = 0; i < d; i++) {
                double t = (double)gr[i] * gain[i];
                g += t;
                gx += t * (xr[i] - mean[r]) * inv[r];
            }
            mean_g[r] = g / (double)d;
            mean_gx[r] = gx / (double)d;
        }
        for (size_t i = 0; i < d; i++) {
            double sum_gain = 0, sum_bias = 0;
            for (size_t r = 0; r < n; r++) {
                size_t at = (first + r) * d + i;
                double xhat = (x[at] - mean[r]) * inv[r], g = (double)dy[at];
                sum_gain += g * xhat;
                sum_bias += g;
                dx[at] = (float)(inv[r] * (g * gain[i] - mean_g[r] - xhat * mean_gx[r]));
            }
            if (dgain) dgain[i] = (float)(dgain[i] + sum_gain);
            if (dbias) dbias[i] = (float)(dbias[i] + sum_bias);
        }
    }
}

/* x s(u) with s = 1 / (1 + e^-u), u' = slope: s + x s (1 - s) slope. 1 - s is s(-u), without cancellation; where it is 0 the
 * rest is not looked at. */
static double sigmoid_grad(double x, double u, double slope)
{
    double s = 1 / (1 + exp(-u)), rest = 1 / (1 + exp(u));
    return s * rest == 0 ? s : s + x * s * rest * slope;
}

static double act_grad1(double x, mmk_act a)
{
    double c = 2 * sqrt(2 / M_PI);
    switch (a) {
    case MMK_ACT_GELU_ERF: return (1 + erf(x * M_SQRT1_2)) / 2 + (fabs(x) > 40 ? 0 : x * exp(-x * x / 2) / sqrt(2 * M_PI));
    case MMK_ACT_GELU_TANH: return sigmoid_grad(x, c * (x + 0.044715 * x * x * x), c * (1 + 3 * 0.044715 * x * x));
    case MMK_ACT_QUICK_GELU: return sigmoid_grad(x, 1.702 * x, 1.702);
    case MMK_ACT_SILU: return sigmoid_grad(x, x, 1);
    case MMK_ACT_RELU: return x > 0 ? 1 : x <= 0 ? 0 : x;
    default: return 1;
    }
}

static void act_grad(float *dz, const float *dy, const float *z, size_t n, mmk_act a)
{
    for (size_t i = 0; i < n; i++) dz[i] = (float)(dy[i] * act_grad1((double)z[i], a));
}

static void rotary(float *x, const float *cos, const float *sin, size_t rows, size_t heads, size_t head_dim, size_t ldx,
                   int back)
{
    size_t half = head_dim / 2;
    for (size_t r = 0; r < rows; r++, x += ldx, cos += half, sin += half)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < half; i++) {
                float *a = x + h * head_dim + i, *b = a + half;
                double u = (double)*a, v = (double)*b, c = (double)cos[i], s = (double)(back ? -sin[i] : sin[i]);
                *a = (float)(u * c - v * s);
                *b = (float)(v * c + u * s);
            }
}

static void l2_normalize_grad(float *dx, const float *dy, const float *y, const float *norm, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++, dx += d, dy += d, y += d) {
        double dot = 0;
        for (size_t i = 0; i < d; i++) dot += (double)dy[i] * y[i];
        for (size_t i = 0; i < d; i++) dx[i] = norm[r] == 0 ? 0 : (float)((dy[i] - y[i] * dot) / norm[r]);
    }
}

static void softmax_ce(float *dlogits, float *loss, const float *logits, const float *target, size_t rows, size_t n,
                       float scale)
{
    for (size_t r = 0; r < rows; r++, logits += n, target += n, dlogits = dlogits ? dlogits + n : NULL) {
        double max = -INFINITY, sum = 0, total = 0, l = 0;
        for (size_t i = 0; i < n; i++) max = logits[i] > max || logits[i] != logits[i] ? (double)logits[i] : max;
        for (size_t i = 0; i < n; i++) sum += exp(logits[i] - max);
        for (size_t i = 0; i < n; i++) {
            total += (double)target[i];
            if (target[i] != 0) l += target[i] * (log(sum) - (logits[i] - max));
        }
        for (size_t i = 0; dlogits && i < n; i++)
            dlogits[i] = (float)(scale * (exp(logits[i] - max) / sum * total - target[i]));
        loss[r] = (float)(sum != sum ? sum : l); /* a NaN among the logits, also where all targets are 0 */
    }
}

static void adamw(float *w, const float *g, float *m, float *v, size_t n, const mmk_adamw *h)
{
    double beta1 = (double)h->beta1, beta2 = (double)h->beta2;
    for (size_t i = 0; i < n; i++) {
        double x = (double)g[i] * h->gscale, a = beta1 * m[i] + (1 - beta1) * x, b = beta2 * v[i] + (1 - beta2) * x * x;
        double step = a / h->correction1 / (sqrt(b / h->correction2) + h->eps) + (double)h->wd * w[i];
        m[i] = (float)a;
        v[i] = (float)b;
        w[i] = (float)(w[i] - h->lr * step);
    }
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = (float)(y[i] + (double)a * x[i]);
}

static double sumsq(const float *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    return s;
}

void mmk_fill_grad_ref(mm_kern *k)
{
    k->layer_norm_grad = layer_norm_grad;
    k->act_grad = act_grad;
    k->rotary = rotary;
    k->l2_normalize_grad = l2_normalize_grad;
    k->softmax_ce = softmax_ce;
    k->adamw = adamw;
    k->axpy = axpy;
    k->sumsq = sumsq;
    k->attn_grad = &mmk_attn_grad_ref;
}

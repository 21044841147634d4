/* Attention, the readable truth: row by row in double. */
#include <math.h>
#include "kernels/attn_int.h"

static size_t scratch(size_t n, size_t d)
{
    (void)d;
    return (n + 1) * sizeof(double);
}

static void head(const mmk_head *h, void *mem)
{
    double *w = mem;
    for (size_t i = 0; i < h->n; i++) {
        size_t keys = h->causal ? i + 1 : h->n;
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < keys; j++) {
            double s = 0;
            for (size_t t = 0; t < h->d; t++) s += (double)h->q[i * h->ldq + t] * h->k[j * h->ldk + t];
            w[j] = s * (double)h->scale + (h->bias ? h->bias[j] : 0);
            if (w[j] > max || w[j] != w[j]) max = w[j];
        }
        for (size_t j = 0; j < keys; j++) {
            w[j] = max == -INFINITY ? 0 : exp(w[j] - max);
            sum += w[j];
        }
        for (size_t t = 0; t < h->d; t++) {
            double o = 0;
            for (size_t j = 0; j < keys; j++) o += w[j] * h->v[j * h->ldv + t];
            h->out[i * h->ldo + t] = (float)(sum == 0 ? 0 : o / sum); /* no visible key: zeros */
        }
    }
}

const mmk_attn_ops mmk_attn_ref = { scratch, head };

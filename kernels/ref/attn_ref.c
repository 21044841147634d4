/* Attention, the readable truth: row by row in double. */
#include <math.h>
#include "kernels/attn_int.h"
#include "kernels/mm_kv.h"
#include "kernels/ref/num_ref.h"

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

static double kept(const void *p, size_t i, int half) { return (double)(half ? num_load_f16(p, i) : num_load_f32(p, i)); }

static size_t kv_scratch(size_t keys, size_t d) { return scratch(keys, d); }

static void kv_head(const mmk_kv_head *h, void *mem)
{
    double *w = mem;
    for (size_t r = 0; r < h->rows; r++) {
        size_t token = r / h->group, head = r % h->group, keys = h->first + token + 1, d = h->d;
        size_t from = h->window && keys > h->window ? keys - h->window : 0;
        const float *q = h->q + token * h->ldq + head * d;
        double max = -INFINITY, sum = 0;
        for (size_t j = from; j < keys; j++) {
            double s = 0;
            for (size_t t = 0; t < d; t++)
                s += (double)q[t] * kept(h->keys, (j / MMK_KV_BLOCK * d + t) * MMK_KV_BLOCK + j % MMK_KV_BLOCK, h->half);
            w[j] = s * (double)h->scale;
            if (w[j] > max || w[j] != w[j]) max = w[j];
        }
        for (size_t j = from; j < keys; j++) sum += w[j] = exp(w[j] - max);
        for (size_t t = 0; t < d; t++) {
            double o = 0;
            for (size_t j = from; j < keys; j++) o += w[j] * kept(h->values, j * d + t, h->half);
            h->out[token * h->ldo + head * d + t] = (float)(o / sum);
        }
    }
}

const mmk_attn_ops mmk_attn_ref = { scratch, head, kv_scratch, kv_head, 1 };

/* p and ds: weights of one row, and gradients of its logits; then the sums over rows of dk, dv, dbias */
static size_t scratch_grad(size_t n, size_t d)
{
    return (3 * n + 2 * n * d + 1) * sizeof(double);
}

static void head_grad(const mmk_head_grad *h, void *mem)
{
    size_t n = h->n, d = h->d;
    double *p = mem, *ds = p + n, *db = ds + n, *dk = db + n, *dv = dk + n * d;
    for (size_t i = 0; i < n + 2 * n * d; i++) db[i] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t keys = h->causal ? i + 1 : n;
        const float *q = h->q + i * h->ldq, *dout = h->dout + i * h->lddo, *out = h->out + i * h->ldo;
        double max = -INFINITY, sum = 0, dot = 0;
        for (size_t j = 0; j < keys; j++) {
            double s = 0;
            for (size_t t = 0; t < d; t++) s += (double)q[t] * h->k[j * h->ldk + t];
            p[j] = s * (double)h->scale + (h->bias ? h->bias[j] : 0);
            if (p[j] > max || p[j] != p[j]) max = p[j];
        }
        for (size_t j = 0; j < keys; j++) {
            p[j] = max == -INFINITY ? 0 : exp(p[j] - max);
            sum += p[j];
        }
        for (size_t t = 0; t < d; t++) dot += (double)dout[t] * out[t];
        for (size_t j = 0; j < keys; j++) {
            double dp = 0;
            for (size_t t = 0; t < d; t++) dp += (double)dout[t] * h->v[j * h->ldv + t];
            p[j] = sum == 0 ? 0 : p[j] / sum;
            ds[j] = p[j] * (dp - dot);
            db[j] += ds[j];
        }
        for (size_t t = 0; t < d; t++) {
            double dq = 0;
            for (size_t j = 0; j < keys; j++) dq += ds[j] * h->k[j * h->ldk + t];
            h->dq[i * h->lddq + t] = (float)(dq * (double)h->scale);
        }
        for (size_t j = 0; j < keys; j++)
            for (size_t t = 0; t < d; t++) {
                dk[j * d + t] += ds[j] * q[t];
                dv[j * d + t] += p[j] * dout[t];
            }
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t t = 0; t < d; t++) {
            float *gk = h->dk + j * h->lddk + t, *gv = h->dv + j * h->lddv + t;
            *gk = (float)((h->add ? *gk : 0) + dk[j * d + t] * (double)h->scale);
            *gv = (float)((h->add ? *gv : 0) + dv[j * d + t]);
        }
        if (h->dbias) h->dbias[j] = (float)(h->dbias[j] + db[j]);
    }
}

const mmk_attn_grad_ops mmk_attn_grad_ref = { scratch_grad, head_grad };

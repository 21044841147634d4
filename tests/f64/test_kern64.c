/* Gradients in kernels/ref against finite differences, float compiled as double. TAP. */
#include "check64.h"
#include "kernels/mm_grad.h"
#include "kernels/mm_kern.h"

/* The largest difference between grad[i] and the slope of loss(arg) over x[i], relative to the largest slope */
static double differ(double (*loss)(void *), void *arg, float *x, const float *grad, size_t n)
{
    double worst = 0, top = 1e-3;
    for (size_t i = 0; i < n; i++) {
        const double h = 1e-4;
        double keep = (double)x[i], f[4];
        static const double at[4] = { -2, -1, 1, 2 };
        for (int j = 0; j < 4; j++) {
            x[i] = (float)(keep + at[j] * h);
            f[j] = loss(arg);
        }
        x[i] = (float)keep;
        double slope = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h) /* error h^4 */, e = fabs(slope - (double)grad[i]);
        if (e > worst || e != e) worst = e;
        if (fabs(slope) > top) top = fabs(slope);
    }
    return worst / top;
}

enum { ROWS = 70, D = 12, MOST = 4096 };

static const mm_kern *k;
static float x[MOST], y[MOST], w[MOST], gain[MOST], bias[MOST], cot[MOST];
static size_t count;
static mmk_act which;

/* All losses are sums of the result with fixed weights, so that the gradient of the result is those weights. */
static double weighed(const float *r, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)cot[i] * r[i];
    return s;
}

static double loss_norm(void *unused)
{
    (void)unused;
    k->layer_norm(y, x, NULL, gain, bias, ROWS, D, (float)1e-5);
    return weighed(y, ROWS * D);
}

static double loss_act(void *unused)
{
    (void)unused;
    memcpy(y, x, count * sizeof *x);
    k->act(y, count, which);
    return weighed(y, count);
}

static double loss_l2(void *unused)
{
    (void)unused;
    memcpy(y, x, ROWS * D * sizeof *x);
    k->l2_normalize(y, ROWS, D);
    return weighed(y, ROWS * D);
}

static double loss_ce(void *unused)
{
    (void)unused;
    float l[ROWS];
    double s = 0;
    k->softmax_ce(NULL, l, x, w, ROWS, D, 1);
    for (int r = 0; r < ROWS; r++) s += (double)l[r];
    return s;
}

static double loss_rotary(void *unused)
{
    (void)unused;
    memcpy(y, x, ROWS * D * sizeof *x);
    k->rotary(y, gain, bias, ROWS, 3, 4, D, 0);
    return weighed(y, ROWS * D);
}

enum { HEADS = 4, KV = 2, HD = 3, N = 9, LD = (HEADS + 2 * KV) * HD };
static const size_t off[] = { 0, 4, 4, 9 };
static int causal;
static float qkv[N * LD], grads[N * LD], key_bias[HEADS * N], key_grad[HEADS * N], out[N * HEADS * HD];

static double loss_attn(void *unused)
{
    (void)unused;
    if (mmk_attention(k, out, HEADS * HD, qkv, LD, qkv + HEADS * HD, LD, qkv + (HEADS + KV) * HD, LD, off, 3, HEADS, KV, HD,
                      (float)0.7, causal, key_bias, 1))
        return NAN;
    return weighed(out, N * HEADS * HD);
}

static void attention(void)
{
    fill(qkv, N * LD), fill(key_bias, HEADS * N), fill(cot, MOST);
    memset(key_grad, 0, sizeof key_grad);
    loss_attn(NULL);
    size_t kc = HEADS * HD, vc = (HEADS + KV) * HD;
    int r = mmk_attention_grad(k, grads, LD, grads + kc, LD, grads + vc, LD, cot, kc, out, kc, qkv, LD, qkv + kc, LD, qkv + vc,
                               LD, off, 3, HEADS, KV, HD, (float)0.7, causal, key_bias, key_grad, 1);
    verdict(causal ? "causal attention: q, k, v" : "attention: q, k, v",
            r ? NAN : differ(loss_attn, NULL, qkv, grads, N * LD), 1e-8);
    verdict(causal ? "causal attention: bias" : "attention: bias",
            r ? NAN : differ(loss_attn, NULL, key_bias, key_grad, HEADS * N), 1e-8);
}

static struct {
    size_t m, n, k;
    int ta, tb;
} mat;

static double loss_mat(void *unused)
{
    (void)unused;
    if (mmk_matmul(k, y, mat.n, mat.m, mat.n, mat.k, x, mat.ta ? mat.m : mat.k, mat.ta, w, mat.tb ? mat.k : mat.n, mat.tb, bias,
                   NULL, 0, MMK_ACT_NONE, 1))
        return NAN;
    return weighed(y, mat.m * mat.n);
}

/* d op(A) = dC op(B)^T; a as it is stored may be its transpose, which is then op(B) dC^T. B likewise. */
static void product(int ta, int tb)
{
    static float da[MOST], db[MOST];
    size_t m = 7, n = 11, kk = 5;
    mat.m = m, mat.n = n, mat.k = kk, mat.ta = ta, mat.tb = tb;
    fill(x, m * kk), fill(w, n * kk), fill(cot, m * n), fill(bias, n);
    size_t ldb = tb ? kk : n, lda = ta ? m : kk;
    int r = ta ? mmk_matmul(k, da, m, kk, m, n, w, ldb, tb, cot, n, 1, NULL, NULL, 0, MMK_ACT_NONE, 1)
               : mmk_matmul(k, da, kk, m, kk, n, cot, n, 0, w, ldb, !tb, NULL, NULL, 0, MMK_ACT_NONE, 1);
    r |= tb ? mmk_matmul(k, db, kk, n, kk, m, cot, n, 1, x, lda, ta, NULL, NULL, 0, MMK_ACT_NONE, 1)
            : mmk_matmul(k, db, n, kk, n, m, x, lda, !ta, cot, n, 0, NULL, NULL, 0, MMK_ACT_NONE, 1);
    char name[60];
    snprintf(name, sizeof name, "product %c%c", ta ? 'T' : 'N', tb ? 'T' : 'N');
    double e = differ(loss_mat, NULL, x, da, m * kk), f = differ(loss_mat, NULL, w, db, n * kk);
    verdict(name, r ? NAN : e > f ? e : f, 1e-8);
}

int main(void)
{
    static float dx[MOST], dgain[MOST], dbias[MOST];
    static const char *const acts[] = { "none", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu" };
    k = mm_kern_get();
    size_t n = ROWS * D;
    fill(x, n), fill(gain, n), fill(bias, n), fill(cot, n);
    k->layer_norm_grad(dx, dgain, dbias, cot, x, gain, ROWS, D, (float)1e-5);
    verdict("layer_norm: x", differ(loss_norm, NULL, x, dx, n), 1e-8);
    verdict("layer_norm: gain", differ(loss_norm, NULL, gain, dgain, D), 1e-8);
    verdict("layer_norm: bias", differ(loss_norm, NULL, bias, dbias, D), 1e-8);
    count = 400;
    for (int a = 0; a <= MMK_ACT_RELU; a++) {
        for (size_t i = 0; i < count; i++) x[i] = (float)(0.05 * ((double)i - 200) + 0.01);
        which = (mmk_act)a;
        k->act_grad(dx, cot, x, count, which);
        verdict(acts[a], differ(loss_act, NULL, x, dx, count), 1e-8);
    }
    fill(x, n);
    memcpy(y, x, n * sizeof *x);
    float norm[ROWS];
    for (int r = 0; r < ROWS; r++) norm[r] = (float)sqrt(k->sumsq(x + r * D, D));
    k->l2_normalize(y, ROWS, D);
    k->l2_normalize_grad(dx, cot, y, norm, ROWS, D);
    verdict("l2_normalize", differ(loss_l2, NULL, x, dx, n), 1e-8);
    fill(x, n), fill(w, n);
    for (size_t i = 0; i < n; i++) w[i] = i % 5 ? (float)fabs((double)w[i]) : 0;
    float loss[ROWS];
    k->softmax_ce(dx, loss, x, w, ROWS, D, 1);
    verdict("softmax_ce", differ(loss_ce, NULL, x, dx, n), 1e-8);
    fill(x, n), fill(cot, n);
    memcpy(dx, cot, n * sizeof *dx);
    for (int i = 0; i < ROWS * 2; i++) gain[i] = (float)cos(i), bias[i] = (float)sin(i);
    k->rotary(dx, gain, bias, ROWS, 3, 4, D, 1);
    verdict("rotary", differ(loss_rotary, NULL, x, dx, n), 1e-8);
    for (causal = 0; causal < 2; causal++) attention();
    for (int t = 0; t < 4; t++) product(t & 1, t >> 1);
    printf("1..%d\n", tests);
    return bad > 0;
}

/* The transformer block against a plain double-precision reading of the same formulas (Vaswani et al. 2017; post- and
 * pre-norm as in Xiong et al. 2020), for each field of the configuration that changes what is computed. */
#include <math.h>
#include <stdlib.h>
#include "model/model_int.h"
#include "tap.h"

static unsigned long long seed = 88172645463325252u;

static float rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (float)((double)(seed >> 11) / 9007199254740992.0 * 2 - 1);
}

static float *vec(size_t n, float scale, float shift)
{
    float *v = malloc(n * sizeof *v);
    for (size_t i = 0; v && i < n; i++) v[i] = rnd() * scale + shift;
    return v;
}

static double act(mmk_act a, double x)
{
    switch (a) {
    case MMK_ACT_GELU_ERF: return x / 2 * (1 + erf(x / sqrt(2)));
    case MMK_ACT_GELU_TANH: return x / 2 * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case MMK_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case MMK_ACT_SILU: return x / (1 + exp(-x));
    case MMK_ACT_RELU: return x > 0 ? x : 0;
    default: return x;
    }
}

static void ref_linear(double *y, const double *x, const float *w, const float *b, int rows, int n, int k)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++) {
            double s = b[j];
            for (int t = 0; t < k; t++) s += x[i * k + t] * w[j * k + t];
            y[i * n + j] = s;
        }
}

static void ref_norm(double *y, const double *x, const float *g, const float *b, int rows, int d, double eps)
{
    for (int i = 0; i < rows; i++) {
        double m = 0, v = 0;
        for (int j = 0; j < d; j++) m += x[i * d + j] / d;
        for (int j = 0; j < d; j++) v += (x[i * d + j] - m) * (x[i * d + j] - m) / d;
        for (int j = 0; j < d; j++) y[i * d + j] = (x[i * d + j] - m) / sqrt(v + eps) * g[j] + b[j];
    }
}

static void ref_attention(double *out, const double *qkv, const mm_tower_config *c, const size_t *off, int nseq)
{
    int H = (int)c->heads, KV = (int)c->kv_heads, D = (int)c->head_dim, ld = (H + 2 * KV) * D;
    for (int s = 0; s < nseq; s++)
        for (int h = 0; h < H; h++)
            for (size_t i = off[s]; i < off[s + 1]; i++) {
                double w[64], sum = 0, top = -INFINITY;
                size_t end = c->causal ? i + 1 : off[s + 1];
                int kh = h / (H / KV);
                for (size_t j = off[s]; j < end; j++) {
                    double d = 0;
                    for (int t = 0; t < D; t++) d += qkv[i * ld + h * D + t] * qkv[j * ld + (H + kh) * D + t];
                    w[j - off[s]] = d / sqrt(D);
                    top = fmax(top, w[j - off[s]]);
                }
                for (size_t j = off[s]; j < end; j++) sum += w[j - off[s]] = exp(w[j - off[s]] - top);
                for (int t = 0; t < D; t++) {
                    double o = 0;
                    for (size_t j = off[s]; j < end; j++) o += w[j - off[s]] / sum * qkv[j * ld + (H + KV + kh) * D + t];
                    out[i * H * D + h * D + t] = o;
                }
            }
}

static void one(const char *name, mm_tower_config c, int threads)
{
    static const size_t off[] = { 0, 1, 8, 8, 37, 50 };
    enum { NSEQ = 5, ROWS = 50 };
    int d = (int)c.width, f = (int)c.ff_width, q = (int)(c.heads * c.head_dim), kv = (int)(c.kv_heads * c.head_dim), n = q + 2 * kv;
    const mm_kern *kern = mm_kern_get();
    float *w[4] = { vec((size_t)(n * d), 0.3f, 0), vec((size_t)(d * q), 0.3f, 0), vec((size_t)(f * d), 0.3f, 0), vec((size_t)(d * f), 0.3f, 0) };
    float *b[8] = { vec((size_t)n, 0.3f, 0), vec((size_t)d, 0.3f, 0), vec((size_t)f, 0.3f, 0), vec((size_t)d, 0.3f, 0),
                    vec((size_t)d, 0.3f, 1), vec((size_t)d, 0.3f, 0), vec((size_t)d, 0.3f, 1), vec((size_t)d, 0.3f, 0) };
    float *x = vec((size_t)(ROWS * d), 1, 0);
    int dims[4][2] = { { n, d }, { d, q }, { f, d }, { d, f } };
    mm_layer l = { .attn_norm = { .gain = b[4], .bias = b[5] }, .ff_norm = { .gain = b[6], .bias = b[7] } };
    mm_linear *lin[4] = { &l.qkv, &l.out, &l.up, &l.down };
    void *mem[4];
    for (int i = 0; i < 4; i++) {
        size_t rows = (size_t)dims[i][0], k = (size_t)dims[i][1];
        mmk_rows src = { w[i], rows };
        mem[i] = mm_aligned(mmk_pack_size(kern, MM_F32, rows, k), 1);
        *lin[i] = (mm_linear){ .w = mmk_pack(kern, mem[i], MM_F32, k, &src, 1, 1), .bias = b[i] };
    }
    double *xd = malloc(sizeof(double) * (size_t)(ROWS * (n + 2 * q + 4 * d + f)));
    double *qkv = xd + ROWS * d, *at = qkv + ROWS * n, *y = at + ROWS * q, *z = y + ROWS * d, *up = z + ROWS * d, *a = up + ROWS * f;
    for (int i = 0; i < ROWS * d; i++) xd[i] = x[i];
    if (c.pre_norm) ref_norm(a, xd, b[4], b[5], ROWS, d, c.eps);
    ref_linear(qkv, c.pre_norm ? a : xd, w[0], b[0], ROWS, n, d);
    ref_attention(at, qkv, &c, off, NSEQ);
    ref_linear(y, at, w[1], b[1], ROWS, d, q);
    for (int i = 0; i < ROWS * d; i++) y[i] += xd[i];
    if (c.pre_norm) ref_norm(a, y, b[6], b[7], ROWS, d, c.eps);
    else ref_norm(y, y, b[4], b[5], ROWS, d, c.eps);
    ref_linear(up, c.pre_norm ? a : y, w[2], b[2], ROWS, f, d);
    for (int i = 0; i < ROWS * f; i++) up[i] = act(c.act, up[i]);
    ref_linear(z, up, w[3], b[3], ROWS, d, f);
    for (int i = 0; i < ROWS * d; i++) z[i] += y[i];
    if (!c.pre_norm) ref_norm(z, z, b[6], b[7], ROWS, d, c.eps);

    mm_arena arena = { 0 };
    mm_graph g = { .kern = kern, .arena = &arena, .threads = threads };
    mm_tensor t = mm_op_new(&g, ROWS, (size_t)d);
    memcpy(t.p, x, sizeof(float) * (size_t)(ROWS * d));
    t = mm_block(&g, &c, &l, t, &(mm_ragged){ off, NSEQ }, NULL);
    double worst = 0, norm = 0;
    for (int i = 0; t.p && i < ROWS * d; i++) {
        worst = fmax(worst, fabs(t.p[i] - z[i]));
        norm = fmax(norm, fabs(z[i]));
    }
    if (!ok(t.p && !g.failed && worst <= 2e-4 * norm, "%s", name)) printf("# worst %g of %g\n", worst, norm);
    mm_arena_clear(&arena);
    for (int i = 0; i < 4; i++) free(w[i]), free(mem[i]);
    for (int i = 0; i < 8; i++) free(b[i]);
    free(x);
    free(xd);
}

int main(void)
{
    mm_tower_config c = { .width = 48, .ff_width = 100, .heads = 4, .kv_heads = 4, .head_dim = 12, .eps = 1e-5f, .act = MMK_ACT_GELU_ERF }, v;
    one("post-norm, exact GELU", c, 1);
    one("two threads", c, 2);
    v = c, v.pre_norm = 1;
    one("pre-norm", v, 1);
    v = c, v.causal = 1;
    one("causal", v, 1);
    v = c, v.kv_heads = 2;
    one("two heads share a key head", v, 1);
    v = c, v.head_dim = 20;
    one("head width is not width / heads", v, 1);
    static const struct { mmk_act a; const char *n; } acts[] = { { MMK_ACT_GELU_TANH, "tanh GELU" }, { MMK_ACT_QUICK_GELU, "quick GELU" },
        { MMK_ACT_SILU, "SiLU" }, { MMK_ACT_RELU, "ReLU" } };
    for (int i = 0; i < 4; i++) {
        v = c, v.act = acts[i].a;
        one(acts[i].n, v, 1);
    }

    mm_arena arena = { 0 };
    mm_graph g = { .kern = mm_kern_get(), .arena = &arena, .threads = 1 };
    g.failed = 1;
    mm_tensor t = mm_op_new(&g, 4, 4);
    ok(!t.p && !mm_op_normalize(&g, t).p, "a failure is handed on");
    mm_arena_clear(&arena);
    return done();
}

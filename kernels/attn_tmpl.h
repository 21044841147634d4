/* attn_tmpl.h - attention of one head, written once for all vector widths. The including file defines V, W, the operations used
 * below, MR (rows that share a pass), EACH_ROWS(X) = X(1) .. X(MR) and TRANSPOSE(V t[W]).
 *
 * Keys are transposed once into [d][n padded to W], so that a row of logits is a row of a matrix product; then a stable
 * softmax over the rows in L1, step by step for all rows of a block, so that the latencies of one row hide behind the others;
 * then the product with the values. A row's operations are the same whichever rows run beside it: one FMA chain per logit
 * over the channels, one per output over the keys. */

static size_t padded(size_t n) { return (n + W - 1) / W * W; }

static size_t scratch(size_t n, size_t d)
{
    return (padded(n) * padded(d) + MR * padded(n)) * sizeof(float) + 64;
}

static void transpose_keys(float *kt, const mmk_head *h, size_t np)
{
    for (size_t j = 0; j < h->n; j += W)
        for (size_t t = 0; t < h->d; t += W) {
            V x[W];
            size_t cols = h->d - t < W ? h->d - t : W;
            for (size_t i = 0; i < W; i++) x[i] = j + i < h->n ? LOADN(h->k + (j + i) * h->ldk + t, cols) : ZERO();
            TRANSPOSE(x);
            for (size_t i = 0; i < cols; i++) STOREA(kt + (t + i) * np + j, x[i]);
        }
}

/* s[rows][np] = q K^T, keys j .. j + vecs W; rows and vecs are constants where this is inlined */
static inline __attribute__((always_inline)) void logits(const mmk_head *h, const float *kt, size_t np, const float *q,
                                                         int rows, int vecs, float *s, size_t j)
{
    V a[2 * MR];
    kt += j;
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) a[i] = ZERO();
    for (size_t t = 0; t < h->d; t++, kt += np) {
        V k0 = LOADA(kt), k1 = vecs == 2 ? LOADA(kt + W) : k0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V x = SET1(q[(size_t)r * h->ldq + t]);
            a[r] = FMA(x, k0, a[r]);
            if (vecs == 2) a[rows + r] = FMA(x, k1, a[rows + r]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) STOREA(s + (size_t)(i % rows) * np + j + (size_t)(i / rows) * W, a[i]);
}

/* Weights in place, not yet divided by their sum; inv[r] = 1 / sum, or 0 where no key is visible. keys: visible to the last
 * row; the others see `fewer` less each. */
static inline __attribute__((always_inline)) void soften(const mmk_head *h, float *s, size_t np, int rows, size_t keys,
                                                         size_t fewer, float *inv)
{
    V scale = SET1(h->scale), max[MR], sum[MR];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) max[r] = SET1(-INFINITY), sum[r] = ZERO();
    for (size_t j = 0; j < keys; j += W) {
        V bias = h->bias ? LOADN(h->bias + j, keys - j < W ? keys - j : W) : ZERO();
        int edge = j + W > keys - fewer * (size_t)(rows - 1); /* not every row sees all of these keys */
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V x = FMA(LOADA(s + (size_t)r * np + j), scale, bias);
            if (edge) {
                size_t seen = keys - fewer * (size_t)(rows - 1 - r);
                x = HIDE(x, seen > j ? seen - j : 0);
            }
            STOREA(s + (size_t)r * np + j, x);
            max[r] = MAX(x, max[r]); /* a NaN is passed over here and comes back through the sum */
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        float top = HMAX(max[r]);
        max[r] = SET1(top == -INFINITY ? 0 : top); /* all hidden: e^-Inf below is 0 for every key, not NaN */
    }
    for (size_t j = 0; j < keys; j += W)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V e = EXPNEG(SUB(LOADA(s + (size_t)r * np + j), max[r]));
            STOREA(s + (size_t)r * np + j, e);
            sum[r] = ADD(sum[r], e);
        }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        float total = HSUM(sum[r]);
        inv[r] = total == 0 ? 0 : 1 / total;
    }
}

/* out[rows][d] = weights V, columns c .. c + vecs W of which the last register has `last` */
static inline __attribute__((always_inline)) void mix(const mmk_head *h, const float *s, size_t np, size_t i, int rows,
                                                      int vecs, size_t keys, const float *inv, size_t c, size_t last)
{
    V a[2 * MR];
    const float *v = h->v + c;
#pragma GCC unroll 16
    for (int x = 0; x < rows * vecs; x++) a[x] = ZERO();
    for (size_t j = 0; j < keys; j++, v += h->ldv) {
        V v0 = vecs == 2 ? LOAD(v) : LOADN(v, last), v1 = vecs == 2 ? LOADN(v + W, last) : v0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V w = SET1(s[(size_t)r * np + j]);
            a[r] = FMA(w, v0, a[r]);
            if (vecs == 2) a[rows + r] = FMA(w, v1, a[rows + r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        float *o = h->out + (i + (size_t)r) * h->ldo + c;
        V d = SET1(inv[r]);
        if (vecs == 2) STORE(o, MUL(a[r], d));
        STOREN(o + (vecs - 1) * W, MUL(a[(vecs - 1) * rows + r], d), last);
    }
}

/* Rows i .. i + rows. Hidden keys of a causal block have weight zero, which changes no sum (unless a value is not finite). */
static inline __attribute__((always_inline)) void block(const mmk_head *h, const float *kt, size_t np, size_t i, int rows,
                                                        float *s)
{
    size_t keys = h->causal ? i + (size_t)rows : h->n, j = 0, c = 0;
    const float *q = h->q + i * h->ldq;
    float inv[MR];
    for (; j + W < keys; j += 2 * W) logits(h, kt, np, q, rows, 2, s, j);
    if (j < keys) logits(h, kt, np, q, rows, 1, s, j);
    soften(h, s, np, rows, keys, h->causal ? 1 : 0, inv);
    for (; c + W < h->d; c += 2 * W) mix(h, s, np, i, rows, 2, keys, inv, c, h->d - c < 2 * W ? h->d - c - W : W);
    if (c < h->d) mix(h, s, np, i, rows, 1, keys, inv, c, h->d - c);
}

static void head(const mmk_head *h, void *mem)
{
    size_t np = padded(h->n);
    float *kt = mem, *s = kt + np * h->d;
    transpose_keys(kt, h, np);
    for (size_t i = 0; i < h->n;) {
        int rows = h->n - i < MR ? (int)(h->n - i) : MR;
        switch (rows) {
#define X(n) \
    case n: block(h, kt, np, i, n, s); break;
            EACH_ROWS(X)
        }
        i += (size_t)rows;
    }
}

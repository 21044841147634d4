/* attn_tmpl.h - attention of one head, written once for all vector widths. The including file defines V, W, the operations
 * used below and MR, the rows that share a pass.
 *
 * Keys are transposed once into [d][n padded to W], so that a row of logits is a row of a matrix product; then a stable
 * softmax over the row in L1; then the product with the values. A row's operations are the same whichever rows run beside
 * it: one FMA chain per logit over the channels, one per output over the keys. */

static size_t padded(size_t n) { return (n + W - 1) / W * W; }

static size_t scratch(size_t n, size_t d)
{
    return (padded(n) * d + MR * padded(n)) * sizeof(float) + 64;
}

static void transpose_keys(float *kt, const mmk_head *h, size_t np)
{
    for (size_t t = 0; t < h->d; t++) {
        for (size_t j = 0; j < h->n; j++) kt[t * np + j] = h->k[j * h->ldk + t];
        for (size_t j = h->n; j < np; j++) kt[t * np + j] = 0;
    }
}

/* s[rows][np] = q K^T; rows is a constant where this is inlined */
static inline __attribute__((always_inline)) void logits(const mmk_head *h, const float *kt, size_t np, size_t i, int rows,
                                                         float *s, size_t keys)
{
    const float *q = h->q + i * h->ldq;
    size_t j = 0;
    for (; j + W < keys; j += 2 * W) {
        V a[MR], b[MR];
        for (int r = 0; r < rows; r++) a[r] = b[r] = ZERO();
        for (size_t t = 0; t < h->d; t++) {
            V k0 = LOADA(kt + t * np + j), k1 = j + W < np ? LOADA(kt + t * np + j + W) : ZERO();
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                V x = SET1(q[(size_t)r * h->ldq + t]);
                a[r] = FMA(x, k0, a[r]);
                b[r] = FMA(x, k1, b[r]);
            }
        }
        for (int r = 0; r < rows; r++) {
            STOREA(s + (size_t)r * np + j, a[r]);
            STOREA(s + (size_t)r * np + j + W, b[r]);
        }
    }
    if (j < keys) {
        V a[MR];
        for (int r = 0; r < rows; r++) a[r] = ZERO();
        for (size_t t = 0; t < h->d; t++) {
            V k0 = LOADA(kt + t * np + j);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) a[r] = FMA(SET1(q[(size_t)r * h->ldq + t]), k0, a[r]);
        }
        for (int r = 0; r < rows; r++) STOREA(s + (size_t)r * np + j, a[r]);
    }
}

/* Weights in place, not yet divided by their sum; returns 1 / sum, or 0 where no key is visible. */
static float soften(const mmk_head *h, float *s, size_t keys)
{
    V scale = SET1(h->scale), max = SET1(-INFINITY), sum = ZERO();
    for (size_t j = 0; j < keys; j += W) {
        V x = MUL(LOADA(s + j), scale);
        if (h->bias) x = ADD(x, LOADN(h->bias + j, keys - j < W ? keys - j : W));
        x = HIDE(x, keys - j);
        STOREA(s + j, x);
        max = MAX(x, max); /* a NaN is passed over here and comes back through the sum */
    }
    float top = HMAX(max);
    if (top == -INFINITY) top = 0; /* all hidden: e^-Inf below is 0 for every key, not NaN */
    V m = SET1(top);
    for (size_t j = 0; j < keys; j += W) {
        V e = EXPNEG(SUB(LOADA(s + j), m));
        STOREA(s + j, e);
        sum = ADD(sum, e);
    }
    float total = HSUM(sum);
    return total == 0 ? 0 : 1 / total;
}

/* out[rows][d] = weights V, columns c .. c + 2W */
static inline __attribute__((always_inline)) void mix(const mmk_head *h, const float *s, size_t np, size_t i, int rows,
                                                      const size_t *keys, const float *inv, size_t c)
{
    V a[MR], b[MR];
    size_t left = h->d - c, n0 = left < W ? left : W, n1 = left <= W ? 0 : left < 2 * W ? left - W : W;
    for (int r = 0; r < rows; r++) a[r] = b[r] = ZERO();
    for (size_t j = 0; j < keys[rows - 1]; j++) {
        const float *v = h->v + j * h->ldv + c;
        V v0 = n0 == W ? LOAD(v) : LOADN(v, n0), v1 = n1 == W ? LOAD(v + W) : LOADN(v + W, n1);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V w = SET1(s[(size_t)r * np + j]);
            a[r] = FMA(w, v0, a[r]);
            b[r] = FMA(w, v1, b[r]);
        }
    }
    for (int r = 0; r < rows; r++) {
        float *o = h->out + (i + (size_t)r) * h->ldo + c;
        STOREN(o, MUL(a[r], SET1(inv[r])), n0);
        if (n1) STOREN(o + W, MUL(b[r], SET1(inv[r])), n1);
    }
}

static inline __attribute__((always_inline)) void block(const mmk_head *h, const float *kt, size_t np, size_t i, int rows,
                                                        float *s)
{
    size_t keys[MR];
    float inv[MR];
    for (int r = 0; r < rows; r++) keys[r] = h->causal ? i + (size_t)r + 1 : h->n;
    logits(h, kt, np, i, rows, s, keys[rows - 1]);
    for (int r = 0; r < rows; r++) {
        float *row = s + (size_t)r * np;
        inv[r] = soften(h, row, keys[r]);
        /* the other rows of the block may see more keys: these are zero weights, which change no sum */
        for (size_t j = padded(keys[r]); j < padded(keys[rows - 1]); j += W) STOREA(row + j, ZERO());
    }
    for (size_t c = 0; c < h->d; c += 2 * W) mix(h, s, np, i, rows, keys, inv, c);
}

static void head(const mmk_head *h, void *mem)
{
    size_t np = padded(h->n), i = 0;
    float *kt = mem, *s = kt + np * h->d;
    transpose_keys(kt, h, np);
    for (; i + MR <= h->n; i += MR) block(h, kt, np, i, MR, s);
    for (; i + 2 <= h->n; i += 2) block(h, kt, np, i, 2, s);
    for (; i < h->n; i++) block(h, kt, np, i, 1, s);
}

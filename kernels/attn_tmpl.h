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

static void transpose_rows(float *kt, const float *k, size_t ldk, size_t n, size_t d, size_t np)
{
    for (size_t j = 0; j < n; j += W)
        for (size_t t = 0; t < d; t += W) {
            V x[W];
            size_t cols = d - t < W ? d - t : W;
            for (size_t i = 0; i < W; i++) x[i] = j + i < n ? LOADN(k + (j + i) * ldk + t, cols) : ZERO();
            TRANSPOSE(x);
            for (size_t i = 0; i < cols; i++) STOREA(kt + (t + i) * np + j, x[i]);
        }
}

/* s[rows][np] = q K^T, keys j .. j + vecs W; rows and vecs are constants where this is inlined */
static inline __attribute__((always_inline)) void logits(const float *kt, size_t np, const float *q, size_t ldq, size_t d,
                                                         int rows, int vecs, float *s, size_t j)
{
    V a[2 * MR];
    kt += j;
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) a[i] = ZERO();
    for (size_t t = 0; t < d; t++, kt += np) {
        V k0 = LOADA(kt), k1 = vecs == 2 ? LOADA(kt + W) : k0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V x = SET1(q[(size_t)r * ldq + t]);
            a[r] = FMA(x, k0, a[r]);
            if (vecs == 2) a[rows + r] = FMA(x, k1, a[rows + r]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) STOREA(s + (size_t)(i % rows) * np + j + (size_t)(i / rows) * W, a[i]);
}

/* Weights in place, not yet divided by their sum; inv[r] = 1 / sum, or 0 where no key is visible. Row r sees the first seen[r] of
 * all keys, no fewer than the row before it. */
static inline __attribute__((always_inline)) void soften(float *s, size_t np, int rows, size_t keys, const size_t *seen,
                                                         float factor, const float *key_bias, float *inv)
{
    V scale = SET1(factor), max[MR], sum[MR];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) max[r] = SET1(-INFINITY), sum[r] = ZERO();
    for (size_t j = 0; j < keys; j += W) {
        V bias = key_bias ? LOADN(key_bias + j, keys - j < W ? keys - j : W) : ZERO();
        int edge = j + W > seen[0]; /* not every row sees all of these keys */
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V x = FMA(LOADA(s + (size_t)r * np + j), scale, bias);
            if (edge) x = HIDE(x, seen[r] > j ? seen[r] - j : 0);
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

/* What mix makes: out[r] = (add ? out[r] : 0) + factor[r] * sum over j of weight(r, j) v[j], r < rows, j < n. A weight is
 * s[r * sr + j * sj]. */
typedef struct mixed {
    const float *s, *v, *factor;
    size_t sr, sj, ldv, n;
    float *out;
    size_t ldo;
    int add;
} mixed;

static inline __attribute__((always_inline)) V load_last(const float *p, size_t n) { return n == W ? LOAD(p) : LOADN(p, n); }

/* Columns c .. c + vecs W of which the last register has `last`, where not all a constant */
static inline __attribute__((always_inline)) void mix(const mixed *m, int rows, int vecs, size_t c, size_t last)
{
    V a[2 * MR];
    const float *v = m->v + c, *s = m->s;
#pragma GCC unroll 16
    for (int x = 0; x < rows * vecs; x++) a[x] = ZERO();
    for (size_t j = 0; j < m->n; j++, v += m->ldv, s += m->sj) {
        V v0 = vecs == 2 ? LOAD(v) : load_last(v, last), v1 = vecs == 2 ? load_last(v + W, last) : v0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V w = SET1(s[(size_t)r * m->sr]);
            a[r] = FMA(w, v0, a[r]);
            if (vecs == 2) a[rows + r] = FMA(w, v1, a[rows + r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        float *o = m->out + (size_t)r * m->ldo + c, *o1 = o + (vecs - 1) * W;
        V f = SET1(m->factor[r]), x = MUL(a[r], f), y = MUL(a[(vecs - 1) * rows + r], f);
        if (m->add) {
            if (vecs == 2) x = ADD(LOAD(o), x);
            y = ADD(load_last(o1, last), y);
        }
        if (vecs == 2) STORE(o, x);
        if (last == W) STORE(o1, y);
        else STOREN(o1, y, last);
    }
}

static inline __attribute__((always_inline)) void mix_all(const mixed *m, int rows, size_t d)
{
    size_t c = 0;
    for (; c + 2 * W <= d; c += 2 * W) mix(m, rows, 2, c, W);
    if (c + W < d) mix(m, rows, 2, c, d - c - W);
    else if (c < d) mix(m, rows, 1, c, d - c);
}

static inline __attribute__((always_inline)) void logits_all(const float *kt, size_t np, const float *q, size_t ldq, size_t d,
                                                             int rows, size_t keys, float *s)
{
    size_t j = 0;
    for (; j + W < keys; j += 2 * W) logits(kt, np, q, ldq, d, rows, 2, s, j);
    if (j < keys) logits(kt, np, q, ldq, d, rows, 1, s, j);
}

/* The last row sees all keys, in a causal block each one before it one less. */
static inline __attribute__((always_inline)) void see(size_t *seen, int rows, size_t keys, int causal)
{
    for (int r = 0; r < rows; r++) seen[r] = causal ? keys - (size_t)(rows - 1 - r) : keys;
}

/* Rows i .. i + rows. Hidden keys of a causal block have weight zero, which changes no sum (unless a value is not finite). */
static inline __attribute__((always_inline)) void block(const mmk_head *h, const float *kt, size_t np, size_t i, int rows,
                                                        float *s)
{
    size_t keys = h->causal ? i + (size_t)rows : h->n;
    size_t seen[MR];
    float inv[MR];
    logits_all(kt, np, h->q + i * h->ldq, h->ldq, h->d, rows, keys, s);
    see(seen, rows, keys, h->causal);
    soften(s, np, rows, keys, seen, h->scale, h->bias, inv);
    const mixed m = { s, h->v, inv, np, 1, h->ldv, keys, h->out + i * h->ldo, h->ldo, 0 };
    mix_all(&m, rows, h->d);
}

static void head(const mmk_head *h, void *mem)
{
    size_t np = padded(h->n);
    float *kt = mem, *s = kt + np * h->d;
    transpose_rows(kt, h->k, h->ldk, h->n, h->d, np);
    for (size_t i = 0; i < h->n;) {
        int rows = h->n - i < MR ? (int)(h->n - i) : MR;
        switch (rows) {
#define X(n) \
    case n: block(h, kt, np, i, n, s); break;
            EACH_ROWS(X)
#undef X
        }
        i += (size_t)rows;
    }
}

/* ---- gradients ----
 *
 * The same passes over blocks of MR rows give the weights P and, by a product of dout with the transposed values, the
 * gradients of the logits dS = P (dout V^T - dout out). dq comes from a block at once; the rows of dk and dv are products of
 * columns of dS and P with q and dout, for which PART rows of P and dS are kept: a sequence that fits is gone through
 * once, a longer one adds up in dk and dv. */

#define PART 96 /* a multiple of every MR */

static size_t scratch_grad(size_t n, size_t d)
{
    return (2 * padded(n) * padded(d) + 2 * PART * padded(n)) * sizeof(float) + 64;
}

/* Rows i .. i + rows: P and dS to p and ds, dq */
static inline __attribute__((always_inline)) void block_grad(const mmk_head_grad *h, const float *kt, const float *vt, size_t np,
                                                             size_t i, int rows, float *p, float *ds)
{
    size_t keys = h->causal ? i + (size_t)rows : h->n, end = padded(keys);
    const float *dout = h->dout + i * h->lddo;
    size_t seen[MR];
    float inv[MR], dot[MR], scale[MR];
    logits_all(kt, np, h->q + i * h->ldq, h->ldq, h->d, rows, keys, p);
    logits_all(vt, np, dout, h->lddo, h->d, rows, keys, ds);
    see(seen, rows, keys, h->causal);
    soften(p, np, rows, keys, seen, h->scale, h->bias, inv);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        const float *x = dout + (size_t)r * h->lddo, *y = h->out + (i + (size_t)r) * h->ldo;
        V s = ZERO();
        size_t t = 0;
        for (; t + W <= h->d; t += W) s = FMA(LOAD(x + t), LOAD(y + t), s);
        if (t < h->d) s = FMA(LOADN(x + t, h->d - t), LOADN(y + t, h->d - t), s);
        dot[r] = HSUM(s);
        scale[r] = h->scale;
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        float *pr = p + (size_t)r * np, *dr = ds + (size_t)r * np;
        V f = SET1(inv[r]), o = SET1(dot[r]);
        for (size_t j = 0; j < end; j += W) {
            V w = MUL(LOADA(pr + j), f);
            STOREA(pr + j, w);
            STOREA(dr + j, MUL(w, SUB(LOADA(dr + j), o)));
        }
    }
    const mixed m = { ds, h->k, scale, np, 1, h->ldk, keys, h->dq + i * h->lddq, h->lddq, 0 };
    mix_all(&m, rows, h->d);
}

/* Keys j .. j + rows from the rows i .. i1-1 of P and dS, of which p and ds hold those from i on. In a causal sequence i is j
 * where it is not the first of the part: rows are cut into blocks as keys are, and the block of row j has all of these. */
static inline __attribute__((always_inline)) void columns(const mmk_head_grad *h, size_t np, size_t i, size_t i1, size_t j,
                                                          int rows, const float *p, const float *ds, int add)
{
    float scale[MR], one[MR];
    for (int r = 0; r < rows; r++) scale[r] = h->scale, one[r] = 1;
    const mixed v = { p + j, h->dout + i * h->lddo, one, 1, np, h->lddo, i1 - i, h->dv + j * h->lddv, h->lddv, add };
    mix_all(&v, rows, h->d);
    const mixed k = { ds + j, h->q + i * h->ldq, scale, 1, np, h->ldq, i1 - i, h->dk + j * h->lddk, h->lddk, add };
    mix_all(&k, rows, h->d);
}

static void head_grad(const mmk_head_grad *h, void *mem)
{
    size_t np = padded(h->n);
    float *kt = mem, *vt = kt + np * padded(h->d), *p = vt + np * padded(h->d), *ds = p + PART * np;
    transpose_rows(kt, h->k, h->ldk, h->n, h->d, np);
    transpose_rows(vt, h->v, h->ldv, h->n, h->d, np);
    for (size_t first = 0; first < h->n; first += PART) {
        size_t end = h->n - first < PART ? h->n : first + PART;
        for (size_t i = first; i < end;) {
            int rows = end - i < MR ? (int)(end - i) : MR;
            size_t at = (i - first) * np;
            switch (rows) {
#define X(n) \
    case n: block_grad(h, kt, vt, np, i, n, p + at, ds + at); break;
                EACH_ROWS(X)
#undef X
            }
            i += (size_t)rows;
        }
        /* a causal row has nothing for later keys; a key before this part has sums already */
        size_t keys = h->causal ? end : h->n;
        for (size_t j = 0; j < keys;) {
            int rows = keys - j < MR ? (int)(keys - j) : MR;
            size_t from = h->causal && j > first ? j : first, at = (from - first) * np;
            int add = h->add || (h->causal ? j < first : first > 0);
            switch (rows) {
#define X(n) \
    case n: columns(h, np, from, end, j, n, p + at, ds + at, add); break;
                EACH_ROWS(X)
#undef X
            }
            j += (size_t)rows;
        }
        for (size_t j = 0; h->dbias && j < keys; j += W) {
            size_t n = keys - j < W ? keys - j : W, from = h->causal && j > first ? j : first;
            V s = LOADN(h->dbias + j, n);
            for (size_t i = from; i < end; i++) s = ADD(s, LOADA(ds + (i - first) * np + j));
            STOREN(h->dbias + j, s, n);
        }
    }
}

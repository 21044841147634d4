/* kv_tmpl.h - attention over kept keys and values, for all vector widths; included after attn_tmpl.h, with the same operations and
 * LOADH (W float16 as floats).
 *
 * A pass takes up to MR rows: the heads that share the keys, of as many tokens as fit. What it reads of keys and values it reads once. Many
 * rows: float16 is widened once, so that the passes find float32; that changes no bits. Sums run over keys in order, from a multiple of
 * MMK_KV_BLOCK on; a hidden key has weight zero, which changes no sum. */

static size_t kv_scratch(size_t keys, size_t d)
{
    size_t np = (keys + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK;
    return (MR * np + MR * padded(d)) * sizeof(float) + 64;
}

/* W channels of a value, or one channel of W keys */
static inline __attribute__((always_inline)) V kv_load(const void *p, size_t at, int half)
{
    return half ? LOADH((const uint16_t *)p + at) : LOAD((const float *)p + at);
}

/* The logits of vecs * W keys from j on; vecs is a constant. */
static inline __attribute__((always_inline)) void kv_dots(const void *keys, int half, const float *const *q, size_t d, int rows, int vecs, size_t j,
                                                          float *s, size_t np)
{
    size_t at[4];
    V a[2 * MR];
#pragma GCC unroll 4
    for (int i = 0; i < vecs; i++) {
        size_t key = j + (size_t)i * W;
        at[i] = key / MMK_KV_BLOCK * MMK_KV_BLOCK * d + key % MMK_KV_BLOCK;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) a[i] = ZERO();
    for (size_t t = 0; t < d; t++) {
        V k[4];
#pragma GCC unroll 4
        for (int i = 0; i < vecs; i++) k[i] = kv_load(keys, at[i] + t * MMK_KV_BLOCK, half);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V x = SET1(q[r][t]);
#pragma GCC unroll 4
            for (int i = 0; i < vecs; i++) a[i * rows + r] = FMA(x, k[i], a[i * rows + r]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) STOREA(s + (size_t)(i % rows) * np + (size_t)(i / rows) * W, a[i]);
}

/* s[rows][np], keys j0 .. j1, both multiples of MMK_KV_BLOCK; s begins at j0. As many side by side as there are registers for: a sum alone waits
 * for itself. */
static inline __attribute__((always_inline)) void kv_logits(const void *keys, int half, const float *const *q, size_t d, int rows, size_t j0,
                                                            size_t j1, float *s, size_t np)
{
    size_t j = j0;
    if (MR >= 8 && rows <= MR / 2)
        for (; j + 4 * W <= j1; j += 4 * W) kv_dots(keys, half, q, d, rows, 4, j, s + (j - j0), np);
    for (; j + 2 * W <= j1; j += 2 * W) kv_dots(keys, half, q, d, rows, 2, j, s + (j - j0), np);
    for (; j < j1; j += W) kv_dots(keys, half, q, d, rows, 1, j, s + (j - j0), np);
}

/* o[rows][ld] = inv[r] * sum over j of s[r][j] values[j], columns c .. c + vecs W */
static inline __attribute__((always_inline)) void kv_mix(const void *values, int half, size_t d, size_t c, int rows, int vecs, const float *s,
                                                         size_t np, size_t n, const float *inv, float *o, size_t ld)
{
    V a[2 * MR];
#pragma GCC unroll 16
    for (int i = 0; i < rows * vecs; i++) a[i] = ZERO();
    for (size_t j = 0, at = c; j < n; j++, at += d) {
        V v[4];
#pragma GCC unroll 4
        for (int i = 0; i < vecs; i++) v[i] = kv_load(values, at + (size_t)i * W, half);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V w = SET1(s[(size_t)r * np + j]);
#pragma GCC unroll 4
            for (int i = 0; i < vecs; i++) a[r * vecs + i] = FMA(w, v[i], a[r * vecs + i]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < vecs; i++) STOREA(o + (size_t)r * ld + c + (size_t)i * W, MUL(a[r * vecs + i], SET1(inv[r])));
}

/* The columns that are no whole vector */
static void kv_mix_tail(const void *values, int half, size_t d, size_t c, int rows, const float *s, size_t np, size_t n, const float *inv,
                        float *o, size_t ld)
{
    for (; c < d; c++)
        for (int r = 0; r < rows; r++) {
            float sum = 0;
            for (size_t j = 0; j < n; j++) {
                const float w = s[(size_t)r * np + j];
                float v;
                if (half) {
                    uint16_t h[W] = { ((const uint16_t *)values)[j * d + c] };
                    float f[W];
                    STORE(f, LOADH(h));
                    v = f[0];
                } else {
                    v = ((const float *)values)[j * d + c];
                }
                sum = fmaf(w, v, sum);
            }
            o[(size_t)r * ld + c] = sum * inv[r];
        }
}

static inline __attribute__((always_inline)) void kv_pass(const mmk_kv_head *h, int half, size_t r0, int rows, float *mem)
{
    size_t d = h->d, last = h->first + (r0 + (size_t)rows - 1) / h->group + 1, ld = padded(d), j0 = 0, seen[MR];
    const float *q[MR];
    float inv[MR];
    if (h->window && h->first + r0 / h->group + 1 > h->window)
        j0 = (h->first + r0 / h->group + 1 - h->window) / MMK_KV_BLOCK * MMK_KV_BLOCK;
    size_t j1 = (last + MMK_KV_BLOCK - 1) / MMK_KV_BLOCK * MMK_KV_BLOCK, np = j1 - j0;
    float *o = mem, *s = o + MR * ld;
    for (int r = 0; r < rows; r++) {
        size_t token = (r0 + (size_t)r) / h->group;
        q[r] = h->q + token * h->ldq + (r0 + (size_t)r) % h->group * d;
        seen[r] = h->first + token + 1 - j0;
    }
    kv_logits(h->keys, half, q, d, rows, j0, j1, s, np);
    for (int r = 0; r < rows && h->window; r++)
        for (size_t j = 0; j + h->window < seen[r]; j++) s[(size_t)r * np + j] = -INFINITY;
    soften(s, np, rows, last - j0, seen, h->scale, NULL, inv);
    const void *values = half ? (const void *)((const uint16_t *)h->values + j0 * d) : (const void *)((const float *)h->values + j0 * d);
    size_t c = 0, n = last - j0;
    if (rows <= MR / 2)
        for (; c + 4 * W <= d; c += 4 * W) kv_mix(values, half, d, c, rows, 4, s, np, n, inv, o, ld);
    for (; c + 2 * W <= d; c += 2 * W) kv_mix(values, half, d, c, rows, 2, s, np, n, inv, o, ld);
    for (; c + W <= d; c += W) kv_mix(values, half, d, c, rows, 1, s, np, n, inv, o, ld);
    kv_mix_tail(values, half, d, c, rows, s, np, n, inv, o, ld);
    for (int r = 0; r < rows; r++)
        memcpy(h->out + (r0 + (size_t)r) / h->group * h->ldo + (r0 + (size_t)r) % h->group * d, o + (size_t)r * ld, d * sizeof *o);
}

static void kv_head(const mmk_kv_head *h, void *mem)
{
    for (size_t r = 0; r < h->rows;) {
        int rows = h->rows - r < MR ? (int)(h->rows - r) : MR;
        switch (h->half ? rows + 100 : rows) {
#define X(n) \
    case n: kv_pass(h, 0, r, n, mem); break; \
    case 100 + n: kv_pass(h, 1, r, n, mem); break;
            EACH_ROWS(X)
#undef X
        }
        r += (size_t)rows;
    }
}

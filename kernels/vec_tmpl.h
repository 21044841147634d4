/* vec_tmpl.h - rows and vectors, written once for all vector widths. The including file defines the type V of W
 * floats and the operations below; a tail shorter than W is loaded with zeros, so that every element goes through the same
 * instructions wherever it stands.
 *
 *   LOADN(p, n)  n <= W floats, the rest zero      STOREN(p, v, n)     HSUM(v)  sum of lanes in a fixed order
 *   FMA(a, b, c) a*b + c                           SUMSQ(v)            sum of squares of the lanes in double
 *   MAX(a, b)    b where one is NaN, or the NaN    NANMAX(a, b)        NaN where one is NaN
 *   EXPNEG(v)    e^v for v <= 0, NaN kept          HIDE(v, n)          -Inf from lane n on, n > 0
 *   ROUND(v)     to the nearest, halves away from zero                 ACT(v, a)  activation
 *   F16 BF16 I8 (p)  W stored numbers              TO_F16 TO_BF16 TO_I8 (p, v)     HALF(h), TO_HALF(f)  one float16 */

static inline size_t left(size_t n, size_t i) { return n - i < W ? n - i : W; }

static float dot_f32(const float *a, const float *b, size_t n)
{
    V s0 = ZERO(), s1 = ZERO(), s2 = ZERO(), s3 = ZERO();
    size_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        s0 = FMA(LOAD(a + i), LOAD(b + i), s0);
        s1 = FMA(LOAD(a + i + W), LOAD(b + i + W), s1);
        s2 = FMA(LOAD(a + i + 2 * W), LOAD(b + i + 2 * W), s2);
        s3 = FMA(LOAD(a + i + 3 * W), LOAD(b + i + 3 * W), s3);
    }
    for (; i < n; i += W) s0 = FMA(LOADN(a + i, left(n, i)), LOADN(b + i, left(n, i)), s0);
    return HSUM(ADD(ADD(s0, s1), ADD(s2, s3)));
}

static void layer_norm(float *y, const float *x, const float *res, const float *gain, const float *bias, size_t rows,
                       size_t d, float eps)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d) {
        V s0 = ZERO(), s1 = ZERO();
        size_t i = 0;
        const float *s = x;
        if (res) {
            for (; i < d; i += W) STOREN(y + i, ADD(LOADN(x + i, left(d, i)), LOADN(res + i, left(d, i))), left(d, i));
            res += d;
            i = 0;
            s = y;
        }
        for (; i + 2 * W <= d; i += 2 * W) {
            s0 = ADD(s0, LOAD(s + i));
            s1 = ADD(s1, LOAD(s + i + W));
        }
        for (; i < d; i += W) s0 = ADD(s0, LOADN(s + i, left(d, i)));
        V mean = SET1(HSUM(ADD(s0, s1)) / (float)d), c;
        s0 = s1 = ZERO();
        for (i = 0; i + 2 * W <= d; i += 2 * W) {
            c = SUB(LOAD(s + i), mean);
            s0 = FMA(c, c, s0);
            c = SUB(LOAD(s + i + W), mean);
            s1 = FMA(c, c, s1);
        }
        for (; i + W <= d; i += W) {
            c = SUB(LOAD(s + i), mean);
            s0 = FMA(c, c, s0);
        }
        float var = 0;
        for (; i < d; i++) var += (s[i] - FIRST(mean)) * (s[i] - FIRST(mean)); /* zeros of a tail would count as -mean */
        var += HSUM(ADD(s0, s1));
        V inv = SET1(1 / sqrtf(var / (float)d + eps));
        for (i = 0; i < d; i += W) {
            size_t n = left(d, i);
            c = MUL(SUB(LOADN(s + i, n), mean), inv);
            STOREN(y + i, FMA(c, LOADN(gain + i, n), LOADN(bias + i, n)), n);
        }
    }
}

static void rms_norm(float *y, const float *x, const float *gain, size_t rows, size_t d, float eps)
{
    for (size_t r = 0; r < rows; r++, x += d, y += d) {
        V s0 = ZERO();
        for (size_t i = 0; i < d; i += W) {
            V v = LOADN(x + i, left(d, i));
            s0 = FMA(v, v, s0);
        }
        V inv = SET1(1 / sqrtf(HSUM(s0) / (float)d + eps));
        for (size_t i = 0; i < d; i += W)
            STOREN(y + i, MUL(MUL(LOADN(x + i, left(d, i)), inv), LOADN(gain + i, left(d, i))), left(d, i));
    }
}

static void pool_mean(float *out, const float *x, size_t n, size_t d, size_t ldx)
{
    V scale = SET1(1 / (float)n);
    for (size_t j = 0; j < d; j += W) {
        size_t k = left(d, j);
        V s = LOADN(x + j, k);
        for (size_t i = 1; i < n; i++) s = ADD(s, LOADN(x + i * ldx + j, k));
        STOREN(out + j, MUL(s, scale), k);
    }
}

static void pool_max(float *out, const float *x, size_t n, size_t d, size_t ldx)
{
    for (size_t j = 0; j < d; j += W) {
        size_t k = left(d, j);
        V m = LOADN(x + j, k);
        for (size_t i = 1; i < n; i++) m = NANMAX(m, LOADN(x + i * ldx + j, k));
        STOREN(out + j, m, k);
    }
}

static void act(float *x, size_t n, mmk_act a)
{
    for (size_t i = 0; i < n; i += W) STOREN(x + i, ACT(LOADN(x + i, left(n, i)), a), left(n, i));
}

static void softmax(float *x, size_t rows, size_t n, size_t ldx)
{
    for (size_t r = 0; r < rows; r++, x += ldx) {
        V m = SET1(-INFINITY), s = ZERO();
        /* a NaN may be passed over here; it comes back through the sum and makes the whole row NaN */
        for (size_t i = 0; i < n; i += W) m = MAX(HIDE(LOADN(x + i, left(n, i)), left(n, i)), m);
        V top = SET1(HMAX(m));
        for (size_t i = 0; i < n; i += W) {
            V e = EXPNEG(SUB(HIDE(LOADN(x + i, left(n, i)), left(n, i)), top));
            STOREN(x + i, e, left(n, i));
            s = ADD(s, e);
        }
        V inv = SET1(1 / HSUM(s));
        for (size_t i = 0; i < n; i += W) STOREN(x + i, MUL(LOADN(x + i, left(n, i)), inv), left(n, i));
    }
}

static size_t l2_normalize(float *x, size_t rows, size_t d)
{
    size_t zeros = 0;
    for (size_t r = 0; r < rows; r++, x += d) {
        double s = 0;
        for (size_t i = 0; i < d; i += W) s += SUMSQ(LOADN(x + i, left(d, i)));
        if (s == 0) {
            zeros++;
            continue;
        }
        double inv = 1 / sqrt(s);
        if (inv > 1e37) { /* float32 could not hold it */
            for (size_t i = 0; i < d; i++) x[i] = (float)(x[i] * inv);
            continue;
        }
        V f = SET1((float)inv);
        for (size_t i = 0; i < d; i += W) STOREN(x + i, MUL(LOADN(x + i, left(d, i)), f), left(d, i));
    }
    return zeros;
}

static void f16_to_f32(float *out, const void *row, size_t n)
{
    const char *p = row;
    size_t i = 0;
    for (; i + W <= n; i += W) STORE(out + i, F16(p + 2 * i));
    if (i < n) {
        char t[2 * W] = { 0 };
        memcpy(t, p + 2 * i, 2 * (n - i));
        STOREN(out + i, F16(t), n - i);
    }
}

static void bf16_to_f32(float *out, const void *row, size_t n)
{
    const char *p = row;
    size_t i = 0;
    for (; i + W <= n; i += W) STORE(out + i, BF16(p + 2 * i));
    if (i < n) {
        char t[2 * W] = { 0 };
        memcpy(t, p + 2 * i, 2 * (n - i));
        STOREN(out + i, BF16(t), n - i);
    }
}

static void q8_0_to_f32(float *out, const void *row, size_t n)
{
    const char *p = row;
    for (size_t b = 0; b + 32 <= n; b += 32, p += 34) {
        uint16_t h;
        memcpy(&h, p, 2);
        V d = SET1(HALF(h));
        for (size_t i = 0; i < 32; i += W) STORE(out + b + i, MUL(d, I8(p + 2 + i)));
    }
}

static void f16_from_f32(void *out, const float *x, size_t n)
{
    char *o = out;
    size_t i = 0;
    for (; i + W <= n; i += W) TO_F16(o + 2 * i, LOAD(x + i));
    if (i < n) {
        char t[2 * W];
        TO_F16(t, LOADN(x + i, n - i));
        memcpy(o + 2 * i, t, 2 * (n - i));
    }
}

static void bf16_from_f32(void *out, const float *x, size_t n)
{
    char *o = out;
    size_t i = 0;
    for (; i + W <= n; i += W) TO_BF16(o + 2 * i, LOAD(x + i));
    if (i < n) {
        char t[2 * W];
        TO_BF16(t, LOADN(x + i, n - i));
        memcpy(o + 2 * i, t, 2 * (n - i));
    }
}

static void q8_0_from_f32(void *out, const float *x, size_t n)
{
    char *o = out;
    for (size_t b = 0; b + 32 <= n; b += 32, o += 34) {
        V m = ZERO();
        for (size_t i = 0; i < 32; i += W) m = MAX(m, ABS(LOAD(x + b + i)));
        float d = HMAX(m) / 127, inv = d >= FLT_MIN ? 1 / d : 0;
        uint16_t h = TO_HALF(d);
        memcpy(o, &h, 2);
        for (size_t i = 0; i < 32; i += W) TO_I8((int8_t *)o + 2 + i, ROUND(MUL(LOAD(x + b + i), SET1(inv))));
    }
}

static float to_i8(int8_t *q, const float *x, size_t n)
{
    V m = ZERO();
    for (size_t i = 0; i < n; i += W) m = MAX(m, ABS(LOADN(x + i, left(n, i))));
    float amax = HMAX(m), d = amax / 127, inv = d >= FLT_MIN ? 1 / d : 0;
    for (size_t i = 0; i < n; i += W) {
        int8_t t[W];
        TO_I8(t, MIN(SET1(127), MAX(SET1(-127), MUL(LOADN(x + i, left(n, i)), SET1(inv)))));
        memcpy(q + i, t, left(n, i));
    }
    return d;
}

static void fill_vec(mm_kern *k)
{
    k->dot_f32 = dot_f32;
    k->layer_norm = layer_norm;
    k->rms_norm = rms_norm;
    k->act = act;
    k->softmax = softmax;
    k->pool_mean = pool_mean;
    k->pool_max = pool_max;
    k->l2_normalize = l2_normalize;
    k->to_f32[MMK_FMT_F16] = f16_to_f32;
    k->to_f32[MMK_FMT_BF16] = bf16_to_f32;
    k->to_f32[MMK_FMT_Q8_0] = q8_0_to_f32;
    k->from_f32[MMK_FMT_F16] = f16_from_f32;
    k->from_f32[MMK_FMT_BF16] = bf16_from_f32;
    k->from_f32[MMK_FMT_Q8_0] = q8_0_from_f32;
    k->to_i8 = to_i8;
}

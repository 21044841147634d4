/* grad_tmpl.h - gradients of rows and elements, and the optimizer's step, written once for all vector widths. Beside what
 * vec_tmpl.h asks for, the including file defines
 *
 *   DIV(a, b)  SQRT(a)  NEGABS(a) -|a|     IFNEG(s, a, b)  a where s has its sign bit, else b
 *   IFNOT0(t, v)  v where t != 0, else 0   STEP(v)  1 where v > 0, else 0; NaN kept
 *   ERF(v)  erf(v / sqrt 2) */

/* BODY for every W elements from i on, with whole loads and stores, and once more for what is left. */
#define EACH(n, BODY)                                   \
    do {                                                \
        size_t i = 0;                                   \
        for (; i + W <= (n); i += W) BODY(LOAD, STORE)  \
        if (i < (n)) {                                  \
            size_t rest = (n) - i;                      \
            BODY(LOADREST, STOREREST)                   \
        }                                               \
    } while (0)
#define LOADREST(p) LOADN(p, rest)
#define STOREREST(p, v) STOREN(p, v, rest)

static void layer_norm_grad(float *dx, float *dgain, float *dbias, const float *dy, const float *x, const float *gain,
                            size_t rows, size_t d, float eps)
{
    for (size_t r = 0; r < rows; r++, x += d, dy += d, dx += d) {
        V s = ZERO(), sg = ZERO(), sgx = ZERO();
#define SUM(LD, ST) s = ADD(s, LD(x + i));
        EACH(d, SUM);
#undef SUM
        V mean = SET1(HSUM(s) / (float)d);
        size_t at = 0;
        s = ZERO();
        for (; at + W <= d; at += W) {
            V c = SUB(LOAD(x + at), mean), g = MUL(LOAD(dy + at), LOAD(gain + at));
            s = FMA(c, c, s);
            sg = ADD(sg, g);
            sgx = FMA(g, c, sgx);
        }
        float var = 0;
        if (at < d) { /* a tail's zeros would count as -mean, but their g is 0 */
            V g = MUL(LOADN(dy + at, d - at), LOADN(gain + at, d - at));
            sg = ADD(sg, g);
            sgx = FMA(g, SUB(LOADN(x + at, d - at), mean), sgx);
            for (size_t j = at; j < d; j++) var += (x[j] - FIRST(mean)) * (x[j] - FIRST(mean));
        }
        float inv = 1 / sqrtf((var + HSUM(s)) / (float)d + eps);
        V f = SET1(inv), a = SET1(HSUM(sg) / (float)d), b = SET1(HSUM(sgx) * inv / (float)d);
#define GRAD(LD, ST)                                                     \
    {                                                                    \
        V g = LD(dy + i), xhat = MUL(SUB(LD(x + i), mean), f);           \
        V t = SUB(MUL(g, LD(gain + i)), FMA(xhat, b, a));                \
        if (dgain) ST(dgain + i, FMA(g, xhat, LD(dgain + i)));           \
        if (dbias) ST(dbias + i, ADD(LD(dbias + i), g));                 \
        ST(dx + i, MUL(t, f));                                           \
    }
        EACH(d, GRAD);
#undef GRAD
    }
}

/* s(u) + x s'(u) slope. s' = e / (1 + e)^2 for e = e^-|u|, on either side and without cancellation; x is cut where e is 0
 * anyway, so that nothing overflows on the way there. */
static inline V sigmoid_grad(V x, V u, V slope)
{
    V e = EXPNEG(NEGABS(u)), r = DIV(SET1(1), ADD(e, SET1(1))), er = MUL(e, r);
    return FMA(MUL(MUL(x, slope), er), r, IFNEG(u, er, r));
}

static inline V slope(V z, mmk_act a)
{
    V x = MIN(SET1(30), MAX(SET1(-30), z)); /* NaN kept */
    switch (a) {
    case MMK_ACT_GELU_ERF: {
        V half = SET1(0.5f), p = MUL(EXPNEG(MUL(MUL(x, x), SET1(-0.5f))), SET1(0.398942280f));
        return FMA(x, p, FMA(ERF(x), half, half));
    }
    case MMK_ACT_GELU_TANH: {
        V c = SET1(1.59576912f), xx = MUL(MUL(x, x), SET1(0.044715f));
        return sigmoid_grad(x, MUL(MUL(c, x), ADD(xx, SET1(1))), MUL(c, FMA(xx, SET1(3), SET1(1))));
    }
    case MMK_ACT_QUICK_GELU:
        x = MIN(SET1(60), MAX(SET1(-60), z));
        return sigmoid_grad(x, MUL(x, SET1(1.702f)), SET1(1.702f));
    case MMK_ACT_SILU:
        x = MIN(SET1(100), MAX(SET1(-100), z));
        return sigmoid_grad(x, x, SET1(1));
    case MMK_ACT_RELU: return STEP(z);
    case MMK_ACT_NONE: break;
    }
    return SET1(1);
}

static inline __attribute__((always_inline)) void act_grad_of(float *dz, const float *dy, const float *z, size_t n, mmk_act a)
{
#define GRAD(LD, ST) ST(dz + i, MUL(LD(dy + i), slope(LD(z + i), a)));
    EACH(n, GRAD);
#undef GRAD
}

static void act_grad(float *dz, const float *dy, const float *z, size_t n, mmk_act a)
{
    switch (a) {
    case MMK_ACT_GELU_ERF: act_grad_of(dz, dy, z, n, MMK_ACT_GELU_ERF); break;
    case MMK_ACT_GELU_TANH: act_grad_of(dz, dy, z, n, MMK_ACT_GELU_TANH); break;
    default: act_grad_of(dz, dy, z, n, a); break;
    }
}

static void rotary(float *x, const float *cos, const float *sin, size_t rows, size_t heads, size_t head_dim, size_t ldx,
                   int back)
{
    size_t half = head_dim / 2;
    V sign = SET1(back ? -1 : 1);
    for (size_t r = 0; r < rows; r++, x += ldx, cos += half, sin += half)
        for (size_t h = 0; h < heads; h++) {
            float *a = x + h * head_dim, *b = a + half;
#define TURN(LD, ST)                                                        \
    {                                                                       \
        V u = LD(a + i), v = LD(b + i), c = LD(cos + i), s = MUL(sign, LD(sin + i)); \
        ST(a + i, SUB(MUL(u, c), MUL(v, s)));                               \
        ST(b + i, FMA(u, s, MUL(v, c)));                                    \
    }
            EACH(half, TURN);
#undef TURN
        }
}

static void l2_normalize_grad(float *dx, const float *dy, const float *y, const float *norm, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++, dx += d, dy += d, y += d) {
        if (norm[r] == 0) {
            memset(dx, 0, d * sizeof *dx);
            continue;
        }
        V s = ZERO(), inv = SET1(norm[r]);
#define DOT(LD, ST) s = FMA(LD(dy + i), LD(y + i), s);
        EACH(d, DOT);
#undef DOT
        V dot = SET1(-HSUM(s));
#define GRAD(LD, ST) ST(dx + i, DIV(FMA(LD(y + i), dot, LD(dy + i)), inv));
        EACH(d, GRAD);
#undef GRAD
    }
}

static void softmax_ce(float *dlogits, float *loss, const float *logits, const float *target, size_t rows, size_t n,
                       float scale)
{
    for (size_t r = 0; r < rows; r++, logits += n, target += n, dlogits = dlogits ? dlogits + n : NULL) {
        V m = SET1(-INFINITY), sum = ZERO(), total = ZERO(), below = ZERO();
        size_t at = 0;
        /* a NaN may be passed over here; it comes back through the sum and makes the whole row NaN */
        for (; at + W <= n; at += W) m = MAX(LOAD(logits + at), m);
        if (at < n) m = MAX(HIDE(LOADN(logits + at, n - at), n - at), m);
        V top = SET1(HMAX(m));
        /* of -sum t log softmax = sum t (log sum e^(x - top) + top - x) both parts are >= 0 */
        for (at = 0; at < n; at += W) {
            size_t some = left(n, at);
            V t = some == W ? LOAD(target + at) : LOADN(target + at, some);
            V x = SUB(some == W ? LOAD(logits + at) : HIDE(LOADN(logits + at, some), some), top), e = EXPNEG(x);
            sum = ADD(sum, e);
            total = ADD(total, t);
            below = ADD(below, IFNOT0(t, MUL(t, x)));
            if (dlogits && some == W) STORE(dlogits + at, e);
            else if (dlogits) STOREN(dlogits + at, e, some);
        }
        float z = HSUM(sum), weight = HSUM(total);
        loss[r] = weight * logf(z) - HSUM(below);
        if (!dlogits) continue;
        V f = SET1(weight / z), by = SET1(scale);
#define GRAD(LD, ST) ST(dlogits + i, MUL(by, SUB(MUL(LD(dlogits + i), f), LD(target + i))));
        EACH(n, GRAD);
#undef GRAD
    }
}

static void adamw(float *w, const float *g, float *m, float *v, size_t n, const mmk_adamw *h)
{
    V b1 = SET1(h->beta1), b2 = SET1(h->beta2), c1 = SET1((float)(1 - (double)h->beta1)), c2 = SET1((float)(1 - (double)h->beta2));
    V gs = SET1(h->gscale), lr = SET1(h->lr / h->correction1), k2 = SET1(1 / h->correction2), eps = SET1(h->eps);
    V decay = SET1(h->lr * h->wd);
#define MOVE(LD, ST)                                                            \
    {                                                                           \
        V x = MUL(LD(g + i), gs), y = LD(w + i);                                \
        V a = FMA(b1, LD(m + i), MUL(c1, x));                                   \
        V b = FMA(b2, LD(v + i), MUL(c2, MUL(x, x)));                           \
        V step = DIV(MUL(lr, a), ADD(SQRT(MUL(b, k2)), eps));                   \
        ST(m + i, a);                                                           \
        ST(v + i, b);                                                           \
        ST(w + i, SUB(y, FMA(decay, y, step)));                                 \
    }
    EACH(n, MOVE);
#undef MOVE
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    V f = SET1(a);
#define ADDTO(LD, ST) ST(y + i, FMA(f, LD(x + i), LD(y + i)));
    EACH(n, ADDTO);
#undef ADDTO
}

static double sumsq(const float *x, size_t n)
{
    double s[4] = { 0 }; /* register i goes to sum i mod 4 */
    size_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (size_t j = 0; j < 4; j++) s[j] += SUMSQ(LOAD(x + i + j * W));
    for (size_t j = 0; i < n; i += W, j++) s[j] += SUMSQ(LOADN(x + i, n - i < W ? n - i : W));
    return s[0] + s[1] + (s[2] + s[3]);
}

static void fill_grad(mm_kern *k)
{
    k->layer_norm_grad = layer_norm_grad;
    k->act_grad = act_grad;
    k->rotary = rotary;
    k->l2_normalize_grad = l2_normalize_grad;
    k->softmax_ce = softmax_ce;
    k->adamw = adamw;
    k->axpy = axpy;
    k->sumsq = sumsq;
}

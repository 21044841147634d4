/* scan_tmpl.h - scores, written once for all vector widths. A (row, query) pair is one accumulator of W lanes over the
 * dimensions, then a fixed tree over the lanes: the same whether one row or four, one query or many are scored together.
 * Four rows are reduced together, so that the tree costs a few instructions per score. Sixteen rows and RT queries at a time
 * stay in L1. One query alone runs at the speed of memory: float32 rows the hardware fetches ahead as well as any hint;
 * float16 rows go by faster and gain a quarter from one.
 *
 * The including file defines V, W, RT (queries in a tile of four rows), ZERO, LOADQ, FMA, row_f32 / row_f16 (W elements at p),
 * rown_* (n < W elements, the rest zero), KEEP(v), which may hold v in a register, and reduce4(): four accumulators to four sums. */

#define ROWS 4
#define STRIP 16   /* rows, a multiple of ROWS */
#define AHEAD 4096 /* bytes */

typedef V row_fn(const char *p);
typedef V rown_fn(const char *p, size_t n);

/* W elements from j on; queries have zeros behind d */
#define STEP(ROW)                                                                                        \
    do {                                                                                                 \
        _Pragma("GCC unroll 8") for (int i = 0; i < nq; i++) y[i] = LOADQ(q + (size_t)i * dq + j);       \
        _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++)                                           \
        {                                                                                                \
            V v = ROW;                                                                                   \
            if (nq > 1) KEEP(v); /* loaded once, not with each product */                                \
            _Pragma("GCC unroll 8") for (int i = 0; i < nq; i++) a[i][r] = FMA(v, y[i], a[i][r]);        \
        }                                                                                                \
    } while (0)

static inline __attribute__((always_inline)) void tile(float *out, size_t ldo, const char *const x[ROWS], size_t d,
                                                       const float *q, size_t dq, int nq, row_fn *row, rown_fn *rown,
                                                       size_t esize)
{
    V a[RT][ROWS], y[RT];
    size_t j = 0;
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) a[i][r] = ZERO();
    for (; j + W <= d; j += W) {
        if (nq == 1 && esize < 4 && j * esize % 64 == 0)
            for (int r = 0; r < ROWS; r++) __builtin_prefetch(x[r] + j * esize + AHEAD);
        STEP(row(x[r] + j * esize));
    }
    if (j < d) STEP(rown(x[r] + j * esize, d - j));
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++) STORE4(out + (size_t)i * ldo, reduce4(a[i][0], a[i][1], a[i][2], a[i][3]));
}

/* The part from a/n to b/n of `bytes` bytes at p into L2: while queries pass over one strip the next one comes from memory. It
 * need not exist: a prefetch does not fault. */
static inline void fetch(const char *p, size_t bytes, size_t a, size_t b, size_t n)
{
    for (size_t at = bytes * a / n / 64 * 64, to = bytes * b / n; at < to; at += 64) __builtin_prefetch(p + at, 0, 2);
}

static inline __attribute__((always_inline)) void score(float *out, size_t ldo, const void *rows, size_t stride, size_t n,
                                                        size_t d, const float *q, size_t dq, size_t nq, row_fn *row,
                                                        rown_fn *rown, size_t esize)
{
    for (size_t strip = 0; strip < n; strip += STRIP) {
        size_t end = n - strip < STRIP ? n : strip + STRIP;
        for (size_t i = 0, m; i < nq; i += m) {
            m = nq - i >= RT ? RT : nq - i >= 2 ? 2 : 1;
            if (nq >= RT) fetch((const char *)rows + end * stride, STRIP * stride, i, i + m, nq);
            for (size_t r = strip; r < end; r += ROWS) {
                const char *x[ROWS];
                float last[RT * ROWS];
                int tail = end - r < ROWS; /* the last row stands in for those that are missing */
                for (size_t k = 0; k < ROWS; k++) x[k] = (const char *)rows + (r + k < n ? r + k : n - 1) * stride;
                float *o = tail ? last : out + i * ldo + r;
                size_t ld = tail ? ROWS : ldo;
                if (m == RT) tile(o, ld, x, d, q + i * dq, dq, RT, row, rown, esize);
                else if (m == 2) tile(o, ld, x, d, q + i * dq, dq, 2, row, rown, esize);
                else tile(o, ld, x, d, q + i * dq, dq, 1, row, rown, esize);
                for (size_t k = 0; tail && k < m; k++)
                    for (size_t t = 0; t < end - r; t++) out[(i + k) * ldo + r + t] = last[k * ROWS + t];
            }
        }
    }
}

static void score_f32(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                      size_t nq)
{
    score(out, ldo, rows, stride, n, d, q, dq, nq, row_f32, rown_f32, 4);
}

static void score_f16(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                      size_t nq)
{
    score(out, ldo, rows, stride, n, d, q, dq, nq, row_f16, rown_f16, 2);
}

static void score_b1(float *out, size_t ldo, const void *rows, size_t stride, size_t n, size_t d, const void *q, size_t dq,
                     size_t nq)
{
    (void)d;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < nq; i++) {
            const char *x = (const char *)rows + r * stride, *y = (const char *)q + i * dq;
            uint64_t a, b, diff = 0;
            size_t j = 0;
            for (; j + 8 <= dq; j += 8) {
                memcpy(&a, x + j, 8);
                memcpy(&b, y + j, 8);
                diff += (uint64_t)__builtin_popcountll(a ^ b);
            }
            if (j < dq) {
                a = b = 0;
                memcpy(&a, x + j, dq - j);
                memcpy(&b, y + j, dq - j);
                diff += (uint64_t)__builtin_popcountll(a ^ b);
            }
            out[i * ldo + r] = (float)diff;
        }
}

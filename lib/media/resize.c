/* Resampling, the same byte for byte as Pillow's Image.resize on 8-bit RGB. A result is the sum of taps in fixed point, rounded to 8
 * bits after each direction, so the order of the sums does not matter and rows can stream: sixteen source rows are narrowed, then added to
 * those result rows that want them; or added first and narrowed as they come out. No buffer grows with the source's height. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "media/media_int.h"

#define BITS 22                      /* of a tap's fraction: 32 - 8 bits of sample - 2 of head room */
#define ROWS 16                      /* narrowed together */
#define LANES (3 * ROWS)             /* bytes that the kernels work on at once: one pixel of the sixteen rows, sixteen of one row */
#define MAX_TAPS ((size_t)1 << 27)   /* 512 MB of them */

typedef struct taps {
    int n;           /* results */
    size_t room;     /* taps per result */
    int32_t *k;      /* [n, room] */
    int *first, *count;
} taps;

/* ---- filters ---- */

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming(double x)
{
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= M_PI;
    return sin(x) / x * ((double)0.54f + (double)0.46f * cos(x)); /* the reference's constants are floats */
}

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double sinc(double x)
{
    if (x == 0.0) return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

static const struct {
    double (*at)(double);
    double support;
} filters[] = {
    [MM_RESIZE_BOX] = { box, 0.5 },         [MM_RESIZE_BILINEAR] = { bilinear, 1.0 }, [MM_RESIZE_HAMMING] = { hamming, 1.0 },
    [MM_RESIZE_BICUBIC] = { bicubic, 2.0 }, [MM_RESIZE_LANCZOS] = { lanczos, 3.0 },
};

static void taps_clear(taps *t)
{
    free(t->k);
    free(t->first);
    free(t->count);
    *t = (taps){ 0 };
}

/* Taps of the results from..from+n of a direction that goes from in samples to out. */
static int taps_make(taps *t, int in, int64_t out, int64_t from, int n, mm_resize_filter filter, mm_err *err)
{
    double scale = (double)in / (double)out, wide = scale < 1.0 ? 1.0 : scale;
    double support = filters[filter].support * wide, ss = 1.0 / wide;
    size_t room = in == out ? 1 : (size_t)ceil(support) * 2 + 1, total;
    if (room > (size_t)in) room = (size_t)in;
    *t = (taps){ .n = n, .room = room };
    if (mm_mul(room, (size_t)n, &total) || total > MAX_TAPS)
        return mm_fail(err, MM_ELONG, "cannot reduce %d pixels to %lld: too thin a picture", in, (long long)out);
    double *w = mm_realloc(NULL, room, sizeof *w);
    t->k = mm_realloc(NULL, total, sizeof *t->k);
    t->first = mm_realloc(NULL, (size_t)n, sizeof *t->first);
    t->count = mm_realloc(NULL, (size_t)n, sizeof *t->count);
    if (!w || !t->k || !t->first || !t->count) {
        free(w);
        taps_clear(t);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    for (int i = 0; i < n; i++) {
        int32_t *k = t->k + (size_t)i * room;
        if (in == out) { /* this direction is left alone */
            t->first[i] = (int)(from + i);
            t->count[i] = 1;
            k[0] = 1 << BITS;
            continue;
        }
        double center = ((double)(from + i) + 0.5) * scale, lo = center - support + 0.5, hi = center + support + 0.5, sum = 0.0;
        int a = lo < 0 ? 0 : (int)lo, b = hi > in ? in : (int)hi;
        for (int x = a; x < b; x++) {
            w[x - a] = filters[filter].at((x - center + 0.5) * ss);
            sum += w[x - a];
        }
        for (int x = 0; x < b - a; x++) {
            double v = (sum != 0.0 ? w[x] / sum : w[x]) * (1 << BITS);
            k[x] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        t->first[i] = a;
        t->count[i] = b - a;
    }
    free(w);
    return 0;
}

/* ---- kernels: LANES bytes, n taps that lie `step` bytes apart. Compiled twice where a CPU may have wider vectors. ---- */

typedef int32_t v8i __attribute__((vector_size(32)));
typedef uint8_t v8b __attribute__((vector_size(8)));

/* Eight bytes as eight numbers. Macros, for a function that returns so wide a vector changes its convention with the CPU. */
#define WIDEN_ANY(v, p)                                                                                       \
    do {                                                                                                      \
        v8b bytes;                                                                                            \
        memcpy(&bytes, (p), sizeof bytes);                                                                    \
        (v) = __builtin_convertvector(bytes, v8i);                                                            \
    } while (0)
#define WIDEN_AVX2(v, p) ((v) = (v8i)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(p)))) /* gcc 12 makes 20 instructions of the above */

#define ADD_TAPS(name, widen, ...)                                                                            \
    static inline __VA_ARGS__ void name(int32_t *acc, const uint8_t *src, size_t step, const int32_t *k, int n)\
    {                                                                                                         \
        v8i a[6], v;                                                                                          \
        memcpy(a, acc, sizeof a);                                                                             \
        v8i a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5];                                 \
        for (int i = 0; i < n; i++, src += step) {                                                            \
            int32_t c = k[i];                                                                                 \
            v8i w = { c, c, c, c, c, c, c, c };                                                               \
            widen(v, src);                                                                                    \
            a0 += v * w;                                                                                      \
            widen(v, src + 8);                                                                                \
            a1 += v * w;                                                                                      \
            widen(v, src + 16);                                                                               \
            a2 += v * w;                                                                                      \
            widen(v, src + 24);                                                                               \
            a3 += v * w;                                                                                      \
            widen(v, src + 32);                                                                               \
            a4 += v * w;                                                                                      \
            widen(v, src + 40);                                                                               \
            a5 += v * w;                                                                                      \
        }                                                                                                     \
        a[0] = a0, a[1] = a1, a[2] = a2, a[3] = a3, a[4] = a4, a[5] = a5;                                     \
        memcpy(acc, a, sizeof a);                                                                             \
    }

static inline __attribute__((always_inline)) void round_lanes(uint8_t *out, const int32_t *acc)
{
    for (int j = 0; j < LANES; j += 8) {
        v8i v, over;
        memcpy(&v, acc + j, sizeof v);
        v >>= BITS;
        v &= ~(v >> 31);
        over = v > 255;
        v = (v & ~over) | (over & 255);
        v8b b = __builtin_convertvector(v, v8b);
        memcpy(out + j, &b, sizeof b);
    }
}

static const int32_t half[LANES] = {
#define H4 1 << (BITS - 1), 1 << (BITS - 1), 1 << (BITS - 1), 1 << (BITS - 1)
    H4, H4, H4, H4, H4, H4, H4, H4, H4, H4, H4, H4
};

/* columns of `turned` [.., 3, ROWS] -> the rows of line [ROWS, stride] */
typedef void add_taps_fn(int32_t *acc, const uint8_t *src, size_t step, const int32_t *k, int n);

static inline __attribute__((always_inline)) void narrow(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t,
                                                         add_taps_fn *add_taps)
{
    for (int x = 0; x < t->n; x++) {
        int32_t acc[LANES];
        uint8_t px[LANES];
        memcpy(acc, half, sizeof acc);
        add_taps(acc, turned + (size_t)(t->first[x] - left) * LANES, LANES, t->k + (size_t)x * t->room, t->count[x]);
        round_lanes(px, acc);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < 3; c++) line[(size_t)r * stride + (size_t)x * 3 + (size_t)c] = px[c * ROWS + r];
    }
}

static inline __attribute__((always_inline)) void add_rows(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n,
                                                           add_taps_fn *add_taps)
{
    for (size_t at = 0; at < stride; at += LANES) add_taps(acc + at, line + at, stride, k, n);
}

typedef void narrow_fn(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t);
typedef void add_rows_fn(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n);

ADD_TAPS(add_taps_any, WIDEN_ANY, __attribute__((always_inline)))

static void narrow_any(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t)
{
    narrow(line, stride, turned, left, t, add_taps_any);
}
static void add_rows_any(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n)
{
    add_rows(acc, line, stride, k, n, add_taps_any);
}

#if defined(__x86_64__)
ADD_TAPS(add_taps_avx2, WIDEN_AVX2, __attribute__((target("avx2"))))

__attribute__((target("avx2"))) static void narrow_wide(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t)
{
    narrow(line, stride, turned, left, t, add_taps_avx2);
}
__attribute__((target("avx2"))) static void add_rows_wide(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n)
{
    add_rows(acc, line, stride, k, n, add_taps_avx2);
}
static int wide(void) { return __builtin_cpu_supports("avx2"); }
#else
#define narrow_wide narrow_any
#define add_rows_wide add_rows_any
static int wide(void) { return 0; }
#endif

/* ---- passes ---- */

typedef struct part { /* of a picture resized to full width x height: the result's place in it */
    int64_t full_w, full_h, x, y;
    int w, h;
} part;

typedef struct work {
    part p;
    taps h, v;
    uint8_t *out;
    size_t out_stride;
    int rows_first;         /* vertical before horizontal */
    int left, right;        /* source columns that are needed */
    size_t used, stride;    /* bytes of a row between the directions, and with room to full LANES */
    int room;               /* result rows that are open at once */
    int32_t *ring;          /* [room, stride] their sums */
    uint8_t *line;          /* [ROWS, stride] what goes into the sums */
    uint8_t *turned;        /* [right - left, 3, ROWS] */
    uint8_t *batch;         /* [ROWS, stride] rows_first: what came out of them, until it is narrowed */
    uint8_t *narrowed;      /* [ROWS, 3 w] rows_first */
    narrow_fn *narrow;
    add_rows_fn *add;
} work;

/* rows <= ROWS rows of n bytes -> turned [n, ROWS]; the last row stands in for those that are missing */
static void turn(uint8_t *turned, const uint8_t *px, size_t stride, int rows, size_t n)
{
    const uint8_t *src[ROWS];
    for (int r = 0; r < ROWS; r++) src[r] = px + (size_t)(r < rows ? r : rows - 1) * stride;
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++) turned[i * ROWS + (size_t)r] = src[r][i];
}

/* result row y is complete */
static void emit(work *k, int y)
{
    const int32_t *sum = k->ring + (size_t)(y % k->room) * k->stride;
    size_t wide = (size_t)k->p.w * 3;
    uint8_t last[LANES];
    if (!k->rows_first) {
        uint8_t *out = k->out + (size_t)y * k->out_stride;
        for (size_t i = 0; i < wide; i += LANES) {
            round_lanes(last, sum + i);
            memcpy(out + i, last, wide - i < LANES ? wide - i : LANES);
        }
        return;
    }
    int n = y % ROWS + 1;
    uint8_t *to = k->batch + (size_t)(n - 1) * k->stride;
    for (size_t i = 0; i < k->stride; i += LANES) round_lanes(to + i, sum + i);
    if (n < ROWS && y + 1 < k->p.h) return;
    turn(k->turned, k->batch, k->stride, n, k->used);
    k->narrow(k->narrowed, wide, k->turned, k->left, &k->h);
    for (int i = 0; i < n; i++) memcpy(k->out + (size_t)(y + 1 - n + i) * k->out_stride, k->narrowed + (size_t)i * wide, wide);
}

static void run(work *k, const mm_image *in, int top, int bottom)
{
    const taps *v = &k->v;
    size_t source = (size_t)in->width * 3;
    int plain = k->rows_first || k->p.full_w == in->width;
    for (int a = 0, b = 0, row = top; row < bottom; row += ROWS) {
        int rows = bottom - row < ROWS ? bottom - row : ROWS, end = row + rows;
        const uint8_t *px = in->px + (size_t)row * source + (size_t)k->left * 3;
        if (plain) {
            for (int i = 0; i < rows; i++) memcpy(k->line + (size_t)i * k->stride, px + (size_t)i * source, k->used);
        } else {
            turn(k->turned, px, source, rows, (size_t)(k->right - k->left) * 3);
            k->narrow(k->line, k->stride, k->turned, k->left, &k->h);
        }
        for (; b < k->p.h && v->first[b] < end; b++)
            for (size_t i = 0; i < k->stride; i += LANES) memcpy(k->ring + (size_t)(b % k->room) * k->stride + i, half, sizeof half);
        for (int y = a; y < b; y++) {
            int lo = v->first[y] > row ? v->first[y] : row, hi = v->first[y] + v->count[y];
            if (hi > end) hi = end;
            if (lo < hi)
                k->add(k->ring + (size_t)(y % k->room) * k->stride, k->line + (size_t)(lo - row) * k->stride, k->stride,
                       v->k + (size_t)y * v->room + (lo - v->first[y]), hi - lo);
        }
        for (; a < b && v->first[a] + v->count[a] <= end; a++) emit(k, a);
    }
}

static int resample(uint8_t *out, size_t out_stride, const mm_image *in, const part *p, mm_resize_filter filter, mm_err *err)
{
    work k = { .p = *p, .out = out, .out_stride = out_stride, .narrow = wide() ? narrow_wide : narrow_any, .add = wide() ? add_rows_wide : add_rows_any };
    int r = taps_make(&k.h, in->width, p->full_w, p->x, p->w, filter, err);
    if (!r) r = taps_make(&k.v, in->height, p->full_h, p->y, p->h, filter, err);
    if (r) goto end;
    /* Pillow 13 begins with the direction that saves more; rounding in between makes the order part of the result */
    k.rows_first = p->full_w != in->width && p->full_h < in->height && 2 * (in->width - p->full_w) < in->height - p->full_h;
    k.left = k.h.first[0];
    k.right = k.h.first[p->w - 1] + k.h.count[p->w - 1];
    k.used = (size_t)(k.rows_first ? k.right - k.left : p->w) * 3;
    k.stride = (k.used + LANES - 1) / LANES * LANES;
    int top = k.v.first[0], bottom = k.v.first[p->h - 1] + k.v.count[p->h - 1];
    for (int a = 0, b = 0, row = top; row < bottom; row += ROWS) {
        while (b < p->h && k.v.first[b] < row + ROWS) b++;
        if (b - a > k.room) k.room = b - a;
        while (a < b && k.v.first[a] + k.v.count[a] <= row + ROWS) a++;
    }
    k.ring = mm_realloc(NULL, (size_t)k.room * k.stride, sizeof *k.ring);
    k.line = calloc(ROWS, k.stride);
    k.turned = mm_realloc(NULL, (size_t)(k.right - k.left), LANES);
    if (k.rows_first) {
        k.batch = mm_realloc(NULL, ROWS, k.stride);
        k.narrowed = mm_realloc(NULL, ROWS, (size_t)p->w * 3);
    }
    if (!k.ring || !k.line || !k.turned || (k.rows_first && (!k.batch || !k.narrowed))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    else run(&k, in, top, bottom);
end:
    taps_clear(&k.h);
    taps_clear(&k.v);
    free(k.ring);
    free(k.line);
    free(k.turned);
    free(k.batch);
    free(k.narrowed);
    return r;
}

/* Where nearest looks: Pillow adds the step up, result by result, and so do we, for its rounding. */
static void places(int *at, int in, int64_t out, int64_t from, int n)
{
    double step = (double)in / (double)out, x = step * 0.5;
    if (from > 1 << 24) x += step * (double)from;
    else
        for (int64_t i = 0; i < from; i++) x += step;
    for (int i = 0; i < n; i++, x += step) at[i] = (int)x < in ? (int)x : in - 1;
}

static int nearest(uint8_t *out, size_t out_stride, const mm_image *in, const part *p, mm_err *err)
{
    int *x = mm_realloc(NULL, (size_t)p->w + (size_t)p->h, sizeof *x);
    if (!x) return mm_fail(err, MM_ENOMEM, "out of memory");
    int *y = x + p->w;
    places(x, in->width, p->full_w, p->x, p->w);
    places(y, in->height, p->full_h, p->y, p->h);
    for (int r = 0; r < p->h; r++)
        for (int c = 0; c < p->w; c++)
            memcpy(out + (size_t)r * out_stride + (size_t)c * 3, in->px + ((size_t)y[r] * (size_t)in->width + (size_t)x[c]) * 3, 3);
    free(x);
    return 0;
}

int media_resize_part(uint8_t *out, size_t out_stride, const mm_image *in, const int64_t full[2], const int64_t at[2], int w, int h,
                      mm_resize_filter filter, mm_err *err)
{
    part p = { full[0], full[1], at[0], at[1], w, h };
    if (filter == MM_RESIZE_NEAREST) return nearest(out, out_stride, in, &p, err);
    return resample(out, out_stride, in, &p, filter, err);
}

/* Resampling, the same byte for byte as Pillow's Image.resize on 8-bit RGB. A result is the sum of taps in fixed point, rounded to 8
 * bits after each direction, so the order of the sums does not matter and rows can stream: sixteen source rows are narrowed, then added to
 * those result rows that want them. No buffer grows with the source's height. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
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
    return sin(x) / x * (0.54 + 0.46 * cos(x));
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

/* a += w * eight bytes; a macro, for a function that returns so wide a vector changes its convention with the CPU */
#define ADD(a, p)                                   \
    do {                                            \
        v8b bytes;                                  \
        memcpy(&bytes, (p), sizeof bytes);          \
        (a) += __builtin_convertvector(bytes, v8i) * w; \
    } while (0)

static inline __attribute__((always_inline)) void add_taps(int32_t *acc, const uint8_t *src, size_t step, const int32_t *k, int n)
{
    v8i a[6];
    memcpy(a, acc, sizeof a);
    v8i a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5];
    for (int i = 0; i < n; i++, src += step) {
        int32_t c = k[i];
        v8i w = { c, c, c, c, c, c, c, c };
        ADD(a0, src);
        ADD(a1, src + 8);
        ADD(a2, src + 16);
        ADD(a3, src + 24);
        ADD(a4, src + 32);
        ADD(a5, src + 40);
    }
    a[0] = a0, a[1] = a1, a[2] = a2, a[3] = a3, a[4] = a4, a[5] = a5;
    memcpy(acc, a, sizeof a);
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
static inline __attribute__((always_inline)) void narrow(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t)
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

static inline __attribute__((always_inline)) void add_rows(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n)
{
    for (size_t at = 0; at < stride; at += LANES) add_taps(acc + at, line + at, stride, k, n);
}

typedef void narrow_fn(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t);
typedef void add_rows_fn(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n);

static void narrow_any(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t) { narrow(line, stride, turned, left, t); }
static void add_rows_any(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n) { add_rows(acc, line, stride, k, n); }

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void narrow_wide(uint8_t *line, size_t stride, const uint8_t *turned, int left, const taps *t)
{
    narrow(line, stride, turned, left, t);
}
__attribute__((target("avx2"))) static void add_rows_wide(int32_t *acc, const uint8_t *line, size_t stride, const int32_t *k, int n)
{
    add_rows(acc, line, stride, k, n);
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

/* rows [ROWS] of bytes left*3 .. right*3 -> turned [right - left, 3, ROWS] */
static void turn(uint8_t *turned, const mm_image *in, int row, int rows, int left, int right)
{
    const uint8_t *src[ROWS];
    size_t n = (size_t)(right - left) * 3;
    for (int r = 0; r < ROWS; r++) {
        int y = row + (r < rows ? r : rows - 1);
        src[r] = in->px + ((size_t)y * (size_t)in->width + (size_t)left) * 3;
    }
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++) turned[i * ROWS + (size_t)r] = src[r][i];
}

static int resample(uint8_t *out, size_t out_stride, const mm_image *in, const part *p, mm_resize_filter filter, mm_err *err)
{
    taps h = { 0 }, v = { 0 };
    int32_t *ring = NULL;
    uint8_t *turned = NULL, *line = NULL, last[LANES];
    narrow_fn *narrow_rows = wide() ? narrow_wide : narrow_any;
    add_rows_fn *add = wide() ? add_rows_wide : add_rows_any;
    int r = taps_make(&h, in->width, p->full_w, p->x, p->w, filter, err);
    if (!r) r = taps_make(&v, in->height, p->full_h, p->y, p->h, filter, err);
    if (r) goto end;
    int left = h.first[0], right = h.first[p->w - 1] + h.count[p->w - 1], top = v.first[0], bottom = v.first[p->h - 1] + v.count[p->h - 1];
    int plain = p->full_w == in->width;
    size_t used = (size_t)p->w * 3, stride = (used + LANES - 1) / LANES * LANES;
    int room = 0; /* result rows that are open at once */
    for (int a = 0, b = 0, row = top; row < bottom; row += ROWS) {
        while (b < p->h && v.first[b] < row + ROWS) b++;
        if (b - a > room) room = b - a;
        while (a < b && v.first[a] + v.count[a] <= row + ROWS) a++;
    }
    ring = mm_realloc(NULL, (size_t)room * stride, sizeof *ring);
    line = calloc(ROWS, stride);
    if (!plain) turned = mm_realloc(NULL, (size_t)(right - left), LANES);
    if (!ring || !line || (!plain && !turned)) {
        r = mm_fail(err, MM_ENOMEM, "out of memory");
        goto end;
    }
    for (int a = 0, b = 0, row = top; row < bottom; row += ROWS) {
        int rows = bottom - row < ROWS ? bottom - row : ROWS;
        if (plain) {
            for (int i = 0; i < rows; i++)
                memcpy(line + (size_t)i * stride, in->px + ((size_t)(row + i) * (size_t)in->width + (size_t)left) * 3, used);
        } else {
            turn(turned, in, row, rows, left, right);
            narrow_rows(line, stride, turned, left, &h);
        }
        for (; b < p->h && v.first[b] < row + rows; b++)
            for (size_t i = 0; i < stride; i += LANES) memcpy(ring + (size_t)(b % room) * stride + i, half, sizeof half);
        for (int y = a; y < b; y++) {
            int lo = v.first[y] > row ? v.first[y] : row, hi = v.first[y] + v.count[y];
            if (hi > row + rows) hi = row + rows;
            if (lo < hi)
                add(ring + (size_t)(y % room) * stride, line + (size_t)(lo - row) * stride, stride,
                    v.k + (size_t)y * v.room + (lo - v.first[y]), hi - lo);
        }
        for (; a < b && v.first[a] + v.count[a] <= row + rows; a++)
            for (size_t i = 0; i < used; i += LANES) {
                round_lanes(last, ring + (size_t)(a % room) * stride + i);
                memcpy(out + (size_t)a * out_stride + i, last, used - i < LANES ? used - i : LANES);
            }
    }
end:
    taps_clear(&h);
    taps_clear(&v);
    free(ring);
    free(turned);
    free(line);
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

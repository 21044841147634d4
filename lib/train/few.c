/* Prototypes from a few labelled examples: kernel ridge regression by Cholesky's factors, in float64. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_mem.h"
#include "kernels/mm_kern.h"
#include "train/mm_few.h"

/* As little as examples weigh against their noise; alike for all sizes, for the kernel is 1 at its own example. */
static const double ridge = 0.1;
/* Where distances say nothing: one example, copies, things that have nothing in common. */
static const float narrowest = 0.02f, widest = 0.3f;

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median distance to the nearest; g [n, n] cosines, their lower triangle. */
static float width_of(const double *g, size_t n, float *nearest)
{
    for (size_t i = 0; i < n; i++) nearest[i] = widest;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            const float d = (float)(1 - g[i * n + j]);
            if (d < nearest[i]) nearest[i] = d;
            if (d < nearest[j]) nearest[j] = d;
        }
    qsort(nearest, n, sizeof *nearest, by_size);
    return nearest[n / 2] < narrowest ? narrowest : nearest[n / 2];
}

/* a [n, n] = L L', L in its lower triangle. */
static int factor(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            if (i == j && !(sum > 0)) return MM_EDATA;
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    return 0;
}

/* y becomes the x of L L' x = y. */
static void solve(const double *l, size_t n, double *y)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) y[i] -= l[i * n + k] * y[k];
        y[i] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        y[i] /= l[i * n + i];
        for (size_t k = 0; k < i; k++) y[k] -= l[i * n + k] * y[i];
    }
}

int mm_few_fit(mm_few *f, const float *x, const float *to, size_t n, size_t dim, double share, mm_err *err)
{
    *f = (mm_few){ .n = n, .dim = dim };
    if (n > MM_FEW_MOST)
        return mm_fail(err, MM_EARG, "%zu examples: prototypes are made of at most %d; more are what training by steps is for", n, MM_FEW_MOST);
    double *a = mm_realloc(NULL, n * n, sizeof *a), *y = mm_realloc(NULL, n, sizeof *y);
    float *nearest = mm_realloc(NULL, n, sizeof *nearest);
    f->key = mm_realloc(NULL, n * dim, sizeof *f->key);
    f->value = mm_realloc(NULL, n * dim, sizeof *f->value);
    int r = a && y && nearest && f->key && f->value ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !r; i++)
        for (size_t j = 0; j <= i; j++) a[i * n + j] = (double)mm_kern_get()->dot_f32(x + i * dim, x + j * dim, dim);
    if (!r) f->width = width_of(a, n, nearest);
    for (size_t i = 0; i < n && !r; i++)
        for (size_t j = 0; j <= i; j++) a[i * n + j] = i == j ? 1 + ridge : exp2((a[i * n + j] - 1) / f->width);
    if (!r && factor(a, n)) r = mm_fail(err, MM_EDATA, "the examples' vectors are not finite, or not of length 1");
    for (size_t c = 0; c < dim && !r; c++) {
        for (size_t i = 0; i < n; i++) y[i] = share * (double)(to[i * dim + c] - x[i * dim + c]);
        solve(a, n, y);
        for (size_t i = 0; i < n; i++) f->value[c * n + i] = (float)y[i];
    }
    if (!r) memcpy(f->key, x, n * dim * sizeof *x);
    free(a);
    free(y);
    free(nearest);
    if (r) mm_few_clear(f);
    return r;
}

void mm_few_clear(mm_few *f)
{
    free(f->key);
    free(f->value);
    *f = (mm_few){ 0 };
}

/* The teacher's space turned so that its leading coordinates carry most: eigenvectors of the second moment. */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "kernels/mm_kern.h"
#include "train/mm_teacher.h"

/* ---- eigenvectors ---- */

/* Householder's reduction (Wilkinson and Reinsch, Handbook for Automatic Computation II, II/2): for i = n-1 ... 1 the reflection
 * 1 - u u' / h, u in a[i][0 .. i), makes row i zero left of the subdiagonal. d gets the diagonal, e[i] what stands between i and i + 1; h
 * stays in u's row, at a[i][i]; 0: no reflection. */
static void tridiagonal(double *a, size_t n, double *d, double *e, double *p)
{
    for (size_t i = n; i-- > 1;) {
        double *u = a + i * n, scale = 0, h = 0, k = 0;
        d[i] = u[i];
        for (size_t j = 0; j < i; j++) scale += fabs(u[j]);
        if (i == 1 || scale == 0) {
            e[i - 1] = u[i - 1];
            u[i] = 0;
            continue;
        }
        for (size_t j = 0; j < i; j++) {
            u[j] /= scale;
            h += u[j] * u[j];
        }
        double f = u[i - 1], g = f > 0 ? -sqrt(h) : sqrt(h);
        e[i - 1] = scale * g;
        h -= f * g;
        u[i - 1] = f - g;
        /* p = A u / h from the lower triangle, a row at a time */
        memset(p, 0, i * sizeof *p);
        for (size_t j = 0; j < i; j++) {
            const double *row = a + j * n;
            double sum = 0, uj = u[j];
            for (size_t c = 0; c < j; c++) {
                sum += row[c] * u[c];
                p[c] += row[c] * uj;
            }
            p[j] += sum + row[j] * uj;
        }
        for (size_t j = 0; j < i; j++) k += u[j] * (p[j] /= h);
        k /= 2 * h;
        for (size_t j = 0; j < i; j++) p[j] -= k * u[j];
        for (size_t j = 0; j < i; j++) {
            double *row = a + j * n, uj = u[j], pj = p[j];
            for (size_t c = 0; c <= j; c++) row[c] -= uj * p[c] + pj * u[c];
        }
        u[i] = h;
    }
    d[0] = a[0];
    e[n - 1] = 0;
}

/* v = the reflections' product, transposed: row k is where unit vector k of the tridiagonal form points to. */
static void reflections(const double *a, size_t n, double *v)
{
    memset(v, 0, n * n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i * n + i] = 1;
    for (size_t i = 1; i < n; i++) {
        const double *u = a + i * n;
        if (u[i] == 0) continue;
        for (size_t r = 0; r < i; r++) {
            double *row = v + r * n, s = 0;
            for (size_t c = 0; c < i; c++) s += row[c] * u[c];
            s /= u[i];
            for (size_t c = 0; c < i; c++) row[c] -= s * u[c];
        }
    }
}

static void rotate(double *restrict x, double *restrict y, size_t n, double c, double s)
{
    for (size_t k = 0; k < n; k++) {
        double f = y[k];
        y[k] = s * x[k] + c * f;
        x[k] = c * x[k] - s * f;
    }
}

/* Implicit QL (Dubrulle, Martin and Wilkinson, the same, II/4): 0, or 1 where a value does not come in 60 steps. */
static int ql(double *d, double *e, size_t n, double *v)
{
    for (size_t l = 0; l < n; l++)
        for (int step = 0;; step++) {
            size_t m = l, i;
            while (m + 1 < n && fabs(e[m]) > DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1]))) m++;
            if (m == l) break;
            if (step == 60) return 1;
            double g = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(g, 1), s = 1, c = 1, p = 0;
            g = d[m] - d[l] + e[l] / (g + copysign(r, g));
            for (i = m; i-- > l;) {
                double f = s * e[i], b = c * e[i];
                e[i + 1] = r = hypot(f, g);
                if (r == 0) { /* the matrix falls apart here */
                    d[i + 1] -= p;
                    e[m] = 0;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                rotate(v + i * n, v + (i + 1) * n, n, c, s);
                r = 1;
            }
            if (r == 0) continue;
            d[l] -= p;
            e[l] = g;
            e[m] = 0;
        }
    return 0;
}

int mm_eigen_symmetric(double *a, size_t n, double *w, double *v, mm_err *err)
{
    double *e = mm_realloc(NULL, 2 * n + 1, sizeof *e), *own = mm_realloc(NULL, n * n + 1, sizeof *own);
    int r = !e || !own ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    for (size_t i = 0; i < n && !r; i++)
        for (size_t j = 0; j <= i && !r; j++)
            if (!isfinite(a[i * n + j])) r = mm_fail(err, MM_EDATA, "a matrix with an element that is no number has no eigenvectors");
    if (!r && n) {
        tridiagonal(a, n, w, e, e + n);
        reflections(a, n, own);
        if (ql(w, e, n, own)) r = mm_fail(err, MM_EDATA, "the eigenvalues of a %zu x %zu matrix do not converge", n, n);
    }
    for (size_t i = 0; i < n && !r; i++) {
        size_t least = i;
        for (size_t j = i + 1; j < n; j++)
            if (w[j] < w[least]) least = j;
        double x = w[i];
        w[i] = w[least];
        w[least] = x;
        if (least != i)
            for (size_t k = 0; k < n; k++) {
                x = own[i * n + k];
                own[i * n + k] = own[least * n + k];
                own[least * n + k] = x;
            }
    }
    if (!r && n) memcpy(v, own, n * n * sizeof *v);
    free(e);
    free(own);
    return r;
}

/* ---- the space ---- */

#define PANEL 64 /* rows that are in float64 at a time */

/* c[i][j <= i] += sum over rows x[r][i] x[r][j]; each element is added up in the order of the rows, whatever the threads. */
static void moment(double *c, const float *x, size_t n, size_t d, double *panel, int threads)
{
    for (size_t at = 0; at < n; at += PANEL) {
        size_t rows = n - at < PANEL ? n - at : PANEL, padded = (rows + 3) / 4 * 4;
        for (size_t i = 0; i < rows * d; i++) panel[i] = (double)x[at * d + i];
        memset(panel + rows * d, 0, (padded - rows) * d * sizeof *panel);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) if (threads > 1)
        for (size_t i = 0; i < d; i++) {
            double *restrict out = c + i * d;
            for (size_t r = 0; r < padded; r += 4) {
                const double *a = panel + r * d, *b = a + d, *e = b + d, *f = e + d;
                double p = a[i], q = b[i], s = e[i], t = f[i];
                for (size_t j = 0; j <= i; j++) out[j] += p * a[j] + q * b[j] + s * e[j] + t * f[j];
            }
        }
    }
}

int mm_pca_fit(mm_pca *p, const float *x, size_t n, size_t dim, int threads, mm_err *err)
{
    memset(p, 0, sizeof *p);
    if (!n || !dim || dim > 4096) return mm_fail(err, MM_ESHAPE, "%zu rows of %zu numbers have no axes (1 to 4096)", n, dim);
    double *c = calloc(dim * dim, sizeof *c), *w = mm_realloc(NULL, dim, sizeof *w), *panel = mm_realloc(NULL, PANEL * dim, sizeof *panel);
    p->dim = dim;
    p->rot = mm_realloc(NULL, dim * dim, sizeof *p->rot);
    p->var = mm_realloc(NULL, dim, sizeof *p->var);
    p->mean = calloc(dim, sizeof *p->mean);
    int r = !c || !w || !panel || !p->rot || !p->var || !p->mean ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    if (!r) {
        moment(c, x, n, dim, panel, threads ? threads : omp_get_max_threads());
        r = mm_eigen_symmetric(c, dim, w, c, err);
    }
    double total = 0;
    for (size_t k = 0; k < dim && !r; k++) total += w[k];
    for (size_t k = 0; k < dim && !r; k++) {
        const double *v = c + (dim - 1 - k) * dim;
        size_t big = 0;
        for (size_t i = 1; i < dim; i++)
            if (fabs(v[i]) > fabs(v[big])) big = i;
        for (size_t i = 0; i < dim; i++) p->rot[k * dim + i] = (float)(v[big] < 0 ? -v[i] : v[i]);
        p->var[k] = (float)(total > 0 ? w[dim - 1 - k] / total : 0);
    }
    free(c);
    free(w);
    free(panel);
    if (r) mm_pca_clear(p);
    return r;
}

static void turn(const mm_pca *p, const float *x, float *y)
{
    const mm_kern *k = mm_kern_get();
    for (size_t i = 0; i < p->dim; i++) y[i] = k->dot_f32(p->rot + i * p->dim, x, p->dim);
    k->l2_normalize(y, 1, p->dim);
}

int mm_pca_center(mm_pca *p, const float *x, size_t n, mm_err *err)
{
    float *y = mm_realloc(NULL, p->dim, sizeof *y);
    double *sum = calloc(p->dim, sizeof *sum);
    int r = !y || !sum ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    for (size_t i = 0; i < n && !r; i++) {
        turn(p, x + i * p->dim, y);
        for (size_t k = 0; k < p->dim; k++) sum[k] += (double)y[k];
    }
    for (size_t k = 0; k < p->dim && !r; k++) p->mean[k] = n ? (float)(sum[k] / (double)n) : 0;
    free(y);
    free(sum);
    return r;
}

int mm_pca_apply(const mm_pca *p, const float *x, size_t n, float *y, size_t out, mm_err *err)
{
    size_t d = p->dim;
    int threads = n < 64 ? 1 : omp_get_max_threads();
    if (out > d) return mm_fail(err, MM_ESHAPE, "%zu coordinates cannot be had of %zu", out, d);
    if (y == x && out < d) threads = 1; /* rows move up: one after the other */
    float *rows = mm_aligned((size_t)threads * d, sizeof *rows);
    if (!rows) return mm_fail(err, MM_ENOMEM, "out of memory");
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (size_t i = 0; i < n; i++) {
        float *row = rows + (size_t)omp_get_thread_num() * d;
        int zero = 1;
        for (size_t k = 0; k < d && zero; k++) zero = x[i * d + k] == 0;
        turn(p, x + i * d, row);
        for (size_t k = 0; k < d && !zero; k++) row[k] -= p->mean[k];
        mm_kern_get()->l2_normalize(row, 1, d);
        memcpy(y + i * out, row, out * sizeof *y);
    }
    free(rows);
    return 0;
}

void mm_pca_clear(mm_pca *p)
{
    free(p->rot);
    free(p->var);
    free(p->mean);
    memset(p, 0, sizeof *p);
}

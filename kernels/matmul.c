/* matmul.c - products of two matrices of which neither was packed before.
 *
 * K is cut into blocks of at most KC, evenly, at places that k alone decides. B is packed block by block by all threads, as much
 * of it as CHUNK_BYTES hold, into memory that they share; then each thread takes its rectangle of C through these blocks as
 * gemm.c does with a packed matrix, adding up in C. So a panel of B (KC x nr) and a block of A (mr x KC) stay in
 * L1 and L2 whatever k; the traffic of C is 2/KC of the multiply-adds. */
#include <stdint.h>
#include <string.h>
#include "kernels/gemm_int.h"
#include "kernels/mm_grad.h"
#include "kernels/mm_kern.h"
#include "kernels/scratch_int.h"

/* (KC of 256 and 384, groups of rows of 256 KiB to 1 MiB and smaller runs were within 5 % of each other on Zen 3.) */
enum { KC = 512 };
#define CHUNK_BYTES ((size_t)4 << 20)

/* Panels that one task packs: of a row of a [k, n] matrix they take cache lines one after the other. */
enum { RUN = 16 };

typedef struct operand {
    const float *b;
    size_t ldb;
    int tb;
} operand;

/* Panels p .. p1-1 of w, which is rows k0 .. of op(B) and columns from n0 on */
static void pack(const mmk_mat *w, const operand *o, size_t k0, size_t n0, size_t p, size_t p1)
{
    const mmk_gemm_ops *ops = w->ops;
    size_t nr = (size_t)ops->nr;
    if (!o->tb) {
        size_t whole = w->n / nr < p1 ? w->n / nr : p1;
        const float *src = o->b + k0 * o->ldb + n0;
        if (whole > p) ops->strips((float *)(void *)mmk_panel(w, p), w->panel_bytes, src + p * nr, o->ldb, ops->nr, whole - p, w->k);
        if (whole < p1) { /* the last one, padded with zeros */
            float *d = (float *)(void *)mmk_panel(w, whole);
            size_t n = w->n - whole * nr;
            for (size_t t = 0; t < w->k; t++, d += nr) {
                memcpy(d, src + t * o->ldb + whole * nr, n * sizeof *d);
                memset(d + n, 0, (nr - n) * sizeof *d);
            }
        }
        return;
    }
    for (; p < p1; p++) {
        const void *rows[64];
        size_t n = 0;
        for (; n < nr && p * nr + n < w->n; n++) rows[n] = o->b + (n0 + p * nr + n) * o->ldb + k0;
        ops->pack_b(mmk_panel(w, p), rows, (int)n, w->k);
    }
}

int mmk_matmul(const struct mm_kern *kern, float *c, size_t ldc, size_t m, size_t n, size_t k, const float *a, size_t lda,
               int ta, const float *b, size_t ldb, int tb, const float *bias, const float *residual, size_t ldr,
               mmk_act act, int threads)
{
    enum { MOST = 16 }; /* blocks of K at a time */
    const mmk_gemm_ops *ops = kern->matmul;
    const operand o = { b, ldb, tb };
    size_t nr = (size_t)ops->nr, cut = mmk_ceil_div(k ? k : 1, KC), kc = (mmk_ceil_div(k, cut) + 15) / 16 * 16;
    size_t blocks = k ? mmk_ceil_div(k, kc) : 1, panel = (kc * ops->b_step + 63) / 64 * 64;
    if (m == 0 || n == 0) return MMK_OK;
    size_t panels = mmk_ceil_div(n, nr), wide = CHUNK_BYTES / (panel + 64);
    if (wide > panels) wide = panels;
    size_t mat = MMK_MAT_HEADER + wide * panel, deep = CHUNK_BYTES / mat;
    if (deep > blocks) deep = blocks;
    if (deep > MOST) deep = MOST;
    /* sums wait in c for their last block, or apart where c is still to be read */
    int apart = act != MMK_ACT_NONE && blocks > 1 && residual == c;
    size_t more = 0, bytes;
    if (apart && __builtin_mul_overflow(m, n * sizeof *c, &more)) return MMK_ENOMEM;
    if (__builtin_add_overflow(deep * mat, more, &bytes)) return MMK_ENOMEM;
    char *mem = mmk_scratch_shared(bytes);
    if (!mem) return MMK_ENOMEM;
    float *sum = apart ? (float *)(void *)(mem + deep * mat) : c;
    size_t lds = apart ? n : ldc;
    for (size_t p0 = 0; p0 < panels; p0 += wide)
        for (size_t b0 = 0; b0 < blocks; b0 += deep) {
            size_t np = panels - p0 < wide ? panels - p0 : wide, nb = blocks - b0 < deep ? blocks - b0 : deep, col = p0 * nr;
            size_t cols = n - col < wide * nr ? n - col : wide * nr, runs = mmk_ceil_div(np, RUN);
            mmk_job jobs[MOST];
            for (size_t i = 0; i < nb; i++) {
                size_t k0 = (b0 + i) * kc, depth = k - k0 < kc ? k - k0 : kc;
                int first = b0 + i == 0, last = b0 + i + 1 == blocks;
                mmk_mat *w = (mmk_mat *)(void *)(mem + i * mat);
                *w = (mmk_mat){ ops, cols, depth, depth, panel, (char *)w + MMK_MAT_HEADER, NULL, 0, 0 };
                mmk_job *j = &jobs[i];
                *j = (mmk_job){ .c = (last ? c : sum) + col, .ldc = last ? ldc : lds, .a = a + (ta ? k0 * lda : k0), .lda = lda,
                                .m = m, .w = w, .ta = ta };
                if (act == MMK_ACT_NONE) { /* the sum begins with bias and residual */
                    j->bias = first && bias ? bias + col : NULL;
                    j->res = !first ? c + col : residual ? residual + col : NULL;
                    j->ldr = first ? ldr : ldc;
                } else {
                    j->part = first ? NULL : sum + col;
                    j->ldp = lds;
                    j->bias = last && bias ? bias + col : NULL;
                    j->res = last && residual ? residual + col : NULL;
                    j->ldr = ldr;
                    j->act = last ? act : MMK_ACT_NONE;
                }
            }
            /* below about 1 MiB a second thread costs more than it saves */
            int nt = nb * mat < ((size_t)1 << 19) || threads < 1 ? 1 : threads;
            (void)nt;
#pragma omp parallel for num_threads(nt) schedule(static) if (nt > 1)
            for (size_t x = 0; x < nb * runs; x++) {
                size_t p = x % runs * RUN;
                pack(jobs[x / runs].w, &o, (b0 + x / runs) * kc, col, p, p + RUN < np ? p + RUN : np);
            }
            int r = mmk_gemm_jobs(jobs, nb, threads);
            if (r != MMK_OK) return r;
        }
    return MMK_OK;
}

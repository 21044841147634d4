/* gemm_int.h - what one instruction set provides for one weight format, and what gemm.c makes of it.
 *
 * W [n, k] is cut into panels of nr rows (the last one filled up with what nobody looks at). A panel holds its weights in the order in which
 * the micro-kernel reads them, K-major in steps of kstep; activations are packed likewise in blocks of at most mr rows. A
 * micro-kernel multiplies one block of rows by 1..np panels over all of K and leaves float sums in a tile; the
 * epilogue turns a tile into a piece of C. Everything that makes up the value of an element happens in these functions
 * in an order that depends on k alone. */
#ifndef MM_GEMM_INT_H
#define MM_GEMM_INT_H

#include "kernels/mm_gemm.h"
#include <stdint.h>

typedef struct mmk_gemm_ops {
    const char *name; /* "f32_avx512" */
    int nr;           /* columns of C per panel */
    int mr;           /* rows of C per block, at most; a multiple of row_unit */
    int row_unit;     /* a block of fewer rows costs as much as the next multiple of this */
    int kstep;        /* K is padded to a multiple of it */
    /* bytes per kstep of K: of a panel, and of a block of `rows` rows */
    size_t b_step;
    size_t (*a_step)(int rows);
    /* how many panels a block of `rows` rows takes at once (small m: enough independent accumulators) */
    int (*panels)(int rows);
    /* rows[i], i < n <= nr, point to rows of W; dst is 64-byte aligned */
    void (*pack_b)(void *dst, const void *const *rows, int n, size_t k);
    /* may write 64 bytes too many, which the next block overwrites */
    void (*pack_a)(void *dst, const float *a, size_t lda, int rows, size_t k);
    /* tile[p][row][nr] = a block times panels b, b + b_stride, ...; steps = K / kstep, at least 1 */
    void (*mul)(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np);
    void (*epilogue)(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act);
    /* mul of one whole panel and the epilogue of no activation in one, the same bits; may be NULL. C is fetched while the
     * product runs. */
    void (*mul_to)(float *c, size_t ldc, const void *a, const void *b, size_t steps, int rows, const float *bias,
                   const float *res, size_t ldr);
    /* Where the weights are those of another format of the same blocks, kept in fewer bits (f16, bf16: float32's): that one, and a mul that leaves
     * the panel in it behind. The further blocks of several are multiplied by that, the same bits: widening once costs less than at every use.
     * NULL: none. */
    const struct mmk_gemm_ops *wide;
    void (*mul_widen)(float *tile, void *panel, const void *a, const void *b, size_t steps, int rows);
    void (*begin)(void); /* before the first mul of a thread, and after the last; may be NULL */
    void (*end)(void);
    /* What products of activations need (mm_kern.matmul), float32 only: blocks of `width` columns of a matrix that has K
     * along its rows, which are copies without a transposition. Block i, i < count, at dst + i * stride bytes, is
     * [k][width] of src[t * ld + i * width + j]. */
    void (*strips)(float *dst, size_t stride, const float *src, size_t ld, int width, size_t count, size_t k);
} mmk_gemm_ops;

/* A packed matrix: this and the panels, which mmk_pack() lays behind it, from MMK_MAT_HEADER bytes on. One that is not packed yet has its rows in
 * `src`. */
struct mmk_mat {
    const mmk_gemm_ops *ops;
    size_t n, k;
    size_t steps;       /* K in ksteps, rounded up */
    size_t panel_bytes; /* steps * ops->b_step, a multiple of 64 */
    char *panels;       /* NULL: not packed; then */
    const mmk_rows *src;
    size_t nsrc, row_bytes;
};
#define MMK_MAT_HEADER ((sizeof(struct mmk_mat) + 63) / 64 * 64)

/* A product with a packed matrix, and what mmk_gemm does not need: a may be [k, m] (ta), and `part`, or NULL, is added before
 * bias and act; it may be c. */
typedef struct mmk_job {
    float *c;
    size_t ldc;
    const float *a;
    size_t lda, m;
    const mmk_mat *w;
    const float *bias, *res;
    size_t ldr;
    mmk_act act;
    int ta;
    const float *part;
    size_t ldp;
} mmk_job;

/* Jobs of the same m and w->n, one after the other: each element of C goes through all of them on one thread. */
int mmk_gemm_jobs(const mmk_job *jobs, size_t njobs, int threads);

static inline char *mmk_panel(const mmk_mat *w, size_t p)
{
    return w->panels + p * w->panel_bytes;
}

static inline size_t mmk_ceil_div(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* While a panel is made of n of nr rows: the one after it, in the order of memory, where rows lie one behind the other. `bytes` from `at` on of
 * each row are used now. So many rows side by side are more streams than the processor follows by itself: without this they take twice as long. */
static inline void mmk_fetch_panel(const void *const *rows, int n, size_t nr, size_t row_bytes, size_t at, size_t bytes)
{
    const char *next = (const char *)rows[n - 1] + row_bytes + nr * at;
    if ((uintptr_t)rows[n - 1] - (uintptr_t)rows[0] != (size_t)(n - 1) * row_bytes) return;
    for (size_t i = 0; i < nr * bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
}

/* Least rows a tile is made for, so that any (rows, panels) a micro-kernel takes at once fits: rows * panels <= this. */
#define MMK_MAX_TILE_ROWS 32

extern const mmk_gemm_ops mmk_gemm_f32_amx, mmk_gemm_f16_amx, mmk_gemm_bf16_amx, mmk_gemm_q8_0_amx;
extern const mmk_gemm_ops mmk_gemm_f32_avx512, mmk_gemm_f16_avx512, mmk_gemm_bf16_avx512, mmk_gemm_q8_0_avx512;
extern const mmk_gemm_ops mmk_gemm_q8_0_vnni;
extern const mmk_gemm_ops mmk_gemm_f32_avx2, mmk_gemm_f16_avx2, mmk_gemm_bf16_avx2, mmk_gemm_q8_0_avx2;
extern const mmk_gemm_ops mmk_gemm_f32_neon, mmk_gemm_f16_neon, mmk_gemm_bf16_neon, mmk_gemm_q8_0_neon;
extern const mmk_gemm_ops mmk_gemm_q8_0_dotprod;
extern const mmk_gemm_ops mmk_gemm_f32_ref, mmk_gemm_f16_ref, mmk_gemm_bf16_ref, mmk_gemm_q8_0_ref;
extern const mmk_gemm_ops mmk_gemm_q4_0_vnni, mmk_gemm_q4_1_vnni, mmk_gemm_q4_0_avx2, mmk_gemm_q4_1_avx2;
extern const mmk_gemm_ops mmk_gemm_q4_0_dotprod, mmk_gemm_q4_1_dotprod, mmk_gemm_q4_0_ref, mmk_gemm_q4_1_ref;

#endif

/* gemm.c - the part of the matrix product that is the same for every instruction set: packing, cutting the work into
 * blocks and threads. What an instruction set provides is in gemm_int.h.
 *
 * One thread works on a rectangle of C. Its rows of A are packed (so that the micro-kernel reads one stream, whatever lda)
 * in groups that stay in L2; then every panel of W is multiplied by all blocks of the group while it is hot, over all of K at
 * once. With a single block of rows (small m) nothing is reused and W streams through once, several panels at a time. */
#include "kernels/gemm_int.h"
#include "kernels/mm_kern.h"
#include "kernels/scratch_int.h"
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Packed rows of A per group: half of a 2 MiB L2. (Prefetching the next panel by software was slower at every level and
 * shape tried; the hardware's prefetchers follow the streams.) */
#define GROUP_BYTES ((size_t)1024 << 10)

/* Blocks of a transposed A that are packed at once. */
enum { STRIPS = 32 };

/* A thread more pays from this much work on: starting one costs 2 us or so, this is 10-20 us of FMA. */
#define MMK_FLOP_PER_THREAD 2e6
/* For few rows it is W's way from memory that takes the time: so many of its bytes are 5-10 us of it. */
#define MMK_BYTES_PER_THREAD 98304.0
enum { FEW_ROWS = 4 };

size_t mmk_mat_n(const mmk_mat *w)
{
    return w->n;
}

size_t mmk_mat_k(const mmk_mat *w)
{
    return w->k;
}

static const mmk_gemm_ops *find_ops(const struct mm_kern *kern, int dtype, size_t k)
{
    switch (dtype) {
    case 0: return kern->gemm[MMK_FMT_F32];
    case 1: return kern->gemm[MMK_FMT_F16];
    case 2: return k % 32 == 0 ? kern->gemm[MMK_FMT_Q4_0] : NULL;
    case 3: return k % 32 == 0 ? kern->gemm[MMK_FMT_Q4_1] : NULL;
    case 8: return k % 32 == 0 ? kern->gemm[MMK_FMT_Q8_0] : NULL;
    case 30: return kern->gemm[MMK_FMT_BF16];
    default: return NULL;
    }
}

static size_t row_bytes(int dtype, size_t k)
{
    switch (dtype) {
    case 0: return sizeof(float) * k;
    case 2: return k / 32 * 18;
    case 3: return k / 32 * 20;
    case 8: return k / 32 * 34;
    default: return 2 * k;
    }
}

size_t mmk_pack_size(const struct mm_kern *kern, int dtype, size_t n, size_t k)
{
    const mmk_gemm_ops *ops = find_ops(kern, dtype, k);
    size_t panel, total;
    if (!ops || k > SIZE_MAX / 8)
        return 0;
    if (__builtin_mul_overflow(mmk_ceil_div(k, (size_t)ops->kstep), ops->b_step, &panel) || panel > SIZE_MAX - 63)
        return 0;
    panel = (panel + 63) / 64 * 64;
    if (__builtin_mul_overflow(panel, mmk_ceil_div(n, (size_t)ops->nr), &total) ||
        __builtin_add_overflow(total, MMK_MAT_HEADER, &total))
        return 0;
    return total;
}

static void pack_panel(mmk_mat *w, size_t p, size_t bytes, const mmk_rows *src, size_t nsrc)
{
    const void *rows[64];
    size_t nr = (size_t)w->ops->nr, first = p * nr, at = 0, s = 0, n = 0;
    for (; s < nsrc && at + src[s].n <= first; s++)
        at += src[s].n;
    for (; n < nr && first + n < w->n; n++) {
        while (first + n - at >= src[s].n)
            at += src[s++].n;
        rows[n] = (const char *)src[s].data + (first + n - at) * bytes;
    }
    w->ops->pack_b(mmk_panel(w, p), rows, (int)n, w->k);
}

const mmk_mat *mmk_pack(const struct mm_kern *kern, void *mem, int dtype, size_t k, const mmk_rows *src, size_t nsrc,
                        int threads)
{
    size_t n = 0;
    for (size_t i = 0; i < nsrc; i++)
        if (__builtin_add_overflow(n, src[i].n, &n))
            return NULL;
    if (mmk_pack_size(kern, dtype, n, k) == 0)
        return NULL;
    mmk_mat *w = mem;
    const mmk_gemm_ops *ops = find_ops(kern, dtype, k);
    size_t steps = mmk_ceil_div(k, (size_t)ops->kstep), panels = mmk_ceil_div(n, (size_t)ops->nr);
    *w = (mmk_mat){ ops, n, k, steps, (steps * ops->b_step + 63) / 64 * 64 };
    if (k == 0)
        return w;
    /* most of it is touching fresh memory */
    int nt = panels * w->panel_bytes < ((size_t)1 << 17) || threads < 1 ? 1 : threads;
    (void)nt;
#pragma omp parallel for num_threads(nt) schedule(static) if (nt > 1)
    for (size_t p = 0; p < panels; p++)
        pack_panel(w, p, row_bytes(dtype, k), src, nsrc);
    return w;
}

/* Where part i begins when n things are cut evenly into `parts` in units of `unit`. */
static size_t cut(size_t n, size_t unit, size_t parts, size_t i)
{
    size_t units = mmk_ceil_div(n, unit), at = (units / parts * i + (units % parts < i ? units % parts : i)) * unit;
    return at < n ? at : n;
}

/* A product that waits for its epilogue. */
typedef struct product {
    float *tile;
    size_t row, panel, np;
    int rows;
} product;

static void finish(const mmk_job *j, const product *t)
{
    size_t nr = (size_t)j->w->ops->nr;
    for (size_t i = 0; i < t->np; i++) {
        size_t col = (t->panel + i) * nr, cols = j->w->n - col < nr ? j->w->n - col : nr;
        float *tile = t->tile + i * (size_t)t->rows * nr;
        if (j->part)
            for (size_t r = 0; r < (size_t)t->rows; r++)
                for (size_t x = 0; x < cols; x++) tile[r * nr + x] += j->part[(t->row + r) * j->ldp + col + x];
        j->w->ops->epilogue(j->c + t->row * j->ldc + col, j->ldc, tile, t->rows, (int)cols,
                            j->bias ? j->bias + col : NULL, j->res ? j->res + t->row * j->ldr + col : NULL, j->ldr, j->act);
    }
}

/* Rows row .. row+rows-1 of op(A) in `blocks` blocks to a. */
static void pack_rows(const mmk_job *j, size_t row, size_t rows, size_t blocks, char *a)
{
    const mmk_mat *w = j->w;
    const mmk_gemm_ops *ops = w->ops;
    size_t unit = (size_t)ops->row_unit;
    for (size_t b = 0, count; b < blocks; b += count) {
        size_t r0 = cut(rows, unit, blocks, b), n = cut(rows, unit, blocks, b + 1) - r0, bytes = w->steps * ops->a_step((int)n);
        count = 1;
        if (!j->ta) {
            ops->pack_a(a, j->a + (row + r0) * j->lda, j->lda, (int)n, w->k);
        } else {
            /* several at once: their columns share cache lines, and a power of two as lda leaves few lines in L1 */
            while (count < STRIPS && b + count < blocks && cut(rows, unit, blocks, b + count + 1) == r0 + (count + 1) * n) count++;
            ops->strips((float *)(void *)a, bytes, j->a + row + r0, j->lda, (int)n, count, w->k);
        }
        a += count * bytes;
    }
}

/* Rows row .. row+rows-1, packed in `blocks` blocks at a, times panels p0 .. p1-1. A tile gets its epilogue after the next
 * product, when its stores have long left the pipeline; two tiles of MMK_MAX_TILE_ROWS x nr take turns. */
static void group(const mmk_job *j, size_t row, size_t rows, size_t blocks, size_t p0, size_t p1, const char *a, float *tile)
{
    const mmk_mat *w = j->w;
    const mmk_gemm_ops *ops = w->ops;
    size_t unit = (size_t)ops->row_unit, np = (size_t)ops->panels((int)cut(rows, unit, blocks, 1));
    int direct = ops->mul_to && j->act == MMK_ACT_NONE && !j->part;
    product last = { .np = 0 };
    float *other = tile + MMK_MAX_TILE_ROWS * ops->nr;
    for (size_t p = p0; p < p1; p += np) {
        const char *block = a;
        if (p1 - p < np)
            np = 1;
        for (size_t b = 0; b < blocks; b++) {
            size_t r0 = cut(rows, unit, blocks, b);
            const product t = { tile, row + r0, p, np, (int)(cut(rows, unit, blocks, b + 1) - r0) };
            if (direct && np == 1 && (p + 1) * (size_t)ops->nr <= w->n) {
                size_t col = p * (size_t)ops->nr;
                ops->mul_to(j->c + t.row * j->ldc + col, j->ldc, block, mmk_panel(w, p), w->steps, t.rows,
                            j->bias ? j->bias + col : NULL, j->res ? j->res + t.row * j->ldr + col : NULL, j->ldr);
                block += w->steps * ops->a_step(t.rows);
                continue;
            }
            if (w->steps > 0)
                ops->mul(tile, block, mmk_panel(w, p), w->panel_bytes, w->steps, t.rows, (int)np);
            else
                memset(tile, 0, (size_t)t.rows * np * (size_t)ops->nr * sizeof *tile);
            finish(j, &last);
            last = t;
            tile = other;
            other = t.tile;
            block += w->steps * ops->a_step(t.rows);
        }
    }
    finish(j, &last);
}

/* The rectangle rows m0 .. m1-1, panels p0 .. p1-1 of C by the calling thread. */
static int rectangle(const mmk_job *j, size_t m0, size_t m1, size_t p0, size_t p1)
{
    const mmk_mat *w = j->w;
    const mmk_gemm_ops *ops = w->ops;
    size_t mr = (size_t)ops->mr, unit = (size_t)ops->row_unit, block = w->steps * ops->a_step(ops->mr);
    size_t per_group = block < GROUP_BYTES ? GROUP_BYTES / (block ? block : 1) : 1;
    if (m0 == m1 || p0 == p1)
        return MMK_OK;
    if (per_group > mmk_ceil_div(m1 - m0, mr))
        per_group = mmk_ceil_div(m1 - m0, mr);
    size_t groups = mmk_ceil_div(m1 - m0, per_group * mr);
    size_t tiles = 2 * MMK_MAX_TILE_ROWS * (size_t)ops->nr * sizeof(float);
    char *mem = mmk_scratch(tiles + per_group * block + 64);
    if (!mem)
        return MMK_ENOMEM;
    if (ops->begin)
        ops->begin();
    for (size_t g = 0; g < groups; g++) {
        size_t row = m0 + cut(m1 - m0, unit, groups, g), rows = m0 + cut(m1 - m0, unit, groups, g + 1) - row;
        size_t blocks = mmk_ceil_div(rows, mr);
        pack_rows(j, row, rows, blocks, mem + tiles);
        group(j, row, rows, blocks, p0, p1, mem + tiles, (float *)(void *)mem);
    }
    if (ops->end)
        ops->end();
    return MMK_OK;
}

/* The grid of threads, rows x columns of it, with the least work for a thread: multiply-adds of its rectangle, plus what
 * packing a row or fetching a column of W from beyond L2 costs, about 16 multiply-adds per element either. */
static void choose_grid(size_t m, size_t panels, size_t nr, int threads, int *tm, int *tn)
{
    double best = 0;
    for (int t = 1; t <= threads; t++) {
        double rows = (double)mmk_ceil_div(m, (size_t)t), cols = (double)(mmk_ceil_div(panels, (size_t)(threads / t)) * nr);
        double cost = rows * cols + 16 * (rows + cols);
        if (t == 1 || cost < best) {
            best = cost;
            *tm = t;
            *tn = threads / t;
        }
    }
}

int mmk_gemm_jobs(const mmk_job *jobs, size_t njobs, int threads)
{
    const mmk_mat *w = jobs->w;
    size_t m = jobs->m, panels = mmk_ceil_div(w->n, (size_t)w->ops->nr), unit = (size_t)w->ops->row_unit;
    double flop = 0;
    int tm = 1, tn = 1, status = MMK_OK;
    for (size_t i = 0; i < njobs; i++) flop += 2.0 * (double)m * (double)w->n * (double)jobs[i].w->k;
    double worth = flop / MMK_FLOP_PER_THREAD, bytes = (double)(panels * w->panel_bytes) / MMK_BYTES_PER_THREAD;
    if (m <= FEW_ROWS && bytes > worth)
        worth = bytes;
    if (threads > 1 && worth < threads)
        threads = (int)worth;
    if (threads > 1)
        choose_grid(m, panels, (size_t)w->ops->nr, threads, &tm, &tn);
#pragma omp parallel for num_threads(tm *tn) schedule(static, 1) if (tm * tn > 1)
    for (int t = 0; t < tm * tn; t++) {
        size_t i = (size_t)(t / tn), k = (size_t)(t % tn);
        size_t m0 = cut(m, unit, (size_t)tm, i), m1 = cut(m, unit, (size_t)tm, i + 1);
        size_t p0 = cut(panels, 1, (size_t)tn, k), p1 = cut(panels, 1, (size_t)tn, k + 1);
        for (size_t x = 0; x < njobs; x++) {
            int r = rectangle(&jobs[x], m0, m1, p0, p1);
            if (r != MMK_OK) {
#pragma omp atomic write
                status = r;
            }
        }
    }
    return status;
}

int mmk_gemm(float *c, size_t ldc, const float *a, size_t lda, size_t m, const mmk_mat *w, const float *bias,
             const float *residual, size_t ldr, mmk_act act, int threads)
{
    const mmk_job j = { .c = c, .ldc = ldc, .a = a, .lda = lda, .m = m, .w = w, .bias = bias, .res = residual, .ldr = ldr,
                        .act = act };
    return mmk_gemm_jobs(&j, 1, threads);
}

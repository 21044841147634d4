/* gemm.c - the part of the matrix product that is the same for every instruction set: packing, cutting the work into
 * blocks and threads. What an instruction set provides is in gemm_int.h.
 *
 * One thread works on a rectangle of C, or on pieces of it as it is free. Its rows of A are packed (so that the micro-kernel reads one stream, whatever lda)
 * in groups that stay in L2; then every panel of W is multiplied by all blocks of the group while it is hot, over all of K at
 * once. With a single block of rows (small m) nothing is reused and W streams through once, several panels at a time. */
#include "kernels/gemm_int.h"
#include "kernels/mm_kern.h"
#include "kernels/scratch_int.h"
#include <string.h>

/* Packed rows of A per group: half of a 2 MiB L2. */
#define GROUP_BYTES ((size_t)1024 << 10)

/* A panel is widened for so many blocks of rows (mmk_gemm_ops.wide), 2 at least. */
enum { WIDE_FROM = 2 };

/* Blocks of a transposed A that are packed at once. */
enum { STRIPS = 32 };

/* A thread more pays from this much work on: starting one costs 2 us or so, this is 10-20 us of FMA. */
#define MMK_FLOP_PER_THREAD 2e6
/* For few rows it is W's way from memory that takes the time: so many of its bytes are 5-10 us of it. */
#define MMK_BYTES_PER_THREAD 98304.0
enum { FEW_ROWS = 4 };
/* From PIECES_FROM times that work for each thread on, what is computed is shared piece by piece. */
enum { PIECES_FROM = 8, PIECE_ROWS = 48, PIECE_COLUMNS = 96 }; /* the least ones */

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

/* Panel p of the rows that w has been told of. */
static void pack_panel(const mmk_mat *w, size_t p, void *dst)
{
    const void *rows[64];
    size_t nr = (size_t)w->ops->nr, first = p * nr, at = 0, s = 0, n = 0;
    for (; s < w->nsrc && at + w->src[s].n <= first; s++)
        at += w->src[s].n;
    for (; n < nr && first + n < w->n; n++) {
        while (first + n - at >= w->src[s].n)
            at += w->src[s++].n;
        rows[n] = (const char *)w->src[s].data + (first + n - at) * w->row_bytes;
    }
    w->ops->pack_b(dst, rows, (int)n, w->k);
}

mmk_mat *mmk_view(const struct mm_kern *kern, void *mem, int dtype, size_t k, const mmk_rows *src, size_t nsrc)
{
    size_t n = 0;
    for (size_t i = 0; i < nsrc; i++)
        if (__builtin_add_overflow(n, src[i].n, &n))
            return NULL;
    if (mmk_pack_size(kern, dtype, n, k) == 0)
        return NULL;
    mmk_mat *w = mem;
    const mmk_gemm_ops *ops = find_ops(kern, dtype, k);
    size_t steps = mmk_ceil_div(k, (size_t)ops->kstep);
    *w = (mmk_mat){ ops, n, k, steps, (steps * ops->b_step + 63) / 64 * 64, NULL, src, nsrc, row_bytes(dtype, k) };
    return w;
}

size_t mmk_view_size(void)
{
    return MMK_MAT_HEADER;
}

/* Where part i begins when n things are cut evenly into `parts` in units of `unit`. */
static size_t cut(size_t n, size_t unit, size_t parts, size_t i)
{
    size_t units = mmk_ceil_div(n, unit), at = (units / parts * i + (units % parts < i ? units % parts : i)) * unit;
    return at < n ? at : n;
}

void mmk_settle(mmk_mat *w, void *mem, size_t part, size_t parts, int threads)
{
    size_t panels = mmk_ceil_div(w->n, (size_t)w->ops->nr), from = cut(panels, 1, parts, part), to = cut(panels, 1, parts, part + 1);
    /* Most of it is touching fresh memory: long runs to begin with, so that threads do not wait for the same huge page. */
    int nt = (to - from) * w->panel_bytes < ((size_t)1 << 17) || threads < 1 ? 1 : threads;
    (void)nt;
#pragma omp parallel for num_threads(nt) schedule(guided) if (nt > 1)
    for (size_t p = from; p < to; p++)
        if (w->k > 0)
            pack_panel(w, p, (char *)mem + p * w->panel_bytes);
    if (part + 1 < parts)
        return;
    w->panels = mem;
    w->src = NULL;
}

const mmk_mat *mmk_pack(const struct mm_kern *kern, void *mem, int dtype, size_t k, const mmk_rows *src, size_t nsrc,
                        int threads)
{
    mmk_mat *w = mmk_view(kern, mem, dtype, k, src, nsrc);
    if (w)
        mmk_settle(w, (char *)mem + MMK_MAT_HEADER, 0, 1, threads);
    return w;
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

/* C and what is added to it on their way to the caches, while a product runs. */
static void fetch(const mmk_job *j, const product *t)
{
    size_t col = t->panel * (size_t)j->w->ops->nr, cols = t->np * (size_t)j->w->ops->nr;
    if (cols > j->w->n - col)
        cols = j->w->n - col;
    for (size_t r = t->row; r < t->row + (size_t)t->rows; r++) {
        const float *to = j->c + r * j->ldc + col, *res = j->res ? j->res + r * j->ldr + col : NULL;
        for (size_t x = 0; x < cols; x += 16) {
            __builtin_prefetch(to + x, 1);
            if (res)
                __builtin_prefetch(res + x);
        }
        __builtin_prefetch(to + cols - 1, 1);
    }
}

/* A thread's scratch: panels packed just now and one widened, two tiles of MMK_MAX_TILE_ROWS x nr, packed rows. */
typedef struct room {
    char *fresh, *wide, *rows;
    float *tiles;
} room;

/* Rows row .. row+rows-1, packed in `blocks` blocks, times panels p0 .. p1-1. A tile gets its epilogue after the next
 * product, when its stores have long left the pipeline; the two take turns. */
static void group(const mmk_job *j, size_t row, size_t rows, size_t blocks, size_t p0, size_t p1, const room *at)
{
    const mmk_mat *w = j->w;
    int widened = w->ops->wide && blocks >= WIDE_FROM && w->k > 0;
    const mmk_gemm_ops *ops = widened ? w->ops->wide : w->ops;
    size_t unit = (size_t)ops->row_unit, np = widened ? 1 : (size_t)ops->panels((int)cut(rows, unit, blocks, 1));
    int direct = ops->mul_to && j->act == MMK_ACT_NONE && !j->part;
    product last = { .np = 0 };
    float *tile = at->tiles, *other = tile + MMK_MAX_TILE_ROWS * ops->nr;
    for (size_t p = p0; p < p1; p += np) {
        const char *block = at->rows;
        const char *panel = w->panels ? mmk_panel(w, p) : at->fresh;
        if (p1 - p < np)
            np = 1;
        for (size_t i = 0; i < np && !w->panels && w->k > 0; i++)
            pack_panel(w, p + i, at->fresh + i * w->panel_bytes);
        for (size_t b = 0; b < blocks; b++) {
            size_t r0 = cut(rows, unit, blocks, b);
            const product t = { tile, row + r0, p, np, (int)(cut(rows, unit, blocks, b + 1) - r0) };
            int first = widened && b == 0;
            if (direct && np == 1 && !first && (p + 1) * (size_t)ops->nr <= w->n) {
                size_t col = p * (size_t)ops->nr;
                ops->mul_to(j->c + t.row * j->ldc + col, j->ldc, block, panel, w->steps, t.rows,
                            j->bias ? j->bias + col : NULL, j->res ? j->res + t.row * j->ldr + col : NULL, j->ldr);
                block += w->steps * ops->a_step(t.rows);
                continue;
            }
            fetch(j, &t);
            if (first) {
                w->ops->mul_widen(tile, at->wide, block, panel, w->steps, t.rows);
                panel = at->wide;
            } else if (w->steps > 0)
                ops->mul(tile, block, panel, w->panel_bytes, w->steps, t.rows, (int)np);
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

/* n things that threads share piece by piece. */
typedef struct pieces {
    size_t next, n, least;
    int threads;
} pieces;

/* The next piece: an even part of half of what is left, in units of the least one. The last ones are small, so that a core that is
 * slower for a while (another program, a lower clock) keeps nobody waiting. 0: all are taken. */
static int take(pieces *s, size_t *from, size_t *to)
{
    size_t at, piece;
#pragma omp atomic read
    at = s->next;
    if (at >= s->n)
        return 0;
    piece = mmk_ceil_div(mmk_ceil_div(s->n - at, 2 * (size_t)s->threads), s->least) * s->least;
#pragma omp atomic capture
    {
        at = s->next;
        s->next += piece;
    }
    *from = at;
    *to = at < s->n && s->n - at > piece ? at + piece : s->n;
    return at < s->n;
}

/* Blocks of packed rows that make a group. */
static size_t group_blocks(const mmk_mat *w)
{
    size_t block = w->steps * w->ops->a_step(w->ops->mr);
    return block < GROUP_BYTES ? GROUP_BYTES / (block ? block : 1) : 1;
}

/* The rectangle rows m0 .. m1-1, panels p0 .. p1-1 of C by the calling thread; with `panels` those that it takes there, of rows that are one
 * group. */
static int rectangle(const mmk_job *j, size_t m0, size_t m1, size_t p0, size_t p1, pieces *panels)
{
    const mmk_mat *w = j->w;
    const mmk_gemm_ops *ops = w->ops;
    size_t mr = (size_t)ops->mr, unit = (size_t)ops->row_unit, block = w->steps * ops->a_step(ops->mr), per_group = group_blocks(w);
    if (m0 == m1 || p0 == p1 || (panels && !take(panels, &p0, &p1)))
        return MMK_OK;
    if (per_group > mmk_ceil_div(m1 - m0, mr))
        per_group = mmk_ceil_div(m1 - m0, mr);
    size_t groups = mmk_ceil_div(m1 - m0, per_group * mr);
    size_t tiles = 2 * MMK_MAX_TILE_ROWS * (size_t)ops->nr * sizeof(float);
    size_t fresh = w->panels ? 0 : (size_t)ops->panels(1) * w->panel_bytes; /* most panels at once are those of one row */
    size_t wide = ops->wide && m1 - m0 > (WIDE_FROM - 1) * mr ? w->steps * ops->wide->b_step : 0;
    char *mem = mmk_scratch(fresh + wide + tiles + per_group * block + 64);
    if (!mem)
        return MMK_ENOMEM;
    const room at = { mem, mem + fresh, mem + fresh + wide + tiles, (float *)(void *)(mem + fresh + wide) };
    if (ops->begin)
        ops->begin();
    for (size_t g = 0; g < groups; g++) {
        size_t row = m0 + cut(m1 - m0, unit, groups, g), rows = m0 + cut(m1 - m0, unit, groups, g + 1) - row;
        size_t blocks = mmk_ceil_div(rows, mr);
        pack_rows(j, row, rows, blocks, at.rows);
        do group(j, row, rows, blocks, p0, p1, &at);
        while (panels && take(panels, &p0, &p1));
    }
    if (ops->end)
        ops->end();
    return MMK_OK;
}

/* The grid of threads, rows x columns of it, with the least work for a thread: multiply-adds of its rectangle, plus what
 * packing a row or fetching a column of W from beyond L2 costs, about 16 multiply-adds per element either, and packing one as much again. */
static void choose_grid(size_t m, size_t panels, const mmk_mat *w, int threads, int *tm, int *tn)
{
    double best = 0, fetch = w->panels ? 16 : 32;
    for (int t = 1; t <= threads; t++) {
        double rows = (double)mmk_ceil_div(m, (size_t)t), cols = (double)(mmk_ceil_div(panels, (size_t)(threads / t)) * (size_t)w->ops->nr);
        double cost = rows * cols + 16 * rows + fetch * cols;
        if (t == 1 || cost < best) {
            best = cost;
            *tm = t;
            *tn = threads / t;
        }
    }
}

/* How threads share C: a rectangle each, or piece by piece as each is free. */
typedef struct sharing {
    int threads, tm, tn; /* rows x columns of rectangles */
    size_t rows, panels; /* not 0: the least piece is so many */
} sharing;

static sharing choose_sharing(const mmk_job *jobs, size_t njobs, int threads)
{
    const mmk_mat *w = jobs->w;
    size_t m = jobs->m, mr = (size_t)w->ops->mr, least = mmk_ceil_div(PIECE_ROWS, mr) * mr, panels = mmk_ceil_div(w->n, (size_t)w->ops->nr);
    double flop = 0;
    sharing s = { 1, 1, 1, 0, 0 };
    for (size_t i = 0; i < njobs; i++) flop += 2.0 * (double)m * (double)w->n * (double)jobs[i].w->k;
    double worth = flop / MMK_FLOP_PER_THREAD, bytes = (double)(panels * w->panel_bytes) / MMK_BYTES_PER_THREAD;
    if ((m <= FEW_ROWS || !w->panels) && bytes > worth)
        worth = bytes;
    if (threads > 1 && worth < threads)
        threads = (int)worth;
    if (threads <= 1)
        return s;
    s.threads = threads;
    if (w->panels && worth >= PIECES_FROM * threads && m >= 2 * least * (size_t)threads)
        s.rows = least;
    else if (worth >= PIECES_FROM * threads && njobs == 1 && mmk_ceil_div(m, mr) <= group_blocks(w)) {
        size_t np = (size_t)w->ops->panels((int)cut(m, (size_t)w->ops->row_unit, mmk_ceil_div(m, mr), 1));
        s.panels = mmk_ceil_div(PIECE_COLUMNS, np * (size_t)w->ops->nr) * np;
    } else {
        choose_grid(m, panels, w, threads, &s.tm, &s.tn);
        s.threads = s.tm * s.tn;
    }
    return s;
}

int mmk_gemm_jobs(const mmk_job *jobs, size_t njobs, int threads)
{
    const mmk_mat *w = jobs->w;
    if (jobs->m == 0)
        return MMK_OK;
    const sharing s = choose_sharing(jobs, njobs, threads);
    size_t m = jobs->m, panels = mmk_ceil_div(w->n, (size_t)w->ops->nr), unit = (size_t)w->ops->row_unit;
    pieces shared = { 0, s.rows ? m : panels, s.rows ? s.rows : s.panels, s.threads };
    int status = MMK_OK;
#pragma omp parallel for num_threads(s.threads) schedule(static, 1) if (s.threads > 1)
    for (int t = 0; t < s.threads; t++) {
        size_t i = (size_t)(t / s.tn), k = (size_t)(t % s.tn);
        size_t m0 = cut(m, unit, (size_t)s.tm, i), m1 = cut(m, unit, (size_t)s.tm, i + 1);
        size_t p0 = cut(panels, 1, (size_t)s.tn, k), p1 = cut(panels, 1, (size_t)s.tn, k + 1);
        int r = MMK_OK;
        if (s.panels)
            r = rectangle(jobs, 0, m, 0, panels, &shared);
        else
            for (int more = !s.rows || take(&shared, &m0, &m1); more && r == MMK_OK; more = s.rows && take(&shared, &m0, &m1))
                for (size_t x = 0; x < njobs && r == MMK_OK; x++) r = rectangle(&jobs[x], m0, m1, p0, p1, NULL);
        if (r != MMK_OK) {
#pragma omp atomic write
            status = r;
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

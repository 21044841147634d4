/* gemm_avx512.c - float32, float16 and bfloat16 weights by AVX-512F FMA. Flags: -mavx512f -mavx512bw -mavx512dq -mavx512vl.
 *
 * A panel is 32 columns (two registers), a block up to 14 rows: 28 accumulators + 2 of W + 1 broadcast = 31 registers, and
 * per step of K 28 FMA (14 cycles on two ports) against 16 loads (8 cycles). With few rows several panels run side by
 * side, so that at least 12 accumulators hide the 4 cycles of FMA latency.
 * Each element is one chain of FMA over k = 0, 1, ...: its bits do not depend on how many rows and panels run beside it.
 * 16-bit weights stay 16 bits in the panel, [k][32], and are widened on load (exactly); q8_0 weights become float16. */
#include "kernels/gemm_int.h"
#include "kernels/x86/vec_avx512.h"
#include <string.h>

enum { NR = 32, MR = 14 };

static size_t a_step(int rows)
{
    return (size_t)rows * sizeof(float);
}

static int panels(int rows)
{
    static const int by_rows[MR + 1] = { 1, 6, 6, 4, 3, 2, 2, 2 };
    return by_rows[rows] ? by_rows[rows] : 1;
}

/* Two registers of W: columns 0-15 and 16-31 of one step. */
typedef void load_fn(const char *p, __m512 *w0, __m512 *w1);

static inline void load_f32(const char *p, __m512 *w0, __m512 *w1)
{
    *w0 = _mm512_load_ps((const float *)(const void *)p);
    *w1 = _mm512_load_ps((const float *)(const void *)p + 16);
}

static inline void load_f16(const char *p, __m512 *w0, __m512 *w1)
{
    *w0 = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
    *w1 = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p + 1));
}

static inline __m512 from_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline void load_bf16(const char *p, __m512 *w0, __m512 *w1)
{
    *w0 = from_bf16(_mm256_load_si256((const __m256i *)(const void *)p));
    *w1 = from_bf16(_mm256_load_si256((const __m256i *)(const void *)p + 1));
}

/* The micro-kernel: sums of rows x np panels; rows, np and load are constants wherever it is inlined. `wide`, or NULL: the panel in float32. */
static inline __attribute__((always_inline)) void sums(__m512 *acc, const float *a, const char *b, size_t b_stride,
                                                       size_t steps, int rows, int np, load_fn *load, size_t b_step, float *wide)
{
#pragma GCC unroll 28
    for (int i = 0; i < rows * np * 2; i++)
        acc[i] = _mm512_setzero_ps();
    for (size_t s = 0; s < steps; s++) {
#pragma GCC unroll 6
        for (int p = 0; p < np; p++) {
            __m512 w0, w1;
            const char *w = b + (size_t)p * b_stride;
            load(w, &w0, &w1);
            if (wide) {
                _mm512_store_ps(wide + s * NR, w0);
                _mm512_store_ps(wide + s * NR + 16, w1);
            }
            _mm_prefetch(w + 2048, _MM_HINT_T0);
            if (b_step > 64)
                _mm_prefetch(w + 2048 + 64, _MM_HINT_T0);
#pragma GCC unroll 14
            for (int r = 0; r < rows; r++) {
                __m512 x = _mm512_set1_ps(a[r]);
                acc[(p * rows + r) * 2] = _mm512_fmadd_ps(x, w0, acc[(p * rows + r) * 2]);
                acc[(p * rows + r) * 2 + 1] = _mm512_fmadd_ps(x, w1, acc[(p * rows + r) * 2 + 1]);
            }
        }
        if (rows > 7)
            _mm_prefetch((const char *)a + 1024, _MM_HINT_T0);
        a += rows;
        b += b_step;
    }
}

static inline __attribute__((always_inline)) void kernel(float *tile, const float *a, const char *b, size_t b_stride,
                                                         size_t steps, int rows, int np, load_fn *load,
                                                         size_t b_step, float *wide)
{
    __m512 acc[MR * 2];
    sums(acc, a, b, b_stride, steps, rows, np, load, b_step, wide);
#pragma GCC unroll 28
    for (int i = 0; i < rows * np * 2; i++)
        _mm512_store_ps(tile + i * 16, acc[i]);
}

static inline __attribute__((always_inline)) void kernel_to(float *c, size_t ldc, const float *a, const char *b, size_t steps,
                                                            int rows, const float *bias, const float *res, size_t ldr,
                                                            load_fn *load, size_t b_step)
{
    __m512 acc[MR * 2];
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        const float *x = c + (size_t)r * ldc;
        _mm_prefetch(x, _MM_HINT_T0);
        _mm_prefetch(x + 16, _MM_HINT_T0);
        _mm_prefetch(x + 31, _MM_HINT_T0);
    }
    sums(acc, a, b, 0, steps, rows, 1, load, b_step, NULL);
    if (bias) {
        __m512 b0 = _mm512_loadu_ps(bias), b1 = _mm512_loadu_ps(bias + 16);
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            acc[2 * r] = _mm512_add_ps(acc[2 * r], b0);
            acc[2 * r + 1] = _mm512_add_ps(acc[2 * r + 1], b1);
        }
    }
    if (res) {
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            const float *x = res + (size_t)r * ldr;
            acc[2 * r] = _mm512_add_ps(acc[2 * r], _mm512_loadu_ps(x));
            acc[2 * r + 1] = _mm512_add_ps(acc[2 * r + 1], _mm512_loadu_ps(x + 16));
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        float *x = c + (size_t)r * ldc;
        _mm512_storeu_ps(x, acc[2 * r]);
        _mm512_storeu_ps(x + 16, acc[2 * r + 1]);
    }
}

#define CASE(r, p, load, step) \
    case r * 8 + p: kernel(tile, a, b, b_stride, steps, r, p, load, step, NULL); break;

#define TO(r, load, step) \
    case r: kernel_to(c, ldc, a, b, steps, r, bias, res, ldr, load, step); break;

#define MUL(dtype, step)                                                                                              \
    static void mul_##dtype(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows,       \
                            int np)                                                                   \
    {                                                                                                                 \
        switch (rows * 8 + np) {                                                                                      \
            CASE(1, 1, load_##dtype, step) CASE(2, 1, load_##dtype, step) CASE(3, 1, load_##dtype, step)              \
            CASE(4, 1, load_##dtype, step) CASE(5, 1, load_##dtype, step) CASE(6, 1, load_##dtype, step)              \
            CASE(7, 1, load_##dtype, step) CASE(8, 1, load_##dtype, step) CASE(9, 1, load_##dtype, step)              \
            CASE(10, 1, load_##dtype, step) CASE(11, 1, load_##dtype, step) CASE(12, 1, load_##dtype, step)           \
            CASE(13, 1, load_##dtype, step) CASE(14, 1, load_##dtype, step) CASE(1, 6, load_##dtype, step)            \
            CASE(2, 6, load_##dtype, step) CASE(3, 4, load_##dtype, step) CASE(4, 3, load_##dtype, step)              \
            CASE(5, 2, load_##dtype, step) CASE(6, 2, load_##dtype, step) CASE(7, 2, load_##dtype, step)              \
        default: break;                                                                                               \
        }                                                                                                             \
    }                                                                                                                 \
    static void mul_to_##dtype(float *c, size_t ldc, const void *a, const void *b, size_t steps, int rows,            \
                               const float *bias, const float *res, size_t ldr)                                       \
    {                                                                                                                 \
        switch (rows) {                                                                                               \
            TO(1, load_##dtype, step) TO(2, load_##dtype, step) TO(3, load_##dtype, step) TO(4, load_##dtype, step)   \
            TO(5, load_##dtype, step) TO(6, load_##dtype, step) TO(7, load_##dtype, step) TO(8, load_##dtype, step)   \
            TO(9, load_##dtype, step) TO(10, load_##dtype, step) TO(11, load_##dtype, step)                           \
            TO(12, load_##dtype, step) TO(13, load_##dtype, step) TO(14, load_##dtype, step)                          \
        default: break;                                                                                               \
        }                                                                                                             \
    }

MUL(f32, 128)
MUL(f16, 64)
MUL(bf16, 64)

#define WIDE(r, load) \
    case r: kernel(tile, a, b, 0, steps, r, 1, load, 64, panel); break;

/* Two blocks or more: the first has 8 rows at least. */
#define MUL_WIDEN(dtype)                                                                                                    \
    static void mul_widen_##dtype(float *tile, void *panel, const void *a, const void *b, size_t steps, int rows)           \
    {                                                                                                                       \
        switch (rows) {                                                                                                     \
            WIDE(8, load_##dtype) WIDE(9, load_##dtype) WIDE(10, load_##dtype) WIDE(11, load_##dtype) WIDE(12, load_##dtype) \
            WIDE(13, load_##dtype) WIDE(14, load_##dtype)                                                                   \
        default: break;                                                                                                     \
        }                                                                                                                   \
    }

MUL_WIDEN(f16)
MUL_WIDEN(bf16)

/* 16 rows from k on, transposed: out[i] holds element k + i of the 16 rows. */
static void gather16(__m512 out[16], const void *const *rows, int n, size_t k, __mmask16 valid,
                     __m512 (*get)(const char *row, size_t k, __mmask16 valid))
{
    for (int i = 0; i < 16; i++)
        out[i] = i < n ? get(rows[i], k, valid) : _mm512_setzero_ps();
    transpose16(out);
}

static __m512 get_f32(const char *row, size_t k, __mmask16 valid)
{
    return _mm512_maskz_loadu_ps(valid, row + 4 * k);
}

static __m512 get_q8_0(const char *row, size_t k, __mmask16 valid)
{
    const char *block = row + k / 32 * 34;
    uint16_t half;
    (void)valid; /* K is a multiple of 32, a call takes half a block */
    memcpy(&half, block, sizeof half);
    return _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(half)),
                         _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(block + 2 + k % 32)))));
}

/* Both halves of a panel by blocks of 16 x 16; 16 elements of a row are `part` bytes */
#define PACK(dtype, step, part, STORE)                                                             \
    static void pack_##dtype(void *dst, const void *const *rows, int n, size_t k)                  \
    {                                                                                              \
        for (size_t i = 0; i < k; i += 16) {                                                       \
            mmk_fetch_panel(rows, n, NR, k * part / 16, i * part / 16, part);                      \
            for (int h = 0; h < 2; h++) {                                                          \
                __m512 t[16];                                                                      \
                size_t m = k - i < 16 ? k - i : 16;                                                \
                char *d = (char *)dst + i * step + (size_t)h * (step / 2);                         \
                gather16(t, rows + 16 * h, n - 16 * h, i, (__mmask16)((1u << m) - 1), get_##dtype); \
                for (size_t j = 0; j < m; j++, d += step)                                          \
                    STORE;                                                                         \
            }                                                                                      \
        }                                                                                          \
    }

PACK(f32, 128, 64, _mm512_store_ps((void *)d, t[j]))
/* d q rounded to float16: off by 2^-12 at most, where q8_0 itself is off by up to 2^-8 */
PACK(q8_0, 64, 17, _mm256_store_si256((void *)d, _mm512_cvtps_ph(t[j], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)))

static void pack_16(void *dst, const void *const *rows, int n, size_t k)
{
    const char *row[NR];
    char *d = dst;
    size_t i = 0;
    panel_rows(row, rows, n, NR);
    for (; i + 8 <= k; i += 8, d += 8 * 64) {
        __m512i t[8];
        mmk_fetch_panel(rows, n, NR, 2 * k, 2 * i, 16);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) t[j] = load4_avx512(row[j] + 2 * i, row[8 + j] + 2 * i, row[16 + j] + 2 * i, row[24 + j] + 2 * i);
        transpose8_16_avx512(t);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) _mm512_store_si512(d + 64 * j, t[j]);
    }
    for (; i < k; i++)
        for (int j = 0; j < NR; j++, d += 2) memcpy(d, row[j] + 2 * i, 2);
}

/* [k][rows] */
static void pack_a(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    float *d = dst;
    if (rows == 1) {
        memcpy(d, a, k * sizeof *d);
        return;
    }
    __mmask16 some = (__mmask16)((1u << rows) - 1);
    for (size_t i = 0; i < k; i += 16) {
        __m512 t[16];
        size_t m = k - i < 16 ? k - i : 16;
        for (int r = 0; r < 16; r++)
            t[r] = r < rows ? _mm512_maskz_loadu_ps((__mmask16)((1u << m) - 1), a + (size_t)r * lda + i)
                            : _mm512_setzero_ps();
        transpose16(t);
        for (size_t j = 0; j < m; j++, d += rows)
            _mm512_mask_storeu_ps(d, some, t[j]);
    }
}

static void strips(float *dst, size_t stride, const float *src, size_t ld, int width, size_t count, size_t k)
{
    __mmask16 lo = (__mmask16)(width < 16 ? (1u << width) - 1 : 0xffff);
    __mmask16 hi = (__mmask16)(width > 16 ? (1u << (width - 16)) - 1 : 0);
    for (size_t t = 0; t < k; t++) {
        float *d = dst + t * (size_t)width;
        const float *s = src + t * ld;
        for (size_t i = 0; i < count; i++, s += width, d += stride / sizeof *d) {
            _mm512_mask_storeu_ps(d, lo, _mm512_maskz_loadu_ps(lo, s));
            if (hi) _mm512_mask_storeu_ps(d + 16, hi, _mm512_maskz_loadu_ps(hi, s + 16));
        }
    }
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx512(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define OPS(dtype, step, pack, from, ...)                                                                    \
    const mmk_gemm_ops mmk_gemm_##dtype##_avx512 = {                                                         \
        .name = #dtype "_avx512", .nr = NR, .mr = MR, .row_unit = 1, .kstep = 1, .b_step = step, .a_step = a_step, \
        .panels = panels, .pack_b = pack, .pack_a = pack_a, .mul = mul_##from, .mul_to = mul_to_##from, .epilogue = epilogue, \
        .strips = strips, __VA_ARGS__                                                                        \
    }

OPS(f32, 128, pack_f32, f32);
OPS(f16, 64, pack_16, f16, .wide = &mmk_gemm_f32_avx512, .mul_widen = mul_widen_f16);
OPS(bf16, 64, pack_16, bf16, .wide = &mmk_gemm_f32_avx512, .mul_widen = mul_widen_bf16);
OPS(q8_0, 64, pack_q8_0, f16, .wide = &mmk_gemm_f32_avx512, .mul_widen = mul_widen_f16);

/* gemm_amx.c - products of bfloat16 tiles (AMX-BF16, Sapphire Rapids on). One TDPBF16PS multiplies 16 x 32 by 32 x 16 in 16
 * cycles, 15 times the FMA rate per product, so that float32 is worth splitting: x = hi + lo, each a bfloat16, and
 *
 *   f32, f16 weights   a_lo w_hi + a_hi w_hi + a_hi w_lo    error about 2^-16 of sum |a||w|, 4 bytes per weight
 *   bf16 weights       a_lo w + a_hi w                      error about 2^-17, 2 bytes
 *   q8_0 weights       a_hi bf16(d q)                       error about 2^-8 per term at random signs: cosine to the exact
 *                      product 1 - 2e-6, five times closer than q8_0 itself is to the weights it stands for; 2 bytes.
 *                      (int8 tiles would need a float correction for each 32-block, a tile store per half-filled product.)
 *
 * Sums are float32, K in order, the products of a step in the order above: bits depend on K alone. AMX treats denormal
 * inputs as zero and flushes denormal results to zero: absolute errors up to k 2^-126. Magnitudes over 3.38e38 and
 * infinities give NaN (lo = Inf - Inf).
 *
 * A panel is 64 columns, two halves one after the other: per 32 of K the tiles h0 h1 l0 l1 (1 KiB each, 16 pairs of K x 16
 * columns x 2). A block
 * is 1 or 2 tiles of 16 rows, missing rows zero: 2 x 2 tiles of C twice, or 1 x 4 - four independent sums either way,
 * which the latency of 52 cycles needs. */
#include "kernels/gemm_int.h"
#include "kernels/kern_int.h"
#include "kernels/x86/vec_avx512.h"
#include <stdint.h>
#include <string.h>

enum { NR = 64, MR = 32, KS = 32, TILE = 1024 };

/* Tiles 0-3 are C, 4-5 A, the others W; all 16 rows x 64 bytes. A constant, for gcc 12 does not see that
 * _tile_loadconfig reads more than a pointer's width and drops stores to a local one. */
static void begin(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } cfg = { 1, 0, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 }, { 16, 16, 16, 16, 16, 16, 16, 16 } };
    _tile_loadconfig(&cfg);
}

static void end(void)
{
    _tile_release();
}

static size_t a_step_split(int rows)
{
    return rows > 16 ? 4 * TILE : 2 * TILE;
}

static size_t a_step_hi(int rows)
{
    return rows > 16 ? 2 * TILE : TILE;
}

static int panels(int rows)
{
    (void)rows;
    return 1;
}

#define STORE_C2X2(t)                    \
    do {                                 \
        _tile_stored(0, (t), 256);       \
        _tile_stored(1, (t) + 16, 256);  \
        _tile_stored(2, (t) + 1024, 256); \
        _tile_stored(3, (t) + 1040, 256); \
    } while (0)
#define STORE_C1X4(t)                   \
    do {                                \
        _tile_stored(0, (t), 256);      \
        _tile_stored(1, (t) + 16, 256); \
        _tile_stored(2, (t) + 32, 256); \
        _tile_stored(3, (t) + 48, 256); \
    } while (0)
#define ZERO_C()       \
    do {               \
        _tile_zero(0); \
        _tile_zero(1); \
        _tile_zero(2); \
        _tile_zero(3); \
    } while (0)
#define DOT2X2()                 \
    do {                         \
        _tile_dpbf16ps(0, 4, 6); \
        _tile_dpbf16ps(2, 5, 6); \
        _tile_dpbf16ps(1, 4, 7); \
        _tile_dpbf16ps(3, 5, 7); \
    } while (0)

/* First tiles of a 2 x 2 block into 4-7. */
#define LOAD2X2(a, w)                     \
    do {                                  \
        _tile_loadd(6, (w), 64);          \
        _tile_loadd(7, (w) + TILE, 64);   \
        _tile_loadd(4, (a), 64);          \
        _tile_loadd(5, (a) + TILE, 64);   \
    } while (0)

/* a: lo (if wa == 2) then hi tiles of both row tiles; W tiles of one half panel at w, b_step apart. wa, wb: bfloat16 parts
 * of A and W. The tiles of the first step are in place, and before C is stored those of the next block are loaded
 * (next_w, with the same A; or NULL), for tile loads do not run ahead of tile stores. */
static inline __attribute__((always_inline)) void mul2x2(float *c, const char *a, const char *w, const char *next_w,
                                                         size_t b_step, size_t steps, int wa, int wb)
{
    const char *first = a;
    ZERO_C();
    for (size_t s = 0; s < steps; s++) {
        if (s > 0)
            LOAD2X2(a, w);
        if (wa == 2) {
            DOT2X2();
            a += 2 * TILE;
            _tile_loadd(4, a, 64);
            _tile_loadd(5, a + TILE, 64);
        }
        a += 2 * TILE;
        DOT2X2();
        if (wb == 2) {
            _tile_loadd(6, w + 2 * TILE, 64);
            _tile_loadd(7, w + 3 * TILE, 64);
            DOT2X2();
        }
        w += b_step;
    }
    if (next_w)
        LOAD2X2(first, next_w);
    STORE_C2X2(c);
}

static inline __attribute__((always_inline)) void mul1x4(float *c, const char *a, const char *w, size_t b_step,
                                                         size_t steps, int wa, int wb)
{
    const size_t half = steps * b_step;
    ZERO_C();
    for (size_t s = 0; s < steps; s++) {
        if (wa == 2) { /* a step of W is 4 KiB or more: the second read comes from L1 */
            _tile_loadd(4, a, 64);
            _tile_loadd(5, a + TILE, 64);
            _tile_loadd(6, w, 64);
            _tile_loadd(7, w + TILE, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(0, 5, 6);
            _tile_dpbf16ps(1, 5, 7);
            _tile_loadd(6, w + half, 64);
            _tile_loadd(7, w + half + TILE, 64);
            _tile_dpbf16ps(2, 4, 6);
            _tile_dpbf16ps(3, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            a += 2 * TILE;
        } else {
            _tile_loadd(5, a, 64);
            a += TILE;
            _tile_loadd(6, w, 64);
            _tile_loadd(7, w + TILE, 64);
            _tile_dpbf16ps(0, 5, 6);
            _tile_dpbf16ps(1, 5, 7);
            _tile_loadd(6, w + half, 64);
            _tile_loadd(7, w + half + TILE, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        if (wb == 2) {
            _tile_loadd(6, w + 2 * TILE, 64);
            _tile_loadd(7, w + 3 * TILE, 64);
            _tile_dpbf16ps(0, 5, 6);
            _tile_dpbf16ps(1, 5, 7);
            _tile_loadd(6, w + half + 2 * TILE, 64);
            _tile_loadd(7, w + half + 3 * TILE, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        w += b_step;
    }
    STORE_C1X4(c);
}

#define MUL(name, wa, wb)                                                                                        \
    static void name(float *tile, const void *a, const void *b, size_t b_stride, size_t steps, int rows, int np) \
    {                                                                                                            \
        const size_t b_step = 2 * wb * TILE;                                                                     \
        const char *w = b, *half = w + steps * b_step;                                                           \
        (void)b_stride;                                                                                          \
        (void)np;                                                                                                \
        if (rows > 16) {                                                                                         \
            LOAD2X2((const char *)a, w);                                                                         \
            mul2x2(tile, a, w, half, b_step, steps, wa, wb);                                                     \
            mul2x2(tile + 32, a, half, NULL, b_step, steps, wa, wb);                                             \
        } else {                                                                                                 \
            mul1x4(tile, a, w, b_step, steps, wa, wb);                                                           \
        }                                                                                                        \
    }

MUL(mul_split, 2, 2)
MUL(mul_bf16, 2, 1)
MUL(mul_q8_0, 1, 1)

/* 32 floats as bfloat16, to nearest even, in order. */
static inline __m512i narrow(__m512 x0, __m512 x1)
{
    return (__m512i)_mm512_cvtne2ps_pbh(x1, x0);
}

static inline __m512 widen(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* What narrow() lost. */
static inline __m512i narrow_rest(__m512 x0, __m512 x1, __m512i hi)
{
    return narrow(_mm512_sub_ps(x0, widen(_mm512_castsi512_si256(hi))),
                  _mm512_sub_ps(x1, widen(_mm512_extracti64x4_epi64(hi, 1))));
}

static inline void get_f32(const char *row, size_t k, __mmask32 valid, __m512 *x0, __m512 *x1)
{
    *x0 = _mm512_maskz_loadu_ps((__mmask16)valid, row + 4 * k);
    *x1 = _mm512_maskz_loadu_ps((__mmask16)(valid >> 16), row + 4 * k + 64);
}

static inline void get_f16(const char *row, size_t k, __mmask32 valid, __m512 *x0, __m512 *x1)
{
    __m512i h = _mm512_maskz_loadu_epi16(valid, row + 2 * k);
    *x0 = _mm512_cvtph_ps(_mm512_castsi512_si256(h));
    *x1 = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(h, 1));
}

static inline void get_q8_0(const char *row, size_t k, __mmask32 valid, __m512 *x0, __m512 *x1)
{
    const char *block = row + k / 32 * 34;
    uint16_t half;
    (void)valid; /* K is a multiple of 32 */
    memcpy(&half, block, sizeof half);
    __m512 d = _mm512_set1_ps(_cvtsh_ss(half));
    *x0 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(block + 2)))));
    *x1 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(block + 18)))));
}

typedef void get_fn(const char *row, size_t k, __mmask32 valid, __m512 *x0, __m512 *x1);

static inline __mmask32 valid_at(size_t i, size_t k)
{
    return k - i < 32 ? (1u << (k - i)) - 1 : 0xffffffffu;
}

static void store_tile(char *dst, __m512 t[16])
{
    transpose16(t);
    for (int i = 0; i < 16; i++)
        _mm512_store_ps((float *)(void *)(dst + 64 * i), t[i]);
}

/* 16 rows from rows[0], one step: the pairs of K of a row are 16 lanes, transposed they are a tile. */
static inline __attribute__((always_inline)) void pack_tiles(char *dst, const void *const *rows, int n, size_t i,
                                                             size_t k, get_fn *get, int wb)
{
    __m512 hi[16], lo[16];
    for (int j = 0; j < 16; j++) {
        __m512 x0 = _mm512_setzero_ps(), x1 = x0;
        if (j < n)
            get(rows[j], i, valid_at(i, k), &x0, &x1);
        __m512i h = narrow(x0, x1);
        hi[j] = _mm512_castsi512_ps(h);
        lo[j] = _mm512_castsi512_ps(narrow_rest(x0, x1, h));
    }
    store_tile(dst, hi);
    if (wb == 2)
        store_tile(dst + 2 * TILE, lo);
}

static inline __attribute__((always_inline)) void pack(char *dst, const void *const *rows, int n, size_t k, get_fn *get,
                                                       int wb)
{
    for (int half = 0; half < 2; half++, rows += 32, n -= 32)
        for (size_t i = 0; i < k; i += KS, dst += 2 * wb * TILE)
            for (int c = 0; c < 2; c++)
                pack_tiles(dst + c * TILE, rows + 16 * c, n - 16 * c, i, k, get, wb);
}

static void pack_f32(void *dst, const void *const *rows, int n, size_t k)
{
    pack(dst, rows, n, k, get_f32, 2);
}

static void pack_f16(void *dst, const void *const *rows, int n, size_t k)
{
    pack(dst, rows, n, k, get_f16, 2);
}

static void pack_q8_0(void *dst, const void *const *rows, int n, size_t k)
{
    pack(dst, rows, n, k, get_q8_0, 1);
}

/* Copied bit for bit. */
static void pack_bf16(void *dst, const void *const *rows, int n, size_t k)
{
    char *d = dst;
    for (int half = 0; half < 2; half++, rows += 32, n -= 32)
        for (size_t i = 0; i < k; i += KS)
            for (int c = 0; c < 2; c++, d += TILE) {
                __m512 t[16];
                for (int j = 0; j < 16; j++)
                    t[j] = 16 * c + j < n ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(
                                                valid_at(i, k), (const char *)rows[16 * c + j] + 2 * i))
                                          : _mm512_setzero_ps();
                store_tile(d, t);
            }
}

/* Per step the tiles lo0 lo1 hi0 hi1 (one row tile: lo hi; parts == 1: hi only); rows beyond `rows` are zero. */
static inline __attribute__((always_inline)) void pack_rows(char *dst, const float *a, size_t lda, int rows, size_t k,
                                                            int parts)
{
    int tiles = rows > 16 ? 2 : 1;
    size_t step = (size_t)(tiles * parts * TILE), hi_at = (size_t)(tiles * (parts - 1) * TILE);
    for (int r = 0; r < 16 * tiles; r++) {
        char *d = dst + r * 64;
        for (size_t i = 0; i < k; i += KS, d += step) {
            __m512 x0 = _mm512_setzero_ps(), x1 = x0;
            if (r < rows)
                get_f32((const char *)(a + (size_t)r * lda), i, valid_at(i, k), &x0, &x1);
            __m512i hi = narrow(x0, x1);
            _mm512_store_si512(d + hi_at, hi);
            if (parts == 2)
                _mm512_store_si512(d, narrow_rest(x0, x1, hi));
        }
    }
}

static void pack_a_split(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    pack_rows(dst, a, lda, rows, k, 2);
}

static void pack_a_hi(void *dst, const float *a, size_t lda, int rows, size_t k)
{
    pack_rows(dst, a, lda, rows, k, 1);
}

static void epilogue(float *c, size_t ldc, const float *tile, int rows, int cols, const float *bias, const float *res,
                     size_t ldr, mmk_act act)
{
    epilogue_avx512(c, ldc, tile, NR, rows, cols, bias, res, ldr, act);
}

#define OPS(dtype, wb, step_fn, pack_fn, mul_fn)                                                                 \
    const mmk_gemm_ops mmk_gemm_##dtype##_amx = {                                                                \
        .name = #dtype "_amx", .nr = NR, .mr = MR, .row_unit = 16, .kstep = KS, .b_step = 4 * wb * TILE, \
        .a_step = step_fn, .panels = panels, .pack_b = pack_##dtype, .pack_a = pack_fn, .mul = mul_fn,           \
        .epilogue = epilogue, .begin = begin, .end = end,                                                        \
    }

OPS(f32, 2, a_step_split, pack_a_split, mul_split);
OPS(f16, 2, a_step_split, pack_a_split, mul_split);
OPS(bf16, 1, a_step_split, pack_a_split, mul_bf16);
OPS(q8_0, 1, a_step_hi, pack_a_hi, mul_q8_0);

void mmk_fill_amx(mm_kern *k)
{
    k->gemm[MMK_FMT_F32] = &mmk_gemm_f32_amx;
    k->gemm[MMK_FMT_F16] = &mmk_gemm_f16_amx;
    k->gemm[MMK_FMT_BF16] = &mmk_gemm_bf16_amx;
    k->gemm[MMK_FMT_Q8_0] = &mmk_gemm_q8_0_amx;
}

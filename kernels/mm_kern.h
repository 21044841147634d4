/* mm_kern.h - the table of numeric kernels: one pointer per operation, filled with readable C (kernels/ref, the truth) and
 * then overwritten level by level with what this CPU can do.
 *
 *   const mm_kern *k = mm_kern_get();          detected once; MM_CPU=avx2 (or ref, avx512, ...) masks higher levels
 *   k->layer_norm(y, x, NULL, gain, bias, rows, d, 1e-5f);
 *
 * Rules for every kernel: any n (0 too), any alignment, no allocation unless stated, no state; NaN and infinities come out
 * where IEEE arithmetic brings them. A result never depends on threads or on other rows. Results of different levels
 * differ by rounding only; tests/kern/check_kern holds each against ref with the stated bound. Accumulation is in float32
 * unless stated, in double in ref. Matrix products and attention: mm_gemm.h. Vector search: mm_scan.h. Training: mm_grad.h. */
#ifndef MM_KERN_H
#define MM_KERN_H

#include <stddef.h>
#include <stdint.h>
#include "kernels/mm_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Levels, as flags; a higher one of the same family implies the lower ones. */
enum {
    MM_CPU_AVX2 = 1,        /* with FMA, F16C */
    MM_CPU_AVX512 = 2,      /* F, BW, DQ, VL */
    MM_CPU_AVX512VNNI = 4,
    MM_CPU_AVX512BF16 = 8,
    MM_CPU_AMX = 16,        /* tile, bf16, int8; permission from the kernel obtained */
    MM_CPU_NEON = 32,
    MM_CPU_DOTPROD = 64,
    MM_CPU_I8MM = 128
};

/* Storage formats that weights and vectors come in (index of arrays in the table). */
enum { MMK_FMT_F32, MMK_FMT_F16, MMK_FMT_BF16, MMK_FMT_Q8_0, MMK_NFMT };
/* and those that matrices of products may have besides */
enum { MMK_FMT_Q4_0 = MMK_NFMT, MMK_FMT_Q4_1, MMK_NGEMM };

struct mmk_adamw;
struct mmk_gemm_ops;
struct mmk_attn_ops;
struct mmk_attn_grad_ops;
struct mmk_scan_ops;

typedef struct mm_kern {
    unsigned flags;

    /* sum a[i] b[i]; |error| <= n eps sum |a b| */
    float (*dot_f32)(const float *a, const float *b, size_t n);

    /* A row of n elements to float32, exactly (F32: a copy). q8_0: GGUF blocks of 34 bytes, n a multiple of 32. */
    void (*to_f32[MMK_NFMT])(float *out, const void *row, size_t n);
    /* and back: round to nearest even; q8_0: d = max|x| / 127 as binary16, q = round(x * (1/d)) half away from zero, as
     * the published quantiser does; a block with d below FLT_MIN (a zero one) gives q = 0. x finite for q8_0. */
    void (*from_f32[MMK_NFMT])(void *out, const float *x, size_t n);
    /* q[i] = round(x[i] * 127 / max|x|) to nearest even; returns max|x| / 127. q = 0 where that is below FLT_MIN (a zero row).
     * x finite. */
    float (*to_i8)(int8_t *q, const float *x, size_t n);

    /* Rows [rows, d]: s = x + res (res may be NULL); y = (s - mean) / sqrt(var + eps) * gain + bias. Mean and variance in
     * two passes. y may be x. */
    void (*layer_norm)(float *y, const float *x, const float *res, const float *gain, const float *bias, size_t rows,
                       size_t d, float eps);
    /* y = x / sqrt(mean x^2 + eps) * gain. y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *gain, size_t rows, size_t d, float eps);
    /* x[i] = act(x[i]); absolute error <= 4e-7 max(1, |x|) */
    void (*act)(float *x, size_t n, mmk_act act);
    /* Rows [rows, n], ldx floats apart, in place: exp(x - max) / sum. n > 0. A row of -INFINITY only gives NaN. */
    void (*softmax)(float *x, size_t rows, size_t n, size_t ldx);
    /* out[d] = mean or maximum over n > 0 rows, ldx floats apart. */
    void (*pool_mean)(float *out, const float *x, size_t n, size_t d, size_t ldx);
    void (*pool_max)(float *out, const float *x, size_t n, size_t d, size_t ldx);
    /* Every row of [rows, d] to length 1, without overflow or underflow of the squares; a zero row stays as it is.
     * Returns the number of zero rows. x finite. */
    size_t (*l2_normalize)(float *x, size_t rows, size_t d);

    /* ---- training (mm_grad.h). Rows may be split between calls anywhere but where sums over rows are asked for: dgain
     * and dbias depend on where a caller cuts. ---- */

    /* Of layer_norm without res; dy, x [rows, d]. dx is written and may be dy; dgain and dbias [d] are added to, either may
     * be NULL. Mean and variance are computed again. */
    void (*layer_norm_grad)(float *dx, float *dgain, float *dbias, const float *dy, const float *x, const float *gain,
                            size_t rows, size_t d, float eps);
    /* dz = dy act'(z), z being what act was given; dz may be dy. Error <= 1e-6 max(1, |z|) |dy|. relu: 0 at 0. */
    void (*act_grad)(float *dz, const float *dy, const float *z, size_t n, mmk_act act);
    /* In place, x [rows, heads, head_dim], rows ldx floats apart: the pair (x[i], x[i + head_dim / 2]) of every head is turned
     * by the angle of row and i, i < head_dim / 2, of which cos and sin [rows, head_dim / 2] are given; back: by the
     * opposite angle, which is the inverse and the gradient. head_dim even. */
    void (*rotary)(float *x, const float *cos, const float *sin, size_t rows, size_t heads, size_t head_dim, size_t ldx,
                   int back);
    /* Of l2_normalize: y = its result, norm [rows] = the lengths before; dx = (dy - y (y dy)) / norm, zeros where norm is 0.
     * dx may be dy. */
    void (*l2_normalize_grad)(float *dx, const float *dy, const float *y, const float *norm, size_t rows, size_t d);
    /* Rows [rows, n], n > 0: loss[r] = -sum target log softmax(logits), a target of 0 adding nothing whatever the logit;
     * dlogits = scale (softmax sum(target) - target). target [rows, n] >= 0 need not sum to 1. dlogits may be logits, or
     * NULL (loss only). */
    void (*softmax_ce)(float *dlogits, float *loss, const float *logits, const float *target, size_t rows, size_t n,
                       float scale);
    /* A step of the optimizer on n weights: w, m, v in place (mm_grad.h) */
    void (*adamw)(float *w, const float *g, float *m, float *v, size_t n, const struct mmk_adamw *h);
    /* y += a x */
    void (*axpy)(float *y, float a, const float *x, size_t n);
    /* sum x[i]^2 in double; the order of additions depends on the level and on n alone. A norm over parts is reproducible
     * where the parts are. */
    double (*sumsq)(const float *x, size_t n);

    const struct mmk_gemm_ops *gemm[MMK_NGEMM]; /* NULL: this level has none */
    const struct mmk_gemm_ops *matmul; /* float32, products of activations */
    const struct mmk_attn_ops *attn;
    const struct mmk_attn_grad_ops *attn_grad;
    const struct mmk_scan_ops *scan;
} mm_kern;

/* The table of this process: CPU detected and MM_CPU read at the first call. Never NULL, static storage, any thread. */
const mm_kern *mm_kern_get(void);
/* Fill *k for these flags (masked by what the CPU has, so that a test may ask for anything). */
void mm_kern_init(mm_kern *k, unsigned flags);
/* What this CPU and operating system allow, MM_CPU not considered. */
unsigned mm_cpu_flags(void);

/* "avx512vnni" for the highest level in the table; "ref" for none. */
const char *mm_kern_level_name(const mm_kern *k);
/* Is `name` a level of any architecture? And all of this architecture's, "ref, avx2, ...". */
int mm_cpu_level_known(const char *name);
const char *mm_cpu_level_list(void);
/* Flags of a level by name, lower levels included, without asking the CPU; 0 for ref and unknown names. */
unsigned mm_cpu_level_flags(const char *name);

/* GGUF type number (0 f32, 1 f16, 30 bf16, 8 q8_0) -> MMK_FMT_*, or -1. */
int mmk_fmt(int dtype);
/* Row of that type to float32; dtype must be one that mmk_fmt knows. */
static inline void mmk_row_to_f32(const mm_kern *k, float *out, const void *row, int dtype, size_t n)
{
    k->to_f32[mmk_fmt(dtype)](out, row, n);
}

#ifdef __cplusplus
}
#endif
#endif

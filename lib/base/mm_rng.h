/* mm_rng.h - random numbers that are a function of where they are used, not of what was drawn before.
 *
 *   mm_rng r = mm_rng_at(seed, MY_STREAM, step, slot);
 *   float angle = mm_rng_range(&r, -6, 6);
 *
 * A stream is named by (seed, stream, a, b); its numbers are splitmix64's (Steele, Lea, Flood 2014) from a start that all four are
 * hashed into. Whoever draws at step s gets the same numbers in any thread and after any resume. Not for secrets. */
#ifndef MM_RNG_H
#define MM_RNG_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_rng {
    uint64_t s;
} mm_rng;

static inline uint64_t mm_rng_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
static inline mm_rng mm_rng_at(uint64_t seed, uint64_t stream, uint64_t a, uint64_t b)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    mm_rng r = { mm_rng_mix(mm_rng_mix(mm_rng_mix(mm_rng_mix(seed + step) + stream + step) + a + step) + b + step) };
    return r;
}
static inline uint64_t mm_rng_next(mm_rng *r) { return mm_rng_mix(r->s += UINT64_C(0x9e3779b97f4a7c15)); }
/* 0 <= x < 1, 24 bits */
static inline float mm_rng_unit(mm_rng *r) { return (float)(mm_rng_next(r) >> 40) * 0x1p-24f; }
static inline float mm_rng_range(mm_rng *r, float low, float high) { return low + (high - low) * mm_rng_unit(r); }
/* 0 .. n - 1 (n 0: 0); the bias is below n / 2^32 */
static inline uint32_t mm_rng_below(mm_rng *r, uint32_t n) { return (uint32_t)((mm_rng_next(r) >> 32) * n >> 32); }
/* One of n by weight: sum [n + 1] are the weights so far, sum[0] = 0, sum[n] > 0. */
static inline size_t mm_rng_weighted(mm_rng *r, const double *sum, size_t n)
{
    double x = (double)(mm_rng_next(r) >> 11) * 0x1p-53 * sum[n];
    size_t lo = 0, hi = n; /* sum[lo] <= x < sum[hi] */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (sum[mid] <= x) lo = mid;
        else hi = mid;
    }
    return lo;
}
static inline float mm_rng_normal(mm_rng *r)
{
    const double u = (double)(mm_rng_next(r) >> 11) * 0x1p-53 + 0x1p-54, v = (double)(mm_rng_next(r) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* The i-th number (i < n) of a permutation of 0 .. n - 1 that `key` names: four Feistel rounds on the next power of four, walked
 * until the result is below n. No table, any i at once. */
static inline uint64_t mm_rng_permute(uint64_t i, uint64_t n, uint64_t key)
{
    unsigned half = 1;
    while (half < 32 && (UINT64_C(1) << 2 * half) < n) half++;
    const uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t l = i >> half, r = i & mask;
        for (uint64_t k = 0; k < 4; k++) {
            const uint64_t t = l ^ (mm_rng_mix(key + r * UINT64_C(0x9e3779b97f4a7c15) + (k << 60)) & mask);
            l = r;
            r = t;
        }
        i = l << half | r;
    } while (i >= n);
    return i;
}

#ifdef __cplusplus
}
#endif
#endif

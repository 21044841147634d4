/* mm_few.h - what a few labelled examples say of their kind, in closed form: no gradient, no steps.
 *
 *   mm_few f = { 0 };
 *   mm_few_fit(&f, x, to, n, dim, 0.6, &err);      x: vectors of n pictures, to: those of their labels' texts
 *   ... f.key, f.value, f.width into a model (mm_uni_config.mod[].few) ...
 *   mm_few_clear(&f);
 *
 * The examples stay as prototypes: a vector z near some of them is moved by what they were moved by,
 *
 *   z' = |z + sum_i value_i 2^(-(1 - z x_i) / width)|
 *
 * with values by kernel ridge regression of share (to_i - x_i) on the examples. Why this form:
 * - It is the pictures that move, towards the text of their label, and not the text towards them: texts and sounds meet where texts are, so one
 *   correction is good for questions by either, and vectors of texts and sounds keep their bits.
 * - A linear map instead (ridge regression towards the identity) finds new classes as well, but turns everything else with them: 160 handwritten
 *   digits cost 7 points on emoji, 688 photos of groceries 38, where this costs 0 and 1. Far from the examples it fades away.
 * - One prototype a class, its mean, gains less by more examples: with 16 digits a class it names 75 %, this 85.
 * width: the median distance of an example to its nearest, where its influence is half. share: how far the way goes; 1 pulls what is near
 * wholly to its label, where it gets in the way of what other texts ask for. */
#ifndef MM_FEW_H
#define MM_FEW_H

#include <stddef.h>
#include "base/mm_err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MM_FEW_MOST = 4096 }; /* examples: their system is solved whole */

typedef struct mm_few {
    size_t n, dim;
    double width;
    float *key;   /* [n, dim] the examples. Owned */
    float *value; /* [dim, n]: column i is example i's. Owned */
} mm_few;

/* x, to [n, dim] of length 1 each, n > 0; 0 <= share <= 1. MM_EARG: more than MM_FEW_MOST; MM_EDATA: what is no number. */
MM_API MM_MUST_CHECK int mm_few_fit(mm_few *f, const float *x, const float *to, size_t n, size_t dim, double share, mm_err *err);
MM_API void mm_few_clear(mm_few *f);

#ifdef __cplusplus
}
#endif
#endif

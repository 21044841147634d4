/* uni_made.h - a unified model in memory with random weights, to be embedded with and to be trained; and whether a gradient is right. */
#ifndef UNI_MADE_H
#define UNI_MADE_H
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_rng.h"
#include "model/mm_uni.h"
#include "tap.h"

static mm_uni *made(const mm_uni_config *c)
{
    mm_uni *u = NULL;
    if (mm_uni_new(&u, c, NULL)) exit(4);
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        mm_param *p = &mm_uni_slot_at(u, i)->p;
        p->w = mm_aligned(p->rows * p->cols, sizeof *p->w);
        p->grad = mm_aligned(p->rows * p->cols, sizeof *p->grad);
        if (!p->w || !p->grad) exit(4);
        memset(p->grad, 0, p->rows * p->cols * sizeof *p->grad);
    }
    mm_uni_bind(u);
    mm_uni_init(u, 7);
    for (size_t i = 0; i < mm_uni_count(u); i++) { /* what begins at zero hides mistakes */
        mm_uni_slot *s = mm_uni_slot_at(u, i);
        mm_rng r = mm_rng_at(3, 5, i, 0);
        for (size_t k = 0; k < s->p.rows * s->p.cols; k++) s->p.w[k] += mm_rng_range(&r, -0.1f, 0.1f);
    }
    return u;
}

static void freed(mm_uni *u)
{
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        free(mm_uni_slot_at(u, i)->p.w);
        free(mm_uni_slot_at(u, i)->p.grad);
    }
    mm_uni_free(&u);
}

/* Weights along their gradient: what the loss changes by is what the gradient says. */
static void slope(mm_uni_slot *s, double (*loss)(void *arg), void *arg)
{
    const size_t n = s->p.rows * s->p.cols;
    double square = 0, moved[2];
    for (size_t k = 0; k < n; k++) square += (double)s->p.grad[k] * (double)s->p.grad[k];
    const double len = sqrt(square), step = 0.01 / len;
    if (len < 1e-4) { /* too little to be seen in float32 */
        ok(len > 0 || strstr(s->name, "qkv.bias"), "%s has a gradient", s->name);
        return;
    }
    float *was = malloc(n * sizeof *was);
    if (!was) exit(4);
    memcpy(was, s->p.w, n * sizeof *was);
    for (int side = 0; side < 2; side++) {
        for (size_t k = 0; k < n; k++) s->p.w[k] = was[k] + (float)((side ? -step : step) * (double)s->p.grad[k]);
        moved[side] = loss(arg);
    }
    memcpy(s->p.w, was, n * sizeof *was);
    free(was);
    const double got = (moved[0] - moved[1]) / 0.02;
    ok(fabs(got - len) < 0.02 * len + 5e-5, "%s: slope %.6f, gradient %.6f", s->name, got, len);
}
#endif

/* mm_paint.h - pictures out of noise, or out of other pictures: the rectified flow of a unified model, many pictures at once.
 *
 *   mm_model_open(&m, "default", &(mm_model_opts){ ..., .heads = 1u << MM_UNI_FLOW }, &err);
 *   mm_paint *p;
 *   mm_paint_new(&p, m, &(mm_paint_opts){ .steps = 30, .guidance = 3 }, &err);
 *   mm_paint_job job = { .text = { "a red apple", 11 }, .seed = 7, .out = out };        out [mm_paint_floats()]
 *   mm_paint_run(p, &job, 1, &err);
 *   mm_paint_image(p, out, &image, &err);                                               8-bit RGB
 *   mm_paint_free(&p);
 *
 * From noise z at t = 0 to the picture at t = 1 in equal steps along v = (x - z) / (1 - t), x being what the model takes the picture to be, held
 * within black and white. Guidance g: x = x0 + g (x1 - x0), x1 with the prompt and x0 without (arXiv 2207.12598). A picture that is given is mixed with
 * noise and taken up on the way, at t = 1 - strength. The noise is a function of the job's seed alone: a job's picture has the same bits whatever else
 * is in the call and whatever the number of threads. */
#ifndef MM_PAINT_H
#define MM_PAINT_H

#include "media/mm_media.h"
#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_paint mm_paint;

typedef struct mm_paint_opts {
    size_t steps;   /* of the whole way; 0: 30 */
    float guidance; /* 1: none */
} mm_paint_opts;

typedef struct mm_paint_job {
    mm_text_in text;   /* the prompt; len 0: none */
    uint64_t seed;
    const float *init; /* a picture as mm_model_input_spec() wants it, or NULL */
    float strength;    /* how much of it is noise to begin with: 0 leaves it as it is, 1 nothing of it */
    float *out;        /* the picture, in the same form */
    int code;          /* of its failure (MM_EEMPTY, MM_ELONG, MM_EDATA: the prompt), with err */
    mm_err err;
} mm_paint_job;

/* The model must have been opened with its head, and outlive it. MM_EUNSUP: it has none. */
MM_API MM_MUST_CHECK int mm_paint_new(mm_paint **out, mm_model *m, const mm_paint_opts *opts, mm_err *err);
MM_API void mm_paint_free(mm_paint **p);
MM_API size_t mm_paint_floats(const mm_paint *p);
/* Jobs that fail leave the others alone. MM_ENOMEM ends all. */
MM_API MM_MUST_CHECK int mm_paint_run(mm_paint *p, mm_paint_job *jobs, size_t n, mm_err *err);
/* As 8-bit RGB; the caller clears it. */
MM_API MM_MUST_CHECK int mm_paint_image(const mm_paint *p, const float *picture, mm_image *out, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

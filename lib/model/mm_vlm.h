/* mm_vlm.h - decoders that look at pictures and clips (Idefics3, SmolVLM): what they become, and where they stand in a prompt.
 *
 *   mm_lm_open(&lm, "SmolVLM-256M-Instruct", NULL, &err);
 *   const mm_input_spec *spec = mm_vlm_spec(lm);
 *   mm_input_make(x, spec, &src, NULL, &facts, &err);               squares of the picture: facts.rows x facts.cols of them and the whole
 *   const mm_vlm_picture pic = { facts.rows, facts.cols };
 *   mm_vlm_embed(lm, x, mm_vlm_squares(&pic), embd, &err);
 *   mm_vlm_prompt(lm, text, len, &pic, 1, &out, &err);              "<image>" in the text written out; then mm_tok_encode()
 *   mm_lm_part p = { .ids = ids, .n = n, .embd = embd, .mark = mm_vlm_mark(lm), .logits = 1 };
 *
 * The thread rule is the decoder's. */
#ifndef MM_VLM_H
#define MM_VLM_H

#include "media/mm_input.h"
#include "model/mm_lm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_VLM_IMAGE "<image>" /* stands for a picture in a prompt */

typedef struct mm_vlm_picture {
    int rows, cols; /* of the squares that it was cut into; 0: seen as one */
} mm_vlm_picture;
static inline size_t mm_vlm_squares(const mm_vlm_picture *p) { return (size_t)p->rows * (size_t)p->cols + 1; }

/* How a picture is prepared; NULL: this decoder looks at none. */
MM_API const mm_input_spec *mm_vlm_spec(const mm_lm *lm);
MM_API size_t mm_vlm_tokens(const mm_lm *lm); /* of one square; 0: as above */
MM_API int32_t mm_vlm_mark(const mm_lm *lm);  /* the id that a picture's tokens have in a prompt */

/* A clip of so many seconds is seen as pictures: *spec says of which moments, as many as the model wants and at most `most` (0: no limit), and
 * mm_input_make() gives spec->views squares and their times. MM_EUNSUP: the decoder looks at no pictures. */
MM_API MM_MUST_CHECK int mm_vlm_clip_spec(const mm_lm *lm, double seconds, int most, mm_input_spec *spec, mm_err *err);
/* What a prompt says of those pictures, one "<image>" each, appended to out. MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_vlm_clip_text(double seconds, const float *times, size_t n, mm_buf *out);
/* The text with the tokens of its pictures, appended to out: the i-th "<image>" is pics[i]. MM_EDATA: there are not n of them; MM_EUNSUP: the
 * decoder looks at no pictures; MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_vlm_prompt(const mm_lm *lm, const char *text, size_t len, const mm_vlm_picture *pics, size_t n, mm_buf *out,
                                       mm_err *err);
/* x [squares, 3, height, width] -> embd [squares * mm_vlm_tokens(), mm_lm_width()]. The picture tower's weights are read at its first use.
 * MM_EUNSUP, MM_ENOMEM, or what is wrong with those weights. */
MM_API MM_MUST_CHECK int mm_vlm_embed(mm_lm *lm, const float *x, size_t squares, float *embd, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

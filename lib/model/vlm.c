/* Pictures of a decoder: through the picture tower, and into the text of a prompt. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "model/lm_int.h"
#include "model/mm_vlm.h"

static const mm_tower *tower_of(const mm_lm *lm) { return !lm->m->uni && lm->m->tower[MM_IMAGE].cfg.layers ? &lm->m->tower[MM_IMAGE] : NULL; }

static int blind(mm_err *err) { return mm_fail(err, MM_EUNSUP, "this model looks at no pictures"); }

const mm_input_spec *mm_vlm_spec(const mm_lm *lm) { return tower_of(lm) ? &lm->m->spec[MM_IMAGE] : NULL; }
int32_t mm_vlm_mark(const mm_lm *lm) { return tower_of(lm) ? lm->m->mark : -1; }

size_t mm_vlm_tokens(const mm_lm *lm)
{
    const mm_tower *t = tower_of(lm);
    return t ? (size_t)(t->cfg.positions / (t->cfg.shuffle * t->cfg.shuffle)) : 0;
}

int mm_vlm_embed(mm_lm *lm, const float *x, size_t squares, float *embd, mm_err *err)
{
    const mm_input_spec *s = mm_vlm_spec(lm);
    if (!s) return blind(err);
    const size_t each = 3 * (size_t)s->height * (size_t)s->width;
    const float **at = mm_realloc(NULL, squares + 1, sizeof *at);
    if (!at) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < squares; i++) at[i] = x + i * each;
    int r = mm_tower_run(lm->m, &(mm_tower_job){ .t = &lm->m->tower[MM_IMAGE], .x = at, .n = squares }, embd, err);
    free(at);
    return r;
}

int mm_vlm_clip_spec(const mm_lm *lm, double seconds, int most, mm_input_spec *spec, mm_err *err)
{
    if (!tower_of(lm)) return blind(err);
    *spec = lm->m->spec[MM_VIDEO];
    if (most <= 0 || most > spec->views) most = spec->views;
    const double wanted = rint(seconds * lm->m->fps); /* halves to even, as Python rounds */
    spec->views = wanted >= most ? most : wanted > 1 ? (int)wanted : 1;
    spec->video.frames = spec->views;
    return 0;
}

/* ---- prompts: the texts around a picture's tokens, as the published processors have them ---- */

#define AROUND "<fake_token_around_image>"

static void square(mm_buf *out, size_t tokens, const char *name)
{
    mm_buf_adds(out, AROUND);
    mm_buf_adds(out, name);
    for (size_t i = 0; i < tokens; i++) mm_buf_adds(out, MM_VLM_IMAGE);
}

static void picture(mm_buf *out, size_t tokens, const mm_vlm_picture *p)
{
    char name[48];
    for (int r = 0; r < p->rows; r++) {
        for (int c = 0; c < p->cols; c++) {
            snprintf(name, sizeof name, "<row_%d_col_%d>", r + 1, c + 1);
            square(out, tokens, name);
        }
        mm_buf_addc(out, '\n');
    }
    if (p->rows) mm_buf_addc(out, '\n');
    square(out, tokens, "<global-img>");
    mm_buf_adds(out, AROUND);
}

/* 1..99 in words */
static void in_words(mm_buf *out, size_t n)
{
    static const char *const small[] = { "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
                                         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen" };
    static const char *const tens[] = { "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety" };
    if (n >= 20) mm_buf_adds(out, tens[n / 10 - 2]);
    if (n >= 20 && n % 10) mm_buf_addc(out, '-');
    if (n < 20 || n % 10) mm_buf_adds(out, small[n < 20 ? n : n % 10]);
}

int mm_vlm_clip_text(double seconds, const float *times, size_t n, mm_buf *out)
{
    const long s = (long)seconds;
    mm_buf_adds(out, "You are provided the following series of ");
    in_words(out, n);
    mm_buf_addf(out, " frames from a %ld:%02ld:%02ld [H:MM:SS] video.\n", s / 3600, s / 60 % 60, s % 60);
    for (size_t i = 0; i < n; i++) mm_buf_addf(out, "\nFrame from %02ld:%02ld:" MM_VLM_IMAGE, (long)times[i] / 60, (long)times[i] % 60);
    mm_buf_adds(out, "\n\n");
    return out->failed ? MM_ENOMEM : 0;
}

int mm_vlm_prompt(const mm_lm *lm, const char *text, size_t len, const mm_vlm_picture *pics, size_t n, mm_buf *out, mm_err *err)
{
    const size_t mark = strlen(MM_VLM_IMAGE), tokens = mm_vlm_tokens(lm), before = out->len;
    size_t met = 0;
    if (!tokens) return blind(err);
    for (const char *p = text, *end = text + len;;) {
        const char *q = memmem(p, (size_t)(end - p), MM_VLM_IMAGE, mark);
        mm_buf_add(out, p, (size_t)((q ? q : end) - p));
        if (!q) break;
        if (met < n) picture(out, tokens, &pics[met]);
        met++;
        p = q + mark;
    }
    if (!out->failed && met == n) return 0;
    out->len = before;
    return out->failed ? mm_fail(err, MM_ENOMEM, "out of memory")
                       : mm_fail(err, MM_EDATA, "%zu pictures are given, the prompt has %zu of '" MM_VLM_IMAGE "'", n, met);
}

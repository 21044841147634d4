#include "cmd/judge.h"
#include <math.h>
#include <stdlib.h>
#include "base/mm_base.h"

#define FAILED (-2.0) /* below all cosines */

int mm_judge_open(mm_judge *j, mm_model *m, size_t n, size_t best, mm_err *err)
{
    *j = (mm_judge){ .m = m, .n = n, .best = best };
    j->score = calloc(n, sizeof *j->score);
    j->order = calloc(n, sizeof *j->order);
    if (m) j->vec = mm_aligned(mm_model_dim(m), sizeof *j->vec);
    return !j->score || !j->order || (m && !j->vec) ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

void mm_judge_close(mm_judge *j)
{
    free(j->vec);
    free(j->score);
    free(j->order);
    *j = (mm_judge){ 0 };
}

int mm_judge_score(mm_judge *j, size_t i, const float *asked, const mm_part *made, mm_err *err)
{
    mm_text_out res;
    double sum = 0;
    j->score[i] = FAILED;
    if (!made) return 0;
    int r = made->mod == MM_TEXT ? mm_model_embed_text(j->m, &made->text, 1, j->vec, &res, err)
                                 : mm_model_embed_input(j->m, made, 1, j->vec, err);
    for (size_t k = 0; k < mm_model_dim(j->m); k++) sum += (double)asked[k] * (double)j->vec[k];
    if (!r) j->score[i] = sum;
    return r;
}

size_t mm_judge_rank(mm_judge *j)
{
    for (size_t i = 0; i < j->n; i++) {
        size_t k = i;
        for (; j->best && k && j->score[i] > j->score[j->order[k - 1]]; k--) j->order[k] = j->order[k - 1];
        j->order[k] = i;
    }
    return j->best ? j->best : j->n;
}

int mm_judge_report(const mm_judge *j, size_t i, mm_rec *rec)
{
    return j->m && j->score[i] > FAILED ? mm_rec_set_num(rec, "score", round(j->score[i] * 1e6) / 1e6) : 0;
}

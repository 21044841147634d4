/* judge.h - how well what a unified model made is what it was asked for: the cosine of their vectors, and the best of several. */
#ifndef MM_CMD_JUDGE_H
#define MM_CMD_JUDGE_H

#include "model/mm_model.h"
#include "stream/mm_stream.h"

typedef struct mm_judge {
    mm_model *m;   /* NULL: nothing is judged, and choices stay in their order */
    size_t n, best;
    float *vec;    /* [dim] scratch */
    double *score; /* [n] */
    size_t *order; /* [n] */
} mm_judge;

/* For n choices of a record, of which the `best` are wanted; 0: all, in their order. */
MM_MUST_CHECK int mm_judge_open(mm_judge *j, mm_model *m, size_t n, size_t best, mm_err *err);
void mm_judge_close(mm_judge *j);
/* Choice i is `made`, where a thing of vector `asked` was asked for; made NULL: it failed. */
MM_MUST_CHECK int mm_judge_score(mm_judge *j, size_t i, const float *asked, const mm_part *made, mm_err *err);
/* How many of j->order are wanted. */
size_t mm_judge_rank(mm_judge *j);
/* "score" of choice i. 0 or MM_ENOMEM. */
MM_MUST_CHECK int mm_judge_report(const mm_judge *j, size_t i, mm_rec *rec);

#endif

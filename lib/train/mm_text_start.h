/* mm_text_start.h - the text side of a model in closed form, from pairs of texts and a teacher: a tokenizer, a turned space and a token
 * table whose bags are near the teacher's vectors. Minutes of one core, and no gradient; training starts from it, or a model is made of
 * it as it is.
 *
 *   mm_text_pair p[2] = { { "Hund", 4, "dog", 3, 1, MM_TEXT_NAME }, { "dog", 3, "dog", 3, 1, MM_TEXT_NAME } };
 *   mm_text_start_opts o = MM_TEXT_START_OPTS_INIT;
 *   mm_text_start s;
 *   mm_text_start_make(&s, teacher, p, 2, &o, &err);
 *   ... s.tokenizer (bytes of a tokenizer.json), s.table [s.vocab, s.dim], s.pca: what turns the teacher's vectors into targets
 *   mm_text_start_clear(&s);
 *
 * The teacher reads the English side; the tokenizer and the table the other one. A language is learned from its translations, and
 * English only from pairs whose two sides are the same. */
#ifndef MM_TEXT_START_H
#define MM_TEXT_START_H

#include <stddef.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"
#include "train/mm_bpe.h"
#include "train/mm_progress.h"
#include "train/mm_table.h"
#include "train/mm_teacher.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mm_text_kind {
    MM_TEXT_NAME, /* of a thing: the mean of these and of words is the centre of the space */
    MM_TEXT_SENTENCE,
    MM_TEXT_WORD
} mm_text_kind;

typedef struct mm_text_pair { /* borrowed; valid UTF-8 */
    const char *text;
    size_t len;
    const char *en;
    size_t en_len;
    float weight; /* >= 0 */
    mm_text_kind kind;
} mm_text_pair;

typedef struct mm_text_start_opts {
    mm_bpe_opts bpe;     /* its progress is not used */
    mm_table_opts table; /* nor are its progress and residual */
    const mm_buf *tokenizer; /* a tokenizer.json that is used as it is; NULL: one is learned */
    size_t dim;          /* columns of the table; 0: the teacher's */
    size_t window;       /* tokens of a text that are looked at; 0: all */
    int space_only;      /* no more than pca: there is a tokenizer and a table already */
    size_t space;        /* so many pairs, the first ones, say what pca is; 0: all */
    int threads;         /* 0: as many as OpenMP would use */
    mm_train_progress *progress; /* "teacher", "words", "tokens", "table" */
    void *arg;
} mm_text_start_opts;
#define MM_TEXT_START_OPTS_INIT { MM_BPE_OPTS_INIT, MM_TABLE_OPTS_INIT, NULL, 0, 64, 0, 0, 0, NULL, NULL }

typedef struct mm_text_start {
    mm_buf tokenizer;
    mm_pca pca;
    float *table; /* [vocab, dim] */
    size_t vocab, dim;
    size_t texts, tokens, targets; /* pairs, their tokens, different English texts */
    double residual;               /* of the table's normal equations */
    double cosine;                 /* mean over pairs, by weight, between a text's bag and its target */
} mm_text_start;

/* On failure *out is empty. What progress returns, if it is not 0, ends the call; what the teacher has made is in its cache. */
MM_API MM_MUST_CHECK int mm_text_start_make(mm_text_start *out, mm_teacher *teacher, const mm_text_pair *pairs, size_t n,
                                            const mm_text_start_opts *opts, mm_err *err);
MM_API void mm_text_start_clear(mm_text_start *s);

#ifdef __cplusplus
}
#endif
#endif

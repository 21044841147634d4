/* mm_document.h - texts longer than a model's window: chunks that end where sentences do, one vector of all, and the sentences that say most.
 *
 *   mm_document_out res;
 *   mm_span key[3];
 *   size_t n = 3;
 *   if (mm_document_embed(m, "", text, len, vec, key, &n, &res, &err)) ...
 *
 * Two levels of attention: the model's own within a chunk, and one step over the vectors of the chunks, whose query is their mean:
 *     w = softmax(MM_DOCUMENT_FOCUS * cos(v_i, mean v)),   vector = sum w_i v_i, scaled to length 1
 * w_i is the salience of a chunk: how much of what the whole is about is in it. A chunk away from the rest (a table, a licence, small talk) says less of
 * the document than one near its middle. The key sentences are those of the most salient chunks that are nearest to the vector.
 * Memory beside the text: one vector for each chunk, and the model's own for a few dozen chunks at a time. */
#ifndef MM_DOCUMENT_H
#define MM_DOCUMENT_H

#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MM_DOCUMENT_FOCUS 4.0f

typedef struct mm_span {
    size_t start, end; /* bytes of the text */
    float score;       /* cosine with the vector of the whole */
} mm_span;

typedef struct mm_document_out {
    int code;        /* 0, or MM_EEMPTY: there is no token in it, and no vector */
    size_t chunks;
    uint64_t tokens; /* of all chunks, special ones and the prefix apart from the first */
} mm_document_out;

/* The chunk of text[0..len) that begins at *start or behind the blanks there, as long as fits the window with prefix before it: it ends after a
 * sentence if one ends in its second half, else after a word if one does. text is valid UTF-8. 1 and *start, *end (more than *start), 0: nothing
 * but blanks is left, or MM_E*. */
MM_API MM_MUST_CHECK int mm_document_chunk(mm_model *m, const char *prefix, const char *text, size_t len, size_t *start, size_t *end, mm_err *err);
/* The end of the sentence that begins at start: behind its closing quotes and its full stop, or at a line's end. */
MM_API size_t mm_document_sentence(const char *text, size_t len, size_t start);
/* prefix goes before each chunk (""). vec [dim]. key [*n]: room for spans, the best first, *n becomes their number; n NULL: none are wanted. */
MM_API MM_MUST_CHECK int mm_document_embed(mm_model *m, const char *prefix, const char *text, size_t len, float *vec, mm_span *key, size_t *n,
                                           mm_document_out *res, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

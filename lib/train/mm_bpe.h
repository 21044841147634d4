/* mm_bpe.h - learn a byte-level BPE tokenizer (Sennrich et al. 2016; on bytes: Radford et al. 2019) and write it as a tokenizer.json.
 *
 *   mm_bpe_text t[2] = { { "a cat", 5, 1 }, { "zwei Hunde", 10, 0.5f } };
 *   mm_bpe_opts o = MM_BPE_OPTS_INIT;
 *   mm_buf json = {0};
 *   mm_bpe_train(&json, t, 2, &o, &err);             mm_tok_from_json(&tok, json.p, json.len, &err) reads it
 *
 * Texts are brought to NFKC and lower case, white space to single blanks with one in front, so that a word has the same tokens wherever it
 * stands; then they are cut into words (see mm_bpe_words), and the pair of neighbours that is seen most, by the texts' weights, is joined
 * until the vocabulary is full. Ids: special tokens, the 256 bytes, tokens in the order in which they were learned. The bytes of the
 * result depend on what was counted alone: not on the order of the texts, nor on threads. */
#ifndef MM_BPE_H
#define MM_BPE_H

#include <stddef.h>
#include "base/mm_err.h"
#include "base/mm_mem.h"
#include "train/mm_progress.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_bpe_text { /* borrowed */
    const char *p; /* valid UTF-8 */
    size_t len;
    float weight; /* how often it counts; 0 to 1e6 in steps of 2^-16 */
} mm_bpe_text;

typedef enum mm_bpe_words {
    MM_BPE_GPT2,  /* letters, numbers and other signs, each with the blank before it: GPT-2's regular expression */
    MM_BPE_O200K, /* words with their marks (Hindi, Thai, Arabic keep their vowels), numbers by three digits: that of o200k */
    MM_BPE_BERT   /* words end at white space and punctuation, which stands alone; each of them has a blank in front, so that (cat and cat
                     are the same word; text that is decoded has one there too */
} mm_bpe_words;

typedef struct mm_bpe_opts {
    size_t vocab;               /* tokens in all; at least 256 and the special ones. There are fewer when every word is a token before */
    mm_bpe_words words;
    const char *const *special; /* their texts; NULL: <|end|>, <|pad|>, <|text|>, <|image|>, <|audio|>, <|video|>, <|mask|>, <|unused|> */
    size_t n_special;
    size_t longest;             /* bytes of the longest token, its blank included; 0: any */
    mm_train_progress *progress; /* "words" of the texts, then "tokens" of the vocabulary */
    void *arg;
} mm_bpe_opts;
#define MM_BPE_OPTS_INIT { 12288, MM_BPE_BERT, NULL, 0, 0, NULL, NULL }

/* Appends the tokenizer.json to *json. Returns 0, MM_ENOMEM, MM_EARG (vocabulary too small, a weight out of range), MM_EDATA (a text is not
 * valid UTF-8), or what progress returned; json is unchanged then. */
MM_API MM_MUST_CHECK int mm_bpe_train(mm_buf *json, const mm_bpe_text *texts, size_t n, const mm_bpe_opts *opts, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* mm_token.h - text to token ids and back, exactly as the checkpoint's own tokenizer does it.
 *
 *   mm_tok *tok;
 *   mm_tok_from_json(&tok, bytes, len, &err);              a Hugging Face tokenizer.json
 *   mm_tok_out out = {0};
 *   mm_tok_encode(tok, "Hello world", 11, MM_TOK_SPECIAL, &out, &err);
 *   ... out.ids[0 .. out.n) ...
 *   mm_tok_out_clear(&out);
 *   mm_tok_free(&tok);
 *
 * A tokenizer is a pipeline: added tokens are cut out of the text, the rest is normalised, split into words, and each word
 * is looked up by the model; a template puts special tokens around the whole. Models: WordPiece (BERT), byte pair encoding, on
 * bytes or characters (GPT-2, Llama 3, Qwen, SmolLM, CLIP), Unigram (XLM-R and the multilingual e5, bge, gte).
 * A component or a regular expression that is not known is MM_EUNSUP with its name, never passed over.
 * An mm_tok is immutable: any number of threads may encode with it, each with an mm_tok_out of its own. */
#ifndef MM_TOKEN_H
#define MM_TOKEN_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_tok mm_tok;

/* tokenizer.json; the bytes are not needed afterwards. */
MM_API MM_MUST_CHECK int mm_tok_from_json(mm_tok **out, const char *json, size_t len, mm_err *err);

typedef struct mm_tok_spec { /* a tokenizer as GGUF metadata or a vocab.txt carry it */
    const mm_slice *tokens;   /* by id */
    size_t n;
    int word_marks;           /* 1: llama.cpp's form, words begin with U+2581 and continuations have no mark; 0: "##" */
    int lowercase, strip_accents, chinese; /* BERT's normaliser */
    int32_t cls, sep, unk, pad, mask;      /* ids; -1: none. unk is required */
} mm_tok_spec;
MM_API MM_MUST_CHECK int mm_tok_from_spec(mm_tok **out, const mm_tok_spec *spec, mm_err *err);
typedef struct mm_tok_ggml { /* the arrays tokenizer.ggml.* of a GGUF with a decoder */
    const char *model, *pre;        /* "gpt2" with merges, words cut as `pre` says; "llama" with scores */
    const mm_slice *tokens, *merges;
    size_t n, n_merges;
    const float *scores;            /* [n] or NULL */
    const int32_t *types;           /* [n] or NULL: all are normal */
    int32_t bos, eos, unk, pad;     /* ids; -1: none */
    int add_bos, add_eos;           /* the template puts them around a text */
    int space_prefix;               /* "llama": a text begins with a space */
} mm_tok_ggml;
MM_API MM_MUST_CHECK int mm_tok_from_ggml(mm_tok **out, const mm_tok_ggml *spec, mm_err *err);
/* vocab.txt: one token a line, the line's number is its id; [UNK] must be there. */
MM_API MM_MUST_CHECK int mm_tok_from_vocab(mm_tok **out, const char *text, size_t len, int lowercase, mm_err *err);
/* Texts are cleaned before all else, as CLIP's own tokenizer does: HTML's character references, typographic quotes, ligatures, wide forms,
 * control characters (web.c). Before the first use only. */
MM_API MM_MUST_CHECK int mm_tok_clean_web(mm_tok *tok, mm_err *err);
MM_API void mm_tok_free(mm_tok **tok);

enum {
    MM_TOK_SPECIAL = 1, /* put the template's special tokens around the text */
    MM_TOK_SPANS = 2    /* fill span[]: bytes of the text that each token covers */
};

typedef struct mm_tok_out { /* {0} is valid; reused from call to call, it keeps its memory */
    int32_t *ids;
    uint32_t (*span)[2]; /* [start, end) of each id with MM_TOK_SPANS; special tokens have [0, 0) */
    size_t n, cap;
    struct mm_tok_scratch *scratch;
} mm_tok_out;
MM_API void mm_tok_out_clear(mm_tok_out *out);

/* All ids of the text, not cut. Returns 0, MM_ENOMEM, or MM_EDATA when the text is not valid UTF-8 (err names the byte) or
 * longer than 2^31 bytes. */
MM_API MM_MUST_CHECK int mm_tok_encode(const mm_tok *tok, const char *text, size_t len, int flags, mm_tok_out *out, mm_err *err);

/* The words that the model is asked for, one after the other: the text as normaliser and pre-tokenizer leave it, without what added
 * tokens take. What fn returns, if it is not 0, ends the call and is its value (negative). Else as mm_tok_encode(); out->ids are of no use then. */
typedef int mm_tok_word_fn(void *arg, const char *word, size_t len);
MM_API MM_MUST_CHECK int mm_tok_words(const mm_tok *tok, const char *text, size_t len, mm_tok_word_fn *fn, void *arg, mm_tok_out *out,
                                      mm_err *err);

/* Ids that the template puts before and after a text. Borrowed. */
MM_API const int32_t *mm_tok_prefix(const mm_tok *tok, size_t *n);
MM_API const int32_t *mm_tok_suffix(const mm_tok *tok, size_t *n);

MM_API size_t mm_tok_vocab(const mm_tok *tok); /* largest id + 1 */
/* The token's own text ("##ing"), NUL-terminated; NULL for an id that does not exist. */
MM_API const char *mm_tok_text(const mm_tok *tok, int32_t id);
MM_API int32_t mm_tok_id(const mm_tok *tok, const char *text, size_t len); /* -1: none */
typedef enum { MM_TOK_CLS, MM_TOK_SEP, MM_TOK_UNK, MM_TOK_PAD, MM_TOK_MASK } mm_tok_role;
MM_API int32_t mm_tok_role_id(const mm_tok *tok, mm_tok_role role);
/* The flags of BERT's normaliser, for those who write the tokenizer out again: bit 0 lowercase, 1 strip accents, 2 chinese. */
MM_API int mm_tok_bert_flags(const mm_tok *tok);
/* A hash of the vocabulary, the added tokens, the template and the flags: equal tokenizers from different files have equal hashes. */
MM_API uint64_t mm_tok_hash(const mm_tok *tok);

/* Append the text of ids to out, special tokens left out: WordPiece words joined by spaces, "##" removed; bytes and byte
 * tokens put together, what is no UTF-8 then as U+FFFD; Unigram's marks as spaces. MM_EDATA for an id that does not exist,
 * MM_EUNSUP for a tokenizer.json whose decoder is not known. */
MM_API MM_MUST_CHECK int mm_tok_decode(const mm_tok *tok, const int32_t *ids, size_t n, mm_buf *out, mm_err *err);

/* Append what one token adds to a text that has begun: its bytes, which may be part of a character only; nothing for special tokens. 0,
 * MM_EDATA for an id that does not exist, MM_EUNSUP as above, MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_tok_piece(const mm_tok *tok, int32_t id, mm_buf *out, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* A tokenizer from GGUF's arrays, as llama.cpp writes them (GGUF specification, "Tokenizer"): byte-level pairs with their merges ("gpt2"), or
 * SentencePiece's pairs by score ("llama"). How words are cut has a name only; names that stand for a pipeline known here are in a table. */
#include <stdlib.h>
#include <string.h>
#include "token/token_int.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE }; /* tokenizer.ggml.token_type */

/* Numbers and words: regular expressions as tokenizer.json has them */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| " \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| " \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *name, *words;
    int digits; /* each number stands alone, before words are cut */
    int nfc, ignore_merges;
} pipelines[] = {
    { "gpt-2", GPT2, 0, 0, 0 },         { "phi-2", GPT2, 0, 0, 0 },       { "olmo", GPT2, 0, 0, 0 },
    { "mpt", GPT2, 0, 0, 0 },           { "smollm", GPT2, 1, 0, 0 },      { "starcoder", GPT2, 1, 0, 0 },
    { "refact", GPT2, 1, 0, 0 },        { "command-r", GPT2, 1, 0, 0 },   { "codeshell", GPT2, 1, 0, 0 },
    { "exaone", GPT2, 1, 0, 0 },        { "llama-bpe", LLAMA3, 0, 0, 1 }, { "llama3", LLAMA3, 0, 0, 1 },
    { "llama-v3", LLAMA3, 0, 0, 1 },    { "qwen2", QWEN2, 0, 1, 0 },      { "deepseek-r1-qwen", QWEN2, 0, 1, 0 },
};

static int byte_level(mm_tok *t, const mm_tok_ggml *s, mm_err *err)
{
    size_t i = 0, n = sizeof pipelines / sizeof *pipelines;
    while (i < n && strcmp(pipelines[i].name, s->pre)) i++;
    if (i == n) return mm_fail(err, MM_EUNSUP, "tokenizer.ggml.pre '%s' is not supported", s->pre);
    if (pipelines[i].nfc) t->norm[t->norms++] = (norm){ .op = NORM_NFC };
    if (pipelines[i].digits)
        t->pre[t->pres++] = (pre){ .op = PRE_MATCH, .match = tok_match_number, .pattern = "Digits", .pattern_len = 6 };
    const char *words = pipelines[i].words;
    t->pre[t->pres++] = (pre){ .op = PRE_MATCH, .match = tok_regex(words, strlen(words)), .pattern = words, .pattern_len = strlen(words) };
    t->ignore_merges = pipelines[i].ignore_merges;
    t->byte_level = 1;
    t->decode = DECODE_BYTES;
    return 0;
}

static void sentencepiece(mm_tok *t, const mm_tok_ggml *s)
{
    static const char mark[] = "\xE2\x96\x81";
    if (s->space_prefix) t->norm[t->norms++] = (norm){ .op = NORM_PREPEND, .to = mark, .to_len = 3 };
    t->norm[t->norms++] = (norm){ .op = NORM_REPLACE, .from = " ", .from_len = 1, .to = mark, .to_len = 3 };
    t->byte_fallback = t->fuse_unk = 1;
    t->decode = DECODE_FALLBACK;
    t->cleanup = s->space_prefix;
}

static int type_of(const mm_tok_ggml *s, size_t i) { return s->types ? s->types[i] : NORMAL; }

/* Texts of the vocabulary; what is found before all else, if it is written in no bytes of the vocabulary, has its id from tok_add(). */
static int texts(mm_tok *t, const mm_tok_ggml *s, mm_err *err)
{
    char bytes[1024];
    int r = 0;
    for (size_t i = 0; i < s->n && !r; i++) {
        const mm_slice *v = &s->tokens[i];
        int type = type_of(s, i), apart = type == CONTROL || type == USER || type == UNKNOWN;
        if (apart && (t->byte_level ? v->len > sizeof bytes || tok_bytes_of(v->p, v->len, bytes) < 0 : type != USER)) continue;
        r = tok_put(t, (int32_t)i, v->p, v->len, type == UNUSED ? 0 : IN_VOCAB, err);
    }
    return r;
}

static int by_score(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return x[0] != y[0] ? (x[0] > y[0] ? -1 : 1) : x[1] < y[1] ? -1 : x[1] > y[1];
}

/* Pairs are joined by the score of what they make: the order of scores, equal ones the same. */
static int ranks(mm_tok *t, const mm_tok_ggml *s, mm_err *err)
{
    double(*x)[2] = mm_realloc(NULL, s->n + 1, sizeof *x); /* score, id */
    t->rank = mm_realloc(NULL, s->n + 1, sizeof *t->rank);
    if (!x || !t->rank) {
        free(x);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < s->n; i++) x[i][0] = (double)s->scores[i], x[i][1] = (double)i;
    qsort(x, s->n, sizeof *x, by_score);
    for (size_t i = 0, rank = 0; i < s->n; i++) {
        size_t id = (size_t)x[i][1];
        int type = type_of(s, id);
        if (i && x[i][0] != x[i - 1][0]) rank = i;
        t->rank[id] = type == NORMAL || type == USER ? (uint32_t)rank : UINT32_MAX;
    }
    free(x);
    return 0;
}

static int merges(mm_tok *t, const mm_tok_ggml *s, mm_err *err)
{
    int r = tok_bpe_room(t, s->n_merges, err);
    for (size_t i = 0; i < s->n_merges && !r; i++) {
        const mm_slice *m = &s->merges[i];
        const char *blank = m->len > 1 ? memchr(m->p + 1, ' ', m->len - 1) : NULL;
        if (!blank) return mm_fail(err, MM_EDATA, "merge %zu is no pair of texts", i);
        size_t n = (size_t)(blank - m->p);
        r = tok_bpe_merge(t, m->p, n, blank + 1, m->len - n - 1, err);
    }
    return r;
}

static int special(mm_tok *t, const mm_tok_ggml *s, mm_err *err)
{
    const int32_t ids[] = { s->bos, s->eos, s->unk, s->pad };
    int r = 0;
    for (size_t i = 0; i < s->n && !r; i++) {
        int type = type_of(s, i);
        if (type != CONTROL && type != USER && type != UNKNOWN) continue;
        const char *text = mm_arena_strndup(&t->arena, s->tokens[i].p, s->tokens[i].len);
        if (!text) return mm_fail(err, MM_ENOMEM, "out of memory");
        r = tok_add(t, &(added){ .text = text, .len = s->tokens[i].len, .id = (int32_t)i, .special = type != USER }, err);
    }
    for (int i = 0; i < 4 && !r; i++)
        if (ids[i] < -1 || (ids[i] >= 0 && (size_t)ids[i] >= s->n)) r = mm_fail(err, MM_EDATA, "special token id %d is out of range", ids[i]);
    t->role[MM_TOK_CLS] = s->bos;
    t->role[MM_TOK_SEP] = s->eos;
    t->role[MM_TOK_PAD] = s->pad;
    if (!t->byte_level) t->role[MM_TOK_UNK] = s->unk;
    return r;
}

int mm_tok_from_ggml(mm_tok **out, const mm_tok_ggml *s, mm_err *err)
{
    int r = tok_begin(out, err);
    if (r) return r;
    mm_tok *t = *out;
    t->model = MODEL_BPE;
    t->cont_mark = "";
    t->cont_len = 0;
    int pieces = !strcmp(s->model, "llama");
    if (pieces) sentencepiece(t, s);
    else if (!strcmp(s->model, "gpt2")) r = byte_level(t, s, err);
    else r = mm_fail(err, MM_EUNSUP, "tokenizer of type '%s' is not supported", s->model[0] ? s->model : "(none)");
    if (!r && pieces && !s->scores) r = mm_fail(err, MM_EDATA, "tokenizer.ggml.scores is missing");
    if (!r) r = texts(t, s, err);
    if (!r) r = tok_index(t, err);
    if (!r && pieces) r = ranks(t, s, err);
    if (!r && !pieces) r = merges(t, s, err);
    if (!r) r = special(t, s, err);
    if (!r) r = tok_finish(t, err);
    if (!r && s->add_bos && s->bos >= 0) t->before[t->n_before++] = s->bos;
    if (!r && s->add_eos && s->eos >= 0) t->after[t->n_after++] = s->eos;
    if (r) mm_tok_free(out);
    return r;
}

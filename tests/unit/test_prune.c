/* What pruning keeps: the rows and columns of the largest norms, as they were. */
#include <unistd.h>
#include "model/mm_model.h"
#include "quant/mm_quant.h"
#include "tap.h"
#include "tinybert.h"

enum { W = 32, FF = 64, HEAD = 8 };

static const float *matrix(const mm_store *st, const char *name, int64_t rows, int64_t cols)
{
    const mm_store_tensor *t = mm_store_find(st, name);
    return t && t->type == MM_F32 && t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols ? t->data : NULL;
}

static double norm_row(const float *x, size_t cols, size_t row, size_t rows)
{
    double s = 0;
    for (size_t i = row * cols; i < (row + rows) * cols; i++) s += (double)x[i] * (double)x[i];
    return s;
}

static double norm_col(const float *x, size_t rows, size_t cols, size_t col, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t k = col; k < col + n; k++) s += (double)x[i * cols + k] * (double)x[i * cols + k];
    return s;
}

/* Which `keep` of n have the largest score, by going through all */
static void largest(const double *score, size_t n, size_t keep, size_t *at)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        size_t above = 0;
        for (size_t j = 0; j < n; j++) above += score[j] > score[i] || (score[j] == score[i] && j < i);
        if (above < keep) at[k++] = i;
    }
}

static int same_part(const float *cut, size_t cut_cols, size_t row, size_t col, const float *all, size_t all_cols, size_t from_row, size_t from_col,
                     size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < cols; k++)
            if (cut[(row + i) * cut_cols + col + k] != all[(from_row + i) * all_cols + from_col + k]) return 0;
    return 1;
}

static void channels(const mm_store *was, const mm_store *is)
{
    const float *up = matrix(was, "blk.1.ffn_up.weight", FF, W), *down = matrix(was, "blk.1.ffn_down.weight", W, FF);
    const float *up2 = matrix(is, "blk.0.ffn_up.weight", 20, W), *down2 = matrix(is, "blk.0.ffn_down.weight", W, 20);
    double score[FF];
    size_t at[20];
    if (!ok(up && down && up2 && down2, "feed-forward matrices have their shapes")) return;
    for (size_t i = 0; i < FF; i++) score[i] = norm_row(up, W, i, 1) * norm_col(down, W, FF, i, 1);
    largest(score, FF, 20, at);
    int good = 1;
    for (size_t i = 0; i < 20; i++) good &= same_part(up2, W, i, 0, up, W, at[i], 0, 1, W) && same_part(down2, 20, 0, i, down, FF, 0, at[i], W, 1);
    ok(good, "the channels of the largest norms, in their order");
}

static void heads(const mm_store *was, const mm_store *is)
{
    const float *v = matrix(was, "blk.1.attn_v.weight", W, W), *o = matrix(was, "blk.1.attn_output.weight", W, W),
                *q = matrix(was, "blk.1.attn_q.weight", W, W);
    const float *v2 = matrix(is, "blk.0.attn_v.weight", 2 * HEAD, W), *o2 = matrix(is, "blk.0.attn_output.weight", W, 2 * HEAD),
                *q2 = matrix(is, "blk.0.attn_q.weight", 2 * HEAD, W);
    double score[4];
    size_t at[2];
    if (!ok(v && o && q && v2 && o2 && q2, "attention's matrices have their shapes")) return;
    for (size_t i = 0; i < 4; i++) score[i] = norm_row(v, W, i * HEAD, HEAD) * norm_col(o, W, W, i * HEAD, HEAD);
    largest(score, 4, 2, at);
    int good = 1;
    for (size_t i = 0; i < 2; i++)
        good &= same_part(v2, W, i * HEAD, 0, v, W, at[i] * HEAD, 0, HEAD, W) && same_part(q2, W, i * HEAD, 0, q, W, at[i] * HEAD, 0, HEAD, W) &&
                same_part(o2, 2 * HEAD, 0, i * HEAD, o, W, 0, at[i] * HEAD, W, HEAD);
    ok(good, "the heads of the largest norms, in query, value and output alike");
}

/* Every token that is left has the row that it had; those that occur most are left. */
static void tokens(const mm_model *was, const mm_model *is, const mm_store *old, const mm_store *new)
{
    const mm_tok *a = mm_model_tokenizer(was), *b = mm_model_tokenizer(is);
    const size_t n = mm_tok_vocab(a), m = mm_tok_vocab(b);
    const float *x = matrix(old, "token_embd.weight", (int64_t)n, W), *y = matrix(new, "token_embd.weight", (int64_t)m, W);
    if (!ok(x && y && m < n, "%zu of %zu tokens", m, n)) return;
    int rows = 1;
    size_t id = 0; /* a text may have two: the order says which it is */
    for (size_t i = 0; i < m; i++, id++) {
        while (id < n && strcmp(mm_tok_text(a, (int32_t)id), mm_tok_text(b, (int32_t)i))) id++;
        rows &= id < n && same_part(y, W, i, 0, x, W, id, 0, 1, W);
    }
    ok(rows, "tokens keep their rows and their order");
    ok(mm_tok_id(b, "cat", 3) >= 0 && mm_tok_id(b, "dog", 3) < 0 && mm_tok_id(b, "z", 1) >= 0 && mm_tok_id(b, "##z", 3) >= 0 &&
           mm_tok_role_id(b, MM_TOK_MASK) >= 0 && mm_tok_id(b, "\xE4\xB8\xAD", 3) < 0,
       "those of the texts, letters and special ones");
}

int main(void)
{
    char dir[64], path[3][96], spec[160];
    snprintf(dir, sizeof dir, "/tmp/test-prune-%ld", (long)getpid());
    tinybert(dir, W, FF, 0);
    for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s/%s", dir, (const char *const[]){ "whole.gguf", "cut.gguf", "texts" }[i]);
    puts_to(dir, "texts", "the cat\nthe cat sat\nthe mat\n");
    snprintf(spec, sizeof spec, "blocks=1,ffn=20,heads=2,vocab=%s:108", path[2]);
    mm_store *a = NULL, *b = NULL;
    mm_model *m = NULL, *k = NULL;
    mm_quant_sum sum = { .tensors = 0 };
    int r = mm_quant_convert(dir, path[0], &(mm_quant_opts){ .type = MM_F32 }, NULL, &err);
    if (!r) r = mm_quant_convert(path[0], path[1], &(mm_quant_opts){ .type = MM_F32, .prune = spec }, &sum, &err);
    if (!r) r = mm_store_open(&a, path[0], &err);
    if (!r) r = mm_store_open(&b, path[1], &err);
    if (!r) r = mm_model_open(&m, path[0], NULL, &err);
    if (!r) r = mm_model_open(&k, path[1], NULL, &err);
    if (ok(!r, "pruned: %s", err.msg)) {
        ok(sum.tensors == 21, "%zu tensors", sum.tensors);
        channels(a, b);
        heads(a, b);
        tokens(m, k, a, b);
    }
    mm_model_close(&m);
    mm_model_close(&k);
    mm_store_close(&a);
    mm_store_close(&b);
    char rm[96];
    snprintf(rm, sizeof rm, "rm -rf '%s'", dir);
    ok(system(rm) == 0, "tidied up");
    return done();
}

#include <stdio.h>
#include <string.h>
#include "model/mm_family.h"

/* transformers' BertModel */
static const char *const bert_tensors[][2] = {
    { "embeddings.word_embeddings.weight", "token_embd.weight" },
    { "embeddings.position_embeddings.weight", "position_embd.weight" },
    { "embeddings.token_type_embeddings.weight", "token_types.weight" },
    { "embeddings.LayerNorm.weight", "token_embd_norm.weight" },
    { "embeddings.LayerNorm.bias", "token_embd_norm.bias" },
    { "encoder.layer.#.attention.self.query.weight", "blk.#.attn_q.weight" },
    { "encoder.layer.#.attention.self.query.bias", "blk.#.attn_q.bias" },
    { "encoder.layer.#.attention.self.key.weight", "blk.#.attn_k.weight" },
    { "encoder.layer.#.attention.self.key.bias", "blk.#.attn_k.bias" },
    { "encoder.layer.#.attention.self.value.weight", "blk.#.attn_v.weight" },
    { "encoder.layer.#.attention.self.value.bias", "blk.#.attn_v.bias" },
    { "encoder.layer.#.attention.output.dense.weight", "blk.#.attn_output.weight" },
    { "encoder.layer.#.attention.output.dense.bias", "blk.#.attn_output.bias" },
    { "encoder.layer.#.attention.output.LayerNorm.weight", "blk.#.attn_output_norm.weight" },
    { "encoder.layer.#.attention.output.LayerNorm.bias", "blk.#.attn_output_norm.bias" },
    { "encoder.layer.#.intermediate.dense.weight", "blk.#.ffn_up.weight" },
    { "encoder.layer.#.intermediate.dense.bias", "blk.#.ffn_up.bias" },
    { "encoder.layer.#.output.dense.weight", "blk.#.ffn_down.weight" },
    { "encoder.layer.#.output.dense.bias", "blk.#.ffn_down.bias" },
    { "encoder.layer.#.output.LayerNorm.weight", "blk.#.layer_output_norm.weight" },
    { "encoder.layer.#.output.LayerNorm.bias", "blk.#.layer_output_norm.bias" },
    { NULL, NULL }
};
/* the head of next-sentence and masked-word prediction, and an index buffer of old checkpoints */
static const char *const bert_unused[] = { "embeddings.position_ids", "pooler.*", "cls.*", NULL };

static const mm_family families[] = { { "bert", "bert.", bert_tensors, bert_unused } };

const mm_family *mm_family_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    return NULL;
}

/* Does s match the pattern, '#' being one or more digits? *num points at those and *len counts them. */
static int match(const char *pattern, const char *s, const char **num, int *len)
{
    *num = "";
    *len = 0;
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            *num = s;
            while (*s >= '0' && *s <= '9') s++;
            *len = (int)(s - *num);
            if (!*len || *len > 5) return 0;
        } else if (*s++ != *pattern) {
            return 0;
        }
    }
    return !*s;
}

const char *mm_family_canonical(const mm_family *f, const char *name, char buf[128])
{
    size_t n = strlen(f->prefix);
    const char *num;
    int len;
    if (!strncmp(name, f->prefix, n)) name += n;
    /* norms of checkpoints that come from TensorFlow */
    char modern[256];
    const char *dot = strrchr(name, '.'), *part = !dot ? "" : !strcmp(dot, ".gamma") ? "weight" : !strcmp(dot, ".beta") ? "bias" : "";
    if (part[0] && strlen(name) < sizeof modern - 8) {
        snprintf(modern, sizeof modern, "%.*s.%s", (int)(dot - name), name, part);
        name = modern;
    }
    for (size_t i = 0; f->unused[i]; i++) {
        size_t k = strlen(f->unused[i]);
        if (f->unused[i][k - 1] == '*' ? !strncmp(name, f->unused[i], k - 1) : !strcmp(name, f->unused[i])) return "";
    }
    for (size_t i = 0; f->tensors[i][0]; i++) {
        if (!match(f->tensors[i][0], name, &num, &len)) continue;
        const char *to = f->tensors[i][1], *hash = strchr(to, '#');
        if (!hash) return to;
        snprintf(buf, 128, "%.*s%.*s%s", (int)(hash - to), to, len, num, hash + 1);
        return buf;
    }
    return NULL;
}

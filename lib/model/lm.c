/* A decoder: opened like every model, asked for its size. What it computes is in lm_step.c. */
#include <stdlib.h>
#include <string.h>
#include "model/lm_int.h"
#include "model/mm_say.h"

void mm_lm_close(mm_lm **lp)
{
    mm_lm *lm = *lp;
    if (!lm) return;
    mm_model_close(&lm->m);
    free(lm->path);
    free(lm);
    *lp = NULL;
}

static int check(mm_lm *lm, mm_err *err)
{
    const mm_tower_config *c = &mm_lm_tower(lm)->cfg;
    if (!lm->opts.context) lm->opts.context = (size_t)c->positions;
    if (lm->opts.context > (size_t)c->positions)
        return mm_fail(err, MM_EARG, "a context of %zu tokens is asked for, this model takes %lld", lm->opts.context, (long long)c->positions);
    if (!mmk_kv_bytes(lm->opts.kv_type, MMK_KV_BLOCK, (size_t)c->head_dim)) {
        const mm_dtype_info *d = mm_dtype_get(lm->opts.kv_type);
        return mm_fail(err, MM_EARG, "keys and values of type %s with %lld channels to a head are not supported", d ? d->name : "?",
                       (long long)c->head_dim);
    }
    return 0;
}

int mm_lm_open(mm_lm **out, const char *path, const mm_lm_opts *opts, mm_err *err)
{
    *out = NULL;
    mm_lm *lm = calloc(1, sizeof *lm);
    if (!lm) return mm_fail(err, MM_ENOMEM, "out of memory");
    lm->opts = opts ? *opts : (mm_lm_opts)MM_LM_OPTS_INIT;
    mm_model_opts how = MM_MODEL_OPTS_INIT;
    how.threads = lm->opts.threads;
    how.plain = lm->opts.plain;
    lm->path = strdup(path);
    int r = lm->path ? mm_model_open_as(&lm->m, path, &how, 1, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        lm->opts.threads = lm->m->opts.threads;
        if (lm->m->uni) r = mm_lm_uni_open(lm, err);
        if (!r) r = check(lm, err);
        if (!r && !lm->m->uni) r = mm_lm_meta(lm, err);
        if (r) mm_err_prefix(err, "'%s': ", path);
    }
    if (r) mm_lm_close(&lm);
    *out = lm;
    return r;
}

const mm_tok *mm_lm_tokenizer(const mm_lm *lm) { return lm->m->tok; }
size_t mm_lm_vocab(const mm_lm *lm) { return (size_t)mm_lm_tower(lm)->cfg.vocab; }
size_t mm_lm_context(const mm_lm *lm) { return lm->opts.context; }

size_t mm_lm_width(const mm_lm *lm)
{
    const mm_tower_config *c = &mm_lm_tower(lm)->cfg;
    return (size_t)(lm->m->uni ? 2 * c->layers * c->width : c->width);
}

int mm_lm_threads(const mm_lm *lm) { return lm->opts.threads; }
const char *mm_lm_chat_template(const mm_lm *lm) { return lm->chat_template; }
int32_t mm_lm_bos(const mm_lm *lm) { return lm->bos; }
int32_t mm_lm_eos(const mm_lm *lm) { return lm->n_end ? lm->end[0] : -1; }

const char *mm_lm_fingerprint(const mm_lm *lm)
{
    if (mm_model_fingerprint(lm->m)) return mm_model_fingerprint(lm->m);
    if (mm_fingerprint_make(lm->m, lm->path, NULL)) return "";
    mm_store_release(lm->m->store, NULL); /* rows from everywhere were looked at */
    return mm_model_fingerprint(lm->m);
}

int mm_lm_add_bos(const mm_lm *lm)
{
    size_t n;
    if (lm->m->uni) return 1;
    const int32_t *ids = mm_tok_prefix(lm->m->tok, &n);
    return n > 0 && ids[0] == lm->bos;
}

int mm_lm_is_word(const mm_lm *lm, int32_t id) { return !lm->m->uni || id > MM_SAY_MARK || mm_lm_is_end(lm, id); }

int mm_lm_is_end(const mm_lm *lm, int32_t id)
{
    for (size_t i = 0; i < lm->n_end; i++)
        if (lm->end[i] == id) return 1;
    return 0;
}

int mm_lm_embed(const mm_lm *lm, const int32_t *ids, size_t n, float *embd, mm_err *err)
{
    const mm_tower *t = mm_lm_tower(lm);
    size_t width = (size_t)t->cfg.width, bytes = 0;
    if (lm->m->uni) return mm_fail(err, MM_EUNSUP, "a unified model has no embeddings in place of words");
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= t->cfg.vocab)
            return mm_fail(err, MM_ESHAPE, "token %d is outside the vocabulary of %lld", ids[i], (long long)t->cfg.vocab);
    int r = mm_dtype_bytes(t->tok_embd_type, width, &bytes);
    if (r) return mm_fail(err, r, "the table of tokens has rows that are no whole blocks");
    for (size_t i = 0; i < n; i++) {
        float *to = embd + i * width;
        mm_row_to_f32(lm->m->kern, to, (const char *)t->tok_embd + (size_t)ids[i] * bytes, t->tok_embd_type, width);
        for (size_t k = 0; t->cfg.embd_scale > 0 && k < width; k++) to[k] *= t->cfg.embd_scale;
    }
    return 0;
}

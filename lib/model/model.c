#include <omp.h>
#include <stdlib.h>
#include "model/model_int.h"

void mm_model_close(mm_model **mp)
{
    mm_model *m = *mp;
    if (!m) return;
    for (size_t i = 0; i < m->n_packed; i++) free(m->packed[i]);
    for (int i = 0; m->scratch && i < m->opts.threads; i++) mm_arena_clear(&m->scratch[i]);
    free(m->scratch);
    free(m->prompts);
    mm_tok_free(&m->tok);
    mm_store_close(&m->store);
    mm_arena_clear(&m->arena);
    free(m);
    *mp = NULL;
}

typedef struct {
    const mm_family *family;
    const char *unknown;
} naming;

static const char *rename_tensor(const char *name, char buf[128], void *arg)
{
    naming *n = arg;
    const char *to = mm_family_canonical(n->family, name, buf);
    if (!to && !n->unknown) n->unknown = name;
    return to && to[0] ? to : NULL;
}

/* A tensor that the family does not know may be one that changes the result (an adapter, a projection): refused, not ignored. */
static int canonical_names(mm_model *m, mm_err *err)
{
    naming n = { mm_family_find(m->cfg.family), NULL };
    if (mm_store_is_gguf(m->store)) return 0;
    int r = mm_store_rename(m->store, rename_tensor, &n, err);
    if (!r && n.unknown) r = mm_fail(err, MM_EUNSUP, "tensor '%s' is not known for model_type '%s'", n.unknown, m->cfg.family);
    return r;
}

int mm_model_open(mm_model **out, const char *path, const mm_model_opts *opts, mm_err *err)
{
    *out = NULL;
    mm_model *m = calloc(1, sizeof *m);
    if (!m) return mm_fail(err, MM_ENOMEM, "out of memory");
    m->opts = opts ? *opts : (mm_model_opts)MM_MODEL_OPTS_INIT;
    if (m->opts.threads <= 0) m->opts.threads = omp_get_max_threads();
    m->kern = mm_kern_get();
    m->scratch = calloc((size_t)m->opts.threads, sizeof *m->scratch);
    int r = m->scratch ? mm_store_open(&m->store, path, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        r = mm_config_read(m, err);
        if (!r) r = canonical_names(m, err);
        if (!r) r = mm_tokenizer_load(m, err);
        if (!r) r = mm_weights_load(m, err);
        if (!r) r = mm_fingerprint_make(m, path, err);
        if (r) mm_err_prefix(err, "'%s': ", path);
    }
    if (r) mm_model_close(&m);
    *out = m;
    return r;
}

const mm_model_config *mm_model_get_config(const mm_model *m) { return &m->cfg; }
const mm_tok *mm_model_tokenizer(const mm_model *m) { return m->tok; }
size_t mm_model_dim(const mm_model *m) { return (size_t)m->cfg.width; }
const char *mm_model_fingerprint(const mm_model *m) { return m->fingerprint; }

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include "model/model_int.h"

void mm_model_close(mm_model **mp)
{
    mm_model *m = *mp;
    if (!m) return;
    for (size_t i = 0; i < m->n_packed; i++) free(m->packed[i]);
    free(m->packed);
    for (int i = 0; m->scratch && i < m->opts.threads; i++) mm_arena_clear(&m->scratch[i]);
    free(m->scratch);
    free(m->prompts);
    mm_uni_free(&m->uni);
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
    naming n = { mm_family_find(m->family), NULL };
    if (mm_store_is_gguf(m->store)) return 0;
    int r = mm_store_rename(m->store, rename_tensor, &n, err);
    if (!r && n.unknown) r = mm_fail(err, MM_EUNSUP, "tensor '%s' is not known for model_type '%s'", n.unknown, m->family);
    return r;
}

/* Vectors of all modalities share one space. */
static int same_width(const mm_model *m, mm_err *err)
{
    for (int i = 0; i < MM_MODALITIES; i++) {
        const mm_tower_config *c = &m->tower[i].cfg;
        int64_t w = c->proj ? c->proj : c->width;
        if (c->layers && (size_t)w != mm_model_dim(m))
            return mm_fail(err, MM_ESHAPE, "vectors of %s have %lld numbers, those of another modality %zu", mm_modality_name((mm_modality)i),
                           (long long)w, mm_model_dim(m));
    }
    return 0;
}

/* The tokenizer is one thread's work; meanwhile the other packs of a decoder's weights what it can. */
typedef struct {
    mm_model *m;
    mm_err *err;
    int r, done;
} reading;

static void *read_tokenizer(void *arg)
{
    reading *t = arg;
    t->r = mm_tokenizer_load(t->m, t->err);
    __atomic_store_n(&t->done, 1, __ATOMIC_RELAXED);
    return NULL;
}

static int load(mm_model *m, mm_err *err)
{
    mm_err apart = { 0 };
    reading t = { m, &apart, 0, 0 };
    pthread_t thread;
    if (!m->tower[MM_TEXT].cfg.layers) return mm_weights_load(m, err);
    if (m->opts.threads < 2 || pthread_create(&thread, NULL, read_tokenizer, &t)) {
        int r = mm_tokenizer_load(m, err);
        return r ? r : mm_weights_load(m, err);
    }
    int r = mm_weights_load(m, err);
    while (!r && m->decoder && !__atomic_load_n(&t.done, __ATOMIC_RELAXED) && mm_tower_settle_ahead(m, &m->tower[MM_TEXT])) continue;
    pthread_join(thread, NULL);
    return t.r ? mm_fail(err, t.r, "%s", apart.msg) : r;
}

int mm_model_open_as(mm_model **out, const char *path, const mm_model_opts *opts, int decoder, mm_err *err)
{
    *out = NULL;
    mm_model *m = calloc(1, sizeof *m);
    if (!m) return mm_fail(err, MM_ENOMEM, "out of memory");
    m->opts = opts ? *opts : (mm_model_opts)MM_MODEL_OPTS_INIT;
    if (m->opts.threads <= 0) m->opts.threads = omp_get_max_threads();
    m->decoder = decoder;
    m->kern = mm_kern_get();
    m->scratch = calloc((size_t)m->opts.threads, sizeof *m->scratch);
    int r = m->scratch ? mm_store_open(&m->store, path, err) : mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) {
        r = mm_config_read(m, err);
        if (!r && m->opts.size && !m->uni) r = mm_fail(err, MM_EUNSUP, "it sees pictures of one size only");
        if (!r) r = canonical_names(m, err);
        if (!r) r = same_width(m, err);
        if (!r) r = load(m, err);
        if (!r && !decoder) r = mm_fingerprint_make(m, path, err); /* else when somebody asks: it reads all of the vocabulary */
        if (r) mm_err_prefix(err, "'%s': ", path);
    }
    if (r) mm_model_close(&m);
    *out = m;
    return r;
}

int mm_model_open(mm_model **out, const char *path, const mm_model_opts *opts, mm_err *err)
{
    return mm_model_open_as(out, path, opts, 0, err);
}

const char *mm_model_family(const mm_model *m) { return m->family; }
const mm_tower_config *mm_model_get_config(const mm_model *m, mm_modality mod) { return m->via[mod] ? &m->via[mod]->cfg : NULL; }
const mm_input_spec *mm_model_input_spec(const mm_model *m, mm_modality mod) { return mod != MM_TEXT && m->via[mod] ? &m->spec[mod] : NULL; }
const mm_tok *mm_model_tokenizer(const mm_model *m) { return m->tok; }
int mm_model_threads(const mm_model *m) { return m->opts.threads; }
const mm_uni *mm_model_uni(const mm_model *m) { return m->uni; }
mm_logits mm_model_logits(const mm_model *m) { return m->logits; }
const char *mm_model_fingerprint(const mm_model *m) { return m->fingerprint; }

size_t mm_model_dim(const mm_model *m)
{
    for (int i = 0; i < MM_MODALITIES; i++)
        if (m->tower[i].cfg.layers) return (size_t)(m->tower[i].cfg.proj ? m->tower[i].cfg.proj : m->tower[i].cfg.width);
    return 0;
}

size_t mm_model_nested(const mm_model *m)
{
    size_t dim = mm_model_dim(m);
    return !m->uni ? 0 : dim < 64 ? dim : 64; /* the smallest cut that uni_task.c trains */
}

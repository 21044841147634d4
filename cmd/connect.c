#include "cmd/connect.h"
#include <stdlib.h>
#include <string.h>
#include "store/mm_store.h"

int mm_connect_open(mm_connect *k, const mm_lm *lm, mm_ctx *c)
{
    mm_model_opts mo = MM_MODEL_OPTS_INIT;
    char *path = NULL, *encoder = NULL;
    if (!k->file) return k->encoder ? mm_fail(&c->err, MM_EARG, "option '--encoder' goes with '--connector'") : 0;
    mo.threads = (int)c->threads;
    int r = mm_store_resolve(&path, k->file, &c->err);
    if (!r) r = mm_connector_open(&k->c, path, &c->err);
    if (!r) r = mm_store_resolve(&encoder, k->encoder ? k->encoder : MM_STORE_DEFAULT, &c->err);
    if (!r) r = mm_model_open(&k->uni, encoder, &mo, &c->err);
    if (!r && (r = mm_connector_fits(k->c, k->uni, lm, &c->err))) mm_err_prefix(&c->err, "option '--connector': '%s': ", k->file);
    if (!r && k->embed && !(k->vec = mm_aligned(mm_model_dim(k->uni), sizeof *k->vec))) r = mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (!r && c->verbose > 0 && strcmp(mm_connector_decoder(k->c), mm_lm_fingerprint(lm)))
        mm_info(c, "the connector was trained before '%s', this is '%s'", mm_connector_decoder(k->c), mm_lm_fingerprint(lm));
    free(path);
    free(encoder);
    return r;
}

void mm_connect_close(mm_connect *k)
{
    mm_connector_close(&k->c);
    mm_model_close(&k->uni);
    free(k->vec);
    k->vec = NULL;
}

int mm_connect_see(mm_connect *k, const mm_part *what, float *rows, mm_err *err)
{
    k->saw = what->mod;
    int r = mm_connector_see(k->c, k->uni, what, rows, err);
    return r || !k->embed ? r : mm_model_embed_input(k->uni, what, 1, k->vec, err);
}

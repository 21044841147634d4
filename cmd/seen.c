#include "cmd/seen.h"
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/parts.h"

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

int mm_seen_open(mm_seen *s, mm_lm *lm, mm_ctx *c)
{
    const mm_media_cli how = MM_MEDIA_CLI_INIT;
    const mm_model *m = mm_say_model(lm);
    if (!m)
        return mm_fail(&c->err, MM_EUNSUP, "option '--caption' is for models of family uni, '%s' is another (if it sees pictures, '--prompt' asks it)",
                       mm_lm_fingerprint(lm));
    s->lm = lm;
    if (s->embed && !(s->vec = mm_aligned(mm_model_dim(m), sizeof *s->vec))) return no_memory(&c->err);
    return mm_media_workers(&s->pool, &how, c);
}

void mm_seen_close(mm_seen *s)
{
    if (s->pool) mm_workers_close(&s->pool);
    mm_buf_clear(&s->ref.bytes);
    free(s->rows);
    free(s->vec);
    *s = (mm_seen){ 0 };
}

/* What the model makes of a part: a failure is the record's, but for memory. */
static int see(mm_seen *s, mm_rec *rec, const mm_part *part, mm_err *err)
{
    mm_model *m = mm_say_model(s->lm);
    const char *name = mm_modality_name(part->mod);
    mm_err e = { 0 };
    mm_text_out res;
    int r = mm_say_see(s->lm, part, &s->rows, &s->n, &e);
    if (!r && s->embed)
        r = part->mod == MM_TEXT ? mm_model_embed_text(m, &part->text, 1, s->vec, &res, &e) : mm_model_embed_input(m, part, 1, s->vec, &e);
    if (r && r != MM_ENOMEM) return mm_rec_fail(rec, r, "%s", e.msg);
    return r || mm_rec_set_str(rec, "modality", name, strlen(name)) ? no_memory(err) : 0;
}

static const mm_modality of_ref[] = { MM_MODALITIES, MM_IMAGE, MM_AUDIO, MM_VIDEO };

static int see_medium(mm_seen *s, mm_rec *rec, mm_err *err)
{
    const mm_media_cli how = MM_MEDIA_CLI_INIT;
    const mm_modality only = of_ref[s->ref.modality];
    mm_modality is[MM_JOB_SPECS];
    mm_job job = { .src = s->ref.src, .opts = mm_media_input_opts(&how) };
    if (!mm_media_specs(mm_say_model(s->lm), ~0u, s->ref.modality, &job, is))
        return mm_rec_fail(rec, MM_EUNSUP, "this model sees no %s", only == MM_MODALITIES ? "pictures, sound or video" : mm_modality_name(only));
    int r = mm_workers_submit(s->pool, &job, err);
    if (r) return r;
    mm_workers_wait(s->pool, &job);
    if (job.code) r = mm_rec_fail(rec, job.code, "%s", job.message);
    else {
        const mm_part part = mm_media_part(&job, is[job.chosen]);
        r = see(s, rec, &part, err);
    }
    if (!r && job.facts.info.truncated && mm_rec_set_bool(rec, "truncated", 1)) r = no_memory(err);
    mm_workers_release(s->pool, &job);
    return r;
}

int mm_seen_of(mm_seen *s, mm_rec *rec, mm_err *err)
{
    mm_slice text;
    mm_err e = { 0 };
    free(s->rows);
    s->rows = NULL;
    s->n = 0;
    const unsigned named = mm_parts_named(rec);
    int r = named == 1u << MM_TEXT ? mm_rec_str(rec, "text", &text, &e) : 0;
    if (r < 0) return mm_rec_fail(rec, r, "%s", e.msg);
    if (r) return see(s, rec, &(mm_part){ .mod = MM_TEXT, .text = { text.p, text.len } }, err);
    if ((r = mm_media_find(rec, MM_REF_ANY, &s->ref)) < 0) return r;
    if (r) return see_medium(s, rec, err);
    return mm_rec_fail(rec, MM_EDATA, "nothing to see: no key \"image\", \"audio\", \"video\" or \"text\", and no path of a file");
}

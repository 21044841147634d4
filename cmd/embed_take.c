/* What a record holds that mm-embed is to embed. */
#include <stdlib.h>
#include "cmd/embed.h"
#include "cmd/given.h"
#include "cmd/text.h"

#define LONG_TEXT 16 /* bytes for each token of the window: a longer text is no work for a batch where it becomes a document */

/* The text of a record: its key "text", or the file that a list of paths names; files are text only for a model that takes nothing else,
 * or when asked for. 1, 0: it has none, or the code of its failure. */
static int find_text(mm_embed *s, mm_rec *rec, mm_slice *text)
{
    mm_err err = { 0 };
    int r = mm_rec_str(rec, "text", text, &err);
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
    if (r > 0) return 1;
    mm_slice blob;
    if (mm_rec_blob(rec, &blob)) return 0;
    const char *path = mm_rec_path(rec);
    if (!path || (s->multi && s->o->modality != MM_TEXT)) return 0;
    return mm_text_file(rec, path, &s->file, text);
}

static int take_media(mm_embed *s, mm_embed_window *w, mm_embed_item *it)
{
    mm_modality is[MM_JOB_SPECS];
    const int only = s->o->modality > 0 ? s->o->modality : (int)it->ref.modality; /* MM_REF_* count as mm_modality does */
    if (!mm_media_specs(s->m, ~0u, only, &it->job, is)) {
        mm_rec_fail(it->rec, MM_EUNSUP, "this model takes no %s", only == MM_REF_ANY ? "pictures, sound or video" : mm_modality_name((mm_modality)only));
        return 0;
    }
    it->job.src = it->ref.src;
    it->job.opts = mm_media_input_opts(&s->o->media);
    if (!s->pool) {
        int r = mm_media_workers(&s->pool, &s->o->media, s->c);
        if (r) return r;
    }
    int r = mm_workers_submit(s->pool, &it->job, &s->c->err);
    if (r) return r;
    it->kind = MEDIA;
    w->media++;
    return 0;
}

/* The text after the prefix, in the window's buffer. */
static int take_text(mm_embed *s, mm_embed_window *w, mm_embed_item *it, mm_slice text)
{
    it->at = w->texts.len;
    mm_buf_add(&w->texts, s->prefix, s->prefix_len);
    mm_buf_add(&w->texts, text.p, text.len);
    if (w->texts.failed) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    it->skip = s->prefix_len;
    it->len = w->texts.len - it->at;
    return 0;
}

static int take_parts(mm_embed *s, mm_embed_window *w, mm_embed_item *it, unsigned named)
{
    mm_input_opts how = mm_media_input_opts(&s->o->media);
    if (!it->parts && !(it->parts = calloc(1, sizeof *it->parts))) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    int media = mm_parts_take(it->parts, it->rec, s->m, named, s->o->track), r = 0;
    it->kind = RECORD;
    w->media += (size_t)media;
    if (media && !s->pool) r = mm_media_workers(&s->pool, &s->o->media, s->c);
    if (!r && media) r = mm_parts_submit(it->parts, s->pool, &how, &s->c->err);
    if (!r && it->parts->of[MM_TEXT].state == MM_PART_HELD) r = take_text(s, w, it, it->parts->text);
    return r;
}

/* Is the record one whose parts are looked at one by one? */
static int has_parts(const mm_embed *s, mm_rec *rec, unsigned *named)
{
    mm_slice blob;
    if (s->fuse == FUSE_FIRST) return 0;
    *named = mm_parts_named(rec);
    if (*named & (*named - 1)) return 1;
    int some = *named || mm_rec_path(rec) || mm_rec_blob(rec, &blob), moving = !*named || *named == 1u << MM_VIDEO;
    return some && (s->require || (s->o->track && moving));
}

int mm_embed_take(mm_embed *s, mm_embed_window *w, mm_embed_item *it)
{
    mm_slice text;
    it->kind = PASS;
    it->vec = NULL;
    mm_rec_del(it->rec, "embedding");
    if (mm_rec_failed(it->rec)) return 0;
    static const char *const before[] = { "truncated", "dropped", "gates", "chunks" }; /* what an earlier run said */
    mm_slice model;
    const size_t said = mm_rec_get(it->rec, "model", &model) ? sizeof before / sizeof *before : 0;
    for (size_t i = 0; i < said; i++) mm_rec_del(it->rec, before[i]);
    if (s->known) {
        int r = mm_known_check(s->known, it->rec);
        if (r < 0) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
        if (r) return s->skipped++, 1;
    }
    unsigned parts;
    int r = s->o->inputs ? mm_given_take(it->rec, s->m, &it->mod, &it->given, &it->times) : 0;
    if (r < 0) return 0;
    if (r) {
        it->kind = GIVEN;
        w->media++;
        return 0;
    }
    if (has_parts(s, it->rec, &parts)) return take_parts(s, w, it, parts);
    if (s->multi && s->o->modality != MM_TEXT) {
        mm_slice v;
        /* a key names a medium; a path or bytes are looked at */
        int named = mm_rec_get(it->rec, "video", &v) || mm_rec_get(it->rec, "image", &v) || mm_rec_get(it->rec, "audio", &v);
        if (named && (r = mm_media_find(it->rec, s->o->modality > 0 ? s->o->modality : MM_REF_ANY, &it->ref))) return r < 0 ? 0 : take_media(s, w, it);
    }
    if (s->o->modality <= 0 && (r = find_text(s, it->rec, &text)) < 0) return 0;
    if (r > 0) {
        const mm_tower_config *c = mm_model_get_config(s->m, MM_TEXT);
        it->kind = s->o->overflow == OVERFLOW_DOCUMENT && c && (s->o->key || text.len > (size_t)c->window * LONG_TEXT) ? LONG : TEXT;
        it->mod = MM_TEXT;
        return take_text(s, w, it, text);
    }
    if (s->multi && s->o->modality != MM_TEXT && (r = mm_media_find(it->rec, s->o->modality > 0 ? s->o->modality : MM_REF_ANY, &it->ref)))
        return r < 0 ? 0 : take_media(s, w, it);
    const char *wanted = s->o->modality < 0 ? "text, image, audio or video" : mm_modality_name((mm_modality)s->o->modality);
    if (s->multi) mm_rec_fail(it->rec, MM_EDATA, "no %s, and no path of a file", wanted);
    else mm_rec_fail(it->rec, MM_EDATA, "no key \"text\", and no path of a file");
    return 0;
}

#include "cmd/pictures.h"
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"

#define MOST 256 /* pictures of one record */

typedef struct one {
    mm_media_ref ref;
    mm_job job;
    int sent, clip;
    mm_modality is[MM_JOB_SPECS]; /* before a connector: of the job's specifications */
} one;

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

int mm_pictures_open(mm_pictures *p, mm_lm *lm, mm_ctx *c)
{
    const mm_media_cli how = MM_MEDIA_CLI_INIT;
    if (p->connect.file && mm_vlm_spec(lm)) return mm_fail(&c->err, MM_EARG, "option '--connector': the decoder looks at pictures by itself");
    int r = mm_connect_open(&p->connect, lm, c);
    if (r || (!p->connect.c && !mm_vlm_spec(lm))) return r;
    p->lm = lm;
    return mm_media_workers(&p->pool, &how, c);
}

void mm_pictures_close(mm_pictures *p)
{
    if (p->pool) mm_workers_close(&p->pool);
    free(p->pics);
    free(p->embd);
    mm_buf_clear(&p->text);
    mm_connect_close(&p->connect);
    *p = (mm_pictures){ 0 };
}

size_t mm_pictures_rows(const mm_pictures *p, const mm_vlm_picture *pics, size_t n)
{
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) rows += p->connect.c ? mm_connector_rows(p->connect.c) : mm_vlm_squares(&pics[i]) * mm_vlm_tokens(p->lm);
    return rows;
}

/* One of a list, by way of a record that has it alone */
static int take_item(mm_rec *rec, const json_t *item, one *x)
{
    mm_err err = { 0 };
    mm_rec *alone = mm_rec_new();
    char *text = json_dumps(item, JSON_ENCODE_ANY | JSON_COMPACT);
    int r = !alone || !text || mm_rec_set(alone, "image", text, strlen(text)) ? MM_ENOMEM : mm_media_key(alone, MM_REF_IMAGE, &x->ref, &err);
    free(text);
    mm_rec_free(alone);
    if (!r) r = mm_fail(&err, MM_EDATA, "'image': null is no picture");
    return r < 0 ? mm_rec_fail(rec, r, "%s", err.msg[0] ? err.msg : "out of memory") : 0;
}

static int take_list(mm_rec *rec, mm_slice raw, one **out, size_t *n)
{
    mm_err err = { 0 };
    json_t *list = mm_json_load(raw.p, raw.len, "image", &err);
    const size_t count = json_array_size(list);
    int r = !list ? mm_rec_fail(rec, MM_EDATA, "%s", err.msg) : count > MOST ? mm_rec_fail(rec, MM_ELONG, "%zu pictures; the most is %d", count, MOST) : 0;
    *out = r ? NULL : calloc(count + 1, sizeof **out);
    if (!r && !*out) r = mm_rec_fail(rec, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < count && !r; i++) r = take_item(rec, json_array_get(list, i), &(*out)[i]);
    *n = *out ? count : 0;
    json_decref(list);
    return r;
}

static int has(mm_rec *rec, const char *key)
{
    mm_slice v;
    return mm_rec_get(rec, key, &v) && !(v.len == 4 && !memcmp(v.p, "null", 4));
}

int mm_pictures_named(const mm_pictures *p, mm_rec *rec)
{
    return p->lm && (has(rec, "image") || has(rec, "video") || (p->connect.c && has(rec, "audio")));
}

/* Where the record's pictures are */
static int take(const mm_pictures *p, mm_rec *rec, one **out, size_t *n)
{
    mm_slice raw;
    *out = NULL;
    *n = 0;
    const int named = has(rec, "image"), clip = has(rec, "video"), sound = p->connect.c && has(rec, "audio");
    if (named + clip + sound > 1) return mm_rec_fail(rec, MM_EUNSUP, "two of 'image', 'video', 'audio' in one record are not supported");
    if (named && mm_rec_get(rec, "image", &raw) && raw.len && raw.p[0] == '[') return take_list(rec, raw, out, n);
    if (!named && !clip && !sound && (has(rec, "text") || has(rec, "messages"))) return 0;
    if (!(*out = calloc(1, sizeof **out))) return mm_rec_fail(rec, MM_ENOMEM, "out of memory");
    const int any = p->connect.c && !named && !clip && !sound;
    const int r = mm_media_find(rec, any ? MM_REF_ANY : sound ? MM_REF_AUDIO : clip ? MM_REF_VIDEO : MM_REF_IMAGE, &(*out)->ref);
    (*out)->clip = clip ? 1 : named ? 0 : -1; /* -1: it will be seen */
    *n = r > 0;
    return r < 0 ? r : 0;
}

/* What the workers made of one picture, or of all frames of a clip: its rows at the end of p->embd. */
static int add(mm_pictures *p, mm_rec *rec, const one *x, mm_err *err)
{
    const mm_job *j = &x->job;
    const mm_vlm_picture pic = { j->facts.rows, j->facts.cols };
    const size_t pictures = x->clip && !p->connect.c ? (size_t)j->spec[0].views : 1, width = mm_lm_width(p->lm), rows = pictures * mm_pictures_rows(p, &pic, 1);
    float *embd = mm_realloc(p->embd, (p->rows + rows) * width, sizeof *embd);
    mm_err e = { 0 };
    if (!embd) return no_memory(err);
    p->embd = embd;
    const mm_part part = mm_media_part(j, x->is[j->chosen]);
    int r = p->connect.c ? mm_connect_see(&p->connect, &part, embd + p->rows * width, &e)
                         : mm_vlm_embed(p->lm, j->x, rows / mm_vlm_tokens(p->lm), embd + p->rows * width, err);
    if (r && p->connect.c) return r == MM_ENOMEM ? no_memory(err) : mm_rec_fail(rec, r, "%s", e.msg);
    if (!r && x->clip && !p->connect.c) r = mm_vlm_clip_text(j->facts.info.seconds, j->facts.times, pictures, &p->text);
    for (size_t i = 0; i < pictures; i++) p->pics[p->n++] = pic;
    p->rows += rows;
    return r;
}

static int submit(mm_pictures *p, one *x, int specs, mm_err *err)
{
    x->job.n = specs;
    x->job.src = x->ref.src;
    const int r = mm_workers_submit(p->pool, &x->job, err);
    x->sent = !r;
    return r;
}

/* A clip is prepared by how long it is. */
static int submit_clip(mm_pictures *p, mm_rec *rec, one *x, mm_err *err)
{
    int r = submit(p, x, 0, err);
    if (r) return r;
    mm_workers_wait(p->pool, &x->job);
    if (x->job.code) return mm_rec_fail(rec, x->job.code, "%s", x->job.message);
    const double seconds = x->job.facts.info.seconds;
    mm_workers_release(p->pool, &x->job);
    x->sent = 0;
    r = mm_vlm_clip_spec(p->lm, seconds, (int)p->frames, &x->job.spec[0], err);
    return r ? r : submit(p, x, 1, err);
}

/* As a picture; where that is yet to be seen, and it is none, as the clip that it may be. */
static int submit_picture(mm_pictures *p, mm_rec *rec, one *x, mm_err *err)
{
    const int unknown = x->clip < 0;
    x->clip = 0;
    x->job.spec[0] = *mm_vlm_spec(p->lm);
    const int r = submit(p, x, 1, err);
    if (r || !unknown) return r;
    mm_workers_wait(p->pool, &x->job);
    if (x->job.chosen >= 0 || !(x->job.facts.info.has & MM_MEDIA_VIDEO)) return 0;
    mm_workers_release(p->pool, &x->job);
    x->sent = 0;
    x->clip = 1;
    return submit_clip(p, rec, x, err);
}

static int submit_connected(mm_pictures *p, mm_rec *rec, one *x, mm_err *err)
{
    x->clip = 0;
    if (!mm_media_specs(p->connect.uni, mm_connector_mods(p->connect.c), x->ref.modality, &x->job, x->is))
        return mm_rec_fail(rec, MM_EUNSUP, "the connector was not trained on this kind");
    return submit(p, x, x->job.n, err);
}

static int look(mm_pictures *p, mm_rec *rec, one *x, size_t n, mm_err *err)
{
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) r = (p->connect.c ? submit_connected : x[i].clip > 0 ? submit_clip : submit_picture)(p, rec, &x[i], err);
    size_t all = 0;
    for (size_t i = 0; i < n; i++) all += x[i].clip ? (size_t)x[i].job.spec[0].views : 1;
    mm_vlm_picture *pics = mm_realloc(p->pics, all + 1, sizeof *pics);
    if (pics) p->pics = pics;
    else r = no_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (!x[i].sent) continue;
        mm_workers_wait(p->pool, &x[i].job);
        if (!r && x[i].job.code) r = mm_rec_fail(rec, x[i].job.code, "%s", x[i].job.message);
        if (!r) r = add(p, rec, &x[i], err);
        mm_workers_release(p->pool, &x[i].job);
    }
    return r;
}

int mm_pictures_of(mm_pictures *p, mm_rec *rec, mm_err *err)
{
    one *x;
    size_t n;
    p->n = p->rows = 0;
    mm_buf_reset(&p->text);
    if (!p->lm) return 0;
    int r = take(p, rec, &x, &n);
    if (!r && n) r = look(p, rec, x, n, err);
    for (size_t i = 0; i < n; i++) mm_buf_clear(&x[i].ref.bytes);
    free(x);
    return r;
}

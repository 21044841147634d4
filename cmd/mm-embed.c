/* mm-embed - text, pictures, sound and video into vectors. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "cmd/given.h"
#include "cmd/io.h"
#include "cmd/known.h"
#include "cmd/labels.h"
#include "cmd/media.h"
#include "cmd/parts.h"
#include "cmd/text.h"
#include "model/mm_document.h"

enum { CUT, SPLIT, DOCUMENT, ERROR };
enum { EMIT_VECTORS, EMIT_INPUTS };
enum { GATES = MM_FUSE_GATES, MEAN = MM_FUSE_MEAN, FIRST };
#define NO_TOKENS "the text has no tokens: there is nothing to embed"
#define LONG_TEXT 16 /* bytes for each token of the window: a longer text is no work for a batch where it becomes a document */
#define MEDIA_WINDOW 32 /* media of one window: decoded while the window before is computed */

static struct {
    const char *model, *prompt, *prefix, *append, *errors_to, *labels;
    int pooling, normalize, overflow, modality, fuse, track, emit, inputs, clean;
    int64_t max_tokens, key, window, frames, size, top, dim;
    mm_strv known, templates, require;
    mm_media_cli media;
    mm_io io;
} o = { .clean = 1,
        .pooling = -1, .normalize = -1, .modality = -1, .fuse = -1, .window = 256, .top = 5,
        .media = MM_MEDIA_CLI_INIT,
        .io = { .each_operand = 1 } };

static const mm_opt opts[] = {
    MM_OPT_GROUP("Embedding"),
    MM_OPT_STR('m', "model", &o.model, "NAME", "model: a name, a folder or a file (default: $MM_MODEL, or the built-in one)"),
    MM_OPT_INT(0, "dim", &o.dim, "N", 1, 1 << 20, "only the first N numbers of each vector, scaled to length 1 again, of models trained so"),
    MM_OPT_ENUM(0, "modality", &o.modality, "text|image|audio|video", "embed this part of a record alone"),
    MM_OPT_ENUM(0, "fuse", &o.fuse, "gates|mean|no", "parts of a record as one vector: weighed by the model (default where it can), equally, or the first"),
    MM_OPT_LIST(0, "require", &o.require, "MODALITY", "fail records of which this part is missing or broken, in place of embedding the rest"),
    MM_OPT_BOOL(0, "sound-track", &o.track, "the sound of a video is a part of its own"),
    MM_OPT_ENUM(0, "emit", &o.emit, "vectors|inputs", "write vectors (default), or what the model would see"),
    MM_OPT_BOOL(0, "inputs", &o.inputs, "embed the \"input\" of records that '--emit inputs' wrote"),
    MM_OPT_STR(0, "prompt", &o.prompt, "NAME", "put the checkpoint's prompt of this name before each text"),
    MM_OPT_STR(0, "prefix", &o.prefix, "TEXT", "put TEXT before each text, in place of any prompt"),
    MM_OPT_ENUM(0, "pooling", &o.pooling, "mean|cls|last|max",
                "how token vectors become one (default: the checkpoint's)"),
    MM_OPT_BOOL(0, "normalize", &o.normalize, "scale vectors to length 1 (default: as the checkpoint says)"),
    MM_OPT_BOOL(0, "clean", &o.clean, "undo HTML, quotes and wide forms in texts for CLIP, as it was trained (default)"),
    MM_OPT_INT(0, "max-tokens", &o.max_tokens, "N", 3, 1 << 24, "use at most N tokens of each text"),
    MM_OPT_ENUM(0, "overflow", &o.overflow, "cut|split|document|error",
                "what to do with longer texts (default: cut and say so; document: one vector of all of it)"),
    MM_OPT_INT(0, "key", &o.key, "N", 1, 1000, "write the N sentences that say most of a text as \"key\"; texts of any length"),
    MM_OPT_INT(0, "frames", &o.frames, "N", 1, 64, "frames of a video that a model for pictures (default 8), or the unified one, sees"),
    MM_OPT_INT(0, "size", &o.size, "N", 16, 4096, "pixels a side that the unified model sees of pictures and video, a multiple of 16"),
    MM_OPT_INT(0, "window", &o.window, "N", 1, 1 << 20, "records considered together (default 256)"),
    MM_OPT_GROUP("Labels"),
    MM_OPT_STR(0, "labels", &o.labels, "FILE", "score the labels of FILE, one a line, for each input: zero-shot classification"),
    MM_OPT_LIST(0, "template", &o.templates, "TEXT", "put labels in place of {} in TEXT; several are averaged (default: the label alone)"),
    MM_OPT_INT(0, "top", &o.top, "N", 1, 1 << 20, "labels written (default 5)"),
    MM_OPT_GROUP("Long runs"),
    MM_OPT_LIST(0, "skip-known", &o.known, "FILE", "leave out files that this index or file of records holds unchanged"),
    MM_OPT_STR(0, "append", &o.append, "FILE", "add to FILE and skip what it holds: a run that was stopped goes on"),
    MM_OPT_STR(0, "errors-to", &o.errors_to, "FILE", "write the records that fail to FILE instead"),
    MM_OPTS_MEDIA(o.media),
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

/* One record of a window. */
typedef struct item {
    mm_rec *rec;
    enum { PASS, TEXT, LONG, MEDIA, GIVEN, RECORD } kind; /* PASS: it failed, and is only written; LONG: a document; RECORD: of several parts */
    size_t at, len, skip;            /* its text in the window's `texts`, prefix included; skip: bytes of prefix */
    mm_media_ref ref;
    mm_job job;
    mm_modality mod;
    float *given;     /* of a GIVEN */
    const float *vec; /* after computing */
    mm_text_out res;
    mm_parts *parts;  /* of a RECORD, or NULL so far */
    float gates[MM_MODALITIES];
} item;

typedef struct window {
    item *items;
    size_t n, media;
    mm_buf texts;
    float *vec;
} window;

typedef struct state {
    mm_ctx *c;
    mm_model *m;
    mm_workers *pool;
    mm_job look; /* at the first operand, while the model is loaded */
    mm_known *known;
    mm_labels *labels;
    const char *prefix;
    size_t prefix_len, dim;
    int multi;      /* the model takes more than text: records say which modality was embedded */
    int fuse;       /* what becomes of records of several parts */
    unsigned require;
    int errors;     /* descriptor of --errors-to, or -1 */
    window w[2];
    mm_text_in *in; /* scratch of one window */
    mm_part *part;
    size_t *first;
    float *gate;
    mm_text_out *res;
    const float **x;
    int32_t *ids;
    float *cut;     /* [o.dim], or NULL */
    mm_buf file, out;
    mm_progress bar;
    uint64_t done, skipped;
} state;

/* ---- what a record holds ---- */

/* The text of a record: its key "text", or the file that a list of paths names; files are text only for a model that takes nothing else,
 * or when asked for. 1, 0: it has none, or the code of its failure. */
static int find_text(state *s, mm_rec *rec, mm_slice *text)
{
    mm_err err = { 0 };
    int r = mm_rec_str(rec, "text", text, &err);
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
    if (r > 0) return 1;
    mm_slice blob;
    if (mm_rec_blob(rec, &blob)) return 0;
    const char *path = mm_rec_path(rec);
    if (!path || (s->multi && o.modality != MM_TEXT)) return 0;
    return mm_text_file(rec, path, &s->file, text);
}

static int take_media(state *s, window *w, item *it)
{
    /* the order of preference where one file holds several */
    static const mm_modality order[] = { MM_VIDEO, MM_IMAGE, MM_AUDIO };
    static const mm_modality of_ref[] = { MM_MODALITIES, MM_IMAGE, MM_AUDIO, MM_VIDEO };
    mm_modality only = o.modality > 0 ? (mm_modality)o.modality : of_ref[it->ref.modality];
    it->job.n = 0;
    for (size_t i = 0; i < 3; i++) {
        const mm_input_spec *spec = mm_model_input_spec(s->m, order[i]);
        if (spec && (only == MM_MODALITIES || only == order[i])) it->job.spec[it->job.n++] = *spec;
    }
    if (!it->job.n) {
        mm_rec_fail(it->rec, MM_EUNSUP, "this model takes no %s", only == MM_MODALITIES ? "pictures, sound or video" : mm_modality_name(only));
        return 0;
    }
    it->job.src = it->ref.src;
    it->job.opts = mm_media_input_opts(&o.media);
    if (!s->pool) {
        int r = mm_media_workers(&s->pool, &o.media, s->c);
        if (r) return r;
    }
    int r = mm_workers_submit(s->pool, &it->job, &s->c->err);
    if (r) return r;
    it->kind = MEDIA;
    w->media++;
    return 0;
}

/* The text after the prefix, in the window's buffer. */
static int take_text(state *s, window *w, item *it, mm_slice text)
{
    it->at = w->texts.len;
    mm_buf_add(&w->texts, s->prefix, s->prefix_len);
    mm_buf_add(&w->texts, text.p, text.len);
    if (w->texts.failed) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    it->skip = s->prefix_len;
    it->len = w->texts.len - it->at;
    return 0;
}

static int take_parts(state *s, window *w, item *it, unsigned named)
{
    mm_input_opts how = mm_media_input_opts(&o.media);
    if (!it->parts && !(it->parts = calloc(1, sizeof *it->parts))) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    int media = mm_parts_take(it->parts, it->rec, s->m, named, o.track), r = 0;
    it->kind = RECORD;
    w->media += (size_t)media;
    if (media && !s->pool) r = mm_media_workers(&s->pool, &o.media, s->c);
    if (!r && media) r = mm_parts_submit(it->parts, s->pool, &how, &s->c->err);
    if (!r && it->parts->of[MM_TEXT].state == MM_PART_HELD) r = take_text(s, w, it, it->parts->text);
    return r;
}

/* Is the record one whose parts are looked at one by one? */
static int has_parts(const state *s, mm_rec *rec, unsigned *named)
{
    mm_slice blob;
    if (s->fuse == FIRST) return 0;
    *named = mm_parts_named(rec);
    if (*named & (*named - 1)) return 1;
    int some = *named || mm_rec_path(rec) || mm_rec_blob(rec, &blob), moving = !*named || *named == 1u << MM_VIDEO;
    return some && (s->require || (o.track && moving));
}

/* 1: the record is known and left out. */
static int take(state *s, window *w, item *it)
{
    mm_slice text;
    it->kind = PASS;
    it->vec = NULL;
    mm_rec_del(it->rec, "embedding");
    if (mm_rec_failed(it->rec)) return 0;
    const char *path = s->known ? mm_rec_path(it->rec) : NULL;
    if (path) {
        int r = mm_known_check(s->known, it->rec, path);
        if (r < 0) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
        if (r) return s->skipped++, 1;
    }
    unsigned parts;
    int r = o.inputs ? mm_given_take(it->rec, s->m, &it->mod, &it->given) : 0;
    if (r < 0) return 0;
    if (r) {
        it->kind = GIVEN;
        w->media++;
        return 0;
    }
    if (has_parts(s, it->rec, &parts)) return take_parts(s, w, it, parts);
    if (s->multi && o.modality != MM_TEXT) {
        mm_slice v;
        /* a key names a medium; a path or bytes are looked at */
        int named = mm_rec_get(it->rec, "video", &v) || mm_rec_get(it->rec, "image", &v) || mm_rec_get(it->rec, "audio", &v);
        if (named && (r = mm_media_find(it->rec, o.modality > 0 ? o.modality : MM_REF_ANY, &it->ref))) return r < 0 ? 0 : take_media(s, w, it);
    }
    if (o.modality <= 0 && (r = find_text(s, it->rec, &text)) < 0) return 0;
    if (r > 0) {
        const mm_tower_config *c = mm_model_get_config(s->m, MM_TEXT);
        it->kind = o.overflow == DOCUMENT && c && (o.key || text.len > (size_t)c->window * LONG_TEXT) ? LONG : TEXT;
        it->mod = MM_TEXT;
        return take_text(s, w, it, text);
    }
    if (s->multi && o.modality != MM_TEXT && (r = mm_media_find(it->rec, o.modality > 0 ? o.modality : MM_REF_ANY, &it->ref)))
        return r < 0 ? 0 : take_media(s, w, it);
    const char *wanted = o.modality < 0 ? "text, image, audio or video" : mm_modality_name((mm_modality)o.modality);
    if (s->multi) mm_rec_fail(it->rec, MM_EDATA, "no %s, and no path of a file", wanted);
    else mm_rec_fail(it->rec, MM_EDATA, "no key \"text\", and no path of a file");
    return 0;
}

/* ---- what is written ---- */

/* Every record goes out here. */
static int write_record(state *s, mm_rec *rec)
{
    if (s->errors < 0 || !mm_rec_failed(rec)) return mm_io_put(&o.io, rec);
    int r = mm_io_count(&o.io, rec);
    if (r) return r;
    mm_buf_reset(&s->out);
    if (mm_rec_json(rec, MM_ENC_NONE, &s->out, &s->c->err) || mm_buf_addc(&s->out, '\n')) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    r = mm_write_all(s->errors, s->out.p, s->out.len, &s->c->err);
    return r ? mm_err_prefix(&s->c->err, "'%s': ", o.errors_to), r : 0;
}

/* The vector, or of it what --dim leaves. */
static int set_vector(state *s, mm_rec *rec, const float *vec)
{
    if (!o.dim || (size_t)o.dim == s->dim) return mm_rec_set_vec(rec, MM_F32, vec, s->dim);
    memcpy(s->cut, vec, (size_t)o.dim * sizeof *vec);
    mm_kern_get()->l2_normalize(s->cut, 1, (size_t)o.dim);
    return mm_rec_set_vec(rec, MM_F32, s->cut, (size_t)o.dim);
}

static int add_model(state *s, mm_rec *rec) { return mm_rec_set_str(rec, "model", mm_model_fingerprint(s->m), strlen(mm_model_fingerprint(s->m))); }

static int add_tokens(mm_rec *rec, const mm_text_out *res)
{
    int r = mm_rec_set_int(rec, "tokens", res->tokens);
    return !r && res->used < res->tokens ? mm_rec_set_bool(rec, "truncated", 1) : r;
}

static int add_vector(state *s, mm_rec *rec, const mm_text_out *res, const float *vec)
{
    int r = add_model(s, rec);
    if (!r && s->multi) r = mm_rec_set_str(rec, "modality", "text", 4);
    if (!r) r = add_tokens(rec, res);
    if (!r && s->labels) r = mm_labels_report(s->labels, rec, vec, (size_t)o.top);
    if (!r) r = set_vector(s, rec, vec);
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* What the model would see: token ids, or an array as {"dtype":"F32","shape":[..],"b64":".."}. */
static int emit_ids(state *s, item *it, const char *text, size_t len)
{
    size_t n;
    mm_text_out res;
    int r = mm_model_text_ids(s->m, (mm_text_in){ text, len }, s->ids, &n, &res, &s->c->err);
    if (r) return r;
    mm_buf_reset(&s->out);
    for (size_t i = 0; i < n; i++) mm_buf_addf(&s->out, "%c%d", i ? ',' : '[', s->ids[i]);
    mm_buf_addc(&s->out, ']');
    r = s->out.failed || add_tokens(it->rec, &res) || mm_rec_set(it->rec, "ids", s->out.p, s->out.len);
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

static int emit_array(state *s, item *it)
{
    const mm_input_spec *sp = &it->job.spec[it->job.chosen];
    const int shape[] = { sp->views, sp->frames, sp->channels, sp->height, sp->width };
    const mm_input_facts *f = &it->job.facts;
    mm_buf *b = &s->out;
    int first = sp->views > 1 ? 0 : sp->frames > 1 ? 1 : 2;
    mm_buf_reset(b);
    mm_buf_adds(b, "{\"dtype\":\"F32\",\"shape\":");
    for (int i = first; i < 5; i++) mm_buf_addf(b, "%c%d", i == first ? '[' : ',', shape[i]);
    mm_buf_adds(b, "],\"b64\":\"");
    mm_base64_encode(b, it->job.x, mm_input_floats(sp) * sizeof(float));
    mm_buf_adds(b, "\"}");
    int r = b->failed || mm_rec_set(it->rec, "input", b->p, b->len);
    if (!r && f->n_times) {
        mm_buf_reset(b);
        for (int i = 0; i < f->n_times; i++) mm_buf_addf(b, "%c%.6g", i ? ',' : '[', (double)f->times[i]);
        mm_buf_addc(b, ']');
        r = b->failed || mm_rec_set(it->rec, "times", b->p, b->len);
    }
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* On stderr, what became of a medium that could not be used as it is. */
static void tell(state *s, mm_rec *rec, const mm_media_info *info)
{
    if (info->truncated) mm_warn(s->c, "%s: ends early or is damaged; what came before was used", mm_rec_place(rec));
    if (info->note[0]) mm_info(s->c, "%s: %s", mm_rec_place(rec), info->note);
}

static int put_media(state *s, item *it)
{
    mm_rec *rec = it->rec;
    if (!mm_rec_failed(rec)) {
        const char *name = mm_modality_name(it->mod);
        int r = o.emit == EMIT_VECTORS ? add_model(s, rec) : 0;
        if (!r) r = mm_rec_set_str(rec, "modality", name, strlen(name));
        if (!r) r = mm_media_report(rec, it->job.spec[it->job.chosen].source, &it->job.facts, o.media.quality);
        tell(s, rec, &it->job.facts.info);
        if (!r && o.emit == EMIT_INPUTS) r = emit_array(s, it);
        else if (!r && s->labels) r = mm_labels_report(s->labels, rec, it->vec, (size_t)o.top);
        if (!r && o.emit == EMIT_VECTORS) r = set_vector(s, rec, it->vec);
        if (r) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    }
    mm_workers_release(s->pool, &it->job);
    return write_record(s, rec);
}

static int put_given(state *s, item *it)
{
    int r = add_model(s, it->rec);
    if (!r && s->labels) r = mm_labels_report(s->labels, it->rec, it->vec, (size_t)o.top);
    if (!r) r = set_vector(s, it->rec, it->vec);
    free(it->given);
    it->given = NULL;
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : write_record(s, it->rec);
}

static int text_quality(state *s, mm_rec *rec, const char *text, size_t len)
{
    mm_text_quality q;
    char json[128];
    mm_text_measure(&q, text, len);
    int n = snprintf(json, sizeof json, "{\"valid\":%s,\"characters\":%zu,\"repetition\":%.4g}", q.valid ? "true" : "false", q.characters,
                     (double)q.repetition);
    return mm_rec_set(rec, "quality", json, (size_t)n) ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* A text longer than the window becomes a record for every part. */
static int put_parts(state *s, const window *w, item *it)
{
    mm_rec *part = mm_rec_new();
    mm_buf whole = { 0 }, id = { 0 }, b = { 0 };
    mm_slice v;
    const char *text = w->texts.p + it->at + it->skip;
    size_t len = it->len - it->skip, start = 0, end;
    float *vec = mm_realloc(NULL, s->dim, sizeof *vec);
    mm_err err = { 0 };
    int r = !part || !vec ? MM_ENOMEM : mm_rec_json(it->rec, MM_ENC_NONE, &whole, &err);
    if (!r && mm_rec_str(it->rec, "id", &v, &err) > 0) mm_buf_add(&id, v.p, v.len);
    else mm_buf_adds(&id, mm_rec_place(it->rec));
    size_t base = id.len;
    for (int no = 1; !r; no++, start = end) {
        mm_text_out res;
        if ((r = mm_document_chunk(s->m, s->prefix, text, len, &start, &end, &s->c->err)) <= 0) break;
        mm_buf_reset(&b);
        mm_buf_add(&b, s->prefix, s->prefix_len);
        mm_buf_add(&b, text + start, end - start);
        r = b.failed ? MM_ENOMEM : mm_model_embed_text(s->m, &(mm_text_in){ b.p, b.len }, 1, vec, &res, &s->c->err);
        if (r || res.code) continue; /* without a token */
        id.len = base;
        mm_buf_addf(&id, "#%d", no);
        mm_buf_reset(&b);
        mm_buf_addf(&b, "{\"n\":%d,\"start\":%zu,\"end\":%zu}", no, start, end);
        if (id.failed || b.failed || mm_rec_parse(part, whole.p, whole.len, &err) || mm_rec_set_str(part, "id", id.p, id.len) ||
            mm_rec_set_str(part, "text", text + start, end - start) || mm_rec_set(part, "chunk", b.p, b.len))
            r = MM_ENOMEM;
        if (!r) r = add_vector(s, part, &(mm_text_out){ .tokens = res.used, .used = res.used }, vec);
        if (!r) r = write_record(s, part);
    }
    if (r == MM_ENOMEM) mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    mm_rec_free(part);
    mm_buf_clear(&whole);
    mm_buf_clear(&id);
    mm_buf_clear(&b);
    free(vec);
    return r;
}

/* "key": the sentences that say most. */
static int add_key(state *s, mm_rec *rec, const char *text, const mm_span *key, size_t n)
{
    mm_buf *b = &s->out;
    mm_buf_reset(b);
    for (size_t i = 0; i < n; i++) {
        char score[17];
        score[mm_format_float(key[i].score, score)] = 0;
        mm_buf_addf(b, "%c{\"start\":%zu,\"end\":%zu,\"text\":", i ? ',' : '[', key[i].start, key[i].end);
        mm_json_quote(b, text + key[i].start, key[i].end - key[i].start);
        mm_buf_addf(b, ",\"score\":%s}", score);
    }
    mm_buf_adds(b, n ? "]" : "[]");
    return b->failed || mm_rec_set(rec, "key", b->p, b->len);
}

/* A text of any length as one vector. */
static int put_document(state *s, const window *w, item *it)
{
    const char *text = w->texts.p + it->at + it->skip;
    const size_t len = it->len - it->skip;
    size_t n = (size_t)o.key;
    float *vec = mm_realloc(NULL, s->dim, sizeof *vec);
    mm_span *key = mm_realloc(NULL, n + 1, sizeof *key);
    mm_document_out res;
    int r = !vec || !key ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory")
                         : mm_document_embed(s->m, s->prefix, text, len, vec, key, n ? &n : NULL, &res, &s->c->err);
    if (!r && res.code) mm_rec_fail(it->rec, MM_EEMPTY, "%s", NO_TOKENS);
    if (!r && !res.code) {
        const mm_text_out whole = { .tokens = (uint32_t)res.tokens, .used = (uint32_t)res.tokens };
        r = mm_rec_set_int(it->rec, "chunks", (int64_t)res.chunks) || (o.key && add_key(s, it->rec, text, key, n)) ||
            (o.media.quality && text_quality(s, it->rec, text, len)) || add_vector(s, it->rec, &whole, vec);
        if (r) r = mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    }
    free(vec);
    free(key);
    return r ? r : write_record(s, it->rec);
}

/* A text that is cut where that is not wanted. */
static int too_long(const state *s, mm_rec *rec, const mm_text_out *res)
{
    if (res->used == res->tokens || o.overflow != ERROR) return 0;
    return mm_rec_fail(rec, MM_ELONG, "the text has %u tokens, the model takes %lld", res->tokens, (long long)mm_model_get_config(s->m, MM_TEXT)->window);
}

static int put_record(state *s, const window *w, item *it)
{
    mm_parts *p = it->parts;
    mm_rec *rec = it->rec;
    if (it->vec && it->res.code) mm_parts_leave_out(p, MM_TEXT, MM_EEMPTY, "the text has no tokens");
    const int with_text = p->of[MM_TEXT].state == MM_PART_HELD;
    if (!mm_parts_check(p, rec, s->require) && !(with_text && too_long(s, rec, &it->res))) {
        int r = add_model(s, rec);
        for (int m = MM_IMAGE; m < MM_MODALITIES; m++)
            if (p->of[m].state == MM_PART_HELD) tell(s, rec, &p->of[m].job.facts.info);
        if (!r) r = mm_parts_report(p, rec, it->gates, o.media.quality);
        if (!r && with_text) r = add_tokens(rec, &it->res);
        if (!r && with_text && o.media.quality) r = text_quality(s, rec, w->texts.p + it->at + it->skip, it->len - it->skip);
        if (!r && s->labels) r = mm_labels_report(s->labels, rec, it->vec, (size_t)o.top);
        if (!r) r = set_vector(s, rec, it->vec);
        if (r) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    }
    mm_parts_release(p, s->pool);
    return write_record(s, rec);
}

static int put(state *s, const window *w, item *it)
{
    const mm_text_out *res = &it->res;
    int r = 0;
    if (it->kind == MEDIA) return put_media(s, it);
    if (it->kind == GIVEN) return put_given(s, it);
    if (it->kind == RECORD) return put_record(s, w, it);
    if (it->kind == LONG || (it->kind == TEXT && o.emit == EMIT_VECTORS && res->used < res->tokens && o.overflow == DOCUMENT)) return put_document(s, w, it);
    if (it->kind == TEXT && o.emit == EMIT_INPUTS) {
        r = emit_ids(s, it, w->texts.p + it->at, it->len);
    } else if (it->kind == TEXT && res->code == MM_EEMPTY) {
        mm_rec_fail(it->rec, MM_EEMPTY, "%s", NO_TOKENS);
    } else if (it->kind == TEXT && too_long(s, it->rec, res)) {
        r = 0; /* it failed */
    } else if (it->kind == TEXT && res->used < res->tokens && o.overflow == SPLIT) {
        return put_parts(s, w, it);
    } else if (it->kind == TEXT) {
        r = add_vector(s, it->rec, res, it->vec);
    }
    if (!r && it->kind == TEXT && o.media.quality && !mm_rec_failed(it->rec)) r = text_quality(s, it->rec, w->texts.p + it->at + it->skip, it->len - it->skip);
    return r ? r : write_record(s, it->rec);
}

/* ---- a window ---- */

static int compute_texts(state *s, window *w, float *vec, size_t *used)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++)
        if (w->items[i].kind == TEXT) s->in[n++] = (mm_text_in){ w->texts.p + w->items[i].at, w->items[i].len };
    *used = n;
    if (!n) return 0;
    int r = mm_model_embed_text(s->m, s->in, n, vec, s->res, &s->c->err);
    n = 0;
    for (size_t i = 0; i < w->n && !r; i++) {
        if (w->items[i].kind != TEXT) continue;
        w->items[i].res = s->res[n];
        w->items[i].vec = vec + n++ * s->dim;
    }
    return r;
}

/* Waits for the decoders; what failed there becomes an error record. */
static void collect(state *s, window *w)
{
    for (size_t i = 0; i < w->n; i++) {
        item *it = &w->items[i];
        if (it->kind == RECORD) mm_parts_settle(it->parts, s->pool);
        if (it->kind != MEDIA) continue;
        mm_workers_wait(s->pool, &it->job);
        if (it->job.code) {
            mm_rec_fail(it->rec, it->job.code, "%s", it->job.message);
            continue;
        }
        unsigned source = it->job.spec[it->job.chosen].source;
        it->mod = source == MM_MEDIA_VIDEO ? MM_VIDEO : source == MM_MEDIA_AUDIO ? MM_AUDIO : MM_IMAGE;
    }
}

static int compute_media(state *s, window *w, mm_modality mod, float *vec, size_t *used)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        item *it = &w->items[i];
        if ((it->kind != MEDIA && it->kind != GIVEN) || mm_rec_failed(it->rec) || it->mod != mod) continue;
        s->x[n] = it->kind == GIVEN ? it->given : it->job.x;
        it->vec = vec + n++ * s->dim;
    }
    *used = n;
    return n ? mm_model_embed_input(s->m, mod, s->x, n, vec, &s->c->err) : 0;
}

/* Records with nothing to compute keep vec NULL. */
static int compute_records(state *s, window *w, float *vec)
{
    size_t n = 0, all = 0;
    for (size_t i = 0; i < w->n; i++) {
        item *it = &w->items[i];
        if (it->kind != RECORD) continue;
        s->first[n] = all;
        for (int m = 0; m < MM_MODALITIES; m++) {
            if (it->parts->of[m].state != MM_PART_HELD) continue;
            s->part[all++] = (mm_part){ .mod = (mm_modality)m, .text = { w->texts.p + it->at, it->len }, .x = it->parts->of[m].job.x };
        }
        if (all > s->first[n]) it->vec = vec + n++ * s->dim;
    }
    s->first[n] = all;
    if (!n) return 0;
    int r = mm_model_embed_records(s->m, (mm_fuse)s->fuse, s->part, s->first, n, vec, s->gate, s->res, &s->c->err);
    n = 0;
    for (size_t i = 0; i < w->n && !r; i++) {
        item *it = &w->items[i];
        if (it->kind != RECORD || !it->vec) continue;
        it->res = s->res[s->first[n]]; /* a text comes first */
        for (size_t p = s->first[n]; p < s->first[n + 1]; p++) it->gates[s->part[p].mod] = s->gate[p];
        n++;
    }
    return r;
}

static int flush_window(state *s, window *w)
{
    float *vec = w->vec;
    size_t used;
    int r = 0;
    collect(s, w);
    if (o.emit == EMIT_VECTORS) {
        r = compute_texts(s, w, vec, &used);
        for (int mod = MM_IMAGE; mod <= MM_VIDEO && !r; mod++) {
            vec += used * s->dim;
            r = compute_media(s, w, (mm_modality)mod, vec, &used);
        }
        if (!r) r = compute_records(s, w, vec + used * s->dim);
    }
    for (size_t i = 0; i < w->n && !r; i++) r = put(s, w, &w->items[i]);
    s->done += w->n;
    mm_progress_tick(&s->bar, s->done);
    w->n = w->media = 0;
    mm_buf_reset(&w->texts);
    return r;
}

/* Two windows: while one is computed the decoders work on the other. What is there is computed when the input pauses, so that an
 * interactive pipe answers at once. */
static int stream(state *s, int argc, char **argv)
{
    int r = mm_io_open(&o.io, s->c, argc, argv), at = 0;
    if (r) return r;
    mm_progress_start(&s->bar, s->c, "records", 0);
    for (;;) {
        window *w = &s->w[at], *before = &s->w[1 - at];
        item *it = &w->items[w->n];
        if (!it->rec && !(it->rec = mm_rec_new())) r = mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
        int more = r ? r : mm_io_next(&o.io, it->rec), full = 0;
        if (more > 0) {
            int known = take(s, w, it);
            if (known < 0) {
                r = known;
                break;
            }
            if (!known) w->n++;
            full = w->n >= (size_t)o.window || w->media >= MEDIA_WINDOW || w->texts.len >= (size_t)16 << 20;
            if (!full && mm_io_pending(&o.io)) continue;
        }
        r = before->n ? flush_window(s, before) : 0;
        if (!r && more > 0 && w->media && mm_io_pending(&o.io)) {
            at = 1 - at;
            continue;
        }
        if (!r && w->n) r = flush_window(s, w);
        if (more < 0) r = more;
        if (r || more == 0) break;
    }
    mm_progress_end(&s->bar);
    if (s->skipped) mm_info(s->c, "%llu unchanged files left out", (unsigned long long)s->skipped);
    return mm_io_close(&o.io, r);
}

/* What becomes of records of several parts with this model. */
static int choose_fuse(state *s, const char *name)
{
    mm_err *err = &s->c->err;
    s->fuse = o.fuse >= 0 ? o.fuse : mm_model_has_gates(s->m) ? GATES : FIRST;
    if (!s->multi || o.modality >= 0 || o.emit == EMIT_INPUTS) s->fuse = FIRST;
    if (o.fuse == GATES && !mm_model_has_gates(s->m))
        return mm_fail(err, MM_EUNSUP, "model '%s' does not weigh the parts of a record: option '--fuse mean' takes them equally", name);
    int r = mm_parts_require(&o.require, &s->require, err);
    if (r || s->fuse != FIRST || !(o.require.n || o.track)) return r;
    return mm_fail(err, MM_EARG, "option '--%s' is for records of several parts, of which model '%s' embeds one%s", o.track ? "sound-track" : "require", name,
                   s->multi ? ": '--fuse mean' embeds all" : "");
}

static int open_model(state *s)
{
    mm_ctx *c = s->c;
    const char *name = o.model ? o.model : mm_store_default_name();
    char *path;
    int r = mm_store_resolve(&path, name, &c->err);
    if (r) return r;
    mm_model_opts mo = { (int)c->threads, o.pooling, o.normalize, o.max_tokens, (int)o.frames, !o.clean, 0, (int)o.size, 0 };
    r = mm_model_open(&s->m, path, &mo, &c->err);
    free(path);
    if (r) return r;
    const mm_tower_config *text = mm_model_get_config(s->m, MM_TEXT);
    if (text && !text->pool_stated)
        mm_warn(c, "model '%s' says nothing about pooling: mean is assumed (--pooling says otherwise)", name);
    for (int i = MM_IMAGE; i < MM_MODALITIES; i++) s->multi |= mm_model_input_spec(s->m, (mm_modality)i) != NULL;
    if (o.modality > 0 && !mm_model_input_spec(s->m, (mm_modality)o.modality))
        return mm_fail(&c->err, MM_EUNSUP, "model '%s' takes no %s", name, mm_modality_name((mm_modality)o.modality));
    if ((r = choose_fuse(s, name))) return r;
    s->prefix = o.prefix ? o.prefix : mm_model_prompt(s->m, o.prompt);
    if (o.prompt && !s->prefix) return mm_fail(&c->err, MM_EARG, "model '%s' has no prompt '%s'", name, o.prompt);
    if (!s->prefix) s->prefix = "";
    s->prefix_len = strlen(s->prefix);
    if (mm_utf8_valid(s->prefix, s->prefix_len) < s->prefix_len)
        return mm_fail(&c->err, MM_EARG, "the prefix is not valid UTF-8");
    s->dim = mm_model_dim(s->m);
    size_t least = mm_model_nested(s->m);
    if (o.dim && !least) return mm_fail(&c->err, MM_EARG, "model '%s' was not trained to have its vectors cut: option '--dim' is not for it", name);
    if (o.dim && ((size_t)o.dim < least || (size_t)o.dim > s->dim))
        return mm_fail(&c->err, MM_EARG, "option '--dim': vectors of '%s' may have %zu to %zu numbers", name, least, s->dim);
    if (o.dim && !(s->cut = mm_realloc(NULL, (size_t)o.dim, sizeof *s->cut))) return mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (o.labels && (r = mm_labels_open(&s->labels, s->m, o.labels, &o.templates, &c->err))) return r;
    if (text && !(s->ids = mm_realloc(NULL, (size_t)text->window, sizeof *s->ids))) return mm_fail(&c->err, MM_ENOMEM, "out of memory");
    return 0;
}

static int open_files(state *s)
{
    mm_ctx *c = s->c;
    const char **names = calloc(o.known.n + 2, sizeof *names);
    size_t n = 0;
    int r = names ? 0 : mm_fail(&c->err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; !r && i < o.known.n; i++) names[n++] = o.known.v[i];
    if (!r && o.append) names[n++] = o.append;
    if (!r && n) r = mm_known_open(&s->known, names, n, mm_model_fingerprint(s->m), &c->err);
    free(names);
    if (!r && o.append) r = mm_append_open(c, o.append, 1, NULL, NULL);
    if (!r && o.errors_to) {
        s->errors = open(o.errors_to, O_WRONLY | O_CREAT | O_CLOEXEC | (o.append ? O_APPEND : O_TRUNC), 0666);
        if (s->errors < 0) r = mm_fail_errno(&c->err, "cannot open '%s'", o.errors_to);
    }
    return r;
}

static int check(mm_ctx *c)
{
    int r = mm_opt_exclusive(c, "prompt", "prefix", NULL);
    static const char *const whole[] = { "fuse", "require", "sound-track" };
    for (size_t i = 0; i < 3 && !r; i++) {
        r = mm_opt_exclusive(c, "modality", whole[i], NULL);
        if (!r && o.emit == EMIT_INPUTS) r = mm_opt_exclusive(c, "emit", whole[i], NULL);
    }
    if (!r) r = mm_opt_exclusive(c, "append", "output", NULL);
    if (!r) r = mm_opt_exclusive(c, "append", "binary", NULL);
    if (!r && o.key && o.overflow == CUT) o.overflow = DOCUMENT;
    if (!r && o.key && o.overflow != DOCUMENT) r = mm_fail(&c->err, MM_EARG, "option '--key' is for '--overflow document'");
    if (!r && o.emit == EMIT_INPUTS) {
        static const char *const with[] = { "labels", "overflow", "key", "normalize", "pooling", "inputs" };
        for (size_t i = 0; i < 6 && !r; i++) r = mm_opt_exclusive(c, "emit", with[i], NULL);
    }
    if (!r && o.templates.n && !o.labels) r = mm_fail(&c->err, MM_EARG, "option '--template' needs '--labels FILE'");
    return r;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    state s = { .c = c, .errors = -1 };
    size_t n = (size_t)o.window;
    int r = check(c);
    if (!r && !o.io.text && !o.io.nul) r = mm_media_begin(&s.pool, &s.look, &o.media, c, argc, argv);
    if (!r) r = open_model(&s);
    if (!r) r = open_files(&s);
    if (!r) {
        const size_t parts = s.fuse == FIRST ? 1 : MM_MODALITIES;
        s.in = calloc(n, sizeof *s.in);
        s.res = calloc(n * parts + 1, sizeof *s.res);
        s.x = calloc(n, sizeof *s.x);
        s.part = calloc(n * parts, sizeof *s.part);
        s.gate = calloc(n * parts, sizeof *s.gate);
        s.first = calloc(n + 1, sizeof *s.first);
        int bad = !s.in || !s.res || !s.x || !s.part || !s.gate || !s.first;
        for (int i = 0; i < (s.multi ? 2 : 1); i++) {
            s.w[i].items = calloc(n, sizeof *s.w[i].items);
            s.w[i].vec = mm_aligned(n * s.dim, sizeof *s.w[i].vec);
            bad |= !s.w[i].items || !s.w[i].vec;
        }
        r = bad ? mm_fail(&c->err, MM_ENOMEM, "out of memory") : stream(&s, argc, argv);
    }
    mm_workers_close(&s.pool);
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; s.w[i].items && k < n; k++) {
            mm_rec_free(s.w[i].items[k].rec);
            mm_buf_clear(&s.w[i].items[k].ref.bytes);
            if (s.w[i].items[k].parts) mm_parts_clear(s.w[i].items[k].parts);
            free(s.w[i].items[k].parts);
            free(s.w[i].items[k].given);
        }
        free(s.w[i].items);
        free(s.w[i].vec);
        mm_buf_clear(&s.w[i].texts);
    }
    if (s.errors >= 0 && close(s.errors) && !r) r = mm_fail_errno(&c->err, "cannot write '%s'", o.errors_to);
    free(s.in);
    free(s.res);
    free(s.x);
    free(s.part);
    free(s.gate);
    free(s.first);
    free(s.ids);
    free(s.cut);
    mm_buf_clear(&s.file);
    mm_buf_clear(&s.out);
    mm_labels_close(&s.labels);
    mm_known_close(&s.known);
    mm_model_close(&s.m);
    return r;
}

static const char *const usage[] = { "[-m NAME] [-t0b] [option ...] [file ...]", NULL };
static const mm_cmd cmd = { "mm-embed", "turn text, pictures, sound and video into vectors", usage, opts, run };

int main(int argc, char **argv)
{
    mm_cmd_calm_threads(argv);
    return mm_cmd_main(&cmd, argc, argv);
}

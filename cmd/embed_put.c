/* What mm-embed writes of a record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/embed.h"
#include "model/mm_document.h"

#define NO_TOKENS "the text has no tokens: there is nothing to embed"

/* Every record goes out here. */
static int write_record(mm_embed *s, mm_rec *rec)
{
    if (s->errors < 0 || !mm_rec_failed(rec)) return mm_io_put(&s->o->io, rec);
    mm_buf_reset(&s->out);
    if (mm_rec_json(rec, MM_ENC_NONE, &s->out, &s->c->err) || mm_buf_addc(&s->out, '\n')) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    const int r = mm_write_all(s->errors, s->out.p, s->out.len, &s->c->err);
    return r ? mm_err_prefix(&s->c->err, "'%s': ", s->o->errors_to), r : mm_io_count(&s->o->io, rec);
}

/* The vector, or of it what --dim leaves. */
static int set_vector(mm_embed *s, mm_rec *rec, const float *vec)
{
    if (!s->o->dim || (size_t)s->o->dim == s->dim) return mm_rec_set_vec(rec, MM_F32, vec, s->dim);
    memcpy(s->cut, vec, (size_t)s->o->dim * sizeof *vec);
    mm_kern_get()->l2_normalize(s->cut, 1, (size_t)s->o->dim);
    return mm_rec_set_vec(rec, MM_F32, s->cut, (size_t)s->o->dim);
}

static int add_model(mm_embed *s, mm_rec *rec) { return mm_rec_set_str(rec, "model", mm_model_fingerprint(s->m), strlen(mm_model_fingerprint(s->m))); }

static int add_tokens(mm_rec *rec, const mm_text_out *res)
{
    int r = mm_rec_set_int(rec, "tokens", res->tokens);
    return !r && res->used < res->tokens ? mm_rec_set_bool(rec, "truncated", 1) : r;
}

static int add_vector(mm_embed *s, mm_rec *rec, const mm_text_out *res, const float *vec)
{
    int r = add_model(s, rec);
    if (!r && s->multi) r = mm_rec_set_str(rec, "modality", "text", 4);
    if (!r) r = add_tokens(rec, res);
    if (!r && s->labels) r = mm_labels_report(s->labels, rec, vec, (size_t)s->o->top);
    if (!r) r = set_vector(s, rec, vec);
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* What the model would see: token ids, or an array as {"dtype":"F32","shape":[..],"b64":".."}. */
static int emit_ids(mm_embed *s, mm_embed_item *it, const char *text, size_t len)
{
    size_t n;
    mm_text_out res;
    int r = mm_model_text_ids(s->m, (mm_text_in){ text, len }, s->ids, &n, &res, &s->c->err);
    if (r) return r;
    mm_buf_reset(&s->out);
    if (res.code) return mm_rec_fail(it->rec, res.code, "%s", NO_TOKENS), 0;
    for (size_t i = 0; i < n; i++) mm_buf_addf(&s->out, "%c%d", i ? ',' : '[', s->ids[i]);
    mm_buf_addc(&s->out, ']');
    r = s->out.failed || add_tokens(it->rec, &res) || mm_rec_set(it->rec, "ids", s->out.p, s->out.len);
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

static int emit_array(mm_embed *s, mm_embed_item *it)
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
        for (int i = 0; i < f->n_times; i++) mm_buf_addf(b, "%c%.9g", i ? ',' : '[', (double)f->times[i]);
        mm_buf_addc(b, ']');
        r = b->failed || mm_rec_set(it->rec, "times", b->p, b->len);
    }
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* On stderr, what became of a medium that could not be used as it is. */
static void tell(mm_embed *s, mm_rec *rec, const mm_media_info *info)
{
    if (info->truncated) mm_warn(s->c, "%s: ends early or is damaged; what came before was used", mm_rec_place(rec));
    if (info->note[0]) mm_info(s->c, "%s: %s", mm_rec_place(rec), info->note);
}

static int put_media(mm_embed *s, mm_embed_item *it)
{
    mm_rec *rec = it->rec;
    if (!mm_rec_failed(rec)) {
        const char *name = mm_modality_name(it->mod);
        int r = s->o->emit == EMIT_VECTORS ? add_model(s, rec) : 0;
        if (!r) r = mm_rec_set_str(rec, "modality", name, strlen(name));
        if (!r) r = mm_media_report(rec, it->job.spec[it->job.chosen].source, &it->job.facts, s->o->media.quality);
        tell(s, rec, &it->job.facts.info);
        if (!r && s->o->emit == EMIT_INPUTS) r = emit_array(s, it);
        else if (!r && s->labels) r = mm_labels_report(s->labels, rec, it->vec, (size_t)s->o->top);
        if (!r && s->o->emit == EMIT_VECTORS) r = set_vector(s, rec, it->vec);
        if (r) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    }
    mm_workers_release(s->pool, &it->job);
    return write_record(s, rec);
}

static int put_given(mm_embed *s, mm_embed_item *it)
{
    int r = add_model(s, it->rec);
    if (!r && s->labels) r = mm_labels_report(s->labels, it->rec, it->vec, (size_t)s->o->top);
    if (!r) r = set_vector(s, it->rec, it->vec);
    free(it->given);
    it->given = NULL;
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : write_record(s, it->rec);
}

static int text_quality(mm_embed *s, mm_rec *rec, const char *text, size_t len)
{
    mm_text_quality q;
    char json[128];
    mm_text_measure(&q, text, len);
    int n = snprintf(json, sizeof json, "{\"valid\":%s,\"characters\":%zu,\"repetition\":%.4g}", q.valid ? "true" : "false", q.characters,
                     (double)q.repetition);
    return mm_rec_set(rec, "quality", json, (size_t)n) ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* A text longer than the window becomes a record for every part. */
static int put_parts(mm_embed *s, const mm_embed_window *w, mm_embed_item *it)
{
    mm_rec *part = mm_rec_new();
    mm_buf whole = { 0 }, id = { 0 }, b = { 0 };
    const mm_slice name = mm_rec_name(it->rec);
    const char *text = w->texts.p + it->at + it->skip;
    size_t len = it->len - it->skip, start = 0, end;
    float *vec = mm_realloc(NULL, s->dim, sizeof *vec);
    mm_err err = { 0 };
    int r = !part || !vec ? MM_ENOMEM : mm_rec_json(it->rec, MM_ENC_NONE, &whole, &err);
    mm_buf_add(&id, name.p, name.len);
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
static int add_key(mm_embed *s, mm_rec *rec, const char *text, const mm_span *key, size_t n)
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
static int put_document(mm_embed *s, const mm_embed_window *w, mm_embed_item *it)
{
    const char *text = w->texts.p + it->at + it->skip;
    const size_t len = it->len - it->skip;
    size_t n = (size_t)s->o->key;
    float *vec = mm_realloc(NULL, s->dim, sizeof *vec);
    mm_span *key = mm_realloc(NULL, n + 1, sizeof *key);
    mm_document_out res;
    int r = !vec || !key ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory")
                         : mm_document_embed(s->m, s->prefix, text, len, vec, key, n ? &n : NULL, &res, &s->c->err);
    if (!r && res.code) mm_rec_fail(it->rec, MM_EEMPTY, "%s", NO_TOKENS);
    if (!r && !res.code) {
        const mm_text_out whole = { .tokens = (uint32_t)res.tokens, .used = (uint32_t)res.tokens };
        r = mm_rec_set_int(it->rec, "chunks", (int64_t)res.chunks) || (s->o->key && add_key(s, it->rec, text, key, n)) ||
            (s->o->media.quality && text_quality(s, it->rec, text, len)) || add_vector(s, it->rec, &whole, vec);
        if (r) r = mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    }
    free(vec);
    free(key);
    return r ? r : write_record(s, it->rec);
}

/* A text that is cut where that is not wanted. */
static int too_long(const mm_embed *s, mm_rec *rec, const mm_text_out *res)
{
    if (res->used == res->tokens || s->o->overflow != OVERFLOW_ERROR) return 0;
    return mm_rec_fail(rec, MM_ELONG, "the text has %u tokens, the model takes %lld", res->tokens, (long long)mm_model_get_config(s->m, MM_TEXT)->window);
}

static int put_record(mm_embed *s, const mm_embed_window *w, mm_embed_item *it)
{
    mm_parts *p = it->parts;
    mm_rec *rec = it->rec;
    if (it->vec && it->res.code) mm_parts_leave_out(p, MM_TEXT, MM_EEMPTY, "the text has no tokens");
    const int with_text = p->of[MM_TEXT].state == MM_PART_HELD;
    if (!mm_parts_check(p, rec, s->require) && !(with_text && too_long(s, rec, &it->res))) {
        int r = add_model(s, rec);
        for (int m = MM_IMAGE; m < MM_MODALITIES; m++)
            if (p->of[m].state == MM_PART_HELD) tell(s, rec, &p->of[m].job.facts.info);
        if (!r) r = mm_parts_report(p, rec, it->gates, s->o->media.quality);
        if (!r && with_text) r = add_tokens(rec, &it->res);
        if (!r && with_text && s->o->media.quality) r = text_quality(s, rec, w->texts.p + it->at + it->skip, it->len - it->skip);
        if (!r && s->labels) r = mm_labels_report(s->labels, rec, it->vec, (size_t)s->o->top);
        if (!r) r = set_vector(s, rec, it->vec);
        if (r) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    }
    mm_parts_release(p, s->pool);
    return write_record(s, rec);
}

int mm_embed_put(mm_embed *s, const mm_embed_window *w, mm_embed_item *it)
{
    const mm_text_out *res = &it->res;
    const int text = it->kind == TEXT, overflow = s->o->overflow, cut = text && res->used < res->tokens;
    int r = 0;
    if (it->kind == MEDIA) return put_media(s, it);
    if (it->kind == GIVEN) return put_given(s, it);
    if (it->kind == RECORD) return put_record(s, w, it);
    if (it->kind == LONG || (cut && s->o->emit == EMIT_VECTORS && overflow == OVERFLOW_DOCUMENT)) return put_document(s, w, it);
    if (text && s->o->emit == EMIT_INPUTS) {
        r = emit_ids(s, it, w->texts.p + it->at, it->len);
    } else if (text && res->code == MM_EEMPTY) {
        mm_rec_fail(it->rec, MM_EEMPTY, "%s", NO_TOKENS);
    } else if (text && too_long(s, it->rec, res)) {
        r = 0; /* it failed */
    } else if (cut && overflow == OVERFLOW_SPLIT) {
        return put_parts(s, w, it);
    } else if (text) {
        r = add_vector(s, it->rec, res, it->vec);
    }
    if (!r && text && s->o->media.quality && !mm_rec_failed(it->rec)) r = text_quality(s, it->rec, w->texts.p + it->at + it->skip, it->len - it->skip);
    return r ? r : write_record(s, it->rec);
}

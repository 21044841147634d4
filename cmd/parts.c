#include "cmd/parts.h"
#include <stdio.h>
#include <string.h>
#include "base/mm_base.h"

typedef struct mm_parts_one one;

static int held(const mm_parts *p, int m) { return p->of[m].state == MM_PART_HELD; }

unsigned mm_parts_named(const mm_rec *rec)
{
    unsigned named = 0;
    mm_slice v;
    for (int m = 0; m < MM_MODALITIES; m++)
        if (mm_rec_get(rec, mm_modality_name((mm_modality)m), &v) && !(v.len == 4 && !memcmp(v.p, "null", 4))) named |= 1u << m;
    return named;
}

static int is_name(mm_modality m, const char *s, size_t len)
{
    const char *name = mm_modality_name(m);
    return strlen(name) == len && !memcmp(name, s, len);
}

int mm_parts_require(const mm_strv *list, unsigned *bits, mm_err *err)
{
    *bits = 0;
    for (size_t i = 0; i < list->n; i++)
        for (const char *at = list->v[i], *end;; at = end + 1) {
            int m = 0;
            end = at + strcspn(at, ",");
            while (m < MM_MODALITIES && !is_name((mm_modality)m, at, (size_t)(end - at))) m++;
            if (m == MM_MODALITIES) return mm_fail(err, MM_EARG, "option '--require': '%.*s' should be one of text|image|audio|video", (int)(end - at), at);
            *bits |= 1u << m;
            if (!*end) break;
        }
    return 0;
}

/* ---- from the record to the decoders ---- */

void mm_parts_leave_out(mm_parts *p, mm_modality mod, int code, const char *reason)
{
    p->of[mod].state = MM_PART_LEFT_OUT;
    p->of[mod].code = code;
    snprintf(p->of[mod].reason, sizeof p->of[mod].reason, "%s", reason);
}

static void take_text(mm_parts *p, mm_rec *rec)
{
    mm_err err = { 0 };
    int r = mm_rec_str(rec, "text", &p->text, &err);
    if (r < 0) mm_parts_leave_out(p, MM_TEXT, r, err.msg);
    else p->of[MM_TEXT].state = MM_PART_HELD;
}

static int take_medium(mm_parts *p, mm_rec *rec, const mm_model *m, mm_modality mod)
{
    const mm_input_spec *spec = mm_model_input_spec(m, mod);
    one *x = &p->of[mod];
    mm_err err = { 0 };
    if (!spec) mm_fail(&err, MM_EUNSUP, "this model takes no %s", mm_modality_name(mod));
    else mm_media_key(rec, (int)mod, &x->ref, &err); /* the numbers of MM_REF_* are those of the modalities */
    if (err.code) return mm_parts_leave_out(p, mod, err.code, err.msg), 0;
    x->job.spec[0] = *spec;
    x->job.n = 1;
    x->job.src = x->ref.src;
    x->state = MM_PART_HELD;
    return 1;
}

static int take_file(mm_parts *p, mm_rec *rec, const mm_model *m)
{
    static const mm_modality order[] = { MM_VIDEO, MM_IMAGE, MM_AUDIO };
    one *x = &p->of[MM_VIDEO];
    if (mm_media_find(rec, MM_REF_ANY, &x->ref) <= 0) return 0;
    x->job.n = 0;
    for (size_t i = 0; i < 3; i++) {
        const mm_input_spec *spec = mm_model_input_spec(m, order[i]);
        if (spec) x->job.spec[x->job.n++] = *spec;
    }
    x->job.src = x->ref.src;
    x->state = MM_PART_HELD;
    return p->any = 1;
}

int mm_parts_take(mm_parts *p, mm_rec *rec, const mm_model *m, unsigned named, int track)
{
    int media = 0;
    for (int i = 0; i < MM_MODALITIES; i++) p->of[i].state = MM_PART_NONE;
    p->any = p->track = 0;
    if (named & 1u << MM_TEXT) take_text(p, rec);
    for (int i = MM_IMAGE; i < MM_MODALITIES; i++)
        if (named & 1u << i) media += take_medium(p, rec, m, (mm_modality)i);
    if (!named) media += take_file(p, rec, m);
    const mm_input_spec *sound = mm_model_input_spec(m, MM_AUDIO);
    if (!track || !sound || !held(p, MM_VIDEO) || named & 1u << MM_AUDIO) return media;
    p->track = 1;
    p->of[MM_AUDIO].job.spec[0] = *sound;
    p->of[MM_AUDIO].job.n = 1;
    p->of[MM_AUDIO].job.src = p->of[MM_VIDEO].job.src;
    p->of[MM_AUDIO].state = MM_PART_HELD;
    return media + 1;
}

int mm_parts_submit(mm_parts *p, mm_workers *pool, const mm_input_opts *how, mm_err *err)
{
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) {
        if (!held(p, m)) continue;
        p->of[m].job.opts = *how;
        int r = mm_workers_submit(pool, &p->of[m].job, err);
        if (r) return r;
        p->of[m].sent = 1;
    }
    return 0;
}

/* ---- what came of them ---- */

static void release(one *x, mm_workers *pool)
{
    if (!x->sent) return;
    mm_workers_wait(pool, &x->job);
    mm_workers_release(pool, &x->job);
    x->sent = 0;
}

/* A file turned out to be no video. */
static void rename_part(mm_parts *p, mm_workers *pool)
{
    const one *x = &p->of[MM_VIDEO];
    if (!held(p, MM_VIDEO) || x->job.chosen < 0) return;
    unsigned source = x->job.spec[x->job.chosen].source;
    if (source == MM_MEDIA_VIDEO) return;
    mm_modality is = source == MM_MEDIA_AUDIO ? MM_AUDIO : MM_IMAGE;
    release(&p->of[MM_AUDIO], pool);
    p->of[MM_AUDIO].state = MM_PART_NONE;
    one other = p->of[is];
    p->of[is] = *x;
    p->of[MM_VIDEO] = other;
}

void mm_parts_settle(mm_parts *p, mm_workers *pool)
{
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++)
        if (p->of[m].sent) mm_workers_wait(pool, &p->of[m].job);
    if (p->any) rename_part(p, pool);
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) {
        one *x = &p->of[m];
        if (!held(p, m)) continue;
        const mm_job *j = &x->job;
        const char *nothing = j->code ? NULL : mm_input_nothing(j->x, &j->spec[j->chosen], &j->facts);
        if (j->code) mm_parts_leave_out(p, (mm_modality)m, j->code, j->message);
        else if (nothing) mm_parts_leave_out(p, (mm_modality)m, MM_EEMPTY, nothing);
    }
    /* a video without sound lacks nothing */
    const mm_job *sound = &p->of[MM_AUDIO].job;
    if (p->track && sound->code == MM_EUNSUP && sound->chosen < 0) p->of[MM_AUDIO].state = MM_PART_NONE;
}

int mm_parts_check(const mm_parts *p, mm_rec *rec, unsigned require)
{
    mm_buf why = { 0 };
    int left = 0, code = 0;
    for (int m = 0; m < MM_MODALITIES; m++) {
        const one *x = &p->of[m];
        const char *name = mm_modality_name((mm_modality)m);
        left += held(p, m);
        if (require & 1u << m && x->state == MM_PART_NONE) return mm_rec_fail(rec, MM_EDATA, "%s is required, and there is none", name);
        if (require & 1u << m && !held(p, m)) return mm_rec_fail(rec, x->code, "%s is required: %s", name, x->reason);
        if (x->state != MM_PART_LEFT_OUT) continue;
        if (!code) code = x->code;
        if (!p->any) mm_buf_addf(&why, "%s%s: %s", why.len ? "; " : "", name, x->reason);
        else if (!why.len) mm_buf_adds(&why, x->reason); /* of the one file */
    }
    int r = left ? 0 : mm_rec_fail(rec, code ? code : MM_EDATA, "%s", why.p ? why.p : "nothing to embed");
    mm_buf_clear(&why);
    return r;
}

/* What was found out while decoding, as an object of each medium. */
static int report_media(const mm_parts *p, mm_rec *rec, int quality)
{
    mm_buf b = { 0 };
    int r = 0;
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
        if (!held(p, m)) continue;
        mm_rec *own = mm_rec_new();
        r = !own || mm_media_report(own, p->of[m].job.spec[p->of[m].job.chosen].source, &p->of[m].job.facts, quality);
        if (!r && mm_rec_count(own)) {
            mm_buf_addf(&b, "%s\"%s\":", b.len ? "," : "{", mm_modality_name((mm_modality)m));
            r = mm_rec_json(own, MM_ENC_NONE, &b, NULL);
        }
        mm_rec_free(own);
    }
    if (!r && b.len) r = mm_buf_addc(&b, '}') || mm_rec_set(rec, "media", b.p, b.len);
    mm_buf_clear(&b);
    return r ? MM_ENOMEM : 0;
}

/* The modality of a record that has one part and lost none: it is written as such records always are. -1: it is not so. */
static int alone(const mm_parts *p)
{
    int only = -1;
    for (int m = 0; m < MM_MODALITIES; m++) {
        if (p->of[m].state == MM_PART_NONE) continue;
        if (only >= 0 || !held(p, m)) return -1;
        only = m;
    }
    return only;
}

int mm_parts_report(const mm_parts *p, mm_rec *rec, const float gates[MM_MODALITIES], int quality)
{
    mm_buf names = { 0 }, weights = { 0 }, dropped = { 0 };
    const int only = alone(p);
    if (only >= 0) {
        const mm_job *j = &p->of[only].job;
        const char *name = mm_modality_name((mm_modality)only);
        if (mm_rec_set_str(rec, "modality", name, strlen(name))) return MM_ENOMEM;
        return only == MM_TEXT ? 0 : mm_media_report(rec, j->spec[j->chosen].source, &j->facts, quality);
    }
    for (int m = 0; m < MM_MODALITIES; m++) {
        const char *name = mm_modality_name((mm_modality)m);
        if (held(p, m)) {
            char num[17];
            num[mm_format_float(gates[m], num)] = 0;
            mm_buf_addf(&names, "%s%s", names.len ? "+" : "", name);
            mm_buf_addf(&weights, "%c\"%s\":%s", weights.len ? ',' : '{', name, num);
        } else if (p->of[m].state == MM_PART_LEFT_OUT) {
            mm_buf_addf(&dropped, "%c{\"modality\":\"%s\",\"reason\":", dropped.len ? ',' : '[', name);
            mm_json_quote(&dropped, p->of[m].reason, strlen(p->of[m].reason));
            mm_buf_addc(&dropped, '}');
        }
    }
    mm_buf_addc(&weights, '}');
    if (dropped.len) mm_buf_addc(&dropped, ']');
    int r = names.failed || weights.failed || dropped.failed || mm_rec_set_str(rec, "modality", names.p, names.len) ||
            mm_rec_set(rec, "gates", weights.p, weights.len) || (dropped.len && mm_rec_set(rec, "dropped", dropped.p, dropped.len));
    mm_buf_clear(&names);
    mm_buf_clear(&weights);
    mm_buf_clear(&dropped);
    return r ? MM_ENOMEM : report_media(p, rec, quality);
}

void mm_parts_release(mm_parts *p, mm_workers *pool)
{
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) release(&p->of[m], pool);
}

void mm_parts_clear(mm_parts *p)
{
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) mm_buf_clear(&p->of[m].ref.bytes);
}

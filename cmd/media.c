#include "cmd/media.h"
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_base.h"

static const char *const keys[] = { NULL, "image", "audio", "video" };

int mm_media_key(mm_rec *rec, int modality, mm_media_ref *out, mm_err *err)
{
    const char *key = keys[modality];
    mm_slice raw, s;
    out->src = (mm_media_src){ 0 };
    out->modality = modality;
    mm_buf_reset(&out->bytes);
    if (!mm_rec_get(rec, key, &raw)) return 0;
    if (raw.len == 4 && !memcmp(raw.p, "null", 4)) return 0;
    if (raw.len && raw.p[0] == '"') {
        int r = mm_rec_str(rec, key, &s, err);
        if (r < 0) return r;
        if (!s.len || memchr(s.p, 0, s.len)) return mm_fail(err, MM_EDATA, "'%s' is no path of a file", key);
        if (mm_buf_add(&out->bytes, s.p, s.len)) return mm_fail(err, MM_ENOMEM, "out of memory");
        out->src.path = out->bytes.p;
        return 1;
    }
    json_t *j = mm_json_load(raw.p, raw.len, key, err);
    if (!j) return MM_EDATA;
    const json_t *b64 = json_object_get(j, "b64"), *path = json_object_get(j, "path");
    int r = 1;
    if (json_is_string(b64)) {
        if (mm_base64_decode(&out->bytes, json_string_value(b64), json_string_length(b64)))
            r = mm_fail(err, MM_EDATA, "'%s': \"b64\" is no base64", key);
        out->src.data = out->bytes.p ? out->bytes.p : "";
        out->src.len = out->bytes.len;
    } else if (json_is_string(path) && json_string_length(path)) {
        if (mm_buf_add(&out->bytes, json_string_value(path), json_string_length(path))) r = mm_fail(err, MM_ENOMEM, "out of memory");
        out->src.path = out->bytes.p;
    } else {
        r = mm_fail(err, MM_EDATA, "'%s' should be a path, {\"path\":..} or {\"b64\":..}", key);
    }
    json_decref(j);
    return r;
}

int mm_media_find(mm_rec *rec, int only, mm_media_ref *out)
{
    static const int order[] = { MM_REF_VIDEO, MM_REF_IMAGE, MM_REF_AUDIO };
    mm_slice blob;
    mm_err err = { 0 };
    for (size_t i = 0; i < 3; i++) {
        if (only && only != order[i]) continue;
        int r = mm_media_key(rec, order[i], out, &err);
        if (r) return r < 0 ? mm_rec_fail(rec, r, "%s", err.msg) : r;
    }
    out->src = (mm_media_src){ 0 };
    out->modality = MM_REF_ANY;
    if (mm_rec_blob(rec, &blob)) {
        out->src.data = blob.p;
        out->src.len = blob.len;
        return 1;
    }
    return (out->src.path = mm_rec_path(rec)) != NULL;
}

static void number(mm_buf *b, const char *key, double v)
{
    if (isfinite(v)) mm_buf_addf(b, "%s\"%s\":%.4g", b->len > 1 ? "," : "", key, v);
}

static void quality(mm_buf *b, unsigned source, const mm_input_facts *f)
{
    mm_buf_addc(b, '{');
    if (f->has_quality) {
        number(b, "blur", (double)f->image.blur);
        number(b, "exposure", (double)f->image.exposure);
        number(b, "dark", (double)f->image.dark);
        number(b, "bright", (double)f->image.bright);
        number(b, "entropy", (double)f->image.entropy);
    }
    if (source == MM_MEDIA_VIDEO) number(b, "duplicates", (double)f->duplicates);
    if (f->has_sound) {
        number(b, "level", (double)f->sound.level);
        number(b, "peak", (double)f->sound.peak);
        number(b, "clipping", (double)f->sound.clipping);
        number(b, "silence", (double)f->sound.silence);
        number(b, "snr", (double)f->sound.snr);
    }
    mm_buf_addc(b, '}');
}

int mm_media_report(mm_rec *rec, unsigned source, const mm_input_facts *f, int with_quality)
{
    const mm_media_info *i = &f->info;
    int r = 0, moving = source == MM_MEDIA_VIDEO;
    if (i->seconds > 0 && source != MM_MEDIA_IMAGE) r = mm_rec_set_num(rec, "seconds", round(i->seconds * 1e4) / 1e4);
    if (!r && moving && i->frames > 0) r = mm_rec_set_int(rec, "frames", i->frames);
    if (!r && (moving || source == MM_MEDIA_AUDIO)) {
        r = mm_rec_set_bool(rec, "has_video", (i->has & MM_MEDIA_VIDEO) != 0);
        if (!r) r = mm_rec_set_bool(rec, "has_audio", (i->has & MM_MEDIA_AUDIO) != 0);
        if (!r && f->has_sound) r = mm_rec_set_bool(rec, "has_speech", f->sound.has_speech);
    }
    if (!r && i->truncated) r = mm_rec_set_bool(rec, "truncated", 1);
    if (!r && with_quality && (f->has_quality || f->has_sound)) {
        mm_buf b = { 0 };
        quality(&b, source, f);
        r = b.failed ? MM_ENOMEM : mm_rec_set(rec, "quality", b.p, b.len);
        mm_buf_clear(&b);
    }
    return r;
}

mm_input_opts mm_media_input_opts(const mm_media_cli *m)
{
    return (mm_input_opts){ !m->rotate, (mm_alpha)m->alpha, m->max_pixels, m->max_seconds, m->cut, m->quality };
}

static int open_workers(mm_workers **p, const mm_media_cli *m, mm_ctx *c, int64_t n)
{
    return mm_workers_open(p, &(mm_workers_opts){ .workers = (int)(m->workers ? m->workers : n), .seconds = m->timeout }, &c->err);
}

int mm_media_workers(mm_workers **p, const mm_media_cli *m, mm_ctx *c) { return open_workers(p, m, c, c->threads); }

/* By the bytes that texts and lists do not have, and streams of tensors have elsewhere; a wrong guess costs a process. */
static int looks_like_media(const char *path)
{
    char head[64];
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return 0; /* whoever writes to a pipe would meet a reader that leaves */
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const ssize_t n = fd < 0 ? 0 : pread(fd, head, sizeof head, 0);
    if (fd >= 0) close(fd);
    return n >= 16 && memchr(head, 0, (size_t)n) && head[8] != '{' && memcmp(head, "\x93NUMPY", 6) != 0;
}

int mm_media_begin(mm_workers **p, mm_job *look, const mm_media_cli *m, mm_ctx *c, int argc, char **argv)
{
    if (!argc || !looks_like_media(argv[0])) return 0;
    int r = open_workers(p, m, c, argc < c->threads ? argc : c->threads); /* the next job finds the process that is there */
    *look = (mm_job){ .src = { .path = argv[0] } };
    return r ? r : mm_workers_submit(*p, look, &c->err);
}

int mm_media_specs(const mm_model *m, unsigned mods, int only, mm_job *job, mm_modality is[MM_JOB_SPECS])
{
    static const mm_modality of_ref[] = { MM_MODALITIES, MM_IMAGE, MM_AUDIO, MM_VIDEO };
    static const mm_modality order[] = { MM_VIDEO, MM_IMAGE, MM_AUDIO }; /* of preference where one file holds several */
    job->n = 0;
    for (size_t i = 0; i < 3; i++) {
        const mm_input_spec *spec = mm_model_input_spec(m, order[i]);
        if (!spec || !(mods >> order[i] & 1) || (of_ref[only] != MM_MODALITIES && of_ref[only] != order[i])) continue;
        is[job->n] = order[i];
        job->spec[job->n++] = *spec;
    }
    return job->n;
}

mm_part mm_media_part(const mm_job *job, mm_modality mod)
{
    const int placed = mod == MM_VIDEO && job->facts.n_times >= job->spec[job->chosen].frames;
    return (mm_part){ .mod = mod, .x = job->x, .times = placed ? job->facts.times : NULL };
}

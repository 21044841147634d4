/* Manifests: JSON lines, plain or compressed, into examples, captions and the media they name. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>
#include "base/mm_str.h"
#include "stream/mm_stream.h"
#include "train/dataset_int.h"

#define MAX_MANIFEST ((size_t)4 << 30) /* bytes, unpacked */
#define MAX_CAPTIONS 4096              /* of one record */

typedef struct manifest {
    mm_dataset *d;
    const char *path, *dir; /* as given; its folder, absolute */
    uint16_t set;
    uint32_t line;
    mm_rec *rec;
    mm_buf tmp;
    mm_example ex;
    request media[MM_MODALITIES]; /* kind 0: not named */
} manifest;

/* ---- strings ---- */

/* A string value of key, decoded, in m->tmp. */
static int string(manifest *m, const char *key, mm_slice raw, mm_err *err)
{
    mm_buf_reset(&m->tmp);
    if (!raw.len || raw.p[0] != '"') return mm_fail(err, MM_EDATA, "'%s' is not a string", key);
    int r = mm_json_unescape(&m->tmp, raw, err);
    if (r) return mm_err_prefix(err, "'%s': ", key);
    if (m->tmp.failed) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (memchr(m->tmp.p ? m->tmp.p : "", 0, m->tmp.len)) return mm_fail(err, MM_EDATA, "'%s' has a NUL in it", key);
    return 0;
}

static const char *keep(mm_dataset *d, const char *s, size_t len, mm_err *err)
{
    if (!len) return "";
    const char *p = mm_arena_strndup(&d->names, s, len);
    if (!p) mm_fail(err, MM_ENOMEM, "out of memory");
    return p;
}

/* 1, or 0 if the record has no such key (or null). */
static int value(manifest *m, const char *key, mm_slice *raw)
{
    return mm_rec_get(m->rec, key, raw) && !(raw->len == 4 && !memcmp(raw->p, "null", 4));
}

/* A string or number member as a string that lasts; "" if there is none. */
static int member(manifest *m, const char *key, const char **out, mm_err *err)
{
    mm_slice raw;
    int r;
    *out = "";
    if (!value(m, key, &raw)) return 0;
    if (raw.p[0] == '-' || (raw.p[0] >= '0' && raw.p[0] <= '9')) *out = keep(m->d, raw.p, raw.len, err);
    else if ((r = string(m, key, raw, err))) return r;
    else *out = keep(m->d, m->tmp.p, m->tmp.len, err);
    return *out ? 0 : MM_ENOMEM;
}

static int language(mm_dataset *d, const char *s, size_t len, uint16_t *out, mm_err *err)
{
    size_t i = 0;
    while (i < d->n_lang && (strlen(d->lang[i]) != len || memcmp(d->lang[i], s, len))) i++;
    *out = (uint16_t)i;
    if (i < d->n_lang) return 0;
    if (i > UINT16_MAX) return mm_fail(err, MM_EDATA, "more than %d languages", UINT16_MAX);
    int r = dataset_room(&d->lang, &d->cap_lang, d->n_lang, sizeof *d->lang, err);
    if (!r && !(d->lang[i] = keep(d, s, len, err))) r = MM_ENOMEM;
    d->n_lang += !r;
    return r;
}

/* ---- captions ---- */

static int english(const char *lang)
{
    return !lang[0] || (lang[0] == 'e' && lang[1] == 'n' && (!lang[2] || strchr("-_g@", lang[2])));
}

/* Would a mirror image need other words? */
static int handed(const char *s, size_t len)
{
    static const char *const words[] = { "left",      "right",         "leftward",
                                         "rightward", "leftwards",     "rightwards",
                                         "clockwise", "anticlockwise", "counterclockwise",
                                         "letter",    "number",        "digit",
                                         "keycap",    "text",          "word",
                                         "sign" };
    if (len == 1) return 1;
    for (size_t i = 0, j; i < len; i = j + 1) {
        for (j = i; j < len && ((s[j] | 32) >= 'a' && (s[j] | 32) <= 'z'); j++) {}
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            if (strlen(words[k]) == j - i && !strncasecmp(words[k], s + i, j - i)) return 1;
    }
    return 0;
}

/* m->tmp as a caption; white space around it is dropped, nothing is kept of an empty one. */
static int caption(manifest *m, int role, uint16_t lang, mm_err *err)
{
    mm_dataset *d = m->d;
    const char *p = m->tmp.p ? m->tmp.p : "";
    size_t len = m->tmp.len;
    while (len && strchr(" \t\r\n", p[0])) p++, len--;
    while (len && strchr(" \t\r\n", p[len - 1])) len--;
    if (!len) return 0;
    if (len > UINT32_MAX / 2) return mm_fail(err, MM_EDATA, "a text of %zu bytes", len);
    for (uint32_t i = 0; i < m->ex.n_captions; i++) {
        const mm_caption *c = &d->caption[m->ex.caption + i];
        if (c->len == len && !memcmp(c->p, p, len) &&
            (c->lang == lang || role == MM_CAPTION_LABEL || role == MM_CAPTION_KEYWORD))
            return 0;
    }
    if (m->ex.n_captions == MAX_CAPTIONS)
        return mm_fail(err, MM_EDATA, "more than %d texts in one record", MAX_CAPTIONS);
    int r = dataset_room(&d->caption, &d->cap_caption, d->n_caption, sizeof *d->caption, err);
    const char *s = r ? NULL : keep(d, p, len, err);
    if (!s) return MM_ENOMEM;
    if (role != MM_CAPTION_LABEL && english(d->lang[lang]) && handed(s, len)) m->ex.handed = 1;
    d->caption[d->n_caption++] = (mm_caption){ s, (uint32_t)len, lang, (uint8_t)role };
    m->ex.n_captions++;
    return 0;
}

/* A string, or a list of strings. */
static int captions(manifest *m, const char *key, mm_slice raw, int role, uint16_t lang, mm_err *err)
{
    mm_json_iter it;
    mm_slice k, v;
    int r;
    if (raw.p[0] != '[') {
        r = string(m, key, raw, err);
        return r ? r : caption(m, role, lang, err);
    }
    if ((r = mm_json_begin(&it, raw.p, raw.len, err))) return r;
    while ((r = mm_json_next(&it, &k, &v, err)) > 0)
        if ((r = string(m, key, v, err)) || (r = caption(m, role, lang, err))) return r;
    return r;
}

static int translations(manifest *m, mm_err *err)
{
    mm_slice raw, key, v;
    mm_json_iter it;
    uint16_t lang;
    int r;
    if (!value(m, "texts", &raw)) return 0;
    if (raw.p[0] == '[') return captions(m, "texts", raw, MM_CAPTION_TEXTS, m->ex.lang, err);
    if (raw.p[0] != '{') return mm_fail(err, MM_EDATA, "'texts' is neither an object nor a list");
    if ((r = mm_json_begin(&it, raw.p, raw.len, err))) return r;
    while ((r = mm_json_next(&it, &key, &v, err)) > 0)
        if ((r = language(m->d, key.p, key.len, &lang, err)) ||
            (r = captions(m, "texts", v, MM_CAPTION_TEXTS, lang, err)))
            return r;
    return r;
}

static int texts(manifest *m, mm_err *err)
{
    mm_slice raw;
    const char *s;
    uint16_t lang2;
    int r = member(m, "lang", &s, err);
    if (!r) r = language(m->d, s, strlen(s), &m->ex.lang, err);
    if (!r && value(m, "text", &raw)) r = captions(m, "text", raw, MM_CAPTION_TEXT, m->ex.lang, err);
    if (!r) r = translations(m, err);
    if (!r && value(m, "text2", &raw) && !(r = member(m, "lang2", &s, err))) {
        r = s[0] ? language(m->d, s, strlen(s), &lang2, err) : 0;
        if (!r) r = captions(m, "text2", raw, MM_CAPTION_TEXT2, s[0] ? lang2 : m->ex.lang, err);
    }
    if (!r && value(m, "keywords", &raw)) r = captions(m, "keywords", raw, MM_CAPTION_KEYWORD, m->ex.lang, err);
    if (!r) r = member(m, "label", &m->ex.label, err);
    if (!r && m->ex.label[0]) {
        mm_buf_reset(&m->tmp);
        r = mm_buf_adds(&m->tmp, m->ex.label) ? mm_fail(err, MM_ENOMEM, "out of memory")
                                              : caption(m, MM_CAPTION_LABEL, m->ex.lang, err);
    }
    return r;
}

/* ---- media ---- */

static int from_bytes(manifest *m, const char *key, mm_slice raw, request *q, mm_err *err)
{
    mm_json_iter it;
    mm_slice k, v;
    mm_buf b = { 0 };
    int r = mm_json_begin(&it, raw.p, raw.len, err), found = 0;
    while (!r && (r = mm_json_next(&it, &k, &v, err)) > 0) {
        r = 0;
        if (k.len != 3 || memcmp(k.p, "b64", 3)) continue;
        found = 1;
        if (!(r = string(m, key, v, err)) && (r = mm_base64_decode(&b, m->tmp.p ? m->tmp.p : "", m->tmp.len)))
            mm_fail(err, r, "'%s' is not base64", key);
    }
    if (!r && !found) r = mm_fail(err, MM_EDATA, "'%s' is an object without \"b64\"", key);
    if (!r && !b.len) r = mm_fail(err, MM_EDATA, "'%s' is empty", key);
    if (r) {
        mm_buf_clear(&b);
        return r;
    }
    q->data = b.p;
    q->len = q->size = b.len;
    dataset_id(q->id, m->d, q->kind, q->data, q->len, 1);
    return 0;
}

static int medium(manifest *m, int modality, const char *key, unsigned kind, mm_err *err)
{
    request *q = &m->media[modality];
    mm_slice raw;
    struct stat st;
    if (!value(m, key, &raw)) return 0;
    *q = (request){ .kind = kind, .manifest = m->d->set[m->set].manifest, .line = m->line, .track = -1 };
    if (raw.p[0] == '{') return from_bytes(m, key, raw, q, err);
    int r = string(m, key, raw, err);
    if (r) return r;
    if (!m->tmp.len) return mm_fail(err, MM_EDATA, "'%s' is empty", key);
    mm_buf path = { 0 };
    if (m->tmp.p[0] != '/') mm_buf_addf(&path, "%s/", m->dir);
    mm_buf_add(&path, m->tmp.p, m->tmp.len);
    q->path = path.failed ? NULL : keep(m->d, path.p, path.len, err);
    mm_buf_clear(&path);
    if (!q->path) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (stat(q->path, &st)) return mm_fail_errno(err, "'%s': cannot open '%s'", key, q->path);
    if (!S_ISREG(st.st_mode)) return mm_fail(err, MM_EDATA, "'%s': '%s' is not a file", key, q->path);
    q->size = (uint64_t)st.st_size;
    q->mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    dataset_id(q->id, m->d, kind, q->path, strlen(q->path), 0);
    return 0;
}

/* ---- records ---- */

static const struct {
    int modality;
    const char *key;
    unsigned kind;
} media_keys[] = { { MM_IMAGE, "image", MM_MEDIA_IMAGE },
                   { MM_AUDIO, "audio", MM_MEDIA_AUDIO },
                   { MM_VIDEO, "video", MM_MEDIA_VIDEO } };

static int split(manifest *m, mm_err *err)
{
    static const char *const names[] = { "train", "val", "test" };
    const char *s;
    int r = member(m, "split", &s, err);
    if (r || !s[0]) return r;
    for (int i = 0; i < 3; i++)
        if (!strcmp(s, names[i])) {
            m->ex.split = (uint8_t)i;
            return 0;
        }
    return mm_fail(err, MM_EDATA, "'split' is \"%s\": it should be train, val or test", s);
}

static int parse(manifest *m, const char *s, size_t len, mm_err *err)
{
    mm_slice raw;
    double score;
    int r = mm_rec_parse(m->rec, s, len, err);
    if (!r) r = split(m, err);
    if (!r) r = member(m, "id", &m->ex.id, err);
    if (!r) r = member(m, "concept", &m->ex.concept, err);
    if (!r) r = texts(m, err);
    if (!r && value(m, "score", &raw)) {
        if (mm_parse_double(raw.p, raw.len, &score) == raw.len) m->ex.score = (float)score;
        else r = mm_fail(err, MM_EDATA, "'score' is not a number");
    }
    return r;
}

static int put(manifest *m, const char *s, size_t len, mm_err *err)
{
    mm_dataset *d = m->d;
    char place[32];
    uint32_t number;
    int r = dataset_room(&d->example, &d->cap_example, d->n_example, sizeof *d->example, err);
    if (!r && !m->ex.id[0]) {
        snprintf(place, sizeof place, ":%u", m->line);
        mm_buf_reset(&m->tmp);
        mm_buf_adds(&m->tmp, d->set[m->set].name), mm_buf_adds(&m->tmp, place);
        m->ex.id = m->tmp.failed ? NULL : keep(d, m->tmp.p, m->tmp.len, err);
    }
    if (!r && d->opts.keep_raw) m->ex.raw = (mm_slice){ keep(d, s, len, err), len };
    if (!r && (!m->ex.id || (d->opts.keep_raw && !m->ex.raw.p))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (int i = 0; i < MM_MODALITIES && !r; i++)
        if (m->media[i].kind) {
            r = dataset_request(d, &m->media[i], &number, err);
            m->media[i].data = NULL;
            m->ex.item[i] = (int32_t)number;
        }
    if (!r) d->example[d->n_example++] = m->ex;
    return r;
}

/* One line. Only what ends the reading is returned. */
static int line(manifest *m, const char *s, size_t len, mm_err *err)
{
    mm_dataset *d = m->d;
    mm_err e = { 0 };
    int any = 0, media_bad = 0;
    m->ex = (mm_example){ .id = "",
                          .label = "",
                          .concept = "",
                          .line = m->line,
                          .set = m->set,
                          .caption = (uint32_t)d->n_caption,
                          .item = { -1, -1, -1, -1 },
                          .score = NAN };
    memset(m->media, 0, sizeof m->media);
    int r = parse(m, s, len, &e);
    for (size_t i = 0; i < sizeof media_keys / sizeof *media_keys && !r; i++) {
        request *q = &m->media[media_keys[i].modality];
        r = medium(m, media_keys[i].modality, media_keys[i].key, media_keys[i].kind, &e);
        any |= q->kind && !r;
        if (r != MM_EIO) continue;
        /* a file that is not there costs this medium, not the record */
        q->kind = 0;
        media_bad++;
        d->bad_media++;
        mm_err_prefix(&e, "%s:%u: ", m->path, m->line);
        if ((r = dataset_bad(d, e.code, e.msg, err))) return r;
    }
    if (!r && !any && !media_bad && !m->ex.n_captions)
        r = mm_fail(&e, MM_EDATA, "the record has neither text nor image, audio or video");
    if (!r && !any && media_bad) return 0; /* nothing but its caption is left: reported above */
    if (!r) return put(m, s, len, err);
    for (int i = 0; i < MM_MODALITIES; i++) free(m->media[i].data);
    d->n_caption = m->ex.caption;
    if (r == MM_ENOMEM) return mm_fail(err, r, "%s", e.msg);
    d->bad++;
    mm_err_prefix(&e, "%s:%u: ", m->path, m->line);
    return dataset_bad(d, e.code, e.msg, err);
}

/* ---- files ---- */

static int read_all(mm_buf *b, const char *path, mm_err *err)
{
    gzFile f = gzopen(path, "rb"); /* reads what is not compressed as it is */
    int r = 0, n;
    if (!f) return mm_fail_errno(err, "cannot open '%s'", path);
    do {
        if (mm_buf_reserve(b, 1 << 16)) r = mm_fail(err, MM_ENOMEM, "out of memory");
        else if ((n = gzread(f, b->p + b->len, 1 << 16)) < 0) {
            const char *what = gzerror(f, &n);
            r = n == Z_ERRNO ? mm_fail_errno(err, "cannot read '%s'", path)
                             : mm_fail(err, MM_EDATA, "'%s': %s", path, what);
        } else {
            b->len += (size_t)n;
            if (b->len > MAX_MANIFEST)
                r = mm_fail(err, MM_EDATA, "'%s' unpacks to more than %zu bytes", path, MAX_MANIFEST);
        }
    } while (!r && n > 0);
    if (!r && gzclose_r(f) == Z_BUF_ERROR)
        return mm_fail(err, MM_ETRUNC, "'%s' ends within its compressed data", path);
    if (r) gzclose_r(f);
    return r;
}

/* The set's name: its folder's; if another manifest has that, with the file's name. */
static int add_set(mm_dataset *d, const char *path, const char *dir, mm_err *err)
{
    const char *slash = strrchr(dir, '/'), *file = strrchr(path, '/');
    mm_buf b = { 0 };
    int r = dataset_room(&d->set, &d->cap_set, d->n_set, sizeof *d->set, err);
    if (!r && d->n_set > UINT16_MAX) r = mm_fail(err, MM_EDATA, "more than %d manifests", UINT16_MAX);
    if (r) return r;
    mm_buf_adds(&b, slash && slash[1] ? slash + 1 : "data");
    for (size_t i = 0; i < d->n_set; i++)
        if (!strcmp(d->set[i].name, b.p)) {
            mm_buf_addf(&b, "/%s", file ? file + 1 : path);
            break;
        }
    d->set[d->n_set] = (mm_set){ b.p, strdup(path) };
    if (b.failed || !d->set[d->n_set].manifest) {
        mm_buf_clear(&b);
        free(d->set[d->n_set].manifest);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    d->n_set++;
    return 0;
}

static int read_lines(manifest *m, const mm_buf *b, mm_err *err)
{
    const char *p = b->p, *end = b->p + b->len;
    int r = 0;
    while (p < end && !r) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        m->line++;
        size_t len = (size_t)(stop - p);
        if (m->line == 1 && len >= 3 && !memcmp(p, "\xEF\xBB\xBF", 3)) p += 3, len -= 3;
        if (strspn(p, " \t\r\n") < len) r = line(m, p, len, err);
        p = stop + 1;
    }
    return r;
}

int dataset_read_manifest(mm_dataset *d, const char *path, mm_err *err)
{
    char *given = strdup(path), *dir = NULL, *slash = given ? strrchr(given, '/') : NULL;
    const size_t before = d->n_example;
    mm_buf b = { 0 };
    manifest m = { .d = d, .path = path, .rec = mm_rec_new() };
    int r = read_all(&b, path, err);
    if (slash) *slash = 0;
    if (!r && !(dir = realpath(!slash ? "." : slash == given ? "/" : given, NULL)))
        r = mm_fail_errno(err, "cannot open the folder of '%s'", path);
    if (!r && !m.rec) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) r = add_set(d, path, dir, err);
    m.dir = dir;
    m.set = (uint16_t)(d->n_set - 1);
    if (!r && b.len) r = read_lines(&m, &b, err);
    if (!r && d->n_example == before) r = mm_fail(err, MM_EDATA, "'%s' has no usable record", path);
    mm_buf_clear(&b), mm_buf_clear(&m.tmp);
    mm_rec_free(m.rec);
    free(given), free(dir);
    return r;
}

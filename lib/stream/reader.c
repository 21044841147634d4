#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "stream/stream_int.h"

#define CHUNK ((size_t)1 << 18)
#define LIST_HEAD ((size_t)1 << 16) /* bytes of an operand in which a list names something that is there */

enum { K_MEDIA = 100, K_MISSING }; /* an input that is itself a media file: an operand is named, a stream is read whole; one that is no use */

/* ---- life ---- */

static int open_reader(mm_reader **out, const mm_reader_opts *opts, mm_err *err)
{
    mm_reader *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (opts) r->o = *opts;
    if (!r->o.max_line) r->o.max_line = MM_MAX_LINE;
    if (!r->o.max_header) r->o.max_header = MM_MAX_HEADER;
    if (!r->o.max_dim) r->o.max_dim = MM_MAX_DIM;
    if (!r->o.max_media) r->o.max_media = MM_MAX_MEDIA;
    r->fd = -1;
    return 0;
}

int mm_reader_open(mm_reader **out, const mm_reader_opts *opts, char *const *names, size_t n, mm_err *err)
{
    static char *const only_stdin[] = { (char *)"-" };
    int code = open_reader(out, opts, err);
    if (code) return code;
    (*out)->names = n ? names : only_stdin;
    (*out)->n_names = n ? n : 1;
    return 0;
}

static void begin_input(mm_reader *r, const char *file, const char *name)
{
    r->file = file;
    r->name = name;
    r->kind = r->o.format;
    r->eof = 0;
    r->start = r->end = r->scan = 0;
    r->line = 0;
    r->skipping = r->piped = 0;
    r->f.in = r->f.any = r->f.need_marker = r->y.in = r->y.any = 0;
    r->f.since = 0;
}

int mm_reader_open_mem(mm_reader **out, const mm_reader_opts *opts, const char *name, const void *p, size_t len, mm_err *err)
{
    int code = open_reader(out, opts, err);
    if (code) return code;
    mm_reader *r = *out;
    begin_input(r, "-", name);
    r->buf = malloc(len + 1);
    if (!r->buf) {
        mm_reader_close(out);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    if (len) memcpy(r->buf, p, len);
    r->cap = r->end = len;
    r->eof = 1;
    return 0;
}

static void end_input(mm_reader *r)
{
    if (r->fd > 0) close(r->fd);
    r->fd = -1;
    r->name = NULL;
}

void mm_reader_close(mm_reader **rp)
{
    mm_reader *r = *rp;
    if (!r) return;
    end_input(r);
    free(r->buf);
    mm_buf_clear(&r->f.recs);
    mm_buf_clear(&r->f.prog);
    free(r);
    *rp = NULL;
}

const char *mm_reader_prog(const mm_reader *r) { return r->f.prog.p ? r->f.prog.p : ""; }

static int open_next(mm_reader *r, mm_err *err)
{
    const char *file = *r->names++;
    r->n_names--;
    if (!strcmp(file, "-")) {
        r->fd = 0;
        begin_input(r, file, "<stdin>");
        return 0;
    }
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        mm_fail_errno(err, "cannot open '%s'", file);
        if (!r->o.each_operand) return MM_EIO;
        begin_input(r, file, file);
        r->fd = -1;
        r->kind = K_MISSING;
        return 0;
    }
    struct stat st;
    r->fd = fd;
    begin_input(r, file, file);
    if (!fstat(fd, &st) && S_ISDIR(st.st_mode)) {
        mm_fail(err, MM_EIO, "cannot read '%s': is a directory", file);
        if (!r->o.each_operand) return MM_EIO;
        r->kind = K_MISSING;
        return 0;
    }
    r->piped = !fstat(fd, &st) && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
    return 0;
}

/* ---- buffer ---- */

/* One read. S_READY: more bytes are there; S_END; S_BLOCK; MM_E*. */
static int fill(mm_reader *r, int nowait, mm_err *err)
{
    if (r->eof) return S_END;
    if (r->start == r->end) r->start = r->end = r->scan = 0;
    if (r->cap - r->end < CHUNK / 4) {
        size_t have = r->end - r->start;
        if (r->cap && r->start >= r->cap / 2) {
            memmove(r->buf, r->buf + r->start, have);
            r->scan -= r->start;
            r->end = have;
            r->start = 0;
        } else {
            size_t cap = r->cap ? 2 * r->cap : CHUNK;
            char *p = realloc(r->buf, cap);
            if (!p) return mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name);
            r->buf = p;
            r->cap = cap;
        }
    }
    for (;;) {
        struct pollfd pf = { .fd = r->fd, .events = POLLIN };
        if (nowait && poll(&pf, 1, 0) == 0) return S_BLOCK;
        ssize_t n = read(r->fd, r->buf + r->end, r->cap - r->end);
        if (n > 0) return r->end += (size_t)n, S_READY;
        if (n == 0) return r->eof = 1, S_END;
        if (errno == EAGAIN) { /* somebody made the descriptor non-blocking */
            if (nowait) return S_BLOCK;
            poll(&pf, 1, -1);
        } else if (errno != EINTR) {
            return mm_fail_errno(err, "cannot read %s", r->name);
        }
    }
}

int reader_want(mm_reader *r, size_t n, int nowait, mm_err *err)
{
    while (r->end - r->start < n) {
        int s = fill(r, nowait, err);
        if (s != S_READY) return s;
    }
    return S_READY;
}

/* ---- what kind of input is it ---- */

/* Each with a byte that no name of a file begins with, as far as it has one: a list may begin with "caffe.png" or "ID3 tags.txt". */
static const struct { int at; const char *bytes; int len; } magics[] = {
#define M(at, s) { at, s, sizeof s - 1 }
    M(0, "\x89PNG\r\n\x1a\n"), M(0, "\xFF\xD8\xFF"), M(0, "GIF87a"), M(0, "GIF89a"), M(8, "WEBP"), M(8, "WAVE"), M(8, "AVI "),
    M(0, "farbfeld\0"), M(0, "II*\0"), M(0, "MM\0*"), M(0, "OggS\0"), M(0, "fLaC\0"), M(0, "fLaC\x80"), M(0, "ID3\2"), M(0, "ID3\3"),
    M(0, "ID3\4"), M(4, "ftyp"), M(0, "\x1A\x45\xDF\xA3"), M(8, "AIFF"), M(8, "AIFC"), M(0, ".snd\0"), M(0, "#!AMR"), M(0, "caff\0"),
    M(0, "FLV\1"), M(0, "\x30\x26\xB2\x75\x8E\x66"), M(0, "\0\0\1\xBA"), M(0, "RF64\xFF"), M(0, "\xFF\xFB"), M(0, "\xFF\xF3"),
    M(0, "\xFF\xF2"), M(0, "\xFF\xFA"), M(0, "\xFF\xFD"), M(0, "\xFF\xF1"), M(0, "\xFF\xF9"), M(0, "riff\x2E\x91\xCF\x11"),
    M(0, "YUV4MPEG2 "), M(0, "\x0B\x77"), M(0, "\0\0\0\1\x67"), M(0, "\0\0\1\xB3"), M(0, "\0\0\1\xB0"), M(0, "G@\0"), M(0, "G@\x11"), M(0, "qoif\0"),
    M(4, "jP  \r\n\x87\n"), M(0, "\xFF\x4F\xFF\x51"), M(4, "JXL \r\n\x87\n"), M(0, "\xFF\x0A"), M(0, "8BPS\0"), M(0, "\0\0\1\0"),
    M(6, "\0\0"),
    /* below: nothing we will ever take from a stream */
    M(0, "\x1F\x8B"), M(0, "\x28\xB5\x2F\xFD"), M(4, "1AY&SY"), M(0, "\xFD" "7zXZ"), M(0, "PK\3\4"), M(0, "GGUF\2"), M(0, "GGUF\3"),
    M(0, "\xFF\xFE"), M(0, "\xFE\xFF"),
#undef M
};

static const char *const other[] = {
    "gzip data: unpack it first (zcat)", "zstd data: unpack it first (zstdcat)", "bzip2 data: unpack it first (bzcat)",
    "xz data: unpack it first (xzcat)", "a zip or npz archive: unpack it first", "a GGUF model, no records",
    "a GGUF model, no records", "UTF-16 text: convert it first (iconv)", "UTF-16 text: convert it first (iconv)",
};

static int blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static int printable(const char *p, size_t n)
{
    while (n && (unsigned char)*p >= ' ') p++, n--;
    return !n;
}

/* A picture of the PNM family? It begins with a line of numbers, here or behind comments; a name like "P1 12.jpg" does not. -1: more
 * bytes are wanted. */
static int pnm(const char *p, size_t n)
{
    size_t i = 2, numbers = 0;
    if (n < 3) return n && p[0] == 'P' && (n < 2 || (p[1] >= '1' && p[1] <= '7')) ? -1 : 0;
    if (p[0] != 'P' || p[1] < '1' || p[1] > '7' || !blank(p[2])) return 0;
    if (p[1] == '7') return p[2] == '\n' ? n < 4 ? -1 : p[3] == 'W' || p[3] == 'H' || p[3] == '#' : 0;
    for (;;) {
        while (i < n && blank(p[i]) && !(numbers > 1 && p[i] == '\n')) i++;
        if (i == n) return n < 4096 ? -1 : 0;
        if (numbers > 1 && p[i] == '\n') return 1;
        if (p[i] == '#') {
            while (i < n && p[i] != '\n') i++;
            continue;
        }
        if (p[i] < '0' || p[i] > '9') return 0;
        while (i < n && p[i] >= '0' && p[i] <= '9') i++;
        numbers++;
        if (i < n && !blank(p[i])) return 0;
    }
}

/* Does an entry of a list name something that is there? 1 also where none of them is whole, or all are blank. */
static int names_something(const mm_reader *r, const char *p, size_t n)
{
    const char delim = r->o.nul ? 0 : '\n';
    int seen = 0;
    while (n) {
        const char *end = memchr(p, delim, n);
        const size_t whole = end ? (size_t)(end - p) : n;
        size_t len = whole;
        char name[PATH_MAX];
        if (!end && !r->eof) break;
        if (delim && len && p[len - 1] == '\r') len--;
        if (len && len < sizeof name && !memchr(p, 0, len)) {
            memcpy(name, p, len);
            name[len] = 0;
            if (!access(name, F_OK)) return 1;
        }
        seen |= len > 0;
        if (!end) break;
        n -= whole + 1, p = end + 1;
    }
    return !seen;
}

/* An operand whose name says picture, sound or video, and that is empty, is a medium cut to nothing, not a list without entries. */
static int named_as_media(const char *file)
{
    static const char *const kinds[] = { "jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif", "heic", "jxl", "wav", "mp3", "ogg", "oga",
                                         "opus", "flac", "m4a", "aac", "mp4", "m4v", "mkv", "webm", "mov", "avi", "3gp" };
    const char *dot = strrchr(file, '.');
    for (size_t i = 0; dot && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcasecmp(dot + 1, kinds[i])) return 1;
    return 0;
}

/* S_READY and r->kind set; S_BLOCK; MM_E*. As few bytes as will do are asked for: somebody may be typing. */
static int sniff(mm_reader *r, int nowait, mm_err *err)
{
    const int operand = r->o.each_operand && r->fd > 0 && !r->piped;
    int s = reader_want(r, 1, nowait, err);
    size_t have;
    const char *p;
    for (;;) {
        if (s < 0 || s == S_BLOCK) return s;
        have = r->end - r->start;
        p = r->buf + r->start;
        /* a frame has zero bytes at 5 to 7; a line that is complete already is no frame */
        if (s == S_END || have >= 9 || (have > 5 && p[5]) || (have && p[have - 1] == '\n')) break;
        s = reader_want(r, have + 1, nowait, err);
    }
    if (have >= 9 && !p[5] && !p[6] && !p[7] && p[8] == '{') return r->kind = MM_IN_FRAMES, S_READY;
    if (have >= 6 && !memcmp(p, "\x93NUMPY", 6)) return r->kind = MM_IN_NPY, S_READY;
    if (p && have < 12 && s == S_READY) { /* the magics reach this far; wait only where one has begun */
        unsigned char c = have ? (unsigned char)p[0] : 0;
        if (c >= 0x80 || (have > 3 && (!memcmp(p, "RIFF", 4) || !memcmp(p, "RIFX", 4))) || (have > 4 && !p[0])) {
            if ((s = reader_want(r, 12, nowait, err)) < 0 || s == S_BLOCK) return s;
            p = r->buf + r->start;
            have = r->end - r->start;
        }
    }
    size_t n = sizeof magics / sizeof *magics, first_other = n - sizeof other / sizeof *other;
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)magics[i].at, len = (size_t)magics[i].len;
        if (have < at + len || memcmp(p + at, magics[i].bytes, len)) continue;
        if (at == 8 && memcmp(p, "RIFF", 4) && memcmp(p, "RIFX", 4) && memcmp(p, "FORM", 4)) continue;
        if (at == 6 && memcmp(p, "BM", 2)) continue;
        if (at == 4 && p[0] && memcmp(p, "BZh", 3)) continue; /* of a box, the first byte of its length */
        if (have >= 6 && !memcmp(p, "GIF8", 4) && printable(p + 6, have > 10 ? 4 : have - 6)) continue; /* where a picture has its size */
        if (i >= first_other && operand) {
            mm_fail(err, MM_EUNSUP, "this is %s", other[i - first_other]);
            return r->kind = K_MISSING, S_READY;
        }
        if (i >= first_other) return mm_fail(err, MM_EUNSUP, "%s: this is %s", r->name, other[i - first_other]);
        return r->kind = K_MEDIA, S_READY;
    }
    /* a frame that was cut in its length */
    if (have >= 6 && have < 9 && !memcmp(p + 4, "\0\0\0\0", have - 4)) return r->kind = MM_IN_FRAMES, S_READY;
    int picture;
    while ((picture = pnm(p, have)) < 0 && s == S_READY) {
        if ((s = reader_want(r, have + 1, nowait, err)) < 0 || s == S_BLOCK) return s;
        p = r->buf + r->start;
        have = r->end - r->start;
    }
    if (picture > 0) return r->kind = K_MEDIA, S_READY;
    if (have >= 3 && !memcmp(p, "\xEF\xBB\xBF", 3)) p += 3, have -= 3;
    size_t i = 0;
    while (i < have && blank(p[i])) i++;
    const char *lf = have ? memchr(p, '\n', have) : NULL, *nul = have ? memchr(p, 0, have) : NULL;
    if (i < have && p[i] == '{' && !(r->o.nul && nul && (!lf || nul < lf))) return r->kind = MM_IN_JSON, S_READY;
    /* bytes that no list has: whoever decodes the file will say what it is */
    if (nul && !r->o.nul && r->fd > 0) return r->kind = K_MEDIA, S_READY;
    if (nul && !r->o.nul)
        return mm_fail(err, MM_EUNSUP, "%s: no format known here (lists of NUL-separated names need -0)", r->name);
    /* an operand that is text, and no list: a document, a drawing */
    for (size_t more; operand && s == S_READY && (more = r->end - r->start) < LIST_HEAD;) {
        if ((s = reader_want(r, more + 1, nowait, err)) < 0 || s == S_BLOCK) return s;
        p = r->buf + r->start;
        have = r->end - r->start;
    }
    r->kind = operand && (have ? !names_something(r, p, have) : named_as_media(r->file)) ? K_MEDIA : MM_IN_PATHS;
    return S_READY;
}

/* ---- lines and lists ---- */

static int entry_prepare(mm_reader *r, int nowait, mm_err *err)
{
    char delim = r->o.nul && r->kind != MM_IN_JSON ? 0 : '\n';
    for (;;) {
        if ((r->line == 0 || r->kind == MM_IN_JSON) && !r->skipping) {
            /* a byte order mark is no part of the first entry, nor of a line of JSON where files were joined */
            int s = reader_want(r, 1, nowait, err);
            if (s == S_READY && r->buf[r->start] == (char)0xEF) s = reader_want(r, 3, nowait, err);
            if (s < 0 || s == S_BLOCK) return s;
            const char *p = r->buf + r->start;
            if (r->line == 0 && r->kind != MM_IN_PATHS && r->end - r->start > 1 && (!memcmp(p, "\xFF\xFE", 2) || !memcmp(p, "\xFE\xFF", 2)))
                return mm_fail(err, MM_EUNSUP, "%s: this is UTF-16 text: convert it first (iconv)", r->name);
            if (r->end - r->start >= 3 && !memcmp(r->buf + r->start, "\xEF\xBB\xBF", 3)) r->start += 3;
            if (r->scan < r->start) r->scan = r->start;
        }
        char *base = r->buf + r->start, *d = NULL;
        if (r->end > r->scan) d = memchr(r->buf + r->scan, delim, r->end - r->scan);
        if (!d) {
            r->scan = r->end;
            if (r->end - r->start > r->o.max_line) {
                /* too long to keep: what comes up to the delimiter is dropped, the entry becomes an error record */
                r->skipping = 1;
                r->start = r->scan = r->end;
            }
            int s = fill(r, nowait, err);
            if (s == S_READY) continue;
            if (s != S_END) return s;
            if (r->start == r->end && !r->skipping) return S_END;
            d = r->buf + r->end; /* a last entry without its delimiter */
            base = r->buf + r->start;
            r->gap = 0;
        } else {
            r->gap = 1;
        }
        r->item = (size_t)(d - base);
        r->too_long = r->skipping || r->item > r->o.max_line;
        r->skipping = 0;
        r->line++;
        int keep = r->too_long || r->kind == MM_IN_TEXT || (delim == 0 && r->kind == MM_IN_PATHS);
        for (size_t i = 0; i < r->item && !keep; i++) keep = !blank(base[i]);
        if (keep) return S_READY;
        r->start += r->item + r->gap;
        r->scan = r->start;
    }
}

static int entry_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    const char *p = r->buf + r->start;
    size_t len = r->item;
    int code = 0;
    mm_err e = { 0 };
    r->start += r->item + r->gap;
    r->scan = r->start;
    if (r->too_long) {
        rec_place(rec, r->name, r->line, r->o.max_dim);
        mm_rec_fail(rec, MM_ELONG, "longer than the limit of %zu bytes", r->o.max_line);
        return 0;
    }
    if (r->kind != MM_IN_JSON && !r->o.nul && len && p[len - 1] == '\r') len--;
    if (r->kind == MM_IN_JSON) {
        code = mm_rec_parse(rec, p, len, &e);
        rec_place(rec, r->name, r->line, r->o.max_dim);
        if (code == MM_EDATA) mm_rec_fail(rec, code, "%s", e.msg), code = 0;
    } else if (r->kind == MM_IN_TEXT) {
        rec_place(rec, r->name, r->line, r->o.max_dim);
        size_t ok = mm_utf8_valid(p, len);
        if (ok < len) mm_rec_fail(rec, MM_EDATA, "invalid UTF-8 at byte %zu", ok + 1);
        else code = mm_rec_set_str(rec, "text", p, len);
    } else {
        rec_place(rec, r->name, r->line, r->o.max_dim);
        code = rec_set_path(rec, p, len);
        if (!code && len == 0) mm_rec_fail(rec, MM_EDATA, "empty file name");
        else if (!code && memchr(p, 0, len))
            mm_rec_fail(rec, MM_EDATA, "NUL in a file name (lists separated by NUL need -0)");
    }
    return code ? mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name) : 0;
}

/* ---- the reader ---- */

/* One medium, whole: from a file only its name is taken; a stream, also an operand that is a pipe, is read to its end. */
static int media_prepare(mm_reader *r, int nowait, mm_err *err)
{
    if (r->line) return S_END;
    while (r->fd <= 0 || r->piped) {
        int s = reader_want(r, r->end - r->start + 1, nowait, err);
        if (s != S_READY && s != S_END) return s;
        if (r->end - r->start > r->o.max_media)
            return mm_fail(err, MM_ELONG, "%s: a medium of more than %zu bytes", r->name, r->o.max_media);
        if (s == S_END) break;
    }
    return S_READY;
}

static int missing_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    r->line = 1;
    rec_place(rec, r->name, 1, r->o.max_dim);
    if (rec_set_path(rec, r->file, strlen(r->file))) return mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name);
    mm_rec_fail(rec, err->code, "%s", err->msg);
    return 0;
}

static int media_take(mm_reader *r, mm_rec *rec, mm_err *err)
{
    r->line = 1;
    rec_place(rec, r->name, 1, r->o.max_dim);
    int bad = r->fd > 0 ? rec_set_path(rec, r->file, strlen(r->file)) : mm_rec_set_str(rec, "id", "-", 1);
    if (!bad && (r->fd <= 0 || r->piped)) {
        bad = rec_set_blob(rec, r->buf + r->start, r->end - r->start);
        r->start = r->scan = r->end;
    }
    return bad ? mm_fail(err, MM_ENOMEM, "%s: out of memory", r->name) : 0;
}

/* Bring the next record's bytes into the buffer. */
static int prepare(mm_reader *r, int nowait, mm_err *err)
{
    for (;;) {
        int s;
        if (r->ready) return S_READY;
        if (!r->name) {
            if (!r->n_names) return S_END;
            if ((s = open_next(r, err))) return s;
        }
        if (r->kind == MM_IN_AUTO && (s = sniff(r, nowait, err)) != S_READY) return s;
        switch (r->kind) {
        case K_MISSING: s = r->line ? S_END : S_READY; break;
        case K_MEDIA: s = media_prepare(r, nowait, err); break;
        case MM_IN_FRAMES: s = frames_prepare(r, nowait, err); break;
        case MM_IN_NPY: s = npy_prepare(r, nowait, err); break;
        default: s = entry_prepare(r, nowait, err); break;
        }
        if (s != S_END) {
            r->ready = s == S_READY;
            return s;
        }
        end_input(r);
    }
}

static int finish(mm_reader *r, int status)
{
    r->done = 1;
    r->status = status;
    return status;
}

static int ended(mm_reader *r, mm_err *err)
{
    if (err && r->status < 0) *err = r->err;
    return r->status;
}

int mm_reader_pending(mm_reader *r)
{
    if (r->done || r->ready) return 1;
    int s = prepare(r, 1, &r->err);
    if (s == S_BLOCK) return 0;
    if (s != S_READY) finish(r, s);
    return 1;
}

int mm_reader_next(mm_reader *r, mm_rec *rec, mm_err *err)
{
    mm_rec_reset(rec);
    if (r->done) return ended(r, err);
    int s = prepare(r, 0, &r->err);
    if (s != S_READY) {
        finish(r, s);
        return ended(r, err);
    }
    r->ready = 0;
    switch (r->kind) {
    case K_MISSING: s = missing_take(r, rec, &r->err); break;
    case K_MEDIA: s = media_take(r, rec, &r->err); break;
    case MM_IN_FRAMES: s = frames_take(r, rec, &r->err); break;
    case MM_IN_NPY: s = npy_take(r, rec, &r->err); break;
    default: s = entry_take(r, rec, &r->err); break;
    }
    if (s < 0) {
        finish(r, s);
        return ended(r, err);
    }
    return 1;
}

/* mm-embed - text into vectors. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/io.h"
#include "model/mm_model.h"

enum { CUT, SPLIT, ERROR };

static struct {
    const char *model, *prompt, *prefix;
    int pooling, normalize, overflow;
    int64_t max_tokens, window;
    mm_io io;
} o = { .pooling = -1, .normalize = -1, .window = 256 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("Embedding"),
    MM_OPT_STR('m', "model", &o.model, "NAME", "model: a name, a folder or a file (default: $MM_MODEL)"),
    MM_OPT_STR(0, "prompt", &o.prompt, "NAME", "put the checkpoint's prompt of this name before each text"),
    MM_OPT_STR(0, "prefix", &o.prefix, "TEXT", "put TEXT before each text, in place of any prompt"),
    MM_OPT_ENUM(0, "pooling", &o.pooling, "mean|cls|last|max",
                "how token vectors become one (default: the checkpoint's)"),
    MM_OPT_BOOL(0, "normalize", &o.normalize, "scale vectors to length 1 (default: as the checkpoint says)"),
    MM_OPT_INT(0, "max-tokens", &o.max_tokens, "N", 3, 1 << 24, "use at most N tokens of each text"),
    MM_OPT_ENUM(0, "overflow", &o.overflow, "cut|split|error",
                "what to do with longer texts (default: cut and say so)"),
    MM_OPT_INT(0, "window", &o.window, "N", 1, 1 << 20, "records considered together (default 256)"),
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

/* One record of the window. Its text lies in `texts` at [at, at + len), prefix included. */
typedef struct item {
    mm_rec *rec;
    size_t at, len, skip; /* skip: bytes of prefix */
    int live;             /* has a text to embed */
} item;

typedef struct state {
    mm_ctx *c;
    mm_model *m;
    const char *prefix;
    size_t prefix_len, n, dim;
    item *items;
    mm_buf texts, file;
    mm_text_in *in;
    mm_text_out *res;
    float *vec;
    mm_progress bar;
    uint64_t done;
} state;

/* The text of a record: its key "text", or the file that a list of paths names. 0, or the code of the record's
 * failure. */
static int find_text(state *s, mm_rec *rec, mm_slice *text)
{
    static const char bom[] = "\xEF\xBB\xBF";
    mm_err err = { 0 };
    int r = mm_rec_str(rec, "text", text, &err);
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
    if (r > 0) return 0;
    const char *path = mm_rec_path(rec);
    if (!path) return mm_rec_fail(rec, MM_EDATA, "no key \"text\", and no path of a file");
    mm_buf_reset(&s->file);
    if (mm_file_read(&s->file, path, MM_MAX_LINE, &err)) return mm_rec_fail(rec, err.code, "%s", err.msg);
    *text = (mm_slice){ s->file.p, s->file.len };
    if (text->len >= 3 && !memcmp(text->p, bom, 3)) *text = (mm_slice){ text->p + 3, text->len - 3 };
    if (memchr(text->p, 0, text->len))
        return mm_rec_fail(rec, MM_EDATA, "'%s' is no text file: it contains NUL bytes", path);
    size_t ok = mm_utf8_valid(text->p, text->len);
    if (ok < text->len) return mm_rec_fail(rec, MM_EDATA, "'%s' is not valid UTF-8 at byte %zu", path, ok + 1);
    return 0;
}

static int take(state *s, item *it)
{
    mm_slice text;
    it->live = 0;
    it->at = s->texts.len;
    mm_rec_del(it->rec, "embedding");
    if (mm_rec_failed(it->rec) || find_text(s, it->rec, &text)) return 0;
    mm_buf_add(&s->texts, s->prefix, s->prefix_len);
    mm_buf_add(&s->texts, text.p, text.len);
    if (s->texts.failed) return mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    it->skip = s->prefix_len;
    it->len = s->texts.len - it->at;
    it->live = 1;
    return 0;
}

static int add_vector(state *s, mm_rec *rec, const mm_text_out *res, const float *vec)
{
    int r = mm_rec_set_str(rec, "model", mm_model_fingerprint(s->m), strlen(mm_model_fingerprint(s->m)));
    if (!r) r = mm_rec_set_int(rec, "tokens", res->tokens);
    if (!r && res->used < res->tokens) r = mm_rec_set_bool(rec, "truncated", 1);
    if (!r) r = mm_rec_set_vec(rec, MM_F32, vec, s->dim);
    return r ? mm_fail(&s->c->err, MM_ENOMEM, "out of memory") : 0;
}

/* A text longer than the window becomes a record for every part. The first part is embedded already. */
static int put_parts(state *s, item *it, const mm_text_out *first, const float *vec)
{
    mm_rec *part = mm_rec_new();
    mm_buf whole = { 0 }, id = { 0 };
    mm_slice v;
    const char *text = s->texts.p + it->at + it->skip;
    size_t len = it->len - it->skip, start = 0, end = first->used_len > it->skip ? first->used_len - it->skip : 0;
    mm_text_out res = *first;
    float *own = mm_realloc(NULL, s->dim, sizeof *own);
    mm_err err = { 0 };
    int r = !part || !own ? MM_ENOMEM : mm_rec_json(it->rec, MM_ENC_NONE, &whole, &err);
    if (!r && mm_rec_str(it->rec, "id", &v, &err) > 0) mm_buf_add(&id, v.p, v.len);
    else mm_buf_adds(&id, mm_rec_place(it->rec));
    size_t base = id.len;
    for (int no = 1; !r; no++) {
        if (no == 1) memcpy(own, vec, s->dim * sizeof *own);
        if (end <= start)
            end = len; /* nothing but the prefix fits: the rest goes into one cut part rather than into none */
        mm_buf chunk = { 0 };
        id.len = base;
        mm_buf_addf(&id, "#%d", no);
        mm_buf_addf(&chunk, "{\"n\":%d,\"start\":%zu,\"end\":%zu}", no, start, end);
        if (id.failed || chunk.failed || mm_rec_parse(part, whole.p, whole.len, &err) ||
            mm_rec_set_str(part, "id", id.p, id.len) || mm_rec_set_str(part, "text", text + start, end - start) ||
            mm_rec_set(part, "chunk", chunk.p, chunk.len))
            r = MM_ENOMEM;
        mm_buf_clear(&chunk);
        if (!r) r = add_vector(s, part, &(mm_text_out){ .tokens = res.used, .used = res.used }, own);
        if (!r) r = mm_io_put(&o.io, part);
        start = end;
        while (start < len &&
               (text[start] == ' ' || text[start] == '\n' || text[start] == '\t' || text[start] == '\r'))
            start++;
        if (r || start >= len) break;
        mm_buf rest = { 0 };
        mm_buf_add(&rest, s->prefix, s->prefix_len);
        mm_buf_add(&rest, text + start, len - start);
        if (rest.failed) r = MM_ENOMEM;
        else r = mm_model_embed_text(s->m, &(mm_text_in){ rest.p, rest.len }, 1, own, &res, &s->c->err);
        mm_buf_clear(&rest);
        if (!r && res.code) break; /* what is left has no tokens: white space and the like */
        end = start + (res.used_len > s->prefix_len ? res.used_len - s->prefix_len : 0);
    }
    if (r == MM_ENOMEM) mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
    mm_rec_free(part);
    mm_buf_clear(&whole);
    mm_buf_clear(&id);
    free(own);
    return r;
}

static int put(state *s, item *it, const mm_text_out *res, const float *vec)
{
    int r = 0;
    if (it->live && res->code == MM_EEMPTY) {
        mm_rec_fail(it->rec, MM_EEMPTY, "the text has no tokens: there is nothing to embed");
    } else if (it->live && res->used < res->tokens && o.overflow == ERROR) {
        mm_rec_fail(it->rec, MM_ELONG, "the text has %u tokens, the model takes %lld", res->tokens,
                    (long long)mm_model_get_config(s->m, MM_TEXT)->window);
    } else if (it->live && res->used < res->tokens && o.overflow == SPLIT) {
        return put_parts(s, it, res, vec);
    } else if (it->live) {
        r = add_vector(s, it->rec, res, vec);
    }
    return r ? r : mm_io_put(&o.io, it->rec);
}

static int flush_window(state *s)
{
    size_t live = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].live) s->in[live++] = (mm_text_in){ s->texts.p + s->items[i].at, s->items[i].len };
    int r = mm_model_embed_text(s->m, s->in, live, s->vec, s->res, &s->c->err);
    live = 0;
    for (size_t i = 0; i < s->n && !r; i++) {
        item *it = &s->items[i];
        r = put(s, it, &s->res[live], s->vec + live * s->dim);
        live += (size_t)it->live;
    }
    s->done += s->n;
    mm_progress_tick(&s->bar, s->done);
    s->n = 0;
    mm_buf_reset(&s->texts);
    return r;
}

static int stream(state *s, int argc, char **argv)
{
    int r = mm_io_open(&o.io, s->c, argc, argv);
    if (r) return r;
    mm_progress_start(&s->bar, s->c, "records", 0);
    for (;;) {
        item *it = &s->items[s->n];
        if (!it->rec && !(it->rec = mm_rec_new())) r = mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
        int more = r ? r : mm_io_next(&o.io, it->rec);
        if (more > 0) {
            if ((r = take(s, it))) break;
            s->n++;
            /* what is there is computed when the input pauses, so that an interactive pipe answers at once */
            if (s->n < (size_t)o.window && s->texts.len < ((size_t)16 << 20) && mm_io_pending(&o.io)) continue;
        }
        int f = s->n ? flush_window(s) : 0;
        r = more < 0 ? more : f;
        if (r || more == 0) break;
    }
    mm_progress_end(&s->bar);
    return mm_io_close(&o.io, r);
}

static int open_model(state *s)
{
    mm_ctx *c = s->c;
    const char *name = o.model ? o.model : getenv("MM_MODEL");
    char *path;
    if (!name || !name[0]) return mm_fail(&c->err, MM_EARG, "no model: give -m NAME or set MM_MODEL");
    int r = mm_store_resolve(&path, name, &c->err);
    if (r) return r;
    mm_model_opts mo = { (int)c->threads, o.pooling, o.normalize, o.max_tokens, 0 };
    r = mm_model_open(&s->m, path, &mo, &c->err);
    free(path);
    if (r) return r;
    if (!mm_model_get_config(s->m, MM_TEXT)->pool_stated)
        mm_warn(c, "model '%s' says nothing about pooling: mean is assumed (--pooling says otherwise)", name);
    s->prefix = o.prefix ? o.prefix : mm_model_prompt(s->m, o.prompt);
    if (o.prompt && !s->prefix) return mm_fail(&c->err, MM_EARG, "model '%s' has no prompt '%s'", name, o.prompt);
    if (!s->prefix) s->prefix = "";
    s->prefix_len = strlen(s->prefix);
    if (mm_utf8_valid(s->prefix, s->prefix_len) < s->prefix_len)
        return mm_fail(&c->err, MM_EARG, "the prefix is not valid UTF-8");
    s->dim = mm_model_dim(s->m);
    return 0;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    state s = { .c = c };
    int r = mm_opt_exclusive(c, "prompt", "prefix", NULL);
    if (!r) r = open_model(&s);
    if (!r) {
        size_t n = (size_t)o.window;
        s.items = calloc(n, sizeof *s.items);
        s.in = calloc(n, sizeof *s.in);
        s.res = calloc(n + 1, sizeof *s.res);
        s.vec = mm_aligned(n * s.dim, sizeof *s.vec);
        r = s.items && s.in && s.res && s.vec ? stream(&s, argc, argv) : mm_fail(&c->err, MM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; s.items && i < (size_t)o.window; i++) mm_rec_free(s.items[i].rec);
    free(s.items);
    free(s.in);
    free(s.res);
    free(s.vec);
    mm_buf_clear(&s.texts);
    mm_buf_clear(&s.file);
    mm_model_close(&s.m);
    return r;
}

static const char *const usage[] = { "[-m NAME] [-t0b] [option ...] [file ...]", NULL };
static const mm_cmd cmd = { "mm-embed", "turn text into vectors", usage, opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

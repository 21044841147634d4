/* mm-embed - text, pictures, sound and video into vectors. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "cmd/embed.h"
#include "cmd/text.h"

#define MEDIA_WINDOW 32 /* media of one window: decoded while the window before is computed */

static mm_embed_opts o = { .clean = 1, .pooling = -1, .normalize = -1, .modality = -1, .fuse = -1, .window = 256, .top = 5,
                           .media = MM_MEDIA_CLI_INIT, .io = { .each_operand = 1 } };

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

/* ---- a window ---- */

static int compute_texts(mm_embed *s, mm_embed_window *w, float *vec, size_t *used)
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
static void collect(mm_embed *s, mm_embed_window *w)
{
    for (size_t i = 0; i < w->n; i++) {
        mm_embed_item *it = &w->items[i];
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

static int compute_media(mm_embed *s, mm_embed_window *w, mm_modality mod, float *vec, size_t *used)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        mm_embed_item *it = &w->items[i];
        if ((it->kind != MEDIA && it->kind != GIVEN) || mm_rec_failed(it->rec) || it->mod != mod) continue;
        s->part[n] = it->kind == GIVEN ? (mm_part){ .mod = mod, .x = it->given, .times = it->times } : mm_media_part(&it->job, mod);
        it->vec = vec + n++ * s->dim;
    }
    *used = n;
    return n ? mm_model_embed_input(s->m, s->part, n, vec, &s->c->err) : 0;
}

/* Records with nothing to compute keep vec NULL. */
static int compute_records(mm_embed *s, mm_embed_window *w, float *vec)
{
    size_t n = 0, all = 0;
    for (size_t i = 0; i < w->n; i++) {
        mm_embed_item *it = &w->items[i];
        if (it->kind != RECORD) continue;
        s->first[n] = all;
        for (int m = 0; m < MM_MODALITIES; m++) {
            if (it->parts->of[m].state != MM_PART_HELD) continue;
            s->part[all] = mm_media_part(&it->parts->of[m].job, (mm_modality)m);
            s->part[all++].text = (mm_text_in){ w->texts.p + it->at, it->len };
        }
        if (all > s->first[n]) it->vec = vec + n++ * s->dim;
    }
    s->first[n] = all;
    if (!n) return 0;
    int r = mm_model_embed_records(s->m, (mm_fuse)s->fuse, s->part, s->first, n, vec, s->gate, s->res, &s->c->err);
    n = 0;
    for (size_t i = 0; i < w->n && !r; i++) {
        mm_embed_item *it = &w->items[i];
        if (it->kind != RECORD || !it->vec) continue;
        it->res = s->res[s->first[n]]; /* a text comes first */
        for (size_t p = s->first[n]; p < s->first[n + 1]; p++) it->gates[s->part[p].mod] = s->gate[p];
        n++;
    }
    return r;
}

static int flush_window(mm_embed *s, mm_embed_window *w)
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
    for (size_t i = 0; i < w->n && !r; i++) r = mm_embed_put(s, w, &w->items[i]);
    s->done += w->n;
    mm_progress_tick(&s->bar, s->done);
    w->n = w->media = 0;
    mm_buf_reset(&w->texts);
    return r;
}

/* Two windows: while one is computed the decoders work on the other. What is there is computed when the input pauses, so that an
 * interactive pipe answers at once. */
static int stream(mm_embed *s, int argc, char **argv)
{
    int r = mm_io_open(&o.io, s->c, argc, argv), at = 0;
    if (r) return r;
    mm_progress_start(&s->bar, s->c, "records", 0);
    for (;;) {
        mm_embed_window *w = &s->w[at], *before = &s->w[1 - at];
        mm_embed_item *it = &w->items[w->n];
        if (!it->rec && !(it->rec = mm_rec_new())) r = mm_fail(&s->c->err, MM_ENOMEM, "out of memory");
        int more = r ? r : mm_io_next(&o.io, it->rec), full = 0;
        if (more > 0) {
            int known = mm_embed_take(s, w, it);
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
    if (s->known && mm_known_nameless(s->known))
        mm_warn(s->c, "%llu records have neither id nor path to be known by, and are in the output again", (unsigned long long)mm_known_nameless(s->known));
    if (s->skipped) mm_info(s->c, "%llu unchanged files left out", (unsigned long long)s->skipped);
    return mm_io_close(&o.io, r);
}

/* What becomes of records of several parts with this model. */
static int choose_fuse(mm_embed *s, const char *name)
{
    mm_err *err = &s->c->err;
    s->fuse = o.fuse >= 0 ? o.fuse : mm_model_has_gates(s->m) ? MM_FUSE_GATES : FUSE_FIRST;
    if (!s->multi || o.modality >= 0 || o.emit == EMIT_INPUTS) s->fuse = FUSE_FIRST;
    if (o.fuse == MM_FUSE_GATES && !mm_model_has_gates(s->m))
        return mm_fail(err, MM_EUNSUP, "model '%s' does not weigh the parts of a record: option '--fuse mean' takes them equally", name);
    int r = mm_parts_require(&o.require, &s->require, err);
    if (r || s->fuse != FUSE_FIRST || !(o.require.n || o.track)) return r;
    return mm_fail(err, MM_EARG, "option '--%s' is for records of several parts, of which model '%s' embeds one%s", o.track ? "sound-track" : "require", name,
                   s->multi ? ": '--fuse mean' embeds all" : "");
}

static int open_model(mm_embed *s)
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

static int open_files(mm_embed *s, int argc, char **argv)
{
    mm_ctx *c = s->c;
    const char **names = calloc(o.known.n + 2, sizeof *names);
    size_t n = 0;
    int r = names ? 0 : mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (!r) r = mm_io_spare(c, "errors-to", o.errors_to, argc, argv);
    if (!r) r = mm_io_spare(c, "append", o.append, argc, argv);
    for (size_t i = 0; !r && i < o.known.n; i++) names[n++] = o.known.v[i];
    if (!r && o.append) names[n++] = o.append;
    if (!r && n) r = mm_known_open(&s->known, names, n, mm_model_fingerprint(s->m), o.emit == EMIT_INPUTS ? 0 : o.dim ? (size_t)o.dim : s->dim, &c->err);
    int goes_on = o.append != NULL; /* what is known is not forgotten */
    for (size_t i = 0; i < o.known.n && o.errors_to && !r; i++) goes_on |= !strcmp(names[i], o.errors_to) || mm_same_file(names[i], o.errors_to);
    free(names);
    if (!r && o.append && o.errors_to && (!strcmp(o.append, o.errors_to) || mm_same_file(o.append, o.errors_to)))
        r = mm_fail(&c->err, MM_EARG, "options '--append' and '--errors-to' name the same file");
    if (!r && o.append) r = mm_append_open(c, o.append, 1, NULL, NULL);
    if (!r && o.errors_to) {
        s->errors = open(o.errors_to, O_WRONLY | O_CREAT | O_CLOEXEC | (goes_on ? O_APPEND : O_TRUNC), 0666);
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
    if (!r && (o.append || o.known.n) && o.io.text)
        r = mm_fail(&c->err, MM_EARG, "option '--%s': lines of text have nothing to be known by; records with an id have", o.append ? "append" : "skip-known");
    if (!r && (o.append || o.known.n) && o.overflow == OVERFLOW_SPLIT)
        r = mm_fail(&c->err, MM_EARG, "option '--%s': parts of texts have no names that the input has; '--overflow document' keeps a text one record",
                    o.append ? "append" : "skip-known");
    if (!r && mm_opt_given(c, "top") && !o.labels) r = mm_fail(&c->err, MM_EARG, "option '--top' needs '--labels FILE'");
    if (!r && o.key && o.overflow == OVERFLOW_CUT) o.overflow = OVERFLOW_DOCUMENT;
    if (!r && o.key && o.overflow != OVERFLOW_DOCUMENT) r = mm_fail(&c->err, MM_EARG, "option '--key' is for '--overflow document'");
    if (!r && o.emit == EMIT_INPUTS) {
        static const char *const with[] = { "labels", "overflow", "key", "normalize", "pooling", "inputs" };
        for (size_t i = 0; i < 6 && !r; i++) r = mm_opt_exclusive(c, "emit", with[i], NULL);
    }
    if (!r && o.templates.n && !o.labels) r = mm_fail(&c->err, MM_EARG, "option '--template' needs '--labels FILE'");
    return r;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    mm_embed s = { .c = c, .o = &o, .errors = -1 };
    size_t n = (size_t)o.window;
    int r = check(c);
    if (!r && !o.io.text && !o.io.nul) r = mm_media_begin(&s.pool, &s.look, &o.media, c, argc, argv);
    if (!r) r = open_model(&s);
    if (!r) r = open_files(&s, argc, argv);
    if (!r) {
        const size_t parts = s.fuse == FUSE_FIRST ? 1 : MM_MODALITIES;
        s.in = calloc(n, sizeof *s.in);
        s.res = calloc(n * parts + 1, sizeof *s.res);
        s.part = calloc(n * parts, sizeof *s.part);
        s.gate = calloc(n * parts, sizeof *s.gate);
        s.first = calloc(n + 1, sizeof *s.first);
        int bad = !s.in || !s.res || !s.part || !s.gate || !s.first;
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

#include "cmd/paint.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_base.h"
#include "cmd/choices.h"
#include "cmd/judge.h"
#include "cmd/media.h"
#include "gen/mm_generate.h"
#include "gen/mm_paint.h"
#include "model/mm_uni.h"
#include "store/mm_store.h"

#define TOGETHER 64 /* pictures of one window: what is kept of them is some MB */

typedef struct item {
    mm_rec *rec;
    mm_buf text;     /* the prompt */
    float *init;     /* [floats] */
    int asked, has_init;
    uint64_t number, seed; /* seed: its own, where `own` is set */
    int own;
} item;

typedef struct state {
    const mm_paint_args *a;
    mm_ctx *c;
    mm_model *m;
    mm_paint *paint;
    mm_workers *pool;
    mm_media_ref ref;
    size_t floats, size; /* size: records of a window */
    item *items;
    mm_paint_job *jobs; /* [size * n] */
    float *out, *given; /* their pictures; --init's, or NULL */
    float *vec;         /* [dim] of a prompt */
    mm_judge judge;
    const char *file;   /* --output, or NULL */
    uint64_t records, pictures;
    mm_choices choices;
    mm_buf png, name, value;
    mm_progress bar;
} state;

static int no_memory(state *s) { return mm_fail(&s->c->err, MM_ENOMEM, "out of memory"); }

/* ---- what is read ---- */

/* A picture as the model wants it. The code of its failure is the job's. */
static int decode(state *s, const mm_media_src *src, float *to, mm_err *err)
{
    const mm_media_cli how = MM_MEDIA_CLI_INIT;
    mm_job job = { .src = *src, .opts = mm_media_input_opts(&how), .spec = { *mm_model_input_spec(s->m, MM_IMAGE) }, .n = 1 };
    int r = s->pool ? 0 : mm_media_workers(&s->pool, &how, s->c);
    if (!r) r = mm_workers_submit(s->pool, &job, &s->c->err);
    if (r) return mm_fail(err, r, "%s", s->c->err.msg);
    mm_workers_wait(s->pool, &job);
    if (job.code) r = mm_fail(err, job.code, "%s", job.message);
    else memcpy(to, job.x, s->floats * sizeof *to);
    mm_workers_release(s->pool, &job);
    return r;
}

/* The picture that it begins from: the record's own, or --init's. 0, or the code with which the record has failed. */
static int take_init(state *s, item *it)
{
    mm_err err = { 0 };
    int r = mm_media_find(it->rec, MM_REF_IMAGE, &s->ref);
    if (r < 0) return r;
    it->has_init = r || s->given;
    if (!it->has_init) return 0;
    if (!it->init && !(it->init = mm_aligned(s->floats, sizeof *it->init))) return mm_rec_fail(it->rec, MM_ENOMEM, "out of memory");
    if (!r) memcpy(it->init, s->given, s->floats * sizeof *it->init);
    else if (decode(s, &s->ref.src, it->init, &err)) return mm_rec_fail(it->rec, err.code, "%s", err.msg);
    return 0;
}

/* --prompt, and the record's text behind it. */
static int take(state *s, item *it)
{
    mm_err err = { 0 };
    mm_slice text = { 0 };
    const char *prompt = s->a->prompt;
    it->asked = 0;
    it->number = s->records;
    mm_buf_reset(&it->text);
    if (mm_rec_failed(it->rec)) return 0;
    int r = mm_rec_str(it->rec, "text", &text, &err);
    if (r < 0) return mm_rec_fail(it->rec, r, "%s", err.msg), 0;
    if (prompt) mm_buf_adds(&it->text, prompt);
    if (prompt && text.len) mm_buf_addc(&it->text, ' ');
    mm_buf_add(&it->text, text.p, text.len);
    if (it->text.failed) return no_memory(s);
    if (take_init(s, it)) return 0;
    if (!it->text.len && !it->has_init) {
        mm_rec_fail(it->rec, r ? MM_EEMPTY : MM_EDATA, r ? "the text is empty" : "no key \"text\": there is nothing to make a picture of");
        return 0;
    }
    const uint64_t none = UINT64_MAX;
    it->seed = none;
    if (s->a->n == 1 && mm_own_seed(it->rec, &it->seed)) return 0;
    it->own = it->seed != none;
    it->asked = 1;
    if (s->file && s->pictures++) {
        it->asked = 0;
        mm_rec_fail(it->rec, MM_EARG, "'%s' is one picture: '--out-dir DIR' is for many", s->file);
    }
    return 0;
}

/* ---- what is written ---- */

/* How well each picture of a record is what was asked for. */
static int judge(state *s, const item *it, const mm_paint_job *jobs)
{
    const mm_text_in text = { it->text.p, it->text.len };
    mm_text_out res;
    if (!s->judge.m) return 0;
    int r = text.len && !jobs->code ? mm_model_embed_text(s->m, &text, 1, s->vec, &res, &s->c->err) : 0;
    for (size_t i = 0; i < s->a->n && !r; i++) {
        const mm_part made = { .mod = MM_IMAGE, .x = jobs[i].out };
        r = mm_judge_score(&s->judge, i, s->vec, text.len && !jobs[i].code ? &made : NULL, &s->c->err);
    }
    return r;
}

/* DIR/000001-ID.png, of several choices DIR/000001-ID-1.png */
static int name_of(state *s, const item *it, size_t choice)
{
    mm_err err = { 0 };
    mm_slice id = { 0 };
    mm_buf *b = &s->name;
    mm_buf_reset(b);
    if (s->file) return mm_buf_adds(b, s->file);
    mm_buf_addf(b, "%s/%06llu", s->a->how->dir, (unsigned long long)it->number);
    if (mm_rec_id(it->rec, &id, &err) > 0) mm_buf_addc(b, '-');
    for (size_t i = 0; i < id.len && i < 80; i++) mm_buf_addc(b, isalnum((unsigned char)id.p[i]) || memchr("._-", id.p[i], 3) ? id.p[i] : '_');
    if (s->a->n > 1 && s->a->best != 1) mm_buf_addf(b, "-%zu", choice + 1);
    return mm_buf_adds(b, ".png");
}

/* The picture as PNG: into a file, which appears when it is whole, or into the record. */
static int put_picture(state *s, const item *it, mm_rec *rec, const float *picture, size_t choice)
{
    mm_image small = { 0 }, large = { 0 };
    mm_outfile f;
    const int side = (int)s->a->how->size;
    int r = mm_paint_image(s->paint, picture, &small, &s->c->err);
    if (!r) r = mm_image_resize(&large, &small, side, side, MM_RESIZE_BICUBIC, &s->c->err);
    mm_buf_reset(&s->png);
    if (!r) r = mm_image_png(&s->png, &large, &s->c->err);
    mm_image_clear(&small);
    mm_image_clear(&large);
    if (r) return r;
    if (!s->file && !s->a->how->dir) {
        mm_buf_reset(&s->value);
        mm_buf_adds(&s->value, "{\"b64\":\"");
        mm_base64_encode(&s->value, s->png.p, s->png.len);
        mm_buf_adds(&s->value, "\",\"mime\":\"image/png\"}");
        return s->value.failed || mm_rec_set(rec, "image", s->value.p, s->value.len) ? no_memory(s) : 0;
    }
    if (name_of(s, it, choice)) return no_memory(s);
    if ((r = mm_outfile_open(&f, s->name.p, &s->c->err))) return r;
    if ((r = mm_outfile_write(&f, s->png.p, s->png.len, &s->c->err))) mm_outfile_abort(&f);
    else r = mm_outfile_commit(&f, &s->c->err);
    return r ? r : mm_rec_set_str(rec, "image", s->name.p, s->name.len) ? no_memory(s) : 0;
}

static int put_one(state *s, item *it, mm_rec *rec, const mm_paint_job *job, size_t choice)
{
    const char *model = mm_model_fingerprint(s->m);
    mm_slice own;
    if (job->code) return mm_rec_fail(rec, job->code, "%s", job->err.msg), mm_io_put(s->a->io, rec);
    int r = mm_rec_set_str(rec, "model", model, strlen(model));
    if (!r) r = mm_rec_set_str(rec, "prompt", it->text.p ? it->text.p : "", it->text.len);
    if (!r && mm_rec_get(rec, "image", &own)) { /* what it began from keeps a place */
        mm_buf_reset(&s->value);
        r = mm_buf_add(&s->value, own.p, own.len) || mm_rec_set(rec, "init", s->value.p, s->value.len);
    }
    if (r) return no_memory(s);
    if ((r = put_picture(s, it, rec, job->out, choice))) return r;
    r = mm_rec_set_int(rec, "seed", (int64_t)job->seed);
    if (!r) r = mm_judge_report(&s->judge, choice, rec);
    return r ? no_memory(s) : mm_io_put(s->a->io, rec);
}

static int put(state *s, item *it, const mm_paint_job *jobs)
{
    if (!it->asked) return mm_io_put(s->a->io, it->rec);
    int r = judge(s, it, jobs);
    if (r) return r;
    const size_t wanted = mm_judge_rank(&s->judge), first = s->judge.order[0];
    if (s->a->n > 1 && wanted == 1 && mm_rec_set_int(it->rec, "choice", (int64_t)first + 1)) return no_memory(s);
    if (wanted == 1) return put_one(s, it, it->rec, &jobs[first], first);
    if (mm_choices_of(&s->choices, it->rec)) return no_memory(s);
    for (size_t i = 0; i < wanted && !r; i++) {
        const size_t k = s->judge.order[i];
        if (mm_choices_at(&s->choices, (int64_t)k + 1)) return no_memory(s);
        r = put_one(s, it, s->choices.rec, &jobs[k], k);
    }
    return r;
}

/* ---- windows of records ---- */

static int compute(state *s, size_t count)
{
    const size_t n = s->a->n;
    size_t jobs = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; s->items[i].asked && k < n; k++, jobs++) {
            const item *it = &s->items[i];
            s->jobs[jobs] = (mm_paint_job){ .text = { it->text.p, it->text.len }, .init = it->has_init ? it->init : NULL,
                                            .strength = (float)s->a->how->strength, .out = s->out + jobs * s->floats };
            s->jobs[jobs].seed = it->own ? it->seed : mm_gen_seed(s->a->seed, it->number, k);
        }
    int r = mm_paint_run(s->paint, s->jobs, jobs, &s->c->err);
    jobs = 0;
    for (size_t i = 0; i < count && !r; i++) {
        r = put(s, &s->items[i], &s->jobs[jobs]);
        if (s->items[i].asked) jobs += n;
    }
    return r;
}

/* 1, 0 at the end of the input. */
static int read_one(state *s, item *it)
{
    static const char *const set[] = { "prompt", "image", "init", "id", NULL };
    mm_resume *done = s->a->resume;
    if (!it->rec && !(it->rec = mm_rec_new())) return no_memory(s);
    for (;;) {
        int more = mm_io_next(s->a->io, it->rec);
        if (more <= 0) return more;
        s->records++;
        if (s->records > done->skip) break;
        if (s->records == done->skip && (more = mm_resume_check(done, it->rec, set, &s->c->err))) return more;
    }
    const int r = take(s, it);
    return r ? r : 1;
}

/* The prompt alone, as a record of its own. */
static int read_lone(state *s)
{
    item *it = &s->items[0];
    s->records = 1;
    if (s->a->resume->skip) return 0;
    if (!it->rec && !(it->rec = mm_rec_new())) return no_memory(s);
    const int r = take(s, it);
    return r ? r : 1;
}

static int stream(state *s, int lone)
{
    int more = !lone, r = 0;
    uint64_t done = 0;
    mm_progress_start(&s->bar, s->c, "records", 0);
    while (!r && (more > 0 || lone)) {
        size_t count = 0;
        while (more > 0 && count < s->size && (!count || mm_io_pending(s->a->io)))
            if ((more = read_one(s, &s->items[count])) > 0) count++;
        if (lone || (!more && !s->records && s->a->prompt)) {
            r = read_lone(s);
            count = r > 0;
            r = r < 0 ? r : 0;
            lone = 0;
        }
        if (!r && count) r = compute(s, count);
        done += count;
        mm_progress_tick(&s->bar, done);
        if (!r && more < 0) r = more;
    }
    mm_progress_end(&s->bar);
    return r ? r : mm_resume_end(s->a->resume, s->records, &s->c->err);
}

/* ---- opening ---- */

static int open_model(state *s)
{
    mm_ctx *c = s->c;
    mm_model_opts how = MM_MODEL_OPTS_INIT;
    char *path;
    how.threads = (int)c->threads;
    how.heads = 1u << MM_UNI_FLOW;
    int r = mm_store_resolve(&path, s->a->model ? s->a->model : mm_store_default_name(), &c->err);
    if (r) return r;
    r = mm_model_open(&s->m, path, &how, &c->err);
    const mm_paint_opts paint = { (size_t)s->a->how->steps, (float)s->a->how->guidance };
    if (!r && (r = mm_paint_new(&s->paint, s->m, &paint, &c->err))) mm_err_prefix(&c->err, "'%s': ", path);
    free(path);
    return r;
}

static int open_rest(state *s)
{
    const mm_paint_args *a = s->a;
    mm_ctx *c = s->c;
    if (a->prompt && mm_utf8_valid(a->prompt, strlen(a->prompt)) < strlen(a->prompt))
        return mm_fail(&c->err, MM_EARG, "option '--prompt' is not valid UTF-8");
    s->floats = mm_paint_floats(s->paint);
    s->size = a->batch * a->n > TOGETHER ? TOGETHER / a->n : a->batch;
    if (!s->size) s->size = 1;
    s->items = calloc(s->size, sizeof *s->items);
    s->jobs = calloc(s->size * a->n, sizeof *s->jobs);
    s->out = mm_aligned(s->size * a->n * s->floats, sizeof *s->out);
    s->vec = mm_aligned(mm_model_dim(s->m), sizeof *s->vec);
    if (a->how->init) s->given = mm_aligned(s->floats, sizeof *s->given);
    if (!s->items || !s->jobs || !s->out || !s->vec || (a->how->init && !s->given)) return no_memory(s);
    int r = mm_judge_open(&s->judge, a->score || a->best ? s->m : NULL, a->n, a->best, &c->err);
    if (r) return r;
    if (a->how->dir && mkdir(a->how->dir, 0777) && errno != EEXIST) return mm_fail_errno(&c->err, "cannot make the folder '%s'", a->how->dir);
    if (!a->how->init) return 0;
    mm_err err = { 0 };
    r = decode(s, &(mm_media_src){ .path = a->how->init }, s->given, &err);
    return r ? mm_fail(&c->err, r, "option '--init': %s", err.msg) : 0;
}

static void clear(state *s)
{
    for (size_t i = 0; s->items && i < s->size; i++) {
        mm_rec_free(s->items[i].rec);
        mm_buf_clear(&s->items[i].text);
        free(s->items[i].init);
    }
    free(s->items);
    free(s->jobs);
    free(s->out);
    free(s->given);
    free(s->vec);
    mm_judge_close(&s->judge);
    mm_buf_clear(&s->ref.bytes);
    mm_buf_clear(&s->png);
    mm_buf_clear(&s->name);
    mm_buf_clear(&s->value);
    mm_choices_clear(&s->choices);
    if (s->pool) mm_workers_close(&s->pool);
    mm_paint_free(&s->paint);
    mm_model_close(&s->m);
}

int mm_paint_records(const mm_paint_args *a, int argc, char **argv)
{
    static char *const nothing[] = { (char *)(uintptr_t)"/dev/null" };
    state s = { .a = a, .c = a->c, .file = a->io->out };
    const int lone = !argc && a->c->tty[0] && a->prompt;
    a->io->out = NULL; /* records go to standard output: it is the picture's */
    int r = 0;
    if (!s.file && !a->how->dir && a->c->tty[1] && !a->io->force)
        r = mm_fail(&a->c->err, MM_EARG,
                    "where to? '--output FILE.png' for one picture, '--out-dir DIR' for many; '--force' writes them into the records here");
    if (!r) r = open_model(&s);
    if (!r) r = open_rest(&s);
    if (!r) r = mm_resume_open(a->resume, a->c, a->best ? a->best : a->n);
    if (!r) r = mm_io_open(a->io, a->c, lone ? 1 : argc, lone ? (char **)(uintptr_t)nothing : argv);
    if (!r) r = mm_io_close(a->io, stream(&s, lone));
    clear(&s);
    return r;
}

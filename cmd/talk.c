#include "cmd/talk.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"

#define PICTURES "pictures" /* of a turn: how many it shows */

typedef struct talk {
    const mm_talk *t;
    mm_rec *rec, *next;
    json_t *turns;
    mm_vlm_picture *pics; /* [n_pics] that the turns show, in their order */
    float *embd;          /* [rows] of them, one after the other */
    size_t n_pics, rows;
    uint64_t answers;
    int open;    /* the last turn is the user's, and has no answer yet */
    int show;    /* to a person: text as it comes */
    mm_err write_err;
} talk;

/* A person's ^C ends an answer, and where none is under way the conversation, which is then whole. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

static int no_memory(talk *k) { return mm_fail(&k->t->c->err, MM_ENOMEM, "out of memory"); }

/* A turn with the pictures that were looked at last, of which there are so many, in front. */
static int add(talk *k, const char *role, const char *text, size_t len, size_t pictures)
{
    const mm_buf *clip = &k->t->prompts->pictures.text;
    json_t *content = pictures ? json_array() : json_stringn(text, len), *j;
    for (size_t i = 0; i < pictures && !clip->len; i++) json_array_append_new(content, json_pack("{s:s}", "type", "image"));
    if (pictures && clip->len) json_array_append_new(content, json_pack("{s:s,s:s%}", "type", "text", "text", clip->p, clip->len));
    if (pictures) json_array_append_new(content, json_pack("{s:s,s:s%}", "type", "text", "text", text, len));
    j = content ? json_pack("{s:s,s:o,s:I}", "role", role, "content", content, PICTURES, (json_int_t)pictures) : NULL;
    return !j || json_array_append_new(k->turns, j) ? no_memory(k) : 0;
}

static size_t shown(const json_t *turn) { return (size_t)json_integer_value(json_object_get(turn, PICTURES)); }

static size_t rows_of(const talk *k, size_t first, size_t n) { return mm_pictures_rows(&k->t->prompts->pictures, k->pics + first, n); }

/* The record's pictures behind those of the turns before: *n of them, 0 when it has failed. */
static int look(talk *k, mm_rec *rec, size_t *n)
{
    mm_pictures *p = &k->t->prompts->pictures;
    *n = 0;
    if (!mm_pictures_named(p, rec)) return 0;
    int r = mm_pictures_of(p, rec, &k->t->c->err);
    if (r) return mm_rec_failed(rec) ? 0 : r;
    const size_t width = mm_lm_width(p->lm);
    mm_vlm_picture *pics = mm_realloc(k->pics, k->n_pics + p->n + 1, sizeof *pics);
    if (pics) k->pics = pics;
    float *embd = pics ? mm_realloc(k->embd, (k->rows + p->rows) * width + 1, sizeof *embd) : NULL;
    if (!embd) return no_memory(k);
    k->embd = embd;
    if (p->n) memcpy(pics + k->n_pics, p->pics, p->n * sizeof *pics);
    if (p->rows) memcpy(embd + k->rows * width, p->embd, p->rows * width * sizeof *embd);
    k->n_pics += *n = p->n;
    k->rows += p->rows;
    return 0;
}

/* What was not answered was not said. */
static void take_back(talk *k)
{
    const size_t last = json_array_size(k->turns) - 1, n = shown(json_array_get(k->turns, last));
    k->rows -= rows_of(k, k->n_pics - n, n);
    k->n_pics -= n;
    json_array_remove(k->turns, last);
}

/* A record as a turn: 1, or 0 when it has failed. */
static int take(talk *k, mm_rec *rec)
{
    mm_err err = { 0 };
    mm_slice role = { 0 }, content = { 0 };
    size_t pictures = 0;
    int r = mm_rec_str(rec, "role", &role, &err);
    if (r == 0) role = (mm_slice){ "user", 4 };
    const int named = r > 0;
    if (r >= 0 && (r = mm_rec_str(rec, "content", &content, &err)) == 0 && !named) r = mm_rec_str(rec, "text", &content, &err);
    if (r == 0) r = mm_fail(&err, MM_EDATA, "no key \"content\": this is no turn");
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg), 0;
    if ((r = look(k, rec, &pictures)) || mm_rec_failed(rec)) return r;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)role.len, role.p);
    if ((r = add(k, name, content.p, content.len, pictures))) return r;
    k->open = !strcmp(name, "user");
    if (named) return 1;
    mm_rec_del(rec, "text"); /* it becomes a turn like the others */
    if (mm_rec_set_str(rec, "role", "user", 4) || mm_rec_set_str(rec, "content", content.p, content.len))
        return no_memory(k);
    return 1;
}

static void on_text(void *arg, const char *text, size_t len)
{
    talk *k = arg;
    if (!k->write_err.code && mm_write_all(1, text, len, &k->write_err)) mm_err_prefix(&k->write_err, "standard output: ");
}

/* The pictures of the turns, but for the first ones, as those of the prompt. */
static int show(talk *k, size_t first, mm_err *err)
{
    mm_pictures *p = &k->t->prompts->pictures;
    const size_t n = k->n_pics - first;
    mm_vlm_picture *pics = n ? mm_realloc(p->pics, n, sizeof *pics) : p->pics;
    if (n && !pics) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (n) memcpy(pics, k->pics + first, n * sizeof *pics);
    p->pics = pics;
    p->n = n;
    mm_buf_reset(&p->text); /* what is to be said of a clip is in its turn already */
    return 0;
}

/* The prompt of the turns so far. --overflow cut-left: without the oldest ones, until it fits; how many are left out, and the first of the
 * pictures that are not. */
static int prompt(talk *k, size_t *dropped, size_t *first_pic, mm_err *err)
{
    const size_t room = mm_gen_context(k->t->gen) > k->t->base->max_tokens ? mm_gen_context(k->t->gen) - k->t->base->max_tokens : 1;
    json_t *some = json_copy(k->turns);
    int r = 0;
    *dropped = *first_pic = 0;
    for (;;) {
        r = show(k, *first_pic, err);
        if (!r) r = mm_prompts_talk(k->t->prompts, some, err);
        if (r || k->t->base->overflow != MM_OVERFLOW_CUT_LEFT || k->t->prompts->n_ids <= room) break;
        const size_t first = json_array_size(some) && !strcmp(json_string_value(json_object_get(json_array_get(some, 0), "role")), "system");
        if (json_array_size(some) < first + 3) break;
        for (int i = 0; i < 2; i++) { /* a question and its answer */
            *first_pic += shown(json_array_get(some, first));
            json_array_remove(some, first);
        }
        *dropped += 2;
    }
    json_decref(some);
    return r;
}

static int answer(talk *k)
{
    const mm_talk *t = k->t;
    mm_err err = { 0 };
    size_t dropped, first_pic;
    mm_buf tokens = { 0 };
    mm_gen_job job = *t->base;
    job.seed = mm_gen_seed(t->seed, ++k->answers, 0);
    job.on_text = k->show ? on_text : NULL;
    job.arg = k;
    mm_rec_reset(k->rec);
    k->open = 0;
    int r = prompt(k, &dropped, &first_pic, &err);
    if (r) {
        job.code = r;
        job.err = err;
    } else {
        job.ids = t->prompts->ids;
        job.n_ids = t->prompts->n_ids;
        if (k->n_pics) {
            job.embd = k->embd + rows_of(k, 0, first_pic) * mm_lm_width(t->prompts->lm);
            job.mark = t->prompts->pictures.connect.c ? t->prompts->mark : mm_vlm_mark(t->prompts->lm);
        }
        mm_gen_add(t->gen, &job);
        while ((r = mm_gen_step(t->gen, &t->c->err)) > 0)
            if (interrupted && !job.grammar) job.max_tokens = job.tokens + 1;
    }
    if (r < 0 && !job.code) return r;
    const char *text = job.said.text.p ? job.said.text.p : "", *finish = mm_finish_name(job.finish);
    r = mm_rec_set_str(k->rec, "role", "assistant", 9);
    if (!r && !job.code) r = mm_rec_set_str(k->rec, "content", text, job.said.text.len);
    if (!r && !job.code) r = add(k, "assistant", text, job.said.text.len, 0);
    if (!r) r = mm_rec_set_str(k->rec, "model", t->model, strlen(t->model));
    if (!r && !job.code) r = mm_rec_set_str(k->rec, "finish", finish, strlen(finish));
    mm_buf_addf(&tokens, "{\"prompt\":%zu,\"generated\":%zu}", job.used, job.tokens);
    if (!r && !job.code) r = tokens.failed ? MM_ENOMEM : mm_rec_set(k->rec, "tokens", tokens.p, tokens.len);
    if (!r && dropped) r = mm_rec_set_bool(k->rec, "truncated", 1);
    if (!r && t->base->sample.temperature > 0) r = mm_rec_set_int(k->rec, "seed", (int64_t)job.seed);
    if (!r && job.code) {
        mm_rec_fail(k->rec, job.code, "%s", job.err.msg);
        take_back(k);
    }
    mm_buf_clear(&tokens);
    mm_gen_job_clear(&job);
    return r ? no_memory(k) : 0;
}

/* The answer that is due, and its record. */
static int reply(talk *k)
{
    mm_io *io = k->t->io;
    int r = k->open ? answer(k) : 0;
    return r || !mm_rec_count(k->rec) ? r : io->wr ? mm_io_put(io, k->rec) : mm_io_count(io, k->rec);
}

/* The conversation's own first turn, in whose place --system is. */
static int is_replaced(const talk *k, mm_rec *rec)
{
    mm_slice role;
    return k->t->prompts->system && json_array_size(k->turns) == 1 && !mm_rec_failed(rec) && mm_rec_str(rec, "role", &role, NULL) > 0 &&
           mm_slice_is(role, "system");
}

static int turns(talk *k)
{
    mm_io *io = k->t->io;
    for (;;) {
        /* an answer that waits already counts; one that has yet to be typed does not */
        const int wait = k->open && !mm_io_pending(io);
        int r = 0;
        mm_rec_reset(k->rec);
        if (wait && (r = reply(k))) return r;
        r = mm_io_next(io, k->next);
        mm_slice role;
        mm_err err = { 0 };
        if (k->open && (r <= 0 || mm_rec_failed(k->next) || mm_rec_str(k->next, "role", &role, &err) <= 0 || role.len != 9 || memcmp(role.p, "assistant", 9))) {
            const int a = reply(k);
            if (a) return a;
        }
        if (r <= 0) return r;
        if (is_replaced(k, k->next)) continue;
        if (!mm_rec_failed(k->next) && (r = take(k, k->next)) < 0) return r;
        if ((r = io->wr ? mm_io_put(io, k->next) : mm_io_count(io, k->next))) return r;
    }
}

/* A person at a terminal: a line is a turn. */
static int typed(talk *k)
{
    mm_io *io = k->t->io;
    char *line = NULL;
    size_t cap = 0;
    int r = 0;
    k->show = 1;
    while (!r) {
        interrupted = 0;
        if ((r = mm_write_all(1, "> ", 2, &k->t->c->err))) break;
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) break;
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        if (!n) continue;
        if (mm_utf8_valid(line, (size_t)n) < (size_t)n) {
            mm_error(k->t->c, "the line is not valid UTF-8");
            continue;
        }
        r = add(k, "user", line, (size_t)n, 0);
        mm_rec_reset(k->next);
        if (!r && (mm_rec_set_str(k->next, "role", "user", 4) || mm_rec_set_str(k->next, "content", line, (size_t)n))) r = no_memory(k);
        if (!r && io->wr) r = mm_io_put(io, k->next);
        k->open = 1;
        if (!r) r = reply(k);
        if (!r && k->write_err.code) k->t->c->err = k->write_err, r = k->write_err.code;
        if (!r) r = mm_write_all(1, "\n", 1, &k->t->c->err);
    }
    if (!r) r = mm_write_all(1, "\n", 1, &k->t->c->err);
    free(line);
    return r;
}

/* --system is the first turn of what is written, so that who goes on with it need not give it again. */
static int put_system(talk *k, const char *text)
{
    if (!k->t->io->wr) return 0;
    mm_rec_reset(k->rec);
    const int r = mm_rec_set_str(k->rec, "role", "system", 6) || mm_rec_set_str(k->rec, "content", text, strlen(text));
    return r ? no_memory(k) : mm_io_put(k->t->io, k->rec);
}

int mm_talk_run(const mm_talk *t, int argc, char **argv)
{
    static char *const nothing[] = { (char *)(uintptr_t)"/dev/null" };
    talk k = { .t = t, .rec = mm_rec_new(), .next = mm_rec_new(), .turns = json_array() };
    const int person = t->c->tty[0] && t->c->tty[1];
    const char *system = t->prompts->system;
    int r = !k.rec || !k.next || !k.turns ? no_memory(&k) : 0;
    if (!r && !t->prompts->chat) r = mm_fail(&t->c->err, MM_EUNSUP, "the model has no chat template: there is no conversation with it");
    if (!r && system) r = add(&k, "system", system, strlen(system), 0);
    if (!r && person && !argc) argc = 1, argv = (char **)(uintptr_t)nothing;
    if (!r) r = person && !t->io->out ? mm_io_open_in(t->io, t->c, argc, argv) : mm_io_open(t->io, t->c, argc, argv);
    if (!r) {
        const struct sigaction sa = { .sa_handler = on_interrupt }; /* a read is not begun again */
        struct sigaction before = { .sa_handler = SIG_DFL };
        if (person && sigaction(SIGINT, &sa, &before)) r = mm_fail_errno(&t->c->err, "cannot handle SIGINT");
        if (!r && system) r = put_system(&k, system);
        if (!r) r = turns(&k);
        if (!r && person) r = typed(&k);
        if (person) sigaction(SIGINT, &before, NULL);
        r = mm_io_close(t->io, r);
    }
    mm_rec_free(k.rec);
    mm_rec_free(k.next);
    json_decref(k.turns);
    free(k.pics);
    free(k.embd);
    return r;
}

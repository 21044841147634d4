/* mm-generate - texts that go on from texts or say what is seen, and pictures of texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/choices.h"
#include "cmd/io.h"
#include "cmd/judge.h"
#include "cmd/paint.h"
#include "cmd/parts.h"
#include "cmd/prompt.h"
#include "cmd/resume.h"
#include "cmd/talk.h"
#include "gen/mm_generate.h"
#include "store/mm_store.h"

#define MAX_TOKENS 512

static struct {
    const char *model, *draft, *schema, *grammar;
    double temperature, top_p, min_p, repeat, frequency, presence;
    double length_penalty;
    int64_t max_tokens, top_k, last_n, seed, n, logprobs, batch, context, beam, guesses, best;
    int overflow, kv, stream, chat, score;
    mm_paint_cli paint;
    mm_strv stops;
    mm_prompts prompts;
    mm_resume resume;
    mm_io io;
} o = { .length_penalty = 1, .n = 1, .batch = 8, .last_n = 64, .kv = -1, .stream = -1, .paint = MM_PAINT_CLI_INIT, .io = { .each_operand = 1 } };

static const mm_opt opts[] = {
    MM_OPT_GROUP("Prompt"),
    MM_OPT_STR('m', "model", &o.model, "NAME", "model: a name, a folder or a file (default: $MM_MODEL)"),
    MM_OPT_STR('p', "prompt", &o.prompts.prompt, "TEXT", "what is asked: before each text, or alone where there is no input"),
    MM_OPT_STR(0, "template", &o.prompts.template, "TEXT", "fill the keys of each record into TEXT: 'Summarize: {{text}}\\n'"),
    MM_OPT_STR(0, "system", &o.prompts.system, "TEXT", "the system turn, in front of all others"),
    MM_OPT_BOOL(0, "raw", &o.prompts.raw, "texts as they are, without the model's chat template"),
    MM_OPT_BOOL(0, "caption", &o.prompts.caption, "say what is seen or heard in each record (unified model; default: the built-in one)"),
    MM_OPT_STR(0, "connector", &o.prompts.pictures.connect.file, "FILE", "show the decoder pictures, sounds and clips through it (mm-train --connector)"),
    MM_OPT_STR(0, "encoder", &o.prompts.pictures.connect.encoder, "NAME", "the unified model that sees for the connector (default: the built-in one)"),
    MM_OPT_BOOL(0, "chat", &o.chat, "records are turns, {\"role\":..,\"content\":..}: answer those of the user"),
    MM_OPT_INT(0, "context", &o.context, "N", 8, 1 << 24, "most tokens of prompt and answer (default: 4096, or the model's if it is less)"),
    MM_OPT_ENUM(0, "overflow", &o.overflow, "error|cut-left|stop", "what to do when prompt and answer may be more than that (default: error)"),
    MM_OPT_GROUP("Answer"),
    MM_OPT_INT(0, "max-tokens", &o.max_tokens, "N", 1, 1 << 24, "end after N tokens (default 512, or a quarter of the context)"),
    MM_OPT_LIST(0, "stop", &o.stops, "TEXT", "end in front of TEXT; may be given several times"),
    MM_OPT_NUM(0, "temperature", &o.temperature, "T", 0, 100, "draw; higher is more varied (default 0: the likeliest token)"),
    MM_OPT_INT(0, "top-k", &o.top_k, "K", 0, 1 << 24, "draw from the K likeliest tokens (default: all)"),
    MM_OPT_NUM(0, "top-p", &o.top_p, "P", 0, 1, "draw from the likeliest whose probabilities reach P (default: all)"),
    MM_OPT_NUM(0, "min-p", &o.min_p, "P", 0, 1, "draw from those of at least P times the best's (default: all)"),
    MM_OPT_NUM(0, "repeat-penalty", &o.repeat, "X", 0, 10, "make tokens that came before less likely: 1.1 a little (default: no)"),
    MM_OPT_INT(0, "repeat-last", &o.last_n, "N", -1, 1 << 24, "how many tokens back penalties look; -1: all (default 64)"),
    MM_OPT_NUM(0, "frequency-penalty", &o.frequency, "X", -10, 10, "taken from a token's logit for each time it came"),
    MM_OPT_NUM(0, "presence-penalty", &o.presence, "X", -10, 10, "taken from a token's logit once it came"),
    MM_OPT_INT(0, "seed", &o.seed, "N", 0, 1LL << 53, "of the draws; each record has its own from it (default 0)"),
    MM_OPT_INT(0, "beam", &o.beam, "N", 1, 64, "look for the likeliest answer among N at a time"),
    MM_OPT_NUM(0, "length-penalty", &o.length_penalty, "X", -10, 10, "with --beam: above 1 favours long answers, below 1 short ones (default 1)"),
    MM_OPT_INT('n', "n", &o.n, "N", 1, 1000, "answers to each record, a record each"),
    MM_OPT_BOOL(0, "score", &o.score, "with --caption or --image: the cosine between what was asked and what came of it"),
    MM_OPT_INT(0, "best", &o.best, "K", 1, 1000, "of the --n the K that score best, the best first"),
    MM_OPT_INT(0, "logprobs", &o.logprobs, "K", 1, 1000, "write the tokens with log-probabilities, and the K - 1 best at each place"),
    MM_OPT_STR(0, "schema", &o.schema, "FILE", "answer in JSON that is valid under the JSON Schema in FILE"),
    MM_OPT_STR(0, "grammar", &o.grammar, "FILE", "answer as the rules in FILE say (GBNF)"),
    MM_OPT_BOOL(0, "stream", &o.stream, "write the text alone, as it comes (default: on a terminal with --prompt)"),
    MM_OPTS_PAINT(o.paint),
    MM_OPT_GROUP("Long runs"),
    MM_OPT_INT(0, "batch", &o.batch, "N", 1, 4096, "records computed together (default 8)"),
    MM_OPT_ENUM(0, "kv", &o.kv, "f16|q8_0|f32", "how keys and values are kept (default f16)"),
    MM_OPT_STR(0, "draft", &o.draft, "NAME", "a smaller model of the same vocabulary, which guesses tokens ahead"),
    MM_OPT_INT(0, "draft-tokens", &o.guesses, "N", 1, MM_GEN_GUESSES, "most tokens guessed at a time (default 8)"),
    MM_OPT_INT(0, "frames", &o.prompts.pictures.frames, "N", 1, 64, "frames of a clip to look at, at most (default: as the model says)"),
    MM_OPT_STR(0, "resume", &o.resume.path, "FILE", "add to FILE, the output of a run that was stopped, what is missing"),
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

/* A record on its way: read, answered, written. */
typedef struct item {
    mm_rec *rec;
    int32_t *ids;
    size_t cap_ids;
    float *embd;      /* of its pictures, or NULL */
    float *vec;       /* of what was seen, with --score */
    mm_gen_job *jobs; /* [o.n]; none when asked is 0 */
    int asked;
    size_t shown;     /* of the text, with --stream */
} item;

typedef struct state {
    mm_ctx *c;
    mm_lm *lm, *draft; /* draft NULL: none */
    mm_gen *gen;
    mm_grammar *grammar;
    mm_gen_job base;  /* what all jobs have in common */
    mm_slice *stops;
    mm_buf stop_text, out, piece;
    item *items;      /* a ring */
    size_t size, head, count;
    uint64_t records; /* read so far */
    mm_choices choices;
    mm_judge judge;
    mm_progress bar;
    uint64_t done;
    int lone; /* the prompt is all there is: no input */
    int warned;
} state;

static int no_memory(state *s) { return mm_fail(&s->c->err, MM_ENOMEM, "out of memory"); }

/* ---- what is written ---- */

static void quote_token(state *s, int32_t id)
{
    mm_err err = { 0 };
    const char *special = mm_tok_text(mm_lm_tokenizer(s->lm), id);
    mm_buf_reset(&s->piece);
    if (mm_tok_piece(mm_lm_tokenizer(s->lm), id, &s->piece, &err) || !s->piece.len) mm_buf_adds(&s->piece, special ? special : "");
    mm_json_quote(&s->out, s->piece.p ? s->piece.p : "", s->piece.len);
}

static int set_logprobs(state *s, mm_rec *rec, const mm_gen_job *job)
{
    const size_t k = (size_t)job->logprobs - 1;
    mm_buf *b = &s->out;
    mm_buf_reset(b);
    mm_buf_addc(b, '[');
    for (size_t i = 0; i < job->n_lp; i++) {
        mm_buf_adds(b, i ? ",{\"token\":" : "{\"token\":");
        quote_token(s, job->lp[i].id);
        mm_buf_addf(b, ",\"id\":%d,\"logprob\":%.5g", job->lp[i].id, (double)job->lp[i].logprob);
        for (size_t t = 0; t < k && job->top[i * k + t].id >= 0; t++) {
            mm_buf_adds(b, t ? ",{\"token\":" : ",\"top\":[{\"token\":");
            quote_token(s, job->top[i * k + t].id);
            mm_buf_addf(b, ",\"id\":%d,\"logprob\":%.5g}", job->top[i * k + t].id, (double)job->top[i * k + t].logprob);
        }
        mm_buf_adds(b, k ? "]}" : "}");
    }
    mm_buf_addc(b, ']');
    return b->failed ? MM_ENOMEM : mm_rec_set(rec, "logprobs", b->p, b->len);
}

static int set_answer(state *s, mm_rec *rec, const mm_gen_job *job)
{
    const char *text = job->said.text.p ? job->said.text.p : "", *finish = mm_finish_name(job->finish), *model = mm_lm_fingerprint(s->lm);
    mm_buf *b = &s->out;
    const size_t blank = o.prompts.caption && *text == ' '; /* what the tokenizer has before a word */
    int r = mm_rec_set_str(rec, "model", model, strlen(model));
    if (!r) r = mm_rec_set_str(rec, "generated", text + blank, job->said.text.len - blank);
    if (!r && o.schema && job->finish == MM_FINISH_STOP && !job->said.stopped) r = mm_rec_set(rec, "value", text, job->said.text.len);
    if (!r) r = mm_rec_set_str(rec, "finish", finish, strlen(finish));
    mm_buf_reset(b);
    mm_buf_addf(b, "{\"prompt\":%zu,\"generated\":%zu}", job->used, job->tokens);
    if (!r) r = b->failed ? MM_ENOMEM : mm_rec_set(rec, "tokens", b->p, b->len);
    if (!r && job->used < job->n_ids) r = mm_rec_set_bool(rec, "truncated", 1);
    if (!r && o.temperature > 0) r = mm_rec_set_int(rec, "seed", (int64_t)job->seed);
    mm_buf_reset(b);
    mm_buf_addf(b, "{\"proposed\":%zu,\"accepted\":%zu}", job->proposed, job->accepted);
    if (!r && o.draft) r = b->failed ? MM_ENOMEM : mm_rec_set(rec, "draft", b->p, b->len);
    mm_buf_reset(b);
    mm_buf_addf(b, "%.6g", job->score);
    if (!r && o.beam) r = b->failed ? MM_ENOMEM : mm_rec_set(rec, "beam_score", b->p, b->len);
    if (!r && o.logprobs) r = set_logprobs(s, rec, job);
    return r ? no_memory(s) : 0;
}

static int put_one(state *s, mm_rec *rec, const mm_gen_job *job)
{
    if (job && job->code) mm_rec_fail(rec, job->code, "%s", job->err.msg);
    else if (job && !o.stream) {
        const int r = set_answer(s, rec, job);
        if (r) return r;
    }
    return o.stream ? mm_io_count(&o.io, rec) : mm_io_put(&o.io, rec);
}

/* How well each answer says what was seen. */
static int judge(state *s, const item *it)
{
    int r = 0;
    for (size_t i = 0; s->judge.m && i < (size_t)o.n && !r; i++) {
        const mm_said *said = &it->jobs[i].said;
        const mm_part made = { .mod = MM_TEXT, .text = { said->text.p ? said->text.p : "", said->text.len } };
        r = mm_judge_score(&s->judge, i, it->vec, it->jobs[i].code ? NULL : &made, &s->c->err);
    }
    return r;
}

/* With --n the record comes once for each answer, as ID#1 and so on; with --best 1 as it is. */
static int put_answers(state *s, item *it)
{
    int r = judge(s, it);
    if (r) return r;
    const size_t wanted = mm_judge_rank(&s->judge), first = s->judge.order[0];
    if (wanted == 1) {
        r = (o.n > 1 && mm_rec_set_int(it->rec, "choice", (int64_t)first + 1)) || mm_judge_report(&s->judge, first, it->rec);
        return r ? no_memory(s) : put_one(s, it->rec, &it->jobs[first]);
    }
    if (mm_choices_of(&s->choices, it->rec)) return no_memory(s);
    for (size_t i = 0; i < wanted && !r; i++) {
        const size_t k = s->judge.order[i];
        if (mm_choices_at(&s->choices, (int64_t)k + 1) || mm_judge_report(&s->judge, k, s->choices.rec)) return no_memory(s);
        r = put_one(s, s->choices.rec, &it->jobs[k]);
    }
    return r;
}

/* What there is to see of an answer: on standard output at once. */
static int show(state *s, item *it, int end)
{
    const mm_said *said = &it->jobs[0].said;
    int r = 0;
    if (!it->asked || it->jobs[0].code) return 0;
    if (o.prompts.caption && !it->shown && said->shown && said->text.p[0] == ' ') it->shown = 1; /* what the tokenizer has before a word */
    if (said->shown > it->shown) r = mm_write_all(1, said->text.p + it->shown, said->shown - it->shown, &s->c->err);
    it->shown = said->shown;
    if (!r && end && (!said->text.len || said->text.p[said->text.len - 1] != '\n')) r = mm_write_all(1, "\n", 1, &s->c->err);
    return r ? mm_err_prefix(&s->c->err, "standard output: "), r : 0;
}

static int is_done(const item *it)
{
    for (int64_t i = 0; it->asked && i < o.n; i++)
        if (!it->jobs[i].done) return 0;
    return 1;
}

/* The records that are done, in the order of the input. */
static int put_done(state *s)
{
    while (s->count) {
        item *it = &s->items[s->head];
        const int done = is_done(it);
        int r = o.stream ? show(s, it, done) : 0;
        if (r || !done) return r;
        r = it->asked ? put_answers(s, it) : put_one(s, it->rec, NULL);
        for (int64_t i = 0; i < o.n; i++) mm_gen_job_clear(&it->jobs[i]);
        if (r) return r;
        s->head = (s->head + 1) % s->size;
        s->count--;
        mm_progress_tick(&s->bar, ++s->done);
    }
    return 0;
}

/* ---- what is read ---- */

static void fill_job(state *s, item *it, int64_t choice)
{
    mm_gen_job *j = &it->jobs[choice];
    *j = s->base;
    j->ids = it->ids;
    j->n_ids = o.prompts.n_ids;
    j->embd = it->embd;
    j->mark = o.prompts.mark;
    j->seed = mm_gen_seed((uint64_t)o.seed, s->records, (uint64_t)choice);
}

static int take(state *s, item *it)
{
    it->asked = 0;
    it->shown = 0;
    if (mm_rec_failed(it->rec)) return 0;
    if (!s->warned && !o.prompts.caption && !o.prompts.template && !o.prompts.pictures.lm && mm_parts_named(it->rec) & ~(1u << MM_TEXT)) {
        mm_warn(s->c, "%s: this model takes texts only, pictures, sounds and clips of records are not looked at", mm_rec_place(it->rec));
        s->warned = 1;
    }
    int r = mm_prompts_of(&o.prompts, it->rec, &s->c->err);
    if (r) return mm_rec_failed(it->rec) ? 0 : r;
    if (it->cap_ids < o.prompts.n_ids) {
        int32_t *ids = mm_realloc(it->ids, o.prompts.n_ids, sizeof *ids);
        if (!ids) return no_memory(s);
        it->ids = ids;
        it->cap_ids = o.prompts.n_ids;
    }
    if (s->judge.m && !it->vec && !(it->vec = mm_aligned(mm_model_dim(s->judge.m), sizeof *it->vec))) return no_memory(s);
    if (s->judge.m) memcpy(it->vec, o.prompts.seen.vec ? o.prompts.seen.vec : o.prompts.pictures.connect.vec, mm_model_dim(s->judge.m) * sizeof *it->vec);
    free(it->embd);
    it->embd = o.prompts.embd;
    o.prompts.embd = NULL;
    if (o.prompts.n_ids) memcpy(it->ids, o.prompts.ids, o.prompts.n_ids * sizeof *it->ids);
    for (int64_t i = 0; i < o.n; i++) fill_job(s, it, i);
    if (o.temperature > 0 && o.n == 1 && mm_own_seed(it->rec, &it->jobs[0].seed)) return 0;
    it->asked = 1;
    for (int64_t i = 0; i < (o.beam ? 1 : o.n); i++) mm_gen_add(s->gen, &it->jobs[i]); /* a search answers all */
    return 0;
}

/* The next record into the ring: 1, 0 at the end of the input. */
static int read_one(state *s)
{
    static const char *const id[] = { "id", NULL };
    item *it = &s->items[(s->head + s->count) % s->size];
    if (!it->rec && !(it->rec = mm_rec_new())) return no_memory(s);
    for (;;) {
        int more = mm_io_next(&o.io, it->rec);
        if (more <= 0) return more;
        s->records++;
        if (s->records > o.resume.skip) break;
        if (s->records == o.resume.skip && (more = mm_resume_check(&o.resume, it->rec, o.n > 1 && o.best != 1 ? id : NULL, &s->c->err))) return more;
    }
    const int r = take(s, it);
    if (r) return r;
    s->count++;
    return 1;
}

static int lone_prompt(void) { return o.prompts.prompt && !o.prompts.template && !o.prompts.caption; }

/* The prompt alone, as a record of its own. */
static int read_lone(state *s)
{
    item *it = &s->items[0];
    if ((!it->rec && !(it->rec = mm_rec_new())) || mm_rec_set_str(it->rec, "prompt", o.prompts.prompt, strlen(o.prompts.prompt))) return no_memory(s);
    s->records = 1;
    s->count = o.resume.skip == 0;
    return s->count ? take(s, it) : 0;
}

/* Places are kept busy and a few prompts wait; where the input pauses what is there is computed. */
static int stream(state *s)
{
    int more = !s->lone, r = s->lone ? read_lone(s) : 0;
    mm_progress_start(&s->bar, s->c, "records", 0);
    while (!r && (more || s->count)) {
        while (more > 0 && s->count < s->size && mm_gen_busy(s->gen) < 2 * (size_t)o.batch && (!s->count || mm_io_pending(&o.io)))
            if ((more = read_one(s)) < 0) break;
        if (!more && !s->records && lone_prompt()) r = read_lone(s); /* there was nothing: the prompt is all */
        if (!r && mm_gen_busy(s->gen)) r = mm_gen_step(s->gen, &s->c->err);
        r = r < 0 ? r : put_done(s);
        if (more < 0 && !s->count) r = r ? r : more;
    }
    mm_progress_end(&s->bar);
    return r ? r : mm_resume_end(&o.resume, s->records, &s->c->err);
}

/* ---- opening ---- */

static int open_grammar(state *s)
{
    mm_ctx *c = s->c;
    const char *name = o.schema ? o.schema : o.grammar, *text = name + strspn(name, " \t\n");
    mm_buf file = { 0 };
    const int literal = o.schema && *text == '{'; /* the schema itself */
    int r = literal ? 0 : mm_file_read(&file, name, (size_t)1 << 20, &c->err);
    if (!r && literal) r = mm_buf_adds(&file, text) ? no_memory(s) : 0;
    if (!r && o.schema) r = mm_grammar_from_schema(&s->grammar, file.p ? file.p : "", file.len, &c->err);
    else if (!r) r = mm_grammar_from_rules(&s->grammar, file.p ? file.p : "", file.len, &c->err);
    if (r && r != MM_ENOMEM && r != MM_EIO && !literal) mm_err_prefix(&c->err, "'%s': ", name);
    mm_buf_clear(&file);
    return r ? r : mm_grammar_bind(s->grammar, mm_lm_tokenizer(s->lm), mm_lm_vocab(s->lm), &c->err);
}

static int open_stops(state *s)
{
    size_t at = 0;
    if (!(s->stops = calloc(o.stops.n + 1, sizeof *s->stops))) return no_memory(s);
    for (size_t i = 0; i < o.stops.n; i++) {
        if (!o.stops.v[i][0]) return mm_fail(&s->c->err, MM_EARG, "option '--stop': an empty text comes at once");
        if (mm_utf8_valid(o.stops.v[i], strlen(o.stops.v[i])) < strlen(o.stops.v[i])) return mm_fail(&s->c->err, MM_EARG, "option '--stop' is not valid UTF-8");
        if (mm_unescape(&s->stop_text, o.stops.v[i])) return no_memory(s);
        s->stops[i].len = s->stop_text.len - at;
        at = s->stop_text.len;
    }
    at = 0;
    for (size_t i = 0; i < o.stops.n; at += s->stops[i++].len) s->stops[i].p = s->stop_text.p + at;
    return 0;
}

/* The model that --draft names guesses for s->lm. */
static int open_gen(state *s, const mm_lm_opts *lo, size_t context)
{
    mm_err *err = &s->c->err;
    char *path = NULL;
    mm_gen_opts how = { .slots = (size_t)(o.beam ? o.beam * o.batch : o.batch), .context = context, .guesses = (size_t)o.guesses };
    int r = o.draft ? mm_store_resolve(&path, o.draft, err) : 0;
    if (!r && o.draft && !(r = mm_lm_open(&s->draft, path, lo, err))) how.draft = s->draft;
    free(path);
    if (!r && (r = mm_gen_new(&s->gen, s->lm, &how, err)) == MM_EARG && o.draft) mm_err_prefix(err, "option '--draft': '%s': ", o.draft);
    return r;
}

static int open_model(state *s)
{
    static const int kv[] = { MM_F16, MM_Q8_0, MM_F32 };
    mm_ctx *c = s->c;
    const char *name = o.model ? o.model : mm_store_default_name();
    char *path;
    const int judged = o.score || o.best, connected = o.prompts.pictures.connect.file != NULL;
    if (connected) o.prompts.pictures.connect.embed = judged;
    else o.prompts.seen.embed = judged;
    if (!strcmp(name, "default") && (!o.prompts.caption || connected))
        return mm_fail(&c->err, MM_EARG,
                       "option '--model' (or MM_MODEL) is needed: the built-in model answers no texts ('--caption' and '--image' are what it can); "
                       "scripts/get-model smollm2 fetches one that does");
    int r = mm_store_resolve(&path, name, &c->err);
    if (r) return r;
    const mm_lm_opts lo = { .threads = (int)c->threads, .kv_type = o.kv < 0 ? MM_F16 : kv[o.kv] };
    r = mm_lm_open(&s->lm, path, &lo, &c->err);
    free(path);
    if (r) return r;
    size_t context = mm_lm_context(s->lm);
    if ((size_t)o.context > context) return mm_fail(&c->err, MM_EARG, "option '--context': the model takes %zu tokens", context);
    if (!o.context && context > 4096) context = 4096;
    if (o.context) context = (size_t)o.context;
    r = open_gen(s, &lo, context);
    if (!r) r = mm_prompts_open(&o.prompts, s->lm, &c->err);
    if (!r) r = o.prompts.caption && !connected ? mm_seen_open(&o.prompts.seen, s->lm, c) : mm_pictures_open(&o.prompts.pictures, s->lm, c);
    if (!r && mm_opt_given(c, "frames") && (!o.prompts.pictures.lm || connected))
        r = mm_fail(&c->err, MM_EARG, "option '--frames' is for decoders that look at pictures");
    mm_model *judge = !judged ? NULL : connected ? o.prompts.pictures.connect.uni : mm_say_model(s->lm);
    if (!r) r = mm_judge_open(&s->judge, judge, (size_t)o.n, (size_t)o.best, &c->err);
    if (!r && (o.schema || o.grammar)) r = open_grammar(s);
    if (!r) r = open_stops(s);
    if (!o.max_tokens) o.max_tokens = context / 4 < MAX_TOKENS ? (int64_t)context / 4 : MAX_TOKENS;
    s->base = (mm_gen_job){ .max_tokens = (size_t)o.max_tokens, .stops = s->stops, .n_stops = o.stops.n, .grammar = s->grammar,
                            .overflow = (mm_overflow)o.overflow, .logprobs = (int)o.logprobs,
                            .beams = (size_t)o.beam, .answers = (size_t)o.n, .length_penalty = o.length_penalty };
    s->base.sample = (mm_sample_opts){ .temperature = o.temperature, .top_k = (int)o.top_k, .top_p = o.top_p, .min_p = o.min_p,
                                       .repeat_penalty = o.repeat, .frequency_penalty = o.frequency, .presence_penalty = o.presence,
                                       .last_n = (int)o.last_n };
    return r;
}

static int check_score(mm_ctx *c)
{
    static const char *const pictures[] = { "out-dir", "steps", "guidance", "size", "init", "strength" };
    const char *which = o.best ? "best" : "score";
    for (size_t i = 0; i < 6 && !o.paint.on; i++)
        if (mm_opt_given(c, pictures[i])) return mm_fail(&c->err, MM_EARG, "option '--%s' is for '--image'", pictures[i]);
    if (!o.score && !o.best) return 0;
    if (!o.paint.on && !o.prompts.caption) return mm_fail(&c->err, MM_EARG, "option '--%s' is for '--caption' and '--image'", which);
    if (o.best > o.n) return mm_fail(&c->err, MM_EARG, "option '--best' is more than '--n'");
    return mm_opt_exclusive(c, which, "stream", NULL);
}

/* What is for texts says nothing of pictures. */
static int check_image(mm_ctx *c)
{
    static const char *const texts[] = { "caption", "connector", "encoder", "template", "raw", "system", "chat", "context", "overflow", "max-tokens", "stop",
                                         "temperature", "top-k", "top-p", "min-p", "repeat-penalty", "repeat-last", "frequency-penalty",
                                         "presence-penalty", "beam",
                                         "length-penalty", "logprobs", "schema", "grammar", "stream", "kv", "draft", "draft-tokens" };
    int r = mm_opt_exclusive(c, "output", "out-dir", NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !r; i++) r = mm_opt_exclusive(c, "image", texts[i], NULL);
    if (!r) r = mm_opt_exclusive(c, "resume", "output", NULL);
    if (!r) r = mm_opt_exclusive(c, "resume", "binary", NULL);
    if (!r && o.io.out && o.n > 1 && o.best != 1) r = mm_fail(&c->err, MM_EARG, "option '--output' is one picture: '--out-dir DIR' is for many");
    return r ? r : check_score(c);
}

static int check(mm_ctx *c)
{
    static const char *const drawing[] = { "top-k", "top-p", "min-p", "seed", "n" };
    static const char *const with_beam[] = { "temperature", "stream", "repeat-penalty", "repeat-last", "frequency-penalty", "presence-penalty" };
    static const char *const with_stream[] = { "output", "json", "binary", "logprobs", "n", "resume" },
                             *const with_chat[] = {
                                 "prompt", "template", "raw", "resume", "n", "logprobs", "stream"
                             },
                             *const with_caption[] = { "template", "raw", "system", "chat" };
    if (o.paint.on) return check_image(c);
    int r = mm_opt_exclusive(c, "prompt", "template", NULL);
    if (!r) r = mm_opt_exclusive(c, "schema", "grammar", NULL);
    if (!r) r = mm_opt_exclusive(c, "schema", "stop", NULL); /* a text that is cut is not what they promise */
    if (!r) r = mm_opt_exclusive(c, "grammar", "stop", NULL);
    if (!r && o.prompts.template && !*o.prompts.template) r = mm_fail(&c->err, MM_EARG, "option '--template' is empty");
    if (!r && o.prompts.prompt && !*o.prompts.prompt) r = mm_fail(&c->err, MM_EARG, "option '--prompt' is empty");
    if (!r) r = mm_opt_exclusive(c, "resume", "output", NULL);
    if (!r) r = mm_opt_exclusive(c, "resume", "binary", NULL);
    if (!r) r = mm_opt_exclusive(c, "raw", "system", NULL);
    if (!r) r = check_score(c);
    for (size_t i = 0; i < 6 && !r && o.beam; i++) r = mm_opt_exclusive(c, "beam", with_beam[i], NULL);
    if (!r && o.beam && o.n > o.beam) r = mm_fail(&c->err, MM_EARG, "option '--n' is more than '--beam': that many answers are looked for");
    if (!r) r = mm_opt_exclusive(c, "beam", "draft", NULL);
    if (!r) r = mm_opt_exclusive(c, "caption", "draft", NULL);
    if (!r && !o.draft && mm_opt_given(c, "draft-tokens")) r = mm_fail(&c->err, MM_EARG, "option '--draft-tokens' needs '--draft'");
    if (!r && !o.beam && mm_opt_given(c, "length-penalty")) r = mm_fail(&c->err, MM_EARG, "option '--length-penalty' needs '--beam'");
    for (size_t i = 0; i < 5 && !r && o.temperature <= 0; i++)
        if (mm_opt_given(c, drawing[i]) && (i < 4 || (o.n > 1 && !o.beam)))
            r = mm_fail(&c->err, MM_EARG,
                        "option '--%s' needs '--temperature' above 0: without it the likeliest token is taken",
                        drawing[i]);
    for (size_t i = 0; i < 6 && !r && o.stream > 0; i++) r = mm_opt_exclusive(c, "stream", with_stream[i], NULL);
    for (size_t i = 0; i < 7 && !r && o.chat; i++) r = mm_opt_exclusive(c, "chat", with_chat[i], NULL);
    for (size_t i = 0; i < 4 && !r && o.prompts.caption; i++) r = mm_opt_exclusive(c, "caption", with_caption[i], NULL);
    if (r || o.stream >= 0) return r;
    o.stream = c->tty[1] && o.prompts.prompt && !o.beam;
    for (size_t i = 0; i < 6; i++) o.stream &= !mm_opt_given(c, with_stream[i]);
    return 0;
}

static int answer(state *s, int argc, char **argv)
{
    static char *const nothing[] = { (char *)(uintptr_t)"/dev/null" };
    mm_ctx *c = s->c;
    s->lone = !argc && c->tty[0] && lone_prompt();
    if (s->lone) argc = 1, argv = (char **)(uintptr_t)nothing;
    s->size = 4 * (size_t)o.batch;
    s->items = calloc(s->size, sizeof *s->items);
    int r = s->items ? 0 : no_memory(s);
    for (size_t i = 0; i < s->size && !r; i++)
        if (!(s->items[i].jobs = calloc((size_t)o.n, sizeof *s->items[i].jobs))) r = no_memory(s);
    if (!r) r = mm_resume_open(&o.resume, c, (uint64_t)(o.best ? o.best : o.n));
    if (!r) r = o.stream ? mm_io_open_in(&o.io, c, argc, argv) : mm_io_open(&o.io, c, argc, argv);
    return r ? r : mm_io_close(&o.io, stream(s));
}

static int paint(mm_ctx *c, int argc, char **argv)
{
    const mm_paint_args a = { .c = c, .io = &o.io, .how = &o.paint, .resume = &o.resume, .model = o.model, .prompt = o.prompts.prompt,
                              .seed = (uint64_t)o.seed, .n = (size_t)o.n, .best = (size_t)o.best, .batch = (size_t)o.batch, .score = o.score };
    const int r = mm_paint_records(&a, argc, argv);
    mm_resume_clear(&o.resume);
    return r;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    state s = { .c = c };
    int r = check(c);
    o.io.each_operand = !o.chat; /* a conversation may go on in its own file */
    o.io.unbuffered = 1; /* an answer took long, and whoever stops us keeps it */
    if (!r && o.paint.on) return paint(c, argc, argv);
    if (!r) r = open_model(&s);
    if (!r && o.chat) {
        const mm_talk talk = { .c = c, .io = &o.io, .prompts = &o.prompts, .gen = s.gen, .base = &s.base, .seed = (uint64_t)o.seed,
                               .model = mm_lm_fingerprint(s.lm) };
        r = mm_talk_run(&talk, argc, argv);
    } else if (!r) r = answer(&s, argc, argv);
    mm_gen_free(&s.gen);
    for (size_t i = 0; s.items && i < s.size; i++) {
        for (int64_t k = 0; s.items[i].jobs && k < o.n; k++) mm_gen_job_clear(&s.items[i].jobs[k]);
        mm_rec_free(s.items[i].rec);
        free(s.items[i].jobs);
        free(s.items[i].ids);
        free(s.items[i].embd);
        free(s.items[i].vec);
    }
    free(s.items);
    free(s.stops);
    mm_buf_clear(&s.stop_text);
    mm_buf_clear(&s.out);
    mm_buf_clear(&s.piece);
    mm_resume_clear(&o.resume);
    mm_choices_clear(&s.choices);
    mm_judge_close(&s.judge);
    mm_grammar_close(&s.grammar);
    mm_prompts_close(&o.prompts);
    mm_lm_close(&s.draft);
    mm_lm_close(&s.lm);
    free(o.stops.v);
    return r;
}

static const char *const usage[] = { "-m NAME -p TEXT", "-m NAME [-t0b] [option ...] [file ...]", "-m NAME --chat [-o FILE] [file ...]",
                                    "[-m NAME] --caption [-t0b] [option ...] [file ...]",
                                    "[-m NAME] --image [-t0b] [-o FILE.png | --out-dir DIR] [option ...] [file ...]", NULL };
static const mm_cmd cmd = { "mm-generate", "texts that answer, go on from, or say what is seen; pictures of texts", usage, opts, run };

int main(int argc, char **argv)
{
    mm_cmd_calm_threads(argv);
    return mm_cmd_main(&cmd, argc, argv);
}

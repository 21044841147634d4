/* One training step of a connector, and its scores. */
#include "train/connector_task.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "gen/mm_chat.h"
#include "model/mm_lm_tape.h"
#include "train/captioned.h"
#include "train/mm_uni_task.h"

enum { STREAM_FRAME = 0x6672 };
enum { LONGEST = 48 }; /* tokens of a caption */
enum { VAL_BATCHES = 6 };
#define ASKED 0.125f
#define SEEN "<|seen|>" /* where the rows stand in a rendered template */

static const char *const questions[] = { "Describe this.", "What is this?", "What do you see or hear?", "Say in one line what this is." };
enum { FRAMES = 1 + sizeof questions / sizeof *questions };

typedef struct { /* words around the rows */
    int32_t *ids; /* [before + after] */
    size_t before, after;
} frame;

struct mm_connector_task {
    mm_connector_task_opts o;
    mm_captioned train, val;
    frame frames[FRAMES]; /* the first: none but what begins every text */
    size_t n_frames;
    mm_arena arena, batch;
    mm_tape *tape;
};

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* ---- frames ---- */

static int add_frame(mm_connector_task *t, const char *before, size_t len, const char *after, int begin, mm_err *err)
{
    const mm_tok *tok = mm_lm_tokenizer(t->o.lm);
    mm_tok_out a = { 0 }, b = { 0 };
    frame *f = &t->frames[t->n_frames];
    int r = mm_tok_encode(tok, before, len, 0, &a, err);
    if (!r) r = mm_tok_encode(tok, after, strlen(after), 0, &b, err);
    if (!r && !(f->ids = mm_realloc(NULL, a.n + b.n + 1, sizeof *f->ids))) r = no_memory(err);
    if (!r) {
        t->n_frames++;
        if (begin) f->ids[f->before++] = mm_lm_bos(t->o.lm);
        if (a.n) memcpy(f->ids + f->before, a.ids, a.n * sizeof *f->ids);
        f->before += a.n;
        if (b.n) memcpy(f->ids + f->before, b.ids, b.n * sizeof *f->ids);
        f->after = b.n;
    }
    mm_tok_out_clear(&a);
    mm_tok_out_clear(&b);
    return r;
}

static int ask(mm_connector_task *t, const mm_chat *chat, const char *question, mm_err *err)
{
    const mm_lm *lm = t->o.lm;
    const int32_t bos = mm_lm_bos(lm), eos = mm_lm_eos(lm);
    mm_buf content = { 0 }, out = { 0 };
    mm_buf_addf(&content, SEEN "%s", question);
    json_t *turns = content.failed ? NULL : json_pack("[{s:s,s:s}]", "role", "user", "content", content.p);
    const mm_chat_vars v = { .messages = turns, .bos = bos >= 0 ? mm_tok_text(mm_lm_tokenizer(lm), bos) : NULL,
                             .eos = eos >= 0 ? mm_tok_text(mm_lm_tokenizer(lm), eos) : NULL, .generate = 1 };
    int r = turns ? mm_chat_render(chat, &v, &out, err) : no_memory(err);
    const char *at = r ? NULL : strstr(out.p, SEEN);
    if (at) r = add_frame(t, out.p, (size_t)(at - out.p), at + strlen(SEEN), 0, err); /* a template that shows no contents asks nothing */
    json_decref(turns);
    mm_buf_clear(&content);
    mm_buf_clear(&out);
    return r;
}

static int make_frames(mm_connector_task *t, mm_err *err)
{
    const char *source = mm_lm_chat_template(t->o.lm);
    mm_chat *chat = NULL;
    int r = add_frame(t, "", 0, "", mm_lm_add_bos(t->o.lm), err);
    if (!r && source) r = mm_chat_open(&chat, source, strlen(source), err);
    for (size_t i = 0; i + 1 < FRAMES && chat && !r; i++) r = ask(t, chat, questions[i], err);
    mm_chat_close(&chat);
    return r;
}

/* ---- life ---- */

static int open_split(mm_connector_task *t, mm_captioned *p, mm_split split, mm_err *err)
{
    const mm_uni_config *c = mm_uni_get_config(mm_model_uni(t->o.uni));
    mm_captioned_opts o = { .data = t->o.data, .batch = t->o.batch, .seed = t->o.seed, .split = split, .tok = mm_lm_tokenizer(t->o.lm), .longest = LONGEST };
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) o.mods |= c->mod[m].width ? 1u << m : 0;
    return mm_captioned_open(p, &o, err);
}

static int fits(const mm_connector_task *t, mm_err *err)
{
    size_t most = 0;
    for (size_t i = 0; i < t->n_frames; i++)
        if (t->frames[i].before + t->frames[i].after > most) most = t->frames[i].before + t->frames[i].after;
    most += mm_connector_rows(t->o.connector) + LONGEST;
    return most <= mm_lm_tape_most(t->o.lm) ? 0 : mm_fail(err, MM_EUNSUP, "the decoder sees %zu tokens, and %zu are needed", mm_lm_tape_most(t->o.lm), most);
}

int mm_connector_task_open(mm_connector_task **out, const mm_connector_task_opts *o, mm_err *err)
{
    mm_connector_task *t = *out = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->o = *o;
    t->tape = mm_tape_new(o->keep);
    t->arena.block_size = t->batch.block_size = (size_t)16 << 20;
    int r = t->tape ? make_frames(t, err) : no_memory(err);
    if (!r) r = fits(t, err);
    if (!r) r = open_split(t, &t->train, MM_TRAIN, err);
    if (!r && !t->train.batches) r = mm_fail(err, MM_EEMPTY, "no example has a picture, sound or clip and an English caption");
    if (!r) r = open_split(t, &t->val, MM_VAL, err);
    if (r) mm_connector_task_close(out);
    return r;
}

void mm_connector_task_close(mm_connector_task **tp)
{
    mm_connector_task *t = *tp;
    if (!t) return;
    mm_captioned_clear(&t->train);
    mm_captioned_clear(&t->val);
    for (size_t i = 0; i < t->n_frames; i++) free(t->frames[i].ids);
    mm_tape_free(&t->tape);
    mm_arena_clear(&t->arena);
    mm_arena_clear(&t->batch);
    free(t);
    *tp = NULL;
}

void mm_connector_task_counts(const mm_connector_task *t, size_t n[MM_MODALITIES])
{
    for (int m = 0; m < MM_MODALITIES; m++) n[m] = (size_t)t->train.bo.count[m];
}

size_t mm_connector_task_peak(const mm_connector_task *t) { return mm_tape_peak(t->tape); }

/* ---- a step ---- */

/* Sequences of a batch: words around rows that stand at soft[], and which row says which word next. */
typedef struct {
    size_t n, rows, words, targets;
    size_t *off;    /* [n + 1] */
    size_t *from;   /* [rows] its row among those of the connector, all inputs', and then the words */
    int32_t *ids;   /* [words] */
    size_t *says;   /* [targets] */
    int32_t *next;  /* [targets] */
} text_batch;

static int lay_out(mm_connector_task *t, text_batch *b, const mm_id_lists *k, const uint32_t *pick, const frame *const *f)
{
    const size_t soft = mm_connector_rows(t->o.connector);
    size_t row = 0, word = 0, target = 0, most = 0, said = 0;
    for (size_t i = 0; i < b->n; i++) {
        const size_t len = k->off[pick[i] + 1] - k->off[pick[i]];
        most += f[i]->before + f[i]->after + len;
        said += len + 1;
    }
    b->off = mm_arena_alloc(&t->batch, b->n + 1, sizeof *b->off);
    b->from = mm_arena_alloc(&t->batch, most + b->n * soft, sizeof *b->from);
    b->ids = mm_arena_alloc(&t->batch, most + 1, sizeof *b->ids);
    b->says = mm_arena_alloc(&t->batch, said, sizeof *b->says);
    b->next = mm_arena_alloc(&t->batch, said, sizeof *b->next);
    if (!b->off || !b->from || !b->ids || !b->says || !b->next) return MM_ENOMEM;
    for (size_t i = 0; i < b->n; i++) {
        const int32_t *said_ids = k->ids + k->off[pick[i]];
        const size_t len = k->off[pick[i] + 1] - k->off[pick[i]], all = f[i]->before + f[i]->after + len;
        b->off[i] = row;
        memcpy(b->ids + word, f[i]->ids, (all - len) * sizeof *b->ids);
        memcpy(b->ids + word + all - len, said_ids, len * sizeof *b->ids);
        for (size_t w = 0; w < f[i]->before; w++) b->from[row++] = b->n * soft + word++;
        for (size_t s = 0; s < soft; s++) b->from[row++] = i * soft + s;
        for (size_t w = f[i]->before; w < all; w++) b->from[row++] = b->n * soft + word++;
        for (size_t w = 0; w <= len; w++) {
            b->says[target] = row - len - 1 + w;
            /* a text that was cut does not end there */
            b->next[target++] = w < len ? said_ids[w] : len < LONGEST ? mm_lm_eos(t->o.lm) : -1;
        }
    }
    b->off[b->n] = b->rows = row;
    b->words = word;
    b->targets = target;
    return 0;
}

/* Captions of the inputs of one modality, written behind what is seen of them: cross entropy. */
static mm_tensor written(mm_connector_task *t, mm_graph *g, const mm_captioned *p, mm_modality m, const mm_batch *b, int asked)
{
    const mm_uni *u = mm_model_uni(t->o.uni);
    const mm_lm *lm = t->o.lm;
    mm_graph plain = { .kern = g->kern, .arena = g->arena, .threads = g->threads };
    text_batch x = { .n = (size_t)b->n[m] };
    uint32_t *pick = mm_arena_alloc(&t->batch, x.n, sizeof *pick);
    const frame **f = mm_arena_alloc(&t->batch, x.n, sizeof *f);
    mm_uni_in in;
    g->failed |= !pick || !f || mm_uni_batch_in(u, b, m, &t->batch, &in);
    for (size_t i = 0; i < x.n && !g->failed; i++) {
        mm_rng r = mm_rng_at(t->o.seed, STREAM_FRAME + (uint64_t)m, b->step, i);
        f[i] = &t->frames[asked && t->n_frames > 1 && mm_rng_unit(&r) < ASKED ? 1 + mm_rng_below(&r, (uint32_t)t->n_frames - 1) : 0];
    }
    if (!g->failed) mm_captioned_draw(p, m, b, pick);
    if (g->failed || lay_out(t, &x, &p->ids[m], pick, f)) {
        g->failed = 1;
        return (mm_tensor){ 0 };
    }
    const mm_uni_tokens seen = mm_uni_stem(&plain, u, &in);
    const mm_tensor trunk = mm_uni_trunk(&plain, u, &seen), vectors = mm_uni_pool(&plain, u, &seen, trunk);
    g->failed |= plain.failed;
    const mm_tensor part[2] = { mm_connector_make(g, t->o.connector, trunk, &seen.r, vectors), mm_lm_words(g, lm, x.ids, x.words) };
    mm_tensor y = mm_op_rows(g, x.words ? mm_op_concat(g, part, 2) : part[0], x.from, x.rows);
    y = mm_lm_through(g, lm, y, &(mm_ragged){ x.off, x.n });
    return mm_op_class_ce(g, mm_lm_logits(g, lm, mm_op_rows(g, y, x.says, x.targets)), x.next);
}

int mm_connector_task_step(mm_connector_task *t, uint64_t step, float scale, float *loss, size_t *samples, mm_err *err)
{
    const mm_batch *b;
    int n = 0, r = mm_captioned_at(&t->train, step, &b, err);
    double sum = 0;
    *samples = 0;
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) n += b->n[m] > 0;
    for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
        if (!b->n[m]) continue;
        mm_graph g = { .kern = mm_kern_get(), .arena = &t->arena, .threads = t->o.threads, .tape = t->tape };
        mm_arena_reset(&t->batch);
        mm_tensor y = written(t, &g, &t->train, (mm_modality)m, b, 1);
        if (!g.failed) sum += (double)*y.p / n;
        mm_tape_seed(&g, y, scale / (float)n);
        if (g.failed || mm_tape_backward(&g)) r = no_memory(err);
        mm_tape_reset(t->tape);
        mm_arena_reset(&t->arena);
        *samples += (size_t)b->n[m];
    }
    *loss = (float)sum;
    return r;
}

int mm_connector_task_validate(mm_connector_task *t, double score[MM_MODALITIES], mm_err *err)
{
    double sum[MM_MODALITIES] = { 0 };
    size_t count[MM_MODALITIES] = { 0 };
    int r = 0;
    for (uint64_t step = 0; step < VAL_BATCHES && t->val.batches && !r; step++) {
        mm_batch b = { .n = { 0 } };
        mm_arena own = { 0 };
        r = mm_batches_make(t->val.batches, step, &own, &b, err);
        for (int m = MM_IMAGE; m < MM_MODALITIES && !r; m++) {
            if (!b.n[m]) continue;
            mm_graph g = { .kern = mm_kern_get(), .arena = &t->arena, .threads = t->o.threads };
            mm_arena_reset(&t->batch);
            const mm_tensor y = written(t, &g, &t->val, (mm_modality)m, &b, 0);
            if (g.failed) r = no_memory(err);
            else sum[m] += (double)*y.p, count[m]++;
            mm_arena_reset(&t->arena);
        }
        mm_arena_clear(&own);
    }
    for (int m = 0; m < MM_MODALITIES; m++) score[m] = count[m] ? 100 * exp(-sum[m] / (double)count[m]) : NAN;
    return r;
}

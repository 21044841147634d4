/* The likeliest text, looked for among several at a time. Texts are paths in a tree of tokens; those that go on have a place each, whose cache
 * holds all but their last token. A text that goes on in two ways keeps its place for one of them and is copied for the other: only
 * the part in which the two places differ. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "gen/gen_int.h"

typedef struct node {
    uint32_t parent;
    int32_t id;
    float logprob;
} node;

typedef struct text { /* one that goes on */
    slot *at;
    const float *row;  /* what may follow */
    uint32_t node;
    double sum;        /* of log-probabilities */
    mm_said said;      /* where there are stop strings */
    mm_cursor *cursor; /* until it has a place */
} text;

typedef struct ended {
    uint32_t node;
    size_t tokens;
    double score;
    mm_finish finish;
} ended;

typedef struct step { /* that a text could take */
    double sum;
    size_t text;
    int32_t id;
    float logprob;
} step;

struct search {
    mm_gen_job *job;
    size_t beams, n, rows, tokens; /* n texts go on, rows of them have logits; tokens of each */
    slot **place;                  /* [beams] */
    text *text, *next;             /* [beams] */
    ended *best;                   /* [beams], best first */
    size_t n_best, n_next;
    node *nodes;                   /* 0: the prompt */
    mm_logprob *top;               /* [nodes, logprobs - 1] */
    mm_logprob *tops;              /* [beams, logprobs - 1]: of the texts that go on */
    size_t n_nodes, cap_nodes;
    step *steps;
    size_t n_steps;
    float *row;
};

static size_t n_top(const struct search *s) { return s->job->logprobs > 1 ? (size_t)s->job->logprobs - 1 : 0; }
static size_t steps_of_one(const mm_gen *g, const struct search *s) { return 2 * s->beams + g->n_ends; }

void search_free(struct search *s)
{
    if (!s) return;
    for (size_t i = 0; s->place && i < s->beams; i++)
        if (s->place[i]) s->place[i]->search = NULL;
    for (size_t i = 0; s->text && s->next && i < s->beams; i++) {
        mm_said_clear(&s->text[i].said);
        mm_said_clear(&s->next[i].said);
        mm_cursor_free(&s->next[i].cursor);
    }
    free(s->place);
    free(s->text);
    free(s->next);
    free(s->best);
    free(s->nodes);
    free(s->top);
    free(s->tops);
    free(s->steps);
    free(s->row);
    free(s);
}

struct search *search_new(mm_gen *g, mm_gen_job *job, slot *first)
{
    struct search *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->job = job;
    s->beams = job->beams;
    s->place = calloc(s->beams, sizeof *s->place);
    s->text = calloc(s->beams, sizeof *s->text);
    s->next = calloc(s->beams, sizeof *s->next);
    s->best = calloc(s->beams, sizeof *s->best);
    s->tops = calloc(s->beams * n_top(s) + 1, sizeof *s->tops);
    s->steps = mm_realloc(NULL, s->beams * steps_of_one(g, s), sizeof *s->steps);
    s->row = mm_realloc(NULL, g->vocab, sizeof *s->row);
    s->nodes = calloc(s->cap_nodes = 64, sizeof *s->nodes);
    s->top = calloc(s->cap_nodes * n_top(s) + 1, sizeof *s->top);
    if (!s->place || !s->text || !s->next || !s->best || !s->tops || !s->steps || !s->row || !s->nodes || !s->top) return search_free(s), NULL;
    s->n = s->n_nodes = 1;
    s->text[0] = (text){ .at = first, .said = { .stops = job->stops, .n_stops = job->n_stops } };
    size_t n = 0;
    s->place[n++] = first;
    for (size_t i = 0; i < g->n && n < s->beams; i++)
        if (!g->slots[i].job) s->place[n++] = &g->slots[i];
    for (size_t i = 0; i < n; i++) s->place[i]->job = job, s->place[i]->search = s;
    return s;
}

void search_row(slot *of, const float *row)
{
    struct search *s = of->search;
    for (size_t i = 0; i < s->n; i++)
        if (s->text[i].at == of) s->text[i].row = row;
    s->rows++;
}

/* ---- which steps there are ---- */

/* The best that one text could take next. */
static int steps_from(mm_gen *g, struct search *s, size_t i)
{
    const text *t = &s->text[i];
    const uint64_t *allow;
    mm_gen_job *job = s->job;
    int r = gen_allowed(g, t->at->cursor, gen_tokens_left(g, job, t->at->n, s->tokens), &allow, &job->err);
    if (r == MM_EDATA) return 0; /* a dead end; others may go on */
    if (r) return r;
    for (size_t v = 0; v < g->vocab; v++) {
        if (isnan(t->row[v])) return mm_fail(&job->err, MM_EDATA, "the model's logits are not numbers: its weights are damaged, or too large for their type");
        s->row[v] = !allow || allow[v / 64] >> v % 64 & 1 ? t->row[v] : -INFINITY;
    }
    const size_t most = steps_of_one(g, s), k = n_top(s);
    if (gen_room_for_best(g, most > k ? most : k)) return gen_no_memory(&job->err);
    const double total = mm_log_total(t->row, g->vocab);
    size_t n = mm_top(s->row, g->vocab, g->best, most);
    while (n && !(g->best[n - 1].logit > -INFINITY)) n--;
    for (size_t c = 0; c < n; c++) {
        const double logprob = (double)g->best[c].logit - total;
        s->steps[s->n_steps++] = (step){ t->sum + logprob, i, g->best[c].id, (float)logprob };
    }
    n = mm_top(t->row, g->vocab, g->best, k);
    for (size_t c = 0; c < k; c++)
        s->tops[i * k + c] = c < n ? (mm_logprob){ g->best[c].id, (float)((double)g->best[c].logit - total) } : (mm_logprob){ -1, 0 };
    return 0;
}

static int by_sum(const void *x, const void *y)
{
    const step *a = x, *b = y;
    if (a->sum > b->sum || a->sum < b->sum) return a->sum > b->sum ? -1 : 1;
    if (a->text != b->text) return a->text < b->text ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* ---- which are taken ---- */

static double score(const struct search *s, double sum, size_t tokens) { return sum / pow((double)tokens, s->job->length_penalty); }

/* Keeps it if it is among the best; of equals the first. */
static void put_ended(struct search *s, uint32_t at, double sum, size_t length, size_t tokens, mm_finish finish)
{
    const ended e = { at, tokens, score(s, sum, length), finish };
    size_t i = s->n_best;
    if (i == s->beams && !(e.score > s->best[i - 1].score)) return;
    if (i < s->beams) s->n_best++;
    else i--;
    for (; i && e.score > s->best[i - 1].score; i--) s->best[i] = s->best[i - 1];
    s->best[i] = e;
}

static int new_node(struct search *s, const step *p, uint32_t *at)
{
    const size_t k = n_top(s);
    if (s->n_nodes == s->cap_nodes) {
        const size_t cap = 2 * s->cap_nodes;
        node *nodes = cap < UINT32_MAX ? mm_realloc(s->nodes, cap, sizeof *nodes) : NULL;
        if (nodes) s->nodes = nodes;
        mm_logprob *top = nodes ? mm_realloc(s->top, cap * k + 1, sizeof *top) : NULL;
        if (top) s->top = top;
        if (!nodes || !top) return MM_ENOMEM;
        s->cap_nodes = cap;
    }
    if (k) memcpy(s->top + s->n_nodes * k, s->tops + p->text * k, k * sizeof *s->top);
    s->nodes[s->n_nodes] = (node){ s->text[p->text].node, p->id, p->logprob };
    *at = (uint32_t)s->n_nodes++;
    return 0;
}

static int copy_said(mm_said *to, const mm_said *from)
{
    mm_said_reset(to);
    to->stops = from->stops;
    to->n_stops = from->n_stops;
    memcpy(to->part, from->part, sizeof to->part);
    to->n_part = from->n_part;
    return from->text.len ? mm_buf_add(&to->text, from->text.p, from->text.len) : 0;
}

/* The text that a step makes, in s->next[s->n_next]; it stays there if it goes on. rank: how many steps are better. */
static int take(mm_gen *g, struct search *s, const step *p, size_t rank)
{
    text *t = &s->next[s->n_next];
    const text *from = &s->text[p->text];
    mm_gen_job *job = s->job;
    int r = new_node(s, p, &t->node), stopped = 0;
    t->at = from->at;
    t->sum = p->sum;
    if (!r && job->n_stops) r = copy_said(&t->said, &from->said);
    mm_buf_reset(&g->piece);
    if (!r && (job->n_stops || from->at->cursor)) r = mm_tok_piece(g->tok, p->id, &g->piece, &job->err);
    if (!r && job->n_stops) {
        r = mm_said_add(&t->said, g->piece.p, g->piece.len);
        stopped = t->said.stopped;
    }
    if (!r && from->at->cursor) {
        if (!(t->cursor = mm_cursor_copy(from->at->cursor))) r = MM_ENOMEM;
        if (!r) r = mm_cursor_accept(t->cursor, g->piece.p, g->piece.len);
    }
    if (r) return r == MM_ENOMEM ? gen_no_memory(&job->err) : mm_fail(&job->err, r, "the answer left its grammar");
    const int end = t->cursor ? mm_cursor_end(t->cursor) : 0;
    if (stopped || (end & MM_END_MUST)) {
        if (rank < s->beams) put_ended(s, t->node, t->sum, s->tokens + 1, s->tokens + 1, MM_FINISH_STOP);
    } else if (!gen_tokens_left(g, job, from->at->n + 1, s->tokens + 1)) {
        put_ended(s, t->node, t->sum, s->tokens + 1, s->tokens + 1, end ? MM_FINISH_STOP : MM_FINISH_LENGTH);
        stopped = 1;
    }
    if (stopped || (end & MM_END_MUST)) mm_cursor_free(&t->cursor);
    else s->n_next++;
    return 0;
}

/* A step that ends its text counts where it is among the best `beams` of all; the texts that go on are the best that do not. */
static int choose(mm_gen *g, struct search *s)
{
    int r = 0;
    s->n_steps = s->n_next = 0;
    for (size_t i = 0; i < s->n && !r; i++) r = steps_from(g, s, i);
    if (s->n_steps) qsort(s->steps, s->n_steps, sizeof *s->steps, by_sum);
    const int last = s->n && gen_tokens_left(g, s->job, s->text[0].at->n, s->tokens) == 1;
    for (size_t rank = 0; rank < s->n_steps && !r && s->n_next < s->beams; rank++) {
        const step *p = &s->steps[rank];
        if (!s->job->ignore_end && mm_lm_is_end(g->lm, p->id)) {
            if (rank < s->beams) put_ended(s, s->text[p->text].node, p->sum, s->tokens + 1, s->tokens, MM_FINISH_STOP);
        } else if (!last || rank < s->beams) {
            r = take(g, s, p, rank);
        }
    }
    return r;
}

/* ---- places ---- */

static void say(slot *s, int32_t id) { s->ids[s->n] = s->keys[s->n] = id, s->n++; }

/* Makes the place that no text has and that has most in common with another's the same as that. */
static slot *copy_place(mm_gen *g, struct search *s, const slot *from, const slot *const *taken, size_t n_taken)
{
    slot *to = NULL;
    size_t same = 0;
    for (size_t i = 0; i < s->beams; i++) {
        slot *t = s->place[i];
        size_t k = 0;
        while (k < n_taken && taken[k] != t) k++;
        const size_t c = k == n_taken ? gen_common(t, t->filled, from->keys, from->filled) : 0;
        if (k == n_taken && (!to || c > same)) to = t, same = c;
    }
    if (g->draft) draft_trim(g->draft, (size_t)(to - g->slots), same);
    mm_lm_copy(g->cache, (size_t)(to - g->slots), (size_t)(from - g->slots), same, from->filled);
    memcpy(to->ids, from->ids, from->filled * sizeof *to->ids);
    memcpy(to->keys, from->keys, from->filled * sizeof *to->keys);
    to->n = to->filled = from->filled;
    to->prompt = from->prompt;
    return to;
}

/* The first of the texts that come from one keeps its place. */
static int place_all(mm_gen *g, struct search *s)
{
    const slot **taken = mm_realloc(NULL, s->beams, sizeof *taken);
    size_t n = 0;
    if (!taken) return gen_no_memory(&s->job->err);
    for (size_t i = 0; i < s->n; i++) mm_cursor_free(&s->text[i].at->cursor);
    for (int copies = 0; copies < 2; copies++) {
        for (size_t i = 0; i < s->n_next; i++) {
            size_t before = 0;
            for (size_t k = 0; k < i; k++) before += s->nodes[s->next[k].node].parent == s->nodes[s->next[i].node].parent;
            if ((before > 0) != copies) continue;
            if (copies) s->next[i].at = copy_place(g, s, s->next[i].at, taken, n);
            taken[n++] = s->next[i].at;
        }
    }
    for (size_t i = 0; i < s->n_next; i++) {
        text *t = &s->next[i];
        say(t->at, s->nodes[t->node].id);
        t->at->cursor = t->cursor;
        t->cursor = NULL;
    }
    free(taken);
    text *swap = s->text;
    s->text = s->next;
    s->next = swap;
    s->n = s->n_next;
    s->n_next = s->rows = 0;
    s->tokens++;
    return 0;
}

/* ---- the end ---- */

/* What a path of the tree says, as if its tokens had been chosen one by one. */
static int answer(mm_gen *g, const struct search *s, mm_gen_job *job, const ended *e)
{
    const size_t k = n_top(s);
    uint32_t at = e->node;
    uint32_t *path = mm_realloc(NULL, e->tokens + 1, sizeof *path);
    int r = path ? 0 : MM_ENOMEM;
    for (size_t i = e->tokens; i-- > 0 && !r; at = s->nodes[at].parent) path[i] = at;
    if (!r && s->job->logprobs) {
        free(job->lp);
        free(job->top);
        job->lp = mm_realloc(NULL, e->tokens + 1, sizeof *job->lp);
        job->top = mm_realloc(NULL, (e->tokens + 1) * (k + 1), sizeof *job->top);
        if (!job->lp || !job->top) r = MM_ENOMEM;
    }
    job->said.stops = s->job->stops;
    job->said.n_stops = s->job->n_stops;
    for (size_t i = 0; i < e->tokens && !r; i++) {
        const node *n = &s->nodes[path[i]];
        mm_buf_reset(&g->piece);
        r = mm_tok_piece(g->tok, n->id, &g->piece, &job->err);
        if (!r) r = mm_said_add(&job->said, g->piece.p, g->piece.len);
        if (r || !s->job->logprobs) continue;
        job->lp[i] = (mm_logprob){ n->id, n->logprob };
        if (k) memcpy(job->top + i * k, s->top + path[i] * k, k * sizeof *job->top);
        job->n_lp = job->cap_lp = i + 1;
    }
    job->tokens = e->tokens;
    job->score = e->score;
    job->used = s->job->used;
    job->reused = s->job->reused;
    free(path);
    return r;
}

static void over(mm_gen *g, struct search *s, int code)
{
    mm_gen_job *job = s->job;
    const size_t answers = job->answers ? job->answers : 1;
    if (!code && !s->n_best) code = mm_fail(&job->err, MM_EDATA, "no token may come next");
    for (size_t i = code ? 1 : answers; i-- > 0;) { /* the first one last: with it the job is done */
        mm_gen_job *j = &job[i];
        int r = code;
        if (!r && i < s->n_best) r = answer(g, s, j, &s->best[i]);
        else if (!r) r = mm_fail(&j->err, MM_EEMPTY, "there are no more than %zu answers of this form", s->n_best);
        if (r == MM_ENOMEM) gen_no_memory(&j->err);
        j->code = r;
        g->busy += i > 0; /* which gen_finish() takes back: only the first was added */
        (code ? gen_finish : gen_finish_one)(g, j, r ? MM_FINISH_ERROR : s->best[i].finish);
    }
    for (size_t i = 0; i < s->beams; i++) gen_leave(s->place[i]);
    search_free(s);
}

void search_step(mm_gen *g, struct search *s)
{
    if (s->rows < s->n) return;
    int r = choose(g, s);
    const int done = !s->n_next || (s->n_best == s->beams && score(s, s->next[0].sum, s->tokens + 1) <= s->best[s->beams - 1].score);
    if (!r && !done) r = place_all(g, s);
    if (r || done) over(g, s, r);
}

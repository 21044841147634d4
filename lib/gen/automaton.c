/* A grammar's terms as a pushdown automaton. A stack is what must still come: a term and the stack below it. A state is a set of stacks whose
 * terms are sets of bytes, one for each way that the text so far may be read; stacks, states, the steps between them and the tokens that a
 * state allows are made when they are met and kept. When they are too many all are forgotten but those that cursors stand in. */
#include "gen/automaton.h"
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/grammar_int.h"

#define MAX_STATES 16384
#define MAX_STACKS (1u << 22)
#define MAX_MASKS ((size_t)96 << 20) /* bytes */
#define DEAD 0u                      /* the state that nothing leads out of */
#define UNKNOWN UINT32_MAX
#define BOTTOM 0u                    /* the empty stack: the text is complete */

typedef struct stack {
    term t;
    uint32_t below, chain, seen;
    size_t least; /* bytes that complete the text */
} stack;

typedef struct state {
    uint32_t *stacks; /* sorted */
    uint32_t n, chain;
    uint32_t next[256];
    size_t least;
    uint64_t *mask;   /* what it allows; NULL: not asked yet */
    size_t worst;     /* of the allowed tokens, the most bytes that a text needs behind one */
    int any;
} state;

typedef struct tnode { /* of the vocabulary's trie, in the order of a walk */
    uint32_t skip;     /* the node behind those below this one */
    int32_t token;     /* that ends here, -1: none; more by `same` */
    uint32_t depth;
    unsigned char byte;
} tnode;

struct automaton {
    mm_grammar *g;
    stack *s;
    uint32_t n, cap, stamp;
    gtable stacks;
    state **st;
    uint32_t n_states, cap_states;
    gtable states;
    size_t masks;  /* bytes */
    uint32_t *set; /* stacks of the state that is being made */
    uint32_t n_set, cap_set;
    uint32_t *todo;
    uint32_t n_todo, cap_todo;
    mm_cursor *cursors;
    /* the vocabulary */
    tnode *node;
    size_t nodes, vocab, deepest;
    int32_t *same;
    uint64_t *scratch;
    uint32_t *path; /* states on the way down the trie */
    void *grown;    /* GROW()'s */
    int broken;     /* there was no memory to begin anew */
};

struct mm_cursor {
    mm_grammar *g;
    uint32_t state;
    struct mm_cursor *prev, *next;
};

/* Room for `need` items: 0 or MM_ENOMEM. */
#define GROW(p, cap, need) \
    ((need) <= (cap) ? 0 : (a->grown = bigger((p), &(cap), (need), sizeof *(p))) ? ((p) = a->grown, 0) : MM_ENOMEM)
static void *bigger(void *p, uint32_t *cap, uint32_t need, size_t size)
{
    uint32_t more = *cap ? 2 * *cap : 256;
    if (more < need) more = need;
    p = mm_realloc(p, more, size);
    if (p) *cap = more;
    return p;
}

static int widen(gtable *t, size_t n)
{
    if (n < t->slots) return 0;
    const size_t slots = t->slots ? 4 * t->slots : 1024;
    uint32_t *head = malloc(slots * sizeof *head);
    if (!head) return MM_ENOMEM;
    memset(head, 0xFF, slots * sizeof *head);
    free(t->head);
    *t = (gtable){ head, slots };
    return 1;
}

/* ---- stacks ---- */

static uint32_t stack_hash(term t, uint32_t below) { return (uint32_t)((((uint64_t)t << 32 | below) * UINT64_C(0x9e3779b97f4a7c15)) >> 32); }

/* The stack with t on top; UNKNOWN: no memory. */
static uint32_t push(struct automaton *a, term t, uint32_t below)
{
    if (t == EMPTY) return below;
    for (uint32_t i = a->stacks.head[stack_hash(t, below) & (a->stacks.slots - 1)]; i != UNKNOWN; i = a->s[i].chain)
        if (a->s[i].t == t && a->s[i].below == below) return i;
    if (GROW(a->s, a->cap, a->n + 1)) return UNKNOWN;
    const int wider = widen(&a->stacks, a->n);
    if (wider < 0) return UNKNOWN;
    for (uint32_t i = 1; wider && i < a->n; i++) {
        uint32_t *at = &a->stacks.head[stack_hash(a->s[i].t, a->s[i].below) & (a->stacks.slots - 1)];
        a->s[i].chain = *at;
        *at = i;
    }
    const size_t top = a->g->t[t].least, rest = a->s[below].least;
    uint32_t *at = &a->stacks.head[stack_hash(t, below) & (a->stacks.slots - 1)];
    a->s[a->n] = (stack){ t, below, *at, 0, top == NEVER || rest == NEVER || top + rest < top ? NEVER : top + rest };
    *at = a->n;
    return a->n++;
}

static int want(struct automaton *a, uint32_t s)
{
    if (s == UNKNOWN || GROW(a->todo, a->cap_todo, a->n_todo + 1)) return MM_ENOMEM;
    a->todo[a->n_todo++] = s;
    return 0;
}

/* Adds to a->set the stacks that s stands for: those whose term is a set of bytes, or the empty one. */
static int expand(struct automaton *a, uint32_t s)
{
    a->n_todo = 0;
    int r = want(a, s);
    while (!r && a->n_todo) {
        s = a->todo[--a->n_todo];
        if (a->s[s].seen == a->stamp || a->s[s].least == NEVER) continue;
        a->s[s].seen = a->stamp;
        const uint32_t below = a->s[s].below;
        const gterm *t = &a->g->t[a->s[s].t];
        const term x = t->a, y = t->b;
        if (s == BOTTOM || t->kind == G_SET) {
            if ((r = GROW(a->set, a->cap_set, a->n_set + 1))) break;
            a->set[a->n_set++] = s;
        } else if (t->kind == G_SEQ) {
            const uint32_t rest = push(a, y, below);
            r = rest == UNKNOWN ? MM_ENOMEM : want(a, push(a, x, rest));
        } else if (t->kind == G_ALT) {
            if (!(r = want(a, push(a, x, below)))) r = want(a, push(a, y, below));
        } else if (t->kind == G_REF) {
            r = want(a, push(a, x, below));
        } else { /* G_REP: one more, and what is then left of it; or none */
            const uint32_t min = y, max = t->c;
            if (!min) r = want(a, below);
            const term left = g_rep(a->g, x, min ? min - 1 : 0, max == MANY ? MANY : max - 1);
            const uint32_t rest = a->g->failed ? UNKNOWN : push(a, left, below);
            if (!r) r = rest == UNKNOWN ? MM_ENOMEM : want(a, push(a, x, rest));
        }
    }
    return r;
}

/* ---- states ---- */

static int by_number(const void *x, const void *y)
{
    const uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

static uint32_t state_hash(const uint32_t *s, uint32_t n) { return (uint32_t)mm_hash64(s, n * sizeof *s, 0); }

/* The state that a->set is; UNKNOWN: no memory. */
static uint32_t intern(struct automaton *a)
{
    if (a->n_set) qsort(a->set, a->n_set, sizeof *a->set, by_number);
    for (uint32_t i = a->states.head[state_hash(a->set, a->n_set) & (a->states.slots - 1)]; i != UNKNOWN; i = a->st[i]->chain)
        if (a->st[i]->n == a->n_set && !memcmp(a->st[i]->stacks, a->set, a->n_set * sizeof *a->set)) return i;
    state *st = calloc(1, sizeof *st);
    const int wider = st ? widen(&a->states, a->n_states) : MM_ENOMEM;
    if (st) st->stacks = malloc((a->n_set + 1) * sizeof *st->stacks);
    if (wider < 0 || !st->stacks || GROW(a->st, a->cap_states, a->n_states + 1)) {
        if (st) free(st->stacks);
        free(st);
        return UNKNOWN;
    }
    for (uint32_t i = 0; wider && i < a->n_states; i++) {
        uint32_t *at = &a->states.head[state_hash(a->st[i]->stacks, a->st[i]->n) & (a->states.slots - 1)];
        a->st[i]->chain = *at;
        *at = i;
    }
    if (a->n_set) memcpy(st->stacks, a->set, a->n_set * sizeof *st->stacks);
    st->n = a->n_set;
    st->least = NEVER;
    memset(st->next, 0xFF, sizeof st->next);
    for (uint32_t i = 0; i < st->n; i++)
        if (a->s[st->stacks[i]].least < st->least) st->least = a->s[st->stacks[i]].least;
    uint32_t *at = &a->states.head[state_hash(st->stacks, st->n) & (a->states.slots - 1)];
    st->chain = *at;
    *at = a->n_states;
    a->st[a->n_states] = st;
    return a->n_states++;
}

static uint32_t state_of(struct automaton *a, uint32_t s)
{
    a->n_set = 0;
    a->stamp++;
    return expand(a, s) ? UNKNOWN : intern(a);
}

static uint32_t step(struct automaton *a, uint32_t from, unsigned char byte)
{
    const uint32_t known = a->st[from]->next[byte];
    if (known != UNKNOWN) return known;
    a->n_set = 0;
    a->stamp++;
    for (uint32_t i = 0; i < a->st[from]->n; i++) {
        const uint32_t s = a->st[from]->stacks[i];
        if (s == BOTTOM || !(a->g->set[a->g->t[a->s[s].t].a].bit[byte / 64] >> byte % 64 & 1)) continue;
        if (expand(a, a->s[s].below)) return UNKNOWN;
    }
    const uint32_t to = intern(a);
    if (to != UNKNOWN) a->st[from]->next[byte] = to;
    return to;
}

/* ---- beginning, forgetting ---- */

static void forget_states(struct automaton *a)
{
    for (uint32_t i = 0; i < a->n_states; i++) {
        free(a->st[i]->stacks);
        free(a->st[i]->mask);
        free(a->st[i]);
    }
    a->n_states = 0;
    a->masks = 0;
}

static int start(struct automaton *a)
{
    if (GROW(a->s, a->cap, 1)) return MM_ENOMEM;
    a->s[BOTTOM] = (stack){ 0 };
    a->n = 1;
    a->stamp = 0;
    if (a->stacks.slots) memset(a->stacks.head, 0xFF, a->stacks.slots * sizeof *a->stacks.head);
    else if (widen(&a->stacks, 1) < 0) return MM_ENOMEM;
    if (a->states.slots) memset(a->states.head, 0xFF, a->states.slots * sizeof *a->states.head);
    else if (widen(&a->states, 1) < 0) return MM_ENOMEM;
    a->n_set = 0;
    return intern(a) == UNKNOWN ? MM_ENOMEM : 0; /* DEAD: no stacks */
}

struct automaton *automaton_new(mm_grammar *g)
{
    struct automaton *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->g = g;
    if (start(a)) {
        automaton_free(a);
        return NULL;
    }
    return a;
}

void automaton_free(struct automaton *a)
{
    if (!a) return;
    forget_states(a);
    free(a->s);
    free(a->st);
    free(a->stacks.head);
    free(a->states.head);
    free(a->set);
    free(a->todo);
    free(a->node);
    free(a->same);
    free(a->scratch);
    free(a->path);
    free(a);
}

/* One stack of the old table in the new one, from its bottom up. */
static uint32_t move(struct automaton *a, const stack *old, uint32_t s)
{
    uint32_t to = BOTTOM;
    a->n_todo = 0;
    for (; s != BOTTOM; s = old[s].below)
        if (want(a, s)) return UNKNOWN;
    while (a->n_todo && to != UNKNOWN) {
        const term t = old[a->todo[--a->n_todo]].t;
        to = push(a, t, to);
    }
    return to;
}

/* Everything anew, with the states of cursors only. */
static int forget(struct automaton *a)
{
    uint32_t n = 0, at = 0;
    for (const mm_cursor *c = a->cursors; c; c = c->next) n++;
    state **live = calloc(n + 1, sizeof *live);
    stack *old = a->s;
    if (!live) return MM_ENOMEM;
    for (const mm_cursor *c = a->cursors; c; c = c->next, at++) {
        const state *st = a->st[c->state];
        if (!(live[at] = calloc(1, sizeof **live)) || !(live[at]->stacks = malloc((st->n + 1) * sizeof *st->stacks))) break;
        live[at]->n = st->n;
        memcpy(live[at]->stacks, st->stacks, st->n * sizeof *st->stacks);
    }
    int r = at < n ? MM_ENOMEM : 0;
    if (!r) {
        forget_states(a);
        a->s = NULL;
        a->cap = 0;
        r = start(a);
        at = 0;
        for (mm_cursor *c = a->cursors; c && !r; c = c->next, at++) {
            a->n_set = 0;
            for (uint32_t i = 0; i < live[at]->n && !r; i++) {
                const uint32_t s = move(a, old, live[at]->stacks[i]);
                if (s == UNKNOWN || GROW(a->set, a->cap_set, a->n_set + 1)) r = MM_ENOMEM;
                else a->set[a->n_set++] = s;
            }
            if (!r && (c->state = intern(a)) == UNKNOWN) r = MM_ENOMEM;
        }
        a->broken = r != 0;
        free(old);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (live[i]) free(live[i]->stacks);
        free(live[i]);
    }
    free(live);
    return r;
}

static int make_room(struct automaton *a)
{
    return a->broken                                                               ? MM_ENOMEM
           : a->n_states > MAX_STATES || a->n > MAX_STACKS || a->masks > MAX_MASKS ? forget(a)
                                                                                   : 0;
}

/* ---- the vocabulary ---- */

typedef struct piece {
    const char *p;
    size_t len;
    int32_t id;
} piece;

static int by_bytes(const void *x, const void *y)
{
    const piece *a = x, *b = y;
    const int c = memcmp(a->p, b->p, a->len < b->len ? a->len : b->len);
    return c ? c : a->len != b->len ? (a->len < b->len ? -1 : 1) : a->id < b->id ? -1 : 1;
}

static int build_trie(struct automaton *a, const piece *p, size_t n, size_t bytes)
{
    uint32_t *open = malloc((a->deepest + 1) * sizeof *open); /* the node at each depth of the way to the piece before */
    size_t depth = 0;
    a->node = malloc((bytes + 1) * sizeof *a->node);
    if (!open || !a->node) {
        free(open);
        return MM_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        size_t common = 0;
        while (i && common < p[i].len && common < p[i - 1].len && p[i].p[common] == p[i - 1].p[common]) common++;
        while (depth > common) a->node[open[--depth]].skip = (uint32_t)a->nodes;
        for (; depth < p[i].len; depth++) {
            open[depth] = (uint32_t)a->nodes;
            a->node[a->nodes++] = (tnode){ 0, -1, (uint32_t)depth, (unsigned char)p[i].p[depth] };
        }
        tnode *t = &a->node[open[depth - 1]];
        a->same[p[i].id] = t->token;
        t->token = p[i].id;
    }
    while (depth) a->node[open[--depth]].skip = (uint32_t)a->nodes;
    free(open);
    return 0;
}

int mm_grammar_bind(mm_grammar *g, const mm_tok *tok, size_t vocab, mm_err *err)
{
    struct automaton *a = g->auto_;
    mm_buf text = { 0 };
    size_t *end = malloc((vocab + 1) * sizeof *end), n = 0, at = 0;
    piece *p = malloc((vocab + 1) * sizeof *p);
    int r = !end || !p ? MM_ENOMEM : 0;
    a->vocab = vocab;
    a->same = malloc((vocab + 1) * sizeof *a->same);
    a->scratch = malloc((vocab / 64 + 1) * sizeof *a->scratch);
    for (size_t i = 0; i < vocab && !r; i++) {
        if (mm_tok_text(tok, (int32_t)i)) r = mm_tok_piece(tok, (int32_t)i, &text, err);
        end[i] = text.len;
    }
    for (size_t i = 0; i < vocab && !r; at = end[i++])
        if (end[i] > at) {
            p[n++] = (piece){ text.p + at, end[i] - at, (int32_t)i };
            if (end[i] - at > a->deepest) a->deepest = end[i] - at;
        }
    a->path = malloc((a->deepest + 2) * sizeof *a->path);
    if (!r && (!a->same || !a->scratch || !a->path)) r = MM_ENOMEM;
    if (!r && n) {
        qsort(p, n, sizeof *p, by_bytes);
        r = build_trie(a, p, n, text.len);
    }
    mm_buf_clear(&text);
    free(end);
    free(p);
    return r == MM_ENOMEM ? mm_fail(err, r, "out of memory") : r;
}

/* ---- cursors ---- */

static void link_cursor(mm_cursor *c)
{
    struct automaton *a = c->g->auto_;
    c->next = a->cursors;
    if (c->next) c->next->prev = c;
    a->cursors = c;
}

mm_cursor *mm_cursor_new(mm_grammar *g)
{
    struct automaton *a = g->auto_;
    mm_cursor *c = calloc(1, sizeof *c);
    const uint32_t s = c && !make_room(a) ? push(a, g->root, BOTTOM) : UNKNOWN;
    if (s == UNKNOWN || (c->state = state_of(a, s)) == UNKNOWN) {
        free(c);
        return NULL;
    }
    c->g = g;
    link_cursor(c);
    return c;
}

mm_cursor *mm_cursor_copy(const mm_cursor *from)
{
    mm_cursor *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->g = from->g;
    c->state = from->state;
    link_cursor(c);
    return c;
}

void mm_cursor_free(mm_cursor **cp)
{
    mm_cursor *c = *cp;
    if (!c) return;
    if (c->prev) c->prev->next = c->next;
    else c->g->auto_->cursors = c->next;
    if (c->next) c->next->prev = c->prev;
    free(c);
    *cp = NULL;
}

/* The tokens behind which at most `most` bytes are needed. */
static int walk(struct automaton *a, uint32_t from, size_t most, uint64_t *mask, size_t *worst, int *any)
{
    memset(mask, 0, (a->vocab / 64 + 1) * sizeof *mask);
    *worst = 0;
    *any = 0;
    a->path[0] = from;
    for (size_t i = 0; i < a->nodes;) {
        const tnode *t = &a->node[i];
        const uint32_t s = step(a, a->path[t->depth], t->byte);
        if (s == UNKNOWN) return MM_ENOMEM;
        if (s == DEAD) {
            i = t->skip;
            continue;
        }
        a->path[t->depth + 1] = s;
        const size_t least = a->st[s]->least;
        if (least <= most && t->token >= 0) {
            if (least > *worst) *worst = least;
            *any = 1;
            for (int32_t id = t->token; id >= 0; id = a->same[id]) mask[id / 64] |= UINT64_C(1) << id % 64;
        }
        i++;
    }
    return 0;
}

int mm_cursor_allow(mm_cursor *c, size_t left, const uint64_t **mask, mm_err *err)
{
    struct automaton *a = c->g->auto_;
    const size_t most = left == SIZE_MAX ? SIZE_MAX - 1 : left ? left - 1 : 0;
    int any, r = make_room(a);
    size_t worst;
    if (r) return mm_fail(err, r, "out of memory");
    const uint32_t at = c->state;
    if (!a->st[at]->mask) {
        const size_t bytes = (a->vocab / 64 + 1) * sizeof(uint64_t);
        uint64_t *m = malloc(bytes);
        if (!m || (r = walk(a, at, SIZE_MAX - 1, m, &worst, &any))) {
            free(m);
            return mm_fail(err, MM_ENOMEM, "out of memory");
        }
        a->st[at]->mask = m;
        a->st[at]->worst = worst;
        a->st[at]->any = any;
        a->masks += bytes;
    }
    *mask = a->st[at]->mask;
    any = a->st[at]->any;
    if (any && a->st[at]->worst > most) {
        if (walk(a, at, most, a->scratch, &worst, &any)) return mm_fail(err, MM_ENOMEM, "out of memory");
        *mask = a->scratch;
    }
    return any ? 0 : mm_fail(err, MM_EDATA, "no token of the model's vocabulary can come next");
}

int mm_cursor_accept(mm_cursor *c, const char *bytes, size_t len)
{
    if (c->g->auto_->broken) return MM_ENOMEM;
    for (size_t i = 0; i < len; i++) {
        const uint32_t s = step(c->g->auto_, c->state, (unsigned char)bytes[i]);
        if (s == UNKNOWN) return MM_ENOMEM;
        c->state = s;
        if (s == DEAD) return MM_EDATA;
    }
    return 0;
}

int mm_cursor_end(const mm_cursor *c)
{
    const struct automaton *a = c->g->auto_;
    if (a->broken) return 0;
    const state *st = a->st[c->state];
    int may = 0, more = 0;
    for (uint32_t i = 0; i < st->n; i++) {
        if (st->stacks[i] == BOTTOM) may = 1;
        else more = 1;
    }
    return may ? (more ? MM_END_MAY : MM_END_MAY | MM_END_MUST) : 0;
}

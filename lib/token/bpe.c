/* Byte pair encoding (Sennrich et al. 2016; on bytes: Radford et al. 2019): a word begins as single bytes or
 * characters, and the pair of neighbours that was learned first is joined, the leftmost of equals, until no pair is
 * known. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

typedef struct {
    int32_t id;
    uint32_t prev, next; /* neighbours; UINT32_MAX: none */
    uint32_t from, len;  /* bytes of the word; len 0: joined to the one before */
} symbol;

typedef struct {
    uint64_t key; /* rank, then place: the smallest comes first */
    uint32_t id;  /* of the pair together */
} candidate;

/* ---- merges ---- */

static size_t merge_slot(const mm_tok *t, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 20) & (t->merge_slots - 1);
    while (t->merges[i].a != UINT32_MAX && (t->merges[i].a != a || t->merges[i].b != b))
        i = (i + 1) & (t->merge_slots - 1);
    return i;
}

static int resize(mm_tok *t, size_t slots)
{
    const size_t old = t->merge_slots;
    merge *p = mm_realloc(NULL, slots, sizeof *p), *q = t->merges;
    if (!p) return MM_ENOMEM;
    for (size_t i = 0; i < slots; i++) p[i].a = UINT32_MAX;
    t->merges = p;
    t->merge_slots = slots;
    for (size_t i = 0; i < old; i++)
        if (q[i].a != UINT32_MAX) p[merge_slot(t, q[i].a, q[i].b)] = q[i];
    free(q);
    return 0;
}

int tok_bpe_merge(mm_tok *t, const char *a, size_t a_len, const char *b, size_t b_len, mm_err *err)
{
    char buf[256], *both = buf;
    size_t skip = b_len >= t->cont_len ? t->cont_len : 0; /* the mark of a continuation is not repeated inside */
    if (a_len + b_len > sizeof buf && !(both = malloc(a_len + b_len))) return mm_fail(err, MM_ENOMEM, "out of memory");
    int32_t x, y, z;
    if (t->byte_level) {
        long n = tok_bytes_of(a, a_len, both), k = n < 0 ? -1 : tok_bytes_of(b, b_len, both + n);
        x = k < 0 ? -1 : tok_map_get(&t->vocab, both, (size_t)n);
        y = k < 0 ? -1 : tok_map_get(&t->vocab, both + n, (size_t)k);
        /* most often the next id is what the merge makes */
        size_t len = k < 0 ? 0 : (size_t)(n + k), guess = t->last_made + 1;
        int right = guess < t->n && t->key[guess] && t->key_len[guess] == len && !memcmp(t->key[guess], both, len);
        z = right ? (int32_t)guess : tok_map_get(&t->vocab, both, len);
    } else {
        memcpy(both, a, a_len);
        memcpy(both + a_len, b + skip, b_len - skip);
        x = tok_map_get(&t->vocab, a, a_len);
        y = tok_map_get(&t->vocab, b, b_len);
        z = tok_map_get(&t->vocab, both, a_len + b_len - skip);
    }
    if (both != buf) free(both);
    if (x < 0 || y < 0 || z < 0)
        return mm_fail(err, MM_EDATA, "merge %zu is of or makes a token that is not in the vocabulary", t->n_merges);
    if (2 * (t->n_merges + 1) > t->merge_slots && resize(t, t->merge_slots ? 2 * t->merge_slots : 1024)) return mm_fail(err, MM_ENOMEM, "out of memory");
    t->merges[merge_slot(t, (uint32_t)x, (uint32_t)y)] = (merge){ (uint32_t)x, (uint32_t)y, (uint32_t)t->n_merges++, (uint32_t)z };
    t->last_made = (size_t)z;
    return 0;
}

int tok_bpe_index(mm_tok *t, mm_err *err)
{
    char s[64];
    if (t->suffix_len > sizeof s - 8)
        return mm_fail(err, MM_EUNSUP, "model: end_of_word_suffix is longer than 56 bytes");
    if (t->byte_level && t->cont_len)
        return mm_fail(err, MM_EUNSUP, "model: continuing_subword_prefix with bytes is not supported");
    if (t->cont_len > sizeof s - 8)
        return mm_fail(err, MM_EUNSUP, "model: continuing_subword_prefix is longer than 56 bytes");
    for (int i = 0; i < 256; i++) {
        if (t->byte_level) {
            s[0] = (char)i;
            memcpy(s + 1, t->suffix, t->suffix_len);
            t->byte_id[i] = tok_map_get(&t->vocab, s, 1);
            t->byte_last[i] = tok_map_get(&t->vocab, s, 1 + t->suffix_len);
        } else {
            t->byte_id[i] = tok_map_get(&t->vocab, s, (size_t)snprintf(s, sizeof s, "<0x%02X>", (unsigned)i));
        }
    }
    return t->merges || !resize(t, 1024) ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

int tok_bpe_room(mm_tok *t, size_t merges, mm_err *err)
{
    size_t slots = 1024;
    while (slots < 2 * merges) slots *= 2;
    return slots <= t->merge_slots || !resize(t, slots) ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
}

/* ---- words ---- */

typedef struct {
    symbol *s;
    size_t n;
    const char *text;
} word;

static void add(word *w, int32_t id, size_t from, size_t len)
{
    uint32_t i = (uint32_t)w->n++;
    if (i) w->s[i - 1].next = i;
    w->s[i] = (symbol){ id, i ? i - 1 : UINT32_MAX, UINT32_MAX, (uint32_t)from, (uint32_t)len };
}

/* The symbols that a word begins as. At most one a byte. */
static void begin(const mm_tok *t, const char *s, size_t len, word *w)
{
    size_t unk_from = 0, unk_len = 0;
    int32_t unk = t->role[MM_TOK_UNK];
    for (size_t i = 0, n; i < len; i += n) {
        int32_t id;
        uint32_t c;
        n = t->byte_level ? 1 : (size_t)mm_utf8_get(s + i, len - i, &c);
        int last = i + n == len;
        if (t->byte_level) {
            id = last && t->suffix_len ? t->byte_last[(unsigned char)s[i]] : t->byte_id[(unsigned char)s[i]];
        } else {
            char key[160];
            size_t k = i ? t->cont_len : 0;
            memcpy(key, t->cont_mark, k);
            memcpy(key + k, s + i, n);
            memcpy(key + k + n, t->suffix, last ? t->suffix_len : 0);
            id = tok_map_get(&t->vocab, key, k + n + (last ? t->suffix_len : 0));
        }
        if (t->rank) { /* what is in no token alone may be so in a longer one: bytes come last */
            add(w, id, i, n);
            continue;
        }
        if (id < 0 && t->byte_fallback) {
            size_t q = 0;
            while (q < n && t->byte_id[(unsigned char)s[i + q]] >= 0) q++;
            if (q == n) { /* the reference leaves an unknown one before it waiting; so do ids here */
                for (q = 0; q < n; q++) add(w, t->byte_id[(unsigned char)s[i + q]], i + q, 1);
                continue;
            }
        }
        if (id >= 0) {
            if (unk_len) add(w, unk, unk_from, unk_len);
            unk_len = 0;
            add(w, id, i, n);
        } else if (unk >= 0) {
            if (unk_len && !t->fuse_unk) {
                add(w, unk, unk_from, unk_len);
                unk_len = 0;
            }
            if (!unk_len) unk_from = i;
            unk_len += n;
        }
    }
    if (unk_len) add(w, unk, unk_from, unk_len);
}

static void heap_push(candidate *h, size_t *n, candidate x)
{
    size_t i = (*n)++;
    for (; i && h[(i - 1) / 2].key > x.key; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static candidate heap_pop(candidate *h, size_t *n)
{
    candidate top = h[0], x = h[--*n];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < *n; i = k) {
        if (k + 1 < *n && h[k + 1].key < h[k].key) k++;
        if (h[k].key >= x.key) break;
        h[i] = h[k];
    }
    h[i] = x;
    return top;
}

/* What the two make, and its rank: 0, nothing. */
static int joined(const mm_tok *t, const word *w, const symbol *a, const symbol *b, uint32_t *id, uint32_t *rank)
{
    if (t->rank) {
        size_t len = (size_t)a->len + b->len;
        int32_t x = len <= t->longest ? tok_map_get(&t->vocab, w->text + a->from, len) : -1;
        if (x < 0 || t->rank[x] == UINT32_MAX) return 0;
        *id = (uint32_t)x;
        *rank = t->rank[x];
        return 1;
    }
    const merge *m = &t->merges[merge_slot(t, (uint32_t)a->id, (uint32_t)b->id)];
    *id = m->id;
    *rank = m->rank;
    return m->a != UINT32_MAX;
}

static void try_pair(const mm_tok *t, const word *w, uint32_t left, uint32_t right, candidate *h, size_t *n)
{
    uint32_t id, rank;
    if (left == UINT32_MAX || right == UINT32_MAX) return;
    if (joined(t, w, &w->s[left], &w->s[right], &id, &rank)) heap_push(h, n, (candidate){ (uint64_t)rank << 32 | left, id });
}

static void join(const mm_tok *t, word *w, candidate *h)
{
    size_t n = 0;
    for (uint32_t i = 0; i + 1 < w->n; i++) try_pair(t, w, i, i + 1, h, &n);
    while (n) {
        candidate c = heap_pop(h, &n);
        symbol *s = &w->s[(uint32_t)c.key];
        if (!s->len || s->next == UINT32_MAX) continue;
        symbol *r = &w->s[s->next];
        uint32_t id, rank;
        if (!joined(t, w, s, r, &id, &rank) || id != c.id) continue; /* one of the two has changed since */
        s->id = (int32_t)c.id;
        s->len = r->from + r->len - s->from;
        r->len = 0;
        s->next = r->next;
        if (s->next != UINT32_MAX) w->s[s->next].prev = (uint32_t)c.key;
        try_pair(t, w, s->prev, (uint32_t)c.key, h, &n);
        try_pair(t, w, (uint32_t)c.key, s->next, h, &n);
    }
}

/* A character in no token: its bytes */
static int emit_bytes(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o)
{
    int e = 0, unk = 0;
    for (size_t i = from; i < to && !e; i++) {
        int32_t id = t->byte_id[(unsigned char)v->s[i]];
        if (id < 0 && unk++) continue;
        if (id < 0) id = t->role[MM_TOK_UNK];
        if (id >= 0) e = tok_emit(o, id, v, i, i + 1);
    }
    return e;
}

int tok_bpe(const mm_tok *t, const view *v, size_t from, size_t to, mm_tok_out *o)
{
    size_t len = to - from;
    if (t->ignore_merges) {
        int32_t id = tok_map_get(&t->vocab, v->s + from, len);
        if (id >= 0) return tok_emit(o, id, v, from, to);
    }
    /* each join adds at most two candidates and takes one symbol away */
    candidate *h = tok_work(o->scratch, len, 3 * sizeof *h + sizeof(symbol));
    if (!h) return MM_ENOMEM;
    word w = { (symbol *)(h + 3 * len), 0, v->s + from };
    begin(t, v->s + from, len, &w);
    if (w.n > 1) join(t, &w, h);
    int e = 0;
    for (size_t i = 0; i < w.n && !e; i++) {
        size_t at = from + w.s[i].from, end = at + w.s[i].len;
        if (end > at) e = w.s[i].id < 0 ? emit_bytes(t, v, at, end, o) : tok_emit(o, w.s[i].id, v, at, end);
    }
    return e;
}

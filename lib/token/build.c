/* Making an mm_tok: ids, tables, added tokens, and the two plain sources (GGUF arrays, vocab.txt). */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "token/token_int.h"

#define MAX_VOCAB (1u << 24)
#define MAX_TOKEN (1u << 16)

int tok_begin(mm_tok **out, mm_err *err)
{
    mm_tok *t = *out = calloc(1, sizeof *t);
    if (!t) return mm_fail(err, MM_ENOMEM, "out of memory");
    t->cont_mark = "##";
    t->cont_len = 2;
    t->max_chars = 100;
    t->clean = t->chinese = 1;
    for (int i = 0; i < 5; i++) t->role[i] = -1;
    return 0;
}

void mm_tok_free(mm_tok **tp)
{
    mm_tok *t = *tp;
    if (!t) return;
    mm_arena_clear(&t->arena);
    free(t->text);
    free(t->len);
    free(t->start);
    free(t->cont);
    free(t->add);
    free(t);
    *tp = NULL;
}

int tok_put(mm_tok *t, int32_t id, const char *s, size_t len, mm_err *err)
{
    if (id < 0 || (uint32_t)id >= MAX_VOCAB) return mm_fail(err, MM_EDATA, "token id %d is out of range", id);
    if (len > MAX_TOKEN) return mm_fail(err, MM_EDATA, "token %d is %zu bytes long", id, len);
    if ((size_t)id >= t->n) {
        /* grown by doubling; ids mostly come in order */
        size_t cap = 1024;
        while (cap <= (size_t)id) cap *= 2;
        if (cap > t->n) {
            const char **text = mm_realloc(t->text, cap, sizeof *text);
            if (text) t->text = text;
            uint32_t *l = mm_realloc(t->len, cap, sizeof *l);
            if (l) t->len = l;
            if (!text || !l) return mm_fail(err, MM_ENOMEM, "out of memory");
        }
        for (size_t i = t->n; i <= (size_t)id; i++) {
            t->text[i] = NULL;
            t->len[i] = 0;
        }
        t->n = (size_t)id + 1;
    }
    if (t->text[id]) {
        if (t->len[id] == len && !memcmp(t->text[id], s, len)) return 0;
        return mm_fail(err, MM_EDATA, "two tokens have the id %d", id);
    }
    char *copy = mm_arena_alloc(&t->arena, len + 1, 1);
    if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (len) memcpy(copy, s, len);
    copy[len] = 0;
    t->text[id] = copy;
    t->len[id] = (uint32_t)len;
    return 0;
}

int tok_add(mm_tok *t, const added *a, mm_err *err)
{
    added *p = mm_realloc(t->add, t->n_add + 1, sizeof *p);
    if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
    t->add = p;
    p[t->n_add] = *a;
    if (!(p[t->n_add].text = mm_arena_strndup(&t->arena, a->text, a->len)))
        return mm_fail(err, MM_ENOMEM, "out of memory");
    t->n_add++;
    return 0;
}

static uint32_t hash(const char *s, size_t len)
{
    uint32_t h = TOK_SEED;
    for (size_t i = 0; i < len; i++) h = tok_step(h, (unsigned char)s[i]);
    return h;
}

static slot *table(size_t slots)
{
    slot *s = malloc(slots * sizeof *s);
    for (size_t i = 0; s && i < slots; i++) s[i] = (slot){ 0, -1 };
    return s;
}

static void insert(const mm_tok *t, slot *tab, size_t skip, int32_t id)
{
    uint32_t h = hash(t->text[id] + skip, t->len[id] - skip);
    size_t i = h & (t->slots - 1);
    /* of equal texts the later id wins, as a dictionary that is filled in order would have it */
    for (; tab[i].id >= 0; i = (i + 1) & (t->slots - 1))
        if (tab[i].hash == h && t->len[tab[i].id] == t->len[id] &&
            !memcmp(t->text[tab[i].id], t->text[id], t->len[id]))
            break;
    tab[i] = (slot){ h, id };
}

static int longer_first(const void *a, const void *b)
{
    const added *x = a, *y = b;
    return x->len != y->len ? (x->len < y->len ? 1 : -1) : x->id < y->id ? -1 : x->id > y->id;
}

int tok_finish(mm_tok *t, mm_err *err)
{
    t->slots = 64;
    while (t->slots < 2 * t->n) t->slots *= 2;
    t->start = table(t->slots);
    t->cont = table(t->slots);
    if (!t->start || !t->cont) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        if (!t->text[i]) continue;
        insert(t, t->start, 0, (int32_t)i);
        if (t->len[i] >= t->cont_len && !memcmp(t->text[i], t->cont_mark, t->cont_len))
            insert(t, t->cont, t->cont_len, (int32_t)i);
        if (t->len[i] > t->longest) t->longest = t->len[i];
    }
    /* the longest added token that fits is the one to take, so they are tried in this order */
    if (t->n_add) qsort(t->add, t->n_add, sizeof *t->add, longer_first);
    for (size_t i = 0; i < t->n_add; i++)
        if (t->add[i].len) t->first[(unsigned char)t->add[i].text[0]] |= t->add[i].normalized ? 2 : 1;
    if (t->longest > 512) return mm_fail(err, MM_EUNSUP, "a token of %zu bytes is too long", t->longest);
    if (t->role[MM_TOK_UNK] < 0) return mm_fail(err, MM_EDATA, "the vocabulary has no token for unknown words");
    return 0;
}

/* ---- from arrays ---- */

static int role(mm_tok *t, const mm_tok_spec *s, mm_tok_role r, int32_t id, mm_err *err)
{
    if (id < -1 || (id >= 0 && (size_t)id >= s->n))
        return mm_fail(err, MM_EDATA, "special token id %d is out of range", id);
    t->role[r] = id;
    if (id < 0 || r == MM_TOK_PAD) return 0;
    added a = { .text = t->text[id], .len = t->len[id], .id = id, .special = 1 };
    return tok_add(t, &a, err);
}

int mm_tok_from_spec(mm_tok **out, const mm_tok_spec *s, mm_err *err)
{
    static const char mark[] = "\xE2\x96\x81";
    int r = tok_begin(out, err);
    if (r) return r;
    mm_tok *t = *out;
    mm_buf b = { 0 };
    t->lower = s->lowercase;
    t->strip = s->strip_accents;
    t->chinese = s->chinese;
    if (s->n >= MAX_VOCAB) r = mm_fail(err, MM_EDATA, "a vocabulary of %zu tokens is too large", s->n);
    for (size_t i = 0; i < s->n && !r; i++) {
        const char *p = s->tokens[i].p;
        size_t len = s->tokens[i].len;
        int special = (int32_t)i == s->cls || (int32_t)i == s->sep || (int32_t)i == s->unk || (int32_t)i == s->pad ||
                      (int32_t)i == s->mask || (len > 2 && p[0] == '[' && p[len - 1] == ']');
        mm_buf_reset(&b);
        if (!s->word_marks || special) {
            mm_buf_add(&b, p, len);
        } else if (len >= 3 && !memcmp(p, mark, 3)) {
            mm_buf_add(&b, p + 3, len - 3);
        } else {
            mm_buf_adds(&b, "##");
            mm_buf_add(&b, p, len);
        }
        r = b.failed ? mm_fail(err, MM_ENOMEM, "out of memory") : tok_put(t, (int32_t)i, b.p ? b.p : "", b.len, err);
    }
    mm_buf_clear(&b);
    if (!r) r = role(t, s, MM_TOK_CLS, s->cls, err);
    if (!r) r = role(t, s, MM_TOK_SEP, s->sep, err);
    if (!r) r = role(t, s, MM_TOK_UNK, s->unk, err);
    if (!r) r = role(t, s, MM_TOK_PAD, s->pad, err);
    if (!r) r = role(t, s, MM_TOK_MASK, s->mask, err);
    if (!r && s->pad >= 0) {
        added a = { .text = t->text[s->pad], .len = t->len[s->pad], .id = s->pad, .special = 1 };
        r = tok_add(t, &a, err);
    }
    if (!r) r = tok_finish(t, err);
    if (!r && s->cls >= 0) t->prefix[t->n_prefix++] = s->cls;
    if (!r && s->sep >= 0) t->suffix[t->n_suffix++] = s->sep;
    if (r) mm_tok_free(out);
    return r;
}

static int32_t special_id(const mm_slice *v, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].len == strlen(name) && !memcmp(v[i].p, name, v[i].len)) return (int32_t)i;
    return -1;
}

int mm_tok_from_vocab(mm_tok **out, const char *text, size_t len, int lowercase, mm_err *err)
{
    size_t n = 0, cap = 0;
    mm_slice *v = NULL;
    *out = NULL;
    for (const char *p = text, *end = text + len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        if (n == cap) {
            cap = cap ? 2 * cap : 4096;
            mm_slice *w = mm_realloc(v, cap, sizeof *w);
            if (!w) {
                free(v);
                return mm_fail(err, MM_ENOMEM, "out of memory");
            }
            v = w;
        }
        v[n++] = (mm_slice){ p, (size_t)(stop - p) - (stop > p && stop[-1] == '\r') };
        p = stop + 1;
    }
    mm_tok_spec s = { .tokens = v,
                      .n = n,
                      .lowercase = lowercase,
                      .strip_accents = lowercase,
                      .chinese = 1,
                      .cls = special_id(v, n, "[CLS]"),
                      .sep = special_id(v, n, "[SEP]"),
                      .unk = special_id(v, n, "[UNK]"),
                      .pad = special_id(v, n, "[PAD]"),
                      .mask = special_id(v, n, "[MASK]") };
    int r = mm_tok_from_spec(out, &s, err);
    free(v);
    return r;
}

/* ---- questions ---- */

size_t mm_tok_vocab(const mm_tok *t) { return t->n; }
const int32_t *mm_tok_prefix(const mm_tok *t, size_t *n) { return *n = t->n_prefix, t->prefix; }
const int32_t *mm_tok_suffix(const mm_tok *t, size_t *n) { return *n = t->n_suffix, t->suffix; }
int32_t mm_tok_role_id(const mm_tok *t, mm_tok_role r) { return t->role[r]; }
int mm_tok_bert_flags(const mm_tok *t) { return t->lower | t->strip << 1 | t->chinese << 2; }

const char *mm_tok_text(const mm_tok *t, int32_t id) { return id >= 0 && (size_t)id < t->n ? t->text[id] : NULL; }

int32_t mm_tok_id(const mm_tok *t, const char *s, size_t len)
{
    uint32_t h = hash(s, len);
    for (size_t i = h & (t->slots - 1); t->start[i].id >= 0; i = (i + 1) & (t->slots - 1)) {
        int32_t id = t->start[i].id;
        if (t->start[i].hash == h && t->len[id] == len && !memcmp(t->text[id], s, len)) return id;
    }
    return -1;
}

uint64_t mm_tok_hash(const mm_tok *t)
{
    uint64_t h = mm_hash64("wordpiece", 9, (uint64_t)mm_tok_bert_flags(t));
    for (size_t i = 0; i < t->n; i++) h = mm_hash64(t->text[i] ? t->text[i] : "", t->len[i], h);
    for (size_t i = 0; i < t->n_add; i++) { /* sorted: the order in the file makes no difference */
        const added *a = &t->add[i];
        const int how[] = { a->id, a->single_word, a->lstrip, a->rstrip, a->normalized };
        h = mm_hash64(a->text, a->len, mm_hash64(how, sizeof how, h));
    }
    h = mm_hash64(t->prefix, t->n_prefix * sizeof *t->prefix, h);
    h = mm_hash64(t->suffix, t->n_suffix * sizeof *t->suffix, h);
    const size_t rest[] = { t->max_chars, (size_t)t->clean };
    return mm_hash64(rest, sizeof rest, h);
}

void mm_tok_out_clear(mm_tok_out *o)
{
    free(o->ids);
    free(o->span);
    free(o->at);
    mm_buf_clear(&o->norm);
    mm_buf_clear(&o->word);
    *o = (mm_tok_out){ 0 };
}

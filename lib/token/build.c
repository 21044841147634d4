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
    t->clean = t->chinese = t->cleanup = 1;
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
    free(t->kind);
    free(t->vocab.tab);
    free(t->cont.tab);
    free(t->names.tab);
    free(t->add);
    free(t);
    *tp = NULL;
}

int tok_put(mm_tok *t, int32_t id, const char *s, size_t len, int kind, mm_err *err)
{
    if (id < 0 || (uint32_t)id >= MAX_VOCAB) return mm_fail(err, MM_EDATA, "token id %d is out of range", id);
    if (len > MAX_TOKEN) return mm_fail(err, MM_EDATA, "token %d is %zu bytes long", id, len);
    if ((size_t)id >= t->cap) { /* grown by doubling; ids mostly come in order */
        size_t cap = t->cap ? t->cap : 1024;
        while (cap <= (size_t)id) cap *= 2;
        const char **text = mm_realloc(t->text, cap, sizeof *text);
        if (text) t->text = text;
        uint32_t *l = mm_realloc(t->len, cap, sizeof *l);
        if (l) t->len = l;
        uint8_t *k = mm_realloc(t->kind, cap, sizeof *k);
        if (k) t->kind = k;
        if (!text || !l || !k) return mm_fail(err, MM_ENOMEM, "out of memory");
        t->cap = cap;
    }
    for (; t->n <= (size_t)id; t->n++) {
        t->text[t->n] = NULL;
        t->len[t->n] = 0;
        t->kind[t->n] = 0;
    }
    if (t->text[id]) return mm_fail(err, MM_EDATA, "two tokens have the id %d", id);
    char *copy = mm_arena_alloc(&t->arena, len + 1, 1);
    if (!copy) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (len) memcpy(copy, s, len);
    copy[len] = 0;
    t->text[id] = copy;
    t->len[id] = (uint32_t)len;
    t->kind[id] = (uint8_t)kind;
    return 0;
}

/* ---- maps ---- */

static uint32_t hash(const char *s, size_t len)
{
    uint32_t h = TOK_SEED;
    for (size_t i = 0; i < len; i++) h = tok_step(h, (unsigned char)s[i]);
    return h;
}

static int map_make(map *m, size_t n, size_t skip, mm_err *err)
{
    m->slots = 64;
    m->skip = skip;
    while (m->slots < 2 * n) m->slots *= 2;
    if (!(m->tab = mm_realloc(NULL, m->slots, sizeof *m->tab))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < m->slots; i++) m->tab[i] = (slot){ 0, -1 };
    return 0;
}

static slot *probe(const mm_tok *t, const map *m, const char *s, size_t len, uint32_t h)
{
    for (size_t i = h & (m->slots - 1);; i = (i + 1) & (m->slots - 1)) {
        slot *x = &m->tab[i];
        if (x->id < 0 ||
            (x->hash == h && t->len[x->id] == len + m->skip && !memcmp(t->text[x->id] + m->skip, s, len)))
            return x;
    }
}

/* of equal texts the later one wins, as in a dictionary that is filled in order */
static void map_put(const mm_tok *t, map *m, int32_t id)
{
    const char *s = t->text[id] + m->skip;
    size_t len = t->len[id] - m->skip;
    uint32_t h = hash(s, len);
    *probe(t, m, s, len, h) = (slot){ h, id };
}

int32_t map_get(const mm_tok *t, const map *m, const char *s, size_t len)
{
    return m->tab ? probe(t, m, s, len, hash(s, len))->id : -1;
}

int tok_index(mm_tok *t, mm_err *err)
{
    int r;
    size_t conts = 0;
    for (size_t i = 0; i < t->n; i++)
        conts += t->text[i] && t->len[i] >= t->cont_len && !memcmp(t->text[i], t->cont_mark, t->cont_len);
    if ((r = map_make(&t->vocab, t->n, 0, err)) || (r = map_make(&t->cont, conts, t->cont_len, err))) return r;
    for (size_t i = 0; i < t->n; i++) {
        if (!t->text[i]) continue;
        map_put(t, &t->vocab, (int32_t)i);
        if (t->len[i] >= t->cont_len && !memcmp(t->text[i], t->cont_mark, t->cont_len))
            map_put(t, &t->cont, (int32_t)i);
        if (t->len[i] > t->longest) t->longest = t->len[i];
    }
    return t->longest > MAX_WORD_TOKEN ? mm_fail(err, MM_EUNSUP, "a token of %zu bytes is too long", t->longest) : 0;
}

/* ---- added tokens ---- */

int tok_add(mm_tok *t, const added *a, mm_err *err)
{
    if (!a->len) return 0;
    int32_t there = map_get(t, &t->vocab, a->text, a->len);
    int r = 0;
    /* The reference takes the vocabulary's id for a text that is in it, whatever the list says, and numbers the
     * others in order: where the list says something else, the file contradicts itself. */
    if (there >= 0 ? there != a->id : (size_t)a->id < t->n && t->text[a->id] && t->kind[a->id] & IN_VOCAB)
        return mm_fail(err, MM_EDATA, "the added token '%s' has the id %d, the vocabulary says otherwise", a->text,
                       a->id);
    int again = there < 0 && (size_t)a->id < t->n && t->text[a->id] && t->len[a->id] == a->len &&
                !memcmp(t->text[a->id], a->text, a->len);
    if (there < 0 && !again && (r = tok_put(t, a->id, a->text, a->len, 0, err))) return r;
    t->kind[a->id] = (uint8_t)((t->kind[a->id] & IN_VOCAB) | ADDED | (a->special ? SPECIAL : 0));
    if (t->n_add == t->cap_add) {
        size_t cap = t->cap_add ? 2 * t->cap_add : 16;
        added *p = mm_realloc(t->add, cap, sizeof *p);
        if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
        t->add = p;
        t->cap_add = cap;
    }
    added *x = &t->add[t->n_add];
    mm_tok_out o = { 0 };
    const char *text = a->text;
    *x = *a;
    x->order = t->n_add;
    if (a->normalized) { /* such a token is looked for in normalised text, in its normalised form */
        if (tok_normalize(t, a->text, a->len, 0, 0, &o)) r = mm_fail(err, MM_ENOMEM, "out of memory");
        text = o.norm.p ? o.norm.p : "";
        x->len = o.norm.len;
    }
    if (!r && !(x->text = mm_arena_strndup(&t->arena, text, x->len))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    mm_tok_out_clear(&o);
    if (!r) t->n_add++;
    return r;
}

static int by_id(const void *a, const void *b)
{
    const added *x = a, *y = b;
    return x->id != y->id ? (x->id < y->id ? -1 : 1) : x->order < y->order ? -1 : 1;
}

static int by_text(const void *a, const void *b)
{
    const added *x = a, *y = b;
    if (x->normalized != y->normalized) return x->normalized - y->normalized;
    int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

int tok_finish(mm_tok *t, mm_err *err)
{
    size_t n = 0;
    int r = map_make(&t->names, t->n_add, 0, err);
    if (r) return r;
    /* of two entries for one token the later holds */
    if (t->n_add) qsort(t->add, t->n_add, sizeof *t->add, by_id);
    for (size_t i = 0; i < t->n_add; i++) {
        if (i + 1 < t->n_add && t->add[i + 1].id == t->add[i].id) continue;
        map_put(t, &t->names, t->add[i].id);
        if (t->add[i].len) t->add[n++] = t->add[i];
    }
    t->n_add = n;
    if (n) qsort(t->add, n, sizeof *t->add, by_text);
    for (size_t i = 1; i < n; i++)
        if (!by_text(&t->add[i - 1], &t->add[i]))
            return mm_fail(err, MM_EDATA, "two added tokens are written '%s'", t->add[i].text);
    size_t i = 0;
    for (int k = 0; k < 2; k++) {
        for (int c = 0; c < 256; c++) {
            t->first[k][c] = (uint32_t)i;
            while (i < n && t->add[i].normalized == k && (unsigned char)t->add[i].text[0] == c) i++;
        }
        t->first[k][256] = (uint32_t)i;
    }
    if (t->role[MM_TOK_UNK] < 0) return mm_fail(err, MM_EDATA, "the vocabulary has no token for unknown words");
    return 0;
}

/* ---- from arrays ---- */

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
        r = b.failed ? mm_fail(err, MM_ENOMEM, "out of memory")
                     : tok_put(t, (int32_t)i, b.p ? b.p : "", b.len, IN_VOCAB, err);
    }
    mm_buf_clear(&b);
    if (!r) r = tok_index(t, err);
    const int32_t id[] = { [MM_TOK_CLS] = s->cls,
                           [MM_TOK_SEP] = s->sep,
                           [MM_TOK_UNK] = s->unk,
                           [MM_TOK_PAD] = s->pad,
                           [MM_TOK_MASK] = s->mask };
    for (int i = 0; i < 5 && !r; i++) {
        t->role[i] = id[i];
        if (id[i] < -1 || (id[i] >= 0 && (size_t)id[i] >= s->n))
            r = mm_fail(err, MM_EDATA, "special token id %d is out of range", id[i]);
        else if (id[i] >= 0)
            r = tok_add(t, &(added){ .text = t->text[id[i]], .len = t->len[id[i]], .id = id[i], .special = 1 }, err);
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
    int32_t id = map_get(t, &t->names, s, len);
    return id >= 0 ? id : map_get(t, &t->vocab, s, len);
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

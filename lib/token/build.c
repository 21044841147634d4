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
    t->cleanup = 1;
    t->suffix = t->decode_mark = "";
    for (int i = 0; i < 5; i++) t->role[i] = -1;
    return 0;
}

void mm_tok_free(mm_tok **tp)
{
    mm_tok *t = *tp;
    if (!t) return;
    mm_arena_clear(&t->arena);
    if (t->key != t->text) {
        free(t->key);
        free(t->key_len);
    }
    free(t->text);
    free(t->len);
    free(t->merges);
    free(t->rank);
    free(t->score);
    free(t->reach);
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

static int map_make(map *m, const char *const *text, const uint32_t *len, size_t n, size_t skip, mm_err *err)
{
    *m = (map){ text, len, NULL, 64, skip };
    while (m->slots < 2 * n) m->slots *= 2;
    if (!(m->tab = mm_realloc(NULL, m->slots, sizeof *m->tab))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < m->slots; i++) m->tab[i] = (slot){ 0, -1 };
    return 0;
}

static slot *probe(const map *m, const char *s, size_t len, uint32_t h)
{
    for (size_t i = h & (m->slots - 1);; i = (i + 1) & (m->slots - 1)) {
        slot *x = &m->tab[i];
        if (x->id < 0 ||
            (x->hash == h && m->len[x->id] == len + m->skip && !memcmp(m->text[x->id] + m->skip, s, len)))
            return x;
    }
}

/* of equal texts the later one wins, as in a dictionary that is filled in order */
static void map_put(map *m, int32_t id)
{
    const char *s = m->text[id] + m->skip;
    size_t len = m->len[id] - m->skip;
    uint32_t h = hash(s, len);
    *probe(m, s, len, h) = (slot){ h, id };
}

int32_t tok_map_get_hash(const map *m, const char *s, size_t len, uint32_t h) { return probe(m, s, len, h)->id; }

int32_t tok_map_get(const map *m, const char *s, size_t len)
{
    return m->tab ? probe(m, s, len, hash(s, len))->id : -1;
}

/* Byte-level tokens are written with a character for each byte: the printable ones of Latin-1 for themselves, the
 * others U+0100 and on in their order (bytes_to_unicode() of GPT-2's encoder). */
long tok_bytes_of(const char *s, size_t len, char *out)
{
    long n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c = (unsigned char)s[i++];
        if (c >= 0x80) { /* two bytes make U+0080 to U+07FF; mm_utf8_get() takes twice as long, and a vocabulary has 10^6 of these */
            if ((c & 0xE0) != 0xC0 || i == len || ((unsigned char)s[i] & 0xC0) != 0x80) return -1;
            c = (c & 0x1F) << 6 | ((unsigned char)s[i++] & 0x3F);
            if (c < 0x80) return -1;
        }
        if ((c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF)) out[n++] = (char)c;
        else if (c >= 0x100 && c <= 0x120) out[n++] = (char)(c - 0x100);
        else if (c >= 0x121 && c <= 0x142) out[n++] = (char)(c - 0x121 + 0x7F);
        else if (c == 0x143) out[n++] = (char)0xAD;
        else return -1;
    }
    return n;
}

static int byte_keys(mm_tok *t, mm_err *err)
{
    t->key = mm_realloc(NULL, t->cap, sizeof *t->key);
    t->key_len = mm_realloc(NULL, t->cap, sizeof *t->key_len);
    if (!t->key || !t->key_len) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        char *p = t->text[i] ? mm_arena_alloc(&t->arena, t->len[i] + 1, 1) : NULL;
        if (t->text[i] && !p) return mm_fail(err, MM_ENOMEM, "out of memory");
        long n = p ? tok_bytes_of(t->text[i], t->len[i], p) : -1;
        t->key[i] = n < 0 ? NULL : p;
        t->key_len[i] = n < 0 ? 0 : (uint32_t)n;
    }
    return 0;
}

static int has_mark(const mm_tok *t, size_t i)
{
    return t->text[i] && t->len[i] >= t->cont_len && !memcmp(t->text[i], t->cont_mark, t->cont_len);
}

int tok_index(mm_tok *t, mm_err *err)
{
    int r;
    size_t conts = 0;
    if (t->byte_level && (r = byte_keys(t, err))) return r;
    const char **key = t->byte_level ? t->key : t->text;
    const uint32_t *len = t->byte_level ? t->key_len : t->len;
    if ((r = map_make(&t->vocab, key, len, t->n, 0, err))) return r;
    for (size_t i = 0; i < t->n; i++) {
        if (!key[i]) continue;
        map_put(&t->vocab, (int32_t)i);
        conts += has_mark(t, i);
        if (len[i] > t->longest) t->longest = len[i];
    }
    if (t->model == MODEL_BPE) return tok_bpe_index(t, err);
    if (t->longest > MAX_WORD_TOKEN) return mm_fail(err, MM_EUNSUP, "a token of %zu bytes is too long", t->longest);
    if (t->model == MODEL_UNIGRAM) return tok_unigram_index(t, err);
    if ((r = map_make(&t->cont, t->text, t->len, conts, t->cont_len, err))) return r;
    for (size_t i = 0; i < t->n; i++)
        if (has_mark(t, i)) map_put(&t->cont, (int32_t)i);
    return 0;
}

/* ---- added tokens ---- */

static int32_t vocab_id(const mm_tok *t, const char *s, size_t len)
{
    char buf[256], *p = buf;
    if (!t->byte_level) return tok_map_get(&t->vocab, s, len);
    if (len > sizeof buf && !(p = malloc(len))) return -1;
    long n = tok_bytes_of(s, len, p);
    int32_t id = n < 0 ? -1 : tok_map_get(&t->vocab, p, (size_t)n);
    if (p != buf) free(p);
    return id;
}

int tok_add(mm_tok *t, const added *a, mm_err *err)
{
    if (!a->len) return 0;
    int32_t there = vocab_id(t, a->text, a->len);
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
        struct mm_tok_scratch *w = tok_scratch(&o);
        if (!w || tok_normalize(t, &(view){ a->text, a->len, NULL, 0 }, w, 0))
            r = mm_fail(err, MM_ENOMEM, "out of memory");
        else {
            text = w->t[0].b.p ? w->t[0].b.p : "";
            x->len = w->t[0].b.len;
        }
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
    int r = map_make(&t->names, t->text, t->len, t->n_add, 0, err);
    if (r) return r;
    /* of two entries for one token the later holds */
    if (t->n_add) qsort(t->add, t->n_add, sizeof *t->add, by_id);
    for (size_t i = 0; i < t->n_add; i++) {
        if (i + 1 < t->n_add && t->add[i + 1].id == t->add[i].id) continue;
        map_put(&t->names, t->add[i].id);
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
    if (t->role[MM_TOK_UNK] < 0 && t->model != MODEL_BPE)
        return mm_fail(err, MM_EDATA, "the vocabulary has no token for unknown words");
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
    t->norm[t->norms++] = (norm){
        .op = NORM_BERT, .clean = 1, .lower = s->lowercase, .strip = s->strip_accents, .chinese = s->chinese
    };
    t->pre[t->pres++] = (pre){ .op = PRE_BERT };
    t->decode = DECODE_WORDPIECE;
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
    if (!r && s->cls >= 0) t->before[t->n_before++] = s->cls;
    if (!r && s->sep >= 0) t->after[t->n_after++] = s->sep;
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
const int32_t *mm_tok_prefix(const mm_tok *t, size_t *n) { return *n = t->n_before, t->before; }
const int32_t *mm_tok_suffix(const mm_tok *t, size_t *n) { return *n = t->n_after, t->after; }
int32_t mm_tok_role_id(const mm_tok *t, mm_tok_role r) { return t->role[r]; }

int mm_tok_bert_flags(const mm_tok *t)
{
    const norm *n = &t->norm[0];
    return t->norms == 1 && n->op == NORM_BERT ? n->lower | n->strip << 1 | n->chinese << 2 : 0;
}

const char *mm_tok_text(const mm_tok *t, int32_t id) { return id >= 0 && (size_t)id < t->n ? t->text[id] : NULL; }

int32_t mm_tok_id(const mm_tok *t, const char *s, size_t len)
{
    int32_t id = tok_map_get(&t->names, s, len);
    return id >= 0 ? id : vocab_id(t, s, len);
}

/* What is not in the arrays that a BERT has */
static uint64_t hash_rest(const mm_tok *t, uint64_t h)
{
    const int how[] = { t->model,         t->byte_level,       t->byte_fallback, t->fuse_unk,
                        t->ignore_merges, t->role[MM_TOK_UNK], t->decode };
    h = mm_hash64(how, sizeof how, h);
    h = mm_hash64(t->suffix, t->suffix_len, mm_hash64(t->cont_mark, t->cont_len, h));
    for (size_t i = 0; i < t->norms; i++) {
        const norm *n = &t->norm[i];
        const int flags[] = { n->op, n->clean, n->chinese, n->strip, n->lower, n->left, n->right };
        h = mm_hash64(n->from, n->from_len, mm_hash64(flags, sizeof flags, h));
        h = mm_hash64(n->to, n->to_len, mm_hash64(n->unit, n->units * sizeof *n->unit, h));
    }
    for (size_t i = 0; i < t->pres; i++) {
        const pre *p = &t->pre[i];
        const int flags[] = { p->op, p->how, p->invert, (int)p->prepend, p->split };
        h = mm_hash64(p->mark, p->mark_len, mm_hash64(p->pattern, p->pattern_len, mm_hash64(flags, sizeof flags, h)));
    }
    uint64_t merges = 0; /* in no order */
    for (size_t i = 0; i < t->merge_slots; i++)
        if (t->merges[i].a != UINT32_MAX) merges += mm_hash64(&t->merges[i], sizeof t->merges[i], 1);
    h = mm_hash64(&merges, sizeof merges, h);
    if (t->rank) h = mm_hash64(t->rank, t->n * sizeof *t->rank, h);
    return t->score ? mm_hash64(t->score, t->n * sizeof *t->score, h) : h;
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
    h = mm_hash64(t->before, t->n_before * sizeof *t->before, h);
    h = mm_hash64(t->after, t->n_after * sizeof *t->after, h);
    int is_bert = t->norms == 1 && t->norm[0].op == NORM_BERT && t->pres == 1 && t->pre[0].op == PRE_BERT;
    const size_t rest[] = { t->max_chars, is_bert ? (size_t)t->norm[0].clean : 0 };
    h = mm_hash64(rest, sizeof rest, h);
    return is_bert && t->model == MODEL_WORDPIECE ? h : hash_rest(t, h);
}

struct mm_tok_scratch *tok_scratch(mm_tok_out *o)
{
    if (!o->scratch) o->scratch = calloc(1, sizeof *o->scratch);
    return o->scratch;
}

void *tok_work(struct mm_tok_scratch *w, size_t n, size_t size)
{
    size_t want;
    if (mm_mul(n, size, &want)) return NULL;
    if (want > w->work_cap) {
        free(w->work);
        w->work_cap = 0;
        if (!(w->work = mm_realloc(NULL, want + want / 2 + 1024, 1))) return NULL;
        w->work_cap = want + want / 2 + 1024;
    }
    return w->work;
}

void mm_tok_out_clear(mm_tok_out *o)
{
    struct mm_tok_scratch *w = o->scratch;
    free(o->ids);
    free(o->span);
    for (int i = 0; i < 3 && w; i++) {
        mm_buf_clear(&w->t[i].b);
        free(w->t[i].at);
    }
    if (w) {
        free(w->x[0].p);
        free(w->x[1].p);
        free(w->work);
    }
    free(w);
    *o = (mm_tok_out){ 0 };
}

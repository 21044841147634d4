/* Pruning of the bert family: layers, channels, heads, positions and tokens that matter least are left out, and the tensors cut to what
 * remains. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_file.h"
#include "base/mm_str.h"
#include "quant/quant_int.h"

enum { MOST_LAYERS = 1024 };

typedef struct {
    int64_t layers, ffn, heads, positions, vocab; /* 0: not named */
    int64_t block[MOST_LAYERS];
    size_t n_blocks;
    char *file; /* of vocab, malloc'ed */
} spec;

/* Places of rows or columns that are kept, ascending */
typedef struct {
    size_t *at, n;
} picks;

struct prune {
    spec s;
    mm_tower_config was;
    picks *ffn, *heads, *qkv; /* [kept layers]; channels, channels of heads, the same in q, k and v of one tensor */
    picks rows, tokens;
};

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* ---- the list ---- */

static int whole(const char *s, size_t n, int64_t *v)
{
    *v = 0;
    if (!n || n > 12) return 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return 0;
        *v = 10 * *v + (s[i] - '0');
    }
    return 1;
}

static int block_list(spec *s, const char *p, size_t n, const mm_tower_config *c, mm_err *err)
{
    for (const char *end = p + n, *q; p <= end; p = q + 1) {
        int64_t v;
        q = memchr(p, '+', (size_t)(end - p));
        if (!q) q = end;
        if (!whole(p, (size_t)(q - p), &v) || v >= c->layers || (s->n_blocks && v <= s->block[s->n_blocks - 1]) || s->n_blocks == MOST_LAYERS)
            return mm_fail(err, MM_EARG, "prune: 'blocks=%.*s' should be numbers of layers from 0 to %lld, ascending, as in 0+2", (int)n, end - n,
                           (long long)c->layers - 1);
        s->block[s->n_blocks++] = v;
    }
    return 0;
}

/* FILE:N */
static int vocab_word(spec *s, const char *p, size_t n, mm_err *err)
{
    size_t k = n;
    while (k && p[k - 1] != ':') k--;
    if (k < 2 || !whole(p + k, n - k, &s->vocab) || !s->vocab)
        return mm_fail(err, MM_EARG, "prune: 'vocab=%.*s' should be a file of texts and a number of tokens, as in texts.txt:6000", (int)n, p);
    s->file = strndup(p, k - 1);
    return s->file ? 0 : no_memory(err);
}

static int parse(spec *s, const char *list, const mm_tower_config *c, mm_err *err)
{
    struct {
        const char *name;
        int64_t *v, most;
    } number[] = { { "layers", &s->layers, c->layers }, { "ffn", &s->ffn, c->ff_width }, { "heads", &s->heads, c->heads },
                   { "positions", &s->positions, c->positions } };
    int r = 0;
    for (const char *p = list; !r; ) {
        const size_t n = strcspn(p, ","), name = strcspn(p, "=,");
        const char *v = p + name + 1;
        const size_t len = name < n ? n - name - 1 : 0;
        size_t i = 0;
        while (i < 4 && (strlen(number[i].name) != name || memcmp(number[i].name, p, name))) i++;
        int twice = i < 4 ? *number[i].v != 0 : name == 5 && !memcmp(p, "vocab", 5) ? s->vocab != 0 : s->n_blocks != 0;
        if (i == 4 && !(name == 6 && !memcmp(p, "blocks", 6)) && !(name == 5 && !memcmp(p, "vocab", 5)))
            return mm_fail(err, MM_EARG, "prune: '%.*s' should begin with one of layers=, blocks=, ffn=, heads=, positions=, vocab=", (int)n, p);
        if (twice) return mm_fail(err, MM_EARG, "prune: '%.*s' is named twice", (int)name, p);
        if (i < 4 && (!whole(v, len, number[i].v) || *number[i].v < (i == 3 ? 3 : 1) || *number[i].v > number[i].most))
            return mm_fail(err, MM_EARG, "prune: '%.*s' should be a number from %d to %lld, which the model has", (int)n, p, i == 3 ? 3 : 1,
                           (long long)number[i].most);
        if (i == 4) r = name == 6 ? block_list(s, v, len, c, err) : vocab_word(s, v, len, err);
        if (!p[n]) break;
        p += n + 1;
    }
    if (!r && s->layers && s->n_blocks) r = mm_fail(err, MM_EARG, "prune: 'layers' and 'blocks' cannot be named together");
    return r;
}

/* ---- what matters ---- */

static const struct out *named(const job *j, int64_t layer, const char *part)
{
    char name[96];
    snprintf(name, sizeof name, "blk.%lld.%s", (long long)layer, part);
    for (size_t i = 0; i < j->n; i++)
        if (!strcmp(j->out[i].name, name)) return &j->out[i];
    return NULL;
}

static int cannot_be_cut(const mm_store_tensor *t, mm_err *err)
{
    return mm_fail(err, MM_EUNSUP, "tensor '%s' has type %s, which cannot be cut", t->name, mm_dtype_get(t->type)->name);
}

/* A matrix as float32 from malloc; the model has been loaded, so that there is one of this shape. */
static int values(float **to, const struct out *o, size_t rows, size_t cols, mm_err *err)
{
    if (!readable(o->t->type)) return cannot_be_cut(o->t, err);
    float *x = *to = mm_aligned(rows * cols, sizeof *x);
    if (!x) return no_memory(err);
    for (size_t i = 0; i < rows; i++)
        read_row(mm_kern_get(), x + i * cols, (const char *)o->t->data + i * (o->t->bytes / rows), o->t->type, cols);
    return 0;
}

/* sq[i] += squares of row i, or of column i, of x [rows, cols] */
static void squares(double *sq, const float *x, size_t rows, size_t cols, int columns)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < cols; k++) sq[columns ? k : i] += (double)x[i * cols + k] * (double)x[i * cols + k];
}

typedef struct {
    double score;
    size_t at;
} ranked;

static int better_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_place(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

/* The `keep` groups of `wide` that have the largest sum of a times that of b (squared norms of what leads in and out), as places. */
static int best(job *j, const double *a, const double *b, size_t n, size_t wide, size_t keep, picks *p)
{
    const size_t groups = n / wide;
    ranked *r = mm_realloc(NULL, groups, sizeof *r);
    p->at = mm_arena_alloc(&j->arena, keep * wide, sizeof *p->at);
    if (!r || !p->at) return free(r), MM_ENOMEM;
    for (size_t i = 0; i < groups; i++) {
        double in = 0, out = 0;
        for (size_t k = 0; k < wide; k++) in += a[i * wide + k], out += b[i * wide + k];
        r[i] = (ranked){ in * out, i };
    }
    qsort(r, groups, sizeof *r, better_first);
    for (size_t i = 0; i < keep; i++)
        for (size_t k = 0; k < wide; k++) p->at[i * wide + k] = r[i].at * wide + k;
    p->n = keep * wide;
    qsort(p->at, p->n, sizeof *p->at, by_place);
    free(r);
    return 0;
}

/* Of a layer's two matrices, [n, width] in and [width, n] out: which of n. */
static int choose_of(job *j, const float *in, const float *out, size_t n, size_t width, size_t wide, size_t keep, picks *p, mm_err *err)
{
    double *a = calloc(2 * n, sizeof *a);
    int r = a ? 0 : no_memory(err);
    if (!r) {
        squares(a, in, n, width, 0);
        squares(a + n, out, width, n, 1);
        if (best(j, a, a + n, n, wide, keep, p)) r = no_memory(err);
    }
    free(a);
    return r;
}

static int choose_channels(prune *p, job *j, size_t i, mm_err *err)
{
    const size_t w = (size_t)p->was.width, n = (size_t)p->was.ff_width;
    float *up = NULL, *down = NULL;
    int r = values(&up, named(j, p->s.block[i], "ffn_up.weight"), n, w, err);
    if (!r) r = values(&down, named(j, p->s.block[i], "ffn_down.weight"), w, n, err);
    if (!r) r = choose_of(j, up, down, n, w, 1, (size_t)p->s.ffn, &p->ffn[i], err);
    free(up);
    free(down);
    return r;
}

static int choose_heads(prune *p, job *j, size_t i, mm_err *err)
{
    const size_t w = (size_t)p->was.width, q = (size_t)(p->was.heads * p->was.head_dim);
    const struct out *all = named(j, p->s.block[i], "attn_qkv.weight");
    picks *h = &p->heads[i];
    float *v = NULL, *o = NULL;
    int r = values(&v, all ? all : named(j, p->s.block[i], "attn_v.weight"), all ? 3 * q : q, w, err);
    if (!r) r = values(&o, named(j, p->s.block[i], "attn_output.weight"), w, q, err);
    if (!r) r = choose_of(j, v + (all ? 2 * q * w : 0), o, q, w, (size_t)p->was.head_dim, (size_t)p->s.heads, h, err);
    if (!r && !(p->qkv[i].at = mm_arena_alloc(&j->arena, 3 * h->n, sizeof *h->at))) r = no_memory(err);
    p->qkv[i].n = 3 * h->n;
    for (size_t k = 0; k < 3 * h->n && !r; k++) p->qkv[i].at[k] = k / h->n * q + h->at[k % h->n];
    free(v);
    free(o);
    return r;
}

/* ---- the vocabulary ---- */

/* The first character of s, of n bytes; s is valid UTF-8. */
static uint32_t character(const char *s, size_t *n)
{
    const uint8_t b = (uint8_t)*s;
    *n = b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    uint32_t u = *n == 1 ? b : b & (0x7Fu >> *n);
    for (size_t k = 1; k < *n; k++) u = u << 6 | ((uint8_t)s[k] & 0x3F);
    return u & 0x1FFFFF;
}

enum { CHARACTERS = 0x200000 };

/* Which characters the file's words have, as the tokenizer sees them */
static int see_word(void *seen, const char *word, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) ((uint8_t *)seen)[character(word + i, &n)] = 1;
    return 0;
}

static int count_file(const prune *p, const mm_tok *tok, double *count, uint8_t *seen, mm_err *err)
{
    mm_buf text = { 0 };
    mm_tok_out o = { 0 };
    size_t number = 0;
    int r = mm_file_read(&text, p->s.file, (size_t)4 << 30, err);
    for (const char *s = text.p, *end = text.p + text.len, *q; !r && s < end; s = q + 1) {
        q = memchr(s, '\n', (size_t)(end - s));
        if (!q) q = end;
        number++;
        r = mm_tok_encode(tok, s, (size_t)(q - s), 0, &o, err);
        for (size_t i = 0; i < o.n && !r; i++) count[o.ids[i]]++;
        if (!r) r = mm_tok_words(tok, s, (size_t)(q - s), see_word, seen, &o, err);
        if (r) mm_err_prefix(err, "'%s', line %zu: ", p->s.file, number);
    }
    mm_tok_out_clear(&o);
    mm_buf_clear(&text);
    return r;
}

/* "a" or "##a", of a character that is ASCII or was seen */
static int is_letter(const char *s, const uint8_t *seen)
{
    size_t n;
    if (s[0] == '#' && s[1] == '#' && s[2]) s += 2;
    const uint32_t u = character(s, &n);
    return u && strlen(s) == n && (u < 0x80 || seen[u]);
}

static int choose_tokens(prune *p, job *j, const mm_tok *tok, mm_err *err)
{
    const size_t n = mm_tok_vocab(tok);
    double *count = calloc(n + 1, sizeof *count);
    uint8_t *seen = calloc(CHARACTERS, 1);
    ranked *rank = mm_realloc(NULL, n + 1, sizeof *rank);
    int32_t *keep = mm_arena_alloc(&j->arena, (size_t)p->s.vocab, sizeof *keep);
    p->tokens.at = mm_arena_alloc(&j->arena, (size_t)p->s.vocab, sizeof *p->tokens.at);
    int r = count && seen && rank && keep && p->tokens.at ? 0 : no_memory(err);
    if (!r && p->s.vocab > (int64_t)n)
        r = mm_fail(err, MM_EARG, "prune: the vocabulary has %zu tokens, fewer than 'vocab=...:%lld'", n, (long long)p->s.vocab);
    if (!r) r = count_file(p, tok, count, seen, err);
    size_t must = 0, some = 0;
    for (size_t i = 0; i < n && !r; i++) {
        const char *s = mm_tok_text(tok, (int32_t)i);
        int special = 0;
        for (int k = MM_TOK_CLS; k <= MM_TOK_MASK; k++) special |= mm_tok_role_id(tok, (mm_tok_role)k) == (int32_t)i;
        const int letter = s && !special && is_letter(s, seen);
        must += special || letter;
        some += special || letter || count[i] > 0;
        rank[i] = (ranked){ special ? 1e300 : letter ? 1e200 : count[i], i };
    }
    if (!r && must > (size_t)p->s.vocab)
        r = mm_fail(err, MM_EARG, "prune: 'vocab=%s:%lld' is below the %zu tokens that are special or characters", p->s.file, (long long)p->s.vocab, must);
    if (!r) {
        qsort(rank, n, sizeof *rank, better_first);
        p->tokens.n = some < (size_t)p->s.vocab ? some : (size_t)p->s.vocab;
        for (size_t i = 0; i < p->tokens.n; i++) p->tokens.at[i] = rank[i].at;
        qsort(p->tokens.at, p->tokens.n, sizeof *p->tokens.at, by_place);
        for (size_t i = 0; i < p->tokens.n; i++) keep[i] = (int32_t)p->tokens.at[i];
        j->tokens = keep;
        j->n_tokens = p->tokens.n;
    }
    free(count);
    free(seen);
    free(rank);
    return r;
}

/* ---- the plan ---- */

static void choose_blocks(spec *s, const mm_tower_config *c)
{
    if (s->n_blocks) return;
    s->n_blocks = (size_t)(s->layers ? s->layers : c->layers);
    const int64_t n = (int64_t)s->n_blocks, gaps = n - 1, last = c->layers - 1;
    for (int64_t i = 0; i < n; i++) s->block[i] = gaps ? (i * last + gaps / 2) / gaps : last;
}

int prune_plan(prune **out, job *j, const mm_model *m, mm_tower_config *c, mm_err *err)
{
    prune *p = *out = calloc(1, sizeof *p);
    if (!p) return no_memory(err);
    spec *s = &p->s;
    int r = parse(s, j->o->prune, c, err);
    if (r) return r;
    p->was = *c;
    choose_blocks(s, c);
    if (s->vocab && (r = choose_tokens(p, j, mm_model_tokenizer(m), err))) return r;
    if (s->positions) {
        p->rows.n = (size_t)s->positions;
        if (!(p->rows.at = mm_arena_alloc(&j->arena, p->rows.n, sizeof *p->rows.at))) return no_memory(err);
        for (size_t i = 0; i < p->rows.n; i++) p->rows.at[i] = i;
        c->positions = s->positions;
        if (c->window > c->positions - c->pos_offset) c->window = c->positions - c->pos_offset;
    }
    if (s->vocab) c->vocab = (int64_t)j->n_tokens;
    if (s->ffn) c->ff_width = s->ffn;
    if (s->heads) c->heads = c->kv_heads = s->heads;
    c->layers = (int64_t)s->n_blocks;
    return 0;
}

/* ---- the tensors ---- */

/* Only these rows and columns of a tensor (NULL: all), as float32 */
static int cut(job *j, struct out *o, const picks *rows, const picks *cols, mm_err *err)
{
    const mm_store_tensor *t = o->t;
    const int vector = t->ndim < 2;
    const size_t have_cols = t->ndim ? (size_t)t->shape[t->ndim - 1] : 1, have_rows = vector ? 1 : (size_t)t->shape[0];
    const size_t n = rows && !vector ? rows->n : have_rows, m = vector && rows ? rows->n : cols ? cols->n : have_cols;
    const picks *of_row = vector ? rows : cols;
    if (!readable(t->type)) return cannot_be_cut(t, err);
    float *to = mm_arena_alloc(&j->arena, n * m, sizeof *to), *row = mm_aligned(have_cols, sizeof *row);
    if (!to || !row) return free(row), no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const size_t from = rows && !vector ? rows->at[i] : i;
        read_row(mm_kern_get(), row, (const char *)t->data + from * (t->bytes / have_rows), t->type, have_cols);
        for (size_t k = 0; k < m; k++) to[i * m + k] = row[of_row ? of_row->at[k] : k];
    }
    free(row);
    mm_store_release(j->st, t);
    o->folded = *t;
    o->folded.type = MM_F32;
    o->folded.data = to;
    o->folded.bytes = n * m * sizeof *to;
    o->folded.ndim = vector ? 1 : 2;
    o->folded.shape[0] = (int64_t)(vector ? m : n);
    if (!vector) o->folded.shape[1] = (int64_t)m;
    o->t = &o->folded;
    o->own = 1;
    return 0;
}

static int cut_layer(const prune *p, job *j, struct out *o, size_t i, const char *part, mm_err *err)
{
    static const char *const qkv[] = { "attn_q.", "attn_k.", "attn_v." };
    const picks *ffn = p->s.ffn ? &p->ffn[i] : NULL, *heads = p->s.heads ? &p->heads[i] : NULL;
    if (ffn && !strncmp(part, "ffn_up.", 7)) return cut(j, o, ffn, NULL, err);
    if (ffn && !strcmp(part, "ffn_down.weight")) return cut(j, o, NULL, ffn, err);
    if (heads && !strcmp(part, "attn_output.weight")) return cut(j, o, NULL, heads, err);
    if (heads && !strncmp(part, "attn_qkv.", 9)) return cut(j, o, &p->qkv[i], NULL, err);
    for (int k = 0; heads && k < 3; k++)
        if (!strncmp(part, qkv[k], 7)) return cut(j, o, heads, NULL, err);
    return 0;
}

int prune_tensors(prune *p, job *j, mm_err *err)
{
    const size_t layers = p->s.n_blocks;
    picks *all = mm_arena_zalloc(&j->arena, 3 * layers, sizeof *all);
    size_t n = 0;
    int r = all ? 0 : no_memory(err);
    p->ffn = all;
    p->heads = all + layers;
    p->qkv = all + 2 * layers;
    for (size_t i = 0; i < layers && !r; i++) {
        if (p->s.ffn) r = choose_channels(p, j, i, err);
        if (p->s.heads && !r) r = choose_heads(p, j, i, err);
    }
    for (size_t i = 0; i < j->n && !r; i++) {
        struct out o = j->out[i];
        char *part;
        long l = strncmp(o.name, "blk.", 4) ? -1 : strtol(o.name + 4, &part, 10);
        if (o.t == &j->out[i].folded) o.t = &o.folded;
        if (l >= 0) {
            size_t k = 0;
            while (k < layers && p->s.block[k] != l) k++;
            if (k == layers || *part != '.') continue;
            mm_buf name = { 0 };
            mm_buf_addf(&name, "blk.%zu%s", k, part);
            o.name = name.failed ? NULL : mm_arena_strndup(&j->arena, name.p, name.len);
            r = o.name ? cut_layer(p, j, &o, k, part + 1, err) : no_memory(err);
            mm_buf_clear(&name);
        }
        if (!r && p->s.vocab && !strcmp(o.name, "token_embd.weight")) r = cut(j, &o, &p->tokens, NULL, err);
        if (!r && p->s.positions && !strcmp(o.name, "position_embd.weight")) r = cut(j, &o, &p->rows, NULL, err);
        j->out[n] = o;
        if (o.t == &o.folded) j->out[n].t = &j->out[n].folded;
        n++;
    }
    j->n = n;
    return r;
}

void prune_free(prune *p)
{
    if (p) free(p->s.file);
    free(p);
}

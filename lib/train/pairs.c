/* Pairs of texts: read, drawn, and what a teacher makes of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_file.h"
#include "graph/mm_tape.h"
#include "train/pairs.h"

enum { BUCKET = 12 };        /* steps whose texts are sorted by length together */
enum { STREAM_TEXT = 0x7478 };

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static int take_pair(mm_pairs *x, const char *line, size_t len, size_t number, mm_err *err)
{
    char where[64];
    snprintf(where, sizeof where, "line %zu", number);
    json_t *j = mm_json_load(line, len, where, err);
    if (!j) return MM_EDATA;
    const json_t *text = json_object_get(j, "text"), *en = json_object_get(j, "en"), *w = json_object_get(j, "weight");
    const char *kind = json_string_value(json_object_get(j, "kind"));
    if (!en) en = json_object_get(j, "text2");
    if (!en) en = text;
    int r = json_is_string(text) && json_is_string(en) && (!w || (json_is_number(w) && json_number_value(w) >= 0))
                ? 0 : mm_fail(err, MM_EDATA, "%s: \"text\", \"en\" and \"weight\" should be two texts and a number of 0 or more", where);
    if (!r && x->n % 4096 == 0) {
        mm_text_pair *p = mm_realloc(x->p, x->n + 4096, sizeof *p);
        if (p) x->p = p;
        else r = no_memory(err);
    }
    if (!r) {
        mm_text_pair *p = &x->p[x->n];
        p->len = json_string_length(text);
        p->en_len = json_string_length(en);
        p->text = mm_arena_strndup(&x->text, json_string_value(text), p->len);
        p->en = mm_arena_strndup(&x->text, json_string_value(en), p->en_len);
        p->weight = w ? (float)json_number_value(w) : 1;
        p->kind = kind && !strcmp(kind, "name") ? MM_TEXT_NAME : kind && !strcmp(kind, "word") ? MM_TEXT_WORD : MM_TEXT_SENTENCE;
        if (p->text && p->en) x->n++;
        else r = no_memory(err);
    }
    json_decref(j);
    return r;
}

static int read_file(mm_pairs *x, const char *path, mm_err *err)
{
    mm_buf b = { 0 };
    size_t number = 0, before = x->n;
    int r = mm_file_read(&b, path, (size_t)4 << 30, err);
    for (const char *p = b.p, *end = b.p + b.len, *q; !r && p < end; p = q + 1) {
        q = memchr(p, '\n', (size_t)(end - p));
        if (!q) q = end;
        number++;
        if (q > p) r = take_pair(x, p, (size_t)(q - p), number, err);
    }
    mm_buf_clear(&b);
    if (r) mm_err_prefix(err, "%s: ", path);
    return !r && x->n == before ? mm_fail(err, MM_EDATA, "%s: no pair of texts", path) : r;
}

int mm_pairs_read_all(mm_pairs *x, const mm_train_opts *o, mm_err *err)
{
    int r = 0;
    for (size_t i = 0; i < o->n_pairs && !r; i++) {
        r = read_file(x, o->pairs[i], err);
        if (i == 0) x->first = x->n;
    }
    return r;
}

/* A token of letters alone that begins a word. */
static int is_word(const char *s, size_t len)
{
    size_t i = 0;
    while (i < len && ((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z'))) i++;
    return len >= 3 && i == len;
}

int mm_pairs_known(mm_pairs *out, const mm_dataset *d, const mm_tok *tok, size_t most, mm_err *err)
{
    const mm_example *e;
    size_t all = 0;
    mm_buf b = { 0 };
    while (mm_dataset_example(d, all)) all++;
    mm_text_pair *p = out->p = mm_realloc(NULL, most + all + 1, sizeof *p);
    int r = p ? 0 : no_memory(err);
    for (size_t i = 0; !r && (e = mm_dataset_example(d, i)); i++) {
        const mm_caption *c = mm_dataset_caption(d, e->caption);
        if (e->n_captions && e->split == MM_TRAIN) /* together a third as often as the words */
            p[out->n++] = (mm_text_pair){ c->p, c->len, c->p, c->len, (float)most / (3 * (float)all), MM_TEXT_WORD };
    }
    most += out->n;
    for (size_t id = 0; id < mm_tok_vocab(tok) && out->n < most && !r; id++) {
        mm_buf_reset(&b);
        if ((r = mm_tok_piece(tok, (int32_t)id, &b, err)) || !b.len || b.p[0] != ' ' || !is_word(b.p + 1, b.len - 1)) continue;
        const size_t len = b.len - 1;
        const char *text = mm_arena_strndup(&out->text, b.p + 1, len);
        if (!text) r = no_memory(err);
        else p[out->n++] = (mm_text_pair){ text, len, text, len, 1, MM_TEXT_WORD };
    }
    mm_buf_clear(&b);
    return r;
}

void mm_pairs_clear(mm_pairs *x)
{
    mm_arena_clear(&x->text);
    free(x->p);
    x->p = NULL;
}

int mm_distil_open(mm_model **m, mm_teacher **t, const mm_train_opts *o, mm_err *err)
{
    mm_model_opts mo = MM_MODEL_OPTS_INIT;
    mm_buf cache = { 0 };
    char *path;
    mo.threads = o->threads;
    int r = mm_store_resolve(&path, o->distil, err);
    if (r) return r;
    r = mm_model_open(m, path, &mo, err);
    free(path);
    if (!r && mm_buf_addf(&cache, "%s%s.teacher", o->cache ? o->cache : o->output, o->cache ? "" : ".cache")) r = no_memory(err);
    if (!r) r = mm_teacher_open(t, *m, cache.p, err);
    mm_buf_clear(&cache);
    return r;
}

typedef struct {
    size_t len;
    uint32_t i;
} drawn;

static int by_length(const void *a, const void *b)
{
    const drawn *x = a, *y = b;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : x->i < y->i ? -1 : x->i > y->i;
}

int mm_pairs_draw(mm_arena *a, const double *sum, size_t n_pairs, const size_t *off, uint64_t seed, uint64_t step, size_t n, uint32_t *pick)
{
    const size_t all = n * BUCKET;
    uint64_t window = step / BUCKET, at = mm_rng_permute(step % BUCKET, BUCKET, mm_rng_mix(seed ^ (window + 1) * STREAM_TEXT));
    drawn *d = mm_arena_alloc(a, all, sizeof *d);
    if (!d) return MM_ENOMEM;
    for (size_t i = 0; i < all; i++) {
        mm_rng r = mm_rng_at(seed, STREAM_TEXT, window, i);
        size_t lo = mm_rng_weighted(&r, sum, n_pairs);
        d[i] = (drawn){ off[lo + 1] - off[lo], (uint32_t)lo };
    }
    qsort(d, all, sizeof *d, by_length);
    for (size_t i = 0; i < n; i++) pick[i] = d[at * n + i].i;
    return 0;
}

float *mm_likeness(mm_graph *g, const float *a, size_t n, const float *b, size_t m, size_t d, float scale)
{
    static const float zero = 0;
    mm_graph plain = *g;
    plain.tape = NULL;
    mm_tensor y = mm_op_similarity(&plain, mm_tensor_of(a, n, d), mm_tensor_of(b, m, d), mm_tensor_of(&zero, 1, 1), NULL);
    g->failed |= plain.failed;
    if (!y.p) return NULL;
    for (size_t i = 0; i < n * m; i++) y.p[i] *= scale;
#pragma omp parallel for num_threads(g->threads) schedule(static)
    for (size_t i = 0; i < n; i++) g->kern->softmax(y.p + i * m, 1, m, m);
    return y.p;
}

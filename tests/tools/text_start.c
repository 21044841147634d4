/* text_start [OPTION=VALUE]... TEACHER CACHE OUT < pairs: the closed-form text start from JSON lines
 * {"text":..,"en":..,"weight":1,"kind":"name"|"sentence"|"word"} (en: as text; weight: 1; kind: sentence): writes OUT.json (a tokenizer)
 * and OUT.safetensors: table [vocab, dim], rotation [dim, dim] (rows are axes), mean and var [dim]. One JSON line of figures on stdout.
 * Options: vocab words (0 gpt2, 1 o200k, 2 bert) dim lambda iterations threads mean precondition longest window; tokenizer=FILE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mm_base.h"
#include "store/mm_store.h"
#include "train/mm_text_start.h"

static mm_err err;
static double started;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(int r)
{
    if (!r) return;
    fprintf(stderr, "text_start: %s\n", err.msg);
    exit(3);
}

static int progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    double *last = arg, t = now();
    if (t - *last < 5 && done != total) return 0;
    *last = t;
    fprintf(stderr, "%7.1f s %-8s %llu of %llu\n", t - started, what, (unsigned long long)done, (unsigned long long)total);
    return 0;
}

static mm_arena arena;
static mm_text_pair *pairs;
static size_t n, cap;

static void take(const char *line, size_t len)
{
    json_t *j = mm_json_load(line, len, "a pair", &err), *en = json_object_get(j, "en"), *w = json_object_get(j, "weight");
    const json_t *text = json_object_get(j, "text");
    const char *kind = json_string_value(json_object_get(j, "kind"));
    mm_text_kind k = !kind ? MM_TEXT_SENTENCE : !strcmp(kind, "name") ? MM_TEXT_NAME : !strcmp(kind, "word") ? MM_TEXT_WORD : MM_TEXT_SENTENCE;
    if (!en) en = json_object_get(j, "text");
    if (!json_is_string(text) || !json_is_string(en)) check(err.code ? err.code : mm_fail(&err, MM_EDATA, "line %zu has no text", n + 1));
    if (n == cap && !(pairs = mm_realloc(pairs, cap = 2 * cap + 4096, sizeof *pairs))) exit(4);
    pairs[n++] = (mm_text_pair){ mm_arena_strndup(&arena, json_string_value(text), json_string_length(text)), json_string_length(text),
                                 mm_arena_strndup(&arena, json_string_value(en), json_string_length(en)), json_string_length(en),
                                 w ? (float)json_number_value(w) : 1, k };
    json_decref(j);
}

static void save(const mm_text_start *s, const char *out)
{
    char name[4096];
    mm_outfile f;
    mm_st_writer *w;
    int64_t d = (int64_t)s->pca.dim, table[2] = { (int64_t)s->vocab, (int64_t)s->dim }, square[2] = { d, d };
    snprintf(name, sizeof name, "%s.json", out);
    check(mm_outfile_open(&f, name, &err));
    check(mm_outfile_write(&f, s->tokenizer.p, s->tokenizer.len, &err));
    check(mm_outfile_commit(&f, &err));
    snprintf(name, sizeof name, "%s.safetensors", out);
    check(mm_st_create(&w, name, NULL, &err));
    mm_st_tensor(w, "table", MM_F32, 2, table);
    mm_st_tensor(w, "rotation", MM_F32, 2, square);
    mm_st_tensor(w, "mean", MM_F32, 1, square);
    mm_st_tensor(w, "var", MM_F32, 1, square);
    check(mm_st_begin(w, &err));
    check(mm_st_data(w, s->table, s->vocab * s->dim * sizeof(float), &err));
    check(mm_st_data(w, s->pca.rot, s->pca.dim * s->pca.dim * sizeof(float), &err));
    check(mm_st_data(w, s->pca.mean, s->pca.dim * sizeof(float), &err));
    check(mm_st_data(w, s->pca.var, s->pca.dim * sizeof(float), &err));
    check(mm_st_commit(&w, &err));
}

static void option(mm_text_start_opts *o, mm_buf *tokenizer, const char *s)
{
    double v = strtod(strchr(s, '=') + 1, NULL);
    if (!strncmp(s, "vocab=", 6)) o->bpe.vocab = (size_t)v;
    else if (!strncmp(s, "words=", 6)) o->bpe.words = (mm_bpe_words)v;
    else if (!strncmp(s, "longest=", 8)) o->bpe.longest = (size_t)v;
    else if (!strncmp(s, "dim=", 4)) o->dim = (size_t)v;
    else if (!strncmp(s, "window=", 7)) o->window = (size_t)v;
    else if (!strncmp(s, "threads=", 8)) o->threads = (int)v;
    else if (!strncmp(s, "lambda=", 7)) o->table.lambda = (float)v;
    else if (!strncmp(s, "iterations=", 11)) o->table.iterations = (int)v;
    else if (!strncmp(s, "mean=", 5)) o->table.rows = v > 0 ? MM_TABLE_MEAN : MM_TABLE_SQRT;
    else if (!strncmp(s, "precondition=", 13)) o->table.precondition = v > 0;
    else if (!strncmp(s, "tokenizer=", 10)) {
        check(mm_file_read(tokenizer, s + 10, 1 << 26, &err));
        o->tokenizer = tokenizer;
    } else {
        fprintf(stderr, "text_start: what is '%s'?\n", s);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    mm_text_start_opts o = MM_TEXT_START_OPTS_INIT;
    mm_model_opts mo = MM_MODEL_OPTS_INIT;
    mm_text_start s;
    mm_model *m;
    mm_teacher *t;
    mm_buf tokenizer = { 0 };
    char *line = NULL, *path;
    size_t line_cap = 0;
    ssize_t len;
    double last = started = now();
    int a = 1;
    for (; a < argc && strchr(argv[a], '='); a++) option(&o, &tokenizer, argv[a]);
    if (argc - a != 3) {
        fprintf(stderr, "usage: text_start [OPTION=VALUE]... TEACHER CACHE OUT < pairs\n");
        return 2;
    }
    while ((len = getline(&line, &line_cap, stdin)) > 0) take(line, (size_t)len);
    free(line);
    mo.threads = o.threads;
    o.progress = progress;
    o.arg = &last;
    check(mm_store_resolve(&path, argv[a], &err));
    check(mm_model_open(&m, path, &mo, &err));
    check(mm_teacher_open(&t, m, argv[a + 1], &err));
    check(mm_text_start_make(&s, t, pairs, n, &o, &err));
    save(&s, argv[a + 2]);
    printf("{\"pairs\":%zu,\"targets\":%zu,\"tokens\":%zu,\"vocab\":%zu,\"dim\":%zu,\"residual\":%.3g,\"cosine\":%.4f,\"seconds\":%.1f}\n",
           s.texts, s.targets, s.tokens, s.vocab, s.dim, s.residual, s.cosine, now() - started);
    mm_text_start_clear(&s);
    mm_teacher_close(&t);
    mm_model_close(&m);
    mm_buf_clear(&tokenizer);
    mm_arena_clear(&arena);
    free(pairs);
    free(path);
    return 0;
}

/* The text start: a learned tokenizer against its definition, the token table against a dense solve, eigenvectors against what they are,
 * the teacher's cache against kills and torn ends, all together on a tiny teacher. */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include "model/mm_model.h"
#include "tap.h"
#include "tinybert.h"
#include "token/mm_token.h"
#include "train/mm_text_start.h"

static char top[256];

static const char *at(const char *name)
{
    static char path[4][400];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", top, name);
    return path[k];
}

/* ---- the tokenizer ---- */

static mm_bpe_text text(const char *s, float weight) { return (mm_bpe_text){ s, strlen(s), weight }; }

static mm_buf learn(const mm_bpe_text *x, size_t n, size_t vocab, mm_bpe_words words)
{
    mm_bpe_opts o = MM_BPE_OPTS_INIT;
    mm_buf json = { 0 };
    o.vocab = vocab;
    o.words = words;
    check(mm_bpe_train(&json, x, n, &o, &err));
    return json;
}

static const char *tokens_of(const mm_buf *json, const char *s)
{
    static char out[1024];
    mm_tok *tok;
    mm_tok_out o = { 0 };
    size_t n = 0;
    check(mm_tok_from_json(&tok, json->p, json->len, &err));
    check(mm_tok_encode(tok, s, strlen(s), MM_TOK_SPECIAL, &o, &err));
    out[0] = 0;
    for (size_t i = 0; i < o.n && n < sizeof out; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%s", i ? "|" : "", mm_tok_text(tok, o.ids[i]));
    mm_tok_out_clear(&o);
    mm_tok_free(&tok);
    return out;
}

static void tokenizer(void)
{
    /* the example of Sennrich et al.: es and est first, then low */
    mm_bpe_text x[] = { text("low low low low low", 1), text("lower lower", 1), text("Newest", 6), text("widest widest widest", 1) };
    mm_buf b = learn(x, 4, 8 + 256 + 12, MM_BPE_BERT), c;
    is_str(tokens_of(&b, "lowest"), "Ġlow|est", "pairs are learned by how often they are seen");
    is_str(tokens_of(&b, "NEWEST (newest) ﬁ"), "Ġnewest|Ġ|(|Ġnewest|Ġ|)|Ġ|f|i",
           "case and compatibility forms go; a word is the same beside punctuation");
    c = learn(x, 4, 8 + 256 + 12, MM_BPE_GPT2);
    is_str(tokens_of(&c, "  the\n lowest's"), "Ġ|t|h|e|Ġlow|est|'|s", "GPT-2's words: white space is one blank, and one stands in front");
    mm_buf_clear(&c);
    c = learn(x, 4, 8 + 256 + 12, MM_BPE_O200K);
    is_str(tokens_of(&c, "lowest 12345"), "Ġlow|est|Ġ|1|2|3|4|5", "o200k's words");
    mm_buf_clear(&c);
    mm_bpe_text y[] = { x[3], x[2], x[1], x[0], text("Widest", 0) };
    c = learn(y, 5, 8 + 256 + 12, MM_BPE_BERT);
    ok(b.len == c.len && !memcmp(b.p, c.p, b.len), "the order of the texts is of no account, nor what weighs nothing");
    mm_buf_clear(&c);
    c = learn(x, 4, 100000, MM_BPE_BERT);
    is_str(tokens_of(&c, "widest lower"), "Ġwidest|Ġlower", "a vocabulary that is not filled has every word");
    mm_buf_clear(&b);
    mm_buf_clear(&c);
    /* ties by what could be joined first; runs of one letter; bytes of a character */
    mm_bpe_text z[] = { text("aaaaa aaaaa", 1), text("中中中国", 1) };
    b = learn(z, 2, 8 + 256 + 300, MM_BPE_BERT);
    is_str(tokens_of(&b, "aaaaa"), "Ġaaaaa", "overlapping pairs");
    ok(!strchr(tokens_of(&b, "中中中国"), '|'), "Chinese words become tokens");
    mm_buf_clear(&b);
    mm_bpe_opts o = MM_BPE_OPTS_INIT;
    o.vocab = 263;
    ok(mm_bpe_train(&b, x, 4, &o, &err) == MM_EARG && !b.len, "a vocabulary too small is refused: %s", err.msg);
    o.vocab = 300;
    x[1].weight = -1;
    ok(mm_bpe_train(&b, x, 4, &o, &err) == MM_EARG && !b.len, "... and a weight below 0: %s", err.msg);
    x[1] = text("\xff", 1);
    ok(mm_bpe_train(&b, x, 4, &o, &err) == MM_EDATA && !b.len, "... and what is not UTF-8: %s", err.msg);
    o.longest = 3;
    x[1].weight = 0;
    check(mm_bpe_train(&b, x, 4, &o, &err));
    is_str(tokens_of(&b, "newest"), "Ġn|ew|est", "no token is longer than it may be");
    mm_buf_clear(&b);
}

/* Every text of many words comes apart into tokens whose texts give it back. */
static void many_words(void)
{
    enum { N = 3000 };
    static char s[N][40];
    mm_bpe_text x[N];
    state = 7;
    for (int i = 0; i < N; i++) {
        int n = 1 + (int)((rnd() + 1) * 8);
        for (int k = 0; k < n; k++) s[i][k] = "aaaabbbeeeinnrst   "[(int)((rnd() + 1) * 9.5f)];
        x[i] = text(s[i], 1);
    }
    mm_buf b = learn(x, N, 900, MM_BPE_BERT), word = { 0 };
    mm_tok *tok;
    mm_tok_out o = { 0 };
    check(mm_tok_from_json(&tok, b.p, b.len, &err));
    is_int((long long)mm_tok_vocab(tok), 900, "the vocabulary has the size that was asked for");
    int bad = 0;
    for (int i = 0; i < N; i++) {
        char want[64] = "", *p = want;
        for (const char *q = s[i]; *q; q++)
            if (*q != ' ') {
                if (q == s[i] || q[-1] == ' ') *p++ = ' ';
                *p++ = *q;
            }
        *p = 0;
        mm_buf_reset(&word);
        check(mm_tok_encode(tok, s[i], strlen(s[i]), 0, &o, &err));
        check(mm_tok_decode(tok, o.ids, o.n, &word, &err));
        bad += strcmp(word.p ? word.p : "", want) != 0;
    }
    is_int(bad, 0, "decoding gives the words back");
    mm_tok_out_clear(&o);
    mm_tok_free(&tok);
    mm_buf_clear(&word);
    mm_buf_clear(&b);
}

/* ---- the table ---- */

enum { V = 17, D = 70, T = 60 };
static int32_t ids[T * 8];
static size_t off[T + 1];
static float weight[T], target[T * D];
static uint32_t which[T];

static void problem(void)
{
    size_t n = 0;
    state = 3;
    for (int t = 0; t < T; t++) {
        off[t] = n;
        for (int k = t % 9; k-- > 0;) ids[n++] = (int32_t)((rnd() + 1) * (V - 1) / 2); /* token V-1 is in no text; some texts are empty */
        weight[t] = rnd() + 1;
        which[t] = (uint32_t)((t * 7) % T);
        for (int d = 0; d < D; d++) target[t * D + d] = rnd();
    }
    off[T] = n;
}

/* Gaussian elimination in float64 on the definition itself. */
static void dense(double *w, int mean, double lambda)
{
    static double a[V][V + D];
    double sum = 0;
    memset(a, 0, sizeof a);
    for (int t = 0; t < T; t++) sum += (double)weight[t] / T;
    for (int t = 0; t < T; t++) {
        double row[V] = { 0 }, n = (double)(off[t + 1] - off[t]), v = (double)weight[t] / sum;
        for (size_t i = off[t]; i < off[t + 1]; i++) row[ids[i]] += mean ? 1 / n : 1 / sqrt(n);
        for (int i = 0; i < V; i++) {
            for (int j = 0; j < V; j++) a[i][j] += v * row[i] * row[j];
            for (int d = 0; d < D; d++) a[i][V + d] += v * row[i] * (double)target[which[t] * D + d];
        }
    }
    for (int i = 0; i < V; i++) a[i][i] += lambda;
    for (int i = 0; i < V; i++)
        for (int j = 0; j < V; j++) {
            double f = i == j ? 0 : a[j][i] / a[i][i];
            for (int k = i; k < V + D && f != 0; k++) a[j][k] -= f * a[i][k];
        }
    for (int i = 0; i < V; i++)
        for (int d = 0; d < D; d++) w[i * D + d] = a[i][V + d] / a[i][i];
}

static int stop(void *arg, const char *what, uint64_t done, uint64_t total)
{
    (void)what, (void)done, (void)total;
    return --*(int *)arg ? 0 : 7;
}

static void table(void)
{
    static double want[V * D];
    static float got[V * D], again[V * D], narrow[V * 5];
    mm_table_in in = { ids, off, T, weight, which, target, T, V, D };
    double rest;
    problem();
    for (int how = 0; how < 4; how++) {
        mm_table_opts o = MM_TABLE_OPTS_INIT;
        o.rows = how & 1 ? MM_TABLE_MEAN : MM_TABLE_SQRT;
        o.precondition = how >> 1;
        o.lambda = .5f;
        o.iterations = 60;
        o.residual = &rest;
        dense(want, how & 1, .5);
        check(mm_table_solve(got, &in, &o, &err));
        double worst = 0;
        for (int i = 0; i < V * D; i++) worst = fmax(worst, fabs((double)got[i] - want[i]));
        ok(worst < 2e-5 && rest < 1e-5, "the table is the least squares one (%s%s): off by %.1e, rest %.1e", how & 1 ? "mean" : "root",
           how & 2 ? ", preconditioned" : "", worst, rest);
    }
    mm_table_opts o = MM_TABLE_OPTS_INIT;
    o.iterations = 5;
    o.threads = 1;
    check(mm_table_solve(got, &in, &o, &err));
    o.threads = 2;
    check(mm_table_solve(again, &in, &o, &err));
    ok(!memcmp(got, again, sizeof got), "one thread or two: the same bits");
    float cut[T * 5];
    for (int t = 0; t < T; t++) memcpy(cut + t * 5, target + t * D, sizeof(float) * 5);
    mm_table_in five = { ids, off, T, weight, which, cut, T, V, 5 };
    check(mm_table_solve(narrow, &five, &o, &err));
    int same = 1;
    for (int v = 0; v < V; v++) same &= !memcmp(narrow + v * 5, got + v * D, sizeof(float) * 5);
    ok(same, "leading columns are the same without the others");
    int zero = 1, left = 3;
    for (int d = 0; d < D; d++) zero &= got[(V - 1) * D + d] == 0;
    ok(zero, "a token of no text has zeros");
    o.progress = stop;
    o.arg = &left;
    o.threads = 1;
    is_int(mm_table_solve(again, &in, &o, &err), 7, "progress can stop it");
    o.progress = NULL;
    ids[3] = V;
    ok(mm_table_solve(again, &in, &o, &err) == MM_ESHAPE, "a token outside the table is refused: %s", err.msg);
    ids[3] = 0;
    which[2] = T;
    ok(mm_table_solve(again, &in, &o, &err) == MM_ESHAPE, "... and a target that is not there: %s", err.msg);
    which[2] = 0;
    o.lambda = 0;
    ok(mm_table_solve(again, &in, &o, &err) == MM_EARG, "... and lambda 0: %s", err.msg);
    float bag[2 * 6], sum = 0;
    mm_table_bags(got, D, ids, off + 8, 2, 6, bag); /* text 8 has 8 tokens, text 9 none */
    for (int d = 0; d < 6; d++) sum += bag[d] * bag[d];
    ok(fabsf(sum - 1) < 1e-5f && bag[6] == 0 && bag[11] == 0, "a bag has length 1, that of nothing has none");
}

/* ---- the space ---- */

static void eigen(void)
{
    enum { N = 60 };
    static double a[N * N], m[N * N], w[N], v[N * N];
    state = 11;
    double worst = 0, unit = 0;
    int rising = 1;
    for (int kind = 0; kind < 3; kind++) {
        int n = kind == 2 ? 1 : N;
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++) /* random; and one with equal values and zeros in it */
                m[i * n + j] = m[j * n + i] = kind == 1 ? (i == j ? i / 4 : (i + j) % 5 ? 0 : .25) : (double)rnd();
        memcpy(a, m, sizeof a);
        check(mm_eigen_symmetric(a, (size_t)n, w, v, &err));
        for (int k = 0; k < n; k++) {
            rising &= !k || w[k] >= w[k - 1];
            for (int i = 0; i < n; i++) {
                double s = -w[k] * v[k * n + i], dot = 0;
                for (int j = 0; j < n; j++) {
                    s += m[i * n + j] * v[k * n + j];
                    dot += v[k * n + j] * v[i * n + j];
                }
                worst = fmax(worst, fabs(s));
                unit = fmax(unit, fabs(dot - (i == k)));
            }
        }
    }
    ok(worst < 1e-12 && unit < 1e-13 && rising, "eigenvectors: A v - w v is %.1e, V V' - 1 is %.1e", worst, unit);
    memset(a, 0, sizeof a);
    a[N] = NAN;
    ok(mm_eigen_symmetric(a, N, w, v, &err) == MM_EDATA, "what is no number is refused: %s", err.msg);
}

static void space(void)
{
    enum { N = 500, E = 12 };
    static float x[N * E], y[N * E], z[N * 3];
    mm_pca p, q;
    state = 5;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < E; k++) x[i * E + k] = rnd() / (float)(1 + (k * 5) % E) + (k == 2);
    check(mm_pca_fit(&p, x, N, E, 1, &err));
    check(mm_pca_fit(&q, x, N, E, 2, &err));
    ok(!memcmp(p.rot, q.rot, E * E * sizeof *p.rot), "the axes are the same for any number of threads");
    mm_pca_clear(&q);
    double carried[E] = { 0 }, total = 0, worst = 0;
    int falls = 1;
    for (int k = 0; k < E; k++) {
        for (int i = 0; i < N; i++) {
            double s = 0;
            for (int c = 0; c < E; c++) s += (double)p.rot[k * E + c] * (double)x[i * E + c];
            carried[k] += s * s;
        }
        total += carried[k];
        falls &= !k || carried[k] <= carried[k - 1];
    }
    for (int k = 0; k < E; k++) worst = fmax(worst, fabs(carried[k] / total - (double)p.var[k]));
    ok(falls && worst < 1e-6, "axes stand in the order of what they carry");
    memset(x, 0, E * sizeof *x);
    check(mm_pca_center(&p, x, N, &err));
    check(mm_pca_apply(&p, x, N, z, 3, &err));
    check(mm_pca_apply(&p, x, N, y, E, &err));
    double mean = 0, len = 0;
    int cut = 1;
    for (int i = 0; i < N; i++) cut &= !memcmp(z + i * 3, y + i * E, 3 * sizeof *z);
    for (int k = 0; k < E; k++) {
        double s = 0;
        for (int i = 1; i < N; i++) s += (double)y[i * E + k];
        mean += s * s / N / N;
        len += (double)(y[E + k] * y[E + k]);
    }
    ok(cut && fabs(len - 1) < 1e-6 && y[0] == 0 && mean < .01, "applied: length 1, about the centre (%.3f), a cut is the beginning",
       sqrt(mean));
    mm_pca_clear(&p);
}

/* ---- the teacher ---- */

static size_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static mm_text_in in(const char *s) { return (mm_text_in){ s, strlen(s) }; }

static void teacher(mm_model *m)
{
    const char *cache = at("cache");
    mm_text_in x[5] = { in("the cat"), in("a dog"), in("the cat"), in(""), in("two dogs are here") };
    size_t d = mm_model_dim(m), size = 16 + 2 * d + 4;
    float *want = malloc(5 * d * sizeof *want), *got = malloc(5 * d * sizeof *got);
    mm_text_out res[5];
    mm_teacher *t, *u = NULL;
    check(mm_model_embed_text(m, x, 5, want, res, &err));
    check(mm_teacher_open(&t, m, cache, &err));
    check(mm_teacher_embed(t, x, 5, got, NULL, NULL, &err));
    double worst = 0;
    for (size_t i = 0; i < 5 * d; i++) worst = fmax(worst, fabs((double)(want[i] - got[i])));
    ok(worst < 1e-3 && worst > 0, "the teacher's vectors, through 16 bits: off by %.1e", worst);
    ok(mm_teacher_cached(t) == 4 && file_size(cache) == 128 + 4 * size, "each text is in the cache once");
    mm_text_in more[3] = { in("good water"), in("the red house"), in("a dog") };
    check(mm_teacher_open(&u, m, cache, &err));
    check(mm_teacher_embed(u, more, 1, want, NULL, NULL, &err));
    check(mm_teacher_embed(t, more + 1, 2, want, NULL, NULL, &err));
    check(mm_teacher_embed(u, more, 2, want, NULL, NULL, &err));
    ok(mm_teacher_cached(t) == 6 && mm_teacher_cached(u) == 6 && file_size(cache) == 128 + 6 * size, "two writers share a file");
    mm_teacher_close(&u);
    mm_teacher_close(&t);
    check(truncate(cache, (off_t)(128 + 4 * size - 1)) ? mm_fail_errno(&err, "truncate") : 0);
    check(mm_teacher_open(&t, m, cache, &err));
    is_int((long long)mm_teacher_cached(t), 3, "a torn end is dropped");
    check(mm_teacher_embed(t, x, 5, want, NULL, NULL, &err));
    ok(!memcmp(want, got, 5 * d * sizeof *want) && file_size(cache) == 128 + 4 * size, "and made again: the same bits");
    mm_teacher_close(&t);
    for (size_t cut = 0; cut < 128; cut += 25) {
        check(truncate(cache, (off_t)cut) ? mm_fail_errno(&err, "truncate") : 0);
        check(mm_teacher_open(&t, m, cache, &err));
        if (mm_teacher_cached(t) || file_size(cache) != 128) ok(0, "a beginning of %zu bytes is a new file", cut);
        mm_teacher_close(&t);
    }
    check(mm_teacher_open(&t, m, cache, &err));
    check(mm_teacher_embed(t, x, 5, want, NULL, NULL, &err));
    mm_teacher_close(&t);
    FILE *f = fopen(cache, "r+b");
    fseek(f, (long)(128 + size + 20), SEEK_SET);
    fputc(1, f);
    fclose(f);
    check(mm_teacher_open(&t, m, cache, &err));
    is_int((long long)mm_teacher_cached(t), 1, "nothing is taken from a damaged record on");
    mm_teacher_close(&t);
    f = fopen(cache, "r+b");
    fseek(f, 16, SEEK_SET);
    fputc('x', f);
    fclose(f);
    ok(mm_teacher_open(&t, m, cache, &err) == MM_EMODEL && !t, "another model's cache is refused: %s", err.msg);
    puts_to(top, "cache", "something that is no cache, and that nobody wants to lose");
    ok(mm_teacher_open(&t, m, cache, &err) == MM_EDATA && file_size(cache) == 57, "... and another kind of file, left as it is: %s",
       err.msg);
    check(mm_teacher_open(&t, m, NULL, &err));
    x[1] = (mm_text_in){ "\xff", 1 };
    ok(mm_teacher_embed(t, x, 5, want, NULL, NULL, &err) == MM_EDATA, "a text that is not UTF-8: %s", err.msg);
    x[1] = in("a dog");
    check(mm_teacher_embed(t, x, 5, want, NULL, NULL, &err));
    ok(!memcmp(want, got, 5 * d * sizeof *want), "without a file it works as well");
    mm_teacher_close(&t);
    free(want);
    free(got);
}

/* ---- together ---- */

static void start(mm_model *m)
{
    static const char *const en[] = { "the cat", "a dog", "two dogs are here", "she sees the red house", "good water" };
    static const char *const de[] = { "Die Katze", "ein Hund", "zwei Hunde sind hier", "sie sieht das rote Haus", "gutes Wasser" };
    mm_text_pair p[10];
    for (int i = 0; i < 10; i++) {
        const char *s = i % 2 ? de[i / 2] : en[i / 2];
        p[i] = (mm_text_pair){ s, strlen(s), en[i / 2], strlen(en[i / 2]), 1, i < 4 ? MM_TEXT_NAME : MM_TEXT_SENTENCE };
    }
    mm_text_start_opts o = MM_TEXT_START_OPTS_INIT;
    mm_text_start s, r;
    mm_teacher *t;
    o.bpe.vocab = 400;
    o.dim = 8;
    o.table.lambda = .01f;
    check(mm_teacher_open(&t, m, NULL, &err));
    check(mm_text_start_make(&s, t, p, 10, &o, &err));
    ok(s.targets == 5 && s.texts == 10 && s.dim == 8 && s.vocab <= 400, "a start: %zu tokens of vocabulary, %zu of texts", s.vocab,
       s.tokens);
    ok(s.cosine > .95, "its bags are the teacher's vectors where there are tokens enough: cosine %.3f", s.cosine);
    o.threads = 1;
    check(mm_text_start_make(&r, t, p, 10, &o, &err));
    ok(r.tokenizer.len == s.tokenizer.len && !memcmp(r.table, s.table, s.vocab * s.dim * sizeof *s.table), "made again, it is the same");
    mm_text_start_clear(&r);
    o.tokenizer = &s.tokenizer;
    check(mm_text_start_make(&r, t, p, 10, &o, &err));
    ok(!memcmp(r.table, s.table, s.vocab * s.dim * sizeof *s.table), "with a tokenizer that is there");
    mm_text_start_clear(&r);
    mm_text_start_clear(&s);
    /* the space of the first four pairs, whether there are more or not; one of the later pairs has a sentence's English, as a name */
    o.tokenizer = NULL;
    o.space_only = 1;
    p[9].en = en[1], p[9].en_len = strlen(en[1]), p[9].kind = MM_TEXT_NAME;
    p[2].kind = p[3].kind = MM_TEXT_SENTENCE;
    size_t d = mm_model_dim(m);
    check(mm_text_start_make(&s, t, p, 4, &o, &err));
    o.space = 4;
    check(mm_text_start_make(&r, t, p, 10, &o, &err));
    ok(!memcmp(r.pca.rot, s.pca.rot, d * d * sizeof *s.pca.rot) && !memcmp(r.pca.mean, s.pca.mean, d * sizeof *s.pca.mean) && r.targets == 5 && s.targets == 2,
       "pairs after those that say what the space is leave it as it is");
    mm_text_start_clear(&r);
    o.space = 0;
    check(mm_text_start_make(&r, t, p, 10, &o, &err));
    ok(memcmp(r.pca.rot, s.pca.rot, d * d * sizeof *s.pca.rot) != 0, "... and are part of it otherwise");
    mm_text_start_clear(&r);
    mm_text_start_clear(&s);
    int left = 1;
    o.space_only = 0;
    o.progress = stop;
    o.arg = &left;
    ok(mm_text_start_make(&r, t, p, 10, &o, &err) == 7 && !r.table, "progress stops it");
    ok(mm_text_start_make(&r, t, p, 0, &o, &err) == MM_EARG, "nothing makes no start: %s", err.msg);
    mm_teacher_close(&t);
}

int main(void)
{
    mm_model *m;
    snprintf(top, sizeof top, "%s/mm-text-start-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(top)) return 99;
    tokenizer();
    many_words();
    table();
    eigen();
    space();
    tinybert(at("tiny"), 32, 64, 0);
    check(mm_model_open(&m, at("tiny"), NULL, &err));
    teacher(m);
    start(m);
    mm_model_close(&m);
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", top);
    return done() | (system(cmd) != 0);
}

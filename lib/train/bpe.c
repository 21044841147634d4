/* Learning byte pairs. Equal words are counted once; of each pair of neighbours its weight and the words that have it are kept, and a heap
 * whose entries may be out of date finds the heaviest: joining a pair touches its words only. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "token/mm_token.h"
#include "train/mm_bpe.h"

static const char *const specials[] = { "<|end|>", "<|pad|>", "<|text|>", "<|image|>", "<|audio|>", "<|video|>", "<|mask|>", "<|unused|>" };

/* Unicode character by which byte-level tokenizers write a byte: itself where it is printable, else the next from U+0100 on. */
static uint32_t char_of(int byte)
{
    uint32_t next = 256;
    for (int b = 0; b < 256; b++) {
        int plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return plain ? (uint32_t)b : next;
        next += !plain;
    }
    return 0;
}

/* ---- counting ---- */

typedef struct word {
    uint64_t count; /* in steps of 2^-16 */
    size_t at;      /* of its symbols in ids */
    uint32_t n;     /* symbols: bytes, at first */
    uint32_t hash;
} word;

typedef struct pair {
    int32_t a, b;
    int64_t count;
    uint32_t *in; /* words that have it, or had it */
    uint32_t n, cap;
    uint32_t round; /* last join that made more of it */
} pair;

typedef struct entry {
    int64_t count;
    uint32_t pair;
} entry;

typedef struct token {
    size_t at, len; /* its bytes, in names */
} token;

typedef struct trainer {
    const mm_bpe_opts *o;
    word *words;
    size_t n_words, cap_words;
    uint32_t *slot; /* number of a word + 1 */
    size_t slots;
    mm_buf bytes; /* of the words */
    int32_t *ids; /* symbols of the words */
    uint64_t now; /* weight of the text that is being cut */

    pair *pairs;
    size_t n_pairs, cap_pairs;
    uint32_t *pair_slot;
    size_t pair_slots;
    entry *heap;
    size_t n_heap, cap_heap;

    mm_buf names;
    token *tokens;   /* by id - base */
    size_t n_tokens; /* learned and bytes */
    int32_t *name_slot;
    size_t name_slots;
    int32_t base; /* id of byte 0 */
    int32_t (*joined)[2];
    size_t n_joined;
} trainer;

static int grow(void **p, size_t *cap, size_t n, size_t size)
{
    if (n < *cap) return 0;
    size_t c = *cap ? 2 * *cap : 1024;
    void *q = mm_realloc(*p, c, size);
    if (!q) return MM_ENOMEM;
    *p = q;
    *cap = c;
    return 0;
}

static size_t word_slot(const trainer *t, const char *s, size_t len, uint32_t hash)
{
    size_t i = hash & (t->slots - 1);
    for (; t->slot[i]; i = (i + 1) & (t->slots - 1)) {
        const word *w = &t->words[t->slot[i] - 1];
        if (w->hash == hash && w->n == len && !memcmp(t->bytes.p + w->at, s, len)) break;
    }
    return i;
}

static int more_slots(trainer *t)
{
    size_t slots = t->slots ? 2 * t->slots : 4096;
    uint32_t *p = calloc(slots, sizeof *p);
    if (!p) return MM_ENOMEM;
    free(t->slot);
    t->slot = p;
    t->slots = slots;
    for (size_t k = 0; k < t->n_words; k++) {
        size_t i = t->words[k].hash & (slots - 1);
        while (p[i]) i = (i + 1) & (slots - 1);
        p[i] = (uint32_t)k + 1;
    }
    return 0;
}

static int count_word(void *arg, const char *s, size_t len)
{
    trainer *t = arg;
    if (2 * (t->n_words + 1) > t->slots && more_slots(t)) return MM_ENOMEM;
    uint32_t hash = (uint32_t)mm_hash64(s, len, 0);
    size_t i = word_slot(t, s, len, hash);
    if (!t->slot[i]) {
        if (grow((void **)&t->words, &t->cap_words, t->n_words, sizeof *t->words)) return MM_ENOMEM;
        t->words[t->n_words] = (word){ 0, t->bytes.len, (uint32_t)len, hash };
        if (mm_buf_add(&t->bytes, s, len)) return MM_ENOMEM;
        t->slot[i] = (uint32_t)++t->n_words;
    }
    t->words[t->slot[i] - 1].count += t->now;
    return 0;
}

/* ---- pairs ---- */

static size_t pair_slot(const trainer *t, int32_t a, int32_t b)
{
    uint64_t h = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 20) & (t->pair_slots - 1);
    while (t->pair_slot[i] && (t->pairs[t->pair_slot[i] - 1].a != a || t->pairs[t->pair_slot[i] - 1].b != b))
        i = (i + 1) & (t->pair_slots - 1);
    return i;
}

/* The pair, made if it is not there: NULL: no memory. */
static pair *pair_of(trainer *t, int32_t a, int32_t b)
{
    if (2 * (t->n_pairs + 1) > t->pair_slots) {
        size_t slots = t->pair_slots ? 2 * t->pair_slots : 4096;
        uint32_t *p = calloc(slots, sizeof *p);
        if (!p) return NULL;
        free(t->pair_slot);
        t->pair_slot = p;
        t->pair_slots = slots;
        for (size_t k = 0; k < t->n_pairs; k++) p[pair_slot(t, t->pairs[k].a, t->pairs[k].b)] = (uint32_t)k + 1;
    }
    size_t i = pair_slot(t, a, b);
    if (!t->pair_slot[i]) {
        if (grow((void **)&t->pairs, &t->cap_pairs, t->n_pairs, sizeof *t->pairs)) return NULL;
        t->pairs[t->n_pairs] = (pair){ .a = a, .b = b };
        t->pair_slot[i] = (uint32_t)++t->n_pairs;
    }
    return &t->pairs[t->pair_slot[i] - 1];
}

static int pair_in(pair *p, uint32_t w)
{
    if (p->n && p->in[p->n - 1] == w) return 0;
    if (p->n == p->cap) {
        uint32_t cap = p->cap ? 2 * p->cap : 4, *q = mm_realloc(p->in, cap, sizeof *q);
        if (!q) return MM_ENOMEM;
        p->in = q;
        p->cap = cap;
    }
    p->in[p->n++] = w;
    return 0;
}

/* The heavier first; of equals the one that was possible first. */
static int before(const trainer *t, entry x, entry y)
{
    if (x.count != y.count) return x.count > y.count;
    const pair *p = &t->pairs[x.pair], *q = &t->pairs[y.pair];
    return p->a != q->a ? p->a < q->a : p->b < q->b;
}

static int push(trainer *t, uint32_t which)
{
    if (grow((void **)&t->heap, &t->cap_heap, t->n_heap, sizeof *t->heap)) return MM_ENOMEM;
    entry x = { t->pairs[which].count, which };
    size_t i = t->n_heap++;
    for (; i && before(t, x, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = x;
    return 0;
}

static entry pop(trainer *t)
{
    entry top = t->heap[0], x = t->heap[--t->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < t->n_heap; i = k) {
        if (k + 1 < t->n_heap && before(t, t->heap[k + 1], t->heap[k])) k++;
        if (!before(t, t->heap[k], x)) break;
        t->heap[i] = t->heap[k];
    }
    t->heap[i] = x;
    return top;
}

static int first_pairs(trainer *t)
{
    if (!(t->ids = mm_realloc(NULL, t->bytes.len + 1, sizeof *t->ids))) return MM_ENOMEM;
    for (size_t i = 0; i < t->bytes.len; i++) t->ids[i] = t->base + (unsigned char)t->bytes.p[i];
    for (size_t w = 0; w < t->n_words; w++)
        for (uint32_t i = 0; i + 1 < t->words[w].n; i++) {
            const int32_t *s = t->ids + t->words[w].at + i;
            pair *p = pair_of(t, s[0], s[1]);
            if (!p || pair_in(p, (uint32_t)w)) return MM_ENOMEM;
            p->count += (int64_t)t->words[w].count;
        }
    for (size_t i = 0; i < t->n_pairs; i++)
        if (push(t, (uint32_t)i)) return MM_ENOMEM;
    return 0;
}

/* ---- tokens ---- */

static size_t name_slot(const trainer *t, const char *s, size_t len)
{
    size_t i = (size_t)mm_hash64(s, len, 1) & (t->name_slots - 1);
    for (; t->name_slot[i] >= 0; i = (i + 1) & (t->name_slots - 1)) {
        token k = t->tokens[t->name_slot[i]];
        if (k.len == len && !memcmp(t->names.p + k.at, s, len)) break;
    }
    return i;
}

/* id of these bytes, a new one if no token has them yet; < 0: no memory */
static int32_t token_of(trainer *t, const char *s, size_t len)
{
    size_t i = name_slot(t, s, len);
    if (t->name_slot[i] < 0) {
        t->tokens[t->n_tokens] = (token){ t->names.len, len };
        if (mm_buf_add(&t->names, s, len)) return MM_ENOMEM;
        t->name_slot[i] = (int32_t)t->n_tokens++;
    }
    return t->base + t->name_slot[i];
}

static int begin_tokens(trainer *t)
{
    size_t most = t->o->vocab - (size_t)t->base;
    for (t->name_slots = 1024; t->name_slots < 2 * most; t->name_slots *= 2) {}
    t->tokens = mm_realloc(NULL, most, sizeof *t->tokens);
    t->joined = mm_realloc(NULL, most, sizeof *t->joined); /* each makes a token; see learn() */
    t->name_slot = mm_realloc(NULL, t->name_slots, sizeof *t->name_slot);
    if (!t->tokens || !t->joined || !t->name_slot) return MM_ENOMEM;
    for (size_t i = 0; i < t->name_slots; i++) t->name_slot[i] = -1;
    for (int b = 0; b < 256; b++) {
        char c = (char)b;
        if (token_of(t, &c, 1) < 0) return MM_ENOMEM;
    }
    return 0;
}

/* Join the pair everywhere: the word's old pairs weigh less, its new ones more. */
static int join(trainer *t, uint32_t which, int32_t z, uint32_t round)
{
    int32_t a = t->pairs[which].a, b = t->pairs[which].b;
    uint32_t *in = t->pairs[which].in, n = t->pairs[which].n, *more = NULL;
    size_t n_more = 0, cap_more = 0;
    int r = 0;
    t->pairs[which].in = NULL;
    t->pairs[which].n = t->pairs[which].cap = 0;
    for (uint32_t k = 0; k < n && !r; k++) {
        word *w = &t->words[in[k]];
        int32_t *s = t->ids + w->at;
        uint32_t i = 0, m = 0;
        while (i + 1 < w->n && !(s[i] == a && s[i + 1] == b)) i++;
        if (i + 1 >= w->n) continue;
        for (i = 0; i + 1 < w->n; i++) t->pairs[t->pair_slot[pair_slot(t, s[i], s[i + 1])] - 1].count -= (int64_t)w->count;
        for (i = 0; i < w->n; m++) {
            int both = i + 1 < w->n && s[i] == a && s[i + 1] == b;
            s[m] = both ? z : s[i];
            i += 1 + (uint32_t)both;
        }
        w->n = m;
        for (i = 0; i + 1 < m && !r; i++) {
            pair *p = pair_of(t, s[i], s[i + 1]);
            if (!p) {
                r = MM_ENOMEM;
                break;
            }
            p->count += (int64_t)w->count;
            if (s[i] != z && s[i + 1] != z) continue;
            r = pair_in(p, in[k]);
            if (r || p->round == round) continue;
            p->round = round;
            if ((r = grow((void **)&more, &cap_more, n_more, sizeof *more))) break;
            more[n_more++] = (uint32_t)(p - t->pairs);
        }
    }
    for (size_t i = 0; i < n_more && !r; i++) r = push(t, more[i]);
    free(more);
    free(in);
    return r;
}

static int learn(trainer *t)
{
    size_t most = t->o->vocab - (size_t)t->base;
    int r = 0;
    for (uint32_t round = 1; t->n_tokens < most && t->n_heap && !r; round++) {
        entry e = pop(t);
        const pair *p = &t->pairs[e.pair];
        if (p->count <= 0) continue;
        if (p->count != e.count) { /* it has lost some since */
            r = push(t, e.pair);
            continue;
        }
        token x = t->tokens[p->a - t->base], y = t->tokens[p->b - t->base];
        if (t->o->longest && x.len + y.len > t->o->longest) continue;
        mm_buf both = { 0 };
        mm_buf_add(&both, t->names.p + x.at, x.len);
        mm_buf_add(&both, t->names.p + y.at, y.len);
        size_t had = t->n_tokens;
        int32_t z = both.failed ? MM_ENOMEM : token_of(t, both.p, both.len);
        mm_buf_clear(&both);
        if (z < 0) return MM_ENOMEM;
        /* another pair has made these bytes a token before: a second way to it would cost a place in the list of joins and gain little */
        if (had == t->n_tokens) continue;
        t->joined[t->n_joined][0] = p->a;
        t->joined[t->n_joined++][1] = p->b;
        r = join(t, e.pair, z, round);
        if (!r && t->o->progress && !(t->n_tokens & 255)) r = t->o->progress(t->o->arg, "tokens", t->n_tokens, most);
    }
    return r;
}

/* ---- the file ---- */

#define SPACES \
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"}," \
    "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},{\"type\":\"Prepend\",\"prepend\":\" \"}"
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false},"
#define BYTES(prefix) "{\"type\":\"ByteLevel\",\"add_prefix_space\":" prefix ",\"trim_offsets\":true,\"use_regex\":false}"
#define O200K_END "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"

static const char *const norm_of[] = { [MM_BPE_GPT2] = "," SPACES, [MM_BPE_O200K] = "," SPACES, [MM_BPE_BERT] = "" };
static const char *const pre_of[] = {
    [MM_BPE_GPT2] = SPLIT("'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+") BYTES("false"),
    [MM_BPE_O200K] =
        SPLIT("[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+" O200K_END
              "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*" O200K_END
              "\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+") BYTES("false"),
    [MM_BPE_BERT] = "{\"type\":\"BertPreTokenizer\"},{\"type\":\"Digits\",\"individual_digits\":false}," BYTES("true"),
};

static void put_bytes(mm_buf *out, const char *s, size_t len, const uint32_t chars[256])
{
    char u[4];
    mm_buf b = { 0 };
    for (size_t i = 0; i < len; i++) mm_buf_add(&b, u, (size_t)mm_utf8_put(chars[(unsigned char)s[i]], u));
    if (b.failed) out->failed = 1;
    else mm_json_quote(out, b.p, b.len);
    mm_buf_clear(&b);
}

/* Token k's bytes as text */
static void put_token(const trainer *t, mm_buf *out, size_t k, const uint32_t chars[256])
{
    put_bytes(out, t->names.p + t->tokens[k].at, t->tokens[k].len, chars);
}

static int write_json(const trainer *t, mm_buf *out)
{
    uint32_t chars[256];
    const char *const *special = t->o->special ? t->o->special : specials;
    size_t n_special = (size_t)t->base;
    for (int b = 0; b < 256; b++) chars[b] = char_of(b);
    mm_buf_adds(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (size_t i = 0; i < n_special; i++) {
        mm_buf_addf(out, "%s\n{\"id\":%zu,\"content\":", i ? "," : "", i);
        mm_json_quote(out, special[i], strlen(special[i]));
        mm_buf_adds(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}");
    }
    mm_buf_adds(out, "],\n\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Lowercase\"}");
    mm_buf_adds(out, norm_of[t->o->words]);
    mm_buf_adds(out, "]},\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    mm_buf_adds(out, pre_of[t->o->words]);
    mm_buf_adds(out, "]},\n\"post_processor\":null,\n\"decoder\":{\"type\":\"ByteLevel\","
                     "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\n"
                     "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                     "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\n\"vocab\":{");
    for (size_t i = 0; i < n_special; i++) {
        mm_buf_adds(out, i ? "," : "");
        mm_json_quote(out, special[i], strlen(special[i]));
        mm_buf_addf(out, ":%zu", i);
    }
    for (size_t k = 0; k < t->n_tokens; k++) {
        mm_buf_adds(out, n_special || k ? "," : "");
        put_token(t, out, k, chars);
        mm_buf_addf(out, ":%zu", n_special + k);
    }
    mm_buf_adds(out, "},\n\"merges\":[");
    for (size_t k = 0; k < t->n_joined; k++) {
        mm_buf_adds(out, k ? ",[" : "[");
        put_token(t, out, (size_t)(t->joined[k][0] - t->base), chars);
        mm_buf_addc(out, ',');
        put_token(t, out, (size_t)(t->joined[k][1] - t->base), chars);
        mm_buf_addc(out, ']');
    }
    mm_buf_adds(out, "]}}\n");
    return out->failed ? MM_ENOMEM : 0;
}

/* ---- all together ---- */

static int count_texts(trainer *t, const mm_tok *tok, const mm_bpe_text *x, size_t n, mm_err *err)
{
    mm_tok_out o = { 0 };
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        if (!(x[i].weight >= 0 && x[i].weight <= 1e6f)) r = mm_fail(err, MM_EARG, "text %zu: its weight should be 0 to 1e6", i);
        t->now = r ? 0 : (uint64_t)llround((double)x[i].weight * 65536);
        if (!r && t->now && (r = mm_tok_words(tok, x[i].p, x[i].len, count_word, t, &o, err))) mm_err_prefix(err, "text %zu: ", i);
        if (!r && t->o->progress && !(i & 16383)) r = t->o->progress(t->o->arg, "words", i, n);
    }
    mm_tok_out_clear(&o);
    return r;
}

static int train(trainer *t, mm_buf *json, const mm_bpe_text *x, size_t n, mm_err *err)
{
    mm_tok *tok = NULL; /* the 256 bytes: it cuts texts into words as the finished one will */
    mm_buf bare = { 0 };
    int r = begin_tokens(t);
    if (!r) r = write_json(t, &bare);
    if (!r) r = mm_tok_from_json(&tok, bare.p, bare.len, err);
    mm_buf_clear(&bare);
    if (!r) r = count_texts(t, tok, x, n, err);
    mm_tok_free(&tok);
    if (!r) r = first_pairs(t);
    if (!r) r = learn(t);
    size_t len = json->len;
    if (!r && (r = write_json(t, json))) {
        json->len = len;
        if (json->p) json->p[len] = 0;
    }
    return r;
}

int mm_bpe_train(mm_buf *json, const mm_bpe_text *texts, size_t n, const mm_bpe_opts *opts, mm_err *err)
{
    size_t n_special = opts->special ? opts->n_special : sizeof specials / sizeof *specials;
    trainer t = { .o = opts, .base = (int32_t)n_special };
    if (opts->vocab < n_special + 256 || opts->vocab > INT32_MAX / 4)
        return mm_fail(err, MM_EARG, "a vocabulary of %zu tokens; there are %zu special ones and 256 bytes", opts->vocab, n_special);
    int r = train(&t, json, texts, n, err);
    for (size_t i = 0; i < t.n_pairs; i++) free(t.pairs[i].in);
    free(t.words);
    free(t.slot);
    mm_buf_clear(&t.bytes);
    free(t.ids);
    free(t.pairs);
    free(t.pair_slot);
    free(t.heap);
    mm_buf_clear(&t.names);
    free(t.tokens);
    free(t.joined);
    free(t.name_slot);
    return r == MM_ENOMEM ? mm_fail(err, MM_ENOMEM, "out of memory") : r;
}

/* Which examples a step sees. Pools and weights are fixed when the batches are opened; every choice comes from mm_rng_at() or
 * mm_rng_permute(), by the number of the window and of the draw in it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "train/batch_int.h"

#define BUCKETS 12

/* streams of random numbers, 16 apart by pool */
enum { STREAM_SET = 1, STREAM_PASS, STREAM_CAPTION, STREAM_AUGMENT, STREAM_ORDER, STREAM_PARTNER };

static uint64_t stream(int kind, int m) { return (uint64_t)(kind + 16 * m); }

/* ---- pools ---- */

static int in_langs(const char *list, const char *lang)
{
    const size_t n = strlen(lang);
    if (!list || !n) return 1;
    for (const char *p = list; *p;) {
        const size_t w = strcspn(p, ", ");
        if (w && w <= n && !strncmp(p, lang, w) && (w == n || strchr("-_@", lang[w]))) return 1;
        p += w + (p[w] != 0);
    }
    return 0;
}

static int member(const mm_batches *b, const mm_example *e, int m)
{
    const mm_batch_opts *o = &b->opts;
    if (e->split != o->split || (m == MM_TEXT ? !e->n_captions : e->item[m] < 0)) return 0;
    if (m != MM_TEXT && !e->n_captions && !o->bare) return 0;
    return !o->want || o->want(o->arg, e, (mm_modality)m);
}

/* Classes repeat their name: of the examples of a set that say the same, only the first is a text. 1: it was said before. The table holds
 * numbers + 1 of examples. */
static int said(const mm_batches *b, uint32_t number, uint32_t *table, size_t slots)
{
    const mm_example *e = mm_dataset_example(b->d, number);
    const mm_caption *c = mm_dataset_caption(b->d, e->caption);
    uint64_t h = e->set;
    for (uint32_t k = 0; k < e->n_captions; k++) h = mm_hash64(c[k].p, c[k].len, h);
    size_t at = h & (slots - 1);
    for (; table[at]; at = (at + 1) & (slots - 1)) {
        const mm_example *o = mm_dataset_example(b->d, table[at] - 1);
        const mm_caption *oc = mm_dataset_caption(b->d, o->caption);
        uint32_t k = 0;
        if (o->set != e->set || o->n_captions != e->n_captions) continue;
        while (k < e->n_captions && c[k].len == oc[k].len && !memcmp(c[k].p, oc[k].p, c[k].len)) k++;
        if (k == e->n_captions) return 1;
    }
    table[at] = number + 1;
    return 0;
}

/* The place in the table where the picture of a concept is, or would be. */
static uint32_t *picture_of(const mm_batches *b, const mm_example *e, uint32_t *table, size_t slots)
{
    size_t at = mm_hash64(e->concept, strlen(e->concept), e->set) & (slots - 1);
    for (; table[at]; at = (at + 1) & (slots - 1)) {
        const mm_example *o = mm_dataset_example(b->d, table[at] - 1);
        if (o->set == e->set && !strcmp(o->concept, e->concept)) break;
    }
    return &table[at];
}

static void list_pictures(const mm_batches *b, uint32_t *table, size_t slots)
{
    const mm_example *e;
    for (uint32_t i = 0; (e = mm_dataset_example(b->d, i)); i++) {
        if (!e->concept[0] || !member(b, e, MM_IMAGE)) continue;
        uint32_t *at = picture_of(b, e, table, slots);
        if (!*at) *at = i + 1;
    }
}

/* Number + 1 of the example that has the picture to this sound; 0: none. */
static uint32_t partner(const mm_batches *b, uint32_t number, uint32_t *table, size_t slots)
{
    const mm_example *e = mm_dataset_example(b->d, number);
    if (!member(b, e, MM_AUDIO)) return 0;
    if (member(b, e, MM_IMAGE)) return number + 1;
    return e->concept[0] ? *picture_of(b, e, table, slots) : 0;
}

static void weigh(const mm_batches *b, pool *p)
{
    double sum = 0;
    for (size_t i = 0; i < p->parts; i++) {
        const float w = b->opts.set_weight ? b->opts.set_weight[p->part[i].set] : 1;
        sum += w > 0 ? w * pow(p->part[i].n, b->opts.power) : 0;
        p->part[i].upto = sum;
    }
    if (!(sum > 0)) p->n = p->parts = 0;
    for (size_t i = 0; i < p->parts; i++) p->part[i].upto /= sum;
}

static int make_pool(mm_batches *b, int m, size_t sets, size_t all, mm_err *err)
{
    pool *p = &b->pool[m];
    size_t slots = 64;
    while (slots < 2 * all) slots *= 2;
    uint32_t *table = calloc(slots, sizeof *table);
    p->example = calloc(all + 1, sizeof *p->example);
    p->part = calloc(sets + 1, sizeof *p->part);
    if (m == JOINT) p->partner = calloc(all + 1, sizeof *p->partner);
    if (!table || !p->example || !p->part || (m == JOINT && !p->partner)) {
        free(table);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    if (m == JOINT) list_pictures(b, table, slots);
    for (uint32_t i = 0; i < all; i++) { /* examples of a set lie together */
        const mm_example *e = mm_dataset_example(b->d, i);
        const uint32_t other = m == JOINT ? partner(b, i, table, slots) : 0;
        if (m == JOINT ? !other : !member(b, e, m) || (m == MM_TEXT && said(b, i, table, slots))) continue;
        if (!p->parts || p->part[p->parts - 1].set != e->set) p->part[p->parts++] = (part){ .first = (uint32_t)p->n, .set = e->set };
        p->part[p->parts - 1].n++;
        if (m == JOINT) p->partner[p->n] = other - 1;
        p->example[p->n++] = i;
    }
    free(table);
    weigh(b, p);
    return 0;
}

/* ---- draws ---- */

static int allowed(const mm_batches *b, const mm_caption *c, int m) { return m == MM_TEXT || b->lang_ok[c->lang]; }

/* The caption of an example: see mm_batch.h. */
static int32_t choose(const mm_batches *b, const mm_example *e, int m, mm_rng r)
{
    uint32_t n[5] = { 0 }, k;
    const float *weight = b->opts.caption;
    double sum = 0;
    int role = -1;
    for (uint32_t i = 0; i < e->n_captions; i++) {
        const mm_caption *c = mm_dataset_caption(b->d, e->caption + i);
        n[c->role] += (uint32_t)allowed(b, c, m);
    }
    for (int i = 0; i < 5; i++) sum += n[i] && weight[i] > 0 ? weight[i] : 0;
    double u = mm_rng_unit(&r) * sum;
    for (int i = 0; i < 5 && u >= 0; i++) {
        if (!n[i] || (sum > 0 && !(weight[i] > 0))) continue;
        role = i;
        u -= sum > 0 ? weight[i] : 1; /* without any weight: the first role that there is */
    }
    if (role < 0) return e->n_captions ? (int32_t)e->caption : -1;
    k = mm_rng_below(&r, n[role]);
    for (uint32_t i = 0; i < e->n_captions; i++) {
        const mm_caption *c = mm_dataset_caption(b->d, e->caption + i);
        if (c->role == role && allowed(b, c, m) && !k--) return (int32_t)(e->caption + i);
    }
    return -1;
}

static uint32_t length_of(const mm_batches *b, int m, const mm_example *e, int32_t caption)
{
    if (m == MM_TEXT) return b->length[caption];
    if (m != MM_AUDIO) return 0;
    const size_t n = (size_t)mm_dataset_item(b->d, (size_t)e->item[m])->n, most = b->opts.max_frames;
    return (uint32_t)(most && n > most ? most : n);
}

static size_t budget_of(const mm_batches *b, int m) { return m == MM_TEXT || m == MM_AUDIO ? b->opts.budget[m] : 0; }

/* What one draw counts of the budget: for sounds, before chance has stretched them. */
static size_t cost(const mm_batches *b, int m, uint32_t length)
{
    return m == MM_AUDIO ? mm_augment_mel_room(length, b->opts.max_frames, &b->opts.augment[m]) : length;
}

static int by_length(const void *x, const void *y)
{
    const draw *a = x, *b = y;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* The set of the n-th draw, and how often it was drawn before: at every set its share of the draws that come by stays, evenly spaced, the
 * others go on to the next. Both are known without a look at the draws before. */
static const part *part_of(const pool *p, uint64_t seed, int m, uint64_t n, uint64_t *before)
{
    double done = 0;
    size_t i = 0;
    for (; i + 1 < p->parts; i++) {
        const double rest = 1 - done, share = rest > 0 ? (p->part[i].upto - done) / rest : 1;
        mm_rng r = mm_rng_at(seed, stream(STREAM_SET, m), p->part[i].set, 0);
        const double phase = mm_rng_unit(&r);
        const uint64_t stayed = (uint64_t)(share * (double)n + phase), stay = (uint64_t)(share * (double)(n + 1) + phase);
        done = p->part[i].upto;
        if (stay > stayed) {
            *before = stayed;
            return &p->part[i];
        }
        n -= stayed;
    }
    *before = n;
    return &p->part[i];
}

/* All draws of a window, sorted by length where there are buckets. */
static void draw_window(const mm_batches *b, int m, uint64_t window, draw *out, size_t draws)
{
    const pool *p = &b->pool[m];
    const uint64_t seed = b->opts.seed;
    for (size_t i = 0; i < draws; i++) {
        uint64_t k;
        const part *s = part_of(p, seed, m, window * draws + i, &k);
        const uint64_t key = mm_rng_at(seed, stream(STREAM_PASS, m), s->set, k / s->n).s;
        const size_t which = s->first + mm_rng_permute(k % s->n, s->n, key);
        const mm_example *e = mm_dataset_example(b->d, p->example[which]);
        draw *d = &out[i];
        *d = (draw){ .example = p->example[which], .partner = p->partner ? p->partner[which] : 0, .number = (uint32_t)i,
                     .rng = mm_rng_at(seed, stream(STREAM_AUGMENT, m), window, i) };
        d->caption = choose(b, e, m, mm_rng_at(seed, stream(STREAM_CAPTION, m), window, i));
        d->length = length_of(b, m, e, d->caption);
    }
    if (p->window > 1) qsort(out, draws, sizeof *out, by_length);
}

/* Cut the sorted draws into the window's batches and find one: by number, or by equal shares of the sum of lengths. */
static void cut(const mm_batches *b, int m, const draw *d, size_t draws, uint64_t which, size_t *first, size_t *last)
{
    const uint64_t parts = (uint64_t)b->pool[m].window;
    uint64_t total = 0, sum = 0;
    size_t i = 0;
    if (!budget_of(b, m)) {
        *first = draws * which / parts;
        *last = draws * (which + 1) / parts;
        return;
    }
    for (size_t k = 0; k < draws; k++) total += cost(b, m, d[k].length);
    for (; i < draws && sum < total * which / parts; i++) sum += cost(b, m, d[i].length);
    *first = i;
    for (; i < draws && sum < total * (which + 1) / parts; i++) sum += cost(b, m, d[i].length);
    *last = i;
}

draw *draw_step(const mm_batches *b, int m, uint64_t step, mm_arena *a, size_t *n, int *dropped, mm_err *err)
{
    const pool *p = &b->pool[m];
    const uint64_t steps = (uint64_t)p->window, window = step / steps, seed = b->opts.seed;
    const size_t draws = p->count * (size_t)p->window;
    size_t first, last, sum = 0;
    draw *d = mm_arena_alloc(a, draws + 1, sizeof *d);
    if (!d) {
        mm_fail(err, MM_ENOMEM, "out of memory");
        return NULL;
    }
    draw_window(b, m, window, d, draws);
    cut(b, m, d, draws, mm_rng_permute(step % steps, steps, mm_rng_at(seed, stream(STREAM_ORDER, m), window, 0).s), &first, &last);
    for (*n = 0; first + *n < last; ++*n) {
        sum += cost(b, m, d[first + *n].length);
        if (budget_of(b, m) && sum > budget_of(b, m)) break;
    }
    *dropped = (int)(last - first - *n);
    return d + first;
}

draw draw_partner(const mm_batches *b, uint64_t step, const draw *d)
{
    const uint64_t window = step / (uint64_t)b->pool[JOINT].window, seed = b->opts.seed;
    draw o = { .example = d->partner, .number = d->number, .rng = mm_rng_at(seed, stream(STREAM_PARTNER, JOINT), window, d->number) };
    o.caption = choose(b, mm_dataset_example(b->d, d->partner), MM_IMAGE,
                       mm_rng_at(seed, stream(STREAM_PARTNER, JOINT), window, ~(uint64_t)d->number));
    return o;
}

/* ---- opening ---- */

/* Mean cost of a draw, the sets being weighted as they are drawn. */
static double mean_cost(const mm_batches *b, int m)
{
    const pool *p = &b->pool[m];
    double mean = 0;
    for (size_t i = 0; i < p->parts; i++) {
        double sum = 0;
        for (size_t k = 0; k < p->part[i].n; k++) {
            const mm_example *e = mm_dataset_example(b->d, p->example[p->part[i].first + k]);
            const int32_t caption = choose(b, e, m, mm_rng_at(0, stream(STREAM_CAPTION, m), 0, e->caption));
            sum += (double)cost(b, m, length_of(b, m, e, caption));
        }
        mean += (p->part[i].upto - (i ? p->part[i - 1].upto : 0)) * sum / p->part[i].n;
    }
    return mean > 1 ? mean : 1;
}

/* Draws of a step and length of the window. A budget is met by as many draws as have about its length in sum. */
static void plan(mm_batches *b, int m)
{
    pool *p = &b->pool[m];
    const mm_batch_opts *o = &b->opts;
    const int count = m == JOINT ? o->joint : o->count[m];
    p->window = 1;
    p->count = p->n && count > 0 ? (size_t)count : 0;
    if (p->n && budget_of(b, m)) p->count = (size_t)((double)budget_of(b, m) / mean_cost(b, m)) + 1;
    if (!p->count || (m != MM_TEXT && m != MM_AUDIO)) return;
    const size_t steps = p->n / p->count; /* a window is no longer than one pass */
    p->window = steps > BUCKETS ? BUCKETS : steps ? (int)steps : 1;
}

static int text_lengths(mm_batches *b, mm_err *err)
{
    const mm_batch_opts *o = &b->opts;
    const pool *p = &b->pool[MM_TEXT];
    size_t n = 0;
    if (!p->n) return 0;
    while (mm_dataset_caption(b->d, n)) n++;
    if (!(b->length = calloc(n + 1, sizeof *b->length))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < p->n; i++) { /* only what may be drawn */
        const mm_example *e = mm_dataset_example(b->d, p->example[i]);
        for (uint32_t k = e->caption; k < e->caption + e->n_captions; k++) {
            const mm_caption *c = mm_dataset_caption(b->d, k);
            b->length[k] = (uint32_t)(o->text_len ? o->text_len(o->arg, c->p, c->len) : c->len / 4 + 1);
        }
    }
    return 0;
}

/* What batches depend on: data, options, and VERSION, raised whenever the same of these give other batches. */
#define VERSION 2
static uint64_t fingerprint(const mm_batches *b)
{
    const mm_batch_opts *o = &b->opts;
    mm_buf t = { 0 };
    uint64_t h = 0;
    mm_buf_addf(&t, "%d %d %d %d %zu %a %s", VERSION, o->split, o->px, o->video_px, o->max_frames, (double)o->power,
                o->langs ? o->langs : "*");
    for (int i = 0; i < 5; i++) mm_buf_addf(&t, " %a", (double)o->caption[i]);
    for (int m = 0; m < MM_MODALITIES; m++)
        mm_buf_addf(&t, " %zu %a %a", o->budget[m], (double)o->augment[m].strength, (double)o->augment[m].flip);
    for (int m = 0; m < POOLS; m++) {
        const pool *p = &b->pool[m];
        mm_buf_addf(&t, " %zu %d", p->count, p->window);
        for (size_t i = 0; i < p->parts && p->count; i++) mm_buf_addf(&t, " %u %a", p->part[i].n, p->part[i].upto);
        for (size_t i = 0; i < p->n && p->count; i++) {
            const mm_example *e = mm_dataset_example(b->d, p->example[i]);
            const mm_caption *c = mm_dataset_caption(b->d, e->caption);
            const mm_item *it = m == MM_TEXT ? NULL : mm_dataset_item(b->d, (size_t)e->item[m == JOINT ? MM_AUDIO : m]);
            h = mm_hash64(e->id, strlen(e->id), h);
            for (uint32_t k = 0; k < e->n_captions; k++) h = mm_hash64(c[k].p, c[k].len, h);
            if (it) h = mm_hash64(&it->checksum, sizeof it->checksum, h + (uint64_t)it->n);
            if (p->partner) h = mm_hash64(&p->partner[i], sizeof p->partner[i], h);
        }
    }
    h = mm_hash64(t.p ? t.p : "", t.len, h);
    mm_buf_clear(&t);
    return h;
}

int draw_open(mm_batches *b, mm_err *err)
{
    size_t langs = 0, sets = 0, all = 0, any = 0;
    while (mm_dataset_lang(b->d, langs)) langs++;
    while (mm_dataset_set(b->d, sets)) sets++;
    while (mm_dataset_example(b->d, all)) all++;
    if (!(b->lang_ok = calloc(langs + 1, 1))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < langs; i++) b->lang_ok[i] = (uint8_t)in_langs(b->opts.langs, mm_dataset_lang(b->d, i));
    int r = 0;
    for (int m = 0; m < POOLS && !r; m++) r = make_pool(b, m, sets, all, err);
    if (!r) r = text_lengths(b, err);
    for (int m = 0; m < POOLS && !r; m++) {
        plan(b, m);
        any += b->pool[m].count;
    }
    if (!r && !any)
        r = mm_fail(err, MM_EEMPTY, "there is nothing to learn from: no record for training has a caption in English (text, texts, label) "
                                    "and what the batch takes");
    if (!r) b->fingerprint = fingerprint(b);
    return r;
}

void draw_close(mm_batches *b)
{
    for (int m = 0; m < POOLS; m++) free(b->pool[m].example), free(b->pool[m].partner), free(b->pool[m].part);
    free(b->lang_ok), free(b->length);
}

/* The parameter set: layout, additions of low rank, AdamW. */
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "kernels/mm_grad.h"
#include "train/mm_optim.h"
#include "base/mm_rng.h"

#define CHUNK ((size_t)1 << 14) /* elements: five arrays of it stay in a core's own cache */
#define GROW_AFTER 2000         /* good steps before the loss scale is doubled */
#define SCALE_MAX 0x1p24f

enum { TRAINED, CHANGED, FIXED };
static int kind_of(const mm_pset_item *it)
{
    return it->flags & MM_PSET_FROZEN ? FIXED : it->flags & MM_PSET_LORA ? CHANGED : TRAINED;
}

/* ---- names ---- */

/* The next pattern of a list; 0: there is none. */
static int next_pattern(const char **list, char *out, size_t cap)
{
    while (**list == ',') ++*list;
    size_t n = strcspn(*list, ",");
    if (!n || n >= cap) return 0;
    memcpy(out, *list, n);
    out[n] = 0;
    *list += n;
    return 1;
}

int mm_name_match(const char *patterns, const char *name)
{
    char one[256];
    while (next_pattern(&patterns, one, sizeof one))
        if (!fnmatch(one, name, 0)) return 1;
    return 0;
}

/* Every pattern is there for something. */
static int check_patterns(const mm_pset *ps, const char *patterns, mm_err *err)
{
    const char *rest = patterns;
    char one[256];
    int any = 0;
    while (next_pattern(&rest, one, sizeof one)) {
        size_t i = 0;
        while (i < ps->n && fnmatch(one, ps->item[i].name, 0)) i++;
        if (i == ps->n)
            return mm_fail(err, MM_EARG, "no weight has a name like '%s' (the first is '%s')", one, ps->n ? ps->item[0].name : "");
        any = 1;
    }
    if (*rest || !any) return mm_fail(err, MM_EARG, "'%s' is no list of patterns", patterns);
    return 0;
}

/* ---- the set ---- */

static mm_pset_item *append(mm_pset *ps, const char *name, const char *tail, mm_err *err)
{
    if (ps->n == ps->cap) {
        size_t cap = ps->cap ? 2 * ps->cap : 64;
        mm_pset_item *p = mm_realloc(ps->item, cap, sizeof *p);
        if (!p) return mm_fail(err, MM_ENOMEM, "out of memory"), NULL;
        ps->item = p;
        ps->cap = cap;
    }
    size_t len = strlen(name), more = strlen(tail);
    mm_pset_item *it = &ps->item[ps->n];
    *it = (mm_pset_item){ .name = malloc(len + more + 1), .lr = 1 };
    if (!it->name) return mm_fail(err, MM_ENOMEM, "out of memory"), NULL;
    memcpy(it->name, name, len);
    memcpy(it->name + len, tail, more + 1);
    ps->n++;
    return it;
}

int mm_pset_add(mm_pset *ps, const char *name, mm_param *p, unsigned flags, float lr, mm_err *err)
{
    size_t n;
    for (size_t i = 0; i < ps->n; i++)
        if (!strcmp(ps->item[i].name, name)) return mm_fail(err, MM_EARG, "two weights have the name '%s'", name);
    if (!p->rows || !p->cols || mm_mul(p->rows, p->cols, &n) || !(lr >= 0))
        return mm_fail(err, MM_EARG, "weight '%s' has a bad size", name);
    mm_pset_item *it = append(ps, name, "", err);
    if (!it) return MM_ENOMEM;
    it->p = p;
    it->flags = flags & (MM_PSET_DECAY | MM_PSET_FROZEN);
    it->lr = lr;
    it->n = n;
    return 0;
}

int mm_pset_freeze(mm_pset *ps, const char *patterns, mm_err *err)
{
    int r = check_patterns(ps, patterns, err);
    for (size_t i = 0; !r && i < ps->n; i++)
        if (mm_name_match(patterns, ps->item[i].name)) ps->item[i].flags |= MM_PSET_FROZEN;
    return r;
}


int mm_pset_lora(mm_pset *ps, const char *patterns, int64_t rank, float scale, uint64_t seed, mm_err *err)
{
    int r = check_patterns(ps, patterns, err), any = 0;
    const size_t n = ps->n, low = (size_t)rank;
    if (r) return r;
    if (rank < 1) return mm_fail(err, MM_EARG, "a rank of %lld", (long long)rank);
    ps->lora_scale = scale;
    for (size_t i = 0; i < n; i++) {
        mm_pset_item *it = &ps->item[i];
        if (it->flags & (MM_PSET_FROZEN | MM_PSET_LORA) || !it->p || it->p->rows < 2 || !mm_name_match(patterns, it->name)) continue;
        const size_t rows = it->p->rows, cols = it->p->cols;
        if (low >= (rows < cols ? rows : cols))
            return mm_fail(err, MM_EARG, "'%s' is [%zu, %zu]: an addition of rank %zu is none of low rank", it->name, rows, cols, low);
        if (!append(ps, it->name, ".lora_a", err) || !append(ps, ps->item[i].name, ".lora_b", err)) return MM_ENOMEM;
        it = &ps->item[i];
        mm_pset_item *a = &ps->item[ps->n - 2], *b = a + 1;
        a->low = (mm_param){ .rows = low, .cols = cols };
        a->n = low * cols;
        a->seed = mm_hash64(it->name, strlen(it->name), seed);
        b->low = (mm_param){ .rows = rows, .cols = low };
        b->n = rows * low;
        a->lr = b->lr = it->lr;
        it->flags |= MM_PSET_LORA;
        it->a = ps->n - 2;
        it->b = ps->n - 1;
        any = 1;
    }
    return any ? 0 : mm_fail(err, MM_EARG, "no matrix that is trained has a name like '%s'", patterns);
}

static size_t rounded(size_t n) { return (n + MM_ALIGN / sizeof(float) - 1) & ~(MM_ALIGN / sizeof(float) - 1); }

static float *zeros(size_t n)
{
    float *p = mm_aligned(n, sizeof *p);
    if (p) memset(p, 0, n * sizeof *p);
    return p;
}

/* Numbers of variance 1 / cols, so that a row keeps the length of what it sees, the same on every machine. */
static void noise(float *w, size_t n, size_t cols, uint64_t seed)
{
    mm_rng r = { seed };
    for (size_t i = 0; i < n; i++) {
        double sum = 0; /* of four uniform numbers: near enough to a bell, of variance 1/3 */
        for (int k = 0; k < 4; k++) sum += (double)mm_rng_unit(&r) - 0.5;
        w[i] = (float)(sum * sqrt(3.0 / (double)cols));
    }
}

/* Places of all pieces; 1: their sum is beyond reason. */
static int lay_out(mm_pset *ps)
{
    size_t at = 0;
    for (int kind = TRAINED; kind <= FIXED; kind++) {
        for (size_t i = 0; i < ps->n; i++) {
            mm_pset_item *it = &ps->item[i];
            if (kind_of(it) != kind) continue;
            if (it->n > SIZE_MAX / 64 - at) return 1;
            it->at = at;
            at += rounded(it->n);
            if (!it->p) it->p = &it->low; /* no item is added any more, so that they do not move */
            else ps->count += it->n;
            if (kind == TRAINED) {
                ps->trained += it->n;
                ps->n_chunks += (it->n + CHUNK - 1) / CHUNK;
            }
        }
        if (kind == TRAINED) ps->size = at;
        if (kind == CHANGED) ps->size_lora = at - ps->size;
    }
    ps->size_all = at;
    return 0;
}

int mm_pset_build(mm_pset *ps, mm_err *err)
{
    if (lay_out(ps)) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (!ps->trained) return mm_fail(err, MM_EARG, "nothing is left to be trained");
    ps->w = zeros(ps->size_all);
    ps->grad = zeros(ps->size + ps->size_lora);
    ps->m = zeros(ps->size);
    ps->v = zeros(ps->size);
    ps->ema = zeros(ps->size);
    ps->base = zeros(ps->size_lora);
    ps->chunk = mm_realloc(NULL, ps->n_chunks, sizeof *ps->chunk);
    ps->part = mm_realloc(NULL, ps->n_chunks, sizeof *ps->part);
    if (!ps->w || !ps->grad || !ps->m || !ps->v || !ps->ema || !ps->base || !ps->chunk || !ps->part)
        return mm_fail(err, MM_ENOMEM, "out of memory");
    size_t k = 0;
    for (size_t i = 0; i < ps->n; i++) {
        mm_pset_item *it = &ps->item[i];
        if (it->p->w) memcpy(ps->w + it->at, it->p->w, it->n * sizeof *ps->w);
        it->p->w = ps->w + it->at;
        it->p->grad = kind_of(it) == FIXED ? NULL : ps->grad + it->at;
        for (size_t at = 0, n = kind_of(it) == TRAINED ? it->n : 0; at < n; at += CHUNK)
            ps->chunk[k++] = (mm_pset_chunk){ i, it->at + at, n - at < CHUNK ? n - at : CHUNK };
    }
    ps->scale = 1;
    mm_pset_reset(ps);
    return 0;
}

void mm_pset_clear(mm_pset *ps)
{
    for (size_t i = 0; i < ps->n; i++) {
        if (ps->w && ps->item[i].p) ps->item[i].p->w = ps->item[i].p->grad = NULL;
        free(ps->item[i].name);
    }
    free(ps->item);
    free(ps->w);
    free(ps->grad);
    free(ps->m);
    free(ps->v);
    free(ps->ema);
    free(ps->base);
    free(ps->chunk);
    free(ps->part);
    *ps = (mm_pset){ 0 };
}

void mm_pset_reset(mm_pset *ps)
{
    for (size_t i = 0; i < ps->n; i++) {
        const mm_pset_item *it = &ps->item[i];
        if (!(it->flags & MM_PSET_LORA)) continue;
        const mm_pset_item *a = &ps->item[it->a], *b = &ps->item[it->b];
        noise(a->p->w, a->n, a->p->cols, a->seed);
        memset(b->p->w, 0, b->n * sizeof *b->p->w);
    }
    if (ps->size_lora) memcpy(ps->base, ps->w + ps->size, ps->size_lora * sizeof *ps->w);
    memcpy(ps->ema, ps->w, ps->size * sizeof *ps->w);
    memset(ps->m, 0, ps->size * sizeof *ps->m);
    memset(ps->v, 0, ps->size * sizeof *ps->v);
    ps->t = 0;
}

int mm_pset_rest(mm_pset *ps, const char *patterns, int on, mm_err *err)
{
    int r = check_patterns(ps, patterns, err);
    for (size_t i = 0; !r && i < ps->n; i++) {
        mm_pset_item *it = &ps->item[i], *all[3] = { it };
        if (kind_of(it) == FIXED || !mm_name_match(patterns, it->name)) continue;
        if (it->flags & MM_PSET_LORA) {
            all[1] = &ps->item[it->a];
            all[2] = &ps->item[it->b];
        }
        for (int k = 0; k < 3 && all[k]; k++) {
            all[k]->rest = on;
            all[k]->p->grad = on ? NULL : ps->grad + all[k]->at;
        }
    }
    return r;
}

void mm_pset_zero(mm_pset *ps) { memset(ps->grad, 0, (ps->size + ps->size_lora) * sizeof *ps->grad); }

/* ---- additions: w = base + scale b a ---- */

int mm_pset_merge(mm_pset *ps, int threads)
{
    const mm_kern *kern = mm_kern_get();
    for (size_t i = 0; i < ps->n; i++) {
        const mm_pset_item *it = &ps->item[i];
        if (!(it->flags & MM_PSET_LORA)) continue;
        const mm_param *a = ps->item[it->a].p, *b = ps->item[it->b].p, *p = it->p;
        const float *base = ps->base + (it->at - ps->size), s = ps->lora_scale;
        if (mmk_matmul(kern, p->w, p->cols, p->rows, p->cols, a->rows, b->w, b->cols, 0, a->w, a->cols, 0, NULL, NULL, 0, MMK_ACT_NONE,
                       threads))
            return MM_ENOMEM;
        for (size_t k = 0; k < it->n; k++) p->w[k] = base[k] + s * p->w[k];
    }
    return 0;
}

/* The gradient of w becomes those of a and b. */
static int project(mm_pset *ps, int threads)
{
    const mm_kern *kern = mm_kern_get();
    for (size_t i = 0; i < ps->n; i++) {
        const mm_pset_item *it = &ps->item[i];
        if (!(it->flags & MM_PSET_LORA) || it->rest) continue;
        const mm_param *a = ps->item[it->a].p, *b = ps->item[it->b].p, *p = it->p;
        if (mmk_matmul(kern, b->grad, b->cols, p->rows, a->rows, p->cols, p->grad, p->cols, 0, a->w, a->cols, 1, NULL, NULL, 0,
                       MMK_ACT_NONE, threads) ||
            mmk_matmul(kern, a->grad, a->cols, a->rows, p->cols, p->rows, b->w, b->cols, 1, p->grad, p->cols, 0, NULL, NULL, 0,
                       MMK_ACT_NONE, threads))
            return MM_ENOMEM;
        for (size_t k = 0; k < a->rows * a->cols; k++) a->grad[k] *= ps->lora_scale;
        for (size_t k = 0; k < b->rows * b->cols; k++) b->grad[k] *= ps->lora_scale;
    }
    return 0;
}

/* ---- the step ---- */

static double sum_of_squares(mm_pset *ps, int threads)
{
    const mm_kern *kern = mm_kern_get();
    double sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t c = 0; c < ps->n_chunks; c++) {
        const mm_pset_chunk *k = &ps->chunk[c];
        ps->part[c] = ps->item[k->item].rest ? 0 : kern->sumsq(ps->grad + k->at, k->n);
    }
    for (size_t c = 0; c < ps->n_chunks; c++) sum += ps->part[c];
    return sum;
}

int mm_pset_step(mm_pset *ps, const mm_optim *o, double lr, unsigned n_micro, int threads, mm_step_info *info)
{
    const mm_kern *kern = mm_kern_get();
    if (ps->size_lora && project(ps, threads)) return MM_ENOMEM;
    const double parts = (double)ps->scale * n_micro, norm = sqrt(sum_of_squares(ps, threads)) / parts;
    if (info) *info = (mm_step_info){ norm, ps->scale };
    if (!isfinite(norm)) {
        ps->good = 0;
        if (o->scaling) ps->scale /= 2;
        return 1;
    }
    const double t = (double)++ps->t, early = (1 + t) / (20 + t), keep = o->ema < early ? o->ema : early;
    const float share = (float)(1 - keep);
    const mmk_adamw all = {
        .beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps,
        .correction1 = (float)(1 - pow((double)o->beta1, t)), .correction2 = (float)(1 - pow((double)o->beta2, t)),
        .gscale = (float)((o->clip > 0 && norm > o->clip ? o->clip / norm : 1) / parts),
    };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t c = 0; c < ps->n_chunks; c++) {
        const mm_pset_chunk *k = &ps->chunk[c];
        const mm_pset_item *it = &ps->item[k->item];
        if (it->rest) continue;
        float *w = ps->w + k->at, *ema = ps->ema + k->at;
        mmk_adamw h = all;
        h.lr = (float)(lr * it->lr);
        h.wd = it->flags & MM_PSET_DECAY && it->p->rows > 1 ? o->wd : 0;
        kern->adamw(w, ps->grad + k->at, ps->m + k->at, ps->v + k->at, k->n, &h);
        if (keep > 0)
            for (size_t i = 0; i < k->n; i++) ema[i] += share * (w[i] - ema[i]);
        else memcpy(ema, w, k->n * sizeof *ema);
    }
    if (o->scaling && ++ps->good == GROW_AFTER) {
        ps->good = 0;
        if (ps->scale < SCALE_MAX) ps->scale *= 2;
    }
    return ps->size_lora ? mm_pset_merge(ps, threads) : 0;
}

int mm_pset_swap(mm_pset *ps, int threads)
{
    for (size_t i = 0; i < ps->size; i++) {
        const float w = ps->w[i];
        ps->w[i] = ps->ema[i];
        ps->ema[i] = w;
    }
    ps->swapped = !ps->swapped;
    return ps->size_lora ? mm_pset_merge(ps, threads) : 0;
}

/* ---- schedules ---- */

int mm_schedule_kind(mm_lr_kind *out, const char *name, mm_err *err)
{
    static const char *const names[] = { [MM_LR_COSINE] = "cosine", [MM_LR_LINEAR] = "linear", [MM_LR_CONSTANT] = "constant" };
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) return *out = (mm_lr_kind)i, 0;
    return mm_fail(err, MM_EARG, "schedule '%s' should be cosine, linear or constant", name);
}

double mm_schedule_at(const mm_schedule *s, double done, double step)
{
    if (done + step <= s->warmup) return s->lr * (done + step) / s->warmup;
    if (done < s->warmup) return s->lr;
    if (s->kind == MM_LR_CONSTANT) return s->lr;
    const double x = s->warmup < 1 ? (done - s->warmup) / (1 - s->warmup) : 0, left = x > 1 ? 0 : 1 - x;
    const double share = s->kind == MM_LR_LINEAR ? left : (1 + cos(M_PI * (1 - left))) / 2;
    return s->lr * (s->floor + (1 - s->floor) * share);
}

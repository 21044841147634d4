/* English captions of a data set, and texts as tokens. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "train/captions.h"

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static int english(const mm_dataset *d, const mm_caption *c)
{
    const char *l = mm_dataset_lang(d, c->lang);
    return !l[0] || !strcmp(l, "en") || !strcmp(l, "eng") || !strncmp(l, "en_", 3) || !strncmp(l, "en-", 3);
}

size_t mm_captions_of(const mm_caption_finder *f, size_t e, void (*add)(void *, const char *, size_t), void *arg)
{
    const mm_example *x = mm_dataset_example(f->d, e);
    size_t n = 0;
    for (uint32_t i = 0; i < x->n_captions; i++) {
        const mm_caption *c = mm_dataset_caption(f->d, x->caption + i);
        if (!english(f->d, c) || !c->len || (c->role == MM_CAPTION_LABEL && n)) continue;
        add(arg, c->p, c->len);
        n++;
    }
    if (n || !x->concept[0]) {
        if (!n && x->label[0]) add(arg, x->label, strlen(x->label)), n = 1;
        return n;
    }
    const json_t *other = json_object_get(f->by_concept, x->concept);
    const mm_example *y = other ? mm_dataset_example(f->d, (size_t)json_integer_value(other)) : NULL;
    for (uint32_t i = 0; y && i < y->n_captions; i++) {
        const mm_caption *c = mm_dataset_caption(f->d, y->caption + i);
        if (!english(f->d, c) || !c->len || c->role == MM_CAPTION_LABEL) continue;
        add(arg, c->p, c->len);
        n++;
    }
    if (!n && x->label[0]) add(arg, x->label, strlen(x->label)), n = 1;
    return n;
}

void mm_text_set_add(void *arg, const char *p, size_t len)
{
    mm_text_set *t = arg;
    char *key = strndup(p, len); /* a slice may have no NUL */
    const json_t *j = key ? json_object_get(t->number, key) : NULL;
    size_t row = j ? (size_t)json_integer_value(j) : t->n;
    if (!j) {
        if (t->n == t->cap) {
            mm_slice *q = mm_realloc(t->text, 2 * t->cap + 64, sizeof *q);
            if (q) t->text = q, t->cap = 2 * t->cap + 64;
            else t->failed = 1;
        }
        if (!key || t->failed || json_object_set_new(t->number, key, json_integer((json_int_t)t->n))) t->failed = 1;
        else t->text[t->n++] = (mm_slice){ p, len };
    }
    free(key);
    if (t->n_rows == t->cap_rows) {
        uint32_t *q = mm_realloc(t->rows, 2 * t->cap_rows + 64, sizeof *q);
        if (q) t->rows = q, t->cap_rows = 2 * t->cap_rows + 64;
        else t->failed = 1;
    }
    if (!t->failed) t->rows[t->n_rows++] = (uint32_t)row;
}

void mm_text_set_clear(mm_text_set *t)
{
    json_decref(t->number);
    free(t->text);
    free(t->rows);
}

int mm_caption_finder_make(mm_caption_finder *f, const mm_dataset *d, mm_err *err)
{
    f->d = d;
    f->by_concept = json_object();
    if (!f->by_concept) return no_memory(err);
    for (size_t i = 0; mm_dataset_example(f->d, i); i++) {
        const mm_example *e = mm_dataset_example(f->d, i);
        if (e->id[0] && json_object_set_new(f->by_concept, e->id, json_integer((json_int_t)i))) return no_memory(err);
    }
    return 0;
}

int mm_captions_make(mm_captions *c, const mm_caption_finder *f, mm_modality m, mm_split split, mm_err *err)
{
    mm_text_set x = { .number = json_object() };
    size_t n = 0;
    while (mm_dataset_example(f->d, n)) n++;
    c->first = mm_realloc(NULL, n + 1, sizeof *c->first);
    int r = x.number && c->first ? 0 : no_memory(err);
    for (size_t e = 0; e < n && !r; e++) {
        const mm_example *ex = mm_dataset_example(f->d, e);
        c->first[e] = (uint32_t)x.n_rows;
        if (ex->split == split && ex->item[m] >= 0) mm_captions_of(f, e, mm_text_set_add, &x);
        if (x.failed) r = no_memory(err);
    }
    if (!r) {
        c->first[n] = (uint32_t)x.n_rows;
        c->rows = x.rows;
        c->n_rows = x.n_rows;
        c->text = x.text;
        c->n = x.n;
        x.rows = NULL;
        x.text = NULL;
    }
    mm_text_set_clear(&x);
    return r;
}

void mm_captions_clear(mm_captions *c)
{
    free(c->text);
    free(c->first);
    free(c->rows);
}

uint32_t mm_captions_draw(const mm_captions *c, uint32_t e, mm_rng *r)
{
    uint32_t n = mm_captions_count(c, e), j = n < 2 || mm_rng_unit(r) < 0.5f ? 0 : mm_rng_below(r, n);
    return c->rows[c->first[e] + j];
}

/* ---- tokens ---- */

int mm_tokenize(const mm_tok *tok, unsigned flags, size_t window, const mm_slice *text, size_t n, mm_id_lists *k, mm_err *err)
{
    size_t cap = 0, at = 0;
    mm_tok_out out = { 0 };
    int r = 0;
    k->off = mm_realloc(NULL, n + 1, sizeof *k->off);
    if (!k->off) return no_memory(err);
    for (size_t i = 0; i < n && !r; i++) {
        r = mm_tok_encode(tok, text[i].p, text[i].len, flags, &out, err);
        size_t len = out.n < window ? out.n : window, need = len ? len : 1;
        if (!r && at + need > cap) {
            int32_t *q = mm_realloc(k->ids, cap = 2 * cap + need + 4096, sizeof *q);
            if (q) k->ids = q;
            else r = no_memory(err);
        }
        if (r) break;
        k->off[i] = at;
        if (len) memcpy(k->ids + at, out.ids, len * sizeof *k->ids);
        else k->ids[at] = 0;
        at += need;
    }
    k->off[n] = at;
    mm_tok_out_clear(&out);
    return r;
}

int mm_gather_ids(mm_arena *a, const mm_id_lists *k, const uint32_t *pick, size_t n, int32_t **ids, size_t **off)
{
    size_t total = 0;
    *off = mm_arena_alloc(a, n + 1, sizeof **off);
    if (!*off) return MM_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        (*off)[i] = total;
        total += k->off[pick[i] + 1] - k->off[pick[i]];
    }
    (*off)[n] = total;
    *ids = mm_arena_alloc(a, total, sizeof **ids);
    if (!*ids) return MM_ENOMEM;
    for (size_t i = 0; i < n; i++) memcpy(*ids + (*off)[i], k->ids + k->off[pick[i]], ((*off)[i + 1] - (*off)[i]) * sizeof **ids);
    return 0;
}

void mm_id_lists_clear(mm_id_lists *k)
{
    free(k->ids);
    free(k->off);
}

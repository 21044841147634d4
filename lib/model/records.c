/* Records of several modalities to one vector each. */
#include <stdlib.h>
#include <string.h>
#include "model/model_int.h"

int mm_model_has_gates(const mm_model *m) { return m->uni != NULL; }

/* The parts sorted by modality: n[mod] inputs each, part p being input at[p]. */
typedef struct {
    mm_arena arena;
    size_t n[MM_MODALITIES], *at;
    mm_text_in *text;
    mm_text_out *res; /* of the texts */
    mm_part *media;   /* of all modalities, from first_x[mod] on */
    const float **x, **times; /* of them */
    size_t first_x[MM_MODALITIES];
} sorted;

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

static int sort(sorted *s, const mm_model *m, const mm_part *parts, const size_t *first, size_t n, mm_err *err)
{
    size_t all = first[n], k[MM_MODALITIES] = { 0 };
    for (size_t i = 0; i < n; i++)
        for (size_t p = first[i]; p < first[i + 1]; p++) {
            if ((unsigned)parts[p].mod >= MM_MODALITIES || (p > first[i] && parts[p].mod <= parts[p - 1].mod))
                return mm_fail(err, MM_EARG, "the parts of record %zu are not in the order of their modalities", i);
            if (!m->via[parts[p].mod]) return mm_fail(err, MM_EUNSUP, "this model takes no %s", mm_modality_name(parts[p].mod));
            s->n[parts[p].mod]++;
        }
    s->at = mm_arena_alloc(&s->arena, all, sizeof *s->at);
    s->text = mm_arena_alloc(&s->arena, all, sizeof *s->text);
    s->res = mm_arena_alloc(&s->arena, all, sizeof *s->res);
    s->media = mm_arena_alloc(&s->arena, all, sizeof *s->media);
    s->x = mm_arena_alloc(&s->arena, all, sizeof *s->x);
    s->times = mm_arena_alloc(&s->arena, all, sizeof *s->times);
    if (!s->at || !s->text || !s->res || !s->media || !s->x || !s->times) return no_memory(err);
    for (int i = 1; i < MM_MODALITIES; i++) s->first_x[i] = s->first_x[i - 1] + s->n[i - 1];
    for (size_t p = 0; p < all; p++) {
        s->at[p] = k[parts[p].mod]++;
        const size_t to = s->first_x[parts[p].mod] + s->at[p];
        if (parts[p].mod == MM_TEXT) s->text[s->at[p]] = parts[p].text;
        else s->media[to] = parts[p], s->x[to] = parts[p].x, s->times[to] = parts[p].times;
    }
    return 0;
}

static int usable(const sorted *s, const mm_part *part, size_t p) { return part->mod != MM_TEXT || !s->res[s->at[p]].code; }

/* ---- by gates ---- */

static int fuse(mm_model *m, sorted *s, const mm_part *parts, const size_t *first, size_t n, float *vec, float *gates, mm_err *err)
{
    size_t all = first[n], dim = mm_model_dim(m), kept = 0, live = 0, *off = mm_arena_alloc(&s->arena, s->n[MM_TEXT] + 1, sizeof *off);
    size_t *at = mm_arena_alloc(&s->arena, all, sizeof *at), *from = mm_arena_alloc(&s->arena, all, sizeof *from);
    size_t *begin = mm_arena_alloc(&s->arena, n + 1, sizeof *begin), *record = mm_arena_alloc(&s->arena, n, sizeof *record);
    mm_modality *mod = mm_arena_alloc(&s->arena, all, sizeof *mod);
    float *weight = mm_arena_alloc(&s->arena, all, sizeof *weight);
    int32_t *ids = NULL;
    if (!off || !at || !from || !begin || !record || !mod || !weight) return no_memory(err);
    int r = s->n[MM_TEXT] ? mm_text_tokens(m, s->text, s->n[MM_TEXT], &ids, off, s->res, err) : 0;
    /* what is left without the empty texts, and the records that have something left */
    for (size_t i = 0; i < n && !r; i++) {
        begin[live] = kept;
        for (size_t p = first[i]; p < first[i + 1]; p++) {
            if (!usable(s, &parts[p], p)) continue;
            from[kept] = p;
            at[kept] = s->at[p];
            mod[kept++] = parts[p].mod;
        }
        if (kept > begin[live]) record[live++] = i;
    }
    if (!r && live) {
        mm_record_job j = { begin, at, mod, { { 0 } }, weight };
        begin[live] = kept;
        for (int k = 0; k < MM_MODALITIES; k++) {
            const size_t x = s->first_x[k];
            j.of[k] = (mm_tower_job){ .t = &m->tower[k], .x = s->x + x, .times = s->times + x, .n = s->n[k] };
        }
        j.of[MM_TEXT].ids = ids;
        j.of[MM_TEXT].off = off;
        r = mm_tower_run(m, &(mm_tower_job){ .n = live, .records = &j }, vec, err);
    }
    free(ids);
    if (r) return r;
    memset(gates, 0, all * sizeof *gates);
    for (size_t p = 0; p < kept; p++) gates[from[p]] = weight[p];
    /* vectors come densely and are spread over the empty records' places from the end on */
    for (size_t i = n; i-- > 0;) {
        if (live && record[live - 1] == i) {
            if (--live != i) memmove(vec + i * dim, vec + live * dim, dim * sizeof *vec);
        } else {
            memset(vec + i * dim, 0, dim * sizeof *vec);
        }
    }
    return 0;
}

/* ---- by equal weights ---- */

static int mean(mm_model *m, sorted *s, const mm_part *parts, const size_t *first, size_t n, float *vec, float *gates, mm_err *err)
{
    size_t dim = mm_model_dim(m);
    float *own = mm_arena_alloc(&s->arena, first[n] * dim, sizeof *own);
    int r = own ? 0 : no_memory(err);
    if (!r && s->n[MM_TEXT]) r = mm_model_embed_text(m, s->text, s->n[MM_TEXT], own, s->res, err);
    for (int k = MM_IMAGE; k < MM_MODALITIES && !r; k++)
        if (s->n[k]) r = mm_model_embed_input(m, s->media + s->first_x[k], s->n[k], own + s->first_x[k] * dim, err);
    if (r) return r;
    memset(vec, 0, n * dim * sizeof *vec);
    for (size_t i = 0; i < n; i++) {
        float *to = vec + i * dim;
        int have = 0;
        for (size_t p = first[i]; p < first[i + 1]; p++) have += usable(s, &parts[p], p);
        for (size_t p = first[i]; p < first[i + 1]; p++) {
            const float *z = own + (s->first_x[parts[p].mod] + s->at[p]) * dim;
            gates[p] = usable(s, &parts[p], p) ? 1 / (float)have : 0;
            for (size_t d = 0; d < dim; d++) to[d] += z[d]; /* that of an empty text is zero */
        }
        if (have > 1) m->kern->l2_normalize(to, 1, dim);
    }
    return 0;
}

int mm_model_embed_records(mm_model *m, mm_fuse how, const mm_part *parts, const size_t *first, size_t n, float *vec, float *gates,
                           mm_text_out *res, mm_err *err)
{
    sorted s = { .at = NULL };
    if (how == MM_FUSE_GATES && !m->uni) return mm_fail(err, MM_EUNSUP, "this model gives no weights to the parts of a record");
    int r = sort(&s, m, parts, first, n, err);
    if (!r) r = (how == MM_FUSE_GATES ? fuse : mean)(m, &s, parts, first, n, vec, gates, err);
    for (size_t p = 0; p < first[n] && !r; p++) res[p] = parts[p].mod == MM_TEXT ? s.res[s.at[p]] : (mm_text_out){ 0 };
    mm_arena_clear(&s.arena);
    return r;
}

/* Cosines between vectors from which the mean of their modality was taken. Within one modality q (x - m) is q x less
 * a constant, so the plain scan finds the candidates of each modality, and those are scored exactly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "index/index_int.h"
#include "kernels/mm_kern.h"
#include "kernels/mm_scan.h"

void mm_index_modality(const char *json, size_t len, char out[MM_INDEX_MODALITY])
{
    static const char *const kinds[] = { "text", "image", "audio", "video" };
    mm_json_iter it;
    mm_slice key, val;
    int has[4] = { 0 };
    mm_buf b = { 0 };
    memset(out, 0, MM_INDEX_MODALITY);
    if (mm_json_begin(&it, json, len, NULL) || it.array) return;
    while (mm_json_next(&it, &key, &val, NULL) > 0) {
        for (int i = 0; i < 4; i++) has[i] |= key.len == strlen(kinds[i]) && !memcmp(key.p, kinds[i], key.len);
        if (key.len == 8 && !memcmp(key.p, "modality", 8) && val.p[0] == '"' && !mm_json_unescape(&b, val, NULL) &&
            b.len) {
            memcpy(out, b.p, b.len < MM_INDEX_MODALITY ? b.len : MM_INDEX_MODALITY - 1);
            mm_buf_clear(&b);
            return;
        }
    }
    mm_buf_clear(&b);
    for (size_t i = 0, at = 0; i < 4; i++) {
        if (!has[i]) continue;
        if (at) out[at++] = '+';
        memcpy(out + at, kinds[i], strlen(kinds[i]));
        at += strlen(kinds[i]);
    }
}

size_t class_number(class_table *t, const char *name, size_t len)
{
    size_t c = 0;
    if (len >= IX_CLASS_NAME) len = IX_CLASS_NAME - 1;
    while (c < t->n && (memcmp(t->name[c], name, len) || t->name[c][len])) c++;
    if (c < t->n) return c;
    if (c == IX_CLASSES) return 0;
    memcpy(t->name[t->n++], name, len);
    return c;
}

typedef struct {
    class_table names;
    uint64_t count[IX_CLASSES];
    double *mean;   /* [IX_CLASSES, dim]: sums first */
    uint8_t *class; /* [rows] */
} means;

static void add_vector(means *m, size_t c, const float *v, size_t dim, int sign)
{
    for (size_t i = 0; i < dim; i++) m->mean[c * dim + i] += sign * (double)v[i];
    m->count[c] += (uint64_t)(int64_t)sign;
}

static void add_segment(means *m, const segment *s, float *v, size_t dim)
{
    size_t n = seg_classes(s), number[IX_CLASSES];
    const uint8_t *class = seg_sec(s, SEC_CLASS);
    class_head h;
    for (size_t c = 0; c < n; c++) {
        const double *sum = seg_class(s, c, &h);
        size_t to = number[c] = class_number(&m->names, h.name, strlen(h.name));
        for (size_t i = 0; i < dim; i++) m->mean[to * dim + i] += sum[i];
        m->count[to] += h.rows;
    }
    for (uint64_t r = 0; r < s->h.rows; r++) {
        size_t c = number[class[r] < n ? class[r] : 0];
        m->class[s->base + r] = (uint8_t)c;
        if (!(s->dead[r / 64] >> r % 64 & 1)) continue;
        seg_vector(s, r, v);
        add_vector(m, c, v, dim, -1);
    }
}

static int means_new(means *m, const mm_index *ix)
{
    size_t dim = ix->dim, rows = (size_t)ix_base(ix) + ix->n_row;
    *m = (means){ .names.n = 1, .mean = calloc(IX_CLASSES * dim, sizeof *m->mean), .class = calloc(rows + 1, 1) };
    float *v = mm_aligned(dim, sizeof *v);
    if (!m->mean || !m->class || !v) {
        free(v);
        return MM_ENOMEM;
    }
    for (size_t i = 0; i < ix->n_seg; i++) add_segment(m, &ix->seg[i], v, dim);
    for (size_t i = 0; i < ix->n_row; i++) {
        char name[IX_CLASS_NAME];
        if (!ix->row[i].live) continue;
        mm_index_modality(ix->text.p + ix->row[i].doc, ix->row[i].doc_len, name);
        size_t c = class_number(&m->names, name, strlen(name));
        m->class[ix_base(ix) + i] = (uint8_t)c;
        add_vector(m, c, ix->vec + i * dim, dim, 1);
    }
    for (size_t c = 0; c < m->names.n; c++)
        for (size_t i = 0; i < dim && m->count[c]; i++) m->mean[c * dim + i] /= (double)m->count[c];
    free(v);
    return 0;
}

static float cosine(const float *q, const float *x, const double *mean, size_t dim)
{
    double dot = 0, norm = 0;
    for (size_t d = 0; d < dim; d++) {
        double c = x[d] - mean[d];
        dot += q[d] * c;
        norm += c * c;
    }
    return norm > 1e-10 ? (float)(dot / sqrt(norm)) : 0; /* the mean itself, but for rounding, points nowhere */
}

/* The hits among one modality's rows. */
static int search_class(mm_index *ix, const means *m, size_t c, const float *q, size_t nq, const mm_index_query *how,
                        size_t want, uint64_t *skip, mmk_hits *part, mmk_hits *hits, mm_err *err)
{
    uint64_t rows = ix_base(ix) + ix->n_row;
    mm_index_query one = *how;
    one.skip = skip;
    for (uint64_t w = 0; w * 64 < rows; w++) skip[w] = how->skip ? how->skip[w] : 0;
    for (uint64_t r = 0; r < rows; r++) skip[r / 64] |= (uint64_t)(m->class[r] != c) << r % 64;
    for (size_t i = 0; i < nq; i++) part[i].count = 0;
    int r = search_rows(ix, q, nq, &one, want, part, err);
    float *x = mm_aligned(ix->dim, sizeof *x);
    if (!x) r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < nq && !r; i++)
        for (size_t h = 0; h < part[i].count; h++) {
            mm_index_vector(ix, part[i].id[h], x);
            mmk_hits_push(&hits[i], cosine(q + i * ix->dim, x, m->mean + c * ix->dim, ix->dim), part[i].id[h]);
        }
    free(x);
    return r;
}

int search_centered(mm_index *ix, float *q, size_t nq, const mm_index_query *how, size_t want, mmk_hits *hits,
                    mm_err *err)
{
    means m;
    uint64_t *skip = mm_realloc(NULL, (size_t)((ix_base(ix) + ix->n_row) / 64) + 2, sizeof *skip);
    mmk_hits *part = hits_new(nq, want);
    int r = means_new(&m, ix) || !skip || !part ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
    for (size_t i = 0; i < nq && !r; i++) {
        const char *name = how->modality && how->modality[i] ? how->modality[i] : "";
        size_t c = 0;
        while (c < m.names.n && strcmp(m.names.name[c], name)) c++;
        if (c == m.names.n || !m.count[c] || !name[0]) continue;
        float *x = q + i * ix->dim;
        for (size_t d = 0; d < ix->dim; d++) x[d] -= (float)m.mean[c * ix->dim + d];
        mm_kern_get()->l2_normalize(x, 1, ix->dim); /* zero stays zero: all scores are 0 */
    }
    for (size_t c = 0; c < m.names.n && !r; c++)
        if (m.count[c]) r = search_class(ix, &m, c, q, nq, how, want, skip, part, hits, err);
    free(m.mean);
    free(m.class);
    free(skip);
    hits_free(part);
    return r;
}

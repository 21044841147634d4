#include "cmd/labels.h"
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"

struct mm_labels {
    size_t n, dim;
    mm_buf names; /* NUL after each */
    const char **name;
    float *vec; /* [n, dim], length 1 */
    mm_logits how;
};

/* One label through every template. */
static int embed(mm_labels *l, mm_model *m, size_t i, const mm_strv *templates, mm_err *err)
{
    size_t n = templates->n ? templates->n : 1;
    mm_buf text = { 0 };
    mm_text_out res;
    float *one = mm_aligned(l->dim, sizeof *one), *sum = l->vec + i * l->dim;
    int r = one ? 0 : mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t t = 0; t < n && !r; t++) {
        const char *tmpl = templates->n ? templates->v[t] : "{}", *at = strstr(tmpl, "{}");
        mm_buf_reset(&text);
        mm_buf_add(&text, tmpl, (size_t)(at - tmpl));
        mm_buf_adds(&text, l->name[i]);
        mm_buf_adds(&text, at + 2);
        if (text.failed) r = mm_fail(err, MM_ENOMEM, "out of memory");
        else r = mm_model_embed_text(m, &(mm_text_in){ text.p, text.len }, 1, one, &res, err);
        if (!r && res.code) r = mm_fail(err, MM_EDATA, "label '%s' has no tokens", l->name[i]);
        if (r) break;
        mm_kern_get()->l2_normalize(one, 1, l->dim);
        for (size_t k = 0; k < l->dim; k++) sum[k] += one[k];
    }
    mm_kern_get()->l2_normalize(sum, 1, l->dim);
    free(one);
    mm_buf_clear(&text);
    return r;
}

int mm_labels_open(mm_labels **out, mm_model *m, const char *file, const mm_strv *templates, mm_err *err)
{
    *out = NULL;
    if (!mm_model_get_config(m, MM_TEXT)) return mm_fail(err, MM_EUNSUP, "labels are texts, and this model takes none");
    for (size_t t = 0; t < templates->n; t++)
        if (!strstr(templates->v[t], "{}")) return mm_fail(err, MM_EARG, "template '%s' has no {} where the label goes", templates->v[t]);
    mm_labels *l = calloc(1, sizeof *l);
    if (!l) return mm_fail(err, MM_ENOMEM, "out of memory");
    l->dim = mm_model_dim(m);
    l->how = mm_model_logits(m);
    if (!(l->how.scale > 0)) l->how.scale = 100; /* what clip's own training ends at; a model of texts alone has none */
    int r = mm_file_read(&l->names, file, MM_MAX_LINE, err);
    if (!r && mm_utf8_valid(l->names.p, l->names.len) < l->names.len) r = mm_fail(err, MM_EDATA, "'%s' is not valid UTF-8", file);
    size_t lines = 1;
    for (size_t i = 0; !r && i < l->names.len; i++) lines += l->names.p[i] == '\n';
    if (!r && (!(l->name = calloc(lines, sizeof *l->name)) || !(l->vec = calloc(lines, l->dim * sizeof *l->vec))))
        r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (char *p = l->names.p, *end; !r && p && *p; p = end) {
        end = p + strcspn(p, "\n");
        if (*end) *end++ = 0;
        p[strcspn(p, "\r")] = 0;
        if (*p) l->name[l->n++] = p;
    }
    if (!r && !l->n) r = mm_fail(err, MM_EDATA, "'%s' names no labels", file);
    for (size_t i = 0; !r && i < l->n; i++) r = embed(l, m, i, templates, err);
    if (r) mm_labels_close(&l);
    *out = l;
    return r;
}

typedef struct {
    double score;
    size_t i;
} ranked;

static int better(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->i < y->i ? -1 : x->i > y->i;
}

int mm_labels_report(const mm_labels *l, mm_rec *rec, const float *vec, size_t k)
{
    ranked *s = calloc(l->n, sizeof *s);
    double *score = calloc(l->n, sizeof *score);
    float *v = mm_aligned(l->dim, sizeof *v);
    mm_buf b = { 0 };
    if (!s || !v || !score) {
        free(s);
        free(v);
        free(score);
        return MM_ENOMEM;
    }
    memcpy(v, vec, l->dim * sizeof *v);
    mm_kern_get()->l2_normalize(v, 1, l->dim);
    mm_logits_scores(l->how, v, l->vec, l->n, l->dim, score);
    for (size_t i = 0; i < l->n; i++) s[i] = (ranked){ score[i], i };
    qsort(s, l->n, sizeof *s, better);
    mm_buf_addc(&b, '[');
    for (size_t i = 0; i < l->n && i < k; i++) {
        mm_buf_adds(&b, i ? ",{\"label\":" : "{\"label\":");
        mm_json_quote(&b, l->name[s[i].i], strlen(l->name[s[i].i]));
        mm_buf_addf(&b, ",\"score\":%.6g}", s[i].score);
    }
    mm_buf_addc(&b, ']');
    int r = b.failed ? MM_ENOMEM : mm_rec_set(rec, "labels", b.p, b.len);
    mm_buf_clear(&b);
    free(s);
    free(v);
    free(score);
    return r;
}

void mm_labels_close(mm_labels **lp)
{
    mm_labels *l = *lp;
    if (!l) return;
    mm_buf_clear(&l->names);
    free(l->name);
    free(l->vec);
    free(l);
    *lp = NULL;
}

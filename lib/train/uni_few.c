/* Few labelled examples and the unified model: their vectors and those of their labels, and a model with prototypes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/uni_task_int.h"

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

int mm_uni_task_few(mm_uni_task *t, mm_modality m, double share, mm_few *f, mm_err *err)
{
    const bank *k = &t->banks[m];
    size_t n = 0, all = 0;
    *f = (mm_few){ 0 };
    if (!k->c.n) return 0;
    while (mm_dataset_example(t->o.data, all)) all++;
    uint32_t *e = mm_realloc(NULL, all + 1, sizeof *e);
    for (size_t i = 0; e && i < all; i++) {
        const mm_example *x = mm_dataset_example(t->o.data, i);
        if (x->split == MM_TRAIN && x->item[m] >= 0 && mm_captions_count(&k->c, (ptrdiff_t)i)) e[n++] = (uint32_t)i;
    }
    float *x = mm_aligned((n + 1) * t->out, sizeof *x), *to = mm_aligned((n + 1) * t->out, sizeof *to);
    int r = e && x && to ? 0 : no_memory(err);
    for (size_t i = 0; i < n && !r; i++)
        memcpy(to + i * t->out, k->vec + (size_t)k->c.rows[k->c.first[e[i]]] * t->out, t->out * sizeof *to);
    if (!r && n && n <= MM_FEW_MOST) r = task_embed_examples(t, m, e, n, x, err);
    if (!r && n) r = mm_few_fit(f, x, to, n, t->out, share, err);
    free(e);
    free(x);
    free(to);
    return r;
}

int mm_uni_with_few(mm_uni **out, mm_uni *u, const mm_few few[MM_MODALITIES], mm_err *err)
{
    mm_uni_config c = *mm_uni_get_config(u);
    char name[64];
    for (int m = 0; m < MM_MODALITIES; m++) {
        c.mod[m].few = (int64_t)few[m].n;
        c.mod[m].few_width = few[m].width;
    }
    int r = mm_uni_new(out, &c, err);
    for (size_t i = 0; !r && i < mm_uni_count(u); i++) {
        mm_uni_slot *from = mm_uni_slot_at(u, i), *s = mm_uni_slot_find(*out, from->name);
        if (s) s->p.w = from->p.w;
    }
    for (int m = 0; m < MM_MODALITIES && !r; m++)
        for (int value = 0; value < 2 && few[m].n; value++) {
            snprintf(name, sizeof name, "%s.few_%s.weight", mm_modality_name((mm_modality)m), value ? "value" : "key");
            mm_uni_slot_find(*out, name)->p.w = value ? few[m].value : few[m].key;
        }
    if (!r) mm_uni_bind(*out);
    return r;
}

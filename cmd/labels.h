/* labels.h - zero-shot labels: mm-embed --labels. Each label is put into every template, embedded as text, and the vectors averaged; an
 * input's scores are the model's own: softmax over the labels of scale * cosine (clip), or a sigmoid for each (siglip). */
#ifndef MM_CMD_LABELS_H
#define MM_CMD_LABELS_H

#include "cmd/cmd.h"
#include "model/mm_model.h"
#include "stream/mm_stream.h"

typedef struct mm_labels mm_labels;

/* file: one label a line. templates: texts with "{}" where the label goes; none: the label alone. */
int mm_labels_open(mm_labels **out, mm_model *m, const char *file, const mm_strv *templates, mm_err *err);
/* Write "labels":[{"label":..,"score":..}, ...], the best k first, for a vector of the model. 0 or MM_ENOMEM. */
int mm_labels_report(const mm_labels *l, mm_rec *rec, const float *vec, size_t k);
void mm_labels_close(mm_labels **l);

#endif

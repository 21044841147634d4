/* given.h - what a model would see, out of a record: the other end of mm-embed --emit inputs. */
#ifndef MM_CMD_GIVEN_H
#define MM_CMD_GIVEN_H

#include "model/mm_model.h"
#include "stream/mm_stream.h"

/* A record's "input", {"dtype":"F32","shape":[..],"b64":..} of the shape that the model takes of its "modality"; the key is then taken out. 1 and
 * *x (the caller's to free), of a clip for the unified model *times too, in the same memory: the record's "times", or NULL if it has none; 0: the
 * record has no such object; or the code with which it has failed. */
int mm_given_take(mm_rec *rec, const mm_model *m, mm_modality *mod, float **x, float **times);

#endif

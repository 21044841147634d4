/* Which families can be trained. */
#include "train/mm_run.h"

int mm_trainable_open(mm_trainable *out, const mm_train_opts *o, mm_err *err)
{
    (void)out;
    return mm_fail(err, MM_EUNSUP, "the family of '%s' is not trainable", o->config ? o->config : o->from ? o->from : "default");
}

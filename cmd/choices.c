#include "cmd/choices.h"
#include <math.h>
#include "base/mm_base.h"

int mm_choices_of(mm_choices *k, mm_rec *rec)
{
    mm_err err = { 0 };
    const mm_slice name = mm_rec_name(rec);
    mm_buf_reset(&k->whole);
    mm_buf_reset(&k->id);
    if (!k->rec && !(k->rec = mm_rec_new())) return MM_ENOMEM;
    if (mm_rec_json(rec, MM_ENC_NUMBERS, &k->whole, &err)) return MM_ENOMEM;
    mm_buf_add(&k->id, name.p, name.len);
    k->base = k->id.len;
    return k->id.failed ? MM_ENOMEM : 0;
}

int mm_choices_at(mm_choices *k, int64_t i)
{
    mm_err err = { 0 };
    k->id.len = k->base;
    mm_buf_addf(&k->id, "#%lld", (long long)i);
    return k->id.failed || mm_rec_parse(k->rec, k->whole.p, k->whole.len, &err) || mm_rec_set_str(k->rec, "id", k->id.p, k->id.len) ||
                   mm_rec_set_int(k->rec, "choice", i)
               ? MM_ENOMEM
               : 0;
}

void mm_choices_clear(mm_choices *k)
{
    mm_rec_free(k->rec);
    mm_buf_clear(&k->whole);
    mm_buf_clear(&k->id);
    k->rec = NULL;
}

int mm_own_seed(mm_rec *rec, uint64_t *seed)
{
    mm_slice v;
    double x;
    if (!mm_rec_get(rec, "seed", &v)) return 0;
    if (mm_parse_double(v.p, v.len, &x) != v.len || !(x >= 0 && x <= 0x1p53) || floor(x) < x)
        return mm_rec_fail(rec, MM_EDATA, "'seed' is no whole number from 0 to 2^53");
    *seed = (uint64_t)x;
    return 0;
}

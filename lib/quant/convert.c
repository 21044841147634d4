/* The conversion itself: which type each tensor gets, and rows through the kernels and back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/mm_kern.h"
#include "quant/quant_int.h"

#define CHUNK ((size_t)1 << 16) /* elements converted at a time, at least one row */

int readable(int type) { return mmk_fmt(type) >= 0 || type == MM_F64; }

void read_row(const mm_kern *k, float *out, const void *row, int type, size_t n)
{
    if (type != MM_F64) {
        mmk_row_to_f32(k, out, row, type, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, (const char *)row + 8 * i, 8);
        out[i] = (float)d;
    }
}

/* x * 0 is 0 for every finite x */
static int all_finite(const float *x, size_t n)
{
    float s = 0;
    for (size_t i = 0; i < n; i++) s += x[i] * 0;
    return s == 0;
}

static size_t columns(const mm_store_tensor *t) { return t->ndim ? (size_t)t->shape[t->ndim - 1] : 1; }

static size_t elements(const mm_store_tensor *t)
{
    const mm_dtype_info *d = mm_dtype_get(t->type);
    return t->bytes / d->bytes * d->block;
}

int mm_quant_check(const mm_store_tensor *t, size_t *nan, size_t *inf, mm_err *err)
{
    const mm_kern *k = mm_kern_get();
    size_t n = elements(t), cols = columns(t), step;
    *nan = *inf = 0;
    if (!readable(t->type)) {
        /* whole numbers are finite */
        if (t->type == MM_I8 || t->type == MM_I16 || t->type == MM_I32 || t->type == MM_I64 ||
            (t->type >= MM_U8 && t->type <= MM_U64))
            return 0;
        return mm_fail(err, MM_EUNSUP, "values of type %s cannot be checked", mm_dtype_get(t->type)->name);
    }
    if (!n) return 0;
    step = cols < CHUNK ? CHUNK / cols * cols : cols;
    float *x = mm_aligned(step, sizeof *x);
    if (!x) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < step ? n - at : step;
        read_row(k, x, (const char *)t->data + t->bytes / (n / cols) * (at / cols), t->type, m);
        if (all_finite(x, m)) continue;
        for (size_t i = 0; i < m; i++) {
            *nan += isnan(x[i]) != 0;
            *inf += isinf(x[i]) != 0;
        }
    }
    free(x);
    return 0;
}

static int ends(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* The rules of llama.cpp's converter, whose graphs expect them: vectors and norms in float32, as are the
 * small tables that are added to; the rest in the type asked for, or float16 where rows do not divide into
 * blocks. */
static int choose(const job *j, struct out *o, mm_err *err)
{
    const mm_store_tensor *t = o->t;
    int want = j->o->type;
    o->to = t->type;
    o->note = NULL;
    if (!readable(t->type)) {
        if (mm_dtype_get(t->type)->block > 1)
            return mm_fail(err, MM_EUNSUP, "tensor '%s' has type %s, which cannot be converted", t->name,
                           mm_dtype_get(t->type)->name);
        o->note = "whole numbers, copied";
        return 0; /* the writer refuses what GGUF does not have */
    }
    if (t->ndim <= 1) o->to = MM_F32;
    else if (j->family && (ends(o->name, "_norm.weight") || ends(o->name, "position_embd.weight") ||
                           ends(o->name, "token_types.weight") || ends(o->name, "time_embd.weight") || ends(o->name, "proj_t.weight")))
        o->to = MM_F32, o->note = want == MM_F32 ? NULL : "small table, kept as f32";
    else if (columns(t) % mm_dtype_get(want)->block)
        o->to = MM_F16, o->note = "rows do not divide into blocks of 32, kept as f16";
    else o->to = want;
    return 0;
}

static int too_large(const mm_store_tensor *t, int to, const float *x, size_t n, mm_err *err)
{
    float most = 0; /* of a block it is the largest value that does not fit */
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]) && fabsf(x[i]) > fabsf(most)) most = x[i];
    return mm_fail(err, MM_EDATA, "tensor '%s' has the value %g, which %s cannot hold", t->name, (double)most,
                   mm_dtype_get(to)->name);
}

typedef struct {
    float *x, *y;   /* as read, as written and read back */
    uint8_t *bytes; /* as written */
} scratch;

static int write_tensor(job *j, const struct out *o, scratch *s, size_t step, mm_quant_stat *q, double *err2,
                        double *sum2, mm_err *err)
{
    const mm_kern *k = mm_kern_get();
    const mm_store_tensor *t = o->t;
    size_t n = q->count, cols = columns(t), m;
    if (step < cols) step = cols;
    else if (cols) step = step / cols * cols;
    for (size_t at = 0; at < n; at += m) {
        const char *src = (const char *)t->data + t->bytes / (n / cols) * (at / cols);
        size_t out_bytes;
        int r, finite;
        m = n - at < step ? n - at : step;
        if ((r = mm_dtype_bytes(o->to, m, &out_bytes)))
            return mm_fail(err, r, "tensor '%s' has a bad shape", t->name);
        if (readable(t->type)) {
            read_row(k, s->x, src, t->type, m);
            if (!(finite = all_finite(s->x, m)))
                for (size_t i = 0; i < m; i++) q->nonfinite += !isfinite(s->x[i]);
        } else {
            finite = 1;
        }
        if (o->to == t->type) {
            if ((r = mm_gguf_data(j->w, src, out_bytes, err))) return r;
            continue;
        }
        if (!finite && mm_dtype_get(o->to)->block > 1)
            return mm_fail(err, MM_EDATA,
                           "tensor '%s' has values that are NaN or infinite, which %s cannot hold", t->name,
                           mm_dtype_get(o->to)->name);
        for (size_t i = 0; i < m; i += cols)
            k->from_f32[mmk_fmt(o->to)](s->bytes + out_bytes / (m / cols) * (i / cols), s->x + i, cols);
        for (size_t i = 0; i < m; i += cols)
            mmk_row_to_f32(k, s->y + i, s->bytes + out_bytes / (m / cols) * (i / cols), o->to, cols);
        for (size_t i = 0; i < m; i++) {
            if (!isfinite(s->x[i])) continue;
            double d = fabs((double)s->y[i] - (double)s->x[i]);
            if (!isfinite(d)) return too_large(t, o->to, s->x, m, err);
            *err2 += d * d;
            *sum2 += (double)s->x[i] * (double)s->x[i];
            if (d > q->max_abs) q->max_abs = d;
        }
        if ((r = mm_gguf_data(j->w, s->bytes, out_bytes, err))) return r;
    }
    if (!o->own) mm_store_release(j->st, t);
    return 0;
}

static int write_all(job *j, mm_quant_sum *sum, mm_err *err)
{
    size_t step = CHUNK;
    double all_err = 0, all_sum = 0;
    int r = 0;
    for (size_t i = 0; i < j->n; i++)
        if (columns(j->out[i].t) > step && elements(j->out[i].t)) step = columns(j->out[i].t);
    scratch s = { mm_aligned(step, sizeof(float)), mm_aligned(step, sizeof(float)), mm_aligned(step, 8) };
    if (!s.x || !s.y || !s.bytes) r = mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < j->n && !r; i++) {
        const struct out *o = &j->out[i];
        double err2 = 0, sum2 = 0;
        mm_quant_stat q = {
            .name = o->name, .from = o->t->type, .to = o->to, .count = elements(o->t), .note = o->note
        };
        if (mm_dtype_bytes(o->to, q.count, &q.bytes)) q.bytes = 0; /* the writer has refused such a tensor */
        if ((r = write_tensor(j, o, &s, CHUNK, &q, &err2, &sum2, err))) break;
        q.rel_rms = err2 > 0 ? sqrt(err2 / sum2) : 0;
        if (err2 > 0) all_err += err2, all_sum += sum2;
        sum->tensors++;
        sum->params += q.count;
        sum->bytes_out += q.bytes;
        if (q.rel_rms > sum->worst) {
            sum->worst = q.rel_rms;
            strncpy(sum->worst_name, o->name, sizeof sum->worst_name - 1);
        }
        if (j->o->report) j->o->report(j->o->arg, &q);
    }
    for (size_t i = 0; i < mm_store_count(j->st); i++) sum->bytes_in += mm_store_at(j->st, i)->bytes; /* what is pruned away counts */
    sum->rel_rms = all_err > 0 ? sqrt(all_err / all_sum) : 0;
    free(s.x);
    free(s.y);
    free(s.bytes);
    return r;
}

/* llama.cpp's number for a file whose matrices mostly have this type (llama.h, enum llama_ftype) */
static uint32_t file_type(int type)
{
    return type == MM_F16 ? 1 : type == MM_Q8_0 ? 7 : type == MM_BF16 ? 32 : 0;
}

int mm_quant_convert(const char *in, const char *out, const mm_quant_opts *o, mm_quant_sum *sum, mm_err *err)
{
    mm_quant_sum own;
    job j = { .o = o };
    if (!sum) sum = &own;
    *sum = (mm_quant_sum){ 0 };
    if (mmk_fmt(o->type) < 0) return mm_fail(err, MM_EARG, "type %d cannot be written", o->type);
    int r = mm_store_open(&j.st, in, err);
    if (r) return r;
    if ((r = mm_store_no_checkpoint(j.st, err)))
        mm_err_prefix(err, "'%s': ", in);
    else if (mm_store_uses(j.st, out))
        r = mm_fail(err, MM_EARG, "'%s' is a file that the model is read from", out);
    if (!r) r = mm_gguf_create(&j.w, out, err);
    if (!r)
        r = (j.out = calloc(mm_store_count(j.st) + 1, sizeof *j.out))
                ? 0
                : mm_fail(err, MM_ENOMEM, "out of memory");
    if (r || (r = describe(&j, in, err))) goto end;
    memcpy(sum->arch, j.arch, sizeof sum->arch);
    mm_gguf_kv_u32(j.w, "general.file_type", file_type(o->type));
    mm_gguf_kv_u32(j.w, "general.quantization_version", 2);
    for (size_t i = 0; i < j.n && !r; i++)
        if (!(r = choose(&j, &j.out[i], err)))
            mm_gguf_tensor(j.w, j.out[i].name, j.out[i].to, j.out[i].t->ndim, j.out[i].t->shape);
    if (!r) r = mm_gguf_begin(j.w, err);
    if (!r) r = write_all(&j, sum, err);
    if (r == MM_EDATA || r == MM_EUNSUP || r == MM_ESHAPE) mm_err_prefix(err, "'%s': ", in);
    if (!r) r = mm_gguf_commit(&j.w, err);
end:
    mm_gguf_abort(&j.w);
    mm_store_close(&j.st);
    mm_arena_clear(&j.arena);
    free(j.out);
    return r;
}

/* mm-quantize - look into model files, and store them smaller. */
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/cmd.h"
#include "model/mm_uni.h"
#include "quant/mm_quant.h"
#include "stream/mm_stream.h"
#include "token/mm_token.h"

#define CHECK_LIMIT ((uint64_t)1 << 30) /* without --check values are looked at up to this many bytes */

static const int types[] = { MM_F32, MM_F16, MM_BF16, MM_Q8_0 };
static struct {
    const char *out, *tensor, *prune;
    int type, info, json, check;
} o = { .type = -1, .check = -1 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("Converting"),
    MM_OPT_ENUM('t', "type", &o.type, "f32|f16|bf16|q8_0", "how matrices are stored"),
    MM_OPT_STR('o', "output", &o.out, "FILE", "GGUF file to write, which appears when all is written"),
    MM_OPT_STR(0, "prune", &o.prune, "SPEC", "leave out what matters least: layers=2,ffn=768,heads=8,vocab=FILE:6000 (bert)"),
    MM_OPT_GROUP("Looking"),
    MM_OPT_BOOL('i', "info", &o.info, "list architecture, keys, tokenizer and tensors instead"),
    MM_OPT_BOOL(0, "json", &o.json, "as one JSON object"),
    MM_OPT_STR(0, "tensor", &o.tensor, "NAME", "the numbers of one tensor instead, a record for each row"),
    MM_OPT_BOOL(0, "check", &o.check,
                "look for NaN and infinite values; any: exit 1 (default: warn, up to 1 GiB)"),
    MM_OPT_END
};

static const char *type_name(int type) { return mm_dtype_get(type)->name; }

/* ---- converting ---- */

typedef struct {
    mm_ctx *c;
    const char *in;
    size_t tensors, fell_back;
    mm_progress progress;
} reporter;

static void report(void *arg, const mm_quant_stat *q)
{
    reporter *r = arg;
    mm_progress_tick(&r->progress, ++r->tensors);
    if (q->nonfinite)
        mm_warn(r->c, "'%s': tensor '%s' has %zu values that are NaN or infinite", r->in, q->name,
                q->nonfinite);
    if (q->to == MM_F16 && types[o.type] == MM_Q8_0 && q->note) r->fell_back++;
    if (q->from == q->to) mm_info(r->c, "%s: %s, copied", q->name, type_name(q->to));
    else
        mm_info(r->c, "%s: %s -> %s, relative RMS error %.3g, max %.3g%s%s", q->name, type_name(q->from),
                type_name(q->to), q->rel_rms, q->max_abs, q->note ? "; " : "", q->note ? q->note : "");
}

static void quoted(mm_buf *b, const char *s) { mm_json_quote(b, s, strlen(s)); }

static int flush(mm_ctx *c, mm_buf *b)
{
    int r = b->failed ? mm_fail(&c->err, MM_ENOMEM, "out of memory") : 0;
    if (!r && fwrite(b->p, 1, b->len, stdout) != b->len)
        r = mm_fail_errno(&c->err, "cannot write to standard output");
    mm_buf_clear(b);
    return r;
}

static int convert(mm_ctx *c, const char *in)
{
    reporter rep = { .c = c, .in = in };
    mm_quant_opts q = { types[o.type], o.prune, report, &rep };
    mm_quant_sum s;
    mm_progress_start(&rep.progress, c, "tensors", 0);
    int r = mm_quant_convert(in, o.out, &q, &s, &c->err);
    mm_progress_end(&rep.progress);
    if (r) return r;
    if (rep.fell_back)
        mm_warn(c, "'%s': rows of %zu tensors do not divide into blocks of 32: stored as f16 (-v lists them)",
                in, rep.fell_back);
    mm_buf b = { 0 };
    mm_buf_adds(&b, "{\"output\":");
    quoted(&b, o.out);
    mm_buf_addf(&b, ",\"type\":\"%s\",\"architecture\":", type_name(q.type));
    quoted(&b, s.arch);
    mm_buf_addf(&b, ",\"tensors\":%zu,\"parameters\":%llu,\"bytes_in\":%llu,\"bytes\":%llu,\"rel_rms\":%.4g",
                s.tensors, (unsigned long long)s.params, (unsigned long long)s.bytes_in,
                (unsigned long long)s.bytes_out, s.rel_rms);
    if (s.worst_name[0]) {
        mm_buf_adds(&b, ",\"worst\":{\"name\":");
        quoted(&b, s.worst_name);
        mm_buf_addf(&b, ",\"rel_rms\":%.4g}", s.worst);
    }
    mm_buf_adds(&b, "}\n");
    return flush(c, &b);
}

/* ---- looking ---- */

typedef struct {
    const char *kind, *arch, *tok_model; /* tok_model NULL: none */
    uint64_t params, bytes;
    size_t tok_count, bad; /* tensors with NaN or infinite values */
    size_t total[MM_MODALITIES], shared[MM_MODALITIES]; /* of the unified model's encoders, tables of tokens apart */
    const char *positions; /* of the unified model */
} facts;

static int shares(mm_ctx *c, mm_store *st, facts *f)
{
    mm_uni_config conf;
    mm_uni *u;
    int r = mm_uni_config_read(&conf, st, &c->err);
    if (!r) r = mm_uni_new(&u, &conf, &c->err);
    if (r) return r;
    for (int m = 0; m < MM_MODALITIES; m++) mm_uni_share(u, (mm_modality)m, &f->total[m], &f->shared[m]);
    f->positions = mm_uni_positions_name(&conf);
    mm_uni_free(&u);
    return 0;
}

static uint64_t elements(const mm_store_tensor *t)
{
    return (uint64_t)t->bytes / mm_dtype_get(t->type)->bytes * mm_dtype_get(t->type)->block;
}

static int look(mm_ctx *c, mm_store *st, facts *f)
{
    const char *p;
    size_t len;
    int r = 0;
    *f = (facts){ .arch = "" };
    if (mm_store_is_gguf(st)) {
        const mm_slice *tokens;
        f->kind = "gguf";
        if ((r = mm_store_kv_str(st, "general.architecture", "", &f->arch, &c->err)) ||
            (r = mm_store_kv_str(st, "tokenizer.ggml.model", NULL, &f->tok_model, &c->err)) ||
            (r = mm_store_kv_strs(st, "tokenizer.ggml.tokens", &tokens, &f->tok_count, &c->err)) ||
            (!strcmp(f->arch, "mm-uni") && (r = shares(c, st, f))))
            return r;
    } else if (mm_store_config(st)) {
        f->kind = "folder";
        if ((r = mm_json_get_str(mm_store_config(st), "model_type", "", &f->arch, &c->err))) return r;
        if ((r = mm_store_file(st, "tokenizer.json", &p, &len, &c->err)) < 0) return r;
        mm_tok *tok = NULL;
        mm_err why;
        if (!r && mm_tok_from_json(&tok, p, len, &why)) mm_warn(c, "tokenizer.json: %s", why.msg);
        if (tok) {
            f->tok_model = "wordpiece";
            f->tok_count = mm_tok_vocab(tok);
        }
        mm_tok_free(&tok);
    } else {
        f->kind = "safetensors";
    }
    for (size_t i = 0; i < mm_store_count(st); i++) {
        f->params += elements(mm_store_at(st, i));
        f->bytes += mm_store_at(st, i)->bytes;
    }
    return 0;
}

/* Warns of each tensor with bad values; *n counts them. */
static int check(mm_ctx *c, const mm_store *st, const char *name, size_t *n)
{
    size_t unknown = 0;
    for (size_t i = 0; i < mm_store_count(st); i++) {
        const mm_store_tensor *t = mm_store_at(st, i);
        size_t nan, inf;
        int r = mm_quant_check(t, &nan, &inf, &c->err);
        if (r && r != MM_EUNSUP) return r;
        unknown += r == MM_EUNSUP;
        if (nan || inf) {
            mm_warn(c, "'%s': tensor '%s' has %zu NaN and %zu infinite values", name, t->name, nan, inf);
            ++*n;
        }
        mm_store_release(st, t);
    }
    if (unknown && o.check > 0)
        mm_warn(c, "'%s': %zu tensors have types whose values cannot be looked at", name, unknown);
    c->err = (mm_err){ 0 };
    return 0;
}

static void shape(mm_buf *b, const mm_store_tensor *t, const char *sep)
{
    mm_buf_addc(b, '[');
    for (int k = 0; k < t->ndim; k++) mm_buf_addf(b, "%s%lld", k ? sep : "", (long long)t->shape[k]);
    mm_buf_addc(b, ']');
}

static void as_json(mm_buf *b, const mm_store *st, const char *name, const facts *f)
{
    const char *key, *type;
    mm_buf_adds(b, "{\"file\":");
    quoted(b, name);
    mm_buf_addf(b, ",\"format\":\"%s\",\"architecture\":", f->kind);
    quoted(b, f->arch);
    mm_buf_addf(b, ",\"parameters\":%llu,\"bytes\":%llu", (unsigned long long)f->params,
                (unsigned long long)f->bytes);
    if (f->tok_model) {
        mm_buf_adds(b, ",\"tokenizer\":{\"model\":");
        quoted(b, f->tok_model);
        mm_buf_addf(b, ",\"tokens\":%zu}", f->tok_count);
    }
    for (int m = 0, n = 0; m < MM_MODALITIES; m++)
        if (f->total[m])
            mm_buf_addf(b, "%s\"%s\":{\"parameters\":%zu,\"shared\":%.4f}", n++ ? "," : ",\"encoders\":{", mm_modality_name((mm_modality)m), f->total[m],
                        (double)f->shared[m] / (double)f->total[m]);
    if (f->positions) mm_buf_addf(b, "},\"positions\":\"%s\"", f->positions);
    if (mm_store_config(st)) {
        char *s = json_dumps(mm_store_config(st), JSON_COMPACT);
        mm_buf_adds(b, ",\"config\":");
        if (s) mm_buf_adds(b, s);
        else b->failed = 1;
        free(s);
    }
    mm_buf_adds(b, ",\"metadata\":{");
    for (size_t i = 0;; i++) {
        size_t at = b->len;
        mm_buf v = { 0 };
        if (!(key = mm_store_kv_at(st, i, &type, &v))) break;
        if (i) mm_buf_addc(b, ',');
        quoted(b, key);
        mm_buf_addc(b, ':');
        if (v.failed || mm_buf_add(b, v.p, v.len)) b->failed = 1;
        mm_buf_clear(&v);
        if (b->len == at) break; /* out of memory */
    }
    mm_buf_adds(b, "},\"tensors\":[");
    for (size_t i = 0; i < mm_store_count(st); i++) {
        const mm_store_tensor *t = mm_store_at(st, i);
        mm_buf_adds(b, i ? ",{\"name\":" : "{\"name\":");
        quoted(b, t->name);
        mm_buf_addf(b, ",\"type\":\"%s\",\"shape\":", type_name(t->type));
        shape(b, t, ",");
        mm_buf_addf(b, ",\"bytes\":%zu}", t->bytes);
    }
    mm_buf_adds(b, "]}\n");
}

/* Names come from the file: nothing in them may move the cursor. */
static void plain(mm_buf *b, const char *s)
{
    for (; *s; s++) mm_buf_addc(b, (unsigned char)*s < 32 || *s == 127 ? '?' : *s);
}

static void as_text(mm_buf *b, const mm_store *st, const char *name, const facts *f)
{
    const char *key, *type;
    size_t width = 0, n = mm_store_count(st), count;
    plain(b, name);
    mm_buf_addf(b, ": %s, architecture ",
                !strcmp(f->kind, "gguf")     ? "GGUF"
                : !strcmp(f->kind, "folder") ? "Hugging Face folder"
                                             : "safetensors");
    plain(b, f->arch[0] ? f->arch : "not stated");
    mm_buf_addf(b, ", %llu parameters, %.1f MiB\n", (unsigned long long)f->params,
                (double)f->bytes / 1048576);
    if (f->tok_model) {
        mm_buf_adds(b, "\ntokenizer: ");
        plain(b, f->tok_model);
        mm_buf_addf(b, ", %zu tokens\n", f->tok_count);
    }
    for (int m = 0, some = 0; m < MM_MODALITIES; m++)
        if (f->total[m])
            mm_buf_addf(b, "%s  %-5s %zu parameters, %.1f %% of them shared\n", some++ ? "" : "\nencoders, tables of tokens apart:\n",
                        mm_modality_name((mm_modality)m), f->total[m], 100.0 * (double)f->shared[m] / (double)f->total[m]);
    if (f->positions) mm_buf_addf(b, "  positions: %s\n", f->positions);
    if (mm_store_config(st)) {
        json_t *v;
        mm_buf_adds(b, "\nconfig.json:\n");
        json_object_foreach((json_t *)mm_store_config(st), key, v) {
            char *s = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
            mm_buf_adds(b, "  ");
            plain(b, key);
            mm_buf_addc(b, ' ');
            plain(b, s ? s : "?");
            mm_buf_addc(b, '\n');
            free(s);
        }
    }
    for (size_t i = 0;; i++) {
        mm_buf v = { 0 };
        if (!(key = mm_store_kv_at(st, i, &type, &v))) break;
        if (!i) mm_buf_adds(b, "\nkeys:\n");
        mm_buf_adds(b, "  ");
        plain(b, key);
        mm_buf_addf(b, " (%s) ", type);
        size_t shown = v.len > 2000 ? mm_utf8_valid(v.p, 200) : v.len; /* a whole tokenizer.json is no reading */
        if (v.p) mm_buf_add(b, v.p, shown); /* JSON text: control characters are escaped */
        if (shown < v.len) mm_buf_addf(b, "... (%zu bytes)", v.len);
        mm_buf_addc(b, '\n');
        mm_buf_clear(&v);
    }
    for (size_t i = 0; i < n; i++)
        width = strlen(mm_store_at(st, i)->name) > width ? strlen(mm_store_at(st, i)->name) : width;
    if (width > 60) width = 60;
    mm_buf_addf(b, "\ntensors: %zu\n", n);
    for (size_t i = 0; i < n; i++) {
        const mm_store_tensor *t = mm_store_at(st, i);
        size_t len = strlen(t->name);
        mm_buf_adds(b, "  ");
        plain(b, t->name);
        mm_buf_addf(b, "%*s  %-5s ", (int)(len < width ? width - len : 0), "", type_name(t->type));
        shape(b, t, ", ");
        mm_buf_addf(b, " %zu\n", t->bytes);
    }
    mm_buf_adds(b, "\ntypes:\n");
    for (int k = 0; k <= MM_F8_E5M2; k++) {
        uint64_t bytes = 0;
        count = 0;
        for (size_t i = 0; i < n; i++)
            if (mm_store_at(st, i)->type == k) count++, bytes += mm_store_at(st, i)->bytes;
        if (count)
            mm_buf_addf(b, "  %-5s %zu tensors, %.1f MiB\n", type_name(k), count, (double)bytes / 1048576);
    }
}

/* Records {"id":"NAME[ROW]","embedding":[..]} */
static int rows_of(mm_ctx *c, const mm_store_tensor *t)
{
    const size_t cols = t->ndim ? (size_t)t->shape[t->ndim - 1] : 1, rows = cols ? (size_t)elements(t) / cols : 0;
    const mm_kern *k = mm_kern_get();
    mm_writer *w = NULL;
    mm_rec *rec = mm_rec_new();
    float *x = mm_aligned(cols, sizeof *x);
    mm_buf id = { 0 };
    int r = rec && x ? 0 : mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (!r && mmk_fmt(t->type) < 0)
        r = mm_fail(&c->err, MM_EUNSUP, "tensor '%s' has type %s, whose numbers cannot be written", t->name, type_name(t->type));
    if (!r) r = mm_writer_open(&w, &(mm_writer_opts){ 0 }, &c->err);
    for (size_t i = 0; i < rows && !r; i++) {
        mmk_row_to_f32(k, x, (const char *)t->data + t->bytes / rows * i, t->type, cols);
        id.len = 0;
        mm_rec_reset(rec);
        if (mm_buf_addf(&id, "%s[%zu]", t->name, i) || mm_rec_set_str(rec, "id", id.p, id.len) || mm_rec_set_vec(rec, MM_F32, x, cols))
            r = mm_fail(&c->err, MM_ENOMEM, "out of memory");
        else r = mm_writer_put(w, rec, &c->err);
    }
    if (!r) r = mm_writer_finish(w, &c->err);
    mm_writer_close(&w);
    mm_rec_free(rec);
    mm_buf_clear(&id);
    free(x);
    return r;
}

static int one_tensor(mm_ctx *c, const char *path)
{
    mm_store *st;
    int r = mm_store_open(&st, path, &c->err);
    if (r) return r;
    const mm_store_tensor *t = mm_store_find(st, o.tensor);
    r = t ? rows_of(c, t) : mm_fail(&c->err, MM_EARG, "'%s' has no tensor '%s' (--info lists them)", path, o.tensor);
    mm_store_close(&st);
    return r;
}

static int info(mm_ctx *c, const char *path)
{
    mm_store *st;
    facts f;
    mm_buf b = { 0 };
    int r = mm_store_open(&st, path, &c->err);
    if (r) return r;
    r = look(c, st, &f);
    if (r) mm_err_prefix(&c->err, "'%s': ", path);
    if (!r && (o.check > 0 || (o.check < 0 && f.bytes <= CHECK_LIMIT))) r = check(c, st, path, &f.bad);
    if (!r) {
        (o.json ? as_json : as_text)(&b, st, path, &f);
        r = flush(c, &b);
    }
    mm_store_close(&st);
    return r ? r : o.check > 0 && f.bad;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    char *path;
    int r;
    if (argc > 1 || (!argc && !o.info)) return mm_fail(&c->err, MM_EARG, argc ? "one model at a time" : "no model given");
    if ((r = mm_opt_exclusive(c, "info", "type", NULL)) || (r = mm_opt_exclusive(c, "info", "output", NULL)) ||
        (r = mm_opt_exclusive(c, "info", "prune", NULL)))
        return r;
    if (!o.info && (o.json || o.check >= 0 || o.tensor))
        return mm_fail(&c->err, MM_EARG, "options '--json', '--check' and '--tensor' go with '--info'");
    if ((r = mm_opt_exclusive(c, "tensor", "json", NULL)) || (r = mm_opt_exclusive(c, "tensor", "check", NULL))) return r;
    if (!o.info && o.type < 0) return mm_fail(&c->err, MM_EARG, "option '--type' or '--info' is needed");
    if (!o.info && !o.out) return mm_fail(&c->err, MM_EARG, "option '--output' is needed");
    if (!o.info && !strcmp(o.out, "-"))
        return mm_fail(&c->err, MM_EARG, "GGUF is written to a file, not to standard output");
    if ((r = mm_store_resolve(&path, argc ? argv[0] : NULL, &c->err))) return r;
    r = o.tensor ? one_tensor(c, path) : o.info ? info(c, path) : convert(c, path);
    free(path);
    return r;
}

static const char *const usage[] = { "-t TYPE -o FILE [--prune SPEC] [-v] MODEL", "--info [--json] [--check] [MODEL]", "--info --tensor NAME [MODEL]", NULL };
static const mm_cmd cmd = { "mm-quantize", "look into model files, and store them smaller", usage,
                            opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

/* mm-retrieve - keep vectors in an index and find the nearest. */
#include <stdlib.h>
#include "base/mm_base.h"
#include "cmd/retrieve.h"

static mm_retrieve_opts o = { .k = 10, .min_score = -1e9 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("What to do (default: search)"),
    MM_OPT_BOOL('a', "add", &o.add, "add the input's records to INDEX, which is created if it is not there"),
    MM_OPT_BOOL('d', "delete", &o.del, "delete the records whose ids come in, as records or as plain lines"),
    MM_OPT_STR('g', "get", &o.get, "ID", "print the record of this id"),
    MM_OPT_BOOL('l', "list", &o.list, "print all records"),
    MM_OPT_BOOL('i', "info", &o.info, "print what the index is, as one JSON line"),
    MM_OPT_BOOL(0, "verify", &o.verify, "check all checksums; exit status 1 and a line for each damage"),
    MM_OPT_BOOL(0, "compact", &o.compact, "rewrite the index without what was deleted or replaced"),
    MM_OPT_BOOL(0, "merge", &o.merge, "merge the hits of searches in several indexes, one file each; no INDEX"),
    MM_OPT_GROUP("Search"),
    MM_OPT_INT('k', "top", &o.k, "N", 1, 1000000, "hits per query (default 10)"),
    MM_OPT_STR('w', "where", &o.where, "CONDITION", "only records that match, as: lang = \"de\" and year >= 2020"),
    MM_OPT_NUM(0, "min-score", &o.min_score, "X", -1e9, 1e9, "only hits of at least this score"),
    MM_OPT_INT(0, "rescore", &o.rescore, "N", 1, 1000000,
               "candidates scored again in float32 (types i8, b1; default 10 N, at least 100)"),
    MM_OPT_BOOL(0, "center", &o.center, "subtract the mean of each modality, for lists of texts and pictures mixed"),
    MM_OPT_BOOL(0, "keep-embedding", &o.keep, "leave the query's vector in the output"),
    MM_OPT_INT(0, "batch", &o.batch, "N", 1, 65536, "queries searched together (default 256), or records made safe together (default 4096)"),
    MM_OPT_GROUP("Index"),
    MM_OPT_ENUM(0, "type", &o.type, "f32|f16|i8|b1", "how a new index keeps its vectors (default: f32)"),
    MM_OPT_BOOL(0, "any-model", &o.any_model, "take vectors of another model than the index was made with"),
    MM_OPT_BOOL(0, "ack", &o.ack, "print the number of records that are safely stored, after every batch"),
    MM_OPT_BOOL(0, "wait", &o.wait, "wait while another process is writing to the index"),
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

static int print_record(mm_retrieve *s, uint64_t row)
{
    mm_slice id, doc;
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    mm_index_record(s->ix, row, &id, &doc);
    mm_rec *rec = s->rec;
    mm_err err = { 0 };
    mm_buf b = { 0 };
    mm_buf_addc(&b, '{');
    mm_retrieve_json(&b, id, doc, 0);
    mm_buf_addc(&b, '}');
    float *v = mm_aligned(info.dim, sizeof *v);
    int r = b.failed || !v                        ? mm_retrieve_no_memory(s)
            : mm_rec_parse(rec, b.p, b.len, &err) ? mm_fail(&s->c->err, MM_EDATA, "record '%.100s': %s", b.p, err.msg)
                                                  : 0;
    if (!r) mm_index_vector(s->ix, row, v);
    if (!r && mm_index_model(s->ix)[0] && !mm_rec_get(rec, "model", &id))
        r = mm_rec_set_str(rec, "model", mm_index_model(s->ix), strlen(mm_index_model(s->ix)));
    if (!r) r = mm_rec_set_vec(rec, MM_F32, v, info.dim);
    if (!r) r = mm_io_put(&o.io, rec);
    free(v);
    mm_buf_clear(&b);
    return r;
}

static int show(mm_retrieve *s)
{
    static char dev_null[] = "/dev/null", *none[] = { dev_null, NULL };
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (!r) r = mm_retrieve_where(s);
    if (r) return r;
    if ((r = mm_io_open(&o.io, s->c, 1, none))) return r;
    mm_index_info info;
    mm_index_get_info(s->ix, &info);
    uint64_t row;
    if (o.get) {
        if (mm_index_find(s->ix, o.get, strlen(o.get), &row)) r = print_record(s, row), s->answers = 1;
    } else {
        for (row = 0; row < info.rows && !r; row++)
            if (mm_index_live(s->ix, row) && !(s->skip && s->skip[row / 64] >> row % 64 & 1))
                r = print_record(s, row), s->answers++;
    }
    r = mm_io_close(&o.io, r);
    if (!r && o.get && !s->answers) {
        mm_error(s->c, "there is no record '%s'", o.get);
        return 1;
    }
    return r;
}

static int info(mm_retrieve *s)
{
    static const char *const types[] = { "f32", "f16", "i8", "b1" };
    mm_index_info i;
    mm_buf b = { 0 };
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (r) return r;
    mm_index_get_info(s->ix, &i);
    mm_json_quote(&b, mm_index_model(s->ix), strlen(mm_index_model(s->ix)));
    if (b.failed) r = mm_retrieve_no_memory(s);
    else
        printf("{\"type\":\"%s\",\"dim\":%zu,\"records\":%llu,\"rows\":%llu,\"added\":%llu,\"journal\":%llu,"
               "\"segments\":%zu,\"bytes\":%llu,\"model\":%s}\n",
               types[i.type], i.dim, (unsigned long long)i.records, (unsigned long long)i.rows,
               (unsigned long long)i.added, (unsigned long long)i.journal, i.segments, (unsigned long long)i.bytes,
               b.p);
    mm_buf_clear(&b);
    return r;
}

static void report(void *arg, const char *what) { mm_error(arg, "%s", what); }

static int verify(mm_retrieve *s)
{
    int r = mm_index_open(&s->ix, s->dir, MM_INDEX_READ, NULL, &s->c->err);
    if (r == MM_EDATA || r == MM_ETRUNC || r == MM_ESHAPE) return report(s->c, s->c->err.msg), 1; /* damage that keeps it shut */
    if (!r) r = mm_index_verify(s->ix, report, s->c, &s->c->err);
    return r > 0 ? 1 : r;
}

static int compact(mm_retrieve *s)
{
    mm_index_opts io = { (mm_index_type)o.type, o.wait };
    int r = mm_retrieve_must_exist(s);
    if (!r) r = mm_index_open(&s->ix, s->dir, MM_INDEX_WRITE, &io, &s->c->err);
    return r ? r : mm_index_compact(s->ix, &s->c->err);
}

/* An option that means nothing in what is to be done is a mistake of whoever typed it. */
static int check_options(mm_ctx *c, const char *mode, char m)
{
    static const struct {
        const char *opt, *modes;
    } where[] = { { "top", "sm" },       { "where", "sl" },         { "min-score", "s" },     { "rescore", "s" },
                  { "center", "s" },     { "keep-embedding", "s" }, { "batch", "sad" },         { "type", "a" },
                  { "any-model", "as" }, { "ack", "ad" },           { "wait", "adc" },        { "output", "sglm" },
                  { "binary", "sglm" },  { "encoding", "sglm" },    { "unbuffered", "sglm" }, { "text", "ads" },
                  { "null", "ads" },     { "from", "adsm" },        { "strict", "adsm" } };
    for (size_t i = 0; i < sizeof where / sizeof *where; i++)
        if (mm_opt_given(c, where[i].opt) && !strchr(where[i].modes, m))
            return mm_fail(&c->err, MM_EARG, "option '--%s' means nothing %s%s", where[i].opt,
                           m == 's' ? "in a " : "with --", mode);
    return 0;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    mm_retrieve s = { .c = c, .o = &o, .rec = mm_rec_new() };
    static const char *const modes[] = { "add", "delete", "get", "list", "info", "verify", "compact", "merge" };
    const char *mode = "search";
    int r = mm_opt_exclusive(c, "add", "delete", "get", "list", "info", "verify", "compact", "merge", NULL);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (mm_opt_given(c, modes[i])) mode = modes[i];
    if (!r) r = check_options(c, mode, mode[0]);
    if (!r && argc < 1)
        r = mm_fail(&c->err, MM_EARG, o.merge ? "the files to merge are missing" : "the name of an index is missing");
    if (!r && argc > 1 && strchr("glivc", mode[0])) r = mm_fail(&c->err, MM_EARG, "unexpected operand '%s'", argv[1]);
    if (!r && !s.rec) r = mm_retrieve_no_memory(&s);
    if (!r) {
        s.dir = argv[0];
        if (o.merge) r = mm_retrieve_merge(&s, argc, argv);
        else if (o.add || o.del) r = mm_retrieve_change(&s, argc - 1, argv + 1);
        else if (o.get || o.list) r = show(&s);
        else if (o.info) r = info(&s);
        else if (o.verify) r = verify(&s);
        else if (o.compact) r = compact(&s);
        else r = mm_retrieve_search(&s, argc - 1, argv + 1);
    }
    int closed = mm_index_close(&s.ix, r ? NULL : &c->err);
    free(s.skip);
    mm_rec_free(s.rec);
    mm_buf_clear(&s.doc);
    return r ? r : closed;
}

static const char *const usage[] = { "[-k N] [-w CONDITION] [option ...] INDEX [file ...]",
                                     "--add [option ...] INDEX [file ...]",
                                     "--delete [option ...] INDEX [file ...]",
                                     "--get ID | --list | --info | --verify | --compact INDEX",
                                     "--merge [-k N] file ...",
                                     NULL };
static const mm_cmd cmd = { "mm-retrieve", "keep vectors in an index and find the nearest", usage, opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

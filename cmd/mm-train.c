/* mm-train - train a model on captioned media, or fine-tune one. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "cmd/cmd.h"
#include "train/mm_run.h"

static const int types[] = { MM_F32, MM_F16, MM_Q8_0 };
static const int stage_of[] = { 1, 2, 3, MM_STAGE_ALL };
static const int keep_of[] = { MM_KEEP_F32, MM_KEEP_BF16, MM_KEEP_F16 };

static mm_train_opts t = MM_TRAIN_OPTS_INIT;
static struct {
    mm_strv data, pairs;
    const char *manifests;
    int type, stage, few, precision, resume, fresh;
    int64_t seed, steps, accumulate, patience, keep;
} o = { .type = 1, .stage = -1, .few = -1, .seed = 1 };

static const mm_opt opts[] = {
    MM_OPT_GROUP("From and to"),
    MM_OPT_LIST('d', "data", &o.data, "FILE", "manifest of captioned media, JSON lines, or a folder that has one; repeatable"),
    MM_OPT_LIST(0, "pairs", &o.pairs, "FILE", "texts and their English, or pairs of texts, as JSON lines; repeatable"),
    MM_OPT_STR('o', "output", &t.output, "FILE", "GGUF file to write; FILE.ckpt holds the run until then"),
    MM_OPT_STR('m', "from", &t.from, "MODEL", "model to begin with (default: the built-in one)"),
    MM_OPT_STR(0, "config", &t.config, "NAME", "begin from nothing with this architecture: tiny, small, base"),
    MM_OPT_STR(0, "connector", &t.connector, "DECODER", "train a connector that shows the decoder what the model sees, and nothing else"),
    MM_OPT_STR(0, "start", &t.start, "FILE", "with --connector: begin with one that was trained before"),
    MM_OPT_STR(0, "plan", &t.plan, "PLAN", "what each modality has of its own, with --config"),
    MM_OPT_STR(0, "positions", &t.positions, "NAME", "how tokens know their places, with --config: aligned (default), unaligned, absolute"),
    MM_OPT_INT(0, "direct", &t.direct, "N", 1, 16384, "with --distil: texts get N numbers past the trunk, in closed form"),
    MM_OPT_ENUM('t', "type", &o.type, "f32|f16|q8_0", "how matrices are stored (default: f16)"),
    MM_OPT_STR(0, "cache", &t.cache, "FILE", "decoded media are kept here (default: the output's name + .cache)"),
    MM_OPT_GROUP("What is learned"),
    MM_OPT_ENUM(0, "few-shot", &o.few, "prototype|lora|full", "1 to 16 labelled examples of each new class: kept as they are, or learned in few steps"),
    MM_OPT_ENUM(0, "stage", &o.stage, "1|2|3|all", "each modality alone, pairs, everything; all: one after the other"),
    MM_OPT_STR(0, "loss", &t.loss, "LIST", "infonce, sigmoid, distil, bank, fused, gates, next-token, flow, align, joint, with weights: bank=1,fused=0.5"),
    MM_OPT_STR(0, "distil", &t.distil, "MODEL", "teacher whose vectors of the texts are learned"),
    MM_OPT_STR(0, "freeze", &t.freeze, "PATTERNS", "weights that stay as they are: 'blk.*.ffn*,tok*'"),
    MM_OPT_INT(0, "lora", &t.lora, "RANK", 1, 1024, "train additions of this rank to the matrices in their place"),
    MM_OPT_STR('B', "batch", &t.batch, "LIST", "inputs of a batch: image=64,text=256, or one number"),
    MM_OPT_NUM(0, "augment", &t.augment, "K", 0, 1, "how much pictures and sounds are varied (default: 0.5)"),
    MM_OPT_INT(0, "seed", &o.seed, "N", 0, 0x1p63, "of all that is random (default: 1)"),
    MM_OPT_GROUP("How"),
    MM_OPT_INT('n', "steps", &o.steps, "N", 1, 0x1p63, "length of the run, all stages together"),
    MM_OPT_NUM(0, "minutes", &t.minutes, "M", 0.001, 1e6, "its length by time; with --steps: stop after that long, to be resumed"),
    MM_OPT_INT(0, "accumulate", &o.accumulate, "N", 1, 65536, "batches that a step is the mean of (default: 8, with --few-shot or --connector 1)"),
    MM_OPT_STR(0, "lr", &t.lr, "LIST", "highest learning rate, one or one for each stage"),
    MM_OPT_STR(0, "schedule", &t.schedule, "LIST", "cosine, linear, constant, one or one for each stage"),
    MM_OPT_NUM(0, "warmup", &t.warmup, "N", 0, 1e9, "steps, or below 1 a share, until the rate is reached (default: 0.01)"),
    MM_OPT_NUM(0, "floor", &t.floor, "K", 0, 1, "share of the rate that is left at the end (default: 0.01)"),
    MM_OPT_NUM(0, "wd", &t.wd, "K", 0, 10, "weight decay of matrices (default: 0.05)"),
    MM_OPT_NUM(0, "clip", &t.clip, "K", 0, 1e9, "largest norm of a step's gradients, 0: any (default: 1)"),
    MM_OPT_NUM(0, "ema", &t.ema, "K", 0, 0.999999, "averaging of weights, 0: none (default: 0.995, with --few-shot 0)"),
    MM_OPT_NUM(0, "blend", &t.blend, "K", 0, 1, "share of what was learned in the weights that are written (default: 0.5, all with --config)"),
    MM_OPT_ENUM(0, "precision", &o.precision, "f32|bf16|f16", "how activations wait for their gradients (default: f32)"),
    MM_OPT_GROUP("Along the way"),
    MM_OPT_STR(0, "validate", &t.validate, "N", "validate every N steps, or minutes or seconds as in 10m and 90s; keep the best"),
    MM_OPT_INT(0, "patience", &o.patience, "N", 1, 1000000, "end after N validations without a better score"),
    MM_OPT_STR(0, "metrics", &t.metrics, "FILE", "a JSON line for every step and validation"),
    MM_OPT_STR(0, "plot", &t.plot, "FILE", "a picture of the metrics, .png or .svg, by gnuplot; without --data: no more than that"),
    MM_OPT_NUM(0, "checkpoint", &t.checkpoint, "MINUTES", 0.01, 1e6, "time between checkpoints (default: 10)"),
    MM_OPT_INT(0, "keep", &o.keep, "N", 1, 999, "keep the last N checkpoints, also when the model is there"),
    MM_OPT_BOOL(0, "resume", &o.resume, "go on with a run that was stopped; without one, begin"),
    MM_OPT_BOOL(0, "fresh", &o.fresh, "begin anew where there is one"),
    MM_OPT_BOOL(0, "dry-run", &t.dry_run, "print what would be done, and its memory but for activations, as JSON"),
    MM_OPT_END
};

static volatile sig_atomic_t stop;

/* Once: finish the step. Again: end now, as the signal would. */
static void on_stop(int sig)
{
    if (stop) {
        mm_outfile_unlink_all();
        signal(sig, SIG_DFL);
        raise(sig);
    }
    stop = sig;
}

static void catch_stop(void)
{
    static const int sigs[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction sa = { .sa_handler = on_stop, .sa_flags = SA_RESTART }, old;
    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) /* nohup stays nohup */
        if (!sigaction(sigs[i], NULL, &old) && old.sa_handler != SIG_IGN) sigaction(sigs[i], &sa, NULL);
}

typedef struct {
    mm_ctx *c;
    mm_progress p;
} reporter;

static void say(void *arg, int warning, const char *msg)
{
    reporter *r = arg;
    mm_progress_end(&r->p);
    if (warning) mm_warn(r->c, "%s", msg);
    else mm_info(r->c, "%s", msg);
}

static void duration(char *out, size_t cap, double s)
{
    if (s < 0) snprintf(out, cap, "?");
    else if (s < 120) snprintf(out, cap, "%.0f s", s);
    else if (s < 7200) snprintf(out, cap, "%.0f min", s / 60);
    else snprintf(out, cap, "%.1f h", s / 3600);
}

static void progress(void *arg, const mm_train_status *s)
{
    reporter *r = arg;
    char text[160], of[40] = "", left[24];
    if (!mm_progress_due(&r->p)) return;
    duration(left, sizeof left, s->left);
    if (s->steps) snprintf(of, sizeof of, " of %llu", (unsigned long long)s->steps);
    snprintf(text, sizeof text, "step %llu%s, stage %s, loss %.4f, %.0f samples/s, %s left", (unsigned long long)s->step, of, s->stage,
             s->loss,
             s->samples, left);
    mm_progress_text(&r->p, text);
}

static int work(void *arg, const char *what, uint64_t done, uint64_t total)
{
    reporter *r = arg;
    char text[120];
    if (mm_progress_due(&r->p)) {
        snprintf(text, sizeof text, "%s: %llu of %llu", what, (unsigned long long)done, (unsigned long long)total);
        mm_progress_text(&r->p, text);
    }
    return stop != 0;
}

static int print(mm_ctx *c, json_t *j)
{
    char *s = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    int r = 0;
    if (!s) r = mm_fail(&c->err, MM_ENOMEM, "out of memory");
    else if (printf("%s\n", s) < 0) r = mm_fail_errno(&c->err, "cannot write to standard output");
    free(s);
    json_decref(j);
    return r;
}

static json_t *summary(const mm_train_result *res, const json_t *plan, int stopped)
{
    json_t *j = json_pack("{s:s,s:b,s:I,s:I,s:I,s:O,s:O,s:f}", "output", t.output, "finished", !stopped, "steps", (json_int_t)res->step,
                          "kept",
                          (json_int_t)res->saved, "skipped", (json_int_t)res->skipped, "parameters", json_object_get(plan, "parameters"),
                          "trained", json_object_get(plan, "trained"), "seconds", round(1000 * res->seconds) / 1000);
    if (j) json_object_set(j, "activations", json_object_get(json_object_get(plan, "memory"), "activations"));
    if (j && res->has_score) json_object_set_new(j, "score", json_real(res->score));
    if (j && res->early) json_object_set_new(j, "early", json_true());
    return j;
}

static void prepare(const mm_ctx *c)
{
    t.data = o.data.v;
    t.n_data = o.data.n;
    t.pairs = o.pairs.v;
    t.n_pairs = o.pairs.n;
    t.type = types[o.type];
    t.few = o.few + 1;
    t.stage = o.stage < 0 ? MM_STAGE_DEFAULT : stage_of[o.stage];
    t.precision = keep_of[o.precision];
    t.seed = (uint64_t)o.seed;
    t.steps = (uint64_t)o.steps;
    t.accumulate = (unsigned)o.accumulate;
    t.patience = (unsigned)o.patience;
    t.keep = (int)o.keep;
    t.threads = (int)c->threads;
    t.run = o.resume ? MM_RUN_RESUME : o.fresh ? MM_RUN_FRESH : MM_RUN_NEW;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    reporter rep = { .c = c };
    const mm_train_hooks hooks = { &stop, progress, say, work, &rep };
    mm_train_result res;
    json_t *plan;
    int r;
    if (argc) return mm_fail(&c->err, MM_EARG, "'%s': data is named by option '--data'", argv[0]);
    if ((r = mm_opt_exclusive(c, "resume", "fresh", NULL)) || (r = mm_opt_exclusive(c, "from", "config", NULL))) return r;
    if (t.plot && !o.data.n && !o.pairs.n) {
        if (!t.metrics) return mm_fail(&c->err, MM_EARG, "option '--plot' goes with '--metrics'");
        return mm_plot(t.plot, t.metrics, &c->err);
    }
    if (t.output && !strcmp(t.output, "-"))
        return mm_fail(&c->err, MM_EARG, "a model is written to a file, not to standard output");
    prepare(c);
    catch_stop();
    mm_progress_start(&rep.p, c, "steps", 0);
    r = mm_train_run(&t, &hooks, &plan, &res, &c->err);
    mm_progress_end(&rep.p);
    const int stopped = r == 1;
    if (stopped && c->verbose >= 0)
        mm_error(c, "stopped after %llu steps: the same command with --resume%s goes on", (unsigned long long)res.step,
                 o.fresh ? " in place of --fresh" : "");
    if (r == 1) r = 0; /* what was done is kept */
    if (!r && plan) r = print(c, t.dry_run ? json_incref(plan) : summary(&res, plan, stopped));
    json_decref(plan);
    return r;
}

static const char *const usage[] = { "-d FILE... -o FILE [-m MODEL] [-n STEPS] [--resume]",
                                     "-d FILE... -o FILE --few-shot prototype|lora|full [-m MODEL]",
                                     "-d FILE... -o FILE --config NAME [--stage 1|2|3|all]", "-d FILE... -o FILE --connector DECODER [-m MODEL]",
                                     "--pairs FILE -o FILE -m MODEL [--distil MODEL]", "--plot FILE --metrics FILE", NULL };
static const mm_cmd cmd = { "mm-train", "train a model on captioned media, or fine-tune one", usage, opts, run };

int main(int argc, char **argv)
{
    mm_cmd_calm_threads(argv);
    return mm_cmd_main(&cmd, argc, argv);
}

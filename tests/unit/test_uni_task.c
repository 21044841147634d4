/* Steps of the unified model on texts: they lower the loss, do not depend on the threads, and can be taken up at any number. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tap.h"
#include "tinybert.h"
#include "train/mm_optim.h"
#include "train/mm_uni_task.h"

static const char *const things[] = { "a red car", "a blue boat", "two dogs", "the old house", "green apple", "a small cat", "yellow sun", "the big tree" };

typedef struct {
    mm_uni *u;
    mm_uni_task *t;
    mm_pset ps;
} run;

static int run_open(run *r, const mm_tok *tok, mm_teacher *teacher, const mm_text_pair *pairs, size_t n, int threads)
{
    mm_uni_config c;
    *r = (run){ 0 };
    if (mm_uni_config_named(&c, "tiny", &err)) return -1;
    c.layers = 2;
    c.width = 32;
    c.heads = 2;
    c.ff_width = 64;
    c.out = (int64_t)mm_teacher_dim(teacher);
    c.vocab = (int64_t)mm_tok_vocab(tok);
    c.mod[MM_TEXT].width = 24;
    for (int m = 1; m < MM_MODALITIES; m++) c.mod[m].width = 0;
    if (mm_uni_plan(&c, "*.norm=all", &err) || mm_uni_new(&r->u, &c, &err)) return -1;
    mm_uni_task_opts o = MM_UNI_TASK_OPTS_INIT;
    o.model = r->u;
    o.tok = tok;
    o.pairs = pairs;
    o.n_pairs = n;
    o.texts = 4;
    o.teacher = teacher;
    o.threads = threads;
    if (mm_uni_task_open(&r->t, &o, &err)) return -1;
    for (size_t i = 0; i < mm_uni_count(r->u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(r->u, i);
        if (mm_pset_add(&r->ps, s->name, &s->p, MM_PSET_DECAY, 1, &err)) return -1;
    }
    if (mm_pset_build(&r->ps, &err)) return -1;
    mm_uni_bind(r->u);
    mm_uni_init(r->u, 3);
    mm_pset_reset(&r->ps);
    return 0;
}

static float steps(run *r, uint64_t from, uint64_t to, int threads)
{
    const mm_optim o = MM_OPTIM_INIT;
    float loss[MM_MODALITIES] = { NAN, NAN, NAN, NAN };
    for (uint64_t s = from; s < to; s++) {
        mm_pset_zero(&r->ps);
        if (mm_uni_task_step(r->t, s, 1, loss, &err) || mm_pset_step(&r->ps, &o, 3e-3, 1, threads, NULL) < 0) return NAN;
    }
    return loss[MM_TEXT];
}

static void run_close(run *r)
{
    mm_uni_task_close(&r->t);
    mm_pset_clear(&r->ps);
    mm_uni_free(&r->u);
}

int main(void)
{
    char dir[64];
    snprintf(dir, sizeof dir, "/tmp/test-uni-task-%ld", (long)getpid());
    mm_model *m = NULL;
    mm_teacher *teacher = NULL;
    mm_text_pair pairs[8];
    for (size_t i = 0; i < 8; i++) pairs[i] = (mm_text_pair){ things[i], strlen(things[i]), things[i], strlen(things[i]), 1, MM_TEXT_NAME };
    tinybert(dir, 32, 64, 0);
    if (mm_model_open(&m, dir, NULL, &err) || mm_teacher_open(&teacher, m, NULL, &err)) {
        ok(0, "a teacher: %s", err.msg);
        return done();
    }
    const mm_tok *tok = mm_model_tokenizer(m);
    run a, b;
    if (run_open(&a, tok, teacher, pairs, 8, 1) || run_open(&b, tok, teacher, pairs, 8, 2)) {
        ok(0, "a task: %s", err.msg);
        return done();
    }
    float first = steps(&a, 0, 1, 1), last = steps(&a, 1, 60, 1);
    ok(isfinite(first) && last < 0.7f * first, "the loss falls: %.3f to %.3f", first, last);
    steps(&b, 0, 60, 2);
    ok(!memcmp(a.ps.w, b.ps.w, a.ps.size * sizeof(float)), "the same bits with two threads");
    double score[MM_MODALITIES], all;
    ok(!mm_uni_task_validate(a.t, MM_VAL, score, &all, &err) && isnan(score[MM_IMAGE]), "scores of what there is: %s", err.msg);
    /* the same step twice from the same weights: nothing is remembered but the weights */
    mm_pset_zero(&a.ps);
    float loss[MM_MODALITIES];
    ok(!mm_uni_task_step(a.t, 200, 1, loss, &err), "a step out of order");
    float *grad = malloc(a.ps.size * sizeof *grad);
    memcpy(grad, a.ps.grad, a.ps.size * sizeof *grad);
    mm_pset_zero(&a.ps);
    ok(!mm_uni_task_step(a.t, 5, 1, loss, &err), "another");
    mm_pset_zero(&a.ps);
    ok(!mm_uni_task_step(a.t, 200, 1, loss, &err) && !memcmp(grad, a.ps.grad, a.ps.size * sizeof *grad), "the first again has the same gradients");
    free(grad);
    run_close(&a);
    run_close(&b);
    mm_teacher_close(&teacher);
    mm_model_close(&m);
    char rm[96];
    snprintf(rm, sizeof rm, "rm -rf '%s'", dir);
    ok(system(rm) == 0, "tidied up");
    return done();
}

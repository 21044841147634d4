/* mm-media - what is in a picture, sound or video. Also the program that decodes them for mm-embed: filters start it as their worker, so that
 * a crash inside a decoder costs one input, and so that only this program loads the decoders' libraries. */
#include <string.h>
#include "base/mm_base.h"
#include "cmd/io.h"
#include "cmd/media.h"

static struct {
    int worker;
    mm_media_cli media;
    mm_io io;
} o = { .media = MM_MEDIA_CLI_INIT, .io = { .each_operand = 1 } };

static const mm_opt opts[] = {
    MM_OPTS_MEDIA(o.media),
    { MM_OPT_T_BOOL, 0, "worker", &o.worker, NULL, 0, 0, "serve a filter on descriptors 3 and 4", 1 },
    MM_OPTS_IN(o.io),
    MM_OPTS_OUT(o.io),
    MM_OPT_END
};

/* For measuring a picture need not become an input; the smallest one will do. */
static const mm_input_spec specs[MM_JOB_SPECS] = {
    { .source = MM_MEDIA_VIDEO, .views = 1, .frames = 9, .channels = 3, .height = 1, .width = 1, .crops = 1,
      .image = { .fit = MM_FIT_STRETCH, .height = 1, .width = 1, .std = { 1, 1, 1 } }, .video = { .how = MM_FRAMES_SPREAD, .frames = 9, .clips = 1 } },
    { .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = 1, .width = 1, .crops = 1,
      .image = { .fit = MM_FIT_STRETCH, .height = 1, .width = 1, .std = { 1, 1, 1 } } },
    { .source = MM_MEDIA_AUDIO, .views = 1, .frames = 1, .channels = 1, .height = 80, .width = 1,
      .mel = { .kind = MM_MEL_KALDI, .rate = 16000, .bins = 80, .n_fft = 400, .hop = 160, .n_frames = 1 } },
};

static int describe(mm_rec *rec, const mm_job *j)
{
    static const unsigned sources[] = { MM_MEDIA_VIDEO, MM_MEDIA_IMAGE, MM_MEDIA_AUDIO };
    static const char *const names[] = { "video", "image", "audio" };
    const mm_media_info *i = &j->facts.info;
    unsigned source = j->chosen >= 0 ? j->spec[j->chosen].source : 0;
    for (int k = 0; k < 3 && !source; k++)
        if (i->has & sources[k]) source = sources[k];
    int r = mm_rec_set_str(rec, "format", i->format, strlen(i->format));
    for (int k = 0; k < 3; k++)
        if (!r && source == sources[k]) r = mm_rec_set_str(rec, "modality", names[k], 5);
    if (!r && i->width) r = mm_rec_set_int(rec, "width", i->width);
    if (!r && i->height) r = mm_rec_set_int(rec, "height", i->height);
    if (!r && i->rate) r = mm_rec_set_int(rec, "rate", i->rate);
    if (!r && i->channels) r = mm_rec_set_int(rec, "channels", i->channels);
    if (!r) r = mm_media_report(rec, source, &j->facts, o.media.quality);
    if (!r && i->note[0]) r = mm_rec_set_str(rec, "note", i->note, strlen(i->note));
    return r;
}

static int one(mm_ctx *c, mm_workers *p, mm_rec *rec, mm_media_ref *ref)
{
    mm_job j = { .opts = mm_media_input_opts(&o.media) };
    int r = mm_rec_failed(rec) ? 0 : mm_media_find(rec, MM_REF_ANY, ref);
    if (r == 0 && !mm_rec_failed(rec)) mm_rec_fail(rec, MM_EDATA, "no picture, sound or video, and no path of a file");
    if (r <= 0) return 0;
    j.src = ref->src;
    if (o.media.quality) {
        memcpy(j.spec, specs, sizeof specs);
        j.n = MM_JOB_SPECS;
        if (ref->modality) { /* "video", "image" or "audio" says what is meant */
            j.spec[0] = specs[ref->modality == MM_REF_VIDEO ? 0 : ref->modality == MM_REF_IMAGE ? 1 : 2];
            j.n = 1;
        }
    }
    if ((r = mm_workers_submit(p, &j, &c->err))) return r;
    mm_workers_wait(p, &j);
    if (j.code) mm_rec_fail(rec, j.code, "%s", j.message);
    else if (describe(rec, &j)) r = mm_fail(&c->err, MM_ENOMEM, "out of memory");
    mm_workers_release(p, &j);
    return r;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    if (o.worker) return mm_worker_serve(3, 4);
    mm_workers *p = NULL;
    mm_media_ref ref = { .modality = 0 };
    mm_rec *rec = mm_rec_new();
    mm_progress bar;
    int more = 0, r = rec ? mm_media_workers(&p, &o.media, c) : mm_fail(&c->err, MM_ENOMEM, "out of memory");
    if (!r && !(r = mm_io_open(&o.io, c, argc, argv))) {
        mm_progress_start(&bar, c, "records", 0);
        while (!r && (more = mm_io_next(&o.io, rec)) > 0) {
            r = one(c, p, rec, &ref);
            if (!r) r = mm_io_put(&o.io, rec);
            mm_progress_tick(&bar, o.io.seen);
        }
        mm_progress_end(&bar);
        r = mm_io_close(&o.io, r ? r : more < 0 ? more : 0);
    }
    mm_buf_clear(&ref.bytes);
    mm_workers_close(&p);
    mm_rec_free(rec);
    return r;
}

static const char *const usage[] = { "[-0b] [--quality] [option ...] [file ...]", NULL };
static const mm_cmd cmd = { "mm-media", "say what is in pictures, sound and video", usage, opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

/* mm-show - records as one web page: what was asked, and what was found, with thumbnails, sounds and scores.
 *
 * A filter of its own, and no option of mm-retrieve: hits come from several filters (a search, --merge, jq that chose among them, labels of
 * mm-embed), a page is no stream of records, and a search should not have to know of pictures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_base.h"
#include "cmd/html.h"
#include "cmd/io.h"
#include "cmd/media.h"

static struct {
    const char *title, *out;
    int64_t size, max_sound;
    mm_strv show;
    mm_media_cli media;
    mm_io io;
} o = { .size = 160, .max_sound = 256 << 10, .media = MM_MEDIA_CLI_INIT, .io = { .each_operand = 1 } };

#define SOUNDS_MAX ((size_t)64 << 20) /* of one page, whatever --max-sound lets in */
#define TEXT_MAX 400                  /* characters of a text that are shown */
#define QUALITY 85

static const mm_opt opts[] = {
    MM_OPT_GROUP("Page"),
    MM_OPT_STR(0, "title", &o.title, "TEXT", "what stands above (default: Search results, or Records)"),
    MM_OPT_STR('o', "output", &o.out, "FILE", "write FILE, which appears when all is written (default: standard output)"),
    MM_OPT_INT(0, "size", &o.size, "N", 16, 1024, "longer side of a thumbnail in pixels (default 160)"),
    MM_OPT_INT(0, "max-sound", &o.max_sound, "BYTES", 0, 1LL << 30, "larger sounds are named and not put into the page (default 256k)"),
    MM_OPT_LIST(0, "show", &o.show, "KEY", "show the value of this key too; may be repeated"),
    MM_OPT_GROUP("Decoding"),
    MM_OPT_INT(0, "max-pixels", &o.media.max_pixels, "N", 1, 1LL << 32, "largest picture or frame (default 134217728)"),
    MM_OPT_INT(0, "workers", &o.media.workers, "N", 1, 64, "processes that decode (default: as many as threads)"),
    MM_OPT_NUM(0, "timeout", &o.media.timeout, "S", 0.1, 86400, "longest time for decoding one input (default 60)"),
    MM_OPTS_IN(o.io),
    MM_OPT_END
};

static const char css[] =
    ".ask{margin:2.2rem 0 1rem;display:flex;gap:1.1rem;align-items:center}\n"
    ".ask h2{margin:0;font-size:1.75rem;line-height:1.2;font-weight:650;letter-spacing:-.012em;overflow-wrap:anywhere}\n"
    ".ask p{margin:.25rem 0 0;color:var(--soft);font-size:.85rem}\n"
    ".ask .pic{width:7.5rem;height:7.5rem;flex:none;border:1px solid var(--line);border-radius:.8rem;overflow:hidden}\n"
    ".ask audio{margin-top:.5rem}\n"
    ".plain{margin-top:1.6rem}\n"
    "section{content-visibility:auto;contain-intrinsic-size:auto 40rem}\n"
    ".cards{list-style:none;margin:0;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(11.2rem,1fr));gap:1rem}\n"
    ".cards>li{background:var(--card);border:1px solid var(--line);border-radius:.9rem;overflow:hidden;display:flex;"
    "flex-direction:column}\n"
    ".pic{position:relative;aspect-ratio:1;background:#fff;display:flex;align-items:center;justify-content:center;padding:.5rem;"
    "text-decoration:none}\n"
    ".pic img{max-width:100%;max-height:100%;display:block}\n"
    ".cards .pic{border-bottom:1px solid var(--line)}\n"
    ".pic b{position:absolute;right:.5rem;bottom:.5rem;background:rgba(20,22,26,.72);color:#fff;font-size:.72rem;font-weight:600;"
    "padding:.1rem .45rem;border-radius:1rem}\n"
    ".none{background:var(--badpage);color:var(--bad);flex-direction:column;font-size:.72rem;line-height:1.3;text-align:center;"
    "overflow:hidden;overflow-wrap:anywhere}\n"
    ".none::before{content:\"\\2715\";font-size:1.5rem;line-height:1.6}\n"
    ".note{background:var(--pale);color:var(--accent);font-size:3rem}\n"
    ".note::before{content:\"\\266A\"}\n"
    "audio{display:block;width:100%;max-width:20rem;height:2.25rem}\n"
    ".cards audio{margin-top:.55rem}\n"
    ".said{padding:.7rem .8rem .8rem;display:flex;flex-direction:column;flex:1;min-width:0}\n"
    ".said p{margin:.35rem 0 0;overflow-wrap:anywhere}\n"
    ".text{white-space:pre-line;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:9;overflow:hidden}\n"
    ".id{color:var(--soft);font-size:.74rem;margin-top:auto!important;padding-top:.35rem}\n"
    ".id a{color:inherit;text-decoration:none}.id a:hover{text-decoration:underline}\n"
    ".more{font-size:.8rem;color:var(--soft)}.more i{font-style:normal;color:var(--ink)}\n"
    ".score{display:flex;align-items:center;gap:.5rem;font-size:.76rem;font-variant-numeric:tabular-nums;color:var(--soft)}\n"
    ".score span{flex:1;height:.3rem;border-radius:1rem;background:var(--pale);overflow:hidden}\n"
    ".score i{display:block;height:100%;border-radius:1rem;background:var(--accent)}\n"
    ".labels{list-style:none;margin:.4rem 0 0;padding:0;display:flex;flex-wrap:wrap;gap:.3rem;font-size:.78rem}\n"
    ".labels li{background:var(--pale);color:var(--accent);border-radius:1rem;padding:.05rem .55rem}\n"
    ".bad{color:var(--bad)}\n"
    ".nothing{color:var(--soft)}\n"
    "@media(prefers-color-scheme:dark){.pic img{filter:brightness(.93)}"
    ".cards .pic:not(.none):not(.note),.ask .pic:not(.none):not(.note){background:#ededed}}\n";

typedef struct item { /* one thing to be shown, and the picture that is being decoded for it */
    mm_rec *rec;
    mm_media_ref ref;
    mm_job job;
    int busy;           /* it waits to be written */
    int running;        /* the job was submitted */
    double score, best; /* best: of its list; score is NaN-free only where has_score */
    int has_score;
} item;

typedef struct state {
    mm_ctx *c;
    mm_workers *workers;
    mm_rec *rec;     /* as read */
    item ask;        /* of a record with hits */
    item *ring;      /* what is under way, in order; slot = number % n_ring */
    size_t n_ring;
    uint64_t put;    /* number of the next item */
    mm_buf page, jpeg, tmp;
    mm_outfile file;
    int to_file, open, listing; /* the head is written; a list of records without hits is open */
    uint64_t asked, shown, pictures, broken;
    size_t sounds;   /* bytes in the page */
} state;

static int no_memory(state *s) { return mm_fail(&s->c->err, MM_ENOMEM, "out of memory"); }

static int flush(state *s)
{
    if (s->page.failed) return no_memory(s);
    int r = 0;
    if (s->page.len && s->to_file) r = mm_outfile_write(&s->file, s->page.p, s->page.len, &s->c->err);
    else if (s->page.len) r = mm_write_all(1, s->page.p, s->page.len, &s->c->err);
    mm_buf_reset(&s->page);
    return r;
}

/* ---- members ---- */

/* A member as text: a string decoded, anything else as it stands. It lives in s->tmp. */
static int value(state *s, mm_rec *rec, const char *key, mm_slice *out)
{
    mm_slice raw;
    if (!mm_rec_get(rec, key, &raw) || !raw.len || mm_slice_is(raw, "null")) return 0;
    *out = raw;
    if (raw.p[0] != '"') return 1;
    mm_buf_reset(&s->tmp);
    if (mm_json_unescape(&s->tmp, raw, NULL)) return 0;
    *out = (mm_slice){ s->tmp.p ? s->tmp.p : "", s->tmp.len };
    return out->len > 0;
}

/* Why a record failed, here or before it came here; lives as s->tmp does. */
static const char *reason(state *s, mm_rec *rec)
{
    mm_slice raw, key, val;
    mm_json_iter it;
    const char *msg = mm_rec_message(rec);
    if (msg[0]) return msg;
    mm_buf_reset(&s->tmp);
    if (mm_rec_get(rec, "error", &raw) && raw.len && raw.p[0] == '{' && !mm_json_begin(&it, raw.p, raw.len, NULL))
        while (mm_json_next(&it, &key, &val, NULL) > 0)
            if (mm_slice_is(key, "message") && val.p[0] == '"' && !mm_json_unescape(&s->tmp, val, NULL) && s->tmp.len) return s->tmp.p;
    return "failed before it came here";
}

/* ---- pictures and sounds ---- */

static void specs(mm_job *j, int size)
{
    const mm_image_spec fit = { .fit = MM_FIT_PAD, .height = size, .width = size, .filter = MM_RESIZE_LANCZOS, .fill = { 255, 255, 255 },
                                .std = { 1, 1, 1 } };
    const mm_input_spec one = { .source = MM_MEDIA_IMAGE, .views = 1, .frames = 1, .channels = 3, .height = size, .width = size, .crops = 1,
                                .image = fit, .video = { .how = MM_FRAMES_ENDS, .frames = 1, .clips = 1 } };
    j->spec[0] = j->spec[1] = one;
    j->spec[1].source = MM_MEDIA_VIDEO;
}

/* Starts to decode what the item has to show. A record of text may have a path too: that of the text. */
static int begin(state *s, item *it)
{
    mm_slice mod = { "", 0 }, raw;
    it->busy = 1;
    it->running = 0;
    if (mm_rec_failed(it->rec)) return 0;
    if (mm_rec_str(it->rec, "modality", &mod, NULL) < 0) mod = (mm_slice){ "", 0 };
    int media = mm_rec_get(it->rec, "image", &raw) || mm_rec_get(it->rec, "audio", &raw) || mm_rec_get(it->rec, "video", &raw);
    if (!media && (mm_slice_is(mod, "text") || (!mod.len && mm_rec_get(it->rec, "text", &raw)))) return 0;
    int r = mm_media_find(it->rec, MM_REF_ANY, &it->ref);
    if (r <= 0) return 0; /* nothing to show, or the record says what is wrong with it */
    mm_input_opts how = mm_media_input_opts(&o.media);
    how.alpha = MM_ALPHA_WHITE;
    it->job = (mm_job){ .opts = how, .src = it->ref.src, .n = it->ref.modality == MM_REF_AUDIO || mm_slice_is(mod, "audio") ? 0 : 2 };
    specs(&it->job, (int)o.size);
    if ((r = mm_workers_submit(s->workers, &it->job, &s->c->err))) return r;
    it->running = 1;
    return 0;
}

static void placeholder(state *s, const char *why)
{
    s->broken++;
    mm_buf_adds(&s->page, "<div class=\"pic none\" role=\"img\" aria-label=\"no picture\"><span>");
    mm_html_text(&s->page, why, strlen(why), 160);
    mm_buf_adds(&s->page, "</span></div>");
}

/* The square that came back without its margins, as JPEG. */
static int thumbnail(state *s, item *it, int *w, int *h)
{
    mm_job *j = &it->job;
    const mm_media_info *i = &j->facts.info;
    int size = j->spec[0].width, most = i->width > i->height ? i->width : i->height;
    if (most > 0 && most < size) { /* not enlarged: a small one is asked for once more, as it is */
        mm_workers_release(s->workers, j);
        *j = (mm_job){ .opts = j->opts, .src = it->ref.src, .n = 2 };
        specs(j, most);
        int r = mm_workers_submit(s->workers, j, &s->c->err);
        if (r) return it->running = 0, r;
        mm_workers_wait(s->workers, j);
        if (j->code) return 1;
        size = most;
    }
    const double ratio = i->width > 0 && i->height > 0 ? (double)i->width / i->height : 1;
    *w = ratio >= 1 ? size : (int)(ratio * size + 0.5);
    *h = ratio <= 1 ? size : (int)(size / ratio + 0.5);
    if (*w < 1) *w = 1;
    if (*h < 1) *h = 1;
    size_t n = (size_t)size * (size_t)size, x0 = (size_t)(size - *w) / 2, y0 = (size_t)(size - *h) / 2;
    mm_image im = { mm_realloc(NULL, (size_t)*w * (size_t)*h, 3), *w, *h };
    if (!im.px) return no_memory(s);
    for (size_t y = 0; y < (size_t)*h; y++)
        for (size_t x = 0; x < (size_t)*w; x++)
            for (size_t c = 0; c < 3; c++)
                im.px[(y * (size_t)*w + x) * 3 + c] = (uint8_t)(j->x[c * n + (y0 + y) * (size_t)size + x0 + x] * 255 + 0.5f);
    mm_buf_reset(&s->jpeg);
    int r = mm_image_jpeg(&s->jpeg, &im, QUALITY, &s->c->err);
    mm_image_clear(&im);
    return r;
}

static void duration(mm_buf *b, const char *sign, double seconds)
{
    if (seconds > 0 && seconds < 60) mm_buf_addf(b, "<b>%s%.1f s</b>", sign, seconds);
    else if (seconds >= 60) mm_buf_addf(b, "<b>%s%d:%02d</b>", sign, (int)(seconds / 60), (int)seconds % 60);
    else if (sign[0]) mm_buf_addf(b, "<b>%s</b>", sign);
}

/* What to call it where it cannot be seen. */
static void name(state *s, const item *it)
{
    mm_slice v;
    if (value(s, it->rec, "text", &v) || value(s, it->rec, "caption", &v) || value(s, it->rec, "generated", &v) || value(s, it->rec, "id", &v))
        mm_html_text(&s->page, v.p, v.len, 100);
}

/* A link to the file itself, around what is shown of it. */
static void open_link(state *s, const item *it, const char *class)
{
    if (it->ref.src.path) {
        mm_buf_addf(&s->page, "<a class=\"%s\" href=\"", class);
        mm_html_path(&s->page, it->ref.src.path);
        mm_buf_adds(&s->page, "\" aria-label=\"");
        name(s, it);
        mm_buf_adds(&s->page, "\">");
    } else {
        mm_buf_addf(&s->page, "<div class=\"%s\">", class);
    }
}

static void close_link(state *s, const item *it) { mm_buf_adds(&s->page, it->ref.src.path ? "</a>" : "</div>"); }

static const char *mime_of(const char *format)
{
    static const char *const known[][2] = { { "wav", "audio/wav" }, { "ogg", "audio/ogg" }, { "mp3", "audio/mpeg" }, { "flac", "audio/flac" },
                                            { "mp4", "audio/mp4" }, { "aac", "audio/aac" }, { "matroska", "audio/webm" } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(format, known[i][0])) return known[i][1];
    return NULL;
}

/* The sound's own bytes; a reason why not is left in `why`. */
static void player(state *s, const item *it, char why[96])
{
    const char *mime = mime_of(it->job.facts.info.format);
    mm_map m = { it->ref.src.data, it->ref.src.len };
    mm_err err = { 0 };
    why[0] = 0;
    if (it->ref.src.path && mm_map_open(&m, it->ref.src.path, &err)) {
        snprintf(why, 96, "%.90s", err.msg);
        return;
    }
    if (!mime) snprintf(why, 96, "browsers do not play %s", it->job.facts.info.format);
    else if (m.len > (size_t)o.max_sound || s->sounds + m.len > SOUNDS_MAX)
        snprintf(why, 96, "%.1f MB, not in this page", (double)m.len / 1e6 + 0.05);
    if (!why[0]) {
        s->sounds += m.len;
        mm_buf_adds(&s->page, "<audio controls=\"controls\" preload=\"none\" src=\"");
        mm_html_data(&s->page, mime, m.p ? (const void *)m.p : "", m.len);
        mm_buf_adds(&s->page, "\"></audio>");
    }
    if (it->ref.src.path) mm_map_close(&m);
}

/* The picture, or what stands in its place. Leaves *sound set where a player belongs below. 0 or the error that ends the run. */
static int picture(state *s, item *it, int *sound)
{
    mm_job *j = &it->job;
    int w, h, r = 0;
    *sound = 0;
    if (!it->running) {
        s->pictures += mm_rec_failed(it->rec) != 0;
        if (mm_rec_failed(it->rec)) placeholder(s, reason(s, it->rec));
        return 0;
    }
    s->pictures++;
    mm_workers_wait(s->workers, j);
    const mm_media_info *i = &j->facts.info;
    if ((j->code == MM_EUNSUP && j->chosen < 0 && i->has == MM_MEDIA_AUDIO) || (!j->code && !j->n)) {
        open_link(s, it, "pic note");
        duration(&s->page, "", i->seconds);
        close_link(s, it);
        *sound = 1;
    } else if (j->code || (r = thumbnail(s, it, &w, &h)) > 0) {
        placeholder(s, j->message);
        r = 0;
    } else if (!r) {
        open_link(s, it, "pic");
        mm_buf_addf(&s->page, "<img width=\"%d\" height=\"%d\" decoding=\"async\" alt=\"", w, h);
        name(s, it);
        mm_buf_adds(&s->page, "\" src=\"");
        mm_html_data(&s->page, "image/jpeg", s->jpeg.p, s->jpeg.len);
        mm_buf_adds(&s->page, "\"/>");
        if (i->has & MM_MEDIA_VIDEO) duration(&s->page, "\xE2\x96\xB6 ", i->seconds);
        close_link(s, it);
    }
    if (it->running) mm_workers_release(s->workers, j);
    it->running = 0;
    return r;
}

/* ---- cards ---- */

static void labels(state *s, mm_rec *rec)
{
    mm_slice raw, key, val, label, score;
    mm_json_iter list, one;
    int n = 0;
    if (!mm_rec_get(rec, "labels", &raw) || !raw.len || raw.p[0] != '[' || mm_json_begin(&list, raw.p, raw.len, NULL)) return;
    while (n < 5 && mm_json_next(&list, &key, &val, NULL) > 0) {
        label = score = (mm_slice){ "", 0 };
        if (val.p[0] != '{' || mm_json_begin(&one, val.p, val.len, NULL)) continue;
        mm_slice name, v;
        while (mm_json_next(&one, &name, &v, NULL) > 0) {
            if (mm_slice_is(name, "label")) label = v;
            if (mm_slice_is(name, "score")) score = v;
        }
        mm_buf_reset(&s->tmp);
        if (!label.len || label.p[0] != '"' || mm_json_unescape(&s->tmp, label, NULL)) continue;
        double p;
        mm_buf_adds(&s->page, n++ ? "<li dir=\"auto\">" : "<ul class=\"labels\"><li dir=\"auto\">");
        mm_html_text(&s->page, s->tmp.p ? s->tmp.p : "", s->tmp.len, 60);
        if (score.len && mm_parse_double(score.p, score.len, &p) == score.len) mm_buf_addf(&s->page, " %.2f", p);
        mm_buf_adds(&s->page, "</li>");
    }
    if (n) mm_buf_adds(&s->page, "</ul>");
}

static void said(state *s, item *it, int sound)
{
    mm_buf *b = &s->page;
    mm_slice v;
    char why[96] = "";
    mm_buf_adds(b, "<div class=\"said\">");
    if (it->has_score) {
        double share = it->best > 0 && it->score > 0 ? it->score / it->best : 0;
        if (share > 1) share = 1;
        mm_buf_addf(b, "<div class=\"score\"><span><i style=\"width:%.0f%%\"></i></span>%.3f</div>", 100 * share, it->score);
    }
    if (sound) player(s, it, why);
    if (why[0]) {
        mm_buf_adds(b, "<p class=\"more\">");
        mm_html_text(b, why, strlen(why), 0);
        mm_buf_adds(b, "</p>");
    }
    for (int i = 0; i < 2; i++) /* what there was, and what mm-generate said of it */
        if (i ? value(s, it->rec, "generated", &v) : value(s, it->rec, "text", &v) || value(s, it->rec, "caption", &v)) {
            mm_buf_adds(b, "<p class=\"text\" dir=\"auto\">");
            mm_html_text(b, v.p, v.len, TEXT_MAX);
            mm_buf_adds(b, "</p>");
        }
    labels(s, it->rec);
    for (size_t i = 0; i < o.show.n; i++)
        if (value(s, it->rec, o.show.v[i], &v)) {
            mm_buf_adds(b, "<p class=\"more\" dir=\"auto\">");
            mm_html_text(b, o.show.v[i], strlen(o.show.v[i]), 60);
            mm_buf_adds(b, ": <i>");
            mm_html_text(b, v.p, v.len, TEXT_MAX);
            mm_buf_adds(b, "</i></p>");
        }
    if (value(s, it->rec, "id", &v)) {
        mm_buf_adds(b, "<p class=\"id\" dir=\"auto\">");
        mm_html_text(b, v.p, v.len, 200);
        mm_buf_adds(b, "</p>");
    }
    mm_buf_adds(b, "</div>");
}

static int card(state *s, item *it)
{
    int sound;
    mm_buf_adds(&s->page, "<li>");
    int r = picture(s, it, &sound);
    if (!r) said(s, it, sound);
    mm_buf_adds(&s->page, "</li>\n");
    it->busy = 0;
    s->shown++;
    if (!r && s->page.len > 1 << 20) r = flush(s);
    return r;
}

/* Everything that is under way, in order. */
static int drain(state *s)
{
    int r = 0;
    for (size_t i = 0; i < s->n_ring && !r; i++) {
        item *it = &s->ring[(s->put + i) % s->n_ring];
        if (it->busy) r = card(s, it);
    }
    return r;
}

/* The next slot, written first if it is still in use. */
static int slot(state *s, item **out)
{
    item *it = *out = &s->ring[s->put++ % s->n_ring];
    int r = it->busy ? card(s, it) : 0;
    it->has_score = 0;
    return r;
}

/* ---- records ---- */

static void head(state *s, const char *title)
{
    if (o.title) title = o.title;
    if (!s->open) mm_html_head(&s->page, title, strlen(title), css);
    s->open = 1;
}

static int end_list(state *s)
{
    int r = drain(s);
    if (s->listing) mm_buf_adds(&s->page, "</ul>\n</section>\n");
    s->listing = 0;
    return r;
}

static int hit(state *s, mm_slice raw, double *best)
{
    item *it;
    mm_slice score;
    mm_err err = { 0 };
    int r = slot(s, &it);
    if (r) return r;
    if (mm_rec_parse(it->rec, raw.p, raw.len, &err)) mm_rec_fail(it->rec, MM_EDATA, "%s", err.msg);
    if (mm_rec_get(it->rec, "score", &score) && mm_parse_double(score.p, score.len, &it->score) == score.len && isfinite(it->score)) {
        it->has_score = 1;
        if (*best < it->score) *best = it->score;
        it->best = *best;
    }
    return begin(s, it);
}

/* What was asked: words, a picture, a sound. */
static int question(state *s, size_t n)
{
    mm_buf *b = &s->page;
    mm_slice v;
    int sound = 0;
    char why[96] = "";
    mm_buf_adds(b, "<header class=\"ask\">");
    int r = mm_rec_failed(s->rec) ? 0 : picture(s, &s->ask, &sound);
    if (r) return r;
    mm_buf_adds(b, "<div><h2 dir=\"auto\">");
    if (value(s, s->rec, "text", &v) || value(s, s->rec, "id", &v)) {
        if (mm_slice_is(v, "-")) mm_buf_adds(b, "standard input");
        else mm_html_text(b, v.p, v.len, TEXT_MAX);
    } else {
        mm_buf_addf(b, "Query %llu", (unsigned long long)s->asked);
    }
    mm_buf_adds(b, "</h2>");
    if (sound) player(s, &s->ask, why);
    if (mm_rec_failed(s->rec)) {
        const char *msg = reason(s, s->rec);
        mm_buf_adds(b, "<p class=\"bad\">");
        mm_html_text(b, msg, strlen(msg), TEXT_MAX);
        mm_buf_adds(b, "</p>");
    } else {
        mm_buf_addf(b, "<p>%zu hit%s", n, n == 1 ? "" : "s");
        if (value(s, s->rec, "model", &v)) {
            mm_buf_adds(b, " by ");
            mm_html_text(b, v.p, v.len, 100);
        }
        if (why[0]) mm_buf_adds(b, " \xC2\xB7 "), mm_html_text(b, why, strlen(why), 0);
        mm_buf_adds(b, "</p>");
    }
    mm_buf_adds(b, "</div></header>\n");
    return 0;
}

static int with_hits(state *s, mm_slice hits)
{
    mm_json_iter it;
    mm_slice key, val;
    size_t n = 0;
    double best = 0;
    int more = 0, r = end_list(s);
    if (r) return r;
    head(s, "Search results");
    s->asked++;
    if (!mm_rec_failed(s->rec) && (hits.p[0] != '[' || mm_json_begin(&it, hits.p, hits.len, NULL)))
        mm_rec_fail(s->rec, MM_EDATA, "'hits' is not a list");
    if (!mm_rec_failed(s->rec))
        while ((more = mm_json_next(&it, &key, &val, NULL)) > 0) n++;
    s->ask.rec = s->rec;
    r = begin(s, &s->ask);
    mm_buf_adds(&s->page, "<section>\n");
    if (!r) r = question(s, n);
    s->ask.busy = 0;
    if (!r && n && !mm_rec_failed(s->rec)) {
        mm_buf_adds(&s->page, "<ol class=\"cards\">\n");
        if (mm_json_begin(&it, hits.p, hits.len, NULL)) n = 0;
        while (!r && n && mm_json_next(&it, &key, &val, NULL) > 0) r = hit(s, val, &best);
        if (!r) r = drain(s);
        mm_buf_adds(&s->page, "</ol>\n");
    } else if (!n && !mm_rec_failed(s->rec)) {
        mm_buf_adds(&s->page, "<p class=\"nothing\">Nothing was found.</p>\n");
    }
    mm_buf_adds(&s->page, "</section>\n");
    return r;
}

/* A record that is shown itself. It has to outlive the next read: the slot takes it. */
static int alone(state *s)
{
    item *it;
    head(s, "Records");
    if (!s->listing) mm_buf_adds(&s->page, "<section class=\"plain\">\n<ul class=\"cards\">\n");
    s->listing = 1;
    int r = slot(s, &it);
    if (r) return r;
    mm_rec *free_one = it->rec;
    it->rec = s->rec;
    s->rec = free_one;
    return begin(s, it);
}

static int all(state *s)
{
    mm_slice hits;
    mm_progress bar;
    int r = 0, more = 0;
    mm_progress_start(&bar, s->c, "records", 0);
    while (!r && (more = mm_io_next(&o.io, s->rec)) > 0) {
        mm_rec *now = s->rec; /* alone() exchanges it */
        int found = mm_rec_get(s->rec, "hits", &hits);
        /* among answers a record that failed is a question */
        r = found || (mm_rec_failed(s->rec) && s->asked) ? with_hits(s, found ? hits : (mm_slice){ "", 0 }) : alone(s);
        if (!r) r = mm_io_count(&o.io, now);
        if (!r && !mm_io_pending(&o.io)) {
            r = drain(s);
            if (!r) r = flush(s);
        }
        mm_progress_tick(&bar, o.io.seen);
    }
    mm_progress_end(&bar);
    return r ? r : more;
}

static int finish(state *s)
{
    char note[160], tail[40] = "";
    int r = end_list(s);
    if (r) return r;
    head(s, "Records");
    const char *many = s->shown == 1 ? "" : "s";
    unsigned long long asked = s->asked, shown = s->shown;
    if (s->broken) snprintf(tail, sizeof tail, ", %llu not to be shown", (unsigned long long)s->broken);
    if (asked) snprintf(note, sizeof note, "%llu quer%s, %llu hit%s%s", asked, asked == 1 ? "y" : "ies", shown, many, tail);
    else snprintf(note, sizeof note, "%llu record%s%s", shown, many, tail);
    mm_html_foot(&s->page, note);
    if ((r = flush(s))) return r;
    return s->to_file ? mm_outfile_commit(&s->file, &s->c->err) : 0;
}

static int run(mm_ctx *c, int argc, char **argv)
{
    state s = { .c = c, .rec = mm_rec_new(), .n_ring = (size_t)(o.media.workers ? o.media.workers : c->threads) * 4 };
    int r = s.rec && (s.ring = calloc(s.n_ring, sizeof *s.ring)) ? 0 : no_memory(&s);
    for (size_t i = 0; !r && i < s.n_ring; i++)
        if (!(s.ring[i].rec = mm_rec_new())) r = no_memory(&s);
    if (!r) r = mm_io_spare(c, "output", o.out, argc, argv);
    if (!r) r = mm_media_workers(&s.workers, &o.media, c);
    s.to_file = !r && o.out && strcmp(o.out, "-");
    if (!r && s.to_file && (r = mm_outfile_open(&s.file, o.out, &c->err))) s.to_file = 0;
    if (!r) r = mm_io_open_in(&o.io, c, argc, argv);
    if (!r) {
        if (!(r = all(&s))) r = finish(&s);
        r = mm_io_close(&o.io, r);
        if (r >= 0 && s.broken) {
            mm_warn(c, "%llu of %llu pictures and sounds cannot be shown: the page says why", (unsigned long long)s.broken,
                    (unsigned long long)s.pictures);
            r = 1;
        }
    }
    if (s.to_file) mm_outfile_abort(&s.file);
    mm_workers_close(&s.workers);
    for (size_t i = 0; s.ring && i < s.n_ring; i++) {
        mm_rec_free(s.ring[i].rec);
        mm_buf_clear(&s.ring[i].ref.bytes);
    }
    mm_buf_clear(&s.ask.ref.bytes);
    mm_buf_clear(&s.page);
    mm_buf_clear(&s.jpeg);
    mm_buf_clear(&s.tmp);
    mm_rec_free(s.rec);
    free(s.ring);
    return r;
}

static const char *const usage[] = { "[--title TEXT] [-o FILE] [option ...] [file ...]", NULL };
static const mm_cmd cmd = { "mm-show", "records as one web page, with thumbnails and scores", usage, opts, run };

int main(int argc, char **argv) { return mm_cmd_main(&cmd, argc, argv); }

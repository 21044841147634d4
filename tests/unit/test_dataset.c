/* Data sets: what a manifest may say and what is wrong with it; the cache: what is decoded anew and what is not, after kills, changes,
 * damage. */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <zlib.h>
#include "data_files.h"
#include "tap.h"

static mm_err err;
static mm_dataset *d;
static mm_dataset_facts facts;
static int stop_after; /* progress stops there; negative: kills the process */
static int full_after; /* there the disk is full */

static int progress(void *arg, size_t n, size_t of)
{
    (void)arg, (void)of;
    if (full_after && n == (size_t)full_after) setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 80000, RLIM_INFINITY });
    if (stop_after < 0 && n >= (size_t)-stop_after) raise(SIGKILL);
    return stop_after > 0 && n >= (size_t)stop_after;
}

/* opens the manifest with this cache; the code of the first thing that failed */
static int load(const char *manifest, const char *cache, const mm_prep *prep, int strict)
{
    mm_dataset_close(&d);
    df_bad_count = 0;
    df_last[0] = 0;
    err = (mm_err){ 0 };
    const mm_dataset_opts o = {
        .prep = prep, .cache = df_path(cache), .strict = strict, .bad = df_bad, .progress = progress, .keep_raw = 1
    };
    int r = mm_dataset_open(&d, &o, &err);
    if (!r) r = mm_dataset_add(d, df_path(manifest), &err);
    if (!r) r = mm_dataset_load(d, &err);
    if (d) mm_dataset_facts_get(d, &facts);
    return r;
}

static const mm_item *item(size_t example, int m)
{
    const mm_example *e = mm_dataset_example(d, example);
    return e && e->item[m] >= 0 ? mm_dataset_item(d, (size_t)e->item[m]) : NULL;
}

static const char *caption(size_t example, size_t i)
{
    const mm_example *e = mm_dataset_example(d, example);
    return e && i < e->n_captions ? mm_dataset_caption(d, e->caption + i)->p : NULL;
}

static void media(void)
{
    df_png("a.png", 120, 60, 1), df_png("b.png", 40, 90, 2), df_png("c.png", 50, 50, 3);
    df_wav("a.wav", 16000, 440), df_wav("short.wav", 100, 440), df_wav("long.wav", 12 * 16000, 300);
    df_video("a.mp4", 1), df_video("silent.mp4", 0);
    df_text(
        "m.jsonl",
        "{\"id\":\"x\",\"image\":\"a.png\",\"text\":\"a red car\",\"texts\":{\"en\":[\"a red car\",\"car\"],\"de\":\"ein rotes Auto\"},"
        "\"lang\":\"en\",\"keywords\":[\"car\",\"road\"],\"label\":\"cars\",\"concept\":\"c1\",\"other\":{\"kept\":1}}\n"
        "\n"
        "{\"image\":\"b.png\",\"audio\":\"a.wav\",\"text\":\"turn left\",\"split\":\"val\"}\n"
        "{\"audio\":\"short.wav\",\"text\":\"  blip \\n\",\"label\":7,\"split\":\"test\"}\n"
        "{\"audio\":\"long.wav\",\"text\":\"hum\"}\r\n"
        "{\"video\":\"a.mp4\",\"text\":\"blocks\"}\n"
        "{\"video\":\"silent.mp4\",\"text\":\"blocks again\"}\n"
        "{\"image\":\"a.png\",\"text\":\"the same picture\"}\n"
        "{\"text\":\"big\",\"text2\":\"large\",\"score\":4.5,\"lang\":\"en\",\"lang2\":\"en\"}");
}

static void records(void)
{
    is_int(load("m.jsonl", "m.mmc", NULL, 0), 0, "a manifest with media is loaded");
    if (err.code) printf("# %s\n", err.msg);
    is_int((long long)facts.examples, 8, "... its records");
    is_int((long long)facts.items, 8, "... its media, that of two records once, and the sound of a video");
    is_int((long long)facts.decoded, 8, "... all decoded now");
    is_int(df_bad_count, 0, "... nothing bad");
    const mm_example *e = mm_dataset_example(d, 0);
    is_str(e->id, "x", "id");
    is_str(e->label, "cars", "label");
    is_str(e->concept, "c1", "concept");
    is_int(e->split, MM_TRAIN, "split: train by default");
    is_int(e->n_captions, 5, "captions: each once");
    is_str(caption(0, 0), "a red car", "... the text first");
    is_str(caption(0, 1), "car", "... another text");
    is_str(caption(0, 2), "ein rotes Auto", "... a translation");
    is_str(mm_dataset_lang(d, mm_dataset_caption(d, e->caption + 2)->lang), "de", "... and its language");
    is_str(caption(0, 3), "road", "... a keyword");
    is_int(mm_dataset_caption(d, e->caption + 4)->role, MM_CAPTION_LABEL, "... the label");
    ok(e->raw.len > 20 && !memcmp(e->raw.p, "{\"id\":\"x\"", 9), "the record as it stands");
    ok(!e->handed && mm_dataset_example(d, 1)->handed, "what a mirror image would make wrong is known");
    is_int(mm_dataset_example(d, 1)->split, MM_VAL, "split: val");
    is_int(mm_dataset_example(d, 1)->line, 3, "empty lines count");
    is_str(caption(2, 0), "blip", "white space around a text is dropped");
    is_str(mm_dataset_example(d, 2)->label, "7", "a label may be a number");
    const char *set = mm_dataset_set(d, 0), *slash = strrchr(df_dir, '/');
    is_str(set, slash + 1, "the set is named after its folder");
    ok(!strncmp(mm_dataset_example(d, 2)->id, set, strlen(set)) && strstr(mm_dataset_example(d, 2)->id, ":4"),
       "an id is made where there is none: %s", mm_dataset_example(d, 2)->id);
    is_str(caption(7, 1), "large", "text2");
    ok(mm_dataset_example(d, 7)->score == 4.5f && isnan(e->score), "score");
    ok(item(0, MM_IMAGE) == item(6, MM_IMAGE), "one file, one item");
}

/* what is stored is what a model will be given */
static void items(void)
{
    mm_prep p;
    mm_input_facts f;
    mm_media_src src = { .path = df_path("a.png") };
    mm_prep_init(&p, 80);
    float *x = mm_aligned(mm_input_floats(&p.video) + mm_input_floats(&p.audio), sizeof *x);
    const mm_input_opts o = { .alpha = p.alpha, .max_seconds = p.max_seconds, .cut_seconds = 1 };
    const mm_item *it = item(0, MM_IMAGE);
    int wrong = 0;
    ok(it && it->kind == MM_MEDIA_IMAGE && it->width == 80 && it->height == 80, "a picture is stored as 80 x 80");
    ok(!mm_input_make(x, &p.image, &src, &o, NULL, &err), "mm_input_make");
    for (size_t i = 0; i < 6400; i++)
        for (size_t c = 0; c < 3; c++) wrong += x[c * 6400 + i] != ((float)it->px[3 * i + c] * (float)(1.0 / 255) - 0.5f) / 0.25f;
    is_int(wrong, 0, "... the very samples that mm_input_make() gives a model");
    ok(it->image.exposure > 0 && it->image.entropy > 0, "... with its quality");

    it = item(1, MM_AUDIO);
    src.path = df_path("a.wav");
    wrong = 0;
    ok(it && it->n == 98 && it->width == 64 && fabsf(it->seconds - 1) < 1e-3f, "a second of sound is 98 frames of 64");
    ok(!mm_input_make(x, &p.audio, &src, &o, &f, &err) && f.mel_frames == 98, "mm_input_make says how many frames hold sound");
    for (size_t t = 0; t < 98; t++)
        for (size_t b = 0; b < 64; b++) wrong += it->mel[t * 64 + b] != mm_f32_to_f16(x[b * 1000 + t]);
    is_int(wrong, 0, "... the spectrum of mm_input_make() in 16 bits");
    ok(fabsf(it->sound.level + 14.2f) < 1, "... with its level: %.1f dB", (double)it->sound.level);
    it = item(2, MM_AUDIO);
    ok(it && it->n == 1 && !it->truncated, "a very short sound is one frame");
    it = item(3, MM_AUDIO);
    ok(it && it->n == 998 && it->truncated, "a sound of 12 s is cut to 10");

    it = item(4, MM_VIDEO);
    src.path = df_path("a.mp4");
    wrong = 0;
    ok(it && it->n == 8 && it->width == 80, "a video is 8 frames");
    ok(!mm_input_make(x, &p.video, &src, &o, &f, &err), "mm_input_make");
    for (size_t k = 0; k < 8; k++)
        for (size_t i = 0; i < 6400; i++)
            for (size_t c = 0; c < 3; c++)
                wrong += x[(k * 3 + c) * 6400 + i] != ((float)it->px[(k * 6400 + i) * 3 + c] * (float)(1.0 / 255) - 0.5f) / 0.25f;
    is_int(wrong, 0, "... the very frames that mm_input_make() gives a model");
    for (int k = 0; k < 8; k++) wrong += it->times[k] != f.times[k] || (k && it->times[k] <= it->times[k - 1]);
    is_int(wrong, 0, "... and their times");
    ok(it->track >= 0 && mm_dataset_item(d, (size_t)it->track) && mm_dataset_item(d, (size_t)it->track)->n > 150, "... with its sound");
    it = item(5, MM_VIDEO);
    ok(it && it->track < 0, "a video without sound has none");
    free(x);
}

static ino_t inode(const char *name)
{
    struct stat st;
    return stat(df_path(name), &st) ? 0 : st.st_ino;
}

static void again(void)
{
    const ino_t before = inode("m.mmc");
    is_int(load("m.jsonl", "m.mmc", NULL, 0), 0, "loaded again");
    is_int((long long)facts.decoded, 0, "... nothing is decoded");
    ok(before && inode("m.mmc") == before && !inode("m.mmc.part"), "... the cache is not touched");
    const uint64_t bytes = facts.cache_bytes;

    df_png("c.png", 60, 60, 9), df_png("b.png", 41, 90, 5); /* c.png is in no record */
    is_int(load("m.jsonl", "m.mmc", NULL, 0), 0, "a picture has changed");
    is_int((long long)facts.decoded, 1, "... it alone is decoded");
    ok(facts.cache_bytes == bytes, "... and takes the place of the old one");
    const mm_item *it = item(1, MM_IMAGE);
    ok(it && it->px[(40 * 80 + 40) * 3] == 5 * 37, "... with the new content");

    const struct timespec t[2] = { { 1, 0 }, { 1000000000, 5 } };
    utimensat(AT_FDCWD, df_path("a.wav"), t, 0);
    is_int(load("m.jsonl", "m.mmc", NULL, 0), 0, "a file has another time");
    is_int((long long)facts.decoded, 1, "... it alone is decoded");

    mm_prep p;
    mm_prep_init(&p, 32);
    is_int(load("m.jsonl", "m.mmc", &p, 0), 0, "other sizes of pictures");
    is_int((long long)facts.decoded, 4, "... pictures and videos are decoded, sounds are not");
    ok(item(0, MM_IMAGE) && item(0, MM_IMAGE)->width == 32, "... to that size");
    is_int(load("m.jsonl", "m.mmc", NULL, 0), 0, "the sizes of before");
    is_int((long long)facts.decoded, 0, "... are still there");

    p.audio.mel.mean = -5;
    is_int(load("m.jsonl", "m.mmc", &p, 0), 0, "sounds normalised otherwise");
    is_int((long long)facts.decoded, 4, "... are other sounds");
}

/* every kill leaves what was complete, and the end is the same cache */
static void kills(void)
{
    mm_buf whole = { 0 }, b = { 0 };
    unlink(df_path("k.mmc"));
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "undisturbed");
    ok(!mm_file_read(&whole, df_path("k.mmc"), 1 << 30, &err), "its cache");
    for (int k = 1; k <= 7; k += 2) {
        int status = 0;
        unlink(df_path("k.mmc"));
        mm_dataset_close(&d);
        fflush(stdout);
        const pid_t child = fork();
        if (!child) {
            stop_after = -k;
            _exit(load("m.jsonl", "k.mmc", NULL, 0) ? 1 : 0);
        }
        waitpid(child, &status, 0);
        ok(WIFSIGNALED(status) && !inode("k.mmc") && inode("k.mmc.part"), "killed after %d", k);
        if (k == 5) { /* and a torn end */
            FILE *f = fopen(df_path("k.mmc.part"), "ab");
            ok(f && fwrite("torn torn torn", 1, 14, f) == 14 && !fclose(f), "... in the middle of a write");
        }
        is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "... the next run goes on");
        is_int((long long)facts.decoded, 8 - k, "... with what is missing");
        mm_buf_reset(&b);
        ok(!mm_file_read(&b, df_path("k.mmc"), 1 << 30, &err) && b.len == whole.len && !memcmp(b.p, whole.p, b.len) &&
               !inode("k.mmc.part"),
           "... and ends with the same cache");
    }
    /* damage in the middle of the unfinished part costs what comes behind it */
    unlink(df_path("k.mmc"));
    stop_after = 6;
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 1, "stopped by progress");
    ok(inode("k.mmc") && !inode("k.mmc.part"), "... what is decoded is kept");
    stop_after = 0;
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "... the next run goes on");
    is_int((long long)facts.decoded, 2, "... with the rest");
    mm_buf_clear(&whole), mm_buf_clear(&b);
}

/* a disk that fills up */
static void full(void)
{
    unlink(df_path("k.mmc"));
    signal(SIGXFSZ, SIG_IGN);
    full_after = 1;
    is_int(load("m.jsonl", "k.mmc", NULL, 0), MM_EIO, "a full disk");
    ok(strstr(err.msg, "k.mmc.part") && !inode("k.mmc"), "... is said: %s", err.msg);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
    full_after = 0;
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "... and when there is room again");
    ok(facts.decoded > 0 && facts.decoded < 8, "... what was written counts: %zu left", facts.decoded);
}

static void poke(const char *name, long at, int from_end)
{
    FILE *f = fopen(df_path(name), "r+b");
    int c;
    if (!f || fseek(f, at, from_end ? SEEK_END : SEEK_SET) || (c = fgetc(f)) == EOF || fseek(f, -1, SEEK_CUR) ||
        fputc(c ^ 0x55, f) == EOF || fclose(f))
        ok(0, "cannot damage %s", name);
}

static void damage(void)
{
    static const struct {
        long at;
        int from_end;
        const char *what;
    } places[] = { { 17, 0, "number of entries" }, { -60, 1, "an entry" } };
    poke("k.mmc", 2, 0);
    is_int(load("m.jsonl", "k.mmc", NULL, 0), MM_EDATA, "a file that does not begin as a cache is somebody else's");
    ok(strstr(err.msg, "k.mmc") != NULL, "%s", err.msg);
    poke("k.mmc", 2, 0);
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "and stays as it is");
    is_int((long long)facts.decoded, 0, "with all that is in it");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        poke("k.mmc", places[i].at, places[i].from_end);
        is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "a damaged cache");
        is_int((long long)facts.decoded, 8, places[i].what);
        ok(df_bad_count == 1 && strstr(df_last, "k.mmc"), "... is made anew, and said so: %s", df_last);
    }
    ok(!truncate(df_path("k.mmc"), 70), "cut");
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "a cut cache");
    is_int((long long)facts.decoded, 8, "... is made anew");
    /* an unfinished part with a damaged entry in it */
    unlink(df_path("k.mmc"));
    mm_dataset_close(&d);
    fflush(stdout);
    const pid_t child = fork();
    if (!child) {
        stop_after = -6;
        _exit(load("m.jsonl", "k.mmc", NULL, 0) ? 1 : 0);
    }
    waitpid(child, NULL, 0);
    poke("k.mmc.part", 128 + 19200 + 128 + 100, 0); /* in the data of the second */
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "a damaged entry in what a killed run left");
    is_int((long long)facts.decoded, 7, "... costs it and what comes behind it");
    /* somebody else is at it */
    unlink(df_path("k.mmc"));
    int fd = open(df_path("k.mmc.part"), O_RDWR | O_CREAT, 0666);
    ok(fd >= 0 && !flock(fd, LOCK_EX), "another process fills the cache");
    is_int(load("m.jsonl", "k.mmc", NULL, 0), MM_ELOCK, "... which is said");
    ok(strstr(err.msg, "k.mmc") != NULL, "... by name: %s", err.msg);
    close(fd);
    is_int(load("m.jsonl", "k.mmc", NULL, 0), 0, "... and when it has gone, all is well");
    is_int(load("m.jsonl", "no/such/folder.mmc", NULL, 0), MM_EIO, "no such folder for the cache");
}

static void bad_records(void)
{
    static const struct {
        const char *line, *say;
    } bad[] = { { "{\"text\":3}", "'text' is not a string" },
                { "{\"text\":[\"a\",1]}", "'text' is not a string" },
                { "{\"texts\":5}", "'texts' is neither" },
                { "{\"texts\":{\"en\":{}}}", "'texts' is not a string" },
                { "{\"keywords\":{},\"text\":\"a\"}", "'keywords' is not a string" },
                { "{\"image\":7,\"text\":\"a\"}", "'image' is not a string" },
                { "{\"image\":\"\",\"text\":\"a\"}", "'image' is empty" },
                { "{\"image\":\".\",\"text\":\"a\"}", "'image': '" },
                { "{\"image\":{\"mime\":\"image/png\"}}", "'image' is an object without \"b64\"" },
                { "{\"image\":{\"b64\":\"!!\"}}", "'image' is not base64" },
                { "{\"image\":{\"b64\":\"\"}}", "'image' is empty" },
                { "{\"audio\":[\"a.wav\"]}", "'audio' is not a string" },
                { "{\"text\":\"a\",\"split\":\"dev\"}", "'split' is \"dev\"" },
                { "{\"text\":\"a\",\"split\":true}", "'split' is not a string" },
                { "{\"text\":\"a\",\"lang\":[]}", "'lang' is not a string" },
                { "{\"text\":\"a\",\"label\":{}}", "'label' is not a string" },
                { "{\"text\":\"a\",\"id\":false}", "'id' is not a string" },
                { "{\"text\":\"a\",\"score\":\"high\"}", "'score' is not a number" },
                { "{\"text\":\"a\\u0000b\"}", "'text' has a NUL" },
                { "{\"label\":\"\"}", "neither text nor image" },
                { "{}", "neither text nor image" },
                { "{\"text\":\"a\"", "" },
                { "[1]", "" },
                { "a.png", "" } };
    mm_buf b = { 0 };
    char place[32];
    const size_t n = sizeof bad / sizeof *bad;
    for (size_t i = 0; i < n; i++) {
        mm_buf_reset(&b);
        mm_buf_addf(&b, "{\"text\":\"good\"}\n%s\n{\"text\":\"good too\"}\n", bad[i].line);
        df_write("bad.jsonl", b.p, b.len);
        int r = load("bad.jsonl", "bad.mmc", NULL, 0);
        ok(!r && facts.examples == 2 && facts.bad == 1 && df_bad_count == 1 && strstr(df_last, bad[i].say) &&
               strstr(df_last, "bad.jsonl:2: "),
           "%s: %s", bad[i].line, df_last);
    }
    mm_buf_reset(&b);
    for (size_t i = 0; i < n; i++) mm_buf_addf(&b, "%s\n", bad[i].line);
    df_write("bad.jsonl", b.p, b.len);
    is_int(load("bad.jsonl", "bad.mmc", NULL, 0), MM_EDATA, "a manifest of bad records only");
    ok(df_bad_count == (int)n && strstr(err.msg, "no usable record"), "... is an error: %s", err.msg);
    is_int(load("bad.jsonl", "bad.mmc", NULL, 1), MM_EDATA, "strict");
    snprintf(place, sizeof place, "bad.jsonl:1: ");
    ok(df_bad_count == 1 && strstr(err.msg, place), "... stops at the first: %s", err.msg);

    df_text("bad.jsonl",
            "{\"image\":\"missing.png\",\"text\":\"a\"}\n{\"image\":\"missing.png\",\"audio\":\"a.wav\",\"text\":\"b\"}\n"
            "{\"image\":\"a.wav\",\"text\":\"c\"}\n{\"audio\":\"m.jsonl\",\"text\":\"d\"}\n{\"video\":\"a.png\",\"text\":\"e\"}\n");
    is_int(load("bad.jsonl", "bad.mmc", NULL, 0), 0, "media that are not there, or are not what they are said to be");
    is_int((long long)facts.bad_media, 5, "... are counted");
    ok(facts.examples == 4 && mm_dataset_example(d, 0)->line == 2 && !item(0, MM_IMAGE) && item(0, MM_AUDIO),
       "... the rest of their records stays");
    ok(strstr(df_last, "bad.jsonl:") && strstr(df_last, "'video'"), "... line and key are named: %s", df_last);
    ok(!item(1, MM_IMAGE) && !item(2, MM_AUDIO) && !item(3, MM_VIDEO) && caption(1, 0), "... without the media");
    is_int(load("bad.jsonl", "bad.mmc", NULL, 1), MM_EIO, "strict");
    ok(strstr(err.msg, "missing.png") && strstr(err.msg, "bad.jsonl:1: 'image'"), "... stops at the first: %s", err.msg);
    df_text("bad.jsonl", "{\"image\":\"a.png\",\"text\":\"c\"}\n{\"image\":\"a.wav\",\"text\":\"c\"}\n");
    ok(load("bad.jsonl", "bad.mmc", NULL, 1) < 0 && strstr(err.msg, "bad.jsonl:2: 'image'"), "strict: also for what does not decode: %s",
       err.msg);
    mm_buf_clear(&b);
}

static void sources(void)
{
    mm_buf b = { 0 }, png = { 0 };
    gzFile z = gzopen(df_path("z.jsonl.gz"), "wb");
    mf_png(&png, &(mf_png_spec){ .w = 20, .h = 20 });
    mm_buf_adds(&b, "\xEF\xBB\xBF{\"text\":\"with a mark\"}\n{\"image\":{\"mime\":\"image/png\",\"b64\":\"");
    mm_base64_encode(&b, png.p, png.len);
    mm_buf_adds(&b, "\"},\"text\":\"inside\"}\n{\"image\":{\"b64\":\"");
    mm_base64_encode(&b, png.p, png.len);
    mm_buf_adds(&b, "\"},\"text\":\"again\"}\n");
    ok(z && gzwrite(z, b.p, (unsigned)b.len) == (int)b.len && gzclose(z) == Z_OK, "a compressed manifest");
    is_int(load("z.jsonl.gz", "z.mmc", NULL, 0), 0, "... is read");
    if (err.code) printf("# %s\n", err.msg);
    ok(facts.examples == 3 && facts.items == 1 && facts.decoded == 1, "... with pictures in it, equal ones once");
    ok(item(1, MM_IMAGE) && item(1, MM_IMAGE)->px[0] == mf_colours[0][0], "... which are decoded");
    is_int(load("z.jsonl.gz", "z.mmc", NULL, 0), 0, "... again");
    is_int((long long)facts.decoded, 0, "... and known by their bytes");
    struct stat st;
    ok(!stat(df_path("z.jsonl.gz"), &st) && !truncate(df_path("z.jsonl.gz"), st.st_size - 9), "cut");
    ok(load("z.jsonl.gz", "z.mmc", NULL, 0) == MM_ETRUNC, "a cut one is an error: %s", err.msg);
    is_int(load("none.jsonl", "z.mmc", NULL, 0), MM_EIO, "no such manifest");
    is_int(load("", "z.mmc", NULL, 0), MM_EIO, "a folder without a manifest");
    df_text("manifest.jsonl", "{\"image\":\"a.png\",\"text\":\"here\"}\n");
    is_int(load("", "z.mmc", NULL, 0), 0, "a folder with one");
    is_int(mm_dataset_add(d, df_path("m.jsonl"), &err), MM_EARG, "nothing is added to what is loaded");
    mm_dataset_close(&d);
    ok(!mm_dataset_open(&d, &(mm_dataset_opts){ 0 }, &err) && !mm_dataset_add(d, df_path("manifest.jsonl"), &err), "without a cache");
    is_int(mm_dataset_load(d, &err), MM_EARG, "... there can be no media");
    mm_dataset_close(&d);
    df_text("t.jsonl", "{\"text\":\"only words\"}\n");
    ok(!mm_dataset_open(&d, &(mm_dataset_opts){ 0 }, &err) && !mm_dataset_add(d, df_path("t.jsonl"), &err) &&
           !mm_dataset_add(d, df_path("manifest.jsonl"), &err),
       "two manifests of one folder");
    ok(strstr(mm_dataset_set(d, 1), "manifest.jsonl") && !strstr(mm_dataset_set(d, 0), "jsonl"), "... have different names: %s, %s",
       mm_dataset_set(d, 0), mm_dataset_set(d, 1));
    mm_dataset_close(&d);
    ok(!mm_dataset_open(&d, &(mm_dataset_opts){ 0 }, &err) && !mm_dataset_add(d, df_path("t.jsonl"), &err) && !mm_dataset_load(d, &err),
       "words need no cache");
    mm_dataset_close(&d);
    mm_prep p;
    mm_prep_init(&p, 32);
    p.image.width = 33;
    is_int(mm_dataset_open(&d, &(mm_dataset_opts){ .prep = &p }, &err), MM_EARG, "pictures that are not square");
    mm_buf_clear(&b), mm_buf_clear(&png);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (df_start(argv[0])) return 99;
    media();
    records();
    items();
    again();
    kills();
    full();
    damage();
    bad_records();
    sources();
    mm_dataset_close(&d);
    df_end();
    return done();
}

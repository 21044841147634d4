/* Videos: the frame on show at each moment, upright; lengths and counts of what decodes; cut files, files without one kind of stream. */
#include <math.h>
#include <unistd.h>
#include "media/mm_media.h"
#include "media_files.h"
#include "tap.h"

#define N 24

static mm_err err;
static mm_media_info info;
static mm_buf b;
static mm_image frames[N];
static double times[N];

static int read_spec(const mm_video_spec *s, const mm_video_opts *o)
{
    const mm_media_src src = { .data = b.p, .len = b.len };
    for (int i = 0; i < N; i++) mm_image_clear(&frames[i]);
    memset(times, 0, sizeof times);
    return mm_video_read(frames, times, s, &src, o, &info, &err);
}

static int spread(int n) { return read_spec(&(mm_video_spec){ .how = MM_FRAMES_SPREAD, .frames = n }, NULL); }

/* which colour of the scene a frame of one colour has; -1: none */
static int colour(const mm_image *im)
{
    const uint8_t *p = im->px ? im->px + 3 * ((size_t)(im->height / 2) * (size_t)im->width + (size_t)(im->width / 4)) : NULL;
    for (int i = 0; i < 6 && p; i++)
        if (abs(p[0] - mf_colours[i][0]) < 8 && abs(p[1] - mf_colours[i][1]) < 8 && abs(p[2] - mf_colours[i][2]) < 8) return i;
    return -1;
}

static int is_scene(const mm_image *im, int w, int h)
{
    if (!im->px || im->width != w || im->height != h) return 0;
    for (int i = 0; i < 6; i++) {
        const uint8_t *p = im->px + 3 * ((size_t)(h * (2 * (i / 3) + 1) / 4) * (size_t)w + (size_t)(w * (2 * (i % 3) + 1) / 6));
        for (int c = 0; c < 3; c++)
            if (abs(p[c] - mf_colours[i][c]) > 6) return 0;
    }
    return 1;
}

static int make(const mf_video_spec *s)
{
    mm_buf_reset(&b);
    return mf_video(&b, s);
}

static void rotated(void)
{
    static const char *const formats[] = { "mp4", "matroska", "mpegts" };
    for (int f = 0; f < 3; f++)
        for (int turn = 0; turn < (f ? 1 : 360); turn += 90) { /* FFmpeg 5 writes the matrix to MP4 only */
            if (!ok(!make(&(mf_video_spec){ .w = 96, .h = 64, .frames = 5, .fps = 5, .format = formats[f], .rotate = turn }),
                    "a %s is made", formats[f]))
                continue;
            int good = !spread(3);
            for (int i = 0; i < 3; i++) good = good && is_scene(&frames[i], 96, 64);
            ok(good && info.frames == 5 && fabs(info.seconds - 1) < 0.01 && !info.truncated && info.width == 96 && info.height == 64,
               "%s, turned by %d: 96 x 64, 5 frames, 1 s", info.format, turn);
            const mm_media_src src = { .data = b.p, .len = b.len };
            ok(!mm_media_probe(&src, &info, &err) && info.has == MM_MEDIA_VIDEO && info.width == 96 && info.height == 64, "... probed");
        }
    (void)!make(&(mf_video_spec){ .w = 96, .h = 64, .frames = 2, .fps = 5, .format = "mp4", .rotate = 90 });
    ok(!read_spec(&(mm_video_spec){ .frames = 1 }, &(mm_video_opts){ .image = { .no_rotate = 1 } }) && frames[0].width == 64, "no_rotate");
    ok(!make(&(mf_video_spec){ .w = 63, .h = 47, .frames = 3, .fps = 5, .format = "matroska" }) && !spread(2) && frames[1].width == 63 &&
           frames[1].height == 47,
       "63 x 47");
}

static void moments(void)
{
    (void)!make(&(mf_video_spec){ .w = 32, .h = 32, .frames = 12, .fps = 4, .format = "mp4", .motion = 1 });
    int good = !spread(3); /* 0.5, 1.5, 2.5 s */
    ok(good && colour(&frames[0]) == 2 && colour(&frames[1]) == 0 && colour(&frames[2]) == 4, "spread: in the middle of the thirds");
    ok(fabs(times[0] - 0.5) < 1e-6 && fabs(times[1] - 1.5) < 1e-6 && fabs(times[2] - 2.5) < 1e-6, "... with their times");
    good = !spread(24);
    for (int i = 0; i < 24; i++) good = good && colour(&frames[i]) == i / 2 % 6;
    ok(good, "more moments than frames: each comes twice");
    good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 12 }, NULL);
    for (int i = 0; i < 12; i++) good = good && colour(&frames[i]) == i % 6;
    ok(good, "ends: from the first to the last");
    good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 2 }, NULL);
    ok(good && colour(&frames[0]) == 0 && colour(&frames[1]) == 5 && fabs(times[1] - 2.75) < 1e-6, "ends: two");
    ok(!read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 1 }, NULL) && colour(&frames[0]) == 0, "ends: one");
    good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_CLIPS, .frames = 6, .clips = 3, .clip_seconds = 1 }, NULL);
    /* clips from 0, 1 and 2 s; their first frames and those before their ends, 0.75 s later */
    for (int i = 0; i < 6; i++) good = good && colour(&frames[i]) == (i / 2 * 4 + i % 2 * 3) % 6;
    ok(good, "clips");
    good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_CLIPS, .frames = 4, .clips = 2, .clip_seconds = 9 }, NULL);
    ok(good && times[0] == times[2] && times[1] == times[3] && times[1] > times[0], "clips longer than the video");
    is_int(read_spec(&(mm_video_spec){ .how = MM_FRAMES_CLIPS, .frames = 5, .clips = 2, .clip_seconds = 1 }, NULL), MM_EARG, "5 frames of 2 clips");
    is_int(read_spec(&(mm_video_spec){ .frames = 0 }, NULL), MM_EARG, "no frames");
    /* frames that stay for 1, 2, 3 ... units of 0.1 s */
    (void)!make(&(mf_video_spec){ .w = 32, .h = 32, .frames = 5, .fps = 10, .format = "matroska", .motion = 1, .vary = 1 });
    good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 11 }, NULL); /* at 0, 0.1 ... 1.0 */
    static const int want[] = { 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4 };
    for (int i = 0; i < 11; i++) good = good && colour(&frames[i]) == want[i];
    ok(good && info.frames == 5, "variable rate: what is on show then");
}

static void streams(void)
{
    const mm_media_src *src;
    (void)!make(&(mf_video_spec){ .w = 32, .h = 32, .frames = 5, .fps = 5, .format = "mp4", .audio = 1 });
    src = &(mm_media_src){ .data = b.p, .len = b.len };
    ok(!mm_media_probe(src, &info, &err) && info.has == (MM_MEDIA_VIDEO | MM_MEDIA_AUDIO) && info.rate == 16000 && info.channels == 1, "video and sound");
    ok(!spread(2) && info.has == (MM_MEDIA_VIDEO | MM_MEDIA_AUDIO) && info.frames == 5, "... the video is read");
    (void)!make(&(mf_video_spec){ .w = 32, .h = 32, .frames = 5, .fps = 5, .format = "mp4" });
    src = &(mm_media_src){ .data = b.p, .len = b.len };
    ok(!mm_media_probe(src, &info, &err) && info.has == MM_MEDIA_VIDEO, "video without sound");
    mm_image im;
    ok(mm_image_read(&im, src, NULL, &info, &err) == MM_EDATA && strstr(err.msg, "no picture in it: mp4 video"), "a video is no picture: %s", err.msg);
    mm_buf_reset(&b), mf_bmp(&b, 8, 8);
    ok(spread(1) == MM_EDATA && strstr(err.msg, "no video in it: bmp picture") && info.has == MM_MEDIA_IMAGE, "a picture is no video: %s", err.msg);
    mm_buf_reset(&b);
    mm_buf_add(&b, "RIFF\x44\x00\x00\x00WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3E\0\0\0\x7D\0\0\x02\0\x10\0data\x20\0\0\0", 44);
    for (int i = 0; i < 32; i++) mm_buf_addc(&b, (char)i);
    ok(spread(1) == MM_EDATA && strstr(err.msg, "no video in it") && info.has == MM_MEDIA_AUDIO, "sound is no video: %s", err.msg);
}

static void damaged(void)
{
    static const char *const formats[] = { "mp4", "matroska", "mpegts" };
    for (int f = 0; f < 3; f++) {
        (void)!make(&(mf_video_spec){ .w = 64, .h = 48, .frames = 40, .fps = 10, .format = formats[f], .motion = 1 });
        size_t n = b.len;
        b.len = n * 6 / 10;
        int r = spread(4);
        if (f == 0) {
            ok(r == MM_ETRUNC && strstr(err.msg, "moov"), "an MP4 cut before its index: %s", err.msg);
        } else {
            /* a TS may be cut between two frames: nothing shows it */
            ok(!r && info.frames > 10 && info.frames < 35 && info.seconds < 3.6 && (info.truncated || f == 2),
               "a cut %s: %lld frames, %.1f s%s", formats[f], (long long)info.frames, info.seconds, info.truncated ? ", truncated" : "");
            ok(!r && colour(&frames[0]) >= 0 && times[3] < info.seconds && frames[3].px, "... moments lie in what is there");
        }
        b.len = n;
        srand(5);
        for (size_t i = n / 3; i < n * 2 / 3; i += 97) b.p[i] ^= (char)rand();
        r = spread(4);
        ok(!r || err.msg[0], "a damaged one: %s", r ? err.msg : info.truncated ? "seen" : "not seen");
    }
    mm_buf_reset(&b);
    is_int(spread(1), MM_EEMPTY, "nothing");
    mm_buf_adds(&b, "text, text, text\n");
    ok(spread(1) == MM_EDATA && strstr(err.msg, "text"), "text: %s", err.msg);
    (void)!make(&(mf_video_spec){ .w = 64, .h = 48, .frames = 20, .fps = 2, .format = "mp4" });
    ok(read_spec(&(mm_video_spec){ .frames = 1 }, &(mm_video_opts){ .max_seconds = 5 }) == MM_ELONG && strstr(err.msg, "10 seconds"),
       "max_seconds: %s", err.msg);
    ok(read_spec(&(mm_video_spec){ .frames = 1 }, &(mm_video_opts){ .image = { .max_pixels = 3000 } }) == MM_ELONG &&
           strstr(err.msg, "64 x 48"),
       "max_pixels: %s", err.msg);
    (void)!make(&(mf_video_spec){ .w = 64, .h = 48, .frames = 1, .fps = 10, .format = "mp4" });
    ok(!spread(3) && info.frames == 1 && frames[2].px && times[2] == 0, "one frame");
}

static void animated(void)
{
    for (int k = 0; k < 2; k++) {
        mm_buf_reset(&b);
        if (k) mf_png(&b, &(mf_png_spec){ .w = 16, .h = 8, .animated = 4 });
        else mf_gif(&b, 16, 8, 4, -1);
        int good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 4 }, NULL);
        for (int i = 0; i < 4; i++) good = good && colour(&frames[i]) == i;
        ok(good && info.frames == 4 && fabs(info.seconds - 0.4) < 0.011 && fabs(times[3] - 0.3) < 0.011, "%s: 4 frames in %.2f s%s%s",
           info.format, info.seconds, good ? "" : ": ", good ? "" : err.msg);
        ok(info.has == (MM_MEDIA_IMAGE | MM_MEDIA_VIDEO), "... picture and video");
    }
    mm_buf_reset(&b), mf_gif(&b, 16, 8, 2, 3);
    ok(!read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 2 }, NULL) && !memcmp(frames[0].px + 45, mf_colours[3], 3),
       "GIF: the colour under transparency");
    ok(!read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 2 }, &(mm_video_opts){ .image = { .alpha = MM_ALPHA_WHITE } }) &&
           frames[0].px[45] == 255,
       "... on white");
    mm_buf_reset(&b), mf_png(&b, &(mf_png_spec){ .w = 16, .h = 8 });
    ok(spread(1) == MM_EDATA && strstr(err.msg, "no video in it: png picture"), "a still PNG: %s", err.msg);
}

/* a video of more packets than are decoded whole */
static void long_one(void)
{
    if (make(&(mf_video_spec){ .w = 16, .h = 16, .frames = 5000, .fps = 25, .format = "mp4", .motion = 1 })) return;
    int good = !spread(10);
    for (int i = 0; i < 10; i++) good = good && fabs(times[i] - (10 + 20 * i)) < 1e-6 && colour(&frames[i]) == (250 + 500 * i) % 6;
    ok(good && info.frames == -1 && fabs(info.seconds - 200) < 0.1, "5000 frames: jumped to ten of them");
    good = !read_spec(&(mm_video_spec){ .how = MM_FRAMES_ENDS, .frames = 3 }, NULL);
    ok(good && times[0] == 0 && fabs(times[2] - 199.96) < 1e-6 && colour(&frames[2]) == 4999 % 6, "... the last one too");
}

int main(void)
{
    if (make(&(mf_video_spec){ .w = 32, .h = 32, .frames = 1, .fps = 5, .format = "mp4" })) {
        printf("1..0 # SKIP this FFmpeg cannot make MPEG-4\n");
        return 0;
    }
    rotated();
    moments();
    streams();
    damaged();
    animated();
    long_one();
    for (int i = 0; i < N; i++) mm_image_clear(&frames[i]);
    mm_buf_clear(&b);
    return done();
}

/* data_files.h - a folder with small pictures, sounds, clips and manifests, for test_dataset and test_batch. */
#ifndef DATA_FILES_H
#define DATA_FILES_H
#include <math.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "train/mm_dataset.h"
#include "media_files.h"

static char df_dir[256];
static char df_last[MM_ERR_MSG]; /* the last message that `bad` was told */
static int df_bad_count;

static inline char *df_path(const char *name)
{
    static char p[4][600];
    static int i;
    snprintf(p[i = (i + 1) % 4], sizeof p[0], "%s/%s", df_dir, name);
    return p[i];
}

static inline void df_write(const char *name, const void *p, size_t len)
{
    FILE *f = fopen(df_path(name), "wb");
    if (!f || fwrite(p, 1, len, f) != len || fclose(f)) perror(name), _exit(99);
}

static inline void df_text(const char *name, const char *s) { df_write(name, s, strlen(s)); }

/* one colour of its own in a picture of w x h, with a darker frame */
static inline void df_png(const char *name, int w, int h, int seed)
{
    mm_buf b = { 0 };
    uint8_t *px = malloc((size_t)w * (size_t)h * 3);
    for (int i = 0; px && i < w * h; i++)
        for (int c = 0; c < 3; c++) {
            const int edge = i % w < 3 || i % w >= w - 3 || i / w < 3 || i / w >= h - 3;
            px[3 * i + c] = (uint8_t)((seed * (37 + 50 * c) + 40 * c) % 256 / (1 + edge));
        }
    mf_png(&b, &(mf_png_spec){ .w = w, .h = h, .samples = px });
    df_write(name, b.p, b.len);
    mm_buf_clear(&b);
    free(px);
}

/* a tone of hz for n samples at 16 kHz */
static inline void df_wav(const char *name, int n, double hz)
{
    mm_buf b = { 0 };
    mm_buf_add(&b, "RIFF", 4), mf_u32(&b, (uint32_t)(36 + 2 * n), 0), mm_buf_add(&b, "WAVEfmt ", 8), mf_u32(&b, 16, 0);
    mf_u16(&b, 1, 0), mf_u16(&b, 1, 0), mf_u32(&b, 16000, 0), mf_u32(&b, 32000, 0), mf_u16(&b, 2, 0), mf_u16(&b, 16, 0);
    mm_buf_add(&b, "data", 4), mf_u32(&b, (uint32_t)(2 * n), 0);
    for (int i = 0; i < n; i++) mf_u16(&b, (uint32_t)(int)(9000 * sin(6.283185307179586 * hz * i / 16000)) & 0xFFFF, 0);
    df_write(name, b.p, b.len);
    mm_buf_clear(&b);
}

static inline void df_video(const char *name, int audio)
{
    mm_buf b = { 0 };
    if (mf_video(&b, &(mf_video_spec){ .w = 64, .h = 48, .frames = 12, .fps = 6, .format = "mp4", .audio = audio, .motion = 1 }) < 0)
        _exit(98);
    df_write(name, b.p, b.len);
    mm_buf_clear(&b);
}

static inline void df_bad(void *arg, int code, const char *message)
{
    (void)arg, (void)code;
    df_bad_count++;
    snprintf(df_last, sizeof df_last, "%s", message);
}

/* The folder; and where the decoder is: in bin/ beside the folder of this program. */
static inline int df_start(const char *argv0)
{
    char self[512];
    const char *tmp = getenv("TMPDIR"), *build = getenv("MM_BUILD");
    snprintf(df_dir, sizeof df_dir, "%s/mm-data-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!mkdtemp(df_dir)) return -1;
    if (build && build[0]) {
        snprintf(self, sizeof self, "%s/bin/mm-media", build);
    } else {
        const char *slash = strrchr(argv0, '/');
        snprintf(self, sizeof self, "%.*s/../../bin/mm-media", slash ? (int)(slash - argv0) : 1, slash ? argv0 : ".");
    }
    return setenv("MM_MEDIA", self, 0);
}

static inline void df_end(void)
{
    char cmd[400];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", df_dir);
    if (system(cmd)) printf("# %s stays\n", df_dir);
}
#endif

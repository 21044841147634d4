/* Sound: every kind of WAV, what libsndfile writes, headers that lie, cut files; rates, positions and lengths; log-mel spectra against values of the
 * published extractors (tests/golden/mel.txt); what is measured of sound and text. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sndfile.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include "base/mm_base.h"
#include "media/mm_media.h"
#include "tap.h"

static mm_err err;
static mm_media_info info;

static int check(int r, const char *what)
{
    if (!ok(!r, "%s", what)) printf("# %s: %s\n", mm_err_name(r), err.msg);
    return r;
}

static float tone(int64_t i, int rate, double hz) { return (float)(0.5 * sin(2 * M_PI * hz * (double)i / rate)); }

static double rms(const float *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    return n ? sqrt(s / (double)n) : 0;
}

/* amplitude of one frequency */
static double amplitude(const float *x, size_t n, int rate, double hz)
{
    double a = 0, b = 0;
    for (size_t i = 0; i < n; i++) {
        a += x[i] * cos(2 * M_PI * hz * (double)i / rate);
        b += x[i] * sin(2 * M_PI * hz * (double)i / rate);
    }
    return n ? 2 * sqrt(a * a + b * b) / (double)n : 0;
}

/* ---- WAV, byte by byte ---- */

enum { U8, S16, S24, S32, F32, F64, ULAW, ALAW, KINDS };
static const struct {
    const char *name;
    int format, bits;
} kinds[KINDS] = { { "u8", 1, 8 },   { "s16", 1, 16 }, { "s24", 1, 24 },  { "s32", 1, 32 },
                   { "f32", 3, 32 }, { "f64", 3, 64 }, { "mulaw", 7, 8 }, { "alaw", 6, 8 } };

static void put(mm_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) mm_buf_addc(b, (char)(v >> 8 * i));
}

static void putf(mm_buf *b, double v, int bytes)
{
    const float f = (float)v;
    if (bytes == 4) mm_buf_add(b, &f, 4);
    else mm_buf_add(b, &v, 8);
}

static uint8_t mulaw(int s)
{
    const int sign = s < 0 ? 0x80 : 0;
    int v = abs(s) + 132, e = 7;
    if (v > 32767) v = 32767;
    while (e > 0 && !(v & (128 << e))) e--;
    return (uint8_t)~(sign | e << 4 | ((v >> (e + 3)) & 15));
}

static uint8_t alaw(int s)
{
    const int sign = s >= 0 ? 0x80 : 0;
    int v = s >= 0 ? s : -s - 1, e = 7;
    if (v > 32767) v = 32767;
    while (e > 0 && !(v & (128 << e))) e--;
    return (uint8_t)((sign | e << 4 | ((v >> (e ? e + 3 : 4)) & 15)) ^ 0x55);
}

static void sample(mm_buf *b, int kind, double v)
{
    switch (kind) {
    case U8: put(b, (uint64_t)(lrint(v * 127) + 128), 1); break;
    case S16: put(b, (uint64_t)lrint(v * 32767), 2); break;
    case S24: put(b, (uint64_t)lrint(v * 8388607), 3); break;
    case S32: put(b, (uint64_t)lrint(v * 2147483647), 4); break;
    case F32: putf(b, v, 4); break;
    case F64: putf(b, v, 8); break;
    case ULAW: put(b, mulaw((int)lrint(v * 32767)), 1); break;
    default: put(b, alaw((int)lrint(v * 32767)), 1);
    }
}

typedef struct wav_opts {
    int kind, rate, channels, extensible, fmt18, list; /* list: an odd chunk of this many bytes in front */
    double hz;
    int64_t frames;
    int64_t size; /* stated; -1: the right one */
    int64_t stated_rate, stated_channels; /* -1: the right ones */
} wav_opts;

static const wav_opts plain = { .kind = S16, .rate = 16000, .channels = 1, .hz = 440, .frames = 8000, .size = -1, .stated_rate = -1, .stated_channels = -1 };

/* channel c is the tone times (c + 1) / channels: the mean is the tone times (channels + 1) / (2 channels) */
static void wav(mm_buf *b, wav_opts o)
{
    const int bits = kinds[o.kind].bits, frame = bits / 8 * o.channels, fmt = o.extensible ? 40 : o.fmt18 ? 18 : 16;
    const uint64_t data = (uint64_t)(o.frames * frame), size = o.size >= 0 ? (uint64_t)o.size : data;
    mm_buf_reset(b);
    mm_buf_adds(b, "RIFF");
    put(b, 4 + 8 + (uint64_t)fmt + (o.list ? 8 + (uint64_t)(o.list + 1) / 2 * 2 : 0) + 8 + data, 4);
    mm_buf_adds(b, "WAVE");
    if (o.list) {
        mm_buf_adds(b, "bext");
        put(b, (uint64_t)o.list, 4);
        for (int i = 0; i < (o.list + 1) / 2 * 2; i++) mm_buf_addc(b, 'x');
    }
    mm_buf_adds(b, "fmt ");
    put(b, (uint64_t)fmt, 4);
    put(b, o.extensible ? 0xFFFE : (uint64_t)kinds[o.kind].format, 2);
    put(b, o.stated_channels >= 0 ? (uint64_t)o.stated_channels : (uint64_t)o.channels, 2);
    put(b, o.stated_rate >= 0 ? (uint64_t)o.stated_rate : (uint64_t)o.rate, 4);
    put(b, (uint64_t)(o.rate * frame), 4);
    put(b, (uint64_t)frame, 2);
    put(b, (uint64_t)bits, 2);
    if (o.fmt18) put(b, 0, 2);
    if (o.extensible) {
        put(b, 22, 2);
        put(b, (uint64_t)bits, 2);
        put(b, (1u << o.channels) - 1, 4);
        put(b, (uint64_t)kinds[o.kind].format, 4);
        mm_buf_add(b, "\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71", 12);
    }
    mm_buf_adds(b, "data");
    put(b, size, 4);
    for (int64_t i = 0; i < o.frames; i++)
        for (int c = 0; c < o.channels; c++) sample(b, o.kind, tone(i, o.rate, o.hz) * (c + 1) / o.channels);
    if (b->failed) exit(4);
}

static int read_buf(mm_sound *s, const mm_buf *b, const mm_sound_opts *o)
{
    const mm_media_src src = { .data = b->p, .len = b->len };
    return mm_sound_read(s, &src, 16000, o, &info, &err);
}

static void wav_kinds(void)
{
    static const int rates[] = { 8000, 11025, 16000, 22050, 44100, 48000, 96000 };
    mm_buf b = { 0 };
    mm_sound s;
    for (int k = 0; k < KINDS; k++)
        for (int v = 0; v < 4; v++) {
            wav_opts o = plain;
            o.kind = k;
            o.rate = rates[(k + 2 * v) % 7];
            o.channels = v == 3 ? 3 : 1 + v % 2;
            o.extensible = v == 2 && k < ULAW;
            o.fmt18 = v == 1;
            o.list = v == 3 ? 5 : 0;
            o.frames = o.rate / 2;
            wav(&b, o);
            const int r = read_buf(&s, &b, NULL);
            const double want = 0.5 * (o.channels + 1) / (2 * o.channels);
            if (!ok(!r && llabs((long long)s.n - 8000) <= 1 && s.rate == 16000 && fabs(rms(s.x, s.n) - want / sqrt(2)) < 0.004 &&
                        fabs(amplitude(s.x, s.n, 16000, 440) - want) < 0.006 && info.rate == o.rate && info.channels == o.channels &&
                        !strcmp(info.format, "wav") && !info.truncated && info.has == MM_MEDIA_AUDIO && fabs(info.seconds - 0.5) < 1e-3,
                    "wav: %s, %d Hz, %d channels%s%s%s", kinds[k].name, o.rate, o.channels, o.extensible ? ", extensible" : "",
                    o.fmt18 ? ", fmt of 18 bytes" : "", o.list ? ", odd chunk in front" : ""))
                printf("# %d %s: n %zu, rms %g, at 440 Hz %g, want %g; %s %d %d\n", r, r ? err.msg : "", s.n, rms(s.x, s.n),
                       amplitude(s.x, s.n, 16000, 440), want, info.format, info.rate, info.channels);
            mm_sound_clear(&s);
        }
    mm_buf_clear(&b);
}

static void wav_sizes(void)
{
    static const struct {
        int64_t size;
        int truncated;
        const char *what;
    } t[] = { { 0, 0, "0" }, { 0x7FFFF048, 0, "0x7ffff048" }, { 0xFFFFFFFF, 0, "0xffffffff" }, { 100000, 1, "more than there is" } };
    mm_buf b = { 0 };
    mm_sound s;
    char what[80];
    for (int i = 0; i < 4; i++) {
        wav_opts o = plain;
        o.size = t[i].size;
        wav(&b, o);
        snprintf(what, sizeof what, "wav: a size of %s", t[i].what);
        check(read_buf(&s, &b, NULL), what);
        ok(s.n == 8000 && info.truncated == t[i].truncated, "... is read to the end");
        mm_sound_clear(&s);
    }
    /* a pipe */
    char dir[] = "/tmp/mm-test-sound-XXXXXX", path[64];
    if (!mkdtemp(dir)) exit(4);
    snprintf(path, sizeof path, "%s/pipe", dir);
    if (mkfifo(path, 0600)) exit(4);
    fflush(stdout);
    const pid_t child = fork();
    if (!child) {
        FILE *f = fopen(path, "wb");
        _exit(!f || fwrite(b.p, 1, b.len, f) != b.len || fclose(f));
    }
    const mm_media_src src = { .path = path };
    check(mm_sound_read(&s, &src, 16000, NULL, &info, &err), "wav: from a pipe");
    is_int((long long)s.n, 8000, "... all of it");
    mm_sound_clear(&s);
    unlink(path);
    /* a file, cut */
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b.p, 1, 44 + 2000, f) != 44 + 2000 || fclose(f)) exit(4);
    check(mm_sound_read(&s, &src, 16000, NULL, &info, &err), "wav: a cut file");
    ok(s.n == 1000 && info.truncated && fabsf(s.x[9] - tone(9, 16000, 440)) < 1e-4f, "... what is there is used");
    mm_sound_clear(&s);
    unlink(path);
    is_int(mm_sound_read(&s, &src, 16000, NULL, &info, &err), MM_EIO, "a file that is not there");
    rmdir(dir);
    mm_buf_clear(&b);
}

static void refused(mm_buf *b, int code, const char *word, const char *what)
{
    mm_sound s;
    const int r = read_buf(&s, b, NULL);
    if (!ok(r == code && !s.x && !s.n && strstr(err.msg, word), "%s", what)) printf("# %s: %s\n", mm_err_name(r), r ? err.msg : "");
    mm_sound_clear(&s);
}

static void errors(void)
{
    static const int64_t odd_rates[] = { 0, 1, 1000000000, 0xFFFFFFFF }, odd_channels[] = { 0, 4096, 65535 };
    mm_buf b = { 0 };
    wav_opts o = plain;
    mm_sound s;
    refused(&b, MM_EEMPTY, "0 bytes", "no bytes");
    mm_buf_adds(&b, "once upon a time\n");
    refused(&b, MM_EDATA, "no sound in it (text)", "a text");
    mm_buf_reset(&b);
    mm_buf_adds(&b, "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n");
    refused(&b, MM_EDATA, "no sound in it (text)", "a playlist is a text");
    mm_buf_reset(&b);
    mm_buf_add(&b, "\x89PNG\r\n\x1A\n\0\0\0\rIHDR", 16);
    refused(&b, MM_EDATA, "no sound in it (png)", "a picture");
    mm_buf_reset(&b);
    mm_buf_add(&b, "\0\0\0\x18" "ftypisom\0\0\0\0isomiso2\0\0\1\0mdatxxxxxxxx", 40);
    refused(&b, MM_ETRUNC, "index", "an MP4 without its index");
    for (size_t i = 0; i < sizeof odd_rates / sizeof *odd_rates; i++) {
        o = plain;
        o.stated_rate = odd_rates[i];
        wav(&b, o);
        refused(&b, MM_EDATA, "Hz", "an absurd rate");
    }
    for (size_t i = 0; i < sizeof odd_channels / sizeof *odd_channels; i++) {
        o = plain;
        o.stated_channels = odd_channels[i];
        wav(&b, o);
        refused(&b, MM_EDATA, "channels", "an absurd number of channels");
    }
    wav(&b, plain);
    for (size_t len = 13; len <= 44; len += 31) { /* cut in the header, in front of the data */
        b.len = len;
        refused(&b, MM_ETRUNC, "WAV", "a WAV file that is only a header");
    }
    o = plain;
    o.frames = 0;
    wav(&b, o);
    refused(&b, MM_EEMPTY, "no samples", "a WAV file of no samples");
    mm_buf_add(&b, "LIST\4\0\0\0INFO", 12);
    refused(&b, MM_EEMPTY, "no samples", "... with a chunk behind");

    /* limits */
    o = plain;
    o.frames = 48000;
    wav(&b, o);
    mm_sound_opts two = { .max_seconds = 2 };
    is_int(read_buf(&s, &b, &two), MM_ELONG, "3 s are more than 2 s");
    ok(strstr(err.msg, "limit is 2 s") != NULL, "... and the limit is named");
    two.cut = 1;
    check(read_buf(&s, &b, &two), "3 s cut to 2 s");
    ok(s.n == 32000 && info.truncated && info.seconds == 2, "... are 2 s");
    mm_sound_clear(&s);
    two.max_seconds = 3;
    two.cut = 0;
    check(read_buf(&s, &b, &two), "3 s are not more than 3 s");
    mm_sound_clear(&s);
    const mm_media_src src = { .data = b.p, .len = b.len };
    is_int(mm_sound_read(&s, &src, 0, NULL, NULL, &err), MM_EARG, "rate 0");

    /* no numbers */
    o = plain;
    o.kind = F32;
    wav(&b, o);
    const float odd[4] = { NAN, INFINITY, -1e30f, 1.5f };
    memcpy(b.p + 44, odd, sizeof odd);
    check(read_buf(&s, &b, NULL), "float samples that are no numbers");
    ok(s.n == 8000 && !s.x[0] && !s.x[1] && !s.x[2] && s.x[3] == 1.5f && strstr(info.note, "3 samples"), "... become 0, with a note");
    mm_sound_clear(&s);
    mm_buf_clear(&b);
}

static void channels(void)
{
    mm_buf b = { 0 };
    mm_sound s;
    wav_opts o = plain;
    o.channels = 2;
    o.frames = 100;
    wav(&b, o);
    for (int i = 0; i < 100; i++) { /* opposite; both full; one only */
        const int16_t l = i < 30 ? 20000 : 32767, r = i < 30 ? -20000 : i < 60 ? 32767 : 0;
        memcpy(b.p + 44 + 4 * i, &l, 2);
        memcpy(b.p + 46 + 4 * i, &r, 2);
    }
    check(read_buf(&s, &b, NULL), "two channels");
    ok(s.n == 100 && s.x[10] == 0, "what is opposite cancels");
    ok(s.x[40] == 32767 / 32768.0f, "full scale in both does not clip");
    ok(fabsf(s.x[70] - 0.5f) < 1e-4f, "one of two is half");
    mm_sound_clear(&s);
    o.channels = 200;
    o.frames = 1000;
    wav(&b, o);
    check(read_buf(&s, &b, NULL), "200 channels");
    ok(s.n == 1000 && fabs(rms(s.x, 1000) - 0.5 * 201 / 400 / sqrt(2)) < 0.004, "... have their mean");
    mm_sound_clear(&s);
    mm_buf_clear(&b);
}

static void rates(void)
{
    static const int from[] = { 44100, 48000, 22050, 11025, 8000, 96000, 12345, 16000, 192000 };
    mm_buf b = { 0 };
    mm_sound s;
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        wav_opts o = plain;
        o.kind = F32;
        o.rate = from[i];
        o.hz = 1000;
        o.frames = o.rate;
        wav(&b, o);
        int r = read_buf(&s, &b, NULL);
        const double level = r ? 0 : rms(s.x + 500, s.n - 1000) * sqrt(2) / 0.5;
        ok(!r && s.n == 16000 && fabs(level - 1) < 0.005, "1 kHz at %d Hz keeps its level (%.6f)", o.rate, level);
        double worst = 0;
        for (size_t k = 500; !r && k + 500 < s.n; k++) worst = fmax(worst, fabs((double)s.x[k] - (double)tone((int64_t)k, 16000, 1000)));
        ok(worst < 1e-3, "... and its phase (%.2g off)", worst);
        mm_sound_clear(&s);
        /* an impulse */
        for (int64_t at = 0; at < o.rate; at += o.rate / 3) {
            memset(b.p + 44, 0, (size_t)o.rate * 4);
            const float one = 1;
            memcpy(b.p + 44 + 4 * at, &one, 4);
            r = read_buf(&s, &b, NULL);
            size_t top = 0;
            for (size_t k = 0; !r && k < s.n; k++)
                if (s.x[k] > s.x[top]) top = k;
            const double want = fmin((double)at * 16000 / o.rate, 15999);
            if (!ok(!r && fabs((double)top - want) <= 1, "an impulse at %d of %d Hz keeps its place", (int)at, o.rate))
                printf("# at %zu, should be %g\n", top, want);
            mm_sound_clear(&s);
        }
        /* lengths */
        int bad = 0;
        for (int64_t n = 1; n < 3000; n = n < 5 ? n + 1 : n * 2 + 1) {
            o.frames = n;
            wav(&b, o);
            r = read_buf(&s, &b, NULL);
            const long long want = llround((double)n * 16000 / o.rate);
            bad += r || (long long)s.n != (want ? want : 1);
            mm_sound_clear(&s);
        }
        ok(!bad, "lengths from %d Hz", o.rate);
    }
    wav_opts o = plain;
    o.kind = F32;
    o.rate = 48000;
    o.hz = 10000;
    o.frames = 48000;
    wav(&b, o);
    check(read_buf(&s, &b, NULL), "10 kHz at 48 kHz");
    const double db = 20 * log10(rms(s.x + 500, s.n - 1000) * sqrt(2) / 0.5 + 1e-12);
    ok(db < -60, "... is above what 16 kHz can hold: %.0f dB are left", db);
    mm_sound_clear(&s);
    mm_buf_clear(&b);
}

/* ---- what libsndfile writes ---- */

typedef struct vio {
    mm_buf b;
    sf_count_t pos;
} vio;
static sf_count_t vlen(void *u) { return (sf_count_t)((vio *)u)->b.len; }
static sf_count_t vtell(void *u) { return ((vio *)u)->pos; }
static sf_count_t vseek(sf_count_t off, int whence, void *u)
{
    vio *v = u;
    return v->pos = off + (whence == SEEK_CUR ? v->pos : whence == SEEK_END ? (sf_count_t)v->b.len : 0);
}
static sf_count_t vread(void *p, sf_count_t n, void *u)
{
    vio *v = u;
    if (n > (sf_count_t)v->b.len - v->pos) n = (sf_count_t)v->b.len - v->pos;
    if (n <= 0) return 0;
    memcpy(p, v->b.p + v->pos, (size_t)n);
    v->pos += n;
    return n;
}
static sf_count_t vwrite(const void *p, sf_count_t n, void *u)
{
    vio *v = u;
    const char zero = 0;
    while ((sf_count_t)v->b.len < v->pos + n)
        if (mm_buf_add(&v->b, &zero, 1)) exit(4);
    memcpy(v->b.p + v->pos, p, (size_t)n);
    v->pos += n;
    return n;
}

static void others(void)
{
    static const struct {
        const char *name;
        int format, rate;
    } t[] = { { "flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 44100 },  { "ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 22050 },
              { "ogg", SF_FORMAT_OGG | SF_FORMAT_OPUS, 48000 },      { "aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_24, 32000 },
              { "au", SF_FORMAT_AU | SF_FORMAT_ULAW, 8000 },         { "caf", SF_FORMAT_CAF | SF_FORMAT_PCM_16, 16000 },
              { "w64", SF_FORMAT_W64 | SF_FORMAT_FLOAT, 11025 },     { "rf64", SF_FORMAT_RF64 | SF_FORMAT_PCM_16, 16000 },
              { "wav", SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, 16000 }, { "wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG, 16000 } };
    SF_VIRTUAL_IO io = { vlen, vseek, vread, vwrite, vtell };
    mm_sound s;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        vio v = { 0 };
        SF_INFO si = { .samplerate = t[i].rate, .channels = 2, .format = t[i].format };
        SNDFILE *f = sf_open_virtual(&io, SFM_WRITE, &si, &v);
        float buf[200];
        for (int64_t k = 0; f && k < t[i].rate; k += 100) {
            for (int j = 0; j < 100; j++) buf[2 * j] = buf[2 * j + 1] = tone(k + j, t[i].rate, 440);
            if (sf_writef_float(f, buf, 100) != 100) exit(4);
        }
        if (!f || sf_close(f)) {
            ok(1, "# SKIP libsndfile does not write %s here", t[i].name);
            continue;
        }
        int r = read_buf(&s, &v.b, NULL);
        if (!ok(!r && llabs((long long)s.n - 16000) < 600 && fabs(amplitude(s.x, 15000, 16000, 440) - 0.5) < 0.02 && !info.truncated &&
                    !strcmp(info.format, t[i].name) && info.rate == t[i].rate && info.channels == 2,
                "%s of %d Hz", t[i].name, t[i].rate))
            printf("# %d %s: n %zu, amplitude %g, %s %d %d, truncated %d\n", r, r ? err.msg : "", s.n, amplitude(s.x, s.n, 16000, 440),
                   info.format, info.rate, info.channels, info.truncated);
        mm_sound_clear(&s);
        v.b.len = v.b.len * 2 / 3;
        r = read_buf(&s, &v.b, NULL);
        ok(r ? (r == MM_ETRUNC || r == MM_EDATA) && !s.x : s.n > 100 && s.n < 16000 && info.truncated, "... cut: %zu samples are left", s.n);
        mm_sound_clear(&s);
        mm_buf_clear(&v.b);
    }
}

/* ---- what FFmpeg reads: a second of 440 Hz in a container that libsndfile does not know ---- */

static int encode(AVFormatContext *f, AVCodecContext *c, AVPacket *pkt, const AVFrame *frame)
{
    int r = avcodec_send_frame(c, frame);
    while (!r && !avcodec_receive_packet(c, pkt)) {
        av_packet_rescale_ts(pkt, c->time_base, f->streams[0]->time_base);
        r = av_interleaved_write_frame(f, pkt);
    }
    return r;
}

/* id: the codec; AV_CODEC_ID_MPEG4: a picture track and no sound */
static int contain(const char *path, const char *format, enum AVCodecID id, enum AVSampleFormat as, int rate)
{
    AVFormatContext *f = NULL;
    AVCodecContext *c = NULL;
    AVPacket *pkt = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    const AVCodec *codec = avcodec_find_encoder(id);
    int r = avformat_alloc_output_context2(&f, NULL, format, path) < 0 || !codec || !pkt || !frame;
    AVStream *s = r ? NULL : avformat_new_stream(f, NULL);
    if (s && id == AV_CODEC_ID_MPEG4) {
        s->codecpar->codec_type = AVMEDIA_TYPE_VIDEO;
        s->codecpar->codec_id = id;
        s->codecpar->width = s->codecpar->height = 16;
        s->time_base = (AVRational){ 1, 25 };
        r = avio_open(&f->pb, path, AVIO_FLAG_WRITE) < 0 || avformat_write_header(f, NULL) < 0 || av_new_packet(pkt, 100);
        if (!r) {
            memset(pkt->data, 0, 100);
            pkt->pts = pkt->dts = 0;
            pkt->duration = 1;
            pkt->flags = AV_PKT_FLAG_KEY;
            r = av_interleaved_write_frame(f, pkt) || av_write_trailer(f);
        }
    } else if (s) {
        c = avcodec_alloc_context3(codec);
        c->sample_fmt = as;
        c->sample_rate = rate;
        c->time_base = (AVRational){ 1, rate };
        c->bit_rate = 128000;
        av_channel_layout_default(&c->ch_layout, 2);
        if (f->oformat->flags & AVFMT_GLOBALHEADER) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
        r = avcodec_open2(c, codec, NULL) || avcodec_parameters_from_context(s->codecpar, c) < 0;
        s->time_base = c->time_base;
        r = r || avio_open(&f->pb, path, AVIO_FLAG_WRITE) < 0 || avformat_write_header(f, NULL) < 0;
        frame->format = as;
        frame->sample_rate = rate;
        frame->nb_samples = c->frame_size ? c->frame_size : 1000;
        r = r || av_channel_layout_copy(&frame->ch_layout, &c->ch_layout) || av_frame_get_buffer(frame, 0);
        for (int64_t at = 0; !r && at < rate; at += frame->nb_samples) {
            r = av_frame_make_writable(frame);
            for (int i = 0; i < frame->nb_samples; i++)
                for (int ch = 0; ch < 2; ch++) {
                    const float v = at + i < rate ? tone(at + i, rate, 440) : 0;
                    if (as == AV_SAMPLE_FMT_FLTP) ((float *)(void *)frame->extended_data[ch])[i] = v;
                    else ((int16_t *)(void *)frame->extended_data[0])[2 * i + ch] = (int16_t)lrintf(v * 32767);
                }
            frame->pts = at;
            r = r || encode(f, c, pkt, frame);
        }
        if (!r) {
            encode(f, c, pkt, NULL);
            r = av_write_trailer(f);
        }
    }
    if (f) avio_closep(&f->pb);
    avformat_free_context(f);
    avcodec_free_context(&c);
    av_packet_free(&pkt);
    av_frame_free(&frame);
    return r;
}

static void containers(void)
{
    static const struct {
        const char *format, *name;
        enum AVCodecID id;
        enum AVSampleFormat as;
        int rate;
    } t[] = { { "mp4", "mp4", AV_CODEC_ID_AAC, AV_SAMPLE_FMT_FLTP, 44100 },
              { "matroska", "matroska", AV_CODEC_ID_PCM_S16LE, AV_SAMPLE_FMT_S16, 22050 },
              { "mpegts", "mpegts", AV_CODEC_ID_MP2, AV_SAMPLE_FMT_S16, 48000 },
              { "adts", "aac", AV_CODEC_ID_AAC, AV_SAMPLE_FMT_FLTP, 16000 },
              { "avi", "avi", AV_CODEC_ID_PCM_S16LE, AV_SAMPLE_FMT_S16, 16000 } };
    char path[] = "/tmp/mm-test-sound-XXXXXX";
    const int fd = mkstemp(path);
    const mm_media_src src = { .path = path };
    mm_sound s;
    if (fd < 0) exit(4);
    close(fd);
    av_log_set_level(AV_LOG_QUIET);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        if (contain(path, t[i].format, t[i].id, t[i].as, t[i].rate)) {
            ok(1, "# SKIP FFmpeg does not write %s here", t[i].format);
            continue;
        }
        int r = mm_sound_read(&s, &src, 16000, NULL, &info, &err);
        if (!ok(!r && s.n >= 16000 && s.n < 19000 && fabs(amplitude(s.x + 3000, 10000, 16000, 440) - 0.5) < 0.02 && !info.truncated &&
                    !strcmp(info.format, t[i].name) && info.rate == t[i].rate && info.channels == 2 && info.has == MM_MEDIA_AUDIO,
                "%s of %d Hz", t[i].format, t[i].rate))
            printf("# %d %s: n %zu, amplitude %g, %s %d %d, truncated %d\n", r, r ? err.msg : "", s.n, r ? 0 : amplitude(s.x + 3000, 10000, 16000, 440),
                   info.format, info.rate, info.channels, info.truncated);
        mm_sound_clear(&s);
        const mm_sound_opts half = { .max_seconds = 0.5 };
        is_int(mm_sound_read(&s, &src, 16000, &half, NULL, &err), MM_ELONG, "... is more than half a second");
        struct stat st;
        if (stat(path, &st) || truncate(path, st.st_size * 3 / 5)) exit(4);
        r = mm_sound_read(&s, &src, 16000, NULL, &info, &err);
        if (!ok(r ? r == MM_ETRUNC && !s.x : s.n > 100 && s.n < 16000 && info.truncated, "... cut: %zu samples are left", s.n))
            printf("# %d %s, truncated %d\n", r, r ? err.msg : "", info.truncated);
        mm_sound_clear(&s);
    }
    if (!contain(path, "mp4", AV_CODEC_ID_MPEG4, AV_SAMPLE_FMT_NONE, 0)) {
        is_int(mm_sound_read(&s, &src, 16000, NULL, &info, &err), MM_EDATA, "pictures only");
        is_str(err.msg, "no sound in it (mp4)", "... which is said");
    }
    unlink(path);
}

/* ---- spectra ---- */

/* as in tests/tools/mk_mel_fixtures.py */
static void signal_make(float *x, int n)
{
    uint32_t p = 0, step = 1u << 20, noise = 1;
    for (int i = 0; i < n; i++) {
        p += step;
        step += 12000;
        noise = noise * 1664525u + 1013904223u;
        const int saw = (int)(p >> 16) - 32768, hiss = (int)(noise >> 22) - 512;
        x[i] = (float)((saw >= 0 ? saw / 4 : -((3 - saw) / 4)) * (i / 3000 % 3) + hiss) / 32768.0f;
    }
}

static void mel_golden(void)
{
    static float x[24000], out[128 * 3000];
    const char *root = getenv("MM_ROOT");
    char path[4096], line[8192], last[100] = "";
    int n = 0, bins = 0;
    double worst = 0;
    snprintf(path, sizeof path, "%s/tests/golden/mel.txt", root ? root : ".");
    FILE *f = fopen(path, "r");
    if (!ok(f != NULL, "tests/golden/mel.txt")) return;
    signal_make(x, 24000);
    while (fgets(line, sizeof line, f)) {
        char kind[16], head[100];
        mm_mel_spec s = { .rate = 16000, .n_fft = 400, .hop = 160 };
        int frame, used;
        if (line[0] == '#') continue;
        if (sscanf(line, "%15s %d %d %d %f %f%n", kind, &s.bins, &s.n_frames, &s.center_wave, &s.mean, &s.std, &used) != 6) break;
        snprintf(head, sizeof head, "%.*s", used, line);
        s.kind = kind[0] == 'k' ? MM_MEL_KALDI : MM_MEL_WHISPER;
        char *p = line + used;
        frame = (int)strtol(p, &p, 10);
        if (strcmp(head, last)) {
            if (n) ok(worst < 1e-4, "mel: %s (%.2g off)", last, worst);
            worst = 0;
            bins = 0;
            snprintf(last, sizeof last, "%s", head);
            if (mm_mel(out, x, 24000, &s, &err)) break;
        }
        for (int k = 0; k < s.bins; k++, bins++)
            worst = fmax(worst, fabs(strtod(p, &p) - (double)out[(size_t)k * (size_t)s.n_frames + (size_t)frame]));
        n++;
    }
    ok(worst < 1e-4 && bins, "mel: %s (%.2g off)", last, worst);
    is_int(n, 17, "mel: lines of the golden file");
    fclose(f);
}

static void mel_short(void)
{
    static const size_t lengths[] = { 0, 1, 159, 368, 399, 400, 401, 560, 479999, 480000, 480001, 600000 };
    static const mm_mel_spec specs[] = {
        { .kind = MM_MEL_WHISPER, .rate = 16000, .bins = 80, .n_fft = 400, .hop = 160, .n_frames = 3000 },
        { .kind = MM_MEL_KALDI, .rate = 16000, .bins = 128, .n_fft = 400, .hop = 160, .n_frames = 1024, .mean = -4.2677393f, .std = 9.1379948f },
        { .kind = MM_MEL_KALDI, .rate = 16000, .bins = 128, .n_fft = 400, .hop = 160, .n_frames = 204, .center_wave = 1 },
    };
    float *x = malloc(600000 * sizeof *x), *out = malloc(128 * 3000 * sizeof *out);
    if (!x || !out) exit(4);
    for (int i = 0; i < 600000; i++) x[i] = tone(i, 16000, 440);
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (int k = 0; k < 3; k++) {
            const size_t n = (size_t)specs[k].bins * (size_t)specs[k].n_frames;
            size_t finite = 0;
            for (size_t i = 0; i < n; i++) out[i] = NAN;
            const int r = mm_mel(out, x, lengths[l], &specs[k], &err);
            for (size_t i = 0; i < n; i++) finite += isfinite(out[i]) != 0;
            ok(!r && finite == n, "mel: %zu samples, spectrum %d is finite", lengths[l], k);
        }
    /* silence, huge and odd sizes of transforms */
    memset(x, 0, 4000 * sizeof *x);
    check(mm_mel(out, x, 4000, &specs[0], &err), "mel: silence");
    ok(out[0] == -1.5f && out[80 * 3000 - 1] == -1.5f, "... is all -1.5");
    for (int i = 0; i < 4000; i++) x[i] = (i & 1) ? 3e38f : -3e38f;
    check(mm_mel(out, x, 4000, &specs[2], &err), "mel: the largest floats");
    int finite = 1;
    for (int i = 0; i < 128 * 204; i++) finite &= isfinite(out[i]) != 0;
    ok(finite, "... give finite values");
    static const int sizes[] = { 4, 6, 10, 14, 22, 26, 30, 42, 64, 98, 126, 1250, 2000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) { /* one bin holds a tone: all its power, which is (n / 4)^2 under this window */
        const int n = sizes[i], bin = n / 4 > 1 ? n / 4 : 1;
        mm_mel_spec s = { .kind = MM_MEL_WHISPER, .rate = 16000, .bins = 1, .n_fft = n, .hop = n, .n_frames = 4 };
        double want = 0;
        for (int k = 0; k < 4 * n; k++) x[k] = (float)cos(2 * M_PI * k * bin / n);
        const int r = mm_mel(out, x, 4 * (size_t)n, &s, &err);
        /* frame 2 by hand: a transform of few numbers, one triangle over all of the Slaney scale */
        const double top = 15 + log(8.0) * 27 / log(6.4), mid = top / 2 < 15 ? top / 2 * 200 / 3 : 1000 * exp((top / 2 - 15) * log(6.4) / 27);
        for (int k = 0; k <= n / 2; k++) {
            double re = 0, im = 0;
            const double hz = 16000.0 * k / n, w = fmax(0, fmin(hz / mid, (8000 - hz) / (8000 - mid))) * 2 / 8000;
            for (int j = 0; j < n; j++) {
                const double v = x[2 * n - n / 2 + j] * (0.5 - 0.5 * cos(2 * M_PI * j / n));
                re += v * cos(2 * M_PI * j * k / n);
                im += v * sin(2 * M_PI * j * k / n);
            }
            want += w * (re * re + im * im);
        }
        want = (log10(fmax(want, 1e-10)) + 4) / 4;
        if (!ok(!r && fabs(out[2] - want) < 1e-5, "mel: a transform of %d numbers", n)) printf("# %g, should be %g\n", (double)out[2], want);
    }
    mm_mel_spec bad = specs[0];
    bad.n_fft = 401;
    is_int(mm_mel(out, x, 10, &bad, &err), MM_EARG, "mel: an odd transform");
    bad = specs[0];
    bad.n_frames = 1;
    is_int(mm_mel(out, x, 10, &bad, &err), MM_EARG, "mel: fewer samples than are mirrored");
    bad = specs[1];
    bad.hop = 0;
    is_int(mm_mel(out, x, 10, &bad, &err), MM_EARG, "mel: no step");
    free(x);
    free(out);
}

/* ---- quality ---- */

static int finite_quality(const mm_sound_quality *q)
{
    return isfinite(q->level) && isfinite(q->peak) && isfinite(q->snr) && q->clipping >= 0 && q->clipping <= 1 && q->silence >= 0 && q->silence <= 1 &&
           q->snr >= 0 && q->snr <= 100 && q->level >= -120;
}

static void quality(void)
{
    static float x[64000];
    mm_sound_quality q;
    mm_sound_measure(&q, x, 0, 16000);
    ok(finite_quality(&q) && !q.has_speech, "quality: nothing");
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && q.level == -120 && q.peak == -120 && q.silence == 1 && !q.has_speech && !q.clipping, "quality: silence");
    uint32_t s = 1;
    for (int i = 0; i < 64000; i++) x[i] = (float)((int)((s = s * 1664525u + 1013904223u) >> 30) % 3 - 1) / 32768;
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && q.level < -85 && !q.has_speech && q.silence == 1, "quality: noise of the last bit");
    for (int i = 0; i < 64000; i++) x[i] = 0.25f;
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && fabsf(q.level + 12.04f) < 0.1f && !q.has_speech && !q.silence && !q.clipping, "quality: a constant");
    for (int i = 0; i < 64000; i++) x[i] = i / 40 % 2 ? 1 : -1;
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && q.clipping == 1 && q.level == 0 && q.peak == 0, "quality: a clipped square");
    for (int i = 0; i < 64000; i++) x[i] = i % 100 ? 0.1f : 1;
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && !q.clipping && q.peak == 0, "quality: single peaks are not clipping");
    for (int i = 0; i < 64000; i++) x[i] = (float)(int32_t)(s = s * 1664525u + 1013904223u) / 2147483648.0f * 0.5f;
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && !q.has_speech && q.snr < 3, "quality: white noise is no voice (snr %.1f)", (double)q.snr);
    for (int i = 0; i < 64000; i++) x[i] = (i / 8000 % 2 ? 1 : 0.01f) * (tone(i, 16000, 120) + 0.5f * tone(i, 16000, 240) + 0.3f * tone(i, 16000, 1200));
    mm_sound_measure(&q, x, 64000, 16000);
    ok(finite_quality(&q) && q.has_speech && fabsf(q.snr - 40) < 1, "quality: a harmonic sound that comes and goes (snr %.1f)", (double)q.snr);
    for (int n = 1; n < 2000; n = n * 3 + 1) {
        mm_sound_measure(&q, x, (size_t)n, 16000);
        ok(finite_quality(&q), "quality: %d samples", n);
    }
    mm_sound_measure(&q, x, 64000, 10);
    ok(finite_quality(&q), "quality: an odd rate");
}

static void text(const char *p, size_t len, int valid, size_t characters, double repetition, const char *what)
{
    mm_text_quality q;
    mm_text_measure(&q, p, len);
    if (!ok(q.valid == valid && q.characters == characters && fabs((double)q.repetition - repetition) < 1e-3, "text: %s", what))
        printf("# valid %d, %zu characters, repetition %g\n", q.valid, q.characters, (double)q.repetition);
}

static void texts(void)
{
#define T(s) s, sizeof s - 1
    text(NULL, 0, 1, 0, 0, "nothing");
    text(T("a"), 1, 1, 0, "a letter");
    text(T("hello"), 1, 5, 0, "a word");
    text(T("a  \t\n b"), 1, 3, 0, "a run of white space is one character");
    text(T("a\xE3\x80\x80\xC2\xA0" "b"), 1, 3, 0, "... of any script");
    text(T("e\xCC\x81" "e\xCC\x81"), 1, 2, 0, "letters with marks");
    text(T("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7"), 1, 1, 0, "a family is one character");
    text(T("\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA\xF0\x9F\x87\xAB\xF0\x9F\x87\xB7"), 1, 2, 0, "two flags");
    text(T("\xED\x95\x9C\xEA\xB5\xAD"), 1, 2, 0, "Hangul");
    text(T("ab\xFF" "c"), 0, 4, 0, "a byte that is not UTF-8");
    text(T("\xED\xA0\x80"), 0, 3, 0, "half of a pair");
    text(T("aaaaaa"), 1, 6, 0.75, "one letter again and again");
    text(T("abcabcabc"), 1, 9, 4.0 / 7, "three letters again and again");
    text(T("a\0b"), 1, 3, 0, "a NUL is a character");
    char *p = malloc(100001);
    if (!p) exit(4);
    for (int i = 0; i < 100000; i++) p[i] = "0123456789"[i % 10];
    text(p, 100000, 1, 100000, 1 - 10.0 / 99998, "a long one");
    free(p);
}

int main(void)
{
    wav_kinds();
    wav_sizes();
    errors();
    channels();
    rates();
    others();
    containers();
    mel_golden();
    mel_short();
    quality();
    texts();
    return done();
}

/* Sound from a file or memory to mono at a wanted rate: which library decodes, what a WAV header is believed, the mean of the channels,
 * the resampler. Memory beyond the result is a few blocks. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <sndfile.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include "media/sound_int.h"

#define TAPS 64                      /* of the resampler's filter at equal rates: 90 dB, 0.7 kHz from pass to stop at 16 kHz */
#define PIPE_MAX ((size_t)1 << 31)   /* bytes of sound that come through a pipe */
#define NO_SAMPLE 32768.0f           /* float samples beyond this are damage, not loudness */
#define FRAMES_MAX ((int64_t)1 << 40) /* more is not a count but "unknown" */

/* ---- bytes in ---- */

static int in_open(sound_in *in, const mm_media_src *src, mm_err *err)
{
    struct stat st;
    *in = (sound_in){ .fd = -1, .patch_at = -1 };
    if (!src->path) {
        in->p = src->data;
        in->len = (int64_t)src->len;
        return 0;
    }
    in->fd = open(src->path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0 || fstat(in->fd, &st)) return mm_fail_errno(err, "cannot open '%s'", src->path);
    if (S_ISREG(st.st_mode)) {
        in->len = st.st_size;
        return 0;
    }
    for (;;) { /* a pipe has no end to look at: all of it comes first */
        if (mm_buf_reserve(&in->held, 1 << 16)) return mm_fail(err, MM_ENOMEM, "cannot read '%s': out of memory", src->path);
        const ssize_t n = read(in->fd, in->held.p + in->held.len, in->held.cap - in->held.len - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mm_fail_errno(err, "cannot read '%s'", src->path);
        if (!n) break;
        in->held.len += (size_t)n;
        if (in->held.len > PIPE_MAX) return mm_fail(err, MM_ELONG, "'%s' is larger than the limit of %zu bytes for a pipe", src->path, PIPE_MAX);
    }
    in->p = (const uint8_t *)in->held.p;
    in->len = (int64_t)in->held.len;
    return 0;
}

static void in_close(sound_in *in)
{
    if (in->fd >= 0) close(in->fd);
    mm_buf_clear(&in->held);
}

int64_t mm_sound_in_read(sound_in *in, void *buf, int64_t n)
{
    int64_t at = in->pos, got = 0;
    uint8_t *b = buf;
    if (at < 0 || at >= in->len || n <= 0) return 0;
    if (n > in->len - at) n = in->len - at;
    if (in->p) {
        memcpy(b, in->p + at, (size_t)n);
        got = n;
    }
    while (got < n) {
        ssize_t k = pread(in->fd, b + got, (size_t)(n - got), (off_t)(at + got));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            in->failed = errno;
            return -1;
        }
        if (!k) break; /* somebody shortened the file */
        got += k;
    }
    for (int i = 0; i < in->patch_len && in->patch_at >= 0; i++) {
        int64_t k = in->patch_at + i - at;
        if (k >= 0 && k < got) b[k] = in->patch[i];
    }
    in->pos += got;
    return got;
}

static int64_t peek(sound_in *in, int64_t at, uint8_t *buf, int64_t n)
{
    in->pos = at;
    int64_t got = mm_sound_in_read(in, buf, n);
    in->pos = 0;
    return got;
}

/* ---- mono out ---- */

int mm_sound_channels(int64_t channels, mm_err *err)
{
    if (channels >= 1 && channels <= SOUND_CHANNELS) return 0;
    return mm_fail(err, MM_EDATA, "%lld channels of sound, should be 1 to %d", (long long)channels, SOUND_CHANNELS);
}

int mm_sound_out_limit(const sound_out *o, double seconds, mm_err *err)
{
    if (o->cut || seconds <= o->max_seconds + 1e-9) return 0;
    return mm_fail(err, MM_ELONG, "sound of %.4g s or more, the limit is %.4g s", seconds, o->max_seconds);
}

static int room(sound_out *o, size_t more, mm_err *err)
{
    size_t want;
    if (mm_add(o->n, more, &want)) return mm_fail(err, MM_ENOMEM, "out of memory");
    if (want <= o->cap) return 0;
    if (want < o->cap + o->cap / 2) want = o->cap + o->cap / 2;
    float *x = mm_realloc(o->x, want, sizeof *x);
    if (!x) return mm_fail(err, MM_ENOMEM, "no memory for %zu samples of sound", want);
    o->x = x;
    o->cap = want;
    return 0;
}

static int convert(sound_out *o, const float *x, size_t n, mm_err *err)
{
    int most = swr_get_out_samples(o->swr, (int)n), r;
    if (most < 0 || (r = room(o, (size_t)most, err))) return most < 0 ? mm_fail(err, MM_ENOMEM, "cannot resample") : r;
    uint8_t *to[1] = { (uint8_t *)(o->x + o->n) };
    const uint8_t *from[1] = { (const uint8_t *)x };
    r = swr_convert(o->swr, to, most, from, (int)n);
    if (r < 0) return mm_fail(err, MM_ENOMEM, "cannot resample");
    o->n += (size_t)r;
    return 0;
}

static int silence(sound_out *o, int64_t n, mm_err *err)
{
    static const float zeros[SOUND_BLOCK];
    int r = 0;
    for (int64_t k; n > 0 && !r; n -= k) {
        k = n < SOUND_BLOCK ? n : SOUND_BLOCK;
        r = convert(o, zeros, (size_t)k, err);
    }
    return r;
}

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

/* The resampler mirrors the sound at its ends when it starts and is flushed, and wants a filter's length of it for that. Here silence goes
 * around every run instead: as much in front as makes a whole number of samples of the result, which are dropped again. */
int mm_sound_out_rate(sound_out *o, int64_t rate, mm_err *err)
{
    if (rate < SOUND_RATE_MIN || rate > SOUND_RATE_MAX)
        return mm_fail(err, MM_EDATA, "a rate of %lld Hz, should be %d to %d", (long long)rate, SOUND_RATE_MIN, SOUND_RATE_MAX);
    if (o->from == rate) return 0;
    int r = mm_sound_out_end(o, err);
    if (r) return r;
    o->from = (int)rate;
    o->frames = 0;
    o->start = o->n;
    o->skip = 0;
    if (rate == o->rate) return 0;
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    if (swr_alloc_set_opts2(&o->swr, &mono, AV_SAMPLE_FMT_FLTP, o->rate, &mono, AV_SAMPLE_FMT_FLTP, (int)rate, 0, NULL) < 0 ||
        av_opt_set_int(o->swr, "filter_size", TAPS, 0) < 0 || av_opt_set_int(o->swr, "linear_interp", 1, 0) < 0 ||
        av_opt_set_int(o->swr, "exact_rational", 1, 0) < 0 || swr_init(o->swr) < 0)
        return mm_fail(err, MM_ENOMEM, "cannot resample from %d to %d Hz", (int)rate, o->rate);
    int64_t g = gcd(rate, o->rate), unit = rate / g, taps = TAPS + TAPS * rate / o->rate;
    int64_t units = (taps + unit - 1) / unit;
    o->skip = (size_t)(units * (o->rate / g));
    return silence(o, units * unit, err);
}

static int push(sound_out *o, size_t n, mm_err *err)
{
    int64_t left = (int64_t)((o->max_seconds - o->seconds) * o->from + 0.5) - o->frames;
    int r;
    if ((int64_t)n > left) {
        if ((r = mm_sound_out_limit(o, o->seconds + (double)(o->frames + (int64_t)n) / o->from, err))) return r;
        n = left > 0 ? (size_t)left : 0;
        o->full = 1;
    }
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(o->mono[i]) <= NO_SAMPLE)) {
            o->mono[i] = 0;
            o->replaced++;
        }
    o->frames += (int64_t)n;
    if (o->swr) {
        r = n ? convert(o, o->mono, n, err) : 0;
    } else if (!(r = room(o, n, err))) {
        memcpy(o->x + o->n, o->mono, n * sizeof *o->mono);
        o->n += n;
    }
    return r ? r : o->full;
}

int mm_sound_out_add(sound_out *o, const float *x, size_t frames, int channels, mm_err *err)
{
    const float scale = 1.0f / (float)channels;
    int r = 0;
    while (frames && !r) {
        size_t n = frames < SOUND_BLOCK ? frames : SOUND_BLOCK;
        for (size_t i = 0; i < n; i++, x += channels) {
            float s = x[0];
            for (int c = 1; c < channels; c++) s += x[c];
            o->mono[i] = channels > 1 ? s * scale : s;
        }
        frames -= n;
        r = push(o, n, err);
    }
    return r;
}

int mm_sound_out_end(sound_out *o, mm_err *err)
{
    int r = 0;
    if (!o->from) return 0;
    if (o->swr) {
        uint64_t want = ((uint64_t)o->frames * (uint64_t)o->rate * 2 + (uint64_t)o->from) / (2 * (uint64_t)o->from);
        if (!want && o->frames) want = 1;
        size_t end = o->start + o->skip + (size_t)want;
        while (!r && o->n < end) r = silence(o, SOUND_BLOCK, err);
        if (!r) {
            memmove(o->x + o->start, o->x + o->start + o->skip, (size_t)want * sizeof *o->x);
            o->n = o->start + (size_t)want;
        }
        swr_free(&o->swr);
    }
    o->seconds += (double)o->frames / o->from;
    o->from = 0;
    return r;
}

/* ---- WAV ---- */

static uint32_t num(const uint8_t *p, int big, int bytes)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint32_t)p[i] << 8 * (big ? bytes - 1 - i : i);
    return v;
}

static int is_id(const uint8_t *p)
{
    for (int i = 0; i < 4; i++)
        if (p[i] < 32 || p[i] > 126) return 0;
    return 1;
}

/* Whether from `at` on there are chunks and nothing else. */
static int only_chunks(sound_in *in, int64_t at, int big)
{
    uint8_t h[8];
    while (at + 8 <= in->len) {
        if (peek(in, at, h, 8) != 8 || !is_id(h)) return 0;
        at += 8 + (int64_t)num(h + 4, big, 4);
        if (at == in->len) return 1;
        at += at & 1;
    }
    return at == in->len;
}

/* Readers see `v` at this place. */
static void patch(sound_in *in, int64_t at, uint64_t v, int bytes, int big)
{
    in->patch_at = at;
    in->patch_len = bytes;
    for (int i = 0; i < bytes; i++) in->patch[i] = (uint8_t)(v >> 8 * (big ? bytes - 1 - i : i));
}

/* What a WAV header says is checked before any library sees it; the size of the data is set right where the writer did not know it. */
static int wav(sound_in *in, const uint8_t *head, mm_media_info *info, mm_err *err)
{
    int big = head[3] == 'X', fmt = 0, r;
    int64_t at = 12;
    uint8_t h[24];
    for (int chunks = 0; chunks < 4096; chunks++) {
        int64_t got = peek(in, at, h, sizeof h);
        if (got < 8) break;
        uint32_t size = num(h + 4, big, 4);
        if (!memcmp(h, "fmt ", 4)) {
            if (got < 24) return mm_fail(err, MM_ETRUNC, "a WAV file that ends in its header");
            uint32_t rate = num(h + 12, big, 4);
            if ((r = mm_sound_channels(num(h + 10, big, 2), err))) return r;
            if (rate < SOUND_RATE_MIN || rate > SOUND_RATE_MAX)
                return mm_fail(err, MM_EDATA, "a rate of %u Hz, should be %d to %d", rate, SOUND_RATE_MIN, SOUND_RATE_MAX);
            fmt = 1;
        } else if (!memcmp(h, "data", 4)) {
            int64_t left = in->len - at - 8;
            if (!memcmp(head, "RF64", 4) && size == UINT32_MAX) { /* its size is elsewhere */
                uint8_t ds[24];
                if (peek(in, 12, ds, sizeof ds) != sizeof ds || memcmp(ds, "ds64", 4) || left <= 0) return 0;
                if (!num(ds + 16, 0, 4) && !num(ds + 20, 0, 4)) patch(in, 28, (uint64_t)left, 8, 0);
                return 0;
            }
            /* what those write who do not know yet: all ones, or the largest size that is even, fits an int or leaves room for the header */
            int unknown = (((size >= 0x7FFFF000u && size <= 0x80000000u) || size >= 0xFFFFF000u) && (int64_t)size > left) ||
                          (!size && left && !only_chunks(in, at + 8, big));
            if (!fmt) return mm_fail(err, MM_EDATA, "a WAV file whose format ('fmt ') does not come before its data");
            if (!unknown && (int64_t)size <= left) return 0;
            if (!unknown) info->truncated = 1;
            if (!left) return unknown ? 0 : mm_fail(err, MM_ETRUNC, "a WAV file that ends before its data");
            if (left > (int64_t)UINT32_MAX - 64) left = (int64_t)UINT32_MAX - 64;
            patch(in, at + 4, (uint64_t)left, 4, big);
            return 0;
        }
        at += 8 + (int64_t)size + (size & 1);
    }
    if (at + 8 > in->len) return mm_fail(err, MM_ETRUNC, "a WAV file that ends before its data");
    return mm_fail(err, MM_EDATA, "a WAV file with more than 4096 chunks before its data");
}

/* Whether an Ogg file ends in a whole page that says it is the last. */
static int ogg_complete(sound_in *in)
{
    uint8_t buf[4096];
    int64_t n = in->len < (int64_t)sizeof buf ? in->len : (int64_t)sizeof buf, back = 0;
    while (back < 65536 + 512 && n > 27) {
        int64_t at = in->len - n - back;
        if (at < 0) at = 0;
        int64_t got = peek(in, at, buf, n);
        for (int64_t i = got - 27; i >= 0; i--) {
            if (memcmp(buf + i, "OggS", 4) || buf[i + 4]) continue;
            uint8_t lace[255];
            int64_t size = 27 + buf[i + 26];
            if (peek(in, at + i + 27, lace, buf[i + 26]) != buf[i + 26]) return 0;
            for (int k = 0; k < buf[i + 26]; k++) size += lace[k];
            return (buf[i + 5] & 4) && at + i + size <= in->len;
        }
        if (!at) break;
        back += n - 27;
    }
    return 0;
}

/* Whether the file is shorter than its header says; WAV is looked at above. */
static int cut_short(sound_in *in)
{
    uint8_t h[64] = { 0 };
    const int64_t n = peek(in, 0, h, sizeof h);
    uint64_t end = 0;
    if (!memcmp(h, "OggS", 4)) return !ogg_complete(in);
    if (!memcmp(h, "FORM", 4)) {
        end = 8 + (uint64_t)num(h + 4, 1, 4);
    } else if (!memcmp(h, "RIFF", 4) && !memcmp(h + 8, "AVI ", 4)) {
        end = 8 + (uint64_t)num(h + 4, 0, 4);
    } else if (!memcmp(h, "RF64", 4) && !memcmp(h + 12, "ds64", 4)) {
        end = num(h + 20, 0, 4) | (uint64_t)num(h + 24, 0, 4) << 32;
        if (end == UINT64_MAX) end = 0;
    } else if (!memcmp(h, "riff", 4)) {
        end = num(h + 16, 0, 4) | (uint64_t)num(h + 20, 0, 4) << 32;
    } else if (!memcmp(h, ".snd", 4)) {
        end = num(h + 8, 1, 4) == UINT32_MAX ? 0 : (uint64_t)num(h + 4, 1, 4) + num(h + 8, 1, 4);
    } else if (h[0] == 0x47 && n >= 4) {
        return in->len > 4 * 188 && peek(in, 188, h, 1) == 1 && h[0] == 0x47 && in->len % 188; /* transport packets */
    } else if (!memcmp(h, "\x1A\x45\xDF\xA3", 4)) {
        int64_t at = 4;
        for (int k = 0; k < 2; k++) { /* the header of EBML, then the segment */
            int len = 1;
            if (peek(in, at, h, 9) != 9) return 1;
            while (len < 9 && !(h[0] & (0x80 >> (len - 1)))) len++;
            if (len > 8) return 0;
            uint64_t size = h[0] & (0xFFu >> len), most = ((uint64_t)1 << 7 * len) - 1;
            for (int i = 1; i < len; i++) size = size << 8 | h[i];
            if (size == most || size > (uint64_t)INT64_MAX / 2) return 0; /* unknown: a live stream */
            end = (uint64_t)at + (uint64_t)len + size;
            if (end > (uint64_t)in->len || k) break;
            at = (int64_t)end;
            if (peek(in, at, h, 4) != 4 || memcmp(h, "\x18\x53\x80\x67", 4)) return 0;
            at += 4;
        }
    }
    return end > (uint64_t)in->len;
}

/* ---- libsndfile ---- */

static sf_count_t vio_len(void *u) { return ((sound_in *)u)->len; }
static sf_count_t vio_tell(void *u) { return ((sound_in *)u)->pos; }
static sf_count_t vio_seek(sf_count_t off, int whence, void *u)
{
    sound_in *in = u;
    int64_t base = whence == SEEK_CUR ? in->pos : whence == SEEK_END ? in->len : 0, at;
    if (__builtin_add_overflow(base, off, &at) || at < 0) return -1;
    return in->pos = at;
}
static sf_count_t vio_read(void *buf, sf_count_t n, void *u)
{
    int64_t got = mm_sound_in_read(u, buf, n);
    return got < 0 ? 0 : got;
}
static sf_count_t vio_write(const void *p, sf_count_t n, void *u)
{
    (void)p, (void)n, (void)u;
    return 0;
}

static const char *sndfile_name(int format)
{
    switch (format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_WAV:
    case SF_FORMAT_WAVEX: return "wav";
    case SF_FORMAT_RF64: return "rf64";
    case SF_FORMAT_W64: return "w64";
    case SF_FORMAT_AIFF: return "aiff";
    case SF_FORMAT_AU: return "au";
    case SF_FORMAT_CAF: return "caf";
    case SF_FORMAT_FLAC: return "flac";
    case SF_FORMAT_OGG: return "ogg";
    default: return NULL;
    }
}

/* Files of these beginnings are shown to libsndfile; it guesses from less than a beginning at times. MP3 is FFmpeg's: the decoder behind
 * libsndfile prints. */
static int sndfile_kind(const uint8_t *h, int64_t n)
{
    static const char *const magic[] = { "RIFF", "RIFX", "RF64", "riff", "FORM", ".snd", "dns.", "caff", "fLaC", "OggS" };
    for (size_t i = 0; i < sizeof magic / sizeof *magic; i++) {
        size_t k = strlen(magic[i]);
        if (n >= (int64_t)k && !memcmp(h, magic[i], k)) return 1;
    }
    return 0;
}

/* 0, an error, or 2: libsndfile does not know this file. */
static int read_sndfile(sound_out *o, sound_in *in, mm_media_info *info, mm_err *err)
{
    SF_VIRTUAL_IO io = { vio_len, vio_seek, vio_read, vio_write, vio_tell };
    SF_INFO si = { 0 };
    in->pos = 0;
    SNDFILE *f = sf_open_virtual(&io, SFM_READ, &si, in);
    const char *name = f ? sndfile_name(si.format) : NULL;
    if (!name) {
        if (f) sf_close(f);
        return 2;
    }
    float *buf = NULL;
    int64_t frames = 0, want = si.frames < FRAMES_MAX ? si.frames : 0;
    int r = mm_sound_channels(si.channels, err);
    if (!r) r = mm_sound_out_rate(o, si.samplerate, err);
    if (!r) r = mm_sound_out_limit(o, (double)want / si.samplerate, err);
    if (!r && !(buf = malloc(sizeof *buf * (SOUND_BLOCK + SOUND_CHANNELS)))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    snprintf(info->format, sizeof info->format, "%s", name);
    info->rate = si.samplerate;
    info->channels = si.channels;
    const int block = SOUND_BLOCK / (si.channels > 0 ? si.channels : 1);
    while (!r) {
        sf_count_t got = sf_readf_float(f, buf, block > 0 ? block : 1);
        if (got <= 0) break;
        frames += got;
        r = mm_sound_out_add(o, buf, (size_t)got, si.channels, err);
    }
    if (!r && (sf_error(f) || frames < want)) info->truncated = 1;
    sf_close(f);
    free(buf);
    if (r >= 0 && !frames)
        r = info->truncated ? mm_fail(err, MM_ETRUNC, "the file ends or is damaged before its first sample")
                            : mm_fail(err, MM_EEMPTY, "no samples");
    return r;
}

int mm_sound_header(const uint8_t *p, size_t len, mm_media_info *info)
{
    SF_VIRTUAL_IO io = { vio_len, vio_seek, vio_read, vio_write, vio_tell };
    SF_INFO si = { 0 };
    sound_in in = { .p = p, .fd = -1, .len = (int64_t)len, .patch_at = -1 };
    if (!sndfile_kind(p, in.len) || cut_short(&in)) return 0;
    SNDFILE *f = sf_open_virtual(&io, SFM_READ, &si, &in);
    const char *name = f ? sndfile_name(si.format) : NULL;
    if (f) sf_close(f);
    if (!name || si.frames <= 0 || si.frames >= FRAMES_MAX || si.samplerate < SOUND_RATE_MIN || si.samplerate > SOUND_RATE_MAX) return 0;
    snprintf(info->format, sizeof info->format, "%s", name);
    info->has |= MM_MEDIA_AUDIO;
    info->rate = si.samplerate;
    info->channels = si.channels;
    info->seconds = (double)si.frames / si.samplerate;
    return 1;
}

/* ---- all together ---- */

int mm_sound_read(mm_sound *out, const mm_media_src *src, int rate, const mm_sound_opts *opts, mm_media_info *info, mm_err *err)
{
    mm_media_info own;
    sound_in in;
    uint8_t head[16] = { 0 };
    *out = (mm_sound){ 0 };
    if (!info) info = &own;
    memset(info, 0, sizeof *info);
    if (rate < 1000 || rate > SOUND_RATE_MAX) return mm_fail(err, MM_EARG, "a rate of %d Hz, should be 1000 to %d", rate, SOUND_RATE_MAX);
    if (!src->path && !src->data && src->len) return mm_fail(err, MM_EARG, "no sound given");
    sound_out *o = calloc(1, sizeof *o);
    if (!o) return mm_fail(err, MM_ENOMEM, "out of memory");
    o->rate = rate;
    o->cut = opts && opts->cut;
    o->max_seconds = opts && opts->max_seconds > 0 ? opts->max_seconds : MM_MAX_SECONDS;
    int r = in_open(&in, src, err);
    int64_t n = r ? 0 : peek(&in, 0, head, sizeof head);
    if (!r && n == 0 && !in.failed) r = mm_fail(err, MM_EEMPTY, "nothing in it (0 bytes)");
    int riff = n >= 12 && !memcmp(head + 8, "WAVE", 4) && (!memcmp(head, "RIFF", 4) || !memcmp(head, "RIFX", 4) || !memcmp(head, "RF64", 4));
    if (!r && riff) {
        snprintf(info->format, sizeof info->format, "wav");
        r = wav(&in, head, info, err);
    }
    if (!r) {
        int cut = info->truncated | cut_short(&in);
        info->truncated = cut;
        int broken_ogg = cut && !memcmp(head, "OggS", 4); /* libsndfile leaks when it gives up on one */
        r = sndfile_kind(head, n) && !broken_ogg ? read_sndfile(o, &in, info, err) : 2;
        if (r == 2) {
            r = mm_sound_av(o, &in, info, err);
            info->truncated |= cut;
        }
    }
    if (r == 1) { /* the limit */
        info->truncated = 1;
        r = 0;
    }
    if (!r) r = mm_sound_out_end(o, err);
    if (in.failed && (r || o->n)) {
        errno = in.failed;
        r = mm_fail_errno(err, "cannot read '%s'", src->path ? src->path : "sound");
    }
    if (!r && !o->n) r = mm_fail(err, MM_EEMPTY, "no samples");
    in_close(&in);
    swr_free(&o->swr);
    if (!r) {
        float *x = mm_realloc(o->x, o->n, sizeof *x);
        *out = (mm_sound){ x ? x : o->x, o->n, rate };
        info->seconds = o->seconds;
        info->has |= MM_MEDIA_AUDIO;
        if (o->replaced)
            snprintf(info->note, sizeof info->note, "%lld samples that are no numbers set to 0", (long long)o->replaced);
    } else {
        free(o->x);
    }
    free(o);
    return r;
}

void mm_sound_clear(mm_sound *s)
{
    free(s->x);
    *s = (mm_sound){ 0 };
}

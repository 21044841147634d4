/* mel [-c] [-t N] KIND BINS FRAMES MEAN STD [RATE] < names of sound files: for each the sound at 16 kHz (or RATE) and its log-mel spectrum as raw
 * little-endian data: u32 n, f32 [n], f32 [BINS, FRAMES]. KIND whisper or kaldi; -c: the mean of the sound is subtracted first;
 * FRAMES 0: no spectrum; -t N: computes it N times and prints the time of the fastest instead. For scripts/parity/mel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mm_base.h"
#include "media/mm_media.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    mm_mel_spec spec = { .rate = 16000 };
    mm_err err = { 0 };
    char line[4096];
    int i = 1, times = 0, bad = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "-c")) spec.center_wave = 1;
        else if (!strcmp(argv[i], "-t") && i + 1 < argc) times = (int)strtol(argv[++i], NULL, 10);
    }
    if (argc - i < 5) {
        fprintf(stderr, "usage: mel [-c] [-t N] KIND BINS FRAMES MEAN STD [RATE] < names\n");
        return 2;
    }
    spec.kind = !strcmp(argv[i], "kaldi") ? MM_MEL_KALDI : MM_MEL_WHISPER;
    spec.bins = (int)strtol(argv[i + 1], NULL, 10);
    spec.n_frames = (int)strtol(argv[i + 2], NULL, 10);
    spec.mean = strtof(argv[i + 3], NULL);
    spec.std = strtof(argv[i + 4], NULL);
    if (argc - i > 5) spec.rate = (int)strtol(argv[i + 5], NULL, 10);
    spec.n_fft = spec.rate / 40;
    spec.hop = spec.rate / 100;
    float *mel = malloc(sizeof *mel * ((size_t)spec.bins * (size_t)spec.n_frames + 1));
    if (!mel) return 4;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        mm_media_src src = { .path = line };
        mm_media_info info;
        mm_sound s;
        if (mm_sound_read(&s, &src, spec.rate, NULL, &info, &err)) {
            fprintf(stderr, "mel: %s: %s: %s\n", line, mm_err_name(err.code), err.msg);
            s = (mm_sound){ 0 };
            bad = 1;
        }
        double best = 1e9;
        for (int k = 0; k < (times ? times : 1) && spec.n_frames; k++) {
            double t = now();
            if (mm_mel(mel, s.x, s.n, &spec, &err)) {
                fprintf(stderr, "mel: %s: %s\n", line, err.msg);
                return 3;
            }
            t = now() - t;
            if (t < best) best = t;
        }
        uint32_t n = (uint32_t)s.n;
        if (times) {
            mm_sound_quality q;
            mm_sound_measure(&q, s.x, s.n, s.rate);
            printf("%s: %zu samples, %.2f ms, %s %d Hz %d channels, has %u, %.3f s%s%s%s, level %.1f peak %.1f clipping %.3f silence %.3f snr %.1f speech %d\n",
                   line, s.n, best * 1e3, info.format, info.rate, info.channels, info.has, info.seconds, info.truncated ? ", truncated" : "",
                   info.note[0] ? ", " : "", info.note, (double)q.level, (double)q.peak, (double)q.clipping, (double)q.silence, (double)q.snr,
                   q.has_speech);
        } else {
            fwrite(&n, 4, 1, stdout);
            if (s.n) fwrite(s.x, 4, s.n, stdout);
            fwrite(mel, 4, (size_t)spec.bins * (size_t)spec.n_frames, stdout);
        }
        mm_sound_clear(&s);
    }
    free(mel);
    return bad ? 3 : 0;
}

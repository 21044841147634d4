/* The reader of sound over one input, then spectra and measures of what came out. */
#include <math.h>
#include <stdlib.h>
#include "media/mm_media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static float mel[80 * 40];
    static const mm_mel_spec specs[2] = {
        { .kind = MM_MEL_WHISPER, .rate = 16000, .bins = 80, .n_fft = 400, .hop = 160, .n_frames = 40 },
        { .kind = MM_MEL_KALDI, .rate = 16000, .bins = 80, .n_fft = 400, .hop = 160, .n_frames = 40, .mean = -4, .std = 9, .center_wave = 1 },
    };
    const mm_sound_opts o = { .max_seconds = 2, .cut = (int)(size & 1) };
    const mm_media_src src = { .data = data, .len = size };
    mm_media_info info;
    mm_sound_quality q;
    mm_text_quality t;
    mm_sound s;
    mm_err err = { 0 };
    const int r = mm_sound_read(&s, &src, 16000, &o, &info, &err);
    if (r ? s.x || s.n || err.code != r || !err.msg[0] : !s.x || !s.n || s.n > 32001 || s.rate != 16000) abort();
    for (size_t i = 0; i < s.n; i++)
        if (!isfinite(s.x[i])) abort();
    for (int k = 0; k < 2; k++) {
        if (mm_mel(mel, s.x, s.n, &specs[k], &err)) abort();
        for (int i = 0; i < specs[k].bins * specs[k].n_frames; i++)
            if (!isfinite(mel[i])) abort();
    }
    mm_sound_measure(&q, s.x, s.n, 16000);
    if (!isfinite(q.level) || !isfinite(q.snr) || !(q.clipping >= 0 && q.clipping <= 1) || !(q.silence >= 0 && q.silence <= 1)) abort();
    mm_text_measure(&t, (const char *)data, size);
    if (!(t.repetition >= 0 && t.repetition <= 1) || t.characters > size) abort();
    mm_sound_clear(&s);
    return 0;
}

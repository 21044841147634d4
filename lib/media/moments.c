/* Which moments of a clip a model sees. */
#include "media/media_int.h"

void media_moments(double *at, const mm_video_spec *spec, double seconds, double last)
{
    int clips = spec->how == MM_FRAMES_CLIPS ? spec->clips : 1, n = spec->frames / clips;
    for (int i = 0; i < spec->frames; i++) {
        int k = i / n;
        double spare = seconds - spec->clip_seconds, part = seconds < spec->clip_seconds ? seconds : spec->clip_seconds;
        switch (spec->how) {
        case MM_FRAMES_SPREAD: at[i] = (i + 0.5) / n * seconds; break;
        case MM_FRAMES_ENDS: at[i] = n > 1 ? last * i / (n - 1) : 0; break;
        case MM_FRAMES_CLIPS: /* the last frame of a clip is the one on show just before its end */
            at[i] = spare > 0 && clips > 1 ? spare * k / (clips - 1) : 0;
            at[i] += n > 1 ? (part - (seconds - last)) * (i % n) / (n - 1) : part / 2;
            break;
        }
    }
}

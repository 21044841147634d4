/* How good the parts of records are, as the allocation net is told: measured in what the model sees, so that training and use agree. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "media/mm_media.h"
#include "model/uni_int.h"

enum { OWN = MM_UNI_QUALITY - 1 }; /* numbers of a part itself; the last one is its agreement with the record's other parts */

static float within(float x) { return !(x > 0) ? 0 : x > 1 ? 1 : x; }

/* Sharpness, absence of noise, variety. px [plane, 3]: room for the picture as bytes. */
static void picture(float q[OWN], const float *x, size_t height, size_t width, uint8_t *px)
{
    const size_t plane = height * width;
    mm_image im = { px, (int)width, (int)height };
    mm_image_quality m;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) px[3 * i + c] = (uint8_t)lrintf(255 * within(x[c * plane + i] * 0.25f + 0.5f)); /* see mm_uni_spec() */
    mm_image_measure(&m, &im);
    q[0] += 1 - m.blur;
    q[1] += 1 - within(mm_image_noise(&im) / 64);
    q[2] += m.entropy / 8;
}

static void sound(float q[OWN], const float *x, size_t frames)
{
    mm_mel_quality m;
    mm_mel_measure(&m, x, frames, MM_UNI_MEL, 4, -4); /* see mm_uni_spec() */
    q[0] = within(m.snr / 60);
    q[1] = 1 - m.silence;
    q[2] = 1 - m.flatness;
}

/* Length, share of tokens that were not there before, and whether they point the same way: rows [n, width] are the tokens' in the trunk. */
static void text(float q[OWN], const int32_t *ids, size_t n, const float *rows, size_t width)
{
    size_t new = 0;
    double lengths = 0, whole = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        double square = 0;
        while (k < i && ids[k] != ids[i]) k++;
        new += k == i;
        for (size_t d = 0; d < width; d++) square += (double)rows[i * width + d] * rows[i * width + d];
        lengths += sqrt(square);
    }
    for (size_t d = 0; d < width; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += rows[i * width + d];
        whole += sum * sum;
    }
    q[0] = (float)n / (float)(n + 8);
    q[1] = n ? (float)new / (float)n : 0;
    q[2] = lengths > 0 ? (float)(sqrt(whole) / lengths) : 0;
}

/* Numbers of each part alone, and the parts' vectors z [n, out]. */
static int measure_own(mm_graph *g, const mm_uni *u, const mm_uni_in *in, float *quality, float *z)
{
    const size_t plane = in->height * in->width, width = (size_t)u->c.width;
    uint8_t *px = in->mod == MM_IMAGE || in->mod == MM_VIDEO ? mm_arena_alloc(g->arena, plane * 3, 1) : NULL;
    if (!px && (in->mod == MM_IMAGE || in->mod == MM_VIDEO)) return g->failed = 1;
    mm_uni_tokens t = mm_uni_stem(g, u, in);
    if (!t.x.p) return 1;
    for (size_t i = 0; i < in->n; i++) {
        float *q = quality + i * MM_UNI_QUALITY;
        size_t frames = in->mod == MM_VIDEO ? in->frames[i] : 1;
        if (in->mod == MM_TEXT) text(q, in->ids + in->off[i], in->off[i + 1] - in->off[i], t.x.p + t.r.off[i] * width, width);
        if (in->mod == MM_AUDIO) sound(q, in->x[i], in->frames[i]);
        for (size_t f = 0; px && f < frames; f++) picture(q, in->x[i] + f * 3 * plane, in->height, in->width, px);
        for (int k = 0; px && k < OWN; k++) q[k] /= (float)frames;
    }
    mm_tensor y = mm_uni_pool(g, u, &t, mm_uni_trunk(g, u, &t));
    if (y.p) memcpy(z, y.p, y.rows * y.cols * sizeof *z);
    return !y.p;
}

/* Mean cosine of a part with the others of its record, 2/3 being much; 1 where there is no other. */
static void agreement(const mm_uni *u, const mm_uni_records *rec, float *const quality[], float *const z[])
{
    size_t at[MM_MODALITIES] = { 0 }, dim = (size_t)u->c.out;
    for (size_t i = 0; i < rec->n; i++) {
        const float *part[MM_MODALITIES] = { NULL };
        float *q[MM_MODALITIES];
        for (int m = 0; m < MM_MODALITIES; m++) {
            if (!rec->in[m] || at[m] == rec->in[m]->n || rec->of[m][at[m]] != i) continue;
            part[m] = z[m] + at[m] * dim;
            q[m] = quality[m] + at[m]++ * MM_UNI_QUALITY;
        }
        for (int m = 0; m < MM_MODALITIES; m++) {
            int others = 0;
            double sum = 0;
            for (int k = 0; part[m] && k < MM_MODALITIES; k++) {
                if (k == m || !part[k]) continue;
                for (size_t d = 0; d < dim; d++) sum += (double)part[m][d] * part[k][d];
                others++;
            }
            if (part[m]) q[m][OWN] = others ? within((float)(1.5 * sum / others)) : 1;
        }
    }
}

void mm_uni_measure(mm_graph *g, const mm_uni *u, mm_uni_records *rec)
{
    float *quality[MM_MODALITIES] = { NULL }, *z[MM_MODALITIES] = { NULL };
    mm_graph plain = *g;
    size_t parts = 0;
    plain.tape = NULL;
    for (int m = 0; m < MM_MODALITIES; m++) parts += rec->in[m] ? rec->in[m]->n : 0;
    if (parts == rec->n) return; /* a part alone has all the weight, however good it is */
    for (int m = 0; m < MM_MODALITIES; m++) {
        if (!rec->in[m] || !rec->in[m]->n) continue;
        quality[m] = mm_arena_zalloc(g->arena, rec->in[m]->n, MM_UNI_QUALITY * sizeof *quality[m]);
        z[m] = mm_arena_alloc(g->arena, rec->in[m]->n, (size_t)u->c.out * sizeof *z[m]);
        plain.failed |= !quality[m] || !z[m];
    }
    for (int m = 0; m < MM_MODALITIES && !plain.failed; m++) {
        mm_arena_mark here = mm_graph_here(&plain);
        if (quality[m]) plain.failed |= measure_own(&plain, u, rec->in[m], quality[m], z[m]);
        mm_graph_back(&plain, here);
        rec->quality[m] = quality[m];
        rec->alone[m] = z[m];
    }
    if (plain.failed) g->failed = 1;
    else agreement(u, rec, quality, z);
}

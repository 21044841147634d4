/* PNG and GIF: FFmpeg decodes them; their blocks are walked here first, for what a decoder does not say: whether the file is whole,
 * the orientation, what hides under transparency, how many frames there are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libavutil/crc.h>
#include "media/av.h"
#include "media/media_int.h"

/* ---- PNG ---- */

typedef struct png {
    int width, height, depth, color;
    size_t end;            /* of the last chunk that is there */
    size_t trns, trns_len; /* the whole chunk's place */
    const uint8_t *exif;
    size_t exif_len;
    int profile, data, whole, animated;
} png;

static int walk(const media_job *j, png *g)
{
    const uint8_t *p = j->p;
    const AVCRC *table = av_crc_get_table(AV_CRC_32_IEEE_LE);
    for (size_t at = 8; !g->whole;) {
        if (j->len - at < 12) break;
        size_t n = be32(p + at);
        const uint8_t *name = p + at + 4;
        if (at == 8 && (memcmp(name, "IHDR", 4) || n != 13)) return mm_fail(j->err, MM_EDATA, "the PNG file is damaged: it does not begin with a header");
        if (n > j->len - at - 12) break;
        int needed = !(name[0] & 32) || !memcmp(name, "tRNS", 4);
        int good = 1;
        if (needed || !memcmp(name, "eXIf", 4)) good = ~av_crc(table, 0xFFFFFFFFu, name, n + 4) == be32(p + at + 8 + n);
        if (!good && needed) return mm_fail(j->err, MM_EDATA, "the PNG file is damaged: bad checksum (CRC) of its %.4s chunk", (const char *)name);
        if (at == 8) {
            if (be32(p + 16) > INT32_MAX || be32(p + 20) > INT32_MAX) return mm_fail(j->err, MM_EDATA, "the PNG file is damaged: impossible size");
            g->width = (int)be32(p + 16);
            g->height = (int)be32(p + 20);
            g->depth = p[24];
            g->color = p[25];
            int r = media_check_size(j, g->width, g->height);
            if (r) return r;
        }
        if (!memcmp(name, "tRNS", 4)) g->trns = at, g->trns_len = n + 12;
        if (!memcmp(name, "eXIf", 4) && good) g->exif = p + at + 8, g->exif_len = n;
        if (!memcmp(name, "iCCP", 4)) g->profile = 1;
        if (!memcmp(name, "acTL", 4) && n >= 8 && be32(p + at + 8) > 1) g->animated = 1;
        if (!memcmp(name, "IDAT", 4)) g->data = 1;
        if (!memcmp(name, "IEND", 4)) g->whole = 1;
        at += n + 12;
        g->end = at;
    }
    return 0;
}

/* Colour key of gray below 8 bits, which FFmpeg's decoder does not take: it gets the file without the chunk, and the key is looked
 * for here, in samples that were stretched to 8 bits. */
static int small_key(const media_job *j, media_raw *raw, const png *g)
{
    unsigned key = (be16(j->p + g->trns + 8) & ((1u << g->depth) - 1)) * 255 / ((1u << g->depth) - 1);
    size_t n = (size_t)raw->width * (size_t)raw->height;
    media_raw with = { .width = raw->width, .height = raw->height, .channels = 4, .orientation = raw->orientation };
    int r = media_alloc(j, &with);
    if (r) return r;
    for (size_t i = 0; i < n; i++) {
        memcpy(with.px + 4 * i, raw->px + 3 * i, 3);
        with.px[4 * i + 3] = raw->px[3 * i] == key ? 0 : 255;
    }
    free(raw->px);
    *raw = with;
    return 0;
}

int media_png(const media_job *j, media_raw *raw)
{
    png g = { 0 };
    AVFrame *f = NULL;
    uint8_t *copy = NULL;
    int r = walk(j, &g);
    if (r) return r;
    if (!g.width || (!g.data && !g.whole)) return mm_fail(j->err, MM_ETRUNC, "the PNG file ends early");
    if (g.profile) media_note(j->info, "embedded colour profile ignored");
    if (g.animated) j->info->has |= MM_MEDIA_VIDEO;
    *raw = (media_raw){ .width = g.width, .height = g.height };
    int orientation = raw->orientation = g.exif ? media_exif_orientation(g.exif, g.exif_len) : 1;
    if (j->header_only) return 0;
    media_packet k = { .codec = AV_CODEC_ID_PNG, .name = "PNG", .p = j->p, .len = g.end };
    int key = g.trns && g.color == 0 && g.depth < 8 && g.trns_len >= 14;
    if (key) {
        if (!(copy = malloc(g.end))) return mm_fail(j->err, MM_ENOMEM, "out of memory");
        memcpy(copy, j->p, g.trns);
        memcpy(copy + g.trns, j->p + g.trns + g.trns_len, g.end - g.trns - g.trns_len);
        k.p = copy;
        k.len = g.end - g.trns_len;
    }
    for (k.marks = 1; k.marks < 3 && !r; k.marks++) { /* twice only when it looks as if rows were missing */
        av_frame_free(&f);
        int unfilled = 0;
        if ((r = media_decode_one(j, &k, &f)) || !(unfilled = media_unfilled(f, k.marks))) break;
        if (k.marks == 2) {
            r = unfilled == 1 ? mm_fail(j->err, MM_ETRUNC, "the PNG file ends early: it has too few rows")
                              : mm_fail(j->err, MM_EDATA, "the PNG file is damaged: a row of an unknown filter");
            av_frame_free(&f);
        }
    }
    free(copy);
    if (r == MM_EDATA && !g.whole) r = mm_fail(j->err, MM_ETRUNC, "the PNG file ends early");
    if (r) {
        *raw = (media_raw){ 0 };
        return r;
    }
    r = media_pixels(j, raw, f, 1);
    av_frame_free(&f);
    if (r) return r;
    raw->orientation = orientation;
    if (key && (r = small_key(j, raw, &g))) {
        free(raw->px);
        *raw = (media_raw){ 0 };
    }
    return r;
}

/* ---- GIF ---- */

typedef struct gif {
    int64_t frames;    /* whole ones */
    int cut;           /* an image's data ends with the file */
    size_t end;        /* of the first image */
    int32_t hidden;
} gif;

/* Past the sub-blocks at `at`; 0 when they go on beyond the end. */
static size_t blocks(const uint8_t *p, size_t len, size_t at)
{
    while (at < len) {
        size_t n = p[at++];
        if (!n) return at;
        at += n;
    }
    return 0;
}

static void gif_walk(const uint8_t *p, size_t len, int64_t max, gif *g)
{
    size_t global = 13, at = 13 + (p[10] & 0x80 ? (size_t)3 << ((p[10] & 7) + 1) : 0);
    int key = -1;
    *g = (gif){ .hidden = -1 };
    while (at < len && g->frames < max) {
        if (p[at] == 0x21 && at + 2 < len) {
            if (p[at + 1] == 0xF9 && at + 8 <= len) key = p[at + 3] & 1 ? p[at + 6] : -1;
            if (!(at = blocks(p, len, at + 2))) break;
        } else if (p[at] == 0x2C && at + 10 < len) {
            int local = p[at + 9] & 0x80;
            size_t colours = (size_t)1 << ((local ? p[at + 9] & 7 : p[10] & 7) + 1), table = local ? at + 10 : global;
            if (!g->frames && key >= 0 && (local || p[10] & 0x80) && (size_t)key < colours && table + 3 * colours <= len) {
                const uint8_t *c = p + table + 3 * (size_t)key;
                g->hidden = c[0] << 16 | c[1] << 8 | c[2];
            }
            at = at + 10 + (local ? 3 * colours : 0) + 1; /* and the code size */
            if (at >= len || !(at = blocks(p, len, at))) {
                g->cut = 1;
                break;
            }
            if (!g->frames++) g->end = at;
            key = -1;
        } else {
            if (p[at] != 0x3B) g->cut = 1; /* neither the trailer nor anything that may be here */
            break;
        }
    }
}

int32_t media_gif_hidden(const uint8_t *p, size_t len)
{
    gif g;
    if (len < 13) return -1;
    gif_walk(p, len, 1, &g);
    return g.hidden;
}

int64_t media_gif_frames(const uint8_t *p, size_t len)
{
    gif g;
    if (len < 13) return 0;
    gif_walk(p, len, INT64_MAX, &g);
    return g.frames;
}

int media_gif(const media_job *j, media_raw *raw)
{
    gif g;
    AVFrame *f = NULL;
    char value[16];
    if (j->len < 13) return mm_fail(j->err, MM_ETRUNC, "the GIF file ends early");
    int r = media_check_size(j, le16(j->p + 6), le16(j->p + 8));
    if (r) return r;
    gif_walk(j->p, j->len, 2, &g);
    if (g.frames > 1) j->info->has |= MM_MEDIA_VIDEO;
    *raw = (media_raw){ .width = (int)le16(j->p + 6), .height = (int)le16(j->p + 8), .orientation = 1 };
    if (j->header_only) return 0;
    *raw = (media_raw){ 0 };
    if (!g.frames) return mm_fail(j->err, MM_ETRUNC, "the GIF file ends early");
    snprintf(value, sizeof value, "%d", g.hidden < 0 ? 0xFFFFFF : (int)g.hidden);
    const media_packet k = { .codec = AV_CODEC_ID_GIF, .name = "GIF", .p = j->p, .len = g.end, .option = "trans_color", .value = value };
    if ((r = media_decode_one(j, &k, &f))) return r;
    r = media_pixels(j, raw, f, 1);
    av_frame_free(&f);
    return r;
}

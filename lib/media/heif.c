/* HEIC and AVIF stills, which FFmpeg 5 does not read: the items' HEVC or AV1 data goes to FFmpeg's decoders. Orientation is irot and imir and
 * nothing else. Done: one picture or a grid of tiles, alpha, clap; not done: overlays. */
#include <stdlib.h>
#include <string.h>
#include "media/av.h"
#include "media/heif_int.h"

static const box *prop(const box *list, size_t n, uint32_t type)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].type == type) return &list[i];
    return NULL;
}

static int size_of(const heif *h, const box *list, size_t n, int64_t *width, int64_t *height)
{
    const box *ispe = prop(list, n, TYPE('i', 's', 'p', 'e'));
    if (!ispe || ispe->len < 12) return heif_broken(h, "an item has no size");
    *width = be32(ispe->p + 4);
    *height = be32(ispe->p + 8);
    return media_check_size(h->j, *width, *height);
}

static void colours(AVFrame *f, const box *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].type == TYPE('c', 'o', 'l', 'r') && list[i].len >= 11 && !memcmp(list[i].p, "nclx", 4)) {
            uint32_t matrix = be16(list[i].p + 8);
            if (matrix != 2) f->colorspace = matrix < AVCOL_SPC_NB ? (enum AVColorSpace)matrix : AVCOL_SPC_UNSPECIFIED;
            f->color_trc = be16(list[i].p + 6) < AVCOL_TRC_NB ? (enum AVColorTransferCharacteristic)be16(list[i].p + 6) : AVCOL_TRC_UNSPECIFIED;
            f->color_range = list[i].p[10] & 0x80 ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
        }
    if (f->colorspace == AVCOL_SPC_UNSPECIFIED) f->colorspace = AVCOL_SPC_SMPTE170M; /* MIAF: whatever the height */
}

static int coded(heif *h, uint32_t id, uint32_t type, const box *list, size_t n, media_raw *raw)
{
    int64_t width, height;
    int r = size_of(h, list, n, &width, &height);
    if (r) return r;
    if ((h->left -= width * height) < 0) return mm_fail(h->j->err, MM_ELONG, "the %s file has tiles beyond its picture", h->name);
    mm_buf data = { 0 };
    AVFrame *f = NULL;
    media_packet k = { .name = h->name, .codec = AV_CODEC_ID_AV1 };
    if (type == TYPE('h', 'v', 'c', '1')) {
        const box *config = prop(list, n, TYPE('h', 'v', 'c', 'C'));
        if (!config || config->len < 23) return heif_broken(h, "an item has no decoder configuration");
        k.codec = AV_CODEC_ID_HEVC;
        k.extra = config->p;
        k.extra_len = config->len;
    }
    if (!(r = heif_data(h, id, &data))) {
        media_job one = *h->j; /* a tile that claims a small size decodes to nothing larger */
        if ((width + 128) * (height + 128) < one.opts.max_pixels) one.opts.max_pixels = (width + 128) * (height + 128);
        k.p = (const uint8_t *)data.p;
        k.len = data.len;
        r = media_decode_one(&one, &k, &f);
    }
    mm_buf_clear(&data);
    if (r) return r;
    colours(f, list, n);
    r = f->width < width || f->height < height ? heif_broken(h, "a picture is smaller than it says") : media_pixels(h->j, raw, f, 1);
    av_frame_free(&f);
    return r;
}

static void paste(media_raw *canvas, const media_raw *tile, int x0, int y0)
{
    size_t n = (size_t)canvas->channels;
    int w = canvas->width - x0 < tile->width ? canvas->width - x0 : tile->width;
    for (int y = 0; y < tile->height && y0 + y < canvas->height; y++)
        memcpy(canvas->px + ((size_t)(y0 + y) * (size_t)canvas->width + (size_t)x0) * n, tile->px + (size_t)y * (size_t)tile->width * n, (size_t)w * n);
}

static int grid(heif *h, uint32_t id, media_raw *raw)
{
    static const int max_tiles = 2048;
    mm_buf data = { 0 };
    int r = heif_data(h, id, &data), tile_w = 0, tile_h = 0;
    reader d = { (const uint8_t *)data.p, data.len, 0 };
    heif_get(&d, 1);
    size_t wide = heif_get(&d, 1) & 1 ? 4 : 2;
    int rows = (int)heif_get(&d, 1) + 1, columns = (int)heif_get(&d, 1) + 1;
    int64_t width = (int64_t)heif_get(&d, wide), height = (int64_t)heif_get(&d, wide);
    mm_buf_clear(&data);
    if (r) return r;
    uint32_t *tiles = mm_realloc(NULL, (size_t)max_tiles, sizeof *tiles);
    if (!tiles) return mm_fail(h->j->err, MM_ENOMEM, "out of memory");
    if (d.bad || rows * columns > max_tiles || heif_refs(h, TYPE('d', 'i', 'm', 'g'), id, 0, tiles, (size_t)max_tiles) != (size_t)(rows * columns))
        r = heif_broken(h, "its grid");
    if (!r) r = media_check_size(h->j, width, height);
    for (int i = 0; i < rows * columns && !r; i++) {
        media_raw tile = { 0 };
        box list[MAX_PROPS];
        size_t n = heif_props(h, tiles[i], list);
        uint32_t type = heif_type(h, tiles[i]);
        if (type != TYPE('h', 'v', 'c', '1') && type != TYPE('a', 'v', '0', '1')) r = heif_broken(h, "a tile of its grid");
        else r = coded(h, tiles[i], type, list, n, &tile);
        if (!r && !i) {
            *raw = (media_raw){ .width = (int)width, .height = (int)height, .channels = 3 };
            tile_w = tile.width;
            tile_h = tile.height;
            if ((int64_t)tile_w * columns < width || (int64_t)tile_h * rows < height) r = heif_broken(h, "the tiles do not cover its grid");
            else r = media_alloc(h->j, raw);
        }
        int x = i % columns * tile_w, y = i / columns * tile_h;
        if (!r && (tile.width != tile_w || tile.height != tile_h || tile.channels != 3)) r = heif_broken(h, "the tiles of its grid differ in size");
        if (!r && x < raw->width) paste(raw, &tile, x, y);
        free(tile.px);
    }
    free(tiles);
    return r;
}

static int picture(heif *h, uint32_t id, const box *list, size_t n, media_raw *raw)
{
    uint32_t type = heif_type(h, id);
    switch (type) {
    case TYPE('h', 'v', 'c', '1'):
    case TYPE('a', 'v', '0', '1'): return coded(h, id, type, list, n, raw);
    case TYPE('g', 'r', 'i', 'd'): return grid(h, id, raw);
    case TYPE('i', 'o', 'v', 'l'): return mm_fail(h->j->err, MM_EUNSUP, "an overlay in a %s file is not supported", h->name);
    }
    return mm_fail(h->j->err, MM_EUNSUP, "a %s item of type '%c%c%c%c' is not supported", h->name, (int)(type >> 24 & 127), (int)(type >> 16 & 127),
                   (int)(type >> 8 & 127), (int)(type & 127));
}

static int alpha(heif *h, uint32_t id, media_raw *raw)
{
    uint32_t from[16];
    size_t k = heif_refs(h, TYPE('a', 'u', 'x', 'l'), id, 1, from, 16);
    for (size_t i = 0; i < k; i++) {
        box list[MAX_PROPS];
        size_t n = heif_props(h, from[i], list);
        const box *aux = prop(list, n, TYPE('a', 'u', 'x', 'C'));
        if (!aux || aux->len < 5 || !memchr(aux->p + 4, 0, aux->len - 4)) continue;
        const char *urn = (const char *)aux->p + 4;
        if (strcmp(urn, "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha") && strcmp(urn, "urn:mpeg:hevc:2015:auxid:1")) continue;
        if (h->j->opts.alpha == MM_ALPHA_DROP) {
            media_note(h->j->info, "alpha dropped");
            return 0;
        }
        media_raw a = { 0 }, with = { .width = raw->width, .height = raw->height, .channels = 4 };
        int r = picture(h, from[i], list, n, &a);
        if (!r && (a.width != raw->width || a.height != raw->height || a.channels != 3))
            r = mm_fail(h->j->err, MM_EUNSUP, "alpha of another size in a %s file is not supported", h->name);
        if (!r) r = media_alloc(h->j, &with);
        for (size_t x = 0, m = (size_t)raw->width * (size_t)raw->height; x < m && !r; x++) {
            memcpy(with.px + 4 * x, raw->px + 3 * x, 3);
            with.px[4 * x + 3] = a.px[3 * x];
        }
        free(a.px);
        if (r) return r;
        free(raw->px);
        *raw = with;
        return 0;
    }
    return 0;
}

/* Clean aperture: the middle part of the picture, its size and its centre's offset given as fractions. */
static int clap(const heif *h, const box *b, media_raw *raw)
{
    if (b->len < 32) return heif_broken(h, "its clean aperture");
    int64_t v[8];
    for (int i = 0; i < 8; i++) v[i] = i == 4 || i == 6 ? (int32_t)be32(b->p + 4 * i) : (int64_t)be32(b->p + 4 * i);
    if (!v[1] || !v[3] || !v[5] || !v[7]) return heif_broken(h, "its clean aperture");
    double w = (double)v[0] / (double)v[1], t = (double)v[2] / (double)v[3];
    double x = (double)v[4] / (double)v[5] + (raw->width - 1) / 2.0 - (w - 1) / 2, y = (double)v[6] / (double)v[7] + (raw->height - 1) / 2.0 - (t - 1) / 2;
    if (!(w >= 1 && t >= 1 && x > -1 && y > -1 && x + w < raw->width + 1.0 && y + t < raw->height + 1.0)) return heif_broken(h, "its clean aperture");
    int x0 = x > 0 ? (int)x : 0, y0 = y > 0 ? (int)y : 0, cw = (int)w, ch = (int)t;
    if (x0 + cw > raw->width) cw = raw->width - x0;
    if (y0 + ch > raw->height) ch = raw->height - y0;
    size_t n = (size_t)raw->channels;
    for (int row = 0; row < ch && raw->px; row++)
        memmove(raw->px + (size_t)row * (size_t)cw * n, raw->px + ((size_t)(y0 + row) * (size_t)raw->width + (size_t)x0) * n, (size_t)cw * n);
    raw->width = cw;
    raw->height = ch;
    return 0;
}

/* In the order in which the file lists them. */
static int transforms(const heif *h, const box *list, size_t n, media_raw *raw)
{
    static const int turns[] = { 1, 8, 3, 6 }; /* by quarters, anticlockwise */
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        int o = 1;
        if (list[i].type == TYPE('c', 'l', 'a', 'p')) r = clap(h, &list[i], raw);
        if (h->j->opts.no_rotate || !list[i].len) continue;
        if (list[i].type == TYPE('i', 'r', 'o', 't')) o = turns[list[i].p[0] & 3];
        if (list[i].type == TYPE('i', 'm', 'i', 'r')) o = list[i].p[0] & 1 ? 2 : 4;
        if (!r && raw->px) r = media_orient(raw, o, h->j->err);
        else if (o >= 5) {
            int w = raw->width;
            raw->width = raw->height;
            raw->height = w;
        }
    }
    return r;
}

int media_heif(const media_job *j, media_raw *raw)
{
    heif h = { .j = j,
               .name = strcmp(j->info->format, "avif") ? "HEIC" : "AVIF",
               .left = j->opts.max_pixels < INT64_MAX / 4 ? 4 * j->opts.max_pixels : INT64_MAX };
    box meta, list[MAX_PROPS];
    reader r = { j->p, j->len, 0 };
    int e = 0, found = 0;
    while (!found && heif_next(&r, &meta)) found = meta.type == TYPE('m', 'e', 't', 'a');
    if (!found) return r.bad || r.len ? mm_fail(j->err, MM_ETRUNC, "the %s file ends early", h.name) : heif_broken(&h, "it has no description of a picture");
    if ((e = heif_tables(&h, &meta))) return e;
    unsigned version, flags;
    reader p = heif_full(&h.pitm, &version, &flags);
    uint32_t id = (uint32_t)heif_get(&p, version ? 4 : 2);
    size_t n = heif_props(&h, id, list);
    for (size_t i = 0; i < n; i++)
        if (list[i].type == TYPE('c', 'o', 'l', 'r') && list[i].len >= 4 && (!memcmp(list[i].p, "prof", 4) || !memcmp(list[i].p, "rICC", 4)))
            media_note(j->info, "embedded colour profile ignored");
    if (j->header_only) {
        int64_t w, t;
        if (!(e = size_of(&h, list, n, &w, &t))) *raw = (media_raw){ .width = (int)w, .height = (int)t, .channels = 3 };
    } else {
        int64_t w, t;
        e = size_of(&h, list, n, &w, &t);
        if (!e) e = picture(&h, id, list, n, raw);
        if (!e) e = alpha(&h, id, raw);
    }
    if (!e) e = transforms(&h, list, n, raw);
    if (e) {
        free(raw->px);
        *raw = (media_raw){ 0 };
    }
    return e;
}

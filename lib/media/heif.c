/* HEIC and AVIF stills: the items of an ISO base media file (ISO/IEC 14496-12, 23008-12), which FFmpeg 5 does not read; their HEVC or AV1
 * data goes to FFmpeg's decoders. Orientation is irot and imir and nothing else. Done: one picture or a grid of tiles, alpha, clap; not done: overlays. */
#include <stdlib.h>
#include <string.h>
#include <libavcodec/avcodec.h>
#include "media/media_int.h"

#define MAX_PROPS 64 /* of one item */

typedef struct box {
    const uint8_t *p; /* payload */
    size_t len;
    uint32_t type;
} box;

#define TYPE(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

typedef struct heif {
    const media_job *j;
    box iprp, ipco, ipma, iloc, iref, iinf, idat, pitm;
    const char *name; /* "HEIC" or "AVIF" */
    int64_t left;     /* pixels that may still be decoded, tiles and alpha included */
} heif;

typedef struct reader { /* of big-endian numbers; after a read past the end all are 0 and bad is set */
    const uint8_t *p;
    size_t len;
    int bad;
} reader;

static uint64_t get(reader *r, size_t n)
{
    uint64_t v = 0;
    if (r->len < n) {
        r->bad = 1;
        r->len = 0;
        return 0;
    }
    for (size_t i = 0; i < n; i++) v = v << 8 | r->p[i];
    r->p += n;
    r->len -= n;
    return v;
}

static reader full_box(const box *b, unsigned *version, unsigned *flags)
{
    reader r = { b->p, b->len, 0 };
    uint64_t v = get(&r, 4);
    *version = (unsigned)(v >> 24);
    *flags = (unsigned)(v & 0xFFFFFF);
    return r;
}

/* The box at r, whose end r is put behind; 0 at the end. A box that says more than there is ends the list. */
static int next_box(reader *r, box *b)
{
    if (r->len < 8) return 0;
    uint64_t n = get(r, 4);
    b->type = (uint32_t)get(r, 4);
    size_t head = 8;
    if (n == 1) n = get(r, 8), head = 16;
    if (r->bad) return 0;
    if (n == 0) n = r->len + head;
    if (n < head || n - head > r->len) {
        r->bad = 1;
        return 0;
    }
    b->p = r->p;
    b->len = (size_t)n - head;
    r->p += b->len;
    r->len -= b->len;
    return 1;
}

static int child(const box *in, size_t skip, uint32_t type, box *out)
{
    if (in->len < skip) return 0;
    reader r = { in->p + skip, in->len - skip, 0 };
    while (next_box(&r, out))
        if (out->type == type) return 1;
    *out = (box){ 0 };
    return 0;
}

static int broken(const heif *h, const char *what)
{
    return mm_fail(h->j->err, MM_EDATA, "the %s file is damaged: %s", h->name, what);
}

/* ---- tables ---- */

static uint32_t item_type(const heif *h, uint32_t id)
{
    unsigned version, flags;
    reader r = full_box(&h->iinf, &version, &flags);
    box b;
    get(&r, version ? 4 : 2);
    while (next_box(&r, &b)) {
        if (b.type != TYPE('i', 'n', 'f', 'e')) continue;
        unsigned v, f;
        reader e = full_box(&b, &v, &f);
        if (v < 2) continue;
        uint32_t found = (uint32_t)get(&e, v == 2 ? 2 : 4);
        get(&e, 2);
        uint32_t type = (uint32_t)get(&e, 4);
        if (!e.bad && found == id) return type;
    }
    return 0;
}

/* Items that `from` refers to, or, back, that refer to it. */
static size_t refs(const heif *h, uint32_t type, uint32_t id, int back, uint32_t *out, size_t max)
{
    unsigned version, flags;
    reader r = full_box(&h->iref, &version, &flags);
    size_t wide = version ? 4 : 2, n = 0;
    box b;
    while (next_box(&r, &b)) {
        reader e = { b.p, b.len, 0 };
        uint32_t from = (uint32_t)get(&e, wide);
        if (b.type != type || (!back && from != id)) continue;
        for (uint64_t k = get(&e, 2); k && !e.bad && n < max; k--) {
            uint32_t to = (uint32_t)get(&e, wide);
            if (e.bad) break;
            if (!back) out[n++] = to;
            else if (to == id) out[n++] = from;
        }
    }
    return n;
}

/* Properties of an item in their order. */
static size_t props(const heif *h, uint32_t id, box out[MAX_PROPS])
{
    unsigned version, flags;
    reader r = full_box(&h->ipma, &version, &flags);
    size_t n = 0;
    for (uint64_t items = get(&r, 4); items && !r.bad; items--) {
        uint32_t found = (uint32_t)get(&r, version ? 4 : 2);
        for (uint64_t k = get(&r, 1); k && !r.bad; k--) {
            uint64_t v = get(&r, flags & 1 ? 2 : 1), at = flags & 1 ? v & 0x7FFF : v & 0x7F;
            if (found != id || !at || n == MAX_PROPS) continue;
            reader all = { h->ipco.p, h->ipco.len, 0 };
            box b;
            int there = 0;
            while (at && (there = next_box(&all, &b))) at--;
            if (there) out[n++] = b;
        }
    }
    return n;
}

static const box *prop(const box *list, size_t n, uint32_t type)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].type == type) return &list[i];
    return NULL;
}

/* The item's bytes, joined from its extents. */
static int item_data(const heif *h, uint32_t id, mm_buf *out)
{
    unsigned version, flags;
    reader r = full_box(&h->iloc, &version, &flags);
    unsigned sizes = (unsigned)get(&r, 2), offset_size = sizes >> 12, length_size = sizes >> 8 & 15, base_size = sizes >> 4 & 15,
             index_size = version ? sizes & 15 : 0;
    if (version > 2 || offset_size > 8 || length_size > 8 || base_size > 8 || index_size > 8) return broken(h, "its table of places");
    for (uint64_t items = get(&r, version == 2 ? 4 : 2); items && !r.bad; items--) {
        uint32_t found = (uint32_t)get(&r, version == 2 ? 4 : 2);
        unsigned how = version ? (unsigned)get(&r, 2) & 15 : 0, reference = (unsigned)get(&r, 2);
        uint64_t base = get(&r, base_size);
        for (uint64_t k = get(&r, 2); k && !r.bad; k--) {
            get(&r, index_size);
            uint64_t at = get(&r, offset_size), n = get(&r, length_size);
            if (found != id) continue;
            if (how > 1 || reference) return mm_fail(h->j->err, MM_EUNSUP, "%s data in another item or file is not supported", h->name);
            const uint8_t *p = how ? h->idat.p : h->j->p;
            uint64_t len = how ? h->idat.len : h->j->len;
            if (__builtin_add_overflow(at, base, &at) || at > len || n > len - at) return mm_fail(h->j->err, MM_ETRUNC, "the %s file ends early", h->name);
            if (!n) n = len - at; /* to the end */
            if (out->len + n > h->j->len) return broken(h, "its pieces are longer than the file");
            if (mm_buf_add(out, p + at, (size_t)n)) return mm_fail(h->j->err, MM_ENOMEM, "out of memory");
        }
    }
    return out->len ? 0 : broken(h, "an item has no data");
}

/* ---- pictures ---- */

static int size_of(const heif *h, const box *list, size_t n, int64_t *width, int64_t *height)
{
    const box *ispe = prop(list, n, TYPE('i', 's', 'p', 'e'));
    if (!ispe || ispe->len < 12) return broken(h, "an item has no size");
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
        if (!config || config->len < 23) return broken(h, "an item has no decoder configuration");
        k.codec = AV_CODEC_ID_HEVC;
        k.extra = config->p;
        k.extra_len = config->len;
    }
    if (!(r = item_data(h, id, &data))) {
        media_job one = *h->j; /* a tile that claims a small size decodes to nothing larger */
        if ((width + 128) * (height + 128) < one.opts.max_pixels) one.opts.max_pixels = (width + 128) * (height + 128);
        k.p = (const uint8_t *)data.p;
        k.len = data.len;
        r = media_decode_one(&one, &k, &f);
    }
    mm_buf_clear(&data);
    if (r) return r;
    colours(f, list, n);
    r = f->width < width || f->height < height ? broken(h, "a picture is smaller than it says") : media_pixels(h->j, raw, f, 1);
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
    int r = item_data(h, id, &data), tile_w = 0, tile_h = 0;
    reader d = { (const uint8_t *)data.p, data.len, 0 };
    get(&d, 1);
    size_t wide = get(&d, 1) & 1 ? 4 : 2;
    int rows = (int)get(&d, 1) + 1, columns = (int)get(&d, 1) + 1;
    int64_t width = (int64_t)get(&d, wide), height = (int64_t)get(&d, wide);
    mm_buf_clear(&data);
    if (r) return r;
    uint32_t *tiles = mm_realloc(NULL, (size_t)max_tiles, sizeof *tiles);
    if (!tiles) return mm_fail(h->j->err, MM_ENOMEM, "out of memory");
    if (d.bad || rows * columns > max_tiles || refs(h, TYPE('d', 'i', 'm', 'g'), id, 0, tiles, (size_t)max_tiles) != (size_t)(rows * columns))
        r = broken(h, "its grid");
    if (!r) r = media_check_size(h->j, width, height);
    for (int i = 0; i < rows * columns && !r; i++) {
        media_raw tile = { 0 };
        box list[MAX_PROPS];
        size_t n = props(h, tiles[i], list);
        uint32_t type = item_type(h, tiles[i]);
        if (type != TYPE('h', 'v', 'c', '1') && type != TYPE('a', 'v', '0', '1')) r = broken(h, "a tile of its grid");
        else r = coded(h, tiles[i], type, list, n, &tile);
        if (!r && !i) {
            *raw = (media_raw){ .width = (int)width, .height = (int)height, .channels = 3 };
            tile_w = tile.width;
            tile_h = tile.height;
            if ((int64_t)tile_w * columns < width || (int64_t)tile_h * rows < height) r = broken(h, "the tiles do not cover its grid");
            else r = media_alloc(h->j, raw);
        }
        int x = i % columns * tile_w, y = i / columns * tile_h;
        if (!r && (tile.width != tile_w || tile.height != tile_h || tile.channels != 3)) r = broken(h, "the tiles of its grid differ in size");
        if (!r && x < raw->width) paste(raw, &tile, x, y);
        free(tile.px);
    }
    free(tiles);
    return r;
}

static int picture(heif *h, uint32_t id, const box *list, size_t n, media_raw *raw)
{
    uint32_t type = item_type(h, id);
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
    size_t k = refs(h, TYPE('a', 'u', 'x', 'l'), id, 1, from, 16);
    for (size_t i = 0; i < k; i++) {
        box list[MAX_PROPS];
        size_t n = props(h, from[i], list);
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
        if (!r && (a.width != raw->width || a.height != raw->height || a.channels != 3)) r = mm_fail(h->j->err, MM_EUNSUP, "alpha of another size in a %s file is not supported", h->name);
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
    if (b->len < 32) return broken(h, "its clean aperture");
    int64_t v[8];
    for (int i = 0; i < 8; i++) v[i] = i == 4 || i == 6 ? (int32_t)be32(b->p + 4 * i) : (int64_t)be32(b->p + 4 * i);
    if (!v[1] || !v[3] || !v[5] || !v[7]) return broken(h, "its clean aperture");
    double w = (double)v[0] / (double)v[1], t = (double)v[2] / (double)v[3];
    double x = (double)v[4] / (double)v[5] + (raw->width - 1) / 2.0 - (w - 1) / 2, y = (double)v[6] / (double)v[7] + (raw->height - 1) / 2.0 - (t - 1) / 2;
    if (!(w >= 1 && t >= 1 && x > -1 && y > -1 && x + w < raw->width + 1.0 && y + t < raw->height + 1.0)) return broken(h, "its clean aperture");
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

static int read_meta(heif *h, const box *meta)
{
    child(meta, 4, TYPE('p', 'i', 't', 'm'), &h->pitm);
    child(meta, 4, TYPE('i', 'i', 'n', 'f'), &h->iinf);
    child(meta, 4, TYPE('i', 'l', 'o', 'c'), &h->iloc);
    child(meta, 4, TYPE('i', 'r', 'e', 'f'), &h->iref);
    child(meta, 4, TYPE('i', 'd', 'a', 't'), &h->idat);
    child(meta, 4, TYPE('i', 'p', 'r', 'p'), &h->iprp);
    child(&h->iprp, 0, TYPE('i', 'p', 'c', 'o'), &h->ipco);
    child(&h->iprp, 0, TYPE('i', 'p', 'm', 'a'), &h->ipma);
    return h->pitm.p && h->iinf.p && h->iloc.p && h->ipco.p && h->ipma.p ? 0 : broken(h, "no primary picture, or parts of its description are missing");
}

int media_heif(const media_job *j, media_raw *raw)
{
    heif h = { .j = j, .name = strcmp(j->info->format, "avif") ? "HEIC" : "AVIF", .left = 4 * j->opts.max_pixels };
    box meta, list[MAX_PROPS];
    reader r = { j->p, j->len, 0 };
    int e = 0, found = 0;
    if (j->opts.max_pixels > INT64_MAX / 4) h.left = INT64_MAX;
    while (!found && next_box(&r, &meta)) found = meta.type == TYPE('m', 'e', 't', 'a');
    if (!found) return r.bad || r.len ? mm_fail(j->err, MM_ETRUNC, "the %s file ends early", h.name) : broken(&h, "it has no description of a picture");
    if ((e = read_meta(&h, &meta))) return e;
    unsigned version, flags;
    reader p = full_box(&h.pitm, &version, &flags);
    uint32_t id = (uint32_t)get(&p, version ? 4 : 2);
    size_t n = props(&h, id, list);
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

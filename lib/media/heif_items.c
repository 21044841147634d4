/* The tables of a HEIF file: boxes of an ISO base media file (ISO/IEC 14496-12, 23008-12) that say which items there are, what they
 * are like and where their bytes lie. Nothing is trusted: a read past a box's end gives zeros and is remembered. */
#include <string.h>
#include "media/heif_int.h"

uint64_t heif_get(reader *r, size_t n)
{
    uint64_t v = 0;
    if (!n) return 0;
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

reader heif_full(const box *b, unsigned *version, unsigned *flags)
{
    reader r = { b->p, b->len, 0 };
    uint64_t v = heif_get(&r, 4);
    *version = (unsigned)(v >> 24);
    *flags = (unsigned)(v & 0xFFFFFF);
    return r;
}

int heif_next(reader *r, box *b)
{
    if (r->len < 8) return 0;
    uint64_t n = heif_get(r, 4);
    b->type = (uint32_t)heif_get(r, 4);
    size_t head = 8;
    if (n == 1) n = heif_get(r, 8), head = 16;
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
    if (!in->p || in->len < skip) return *out = (box){ 0 }, 0;
    reader r = { in->p + skip, in->len - skip, 0 };
    while (heif_next(&r, out))
        if (out->type == type) return 1;
    *out = (box){ 0 };
    return 0;
}

int heif_broken(const heif *h, const char *what)
{
    return mm_fail(h->j->err, MM_EDATA, "the %s file is damaged: %s", h->name, what);
}

/* ---- tables ---- */

uint32_t heif_type(const heif *h, uint32_t id)
{
    unsigned version, flags;
    reader r = heif_full(&h->iinf, &version, &flags);
    box b;
    heif_get(&r, version ? 4 : 2);
    while (heif_next(&r, &b)) {
        if (b.type != TYPE('i', 'n', 'f', 'e')) continue;
        unsigned v, f;
        reader e = heif_full(&b, &v, &f);
        if (v < 2) continue;
        uint32_t found = (uint32_t)heif_get(&e, v == 2 ? 2 : 4);
        heif_get(&e, 2);
        uint32_t type = (uint32_t)heif_get(&e, 4);
        if (!e.bad && found == id) return type;
    }
    return 0;
}

size_t heif_refs(const heif *h, uint32_t type, uint32_t id, int back, uint32_t *out, size_t max)
{
    unsigned version, flags;
    reader r = heif_full(&h->iref, &version, &flags);
    size_t wide = version ? 4 : 2, n = 0;
    box b;
    while (heif_next(&r, &b)) {
        reader e = { b.p, b.len, 0 };
        uint32_t from = (uint32_t)heif_get(&e, wide);
        if (b.type != type || (!back && from != id)) continue;
        for (uint64_t k = heif_get(&e, 2); k && !e.bad && n < max; k--) {
            uint32_t to = (uint32_t)heif_get(&e, wide);
            if (e.bad) break;
            if (!back) out[n++] = to;
            else if (to == id) out[n++] = from;
        }
    }
    return n;
}

size_t heif_props(const heif *h, uint32_t id, box out[MAX_PROPS])
{
    unsigned version, flags;
    reader r = heif_full(&h->ipma, &version, &flags);
    size_t n = 0;
    for (uint64_t items = heif_get(&r, 4); items && !r.bad; items--) {
        uint32_t found = (uint32_t)heif_get(&r, version ? 4 : 2);
        for (uint64_t k = heif_get(&r, 1); k && !r.bad; k--) {
            uint64_t v = heif_get(&r, flags & 1 ? 2 : 1), at = flags & 1 ? v & 0x7FFF : v & 0x7F;
            if (found != id || !at || n == MAX_PROPS) continue;
            reader all = { h->ipco.p, h->ipco.len, 0 };
            box b;
            int there = 0;
            while (at && (there = heif_next(&all, &b))) at--;
            if (there) out[n++] = b;
        }
    }
    return n;
}

int heif_data(const heif *h, uint32_t id, mm_buf *out)
{
    unsigned version, flags;
    reader r = heif_full(&h->iloc, &version, &flags);
    unsigned sizes = (unsigned)heif_get(&r, 2), offset_size = sizes >> 12, length_size = sizes >> 8 & 15, base_size = sizes >> 4 & 15,
             index_size = version ? sizes & 15 : 0;
    if (version > 2 || offset_size > 8 || length_size > 8 || base_size > 8 || index_size > 8) return heif_broken(h, "its table of places");
    for (uint64_t items = heif_get(&r, version == 2 ? 4 : 2); items && !r.bad; items--) {
        uint32_t found = (uint32_t)heif_get(&r, version == 2 ? 4 : 2);
        unsigned how = version ? (unsigned)heif_get(&r, 2) & 15 : 0, reference = (unsigned)heif_get(&r, 2);
        uint64_t base = heif_get(&r, base_size);
        for (uint64_t k = heif_get(&r, 2); k && !r.bad; k--) {
            heif_get(&r, index_size);
            uint64_t at = heif_get(&r, offset_size), n = heif_get(&r, length_size);
            if (found != id) continue;
            if (how == 1 && !h->idat.p) return heif_broken(h, "its data box is missing");
            if (how > 1 || reference) return mm_fail(h->j->err, MM_EUNSUP, "%s data in another item or file is not supported", h->name);
            const uint8_t *p = how ? h->idat.p : h->j->p;
            uint64_t len = how ? h->idat.len : h->j->len;
            if (__builtin_add_overflow(at, base, &at) || at > len || n > len - at) return mm_fail(h->j->err, MM_ETRUNC, "the %s file ends early", h->name);
            if (!n) n = len - at; /* to the end */
            if (out->len + n > h->j->len) return heif_broken(h, "its pieces are longer than the file");
            if (mm_buf_add(out, p + at, (size_t)n)) return mm_fail(h->j->err, MM_ENOMEM, "out of memory");
        }
    }
    return out->len ? 0 : heif_broken(h, "an item has no data");
}

int heif_tables(heif *h, const box *meta)
{
    child(meta, 4, TYPE('p', 'i', 't', 'm'), &h->pitm);
    child(meta, 4, TYPE('i', 'i', 'n', 'f'), &h->iinf);
    child(meta, 4, TYPE('i', 'l', 'o', 'c'), &h->iloc);
    child(meta, 4, TYPE('i', 'r', 'e', 'f'), &h->iref);
    child(meta, 4, TYPE('i', 'd', 'a', 't'), &h->idat);
    child(meta, 4, TYPE('i', 'p', 'r', 'p'), &h->iprp);
    child(&h->iprp, 0, TYPE('i', 'p', 'c', 'o'), &h->ipco);
    child(&h->iprp, 0, TYPE('i', 'p', 'm', 'a'), &h->ipma);
    return h->pitm.p && h->iinf.p && h->iloc.p && h->ipco.p && h->ipma.p ? 0 : heif_broken(h, "no primary picture, or parts of its description are missing");
}

/* The first IFD of TIFF data, as EXIF blocks and TIFF files have it. Everything is checked against the length; whatever does not hold
 * makes the value absent, for a picture with broken EXIF is still a picture. */
#include <string.h>
#include "media/media_int.h"

typedef struct tiff {
    const uint8_t *p;
    size_t len;
    int big;
} tiff;

static uint32_t u16(const tiff *t, size_t at) { return t->big ? be16(t->p + at) : le16(t->p + at); }
static uint32_t u32(const tiff *t, size_t at) { return t->big ? be32(t->p + at) : le32(t->p + at); }

uint32_t media_tiff_tag(const uint8_t *p, size_t len, unsigned tag)
{
    tiff t = { p, len, 0 };
    if (len < 14 || (memcmp(p, "II", 2) && memcmp(p, "MM", 2))) return 0;
    t.big = p[0] == 'M';
    size_t ifd = u32(&t, 4);
    if (u16(&t, 2) != 42 || ifd < 8 || ifd > len - 2) return 0;
    size_t n = u16(&t, ifd), at = ifd + 2;
    for (; n && at + 12 <= len; n--, at += 12) {
        if (u16(&t, at) != tag) continue;
        if (u32(&t, at + 4) < 1) return 0;
        switch (u16(&t, at + 2)) {
        case 1: return u32(&t, at + 4) <= 4 ? p[at + 8] : 0;
        case 3: { /* one for each sample, where there are more than fit */
            size_t far = u32(&t, at + 8);
            return u32(&t, at + 4) <= 2 ? u16(&t, at + 8) : far <= len - 2 ? u16(&t, far) : 0;
        }
        case 4: return u32(&t, at + 4) == 1 ? u32(&t, at + 8) : 0;
        }
        return 0;
    }
    return 0;
}

void media_tiff_plain(uint8_t *p, size_t len)
{
    static const uint16_t pixels[] = { 254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 339, 347, 530, 532 };
    tiff t = { p, len, 0 };
    if (len < 14 || (memcmp(p, "II", 2) && memcmp(p, "MM", 2))) return;
    t.big = p[0] == 'M';
    size_t ifd = u32(&t, 4);
    if (ifd < 8 || ifd > len - 2) return;
    size_t n = u16(&t, ifd), kept = 0;
    uint8_t *list = p + ifd + 2, e[12];
    if (n > (len - ifd - 2) / 12) return;
    for (size_t k = 0; k < n; k++) {
        int known = 0;
        memcpy(e, list + 12 * k, 12);
        unsigned tag = u16(&t, ifd + 2 + 12 * k);
        for (size_t i = 0; i < sizeof pixels / sizeof *pixels; i++) known |= tag == pixels[i];
        size_t at = kept;
        while (at && u16(&t, ifd + 2 + 12 * (at - 1)) > tag) at--;
        if (!known || (at && u16(&t, ifd + 2 + 12 * (at - 1)) == tag)) continue;
        memmove(list + 12 * (at + 1), list + 12 * at, 12 * (kept - at));
        memcpy(list + 12 * at, e, 12);
        kept++;
    }
    p[ifd + !t.big] = (uint8_t)(kept >> 8);
    p[ifd + t.big] = (uint8_t)kept;
    memset(list + 12 * kept, 0, len - ifd - 2 - 12 * kept < 4 ? len - ifd - 2 - 12 * kept : 4); /* no further IFD */
}

int media_exif_orientation(const uint8_t *p, size_t len)
{
    if (len > 6 && !memcmp(p, "Exif\0", 6)) p += 6, len -= 6;
    uint32_t v = media_tiff_tag(p, len, 0x112);
    return v >= 1 && v <= 8 ? (int)v : 1;
}

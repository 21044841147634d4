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
        case 3: return u32(&t, at + 4) <= 2 ? u16(&t, at + 8) : 0;
        case 4: return u32(&t, at + 4) == 1 ? u32(&t, at + 8) : 0;
        }
        return 0;
    }
    return 0;
}

int media_exif_orientation(const uint8_t *p, size_t len)
{
    if (len > 6 && !memcmp(p, "Exif\0", 6)) p += 6, len -= 6;
    uint32_t v = media_tiff_tag(p, len, 0x112);
    return v >= 1 && v <= 8 ? (int)v : 1;
}

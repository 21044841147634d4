/* Block types of GGUF as float32: 4-bit and 5-bit blocks of 32, and the "K" types, super-blocks of 256 whose smaller blocks have scales of
 * their own in few bits. Layouts: block structures of the GGUF specification. Every number of the result is rounded as written here: products
 * of scales in float32, left to right. */
#include <string.h>
#include "base/mm_dtype.h"

static float half(const uint8_t *p) { return mm_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static const int8_t nonlinear[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

/* The 32 numbers of a block of 4 or 5 bits: nibbles of element j and j + 16 side by side, fifth bits apart. */
static void quants32(int type, const uint8_t *p, int8_t q[32])
{
    int at = type == MM_Q4_1 || type == MM_Q5_1 ? 4 : 2, fifth = type == MM_Q5_0 || type == MM_Q5_1;
    uint32_t high = 0;
    if (fifth) high = (uint32_t)p[at] | (uint32_t)p[at + 1] << 8 | (uint32_t)p[at + 2] << 16 | (uint32_t)p[at + 3] << 24;
    const uint8_t *nibbles = p + at + (fifth ? 4 : 0);
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((nibbles[j] & 15) | (high >> j & 1) << 4);
        q[j + 16] = (int8_t)(nibbles[j] >> 4 | (high >> (j + 16) & 1) << 4);
    }
    for (int j = 0; j < 32; j++) {
        if (type == MM_Q4_0) q[j] = (int8_t)(q[j] - 8);
        if (type == MM_Q5_0) q[j] = (int8_t)(q[j] - 16);
        if (type == MM_IQ4_NL) q[j] = nonlinear[q[j]];
    }
}

static void small(int type, const uint8_t *p, float *out)
{
    int8_t q[32];
    float d = half(p), m = type == MM_Q4_1 || type == MM_Q5_1 ? half(p + 2) : 0;
    quants32(type, p, q);
    for (int j = 0; j < 32; j++) out[j] = (float)q[j] * d + m;
}

/* Six-bit scale and minimum of block j of 8 in 12 bytes: the first four in the low bits of 8 bytes, whose high bits go with the nibbles of the
 * last four. */
static void scale_min(const uint8_t *s, int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
        *min = (uint8_t)(s[j + 4] >> 4 | s[j] >> 6 << 4);
    }
}

static void q2_k(const uint8_t *p, float *out)
{
    const uint8_t *scales = p, *bits = p + 16;
    float d = half(p + 80), min = half(p + 82);
    for (int i = 0; i < 256; i++) {
        int part = i / 128, in = i % 128;
        uint8_t s = scales[i / 16];
        out[i] = d * (float)(s & 15) * (float)(bits[part * 32 + in % 32] >> in / 32 * 2 & 3) - min * (float)(s >> 4);
    }
}

static void q3_k(const uint8_t *p, float *out)
{
    const uint8_t *high = p, *bits = p + 32, *packed = p + 96;
    float d = half(p + 108);
    int scale[16];
    for (int i = 0; i < 16; i++) /* low nibbles in 8 bytes, two bits more in 4 */
        scale[i] = (packed[i % 8] >> i / 8 * 4 & 15) | (packed[8 + i % 4] >> i / 4 * 2 & 3) << 4;
    for (int i = 0; i < 256; i++) {
        int part = i / 128, in = i % 128, shift = in / 32;
        int q = (bits[part * 32 + in % 32] >> 2 * shift & 3) - (high[in % 32] >> (part * 4 + shift) & 1 ? 0 : 4);
        out[i] = d * (float)(scale[i / 16] - 32) * (float)q;
    }
}

/* q4_K, and with fifth bits q5_K */
static void q45_k(const uint8_t *p, int fifth, float *out)
{
    const uint8_t *high = p + 16, *bits = p + (fifth ? 48 : 16);
    float d = half(p), min = half(p + 2);
    for (int b = 0; b < 8; b++) {
        uint8_t s, m;
        scale_min(p + 4, b, &s, &m);
        float ds = d * (float)s, dm = min * (float)m;
        for (int j = 0; j < 32; j++) {
            int q = bits[b / 2 * 32 + j] >> b % 2 * 4 & 15;
            if (fifth) q |= (high[j] >> b & 1) << 4;
            out[b * 32 + j] = ds * (float)q - dm;
        }
    }
}

static void q6_k(const uint8_t *p, float *out)
{
    const uint8_t *low = p, *high = p + 128;
    const int8_t *scales = (const int8_t *)p + 192;
    float d = half(p + 208);
    for (int i = 0; i < 256; i++) {
        int part = i / 128, in = i % 128, row = in / 32, j = in % 32;
        int q = (low[part * 64 + row % 2 * 32 + j] >> row / 2 * 4 & 15) | (high[part * 32 + j] >> row * 2 & 3) << 4;
        out[i] = d * (float)scales[i / 16] * (float)(q - 32);
    }
}

int mm_block_known(int type)
{
    switch (type) {
    case MM_Q4_0:
    case MM_Q4_1:
    case MM_Q5_0:
    case MM_Q5_1:
    case MM_Q2_K:
    case MM_Q3_K:
    case MM_Q4_K:
    case MM_Q5_K:
    case MM_Q6_K:
    case MM_IQ4_NL: return 1;
    default: return 0;
    }
}

void mm_block_to_f32(int type, float *out, const void *row, size_t n)
{
    const mm_dtype_info *t = mm_dtype_get(type);
    const uint8_t *p = row;
    for (size_t i = 0; i + t->block <= n; i += t->block, p += t->bytes) switch (type) {
        case MM_Q2_K: q2_k(p, out + i); break;
        case MM_Q3_K: q3_k(p, out + i); break;
        case MM_Q4_K:
        case MM_Q5_K: q45_k(p, type == MM_Q5_K, out + i); break;
        case MM_Q6_K: q6_k(p, out + i); break;
        default: small(type, p, out + i);
        }
}

int mm_block_to_q8_0(int type, void *out, const void *row, size_t n)
{
    const mm_dtype_info *t = mm_dtype_get(type);
    const uint8_t *p = row;
    uint8_t *to = out;
    if (type != MM_Q4_0 && type != MM_Q5_0 && type != MM_IQ4_NL) return 0;
    for (size_t i = 0; i + 32 <= n; i += 32, p += t->bytes, to += 34) {
        int8_t q[32];
        quants32(type, p, q);
        memcpy(to, p, 2);
        memcpy(to + 2, q, 32);
    }
    return 1;
}

/* num_ref.h - one element of a row of each weight format as float, at any alignment. Formats: IEEE 754 binary16, bfloat16,
 * GGUF q8_0 (34-byte blocks: binary16 scale, 32 int8). All conversions are exact. */
#ifndef NUM_REF_H
#define NUM_REF_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The number that the bits u are as binary32, by arithmetic: right also where float is compiled as double. */
static inline float num_bits(uint32_t u)
{
    int exp = (int)(u >> 23 & 255);
    double f = u & 0x7fffffu;
    f = exp == 255 ? (f != 0 ? NAN : INFINITY) : ldexp(exp ? f + 0x1p23 : f, (exp ? exp : 1) - 150);
    return (float)(u >> 31 ? -f : f);
}

static inline float num_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3ffu;
    if (exp == 31)
        return num_bits(sign | 0x7f800000u | man << 13);
    if (exp == 0) {
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    return num_bits(sign | (exp + 112) << 23 | man << 13);
}

static inline uint16_t num_u16(const void *p, size_t i)
{
    uint16_t h;
    memcpy(&h, (const char *)p + 2 * i, sizeof h);
    return h;
}

static inline float num_load_f32(const void *p, size_t i)
{
    float f;
    memcpy(&f, (const char *)p + sizeof f * i, sizeof f);
    return f;
}

static inline float num_load_f16(const void *p, size_t i)
{
    return num_f16(num_u16(p, i));
}

static inline float num_load_bf16(const void *p, size_t i)
{
    return num_bits((uint32_t)num_u16(p, i) << 16);
}

static inline float num_load_q8_0(const void *p, size_t i)
{
    const char *block = (const char *)p + i / 32 * 34;
    return num_load_f16(block, 0) * (float)(int8_t)block[2 + i % 32];
}

/* bytes before the nibbles, of which the low ones come first: `first` */
static inline int num_nibble(const char *block, size_t i, size_t first)
{
    unsigned char b = (unsigned char)block[first + i % 16];
    return i % 32 < 16 ? b & 15 : b >> 4;
}

static inline float num_load_q4_0(const void *p, size_t i)
{
    const char *block = (const char *)p + i / 32 * 18;
    return num_load_f16(block, 0) * (float)(num_nibble(block, i, 2) - 8);
}

static inline float num_load_q4_1(const void *p, size_t i)
{
    const char *block = (const char *)p + i / 32 * 20;
    return num_load_f16(block, 0) * (float)num_nibble(block, i, 4) + num_load_f16(block, 1);
}

#endif

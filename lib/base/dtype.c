#include <string.h>
#include "base/mm_dtype.h"
#include "base/mm_mem.h"

/* Block sizes: GGUF specification and the block structures it refers to. */
static const mm_dtype_info types[] = {
    { MM_F32, "f32", "F32", 1, 4 },       { MM_F16, "f16", "F16", 1, 2 },
    { MM_Q4_0, "q4_0", NULL, 32, 18 },    { MM_Q4_1, "q4_1", NULL, 32, 20 },
    { MM_Q5_0, "q5_0", NULL, 32, 22 },    { MM_Q5_1, "q5_1", NULL, 32, 24 },
    { MM_Q8_0, "q8_0", NULL, 32, 34 },    { MM_Q8_1, "q8_1", NULL, 32, 36 },
    { MM_Q2_K, "q2_k", NULL, 256, 84 },   { MM_Q3_K, "q3_k", NULL, 256, 110 },
    { MM_Q4_K, "q4_k", NULL, 256, 144 },  { MM_Q5_K, "q5_k", NULL, 256, 176 },
    { MM_Q6_K, "q6_k", NULL, 256, 210 },  { MM_Q8_K, "q8_k", NULL, 256, 292 },
    { MM_IQ4_NL, "iq4_nl", NULL, 32, 18 },
    { MM_I8, "i8", "I8", 1, 1 },          { MM_I16, "i16", "I16", 1, 2 },
    { MM_I32, "i32", "I32", 1, 4 },       { MM_I64, "i64", "I64", 1, 8 },
    { MM_F64, "f64", "F64", 1, 8 },       { MM_BF16, "bf16", "BF16", 1, 2 },
    { MM_U8, "u8", "U8", 1, 1 },          { MM_BOOL, "bool", "BOOL", 1, 1 },
    { MM_U16, "u16", "U16", 1, 2 },       { MM_U32, "u32", "U32", 1, 4 },
    { MM_U64, "u64", "U64", 1, 8 },       { MM_F8_E4M3, "f8_e4m3", "F8_E4M3", 1, 1 },
    { MM_F8_E5M2, "f8_e5m2", "F8_E5M2", 1, 1 },
};
#define NTYPES (sizeof types / sizeof *types)

const mm_dtype_info *mm_dtype_get(int type)
{
    for (size_t i = 0; i < NTYPES; i++)
        if ((int)types[i].type == type) return &types[i];
    return NULL;
}

const mm_dtype_info *mm_dtype_find(const char *name, size_t len)
{
    for (size_t i = 0; i < NTYPES; i++) {
        const mm_dtype_info *t = &types[i];
        if (strlen(t->name) == len && !memcmp(t->name, name, len)) return t;
        if (t->st_name && strlen(t->st_name) == len && !memcmp(t->st_name, name, len)) return t;
    }
    return NULL;
}

int mm_dtype_bytes(int type, size_t n, size_t *bytes)
{
    const mm_dtype_info *t = mm_dtype_get(type);
    if (!t) return MM_EUNSUP;
    if (n % t->block) return MM_ESHAPE;
    return mm_mul(n / t->block, t->bytes, bytes) ? MM_ENOMEM : 0;
}

static uint32_t bits(float f)
{
    union { float f; uint32_t u; } v = { f };
    return v.u;
}

static float unbits(uint32_t u)
{
    union { uint32_t u; float f; } v = { u };
    return v.f;
}

float mm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3FF;
    if (exp == 31) return unbits(sign | 0x7F800000 | man << 13 | (man ? 0x400000 : 0));
    if (exp == 0) { /* subnormal: man * 2^-24, exact in float32 */
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    return unbits(sign | (exp + 112) << 23 | man << 13);
}

uint16_t mm_f32_to_f16(float f)
{
    uint32_t u = bits(f), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x3FF));
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* >= 65520 rounds to infinity */
    if (a < 0x38800000) { /* below 2^-14: the sum below shifts the value so that the FPU's own rounding does the work */
        union { float f; uint32_t u; } v = { unbits(a) + 0.5f };
        return (uint16_t)(sign | (v.u - 0x3F000000));
    }
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | ((a - 0x38000000) >> 13));
}

uint16_t mm_f32_to_bf16(float f)
{
    uint32_t u = bits(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

/* Which kernels this process uses. Only this file knows what a CPU can do; only the fill functions know kernels.
 * MMK_REF_ONLY: none but kernels/ref, for builds of it alone (float as double, to check gradients). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/kern_int.h"

#if defined(__x86_64__) && !defined(MMK_REF_ONLY)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && !defined(MMK_REF_ONLY)
#include <sys/auxv.h>
#endif

static const struct {
    const char *name;
    unsigned flag;
} levels[] = {
    { "ref", 0 },
#if defined(__x86_64__) && !defined(MMK_REF_ONLY)
    { "avx2", MM_CPU_AVX2 },
    { "avx512", MM_CPU_AVX512 },
    { "avx512vnni", MM_CPU_AVX512VNNI },
    { "avx512bf16", MM_CPU_AVX512BF16 },
    { "amx", MM_CPU_AMX },
#elif defined(__aarch64__) && !defined(MMK_REF_ONLY)
    { "neon", MM_CPU_NEON },
    { "dotprod", MM_CPU_DOTPROD },
    { "i8mm", MM_CPU_I8MM },
#endif
};
#define NLEVELS (sizeof levels / sizeof *levels)

#if defined(__x86_64__) && !defined(MMK_REF_ONLY)

/* The operating system must save the registers, or they are lost at the next task switch: XCR0 tells (Intel SDM vol. 1,
 * 13.3): bits 1-2 AVX, 5-7 AVX-512, 17-18 AMX tiles. */
static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Linux hands out the 8 KiB tile state only on request (arch_prctl(2), ARCH_REQ_XCOMP_PERM, feature 18). */
static int amx_permitted(void)
{
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

unsigned mm_cpu_flags(void)
{
    unsigned a, b, c, d, a1, b1, c1, d1, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    uint64_t x = xcr0();
    if ((x & 6) != 6 || !(c & bit_AVX) || !(c & bit_FMA) || !(c & bit_F16C) || !(c & bit_POPCNT)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;
    flags |= MM_CPU_AVX2;
    unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((x & 0xE6) != 0xE6 || (b & avx512) != avx512) return flags;
    flags |= MM_CPU_AVX512;
    if (!(c & bit_AVX512VNNI)) return flags;
    flags |= MM_CPU_AVX512VNNI;
    if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) || !(a1 & (1u << 5))) return flags;
    flags |= MM_CPU_AVX512BF16;
    /* leaf 7: EDX bit 22 AMX-BF16, 24 AMX-TILE, 25 AMX-INT8 */
    if ((d >> 22 & 1) && (d >> 24 & 3) == 3 && (x & 0x60000) == 0x60000 && amx_permitted()) flags |= MM_CPU_AMX;
    return flags;
}

#elif defined(__aarch64__) && !defined(MMK_REF_ONLY)

unsigned mm_cpu_flags(void)
{
    unsigned flags = MM_CPU_NEON;
    if (!(getauxval(AT_HWCAP) >> 20 & 1)) return flags; /* HWCAP_ASIMDDP */
    flags |= MM_CPU_DOTPROD;
    if (getauxval(AT_HWCAP2) >> 13 & 1) flags |= MM_CPU_I8MM; /* HWCAP2_I8MM */
    return flags;
}

#else

unsigned mm_cpu_flags(void) { return 0; }

#endif

unsigned mm_cpu_level_flags(const char *name)
{
    unsigned flags = 0;
    for (size_t i = 0; i < NLEVELS; i++) {
        flags |= levels[i].flag;
        if (!strcmp(levels[i].name, name)) return flags;
    }
    return 0;
}

int mm_cpu_level_known(const char *name)
{
    for (size_t i = 0; i < NLEVELS; i++)
        if (!strcmp(levels[i].name, name)) return 1;
    return 0;
}

const char *mm_cpu_level_list(void)
{
#if defined(__x86_64__) && !defined(MMK_REF_ONLY)
    return "ref, avx2, avx512, avx512vnni, avx512bf16, amx";
#elif defined(__aarch64__) && !defined(MMK_REF_ONLY)
    return "ref, neon, dotprod, i8mm";
#else
    return "ref";
#endif
}

void mm_kern_init(mm_kern *k, unsigned flags)
{
    flags &= mm_cpu_flags();
    memset(k, 0, sizeof *k);
    mmk_fill_ref(k); /* every pointer is valid from here on */
    k->flags = flags;
#if defined(__x86_64__) && !defined(MMK_REF_ONLY)
    if (!(flags & MM_CPU_AVX2)) return;
    mmk_fill_avx2(k);
    if (!(flags & MM_CPU_AVX512)) return;
    mmk_fill_avx512(k);
    if (!(flags & MM_CPU_AVX512VNNI)) return;
    mmk_fill_vnni(k);
    if (!(flags & MM_CPU_AMX)) return;
    mmk_fill_amx(k);
#elif defined(__aarch64__) && !defined(MMK_REF_ONLY)
    if (!(flags & MM_CPU_NEON)) return;
    mmk_fill_neon(k);
    if (!(flags & MM_CPU_DOTPROD)) return;
    mmk_fill_dotprod(k);
#endif
}

static mm_kern table;

static void init(void)
{
    const char *max = getenv("MM_CPU");
    mm_kern_init(&table, max && mm_cpu_level_known(max) ? mm_cpu_level_flags(max) : ~0u);
}

const mm_kern *mm_kern_get(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
    return &table;
}

const char *mm_kern_level_name(const mm_kern *k)
{
    const char *name = "ref";
    for (size_t i = 0; i < NLEVELS; i++)
        if (k->flags & levels[i].flag) name = levels[i].name;
    return name;
}

int mmk_fmt(int dtype)
{
    switch (dtype) {
    case 0: return MMK_FMT_F32;
    case 1: return MMK_FMT_F16;
    case 30: return MMK_FMT_BF16;
    case 8: return MMK_FMT_Q8_0;
    default: return -1;
    }
}

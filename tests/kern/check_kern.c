/* check_kern [--bench] [LEVEL...] - every kernel level that this CPU has against kernels/ref: all small sizes and odd big ones,
 * unaligned pointers, inputs of several kinds, guard bytes around outputs; a crash inside a kernel is that kernel's
 * failure. Prints TAP, and the seed.
 * --bench prints timings as JSON lines instead. LEVEL: those only. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

const char *level = "ref";
int bench;
static uint64_t state;
static int tests, bad, faults;
static char title[200], why[400];
static sigjmp_buf back;

uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

float uniform(void) { return (float)((double)(rnd() >> 11) * 0x1p-52 - 1); }

void fill(float *x, size_t n, int kind)
{
    for (size_t i = 0; i < n; i++) {
        float u = uniform();
        switch (kind) {
        case 0: x[i] = u; break;
        case 1: x[i] = copysignf(expf(2 * uniform()), u); break;
        case 2: x[i] = (i & 1 ? -1.0f : 1.0f) * (1000 + u); break;
        default: x[i] = i % 3 == 1 ? u * 0x1p-130f : u * 1e-3f; break;
        }
    }
}

#define GUARD 128
#define FILLER 0xA5

typedef struct guard { /* lies in front of the guard bytes */
    char *base;
    size_t total, n, slack;
} guard;

/* The end of the buffer is less than 64 bytes from a page that cannot be read: reads beyond it are found too. */
void *guarded(size_t n, size_t off)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (n + off + 63) / 64 * 64, front = sizeof(guard) + GUARD;
    guard g = { NULL, (front + body + page - 1) / page * page + page, n, body - off - n };
    g.base = mmap(NULL, g.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.base == MAP_FAILED || mprotect(g.base + g.total - page, page, PROT_NONE)) exit(4);
    char *user = g.base + g.total - page - body + off;
    memset(user - GUARD, FILLER, GUARD + n + g.slack);
    memcpy(user - front, &g, sizeof g);
    return user;
}

static guard guard_of(const void *user)
{
    guard g;
    memcpy(&g, (const char *)user - GUARD - sizeof g, sizeof g);
    return g;
}

int guard_ok(const void *user)
{
    guard g = guard_of(user);
    const unsigned char *u = user;
    for (size_t i = 1; i <= GUARD; i++)
        if (u[-(ptrdiff_t)i] != FILLER) return 0;
    for (size_t i = 0; i < g.slack; i++)
        if (u[g.n + i] != FILLER) return 0;
    return 1;
}

void guard_free(void *user)
{
    guard g = guard_of(user);
    munmap(g.base, g.total);
}

void begin(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(title, sizeof title, fmt, ap);
    va_end(ap);
    why[0] = 0;
    faults = 0;
}

void wrong(const char *fmt, ...)
{
    if (faults++) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
}

void end(void)
{
    if (bench) return;
    printf("%sok %d - %s: %s\n", faults ? "not " : "", ++tests, level, title);
    if (faults) printf("# %s (%d faults)\n", why, faults);
    bad += faults > 0;
    fflush(stdout);
}

/* All that is timed runs on this thread: its own time is right on a busy machine too. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double timed(void (*f)(void *), void *arg)
{
    double t[9];
    int rep = 1;
    for (double t0 = now(); now() - t0 < 2e6;) { /* how many calls take 2 ms */
        double a = now();
        for (int i = 0; i < rep; i++) f(arg);
        if (now() - a > 1e6) break;
        rep *= 2;
    }
    for (int k = 0; k < 9; k++) {
        double a = now();
        for (int i = 0; i < rep; i++) f(arg);
        t[k] = (now() - a) / rep;
    }
    qsort(t, 9, sizeof *t, by_value);
    return t[4];
}

void report(const char *op, const char *dtype, const char *shape, double ns, double bytes, double flop)
{
    printf("{\"op\":\"%s\",\"dtype\":\"%s\",\"shape\":\"%s\",\"level\":\"%s\",\"ns\":%.0f,\"gbps\":%.2f,\"gflops\":%."
           "2f}\n",
           op, dtype, shape, level, ns, bytes / ns, flop / ns);
    fflush(stdout);
}

static void crashed(int sig) { siglongjmp(back, sig); }

static void guard_case(void (*f)(const mm_kern *, const mm_kern *), const mm_kern *k, const mm_kern *ref)
{
    int sig = sigsetjmp(back, 1);
    if (!sig) {
        f(k, ref);
        return;
    }
    wrong("signal %d inside a kernel", sig);
    end();
}

static int wanted(char **names, const char *name) /* none named: all */
{
    if (!*names) return 1;
    while (*names && strcmp(*names, name)) names++;
    return *names != NULL;
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "ref", "avx2", "avx512",  "avx512vnni", "avx512bf16",
                                         "amx", "neon", "dotprod", "i8mm" };
    bench = argc > 1 && !strcmp(argv[1], "--bench");
    const char *seed = getenv("MM_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 88172645463325252u;
    if (!bench) printf("# seed %llu (MM_SEED)\n", (unsigned long long)state);
    signal(SIGILL, crashed);
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    signal(SIGFPE, crashed);
    mm_kern ref, k;
    mm_kern_init(&ref, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unsigned want = mm_cpu_level_flags(names[i]);
        if (!mm_cpu_level_known(names[i])) continue; /* of another architecture */
        if (!wanted(argv + (argc > 0) + bench, names[i])) continue;
        level = names[i];
        if ((mm_cpu_flags() & want) != want) {
            if (!bench) printf("ok %d - %s # SKIP this CPU does not have it\n", ++tests, level);
            continue;
        }
        mm_kern_init(&k, want);
        guard_case(case_vec, &k, &ref);
        guard_case(case_gemm, &k, &ref);
        guard_case(case_attn, &k, &ref);
        guard_case(case_scan, &k, &ref);
        guard_case(case_grad, &k, &ref);
    }
    if (!bench) printf("1..%d\n", tests);
    return bad > 0;
}

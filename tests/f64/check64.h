/* check64.h - what the gradient checks share: numbers that look random, and verdicts as TAP. */
#ifndef CHECK64_H
#define CHECK64_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

static int tests, bad;
static uint64_t state = 88172645463325252u;

static double uniform(void) /* -1 .. 1 */
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) * 0x1p-52 - 1;
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)uniform();
}

static void verdict(const char *name, double worst, double bound)
{
    int ok = worst <= bound; /* not for NaN */
    printf("%sok %d - %s: worst difference %.1e of %.1e\n", ok ? "" : "not ", ++tests, name, worst, bound);
    bad += !ok;
}

#endif

/* tap.h - the whole harness of a unit test: ok(), is_int(), is_str(), done(). A test is a program that prints TAP. */
#ifndef TAP_H
#define TAP_H
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int tap_n, tap_bad;

__attribute__((format(printf, 2, 3), unused)) static int ok(int cond, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%sok %d - ", cond ? "" : "not ", ++tap_n);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
    tap_bad += !cond;
    return cond;
}

__attribute__((unused)) static int is_int(long long got, long long want, const char *what)
{
    if (!ok(got == want, "%s", what)) printf("# got %lld, want %lld\n", got, want);
    return got == want;
}

__attribute__((unused)) static int is_str(const char *got, const char *want, const char *what)
{
    int same = got && want && !strcmp(got, want);
    if (!ok(same, "%s", what)) printf("# got  '%s'\n# want '%s'\n", got ? got : "(null)", want ? want : "(null)");
    return same;
}

__attribute__((unused)) static int done(void)
{
    printf("1..%d\n", tap_n);
    return tap_bad != 0;
}
#endif

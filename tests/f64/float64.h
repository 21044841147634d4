/* float64.h - included before everything else (cc -include) where a translation unit is to be compiled with float as double:
 * gradients are then held against finite differences that float32 could not resolve. The system's headers come first, so
 * that they keep their own types. Only kernels/ref is right under it, and code that knows nothing of the bits of a float;
 * stored formats (float16, bfloat16, q8_0) are not. */
#ifndef FLOAT64_H
#define FLOAT64_H

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define float double
#define expf exp
#define exp2f exp2
#define expm1f expm1
#define logf log
#define log2f log2
#define log1pf log1p
#define sqrtf sqrt
#define powf pow
#define sinf sin
#define cosf cos
#define tanhf tanh
#define erff erf
#define fabsf fabs
#define fmaxf fmax
#define fminf fmin
#define fmaf fma
#define floorf floor
#define ceilf ceil
#define rintf rint
#define roundf round
#define lrintf lrint
#define copysignf copysign
#define ldexpf ldexp
#define nextafterf nextafter
#undef FLT_EPSILON
#define FLT_EPSILON DBL_EPSILON
#undef FLT_MIN
#define FLT_MIN DBL_MIN
#undef FLT_MAX
#define FLT_MAX DBL_MAX

#endif

/* Numbers between bounds, written without a useless digit; and whether two schemas exclude each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "gen/schema_int.h"

#define DIGITS 15        /* of an integer without bound */
#define DECIMALS 6       /* of a number with bounds */
#define SCALE 1000000

static term digit(schema *s) { return g_range(s->g, '0', '9'); }

/* Whole numbers low..high, at most 19 digits, without leading zeros. */
static term whole(schema *s, uint64_t low, uint64_t high)
{
    term t = NONE;
    uint64_t from = 0, to = 9;
    char a[24], b[24];
    for (int n = 1; n <= 19; n++) {
        const uint64_t x = low > from ? low : from, y = high < to ? high : to;
        if (x <= y) {
            snprintf(a, sizeof a, "%llu", (unsigned long long)x);
            snprintf(b, sizeof b, "%llu", (unsigned long long)y);
            t = g_alt(s->g, t, g_between(s->g, (const unsigned char *)a, (const unsigned char *)b, (size_t)n, '0', '9'));
        }
        from = to + 1;
        to = to * 10 + 9;
    }
    return t;
}

static term minus(schema *s, term t) { return g_seq(s->g, g_byte(s->g, '-'), t); }

static term integers(schema *s, int64_t low, int64_t high)
{
    term t = NONE;
    if (high >= 0) t = whole(s, low > 0 ? (uint64_t)low : 0, (uint64_t)high);
    if (low < 0) t = g_alt(s->g, t, minus(s, whole(s, high < 0 ? (uint64_t)-high : 1, (uint64_t)-low)));
    return t;
}

/* A bound as a double, and whether the bound itself is excluded. -1: malformed. */
static int bound(schema *s, const json_t *j, int upper, double *x, int *excluded)
{
    const char *with = upper ? "maximum" : "minimum", *without = upper ? "exclusiveMaximum" : "exclusiveMinimum";
    const json_t *a = json_object_get(j, with), *b = json_object_get(j, without);
    if ((a && !json_is_number(a)) || (b && !json_is_number(b))) return schema_fail(s, "'%s' and '%s' want a number", with, without), -1;
    if (!a && !b) return 0;
    const double v = a ? json_number_value(a) : upper ? INFINITY : -INFINITY, w = b ? json_number_value(b) : upper ? INFINITY : -INFINITY;
    *excluded = b && (upper ? w <= v : w >= v);
    *x = *excluded ? w : v;
    return 1;
}

term schema_integer(schema *s, const json_t *j)
{
    double lo = 0, hi = 0;
    int lo_out = 0, hi_out = 0;
    const int has_lo = bound(s, j, 0, &lo, &lo_out), has_hi = bound(s, j, 1, &hi, &hi_out);
    if (has_lo < 0 || has_hi < 0) return NONE;
    const double largest = 999999999999999; /* DIGITS of them */
    if ((has_lo && fabs(lo) > 9e15) || (has_hi && fabs(hi) > 9e15)) {
        if ((has_lo && lo > 9e15) || (has_hi && hi < -9e15)) return schema_fail(s, "bounds beyond 9e15 are not supported");
    }
    double a = has_lo ? ceil(lo) : -largest, b = has_hi ? floor(hi) : largest;
    if (lo_out && a <= lo) a++;
    if (hi_out && b >= hi) b--;
    if (a < -9e15) a = -9e15;
    if (b > 9e15) b = 9e15;
    if (!has_hi && b < a + largest) b = a > 0 ? a + largest > 9e15 ? 9e15 : a + largest : b;
    if (!has_lo && a > b) a = b - largest < -9e15 ? -9e15 : b - largest;
    return a > b ? NONE : integers(s, (int64_t)a, (int64_t)b);
}

/* ".d" with one to six decimals, or nothing, whose value in millionths is in from..to */
static term fraction(schema *s, uint64_t from, uint64_t to)
{
    term t = from ? NONE : EMPTY;
    char a[24], b[24];
    uint64_t unit = SCALE / 10;
    for (int n = 1; n <= DECIMALS; n++, unit /= 10) {
        const uint64_t x = (from + unit - 1) / unit, y = to / unit;
        if (x > y) continue;
        snprintf(a, sizeof a, "%0*llu", n, (unsigned long long)x);
        snprintf(b, sizeof b, "%0*llu", n, (unsigned long long)y);
        t = g_alt(s->g, t, g_seq(s->g, g_byte(s->g, '.'), g_between(s->g, (const unsigned char *)a, (const unsigned char *)b, (size_t)n, '0', '9')));
    }
    return t;
}

/* Numbers that are not negative, from..to in millionths. */
static term decimal(schema *s, uint64_t from, uint64_t to)
{
    const uint64_t a = from / SCALE, b = to / SCALE;
    if (from > to) return NONE;
    if (a == b) return g_seq(s->g, whole(s, a, a), fraction(s, from % SCALE, to % SCALE));
    term t = g_seq(s->g, whole(s, a, a), fraction(s, from % SCALE, SCALE - 1));
    t = g_alt(s->g, t, g_seq(s->g, whole(s, b, b), fraction(s, 0, to % SCALE)));
    if (a + 1 < b) t = g_alt(s->g, t, g_seq(s->g, whole(s, a + 1, b - 1), fraction(s, 0, SCALE - 1)));
    return t;
}

static term unbounded(schema *s)
{
    mm_grammar *g = s->g;
    const term digits = g_rep(g, digit(s), 1, DIGITS), sign = g_opt(g, g_byte(g, '-'));
    const term start = g_alt(g, g_byte(g, '0'), g_seq(g, g_range(g, '1', '9'), g_rep(g, digit(s), 0, DIGITS - 1)));
    const term e = g_seq(g, g_alt(g, g_byte(g, 'e'), g_byte(g, 'E')), g_seq(g, g_opt(g, g_alt(g, g_byte(g, '+'), g_byte(g, '-'))), g_rep(g, digit(s), 1, 2)));
    return g_seq(g, sign, g_seq(g, start, g_seq(g, g_opt(g, g_seq(g, g_byte(g, '.'), digits)), g_opt(g, e))));
}

term schema_number(schema *s, const json_t *j)
{
    double lo = 0, hi = 0;
    int lo_out = 0, hi_out = 0;
    const double most = 9e9; /* in millionths it is still exact */
    const int has_lo = j ? bound(s, j, 0, &lo, &lo_out) : 0, has_hi = j ? bound(s, j, 1, &hi, &hi_out) : 0;
    if (has_lo < 0 || has_hi < 0) return NONE;
    if (!has_lo && !has_hi) return unbounded(s);
    if ((has_lo && lo > most) || (has_hi && hi < -most)) return schema_fail(s, "bounds beyond 9e9 of numbers that are no integers are not supported");
    if (!has_lo || lo < -most) lo = -most, lo_out = 0;
    if (!has_hi || hi > most) hi = most, hi_out = 0;
    int64_t a = (int64_t)ceil(lo * SCALE), b = (int64_t)floor(hi * SCALE);
    while ((double)a / SCALE < lo || (lo_out && (double)a / SCALE <= lo)) a++; /* as the text is read back */
    while ((double)b / SCALE > hi || (hi_out && (double)b / SCALE >= hi)) b--;
    if (a > b) return NONE;
    term t = b < 0 ? NONE : decimal(s, a > 0 ? (uint64_t)a : 0, (uint64_t)b);
    if (a < 0) t = g_alt(s->g, t, minus(s, decimal(s, b < 0 ? (uint64_t)-b : 1, (uint64_t)-a)));
    return t;
}

/* ---- schemas that exclude each other ---- */

/* The values that a schema lists: an array to be freed, or NULL when it lists none. */
static json_t *values(const json_t *j)
{
    json_t *c = json_object_get(j, "const"), *e = json_object_get(j, "enum");
    if (c) return json_pack("[O]", c);
    return json_is_array(e) ? json_incref(e) : NULL;
}

static int possible_types(const json_t *j)
{
    static const struct { const char *name; int type; } names[] = { { "object", S_OBJECT }, { "array", S_ARRAY }, { "string", S_STRING },
        { "integer", S_INTEGER }, { "number", S_NUMBER }, { "boolean", S_BOOL }, { "null", S_NULL } };
    const json_t *t = json_object_get(j, "type");
    json_t *v = values(j);
    int types = t ? 0 : S_ANY, listed = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (json_is_string(t) && !strcmp(json_string_value(t), names[i].name)) types |= names[i].type;
        for (size_t k = 0; k < json_array_size(t); k++)
            if (json_is_string(json_array_get(t, k)) && !strcmp(json_string_value(json_array_get(t, k)), names[i].name)) types |= names[i].type;
    }
    for (size_t i = 0; i < json_array_size(v); i++) listed |= schema_type_of(json_array_get(v, i));
    const int any_list = v != NULL;
    json_decref(v);
    return any_list ? types & listed : types;
}

/* a asks for a property that b does not allow, or that must be something else in b */
static int shuts_out(schema *s, const json_t *a, const json_t *b, int depth)
{
    const json_t *required = json_object_get(a, "required"), *in_a = json_object_get(a, "properties"), *in_b = json_object_get(b, "properties");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        const json_t *x = name ? json_object_get(in_a, name) : NULL, *y = name ? json_object_get(in_b, name) : NULL;
        if (name && !y && json_is_false(json_object_get(b, "additionalProperties"))) return 1;
        if (x && y && schema_apart(s, x, y, depth + 1)) return 1;
    }
    return 0;
}

int schema_apart(schema *s, const json_t *a, const json_t *b, int depth)
{
    if (depth > 8 || json_is_false(a) || json_is_false(b)) return depth <= 8;
    if (json_object_get(a, "$ref")) {
        const json_t *to = json_is_string(json_object_get(a, "$ref")) ? schema_resolve(s, json_string_value(json_object_get(a, "$ref"))) : NULL;
        return to && schema_apart(s, to, b, depth + 1);
    }
    if (json_object_get(b, "$ref")) return schema_apart(s, b, a, depth + 1);
    const int ta = possible_types(a), tb = possible_types(b);
    if (!(ta & tb)) return 1;
    json_t *va = values(a), *vb = values(b);
    int common = !va || !vb;
    for (size_t i = 0; i < json_array_size(va) && !common; i++)
        for (size_t k = 0; k < json_array_size(vb) && !common; k++) {
            const json_t *x = json_array_get(va, i), *y = json_array_get(vb, k);
            common = json_equal(x, y) || (json_is_number(x) && json_is_number(y)); /* 1 and 1.0 */
        }
    json_decref(va);
    json_decref(vb);
    if (!common) return 1;
    if ((ta & tb) != S_OBJECT) return 0;
    return shuts_out(s, a, b, depth) || shuts_out(s, b, a, depth);
}

/* JSON Schema as a grammar: every text is valid, and no keyword is passed over. Texts have one blank at most behind a colon or comma, and
 * none elsewhere, for blanks say nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "gen/grammar_int.h"
#include "gen/mm_grammar.h"
#include "gen/schema_int.h"

#define DEEPEST 100
#define MAX_SCHEMA ((size_t)1 << 20)

/* ---- what a schema may say ---- */

static const char *const annotations[] = { "title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions", "deprecated",
                                           "readOnly", "writeOnly", "$anchor" };
static const struct { const char *name; int types; } assertions[] = {
    { "type", ~0 }, { "enum", ~0 }, { "const", ~0 }, { "anyOf", ~0 }, { "oneOf", ~0 }, { "allOf", ~0 }, { "$ref", ~0 },
    { "properties", S_OBJECT }, { "required", S_OBJECT }, { "additionalProperties", S_OBJECT }, { "minProperties", S_OBJECT }, { "maxProperties", S_OBJECT },
    { "items", S_ARRAY }, { "prefixItems", S_ARRAY }, { "minItems", S_ARRAY }, { "maxItems", S_ARRAY }, { "uniqueItems", S_ARRAY },
    { "minLength", S_STRING }, { "maxLength", S_STRING }, { "pattern", S_STRING }, { "format", S_STRING },
    { "minimum", S_NUMBER }, { "maximum", S_NUMBER }, { "exclusiveMinimum", S_NUMBER }, { "exclusiveMaximum", S_NUMBER },
};
#define DATE "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define N(table) (sizeof(table) / sizeof *(table))

static int listed(const char *name, const char *const *table, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, table[i])) return 1;
    return 0;
}

term schema_fail(schema *s, const char *fmt, ...)
{
    char message[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return g_fail(s->g, MM_EUNSUP, "schema: '#%s': %s", s->place.p ? s->place.p : "", message);
}

static term malformed(schema *s, const char *key, const char *what)
{
    return g_fail(s->g, MM_EDATA, "schema: '#%s': '%s' is no %s", s->place.p ? s->place.p : "", key, what);
}

/* The assertions of an object but those in `known` (bits of their number): refused by name. */
static int check_keys(schema *s, const json_t *j)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)j, key, v) {
        size_t i = 0;
        if (listed(key, annotations, N(annotations))) continue;
        while (i < N(assertions) && strcmp(key, assertions[i].name)) i++;
        if (i == N(assertions)) return schema_fail(s, "keyword '%s' is not supported", key), 0;
    }
    return 1;
}

/* Where one keyword decides alone, others beside it would narrow what it allows. */
static int stands_alone(schema *s, const json_t *j, const char *alone)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)j, key, v) {
        const int with_type = !strcmp(key, "type") && (!strcmp(alone, "enum") || !strcmp(alone, "const"));
        if (listed(key, annotations, N(annotations)) || !strcmp(key, alone) || with_type) continue;
        return schema_fail(s, "'%s' beside '%s' is not supported", key, alone), 0;
    }
    return 1;
}

int schema_type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return S_OBJECT;
    case JSON_ARRAY: return S_ARRAY;
    case JSON_STRING: return S_STRING;
    case JSON_INTEGER: return S_INTEGER;
    case JSON_REAL: return floor(json_real_value(v)) < json_real_value(v) ? S_REAL : S_NUMBER;
    case JSON_NULL: return S_NULL;
    default: return S_BOOL;
    }
}

static int type_named(const char *name)
{
    static const struct { const char *name; int type; } names[] = { { "object", S_OBJECT }, { "array", S_ARRAY }, { "string", S_STRING },
        { "integer", S_INTEGER }, { "number", S_NUMBER }, { "boolean", S_BOOL }, { "null", S_NULL } };
    for (size_t i = 0; i < N(names); i++)
        if (!strcmp(name, names[i].name)) return names[i].type;
    return 0;
}

/* The types that "type" names; without it those that the other keywords speak of, and any if they speak of none. */
static int types_of(schema *s, const json_t *j)
{
    const json_t *t = json_object_get(j, "type");
    const char *key;
    json_t *v;
    int types = 0;
    if (json_is_string(t)) types = type_named(json_string_value(t));
    for (size_t i = 0; i < json_array_size(t); i++) {
        const int one = json_is_string(json_array_get(t, i)) ? type_named(json_string_value(json_array_get(t, i))) : 0;
        if (!one) return malformed(s, "type", "type"), 0;
        types |= one;
    }
    if (t && !types) return malformed(s, "type", "type"), 0;
    if (types) return types;
    json_object_foreach((json_t *)(uintptr_t)j, key, v) {
        for (size_t i = 0; i < N(assertions); i++)
            if (assertions[i].types != ~0 && !strcmp(key, assertions[i].name)) types |= assertions[i].types;
    }
    return types ? types : S_ANY;
}

/* A whole number that is not negative, or dflt. */
static uint32_t count_of(schema *s, const json_t *j, const char *key, uint32_t dflt)
{
    const json_t *v = json_object_get(j, key);
    if (!v) return dflt;
    const double x = json_is_number(v) ? json_number_value(v) : -1;
    if (!(x >= 0) || x > 1e9 || floor(x) < x) return malformed(s, key, "count"), dflt;
    return (uint32_t)x;
}

/* ---- strings ---- */

static term quoted(schema *s, term inside) { return g_seq(s->g, g_byte(s->g, '"'), g_seq(s->g, inside, g_byte(s->g, '"'))); }

static term any_char(schema *s)
{
    cset all = { 0 };
    cset_add(&all, 0x20, 0x7E);
    cset_add(&all, 0xA0, 0x10FFFF);
    cset_add(&all, '\t', '\n');
    cset_add(&all, '\r', '\r');
    const term t = g_json_chars(s->g, &all);
    cset_clear(&all);
    return t;
}

static term format(schema *s, const char *name)
{
    static const struct { const char *name, *pattern; } formats[] = {
        { "date", "^" DATE "$" }, { "time", "^" TIME "$" }, { "date-time", "^" DATE "T" TIME "$" },
        { "uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$" } };
    for (size_t i = 0; i < N(formats); i++)
        if (!strcmp(name, formats[i].name)) return quoted(s, g_pattern(s->g, formats[i].pattern, strlen(formats[i].pattern)));
    return schema_fail(s, "format '%.40s' is not supported", name);
}

static term string(schema *s, const json_t *j)
{
    const uint32_t min = count_of(s, j, "minLength", 0), max = count_of(s, j, "maxLength", MANY);
    const json_t *p = json_object_get(j, "pattern"), *f = json_object_get(j, "format");
    if ((p || f) && (min || max != MANY || (p && f)))
        return schema_fail(s, "'%s' together with a length or another form is not supported",
                           p ? "pattern" : "format");
    if (p && !json_is_string(p)) return malformed(s, "pattern", "string");
    if (f && !json_is_string(f)) return malformed(s, "format", "string");
    if (f) return format(s, json_string_value(f));
    if (p) return quoted(s, g_pattern(s->g, json_string_value(p), json_string_length(p)));
    return quoted(s, g_rep(s->g, any_char(s), min, max));
}

/* ---- values that are given ---- */

static term constant(schema *s, const json_t *v)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
    const term t = text ? g_text(s->g, text, strlen(text)) : g_fail(s->g, MM_ENOMEM, "out of memory");
    free(text);
    return t;
}

/* "enum" or "const": those values that are of the schema's types. */
static term enumeration(schema *s, const json_t *j, const char *key)
{
    const int types = json_object_get(j, "type") ? types_of(s, j) : S_ANY;
    const json_t *v = json_object_get(j, key);
    term t = NONE;
    if (!stands_alone(s, j, key)) return NONE;
    if (!strcmp(key, "const")) return schema_type_of(v) & types ? constant(s, v) : NONE;
    if (!json_is_array(v)) return malformed(s, key, "array");
    for (size_t i = 0; i < json_array_size(v); i++)
        if (schema_type_of(json_array_get(v, i)) & types) t = g_alt(s->g, t, constant(s, json_array_get(v, i)));
    return t;
}

/* ---- objects and arrays ---- */

static term comma(schema *s) { return g_seq(s->g, g_byte(s->g, ','), g_opt(s->g, g_byte(s->g, ' '))); }

static term pair(schema *s, term key, term value)
{
    return g_seq(s->g, key, g_seq(s->g, g_byte(s->g, ':'), g_seq(s->g, g_opt(s->g, g_byte(s->g, ' ')), value)));
}

static term named(schema *s, const char *name, term value)
{
    mm_buf key = { 0 };
    mm_json_quote(&key, name, strlen(name));
    const term t = key.failed ? g_fail(s->g, MM_ENOMEM, "out of memory") : pair(s, g_text(s->g, key.p, key.len), value);
    mm_buf_clear(&key);
    return t;
}

/* Keys that are none of the names[0..n), which are sorted and begin alike up to byte `at`: written without escapes. */
static term other_keys(schema *s, const char *const *names, size_t n, size_t at)
{
    cset rest = { 0 };
    term t = NONE, any, end = EMPTY;
    size_t i = 0;
    cset_add(&rest, 0x20, 0x7E);
    cset_add(&rest, 0xA0, 0x10FFFF);
    cset_invert(&rest);
    cset_add(&rest, '"', '"');
    cset_add(&rest, '\\', '\\');
    cset_invert(&rest);
    any = g_rep(s->g, g_json_chars(s->g, &rest), 0, MANY);
    while (i < n && !names[i][at]) i++, end = NONE;
    cset_invert(&rest);
    while (i < n) {
        uint32_t cp;
        const int len = mm_utf8_get(names[i] + at, strlen(names[i] + at), &cp);
        size_t k = i;
        while (k < n && !strncmp(names[k] + at, names[i] + at, (size_t)len)) k++;
        cset_add(&rest, cp, cp);
        t = g_alt(s->g, t, g_seq(s->g, g_text(s->g, names[i] + at, (size_t)len), other_keys(s, names + i, k - i, at + (size_t)len)));
        i = k;
    }
    cset_invert(&rest);
    t = g_alt(s->g, t, g_seq(s->g, g_json_chars(s->g, &rest), any));
    cset_clear(&rest);
    return g_alt(s->g, end, t);
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Keys that "properties" does not name. */
static term additional_key(schema *s, const json_t *props)
{
    const size_t n = json_object_size(props);
    const char **names = malloc((n + 1) * sizeof *names), *key;
    size_t k = 0;
    json_t *v;
    if (!names) return g_fail(s->g, MM_ENOMEM, "out of memory");
    json_object_foreach((json_t *)(uintptr_t)props, key, v) {
        int plain = 1; /* a name that needs escapes is none of the keys here anyway */
        for (const char *p = key; *p; p++) plain &= (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\';
        if (plain) names[k++] = key;
    }
    qsort(names, k, sizeof *names, by_bytes);
    const term t = quoted(s, other_keys(s, names, k, 0));
    free(names);
    return t;
}

static int is_required(const json_t *required, const char *name)
{
    for (size_t i = 0; i < json_array_size(required); i++)
        if (json_is_string(json_array_get(required, i)) && !strcmp(json_string_value(json_array_get(required, i)), name)) return 1;
    return 0;
}

static term child(schema *s, const json_t *j, const char *a, const char *b)
{
    const size_t len = s->place.len;
    mm_buf_addf(&s->place, "/%s%s%s", a, b ? "/" : "", b ? b : "");
    const term t = schema_term(s, j);
    s->place.len = len;
    if (s->place.p) s->place.p[len] = 0;
    return t;
}

/* The properties that are named, in order, as [pair, whether it must be there], the required ones that are not named behind them. */
typedef struct member {
    term pair;
    int needed;
} member;

static member *members(schema *s, const json_t *j, size_t *n)
{
    const json_t *props = json_object_get(j, "properties"), *required = json_object_get(j, "required"), *more = json_object_get(j, "additionalProperties");
    const char *key;
    json_t *v;
    if (props && !json_is_object(props)) return malformed(s, "properties", "object"), NULL;
    if (required && !json_is_array(required)) return malformed(s, "required", "array"), NULL;
    member *m = malloc((json_object_size(props) + json_array_size(required) + 1) * sizeof *m);
    if (!m) return g_fail(s->g, MM_ENOMEM, "out of memory"), NULL;
    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)props, key, v) {
        m[*n] = (member){ named(s, key, child(s, v, "properties", key)), is_required(required, key) };
        if (m[*n].pair == NONE && !m[*n].needed) continue; /* a property that may not be there */
        ++*n;
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!name) malformed(s, "required", "array of strings");
        else if (!json_object_get(props, name)) m[(*n)++] = (member){ named(s, name, more ? child(s, more, "additionalProperties", NULL) : schema_any(s)), 1 };
    }
    return m;
}

static term object(schema *s, const json_t *j)
{
    const json_t *props = json_object_get(j, "properties"), *more = json_object_get(j, "additionalProperties");
    const uint32_t least = count_of(s, j, "minProperties", 0), most = count_of(s, j, "maxProperties", MANY);
    mm_grammar *g = s->g;
    size_t n = 0;
    member *m = members(s, j, &n);
    if (!m) return NONE;
    const int open = more ? !json_is_false(more) : !json_object_size(props) && !json_array_size(json_object_get(j, "required"));
    size_t needed = 0;
    for (size_t i = 0; i < n; i++) needed += m[i].needed != 0;
    if ((least > needed && !(least == 1 && !n && open)) || (most != MANY && (open ? n > 0 : n > most)))
        schema_fail(s, "this number of properties is not supported");
    term extra = NONE;
    if (open && !g->failed) {
        /* those required but not named are names too */
        json_t *names = json_object();
        json_object_update(names, (json_t *)(uintptr_t)props);
        for (size_t i = 0; i < json_array_size(json_object_get(j, "required")); i++)
            json_object_set_new(names, json_string_value(json_array_get(json_object_get(j, "required"), i)),
                                json_null());
        extra = pair(s, additional_key(s, names), more ? child(s, more, "additionalProperties", NULL) : schema_any(s));
        json_decref(names);
    }
    /* from the last member to the first: what follows when nothing was written yet, and when something was */
    term first = extra == NONE ? (least ? NONE : EMPTY) : g_seq(g, extra, g_rep(g, g_seq(g, comma(s), extra), 0, most == MANY ? MANY : most ? most - 1 : 0));
    if (extra != NONE && !least) first = g_opt(g, first);
    if (!most) first = EMPTY;
    term later = extra == NONE ? EMPTY : g_rep(g, g_seq(g, comma(s), extra), 0, MANY);
    for (size_t i = n; i-- > 0;) {
        const term here = g_seq(g, m[i].pair, later);
        first = m[i].needed ? here : g_alt(g, here, first);
        later = m[i].needed ? g_seq(g, comma(s), here) : g_alt(g, g_seq(g, comma(s), here), later);
    }
    free(m);
    return g_seq(g, g_byte(g, '{'), g_seq(g, first, g_byte(g, '}')));
}

static term array(schema *s, const json_t *j)
{
    const json_t *items = json_object_get(j, "items"), *prefix = json_object_get(j, "prefixItems"), *unique = json_object_get(j, "uniqueItems");
    const uint32_t min = count_of(s, j, "minItems", 0), max = count_of(s, j, "maxItems", MANY);
    const uint32_t n = (uint32_t)json_array_size(prefix);
    mm_grammar *g = s->g;
    char number[24];
    if (json_is_true(unique) && max > 1) return schema_fail(s, "'uniqueItems' is not supported");
    if (items && json_is_array(items)) return schema_fail(s, "'items' as an array is not supported");
    if (min > max) return NONE;
    const term item = items ? child(s, items, "items", NULL) : schema_any(s), next = g_seq(g, comma(s), item);
    /* behind the prefix: so many more */
    const uint32_t least = min > n ? min - n : 0, most = max == MANY ? MANY : max > n ? max - n : 0;
    term later = g_rep(g, next, least, most), first = NONE;
    if (!n) {
        first = least ? NONE : EMPTY;
        if (most) first = g_alt(g, first, g_seq(g, item, g_rep(g, next, least ? least - 1 : 0, most == MANY ? MANY : most - 1)));
    }
    for (uint32_t i = n; i-- > 0;) {
        snprintf(number, sizeof number, "%u", i);
        const term x = child(s, json_array_get(prefix, i), "prefixItems", number), here = i < max ? g_seq(g, x, later) : NONE;
        first = i ? NONE : g_alt(g, min ? NONE : EMPTY, here);
        later = g_alt(g, i >= min ? EMPTY : NONE, g_seq(g, comma(s), here));
    }
    return g_seq(g, g_byte(g, '['), g_seq(g, first, g_byte(g, ']')));
}

/* ---- all of a schema ---- */

term schema_any(schema *s)
{
    mm_grammar *g = s->g;
    if (s->any != NONE) return s->any;
    s->any = g_ref(g);
    cset c = { 0 };
    const term text = quoted(s, g_rep(g, any_char(s), 0, MANY));
    const term member_ = pair(s, text, s->any);
    const term items = g_seq(g, s->any, g_rep(g, g_seq(g, comma(s), s->any), 0, MANY)),
               pairs = g_seq(g, member_, g_rep(g, g_seq(g, comma(s), member_), 0, MANY));
    term t = g_alt(g, text, schema_number(s, NULL));
    t = g_alt(g, t, g_alt(g, g_text(g, "true", 4), g_alt(g, g_text(g, "false", 5), g_text(g, "null", 4))));
    t = g_alt(g, t, g_seq(g, g_byte(g, '['), g_seq(g, g_opt(g, items), g_byte(g, ']'))));
    t = g_alt(g, t, g_seq(g, g_byte(g, '{'), g_seq(g, g_opt(g, pairs), g_byte(g, '}'))));
    cset_clear(&c);
    g_define(g, s->any, t);
    return s->any;
}

const json_t *schema_resolve(schema *s, const char *ref)
{
    const json_t *j = s->root;
    char key[256];
    if (*ref != '#' || (ref[1] && ref[1] != '/')) return schema_fail(s, "reference '%.80s' does not stay inside the document", ref), NULL;
    for (const char *p = ref + 1; *p && j;) {
        size_t n = 0;
        for (p++; *p && *p != '/' && n + 1 < sizeof key; p++) {
            if (*p == '~' && (p[1] == '0' || p[1] == '1')) key[n++] = *++p == '0' ? '~' : '/';
            else if (*p == '%') return schema_fail(s, "reference '%.80s' is not supported", ref), NULL;
            else key[n++] = *p;
        }
        key[n] = 0;
        if (json_is_array(j)) {
            char *end;
            const unsigned long i = strtoul(key, &end, 10);
            j = *end || !n ? NULL : json_array_get(j, i);
        } else j = json_object_get(j, key);
    }
    if (!j) g_fail(s->g, MM_EDATA, "schema: '#%s': there is no '%.80s'", s->place.p ? s->place.p : "", ref);
    return j;
}

static term reference(schema *s, const json_t *j)
{
    const json_t *ref = json_object_get(j, "$ref");
    if (!stands_alone(s, j, "$ref")) return NONE;
    if (!json_is_string(ref)) return malformed(s, "$ref", "string");
    for (size_t i = 0; i < s->n_refs; i++)
        if (!strcmp(s->refs[i].name, json_string_value(ref))) return s->refs[i].t;
    const json_t *to = schema_resolve(s, json_string_value(ref));
    if (!to || s->g->failed) return NONE;
    if (s->n_refs == s->cap_refs) {
        const size_t cap = s->cap_refs ? 2 * s->cap_refs : 16;
        void *p = mm_realloc(s->refs, cap, sizeof *s->refs);
        if (!p) return g_fail(s->g, MM_ENOMEM, "out of memory");
        s->refs = p;
        s->cap_refs = cap;
    }
    const term t = g_ref(s->g);
    s->refs[s->n_refs].name = json_string_value(ref);
    s->refs[s->n_refs++].t = t;
    g_define(s->g, t, schema_term(s, to));
    return t;
}

static term choice(schema *s, const json_t *j, const char *key)
{
    const json_t *all = json_object_get(j, key);
    const size_t n = json_array_size(all);
    char number[24];
    term t = NONE;
    if (!stands_alone(s, j, key)) return NONE;
    if (!n) return malformed(s, key, "array of schemas");
    if (!strcmp(key, "allOf") && n > 1) return schema_fail(s, "'allOf' of several is not supported");
    for (size_t i = 0; i < n && !strcmp(key, "oneOf"); i++)
        for (size_t k = 0; k < i; k++)
            if (!schema_apart(s, json_array_get(all, i), json_array_get(all, k), 0))
                return schema_fail(s,
                                   "'oneOf': a value may be both %zu and %zu of it (say anyOf, or tell them apart by "
                                   "type, by a const, or by required)",
                                   k, i);
    for (size_t i = 0; i < n; i++) {
        snprintf(number, sizeof number, "%zu", i);
        t = g_alt(s->g, t, child(s, json_array_get(all, i), key, number));
    }
    return t;
}

static term by_type(schema *s, const json_t *j)
{
    const int types = types_of(s, j);
    mm_grammar *g = s->g;
    term t = NONE;
    if (types == S_ANY && !json_object_get(j, "type")) return schema_any(s);
    if (types & S_OBJECT) t = g_alt(g, t, object(s, j));
    if (types & S_ARRAY) t = g_alt(g, t, array(s, j));
    if (types & S_STRING) t = g_alt(g, t, string(s, j));
    if ((types & S_NUMBER) == S_NUMBER) t = g_alt(g, t, schema_number(s, j));
    else if (types & S_INTEGER) t = g_alt(g, t, schema_integer(s, j));
    if (types & S_BOOL) t = g_alt(g, t, g_alt(g, g_text(g, "true", 4), g_text(g, "false", 5)));
    if (types & S_NULL) t = g_alt(g, t, g_text(g, "null", 4));
    return t;
}

term schema_term(schema *s, const json_t *j)
{
    static const char *const choices[] = { "anyOf", "oneOf", "allOf" };
    term t = NONE;
    if (s->g->failed || json_is_false(j)) return NONE;
    if (json_is_true(j)) return schema_any(s);
    if (!json_is_object(j)) return g_fail(s->g, MM_EDATA, "schema: '#%s' is no schema", s->place.p ? s->place.p : "");
    if (s->depth++ > DEEPEST) return schema_fail(s, "this depth is not supported");
    if (!check_keys(s, j)) return NONE;
    const char *pick = NULL;
    for (size_t i = 0; i < N(choices) && !pick; i++)
        if (json_object_get(j, choices[i])) pick = choices[i];
    if (json_object_get(j, "$ref")) t = reference(s, j);
    else if (json_object_get(j, "const")) t = enumeration(s, j, "const");
    else if (json_object_get(j, "enum")) t = enumeration(s, j, "enum");
    else t = pick ? choice(s, j, pick) : by_type(s, j);
    s->depth--;
    return t;
}

int mm_grammar_from_schema(mm_grammar **out, const char *json, size_t len, mm_err *err)
{
    *out = NULL;
    if (len > MAX_SCHEMA) return mm_fail(err, MM_EUNSUP, "the schema is longer than 1 MiB");
    json_error_t where;
    json_t *j = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!j) return mm_fail(err, MM_EDATA, "schema: line %d: %s", where.line, where.text);
    schema s = { .g = grammar_new(), .root = j, .any = NONE };
    int r = MM_ENOMEM;
    if (s.g) {
        const term root = schema_term(&s, j);
        r = grammar_finish(s.g, root, err);
    } else mm_fail(err, MM_ENOMEM, "out of memory");
    if (r) mm_grammar_close(&s.g);
    *out = s.g;
    free(s.refs);
    mm_buf_clear(&s.place);
    json_decref(j);
    return r;
}

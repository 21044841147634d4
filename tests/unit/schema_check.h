/* schema_check.h - is a value valid under a schema? A plain reading of JSON Schema's keywords on the parsed value, which shares nothing with
 * the grammars of lib/gen: what those let through is put to it. Patterns and formats are not looked at. */
#ifndef SCHEMA_CHECK_H
#define SCHEMA_CHECK_H
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_valid(const json_t *root, const json_t *s, const json_t *v);

static int check_type(const char *t, const json_t *v)
{
    if (!strcmp(t, "integer")) return json_is_number(v) && floor(json_number_value(v)) == json_number_value(v);
    if (!strcmp(t, "number")) return json_is_number(v);
    if (!strcmp(t, "object")) return json_is_object(v);
    if (!strcmp(t, "array")) return json_is_array(v);
    if (!strcmp(t, "string")) return json_is_string(v);
    if (!strcmp(t, "boolean")) return json_is_boolean(v);
    return json_is_null(v);
}

static const json_t *check_ref(const json_t *root, const char *ref)
{
    char *copy = strdup(ref), *save = NULL;
    const json_t *j = root;
    for (char *p = strtok_r(copy, "#/", &save); p && j; p = strtok_r(NULL, "#/", &save)) j = json_object_get(j, p);
    free(copy);
    return j;
}

static size_t check_characters(const char *s)
{
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static int check_equal(const json_t *a, const json_t *b)
{
    return json_equal(a, b) || (json_is_number(a) && json_is_number(b) && json_number_value(a) == json_number_value(b));
}

static int check_object(const json_t *root, const json_t *s, const json_t *v)
{
    const json_t *props = json_object_get(s, "properties"), *more = json_object_get(s, "additionalProperties"), *x, *n;
    const char *key;
    json_t *item;
    size_t i;
    json_array_foreach(json_object_get(s, "required"), i, item) if (!json_object_get(v, json_string_value(item))) return 0;
    json_object_foreach((json_t *)(size_t)v, key, item) {
        if ((x = json_object_get(props, key)) ? !check_valid(root, x, item) : more && !check_valid(root, more, item)) return 0;
    }
    if ((n = json_object_get(s, "minProperties")) && json_object_size(v) < (size_t)json_integer_value(n)) return 0;
    return !((n = json_object_get(s, "maxProperties")) && json_object_size(v) > (size_t)json_integer_value(n));
}

static int check_array(const json_t *root, const json_t *s, const json_t *v)
{
    const json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items"), *n;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *x = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
        if (x && !check_valid(root, x, json_array_get(v, i))) return 0;
    }
    if ((n = json_object_get(s, "minItems")) && json_array_size(v) < (size_t)json_integer_value(n)) return 0;
    return !((n = json_object_get(s, "maxItems")) && json_array_size(v) > (size_t)json_integer_value(n));
}

static int check_number(const json_t *s, double x)
{
    const json_t *n;
    if ((n = json_object_get(s, "minimum")) && x < json_number_value(n)) return 0;
    if ((n = json_object_get(s, "maximum")) && x > json_number_value(n)) return 0;
    if ((n = json_object_get(s, "exclusiveMinimum")) && x <= json_number_value(n)) return 0;
    return !((n = json_object_get(s, "exclusiveMaximum")) && x >= json_number_value(n));
}

static int check_valid(const json_t *root, const json_t *s, const json_t *v)
{
    const json_t *t = json_object_get(s, "type"), *x;
    json_t *item;
    size_t i;
    int n = 0;
    if (json_is_boolean(s)) return json_is_true(s);
    if ((x = json_object_get(s, "$ref"))) {
        const json_t *to = check_ref(root, json_string_value(x));
        if (!to || !check_valid(root, to, v)) return 0;
    }
    if (json_is_string(t) && !check_type(json_string_value(t), v)) return 0;
    json_array_foreach(t, i, item) n += check_type(json_string_value(item), v);
    if (json_is_array(t) && !n) return 0;
    if ((x = json_object_get(s, "const")) && !check_equal(x, v)) return 0;
    if ((x = json_object_get(s, "enum"))) {
        n = 0;
        json_array_foreach((json_t *)(size_t)x, i, item) n += check_equal(item, v);
        if (!n) return 0;
    }
    if ((x = json_object_get(s, "anyOf"))) {
        n = 0;
        json_array_foreach((json_t *)(size_t)x, i, item) n += check_valid(root, item, v);
        if (!n) return 0;
    }
    if ((x = json_object_get(s, "oneOf"))) {
        n = 0;
        json_array_foreach((json_t *)(size_t)x, i, item) n += check_valid(root, item, v);
        if (n != 1) return 0;
    }
    json_array_foreach(json_object_get(s, "allOf"), i, item) if (!check_valid(root, item, v)) return 0;
    if (json_is_object(v) && !check_object(root, s, v)) return 0;
    if (json_is_array(v) && !check_array(root, s, v)) return 0;
    if (json_is_string(v)) {
        const size_t chars = check_characters(json_string_value(v));
        if ((x = json_object_get(s, "minLength")) && chars < (size_t)json_integer_value(x)) return 0;
        if ((x = json_object_get(s, "maxLength")) && chars > (size_t)json_integer_value(x)) return 0;
    }
    return !json_is_number(v) || check_number(s, json_number_value(v));
}
#endif

/* schema_int.h - inside JSON Schema: schema.c, and schema_number.c for ranges of numbers and schemas that exclude each other. */
#ifndef SCHEMA_INT_H
#define SCHEMA_INT_H

#include <stdarg.h>
#include "base/mm_json.h"
#include "gen/grammar_int.h"

enum { S_OBJECT = 1, S_ARRAY = 2, S_STRING = 4, S_INTEGER = 8, S_REAL = 16, S_NUMBER = S_INTEGER | S_REAL, S_BOOL = 32, S_NULL = 64, S_ANY = 127 };

typedef struct schema {
    mm_grammar *g;
    const json_t *root;
    mm_buf place; /* JSON pointer of what is being read, for messages */
    int depth;
    term any;     /* every JSON value; NONE: not made yet */
    struct { const char *name; term t; } *refs;
    size_t n_refs, cap_refs;
} schema;

term schema_term(schema *s, const json_t *j);
term schema_any(schema *s);
term schema_number(schema *s, const json_t *j);  /* j NULL: any */
term schema_integer(schema *s, const json_t *j);
int schema_type_of(const json_t *value);
const json_t *schema_resolve(schema *s, const char *ref); /* NULL: a failure */
/* Whether no value is valid under both, as far as can be seen. */
int schema_apart(schema *s, const json_t *a, const json_t *b, int depth);
term schema_fail(schema *s, const char *fmt, ...) MM_PRINTF(2, 3);

#endif

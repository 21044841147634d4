/* mm_grammar.h - answers of a form that is guaranteed: which tokens may come next, for a JSON Schema or a grammar.
 *
 *   mm_grammar *g;
 *   mm_grammar_from_schema(&g, json, len, &err);
 *   mm_grammar_bind(g, tok, vocab, &err);                         once, for the tokens of a decoder
 *   mm_cursor *c = mm_cursor_new(g);
 *   mm_cursor_allow(c, tokens_left, &mask, &err);                  bit i: token i may come
 *   mm_cursor_accept(c, bytes, len);                              the bytes of the token chosen
 *   if (mm_cursor_end(c) & MM_END_MUST) ...
 *   mm_cursor_free(&c);
 *   mm_grammar_close(&g);
 *
 * A grammar is a pushdown automaton over bytes. Its states are made when they are met and kept, with the tokens that each allows, so that
 * a token costs a look-up once the automaton has been where it is. With tokens_left no token is allowed behind which the text could not
 * be completed any more: an answer that is cut by its number of tokens is complete all the same.
 *
 * Of JSON Schema is understood: type, properties, required, additionalProperties, enum, const, items, prefixItems, minItems, maxItems,
 * minLength, maxLength, pattern, format (date, time, date-time, uuid), minimum, maximum, exclusiveMinimum, exclusiveMaximum, anyOf, oneOf, allOf
 * of one, $ref inside the document, $defs, definitions, true and false. Titles, descriptions, defaults and examples say nothing about
 * values. Any other keyword is MM_EUNSUP with its place: a schema is never half obeyed. Objects are written with their properties in the
 * order of the schema; properties that it does not name are written only where it speaks of them or names none. */
#ifndef MM_GRAMMAR_H
#define MM_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "token/mm_token.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_grammar mm_grammar;
typedef struct mm_cursor mm_cursor;

MM_API MM_MUST_CHECK int mm_grammar_from_schema(mm_grammar **out, const char *json, size_t len, mm_err *err);
/* Rules in the notation of llama.cpp's GBNF: root ::= "a" [0-9]+ (b | "c")? ; comments begin with #. */
MM_API MM_MUST_CHECK int mm_grammar_from_rules(mm_grammar **out, const char *text, size_t len, mm_err *err);
MM_API void mm_grammar_close(mm_grammar **g);
/* The tokens that texts are made of: those of tok below vocab. tok must outlive the grammar. */
MM_API MM_MUST_CHECK int mm_grammar_bind(mm_grammar *g, const mm_tok *tok, size_t vocab, mm_err *err);
/* The fewest bytes of a complete text. */
MM_API size_t mm_grammar_least(const mm_grammar *g);

/* A place in a text; at its beginning. NULL: out of memory. The grammar must outlive its cursors. */
MM_API mm_cursor *mm_cursor_new(mm_grammar *g);
MM_API mm_cursor *mm_cursor_copy(const mm_cursor *c); /* at the same place */
MM_API void mm_cursor_free(mm_cursor **c);
/* The tokens that may come, as bits [vocab]; the mask lives until the next call for any cursor of the grammar. left: how many tokens may
 * still come, this one included; SIZE_MAX: any number. MM_EDATA: none can; MM_ENOMEM. Tokens without bytes are never allowed: whether the text
 * may end here is what mm_cursor_end() says. */
MM_API MM_MUST_CHECK int mm_cursor_allow(mm_cursor *c, size_t left, const uint64_t **mask, mm_err *err);
/* Go on by these bytes: 0, MM_EDATA when the grammar does not allow them (the cursor is dead then), MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_cursor_accept(mm_cursor *c, const char *bytes, size_t len);
enum { MM_END_MAY = 1, MM_END_MUST = 2 };
/* Whether the text is complete, and whether nothing can follow. */
MM_API int mm_cursor_end(const mm_cursor *c);

#ifdef __cplusplus
}
#endif
#endif

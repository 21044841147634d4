/* Grammars: random walks through random schemas are valid by a validator that knows nothing of them (schema_check.h), given texts are taken or
 * not, what is not supported is refused, states that are forgotten come back. */
#include "base/mm_base.h"
#include "base/mm_rng.h"
#include "gen/mm_grammar.h"
#include "schema_check.h"
#include "tap.h"

static mm_err err;
static mm_tok *tok;
static size_t vocab;

/* ---- texts that are taken, and that are not ---- */

/* 1: the whole text is complete; 0: it is not, or not allowed */
static int takes(mm_grammar *g, const char *text)
{
    mm_cursor *c = mm_cursor_new(g);
    const int r = mm_cursor_accept(c, text, strlen(text)), yes = !r && (mm_cursor_end(c) & MM_END_MAY);
    mm_cursor_free(&c);
    return yes;
}

static mm_grammar *schema(const char *text)
{
    mm_grammar *g = NULL;
    if (mm_grammar_from_schema(&g, text, strlen(text), &err)) printf("# %s: %s\n", text, err.msg);
    return g;
}

static const struct { const char *schema, *yes[8], *no[8];
} cases[] = {
    { "{\"type\":\"string\"}",
      { "\"\"", "\"a\\n\\\"\xC3\xA9\"", "\"\xF0\x9F\x98\x80\"" },
      { "a", "\"", "\"\n\"", "\"\\x\"", "\"\xC3\"", "\"\xED\xA0\x80\"" } },
    { "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
      { "\"ab\"", "\"\xC3\xA9\xC3\xA9\xC3\xA9\"", "\"\\n\\n\"" },
      { "\"a\"", "\"abcd\"", "\"\xC3\xA9\"" } },
    { "{\"type\":\"integer\"}", { "0", "-7", "123456" }, { "01", "1.0", "+1", "-", "1e3", "" } },
    { "{\"type\":\"integer\",\"minimum\":-12,\"exclusiveMaximum\":100}",
      { "-12", "-9", "0", "99", "10" },
      { "-13", "100", "-20", "999", "-120" } },
    { "{\"type\":\"integer\",\"minimum\":95,\"maximum\":1203}",
      { "95", "99", "100", "999", "1000", "1203", "1199" },
      { "94", "1204", "9", "1210", "2000", "0" } },
    { "{\"type\":\"integer\",\"minimum\":0.5,\"maximum\":2.5}", { "1", "2" }, { "0", "3" } },
    { "{\"type\":\"number\"}", { "0", "-0.5", "1e5", "1.25E-3", "12" }, { ".5", "1.", "01", "1e", "--1" } },
    { "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
      { "0", "1", "0.5", "0.999999", "1.0", "0.000001" },
      { "1.1", "-0.1", "2", "1.000001", "00" } },
    { "{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":2.25}",
      { "-1.5", "-1.49", "-0.1", "0", "2.249999", "2.2", "1.9" },
      { "-1.51", "2.25", "2.3", "3", "-2" } },
    { "{\"type\":\"boolean\"}", { "true", "false" }, { "null", "True" } },
    { "{\"enum\":[\"a\",1,null,[1,{\"b\":2}]]}", { "\"a\"", "1", "null", "[1,{\"b\":2}]" }, { "\"b\"", "2", "[1]" } },
    { "{\"type\":\"string\",\"enum\":[\"a\",1]}", { "\"a\"" }, { "1" } },
    { "{\"const\":\"x\\\"y\"}", { "\"x\\\"y\"" }, { "\"x\"" } },
    { "{\"type\":[\"string\",\"null\"]}", { "\"\"", "null" }, { "1" } },
    { "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":3}",
      { "[true]", "[true,false]", "[true, false,true]" },
      { "[]", "[true,false,true,true]", "[ true]", "[true,  true]" } },
    { "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3}}",
      { "[]", "[1]", "[1,2]", "[1,2,3,3]" },
      { "[2]", "[1,3]", "[1,2,1]" } },
    { "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false,\"minItems\":2}",
      { "[1,2]" },
      { "[]", "[1]", "[1,2,3]" } },
    { "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"maxItems\":1}",
      { "[]", "[1]" },
      { "[1,2]" } },
    { "{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{\"const\":3}},\"required\":[\"b\"]}",
      { "{\"b\":2}", "{\"a\":1,\"b\":2}", "{\"b\": 2, \"c\": 3}", "{\"a\":1,\"b\":2,\"c\":3}" },
      { "{}", "{\"a\":1}", "{\"a\":1,\"c\":3}", "{\"b\":2,\"a\":1}", "{\"b\":2,}", "{,\"b\":2}",
        "{\"b\":2,\"d\":1}" } },
    { "{\"properties\":{\"a\":{\"const\":1},\"ab\":{\"const\":2},\"\xC3\xA9\":{\"const\":4}},"
      "\"additionalProperties\":{\"const\":9}}",
      { "{}", "{\"a\":1}", "{\"x\":9}", "{\"a\":1,\"x\":9,\"abc\":9}", "{\"\":9}", "{\"\xC3\xA8\":9}",
        "{\"\xC3\xA9\":4}", "{\"b\":9}" },
      { "{\"a\":9}", "{\"ab\":9}", "{\"\xC3\xA9\":9}", "{\"x\":1}", "{\"x\":9,\"a\":1}" } },
    { "{\"type\":\"object\",\"required\":[\"z\"],\"additionalProperties\":{\"type\":\"integer\"}}",
      { "{\"z\":1}", "{\"z\":1,\"y\":2}" },
      { "{}", "{\"y\":1}", "{\"z\":\"\"}", "{\"z\":1,\"z\":2}" } },
    { "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1,\"maxProperties\":2}",
      { "{\"a\":1}", "{\"a\":1,\"b\":2}" },
      { "{}", "{\"a\":1,\"b\":2,\"c\":3}" } },
    { "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}]}",
      { "1", "[]", "[[1],2,[[[]]]]" },
      { "[\"\"]", "[", "]" } },
    { "{\"$ref\":\"#/$defs/"
      "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{"
      "\"$ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
      { "{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}" },
      { "{\"v\":1}", "{\"v\":1,\"next\":{}}" } },
    { "{\"oneOf\":[{\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},\"required\":[\"t\",\"x\"],"
      "\"type\":\"object\"},{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":[\"t\"]}]}",
      { "{\"t\":\"a\",\"x\":1}", "{\"t\":\"b\"}" },
      { "{\"t\":\"a\"}", "{\"t\":\"c\"}" } },
    { "{\"type\":\"string\",\"pattern\":\"^[A-Z]{2,3}-\\\\d+$\"}",
      { "\"AB-1\"", "\"ABC-1234\"" },
      { "\"A-1\"", "\"AB-\"", "\"AB-1x\"", "\"xAB-1\"" } },
    { "{\"type\":\"string\",\"pattern\":\"ab|^c\"}",
      { "\"ab\"", "\"xaby\"", "\"c\"", "\"cd\"" },
      { "\"xc\"", "\"a\"" } },
    { "{\"type\":\"string\",\"pattern\":\"^(?:a|b\\\\.)*[^x\\\"]$\"}",
      { "\"ab.q\"", "\"q\"", "\"\\n\"", "\"\xC3\xA9\"" },
      { "\"x\"", "\"\\\"\"", "\"bq\"" } },
    { "{\"type\":\"string\",\"format\":\"date\"}",
      { "\"2024-12-31\"", "\"2024-02-28\"" },
      { "\"2024-13-01\"", "\"2023-02-30\"", "\"24-01-01\"" } },
    { "{\"type\":\"string\",\"format\":\"date-time\"}",
      { "\"2024-12-31T23:59:59Z\"", "\"2024-01-01T00:00:00.5+02:00\"" },
      { "\"2024-12-31\"", "\"2024-12-31T24:00:00Z\"" } },
    { "true", { "1", "{}", "[{\"a\":[null]}]", "\"x\"" }, { "", "nul", "[1" } },
    { "{}", { "1", "{\"a\":1.5}" }, { "x" } },
};

static void given(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mm_grammar *g = schema(cases[i].schema);
        int bad = !g;
        for (int k = 0; g && k < 8 && cases[i].yes[k]; k++)
            if (!takes(g, cases[i].yes[k])) bad++, printf("# not taken: %s\n", cases[i].yes[k]);
        for (int k = 0; g && k < 8 && cases[i].no[k]; k++)
            if (takes(g, cases[i].no[k])) bad++, printf("# taken: %s\n", cases[i].no[k]);
        ok(!bad, "schema %zu", i);
        mm_grammar_close(&g);
    }
}

static const struct { const char *schema; int code; const char *says; } refused[] = {
    { "{\"not\":{}}", MM_EUNSUP, "'#': keyword 'not' is not supported" },
    { "{\"properties\":{\"a\":{\"items\":{\"if\":{}}}}}", MM_EUNSUP, "'#/properties/a/items': keyword 'if'" },
    { "{\"type\":\"array\",\"uniqueItems\":true}", MM_EUNSUP, "uniqueItems" },
    { "{\"multipleOf\":2}", MM_EUNSUP, "multipleOf" },
    { "{\"patternProperties\":{}}", MM_EUNSUP, "patternProperties" },
    { "{\"$ref\":\"http://example.org/x\"}", MM_EUNSUP, "does not stay inside" },
    { "{\"$ref\":\"#/nope\"}", MM_EDATA, "there is no '#/nope'" },
    { "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}", MM_EDATA, "no text" },
    { "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"type\":\"null\"}]}}}", MM_EUNSUP, "begins with itself" },
    { "{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", MM_EDATA, "no text" },
    { "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", MM_EUNSUP, "may be both" },
    { "{\"oneOf\":[{\"properties\":{\"a\":{}}},{\"properties\":{\"b\":{}}}]}", MM_EUNSUP, "may be both" },
    { "{\"allOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", MM_EUNSUP, "'allOf'" },
    { "{\"anyOf\":[{\"type\":\"integer\"}],\"minimum\":3}", MM_EUNSUP, "'minimum' beside 'anyOf'" },
    { "{\"$ref\":\"#/$defs/a\",\"minLength\":3,\"$defs\":{\"a\":{}}}", MM_EUNSUP, "beside '$ref'" },
    { "{\"type\":\"string\",\"pattern\":\"a(?=b)\"}", MM_EUNSUP, "looking ahead" },
    { "{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", MM_EUNSUP, "this escape" },
    { "{\"type\":\"string\",\"pattern\":\"a^b\"}", MM_EUNSUP, "anchor" },
    { "{\"type\":\"string\",\"pattern\":\"(a\"}", MM_EUNSUP, "group without end" },
    { "{\"type\":\"string\",\"pattern\":\"*\"}", MM_EUNSUP, "repetition of nothing" },
    { "{\"type\":\"string\",\"pattern\":\"a\",\"minLength\":3}", MM_EUNSUP, "together" },
    { "{\"type\":\"string\",\"format\":\"email\"}", MM_EUNSUP, "'email'" },
    { "{\"type\":\"frog\"}", MM_EDATA, "'type'" },
    { "{\"type\":\"string\",\"minLength\":-1}", MM_EDATA, "'minLength'" },
    { "{\"type\":\"integer\",\"minimum\":\"x\"}", MM_EUNSUP, "'minimum'" },
    { "{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", MM_EDATA, "no text" },
    { "{\"enum\":[]}", MM_EDATA, "no text" },
    { "{\"required\":[\"a\"],\"additionalProperties\":false}", MM_EDATA, "no text" },
    { "false", MM_EDATA, "no text" },
    { "[1]", MM_EDATA, "is no schema" },
    { "{", MM_EDATA, "line 1" },
    { "{\"a\":1,\"a\":2}", MM_EDATA, "line 1" },
};

static void refusals(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        mm_grammar *g;
        int r = mm_grammar_from_schema(&g, refused[i].schema, strlen(refused[i].schema), &err);
        if (!ok(r == refused[i].code && strstr(err.msg, refused[i].says) && !g, "refused: %s", refused[i].schema)) printf("# %d %s\n", r, r ? err.msg : "");
        mm_grammar_close(&g);
    }
}

/* ---- rules ---- */

static const struct { const char *rules, *yes[5], *no[5]; } rule_cases[] = {
    { "root ::= \"a\" b* [0-9]+ # comment\nb ::= \"x\" | \"y\" b\n", { "a1", "ax12", "ayyxx3" }, { "a", "ay1", "1", "" } },
    { "root ::= (\"a\" | \"b\"){2,3} \"\\n\"?\n  | [^a-c\\]]{2}", { "ab", "aba\n", "de", "\xC3\xA9\xC3\xA9" }, { "a", "abab", "d]", "dc" } },
    { "root ::= item (\",\" item)*\nitem ::= \"(\" root \")\" | [a-z]", { "a", "a,b", "(a,(b,c)),d" }, { "(a", "a,", "ab" } },
    { "root ::= \"\\x41\\u00e9\\U0001F600\" .", { "A\xC3\xA9\xF0\x9F\x98\x80z" }, { "A" } },
    { "root ::= \"\" | \"a\" root", { "", "a", "aaa" }, { "b" } },
};
static const struct { const char *rules; int code; const char *says;
} rule_refused[] = {
    { "a ::= \"b\"", MM_EDATA, "no rule 'root'" },
    { "root ::= x", MM_EDATA, "no rule 'x'" },
    { "root ::= root \"a\" | \"b\"", MM_EUNSUP, "begins with itself" },
    { "root ::= \"a", MM_EDATA, "line 1" },
    { "root ::= (\"a\"", MM_EDATA, "group" },
    { "root ::= \"a\")", MM_EDATA, "bracket" },
    { "\n\nroot ::= $", MM_EDATA, "line 3" },
    { "root ::= \"a\"\nroot ::= \"b\"", MM_EDATA, "twice" },
    { "root ::= [z-a]", MM_EDATA, "backwards" },
    { "root ::= \"\\q\"", MM_EDATA, "escape" },
    { "x", MM_EDATA, "::=" },
    { "root ::= \"a\"{3,2}", MM_EDATA, "count" },
    { "root ::= a\na ::= b\nb ::= \"\"? a", MM_EDATA, "no text" },
};

static void rules(void)
{
    for (size_t i = 0; i < sizeof rule_cases / sizeof *rule_cases; i++) {
        mm_grammar *g;
        int bad = mm_grammar_from_rules(&g, rule_cases[i].rules, strlen(rule_cases[i].rules), &err) != 0;
        if (bad) printf("# %s\n", err.msg);
        for (int k = 0; g && k < 5 && rule_cases[i].yes[k]; k++)
            if (!takes(g, rule_cases[i].yes[k])) bad++, printf("# not taken: %s\n", rule_cases[i].yes[k]);
        for (int k = 0; g && k < 5 && rule_cases[i].no[k]; k++)
            if (takes(g, rule_cases[i].no[k])) bad++, printf("# taken: %s\n", rule_cases[i].no[k]);
        ok(!bad, "rules %zu", i);
        mm_grammar_close(&g);
    }
    for (size_t i = 0; i < sizeof rule_refused / sizeof *rule_refused; i++) {
        mm_grammar *g;
        int r = mm_grammar_from_rules(&g, rule_refused[i].rules, strlen(rule_refused[i].rules), &err);
        if (!ok(r == rule_refused[i].code && strstr(err.msg, rule_refused[i].says), "refused rules %zu", i)) printf("# %d %s\n", r, r ? err.msg : "");
        mm_grammar_close(&g);
    }
}

/* ---- random schemas ---- */

static mm_rng rng;
static uint32_t below(uint32_t n) { return mm_rng_below(&rng, n); }

static json_t *random_schema(int depth);

static json_t *random_object(int depth)
{
    static const char *const names[] = { "a", "ab", "abc", "name", "n\"q", "\xC3\xA9t\xC3\xA9", "x y", "" };
    json_t *s = json_pack("{s:s}", "type", "object"), *props = json_object(), *required = json_array();
    const uint32_t n = below(5);
    for (uint32_t i = 0; i < n; i++) {
        const char *name = names[below(8)];
        json_object_set_new(props, name, random_schema(depth + 1));
        if (below(2)) json_array_append_new(required, json_string(name));
    }
    if (!below(6)) json_array_append_new(required, json_string("more"));
    json_object_set_new(s, "properties", props);
    if (json_array_size(required)) json_object_set(s, "required", required);
    json_decref(required);
    if (!below(3)) json_object_set_new(s, "additionalProperties", below(2) ? json_false() : random_schema(depth + 1));
    if (json_is_false(json_object_get(s, "additionalProperties")) && json_object_get(s, "required")) {
        json_t *r = json_object_get(s, "required");
        for (size_t i = json_array_size(r); i-- > 0;)
            if (!json_object_get(props, json_string_value(json_array_get(r, i)))) json_array_remove(r, i);
    }
    return s;
}

static json_t *random_number(void)
{
    const int whole = (int)below(2);
    json_t *s = json_pack("{s:s}", "type", whole ? "integer" : "number");
    const int lo = (int)below(2000) - 1000, hi = lo + (int)below(3000);
    if (below(2)) json_object_set_new(s, below(3) ? "minimum" : "exclusiveMinimum", below(2) ? json_integer(lo) : json_real(lo / 8.0));
    if (below(2)) json_object_set_new(s, below(3) ? "maximum" : "exclusiveMaximum", json_integer(hi + 1500));
    return s;
}

static json_t *random_schema(int depth)
{
    switch (below(depth > 3 ? 5 : 11)) {
    case 0: return json_pack("{s:s}", "type", below(2) ? "boolean" : "null");
    case 1: return random_number();
    case 2: {
        json_t *s = json_pack("{s:s,s:s}", "type", "string", "description", "anything");
        const json_int_t min = below(4);
        if (below(2)) json_object_set_new(s, "minLength", json_integer(min));
        if (below(2)) json_object_set_new(s, "maxLength", json_integer(min + below(9)));
        return s;
    }
    case 3: return below(2) ? json_pack("{s:[s,i,n,b,f]}", "enum", "x\n", 5, 0, 2.5) : json_pack("{s:{s:[i]}}", "const", "k", 1);
    case 4: return json_pack("{s:[s,s]}", "type", below(2) ? "string" : "integer", below(2) ? "null" : "boolean");
    case 5:
    case 6: return random_object(depth);
    case 7: {
        json_t *s = json_pack("{s:s,s:o}", "type", "array", "items", random_schema(depth + 1));
        const json_int_t min = below(3);
        if (below(2)) json_object_set_new(s, "minItems", json_integer(min));
        if (below(2)) json_object_set_new(s, "maxItems", json_integer(min + below(4)));
        if (!below(4)) json_object_set_new(s, "prefixItems", json_pack("[o,o]", random_schema(depth + 1), random_schema(depth + 1)));
        return s;
    }
    case 8: return json_pack("{s:[o,o]}", "anyOf", random_schema(depth + 1), random_schema(depth + 1));
    case 9: return json_pack("{s:[{s:s},o,{s:s}]}", "oneOf", "type", "string", random_object(depth), "type", "null");
    default: return json_pack("{s:s}", "$ref", "#/$defs/node");
    }
}

/* A walk: random tokens of those allowed, up to `left` of them. */
static int walk(mm_grammar *g, size_t left, mm_buf *text)
{
    mm_cursor *c = mm_cursor_new(g);
    const uint64_t *mask;
    int r = 0;
    mm_buf_reset(text);
    for (;;) {
        const int end = mm_cursor_end(c);
        if ((end & MM_END_MUST) || ((end & MM_END_MAY) && !below(3))) break;
        if (!left && (end & MM_END_MAY)) break;
        r = mm_cursor_allow(c, left, &mask, &err);
        if (r == MM_EDATA && (end & MM_END_MAY)) r = 0, left = 0; /* what could follow takes more than is left */
        if (r) break;
        if (!left) break;
        size_t n = 0, pick = vocab;
        for (size_t i = 0; i < vocab; i++)
            if (mask[i / 64] >> i % 64 & 1 && !below((uint32_t)++n)) pick = i;
        const size_t from = text->len;
        if ((r = mm_tok_piece(tok, (int32_t)pick, text, &err)) || (r = mm_cursor_accept(c, text->p + from, text->len - from))) break;
        left--;
    }
    mm_cursor_free(&c);
    return r;
}

static void walks(void)
{
    mm_buf text = { 0 };
    int bad = 0, none = 0, texts = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        rng = mm_rng_at(11, i, 0, 0);
        json_t *s = random_schema(0);
        json_object_set_new(s, "$defs",
                            json_pack("{s:{s:s,s:{s:o,s:{s:s,s:{s:s},s:i}}}}", "node", "type", "object", "properties",
                                      "v", random_number(), "kids", "type", "array", "items", "$ref", "#/$defs/node",
                                      "maxItems", 3));
        char *json = json_dumps(s, 0);
        mm_grammar *g = NULL;
        int r = mm_grammar_from_schema(&g, json, strlen(json), &err);
        none += r == MM_EDATA && strstr(err.msg, "no text is allowed") != NULL;
        if (r && !(r == MM_EDATA && strstr(err.msg, "no text is allowed"))) bad++, printf("# %s\n# %s\n", err.msg, json);
        if (!r) r = mm_grammar_bind(g, tok, vocab, &err);
        for (int k = 0; k < 3 && !r; k++) {
            const size_t left = k == 2 ? mm_grammar_least(g) : mm_grammar_least(g) + below(60);
            r = walk(g, left, &text);
            json_t *v = r ? NULL : json_loadb(text.p, text.len, JSON_DECODE_ANY, NULL);
            texts++;
            if (!v || !check_valid(s, s, v)) bad++, printf("# %s\n# -> %.*s %s\n", json, (int)text.len, text.p ? text.p : "", r ? err.msg : "");
            json_decref(v);
        }
        mm_grammar_close(&g);
        free(json);
        json_decref(s);
    }
    ok(!bad && texts > 2500, "%d texts of 1000 random schemas are valid (%d schemas allow none)", texts, none);
    mm_buf_clear(&text);
}

/* Many states: they are forgotten on the way, under the cursors. */
static void forgetting(void)
{
    mm_grammar *g = schema("{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":30000,\"maxLength\":40000},\"minItems\":2,\"maxItems\":2}");
    const uint64_t *mask;
    int r = mm_grammar_bind(g, tok, vocab, &err), bad = 0;
    mm_cursor *c = mm_cursor_new(g), *other = mm_cursor_new(g);
    r |= mm_cursor_accept(other, "[\"ab", 4);
    r |= mm_cursor_accept(c, "[\"", 2);
    for (int i = 0; i < 19999 && !r; i++) {
        r = mm_cursor_accept(c, i % 2 ? "\xC3\xA9z" : "xy", i % 2 ? 3 : 2);
        if (i % 1000 == 1 && !r) r = mm_cursor_allow(c, SIZE_MAX, &mask, &err);
        if (i % 1000 == 1) bad += mm_cursor_allow(other, SIZE_MAX, &mask, &err) != 0;
    }
    ok(!r && !bad, "40000 characters, one state each");
    const int quote = mm_tok_id(tok, "\"", 1);
    bad = mm_cursor_allow(other, SIZE_MAX, &mask, &err) || (mask[quote / 64] >> quote % 64 & 1);
    ok(!bad, "the other cursor is where it was: its string is too short to end");
    mm_cursor_free(&c);
    mm_cursor_free(&other);
    mm_grammar_close(&g);
}

int main(void)
{
    const char *root = getenv("MM_ROOT");
    char path[1024];
    mm_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tests/golden/tok-bytes.json", root ? root : ".");
    if (mm_file_read(&b, path, 1 << 24, &err) || mm_tok_from_json(&tok, b.p, b.len, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    mm_buf_clear(&b);
    vocab = mm_tok_vocab(tok);
    given();
    refusals();
    rules();
    walks();
    forgetting();
    mm_tok_free(&tok);
    return done();
}

/* Chat templates: what jinja2 makes of them (tests/golden/chat.jsonl, written by scripts/parity/golden-chat), what is refused and how. */
#include <stdlib.h>
#include "base/mm_base.h"
#include "gen/mm_chat.h"
#include "tap.h"

static mm_err err;

static int render(const char *template, size_t len, const json_t *vars, mm_buf *out)
{
    mm_chat *c;
    mm_chat_vars v = { .bos = "<s>", .eos = "</s>", .now = 1721990000, .more = vars }; /* 26 July 2024 */
    json_t *none = json_array();
    v.messages = json_object_get(vars, "messages");
    v.tools = json_object_get(vars, "tools");
    v.generate = json_is_true(json_object_get(vars, "add_generation_prompt"));
    if (!v.messages) v.messages = none;
    mm_buf_reset(out);
    int r = mm_chat_open(&c, template, len, &err);
    if (!r) r = mm_chat_render(c, &v, out, &err);
    mm_chat_close(&c);
    json_decref(none);
    return r;
}

static void golden(void)
{
    const char *root = getenv("MM_ROOT");
    char path[1024], last[64] = "";
    mm_buf file = { 0 }, out = { 0 };
    int bad = 0, cases = 0;
    char *template = NULL;
    snprintf(path, sizeof path, "%s/tests/golden/chat.jsonl", root ? root : ".");
    if (!ok(!mm_file_read(&file, path, 1 << 24, &err), "the golden file is there")) return;
    for (char *p = file.p, *nl; (nl = strchr(p, '\n')); p = nl + 1) {
        json_t *j = mm_json_load(p, (size_t)(nl - p), path, &err);
        const char *name = json_string_value(json_object_get(j, "name"));
        const json_t *t = json_object_get(j, "template"), *want = json_object_get(j, "want"), *error = json_object_get(j, "error");
        if (t) {
            free(template);
            template = strdup(json_string_value(t));
        }
        if (strcmp(name, last) && last[0]) {
            ok(!bad, "%s: %d cases", last, cases);
            bad = cases = 0;
        }
        snprintf(last, sizeof last, "%s", name);
        cases++;
        int r = render(template, strlen(template), json_object_get(j, "vars"), &out);
        int good = want ? !r && out.len == json_string_length(want) && !memcmp(out.p ? out.p : "", json_string_value(want), out.len)
                        : r == MM_EDATA && strstr(err.msg, json_string_value(error)) != NULL;
        if (!good) {
            bad++;
            printf("# %s\n# want '%s'\n# got  '%s'\n", r ? err.msg : "", json_string_value(want ? want : error), out.p ? out.p : "");
        }
        json_decref(j);
    }
    ok(!bad, "%s: %d cases", last, cases);
    free(template);
    mm_buf_clear(&file);
    mm_buf_clear(&out);
}

static const struct { const char *template; int code; const char *says; } refused[] = {
    { "a\nb\n{{ x | frobnicate }}", MM_EUNSUP, "line 3: filter 'frobnicate' is not supported" },
    { "{% include 'x' %}", MM_EUNSUP, "line 1: statement 'include' is not supported" },
    { "{% extends 'x' %}", MM_EUNSUP, "statement 'extends'" },
    { "{% import 'x' as y %}", MM_EUNSUP, "statement 'import'" },
    { "{% call m() %}{% endcall %}", MM_EUNSUP, "statement 'call'" },
    { "{% filter upper %}{% endfilter %}", MM_EUNSUP, "statement 'filter'" },
    { "{% with a = 1 %}{% endwith %}", MM_EUNSUP, "statement 'with'" },
    { "{% for x in y recursive %}{% endfor %}", MM_EUNSUP, "recursive" },
    { "{{ x is frobnicated }}", MM_EUNSUP, "test 'frobnicated'" },
    { "{{ lipsum() }}", MM_EUNSUP, "function 'lipsum'" },
    { "{{ 'a'.center(5) }}", MM_EUNSUP, "'center' of a string" },
    { "{{ [1].append(2) }}", MM_EUNSUP, "'append' of a list" },
    { "{{ '%s' % 1 }}", MM_EUNSUP, "formatting" },
    { "{{ f(*x) }}", MM_EUNSUP, "arguments by '*'" },
    { "{{ 'Straße'.upper() }}", MM_EUNSUP, "case of this character" },
    { "{{ x.y }}", MM_EDATA, "'x' is undefined" },
    { "{{ x + 1 }}", MM_EDATA, "'x' is undefined" },
    { "{{ 1 + 'a' }}", MM_EDATA, "'+' of integer and string" },
    { "{{ 1 // 0 }}", MM_EDATA, "division by zero" },
    { "{{ 9223372036854775807 + 1 }}", MM_EDATA, "too large" },
    { "{{ 99999999999999999999 }}", MM_EDATA, "too large" },
    { "{{ [1] < 2 }}", MM_EDATA, "no order" },
    { "{{ 'abc'[::0] }}", MM_EDATA, "step is 0" },
    { "{% for a, b in [[1]] %}{% endfor %}", MM_EDATA, "2 names for 1 values" },
    { "{% for x in 5 %}{% endfor %}", MM_EDATA, "integer is no sequence" },
    { "{{ raise_exception('so it\nis') }}", MM_EDATA, "the template says: so it" },
    { "{% set x.y = 1 %}", MM_EDATA, "no namespace" },
    { "{{ 1", MM_EDATA, "does not end" },
    { "{{ 'a }}", MM_EDATA, "a string does not end" },
    { "{% if x %}", MM_EDATA, "ends too early" },
    { "{% endif %}", MM_EDATA, "'endif' is not expected" },
    { "{% if x %}{% endfor %}", MM_EDATA, "'endfor' is not expected here" },
    { "{% break %}", MM_EDATA, "'break' is not expected" },
    { "{{ }}", MM_EDATA, "'}}' is not expected" },
    { "{{ a b }}", MM_EDATA, "'b' is not expected" },
    { "{{ 1 + }}", MM_EDATA, "'}}' is not expected" },
    { "{# x", MM_EDATA, "comment does not end" },
    { "{% raw %}", MM_EDATA, "raw has no endraw" },
    { "{{ 1 ? 2 }}", MM_EDATA, "belongs to no expression" },
    { "\xFF", MM_EDATA, "not valid UTF-8" },
    { "{% for i in range(2000) %}{% for j in range(2000) %}{% for k in range(2000) %}x{% endfor %}{% endfor %}{% endfor %}", MM_ELONG, "too many steps" },
    { "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", MM_ELONG, "nested too deep" },
    { "{{ 'x' * 99999999999 }}", MM_ELONG, "too long" },
    { "{{ range(9999999) }}", MM_ELONG, "range is too long" },
    { "{% set n = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}", MM_ELONG, "too many steps" },
};

static void refusals(void)
{
    mm_buf out = { 0 };
    json_t *none = json_object();
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int r = render(refused[i].template, strlen(refused[i].template), none, &out);
        if (!ok(r == refused[i].code && (!r || strstr(err.msg, refused[i].says)), "'%.40s' is refused", i ? refused[i].template : "a filter in line 3"))
            printf("# %d %s\n", r, r ? err.msg : "");
    }
    /* nesting does not reach the end of the stack */
    static const struct {
        const char *open, *close;
    } deep[] = { { "(", ")" }, { "[", "]" }, { "not ", "" }, { "-", "" }, { "{'a':", "}" }, { "1 if x else ", "" } };
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        mm_buf t = { 0 };
        mm_buf_adds(&t, "{{ ");
        for (int k = 0; k < 50000; k++) mm_buf_adds(&t, deep[i].open);
        mm_buf_adds(&t, "1");
        for (int k = 0; k < 50000; k++) mm_buf_adds(&t, deep[i].close);
        mm_buf_adds(&t, " }}");
        int r = render(t.p, t.len, none, &out);
        if (!ok(r == MM_EUNSUP || r == MM_EDATA, "50000 times '%s'", deep[i].open)) printf("# %d\n", r);
        mm_buf_clear(&t);
    }
    mm_buf t = { 0 };
    for (int k = 0; k < 30000; k++) mm_buf_adds(&t, k ? "{% elif x %}" : "{% if x %}");
    ok(render(t.p, t.len, none, &out) == MM_EUNSUP, "30000 times elif");
    mm_buf_clear(&t);
    mm_buf_clear(&out);
    json_decref(none);
}

int main(void)
{
    golden();
    refusals();
    return done();
}

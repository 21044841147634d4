#include "gen/mm_chat.h"
#include <stdlib.h>
#include <string.h>
#include "gen/jinja_int.h"

int mm_chat_open(mm_chat **out, const char *source, size_t len, mm_err *err)
{
    mm_chat *c = calloc(1, sizeof *c);
    char *s = c ? mm_arena_alloc(&c->arena, len + 1, 1) : NULL;
    jtoken *tokens;
    size_t n = 0;
    *out = NULL;
    if (!s) {
        free(c);
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < len; i++) /* every kind of line end is one, and the last does not count */
        if (source[i] != '\r') s[n++] = source[i];
        else if (i + 1 == len || source[i + 1] != '\n') s[n++] = '\n';
    n -= n && s[n - 1] == '\n';
    int r = jinja_lex(&c->arena, s, n, &tokens, err);
    if (!r) r = jinja_parse(c, tokens, err);
    if (r) mm_chat_close(&c);
    *out = c;
    return r;
}

void mm_chat_close(mm_chat **chat)
{
    if (!*chat) return;
    mm_arena_clear(&(*chat)->arena);
    free(*chat);
    *chat = NULL;
}

static void define(jrun *r, const char *name, jval v) { jinja_put(r, &r->top->vars, jinja_slice((mm_slice){ name, strlen(name) }), v); }

int mm_chat_render(const mm_chat *chat, const mm_chat_vars *vars, mm_buf *out, mm_err *err)
{
    mm_arena arena = { 0 };
    jscope top = { 0 };
    mm_buf text = { 0 };
    jrun r = { .arena = &arena, .out = &text, .scope = &top, .top = &top, .now = vars->now, .err = err };
    const char *bos = vars->bos ? vars->bos : "", *eos = vars->eos ? vars->eos : "";
    define(&r, "messages", jinja_from_json(&r, vars->messages, 0));
    define(&r, "tools", vars->tools ? jinja_from_json(&r, vars->tools, 0) : jinja_none());
    define(&r, "bos_token", jinja_slice((mm_slice){ bos, strlen(bos) }));
    define(&r, "eos_token", jinja_slice((mm_slice){ eos, strlen(eos) }));
    define(&r, "add_generation_prompt", jinja_bool(vars->generate));
    if (vars->more) {
        const jval more = jinja_from_json(&r, vars->more, 0);
        for (size_t i = 0; more.kind == J_DICT && i < more.u.dict->n; i++) jinja_put(&r, &top.vars, more.u.dict->key[i], more.u.dict->val[i]);
    }
    jinja_body(&r, chat->body);
    if (!r.failed && text.len && mm_buf_add(out, text.p, text.len)) r.failed = mm_fail(err, MM_ENOMEM, "out of memory");
    mm_buf_clear(&text);
    mm_arena_clear(&arena);
    return r.failed;
}

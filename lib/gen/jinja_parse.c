/* Tokens into a tree: statements, by recursive descent. What is not known is refused here. */
#include <string.h>
#include "gen/jinja_parse.h"

static jnode *body(parser *p, const char *const *until);

static int block_end(parser *p)
{
    if (p->t->kind != T_BLOCK_END) return jparse_unexpected(p), 0;
    p->t++;
    return !p->failed;
}

static jnode *statement(parser *p, nkind kind)
{
    jnode *n = jparse_get(p, 1, sizeof *n);
    if (!n) return NULL;
    n->kind = kind;
    n->line = p->t->line;
    return n;
}

/* Behind a body: which of its ends it was. The caller knows the words. */
static int ended_by(parser *p, const char *word)
{
    if (p->failed || p->t->kind != T_BLOCK || p->t[1].kind != T_NAME || !jinja_is(p->t[1].s, word)) return 0;
    p->t += 2;
    return 1;
}

static jnode *if_statement(parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    jnode *n = statement(p, N_IF);
    if (!n) return NULL;
    n->x = jparse_expression(p);
    if (p->failed || !block_end(p)) return NULL;
    n->body = body(p, ends);
    if (ended_by(p, "elif")) {
        if (p->depth++ > 10 * DEEPEST) return jparse_refuse(p, MM_EUNSUP, "statements are nested too deep%.*s", "", 0);
        n->other = if_statement(p);
        p->depth--;
    } else if (ended_by(p, "else")) {
        if (block_end(p)) n->other = body(p, ends + 2);
        if (ended_by(p, "endif")) block_end(p);
        else jparse_unexpected(p);
    } else if (ended_by(p, "endif")) block_end(p);
    else jparse_unexpected(p);
    return n;
}

static int targets(parser *p, jnode *n)
{
    const int bracket = jparse_take_op(p, "(");
    do {
        if (p->t->kind != T_NAME || n->n_names == sizeof n->names / sizeof *n->names) return jparse_unexpected(p), 0;
        n->names[n->n_names++] = (p->t++)->s;
    } while (jparse_take_op(p, ","));
    return !bracket || jparse_need_op(p, ")");
}

static jnode *for_statement(parser *p)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    jnode *n = statement(p, N_FOR);
    if (!n || !targets(p, n)) return NULL;
    if (!jparse_take_word(p, "in")) return jparse_unexpected(p);
    n->x = jparse_disjunction(p); /* "if" belongs to the loop */
    if (jparse_take_word(p, "if")) n->cond = jparse_expression(p);
    if (jparse_is_word(p, "recursive")) return jparse_refuse(p, MM_EUNSUP, "'for ... %.*s' is not supported", p->t->s.p, p->t->s.len);
    if (p->failed || !block_end(p)) return NULL;
    p->loops++;
    n->body = body(p, ends);
    p->loops--;
    if (ended_by(p, "else")) {
        if (block_end(p)) n->other = body(p, ends + 1);
    }
    if (ended_by(p, "endfor")) block_end(p);
    else jparse_unexpected(p);
    return n;
}

static jnode *set_statement(parser *p)
{
    static const char *const ends[] = { "endset", NULL };
    jnode *n = statement(p, N_SET);
    if (!n || !targets(p, n)) return NULL;
    if (n->n_names == 1 && jparse_take_op(p, ".")) {
        if (p->t->kind != T_NAME) return jparse_unexpected(p);
        n->attr = (p->t++)->s;
    }
    if (p->t->kind == T_BLOCK_END && n->n_names == 1 && !n->attr.len) {
        n->kind = N_CAPTURE;
        p->t++;
        n->body = body(p, ends);
        if (ended_by(p, "endset")) block_end(p);
        else jparse_unexpected(p);
        return n;
    }
    if (jparse_is_op(p, "|")) return jparse_refuse(p, MM_EUNSUP, "'set' with a filter '%.*s' is not supported", p->t->s.p, p->t->s.len);
    if (!jparse_need_op(p, "=")) return NULL;
    n->x = jparse_expression(p);
    if (!p->failed && jparse_is_op(p, ",")) { /* set a, b = x, y */
        jexpr *all = jparse_node(p, X_LIST, NULL, NULL);
        jarg *last = NULL, *a = all ? jparse_add_arg(p, all, &last) : NULL;
        if (!a) return NULL;
        all->tuple = 1;
        a->x = n->x;
        while (!p->failed && jparse_take_op(p, ","))
            if ((a = jparse_add_arg(p, all, &last))) a->x = jparse_expression(p);
        n->x = all;
    }
    return block_end(p) ? n : NULL;
}

static jnode *macro_statement(parser *p)
{
    static const char *const ends[] = { "endmacro", NULL };
    jnode *n = statement(p, N_MACRO);
    jexpr params = { 0 };
    if (!n) return NULL;
    if (p->t->kind != T_NAME) return jparse_unexpected(p);
    n->text = (p->t++)->s;
    if (!jparse_need_op(p, "(")) return NULL;
    jparse_arguments(p, &params);
    for (jarg *a = params.args; a && !p->failed; a = a->next) {
        if (a->name.len) continue;
        if (a->x->kind != X_NAME) return jparse_unexpected(p);
        a->name = a->x->name;
        a->x = NULL; /* no default */
    }
    n->params = params.args;
    n->n_params = params.n_args;
    if (p->failed || !block_end(p)) return NULL;
    const int loops = p->loops;
    p->loops = 0;
    n->body = body(p, ends);
    p->loops = loops;
    if (!ended_by(p, "endmacro")) return jparse_unexpected(p);
    if (p->t->kind == T_NAME) p->t++;
    return block_end(p) ? n : NULL;
}

/* {% generation %} marks what is trained on: nothing to us */
static jnode *generation(parser *p)
{
    static const char *const ends[] = { "endgeneration", NULL };
    jnode *n = statement(p, N_BODY);
    if (!n || !block_end(p)) return NULL;
    n->body = body(p, ends);
    if (ended_by(p, "endgeneration")) block_end(p);
    else jparse_unexpected(p);
    return n;
}

static jnode *block(parser *p)
{
    const jtoken *t = p->t;
    if (t->kind != T_NAME) return jparse_unexpected(p);
    p->t++;
    if (jinja_is(t->s, "if")) return if_statement(p);
    if (jinja_is(t->s, "for")) return for_statement(p);
    if (jinja_is(t->s, "set")) return set_statement(p);
    if (jinja_is(t->s, "macro")) return macro_statement(p);
    if (jinja_is(t->s, "generation")) return generation(p);
    if (jinja_is(t->s, "break") || jinja_is(t->s, "continue")) {
        jnode *n = statement(p, jinja_is(t->s, "break") ? N_BREAK : N_CONTINUE);
        if (!p->loops) return p->t--, jparse_unexpected(p);
        return n && block_end(p) ? n : NULL;
    }
    p->t--;
    static const char *const ends[] = { "elif", "else", "endif", "endfor", "endset", "endmacro", "endgeneration", "endraw" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (jinja_is(t->s, ends[i])) return jparse_unexpected(p);
    return jparse_refuse(p, MM_EUNSUP, "statement '%.*s' is not supported", t->s.p, t->s.len);
}

/* Statements up to a block that begins with one of the words, which is left in place; NULL: to the end. */
static jnode *body(parser *p, const char *const *until)
{
    jnode *first = NULL, **at = &first;
    if (p->depth++ > DEEPEST) return jparse_refuse(p, MM_EUNSUP, "statements are nested too deep%.*s", "", 0);
    while (!p->failed && p->t->kind != T_END) {
        jnode *n = NULL;
        if (p->t->kind == T_TEXT) {
            if ((n = statement(p, N_TEXT))) n->text = (p->t++)->s;
        } else if (p->t->kind == T_VAR) {
            p->t++;
            if ((n = statement(p, N_OUT))) n->x = jparse_expression(p);
            if (!p->failed && p->t->kind != T_VAR_END) jparse_unexpected(p);
            else p->t++;
        } else {
            for (size_t i = 0; until && until[i]; i++)
                if (p->t[1].kind == T_NAME && jinja_is(p->t[1].s, until[i])) {
                    p->depth--;
                    return first;
                }
            p->t++;
            n = block(p);
        }
        *at = n;
        if (n) at = &n->next;
    }
    p->depth--;
    if (until) jparse_unexpected(p);
    return first;
}

int jinja_parse(mm_chat *chat, const jtoken *tokens, mm_err *err)
{
    parser p = { .arena = &chat->arena, .t = tokens, .err = err };
    chat->body = body(&p, NULL);
    return p.failed;
}

/* Walking the tree. A loop's body and a macro have scopes of their own, an if has none: what is set in a loop is gone after it. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "gen/jinja_int.h"

#define MAX_STEPS UINT64_C(20000000)
#define MAX_OUTPUT ((size_t)64 << 20)
#define DEEPEST 60 /* macros in macros */

jval jinja_fail(jrun *r, int code, const char *fmt, ...)
{
    char message[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (!r->failed) r->failed = mm_fail(r->err, code, "chat template: line %d: %s", r->line, message);
    return jinja_undefined((mm_slice){ "", 0 });
}

int jinja_step(jrun *r, size_t n)
{
    if (r->failed) return r->failed;
    r->steps += n + 1;
    if (r->steps > MAX_STEPS) jinja_fail(r, MM_ELONG, "the template takes too many steps");
    if (r->out && r->out->len > MAX_OUTPUT) jinja_fail(r, MM_ELONG, "the template writes too much");
    return r->failed;
}

static void set(jrun *r, jscope *s, mm_slice name, jval v) { jinja_put(r, &s->vars, jinja_slice(name), v); }

static jval lookup(jrun *r, mm_slice name)
{
    for (const jscope *s = r->scope; s; s = s->up) {
        const jval *v = jinja_get(&s->vars, name);
        if (v) return *v;
    }
    return jinja_function_known(name) ? (jval){ .kind = J_FUNC, .u.s = name } : jinja_undefined(name);
}

static int is_number(jval v) { return jinja_is_int(v) || v.kind == J_FLOAT; }
static double number(jval v) { return v.kind == J_FLOAT ? v.u.f : (double)v.u.i; }
static jval real(double f) { return (jval){ .kind = J_FLOAT, .u.f = f }; }

static jval attribute(jrun *r, jval of, mm_slice name)
{
    if (of.kind == J_UNDEFINED) return jinja_fail(r, MM_EDATA, "'%.*s' is undefined", (int)of.u.s.len, of.u.s.p);
    if (of.kind == J_DICT) {
        const jval *v = jinja_get(of.u.dict, name);
        /* a mapping's methods come first, as in Jinja */
        if (v && (of.tuple || !jinja_method_known(of.kind, name))) return *v;
    }
    if (!jinja_method_known(of.kind, name)) {
        if (jinja_method_refused(of.kind, name)) return jinja_fail(r, MM_EUNSUP, "'%.*s' of a %s is not supported", (int)name.len, name.p, jinja_type(of));
        return jinja_undefined(name);
    }
    jmethod *m = mm_arena_alloc(r->arena, 1, sizeof *m);
    if (!m) return jinja_fail(r, MM_ENOMEM, "out of memory");
    *m = (jmethod){ of, name };
    return (jval){ .kind = J_METHOD, .u.method = m };
}

static jval item(jrun *r, jval of, jval at)
{
    if (of.kind == J_UNDEFINED) return jinja_fail(r, MM_EDATA, "'%.*s' is undefined", (int)of.u.s.len, of.u.s.p);
    if (of.kind == J_DICT) {
        for (size_t i = 0; i < of.u.dict->n; i++)
            if (jinja_equal(of.u.dict->key[i], at)) return of.u.dict->val[i];
        return jinja_undefined(at.kind == J_STR ? at.u.s : (mm_slice){ "item", 4 });
    }
    if (at.kind == J_STR) return jinja_undefined(at.u.s);
    if (!jinja_is_int(at) || (of.kind != J_LIST && of.kind != J_STR)) return jinja_undefined((mm_slice){ "item", 4 });
    const int64_t n = (int64_t)(of.kind == J_LIST ? of.u.list->n : jinja_chars(of.u.s)), i = at.u.i < 0 ? at.u.i + n : at.u.i;
    if (i < 0 || i >= n) return jinja_undefined((mm_slice){ "item", 4 });
    return of.kind == J_LIST ? of.u.list->v[i] : jinja_slice(jinja_sub(of.u.s, (size_t)i, (size_t)i + 1));
}

/* Python's slice: where it begins, how many items it has, and its step. */
static int bounds(jrun *r, const jexpr *x, int64_t n, int64_t *from, int64_t *count, int64_t *step)
{
    const jexpr *part[3] = { x->b, x->c, x->d };
    jval v[3];
    for (int i = 0; i < 3; i++) {
        v[i] = part[i] ? jinja_expr(r, part[i]) : jinja_none();
        if (v[i].kind != J_NONE && !jinja_is_int(v[i])) return jinja_fail(r, MM_EDATA, "a slice's bounds are no integers"), 0;
    }
    *step = v[2].kind == J_NONE ? 1 : v[2].u.i;
    if (!*step || *step < -n - 1 || *step > n + 1) {
        if (!*step) return jinja_fail(r, MM_EDATA, "a slice's step is 0"), 0;
        *step = *step < 0 ? -n - 1 : n + 1;
    }
    const int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
    int64_t end[2];
    for (int i = 0; i < 2; i++) {
        int64_t k = v[i].kind == J_NONE ? 0 : v[i].u.i;
        if (k < 0) k = k < -n ? low : k + n;
        if (k < low) k = low;
        if (k > high) k = high;
        end[i] = v[i].kind != J_NONE ? k : (i == 0) == (*step > 0) ? low : high;
    }
    *from = end[0];
    const int64_t span = *step > 0 ? end[1] - end[0] : end[0] - end[1], stride = *step > 0 ? *step : -*step;
    *count = span > 0 ? (span + stride - 1) / stride : 0;
    return !r->failed;
}

static jval slice(jrun *r, const jexpr *x, jval of)
{
    int64_t from, count, step;
    if (of.kind == J_UNDEFINED) return jinja_fail(r, MM_EDATA, "'%.*s' is undefined", (int)of.u.s.len, of.u.s.p);
    if (of.kind != J_LIST && of.kind != J_STR) return jinja_fail(r, MM_EDATA, "a %s cannot be sliced", jinja_type(of));
    const int64_t n = (int64_t)(of.kind == J_LIST ? of.u.list->n : jinja_chars(of.u.s));
    if (!bounds(r, x, n, &from, &count, &step)) return jinja_none();
    if (of.kind == J_STR && step == 1) return jinja_slice(jinja_sub(of.u.s, (size_t)from, (size_t)(from + count)));
    jval all = jinja_items(r, of), v = jinja_list(r, (size_t)count, of.tuple);
    for (int64_t i = 0; i < count && !r->failed; i++) v.u.list->v[i] = all.u.list->v[from + i * step];
    if (of.kind == J_LIST || r->failed) return v;
    mm_buf b = { 0 };
    for (int64_t i = 0; i < count; i++) jinja_write(r, &b, v.u.list->v[i], 0);
    return jinja_take(r, &b);
}

/* ---- operators ---- */

static jval join(jrun *r, jval a, jval b)
{
    mm_buf s = { 0 };
    jinja_write(r, &s, a, 0);
    jinja_write(r, &s, b, 0);
    return jinja_take(r, &s);
}

static jval repeated(jrun *r, jval v, int64_t n)
{
    const size_t len = v.kind == J_LIST ? v.u.list->n : v.u.s.len;
    if (n < 0) n = 0;
    if (n && len > MAX_OUTPUT / (size_t)n) return jinja_fail(r, MM_ELONG, "a product is too long");
    if (v.kind == J_STR) {
        mm_buf s = { 0 };
        for (int64_t i = 0; i < n; i++) mm_buf_add(&s, v.u.s.p, len);
        return jinja_take(r, &s);
    }
    jval l = jinja_list(r, len * (size_t)n, v.tuple);
    for (size_t i = 0; l.kind == J_LIST && i < l.u.list->n; i++) l.u.list->v[i] = v.u.list->v[i % len];
    return l;
}

static jval whole(jrun *r, xkind op, int64_t a, int64_t b)
{
    int64_t v = 0;
    int over = 0;
    switch (op) {
    case X_ADD: over = __builtin_add_overflow(a, b, &v); break;
    case X_SUB: over = __builtin_sub_overflow(a, b, &v); break;
    case X_MUL: over = __builtin_mul_overflow(a, b, &v); break;
    case X_POW:
        if (b < 0) return real(pow((double)a, (double)b));
        for (v = 1; b > 0 && !over; b--) over = jinja_step(r, 0) || __builtin_mul_overflow(v, a, &v);
        break;
    default:
        if (!b) return jinja_fail(r, MM_EDATA, "division by zero");
        if (b == -1) {
            if (op == X_FLOOR) over = __builtin_sub_overflow((int64_t)0, a, &v);
            break;
        }
        v = op == X_FLOOR ? a / b - ((a % b != 0) && ((a < 0) != (b < 0))) : a % b + ((a % b != 0) && ((a < 0) != (b < 0)) ? b : 0);
    }
    return over ? jinja_fail(r, MM_EDATA, "a number is too large") : jinja_int(v);
}

static jval arithmetic(jrun *r, xkind op, jval a, jval b)
{
    static const char *const signs[] = { "+", "-", "*", "/", "//", "%", "**" };
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        const jval u = a.kind == J_UNDEFINED ? a : b;
        return jinja_fail(r, MM_EDATA, "'%.*s' is undefined", (int)u.u.s.len, u.u.s.p);
    }
    if (jinja_is_int(a) && jinja_is_int(b) && op != X_DIV) return whole(r, op, a.u.i, b.u.i);
    if (is_number(a) && is_number(b)) {
        const double x = number(a), y = number(b);
        if ((op == X_DIV || op == X_FLOOR || op == X_MOD) && !(y < 0 || y > 0)) return jinja_fail(r, MM_EDATA, "division by zero");
        switch (op) {
        case X_ADD: return real(x + y);
        case X_SUB: return real(x - y);
        case X_MUL: return real(x * y);
        case X_DIV: return real(x / y);
        case X_FLOOR: return real(floor(x / y));
        case X_MOD: return real(x - floor(x / y) * y);
        default: return real(pow(x, y));
        }
    }
    if (op == X_ADD && a.kind == J_STR && b.kind == J_STR) return join(r, a, b);
    if (op == X_ADD && a.kind == J_LIST && b.kind == J_LIST && a.tuple == b.tuple) {
        const size_t n = a.u.list->n, m = b.u.list->n;
        jval l = jinja_list(r, n + m, a.tuple);
        for (size_t i = 0; l.kind == J_LIST && i < n + m; i++) l.u.list->v[i] = i < n ? a.u.list->v[i] : b.u.list->v[i - n];
        return l;
    }
    if (op == X_MUL && (a.kind == J_STR || a.kind == J_LIST) && jinja_is_int(b)) return repeated(r, a, b.u.i);
    if (op == X_MUL && (b.kind == J_STR || b.kind == J_LIST) && jinja_is_int(a)) return repeated(r, b, a.u.i);
    if (op == X_MOD && a.kind == J_STR) return jinja_fail(r, MM_EUNSUP, "formatting a string with '%%' is not supported");
    return jinja_fail(r, MM_EDATA, "'%s' of %s and %s", signs[op - X_ADD], jinja_type(a), jinja_type(b));
}

static int contains(jrun *r, jval in, jval v)
{
    if (in.kind == J_STR && v.kind == J_STR) return !v.u.s.len || (in.u.s.len && memmem(in.u.s.p, in.u.s.len, v.u.s.p, v.u.s.len));
    if (in.kind == J_STR || (in.kind != J_LIST && in.kind != J_DICT && in.kind != J_UNDEFINED)) {
        jinja_fail(r, MM_EDATA, "'in' asks a %s for a %s", jinja_type(in), jinja_type(v));
        return 0;
    }
    jval all = jinja_items(r, in);
    for (size_t i = 0; !r->failed && i < all.u.list->n; i++)
        if (jinja_equal(all.u.list->v[i], v)) return 1;
    return 0;
}

static int holds(jrun *r, xkind op, jval a, jval b)
{
    switch (op) {
    case X_EQ: return jinja_equal(a, b);
    case X_NE: return !jinja_equal(a, b);
    case X_LT: return jinja_order(r, a, b) < 0;
    case X_LE: return jinja_order(r, a, b) <= 0;
    case X_GT: return jinja_order(r, a, b) > 0;
    case X_GE: return jinja_order(r, a, b) >= 0;
    case X_IN: return contains(r, b, a);
    default: return !contains(r, b, a);
    }
}

static jval comparisons(jrun *r, const jexpr *x)
{
    jval left = jinja_expr(r, x->a);
    for (const jarg *a = x->args; a && !r->failed; a = a->next) {
        jval right = jinja_expr(r, a->x);
        if (r->failed || !holds(r, a->op, left, right)) return jinja_bool(0);
        left = right;
    }
    return jinja_bool(1);
}

/* ---- calls ---- */

static int arguments(jrun *r, const jexpr *x, jargs *args)
{
    size_t i = 0;
    *args = (jargs){ 0 };
    if (!x->n_args) return 1;
    args->v = mm_arena_alloc(r->arena, x->n_args, sizeof *args->v);
    args->name = mm_arena_alloc(r->arena, x->n_args, sizeof *args->name);
    if (!args->v || !args->name) return jinja_fail(r, MM_ENOMEM, "out of memory"), 0;
    for (const jarg *a = x->args; a && !r->failed; a = a->next, i++) {
        args->name[i] = a->name;
        args->v[i] = jinja_expr(r, a->x);
    }
    args->n = x->n_args;
    return !r->failed;
}

jval jinja_call_macro(jrun *r, const jmacro *m, const jargs *args)
{
    jscope own = { .up = r->top }, *back = r->scope;
    mm_buf text = { 0 }, *out = r->out;
    size_t i = 0;
    if (r->depth >= DEEPEST) return jinja_fail(r, MM_ELONG, "macros are nested too deep");
    for (const jarg *p = m->node->params; p; p = p->next, i++) {
        jval v = jinja_undefined(p->name);
        int found = i < args->n && !args->name[i].len;
        if (found) v = args->v[i];
        for (size_t k = 0; k < args->n && !found; k++)
            if (args->name[k].len == p->name.len && !memcmp(args->name[k].p, p->name.p, p->name.len)) v = args->v[k], found = 1;
        if (!found && p->x) v = jinja_expr(r, p->x);
        set(r, &own, p->name, v);
    }
    if (args->n > i) return jinja_fail(r, MM_EDATA, "macro '%.*s' takes %zu arguments", (int)m->node->text.len, m->node->text.p, i);
    r->depth++;
    r->scope = &own;
    r->out = &text;
    jinja_body(r, m->node->body);
    r->out = out;
    r->scope = back;
    r->depth--;
    return jinja_take(r, &text);
}

static jval call(jrun *r, const jexpr *x)
{
    jval f = jinja_expr(r, x->a);
    jargs args;
    if (r->failed || !arguments(r, x, &args)) return jinja_none();
    r->line = x->line;
    switch (f.kind) {
    case J_MACRO: return jinja_call_macro(r, f.u.macro, &args);
    case J_FUNC: return jinja_function(r, f.u.s, &args);
    case J_METHOD: return jinja_method(r, f.u.method->self, f.u.method->name, &args);
    case J_UNDEFINED: return jinja_fail(r, MM_EUNSUP, "function '%.*s' is not known", (int)f.u.s.len, f.u.s.p);
    default: return jinja_fail(r, MM_EDATA, "a %s is called", jinja_type(f));
    }
}

/* ---- expressions ---- */

static jval collection(jrun *r, const jexpr *x)
{
    size_t i = 0;
    jval v = x->kind == X_DICT ? jinja_dict(r) : jinja_list(r, x->n_args, x->tuple);
    for (const jarg *a = x->args; a && !r->failed; a = a->next) {
        jval item_ = jinja_expr(r, a->x);
        if (x->kind == X_DICT) jinja_put(r, v.u.dict, item_, jinja_expr(r, a->value));
        else if (!r->failed) v.u.list->v[i++] = item_;
    }
    return v;
}

static jval negative(jrun *r, jval v)
{
    if (v.kind == J_FLOAT) return real(-v.u.f);
    return jinja_is_int(v) ? whole(r, X_SUB, 0, v.u.i) : jinja_fail(r, MM_EDATA, "'-' of a %s", jinja_type(v));
}

jval jinja_expr(jrun *r, const jexpr *x)
{
    jval a;
    jargs args;
    if (jinja_step(r, 0)) return jinja_none();
    r->line = x->line;
    switch (x->kind) {
    case X_CONST: return x->value;
    case X_NAME: return lookup(r, x->name);
    case X_LIST:
    case X_DICT: return collection(r, x);
    case X_CALL: return call(r, x);
    case X_COMPARE: return comparisons(r, x);
    case X_AND: return a = jinja_expr(r, x->a), jinja_truth(a) ? jinja_expr(r, x->b) : a;
    case X_OR: return a = jinja_expr(r, x->a), jinja_truth(a) ? a : jinja_expr(r, x->b);
    case X_NOT: return jinja_bool(!jinja_truth(jinja_expr(r, x->a)));
    case X_IF:
        if (jinja_truth(jinja_expr(r, x->b))) return jinja_expr(r, x->a);
        return x->c ? jinja_expr(r, x->c) : jinja_undefined((mm_slice){ "", 0 });
    default: break;
    }
    a = jinja_expr(r, x->a);
    if (r->failed) return a;
    switch (x->kind) {
    case X_ATTR: return attribute(r, a, x->name);
    case X_ITEM: return item(r, a, jinja_expr(r, x->b));
    case X_SLICE: return slice(r, x, a);
    case X_FILTER:
        if (!arguments(r, x, &args)) return a;
        r->line = x->line;
        return jinja_filter(r, x->name, a, &args);
    case X_TEST:
        if (!arguments(r, x, &args)) return a;
        r->line = x->line;
        return jinja_bool(jinja_test(r, x->name, a, &args) != x->neg);
    case X_NEG: return negative(r, a);
    case X_POS: return is_number(a) ? a : jinja_fail(r, MM_EDATA, "'+' of a %s", jinja_type(a));
    case X_CONCAT: return join(r, a, jinja_expr(r, x->b));
    default: return arithmetic(r, x->kind, a, jinja_expr(r, x->b));
    }
}

/* ---- statements ---- */

static void assign(jrun *r, const mm_slice *names, size_t n, jval v)
{
    if (n == 1) {
        set(r, r->scope, names[0], v);
        return;
    }
    jval all = jinja_items(r, v);
    if (r->failed) return;
    if (all.u.list->n != n) {
        jinja_fail(r, MM_EDATA, "%zu names for %zu values", n, all.u.list->n);
        return;
    }
    for (size_t i = 0; i < n; i++) set(r, r->scope, names[i], all.u.list->v[i]);
}

static jval loop_object(jrun *r, const jlist *l, size_t i)
{
    jval v = jinja_dict(r);
    const struct { const char *name; jval v; } is[] = {
        { "index", jinja_int((int64_t)i + 1) }, { "index0", jinja_int((int64_t)i) }, { "revindex", jinja_int((int64_t)(l->n - i)) },
        { "revindex0", jinja_int((int64_t)(l->n - i) - 1) }, { "first", jinja_bool(i == 0) }, { "last", jinja_bool(i + 1 == l->n) },
        { "length", jinja_int((int64_t)l->n) }, { "previtem", i ? l->v[i - 1] : jinja_undefined((mm_slice){ "loop.previtem", 13 }) },
        { "nextitem", i + 1 < l->n ? l->v[i + 1] : jinja_undefined((mm_slice){ "loop.nextitem", 13 }) } };
    for (size_t k = 0; k < sizeof is / sizeof *is && !r->failed; k++)
        jinja_put(r, v.u.dict, jinja_slice((mm_slice){ is[k].name, strlen(is[k].name) }), is[k].v);
    v.tuple = 1; /* its members are attributes, like a namespace's */
    return v;
}

/* The items that the loop's condition leaves; loop counts these only. */
static jval chosen(jrun *r, const jnode *n)
{
    jval all = jinja_items(r, jinja_expr(r, n->x));
    if (r->failed || !n->cond) return all;
    jval some = jinja_list(r, all.u.list->n, 0);
    size_t k = 0;
    for (size_t i = 0; i < all.u.list->n && !r->failed; i++) {
        jscope own = { .up = r->scope }, *back = r->scope;
        r->scope = &own;
        assign(r, n->names, n->n_names, all.u.list->v[i]);
        if (jinja_truth(jinja_expr(r, n->cond)) && !r->failed) some.u.list->v[k++] = all.u.list->v[i];
        r->scope = back;
    }
    if (!r->failed) ((jlist *)(uintptr_t)some.u.list)->n = k;
    return some;
}

static void for_loop(jrun *r, const jnode *n)
{
    jval all = chosen(r, n);
    for (size_t i = 0; !r->failed && i < all.u.list->n; i++) {
        jscope own = { .up = r->scope }, *back = r->scope;
        r->scope = &own;
        assign(r, n->names, n->n_names, all.u.list->v[i]);
        set(r, &own, (mm_slice){ "loop", 4 }, loop_object(r, all.u.list, i));
        jinja_body(r, n->body);
        r->scope = back;
        const int jump = r->jump;
        r->jump = 0;
        if (jump == N_BREAK) break;
    }
    if (!r->failed && !all.u.list->n) jinja_body(r, n->other);
}

static void set_attribute(jrun *r, const jnode *n)
{
    jval ns = lookup(r, n->names[0]);
    if (ns.kind != J_DICT || !ns.tuple) jinja_fail(r, MM_EDATA, "'%.*s' is no namespace: its attributes cannot be set", (int)n->names[0].len, n->names[0].p);
    else jinja_put(r, ns.u.dict, jinja_slice(n->attr), jinja_expr(r, n->x));
}

static void capture(jrun *r, const jnode *n)
{
    mm_buf text = { 0 }, *out = r->out;
    r->out = &text;
    jinja_body(r, n->body);
    r->out = out;
    set(r, r->scope, n->names[0], jinja_take(r, &text));
}

static void define(jrun *r, const jnode *n)
{
    jmacro *m = mm_arena_alloc(r->arena, 1, sizeof *m);
    if (!m) {
        jinja_fail(r, MM_ENOMEM, "out of memory");
        return;
    }
    m->node = n;
    set(r, r->scope, n->text, (jval){ .kind = J_MACRO, .u.macro = m });
}

void jinja_body(jrun *r, const jnode *n)
{
    for (; n && !r->failed && !r->jump; n = n->next) {
        if (jinja_step(r, 0)) return;
        r->line = n->line;
        switch (n->kind) {
        case N_TEXT: mm_buf_add(r->out, n->text.p, n->text.len); break;
        case N_OUT: jinja_write(r, r->out, jinja_expr(r, n->x), 0); break;
        case N_IF: jinja_body(r, jinja_truth(jinja_expr(r, n->x)) ? n->body : n->other); break;
        case N_FOR: for_loop(r, n); break;
        case N_SET:
            if (n->attr.len) set_attribute(r, n);
            else assign(r, n->names, n->n_names, jinja_expr(r, n->x));
            break;
        case N_CAPTURE: capture(r, n); break;
        case N_MACRO: define(r, n); break;
        case N_BODY: jinja_body(r, n->body); break;
        case N_BREAK:
        case N_CONTINUE: r->jump = (int)n->kind; break;
        }
    }
    if (r->out->failed) jinja_fail(r, MM_ENOMEM, "out of memory");
}

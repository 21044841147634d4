#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mm_json.h"
#include "base/mm_str.h"

/* ---- scanner ----
 * A cursor over [p, end); every function leaves p after what it accepted and returns 0, or leaves it at the offending
 * byte and returns a reason. Containers are walked without recursion: a bit stack remembers object or array. */
typedef struct {
    const char *p, *end;
} cur;

static void space(cur *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r')) c->p++;
}

static const char *scan_string(cur *c)
{
    const char *p = c->p + 1, *end = c->end, *start = p;
    int ascii = 1;
    for (;; p++) {
        if (p == end) {
            c->p = p;
            return "string without an end";
        }
        unsigned char b = (unsigned char)*p;
        if (b == '"') break;
        if (b < 0x20) {
            c->p = p;
            return "control character in a string";
        }
        if (b >= 0x80) ascii = 0;
        if (b != '\\') continue;
        if (++p == end) {
            c->p = p;
            return "string without an end";
        }
        if (*p == 'u') {
            for (int i = 0; i < 4; i++) {
                char h = ++p < end ? *p : 0;
                if (!((h >= '0' && h <= '9') || (h >= 'a' && h <= 'f') || (h >= 'A' && h <= 'F'))) {
                    c->p = p < end ? p : end;
                    return "bad \\u escape";
                }
            }
        } else if (!memchr("\"\\/bfnrt", *p, 8)) {
            c->p = p;
            return "bad escape";
        }
    }
    if (!ascii) {
        size_t ok = mm_utf8_valid(start, (size_t)(p - start));
        if (ok < (size_t)(p - start)) {
            c->p = start + ok;
            return "invalid UTF-8";
        }
    }
    c->p = p + 1;
    return NULL;
}

static const char *scan_number(cur *c)
{
    const char *p = c->p, *end = c->end;
    if (p < end && *p == '-') p++;
    if (p == end || *p < '0' || *p > '9') goto bad;
    if (*p == '0') p++;
    else
        while (p < end && *p >= '0' && *p <= '9') p++;
    if (p < end && *p == '.') {
        if (++p == end || *p < '0' || *p > '9') goto bad;
        while (p < end && *p >= '0' && *p <= '9') p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        if (++p < end && (*p == '+' || *p == '-')) p++;
        if (p == end || *p < '0' || *p > '9') goto bad;
        while (p < end && *p >= '0' && *p <= '9') p++;
    }
    c->p = p;
    return NULL;
bad:
    c->p = p;
    return "bad number";
}

static const char *scan_scalar(cur *c)
{
    size_t left = (size_t)(c->end - c->p);
    if (left == 0) return "value missing";
    switch (*c->p) {
    case '"': return scan_string(c);
    case 't':
        if (left >= 4 && !memcmp(c->p, "true", 4)) return c->p += 4, NULL;
        break;
    case 'f':
        if (left >= 5 && !memcmp(c->p, "false", 5)) return c->p += 5, NULL;
        break;
    case 'n':
        if (left >= 4 && !memcmp(c->p, "null", 4)) return c->p += 4, NULL;
        break;
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        return scan_number(c);
    }
    return "unexpected character";
}

static const char *scan_key(cur *c)
{
    if (c->p == c->end || *c->p != '"') return "key missing";
    const char *why = scan_string(c);
    if (why) return why;
    space(c);
    if (c->p == c->end || *c->p != ':') return "':' missing";
    c->p++;
    space(c);
    return NULL;
}

static const char *scan_value(cur *c)
{
    uint64_t object = 0; /* bit 0: the innermost open container is an object */
    int depth = 0;
    const char *why;
    space(c);
    for (;;) {
        /* at the start of a value */
        if (c->p < c->end && (*c->p == '{' || *c->p == '[')) {
            if (++depth > MM_JSON_DEPTH) return "nested too deeply";
            int is_obj = *c->p++ == '{';
            object = object << 1 | (uint64_t)is_obj;
            space(c);
            if (c->p < c->end && *c->p == (is_obj ? '}' : ']')) {
                c->p++;
                object >>= 1;
                depth--;
            } else {
                if (is_obj && (why = scan_key(c))) return why;
                continue;
            }
        } else if ((why = scan_scalar(c))) {
            return why;
        }
        /* after a value: close containers until one goes on */
        for (;;) {
            if (depth == 0) return NULL;
            space(c);
            if (c->p == c->end) return object & 1 ? "'}' missing" : "']' missing";
            char ch = *c->p;
            if (ch == ',') {
                c->p++;
                space(c);
                if (object & 1 && (why = scan_key(c))) return why;
                break;
            }
            if (ch != (object & 1 ? '}' : ']')) return object & 1 ? "',' or '}' missing" : "',' or ']' missing";
            c->p++;
            object >>= 1;
            depth--;
        }
    }
}

static int fail_at(mm_err *err, const char *why, const char *base, const char *at)
{
    return mm_fail(err, MM_EDATA, "invalid JSON at byte %zu: %s", (size_t)(at - base) + 1, why);
}

long mm_json_value(const char *s, size_t len, mm_slice *val, mm_err *err)
{
    cur c = { s, s + len };
    space(&c);
    const char *start = c.p, *why = scan_value(&c);
    if (why) return fail_at(err, why, s, c.p);
    val->p = start;
    val->len = (size_t)(c.p - start);
    return (long)(c.p - s);
}

enum { IT_FIRST, IT_MORE, IT_DONE };

static int begin(mm_json_iter *it, const char *base, cur c, int nested, mm_err *err)
{
    space(&c);
    if (c.p == c.end || (*c.p != '{' && *c.p != '['))
        return fail_at(err, c.p == c.end ? "empty" : nested ? "not an object or array" : "not an object", base, c.p);
    *it = (mm_json_iter){ base, c.p + 1, c.end, *c.p == '[', IT_FIRST, nested };
    return 0;
}

int mm_json_begin(mm_json_iter *it, const char *s, size_t len, mm_err *err)
{
    return begin(it, s, (cur){ s, s + len }, 0, err);
}

int mm_json_enter(mm_json_iter *it, mm_json_iter *inner, mm_err *err)
{
    if (it->nested + 1 >= MM_JSON_DEPTH) return fail_at(err, "nested too deeply", it->base, it->p);
    return begin(inner, it->base, (cur){ it->p, it->end }, it->nested + 1, err);
}

void mm_json_leave(mm_json_iter *it, const mm_json_iter *inner)
{
    it->p = inner->p;
    it->state = IT_MORE;
}

int mm_json_key(mm_json_iter *it, mm_slice *key, mm_err *err)
{
    cur c = { it->p, it->end };
    const char *why = NULL, close = it->array ? ']' : '}';
    if (it->state == IT_DONE) return 0;
    space(&c);
    if (c.p < c.end && *c.p == close) {
        c.p++;
        if (!it->nested) space(&c);
        if (!it->nested && c.p < c.end) return fail_at(err, "something follows the value", it->base, c.p);
        it->state = IT_DONE;
        it->p = c.p;
        return 0;
    }
    if (it->state == IT_MORE) {
        if (c.p == c.end || *c.p != ',')
            return fail_at(err, it->array ? "',' or ']' missing" : "',' or '}' missing", it->base, c.p);
        c.p++;
        space(&c);
    }
    key->p = c.p;
    key->len = 0;
    if (!it->array) {
        const char *k = c.p;
        if (c.p == c.end || *c.p != '"') return fail_at(err, "key missing", it->base, c.p);
        if ((why = scan_string(&c))) return fail_at(err, why, it->base, c.p);
        key->p = k + 1;
        key->len = (size_t)(c.p - k) - 2;
        space(&c);
        if (c.p == c.end || *c.p != ':') return fail_at(err, "':' missing", it->base, c.p);
        c.p++;
        space(&c);
    }
    it->p = c.p;
    return 1;
}

int mm_json_skip(mm_json_iter *it, mm_slice *val, mm_err *err)
{
    cur c = { it->p, it->end };
    const char *why = scan_value(&c);
    if (why) return fail_at(err, why, it->base, c.p);
    val->p = it->p;
    val->len = (size_t)(c.p - it->p);
    it->p = c.p;
    it->state = IT_MORE;
    return 0;
}

int mm_json_next(mm_json_iter *it, mm_slice *key, mm_slice *val, mm_err *err)
{
    int r = mm_json_key(it, key, err);
    if (r <= 0) return r;
    r = mm_json_skip(it, val, err);
    return r ? r : 1;
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p[i];
        v = v << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

int mm_json_unescape(mm_buf *out, mm_slice raw, mm_err *err)
{
    if (raw.len < 2 || raw.p[0] != '"') return mm_fail(err, MM_EDATA, "not a string");
    const char *p = raw.p + 1, *end = raw.p + raw.len - 1;
    size_t start = out->len;
    while (p < end) {
        const char *b = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((b ? b : end) - p);
        mm_buf_add(out, p, n);
        p += n;
        if (p == end) break;
        char c = p[1], utf[4];
        p += 2;
        switch (c) {
        case 'b': mm_buf_addc(out, '\b'); break;
        case 'f': mm_buf_addc(out, '\f'); break;
        case 'n': mm_buf_addc(out, '\n'); break;
        case 'r': mm_buf_addc(out, '\r'); break;
        case 't': mm_buf_addc(out, '\t'); break;
        case 'u': {
            uint32_t u = hex4(p);
            p += 4;
            if (u >= 0xD800 && u < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
                uint32_t lo = hex4(p + 2);
                if (lo >= 0xDC00 && lo < 0xE000) {
                    u = 0x10000 + ((u - 0xD800) << 10) + (lo - 0xDC00);
                    p += 6;
                }
            }
            if (u >= 0xD800 && u < 0xE000) {
                out->len = start;
                return mm_fail(err, MM_EDATA, "lone surrogate \\u%04x in a string", (unsigned)u);
            }
            mm_buf_add(out, utf, (size_t)mm_utf8_put(u, utf));
            break;
        }
        default: mm_buf_addc(out, c);
        }
    }
    if (out->failed) return mm_fail(err, MM_ENOMEM, "out of memory");
    return mm_buf_reserve(out, 0);
}

int mm_json_quote(mm_buf *out, const char *s, size_t len)
{
    mm_buf_addc(out, '"');
    size_t run = 0;
    for (size_t i = 0; i <= len; i++) {
        unsigned char c = i < len ? (unsigned char)s[i] : 0;
        int bad = 0;
        if (i < len && c >= 0x80) {
            uint32_t cp;
            int n = mm_utf8_get(s + i, len - i, &cp);
            if (n > 1) {
                i += (size_t)n - 1;
                continue;
            }
            bad = 1;
        }
        if (i < len && !bad && c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) continue;
        mm_buf_add(out, s + run, i - run);
        run = i + 1;
        if (i == len) break;
        if (bad) mm_buf_adds(out, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\') mm_buf_addc(out, '\\'), mm_buf_addc(out, (char)c);
        else if (c == '\n') mm_buf_adds(out, "\\n");
        else if (c == '\t') mm_buf_adds(out, "\\t");
        else if (c == '\r') mm_buf_adds(out, "\\r");
        else mm_buf_addf(out, "\\u%04x", c);
    }
    mm_buf_addc(out, '"');
    return out->failed ? MM_ENOMEM : 0;
}

/* ---- jansson helpers ---- */

json_t *mm_json_load(const char *s, size_t len, const char *name, mm_err *err)
{
    json_error_t je;
    json_t *j = json_loadb(s, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!j) mm_fail(err, MM_EDATA, "'%s':%d: invalid JSON: %s", name, je.line, je.text);
    return j;
}

int mm_json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t dflt, int64_t *out,
                    mm_err *err)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return *out = dflt, 0;
    if (!json_is_integer(v)) return mm_fail(err, MM_EDATA, "\"%s\" should be an integer", key);
    json_int_t x = json_integer_value(v);
    if (x < min || x > max)
        return mm_fail(err, MM_EDATA, "\"%s\" is %lld, should be %lld to %lld", key, (long long)x, (long long)min,
                       (long long)max);
    *out = x;
    return 0;
}

int mm_json_get_num(const json_t *obj, const char *key, double dflt, double *out, mm_err *err)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return *out = dflt, 0;
    if (!json_is_number(v) || !isfinite(json_number_value(v)))
        return mm_fail(err, MM_EDATA, "\"%s\" should be a number", key);
    *out = json_number_value(v);
    return 0;
}

int mm_json_get_str(const json_t *obj, const char *key, const char *dflt, const char **out, mm_err *err)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return *out = dflt, 0;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return mm_fail(err, MM_EDATA, "\"%s\" should be a string", key);
    *out = json_string_value(v);
    return 0;
}

int mm_json_get_bool(const json_t *obj, const char *key, int dflt, int *out, mm_err *err)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return *out = dflt, 0;
    if (!json_is_boolean(v)) return mm_fail(err, MM_EDATA, "\"%s\" should be true or false", key);
    *out = json_is_true(v);
    return 0;
}

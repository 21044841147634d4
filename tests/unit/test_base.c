/* Ground floor: numbers, text, JSON scanner, memory, files. Expected values are from the published specifications
 * (RFC 4648 vectors, RFC 3720 CRC vectors, xxHash specification's test value) or worked out by hand. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/mm_base.h"
#include "tap.h"

static void floats(void)
{
    int bad = 0;
    for (unsigned h = 0; h < 65536; h++) {
        float f = mm_f16_to_f32((uint16_t)h);
        unsigned back = mm_f32_to_f16(f);
        if (isnan(f) ? (back & 0x7C00) != 0x7C00 || !(back & 0x3FF) : back != h) bad++;
    }
    is_int(bad, 0, "all 65536 halves survive the way to float32 and back");
    is_int(mm_f32_to_f16(65519.99f), 0x7BFF, "below the rounding limit: largest half");
    is_int(mm_f32_to_f16(65520.0f), 0x7C00, "at the limit: infinity");
    is_int(mm_f32_to_f16(0x1p-25f), 0, "half of the smallest subnormal rounds to even (zero)");
    is_int(mm_f32_to_f16(0x1.8p-25f), 1, "more than half rounds up");
    is_int(mm_f32_to_f16(1.0f + 0x1p-11f), 0x3C00, "tie to even");
    is_int(mm_f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3C02, "tie to even, up");
    is_int(mm_f32_to_bf16(1.0f + 0x1p-8f), 0x3F80, "bf16 tie to even");
    ok(isnan(mm_bf16_to_f32(mm_f32_to_bf16(NAN))), "bf16 NaN stays NaN");

    unsigned x = 1;
    bad = 0;
    for (int i = 0; i < 2000000; i++) {
        x = x * 1664525u + 1013904223u;
        union { unsigned u; float f; } v = { x };
        if (i & 1) v.f = (float)(x >> 8) / 16777216.0f * 2 - 1; /* the range embeddings live in */
        if (!isfinite(v.f)) continue;
        char t[32];
        size_t n = mm_format_float(v.f, t);
        double d;
        if (n > 16 || mm_parse_double(t, n, &d) != n || (float)d != v.f || !signbit(d) != !signbit(v.f))
            bad++;
    }
    is_int(bad, 0, "float -> decimal -> float is exact for 2 million values");
    static const struct { float f; const char *s; } t[] = {
        { 0.0f, "0" }, { -0.0f, "-0" }, { 1.0f, "1" }, { 0.1f, "0.1" }, { -1.5f, "-1.5" }, { 100.0f, "100" },
        { 1e-7f, "1e-07" }, { FLT_MAX, "3.4028235e+38" }, { 123456.789f, "123456.79" }, { 0.5f, "0.5" } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char s[32];
        s[mm_format_float(t[i].f, s)] = 0;
        is_str(s, t[i].s, t[i].s);
    }
}

static void doubles(void)
{
    static const struct { const char *s; double v; size_t n; } t[] = {
        { "0", 0, 1 }, { "-0", 0, 2 }, { "12,", 12, 2 }, { "0.1", 0.1, 3 }, { "1e3", 1000, 3 }, { "1E-3]", 0.001, 4 },
        { "01", 0, 1 }, { "-", 0, 0 }, { "1.", 0, 0 }, { ".5", 0, 0 }, { "1e", 0, 0 }, { "+1", 0, 0 }, { "NaN", 0, 0 },
        { "9007199254740993", 9007199254740992.0, 16 }, { "1e999", HUGE_VAL, 5 }, { "2.2250738585072011e-308", 2.2250738585072011e-308, 23 },
        { "0.000000000000000000000000000000000001234567890123456789", 1.234567890123456789e-36, 56 },
        { "123456789012345678901234567890", 1.2345678901234568e29, 30 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        double v = 0;
        size_t n = mm_parse_double(t[i].s, strlen(t[i].s), &v);
        ok(n == t[i].n && (n == 0 || v == t[i].v), "number '%s'", t[i].s);
    }
    int64_t v;
    ok(!mm_parse_int("12k", 0, 1 << 20, &v) && v == 12288, "12k");
    ok(mm_parse_int("12kk", 0, 1 << 20, &v) == MM_EARG, "12kk is refused");
    ok(mm_parse_int("", 0, 9, &v) == MM_EARG, "empty is refused");
    ok(mm_parse_int("9223372036854775808", 0, INT64_MAX, &v) == MM_EARG, "2^63 is refused");
    ok(mm_parse_int("8589934592G", INT64_MIN, INT64_MAX, &v) == MM_EARG, "overflow by suffix is refused");
}

static void text(void)
{
    static const struct { const char *s; size_t len, ok; } t[] = {
        { "plain ascii, longer than a word", 31, 31 }, { "\xC3\xA9", 2, 2 }, { "\xC0\xAF", 2, 0 }, { "\xE0\x80\xAF", 3, 0 },
        { "\xED\xA0\x80", 3, 0 }, { "\xF4\x90\x80\x80", 4, 0 }, { "\xF0\x9F\x98\x80", 4, 4 }, { "a\xF0\x9F\x98", 4, 1 },
        { "\xFF", 1, 0 }, { "12345678\x80", 9, 8 }, { "", 0, 0 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        is_int((long long)mm_utf8_valid(t[i].s, t[i].len), (long long)t[i].ok, "valid UTF-8 prefix");
    int bad = 0;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char u[4];
        uint32_t back;
        int n = mm_utf8_put(cp, u), m = mm_utf8_get(u, (size_t)n, &back);
        if (n != m || back != (cp >= 0xD800 && cp < 0xE000 ? 0xFFFD : cp)) bad++;
    }
    is_int(bad, 0, "every code point survives encode and decode");

    static const char *const b[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
    mm_buf e = { 0 }, d = { 0 };
    for (size_t i = 0; i < sizeof b / sizeof *b; i++) {
        mm_buf_reset(&e);
        mm_buf_reset(&d);
        ok(!mm_base64_encode(&e, b[i][0], strlen(b[i][0])) && !strcmp(e.p, b[i][1]), "RFC 4648: '%s'", b[i][0]);
        ok(!mm_base64_decode(&d, e.p, e.len) && d.len == strlen(b[i][0]) && !memcmp(d.p, b[i][0], d.len), "and back");
    }
    static const char *const wrong[] = { "A", "A===", "Zh==", "Zm9", "Zm 9v", "Zg=a", "====", "Zm9v\n" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mm_buf_reset(&d);
        int r = mm_base64_decode(&d, wrong[i], strlen(wrong[i]));
        if (!strcmp(wrong[i], "Zm9")) ok(r == MM_EDATA, "left-over bits are refused");
        else ok(r == MM_EDATA && d.len == 0, "bad base64 %zu is refused", i);
    }
    mm_buf_clear(&e);
    mm_buf_clear(&d);
    unsigned char inc[32], zero[32] = { 0 };
    for (int i = 0; i < 32; i++) inc[i] = (unsigned char)i;
    is_int(mm_crc32c(0, zero, 32), 0x8A9136AA, "CRC-32C of 32 zeros (RFC 3720 B.4)");
    is_int(mm_crc32c(0, inc, 32), 0x46DD794E, "CRC-32C of 0..31");
    is_int(mm_crc32c(mm_crc32c(0, inc, 5), inc + 5, 27), 0x46DD794E, "in pieces");
    ok(mm_hash64("", 0, 0) == 0xEF46DB3751D8E999u, "XXH64 of nothing");
}

static int scan(const char *s, size_t len)
{
    mm_json_iter it;
    mm_slice k, v;
    int n = 0, r;
    if (mm_json_begin(&it, s, len, NULL)) return -1;
    while ((r = mm_json_next(&it, &k, &v, NULL)) > 0) n++;
    return r ? -1 : n;
}

static void json(void)
{
    static const struct { const char *s; int n; } t[] = {
        { "{}", 0 }, { " { } ", 0 }, { "{\"a\":1}", 1 }, { "{\"a\":[1,{\"b\":null}],\"c\":\"x\"}", 2 }, { "[1,2,3]", 3 }, { "[]", 0 },
        { "{\"a\":1,}", -1 }, { "{\"a\" 1}", -1 }, { "{a:1}", -1 }, { "{\"a\":1}x", -1 }, { "{\"a\":01}", -1 }, { "{\"a\":1.}", -1 },
        { "{\"a\":NaN}", -1 }, { "{\"a\":tru}", -1 }, { "{\"a\":\"\\x\"}", -1 }, { "{\"a\":\"\\u12g4\"}", -1 }, { "{\"a\":\"\x01\"}", -1 },
        { "{\"a\":\"\xFF\"}", -1 }, { "{\"a\":\"", -1 }, { "{\"a\":", -1 }, { "{", -1 }, { "", -1 }, { "1", -1 }, { "[1 2]", -1 },
        { "{\"a\":[1,]}", -1 }, { "{\"a\":{\"b\":1]}", -1 }, { "{,}", -1 }, { "{\"a\":\"\\\"", -1 }, { "{\"a\":-}", -1 }, { "{\"a\":1e+}", -1 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) is_int(scan(t[i].s, strlen(t[i].s)), t[i].n, t[i].s);
    char deep[400] = "{\"a\":";
    for (int over = 0; over < 2; over++) {
        size_t n = 5, d = MM_JSON_DEPTH + (size_t)over;
        memset(deep + n, '[', d);
        memset(deep + n + d, ']', d);
        n += 2 * d;
        deep[n++] = '}';
        is_int(scan(deep, n), over ? -1 : 1, over ? "one level too deep" : "deepest allowed nesting");
    }
    mm_buf b = { 0 };
    mm_slice raw = { "\"a\\n\\u00e9\\ud83d\\ude00\\/\\\\\"", 0 };
    raw.len = strlen(raw.p);
    ok(!mm_json_unescape(&b, raw, NULL) && !strcmp(b.p, "a\n\xC3\xA9\xF0\x9F\x98\x80/\\"), "escapes are decoded");
    raw = (mm_slice){ "\"\\ud83d\"", 8 };
    ok(mm_json_unescape(&b, raw, NULL) == MM_EDATA, "a lone surrogate is refused");
    mm_buf_reset(&b);
    mm_json_quote(&b, "a\"\\\n\x01\xFF\xC3\xA9", 8);
    is_str(b.p, "\"a\\\"\\\\\\n\\u0001\xEF\xBF\xBD\xC3\xA9\"", "quoting: escapes, bad byte replaced, UTF-8 kept");
    mm_buf_clear(&b);
    mm_err err = { 0 };
    ok(!mm_json_load("{\"a\":1,\"a\":2}", 13, "x", &err) && err.code == MM_EDATA, "duplicate keys in a configuration are refused");
    static const char conf[] = "{\"n\":5,\"s\":\"x\",\"b\":true,\"z\":null}";
    json_t *j = mm_json_load(conf, sizeof conf - 1, "x", &err);
    int64_t n;
    const char *s;
    int bo;
    ok(j && !mm_json_get_int(j, "n", 0, 9, 1, &n, &err) && n == 5, "integer");
    ok(mm_json_get_int(j, "n", 0, 4, 1, &n, &err) == MM_EDATA && strstr(err.msg, "\"n\""), "out of range names the key");
    ok(!mm_json_get_int(j, "z", 0, 4, 7, &n, &err) && n == 7, "null gives the default");
    ok(mm_json_get_str(j, "n", "d", &s, &err) == MM_EDATA, "wrong type");
    ok(!mm_json_get_bool(j, "b", 0, &bo, &err) && bo == 1, "bool");
    json_decref(j);
}

static void memory(void)
{
    mm_arena a = { .block_size = 128 };
    char *p[100];
    int bad = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            p[i] = mm_arena_alloc(&a, (size_t)i * 7 + 1, 1);
            if (!p[i] || (uintptr_t)p[i] % 16) bad++;
            else memset(p[i], i, (size_t)i * 7 + 1);
        }
        for (int i = 0; i < 100; i++)
            for (int k = 0; k < i * 7 + 1; k++)
                if (p[i][k] != i) bad++;
        mm_arena_reset(&a);
    }
    is_int(bad, 0, "arena pieces do not overlap, also after reset");
    ok(!mm_arena_alloc(&a, SIZE_MAX / 2, 3), "overflowing arena request is refused");
    ok(!mm_aligned(SIZE_MAX / 2, 3) && !mm_realloc(NULL, SIZE_MAX / 2, 3), "overflow is refused");
    mm_arena_clear(&a);
    mm_buf b = { 0 };
    for (int i = 0; i < 1000; i++) mm_buf_addf(&b, "%d,", i);
    ok(!b.failed && b.len == 3890 && b.p[b.len] == 0, "buffer grows");
    ok(mm_buf_reserve(&b, SIZE_MAX) == MM_ENOMEM && b.failed && b.len == 3890, "failure keeps the content and sticks");
    mm_buf_clear(&b);
    mm_err e = { 0 };
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    is_int(mm_fail(&e, MM_EDATA, "%s", big), MM_EDATA, "code comes back");
    is_int((long long)strlen(e.msg), MM_ERR_MSG - 1, "an over-long message is cut");
    mm_fail(&e, MM_EDATA, "bad");
    mm_err_prefix(&e, "%s:%d: ", "f", 3);
    is_str(e.msg, "f:3: bad", "prefix");
}

static void files(void)
{
    char dir[] = "/tmp/mm-test-XXXXXX", path[64];
    if (!ok(mkdtemp(dir) != NULL, "scratch folder")) return;
    snprintf(path, sizeof path, "%s/f", dir);
    mm_err e = { 0 };
    mm_outfile f;
    mm_map m;
    ok(!mm_outfile_open(&f, path, &e) && !mm_outfile_write(&f, "abc", 3, &e) && !mm_outfile_pad(&f, 64, &e), "write");
    ok(access(path, F_OK) != 0, "not visible before commit");
    ok(!mm_outfile_commit(&f, &e), "commit");
    ok(!mm_map_open(&m, path, &e) && m.len == 64 && !memcmp(m.p, "abc", 4), "map it");
    mm_map_close(&m);
    ok(!mm_outfile_open(&f, path, &e) && !mm_outfile_write(&f, "z", 1, &e), "write again");
    mm_outfile_abort(&f);
    ok(!mm_map_open(&m, path, &e) && m.len == 64, "abort leaves the old file");
    mm_map_close(&m);
    ok(mm_map_open(&m, dir, &e) == MM_EIO && strstr(e.msg, "directory"), "a folder is not a file");
    ok(mm_outfile_open(&f, dir, &e) == MM_EIO, "a folder is not overwritten");
    unlink(path);
    ok(rmdir(dir) == 0, "nothing is left behind");
}

int main(void)
{
    floats();
    doubles();
    text();
    json();
    memory();
    files();
    return done();
}

/* Records, readers and writers: what a command cannot reach, and round trips of random records through every encoding. */
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/mm_file.h"
#include "base/mm_str.h"
#include "stream/mm_stream.h"
#include "tap.h"

static mm_err err;
static mm_rec *rec;

static const char *json(int enc)
{
    static mm_buf b;
    mm_buf_reset(&b);
    return mm_rec_json(rec, enc, &b, &err) ? err.msg : b.p;
}

static int parse(const char *s) { return mm_rec_parse(rec, s, strlen(s), &err); }

/* All records of some bytes as one text, a line each; the reader's last word is added when it is no clean end. */
static const char *all(const mm_reader_opts *o, const void *p, size_t len)
{
    static mm_buf b;
    mm_reader *r;
    mm_err e = { 0 };
    int s = 0;
    mm_buf_reset(&b);
    mm_buf_adds(&b, "");
    if (mm_reader_open_mem(&r, o, "in", p, len, &e)) return "out of memory";
    while (mm_reader_pending(r) == 1 && (s = mm_reader_next(r, rec, &e)) > 0) {
        int code = mm_rec_json(rec, MM_ENC_NUMBERS, &b, &e);
        if (code) mm_buf_addf(&b, "%s: %s", mm_err_name(code), e.msg);
        mm_buf_addc(&b, '\n');
    }
    if (s < 0) mm_buf_addf(&b, "%s", mm_err_name(s));
    if (mm_reader_next(r, rec, &e) != s) mm_buf_adds(&b, " and then something else");
    mm_reader_close(&r);
    return b.p;
}

static const char *text(const char *s) { return all(NULL, s, strlen(s)); }

static void records(void)
{
    mm_slice s, key;
    is_int(parse("{\"id\":\"a\",\"n\" : 123456789012345678901234567890, \"k\\u0041\":[1, {\"x\":null}],\"e\":1e400}"), 0, "parse");
    is_int((long long)mm_rec_count(rec), 4, "members");
    is_str(json(MM_ENC_NUMBERS), "{\"id\":\"a\",\"n\":123456789012345678901234567890,\"k\\u0041\":[1, {\"x\":null}],\"e\":1e400}",
           "values and keys are written as they were read");
    ok(mm_rec_get(rec, "kA", &s) == 1 && s.len == 15, "keys are found decoded");
    mm_rec_member(rec, 2, &key, &s);
    ok(key.len == 2 && !memcmp(key.p, "kA", 2), "and listed decoded");
    ok(mm_rec_str(rec, "n", &s, &err) == MM_EDATA && strstr(err.msg, "'n' is not a string"), "a number is no string");
    ok(mm_rec_str(rec, "none", &s, &err) == 0, "absent");
    mm_rec_set_str(rec, "id", "b\"\n\xff", 4);
    mm_rec_set_int(rec, "n", INT64_MIN);
    mm_rec_set_num(rec, "d", 0.1);
    mm_rec_set_float(rec, "f", 0.1f);
    mm_rec_set_num(rec, "inf", INFINITY);
    mm_rec_set_bool(rec, "e", 1);
    mm_rec_del(rec, "kA");
    is_str(json(MM_ENC_NUMBERS),
           "{\"id\":\"b\\\"\\n\xEF\xBF\xBD\",\"n\":-9223372036854775808,\"e\":true,\"d\":0.1,\"f\":0.1,\"inf\":null}", "setters");
    ok(mm_rec_str(rec, "id", &s, &err) == 1 && s.len == 6 && !memcmp(s.p, "b\"\n\xEF\xBF\xBD", 6), "decoded again");
    is_int(parse("{}"), 0, "empty object");
    is_str(json(MM_ENC_NUMBERS), "{}", "is written empty");
    is_int(parse("{\"a\":1,\"\\u0061\":2}"), MM_EDATA, "the same key in two spellings");
    is_str(json(MM_ENC_NUMBERS), "{\"a\":1}", "what stood in front is kept");
    mm_buf b = { 0 };
    for (int i = 0; i < 100000; i++) mm_buf_addf(&b, "%c\"k%d\":%d", i ? ',' : '{', i, i);
    mm_buf_adds(&b, ",\"k50000\":0}");
    ok(mm_rec_parse(rec, b.p, b.len, &err) == MM_EDATA && strstr(err.msg, "k50000"), "a duplicate among 100000 keys");
    mm_buf_clear(&b);
    static const char *const bad[] = { "", "[]", "{", "{\"a\":}", "{\"a\":01}", "{\"a\":1} x", "{\"a\":\"\t\"}", "{\"\\ud800\":1}",
        "{\"a\":\"\xff\"}", "{a:1}", "null", "{\"a\":1,}" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) is_int(parse(bad[i]), MM_EDATA, bad[i]);
    is_int(parse("{\"a\":\n[1,\n2]}"), 0, "line breaks between tokens");
    is_str(json(MM_ENC_NUMBERS), "{\"a\":[1, 2]}", "do not break a line on output");
}

static void errors(void)
{
    parse("{\"id\":\"x\",\"embedding\":[1],\"k\":2}");
    is_int(mm_rec_fail(rec, MM_EEMPTY, "no \"text\""), MM_EEMPTY, "fail gives the code back");
    is_str(json(MM_ENC_NUMBERS), "{\"id\":\"x\",\"k\":2,\"error\":{\"code\":\"MM_EEMPTY\",\"message\":\"no \\\"text\\\"\"}}",
           "the vector goes, the rest stays");
    mm_rec_fail(rec, MM_EDATA, "again");
    ok(mm_rec_failed(rec) == MM_EEMPTY && !mm_rec_failed_before(rec), "the first error stays");
    is_str(text("{\"a\":1,\"b\":\n"), "{\"a\":1,\"error\":{\"code\":\"MM_EDATA\",\"message\":\"in:1: invalid JSON at byte 12: value missing\"}}\n",
           "no id: the place is in the message");
    parse("{\"error\":{\"message\":\"m\",\"code\":\"MM_ELONG\"},\"embedding\":\"x\"}");
    ok(mm_rec_failed(rec) == MM_ELONG && mm_rec_failed_before(rec) && !strcmp(mm_rec_message(rec), "m"), "an error that came in");
    is_str(json(MM_ENC_NUMBERS), "{\"error\":{\"message\":\"m\",\"code\":\"MM_ELONG\"},\"embedding\":\"x\"}", "passes unchanged");
    parse("{\"error\":\"of somebody\"}");
    is_int(mm_rec_failed(rec), MM_EDATA, "an error of another form");
    parse("{\"error\":null}");
    is_int(mm_rec_failed(rec), 0, "\"error\":null is none");
}

static void vectors(void)
{
    const float *v;
    size_t n;
    int t;
    const void *data;
    static const struct { const char *in; int code; const char *why; } bad[] = {
        { "null", MM_EDATA, "null" }, { "[]", MM_EDATA, "empty" }, { "[ ]", MM_EDATA, "empty" }, { "[[1]]", MM_ESHAPE, "nested" },
        { "[1,\"2\"]", MM_EDATA, "element 1" }, { "[1,null]", MM_EDATA, "element 1" }, { "[1e999]", MM_EDATA, "beyond float32" },
        { "[1,3.5e38]", MM_EDATA, "beyond float32" }, { "3", MM_EDATA, "not a vector" }, { "true", MM_EDATA, "not a vector" },
        { "\"\"", MM_EDATA, "empty" }, { "\"AAA\"", MM_ESHAPE, "whole float32" }, { "\"%%%%\"", MM_EDATA, "base64" },
        { "\"AADAfw==\"", MM_EDATA, "NaN" }, { "\"AACAfw==\"", MM_EDATA, "NaN" }, { "{}", MM_EDATA, "dtype" },
        { "{\"dtype\":\"F16\",\"shape\":[2],\"b64\":\"ADw=\"}", MM_ESHAPE, "shape" },
        { "{\"dtype\":\"F16\",\"shape\":[1,1],\"b64\":\"ADw=\"}", MM_ESHAPE, "[dim]" },
        { "{\"dtype\":\"F16\",\"shape\":[0],\"b64\":\"\"}", MM_ESHAPE, "[dim]" },
        { "{\"dtype\":\"I64\",\"shape\":[1],\"b64\":\"ADw=\"}", MM_EUNSUP, "I64" },
        { "{\"dtype\":\"F16\",\"shape\":[1],\"b64\":\"AHw=\"}", MM_EDATA, "NaN" },
        { "{\"dtype\":\"F16\",\"shape\":[1],\"b64\":\"ADw=\",\"x\":1}", MM_EDATA, "unexpected" },
        { "{\"dtype\":\"F16\",\"shape\":[99999999999999999999],\"b64\":\"ADw=\"}", MM_ESHAPE, "more than" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mm_rec_reset(rec);
        mm_rec_set(rec, "embedding", bad[i].in, strlen(bad[i].in));
        int code = mm_rec_vec(rec, &v, &n, &err);
        if (!ok(code == bad[i].code && strstr(err.msg, "'embedding'") && strstr(err.msg, bad[i].why), "refused: %s", bad[i].in))
            printf("# %d %s\n", code, err.msg);
    }
    parse("{\"embedding\":[ 1 , -0.5e1\t,3.4028235e38,1e-46 ]}");
    ok(mm_rec_vec(rec, &v, &n, &err) == 1 && n == 4 && v[0] == 1 && v[1] == -5 && v[2] == FLT_MAX && v[3] == 0, "numbers");
    ok((uintptr_t)v % 64 == 0, "aligned");
    parse("{\"a\":1}");
    is_int(mm_rec_vec(rec, &v, &n, &err), 0, "no vector");
    parse("{\"embedding\":{\"dtype\":\"BF16\",\"shape\":[2],\"b64\":\"gD8AwA==\"}}");
    ok(mm_rec_tensor(rec, &t, &data, &n, &err) == 1 && t == MM_BF16 && n == 2, "a typed tensor keeps its type");
    ok(mm_rec_vec(rec, &v, &n, &err) == 1 && v[0] == 1 && v[1] == -2, "and is widened");
    is_str(json(MM_ENC_NUMBERS), "{\"embedding\":[1,-2]}", "as numbers");
    is_str(json(MM_ENC_BASE64), "{\"embedding\":{\"dtype\":\"BF16\",\"shape\":[2],\"b64\":\"gD8AwA==\"}}", "as it was");
    is_str(json(MM_ENC_NONE), "{}", "without");
    float nan[2] = { 1, NAN };
    mm_rec_set_vec(rec, MM_F32, nan, 2);
    is_int(mm_rec_vec(rec, &v, &n, &err), MM_EDATA, "NaN of our own is refused too");
    float one[3] = { 1, 0.1f, -0.0f };
    mm_rec_set_vec(rec, MM_F32, one, 3);
    is_str(json(MM_ENC_NUMBERS), "{\"embedding\":[1,0.1,-0]}", "float32 in its shortest form");
    is_str(json(MM_ENC_BASE64), "{\"embedding\":\"AACAP83MzD0AAACA\"}", "base64");
    double dbl[2] = { 0.1, 1e300 };
    mm_rec_set_vec(rec, MM_F64, dbl, 1);
    is_str(json(MM_ENC_NUMBERS), "{\"embedding\":[0.1]}", "float64");
    mm_rec_set_vec(rec, MM_F64, dbl, 2);
    is_int(mm_rec_vec(rec, &v, &n, &err), MM_EDATA, "float64 beyond float32");
    int8_t i8[5] = { -128, 0, 1, 2, 127 };
    mm_rec_set_vec(rec, MM_I8, i8, 5);
    is_str(json(MM_ENC_NUMBERS), "{\"embedding\":[-128,0,1,2,127]}", "int8");
}

static void lines(void)
{
    mm_reader_opts t = { .format = MM_IN_TEXT }, t0 = { .format = MM_IN_TEXT, .nul = 1 }, z = { .nul = 1 },
                   small = { .format = MM_IN_TEXT, .max_line = 4 };
    is_str(text(""), "", "nothing");
    is_str(text("\n \r\n"), "", "blank lines only");
    is_str(text("\n {\"a\":1}\r\n\n{\"b\":2}"), "{\"a\":1}\n{\"b\":2}\n", "blank lines, CRLF, no end of line");
    is_str(text("\xEF\xBB\xBF{\"a\":1}\n"), "{\"a\":1}\n", "byte order mark");
    is_str(text("a\n\nb c\r\n"), "{\"id\":\"a\",\"path\":\"a\"}\n{\"id\":\"b c\",\"path\":\"b c\"}\n", "paths");
    is_str(all(&z, "x\ny\0{z}\0", 8), "{\"id\":\"x\\ny\",\"path\":\"x\\ny\"}\n{\"id\":\"{z}\",\"path\":\"{z}\"}\n", "NUL-separated paths");
    is_str(all(&z, "{\"a\":1}\n{}\n", 11), "{\"a\":1}\n{}\n", "-0 leaves JSON lines alone");
    is_str(all(&z, "{x}\0", 4), "{\"id\":\"{x}\",\"path\":\"{x}\"}\n", "a name with a brace");
    is_str(all(&z, "a\0\0", 3), "{\"id\":\"a\",\"path\":\"a\"}\n{\"id\":\"\",\"path\":\"\",\"error\":{\"code\":\"MM_EDATA\",\"message\":"
           "\"empty file name\"}}\n", "an empty name");
    is_str(all(&z, "\xf1\0", 2), "{\"id\":\"b64:8Q==\",\"path\":\"\xEF\xBF\xBD\",\"path_b64\":\"8Q==\"}\n", "a name that is no UTF-8");
    mm_reader *r;
    ok(!mm_reader_open_mem(&r, &z, "in", "l\xf1\n\0", 4, &err) && mm_reader_next(r, rec, &err) == 1 &&
       !strcmp(mm_rec_path(rec), "l\xf1\n"), "is there in its own bytes");
    is_str(mm_rec_place(rec), "in:1", "place");
    mm_reader_close(&r);
    is_str(text("a\0b\n"), "{\"id\":\"a\",\"path\":\"a\"}\n", "(C string)");
    is_str(all(NULL, "a\0b\n", 4), "MM_EUNSUP", "NUL without -0");
    is_str(all(&t, "a\r\n\nb\0c\n\xff\n", 10), "{\"text\":\"a\"}\n{\"text\":\"\"}\n{\"text\":\"b\\u0000c\"}\n{\"error\":{\"code\":\"MM_EDATA\","
           "\"message\":\"in:4: invalid UTF-8 at byte 1\"}}\n", "text lines");
    is_str(all(&t0, "a\r\n\0b", 5), "{\"text\":\"a\\r\\n\"}\n{\"text\":\"b\"}\n", "texts ended by NUL");
    is_str(all(&small, "abcd\nabcde\nx", 12), "{\"text\":\"abcd\"}\n{\"error\":{\"code\":\"MM_ELONG\",\"message\":\"in:2: longer than the "
           "limit of 4 bytes\"}}\n{\"text\":\"x\"}\n", "a line over the limit");
    is_str(text("{\"a\":1}\nx\n[1]\n{\"a\":2}\n"), "{\"a\":1}\n{\"error\":{\"code\":\"MM_EDATA\",\"message\":\"in:2: invalid JSON at byte 1: "
           "not an object\"}}\n{\"error\":{\"code\":\"MM_EDATA\",\"message\":\"in:3: invalid JSON: an array, an object is wanted\"}}\n"
           "{\"a\":2}\n", "bad lines among good ones");
    static const struct { const char *s; size_t n; } other[] = { { "\x1F\x8B\x08\0\0\0\0\0", 8 }, { "GGUF\3\0\0\0\0\0\0\0", 12 } };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        is_str(all(NULL, other[i].s, other[i].n), "MM_EUNSUP", "files that are no records are named");
    static const struct { const char *s; size_t n; } media[] = { { "\x89PNG\r\n\x1a\nrest", 12 }, { "\xFF\xD8\xFF\xE0", 4 },
        { "RIFF\0\0\0\0WAVE\n\0", 14 }, { "\0\0\0\x18" "ftypmp42", 12 } };
    const mm_reader_opts few = { .max_media = 13 };
    for (size_t i = 0; i < sizeof media / sizeof *media; i++) {
        mm_reader *rd;
        mm_rec *one = mm_rec_new();
        mm_slice blob = { NULL, 0 };
        mm_err e = { 0 };
        ok(!mm_reader_open_mem(&rd, i == 2 ? &few : NULL, "in", media[i].s, media[i].n, &e), "a medium on a stream opens");
        if (i == 2) is_int(mm_reader_next(rd, one, &e), MM_ELONG, "one over the limit");
        else
            ok(mm_reader_next(rd, one, &e) == 1 && mm_rec_blob(one, &blob) == 1 && blob.len == media[i].n && !memcmp(blob.p, media[i].s, blob.len) &&
                   mm_reader_next(rd, one, &e) == 0 && !mm_rec_blob(one, &blob), "it is one record with its bytes, which go with the record");
        mm_reader_close(&rd);
        mm_rec_free(one);
    }
}

/* ---- frames, made by hand ---- */

static mm_buf fr;

static const char *frame(const char *header, const void *data, size_t len)
{
    uint64_t n = strlen(header);
    mm_buf_reset(&fr);
    mm_buf_add(&fr, &n, 8);
    mm_buf_adds(&fr, header);
    mm_buf_add(&fr, data, len);
    return all(NULL, fr.p, fr.len);
}

static void frames(void)
{
    static const float d[4] = { 1, 2, 3, 4 };
#define EMB "\"embedding\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"
#define META(r) "\"__metadata__\":{\"mm.stream\":\"1\",\"mm.records\":\"" r "\"}"
    is_str(frame("{\"x\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", d, 16),
           "{\"embedding\":[1,2]}\n{\"embedding\":[3,4]}\n", "somebody's file with one tensor");
    is_str(frame("{\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", d, 16), "{\"embedding\":[1,2,3,4]}\n", "one vector");
    is_str(frame("{" META("[{\\\"embedding\\\":0},{},{\\\"a\\\":1,\\\"embedding\\\":1,\\\"b\\\":2}]") "," EMB "}", d, 16),
           "{\"embedding\":[1,2]}\n{}\n{\"a\":1,\"embedding\":[3,4],\"b\":2}\nMM_ETRUNC", "rows in their places; no end marker");
    is_str(frame("{" META("[{\\\"embedding\\\":0},{},{\\\"embedding\\\":1}]") "," EMB "}", d, 12),
           "{\"embedding\":[1,2]}\n{}\nMM_ETRUNC", "cut in the last row: what came is handed out");
    static const struct { const char *h, *want, *what; } bad[] = {
        { "{" META("[{\\\"embedding\\\":1},{\\\"embedding\\\":0}]") "," EMB "}", "MM_EDATA", "rows out of order" },
        { "{" META("[{\\\"embedding\\\":0}]") "," EMB "}", "{\"embedding\":[1,2]}\nMM_EDATA", "a row left over" },
        { "{" META("[{\\\"embedding\\\":0},{\\\"embedding\\\":1},{\\\"embedding\\\":2}]") "," EMB "}",
          "{\"embedding\":[1,2]}\n{\"embedding\":[3,4]}\nMM_EDATA", "a row too many" },
        { "{" META("{}") "," EMB "}", "MM_EDATA", "records are no array" },
        { "{" META("[1]") "}", "{\"error\":{\"code\":\"MM_EDATA\",\"message\":\"in:1: invalid JSON at byte 1: not an object\"}}\nMM_EDATA",
          "a record is no object" },
        { "{\"__metadata__\":{\"mm.stream\":\"2\"}}", "MM_EUNSUP", "another version" },
        { "{\"__metadata__\":{\"mm.stream\":1}}", "MM_EDATA", "metadata that is no string" },
        { "{\"__metadata__\":{\"mm.stream\":\"1\",\"mm.stream\":\"1\"}}", "MM_EDATA", "a key twice" },
        { "{\"__metadata__\":{\"mm.stream\":\"1\",\"mm.eos\":\"1\"}}", "MM_ETRUNC", "an end marker that counts more" },
        { "{" EMB "," EMB "}", "MM_EDATA", "a tensor twice" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[16,16]}}",
          "MM_EUNSUP", "two tensors of no meaning" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]}}", "MM_EDATA", "a gap" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,16]}}", "MM_EDATA", "offsets that do not fit" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,0]}}", "MM_EDATA", "offsets turned round" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", "MM_EDATA", "overflow" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905,4],\"data_offsets\":[0,16]}}", "MM_EDATA", "overflow back to 16" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[0,0]}}", "MM_ESHAPE", "dimension 0" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[1,2,2],\"data_offsets\":[0,16]}}", "MM_ESHAPE", "three dimensions" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,2,2],\"data_offsets\":[0,16]}}", "MM_EDATA", "nine dimensions" },
        { "{\"embedding\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}}", "MM_EUNSUP", "a type we have no use for" },
        { "{\"embedding\":{\"dtype\":\"Q9\",\"shape\":[2],\"data_offsets\":[0,16]}}", "MM_EUNSUP", "no such type" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[4]}}", "MM_EDATA", "offsets missing" },
        { "{\"embedding\":{\"dtype\":\"F32\",\"shape\":[1048577],\"data_offsets\":[0,4194308]}}", "MM_ESHAPE", "over the limit of dimensions" },
        { "{\"embedding\":", "MM_EDATA", "no JSON" }, { "{} x", "MM_EDATA", "something behind" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) is_str(frame(bad[i].h, d, 16), bad[i].want, bad[i].what);
    mm_reader_opts f = { .format = MM_IN_FRAMES }, few = { .max_header = 64 };
    is_str(all(&f, "", 0), "MM_ETRUNC", "no frame at all where frames were promised");
    is_str(all(&f, "\1\0\0\0\0\0\0\0{", 9), "MM_EDATA", "a header of one byte");
    is_str(all(&f, "\0\0\0\0\0\1\0\0{}", 10), "MM_EDATA", "a header of 2^40 bytes");
    is_str(all(&few, "\101\0\0\0\0\0\0\0{\"", 10), "MM_EDATA", "a header over the limit");
    is_str(all(NULL, "\40\0\0\0\0\0\0\0{\"", 10), "MM_ETRUNC", "cut in the header");
    is_str(all(&f, "\40\0\0\0\0", 5), "MM_ETRUNC", "cut in the length");
    /* records as a tensor */
    is_str(frame("{\"__metadata__\":{\"mm.stream\":\"1\"},\"mm.records\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]},"
                 "\"embedding\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[16,20]}}", "[{\"embedding\":0}\0\0\x80\x3f", 20),
           "{\"embedding\":[1]}\nMM_EDATA", "records that are no whole array");
    is_str(frame("{\"__metadata__\":{\"mm.stream\":\"1\"},\"mm.records\":{\"dtype\":\"U8\",\"shape\":[20],\"data_offsets\":[0,20]},"
                 "\"embedding\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[20,24]}}", "[{\"embedding\":0}]  \n\0\0\x80\x3f", 24),
           "{\"embedding\":[1]}\nMM_ETRUNC", "records as a tensor");
}

/* ---- npy, made by hand ---- */

static const char *npy(int version, const char *dict, const void *data, size_t len)
{
    size_t n = strlen(dict);
    mm_buf_reset(&fr);
    mm_buf_addf(&fr, "%cNUMPY%c%c", 0x93, version, 0);
    mm_buf_addc(&fr, (char)n);
    mm_buf_addc(&fr, 0);
    if (version > 1) mm_buf_add(&fr, "\0\0", 2);
    mm_buf_adds(&fr, dict);
    mm_buf_add(&fr, data, len);
    return all(NULL, fr.p, fr.len);
}

static void npys(void)
{
    static const float d[4] = { 1, 2, 3, 4 };
    static const char two[] = "{\"embedding\":[1,2]}\n{\"embedding\":[3,4]}\n";
#define DICT(t, f, s) "{'descr': " t ", 'fortran_order': " f ", 'shape': " s ", }     "
    for (int v = 1; v <= 3; v++) is_str(npy(v, DICT("'<f4'", "False", "(2, 2)"), d, 16), two, "npy");
    is_str(npy(1, "{\"shape\":(2,2),\"fortran_order\":False,\"descr\":\"<f4\"}", d, 16), two, "other quotes and order");
    is_str(npy(1, DICT("'<f4'", "True", "(4,)"), d, 16), "{\"embedding\":[1,2,3,4]}\n", "one dimension");
    is_str(npy(1, DICT("'|i1'", "False", "(1, 4)"), "\1\xff\x80\x7f", 4), "{\"embedding\":[1,-1,-128,127]}\n", "int8");
    is_str(npy(1, DICT("'<f2'", "False", "(1, 2)"), "\0\x3c\0\xc0", 4), "{\"embedding\":[1,-2]}\n", "float16");
    is_str(npy(1, DICT("'<f4'", "False", "(0, 4)"), d, 0), "", "no rows");
    is_str(npy(1, DICT("'<f4'", "False", "(0, 0)"), d, 0), "", "nothing at all");
    is_str(npy(1, DICT("'<f4'", "False", "(2, 2)"), d, 15), "{\"embedding\":[1,2]}\nMM_ETRUNC", "cut");
    is_str(npy(1, DICT("'<f4'", "False", "(1, 2)"), d, 16), "{\"embedding\":[1,2]}\nMM_EDATA", "something behind");
    is_str(npy(1, DICT("'<f4'", "False", "(1, 2)"), "\0\0\0\0\0\0\x80\x7f", 8),
           "MM_EDATA: 'embedding' holds NaN, an infinity, or a value beyond float32\n", "an infinity is one bad record");
    static const struct { const char *dict; const char *want; } bad[] = {
        { DICT("'<f4'", "True", "(2, 2)"), "MM_EUNSUP" }, { DICT("'>f4'", "False", "(2, 2)"), "MM_EUNSUP" },
        { DICT("'<i8'", "False", "(2,)"), "MM_EUNSUP" }, { DICT("[('a','<f4')]", "False", "(2,)"), "MM_EUNSUP" },
        { DICT("'|O'", "False", "(2,)"), "MM_EUNSUP" }, { DICT("'<f4'", "False", "()"), "MM_ESHAPE" },
        { DICT("'<f4'", "False", "(1,2,2)"), "MM_ESHAPE" }, { DICT("'<f4'", "False", "(2,-2)"), "MM_EDATA" },
        { DICT("'<f4'", "False", "(2,0)"), "MM_ESHAPE" }, { DICT("'<f4'", "False", "(1,9999999999)"), "MM_ESHAPE" },
        { DICT("'<f4'", "False", "(9999999999999999999,2)"), "MM_EDATA" }, { DICT("'<f4'", "Maybe", "(2,)"), "MM_EDATA" },
        { "{'descr': '<f4', 'shape': (4,)}", "MM_EDATA" }, { "{'descr': '<f4", "MM_EDATA" }, { "x", "MM_EDATA" }, { "{", "MM_EDATA" },
        { "{'a': 1}", "MM_EDATA" }, { "{'descr': '<f4', 'fortran_order': False, 'shape': (4,", "MM_EDATA" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) is_str(npy(1, bad[i].dict, d, 16), bad[i].want, bad[i].dict);
    is_str(npy(4, DICT("'<f4'", "False", "(4,)"), d, 16), "MM_EUNSUP", "version 4");
    is_str(all(NULL, "\x93NUMPY\1\0\xff\xff{", 11), "MM_ETRUNC", "cut in the header");
    is_str(all(NULL, "\x93NUMPY\1", 7), "MM_ETRUNC", "cut in front of it");
}

/* ---- round trips ---- */

static uint64_t seed = 42;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* A record as this library writes it: then every encoding must give it back to the byte. */
static void random_record(mm_buf *b, size_t max_text)
{
    static const char *const vals[] = { "123456789012345678901234567890", "1e400", "-0.0", "1.10", "\"\\u00e9\\n\\/\"", "\"\xF0\x9F\x98\x80\"",
        "{\"a\":[{\"embedding\":7},null,[]]}", "true", "null", "[]", "\"\\ud83d\\ude00\"", "\"\\ud800\"" };
    static const char *const keys[] = { "id", "text", "a", "\\u0062", "", "Embedding", "x y", "\xC3\xA9", "meta", "embedding2" };
    unsigned used = 0, vec_at = (unsigned)(rnd() % 12), k;
    char sep = '{';
    for (unsigned i = 0; i < 10; i++) {
        if (i == vec_at) {
            size_t dim = rnd() % 5 == 0 ? rnd() % 700 + 1 : 4;
            mm_buf_addf(b, "%c\"embedding\":[", sep);
            sep = ',';
            for (size_t j = 0; j < dim; j++) {
                union { uint32_t u; float f; } x = { (uint32_t)rnd() };
                char s[16];
                if (!isfinite(x.f)) x.u &= 0xBFFFFFFF;
                if (j) mm_buf_addc(b, ',');
                mm_buf_add(b, s, mm_format_float(x.f, s));
            }
            mm_buf_addc(b, ']');
        }
        if (rnd() % 3 || used & 1u << (k = (unsigned)(rnd() % 10))) continue;
        used |= 1u << k;
        mm_buf_addf(b, "%c\"%s\":%s", sep, keys[k], vals[rnd() % 12]);
        sep = ',';
    }
    if (max_text) {
        mm_buf_addf(b, "%c\"big\":\"", sep);
        for (size_t n = rnd() % max_text + 1; n; n--) mm_buf_adds(b, "0123456789\\\"\\\\abcde");
        mm_buf_addc(b, '"');
        sep = ',';
    }
    if (rnd() % 50 == 0) {
        mm_buf_addf(b, "%c\"error\":{\"code\":\"MM_EDATA\",\"message\":\"m\"}", sep);
        sep = ',';
    }
    mm_buf_adds(b, sep == '{' ? "{}\n" : "}\n");
}

static int convert(const mm_buf *in, const char *path, const mm_writer_opts *wo, mm_buf *out)
{
    mm_reader *r = NULL;
    mm_writer *w = NULL;
    mm_writer_opts o = *wo;
    o.path = path;
    int s = mm_reader_open_mem(&r, NULL, "in", in->p, in->len, &err);
    if (!s) s = mm_writer_open(&w, &o, &err);
    if (!s && mm_writer_prog(w, "test 1")) s = MM_ENOMEM;
    while (!s && (s = mm_reader_next(r, rec, &err)) > 0) {
        s = mm_writer_put(w, rec, &err);
        if (!s && rnd() % 100 == 0) s = mm_writer_flush(w, &err);
    }
    if (!s) s = mm_writer_finish(w, &err);
    mm_writer_close(&w);
    mm_reader_close(&r);
    mm_buf_reset(out);
    if (!s) s = mm_file_read(out, path, SIZE_MAX / 2, &err);
    if (s) printf("# %s\n", err.msg);
    return s;
}

static void round_trips(void)
{
    char path[] = "/tmp/mm-stream-XXXXXX";
    int fd = mkstemp(path);
    mm_buf in = { 0 }, a = { 0 }, b = { 0 }, c = { 0 };
    static const mm_writer_opts lines_out = { .format = MM_OUT_JSON }, b64 = { .format = MM_OUT_JSON, .encoding = MM_ENC_BASE64 },
                                bin = { .format = MM_OUT_FRAMES }, each = { .format = MM_OUT_FRAMES, .unbuffered = 1 };
    close(fd);
    for (int i = 0; i < 3000; i++) random_record(&in, 0);
    ok(!convert(&in, path, &lines_out, &a) && a.len == in.len && !memcmp(a.p, in.p, a.len), "lines to lines");
    ok(!convert(&in, path, &bin, &a) && !convert(&a, path, &lines_out, &b) && b.len == in.len && !memcmp(b.p, in.p, b.len),
       "lines to frames to lines");
    ok(!convert(&a, path, &bin, &b) && !convert(&b, path, &lines_out, &c) && c.len == in.len && !memcmp(c.p, in.p, c.len),
       "frames to frames");
    ok(!convert(&in, path, &each, &a) && !convert(&a, path, &lines_out, &b) && b.len == in.len && !memcmp(b.p, in.p, b.len),
       "one frame a record");
    ok(!convert(&in, path, &b64, &a) && !convert(&a, path, &bin, &b) && !convert(&b, path, &lines_out, &c) && c.len == in.len &&
       !memcmp(c.p, in.p, c.len), "lines to base64 to frames to lines");
    mm_buf_reset(&in);
    for (int i = 0; i < 100; i++) random_record(&in, 0);
    size_t cut_ok = 0, cuts = 300;
    if (convert(&in, path, &bin, &b)) cuts = 1;
    for (size_t i = 0; i < cuts; i++) {
        const char *got = all(NULL, b.p, 9 + rnd() % (b.len - 9));
        size_t n = strlen(got);
        cut_ok += n >= 9 && !strcmp(got + n - 9, "MM_ETRUNC") && n - 9 <= in.len && !memcmp(got, in.p, n - 9);
    }
    is_int((long long)cut_ok, (long long)cuts, "cut anywhere: noticed, and what came in front is right");
    mm_buf_reset(&in);
    for (int i = 0; i < 8; i++) random_record(&in, 1 << 20);
    ok(!convert(&in, path, &bin, &a) && !convert(&a, path, &lines_out, &b) && b.len == in.len && !memcmp(b.p, in.p, b.len),
       "records larger than a header may be (%zu bytes)", in.len);
    mm_buf_reset(&in);
    ok(!convert(&in, path, &bin, &a) && a.len == 64 && !convert(&a, path, &lines_out, &b) && b.len == 0, "no records");
    /* typed vectors keep their type through frames and base64 */
    static const char typed[] = "{\"embedding\":{\"dtype\":\"F16\",\"shape\":[2],\"b64\":\"ADwAwA==\"}}\n"
                                "{\"embedding\":{\"dtype\":\"F64\",\"shape\":[1],\"b64\":\"mpmZmZmZuT8=\"}}\n"
                                "{\"embedding\":{\"dtype\":\"I8\",\"shape\":[3],\"b64\":\"AQID\"}}\n{\"embedding\":\"AACAPw==\"}\n";
    mm_buf_adds(&in, typed);
    ok(!convert(&in, path, &bin, &a) && !convert(&a, path, &b64, &b) && b.len == sizeof typed - 1 && !memcmp(b.p, typed, b.len),
       "types survive");
    mm_buf_clear(&in);
    mm_buf_clear(&a);
    mm_buf_clear(&b);
    mm_buf_clear(&c);
    unlink(path);
}

/* pending() must tell without blocking whether next() would */
static void pending(void)
{
    int p[2];
    mm_reader *r;
    char name[32];
    if (pipe(p)) return;
    snprintf(name, sizeof name, "/dev/fd/%d", p[0]);
    char *names[] = { name };
    if (mm_reader_open(&r, NULL, names, 1, &err)) return;
    int first = mm_reader_pending(r), wrote = write(p[1], "{\"a\":1}\n{\"b\"", 12) == 12, one = mm_reader_pending(r);
    int next = mm_reader_next(r, rec, &err), two = mm_reader_pending(r);
    wrote &= write(p[1], ":2}", 3) == 3;
    int three = mm_reader_pending(r);
    close(p[1]);
    ok(wrote && first == 0 && one == 1 && next == 1 && two == 0 && three == 0, "pending: nothing, a line, half a line");
    ok(mm_reader_pending(r) == 1 && mm_reader_next(r, rec, &err) == 1 && mm_reader_pending(r) == 1 && mm_reader_next(r, rec, &err) == 0,
       "pending: a last line, the end");
    mm_reader_close(&r);
    close(p[0]);
}

int main(void)
{
    rec = mm_rec_new();
    records();
    errors();
    vectors();
    lines();
    frames();
    npys();
    round_trips();
    pending();
    mm_rec_free(rec);
    mm_buf_clear(&fr);
    return done();
}

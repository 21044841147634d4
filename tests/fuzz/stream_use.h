/* stream_use.h - read all records of an input and use each in every way; what is written must read back to the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mm_str.h"
#include "stream/mm_stream.h"

static void must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

static void use_record(mm_rec *rec, mm_rec *again, int encoding)
{
    mm_buf a = { 0 }, b = { 0 };
    mm_err e = { 0 };
    int code = mm_rec_json(rec, encoding, &a, &e);
    if (code) {
        must(code < 0 && e.msg[0] && !a.len, "a failure has a message and writes nothing");
    } else {
        must(!memchr(a.p, '\n', a.len), "one line");
        must(!mm_rec_parse(again, a.p, a.len, &e), "what is written can be read");
        must(!mm_rec_failed(rec) == !mm_rec_failed(again), "errors stay errors");
        must(!mm_rec_json(again, encoding, &b, &e), "and written again");
        must(a.len == b.len && !memcmp(a.p, b.p, a.len), "the same");
    }
    mm_buf_clear(&a);
    mm_buf_clear(&b);
}

static void use(const mm_reader_opts *o, const uint8_t *data, size_t size)
{
    static mm_rec *rec, *again;
    mm_reader *r;
    mm_err err = { 0 };
    int s;
    if (!rec) rec = mm_rec_new();
    if (!again) again = mm_rec_new();
    if (!rec || !again || mm_reader_open_mem(&r, o, "fuzz", data, size, &err)) abort();
    while (mm_reader_pending(r), (s = mm_reader_next(r, rec, &err)) > 0) {
        const float *v = NULL;
        size_t dim = 0;
        mm_slice text;
        int has = mm_rec_vec(rec, &v, &dim, &err);
        volatile float sum = 0;
        for (size_t i = 0; has > 0 && i < dim; i++) sum += v[i] * 0;
        must(sum == 0, "vectors are finite");
        if (mm_rec_str(rec, "text", &text, &err) > 0) must(mm_utf8_valid(text.p, text.len) == text.len, "text is UTF-8");
        must(mm_rec_place(rec)[0], "a place");
        mm_rec_path(rec);
        use_record(rec, again, MM_ENC_NUMBERS);
        use_record(rec, again, MM_ENC_BASE64);
        use_record(rec, again, MM_ENC_NONE);
        if (has < 0 && !mm_rec_failed(rec)) {
            mm_rec_fail(rec, has, "%s", err.msg);
            use_record(rec, again, MM_ENC_NUMBERS);
        }
    }
    must(s == 0 || err.msg[0], "the end has a reason");
    must(mm_reader_next(r, rec, NULL) == s, "the end is the end");
    mm_reader_close(&r);
}

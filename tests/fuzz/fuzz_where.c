/* Conditions: the first line is one, the rest is the payload it is tried on. */
#include <stdlib.h>
#include <string.h>
#include "index/mm_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
    size_t n = nl ? (size_t)(nl - data) : size;
    char *cond = malloc(n + 1);
    mm_where *w;
    mm_err err = { 0 };
    if (!cond) return 0;
    if (n) memcpy(cond, data, n);
    cond[n] = 0;
    if (!mm_where_parse(&w, cond, &err)) {
        mm_slice v;
        const char *doc = nl ? (const char *)nl + 1 : "{}";
        size_t len = nl ? size - n - 1 : 2;
        if (mm_json_value(doc, len, &v, NULL) > 0 && v.p[0] == '{') (void)mm_where_match(w, v.p, v.len);
        (void)mm_where_match(w, doc, len); /* a damaged one */
    } else if (w || !err.msg[0]) {
        abort();
    }
    mm_where_free(&w);
    free(cond);
    return 0;
}

/* The manifest's reader; a good checksum is put under what has none. */
#include "index_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mm_index ix = { 0 };
    mm_err err = { 0 };
    for (int sealed = 0; sealed < 2; sealed++) {
        mm_buf b = { 0 };
        mm_buf_add(&b, data, size);
        if (sealed) mm_buf_addf(&b, "\n%08x\n", mm_crc32c(0, data, size));
        int r = man_parse(&ix, b.p ? b.p : "", b.len, &err);
        if (r && !err.msg[0]) abort();
        mm_buf_clear(&b);
        free(ix.seg);
        ix.seg = NULL;
        ix.n_seg = 0;
    }
    free(ix.model);
    fuzz_put("log-1", "", 0);
    fuzz_manifest((const char *)data, size);
    fuzz_open();
    return 0;
}

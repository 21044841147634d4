/* The reader of gguf files over one input. */
#include "store_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mm_store *st;
    mm_err err;
    if (!mm_store_parse(&st, "fuzz", data, size, &err)) use(st);
    else if (st || !err.code || !err.msg[0]) abort();
    mm_store_close(&st);
    return 0;
}

/* The reader of npy arrays over one input. */
#include "stream_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mm_reader_opts o = { .format = MM_IN_NPY, .max_header = 1000, .max_dim = 100 };
    use(&o, data, size);
    return 0;
}

/* The reader of frames over one input, with limits that small inputs reach. */
#include "stream_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mm_reader_opts o = { .format = MM_IN_FRAMES, .max_line = 1000, .max_header = 4000, .max_dim = 100 };
    use(&o, data, size);
    return 0;
}

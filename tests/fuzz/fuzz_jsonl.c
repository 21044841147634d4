/* JSON lines, lists and sniffing: the first byte chooses, the rest is the input. */
#include "stream_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mm_reader_opts o[] = { { .format = MM_IN_JSON }, { .format = MM_IN_AUTO }, { .format = MM_IN_AUTO, .nul = 1 },
        { .format = MM_IN_TEXT }, { .format = MM_IN_TEXT, .nul = 1 }, { .format = MM_IN_PATHS }, { .format = MM_IN_JSON, .max_line = 40, .max_dim = 2 } };
    if (size) use(&o[data[0] % 7], data + 1, size - 1);
    return 0;
}

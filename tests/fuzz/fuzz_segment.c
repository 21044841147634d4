/* A segment: its header gets a good checksum, the rest is as it comes. */
#include "index_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = { "f32", "f16", "i8", "b1" };
    char json[200];
    seg_head h;
    uint8_t *b = malloc(size + 1);
    if (!b) return 0;
    memcpy(b, data, size);
    memset(&h, 0, sizeof h);
    if (size >= sizeof h) {
        memcpy(&h, b, sizeof h);
        h.crc = mm_crc32c(0, &h, offsetof(seg_head, crc));
        memcpy(b, &h, sizeof h);
    }
    int n = snprintf(json, sizeof json,
                     "{\"version\":1,\"type\":\"%s\",\"dim\":%u,\"generation\":2,\"journal\":\"log-1\",\"segments\":["
                     "{\"file\":\"seg-2\",\"deleted\":\"\"}]}",
                     types[h.type & 3], h.dim % (MM_INDEX_DIM_MAX + 1));
    fuzz_manifest(json, (size_t)n);
    fuzz_put("log-1", "", 0);
    fuzz_put("seg-2", b, size);
    free(b);
    fuzz_open();
    return 0;
}

/* Replay of a journal: bytes as they are, and with good checksums put under whatever is framed as a record. */
#include "index_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = { "f32", "f16" };
    char json[200];
    if (!size) return 0;
    int n =
        snprintf(json, sizeof json,
                 "{\"version\":1,\"type\":\"%s\",\"dim\":%d,\"generation\":1,\"journal\":\"log-1\",\"segments\":[]}",
                 types[data[0] >> 4 & 1], (data[0] & 15) + 1);
    fuzz_manifest(json, (size_t)n);
    fuzz_put("log-1", data + 1, size - 1);
    fuzz_open();
    uint8_t *b = malloc(size);
    if (!b) return 0;
    memcpy(b, data + 1, size - 1);
    for (size_t at = 0; at + 8 <= size - 1;) {
        uint32_t len, crc;
        memcpy(&len, b + at, 4);
        if (len > size - 1 - at - 8) break;
        crc = mm_crc32c(0, b + at + 8, len);
        memcpy(b + at + 4, &crc, 4);
        at += 8 + (size_t)len;
    }
    fuzz_put("log-1", b, size - 1);
    free(b);
    fuzz_open();
    return 0;
}

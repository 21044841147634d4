/* PNG out: 8-bit RGB, every row by the filter that leaves the smallest numbers, as the specification advises. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "media/media_int.h"

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static int chunk(mm_buf *out, const char *name, const uint8_t *data, size_t len)
{
    uint8_t n[4], crc[4];
    put32(n, (uint32_t)len);
    put32(crc, (uint32_t)crc32(crc32(crc32(0, NULL, 0), (const uint8_t *)name, 4), data, (uInt)len));
    mm_buf_add(out, n, 4);
    mm_buf_add(out, name, 4);
    mm_buf_add(out, data, len);
    return mm_buf_add(out, crc, 4);
}

static int paeth(int a, int b, int c)
{
    const int p = a + b - c, pa = abs(p - a), pb = abs(p - b), pc = abs(p - c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* A row by a filter of PNG; returns how large its numbers are. up: the row above, zeros above the first. */
static size_t filter(uint8_t *to, const uint8_t *row, const uint8_t *up, size_t n, int how)
{
    size_t sum = 0;
    *to++ = (uint8_t)how;
    for (size_t i = 0; i < n; i++) {
        const int a = i < 3 ? 0 : row[i - 3], b = up[i], c = i < 3 ? 0 : up[i - 3];
        const int guess[] = { 0, a, b, (a + b) / 2, paeth(a, b, c) };
        to[i] = (uint8_t)(row[i] - guess[how]);
        sum += to[i] < 128 ? to[i] : 256u - to[i];
    }
    return sum;
}

int mm_image_png(mm_buf *out, const mm_image *im, mm_err *err)
{
    if (im->width < 1 || im->height < 1) return mm_fail(err, MM_EEMPTY, "the picture is empty");
    const size_t width = 3 * (size_t)im->width, rows = (size_t)im->height, all = rows * (width + 1), before = out->len;
    uLongf len = compressBound((uLong)all);
    uint8_t *raw = mm_realloc(NULL, all, 1), *packed = mm_realloc(NULL, len, 1), *zeros = calloc(width, 1), *trial = mm_realloc(NULL, width + 1, 1), head[13];
    int r = !raw || !packed || !zeros || !trial || all > UINT32_MAX / 2;
    for (size_t y = 0; y < rows && !r; y++) {
        const uint8_t *row = im->px + y * width, *up = y ? row - width : zeros;
        size_t best = SIZE_MAX;
        for (int how = 0; how < 5; how++) {
            const size_t sum = filter(trial, row, up, width, how);
            if (sum >= best) continue;
            best = sum;
            memcpy(raw + y * (width + 1), trial, width + 1);
        }
    }
    if (!r) r = compress2(packed, &len, raw, (uLong)all, 9) != Z_OK;
    if (!r) {
        put32(head, (uint32_t)im->width);
        put32(head + 4, (uint32_t)im->height);
        memcpy(head + 8, "\10\2\0\0\0", 5); /* 8 bits, RGB, the only methods there are, not interlaced */
        mm_buf_add(out, "\211PNG\r\n\32\n", 8);
        chunk(out, "IHDR", head, sizeof head);
        chunk(out, "IDAT", packed, len);
        r = chunk(out, "IEND", head, 0);
    }
    if (r) out->len = before;
    free(raw);
    free(packed);
    free(zeros);
    free(trial);
    return r ? mm_fail(err, MM_ENOMEM, "out of memory") : 0;
}

/* JPEG out, for pages and reports: small, baseline, full colour resolution, since drawings and letters suffer from less. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <jpeglib.h>
#include "media/media_int.h"

typedef struct writer {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    jmp_buf back;
    unsigned char *bytes; /* libjpeg's, by malloc */
    unsigned long len;
    mm_err *err;
    int code;
} writer;

static void on_error(j_common_ptr c)
{
    writer *w = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    w->code = mm_fail(w->err, MM_ENOMEM, "the picture cannot be written as JPEG: %s", text);
    longjmp(w->back, 1);
}

static void quiet(j_common_ptr c, int level) { (void)c, (void)level; }
static void nothing(j_common_ptr c) { (void)c; }

static int guarded(writer *w, const mm_image *im, int quality)
{
    if (setjmp(w->back)) return w->code;
    jpeg_create_compress(&w->c);
    jpeg_mem_dest(&w->c, &w->bytes, &w->len);
    w->c.image_width = (JDIMENSION)im->width;
    w->c.image_height = (JDIMENSION)im->height;
    w->c.input_components = 3;
    w->c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&w->c);
    jpeg_set_quality(&w->c, quality, TRUE);
    w->c.comp_info[0].h_samp_factor = w->c.comp_info[0].v_samp_factor = 1;
    w->c.optimize_coding = TRUE;
    jpeg_start_compress(&w->c, TRUE);
    while (w->c.next_scanline < w->c.image_height) {
        JSAMPROW row = im->px + (size_t)w->c.next_scanline * (size_t)im->width * 3;
        jpeg_write_scanlines(&w->c, &row, 1);
    }
    jpeg_finish_compress(&w->c);
    return 0;
}

int mm_image_jpeg(mm_buf *out, const mm_image *im, int quality, mm_err *err)
{
    if (im->width < 1 || im->height < 1) return mm_fail(err, MM_EEMPTY, "the picture is empty");
    if (im->width > JPEG_MAX_DIMENSION || im->height > JPEG_MAX_DIMENSION)
        return mm_fail(err, MM_ELONG, "a picture of %d x %d is too large for JPEG", im->width, im->height);
    if (quality < 1 || quality > 100) return mm_fail(err, MM_EARG, "JPEG's quality is from 1 to 100, not %d", quality);
    writer *w = calloc(1, sizeof *w);
    if (!w) return mm_fail(err, MM_ENOMEM, "out of memory");
    w->err = err;
    w->c.err = jpeg_std_error(&w->errors);
    w->c.client_data = w;
    w->errors.error_exit = on_error;
    w->errors.emit_message = quiet;
    w->errors.output_message = nothing;
    int r = guarded(w, im, quality);
    if (!r && mm_buf_add(out, w->bytes, w->len)) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (w->c.mem) jpeg_destroy_compress(&w->c);
    free(w->bytes);
    free(w);
    return r;
}

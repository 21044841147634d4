/* JPEG by libjpeg(-turbo): its inverse DCT, chroma interpolation and colour conversion are those that published results were made with. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>
#include "media/media_int.h"

#define SCANS 500 /* a progressive file of more is an attack on the reader's time */

typedef struct reader {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    const media_job *job;
    int code;      /* of the error that ended it */
    int ended;     /* the source is exhausted: libjpeg was given an end marker that is not there */
    int starved;   /* a scan ended before all its blocks had come */
    int damaged;
} reader;

static reader *of(j_common_ptr c) { return c->client_data; }

static void on_error(j_common_ptr c)
{
    reader *r = of(c);
    char text[JMSG_LENGTH_MAX];
    switch (c->err->msg_code) {
    case JERR_OUT_OF_MEMORY: r->code = mm_fail(r->job->err, MM_ENOMEM, "out of memory"); break;
    case JERR_BAD_PRECISION:
        r->code = mm_fail(r->job->err, MM_EUNSUP, "JPEG of %d bits a sample is not supported", c->err->msg_parm.i[0]);
        break;
    case JERR_SOF_UNSUPPORTED: r->code = mm_fail(r->job->err, MM_EUNSUP, "JPEG of a kind that is not supported (lossless or hierarchical)"); break;
    default:
        if (r->ended) {
            r->code = mm_fail(r->job->err, MM_ETRUNC, "the JPEG file ends early");
        } else {
            c->err->format_message(c, text);
            r->code = mm_fail(r->job->err, MM_EDATA, "the JPEG file is damaged: %s", text);
        }
    }
    longjmp(r->back, 1);
}

static void on_message(j_common_ptr c, int level)
{
    reader *r = of(c);
    if (level >= 0 || c->err->msg_code == JWRN_JPEG_EOF) return;
    if (c->err->msg_code == JWRN_HIT_MARKER) r->starved = 1;
    /* what a picture has beside its data, bytes between the segments for one, is no damage to it */
    if (c->err->msg_code != JWRN_EXTRANEOUS_DATA && c->err->msg_code != JWRN_ADOBE_XFORM && c->err->msg_code != JWRN_JFIF_MAJOR) r->damaged = 1;
}

static void nothing(j_common_ptr c) { (void)c; }
static void source_nothing(j_decompress_ptr d) { (void)d; }

static boolean fill(j_decompress_ptr d)
{
    static const JOCTET end[2] = { 0xFF, JPEG_EOI };
    of((j_common_ptr)d)->ended = 1;
    d->src->next_input_byte = end;
    d->src->bytes_in_buffer = 2;
    return TRUE;
}

static void skip(j_decompress_ptr d, long n)
{
    struct jpeg_source_mgr *s = d->src;
    if (n <= 0) return;
    if ((size_t)n > s->bytes_in_buffer) {
        fill(d);
        return;
    }
    s->next_input_byte += n;
    s->bytes_in_buffer -= (size_t)n;
}

static void on_progress(j_common_ptr c)
{
    reader *r = of(c);
    if (r->d.input_scan_number <= SCANS) return;
    r->code = mm_fail(r->job->err, MM_ELONG, "the JPEG file has more than %d scans", SCANS);
    longjmp(r->back, 1);
}

static int orientation(const reader *r)
{
    for (jpeg_saved_marker_ptr m = r->d.marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && !memcmp(m->data, "Exif\0", 6))
            return media_exif_orientation(m->data, m->data_length);
    return 1;
}

static void notes(const reader *r)
{
    for (jpeg_saved_marker_ptr m = r->d.marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 2 && m->data_length > 12 && !memcmp(m->data, "ICC_PROFILE", 12)) {
            media_note(r->job->info, "embedded colour profile ignored");
            return;
        }
}

/* Inks that are stored inverted, as Adobe's programs write them and everybody reads them, in place to RGB. */
static void from_cmyk(uint8_t *out, const uint8_t *in, int n)
{
    for (int i = 0; i < n; i++, in += 4, out += 3) {
        unsigned k = in[3];
        for (int c = 0; c < 3; c++) {
            unsigned t = (255u - in[c]) * k + 128u, ink = ((t >> 8) + t) >> 8;
            out[c] = (uint8_t)(ink < k ? k - ink : 0);
        }
    }
}

static int decode(reader *r, media_raw *raw, uint8_t **line)
{
    struct jpeg_decompress_struct *d = &r->d;
    const media_job *j = r->job;
    int inks = d->jpeg_color_space == JCS_CMYK || d->jpeg_color_space == JCS_YCCK;
    d->out_color_space = inks ? JCS_CMYK : JCS_RGB;
    if (inks && !(*line = mm_realloc(NULL, d->image_width, 4))) return mm_fail(j->err, MM_ENOMEM, "out of memory");
    raw->channels = 3;
    int e = media_alloc(j, raw);
    if (e) return e;
    jpeg_start_decompress(d);
    while (d->output_scanline < d->output_height) {
        JSAMPROW row = raw->px + (size_t)d->output_scanline * d->image_width * 3, to = inks ? *line : row;
        jpeg_read_scanlines(d, &to, 1);
        if (inks) from_cmyk(row, *line, raw->width);
    }
    if (r->ended && (r->starved || d->progressive_mode)) return mm_fail(j->err, MM_ETRUNC, "the JPEG file ends early");
    return 0;
}

/* setjmp lives here alone: nothing that changes between it and longjmp is a local variable */
static int guarded(reader *r, media_raw *raw, uint8_t **line)
{
    if (setjmp(r->back)) return r->code;
    jpeg_create_decompress(&r->d);
    r->d.src = &r->source;
    r->d.progress = &r->progress;
    jpeg_save_markers(&r->d, JPEG_APP0 + 1, 0xFFFF);
    jpeg_save_markers(&r->d, JPEG_APP0 + 2, 0xFFFF);
    jpeg_read_header(&r->d, TRUE);
    int e = media_check_size(r->job, r->d.image_width, r->d.image_height);
    if (e) return e;
    raw->width = (int)r->d.image_width;
    raw->height = (int)r->d.image_height;
    raw->orientation = orientation(r);
    notes(r);
    return r->job->header_only ? 0 : decode(r, raw, line);
}

int media_jpeg(const media_job *j, media_raw *raw)
{
    reader *r = calloc(1, sizeof *r);
    uint8_t *line = NULL;
    if (!r) return mm_fail(j->err, MM_ENOMEM, "out of memory");
    r->job = j;
    r->d.err = jpeg_std_error(&r->errors);
    r->d.client_data = r;
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->errors.output_message = nothing;
    r->progress.progress_monitor = on_progress;
    r->source = (struct jpeg_source_mgr){ j->p, j->len, source_nothing, fill, skip, jpeg_resync_to_restart, source_nothing };
    int e = guarded(r, raw, &line);
    if (!e && r->damaged) {
        j->info->truncated = 1;
        media_note(j->info, "the JPEG data is damaged");
    }
    if (r->d.mem) jpeg_destroy_decompress(&r->d);
    free(line);
    free(r);
    if (e) {
        free(raw->px);
        *raw = (media_raw){ 0 };
    }
    return e;
}

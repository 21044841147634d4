/* av.h - FFmpeg's decoders and demuxers, loaded when an input first needs them. They bring a hundred and more shared libraries, which take
 * tens of milliseconds to start: more than a small model does, and a JPEG or a WAV file has no use for them.
 *
 *   if ((r = media_av_load(MEDIA_AV_FORMAT, err))) return r;      MEDIA_AV_CODEC: without demuxers
 *   ...their functions as ever...
 *
 * The headers say which version was built against; only that one is loaded. libavutil, libswscale and libswresample are linked as usual. */
#ifndef MM_MEDIA_AV_H
#define MM_MEDIA_AV_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include "base/mm_err.h"

#define MEDIA_AV_CODECS(X) \
    X(av_new_packet) X(av_packet_alloc) X(av_packet_free) X(av_packet_unref) X(avcodec_alloc_context3) X(avcodec_default_get_buffer2) \
    X(avcodec_find_decoder) X(avcodec_find_decoder_by_name) X(avcodec_flush_buffers) X(avcodec_free_context) X(avcodec_get_name) \
    X(avcodec_open2) X(avcodec_parameters_to_context) X(avcodec_receive_frame) X(avcodec_send_packet)
#define MEDIA_AV_FORMATS(X) \
    X(av_find_best_stream) X(av_guess_frame_rate) X(av_read_frame) X(av_seek_frame) X(av_stream_get_side_data) X(avformat_alloc_context) \
    X(avformat_close_input) X(avformat_find_stream_info) X(avformat_index_get_entries_count) X(avformat_open_input) X(avio_alloc_context) \
    X(avio_context_free)

#define MEDIA_AV_POINTER(f) __typeof__(f) *f;
extern struct media_av {
    MEDIA_AV_CODECS(MEDIA_AV_POINTER)
    MEDIA_AV_FORMATS(MEDIA_AV_POINTER)
} media_av;

typedef enum { MEDIA_AV_CODEC, MEDIA_AV_FORMAT } media_av_part;
/* 0, or MM_EUNSUP: the library is not there. From any thread; the second call for a part costs nothing. Until it was loaded with success a
 * part's functions are NULL. */
MM_MUST_CHECK int media_av_load(media_av_part part, mm_err *err);

#ifndef MEDIA_AV_TABLE
#define av_new_packet media_av.av_new_packet
#define av_packet_alloc media_av.av_packet_alloc
#define av_packet_free media_av.av_packet_free
#define av_packet_unref media_av.av_packet_unref
#define avcodec_alloc_context3 media_av.avcodec_alloc_context3
#define avcodec_default_get_buffer2 media_av.avcodec_default_get_buffer2
#define avcodec_find_decoder media_av.avcodec_find_decoder
#define avcodec_find_decoder_by_name media_av.avcodec_find_decoder_by_name
#define avcodec_flush_buffers media_av.avcodec_flush_buffers
#define avcodec_free_context media_av.avcodec_free_context
#define avcodec_get_name media_av.avcodec_get_name
#define avcodec_open2 media_av.avcodec_open2
#define avcodec_parameters_to_context media_av.avcodec_parameters_to_context
#define avcodec_receive_frame media_av.avcodec_receive_frame
#define avcodec_send_packet media_av.avcodec_send_packet
#define av_find_best_stream media_av.av_find_best_stream
#define av_guess_frame_rate media_av.av_guess_frame_rate
#define av_read_frame media_av.av_read_frame
#define av_seek_frame media_av.av_seek_frame
#define av_stream_get_side_data media_av.av_stream_get_side_data
#define avformat_alloc_context media_av.avformat_alloc_context
#define avformat_close_input media_av.avformat_close_input
#define avformat_find_stream_info media_av.avformat_find_stream_info
#define avformat_index_get_entries_count media_av.avformat_index_get_entries_count
#define avformat_open_input media_av.avformat_open_input
#define avio_alloc_context media_av.avio_alloc_context
#define avio_context_free media_av.avio_context_free
#endif

#endif

/* mm_chat.h - chat templates: a conversation as the text that a model was trained to go on from.
 *
 *   mm_chat *chat;
 *   mm_chat_open(&chat, source, len, &err);                      the Jinja text that a checkpoint carries
 *   mm_chat_vars v = { .messages = messages, .bos = "<s>", .eos = "</s>", .generate = 1 };
 *   mm_chat_render(chat, &v, &out, &err);                        messages: [{"role":"user","content":"Hi"}, ...]
 *   mm_chat_close(&chat);
 *
 * What is understood is the part of Jinja that chat templates are written in, with the settings they are rendered with elsewhere
 * (trim_blocks, lstrip_blocks, loop controls, tojson without escapes): for, if, set, macro, raw, break, continue; the operators; the
 * usual filters, tests, methods and functions (jinja_lib.c lists them). Everything else is MM_EUNSUP with its line and its name, most of
 * it already in mm_chat_open(): a template is never half understood. A template can compute but not reach out, and its steps, its memory
 * and its output are limited. An mm_chat is immutable and may be used by several threads. */
#ifndef MM_CHAT_H
#define MM_CHAT_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_json.h"
#include "base/mm_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mm_chat mm_chat;

/* The source is copied. MM_EUNSUP: a construct that is not known; MM_EDATA: not Jinja. */
MM_API MM_MUST_CHECK int mm_chat_open(mm_chat **out, const char *source, size_t len, mm_err *err);
MM_API void mm_chat_close(mm_chat **chat);

typedef struct mm_chat_vars {
    const json_t *messages;
    const json_t *tools;   /* NULL: none */
    const json_t *more;    /* further variables, an object; NULL: none */
    const char *bos, *eos; /* texts of these tokens; NULL: "" */
    int generate;          /* add_generation_prompt: the text ends where the answer begins */
    int64_t now;           /* what strftime_now() takes for the time, in seconds of Unix, UTC */
} mm_chat_vars;

/* Appends to out. MM_EDATA: the template raised an exception, or used a value as its type does not allow; MM_EUNSUP; MM_ELONG: too many
 * steps or too much output; MM_ENOMEM. out is as before on failure. */
MM_API MM_MUST_CHECK int mm_chat_render(const mm_chat *chat, const mm_chat_vars *vars, mm_buf *out, mm_err *err);

#ifdef __cplusplus
}
#endif
#endif

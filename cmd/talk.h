/* talk.h - mm-generate --chat: a conversation as a stream of turns. */
#ifndef MM_CMD_TALK_H
#define MM_CMD_TALK_H

#include "cmd/io.h"
#include "cmd/prompt.h"
#include "gen/mm_generate.h"

typedef struct mm_talk {
    mm_ctx *c;
    mm_io *io;
    mm_prompts *prompts;
    mm_gen *gen;
    const mm_gen_job *base; /* what every answer's job has */
    uint64_t seed;
    const char *model;
} mm_talk;

/* Turns come in as records {"role","content"}, or {"text"} for the user's, with "image" where the decoder looks at pictures; all go out,
 * each of the user's that is not followed by an answer with one behind it. On a terminal the user types the turns and sees the answers;
 * with --output FILE the conversation is kept. 0, 1 when turns failed, or the error. */
MM_MUST_CHECK int mm_talk_run(const mm_talk *t, int argc, char **argv);

#endif

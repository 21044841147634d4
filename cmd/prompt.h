/* prompt.h - records into prompts: what is asked for, filled into --template, as a turn of the model's chat template, as token ids. */
#ifndef MM_CMD_PROMPT_H
#define MM_CMD_PROMPT_H

#include "cmd/cmd.h"
#include "cmd/pictures.h"
#include "cmd/seen.h"
#include "gen/mm_chat.h"
#include "model/mm_lm.h"
#include "stream/mm_stream.h"

typedef struct mm_prompts {
    /* options, of the caller */
    const char *prompt;   /* before each text, an empty line between them; NULL: none */
    const char *template; /* with {{keys}}; NULL: the text is all */
    const char *system;
    int raw;              /* no chat template */
    int caption;          /* what is said of what the record shows; --prompt is how it begins */
    /* state */
    const mm_lm *lm;
    mm_pictures pictures; /* of the last record; opened by the caller, where the decoder looks at some or has a connector */
    mm_seen seen;         /* the same of a unified model that says itself, with `caption` */
    mm_chat *chat;        /* NULL: plain texts */
    mm_buf text, file, whole, fill, expanded;
    mm_tok_out tok;
    int32_t *ids;         /* of the last prompt */
    size_t n_ids, cap_ids;
    float *embd;          /* rows for those ids that are `mark`; NULL: none. The caller may take it and leave NULL */
    int32_t mark;
} mm_prompts;

/* Reads the model's chat template and checks --template. */
MM_MUST_CHECK int mm_prompts_open(mm_prompts *p, const mm_lm *lm, mm_err *err);
void mm_prompts_close(mm_prompts *p);
/* p->ids of one record: 0, or the code with which rec has failed. MM_ENOMEM with err ends all. */
MM_MUST_CHECK int mm_prompts_of(mm_prompts *p, mm_rec *rec, mm_err *err);
/* p->ids of a conversation, an array of {"role","content"}. */
MM_MUST_CHECK int mm_prompts_talk(mm_prompts *p, const json_t *messages, mm_err *err);
/* \n, \t, \r, \\ as what they stand for; anything else stays. Appends. */
int mm_unescape(mm_buf *out, const char *s);

#endif

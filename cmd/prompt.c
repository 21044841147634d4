#include "cmd/prompt.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mm_base.h"
#include "cmd/text.h"

int mm_unescape(mm_buf *out, const char *s)
{
    static const char from[] = "ntr\\", to[] = "\n\t\r\\";
    for (; *s; s++) {
        const char *at = *s == '\\' && s[1] ? strchr(from, s[1]) : NULL;
        mm_buf_addc(out, at ? to[at - from] : *s);
        s += at != NULL;
    }
    return out->failed ? MM_ENOMEM : 0;
}

/* The key of "{{ key }}" at s; NULL: there is none. *end: behind it. */
static const char *key_at(const char *s, size_t *len, const char **end)
{
    const char *close = strstr(s, "}}"), *to;
    if (!close) return NULL;
    *end = close + 2;
    for (s += 2; *s == ' ';) s++;
    for (to = close; to > s && to[-1] == ' ';) to--;
    *len = (size_t)(to - s);
    return *len ? s : NULL;
}

int mm_prompts_open(mm_prompts *p, const mm_lm *lm, mm_err *err)
{
    const char *const texts[] = { p->prompt, p->template, p->system }, *const names[] = { "prompt", "template", "system" };
    const char *source = mm_lm_chat_template(lm), *end;
    size_t len;
    p->lm = lm;
    for (size_t i = 0; i < 3; i++)
        if (texts[i] && mm_utf8_valid(texts[i], strlen(texts[i])) < strlen(texts[i]))
            return mm_fail(err, MM_EARG, "option '--%s' is not valid UTF-8", names[i]);
    for (const char *s = p->template; s && (s = strstr(s, "{{")); s = end)
        if (!key_at(s, &len, &end)) return mm_fail(err, MM_EARG, "option '--template': '%.40s' names no key", s);
    if (p->raw || !source) {
        if (p->system)
            return mm_fail(err, MM_EARG, "option '--system': %s",
                           p->raw ? "a plain text has no place for it (--raw)" : "the model has no chat template");
        return 0;
    }
    return mm_chat_open(&p->chat, source, strlen(source), err);
}

void mm_prompts_close(mm_prompts *p)
{
    mm_chat_close(&p->chat);
    mm_buf_clear(&p->text);
    mm_buf_clear(&p->file);
    mm_buf_clear(&p->whole);
    mm_buf_clear(&p->fill);
    mm_buf_clear(&p->expanded);
    mm_pictures_close(&p->pictures);
    mm_seen_close(&p->seen);
    free(p->embd);
    p->embd = NULL;
    mm_tok_out_clear(&p->tok);
    free(p->ids);
    p->ids = NULL;
}

static int no_memory(mm_err *err) { return mm_fail(err, MM_ENOMEM, "out of memory"); }

/* The template with the record's values: strings as they are, other values as JSON. */
static int fill(mm_prompts *p, mm_rec *rec)
{
    const char *s = p->fill.p, *open, *end;
    mm_err err = { 0 };
    for (; (open = strstr(s, "{{")); s = end) {
        size_t len;
        char name[256];
        mm_slice v;
        const char *key = key_at(open, &len, &end);
        mm_buf_add(&p->text, s, (size_t)(open - s));
        snprintf(name, sizeof name, "%.*s", key ? (int)len : 0, key ? key : "");
        if (!mm_rec_get(rec, name, &v)) return mm_rec_fail(rec, MM_EDATA, "no key '%s', which the template asks for", name);
        if (v.len && v.p[0] == '"') {
            const int r = mm_rec_str(rec, name, &v, &err);
            if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
        } else if (!v.len) return mm_rec_fail(rec, MM_EDATA, "key '%s' is a vector, which is no text", name);
        mm_buf_add(&p->text, v.p, v.len);
    }
    mm_buf_adds(&p->text, s);
    return 0;
}

/* --prompt, the record's text or the file it names, both: with an empty line between them. */
static int ask(mm_prompts *p, mm_rec *rec)
{
    mm_err err = { 0 };
    mm_slice text = { 0 };
    int r = mm_rec_str(rec, "text", &text, &err);
    if (r < 0) return mm_rec_fail(rec, r, "%s", err.msg);
    if (!r && !p->pictures.n && mm_rec_path(rec) && (r = mm_text_file(rec, mm_rec_path(rec), &p->file, &text)) < 0) return r;
    if (!r && !p->prompt && p->pictures.n) return mm_rec_fail(rec, MM_EDATA, "a picture, and nothing that is asked about it: no key \"text\", no --prompt");
    if (!r && !p->prompt) return mm_rec_fail(rec, MM_EDATA, "no key \"text\" or \"messages\", and no path of a file");
    if (!p->prompt && !text.len) return mm_rec_fail(rec, MM_EEMPTY, "the text is empty: there is nothing to go on from");
    if (p->prompt) mm_buf_adds(&p->text, p->prompt);
    if (p->prompt && text.len) mm_buf_adds(&p->text, "\n\n");
    mm_buf_add(&p->text, text.p, text.len);
    return 0;
}

static const char *token_text(const mm_prompts *p, int32_t id) { return id >= 0 ? mm_tok_text(mm_lm_tokenizer(p->lm), id) : NULL; }

static int room(mm_prompts *p, size_t more, mm_err *err)
{
    if (p->n_ids + more <= p->cap_ids) return 0;
    int32_t *ids = mm_realloc(p->ids, 2 * (p->n_ids + more), sizeof *ids);
    if (!ids) return no_memory(err);
    p->ids = ids;
    p->cap_ids = 2 * (p->n_ids + more);
    return 0;
}

static int append(mm_prompts *p, const char *text, size_t len, mm_err *err)
{
    int r = mm_tok_encode(mm_lm_tokenizer(p->lm), text, len, 0, &p->tok, err);
    if (!r) r = room(p, p->tok.n, err);
    if (r) return r;
    if (p->tok.n) memcpy(p->ids + p->n_ids, p->tok.ids, p->tok.n * sizeof *p->ids);
    p->n_ids += p->tok.n;
    return 0;
}

/* n ids that stand for rows. */
static int append_marks(mm_prompts *p, size_t n, int32_t mark, mm_err *err)
{
    const int r = room(p, n, err);
    for (size_t i = 0; i < n && !r; i++) p->ids[p->n_ids++] = mark;
    return r;
}

/* The text around a connector's rows, which have an id that is nowhere else in it. */
static int connected(mm_prompts *p, const char *text, size_t len, mm_err *err)
{
    const size_t mark = strlen(MM_VLM_IMAGE), rows = mm_connector_rows(p->pictures.connect.c), start = p->n_ids;
    size_t met = 0;
    int r = 0;
    for (const char *s = text, *end = text + len, *q = s; q && !r; s = q + mark) {
        q = memmem(s, (size_t)(end - s), MM_VLM_IMAGE, mark);
        r = append(p, s, (size_t)((q ? q : end) - s), err);
        if (q && !r) r = append_marks(p, rows, -1, err);
        met += q != NULL;
    }
    if (!r && met != p->pictures.n)
        r = mm_fail(err, MM_EDATA, "%zu pictures, sounds or clips are given, the prompt has %zu of '" MM_VLM_IMAGE "'", p->pictures.n, met);
    int32_t free_id = 0;
    for (size_t i = start; i < p->n_ids; i++)
        if (p->ids[i] == free_id) free_id++, i = start - 1;
    for (size_t i = start; i < p->n_ids; i++)
        if (p->ids[i] < 0) p->ids[i] = free_id;
    p->mark = free_id;
    return r;
}

/* The ids of a text, with this one in front unless it is -1 or there already. */
static int encode(mm_prompts *p, const mm_buf *text, int32_t first, mm_err *err)
{
    int r = 0;
    p->n_ids = 0;
    if (p->pictures.lm && !p->pictures.connect.c) {
        mm_buf_reset(&p->expanded);
        if ((r = mm_vlm_prompt(p->lm, text->p ? text->p : "", text->len, p->pictures.pics, p->pictures.n, &p->expanded, err))) return r;
        text = &p->expanded;
    }
    r = append_marks(p, p->seen.n, MM_SAY_MARK, err);
    if (!r && first >= 0) r = append_marks(p, 1, first, err);
    if (r) return r;
    const size_t at = p->n_ids;
    r = p->pictures.n && p->pictures.connect.c ? connected(p, text->p ? text->p : "", text->len, err) : append(p, text->p ? text->p : "", text->len, err);
    if (!r && first >= 0 && p->n_ids > at && p->ids[at] == first) memmove(p->ids + at, p->ids + at + 1, (--p->n_ids - at) * sizeof *p->ids);
    return r;
}

/* What is seen, <|text|>, and --prompt: the caption goes on from there. */
static int caption(mm_prompts *p, mm_rec *rec, mm_err *err)
{
    mm_err e = { 0 };
    int r = mm_seen_of(&p->seen, rec, err);
    if (r) return mm_rec_failed(rec) ? mm_rec_failed(rec) : r;
    mm_buf_reset(&p->text);
    if (p->prompt && mm_buf_adds(&p->text, p->prompt)) return no_memory(err);
    if ((r = encode(p, &p->text, mm_lm_bos(p->lm), &e))) return r == MM_ENOMEM ? no_memory(err) : mm_rec_fail(rec, r, "%s", e.msg);
    for (size_t i = p->seen.n; i < p->n_ids; i++)
        if (p->ids[i] == MM_SAY_MARK) return mm_rec_fail(rec, MM_EDATA, "the prompt has the special token '%s'", token_text(p, MM_SAY_MARK));
    p->embd = p->seen.rows;
    p->mark = MM_SAY_MARK;
    p->seen.rows = NULL;
    return 0;
}

static size_t marks(const char *text)
{
    size_t n = 0;
    for (; text && (text = strstr(text, MM_VLM_IMAGE)); text += strlen(MM_VLM_IMAGE)) n++;
    return n;
}

/* Pictures that a part stands for. */
static size_t pictures_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type && !strcmp(type, "image") ? 1 : marks(json_string_value(json_object_get(part, "text")));
}

/* A content of parts as a text with marks. */
static json_t *in_words(const json_t *content)
{
    mm_buf text = { 0 };
    const json_t *part;
    size_t i;
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type")), *said = json_string_value(json_object_get(part, "text"));
        mm_buf_adds(&text, type && !strcmp(type, "image") ? MM_VLM_IMAGE : said ? said : "");
    }
    json_t *j = text.failed ? NULL : json_stringn(text.p ? text.p : "", text.len);
    mm_buf_clear(&text);
    return j;
}

/* Messages before a connector: texts with marks; where there are too few, in front of the last one. NULL: no memory. */
static json_t *with_marks(const mm_prompts *p, const json_t *messages)
{
    json_t *all = json_deep_copy(messages), *m;
    size_t i, met = 0;
    json_array_foreach(all, i, m)
    {
        const json_t *content = json_object_get(m, "content");
        if (json_is_array(content) && json_object_set_new(m, "content", in_words(content))) return json_decref(all), NULL;
        met += marks(json_string_value(json_object_get(m, "content")));
    }
    json_t *last = json_array_get(all, json_array_size(all) - 1);
    const char *said = json_string_value(json_object_get(last, "content"));
    mm_buf text = { 0 };
    for (i = met; i < p->pictures.n; i++) mm_buf_adds(&text, MM_VLM_IMAGE);
    mm_buf_adds(&text, said ? said : "");
    if (met < p->pictures.n && (text.failed || json_object_set_new(last, "content", json_stringn(text.p, text.len)))) json_decref(all), all = NULL;
    mm_buf_clear(&text);
    return all;
}

/* Messages as templates of decoders that look at pictures want them: contents are lists of parts. Pictures that no part stands for come in front
 * of the last turn's, those of a clip with what there is to say of it. NULL: no memory. */
static json_t *in_parts(const mm_prompts *p, const json_t *messages)
{
    json_t *all = json_deep_copy(messages), *m, *part;
    size_t i, k, met = 0;
    json_array_foreach(all, i, m)
    {
        json_t *content = json_object_get(m, "content");
        if (json_is_string(content)) json_object_set_new(m, "content", json_pack("[{s:s,s:O}]", "type", "text", "text", content));
        json_array_foreach(json_object_get(m, "content"), k, part) met += pictures_of(part);
    }
    json_t *last = json_object_get(json_array_get(all, json_array_size(all) - 1), "content");
    if (json_is_array(last) && !met && p->pictures.text.len) {
        json_array_insert_new(last, 0, json_pack("{s:s,s:s%}", "type", "text", "text", p->pictures.text.p, p->pictures.text.len));
        met = p->pictures.n;
    }
    for (; json_is_array(last) && met < p->pictures.n; met++) json_array_insert_new(last, 0, json_pack("{s:s}", "type", "image"));
    return all;
}

static int render(mm_prompts *p, const json_t *messages, mm_err *err)
{
    const mm_chat_vars v = { .messages = messages, .bos = token_text(p, mm_lm_bos(p->lm)), .eos = token_text(p, mm_lm_eos(p->lm)), .generate = 1,
                             .now = (int64_t)time(NULL) };
    mm_buf_reset(&p->whole);
    int r = mm_chat_render(p->chat, &v, &p->whole, err);
    return r ? r : encode(p, &p->whole, -1, err); /* the template writes the special tokens that it wants */
}

int mm_prompts_talk(mm_prompts *p, const json_t *messages, mm_err *err)
{
    if (!p->chat) return mm_fail(err, MM_EUNSUP, "the model has no chat template");
    if (!p->pictures.lm) return render(p, messages, err);
    json_t *parts = (p->pictures.connect.c ? with_marks : in_parts)(p, messages);
    int r = parts ? render(p, parts, err) : no_memory(err);
    json_decref(parts);
    return r;
}

static json_t *turn(const char *role, const char *text, size_t len) { return json_pack("{s:s,s:s%}", "role", role, "content", text, len); }

/* The turns of the record, with --system in front and the question behind; NULL: it has failed. */
static json_t *turns(mm_prompts *p, mm_rec *rec, mm_slice given)
{
    mm_err err = { 0 };
    json_t *all = json_array();
    if (given.len) {
        json_decref(all);
        all = mm_json_load(given.p, given.len, "messages", &err);
        if (!json_is_array(all)) {
            json_decref(all);
            mm_rec_fail(rec, MM_EDATA, "%s", err.msg[0] ? err.msg : "'messages' is no array");
            return NULL;
        }
    }
    if (p->system) json_array_insert_new(all, 0, turn("system", p->system, strlen(p->system)));
    if (p->text.len) json_array_append_new(all, turn("user", p->text.p, p->text.len));
    if (!json_array_size(all)) {
        json_decref(all);
        mm_rec_fail(rec, MM_EEMPTY, "'messages' is empty: there is nothing to answer");
        return NULL;
    }
    return all;
}

/* A plain text that says nothing of its pictures has them in front. */
static int put_marks(mm_prompts *p)
{
    if (!p->pictures.n) return 0;
    mm_buf_reset(&p->whole);
    for (size_t i = 0; i < p->pictures.n && !p->pictures.text.len; i++) mm_buf_adds(&p->whole, MM_VLM_IMAGE);
    mm_buf_add(&p->whole, p->pictures.text.p, p->pictures.text.len);
    mm_buf_add(&p->whole, p->text.p, p->text.len);
    mm_buf_reset(&p->text);
    mm_buf_add(&p->text, p->whole.p, p->whole.len);
    return p->whole.failed || p->text.failed;
}

/* What is seen, and --prompt: a connector learned what to say behind it. */
static int connected_caption(mm_prompts *p, mm_rec *rec, mm_err *err)
{
    mm_err e = { 0 };
    if (!p->pictures.n) return mm_rec_fail(rec, MM_EDATA, "nothing to see: no key \"image\", \"audio\" or \"video\", and no path of a file");
    const char *saw = mm_modality_name(p->pictures.connect.saw);
    if (p->prompt) mm_buf_adds(&p->text, p->prompt);
    if (put_marks(p) || mm_rec_set_str(rec, "modality", saw, strlen(saw))) return no_memory(err);
    const int r = encode(p, &p->text, mm_lm_add_bos(p->lm) ? mm_lm_bos(p->lm) : -1, &e);
    if (r == MM_ENOMEM) return no_memory(err);
    return r ? mm_rec_fail(rec, r, "%s", e.msg) : 0;
}

int mm_prompts_of(mm_prompts *p, mm_rec *rec, mm_err *err)
{
    mm_slice given = { 0 };
    free(p->embd);
    p->embd = NULL;
    if (p->caption && !p->pictures.connect.c) return caption(p, rec, err);
    int r = mm_pictures_of(&p->pictures, rec, err);
    if (r) return mm_rec_failed(rec) ? mm_rec_failed(rec) : r;
    if (p->pictures.n) {
        p->embd = p->pictures.embd;
        p->mark = mm_vlm_mark(p->lm);
        p->pictures.embd = NULL;
    }
    mm_buf_reset(&p->text);
    if (p->caption) return connected_caption(p, rec, err);
    if (p->template && !p->fill.len && mm_unescape(&p->fill, p->template)) return no_memory(err);
    if (p->template) r = fill(p, rec);
    else if (p->chat && mm_rec_get(rec, "messages", &given)) {
        if (p->prompt) mm_buf_adds(&p->text, p->prompt);
    } else r = ask(p, rec);
    if (p->text.failed) return no_memory(err);
    if (r) return r;
    mm_err e = { 0 };
    if (p->chat) {
        json_t *all = turns(p, rec, given);
        if (!all) return mm_rec_failed(rec);
        r = mm_prompts_talk(p, all, &e);
        json_decref(all);
    } else {
        if (!memmem(p->text.p ? p->text.p : "", p->text.len, MM_VLM_IMAGE, strlen(MM_VLM_IMAGE)) && put_marks(p)) return no_memory(err);
        r = encode(p, &p->text, mm_lm_add_bos(p->lm) ? mm_lm_bos(p->lm) : -1, &e);
    }
    if (r == MM_ENOMEM) return no_memory(err);
    return r ? mm_rec_fail(rec, r, "%s", e.msg) : 0;
}

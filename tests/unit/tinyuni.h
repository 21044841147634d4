/* tinyuni.h - a small unified model with random weights, with or without heads. For mk_models and unit tests. */
#ifndef TINYUNI_H
#define TINYUNI_H
#include "base/mm_rng.h"
#include "model/mm_uni.h"
#include "tinybert.h"

/* Every byte is a token, spelled as byte-level BPE spells them; behind the tokens that a unified model has of its own, if they are wanted. */
static void byte_tokenizer(mm_buf *b, int specials)
{
    static const char *const own[] = { "<|end|>", "<|pad|>", "<|text|>", "<|image|>", "<|audio|>", "<|video|>", "<|mask|>", "<|unused|>" };
    int shifted = 0, first = specials ? 8 : 0;
    mm_buf_adds(b, "{");
    for (int i = 0; i < first; i++)
        mm_buf_addf(b, "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}%s",
                    i ? "," : "\"added_tokens\":[", i, own[i], i == 7 ? "]," : "");
    mm_buf_adds(b, "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int i = 0; i < first; i++) mm_buf_addf(b, "\"%s\":%d,", own[i], i);
    for (int c = 0; c < 256; c++) {
        char utf8[4];
        int plain = (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || c >= 0xAE;
        int n = mm_utf8_put((uint32_t)(plain ? c : 256 + shifted++), utf8);
        if (c) mm_buf_addc(b, ',');
        mm_json_quote(b, utf8, (size_t)n);
        mm_buf_addf(b, ":%d", first + c);
    }
    mm_buf_adds(b, "}},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}}");
}

/* What begins at zero hides mistakes. */
static void shaken(mm_uni *u)
{
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(u, i);
        mm_rng r = mm_rng_at(3, 5, i, 0);
        for (size_t k = 0; k < s->p.rows * s->p.cols; k++) s->p.w[k] += mm_rng_range(&r, -0.1f, 0.1f);
    }
}

static void tiny_uni(const char *path, int heads)
{
    mm_uni_config c;
    mm_uni *u;
    mm_buf tok = { 0 };
    json_t *extra = json_pack("{s:s}", "general.name", "default");
    check(mm_uni_config_named(&c, "tiny", &err));
    c.layers = 2, c.width = 32, c.heads = 2, c.ff_width = 64, c.out = 32, c.vocab = heads ? 264 : 256, c.mod[MM_TEXT].width = 24;
    for (int m = MM_IMAGE; m < MM_MODALITIES; m++) c.mod[m].width = 32, c.mod[m].merge[0] = c.mod[m].merge[1] = 16;
    c.mod[MM_IMAGE].size = c.mod[MM_VIDEO].size = 32;
    if (heads) c.next = 1, c.patch = 8, c.mod[MM_TEXT].direct = 8;
    check(mm_uni_plan(&c, heads ? "*.norm=all image.attn=0 text.ffn=1 next.norm=all next.ffn=1 flow.norm=all flow.attn=0-1" :
                                  "*.norm=all image.attn=0 text.ffn=1", &err));
    check(mm_uni_new(&u, &c, &err));
    for (size_t i = 0; i < mm_uni_count(u); i++) {
        mm_uni_slot *s = mm_uni_slot_at(u, i);
        if (!(s->p.w = mm_aligned(s->p.rows * s->p.cols, sizeof *s->p.w))) exit(1);
    }
    mm_uni_bind(u);
    mm_uni_init(u, 7);
    if (heads) shaken(u);
    byte_tokenizer(&tok, heads);
    check(mm_uni_write(u, path, MM_F32, NULL, tok.p, tok.len, extra, &err));
    for (size_t i = 0; i < mm_uni_count(u); i++) free(mm_uni_slot_at(u, i)->p.w);
    mm_uni_free(&u);
    mm_buf_clear(&tok);
    json_decref(extra);
}
#endif

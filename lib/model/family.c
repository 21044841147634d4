#include <stdio.h>
#include <string.h>
#include "model/mm_family.h"

#define BOTH(a, b) { a ".weight", b ".weight" }, { a ".bias", b ".bias" }

/* transformers' BertModel */
static const char *const bert[][2] = {
    { "embeddings.word_embeddings.weight", "token_embd.weight" },
    { "embeddings.position_embeddings.weight", "position_embd.weight" },
    { "embeddings.token_type_embeddings.weight", "token_types.weight" },
    BOTH("embeddings.LayerNorm", "token_embd_norm"),
    BOTH("encoder.layer.#.attention.self.query", "blk.#.attn_q"),
    BOTH("encoder.layer.#.attention.self.key", "blk.#.attn_k"),
    BOTH("encoder.layer.#.attention.self.value", "blk.#.attn_v"),
    BOTH("encoder.layer.#.attention.output.dense", "blk.#.attn_output"),
    BOTH("encoder.layer.#.attention.output.LayerNorm", "blk.#.attn_output_norm"),
    BOTH("encoder.layer.#.intermediate.dense", "blk.#.ffn_up"),
    BOTH("encoder.layer.#.output.dense", "blk.#.ffn_down"),
    BOTH("encoder.layer.#.output.LayerNorm", "blk.#.layer_output_norm"),
    { NULL, NULL }
};
/* the head of next-sentence and masked-word prediction, and an index buffer of old checkpoints */
static const char *const bert_unused[] = { "embeddings.position_ids", "bert.embeddings.position_ids", "pooler.*", "bert.pooler.*", "cls.*", NULL };

/* transformers' CLIP and SigLIP, and LanguageBind's additions */
static const char *const hf_tower[][2] = {
    { "embeddings.token_embedding.weight", "token_embd.weight" },
    { "embeddings.position_embedding.weight", "position_embd.weight" },
    { "embeddings.class_embedding", "class_embd" },
    BOTH("embeddings.patch_embedding", "patch_embd"),
    BOTH("pre_layrnorm", "token_embd_norm"), /* so spelt */
    BOTH("post_layernorm", "post_norm"),
    BOTH("final_layer_norm", "post_norm"),
    BOTH("head", "proj"),
    { "head.probe", "head.probe" },
    { "head.attention.in_proj_weight", "head.attn_qkv.weight" },
    { "head.attention.in_proj_bias", "head.attn_qkv.bias" },
    BOTH("head.attention.out_proj", "head.attn_output"),
    BOTH("head.layernorm", "head.norm"),
    BOTH("head.mlp.fc1", "head.ffn_up"),
    BOTH("head.mlp.fc2", "head.ffn_down"),
    { NULL, NULL }
};
#define LORA(a, b) { a ".lora_A.default.weight", b ".lora_a.weight" }, { a ".lora_B.default.weight", b ".lora_b.weight" }, BOTH(a ".base_layer", b)
static const char *const hf_layers[][2] = {
    BOTH("layers.#.self_attn.q_proj", "blk.#.attn_q"),
    BOTH("layers.#.self_attn.k_proj", "blk.#.attn_k"),
    BOTH("layers.#.self_attn.v_proj", "blk.#.attn_v"),
    BOTH("layers.#.self_attn.out_proj", "blk.#.attn_output"),
    BOTH("layers.#.layer_norm1", "blk.#.attn_norm"),
    BOTH("layers.#.layer_norm2", "blk.#.ffn_norm"),
    BOTH("layers.#.mlp.fc1", "blk.#.ffn_up"),
    BOTH("layers.#.mlp.fc2", "blk.#.ffn_down"),
    { "layers.#.temporal_embedding", "blk.#.time_embd.weight" },
    BOTH("layers.#.temporal_attn.q_proj", "blk.#.time_attn_q"),
    BOTH("layers.#.temporal_attn.k_proj", "blk.#.time_attn_k"),
    BOTH("layers.#.temporal_attn.v_proj", "blk.#.time_attn_v"),
    BOTH("layers.#.temporal_attn.out_proj", "blk.#.time_output"),
    BOTH("layers.#.temporal_layer_norm1", "blk.#.time_norm"),
    LORA("layers.#.self_attn.q_proj", "blk.#.attn_q"),
    LORA("layers.#.self_attn.k_proj", "blk.#.attn_k"),
    LORA("layers.#.self_attn.v_proj", "blk.#.attn_v"),
    LORA("layers.#.self_attn.out_proj", "blk.#.attn_output"),
    LORA("layers.#.temporal_attn.q_proj", "blk.#.time_attn_q"),
    LORA("layers.#.temporal_attn.k_proj", "blk.#.time_attn_k"),
    LORA("layers.#.temporal_attn.v_proj", "blk.#.time_attn_v"),
    LORA("layers.#.temporal_attn.out_proj", "blk.#.time_output"),
    { NULL, NULL }
};
static const char *const hf_top[][2] = { { "text_projection.weight", "t.proj.weight" },
                                         { "logit_scale", "logit_scale" },
                                         { "logit_bias", "logit_bias" },
                                         { NULL, NULL } };
static const char *const hf_proj[][2] = { { "weight", "proj.weight" }, { NULL, NULL } };
static const char *const hf_unused[] = { "*.position_ids", NULL };

/* `to`: the second tower's prefix */
#define HF_PARTS(to) \
    { { "text_model.encoder.", "t.", hf_layers }, { "text_model.", "t.", hf_tower }, { "vision_model.encoder.base_model.model.", to, hf_layers }, \
      { "vision_model.encoder.", to, hf_layers }, { "vision_model.", to, hf_tower }, { "visual_projection.", to, hf_proj }, { "", "", hf_top } }

/* open_clip, which names its layers as OpenAI's CLIP did */
static const char *const oc_layers[][2] = { { "transformer.resblocks.#.attn.in_proj_weight", "blk.#.attn_qkv.weight" },
                                            { "transformer.resblocks.#.attn.in_proj_bias", "blk.#.attn_qkv.bias" },
                                            BOTH("transformer.resblocks.#.attn.out_proj", "blk.#.attn_output"),
                                            BOTH("transformer.resblocks.#.ln_1", "blk.#.attn_norm"),
                                            BOTH("transformer.resblocks.#.ln_2", "blk.#.ffn_norm"),
                                            BOTH("transformer.resblocks.#.mlp.c_fc", "blk.#.ffn_up"),
                                            BOTH("transformer.resblocks.#.mlp.c_proj", "blk.#.ffn_down"),
                                            { "positional_embedding", "position_embd.weight" },
                                            { NULL, NULL } };
static const char *const oc_picture[][2] = { { "conv1.weight", "patch_embd.weight" },
                                             { "class_embedding", "class_embd" },
                                             BOTH("ln_pre", "token_embd_norm"),
                                             BOTH("ln_post", "post_norm"),
                                             { "proj", "proj_t.weight" },
                                             { NULL, NULL } };
static const char *const oc_text[][2] = { { "token_embedding.weight", "token_embd.weight" },
                                          BOTH("ln_final", "post_norm"),
                                          { "text_projection", "proj_t.weight" },
                                          BOTH("text_projection", "proj"),
                                          { NULL, NULL } };
static const char *const oc_top[][2] = { { "logit_scale", "logit_scale" }, { "logit_bias", "logit_bias" }, { NULL, NULL } };
static const char *const oc_unused[] = { "attn_mask", NULL };

/* facebookresearch/ImageBind */
static const char *const ib_layers[][2] = { { "blocks.#.attn.in_proj_weight", "blk.#.attn_qkv.weight" },
                                            { "blocks.#.attn.in_proj_bias", "blk.#.attn_qkv.bias" },
                                            { "blocks.#.attn.bias_k", "blk.#.attn_bias_k" },
                                            { "blocks.#.attn.bias_v", "blk.#.attn_bias_v" },
                                            BOTH("blocks.#.attn.out_proj", "blk.#.attn_output"),
                                            BOTH("blocks.#.norm_1", "blk.#.attn_norm"),
                                            BOTH("blocks.#.norm_2", "blk.#.ffn_norm"),
                                            BOTH("blocks.#.mlp.fc1", "blk.#.ffn_up"),
                                            BOTH("blocks.#.mlp.fc2", "blk.#.ffn_down"),
                                            BOTH("pre_transformer_layer.0", "token_embd_norm"),
                                            { NULL, NULL } };
static const char *const ib_rest[][2] = { { "preprocessors.vision.cls_token", "v.class_embd" },
                                          { "preprocessors.vision.rgbt_stem.proj.1.weight", "v.patch_embd.weight" },
                                          { "preprocessors.vision.pos_embedding_helper.pos_embed", "v.position_embd.weight" },
                                          { "preprocessors.text.pos_embed", "t.position_embd.weight" },
                                          { "preprocessors.text.token_embedding.weight", "t.token_embd.weight" },
                                          { "preprocessors.audio.cls_token", "a.class_embd" },
                                          { "preprocessors.audio.rgbt_stem.proj.weight", "a.patch_embd.weight" },
                                          BOTH("preprocessors.audio.rgbt_stem.norm_layer", "a.patch_norm"),
                                          { "preprocessors.audio.pos_embedding_helper.pos_embed", "a.position_embd.weight" },
                                          BOTH("heads.vision.0", "v.post_norm"),
                                          { "heads.vision.2.weight", "v.proj.weight" },
                                          BOTH("heads.text.proj.0", "t.post_norm"),
                                          { "heads.text.proj.1.weight", "t.proj.weight" },
                                          BOTH("heads.audio.0", "a.post_norm"),
                                          { "heads.audio.2.weight", "a.proj.weight" },
                                          { "postprocessors.text.1.log_logit_scale", "logit_scale" },
                                          { NULL, NULL } };
/* modalities that this version has no way in for, and constants */
static const char *const ib_unused[] = { "modality_preprocessors.depth.*",   "modality_preprocessors.thermal.*", "modality_preprocessors.imu.*",
                                         "modality_trunks.depth.*",          "modality_trunks.thermal.*",        "modality_trunks.imu.*",
                                         "modality_heads.depth.*",           "modality_heads.thermal.*",         "modality_heads.imu.*",
                                         "modality_postprocessors.audio.*",  "modality_postprocessors.depth.*",  "modality_postprocessors.thermal.*",
                                         "modality_postprocessors.imu.*",    "modality_preprocessors.text.mask", NULL };

/* transformers' Llama, Mistral, Qwen2, Qwen3; Gemma 3 gives two names another meaning */
#define LLAMA_LAYERS \
    BOTH("layers.#.self_attn.q_proj", "blk.#.attn_q"), BOTH("layers.#.self_attn.k_proj", "blk.#.attn_k"), \
        BOTH("layers.#.self_attn.v_proj", "blk.#.attn_v"), BOTH("layers.#.self_attn.o_proj", "blk.#.attn_output"), \
        { "layers.#.self_attn.q_norm.weight", "blk.#.attn_q_norm.weight" }, { "layers.#.self_attn.k_norm.weight", "blk.#.attn_k_norm.weight" }, \
        BOTH("layers.#.mlp.gate_proj", "blk.#.ffn_gate"), BOTH("layers.#.mlp.up_proj", "blk.#.ffn_up"), \
        BOTH("layers.#.mlp.down_proj", "blk.#.ffn_down"), { "layers.#.input_layernorm.weight", "blk.#.attn_norm.weight" }, \
        { "embed_tokens.weight", "token_embd.weight" }, { "norm.weight", "output_norm.weight" }
static const char *const llama[][2] = { LLAMA_LAYERS, { "layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight" }, { NULL, NULL } };
static const char *const gemma[][2] = { LLAMA_LAYERS,
                                        { "layers.#.post_attention_layernorm.weight", "blk.#.post_attention_norm.weight" },
                                        { "layers.#.pre_feedforward_layernorm.weight", "blk.#.ffn_norm.weight" },
                                        { "layers.#.post_feedforward_layernorm.weight", "blk.#.post_ffw_norm.weight" },
                                        { NULL, NULL } };
static const char *const llama_head[][2] = { { "lm_head.weight", "output.weight" }, { NULL, NULL } };
static const char *const llama_unused[] = { "*.rotary_emb.inv_freq", NULL };

/* transformers' Idefics3 and SmolVLM: a picture tower of SigLIP's kind without its head, one matrix, a llama */
static const char *const idefics3_top[][2] = { { "model.connector.modality_projection.proj.weight", "v.proj.weight" },
                                               { "lm_head.weight", "output.weight" },
                                               { NULL, NULL } };
static const char *const idefics3_unused[] = { "*.rotary_emb.inv_freq", "*.position_ids", NULL };
#define IDEFICS3_PARTS \
    { { "model.vision_model.encoder.", "v.", hf_layers }, { "model.vision_model.", "v.", hf_tower }, { "model.text_model.", "", llama }, \
      { "", "", idefics3_top } }

static const mm_family families[] = {
    { "bert", { { "bert.", "", bert }, { "", "", bert } }, bert_unused },
    { "clip", HF_PARTS("v."), hf_unused },
    { "siglip", HF_PARTS("v."), hf_unused },
    { "languagebind_image", HF_PARTS("v."), hf_unused },
    { "languagebind_audio", HF_PARTS("a."), hf_unused },
    { "languagebind_video", HF_PARTS("m."), hf_unused },
    { "open_clip",
      { { "visual.", "v.", oc_layers }, { "visual.", "v.", oc_picture }, { "", "t.", oc_layers }, { "", "t.", oc_text }, { "", "", oc_top } },
      oc_unused },
    { "imagebind",
      { { "modality_trunks.vision.", "v.", ib_layers },
        { "modality_trunks.text.", "t.", ib_layers },
        { "modality_trunks.audio.", "a.", ib_layers },
        { "modality_", "", ib_rest } },
      ib_unused },
    { "llama", { { "model.", "", llama }, { "", "", llama_head } }, llama_unused },
    { "mistral", { { "model.", "", llama }, { "", "", llama_head } }, llama_unused },
    { "qwen2", { { "model.", "", llama }, { "", "", llama_head } }, llama_unused },
    { "qwen3", { { "model.", "", llama }, { "", "", llama_head } }, llama_unused },
    { "gemma3", { { "model.", "", gemma }, { "", "", llama_head } }, llama_unused },
    { "idefics3", IDEFICS3_PARTS, idefics3_unused },
    { "smolvlm", IDEFICS3_PARTS, idefics3_unused },
};

const mm_family *mm_family_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    return NULL;
}

/* Does s match the pattern, '#' being one or more digits? *num points at those and *len counts them. */
static int match(const char *pattern, const char *s, const char **num, int *len)
{
    *num = "";
    *len = 0;
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            *num = s;
            while (*s >= '0' && *s <= '9') s++;
            *len = (int)(s - *num);
            if (!*len || *len > 5) return 0;
        } else if (*s++ != *pattern) {
            return 0;
        }
    }
    return !*s;
}

static int not_needed(const mm_family *f, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; f->unused[i]; i++) {
        const char *u = f->unused[i];
        size_t k = strlen(u);
        if (u[0] == '*' ? n >= k - 1 && !strcmp(name + n - (k - 1), u + 1) : u[k - 1] == '*' ? !strncmp(name, u, k - 1) : !strcmp(name, u)) return 1;
    }
    return 0;
}

const char *mm_family_canonical(const mm_family *f, const char *name, char buf[128])
{
    const char *num;
    int len;
    /* norms of checkpoints that come from TensorFlow */
    char modern[256];
    const char *dot = strrchr(name, '.'), *part = !dot ? "" : !strcmp(dot, ".gamma") ? "weight" : !strcmp(dot, ".beta") ? "bias" : "";
    if (part[0] && strlen(name) < sizeof modern - 8) {
        snprintf(modern, sizeof modern, "%.*s.%s", (int)(dot - name), name, part);
        name = modern;
    }
    if (not_needed(f, name)) return "";
    for (size_t p = 0; p < sizeof f->parts / sizeof *f->parts && f->parts[p].tensors; p++) {
        const mm_family_part *q = &f->parts[p];
        size_t n = strlen(q->from);
        if (strncmp(name, q->from, n)) continue;
        for (size_t i = 0; q->tensors[i][0]; i++) {
            if (!match(q->tensors[i][0], name + n, &num, &len)) continue;
            const char *to = q->tensors[i][1], *hash = strchr(to, '#');
            snprintf(buf, 128, "%s%.*s%.*s%s", q->to, (int)(hash ? hash - to : (long)strlen(to)), to, len, num, hash ? hash + 1 : "");
            return buf;
        }
    }
    return NULL;
}

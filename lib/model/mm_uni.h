/* mm_uni.h - the unified model: one trunk for text, pictures, sound and video, whose parts each modality shares or has of its own.
 *
 *   input -> stem of its modality -> (W_m x) * a_m + E s_m -> shared blocks with gates -> attention pooling -> projection -> unit vector
 *
 * Stems. Text: a table of tokens. Pictures: squares of 4 x 4 pixels through a linear layer, then twice four of them merged into one, so
 * that a token sees 16 x 16 pixels; video: the same over pairs of frames. Sound: pairs of log-mel frames merged twice: 8 frames a token.
 * Entry (adaptive embedding): s_m is the modality's learned identifier, a_m = sigmoid(A s_m) its gate over the trunk's channels, open on
 * the first d_m of them to begin with; x is normed first, text is not (the length of a token's row is its importance).
 * Blocks: pre-norm, rotary positions, GELU; x += gamma_m * part(norm(x)) with a gamma of each modality. Which of {norm, attention,
 * feed-forward} of which layer a modality has of its own is the plan, a bit per layer.
 * Positions: channels alternate between time, y and x. Time in units of 80 ms; a picture spans 0..6 at any resolution; a token of text is
 * one step on all three. For comparison there are other kinds, mm_uni_positions.
 * Pooling: softmax(x q_m) of each head's channels; q_m is zero to begin with, which is the mean.
 * Past the trunk (mod[].direct): a text's vector has as many principal axes as its trunk is wide at most. Further numbers of its tokens, in a table
 * of their own, are averaged and added to the projection's numbers d_m .. d_m + direct - 1.
 * Dynamic attention allocation: where a record has several modalities, a small net gives each a weight g from its pooled entry, its
 * identifier and the measured quality of the input (mm_uni_measure()); every head adds lambda log g of a key's modality to its logits, and the record's
 * vector is the g-weighted sum of its modalities' vectors, scaled to length 1. A model may leave the former out (config.apart): attention between
 * parts takes records to learn, and with few of them does less well than the parts' vectors as they are alone.
 * Few examples (mod[].few): a modality's vector z is moved by labelled examples x_i that are near, |z + sum_i v_i 2^(-(1 - z x_i) / width)|; nothing
 * learns through that: such a model is for use.
 *
 * The same code trains (mm_graph with a tape, parameters in float32) and embeds (packed weights). */
#ifndef MM_UNI_H
#define MM_UNI_H

#include <jansson.h>
#include "graph/mm_tape.h"
#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MM_UNI_NORM, MM_UNI_ATTENTION, MM_UNI_FFN, MM_UNI_PARTS };
/* What goes through the trunk: the modalities, and heads that make words and pictures (mm_uni_heads.h). */
enum { MM_UNI_NEXT = MM_MODALITIES, MM_UNI_FLOW, MM_UNI_STREAMS };
#define MM_UNI_MODALITIES ((1u << MM_MODALITIES) - 1) /* bits of the modalities among those of streams */
enum { MM_UNI_MEL = 64 }; /* bins of a sound's spectrum */
enum { MM_UNI_QUALITY = 4 }; /* numbers that measure an input, each about 0..1; 1 is good */

/* How a token knows its place. */
typedef enum mm_uni_positions {
    MM_UNI_ALIGNED,   /* as above */
    MM_UNI_UNALIGNED, /* rotary too, of plain numbers: of the token, the pair of frames, the patch's row and column */
    MM_UNI_ABSOLUTE   /* a learned vector for each of these numbers is added to the entry, and nothing is rotated. Pictures that have another grid of
                       * patches than the configuration's size gives take what lies between the vectors, as do clips and sounds that are longer */
} mm_uni_positions;

typedef struct mm_uni_config {
    int64_t layers, width, heads, ff_width, out, ident, vocab, window;
    int64_t alloc;  /* hidden units of the allocation net */
    int64_t apart;  /* 1: parts of a record do not attend to each other: their vectors alone are weighed */
    int64_t positions; /* mm_uni_positions; MM_UNI_ABSOLUTE goes without heads */
    struct {
        int64_t width;    /* d_m; 0: the model does not take this modality */
        int64_t merge[2]; /* widths inside the stem */
        int64_t size;     /* pictures and video: pixels a side at inference, a multiple of 16 */
        int64_t frames;   /* video: frames of a clip; sound: the most log-mel frames (10 ms) */
        int64_t direct;   /* text: numbers of a token that go past the trunk, to the output from place d_m on; 0: none */
        int64_t few;      /* labelled examples that correct this modality's vectors (train/mm_few.h); 0: none */
        double few_width; /* how far from an example its influence is half */
    } mod[MM_MODALITIES];
    uint64_t own[MM_UNI_PARTS][MM_UNI_STREAMS]; /* bit l: layer l's part is this modality's (or head's) own */
    int64_t next;   /* 1: the model has a next-token head */
    int64_t patch;  /* pixels a side of what the rectified-flow head makes a picture of: 4, 8 or 16; 0: it has none */
    float eps;
} mm_uni_config;

/* "tiny", "small", "base". 0, or MM_EARG. */
MM_API MM_MUST_CHECK int mm_uni_config_named(mm_uni_config *c, const char *name, mm_err *err);
/* The plan as text: "text.attn=0-1 text.ffn=0,1 image.ffn=0 *.norm=all" (* are the modalities), and of heads "next.ffn=all"; replaces c->own but
 * for heads that it does not name. MM_EARG names the word. */
MM_API MM_MUST_CHECK int mm_uni_plan(mm_uni_config *c, const char *plan, mm_err *err);
/* All parts of a head (MM_UNI_NEXT, MM_UNI_FLOW) are its own. */
MM_API void mm_uni_plan_head(mm_uni_config *c, int head);
/* "aligned", "unaligned", "absolute". MM_EARG. */
MM_API MM_MUST_CHECK int mm_uni_positions_set(mm_uni_config *c, const char *name, mm_err *err);
MM_API const char *mm_uni_positions_name(const mm_uni_config *c);
/* To and from the JSON that a model file carries. Every number is checked. */
MM_API json_t *mm_uni_config_json(const mm_uni_config *c);
MM_API MM_MUST_CHECK int mm_uni_config_parse(mm_uni_config *c, const json_t *j, mm_err *err);

/* How inputs that are no text are prepared, for use and for training: pictures and the frames of a clip stretched to size x size (bicubic,
 * transparency on white), (x - 0.5) / 0.25; sound at 16 kHz as Kaldi's log-mel of 64 bins, 25 ms every 10 ms, (ln + 4) / 4. frames: of a
 * clip, or the most of a sound. */
MM_API void mm_uni_spec(mm_input_spec *s, mm_modality mod, int size, int frames);

typedef struct mm_uni mm_uni;

/* That of a model; NULL: it is of another family. */
MM_API const mm_uni *mm_model_uni(const mm_model *m);

/* A named weight. */
typedef struct mm_uni_slot {
    char name[56];
    mm_param p;             /* w NULL until bound; inference: matrices stay NULL, they are packed */
    unsigned mods;          /* bit m: modality m uses it; from bit MM_UNI_NEXT on: heads */
    int matrix;             /* has two dimensions */
    int decay;              /* weight decay makes sense */
    const mmk_mat *packed;
} mm_uni_slot;

/* All slots, without memory for weights. MM_ENOMEM; MM_EUNSUP for heads with absolute positions; MM_EARG for more direct numbers than the output has
 * place for. */
MM_API MM_MUST_CHECK int mm_uni_new(mm_uni **out, const mm_uni_config *c, mm_err *err);
MM_API void mm_uni_free(mm_uni **u);
MM_API const mm_uni_config *mm_uni_get_config(const mm_uni *u);
MM_API size_t mm_uni_count(const mm_uni *u);
MM_API mm_uni_slot *mm_uni_slot_at(mm_uni *u, size_t i);
MM_API mm_uni_slot *mm_uni_slot_find(mm_uni *u, const char *name);
/* After slots got their w (and grad) or packed: the layers point to them. */
MM_API void mm_uni_bind(mm_uni *u);
/* Starting values of all weights (bound), the same for a seed on every machine. The token table is small random numbers. */
MM_API void mm_uni_init(mm_uni *u, uint64_t seed);
/* The configuration in a model file. */
MM_API MM_MUST_CHECK int mm_uni_config_read(mm_uni_config *c, mm_store *st, mm_err *err);
/* Weights from a model file of this configuration, to train on: float32, into the slots' w where they have one, else into memory of u. Heads
 * and direct numbers that the file has not stay as they are. */
MM_API MM_MUST_CHECK int mm_uni_read(mm_uni *u, mm_store *st, mm_err *err);
/* The same to embed with: matrices packed; tables of tokens stay in the file, which must outlive u. heads: bits of those wanted as well. */
MM_API MM_MUST_CHECK int mm_uni_load(mm_uni *u, mm_store *st, unsigned heads, mm_err *err);
/* A model file: w of the slots (or `from[i]` instead, e.g. averaged weights), matrices as `type` (MM_F32, MM_F16, MM_Q8_0), tokenizer.json,
 * and further keys from `extra`, an object of strings. */
MM_API MM_MUST_CHECK int mm_uni_write(mm_uni *u, const char *path, int type, const float *const *from, const char *tokenizer, size_t len,
                                      const json_t *extra, mm_err *err);

/* Numbers of one modality's encoder, tables of tokens and few examples apart, and how many of them another modality uses as well. */
MM_API void mm_uni_share(const mm_uni *u, mm_modality mod, size_t *total, size_t *shared);

/* n inputs of one modality. */
typedef struct mm_uni_in {
    mm_modality mod;
    size_t n;
    const int32_t *ids;     /* text: input i is ids[off[i]..off[i+1]) */
    const size_t *off;
    const float *const *x;  /* pictures [3, height, width]; video [frames, 3, height, width]; sound [frames, 64] */
    const size_t *frames;   /* of each sound and clip. A clip's are even in number; a sound is filled up to a token with silence */
    const float *const *times; /* of each clip: when its frames are shown, seconds (of a pair the first counts); NULL, or NULL for a clip: one every
                                * half second */
    size_t height, width;
    const mm_tensor *squares; /* pictures: in place of x, rows of 4 x 4 pixels as the stem takes them; gradients flow to them */
    int causal;
} mm_uni_in;

/* Tokens as the trunk takes them. */
typedef struct mm_uni_tokens {
    mm_tensor x;            /* [rows, width] */
    mm_tensor direct;       /* [rows, direct]: of texts, what goes past the trunk; p NULL: nothing does */
    mm_ragged r;            /* input i is rows off[i].. */
    float *cos, *sin;       /* [rows, head_dim / 2] */
    mm_modality mod;
    int causal;
} mm_uni_tokens;

/* Tokens of input i. */
MM_API size_t mm_uni_in_tokens(const mm_uni_in *in, size_t i);
MM_API mm_uni_tokens mm_uni_stem(mm_graph *g, const mm_uni *u, const mm_uni_in *in);
/* Through all blocks, and the modality's last norm. */
MM_API mm_tensor mm_uni_trunk(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t);
/* Pooled, projected, length 1: [n, out]. */
MM_API mm_tensor mm_uni_pool(mm_graph *g, const mm_uni *u, const mm_uni_tokens *t, mm_tensor x);
/* The three. */
MM_API mm_tensor mm_uni_embed(mm_graph *g, const mm_uni *u, const mm_uni_in *in);

/* n records, each with one or more modalities. */
typedef struct mm_uni_records {
    size_t n;
    const mm_uni_in *in[MM_MODALITIES];   /* NULL: no record has it */
    const size_t *of[MM_MODALITIES];      /* [in->n] ascending: the record that input k belongs to; at most one input of a modality each */
    const float *quality[MM_MODALITIES];  /* [in->n, MM_UNI_QUALITY]; NULL: all 1 */
    const float *alone[MM_MODALITIES];    /* [in->n, out] the inputs' own vectors, used with config.apart; NULL: they are made, and recorded */
} mm_uni_records;
/* Sets `alone`, and `quality`, measured in the inputs as the model sees them, in memory of the graph's arena; nothing is recorded. Pictures and
 * clips: 1 - blur, 1 - noise, variety of grey (means over frames); sounds: loud over quiet frames, 1 - silence, 1 - flatness of the spectrum; texts:
 * length, share of different tokens, whether tokens point the same way; each part's last number: 1.5 cos of its own vector with those of the
 * record's other parts, in the mean, within 0 .. 1. Where every record has one part only, nothing is set. g->failed where memory is short. */
MM_API void mm_uni_measure(mm_graph *g, const mm_uni *u, mm_uni_records *rec);
/* Tokens of a record attend to each other, keys by their modality's weight. Result [n, out], rows of length 1. log_gates (NULL: not wanted):
 * [parts, 1], the records' modalities in order, runs of them in `parts` (memory of the graph's arena): log of the weights. */
MM_API mm_tensor mm_uni_fuse(mm_graph *g, const mm_uni *u, const mm_uni_records *rec, mm_tensor *log_gates, mm_ragged *parts);

#ifdef __cplusplus
}
#endif
#endif

/* mm_kv.h - attention over keys and values that are kept from call to call.
 *
 * Keys and values of one sequence, layer and key head, room for a multiple of MMK_KV_BLOCK tokens:
 *   keys    blocks of MMK_KV_BLOCK tokens, each [head_dim][MMK_KV_BLOCK]: a vector holds one channel of neighbouring keys
 *   values  [token][head_dim]
 * as float32, float16, or int8 with a float16 scale for 32 channels (q8_0's numbers): see mmk_kv_bytes(). Key heads follow one another. */
#ifndef MM_KV_H
#define MM_KV_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mm_kern;

enum { MMK_KV_BLOCK = 16 };

typedef struct mmk_kv_shape {
    int type; /* GGUF type number: 0 f32, 1 f16, 8 q8_0 (head_dim a multiple of 32) */
    size_t heads, kv_heads, head_dim; /* head h uses key head h / (heads / kv_heads) */
    float scale;
    size_t window; /* a token sees itself and window - 1 before it; 0: all before it */
} mmk_kv_shape;

/* Bytes that the keys (or the values) of one key head take for so many tokens, a multiple of MMK_KV_BLOCK; 0: no such type. */
size_t mmk_kv_bytes(int type, size_t tokens, size_t head_dim);

/* n new tokens of one sequence that has `first` already: rows of q, k and v, of which k and v are stored. */
typedef struct mmk_kv_part {
    float *out;
    const float *q, *k, *v;
    size_t ldo, ld; /* ld: of q, k and v */
    size_t n, first;
    char *keys, *values; /* of key head 0 */
    size_t tokens;       /* that there is room for, first + n at least */
} mmk_kv_part;

/* out = softmax(scale q k^T) v over what each token sees, itself included; keys and values as they are after rounding to the type. Keys and
 * values are read once for all heads that share them and for up to several tokens. A row's bits depend on its sequence alone, not on how it
 * was cut into calls. MMK_OK or MMK_ENOMEM. */
int mmk_kv_attention(const struct mm_kern *kern, const mmk_kv_part *parts, size_t n, const mmk_kv_shape *s, int threads);

#ifdef __cplusplus
}
#endif
#endif

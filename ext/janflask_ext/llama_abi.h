/* The few pieces of llama.cpp's C ABI that the hot path calls, declared here because nothing is linked or included at
 * build time: the functions are taken by pointer from the library that llama-cpp-python has loaded (see backend.pyx,
 * which compares this layout with the loaded library's at import).
 * Written for llama.cpp as shipped with llama-cpp-python 0.3.36.
 */
#ifndef JANFLASK_LLAMA_ABI_H
#define JANFLASK_LLAMA_ABI_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos;
    int32_t *n_seq_id;
    int32_t **seq_id;
    int8_t *logits;
} jf_batch;

typedef int32_t (*jf_decode_fn)(void *ctx, jf_batch batch);
typedef float *(*jf_get_logits_ith_fn)(void *ctx, int32_t i);
typedef void (*jf_synchronize_fn)(void *ctx);
typedef bool (*jf_memory_seq_rm_fn)(void *memory, int32_t seq, int32_t p0, int32_t p1);
typedef void (*jf_memory_seq_cp_fn)(void *memory, int32_t src, int32_t dst, int32_t p0, int32_t p1);
typedef int (*jf_vocab_get_attr_fn)(const void *vocab, int32_t token);
typedef bool (*jf_vocab_is_eog_fn)(const void *vocab, int32_t token);
typedef int32_t (*jf_token_to_piece_fn)(const void *vocab, int32_t token, char *buf, int32_t length, int32_t lstrip,
                                        bool special);
typedef int32_t (*jf_tokenize_fn)(const void *vocab, const char *text, int32_t text_len, int32_t *tokens,
                                  int32_t n_tokens_max, bool add_special, bool parse_special);

#endif

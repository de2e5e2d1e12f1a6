# Extern declarations only: the slice of llama.cpp's ABI that backend.pyx calls through function pointers.
from libc.stdint cimport int8_t, int32_t

cdef extern from "llama_abi.h" nogil:
    ctypedef struct jf_batch:
        int32_t n_tokens
        int32_t *token
        float *embd
        int32_t *pos
        int32_t *n_seq_id
        int32_t **seq_id
        int8_t *logits

    ctypedef int32_t (*jf_decode_fn)(void *ctx, jf_batch batch) noexcept nogil
    ctypedef float *(*jf_get_logits_ith_fn)(void *ctx, int32_t i) noexcept nogil
    ctypedef void (*jf_synchronize_fn)(void *ctx) noexcept nogil
    ctypedef bint (*jf_memory_seq_rm_fn)(void *memory, int32_t seq, int32_t p0, int32_t p1) noexcept nogil
    ctypedef void (*jf_memory_seq_cp_fn)(void *memory, int32_t src, int32_t dst, int32_t p0, int32_t p1) noexcept nogil
    ctypedef int (*jf_vocab_get_attr_fn)(const void *vocab, int32_t token) noexcept nogil
    ctypedef bint (*jf_vocab_is_eog_fn)(const void *vocab, int32_t token) noexcept nogil
    ctypedef int32_t (*jf_token_to_piece_fn)(const void *vocab, int32_t token, char *buf, int32_t length,
                                             int32_t lstrip, bint special) noexcept nogil
    ctypedef int32_t (*jf_tokenize_fn)(const void *vocab, const char *text, int32_t text_len, int32_t *tokens,
                                       int32_t n_tokens_max, bint add_special, bint parse_special) noexcept nogil

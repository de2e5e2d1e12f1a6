"""What was said before, for the samplers that punish repetition; see history.pyx."""

from libc.stdint cimport int32_t


# A logit that was changed in the row, to be put back.
cdef struct Patch:
    int32_t id
    float old


cdef inline void patch(float* row, int32_t id, float value, Patch* patches, int32_t* n) noexcept nogil:
    patches[n[0]].id = id
    patches[n[0]].old = row[id]
    n[0] += 1
    row[id] = value


cdef class PenaltyWindow:
    cdef int32_t n_vocab
    cdef int32_t size               # tokens it holds at most
    cdef int32_t filled
    cdef int32_t oldest             # index into tokens
    cdef int32_t* tokens            # a ring
    cdef int32_t* counts            # of each token of the vocabulary
    cdef float repeat
    cdef float frequency
    cdef float presence

    cdef void push(self, int32_t token) noexcept nogil
    cdef void apply(self, float* row, Patch* patches, int32_t* n) noexcept nogil


cdef class DryBreakers:
    cdef int32_t n_heads
    cdef int32_t* heads             # tokens that begin a breaker, rising
    cdef int32_t* first_tail        # heads[i]'s tails are first_tail[i] ... first_tail[i + 1] - 1
    cdef int32_t* tail_begin        # tail j is tail_tokens[tail_begin[j] ... tail_begin[j + 1] - 1]
    cdef int32_t* tail_tokens

    cdef int32_t find(self, int32_t token) noexcept nogil
    cdef bint is_single(self, int32_t token) noexcept nogil
    cdef int32_t longest_match(self, const int32_t* newest, int32_t back) noexcept nogil


cdef class DryWindow:
    cdef int32_t n_vocab
    cdef int32_t size               # tokens it looks back on at most
    cdef int32_t end                # of what is stored
    cdef int32_t* tokens            # room for twice the window: it stays contiguous
    cdef int32_t* z                 # of the window read backwards: length of the repeat that ends k tokens ago
    cdef int32_t* longest           # of each token: 1 + the longest repeat it would go on with, 0: none
    cdef int32_t* touched           # tokens whose entry in longest is not 0
    cdef int32_t allowed
    cdef float multiplier
    cdef float base
    cdef DryBreakers breakers

    cdef void push(self, int32_t token) noexcept nogil
    cdef int32_t repeat_limit(self, const int32_t* newest, int32_t n) noexcept nogil
    cdef void apply(self, float* row, Patch* patches, int32_t* n_patches) noexcept nogil

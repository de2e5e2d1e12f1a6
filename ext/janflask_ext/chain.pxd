"""A draw through the chain of samplers, without the GIL; see chain.pyx."""

from libc.stdint cimport int32_t, uint32_t

from janflask_ext.cuts cimport Workspace
from janflask_ext.history cimport DryWindow, Patch, PenaltyWindow
from janflask_ext.kernels cimport Row, Run, Settings, Shortlist, jf_softmax
from janflask_ext.rng cimport Xoshiro


cdef class Chain:
    cdef readonly int n_vocab
    cdef Settings settings
    cdef int mirostat
    cdef double mirostat_tau
    cdef double mirostat_eta
    cdef double mirostat_mu
    cdef Xoshiro rng
    cdef Xoshiro xtc_rng

    cdef int32_t n_bias                 # logit biases, then banned ids with -inf
    cdef int32_t* bias_ids
    cdef float* bias
    cdef PenaltyWindow penalties
    cdef DryWindow dry
    cdef bint has_penalties
    cdef bint has_dry
    cdef Patch* patches                 # what this draw changed in the row
    cdef int32_t n_patches

    cdef Row row                        # what this draw looks at
    cdef Workspace work
    cdef Shortlist cands
    cdef Shortlist boundary
    cdef Run run
    cdef bint listed                    # what is left stands in `cands`; else it is `run`
    cdef double temperature             # of this draw

    cdef int32_t top_logprobs           # -1: none are wanted
    cdef Shortlist top                  # the best of the raw row
    cdef bint can_share_top             # the best of the raw row are the first of `cands`, if there is no mask
    cdef bint shares_top                # and so they are in this draw
    cdef double log_sum                 # of the raw row: log of the sum of exp(logit)
    cdef bint is_infinite               # the raw row has +inf
    cdef double chosen_logprob
    cdef bint has_logprobs

    cdef int draw(self, float* row, const uint32_t* mask) noexcept nogil
    cdef void accept_token(self, int token) noexcept nogil
    cdef void score_token(self, const float* row, int token) noexcept nogil

    cdef bint xtc_chance(self) noexcept nogil
    cdef void first_pass(self, float* row, const uint32_t* mask) noexcept nogil
    cdef void read_logprobs(self, jf_softmax softmax) noexcept nogil
    cdef double logprob_of(self, float logit) noexcept nogil
    cdef void apply_patches(self, float* row) noexcept nogil
    cdef void undo_patches(self, float* row) noexcept nogil
    cdef void update_maxima(self) noexcept nogil
    cdef bint prepare(self, bint xtc) noexcept nogil
    cdef void prepare_infinite(self, bint xtc) noexcept nogil
    cdef void prepare_chain(self, bint xtc) noexcept nogil
    cdef bint is_greedy(self) noexcept nogil
    cdef void prepare_mirostat(self) noexcept nogil
    cdef int32_t mirostat_k(self, double beta) noexcept nogil
    cdef int pick(self, double u) noexcept nogil
    cdef int allocate(self) except -1

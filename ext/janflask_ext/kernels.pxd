"""sampling_kernels.h, and the structs that the sampler's modules share. Declarations only."""

from libc.stdint cimport int32_t, int64_t, uint32_t


cdef extern from "sampling_kernels.h" nogil:
    const int32_t JF_BLOCK
    const int32_t JF_BUCKETS
    const int32_t JF_PAD

    ctypedef struct jf_bucket:
        double mass
        double count

    ctypedef struct jf_softmax:
        float max
        double sum

    ctypedef struct jf_kernels:
        const char* name
        float (*block_maxima)(const float*, int32_t, const uint32_t*, float*) noexcept nogil
        jf_softmax (*block_maxima_softmax)(const float*, int32_t, float*) noexcept nogil
        float (*range_max)(const float*, int32_t, int32_t, const uint32_t*) noexcept nogil
        int32_t (*count_at_least)(const float*, int32_t, float) noexcept nogil
        int32_t (*gather)(
            const float*, int32_t, int32_t, const uint32_t*, float, float, int32_t*, float*
        ) noexcept nogil
        void (*moments)(const float*, int32_t, int32_t, const uint32_t*, float, float, double, double*) noexcept nogil
        void (*extent)(const float*, int32_t, int32_t, const uint32_t*, float, float, float*) noexcept nogil
        double (*exp_sum)(const float*, int32_t, int32_t, const uint32_t*, float, float, float, float) noexcept nogil
        void (*exp_moment)(
            const float*, int32_t, int32_t, const uint32_t*, float, float, float, float, double*
        ) noexcept nogil
        void (*histogram)(
            const float*, int32_t, int32_t, const uint32_t*, float, float, float, float, float, float, float, jf_bucket*
        ) noexcept nogil
        double (*list_weights)(float*, int32_t, float, float, float*) noexcept nogil
        void (*list_rank)(float*, const int32_t*, int32_t, float*, int32_t*) noexcept nogil
        void (*list_sort)(float*, int32_t*, int32_t) noexcept nogil
        void (*list_keep)(float*, int32_t*, int32_t, int32_t) noexcept nogil
        int32_t (*bucket_of)(float, float, float) noexcept nogil

    const jf_kernels* jf_kernels_get(const char* name) noexcept nogil


# The samplers' settings as C scalars; SamplingParams' names.
cdef struct Settings:
    float temperature
    float dynatemp_range
    float dynatemp_exponent
    int32_t top_k
    float top_p
    float min_p
    float typical_p
    float top_n_sigma
    float xtc_probability
    float xtc_threshold


# One row of logits, looked at through a mask, with what the first pass found.
cdef struct Row:
    const jf_kernels* kernels
    const float* x
    const uint32_t* mask
    int32_t n
    int32_t n_blocks
    float* maxima           # of each block of JF_BLOCK ids
    float max


# Candidates sorted by falling logit, then rising id. Only [start, end) are still in the running.
cdef struct Shortlist:
    int32_t capacity        # elements; the arrays have JF_PAD more
    int32_t n
    int32_t start
    int32_t end
    float* logits
    int32_t* ids
    float* weights
    float* found_logits     # as they are gathered, before they are sorted
    int32_t* found_ids


# A run of the row's sorted order, as its two end elements: no list of what lies between. A token is in the run if
# (logit, id) is at or after (hi, hi_id) and at or before (lo, lo_id) in the order of falling logit, then rising id.
cdef struct Run:
    float hi
    int32_t hi_id
    float lo
    int32_t lo_id
